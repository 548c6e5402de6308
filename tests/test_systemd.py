"""What a real systemd socket hears of a real pupgevent."""

import itertools
import os
import select
import signal
import socket
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, List

import gevent
import pytest

from conftest import eventually
from health_record import HealthRecord
from running import Running, server, sleeper
from systemd import NotifySocket, ServiceNotifier, watchdog_of

pytest_plugins = ["runs"]

Make = Callable[..., Running]


class Listener:
    """The end at which systemd sits."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(60)
        self.heard: List[Dict[str, str]] = []

    def next(self) -> Dict[str, str]:
        lines = self.socket.recv(65536).decode().split("\n")
        self.heard.append(dict(line.split("=", 1) for line in lines))
        return self.heard[-1]

    def until(self, name: str) -> Dict[str, str]:
        """The next message that has such a line; what comes before is in `heard`."""
        while name not in self.next():
            pass
        return self.heard[-1]


@pytest.fixture(params=["path", "abstract"])
def listener(
    request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Listener]:
    address = str(tmp_path / "notify") if request.param == "path" else "@" + uuid.uuid4().hex
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    found = Listener(address)
    yield found
    found.socket.close()


def test_a_run_is_told_from_ready_to_stopping(running: Make, listener: Listener) -> None:
    app = running(sleeper("one"), sleeper("two")).begin()
    assert listener.until("READY") == {
        "READY": "1", "STATUS": "2 of 2 instances running"}
    app.signal(signal.SIGHUP)
    reloading = listener.until("RELOADING")
    assert int(reloading["MONOTONIC_USEC"]) > 0
    assert listener.until("READY")["READY"] == "1"
    app.signal(signal.SIGTERM)
    assert listener.until("STOPPING")["STATUS"] == "stopping"
    assert app.wait() == 0


def test_a_reload_by_command_is_told_too_and_so_is_a_bad_file(
    running: Make, listener: Listener
) -> None:
    app = running(sleeper("one")).begin()
    listener.until("READY")
    assert app.run("reload").returncode == 0
    listener.until("RELOADING")
    listener.until("READY")
    app.config.write_text("{")
    assert app.run("reload").returncode == 2
    listener.until("RELOADING")
    listener.until("READY")


def test_ready_waits_for_the_first_verdict_on_each_and_not_for_success(
    running: Make, listener: Listener
) -> None:
    running(sleeper("good"), sleeper("bad", cmd=["/nowhere"], restartDelayMs=60000),
            sleeper("later", autostart=False)).begin()
    assert listener.until("READY")["STATUS"] == "1 of 2 instances running"


def test_what_was_given_up_is_still_one_that_should_run(
    running: Make, listener: Listener
) -> None:
    running(sleeper("good"), sleeper("bad", cmd=["/nowhere"], restart="never")).begin()
    assert listener.until("READY")["STATUS"] == "1 of 2 instances running"


def test_ready_waits_until_one_without_a_port_has_lived_long_enough(
    running: Make, listener: Listener
) -> None:
    running(sleeper("slow", minUptimeMs=500)).begin()
    assert listener.until("READY")["STATUS"] == "1 of 1 instance running"


#: Listens, and stops listening for as long as a file is there.
SHY = """\
import os, socket, sys, time
def listener():
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", int(os.environ["PUP_CLUSTER_PORT"]))); s.listen(5)
    return s
s = listener()
while True:
    while not os.path.exists(sys.argv[1]): time.sleep(0.01)
    s.close()
    open(sys.argv[1] + ".closed", "w").close()
    while os.path.exists(sys.argv[1]): time.sleep(0.01)
    s = listener()
"""


def test_one_that_the_balancer_does_not_reach_is_not_counted_until_it_does(
    running: Make, listener: Listener, free_ports: Callable[[int], List[int]], tmp_path: Path
) -> None:
    ports, shy = free_ports(2), tmp_path / "shy"
    app = running(server("web", ports[:1], ports[1], cmd=[sys.executable, "-c", SHY, str(shy)]))
    app.begin()
    assert listener.until("READY")["STATUS"] == "1 of 1 instance running"
    shy.touch()
    eventually((tmp_path / "shy.closed").exists)
    with socket.create_connection(("127.0.0.1", ports[1])):
        assert listener.until("STATUS")["STATUS"] == "0 of 1 instance running"
        assert app.status()["healthy"] is False
        shy.unlink()
        assert listener.until("STATUS")["STATUS"] == "1 of 1 instance running"
        assert app.status()["healthy"] is True


def test_ready_does_not_come_before_the_ports_accept(
    running: Make, listener: Listener, free_ports: Callable[[int], List[int]], tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    code = ("import os, socket, time\n"
            "open(%r, 'w').close()\n"
            "while not os.path.exists(%r): time.sleep(0.01)\n"
            "s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
            "s.bind(('127.0.0.1', %d)); s.listen(5); time.sleep(600)"
            % (str(begun), str(gate), port))
    running({"id": "slow", "autostart": True, "cmd": [sys.executable, "-c", code],
             "cluster": {"instances": 1, "startPort": port}}).begin()
    eventually(begun.exists)
    gate.write_text("")
    assert listener.until("READY")["STATUS"] == "1 of 1 instance running"
    assert [each["STATUS"] for each in listener.heard[:-1]] in (
        [], ["0 of 1 instance running"])


def test_the_status_follows_the_instances(running: Make, listener: Listener) -> None:
    app = running(sleeper("one"), sleeper("two")).begin()
    listener.until("READY")
    app.run("stop", "two")
    while listener.until("STATUS")["STATUS"] != "1 of 1 instance running":
        pass


def test_many_changes_at_once_are_one_look_at_the_instances(tmp_path: Path) -> None:
    """A look at a thousand for each of a thousand would hold the loop up for half a second."""
    looks = [0]

    def instances() -> List[Any]:
        looks[0] += 1
        return []

    notify_socket = NotifySocket({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    notifier = ServiceNotifier(notify_socket, instances, lambda each: None)
    notifier.start()
    before = looks[0]
    for _ in range(1000):
        notifier.changed(None)
    with gevent.Timeout(30):
        while looks[0] == before:
            gevent.sleep(0)
    assert looks[0] == before + 1
    notifier.changed(None)
    with gevent.Timeout(30):
        while looks[0] == before + 1:
            gevent.sleep(0)
    notifier.close()


def test_the_watchdog_hears_from_a_living_loop(
    running: Make, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    running(sleeper("one")).begin()
    for _ in range(5):
        listener.until("WATCHDOG")


def test_the_children_know_nothing_of_it(
    running: Make, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    app = running(sleeper("one")).start()
    environment = Path("/proc/%d/environ" % app.pids()["one"]).read_bytes()
    assert b"NOTIFY_SOCKET" not in environment and b"WATCHDOG" not in environment


@pytest.mark.parametrize(
    "address", ["", "relative", "@", "/nowhere/at/all", "vsock:2:1", "/" * 200])
def test_an_address_that_leads_nowhere_harms_nobody(address: str) -> None:
    notify_socket = NotifySocket({"NOTIFY_SOCKET": address})
    notify_socket.send("READY=1")
    notify_socket.close()
    notify_socket.close()


def messages_taken(address: str) -> int:
    """So many a socket takes that nobody reads from: net.unix.max_dgram_qlen, or less where
    net.core.wmem_default allows less."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reader, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as writer:
        reader.bind(address)
        writer.setblocking(False)
        for count in itertools.count():
            try:
                writer.sendto(b"STATUS=100", address)
            except BlockingIOError:
                return count
    raise AssertionError


def test_a_full_socket_blocks_nobody_and_gets_everything_in_order(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    listener = Listener(address)
    notify_socket = NotifySocket({"NOTIFY_SOCKET": address})
    # More than the queue of a Unix socket takes, less than that and the backlog.
    count = messages_taken(str(tmp_path / "other")) + 20
    for number in range(count):
        notify_socket.send("STATUS=%d" % number)
    heard: List[int] = []
    listener.socket.setblocking(False)
    with gevent.Timeout(60):
        while len(heard) < count:
            try:
                heard.append(int(listener.next()["STATUS"]))
            except BlockingIOError:
                gevent.sleep(0.01)
    assert heard == list(range(count))
    notify_socket.close()
    listener.socket.close()


def test_a_watchdog_for_another_process_is_none_of_ours() -> None:
    assert watchdog_of("30000000", "") == 30
    assert watchdog_of("30000000", str(os.getpid())) == 30
    assert watchdog_of("30000000", str(os.getppid())) is None
    assert watchdog_of("0", "") is None
    assert watchdog_of("soon", "") is None


class Member:
    """An instance that runs."""

    name, state, wanted, stuck = "app", "running", True, False
    process = SimpleNamespace(autostart=True)
    health = HealthRecord()


def test_a_lack_of_memory_delays_what_is_told_and_ends_nothing(listener: Listener) -> None:
    lacks, asked = [1, 1, 1], []  # type: List[int], List[int]

    def instances() -> List[Any]:
        if asked and lacks:
            lacks.pop()
            raise MemoryError
        asked.append(1)
        return [Member()]

    notifier = ServiceNotifier(NotifySocket(os.environ), instances, lambda each: None)
    try:
        notifier.start()
        notifier.changed(Member())
        deadline = gevent.Timeout(30)
        with deadline:
            while lacks:
                gevent.sleep(0.01)
            while not select.select([listener.socket], [], [], 0)[0]:
                gevent.sleep(0.01)
        assert listener.until("READY")["STATUS"] == "1 of 1 instance running"
    finally:
        notifier.close()
