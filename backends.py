"""The instances of one cluster as its balancer sees them, and how it connects to one.

A `Backend` is where an instance is, whether it takes clients, and what it has done. The `Pool` is
all of them, and knows which can take a client now. Two parties change that: the supervising half,
which knows processes (`up`, `down`, `drain`, `remove`), and connecting, which may find that a
living process does not answer (`failed`). A backend that failed is probed, and is up again at the
first success.
"""

import _socket
import errno
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple

import gevent
from gevent.event import Event

from histograms import Histogram
from relay import STREAM, RelaySocket
from sockets import SHORTAGES, is_self_connected, may_self_connect, tcp_check
from status_report import BackendStatus
from strategies import Candidate

#: Weight of the newest sample in a smoothed time: about the last ten count.
_NEWEST = 0.2

#: What is left of a smoothed time for each second without a sample, down to what is usual. One
#: that was slow once and is shunned for it gets another chance in some ten seconds.
_DECAY = 0.9

#: No process is there, or none that accepts yet.
ABSENT = "absent"
#: It takes clients.
UP = "up"
#: Its process lives, but it refused or timed out; it is being probed.
DOWN = "down"
#: It keeps the connections it has and gets no new ones.
DRAINING = "draining"

#: errno values of a connect that is done. One that is reset already was connected: the instance
#: took it. The relay finds out.
CONNECTED = (0, errno.EISCONN, errno.ECONNRESET)

#: Those of one that is not decided yet.
UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY)

#: Shortages of ours, and no fault of the backend: the client waits in the queue and is tried again.
#: EADDRNOTAVAIL is a lack of local ports, which run out for each address by itself (connect(2),
#: ip(7)).
OUR_SHORTAGES = (*SHORTAGES, errno.EADDRNOTAVAIL, errno.EAGAIN)

#: Seconds between two probes of a backend that is down though its process lives.
PROBE_EVERY = 0.5

#: Seconds that a probe may take.
PROBE_TIMEOUT = 2.0


class Backend(Candidate):
    """One of a cluster's; `clock` is monotonic seconds."""

    __slots__ = (
        "address", "bytes_in", "bytes_out", "changed_at", "clock", "connect_errors",
        "connect_time", "connect_times", "downs", "draining", "emptied", "family",
        "first_byte_times", "may_self_connect", "name",
        "open", "probe", "reason", "retries", "sampled", "state", "total",
        "ttfb",
    )  # fmt: skip

    def __init__(self, name: str, clock: "Callable[[], float]") -> None:
        self.name = name
        self.clock = clock
        self.address = ("", 0)
        self.family = _socket.AF_INET
        self.may_self_connect = False
        self.state = ABSENT
        #: True while its instance stops, or is gone: it keeps its connections, except unused ones.
        self.draining = True
        self.changed_at = clock()
        self.reason = "not started"
        #: Connections assigned now, and relayed since the beginning.
        self.open = 0
        self.total = 0
        #: Bytes from clients and to clients.
        self.bytes_in = 0
        self.bytes_out = 0
        #: Connects that failed, and clients for whom another backend was looked for because of it.
        self.connect_errors = 0
        self.retries = 0
        #: Smoothed seconds; None before the first sample.
        self.connect_time: Optional[float] = None
        self.ttfb: Optional[float] = None
        #: Of all of its processes, while the smoothed ones are of the one that runs.
        self.connect_times = Histogram()
        self.first_byte_times = Histogram()
        #: How often it was found not to answer though its process lived.
        self.downs = 0
        self.sampled = False
        #: Set while no connection is open; made when someone waits for it.
        self.emptied: Optional[Event] = None
        #: The greenlet that probes it, or did last.
        self.probe: Any = None

    def move_to(self, host: str, port: int) -> None:
        self.address = (host, port)
        self.family = _socket.AF_INET6 if ":" in host else _socket.AF_INET
        self.may_self_connect = may_self_connect(port)

    def become(self, state: str, reason: str) -> None:
        """Change between taking clients and not; `reason` is for the people who ask why."""
        self.state = state
        self.draining = state in (DRAINING, ABSENT)
        self.reason = reason
        self.changed_at = self.clock()

    @property
    def takes_clients(self) -> bool:
        return self.state == UP

    def reset_stats(self) -> None:
        """Forget what was measured of the process before."""
        self.connect_time = None
        self.ttfb = None

    def add_connect_time(self, seconds: float) -> None:
        self.connect_time = _smooth(self.connect_time, seconds)
        self.connect_times.add(seconds)

    def add_ttfb(self, seconds: float) -> None:
        self.ttfb = _smooth(self.ttfb, seconds)
        self.first_byte_times.add(seconds)
        self.sampled = True

    def decay(self, usual: float) -> None:
        """Once a second: let an old measurement lose its weight, down to what is usual among the
        others. Below that, one that never answers would look better than all who do."""
        if not self.sampled and self.ttfb is not None and self.ttfb > usual:
            self.ttfb = max(usual, self.ttfb * _DECAY)
        self.sampled = False

    def when_empty(self) -> Event:
        """An event that is set once its last connection has ended."""
        if self.emptied is None:
            self.emptied = Event()
        if not self.open:
            self.emptied.set()
        return self.emptied

    def take(self) -> None:
        """A connection is assigned."""
        self.open += 1
        if self.emptied is not None:
            self.emptied.clear()

    def release(self) -> None:
        """An assigned connection has ended."""
        self.open -= 1
        self.tell_when_empty()

    def tell_when_empty(self) -> None:
        """Wake who waits for the last connection to sock, if it has. Idempotent."""
        if not self.open and self.emptied is not None:
            self.emptied.set()

    def status(self) -> BackendStatus:
        return BackendStatus(
            state=self.state,
            reason=self.reason,
            since=self.clock() - self.changed_at,
            open=self.open,
            total=self.total,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            connect_errors=self.connect_errors,
            retries=self.retries,
            downs=self.downs,
            connect_time=self.connect_time,
            first_byte_time=self.ttfb,
        )


def _smooth(old: "Optional[float]", new: float) -> float:
    return new if old is None else old + _NEWEST * (new - old)


def open_upstream(backend: Backend, ceiling: int) -> "Optional[RelaySocket]":
    """A socket to connect with; None when its descriptor is one that is left alone. OSError."""
    sock = RelaySocket(backend.family, STREAM, 0)
    if sock.fileno() < ceiling:
        return sock
    sock.close()
    return None


def start_connect(sock: RelaySocket, backend: Backend) -> int:
    """Begin to connect; an errno value, of CONNECTED where it is done already."""
    code = sock.connect_ex(backend.address)
    return connect_state(sock, backend) if code == errno.EINPROGRESS else code


def connect_state(sock: RelaySocket, backend: Backend) -> int:
    """How it stands: to call connect again tells (connect(2), EALREADY, EISCONN)."""
    code = sock.connect_ex(backend.address)
    if backend.may_self_connect and code in CONNECTED and is_self_connected(sock):
        return errno.ECONNREFUSED
    return code


class PoolOwner:
    """What a pool tells and asks of whoever keeps it."""

    def warn(self, text: str) -> None:
        """A line for people."""
        raise NotImplementedError

    def on_available(self) -> None:
        """Somebody can take a client who could not before."""
        raise NotImplementedError

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
        self, max_connections: int, clock: "Callable[[], float]", owner: PoolOwner
    ) -> None:
        self._limit = max_connections
        self._clock = clock
        self._owner = owner
        self._backends: Dict[str, Backend] = {}
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
        """Somebody else accepts on its port: it gets no client until a probe finds the instance
        there again. The caller has logged it."""
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

    def decay(self) -> None:
        """Once a second: old measurements approach what is measured elsewhere."""
        times = {each: each.ttfb for each in self if each.ttfb is not None}
        for backend in self:
            others = [time for each, time in times.items() if each is not backend]
            if others:
                backend.decay(sum(others) / len(others))

    def maintain(self) -> None:
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
            self._owner.warn("%s is down: %s" % (backend.name, reason))

    def _take_down(self, backend: Backend, reason: str) -> None:
        backend.become(DOWN, reason)
        backend.downs += 1
        self._refresh()
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
            if self._answers(backend) and backend.changed_at == since:
                self._bring_up(backend, "answers again")
                self._owner.warn("%s is up again" % backend.name)
                self._owner.on_reach_changed()
                return

    def _answers(self, backend: Backend) -> bool:
        host, port = backend.address
        try:
            return tcp_check(host, port, PROBE_TIMEOUT) and not self._owner.intruder(backend.name)
        except OSError:
            return False

    def _bring_up(self, backend: Backend, reason: str) -> None:
        backend.reset_stats()
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
                self._owner.on_available()
            self._stale = False
        except MemoryError:
            pass  # `maintain` tries again
