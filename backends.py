"""The instances of one cluster as its balancer sees them, and how it connects to one.

A `Backend` is where an instance is, whether it takes clients, and what it has done. pool.py has all
of a cluster, and says which can take a client now.
"""

import _socket
import errno
from operator import attrgetter
from typing import Any, Callable, NamedTuple, Optional, Sequence

from gevent.event import Event

from histograms import Histogram
from relay import STREAM, RelaySocket
from sockets import SHORTAGES, is_self_connected, may_self_connect
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


class Times(NamedTuple):
    """How long it took to connect, and from a client's first byte to the answer's."""

    connect: Histogram
    first_byte: Histogram


def times_of(backend: Backend) -> Times:
    return Times(backend.connect_times, backend.first_byte_times)


class Counters(NamedTuple):
    """What several backends have counted together."""

    total: int
    bytes_in: int
    bytes_out: int
    connect_errors: int
    retries: int


def counters_of(backends: Sequence[Backend]) -> Counters:
    return Counters(*(sum(map(attrgetter(name), backends)) for name in Counters._fields))


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
