"""The http mode of one cluster: its clients, and an instance for each of their requests.

    listener.py --> admit --> http_client.py     a client, request by request
                                 |    ^
                               place  |          choose, connect, wait in queue (http_placement.py)
                                 v    |
                              http_upstream.py   a connection to an instance, answer by answer
                                 |
                              answered, lost     its place is free; the connection is kept, or not

What a request counts for is its own: `open` of a backend is the number of requests under way, so a
drain ends with the last answer. Connections to instances are kept for the next request, of
whichever client, the one used last first.

No request is lost to a connection that its instance has closed meanwhile: one that may be repeated
(RFC 9110, 9.2.2) and has no body is sent to another instance, once, if the connection ends before a
byte of an answer; one that may not goes on a connection that is surely open (http_keeping.py).
"""

import os
from typing import Any, Callable, List, Optional, Set, Tuple

from access_log import AccessLog
from backends import MOST_TIMES, Backend
from connections import Connections
from http_client import HttpClient
from http_identity import Identity
from http_keeping import SURE_SECONDS, drop_old
from http_lingering import LINGER_SECONDS, linger
from http_placement import HttpPlacement
from http_quiet import HttpLimits, count_bytes, look_at
from http_request_log import RequestLog
from http_requests import ANSWER, ENDED, ENDING, HEAD, IDLE, WAITING
from http_tunnel import begin_tunnel, count_tunnel
from http_upstream import HttpUpstream
from listener import Admitter
from passive_health import BROKEN, CUT, LATE, PassiveHealth
from placement import QueueLimits
from poller import Poller
from pool import Pool
from proxy_protocol import Announced
from sockets import WarningLimiter, unsent
from splicing import Pipes
from strategies import Strategy
from sweeping import Sweep
from tls_sockets import http_client
from wait_queue import WaitQueue


class HttpFront(Admitter, HttpPlacement):
    """See the module. `name` is the process's, `connections` takes tunnels over."""

    def __init__(
        self, name: str, poller: Poller, pipes: Pipes, connections: Connections, pool: Pool,
        strategy: Strategy, limits: QueueLimits, log: "Callable[[str], Any]",
        clock: "Callable[[], float]",
    ) -> None:
        super().__init__(poller, pool, strategy, limits, log, clock)
        self._name = name
        self.pipes = pipes
        self.passive = PassiveHealth(pool)
        self.apply(strategy, limits, HttpLimits(0, 0, 0, 0, 0, ()), 0, None)
        #: Answers of our own by class, from 1xx to 5xx.
        self.own_answers = [0] * 5
        #: Clients of which a part of a head has come, and those whose answer is to begin.
        self.heads: WaitQueue[Any] = WaitQueue()
        self.answers: WaitQueue[Any] = WaitQueue()
        self.lingering: WaitQueue[Any] = WaitQueue()
        self._clients: Set[HttpClient] = set()
        self._connections = connections
        self._rules = WarningLimiter(log, clock)
        self._sweep = Sweep(self._look_safely, clock)

    def __len__(self) -> int:
        """Its clients."""
        return len(self._clients)

    def apply(
        self, strategy: Strategy, limits: QueueLimits, http_limits: HttpLimits, port: int,
        access_log: "Optional[AccessLog]",
    ) -> None:
        """How it is to be from now on; `port` is the common one."""
        self.strategy, self.limits, self.http_limits = strategy, limits, http_limits
        self.request_log = None if access_log is None else RequestLog(access_log, self.clock)
        self.identity = Identity(
            self._name, port, http_limits.proxies, strategy.by_cookie, access_log is not None)
        self.response_timeout = http_limits.response_timeout
        self.passive.apply(http_limits.passive)
        #: Something besides is to be done at the end of each answer.
        self.attends = bool(access_log or self.response_timeout or http_limits.passive)

    # Clients

    def admit(
        self, fileno: int, key: str, announced: "Optional[Announced]" = None, tls: Any = None
    ) -> None:
        """Take an accepted connection, known by its client's address."""
        try:
            self.accepted += 1
            client = http_client(fileno, key, tls)
        except Exception:
            os.close(fileno)
            raise
        try:
            if tls is None:  # else it has been so since the handshake
                client.setblocking(False)
            client.start(self, key, announced, self.clock())
            self._clients.add(client)
            self.poller.watch(fileno, client)
        except Exception as error:
            self._clients.discard(client)
            self.poller.forget(fileno)
            client.close()
            if not isinstance(error, OSError):
                raise
            # The kernel has no room for one more watch (epoll_ctl(2), ENOSPC).
            self.turned_away += 1
            self._warn(error.errno or 0)
            return
        if client.has_more:
            try:
                client.read_request(False)
            except Exception:
                self.poller.failed(client)

    def ended(self, client: HttpClient) -> None:
        """It is closed."""
        self._clients.discard(client)
        if self.response_timeout:
            self.answers.remove(client)

    def linger(self, client: HttpClient) -> None:
        """It has been answered, and may still send."""
        try:
            self.ended(client)
            client.return_pipe()
            client.say_end()
        except Exception:
            self._clients.discard(client)
            client.end(True)
            raise
        linger(client, self.poller, self.lingering, self.clock)
        self._start_expiring()

    def wait_for(self, queue: "WaitQueue[Any]", client: HttpClient) -> None:
        """Its time-out begins."""
        client.since = self.clock()
        queue.add(client)
        self._start_expiring()

    # Requests

    def answered(self, client: HttpClient, upstream: HttpUpstream, now: float) -> None:
        """The answer is over, and has been given to the client as far as it takes it. Each step
        here is made for every request."""
        backend = upstream.backend
        backend.answers[upstream.status // 100 - 1] += 1
        if client.first_byte_at:
            backend.add_times(client.first_byte_at - client.began, now - client.began)
        else:
            backend.times.append(now - client.began)
            if len(backend.times) >= MOST_TIMES:
                backend.count_times()
        backend.bytes_in += client.passed
        backend.bytes_out += upstream.passed
        if self.attends:
            self._attend(client, upstream, now)
        upstream.passed = 0
        client.peer = upstream.peer = None
        client.requests += 1
        idle = backend.idle
        if upstream.reusable and upstream.home is idle and len(idle) < self.http_limits.keep:
            if upstream.is_begun:
                upstream.forget_answer()
            upstream.idle_since = now
            idle.append(upstream)
        else:
            upstream.end()
        if client.is_usual and client.keep_alive:
            client.phase = IDLE
        else:
            try:
                client.answered()
            except Exception:
                self.poller.failed(client)  # and not who calls: that is the instance's side
        backend.open -= 1
        if backend.emptied is not None or self._pool.most_open:
            self._pool.released(backend)

    def _attend(self, client: HttpClient, upstream: HttpUpstream, now: float) -> None:
        """What else has to be done at the end of an answer, where it has."""
        if self.request_log is not None:
            self.request_log.answered(client, upstream, now)
        if self.response_timeout:
            self.answers.remove(client)
        self.passive.answered(upstream.backend, upstream.status)

    def let_go(self, client: HttpClient) -> None:
        """The client has gone, or its request is given up: end the instance's side."""
        upstream = client.peer
        backend = upstream.backend
        count_bytes(client, upstream)
        client.peer = upstream.peer = None
        client.had = backend.name
        client.return_pipe()
        upstream.end()
        self.answers.remove(client)
        self._pool.release(backend)

    def give_up(self, client: HttpClient) -> bool:
        """As `let_go`, where another answer is to follow; false where a part of one was told, so
        that none can. Then the client is ended, too."""
        self.let_go(client)
        if client.told:
            client.abort()
            return False
        return True

    def lost(self, client: HttpClient, nothing_sent: bool) -> None:
        """The connection to the instance has ended before the answer had."""
        upstream = client.peer
        backend, now = upstream.backend, self.clock()
        if not nothing_sent:
            self.passive.failed(backend, CUT)
        if not self.give_up(client):
            backend.lost += 1
        elif not client.repeats and (client.request.repeatable or nothing_sent):
            client.repeats = 1
            client.is_usual = False
            client.had = ""
            client.first_byte_at = 0.0
            client.passed = len(client.message)
            backend.retries += 1
            others = tuple(each for each in self._pool.available if each is not backend)
            if others or now - upstream.idle_since > SURE_SECONDS:
                self.place(client, others)
            else:
                # It may be about to go, and its word of that on its way: not there again at once.
                self._enqueue(client, client.key)
        else:
            backend.lost += 1
            client.answer_error(502)

    def broke_rules(self, client: HttpClient, reason: str) -> None:
        """The instance's answer is none that can be passed on."""
        self._rules.warn("%s broke the rules of HTTP: %s" % (client.peer.backend.name, reason))
        self.passive.failed(client.peer.backend, BROKEN)
        if self.give_up(client):
            client.answer_error(502)

    def tunnel(
        self, client: HttpClient, upstream: HttpUpstream, answer: bytes, rest: bytes, status: int
    ) -> None:
        """From now on bytes are relayed, and nothing is looked at: it counts as a connection."""
        count_tunnel(client, upstream, status, self.request_log, self.clock())
        self.passive.answered(upstream.backend, status)
        client.phase = ENDED
        self.ended(client)
        self.upstreams.discard(upstream)
        begin_tunnel(client, upstream, self._connections, answer, rest)

    # Deadlines, as Placement asks for them

    def _has_deadlines(self) -> bool:
        return bool(self.heads or self.answers or self.lingering)

    def _expire_others(self, now: float) -> None:
        limits = self.http_limits
        if limits.head_timeout:
            for client in self.heads.waiting_since(now - limits.head_timeout):
                self.heads.remove(client)
                client.time_out(408)
        if limits.response_timeout:
            for client in self.answers.waiting_since(now - limits.response_timeout):
                self.answers.remove(client)
                if client.peer is not None:
                    self.passive.failed(client.peer.backend, LATE)
                client.time_out(504)
        for each in self.lingering.waiting_since(now - LINGER_SECONDS):
            self.lingering.remove(each)
            each.end()

    # Once a second

    @property
    def is_sweeping(self) -> bool:
        return self._sweep.is_under_way

    def start_sweep(self) -> None:
        self._sweep.start([*self._clients, *self.upstreams])

    def sweep_slice(self) -> None:
        self._sweep.slice()

    def maintain(self) -> None:
        super().maintain()
        now = self.clock()
        for backend in self._pool:
            drop_old(backend, now, self.http_limits.keep)

    def _look_safely(self, each: Any, now: float) -> None:
        try:
            if isinstance(each, HttpUpstream):
                if each.is_stray:
                    each.end()
            elif each.phase == ENDED:
                # There was no memory to say so.
                self._clients.discard(each)
                each.end()
            else:
                look_at(each, now, self.http_limits)
        except Exception:
            self.poller.failed(each)

    def backends_under_way(self) -> "List[Backend]":
        """And to whom a request is."""
        requests = [each.backend for each in self.upstreams if each.peer is not None]
        return super().backends_under_way() + requests

    def undelivered(self) -> "List[Tuple[int, int]]":
        """For each client that has still to get something: what has moved, and the bytes that the
        kernel still has."""
        return [(each.moved, unsent(each.fileno())) for each in self._clients
                if each.phase in (ANSWER, ENDING) or each.unsent is not None]

    # The end

    def stop(self) -> None:
        """No client comes any more: who has been answered is told that nothing follows."""
        self.is_closing = True
        for client in list(self._clients):
            client.keep_alive = False
            if client.phase == IDLE and client.requests and client.unsent is None:
                client.close_client()

    def close(self) -> None:
        super().close()
        self._sweep.stop()
        for client in list(self._clients):
            if client.peer is not None:
                self.let_go(client)
            if client.told or client.phase in (HEAD, WAITING):
                client.abort()
            else:
                client.close_client()
        for each in [*self.lingering, *self.upstreams]:
            each.end()
