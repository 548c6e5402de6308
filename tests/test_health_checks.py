"""`health`: what a check comes to, and what follows for an instance."""

import os
import resource
import signal
import socket
from pathlib import Path
from typing import Any, Callable, Iterator, List, Set, Tuple

import pytest

from health_check import check
from health_record import CheckResult, HealthRecord
from health_stage import Folder
from instance import Instance
from model import Health, Process
from supervision import (
    Ledger,
    SupervisorStage,
    cluster,
    process,
    script,
    supervise,
    wait_until,
)

Ports = Callable[[int], List[int]]

#: Seconds: a check of one that answers takes a few milliseconds, but on a loaded machine more.
SOON, PATIENT = 0.02, 5.0


def settings(**changes: Any) -> Health:
    return Health("/health", SOON, PATIENT, 2, 3, False, None)._replace(**changes)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def application(
    folder: Folder, ports: List[int], health: Health, ready_timeout: float = 30.0, **more: Any
) -> Process:
    of_cluster = cluster(
        ports[0], len(ports), health=health, ready_timeout=ready_timeout)
    return process(script("health_app.py", str(folder.path)), cluster=of_cluster, **more)


def unhealthy(stage: SupervisorStage, name: str = "app-1") -> Instance:
    instance = stage.instance(name)
    wait_until(lambda: instance.health.reason is not None)
    return instance


def healthy(stage: SupervisorStage, name: str = "app-1") -> Instance:
    instance = stage.instance(name)
    wait_until(lambda: instance.state == "running" and instance.health.reason is None)
    return instance


def is_checked(instance: Instance, times: int) -> None:
    """So often from now on."""
    before = instance.health.checks
    wait_until(lambda: instance.health.checks >= before + times)


# One check


@pytest.fixture
def asked(folder: Folder, free_ports: Ports) -> "Iterator[Callable[[str, float], Any]]":
    """`asked(word, timeout)`: what a check comes to of one that answers so."""
    port, = free_ports(1)
    with supervise(application(folder, [port], settings(interval=3600.0))) as stage:
        stage.reaches("running", "app-1")

        def ask(word: str, timeout: float = PATIENT) -> Any:
            folder.health(word)
            return check("127.0.0.1", port, "/health", timeout)

        yield ask


def test_what_an_answer_comes_to(asked: Callable[..., Any]) -> None:
    for word, code, text in (
        ("200", "L7OK", "200 Told"),
        ("302", "L7OK", "302 Told"),
        ("404", "L7STS", "404 Told"),
        ("503", "L7STS", "503 Told"),
        ("interim", "L7OK", "204 No Content"),
        ("endless-body", "L7OK", "200 OK"),
        ("garbage", "L7RSP", "no answer of HTTP/1"),
        ("half", "L7RSP", "no answer of HTTP/1"),
        ("endless", "L7RSP", "no answer of HTTP/1"),
        ("interim-endlessly", "L7RSP", "no answer of HTTP/1"),
        ("nothing", "L7RSP", "closed without an answer"),
        ("reset", "L7RSP", "connection reset by peer"),
    ):
        found = asked(word)
        assert (found.code, found.text) == (code, "GET /health: " + text), word
        assert found.passed is (code == "L7OK")
        assert 0 < found.seconds < PATIENT


@pytest.mark.parametrize("word", ["hang", "dribble"])
def test_one_that_takes_too_long_has_failed(asked: Callable[..., Any], word: str) -> None:
    """Also byte by byte: the time-out is of the whole check."""
    found = asked(word, 0.3)
    assert (found.code, found.text) == ("L7TOUT", "GET /health: no answer within 0.3 s")
    assert 0.3 <= found.seconds < PATIENT


def test_without_a_path_a_connect_is_all(free_ports: Ports) -> None:
    port, = free_ports(1)
    assert check("127.0.0.1", port, None, PATIENT)[:2] == (  # type: ignore[index]
        "L4CON", "port %d: connection refused" % port)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen(8)
        found = check("127.0.0.1", port, None, PATIENT)
        assert found and found.passed and found[:2] == ("L4OK", "port %d: accepts" % port)
        # Nobody accepts: its queue is full.
        listener.listen(0)
        crowd = [socket.socket() for _ in range(4)]
        for each in crowd:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        found = check("127.0.0.1", port, None, 0.2)
        assert found and found[:2] == ("L4TOUT", "port %d: no connection within 0.2 s" % port)
        for each in crowd:
            each.close()


def test_a_shortage_of_ours_is_no_fault_of_the_instance(free_ports: Ports) -> None:
    port, = free_ports(1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        found = check("127.0.0.1", port, "/", PATIENT)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found is None


# What several come to

GOOD, BAD = CheckResult("L7OK", "200", 0.1), CheckResult("L7STS", "503", 0.1)


@pytest.mark.parametrize("results, states", [
    ("+-+--+---", "++++++++-"),  # three in a row
    ("---+-++", "++----+"),  # two in a row
    ("----", "++--"),
    ("+++", "+++"),
])
def test_rise_and_fall_are_in_a_row(results: str, states: str) -> None:
    record, found = HealthRecord(), ""
    for result in results:
        was = record.reason is None
        changed = record.add(GOOD if result == "+" else BAD, settings(), 1.0)
        found += "+" if record.reason is None else "-"
        assert changed is (was is not (record.reason is None))
    assert found == states
    assert (record.checks, record.failures) == (len(results), results.count("-"))
    assert record.downs == states.replace("+-", "x").count("x")


# What follows


def test_an_instance_is_running_at_its_first_pass(folder: Folder, free_ports: Ports) -> None:
    folder.health("503")
    with supervise(application(folder, free_ports(1), settings(rise=1000))) as stage:
        instance = stage.instance("app-1")
        is_checked(instance, 3)
        assert instance.state == "starting" and stage.ledger.told == []
        assert instance.health.last and instance.health.last.text == "GET /health: 503 Told"
        folder.health("200")
        stage.reaches("running", "app-1")
        assert [each[0] for each in stage.ledger.told] == ["up"]


def test_one_that_never_passes_has_failed_to_start_and_says_why(
    folder: Folder, free_ports: Ports
) -> None:
    folder.health("503")
    with supervise(application(folder, free_ports(1), settings(), ready_timeout=1.0)) as stage:
        stage.reaches("errored", "app-1")
        assert stage.instance("app-1").last_exit == "GET /health: 503 Told after 1 s"
        assert stage.ledger.told == []


def test_a_first_check_that_hangs_ends_with_the_time_to_become_ready(
    folder: Folder, free_ports: Ports
) -> None:
    folder.health("hang")
    hanging = application(folder, free_ports(1), settings(timeout=3600.0), ready_timeout=0.5)
    with supervise(hanging) as stage:
        instance = stage.reaches("errored", "app-1")
        assert "no answer within" in (instance.last_exit or "")


def test_a_stop_ends_a_first_check_that_hangs(folder: Folder, free_ports: Ports) -> None:
    folder.health("hang")
    hanging = application(folder, free_ports(1), settings(timeout=3600.0), ready_timeout=3600.0)
    with supervise(hanging) as stage:
        stage.prints("started", "[app-1][core]")
        stage.supervisor.stop(["app-1"])
        assert stage.instance("app-1").state == "stopped"


def test_one_that_fails_its_checks_leaves_the_rotation_and_returns(
    folder: Folder, free_ports: Ports
) -> None:
    with supervise(application(folder, free_ports(1), settings())) as stage:
        first = stage.pid("app-1")
        folder.health("503")
        instance = unhealthy(stage)
        assert instance.health.reason == "GET /health: 503 Told"
        assert stage.ledger.told[1:] == [("unhealthy", "app-1", "GET /health: 503 Told")]
        folder.health("nothing")
        wait_until(lambda: len(stage.ledger.told) == 3)
        assert stage.ledger.told[2] == (
            "unhealthy", "app-1", "GET /health: closed without an answer")
        folder.health("200")
        healthy(stage)
        assert stage.ledger.told[-1] == ("unhealthy", "app-1", None)
        assert (instance.pid, instance.restarts, instance.health.downs) == (first, 0, 1)
        lines = stage.page.texts("[app-1][core]")
    assert "warning: unhealthy after 3 failed checks in a row: GET /health: 503 Told" in lines
    assert "healthy again: GET /health: 200 Told" in lines


def test_one_that_hangs_is_found_out_and_returns_when_it_goes_on(
    folder: Folder, free_ports: Ports
) -> None:
    """Its kernel accepts connections all the while."""
    with supervise(application(folder, free_ports(1), settings(timeout=0.3))) as stage:
        pid = stage.pid("app-1")
        os.kill(pid, signal.SIGSTOP)
        instance = unhealthy(stage)
        assert instance.health.reason == "GET /health: no answer within 0.3 s"
        os.kill(pid, signal.SIGCONT)
        assert healthy(stage).pid == pid


def test_one_that_hangs_is_replaced_where_that_is_wanted(
    folder: Folder, free_ports: Ports
) -> None:
    """And nobody waits for what it should still answer."""
    hangs = application(folder, free_ports(1), settings(timeout=0.3, restart=True),
                        terminate_grace_period=3600.0)
    with supervise(hangs) as stage:
        pid = stage.pid("app-1")
        stage.ledger.connections = True
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: stage.instance("app-1").history.restarts["health"] == 1)
        stage.reaches("running", "app-1")
        assert stage.instance("app-1").pid != pid
        assert stage.instance("app-1").last_exit == (
            "unhealthy: GET /health: no answer within 0.3 s")
    assert stage.delays and 0 < stage.delays[0] < 1


def test_one_that_answers_badly_may_finish_its_work_before_it_is_replaced(
    folder: Folder, free_ports: Ports
) -> None:
    fails = application(folder, free_ports(1), settings(restart=True),
                        terminate_grace_period=3600.0)
    ledger = Ledger()
    ledger.connections = True
    with supervise(fails, ledger=ledger) as stage:
        stage.reaches("running", "app-1")
        folder.health("503")
        stage.reaches("stopping", "app-1")
        looks = ledger.looks
        wait_until(lambda: ledger.looks > looks + 100)
        assert stage.instance("app-1").state == "stopping"
        folder.health("200")
        ledger.connections = False
        stage.reaches("running", "app-1")


def test_those_that_fail_together_are_replaced_one_at_a_time(
    folder: Folder, free_ports: Ports
) -> None:
    fail = application(folder, free_ports(3), settings(restart=True))
    names = ["app-1", "app-2", "app-3"]
    with supervise(fail) as stage:
        for name in names:
            stage.reaches("running", name)
        del stage.changes[:]
        # Those that run have been asked before; each that is started passes its first check.
        folder.health("once")
        wait_until(lambda: all(stage.instance(name).restarts for name in names))
        changing: Set[str] = set()
        for name, state in list(stage.changes):
            (changing.discard if state == "running" else changing.add)(name)
            assert len(changing) <= 1 or state == "running", stage.changes


def test_none_that_hangs_delays_the_checks_of_another(folder: Folder, free_ports: Ports) -> None:
    ports = free_ports(2)
    with supervise(application(folder, ports, settings(timeout=3600.0))) as stage:
        for name in ("app-1", "app-2"):
            stage.reaches("running", name)
        folder.health("hang", "1")
        hanging = stage.instance("app-2")
        is_checked(stage.instance("app-1"), 10)
        before = hanging.health.checks
        is_checked(stage.instance("app-1"), 30)
        assert hanging.health.checks <= before + 1


def test_one_that_exits_is_no_case_for_its_health(folder: Folder, free_ports: Ports) -> None:
    with supervise(application(folder, free_ports(1), settings(fall=1))) as stage:
        os.kill(stage.pid("app-1"), signal.SIGKILL)
        stage.reaches("errored", "app-1")
        assert not any(each[0] == "unhealthy" for each in stage.ledger.told)


def test_each_start_begins_anew(folder: Folder, free_ports: Ports) -> None:
    with supervise(application(folder, free_ports(1), settings())) as stage:
        stage.reaches("running", "app-1")
        folder.health("503")
        counted = unhealthy(stage).health.failures
        folder.health("200")
        stage.supervisor.stop(["app-1"])
        stage.supervisor.start(["app-1"])
        instance = healthy(stage)
        assert instance.health.failures >= counted and instance.health.downs == 1


def test_first_checks_are_spread_over_the_interval(folder: Folder, free_ports: Ports) -> None:
    """With an interval of half an hour none is due at once."""
    with supervise(application(folder, free_ports(2), settings(interval=1800.0))) as stage:
        both: Tuple[Instance, ...] = tuple(
            stage.reaches("running", name) for name in ("app-1", "app-2"))
        assert [each.health.checks for each in both] == [1, 1]
