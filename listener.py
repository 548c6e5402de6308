"""The common port: a gevent StreamServer that hands each client over and keeps nothing.

It runs in the hub, without a greenlet (`spawn=None`): `admit` must not block, and the socket
belongs to whoever it is handed to, so nothing here closes it.
"""

import _socket
import errno
import os
from typing import Any, Callable, Optional

import gevent
import gevent.socket
from gevent.server import StreamServer

from errors import PupgeventError
from sockets import SHORTAGES, ceiling, keep_alive

#: Seconds that accepting rests when descriptors have run out, before the next look.
_REST = 0.1

#: The other reason.
_NO_MEMORY = "memory has run out"

#: Seconds between two warnings of such a rest: it may come and go many times a second.
_WARN_EVERY = 60.0

#: The longest queue of connections not yet accepted, where the system does not say its own.
_BACKLOG = 4096

#: Clients taken in before those who are connected have their turn.
ACCEPTS_A_TURN = 64


class PortTaken(PupgeventError):
    """Somebody else has the port."""


class Listener(StreamServer):
    """Accepts on one address and calls `admit(fileno, client_address)` for each client."""

    def __init__(
        self,
        host: str,
        port: int,
        admit: "Callable[[int, str], Any]",
        warn: "Callable[[str], Any]",
        clock: "Callable[[], float]",
        beside: "Optional[Listener]" = None,
    ) -> None:
        """Binds at once. Raises PupgeventError when the port cannot be had.

        `beside` is one of ours on the same port, at another address that overlaps with this one.
        """
        #: May be exchanged: a port passes to another cluster with its listener.
        self.admit = admit
        self._warn = warn
        self._clock = clock
        self._warned: Optional[float] = None
        # Made now: when it is needed, memory may be what there is none of.
        self._rest = gevent.get_hub().loop.timer(_REST, _REST)
        self._ceiling = ceiling()
        super().__init__(_bind(host, port, beside), spawn=None)

    def do_read(self) -> None:
        """StreamServer's call: someone waits. Handing over here saves its detour per client.

        Nothing leaves it but what ends the listener: StreamServer would need memory to go on.
        """
        try:
            for _ in range(ACCEPTS_A_TURN):
                if not self._take_one():
                    return
        except MemoryError:
            self._take_a_rest(_NO_MEMORY)

    def look_after(self) -> None:
        """Once a second: accept again if that has stopped without a reason."""
        stopped = self._watcher is None or not self._watcher.active
        if self.started and stopped and not self._rest.active:
            self._accept_again()

    def handle(self, *args: Any) -> None:
        """StreamServer's own way to hand over; `do_read` has done it already."""

    def drain(self) -> None:
        """Close the port, and hand over those who had got through to it before."""
        if self.started:
            # They are no more than the backlog; who comes after them comes too late.
            for _ in range(_longest_backlog()):
                if not self._take_one():
                    break
        self.close()

    def _take_one(self) -> bool:
        """Hand over who waits longest; false when nobody does, or a rest is due."""
        try:
            fileno, address = self.socket._accept()
        except BlockingIOError:
            return False
        except OSError as error:
            return self._accept_failed(error)
        try:
            self.admit(fileno, address[0])
        except MemoryError:
            self._take_a_rest(_NO_MEMORY)
            return False
        except Exception as error:
            # Anything that left here would stop the accepting.
            self._warn("a client met a bug and is turned away: %r" % error)
        if fileno >= self._ceiling:
            self._take_a_rest("few file descriptors are left" + self._limit())
            return False
        return True

    def _accept_failed(self, error: OSError) -> bool:
        if error.errno in SHORTAGES:
            self._take_a_rest(os.strerror(error.errno).lower() + self._limit())
            return False
        if error.errno in self.fatal_errors:
            raise error
        # That client has gone between the handshake and now (accept(2)): the next one.
        return True

    def _limit(self) -> str:
        return " (limit %d)" % self._ceiling

    def close(self) -> None:
        self._rest.stop()
        self._rest.close()
        super().close()

    def _take_a_rest(self, reason: str) -> None:
        if self._rest.active:
            return
        self._rest.start(self._wake)
        self.stop_accepting()
        now = self._clock()
        if self._warned is None or now - self._warned >= _WARN_EVERY:
            self._warned = now
            self._warn("accepting pauses: %s" % reason)

    def _wake(self) -> None:
        """Where this fails it comes again: only then does the rest end."""
        if _next_descriptor() < self._ceiling:
            if self.started:
                self._accept_again()
            self._rest.stop()

    def _accept_again(self) -> None:
        self.stop_accepting()
        self.start_accepting()


def _bind(host: str, port: int, beside: "Optional[Listener]") -> "gevent.socket.socket":
    try:
        return _open(host, port, beside)
    except OSError as error:
        kind = PortTaken if error.errno == errno.EADDRINUSE else PupgeventError
        raise kind(
            "cannot listen on %s port %d: %s" % (host, port, os.strerror(error.errno or 0).lower())
        ) from None


def _open(host: str, port: int, beside: "Optional[Listener]") -> "gevent.socket.socket":
    family = gevent.socket.AF_INET6 if ":" in host else gevent.socket.AF_INET
    socket = gevent.socket.socket(family, gevent.socket.SOCK_STREAM)
    try:
        socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if beside is not None:
            for each in (beside.socket, socket):
                each.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEPORT, 1)
        if family == gevent.socket.AF_INET6:
            # `::` takes IPv4 too, whatever net.ipv6.bindv6only says.
            socket.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 0)
        _inherited_options(socket)
        socket.bind((host, port))
        socket.listen(_longest_backlog())
        socket.setblocking(False)
    except OSError:
        socket.close()
        raise
    return socket


def _inherited_options(socket: Any) -> None:
    """Set on the listener, these are inherited by what it accepts: no system call per client."""
    socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    keep_alive(socket)


def _longest_backlog() -> int:
    try:
        with open("/proc/sys/net/core/somaxconn") as file:
            return int(file.read())
    except (OSError, ValueError):
        return _BACKLOG


def _next_descriptor() -> int:
    """The number the next descriptor would get; a very high one when there is none."""
    try:
        number = os.dup(2)
    except OSError:
        return 1 << 30
    os.close(number)
    return number
