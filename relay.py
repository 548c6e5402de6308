"""One socket of a connection: how its direction begins, is blocked, breaks and ends.

The bytes themselves are the business of relay.py, which tells the rules.
"""

import _socket
import errno
from typing import Any, Optional

from poller import DATA, ENDING, ERROR, MORE_THAN_DATA, READABLE, WRITABLE, Poller
from splicing import CHUNK, Pipe, at_urgent_byte, splice


class Side(_socket.socket):
    """It is the C socket itself, not an object beside it: that saves a look-up per call and a third
    of the memory."""

    __slots__ = (
        "blocked", "connection", "finished", "full", "moved", "news", "other", "pending", "pipe",
        "plain", "tells_room",
    )  # fmt: skip

    other: "Side"
    #: Whose end it is: a `Connection` (connections.py).
    connection: Any
    #: Bytes read from here since the connection began.
    moved: int
    #: How many of its first two reads are still to come.
    news: int
    #: True while bytes that were read here wait for room at the other end.
    blocked: bool
    #: Those bytes, when they are not in the pipe.
    pending: "Optional[memoryview]"
    #: The pipe of a direction that is being spliced.
    pipe: "Optional[Pipe]"
    #: End of stream was read here.
    finished: bool
    #: Reads in a row that filled the buffer.
    full: int
    #: Nothing is the matter: neither blocked nor finished, no bulk, and the first reads are over.
    plain: bool
    #: The poller tells of room to send here.
    tells_room: bool

    def join(self, other: "Side", connection: Any, tells_room: bool) -> None:
        """Begin: from now on this end's events move bytes to `other`."""
        self.other = other
        self.connection = connection
        self.moved = 0
        self.news = 2
        self.blocked = False
        self.pending = None
        self.pipe = None
        self.finished = False
        self.full = 0
        self.plain = False
        self.tells_room = tells_room

    @property
    def has_begun(self) -> bool:
        """It is, or was, of a connection, which gives back what was taken for it."""
        return self.fileno() < 0 or self.connection is not None

    def read(self, to_the_end: int) -> None:
        """Move what has arrived (relay.py)."""
        raise NotImplementedError

    # Blocked

    def _block(self, pending: "Optional[memoryview]") -> None:
        """Keep what the other end does not take, and wait for its room."""
        self.pending = pending
        self.blocked = True
        self.plain = False
        other = self.other
        if not other.tells_room:
            other.tells_room = True
            self.connection.home.poller.want_room(other.fileno())

    def return_pipe(self) -> None:
        """Leave bulk: the next bytes go through the buffer again."""
        self.full = 0
        pipe = self.pipe
        if pipe is not None:
            self.pipe = None
            self.connection.home.pipes.give_back(pipe)

    # The end

    def _end_of_stream(self) -> None:
        """No byte is left before it: who is blocked does not read."""
        connection = self.connection
        self.finished = True
        self.plain = False
        self.return_pipe()
        if not self.moved and self is connection.upstream and connection.unused:
            connection.home.doubt(connection)
        else:
            self.pass_end_on()

    def pass_end_on(self) -> None:
        """Tell the other side that nothing more comes from here."""
        connection = self.connection
        if connection.torn:
            connection.reset()
        elif self.other.finished and not self.other.blocked:
            connection.close()
        else:
            try:
                self.other.shutdown(_socket.SHUT_WR)
            except OSError:
                self._reader_is_gone()

    def _broke(self) -> None:
        """Reading failed: this side was reset, or could not be reached any more."""
        connection = self.connection
        if self is connection.upstream and connection.unused:
            connection.torn = True
            self.finished = True
            self.plain = False
            connection.home.doubt(connection)
        else:
            connection.reset()

    def _reader_is_gone(self) -> None:
        """A send to the other side failed: its socket is dead. What it had said before is still
        in its receive buffer (an early answer to an upload, say) and is delivered first."""
        self.connection.torn = True
        self.finished = True
        self.plain = False
        self.blocked = False
        self.pending = None
        self.return_pipe()
        if self.other.finished and not self.other.blocked:
            self.connection.reset()
        elif not self.other.blocked:
            self.other.read(True)

    def _died(self) -> None:
        """An error where nothing is read, now or any more, would go unnoticed. Where reading has
        only paused, the reset comes behind what had arrived before, if the other end takes that in
        the time of a connection that is half closed."""
        if not self.finished:
            self.connection.dying = self
        elif self.fileno() >= 0 and self.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR):
            self.connection.reset()

    def fail(self) -> None:
        """A handler raised: end the connection, if there is one still."""
        connection = getattr(self, "connection", None)
        if connection is not None:
            connection.fail()

    def stop(self) -> None:
        """Move no byte any more. Needs no memory."""
        self.finished = True
        self.blocked = False
        self.plain = False
        self.pending = None

    def part(self, poller: Poller) -> None:
        """Close this side; whoever is still in the middle of a call finds it finished."""
        if self.pipe is not None:
            self.return_pipe()
        self.stop()
        poller.forget(self.fileno())
        self.close()


# Bytes between two sockets: the hot path, and nothing else.


#: One buffer serves all connections, since nothing stays in it beyond one read and send. 256 KB
#: takes an answer of 100 KB in one system call and still fits a second-level cache.
BUFFER_BYTES = 256 * 1024

#: Read at once where the last read was no longer than this: short messages that come and go. They
#: are read into bytes of their own, which costs less than a slice of the buffer.
SIP_BYTES = 16 * 1024

#: Reads of one direction before the others have their turn (and splices, of up to 1 MB each).
READS_A_TURN = 4

#: Full buffers in a row after which a direction is taken for bulk.
FULL_READS_OF_BULK = 2

#: A turn that spliced less than this has slowed down: back to the buffer.
BULK_BYTES = 64 * 1024

#: What a kernel, or a kind of socket, says that cannot splice.
CANNOT_SPLICE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)

_BUFFER = bytearray(BUFFER_BYTES)
_VIEW = memoryview(_BUFFER)

#: The type of every socket here, so that Python knows it for non-blocking without asking.
STREAM = _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC


class End(Side):
    """One socket of a connection, and the direction that is read from it."""

    __slots__ = ()

    other: "End"

    def on_event(self, mask: int) -> None:
        """The poller's call: room for the other direction first, then what has arrived."""
        if mask == DATA and self.plain:
            self._sip()
            return
        if mask & WRITABLE and self.other.blocked:
            self.other.flush()
        if self.blocked or self.finished:
            if mask & ERROR:
                self._died()
        elif mask & READABLE:
            self.read(mask & MORE_THAN_DATA)

    def _sip(self) -> None:
        """The same as `read` for a short message in a connection that has been used before, which
        is what most events of a busy balancer are about."""
        try:
            data = self.recv(SIP_BYTES)
        except OSError as error:
            self._reading_stopped(error, False)
            return
        size = len(data)
        if not size:
            self._end_of_stream()
            return
        self.moved += size
        try:
            sent = self.other.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._reader_is_gone()
            return
        if sent < size:
            self._block(memoryview(data)[sent:])
        elif size == SIP_BYTES:
            self.read(False)

    def on_turn(self) -> None:
        """Go on after others had their turn."""
        if not self.blocked and not self.finished:
            self.read(True)

    def read(self, to_the_end: int) -> None:
        """Move what has arrived. A short read empties the socket: only with `to_the_end` is there
        more to learn (an end of stream, an error), so only then is it read again."""
        if self.pipe is not None:
            self._splice(self.pipe)
            return
        self.plain = False
        turns = READS_A_TURN
        while turns:
            turns -= 1
            try:
                size = self.recv_into(_BUFFER)
            except OSError as error:
                self._reading_stopped(error, to_the_end)
                return
            if not size:
                self._end_of_stream()
                return
            self.moved += size
            if self.news:
                self.connection.hear(self)
            try:
                if to_the_end == ENDING:
                    # The end is right behind: it travels in the same segment, if that waits for it.
                    sent = self.other.send(_VIEW[:size], _socket.MSG_MORE)
                else:
                    sent = self.other.send(_VIEW[:size])
            except BlockingIOError:
                sent = 0
            except OSError:
                self._reader_is_gone()
                return
            if sent < size:
                # The only copy there is: what the other side would not take.
                self._block(memoryview(bytes(_VIEW[sent:size])))
                return
            if size < BUFFER_BYTES:
                self.full = 0
                if not to_the_end:
                    self.plain = size < SIP_BYTES and not self.news
                    return
            elif self._turns_to_bulk():
                return
        self.connection.home.poller.owe(self)

    def _reading_stopped(self, error: OSError, to_the_end: int) -> None:
        """Nothing more for now, or an error."""
        if to_the_end == ENDING:
            # The end was not right behind: let go what waits for it (tcp(7), TCP_NODELAY).
            try:
                self.other.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            except OSError:
                pass
        if not isinstance(error, BlockingIOError):
            self._broke()

    def flush(self) -> None:
        """The other end has room again: send what waits, then go on reading."""
        if self.pending is not None:
            self._send(self.pending)
        elif self.pipe is not None:
            self._empty(self.pipe)
        if not self.blocked and not self.finished:
            self.read(True)

    def _send(self, pending: memoryview) -> None:
        try:
            sent = self.other.send(pending)
        except BlockingIOError:
            return
        except OSError:
            self._reader_is_gone()
            return
        if sent < len(pending):
            self.pending = pending[sent:]
        else:
            self.pending = None
            self.blocked = False

    # Bulk

    def _turns_to_bulk(self) -> bool:
        """The buffer was full: if it often is, and there is a pipe, go on splicing."""
        self.full += 1
        if self.full < FULL_READS_OF_BULK:
            return False
        self.pipe = self.connection.home.pipes.borrow()
        if self.pipe is None:
            return False
        self._splice(self.pipe)
        return True

    def _splice(self, pipe: Pipe) -> None:
        """As `read`, without the bytes coming by. The pipe is empty: EAGAIN means the source is."""
        before = self.moved
        for _ in range(READS_A_TURN):
            pipe.held = CHUNK
            try:
                size = splice(self.fileno(), pipe.writer, CHUNK)
            except BlockingIOError:
                pipe.held = 0
                if at_urgent_byte(self.fileno()):
                    self.return_pipe()
                    self.connection.home.poller.owe(self)
                elif self.moved - before < BULK_BYTES:
                    self.return_pipe()
                return
            except OSError as error:
                pipe.held = 0
                self._splice_failed(error)
                return
            pipe.held = size
            if not size:
                self._end_of_stream()
                return
            self.moved += size
            self._empty(pipe)
            if self.blocked or self.finished:
                return
        self.connection.home.poller.owe(self)

    def _empty(self, pipe: Pipe) -> None:
        """Let the pipe out at the other end; `blocked` when not all of it went."""
        sink = self.other.fileno()
        try:
            while pipe.held:
                pipe.held -= splice(pipe.reader, sink, pipe.held)
            self.blocked = False
        except BlockingIOError:
            self._block(None)
        except OSError:
            self._reader_is_gone()

    def _splice_failed(self, error: OSError) -> None:
        if error.errno in CANNOT_SPLICE:
            self.connection.home.pipes.refuse()
            self.return_pipe()
            self.connection.home.poller.owe(self)
        else:
            self.connection.reset()
