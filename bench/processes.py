"""Processes that the bench starts, and what Linux tells of them: CPU time and memory."""

import contextlib
import os
import random
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Set, TypeVar

from bench.tools import BenchError

#: Seconds from SIGTERM to SIGKILL.
TERMINATE_TIMEOUT = 20.0
#: Seconds for anything that should happen at once, on a busy machine too.
PATIENCE = 60.0
#: HAProxy wants two for each connection it may get, and as many again for its pipes.
DESCRIPTORS = 14000

T = TypeVar("T")


class Interrupts:
    """SIGTERM and SIGINT end the bench through all its contexts, so that no server is left.

    A signal may come between the fork of a process and the note that it is there. `postponed` is
    for such moments: what comes in them is raised behind them.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._number = 0

    def begin(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._take)

    @contextlib.contextmanager
    def postponed(self) -> Iterator[None]:
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            self._raise()

    def _take(self, number: int, frame: object) -> None:
        self._number = number
        self._raise()

    def _raise(self) -> None:
        number = self._number
        if number and not self._depth:
            self._number = 0
            raise SystemExit(128 + number)


#: Those of this process.
interrupts = Interrupts()


class Process:
    """A server of the bench: leads its own group, writes to a log, ends by its own pid."""

    def __init__(self, words: Sequence[str], folder: Path, log: str,
                 env: Optional[Dict[str, str]] = None) -> None:
        self.name = words[0]
        self.log = folder / log
        with self.log.open("ab") as file:
            try:
                self.popen = subprocess.Popen(
                    words, cwd=str(folder), stdin=subprocess.DEVNULL, stdout=file,
                    stderr=subprocess.STDOUT, start_new_session=True,
                    env=dict(os.environ, **(env or {})))
            except OSError as error:
                raise BenchError("%s: %s" % (self.name, error)) from error
        self.pid = self.popen.pid

    def check(self) -> None:
        """Raises BenchError with its last words if it has ended."""
        code = self.popen.poll()
        if code is not None:
            raise BenchError("%s has ended with %d: %s" % (self.name, code, self.last_words()))

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to the group where that does not end it."""
        self.popen.terminate()
        try:
            self.popen.wait(TERMINATE_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self.popen.wait()


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process so far, user and system, to the nanosecond.

    The clock is the one of clock_getcpuclockid(3), which Python does not give for other processes;
    utime and stime of /proc/PID/stat count in ticks of 10 ms.
    """
    return time.clock_gettime((~pid << 3) | 2)


def memory_bytes(pid: int) -> int:
    """Proportional set size: pages shared with a parent count in part."""
    for line in Path("/proc/%d/smaps_rollup" % pid).read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise BenchError("/proc/%d/smaps_rollup tells no Pss" % pid)


def children(pid: int) -> List[int]:
    return [int(word) for word in
            Path("/proc/%d/task/%d/children" % (pid, pid)).read_text().split()]


def catches(pid: int, number: int) -> bool:
    """Whether a process has installed a handler for a signal (proc(5), SigCgt)."""
    for line in Path("/proc/%d/status" % pid).read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def until(condition: Callable[[], T], what: str, timeout: float = PATIENCE,
          interval: float = 0.002) -> T:
    """Ask until the answer is true and return it; BenchError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise BenchError("not within %g s: %s" % (timeout, what))
        time.sleep(interval)


def raise_descriptor_limit() -> None:
    """To the hard limit, for this process and all that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        raise BenchError("a process may open %d files here, the bench needs %d (ulimit -Hn)"
                         % (hard, DESCRIPTORS))
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Ports:
    """Gives consecutive ports of the loopback address that nobody has, each only once.

    They lie outside the range from which the kernel gives ports to clients: the load opens tens of
    thousands of those a second.
    """

    def __init__(self) -> None:
        words = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        below, above = (10000, int(words[0]) - 1), (int(words[1]) + 1, 65535)
        self.low, self.high = max(below, above, key=lambda ends: ends[1] - ends[0])
        self.given: Set[int] = set()

    def take(self, count: int) -> List[int]:
        for _ in range(1000):
            start = random.randint(self.low, max(self.low, self.high - count + 1))
            ports = list(range(start, start + count))
            if self.given.isdisjoint(ports) and all(map(is_free, ports)):
                self.given.update(ports)
                return ports
        raise BenchError("no %d free ports in a row from %d to %d" % (count, self.low, self.high))


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
