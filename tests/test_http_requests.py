"""What an instance gets of a client's requests, and on which connection. Answers:
test_http_answers.py."""

import socket
from typing import Callable, List, Tuple

import pytest

from http_peers import (
    GET,
    RIMS,
    HttpStage,
    Message,
    answer,
    answer_of,
    final_answer_of,
    get,
    head,
    head_of,
    is_readable,
    pattern,
    post,
    push,
    request_of,
    says_in_pieces,
)
from peers import Aside, Instance, Peer, eventually

pytest_plugins = ["stages", "http_stages"]

Settings = Callable[..., HttpStage]

#: A request that needs no second look, and one whose head is read field by field.
WAYS = {"plain": b"", "with a body": b"Content-Length: 2"}


@pytest.fixture(params=list(WAYS))
def lines(request: "pytest.FixtureRequest") -> "Tuple[bytes, ...]":
    """What a request has besides, so that it goes one way or the other."""
    line = WAYS[request.param]
    return (line,) if line else ()


def arrives(stage: HttpStage, *lines: bytes, first: bytes = b"GET /x?y=1 HTTP/1.1") -> Message:
    """What the instance gets of a request with these lines."""
    body = b"hi" if any(line.startswith(b"Content-Length") for line in lines) else b""
    request, answered = stage.exchange(head(first, *lines) + body)
    assert request.body == body and answered.body == b"hello"
    return request


# Forwarded fields


def test_the_instance_is_told_of_the_client(http: HttpStage, lines: "Tuple[bytes, ...]") -> None:
    request = arrives(http, b"Host: example.org:8080", *lines)
    assert request.first == b"GET /x?y=1 HTTP/1.1"
    assert request.value(b"host") == b"example.org:8080"
    assert request.value(b"x-forwarded-for") == b"127.0.0.1"
    assert request.value(b"x-forwarded-proto") == b"http"
    assert request.value(b"x-forwarded-host") == b"example.org:8080"
    assert request.value(b"x-forwarded-port") == b"8080"


def test_what_a_client_says_of_itself_is_dropped(
    http: HttpStage, lines: "Tuple[bytes, ...]"
) -> None:
    for name in (
        b"X-Forwarded-For", b"x-forwarded-for", b"X_Forwarded_For", b"X-Forwarded_For",
        b"X.Forwarded.For", b"X-Forwarded-Host", b"X-Forwarded-Proto", b"x_forwarded_port",
        b"X-Forwarded-Server", b"Forwarded", b"FORWARDED", b"X-Real-IP", b"x_real_ip",
        b"X-Real_IP", b"Client-Cert", b"client-cert-chain", b"CLIENT_CERT",
    ):  # fmt: skip
        request = arrives(http, b"Host: a", name + b": evil", b"X-Other: kept", *lines)
        assert not [value for _, value in request.fields if b"evil" in value], name
        assert request.value(b"x-other") == b"kept"
        assert request.value(b"x-forwarded-for") == b"127.0.0.1"
        assert request.value(b"x-forwarded-host") == b"a"


def test_connection_cannot_take_away_what_the_instance_is_told(http: HttpStage) -> None:
    request = arrives(
        http, b"Host: a", b"Cookie: c=1", b"Authorization: x", b"Content-Length: 2",
        b"Connection: X-Forwarded-For, Host, Content-Length, Cookie, Authorization, close")
    for name in (b"host", b"cookie", b"authorization", b"content-length", b"x-forwarded-for"):
        assert request.value(name)


def test_an_ipv4_client_of_an_ipv6_port_has_an_ipv4_address(http: HttpStage) -> None:
    http.listens("::")
    http.only = http.instance().comes_up()
    client, server = http.asks(client=http.client("127.0.0.1"))
    assert head_of(server).value(b"x-forwarded-for") == b"127.0.0.1"
    server.says(answer())
    answer_of(client)


def test_an_ipv6_client_has_its_address(http: HttpStage) -> None:
    http.listens("::1")
    http.only = http.instance().comes_up()
    client, server = http.asks()
    assert head_of(server).value(b"x-forwarded-for") == b"::1"
    server.says(answer())
    answer_of(client)


def test_each_client_is_told_of_as_itself_on_the_same_connection(http: HttpStage) -> None:
    http.stands()
    first, server = http.asks()
    head_of(server)
    server.says(answer())
    answer_of(first)
    for host in (b"b", b"c", b"b"):
        client = http.client(source=("127.0.0.2", 0))
        request, _ = http.is_answered(client, server, head(b"GET / HTTP/1.1", b"Host: " + host))
        assert request.value(b"x-forwarded-for") == b"127.0.0.2"
        assert request.value(b"x-forwarded-host") == request.value(b"host") == host


def test_the_host_of_each_request_is_its_own_on_one_clients_connection(http: HttpStage) -> None:
    client, server = http.asks()
    head_of(server)
    server.says(answer())
    answer_of(client)
    for host in (b"b", b"a", b"c", b"a"):
        request, _ = http.is_answered(client, server, head(b"GET / HTTP/1.1", b"Host: " + host))
        assert request.value(b"x-forwarded-host") == request.value(b"host") == host


# Targets and versions


def test_a_target_goes_on_in_origin_form(http: HttpStage) -> None:
    for target, expected in (
        (b"http://a/x?y", b"/x?y"), (b"HTTP://A", b"/"), (b"https://a/", b"/"),
        (b"/a//b/../c", b"/a//b/../c"), (b"/%00%0a", b"/%00%0a"), (b"/?", b"/?"),
    ):  # fmt: skip
        request = arrives(http, b"Host: a", first=b"GET %s HTTP/1.1" % target)
        assert request.first == b"GET %s HTTP/1.1" % expected
        assert request.value(b"host") == b"a"


def test_options_of_the_server_itself_goes_on(http: HttpStage) -> None:
    request = arrives(http, b"Host: a", first=b"OPTIONS * HTTP/1.1")
    assert request.first == b"OPTIONS * HTTP/1.1"


def test_http_1_0_goes_on_as_http_1_0(http: HttpStage) -> None:
    request = arrives(http, b"X-Mine: 1", first=b"GET / HTTP/1.0")
    assert request.first == b"GET / HTTP/1.0"
    assert request.value(b"x-forwarded-for") == b"127.0.0.1"
    assert not request.values(b"host") and not request.values(b"x-forwarded-host")


def test_any_method_goes_on(http: HttpStage) -> None:
    for method in (b"DELETE", b"PATCH", b"PROPFIND", b"M-SEARCH", b"TRACE"):
        assert arrives(http, b"Host: a", first=method + b" / HTTP/1.1").first.startswith(method)


# Fields of one hop


def test_a_field_of_one_hop_does_not_reach_the_instance(
    http: HttpStage, lines: "Tuple[bytes, ...]"
) -> None:
    for line in (
        b"Connection: keep-alive", b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive",
        b"TE: trailers", b"HTTP2-Settings: x", b"Upgrade: websocket", b"Keep_Alive: 5",
    ):  # fmt: skip
        request = arrives(http, b"Host: a", line, b"X-Other: kept", *lines)
        name = line.partition(b":")[0].lower()
        assert not request.values(name) and not request.values(b"connection"), line
        assert request.value(b"x-other") == b"kept"


def test_what_connection_names_does_not_reach_the_instance(http: HttpStage) -> None:
    request = arrives(
        http, b"Host: a", b"X-Mine: 1", b"Connection: x-mine, X-Yours", b"x-yours: 2", b"X-All: 3")
    assert not request.values(b"x-mine") and not request.values(b"x-yours")
    assert request.value(b"x-all") == b"3"


def test_fields_go_on_in_their_order_and_as_they_are_spelled(http: HttpStage) -> None:
    lines = [b"Accept: */*", b"hOST: a", b"X-b: \xe4\xff", b"X-B: 2", b"X-b: a , b", b"X-empty:"]
    request = arrives(http, *lines)
    expected = [(name.lower(), value.strip()) for name, _, value in
                (line.partition(b":") for line in lines)]
    assert list(request.fields[:len(lines)]) == expected


# Who stays


@pytest.mark.parametrize("version, line, stays", [
    (b"1.1", b"", True), (b"1.1", b"Connection: keep-alive", True),
    (b"1.1", b"Connection: close", False), (b"1.1", b"Connection: x, Close", False),
    (b"1.0", b"", False), (b"1.0", b"Connection: keep-alive", True),
    (b"1.0", b"Connection: Keep-Alive", True), (b"1.0", b"Connection: close", False),
])  # fmt: skip
def test_a_client_stays_or_not_as_it_wants(
    http: HttpStage, lines: "Tuple[bytes, ...]", version: bytes, line: bytes, stays: bool
) -> None:
    first = (b"POST" if lines else b"GET") + b" / HTTP/" + version
    data = head(first, b"Host: a", *lines, *([line] if line else [])) + b"hi" * bool(lines)
    client, server = http.asks(data)
    request_of(server)
    server.says(answer(b"hello"))
    answered = answer_of(client)
    says = answered.value(b"connection").lower()
    if not stays:
        assert says == b"close"
        client.hears_the_end()
        return
    assert says in ((b"keep-alive",) if version == b"1.0" else (b"", b"keep-alive"))
    if version == b"1.0":
        server = http.asks(client=client)[1]
        head_of(server)
        server.says(answer(b"again"))
        assert answer_of(client).body == b"again"
    else:
        assert http.is_answered(client, server)[1].body == b"hello"


def test_a_client_that_has_finished_its_side_still_gets_its_answer(
    http: HttpStage, lines: "Tuple[bytes, ...]"
) -> None:
    client, server = http.asks(get(b"/", *lines) + b"hi" * bool(lines))
    client.finishes()
    request_of(server)
    http.status()
    server.says(answer(b"hello"))
    assert answer_of(client).body == b"hello"
    client.hears_the_end()


def test_a_request_and_the_end_at_once_are_answered(http: HttpStage) -> None:
    http.stands()
    with http.proxy.frozen():
        client = http.client().says(GET).finishes()
    server = http.only.accepts()
    request_of(server)
    server.says(answer(b"hello"))
    assert answer_of(client).body == b"hello"
    client.hears_the_end()


def test_pipelined_requests_and_the_end_at_once_are_all_answered(http: HttpStage) -> None:
    http.stands()
    with http.proxy.frozen():
        client = http.client().says(get(b"/1") + get(b"/2") + get(b"/3")).finishes()
    server = http.only.accepts()
    for number in (b"1", b"2", b"3"):
        assert request_of(server).first == b"GET /%s HTTP/1.1" % number
        server.says(answer(number))
        assert answer_of(client).body == number
    client.hears_the_end()


def test_an_end_right_behind_an_answer_cuts_no_request_that_was_read(http: HttpStage) -> None:
    client, server = http.asks(get(b"/1") + get(b"/2"))
    request_of(server)
    with http.proxy.frozen():
        server.says(answer(b"1"))
        client.finishes()
    assert answer_of(client).body == b"1"
    assert request_of(server).first == b"GET /2 HTTP/1.1"
    server.says(answer(b"2"))
    assert answer_of(client).body == b"2"
    client.hears_the_end()


def test_an_end_right_behind_an_answer_cuts_half_a_request(http: HttpStage) -> None:
    client, server = http.asks(get(b"/1") + get(b"/2")[:-2])
    request_of(server)
    with http.proxy.frozen():
        server.says(answer(b"1"))
        client.finishes()
    assert answer_of(client).body == b"1"
    client.is_sent_away()


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("body", ["length", "chunks", "a long chunk"])
def test_a_body_and_the_end_at_once_are_answered(
    http: HttpStage, body: str, pieces: int
) -> None:
    data = {"length": post(pattern(20000)), "chunks": chunked(CHUNKED),
            "a long chunk": chunked(b"8000\r\n%s\r\n0\r\n\r\n" % pattern(0x8000))}[body]
    at = len(data) - 1500 if pieces == 2 else 0
    client = http.stands().client()
    if at:
        client.says(data[:at])
        server = http.only.accepts()
        head_of(server)
        server.takes(at - data.index(b"\r\n\r\n") - 4)
    with http.proxy.frozen():
        client.says(data[at:]).finishes()
    if at:
        server.hears(data[at:])
    else:
        server = http.only.accepts()
        request_of(server)
    server.says(answer(b"hello"))
    assert answer_of(client).body == b"hello"
    client.hears_the_end()


def test_half_a_request_and_the_end_is_no_request(http: HttpStage) -> None:
    client, server = http.asks(post(b"whole")[:-2])
    head_of(server)
    client.finishes()
    server.takes(3)
    server.is_sent_away()
    client.is_sent_away()


def test_half_a_head_and_the_end_reaches_no_instance(http: HttpStage) -> None:
    client = http.says(GET[:-2])
    client.finishes().is_sent_away()
    assert not is_readable(http.only.socket)


def test_a_client_that_says_nothing_and_leaves_reaches_no_instance(http: HttpStage) -> None:
    http.stands().client().finishes().hears_the_end()
    assert not is_readable(http.only.socket)


# Clients that leave


def test_a_client_that_leaves_before_its_answer_ends_the_instances_connection(
    http: HttpStage
) -> None:
    client, server = http.asks()
    request_of(server)
    eventually(lambda: http.under_way == 1, "the request is counted")
    client.resets()
    server.is_sent_away()
    eventually(http.is_at_rest, "no request is counted")


def test_a_client_that_leaves_within_its_body_ends_the_instances_connection(
    http: HttpStage
) -> None:
    client, server = http.asks(post(pattern(100000))[:5000])
    head_of(server)
    server.takes(4000)
    client.leaves()
    eventually(http.is_at_rest, "no request is counted")


def test_a_client_that_leaves_within_its_answer_ends_the_instances_connection(
    http: HttpStage
) -> None:
    client, server = http.asks()
    request_of(server)
    server.says(answer(pattern(1000))[:500])
    assert head_of(client).status == 200
    client.resets()
    server.is_sent_away()
    eventually(http.is_at_rest, "no request is counted")


def test_a_client_that_leaves_in_the_queue_is_forgotten(http: HttpStage) -> None:
    http.listens()
    client = http.client().says(GET)
    eventually(lambda: http.status()["queue"] == 1, "it waits")
    client.resets()
    eventually(lambda: http.status()["queue"] == 0, "it is forgotten")
    other = http.client().says(get(b"/other"))
    server = http.instance().comes_up().accepts()
    assert request_of(server).first == b"GET /other HTTP/1.1"
    server.says(answer())
    answer_of(other)


# Bodies


@pytest.mark.parametrize("size", RIMS)
def test_a_body_arrives_to_the_byte(http: HttpStage, size: int) -> None:
    body = pattern(size)
    client = http.stands().client()
    sending = Aside(client.says, post(body) + GET)
    server = http.receives()
    request = request_of(server)
    assert len(request.body) == size and (request.body == body or not "other bytes")
    sending.is_done()
    server.says(answer(b"got it"))
    assert answer_of(client).body == b"got it"
    server = http.receives()
    assert request_of(server).first == b"GET / HTTP/1.1"
    server.says(answer(b"and more"))
    assert answer_of(client).body == b"and more"


def test_bulk_is_spliced_and_the_pipe_comes_back(http: HttpStage) -> None:
    data = head(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: %d" % (1 << 40))
    client, server = http.asks(data)
    head_of(server)
    loans = http.proxy.call("loans")
    with http.proxy.frozen():
        # So that there is more than a buffer full at once, on a busy machine too.
        pushed = push(client)
    pushed += client.pushes_until_it_stalls()
    assert http.proxy.call("loans") > loans
    assert server.takes(pushed) == bytes(pushed)
    client.says(b"slowly")
    server.hears(b"slowly")
    eventually(lambda: http.figures()["pipes_lent"] == 0, "the pipe is back")


def test_a_body_behind_its_head_goes_on_piece_by_piece(http: HttpStage) -> None:
    whole = post(b"one, two, three")
    at = whole.index(b"one")
    client, server = http.asks(whole[:at])
    assert head_of(server).value(b"content-length") == b"15"
    for piece in (b"one, ", b"two, ", b"three"):
        client.says(piece)
        server.hears(piece)
    server.says(answer())
    answer_of(client)


def test_a_request_and_the_end_during_an_answer_are_answered(http: HttpStage) -> None:
    client, server = http.asks(get(b"/1"))
    request_of(server)
    with http.proxy.frozen():
        client.says(get(b"/2")).finishes()
    http.status()
    for number in (b"1", b"2"):
        server.says(answer(number))
        assert answer_of(client).body == number
        if number == b"1":
            assert request_of(server).first == b"GET /2 HTTP/1.1"
    client.hears_the_end()


CHUNKED = (
    b"5\r\nhello\r\n" b"A;x=y\r\n0123456789\r\n" b"00f\r\n%s\r\n" % pattern(15)
    + b"1000\r\n%s\r\n" % pattern(4096) + b"0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n")


def chunked(body: bytes) -> bytes:
    return head(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked") + body


def test_a_chunked_body_goes_on_byte_for_byte(http: HttpStage) -> None:
    client, server = http.asks(chunked(CHUNKED) + get(b"/next"))
    request = request_of(server)
    assert request.value(b"transfer-encoding") == b"chunked" and request.body == CHUNKED
    server.says(answer())
    answer_of(client)
    assert request_of(server).first == b"GET /next HTTP/1.1"
    server.says(answer())
    answer_of(client)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_chunked_body_in_pieces_goes_on_byte_for_byte(http: HttpStage, size: int) -> None:
    few = b"5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n"
    data = chunked(CHUNKED if size > 1 else few)
    client = http.stands().client()
    says_in_pieces(client, *(data[at:at + size] for at in range(0, len(data), size)))
    server = http.only.accepts()
    assert request_of(server).body == data[data.index(b"\r\n\r\n") + 4:]
    server.says(answer(b"hello"))
    assert answer_of(client).body == b"hello"


def test_chunks_of_megabytes_go_on_byte_for_byte(http: HttpStage) -> None:
    large = pattern(3 << 20)
    body = b"%x\r\n%s\r\n" % (len(large), large) + b"3\r\nend\r\n" + b"0\r\n\r\n"
    client = http.stands().client()
    sending = Aside(client.says, chunked(body) + GET)
    server = http.receives()
    assert request_of(server).body == body or not "other bytes"
    sending.is_done()
    server.says(answer())
    answer_of(client)
    server = http.receives()
    request_of(server)
    server.says(answer())
    answer_of(client)


@pytest.mark.parametrize("bad", [
    b"x\r\n", b"-1\r\n", b"5\r\nhello!\r\n", b"5\nhello\r\n", b"0\r\nContent-Length: 5\r\n\r\n",
    b"0\r\nX-Forwarded-For: evil\r\n\r\n", b"ffffffffffffffff\r\n",
])  # fmt: skip
def test_a_bad_chunk_is_refused_and_the_instances_request_never_whole(
    http: HttpStage, bad: bytes
) -> None:
    client, server = http.asks(chunked(b"3\r\nabc\r\n"))
    head_of(server)
    server.hears(b"3\r\nabc\r\n")
    client.says(bad + GET)
    refused = answer_of(client)
    assert refused.status == 400 and refused.value(b"connection") == b"close"
    client.finishes().hears_the_end()
    told = heard_until_gone(server)
    assert b"GET" not in told and b"0\r\n\r\n" not in told and b"evil" not in told


def heard_until_gone(peer: Peer) -> bytes:
    """What comes before its connection is ended, cleanly or not."""
    told = b""
    try:
        while True:
            piece = peer.socket.recv(65536)
            if not piece:
                break
            told += piece
    except ConnectionResetError:
        pass
    return told


def test_a_slow_instance_stops_the_reading_of_an_upload(http: HttpStage) -> None:
    client, server = http.asks(
        head(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 100000000000"))
    head_of(server)
    before = http.proxy.call("memory")
    pushed = client.pushes_until_it_stalls()
    assert http.proxy.call("memory") - before < 1 << 20
    assert server.takes(pushed) == bytes(pushed)
    # It goes on from there.
    client.says(b"more")
    server.hears(b"more")


def test_expect_100_continue_is_the_instances_to_answer(http: HttpStage) -> None:
    whole = post(b"body", b"Expect: 100-continue")
    at = len(whole) - len(b"body")
    client, server = http.asks(whole[:at])
    assert head_of(server).value(b"expect") == b"100-continue"
    client.hears_nothing()
    server.says(b"HTTP/1.1 100 Continue\r\n\r\n")
    client.hears(b"HTTP/1.1 100 Continue\r\n\r\n").says(b"body")
    server.hears(b"body").says(answer(b"hello"))
    assert answer_of(client).body == b"hello"


def test_a_body_that_is_not_expected_is_refused_without_it(http: HttpStage) -> None:
    whole = post(b"body", b"Expect: 100-continue")
    client, server = http.asks(whole[:-4])
    head_of(server)
    server.says(answer(b"no", status=b"417 Expectation Failed"))
    refused = answer_of(client)
    # The rest of this request may come, or may not: nobody can tell what comes next.
    assert refused.status == 417 and refused.value(b"connection") == b"close"
    client.hears_the_end()
    server.is_sent_away()


# One behind the other


def test_a_thousand_pipelined_requests_are_answered_in_their_order(http: HttpStage) -> None:
    count = 1000
    client = http.stands().client()
    sending = Aside(client.says, b"".join(get(b"/%d" % number) for number in range(count)))
    server = http.only.accepts()

    def serve() -> None:
        for number in range(count):
            assert head_of(server).first == b"GET /%d HTTP/1.1" % number
            server.says(answer(b"%d" % number))

    serving = Aside(serve)
    bodies = [answer_of(client).body for _ in range(count)]
    assert bodies == [b"%d" % number for number in range(count)]
    sending.is_done()
    serving.is_done()


def test_pipelined_requests_with_bodies_are_answered_in_their_order(http: HttpStage) -> None:
    wanted = [b"", b"a", pattern(70000), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"", pattern(30)]
    client = http.stands().client()
    sending = Aside(client.says, b"".join(map(post, wanted)))
    for body in wanted:
        server = http.receives()
        request = request_of(server)
        assert request.body == body
        server.says(answer(b"%d" % len(body)))
        assert answer_of(client).body == b"%d" % len(body)
    sending.is_done()


def test_a_pipelined_request_waits_until_the_one_before_it_is_answered(http: HttpStage) -> None:
    http.listens()
    instances = http.instances(2)
    client = http.client().says(get(b"/1") + get(b"/2"))
    asked = []
    for number in (b"1", b"2"):
        asked.append(who_is_asked(instances))
        server = asked[-1].accepts()
        assert request_of(server).first == b"GET /%s HTTP/1.1" % number
        for instance in instances:
            instance.accepts_nobody()
        server.says(answer(number))
        assert answer_of(client).body == number
    assert asked[0] is not asked[1]


def who_is_asked(instances: "List[Instance]") -> Instance:
    """To which of them a connection comes."""
    eventually(lambda: any(is_readable(each.socket) for each in instances), "a connection")
    return next(each for each in instances if is_readable(each.socket))


def test_empty_lines_before_a_request_are_passed_over(http: HttpStage) -> None:
    client, server = http.asks(b"\r\n\r\n" + GET)
    assert request_of(server).first == b"GET / HTTP/1.1"
    server.says(answer())
    answer_of(client)
    client.says(b"\r\n" + get(b"/2"))
    assert request_of(server).first == b"GET /2 HTTP/1.1"
    server.says(answer())
    answer_of(client)


# Connections to instances


def test_requests_are_balanced_one_by_one(http: HttpStage) -> None:
    http.listens()
    instances = http.instances(3)
    client = http.client()
    servers: List[Peer] = []
    asked = []
    for number in range(9):
        client.says(get(b"/%d" % number))
        if number < 3:
            servers.append(who_is_asked(instances).accepts())
        eventually(lambda: any(is_readable(each.socket) for each in servers), "a request")
        server = next(each for each in servers if is_readable(each.socket))
        assert request_of(server).first == b"GET /%d HTTP/1.1" % number
        asked.append(servers.index(server))
        server.says(answer(b"%d" % number))
        assert answer_of(client).body == b"%d" % number
    assert asked == [0, 1, 2] * 3
    assert not any(is_readable(each.socket) for each in instances)
    assert [each.status()["total"] for each in instances] == [3, 3, 3]


def test_a_connection_to_an_instance_is_used_again_by_all_clients(http: HttpStage) -> None:
    client, server = http.asks()
    request_of(server)
    server.says(answer())
    answer_of(client)
    for number in range(30):
        http.is_answered(http.client(), server, get(b"/%d" % number))
    http.only.accepts_nobody(0)
    assert http.only.status()["total"] == 31


def test_what_may_not_be_repeated_does_not_go_first_on_somebody_elses_connection(
    http: HttpStage
) -> None:
    client, server = http.asks()
    request_of(server)
    server.says(answer())
    answer_of(client)
    other, own = http.asks(post(b"order"))
    assert request_of(own).body == b"order"
    own.says(answer())
    answer_of(other)


@pytest.mark.parametrize("bound", [0, 1, 3])
def test_so_many_idle_connections_are_kept_to_an_instance(
    http_with: Settings, bound: int
) -> None:
    http = http_with(keep_upstream=bound).stands()
    pairs = [http.asks() for _ in range(bound + 3)]
    for client, server in pairs:
        request_of(server)
        server.says(answer(b"hello"))
        assert answer_of(client).body == b"hello"
    for _, server in pairs[bound:]:
        server.hears_the_end()
    assert not any(server.hears_anything(0) for _, server in pairs[:bound])
    eventually(lambda: http.watches() == len(pairs) + bound, "so many are kept")


def test_an_instance_that_leaves_loses_its_kept_connections_at_once(http: HttpStage) -> None:
    client, server = http.asks()
    request_of(server)
    server.says(answer())
    answer_of(client)
    http.only.goes_down()
    server.hears_the_end()
    # The client's own stays.
    other = http.instance().comes_up()
    client.says(GET)
    server = other.accepts()
    request_of(server)
    server.says(answer(b"other"))
    assert answer_of(client).body == b"other"


def test_kept_connections_that_an_instance_has_closed_lose_no_request(http: HttpStage) -> None:
    client, server = http.asks()
    request_of(server)
    server.says(answer())
    answer_of(client)
    with http.proxy.frozen():
        client.says(GET)
        server.leaves()
    server = http.only.accepts()
    request_of(server)
    server.says(answer(b"hello"))
    assert answer_of(client).body == b"hello"


def test_requests_that_may_not_be_repeated_are_not_lost_to_a_closed_connection(
    http: HttpStage
) -> None:
    client, server = http.asks()
    request_of(server)
    server.says(answer())
    answer_of(client)
    with http.proxy.frozen():
        client.says(post(b"order"))
        server.leaves()
    server = http.only.accepts()
    assert request_of(server).body == b"order"
    server.says(answer(b"hello"))
    assert answer_of(client).body == b"hello"


# What is refused


REFUSED = [
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400),
    (post(b"", b"Transfer-Encoding: chunked"), 400),
    (head(b"POST / HTTP/1.1", b"Host: a", b"Content_Length: 5"), 400),
    (head(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: gzip, chunked"), 501),
    (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    (get(b"/", *[b"X: 1"] * 101), 431),
    (get(b"/", b"X: " + b"x" * (33 << 10)), 431),
    (b"GET /" + b"x" * (33 << 10), 431),
]


def test_what_breaks_the_rules_is_refused_and_reaches_no_instance(http: HttpStage) -> None:
    for data, status in REFUSED:
        client = http.says(data + get(b"/smuggled"))
        refused = answer_of(client)
        assert refused.status == status, data[:100]
        assert refused.value(b"connection") == b"close"
        assert refused.value(b"content-type").startswith(b"text/plain")
        assert refused.body.startswith(b"%d " % status)
        client.hears_the_end()
    assert not is_readable(http.only.socket)
    assert sum(http.own_answers) == len(REFUSED)


def test_a_head_that_takes_too_long_is_refused_with_408(http_with: Settings) -> None:
    http = http_with(head_timeout=0.2)
    client = http.says(GET[:-2])
    refused = answer_of(client)
    assert refused.status == 408 and refused.value(b"connection") == b"close"
    client.hears_the_end()
    assert not is_readable(http.only.socket)


def test_each_head_has_the_time_for_itself(http_with: Settings) -> None:
    http = http_with(head_timeout=1000.0).stands()
    client = http.client()
    for _ in range(3):
        says_in_pieces(client, GET[:5], GET[5:20])
        http.proxy.call("put_forward", 600.0)
        _, answered = http.exchange(GET[20:], client=client)
        assert answered.body == b"hello"


def test_a_client_that_says_nothing_is_not_refused(http_with: Settings) -> None:
    http = http_with(head_timeout=1000.0).stands()
    client = http.client()
    http.status()
    http.proxy.call("put_forward", 1001.0)
    _, answered = http.exchange(GET, client=client)
    assert answered.body == b"hello"
    http.proxy.call("put_forward", 1001.0)
    client.hears_nothing()


def test_a_client_that_is_refused_gets_the_whole_of_it_whatever_it_goes_on_to_send(
    http: HttpStage
) -> None:
    client = http.says(b"GET / HTTP/1.1\r\n\r\n")
    sending = Aside(pushes_a_lot, client)
    refused = final_answer_of(client)[1]
    assert refused.status == 400 and refused.body
    client.hears_the_end()
    sending.is_done()


def pushes_a_lot(client: Peer) -> None:
    try:
        for _ in range(20):
            client.says(bytes(100000))
    except (BrokenPipeError, ConnectionResetError, socket.timeout):
        pass
