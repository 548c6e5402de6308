"""`health` with a balancer, in the status, in metrics, and when it changes."""

import os
import signal
from pathlib import Path
from typing import Any, Callable, Dict, List

import gevent

from asking import ask as ask_dashboard, scrape
from conftest import eventually
from health_stage import Folder, ask, backend, is_backend, web, who_answers
from inside import RuntimeStage, inside
from running import QUICK, Running
from supervision import PATIENCE, wait_until

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]

CHECKED = {"path": "/health", "intervalMs": 20, "timeoutMs": 1000}


def test_one_that_hangs_gets_no_clients_until_it_goes_on(
    tmp_path: Path, free_ports: Ports
) -> None:
    """It accepts connections all the while, so a probe of the balancer would find it well."""
    ports = free_ports(3)
    with inside(tmp_path, [web(tmp_path, ports, health=dict(CHECKED, timeoutMs=200))]) as stage:
        assert set(who_answers(ports[2], 4)) == {"0", "1"}
        os.kill(stage.pids()["web-1"] or 0, signal.SIGSTOP)
        found = is_backend(stage, "web-1", "down")
        assert found.reason == "health: GET /health: no answer within 0.2 s"
        # Two probes, if there were any.
        wait_until(lambda: backend(stage, "web-1").since > 1.1)
        assert who_answers(ports[2], 4) == ["1"] * 4
        assert backend(stage, "web-1").state == "down"
        os.kill(stage.pids()["web-1"] or 0, signal.SIGCONT)
        is_backend(stage, "web-1", "up")
        assert set(who_answers(ports[2], 4)) == {"0", "1"}
        assert stage.instance("web-1").restarts == 0


def test_while_all_of_them_fail_clients_wait(tmp_path: Path, free_ports: Ports) -> None:
    ports, folder = free_ports(3), Folder(tmp_path)
    with inside(tmp_path, [web(tmp_path, ports, health=CHECKED)]) as stage:
        folder.health("503")
        for name in ("web-1", "web-2"):
            is_backend(stage, name, "down")
        client = gevent.spawn(ask, ports[2])
        wait_until(lambda: stage.runtime.balancers["web"].status().queue == 1)
        folder.health("200")
        assert client.get(timeout=PATIENCE).status == 200


def test_a_roll_out_waits_for_the_first_pass_of_each(tmp_path: Path, free_ports: Ports) -> None:
    ports, folder = free_ports(3), Folder(tmp_path)
    with inside(tmp_path, [web(tmp_path, ports, health=dict(CHECKED, fall=1000))]) as stage:
        pids = stage.pids()
        folder.health("503")
        change = gevent.spawn(stage.operations.restart, ["web"], stage.told.append)
        wait_until(lambda: stage.instance("web-1").pid not in (None, pids["web-1"])
                   and stage.instance("web-1").health.last is not None)
        assert stage.states() == {"web-1": "starting", "web-2": "running"}
        assert who_answers(ports[2], 3) == ["1"] * 3
        folder.health("200")
        change.get(timeout=PATIENCE)
        assert stage.states() == {"web-1": "running", "web-2": "running"}


def test_a_stop_of_one_that_is_unhealthy_is_a_stop(tmp_path: Path, free_ports: Ports) -> None:
    ports, folder = free_ports(3), Folder(tmp_path)
    with inside(tmp_path, [web(tmp_path, ports, health=CHECKED)]) as stage:
        folder.health("503", "0")
        is_backend(stage, "web-1", "down")
        stage.operations.stop(["web-1"], stage.told.append)
        assert is_backend(stage, "web-1", "absent").reason in ("stopped", "exited")
        folder.health("200", "0")
        stage.operations.start(["web-1"], stage.told.append)
        is_backend(stage, "web-1", "up")


# A reload


def reload(stage: RuntimeStage, folder: Path, ports: List[int], health: Any, **more: Any) -> str:
    return stage.reload([web(folder, ports, health=health, **more)])


def test_a_reload_changes_how_those_are_checked_that_run(
    tmp_path: Path, free_ports: Ports
) -> None:
    ports, folder = free_ports(3), Folder(tmp_path)
    with inside(tmp_path, [web(tmp_path, ports)]) as stage:
        pids = stage.pids()
        folder.health("503", "0")
        assert reload(stage, tmp_path, ports, CHECKED) == "reloaded: changed web"
        is_backend(stage, "web-1", "down")
        # Another path, at which it is well.
        reload(stage, tmp_path, ports, dict(CHECKED, path="/"))
        is_backend(stage, "web-1", "up")
        reload(stage, tmp_path, ports, CHECKED)
        is_backend(stage, "web-1", "down")
        # No checks any more: everybody is in rotation.
        reload(stage, tmp_path, ports, None)
        is_backend(stage, "web-1", "up")
        assert stage.instance("web-1").health.reason is None
        checks = stage.instance("web-1").health.checks
        is_backend(stage, "web-2", "up")
        assert stage.pids() == pids and stage.instance("web-1").health.checks == checks
        reload(stage, tmp_path, ports, dict(CHECKED, restart=True))
        wait_until(lambda: stage.instance("web-1").history.restarts["health"] > 0)
        assert stage.pids()["web-2"] == pids["web-2"]


def test_a_balancer_that_comes_later_knows_who_is_unhealthy(
    tmp_path: Path, free_ports: Ports
) -> None:
    ports, folder = free_ports(3), Folder(tmp_path)
    alone = web(tmp_path, ports, health=CHECKED, protocol="tcp")
    del alone["cluster"]["commonPort"], alone["cluster"]["commonHost"]
    with inside(tmp_path, [alone]) as stage:
        folder.health("503", "0")
        wait_until(lambda: stage.instance("web-1").health.reason is not None)
        stage.reload([web(tmp_path, ports, health=CHECKED)])
        assert backend(stage, "web-1").state == "down"
        assert backend(stage, "web-1").reason == "health: GET /health: 503 Told"
        folder.health("200", "0")
        is_backend(stage, "web-1", "up")


# What is told of it


def told(app: Running) -> Dict[str, Any]:
    return app.members()["web-1"]


def test_everything_tells_of_one_that_is_unhealthy(
    running: Make, tmp_path: Path, free_ports: Ports
) -> None:
    ports, folder = free_ports(4), Folder(tmp_path)
    app = running(dict(web(tmp_path, ports[:3], health=CHECKED), **QUICK),
                  dashboard={"port": ports[3]}).start()
    assert app.run("status").returncode == 0
    assert told(app)["health"]["check"] == "L7OK"
    folder.health("503", "0")
    eventually(lambda: told(app)["backend"]["state"] == "down")
    member = told(app)
    assert (member["state"], member["serves"]) == ("running", False)
    health = member["health"]
    assert (health["healthy"], health["check"], health["last"], health["downs"]) == (
        False, "L7STS", "GET /health: 503 Told", 1)
    assert health["failures"] >= 3 and 0 < health["duration"] < 1
    shown = app.run("status")
    assert shown.returncode == 3 and " down " in shown.stdout
    assert "web-1: unhealthy for " in shown.stdout and "GET /health: 503 Told" in shown.stdout
    described = app.run("describe", "web").stdout
    assert "\nHealth\n" in described
    assert "web-1: unhealthy, GET /health: 503 Told in " in described
    assert "web-2: healthy, GET /health: 200 Told in " in described
    assert "health.path = \"/health\"" in described
    assert ask_dashboard(ports[3], "/healthz").code == 503
    assert ask_dashboard(ports[3], "/healthz/web-2").code == 200

    def is_measured() -> bool:
        found = scrape(ports[3])
        one = {"proxy": "web", "server": "web-1"}
        return (found.value("pupgevent_server_check_status", state="L7STS", **one) == 1
                and found.value("pupgevent_server_check_failures_total", **one) >= 3
                and found.value("pupgevent_server_up", **one) == 0)

    eventually(is_measured)
    folder.health("200", "0")
    eventually(lambda: told(app)["serves"])
    assert app.run("status").returncode == 0


def test_who_starts_says_what_its_checks_come_to(
    running: Make, tmp_path: Path, free_ports: Ports
) -> None:
    ports, folder = free_ports(3), Folder(tmp_path)
    folder.health("503")
    app = running(dict(web(tmp_path, ports, health=CHECKED), **QUICK)).begin()
    eventually(lambda: app.are(**{"web-1": "starting"}) and told(app)["health"]["last"])
    shown = app.run("status").stdout
    assert "starting for " in shown and "GET /health: 503 Told" in shown


def test_without_a_balancer_it_does_not_serve_either(
    tmp_path: Path, running: Make, free_ports: Ports
) -> None:
    ports, folder = free_ports(3), Folder(tmp_path)
    alone = dict(web(tmp_path, ports, health=CHECKED, protocol="tcp"), **QUICK)
    del alone["cluster"]["commonPort"], alone["cluster"]["commonHost"]
    app = running(alone).start()
    folder.health("503", "0")
    eventually(lambda: not told(app)["health"]["healthy"])
    assert told(app)["serves"] is False and told(app)["failingFor"] >= 0
    assert app.process("web")["healthy"] is False
    assert "web-1: unhealthy for " in app.run("status").stdout
