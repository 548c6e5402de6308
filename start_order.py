"""`startAfter`: in which order processes start, and stop; pure.

At a start by an operator or with pupgevent, an instance waits until each process that is named by
its own is up: one of its instances runs, or has finished its work. At a stop it is the other way
round. A restart after a failure, and each step of a roll-out, wait for nobody: where the database
is down, the application had better answer that than be down as well.
"""

from typing import (
    Callable,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    TypeVar,
)

from lifecycle import CREATED, FINISHED, RUNNING, STARTING
from model import Process

T = TypeVar("T")


class Blocker(NamedTuple):
    """A process that is not up, and that another one waits for."""

    process_id: str
    #: "starting", "errored".
    state: str
    #: Nothing has failed: it is about to come up.
    hopeful: bool

    def __str__(self) -> str:
        return "%s, which is %s" % (self.process_id, self.state)


def blocker(
    process_id: str, states: Sequence[str], waits: bool, stuck: bool
) -> Optional[Blocker]:
    """The process with instances in these states, as long as it is not up; else None.

    `waits`: it waits for others itself; `stuck`: these are not about to come up.
    """
    if RUNNING in states or (states and set(states) == {FINISHED}):
        return None
    if waits:
        return Blocker(process_id, "waiting", not stuck)
    if STARTING in states:
        return Blocker(process_id, STARTING, True)
    state = states[0] if states else CREATED
    return Blocker(process_id, "not started" if state == CREATED else state, False)


def stop_waves(items: Iterable[T], process_of: Callable[[T], Process]) -> List[List[T]]:
    """The items in the order in which they are to stop: those of a wave side by side, and each
    before those that its process starts after."""
    by_process: Dict[str, List[T]] = {}
    #: Those that have to stop before each.
    before: Dict[str, List[str]] = {}
    for item in items:
        process = process_of(item)
        if process.id not in by_process:
            before.setdefault(process.id, [])
            for each in process.start_after:
                before.setdefault(each, []).append(process.id)
        by_process.setdefault(process.id, []).append(item)
    depths = _depths(before)
    waves: Dict[int, List[T]] = {}
    for process_id, some in by_process.items():
        waves.setdefault(depths[process_id], []).extend(some)
    return [waves[depth] for depth in sorted(waves)]


def in_starting_order(items: Iterable[T], process_of: Callable[[T], Process]) -> List[T]:
    """The items, each behind those that its process starts after: so none is found not started by
    who waits for it, where all are about to be."""
    return [item for wave in reversed(stop_waves(items, process_of)) for item in wave]


def _depths(after: Mapping[str, Sequence[str]]) -> Dict[str, int]:
    """For each process the length of the longest chain of those that it comes after, itself
    included. A circle, which no checked configuration has, is cut somewhere."""
    depths: Dict[str, int] = {}
    for first in after:
        path = [first]
        while path:
            present = path[-1]
            missing = [each for each in after[present]
                       if each in after and each not in depths and each not in path]
            if missing:
                path.append(missing[0])
                continue
            depths[present] = 1 + max((depths.get(each, 0) for each in after[present]), default=0)
            path.pop()
    return depths


def longest_chain(processes: Iterable[Process], seconds: Callable[[Process], float]) -> float:
    """The sum of the seconds along the chain of `startAfter` for which it is the most."""
    by_id = {each.id: each for each in processes}
    depths = _depths({each.id: each.start_after for each in by_id.values()})
    sums: Dict[str, float] = {}
    for process_id in sorted(depths, key=lambda each: depths[each]):
        process = by_id[process_id]
        before = max((sums.get(each, 0.0) for each in process.start_after), default=0.0)
        sums[process_id] = before + seconds(process)
    return max(sums.values(), default=0.0)


def circle(processes: Iterable[Process]) -> List[str]:
    """The ids along a circle of `startAfter`, each after the next; empty: there is none."""
    after = {each.id: each.start_after for each in processes}
    done: Set[str] = set()
    for first in after:
        path = [first]
        while path:
            present = path[-1]
            following = next((each for each in after[present]
                              if each in after and each not in done), None)
            if following is None:
                done.add(path.pop())
            elif following in path:
                return path[path.index(following):]
            else:
                path.append(following)
    return []
