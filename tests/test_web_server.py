"""HTTP within limits: so many connections, so much memory, so much time, and no traceback."""

import errno
import os
import time
from typing import Any, Callable, Dict, Iterator, List

import gevent
import gevent.socket
import pytest

import sockets
import web_server
from asking import codes
from concurrency import TokenBucket
from supervision import PATIENCE, cpu_seconds, wait_until
from test_background_loader import turns
from web_server import LARGE, MOST_CONNECTIONS, MOST_LARGE, Share, WebServer

REQUEST = b"GET /x?y=1 HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

#: More than all buffers of a connection hold.
PARTS = [bytes(1 << 16)] * 400


class Serving:
    """A web server in this process, and what it has warned of."""

    def __init__(self, *body: bytes) -> None:
        self.body = list(body)
        self.warnings: List[str] = []
        self.requests: List[Dict[str, Any]] = []
        self.fails: List[BaseException] = []
        listener = sockets.listen("127.0.0.1", 0)
        self.address = listener.getsockname()
        self.server = WebServer(listener, self.answer, self.warnings.append)
        self.server.start()

    def answer(self, environ: Dict[str, Any], start_response: Any, share: Share) -> List[bytes]:
        self.requests.append(environ)
        if self.fails:
            raise self.fails.pop()
        start_response("200 OK", [("Content-Length", str(sum(map(len, self.body))))])
        return self.body

    def connect(self) -> Any:
        return gevent.socket.create_connection(self.address, PATIENCE)

    def ask(self, data: bytes = LAST) -> bytes:
        """All that is answered until the end."""
        with self.connect() as client:
            client.sendall(data)
            return hear(client)

    def serves(self) -> bool:
        try:
            return codes(self.ask()) == [200]
        except OSError:
            return False


def hear(client: Any) -> bytes:
    pieces = []
    try:
        while True:
            pieces.append(client.recv(1 << 20))
            if not pieces[-1]:
                break
    except ConnectionResetError:
        pass
    return b"".join(pieces)


@pytest.fixture
def serving(capfd: Any) -> Iterator[Callable[..., Serving]]:
    """`serving(body)`: one that answers with it. In the end nothing is left of it, and nothing was
    printed."""
    made: List[Serving] = []

    def make(*body: bytes) -> Serving:
        made.append(Serving(*body or (b"hello",)))
        return made[-1]

    before = len(os.listdir("/proc/self/fd"))
    with gevent.Timeout(3 * PATIENCE):
        yield make
        for each in made:
            each.server.close()
            each.server.close()
            wait_until(lambda: not each.server._open)  # noqa: B023
            with pytest.raises(ConnectionRefusedError):
                each.connect()
        wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)
    assert capfd.readouterr().err == ""


# Connections


def test_requests_on_one_connection_are_answered_one_after_the_other(serving: Any) -> None:
    stage = serving()
    assert codes(stage.ask(REQUEST * 300 + LAST + REQUEST)) == [200] * 301
    assert [each["PATH_INFO"] for each in stage.requests] == ["/x"] * 301
    assert stage.requests[0]["QUERY_STRING"] == "y=1"


@pytest.mark.parametrize("head, stays", [
    ("HTTP/1.1", True), ("HTTP/1.1\r\nConnection: keep-alive", True),
    ("HTTP/1.1\r\nConnection: close", False), ("HTTP/1.1\r\nConnection: CLOSE", False),
    ("HTTP/1.0", False), ("HTTP/1.0\r\nConnection: keep-alive", True),
])
def test_a_connection_stays_where_the_client_wants_it(
    serving: Any, head: str, stays: bool
) -> None:
    stage = serving()
    with stage.connect() as client:
        client.sendall(b"GET / %s\r\n\r\n" % head.encode())
        answer = b""
        while b"hello" not in answer:
            answer += client.recv(1000)
        client.settimeout(0.1 if stays else PATIENCE)
        try:
            assert client.recv(1) == b"" and not stays
        except OSError:
            assert stays


def test_an_http_of_long_ago_is_answered(serving: Any) -> None:
    assert serving().ask(b"GET /\r\n\r\n").endswith(b"\r\n\r\nhello")


def test_only_so_many_are_connected_and_the_oldest_makes_room(serving: Any) -> None:
    stage = serving()
    clients = []
    for number in range(MOST_CONNECTIONS + 10):
        clients.append(stage.connect())
        count = min(number + 1, MOST_CONNECTIONS)
        wait_until(lambda: len(stage.server._open) == count)  # noqa: B023
    for client in clients[:10]:
        assert client.recv(1) == b""
    for client in clients[10:]:
        client.sendall(LAST)
        assert codes(hear(client)) == [200]
    for client in clients:
        client.close()


def test_who_is_silent_or_slow_is_disconnected(
    serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_server, "_STEP_TIMEOUT", 0.2)
    stage = serving()
    for said in (b"", b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX"):
        with stage.connect() as client:
            client.sendall(said)
            # In the middle of a head it is told why.
            assert codes(hear(client)) in ([], [400])
    # Between two requests, too.
    with stage.connect() as client:
        client.sendall(REQUEST)
        assert codes(hear(client)) == [200]


def test_who_dribbles_has_as_long_as_everybody(
    serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_server, "_REQUEST_TIMEOUT", 0.5)
    stage = serving(*PARTS)
    with stage.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nX: ")

        def dribble() -> None:
            try:
                while True:
                    client.sendall(b"a")
                    gevent.sleep(0.02)
            except OSError:
                pass

        dribbling = gevent.spawn(dribble)
        assert hear(client) == b""
        dribbling.join()
    # The same for reading.
    with stage.connect() as client:
        client.sendall(REQUEST)
        wait_until(lambda: stage.requests and not stage.server._open)
        assert len(hear(client)) < sum(map(len, PARTS))


def test_clients_that_do_not_read_keep_so_much_memory_and_no_more(serving: Any) -> None:
    stage = serving(*PARTS)
    assert sum(map(len, PARTS)) > LARGE
    clients = [stage.connect() for _ in range(3 * MOST_LARGE)]
    for number, client in enumerate(clients, 1):
        client.sendall(REQUEST)
        wait_until(lambda: len(stage.requests) == number)  # noqa: B023
        assert len(stage.server._large) <= MOST_LARGE
    wait_until(lambda: len(stage.server._open) == MOST_LARGE)
    # Somebody who reads gets all of it.
    assert len(stage.ask()) > sum(map(len, PARTS))
    # And so does one who begins late, as he is one of the last.
    assert len(clients[-1].recv(1 << 20)) > 0
    for client in clients:
        client.close()
    wait_until(lambda: not stage.server._large)


def test_who_leaves_in_the_middle_leaves_nothing(serving: Any) -> None:
    stage = serving(*PARTS)
    body = b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"
    for said in (b"", b"GET", REQUEST, REQUEST * 50, body):
        for _ in range(5):
            client = stage.connect()
            client.sendall(said)
            if said == REQUEST:
                client.recv(10)
            client.close()
    wait_until(lambda: not stage.server._open)


# What is said


@pytest.mark.parametrize("data", [
    b"\r\n\r\n", b"\0\0\0\r\n\r\n", b"\xff\xfe\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1\r\n\r\n", b"GET / HTTP/x.y\r\n\r\n", b"GET / FTP/1.1\r\n\r\n", b"X /\r\n\r\n",
    b"GET / / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n",
    b"GET / HTTP/1.1\r\nX: " + b"y" * 20000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + (b"X: " + b"y" * 1000 + b"\r\n") * 20 + b"\r\n",
], ids=repr)  # fmt: skip
def test_what_is_no_request_is_told_so_and_is_worth_no_line(serving: Any, data: bytes) -> None:
    stage = serving()
    said = stage.ask(data + REQUEST)
    # Who says more than is read may miss the answer.
    assert codes(said) == [400] or (len(data) > 8192 and said == b"")
    assert not stage.requests and not stage.warnings
    assert stage.serves()


def assert_cut_off(client: Any, more: bytes) -> None:
    """It is disconnected long before it has sent a quarter of a gigabyte."""
    sent = 0
    with pytest.raises(OSError):
        while sent < 1 << 28:
            sent += client.send(more)


@pytest.mark.parametrize("start", [
    b"", b"GET /", b"GET / HTTP/1.1\r\nX", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\nX: y\r\n ",
], ids=repr)
def test_what_does_not_end_is_not_read_to_its_end(serving: Any, start: bytes) -> None:
    stage = serving()
    with stage.connect() as client:
        client.sendall(start)
        assert_cut_off(client, b"x" * 65536)
    assert not stage.requests and stage.serves()


@pytest.mark.parametrize("data", [
    b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(REQUEST),
    b"GET / HTTP/1.1\r\nContent-Length: 7\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\nffffffffffffffff\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nzz\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\n",
], ids=repr)
def test_a_body_is_not_read_and_what_is_in_it_is_no_request(serving: Any, data: bytes) -> None:
    stage = serving()
    assert codes(stage.ask(data + REQUEST)) == [200]
    assert len(stage.requests) == 1
    with stage.connect() as client:
        client.sendall(data)
        assert_cut_off(client, b"0\r\n" * 20000)
    assert stage.serves()


def test_a_bug_is_told_by_its_place_once_a_minute_and_its_client_gets_a_500(serving: Any) -> None:
    stage = serving()
    for _ in range(3):
        stage.fails.append(ValueError("s3cret"))
        assert codes(stage.ask()) == [500]
    (line,) = stage.warnings
    assert line.startswith("a request met a bug in test_web_server.py, line ")
    assert stage.serves()


@pytest.mark.parametrize("error", [MemoryError(), OSError("gone"), gevent.GreenletExit(),
                                   gevent.Timeout(1)],
                         ids=lambda error: type(error).__name__)
def test_what_ends_a_request_ends_its_connection_alone(
    serving: Any, error: BaseException
) -> None:
    stage = serving()
    stage.fails.append(error)
    assert stage.ask(REQUEST * 2) == b""
    assert not stage.warnings and len(stage.requests) == 1
    assert stage.serves()


# Shortages


class Lacking:
    """A listening socket that finds no room for what waits, so many times."""

    def __init__(self, socket: Any, error: BaseException, times: int) -> None:
        self.socket = socket
        self.error = error
        self.times = times

    def _accept(self) -> Any:
        if self.times:
            self.times -= 1
            raise self.error
        return self.socket._accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.socket, name)


@pytest.mark.parametrize("error", [
    MemoryError(), OSError(errno.EMFILE, ""), OSError(errno.ENFILE, ""), OSError(errno.ENOBUFS, ""),
    OSError(errno.ECONNABORTED, ""),
], ids=repr)
def test_it_accepts_again_when_a_shortage_is_over(serving: Any, error: BaseException) -> None:
    """Without a thousand accepts in vain meanwhile."""
    stage = serving()
    lacking = stage.server.socket = Lacking(stage.server.socket, error, 3)
    with stage.connect() as client:
        client.sendall(LAST)
        assert codes(hear(client)) == [200]
    assert lacking.times == 0


def test_descriptors_that_others_need_are_left_to_them(
    serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = serving()
    stage.server._ceiling = 3
    with stage.connect() as client:
        assert hear(client) == b""
    assert not stage.server._open
    stage.server._ceiling = 1 << 20
    wait_until(stage.serves)


@pytest.mark.parametrize("name", ["_Connection", "_Handler", "_Incoming", "Share"])
def test_who_comes_when_there_is_no_memory_is_disconnected(
    serving: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    stage = serving()

    def exhausted(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(web_server, name, exhausted)
        if name == "_Handler":
            patch.setattr(WebServer, "handler_class", exhausted)
        if name == "_Connection":
            patch.setattr(WebServer, "connection_class", exhausted)
        for _ in range(3):
            assert stage.ask() == b""
    wait_until(stage.serves)
    wait_until(lambda: not stage.server._open)


def test_it_accepts_again_also_where_even_that_has_failed(
    serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = serving()
    failures = [1, 2, 3]
    accept = stage.server.start_accepting

    def start_accepting() -> None:
        if failures:
            failures.pop()
            raise MemoryError
        accept()

    monkeypatch.setattr(stage.server, "start_accepting", start_accepting)
    stage.server.stop_accepting()
    wait_until(stage.serves)
    assert not failures


# The share of the hub


def work(seconds: float) -> None:
    end = cpu_seconds() + seconds
    while cpu_seconds() < end:
        pass


def test_long_work_is_done_in_slices_that_are_paid_for() -> None:
    with turns() as found:
        began = time.monotonic()
        assert list(Share(TokenBucket())(worked(range(100)))) == list(range(100))
        took = time.monotonic() - began
    # It has worked for 100 ms, and had a fifth of the time, and 20 ms at once.
    assert took > (sum(found) - 0.02) * 4
    assert max(found) < sum(found) / 5, sorted(found)[-5:]


def test_short_loops_after_each_other_are_done_in_slices_too() -> None:
    share = Share(TokenBucket())
    with turns() as found:
        for _ in range(100):
            assert list(share(worked([1]))) == [1]
    assert max(found) < sum(found) / 5, sorted(found)[-5:]


def worked(items: Any) -> Iterator[Any]:
    for each in items:
        work(0.001)
        yield each


def test_the_waits_of_a_loop_are_no_work_of_the_loop_around_it() -> None:
    bucket = TokenBucket()
    share = Share(bucket)
    drawn: List[float] = []
    delay_after = bucket.delay_after

    def noted(began: float, ended: float) -> float:
        drawn.append(ended - began)
        return delay_after(began, ended)

    bucket.delay_after = noted  # type: ignore[method-assign]
    began = time.monotonic()
    for _ in share(range(2)):
        for _ in share(worked(range(50))):
            pass
    # For four fifths of the time it has waited, less what it may have at once.
    assert sum(drawn) < (time.monotonic() - began) / 2


def test_work_too_short_for_a_slice_is_paid_for_by_the_next_one(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_server, "SLICE", 1e9)
    bucket = TokenBucket()
    for _ in range(100):
        assert list(Share(bucket)(worked([1]))) == [1]
    now = time.monotonic()
    assert bucket.delay_after(now, now) > 0.1


def test_an_error_in_a_slice_ends_it(serving: Any) -> None:
    share = Share(TokenBucket())
    with pytest.raises(ZeroDivisionError):
        list(share(1 // each for each in (1, 0)))
    assert share._depth == 0
