"""What an instance says to a request of the http mode: answers, read and given to the client.

An answer that arrives whole in one read goes on by one send. Of all others the head is read and
written anew; bodies go as http_sockets.py has it. What an instance says behind the end of its
answer is given to nobody: the next client would take it for its own.
"""

import _socket
from typing import Any, List

from backends import Backend
from http_forwarding import answer_bytes
from http_framing import BODY, DONE, HEAD, Reader
from http_heads import CHUNKED, AnswerHead, Refused, parse_answer
from http_plain import SHORT, plain_answer, remembered_answer
from http_sockets import HttpSocket, room
from poller import DATA
from relay import BUFFER, SMALL_BYTES, VIEW
from sockets import unread

#: Bytes of a body that is spliced from its beginning, and what is read then of an answer: it has
#: the head, and costs little to copy.
_BULKY, _LOOK = 64 * 1024, 2 * 1024

#: Interim answers to one request, after which no answer is expected any more.
_MOST_INTERIMS = 100


class AnswerSocket(HttpSocket):
    """The instance's side of a connection, and the answer that is under way on it."""

    __slots__ = (
        "asked_in", "backend", "head_size", "interims", "is_begun", "is_long", "length",
        "reusable", "status",
    )  # fmt: skip

    def expect_answers(self, front: Any, backend: Backend) -> None:
        """Called once, in place of a constructor."""
        self.set_up(front)
        self.reader = Reader(False)
        self.backend = backend
        #: The number of the poll in which it was taken for a request; of a new one, 0.
        self.asked_in = 0
        #: The last answer was longer than a short read, and the length of its body, or CHUNKED, or
        #: UNTIL_CLOSE.
        self.is_long = False
        self.length = 0
        #: A part of an answer has been read.
        self.is_begun = False
        #: It can be kept after this answer.
        self.reusable = True
        #: Of the answer that is passed on; the size is that of its head as the client gets it.
        self.status = 0
        self.head_size = 0
        #: Interim answers (1xx) to the request that is under way.
        self.interims = 0

    def forget_answer(self) -> None:
        """It is over, and another one is to follow."""
        if self.reader.state == DONE:
            self.reader.next_message()
        self.interims = 0
        self.is_begun = False

    def on_event(self, mask: int) -> None:
        """Most events are an answer that comes whole, is plain, and goes on as it is; each step
        here is made for every one."""
        client = self.peer
        if (mask != DATA or client is None or self.asked_in == self.poller.polls or self.is_begun
                or self.is_long or client.unsent is not None or not client.request.is_plain):
            self.on_other_event(mask)
            return
        try:
            data = self.recv(SMALL_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.on_lost()
            return
        end = data.find(b"\r\n\r\n") + 4
        head = data[:end]
        plain = remembered_answer(head) if end <= SHORT else plain_answer(head)
        size = len(data)
        if plain is None or end + plain.length != size or size == SMALL_BYTES:
            self._take_up(data)
            return
        head = plain.staying if client.keep_alive else plain.leaving
        if not client.is_usual:
            head = client.plain_head(head)
        self.status = plain.status
        self.head_size = len(head)
        data = head + data[end:]
        self.passed = len(data)
        if client.is_usual:
            client.unsent = data
            self.poller.posted.append(client)
        elif not client.give(data):
            return
        if self.unsent is not None:
            self.reusable = False
        front = self.front
        front.answered(client, self, front.clock())

    def on_other_event(self, mask: int) -> None:
        """Whatever else has happened, or while something unusual is under way."""
        raise NotImplementedError

    def read(self, to_the_end: int) -> None:
        """What has arrived, as far as the client takes it."""
        if self.peer.is_blocked:
            return  # `resume` goes on
        if self.reader.state != HEAD:
            self.pass_body_on(to_the_end)
        elif self.is_long and self.peer.request.is_plain and not self.is_begun:
            self._read_long(to_the_end)
        else:
            self._read_head()

    def _read_head(self) -> None:
        """Read once, where a head is due."""
        try:
            data = self.recv(SMALL_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.on_lost()
            return
        self._take_up(data)

    def _take_up(self, data: bytes) -> None:
        if data:
            self._take(data)
        else:
            self.on_end()

    def _read_long(self, to_the_end: int) -> None:
        """As `on_event`, where the last answer was long: read much at once, and copy nothing; or so
        little that hardly more than the head has to be copied, where the rest is spliced."""
        client = self.peer
        most = _LOOK
        if self.length < _BULKY or not client.can_splice:
            most = min(client.most, max(SMALL_BYTES, room(client)))
        try:
            size = self.recv_into(BUFFER, most)
        except BlockingIOError:
            return
        except OSError:
            self.on_lost()
            return
        end = BUFFER.find(b"\r\n\r\n", 0, size) + 4
        head = bytes(VIEW[:end])
        plain = remembered_answer(head) if end <= SHORT else plain_answer(head)
        if plain is None or end + plain.length < size or (
                end + plain.length > size and plain.length < _BULKY):
            self._take_up(bytes(VIEW[:size]))
            return
        head = plain.staying if client.keep_alive else plain.leaving
        if not client.is_usual:
            head = client.plain_head(head)
        self.status = plain.status
        self.head_size = len(head)
        self.length = plain.length
        if end + plain.length > size:
            self._begin_bulk(head, end, size)
            if size == most or to_the_end:
                self._go_on()
        else:
            self._give_whole(head, end, size)

    def _give_whole(self, head: bytes, end: int, size: int) -> None:
        """A plain answer: its head as it goes on, and the sizes of the head in the buffer, and of
        all that is there."""
        client = self.peer
        self.passed = whole = len(head) + size - end
        try:
            sent = client.sendmsg((head, VIEW[end:size]))
        except BlockingIOError:
            sent = 0
        except OSError:
            client.on_lost()
            return
        if sent < whole:
            client.most = SMALL_BYTES
            client.keep(memoryview((head + VIEW[end:size])[sent:]))
        if self.unsent is not None:
            self.reusable = False
        self.is_long = size > SMALL_BYTES
        self.front.answered(client, self, self.front.clock())

    def _begin_bulk(self, head: bytes, end: int, size: int) -> None:
        """The same of one that goes on. Of its rest nothing has to be seen."""
        client, front, reader = self.peer, self.front, self.reader
        self.is_begun = client.told = True
        client.is_usual = False
        client.first_byte_at = front.clock()
        if front.response_timeout:
            front.answers.remove(client)
        reader.read_head(bytes(VIEW[:end]))
        reader.rest()
        reader.expect(self.length)
        reader.take(BUFFER, end, size)
        self.passed = len(head) + size - end
        # Where there is more, it is sent together with that.
        flags = _socket.MSG_MORE if unread(self.fileno()) else 0
        client.give(head + VIEW[end:size], flags)

    def _go_on(self) -> None:
        """There may be more of a long answer, of which no event tells again."""
        client = self.peer
        if client is not None and not (client.is_blocked or self.turn_to_bulk()):
            self.poller.call_soon(self)

    def _take(self, data: bytes) -> None:
        """What has come of an answer, whatever it is."""
        client, reader = self.peer, self.reader
        self.is_begun = True
        client.is_usual = False
        if not client.first_byte_at:
            client.first_byte_at = self.front.clock()
        pieces: List[bytes] = []
        end, rest = 0, b""
        try:
            while True:
                head_bytes = reader.read_head(data)
                if not head_bytes:
                    break
                head = parse_answer(head_bytes, client.request.method)
                rest = reader.rest()
                if self._is_tunnel(head):
                    pieces.append(answer_bytes(head, b""))
                    self.front.tunnel(client, self, b"".join(pieces), rest, head.status)
                    return
                if head.status >= 200:
                    pieces.append(self._begin(head))
                    end = reader.take(rest, 0, len(rest))
                    pieces.append(rest[:end])
                    break
                pieces.append(self._interim(head))
                if not rest:
                    break
                data = rest
        except Refused as error:
            self.on_refused(error)
            return
        out = b"".join(pieces)
        self.passed += len(out)
        if out and not client.give(out):
            return
        if reader.state == DONE:
            self.on_body_read(rest[end:], True)
        elif not (reader.state == BODY and reader.left >= _BULKY and not client.is_blocked
                  and self.turn_to_bulk()):
            # An edge is told once, and this read may not have been the last.
            self.poller.call_soon(self)

    def _is_tunnel(self, head: AnswerHead) -> bool:
        client = self.peer
        if head.status == 101:
            if not client.request.upgrade or client.request.method == b"CONNECT":
                raise Refused(502, "it changes the protocol without being asked to")
            return True
        return bool(client.request.method == b"CONNECT" and 200 <= head.status < 300)

    def _interim(self, head: AnswerHead) -> bytes:
        """An answer before the answer, as it goes on; HTTP/1.0 knows none."""
        client = self.peer
        self.interims += 1
        if self.interims > _MOST_INTERIMS:
            raise Refused(502, "interim answers without end")
        self.backend.answers[0] += 1
        client.first_byte_at = 0.0
        self.reader.expect(0)
        self.reader.next_message()
        return answer_bytes(head, b"") if client.request.minor else b""

    def _begin(self, head: AnswerHead) -> bytes:
        """The head of the answer itself, as it goes on."""
        client, front = self.peer, self.front
        if head.framing == CHUNKED and not client.request.minor:
            raise Refused(502, "a chunked answer to HTTP/1.0")
        if not client.first_byte_at:
            client.first_byte_at = front.clock()
        if front.response_timeout:
            front.answers.remove(client)
        self.status = head.status
        request = client.request
        self.reusable = (
            self.reusable and head.keep_alive and bool(request.minor) and not request.is_odd)
        self.length = head.framing
        self.reader.expect(head.framing)
        data: bytes = client.answer_head(head)
        self.head_size = len(data)
        client.told = True
        return data

    def on_body_read(self, excess: bytes, maybe_more: bool) -> None:
        client = self.peer
        if self.pipe is not None:
            if self.pipe.held:
                return  # `resume` comes back here
            self.return_pipe()
        self.is_long = self.passed > SMALL_BYTES
        if (excess or client.body_open or self.unsent is not None
                or (maybe_more and self.reusable and unread(self.fileno()))):
            self.reusable = False
        self.front.answered(client, self, self.front.clock())
