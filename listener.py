"""The common port: a gevent StreamServer that hands each client over and keeps nothing.

It runs in the hub, without a greenlet (`spawn=None`): `admit` must not block, and the socket
belongs to whoever it is handed to, so nothing here closes it.
"""

import errno
import os
from typing import Any, Callable, Optional

import gevent.socket

from errors import PupgeventError
from hub_server import HubServer
from proxy_protocol import Announced
from sockets import SHORTAGES, WarningLimiter, client_ceiling, listen, longest_backlog

#: Seconds that accepting pauses when descriptors have run out, before the next look.
_PAUSE = 0.1

#: The other reason.
_NO_MEMORY = "memory has run out"

#: Clients taken in before those who are connected have their turn.
ACCEPTS_A_TURN = 64


class PortTaken(PupgeventError):
    """Somebody else has the port."""


class Admitter:
    """Whom a listener hands its clients to. This one is there before there is a balancer."""

    def admit(
        self, fileno: int, key: str, announced: "Optional[Announced]" = None, tls: Any = None
    ) -> None:
        """Take an accepted connection, known by its client's address; in the hub, must not block.
        From now on the descriptor is its own. `announced` is what a proxy in front has said of
        it, `tls` its session (tls_session.py) where TLS ends here."""
        os.close(fileno)


class Listener(HubServer):
    """Accepts on one address, once it has been told for whom: `serve`."""

    def __init__(
        self, host: str, port: int, warn: "Callable[[str], Any]", clock: "Callable[[], float]",
        beside: "Optional[Listener]" = None,
    ) -> None:  # fmt: skip
        """Binds at once. Raises PupgeventError when the port cannot be had.

        `beside` is one of ours on the same port, at another address that overlaps with this one.
        """
        self._admitter = Admitter()
        self._warn = warn
        self._warnings = WarningLimiter(warn, clock)
        self._ceiling = client_ceiling()
        #: Clients to take in the next turn.
        self._most = 1
        super().__init__(_bind(host, port, beside), None, _PAUSE)

    def serve(self, admitter: Admitter) -> None:
        """Hand the clients to that one from now on: a port may pass to another cluster."""
        self._admitter = admitter
        if not self.started:
            self.start()

    def do_read(self) -> None:
        """StreamServer's call: someone waits. Handing over here saves its detour per client.

        To find that nobody waits any more costs an exception, and who is left is told of again. So
        it takes as many as there were before, and twice as many where that has not been all.

        Nothing leaves it but what ends the listener: StreamServer would need memory to go on.
        """
        try:
            for taken in range(self._most):
                if not self._take_one():
                    self._most = taken or 1
                    return
            self._most = min(ACCEPTS_A_TURN, 2 * self._most)
        except MemoryError:
            self._pause(_NO_MEMORY)

    def maintain(self) -> None:
        """Once a second: accept again if that has stopped without a reason."""
        if self.has_stopped_accepting and not self.timer.active:
            self.accept_again()

    def handle(self, *args: Any) -> None:
        """StreamServer's own way to hand over; `do_read` has done it already."""

    def drain(self) -> None:
        """Close the port, and hand over those who had got through to it before."""
        if self.started:
            # They are no more than the backlog; who comes after them comes too late.
            for _ in range(longest_backlog()):
                if not self._take_one():
                    break
        self.close()

    def _take_one(self) -> bool:
        """Hand over who waits longest; false when nobody does, or a pause is due."""
        try:
            fileno, address = self.socket._accept()
        except BlockingIOError:
            return False
        except OSError as error:
            return self._accept_failed(error)
        try:
            self._admitter.admit(fileno, address[0])
        except MemoryError:
            self._pause(_NO_MEMORY)
            return False
        except Exception as error:
            # Anything that left here would stop the accepting.
            self._warn("a client met a bug and is turned away: %r" % error)
        if fileno >= self._ceiling:
            self._pause("few file descriptors are left" + self._limit())
            return False
        return True

    def _accept_failed(self, error: OSError) -> bool:
        if error.errno in SHORTAGES:
            self._pause(os.strerror(error.errno).lower() + self._limit())
            return False
        if error.errno in self.fatal_errors:
            raise error
        # That client has gone between the handshake and now (accept(2)): the next one.
        return True

    def _limit(self) -> str:
        return " (limit %d)" % self._ceiling

    def _pause(self, reason: str) -> None:
        if self.timer.active:
            return
        self.timer.start(self._resume)
        self.stop_accepting()
        self._warnings.warn("accepting pauses: %s" % reason)

    def _resume(self) -> None:
        """Where this fails the timer comes again: only behind it does the pause end."""
        if _next_descriptor() < self._ceiling:
            if self.started:
                self.accept_again()
            self.timer.stop()


def _bind(host: str, port: int, beside: "Optional[Listener]") -> "gevent.socket.socket":
    try:
        return listen(host, port, None if beside is None else beside.socket)
    except OSError as error:
        kind = PortTaken if error.errno == errno.EADDRINUSE else PupgeventError
        raise kind(
            "cannot listen on %s port %d: %s" % (host, port, os.strerror(error.errno or 0).lower())
        ) from None


def _next_descriptor() -> int:
    """The number the next descriptor would get; a very high one when there is none."""
    try:
        number = os.dup(2)
    except OSError:
        return 1 << 30
    os.close(number)
    return number
