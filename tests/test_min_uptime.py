"""A process without a port has come up when it has lived for `minUptimeMs`, and not before."""

import os
import signal
from typing import Any, Callable, Dict, List

import gevent
import pytest

from conftest import eventually
from model import instance_specs
from running import Running, server, sleeper
from status import health_of
from supervision import cluster, process, supervise, wait_until

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]

#: Seconds that no test lasts: whatever comes up within them has not waited for it.
LONG = 600.0


def test_a_process_runs_once_it_has_lived_that_long() -> None:
    with supervise(process(min_uptime=0.3)) as stage:
        instance = stage.reaches("running")
        assert stage.states() == ["starting", "running"]
        assert instance.started_at is not None
        assert instance.since - instance.started_at >= 0.3


def test_start_waits_for_it() -> None:
    with supervise(process(min_uptime=0.3, autostart=False)) as stage:
        assert stage.supervisor.start(["app"]) == []
        assert stage.instance().state == "running"


@pytest.mark.parametrize("cmd, restart, reason", [
    ("exit 3", "never", "exit code 3, and it is not to be restarted"),
    ("exit 3", "error", "exit code 3, restart at once"),
    ("exit 3", "always", "exit code 3, restart at once"),
    ("exit 0", "always", "exit code 0, restart at once"),
    ("kill -KILL $$", "error", "SIGKILL, restart at once"),
    ("kill -TERM $$", "never", "SIGTERM, and it is not to be restarted"),
])
def test_one_that_ends_before_has_not_come_up(cmd: str, restart: str, reason: str) -> None:
    with supervise(process(cmd, min_uptime=LONG, restart=restart, autostart=False)) as stage:
        failures = stage.supervisor.start(["app"])
        assert list(map(str, failures)) == ["app did not come up: " + reason]
        assert "running" not in stage.states()


@pytest.mark.parametrize("restart", ["never", "error"])
def test_a_job_that_has_done_its_work_before_is_a_success(restart: str) -> None:
    with supervise(process("exit 0", min_uptime=LONG, restart=restart, autostart=False)) as stage:
        assert stage.supervisor.start(["app"]) == []
        assert stage.states() == ["starting", "finished"]


def test_one_that_is_dead_has_not_come_up_though_nobody_knows_it_yet() -> None:
    """The hub is busy when it dies, and the time is over before the hub hears of that."""
    with supervise(process(min_uptime=LONG, autostart=False)) as stage:
        starting = gevent.spawn(stage.supervisor.start, ["app"])
        wait_until(lambda: stage.instance().pid)
        pid = stage.instance().pid or 0
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        stage.clock.ahead += LONG
        stage.instance().replace(stage.instance().process, stage.instance().spec)
        assert [each.reason for each in starting.get(timeout=30)] == [
            "SIGKILL, and it is not to be restarted"]
        assert stage.states() == ["starting", "errored"]


def test_with_0_it_runs_at_once() -> None:
    with supervise(process(min_uptime=0.0)) as stage:
        stage.reaches("running")


def test_another_time_holds_for_what_is_starting() -> None:
    with supervise(process(min_uptime=LONG)) as stage:
        wait_until(lambda: stage.instance().pid)
        assert stage.instance().state == "starting"
        changed = process(min_uptime=0.0)
        stage.instance().replace(changed, instance_specs(changed)[0])
        stage.reaches("running")


def test_a_stop_does_not_wait_for_it() -> None:
    with supervise(process(min_uptime=LONG)) as stage:
        wait_until(lambda: stage.instance().pid)
        stage.supervisor.stop(["app"])
        assert stage.states() == ["starting", "stopping", "stopped"]


def test_a_limit_of_time_that_is_shorter_holds_and_is_no_success() -> None:
    with supervise(process(min_uptime=LONG, timeout=0.2, autostart=False)) as stage:
        assert [each.reason for each in stage.supervisor.start(["app"])] == [
            "SIGTERM, and it is not to be restarted"]
        assert stage.states() == ["starting", "stopping", "errored"]
        assert "[app][core] warning: runs longer than 0.2 s, stopping it" in stage.page.lines


def test_an_instance_with_a_port_is_not_waited_for_longer(free_ports: Ports) -> None:
    """Its port says that it works."""
    (port,) = free_ports(1)
    listening = "import os, socket, time; s = socket.socket();" \
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1);" \
        "s.bind(('127.0.0.1', int(os.environ['PUP_CLUSTER_PORT']))); s.listen(5); time.sleep(600)"
    with supervise(process(("python3", "-c", listening), min_uptime=LONG,
                           cluster=cluster(port))) as stage:
        assert health_of(stage.reaches("running", "app-1"), None).serves


# Several of them

#: What a new release may be that does not work, and what its failure is called.
BROKEN = [
    ("exit 1", "exit code 1"), ("exit 0", "exit code 0"), ("kill -SEGV $$", "SIGSEGV"),
    ("/nowhere/it/is; exit $?", "exit code 127"),
    (["/nowhere/it/is"], "cannot start /nowhere/it/is: No such file or directory"),
]


@pytest.mark.parametrize("cmd, reason", BROKEN)
def test_a_roll_out_of_workers_stops_at_the_first_that_does_not_come_up(
    running: Make, cmd: Any, reason: str
) -> None:
    worker = sleeper("worker", cluster={"instances": 4}, restartDelayMs=60000)
    app = running(worker).start()
    before = app.pids()
    app.write(dict(worker, cmd=cmd, minUptimeMs=600000))
    done = app.run("reload")
    assert done.returncode == 1
    assert "worker-1 did not come up: %s, restart in " % reason in done.stderr
    assert app.states() == {"worker-1": "backoff", "worker-2": "running", "worker-3": "running",
                            "worker-4": "running"}
    after = app.pids()
    assert after["worker-1"] is None
    assert {name: pid for name, pid in after.items() if pid} == {
        name: before[name] for name in ("worker-2", "worker-3", "worker-4")}
    assert app.run("status").returncode == 3


@pytest.mark.parametrize("cmd", ["exit 1", "exit 0"])
def test_a_roll_out_of_servers_stops_at_one_that_ends_before_its_port_accepts(
    running: Make, free_ports: Ports, cmd: str
) -> None:
    ports = free_ports(4)
    web = server("web", ports[:3], ports[3], restart="error", restartDelayMs=60000)
    app = running(web).start()
    before = app.pids()
    app.write(dict(web, cmd=cmd))
    done = app.run("reload")
    assert done.returncode == 1 and "web-1 did not come up: exit code " in done.stderr
    after = app.pids()
    assert (after["web-2"], after["web-3"]) == (before["web-2"], before["web-3"])


def test_a_roll_out_of_workers_that_work_goes_through_all(running: Make) -> None:
    worker = sleeper("worker", cluster={"instances": 3}, minUptimeMs=100)
    app = running(worker).start()
    before = app.pids()
    app.write(dict(worker, env={"A": "1"}))
    assert app.run("reload").returncode == 0
    after = app.pids()
    assert set(app.states().values()) == {"running"}
    assert all(after[name] not in (None, before[name]) for name in before)


@pytest.mark.parametrize("words", [["start"], ["restart"], ["scale", "worker", "3"]])
def test_every_command_that_starts_tells_who_did_not_come_up(
    running: Make, words: List[str]
) -> None:
    worker: Dict[str, Any] = sleeper("worker", cluster={"instances": 2}, restart="never")
    app = running(worker).start()
    if words == ["start"]:
        app.ask("stop", words=[])
    app.write(dict(worker, minUptimeMs=600000, cmd="exit 1"))
    reloaded = app.run("reload")
    assert reloaded.returncode == (0 if words == ["start"] else 1)
    done = app.run(*words)
    assert done.returncode == 1
    failed = {"scale": "worker-3", "start": "worker-1", "restart": "worker-1"}[words[0]]
    assert "%s did not come up: exit code 1, and it is not to be restarted" % failed in done.stderr


def test_the_pid_of_one_that_is_starting_is_told_and_gets_signals(running: Make) -> None:
    app = running(sleeper(
        "job", minUptimeMs=600000, restart="never",
        cmd="trap 'exit 7' USR1; echo ready; while :; do sleep 0.01; done")).begin()
    eventually(lambda: "[stdout] ready" in app.said())
    pid = app.pids()["job"]
    os.kill(pid, signal.SIGUSR1)
    eventually(lambda: app.are(job="errored"))
    assert app.members()["job"]["lastExit"] == "exit code 7"
