"""The two kinds of sockets of the http mode, as far as they are alike: sending, and bodies.

Each socket keeps what its own other end has not taken yet (`unsent`), whoever wrote it: an
instance's answer, an error of ours. While there is some, nothing more is read from the peer that
writes to it, so a connection holds one read at the most.

    instance --read--> HttpUpstream ==write==> HttpClient --> client
    client   --read--> HttpClient   ==write==> HttpUpstream --> instance

A body goes by its length, from the shared buffer, and in bulk by `splice`, never a byte further
than it reaches. As in relay.py, edges come once: who stops reading before EAGAIN goes on by itself.
"""

import _socket
from typing import Any, Optional, Union

from http_framing import DONE, TO_THE_END
from http_heads import Refused
from poller import Handler, Poller
from relay import (
    BUFFER,
    BUFFER_BYTES,
    BULK_BYTES,
    CANNOT_SPLICE,
    FULL_READS_OF_BULK,
    READS_A_TURN,
    SMALL_BYTES,
    STREAM,
    VIEW,
    RelaySocket,
)
from sockets import reset_on_close, unsent
from splicing import CHUNK, Pipe, splice

#: Read at once, and once in a turn, where the bytes are looked at: small chunks then cost half a
#: millisecond at most.
_WALKED_BYTES = 4 * 1024


class HttpSocket(_socket.socket, Handler):
    """One of the two sockets of a request; `peer` is the other one, where there is one now."""

    __slots__ = (
        "front", "full", "most", "passed", "peer", "pipe", "poller", "reader", "unsent",
        "wants_writable",
    )  # fmt: skip

    #: Bytes may go from it, and to it, without coming by here.
    can_splice = True
    #: The other side of the request that is under way.
    peer: Any
    #: Where a message that is read here ends: a `Reader`; None while it is not needed.
    reader: Any
    #: What this side has still to get.
    unsent: "Optional[Union[bytes, memoryview]]"
    #: The pipe of a body that is spliced from here to the peer.
    pipe: Optional[Pipe]
    #: Bytes that were read here and are not counted yet.
    passed: int
    #: Reads in a row that brought all that was asked for.
    full: int
    #: Bytes that are read for this side at once: few after it has not taken all of them, and more
    #: with each time that it has.
    most: int

    #: The `HttpFront` that it belongs to, and the poller of that.
    front: Any
    poller: Poller

    def set_up(self, front: Any) -> None:
        """Called once, in place of a constructor: `socket` has one already."""
        self.front = front
        self.poller = front.poller
        self.reader = None
        self.peer = None
        self.unsent = None
        self.pipe = None
        self.passed = 0
        self.full = 0
        self.most = BUFFER_BYTES
        self.wants_writable = False

    @property
    def is_open(self) -> bool:
        return self.fileno() >= 0

    # Sending

    def write(self, data: "Union[bytes, memoryview]", flags: int = 0) -> None:
        """Send it; what is not taken is kept, and goes before what is written next. OSError."""
        if self.unsent is not None:
            self.unsent = memoryview(bytes(self.unsent) + bytes(data))
            return
        try:
            sent = self.send(data, flags)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self.most = SMALL_BYTES
            self.keep(memoryview(bytes(data[sent:])))
        elif self.most < BUFFER_BYTES:
            self.most *= 2

    def keep(self, unsent: "Optional[memoryview]") -> None:
        """Keep what is left, or wait for room for a pipe."""
        self.unsent = unsent
        self.want_writable()

    def want_writable(self) -> None:
        """Be told of room from now on. OSError."""
        if not self.wants_writable:
            self.wants_writable = True
            self.poller.want_writable(self.fileno())

    @property
    def is_blocked(self) -> bool:
        """Bytes wait here for room."""
        return self.unsent is not None or self._pipe_to_here is not None

    @property
    def _pipe_to_here(self) -> "Optional[Pipe]":
        peer = self.peer
        pipe: Optional[Pipe] = None if peer is None else peer.pipe
        return pipe if pipe is not None and pipe.held else None

    def flush(self) -> None:
        """There is room again. OSError."""
        if self.unsent is not None:
            try:
                sent = self.send(self.unsent)
            except BlockingIOError:
                return
            if sent < len(self.unsent):
                self.unsent = self.unsent[sent:]
                self.on_progress()
                return
            self.unsent = None
        pipe = self._pipe_to_here
        if pipe is not None:
            self.peer.empty_pipe(pipe)
            if pipe.held:
                self.on_progress()
                return
        self.on_flushed()

    # Bodies

    def pass_body_on(self, to_the_end: int) -> None:
        """Move what has arrived of a body to the peer. A short read empties the socket: only with
        `to_the_end` is there more to learn, an end or an error."""
        reader, sink = self.reader, self.peer
        for _ in range(READS_A_TURN):
            if self.pipe is not None:
                self._splice(self.pipe)
                return
            wanted = self._wanted(sink)
            try:
                count = self.recv_into(BUFFER, wanted)
            except BlockingIOError:
                return
            except OSError:
                self.on_lost()
                return
            if not count:
                self.on_end()
                return
            try:
                end = reader.take(BUFFER, 0, count)
            except Refused as error:
                self.on_refused(error)
                return
            self.passed += end
            try:
                sink.write(VIEW[:end])
            except OSError:
                self.on_peer_lost()
                return
            if reader.state == DONE:
                self.on_body_read(bytes(VIEW[end:count]), count == wanted or to_the_end > 0)
                return
            if sink.unsent is not None:
                return  # `on_flushed` goes on
            if count < wanted:
                self.full = 0
                if not to_the_end:
                    return
            elif wanted == _WALKED_BYTES:
                break  # to walk small chunks costs more than to move them
            elif self._turns_to_bulk(count):
                return
        self.poller.call_soon(self)

    def _wanted(self, sink: "HttpSocket") -> int:
        """Bytes to read at once: not beyond the body, and not much more than the other side takes,
        since what it leaves has to be kept. What that is is asked where there is much, or where
        each piece costs much, since it is encrypted."""
        reader = self.reader
        if not reader.is_opaque:
            return _WALKED_BYTES
        wanted: int = sink.most if reader.state == TO_THE_END else min(reader.left, sink.most)
        if wanted > SMALL_BYTES:
            asks = self.full or not sink.can_splice
            wanted = min(wanted, max(SMALL_BYTES, room(sink))) if asks else SMALL_BYTES
        return wanted

    def _turns_to_bulk(self, count: int) -> bool:
        """A read has brought all that was asked for, `count`; true where the rest is spliced."""
        self.full += 1
        reader = self.reader
        bulk = count >= BULK_BYTES and (
            reader.state == TO_THE_END or reader.left >= BUFFER_BYTES)
        return self.full >= FULL_READS_OF_BULK and bulk and self.turn_to_bulk()

    def turn_to_bulk(self) -> bool:
        """Splice from now on, and as far as there is something; false where there is no pipe."""
        if not (self.can_splice and self.peer.can_splice):
            return False
        self.pipe = self.front.pipes.borrow()
        if self.pipe is None:
            return False
        self._splice(self.pipe)
        return True

    def _splice(self, pipe: Pipe) -> None:
        """As `pass_body_on`, without the bytes coming by. The pipe is empty."""
        reader, before = self.reader, self.passed
        for _ in range(READS_A_TURN):
            count = CHUNK if reader.state == TO_THE_END else min(CHUNK, reader.left)
            pipe.held = count
            try:
                size = splice(self.fileno(), pipe.writer, count)
            except BlockingIOError:
                pipe.held = 0
                if self.passed - before < BULK_BYTES:
                    self.return_pipe()
                    # An urgent byte stops a splice, and no read; nor does it tell once more.
                    self.poller.call_soon(self)
                return
            except OSError as error:
                pipe.held = 0
                self._splice_failed(error)
                return
            pipe.held = size
            if not size:
                self.return_pipe()
                self.on_end()
                return
            reader.skip(size)
            self.passed += size
            try:
                self.empty_pipe(pipe)
            except OSError:
                self.on_peer_lost()
                return
            if pipe.held:
                return  # `on_flushed` goes on
            if not reader.is_opaque:
                self.return_pipe()
                if reader.state == DONE:
                    self.on_body_read(b"", True)
                else:
                    self.poller.call_soon(self)
                return
        self.poller.call_soon(self)

    def _splice_failed(self, error: OSError) -> None:
        if error.errno in CANNOT_SPLICE:
            self.front.pipes.refuse()
            self.return_pipe()
            self.poller.call_soon(self)
        else:
            self.on_lost()

    def empty_pipe(self, pipe: Pipe) -> None:
        """Let the pipe of this side out at the peer, as far as that takes it. OSError."""
        sink = self.peer
        number = sink.fileno()
        try:
            while pipe.held:
                pipe.held -= splice(pipe.reader, number, pipe.held)
        except BlockingIOError:
            sink.keep(None)

    def return_pipe(self) -> None:
        """Leave bulk: the next bytes go through the buffer again."""
        self.full = 0
        pipe = self.pipe
        if pipe is not None:
            self.pipe = None
            self.front.pipes.give_back(pipe)

    # The end

    def end(self, reset: bool = False) -> None:
        """Close this side; idempotent. Needs no memory."""
        if self.pipe is not None:
            self.return_pipe()
        number = self.fileno()
        if number < 0:
            return
        self.unsent = None
        if reset:
            try:
                reset_on_close(self)
            except OSError:
                pass
        self.poller.forget(number)
        self.close()

    def say_end(self) -> None:
        """Of its own accord, before the socket's stream ends: TLS has an end of its own."""

    def relay_socket(self) -> RelaySocket:
        """The same connection, as the relay has it; this object has none any more."""
        return RelaySocket(self.family, STREAM, 0, self.detach())

    # What each kind makes of it

    def on_progress(self) -> None:
        """It has taken some of what waits."""

    def on_flushed(self) -> None:
        """Nothing waits here any more: whoever writes to it may go on."""
        raise NotImplementedError

    def on_body_read(self, excess: bytes, maybe_more: bool) -> None:
        """The body ends here; `excess` came behind it, and there may be more unread."""
        raise NotImplementedError

    def on_end(self) -> None:
        """The end of the stream was read."""
        raise NotImplementedError

    def on_lost(self) -> None:
        """Reading failed: this side was reset, or cannot be reached any more."""
        raise NotImplementedError

    def on_peer_lost(self) -> None:
        """Sending what was read here failed: the peer's side has died."""
        raise NotImplementedError

    def on_refused(self, error: Refused) -> None:
        """What was read here breaks the rules."""
        raise NotImplementedError


def room(sink: HttpSocket) -> int:
    """Bytes that the kernel takes at least: half of its send buffer is bookkeeping (socket(7)), and
    up to three quarters where it sends in small pieces."""
    size = sink.getsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF)
    return size // 4 - unsent(sink.fileno())
