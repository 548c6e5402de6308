"""One request at the control socket, and the lines that answer it; control.py tells the form."""

import collections
import json
import select
import time
from typing import Any, Deque, Dict, Iterator, List, Mapping, Optional

import gevent
from gevent.event import Event

from errors import PupgeventError
from slices import in_slices

#: Most bytes of a request, and seconds that it may take to come.
REQUEST_LIMIT, REQUEST_TIMEOUT = 64 * 1024, 5.0

#: Seconds that a client may take to read what it is sent; a follower may be paused for longer.
READ_TIMEOUT, FOLLOWER_TIMEOUT = 10.0, 300.0

#: Lines of progress that may wait for a client; beyond, the oldest are forgotten.
_MOST_PROGRESS = 1000

#: Seconds after which a client that does not read what it is sent may have to make room.
_STUCK = 1.0

#: Letters of a request that are logged.
_MOST_ECHO = 200

_BUSY = "too many are connected to the control socket"

Plain = Dict[str, Any]


class Refused(PupgeventError):
    """The request is not one that can be understood."""

    exit_status = 2


class Gone(Exception):
    """The client has left, or does not read."""


class Answer:
    """One connection, from our side. What sends raises Gone when nobody reads it."""

    #: Seconds that one line may take to be read.
    patience = READ_TIMEOUT

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._asked = False
        self._sending_since: Optional[float] = None
        self._progress: Deque[str] = collections.deque(maxlen=_MOST_PROGRESS)
        self._news = Event()

    @property
    def holds_up(self) -> bool:
        """It is the client's turn, and it does not take it."""
        since = self._sending_since
        return not self._asked or (since is not None and time.monotonic() - since > _STUCK)

    @property
    def only_watches(self) -> bool:
        """It follows, and nothing waits for it."""
        return self.patience == FOLLOWER_TIMEOUT

    def read_line(self) -> bytes:
        """The request; blocks. Raises Refused or Gone."""
        pieces: List[bytes] = []
        size = 0
        try:
            with gevent.Timeout(REQUEST_TIMEOUT, Refused("the request did not come in time")):
                while True:
                    piece = self.connection.recv(REQUEST_LIMIT)
                    pieces.append(piece)
                    size += len(piece)
                    if b"\n" in piece:
                        break
                    if size > REQUEST_LIMIT:
                        raise Refused("the request is longer than %d bytes" % REQUEST_LIMIT)
                    if not piece:
                        raise Refused("the request is not a whole line") if size else Gone()
        except OSError:
            raise Gone() from None
        self._asked = True
        return b"".join(pieces).partition(b"\n")[0]

    def send(self, what: Plain) -> None:
        """One line; blocks until the kernel has it."""
        data = "".join(in_slices(_json(what))).encode() + b"\n"
        self._sending_since = time.monotonic()
        try:
            with gevent.Timeout(self.patience, Gone()):
                self.connection.sendall(data)
        except OSError:
            raise Gone() from None
        self._sending_since = None

    def say(self, text: str) -> None:
        """Progress: never blocks, and is lost when it is too much for who reads it."""
        self._progress.append(text)
        self._news.set()

    def wake(self) -> None:
        self._news.set()

    def flush_progress(self, timeout: float) -> None:
        """Send what there is to tell; waits so many seconds for it. Raises Gone."""
        self._news.wait(timeout)
        self._news.clear()
        while self._progress:
            self.send({"progress": self._progress.popleft()})
        self.look()

    def look(self) -> None:
        """Raises Gone if the client has closed its side altogether."""
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLHUP)
        if poll.poll(0):
            raise Gone()

    def turn_away(self) -> None:
        """Without waiting for anything."""
        line = {"ok": False, "error": _BUSY, "status": 1, "busy": True}
        try:
            self.connection.setblocking(False)
            self.connection.send(json.dumps(line).encode() + b"\n")
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        self.connection.close()


def _json(what: Any) -> "Iterator[str]":
    """In pieces: a list of objects, which may be thousands, one after the other."""
    if not _has_objects(what):
        yield json.dumps(what)
        return
    named = isinstance(what, dict)
    before = "{" if named else "["
    for each in what:
        yield "%s%s: " % (before, json.dumps(each)) if named else before
        yield from _json(what[each] if named else each)
        before = ", "
    yield "}" if named else "]"


def _has_objects(what: Any) -> bool:
    """Is there a list of objects anywhere in it?"""
    if isinstance(what, list):
        return bool(what) and isinstance(what[0], dict)
    return isinstance(what, dict) and any(map(_has_objects, what.values()))


def read_request(line: bytes) -> Plain:
    """The object in a line; raises Refused."""
    try:
        fields = json.loads(line.decode())
    except (ValueError, RecursionError):
        raise Refused("the request is not JSON") from None
    if not isinstance(fields, dict):
        raise Refused("the request is not an object")
    return fields


def check_fields(fields: Plain, known: "Mapping[str, Any]") -> Plain:
    """With what is left out filled in; raises Refused. A field that is a type is required."""
    for name in fields:
        if name not in known:
            raise Refused('unknown field "%s"' % name[:64])
    checked: Plain = {}
    for name, default in known.items():
        kind: Any = default if isinstance(default, type) else type(default)
        value: Any = fields.get(name, default)
        if type(value) is not kind or (kind is list and not all(type(w) is str for w in value)):
            raise Refused('"%s" is not %s' % (name, _KINDS[kind]))
        checked[name] = value
    return checked


_KINDS: Dict[Any, str] = {
    list: "an array of strings", bool: "true or false", str: "a string", int: "a whole number",
}


def spelled(fields: Plain) -> str:
    """A request as one would type it."""
    words: List[Any] = []
    for value in fields.values():
        words.extend(value if isinstance(value, list) else [value])
    return " ".join(map(str, words))[:_MOST_ECHO]
