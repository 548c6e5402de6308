"""What a client gets of an instance's answers, and of ours. Requests: test_http_requests.py."""

import socket
from typing import Callable, Tuple

import pytest

from http_peers import (
    GET,
    RIMS,
    HttpStage,
    answer,
    answer_of,
    final_answer_of,
    get,
    head,
    head_of,
    line_of,
    pattern,
    post,
    push,
    request_of,
    says_in_pieces,
)
from peers import Aside, Peer, eventually

pytest_plugins = ["stages", "http_stages"]

Settings = Callable[..., HttpStage]

HEAD = head(b"HEAD / HTTP/1.1", b"Host: a")
OLD = b"GET / HTTP/1.0\r\n\r\n"
OLD_KEPT = head(b"GET / HTTP/1.0", b"Connection: keep-alive")

#: More than is ever said of it.
BULK = 1 << 40

EVIL = answer(b"evil")


def asked(stage: HttpStage, data: bytes = GET) -> "Tuple[Peer, Peer]":
    """A client that waits for its answer, and the instance that is to give it."""
    client, server = stage.asks(data)
    request_of(server)
    return client, server


def is_kept(stage: HttpStage, client: Peer, server: Peer) -> None:
    """Both go on with their connections."""
    request, answered = stage.is_answered(client, server, get(b"/next"), answer(b"next"))
    assert request.first == b"GET /next HTTP/1.1" and answered.body == b"next"


def comes_on_a_new_one(stage: HttpStage, client: Peer) -> Peer:
    """The client goes on, and its instance gets the next request on another connection."""
    client, server = stage.asks(get(b"/next"), client)
    assert request_of(server).first == b"GET /next HTTP/1.1"
    server.says(answer(b"next"))
    assert answer_of(client).body == b"next"
    return server


# Heads


def test_an_answer_goes_on_as_it_came(http: HttpStage) -> None:
    client, server = asked(http)
    lines = [b"Server: x", b"X-b: \xe4\xff", b"Set-Cookie: a=1", b"Set-Cookie: b=2", b"X-empty:"]
    told = answer(b"hello", *lines, status=b"200 Fine, thanks")
    server.says(told)
    client.hears(told)
    is_kept(http, client, server)


@pytest.mark.parametrize("body", [b"", b"hello"])
def test_a_field_of_one_hop_does_not_reach_the_client(http: HttpStage, body: bytes) -> None:
    for line in (
        b"Connection: keep-alive", b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive",
        b"Connection: close", b"TE: trailers", b"Upgrade: h2c", b"Connection: X-Mine",
    ):  # fmt: skip
        told = answer(body, b"X-Other: kept", line, b"X-Mine: 1")
        _, answered = http.exchange(GET, told)
        assert answered.body == body and answered.value(b"x-other") == b"kept"
        assert not answered.values(line.partition(b":")[0].lower())
        assert bool(answered.values(b"x-mine")) == (b"X-Mine" not in line)


def test_an_answer_without_a_reason_goes_on(http: HttpStage) -> None:
    for first in (b"HTTP/1.1 200 ", b"HTTP/1.1 200"):
        _, answered = http.exchange(GET, head(first, b"Content-Length: 2") + b"ok")
        assert answered.status == 200 and answered.body == b"ok"


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_an_answer_in_pieces_goes_on(http: HttpStage, size: int) -> None:
    client, server = asked(http)
    told = answer(pattern(100 if size < 1000 else 20000), b"X-Some: thing")
    says_in_pieces(server, *(told[at:at + size] for at in range(0, len(told), size)))
    assert answer_of(client).body == told[told.index(b"\r\n\r\n") + 4:]
    is_kept(http, client, server)


# Connections


def test_a_client_stays_when_its_instance_closes(http: HttpStage) -> None:
    client, server = asked(http)
    server.says(answer(b"bye", b"Connection: close")).leaves()
    answered = answer_of(client)
    assert answered.body == b"bye" and not answered.values(b"connection")
    comes_on_a_new_one(http, client)


def test_an_instance_that_says_close_is_closed_first(http: HttpStage) -> None:
    client, server = asked(http)
    server.says(answer(b"bye", b"Connection: close"))
    answer_of(client)
    server.hears_the_end()
    comes_on_a_new_one(http, client)


def test_an_instance_of_http_1_0_is_asked_once_on_a_connection(http: HttpStage) -> None:
    client, server = asked(http)
    server.says(head(b"HTTP/1.0 200 OK", b"Content-Length: 5") + b"hello")
    answered = answer_of(client)
    assert answered.first == b"HTTP/1.1 200 OK" and answered.body == b"hello"
    server.hears_the_end()
    comes_on_a_new_one(http, client)


def test_an_instance_of_http_1_0_may_keep_its_connection(http: HttpStage) -> None:
    client, server = asked(http)
    server.says(head(b"HTTP/1.0 200 OK", b"Connection: keep-alive", b"Content-Length: 2") + b"ok")
    assert answer_of(client).body == b"ok"
    is_kept(http, client, server)


def test_a_client_of_http_1_0_that_stays_is_told_so(http: HttpStage) -> None:
    client, server = asked(http, OLD_KEPT)
    server.says(answer(b"hello"))
    answered = answer_of(client)
    assert answered.body == b"hello" and answered.value(b"connection") == b"keep-alive"
    server = http.asks(OLD, client)[1]
    request_of(server)
    server.says(answer(b"bye"))
    answered = answer_of(client)
    assert answered.body == b"bye" and answered.value(b"connection") == b"close"
    client.hears_the_end()


# Bodies


@pytest.mark.parametrize("size", RIMS)
def test_a_body_arrives_to_the_byte(http: HttpStage, size: int) -> None:
    body = pattern(size)
    client = http.stands().client()
    for _ in range(2):
        # What follows a long answer is read in another way than what follows a short one.
        _, answered = http.exchange(GET, answer(body), client)
        assert len(answered.body) == size and (answered.body == body or not "other bytes")
    assert http.exchange(GET, answer(b"short"), client)[1].body == b"short"


def of_length(size: int, *lines: bytes) -> bytes:
    return answer(pattern(size), *lines)


#: Short, long, and as long as what is spliced from its beginning; heads that are read at once, and
#: one that is not. Each pair of neighbours is another way from one answer to the next.
MIXED = [
    of_length(100_000), of_length(100_000), of_length(5), of_length(20_000), of_length(70_000),
    of_length((64 << 10) - 1), of_length(64 << 10), of_length(100_000, b"X: " + b"x" * 3000),
    of_length(100_000), of_length(1500), of_length(100_000), answer(b"", status=b"404 Not Found"),
    of_length(64 << 10), head(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked")
    + b"186a0\r\n" + pattern(100_000) + b"\r\n0\r\n\r\n",
    of_length(100_000), of_length(5),
]  # fmt: skip


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_answers_of_all_lengths_follow_each_other(http: HttpStage, pieces: int) -> None:
    """On one connection to the instance, each whole or in pieces."""
    client, server = asked(http)
    server.says(answer(b"first"))
    assert answer_of(client).body == b"first"
    for told in [*MIXED, *reversed(MIXED)]:
        client.says(GET)
        request_of(server)
        size = -(-len(told) // pieces)
        says_in_pieces(server, *(told[at:at + size] for at in range(0, len(told), size)))
        body = told.partition(b"\r\n\r\n")[2]
        assert answer_of(client).body == body or not "other bytes"


@pytest.mark.parametrize("size", RIMS)
def test_a_body_without_a_length_ends_with_the_connection(http: HttpStage, size: int) -> None:
    body = pattern(size)
    client, server = asked(http)
    saying = Aside(server.has_its_say, head(b"HTTP/1.1 200 OK", b"X-Mine: 1") + body)
    answered = answer_of(client)
    assert answered.value(b"connection") == b"close"
    assert len(answered.body) == size and (answered.body == body or not "other bytes")
    saying.is_done()
    server.hears_the_end()


@pytest.mark.parametrize("head_of_bulk", [
    head(b"HTTP/1.1 200 OK", b"Content-Length: %d" % BULK), b"HTTP/1.1 200 OK\r\n\r\n",
    head(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked") + b"%x\r\n" % BULK])
def test_bulk_is_spliced_and_the_pipe_comes_back(http: HttpStage, head_of_bulk: bytes) -> None:
    client, server = asked(http)
    loans = http.proxy.call("loans")
    with http.proxy.frozen():
        # So that there is more than a buffer full at once, on a busy machine too.
        server.says(head_of_bulk)
        pushed = push(server)
    pushed += server.pushes_until_it_stalls()
    assert http.proxy.call("loans") > loans and pushed < BULK
    head_of(client)
    if b"chunked" in head_of_bulk:
        assert line_of(client) == b"%x\r\n" % BULK
    assert client.takes(pushed) == bytes(pushed)
    server.says(b"slowly")
    client.hears(b"slowly")
    eventually(lambda: http.figures()["pipes_lent"] == 0, "the pipe is back")


def test_a_body_without_a_length_goes_on_as_it_comes(http: HttpStage) -> None:
    client, server = asked(http)
    server.says(b"HTTP/1.1 200 OK\r\n\r\n")
    assert head_of(client).status == 200
    for number in range(3):
        server.says(b"event %d" % number)
        client.hears(b"event %d" % number)
    server.finishes()
    client.hears_the_end()


CHUNKS = (b"5\r\nhello\r\n" b"A;x=y\r\n0123456789\r\n" b"1000\r\n%s\r\n" % pattern(4096)
          + b"0\r\nX-Sum: 1\r\n\r\n")
CHUNKED_HEAD = head(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked", b"Trailer: X-Sum")


def test_a_chunked_body_goes_on_byte_for_byte(http: HttpStage) -> None:
    client, server = asked(http)
    server.says(CHUNKED_HEAD + CHUNKS)
    answered = answer_of(client)
    assert answered.body == CHUNKS and answered.value(b"trailer") == b"X-Sum"
    is_kept(http, client, server)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_chunked_body_in_pieces_goes_on_byte_for_byte(http: HttpStage, size: int) -> None:
    body = CHUNKS if size > 1 else b"5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n"
    data = CHUNKED_HEAD + body
    client, server = asked(http)
    says_in_pieces(server, *(data[at:at + size] for at in range(0, len(data), size)))
    assert answer_of(client).body == body
    is_kept(http, client, server)


def test_chunks_of_megabytes_go_on_byte_for_byte(http: HttpStage) -> None:
    large = pattern(3 << 20)
    body = b"%x\r\n%s\r\n" % (len(large), large) + b"3\r\nend\r\n" + b"0\r\n\r\n"
    client = http.stands().client()
    _, answered = http.exchange(GET, CHUNKED_HEAD + body, client)
    assert answered.body == body or not "other bytes"
    assert http.exchange(GET, answer(b"short"), client)[1].body == b"short"


@pytest.mark.parametrize("line", [
    b"Content-Length: 1000", b"Transfer-Encoding: chunked", b"X-Nothing: said"])
def test_an_answer_to_head_has_no_body(http: HttpStage, line: bytes) -> None:
    client, server = asked(http, HEAD)
    server.says(head(b"HTTP/1.1 200 OK", line))
    answered = answer_of(client, b"HEAD")
    name, _, value = line.partition(b": ")
    assert answered.value(name.lower()) == value
    is_kept(http, client, server)


def test_an_answer_that_can_have_no_body_ends_with_its_head(http: HttpStage) -> None:
    client, server = asked(http)
    for first, line in (
        (b"HTTP/1.1 204 No Content", b"X-No: length"),
        (b"HTTP/1.1 204 No Content", b"Content-Length: 0"),
        (b"HTTP/1.1 304 Not Modified", b"X-No: length"),
        (b"HTTP/1.1 304 Not Modified", b"Content-Length: 1000"),
    ):
        server.says(head(first, line, b"X-Mine: 1"))
        answered = answer_of(client)
        assert answered.first == first and answered.value(b"x-mine") == b"1"
        client.says(GET)
        request_of(server)
    server.says(answer(b"hello"))
    assert answer_of(client).body == b"hello"


# 1xx


def test_answers_before_the_answer_go_on(http: HttpStage) -> None:
    client, server = asked(http)
    server.says(head(b"HTTP/1.1 103 Early Hints", b"Link: </a>"))
    assert answer_of(client).value(b"link") == b"</a>"
    server.says(head(b"HTTP/1.1 102 Processing") * 2 + answer(b"hello"))
    statuses, answered = final_answer_of(client)
    assert statuses == [102, 102] and answered.body == b"hello"
    is_kept(http, client, server)
    assert http.answers == [3, 2, 0, 0, 0]


def test_a_client_of_http_1_0_gets_none_of_them(http: HttpStage) -> None:
    client, server = asked(http, OLD)
    server.says(head(b"HTTP/1.1 103 Early Hints", b"Link: </a>"))
    http.status()
    server.says(head(b"HTTP/1.1 100 Continue") + answer(b"hello"))
    statuses, answered = final_answer_of(client)
    assert statuses == [] and answered.body == b"hello"
    client.hears_the_end()


# Early answers


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("size", [0, 100, 1 << 20])
def test_an_early_answer_to_an_upload_arrives_whole(
    http: HttpStage, leaves: bool, size: int
) -> None:
    client, server = http.asks(
        head(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 1000000000") + bytes(1000))
    head_of(server)
    sending = Aside(pushes_a_lot, client)
    server.takes(1000)
    told = answer(pattern(size), b"Connection: close", status=b"413 Too Large")
    saying = Aside(says_and_leaves if leaves else server.says, *((server, told) if leaves
                                                                 else (told,)))
    refused = answer_of(client)
    assert refused.status == 413 and refused.value(b"connection") == b"close"
    assert refused.body == pattern(size)
    client.hears_the_end()
    saying.is_done()
    client.finishes()
    sending.is_done()


def says_and_leaves(server: Peer, told: bytes) -> None:
    """As who will not take the rest: the end first, and what comes is dropped until all is said."""
    server.has_its_say(told)
    try:
        while server.socket.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    server.leaves()


def pushes_a_lot(client: Peer) -> None:
    try:
        for _ in range(30):
            client.says(bytes(100000))
    except (OSError, socket.timeout):
        pass


def test_an_early_answer_with_a_reset_arrives(http: HttpStage) -> None:
    """Who closes with an upload unread resets it."""
    client, server = http.asks(
        head(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 1000000000"))
    client.pushes_until_it_stalls()
    server.says(answer(b"no", b"Connection: close", status=b"413 Too Large")).leaves()
    refused = answer_of(client)
    assert refused.status == 413 and refused.body == b"no"


def test_an_answer_before_the_end_of_an_upload_does_not_end_it(http: HttpStage) -> None:
    """An answer of success says nothing against the rest of the request."""
    client, server = http.asks(post(b"one, two")[:-3])
    head_of(server)
    server.hears(b"one, ").says(answer(b"hello"))
    assert answer_of(client).body == b"hello"


# What an instance says behind its answer


def goes_to_nobody(stage: HttpStage, client: Peer, server: Peer) -> None:
    """That connection is ended, and the next client gets its own answer on a new one."""
    server.is_sent_away()
    other = comes_on_a_new_one(stage, stage.client())
    # Nor does the same client ever get it.
    is_kept(stage, client, other)


@pytest.mark.parametrize("told", [
    answer(b"hello"), head(b"HTTP/1.1 204 No Content"), CHUNKED_HEAD + b"5\r\nhello\r\n0\r\n\r\n",
    answer(pattern(16384)), answer(pattern(100000)), answer(pattern(1000000)),
])  # fmt: skip
def test_what_comes_behind_an_answer_reaches_nobody(http: HttpStage, told: bytes) -> None:
    client, server = asked(http)
    saying = Aside(server.says, told + EVIL)
    answered = answer_of(client)
    assert b"evil" not in answered.body
    saying.is_done()
    goes_to_nobody(http, client, server)


@pytest.mark.parametrize("said", [EVIL, b"x", b"\r\n", b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
def test_an_answer_that_nobody_asked_for_ends_its_connection(
    http: HttpStage, said: bytes
) -> None:
    client, server = asked(http)
    server.says(answer(b"hello"))
    assert answer_of(client).body == b"hello"
    server.says(said)
    server.is_sent_away()
    comes_on_a_new_one(http, client)


def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_ones(http: HttpStage) -> None:
    """The balancer sees both at once, and the request first."""
    client, server = asked(http)
    server.says(answer(b"hello"))
    assert answer_of(client).body == b"hello"
    with http.proxy.frozen():
        client.says(get(b"/next"))
        server.says(EVIL)
    server = http.only.accepts()
    assert request_of(server).first == b"GET /next HTTP/1.1"
    server.says(answer(b"next"))
    assert answer_of(client).body == b"next"


def test_a_body_to_head_reaches_nobody(http: HttpStage) -> None:
    client, server = asked(http, HEAD)
    server.says(answer(b"a body where there is none"))
    assert answer_of(client, b"HEAD").value(b"content-length") == b"26"
    goes_to_nobody(http, client, server)


# Answers that break the rules


BROKEN = [
    b"hello\r\n\r\n", b"HTTP/2.0 200 OK\r\n\r\n", b"HTTP/1.1 99 Low\r\n\r\n",
    b"HTTP/1.1 600 High\r\n\r\n", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    head(b"HTTP/1.1 200 OK", b"Content-Length: 1", b"Content-Length: 2") + b"ab",
    head(b"HTTP/1.1 200 OK", b"Content-Length: -1"),
    head(b"HTTP/1.1 200 OK", b"Content-Length: 1", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    head(b"HTTP/1.1 200 OK", b"Transfer-Encoding: gzip, chunked"),
    head(b"HTTP/1.0 200 OK", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    head(b"HTTP/1.1 200 OK", b"X : 1", b"Content-Length: 0"),
    head(b"HTTP/1.1 200 OK", b"X: a\rb", b"Content-Length: 0"),
    head(b"HTTP/1.1 200 OK", b"X: a", b" folded", b"Content-Length: 0"),
    head(b"HTTP/1.1 200 OK", b"X: \x00", b"Content-Length: 0"),
    head(b"HTTP/1.1 200 OK", b"X: " + b"x" * (33 << 10), b"Content-Length: 0"),
    head(b"HTTP/1.1 200 OK", *[b"X: 1"] * 101),
    head(b"HTTP/1.1 204 No Content", b"Content-Length: 5") + b"hello",
    head(b"HTTP/1.1 100 Continue", b"Content-Length: 5") + b"hello",
    head(b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: x"),
]  # fmt: skip


def test_an_answer_that_breaks_the_rules_becomes_502(http: HttpStage) -> None:
    client = http.stands().client()
    for told in BROKEN:
        client.says(GET)
        server = http.receives()
        request_of(server)
        server.says(told)
        bad = answer_of(client)
        assert bad.status == 502 and bad.body.startswith(b"502 Bad Gateway\n"), told[:200]
        assert bad.value(b"content-type").startswith(b"text/plain")
        # It is the instance's fault: the client may stay.
        assert not bad.values(b"connection")
        server.is_sent_away()
    assert http.own_answers == [0, 0, 0, 0, len(BROKEN)]
    assert any("broke the rules" in line for line in http.log())


@pytest.mark.parametrize("bad", [b"x\r\n", b"5\r\nhello!\r\n", b"0\r\nContent-Length: 1\r\n\r\n"])
def test_a_chunk_that_breaks_the_rules_resets_the_client(http: HttpStage, bad: bytes) -> None:
    client, server = asked(http)
    server.says(CHUNKED_HEAD + b"3\r\nabc\r\n")
    head_of(client)
    client.hears(b"3\r\nabc\r\n")
    server.says(bad)
    is_never_ended_cleanly(client, bad)
    server.is_sent_away()


def test_a_chunked_answer_to_http_1_0_becomes_502(http: HttpStage) -> None:
    client, server = asked(http, OLD)
    server.says(CHUNKED_HEAD + CHUNKS)
    bad = answer_of(client)
    assert bad.status == 502 and bad.value(b"connection") == b"close"
    client.hears_the_end()


# Answers that are cut


def is_never_ended_cleanly(client: Peer, most: bytes = b"") -> None:
    """The rest of what came, if anything, and then a reset."""
    with pytest.raises(ConnectionResetError):
        heard = b""
        while True:
            piece = client.socket.recv(1 << 16)
            heard += piece
            assert piece, "a clean end"
            assert most.startswith(heard)


CUT = [
    answer(pattern(1000))[:-1], answer(pattern(100000))[:-1], CHUNKED_HEAD + CHUNKS[:-2],
    CHUNKED_HEAD + b"5\r\nhel", CHUNKED_HEAD + b"5\r\nhello\r\n",
]  # fmt: skip


@pytest.mark.parametrize("data", [GET, OLD, OLD_KEPT, get(b"/", b"Connection: close")])
@pytest.mark.parametrize("how", ["leaves", "resets"])
def test_an_answer_that_is_cut_ends_with_a_reset(http: HttpStage, data: bytes, how: str) -> None:
    # HTTP/1.0 has no chunks.
    for told in CUT[:2] if b"HTTP/1.0" in data else CUT:
        client, server = asked(http, data)
        saying = Aside(server.says, told)
        head_of(client)
        client.hears(told[told.index(b"\r\n\r\n") + 4:])
        saying.is_done()
        getattr(server, how)()
        is_never_ended_cleanly(client)


def test_an_answer_without_a_length_that_is_reset_ends_with_a_reset(http: HttpStage) -> None:
    client, server = asked(http)
    server.says(b"HTTP/1.1 200 OK\r\n\r\nhello")
    head_of(client)
    client.hears(b"hello")
    server.resets()
    is_never_ended_cleanly(client)


@pytest.mark.parametrize("told", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"H"])
@pytest.mark.parametrize("how", ["leaves", "resets"])
def test_an_instance_that_ends_within_its_head_is_a_502(
    http: HttpStage, told: bytes, how: str
) -> None:
    client, server = asked(http, post(b"order"))
    if told:
        server.says(told)
        http.status()
    getattr(server, how)()
    bad = answer_of(client)
    assert bad.status == 502 and not bad.values(b"connection")
    comes_on_a_new_one(http, client)


def test_an_instance_that_ends_behind_1xx_is_a_502(http: HttpStage) -> None:
    client, server = asked(http, post(b"order"))
    server.says(head(b"HTTP/1.1 103 Early Hints"))
    assert answer_of(client).status == 103
    server.leaves()
    assert answer_of(client).status == 502
    comes_on_a_new_one(http, client)


# Answers of ours


def test_an_answer_that_does_not_begin_in_time_is_a_504(http_with: Settings) -> None:
    http = http_with(response_timeout=1000.0)
    client, server = asked(http)
    http.proxy.call("put_forward", 1001.0)
    late = answer_of(client)
    assert late.status == 504 and late.body.startswith(b"504 Gateway Timeout\n")
    assert not late.values(b"connection")
    server.is_sent_away()
    eventually(http.is_at_rest, "no request is counted")
    comes_on_a_new_one(http, client)


def test_an_answer_that_only_announces_itself_is_late_all_the_same(http_with: Settings) -> None:
    http = http_with(response_timeout=1000.0)
    client, server = asked(http)
    server.says(head(b"HTTP/1.1 103 Early Hints"))
    assert answer_of(client).status == 103
    http.proxy.call("put_forward", 1001.0)
    assert answer_of(client).status == 504
    server.is_sent_away()


def test_an_upload_has_time_before_its_answer(http_with: Settings) -> None:
    http = http_with(response_timeout=1000.0)
    client, server = http.asks(post(b"one, two")[:-3])
    head_of(server)
    server.hears(b"one, ")
    http.proxy.call("put_forward", 1001.0)
    client.hears_nothing().says(b"two")
    server.hears(b"two").says(answer(b"hello"))
    assert answer_of(client).body == b"hello"


def test_an_answer_that_has_begun_has_time(http_with: Settings) -> None:
    http = http_with(response_timeout=1000.0)
    client, server = asked(http)
    server.says(answer(b"hello")[:-3])
    head_of(client)
    http.proxy.call("put_forward", 1001.0)
    client.hears(b"he").hears_nothing()
    server.says(b"llo")
    client.hears(b"llo")


def test_who_waits_too_long_gets_503_and_may_stay(http_with: Settings) -> None:
    http = http_with(queue_timeout=0.2)
    http.listens()
    client = http.client().says(GET)
    for data in (GET, HEAD, GET):
        busy = answer_of(client, data.partition(b" ")[0])
        assert busy.status == 503 and int(busy.value(b"retry-after")) > 0
        assert not busy.values(b"connection") and bool(busy.body) == (data == GET)
        client.says(HEAD if data == GET else GET)
    client.leaves()


def test_who_finds_the_queue_full_gets_503(http_with: Settings) -> None:
    http = http_with(queue_limit=1)
    http.listens()
    first = http.client().says(GET)
    eventually(lambda: http.status()["queue"] == 1, "it waits")
    second = http.client().says(get(b"/", b"Connection: close"))
    busy = answer_of(second)
    assert busy.status == 503 and busy.value(b"connection") == b"close"
    assert busy.value(b"retry-after")
    second.hears_the_end()
    server = http.instance().comes_up().accepts()
    request_of(server)
    server.says(answer(b"hello"))
    assert answer_of(first).body == b"hello"
    assert http.status()["turned_away"] == 1


def test_a_client_with_a_body_under_way_is_told_the_end_with_503(http_with: Settings) -> None:
    http = http_with(queue_timeout=0.2)
    http.listens()
    client = http.client().says(post(b"body")[:-2])
    busy = answer_of(client)
    assert busy.status == 503 and busy.value(b"connection") == b"close"
    client.hears_the_end()


def test_an_answer_of_ours_to_http_1_0_fits(http_with: Settings) -> None:
    http = http_with(queue_timeout=0.1)
    http.listens()
    client = http.client().says(OLD_KEPT)
    assert answer_of(client).value(b"connection") == b"keep-alive"
    client.says(OLD)
    assert answer_of(client).value(b"connection") == b"close"
    client.hears_the_end()


# Slow readers


@pytest.mark.parametrize("lines", [
    (), (b"Content-Length: 100000000000",), (b"Transfer-Encoding: chunked",)])
def test_a_slow_reader_stops_the_reading_from_its_instance(
    http: HttpStage, lines: "Tuple[bytes, ...]"
) -> None:
    client, server = asked(http)
    server.says(head(b"HTTP/1.1 200 OK", *lines))
    head_of(client)
    if b"chunked" in b"".join(lines):
        server.says(b"fffffffff\r\n")
        client.hears(b"fffffffff\r\n")
    before = http.proxy.call("memory")
    pushed = server.pushes_until_it_stalls()
    assert http.proxy.call("memory") - before < 1 << 20
    assert client.takes(pushed) == bytes(pushed)
    server.says(b"more")
    client.hears(b"more")


def test_the_memory_for_many_slow_readers_is_bounded(http: HttpStage) -> None:
    pairs = [asked(http) for _ in range(12)]
    before = http.proxy.call("memory")
    for _, server in pairs:
        server.says(head(b"HTTP/1.1 200 OK", b"Content-Length: 100000000000"))
    pushed = 0
    while True:
        some = sum(push(server) for _, server in pairs)
        pushed += some
        if not some and not any(server.can_send() for _, server in pairs[::6]):
            break
    grown = http.proxy.call("memory") - before
    print("pushed %d bytes, grown by %d" % (pushed, grown))
    assert pushed > len(pairs) * 600 * 1024 and grown < len(pairs) * 300 * 1024
    client, server = pairs[0]
    client.resets()
    server.is_sent_away()


def test_a_client_that_asks_and_never_reads_is_not_served_without_end(http: HttpStage) -> None:
    """Pipelined requests for long answers: no next one is begun before the last is taken."""
    client = http.says(get(b"/1") + get(b"/2") * 100)
    server = http.receives()
    request_of(server)
    saying = Aside(server.says, answer(pattern(10 << 20)))
    http.status()
    assert http.only.status()["total"] == 1
    assert answer_of(client).body == pattern(10 << 20) or not "other bytes"
    saying.is_done()
    for _ in range(100):
        server = http.receives()
        assert request_of(server).first == b"GET /2 HTTP/1.1"
        server.says(answer())
        answer_of(client)
    assert http.only.status()["total"] == 101
