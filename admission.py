"""Each client's way from the listener to a relay, with `protocol = "tcp"`.

    admit --> placement.py: choose, connect, wait --> relay

On a local network the whole way is one call of `admit`.
"""

import os
from typing import Any, Callable, Optional

from backends import Backend
from connections import Connections
from listener import Admitter
from placement import Placement, QueueLimits
from poller import Poller
from pool import Pool
from proxy_announcing import announce
from proxy_protocol import Announced
from relay import STREAM, RelaySocket
from strategies import Strategy
from tls_sockets import relay_client
from wait_queue import PendingClient


class Admission(Admitter, Placement):
    """See the module. `clock` is monotonic seconds, `log(text)` takes a line for people."""

    def __init__(
        self, poller: Poller, connections: Connections, pool: Pool, strategy: Strategy,
        limits: QueueLimits, log: "Callable[[str], Any]", clock: "Callable[[], float]",
    ) -> None:  # fmt: skip
        super().__init__(poller, pool, strategy, limits, log, clock)
        self._connections = connections

    def admit(
        self, fileno: int, key: str, announced: "Optional[Announced]" = None, tls: Any = None
    ) -> None:
        """Take an accepted connection, known by its client's address, to a backend."""
        try:
            self.accepted += 1
            client = relay_client(fileno, key, tls)
        except Exception:
            os.close(fileno)
            raise
        try:
            if tls is None:  # else it has been so since the handshake
                client.setblocking(False)
            client.announced = announced
            if self.queue or not self._place(client, key, None):
                self._enqueue(client, key)
        except OSError as error:
            # The kernel has no room for one more watch (epoll_ctl(2), ENOSPC).
            self._reject(client)
            self._warn(error.errno or 0)
        except Exception:
            self._reject(client)
            raise

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

    # As Placement

    def _make_upstream(self, backend: Backend) -> RelaySocket:
        return RelaySocket(backend.family, STREAM, 0)

    def _connected(
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
            if self.proxy_protocol is not None:
                unsent = announce(client, upstream, self.proxy_protocol)
                if unsent:
                    client.block(memoryview(unsent))
            if pending is None:
                poller.watch(client.fileno(), client)
                poller.watch(upstream.fileno(), upstream)
                if client.has_more:
                    client.read(False)
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

    def _make_pending(self, client: RelaySocket, key: str) -> PendingClient:
        pending = PendingClient(client, key, self, self._clock())
        self._poller.watch(client.fileno(), pending)
        return pending

    def _turn_away(self, client: RelaySocket) -> None:
        client.close()

    def _leave(self, pending: PendingClient) -> None:
        self._poller.forget(pending.client.fileno())
        pending.client.close()

    def _is_lost(self, pending: PendingClient) -> bool:
        return not self._poller.is_watched(pending, pending.client.fileno())

    def _reject(self, client: RelaySocket) -> None:
        """Turn away who was never admitted, or only half."""
        self.turned_away += 1
        self._poller.forget(client.fileno())
        client.close()


def _address_of(client: RelaySocket) -> str:
    """The client's address, which is kept for those who wait only."""
    if client.announced is not None:
        return client.announced.source
    try:
        return str(client.getpeername()[0])
    except OSError:
        return ""
