"""What the health checks of one instance have found: how many in a row, how many in all; pure.

An instance is healthy from its first pass on. `fall` failures in a row make it unhealthy, `rise`
passes in a row healthy again.
"""

from typing import NamedTuple, Optional

from model import Health

# What a check comes to, in the words of HAProxy's statistics (`check_status`).

#: It connects; it refuses; it has not connected in time.
CONNECTED, REFUSED, NOT_CONNECTED = "L4OK", "L4CON", "L4TOUT"
#: 2xx or 3xx; another status; no answer, or none of HTTP; none in time.
PASSED, BAD_STATUS, NO_HTTP, NO_ANSWER = "L7OK", "L7STS", "L7RSP", "L7TOUT"
#: There was no check yet.
UNKNOWN = "UNK"

CHECKS = (UNKNOWN, CONNECTED, NOT_CONNECTED, REFUSED, PASSED, NO_ANSWER, NO_HTTP, BAD_STATUS)

#: Whoever is this neither refuses nor answers: it hangs.
SILENT = (NOT_CONNECTED, NO_ANSWER)


class CheckResult(NamedTuple):
    """Of one check."""

    code: str
    #: For people: "GET /healthz: 503 Service Unavailable".
    text: str
    seconds: float

    @property
    def passed(self) -> bool:
        return self.code in (CONNECTED, PASSED)


class HealthRecord:
    """Of one instance: the counters are of all its runs, the rest is of the one that is under
    way."""

    def __init__(self) -> None:
        self.checks = 0
        self.failures = 0
        #: How often it has become unhealthy.
        self.downs = 0
        self.last: Optional[CheckResult] = None
        #: Why it is unhealthy; None: it is not.
        self.reason: Optional[str] = None
        #: When it became unhealthy, by the clock of who adds to it.
        self.since = 0.0
        #: Passes in a row of one that is unhealthy, or failures of one that is not.
        self._in_a_row = 0

    def begin(self) -> None:
        """Another run, or one whose checks have come to an end: nothing is known of it."""
        self.last = self.reason = None
        self._in_a_row = 0

    def note(self, result: CheckResult) -> None:
        """A check before it is ready: it counts, and nothing follows from it."""
        self.last = result
        self.checks += 1
        self.failures += not result.passed

    def add(self, result: CheckResult, settings: Health, now: float) -> bool:
        """A check while it serves. True: it has become unhealthy, or healthy again."""
        self.note(result)
        is_down = self.reason is not None
        if is_down and not result.passed:
            self.reason = result.text
        if result.passed != is_down:
            self._in_a_row = 0
            return False
        self._in_a_row += 1
        if self._in_a_row < (settings.rise if is_down else settings.fall):
            return False
        self._in_a_row = 0
        self.reason = None if is_down else result.text
        if not is_down:
            self.since = now
            self.downs += 1
        return True

    @property
    def is_silent(self) -> bool:
        """The last check got no answer in its time."""
        return self.last is not None and self.last.code in SILENT
