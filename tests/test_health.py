"""What is healthy: `status`, its JSON, systemd and `essential` see the same service."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

import gevent
import pytest

import configuration
import status
from conftest import eventually
from errors import PupgeventError
from lifecycle import BACKOFF, ERRORED, FINISHED, RUNNING, STARTING, STOPPED
from outlets import Outlets
from running import PUPGEVENT, SERVER, Running, server, sleeper
from runtime import Runtime, RuntimeOwner
from status import Health, health_of, is_healthy, state_of
from supervision import (
    Clock,
    Page,
    cluster,
    gevent_waits_for_children,
    process,
    supervise,
    wait_until,
)

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]

#: Of one instance each.
UP = Health(RUNNING, wanted=True, serves=True, fails=False)
UNREACHED = Health(RUNNING, wanted=True, serves=False, fails=True)
FIRST = Health(STARTING, wanted=True, serves=False, fails=False)
AGAIN = Health(STARTING, wanted=True, serves=False, fails=True)
WAITS = Health(BACKOFF, wanted=True, serves=False, fails=True)
GIVEN_UP = Health(ERRORED, wanted=True, serves=False, fails=True)
DONE = Health(FINISHED, wanted=False, serves=False, fails=False)
RESTS = Health(STOPPED, wanted=False, serves=False, fails=False)


@pytest.mark.parametrize("members, healthy, alone, state", [
    ([UP], True, True, "running"), ([FIRST], False, True, "starting"),
    ([AGAIN], False, False, "down"), ([WAITS], False, False, "down"),
    ([GIVEN_UP], False, False, "down"), ([UNREACHED], False, False, "down"),
    ([DONE], True, True, "finished"), ([RESTS], True, True, "stopped"),
    ([UP, FIRST], True, True, "starting"), ([UP, AGAIN], False, False, "degraded"),
    ([UP, GIVEN_UP], False, False, "degraded"), ([UP, UNREACHED], False, False, "degraded"),
    ([UP, RESTS], True, True, "running"), ([RESTS, FIRST], False, True, "starting"),
    ([DONE, FIRST], False, True, "starting"),
])  # fmt: skip
def test_a_cluster_needs_one_that_serves_and_nobody_may_fail(
    members: List[Health], healthy: bool, alone: bool, state: str
) -> None:
    assert is_healthy(process(cluster=cluster(None)), members) is healthy
    assert is_healthy(process(), members) is alone
    assert state_of(members) == state


def looks(app: Running, until: Callable[[Dict[str, Any]], Any]) -> List[Dict[str, Any]]:
    """All that `status` answers from now on, as fast as it does, until one is such."""
    found: List[Dict[str, Any]] = []

    def look() -> bool:
        try:
            found.append(app.status())
        except PupgeventError:
            return False
        return bool(until(found[-1]))

    eventually(look)
    return found


def restarts(found: Dict[str, Any]) -> int:
    return min(int(member["restarts"]) for each in found["processes"] for member in each["members"])


def test_a_service_that_never_opens_its_port_is_unhealthy_at_every_look(
    running: Make, free_ports: Ports
) -> None:
    """It is starting nearly all of the time, for the first time and then again and again."""
    ports = free_ports(3)
    deaf = server("deaf", ports[:2], ports[2], cmd="exec sleep 600", restartDelayMs=0)
    deaf["cluster"]["readyTimeoutMs"] = 300
    app = running(deaf).begin()
    found = looks(app, lambda each: restarts(each) >= 3)
    assert not any(each["healthy"] for each in found)
    states = [member["state"] for each in found for member in each["processes"][0]["members"]]
    assert "starting" in states
    assert {each["processes"][0]["up"] for each in found} == {0}
    assert found[0]["processes"][0]["state"] == "starting"
    assert found[-1]["processes"][0]["state"] == "down"
    assert app.run("status").returncode == 3


def test_one_that_fails_before_it_runs_is_unhealthy_while_it_starts_again(running: Make) -> None:
    app = running(sleeper("bad", cmd="sleep 0.2; exit 1", minUptimeMs=600000, restartDelayMs=0))
    found = looks(app.begin(), lambda each: restarts(each) >= 3)
    again = [each for each in found if restarts(each)]
    assert {each["processes"][0]["members"][0]["state"] for each in again} >= {"starting"}
    assert not any(each["healthy"] for each in again)


def test_a_first_start_is_healthy_where_there_is_no_cluster(running: Make) -> None:
    app = running(sleeper("slow", minUptimeMs=600000)).begin()
    eventually(lambda: app.are(slow="starting"))
    assert app.run("status").returncode == 0


def test_a_cluster_of_which_none_is_up_yet_is_unhealthy(running: Make) -> None:
    app = running(sleeper("slow", minUptimeMs=600000, cluster={"instances": 2})).begin()
    eventually(lambda: app.are(**{"slow-1": "starting", "slow-2": "starting"}))
    assert app.run("status").returncode == 3
    app.ask("stop", words=["slow"])
    assert app.run("status").returncode == 0


def test_one_that_does_not_come_back_is_unhealthy_until_it_does(
    running: Make, free_ports: Ports, folder: Path
) -> None:
    ports, flag = free_ports(3), folder / "deaf"
    cmd = "test -e %s && exec sleep 600; exec %s %s" % (flag, sys.executable, SERVER)
    web = server("web", ports[:2], ports[2], cmd=cmd, restartDelayMs=0)
    app = running(web).start()
    assert app.status()["healthy"]
    flag.touch()
    app.write(dict(web, cluster=dict(web["cluster"], readyTimeoutMs=300)))
    app.ask("reload")
    os.kill(app.pids()["web-1"], signal.SIGKILL)
    found = looks(app, lambda each: each["processes"][0]["members"][0]["restarts"] >= 3)
    later = [each for each in found if each["processes"][0]["members"][0]["restarts"]]
    assert later and not any(each["healthy"] for each in later)
    assert {each["processes"][0]["state"] for each in later} == {"degraded"}
    flag.unlink()
    app.write(web)
    app.ask("reload")
    # What still sleeps has the longer time by now.
    pid = app.pids()["web-1"]
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: app.are(**{"web-1": "running", "web-2": "running"})
               and app.status()["healthy"])


def test_a_start_by_hand_is_a_first_start_again(tmp_path: Path) -> None:
    flag = tmp_path / "good"
    cmd = "test -e %s && exec sleep 60; exit 1" % flag
    with supervise(process(cmd, restart="always", min_uptime=600.0, restart_delay=0.0)) as stage:
        instance = stage.instance()
        wait_until(lambda: instance.restarts >= 2 and instance.state == "backoff")
        flag.touch()
        wait_until(lambda: instance.state == "starting" and instance.pid)
        assert health_of(instance, None).fails
        stage.supervisor.stop(["app"])
        assert not health_of(instance, None).wanted
        instance.start()
        wait_until(lambda: instance.state == "starting" and instance.pid)
        assert health_of(instance, None) == FIRST


@pytest.mark.parametrize("changes, reason", [
    ({"cmd": "exec sleep 600", "restart": "always"}, "does not accept after 0.3 s"),
    ({"cmd": "exec sleep 600", "restart": "error"}, "does not accept after 0.3 s"),
    ({"cmd": "exit 0", "restart": "always"}, "exit code 0 before port"),
    ({"cmd": "exit 0", "restart": "error"}, "exit code 0 before port"),
])
def test_an_essential_service_that_never_served_ends_all_once_it_is_given_up(
    running: Make, free_ports: Ports, changes: Dict[str, Any], reason: str
) -> None:
    ports = free_ports(2)
    vital = server("vital", ports[:1], ports[1], essential=True, restartLimit=1, restartDelayMs=10,
                   **changes)
    if changes["cmd"] != "exit 0":
        vital["cluster"]["readyTimeoutMs"] = 300
    app = running(vital).begin()
    assert app.wait() == 1
    assert reason in app.said() and "given up after 2 failures in a row" in app.said()


def test_a_service_that_ends_with_0_before_its_port_accepts_is_given_up_and_not_finished(
    running: Make, free_ports: Ports
) -> None:
    app = running(server("web", free_ports(1), None, cmd="exit 0", restart="never")).begin()
    eventually(lambda: app.are(**{"web-1": "errored"}))
    assert app.run("status").returncode == 3


def test_a_service_that_is_stopped_by_its_limit_of_time_before_it_accepts_is_not_finished(
    running: Make, free_ports: Ports
) -> None:
    polite = "trap 'exit 0' TERM; echo polite; while :; do sleep 0.01; done"
    web = server("web", free_ports(1), None, cmd=polite, restart="never")
    app = running(web).begin()
    eventually(lambda: "[stdout] polite" in app.said())
    app.write(dict(web, timeout=0.1))
    app.ask("reload")
    eventually(lambda: app.are(**{"web-1": "errored"}))
    assert "exit code 0 before port" in app.members()["web-1"]["lastExit"]


# Time


def test_status_tells_all_times_by_the_clock_that_it_is_given(tmp_path: Path) -> None:
    file = tmp_path / "app.toml"
    file.write_text("""\
[[processes]]
id = "job"
cmd = "exec sleep 600"
autostart = true
minUptimeMs = 0
[[processes]]
id = "bad"
cmd = "exit 1"
autostart = true
restartDelayMs = 500000
""")
    page, clock = Page(), Clock()
    loaded = configuration.load(str(file))
    outlets = Outlets(loaded.logger, page, 1)
    with gevent_waits_for_children():
        runtime = Runtime(
            loaded, outlets, RuntimeOwner(), clock=clock)
        try:
            runtime.start()
            job, bad = runtime.instances()
            wait_until(lambda: (job.state, bad.state) == ("running", "backoff"))
            before = times(runtime)
            clock.ahead += 1000.0
            after = times(runtime)
        finally:
            with gevent.Timeout(30):
                runtime.kill()
                runtime.shutdown()
    assert before["retryIn"] > 0 and after["retryIn"] == 0
    for name in ("uptime", "job since", "bad since", "job uptime"):
        assert before[name] + 1000 <= after[name] < before[name] + 1100, name


def times(runtime: Runtime) -> Dict[str, float]:
    found = status.snapshot(runtime, {}, "0.1.0")
    job, bad = (each.members[0] for each in found.processes)
    assert job.uptime is not None and bad.retry_in is not None
    return {"uptime": found.uptime, "job since": job.since, "bad since": bad.since,
            "job uptime": job.uptime, "retryIn": bad.retry_in}  # fmt: skip


def test_a_cluster_whose_only_instance_is_restarted_is_unhealthy_until_it_serves_again(
    running: Make, free_ports: Ports
) -> None:
    """Clients wait meanwhile, which one who watches it wants to know; a stop is no such thing."""
    ports = free_ports(2)
    app = running(server("web", ports[:1], ports[1], terminateGracePeriod=600)).start()
    for command, code in (("restart", 3), ("stop", 0)):
        with socket.create_connection(("127.0.0.1", ports[1]), 30) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1)
            with subprocess.Popen([*PUPGEVENT, command, str(app.config)],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as changing:
                eventually(lambda: app.are(**{"web-1": "stopping"}))
                assert app.run("status").returncode == code
                client.close()
                assert changing.wait(60) == 0
        assert app.run("status").returncode == 0
