"""What comes of a run that has ended: pure, but for the jitter.

A run that ended within ten seconds of being ready, or never got that far, is a failure whatever
its exit code: a server that exits with 0 as soon as it is started should not be started again
without end either. Each failure in a row doubles the delay before the next start.
"""

import random
from typing import Optional

from lifecycle import EXHAUST, FAIL, FINISH, RETRY
from world import Process

#: Seconds of running that make earlier failures forgotten.
LONG_ENOUGH = 10.0

#: At most so much of a delay is added to it at random, lest all should come back at once.
JITTER = 0.1

#: After so many doublings any delay is at its most; after a thousand a float would overflow.
_MOST_DOUBLINGS = 40


class Streak:
    """The failures of one instance, in a row."""

    def __init__(self) -> None:
        self.failures = 0

    def forget(self) -> None:
        self.failures = 0

    def verdict(self, process: Process, returncode: Optional[int], lasted: float) -> str:
        """The event that follows a run; `returncode` is None where no child could be started."""
        self.failures = 0 if lasted >= LONG_ENOUGH else self.failures + 1
        succeeded = returncode == 0
        if process.restart == "never" or (process.restart == "error" and succeeded):
            return FINISH if succeeded else FAIL
        if process.restart_limit is not None and self.failures >= process.restart_limit:
            return EXHAUST
        return RETRY

    def delay(self, process: Process) -> float:
        """Seconds before the next start."""
        doublings = min(max(0, self.failures - 1), _MOST_DOUBLINGS)
        delay = min(process.restart_delay * 2.0**doublings, process.restart_max_delay)
        return float(delay) * (1 + random.random() * JITTER)
