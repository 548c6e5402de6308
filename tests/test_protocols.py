"""Real protocols, spoken by real servers, pass through the balancer unharmed."""

import http.client
import os
import re
import socket
import ssl
import subprocess
import sys
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

import web_sockets as websocket
from peers import PATIENCE, SCALE, Aside, BalancerStage, eventually
from tools import tool

pytest_plugins = ["stages"]

ROOT = Path(__file__).resolve().parent.parent
CHILDREN = ROOT / "tests" / "children"

FreePort = Callable[[], int]


@contextmanager
def running(command: "List[str]", **more: Any) -> "Iterator[subprocess.Popen[bytes]]":
    with subprocess.Popen(command, stdout=subprocess.PIPE, **more) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()


@contextmanager
def instance_of(stage: BalancerStage, command: "List[str]") -> "Iterator[None]":
    """A child that tells its port, behind the balancer."""
    with running([sys.executable] + command) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        stage.listens()
        stage.proxy.call("up", "web-1", "127.0.0.1", port)
        yield


def is_up(stage: BalancerStage, name: str, port: int) -> None:
    eventually(lambda: accepts(port), "it listens")
    stage.proxy.call("up", name, "127.0.0.1", port)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def run(command: "List[str]") -> str:
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True, timeout=100,
        universal_newlines=True,
    ).stdout  # fmt: skip


# HTTP


@pytest.fixture
def web(stage: BalancerStage, free_port: FreePort) -> "Iterator[BalancerStage]":
    """Two of the demonstration server."""
    command = [sys.executable, str(ROOT / "conf" / "server.py")]
    ports = [free_port(), free_port()]
    with running(command, env=environment(ports[0], 1)), running(
            command, env=environment(ports[1], 2)):
        stage.listens()
        for number, port in enumerate(ports):
            is_up(stage, "web-%d" % (number + 1), port)
        yield stage


def environment(port: int, number: int) -> "dict[str, str]":
    return dict(os.environ, PUP_CLUSTER_PORT=str(port), PUP_CLUSTER_INSTANCE=str(number))


def connect(stage: BalancerStage) -> http.client.HTTPConnection:
    host, port = stage.common[:2]
    return http.client.HTTPConnection(host, port, timeout=PATIENCE)


def get(connection: http.client.HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 200
    return response.read()


def test_http_keep_alive_stays_at_its_instance(web: BalancerStage) -> None:
    connections = [connect(web) for _ in range(4)]
    homes = []  # type: List[str]
    for connection in connections:
        answers = [get(connection, "/").decode() for _ in range(20)]
        instances = {re.findall(r"instance (\d)", answer)[0] for answer in answers}
        assert len(instances) == 1
        homes += instances
        connection.close()
    assert homes in (["1", "2"] * 2, ["2", "1"] * 2)


@pytest.mark.parametrize("size", [0, 1, 65536, 1000000, 20000000])
def test_http_answers_arrive_whole(web: BalancerStage, size: int) -> None:
    connection = connect(web)
    for _ in range(2):
        assert get(connection, "/bytes/%d" % size) == b"x" * size
    connection.close()


@pytest.mark.parametrize("size", [0, 1, 65536, 20000000])
def test_http_uploads_arrive_whole(web: BalancerStage, size: int) -> None:
    body = os.urandom(size)
    connection = connect(web)
    for _ in range(2):
        connection.request("POST", "/upload", body)
        expected = "Received %d bytes, CRC-32 %08x\n" % (size, zlib.crc32(body))
        assert connection.getresponse().read() == expected.encode()
    connection.close()


def test_http_requests_in_one_go_are_answered_in_turn(web: BalancerStage) -> None:
    client = web.client()
    client.says(b"".join(b"GET /bytes/%d HTTP/1.1\r\n\r\n" % n for n in range(20)))
    client.finishes()
    answers = client.takes(1000000)
    assert answers.count(b"HTTP/1.1 200 OK") == 20
    assert answers.count(b"x") == sum(range(20)) + answers.count(b"text/plain")


def test_http_under_load(stage: BalancerStage, free_port: FreePort, tmp_path: Path) -> None:
    nginx, wrk = tool("nginx"), tool("wrk")
    port = free_port()
    (tmp_path / "small").write_bytes(b"x" * 100)
    (tmp_path / "large").write_bytes(b"y" * 500000)
    (tmp_path / "nginx.conf").write_text(NGINX % {"folder": tmp_path, "port": port})
    os.chmod(str(tmp_path), 0o755)
    with running([nginx, "-p", str(tmp_path), "-c", "nginx.conf", "-e", "stderr"],
                 stderr=subprocess.DEVNULL):
        stage.listens()
        for number in range(3):
            is_up(stage, "web-%d" % number, port)
        url = "http://127.0.0.1:%d/" % stage.common[1]
        for path, extra in (("small", []), ("large", []), ("small", ["-H", "Connection: close"])):
            report = run([wrk, "-t", "1", "-c", "32", "-d", "1s", "--timeout", "60s"] + extra +
                         [url + path])
            assert "Socket errors" not in report and "Non-2xx" not in report, report
            assert int(re.findall(r"(\d+) requests in", report)[0]) > 0, report
    eventually(lambda: stage.status()["open"] == 0, "all connections are gone")
    totals = [backend["total"] for backend in stage.status()["backends"]]
    assert max(totals) - min(totals) <= 1
    assert stage.status()["turned_away"] == 0


NGINX = """
daemon off;
master_process off;
pid %(folder)s/pid;
error_log stderr;
events { worker_connections 500; }
http {
    access_log off;
    client_body_temp_path %(folder)s/1;
    proxy_temp_path %(folder)s/2;
    fastcgi_temp_path %(folder)s/3;
    uwsgi_temp_path %(folder)s/4;
    scgi_temp_path %(folder)s/5;
    server {
        listen 127.0.0.1:%(port)d;
        root %(folder)s;
    }
}
"""


# WebSocket


def test_websocket_messages_pass_both_ways(stage: BalancerStage) -> None:
    with instance_of(stage, [str(CHILDREN / "websocket_echo.py")]):
        sock = stage.client().socket
        websocket.upgrade(sock, "/chat")
        assert websocket.receive(sock) == (websocket.TEXT, b"welcome")
        for opcode, size in ((1, 0), (1, 5), (2, 125), (2, 126), (2, 65536), (2, 3000000)):
            message = os.urandom(size)
            sending = Aside(sock.sendall, frame(opcode, message))
            assert websocket.receive(sock) == (opcode, message)
            sending.is_done()
        sock.sendall(frame(websocket.PING, b"there?"))
        assert websocket.receive(sock) == (websocket.PONG, b"there?")
        sock.sendall(frame(websocket.CLOSE, b"\x03\xe8"))
        assert websocket.receive(sock) == (websocket.CLOSE, b"\x03\xe8")
        assert sock.recv(1) == b""


def frame(opcode: int, data: bytes) -> bytes:
    return websocket.frame(opcode, data, os.urandom(4))


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: "pytest.TempPathFactory") -> "List[str]":
    """A self-signed one for `localhost`, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    paths = [str(folder / "certificate.pem"), str(folder / "key.pem")]
    run([
        tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
        "-out", paths[0], "-keyout", paths[1],
    ])  # fmt: skip
    return paths


def test_tls_is_passed_through(stage: BalancerStage, certificate: "List[str]") -> None:
    with instance_of(stage, [str(CHILDREN / "tls_echo.py")] + certificate):
        context = ssl.create_default_context(cafile=certificate[0])
        for _ in range(3):
            sock = context.wrap_socket(stage.client().socket, server_hostname="localhost")
            shown = sock.getpeercert()
            assert shown and shown["subject"] == ((("commonName", "localhost"),),)
            assert websocket.read(sock, 7) == b"welcome"
            for size in (1, 16384, 300000):
                message = os.urandom(size)
                # No more than the buffers on the way hold: one side speaks at a time.
                sock.sendall(message)
                assert websocket.read(sock, size) == message
            # Both say goodbye, and the end of the stream comes after it.
            plain = sock.unwrap()
            assert plain.recv(1) == b""
            plain.close()


# Redis


@pytest.fixture
def redis(stage: BalancerStage, free_port: FreePort, tmp_path: Path) -> "Iterator[BalancerStage]":
    port = free_port()
    command = [tool("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "",
               "--appendonly", "no", "--dir", str(tmp_path)]
    with running(command):
        stage.listens()
        is_up(stage, "redis-1", port)
        yield stage


def test_redis_passes_its_benchmark(redis: BalancerStage) -> None:
    common = ["-h", "127.0.0.1", "-p", str(redis.common[1]), "--csv"]
    count = str(max(1000, int(4000 * SCALE)))
    for extra in (["-c", "50", "-t", "ping,set,get,incr,lpush,lrange_300,mset"],
                  ["-c", "20", "-P", "16", "-d", "10000", "-t", "set,get"],
                  ["-c", "10", "-k", "0", "-n", "500", "-t", "ping"]):
        report = run([tool("redis-benchmark")] + common + ["-n", count] + extra)
        rates = [float(rate) for rate in re.findall(r'^"[^"]+","([\d.]+)"', report, re.M)]
        assert "rror" not in report and len(rates) >= 2 and min(rates) > 0, report
    redis.counts(open=0, turned_away=0, connect_errors=0)


def test_redis_values_come_back_as_they_were(redis: BalancerStage) -> None:
    client = redis.client()
    value = os.urandom(5000000)
    sending = Aside(client.says, resp(b"SET", b"key", value))
    client.hears(b"+OK\r\n")
    sending.is_done()
    client.says(resp(b"GET", b"key")).hears(b"$%d\r\n%s\r\n" % (len(value), value))


def test_redis_publishes_to_those_who_listen(redis: BalancerStage) -> None:
    """The server speaks whenever it has something to say."""
    listener = redis.client().says(resp(b"SUBSCRIBE", b"news"))
    listener.hears(b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n")
    publisher = redis.client()
    for number in range(5):
        publisher.says(resp(b"PUBLISH", b"news", b"%d" % number)).hears(b":1\r\n")
        listener.hears(b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\n%d\r\n" % number)


def resp(*words: bytes) -> bytes:
    """A request in Redis's protocol."""
    parts = [b"*%d\r\n" % len(words)] + [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
    return b"".join(parts)
