"""`onFailure`: the command that is run when an instance is given up."""

import os
from pathlib import Path
from typing import Any

import pytest

import failure_hooks
from supervision import cluster, process, runs, script, supervise, wait_until

TELL = 'echo "$PUP_PROCESS_ID $PUP_INSTANCE $PUP_STATE: $PUP_REASON, $KIND in $PWD"'


@pytest.mark.parametrize("changes, state, reason", [
    ({"cmd": "exit 3"}, "errored", "exit code 3"),
    ({"cmd": "kill -ABRT $$"}, "errored", "SIGABRT"),
    ({"cmd": "exit 3", "restart": "error", "restart_limit": 1}, "exhausted", "exit code 3"),
    ({"cmd": ["/no/such/program"]}, "errored",
     "cannot start /no/such/program: No such file or directory"),
])
def test_it_is_run_with_what_has_happened_once(
    changes: Any, state: str, reason: str, tmp_path: Path
) -> None:
    app = process(on_failure=TELL, env={"KIND": "mail"}, cwd=str(tmp_path),
                  cluster=cluster(None, 1), **changes)
    with supervise(app) as stage:
        stage.reaches(state, "app-1")
        line = stage.prints("app app-1", "[app-1][stdout]")
        stage.supervisor.shutdown()
        assert len(stage.page.texts("[app-1][stdout]")) == 1
    assert line == "app app-1 %s: %s, mail in %s" % (state, reason, tmp_path)


@pytest.mark.parametrize("changes", [
    {"cmd": "exit 0"}, {"cmd": "exec sleep 60"},
    {"cmd": "exit 3", "restart": "always", "restart_delay": 60.0},
])
def test_it_is_not_run_for_less(changes: Any, tmp_path: Path) -> None:
    """An end that is right, a stop, a failure after which it is started again."""
    app = process(on_failure="touch %s/run" % tmp_path, **changes)
    with supervise(app) as stage:
        wait_until(lambda: stage.instance().state in ("finished", "running", "backoff"))
        stage.supervisor.shutdown()
        assert stage.instance().state == "stopped"
    assert not list(tmp_path.iterdir())


def test_an_array_is_run_as_it_is() -> None:
    with supervise(process("exit 3", on_failure=("echo", "a  b", "$HOME"))) as stage:
        assert stage.prints("a  b") == "a  b $HOME"


@pytest.mark.parametrize("hook, told", [
    ("exit 4", "onFailure: exit code 4"),
    (("/no/such",), "onFailure: cannot start /no/such: No such file or directory"),
])
def test_its_own_failure_is_told(hook: Any, told: str) -> None:
    with supervise(process("exit 3", on_failure=hook)) as stage:
        stage.prints(told, "[app][core]")


def test_it_leaves_the_pid_file_of_its_instance_alone(tmp_path: Path) -> None:
    path = tmp_path / "app.pid"
    app = process("exit 3", on_failure="test ! -e %s && echo none" % path, pid_file=str(path))
    with supervise(app) as stage:
        assert stage.prints("none") == "none"


def test_one_that_hangs_is_killed() -> None:
    with supervise(process("exit 3", on_failure="echo $$; sleep 600; true"), start=False) as stage:
        stage.supervisor._hooks._longest = 0.2
        stage.supervisor.startup()
        pid = int(stage.prints(""))
        stage.prints("onFailure: still there after 0.2 s, killing it", "[app][core]")
        stage.prints("onFailure: SIGKILL", "[app][core]")
        wait_until(lambda: not runs(pid))


def test_a_stop_of_everything_lets_it_finish(tmp_path: Path) -> None:
    """As when `essential` stops pupgevent for the same failure."""
    done = tmp_path / "done"
    hook = 'echo begun; read line < %s; echo "$line" > %s' % (tmp_path / "pipe", done)
    os.mkfifo(str(tmp_path / "pipe"))
    with supervise(process("exit 3", on_failure=hook, essential=True)) as stage:
        stage.prints("begun")
        assert stage.essential == ["app"]
        # The hook is the only reader.
        writer = os.open(str(tmp_path / "pipe"), os.O_WRONLY)
        os.write(writer, b"finished\n")
        os.close(writer)
        stage.supervisor.shutdown()
        assert done.read_text() == "finished\n"


def test_a_kill_of_everything_kills_it() -> None:
    with supervise(process("exit 3", on_failure="echo $$; exec sleep 600")) as stage:
        pid = int(stage.prints(""))
        stage.supervisor.kill()
        stage.supervisor.shutdown()
        wait_until(lambda: not runs(pid))


def test_one_that_outlasts_the_stop_of_everything_is_ended(monkeypatch: Any) -> None:
    monkeypatch.setattr(failure_hooks, "LAST_CHANCE", 0.1)
    with supervise(process("exit 3", on_failure="echo $$; exec sleep 600")) as stage:
        pid = int(stage.prints(""))
        stage.supervisor.shutdown()
        assert not runs(pid)


def test_it_does_not_outlive_pupgevent() -> None:
    """The guardian knows its group."""
    with supervise(process("exit 3", on_failure="echo $$; exec sleep 600")) as stage:
        pid = int(stage.prints(""))
        assert pid in stage.supervisor.guardian._groups


def test_one_that_floods_is_read_to_its_end() -> None:
    hook = " ".join(script("flooding.py", "20000"))
    with supervise(process("exit 3", on_failure=hook)) as stage:
        stage.prints("line 19999")
