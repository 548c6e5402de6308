"""What the tests of supervision share: processes to supervise, and what is known of them."""

import contextlib
import shlex
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

import gevent

from guardian import Guardian
from instance import Instance
from logs import LineWriter, Log
from memory_watch import LOOK_EVERY
from model import Cluster, InstanceSpec, Logger, Process
from rotation import Rotation
from sinks import NO_INSTANCE, Sink, Source
from supervisor import Supervisor, SupervisorOwner

CHILDREN = Path(__file__).resolve().parent / "children"

#: Seconds after which what a test waits for has not happened.
PATIENCE = 30.0


def script(name: str, *words: str) -> Tuple[str, ...]:
    """The command that runs one of the bad citizens."""
    return (sys.executable, "-u", str(CHILDREN / name)) + words


def shell(name: str, *words: str) -> str:
    """The same as text for a shell, which stays its parent."""
    return " ".join(map(shlex.quote, script(name, *words))) + "; exit $?"


def process(cmd: Any = "exec sleep 60", **changes: Any) -> Process:
    """A process with defaults that suit a test: everything is quick, nothing is restarted."""
    values: Dict[str, Any] = dict.fromkeys(Process._fields)
    values.update(
        id="app", cmd=cmd, autostart=True, cwd="/", env={}, restart="never", restart_delay=0.02,
        min_uptime=0.0, restart_max_delay=30.0, terminate_grace_period=0.0,
        terminate_timeout=PATIENCE,
        stop_signal=int(signal.SIGTERM), essential=False, start_after=(),
        logger=Logger(True, True, None, None, None, True, 0, 0, False, 0.0),
    )
    return Process(**dict(values, **changes))


def cluster(start_port: Optional[int], instances: int = 1, **changes: Any) -> Cluster:
    values: Dict[str, Any] = dict.fromkeys(Cluster._fields)
    values.update(instances=instances, start_port=start_port, instance_host="127.0.0.1",
                  ready_timeout=PATIENCE)
    return Cluster(**dict(values, **changes))


class Page(Sink):
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes, source: Source = NO_INSTANCE) -> None:
        self.written += data

    @property
    def lines(self) -> List[str]:
        """Without the time."""
        text = self.written.decode("utf-8", "backslashreplace")
        return [line.partition("]")[2] for line in text.splitlines()]

    def texts(self, prefix: str) -> List[str]:
        """Of the lines that begin so: "[app][stdout]"."""
        return [line[len(prefix) + 1:] for line in self.lines if line.startswith(prefix)]


class Ledger(Rotation):
    """A rotation that writes down what it is told; `connections` keep a drain waiting."""

    def __init__(self) -> None:
        self.told: List[Tuple[Any, ...]] = []
        self.up_now: Set[str] = set()
        self.connections = False
        #: How often a drain has looked whether connections are left.
        self.looks = 0

    def up(self, name: str, host: str, port: int) -> None:
        self.told.append(("up", name, port))
        self.up_now.add(name)

    def down(self, name: str) -> None:
        self.told.append(("down", name))
        self.up_now.discard(name)

    def suspect(self, name: str, reason: str) -> None:
        self.told.append(("suspect", name, reason))

    def unhealthy(self, name: str, reason: Optional[str]) -> None:
        self.told.append(("unhealthy", name, reason))

    def drain(self, name: str, seconds: float) -> None:
        self.told.append(("drain", name))
        self.up_now.discard(name)
        wait_until(self._is_drained, seconds, fail=False)
        self.told.append(("drained", name))

    def _is_drained(self) -> bool:
        self.looks += 1
        return not self.connections

    def remove(self, name: str) -> None:
        self.told.append(("remove", name))


class Clock:
    """Monotonic, and can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class Owner(SupervisorOwner):
    """Writes down what its supervisor tells. Children print to where the log goes."""

    def __init__(self, log: Log, rotation: Rotation, clock: Callable[[], float]) -> None:
        self._log = log
        self._rotation = rotation
        self._clock = clock
        self.changes: List[Tuple[str, str]] = []
        self.moments: List[float] = []
        self.delays: List[float] = []
        self.essential: List[str] = []

    def rotation_for(self, process: Process) -> Rotation:
        return self._rotation

    def writers_for(self, process: Process, spec: InstanceSpec) -> Tuple[LineWriter, LineWriter]:
        sink = self._log.sink if process.logger.console else Sink()
        source = Source(process.id, spec.name)
        return LineWriter(sink, source, "stdout"), LineWriter(sink, source, "stderr")

    def on_change(self, instance: Instance) -> None:
        self.changes.append((instance.name, instance.state))
        self.moments.append(self._clock())
        if instance.due_at is not None:
            self.delays.append(instance.due_at - self._clock())

    def on_essential(self, instance: Instance) -> None:
        self.essential.append(instance.name)


class SupervisorStage(NamedTuple):
    """A supervisor at work, and all that can be known about it."""

    supervisor: Supervisor
    page: Page
    ledger: Ledger
    #: (name, state), as it happened.
    changes: List[Tuple[str, str]]
    #: When each of them happened, in seconds of `clock`.
    moments: List[float]
    #: Seconds of each delay before a restart.
    delays: List[float]
    #: Names of instances that were essential and are given up.
    essential: List[str]
    clock: Clock

    def instance(self, name: str = "app") -> Instance:
        return self.supervisor.instances[name]

    def pid(self, name: str = "app") -> int:
        """Of its child, once that runs."""
        return self.reaches("running", name).pid or 0

    def states(self, name: str = "app") -> List[str]:
        """All it has been in since `created`."""
        return [state for each, state in self.changes if each == name]

    def reaches(self, state: str, name: str = "app", timeout: float = PATIENCE) -> Instance:
        instance = self.instance(name)
        wait_until(lambda: instance.state == state, timeout,
                   lambda: "%s is %s, was %s; %s" % (
                       name, instance.state, self.states(name), self.page.lines))
        return instance

    def prints(self, text: str, prefix: str = "[app][stdout]") -> str:
        """The first line with that text."""
        def found() -> List[str]:
            return [line for line in self.page.texts(prefix) if text in line]
        wait_until(found, PATIENCE, lambda: str(self.page.lines))
        return found()[0]


@contextlib.contextmanager
def supervise(
    *processes: Process, start: bool = True, ledger: Optional[Ledger] = None,
    log: Optional[Log] = None, look_every: float = LOOK_EVERY,
) -> Iterator[SupervisorStage]:
    """Supervise them until the block ends; then nothing of them is left."""
    page, clock = Page(), Clock()
    ledger, log = ledger or Ledger(), log or Log(page)
    owner = Owner(log, ledger, clock)
    with gevent_waits_for_children():
        supervisor = Supervisor(processes, log, owner, clock=clock, look_every=look_every)
        try:
            if start:
                supervisor.startup()
            yield SupervisorStage(
                supervisor, page, ledger, owner.changes, owner.moments, owner.delays,
                owner.essential, clock)
        finally:
            with gevent.Timeout(PATIENCE):
                supervisor.kill()
                supervisor.shutdown()


@contextlib.contextmanager
def gevent_waits_for_children() -> Iterator[None]:
    """Its loop waits for all children of the process, so those of other tests would lose theirs."""
    loop = gevent.get_hub().loop
    loop.install_sigchld()
    loop.reset_sigchld()
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def pid_of(guardian: Guardian) -> int:
    """Of its shell; 0 while there is none."""
    return 0 if guardian._process is None else int(guardian._process.pid)


def cpu_seconds() -> float:
    """That this thread has taken: not what others of the process do, which earlier tests may have
    left."""
    return time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID)


def wait_until(condition: Callable[[], Any], timeout: float = PATIENCE,
               explain: Callable[[], str] = str, fail: bool = True) -> None:
    """Let the hub run until the condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            if fail:
                raise AssertionError("not within %g s: %s" % (timeout, explain()))
            return
        gevent.sleep(0.005)


def runs(pid: int) -> bool:
    """Is there such a process, other than a zombie?"""
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0
