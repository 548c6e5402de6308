"""The status as it is now, or was a moment ago: for all who ask, by whatever way."""

import time
from typing import Callable, Container, Optional

from gevent.lock import BoundedSemaphore

import status
from concurrency import in_slices
from procfs import Meter
from runtime import Runtime
from status import Slices
from status_report import Status

#: Seconds for which a snapshot is recent. Whoever asks meanwhile gets the same one.
RECENT = 1.0


class Snapshots:
    """Of one runtime; `version` is pupgevent's."""

    def __init__(
        self, runtime: Runtime, version: str, clock: "Callable[[], float]" = time.monotonic
    ) -> None:
        self._runtime = runtime
        self._version = version
        self._clock = clock
        self._meter = Meter(runtime.threads)
        self._recent: Optional[Status] = None
        self._taken_at = float("-inf")
        self._turn = BoundedSemaphore()

    def take(
        self, chosen: "Optional[Container[str]]" = None, usage: bool = True,
        slices: Slices = in_slices,
    ) -> Status:
        """Of all instances, or of the `chosen` ones by name; `usage`: with CPU and memory. Blocks
        the calling greenlet."""
        pids = [
            each.pid for each in self._runtime.instances()
            if each.pid is not None and (chosen is None or each.name in chosen)
        ]
        usages = self._meter.measure(pids) if usage else {}
        return status.snapshot(self._runtime, usages, self._version, chosen, slices)

    def recent(self, slices: Slices) -> Status:
        """Of all, at most RECENT seconds old. Blocks the calling greenlet."""
        with self._turn:
            if self._recent is None or self._clock() - self._taken_at >= RECENT:
                taken_at = self._clock()
                self._recent = self.take(slices=slices)
                self._taken_at = taken_at
            return self._recent
