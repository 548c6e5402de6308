"""All backends of one cluster, and which of them can take a client now.

Two parties change that: the supervising half, which knows processes (`up`, `down`, `drain`,
`remove`), and connecting, which may find that a living process does not answer (`failed`). A
backend that failed is probed, and is up again at the first success. One whose health checks fail
(`unhealthy`), or whose answers do (`bench`), is not probed before that is over: a process that
hangs accepts, too.
"""

from typing import Callable, Dict, Iterator, Mapping, Optional, Tuple

import gevent

from backends import ABSENT, DOWN, DRAINING, UP, Backend, Counters, Times, counters_of
from histograms import Histogram, merged
from sockets import tcp_check

#: Seconds between two probes of a backend that is down though its process lives.
PROBE_EVERY = 0.5

#: Seconds that a probe may take.
PROBE_TIMEOUT = 2.0


class PoolOwner:
    """What a pool tells and asks of whoever keeps it."""

    def warn(self, text: str) -> None:
        """A line for people."""
        raise NotImplementedError

    def on_available(self) -> None:
        """Somebody can take a client who could not before."""
        raise NotImplementedError

    def on_ramping(self, ramps: bool) -> None:
        """Not all of them get their full share yet, or all do again."""

    def on_reach_changed(self) -> None:
        """A backend whose process lives has gone down, or has come up again."""
        raise NotImplementedError

    def intruder(self, name: str) -> str:
        """Who else accepts in the place of that instance; empty where nobody is known to. May block
        the calling greenlet."""
        raise NotImplementedError


class Pool:
    """All of them; at most `max_connections` each, 0 is no limit. `clock` is monotonic seconds."""

    def __init__(
        self, max_connections: int, clock: "Callable[[], float]", owner: PoolOwner,
        slow_start: float = 0.0,
    ) -> None:
        #: 0 is no limit, which none that is taken can have.
        self.most_open = max_connections
        self._clock = clock
        self._owner = owner
        self._backends: Dict[str, Backend] = {}
        #: What those have counted that were removed.
        self._removed = Backend("", clock)
        #: Those that can take a client now, in a fixed order; kept ready, since every client asks.
        self.available: Tuple[Backend, ...] = ()
        #: Seconds; see `Backend.slow_start`.
        self._slow_start = slow_start
        #: Some do not get their full share yet.
        self._ramps = False
        #: `available` is not what it should be: there was no memory for it.
        self._stale = False

    def __iter__(self) -> "Iterator[Backend]":
        return iter(self._backends.values())

    def get(self, name: str) -> Optional[Backend]:
        return self._backends.get(name)

    def state_of(self, name: str) -> str:
        """Of an instance; ABSENT where it was never up."""
        backend = self._backends.get(name)
        return ABSENT if backend is None else backend.state

    @property
    def drains(self) -> bool:
        """One of them is about to stop, and its place is free again soon."""
        return any(backend.state == DRAINING for backend in self)

    # Told of processes

    def up(self, name: str, host: str, port: int) -> None:
        """An instance accepts there: it gets clients from now on."""
        backend = self._backends.get(name)
        if backend is None:
            backend = self._backends[name] = Backend(name, self._clock)
        backend.move_to(host, port)
        backend.unhealthy = None
        backend.benched_until = 0.0
        self._bring_up(backend, "started")

    def down(self, name: str) -> None:
        """An instance is gone: it gets no client from now on. Unknown names are all right."""
        backend = self._backends.get(name)
        if backend is not None and backend.state != ABSENT:
            backend.become(ABSENT, "stopped" if backend.state == DRAINING else "exited")
            self.refresh()

    def suspect(self, name: str, reason: str) -> None:
        """Somebody else accepts on its port: it gets no client until a probe finds the instance
        there again. The caller has logged it."""
        backend = self._backends.get(name)
        if backend is not None:
            self._keep_down(backend, reason)

    def _keep_down(self, backend: Backend, reason: str) -> None:
        """Take it down for that reason, or know it for the one of which it stays so."""
        if backend.state == UP:
            self._take_down(backend, reason)
        elif backend.state == DOWN:
            backend.reason = reason

    def unhealthy(self, name: str, reason: Optional[str]) -> None:
        """Its health checks fail: it gets no client until they pass (None). The caller has logged
        it."""
        backend = self._backends.get(name)
        if backend is None or backend.unhealthy == reason:
            return
        backend.unhealthy = reason
        if reason is not None:
            self._keep_down(backend, "health: " + reason)

    def bench(self, backend: Backend, seconds: float, reason: str) -> None:
        """Its answers fail: it gets no client for so many seconds. Not where half of those that
        take clients are out for that already."""
        now = self._clock()
        benched = sum(each.state == DOWN and each.benched_until > now for each in self)
        up = sum(each.state == UP for each in self)
        if backend.state == UP and benched < (up + benched) // 2:
            backend.benched_until = now + seconds
            self._owner.warn("%s is out of rotation for %g s: %s" % (
                backend.name, seconds, reason))
            self._take_down(backend, reason)

    def unbench(self) -> None:
        """Answers count no longer: the next probe decides."""
        for backend in self:
            backend.benched_until = 0.0

    def drain(self, name: str, seconds: float) -> None:
        """No new clients; returns when the last connection has ended, or after `seconds`."""
        backend = self._backends.get(name)
        if backend is not None and backend.state != ABSENT:
            backend.become(DRAINING, "stopping")
            self.refresh()
            backend.when_empty().wait(seconds)

    def connections_of(self, name: str) -> int:
        """How many it has, those that are being connected included."""
        backend = self._backends.get(name)
        return 0 if backend is None else backend.open

    def remove(self, name: str) -> None:
        """An instance will not come back: forget it."""
        backend = self._backends.pop(name, None)
        if backend is not None:
            self._keep_counters(backend)
            backend.become(ABSENT, "removed")
            self.refresh()

    def decay(self) -> None:
        """Once a second: old measurements approach what is measured elsewhere."""
        measured = {each: each.ttfb for each in self if each.ttfb is not None}
        total = sum(measured.values())
        for backend in self:
            others = len(measured) - (backend in measured)
            if others:
                backend.decay((total - measured.get(backend, 0.0)) / others)

    def maintain(self) -> None:
        """Once a second: what could not be done when memory had run out is done now."""
        if self._stale:
            self.refresh()
        for backend in self:
            backend.tell_when_empty()
            if backend.state == DOWN and not backend.probe:
                backend.probe = gevent.spawn(self._probe, backend, backend.changed_at)

        if self._ramps and not self._has_fresh:
            self._set_ramps(False)

    @property
    def _has_fresh(self) -> bool:
        """Somebody who takes clients does not get his full share yet."""
        return any(each.state == UP and each.weight < 1.0 for each in self)

    def limit(self, max_connections: int, slow_start: float) -> None:
        """Another number of connections per backend, 0 is no limit; another time until one that
        has come up gets its full share, 0 is none."""
        self.most_open = max_connections
        self._slow_start = slow_start
        for backend in self:
            # Who has its full share keeps it.
            backend.slow_start = min(backend.slow_start, slow_start)
        self._set_ramps(self._has_fresh)
        self.refresh()

    def close_idle(self) -> None:
        """Close the connections that are kept for the next requests."""
        for backend in self:
            backend.close_idle()

    def _set_ramps(self, ramps: bool) -> None:
        self._ramps = ramps
        self._owner.on_ramping(ramps)

    def close(self) -> None:
        """Take all of them out; ends the probes."""
        for backend in self:
            backend.become(ABSENT, "closed")
        self.refresh()

    # Told of connections

    def take(self, backend: Backend) -> None:
        """A client is assigned: it counts from here, before the connect."""
        backend.open += 1
        if backend.open == self.most_open:
            self.refresh()

    def release(self, backend: Backend) -> None:
        """An assigned client has gone, or is tried elsewhere."""
        backend.open -= 1
        if backend.emptied is not None or self.most_open:
            self.released(backend)

    def released(self, backend: Backend) -> None:
        """Somebody may wait for just that."""
        backend.tell_when_empty()
        if backend.open == self.most_open - 1:
            self.refresh()

    def refresh(self) -> None:
        """Who can take a client has changed."""
        self._stale = True
        limit = self.most_open
        try:
            self.available = tuple(
                backend
                for backend in self
                if backend.state == UP and (not limit or backend.open < limit)
            )
            if self.available:
                self._owner.on_available()
            self._stale = False
        except MemoryError:
            pass  # `maintain` tries again

    def counters(self) -> Counters:
        """Of all that there ever were: they do not fall when one is removed."""
        return counters_of([self._removed, *self])

    def times(self) -> Times:
        """The same for how long things took."""
        every = [self._removed, *self]
        return Times(merged(each.connect_times for each in every),
                     merged(each.first_byte_times for each in every),
                     self.request_times())

    def request_times(self) -> Histogram:
        return merged(each.request_times for each in [self._removed, *self])

    def _keep_counters(self, gone: Backend) -> None:
        kept = self._removed
        for name, value in counters_of([kept, gone])._asdict().items():
            setattr(kept, name, value)
        kept.add_times_of(gone)

    @property
    def assigned(self) -> int:
        """To all of them."""
        return sum(backend.open for backend in self)

    def recount(self, assigned: "Mapping[Backend, int]") -> None:
        """How many each has in truth."""
        for backend in self:
            backend.open = assigned.get(backend, 0)
        self.refresh()

    def failed(self, backend: Backend, reason: str, began: float) -> None:
        """It did not take a connection though it should: no clients until a probe succeeds. An
        attempt that `began` before it last came up says nothing about now."""
        backend.connect_errors += 1
        if backend.state == UP and began >= backend.changed_at:
            self._take_down(backend, reason)
            self._owner.warn("%s is down: %s" % (backend.name, reason))

    def _take_down(self, backend: Backend, reason: str) -> None:
        backend.become(DOWN, reason)
        backend.downs += 1
        self.refresh()
        backend.probe = gevent.spawn(self._probe, backend, backend.changed_at)
        self._owner.on_reach_changed()

    def _probe(self, backend: Backend, since: float) -> None:
        try:
            self._wait_for_answer(backend, since)
        except MemoryError:
            pass  # `maintain` begins with it again

    def _wait_for_answer(self, backend: Backend, since: float) -> None:
        while True:
            gevent.sleep(PROBE_EVERY)
            if backend.state != DOWN or backend.changed_at != since:
                return
            if backend.unhealthy is not None or self._clock() < backend.benched_until:
                continue
            if self._may_come_up(backend, since):
                self._bring_up(backend, "answers again")
                self._owner.warn("%s is up again" % backend.name)
                self._owner.on_reach_changed()
                return

    def _may_come_up(self, backend: Backend, since: float) -> bool:
        """Asked last what may have changed while it was probed."""
        return (self._answers(backend) and backend.changed_at == since
                and backend.unhealthy is None)

    def _answers(self, backend: Backend) -> bool:
        host, port = backend.address
        try:
            return tcp_check(host, port, PROBE_TIMEOUT) and not self._owner.intruder(backend.name)
        except OSError:
            return False

    def _bring_up(self, backend: Backend, reason: str) -> None:
        backend.reset_stats()
        backend.failures = 0
        backend.slow_start = self._slow_start
        backend.become(UP, reason)
        if self._slow_start and not self._ramps:
            self._set_ramps(True)
        self.refresh()
