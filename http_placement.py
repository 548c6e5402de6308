"""How a request of the http mode finds its instance: placement.py, with connections that are kept.

A connection to an instance that another request has used is taken where there is one, and else made
as for a client of tcp. Who waits is a client with its request; the queue answers it in the end.
"""

import errno
from typing import Any, Callable, List, Optional, Set, Tuple

from backends import Backend
from http_client import HttpClient
from http_keeping import is_sure
from http_requests import WAITING
from http_upstream import HttpUpstream
from placement import Placement, QueueLimits
from poller import Poller
from pool import Pool
from proxy_announcing import announce
from relay import STREAM
from strategies import Strategy
from wait_queue import PendingClient


class HttpPlacement(Placement):
    """See the module."""

    def __init__(
        self, poller: Poller, pool: Pool, strategy: Strategy, limits: QueueLimits,
        log: "Callable[[str], Any]", clock: "Callable[[], float]",
    ) -> None:
        super().__init__(poller, pool, strategy, limits, log, clock)
        self.poller = poller
        self.clock = clock
        #: No client gets a next request through.
        self.is_closing = False
        #: All connections to instances.
        self.upstreams: Set[HttpUpstream] = set()

    def place(self, client: HttpClient, preferred: "Tuple[Backend, ...]" = ()) -> None:
        """Find an instance for its request; most often there is a kept connection to it."""
        chosen = None
        available = self._pool.available
        if available and not (self.queue or client.repeats or self.is_closing):
            chosen = self.strategy.choose(available, client.key)
            idle: List[Any] = chosen.idle
            if idle and (client.request.repeatable or is_sure(client, idle[-1], self.clock)):
                upstream = idle.pop()
                upstream.asked_in = self.poller.polls
                chosen.open += 1
                if chosen.open == self._pool.most_open:
                    self._pool.refresh()
                client.send_to(upstream, chosen)
                return
        if self.is_closing:
            client.keep_alive = False
        try:
            if self.queue or not self._place(client, client.key, None, preferred, chosen):
                self._enqueue(client, client.key)
        except OSError as error:
            # The kernel has no room for one more watch (epoll_ctl(2), ENOSPC).
            self._warn(error.errno or 0)
            client.answer_error(503)

    def forget_pending(self, client: HttpClient) -> None:
        """It has gone before an instance was found."""
        self.drop(client.pending)

    # As Placement

    def _make_upstream(self, backend: Backend) -> HttpUpstream:
        return HttpUpstream(backend.family, STREAM, 0)

    def _take_kept(self, client: HttpClient, backend: Backend) -> bool:
        if client.repeats:
            return False
        idle: List[Any] = backend.idle
        if not (client.request.repeatable or is_sure(client, idle[-1], self.clock)):
            return False
        upstream = idle.pop()
        upstream.asked_in = self.poller.polls
        self._pool.take(backend)
        client.send_to(upstream, backend)
        return True

    def _connected(
        self, client: HttpClient, upstream: HttpUpstream, backend: Backend,
        pending: "Optional[PendingClient]", began: float,
    ) -> None:
        now = self.clock()
        upstream.start(self, backend, now)
        self.upstreams.add(upstream)
        backend.add_connect_time(now - began)
        number = upstream.fileno()
        attempt = None if pending is None else pending.attempt
        client.pending = None
        if self.proxy_protocol is not None and announce(client, upstream, self.proxy_protocol):
            # The kernel has no memory for the first bytes of a connection.
            self._has_no_upstream(client, upstream, errno.ENOBUFS)
            return
        try:
            if attempt is None:
                self.poller.watch(number, upstream)
            else:
                upstream.wants_writable = True
                self.poller.replace_handler(number, upstream)
        except OSError as error:
            # The kernel's memory for watches is used up (epoll_ctl(2), ENOSPC).
            self._has_no_upstream(client, upstream, error.errno or 0)
            return
        client.send_to(upstream, backend)

    def _has_no_upstream(self, client: HttpClient, upstream: HttpUpstream, code: int) -> None:
        """For lack of something of ours."""
        upstream.end()
        self._pool.release(upstream.backend)
        self._warn(code)
        client.answer_error(503)

    def _serve(self) -> None:
        super()._serve()
        self.poller.deliver()

    def _make_pending(self, client: HttpClient, key: str) -> PendingClient:
        pending = PendingClient(client, key, self, self.clock())
        client.pending = pending
        client.phase = WAITING
        return pending

    def _turn_away(self, client: HttpClient) -> None:
        client.answer_error(503)

    def _leave(self, pending: PendingClient) -> None:
        client = pending.client
        client.pending = None
        if client.phase == WAITING:
            client.answer_error(503)

    def _is_lost(self, pending: PendingClient) -> bool:
        client = pending.client
        return not self.poller.is_watched(client, client.fileno())
