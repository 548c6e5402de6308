"""Each client's way from the listener to a relay.

    admit --> choose --> connect ----------------------------------> relay
                ^          |  \\-- under way: wait for the socket --/
                |          |
                +----------+  refused or timed out: that backend is down, choose again
                |
              queue           none can take it: wait until one can, or time is over

Runs in the hub, for every client, and never blocks. On a local network the whole way is one call
of `admit`: a non-blocking connect there has succeeded or failed by the time it returns.
"""

import _socket
import errno
import os
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

from gevent import get_hub

from backends import (
    CONNECTED,
    OUR_SHORTAGES,
    UNDER_WAY,
    Backend,
    connect_state,
    open_upstream,
    start_connect,
)
from connections import Connections
from listener import Admitter
from poller import Poller
from pool import Pool
from relay import STREAM, RelaySocket
from sockets import WarningLimiter, upstream_ceiling
from strategies import Strategy
from wait_queue import ConnectAttempt, PendingClient, PendingOwner, WaitQueue

#: Seconds between two looks whose time is over; runs only while someone waits.
_EXPIRE_EVERY = 0.05


class QueueLimits(NamedTuple):
    """How long, in seconds, and how many may wait."""

    connect_timeout: float
    queue_timeout: float
    queue_limit: int


class Admission(Admitter, PendingOwner):
    """See the module. `clock` is monotonic seconds, `log(text)` takes a line for people."""

    def __init__(
        self, poller: Poller, connections: Connections, pool: Pool, strategy: Strategy,
        limits: QueueLimits, log: "Callable[[str], Any]", clock: "Callable[[], float]",
    ) -> None:  # fmt: skip
        #: Both may be exchanged while it is in use.
        self.strategy = strategy
        self.limits = limits
        self.accepted = 0
        self.turned_away = 0
        self.queue: WaitQueue[PendingClient] = WaitQueue()
        self._attempts: WaitQueue[ConnectAttempt] = WaitQueue()
        self._poller = poller
        self._connections = connections
        self._pool = pool
        self._log = log
        self._clock = clock
        self._warnings = WarningLimiter(log, clock)
        self._loop = get_hub().loop
        self._expiry_timer = self._loop.timer(_EXPIRE_EVERY, _EXPIRE_EVERY)
        self._serving = False
        #: When an instance was last seen to drain.
        self._drained_at = float("-inf")
        self._ceiling = upstream_ceiling()

    def admit(self, fileno: int, key: str) -> None:
        """Take an accepted connection, known by its client's address, to a backend."""
        try:
            self.accepted += 1
            family = _socket.AF_INET6 if ":" in key else _socket.AF_INET
            client = RelaySocket(family, STREAM, 0, fileno)
        except Exception:
            os.close(fileno)
            raise
        try:
            client.setblocking(False)
            if self.queue or not self._place(client, key, None):
                self._enqueue(client, key)
        except OSError as error:
            # The kernel has no room for one more watch (epoll_ctl(2), ENOSPC).
            self._reject(client)
            self._warn(error.errno or 0)
        except Exception:
            self._reject(client)
            raise

    def serve_queue(self) -> None:
        """Someone can take clients: bring them those who wait, once the loop comes round."""
        if self.queue and not self._serving:
            self._loop.run_callback(self._serve)
            self._serving = True

    def redispatch(self, client: RelaySocket) -> None:
        """Take a client to another instance: its own has gone before either had said a word."""
        pending = None
        try:
            pending = PendingClient(client, _address_of(client), self, self._clock())
            self._poller.replace_handler(client.fileno(), pending)
            if pending.has_left():
                self.drop(pending)
            else:
                self._try_next(pending)
        except Exception:
            if pending is not None:
                self.drop(pending)
            self._reject(client)
            raise

    def has_room(self) -> bool:
        """A client that came now would find an instance at once."""
        return not self.queue and bool(self._pool.available)

    def drop(self, pending: PendingClient) -> None:
        """A client has gone, or its time is over, before it got through: leave nothing of it."""
        self.queue.remove(pending)
        if pending.attempt is not None:
            self._end(pending.attempt).close()
        self._poller.forget(pending.client.fileno())
        pending.client.close()

    def on_progress(self, attempt: ConnectAttempt) -> None:
        """Something happened to a connect under way."""
        code = connect_state(attempt.upstream, attempt.backend)
        if code in CONNECTED:
            self._attempts.remove(attempt)
            pending = attempt.pending
            self._relay(pending.client, attempt.upstream, attempt.backend, pending, attempt.since)
        elif code not in UNDER_WAY:
            self._failed(attempt, code)

    def maintain(self) -> None:
        """Once a second: do what could not be done when memory had run out."""
        if self.is_empty():
            return
        self._start_expiring()
        for pending in [*self.queue, *(attempt.pending for attempt in self._attempts)]:
            if not self._poller.is_watched(pending, pending.client.fileno()):
                self.drop(pending)

    def backends_under_way(self) -> "List[Backend]":
        """To whom a connection is being made, once for each."""
        return [attempt.backend for attempt in self._attempts]

    def is_empty(self) -> bool:
        """Nobody waits."""
        return not self.queue and not self._attempts

    def close(self) -> None:
        """Send everyone away who waits; idempotent."""
        self._expiry_timer.stop()
        self._expiry_timer.close()
        self.send_away()

    def send_away(self) -> None:
        """Everyone who waits."""
        for attempt in list(self._attempts):
            self.drop(attempt.pending)
        for pending in list(self.queue):
            self.drop(pending)

    # The straight way

    def _place(self, client: RelaySocket, key: str, pending: "Optional[PendingClient]") -> bool:
        """Connect the client to a backend, or begin to; false when none can take it now."""
        pool = self._pool
        choice = pool.available
        while choice:
            backend = self.strategy.choose(choice, key)
            upstream = self._open_upstream(backend)
            if upstream is None:
                return False
            began = self._clock()
            pool.take(backend)
            try:
                code = start_connect(upstream, backend)
                if code in CONNECTED:
                    self._relay(client, upstream, backend, pending, began)
                    return True
                if code in UNDER_WAY:
                    pending = pending or self._make_pending(client, key)
                    self._await(pending, upstream, backend, began)
                    return True
            except Exception:
                if not upstream.is_attached:
                    upstream.close()
                    pool.release(backend)
                raise
            upstream.close()
            pool.release(backend)
            choice = self._others(choice, backend, code, began)
        return False

    def _open_upstream(self, backend: Backend) -> "Optional[RelaySocket]":
        """A socket to that backend; None, with a warning, when there is none to be had."""
        try:
            upstream = open_upstream(backend, self._ceiling)
        except (OSError, MemoryError) as error:
            self._warn(getattr(error, "errno", None) or errno.ENOMEM)
            return None
        if upstream is None:
            self._warn(errno.EMFILE)
        return upstream

    def _others(
        self, choice: "Tuple[Backend, ...]", backend: Backend, code: int, began: float
    ) -> "Tuple[Backend, ...]":
        """Whom to try instead of one that a connect has failed to."""
        if self._blame(backend, code, began):
            return self._pool.available
        if code == errno.EADDRNOTAVAIL:
            return tuple(each for each in choice if each is not backend)
        return ()

    def _relay(
        self,
        client: RelaySocket,
        upstream: RelaySocket,
        backend: Backend,
        pending: "Optional[PendingClient]",
        began: float,
    ) -> None:
        """Where this raises, nothing has begun; what fails later is the connection's own matter."""
        poller = self._poller
        wants_writable = pending is not None and pending.attempt is not None
        connection = self._connections.start(client, upstream, backend, wants_writable)
        try:
            backend.total += 1
            backend.add_connect_time(connection.began - began)
            if pending is None:
                poller.watch(client.fileno(), client)
                poller.watch(upstream.fileno(), upstream)
                return
            # A socket that was watched before has had its edges: what they told of is read now.
            poller.replace_handler(client.fileno(), client)
            if pending.attempt is None:
                poller.watch(upstream.fileno(), upstream)
            else:
                poller.replace_handler(upstream.fileno(), upstream)
                poller.call_soon(upstream)
            poller.call_soon(client)
        except OSError as error:
            # The kernel's memory for watches is used up (epoll_ctl(2), ENOSPC).
            connection.close()
            self._warn(error.errno or 0)
        except Exception:
            poller.failed(client)

    # The other ways

    def _make_pending(self, client: RelaySocket, key: str) -> PendingClient:
        pending = PendingClient(client, key, self, self._clock())
        self._poller.watch(client.fileno(), pending)
        return pending

    def _enqueue(self, client: RelaySocket, key: str) -> None:
        if len(self.queue) >= self.limits.queue_limit:
            self.turned_away += 1
            client.close()
        else:
            pending = self._make_pending(client, key)
            try:
                self.queue.add(pending)
                self._start_expiring()
            except Exception:
                self.drop(pending)
                raise

    def _serve(self) -> None:
        """First come, first served, as long as someone can take them."""
        self._serving = False
        try:
            while self.queue and self._pool.available:
                pending = next(iter(self.queue))
                self.queue.remove(pending)
                if not self._place_again(pending):
                    self._put_back(pending)
                    return
        except MemoryError:
            pass  # the next look goes on with it
        except Exception as error:
            self._log("the queue met a bug: %r" % error)

    def _await(
        self, pending: PendingClient, upstream: RelaySocket, backend: Backend, began: float
    ) -> None:
        attempt = ConnectAttempt(pending, upstream, backend, began)
        self._poller.watch_both_ways(upstream.fileno(), attempt)
        self._start_expiring()
        self._attempts.add(attempt)
        pending.attempt = attempt

    def _end(self, attempt: ConnectAttempt) -> RelaySocket:
        """Take an attempt out of everything; its socket is left to close."""
        self._attempts.remove(attempt)
        attempt.pending.attempt = None
        self._pool.release(attempt.backend)
        self._poller.forget(attempt.upstream.fileno())
        return attempt.upstream

    def _failed(self, attempt: ConnectAttempt, code: int) -> None:
        self._end(attempt).close()
        self._blame(attempt.backend, code, attempt.since)
        self._try_next(attempt.pending)

    def _try_next(self, pending: PendingClient) -> None:
        """To the next backend, or into the queue."""
        if self.queue or not self._place_again(pending):
            self._wait_on(pending)
            self._start_expiring()

    def _place_again(self, pending: PendingClient) -> bool:
        try:
            return self._place(pending.client, pending.key, pending)
        except OSError as error:
            self.drop(pending)
            self._warn(error.errno or 0)
            return True
        except Exception:
            self.drop(pending)
            raise

    def _reject(self, client: RelaySocket) -> None:
        """Turn away who was never admitted, or only half."""
        self.turned_away += 1
        self._poller.forget(client.fileno())
        client.close()

    def _wait_on(self, pending: PendingClient) -> None:
        """At its place in the queue; where that gets too long, the last one has to go."""
        self._put_back(pending)
        last = self.queue.last()
        if last is not None and len(self.queue) > self.limits.queue_limit:
            self.turned_away += 1
            self.drop(last)

    def _put_back(self, pending: PendingClient) -> None:
        try:
            self.queue.put_back(pending)
        except Exception:
            self.drop(pending)
            raise

    def _blame(self, backend: Backend, code: int, began: float) -> bool:
        """Say whose fault a failed connect is; true when it is the backend's."""
        if code in OUR_SHORTAGES:
            self._warn(code)
            return False
        backend.retries += 1
        self._pool.failed(backend, os.strerror(code).lower(), began)
        return True

    def _warn(self, code: int) -> None:
        """One line for a shortage, however many clients it meets."""
        self._warnings.warn("clients have to wait: %s" % os.strerror(code).lower(), code)

    # Time

    def _start_expiring(self) -> None:
        if not self._expiry_timer.active:
            self._expiry_timer.start(self._expire)

    def _expire(self) -> None:
        """Whose time is over? Runs while anyone waits."""
        try:
            now = self._clock()
            if self._pool.drains:
                self._drained_at = now
            if now - self._drained_at >= self.limits.queue_timeout:
                for pending in self.queue.waiting_since(now - self.limits.queue_timeout):
                    self.turned_away += 1
                    self.drop(pending)
            for attempt in self._attempts.waiting_since(now - self.limits.connect_timeout):
                try:
                    self._failed(attempt, errno.ETIMEDOUT)
                except Exception:
                    self.drop(attempt.pending)
                    raise
            # A shortage of ours ends without anybody telling.
            self._serve()
        except MemoryError:
            pass  # the next look goes on with it
        except Exception as error:
            self._log("waiting met a bug: %r" % error)
        if not self.queue and not self._attempts:
            self._expiry_timer.stop()


def _address_of(client: RelaySocket) -> str:
    """The client's address, which is kept for those who wait only."""
    try:
        return str(client.getpeername()[0])
    except OSError:
        return ""
