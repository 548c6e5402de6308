"""The instances of one cluster as its balancer sees them, and how it connects to one.

A `Backend` is where an instance is, whether it takes clients, and what it has done. pool.py has all
of a cluster, and says which can take a client now.
"""

import _socket
import errno
from operator import attrgetter
from typing import Any, Callable, List, NamedTuple, Optional, Sequence

from gevent.event import Event

from histograms import Histogram, merged
from sockets import SHORTAGES, family_of, is_self_connected, may_self_connect
from status_report import ANSWER_CLASSES, Answers, BackendHttp, BackendStatus, RequestTimes
from strategies import Candidate

#: Weight of the newest sample in a smoothed time: about the last ten count.
_NEWEST = 0.2

#: So many samples make a smoothed time: what was before counts for less than a thousandth.
_SAMPLES = 32

#: Times that wait at most to be counted.
MOST_TIMES = 1000

#: What is left of a smoothed time for each second without a sample, down to what is usual. One
#: that was slow once and is shunned for it gets another chance in some ten seconds.
_DECAY = 0.9

#: The weight of a backend that has just come up, where it starts slowly.
LEAST_WEIGHT = 0.05

#: No process is there, or none that accepts yet.
ABSENT = "absent"
#: It takes clients.
UP = "up"
#: Its process lives, but it refused or timed out, and is being probed; or its health checks fail,
#: or what it answers does.
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


class KeptConnection:
    """A connection to an instance that waits for its next request."""

    __slots__ = ()

    def close_kept(self) -> None:
        """It is in no list any more."""
        raise NotImplementedError


class Backend(Candidate):
    """One of a cluster's; `clock` is monotonic seconds."""

    __slots__ = (
        "_first_byte_times", "_request_times", "_ttfb", "address", "answers", "benched_until",
        "bytes_in", "bytes_out", "changed_at", "clock", "connect_errors", "connect_time",
        "connect_times", "downs", "draining", "emptied", "failures", "family", "idle", "lost",
        "may_self_connect", "name", "open", "probe", "reason", "retries", "sampled", "slow_start",
        "state", "times", "total", "unhealthy",
    )  # fmt: skip

    def __init__(self, name: str, clock: "Callable[[], float]") -> None:
        self.name = name
        self.clock = clock
        self.address, self.family, self.may_self_connect = ("", 0), _socket.AF_INET, False
        self.state = ABSENT
        #: True while its instance stops, or is gone: it keeps its connections, except unused ones.
        self.draining = True
        self.changed_at, self.reason = clock(), "not started"
        #: Connections assigned now, and relayed since the beginning.
        self.open = self.total = 0
        #: Bytes from clients and to clients.
        self.bytes_in = self.bytes_out = 0
        #: Connects that failed, and clients for whom another backend was looked for because of it.
        self.connect_errors = self.retries = 0
        #: Smoothed seconds; None before the first sample.
        self.connect_time: Optional[float] = None
        self._ttfb: Optional[float] = None
        #: Of all of its processes, while the smoothed ones are of the one that runs.
        self.connect_times = Histogram()
        self._first_byte_times = Histogram()
        #: With http: its answers from 1xx to 5xx, and the times from a request's first byte until
        #: its answer has ended.
        self.answers = [0] * len(ANSWER_CLASSES)
        #: Requests of which it has ended the connection, and that nobody else could answer.
        self.lost = 0
        self._request_times = Histogram()
        #: Seconds of its last requests whose answer came at once, first byte and last: counted
        #: together, which costs each less. Whoever adds to them sees to MOST_TIMES.
        self.times: List[float] = []
        #: With http: connections to it on which nothing is under way, the one used last at the end.
        self.idle: List[KeptConnection] = []
        #: How often it went down though its process lived.
        self.downs, self.sampled = 0, False
        #: Set while no connection is open; made when someone waits for it.
        self.emptied: Optional[Event] = None
        #: Why its health checks fail; None: they do not.
        self.unhealthy: Optional[str] = None
        #: So many of its answers in a row have failed; until then it is out of rotation for that.
        self.failures, self.benched_until = 0, 0.0
        #: Seconds from when it comes up until it gets its full share.
        self.slow_start = 0.0
        #: The greenlet that probes it, or did last.
        self.probe: Any = None

    def move_to(self, host: str, port: int) -> None:
        self.address = (host, port)
        self.family = family_of(host)
        self.may_self_connect = may_self_connect(port)

    def become(self, state: str, reason: str) -> None:
        """Change between taking clients and not; `reason` is for the people who ask why."""
        self.state = state
        self.draining = state in (DRAINING, ABSENT)
        self.reason = reason
        self.changed_at = self.clock()
        self.close_idle()
        # Whoever is to come back to the list that was there leads to a process that is gone.
        self.idle = []
        if state == UP and self.emptied is not None:
            self.emptied.set()
            self.emptied = None

    def close_idle(self, keep: int = 0) -> None:
        """Close the connections to it that are kept, all but so many."""
        while len(self.idle) > keep:
            self.idle.pop(0).close_kept()

    @property
    def takes_clients(self) -> bool:
        return self.state == UP

    def reset_stats(self) -> None:
        """Forget what was measured of the process before."""
        self.count_times()
        self.connect_time = None
        self._ttfb = None

    def add_connect_time(self, seconds: float) -> None:
        self.connect_time = _smooth(self.connect_time, seconds)
        self.connect_times.add(seconds)

    def add_ttfb(self, seconds: float) -> None:
        self._ttfb = _smooth(self._ttfb, seconds)
        self._first_byte_times.add(seconds)
        self.sampled = True

    def add_times(self, first_byte: float, whole: float) -> None:
        """With http: an answer has ended, so many seconds after its request."""
        self.add_ttfb(first_byte)
        self._request_times.add(whole)

    def count_times(self) -> None:
        """Take up what `times` has."""
        times, self.times = self.times, []
        if times:
            self.sampled = True
            for seconds in times[-_SAMPLES:]:
                self._ttfb = _smooth(self._ttfb, seconds)
            times.sort()
            self._first_byte_times.add_all(times)
            self._request_times.add_all(times)

    def add_times_of(self, gone: "Backend") -> None:
        """What another one has measured."""
        self.connect_times = merged([self.connect_times, gone.connect_times])
        self._first_byte_times = merged([self.first_byte_times, gone.first_byte_times])
        self._request_times = merged([self.request_times, gone.request_times])

    @property
    def ttfb(self) -> "Optional[float]":  # type: ignore[override]
        """Smoothed seconds to the first byte; None before the first sample."""
        if self.times:
            self.count_times()
        return self._ttfb

    @property
    def weight(self) -> float:  # type: ignore[override]
        """The part of a full share that it gets, above 0."""
        if not self.slow_start:
            return 1.0
        return min(1.0, max(LEAST_WEIGHT, (self.clock() - self.changed_at) / self.slow_start))

    @property
    def first_byte_times(self) -> Histogram:
        self.count_times()
        return self._first_byte_times

    @property
    def request_times(self) -> Histogram:
        self.count_times()
        return self._request_times

    def decay(self, usual: float) -> None:
        """Once a second: let an old measurement lose its weight, down to what is usual among the
        others. Below that, one that never answers would look better than all who do."""
        ttfb = self.ttfb
        if not self.sampled and ttfb is not None and ttfb > usual:
            self._ttfb = max(usual, ttfb * _DECAY)
        self.sampled = False

    def when_empty(self) -> Event:
        """An event that is set once its last connection has ended."""
        if self.emptied is None:
            self.emptied = Event()
        self.tell_when_empty()
        return self.emptied

    def tell_when_empty(self) -> None:
        """Wake who waits for the last connection to sock, if it has. Idempotent."""
        if not self.open and self.emptied is not None:
            self.emptied.set()

    def status(self, with_http: bool = False) -> BackendStatus:
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
            http=self._http_status() if with_http else None,
        )

    def _http_status(self) -> BackendHttp:
        return BackendHttp(
            answers=Answers(*self.answers),
            request_times=request_times_of(self.request_times),
            idle=len(self.idle),
        )


class Times(NamedTuple):
    """How long it took to connect, from a client's first byte to the answer's, and, with http, from
    a request's first byte until its answer had ended."""

    connect: Histogram
    first_byte: Histogram
    request: Histogram


def times_of(backend: Backend) -> Times:
    return Times(backend.connect_times, backend.first_byte_times, backend.request_times)


def request_times_of(histogram: Histogram) -> RequestTimes:
    return RequestTimes(histogram.sum, tuple(histogram.counts))


class Counters(NamedTuple):
    """What several backends have counted together."""

    total: int
    bytes_in: int
    bytes_out: int
    connect_errors: int
    retries: int
    lost: int
    #: By class.
    answers: List[int]


def counters_of(backends: Sequence[Backend]) -> Counters:
    """Of at least one."""
    *numbers, _ = Counters._fields
    sums = [sum(map(attrgetter(name), backends)) for name in numbers]
    answers = list(map(sum, zip(*(each.answers for each in backends))))
    return Counters._make([*sums, answers])


def _smooth(old: "Optional[float]", new: float) -> float:
    return new if old is None else old + _NEWEST * (new - old)


def start_connect(sock: Any, backend: Backend) -> int:
    """Begin to connect; an errno value, of CONNECTED where it is done already."""
    code = sock.connect_ex(backend.address)
    return connect_state(sock, backend) if code == errno.EINPROGRESS else code


def connect_state(sock: Any, backend: Backend) -> int:
    """How it stands: to call connect again tells (connect(2), EALREADY, EISCONN)."""
    code = sock.connect_ex(backend.address)
    if backend.may_self_connect and code in CONNECTED and is_self_connected(sock):
        return errno.ECONNREFUSED
    return int(code)
