"""What has happened to an instance: its last states, and how often it was started again and why."""

import collections
import time
from typing import Callable, Deque, Dict, NamedTuple, Optional

from lifecycle import FAILED, FINISHED, RUNNING, STOPPED
from restart_policy import LONG_ENOUGH

#: States that are kept of each instance. A run that fails takes two of them.
MOST_MOMENTS = 30

# Why an instance was started again.

#: Its child had ended with an exit code, or of a signal.
EXIT, SIGNAL = "exit", "signal"
#: It had not come up: no child, a port that is taken, a time-out.
START = "start"
#: It ran longer than `timeout`, held more than `maxMemory`, or failed its health checks.
TIMEOUT, MEMORY, HEALTH = "timeout", "memory", "health"
#: There was no process, thread or memory for it.
SHORTAGE = "shortage"

CAUSES = (EXIT, SIGNAL, START, TIMEOUT, MEMORY, SHORTAGE, HEALTH)


class Moment(NamedTuple):
    """It came into a state then."""

    #: Unix time.
    at: float
    state: str
    #: What is to be said of it: why it does not run, who its child is. Empty: nothing.
    text: str


class InstanceHistory:
    """`clock` is Unix time."""

    def __init__(self, clock: "Callable[[], float]" = time.time) -> None:
        self._clock = clock
        #: The latest is the last.
        self.moments: Deque[Moment] = collections.deque(maxlen=MOST_MOMENTS)
        #: By cause.
        self.restarts: Dict[str, int] = dict.fromkeys(CAUSES, 0)
        #: How many there were, those that are forgotten included.
        self.total = 0
        #: When it failed first of those failures between which it never ran for long.
        self._failing_since: Optional[float] = None
        #: When it came up; None where it has failed since.
        self._running_since: Optional[float] = None

    @property
    def failing_for(self) -> float:
        """Seconds since its first failure in a row; 0 where its last run was none."""
        since = self._failing_since
        return 0.0 if since is None else max(0.0, self._clock() - since)

    def add(self, state: str, text: str) -> None:
        now = self._clock()
        self.total += 1
        self.moments.append(Moment(now, state, text))
        if state == RUNNING:
            self._running_since = now
        elif state in (STOPPED, FINISHED):
            self._failing_since = None
        elif state in FAILED:
            ran_since, self._running_since = self._running_since, None
            ran_long = ran_since is not None and now - ran_since >= LONG_ENOUGH
            if self._failing_since is None or ran_long:
                self._failing_since = now
