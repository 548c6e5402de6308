"""The health checks of one child: before it is ready, and while it serves.

Each child whose cluster has `health` is checked in a greenlet of its own, so none waits for another
one. What follows is told to the rotation, whether a balancer is behind it or not.
"""

import random
import time
from typing import Callable, List, NamedTuple, Optional

from concurrency import Condition, Task, growing_pauses, pause
from errors import counted
from health_check import check
from health_record import NO_HTTP, REFUSED, CheckResult, HealthRecord
from logs import InstanceLog
from model import Health, InstanceSpec
from owners import RunOwner
from rotation import Registration

#: Seconds between two checks of a child that has not passed yet: the first, and the longest, where
#: `intervalMs` is not shorter. Who starts is waited for.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

#: The part of an interval by which it is longer or shorter, at random and at most: the checks of
#: instances that were started together drift apart.
_JITTER = 0.05

#: Seconds that a child's exit takes to be known: its sockets close before, and one that has exited
#: is not unhealthy.
_DEATH_IS_TOLD = 0.05

#: Seconds between the end of a check and the next one, at least.
_SHORTEST_PAUSE = 0.01


class Checks(NamedTuple):
    """How a child is checked."""

    health: Health
    #: The version of the PROXY protocol that it expects; None: it expects none.
    proxy_protocol: Optional[str]


class HealthWatch:
    """Of one child. `is_over()`: its run is cut short, so nothing of it matters any more."""

    def __init__(
        self, spec: InstanceSpec, record: HealthRecord, registration: Registration,
        condition: Condition, log: InstanceLog, owner: RunOwner, is_over: "Callable[[], bool]",
    ) -> None:
        self._spec = spec
        self.record = record
        self._registration = registration
        self._condition = condition
        self._log = log
        self._owner = owner
        self._is_over = is_over
        self._settings: Optional[Checks] = None
        self._task: Optional[Task] = None
        self._pauses = growing_pauses(_FIRST_PAUSE, _LONGEST_PAUSE, 1.5)
        self._next_first = 0.0
        record.begin()

    # Before it is ready

    def first_pass(self, settings: Optional[Checks], seconds: float) -> bool:
        """Its port accepts: does it pass a check, of so many seconds at most? Blocks the calling
        greenlet for that; False at once where its next check is not due yet."""
        if settings is None or self._spec.port is None:
            return True
        clock = self._condition.clock
        if clock() < self._next_first:
            return False
        results: List[Optional[CheckResult]] = []
        within = max(_SHORTEST_PAUSE, min(settings.health.timeout, seconds))
        task = Task(lambda: results.append(self._check(settings, within)))
        task.rawlink(lambda _: self._condition.notify())
        self._condition.wait_for(lambda: task.ready() or self._is_over())
        task.kill()
        self._next_first = clock() + min(settings.health.interval, next(self._pauses))
        result = results[0] if results else None
        if result is not None:
            self.record.note(result)
        return result is not None and result.passed

    @property
    def last_failure(self) -> str:
        """What its last check has come to, where it has failed; else empty."""
        last = self.record.last
        return "" if last is None or last.passed else last.text

    # While it serves

    def follow(self, settings: Optional[Checks]) -> None:
        """Check it by these from now on; None: no longer. Idempotent."""
        if settings == self._settings:
            return
        self.stop()
        self._settings = settings
        if settings is None or self._spec.port is None:
            self.record.begin()
            self._registration.unhealthy(None)
        else:
            self._task = Task(self._main_loop, settings)

    def stop(self) -> None:
        """Idempotent."""
        self._settings = None
        if self._task is not None:
            self._task.kill()
            self._task = None

    def _check(self, settings: Checks, seconds: float) -> Optional[CheckResult]:
        return check(self._spec.host, self._spec.port or 0, settings.health.path, seconds,
                     settings.proxy_protocol)

    def _main_loop(self, settings: Checks) -> None:
        # Many are started together: their first checks are spread over the interval.
        pause(settings.health.interval * random.random())
        while True:
            began = time.monotonic()
            try:
                self._look(settings)
            except MemoryError:
                pass  # the next check goes on with it
            except Exception as error:
                self._log.error("its health check met a bug: %r" % error)
            interval = settings.health.interval * random.uniform(1 - _JITTER, 1 + _JITTER)
            pause(max(_SHORTEST_PAUSE, began + interval - time.monotonic()))

    def _look(self, settings: Checks) -> None:
        health = settings.health
        result = self._check(settings, health.timeout)
        if result is not None and result.code in (REFUSED, NO_HTTP):
            pause(_DEATH_IS_TOLD)
        if result is None or self._is_over():
            return
        record = self.record
        changed = record.add(result, health, self._condition.clock())
        # Again each time: it is no news where nothing differs.
        self._registration.unhealthy(record.reason)
        if changed:
            self._tell(health)
            self._owner.on_news()
        if record.reason is not None and health.restart:
            self._owner.on_unhealthy(record.reason)

    def _tell(self, settings: Health) -> None:
        record = self.record
        if record.reason is not None:
            self._log.warning("unhealthy after %s in a row: %s" % (
                counted(settings.fall, "failed check"), record.reason))
        elif record.last is not None:
            self._log.info("healthy again: %s" % record.last.text)
