"""The last moments of a client that may still send: it is read out, so that it gets its answer.

Who closes a socket on which something arrives that nobody reads resets it, and a reset drops the
answer that is on its way. So a client that has been answered early (the rest of an upload that was
refused comes yet) is told the end, and what it sends is dropped for a while (RFC 9112, 9.6; NGINX's
lingering_close).
"""

import _socket
from typing import Any, Callable

from http_heads import HEAD_BYTES
from poller import Handler, Poller
from relay import READS_A_TURN, STREAM
from wait_queue import WaitQueue

#: Seconds without a byte after which it is closed, and seconds in all (NGINX: lingering_timeout,
#: lingering_time).
LINGER_SECONDS, _MOST_SECONDS = 5.0, 30.0


class LingeringClient(_socket.socket, Handler):
    """One of them, in `queue` until it has ended its side."""

    __slots__ = ("began", "clock", "poller", "queue", "since", "wants_writable")

    def start(
        self, poller: Poller, queue: "WaitQueue[Any]", clock: "Callable[[], float]"
    ) -> None:
        """Called once, in place of a constructor."""
        self.poller = poller
        self.queue = queue
        self.clock = clock
        self.began = self.since = clock()
        self.wants_writable = False
        poller.replace_handler(self.fileno(), self)
        queue.add(self)
        try:
            self.shutdown(_socket.SHUT_WR)
        except OSError:
            self.end()
        else:
            poller.call_soon(self)

    def on_event(self, mask: int) -> None:
        self.on_turn()

    def on_turn(self) -> None:
        """Drop what has come."""
        if self.fileno() < 0:
            return
        try:
            for _ in range(READS_A_TURN):
                if not self.recv(HEAD_BYTES):
                    self.end()
                    return
                self._goes_on()
        except BlockingIOError:
            return
        except OSError:
            self.end()
            return
        self.poller.call_soon(self)

    def _goes_on(self) -> None:
        """It has sent something."""
        now = self.clock()
        if now < self.began + _MOST_SECONDS - LINGER_SECONDS:
            self.since = now
            self.queue.move_to_end(self)

    def fail(self) -> None:
        self.end()

    def end(self) -> None:
        """Idempotent."""
        self.queue.remove(self)
        if self.fileno() >= 0:
            self.poller.forget(self.fileno())
            self.close()


def linger(
    sock: Any, poller: Poller, queue: "WaitQueue[Any]", clock: "Callable[[], float]"
) -> None:
    """Let a socket that has been answered linger; it is another object from now on. OSError,
    MemoryError: it is closed."""
    family, number = sock.family, sock.detach()
    try:
        client = LingeringClient(family, STREAM, 0, number)
    except Exception:
        poller.forget(number)
        _socket.close(number)
        raise
    try:
        client.start(poller, queue, clock)
    except Exception:
        queue.remove(client)
        poller.forget(number)
        client.close()
        raise
