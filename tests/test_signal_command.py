"""`pupgevent signal`: to whom it goes, who is told not to have run, and what follows from it."""

import os
import signal
import subprocess
from typing import Any, Callable

import pytest

from child import Child
from conftest import eventually
from errors import PupgeventError, UsageError
from running import PUPGEVENT, Running, lives, run, sleeper
from signal_names import NUMBERS, is_signal, signal_name, signal_number

pytest_plugins = ["runs"]

Make = Callable[..., Running]

#: Says which instance has got a SIGHUP, and goes on, from when it says so.
LISTENER = ("trap 'echo got it in $PUP_PROCESS_ID $PUP_CLUSTER_INSTANCE' HUP; echo ready;"
            " while :; do sleep 0.02; done")


def listener(process_id: str, **more: Any) -> Any:
    return sleeper(process_id, cmd=LISTENER, **more)


def are_ready(app: Running, count: int) -> None:
    eventually(lambda: app.said().count("[stdout] ready") == count)


# Names


@pytest.mark.parametrize("word", ["SIGHUP", "HUP", "hup", "sighup", "SigHup", "1"])
def test_a_signal_is_understood_however_it_is_written(word: str) -> None:
    assert signal_number(word) == signal.SIGHUP
    assert is_signal(word)


def test_every_name_of_the_system_is_known() -> None:
    for name in ("SIGKILL", "SIGTERM", "SIGUSR1", "SIGSTOP", "SIGCONT", "SIGWINCH", "SIGRTMIN"):
        assert signal_number(name) == signal_number(name[3:]) == NUMBERS[name]
        assert signal_number(str(NUMBERS[name])) == NUMBERS[name]
        assert signal_name(NUMBERS[name]) == name
    assert signal_number("SIGIOT") == signal.SIGABRT
    assert signal_name(40) == "signal 40"


@pytest.mark.parametrize("word", [
    "", "0", "65", "32", "33", "-1", "01", "+1", " 1", "1.0", "\u0661", "SIG", "SIGSIGHUP", "SIG1",
    "HUP\n", "x" * 1000,
])  # fmt: skip
def test_what_is_no_signal_is_none(word: str) -> None:
    assert not is_signal(word)
    with pytest.raises(UsageError, match=r"^SIGNAL .{2,70} is not known: ") as caught:
        signal_number(word)
    assert len(str(caught.value)) < 200


# The command


def test_all_that_run_get_it_and_nobody_is_restarted(running: Make) -> None:
    app = running(listener("job"), listener("my-app", cluster={"instances": 2}),
                  listener("idle", autostart=False)).start()
    are_ready(app, 3)
    before = app.pids()
    done = app.run("signal", "hup")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "SIGHUP sent to job, my-app-1, my-app-2; not running: idle\n"
    for who in ("job", "my-app 0", "my-app 1"):
        eventually(lambda who=who: "got it in " + who in app.said())  # type: ignore[misc]
    assert app.pids() == before
    assert "signal SIGHUP, asked for by pid" in app.said()


def test_only_who_is_named_gets_it(running: Make) -> None:
    app = running(listener("job"), listener("my-app", cluster={"instances": 3})).start()
    are_ready(app, 4)
    done = app.run("signal", "1", "my-app-2", "my-app-2", "job")
    assert (done.returncode, done.stdout) == (0, "SIGHUP sent to my-app-2, job\n")
    done = app.run("signal", "SIGHUP", "my-app-3")
    eventually(lambda: app.said().count("got it") == 3)
    assert "got it in my-app 0" not in app.said()


def test_grandchildren_get_it_too(running: Make) -> None:
    """It goes to the group."""
    app = running(sleeper("job", cmd="sh -c 'trap \"echo below\" HUP; echo ready; while :; do"
                                     " sleep 0.02; done' & trap '' HUP; wait")).start()
    are_ready(app, 1)
    assert app.run("signal", "HUP", "job").returncode == 0
    eventually(lambda: "[job][stdout] below" in app.said())


def test_where_nobody_runs_it_fails(running: Make) -> None:
    app = running(sleeper("idle", autostart=False), sleeper("job")).start()
    done = app.run("signal", "USR1", "idle")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "pupgevent: SIGUSR1 was sent to nobody; not running: idle\n"


def test_many_are_counted(running: Make) -> None:
    app = running(sleeper("my-app", cluster={"instances": 12})).start()
    done = app.run("signal", "CONT")
    assert done.stdout == "SIGCONT sent to %s and 2 more\n" % ", ".join(
        "my-app-%d" % number for number in range(1, 11))


def test_after_sigkill_the_restart_policy_decides(running: Make) -> None:
    app = running(sleeper("again", restart="always", restartDelayMs=0),
                  sleeper("once", restart="never")).start()
    pids = app.pids()
    assert app.run("signal", "KILL").returncode == 0
    eventually(lambda: app.are(again="running", once="errored"))
    eventually(lambda: app.pids()["again"] not in (None, pids["again"]))
    assert app.members()["once"]["lastExit"] == "SIGKILL"


def test_one_that_is_suspended_goes_on_when_it_is_told_to(running: Make) -> None:
    app = running(sleeper("job")).start()
    pid = app.pids()["job"]

    def state() -> str:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rpartition(")")[2].split()[0]

    assert app.run("signal", "STOP", "job").returncode == 0
    eventually(lambda: state() == "T")
    assert app.run("signal", "CONT", "job").returncode == 0
    eventually(lambda: state() == "S")


def test_a_change_under_way_does_not_hold_it_up(running: Make) -> None:
    stubborn = sleeper("slow", cmd="trap '' TERM; trap 'exit 0' USR2; echo deaf;"
                       " while :; do sleep 0.02; done", terminateTimeout=600)
    app = running(stubborn).start()
    eventually(lambda: "deaf" in app.said())
    with subprocess.Popen([*PUPGEVENT, "restart", str(app.config)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as restart:
        try:
            eventually(lambda: app.are(slow="stopping"))
            done = app.run("signal", "USR2", "slow")
            assert (done.returncode, done.stdout) == (0, "SIGUSR2 sent to slow\n")
            output, _ = restart.communicate(timeout=60)
            assert output == b"restarted: slow\n"
        finally:
            restart.kill()
    app.ask("signal", signal="KILL")


def test_an_unknown_name_is_told_and_nobody_gets_it(running: Make) -> None:
    app = running(sleeper("job")).start()
    done = app.run("signal", "KILL", "job", "jbo")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        'pupgevent: there is no process or instance "jbo": did you mean "job"?\n')
    assert lives(app.pids()["job"]) and app.members()["job"]["restarts"] == 0


def test_an_unknown_signal_is_told_before_anybody_is_asked(running: Make) -> None:
    app = running(sleeper("job"))
    done = app.run("signal", "TREM", "job")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ('pupgevent: signal: SIGNAL "TREM" is not known: did you mean "TERM"?'
                           " (pupgevent --help shows the usage)\n")
    assert run("signal", "HUP", str(app.config)).returncode == 2
    assert app.run("signal", "HUP").returncode == 4


@pytest.mark.parametrize("fields, message", [
    ({"signal": "TREM"}, 'SIGNAL "TREM" is not known: did you mean "TERM"'),
    ({"signal": 1}, '"signal" is not a string'),
    ({}, '"signal" is not a string'),
    ({"signal": "HUP", "words": "job"}, '"words" is not an array of strings'),
])  # fmt: skip
def test_what_runs_checks_the_request_too(running: Make, fields: Any, message: str) -> None:
    app = running(sleeper("job")).start()
    with pytest.raises(PupgeventError, match=message):
        app.ask("signal", **fields)
    assert app.are(job="running")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_group_that_has_changed_its_user_is_no_empty_one() -> None:
    """Without root it cannot be signalled, but it is there."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as group:
        try:
            asker = os.fork()
            if asker == 0:
                _exit_with(lambda: asked_by_another_user(group))
            assert os.waitpid(asker, 0)[1] == 0
        finally:
            group.kill()


def asked_by_another_user(group: Any) -> bool:
    os.setuid(65534)
    child = Child(group, -1, -1)
    try:
        child.deliver(signal.SIGHUP)
    except PermissionError:
        return child.signal(signal.SIGHUP)
    return False


def _exit_with(ask: Callable[[], bool]) -> None:
    """End a forked child, whatever happens in it."""
    passed = False
    try:
        passed = ask()
    finally:
        os._exit(0 if passed else 1)


def test_the_request_is_logged_as_it_would_be_typed(running: Make) -> None:
    app = running(sleeper("job")).start()
    app.ask("signal", signal="SIGCONT", words=["job"])
    eventually(lambda: "signal SIGCONT job, asked for by pid" in app.said())
