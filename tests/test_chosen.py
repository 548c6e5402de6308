"""What is chosen to be shown: the processes of `status`, and how many lines of `logs`."""

import json
import select
import subprocess
from typing import Any, Callable, Dict, List

import pytest

from conftest import eventually
from errors import PupgeventError
from running import PUPGEVENT, Running, server, sleeper

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]

CRASH = ["sh", "-c", "exit 3"]


def rows(app: Running, *words: str) -> List[str]:
    done = app.run("status", *words)
    assert done.stderr == ""
    head, *found = done.stdout.splitlines()
    assert head.split()[:3] == ["ID", "STATE", "PID"]
    return [row.split()[0] for row in found]


def test_the_table_has_the_chosen_ones_only(running: Make, free_ports: Ports) -> None:
    ports = free_ports(4)
    app = running(server("my-app", ports[:3], ports[3]), sleeper("job"), sleeper("other")).start()
    assert rows(app, "job") == ["job"]
    assert rows(app, "other", "job", "job") == ["job", "other"]
    # A cluster has a line of its own, one of its instances has not.
    assert rows(app, "my-app") == ["my-app", "my-app-1", "my-app-2", "my-app-3"]
    assert rows(app, "my-app-3", "my-app-1") == ["my-app-1", "my-app-3"]
    assert rows(app, "my-app-2", "job") == ["my-app-2", "job"]
    everything = ["my-app", "my-app-1", "my-app-2", "my-app-3", "job", "other"]
    assert rows(app, "all") == rows(app, "job", "all") == rows(app) == everything


def test_json_has_the_chosen_ones_only(running: Make, free_ports: Ports) -> None:
    ports = free_ports(4)
    app = running(server("my-app", ports[:3], ports[3]), sleeper("job"), sleeper("other")).start()
    found = json.loads(app.run("status", "--json", "my-app-2", "job").stdout)
    cluster, job = found["processes"]
    assert [each["id"] for each in cluster["members"]] == ["my-app-2"]
    assert [each["id"] for each in job["members"]] == ["job"]
    # What is about the whole process is of the whole process.
    assert (cluster["id"], cluster["up"], cluster["instances"]) == ("my-app", 3, 3)
    assert cluster["balancer"]["port"] == ports[3]
    for member in (*cluster["members"], *job["members"]):
        assert member["memory"] > 0 and member["cpu"] is not None


def test_the_exit_code_is_about_the_chosen_ones(running: Make) -> None:
    bad = sleeper("bad", cmd=CRASH, restartDelayMs=60000)
    app = running(sleeper("good"), bad, sleeper("my-app", cluster={"instances": 2})).begin()
    states = {"good": "running", "bad": "backoff", "my-app-1": "running", "my-app-2": "running"}
    eventually(lambda: app.are(**states))
    assert codes(app) == {"": 3, "good": 0, "bad": 3, "my-app": 0, "my-app-1": 0, "all": 3,
                          "good bad": 3, "good my-app-2": 0}
    found = json.loads(app.run("status", "--json", "good").stdout)
    assert found["healthy"] is True
    assert [each["healthy"] for each in found["processes"]] == [True]


def codes(app: Running) -> Dict[str, int]:
    words = ("", "good", "bad", "my-app", "my-app-1", "all", "good bad", "good my-app-2")
    return {each: app.run("status", *each.split()).returncode for each in words}


def test_one_instance_that_serves_is_well_whatever_its_neighbours_do(running: Make) -> None:
    half = "test $PUP_CLUSTER_INSTANCE = 0 && exec sleep 600; exit 3"
    app = running(sleeper("my-app", cmd=half, cluster={"instances": 2},
                          restartDelayMs=60000)).begin()
    eventually(lambda: app.are(**{"my-app-1": "running", "my-app-2": "backoff"}))
    assert app.run("status", "my-app-1").returncode == 0
    assert app.run("status", "my-app-2").returncode == 3
    assert app.run("status", "my-app").returncode == 3
    found = json.loads(app.run("status", "--json", "my-app-1").stdout)
    assert (found["healthy"], found["processes"][0]["healthy"]) == (True, False)


def test_an_unknown_name_is_told(running: Make) -> None:
    app = running(sleeper("job")).start()
    done = app.run("status", "job", "jbo")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        'pupgevent: there is no process or instance "jbo": did you mean "job"?\n')


def test_what_runs_checks_the_words(running: Make) -> None:
    app = running(sleeper("job")).start()
    words: Any
    for words in ("job", [1], {"job": 1}, None):
        with pytest.raises(PupgeventError, match='"words" is not an array of strings'):
            app.ask("status", words=words)


# `logs -n LINES`


#: Prints thirty numbers, and one more line whenever it gets a SIGUSR1.
TALKER = sleeper("talker", cmd=[
    "python3", "-uc", "import signal\n"
    "signal.signal(signal.SIGUSR1, lambda *_: print('more'))\n"
    "print(*range(1, 31), sep='\\n')\n"
    "while True: signal.pause()"])


def has_talked(app: Running) -> bool:
    return "[talker][stdout] 30\n" in app.said()


def test_logs_prints_the_last_lines_that_are_asked_for(running: Make) -> None:
    app = running(TALKER, sleeper("job", cmd="echo 100; exec sleep 600")).start()
    eventually(lambda: has_talked(app) and "[job][stdout] 100\n" in app.said())
    # What pupgevent tells of it comes later, or before: it runs, it was started.
    printed = app.run("logs", "talker").stdout.splitlines()
    for words, count in ((["-n", "3"], 3), (["-n3"], 3), (["--lines=30"], 30), (["-n", "0"], 0),
                         (["--lines", "999999999"], len(printed))):
        done = app.run("logs", "talker", *words)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == printed[len(printed) - count :], words
    # Of all together, not of each.
    assert len(app.run("logs", "-n", "4").stdout.splitlines()) == 4
    assert len(app.run("logs").stdout.splitlines()) > len(printed)


@pytest.mark.parametrize("words, count", [
    (["-f"], 10), (["-fn", "3"], 3), (["-f", "-n", "25"], 25), (["-f", "--lines=0"], 0),
])  # fmt: skip
def test_a_follower_gets_as_many_lines_of_before_as_he_asks_for(
    running: Make, words: List[str], count: int
) -> None:
    app = running(TALKER).start()
    eventually(lambda: has_talked(app))
    expected = app.run("logs", "-n", str(count), "talker").stdout.splitlines()
    with subprocess.Popen([*PUPGEVENT, "logs", *words, str(app.config), "talker"],
                          stdout=subprocess.PIPE) as follower:
        try:
            assert follower.stdout
            found = [follower.stdout.readline().decode().rstrip("\n") for _ in range(count)]
            assert found == expected
            # Nothing of before comes behind them.
            while not select.select([follower.stdout], [], [], 0.2)[0]:
                app.ask("signal", signal="USR1", words=["talker"])
            assert b"[stdout] more" in follower.stdout.readline()
        finally:
            follower.kill()


@pytest.mark.parametrize("lines", [-2, "5", 1.5, True, None])
def test_what_is_no_number_of_lines_is_refused(running: Make, lines: Any) -> None:
    app = running(sleeper("job")).start()
    with pytest.raises(PupgeventError, match='"lines" is not a whole number'):
        app.ask("logs", lines=lines)
