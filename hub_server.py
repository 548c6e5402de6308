"""A gevent StreamServer that accepts in the hub, without a greenlet for each client.

What it has accepted belongs to whom it is handed to. Accepting can be stopped when something has
run out, and goes on by itself: gevent's own way needs memory for that.
"""

from typing import Any, Callable, Optional

import gevent
from gevent.server import StreamServer


class HubServer(StreamServer):
    """`handle` is called in the hub and must not block; `every` is seconds between two looks, while
    the timer runs, whether it can accept again."""

    def __init__(
        self, listener: Any, handle: "Optional[Callable[..., Any]]", every: float
    ) -> None:
        # Made now: when it is needed, memory may be what there is none of.
        self.timer = gevent.get_hub().loop.timer(every, every)
        super().__init__(listener, handle, spawn=None)

    @property
    def has_stopped_accepting(self) -> bool:
        """It should accept, and does not, for whatever reason."""
        return bool(self.started) and (self._watcher is None or not self._watcher.active)

    def accept_again(self) -> None:
        """Idempotent."""
        self.stop_accepting()
        self.start_accepting()

    def close(self) -> None:
        """Idempotent. What it has accepted stays open."""
        self.timer.stop()
        self.timer.close()
        super().close()

    def do_close(self, *args: Any) -> None:
        """Called by gevent when `handle` has returned: the client is not ours to close."""
