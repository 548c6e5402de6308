"""Clients of proxies in front: what the PROXY protocol says of each is read before anything else.

    listener.py --> admit --> the header, if its peer is among those that are believed --> the front

Only the header itself is taken from the socket: whatever is behind it is left for the front. Most
often it has come by the time at which its connection is accepted, and the whole way is one call.

With tcp who is believed has to send a header, since what comes without one may be meant for the
application. With http it may: no request begins like one, and many proxies say who their clients
are in `X-Forwarded-For` alone.
"""

import _socket
import os
from functools import lru_cache
from typing import Any, Callable, List, Optional, Tuple

from gevent import get_hub

from http_forwarding import is_among
from listener import Admitter
from model import Network
from poller import ENDING, Handler, Poller
from proxy_protocol import MOST_BYTES, Announced, Header, Malformed, NoHeader, read_header
from relay import STREAM
from sockets import WarningLimiter
from wait_queue import WaitQueue

#: Seconds between two looks whose time is over; runs only while a header is waited for.
_EXPIRE_EVERY = 0.1


class Newcomer(_socket.socket, Handler):
    """A connection of which the header is not there yet."""

    __slots__ = ("address", "intake", "is_watched", "since")

    wants_writable = False
    intake: "ProxyIntake"
    #: Its peer's, which is that of the proxy.
    address: str
    #: When it came; monotonic seconds.
    since: float
    #: The poller tells of it.
    is_watched: bool

    def on_event(self, mask: int) -> None:
        self.intake.look(self, bool(mask & ENDING))

    def fail(self) -> None:
        """A handler raised."""
        self.intake.drop(self)


class ProxyIntake(Admitter):
    """See the module. `clock` is monotonic seconds, `log(text)` takes a line for people."""

    def __init__(
        self, name: str, poller: Poller, log: "Callable[[str], Any]", clock: "Callable[[], float]"
    ) -> None:
        """`name` is the process's."""
        #: Connections without a header that could be believed.
        self.turned_away = 0
        #: Those whose header is waited for, in the order in which they came.
        self.waiting: WaitQueue[Any] = WaitQueue()
        self._name = name
        self._front = Admitter()
        self._is_required = True
        self._seconds = 0.0
        self._believes: Callable[[str], bool] = lambda address: False
        self._poller = poller
        self._log = log
        self._clock = clock
        self._warnings = WarningLimiter(log, clock)
        self._timer = get_hub().loop.timer(_EXPIRE_EVERY, _EXPIRE_EVERY)

    def before(
        self, front: Admitter, networks: "Optional[Tuple[Network, ...]]", is_required: bool,
        seconds: float,
    ) -> Admitter:
        """To whom a listener hands its clients from now on, so that they come to `front`.

        `networks` are those that are believed; a header may take so many seconds to come.
        """
        self._front, self._is_required, self._seconds = front, is_required, seconds
        believed = networks or ()
        self._believes = lru_cache(maxsize=4096)(lambda address: is_among(address, believed))
        return self if believed else front

    def admit(self, fileno: int, key: str, announced: "Optional[Announced]" = None) -> None:
        """As the front does, for which the client's address is then the one that was announced."""
        if not self._believes(key):
            self._front.admit(fileno, key)
            return
        try:
            family = _socket.AF_INET6 if ":" in key else _socket.AF_INET
            newcomer = Newcomer(family, STREAM, 0, fileno)
        except Exception:
            os.close(fileno)
            raise
        try:
            newcomer.setblocking(False)
            newcomer.intake, newcomer.address = self, key
            newcomer.since = self._clock()
            newcomer.is_watched = False
            self.look(newcomer, False)
            if newcomer.fileno() >= 0:
                self._wait_for(newcomer)
        except OSError as error:
            # The kernel has no room for one more watch (epoll_ctl(2), ENOSPC).
            self.turned_away += 1
            self.drop(newcomer)
            self._warnings.warn("clients are turned away: %s" % os.strerror(error.errno or 0))
        except Exception:
            self.drop(newcomer)
            raise

    def _wait_for(self, newcomer: Newcomer) -> None:
        self.waiting.add(newcomer)
        if not self._timer.active:
            self._timer.start(self._expire)
        newcomer.is_watched = True
        self._poller.watch(newcomer.fileno(), newcomer)

    def look(self, newcomer: Newcomer, is_ending: bool) -> None:
        """Take its header, if it is there; `is_ending`: nothing more comes."""
        try:
            data = newcomer.recv(MOST_BYTES, _socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.drop(newcomer)  # it has left, as a port scan or a simple health check does
            return
        try:
            header = read_header(data)
        except NoHeader as error:
            if self._is_required:
                self._refuse(newcomer, error)
            else:
                self._pass_on(newcomer, Header(0, None))
        except Malformed as error:
            self._refuse(newcomer, error)
        else:
            if header is not None:
                newcomer.recv(header.size)
                self._pass_on(newcomer, header)
            elif is_ending:
                self._refuse(newcomer, Malformed("a part of one"))

    def _pass_on(self, newcomer: Newcomer, header: Header) -> None:
        """To the front, where it begins as any client does."""
        self._forget(newcomer)
        address, announced = newcomer.address, header.announced
        number = newcomer.detach()
        self._front.admit(number, announced.source if announced else address, announced)

    def _refuse(self, newcomer: Newcomer, error: Malformed) -> None:
        self.turned_away += 1
        self._warnings.warn("%s: %s, of acceptProxyFrom, sends no valid PROXY header: %s" % (
            self._name, newcomer.address, error))
        self.drop(newcomer)

    def drop(self, newcomer: Newcomer) -> None:
        """Idempotent."""
        self._forget(newcomer)
        newcomer.close()

    def _forget(self, newcomer: Newcomer) -> None:
        self.waiting.remove(newcomer)
        number = newcomer.fileno()
        if number >= 0 and newcomer.is_watched:
            newcomer.is_watched = False
            self._poller.unwatch(number)

    def _expire(self) -> None:
        """Whose time is over? Runs while anyone waits."""
        try:
            for newcomer in self.waiting.waiting_since(self._clock() - self._seconds):
                self._time_out(newcomer)
        except MemoryError:
            pass  # the next look goes on with it
        except Exception as error:
            self._log("waiting for a PROXY header met a bug: %r" % error)
        if not self.waiting:
            self._timer.stop()

    def _time_out(self, newcomer: Newcomer) -> None:
        """Of http one that has not said a word may wait for its first request."""
        self.waiting.remove(newcomer)
        try:
            said = newcomer.recv(1, _socket.MSG_PEEK)
        except BlockingIOError:
            said = b""
        except OSError:
            self.drop(newcomer)
            return
        if said or self._is_required:
            self._refuse(newcomer, Malformed("none within %g s" % self._seconds))
        else:
            self._pass_on(newcomer, Header(0, None))

    def send_away(self) -> None:
        """All who wait."""
        newcomers: List[Newcomer] = list(self.waiting)
        for newcomer in newcomers:
            self.drop(newcomer)

    def close(self) -> None:
        """Idempotent."""
        self._timer.stop()
        self._timer.close()
        self.send_away()
