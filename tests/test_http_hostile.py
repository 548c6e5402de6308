"""Hostile clients and instances of the http mode: they are refused, or harm only themselves.

Whatever they did, nothing is left of it, and others are answered meanwhile and afterwards.
"""

import random
import socket
import time
from typing import Callable, Dict, Iterator, List, Tuple

import pytest

from elsewhere import FIRST, LAST, Far, far_from_here
from http_stage import (
    HELLO,
    Behaviour,
    Client,
    HttpProxy,
    HttpStage,
    get,
    http_setting,
    http_started,
    post,
)
from peers import FOREVER, Aside, Peer, eventually

#: Seconds in which somebody else is answered, on a busy machine too.
SOON = 5.0

#: Beginnings of what is no HTTP/1, and what is answered.
GARBAGE = {
    "TLS": (bytes.fromhex("16030100c8010000c40303") + bytes(range(190)), 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/3.0": (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
    "zeros": (bytes(1000), 400),
    "a bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "an SSH banner": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", 400),
    "SOCKS": (b"\x05\x01\x00", 400),
    "PROXY": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n" + get(), 400),
    "empty lines": (b"\r\n" * 5, 400),
    "a head of 64 KB": (get()[:-2] + b"X: " + b"x" * 65536, 431),
    "a line of 64 KB": (b"GET /" + b"x" * 65536, 431),
    "a name of 64 KB": (get()[:-2] + b"x" * 65536, 431),
    "fields without end": (get()[:-2] + b"X: y\r\n" * 10000, 431),
    "101 fields": (get()[:-2] + b"X: y\r\n" * 100 + b"\r\n", 431),
}


@pytest.fixture(scope="module")
def proxy(marked_environment: str) -> "Iterator[HttpProxy]":
    with http_started() as proxy:
        yield proxy


@pytest.fixture
def stage(proxy: HttpProxy) -> "Iterator[HttpStage]":
    with http_setting(proxy) as stage:
        yield stage


# Clients


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_refused_at_once_and_closed(stage: HttpStage, name: str) -> None:
    data, status = GARBAGE[name]
    stage.has_application()
    client = stage.client().says(data)
    client.hears_status(status).hears_the_end()  # type: ignore[attr-defined]
    client.leaves()
    behind = stage.client().is_served().says(data)
    behind.hears_status(status).hears_the_end()  # type: ignore[attr-defined]
    behind.leaves()
    stage.is_clear()
    assert stage.only.status()["total"] == 1


def test_random_bytes_never_get_through(stage: HttpStage) -> None:
    stage.has_application()
    random_bytes = random.Random(1)
    for _ in range(100):
        client = stage.client()
        client.says(bytes(random_bytes.getrandbits(8) for _ in range(40)) + b"\r\n\r\n")
        client.hears_status(400)
        client.leaves()
    stage.is_clear()
    assert stage.only.status()["total"] == 0
    stage.serves()


def chunked(stage: HttpStage) -> Client:
    client = stage.client()
    client.says(post("/sink", b"Transfer-Encoding: chunked"))
    return client


def drains(server: Peer) -> str:
    while server.socket.recv(1 << 20):
        pass
    return "close"


#: Blocks that are sent again and again behind the head of a chunked request; and behind its body.
ENDLESS = {
    "extensions": b"1;%s\r\nx\r\n" % (b"a=b;" * 50 + b"c"),
    "an extension": b"1;" + b"x" * 65536,
    "a size": b"0" * 65536,
    "trailers": b"0\r\n" + b"X: y\r\n" * 10000,
    "a trailer": b"0\r\nX: " + b"y" * 65536,
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_body_whose_lines_have_no_end_is_refused(stage: HttpStage, name: str) -> None:
    stage.has_application({"/sink": drains})
    client = chunked(stage)
    sent = 0
    client.socket.setblocking(False)
    while not client.hears_anything(0):
        try:
            sent += client.socket.send(ENDLESS[name])
        except BlockingIOError:
            pass
        assert sent < 50 << 20
    client.socket.settimeout(SOON)
    client.hears_status(400)
    client.leaves()
    stage.is_clear()
    stage.serves()


@pytest.mark.parametrize("piece", [b"1\r\nx\r\n", b"0001;a\r\nx\r\n", b"40\r\n%s\r\n" % bytes(64)])
def test_tiny_chunks_hold_nobody_else_up(stage: HttpStage, piece: bytes) -> None:
    """They are passed on for as long as they come, or refused."""
    stage.has_application({"/sink": drains})
    senders = []
    for _ in range(4):
        client = chunked(stage)
        senders.append(Aside(sends_until_it_is_refused, client, piece * 2000, time.monotonic() + 1))
    slowest = 0.0
    while any(sender._thread.is_alive() for sender in senders):
        slowest = max(slowest, seconds_for(stage.serves))
    for sender in senders:
        sender.is_done()
    assert slowest < SOON
    stage.is_clear()


def sends_until_it_is_refused(client: Client, data: bytes, end: float) -> None:
    client.socket.settimeout(0.1)
    while time.monotonic() < end:
        try:
            client.socket.send(data)
        except socket.timeout:
            continue
        except OSError:
            break
    client.leaves()


def seconds_for(what: "Callable[[], None]") -> float:
    began = time.monotonic()
    what()
    return time.monotonic() - began


def test_who_floods_behind_a_refusal_holds_nobody_else_up(stage: HttpStage) -> None:
    """What it sends is dropped, for a moment, as fast as it comes."""
    stage.has_application()
    senders = [Aside(sends_until_it_is_refused, stage.client().says(b"NONSENSE\r\n\r\n"),
                     bytes(1 << 20), time.monotonic() + 1) for _ in range(4)]
    slowest = 0.0
    while any(sender._thread.is_alive() for sender in senders):
        slowest = max(slowest, seconds_for(stage.serves))
    assert slowest < SOON
    stage.is_clear()


def test_a_thousand_requests_of_who_does_not_read_are_answered_when_it_does(
    stage: HttpStage
) -> None:
    """One after the other; until then they stay where they are."""
    size, count = 10000, 1000
    stage.has_application({"/": lambda server: server.says(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))})
    client = stage.narrow_client()
    pipelining = Aside(client.says, get() * count)
    stalls(stage)
    assert stage.only.status()["total"] < count
    assert stage.proxy.call("held") <= 48 * 1024
    stage.serves()
    for _ in range(count):
        client.hears_status(200)
    pipelining.is_done()
    client.leaves()
    assert stage.only.status()["total"] == count + 1
    stage.is_clear()


def stalls(stage: HttpStage) -> None:
    """Nobody is given a further request for a while."""
    before = -1
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline:
        total = stage.only.status()["total"]
        if total == before:
            return
        before = total
        time.sleep(0.3)
    raise AssertionError("it goes on without being read")


#: What a client may have said when it goes.
MOMENTS = [
    b"", get()[:20], post("/sink", b"Content-Length: 10") + b"xx",
    post("/sink", b"Transfer-Encoding: chunked") + b"8\r\nxx", get("/half"), get("/long"),
]

#: Only a reset tells that one who has asked is not there any more (test_http_timeouts.py).
MOMENTS_OF_RESETS = [*MOMENTS, get("/never"), get("/never") + get()]


def behaviours() -> "Dict[str, Behaviour]":
    """Of an application that lets everybody wait, until they go."""

    def half(server: Peer) -> str:
        server.says(HELLO[:-2])
        return drains(server)

    def long(server: Peer) -> str:
        server.says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            server.says(bytes(1 << 20))

    return {"/sink": drains, "/never": drains, "/half": half, "/long": long}


@pytest.mark.parametrize("way", ["resets", "leaves"])
def test_nothing_is_left_of_clients_that_go_at_any_moment(stage: HttpStage, way: str) -> None:
    stage.has_application(behaviours())
    choice = random.Random(way)
    moments = MOMENTS_OF_RESETS if way == "resets" else MOMENTS
    for _ in range(6):
        clients: List[Client] = []
        for _ in range(25):
            client = stage.client()
            client.says(choice.choice(moments))
            if choice.random() < 0.5:
                # It may go before it was noticed.
                getattr(client, way)()
            else:
                clients.append(client)
        choice.shuffle(clients)
        for client in clients:
            getattr(client, way)()
        stage.serves()
    stage.is_clear()
    assert stage.own_answers() == [0] * 5


def test_who_goes_while_it_waits_for_an_instance_is_answered_nothing(stage: HttpStage) -> None:
    """It waits in the queue; that it has gone is no failure of anybody's."""
    stage.listens()
    clients = [stage.client() for _ in range(20)]
    for client in clients:
        client.says(get())
    stage.counts(queue=20)
    for client in clients:
        client.resets()
    stage.counts(queue=0)
    stage.is_clear()
    assert stage.own_answers() == [0] * 5


def test_who_goes_while_its_instance_is_connected_to_is_answered_nothing(
    stage: HttpStage
) -> None:
    stage.listens()
    clogged = stage.instance().comes_up()
    clogged.clogs()
    clients = [stage.client() for _ in range(20)]
    for client in clients:
        client.says(get())
    eventually(lambda: stage.figures()["attempts"] == 20, "they are connecting")
    for client in clients:
        client.resets()
    stage.is_clear()
    assert stage.own_answers() == [0] * 5


# Instances

ANSWERS = {
    "a length": HELLO,
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
              b"5;a\r\nhello\r\n0\r\nX: y\r\n\r\n",
    "an interim one": b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" + HELLO,
}


@pytest.mark.parametrize("abruptly", [False, True])
@pytest.mark.parametrize("name", ANSWERS)
def test_an_instance_that_closes_at_any_byte_gives_no_short_answer(
    stage: HttpStage, name: str, abruptly: bool
) -> None:
    answer = ANSWERS[name]
    cuts: List[int] = []

    def breaks_off(server: Peer) -> str:
        server.says(answer[:cuts[-1]])
        if abruptly:
            # What has been sent is on its way: the reset comes behind it.
            server.resets()
        return "close"

    stage.has_application({"/cut": breaks_off})
    for cut in range(len(answer)):
        cuts.append(cut)
        client = stage.client()
        client.says(post("/cut", b"Content-Length: 0"))
        try:
            heard = until_the_end(client)
        except ConnectionResetError:
            heard = b"reset"
        assert heard == b"reset" or b" 502 " in heard, (cut, heard)
        client.leaves()
    stage.serves()
    stage.is_clear()
    # Each request came once.
    assert stage.only.status()["total"] == len(cuts) + 1


def until_the_end(client: Client) -> bytes:
    """What it hears until the end, or until a whole answer with a length has come."""
    heard = b""
    while True:
        data = client.socket.recv(65536)
        heard += data
        if not data or (b"\r\n\r\n" in heard and b" 502 " in heard):
            return heard


def says_without_end(data: bytes) -> Behaviour:
    def behaviour(server: Peer) -> str:
        while True:
            server.says(data)

    return behaviour


def says_and_waits(data: bytes) -> Behaviour:
    def behaviour(server: Peer) -> str:
        server.says(data)
        return drains(server)

    return behaviour


#: What they say, and the status that their client gets; 0: nothing, or no end.
MISBEHAVING: Dict[str, Tuple[Behaviour, int]] = {
    "/head-without-end": (says_without_end(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100), 502),
    "/line-without-end": (says_without_end(b"HTTP/1.1 200 OK" + b"x" * 10000), 502),
    "/garbage": (says_without_end(b"\x16\x03\x01" * 1000), 502),
    "/two-lengths": (says_and_waits(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n" + HELLO[17:]), 502),
    "/unasked-101": (says_and_waits(b"HTTP/1.1 101 Now\r\nUpgrade: x\r\n\r\n"), 502),
    "/closes": (lambda server: "close", 502),
    "/never": (says_and_waits(b""), 504),
    "/half-a-head": (says_and_waits(HELLO[:12]), 504),
    "/interim": (says_and_waits(b"HTTP/1.1 103 Early Hints\r\n\r\n"), 504),
}


def test_a_hundred_misbehaving_instances_at_once_leave_nothing(stage: HttpStage) -> None:
    stage.is_set(response_timeout=1.0)
    stage.has_application({path: behaviour for path, (behaviour, _) in MISBEHAVING.items()})
    clients = []
    for number in range(108):
        path = sorted(MISBEHAVING)[number % len(MISBEHAVING)]
        clients.append((path, stage.client()))
        clients[-1][1].says(post(path, b"Content-Length: 0"))
    stage.serves()
    for path, client in clients:
        status = client.status()
        while status == 103:
            status = client.status()
        assert (path, status) == (path, MISBEHAVING[path][1])
        client.leaves()
    stage.counts(open=0)
    stage.is_clear()
    stage.serves()


def test_interim_answers_without_end_are_no_answer(stage: HttpStage) -> None:
    """They would keep client and instance busy for ever."""
    stage.has_application({
        "/interim": says_without_end(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000)})
    client = stage.client()
    client.says(get("/interim"))
    heard = b""
    while b" 502 " not in heard:
        heard += client.takes(1)
    assert heard.count(b" 103 ") < 1000
    stage.counts(open=0)
    client.leaves()
    stage.is_clear()
    stage.serves()


def test_an_answer_behind_the_answer_is_nobodys(stage: HttpStage) -> None:
    """It comes with the answer: who asks next would take it for the own one."""
    evil = HELLO.replace(b"hello", b"EVIL!")
    chunks = ANSWERS["chunks"]
    stage.has_application({
        "/twice": lambda server: server.says(HELLO + evil),
        "/chunks": lambda server: server.says(chunks + evil)})
    for _ in range(20):
        client = stage.client()
        client.says(get("/chunks")).hears(chunks)
        for path in ("/twice", "/"):
            client.says(get(path)).hears(HELLO)
        client.leaves()
    stage.is_clear()


def test_an_instance_that_talks_unasked_is_not_listened_to(stage: HttpStage) -> None:
    """A kept connection on which something comes is closed."""
    stage.listens()
    stage.only = stage.instance().comes_up()
    client = stage.client()
    client.says(get())
    server = stage.only.accepts()
    server.says(HELLO)
    client.hears(HELLO)
    server.says(HELLO)
    eventually(lambda: stage.figures()["kept"] == 0, "it is closed")
    client.hears_nothing()


# Shortages


def test_without_descriptors_requests_wait_and_go_on(marked_environment: str) -> None:
    with http_started("--descriptors", "40") as proxy, http_setting(proxy) as stage:
        # Nothing is kept, so each request needs a descriptor of its own.
        stage.is_set(keep_upstream=0)
        stage.has_application()
        clients = [stage.client() for _ in range(4)]
        stage.is_in("IDLE", 4)
        proxy.call("hoard_descriptors")
        for client in clients:
            client.says(get())
        late = [stage.client() for _ in range(3)]
        stage.counts(queue=4)
        before, began = proxy.cpu_seconds(), time.monotonic()
        clients[0].hears_nothing(1.0)
        assert proxy.cpu_seconds() - before < 0.2 * (time.monotonic() - began)
        assert stage.only.state() == "up"
        proxy.call("free_descriptors")
        for client in clients:
            client.hears_status(200)
        for client in late:
            client.is_served()
            client.leaves()
        for client in clients:
            client.leaves()
        assert len(stage.log()) <= 2
        stage.is_clear()


def test_without_room_for_a_watch_a_client_is_told_and_a_place_is_free(stage: HttpStage) -> None:
    """epoll_ctl(2), ENOSPC: at the client, at its instance, at a connect that takes its time."""
    stage.has_application()
    stage.proxy.call("limit_watches", 0)
    stage.client().is_sent_away().leaves()
    stage.proxy.call("limit_watches", 1)
    client = stage.client()
    client.says(get()).hears_status(503)  # type: ignore[attr-defined]
    stage.counts(open=0)
    stage.proxy.call("unlimit_watches")
    client.is_served().leaves()
    stage.only.goes_down()
    clogged = stage.instance().comes_up()
    clogged.clogs()
    client = stage.client()
    stage.is_in("IDLE")
    stage.proxy.call("limit_watches", 0)
    client.says(get()).hears_status(503)  # type: ignore[attr-defined]
    stage.proxy.call("unlimit_watches")
    client.leaves()
    stage.counts(open=0)
    stage.is_clear()
    assert any("no space left" in line for line in stage.log())


# Local ports: in a network of its own, which has only a few


class FarHttpStage(Far, HttpStage):
    pass


@pytest.fixture
def far() -> "Iterator[FarHttpStage]":
    with far_from_here(
            HttpProxy, FarHttpStage, keep_upstream=0, queue_timeout=FOREVER) as stage:
        yield stage


def test_requests_beyond_the_local_ports_wait_for_them(far: FarHttpStage) -> None:
    instance = far.instance().comes_up()
    clients = [far.client() for _ in range(FIRST, LAST + 3)]
    servers = []
    for client in clients[:-2]:
        client.says(post("/", b"Content-Length: 0"))
        servers.append(instance.accepts())
    for client in clients[-2:]:
        client.says(get())
    far.counts(queue=2, connect_errors=0, retries=0)
    assert instance.state() == "up"
    for client, server in zip(clients[:2], servers):
        # With a reset no port is kept back for TIME_WAIT.
        server.resets()
        client.hears_status(502)
    for _ in range(2):
        instance.accepts().says(HELLO)
    for client in clients[-2:]:
        client.hears_status(200)
    assert far.log() == ["clients have to wait: cannot assign requested address"]
