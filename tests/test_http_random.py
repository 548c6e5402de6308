"""Random requests and random answers through the http mode: each side gets what the other has said.

Several clients send requests of all kinds, cut anywhere, one behind the other or not; instances
answer each in one of all ways, cut anywhere. Who asked for what is in the message itself, so that
an answer that comes to somebody else, or in another order, is found. In some variants both sides
have small buffers in the kernel, so that few bytes fill and stall them.
"""

import os
import random
import select
import socket
import threading
import time
from typing import Dict, Iterator, List, NamedTuple, Tuple

import pytest

from http_peers import (
    Cut,
    HttpStage,
    Message,
    final_answer_of,
    head,
    pattern,
    request_of,
    setting_http,
)
from peers import PATIENCE, SCALE, Aside, Peer, eventually, started

#: Set where more is looked for than the same in each run (conftest.py).
EXPLORE = "PUPGEVENT_TEST_EXPLORE"

#: Methods, and whether they come with a body.
METHODS = [(b"GET", False), (b"GET", False), (b"HEAD", False), (b"DELETE", False), (b"POST", True),
           (b"PUT", True), (b"OPTIONS", False)]

STATUSES = [b"200 OK", b"200 OK", b"201 Created", b"404 Not Found", b"500 Oops", b"204 No Content",
            b"304 Not Modified"]

#: How the answer's body ends.
LENGTH, CHUNKED, UNTIL_CLOSE = "length", "chunked", "until close"


class Variant(NamedTuple):
    #: Of the balancer's process.
    options: Tuple[str, ...]
    #: Bytes that both sides let the kernel receive for them: few are full soon.
    receives: int
    #: Bytes that a body has at most, now and then.
    most: int
    rounds: int


VARIANTS = {
    # Narrower than a segment of the loopback, and each would take a fifth of a second.
    "narrow": Variant((), 1 << 16, 600000, 12),
    "narrow, without splice": Variant(("--splice", "none"), 1 << 16, 600000, 8),
    "wide": Variant((), 1 << 18, 3000000, 8),
}


class Script:
    """What one client does, and what is answered to it: the same for the same number."""

    def __init__(self, number: int, most: int) -> None:
        self.random = random.Random(number)
        self.most = most
        self.exchanges: List[Exchange] = []
        for each in range(self.random.randint(1, 8)):
            self.exchanges.append(self.exchange(b"%d-%d" % (number, each)))
            if self.exchanges[-1].kind == UNTIL_CLOSE:
                break  # nothing more can be said on the connection
        #: It has ended its side before it gets the last answer.
        self.finishes = self.random.random() < 0.2
        #: It leaves with a reset, once it has had so many answers.
        self.resets_after = self.random.choice([len(self.exchanges)] * 5 + [0, 1])
        self.is_rude = self.resets_after < len(self.exchanges)
        #: It says all at once, or each request after the answer to the one before it.
        self.pipelines = not self.is_rude and self.random.random() < 0.5

    def size(self) -> int:
        kind = self.random.random()
        if kind < 0.4:
            return self.random.choice([0, 0, 1, 10, 100])
        if kind < 0.8:
            return self.random.choice([16000, 16383, 16384, 16385, 65536, 65537])
        return self.random.randint(1, self.most)

    def body(self, chunked: bool) -> bytes:
        data = pattern(self.most)[:self.size()]
        if not chunked:
            return data
        pieces = []
        for piece in self.cut(data, 5):
            extension = self.random.choice([b"", b"", b";x", b';x="a b"'])
            pieces.append(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece))
        trailers = self.random.choice([b"", b"", b"X-Sum: 1\r\n", b"X-A: 1\r\nX-B: 2\r\n"])
        return b"".join(pieces) + b"0\r\n" + trailers + b"\r\n"

    def cut(self, data: bytes, most: int) -> "List[bytes]":
        """In pieces, none of them empty."""
        if not data:
            return []
        count = min(self.random.randint(0, most), len(data) - 1)
        rims = [0, *sorted(self.random.sample(range(1, len(data)), count)), len(data)]
        return [data[start:end] for start, end in zip(rims, rims[1:])]

    def exchange(self, mark: bytes) -> "Exchange":
        method, with_body = self.random.choice(METHODS)
        lines = [b"Host: a", b"X-Mark: " + mark]
        body = b""
        if with_body:
            chunked = self.random.random() < 0.4
            body = self.body(chunked)
            lines.append(b"Transfer-Encoding: chunked" if chunked
                         else b"Content-Length: %d" % len(body))
        self.random.shuffle(lines)
        request = head(b"%s /%s HTTP/1.1" % (method, mark), *lines)
        status = self.random.choice(STATUSES)
        bodiless = method == b"HEAD" or status[:3] in (b"204", b"304")
        kind = self.random.choice([LENGTH, LENGTH, CHUNKED, CHUNKED, UNTIL_CLOSE])
        kind = LENGTH if bodiless else kind
        told = self.body(kind == CHUNKED)
        fields = [b"X-Mark: " + mark, b"X-Other: thing"]
        if kind == CHUNKED:
            fields.append(b"Transfer-Encoding: chunked")
        elif kind == LENGTH and status[:3] != b"204":
            fields.append(b"Content-Length: %d" % len(told))
        closes = kind == UNTIL_CLOSE or self.random.random() < 0.15
        if closes and (kind != UNTIL_CLOSE or self.random.random() < 0.5):
            fields.append(b"Connection: close")
        self.random.shuffle(fields)
        interim = [self.random.choice([100, 102, 103])
                   for _ in range(self.random.choice([0, 0, 0, 1, 3]))]
        before = b"".join(head(b"HTTP/1.1 %d Wait" % each, b"X-Mark: " + mark) for each in interim)
        whole = before + head(b"HTTP/1.1 " + status, *fields) + (b"" if bodiless else told)
        return Exchange(
            mark, method, self.cut(request + body, 4), body, status, self.cut(whole, 4),
            b"" if bodiless else told, kind, interim, closes)


class Exchange:
    """A request and its answer, each in the pieces in which it is said."""

    def __init__(
        self, mark: bytes, method: bytes, request: "List[bytes]", body: bytes, status: bytes,
        answer: "List[bytes]", answer_body: bytes, kind: str, interim: "List[int]", closes: bool,
    ) -> None:
        self.mark = mark
        self.method = method
        self.request = request
        self.body = body
        self.status = status
        self.answer = answer
        self.answer_body = answer_body
        #: How its answer ends.
        self.kind = kind
        self.interim = interim
        #: The instance closes its connection behind it.
        self.closes = closes
        self.times_asked = 0

    def is_request(self, message: Message) -> None:
        assert message.first == b"%s /%s HTTP/1.1" % (self.method, self.mark)
        assert message.body == self.body or not "another body", self.mark
        self.times_asked += 1

    def is_answer(self, interim: "List[int]", message: Message) -> None:
        assert message.value(b"x-mark") == self.mark
        assert message.first == b"HTTP/1.1 " + self.status
        assert message.body == self.answer_body or not "another body", self.mark
        assert interim == self.interim
        says_close = message.value(b"connection") == b"close"
        assert says_close == (self.kind == UNTIL_CLOSE)


class Instances:
    """They accept, and answer by the mark of each request, until they are closed."""

    def __init__(
        self, stage: HttpStage, exchanges: "Dict[bytes, Exchange]", may_be_cut: bool,
        receives: int,
    ) -> None:
        self.exchanges = exchanges
        self.listeners = [each.socket for each in stage.instances(2)]
        for listener in self.listeners:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        #: Some client leaves in the middle.
        self.may_be_cut = may_be_cut
        self.failures: List[BaseException] = []
        self.woken, self.waker = socket.socketpair()
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()
        self.peers: List[Peer] = []

    def accept(self) -> None:
        while True:
            ready = select.select([self.woken, *self.listeners], [], [])[0]
            if self.woken in ready:
                return
            for listener in ready:
                peer = undelayed(listener.accept()[0])
                self.peers.append(peer)
                self.threads.append(threading.Thread(target=self.serve, args=(peer,), daemon=True))
                self.threads[-1].start()

    def serve(self, peer: Peer) -> None:
        try:
            while peer.socket.recv(1, socket.MSG_PEEK):
                message = request_of(peer)
                exchange = self.exchanges[message.value(b"x-mark")]
                exchange.is_request(message)
                says_all(peer, exchange.answer)
                if exchange.closes:
                    peer.finishes()
                    # Whoever closes with bytes unread resets.
                    assert not peer.socket.recv(1)
                    break
        except (OSError, Cut) as failure:
            if not self.may_be_cut:
                self.failures.append(failure)
        except BaseException as failure:
            self.failures.append(failure)
        finally:
            peer.leaves()

    def close(self) -> None:
        """All of their connections have been ended by now, or are idle."""
        self.waker.close()
        self.threads[0].join(PATIENCE)
        for peer in self.peers:
            try:
                peer.socket.shutdown(socket.SHUT_RD)
            except OSError:
                pass  # it is closed
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        self.woken.close()


def undelayed(sock: socket.socket) -> Peer:
    """What it says goes out piece by piece."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Peer(sock)


def says_all(peer: Peer, pieces: "List[bytes]", finishes: bool = False) -> None:
    """With a pause behind every third: whoever listens gets some of them apart."""
    for number, piece in enumerate(pieces):
        peer.says(piece)
        if number % 3 == 0:
            time.sleep(0.001)
    if finishes:
        peer.finishes()


def leaves_in_the_middle(client: Peer, data: bytes, cut: int) -> None:
    """Behind so many bytes of its request, or sooner."""
    client.socket.setblocking(False)
    try:
        client.socket.send(data[:cut])
    except BlockingIOError:
        pass
    client.resets()


def converse(stage: HttpStage, script: Script, receives: int) -> None:
    """One client, from its first request to its last answer."""
    client = undelayed(stage.client().socket)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
    exchanges = script.exchanges
    turns = [exchanges] if script.pipelines else [[each] for each in exchanges]
    try:
        for number, turn in enumerate(turns):
            data = b"".join(b"".join(each.request) for each in turn)
            if number == script.resets_after:
                leaves_in_the_middle(client, data, script.random.randint(1, len(data)))
                return
            finishes = script.finishes and turn is turns[-1]
            sending = Aside(says_all, client, script.cut(data, 8), finishes)
            for exchange in turn:
                exchange.is_answer(*final_answer_of(client, exchange.method))
            sending.is_done()
        if script.finishes or exchanges[-1].kind == UNTIL_CLOSE:
            client.hears_the_end()
    finally:
        client.leaves()


@pytest.fixture(scope="module", params=list(VARIANTS))
def ground(
    request: "pytest.FixtureRequest", marked_environment: str
) -> "Iterator[Tuple[Variant, HttpStage]]":
    variant = VARIANTS[request.param]
    with started(*variant.options) as proxy, setting_http(proxy) as stage:
        stage.listens()
        yield variant, stage


@pytest.mark.timeout(120)
def test_each_side_gets_what_the_other_has_said(ground: "Tuple[Variant, HttpStage]") -> None:
    variant, stage = ground
    first = random.SystemRandom().randrange(1 << 40) if os.environ.get(EXPLORE) else 0
    for number in range(first, first + max(1, int(variant.rounds * SCALE))):
        scripts = [Script(10 * number + each, variant.most) for each in range(4)]
        converse_all(scripts, stage, variant.receives)


def converse_all(scripts: "List[Script]", stage: HttpStage, receives: int) -> None:
    """All of them at once; nothing of them is left."""
    exchanges = {each.mark: each for script in scripts for each in script.exchanges}
    is_rude = any(each.is_rude for each in scripts)
    instances = Instances(stage, exchanges, is_rude, receives)
    before = stage.status()["total"]
    asides = [Aside(converse, stage, script, receives) for script in scripts]
    try:
        for aside in asides:
            aside.is_done()
    finally:
        for each in stage.status()["backends"]:
            stage.proxy.call("remove", each["name"])
        instances.close()
    assert not instances.failures, instances.failures
    for script in scripts:
        asked = [each.times_asked for each in script.exchanges]
        assert asked == [1] * len(asked) or (script.is_rude and max(asked) <= 1), asked
    eventually(lambda: not stage.watches(), "nothing is left open")
    assert not stage.under_way
    assert is_rude or stage.status()["total"] - before == len(exchanges)
