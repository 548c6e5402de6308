"""Each client's way from the listener to a relay.

    admit --> choose --> connect ----------------------------------> relay
                ^          |  \\-- under way: wait for the socket --/
                |          |
                +----------+  refused or timed out: that backend is down, choose again
                |
              queue           none can take it: wait in line until one can, or time is over

Runs in the hub, for every client, and never blocks. On a local network the whole way is one call
of `admit`: a non-blocking connect there has succeeded or failed by the time it returns.
"""

import _socket
import errno
import os
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from gevent import get_hub

import backends
from backends import CONNECTED, OUR_SHORTAGES, UNDER_WAY, Backend, Pool
from connections import Connections
from poller import Poller
from relay import STREAM, End
from sockets import last_ceiling
from strategies import Strategy
from wait_queue import Attempt, Line, Visitor

#: Seconds between two looks at those who wait; runs only while someone does.
_LOOK_EVERY = 0.05

#: Seconds between two warnings of the same shortage.
_WARN_EVERY = 60.0


class Patience(NamedTuple):
    """How long, in seconds, and how many may wait."""

    connect_timeout: float
    queue_timeout: float
    queue_limit: int


class Admission:
    """See the module. `clock` is monotonic seconds, `log(text)` takes a line for people."""

    def __init__(
        self,
        poller: Poller,
        connections: Connections,
        strategy: Strategy,
        patience: Patience,
        log: "Callable[[str], Any]",
        clock: "Callable[[], float]",
    ) -> None:
        self.strategy = strategy
        self.patience = patience
        self.accepted = 0
        self.turned_away = 0
        self.queue = Line()
        self._attempts = Line()
        self._poller = poller
        self._connections = connections
        self._log = log
        self._clock = clock
        self._warned: Dict[int, float] = {}
        self._loop = get_hub().loop
        self._looker = self._loop.timer(_LOOK_EVERY, _LOOK_EVERY)
        self._serving = False
        #: When an instance was last seen to drain.
        self._drained_at = float("-inf")
        self._ceiling = last_ceiling()

    def begin(self, pool: Pool) -> None:
        """Meet the pool; the two know each other, so one is told after both are made."""
        self._pool = pool

    def admit(self, fileno: int, key: str) -> None:
        """Take an accepted connection, known by its client's address, to a backend."""
        try:
            self.accepted += 1
            client = End(_socket.AF_INET6 if ":" in key else _socket.AF_INET, STREAM, 0, fileno)
        except Exception:
            os.close(fileno)
            raise
        try:
            client.setblocking(False)
            if self.queue or not self._place(client, key, None):
                self._enqueue(client, key)
        except OSError as error:
            # The kernel has no room for one more watch (epoll_ctl(2), ENOSPC).
            self._drop(client)
            self._warn(error.errno or 0)
        except Exception:
            self._drop(client)
            raise

    def serve_queue(self) -> None:
        """Someone can take clients: bring them those who wait, once the loop comes round."""
        if self.queue and not self._serving:
            self._loop.run_callback(self._serve)
            self._serving = True

    def readmit(self, client: End) -> None:
        """Take a client on whose instance has gone before either had said a word."""
        visitor = None
        try:
            visitor = Visitor(client, _address_of(client), self, self._clock())
            self._poller.hand_over(client.fileno(), visitor)
            if visitor.has_left():
                self.left(visitor)
            else:
                self._go_on(visitor)
        except Exception:
            if visitor is not None:
                self.left(visitor)
            self._drop(client)
            raise

    def has_room(self) -> bool:
        """A client that came now would find an instance at once."""
        return not self.queue and bool(self._pool.available)

    def left(self, visitor: Visitor) -> None:
        """A client has gone, or its time is over, before it got through: leave nothing of it."""
        self.queue.remove(visitor)
        if visitor.attempt is not None:
            self._end(visitor.attempt).close()
        self._poller.forget(visitor.client.fileno())
        visitor.client.close()

    def progressed(self, attempt: Attempt) -> None:
        """Something happened to a connect under way."""
        code = backends.ask(attempt.upstream, attempt.backend)
        if code in CONNECTED:
            self._attempts.remove(attempt)
            visitor = attempt.visitor
            self._relay(visitor.client, attempt.upstream, attempt.backend, visitor, attempt.since)
        elif code not in UNDER_WAY:
            self._failed(attempt, code)

    def look_after(self) -> None:
        """Once a second: what could not be done when memory had run out is done now."""
        if self.is_empty():
            return
        self._look_out()
        for visitor in [*self.queue, *(attempt.visitor for attempt in self._attempts)]:
            if not self._poller.is_told(visitor, visitor.client.fileno()):
                self.left(visitor)

    def backends_under_way(self) -> "List[Backend]":
        """To whom a connection is being made, once for each."""
        return [attempt.backend for attempt in self._attempts]

    def is_empty(self) -> bool:
        """Nobody waits."""
        return not self.queue and not self._attempts

    def close(self) -> None:
        """Send everyone away who waits; idempotent."""
        self._looker.stop()
        self._looker.close()
        self.send_away()

    def send_away(self) -> None:
        """Everyone who waits."""
        for attempt in list(self._attempts):
            self.left(attempt.visitor)
        for visitor in list(self.queue):
            self.left(visitor)

    # The straight way

    def _place(self, client: End, key: str, visitor: "Optional[Visitor]") -> bool:
        """Connect the client to a backend, or begin to; false when none can take it now."""
        pool = self._pool
        choice = pool.available
        while choice:
            backend = self.strategy.choose(choice, key)
            upstream = self._new_end(backend)
            if upstream is None:
                return False
            began = self._clock()
            pool.take(backend)
            try:
                code = backends.begin(upstream, backend)
                if code in CONNECTED:
                    self._relay(client, upstream, backend, visitor, began)
                    return True
                if code in UNDER_WAY:
                    self._await(visitor or self._visit(client, key), upstream, backend, began)
                    return True
            except Exception:
                if not upstream.has_begun:
                    upstream.close()
                    pool.release(backend)
                raise
            upstream.close()
            pool.release(backend)
            choice = self._others(choice, backend, code, began)
        return False

    def _new_end(self, backend: Backend) -> "Optional[End]":
        """A socket to that backend; None, with a warning, when there is none to be had."""
        try:
            upstream = backends.new_end(backend, self._ceiling)
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
        client: End,
        upstream: End,
        backend: Backend,
        visitor: "Optional[Visitor]",
        began: float,
    ) -> None:
        """Where this raises, nothing has begun; what fails later is the connection's own matter."""
        poller = self._poller
        tells_room = visitor is not None and visitor.attempt is not None
        connection = self._connections.begin(client, upstream, backend, tells_room)
        try:
            backend.total += 1
            backend.connected_after(connection.began - began)
            if visitor is None:
                poller.watch(client.fileno(), client)
                poller.watch(upstream.fileno(), upstream)
                return
            # Who was watched before has had its edges already: read what they told of.
            poller.hand_over(client.fileno(), client)
            if visitor.attempt is None:
                poller.watch(upstream.fileno(), upstream)
            else:
                poller.hand_over(upstream.fileno(), upstream)
                poller.owe(upstream)
            poller.owe(client)
        except OSError as error:
            # The kernel's memory for watches is used up (epoll_ctl(2), ENOSPC).
            connection.close()
            self._warn(error.errno or 0)
        except Exception:
            poller.failed(client)

    # The other ways

    def _visit(self, client: End, key: str) -> Visitor:
        visitor = Visitor(client, key, self, self._clock())
        self._poller.watch(client.fileno(), visitor)
        return visitor

    def _enqueue(self, client: End, key: str) -> None:
        if len(self.queue) >= self.patience.queue_limit:
            self.turned_away += 1
            client.close()
        else:
            visitor = self._visit(client, key)
            try:
                self.queue.add(visitor)
                self._look_out()
            except Exception:
                self.left(visitor)
                raise

    def _serve(self) -> None:
        """First come, first served, as long as someone can take them."""
        self._serving = False
        try:
            while self.queue and self._pool.available:
                visitor = self.queue.first()
                self.queue.remove(visitor)
                if not self._place_again(visitor):
                    self._put_back(visitor)
                    return
        except MemoryError:
            pass  # the next look goes on with it
        except Exception as error:
            self._log("the queue met a bug: %r" % error)

    def _await(self, visitor: Visitor, upstream: End, backend: Backend, began: float) -> None:
        attempt = Attempt(visitor, upstream, backend, began)
        self._poller.watch_both_ways(upstream.fileno(), attempt)
        self._look_out()
        self._attempts.add(attempt)
        visitor.attempt = attempt

    def _end(self, attempt: Attempt) -> End:
        """Take an attempt out of everything; its socket is left to close."""
        self._attempts.remove(attempt)
        attempt.visitor.attempt = None
        self._pool.release(attempt.backend)
        self._poller.forget(attempt.upstream.fileno())
        return attempt.upstream

    def _failed(self, attempt: Attempt, code: int) -> None:
        self._end(attempt).close()
        self._blame(attempt.backend, code, attempt.since)
        self._go_on(attempt.visitor)

    def _go_on(self, visitor: Visitor) -> None:
        """To the next backend, or into the line."""
        if self.queue or not self._place_again(visitor):
            self._wait_on(visitor)
            self._look_out()

    def _place_again(self, visitor: Visitor) -> bool:
        try:
            return self._place(visitor.client, visitor.key, visitor)
        except OSError as error:
            self.left(visitor)
            self._warn(error.errno or 0)
            return True
        except Exception:
            self.left(visitor)
            raise

    def _drop(self, client: End) -> None:
        """Turn away who was never admitted, or only half."""
        self.turned_away += 1
        self._poller.forget(client.fileno())
        client.close()

    def _wait_on(self, visitor: Visitor) -> None:
        """At its place in the line; where that gets too long, the last one has to go."""
        self._put_back(visitor)
        if len(self.queue) > self.patience.queue_limit:
            self.turned_away += 1
            self.left(self.queue.last())

    def _put_back(self, visitor: Visitor) -> None:
        try:
            self.queue.put_back(visitor)
        except Exception:
            self.left(visitor)
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
        now = self._clock()
        if now - self._warned.get(code, -_WARN_EVERY) >= _WARN_EVERY:
            self._warned[code] = now
            self._log("clients have to wait: %s" % os.strerror(code).lower())

    # Time

    def _look_out(self) -> None:
        if not self._looker.active:
            self._looker.start(self._look)

    def _look(self) -> None:
        """Whose time is over? Runs while anyone waits."""
        try:
            now = self._clock()
            if self._pool.drains:
                self._drained_at = now
            if now - self._drained_at >= self.patience.queue_timeout:
                for visitor in self.queue.since(now - self.patience.queue_timeout):
                    self.turned_away += 1
                    self.left(visitor)
            for attempt in self._attempts.since(now - self.patience.connect_timeout):
                try:
                    self._failed(attempt, errno.ETIMEDOUT)
                except Exception:
                    self.left(attempt.visitor)
                    raise
            # A shortage of ours ends without anybody telling.
            self._serve()
        except MemoryError:
            pass  # the next look goes on with it
        except Exception as error:
            self._log("waiting met a bug: %r" % error)
        if not self.queue and not self._attempts:
            self._looker.stop()


def _address_of(client: End) -> str:
    """What the listener told, where it was not kept."""
    try:
        return str(client.getpeername()[0])
    except OSError:
        return ""
