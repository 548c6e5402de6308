"""The status of a running pupgevent as people read it: one screen wide, one line per instance.

    ID            STATE     PID  PORT UPTIME RST OPEN TOTAL   IN  OUT CPU MEM
    my-app        running, 4/4 up, 12 open, 0 queued; :3000 round-robin
    my-app-1      running  4711  8000  3h12m   0    3 18.2k 1.2M  34M  2% 18M

IN and OUT are the bytes from and to clients, RST the restarts after an exit, MEM what is resident.
With http OPEN are the requests in flight, TOTAL the requests, and 5XX the answers of that class.
Below it there is a line for whatever does not serve, for each certificate that expires soon, and
for each schedule.

On a terminal the table never wraps. Where there is too little room, columns go, the least
important first, and then the ids are shortened; where there is much, some are added.
"""

import time
from typing import (
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
)

import not_running
from errors import local_time
from histograms import BOUNDS, quantile
from quantities import count, duration, percent, short_time, size
from status_report import (
    BackendHttp,
    BackendStatus,
    BalancerStatus,
    CertificateStatus,
    InstanceStatus,
    ProcessStatus,
    Status,
)
from styled_text import BOLD, FAINT, GREEN, RED, YELLOW, Line, Span, columns, rendered
from tls_expiry import days_left, expires_soon, expiry_text, whose

V = TypeVar("V")

#: An id is not made shorter than the first while there are columns that can go, and than the
#: second in any case.
_COMFORTABLE_ID, _SHORTEST_ID = 20, 8

_NOTHING = "-"

#: Days before its end from which on a certificate is as bad as one that has expired.
_URGENT_DAYS = 3

#: Lines about certificates; the others are counted.
_MOST_CERTIFICATES = 10

#: How a state of an instance, or of a process, looks; the others are grey.
_STYLES = {
    "running": GREEN, "up": GREEN,
    "starting": YELLOW, "stopping": YELLOW, "waiting": YELLOW, "degraded": YELLOW,
    "draining": YELLOW,
    "backoff": RED, "errored": RED, "exhausted": RED, "down": RED,
}  # fmt: skip


class Column(NamedTuple):
    """One of the numbers of an instance."""

    head: str
    cell: "Callable[[InstanceStatus], Optional[str]]"
    #: Those of the lowest rank are the first to go; of rank 0, they are there only where there is
    #: more room than all others take.
    rank: int = 0


class Row(NamedTuple):
    """One line of a table: a name, and cells, or something else behind it."""

    name: str
    #: Of all columns, the first of which is the state.
    cells: Sequence[Optional[str]] = ()
    instead: Line = ()
    #: Of the state, where its word does not tell.
    style: str = ""


# What is in the columns


def _of_backend(
    spell: "Callable[[V], str]", get: "Callable[[BackendStatus], Optional[V]]"
) -> "Callable[[InstanceStatus], Optional[str]]":
    def cell(member: InstanceStatus) -> Optional[str]:
        return None if member.backend is None else _spelled(spell, get(member.backend))

    return cell


def _of_http(
    spell: "Callable[[V], str]", get: "Callable[[BackendHttp], Optional[V]]"
) -> "Callable[[InstanceStatus], Optional[str]]":
    def cell(member: InstanceStatus) -> Optional[str]:
        http = member.backend and member.backend.http
        return None if http is None else _spelled(spell, get(http))

    return cell


def _spelled(spell: "Callable[[V], str]", value: "Optional[V]") -> Optional[str]:
    return None if value is None else spell(value)


def at_most(seconds: float) -> str:
    """A quantile of a histogram, which knows nothing of its longest times but how many."""
    return short_time(seconds) if seconds < BOUNDS[-1] else ">" + short_time(BOUNDS[-1])


def state_of(member: InstanceStatus) -> str:
    """What is told of it in one word."""
    if member.waits_for is not None:
        return "waiting"
    if member.state == "running" and not member.serves:
        return "down"
    return member.state


def style_of(state: str) -> str:
    return _STYLES.get(state, FAINT)


STATE = Column("STATE", state_of, 100)
PID = Column("PID", lambda member: _spelled(str, member.pid), 5)
PORT = Column("PORT", lambda member: _spelled(str, member.port), 3)
UPTIME = Column("UPTIME", lambda member: _spelled(duration, member.uptime), 9)
RESTARTS = Column("RST", lambda member: count(member.restarts), 8)
OPEN = Column("OPEN", _of_backend(count, lambda backend: backend.open), 6)
CPU = Column("CPU", lambda member: _spelled(percent, member.cpu), 7)
MEMORY = Column("MEM", lambda member: _spelled(size, member.memory), 7)
CONNECT = Column("CONN", _of_backend(short_time, lambda backend: backend.connect_time))
FIRST_BYTE = Column("1ST", _of_backend(short_time, lambda backend: backend.first_byte_time))
ERRORS = Column("ERR", _of_backend(count, lambda backend: backend.connect_errors))
SERVER_ERRORS = Column("5XX", _of_http(count, lambda http: http.answers.server_error), 6)
#: Of all its requests so far: what the quickest 99 of 100 took at most.
REQUEST = Column("P99", _of_http(at_most, lambda http: quantile(http.request_times.counts, 0.99)))

_COLUMNS = (
    STATE, PID, PORT, UPTIME, RESTARTS, OPEN,
    Column("TOTAL", _of_backend(count, lambda backend: backend.total), 2),
    SERVER_ERRORS,
    Column("IN", _of_backend(size, lambda backend: backend.bytes_in), 1),
    Column("OUT", _of_backend(size, lambda backend: backend.bytes_out), 1),
    CPU, MEMORY, ERRORS, CONNECT, FIRST_BYTE, REQUEST,
)  # fmt: skip

#: Heads of columns that only http fills.
_HTTP_HEADS = {SERVER_ERRORS.head, REQUEST.head}


def table(
    status: Status, width: "Optional[int]" = None, colors: bool = False
) -> "List[str]":
    """All lines; where a `width` is given, none is longer."""
    below = [*not_running.lines(status), *certificates(status), *_schedules(status)]
    return [rendered(line, width, colors) for line in [*instances(status, width), *below]]


def instances(
    status: Status, width: "Optional[int]" = None, with_processes: bool = True
) -> "List[Line]":
    """The table alone."""
    rows: List[Row] = []
    some = without_http(_COLUMNS, status.processes)
    for process in status.processes:
        if with_processes and has_line(process):
            rows.append(Row(process.id, instead=cluster_line(process)))
        rows.extend(row_of(member, some) for member in process.members)
    return lay_out(some, rows, width)


def without_http(some: Sequence[Column], processes: Iterable[ProcessStatus]) -> Sequence[Column]:
    """The columns for these: those that only http fills are there where one of them has it."""
    if any(map(has_http, processes)):
        return some
    return [column for column in some if column.head not in _HTTP_HEADS]


def has_http(process: ProcessStatus) -> bool:
    return process.balancer is not None and process.balancer.http is not None


def row_of(member: InstanceStatus, some: Sequence[Column]) -> Row:
    return Row(member.id, [column.cell(member) for column in some])


def certificates(status: Status) -> "List[Line]":
    """A line below the table for each certificate that expires soon, or has expired, with all whose
    clients get to see it."""
    now = time.time()
    found: Dict[CertificateStatus, List[str]] = {}
    for process in status.processes:
        for each in certificates_of(process.balancer):
            if expires_soon(each.expires, now):
                found.setdefault(each, []).append(process.id)
    some: List[Tuple[CertificateStatus, List[str]]] = sorted(
        found.items(), key=lambda one: one[0].expires)
    lines: List[Line] = [
        [Span(whose(ids), BOLD), Span(": "), certificate(each, now), Span(" (%s)" % each.cert)]
        for each, ids in some[:_MOST_CERTIFICATES]]
    if len(some) > _MOST_CERTIFICATES:
        lines.append([Span("(%d more that expire soon)" % (
            len(some) - _MOST_CERTIFICATES))])
    return lines


def certificates_of(balancer: "Optional[BalancerStatus]") -> "Sequence[CertificateStatus]":
    """Each once, in the order of the file."""
    tls = balancer and balancer.tls
    return list(dict.fromkeys(tls.certificates)) if tls else ()


def certificate(found: CertificateStatus, now: float) -> Span:
    """Whom it is for, and when it expires."""
    text = "certificate of %s %s" % (whose(found.names), expiry_text(found.expires, now))
    if not expires_soon(found.expires, now):
        return Span(text)
    return Span(text, RED if days_left(found.expires, now) < _URGENT_DAYS else YELLOW)


def _schedules(status: Status) -> "Iterator[Line]":
    """A line below the table for each process that has times of its own."""
    now = time.time()
    for process in status.processes:
        times = [(process.next_run, "starts"), (process.next_stop, "stops")]
        parts = ["%s at %s, in %s" % (
            verb, local_time(moment, now, time.localtime), duration(max(0.0, moment - now)))
            for moment, verb in times if moment is not None]
        if parts:
            yield [Span(process.id, BOLD), Span(": " + "; ".join(parts))]


def has_line(process: ProcessStatus) -> bool:
    """Of its own: not where it is its only instance, nor where only some are asked for."""
    names = [member.id for member in process.members]
    return len(names) == process.instances and names != [process.id]


def title(status: Status) -> str:
    """One line about the whole."""
    fields = (status.name, status.state, status.pid, duration(status.uptime))
    return "%s: %s, pid %d, up %s" % fields


def cluster_line(process: ProcessStatus) -> Line:
    """State, instances that serve, clients connected and waiting."""
    spans = [Span(process.state, style_of(process.state)),
             Span(", %d/%d up" % (process.up, process.instances))]
    balancer = process.balancer
    if balancer is not None:
        open = "open" if balancer.http is None else "in flight"
        spans += [
            Span(", %s %s, %s queued" % (count(balancer.open), open, count(balancer.queue))),
            Span("; :%d" % balancer.port), *(Span(" " + each) for each in protocols(balancer)),
            Span(" " + balancer.strategy)]
    return spans


def protocols(balancer: BalancerStatus) -> "List[str]":
    """What its clients speak, in the words of URLs; nothing where pupgevent does not know it."""
    if balancer.http is None:
        return [] if balancer.tls is None else ["tls"]
    return ["http" if balancer.tls is None else "https"]


# Columns and rows as lines


def lay_out(
    some: Sequence[Column], rows: Sequence[Row], width: "Optional[int]" = None,
    head: str = "ID",
) -> "List[Line]":
    """The lines of a table, its head first. Without a `width` all columns are there, but for those
    of rank 0."""
    names = max(map(columns, [head, *(row.name for row in rows)]))
    widths = [max(map(len, [column.head, *(row.cells[index] or _NOTHING
                                          for row in rows if row.cells)]))
              for index, column in enumerate(some)]
    shown = _chosen(some, rows, widths, names, width)
    if width is not None:
        taken = sum(widths[index] + 1 for index in shown)
        names = min(names, max(_SHORTEST_ID, width - taken))
    lines: List[Line] = [_line(head, BOLD, [column.head for column in some], BOLD, shown, widths,
                               names)]
    for row in rows:
        if row.cells:
            state = row.cells[0] or _NOTHING
            style = row.style or style_of(state)
            lines.append(_line(row.name, "", row.cells, style, shown, widths, names))
        else:
            room = None if width is None else width - names - 1
            lines.append([Span(shortened(row.name, names).ljust(names) + " "),
                          *whole(row.instead, room)])
    return lines


def _chosen(
    some: Sequence[Column], rows: Sequence[Row], widths: Sequence[int], names: int,
    width: "Optional[int]",
) -> "List[int]":
    """The columns that are shown, by their indexes."""
    usual = [index for index, column in enumerate(some) if column.rank]
    if width is None:
        return usual
    filled = {index for index in range(len(some))
              if any(row.cells[index] is not None for row in rows if row.cells)}
    wide = range(len(some))
    added = filled.issuperset(set(wide) - set(usual))
    if added and names + sum(widths[index] + 1 for index in wide) <= width:
        return list(wide)
    shown = usual
    # What nobody has goes first, and some go together.
    ranks: Dict[int, int] = {
        index: some[index].rank if index in filled else 0 for index in usual}
    for rank in sorted(set(ranks.values()))[:-1]:
        if min(names, _COMFORTABLE_ID) + sum(widths[index] + 1 for index in shown) <= width:
            break
        shown = [index for index in shown if ranks[index] > rank]
    return shown


def _line(
    name: str, name_style: str, cells: "Sequence[Optional[str]]", style: str,
    shown: "Iterable[int]", widths: "Sequence[int]", room: int,
) -> Line:
    """The first cell is in the style; the others are numbers, which stand to the right."""
    spans = [Span(shortened(name, room).ljust(room), name_style)]
    for index in shown:
        text = cells[index] or _NOTHING
        text = text.rjust(widths[index]) if index else text.ljust(widths[index])
        spans += [Span(" "), Span(text, style if not index else name_style)]
    return spans


def whole(parts: Line, room: "Optional[int]") -> "Iterator[Span]":
    """Those that fit whole; the first in any case."""
    for place, part in enumerate(parts):
        if room is not None:
            room -= columns(part.text)
            if room < 0 and place:
                return
        yield part


def shortened(name: str, room: int) -> str:
    """The end of a name is what tells instances apart: the middle goes."""
    if len(name) <= room:
        return name
    tail = (room - 1) // 2
    return name[: room - 1 - tail] + "~" + name[len(name) - tail :]
