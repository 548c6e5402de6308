"""A server that gets one line of each client, answers with one line and closes, within limits.

HAProxy's agent-check (its manual, "agent-check") asks that way, for each server once a second. It
is a limited server (limited_server.py); besides, what clients send has its time and its size.
"""

import time
from typing import Any, Callable, Optional

import gevent

from limited_server import LimitedConnection, LimitedServer

#: Connections at a time.
MOST_CONNECTIONS = 256

#: Bytes of a line: an id has 64 at most.
MOST_BYTES = 256

#: Seconds for a line to come, and for its answer to be taken.
TIMEOUT = 2.0


class _Connection(LimitedConnection):
    def _run(self) -> None:
        try:
            with gevent.Timeout(TIMEOUT, False):
                line = _line(self.socket)
                if line is not None:
                    self.socket.sendall(self.server.answer_to(line, self.address))
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


class AgentServer(LimitedServer):
    """Serves what waits at a listening socket. `respond(line, address)` gives the answer to a line
    without its end; it must not block."""

    #: Accepted before others have their turn.
    max_accept = 16

    connection_class = _Connection
    most_connections = MOST_CONNECTIONS
    #: As measured: at most a thousand are served in a second.
    connection_cost = 0.0002

    def __init__(self, listener: Any, respond: "Callable[[str, str], str]") -> None:
        self._respond = respond
        super().__init__(listener)

    def answer_to(self, line: bytes, address: Any) -> bytes:
        """In the greenlet of a connection."""
        began = time.monotonic()
        text = line.decode("utf-8", "backslashreplace").strip()
        try:
            return (self._respond(text, str(address[0])) + "\n").encode()
        finally:
            self._bucket.delay_after(began, time.monotonic())
