"""The open connections of one cluster: their two sockets, how idle they are, what they moved.

Time-outs are not timers. Once a second a sweep looks at every connection, and closes one whose byte
counts have stood still for as long as its limit. The same look adds the bytes to the backend's
counters, so the hot path counts on the socket alone.

A sweep may be over 50,000 connections, of which each takes up to 4 µs. So it is done in slices, and
between two of them the loop serves its sockets.
"""

import _socket
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from gevent import get_hub

from backends import Backend
from poller import Poller
from relay import RelaySocket
from relayed_connection import RelayedConnection
from sockets import keep_alive, reset_on_close, unread, unsent
from splicing import Pipes
from sweeping import SWEEP_SECONDS, Sweep

#: Seconds without a byte after which a connection gives back what it does not need.
_IDLE_AFTER = SWEEP_SECONDS / 2

#: Seconds that the news of an instance's end may take from the kernel to here.
_SUSPECT_SECONDS = 0.1


class ConnectionsOwner:
    """What connections tell and ask of whoever keeps them."""

    def on_ended(self, backend: Backend) -> None:
        """A connection of that backend has ended, however it did; once for each."""
        raise NotImplementedError

    def redispatch(self, client: RelaySocket) -> None:
        """The instance of that client has gone, or goes, and neither has said a word: take the
        client to another one."""
        raise NotImplementedError

    def has_room(self) -> bool:
        """Would such a client find another instance at once?"""
        raise NotImplementedError


class Connection(RelayedConnection):
    """A client and the instance it was given to, until both directions have ended.

    `owner` is the `Connections` that keeps it, `backend` is whose counters its bytes are added to.
    """

    __slots__ = ("backend", "began", "failed", "is_idle", "owner", "queued", "quiet_since", "seen")

    client: RelaySocket
    upstream: RelaySocket

    def __init__(
        self, client: RelaySocket, upstream: RelaySocket, backend: Backend, owner: "Connections",
        wants_writable: bool,
    ) -> None:
        self.client = client
        self.upstream = upstream
        self.backend = backend
        self.owner = owner
        #: When the client was last waiting for a first byte; monotonic seconds.
        self.began = owner.clock()
        self.reset_pending = False
        self.dying: Optional[RelaySocket] = None
        #: A handler of it raised, so bytes of it may be lost: nothing is moved any more.
        self.failed = False
        #: Byte counts and ends of stream, and unsent bytes, as the last sweep saw them.
        self.seen = (0, 0, False, False)
        self.queued = 0
        #: When they changed last, as far as a sweep can tell.
        self.quiet_since = self.began
        #: What it does not need while it is quiet has been given back.
        self.is_idle = False
        client.attach(upstream, self, False)
        upstream.attach(client, self, wants_writable)

    @property
    def poller(self) -> Poller:
        return self.owner.poller

    @property
    def pipes(self) -> Pipes:
        return self.owner.pipes

    @property
    def blocked(self) -> bool:
        """Bytes are held here because one side does not take them."""
        return self.client.blocked or self.upstream.blocked

    @property
    def half_closed(self) -> bool:
        """Nothing more comes from one side: it has finished, or has died."""
        return self.client.eof or self.upstream.eof or self.dying is not None

    @property
    def half_ended(self) -> bool:
        """It was to end, and there was no memory for all of that."""
        is_watched, client, upstream = self.owner.poller.is_watched, self.client, self.upstream
        both = is_watched(client, client.fileno()) and is_watched(upstream, upstream.fileno())
        return self.failed or not both

    @property
    def movable(self) -> bool:
        """Another instance can take over, and neither side notices: it is unused, nothing is on
        its way from the instance, and neither side has ended anything."""
        if not self.unused or self.blocked or self.half_closed:
            return False
        return not unread(self.upstream.fileno())

    @property
    def abandoned(self) -> bool:
        """The client has died, with bytes that the instance does not take."""
        return self.dying is self.client and self.client.blocked

    def begin_with(self, from_client: bytes, from_upstream: bytes) -> None:
        """What was read of it before, by the http mode, comes first; then all that comes."""
        try:
            for sock, data in ((self.upstream, from_upstream), (self.client, from_client)):
                if data:
                    _begin_with(sock, data)
                self.poller.call_soon(sock)
        except OSError:
            self.reset()

    def suspect(self) -> None:
        self.owner.suspect(self)

    def hold(self) -> None:
        """Leave unread what the client says, so that another instance can still have it."""
        self.client.blocked = True

    def resume(self) -> None:
        """After `hold`: the instance stays what it is, and ended its side because it meant to."""
        self.client.blocked = False
        self.upstream.pass_end_on()
        self.client.on_turn()

    def on_first_read(self, sock: RelaySocket) -> None:
        """Called for the first two reads of a socket.

        The first is for the clock of a request: it starts with the client's first byte (or, where
        the server speaks first, with the connection) and stops with the instance's. The second
        switches Nagle's delay off upstream, where it would hold a second small segment back until
        the first is acknowledged. Most connections of one request never have a second.
        """
        sock.first_reads -= 1
        if sock is self.upstream:
            if sock.first_reads:
                self.backend.add_ttfb(self.owner.clock() - self.began)
        elif not sock.first_reads:
            self.upstream.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        elif not self.upstream.bytes_read:
            self.began = self.owner.clock()

    def reset(self) -> None:
        """End both sides abruptly, as one of them did."""
        for sock in (self.client, self.upstream):
            try:
                reset_on_close(sock)
            except OSError:
                pass
        self.close()

    def fail(self) -> None:
        """End it after a bug, or for lack of memory. Where that fails too, a sweep comes back to
        it; not a byte of it is moved meanwhile, since there may be one missing before."""
        self.failed = True
        self.client.stop()
        self.upstream.stop()
        self.reset()

    def cut(self) -> None:
        """End it by our own decision. Where bytes are held that nobody takes, a reset says so: a
        clean end would make what has arrived look whole."""
        if self.blocked:
            self.reset()
        else:
            self.close()

    def close(self) -> None:
        """End both sides; what the kernel has taken is still delivered. Idempotent."""
        owner = self.owner
        if owner is None:  # closed already
            return
        client, upstream = self.client, self.upstream
        client.release(owner.poller)
        self._end(client, upstream, owner)

    def release_client(self) -> RelaySocket:
        """End the instance's side only. The client is as it was when it came, and still watched."""
        client = self.client
        self._end(client, self.upstream, self.owner)
        return client

    def _end(self, client: RelaySocket, upstream: RelaySocket, owner: "Connections") -> None:
        upstream.release(owner.poller)
        owner.ended(self)
        # Without its cycles a connection is gone at once and the collector finds nothing.
        self.owner = None  # type: ignore[assignment]
        self.dying = None
        del client.peer, upstream.peer, client.connection, upstream.connection


class IdleLimits(NamedTuple):
    """Seconds without a byte either way; 0 is never."""

    open: float
    half_closed: float


class Connections:
    """The set of them; `clock` is monotonic seconds."""

    def __init__(
        self, poller: Poller, pipes: Pipes, limits: IdleLimits, clock: "Callable[[], float]",
        owner: ConnectionsOwner,
    ) -> None:
        self._owner = owner
        self.clock = clock
        self.poller = poller
        self.pipes = pipes
        self.limits = limits
        #: Those whose instance may be about to go, and until when that is waited for.
        self._suspected: Dict[Connection, float] = {}
        self._suspect_timer = get_hub().loop.timer(_SUSPECT_SECONDS / 4, _SUSPECT_SECONDS / 4)
        self._open: Set[Connection] = set()
        self._sweep = Sweep(self._look_safely, clock)

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._open))

    def start(
        self, client: RelaySocket, upstream: RelaySocket, backend: Backend, wants_writable: bool
    ) -> Connection:
        """Relay between two connected sockets, which the poller has still to watch.

        `wants_writable`: it tells of room to send upstream already.
        """
        connection = Connection(client, upstream, backend, self, wants_writable)
        try:
            self._open.add(connection)
        except MemoryError:
            # It may be in there all the same: a set grows after it has taken something in.
            self._open.discard(connection)
            del client.connection, upstream.connection
            raise
        return connection

    def ended(self, connection: Connection) -> None:
        """Called by each connection when it has closed.

        Where there is no memory to count with, it stays in the set, and is ended once more.
        """
        _count(connection)
        self._open.discard(connection)
        self._suspected.pop(connection, None)
        self._owner.on_ended(connection.backend)

    def undelivered(self) -> "List[Tuple[int, int]]":
        """For each connection from which more is to come to its client: the bytes that have come,
        and those of them that the kernel still has. Empty where all of them have heard the end."""
        return [
            (each.upstream.bytes_read, unsent(each.client.fileno()))
            for each in self._open
            if not each.upstream.eof
        ]

    def suspect(self, connection: Connection) -> None:
        """An instance ended a connection before a byte was said. Is it about to go?

        Then its client is taken to another one and notices nothing. The word of its death comes
        a moment after the end of the stream, so that moment is waited for. An instance that is
        still there then has meant it: the end is passed on.
        """
        connection.hold()
        if connection.backend.takes_clients:
            self._suspected[connection] = self.clock() + _SUSPECT_SECONDS
            if not self._suspect_timer.active:
                self._suspect_timer.start(self._decide)
        else:
            self._redispatch(connection)

    def _decide(self) -> None:
        """As soon as it is known that the instance has gone, or when the moment is over."""
        now = self.clock()
        for connection, until in list(self._suspected.items()):
            # What one connection meets is not the end of everyone else's turn.
            try:
                if now >= until or not connection.backend.takes_clients:
                    self._suspected.pop(connection, None)
                    self._settle(connection)
            except Exception:
                self.poller.failed(connection.client)
        if not self._suspected:
            self._suspect_timer.stop()

    def _settle(self, connection: Connection) -> None:
        if connection.unused and not connection.backend.takes_clients:
            self._redispatch(connection)
        else:
            connection.resume()

    def _redispatch(self, connection: Connection) -> None:
        client = connection.release_client()
        self._owner.redispatch(client)

    def close(self) -> None:
        """Close all of them; idempotent."""
        self._suspect_timer.stop()
        self._suspect_timer.close()
        self._sweep.stop()
        for connection in self:
            connection.cut()

    @property
    def is_sweeping(self) -> bool:
        """A sweep is not over."""
        return self._sweep.is_under_way

    def start_sweep(self) -> None:
        """Count the bytes of each connection, and close it if it was idle for too long."""
        self._sweep.start(self._open)

    def sweep_slice(self) -> None:
        """Go on with it, for a slice of the hub's time."""
        self._sweep.slice()

    def _look_safely(self, connection: Connection, now: float) -> None:
        if connection.owner is not None:  # it may have closed since the sweep began
            try:
                self._look_at(connection, now)
            except Exception:
                self.poller.failed(connection.client)

    def _look_at(self, connection: Connection, now: float) -> None:
        if connection.half_ended:
            connection.reset()
            return
        if _count(connection):
            connection.quiet_since = now
            connection.is_idle = False
            return
        quiet = now - connection.quiet_since
        if not connection.is_idle and quiet >= _IDLE_AFTER:
            connection.is_idle = True
            _release_idle(connection)
        if connection.backend.draining and connection.movable and self._owner.has_room():
            self._redispatch(connection)
        elif self._is_over(connection, quiet) and not _is_moving(connection):
            connection.cut()

    def _is_over(self, connection: Connection, quiet: float) -> bool:
        """Only the application knows where an answer ends, so a drain cuts nothing that is quiet.
        What a client that has died had said last is no answer: a drain does not wait until the
        instance takes it."""
        if connection.backend.draining and connection.abandoned and connection.is_idle:
            return True
        limits = self.limits
        limit = limits.half_closed if connection.half_closed else limits.open
        return bool(limit) and quiet >= limit


def _begin_with(sock: RelaySocket, data: bytes) -> None:
    """Bytes that were read there before it was relayed. OSError."""
    sock.bytes_read += len(data)
    try:
        sent = sock.peer.send(data)
    except BlockingIOError:
        sent = 0
    if sent < len(data):
        sock.block(memoryview(data)[sent:])


def _count(connection: Connection) -> bool:
    """Add the bytes since the last look to the backend's; false when nothing has come since, not
    even an end of stream."""
    client, upstream = connection.client, connection.upstream
    now = (client.bytes_read, upstream.bytes_read, client.eof, upstream.eof)
    before = connection.seen
    if now == before:
        return False
    backend = connection.backend
    # Numbers first: where there is no memory for one of them, nothing is counted twice.
    bytes_in = backend.bytes_in + now[0] - before[0]
    bytes_out = backend.bytes_out + now[1] - before[1]
    backend.bytes_in, backend.bytes_out, connection.seen = bytes_in, bytes_out, now
    return True


def _release_idle(connection: Connection) -> None:
    """A quiet connection keeps no pipe, and asks from now on whether its instance is there."""
    keep_alive(connection.upstream)
    connection.queued = _queued(connection)
    for sock in (connection.client, connection.upstream):
        if not sock.blocked:
            sock.return_pipe()


def _is_moving(connection: Connection) -> bool:
    """Nothing was read for long, yet the kernel still delivers what was: a slow reader, not an
    idle one. Or something has arrived that is about to be read: this process was kept from it for
    long. Its time begins again."""
    queued = _queued(connection)
    if queued == connection.queued and not _has_arrived(connection):
        return False
    connection.queued = queued
    connection.quiet_since = connection.owner.clock()
    return True


def _has_arrived(connection: Connection) -> bool:
    return any(
        not (sock.blocked or sock.eof) and unread(sock.fileno())
        for sock in (connection.client, connection.upstream)
    )


def _queued(connection: Connection) -> int:
    return unsent(connection.client.fileno()) + unsent(connection.upstream.fileno())
