"""A connection to an instance in the http mode: one answer after the other, kept in between.

    kept      on nobody's behalf: whatever happens to it ends it
    taken     for one request of one client, until its answer is over
    kept      again, where the instance goes on with it and its answer ended where it should

What it says is read in http_answers.py.
"""

import _socket
from typing import Any

from backends import UP, Backend, KeptConnection
from http_answers import AnswerSocket
from http_framing import DONE
from http_heads import Refused
from http_keeping import discard
from poller import ENDING, ERROR, MORE_THAN_DATA, READABLE, WRITABLE
from sockets import unread


class HttpUpstream(AnswerSocket, KeptConnection):
    """One of them."""

    __slots__ = ("home", "idle_since")

    def start(self, front: Any, backend: Backend, now: float) -> None:
        """Called once it is connected."""
        self.expect_answers(front, backend)
        #: Where it is kept; a list of one that is gone, or about to go, is none any more.
        self.home = backend.idle if backend.state == UP else None
        self.idle_since = now

    def close_kept(self) -> None:
        self.end()

    def end(self, reset: bool = False) -> None:
        super().end(reset)
        self.front.upstreams.discard(self)

    @property
    def is_stray(self) -> bool:
        """It is of no request, and not kept: there was no memory for one of that."""
        return self.peer is None and self not in self.backend.idle

    @property
    def is_attached(self) -> bool:
        """It is, or was, of a request, which gives back what was taken for it."""
        return self.fileno() < 0 or getattr(self, "peer", None) is not None

    def is_open_still(self) -> bool:
        """The instance has not closed it, and says nothing."""
        try:
            self.recv(1, _socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    # Events

    def on_other_event(self, mask: int) -> None:
        client = self.peer
        if client is None:
            # Maybe of the answer that has just ended: the poller has taken many events at once.
            if mask & MORE_THAN_DATA or unread(self.fileno()):
                discard(self)
            return
        if self.asked_in == self.poller.polls and mask & READABLE:
            # It was said before the request is sent, so it is no answer to that.
            self._died_before()
            return
        if mask & ENDING:
            self.reusable = False
        if mask & WRITABLE and self.is_blocked:
            try:
                self.flush()
            except OSError:
                self.unsent = None
                client.on_peer_lost()
                return
        if mask & (READABLE | ERROR) and self.peer is client:
            self.read(mask & MORE_THAN_DATA)

    def on_turn(self) -> None:
        if self.peer is not None:
            self.read(True)

    def on_flushed(self) -> None:
        """The instance has taken what there was of the request: its client may go on."""
        client = self.peer
        client.moved += 1
        if client.pipe is not None and client.reader.state == DONE:
            client.on_body_read(b"", True)
        elif client.body_open:
            client.pass_body_on(True)

    def on_posted(self) -> None:
        """Send a request, as far as it has been read."""
        data = self.unsent
        if data is None:
            return  # its client has gone meanwhile
        try:
            sent = self.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._died_before()
            return
        if sent < len(data):
            self.keep(memoryview(data)[sent:])
        else:
            self.unsent = None

    def _died_before(self) -> None:
        """Not a byte of the request has been taken, where all of it is still here."""
        client, data = self.peer, self.unsent
        if data is not None:
            client.message = bytes(data)
        self.front.lost(client, data is not None)

    def on_progress(self) -> None:
        self.peer.moved += 1

    def resume(self) -> None:
        """The client has taken what there was of the answer."""
        if self.reader.state == DONE:
            self.on_body_read(b"", True)
        else:
            self.read(True)

    # The end

    def on_end(self) -> None:
        if self.reader.end_of_stream():
            self.reusable = False
            self.on_body_read(b"", False)
        else:
            self.on_lost()

    def on_lost(self) -> None:
        self.front.lost(self.peer, False)

    def on_peer_lost(self) -> None:
        self.peer.on_lost()

    def on_refused(self, error: Refused) -> None:
        self.front.broke_rules(self.peer, error.reason)

    def fail(self) -> None:
        """A handler raised."""
        client = self.peer
        if client is not None:
            client.fail()
        else:
            discard(self)

