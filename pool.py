"""The backends of one cluster, and which of them can take a client now.

Two parties change that: the supervisor, which knows processes (`up`, `down`, `drain`, `remove`),
and connecting, which may find that a living process does not answer (`failed`). A backend that
failed is probed, and is up again at the first success.
"""

from typing import Any, Callable, Dict, Iterator, Mapping, Tuple

import gevent

from backends import ABSENT, DOWN, DRAINING, UP, Backend
from reaching import accepts

#: Seconds between two probes of a backend that is down though its process lives.
PROBE_EVERY = 0.5

#: Seconds that a probe may take.
PROBE_TIMEOUT = 2.0


class Pool:
    """`on_available()` is called when there is someone who can take a client and was not before;
    `log(text)` takes a line for people, `clock` is monotonic seconds."""

    def __init__(
        self,
        max_connections: int,
        on_available: "Callable[[], Any]",
        log: "Callable[[str], Any]",
        clock: "Callable[[], float]",
    ) -> None:
        self._limit = max_connections
        self._clock = clock
        self._on_available = on_available
        self._log = log
        self._backends: Dict[str, Backend] = {}
        #: Called when a backend whose process lives has gone down or come up again.
        self.on_change: Callable[[], Any] = _nobody_asks
        #: Who else accepts in the place of a backend, by its name; may block the greenlet.
        self.intruder: Callable[[str], str] = lambda name: ""
        #: Those that can take a client now, in a fixed order; kept ready, since every client asks.
        self.available: Tuple[Backend, ...] = ()
        #: `available` is not what it should be: there was no memory for it.
        self._stale = False

    def __iter__(self) -> "Iterator[Backend]":
        return iter(self._backends.values())

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
        self._bring_up(backend, "started")

    def down(self, name: str) -> None:
        """An instance is gone: it gets no client from now on. Unknown names are all right."""
        backend = self._backends.get(name)
        if backend is not None and backend.state != ABSENT:
            backend.become(ABSENT, "stopped" if backend.state == DRAINING else "exited")
            self._refresh()

    def suspect(self, name: str, reason: str) -> None:
        """Somebody else accepts in its place: no clients until a probe finds itself there. Whoever
        tells it here has told it to people."""
        backend = self._backends.get(name)
        if backend is not None and backend.state == UP:
            self._take_down(backend, reason)
        elif backend is not None and backend.state == DOWN:
            backend.reason = reason

    def drain(self, name: str, seconds: float) -> None:
        """No new clients; returns when the last connection has ended, or after `seconds`."""
        backend = self._backends.get(name)
        if backend is not None and backend.state != ABSENT:
            backend.become(DRAINING, "stopping")
            self._refresh()
            backend.when_empty().wait(seconds)

    def connections_of(self, name: str) -> int:
        """How many it has, those that are being connected included."""
        backend = self._backends.get(name)
        return 0 if backend is None else backend.open

    def remove(self, name: str) -> None:
        """An instance will not come back: forget it and its counters."""
        backend = self._backends.pop(name, None)
        if backend is not None:
            backend.become(ABSENT, "removed")
            self._refresh()

    def fade(self) -> None:
        """Once a second: old measurements approach what is measured elsewhere."""
        times = {each: each.first_byte for each in self if each.first_byte is not None}
        for backend in self:
            others = [time for each, time in times.items() if each is not backend]
            if others:
                backend.fade(sum(others) / len(others))

    def look_after(self) -> None:
        """Once a second: what could not be done when memory had run out is done now."""
        if self._stale:
            self._refresh()
        for backend in self:
            backend.tell_when_empty()
            if backend.state == DOWN and not backend.probe:
                backend.probe = gevent.spawn(self._probe, backend, backend.changed_at)

    def limit(self, max_connections: int) -> None:
        """Another number of connections per backend; 0 is no limit."""
        self._limit = max_connections
        self._refresh()

    def close(self) -> None:
        """Take all of them out; ends the probes."""
        for backend in self:
            backend.become(ABSENT, "closed")
        self._refresh()

    # Told of connections

    def take(self, backend: Backend) -> None:
        """A client is assigned: it counts from here, before the connect."""
        backend.take()
        if self._limit and backend.open == self._limit:
            self._refresh()

    def release(self, backend: Backend) -> None:
        """An assigned client has gone, or is tried elsewhere."""
        backend.release()
        if self._limit and backend.open == self._limit - 1:
            self._refresh()

    @property
    def assigned(self) -> int:
        """To all of them."""
        return sum(backend.open for backend in self)

    def recount(self, assigned: "Mapping[Backend, int]") -> None:
        """How many each has in truth."""
        for backend in self:
            backend.open = assigned.get(backend, 0)
        self._refresh()

    def failed(self, backend: Backend, reason: str, began: float) -> None:
        """It did not take a connection though it should: no clients until a probe succeeds. An
        attempt that `began` before it last came up says nothing about now."""
        backend.connect_errors += 1
        if backend.state == UP and began >= backend.changed_at:
            self._take_down(backend, reason)
            self._log("%s is down: %s" % (backend.name, reason))

    def _take_down(self, backend: Backend, reason: str) -> None:
        backend.become(DOWN, reason)
        self._refresh()
        backend.probe = gevent.spawn(self._probe, backend, backend.changed_at)
        self.on_change()

    def _probe(self, backend: Backend, since: float) -> None:
        try:
            self._wait_for_answer(backend, since)
        except MemoryError:
            pass  # `look_after` begins with it again

    def _wait_for_answer(self, backend: Backend, since: float) -> None:
        while True:
            gevent.sleep(PROBE_EVERY)
            if backend.state != DOWN or backend.changed_at != since:
                return
            if self._answers(backend) and backend.changed_at == since:
                self._bring_up(backend, "answers again")
                self._log("%s is up again" % backend.name)
                self.on_change()
                return

    def _answers(self, backend: Backend) -> bool:
        host, port = backend.address
        try:
            return accepts(host, port, PROBE_TIMEOUT) and not self.intruder(backend.name)
        except OSError:
            return False

    def _bring_up(self, backend: Backend, reason: str) -> None:
        backend.start_anew()
        backend.become(UP, reason)
        self._refresh()

    def _refresh(self) -> None:
        self._stale = True
        limit = self._limit
        try:
            self.available = tuple(
                backend
                for backend in self
                if backend.state == UP and (not limit or backend.open < limit)
            )
            if self.available:
                self._on_available()
            self._stale = False
        except MemoryError:
            pass  # `look_after` tries again


def _nobody_asks() -> None:
    pass
