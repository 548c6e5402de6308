"""Long work of the hub in slices, so that clients and children get their turn in between."""

import time
from typing import Any, Iterable, Iterator, TypeVar

import gevent
from gevent.lock import Semaphore

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
    """For steps that each hold the hub up, as a fork does: `with` it they come one after the
    other, and between two of them everybody else gets a turn. Blocks the calling greenlet."""

    def __init__(self) -> None:
        self._lock = Semaphore(1)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: Any) -> None:
        try:
            gevent.spawn_later(_PAUSE, self._lock.release)
        except MemoryError:
            # Whoever waits for it would wait for ever.
            self._lock.release()
