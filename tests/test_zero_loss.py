"""The proof under load: whatever is changed, no request fails."""

import collections
import os
import random
import shutil
import signal
import socket
import subprocess
from typing import Callable, Iterator, List, Tuple

import pytest

from conftest import eventually
from load import PATIENCE, Load, exchange
from running import SCALE, Running, now, server

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]


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
