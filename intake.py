"""Clients on their way from the listener to a front, while something is still to be read of them.

    listener.py --> admit --> a header of the PROXY protocol, a handshake of TLS --> the front

Each kind of intake derives from this: it says what is done at an event, and what at the end of the
time. No greenlet and no timer for each: who came first expires first.
"""

import _socket
import os
from typing import Any, Callable, List, Optional

from gevent import get_hub

from listener import Admitter
from poller import ENDING, Handler, Poller
from proxy_protocol import Announced
from relay import STREAM
from sockets import WarningLimiter, family_of
from wait_queue import WaitQueue

#: Seconds between two looks whose time is over; runs only while somebody is waited for.
_EXPIRE_EVERY = 0.1


class Newcomer(_socket.socket, Handler):
    """One of them."""

    __slots__ = ("address", "announced", "intake", "is_ending", "since", "tls")

    wants_writable = False
    intake: "Intake"
    #: Its client's, or that of a proxy in front.
    address: str
    #: What a proxy in front has said of it.
    announced: "Optional[Announced]"
    #: When it came; monotonic seconds.
    since: float
    #: It was told that nothing more comes.
    is_ending: bool
    #: Its session, once there is one.
    tls: Any

    def on_event(self, mask: int) -> None:
        if mask & ENDING:
            self.is_ending = True
        self.intake.on_arrival(self)

    def on_turn(self) -> None:
        self.intake.on_turn(self)

    def fail(self) -> None:
        """A handler raised."""
        self.intake.drop(self)


class Intake(Admitter):
    """See the module. `clock` is monotonic seconds, `log(text)` takes a line for people."""

    def __init__(
        self, name: str, poller: Poller, log: "Callable[[str], Any]", clock: "Callable[[], float]"
    ) -> None:
        """`name` is the process's."""
        #: Connections that did not come through.
        self.turned_away = 0
        #: Those that are waited for, in the order in which they came.
        self.waiting: WaitQueue[Any] = WaitQueue()
        self.name = name
        self.front = Admitter()
        #: How long one may take.
        self.seconds = 0.0
        self.poller = poller
        self.log = log
        self.clock = clock
        self.warnings = WarningLimiter(log, clock)
        self._timer = get_hub().loop.timer(_EXPIRE_EVERY, _EXPIRE_EVERY)

    def take_in(self, fileno: int, address: str, announced: "Optional[Announced]") -> None:
        """Take an accepted connection."""
        try:
            newcomer = Newcomer(family_of(address), STREAM, 0, fileno)
        except Exception:
            os.close(fileno)
            raise
        try:
            newcomer.setblocking(False)
            newcomer.intake, newcomer.address, newcomer.announced = self, address, announced
            newcomer.since = self.clock()
            newcomer.is_ending = False
            newcomer.tls = None
            if not self.is_through(newcomer):
                self._wait_for(newcomer)
        except OSError as error:
            # The kernel has no room for one more watch (epoll_ctl(2), ENOSPC).
            self.turned_away += 1
            self.drop(newcomer)
            self.warnings.warn("clients are turned away: %s" % os.strerror(error.errno or 0))
        except Exception:
            self.drop(newcomer)
            raise

    def _wait_for(self, newcomer: Newcomer) -> None:
        self.waiting.add(newcomer)
        if not self._timer.active:
            self._timer.start(self._expire)
        self.poller.watch(newcomer.fileno(), newcomer)

    def hand_over(
        self, newcomer: Newcomer, key: str, announced: "Optional[Announced]", tls: Any = None
    ) -> None:
        """To the front, with what `admit` is to be told. It watches it in its turn, or closes it.
        """
        self.waiting.remove(newcomer)
        fileno = newcomer.detach()
        try:
            self.front.admit(fileno, key, announced, tls)
        finally:
            if self.poller.is_watched(newcomer, fileno):
                self.poller.forget(fileno)

    def drop(self, newcomer: Newcomer) -> None:
        """Idempotent."""
        self.waiting.remove(newcomer)
        self.poller.forget(newcomer.fileno())
        newcomer.close()

    def _expire(self) -> None:
        """Whose time is over? Runs while anyone waits."""
        try:
            for newcomer in self.waiting.waiting_since(self.clock() - self.seconds):
                self.waiting.remove(newcomer)
                self.on_late(newcomer)
        except MemoryError:
            pass  # the next look goes on with it
        except Exception as error:
            self.log("waiting for clients met a bug: %r" % error)
        if not self.waiting:
            self._timer.stop()

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

    # What each kind makes of it

    def is_through(self, newcomer: Newcomer) -> bool:
        """It has just come: need it not be waited for, since it is through already, or gone?"""
        return False

    def on_arrival(self, newcomer: Newcomer) -> None:
        """Something has arrived, or has ended."""
        raise NotImplementedError

    def on_turn(self, newcomer: Newcomer) -> None:
        """Its turn, for which it has asked."""

    def on_late(self, newcomer: Newcomer) -> None:
        """Its time is over; it is waited for no longer."""
        raise NotImplementedError
