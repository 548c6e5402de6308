"""Other protocols than HTTP: from the answer on that agrees to one, bytes are relayed."""

from typing import Tuple

import pytest

from http_peers import (
    GET,
    HttpStage,
    answer,
    answer_of,
    get,
    head,
    head_of,
    pattern,
    request_of,
)
from peers import Aside, Peer, eventually

pytest_plugins = ["stages", "http_stages"]

UPGRADE = get(b"/socket", b"Connection: keep-alive, Upgrade", b"Upgrade: websocket",
              b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
SWITCH = head(b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade",
              b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
CONNECT = head(b"CONNECT example.org:443 HTTP/1.1", b"Host: example.org:443")

#: More than a buffer and all sockets hold.
MUCH = pattern(4 << 20)


def switched(stage: HttpStage) -> "Tuple[Peer, Peer]":
    """A client and an instance that speak WebSocket."""
    client, server = stage.asks(UPGRADE)
    request_of(server)
    server.says(SWITCH)
    assert head_of(client).status == 101
    return client, server


def tunnelled(stage: HttpStage) -> "Tuple[Peer, Peer]":
    client, server = stage.asks(CONNECT)
    assert head_of(server).first == b"CONNECT example.org:443 HTTP/1.1"
    server.says(head(b"HTTP/1.1 200 Connection established"))
    assert head_of(client).status == 200
    return client, server


@pytest.fixture(params=[switched, tunnelled])
def pair(request: "pytest.FixtureRequest", http: HttpStage) -> "Tuple[Peer, Peer]":
    return request.param(http)  # type: ignore[no-any-return]


Pair = Tuple[Peer, Peer]


# The heads


def test_what_asks_for_a_websocket_and_what_agrees_go_on(http: HttpStage) -> None:
    client, server = http.asks(UPGRADE)
    request = request_of(server)
    assert request.value(b"upgrade") == b"websocket"
    assert request.value(b"connection").lower() == b"upgrade"
    assert request.value(b"sec-websocket-key") == b"dGhlIHNhbXBsZSBub25jZQ=="
    assert request.value(b"x-forwarded-for") == b"127.0.0.1"
    server.says(SWITCH)
    answered = head_of(client)
    assert answered.first == b"HTTP/1.1 101 Switching Protocols"
    assert answered.value(b"upgrade") == b"websocket"
    assert answered.value(b"connection").lower() == b"upgrade"
    assert answered.value(b"sec-websocket-accept") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("wanted", [b"h2c", b"H2C", b"h2", b"websocket, h2c"])
def test_http_2_is_not_asked_for_on_behalf_of_a_client(http: HttpStage, wanted: bytes) -> None:
    client, server = http.asks(get(
        b"/", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + wanted, b"HTTP2-Settings: AA"))
    request = request_of(server)
    for name in (b"upgrade", b"connection", b"http2-settings"):
        assert not request.values(name)
    server.says(answer(b"hello"))
    assert answer_of(client).body == b"hello"
    assert http.is_answered(client, server)[1].body == b"hello"


def test_upgrade_without_connection_is_not_asked_for(http: HttpStage) -> None:
    client, server = http.asks(get(b"/", b"Upgrade: websocket"))
    assert not request_of(server).values(b"upgrade")
    server.says(SWITCH)
    assert answer_of(client).status == 502
    server.is_sent_away()


@pytest.mark.parametrize("data", [GET, head(b"GET / HTTP/1.0", b"Connection: Upgrade",
                                            b"Upgrade: websocket"), CONNECT])
def test_101_without_being_asked_is_a_502(http: HttpStage, data: bytes) -> None:
    client, server = http.asks(data)
    request_of(server)
    server.says(SWITCH + b"evil")
    bad = answer_of(client)
    assert bad.status == 502 and b"evil" not in bad.body
    server.is_sent_away()


@pytest.mark.parametrize("status", [b"200 OK", b"426 Upgrade Required", b"401 Unauthorized"])
def test_a_websocket_that_is_refused_is_an_answer_like_others(
    http: HttpStage, status: bytes
) -> None:
    client, server = http.asks(UPGRADE)
    request_of(server)
    server.says(answer(b"no", status=status))
    assert answer_of(client).body == b"no"
    assert http.is_answered(client, server)[1].body == b"hello"


@pytest.mark.parametrize("status", [b"405 Method Not Allowed", b"502 Bad Gateway"])
def test_a_connect_that_is_refused_is_an_answer_like_others(
    http: HttpStage, status: bytes
) -> None:
    client, server = http.asks(CONNECT)
    request_of(server)
    server.says(answer(b"no", status=status))
    assert answer_of(client).body == b"no"
    assert http.is_answered(client, server)[1].body == b"hello"


@pytest.mark.parametrize("line", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
def test_an_answer_to_connect_has_no_length(http: HttpStage, line: bytes) -> None:
    client, server = http.asks(CONNECT)
    request_of(server)
    server.says(head(b"HTTP/1.1 200 OK", line) + b"0\r\n\r\nand more")
    answered = head_of(client)
    assert not answered.values(line.partition(b":")[0].lower())
    client.hears(b"0\r\n\r\nand more")


def test_a_100_before_the_101_goes_on(http: HttpStage) -> None:
    client, server = http.asks(UPGRADE)
    request_of(server)
    server.says(head(b"HTTP/1.1 103 Early Hints") + SWITCH + b"hello")
    assert [head_of(client).status, head_of(client).status] == [103, 101]
    client.hears(b"hello")


# What follows


def test_both_sides_speak_and_are_heard(pair: Pair) -> None:
    client, server = pair
    for number in range(3):
        client.says(b"question %d" % number)
        server.hears(b"question %d" % number).says(b"\x00answer\r\n%d" % number)
        client.hears(b"\x00answer\r\n%d" % number)
    server.says(b"unasked")
    client.hears(b"unasked")


def test_what_is_said_right_behind_the_switch_arrives(http: HttpStage) -> None:
    client, server = http.asks(UPGRADE)
    request_of(server)
    server.says(SWITCH + b"hello" + MUCH[:20000])
    assert head_of(client).status == 101
    client.hears(b"hello" + MUCH[:20000]).says(b"answer")
    server.hears(b"answer")


@pytest.mark.parametrize("data", [UPGRADE, CONNECT])
@pytest.mark.parametrize("size", [5, 20000, 100000])
def test_what_is_said_right_behind_the_request_arrives(
    http: HttpStage, data: bytes, size: int
) -> None:
    """A client that is sure of the answer."""
    client = http.stands().client()
    saying = Aside(client.says, data + MUCH[:size])
    server = http.only.accepts()
    request_of(server)
    server.says(SWITCH if data == UPGRADE else head(b"HTTP/1.1 200 OK"))
    server.hears(MUCH[:size]).says(b"answer")
    assert head_of(client).status in (101, 200)
    client.hears(b"answer")
    saying.is_done()


def test_what_is_said_before_the_answer_is_a_request_where_it_is_refused(http: HttpStage) -> None:
    client, server = http.asks(UPGRADE + get(b"/next"))
    request_of(server)
    server.says(answer(b"no", status=b"426 Upgrade Required"))
    assert answer_of(client).body == b"no"
    assert request_of(server).first == b"GET /next HTTP/1.1"
    server.says(answer(b"next"))
    assert answer_of(client).body == b"next"


def test_bytes_right_behind_both_heads_at_once_arrive(http: HttpStage) -> None:
    client, server = http.asks(UPGRADE)
    request_of(server)
    http.status()
    with http.proxy.frozen():
        client.says(b"from the client")
        server.says(SWITCH + b"from the instance")
    server.hears(b"from the client")
    assert head_of(client).status == 101
    client.hears(b"from the instance")


def test_much_both_ways_arrives_whole(pair: Pair) -> None:
    client, server = pair
    asides = [
        Aside(client.has_its_say, MUCH),
        Aside(server.has_its_say, MUCH[::-1]),
        Aside(lambda: client.hears(MUCH[::-1]).hears_the_end()),
    ]
    server.hears(MUCH).hears_the_end()
    for aside in asides:
        aside.is_done()


def test_a_half_close_is_passed_on(pair: Pair) -> None:
    client, server = pair
    client.finishes()
    server.hears_the_end().says(b"a late answer").finishes()
    client.hears(b"a late answer").hears_the_end()


def test_a_reset_is_passed_on(pair: Pair) -> None:
    client, server = pair
    server.resets()
    client.hears_a_reset()


def test_a_client_that_leaves_is_told_of(pair: Pair) -> None:
    client, server = pair
    client.resets()
    server.hears_a_reset()


def test_a_switch_and_the_end_at_once_arrive(http: HttpStage) -> None:
    client, server = http.asks(UPGRADE)
    request_of(server)
    with http.proxy.frozen():
        server.says(SWITCH + b"bye").finishes()
    assert head_of(client).status == 101
    client.hears(b"bye").hears_the_end()
    client.says(b"still here")
    server.hears(b"still here")


def test_a_client_that_has_finished_before_the_switch_is_told_of(http: HttpStage) -> None:
    client, server = http.asks(UPGRADE)
    request_of(server)
    client.finishes()
    http.status()
    server.says(SWITCH + b"hello")
    assert head_of(client).status == 101
    client.hears(b"hello")
    server.hears_the_end().finishes()
    client.hears_the_end()


def test_a_slow_reader_stops_the_reading_from_its_peer(pair: Pair, http: HttpStage) -> None:
    client, server = pair
    before = http.proxy.call("memory")
    pushed = server.pushes_until_it_stalls()
    assert http.proxy.call("memory") - before < 1 << 20
    assert client.takes(pushed) == bytes(pushed)


def test_it_counts_as_a_connection_until_it_ends(pair: Pair, http: HttpStage) -> None:
    client, server = pair
    assert http.under_way == 1
    draining = http.begins_to_drain()
    client.says(b"still here")
    server.hears(b"still here")
    assert not http.proxy.has_answered(draining)
    server.finishes()
    client.hears_the_end().finishes()
    server.hears_the_end()
    http.proxy.answer(draining)
    eventually(http.is_at_rest, "nothing is counted")


def test_its_bytes_are_counted(pair: Pair, http: HttpStage) -> None:
    client, server = pair
    before = http.status()
    client.says(b"12345")
    server.hears(b"12345").says(b"123")
    client.hears(b"123").finishes()
    server.hears_the_end().finishes()
    client.hears_the_end()
    eventually(lambda: http.status()["bytes_out"] >= before["bytes_out"] + 3, "they are counted")
    eventually(lambda: http.status()["bytes_in"] >= before["bytes_in"] + 5, "they are counted")
