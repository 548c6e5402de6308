"""From a client that wants a backend to one that has it: choose, connect, wait.

    choose --> connect ------------------------------------> connected
      ^          |  \\-- under way: wait for the socket --/
      |          |
      +----------+  refused or timed out: that backend is down, choose again
      |
    queue           none can take it: wait until one can, or time is over

Runs in the hub, for every client, and never blocks. On a local network the whole way is one call:
a non-blocking connect there has succeeded or failed by the time it returns.

What is placed differs, and so what follows: with tcp a client, for as long as it is connected
(admission.py), with http one request of it (http_front.py). Each derives from `Placement`.
"""

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
    start_connect,
)
from poller import Poller
from pool import Pool
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


class Placement(PendingOwner):
    """See the module. `clock` is monotonic seconds, `log(text)` takes a line for people."""

    def __init__(
        self, poller: Poller, pool: Pool, strategy: Strategy, limits: QueueLimits,
        log: "Callable[[str], Any]", clock: "Callable[[], float]",
    ) -> None:
        #: Both may be exchanged while it is in use.
        self.strategy = strategy
        self.limits = limits
        #: In which version instances are told who a connection comes from, "v1" or "v2".
        self.proxy_protocol: Optional[str] = None
        self.accepted = 0
        self.turned_away = 0
        self.queue: WaitQueue[PendingClient] = WaitQueue()
        self._attempts: WaitQueue[ConnectAttempt] = WaitQueue()
        self._poller = poller
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

    # What differs

    def _make_upstream(self, backend: Backend) -> Any:
        """A socket to connect to it with. OSError."""
        raise NotImplementedError

    def _take_kept(self, client: Any, backend: Backend) -> bool:
        """Give the client a connection to that backend that is there already; false: it has to be
        made."""
        return False

    def _connected(
        self, client: Any, upstream: Any, backend: Backend, pending: "Optional[PendingClient]",
        began: float,
    ) -> None:
        """A connect that `began` then has succeeded; the backend is taken."""
        raise NotImplementedError

    def _make_pending(self, client: Any, key: str) -> PendingClient:
        raise NotImplementedError

    def _turn_away(self, client: Any) -> None:
        """There is no room in the queue for it; it is counted already."""
        raise NotImplementedError

    def _leave(self, pending: PendingClient) -> None:
        """It is in no queue any more: end what it waited for."""
        raise NotImplementedError

    def _is_lost(self, pending: PendingClient) -> bool:
        """For lack of memory nobody watches it any more."""
        raise NotImplementedError

    def _has_deadlines(self) -> bool:
        """There is somebody for `_expire_others`."""
        return False

    def _expire_others(self, now: float) -> None:
        """End whatever else has lasted too long."""

    # For whoever has it

    def serve_queue(self) -> None:
        """Someone can take clients: bring them those who wait, once the loop comes round."""
        if self.queue and not self._serving:
            self._loop.run_callback(self._serve)
            self._serving = True

    def has_room(self) -> bool:
        """A client that came now would find an instance at once."""
        return not self.queue and bool(self._pool.available)

    def drop(self, pending: PendingClient) -> None:
        """A client has gone, or its time is over, before it got through: leave nothing of it."""
        self.queue.remove(pending)
        if pending.attempt is not None:
            self._end(pending.attempt).close()
        self._leave(pending)

    def on_progress(self, attempt: ConnectAttempt) -> None:
        """Something happened to a connect under way."""
        code = connect_state(attempt.upstream, attempt.backend)
        if code in CONNECTED:
            self._attempts.remove(attempt)
            pending = attempt.pending
            self._connected(
                pending.client, attempt.upstream, attempt.backend, pending, attempt.since)
        elif code not in UNDER_WAY:
            self._failed(attempt, code)

    def maintain(self) -> None:
        """Once a second: do what could not be done when memory had run out."""
        if self.is_empty():
            return
        self._start_expiring()
        for pending in [*self.queue, *(attempt.pending for attempt in self._attempts)]:
            if self._is_lost(pending):
                self.drop(pending)

    def backends_under_way(self) -> "List[Backend]":
        """To whom a connection is being made, once for each."""
        return [attempt.backend for attempt in self._attempts]

    def is_empty(self) -> bool:
        """Nobody waits."""
        return not self.queue and not self._attempts and not self._has_deadlines()

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

    def _place(
        self, client: Any, key: str, pending: "Optional[PendingClient]",
        preferred: "Tuple[Backend, ...]" = (), chosen: "Optional[Backend]" = None,
    ) -> bool:
        """Connect the client to a backend, or begin to; false when none can take it now. `chosen`
        is one that the strategy has named already."""
        pool = self._pool
        choice = preferred or pool.available
        while choice:
            backend = chosen or self.strategy.choose(choice, key)
            chosen = None
            if backend.idle and self._take_kept(client, backend):
                return True
            upstream = self._open_upstream(backend)
            if upstream is None:
                return False
            began = self._clock()
            pool.take(backend)
            try:
                code = start_connect(upstream, backend)
                if code in CONNECTED:
                    self._connected(client, upstream, backend, pending, began)
                    return True
                if code in UNDER_WAY:
                    pending = pending or self._make_pending(client, key)
                    self._await(pending, upstream, backend, began)
                    return True
            except Exception:
                if not upstream.is_attached:
                    self._poller.forget(upstream.fileno())
                    upstream.close()
                    pool.release(backend)
                raise
            upstream.close()
            pool.release(backend)
            choice = self._others(choice, backend, code, began)
        return False

    def _open_upstream(self, backend: Backend) -> Any:
        """A socket to that backend; None, with a warning, when there is none to be had, or its
        descriptor is one that is left alone."""
        try:
            upstream = self._make_upstream(backend)
        except (OSError, MemoryError) as error:
            self._warn(getattr(error, "errno", None) or errno.ENOMEM)
            return None
        if upstream.fileno() < self._ceiling:
            return upstream
        upstream.close()
        self._warn(errno.EMFILE)
        return None

    def _others(
        self, choice: "Tuple[Backend, ...]", backend: Backend, code: int, began: float
    ) -> "Tuple[Backend, ...]":
        """Whom to try instead of one that a connect has failed to."""
        if self._blame(backend, code, began):
            return self._pool.available
        if code == errno.EADDRNOTAVAIL:
            return tuple(each for each in choice if each is not backend)
        return ()

    # The other ways

    def _enqueue(self, client: Any, key: str) -> None:
        if len(self.queue) >= self.limits.queue_limit:
            self.turned_away += 1
            self._turn_away(client)
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
                try:
                    if self._place_again(pending):
                        continue
                    self.queue.put_back(pending)
                    return
                except Exception:
                    self.drop(pending)
                    raise
        except MemoryError:
            pass  # the next look goes on with it
        except Exception as error:
            self._log("the queue met a bug: %r" % error)

    def _await(
        self, pending: PendingClient, upstream: Any, backend: Backend, began: float
    ) -> None:
        attempt = ConnectAttempt(pending, upstream, backend, began)
        self._poller.watch_both_ways(upstream.fileno(), attempt)
        self._start_expiring()
        self._attempts.add(attempt)
        pending.attempt = attempt

    def _end(self, attempt: ConnectAttempt) -> Any:
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
        try:
            if self.queue or not self._place_again(pending):
                self._wait_on(pending)
                self._start_expiring()
        except Exception:
            self.drop(pending)
            raise

    def _place_again(self, pending: PendingClient) -> bool:
        """False where none can take it now. What it raises means that it is to be dropped."""
        try:
            return self._place(pending.client, pending.key, pending)
        except OSError as error:
            self.drop(pending)
            self._warn(error.errno or 0)
            return True

    def _wait_on(self, pending: PendingClient) -> None:
        """At its place in the queue; where that gets too long, the last one has to go."""
        self.queue.put_back(pending)
        last = self.queue.last()
        if last is not None and len(self.queue) > self.limits.queue_limit:
            self.turned_away += 1
            self.drop(last)

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
            self._expire_others(now)
            # A shortage of ours ends without anybody telling.
            self._serve()
        except MemoryError:
            pass  # the next look goes on with it
        except Exception as error:
            self._log("waiting met a bug: %r" % error)
        if self.is_empty():
            self._expiry_timer.stop()
