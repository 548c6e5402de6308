"""Long work of the hub in slices, so that clients and children get their turn in between."""

import time
from typing import Iterable, Iterator, TypeVar

import gevent

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
