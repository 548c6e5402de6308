"""What an instance finds around it: seat, rotation, bell, and the world that all share."""

import math
import os
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from gevent.event import Event

from filequeue import FileQueue
from lives import Life
from logs import LineWriter, Log
from pumps import Pace
from slices import Turnstile
from spawning import Spawner
from tenure import Place, Watch
from threads import Threads

#: Seconds between two looks at how many connections a drain still waits for.
_DRAIN_LOOK = 1.0

#: configuration.Process, or anything else that has its fields: this half of the house is told
#: of processes and knows nothing of files.
Process = Any


class Seat(NamedTuple):
    """Which of a process's instances it is: its name, its number from 0, where it listens."""

    name: str
    number: int
    host: str
    port: Optional[int]


def seats(process: Process) -> List[Seat]:
    """ID-1 to ID-N with the ports from `startPort` on; just the id where there is no cluster."""
    cluster = process.cluster
    if cluster is None:
        return [Seat(process.id, 0, "", None)]
    return [
        Seat(
            "%s-%d" % (process.id, number + 1), number, cluster.instance_host,
            None if cluster.start_port is None else cluster.start_port + number,
        )
        for number in range(cluster.instances)
    ]


def variables_of(process: Process, seat: Seat) -> Dict[str, str]:
    """What a child finds in its environment besides what pupgevent found in its own."""
    variables = dict(process.env, PUP_PROCESS_ID=process.id)
    if process.cluster is not None:
        variables["PUP_CLUSTER_INSTANCE"] = str(seat.number)
    if seat.port is not None:
        variables["PUP_CLUSTER_PORT"] = str(seat.port)
    return variables


def place_of(process: Process, seat: Seat, pid: int) -> Optional[Place]:
    """Where a child is expected to listen; None: nowhere."""
    if seat.port is None:
        return None
    variables = variables_of(process, seat)
    marks = ("PUP_PROCESS_ID", "PUP_CLUSTER_PORT")
    return Place(seat.host, seat.port, pid, frozenset(
        os.fsencode("%s=%s" % (name, variables[name])) for name in marks))


#: What a child is made of. The other values of a process apply to the child that is there.
_MADE_OF = ("cmd", "cwd", "real_cwd", "env", "path", "pid_file", "user", "group")


def same_child(one: Tuple[Process, Seat], other: Tuple[Process, Seat]) -> bool:
    """Would both start the same?"""
    (process, seat), (other_process, other_seat) = one, other
    return seat == other_seat and all(
        getattr(process, field) == getattr(other_process, field) for field in _MADE_OF
    )


def keeping_child(process: Process, own: Process) -> Process:
    """The values of a process, but with those of which a child of `own` is made."""
    return process._replace(**{field: getattr(own, field) for field in _MADE_OF})


class Draining(NamedTuple):
    """What a stop waits for: so many connections, so many seconds at most."""

    connections: int
    seconds: float

    def __str__(self) -> str:
        plural = "" if self.connections == 1 else "s"
        return "draining, %d connection%s, at most %.0f s" % (
            self.connections, plural, math.ceil(self.seconds))


class Rotation:
    """The seam to the balancer, plain data only. This one has no balancer behind it."""

    def up(self, name: str, host: str, port: int) -> None:
        """It accepts: send it clients."""

    def down(self, name: str) -> None:
        """It is gone, or about to go: no further client."""

    def suspect(self, name: str, reason: str) -> None:
        """Somebody else accepts in its place: no client until a probe finds itself there."""

    def drain(self, name: str, seconds: float) -> None:
        """No further client; block until its last connection has ended, or so many seconds."""

    def connections_of(self, name: str) -> int:
        """How many it has."""
        return 0

    def remove(self, name: str) -> None:
        """It will never come back."""


#: Where the two streams of an instance go: (stdout, stderr).
Outputs = Callable[[Process, Seat], Tuple[LineWriter, LineWriter]]


class World(NamedTuple):
    """What all instances share."""

    log: Log
    spawner: Spawner
    outputs: Outputs
    #: For what may block: the user database, /proc.
    threads: Threads
    pace: Pace
    watch: Watch
    #: For forks.
    turnstile: Turnstile
    #: Monotonic seconds.
    clock: Callable[[], float]
    files: FileQueue


class Bell:
    """Wakes the one greenlet that waits for it to look at its condition again."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._rung = Event()

    def ring(self) -> None:
        self._rung.set()

    def wait(self, condition: Callable[[], bool], deadline: Optional[float] = None) -> bool:
        """Until the condition holds (True), or until the clock shows `deadline` (False)."""
        while not condition():
            remaining = None if deadline is None else deadline - self.clock()
            if remaining is not None and remaining <= 0:
                return False
            self._rung.clear()
            self._rung.wait(remaining)
        return True


class Membership:
    """One instance's place in the rotation; tells the rotation each thing once."""

    def __init__(self, rotation: Rotation, seat: Seat, bell: Bell) -> None:
        self._rotation = rotation
        self._seat = seat
        self._bell = bell
        self._is_in = False

    def enter(self) -> None:
        """It accepts; without a port there is nothing to send clients to."""
        if self._seat.port is not None:
            self._is_in = True
            self._rotation.up(self._seat.name, self._seat.host, self._seat.port)

    def leave(self) -> None:
        """No further client. Idempotent, and does not block."""
        if self._is_in:
            self._is_in = False
            self._rotation.down(self._seat.name)

    def suspect(self, reason: str) -> None:
        """No client, until the rotation finds that it accepts itself."""
        if self._is_in:
            self._rotation.suspect(self._seat.name, reason)

    def drain(
        self, seconds: float, is_pointless: Callable[[], bool], tell: Callable[[Draining], None]
    ) -> None:
        """Leave, and give the last connection so long to end; blocks unless it is pointless.

        `tell` is told how it stands: at the beginning if there is a connection, and whenever their
        number is another, about once a second.
        """
        if self._is_in and seconds > 0:
            drain = Life(self._rotation.drain, self._seat.name, seconds)
            drain.rawlink(lambda _: self._bell.ring())
            self._watch(drain, seconds, is_pointless, tell)
            drain.kill()
        self.leave()

    def _watch(
        self, drain: Any, seconds: float, is_pointless: Callable[[], bool],
        tell: Callable[[Draining], None],
    ) -> None:
        clock, before = self._bell.clock, 0
        end = clock() + seconds
        while True:
            connections = self._rotation.connections_of(self._seat.name)
            if connections != before:
                before = connections
                tell(Draining(connections, max(0.0, end - clock())))
            if self._bell.wait(lambda: drain.ready() or is_pointless(), clock() + _DRAIN_LOOK):
                return
