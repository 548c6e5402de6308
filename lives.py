"""Greenlets that begin, also where there is no memory for their first step when they are made.

gevent.spawn may succeed, and the greenlet then die of a MemoryError before its function is entered:
nothing that stands in the function, no `try` and no `finally`, is reached, and whoever keeps the
greenlet takes it for one that runs. So a `Life` is begun again until it has begun.
"""

from typing import Any, Callable, List

import gevent
from gevent.event import Event

#: Seconds until it is looked again whether it has begun.
_RETRY = 0.5


class Life:
    """`function(*arguments)` in a greenlet of its own, for once."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._function = function
        self._arguments = arguments
        self._begun = False
        self._links: List[Callable[[Any], Any]] = []
        self._over = Event()
        self._greenlet: Any = None
        # Made now: when it is needed, there may be no memory for it.
        self._timer = gevent.get_hub().loop.timer(_RETRY, _RETRY)
        self._timer.start(self._begin)
        self._begin()

    def ready(self) -> bool:
        """It is over, be it done, ended by an error or killed."""
        return bool(self._over.is_set())

    def rawlink(self, callback: "Callable[[Any], Any]") -> None:
        """Call back with it when it is over; must not block."""
        self._links.append(callback)

    def wait(self, timeout: float) -> bool:
        """Until it is over, or so many seconds: False. Blocks the calling greenlet."""
        return bool(self._over.wait(timeout))

    def kill(self, block: bool = False) -> None:
        """End it where it stands; it is not waited for."""
        if not self._begun:
            self._begun = True
            self._conclude()
        if self._greenlet is not None:
            self._greenlet.kill(block=block)

    def _begin(self) -> None:
        """In the hub, or in whoever makes it."""
        if self._begun or (self._greenlet is not None and not self._greenlet.dead):
            return
        try:
            self._greenlet = gevent.spawn(self._run)
        except MemoryError:
            pass  # the timer comes again

    def _run(self) -> None:
        if self._begun:
            return
        self._begun = True
        self._timer.stop()
        try:
            self._function(*self._arguments)
        finally:
            self._conclude()

    def _conclude(self) -> None:
        self._timer.stop()
        self._timer.close()
        self._over.set()
        for callback in self._links:
            callback(self)


def rest(seconds: float) -> None:
    """Let the others go on for so long, where memory is short: shorter rather than raise that."""
    try:
        gevent.sleep(seconds)
    except MemoryError:
        pass
