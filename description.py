"""`pupgevent describe`: all that a running pupgevent knows of one process, or of one instance."""

import heapq
from typing import Iterator, List, Tuple

from concurrency import in_slices
from description_report import Description, PastState
from errors import PupgeventError
from instance import Instance
from log_history import LogHistory, Wanted, uncolored
from logs import printable
from operations import ALL, choose
from runtime import Runtime
from settings import settings_of
from status_report import Status

#: States that are told, and lines.
MOST_STATES, MOST_LINES = 30, 10

#: Of a line. Characters.
_LONGEST_LINE = 500


def find(runtime: Runtime, word: str) -> List[Instance]:
    """The instances that are described; raises PupgeventError for what is not one process or one
    instance."""
    if word == ALL:
        known = list(runtime.supervisor.processes)
        raise PupgeventError("one process or instance is described at a time: there is %s%s" % (
            ", ".join(known[:MOST_LINES]), " and more" if len(known) > MOST_LINES else ""))
    return choose(runtime, [word]).instances


def describe(runtime: Runtime, word: str, instances: List[Instance], status: Status) -> Description:
    """`instances` are those of the word, and the status is theirs; blocks the calling greenlet now
    and then. PupgeventError where a reload has removed them meanwhile."""
    if not status.processes:
        raise PupgeventError("%s has just been removed" % word[:64])
    processes = runtime.supervisor.processes
    is_process = word in processes
    process = processes[word] if is_process else instances[0].process
    total = sum(each.history.total for each in instances)
    history = tuple(_history(instances))
    return Description(
        status=status,
        settings=tuple(settings_of(process, runtime.configuration)),
        history=history,
        forgotten=total - len(history),
        lines=tuple(_last_lines(
            runtime.history, Wanted({word}, set()) if is_process else Wanted(set(), {word}))),
    )


def _history(instances: List[Instance]) -> List[PastState]:
    """The last states of all of them, oldest first."""
    found: Iterator[Tuple[float, int, PastState]] = (
        (moment.at, number, PastState(moment.at, each.name, moment.state, moment.text))
        for each in in_slices(instances)
        for number, moment in enumerate(list(each.history.moments)))
    return [state for _, _, state in reversed(heapq.nlargest(MOST_STATES, found))]


def _last_lines(history: LogHistory, wanted: Wanted) -> List[str]:
    data = b"".join(in_slices(history.last(wanted, MOST_LINES)))
    return [printable(line[: 4 * _LONGEST_LINE].decode("utf-8", "replace"))[:_LONGEST_LINE].rstrip()
            for line in uncolored(data).splitlines()]
