"""`maxMemory`: instances that hold too much memory get another child, one of a process at a time.

Memory leaks at the same pace in all instances of a cluster, so they reach their limit together. Yet
the next one is replaced only when all others of its process have settled, and never after one that
did not come up again: as in a rolling restart.
"""

from typing import Callable, Dict, Iterable, List, Optional, Tuple

import procfs
from concurrency import Task, Threads, in_slices, pause
from errors import ShortageError
from instance import Instance
from instance_history import MEMORY
from lifecycle import RUNNING
from logs import Log

#: Seconds between two looks, and looks in a row that must find too much: a peak is none.
LOOK_EVERY, LOOKS = 5.0, 3

_MEGABYTE = 2**20


class MemoryWatch:
    """Looks at the memory of all instances whose process has a limit.

    `instances()` gives all there are, `may_replace(instance)` tells whether all others of its
    process have settled.
    """

    def __init__(
        self, instances: Callable[[], Iterable[Instance]],
        may_replace: Callable[[Instance], bool], threads: Threads, log: Log,
        look_every: float = LOOK_EVERY,
    ) -> None:
        self._instances = instances
        self._may_replace = may_replace
        self._threads = threads
        self._log = log
        self._look_every = look_every
        #: By pid: in how many looks in a row it held too much.
        self._excesses: Dict[int, int] = {}
        self._task: Optional[Task] = None

    def start(self) -> None:
        """Look from now on."""
        self._task = Task(self._main_loop)

    def stop(self) -> None:
        """Idempotent."""
        if self._task is not None:
            self._task.kill()

    def _main_loop(self) -> None:
        while True:
            pause(self._look_every)
            try:
                self._look()
            except (OSError, ShortageError, MemoryError):
                continue  # a shortage, which passes
            except Exception as error:
                self._log.error("core", "the watch over the memory met a bug: %r" % error)

    def _look(self) -> None:
        limited = self._limited()
        if not limited:
            self._excesses.clear()
            return
        limits = {pid: limit for pid, limit, _ in limited}
        held = self._threads.call(procfs.memory_above, limits)
        self._excesses = {pid: self._excesses.get(pid, 0) + 1 for pid in held}
        for pid, limit, instance in in_slices(limited):
            if self._excesses.get(pid, 0) >= LOOKS and instance.pid == pid:
                self._replace(instance, held[pid], limit)

    def _limited(self) -> List[Tuple[int, int, Instance]]:
        """Pid and limit of each that runs and has one."""
        found = []
        for instance in in_slices(list(self._instances())):
            pid, limit = instance.pid, instance.process.max_memory
            if limit is not None and pid is not None and instance.state == RUNNING:
                found.append((pid, limit, instance))
        return found

    def _replace(self, instance: Instance, held: int, limit: int) -> None:
        if self._may_replace(instance):
            instance.recycle("holds %d MB of memory, more than maxMemory (%d MB)" % (
                held // _MEGABYTE, limit // _MEGABYTE), MEMORY)
