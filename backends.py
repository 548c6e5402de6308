"""An instance as the balancer sees it: where it is, whether it takes clients, what it has done."""

import _socket
from typing import Any, Callable, Dict, Optional

from gevent.event import Event

from reaching import can_meet_itself

#: Weight of the newest sample in a smoothed time: about the last ten count.
_NEWEST = 0.2

#: What is left of a smoothed time for each second without a sample, down to what is usual. One
#: that was slow once and is shunned for it gets another chance in some ten seconds.
_FADING = 0.9

#: No process is there, or none that accepts yet.
ABSENT = "absent"
#: It takes clients.
UP = "up"
#: Its process lives, but it refused or timed out; it is being probed.
DOWN = "down"
#: It keeps the connections it has and gets no new ones.
DRAINING = "draining"


class Backend:
    """One of a cluster's. `open`, `first_byte` and `name` are what strategies read; `clock` is
    monotonic seconds."""

    __slots__ = (
        "address", "bytes_in", "bytes_out", "changed_at", "clock", "connect_errors",
        "connect_time", "draining", "emptied", "family", "first_byte", "meets_itself", "name",
        "open", "probe", "reason", "retries", "sampled", "state", "total",
    )  # fmt: skip

    def __init__(self, name: str, clock: "Callable[[], float]") -> None:
        self.name = name
        self.clock = clock
        self.address = ("", 0)
        self.family = _socket.AF_INET
        self.meets_itself = False
        self.state = ABSENT
        #: It is about to stop, or was told to: it keeps what it has, bar what it has no use for.
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
        self.first_byte: Optional[float] = None
        self.sampled = False
        #: Set while no connection is open; made when someone waits for it.
        self.emptied: Optional[Event] = None
        #: The greenlet that probes it, or did last.
        self.probe: Any = None

    def move_to(self, host: str, port: int) -> None:
        self.address = (host, port)
        self.family = _socket.AF_INET6 if ":" in host else _socket.AF_INET
        self.meets_itself = can_meet_itself(port)

    def become(self, state: str, reason: str) -> None:
        """Change between taking clients and not; `reason` is for the people who ask why."""
        self.state = state
        self.draining = state in (DRAINING, ABSENT)
        self.reason = reason
        self.changed_at = self.clock()

    @property
    def takes_clients(self) -> bool:
        return self.state == UP

    def start_anew(self) -> None:
        """Forget what was measured of the process before."""
        self.connect_time = None
        self.first_byte = None

    def connected_after(self, seconds: float) -> None:
        self.connect_time = _smooth(self.connect_time, seconds)

    def first_byte_after(self, seconds: float) -> None:
        self.first_byte = _smooth(self.first_byte, seconds)
        self.sampled = True

    def fade(self, usual: float) -> None:
        """Once a second: let an old measurement lose its weight, down to what is usual among the
        others. Below that, one that never answers would look better than all who do."""
        if not self.sampled and self.first_byte is not None and self.first_byte > usual:
            self.first_byte = max(usual, self.first_byte * _FADING)
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
        """Wake who waits for the last connection to end, if it has. Idempotent."""
        if not self.open and self.emptied is not None:
            self.emptied.set()

    def status(self) -> "Dict[str, Any]":
        """Its counters as plain data; times in seconds."""
        return {
            "name": self.name,
            "host": self.address[0],
            "port": self.address[1],
            "state": self.state,
            "reason": self.reason,
            "since": self.clock() - self.changed_at,
            "open": self.open,
            "total": self.total,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "connect_errors": self.connect_errors,
            "retries": self.retries,
            "connect_time": self.connect_time,
            "first_byte": self.first_byte,
        }


def _smooth(old: "Optional[float]", new: float) -> float:
    return new if old is None else old + _NEWEST * (new - old)
