"""Heads are read strictly: the corpus, what goes on of a head, and the fast patterns."""

import re
from typing import Iterator, List, Optional, Tuple

import pytest
from hypothesis import example, given, settings, strategies as st

from http_corpus import ANSWERS, REQUESTS, answers_of, requests_of
from http_forwarding import cookie_in, origin
from http_heads import (
    CHUNKED,
    FAST_ANSWER,
    FAST_REQUEST,
    MOST_FIELDS,
    SURELY_FEW_FIELDS,
    UNTIL_CLOSE,
    AnswerHead,
    Field,
    Refused,
    RequestHead,
    field_key,
    goes_on,
    is_forwarded,
    parse_answer,
    parse_request,
    values_of,
)
from http_plain import plain_answer, plain_request


def request(*fields: bytes, first: bytes = b"GET / HTTP/1.1") -> RequestHead:
    return parse_request(lines(first, b"Host: a", *fields))


def answer(*fields: bytes, first: bytes = b"HTTP/1.1 200 OK", method: bytes = b"GET") -> AnswerHead:
    return parse_answer(lines(first, *fields), method)


def lines(*all_lines: bytes) -> bytes:
    return b"\r\n".join(all_lines) + b"\r\n\r\n"


def test_of_requests_is_taken_what_may_be() -> None:
    found = {case.name: requests_of([case.data]) for case in REQUESTS}
    assert {case.name: found[case.name] for case in REQUESTS
            if found[case.name] != case.expected} == {}


def test_of_answers_is_taken_what_may_be() -> None:
    found = {case.name: answers_of(case.methods, [case.data]) for case in ANSWERS}
    assert {case.name: found[case.name] for case in ANSWERS
            if found[case.name] != case.expected} == {}


def test_each_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in REQUESTS + ANSWERS]
    assert len(set(names)) == len(names)


# What a head says


def test_a_request_in_full() -> None:
    head = parse_request(
        b"POST /a?b HTTP/1.1\r\nhost:  a:80 \r\nX-Y:z \r\nContent-Length: 5\r\n"
        b"Connection: Keep-Alive, X-Y\r\n\r\n")
    assert head == RequestHead(
        b"POST", b"/a?b", 1, b"a:80",
        ((b"host", b"host", b"a:80"), (b"x-y", b"X-Y", b"z"),
         (b"content-length", b"Content-Length", b"5"),
         (b"connection", b"Connection", b"Keep-Alive, X-Y")),
        5, True, b"", frozenset((b"keep-alive", b"x-y")))
    assert not head.is_tunnel


def test_an_answer_in_full() -> None:
    head = parse_answer(
        b"HTTP/1.0 404 Not  Found\r\nServer: x\r\nContent-Length: 5\r\nConnection: keep-alive\r\n"
        b"\r\n", b"GET")
    assert head == AnswerHead(
        404, b"404 Not  Found", 0,
        ((b"server", b"Server", b"x"), (b"content-length", b"Content-Length", b"5"),
         (b"connection", b"Connection", b"keep-alive")),
        5, True, b"", frozenset((b"keep-alive",)))


@pytest.mark.parametrize("minor, connection, expected", [
    (1, None, True), (1, b"close", False), (1, b"Close", False), (1, b"keep-alive", True),
    (1, b"x, CLOSE", False), (1, b"keep-alive, close", False), (1, b"closed", True), (1, b"", True),
    (0, None, False), (0, b"keep-alive", True), (0, b"Keep-Alive", True), (0, b"keep_alive", False),
    (0, b"x,\tkeep-alive ,", True), (0, b"close, keep-alive", False), (0, b"keep", False),
])  # fmt: skip
def test_a_connection_stays_or_ends(
    minor: int, connection: "Optional[bytes]", expected: bool
) -> None:
    fields = [] if connection is None else [b"Connection: " + connection]
    assert request(*fields, first=b"GET / HTTP/1.%d" % minor).keep_alive is expected
    fields.append(b"Content-Length: 0")
    assert answer(*fields, first=b"HTTP/1.%d 200 OK" % minor).keep_alive is expected


def test_several_connection_fields_are_one_list() -> None:
    head = request(b"Connection: X", b"X: y", b"connection: close")
    assert (head.connection, head.keep_alive) == (frozenset((b"x", b"close")), False)


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    head = answer(b"Connection: keep-alive")
    assert (head.framing, head.keep_alive) == (UNTIL_CLOSE, False)


def test_a_host_comes_from_an_absolute_target_where_there_is_none() -> None:
    head = parse_request(b"GET http://a:1/b HTTP/1.0\r\n\r\n")
    assert (head.host, head.target) == (b"a:1", b"/b")
    assert parse_request(b"GET /b HTTP/1.0\r\n\r\n").host == b""


def test_connect_is_a_tunnel() -> None:
    head = parse_request(lines(b"CONNECT a:443 HTTP/1.1", b"Host: a"))
    assert (head.is_tunnel, head.target, head.framing) == (True, b"a:443", 0)


@pytest.mark.parametrize("fields, expected", [
    ((b"Connection: upgrade", b"Upgrade: websocket"), b"websocket"),
    ((b"Connection: keep-alive, Upgrade", b"Upgrade: a", b"Upgrade: b/1"), b"a, b/1"),
    ((b"Upgrade: websocket",), b""),
    ((b"Connection: Upgrade", b"Upgrade: h2c"), b""),
    ((b"Connection: Upgrade", b"Upgrade: websocket, H2C"), b""),
    ((b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 5"), b""),
    ((b"Connection: Upgrade", b"Upgrade: websocket", b"Transfer-Encoding: chunked"), b""),
    ((b"Connection: Upgrade",), b""),
])  # fmt: skip
def test_an_upgrade_is_wanted_where_it_may_be(
    fields: "Tuple[bytes, ...]", expected: bytes
) -> None:
    assert request(*fields).upgrade == expected


def test_http_1_0_has_no_upgrade() -> None:
    fields = b"Connection: Upgrade", b"Upgrade: websocket"
    assert request(*fields, first=b"GET / HTTP/1.0").upgrade == b""


def test_what_follows_an_accepted_connect_has_no_length() -> None:
    """A client ignores it there (RFC 9110, 9.3.6), so it may not go on to one that does not."""
    for field in (b"Content-Length: 5", b"Transfer-Encoding: chunked"):
        head = answer(field, b"X: y", method=b"CONNECT")
        assert (head.framing, [key for key, _, _ in head.fields]) == (0, [b"x"])
    assert answer(b"Content-Length: 5", first=b"HTTP/1.1 403 No", method=b"CONNECT").framing == 5


def test_the_length_of_an_answer_to_head_goes_on() -> None:
    head = answer(b"Content-Length: 5", method=b"HEAD")
    assert (head.framing, values_of(head.fields, b"content-length")) == (0, [b"5"])


def test_a_204_and_a_1xx_go_on_without_a_length() -> None:
    for first in (b"HTTP/1.1 204 No Content", b"HTTP/1.1 103 Early Hints"):
        head = answer(b"Content-Length: 0", b"X: y", first=first)
        assert (head.framing, [key for key, _, _ in head.fields]) == (0, [b"x"])


def test_answers_that_break_the_rules_are_502_whatever_the_rule() -> None:
    many, bad, unknown = [b"X: y"] * (MOST_FIELDS + 1), [b"X : y"], [b"Transfer-Encoding: gzip"]
    for fields in (many, bad, unknown):
        with pytest.raises(Refused) as caught:
            answer(*fields)
        assert caught.value.status == 502 and caught.value.reason


def test_a_refusal_says_why() -> None:
    with pytest.raises(Refused, match="more than one Content-Length") as caught:
        request(b"Content-Length: 1", b"Content-Length: 1")
    assert caught.value.status == 400


# What goes on


GOES_ON = frozenset((b"x-named", b"host", b"content-length", b"x-forwarded-for", b"cookie"))


@pytest.mark.parametrize("name, expected", [
    (b"Accept", True), (b"X-Named", False), (b"Connection", False), (b"Keep-Alive", False),
    (b"Proxy-Connection", False), (b"TE", False), (b"Upgrade", False), (b"HTTP2-Settings", False),
    (b"Host", True), (b"Content-Length", True), (b"X-Forwarded-For", True), (b"Cookie", True),
    (b"Trailer", True), (b"Expect", True),
])  # fmt: skip
def test_fields_of_one_hop_stay_on_it(name: bytes, expected: bool) -> None:
    """Nobody's `Connection` takes away what an application trusts, or finds the end by."""
    assert goes_on((field_key(name), name, b""), GOES_ON) is expected


@pytest.mark.parametrize("key, expected", [
    (b"x-forwarded-for", True), (b"x-forwarded-proto", True), (b"x-forwarded-anything", True),
    (b"forwarded", True), (b"x-real-ip", True), (b"client-cert", True),
    (b"client-cert-chain", True), (b"client-certify", False), (b"x-forwarder", False),
    (b"host", False),
])  # fmt: skip
def test_what_says_something_about_the_client(key: bytes, expected: bool) -> None:
    assert is_forwarded(key) is expected


@pytest.mark.parametrize("name", [
    b"X_Forwarded_For", b"X-Forwarded_For", b"x.forwarded.for", b"X_Real_IP", b"X~Real-IP",
    b"Client_Cert", b"client-cert_chain",
    b"X_FORWARDED_PROTO", b"Keep_Alive", b"Proxy_Connection", b"HTTP2_Settings",
])  # fmt: skip
def test_a_lookalike_goes_nowhere(name: bytes) -> None:
    """An application that gets fields in its environment could not tell it from the other."""
    head = parse_request(lines(b"GET / HTTP/1.0", name + b": x", b"X_Y: z"))
    assert head.fields == ((b"x_y", b"X_Y", b"z"),)
    assert FAST_REQUEST.fullmatch(lines(b"GET / HTTP/1.1", b"Host: a", name + b": x")) is None


@pytest.mark.parametrize("name", [
    b"Content_Length", b"content.length", b"Content~Length", b"Transfer_Encoding",
    b"TRANSFER|ENCODING",
])  # fmt: skip
def test_a_lookalike_of_a_length_is_refused(name: bytes) -> None:
    with pytest.raises(Refused):
        request(name + b": 5")
    assert answer(name + b": 5").framing == UNTIL_CLOSE


# The fast patterns


SPACES = st.sampled_from([b"", b" ", b" ", b"  ", b"\t"])
#: Names on which something depends, and others; both are spelled in several ways.
NAMES = st.sampled_from(
    b"Host Connection Content-Length Transfer-Encoding TE Upgrade Keep-Alive Proxy-Connection "
    b"HTTP2-Settings Expect Forwarded X-Forwarded-For X-Real-IP Content_Length X_Forwarded_Host "
    b"Upgrade-Insecure-Requests Hostage Cookie User-Agent Tea X Content-Type Cache-Control "
    b"X-Connection Keep_Alive Proxy.Connection Client-Cert Client_Cert-Chain Client-Certify"
    .split())
CASED = st.tuples(NAMES, st.sampled_from(["title", "lower", "upper", "swapcase"])).map(
    lambda drawn: drawn[0] if drawn[1] == "title" else getattr(bytes, drawn[1])(drawn[0]))
VALUES = st.sampled_from([
    b"keep-alive", b"Keep-Alive", b"close", b"a", b"a.b:80", b"[::1]", b"0", b"5", b"05",
    b"chunked", b"", b"a b", b"Connection: keep-alive", b"timeout=5", b"onnection:", b"\xff\t!",
    b"\x00", b"\r", b"websocket",
])  # fmt: skip
FIELDS = st.tuples(CASED, SPACES, VALUES, SPACES).map(
    lambda parts: parts[0] + b":" + b"".join(parts[1:]) + b"\r\n")
#: What both patterns want somewhere.
USUAL = st.sampled_from([
    b"Host: a\r\n", b"host:a:80\r\n", b"Content-Length: 5\r\n", b"Connection: keep-alive\r\n",
    b"Connection: Keep-Alive\r\n", b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n",
    b"X: Connection: keep-alive\r\n", b"X-Connection: keep-alive\r\n", b"Accept: */*\r\n",
    b"Connection: close\r\n",
])  # fmt: skip
BLOCKS = st.lists(st.one_of(USUAL, USUAL, FIELDS), max_size=7).map(b"".join)
FIRST = st.sampled_from([
    b"GET / HTTP/1.1", b"GET /a?b=\"c\" HTTP/1.1", b"POST / HTTP/1.1", b"CONNECT / HTTP/1.1",
    b"OPTIONS * HTTP/1.1", b"GET / HTTP/1.0", b"PRI / HTTP/1.1", b"GET /#a HTTP/1.1",
    b"HEAD / HTTP/1.1",
])  # fmt: skip
STATUS = st.sampled_from([
    b"HTTP/1.1 200 OK", b"HTTP/1.1 404", b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.0 200 OK", b"HTTP/1.1 100 Continue", b"HTTP/1.1 599 \xff",
])  # fmt: skip


def squeezed(head: bytes) -> "List[bytes]":
    """Its lines of fields, without the spaces around values."""
    return [re.sub(rb"\A([^:]*): *(.*?) *\Z", rb"\1:\2", line, flags=re.DOTALL)
            for line in head.split(b"\r\n")[1:-1]]


def going_on(fields: "Tuple[Field, ...]") -> "List[bytes]":
    """Lines of the fields that do not stay on this hop."""
    return [b"%s:%s" % (name, value) for key, name, value in fields
            if goes_on((key, name, value), frozenset())]


@settings(max_examples=700)
@given(FIRST, BLOCKS)
@example(b"GET / HTTP/1.1", b"Host: a\r\nConnection: keep-alive\r\nConnection: Keep-Alive\r\n")
@example(b"GET / HTTP/1.1", b"Host: a\r\nConnection: keep-alive\r\nConnection: keep-alive\r\n")
@example(b"GET / HTTP/1.1", b"Connection: keep-alive\r\nHost: a\r\nConnection: close\r\n")
@example(b"GET / HTTP/1.1", b"Connection: close\r\nConnection: keep-alive\r\nHost: a\r\n")
@example(b"GET / HTTP/1.1", b"Host: a\r\nConnection: keep-alive\r\nX: Connection: keep-alive\r\n")
@example(b"GET / HTTP/1.1", b"X: Connection: keep-alive\r\nHost: a\r\nConnection: keep-alive\r\n")
@example(b"GET / HTTP/1.1", b"X-Connection: close\r\nHost: a\r\nConnection: close\r\n")
@example(b"GET / HTTP/1.1", b"Host: a\r\nUpgrade-Insecure-Requests: 1\r\n")
def test_a_plain_request_is_read_in_full_as_the_same(first: bytes, block: bytes) -> None:
    head = first + b"\r\n" + block + b"\r\n"
    plain = plain_request(head)
    if plain is None:
        return
    parsed = parse_request(head)
    assert (parsed.method, parsed.host, parsed.keep_alive) == (
        plain.method, plain.host, plain.keep_alive)
    assert parsed.target == head.split(b" ")[1]
    assert (parsed.minor, parsed.framing, parsed.upgrade, parsed.is_tunnel) == (1, 0, b"", False)
    assert parsed.connection <= {b"keep-alive", b"close"}
    assert not any(is_forwarded(key) or key == b"expect" for key, _, _ in parsed.fields)
    assert squeezed(plain.head) == going_on(parsed.fields)


@settings(max_examples=700)
@given(STATUS, BLOCKS)
@example(b"HTTP/1.1 200 OK", b"Content-Length: 5\r\nConnection: keep-alive\r\n"
         b"Keep-Alive: timeout=5\r\n")
@example(b"HTTP/1.1 200 OK", b"Content-Length: 5\r\nX: Connection: keep-alive\r\n")
def test_a_plain_answer_is_read_in_full_as_the_same(first: bytes, block: bytes) -> None:
    head = first + b"\r\n" + block + b"\r\n"
    plain = plain_answer(head)
    if plain is None:
        return
    for method in (b"GET", b"POST"):
        parsed = parse_answer(head, method)
        assert (parsed.status, parsed.framing) == (plain.status, plain.length)
        assert (parsed.minor, parsed.keep_alive, parsed.upgrade) == (1, True, b"")
        assert parsed.connection <= {b"keep-alive"}
        assert squeezed(plain.staying[:-2]) == going_on(parsed.fields)


def test_no_refused_request_is_plain() -> None:
    heads = [head + b"\r\n\r\n" for case in REQUESTS for head in case.data.split(b"\r\n\r\n")]
    plain = [head for head in heads if plain_request(head)]
    assert len(plain) > 20
    for head in plain:
        parse_request(head)


def test_the_usual_heads_match() -> None:
    """Nothing is won by patterns that no head of today matches."""
    assert FAST_REQUEST.fullmatch(lines(
        b"GET /a HTTP/1.1", b"Host: www.example.com", b"Connection: keep-alive",
        b'sec-ch-ua: "Chromium";v="120"', b"Upgrade-Insecure-Requests: 1",
        b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)", b"Accept: text/html,*/*;q=0.8",
        b"Sec-Fetch-Site: none", b"Accept-Encoding: gzip, br", b"Cookie: a=b; c=d"))
    assert FAST_REQUEST.fullmatch(lines(
        b"GET / HTTP/1.1", b"Host: 127.0.0.1:3000", b"User-Agent: curl/8.5.0", b"Accept: */*"))
    of_node = FAST_ANSWER.fullmatch(lines(
        b"HTTP/1.1 200 OK", b"Content-Type: text/plain", b"Date: Sun, 29 Nov 2026 14:00:00 GMT",
        b"Connection: keep-alive", b"Keep-Alive: timeout=5", b"Content-Length: 12"))
    assert of_node and of_node.group(2) == b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n"
    assert FAST_ANSWER.fullmatch(lines(
        b"HTTP/1.1 200 OK", b"server: uvicorn", b"content-length: 5", b"content-type: text/plain"))


def test_the_shortest_field_has_four_bytes() -> None:
    head = lines(b"G / HTTP/1.1", *[b"a:"] * (MOST_FIELDS + 1))
    assert len(head) > SURELY_FEW_FIELDS
    with pytest.raises(Refused) as caught:
        parse_request(head)
    assert caught.value.status == 431


def test_an_encoding_in_chunks_is_one() -> None:
    assert request(b"Transfer-Encoding: Chunked", first=b"POST / HTTP/1.1").framing == CHUNKED


# What is looked for in a head


def cookies_of(text: bytes) -> "Iterator[Tuple[bytes, bytes]]":
    """One after the other, as a server takes them apart."""
    for each in text.split(b";"):
        name, _, value = each.strip(b" \t").partition(b"=")
        yield name, value


@given(st.lists(st.sampled_from([
    b"c=", b"cc=", b"c", b"=", b";", b"; ", b" ", b"\t", b"x", b"c=d", b'"'])).map(b"".join))
def test_a_cookie_is_the_first_of_its_name(text: bytes) -> None:
    text = text.strip(b" \t")
    found = [value.decode() for name, value in cookies_of(text) if name == b"c"]
    head = lines(b"GET / HTTP/1.1", b"Host: a", b"Cookie: " + text)
    assert cookie_in(head, b"c") == (found[0] if found else "")


def test_a_client_is_looked_for_behind_a_few_proxies_only() -> None:
    """Else a request of 32 KB would have 4,000 addresses looked at."""
    addresses = ["192.0.2.1", *("10.0.0.%d" % number for number in range(100))]
    head = request(b"X-Forwarded-For: " + ", ".join(addresses).encode())
    looked_at: List[str] = []

    def is_believed(address: str) -> bool:
        looked_at.append(address)
        return True

    assert origin(head, "127.0.0.1", is_believed) == "10.0.0.68"
    assert looked_at == addresses[:-33:-1]
