"""That an instance, and nobody else, accepts on its port: before it is ready, and while it serves.

A port that accepts tells nothing of who accepts. The instance may have closed its listener, or may
not have opened it yet, and somebody else may have the port: no client is to be sent there. So
/proc is asked: before an instance is ready, at each probe of one that was down, and once a second
of all that serve, whether those who listen are still the same.
"""

import os
import time
from typing import Callable, Dict, FrozenSet, Iterable, List, NamedTuple, Optional, Tuple

import ports
from concurrency import Task, Threads, pause
from errors import ShortageError
from listening_sockets import Listening, listeners, spelled, takers
from logs import InstanceLog, Log
from model import InstanceSpec, Process, variables_of

#: Seconds between two looks at all that serve: in a thread, some 10 ms for a thousand instances.
WATCH_EVERY = 1.0

#: Seconds after which somebody else is looked at again: a listener can be handed over.
_DOUBT = 5.0

#: Seconds that a look may take.
_PATIENCE = 10.0

#: Seconds from the start to the first look where else an instance listens; each further one is
#: after twice the time.
_FIRST_SEARCH = 1.0


class Place(NamedTuple):
    """What is expected of a child: where it listens, and what tells its daemons."""

    host: str
    port: int
    #: Its first process.
    pid: int
    #: NAME=value of its environment.
    marks: FrozenSet[bytes]

    def __str__(self) -> str:
        return spelled(self.host, self.port)


def place_of(process: Process, spec: InstanceSpec, pid: int) -> Optional[Place]:
    """Where a child is expected to listen; None: nowhere."""
    if spec.port is None:
        return None
    variables = variables_of(process, spec)
    marks = ("PUP_PROCESS_ID", "PUP_CLUSTER_PORT")
    return Place(spec.host, spec.port, pid, frozenset(
        os.fsencode("%s=%s" % (name, variables[name])) for name in marks))


class Tenure:
    """Of one child; what is wrong with it is told in the log of its instance."""

    def __init__(self, place: Place, threads: Threads, log: InstanceLog) -> None:
        self._place = place
        self._threads = threads
        self._log = log
        #: Which sockets were looked at, who else has them, and when that was.
        self._finding: Tuple[FrozenSet[int], str, float] = (frozenset(), "", 0.0)
        self._told = ""
        self._search_after = _FIRST_SEARCH
        self._places: List[str] = []
        self._told_places = False

    @property
    def port(self) -> int:
        return self._place.port

    def intruder(self) -> str:
        """Who else accepts there; empty: nobody, or it cannot be known. Blocks the greenlet."""
        return self._threads.ask(_PATIENCE, self._look) or ""

    def is_kept(self) -> bool:
        """Does nobody else accept there? If not, that is told, once of each."""
        who = self.intruder()
        if who and who != self._told:
            self._log.warning("port %d is taken by %s: no client is sent there" % (
                self._place.port, who))
        self._told = who
        return not who

    def search(self, waited: float) -> None:
        """For an instance that does not accept `waited` seconds after its start: does it listen
        elsewhere? Told once, when two looks in a row find the same."""
        if waited < self._search_after or self._told_places:
            return
        self._search_after = 2 * waited
        before, self._places = self._places, self._find_places() or []
        if self._places and self._places == before:
            self._told_places = True
            self._log.warning(
                "listens on %s, and not on %s, where it is expected "
                "(instanceHost, PUP_CLUSTER_PORT)" % (_joined(before), self._place))

    def failure(self, waited: float) -> str:
        """What to say of one that has not become ready in so many seconds."""
        who = self.intruder()
        if who:
            return "port %d is taken by %s" % (self._place.port, who)
        text = "port %d does not accept after %g s" % (self._place.port, waited)
        found = self._find_places()
        return "%s: it listens on %s" % (text, _joined(found)) if found else text

    def _find_places(self) -> Optional[List[str]]:
        """Where it listens; None where that cannot be known."""
        return self._threads.ask(_PATIENCE, ports.places, self._place.pid)

    @property
    def last_intruder(self) -> str:
        """As the last look found."""
        return self._finding[1]

    def _look(self) -> str:
        return self.judge(listeners(self._place.port))

    def judge(self, found: Iterable[Listening]) -> str:
        """Who else is among those who listen? Blocks: for a thread."""
        place, now = self._place, time.monotonic()
        inodes = frozenset(each.inode for each in takers(found, place.host, place.port))
        seen, who, when = self._finding
        if inodes != seen or (who and now - when > _DOUBT):
            who = ""
            if inodes:
                who = ports.intruder(place.host, place.port, place.pid, set(place.marks))
            self._finding = inodes, who, now
        return who


class Watch:
    """Looks once a second who listens on the ports of all that serve."""

    def __init__(self, threads: Threads, log: Log) -> None:
        self._threads = threads
        self._log = log
        self._lost: Dict[Tenure, Callable[[], None]] = {}
        self._greenlet: Optional[Task] = None

    def begin(self, tenure: Tenure, lost: Callable[[], None]) -> None:
        """Call `lost()` whenever somebody else is found to accept in the instance's place."""
        self._lost[tenure] = lost
        if self._greenlet is None:
            self._greenlet = Task(self._run)

    def end(self, tenure: Tenure) -> None:
        """Idempotent."""
        self._lost.pop(tenure, None)

    def _run(self) -> None:
        while self._lost:
            pause(WATCH_EVERY)
            try:
                self._look()
            except (OSError, ShortageError, MemoryError):
                continue  # a shortage, which passes
            except Exception as error:
                self._log.error("core", "the watch over the ports met a bug: %r" % error)
        self._greenlet = None

    def _look(self) -> None:
        for tenure in self._threads.call(_judge, list(self._lost)):
            lost = self._lost.get(tenure)
            if lost is not None and not tenure.is_kept():
                lost()


def _judge(tenures: List[Tenure]) -> List[Tenure]:
    """Those in whose place somebody else accepts."""
    index: Dict[int, List[Listening]] = {}
    for socket in listeners():
        index.setdefault(socket.port, []).append(socket)
    found = []
    for each in tenures:
        try:
            if each.judge(index.get(each.port, ())):
                found.append(each)
        except OSError:
            continue  # of the others something is known all the same
    return found


def _joined(places: List[str]) -> str:
    return " and ".join(places)
