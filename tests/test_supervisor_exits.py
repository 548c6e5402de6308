"""What comes of a child that ends by itself: verdict, delay, line, and the rest of its group."""

import os
import re
import signal
from pathlib import Path
from typing import Any, Callable, List

import gevent
import pytest

from supervision import (
    Ledger,
    accepts,
    cluster,
    process,
    runs,
    script,
    shell,
    supervise,
    wait_until,
)


@pytest.mark.parametrize("restart, cmd, state", [
    ("never", "exit 0", "finished"), ("never", "exit 3", "errored"),
    ("error", "exit 0", "finished"), ("error", "kill -KILL $$", "exhausted"),
    ("always", "exit 0", "exhausted"),
])
def test_restart_decides_what_comes_of_an_exit(restart: str, cmd: str, state: str) -> None:
    with supervise(process(cmd, restart=restart, restart_limit=1)) as stage:
        instance = stage.reaches(state)
        assert instance.attempts == (2 if state == "exhausted" else 1)
        assert instance.restarts == instance.attempts - 1


@pytest.mark.parametrize("cmd, text", [
    ("exit 3", "exit code 3"), ("kill -KILL $$", "SIGKILL"), ("kill -SEGV $$", "SIGSEGV"),
    ("kill -40 $$", "signal 40"),
])
def test_exit_is_told_by_its_code_or_its_signal(cmd: str, text: str) -> None:
    with supervise(process(cmd)) as stage:
        assert stage.reaches("errored").last_exit == text
        assert stage.page.lines[-1] == "[app][core] error: %s, and it is not to be restarted" % text


def test_killed_child_is_started_again_with_the_next_pid() -> None:
    with supervise(process(restart="always")) as stage:
        first = stage.pid()
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: stage.states()[-3:] == ["backoff", "starting", "running"])
        instance = stage.instance()
        assert instance.pid not in (None, first)
        assert (instance.restarts, instance.last_exit) == (1, "SIGKILL")


def test_each_failure_in_a_row_doubles_the_delay() -> None:
    with supervise(process("exit 1", restart="always", restart_delay=0.04)) as stage:
        wait_until(lambda: stage.states().count("starting") > 4)
        starts = [when for when, (_, state) in zip(stage.moments, stage.changes)
                  if state == "starting"]
    # However long a busy machine takes: nobody is early, and nobody is told of a longer delay.
    for number, expected in enumerate([0.04, 0.08, 0.16, 0.32]):
        assert stage.delays[number] <= expected * 1.1
        assert starts[number + 1] - starts[number] > expected * 0.95


def test_flapping_without_a_delay_is_slowed_down_from_the_sixth_restart_on() -> None:
    with supervise(process("exit 1", restart="always", restart_delay=0.0)) as stage:
        stage.prints("restart in 0.", "[app][core]")
        told = [text for text in stage.page.texts("[app][core]") if "restart" in text]
    assert told[:5] == ["warning: exit code 1, restart at once"] * 5
    assert re.match(r"warning: exit code 1, restart in 0\.[56] s\Z", told[5])


def test_ten_seconds_of_running_make_failures_forgotten(tmp_path: Path) -> None:
    failures = tmp_path / "failures"
    failures.write_text("2\n")
    cmd = "read left < %s; echo $((left - 1)) > %s; test $left -gt 0 && exit 1; exec sleep 600" % (
        failures, failures)
    with supervise(process(cmd, restart="always", restart_limit=2)) as stage:
        wait_until(lambda: stage.instance().attempts == 3)
        wait_until(lambda: failures.read_text() == "-1\n")
        stage.reaches("running")
        stage.clock.ahead += 10.0
        failures.write_text("9\n")
        os.kill(stage.pid(), signal.SIGKILL)
        stage.reaches("exhausted")
        # That exit, and then three failures in a row.
        assert stage.states().count("backoff") == 5


def test_start_by_hand_begins_a_new_row_of_failures() -> None:
    with supervise(process("exit 1", restart="always", restart_limit=1)) as stage:
        stage.reaches("exhausted")
        stage.supervisor.start(["app"])
        stage.reaches("exhausted")
        assert stage.states().count("backoff") == 2


def test_start_by_hand_ends_a_delay() -> None:
    missing = process(("no-such-program",), restart="always", restart_delay=30.0)
    with supervise(missing) as stage:
        stage.reaches("backoff")
        assert [failure.state for failure in stage.supervisor.start(["app"])] == ["backoff"]
        assert stage.instance().attempts == 2


@pytest.mark.parametrize("cmd, changes, outcome", [
    ("exit 1", {"restart": "never"}, "exit code 1, and it is not to be restarted"),
    ("exit 1", {"restart": "error", "restart_delay": 25.0}, "exit code 1, restart in 2[5-7].. s"),
    ("exit 1", {"restart": "error", "restart_delay": 0.0, "restart_limit": 1},
     "exit code 1, given up after 2 failures in a row"),
    ("exit 1", {"restart": "error", "restart_limit": 0},
     "exit code 1, given up: restartLimit is 0"),
    ("exit 0", {"restart": "always", "restart_limit": 0},
     "exit code 0, finished, and restartLimit is 0"),
    ("exit 0", {"restart": "error"}, "exit code 0, finished"),
    (("no-such-program",), {"restart": "never"},
     "cannot start no-such-program: No such file or directory, and it is not to be restarted"),
])
def test_what_an_exit_comes_to_is_told_in_a_sentence_and_logged_once_as_that(
    cmd: Any, changes: Any, outcome: str
) -> None:
    with supervise(process(cmd, **changes)) as stage:
        instance = stage.instance()
        wait_until(lambda: instance.state in ("errored", "exhausted", "finished")
                   or (instance.due_at or 0) > stage.clock() + 10)
        assert re.match(outcome + r"\Z", instance.outcome)
        last = stage.page.texts("[app][core]")[-1]
        level = {"finished": "", "backoff": "warning: "}.get(instance.state, "error: ")
        told = instance.outcome if level else instance.outcome.partition(", ")[2]
        assert last == level + told


def test_what_has_not_ended_by_itself_has_a_sentence_too() -> None:
    with supervise(process(autostart=False, min_uptime=600.0, restart="always")) as stage:
        instance = stage.instance()
        assert instance.outcome == "it was never started"
        starting = gevent.spawn(stage.supervisor.start, ["app"])
        wait_until(lambda: instance.pid)
        assert instance.outcome == "it is starting"
        os.kill(instance.pid or 0, signal.SIGKILL)
        assert [str(each) for each in starting.get(timeout=30)] == [
            "app did not come up: SIGKILL, restart at once"]
        wait_until(lambda: instance.pid)
        assert instance.outcome == "SIGKILL, it is started again"
        stage.supervisor.stop(["app"])
        assert instance.outcome == "it was stopped"
        starting = gevent.spawn(stage.supervisor.start, ["app"])
        wait_until(lambda: instance.pid)
        stage.supervisor.stop(["app"])
        assert [str(each) for each in starting.get(timeout=30)] == [
            "app did not come up: it was stopped"]


def test_essential_process_that_is_given_up_is_told() -> None:
    with supervise(process("exit 1", essential=True), process("exit 1", id="other")) as stage:
        stage.reaches("errored")
        stage.reaches("errored", "other")
        assert stage.essential == ["app"]


def test_essential_process_that_finishes_or_is_stopped_is_not_told() -> None:
    with supervise(process("exit 0", essential=True), process(id="b", essential=True)) as stage:
        stage.reaches("finished")
        stage.reaches("running", "b")
        stage.supervisor.stop(["app", "b"])
        assert stage.essential == []


class Witness(Ledger):
    """Notes what state the instance was in when it was taken out."""

    def __init__(self) -> None:
        super().__init__()
        self.instance: Any = None
        self.state = ""

    def down(self, name: str) -> None:
        super().down(name)
        self.state = self.instance.state


def test_death_takes_it_out_of_rotation_before_anything_else(
    free_port: Callable[[], int]
) -> None:
    port, witness = free_port(), Witness()
    dying = process(script("listener.py"), restart="always", restart_delay=30.0,
                    cluster=cluster(port))
    with supervise(dying, ledger=witness) as stage:
        witness.instance = stage.reaches("running", "app-1")
        os.kill(witness.instance.pid, signal.SIGKILL)
        stage.reaches("backoff", "app-1")
        assert witness.told == [("up", "app-1", port), ("down", "app-1")]
        assert witness.state == "running"


def test_grandchildren_die_with_their_leader_and_free_its_port(
    free_port: Callable[[], int]
) -> None:
    port = free_port()
    leaving = process(script("forking.py", "leave"), cluster=cluster(port), restart="always",
                      restart_limit=3)
    with supervise(leaving) as stage:
        grandchild = int(stage.prints("grandchild", "[app-1][stdout]").split()[1])
        stage.reaches("exhausted", "app-1")
        assert not runs(grandchild)
        assert not any("taken" in line for line in stage.page.lines)
        assert not accepts(port)


def test_killed_shell_takes_its_server_along(free_port: Callable[[], int]) -> None:
    port = free_port()
    sheltered = process(shell("listener.py"), cluster=cluster(port), restart="always")
    with supervise(sheltered) as stage:
        os.kill(stage.pid("app-1"), signal.SIGKILL)
        wait_until(lambda: stage.states("app-1").count("running") == 2)
        assert accepts(port)


def test_descendant_that_escaped_with_the_port_is_told_as_a_stranger(
    free_port: Callable[[], int]
) -> None:
    port = free_port()
    escaping = process(script("forking.py", "escape"), cluster=cluster(port), restart="always")
    with supervise(escaping) as stage:
        grandchild = int(stage.prints("grandchild", "[app-1][stdout]").split()[1])
        try:
            stage.prints("port %d is taken by pid %d" % (port, grandchild), "[app-1][core]")
        finally:
            os.kill(grandchild, signal.SIGKILL)


def test_run_past_its_time_is_stopped_and_restarted_by_the_policy() -> None:
    with supervise(process(timeout=0.5, restart="always", restart_limit=1)) as stage:
        instance = stage.reaches("exhausted")
        assert instance.last_exit == "SIGTERM"
        assert stage.states() == ["starting", "running", "stopping", "backoff"] + [
            "starting", "running", "stopping", "exhausted"]
        assert "[app][core] warning: runs longer than 0.5 s, stopping it" in stage.page.lines


def test_run_past_its_time_that_ends_well_is_finished() -> None:
    # Where a busy machine has not set the trap in that time, the next run may.
    polite = process("trap 'exit 0' TERM; while :; do sleep 0.01; done", timeout=0.5,
                     restart="error")
    with supervise(polite) as stage:
        stage.reaches("finished")


def test_time_of_a_run_counts_while_it_gets_ready(free_port: Callable[[], int]) -> None:
    slow = process(timeout=0.2, cluster=cluster(free_port(), ready_timeout=30.0))
    with supervise(slow) as stage:
        assert stage.reaches("errored", "app-1").last_exit == "SIGTERM"
        assert stage.states("app-1") == ["starting", "stopping", "errored"]


class Broken(Ledger):
    """A rotation with a bug."""

    def up(self, name: str, host: str, port: int) -> None:
        raise ZeroDivisionError("a bug")


def test_bug_in_the_life_of_an_instance_is_told_and_gives_it_up(
    free_port: Callable[[], int]
) -> None:
    listening = process(script("listener.py"), essential=True, cluster=cluster(free_port()))
    with supervise(listening, ledger=Broken()) as stage:
        wait_until(lambda: stage.instance("app-1").pid)
        pid = stage.instance("app-1").pid or 0
        stage.reaches("errored", "app-1")
        assert any("ZeroDivisionError: a bug" in line for line in stage.page.lines)
        assert stage.essential == ["app-1"]
        assert not runs(pid)


class Starving(Ledger):
    """What it is told takes more memory than there is, for so many times."""

    def __init__(self, *failing: str) -> None:
        super().__init__()
        self.failing = list(failing)

    def up(self, name: str, host: str, port: int) -> None:
        self.fail("up")
        super().up(name, host, port)

    def down(self, name: str) -> None:
        self.fail("down")
        super().down(name)

    def fail(self, word: str) -> None:
        if word in self.failing:
            self.failing.remove(word)
            raise MemoryError


@pytest.mark.parametrize("failing", [["up"], ["up", "up"], ["up", "down", "up"]])
def test_instance_that_meets_a_lack_of_memory_starts_again(
    free_port: Callable[[], int], failing: List[str]
) -> None:
    """Whatever `restart` says: it is no failure of its program."""
    port = free_port()
    ledger = Starving(*failing)
    listening = process(script("listener.py"), cluster=cluster(port))
    with supervise(listening, ledger=ledger) as stage:
        stage.reaches("running", "app-1")
        wait_until(lambda: ledger.up_now == {"app-1"})
        assert ledger.failing in ([], ["down"])
        # What the failed runs have started is gone.
        wait_until(lambda: accepts(port))
        stage.supervisor.stop(["app-1"])
        assert stage.instance("app-1").state == "stopped" and not accepts(port)


def test_instance_that_is_stopped_while_it_lacks_memory_stops(
    free_port: Callable[[], int]
) -> None:
    ledger = Starving(*["up"] * 1000)
    listening = process(script("listener.py"), cluster=cluster(free_port()))
    with supervise(listening, ledger=ledger) as stage:
        stage.reaches("backoff", "app-1")
        stage.supervisor.stop(["app-1"])
        assert stage.states("app-1")[-1] == "stopped"
        ledger.failing = []
        stage.supervisor.start(["app-1"])
        assert stage.instance("app-1").state == "running"


def test_child_that_dies_while_its_rotation_lacks_memory_is_noticed(
    free_port: Callable[[], int]
) -> None:
    ledger = Starving("down")
    listening = process(script("listener.py"), cluster=cluster(free_port()), restart="always")
    with supervise(listening, ledger=ledger) as stage:
        first = stage.pid("app-1")
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: stage.instance("app-1").pid not in (None, first))
        stage.reaches("running", "app-1")
