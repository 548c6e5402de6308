"""The agent: what HAProxy is told, in a line for a line, and that no client of it does harm."""

import contextlib
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List

import gevent
import pytest

import agent_server
from agent import answer_about
from agent_server import AgentServer
from conftest import eventually
from fronts import LONGEST, Fronts
from health_stage import Folder, web
from inside import RuntimeStage, inside, listening
from running import Running, is_free, now, server, sleeper
from sockets import listen
from supervision import wait_until

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]

PATIENCE = 60.0


def ask(port: int, line: bytes, to: str = "127.0.0.1") -> str:
    with socket.create_connection((to, port), PATIENCE) as client:
        client.sendall(line)
        return client.makefile().read()


# What it says


@pytest.fixture
def stage(tmp_path: Path, free_ports: Ports) -> Iterator[RuntimeStage]:
    """`web` with a balancer before two instances, `api` with two and without."""
    ports = free_ports(6)
    web = listening("web", ports[0], ports[4], instances=2)
    api = listening("api", ports[2], instances=2)
    # That of the external mode with an agent.
    del api["terminateGracePeriod"]
    with inside(tmp_path, [web, api], agent={"port": ports[5]}) as found:
        yield found


@pytest.mark.parametrize("asked", ["web", "web-1", "api", "api-2", ""])
def test_what_serves_is_up(stage: RuntimeStage, asked: str) -> None:
    assert answer_about(stage.runtime, asked) == "up ready 100%"


def test_an_id_that_is_unknown_changes_nothing_at_the_front(stage: RuntimeStage) -> None:
    for asked in ("wep", "web-3", "all", "WEB"):
        assert answer_about(stage.runtime, asked) == "unknown"


def test_a_process_has_the_share_of_its_instances_that_serve(stage: RuntimeStage) -> None:
    for name in ("web", "api"):
        stage.operations.stop([name + "-1"], stage.told.append)
        assert answer_about(stage.runtime, name) == "up ready 50%"
        assert answer_about(stage.runtime, name + "-1") == "down #stopped"
        assert answer_about(stage.runtime, name + "-2") == "up ready 100%"
    assert answer_about(stage.runtime, "") == "up ready 50%"
    stage.operations.stop(["api"], stage.told.append)
    assert answer_about(stage.runtime, "api") == "down #stopped"


def test_an_instance_whose_health_checks_fail_does_not_serve(
    tmp_path: Path, free_ports: Ports
) -> None:
    """Also where no balancer is behind it that would know."""
    folder, ports = Folder(tmp_path), free_ports(3)
    process = web(tmp_path, ports, health={"path": "/health", "intervalMs": 20})
    del process["cluster"]["commonPort"]
    with inside(tmp_path, [process]) as stage:
        assert answer_about(stage.runtime, "web") == "up ready 100%"
        folder.health("503", "0")
        wait_until(lambda: answer_about(stage.runtime, "web") == "up ready 50%", PATIENCE)
        assert answer_about(stage.runtime, "web-1").startswith("down #")
        folder.health("200", "0")
        wait_until(lambda: answer_about(stage.runtime, "web-1") == "up ready 100%", PATIENCE)


def test_all_of_it_drains_once_it_is_to_end(stage: RuntimeStage) -> None:
    stage.runtime.closing = True
    for asked in ("web", "web-1", "api", ""):
        assert answer_about(stage.runtime, asked) == "drain"


def test_a_server_that_cookies_name_goes_down_since_haproxy_would_go_on_to_send_these(
    tmp_path: Path, free_ports: Ports
) -> None:
    ports = free_ports(2)
    web = listening("web", ports[0], ports[1], protocol="http", strategy="cookie")
    with inside(tmp_path, [web]) as stage:
        assert answer_about(stage.runtime, "web") == "up ready 100%"
        stage.runtime.closing = True
        assert answer_about(stage.runtime, "web") == "down #draining"


# What a stop waits for


@contextlib.contextmanager
def polled(
    stage: RuntimeStage, asked: str, interval: float = 0.1
) -> "Iterator[List[str]]":
    """A front asks about it each so many seconds; what it is told."""
    told: List[str] = []

    def poll() -> None:
        while True:
            told.append(answer_about(stage.runtime, asked))
            stage.runtime.fronts.note(asked, "10.0.0.9")
            gevent.sleep(interval)

    poller = gevent.spawn(poll)
    gevent.sleep(0)
    try:
        yield told
    finally:
        poller.kill()


def test_an_instance_of_the_external_mode_serves_until_the_front_knows_of_its_stop(
    stage: RuntimeStage
) -> None:
    pid = stage.pids()["api-1"]
    with polled(stage, "api-1") as told:
        stop = gevent.spawn(stage.operations.stop, ["api-1"], stage.told.append)
        with gevent.Timeout(PATIENCE):
            while "drain" not in told:
                gevent.sleep(0.01)
            # Told, and it still accepts: what is on its way to it arrives.
            assert stage.pids()["api-1"] == pid
            stop.join()
    assert told[0] == "up ready 100%" and told[-1] in ("drain", "down #stopped")


def test_the_next_instance_of_a_restart_follows_when_the_front_knows_the_one_before(
    stage: RuntimeStage
) -> None:
    with polled(stage, "api-1", 0.3) as first, polled(stage, "api-2", 0.3) as second, \
            gevent.Timeout(PATIENCE):
        stage.operations.restart(["api"], stage.told.append)
    down = max(number for number, line in enumerate(first) if line != "up ready 100%")
    again = second.index("drain")
    # So often it was asked about, and found up, before the other one was to leave.
    assert again - down > 3
    assert second[-1] == "up ready 100%" or second[-1].startswith("down")


def test_a_cluster_whose_only_instance_is_restarted_is_the_last_resort(
    stage: RuntimeStage
) -> None:
    """Its clients wait in the queue: nobody gets an error, where there is no other machine."""
    stage.operations.stop(["web-2"], stage.told.append)
    with polled(stage, "web", 0.0) as told, gevent.Timeout(PATIENCE):
        stage.operations.restart(["web"], stage.told.append)
    assert set(told) == {"up ready 50%", "up ready 1%"}
    # One that fails is none.
    os.kill(stage.instance("web-1").pid or 0, signal.SIGKILL)
    stage.reaches("backoff", "web-1")
    assert answer_about(stage.runtime, "web").startswith("down #")


def test_nobody_who_does_not_ask_is_waited_for(stage: RuntimeStage) -> None:
    began = now()
    stage.operations.stop(["api-1"], stage.told.append)
    stage.runtime.fronts.wait_told(["api-1"])
    assert now() - began < LONGEST


class Clock:
    """Seconds that pass when somebody waits for them."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        self.seconds += 0.5
        return self.seconds


def test_a_front_that_has_gone_is_waited_for_no_longer_than_it_may_take() -> None:
    clock = Clock()
    fronts = Fronts(clock)
    fronts.note("api-1", "10.0.0.9")
    began = clock.seconds
    fronts.wait_told(["api-1", "other"])
    assert LONGEST <= clock.seconds - began < LONGEST + 1
    # By now it is not even remembered.
    clock.seconds += LONGEST
    began = clock.seconds
    fronts.wait_told(["api-1"])
    assert clock.seconds - began < 1


def test_each_of_several_fronts_has_to_have_asked_once_more() -> None:
    clock = Clock()
    fronts = Fronts(clock)
    for address in ("10.0.0.8", "10.0.0.9"):
        fronts.note("api-1", address)
    began = clock.seconds

    def ask_again(address: str, after: float) -> None:
        while clock.seconds < began + after:
            gevent.sleep(0.01)
        fronts.note("api-1", address)

    tasks = [gevent.spawn(ask_again, "10.0.0.8", 0.5), gevent.spawn(ask_again, "10.0.0.9", 2.0)]
    fronts.wait_told(["api-1"])
    gevent.joinall(tasks)
    # A second later, for what was on its way.
    assert 3.0 <= clock.seconds - began < LONGEST


def test_only_so_many_fronts_are_remembered() -> None:
    fronts = Fronts(time.monotonic)
    for number in range(1000):
        fronts.note("web", str(number))
    assert len(fronts._answered["web"]) == 16


# The port


@pytest.fixture
def app(running: Make, free_ports: Ports) -> "Iterator[Any]":
    ports = free_ports(3)
    found: Any = running(
        server("web", ports[:1], ports[1]), agent={"port": ports[2]}).start()
    found.ports, found.common, found.port = ports[:1], ports[1], ports[2]
    yield found
    if found.child.poll() is None:
        # A second one waits for no front.
        found.signal(signal.SIGTERM)
        eventually(lambda: "stopping" in found.said())
        found.signal(signal.SIGTERM)


def test_clients_that_misbehave_are_let_go_and_others_are_served(app: Any) -> None:
    idle = [socket.create_connection(("127.0.0.1", app.port)) for _ in range(
        agent_server.MOST_CONNECTIONS + 50)]
    assert ask(app.port, b"web\n") == "up ready 100%\n"
    assert ask(app.port, b"web-1\r\n") == "up ready 100%\n"
    assert ask(app.port, b"  \n") == "up ready 100%\n"
    assert ask(app.port, b"\xff\x00 GET / HTTP/1.1\n") == "unknown\n"
    for flood in (b"x" * 100000, b"x" * 300 + b"\n"):
        with contextlib.suppress(ConnectionError):
            assert ask(app.port, flood) == ""
    # Those that say nothing have had their time; the oldest made room before.
    for each in idle:
        each.settimeout(PATIENCE)
        with each, contextlib.suppress(ConnectionError):
            assert each.recv(1) == b""
    assert ask(app.port, b"web\n") == "up ready 100%\n"
    with socket.create_connection(("127.0.0.1", app.port), PATIENCE) as client:
        client.sendall(b"we")
        client.shutdown(socket.SHUT_WR)
        assert client.makefile().read() == "unknown\n"
    eventually(lambda: 'asks for "we' in app.said() or "which is no process" in app.said())
    assert app.said().count("which is no process") == 1


def test_where_too_many_say_nothing_the_oldest_makes_room(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_server.AgentServer, "most_connections", 3)
    monkeypatch.setattr(agent_server, "TIMEOUT", 10 * PATIENCE)
    listener = listen("127.0.0.1", 0)
    agent = AgentServer(listener, lambda line, address: "%s from %s" % (line, address))
    agent.start()
    with contextlib.ExitStack() as stack, gevent.Timeout(PATIENCE):
        stack.callback(agent.close)
        clients = [stack.enter_context(gevent.socket.create_connection(listener.getsockname()))
                   for _ in range(4)]
        assert clients[0].recv(1) == b""
        for client in clients[1:]:
            client.sendall(b"web\n")
            assert client.recv(100) == b"web from 127.0.0.1\n"


def test_a_reload_moves_it_and_turns_it_off_and_on(app: Any, free_port: Callable[[], int]) -> None:
    other, pids = free_port(), app.pids()
    web = server("web", app.ports, app.common)
    app.write(web, agent={"port": other})
    assert "changed the agent" in app.run("reload").stdout
    assert ask(other, b"web\n") == "up ready 100%\n" and is_free(app.port)
    app.write(web, agent={"port": other, "host": "0.0.0.0"})
    assert "changed the agent" in app.run("reload").stdout
    assert ask(other, b"web\n", to="127.0.0.2") == "up ready 100%\n"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", app.port))
        taken.listen(1)
        app.write(web, agent={"port": app.port})
        done = app.run("reload")
    assert done.returncode == 1
    assert "agent: cannot listen on 127.0.0.1 port %d" % app.port in done.stderr
    assert ask(other, b"web\n") == "up ready 100%\n"
    app.write(web)
    assert "changed the agent" in app.run("reload").stdout
    assert is_free(other) and app.pids() == pids


def test_a_shutdown_keeps_the_common_port_open_until_the_front_knows(app: Any) -> None:
    assert ask(app.port, b"web\n") == "up ready 100%\n"
    app.signal(signal.SIGTERM)
    eventually(lambda: "stopping" in app.said())
    with socket.create_connection(("127.0.0.1", app.common), PATIENCE):
        assert ask(app.port, b"web\n") == "drain\n"
    assert app.wait() == 0
    assert "[agent] goes on until each front knows that it stops, 5 s at most: 127.0.0.1" in (
        app.said())


def test_its_port_is_one_of_those_that_must_not_clash(running: Make, free_port: Any) -> None:
    port = free_port()
    app = running(sleeper("job"), agent={"port": port}, dashboard={"port": port})
    done = app.run("check")
    assert done.returncode == 2
    assert "agent.port: port %d is already port %d of the dashboard" % (port, port) in done.stderr
    app.write(sleeper("job"), agent={"port": port})
    assert "agent on 127.0.0.1 port %d" % port in app.run("check").stdout
