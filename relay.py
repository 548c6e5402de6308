"""Bytes between two sockets: the hot path, and nothing else.

A connection (connections.py) is two ends, the client's and the upstream's (the instance's). Each
end reads what its peer sends and gives it to the other end:

    client  --read-->  End ==send==> End  --->  instance
                        |             |
    client  <---  End <==send==  End <--read--  instance

The rules of one direction, in `End` and below it in `Side` (sides.py):

* What was read is sent at once. What the other end would not take is kept (`blocked`), and until
  it is gone nothing more is read: so a stalled reader stops the reading from its peer, and memory
  per connection is bounded by one buffer each way.
* End of stream (`finished`) is passed on as a shutdown of the other end's write side, after the
  last byte. The other direction goes on: half-close is kept both ways.
* A reset is passed on as a reset, after what had arrived before it.
* A direction that fills the whole buffer twice in a row is bulk and is spliced through a pipe
  inside the kernel until it slows down.

Edges come once (see poller.py), so a direction that was blocked reads to EAGAIN when it goes on,
and one that stops for fairness asks for another turn.

No greenlet, no timer, no log line and no closure per connection.
"""

import _socket
import errno

from poller import DATA, ENDING, ERROR, MORE_THAN_DATA, READABLE, WRITABLE
from sides import Side
from splicing import CHUNK, Pipe, at_urgent_byte, splice

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
