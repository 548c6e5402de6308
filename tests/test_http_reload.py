"""What of `protocol = "http"` changes in a running one: nobody is cut off, no request is lost."""

import socket
from pathlib import Path
from typing import Any, Callable, List

import pytest

from conftest import eventually
from http_clients import Asking, Crowd, Gate, ask, ask_once, connect, in_flight, mixed, web
from peers import Peer
from running import Running

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]

HALF_A_HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def ports(free_ports: Ports) -> List[int]:
    return free_ports(3)


@pytest.fixture
def start(running: Make, ports: List[int]) -> Callable[..., Running]:
    """`start(key=value)`: two scripted instances."""
    return lambda **keys: running(web("app", ports[:2], ports[2], **keys)).start()


@pytest.fixture
def reload(ports: List[int]) -> Callable[..., None]:
    """`reload(app, key=value)`: with these keys of the cluster; no instance is touched."""
    def reload(app: Running, **keys: Any) -> None:
        before = app.pids()
        app.write(web("app", ports[:2], ports[2], **keys))
        assert app.ask("reload")["text"] == "reloaded: changed app"
        assert app.pids() == before

    return reload


def peer(port: int) -> Peer:
    return Peer(socket.create_connection(("127.0.0.1", port)))


# The protocol


def test_clients_of_before_go_on_and_new_ones_have_the_new_protocol(
    start: Any, reload: Any, ports: List[int], tmp_path: Path
) -> None:
    """An instance is told by whom it is asked with http only, and names no hop with tcp."""
    app, gate = start(protocol="tcp"), Gate(tmp_path)
    old = connect(ports[2])
    home = ask(old).instance
    slow = Asking(ports[2], "/slow/%s" % gate)
    eventually(lambda: in_flight(app) == 2)
    reload(app)
    new = connect(ports[2])
    assert {ask(new).instance for _ in range(4)} == {"0", "1"}
    assert {ask(old).instance for _ in range(4)} == {home}
    half = Asking(ports[2], "/half/%s" % gate)
    eventually(lambda: app.process("app")["balancer"]["http"]["connections"] >= 3)
    reload(app, protocol="tcp")
    assert {ask(new).instance for _ in range(4)} == {"0", "1"}
    assert {ask(old).instance for _ in range(4)} == {home}
    newest = connect(ports[2])
    assert len({ask(newest).instance for _ in range(4)}) == 1
    gate.opens()
    assert (slow.status, half.answer.body) == (200, b"firstlater")
    for client in (old, new, newest):
        client.close()


def test_a_change_of_protocol_to_and_fro_loses_no_request(
    start: Any, reload: Any, ports: List[int]
) -> None:
    app = start()
    with Crowd(ports[2], *mixed("/slow/0.05", 4, 4, 2), *mixed("/", 2, 2, 2)) as crowd:
        for protocol in ("tcp", "http") * 3:
            crowd.wait_for_answers()
            reload(app, protocol=protocol)
        crowd.wait_for_answers()
    assert crowd.lost == []


def test_a_restart_after_a_change_to_http_waits_for_no_client_of_http(
    start: Any, reload: Any, ports: List[int]
) -> None:
    """Nor does one of tcp keep the number of connections wrong when it has gone."""
    app = start(protocol="tcp")
    old = connect(ports[2])
    ask(old)
    reload(app)
    with Crowd(ports[2], *mixed("/slow/0.05", 4, 2, 2)) as crowd:
        crowd.wait_for_answers()
        old.close()
        app.ask("restart", words=["app"])
        crowd.wait_for_answers()
    assert crowd.lost == []
    eventually(lambda: in_flight(app) == 0)


# Time-outs and limits


def test_another_head_timeout_is_for_heads_that_are_under_way_too(
    start: Any, reload: Any, ports: List[int]
) -> None:
    app = start(headTimeoutMs=60000)
    waiting = peer(ports[2]).says(HALF_A_HEAD)
    waiting.hears_nothing()
    reload(app, headTimeoutMs=200)
    waiting.hears(b"HTTP/1.1 408 ")
    later = peer(ports[2]).says(HALF_A_HEAD)
    later.hears(b"HTTP/1.1 408 ")
    reload(app, headTimeoutMs=60000)
    unhurried = peer(ports[2]).says(HALF_A_HEAD)
    unhurried.hears_nothing(0.5)
    unhurried.says(b"\r\n").hears(b"HTTP/1.1 200 ")
    for each in (waiting, later, unhurried):
        each.leaves()


def test_another_response_timeout(start: Any, reload: Any, ports: List[int]) -> None:
    """Of the time until an answer begins, and not until it ends."""
    app = start()
    reload(app, responseTimeoutMs=400)
    half = Asking(ports[2], "/half/1")
    assert ask_once(ports[2], "/slow/30").status == 504
    assert ask_once(ports[2], "/slow/30", method="POST", body=b"x").status == 504
    assert half.answer.body == b"firstlater"
    eventually(lambda: in_flight(app) == 0)
    reload(app, responseTimeoutMs=0)
    assert ask_once(ports[2], "/slow/1").status == 200


def kept(app: Running) -> int:
    return sum(each["backend"]["http"]["idle"] for each in app.members().values())


def test_keep_upstream_is_how_many_connections_to_an_instance_are_kept(
    start: Any, reload: Any, ports: List[int]
) -> None:
    app = start(keepUpstream=2)

    def all_at_once() -> None:
        slow = [Asking(ports[2], "/slow/0.3") for _ in range(12)]
        assert [each.status for each in slow] == [200] * 12

    def come_to(count: int) -> bool:
        # How many of them are under way at the same moment is up to the machine.
        all_at_once()
        return kept(app) >= count

    eventually(lambda: come_to(4))
    assert kept(app) == 4
    reload(app, keepUpstream=64)
    eventually(lambda: come_to(5))
    reload(app, keepUpstream=0)
    eventually(lambda: kept(app) == 0)
    all_at_once()
    assert kept(app) == 0


def test_another_strategy(start: Any, reload: Any, ports: List[int]) -> None:
    app = start()
    with Crowd(ports[2], *mixed("/slow/0.02", 4, 2, 2)) as crowd:
        for strategy in ("cookie", "ip-hash", "least-connections", "least-time", "round-robin"):
            reload(app, strategy=strategy)
            crowd.wait_for_answers(1)
            assert (ask_once(ports[2]).fields["Set-Cookie"] is not None) == (strategy == "cookie")
            if strategy == "ip-hash":
                assert len({ask_once(ports[2]).instance for _ in range(6)}) == 1
    assert crowd.lost == []


def test_max_connections_is_requests_in_flight(
    start: Any, reload: Any, ports: List[int], tmp_path: Path
) -> None:
    app, gate = start(), Gate(tmp_path)
    clients = [connect(ports[2]) for _ in range(6)]
    for client in clients:
        ask(client)
    reload(app, maxConnections=1)
    slow = [Asking(ports[2], "/slow/%s" % gate) for _ in range(4)]
    eventually(lambda: app.process("app")["balancer"]["queue"] == 2)
    reload(app, maxConnections=0)
    eventually(lambda: in_flight(app) == 4)
    gate.opens()
    assert [each.status for each in slow] == [200] * 4
    for client in clients:
        client.close()


# The access log


def test_an_access_log_comes_goes_and_moves(
    start: Any, reload: Any, ports: List[int], folder: Path
) -> None:
    one, two = folder / "one.log", folder / "two.log"
    app = start()
    client = connect(ports[2])

    def lines(path: Path) -> List[str]:
        return path.read_text().splitlines() if path.exists() else []

    ask(client, "/?before")
    reload(app, accessLog=str(one))
    ask(client, "/?first")
    eventually(lambda: [each.split('"')[1] for each in lines(one)] == ["GET /?first HTTP/1.1"])
    reload(app, accessLog=str(two))
    ask(client, "/?second")
    eventually(lambda: [each.split('"')[1] for each in lines(two)] == ["GET /?second HTTP/1.1"])
    reload(app)
    ask(client, "/?after")
    client.close()
    app.ask("shutdown")
    assert app.wait() == 0
    assert (len(lines(one)), len(lines(two))) == (1, 1)
