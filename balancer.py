"""The balancer of one cluster: put together, and spoken to, from here.

It is told of instances in plain data (`up`, `down`, `drain`, `remove`) and knows no process. Its
parts, in the order a client meets them:

    listener.py     the common port
    admission.py    choose, connect, wait in line      strategies.py, pool.py, backends.py
    relay.py        bytes                              connections.py

All of it runs in the hub and never blocks, except `drain` and `see_off`, for which their caller
waits.
"""

import sys
import time
from collections import Counter
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import gevent
from gevent import get_hub

from admission import Admission, Patience
from backends import Pool
from connections import SWEEP_SECONDS, Connections, IdleLimits
from listener import Listener
from poller import Poller
from splicing import Pipes
from strategies import STRATEGIES

#: Seconds between two looks at what clients still have to get from instances that have ended.
_LOOK_AFTER = 0.1

#: Seconds in which none of them has taken a byte: they are not waited for any longer.
_STALLED = 5.0

#: Seconds between two warnings that memory has run out: it may meet every connection.
_WARN_EVERY = 60.0


class Settings(NamedTuple):
    """What of a cluster's configuration a balancer acts on, named as there; times in seconds."""

    strategy: str
    connect_timeout: float
    queue_timeout: float
    queue_limit: int
    #: Per backend; 0 is no limit.
    max_connections: int
    idle_timeout: float
    half_close_timeout: float


class Engine:
    """What all balancers of a process share: one poller, one set of pipes."""

    def __init__(
        self, log: "Callable[[str], Any]", clock: "Callable[[], float]" = time.monotonic
    ) -> None:
        #: Monotonic seconds: the one clock of all of it.
        self.clock = clock
        self.pipes = Pipes(clock)
        self.poller = Poller(self._failed)
        self._log = log
        #: When a lack of memory was told.
        self._warned: Optional[float] = None

    def _failed(self, handler: Any) -> None:
        """A handler raised, for lack of memory or by a bug: end its connection, keep everyone
        else's."""
        try:
            handler.fail()
        finally:
            self._tell(sys.exc_info()[1])

    def _tell(self, error: "Optional[BaseException]") -> None:
        if not isinstance(error, MemoryError):
            self._log("a connection met a bug and is ended: %r" % error)
        elif self._warned is None or self.clock() - self._warned >= _WARN_EVERY:
            self._warned = self.clock()
            self._log("memory has run out: who cannot be served without is cut off")

    def close(self) -> None:
        self.poller.close()
        self.pipes.close()


class Balancer:
    """`log(text)` takes a line for people. `intruder(name)` says who else accepts in the place of
    an instance, empty where nobody is known to; it may block."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        engine: Engine,
        log: "Callable[[str], Any]",
        intruder: "Optional[Callable[[str], str]]" = None,
    ) -> None:
        clock = engine.clock
        self.name = name
        self._settings = settings
        self._log = log
        self._clock = clock
        self._listener: Optional[Listener] = None
        self._connections = Connections(engine.poller, engine.pipes, _limits(settings), clock)
        strategy = STRATEGIES[settings.strategy]()
        self._admission = Admission(
            engine.poller, self._connections, strategy, _patience(settings), log, clock
        )
        self._pool = Pool(settings.max_connections, self._admission.serve_queue, log, clock)
        self._admission.begin(self._pool)
        self._connections.report_to(
            self._pool.release, self._admission.readmit, self._admission.has_room)
        self._retired = False
        #: Nothing of it is left.
        self.closed = False
        self._sweeper = get_hub().loop.timer(SWEEP_SECONDS, SWEEP_SECONDS)
        self._sweeper.start(self.sweep)
        if intruder is not None:
            self._pool.intruder = intruder
        self.up = self._pool.up
        self.suspect = self._pool.suspect
        self.down = self._pool.down
        self.drain = self._pool.drain
        self.remove = self._pool.remove
        #: Of an instance, by name: see backends.py.
        self.state_of = self._pool.state_of
        self.connections_of = self._pool.connections_of

    @property
    def listener(self) -> Optional[Listener]:
        """Whose turn it is to accept for it; None while its port is closed."""
        return self._listener

    @property
    def address(self) -> "Optional[Tuple[Any, ...]]":
        """Where it listens: (host, port, ...), or None."""
        return None if self._listener is None else self._listener.address

    def listen(self, host: str, port: int) -> None:
        """Open the common port; one that was open is closed only after that.

        Raises PupgeventError when it cannot be had; the old one stays open then.
        """
        self.take_over(Listener(host, port, self._admission.admit, self._log, self._clock))

    def take_over(self, listener: Listener) -> None:
        """Accept from that listener from now on; one that there was is closed only after that."""
        old, self._listener = self._listener, listener
        listener.admit = self._admission.admit
        if not listener.started:
            listener.start()
        if old is not None:
            old.drain()

    def hand_over(self) -> Listener:
        """Give the listener away, open as it is, to `take_over`; there has to be one."""
        listener, self._listener = self._listener, None
        if listener is None:
            raise ValueError("%s has no listener" % self.name)
        return listener

    def stop_listening(self) -> None:
        """Close the common port; who has got through to it is still served. Idempotent."""
        if self._listener is not None:
            self.hand_over().drain()

    def apply(self, settings: Settings) -> None:
        """Other settings for what runs; nobody's connection is touched."""
        if settings.strategy != self._settings.strategy:
            self._admission.strategy = STRATEGIES[settings.strategy]()
        self._settings = settings
        self._connections.limits = _limits(settings)
        self._admission.patience = _patience(settings)
        self._pool.limit(settings.max_connections)

    def watch(self, on_change: "Callable[[], Any]") -> None:
        """Call back, in the hub, when an instance that lives is no longer reached, or is again."""
        self._pool.on_change = on_change

    def see_off(self, seconds: float) -> None:
        """Its instances have ended: block until what they said last has got to the clients that
        take it, so long at most."""
        end = moved_at = self._clock()
        end += seconds
        before: List[Tuple[int, int]] = []
        while True:
            left, now = self._connections.undelivered(), self._clock()
            if left != before:
                before, moved_at = left, now
            if not left or now >= end or now - moved_at >= _STALLED:
                return
            gevent.sleep(_LOOK_AFTER)

    def retire(self) -> None:
        """Its instances have gone for good: take no client any more, and close by itself with the
        last connection. Idempotent."""
        self.stop_listening()
        self._pool.close()
        self._admission.send_away()
        self._retired = True

    def close(self) -> None:
        """Close everything that is open, connections too; idempotent."""
        self.closed = True
        self.stop_listening()
        self._pool.close()
        self._admission.close()
        self._sweeper.stop()
        self._sweeper.close()
        self._connections.close()

    def status(self) -> "Dict[str, Any]":
        """Counters as plain data; times in seconds."""
        admission = self._admission
        return {
            "name": self.name,
            "address": self.address,
            "strategy": self._settings.strategy,
            "accepted": admission.accepted,
            "open": len(self._connections),
            "queue": len(admission.queue),
            "queue_most": admission.queue.most,
            "turned_away": admission.turned_away,
            "backends": [backend.status() for backend in self._pool],
        }

    def sweep(self) -> None:
        """Once in SWEEP_SECONDS, by the loop: count, close what was idle for too long, see to it
        that all goes on."""
        try:
            self._connections.sweep()
            self._recount()
            self._pool.fade()
            self._pool.look_after()
            self._admission.look_after()
            if self._listener is not None:
                self._listener.look_after()
            if self._retired:
                # Who has come back from an instance that is gone waits for nobody.
                self._admission.send_away()
                if not self._connections:
                    self.close()
        except MemoryError:
            pass  # the rest of it in a second
        except Exception as error:
            self._log("the sweep met a bug: %r" % error)


    def _recount(self) -> None:
        """Each connection, and each that is being made, counts for one backend. Where memory has
        run out between the one and the other, it is counted anew: a drain waits for what counts."""
        under_way = self._admission.backends_under_way()
        if self._pool.assigned != len(self._connections) + len(under_way):
            self._pool.recount(Counter([*(each.backend for each in self._connections), *under_way]))

def _limits(settings: Settings) -> IdleLimits:
    return IdleLimits(settings.idle_timeout, settings.half_close_timeout)


def _patience(settings: Settings) -> Patience:
    return Patience(settings.connect_timeout, settings.queue_timeout, settings.queue_limit)
