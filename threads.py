"""Calls that may block, in threads, so that the hub goes on."""

from typing import Any, Callable, List, Optional, Tuple

import gevent
from gevent.lock import Semaphore
from gevent.threadpool import ThreadPool

from errors import ShortageError

#: Seconds between two looks for a thread that has come back late from a call that was given up.
_LOOK_AGAIN = 0.05


class Threads:
    """So many at a time; a call waits for its turn, and only its greenlet does."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._turns = Semaphore(count)
        # A pool for each thread, and its thread is there before it gets a call: a gevent pool that
        # fails to start one raises, but keeps the call in its queue and does it later as well.
        self._idle: List[Any] = [ThreadPool(1) for _ in range(count)]

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns or raises; ShortageError: there is no thread to do it."""
        with self._turns:
            call = _Call(function, arguments, self._idle)
            call.pool = self._take()
            try:
                result, error = call.pool.spawn(call).get()
            except BaseException:
                # Also where a time-out has ended the wait before the thread had it.
                call.drop()
                raise
        if error is not None:
            raise error
        return result

    def ask(self, timeout: float, function: Callable[..., Any], *arguments: Any) -> Any:
        """What it returns; None where there is no thread for it, no answer within so many seconds,
        or an OSError: then nothing is known."""
        try:
            with gevent.Timeout(timeout, False):
                return self.call(function, *arguments)
        except (OSError, ShortageError, MemoryError):
            pass
        return None

    def _take(self) -> Any:
        while True:
            for pool in sorted(self._idle, key=lambda each: -int(each.size)):
                if _has_thread(pool):
                    self._idle.remove(pool)
                    return pool
            if len(self._idle) == self._count:
                raise ShortageError("no thread can be started, the limit of processes is reached")
            gevent.sleep(_LOOK_AGAIN)


class _Call:
    """One call, and the pool that is idle again when it is over, whoever waits for it or not."""

    def __init__(
        self, function: Callable[..., Any], arguments: Tuple[Any, ...], idle: List[Any]
    ) -> None:
        self.pool: Any = None
        self._function = function
        self._arguments = arguments
        self._idle = idle
        self._begun = False

    def drop(self) -> None:
        """It could not be handed over; should it stand in the queue, it is not done later."""
        if not self._begun:
            self._begun = True
            self._idle.append(self.pool)

    def __call__(self) -> Tuple[Any, Optional[Exception]]:
        """gevent prints what a thread raises, also when somebody waits for it and handles it."""
        if self._begun:
            return None, None
        self._begun = True
        try:
            return self._function(*self._arguments), None
        except Exception as error:
            return None, error
        finally:
            self._idle.append(self.pool)


def _has_thread(pool: Any) -> bool:
    try:
        if pool.size == 0:
            pool.size = 1
    except (RuntimeError, MemoryError):
        return False
    return True
