"""How long a client of the http mode has been quiet: a sweep finds out, once a second.

As with tcp (connections.py): time-outs are not timers, and who has stopped reading is told from who
reads slowly by what the kernel still has for it.
"""

from typing import Any, NamedTuple, Optional, Tuple

from model import Cluster, Network, Passive
from sockets import unsent


class HttpLimits(NamedTuple):
    """What the configuration says of requests: seconds, of which 0 is never; and numbers."""

    idle: float
    #: The same for who has ended its side.
    half_closed: float
    head_timeout: float
    response_timeout: float
    #: Idle connections to each instance.
    keep: int
    #: Whose word about their own clients counts.
    proxies: Tuple[Network, ...]
    #: What failed answers lead to.
    passive: Optional[Passive] = None


def http_limits_of(cluster: Cluster) -> HttpLimits:
    # Of whom a connection was announced is nobody else's: none is kept.
    keep = cluster.keep_upstream if cluster.proxy_protocol is None else 0
    return HttpLimits(
        cluster.idle_timeout, cluster.half_close_timeout, cluster.head_timeout,
        cluster.response_timeout, keep, cluster.accept_proxy_from or (),
        cluster.health and cluster.health.passive)


def look_at(client: Any, now: float, limits: HttpLimits) -> None:
    """End it where that is due."""
    if client.is_torn or not client.poller.is_watched(client, client.fileno()):
        client.fail()
    elif _has_been_quiet(client, now, limits):
        client.idle_for_too_long()


def _has_been_quiet(client: Any, now: float, limits: HttpLimits) -> bool:
    """Nothing has moved for as long as its limit; what has, is counted here."""
    if _count(client):
        client.quiet_since = now
        client.unacknowledged = -1
        return False
    if client.unacknowledged < 0:
        client.unacknowledged = unsent(client.fileno())
    limit = limits.half_closed if client.eof or client.half_closed else limits.idle
    return bool(limit) and now - client.quiet_since >= limit and not _is_moving(client, now)


def _count(client: Any) -> bool:
    """Add the bytes since the last look to the backend's; false when nothing has moved."""
    upstream = client.peer
    mark = (client.moved, client.requests, client.began)
    moved = bool(mark != client.seen)
    client.seen = mark
    if upstream is None or not (client.passed or upstream.passed):
        return moved
    client.sent += upstream.passed
    count_bytes(client, upstream)
    return True


def count_bytes(client: Any, upstream: Any) -> None:
    """Add what has passed on the two since the last time to their backend's counters."""
    backend = upstream.backend
    backend.bytes_in += client.passed
    backend.bytes_out += upstream.passed
    client.passed = upstream.passed = 0


def _is_moving(client: Any, now: float) -> bool:
    """Nothing was written for long, yet the kernel still delivers what was: a slow reader, not one
    who has stopped."""
    left = unsent(client.fileno())
    if left == client.unacknowledged:
        return False
    client.unacknowledged = left
    client.quiet_since = now
    return True
