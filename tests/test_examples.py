"""The examples in conf/examples run as they are, with the real servers, and lose nothing."""

import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Set, Tuple

import pytest

import keys
import web_sockets as websocket
from bench.applications import SYSTEM_PATH
from conftest import eventually
from examples import MOST, PORTS, is_supported, with_other_ports
from load import Load
from running import Running, now, run
from tools import needs_modules, tool

pytest_plugins = ["runs"]

EXAMPLES = Path(__file__).resolve().parent.parent / "conf" / "examples"
NAMES = sorted(path.name for path in EXAMPLES.iterdir())

Ports = Callable[[int], List[int]]

#: Seconds for anything that is to happen.
PATIENCE = 60.0

#: Seconds that an answer takes: the next ones where a busy machine has had its answers too early.
SLOWER_AND_SLOWER = (1, 4, 15)

#: What each needs besides pupgevent: programs, and modules of the system's Python.
PROGRAMS = {"flask": ["gunicorn"], "node": ["node"], "php": ["php"],
            "redis": ["redis-server", "redis-cli"]}
MODULES = {"flask": ["flask"], "fastapi": ["fastapi", "uvicorn", "websockets"]}

#: The examples that answer requests, and what their process is called.
WEB = [("flask", "shop"), ("fastapi", "chat"), ("node", "site"), ("php", "page")]

web = pytest.mark.parametrize("name, process_id", WEB, ids=[name for name, _ in WEB])


class Example(Running):
    """An example in a folder of this test's own, on ports of its own."""

    def __init__(self, folder: Path, name: str, free_ports: Ports) -> None:
        super().__init__(folder)
        shutil.copytree(str(EXAMPLES / name), str(folder / name),
                        ignore=shutil.ignore_patterns("data", "__pycache__"))
        self.config = folder / name / "pupgevent.toml"
        #: The ports of the file, and those in their places.
        self.ports = with_other_ports(self.config, free_ports)

    def start(self) -> "Example":
        super().start()
        return self

    def changes(self, key: str, value: object) -> "Example":
        """Another value of a key, wherever the file has it."""
        text, count = re.subn(r'(?m)^%s = ("[^"]*"|\S+)' % key, "%s = %s" % (key, value),
                              self.config.read_text())
        assert count, key
        self.config.write_text(text)
        return self

    @property
    def common(self) -> int:
        """The common port of its only cluster."""
        return self.process_of_file()["balancer"]["port"]  # type: ignore[no-any-return]

    def process_of_file(self) -> Dict[str, Any]:
        (found,) = self.status()["processes"]
        return dict(found)


@pytest.fixture
def example(
    folder: Path, free_ports: Ports, monkeypatch: "pytest.MonkeyPatch"
) -> Iterator[Callable[[str], Example]]:
    """`example(name)`: one of them, not started yet; the test is skipped if it cannot run here."""
    # Debian's packages are made for Debian's Python.
    monkeypatch.setenv("PATH", SYSTEM_PATH + ":" + os.environ["PATH"])
    made: List[Example] = []

    def make(name: str) -> Example:
        for program in PROGRAMS.get(name, []):
            tool(program)
        needs_modules("python3", *MODULES.get(name, ["os"]))
        made.append(Example(folder, name, free_ports))
        return made[-1]

    yield make
    for each in made:
        each.end()


needs_cron = pytest.mark.skipif(
    not (is_supported(keys.PROCESS, "cron") and is_supported(keys.PROCESS, "overrun")),
    reason="cron is not supported yet")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_cron) if name == "cron" else name for name in NAMES])
def test_the_file_is_accepted_without_a_warning(
    example: Callable[[str], Example], name: str
) -> None:
    done = run("check", str(example(name).config))
    assert (done.returncode, done.stderr) == (0, "")


def test_ports_of_the_examples_differ_so_that_all_can_run_side_by_side() -> None:
    ranges = [range(int(port), int(port) + (MOST if key == "startPort" else 1))
              for path in [*EXAMPLES.glob("*/pupgevent.toml"), EXAMPLES.parent / "app.toml"]
              for key, port in PORTS.findall(path.read_text())]
    taken = [port for each in ranges for port in each]
    assert len(taken) == len(set(taken)) > MOST * len(WEB)


# Web servers


@web
def test_a_restart_under_load_loses_no_request(
    example: Callable[[str], Example], name: str, process_id: str
) -> None:
    app = example(name).start()
    before = app.pids()
    with Load(app.common, brief=2, keeping=0) as load, Load(
            app.common, brief=len(before) - 1, keeping=0, request=slow_request(1)) as slow:
        eventually(lambda: load.served > 20 and slow.served > 0)
        app.ask("restart", words=[process_id])
        served = load.served
        eventually(lambda: load.served > served + 20)
    assert load.failures == slow.failures == []
    after = app.pids()
    assert set(app.states().values()) == {"running"}
    assert set(after) == set(before) and not set(after.values()) & set(before.values())
    members = app.process_of_file()["members"]
    assert all(member["backend"]["total"] > 0 for member in members)


@web
def test_the_application_itself_finishes_what_is_under_way_when_it_gets_its_signal(
    example: Callable[[str], Example], name: str, process_id: str
) -> None:
    """Here nothing is drained: the signal comes in the middle of an answer of each instance."""
    app = example(name).changes("terminateGracePeriod", 0).start()
    clients = asked_slowly(app)
    app.ask("stop", words=[process_id])
    answers = [read_all(client) for client in clients]
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers), answers
    assert all(b"That took a while\n" in answer for answer in answers), answers
    assert set(app.states().values()) == {"stopped"}


def slow_request(seconds: int) -> bytes:
    return b"GET /slow/%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % seconds


def asked_slowly(app: Example) -> List[socket.socket]:
    """As many clients as instances; each instance has read a request, and none has answered."""
    count = len(app.members())
    for seconds in SLOWER_AND_SLOWER:
        clients = [connected(app.common) for _ in range(count)]
        for client in clients:
            client.sendall(slow_request(seconds))
        # Half of the time is left for what is to happen meanwhile.
        deadline = now() + seconds / 2
        while now() < deadline:
            if requests_are_read(app) and now() < deadline:
                return clients
        for client in clients:
            read_all(client)
    raise AssertionError("answers of %d s come before the requests are seen" % seconds)


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def read_all(client: socket.socket) -> bytes:
    with client:
        return b"".join(iter(lambda: client.recv(65536), b""))


def requests_are_read(app: Example) -> bool:
    """Each instance has one, and has taken it from its socket."""
    members = app.process_of_file()["members"]
    ports = {member["port"] for member in members} | {app.common}
    # Between the two the balancer has passed on what it had read, and not yet written.
    return (all(member["backend"]["open"] == 1 for member in members) and not queued(ports)
            and bool(app.status()) and not queued(ports))


def queued(ports: Set[int]) -> int:
    """What waits in the sockets at both ends: bytes, and connections to accept (proc(5))."""
    with open("/proc/net/tcp") as file:
        rows = [line.split() for line in file][1:]
    return sum(int(size, 16) for row in rows if ports & set(map(port_of, row[1:3]))
               for size in row[4].split(":"))


def port_of(address: str) -> int:
    return int(address.split(":")[1], 16)


def test_a_websocket_is_echoed_and_closed_by_a_restart(example: Callable[[str], Example]) -> None:
    app = example("fastapi").changes("terminateGracePeriod", 0.5).start()
    count = len(app.members())
    sockets = [echoing(app.common) for _ in range(count)]
    app.ask("restart", words=["chat"])
    for client in sockets:
        with client:
            if uvicorn_version() >= (0, 22):
                # 1012, "service restart", of the registry of RFC 6455.
                assert websocket.receive(client) == (websocket.CLOSE, b"\x03\xf4")
            assert client.recv(1) == b""
    echoing(app.common).close()


def uvicorn_version() -> Tuple[int, ...]:
    text = subprocess.check_output(["python3", "-c", "import uvicorn; print(uvicorn.__version__)"],
                                   universal_newlines=True, cwd="/", timeout=PATIENCE)
    return tuple(map(int, text.split(".")[:2]))


def echoing(port: int) -> socket.socket:
    client = connected(port)
    websocket.upgrade(client, "/echo")
    for message in (b"hello", b"x" * 70000):
        client.sendall(websocket.frame(websocket.TEXT, message, os.urandom(4)))
        assert websocket.receive(client) == (websocket.TEXT, message)
    return client


# Redis


def test_redis_replicas_tell_what_was_written_and_a_restart_keeps_it(
    example: Callable[[str], Example]
) -> None:
    app = example("redis").start()
    primary, replicas = app.ports["6400"], app.ports["6401"]
    eventually(lambda: redis(primary, "set", "greeting", "hello") == "OK")
    eventually(lambda: both_say(replicas, "greeting", "hello"))
    app.ask("restart", words=["all"])
    eventually(lambda: redis(primary, "set", "parting", "goodbye") == "OK")
    assert redis(primary, "get", "greeting") == "hello"
    eventually(lambda: both_say(replicas, "parting", "goodbye"))
    assert redis(replicas, "get", "greeting") == "hello"


def redis(port: int, *words: str) -> str:
    """The answer, or the error (LOADING, MASTERDOWN, a connection that was closed)."""
    done = subprocess.run(["redis-cli", "-h", "127.0.0.1", "-p", str(port), *words],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                          universal_newlines=True, timeout=PATIENCE)
    return done.stdout.strip()


def both_say(port: int, key: str, value: str) -> bool:
    """New connections go to one replica after the other."""
    return all(redis(port, "get", key) == value for _ in range(4))


def test_redis_keeps_its_data_when_it_is_killed(example: Callable[[str], Example]) -> None:
    """The client that comes meanwhile waits until it is back."""
    app = example("redis").start()
    eventually(lambda: redis(app.ports["6400"], "set", "greeting", "hello") == "OK")
    os.kill(app.pids()["primary-1"], signal.SIGKILL)
    eventually(lambda: redis(app.ports["6400"], "get", "greeting") == "hello")


# Without a port


def test_a_worker_that_is_killed_is_started_again_and_does_its_job_again(
    example: Callable[[str], Example]
) -> None:
    app = example("worker").start()
    folder = app.config.parent / "data"
    number, name, pid = frozen_in_its_job(app, folder)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: app.said().count("begins number %d\n" % number) == 2)
    eventually(lambda: os.listdir(str(folder)) == [])
    eventually(lambda: "has done number %d\n" % number in app.said())
    eventually(lambda: app.are(**{name: "running"}) and app.pids()[name] != pid)


def frozen_in_its_job(app: Example, folder: Path) -> Tuple[int, str, int]:
    """Number of the job, name and pid of the worker that has it, and does not get on with it."""
    for number in range(10):
        add_job(folder, number)
        name, pid = eventually(lambda: busy_worker(app, "begins number %d\n" % number))  # noqa: B023
        os.kill(pid, signal.SIGSTOP)
        if list(folder.glob("%d.job.taken-*" % number)):
            return number, name, pid
        os.kill(pid, signal.SIGCONT)
    raise AssertionError("each job is done before it is seen")


def add_job(folder: Path, number: int) -> None:
    """All at once, for workers that look for it all the time."""
    eventually(folder.is_dir)
    whole = folder / ("%d.new" % number)
    whole.write_text("number %d\n" % number)
    whole.rename(folder / ("%d.job" % number))


def busy_worker(app: Example, says: str) -> Tuple[str, int]:
    found = re.search(r"\[(worker-\d)\]\[stdout\] %s" % says, app.said())
    assert found
    return found.group(1), app.pids()[found.group(1)]


def test_workers_that_are_restarted_finish_the_job_that_they_have(
    example: Callable[[str], Example]
) -> None:
    app = example("worker").start()
    folder = app.config.parent / "data"
    for number in range(4):
        add_job(folder, number)
    eventually(lambda: busy_worker(app, "begins number"))
    app.ask("restart", words=["worker"])
    eventually(lambda: os.listdir(str(folder)) == [])
    for number in range(4):
        eventually(lambda: "has done number %d\n" % number in app.said())  # noqa: B023
        for line in ("begins number %d\n", "has done number %d\n"):
            assert app.said().count(line % number) == 1


@needs_cron
def test_a_job_by_the_clock_runs_again_and_again(example: Callable[[str], Example]) -> None:
    app = example("cron").changes("cron", '"* * * * * *"').begin()
    eventually(lambda: app.said().count("the report is written") >= 2)
    report = app.config.parent / "data" / "report.txt"
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d, load ", report.read_text())
