"""The balancer of one cluster: put together, and spoken to, from here.

It is told of instances in plain data (`up`, `down`, `drain`, `remove`) and knows no process. Its
parts, in the order in which a client meets them, and how each comes back to it:

    listener.py      the common port                    hands each client to a front
    proxy_intake.py  what proxies in front say of it    goes before the front, where there are some
    tls_intake.py    the handshake, where TLS ends here goes before the front, behind that
    admission.py     with tcp: a backend for a client   placement.py: choose, connect, wait
    connections.py   who is open, for how long          tells its owner that one has ended, or has
                                                        to go to another instance
    relay.py         bytes
    http_front.py    with http: a backend for each      http_client.py, http_upstream.py
                     request
    pool.py          who can take a client              tells its owner that somebody can again

The balancer is the owner of both and passes on what they tell. Which front the listener hands its
clients to may change while it runs, so there may be clients of both. All of it runs in the hub and
never blocks, except `drain` and `wait_delivered`, for which their caller waits.
"""

from collections import Counter
from typing import Any, Dict, List, Optional, Tuple, Union

import gevent
from gevent import get_hub

from access_log import AccessLog
from admission import Admission
from backends import Backend, Counters, Times, request_times_of, times_of
from connections import Connections, ConnectionsOwner, IdleLimits
from engine import Engine
from http_front import HttpFront
from http_quiet import http_limits_of
from listener import Admitter, Listener
from model import Cluster
from placement import Placement, QueueLimits
from pool import Pool, PoolOwner
from proxy_intake import ProxyIntake
from relay import RelaySocket
from status_report import Answers, BackendStatus, BalancerHttp, BalancerStatus
from strategies import STRATEGIES
from sweeping import SWEEP_SECONDS
from tls_intake import TlsIntake
from tls_status import tls_status

#: Seconds between two looks at what clients still have to get from instances that have ended.
_DELIVERY_LOOK = 0.1

#: Seconds in which none of them has taken a byte: they are not waited for any longer.
_STALLED = 5.0

#: Seconds between two slices of a sweep. With 0 the loop would go on with callbacks, up to fifty of
#: them, before it looks at sockets.
_SLICE_PAUSE = 0.0005


class BalancerOwner:
    """What a balancer tells and asks of whoever keeps it."""

    def warn(self, text: str) -> None:
        """A line for people."""
        raise NotImplementedError

    def on_reach_changed(self) -> None:
        """An instance that lives is no longer reached, or is again; in the hub."""

    def intruder(self, name: str) -> str:
        """Who else accepts in the place of that instance; empty where nobody is known to. May block
        the calling greenlet."""
        return ""


class Balancer(PoolOwner, ConnectionsOwner):
    """Of the cluster of the process that is called `name`."""

    def __init__(
        self, name: str, cluster: Cluster, engine: Engine, owner: BalancerOwner
    ) -> None:
        clock = engine.clock
        self.name = name
        self._cluster = cluster
        self._owner = owner
        self._clock = clock
        self._listener: Optional[Listener] = None
        self._intake = ProxyIntake(name, engine.poller, owner.warn, clock)
        self.tls_intake = TlsIntake(name, engine.poller, owner.warn, clock)
        self._contexts = engine.certificates.of(name, cluster)
        self._connections = Connections(
            engine.poller, engine.pipes, _idle_limits(cluster), clock, self)
        self._pool = Pool(cluster.max_connections, clock, self, cluster.slow_start)
        self._strategy = STRATEGIES[cluster.strategy]()
        self._admission = Admission(
            engine.poller, self._connections, self._pool, self._strategy, _queue_limits(cluster),
            owner.warn, clock)
        self._engine = engine
        #: Those that may have clients.
        self._fronts: List[Placement] = [self._admission]
        #: Those that have clients for long, and are swept once a second.
        self._swept: List[Union[Connections, HttpFront]] = [self._connections]
        #: Made when it is needed first.
        self._http: Optional[HttpFront] = None
        self._access_log: Optional[AccessLog] = None
        if cluster.protocol == "http":
            self._http = self._make_http()
        self._retired = False
        #: Nothing of it is left.
        self.closed = False
        loop = get_hub().loop
        self._sweep_timer = loop.timer(SWEEP_SECONDS, SWEEP_SECONDS)
        self._slice_timer = loop.timer(_SLICE_PAUSE)
        self._sweep_timer.start(self.sweep)

    def _make_http(self) -> HttpFront:
        engine, admission = self._engine, self._admission
        front = HttpFront(
            self.name, engine.poller, engine.pipes, self._connections, self._pool,
            admission.strategy, admission.limits, self._owner.warn, self._clock)
        self._apply_http(front)
        self._fronts.append(front)
        self._swept.append(front)
        return front

    def _apply_http(self, front: HttpFront) -> None:
        cluster, admission = self._cluster, self._admission
        front.apply(admission.strategy, admission.limits, http_limits_of(cluster),
                    cluster.common_port or 0, self._access_log)

    def _admitter(self) -> Admitter:
        """Who takes the clients that come now, as it is configured."""
        cluster = self._cluster
        front: Admitter = self._admission
        if self._is_http:
            front = self._http = self._http or self._make_http()
        for each in self._fronts:
            each.proxy_protocol = cluster.proxy_protocol
        front = self.tls_intake.before(
            front, self._contexts, self._is_http, cluster.head_timeout)
        return self._intake.before(
            front, cluster.accept_proxy_from, not self._is_http, cluster.head_timeout)

    @property
    def access_log(self) -> Optional[AccessLog]:
        """Of its requests, with http."""
        return self._access_log

    @access_log.setter
    def access_log(self, log: Optional[AccessLog]) -> None:
        self._access_log = log
        if self._http is not None:
            self._apply_http(self._http)

    # Told of instances, by name; see pool.py

    def up(self, name: str, host: str, port: int) -> None:
        self._pool.up(name, host, port)

    def suspect(self, name: str, reason: str) -> None:
        self._pool.suspect(name, reason)

    def unhealthy(self, name: str, reason: Optional[str]) -> None:
        self._pool.unhealthy(name, reason)

    def down(self, name: str) -> None:
        self._pool.down(name)

    def drain(self, name: str, seconds: float) -> None:
        self._pool.drain(name, seconds)

    def remove(self, name: str) -> None:
        self._pool.remove(name)

    def state_of(self, name: str) -> str:
        return self._pool.state_of(name)

    def connections_of(self, name: str) -> int:
        return self._pool.connections_of(name)

    @property
    def unit(self) -> str:
        """What is assigned to an instance: a connection, or with http a request."""
        return "request" if self._is_http else "connection"

    def lost(self) -> int:
        """Requests that instances have left without an answer, or without the end of one."""
        return self._pool.counters().lost

    # The common port

    @property
    def listener(self) -> Optional[Listener]:
        """Whose turn it is to accept for it; None while its port is closed."""
        return self._listener

    @property
    def address(self) -> "Optional[Tuple[Any, ...]]":
        """Where it listens: (host, port, ...), or None."""
        return None if self._listener is None else self._listener.address

    def take_over(self, listener: Listener) -> None:
        """Accept from that listener from now on; one that there was is closed only after that."""
        old, self._listener = self._listener, listener
        listener.serve(self._admitter())
        if old is not None:
            old.drain()

    def hand_over(self) -> Listener:
        """Give the listener away, open as it is, to `take_over`; there has to be one."""
        listener, self._listener = self._listener, None
        if listener is None:
            raise ValueError("%s has no listener" % self.name)
        return listener

    def stop_listening(self) -> None:
        """Close the common port; who has got through to it is still served. Idempotent."""
        if self._listener is not None:
            self.hand_over().drain()
        if self._http is not None:
            self._http.stop()

    # Changes, and the end

    def apply(self, cluster: Cluster) -> None:
        """Other settings for what runs; nobody's connection is touched."""
        admission = self._admission
        if cluster.strategy != self._cluster.strategy:
            self._strategy = admission.strategy = STRATEGIES[cluster.strategy]()
        if cluster.proxy_protocol != self._cluster.proxy_protocol:
            self._pool.close_idle()
        self._cluster = cluster
        self._contexts = self._engine.certificates.of(self.name, cluster)
        self._connections.limits = _idle_limits(cluster)
        admission.limits = _queue_limits(cluster)
        admitter = self._admitter()
        if self._http is not None:
            self._apply_http(self._http)
        if self._listener is not None:
            self._listener.serve(admitter)
        self._pool.limit(cluster.max_connections, cluster.slow_start)

    def wait_delivered(self, seconds: float) -> None:
        """Its instances have ended: block until what they said last has got to the clients that
        take it, so long at most."""
        end = moved_at = self._clock()
        end += seconds
        before: List[Tuple[int, int]] = []
        while True:
            left, now = [pair for each in self._swept for pair in each.undelivered()], self._clock()
            if left != before:
                before, moved_at = left, now
            if not left or now >= end or now - moved_at >= _STALLED:
                return
            gevent.sleep(_DELIVERY_LOOK)

    def retire(self) -> None:
        """Its instances have gone for good: take no client any more, and close by itself with the
        last connection. Idempotent."""
        self.stop_listening()
        self._pool.close()
        self._send_away()
        self._retired = True

    def _send_away(self) -> None:
        for intake in (self._intake, self.tls_intake):
            intake.send_away()
        for front in self._fronts:
            front.send_away()

    @property
    def _is_empty(self) -> bool:
        return not any(map(len, self._swept))

    def close(self) -> None:
        """Close everything that is open, connections too; idempotent."""
        self.closed = True
        self.stop_listening()
        self._pool.close()
        for intake in (self._intake, self.tls_intake):
            intake.close()
        for front in self._fronts:
            front.close()
        for timer in (self._sweep_timer, self._slice_timer):
            timer.stop()
            timer.close()
        self._connections.close()

    # Its counters

    def status(self) -> BalancerStatus:
        """With an empty host while it does not listen."""
        host, port = ("", 0) if self.address is None else self.address[:2]
        counters, fronts = self._pool.counters(), self._fronts
        http = self._http_status(counters) if self._is_http else None
        return BalancerStatus(
            host=host,
            port=port,
            protocol=self._cluster.protocol,
            strategy=self._cluster.strategy,
            accepted=sum(each.accepted for each in fronts),
            open=len(self._connections) if http is None else self._pool.assigned,
            total=counters.total,
            bytes_in=counters.bytes_in,
            bytes_out=counters.bytes_out,
            connect_errors=counters.connect_errors,
            retries=counters.retries,
            queue=sum(len(each.queue) for each in fronts),
            queue_most=max(each.queue.most for each in fronts),
            turned_away=self._intake.turned_away + self.tls_intake.turned_away
            + sum(each.turned_away for each in fronts),
            http=http,
            tls=tls_status(self._cluster.tls, self.tls_intake),
        )

    @property
    def _is_http(self) -> bool:
        return self._cluster.protocol == "http"

    def _http_status(self, counters: Counters) -> BalancerHttp:
        return BalancerHttp(
            connections=sum(map(len, self._swept)),
            answers=Answers(*counters.answers),
            own_answers=Answers(*([0] * 5 if self._http is None else self._http.own_answers)),
            request_times=request_times_of(self._pool.request_times()),
        )

    def backend_status(self, name: str) -> Optional[BackendStatus]:
        """Of that instance; None where it was never up."""
        backend = self._pool.get(name)
        return None if backend is None else backend.status(self._is_http)

    def times(self) -> "Tuple[Times, Dict[str, Times]]":
        """How long connects, first bytes and requests have taken: of all that there ever were, and
        by the name of the instance."""
        return self._pool.times(), {each.name: times_of(each) for each in self._pool}

    # Told by its parts

    def warn(self, text: str) -> None:
        self._owner.warn(text)

    def on_available(self) -> None:
        for front in self._fronts:
            front.serve_queue()

    def on_ramping(self, ramps: bool) -> None:
        strategy = self._strategy.ramped() if ramps else self._strategy
        for front in self._fronts:
            front.strategy = strategy

    def on_reach_changed(self) -> None:
        self._owner.on_reach_changed()

    def intruder(self, name: str) -> str:
        return self._owner.intruder(name)

    def on_ended(self, backend: Backend) -> None:
        self._pool.release(backend)

    def redispatch(self, client: RelaySocket) -> None:
        self._admission.redispatch(client)

    def has_room(self) -> bool:
        return self._admission.has_room()

    # Once a second

    @property
    def is_sweeping(self) -> bool:
        """A sweep is not over; it goes on by itself."""
        return any(each.is_sweeping for each in self._swept)

    def sweep(self) -> None:
        """Once in SWEEP_SECONDS, by the loop: count, close what was idle for too long, see to it
        that all goes on. Where that takes longer than a slice of the hub's time, the rest is done
        after everybody else had a turn; the next sweep begins when this one is over."""
        if self.closed or self._slice_timer.active:
            return
        try:
            if not self.is_sweeping:
                for each in self._swept:
                    each.start_sweep()
            for each in self._swept:
                each.sweep_slice()
            if self.is_sweeping:
                self._slice_timer.start(self.sweep)
            else:
                self._maintain()
        except MemoryError:
            pass  # the rest of it in a second
        except Exception as error:
            self._owner.warn("the sweep met a bug: %r" % error)

    def _maintain(self) -> None:
        """In one go: numbers are compared that have to be of one moment."""
        self._recount()
        self._pool.decay()
        self._pool.maintain()
        for front in self._fronts:
            front.maintain()
        if self._listener is not None:
            self._listener.maintain()
        if self._retired:
            # Who has come back from an instance that is gone waits for nobody.
            self._send_away()
            if self._is_empty:
                self.close()

    def _recount(self) -> None:
        """Each connection or request, and each connect, counts for one backend. Where memory has
        run out between the one and the other, it is counted anew: a drain waits for what counts."""
        under_way = [backend for front in self._fronts for backend in front.backends_under_way()]
        if self._pool.assigned != len(self._connections) + len(under_way):
            self._pool.recount(Counter([*(each.backend for each in self._connections), *under_way]))


def _idle_limits(cluster: Cluster) -> IdleLimits:
    return IdleLimits(cluster.idle_timeout, cluster.half_close_timeout)


def _queue_limits(cluster: Cluster) -> QueueLimits:
    return QueueLimits(cluster.connect_timeout, cluster.queue_timeout, cluster.queue_limit)
