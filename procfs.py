"""What /proc (proc(5)) tells of processes, above all the CPU and memory of the instances.

An instance is more than its first process: what it forks counts for it, as long as it stays in
the session that each instance leads, or descends from it.
"""

import os
import resource
import time
from typing import (
    Container,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Set,
    Tuple,
)

import gevent

from concurrency import Threads
from errors import ShortageError

#: Seconds between the two samples of a rate: shorter is noise, the kernel counts in hundredths.
#: A sample from longer ago than the second is no "now" any more.
_SHORTEST, _LONGEST = 0.25, 5.0

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """CPU and memory of one instance, with all that it has started."""

    #: 1.0 is one core; None where nothing is known yet.
    cpu: "Optional[float]"
    #: Seconds of CPU so far, those of children that have ended included.
    cpu_time: float
    #: Resident bytes; what processes share counts for each of them.
    memory: int


class _ProcStat(NamedTuple):
    parent: int
    session: int
    #: Seconds of CPU so far, and of its children that have ended.
    cpu: float
    cpu_of_ended: float
    memory: int
    #: With the pid it tells a process from a later one of the same number.
    started: bytes


class _Sample(NamedTuple):
    taken_at: float
    processes: "Dict[int, _ProcStat]"


_NOTHING = _Sample(float("-inf"), {})


class Meter:
    """Remembers the last sample, since a rate needs two."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._last = _NOTHING
        #: The CPU time that was told last, of each instance by its pid and the time of its start.
        self._told: Dict[Tuple[int, bytes], float] = {}

    def measure(self, pids: "Iterable[int]") -> "Dict[int, Usage]":
        """By the pid of each instance; nothing where there is no thread or memory for it just now.
        Blocks the calling greenlet, a quarter second at most."""
        try:
            return self._measure(pids)
        except (ShortageError, MemoryError):
            return {}

    def _measure(self, pids: "Iterable[int]") -> "Dict[int, Usage]":
        before = self._last
        if time.monotonic() - before.taken_at > _LONGEST:
            before = self._sample()
        wait = _SHORTEST - (time.monotonic() - before.taken_at)
        if wait > 0:
            gevent.sleep(wait)
        now = self._last = self._sample()
        # There may be thousands.
        return self._never_less(now, self._threads.call(usage, before, now, set(pids)))

    def _never_less(self, now: _Sample, found: "Dict[int, Usage]") -> "Dict[int, Usage]":
        """The time of a child that nobody has waited for is gone with it: what was told before is
        the least that is told now."""
        told = {(pid, started): seconds for (pid, started), seconds in self._told.items()
                if pid in now.processes and now.processes[pid].started == started}
        for pid, each in found.items():
            key = (pid, now.processes[pid].started)
            least = told.get(key, 0.0)
            if each.cpu_time < least:
                found[pid] = each._replace(cpu_time=least)
            else:
                told[key] = each.cpu_time
        self._told = told
        return found

    def _sample(self) -> _Sample:
        taken = self._threads.call(read_processes)
        return _Sample(time.monotonic(), taken)


def usage(before: _Sample, now: _Sample, pids: "set[int]") -> "Dict[int, Usage]":
    """What each instance used between two samples."""
    elapsed = now.taken_at - before.taken_at
    spent = dict.fromkeys(pids, 0.0)
    so_far = dict.fromkeys(pids, 0.0)
    memory = dict.fromkeys(pids, 0)
    for pid, process in now.processes.items():
        owner = _owner(pid, now.processes, pids)
        if owner is not None:
            spent[owner] += process.cpu - _cpu_before(pid, process, before.processes)
            so_far[owner] += process.cpu + process.cpu_of_ended
            memory[owner] += process.memory
    return {
        pid: Usage(
            max(0.0, spent[pid]) / elapsed if elapsed > 0 else None, so_far[pid], memory[pid])
        for pid in pids
        if pid in now.processes
    }


def _owner(pid: int, processes: "Dict[int, _ProcStat]", pids: Container[int]) -> "Optional[int]":
    """The instance that a process belongs to, by its first pid; None: to no instance."""
    seen: set[int] = set()
    while pid not in pids:
        process = processes.get(pid)
        if process is None or pid in seen:
            return None
        if process.session in pids:
            return process.session
        seen.add(pid)
        pid = process.parent
    return pid


def _cpu_before(pid: int, process: _ProcStat, earlier: "Dict[int, _ProcStat]") -> float:
    old = earlier.get(pid)
    return old.cpu if old is not None and old.started == process.started else 0.0


def read_processes() -> "Dict[int, _ProcStat]":
    """All that run on this machine; for a thread, a large machine takes some 10 ms."""
    found = {}
    for name in pids():
        try:
            found[int(name)] = _read(name)
        except (OSError, ValueError, IndexError):
            continue  # it has just ended
    return found


def family(leader: int) -> "Set[int]":
    """Who belongs to an instance, by its first process; for a thread, as the above."""
    processes = read_processes()
    return {pid for pid in processes if _owner(pid, processes, {leader}) is not None}


def memory_above(limits: Mapping[int, int]) -> Dict[int, int]:
    """The bytes that each instance holds with all that it has started, of those that hold more than
    their limit; instances by their first pid. For a thread.

    What several processes of an instance share counts once, where the kernel tells (from 4.14 on,
    proc(5): smaps_rollup); otherwise for each of them.
    """
    processes = read_processes()
    members: Dict[int, List[int]] = {}
    for pid in processes:
        owner = _owner(pid, processes, limits)
        if owner is not None:
            members.setdefault(owner, []).append(pid)
    found = {}
    for owner, some in members.items():
        held = sum(processes[pid].memory for pid in some)
        if held > limits[owner] and len(some) > 1:
            held = sum(_proportional_memory(pid, processes[pid].memory) for pid in some)
        if held > limits[owner]:
            found[owner] = held
    return found


def _proportional_memory(pid: int, resident: int) -> int:
    """Bytes: what it has for itself, and its share of the rest; `resident` where that is not
    told."""
    try:
        with open("/proc/%d/smaps_rollup" % pid, "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return resident


def pids() -> List[str]:
    """The numbers of all processes, as text; none where /proc is not mounted."""
    try:
        return [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def descriptors(pid: int) -> "Iterator[str]":
    """What a process has open, one after the other as it was opened: "socket:[4711]". OSError."""
    with os.scandir("/proc/%d/fd" % pid) as entries:
        for entry in entries:
            try:
                yield os.readlink(entry.path)
            except FileNotFoundError:
                continue  # closed meanwhile


def name_of(pid: int) -> str:
    """Of its program, fifteen characters at most; empty where it is gone."""
    try:
        with open("/proc/%d/comm" % pid) as file:
            return file.read().rstrip("\n")
    except (OSError, ValueError):
        return ""


def is_zombie(pid: int) -> bool:
    """Has it ended? Also true once it is gone."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            return file.read().rpartition(b") ")[2][:1] in (b"Z", b"X", b"")
    except OSError:
        return True


def _read(name: str) -> _ProcStat:
    with open("/proc/%s/stat" % name, "rb") as file:
        data = file.read()
    # The second field is the program's name between parentheses, which may hold anything.
    fields = data[data.rindex(b")") + 2 :].split()
    own, ended = (
        (int(fields[i]) + int(fields[i + 1])) / _TICKS for i in (11, 13))
    return _ProcStat(
        int(fields[1]), int(fields[3]), own, ended, int(fields[21]) * _PAGE, fields[19])


# pupgevent itself


class OwnUsage(NamedTuple):
    """CPU, memory and descriptors of this process."""

    #: Seconds.
    cpu_time: float
    #: Bytes.
    memory: int
    virtual_memory: int
    #: Unix time.
    started_at: float
    descriptors: int
    most_descriptors: int


def own_usage() -> OwnUsage:
    """For a thread: to count 50,000 descriptors takes some 10 ms. OSError."""
    with open("/proc/self/stat", "rb") as file:
        data = file.read()
    fields = data[data.rindex(b")") + 2 :].split()
    with open("/proc/stat", "rb") as file:
        booted_at = next((int(line.split()[1]) for line in file if line.startswith(b"btime ")), 0)
    return OwnUsage(
        cpu_time=(int(fields[11]) + int(fields[12])) / _TICKS,
        memory=int(fields[21]) * _PAGE,
        virtual_memory=int(fields[20]),
        started_at=booted_at + int(fields[19]) / _TICKS,
        descriptors=len(os.listdir("/proc/self/fd")),
        most_descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )
