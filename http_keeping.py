"""Connections to instances that are kept for the next request: which ones, how long, for whom."""

from typing import Any, Callable, List

from backends import UP, Backend
from http_framing import DONE

#: Seconds for which a kept connection has surely not been closed by an instance for being idle: the
#: shortest time-outs that are usual are 1 s, as coarse as a second, and 5 s (Node.js, uvicorn).
SURE_SECONDS = 0.5

#: Seconds for which a connection to an instance is kept, as NGINX does.
_KEPT_SECONDS = 60.0


def keep(upstream: Any, backend: Backend, now: float, most: int) -> bool:
    """Its answer has ended: keep it, where instance and answer allow that, and there is room.

    A connection that was made before the backend last came up leads to a process that is gone.
    """
    idle = backend.idle
    if not (upstream.reusable and upstream.made_at >= backend.changed_at and backend.state == UP
            and upstream.unsent is None and len(idle) < most):
        return False
    if upstream.reader.state == DONE:
        upstream.reader.next_message()
    upstream.status = 0
    upstream.interims = 0
    upstream.is_begun = False
    upstream.idle_since = now
    idle.append(upstream)
    upstream.is_idle = True
    return True


def take(client: Any, backend: Backend, clock: "Callable[[], float]") -> Any:
    """The one used last, of at least one, for the request of that client; None where it has to have
    a new one.

    The instance may close a kept connection at any time. A request that may be repeated does not
    mind. Any other goes on one only if this client has been answered before, so that it knows what
    becomes of connections that are kept (HAProxy's `http-reuse safe`), and if the connection was in
    use a moment ago and is open.
    """
    if client.repeats:
        return None
    upstream: Any = backend.idle.pop()
    if client.repeatable or (client.requests and upstream.is_open_still()
                             and clock() - upstream.idle_since <= SURE_SECONDS):
        upstream.is_idle = False
        upstream.asked_in = upstream.poller.polls
        return upstream
    backend.idle.append(upstream)
    return None


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
