"""What a client of the http mode sends: requests, read and made ready to go on.

A request that is plain (http_plain.py) and came whole goes on as it is, with our lines behind it.
The head of any other is read to the last field, and written anew.
"""

from typing import Any

from http_forwarding import request_bytes
from http_framing import DONE, Reader
from http_heads import Refused, RequestHead, parse_request
from http_plain import BODILESS, IDEMPOTENT, SHORT, plain_request, remembered_request
from http_sockets import HttpSocket
from relay import SMALL_BYTES

#: Phases of a client; http_client.py has the table.
IDLE, HEAD, WAITING, ANSWER, ENDING, ENDED = (
    "IDLE", "HEAD", "WAITING", "ANSWER", "ENDING", "ENDED")


class RequestSocket(HttpSocket):
    """The client's side of a connection, and the request that is under way on it."""

    __slots__ = (
        "address", "arrived", "began", "body_open", "first_byte_at", "front", "head", "host",
        "is_believed", "is_odd", "is_plain", "keep_alive", "key", "method", "minor", "moved",
        "origin", "phase", "repeatable", "repeats", "request", "sent", "suffix", "told",
        "upgrade",
    )  # fmt: skip

    def prepare(self, front: Any, address: str) -> None:
        """Called once, in place of a constructor."""
        self.set_up(front.poller, front.pipes)
        self.front = front
        self.address = address
        #: What a strategy knows it by: its address, or the value of its cookie.
        self.key = address
        #: Where its requests come from, as a proxy says that is believed; else its address.
        self.origin = address
        #: It is a proxy that is believed about its own clients.
        self.is_believed = front.believes(address)
        self.phase = IDLE
        #: Something may lie in the socket that no further event tells of.
        self.arrived = False
        #: Grows with whatever is read or sent.
        self.moved = 0
        #: The lines that are added to its requests, and for which host.
        self.host = b""
        self.suffix = b""
        self.forget_request()

    def forget_request(self) -> None:
        """Nothing is under way."""
        self.request = b""
        self.body_open = False
        self.keep_alive = True
        self.minor = 1
        self.method = b"GET"
        #: Its head as it came, where the access log is to have it.
        self.head = b""
        self.repeatable = False
        self.repeats = 0
        self.upgrade = b""
        #: It has a body where few expect one: an instance may take that for the next request.
        self.is_odd = False
        #: The request had nothing special in it, so an answer without goes on as it is.
        self.is_plain = False
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

    def read_request(self, to_the_end: int = 0) -> None:
        """Read once. Most requests come whole, and go on at once."""
        try:
            data = self.recv(SMALL_BYTES)
        except BlockingIOError:
            self.arrived = False
            return
        except OSError:
            self.on_lost()
            return
        if not data:
            self.on_end()
            return
        size = len(data)
        self.arrived = size == SMALL_BYTES or to_the_end > 0
        self.moved += 1
        reader = self.reader
        if self.phase != IDLE or (reader is not None and reader.held):
            # Behind what has been read of it before.
            self.take(reader.rest() + data if self.phase == IDLE else data)
            return
        front = self.front
        self.began = front.clock()
        plain = remembered_request(data) if size <= SHORT else plain_request(data)
        if plain is None or self.is_believed:
            self.take(data)
            return
        method, host, head, self.keep_alive, self.repeatable = plain
        if host != self.host:
            self.host = host
            self.suffix = front.forwarded(self, host) + b"\r\n"
        self.is_plain = method != b"HEAD"
        if front.looks:
            front.look(self, data)
        self.passed = size
        self.method = method
        self.request = head + self.suffix
        front.place(self)

    def take(self, data: bytes) -> None:
        """What has come of a request, whatever it is; `data` is not empty."""
        reader = self.reader
        if reader is None:
            reader = self.reader = Reader(True)
        self.is_plain = False
        self.method = b""
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
            self._begin(head)
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
        if self.front.looks:
            self.front.look(self, head_bytes)
        self.passed = len(head_bytes) + end
        self.request = request_bytes(head, self.front.about(self, head)) + rest[:end]
        self.front.place(self)

    def _wait_for_head(self) -> None:
        if self.phase == IDLE and self.held:
            self.phase = HEAD
            self.front.wait_for(self.front.heads, self)
        if self.arrived:
            self.poller.call_soon(self)

    def _begin(self, head: RequestHead) -> None:
        """What is to be remembered of it until it is answered."""
        self.method = head.method
        self.minor = head.minor
        self.keep_alive = head.keep_alive
        self.upgrade = head.method if head.is_tunnel else head.upgrade
        self.is_odd = bool(head.framing) and head.method in BODILESS
        self.repeatable = not head.framing and head.method in IDEMPOTENT and not self.upgrade
