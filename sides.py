"""One socket of a connection: how its direction begins, is blocked, breaks and ends.

The bytes themselves are the business of relay.py, which tells the rules.
"""

import _socket
from typing import Any, Optional

from poller import Poller
from splicing import Pipe


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
