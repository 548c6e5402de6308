"""Long work of the hub in slices, so that clients and children get their turn in between."""

import contextlib
import time
from typing import Any, Iterable, Iterator, TypeVar

import gevent
from gevent.lock import Semaphore

#: Seconds that a step is waited for by the next.
_LONGEST_STEP = 1.0

T = TypeVar("T")

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


class Turnstile:
    """For steps that each hold the hub up, as a fork does: `with` a turn of it they come one after
    the other, and between two of them everybody else gets a turn. Blocks the calling greenlet."""

    def __init__(self) -> None:
        self._lock = Semaphore(1)
        # Made now: when it is needed, there may be no memory for it.
        self._timer: Any = gevent.get_hub().loop.timer(_PAUSE)

    @contextlib.contextmanager
    def turn(self) -> "Iterator[None]":
        """It is a matter of pace only: a step that hangs holds nobody up for long."""
        has_it = self._lock.acquire(timeout=_LONGEST_STEP)
        try:
            yield
        finally:
            if has_it:
                self._timer.start(self._lock.release)
