"""`pupgevent list`: every pupgevent of this user, and of all users for root.

Those are found that a folder of folders.py tells of. All are asked side by side, so that one that
is stopped or hangs delays the others by no more than `ANSWER_TIMEOUT`. What a user writes into
his folder is his: nothing that he can put there is taken for another user's, or delays root for
longer.
"""

import collections
import json
import os
import re
import select
import socket
import sys
import time
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import finding
import styled_text
import terminal
from cli import Arguments
from control_protocol import BadReply, JsonObject, checked
from credentials import NoAnswer, Peer, owner, user_name
from errors import PupgeventError, decoded, one_line
from finding import Place
from quantities import duration
from status_report import from_json
from status_table import shortened
from styled_text import BOLD, GREEN, RED, YELLOW, Line, Span

#: Seconds for all that are asked at once.
ANSWER_TIMEOUT = 3.0

#: So many sockets are asked at once, of which each needs a descriptor; and a user of whom so many
#: are there is asked no further.
_AT_ONCE = 200

#: Seconds from one look at what waits to the next.
_PAUSE = 0.05

#: Most bytes of an answer: those of thousands of instances.
_MOST_ANSWER = 4 * 1024 * 1024

#: As much of it is read before the time is looked at again.
_PIECE = 256 * 1024

#: Most digits of a number in it: Python takes minutes for a million of them.
_MOST_DIGITS = 20

#: A path on a terminal is not made shorter than this.
_SHORTEST_PATH = 20

_REQUEST = json.dumps({"command": "status", "usage": False}).encode() + b"\n"

#: Bytes of a path that are no UTF-8, and that some terminals obey (ECMA-48, C1).
_ORDERS = re.compile("[\udc80-\udc9f]")

_HEADS = ("CONFIG", "PID", "USER", "HEALTH", "UPTIME", "UP")

#: Those that stand to the right.
_NUMBERS = ("PID", "UPTIME", "UP")

_NOTHING = "-"

_SILENT = "does not answer"

_STYLES = {"healthy": GREEN, "stopping": YELLOW}


class _ProcessSummary(NamedTuple):
    up: int
    wanted: int


class _Summary(NamedTuple):
    """What is needed of a status, whatever else this or another version tells."""

    config: str
    uptime: float
    state: str
    healthy: bool
    processes: Tuple[_ProcessSummary, ...]


class Entry(NamedTuple):
    """One pupgevent; None is what is not known of it."""

    config: str
    pid: Optional[int]
    uid: int
    health: str
    uptime: Optional[float]
    #: How many instances serve, of those that should.
    up: str


def show(args: Arguments) -> int:
    """Print the table."""
    entries, left_out = find()
    if entries:
        is_terminal = sys.stdout.isatty()
        width = os.get_terminal_size(1).columns if is_terminal else None
        colors = terminal.wants_colors(sys.stdout.fileno())
        for line in table(entries, os.geteuid() == 0, width or None):
            print(styled_text.rendered(line, width or None, colors))
    elif os.geteuid() == 0:
        sys.stderr.write("pupgevent: no pupgevent runs\n")
    else:
        sys.stderr.write("pupgevent: no pupgevent of user %s runs\n" % user_name(os.geteuid()))
    for uid in sorted(left_out):
        sys.stderr.write("pupgevent: user %s has more than these\n" % user_name(uid))
    return 0


def table(
    entries: Sequence[Entry], with_users: bool, width: "Optional[int]" = None
) -> "List[Line]":
    """A line each, below a head; on a terminal long paths are shortened to its width."""
    heads = [head for head in _HEADS if with_users or head != "USER"]
    rows = [dict(zip(_HEADS, _cells(each, with_users))) for each in entries]
    widths = {head: max(map(styled_text.columns, [head, *(row[head] for row in rows)]))
              for head in heads}
    if width is not None:
        room = width - sum(widths[head] + 1 for head in heads[1:])
        widths["CONFIG"] = min(widths["CONFIG"], max(_SHORTEST_PATH, room))
        for row in rows:
            row["CONFIG"] = shortened(row["CONFIG"], widths["CONFIG"])
    lines = [_line(dict(zip(heads, heads)), widths, BOLD)]
    return lines + [_line(row, widths, "") for row in rows]


def _cells(entry: Entry, with_users: bool) -> "Sequence[str]":
    return (
        entry.config,
        _NOTHING if entry.pid is None else str(entry.pid),
        user_name(entry.uid) if with_users else "",
        entry.health,
        _NOTHING if entry.uptime is None else duration(entry.uptime),
        entry.up,
    )


def _line(row: "Dict[str, str]", widths: "Dict[str, int]", style: str) -> Line:
    spans: List[Span] = []
    for head, width in widths.items():
        cell = row[head]
        gap = " " * (width - styled_text.columns(cell))
        text = gap + cell if head in _NUMBERS else cell + gap
        of_health = _STYLES.get(cell, RED) if head == "HEALTH" else ""
        spans += [Span(text, style or of_health), Span(" ")]
    return spans


# Asking


def find() -> "Tuple[List[Entry], Set[int]]":
    """Those that run, sorted by their files; and the users who have more than are asked."""
    calls = [_Call(place) for place in finding.places()]
    alive: Dict[object, _Call] = {}
    cut_off: Set[int] = set()
    while calls:
        at_once, calls = calls[:_AT_ONCE], calls[_AT_ONCE:]
        _converse(at_once)
        for call in filter(_Call.is_alive, at_once):
            # One that has two sockets is listed once, with what it has answered.
            same = alive.get(call.key)
            if same is None or same.summary is None:
                alive[call.key] = call
        counts = collections.Counter(call.place.uid for call in alive.values())
        cut_off.update(each.place.uid for each in calls if counts[each.place.uid] >= _AT_ONCE)
        calls = [each for each in calls if each.place.uid not in cut_off]
    entries = map(_entry, alive.values())
    return sorted(entries, key=lambda each: (each.config, each.pid or 0)), cut_off


def _converse(calls: "Sequence[_Call]") -> None:
    """Until all have answered, or the time is over."""
    deadline = time.monotonic() + ANSWER_TIMEOUT
    try:
        while time.monotonic() < deadline:
            waiting = [call for call in calls if call.go_on()]
            if not waiting:
                return
            poll = select.poll()
            for call in waiting:
                if call.connection is not None:
                    poll.register(call.connection, select.POLLIN)
            poll.poll(_PAUSE * 1000)
    finally:
        for call in calls:
            call.close()


class _Call:
    """One socket that is asked. Nothing of it blocks."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.summary: Optional[_Summary] = None
        self.connection: Optional[socket.socket] = None
        self._peer: Optional[Peer] = None
        self._is_full = False
        self._is_over = False
        self._data = bytearray()

    def is_alive(self) -> bool:
        """Somebody listens, who is to be believed."""
        return self._peer is not None or self._is_full

    @property
    def key(self) -> object:
        """The same for all sockets of one pupgevent. From another namespace its pid is 0."""
        return (self._peer and self._peer.pid) or self.place.address

    @property
    def pid(self) -> Optional[int]:
        if self._peer is not None:
            return self._peer.pid or None
        # Whoever wrote it may have written any number.
        told = self.place.pid
        return told if told and owner("/proc/%d" % told) == self.place.uid else None

    def go_on(self) -> bool:
        """Do what can be done now. False: there is nothing more to wait for."""
        if self._is_over:
            return False
        if self.connection is None:
            self._connect()
        else:
            self._read(self.connection)
        return not self._is_over

    def close(self) -> None:
        """Idempotent."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _connect(self) -> None:
        self._peer, self._data = None, bytearray()
        try:
            found = finding.ask(self.place.address, {self.place.uid}, 0)
        except NoAnswer:
            # Its queue is full: it does not say who listens there, only whose the socket is.
            self._is_full = owner(self.place.address) == self.place.uid
            self._is_over = not self._is_full
            return
        except OSError:
            return  # there is no descriptor just now
        except PupgeventError:
            found = None
        self._is_full = False
        if found is None:
            self._is_over = True
            return
        self.connection, self._peer = found.connection, found.peer
        self.connection.setblocking(False)
        try:
            self.connection.send(_REQUEST)
        except OSError:
            pass  # it has closed already: why is in what it has sent

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._data += data
        if not data:
            self.close()  # it ends, or has closed too early: it is asked again
        elif b"\n" in data or len(self._data) > _MOST_ANSWER:
            self._take(_reply_in(bytes(self._data)))

    def _take(self, reply: JsonObject) -> None:
        self._data = bytearray()
        if reply.get("busy"):
            self.close()
            return
        self._is_over = True
        self.summary = _summary_in(reply)


def _reply_in(data: bytes) -> JsonObject:
    """What is said in it; empty where that is not understood."""
    line = data.partition(b"\n")[0]
    try:
        return checked(json.loads(line.decode(), parse_int=_number), False)
    except (ValueError, RecursionError, BadReply):
        return {}


def _number(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError("too long")
    return int(digits)


def _summary_in(reply: JsonObject) -> Optional[_Summary]:
    try:
        found = from_json(_Summary, reply.get("status"))
    except ValueError:
        return None
    return found if 0 <= found.uptime < 10**_MOST_DIGITS else None


def _entry(call: _Call) -> Entry:
    place, summary = call.place, call.summary
    config = decoded(os.fsencode(place.config or place.address))
    if summary is None:
        return Entry(_harmless(config), call.pid, place.uid, _SILENT, None, _NOTHING)
    health = "healthy" if summary.healthy else "failing"
    up, wanted = (sum(counts) for counts in zip((0, 0), *summary.processes))
    return Entry(
        _harmless(config if place.config else summary.config), call.pid, place.uid,
        "stopping" if summary.state == "stopping" else health, summary.uptime,
        "%d/%d" % (up, wanted),
    )


def _harmless(path: str) -> str:
    """As it can be printed, whoever has made it up."""
    text = one_line(path)
    return _ORDERS.sub(lambda found: "\\x%02x" % (ord(found.group()) - 0xDC00), text)
