"""Bytes between two sockets: the hot path, and how a direction is blocked, breaks and ends.

A connection (connections.py) is two sockets, the client's and the upstream's (the instance's). Each
reads what its own side sends and gives it to its peer: two directions, each with a life of its own.

    client  --read-->  RelaySocket  ==send==>  RelaySocket  -------->  instance
    client  <--------  (client)     <==send==  (upstream)   <--read--  instance

    open --> blocked --> open   the peer has no room; then it has some
    open --> bulk -----> open   a buffer full twice in a row is spliced, until it slows down
    open --> eof                its end of stream was read
    any  --> reset              its socket, or its peer's, has died

Why each of these is as it is:

* Back-pressure: what the peer would not take is kept (`blocked`), and until it is gone nothing
  more is read. So a connection holds at most one buffer each way.
* Half-close: an end of stream says "I send no more", and not "I read no more" (RFC 9293, 3.6). It
  is passed on as a shutdown of the peer's write side, behind the last byte; the other direction
  goes on. The connection is closed when both have ended and nothing is blocked.
* Reset: after one the peer must not get a clean end, for an answer cut short would look whole. But
  a reset drops what the kernel has not sent yet, so what had arrived before it is sent first
  (`reset_pending`; `dying` where that has to wait for room).
* Early close: a server may answer an upload that it does not read, and close (413). Then the send
  to it fails while its answer lies in its receive buffer. So a failed send ends its own direction
  only, and the other one is read to its end before the reset.
* Restart: an instance that is told to stop closes its unused connections, maybe at the moment at
  which a client begins to write. So an end before either side has said a word is only suspected to
  be meant (`suspect`): where the instance is gone a moment later, the client is given to another.
  Nobody is moved who has said a word: only the application knows what may be repeated.
* Drain: only the application knows where an answer ends. Nothing here asks whether one is drained.
* Edges come once (poller.py): a direction that was blocked reads to EAGAIN when it goes on, one
  that stops for fairness asks for another turn, and an error while nothing is read is remembered.

No greenlet, no timer, no log line and no closure per connection.
"""

import _socket
import errno
from typing import Any, Optional

from poller import DATA, ENDING, ERROR, MORE_THAN_DATA, READABLE, WRITABLE, Handler, Poller
from proxy_protocol import Announced
from relayed_connection import RelayedConnection
from splicing import CHUNK, Pipe, at_urgent_byte, splice

#: One buffer serves all connections, since nothing stays in it beyond one read and send. 256 KB
#: takes an answer of 100 KB in one system call and still fits a second-level cache.
BUFFER_BYTES = 256 * 1024

#: Read at once where the last read was no longer than this: short messages that come and go. They
#: are read into bytes of their own, which costs less than a slice of the buffer.
SMALL_BYTES = 16 * 1024

#: Reads of one direction before the others have their turn (and splices, of up to 1 MB each).
READS_A_TURN = 4

#: Full buffers in a row after which a direction is taken for bulk.
FULL_READS_OF_BULK = 2

#: A turn that spliced less than this has slowed down: back to the buffer.
BULK_BYTES = 64 * 1024

#: What a kernel, or a kind of socket, says that cannot splice.
CANNOT_SPLICE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)

BUFFER = bytearray(BUFFER_BYTES)
VIEW = memoryview(BUFFER)

#: The type of every socket here, so that Python knows that it is non-blocking without asking.
STREAM = _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC


class RelaySocket(_socket.socket, Handler):
    """One socket of a connection, and the direction that is read from it.

    It is the C socket itself, not an object beside it: that saves a look-up per call and a third of
    the memory.
    """

    __slots__ = ("announced", "blocked", "bytes_read", "connection", "eof", "fast_path",
                 "first_reads", "full", "peer", "pending", "pipe", "wants_writable")

    #: Bytes may go from it, and to it, without coming by here.
    can_splice = True
    #: Of a client whose TLS ends here: its session (tls_session.py).
    tls: Any = None
    #: Of a client: what a proxy in front has said of it.
    announced: "Optional[Announced]"
    peer: "RelaySocket"
    connection: RelayedConnection
    #: Since the connection began.
    bytes_read: int
    #: How many of the first two reads are still to come.
    first_reads: int
    #: Bytes that were read here wait for room at the peer.
    blocked: bool
    #: Those bytes, when they are not in the pipe.
    pending: "Optional[memoryview]"
    #: The pipe of a direction that is being spliced.
    pipe: "Optional[Pipe]"
    #: The end of stream was read here, or nothing more can be read.
    eof: bool
    #: Reads in a row that filled the buffer.
    full: int
    #: Neither blocked nor at its end, no bulk, and the first reads are over.
    fast_path: bool
    #: The poller tells when there is room to send here.
    wants_writable: bool

    def attach(
        self, peer: "RelaySocket", connection: RelayedConnection, wants_writable: bool
    ) -> None:
        """From now on the events of this socket move bytes to `peer`."""
        self.peer = peer
        self.connection = connection
        self.bytes_read = 0
        self.first_reads = 2
        self.blocked = False
        self.pending = None
        self.pipe = None
        self.eof = False
        self.full = 0
        self.fast_path = False
        self.wants_writable = wants_writable

    @property
    def is_attached(self) -> bool:
        """It is, or was, of a connection, which gives back what was taken for it."""
        return self.fileno() < 0 or hasattr(self, "connection")

    # Reading and sending

    def on_event(self, mask: int) -> None:
        """The poller's call: room for the other direction first, then what has arrived."""
        if mask == DATA and self.fast_path:
            self._read_small()
            return
        if mask & WRITABLE:
            self.on_room()
        if self.blocked or self.eof:
            if mask & ERROR:
                self._died()
        elif mask & READABLE:
            self.read(mask & MORE_THAN_DATA)

    def on_room(self) -> None:
        """It may be sent here again."""
        if self.peer.blocked:
            self.peer.flush()

    def _read_small(self) -> None:
        """The same as `read` for a short message in a connection that has been used before, which
        is what most events of a busy balancer are about."""
        try:
            data = self.recv(SMALL_BYTES)
        except OSError as error:
            self._reading_stopped(error, False)
            return
        size = len(data)
        if not size:
            self._end_of_stream()
            return
        self.bytes_read += size
        try:
            sent = self.peer.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._send_failed()
            return
        if sent < size:
            self.block(memoryview(data)[sent:])
        elif size == SMALL_BYTES:
            self.read(False)

    def on_turn(self) -> None:
        """Go on after others had their turn."""
        if not self.blocked and not self.eof:
            self.read(True)

    def read(self, to_the_end: int) -> None:
        """Move what has arrived. A short read empties the socket: only with `to_the_end` is there
        more to learn (an end of stream, an error), so only then is it read again."""
        if self.pipe is not None:
            self._splice(self.pipe)
            return
        self.fast_path = False
        turns = READS_A_TURN
        while turns:
            turns -= 1
            try:
                size = self.recv_into(BUFFER)
            except OSError as error:
                self._reading_stopped(error, to_the_end)
                return
            if not size:
                self._end_of_stream()
                return
            self.bytes_read += size
            if self.first_reads:
                self.connection.on_first_read(self)
            try:
                if to_the_end == ENDING:
                    # The end is right behind: it travels in the same segment, if that waits for it.
                    sent = self.peer.send(VIEW[:size], _socket.MSG_MORE)
                else:
                    sent = self.peer.send(VIEW[:size])
            except BlockingIOError:
                sent = 0
            except OSError:
                self._send_failed()
                return
            if sent < size:
                # The only copy there is: what the peer would not take.
                self.block(memoryview(bytes(VIEW[sent:size])))
                return
            if size < BUFFER_BYTES:
                self.full = 0
                if not to_the_end:
                    self.fast_path = size < SMALL_BYTES and not self.first_reads
                    return
            elif self._turns_to_bulk():
                return
        self.connection.poller.call_soon(self)

    def _reading_stopped(self, error: OSError, to_the_end: int) -> None:
        """Nothing more for now, or an error."""
        if to_the_end == ENDING:
            # The end was not right behind: let go what waits for it (tcp(7), TCP_NODELAY).
            try:
                self.peer.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            except OSError:
                pass
        if not isinstance(error, BlockingIOError):
            self._read_failed()

    def flush(self) -> None:
        """The peer has room again: send what waits, then go on reading."""
        if self.pending is not None:
            self._send(self.pending)
        elif self.pipe is not None:
            self._empty(self.pipe)
        if not self.blocked and not self.eof:
            self.read(True)

    def _send(self, pending: memoryview) -> None:
        try:
            sent = self.peer.send(pending)
        except BlockingIOError:
            return
        except OSError:
            self._send_failed()
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
        if self.full < FULL_READS_OF_BULK or not (self.can_splice and self.peer.can_splice):
            return False
        self.pipe = self.connection.pipes.borrow()
        if self.pipe is None:
            return False
        self._splice(self.pipe)
        return True

    def _splice(self, pipe: Pipe) -> None:
        """As `read`, without the bytes coming by. The pipe is empty: EAGAIN means the source is."""
        before = self.bytes_read
        for _ in range(READS_A_TURN):
            pipe.held = CHUNK
            try:
                size = splice(self.fileno(), pipe.writer, CHUNK)
            except BlockingIOError:
                pipe.held = 0
                if at_urgent_byte(self.fileno()):
                    self.return_pipe()
                    self.connection.poller.call_soon(self)
                elif self.bytes_read - before < BULK_BYTES:
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
            self.bytes_read += size
            self._empty(pipe)
            if self.blocked or self.eof:
                return
        self.connection.poller.call_soon(self)

    def _empty(self, pipe: Pipe) -> None:
        """Let the pipe out at the peer; `blocked` when not all of it went."""
        sink = self.peer.fileno()
        try:
            while pipe.held:
                pipe.held -= splice(pipe.reader, sink, pipe.held)
            self.blocked = False
        except BlockingIOError:
            self.block(None)
        except OSError:
            self._send_failed()

    def _splice_failed(self, error: OSError) -> None:
        if error.errno in CANNOT_SPLICE:
            self.connection.pipes.refuse()
            self.return_pipe()
            self.connection.poller.call_soon(self)
        else:
            self.connection.reset()

    # Blocked

    def block(self, pending: "Optional[memoryview]") -> None:
        """Keep what the peer does not take, and wait for its room."""
        self.pending = pending
        self.blocked = True
        self.fast_path = False
        self.peer.want_writable()

    def want_writable(self) -> None:
        """Be told of room from now on. OSError."""
        if not self.wants_writable:
            self.wants_writable = True
            self.connection.poller.want_writable(self.fileno())

    def return_pipe(self) -> None:
        """Leave bulk: the next bytes go through the buffer again."""
        self.full = 0
        pipe = self.pipe
        if pipe is not None:
            self.pipe = None
            self.connection.pipes.give_back(pipe)

    # The end

    def _end_of_stream(self) -> None:
        """No byte is left before it: who is blocked does not read."""
        connection = self.connection
        self.eof = True
        self.fast_path = False
        self.return_pipe()
        if not self.bytes_read and self is connection.upstream and connection.unused:
            connection.suspect()
        else:
            self.pass_end_on()

    def pass_end_on(self) -> None:
        """Tell the peer that nothing more comes from here."""
        connection = self.connection
        if connection.reset_pending:
            connection.reset()
        elif self.peer.eof and not self.peer.blocked and self.peer.has_said_end():
            connection.close()
        else:
            try:
                self.peer.shutdown(_socket.SHUT_WR)
            except OSError:
                self._send_failed()

    def has_said_end(self) -> bool:
        """It may be closed. TLS has an end of its own, which the kernel may have no room for."""
        return True

    def _read_failed(self) -> None:
        """Reading failed: this side was reset, or cannot be reached any more."""
        connection = self.connection
        if self is connection.upstream and connection.unused:
            connection.reset_pending = True
            self.eof = True
            self.fast_path = False
            connection.suspect()
        else:
            connection.reset()

    def _send_failed(self) -> None:
        """A send to the peer failed: its socket is dead. What it had said before is still in its
        receive buffer (an early answer to an upload, say) and is delivered first."""
        self.connection.reset_pending = True
        self.eof = True
        self.fast_path = False
        self.blocked = False
        self.pending = None
        self.return_pipe()
        if self.peer.eof and not self.peer.blocked:
            self.connection.reset()
        elif not self.peer.blocked:
            self.peer.read(True)

    def _died(self) -> None:
        """An error where nothing is read, now or any more, would go unnoticed. Where reading has
        only paused, the reset comes behind what had arrived before, if the peer takes that in the
        time of a connection that is half closed."""
        if not self.eof:
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
        self.eof = True
        self.blocked = False
        self.fast_path = False
        self.pending = None

    def release(self, poller: Poller) -> None:
        """Close this side; whoever is still in the middle of a call finds it finished."""
        if self.pipe is not None:
            self.return_pipe()
        self.stop()
        poller.forget(self.fileno())
        self.close()
