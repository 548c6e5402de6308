"""Files that are written and removed in threads, in the order in which that was asked for.

A disk may answer late, or never, and nobody waits for it longer than for a moment. So that a write
which comes through at last does not put back what was removed meanwhile, what is to be done with
one path is done one after the other, and an earlier order knows that it is out of date.
"""

from collections import deque
from typing import Any, Callable, Deque, Dict

from gevent.event import Event

from errors import ShortageError
from lives import Life, rest

#: Seconds until something is tried again for which there was no thread, or no memory.
_RETRY_DELAY = 1.0


class FileOrder:
    """One thing to be done with one file, by `do(order)` in a thread; `tell` gets its failure."""

    def __init__(self, do: "Callable[[FileOrder], Any]", tell: Callable[[str], Any]) -> None:
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

    def __init__(self, threads: Any) -> None:
        self._threads = threads
        self._orders: Dict[str, Deque[FileOrder]] = {}

    def add(self, path: str, order: FileOrder) -> FileOrder:
        """Returns at once."""
        orders = self._orders.get(path)
        if orders is None:
            self._orders[path] = deque([order])
            Life(self._carry_out, path)
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
                rest(_RETRY_DELAY)
                continue
            except Exception as error:
                order.tell(getattr(error, "strerror", None) or str(error))
            orders.popleft()
            order.finish()
        del self._orders[path]
