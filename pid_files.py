"""The file that tells other programs the pid of a child. Blocks on disks: for a thread."""

import os
from collections import deque
from typing import Callable, Deque, Dict

from gevent.event import Event

from concurrency import Task, Threads, pause
from errors import ShortageError


def write(path: str, pid: int, is_outdated: Callable[[], bool] = lambda: False) -> None:
    """Whoever reads it sees the old content or the new one, never a half. OSError.

    Nothing is written when that is out of date once the disk has answered.
    """
    draft = "%s.%d" % (path, pid)
    try:
        # Not through a link that somebody has put there.
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with open(fd, "w") as file:
            file.write("%d\n" % pid)
        if is_outdated():
            os.unlink(draft)
        else:
            os.replace(draft, path)
    except OSError:
        _forget(draft)
        raise


def remove(path: str, pid: int) -> None:
    """Remove it, if it is still about that pid. OSError."""
    try:
        # Whatever has taken its place: a read does not wait for it.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            content = file.read(32)
    except FileNotFoundError:
        return
    if content.strip() == b"%d" % pid:
        os.unlink(path)


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


# Files that are written and removed in threads, in the order in which that was asked for.


#: Seconds until something is tried again for which there was no thread, or no memory.
_RETRY_DELAY = 1.0


class FileOrder:
    """One thing to be done with one file, by `do(order)` in a thread; `tell` gets its failure."""

    def __init__(self, do: "Callable[[FileOrder], None]", tell: Callable[[str], None]) -> None:
        self.do = do
        self.tell = tell
        #: True once somebody wants something else of the file.
        self.outdated = False
        self._over = Event()

    def wait(self, timeout: float) -> bool:
        """True: it is over, be it done or not. Blocks the calling greenlet."""
        return bool(self._over.wait(timeout))

    def finish(self) -> None:
        self._over.set()


class FileQueue:
    """All such orders, by path."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._orders: Dict[str, Deque[FileOrder]] = {}

    def add(self, path: str, order: FileOrder) -> FileOrder:
        """Returns at once."""
        orders = self._orders.get(path)
        if orders is None:
            self._orders[path] = deque([order])
            Task(self._carry_out, path)
            return order
        for earlier in orders:
            earlier.outdated = True
        orders.append(order)
        return order

    def _carry_out(self, path: str) -> None:
        orders = self._orders[path]
        while orders:
            order = orders[0]
            try:
                self._threads.call(order.do, order)
            except (ShortageError, MemoryError):
                pause(_RETRY_DELAY)
                continue
            except Exception as error:
                order.tell(getattr(error, "strerror", None) or str(error))
            orders.popleft()
            order.finish()
        del self._orders[path]
