"""Connections to instances that are kept for the next request: which ones, how long, for whom."""

from typing import Any, Callable, List

from backends import Backend

#: Seconds for which a kept connection has surely not been closed by an instance for being idle: the
#: shortest time-outs that are usual are 1 s, as coarse as a second, and 5 s (Node.js, uvicorn).
SURE_SECONDS = 0.5

#: Seconds for which a connection to an instance is kept, as NGINX does.
_KEPT_SECONDS = 60.0


def is_sure(client: Any, upstream: Any, clock: "Callable[[], float]") -> bool:
    """A request that may not be repeated can go on that kept connection.

    The instance may close it at any time. So it has to be a request of a client that has been
    answered before, and so knows what becomes of connections that are kept (HAProxy's `http-reuse
    safe`), and a connection that was in use a moment ago and is open.
    """
    return bool(client.requests) and upstream.is_open_still() and (
        clock() - upstream.idle_since <= SURE_SECONDS)


def drop_old(backend: Backend, now: float, most: int) -> None:
    """Close those that nobody has needed for long, and those beyond so many."""
    idle: List[Any] = backend.idle
    old = 0
    while old < len(idle) and idle[old].idle_since < now - _KEPT_SECONDS:
        old += 1
    backend.close_idle(min(len(idle) - old, most))


def discard(upstream: Any) -> None:
    """Something has happened to one that is kept: its instance has closed it, or says what nobody
    has asked for."""
    idle = upstream.backend.idle
    if upstream in idle:
        idle.remove(upstream)
    upstream.end()
