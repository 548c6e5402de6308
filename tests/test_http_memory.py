"""Memory in the http mode: what each kind of client takes, and what becomes of all when it is out.

`pytest -s tests/test_http_memory.py` prints the figures.
"""

import resource
import select
import sys
import time
from typing import Any, Callable, Dict, Iterator, List

import pytest

from http_stage import (
    Behaviour,
    Client,
    HttpStage,
    get,
    http_setting,
    http_started,
    post,
)
from peers import PATIENCE, Peer, eventually

#: Bytes of ours for a client that does nothing, and for any other.
IDLE_BYTES, MOST_BYTES = 2 * 1024, 48 * 1024

#: Descriptors that this process needs for itself.
OWN_DESCRIPTORS = 200


def idle_clients() -> int:
    return min(2000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OWN_DESCRIPTORS)


def waits(server: Peer) -> str:
    while server.socket.recv(1 << 20):
        pass
    return "close"


def takes_nothing(server: Peer) -> str:
    """It reads nothing any more, and goes when its listener has gone."""
    while select.select([], [], [server.socket], 1.0) == ([], [], []):
        try:
            server.socket.getpeername()
        except OSError:
            break
    return "close"


def answers(size: int) -> Behaviour:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
    return lambda server: server.says(answer)


def answers_in_chunks(size: int, count: int) -> Behaviour:
    chunk = b"%x\r\n%s\r\n" % (size, bytes(size))
    answer = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * count
              + b"0\r\n\r\n")
    return lambda server: server.says(answer)


@pytest.fixture
def stage(marked_environment: str) -> "Iterator[HttpStage]":
    """In a process of its own, whose memory is of nobody else."""
    with http_started() as proxy, http_setting(proxy) as stage:
        stage.has_application({
            "/wait": waits, "/long": answers(5000000), "/100k": answers(100000),
            "/chunks": answers_in_chunks(1000, 5000), "/10k": answers(10000),
            "/interim": lambda server: [server.says(
                b"HTTP/1.1 103 Early Hints\r\nX: " + b"y" * 2000 + b"\r\n\r\n")
                for _ in range(10000)]})
        yield stage


def memory_of_each(
    stage: HttpStage, count: int, comes: "Callable[[], Client]", settled: "Callable[[], bool]"
) -> int:
    """Bytes of the process for each client of a kind. A first one brings what all share."""
    first = [comes() for _ in range(3)]
    for _ in range(5):
        stage.serves()
    settles(stage)
    before = stage.proxy.call("memory")
    clients = [comes() for _ in range(count)]
    eventually(settled, "all have come")
    settles(stage)
    grown = (stage.proxy.call("memory") - before) // count
    for client in first + clients:
        client.resets()
    stage.is_clear()
    stage.serves()
    return int(grown)


def settles(stage: HttpStage) -> None:
    """Nothing is written and nothing read for a while."""
    before = -1.0
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        now = stage.proxy.cpu_seconds()
        if now - before < 0.02:
            return
        before = now
        time.sleep(0.2)


@pytest.mark.parametrize("kind", ["fresh", "answered"])
def test_a_client_that_does_nothing_takes_little(
    stage: HttpStage, kind: str, record_property: "Callable[[str, object], None]"
) -> None:
    count = idle_clients()

    def comes() -> Client:
        client = stage.client()
        return client if kind == "fresh" else client.is_served()

    each = memory_of_each(stage, count, comes, lambda: stage.figures()["clients"] == count + 3)
    tell(record_property, "idle, " + kind, each)
    assert each <= IDLE_BYTES


#: What they say, and then they read nothing.
SAID: "Dict[str, bytes]" = {
    "half a head": get()[:-2] + b"X: " + b"x" * 30000,
    "a head byte by byte": get()[:-2],
    "no answer yet": get("/wait"),
    "half a body": post("/wait", b"Content-Length: 100000") + b"x" * 50000,
    "half a chunk's line": post("/wait", b"Transfer-Encoding: chunked") + b"1" + b";a" * 100,
    "half a trailer": post("/wait", b"Transfer-Encoding: chunked") + b"0\r\nX: " + b"x" * 8000,
    "pipelined behind it": get("/wait") + get() * 500,
    "a long answer": get("/long"),
    "chunks": get("/chunks"),
    "answers of 10 KB": get("/10k") * 1000,
    "answers of 100 KB": get("/100k") * 200,
    "an answer behind a long one": get("/100k") + get("/long"),
    "interim answers": get("/interim"),
}


@pytest.mark.parametrize("name", SAID)
def test_memory_of_a_client_is_bounded_whatever_it_does(
    stage: HttpStage, name: str, record_property: "Callable[[str, object], None]"
) -> None:
    """All of them read nothing, and their kernel takes little for them."""
    # More than there are pipes, where it may lie in one.
    count = 200 if name == "a long answer" else 30

    def comes() -> Client:
        client = stage.narrow_client()
        client.socket.setblocking(False)
        left = SAID[name]
        while left and select.select([], [client.socket], [], 0.05)[1]:
            left = left[client.socket.send(left):]
        client.socket.settimeout(PATIENCE)
        return client

    each = memory_of_each(stage, count, comes, lambda: stage.figures()["clients"] == count + 3)
    tell(record_property, name, each)
    assert each <= MOST_BYTES


def test_memory_of_an_upload_that_is_not_taken_is_bounded(
    stage: HttpStage, record_property: "Callable[[str, object], None]"
) -> None:
    stage.applications[0].behaviours["/wait"] = takes_nothing
    count = 20

    def comes() -> Client:
        client = stage.client()
        client.says(post("/wait", b"Content-Length: 1000000000"))
        client.socket.setblocking(False)
        block = bytes(1 << 20)
        while select.select([], [client.socket], [], 0.05)[1]:
            client.socket.send(block)
        return client

    each = memory_of_each(stage, count, comes, lambda: stage.figures()["clients"] == count + 3)
    tell(record_property, "an upload that is not taken", each)
    assert each <= MOST_BYTES


def tell(record_property: "Callable[[str, object], None]", kind: str, each: int) -> None:
    print("%-30s %6d bytes each" % (kind, each))
    record_property("memory: " + kind, each)


# None at all


@pytest.mark.skipif(sys.version_info < (3, 11), reason=(
    "not to be relied on there: the process may not have the memory to tell that it has none"))
@pytest.mark.timeout(300)
def test_a_balancer_that_had_no_memory_serves_as_before_when_it_has_some(
    stage: HttpStage
) -> None:
    """None at all for some seconds, in which clients come, ask and leave."""
    old = [stage.client().is_served() for _ in range(20)]
    slow = [stage.client().says(get("/wait")) for _ in range(5)]
    proxy = stage.proxy
    proxy.gorges()
    end = time.monotonic() + 3
    clients: List[Any] = []
    while time.monotonic() < end:
        try:
            clients.append(stage.client())
        except OSError:
            pass  # turned away at once
        for client in clients[-1:] + old:
            try:
                client.socket.setblocking(False)
                client.socket.send(get())
            except OSError:
                pass  # cut off, or its answers are not read
        time.sleep(0.02)
    proxy.feeds()
    for client in slow:
        client.resets()
    for client in clients + old:
        client.leaves()
    eventually(lambda: is_served(stage), "somebody is served", 2 * PATIENCE)
    for _ in range(20):
        stage.serves()
    stage.is_clear()
    # Where there is not even memory to call a callback of ours, the loop tells of it.
    proxy.forgives("MemoryError")


def is_served(stage: HttpStage) -> bool:
    try:
        stage.serves()
    except (OSError, AssertionError):
        return False
    return True
