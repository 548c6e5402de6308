"""The http mode for clients whose TLS ends here."""

import hashlib
from typing import Any, Iterator

import pytest

from certificates import Made
from http_stage import HELLO, get, http_started, post
from peers import Aside, Peer, Proxy, eventually
from secure_peers import VERSIONS, SecureHttpStage, setting_secure_http
from test_http_memory import answers
from test_http_no_memory import CHUNKED

pytest_plugins = ["stages", "secure_stages"]

MUCH = bytes(range(256)) * 8192
#: No two pieces of it are alike.
COUNTED = b"".join(b"%9d\n" % number for number in range(10240))
UPGRADE = (b"GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
SWITCHING = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def digests(server: Peer) -> None:
    """An upload of MUCH, by its digest."""
    body = server.takes(len(MUCH))
    text = hashlib.sha256(body).hexdigest().encode()
    server.says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))


def takes_chunks(server: Peer) -> None:
    heard = b""
    while not heard.endswith(b"0\r\n\r\n"):
        heard += server.socket.recv(1000)
    server.says(HELLO)


def continues(server: Peer) -> None:
    server.says(b"HTTP/1.1 100 Continue\r\n\r\n").hears(b"hello").says(HELLO)


def early(server: Peer) -> str:
    server.says(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno")
    return "close"


def echoes(server: Peer) -> str:
    server.says(SWITCHING + b"welcome")
    while True:
        data = server.socket.recv(65536)
        if not data:
            server.says(b"goodbye")
            return "close"
        server.says(data)


BEHAVIOURS: Any = {
    "/digest": digests, "/chunks": takes_chunks, "/continue": continues, "/early": early,
    "/upgrade": echoes, "/100k": answers(100000), "/2m": answers(2 << 20),
    "/counted": lambda server: server.says(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(COUNTED) + COUNTED),
    "/chunked": lambda server: server.says(CHUNKED),
    "/head": lambda server: server.says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    "/half": lambda server: server.says(HELLO[:-3]) and "close",
    "/close": lambda server: "close",
    "/end": lambda server: server.says(b"HTTP/1.0 200 OK\r\n\r\nhello") and "close",
}


@pytest.fixture(params=VERSIONS)
def web(request: Any, http_proxy: Proxy, made: Made) -> "Iterator[SecureHttpStage]":
    with setting_secure_http(http_proxy, made) as stage:
        stage.version = request.param
        yield stage.has_application(BEHAVIOURS)  # type: ignore[misc]


@pytest.fixture(scope="module")
def http_proxy(marked_environment: str) -> "Iterator[Proxy]":
    with http_started() as proxy:
        yield proxy


def test_requests_of_one_connection_are_answered(web: SecureHttpStage) -> None:
    client = web.client()
    for path in ("/", "/100k", "/", "/2m", "/100k", "/"):
        client.says(get(path)).hears_status(200)
    client.says(get("/chunked")).hears_status(200)
    client.hears(CHUNKED.partition(b"\r\n\r\n")[2]).says_its_end().hears_the_end()
    assert web.handshakes() == (1, 0, 0)
    web.is_clear()


def test_requests_that_come_together_are_answered_in_turn(web: SecureHttpStage) -> None:
    client = web.client()
    client.says(get() + get("/100k") + get())
    for _ in range(3):
        client.hears_status(200)
    # In records of their own, in one segment.
    channel = client.socket
    channel.raw.sendall(b"".join(channel.encrypted(get()) for _ in range(20)))
    for _ in range(20):
        client.hears_status(200)


@pytest.mark.parametrize("cut", [1, 7, 100])
def test_a_request_that_comes_in_pieces_is_answered(web: SecureHttpStage, cut: int) -> None:
    client = web.client()
    client.socket.piece = cut
    client.is_served().is_served()


def test_uploads_arrive_whole(web: SecureHttpStage) -> None:
    client = web.client()
    for _ in range(2):
        client.says(post("/digest", b"Content-Length: %d" % len(MUCH)) + MUCH)
        head = client.takes_up_to(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        client.hears(hashlib.sha256(MUCH).hexdigest().encode())
        client.says(post("/chunks", b"Transfer-Encoding: chunked"))
        for _ in range(3):
            client.says(b"5\r\nhello\r\n")
        client.says(b"0\r\n\r\n").hears_status(200)


def test_a_slow_reader_gets_all(web: SecureHttpStage) -> None:
    client = web.narrow_client()
    client.says(get("/2m"))
    head = client.takes_up_to(b"\r\n\r\n")
    assert b"Content-Length: %d\r\n" % (2 << 20) in head
    taken = 0
    while taken < 2 << 20:
        piece = client.socket.recv(30000)
        assert piece and not any(piece)
        taken += len(piece)
    client.is_served()


def test_a_slow_reader_gets_one_long_answer_after_the_other(web: SecureHttpStage) -> None:
    client = web.narrow_client()
    for _ in range(4):
        client.says(get("/counted"))
        client.takes_up_to(b"\r\n\r\n")
        heard = bytearray()
        while len(heard) < len(COUNTED):
            heard += client.socket.recv(min(10000, len(COUNTED) - len(heard)))
        assert heard == COUNTED
    client.is_served()


def test_a_client_is_told_to_continue(web: SecureHttpStage) -> None:
    client = web.client()
    client.says(post("/continue", b"Content-Length: 5\r\nExpect: 100-continue"))
    assert client.status() == 100
    client.says(b"hello").hears_status(200).is_served()


def test_no_body_follows_an_answer_to_head(web: SecureHttpStage) -> None:
    client = web.client()
    client.says(b"HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"Content-Length: 5" in client.takes_up_to(b"\r\n\r\n")
    client.is_served()


@pytest.mark.parametrize("request_, status", [
    (b"NONSENSE\r\n\r\n", 400), (get("/close"), 502), (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505)])
def test_an_error_is_an_answer_as_any_other(
    web: SecureHttpStage, request_: bytes, status: int
) -> None:
    web.client().says(request_).hears_status(status)
    web.serves()


def test_an_answer_until_the_end_has_a_clean_end(web: SecureHttpStage) -> None:
    client = web.client()
    client.says(get("/end"))
    client.takes_up_to(b"\r\n\r\n")
    client.hears(b"hello").hears_the_end()


def test_half_an_answer_has_no_clean_end(web: SecureHttpStage) -> None:
    client = web.client()
    client.says(get("/half"))
    client.takes_up_to(b"\r\n\r\n")
    client.hears(b"he").hears_a_reset()


def test_an_early_answer_arrives_though_the_upload_goes_on(web: SecureHttpStage) -> None:
    client = web.client()
    client.says(post("/early", b"Content-Length: 10000000") + bytes(1000))
    client.hears_status(413)
    sending = Aside(client.socket.raw.sendall, client.socket.encrypted(bytes(500000)))
    client.hears_the_end()
    sending.is_done()
    client.leaves()
    web.is_clear()


@pytest.mark.parametrize("end", ["says_its_end", "finishes", "is_cut"])
def test_a_client_that_sends_no_more_gets_its_answer(web: SecureHttpStage, end: str) -> None:
    """HTTP knows by itself where a request ends."""
    client = web.client()
    client.says(get("/100k"))
    getattr(client, end)()
    client.hears_status(200).hears_the_end()
    web.is_clear()


def test_half_an_upload_is_no_whole_one(web: SecureHttpStage) -> None:
    client = web.client()
    client.says(post("/digest", b"Content-Length: %d" % len(MUCH)) + MUCH[:1000]).is_cut()
    client.is_sent_away()
    web.is_clear()


def test_a_tunnel_passes_all_and_both_ends(web: SecureHttpStage) -> None:
    client = web.client()
    client.says(UPGRADE + b"first")
    assert client.takes_up_to(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    client.hears(b"welcomefirst")
    sending = Aside(client.says, MUCH)
    client.hears(MUCH)
    sending.is_done()
    client.says(b"last").hears(b"last").says_its_end()
    client.hears(b"goodbye").hears_the_end()
    eventually(lambda: web.figures()["connections"] == 0, "the tunnel has ended")
