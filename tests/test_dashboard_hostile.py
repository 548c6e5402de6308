"""Many, silent, deaf, garbled, greedy: who asks the dashboard slows nobody else."""

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Iterator, List

import pytest

from asking import ask, codes, connect, say
from conftest import eventually
from running import PUPGEVENT, SCALE, Running, get, server, sleeper
from web_server import MOST_CONNECTIONS

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

#: Of the time of one processor, what all of pupgevent may take while its dashboard is flooded. The
#: dashboard's part should be a fifth of it, and was found to be a tenth; without a limit it is all.
SHARE = 1 / 2


class App:
    """A pupgevent with a cluster and a dashboard."""

    def __init__(self, running: Running, ports: List[int]) -> None:
        self.running = running
        self.common, self.port = ports[-2:]

    @property
    def pid(self) -> int:
        assert self.running.child is not None
        return int(self.running.child.pid)

    def descriptors(self) -> int:
        return len(os.listdir("/proc/%d/fd" % self.pid))

    def cpu_seconds(self) -> float:
        fields = Path("/proc/%d/stat" % self.pid).read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def others_are_served(self) -> None:
        """Clients of the balancer, and commands."""
        for _ in range(4):
            get(self.common)
        assert self.running.status()["healthy"]

    def serves(self) -> bool:
        return ask(self.port, "/healthz").code == 200


@pytest.fixture
def app(running: Make, free_ports: Ports) -> Iterator[App]:
    """In the end it serves as before, has said nothing of all this, and nothing is left of it."""
    ports = free_ports(4)
    found = App(running(
        server("web", ports[:2], ports[2]), dashboard={"port": ports[3]}).start(), ports)
    assert found.serves()
    get(ports[2])
    eventually(lambda: found.running.said().count("accepts on port") == 2)
    before, said = found.descriptors(), found.running.said()
    yield found
    eventually(found.serves)
    found.others_are_served()
    eventually(lambda: found.descriptors() <= before + 2, message="descriptors come back")
    assert found.running.said() == said


def test_hundreds_that_are_silent_or_dribble_keep_nobody_out(app: App) -> None:
    before = app.descriptors()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(connect(app.port))) for _ in range(400)]
        for client in clients[::3]:
            with contextlib.suppress(OSError):
                client.sendall(b"GET / HTTP/1.1\r\nX: ")
        for _ in range(5):
            for client in clients[::3]:
                with contextlib.suppress(OSError):
                    client.send(b"x")
            # Who had to wait for their time-outs would not get through.
            assert app.serves()
            app.others_are_served()
            # Those of `others_are_served` are on their way out.
            assert app.descriptors() <= before + MOST_CONNECTIONS + 15


def test_clients_that_never_read_keep_nobody_out(app: App) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", app.port))
            with contextlib.suppress(OSError):
                client.sendall(b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 30)
        for _ in range(3):
            assert app.serves()
            app.others_are_served()


def test_garbage_is_answered_or_hung_up_on(app: App) -> None:
    garbage = random.Random(0)
    for size in [1, 10, 100, 1000, 10000, 100000] * 5:
        data = bytes(garbage.randrange(256) for _ in range(size))
        assert set(codes(say(app.port, data + b"\r\n\r\n"))) <= {400, 414}
    app.others_are_served()


def test_what_does_not_end_takes_no_memory(app: App) -> None:
    before = memory(app)
    for start in (b"", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\n",
                  b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
                  b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"):
        for block in (b"x" * 65536, b"fff0\r\n" + b"x" * 65520 + b"\r\n", b"X: y\r\n" * 10000):
            with connect(app.port) as client:
                client.sendall(start)
                sent = 0
                with pytest.raises(OSError):
                    while sent < 1 << 28:
                        sent += client.send(block)
    assert memory(app) < before + (20 << 20)


def memory(app: App) -> int:
    """Bytes at most so far."""
    text = Path("/proc/%d/status" % app.pid).read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024


def test_ten_thousand_requests_at_once_are_done_one_after_the_other(app: App) -> None:
    with connect(app.port) as client:
        client.settimeout(0.2)
        with contextlib.suppress(OSError):
            client.sendall(REQUEST * 10000)
        for _ in range(3):
            assert app.serves()
            app.others_are_served()


#: A client that does what its first word says for so many seconds, as fast as it can.
FLOOD = """
import socket, sys, time
kind, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
request = b"GET %s HTTP/1.1\\r\\nHost: localhost\\r\\n" % {
    "metrics": b"/metrics", "page": b"/page.js", "status": b"/status.json"}.get(kind, b"/healthz")
if kind == "heads":
    request += b"".join(b"X-%d: %s\\r\\n" % (n, b"x" * 140) for n in range(95))
request += b"\\r\\n"
end = time.monotonic() + seconds

def connect():
    client = socket.create_connection(("127.0.0.1", port), 60)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.settimeout(0.5)
    return client

while time.monotonic() < end:
    try:
        with connect() as client:
            if kind == "connects":
                continue
            if kind == "garbage":
                client.sendall(b"\\xff\\x00\\r\\n\\r\\n")
                client.recv(100000)
                continue
            if kind == "bytes":
                client.sendall(request[:-2] + b"X: ")
            while time.monotonic() < end:
                if kind == "bytes":
                    client.send(b"x")
                    continue
                client.sendall(request * (50 if kind == "pipeline" else 1))
                client.recv(1000000)
    except OSError:
        pass
"""


@pytest.mark.parametrize("kind", ["requests", "heads", "connects", "garbage", "bytes", "pipeline",
                                  "page", "metrics", "status"])
def test_whatever_it_is_flooded_with_it_takes_its_share_and_no_more(app: App, kind: str) -> None:
    seconds = max(1.0, 3 * SCALE)
    floods = [subprocess.Popen([sys.executable, "-c", FLOOD, kind, str(app.port), str(seconds)])
              for _ in range(4)]
    try:
        cpu, began = app.cpu_seconds(), time.monotonic()
        app.others_are_served()
        for flood in floods:
            flood.wait(60)
        spent, took = app.cpu_seconds() - cpu, time.monotonic() - began
    finally:
        for flood in floods:
            flood.kill()
            flood.wait()
    assert spent < SHARE * took, (spent, took)


def test_with_few_descriptors_the_others_have_theirs(running: Make, free_ports: Ports) -> None:
    ports = free_ports(4)
    found = running(
        server("web", ports[:2], ports[2]), sleeper("job"), dashboard={"port": ports[3]})
    with open(str(found.output), "ab") as output:
        found.child = subprocess.Popen(
            ["sh", "-c", 'ulimit -n 90; exec "$@"', "sh", *PUPGEVENT, str(found.config)],
            stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    eventually(found.is_settled)
    app = App(found, ports)
    before = app.descriptors()
    with contextlib.ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(contextlib.closing(connect(app.port)))
        for _ in range(3):
            app.others_are_served()
            pid = found.pids()["job"]
            found.ask("restart", words=["job"])
            assert found.pids()["job"] != pid
            assert app.serves()
        assert app.descriptors() < before + 20
    eventually(lambda: app.descriptors() <= before + 2)
    assert "descriptors" not in found.said()
