"""A drain cuts nothing: whatever is changed, an answer that has begun comes to its end.

Two applications pause in the middle of their answers. One dies of its stop signal at once, so its
grace has to last until the answer is out; the other finishes what it has in hand, so its grace may
be too short.
"""

import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any, Callable, Dict, Iterable, List, Tuple

import pytest
from gevent.event import Event

import control_client
from concurrency import Condition
from conftest import eventually
from model import InstanceSpec
from peers import Aside
from rotation import Draining, Registration, Rotation
from running import PUPGEVENT, Running, cluster, lives, server, sleeper
from web_sockets import CLOSE, TEXT, frame, read, receive

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]

HALFWAY = str(Path(__file__).resolve().parent / "children" / "halfway.py")

#: Seconds between the halves of an answer: longer than two looks at the connections (one a
#: second), after which an earlier release took this for the end.
PAUSE = 3.5

#: Seconds for an answer. With what it waits for, a stop of all takes no longer either.
PATIENCE = 60


def halfway(process_id: str, ports: List[int], common: Any, *options: str, **more: Any) -> Any:
    return dict({
        "id": process_id, "cmd": [sys.executable, HALFWAY, *options], "autostart": True,
        "cluster": cluster(ports, common), "restartDelayMs": 50, "terminateTimeout": 60,
    }, **more)  # fmt: skip


class Applications:
    """The two, with two instances each, and a third process that stays as it is."""

    def __init__(self, running: Make, ports: List[int]) -> None:
        self.ports = ports
        self.app = running(*self.processes()).start()

    def processes(self, **more: Any) -> List[Any]:
        return [
            halfway("dies", self.ports[:2], self.ports[6], "--dies",
                    **dict({"terminateGracePeriod": 60}, **more)),
            halfway("finishes", self.ports[3:5], self.ports[7],
                    **dict({"terminateGracePeriod": 0.5}, **more)),
            sleeper("stays"),
        ]  # fmt: skip

    @property
    def common(self) -> List[int]:
        return [self.ports[6], self.ports[7]]

    # What can be asked of them; each is done when it returns

    def restart(self) -> None:
        for process_id in ("dies", "finishes"):
            self.app.ask("restart", words=[process_id])

    def stop(self) -> None:
        self.app.ask("stop", words=["dies", "finishes"])

    def scale(self) -> None:
        """Both down to their first instance, where half of the clients are not."""
        for process_id in ("dies", "finishes"):
            self.app.ask("scale", id=process_id, instances=1)

    def another_command(self) -> None:
        self.app.write(*self.processes(env={"RELEASE": "2"}))
        self.app.ask("reload")

    def remove(self) -> None:
        self.app.write(*self.processes()[2:])
        self.app.ask("reload")

    def other_instance_ports(self) -> None:
        self.ports[:2], self.ports[3:5] = self.ports[1:3], self.ports[4:6]
        self.app.write(*self.processes())
        self.app.ask("reload")

    def other_common_port(self) -> None:
        self.ports[6:8] = self.ports[8:10]
        self.app.write(*self.processes(env={"RELEASE": "2"}))
        self.app.ask("reload")

    def no_common_port(self) -> None:
        self.ports[6:8] = [None, None]  # type: ignore[list-item]
        self.app.write(*self.processes(env={"RELEASE": "2"}))
        self.app.ask("reload")

    def shutdown(self) -> None:
        self.app.ask("shutdown")

    def sigterm(self) -> None:
        self.app.signal(signal.SIGTERM)
        assert self.app.wait(2 * PATIENCE) == 0


WAYS = [
    Applications.restart, Applications.stop, Applications.scale, Applications.another_command,
    Applications.remove, Applications.other_instance_ports, Applications.other_common_port,
    Applications.no_common_port, Applications.shutdown, Applications.sigterm,
]  # fmt: skip


@pytest.fixture
def applications(running: Make, free_ports: Ports) -> Applications:
    return Applications(running, free_ports(10))


def ask(port: int, path: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), PATIENCE)
    client.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
    return client


def rest(client: socket.socket) -> bytes:
    """What comes until the end; then the client leaves too."""
    with client:
        return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_an_answer_that_has_begun_is_finished(
    applications: Applications, way: Callable[[Applications], None]
) -> None:
    """Four clients of each, which both instances share: halves of answers, and events."""
    halves = [ask(port, "/half/%g" % PAUSE) for port in applications.common for _ in range(2)]
    streams = [ask(port, "/events/2") for port in applications.common for _ in range(2)]
    for client in halves:
        read(client, len(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst"))
    for client in streams:
        read(client, len(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 0\n\n"))
    with ThreadPoolExecutor(8) as readers:
        heard = [readers.submit(rest, client) for client in halves + streams]
        way(applications)
        assert [each.result() for each in heard] == (
            [b"later"] * 4 + [b"data: 1\n\ndata: 2\n\n"] * 4)


def open_websocket(port: int, seconds: float) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), PATIENCE)
    client.sendall(b"GET /%g HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                   b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % seconds)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read(client, 1)
    return client


def test_a_websocket_goes_on_while_it_is_drained(applications: Applications) -> None:
    """Its application is the one to end it; here the client does, and the stop goes on at once."""
    with open_websocket(applications.common[0], PAUSE) as client:
        assert receive(client) == (TEXT, b"hello")
        stop = Aside(applications.app.ask, "stop")
        for _ in range(2):
            assert receive(client) == (TEXT, b"hello")
    stop.is_done()


def test_a_websocket_is_closed_by_its_application_with_a_close_frame(
    applications: Applications
) -> None:
    with open_websocket(applications.common[1], 600) as client:
        assert receive(client) == (TEXT, b"hello")
        stop = Aside(applications.app.ask, "stop")
        assert receive(client) == (CLOSE, b"\x03\xe9")
        client.sendall(frame(CLOSE, b"\x03\xe9", b"mask"))
        assert client.recv(100) == b""
    stop.is_done()


def test_a_keep_alive_connection_between_two_requests_stays(
    running: Make, free_ports: Ports
) -> None:
    """It is the application that parts from it, after its stop signal."""
    ports = free_ports(2)
    app = running(server("my-app", ports[:1], ports[1], terminateGracePeriod=PAUSE)).start()
    with socket.create_connection(("127.0.0.1", ports[1]), PATIENCE) as client:
        ask_again(client)
        stop = Aside(app.ask, "stop")
        eventually(lambda: "draining, 1 connection" in app.said())
        client.settimeout(PAUSE - 1)
        with pytest.raises(socket.timeout):
            client.recv(1)
        client.settimeout(PATIENCE)
        ask_again(client)
        assert client.recv(65536) == b""
    stop.is_done()


def ask_again(client: socket.socket) -> None:
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"\n") or b"Hello" not in answer:
        answer += read(client, 1)


# Told


def told(app: Running, command: str, **fields: Any) -> Tuple[List[str], Aside]:
    """What a command shows; it is under way."""
    lines: List[str] = []
    request: Dict[str, Any] = dict({"command": command}, **fields)
    return lines, Aside(control_client.call, str(app.config), request,
                        lambda line: lines.append(line["progress"]), 60)


def test_a_command_says_for_whom_it_waits_and_how_long_at_most(
    applications: Applications
) -> None:
    clients = [open_websocket(applications.common[0], 600) for _ in range(4)]
    lines, stop = told(applications.app, "stop", words=["dies-1"])
    eventually(lambda: "dies-1: draining, 2 connections, up to 60 s" in lines)
    for client in clients[:2]:
        client.close()
    eventually(lambda: any("dies-1: draining, 1 connection, up to" in line for line in lines))
    for client in clients[2:]:
        client.close()
    stop.is_done()
    assert lines[-1].startswith("dies-1: stopped")
    assert "[dies-1][core] draining, 2 connections, up to 60 s" in applications.app.said()


class Connections(Rotation):
    """A rotation of which an instance has so many connections, at one look after the other."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = list(numbers)
        self._over = Event()

    def drain(self, name: str, seconds: float) -> None:
        self._over.wait(seconds)

    def connections_of(self, name: str) -> int:
        number = self._numbers.pop(0)
        if not self._numbers:
            self._over.set()
        return number


def drained(numbers: Iterable[int], seconds: float) -> List[Draining]:
    """What is told of a drain that has these numbers of connections, and then is over."""
    tells: List[Draining] = []
    spec = InstanceSpec("web-1", 0, "", 1)
    registration = Registration(Connections(numbers), spec, Condition(monotonic))
    registration.enter()
    registration.drain(seconds, lambda: False, tells.append)
    return tells


def test_the_seconds_that_are_left_count_down_while_a_client_stays() -> None:
    tells = drained([1, 1, 1], 10.0)
    assert [each.connections for each in tells] == [1, 1, 1]
    assert str(tells[0]) == "draining, 1 connection, up to 10 s"
    assert tells[1].seconds <= 9.0 and tells[2].seconds <= 8.0


def test_in_a_long_time_a_number_that_stays_is_not_told_each_second() -> None:
    tells = drained([3, 3, 3], 600.0)
    assert [str(each) for each in tells] == ["draining, 3 connections, up to 600 s"]


def test_a_thousand_connections_that_end_are_a_line_a_second() -> None:
    tells = drained([1000, 400, 7], 600.0)
    assert [each.connections for each in tells] == [1000, 400, 7]
    assert tells[0].seconds - tells[1].seconds >= 1 and tells[1].seconds - tells[2].seconds >= 1


@pytest.mark.parametrize("command", ["restart", "scale", "reload", "shutdown"])
def test_every_command_that_drains_says_so(applications: Applications, command: str) -> None:
    fields: Dict[str, Dict[str, Any]] = {
        "restart": {"words": ["dies"]}, "scale": {"id": "dies", "instances": 1},
    }  # fmt: skip
    clients = [open_websocket(applications.common[0], 600) for _ in range(2)]
    applications.app.write(*applications.processes(env={"RELEASE": "2"}))
    lines, done = told(applications.app, command, **fields.get(command, {}))
    eventually(lambda: any("draining, 1 connection, up to 60 s" in line for line in lines))
    for client in clients:
        client.close()
    done.is_done()


def test_progress_is_shown_in_a_pipe_too(running: Make, free_ports: Ports) -> None:
    app = running(sleeper("one")).start()
    done = app.run("stop", "one")
    assert (done.returncode, done.stdout) == (0, "stopped: one\n")
    assert done.stderr.splitlines() == ["one: stopping", "one: stopped (SIGTERM)"]


def test_a_pipe_gets_each_line_of_progress_at_once(applications: Applications) -> None:
    """And not all of them at the end."""
    with open_websocket(applications.common[0], 600), open_websocket(applications.common[0], 600):
        words = [*PUPGEVENT, "restart", str(applications.app.config), "dies"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
            assert command.stderr is not None
            lines = [command.stderr.readline().decode() for _ in range(3)]
            assert command.poll() is None
            command.kill()
    assert lines[0] == "dies-1: stopping\n"
    assert lines[1] == "dies-1: draining, 1 connection, up to 60 s\n"
    assert re.match("dies-1: draining, 1 connection, up to 5[0-9] s\n", lines[2])


# What an application has said before it ended


def remove(app: Running) -> None:
    app.write(sleeper("stays"))
    app.ask("reload")


def shut_down(app: Running) -> None:
    app.ask("shutdown")


@pytest.mark.parametrize("end", [remove, shut_down], ids=lambda end: end.__name__)
def test_the_end_of_an_answer_outlives_its_application(
    running: Make, free_ports: Ports, end: Callable[[Running], None]
) -> None:
    """The instance has written all of it and has gone before the client reads a byte: what it wrote
    lies in the relay and in the kernel."""
    ports = free_ports(2)
    app = running(
        halfway("app", ports[:1], ports[1], "--dies", terminateGracePeriod=0), sleeper("stays")
    ).start()
    pid = app.pids()["app-1"]
    client = ask(ports[1], "/flood/0")
    pushed = eventually(lambda: re.search(r"pushed (\d+)", app.said()))
    ended = Aside(end, app)
    eventually(lambda: not lives(pid))
    assert pushed and len(rest(client)) == int(pushed.group(1))
    ended.is_done()
