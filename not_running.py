"""Why instances do not serve, since when, and what comes next: a line for those that fail alike.

    my-app-2: exit code 3, next try in 4 s, failing for 2m10s: "KeyError: 'DATABASE_URL'"
    job: exit code 1, given up after 4 failures in a row, 5m02s ago
    web-1, web-2 and 998 more: waiting for 12 s: db, which is errored

Whoever was stopped, or never started, is nobody's trouble: it gets no line.
"""

import math
import re
from typing import Dict, List, Tuple

from quantities import duration
from status_report import InstanceStatus, Status
from styled_text import BOLD, Line, Span

#: Lines; the instances of the others are counted.
MOST_LINES = 10

#: Names that are told of those that fail alike; of more, all but the last place is a name.
_MOST_NAMES = 3


def serves_not(member: InstanceStatus) -> bool:
    """It should serve, and does not; or something is wrong with it."""
    return member.failing_for is not None or (member.wanted and not member.serves)


def lines(status: Status, most: int = MOST_LINES) -> List[Line]:
    """At most so many, of which there is to be one; those that fail before those that are on their
    way."""
    groups: Dict[Tuple[str, ...], List[InstanceStatus]] = {}
    for process in status.processes:
        for member in filter(serves_not, process.members):
            groups.setdefault((process.id, *_kind(member)), []).append(member)
    found = sorted(groups.values(), key=lambda some: some[0].failing_for is None)
    if len(found) > most:
        kept, rest = found[: most - 1], found[most - 1 :]
        return [*map(_line, kept), [Span("(%d more that do not serve)" % sum(map(len, rest)))]]
    return list(map(_line, found))


def _line(some: List[InstanceStatus]) -> Line:
    names = [each.id for each in some]
    if len(names) > _MOST_NAMES:
        names[_MOST_NAMES - 1 :] = ["and %d more" % (len(names) - _MOST_NAMES + 1)]
    listed = ", ".join(names).replace(", and ", " and ")
    why, said = _texts(_merged(some))
    return [Span(listed, BOLD), Span(": " + why + (': "%s"' % said if said else ""))]


def _merged(some: List[InstanceStatus]) -> InstanceStatus:
    """The first of them, with the next time of any, and the longest of all."""
    retries = [each.retry_in for each in some if each.retry_in is not None]
    failures = [each.failing_for for each in some if each.failing_for is not None]
    return some[0]._replace(
        retry_in=min(retries) if retries else None,
        failing_for=max(failures) if failures else None,
        since=max(each.since for each in some))


def _kind(member: InstanceStatus) -> Tuple[str, str]:
    """The same for all that fail alike: the times aside, and what is only each one's own in what
    they say."""
    backend = member.backend and member.backend._replace(since=0.0)
    why, said = _texts(member._replace(
        since=0.0, backend=backend,
        retry_in=None if member.retry_in is None else 0.0,
        failing_for=None if member.failing_for is None else 0.0))
    if member.port is not None:
        why = re.sub(r"\b%d\b" % member.port, "PORT", why)
    return why, re.sub("[0-9]+", "0", said)


def _texts(member: InstanceStatus) -> Tuple[str, str]:
    """What is wrong with it, and what it has said last, if anything."""
    said = member.last_line or ""
    if member.waits_for is not None:
        return "waiting for %s: %s" % (_time(member.since), member.waits_for), ""
    health = member.health
    if member.state == "running" and health is not None and not health.healthy:
        return "unhealthy for %s: %s" % (
            _time(member.failing_for or member.since), health.last or "?"), ""
    if member.state == "running":
        backend = member.backend
        return "not reached for %s%s" % (
            _time(member.failing_for or member.since),
            ": " + backend.reason if backend and backend.reason else ""), ""
    if member.failing_for is not None and member.retry_in is not None:
        return "%s, next try %s, failing for %s" % (
            member.last_exit, _in(member.retry_in), _time(member.failing_for)), said
    if member.failing_for is not None and member.state == "starting":
        return "%s, starting again, failing for %s" % (
            member.last_exit, _time(member.failing_for)), said
    if member.failing_for is not None:
        return "%s, %s ago" % (member.reason or member.state, _time(member.since)), said
    if member.state == "starting":
        place = "" if member.port is None else ", port %d does not accept yet" % member.port
        if health is not None and health.last is not None:
            place = ", " + health.last
        return "starting for %s%s" % (_time(member.since), place), ""
    if member.state == "stopping":
        return "stopping for %s, to be started again" % _time(member.since), ""
    return "to be started", ""


def _in(seconds: float) -> str:
    return "now" if seconds < 0.05 else "in " + _time(math.ceil(seconds))


def _time(seconds: float) -> str:
    return "%d s" % seconds if seconds < 60 else duration(seconds)
