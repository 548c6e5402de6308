"""Whether an instance is started again after a run, and after what delay; pure but for the jitter.

A run that ended within ten seconds of being ready, or never got that far, is a failure whatever
its exit code: a server that exits with 0 as soon as it is started should not be started again
without end either. Each failure in a row doubles the delay before the next start.

`restartLimit` counts as Pup does, restarts in a row and not failures: with 3 the fourth run that
fails is the last one.
"""

import random
from typing import Optional

from errors import counted
from lifecycle import EXHAUST, FAIL, FINISH, RETRY
from model import Process

#: A run of so many seconds makes earlier failures forgotten.
LONG_ENOUGH = 10.0

#: The part of a delay that is added to it at random, at most, lest all should come back at once.
JITTER = 0.1

#: After so many doublings any delay has reached its maximum; after 1024 a float would overflow.
_MOST_DOUBLINGS = 40

#: For so many restarts in a row the configured delay alone counts, be it 0.
UNSLOWED_RESTARTS = 5

#: The shortest delay of each restart after these, in seconds. A program that ends at once takes
#: some milliseconds to start, so without a delay it would take a whole core. It is the default of
#: `restartDelayMs`, so it matters only where a shorter one is configured. systemd gives up after
#: as many starts (StartLimitBurst=5).
SHORTEST_DELAY = 0.5

#: Seconds until a start is tried again for which there was no process, thread or memory. Each
#: further one that fails so adds as much, up to the second number.
SHORTAGE_DELAY, _LONGEST_SHORTAGE_DELAY = 1.0, 5.0


class RestartPolicy:
    """Of one instance: counts its failures in a row, and tells what follows from a run."""

    def __init__(self) -> None:
        self.failures = 0
        #: Starts in a row that failed for lack of processes, threads or memory.
        self.shortages = 0

    def forget(self) -> None:
        self.failures = 0

    def verdict(
        self, process: Process, returncode: Optional[int], lasted: float, failed_start: bool = False
    ) -> str:
        """The event of lifecycle.py that follows a run.

        `returncode` is None where no child could be started, `lasted` the seconds between being
        ready and the end. After a `failed_start` the child has not done its work, whatever its exit
        code is.
        """
        self.failures = 0 if lasted >= LONG_ENOUGH else self.failures + 1
        succeeded = returncode == 0 and not failed_start
        if process.restart == "never" or (process.restart == "error" and succeeded):
            return FINISH if succeeded else FAIL
        if process.restart_limit == 0:
            return FINISH if succeeded else EXHAUST
        if process.restart_limit is not None and self.failures > process.restart_limit:
            return EXHAUST
        return RETRY

    def delay(self, process: Process) -> float:
        """Seconds before the next start."""
        doublings = min(max(0, self.failures - 1), _MOST_DOUBLINGS)
        delay = min(process.restart_delay * 2.0**doublings, process.restart_max_delay)
        if self.failures > UNSLOWED_RESTARTS:
            delay = max(delay, SHORTEST_DELAY)
        return float(delay) * (1 + random.random() * JITTER)

    def delay_of_unhealthy(self, process: Process, lasted: float) -> float:
        """Seconds before the next start, after a run that was ended since it was unhealthy: none
        after a long one. One after the other does not help, so each further one waits longer."""
        self.failures = 0 if lasted >= LONG_ENOUGH else self.failures + 1
        return self.delay(process) if self.failures else 0.0

    def delay_of_shortage(self) -> float:
        """Seconds before the next start, after one that has failed for such a lack."""
        self.shortages += 1
        longest = min(SHORTAGE_DELAY * self.shortages, _LONGEST_SHORTAGE_DELAY)
        return longest * random.uniform(0.8, 1.0)

    def reason(self, process: Process, verdict: str) -> str:
        """Why there is no further start, as a message says it."""
        if verdict == FINISH:
            spent = process.restart == "always"
            return "finished" + (", and restartLimit is 0" if spent else "")
        if verdict == FAIL:
            return "and it is not to be restarted%s" % (" before cron does" if process.cron else "")
        until = " until cron starts it" if process.cron else ""
        if process.restart_limit == 0:
            return "given up%s: restartLimit is 0" % until
        return "given up after %s in a row%s" % (counted(self.failures, "failure"), until)
