"""Who accepts on an instance's port is the instance, or no client is sent there."""

import os
import shlex
import signal
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, List

import gevent
import pytest

import port_ownership
import ports
from child import Child, Spawner, SpawnSpec
from concurrency import Condition, ForkGate, Threads, TokenBucket
from context import Context
from errors import ShortageError
from guardian import Guardian
from health_record import HealthRecord
from logs import InstanceLog, Log
from model import instance_specs
from nobody import as_nobody
from owners import RunOwner
from pid_files import FileQueue
from port_ownership import OwnershipWatch
from process_run import ProcessRun
from running import Running, now
from sinks import Source
from supervision import (
    Ledger,
    Owner,
    Page,
    SupervisorStage,
    accepts,
    cluster,
    gevent_waits_for_children,
    process,
    runs,
    script,
    shell,
    supervise,
    wait_until,
)

pytest_plugins = ["runs"]

FreePort = Callable[[], int]


@contextmanager
def stranger(port: int, host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """Somebody who is no instance: this process."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind((host, port))
        server.listen(64)
        yield server


def taken(port: int) -> str:
    return "port %d is taken by pid %d (" % (port, os.getpid())


def warns(stage: SupervisorStage, text: str) -> List[str]:
    """The warnings with that text, once there is one."""
    def found() -> List[str]:
        return [line for line in stage.page.lines if text in line]
    wait_until(found, explain=lambda: str(stage.page.lines))
    return found()


@contextmanager
def late_instance(port: int) -> Iterator[SupervisorStage]:
    """One that runs, and opens its port when it is told to (SIGUSR2)."""
    late = process(script("tenant.py", "closed"), cluster=cluster(port, ready_timeout=600.0))
    with supervise(late) as stage:
        stage.prints("closed", "[app-1][stdout]")
        yield stage


# Before it is ready


def test_instance_that_waits_for_its_port_is_not_ready_while_a_stranger_has_it(
    free_port: FreePort
) -> None:
    port = free_port()
    with late_instance(port) as stage:
        with stranger(port):
            warns(stage, taken(port))
            os.kill(stage.instance("app-1").pid or 0, signal.SIGUSR2)
            assert stage.instance("app-1").state == "starting" and stage.ledger.told == []
        stage.reaches("running", "app-1")
        assert stage.ledger.told == [("up", "app-1", port)]
        assert len(warns(stage, taken(port))) == 1


def test_instance_whose_port_a_stranger_keeps_is_a_failed_start_that_names_it(
    free_port: FreePort
) -> None:
    port = free_port()
    with late_instance(port) as stage:
        with stranger(port):
            warns(stage, taken(port))
            stage.clock.ahead += 600
            instance = stage.reaches("errored", "app-1")
        assert (instance.last_exit or "").startswith(taken(port))
        assert stage.ledger.told == []


def test_instance_that_ends_because_a_stranger_has_its_port_is_told_with_it(
    free_port: FreePort
) -> None:
    port = free_port()
    with late_instance(port) as stage:
        with stranger(port):
            warns(stage, taken(port))
            os.kill(stage.instance("app-1").pid or 0, signal.SIGKILL)
            instance = stage.reaches("errored", "app-1")
        assert (instance.last_exit or "").startswith("SIGKILL, " + taken(port))


class Undead(Child):
    """It has ended, and is not reaped yet."""

    looks = 0

    def is_dead(self) -> bool:
        self.looks += 1
        return True


class UndeadSpawner(Spawner):
    def spawn(self, spec: SpawnSpec) -> Child:
        child = super().spawn(spec)
        self.undead = Undead(child._popen, child.stdout, child.stderr)
        return self.undead


def test_port_that_accepts_while_the_child_is_dead_is_not_the_childs(free_port: FreePort) -> None:
    port = free_port()
    listening = process(script("listener.py"), cluster=cluster(port))
    page, ledger = Page(), Ledger()
    clock_ahead = [0.0]

    def clock() -> float:
        return now() + clock_ahead[0]

    with gevent_waits_for_children():
        log, threads = Log(page), Threads(1)
        guardian = Guardian(log)
        spawner = UndeadSpawner(guardian)
        context = Context(
            log, spawner, Owner(log, ledger, clock).writers_for, threads,
            TokenBucket(),
            OwnershipWatch(threads, log), ForkGate(), clock, FileQueue(threads))
        run = ProcessRun(
            listening, instance_specs(listening)[0], context, ledger, Condition(clock), RunOwner(),
            HealthRecord())
        running = gevent.spawn(run.run)
        wait_until(lambda: "[app-1][stdout] listening" in page.lines)
        looks = spawner.undead.looks
        wait_until(lambda: spawner.undead.looks >= looks + 3)
        clock_ahead[0] += 600
        running.join(30)
    assert run.failure is not None and ledger.told == []


# Who belongs to it


DAEMON = "setsid %s & exec sleep 600"
ORPHAN = "(setsid %s &); exec sleep 600"


def listener_of(port: int) -> int:
    """The pid that it answers with."""
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        return int(client.recv(100))


@pytest.mark.parametrize("form", [DAEMON, ORPHAN], ids=["daemon", "orphan"])
def test_daemon_of_an_instance_is_the_instance(form: str, free_port: FreePort) -> None:
    port = free_port()
    cmd = form % " ".join(map(shlex.quote, script("listener.py")))
    with supervise(process(cmd, cluster=cluster(port))) as stage:
        stage.reaches("running", "app-1")
        pid = listener_of(port)
        assert pid != stage.instance("app-1").pid
        # It is out of reach: nobody else ends it.
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not runs(pid))


def test_server_behind_shells_is_the_instance(free_port: FreePort) -> None:
    cmd = "sh -c %s; exit $?" % shlex.quote(shell("tenant.py", "open"))
    with supervise(process(cmd, cluster=cluster(free_port()))) as stage:
        stage.reaches("running", "app-1")


def test_instance_on_all_addresses_is_the_instance(free_port: FreePort) -> None:
    for host in ("0.0.0.0", "::"):
        everywhere = process(script("tenant.py", "open", "own", host), cluster=cluster(free_port()))
        with supervise(everywhere) as stage:
            stage.reaches("running", "app-1")


def test_stranger_on_all_addresses_takes_no_port_from_an_instance_on_one(
    free_port: FreePort
) -> None:
    port = free_port()
    with supervise(process(script("tenant.py", "closed"), cluster=cluster(port))) as stage:
        stage.prints("closed", "[app-1][stdout]")
        with stranger(port, "0.0.0.0"):
            os.kill(stage.instance("app-1").pid or 0, signal.SIGUSR2)
            stage.reaches("running", "app-1")


def test_nothing_is_known_of_an_instance_that_may_not_be_looked_at(free_port: FreePort) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    port = free_port()
    with supervise(process(script("stubborn.py"))) as stage, stranger(port):
        pid = stage.pid()
        assert ports.intruder("127.0.0.1", port, pid, {b"X"}).startswith("pid %d (" % os.getpid())
        assert as_nobody(lambda: ports.intruder("127.0.0.1", port, pid, {b"X"})) == ""


def test_stranger_of_another_user_is_told_by_the_user(free_port: FreePort) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    port = free_port()
    with stranger(port) as server:
        def look() -> str:
            server.close()
            return ports.intruder("127.0.0.1", port, os.getpid(), {b"X"})

        assert as_nobody(look) == "a process of user root"


def test_ended_process_of_an_instance_hides_nothing(free_port: FreePort) -> None:
    """What a zombie has open may not be looked at, and is nothing."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    port = free_port()

    with stranger(port) as server:
        def look() -> str:
            server.close()
            zombie = os.fork()
            if not zombie:
                os.setsid()
                os._exit(0)
            os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)
            found = ports.intruder("127.0.0.1", port, zombie, {b"X"})
            os.waitpid(zombie, 0)
            return found

        assert as_nobody(look) == "a process of user root"


def test_nothing_is_known_of_what_somebody_else_runs_for_an_instance(
    free_port: FreePort, tmp_path: Path
) -> None:
    """`docker run -p` in the foreground: the daemon's docker-proxy listens, or its container."""
    port = free_port()
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\necho here; read line\n")
    client.chmod(0o755)
    with stranger(port), subprocess.Popen(
        ["setsid", "sh", "-c", "%s; exit $?" % client],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as shell_of_it:
        assert shell_of_it.stdin is not None and shell_of_it.stdout is not None
        assert shell_of_it.stdout.readline() == b"here\n"
        assert ports.intruder("127.0.0.1", port, shell_of_it.pid, {b"X"}) == ""
        shell_of_it.stdin.close()


# While it serves


def test_stranger_in_the_place_of_an_instance_that_serves_is_noticed(free_port: FreePort) -> None:
    port = free_port()
    with supervise(process(script("tenant.py", "open"), cluster=cluster(port))) as stage:
        pid = stage.pid("app-1")
        os.kill(pid, signal.SIGUSR1)
        stage.prints("closed", "[app-1][stdout]")
        with stranger(port):
            wait_until(lambda: len(stage.ledger.told) > 1)
            name, reason = stage.ledger.told[1][1:]
            assert stage.ledger.told[1][0] == "suspect" and name == "app-1"
            assert reason.startswith(taken(port))
            # It is told of every second, and to people once.
            wait_until(lambda: len(stage.ledger.told) > 2)
        assert len(warns(stage, taken(port))) == 1
        assert stage.instance("app-1").state == "running"


def test_instance_that_has_stopped_is_watched_no_longer(free_port: FreePort) -> None:
    with supervise(process(script("tenant.py", "open"), cluster=cluster(free_port()))) as stage:
        stage.reaches("running", "app-1")
        watch = stage.supervisor._context.ownership_watch
        assert len(watch._watched) == 1
        stage.supervisor.stop(["app-1"])
        assert len(watch._watched) == 0


def test_stranger_who_shares_the_port_is_noticed(free_port: FreePort) -> None:
    port = free_port()
    with supervise(process(script("tenant.py", "open"), cluster=cluster(port))) as stage:
        stage.reaches("running", "app-1")
        with stranger(port):
            wait_until(lambda: len(stage.ledger.told) > 1)
        assert stage.ledger.told[1][2].startswith(taken(port))


def test_instance_that_listens_anew_is_no_stranger(free_port: FreePort) -> None:
    port = free_port()
    ledger = Ledger()
    with supervise(process(script("tenant.py", "open"), cluster=cluster(port)),
                   ledger=ledger) as stage:
        pid = stage.pid("app-1")
        os.kill(pid, signal.SIGUSR1)
        stage.prints("closed", "[app-1][stdout]")
        os.kill(pid, signal.SIGUSR2)
        wait_until(lambda: accepts(port))
        run: Any = stage.instance("app-1")._run
        before = run._ownership._finding[0]
        wait_until(lambda: run._ownership._finding[0] - before)
        assert ledger.told == [("up", "app-1", port)]


class Shaky(Threads):
    """There are no threads now and then."""

    def __init__(self) -> None:
        super().__init__(1)
        self.errors: List[Exception] = [
            ShortageError("no thread"), MemoryError(), OSError(24, "EMFILE")]

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self.errors:
            raise self.errors.pop()
        return super().call(function, *arguments)


def test_watch_outlives_every_shortage(
    free_port: FreePort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port_ownership, "WATCH_EVERY", 0.01)
    port, page, lost = free_port(), Page(), []
    with supervise(process(script("stubborn.py"))) as stage, stranger(port):
        place = port_ownership.ExpectedListener("127.0.0.1", port, stage.pid(), frozenset([b"X"]))
        one = port_ownership.PortOwnership(
            place, Threads(1), InstanceLog(Log(page), Source("app", "app")))
        watch = OwnershipWatch(Shaky(), Log(page))
        watch.start(one, lambda: lost.append("lost"))
        wait_until(lambda: "lost" in lost)
        watch.stop(one)
        watch.start(one, lambda: lost.append("lost again"))
        wait_until(lambda: "lost again" in lost)
        watch.stop(one)
        wait_until(lambda: watch._task is None)
    assert all("[app][core] warning: port" in line for line in page.lines)


# Clients


@contextmanager
def outsider(port: int) -> Iterator[Any]:
    """A stranger who answers."""
    with subprocess.Popen(
        script("tenant.py", "open", "stranger", "127.0.0.1", str(port)), stdout=subprocess.PIPE
    ) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == b"listening\n"
            yield other
        finally:
            other.kill()


def ask(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.settimeout(30)
        return client.recv(100).decode()


def test_no_client_reaches_a_stranger(
    running: Callable[..., Running], free_ports: Callable[[int], List[int]],
    eventually: Callable[..., Any],
) -> None:
    first, _, common = free_ports(3)
    app = running({
        "id": "web", "cmd": list(script("tenant.py", "open")), "autostart": True,
        "terminateGracePeriod": 0,
        "cluster": {"instances": 2, "startPort": first, "commonPort": common,
                    "commonHost": "127.0.0.1"},
    }).start()  # fmt: skip

    def backend() -> Any:
        return app.members()["web-1"]["backend"]

    pid = app.pids()["web-1"]
    os.kill(pid, signal.SIGUSR1)
    eventually(lambda: not accepts(first), message="it has closed its port")
    with outsider(first) as other:
        reason = "port %d is taken by pid %d (" % (first, other.pid)
        eventually(lambda: backend()["reason"].startswith(reason), message="it is noticed")
        assert backend()["state"] == "down"
        assert {ask(common) for _ in range(10)} == {"own\n"}
        since = backend()["since"]
        # Some probes later nothing has changed.
        eventually(lambda: backend()["since"] > since + 2, message="time goes by")
        assert backend()["state"] == "down" and app.pids()["web-1"] == pid
        assert {ask(common) for _ in range(10)} == {"own\n"}
        os.kill(pid, signal.SIGUSR2)
    eventually(lambda: backend()["state"] == "up", message="it is up again")
    assert app.said().count(reason) == 1


# Where else it listens


def test_place_elsewhere_is_told_when_two_looks_agree_and_once(
    free_ports: Callable[[int], List[int]]
) -> None:
    expected, one, other = free_ports(3)
    page = Page()
    place = port_ownership.ExpectedListener("127.0.0.1", expected, os.getpid(), frozenset([b"X"]))
    search = port_ownership.PortOwnership(
        place, Threads(1), InstanceLog(Log(page), Source("app", "app"))).search
    with stranger(one):
        search(0.9)
        search(1.0)
        search(1.9)
    with stranger(other):
        search(2.0)
        assert page.lines == []
        search(4.0)
        assert len(page.lines) == 1 and "127.0.0.1:%d, and not on" % other in page.lines[0]
    with stranger(one):
        search(8.0)
        search(16.0)
    assert len(page.lines) == 1


@pytest.mark.parametrize("host", ["127.0.0.2", "::1"])
def test_instance_that_listens_on_another_address_is_told_of_at_once(
    host: str, free_port: FreePort
) -> None:
    port = free_port()
    place = ("[%s]:%d" if ":" in host else "%s:%d") % (host, port)
    elsewhere = process(script("tenant.py", "open", "own", host),
                        cluster=cluster(port, ready_timeout=600.0))
    with supervise(elsewhere) as stage:
        warned = warns(stage, "listens on")
        assert warned == [
            "[app-1][core] warning: listens on %s, and not on 127.0.0.1:%d, where it is expected "
            "(instanceHost, PUP_CLUSTER_PORT)" % (place, port)]
        assert stage.instance("app-1").state == "starting"
        stage.clock.ahead += 600
        instance = stage.reaches("errored", "app-1")
        assert instance.last_exit == (
            "port %d does not accept after 600 s: it listens on %s" % (port, place))
        assert len(warns(stage, "and not on")) == 1


def test_instance_that_listens_on_another_port_is_told_of_behind_a_shell(
    free_ports: Callable[[int], List[int]]
) -> None:
    port, other = free_ports(2)
    elsewhere = process(shell("tenant.py", "open", "own", "127.0.0.1", str(other)),
                        cluster=cluster(port, ready_timeout=600.0))
    with supervise(elsewhere) as stage:
        assert "listens on 127.0.0.1:%d, and not on 127.0.0.1:%d," % (other, port) in warns(
            stage, "listens on")[0]


def test_instance_with_a_second_port_is_no_mistake(
    free_ports: Callable[[int], List[int]]
) -> None:
    port, other = free_ports(2)
    both = "%s & exec %s" % (
        " ".join(map(shlex.quote, script("tenant.py", "open", "x", "127.0.0.1", str(other)))),
        " ".join(map(shlex.quote, script("tenant.py", "open"))))
    with supervise(process(both, cluster=cluster(port))) as stage:
        stage.reaches("running", "app-1")
        wait_until(lambda: accepts(other))
        assert not any("listens on" in line for line in stage.page.lines)
