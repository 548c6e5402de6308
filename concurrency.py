"""How work shares one hub: tasks, threads, slices, a gate, waiting, and a share of the time.

    Task                a greenlet that starts also where memory is short
    Threads             calls that may block, in threads
    in_slices           a long loop in slices
    ForkGate            steps that each hold the hub up, one after the other
    Condition           waiting for what another greenlet, or the hub, brings about
    Broadcast           the same for any number of greenlets
    TokenBucket         at most a share of the hub's time
"""

import contextlib
import time
from typing import Any, Callable, Iterable, Iterator, List, Optional, Tuple, TypeVar

import gevent
from gevent.event import Event
from gevent.lock import Semaphore
from gevent.threadpool import ThreadPool

from errors import ShortageError

T = TypeVar("T")


# Tasks


#: Seconds until it is looked again whether a task has started.
_RETRY = 0.5


class Task:
    """`function(*arguments)` in a greenlet of its own, once.

    gevent.spawn may succeed, and the greenlet then die of a MemoryError before its function is
    entered: no `try` and no `finally` in the function is reached, and whoever keeps the greenlet
    takes it for one that runs. So a task is spawned again until it has started.
    """

    def __init__(self, function: Callable[..., None], *arguments: object) -> None:
        self._function = function
        self._arguments = arguments
        self._started = False
        self._links: List[Callable[[Task], None]] = []
        self._over = Event()
        self._greenlet: Any = None
        # Made now: when it is needed, there may be no memory for it.
        self._timer = gevent.get_hub().loop.timer(_RETRY, _RETRY)
        self._timer.start(self._start)
        self._start()

    def ready(self) -> bool:
        """Is it over, be it done, ended by an error or killed?"""
        return bool(self._over.is_set())

    def rawlink(self, callback: "Callable[[Task], None]") -> None:
        """Call back with the task when it is over; the callback must not block."""
        self._links.append(callback)

    def wait(self, timeout: float) -> bool:
        """True once it is over, False after so many seconds. Blocks the calling greenlet."""
        return bool(self._over.wait(timeout))

    def kill(self, block: bool = False) -> None:
        """End it where it stands, or before it has started."""
        if not self._started:
            self._started = True
            self._finish()
        if self._greenlet is not None:
            self._greenlet.kill(block=block)

    def _start(self) -> None:
        """Called by whoever makes the task, then by the timer in the hub."""
        if self._started or (self._greenlet is not None and not self._greenlet.dead):
            return
        try:
            self._greenlet = gevent.spawn(self._run)
        except MemoryError:
            pass  # the timer comes again

    def _run(self) -> None:
        if self._started:
            return
        self._started = True
        self._timer.stop()
        try:
            self._function(*self._arguments)
        finally:
            self._finish()

    def _finish(self) -> None:
        self._timer.stop()
        self._timer.close()
        self._over.set()
        for callback in self._links:
            callback(self)


def pause(seconds: float) -> None:
    """Sleep; where memory is short, for a shorter time instead of raising MemoryError."""
    try:
        gevent.sleep(seconds)
    except MemoryError:
        pass


# Threads, for calls that may block, so that the hub goes on


#: Seconds between two looks for a thread that has come back late from a call that was given up.
_LOOK_AGAIN = 0.05


class Threads:
    """At most `count` calls at a time; a further one waits, and only its greenlet does."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._turns = Semaphore(count)
        # A pool for each thread, and its thread is there before it gets a call: a gevent pool that
        # fails to start one raises, but keeps the call in its queue and does it later as well.
        self._idle: List[Any] = [ThreadPool(1) for _ in range(count)]

    def call(self, function: Callable[..., T], *arguments: object) -> T:
        """What the function returns or raises; ShortageError: there is no thread to do it."""
        with self._turns:
            call = _Call(function, arguments, self._idle)
            call.pool = self._take()
            try:
                done: Tuple[T, Optional[Exception]] = call.pool.spawn(call).get()
            except BaseException:
                # Also where a time-out has ended the wait before the thread had it.
                call.drop()
                raise
        result, error = done
        if error is not None:
            raise error
        return result

    def ask(
        self, timeout: float, function: Callable[..., T], *arguments: object
    ) -> Optional[T]:
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
        self, function: Callable[..., object], arguments: Tuple[object, ...], idle: List[Any]
    ) -> None:
        self.pool: Any = None
        self._function = function
        self._arguments = arguments
        self._idle = idle
        self._started = False

    def drop(self) -> None:
        """It could not be handed over; should it stand in the queue, it is not done later."""
        if not self._started:
            self._started = True
            self._idle.append(self.pool)

    def __call__(self) -> Tuple[object, Optional[Exception]]:
        """gevent prints what a thread raises, also when somebody waits for it and handles it."""
        if self._started:
            return None, None
        self._started = True
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


# Long work of the hub in slices, so that clients and children get their turn in between


#: Seconds of work after which everybody else gets a turn.
SLICE = 0.002

#: Seconds. With 0 the loop would only go on with the greenlets that are due, and not look at
#: sockets and timers before fifty of these have had their turn.
_PAUSE = 1e-6


def in_slices(items: "Iterable[T]") -> "Iterator[T]":
    """The items, one after the other; blocks the calling greenlet now and then.

    `items` is not to change meanwhile: where others may change it, hand over a copy.
    """
    until = time.monotonic() + SLICE
    for item in items:
        yield item
        if time.monotonic() >= until:
            gevent.sleep(_PAUSE)
            until = time.monotonic() + SLICE


#: Seconds that a step waits at most for the one before.
_LONGEST_STEP = 1.0


class ForkGate:
    """For steps that each hold the hub up, as a fork does. They go through one after the other, and
    between two of them everybody else gets a turn."""

    def __init__(self) -> None:
        self._lock = Semaphore(1)
        # Made now: when it is needed, there may be no memory for it.
        self._timer: Any = gevent.get_hub().loop.timer(_PAUSE)

    @contextlib.contextmanager
    def turn(self) -> "Iterator[None]":
        """Around one step; blocks the calling greenlet until it may begin.

        A step that hangs holds the next one up for a second only: the gate spreads the work, and
        protects nothing.
        """
        has_it = self._lock.acquire(timeout=_LONGEST_STEP)
        try:
            yield
        finally:
            if has_it:
                self._timer.start(self._lock.release)


# Waiting for what another greenlet, or the hub, brings about


class Condition:
    """One greenlet waits until a predicate holds; `notify` makes it look again."""

    def __init__(self, clock: "Callable[[], float]") -> None:
        self.clock = clock
        self._notified = Event()

    def notify(self) -> None:
        self._notified.set()

    def wait_for(
        self, predicate: "Callable[[], bool]", deadline: "Optional[float]" = None
    ) -> bool:
        """True once the predicate holds, False once the clock shows `deadline`. Blocks the calling
        greenlet."""
        while not predicate():
            remaining = None if deadline is None else deadline - self.clock()
            if remaining is not None and remaining <= 0:
                return False
            self._notified.clear()
            self._notified.wait(remaining)
        return True


#: Seconds after which who waits for a broadcast looks again by himself.
_LOOK_BY_ITSELF = 1.0


class Broadcast:
    """Any number of greenlets wait until a predicate of their own holds; `notify` makes them all
    look again."""

    def __init__(self) -> None:
        self._notified = Event()

    def notify(self) -> None:
        notified, self._notified = self._notified, Event()
        notified.set()

    def wait_for(self, predicate: "Callable[[], bool]") -> None:
        """Until it holds. Blocks the calling greenlet."""
        while not predicate():
            # Where there was no memory to wake who waits, he looks by himself.
            self._notified.wait(_LOOK_BY_ITSELF)


def growing_pauses(first: float, longest: float, factor: float) -> "Iterator[float]":
    """Seconds between looks at what nobody tells of: each is so many times the one before."""
    pause = first
    while True:
        yield pause
        pause = min(pause * factor, longest)


# A share of the hub's time


#: The part of the hub's time that the lines of all children together may have for long, and the
#: seconds of it that they may have at once.
SHARE, BURST = 0.2, 0.02

#: What a read costs besides itself: the loop's round, and the thread that writes out. Seconds.
_OVERHEAD = 0.00005

#: The shortest delay between two reads. More comes together meanwhile, and one read of it is
#: cheaper. Seconds.
_SHORTEST_DELAY = 0.002


class TokenBucket:
    """An account of the hub's time, common to all pipes: it fills slowly, and each read draws."""

    def __init__(self) -> None:
        self._credit = BURST
        self._counted_until = 0.0

    def delay_after(self, began: float, ended: float) -> float:
        """Seconds to wait after a read that took from `began` to `ended`; 0 after most."""
        earned = (ended - self._counted_until) * SHARE
        self._counted_until = ended
        self._credit = min(BURST, self._credit + earned) - (ended - began + _OVERHEAD)
        return 0.0 if self._credit >= 0 else max(-self._credit / SHARE, _SHORTEST_DELAY)
