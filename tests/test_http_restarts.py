"""With `protocol = "http"` no request is lost, whatever the application does about SIGTERM.

The applications are those of bench/applications.py; the scripted one ends at once, too, in the
middle of everything.
"""

import random
import re
import shlex
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from os import kill
from pathlib import Path
from typing import Any, Callable, List

import pytest

from bench.applications import APPLICATIONS, ENVIRONMENT, FOLDER, Application, module
from conftest import eventually
from http_clients import (
    GRACE,
    PATIENCE,
    Asking,
    Crowd,
    Gate,
    Waves,
    ask,
    connect,
    in_flight,
    mixed,
    web,
)
from running import SCALE, Running, cluster, lives, now
from web_sockets import CLOSE, TEXT, frame, receive, upgrade

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]

HALFWAY = str(FOLDER / "halfway.py")

#: The code of a close frame (RFC 6455, 7.4.1).
GOING_AWAY = b"\x03\xe9"

#: What takes one request at a time gets one at a time.
ONE_AT_A_TIME = {"maxConnections": 1, "queueTimeoutMs": 60000}


def of_bench(name: str, ports: List[int], common: int, **more: Any) -> Any:
    """One of the applications, or the test is skipped where it is not installed."""
    application: Application = APPLICATIONS[name]
    command = application.command()
    if command is None:
        pytest.skip("%s is not installed" % application.title)
    if application.cluster:
        more.update(ONE_AT_A_TIME)
    return {
        "id": "app", "cmd": "exec " + command, "cwd": str(FOLDER), "env": ENVIRONMENT,
        "autostart": True, "restartDelayMs": 50,
        "cluster": cluster(ports, common, protocol="http", **more),
    }  # fmt: skip


# Rolling restarts


@pytest.mark.parametrize("name", APPLICATIONS)
def test_a_rolling_restart_loses_no_request_of_clients_that_never_pause(
    running: Make, free_ports: Ports, name: str
) -> None:
    ports = free_ports(3)
    app = running(of_bench(name, ports[:2], ports[2])).start()
    before = app.pids()
    takes_one = bool(APPLICATIONS[name].cluster)
    # http_exits.py takes no POST.
    kinds = mixed("/slow", 4, 2, 2) if takes_one else mixed("/slow", 16, 5, 3 * (name != "exits"))
    with Crowd(ports[2], *kinds) as crowd:
        crowd.wait_for_answers(1)
        app.ask("restart", words=["app"])
        crowd.wait_for_answers(1)
    assert crowd.lost == []
    assert not set(before.values()) & set(app.pids().values())


@pytest.fixture
def ports(free_ports: Ports) -> List[int]:
    """For three instances at first; the last two are for the balancer."""
    return free_ports(8)


@pytest.fixture
def app(running: Make, ports: List[int]) -> Running:
    """Three scripted instances."""
    return running(web("app", ports[:3], ports[6])).start()


def restart(app: Running, ports: List[int]) -> None:
    app.ask("restart", words=["app"])


def restart_one(app: Running, ports: List[int]) -> None:
    app.ask("restart", words=["app-2"])


def scale(app: Running, ports: List[int]) -> None:
    for instances in (5, 1, 3):
        app.ask("scale", id="app", instances=instances)


def another_command(app: Running, ports: List[int]) -> None:
    app.write(web("app", ports[:3], ports[6], env={"RELEASE": "2"}))
    app.ask("reload")


def other_instance_ports(app: Running, ports: List[int]) -> None:
    app.write(web("app", ports[1:4], ports[6]))
    app.ask("reload")


def stop_all_but_one(app: Running, ports: List[int]) -> None:
    for command in ("stop", "start"):
        app.ask(command, words=["app-1", "app-3"])


@pytest.mark.parametrize(
    "change",
    [restart, restart_one, scale, another_command, other_instance_ports, stop_all_but_one],
    ids=lambda change: change.__name__)  # fmt: skip
def test_a_change_loses_no_request_of_an_application_that_dies_at_sigterm(
    app: Running, ports: List[int], change: Callable[[Running, List[int]], None]
) -> None:
    kinds = mixed("/slow/0.1", 10, 3, 3) + mixed("/", 3, 2, 2)
    with Crowd(ports[6], *kinds) as crowd:
        crowd.wait_for_answers()
        for _ in range(max(1, int(SCALE))):
            change(app, ports)
        crowd.wait_for_answers()
    assert crowd.lost == []
    assert set(app.states().values()) == {"running"}


def test_a_keep_alive_client_keeps_its_connection_while_its_instances_change(
    app: Running, ports: List[int]
) -> None:
    client = connect(ports[6])
    socket_before = client.sock
    for _ in range(2):
        before = {ask(client).instance for _ in range(3)}
        app.ask("restart", words=["app"])
        assert {ask(client).instance for _ in range(3)} == before == {"0", "1", "2"}
    assert client.sock is socket_before
    client.close()


def test_a_single_instance_is_restarted_while_its_clients_wait(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(2)
    app = running(web("app", ports[:1], ports[1])).start()
    with Crowd(ports[1], *mixed("/slow/0.1", 6, 2, 2)) as crowd:
        crowd.wait_for_answers()
        app.ask("restart", words=["app"])
        crowd.wait_for_answers()
    assert crowd.lost == []


def test_a_download_is_finished_and_the_restart_waits_for_it(
    app: Running, ports: List[int]
) -> None:
    """The application would end in the middle of it. The wait is over with its last byte."""
    downloads = [Asking(ports[6], "/chunks/25") for _ in range(3)]
    eventually(lambda: in_flight(app) == 3)
    began = now()
    with Crowd(ports[6], *mixed("/slow/0.1", 4, 2, 2)) as crowd:
        restart(app, ports)
        took = now() - began
        crowd.wait_for_answers()
    assert [each.answer.body for each in downloads] == [b"chunk\n" * 25] * 3
    assert 2 < took < GRACE
    assert crowd.lost == []


# WebSockets


def speaking(ports: List[int], common: int, command: List[str]) -> Any:
    return {"id": "app", "cmd": command, "autostart": True, "terminateGracePeriod": 0.5,
            "terminateTimeout": 60, "restartDelayMs": 50,
            "cluster": cluster(ports, common, protocol="http")}


def is_restarted_with_close_frames(app: Running, port: int) -> None:
    clients = []
    for _ in range(8):
        client = socket.create_connection(("127.0.0.1", port), PATIENCE)
        upgrade(client, "/600")
        clients.append(client)
    with ThreadPoolExecutor(len(clients)) as threads:
        partings = [threads.submit(part, client) for client in clients]
        app.ask("restart", words=["app"])
    assert [each.result() for each in partings] == [GOING_AWAY] * len(clients)


def part(client: socket.socket) -> bytes:
    """The code of the close frame that comes, which is answered."""
    with client:
        opcode, text = receive(client)
        while opcode == TEXT:
            opcode, text = receive(client)
        assert opcode == CLOSE
        client.sendall(frame(CLOSE, text[:2], b"mask"))
        assert client.recv(100) == b""
    return text[:2]


def test_websockets_get_the_close_frame_of_their_application(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(3)
    app = running(speaking(ports[:2], ports[2], [sys.executable, HALFWAY])).start()
    is_restarted_with_close_frames(app, ports[2])


def test_websockets_of_the_package_of_that_name_get_its_close_frame(
    running: Make, free_ports: Ports
) -> None:
    found = module("websockets")()
    if found is None:
        pytest.skip("websockets is not installed")
    command = [shlex.split(found)[0], str(FOLDER / "http_websockets.py")]
    ports = free_ports(3)
    app = running(speaking(ports[:2], ports[2], command)).start()
    is_restarted_with_close_frames(app, ports[2])


# The end of all


def sigterm(app: Running) -> None:
    app.signal(signal.SIGTERM)


def shutdown(app: Running) -> None:
    app.ask("shutdown")


ENDS = pytest.mark.parametrize("end", [sigterm, shutdown], ids=lambda end: end.__name__)


@ENDS
def test_what_is_in_flight_at_the_end_is_answered_and_then_connections_end(
    app: Running, ports: List[int], end: Callable[[Running], None], tmp_path: Path
) -> None:
    """It takes no longer than the slowest answer, however many clients keep their connection."""
    gate = Gate(tmp_path)
    idle = [connect(ports[6]) for _ in range(4)]
    for client in idle[:2]:
        ask(client)
    slow = [Asking(ports[6], "/slow/%s" % gate, method=method, body=body)
            for method, body in [("GET", None), ("POST", b"x")] * 4]
    halves = [Asking(ports[6], "/half/%s" % gate) for _ in range(3)]
    pipelining = socket.create_connection(("127.0.0.1", ports[6]), PATIENCE)
    pipelining.sendall(b"GET /slow/%s HTTP/1.1\r\nHost: x\r\n\r\n" % str(gate).encode())
    eventually(lambda: in_flight(app) == 12)
    began = now()
    # They are slow also when all of them are in flight.
    opening = threading.Timer(1.5, gate.opens)
    opening.start()
    end(app)
    for client in idle:
        assert client.sock.recv(100) == b""
        client.close()
    assert [each.status for each in slow] == [200] * 8
    assert {each.answer.fields["Connection"] for each in slow} == {"close"}
    assert [each.answer.body for each in halves] == [b"firstlater"] * 3
    with pipelining:
        answer = b"".join(iter(lambda: pipelining.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ") and b"hello from " in answer
    assert app.wait() == 0
    assert now() - began < GRACE / 2
    opening.join()


@ENDS
def test_every_request_that_an_instance_got_before_the_end_is_answered(
    app: Running, ports: List[int], end: Callable[[Running], None]
) -> None:
    with Crowd(ports[6], *mixed("/slow/0.1", 8, 4, 4)) as crowd:
        crowd.wait_for_answers()
        end(app)
        assert app.wait() == 0
    said = app.said()
    assert said.count("[stdout] GET") + said.count("[stdout] POST") == sum(crowd.answered)


# kill -9


def test_a_kill_costs_what_had_begun_to_be_answered_and_what_may_not_be_repeated(
    running: Make, free_ports: Ports, tmp_path: Path
) -> None:
    """Two of each are with the instance that is killed, and two with the other."""
    ports, gate = free_ports(3), Gate(tmp_path)
    app = running(web("app", ports[:2], ports[2])).start()
    pid = app.pids()["app-1"]
    asked = []
    for method, body in [("GET", None), ("HEAD", None), ("DELETE", None), ("POST", b"x"),
                         ("POST", None), ("PUT", b"x")]:
        for _ in range(4):
            asked.append(Asking(ports[2], "/slow/%s" % gate, method=method, body=body))
            eventually(lambda: in_flight(app) == len(asked))
    begun = []
    for path in ["/half/"] * 4 + ["/chunks/"] * 4:
        client = connect(ports[2])
        client.request("GET", path + str(gate))
        begun.append((client, client.getresponse()))
    assert app.members()["app-1"]["backend"]["open"] == 16
    kill(pid, signal.SIGKILL)
    eventually(lambda: app.members()["app-2"]["backend"]["open"] == 22)
    gate.opens()
    statuses = [sorted(each.status for each in asked[place:place + 4])
                for place in range(0, 24, 4)]
    assert statuses == [[200] * 4] * 3 + [[200, 200, 502, 502]] * 3
    ends = [end_of(response) for _, response in begun]
    assert sorted(ends[:4]) == [b"firstlater"] * 2 + [b"reset"] * 2
    assert sorted(re.sub(b"(chunk\n)+", b"whole", each) for each in ends[4:]) == (
        [b"reset"] * 2 + [b"whole"] * 2)
    for client, _ in begun:
        client.close()
    assert app.process("app")["balancer"]["retries"] >= 6


def end_of(response: Any) -> bytes:
    try:
        return bytes(response.read())
    except ConnectionResetError:
        return b"reset"


def test_kills_cost_clients_that_never_pause_nothing_but_posts(
    app: Running, ports: List[int]
) -> None:
    rng = random.Random(12)
    posting, kills = 3, 4 * max(1, int(SCALE))
    with Crowd(ports[6], *mixed("/slow/0.05", 8, 4, posting), *mixed("/", 2, 2, 0)) as crowd:
        for _ in range(kills):
            crowd.wait_for_answers()
            pid = rng.choice(list(app.pids().values()))
            kill(pid, signal.SIGKILL)
            eventually(lambda: not lives(pid))  # noqa: B023
            eventually(lambda: app.process("app")["up"] == 3)
        crowd.wait_for_answers()
    assert [each for each in crowd.lost if each[0] != "POST" or "502" not in each[1]] == []
    assert len(crowd.lost) <= kills * posting


def test_the_only_instance_is_killed_and_requests_wait_for_its_next_run(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(2)
    app = running(web("app", ports[:1], ports[1])).start()
    with Crowd(ports[1], *mixed("/slow/0.1", 4, 2, 0)) as crowd:
        crowd.wait_for_answers()
        kill(app.pids()["app-1"], signal.SIGKILL)
        crowd.wait_for_answers()
    assert crowd.lost == []


def test_who_is_answered_before_the_end_of_its_body_may_go_on_or_is_told(
    app: Running, ports: List[int]
) -> None:
    """Many applications do not wait for a body that they do not need."""
    client = connect(ports[6])
    for _ in range(3):
        client.putrequest("POST", "/early")
        client.putheader("Content-Length", "4")
        client.endheaders()
        response = client.getresponse()
        assert (response.status, response.read()[:11]) == (200, b"hello from ")
        if client.sock is not None:  # no word of an end
            client.sock.sendall(b"body")
        assert ask(client).status == 200
    client.close()


# Instances that close their connections when these have been idle


NODE = """\
const http = require("http"), make = http.createServer;
http.createServer = (listener) => Object.assign(make(listener),
  {keepAliveTimeout: 1000, keepAliveTimeoutBuffer: 0});
require("./http_app.js");
"""


def closing(name: str, ports: List[int], common: int) -> Any:
    """It closes a connection that has been idle for 1 s."""
    if name == "scripted":
        return web("app", ports, common, "--idle", "1")
    found = of_bench(name, ports, common)
    if name == "node":
        found["cmd"] = found["cmd"].replace("http_app.js", "-e " + shlex.quote(NODE))
    else:
        found["cmd"] += " --keep-alive 1"
    return found


#: Seconds between two requests: about that second.
ABOUT_A_SECOND = (1.0, 0.999, 0.997, 1.001, 0.98, 1.004)


def test_an_instance_that_closes_idle_connections_costs_no_request(
    running: Make, free_ports: Ports
) -> None:
    """All clients ask at the same time, so that each gets a connection that is as old."""
    ports = free_ports(6)
    names = ["node", "gunicorn-threads", "scripted"]
    running(*[dict(closing(name, ports[place:place + 1], ports[3 + place]), id=name)
              for place, name in enumerate(names)]).start()
    with ThreadPoolExecutor(len(names)) as threads:
        waves = [threads.submit(rolled, port) for port in ports[3:]]
    assert [each.result() for each in waves] == [[]] * len(names)


def rolled(port: int) -> List[str]:
    """What is lost."""
    waves = Waves(port, getting=8, posting=16)
    for pause in ABOUT_A_SECOND:
        waves.roll()
        time.sleep(pause)
    waves.roll()
    waves.close()
    return waves.lost
