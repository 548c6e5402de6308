"""The status of a running pupgevent as people read it: one screen wide, one line per instance.

    ID            STATE     PID  PORT UPTIME RST OPEN TOTAL   IN  OUT CPU MEM
    my-app        running, 4/4 up, 12 open, 0 queued; :3000 round-robin
    my-app-1      running  4711  8000  3h12m   0    3 18.2k 1.2M  34M  2% 18M

IN and OUT are the bytes from and to clients, RST the restarts after an exit, MEM what is resident.
"""

import time
from typing import Callable, Iterator, List, Optional, Sequence, Tuple, TypeVar

from errors import local_time
from status_report import InstanceStatus, ProcessStatus, Status

V = TypeVar("V")

_HEADS = (
    "ID", "STATE", "PID", "PORT", "UPTIME", "RST", "OPEN", "TOTAL", "IN", "OUT", "CPU", "MEM",
)  # fmt: skip

#: An id is not made shorter than this.
_SHORTEST_ID = 8

_NOTHING = "-"


def table(status: Status, width: "Optional[int]" = None) -> "List[str]":
    """The lines; where a `width` is given, long ids are shortened to fit it."""
    lines: List[Tuple[str, Sequence[str], str]] = []
    for process in status.processes:
        if _has_line(process):
            lines.append((process.id, (), cluster_line(process)))
        lines.extend((member.id, _cells(member), "") for member in process.members)
    rows = [_HEADS[1:], *(cells for _, cells, _ in lines if cells)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADS) - 1)]
    room = max(len(name) for name in ["ID", *(name for name, _, _ in lines)])
    if width is not None:
        room = min(room, max(_SHORTEST_ID, width - sum(widths) - len(widths)))
    text = [_line("ID", _HEADS[1:], widths, room)]
    for name, cells, free in lines:
        text.append(_line(name, cells, widths, room) if cells else _free(name, free, room))
    text.extend(_schedules(status))
    return text if width is None else [line[:width] for line in text]


def _schedules(status: Status) -> Iterator[str]:
    """A line below the table for each process that has times of its own."""
    now = time.time()
    for process in status.processes:
        times = [(process.next_run, "starts"), (process.next_stop, "stops")]
        parts = ["%s at %s, in %s" % (
            verb, local_time(moment, now, time.localtime), duration(max(0.0, moment - now)))
            for moment, verb in times if moment is not None]
        if parts:
            yield "%s: %s" % (process.id, "; ".join(parts))


def _has_line(process: ProcessStatus) -> bool:
    """Of its own: not where it is its only instance, nor where only some are asked for."""
    names = [member.id for member in process.members]
    return len(names) == process.instances and names != [process.id]


def title(status: Status) -> str:
    """One line about the whole."""
    fields = (status.name, status.state, status.pid, duration(status.uptime))
    return "%s: %s, pid %d, up %s" % fields


def cluster_line(process: ProcessStatus) -> str:
    """State, instances that serve, clients connected and waiting."""
    parts = ["%s, %d/%d up" % (process.state, process.up, process.instances)]
    balancer = process.balancer
    if balancer is None:
        return parts[0]
    parts.append("%s open, %s queued" % (count(balancer.open), count(balancer.queue)))
    return "%s; :%d %s" % (", ".join(parts), balancer.port, balancer.strategy)


def _cells(member: InstanceStatus) -> "Sequence[str]":
    backend = member.backend
    state = member.state
    if member.waits_for is not None:
        state = "waiting"
    elif state == "running" and not member.serves:
        state = "down"
    return (
        state,
        _or_nothing(str, member.pid),
        _or_nothing(str, member.port),
        _or_nothing(duration, member.uptime),
        count(member.restarts),
        _or_nothing(count, backend and backend.open),
        _or_nothing(count, backend and backend.total),
        _or_nothing(size, backend and backend.bytes_in),
        _or_nothing(size, backend and backend.bytes_out),
        _or_nothing(percent, member.cpu),
        _or_nothing(size, member.memory),
    )


def _or_nothing(spell: "Callable[[V], str]", value: "Optional[V]") -> str:
    return _NOTHING if value is None else spell(value)


def _line(name: str, cells: "Sequence[str]", widths: "Sequence[int]", room: int) -> str:
    parts = [shortened(name, room).ljust(room), cells[0].ljust(widths[0])]
    parts.extend(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:]))
    return " ".join(parts).rstrip()


def _free(name: str, text: str, room: int) -> str:
    return shortened(name, room).ljust(room) + " " + text


def shortened(name: str, room: int) -> str:
    """The end of a name is what tells instances apart: the middle goes."""
    if len(name) <= room:
        return name
    tail = (room - 1) // 2
    return name[: room - 1 - tail] + "~" + name[len(name) - tail :]


def count(value: int) -> str:
    """Four digits, and in thousands beyond."""
    return str(value) if value < 10000 else _scaled(value, 1000, "kMGT")


def size(value: int) -> str:
    """Bytes, in units of 1024."""
    return str(value) if value < 1024 else _scaled(value, 1024, "KMGTP")


def _scaled(value: float, base: int, units: str) -> str:
    unit = 0
    value /= base
    while value >= base - 0.5 and unit + 1 < len(units):
        value /= base
        unit += 1
    return "%.*f%s" % (value < 9.95, value, units[unit])


def duration(seconds: float) -> str:
    """The two largest units that there are."""
    whole = int(seconds)
    for unit, name, smaller, small_name in (
        (86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"),
    ):  # fmt: skip
        if whole >= unit:
            return "%d%s%02d%s" % (whole // unit, name, whole % unit // smaller, small_name)
    return "%ds" % whole


def percent(share: float) -> str:
    return "%.0f%%" % (share * 100)
