"""Memory that runs out at one line while a client of TLS is served, with tcp and with http.

As test_http_no_memory.py; and whatever has happened to one, nothing of it lies in the two buffers
that all share: others are served.
"""

import linecache
import os
import socket
from typing import Dict, Iterator, List

import pytest

from certificates import Made
from conftest import ROOT
from http_stage import HttpProxy, get, http_started, post
from peers import eventually
from secure_peers import SecureHttpStage, setting_secure_http
from test_http_memory import answers
from test_http_no_memory import CHUNKED, hears_an_answer, is_end_of_request, takes_five

pytest_plugins = ["secure_stages"]

#: Of the lines so many are passed over each time; none by who looks for more.
STEP = 1 if os.environ.get("PUPGEVENT_TEST_EXPLORE") else 31

#: Seconds without a byte after which one hangs: the balancer has swept then.
HANGING = 10.0

#: What a client says in pieces.
SCENES = {
    "plain": [get(), get()],
    "split": [get()[:10], get()[10:]],
    "upload": [post("/up", b"Content-Length: 5"), b"hello"],
    "long answer": [get("/100k"), get("/100k")],
    "early": [post("/early", b"Content-Length: 100000"), bytes(50000), get()],
}


@pytest.fixture(scope="module")
def failing(marked_environment: str) -> "Iterator[HttpProxy]":
    with http_started() as proxy:
        proxy.forgives("MemoryError")
        yield proxy


@pytest.mark.timeout(300)
@pytest.mark.parametrize("version, protocol, name", [
    ("TLSv1.3", "tcp", "plain"), ("TLSv1.2", "tcp", "long answer"), ("TLSv1.3", "tcp", "upload"),
    ("TLSv1.3", "http", "plain"), ("TLSv1.2", "http", "split"), ("TLSv1.3", "http", "long answer"),
    ("TLSv1.3", "http", "early"),
])
def test_memory_may_run_out_at_any_line_of_tls(
    failing: HttpProxy, made: Made, version: str, protocol: str, name: str
) -> None:
    proxy = failing
    failures: List[str] = []
    with setting_secure_http(proxy, made, protocol=protocol, head_timeout=1.0) as stage:
        stage.version = version
        stage.has_application({
            "/up": takes_five, "/chunked": lambda server: server.says(CHUNKED),
            "/100k": answers(100000),
            "/early": lambda server: server.says(
                b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno") and "close"})
        stage.serves()
        line = 1
        while True:
            line += STEP
            proxy.call("fail_at", line)
            hangs = plays(stage, SCENES[name])
            where = proxy.call("stop_failing")
            if not where:
                break
            if hangs and not is_in_nobodys_hands(where):
                failures.append("%s hangs" % where)
            left = what_is_left(stage)
            if left:
                failures.append("%s leaves %s" % (where, left))
            if len(failures) > 5:
                break
            try:
                stage.serves()
            except (OSError, AssertionError) as error:
                failures.append("%s does harm to another: %r" % (where, error))
                break
        assert not failures, "\n".join(failures)
        assert line > 10 * STEP


def is_in_nobodys_hands(where: str) -> bool:
    """There a client has only just been accepted, or goes from one to the next."""
    name, line = where.split(":")
    words = linecache.getline(str(ROOT / name), int(line))
    return name == "listener.py" or ".admit(" in words or ".take_in(" in words


def plays(stage: SecureHttpStage, scene: "List[bytes]") -> bool:
    """One client; true if it hears neither an answer nor an end of what it has begun."""
    channel = stage.channel()
    # Each second the loop looks for whom nobody serves any more.
    channel.on_wait = lambda: stage.proxy.call("sweep")
    channel.settimeout(HANGING)
    try:
        client = stage.kind(channel.handshake(), stage.status)  # type: ignore[arg-type]
        for number, piece in enumerate(scene):
            client.says(piece)
            if not is_end_of_request(scene, number):
                client.hears_nothing(0.002)
            elif not hears_an_answer(client):
                return False
        client.says_its_end()
        client.hears_the_end()
    except socket.timeout:
        return True
    except (OSError, AssertionError):
        pass
    finally:
        channel.close()
    return False


def what_is_left(stage: SecureHttpStage) -> "Dict[str, int]":
    def left() -> "Dict[str, int]":
        stage.proxy.call("sweep")
        if stage.settings["protocol"] == "http":
            return stage.left()
        figures = stage.figures()
        names = ("connections", "attempts", "queue", "assigned", "pipes_lent", "ends",
                 "secure_ends", "sessions", "newcomers", "ciphertext")
        return {name: figures[name] for name in names if figures[name]}

    try:
        eventually(lambda: not left(), "nothing is left", 5.0)
    except AssertionError:
        return left()
    return {}
