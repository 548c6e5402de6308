"""The connection of a command to a running pupgevent: one request, and what is answered.

Plain blocking sockets, no loop: a command is there at once. control_protocol.py tells what is said.
"""

import io
import json
import os
import select
import socket
import sys
import time
from typing import Any, Callable, Iterator, List, Optional, Sequence

import configuration
import control_socket
import documents
import finding
import paths
from control_protocol import JsonObject, Reply, checked
from errors import ConfigurationError, NotRunningError, PupgeventError

#: Seconds to be heard: by a pupgevent that is busy with something, or by a stopped one.
ANSWER_TIMEOUT = 10.0

#: Seconds until a request is made again that was turned away since too many were connected.
_BUSY_PAUSE = 0.1

Handler = Callable[[JsonObject], None]


class Failed(PupgeventError):
    """The answer of the one that runs, with the exit code that it gave."""

    def __init__(self, text: str, exit_status: int, lines: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.exit_status = exit_status
        self._lines = lines

    @property
    def lines(self) -> List[str]:
        return [str(PupgeventError(line)) for line in self._lines] or [str(self)]


class ControlClient:
    """A connection to the pupgevent that runs a configuration file."""

    def __init__(self, config: str) -> None:
        """Raises NotRunningError, or what is wrong with the file if that is why."""
        found = finding.reach(config, _named_socket(config), ANSWER_TIMEOUT)
        if found is None:
            configuration.load(config)
            raise NotRunningError("no pupgevent runs for %s" % config)
        #: Whose pupgevent has answered, "user app, pid 4711"; None where it is our own.
        self.whose = found.whose and "user %s, pid %d" % (found.whose, found.peer.pid)
        self._socket = found.connection
        self._file = found.connection.makefile("rb")
        self._config = control_socket.known_paths(config)

    def ask(self, request: JsonObject, timeout: "Optional[float]") -> "Iterator[JsonObject]":
        """Everything that is answered, the last line included; raises PupgeventError.

        `timeout` is seconds between two lines, None waits for as long as it takes. Who follows
        gets a BrokenPipeError as soon as nobody reads our stdout any more.
        """
        lines = io.BufferedReader(_Followed(self._socket)) if request.get("follow") else self._file
        self._socket.settimeout(timeout)
        try:
            full = dict(request, config=self._config)
            self._socket.sendall(json.dumps(full).encode() + b"\n")
        except OSError:
            pass  # it has closed already: why is in what it has sent
        try:
            for line in lines:
                yield checked(json.loads(line.decode()), self.whose is None)
        except socket.timeout:
            raise PupgeventError("pupgevent does not answer") from None
        except BrokenPipeError:
            raise  # of stdout: from the connection we only read
        except (OSError, ValueError, RecursionError):
            return

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class _Followed(io.RawIOBase):
    """What comes from a socket, for as long as somebody reads our stdout."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        # No event is asked for: what is told is only that the other end of a pipe, or of a
        # terminal, has gone.
        poll.register(sys.stdout, 0)
        if sys.stdout.fileno() in dict(poll.poll()):
            raise BrokenPipeError
        return self._socket.recv_into(buffer)


def call(
    config: str, request: JsonObject, handle: Handler, timeout: "Optional[float]" = ANSWER_TIMEOUT
) -> JsonObject:
    """The last line of the answer; `handle` gets those before. Raises PupgeventError."""
    deadline = time.monotonic() + ANSWER_TIMEOUT
    while True:
        final = _call_once(config, request, handle, timeout)
        if not final.get("busy") or time.monotonic() > deadline:
            break
        time.sleep(_BUSY_PAUSE)
    if not final["ok"]:
        raise Failed(final["error"], final["status"], final.get("errors", ()))
    return final


def _call_once(
    config: str, request: JsonObject, handle: Handler, timeout: "Optional[float]"
) -> JsonObject:
    client = ControlClient(config)
    try:
        for reply in client.ask(request, timeout):
            if "ok" in reply:
                return Reply(reply, whose=client.whose)
            handle(reply)
    finally:
        client.close()
    raise PupgeventError("pupgevent ended before it answered")


def _named_socket(config: str) -> "Optional[str]":
    """`control.socket` of the file, as far as the file can be read: a command has to reach what
    runs also while somebody works on the file."""
    try:
        values = documents.read(config).values
    except ConfigurationError:
        return None
    control = values.get("control") if isinstance(values, dict) else None
    path = control.get("socket") if isinstance(control, dict) else None
    if not isinstance(path, str) or not path:
        return None
    try:
        return os.path.join(os.path.dirname(paths.absolute(config)), path)
    except OSError:
        return None


def tell_whose(final: JsonObject) -> None:
    """Root reaches everybody's, and anybody may run any file that he can read."""
    if final["whose"] is not None:
        sys.stderr.write("pupgevent: the answer is that of %s\n" % final["whose"])


def ignore(reply: JsonObject) -> None:
    """A handler for what has no lines before the last."""
