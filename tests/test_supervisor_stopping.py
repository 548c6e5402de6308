"""The order to stop, whatever the child thinks of it."""

import os
import signal
import time
from pathlib import Path
from typing import Callable, Dict, List

import gevent
import pytest

from errors import PupgeventError
from rollout import Change, restart_step, roll
from supervision import (
    PATIENCE,
    SupervisorStage,
    accepts,
    cluster,
    process,
    runs,
    script,
    shell,
    supervise,
    wait_until,
)


def stop_in_background(stage: SupervisorStage, name: str = "app-1") -> gevent.Greenlet:
    return gevent.spawn(stage.supervisor.stop, [name])


def test_stop_sends_sigterm_and_ends_in_stopped() -> None:
    with supervise(process(restart="always")) as stage:
        stage.reaches("running")
        stage.supervisor.stop(["app"])
        assert stage.states()[-2:] == ["stopping", "stopped"]
        assert stage.instance().last_exit == "SIGTERM"
        assert stage.page.lines[-1] == "[app][core] stopped, SIGTERM"


def test_stop_signal_is_the_one_that_was_configured() -> None:
    loyal = process("trap 'echo usr1; exit 5' USR1; echo here; while :; do sleep 0.01; done",
                    stop_signal=int(signal.SIGUSR1))
    with supervise(loyal) as stage:
        stage.prints("here")
        stage.supervisor.stop(["app"])
        assert stage.instance().last_exit == "exit code 5"
        assert "usr1" in stage.page.texts("[app][stdout]")


def test_child_that_ignores_sigterm_is_killed_after_its_time() -> None:
    with supervise(process(script("stubborn.py"), terminate_timeout=0.3)) as stage:
        stage.prints("ignoring")
        began = time.monotonic()
        stage.supervisor.stop(["app"])
        assert time.monotonic() - began >= 0.3
        assert stage.instance().last_exit == "SIGKILL"
        warning = "[app][core] warning: still there 0.3 s after SIGTERM, killing it"
        assert warning in stage.page.lines


def test_suspended_child_can_stop_as_well() -> None:
    polite = process("trap 'exit 0' TERM; echo here; while :; do sleep 0.01; done")
    with supervise(polite) as stage:
        stage.prints("here")
        os.kill(stage.instance().pid or 0, signal.SIGSTOP)
        stage.supervisor.stop(["app"])
        assert stage.instance().last_exit == "exit code 0"


def test_signal_reaches_the_server_behind_a_shell(free_port: Callable[[], int]) -> None:
    with supervise(process(shell("listener.py"), cluster=cluster(free_port()))) as stage:
        pid = stage.pid("app-1")
        with open("/proc/%d/task/%d/children" % (pid, pid)) as file:
            server = int(file.read().split()[0])
        stage.supervisor.stop(["app-1"])
        assert not runs(server)


def test_server_behind_a_shell_finishes_its_work_though_the_shell_is_dead() -> None:
    server = "trap 'sleep 0.5; echo finished; exit 0' TERM; echo here; while :; do sleep 0.01; done"
    with supervise(process("sh -c '%s'; true" % server.replace("'", '"'))) as stage:
        stage.prints("here")
        stage.supervisor.stop(["app"])
        assert stage.instance().last_exit == "SIGTERM"
        assert stage.page.texts("[app][stdout]") == ["here", "finished"]


def test_grandchild_that_ignores_sigterm_is_killed_after_its_time() -> None:
    cmd = "sh -c 'trap \"\" TERM; echo grandchild $$; while :; do sleep 0.01; done' & wait"
    with supervise(process(cmd, terminate_timeout=0.3)) as stage:
        grandchild = int(stage.prints("grandchild").split()[1])
        stage.supervisor.stop(["app"])
        assert stage.instance().last_exit == "SIGTERM"
        assert not runs(grandchild)
        assert any("still there 0.3 s after SIGTERM" in line for line in stage.page.lines)


def test_orphans_are_reaped_here_so_that_their_group_is_known_to_be_empty() -> None:
    with supervise(process("sleep 0.2 & sleep 0.2 & exit 0", restart="never")) as stage:
        stage.reaches("finished")
        assert zombies_of(os.getpid()) == []


def zombies_of(parent: int) -> List[str]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % name) as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] == "Z" and int(fields[1]) == parent:
            found.append(name)
    return found


@pytest.mark.parametrize("code", [0, 3])
def test_stop_ends_in_stopped_whatever_the_child_exits_with(code: int) -> None:
    cmd = "trap 'exit %d' TERM; echo here; while :; do sleep 0.01; done" % code
    with supervise(process(cmd, restart="always")) as stage:
        stage.prints("here")
        stage.supervisor.stop(["app"])
        assert stage.instance().state == "stopped"
        assert stage.instance().last_exit == "exit code %d" % code


@pytest.mark.parametrize("cmd, state", [("exit 0", "finished"), ("exit 1", "errored")])
def test_stop_of_what_has_ended_is_stopped(cmd: str, state: str) -> None:
    with supervise(process(cmd)) as stage:
        stage.reaches(state)
        stage.supervisor.stop(["app"])
        assert stage.instance().state == "stopped"


def test_stop_of_what_was_never_started_is_stopped() -> None:
    with supervise(process(autostart=False)) as stage:
        stage.supervisor.stop(["app"])
        assert stage.states() == ["stopped"]


def test_stop_during_a_delay_ends_it() -> None:
    with supervise(process("exit 1", restart="always", restart_delay=30.0)) as stage:
        stage.reaches("backoff")
        stage.supervisor.stop(["app"])
        assert stage.states()[-2:] == ["backoff", "stopped"]
        assert stage.instance().due_at is None


def test_stop_while_it_gets_ready_does_not_wait_for_that(free_port: Callable[[], int]) -> None:
    with supervise(process(cluster=cluster(free_port(), ready_timeout=30.0))) as stage:
        stage.page.written = b""
        stage.reaches("starting", "app-1")
        wait_until(lambda: stage.instance("app-1").pid)
        stage.supervisor.stop(["app-1"])
        assert stage.states("app-1") == ["starting", "stopping", "stopped"]
        assert stage.ledger.told == []


def test_start_while_it_stops_starts_it_afterwards(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    slow = process("trap 'while ! test -e %s; do sleep 0.01; done; exit 0' TERM; echo here; "
                   "while :; do sleep 0.01; done" % gate)
    with supervise(slow) as stage:
        stage.prints("here")
        stopping = stop_in_background(stage, "app")
        stage.reaches("stopping")
        starting = gevent.spawn(stage.supervisor.start, ["app"])
        wait_until(lambda: stage.instance().wanted)
        assert stage.instance().state == "stopping"
        gate.touch()
        assert starting.get(timeout=PATIENCE) == []
        stopping.get(timeout=PATIENCE)
        assert stage.states()[-4:] == ["stopping", "stopped", "starting", "running"]


def test_start_after_a_stop_is_no_restart() -> None:
    with supervise(process()) as stage:
        pid = stage.pid()
        stage.supervisor.stop(["app"])
        assert stage.supervisor.start(["app"]) == []
        assert stage.instance().pid not in (None, pid)
        assert (stage.instance().attempts, stage.instance().restarts) == (2, 0)


def test_draining_comes_before_the_signal(free_port: Callable[[], int]) -> None:
    port = free_port()
    draining = process(script("listener.py"), cluster=cluster(port), terminate_grace_period=30.0)
    with supervise(draining) as stage:
        stage.reaches("running", "app-1")
        stage.ledger.connections = True
        stopping = stop_in_background(stage)
        wait_until(lambda: ("drain", "app-1") in stage.ledger.told)
        wait_until(lambda: stage.ledger.looks > 10)
        assert runs(stage.instance("app-1").pid or 0)
        assert stage.instance("app-1").state == "stopping"
        stage.ledger.connections = False
        stopping.get(timeout=PATIENCE)
        assert stage.ledger.told == [
            ("up", "app-1", port), ("drain", "app-1"), ("drained", "app-1"), ("down", "app-1")]


def test_draining_ends_after_the_grace_period(free_port: Callable[[], int]) -> None:
    draining = process(script("listener.py"), cluster=cluster(free_port()),
                       terminate_grace_period=0.3)
    with supervise(draining) as stage:
        stage.reaches("running", "app-1")
        stage.ledger.connections = True
        began = time.monotonic()
        stage.supervisor.stop(["app-1"])
        assert time.monotonic() - began >= 0.3


def test_without_a_grace_period_it_is_down_before_the_signal(
    free_port: Callable[[], int]
) -> None:
    port = free_port()
    with supervise(process(script("listener.py"), cluster=cluster(port))) as stage:
        stage.reaches("running", "app-1")
        stage.supervisor.stop(["app-1"])
        assert stage.ledger.told == [("up", "app-1", port), ("down", "app-1")]


@pytest.mark.parametrize("how", ["dies", "is killed"])
def test_draining_ends_early_when_the_child(how: str, free_port: Callable[[], int]) -> None:
    draining = process(script("listener.py"), cluster=cluster(free_port()),
                       terminate_grace_period=30.0)
    with supervise(draining) as stage:
        stage.reaches("running", "app-1")
        stage.ledger.connections = True
        stopping = stop_in_background(stage)
        wait_until(lambda: ("drain", "app-1") in stage.ledger.told)
        if how == "dies":
            os.kill(stage.instance("app-1").pid or 0, signal.SIGKILL)
        else:
            stage.supervisor.kill()
        stopping.get(timeout=PATIENCE)
        assert stage.ledger.told[-1] == ("down", "app-1")
        assert stage.instance("app-1").state == "stopped"


def test_shutdown_stops_all_side_by_side(tmp_path: Path) -> None:
    """Each ends when all of them have been asked to: one after the other, none would."""
    waits = "while test $(ls | wc -l) -lt 4; do sleep 0.01; done"
    slow = "trap 'touch $PUP_PROCESS_ID; %s; exit 0' TERM; echo here; while :; do sleep 0.01; done"
    ids = ["a", "b", "c", "d"]
    with supervise(*[process(slow % waits, id=each, cwd=str(tmp_path)) for each in ids]) as stage:
        for each in ids:
            stage.prints("here", "[%s][stdout]" % each)
        stage.supervisor.shutdown()
        for instance in stage.supervisor.instances.values():
            assert (instance.state, instance.last_exit) == ("stopped", "exit code 0")


def test_kill_ends_a_shutdown_that_waits_for_the_stubborn() -> None:
    with supervise(process(script("stubborn.py"), terminate_timeout=60.0)) as stage:
        stage.prints("ignoring")
        shutdown = gevent.spawn(stage.supervisor.shutdown)
        stage.reaches("stopping")
        stage.supervisor.kill()
        shutdown.get(timeout=PATIENCE)
        assert stage.instance().last_exit == "SIGKILL"


def test_nothing_is_started_any_more_once_it_shuts_down() -> None:
    with supervise(process(autostart=False)) as stage:
        stage.supervisor.shutdown()
        with pytest.raises(PupgeventError, match="is stopping"):
            stage.supervisor.start(["app"])


def test_nothing_is_started_any_more_once_it_has_killed() -> None:
    with supervise(process(), process(id="resting", autostart=False)) as stage:
        stage.reaches("running")
        stage.supervisor.kill()
        for name in ("app", "resting"):
            with pytest.raises(PupgeventError, match="is stopping"):
                stage.supervisor.start([name])
        stage.supervisor.add_process(process(id="new"))
        with pytest.raises(PupgeventError, match="is stopping"):
            stage.supervisor.start(["new"])
        stage.supervisor.shutdown()
        assert [each.attempts for each in stage.supervisor.instances.values()] == [1, 0, 0]


def test_an_instance_that_was_killed_follows_no_order_to_start() -> None:
    """Whoever holds it and does not ask the supervisor."""
    with supervise(process(), process(id="resting", autostart=False)) as stage:
        stage.reaches("running")
        stage.supervisor.kill()
        instances = list(stage.supervisor.instances.values())
        attempts = [each.start() for each in instances]
        with gevent.Timeout(30):
            assert not any(each.came_up(attempt) for each, attempt in zip(instances, attempts))
        assert [(each.state, each.pid) for each in instances] == [("stopped", None)] * 2
        assert [each.attempts for each in instances] == [1, 0]


@pytest.mark.parametrize("when", ["before", "at once", "a turn of the loop later"])
def test_a_kill_leaves_nothing_of_a_startup(when: str) -> None:
    many = [process(id="app%d" % number) for number in range(8)]
    with supervise(*many, start=False) as stage:
        if when == "before":
            stage.supervisor.kill()
        starting = gevent.spawn(stage.supervisor.startup)
        if when == "a turn of the loop later":
            gevent.sleep(0)
        stage.supervisor.kill()
        starting.get(timeout=30)
        stage.supervisor.shutdown()
        assert all(each.pid is None for each in stage.supervisor.instances.values())
        assert {each.state for each in stage.supervisor.instances.values()} == {"stopped"}
        if when != "a turn of the loop later":
            assert "starting" not in {state for _, state in stage.changes}


def test_a_begin_after_a_shutdown_starts_nothing() -> None:
    with supervise(process(), process(id="other"), start=False) as stage:
        stage.supervisor.shutdown()
        stage.supervisor.startup()
        gevent.sleep(0)
        assert [each.attempts for each in stage.supervisor.instances.values()] == [0, 0]
        assert {state for _, state in stage.changes} == {"stopped"}


def test_a_kill_ends_a_roll_out_that_is_under_way() -> None:
    stubborn = process(script("stubborn.py"), cluster=cluster(None, 3), terminate_timeout=600.0)
    with supervise(stubborn) as stage:
        instances = list(stage.supervisor.instances.values())
        for each in instances:
            stage.prints("ignoring", "[%s][stdout]" % each.name)
        change = Change("a restart", True)
        rolling = gevent.spawn(roll, stage.supervisor, list(map(restart_step, instances)), change)
        stage.reaches("stopping", "app-1")
        stage.supervisor.kill()
        rolling.join(30)
        assert isinstance(rolling.exception, PupgeventError)
        stage.supervisor.shutdown()
        assert [each.attempts for each in instances] == [1, 1, 1]
        assert {each.state for each in instances} == {"stopped"}


#: One after the other, until an instance of a cluster has started.
MOMENTS: Dict[str, Callable[[SupervisorStage, int], bool]] = {
    "at once": lambda stage, port: True,
    "tried": lambda stage, port: stage.instance("app-1").attempts == 1,
    "forked": lambda stage, port: stage.instance("app-1").pid is not None,
    "its port accepts": lambda stage, port: accepts(port),
    "it says so": lambda stage, port: bool(stage.page.texts("[app-1][stdout]")),
    "it runs": lambda stage, port: stage.instance("app-1").state == "running",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_shutdown_at_any_moment_of_a_start_leaves_nothing(
    free_port: Callable[[], int], moment: str
) -> None:
    port = free_port()
    starting = process(shell("listener.py"), cluster=cluster(port), restart="always")
    with supervise(starting) as stage:
        wait_until(lambda: MOMENTS[moment](stage, port))
        pid = stage.instance("app-1").pid
        stage.supervisor.shutdown()
        assert stage.instance("app-1").state == "stopped"
        assert pid is None or not runs(pid)


@pytest.mark.parametrize("verb", ["start", "stop"])
def test_unknown_instance_is_a_clear_error(verb: str) -> None:
    with supervise(process()) as stage:
        with pytest.raises(PupgeventError, match='there is no instance "nobody"'):
            getattr(stage.supervisor, verb)(["app", "nobody"])
        stage.reaches("running")
