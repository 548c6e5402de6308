"""Certificates expire while pupgevent runs: once a day it warns of those that soon do, or have.

Nothing is read: the configuration knows when each of its certificates expires. What there is to say
at the start and at a reload is said there, with what only the files tell (tls_expiry.py).
"""

import time
from typing import Any, Callable, Dict, Iterator, List

from gevent import get_hub

from logs import Log
from model import Configuration, TlsPair
from tls_expiry import expires_soon, expiry_text, whose

#: Seconds between two looks: a day.
LOOK_EVERY = 86400.0


class CertificateWatch:
    """Of the configuration that runs, off until `start`. `wall` is Unix time; it is looked `every`
    so many seconds."""

    def __init__(
        self, configuration: Callable[[], Configuration], log: Log, every: float,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._configuration = configuration
        self._log = log
        self._wall = wall
        self._every = every
        self._timer: Any = get_hub().loop.timer(every, every)

    def start(self) -> None:
        """Look first after that time."""
        self._timer.start(self._look)

    def _look(self) -> None:
        """In the hub."""
        try:
            for text in warnings(self._configuration(), self._wall()):
                self._log.warning("core", text)
        except MemoryError:
            pass  # tomorrow again

    def close(self) -> None:
        """Idempotent."""
        self._timer.stop()
        self._timer.close()


def warnings(configuration: Configuration, now: float) -> Iterator[str]:
    """A line for each certificate that expires soon, or has expired, with all whose clients get to
    see it."""
    found: Dict[TlsPair, List[str]] = {}
    for process in configuration.processes:
        tls = process.cluster and process.cluster.tls
        for pair in tls.pairs if tls else ():
            if expires_soon(pair.not_after, now):
                found.setdefault(pair, []).append(process.id)
    for pair, ids in found.items():
        yield "%s: certificate of %s %s (%s)" % (
            whose(ids), whose(pair.names), expiry_text(pair.not_after, now), pair.cert)
