"""The proof under load: whatever is changed, no request fails.

Two kinds of clients at the same time: some open a connection per request, some keep theirs as long
as the server lets them, as a browser does. A client that keeps its connection sends a request again
over a new one only where the connection was closed before a byte of the answer (RFC 9112, 9.3.1):
between two requests, that is, and it counts as a failure here if it happens twice in a row.
"""

import collections
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
from typing import Any, Callable, Iterator, List, Optional, Tuple

import pytest

from conftest import eventually
from running import SCALE, Running, get, now, server

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]

KEEPING = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

#: Seconds for one answer: late is not lost, and a machine with ten times its load is late.
PATIENCE = 60

LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)


class Load:
    """Requests without a pause, from several threads, until it is ended."""

    def __init__(self, port: int, brief: int = 3, keeping: int = 3) -> None:
        self.port = port
        self.ended = False
        self.served = 0
        self.slowest = 0.0
        #: Whose, and what.
        self.failures: List[Tuple[int, str]] = []
        kinds = [self.ask_anew] * brief + [self.ask_on] * keeping
        self.threads = [threading.Thread(target=self.live, args=(kind,)) for kind in kinds]

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.ended = True
        for thread in self.threads:
            thread.join()

    def live(self, ask: Callable[[Any], Any]) -> None:
        kept: Any = None
        while not self.ended:
            began = now()
            try:
                kept = ask(kept)
                self.served += 1
            except (OSError, ValueError) as error:
                kept = None
                self.failures.append((threading.get_ident(), repr(error)))
            self.slowest = max(self.slowest, now() - began)
        if kept is not None:
            kept.close()

    def ask_anew(self, _: Any) -> None:
        get(self.port, PATIENCE)

    def ask_on(self, kept: Optional[socket.socket]) -> Optional[socket.socket]:
        """Over the connection that there is; a new one if the server has closed that."""
        if kept is not None:
            try:
                return exchange(kept)
            except ConnectionError:
                kept.close()
            except (OSError, ValueError):
                kept.close()
                raise
        client = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        try:
            return exchange(client)
        except (OSError, ValueError):
            client.close()
            raise


def exchange(client: socket.socket) -> Optional[socket.socket]:
    """One request; the connection, if it stays. ConnectionError: it was closed before a byte."""
    try:
        client.sendall(KEEPING)
        data = client.recv(65536)
    except OSError as error:
        raise ConnectionError(repr(error)) from None
    if not data:
        raise ConnectionError("closed")
    while b"\r\n\r\n" not in data:
        data += more(client)
    head, _, body = data.partition(b"\r\n\r\n")
    found = LENGTH.search(head)
    if found is None or b" 200 " not in head.split(b"\r\n")[0]:
        raise ValueError("a broken answer: %r" % head[:100])
    while len(body) < int(found.group(1)):
        body += more(client)
    if b"connection: close" in head.lower():
        client.close()
        return None
    return client


def more(client: socket.socket) -> bytes:
    data = client.recv(65536)
    if not data:
        raise ValueError("an answer that ends early")
    return data


@pytest.fixture
def app(running: Make, free_ports: Ports) -> Iterator[Tuple[Running, List[int]]]:
    """Three instances; eight ports: instances first, the last two are for the balancer."""
    ports = free_ports(8)
    yield running(server("my-app", ports[:3], ports[6])).start(), ports


def restart(app: Running, ports: List[int]) -> None:
    app.ask("restart", words=["my-app"])


def scale(app: Running, ports: List[int]) -> None:
    app.ask("scale", id="my-app", instances=5)
    app.ask("scale", id="my-app", instances=1)
    app.ask("scale", id="my-app", instances=3)


def another_command(app: Running, ports: List[int]) -> None:
    app.write(server("my-app", ports[:3], ports[6], env={"RELEASE": "2"}))
    app.ask("reload")


def another_strategy(app: Running, ports: List[int]) -> None:
    for strategy in ("least-connections", "ip-hash", "least-time", "round-robin"):
        changed = server("my-app", ports[:3], ports[6])
        changed["cluster"]["strategy"] = strategy
        app.write(changed)
        app.ask("reload")


def other_instance_ports(app: Running, ports: List[int]) -> None:
    app.write(server("my-app", ports[1:4], ports[6]))
    app.ask("reload")


@pytest.mark.parametrize(
    "change", [restart, scale, another_command, another_strategy, other_instance_ports],
    ids=lambda change: change.__name__)  # fmt: skip
def test_a_change_loses_no_request(
    app: Tuple[Running, List[int]], change: Callable[[Running, List[int]], None]
) -> None:
    pupgevent, ports = app
    with Load(ports[6]) as load:
        eventually(lambda: load.served > 50)
        for _ in range(max(1, int(SCALE))):
            change(pupgevent, ports)
        before = load.served
        eventually(lambda: load.served > before + 50)
    assert load.failures == []
    assert set(pupgevent.states().values()) == {"running"}


def test_another_common_port_is_open_before_anybody_is_told_and_connections_stay(
    app: Tuple[Running, List[int]]
) -> None:
    """Who knows of the new port when the reload is done, and used the old one until then."""
    pupgevent, ports = app
    client = socket.create_connection(("127.0.0.1", ports[6]), 20)
    assert exchange(client) is client
    with Load(ports[6], keeping=0) as old:
        eventually(lambda: old.served > 50)
    pupgevent.write(server("my-app", ports[:3], ports[7]))
    pupgevent.ask("reload")
    with Load(ports[7]) as new:
        eventually(lambda: new.served > 50)
    assert old.failures == new.failures == []
    assert exchange(client) is client
    client.close()


def test_common_ports_that_change_hands_are_never_closed(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(4)
    app = running(server("one", ports[:1], ports[2]), server("two", ports[1:2], ports[3])).start()
    with Load(ports[2]) as first, Load(ports[3]) as second:
        eventually(lambda: first.served > 50 and second.served > 50)
        for _ in range(3):
            app.write(server("one", ports[:1], ports[3]), server("two", ports[1:2], ports[2]))
            app.ask("reload")
            app.write(server("one", ports[:1], ports[2]), server("two", ports[1:2], ports[3]))
            app.ask("reload")
    assert first.failures == second.failures == []


def test_a_single_instance_is_restarted_while_clients_wait(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(2)
    app = running(server("my-app", ports[:1], ports[1])).start()
    with Load(ports[1]) as load:
        eventually(lambda: load.served > 50)
        app.ask("restart", words=["my-app-1"])
        before = load.served
        eventually(lambda: load.served > before + 50)
    assert load.failures == []


def test_kill_9_of_random_instances_costs_only_what_was_in_flight_there(
    app: Tuple[Running, List[int]]
) -> None:
    """Each client has one request in flight at most: a kill costs no more than one each."""
    pupgevent, ports = app
    rng = random.Random(9)
    kills = 0
    with Load(ports[6]) as load:
        deadline = now() + 4 * SCALE
        while now() < deadline:
            eventually(lambda: pupgevent.process("my-app")["up"] >= 2)
            members = [each for each in pupgevent.members().values() if each["pid"]]
            os.kill(rng.choice(members)["pid"], signal.SIGKILL)
            kills += 1
            before = load.served
            eventually(lambda: load.served > before + 50)  # noqa: B023
    by_client = collections.Counter(client for client, _ in load.failures)
    assert all(count <= kills for count in by_client.values()), (kills, load.failures)
    assert load.served > 50 * kills
    print("%d kills, %d requests, %d failed" % (kills, load.served, len(load.failures)))


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_wrk_sees_no_error_whatever_is_changed(app: Tuple[Running, List[int]]) -> None:
    pupgevent, ports = app
    url = "http://127.0.0.1:%d/" % ports[6]
    with subprocess.Popen(
        ["wrk", "-t1", "-c8", "-d600s", "--timeout", "%ds" % PATIENCE, url],
        stdout=subprocess.PIPE, universal_newlines=True,
    ) as wrk:
        try:
            eventually(lambda: pupgevent.process("my-app")["balancer"]["open"] >= 8)
            for change in [restart, scale, another_command, another_strategy] * max(1, int(SCALE)):
                change(pupgevent, ports)
        finally:
            wrk.send_signal(signal.SIGINT)
        assert wrk.stdout
        report = wrk.stdout.read()
    assert "Socket errors" not in report and "Non-2xx" not in report, report
    assert int(report.split(" requests in")[0].split()[-1]) > 500
