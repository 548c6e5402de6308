"""A look at each of many things once in a while, in slices: the hub has others to serve."""

from typing import Any, Callable, Iterable, List

#: Seconds from one sweep to the next: time-outs are as fine as this. The quiet time of a connection
#: begins with the sweep that has seen its last byte.
SWEEP_SECONDS = 1.0

#: Seconds that a sweep may take of the hub at a time, and how many things are looked at between two
#: looks at the clock.
SLICE_SECONDS, LOOKS_AT_ONCE = 0.002, 16


class Sweep:
    """One sweep after the other; `look(thing, now)` is called for each thing."""

    def __init__(
        self, look: "Callable[[Any, float], None]", clock: "Callable[[], float]"
    ) -> None:
        self._look = look
        self._clock = clock
        #: What the sweep under way has not come to yet.
        self._left: List[Any] = []

    @property
    def is_under_way(self) -> bool:
        return bool(self._left)

    def start(self, things: "Iterable[Any]") -> None:
        """Once in SWEEP_SECONDS, and not before the last one is over; `slice` does the work."""
        self._left = list(things)

    def stop(self) -> None:
        self._left = []

    def slice(self) -> None:
        """Go on with the sweep, for SLICE_SECONDS or a little longer.

        A quiet time ends with the look at its connection, and not with the beginning of the sweep:
        bytes that came meanwhile would look older than they are.
        """
        now = self._clock()
        end = now + SLICE_SECONDS
        while self._left and now < end:
            some = self._left[-LOOKS_AT_ONCE:]
            del self._left[-LOOKS_AT_ONCE:]
            for thing in some:
                self._look(thing, now)
            now = self._clock()
