"""`health.passive`: an instance whose answers fail in a row leaves the rotation for a while.

What counts is what clients get: answers of 5xx, and connections that end without a whole answer.
501 and 505 are about the request, and no failure (HAProxy's `observe layer7` has it so). A single
answer of another kind begins the count anew. At most half of the instances may be out for it:
what all of them answer is no reason to serve nobody.
"""

from typing import Optional

from backends import Backend
from errors import counted
from model import Passive
from pool import Pool

#: Answers of 5xx that say nothing of the instance: not implemented, version not supported.
_ABOUT_THE_REQUEST = (501, 505)

# What a failure is, as a message says it.
CUT, BROKEN, LATE = (
    "a connection that ended without an answer", "an answer that broke the rules of HTTP",
    "no answer in time")


class PassiveHealth:
    """Of one cluster; asked at the end of each answer, where it is configured."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.settings: Optional[Passive] = None

    def apply(self, settings: Optional[Passive]) -> None:
        """These count from now on; None: nothing does, and whoever is out for it comes back."""
        self.settings = settings
        if settings is None:
            self._pool.unbench()

    def answered(self, backend: Backend, status: int) -> None:
        """It has given a whole answer."""
        if status < 500 or status in _ABOUT_THE_REQUEST:
            backend.failures = 0
        else:
            self.failed(backend, "an answer of %d" % status)

    def failed(self, backend: Backend, kind: str) -> None:
        """It has given none, or one that says so; `kind` is what is told of it."""
        settings = self.settings
        if settings is None:
            return
        backend.failures += 1
        if backend.failures >= settings.count:
            backend.failures = 0
            self._pool.bench(backend, settings.seconds, "%s in a row, the last one %s" % (
                counted(settings.count, "failure"), kind))
