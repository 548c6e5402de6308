"""`pupgevent top`: what each instance does in a second, refreshed in place.

    ID        STATE     PID UPTIME RST OPEN QUEUE CONN/S IN/S OUT/S CPU MEM
    my-app    4/4 up      -      -   3   12     0    840 1.2M   34M 41% 72M
    my-app-1  running  4711  3h12m   0    3     -    210 310K  8.5M 10% 18M

With http there are REQ/S instead of CONN/S, OPEN are requests in flight, and 5XX/S answers of that
class, those that pupgevent gave itself among them.

In a pipe it prints one table after the other, until pupgevent ends. On a terminal it waits then
until there is one again, for a restart is just what somebody wants to watch.
"""

import os
import sys
import time
from typing import Callable, Dict, List, Optional, Sequence, Set, Tuple

import not_running
import terminal
from cli import Arguments
from control_client import call, ignore
from errors import PupgeventError
from quantities import count, duration, percent, rate, size
from rates import Key, RateMeter, Rates
from status_commands import status_in
from status_report import InstanceStatus, ProcessStatus, Status
from status_table import (
    CPU,
    MEMORY,
    OPEN,
    PID,
    PORT,
    RESTARTS,
    STATE,
    UPTIME,
    Column,
    Row,
    has_http,
    has_line,
    lay_out,
    row_of,
    style_of,
    title,
)
from styled_text import BOLD, FAINT, RED, Line, Span, rendered

#: Seconds between two tables.
EVERY = 1.0

#: Seconds within which another size of the terminal is noticed.
_LOOK_AT_SIZE = 0.1

#: Seconds that pupgevent may take for an answer: meanwhile nobody looks at the keys.
_ANSWER_TIMEOUT = 3.0

#: Lines from which on a table has its head.
_LEAST_WITH_HEAD = 4

#: What is shown first where there is too little room for all.
_FAILS, _IS_PROCESS, _SERVES = range(3)

#: Heads of columns of one protocol, tcp or http.
_CONNECTIONS, _REQUESTS, _SERVER_ERRORS = "CONN/S", "REQ/S", "5XX/S"

#: A rate of which only the first count is known.
_UNKNOWN = "-"

_HINT = "q ends this"


def top(args: Arguments) -> int:
    """Until `q` or Ctrl-C; raises PupgeventError when there is nobody to ask: at the beginning,
    and in a pipe."""
    colors = terminal.wants_colors(sys.stdout.fileno())
    try:
        found = _ask(args.config)
        if sys.stdout.isatty():
            with terminal.screen() as keys:
                _Screen(args.config, keys, found, colors).run()
        else:
            _repeat(args.config, found)
    except KeyboardInterrupt:
        pass
    return 0


def _ask(config: str) -> Status:
    return status_in(call(config, {"command": "status"}, ignore, _ANSWER_TIMEOUT))


def _repeat(config: str, found: Status) -> None:
    meter = RateMeter()
    while True:
        lines = [[Span(title(found))], *_table(found, meter.measure(found), None),
                 *not_running.lines(found), []]
        print("\n".join(map(rendered, lines)), flush=True)
        time.sleep(EVERY)
        found = _ask(config)


class _Screen:
    """The other screen of a terminal, which shows the last answer, or why there is none."""

    def __init__(self, config: str, keys: terminal.Keys, found: Status, colors: bool) -> None:
        self._config = config
        self._keys = keys
        self._colors = colors
        self._meter = RateMeter()
        self._found = found
        self._rates = self._meter.measure(found)
        self._trouble = ""
        self._answered_at = time.monotonic()

    def run(self) -> None:
        while not self._ends_within(EVERY):
            self._look()

    def _look(self) -> None:
        try:
            found = _ask(self._config)
        except PupgeventError as error:
            self._trouble = error.lines[0]
            return
        self._found, self._rates = found, self._meter.measure(found)
        self._trouble = ""
        self._answered_at = time.monotonic()

    def _ends_within(self, seconds: float) -> bool:
        """Show it for so long, in each size that the terminal has meanwhile. True: `q`."""
        deadline = time.monotonic() + seconds
        shown: Optional[os.terminal_size] = None
        while True:
            present = os.get_terminal_size(sys.stdout.fileno())
            if present != shown:
                shown = present
                self._show(present.columns or 80, present.lines or 24)
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if self._keys.pressed(min(left, _LOOK_AT_SIZE)) in ("q", "Q"):
                return True

    def _show(self, width: int, height: int) -> None:
        if self._trouble:
            waited = duration(time.monotonic() - self._answered_at)
            lines: List[Line] = [
                [Span(self._trouble, RED)], [Span("waiting for it, %s so far" % waited)], [],
                [Span(_HINT, FAINT)]]
        else:
            lines = frame(self._found, self._rates, width, height)
        terminal.show([rendered(line, width, self._colors) for line in lines[:height]], height)


def frame(
    found: Status, rates: "Dict[Key, Rates]", width: int, height: int
) -> "List[Line]":
    """What is on the screen, which it fits; what fails is seen as long as anything is."""
    above: List[Line] = [[Span(title(found), BOLD)]]
    room = height - 1
    if height > _LEAST_WITH_HEAD + 1:
        above.append([])
        room -= 2
    troubles = not_running.lines(found, max(1, room // 3)) if room > 3 else []
    table = _table(found, rates, width, room - len(troubles))
    lines = [*above, *table, *troubles]
    return [*lines, [Span(_HINT, FAINT)]] if len(lines) < height else lines[:height]


def _table(
    found: Status, rates: "Dict[Key, Rates]", width: "Optional[int]", room: int = sys.maxsize
) -> "List[Line]":
    """At most so many lines."""
    rows: List[Tuple[Row, int]] = []
    absent = _absent(found)
    for process in found.processes:
        some = _columns(process, rates, absent)
        if has_line(process):
            rows.append((_sums(process, some, rates), _IS_PROCESS))
        rows.extend(
            (row_of(member, some), _FAILS if not_running.serves_not(member) else _SERVES)
            for member in process.members)
    # The columns are the same for all, but for their cells, which are in the rows.
    some = _columns(None, rates, absent)
    without_head = room < _LEAST_WITH_HEAD
    room += without_head - 1
    kept = _kept([rank for _, rank in rows], room)
    lines = lay_out(some, [rows[index][0] for index in sorted(kept)], width)[without_head:]
    if len(kept) < len(rows):
        left_out = [rank for index, (_, rank) in enumerate(rows) if index not in kept]
        lines.append([Span(_more(len(left_out), left_out.count(_FAILS)), FAINT)])
    return lines


def _kept(ranks: "Sequence[int]", room: int) -> "Set[int]":
    """Those that are shown, by their indexes, where there is room for so many lines."""
    if len(ranks) <= room:
        return set(range(len(ranks)))
    return set(sorted(range(len(ranks)), key=lambda index: ranks[index])[: max(0, room - 1)])


def _more(count: int, failing: int) -> str:
    verb = "does" if failing == 1 else "do"
    about = ", %d of which %s not serve" % (failing, verb) if failing else ""
    return "(%d more%s)" % (count, about)


def _absent(found: Status) -> "Set[str]":
    """The heads of columns that only the other protocol fills, where all have the same."""
    balanced = [has_http(process) for process in found.processes if process.balancer is not None]
    absent = set() if any(balanced) else {_REQUESTS, _SERVER_ERRORS}
    return {_CONNECTIONS} if balanced and all(balanced) else absent


def _columns(
    process: "Optional[ProcessStatus]", rates: "Dict[Key, Rates]", absent: "Set[str]"
) -> "Sequence[Column]":
    """With the rates of the instances of a process; without those of the `absent` heads."""
    def per_second(
        spell: "Callable[[Rates], str]", http: Optional[bool] = None
    ) -> "Callable[[InstanceStatus], Optional[str]]":
        """Of those with http, or without it, or of both."""
        def cell(member: InstanceStatus) -> Optional[str]:
            if process is None or member.backend is None:
                return None
            if http not in (None, member.backend.http is not None):
                return None
            found = rates.get((process.id, member.id))
            # Its place is kept for it.
            return spell(found) if found else _UNKNOWN

        return cell

    columns = (
        STATE, PID, PORT, UPTIME._replace(rank=5), RESTARTS._replace(rank=6),
        OPEN._replace(rank=8),
        Column("QUEUE", lambda member: None, 4),
        Column(_CONNECTIONS, per_second(lambda found: rate(found.connections), http=False), 9),
        Column(_REQUESTS, per_second(lambda found: rate(found.connections), http=True), 9),
        Column(_SERVER_ERRORS, per_second(lambda found: rate(found.server_errors), http=True), 8),
        Column("IN/S", per_second(lambda found: size(int(found.bytes_in))), 7),
        Column("OUT/S", per_second(lambda found: size(int(found.bytes_out))), 7),
        CPU._replace(rank=9), MEMORY._replace(rank=9),
    )
    return [column for column in columns if column.head not in absent]


def _sums(process: ProcessStatus, some: "Sequence[Column]", rates: "Dict[Key, Rates]") -> Row:
    """The line of a process: of all its instances together."""
    balancer, found = process.balancer, rates.get((process.id, ""))
    cells: Dict[str, str] = {
        "STATE": "%d/%d up" % (process.up, process.instances),
        "RST": count(sum(member.restarts for member in process.members)),
    }
    cpu = [member.cpu for member in process.members if member.cpu is not None]
    memory = [member.memory for member in process.members if member.memory is not None]
    if cpu:
        cells["CPU"] = percent(sum(cpu))
    if memory:
        cells["MEM"] = size(sum(memory))
    if balancer is not None:
        cells.update({
            "PORT": str(balancer.port), "OPEN": count(balancer.open),
            "QUEUE": count(balancer.queue)})
        cells.update(_rate_cells(found, has_http(process)))
    return Row(process.id, [cells.get(column.head) for column in some],
               style=style_of(process.state))


def _rate_cells(found: "Optional[Rates]", http: bool) -> "Dict[str, str]":
    """By their heads, of all instances together."""
    heads = (_REQUESTS, _SERVER_ERRORS) if http else (_CONNECTIONS,)
    if found is None:
        return dict.fromkeys((*heads, "IN/S", "OUT/S"), _UNKNOWN)
    numbers = zip(heads, (found.connections, found.server_errors))
    cells = {head: rate(number) for head, number in numbers}
    return dict(cells, **{"IN/S": size(int(found.bytes_in)), "OUT/S": size(int(found.bytes_out))})
