"""What comes of a child that ends by itself: verdict, delay, line, and the rest of its group."""

import os
import signal
from pathlib import Path
from typing import Any, Callable, List

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
    with supervise(process(cmd, restart=restart, restart_limit=2)) as stage:
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
        wait_until(lambda: len(stage.delays) >= 4)
    for delay, expected in zip(stage.delays, [0.04, 0.08, 0.16, 0.32]):
        assert expected * 0.8 <= delay <= expected * 1.1


def test_ten_seconds_of_running_make_failures_forgotten(tmp_path: Path) -> None:
    failing = tmp_path / "failing"
    failing.touch()
    cmd = "test -e %s && exit 1; exec sleep 60" % failing
    with supervise(process(cmd, restart="always", restart_limit=3)) as stage:
        wait_until(lambda: stage.states().count("backoff") == 2)
        failing.unlink()
        stage.reaches("running")
        wait_until(lambda: stage.instance().attempts == 3)
        stage.clock.ahead += 10.0
        failing.touch()
        os.kill(stage.pid(), signal.SIGKILL)
        stage.reaches("exhausted")
        # That exit, and then three failures in a row.
        assert stage.states().count("backoff") == 5


def test_start_by_hand_begins_a_new_row_of_failures() -> None:
    with supervise(process("exit 1", restart="always", restart_limit=2)) as stage:
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


def test_death_takes_it_out_of_rotation_before_anything_else(free_port: Callable[[], int]) -> None:
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
    with supervise(process(timeout=0.2, restart="always", restart_limit=2)) as stage:
        instance = stage.reaches("exhausted")
        assert instance.last_exit == "SIGTERM"
        assert stage.states() == ["starting", "running", "stopping", "backoff"] + [
            "starting", "running", "stopping", "exhausted"]
        assert "[app][core] warning: runs longer than 0.2 s, stopping it" in stage.page.lines


def test_run_past_its_time_that_ends_well_is_finished() -> None:
    polite = process("trap 'exit 0' TERM; while :; do sleep 0.01; done", timeout=0.2,
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
