"""A server whose clients, whatever they do, leave the rest of pupgevent as it was.

It serves so many connections and no more, the oldest making room; and accepting and serving have
together at most a share of the hub's time (`TokenBucket`). Each connection has a greenlet.
"""

import collections
import time
from typing import Any

import gevent

from concurrency import TokenBucket
from hub_server import HubServer
from sockets import SHORTAGES, few, upstream_ceiling

#: Where descriptors are few, such a part of them at most.
_PART = 16

#: Seconds that accepting rests when the share is used up.
_PAUSE = 0.02

#: Seconds between two looks whether it accepts: so long at most it rests when descriptors or memory
#: have run out.
_LOOK_AFTER = 0.5


class LimitedConnection(gevent.Greenlet):
    """Serves one client of `server`."""

    def __init__(self, server: Any, sock: Any, address: Any) -> None:
        super().__init__()
        self.server = server
        self.socket = sock
        self.address = address

    def _run(self) -> None:
        raise NotImplementedError


class LimitedServer(HubServer):
    """Serves what waits at a listening socket."""

    #: What serves a client.
    connection_class = LimitedConnection
    #: Connections at a time.
    most_connections: int
    #: Seconds of the hub for a connection besides what it asks for.
    connection_cost: float

    def __init__(self, listener: Any) -> None:
        self._bucket = TokenBucket()
        self._most = few(self.most_connections, _PART)
        self._ceiling = upstream_ceiling()
        #: The greenlets of the open connections, the oldest first.
        self._open: Any = collections.OrderedDict()
        # Made now, as HubServer's.
        self._pause = gevent.get_hub().loop.timer(_PAUSE, _PAUSE)
        super().__init__(listener, None, _LOOK_AFTER)

    def start(self) -> None:
        super().start()
        self.timer.start(self._look_after)

    def close(self) -> None:
        """Stop accepting, and disconnect everybody. Idempotent."""
        self._pause.stop()
        self._pause.close()
        super().close()
        gevent.killall(list(self._open), block=False)

    # In the hub: nothing may leave these, or accepting ends with a traceback

    def do_read(self) -> Any:
        try:
            found = super().do_read()
        except (OSError, MemoryError) as error:
            if not isinstance(error, OSError) or error.errno in SHORTAGES:
                self._rest_for_long()
            return None
        if found and found[0].fileno() >= self._ceiling:
            # Others need what is left more.
            found[0].close()
            self._rest_for_long()
            return None
        return found

    def handle(self, sock: Any, address: Any) -> None:
        """A client has been accepted."""
        try:
            make_room(self._open, self._most)
            connection = self.connection_class(self, sock, address)
            self._open[connection] = None
            connection.rawlink(self._on_end)
            connection.start()
        except MemoryError:
            sock.close()
            self._rest_for_long()
            return
        now = time.monotonic()
        if self._bucket.delay_after(now - self.connection_cost, now):
            self.stop_accepting()
            self._pause.start(self._look_after)

    def _on_end(self, connection: LimitedConnection) -> None:
        self._open.pop(connection, None)
        connection.socket.close()

    def _rest_for_long(self) -> None:
        """Who comes now waits."""
        self.stop_accepting()
        self._pause.stop()

    def _look_after(self) -> None:
        """Accept again, whatever has ended it."""
        try:
            if self.has_stopped_accepting:
                self.accept_again()
            self._pause.stop()
        except MemoryError:
            pass  # the timers come again


def make_room(some: Any, most: int) -> None:
    """For one more among these greenlets, of which the oldest is the first."""
    while len(some) >= most:
        some.popitem(last=False)[0].kill(block=False)
