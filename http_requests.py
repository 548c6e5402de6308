"""What a client of the http mode sends: requests, read and made ready to go on.

A request that is plain (http_plain.py) and came whole goes on as it is, with our lines behind it.
The head of any other is read to the last field, and written anew.
"""

from typing import Any, Optional

from http_forwarding import request_bytes
from http_framing import DONE, Reader
from http_heads import Refused, parse_request
from http_plain import SHORT, Request, parsed_request, plain_request, remembered_request
from http_sockets import HttpSocket
from poller import DATA
from proxy_protocol import Announced
from relay import SMALL_BYTES

#: Phases of a client; http_client.py has the table.
IDLE, HEAD, WAITING, ANSWER, ENDING, ENDED = (
    "IDLE", "HEAD", "WAITING", "ANSWER", "ENDING", "ENDED")

#: What is known of a request whose head has not been read.
_UNREAD = Request(b"")


class RequestSocket(HttpSocket):
    """The client's side of a connection, and the request that is under way on it."""

    __slots__ = (
        "address", "announced", "arrived", "began", "body_open", "eof", "first_byte_at", "had",
        "half_closed", "head", "host", "is_believed", "is_usual", "keep_alive", "key", "message",
        "moved", "origin", "pending", "phase", "quiet_since", "repeats", "request", "requests",
        "seen", "sent", "since", "suffix", "told", "unacknowledged",
    )  # fmt: skip

    #: When it came into the queue that it is in.
    since: float
    #: Of a client whose TLS ends here: its session (tls_session.py).
    tls: Any = None

    def start(
        self, front: Any, address: str, announced: "Optional[Announced]", now: float
    ) -> None:
        """Called once, in place of a constructor."""
        self.set_up(front)
        #: What a proxy in front has said of its connection.
        self.announced = announced
        self.address = address
        #: What a strategy knows it by: its address, or the value of its cookie.
        self.key = address
        #: Where its requests come from, as a proxy says that is believed; else its address.
        self.origin = address
        #: It is a proxy that is believed about its own clients.
        self.is_believed = front.identity.believes(address)
        if self.is_believed:
            self.reader = Reader(True)  # all that it sends is read in full
        self.phase = IDLE
        #: Something may lie in the socket that no further event tells of.
        self.arrived = False
        #: Grows with what is read or sent, besides usual requests.
        self.moved = 0
        #: The lines that are added to its requests, and for which host.
        self.host = b""
        self.suffix = b""
        #: Answered on this connection.
        self.requests = 0
        #: It sends no more: that was read, and that was told, while something may be unread.
        self.eof = False
        self.half_closed = False
        #: What the last sweep has seen of what moves (http_quiet.py).
        self.seen: Any = None
        self.quiet_since = now
        #: Bytes that the kernel had for it when it became quiet; below 0 it is not.
        self.unacknowledged = -1
        self.pending: Any = None
        #: The instance that had its request, and lost it.
        self.had = ""
        self.forget_request()

    def forget_request(self) -> None:
        """Nothing is under way."""
        self.request = _UNREAD
        #: It was plain, and nothing has happened since that its end has to see to.
        self.is_usual = False
        #: It as it goes to the instance, as far as it has been read.
        self.message = b""
        self.body_open = False
        self.keep_alive = True
        #: Its head as it came, where the access log is to have it.
        self.head = b""
        self.repeats = 0
        #: The head of its answer has been given to this client.
        self.told = False
        self.began = 0.0
        self.first_byte_at = 0.0
        #: Bytes of the answer that are counted already.
        self.sent = 0

    @property
    def held(self) -> int:
        """Bytes of its next request that were read already."""
        return 0 if self.reader is None else self.reader.held

    def on_event(self, mask: int) -> None:
        """Most events are a request that comes whole, is plain, and goes on at once; each step here
        is made for every one."""
        if mask != DATA or self.phase != IDLE or self.unsent is not None:
            self.on_other_event(mask)
            return
        try:
            data = self.recv(SMALL_BYTES)
        except BlockingIOError:
            self.arrived = False
            return
        except OSError:
            self.on_lost()
            return
        request = remembered_request(data) if len(data) <= SHORT else None
        if request is None or self.reader is not None:
            self._take_up(data, False)
            return
        self.arrived = False
        self._pass_on(data, request)

    def _pass_on(self, data: bytes, request: Request) -> None:
        """A whole request that is plain."""
        front = self.front
        self.began = front.clock()
        self.request = request
        self.keep_alive = request.keep_alive
        self.is_usual = request.is_plain and not self.arrived
        if request.host != self.host:
            self.host = request.host
            self.suffix = front.identity.lines(self, request.host) + b"\r\n"
        if front.identity.looks:
            front.identity.look(self, data)
        self.passed = len(data)
        self.message = request.head + self.suffix
        front.place(self)

    def read_request(self, to_the_end: bool) -> None:
        """Read once, whatever has been read before."""
        try:
            data = self.recv(SMALL_BYTES)
        except BlockingIOError:
            self.arrived = False
        except OSError:
            self.on_lost()
        else:
            self._take_up(data, to_the_end)

    def _take_up(self, data: bytes, to_the_end: bool) -> None:
        if not data:
            self.on_end()
            return
        self.moved += 1
        self.arrived = to_the_end or len(data) == SMALL_BYTES
        reader = self.reader
        if self.phase != IDLE:
            self.take(data)
        elif reader is not None and reader.held:
            self.take(reader.rest() + data)
        else:
            request = remembered_request(data) if len(data) <= SHORT else plain_request(data)
            if request is None or self.is_believed:
                self.began = self.front.clock()
                self.take(data)
            else:
                self._pass_on(data, request)

    def on_other_event(self, mask: int) -> None:
        """Whatever else has happened, or while something is under way."""
        raise NotImplementedError

    def take(self, data: bytes) -> None:
        """What has come of a request, whatever it is; `data` is not empty."""
        reader = self.reader
        if reader is None:
            reader = self.reader = Reader(True)
        self.request = _UNREAD
        self.is_usual = False
        if not self.began:
            self.began = self.front.clock()  # it came with the request before
        head_bytes = b""
        try:
            head_bytes = reader.read_head(data)
            if not head_bytes:
                self._wait_for_head()
                return
            if self.phase == HEAD:
                self.front.heads.remove(self)
                self.phase = IDLE
            head = parse_request(head_bytes)
            self.request = parsed_request(head)
            self.keep_alive = head.keep_alive
            rest = reader.rest()
            reader.expect(head.framing)
            end = reader.take(rest, 0, len(rest))
        except Refused as error:
            if self.front.request_log is not None:
                self.head = (head_bytes or data)[:SHORT]
            self.on_refused(error)
            return
        self.body_open = reader.state != DONE
        if end < len(rest):
            reader.hold(rest[end:])
        identity = self.front.identity
        if identity.looks:
            identity.look(self, head_bytes)
        self.passed = len(head_bytes) + end
        self.message = request_bytes(head, identity.lines_of(self, head)) + rest[:end]
        self.front.place(self)

    def _wait_for_head(self) -> None:
        if self.phase == IDLE and self.held:
            self.phase = HEAD
            self.front.wait_for(self.front.heads, self)
        if self.arrived:
            self.poller.call_soon(self)
