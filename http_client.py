"""A client of the http mode: its requests, one after the other, and what it gets for each.

    phase      what it waits for                                   goes on to
    IDLE       a request; not a byte of it has come                HEAD, WAITING, ANSWER
    HEAD       the rest of a head                                  WAITING, ANSWER
    WAITING    an instance that takes the request                  ANSWER, IDLE
    ANSWER     the answer, and the rest of its own body            IDLE, WAITING, ENDING
    ENDING     that the last bytes for it are taken                (http_lingering.py)

From an answer of ours (an error) it goes on as from one of an instance. `WAITING` after `ANSWER` is
a request that is repeated, since its instance has ended before a byte of an answer.

No greenlet, no timer, no log line per request; as relay.py.
"""

import _socket
from typing import Any

from backends import Backend
from http_errors import error_answer
from http_forwarding import CLOSE, KEEP_ALIVE, answer_bytes
from http_framing import DONE
from http_heads import (
    UNTIL_CLOSE,
    AnswerHead,
    Refused,
)
from http_requests import ANSWER, ENDED, ENDING, HEAD, IDLE, RequestSocket
from poller import ENDING as ITS_END, ERROR, MORE_THAN_DATA, READABLE, WRITABLE
from relay import SMALL_BYTES

#: After these the client has sent what nobody understands: no next request is looked for in it.
_LOST_TRACK = frozenset((400, 408, 431, 501, 505))


class HttpClient(RequestSocket):
    """One client's connection, and the request that is under way on it."""

    __slots__ = ()

    # Events

    def on_other_event(self, mask: int) -> None:
        if mask & ERROR:
            self.on_lost()
            return
        if mask & WRITABLE and self.is_blocked:
            try:
                self.flush()
            except OSError:
                self.on_lost()
                return
        if mask & READABLE:
            if mask & ITS_END:
                self.half_closed = True
            self._on_readable(mask & MORE_THAN_DATA > 0)

    def _on_readable(self, to_the_end: bool) -> None:
        phase = self.phase
        if phase in (IDLE, HEAD):
            if self.unsent is None:
                self.read_request(to_the_end)
            else:
                self.arrived = True
        elif phase == ANSWER and self.body_open and not self.is_torn and not self.peer.is_blocked:
            self.pass_body_on(to_the_end)
        else:
            self.arrived = True
            self.is_usual = False

    def on_turn(self) -> None:
        """Its turn, asked for with `call_soon`: what has been read already comes first."""
        if self.phase in (IDLE, HEAD) and self.unsent is None:
            if self.phase == IDLE and self.held:
                self.take(self.reader.rest())
            else:
                self.read_request(True)
        elif self.phase == ANSWER:
            self._on_readable(True)

    def on_flushed(self) -> None:
        self.moved += 1
        upstream = self.peer
        if upstream is not None:
            upstream.resume()
        elif self.phase == ENDING:
            self._ended()
        elif self.arrived or self.held:
            self.poller.call_soon(self)

    def on_posted(self) -> None:
        """Send a usual answer."""
        data = self.unsent
        if data is None:
            return  # it has gone meanwhile
        try:
            # Where the end comes next, both travel together.
            sent = self.send(data, _socket.MSG_MORE if self.phase == ENDING else 0)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.on_lost()
            return
        if sent < len(data):
            self.most = SMALL_BYTES
            self.keep(memoryview(data)[sent:])
            return
        self.unsent = None
        if self.phase == ENDING:
            self._ended()
        elif self.arrived:
            self.poller.call_soon(self)

    def on_progress(self) -> None:
        self.moved += 1

    # An instance for it

    def send_to(self, upstream: Any, backend: Backend) -> None:
        """An instance takes the request; it counts for that backend already."""
        backend.total += 1
        self.phase = ANSWER
        self.peer = upstream
        upstream.peer = self
        upstream.unsent = self.message
        poller = self.poller
        poller.posted.append(upstream)
        if not self.request.repeatable:
            self.message = b""
        if self.body_open:
            poller.call_soon(self)
        elif self.front.response_timeout:
            self.front.wait_for(self.front.answers, self)

    # Its own body

    def on_body_read(self, excess: bytes, maybe_more: bool) -> None:
        self.body_open = False
        self.moved += 1
        if excess:
            self.reader.hold(excess)
        self.arrived = self.arrived or maybe_more
        if self.pipe is not None and not self.pipe.held:
            self.return_pipe()
        if self.front.response_timeout and self.phase == ANSWER and not self.told:
            self.front.wait_for(self.front.answers, self)

    def on_peer_lost(self) -> None:
        """The instance takes no more of the body: what it has said before is its answer."""
        upstream = self.peer
        upstream.reusable = False
        self.return_pipe()
        upstream.unsent = None
        upstream.read(True)

    # Answers

    def answer_head(self, head: AnswerHead) -> bytes:
        """The head of an instance's answer as this client gets it."""
        if head.framing == UNTIL_CLOSE or self.body_open:
            # Also who is answered early is let go, since the rest of its body may never come.
            self.keep_alive = False
        added = self.front.identity.cookie_for(self, self.peer.backend.name)
        if not self.keep_alive:
            added += CLOSE
        elif not self.request.minor:
            added += KEEP_ALIVE
        return answer_bytes(head, added)

    def plain_head(self, head: bytes) -> bytes:
        """The same of a head that goes on as it is, where there may be something to add."""
        added = self.front.identity.cookie_for(self, self.peer.backend.name)
        return head[:-2] + added + b"\r\n" if added else head

    def give(self, data: bytes, flags: int = 0) -> bool:
        """Give it bytes of an answer; false where it has gone. `flags` are those of send(2)."""
        self.moved += 1
        try:
            self.write(data, flags)
        except OSError:
            self.on_lost()
            return False
        return True

    def answered(self) -> None:
        """The answer is over, and its instance is let go already."""
        if self.is_usual and not self.keep_alive:
            self.finish(False)
            return
        rest_of_body = self.body_open
        keep_alive = self.keep_alive and not rest_of_body
        self.forget_request()
        if not keep_alive or (self.eof and not self.held) or self.front.is_closing:
            self.finish(rest_of_body or self.arrived or bool(self.held))
            return
        self.phase = IDLE
        if self.reader is not None and self.reader.state == DONE:
            self.reader.next_message()
        if self.unsent is None and (self.arrived or self.held):
            self.poller.call_soon(self)

    def answer_error(self, status: int, reason: str = "") -> None:
        """An answer of our own; nothing of an instance is under way."""
        front = self.front
        front.own_answers[status // 100 - 1] += 1
        close = (status in _LOST_TRACK or self.body_open or not self.keep_alive
                 or front.is_closing)
        request = self.request
        data = error_answer(status, reason, request.method != b"HEAD", close, request.minor)
        if front.request_log is not None:
            size = len(data) - data.index(b"\r\n\r\n") - 4
            front.request_log.own(self, status, size, self.had)
        self.had = ""
        if not self.give(data):
            return
        self.keep_alive = not close
        self.requests += 1
        if status in _LOST_TRACK:
            self.body_open = True
        self.answered()

    def idle_for_too_long(self) -> None:
        """Not a byte either way: whose fault is it?"""
        if self.phase != ANSWER:
            self.time_out(0)
        elif self.body_open and not self.peer.is_blocked:
            self.time_out(408)
        else:
            self.time_out(504)

    def time_out(self, status: int) -> None:
        """It has taken too long; a status of 0 is no answer."""
        if self.phase == ANSWER and self.peer is not None and not self.front.give_up(self):
            return
        if status:
            self.answer_error(status)
        elif self.unsent is not None:
            self.abort()
        else:
            self.close_client()

    def on_refused(self, error: Refused) -> None:
        """The request, or its body, breaks the rules."""
        if self.phase == HEAD:
            self.front.heads.remove(self)
        if self.phase == ANSWER and not self.front.give_up(self):
            return
        self.body_open = True
        self.answer_error(error.status, error.reason)

    # The end

    def finish(self, linger: bool) -> None:
        """No next request: end it, when it has what is left."""
        self.phase = ENDING
        self.body_open = linger
        if not self.is_blocked:
            self._ended()

    def _ended(self) -> None:
        if (self.body_open or self.arrived) and not self.eof:
            self.phase = ENDED
            self.front.linger(self)
        else:
            self.close_client()

    def on_end(self) -> None:
        """It sends no more, and may still read (RFC 9112, 9.6): an answer under way is finished."""
        self.eof = True
        self.arrived = False
        self.is_usual = False
        if self.phase == ANSWER and self.body_open:
            # Half a request: the instance must not take it for a whole one.
            self.front.let_go(self)
            self.abort()
        elif self.phase == IDLE and self.held:
            # It came in between: what was read before it has its turn, and then this once more.
            self.arrived = True
            if self.unsent is None:
                self.poller.call_soon(self)
        elif self.phase in (IDLE, HEAD):
            if self.unsent is None:
                self.close_client()
            else:
                self.finish(False)

    def on_lost(self) -> None:
        """It has gone: nobody waits for the answer."""
        if self.phase == ANSWER and self.peer is not None:
            self.front.let_go(self)
        self.close_client()

    def abort(self) -> None:
        """A clean end would make what it has got look whole."""
        self.close_client(True)

    def close_client(self, reset: bool = False) -> None:
        """Idempotent."""
        phase, self.phase = self.phase, ENDED
        if phase != ENDED:
            front = self.front
            if phase == HEAD:
                front.heads.remove(self)
            if self.pending is not None:
                front.forget_pending(self)
            self.end(reset)
            front.ended(self)

    def fail(self) -> None:
        """A handler raised: nothing of what is under way can be relied on."""
        if self.peer is not None:
            self.front.let_go(self)
        self.abort()
        self.end(True)  # it had ended already, and was to linger

    @property
    def is_torn(self) -> bool:
        """It was answered, or was to be, and there was no memory for all of that."""
        upstream = self.peer
        return self.phase == ANSWER and (
            upstream is None or upstream.peer is not self or not upstream.is_open)
