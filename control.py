"""The control socket: how the commands talk to a running pupgevent.

A Unix stream socket that only its user, and root, can open (see control_socket.py for where it
lies); control_protocol.py tells what is said there.

What is not of this form gets one answer that says so, and harms nobody: a request may be so long
and take so long and no more, so many may be connected and no more, and who does not read is
waited for by a greenlet of its own, for a time. Where all places are taken, one who has been
silent, or has not read, makes room. An operation goes on when the one who asked for it goes away.
"""

import collections
import json
import select
import sys
import time
from typing import Any, Callable, Deque, Dict, Iterator, List, Mapping, NamedTuple, Optional

import gevent
from gevent.event import Event

import control_socket
from concurrency import Task, in_slices
from control_protocol import Refused, check_fields, read_request, spelled
from credentials import is_trusted, peer_of
from errors import NotRunningError, PupgeventError
from hub_server import HubServer
from logs import Log
from sockets import SHORTAGES

#: Most bytes of a request, and seconds that it may take to come.
REQUEST_LIMIT, REQUEST_TIMEOUT = 64 * 1024, 5.0

#: Seconds that a client may take to read what it is sent; a follower may be paused for longer.
READ_TIMEOUT, FOLLOWER_TIMEOUT = 10.0, 300.0

#: Lines of progress that may wait for a client; beyond, the oldest are forgotten.
_MOST_PROGRESS = 1000

#: Seconds after which a client that does not read what it is sent may have to make room.
_STUCK = 1.0

_BUSY = "too many are connected to the control socket"

Plain = Dict[str, Any]


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


#: How many may be connected at a time.
MOST_CONNECTIONS = 64

#: Seconds between two looks whether a client is still there.
LOOK_EVERY = 1.0

#: Seconds between two looks whether it still accepts: so long at most it rests when descriptors or
#: memory have run out.
_LOOK_AFTER = 0.5

#: Seconds for last answers when pupgevent ends.
_PARTING = 1.0


class Request(NamedTuple):
    """What can be asked for.

    `fields` has the type of each field and what stands for one that is left out. `act` is called
    with the fields and an `Answer`; it may block, and returns what the last line is to hold.
    """

    fields: "Mapping[str, Any]"
    act: "Callable[[Plain, Answer], Plain]"
    #: It changes something: it is logged, and goes on without the client.
    changes: bool = False


class _Door(HubServer):
    """Hands over each who connects."""

    max_accept = MOST_CONNECTIONS

    def __init__(self, listener: Any, handle: "Callable[..., Any]") -> None:
        super().__init__(listener, handle, _LOOK_AFTER)
        self.timer.start(self._look_after)

    def do_read(self) -> Any:
        try:
            return super().do_read()
        except (OSError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno not in SHORTAGES:
                raise
            # Nothing to serve a command with now. The others wait to be accepted meanwhile.
            self.stop_accepting()
            return None

    def _look_after(self) -> None:
        """Accept again, whatever has ended it."""
        if self.has_stopped_accepting:
            self.accept_again()


class Control:
    """Serves the sockets of an endpoint; `requests` are those of who has that."""

    def __init__(
        self, place: control_socket.Endpoint, requests: "Mapping[str, Request]", log: Log
    ) -> None:
        self._place = place
        self._requests = requests
        self._log = log
        self._answers: Dict[Answer, Any] = {}
        self._servers = [_Door(each, self._meet) for each in place.sockets]

    def begin(self) -> None:
        for server in self._servers:
            server.start()

    def close(self) -> None:
        """Let the last answers out, for a second at most, and leave nothing behind. Idempotent."""
        for server in self._servers:
            server.close()
        deadline = time.monotonic() + _PARTING
        for task in list(self._answers.values()):
            task.wait(max(0.0, deadline - time.monotonic()))
        for answer in list(self._answers):
            answer.close()
        self._place.release()

    def _meet(self, connection: Any, _: Any) -> None:
        """In the hub: somebody has connected."""
        answer = Answer(connection)
        if len(self._answers) >= MOST_CONNECTIONS and not self._make_room():
            answer.turn_away()
            return
        try:
            self._answers[answer] = Task(self._serve, answer)
        except MemoryError:
            self._answers.pop(answer, None)
            answer.turn_away()

    def _make_room(self) -> bool:
        """At the cost of the oldest who holds things up, or else of the oldest who only watches."""
        answers = list(self._answers)
        for answer in [a for a in answers if a.holds_up] + [a for a in answers if a.only_watches]:
            self._answers.pop(answer).kill(block=False)
            answer.turn_away()
            return True
        return False

    def _serve(self, answer: "Answer") -> None:
        try:
            self._converse(answer)
        except Gone:
            pass
        except Exception as error:
            self._log.error("control", "a request met a bug: %r" % error)
        finally:
            answer.close()
            self._answers.pop(answer, None)

    def _converse(self, answer: "Answer") -> None:
        try:
            line = answer.read_line()
            pid, uid = peer_of(answer.connection)
            if not is_trusted(uid):
                raise Refused("this is another user's pupgevent")
            fields = read_request(line)
            self._refuse_stranger(fields.pop("config", self._place.names))
            what = spelled(fields)
            request = self._find(fields)
            checked = check_fields(fields, request.fields)
            if request.changes:
                self._log.info("control", "%s, asked for by pid %d" % (what, pid))
                result = self._detach(request, checked, answer, what)
            else:
                result = request.act(checked, answer)
        except PupgeventError as error:
            final = {"ok": False, "error": str(error), "status": error.exit_status}
            answer.send(dict(final, errors=error.lines) if len(error.lines) > 1 else final)
        else:
            answer.send(dict({"ok": True}, **result))

    def _refuse_stranger(self, paths: Any) -> None:
        if not isinstance(paths, list):
            raise Refused('"config" is not an array of strings')
        if not any(path in self._place.names for path in paths):
            raise NotRunningError("no pupgevent runs for that file: at its socket is the one of %s"
                                  % self._place.config)

    def _find(self, fields: Plain) -> Request:
        command = fields.pop("command", None)
        request = self._requests.get(command) if isinstance(command, str) else None
        if request is None:
            raise Refused('"command" is none of ' + ", ".join(self._requests))
        return request

    def _detach(self, request: Request, fields: Plain, answer: "Answer", what: str) -> Plain:
        """Run it in a greenlet of its own, and pass on its progress while the client is there."""
        detached = _DetachedRequest(request, fields, answer)

        def conclude(_: Any) -> None:
            if detached.error is None:
                self._log.info("control", "%s: done" % what)
            else:
                for text in detached.error.lines:
                    self._log.warning("control", "%s: %s" % (what, text))

        detached.task.rawlink(conclude)
        while not detached.task.ready():
            answer.flush_progress(LOOK_EVERY)
        answer.flush_progress(0)
        if detached.error is not None:
            raise detached.error
        return detached.result


class _DetachedRequest:
    """A change under way; it ends by itself, whoever waits for it."""

    def __init__(self, request: Request, fields: Plain, answer: "Answer") -> None:
        self.error: Optional[PupgeventError] = None
        self.result: Plain = {}
        self._work = (request, fields, answer)
        self.task = Task(self._run)
        self.task.rawlink(lambda _: answer.wake())

    def _run(self) -> None:
        request, fields, answer = self._work
        try:
            self.result = request.act(fields, answer)
        except PupgeventError as error:
            self.error = error
        except Exception as error:
            self.error = PupgeventError("this met a bug: %r" % error)
            gevent.get_hub().handle_error(self, *sys.exc_info())
