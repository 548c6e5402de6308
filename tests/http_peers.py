"""The http mode, beside peers.py: a balancer of requests, and messages as both of its sides see
them.

    client, server = stage.asks(GET)
    assert request_of(server).first == b"GET / HTTP/1.1"
    server.says(answer(b"hello"))
    assert answer_of(client).body == b"hello"

Messages are read up to where they end, and no further: what is behind them is still there to be
heard.
"""

import select
import socket
import ssl
from functools import lru_cache
from typing import Any, ContextManager, Dict, Iterator, List, NamedTuple, Optional, Tuple

from peers import PATIENCE, Aside, BalancerStage, Peer, Proxy, eventually, setting_of

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

#: What a balancer has of the http mode, where a test says nothing else. It listens elsewhere than
#: on the port that its instances are told.
HTTP = {
    "protocol": "http",
    "common_port": 8080,
    "head_timeout": 10.0,
    "response_timeout": 0.0,
    "keep_upstream": 64,
}

#: Bytes among which the end of a line is looked for at a time.
LINE = 1024

#: Sizes of a body at the rims of what is read at once, and of what is spliced.
RIMS = [0, 1, *(size + off for size in (16 << 10, 64 << 10, 256 << 10) for off in (-1, 0, 1)),
        1 << 20, 10 << 20]


def head(first: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join((first, *lines, b"", b""))


def get(target: bytes = b"/", *lines: bytes) -> bytes:
    return head(b"GET %s HTTP/1.1" % target, b"Host: a", *lines)


def post(body: bytes, *lines: bytes) -> bytes:
    return head(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: %d" % len(body), *lines) + body


def answer(body: bytes = b"", *lines: bytes, status: bytes = b"200 OK") -> bytes:
    return head(b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *lines) + body


@lru_cache(maxsize=None)
def pattern(size: int) -> bytes:
    """So many bytes; in 64 KB of them no part looks like another."""
    words = b"".join(b"%07x " % number for number in range(1 << 13))[:-3]
    return (words * (size // len(words) + 1))[:size]


class Message(NamedTuple):
    """As it lies on the wire."""

    first: bytes
    #: Names in small letters.
    fields: Tuple[Tuple[bytes, bytes], ...]
    #: Of a chunked one with its sizes and trailers.
    body: bytes

    @property
    def status(self) -> int:
        return int(self.first.split(b" ")[1])

    def values(self, name: bytes) -> "List[bytes]":
        return [value for key, value in self.fields if key == name]

    def value(self, name: bytes) -> bytes:
        """Of the only field of that name; empty where there is none."""
        values = self.values(name)
        assert len(values) <= 1, self.fields
        return values[0] if values else b""


class Cut(AssertionError):
    """A message that ends before its end."""


def takes_all(peer: Peer, count: int) -> bytes:
    data = peer.takes(count)
    if len(data) < count:
        raise Cut("%d bytes of %d, and the end" % (len(data), count))
    return data


def line_of(peer: Peer) -> bytes:
    """The next one, with its end, and not a byte of what is behind it."""
    line = b""
    while not line.endswith(b"\n"):
        # Python's own TLS cannot look ahead.
        ahead = b"" if isinstance(peer.socket, ssl.SSLSocket) else peer.socket.recv(
            LINE, socket.MSG_PEEK)
        line += takes_all(peer, ahead.find(b"\n") + 1 or len(ahead) or 1)
    return line


def head_of(peer: Peer) -> Message:
    """The next message without its body."""
    first = line_of(peer)
    fields: List[Tuple[bytes, bytes]] = []
    while True:
        line = line_of(peer)
        if line == b"\r\n":
            return Message(first[:-2], tuple(fields), b"")
        name, colon, value = line.partition(b":")
        assert colon and line.endswith(b"\r\n"), line
        fields.append((name.lower(), value.strip()))


def request_of(peer: Peer) -> Message:
    """The next request, whole."""
    message = head_of(peer)
    return message._replace(body=_body_of(peer, message, False))


def answer_of(peer: Peer, method: bytes = b"GET") -> Message:
    """The next answer to a request of that method, whole, whatever its status is."""
    message = head_of(peer)
    if method == b"HEAD" or message.status in (204, 304) or message.status < 200:
        return message
    return message._replace(body=_body_of(peer, message, True))


def final_answer_of(peer: Peer, method: bytes = b"GET") -> "Tuple[List[int], Message]":
    """The next answer, and the statuses of those that went before it (1xx)."""
    interim: List[int] = []
    while True:
        message = answer_of(peer, method)
        if message.status >= 200:
            return interim, message
        interim.append(message.status)


def _body_of(peer: Peer, message: Message, may_end: bool) -> bytes:
    if message.value(b"transfer-encoding"):
        assert message.value(b"transfer-encoding") == b"chunked"
        assert not message.values(b"content-length")
        return b"".join(_chunks_of(peer))
    length = message.value(b"content-length")
    if length or not may_end:
        return takes_all(peer, int(length or 0))
    pieces: List[bytes] = []
    while not pieces or pieces[-1]:
        pieces.append(peer.socket.recv(1 << 16))
    return b"".join(pieces)


def _chunks_of(peer: Peer) -> "Iterator[bytes]":
    while True:
        line = line_of(peer)
        yield line
        size = int(line.partition(b";")[0], 16)
        if not size:
            break
        chunk = takes_all(peer, size + 2)
        assert chunk.endswith(b"\r\n")
        yield chunk
    while line != b"\r\n":
        line = line_of(peer)
        yield line


def says_in_pieces(peer: Peer, *pieces: bytes) -> None:
    """Each is on its way before the next is said; who reads meanwhile gets them apart."""
    for piece in pieces:
        peer.says(piece)
        peer._turn()


def push(peer: Peer) -> int:
    """Zeros, as many as go at once."""
    zeros, pushed = bytes(1 << 18), 0
    peer.socket.setblocking(False)
    try:
        while True:
            pushed += peer.socket.send(zeros)
    except BlockingIOError:
        return pushed
    finally:
        peer.socket.settimeout(PATIENCE)


class HttpStage(BalancerStage):
    """A balancer of HTTP with its clients and instances."""

    def __init__(self, proxy: Proxy, **settings: Any) -> None:
        super().__init__(proxy, **dict(HTTP, **settings))
        #: Connections to the only instance that `receives` has accepted.
        self._servers: Dict[socket.socket, Peer] = {}

    def stands(self) -> "HttpStage":
        """It listens, and its only instance is up."""
        if not self.common[1]:
            self.listens()
            self.only = self.instance().comes_up()
        return self

    def says(self, data: bytes) -> Peer:
        """A client that does."""
        return self.stands().client().says(data)

    def asks(self, data: bytes = GET, client: "Optional[Peer]" = None) -> "Tuple[Peer, Peer]":
        """A client that says that, and the new connection on which it comes to the instance."""
        self.stands()
        client = client or self.client()
        client.says(data)
        return client, self.only.accepts()

    def is_answered(
        self, client: Peer, server: Peer, data: bytes = GET, told: bytes = b""
    ) -> "Tuple[Message, Message]":
        """One more request on connections that there are: as the instance gets it, and its answer
        as the client gets it."""
        method = data.partition(b" ")[0]
        client.says(data)
        request = request_of(server)
        server.says(told or answer(b"hello"))
        return request, final_answer_of(client, method)[1]

    def receives(self) -> Peer:
        """Where the only instance gets the next request: a new connection or one that was kept."""
        while True:
            ready = select.select([self.only.socket, *self._servers], [], [], PATIENCE)[0]
            assert ready, "no request"
            for sock in ready:
                if sock is self.only.socket:
                    peer = self.only.accepts()
                    self._servers[peer.socket] = peer
                elif is_ended(sock):
                    del self._servers[sock]
                else:
                    return self._servers[sock]

    def exchange(
        self, data: bytes, told: bytes = b"", client: "Optional[Peer]" = None
    ) -> "Tuple[Message, Message]":
        """A request as the only instance gets it, on whichever connection, and its answer as the
        client gets it."""
        client = client or self.stands().client()
        sending = Aside(client.says, data)
        server = self.receives()
        request = request_of(server)
        sending.is_done()
        saying = Aside(server.says, told or answer(b"hello"))
        answered = final_answer_of(client, data.partition(b" ")[0])[1]
        saying.is_done()
        return request, answered

    @property
    def under_way(self) -> int:
        """Requests that count for an instance."""
        return int(sum(each["open"] for each in self.status()["backends"]))

    @property
    def answers(self) -> "List[int]":
        """Of the instances, from 1xx to 5xx."""
        return self.status()["http"][1]  # type: ignore[no-any-return]

    @property
    def own_answers(self) -> "List[int]":
        return self.status()["http"][2]  # type: ignore[no-any-return]

    def is_at_rest(self) -> bool:
        """No request is under way, none waits."""
        return not self.under_way and not self.status()["queue"]

    def watches(self) -> int:
        """Sockets of clients, and of connections to instances."""
        return int(self.figures()["watched"] - self.before["watched"])

    def ends(self) -> None:
        """When both sides have left, so has everything of them, before the balancer is closed."""
        self._closing.close()
        eventually(lambda: not self.under_way, "no request is counted any more")
        eventually(lambda: not self.watches(), "no connection is left")
        super().ends()


def is_readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


def is_ended(sock: socket.socket) -> bool:
    """Of one that is readable."""
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except ConnectionResetError:
        return True


def setting_http(proxy: Proxy, **settings: Any) -> "ContextManager[HttpStage]":
    return setting_of(HttpStage, proxy, **settings)
