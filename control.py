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
from typing import Any, Callable, Deque, Dict, List, Mapping, NamedTuple, Optional

import gevent
from gevent.event import Event

import control_socket
from concurrency import Task, in_slices
from control_protocol import (
    UNKNOWN_COMMAND,
    JsonObject,
    Refused,
    check_fields,
    read_request,
    spelled,
)
from credentials import Peer, is_trusted, peer_of
from errors import NotRunningError, PupgeventError
from hub_server import HubServer
from json_pieces import json_pieces
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


class Gone(Exception):
    """The client has left, or does not read."""


class ControlConnection:
    """One connection of a client. What sends raises Gone where the client does not read."""

    #: Seconds that the client may take to read one line.
    send_timeout = READ_TIMEOUT

    def __init__(self, sock: Any) -> None:
        self._socket = sock
        self._asked = False
        self._sending_since: Optional[float] = None
        self._progress: Deque[str] = collections.deque(maxlen=_MOST_PROGRESS)
        self._news = Event()

    @property
    def is_stalled(self) -> bool:
        """The client has not sent its request, or has not read for `_STUCK` seconds."""
        since = self._sending_since
        return not self._asked or (since is not None and time.monotonic() - since > _STUCK)

    @property
    def is_follower(self) -> bool:
        """The client follows the lines: nothing is lost when it is disconnected."""
        return self.send_timeout == FOLLOWER_TIMEOUT

    def peer(self) -> Peer:
        return peer_of(self._socket)

    def read_line(self) -> bytes:
        """The request; blocks. Raises Refused or Gone."""
        pieces: List[bytes] = []
        size = 0
        try:
            with gevent.Timeout(REQUEST_TIMEOUT, Refused("the request did not come in time")):
                while True:
                    piece = self._socket.recv(REQUEST_LIMIT)
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

    def send(self, what: JsonObject) -> None:
        """One line; blocks until the kernel has it."""
        data = "".join(in_slices(json_pieces(what))).encode() + b"\n"
        self._sending_since = time.monotonic()
        try:
            with gevent.Timeout(self.send_timeout, Gone()):
                self._socket.sendall(data)
        except OSError:
            raise Gone() from None
        self._sending_since = None

    def report(self, text: str) -> None:
        """Queue a line of progress; never blocks. Beyond `_MOST_PROGRESS` the oldest is lost."""
        self._progress.append(text)
        self._news.set()

    def wake(self) -> None:
        self._news.set()

    def flush_progress(self, timeout: float) -> None:
        """Send the progress that is queued; waits so many seconds for some. Raises Gone."""
        self._news.wait(timeout)
        self._news.clear()
        while self._progress:
            self.send({"progress": self._progress.popleft()})
        self.check_open()

    def check_open(self) -> None:
        """Raises Gone where the client has closed its socket. One that has only shut down its
        writing side still reads: poll(2) tells the two apart by POLLHUP."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLHUP)
        if poll.poll(0):
            raise Gone()

    def reject(self) -> None:
        """Tell the client that too many are connected, and close; does not block."""
        line = {"ok": False, "error": _BUSY, "status": 1, "busy": True}
        try:
            self._socket.setblocking(False)
            self._socket.send(json.dumps(line).encode() + b"\n")
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        self._socket.close()


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
    with the fields and the connection; it may block, and returns what the last line is to hold.
    """

    fields: "Mapping[str, object]"
    act: "Callable[[JsonObject, ControlConnection], JsonObject]"
    #: It changes something: it is logged, and goes on without the client.
    changes: bool = False


class ControlServer(HubServer):
    """Accepts the connections of one socket, and hands each over to `handle`, which closes it."""

    max_accept = MOST_CONNECTIONS

    def __init__(self, listener: Any, handle: "Callable[..., None]") -> None:
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
        self, endpoint: control_socket.ControlEndpoint, requests: "Mapping[str, Request]", log: Log
    ) -> None:
        self._endpoint = endpoint
        self._requests = requests
        self._log = log
        self._connections: Dict[ControlConnection, Task] = {}
        self._servers = [ControlServer(each, self._on_connect) for each in endpoint.sockets]

    def start(self) -> None:
        for server in self._servers:
            server.start()

    def close(self) -> None:
        """Wait a second at most for the last answers, and close everything. Idempotent."""
        for server in self._servers:
            server.close()
        deadline = time.monotonic() + _PARTING
        for task in list(self._connections.values()):
            task.wait(max(0.0, deadline - time.monotonic()))
        for connection in list(self._connections):
            connection.close()
        self._endpoint.release()

    def _on_connect(self, sock: Any, _: object) -> None:
        """In the hub: somebody has connected."""
        connection = ControlConnection(sock)
        if len(self._connections) >= MOST_CONNECTIONS and not self._make_room():
            connection.reject()
            return
        try:
            self._connections[connection] = Task(self._serve, connection)
        except MemoryError:
            self._connections.pop(connection, None)
            connection.reject()

    def _make_room(self) -> bool:
        """Disconnect the oldest client that is stalled, or else the oldest follower."""
        connections = list(self._connections)
        for connection in [
            *(each for each in connections if each.is_stalled),
            *(each for each in connections if each.is_follower),
        ]:
            self._connections.pop(connection).kill(block=False)
            connection.reject()
            return True
        return False

    def _serve(self, connection: ControlConnection) -> None:
        try:
            self._handle_request(connection)
        except Gone:
            pass
        except Exception as error:
            self._log.error("control", "a request met a bug: %r" % error)
        finally:
            connection.close()
            self._connections.pop(connection, None)

    def _handle_request(self, connection: ControlConnection) -> None:
        try:
            line = connection.read_line()
            pid, uid = connection.peer()
            if not is_trusted(uid):
                raise Refused("this is another user's pupgevent")
            fields = read_request(line)
            self._refuse_stranger(fields.pop("config", self._endpoint.held_paths))
            what = spelled(fields)
            request = self._find(fields)
            checked = check_fields(fields, request.fields)
            if request.changes:
                self._log.info("control", "%s, asked for by pid %d" % (what, pid))
                result = self._detach(request, checked, connection, what)
            else:
                result = request.act(checked, connection)
        except PupgeventError as error:
            final = {"ok": False, "error": str(error), "status": error.exit_status}
            connection.send(dict(final, errors=error.lines) if len(error.lines) > 1 else final)
        else:
            connection.send(dict({"ok": True}, **result))

    def _refuse_stranger(self, paths: object) -> None:
        if not isinstance(paths, list):
            raise Refused('"config" is not an array of strings')
        if not any(path in self._endpoint.held_paths for path in paths):
            raise NotRunningError("no pupgevent runs for that file: at its socket is the one of %s"
                                  % self._endpoint.config)

    def _find(self, fields: JsonObject) -> Request:
        command = fields.pop("command", None)
        request = self._requests.get(command) if isinstance(command, str) else None
        if request is None:
            raise Refused("%s %s" % (UNKNOWN_COMMAND, ", ".join(self._requests)))
        return request

    def _detach(
        self, request: Request, fields: JsonObject, connection: ControlConnection, what: str
    ) -> JsonObject:
        """Make the change in a greenlet of its own: it goes on without the client, who gets its
        progress for as long as he is there."""
        change = _RunningChange(request, fields, connection)

        def conclude(_: Task) -> None:
            if change.error is None:
                self._log.info("control", "%s: done" % what)
            else:
                for text in change.error.lines:
                    self._log.warning("control", "%s: %s" % (what, text))

        change.task.rawlink(conclude)
        while not change.task.ready():
            connection.flush_progress(LOOK_EVERY)
        connection.flush_progress(0)
        if change.error is not None:
            raise change.error
        return change.result


class _RunningChange:
    """A change under way; it ends by itself, whoever waits for it."""

    def __init__(self, request: Request, fields: JsonObject, connection: ControlConnection) -> None:
        self.error: Optional[PupgeventError] = None
        self.result: JsonObject = {}
        self._work = (request, fields, connection)
        self.task = Task(self._run)
        self.task.rawlink(lambda _: connection.wake())

    def _run(self) -> None:
        request, fields, connection = self._work
        try:
            self.result = request.act(fields, connection)
        except PupgeventError as error:
            self.error = error
        except Exception as error:
            self.error = PupgeventError("this met a bug: %r" % error)
            gevent.get_hub().handle_error(self, *sys.exc_info())
