"""What `pupgevent describe` prints of one process, or of one instance: one section after the other.

In a pipe all is told in full. On a terminal nothing wraps: tables lose columns, as `status` does
it, and what is longer than a line is folded, since it is here that one looks for all of it.
"""

import time
from typing import Iterable, Iterator, List, Optional, Sequence

import not_running
import status_table
from description_report import Description, PastState, Setting
from errors import counted
from histograms import quantile
from quantities import count, short_time, size
from status_report import (
    ANSWER_CLASSES,
    Answers,
    BalancerHttp,
    BalancerStatus,
    BalancerTls,
    ProcessStatus,
    RestartCauses,
)
from status_table import (
    CONNECT,
    ERRORS,
    FIRST_BYTE,
    OPEN,
    REQUEST,
    SERVER_ERRORS,
    Column,
    Row,
    at_most,
    certificate,
    certificates_of,
    lay_out,
    row_of,
    style_of,
    without_http,
)
from styled_text import BOLD, FAINT, Line, Span, columns, folded, plain, rendered

#: How the causes of restarts are told.
_CAUSES = {
    "exit": "after an exit code", "signal": "after a signal", "start": "since it had not come up",
    "timeout": "after its timeout", "memory": "for its memory",
    "shortage": "for lack of processes or memory", "health": "for its health checks",
}  # fmt: skip

#: What an instance has to do with its balancer.
_BACKEND = (
    Column("STATE", lambda member: member.backend and member.backend.state, 100),
    OPEN,
    Column("TOTAL", lambda member: member.backend and count(member.backend.total), 5),
    SERVER_ERRORS._replace(rank=9),
    Column("IN", lambda member: member.backend and size(member.backend.bytes_in), 4),
    Column("OUT", lambda member: member.backend and size(member.backend.bytes_out), 4),
    ERRORS._replace(rank=9),
    Column("RETRIES", lambda member: member.backend and count(member.backend.retries), 7),
    Column("DOWNS", lambda member: member.backend and count(member.backend.downs), 8),
    CONNECT._replace(rank=6),
    FIRST_BYTE._replace(rank=6),
    REQUEST._replace(rank=6),
)

_INDENT = 2


def text(found: Description, width: "Optional[int]" = None, colors: bool = False) -> List[str]:
    """The lines; none is longer than a `width` that is given."""
    process, = found.status.processes
    lines: List[Line] = list(_head(found, process, width))
    lines += status_table.instances(found.status, width, with_processes=False)
    lines += _folded(map(plain, not_running.lines(found.status)), width)
    lines += _section("Balancing", _balancing(process, width))
    lines += _section("Health", _folded(_health(process), width))
    lines += _section("Restarts", _restarts(process))
    chosen = [each for each in found.settings if not each.is_default]
    usual = [each for each in found.settings if each.is_default]
    lines += _section("Settings", _settings(chosen, width))
    lines += _section("Defaults", _settings(usual, width, FAINT))
    lines += _section("History", _history(found, len(process.members) > 1, width))
    lines += _section("Last lines", _folded(found.lines, width))
    return [rendered(line, width, colors) for line in lines]


def _head(found: Description, process: ProcessStatus, width: "Optional[int]") -> Iterator[Line]:
    status = found.status
    if status_table.has_line(process):
        room = None if width is None else width - columns(process.id) - 2
        yield [Span(process.id, BOLD), Span(": "),
               *status_table.whole(status_table.cluster_line(process), room)]
    for member in process.members[: not status_table.has_line(process)]:
        state = status_table.state_of(member)
        yield [Span(member.id, BOLD), Span(": "), Span(state, style_of(state))]
    whose = "%s, which runs %s" % (status_table.title(status), status.config)
    yield from _folded([whose], width, FAINT)
    yield []


def _section(head: str, lines: "Sequence[Line]") -> List[Line]:
    """Nothing where there is nothing to say."""
    return [[], [Span(head, BOLD)], *lines] if lines else []


def _folded(
    lines: "Iterable[str]", width: "Optional[int]", style: str = ""
) -> List[Line]:
    return [[Span(part, style)] for line in lines for part in folded(line, width, _INDENT)]


def _balancing(process: ProcessStatus, width: "Optional[int]") -> List[Line]:
    balancer = process.balancer
    if balancer is None:
        return []
    said = "%s clients so far at %s%s, by %s; %s" % (
        count(balancer.accepted), _address(balancer.host, balancer.port),
        "" if balancer.tls is None else " with TLS", balancer.strategy,
        "%s waiting, %s at most, %s turned away" % (
            count(balancer.queue), count(balancer.queue_most), count(balancer.turned_away)))
    lines = [said] if balancer.http is None else [said, *_answers(balancer.http)]
    if balancer.tls is not None:
        lines.append(_handshakes(balancer.tls))
    rows: List[Row] = []
    some = without_http(_BACKEND, [process])
    for member in process.members:
        row = row_of(member, some)
        rows.append(row._replace(style=style_of(row.cells[0] or "")))
    return [*_folded(lines, width), *_certificates(balancer, width), *lay_out(some, rows, width)]


def _handshakes(tls: BalancerTls) -> str:
    return "%s or newer: %s done, %s resumed; %s failed, %s under way" % (
        tls.min_version.replace("v", " "), counted(tls.handshakes, "handshake"),
        count(tls.resumed), count(tls.failed), count(tls.under_way))


def _certificates(balancer: BalancerStatus, width: "Optional[int]") -> Iterator[Line]:
    """All of them, with the files that they are in."""
    now = time.time()
    for each in certificates_of(balancer):
        span = certificate(each, now)
        yield from _folded(["%s (%s)" % (span.text, each.cert)], width, span.style)


def _answers(http: BalancerHttp) -> Iterator[str]:
    """Of all instances: how many, of which class, how long they took."""
    own = _by_class(http.own_answers)
    yield "%s connected; answers: %s%s" % (
        counted(http.connections, "client"), _by_class(http.answers) or "none yet",
        "; of pupgevent itself: " + own if own else "")
    times = [(share, quantile(http.request_times.counts, share)) for share in (0.5, 0.9, 0.99)]
    told = ["%.0f %% within %s" % (share * 100, at_most(seconds))
            for share, seconds in times if seconds is not None]
    if told:
        yield "requests: " + ", ".join(told)


def _by_class(answers: Answers) -> str:
    return ", ".join("%s %s" % (count(number), name)
                     for name, number in zip(ANSWER_CLASSES, answers) if number)


def _health(process: ProcessStatus) -> Iterator[str]:
    for member in process.members:
        health = member.health
        if health is not None:
            last = "" if health.last is None else ", %s in %s" % (
                health.last, short_time(health.duration or 0.0))
            yield "%s: %s%s; %s, %s failed, %s down" % (
                member.id, "healthy" if health.healthy else "unhealthy", last,
                counted(health.checks, "check"), count(health.failures),
                counted(health.downs, "time"))


def _address(host: str, port: int) -> str:
    return "%s:%d" % ("[%s]" % host if ":" in host else host, port)


def _restarts(process: ProcessStatus) -> List[Line]:
    total = sum(member.restarts for member in process.members)
    if not total:
        return []
    by_cause = {cause: sum(getattr(member.restarts_by, cause) for member in process.members)
                for cause in RestartCauses._fields}
    return [[Span("%s %s" % (count(number), _CAUSES[cause]))]
            for cause, number in by_cause.items() if number]


def _settings(
    some: "Sequence[Setting]", width: "Optional[int]", style: str = ""
) -> List[Line]:
    return _folded(["%s = %s" % (each.name, each.value) for each in some], width, style)


def _history(found: Description, named: bool, width: "Optional[int]") -> List[Line]:
    """With the names where there is more than one."""
    lines: List[Line] = []
    if found.forgotten:
        lines.append([Span("(%s before)" % counted(found.forgotten, "state"), FAINT)])
    names = max([len(past.instance) for past in found.history], default=0) if named else 0
    states = max([len(past.state) for past in found.history], default=0)
    for past in found.history:
        lines += _moment(past, names, states, width)
    return lines


def _moment(past: PastState, names: int, states: int, width: "Optional[int]") -> List[Line]:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(past.at))
    name = past.instance.ljust(names) + " " if names else ""
    before = "%s %s" % (when, name)
    whole = "%s%s %s" % (before, past.state.ljust(states), past.text)
    first, *more = folded(whole.rstrip(), width, _INDENT)
    end = len(before) + len(past.state)
    if len(first) < end:
        return [[Span(each)] for each in (first, *more)]
    line = [Span(before), Span(past.state, style_of(past.state)), Span(first[end:])]
    return [line, *([Span(each)] for each in more)]
