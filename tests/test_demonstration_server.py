"""The demonstration application does what the README says of a well-behaved one."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
import toml

from conftest import eventually

CONF = Path(__file__).resolve().parent.parent / "conf"
#: Seconds for anything that is to happen.
PATIENCE = 60.0
EMPTY_REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


class Demonstration:
    """A running `conf/server.py`; with so much patience that nobody here is parted from by time."""

    def __init__(self, port: int, patience: float = 10 * PATIENCE) -> None:
        self.port = port
        environment = dict(os.environ, PUP_CLUSTER_PORT=str(port), PUP_CLUSTER_INSTANCE="2")
        program = "import server; server.IDLE_TIMEOUT = %r; server.Server().run()" % patience
        self.process = subprocess.Popen([sys.executable, "-c", program], cwd=str(CONF),
                                        env=environment, stderr=subprocess.PIPE)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def client(self) -> http.client.HTTPConnection:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        client.connect()
        return client

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self) -> int:
        return self.process.wait(PATIENCE)

    def is_up(self) -> bool:
        self.connect().close()
        return True

    def has_closed_its_port(self) -> bool:
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return True
        return False


@contextlib.contextmanager
def demonstrating(demonstration: Demonstration) -> Iterator[Demonstration]:
    eventually(demonstration.is_up)
    yield demonstration
    demonstration.process.kill()
    _, complaints = demonstration.process.communicate()
    assert complaints == b""


@pytest.fixture
def server(free_port: Callable[[], int]) -> Iterator[Demonstration]:
    with demonstrating(Demonstration(free_port())) as demonstration:
        yield demonstration


def ask(client: http.client.HTTPConnection, path: str = "/", method: str = "GET",
        body: "bytes | None" = None) -> "tuple[http.client.HTTPResponse, bytes]":
    client.request(method, path, body)
    response = client.getresponse()
    return response, response.read()


def read_all(client: socket.socket) -> bytes:
    pieces = iter(lambda: client.recv(65536), b"")
    return b"".join(pieces)


def test_answer_names_instance_port_pid_and_request(server: Demonstration) -> None:
    client = server.client()
    for number in (1, 2):
        response, body = ask(client)
        assert response.status == 200
        assert body.decode() == "Hello from instance 2 (port %d, pid %d), request %d\n" % (
            server.port, server.process.pid, number)
    client.close()


def test_post_is_answered_with_length_and_checksum(server: Demonstration) -> None:
    client, sent = server.client(), os.urandom(300000)
    _, body = ask(client, "/upload", "POST", sent)
    assert body.decode() == "Received 300000 bytes, CRC-32 %08x\n" % zlib.crc32(sent)
    client.close()


def test_head_has_the_length_and_no_body(server: Demonstration) -> None:
    client = server.client()
    response, body = ask(client, "/bytes/1000", "HEAD")
    assert (response.getheader("Content-Length"), body) == ("1000", b"")
    assert ask(client)[0].status == 200
    client.close()


@pytest.mark.parametrize("size", [0, 1, 65536, 5000000])
def test_bytes_sends_as_many_as_asked(server: Demonstration, size: int) -> None:
    client = server.client()
    assert ask(client, "/bytes/%d" % size)[1] == b"x" * size
    client.close()


@pytest.mark.parametrize("path", ["/nowhere", "/bytes/", "/bytes/-1", "/bytes/²", "/slow/soon"])
def test_unknown_path_is_not_found(server: Demonstration, path: str) -> None:
    with server.connect() as client:
        client.sendall(("GET %s HTTP/1.0\r\n\r\n" % path).encode())
        assert read_all(client).startswith(b"HTTP/1.1 404 ")


def test_unknown_method_is_not_allowed(server: Demonstration) -> None:
    client = server.client()
    assert ask(client, "/", "DELETE")[0].status == 405
    client.close()


@pytest.mark.parametrize("request_bytes", [
    b"what is this\r\n\r\n",
    b"GET /\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: some\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nLong: " + b"x" * 1000000,
], ids=["words", "no-version", "no-number", "negative", "chunked", "too-long"])
def test_request_it_cannot_follow_is_refused_and_the_refusal_arrives(
        server: Demonstration, request_bytes: bytes) -> None:
    with server.connect() as client:
        client.sendall(request_bytes)
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nConnection: close\r\n" in answer


def test_http_1_0_client_is_closed_after_its_answer_unless_it_asks_to_stay(
        server: Demonstration) -> None:
    with server.connect() as client:
        client.sendall(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert b"\r\nConnection: keep-alive\r\n" in client.recv(65536)
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"\r\nConnection: close\r\n" in read_all(client)


def test_client_that_expects_100_continue_is_told_to(server: Demonstration) -> None:
    with server.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        assert b"Received 5 bytes" in client.recv(65536)


def test_client_that_leaves_in_the_middle_of_its_body_harms_nobody(server: Demonstration) -> None:
    with server.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhel")
    with server.connect() as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert read_all(client).startswith(b"HTTP/1.1 200 ")


def test_without_connections_sigterm_ends_it_at_once(server: Demonstration) -> None:
    """It has patience for longer than it is waited for here."""
    server.terminate()
    assert server.exit_code() == 0


def test_what_is_in_flight_at_sigterm_is_finished(server: Demonstration) -> None:
    client, upload = server.client(), server.connect()
    client.request("GET", "/slow/0.5")
    upload.sendall(b"POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\nhal")
    server.terminate()
    eventually(server.has_closed_its_port)
    upload.sendall(b"ves")
    assert b"Received 6 bytes" in read_all(upload)
    upload.close()
    response = client.getresponse()
    assert (response.status, response.getheader("Connection")) == (200, "close")
    assert response.read() == b"That took a while\n"
    assert server.exit_code() == 0


def test_request_after_sigterm_on_an_open_connection_is_answered_with_close(
        server: Demonstration) -> None:
    client = server.client()
    assert ask(client)[0].getheader("Connection") == "keep-alive"
    server.terminate()
    eventually(server.has_closed_its_port)
    response, _ = ask(client)
    assert (response.status, response.getheader("Connection")) == (200, "close")
    client.close()
    assert server.exit_code() == 0


def test_what_waits_in_the_listen_queue_at_sigterm_is_answered(server: Demonstration) -> None:
    server.process.send_signal(signal.SIGSTOP)
    waiting = [server.connect() for _ in range(100)]
    for client in waiting:
        client.sendall(EMPTY_REQUEST)
    server.terminate()
    server.process.send_signal(signal.SIGCONT)
    answers = [read_all(client) for client in waiting]
    for client in waiting:
        client.close()
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    assert server.exit_code() == 0


def test_pipelined_requests_are_all_answered_when_sigterm_comes(server: Demonstration) -> None:
    with server.connect() as client:
        client.sendall(EMPTY_REQUEST.replace(b"/ ", b"/slow/0.5 ") + EMPTY_REQUEST * 2)
        server.terminate()
        eventually(server.has_closed_its_port)
        answers = read_all(client)
    assert answers.count(b"HTTP/1.1 200 ") == 3
    assert answers.count(b"\r\nConnection: close\r\n") == 1
    assert server.exit_code() == 0


def test_keep_alive_load_at_sigterm_loses_no_request(server: Demonstration) -> None:
    outcomes: List[str] = []
    answered = [0] * 20

    def ask_until_told_to_leave(place: int) -> None:
        client = server.client()
        try:
            while True:
                response, _ = ask(client, "/bytes/1000")
                answered[place] += 1
                if response.getheader("Connection") == "close":
                    outcomes.append("left")
                    break
        except (OSError, http.client.HTTPException) as error:
            outcomes.append(repr(error))
        finally:
            client.close()

    clients = [threading.Thread(target=ask_until_told_to_leave, args=(place,))
               for place in range(len(answered))]
    for client in clients:
        client.start()
    eventually(lambda: min(answered) >= 10)
    server.terminate()
    for client in clients:
        client.join()
    assert outcomes == ["left"] * len(clients)
    assert server.exit_code() == 0


def test_idle_client_that_nobody_closes_does_not_keep_a_stopping_server(
        free_port: Callable[[], int]) -> None:
    impatient = Demonstration(free_port(), patience=0.2)
    with demonstrating(impatient) as server, server.connect() as idle:
        idle.sendall(EMPTY_REQUEST)
        idle.recv(65536)
        server.terminate()
        assert read_all(idle) == b""
        assert server.exit_code() == 0


def test_the_json_example_says_what_the_toml_example_says() -> None:
    seed: Dict[str, Any] = {"processes": [{
        "id": "my-scalable-app", "cmd": "python3 server.py", "autostart": True,
        "cluster": {"instances": 4, "commonPort": 3000, "startPort": 8000,
                    "protocol": "http", "strategy": "round-robin"}}]}
    assert toml.loads((CONF / "app.toml").read_text(encoding="utf-8")) == seed
    assert json.loads((CONF / "app.json").read_text(encoding="utf-8")) == seed
