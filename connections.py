"""The open connections of one cluster: their two ends, how idle they are, what they moved.

Time-outs are not timers. Once a second `sweep` looks at every connection: one whose byte counts
have stood still since as long as its limit is closed. The same look folds the bytes into the
backend's counters, so the hot path counts on the socket alone.
"""

import _socket
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from gevent import get_hub

from poller import Poller
from relay import End
from sockets import keep_alive, reset_on_close, unread, unsent
from splicing import Pipes

#: Seconds from one sweep to the next: time-outs are as fine as this. The quiet time of a connection
#: begins with the sweep that has seen its last byte.
SWEEP_SECONDS = 1.0

#: Seconds without a byte after which a connection gives back what it does not need.
_REST_AFTER = SWEEP_SECONDS / 2

#: Seconds that the news of an instance's end may take from the kernel to here.
_DOUBT_SECONDS = 0.1


class Connection:
    """A client and the instance it was given to, until both directions have ended.

    `home` is the `Connections` that keeps it, `backend` is whom to credit.
    """

    __slots__ = (
        "backend", "began", "client", "dying", "failed", "home", "queued", "quiet_since", "rests",
        "seen", "torn", "upstream",
    )  # fmt: skip

    def __init__(
        self, client: End, upstream: End, backend: Any, home: "Connections", tells_room: bool
    ) -> None:
        self.client = client
        self.upstream = upstream
        self.backend = backend
        self.home = home
        #: When the client was last waiting for a first byte; monotonic seconds.
        self.began = home.clock()
        #: One side's socket died: the other gets a reset, after the bytes that are left.
        self.torn = False
        #: A side whose socket died while nothing was read from it; what is left of it comes first.
        self.dying: Optional[End] = None
        #: A handler of it raised, so bytes of it may be lost: it is not to move any more.
        self.failed = False
        #: Byte counts and ends of stream, and unsent bytes, as the last sweep saw them.
        self.seen = (0, 0, False, False)
        self.queued = 0
        #: When they changed last, as far as a sweep can tell.
        self.quiet_since = self.began
        #: It has been looked after since (`_rest`).
        self.rests = False
        client.join(upstream, self, False)
        upstream.join(client, self, tells_room)

    @property
    def blocked(self) -> bool:
        """Bytes are held here because one side does not take them."""
        return self.client.blocked or self.upstream.blocked

    @property
    def half_closed(self) -> bool:
        """Nothing more comes from one side: it has finished, or has died."""
        return self.client.finished or self.upstream.finished or self.dying is not None

    @property
    def half_ended(self) -> bool:
        """It was to end, and there was no memory for all of that."""
        is_told, client, upstream = self.home.poller.is_told, self.client, self.upstream
        both = is_told(client, client.fileno()) and is_told(upstream, upstream.fileno())
        return self.failed or not both

    @property
    def unused(self) -> bool:
        """Not a byte was read from either side: another instance would do as well."""
        return not (self.client.moved or self.upstream.moved or self.client.finished)

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

    def hold(self) -> None:
        """Leave unread what the client says, so that another instance can still have it."""
        self.client.blocked = True

    def go_on(self) -> None:
        """After `hold`: the instance stays what it is, and ended its side because it meant to."""
        self.client.blocked = False
        self.upstream.pass_end_on()
        self.client.on_turn()

    def hear(self, end: End) -> None:
        """Called for the first two reads of an end.

        The first is for the clock of a request: it starts with the client's first byte (or, where
        the server speaks first, with the connection) and stops with the instance's. The second
        switches Nagle's delay off upstream, where it would hold a second small segment back until
        the first is acknowledged. Most connections of one request never have a second.
        """
        end.news -= 1
        if end is self.upstream:
            if end.news:
                self.backend.first_byte_after(self.home.clock() - self.began)
        elif not end.news:
            self.upstream.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        elif not self.upstream.moved:
            self.began = self.home.clock()

    def reset(self) -> None:
        """End both sides abruptly, as one of them did."""
        for end in (self.client, self.upstream):
            try:
                reset_on_close(end)
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
        home = self.home
        if home is None:
            return
        client, upstream = self.client, self.upstream
        client.part(home.poller)
        self._end(client, upstream, home)

    def let_client_go(self) -> End:
        """End the instance's side only. The client is as it was when it came, and still watched."""
        client = self.client
        self._end(client, self.upstream, self.home)
        return client

    def _end(self, client: End, upstream: End, home: "Connections") -> None:
        upstream.part(home.poller)
        home.ended(self)
        # Without its cycles a connection is gone at once and the collector finds nothing.
        self.home = None  # type: ignore[assignment]
        self.dying = None
        del client.other, upstream.other, client.connection, upstream.connection


class IdleLimits(NamedTuple):
    """Seconds without a byte either way; 0 is never."""

    open: float
    half_closed: float


class Connections:
    """The set of them. Backends carry `bytes_in`, `bytes_out`, `draining`, `takes_clients`; `clock`
    is monotonic seconds."""

    def __init__(
        self, poller: Poller, pipes: Pipes, limits: IdleLimits, clock: "Callable[[], float]"
    ) -> None:
        self.clock = clock
        self.poller = poller
        self.pipes = pipes
        self.limits = limits
        #: And until when they are.
        self._doubtful: Dict[Connection, float] = {}
        self._doubt_timer = get_hub().loop.timer(_DOUBT_SECONDS / 4, _DOUBT_SECONDS / 4)
        self._open: Set[Connection] = set()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._open))

    def report_to(
        self,
        on_ended: "Callable[[Any], Any]",
        on_stranded: "Callable[[End], Any]",
        has_room: "Callable[[], bool]",
    ) -> None:
        """`on_ended(backend)` is called once for each connection that ends, however it does;
        `on_stranded(client)` gets a client back whose instance has gone before it was used, or
        goes, and `has_room()` tells whether such a client finds another instance at once."""
        self._on_ended = on_ended
        self._on_stranded = on_stranded
        self._has_room = has_room

    def begin(self, client: End, upstream: End, backend: Any, tells_room: bool) -> Connection:
        """Relay between two connected sockets. The poller has still to watch or hand them over;
        `tells_room`: it tells of room to send upstream already."""
        connection = Connection(client, upstream, backend, self, tells_room)
        try:
            self._open.add(connection)
        except MemoryError:
            # It may be in there all the same: a set grows after it has taken something in.
            self._open.discard(connection)
            del client.connection
            upstream.connection = None
            raise
        return connection

    def ended(self, connection: Connection) -> None:
        """A connection's own word that it has closed."""
        # Where there is no memory to count with, it stays in the set, and is ended once more.
        _fold(connection)
        self._open.discard(connection)
        self._doubtful.pop(connection, None)
        self._on_ended(connection.backend)

    def undelivered(self) -> "List[Tuple[int, int]]":
        """For each connection from which more is to come to its client: the bytes that have come,
        and those of them that the kernel still has. Empty where all of them have heard the end."""
        return [
            (each.upstream.moved, unsent(each.client.fileno()))
            for each in self._open
            if not each.upstream.finished
        ]

    def doubt(self, connection: Connection) -> None:
        """An instance ended a connection before a byte was said. Is it about to go?

        Then its client is taken to another one and notices nothing. The word of its death comes
        a moment after the end of the stream, so that moment is waited for. An instance that is
        still there then has meant it: the end is passed on.
        """
        connection.hold()
        if connection.backend.takes_clients:
            self._doubtful[connection] = self.clock() + _DOUBT_SECONDS
            if not self._doubt_timer.active:
                self._doubt_timer.start(self._decide)
        else:
            self._strand(connection)

    def _decide(self) -> None:
        """As soon as it is known that the instance has gone, or when the moment is over."""
        now = self.clock()
        for connection, until in list(self._doubtful.items()):
            # What one connection meets is not the end of everyone else's turn.
            try:
                if now >= until or not connection.backend.takes_clients:
                    self._doubtful.pop(connection, None)
                    self._settle(connection)
            except Exception:
                self.poller.failed(connection.client)
        if not self._doubtful:
            self._doubt_timer.stop()

    def _settle(self, connection: Connection) -> None:
        if connection.unused and not connection.backend.takes_clients:
            self._strand(connection)
        else:
            connection.go_on()

    def _strand(self, connection: Connection) -> None:
        client = connection.let_client_go()
        self._on_stranded(client)

    def close(self) -> None:
        """Close all of them; idempotent."""
        self._doubt_timer.stop()
        self._doubt_timer.close()
        for connection in self:
            connection.cut()

    def sweep(self) -> None:
        """Once in SWEEP_SECONDS: count, and close what was idle for too long."""
        now = self.clock()
        for connection in self:
            try:
                self._look_at(connection, now)
            except Exception:
                self.poller.failed(connection.client)

    def _look_at(self, connection: Connection, now: float) -> None:
        if connection.half_ended:
            connection.reset()
            return
        if _fold(connection):
            connection.quiet_since = now
            connection.rests = False
            return
        quiet = now - connection.quiet_since
        if not connection.rests and quiet >= _REST_AFTER:
            connection.rests = True
            _rest(connection)
        if connection.backend.draining and connection.movable and self._has_room():
            self._strand(connection)
        elif self._is_over(connection, quiet) and not _is_moving(connection):
            connection.cut()

    def _is_over(self, connection: Connection, quiet: float) -> bool:
        """Only the application knows where an answer ends, so a drain cuts nothing that is quiet.
        What a client that has died had said last is no answer: a drain does not wait until the
        instance takes it."""
        if connection.backend.draining and connection.abandoned and connection.rests:
            return True
        limits = self.limits
        limit = limits.half_closed if connection.half_closed else limits.open
        return bool(limit) and quiet >= limit


def _fold(connection: Connection) -> bool:
    """Credit the backend with the bytes since the last time; false when nothing has come since,
    not even an end of stream."""
    client, upstream = connection.client, connection.upstream
    now = (client.moved, upstream.moved, client.finished, upstream.finished)
    before = connection.seen
    if now == before:
        return False
    backend = connection.backend
    # Numbers first: where there is no memory for one of them, nothing is counted twice.
    bytes_in = backend.bytes_in + now[0] - before[0]
    bytes_out = backend.bytes_out + now[1] - before[1]
    backend.bytes_in, backend.bytes_out, connection.seen = bytes_in, bytes_out, now
    return True


def _rest(connection: Connection) -> None:
    """A connection at rest keeps no pipe, and learns to find out when its instance is gone."""
    keep_alive(connection.upstream)
    connection.queued = _queued(connection)
    for end in (connection.client, connection.upstream):
        if not end.blocked:
            end.return_pipe()


def _is_moving(connection: Connection) -> bool:
    """Nothing was read for long, yet the kernel still delivers what was: a slow reader, not an
    idle one. Or something has arrived that is about to be read: this process was kept from it for
    long. Its time begins again."""
    queued = _queued(connection)
    if queued == connection.queued and not _has_arrived(connection):
        return False
    connection.queued = queued
    connection.quiet_since = connection.home.clock()
    return True


def _has_arrived(connection: Connection) -> bool:
    return any(
        not (end.blocked or end.finished) and unread(end.fileno())
        for end in (connection.client, connection.upstream)
    )


def _queued(connection: Connection) -> int:
    return unsent(connection.client.fileno()) + unsent(connection.upstream.fileno())
