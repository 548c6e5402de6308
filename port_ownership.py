"""That an instance, and nobody else, accepts on its port: before it is ready, and while it serves.

A port that accepts does not tell who accepts. The instance may have closed its listener, or may
not have opened it yet, and another program may have the port: no client is to be sent there. So
the kernel and /proc are asked: before an instance is ready, at each probe of one that was down,
and once a second for all that serve.
"""

import os
import time
from typing import Callable, Dict, FrozenSet, Iterable, List, NamedTuple, Optional, Tuple

import ports
from concurrency import Task, Threads, pause
from errors import ShortageError
from listening_sockets import ListeningSocket, accepting_at, host_and_port, listeners
from logs import InstanceLog, Log
from model import InstanceSpec, Process, variables_of

#: Seconds between two looks at all that serve: in a thread, some 10 ms for a thousand instances.
WATCH_EVERY = 1.0

#: Seconds after which an intruder is looked at again: a listener can be handed over.
_RECHECK = 5.0

#: Seconds that a look may take.
_TIMEOUT = 10.0

#: Seconds from the start of an instance to the first look whether it listens elsewhere; each
#: further look is after twice the time.
_FIRST_SEARCH = 1.0


class ExpectedListener(NamedTuple):
    """Where a child is expected to listen, and by what its processes are known."""

    host: str
    port: int
    #: Its first process.
    pid: int
    #: NAME=value in the environment of all that it starts.
    env_marks: FrozenSet[bytes]

    def __str__(self) -> str:
        return host_and_port(self.host, self.port)


def expected_listener(
    process: Process, spec: InstanceSpec, pid: int
) -> Optional[ExpectedListener]:
    """Where a child is expected to listen; None: nowhere."""
    if spec.port is None:
        return None
    variables = variables_of(process, spec)
    names = ("PUP_PROCESS_ID", "PUP_CLUSTER_PORT")
    return ExpectedListener(spec.host, spec.port, pid, frozenset(
        os.fsencode("%s=%s" % (name, variables[name])) for name in names))


class PortOwnership:
    """Whether one child alone accepts on its port; if not, the log of its instance tells."""

    def __init__(self, expected: ExpectedListener, threads: Threads, log: InstanceLog) -> None:
        self._expected = expected
        self._threads = threads
        self._log = log
        #: The last look: at which sockets (inodes), the intruder among their holders, and when.
        self._finding: Tuple[FrozenSet[int], str, float] = (frozenset(), "", 0.0)
        self._told = ""
        self._search_after = _FIRST_SEARCH
        self._elsewhere: List[str] = []
        self._told_elsewhere = False

    @property
    def port(self) -> int:
        return self._expected.port

    def intruder(self) -> str:
        """Who else accepts there; empty: nobody, or it cannot be known. Blocks the calling greenlet
        for seconds at most."""
        return self._threads.ask(_TIMEOUT, self._look) or ""

    def accepts_alone(self) -> bool:
        """Does nobody else accept there? Each new intruder is told of once."""
        intruder = self.intruder()
        if intruder and intruder != self._told:
            self._log.warning("port %d is taken by %s: no client is sent there" % (
                self._expected.port, intruder))
        self._told = intruder
        return not intruder

    def search(self, waited: float) -> None:
        """Does an instance that has not accepted for `waited` seconds listen elsewhere? That is
        told once, when two looks in a row find the same."""
        if waited < self._search_after or self._told_elsewhere:
            return
        self._search_after = 2 * waited
        before, self._elsewhere = self._elsewhere, self._listening_addresses() or []
        if self._elsewhere and self._elsewhere == before:
            self._told_elsewhere = True
            self._log.warning(
                "listens on %s, and not on %s, where it is expected "
                "(instanceHost, PUP_CLUSTER_PORT)" % (_joined(before), self._expected))

    def failure(self, waited: float) -> str:
        """Why the instance has not become ready in so many seconds, as a message says it."""
        intruder = self.intruder()
        if intruder:
            return "port %d is taken by %s" % (self._expected.port, intruder)
        text = "port %d does not accept after %g s" % (self._expected.port, waited)
        found = self._listening_addresses()
        return "%s: it listens on %s" % (text, _joined(found)) if found else text

    def _listening_addresses(self) -> Optional[List[str]]:
        """Where it listens; None where that cannot be known."""
        return self._threads.ask(_TIMEOUT, ports.listening_addresses, self._expected.pid)

    @property
    def last_intruder(self) -> str:
        """The one that the last look has found; empty: none."""
        return self._finding[1]

    def _look(self) -> str:
        return self.check(listeners(self._expected.port))

    def check(self, found: Iterable[ListeningSocket]) -> str:
        """The intruder among these sockets; empty: none. Blocks: for a thread."""
        expected, now = self._expected, time.monotonic()
        there = accepting_at(found, expected.host, expected.port)
        inodes = frozenset(each.inode for each in there)
        seen, intruder, when = self._finding
        if inodes != seen or (intruder and now - when > _RECHECK):
            intruder = ""
            if inodes:
                intruder = ports.intruder(
                    expected.host, expected.port, expected.pid, set(expected.env_marks))
            self._finding = inodes, intruder, now
        return intruder


class OwnershipWatch:
    """Looks once a second who listens on the ports of all instances that serve."""

    def __init__(self, threads: Threads, log: Log) -> None:
        self._threads = threads
        self._log = log
        self._watched: Dict[PortOwnership, Callable[[], None]] = {}
        self._task: Optional[Task] = None

    def start(self, ownership: PortOwnership, on_intruder: Callable[[], None]) -> None:
        """Call `on_intruder()` at each look that finds somebody else on the port."""
        self._watched[ownership] = on_intruder
        if self._task is None:
            self._task = Task(self._main_loop)

    def stop(self, ownership: PortOwnership) -> None:
        """Watch it no longer. Idempotent."""
        self._watched.pop(ownership, None)

    def _main_loop(self) -> None:
        while self._watched:
            pause(WATCH_EVERY)
            try:
                self._look()
            except (OSError, ShortageError, MemoryError):
                continue  # a shortage, which passes
            except Exception as error:
                self._log.error("core", "the watch over the ports met a bug: %r" % error)
        self._task = None

    def _look(self) -> None:
        for ownership in self._threads.call(_check_all, list(self._watched)):
            on_intruder = self._watched.get(ownership)
            if on_intruder is not None and not ownership.accepts_alone():
                on_intruder()


def _check_all(ownerships: List[PortOwnership]) -> List[PortOwnership]:
    """Those on whose port somebody else accepts."""
    index: Dict[int, List[ListeningSocket]] = {}
    for socket in listeners():
        index.setdefault(socket.port, []).append(socket)
    found = []
    for each in ownerships:
        try:
            if each.check(index.get(each.port, ())):
                found.append(each)
        except OSError:
            continue  # the others can be checked all the same
    return found


def _joined(addresses: List[str]) -> str:
    return " and ".join(addresses)
