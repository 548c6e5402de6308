"""A server that gets one line of each client, answers with one line and closes, within limits.

HAProxy's agent-check (its manual, "agent-check") asks that way, for each server once a second. What
clients may do is bounded as in web_server.py: how many there are, how long they take, how much they
send, and the share of the hub's time that all of them together have.
"""

import collections
import time
from typing import Any, Callable, Optional

import gevent

from concurrency import TokenBucket
from hub_server import HubServer
from sockets import SHORTAGES, few, upstream_ceiling

#: Connections at a time, and where descriptors are few, such a part of them; the oldest makes room.
MOST_CONNECTIONS, _PART = 256, 16

#: Bytes of a line: an id has 64 at most.
MOST_BYTES = 256

#: Seconds for a line to come, and for its answer to be taken.
TIMEOUT = 2.0

#: Seconds of the hub for a connection besides its answer, as measured: so at most a thousand are
#: served in a second.
_CONNECTION_COST = 0.0002

#: Seconds that accepting rests when the share is used up.
_PAUSE = 0.02

#: Seconds between two looks whether it accepts: so long at most it rests when descriptors or memory
#: have run out.
_LOOK_AFTER = 0.5


class _Connection(gevent.Greenlet):
    """Serves one client."""

    def __init__(self, server: "AgentServer", sock: Any, address: Any) -> None:
        super().__init__()
        self.socket = sock
        self._about = (server, address)

    def _run(self) -> None:
        server, address = self._about
        try:
            with gevent.Timeout(TIMEOUT, False):
                line = _line(self.socket)
                if line is not None:
                    self.socket.sendall(server.answer_to(line, address))
        except (OSError, MemoryError):
            pass  # it has gone


def _line(sock: Any) -> Optional[bytes]:
    """What was sent up to the end of the line, or of the stream; None where that is too long."""
    data = b""
    while b"\n" not in data:
        if len(data) > MOST_BYTES:
            return None
        more = sock.recv(MOST_BYTES)
        if not more:
            break
        data += more
    line = data.partition(b"\n")[0]
    return line if len(line) <= MOST_BYTES else None


class AgentServer(HubServer):
    """Serves what waits at a listening socket. `respond(line, address)` gives the answer to a line
    without its end; it must not block."""

    #: Accepted before others have their turn.
    max_accept = 16

    def __init__(self, listener: Any, respond: "Callable[[str, str], str]") -> None:
        self._respond = respond
        self._bucket = TokenBucket()
        self._most = few(MOST_CONNECTIONS, _PART)
        self._ceiling = upstream_ceiling()
        #: The greenlets of the open connections, the oldest first.
        self._open: Any = collections.OrderedDict()
        # Made now, as HubServer's.
        self._pause = gevent.get_hub().loop.timer(_PAUSE, _PAUSE)
        super().__init__(listener, None, _LOOK_AFTER)

    def start(self) -> None:
        super().start()
        self.timer.start(self._look_after)

    def close(self) -> None:
        """Stop accepting, and disconnect everybody. Idempotent."""
        self._pause.stop()
        self._pause.close()
        super().close()
        gevent.killall(list(self._open), block=False)

    def answer_to(self, line: bytes, address: Any) -> bytes:
        """In the greenlet of a connection."""
        began = time.monotonic()
        text = line.decode("utf-8", "backslashreplace").strip()
        try:
            return (self._respond(text, str(address[0])) + "\n").encode()
        finally:
            self._bucket.delay_after(began, time.monotonic())

    # In the hub: nothing may leave these, or accepting ends with a traceback

    def do_read(self) -> Any:
        try:
            found = super().do_read()
        except (OSError, MemoryError) as error:
            if not isinstance(error, OSError) or error.errno in SHORTAGES:
                self._rest_for_long()
            return None
        if found and found[0].fileno() >= self._ceiling:
            # Others need what is left more.
            found[0].close()
            self._rest_for_long()
            return None
        return found

    def handle(self, sock: Any, address: Any) -> None:
        """A client has been accepted."""
        try:
            while len(self._open) >= self._most:
                self._open.popitem(last=False)[0].kill(block=False)
            connection = _Connection(self, sock, address)
            self._open[connection] = None
            connection.rawlink(self._on_end)
            connection.start()
        except MemoryError:
            sock.close()
            self._rest_for_long()
            return
        now = time.monotonic()
        if self._bucket.delay_after(now - _CONNECTION_COST, now):
            self.stop_accepting()
            self._pause.start(self._look_after)

    def _on_end(self, connection: _Connection) -> None:
        self._open.pop(connection, None)
        connection.socket.close()

    def _rest_for_long(self) -> None:
        """Who comes now waits."""
        self.stop_accepting()
        self._pause.stop()

    def _look_after(self) -> None:
        """Accept again, whatever has ended it."""
        try:
            if self.has_stopped_accepting:
                self.accept_again()
            self._pause.stop()
        except MemoryError:
            pass  # the timers come again
