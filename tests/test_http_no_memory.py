"""Memory that runs out in the http mode at one line: nobody hangs, nothing is left.

In the balancer's process, one line after the other of those that serve requests raises MemoryError.
"""

import os
from typing import Dict, Iterator, List

import pytest

from http_stage import Client, HttpProxy, HttpStage, get, http_setting, http_started, post
from peers import PATIENCE, Peer, eventually
from test_http_memory import answers

#: Of the lines so many are passed over each time; none by who looks for more.
STEP = 1 if os.environ.get("PUPGEVENT_TEST_EXPLORE") else 23

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"

#: What a client says in pieces, and how many answers it would get.
SCENES = {
    "plain": [get(), get()],
    "split": [get()[:10], get()[10:], get()[:10], get()[10:]],
    "pipelined": [get() * 3],
    "upload": [post("/up", b"Content-Length: 5"), b"hello"],
    "chunks": [post("/up", b"Transfer-Encoding: chunked"), b"5\r\nhello\r\n", b"0\r\n\r\n"],
    "chunked answer": [get("/chunked"), get("/chunked")],
    "long answer": [get("/100k"), get("/100k")],
    "lost": [get("/close")],
    "garbage": [b"NONSENSE\r\n\r\n"],
    "bad answer": [get("/garbage")],
    "announced": [b"PROXY TCP4 192.0.2.1 ", b"192.0.2.2 1 2\r\n" + get()],
}


def takes_five(server: Peer) -> str:
    heard = b""
    while not heard.endswith((b"hello", b"0\r\n\r\n")):
        heard += server.socket.recv(1000)
    server.says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    return "close"


@pytest.fixture(scope="module")
def failing(marked_environment: str) -> "Iterator[HttpProxy]":
    with http_started() as proxy:
        proxy.forgives("MemoryError")
        yield proxy


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SCENES)
def test_memory_may_run_out_at_any_line(failing: HttpProxy, name: str) -> None:
    """Whoever is served just then is answered or cut off, soon; of him nothing is left, and others
    are served."""
    proxy = failing
    failures: List[str] = []
    believed = ["127.0.0.1"] if name == "announced" else None
    with http_setting(proxy, accept_proxy_from=believed) as stage:
        stage.has_application({
            "/up": takes_five, "/chunked": lambda server: server.says(CHUNKED),
            "/100k": answers(100000), "/close": lambda server: "close",
            "/garbage": lambda server: server.says(b"garbage\r\n\r\n")})
        stage.serves()
        # The very first is of `admit`, before anything is in its hands.
        line = 1
        while True:
            line += STEP
            if line % 2 == 0:
                # With a new connection to the instance, and with a kept one.
                stage.is_set(keep_upstream=0)
                stage.serves()
                stage.is_set(keep_upstream=64)
            proxy.call("fail_at", line)
            hangs = plays(stage, SCENES[name])
            where = proxy.call("stop_failing")
            if not where:
                break
            if hangs:
                failures.append("%s hangs" % where)
            left = what_is_left(stage)
            if left:
                failures.append("%s leaves %s" % (where, left))
            # Each takes seconds, and what is left of one is told of the next as well.
            if len(failures) > 5:
                break
            stage.serves()
        assert not failures, "\n".join(failures)
        assert line > 10 * STEP
        stage.is_clear()


def plays(stage: HttpStage, scene: "List[bytes]") -> bool:
    """One client; true if it hears neither an answer nor an end of what it has begun."""
    client = stage.client()
    client.socket.settimeout(PATIENCE)
    try:
        for number, piece in enumerate(scene):
            client.says(piece)
            if is_end_of_request(scene, number):
                for _ in range(max(1, piece.count(b"GET "))):
                    if not client.hears_anything(0.1):
                        # Each second the loop looks for whom nobody serves any more.
                        stage.proxy.call("sweep")
                    if not hears_an_answer(client):
                        return False
            else:
                client.hears_nothing(0.002)
    except (ConnectionError, AssertionError):
        pass
    except OSError:
        return True
    finally:
        client.leaves()
    return False


def is_end_of_request(scene: "List[bytes]", number: int) -> bool:
    last = number + 1 == len(scene)
    return last or (scene[number].endswith(b"\r\n\r\n") and scene[number + 1][:4] == b"GET ")


def hears_an_answer(client: Client) -> bool:
    """False at the end. OSError: it comes to nothing."""
    head = client.takes_up_to(b"\r\n\r\n")
    if b"chunked" in head:
        end = b"0\r\n\r\n"
        return client.takes_up_to(end).endswith(end)
    length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0] or 0)
    return head.endswith(b"\r\n\r\n") and len(client.takes(length)) == length


def what_is_left(stage: HttpStage) -> "Dict[str, int]":
    def is_clear() -> bool:
        stage.proxy.call("sweep")
        return not stage.left()

    try:
        eventually(is_clear, "nothing is left")
    except AssertionError:
        return stage.left()
    return {}
