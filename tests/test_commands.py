"""The commands, as they are typed: what they print, where, and what they exit with."""

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

import control_client
import status_report
from conftest import eventually
from errors import PupgeventError
from running import PUPGEVENT, Running, get, instance_of, is_free, lives, run, server, sleeper

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]

CRASH = ["sh", "-c", "exit 3"]

#: Does not leave before a test kills it, from when it says so.
STUBBORN = sleeper("slow", cmd="trap '' TERM; echo deaf; while :; do sleep 1 & wait; done",
                   terminateTimeout=600)


# status


def test_status_is_aligned_and_80_columns_wide(running: Make, free_ports: Ports) -> None:
    ports = free_ports(5)
    app = running(
        server("my-scalable-app", ports[:4], ports[4]), sleeper("job"),
        sleeper("idle", autostart=False)).start()  # fmt: skip
    get(ports[4])
    done = app.run("status")
    assert (done.returncode, done.stderr) == (0, "")
    head, cluster, *rows = done.stdout.splitlines()
    assert head.split() == "ID STATE PID PORT UPTIME RST OPEN TOTAL IN OUT CPU MEM".split()
    assert cluster.split(None, 1) == ["my-scalable-app", (
        "running, 4/4 up, 0 open, 0 queued; :%d round-robin" % ports[4])]
    assert [row.split()[:2] for row in rows] == [
        *(["my-scalable-app-%d" % number, "running"] for number in (1, 2, 3, 4)),
        ["job", "running"], ["idle", "created"],
    ]  # fmt: skip
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert len({len(row) for row in [head, *rows]}) == 1
    assert rows[0].split()[2:4] == [str(app.pids()["my-scalable-app-1"]), str(ports[0])]
    assert sum(int(row.split()[7]) for row in rows[:4]) == 1


def test_status_as_json_is_what_its_description_says(running: Make, free_ports: Ports) -> None:
    ports = free_ports(3)
    app = running(server("my-app", ports[:2], ports[2]), name="shop").start()
    for _ in range(4):
        get(ports[2])
    done = app.run("status", "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert app.child
    expected = {"name": "shop", "config": os.path.realpath(str(app.config)), "state": "running",
                "pid": app.child.pid, "healthy": True}  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    (process,) = found["processes"]
    expected = {
        "host": "127.0.0.1", "port": ports[2], "strategy": "round-robin", "accepted": 4,
        "open": 0, "total": 4, "queue": 0, "queueMost": 0, "turnedAway": 0,
    }  # fmt: skip
    assert {key: process["balancer"][key] for key in expected} == expected
    member = process["members"][1]
    assert (member["id"], member["index"], member["port"]) == ("my-app-2", 1, ports[1])
    assert member["memory"] > 2**20 and 0 <= member["cpu"] < 64
    assert member["backend"]["total"] == 2
    assert_described(found)


def assert_described(found: Any) -> None:
    """Each key that is printed is in the text about it."""
    described = status_report.__doc__ or ""
    for key, value in found.items() if isinstance(found, dict) else ():
        assert key in described, key
        assert_described(value)
    for value in found if isinstance(found, list) else ():
        assert_described(value)


def test_memory_and_cpu_are_of_all_that_an_instance_has_started(running: Make) -> None:
    busy = "%s -c 'while 1: pass' & wait" % PUPGEVENT[0]
    app = running(sleeper("busy", cmd=busy), sleeper("calm")).start()

    def used() -> Dict[str, Any]:
        found = app.ask("status")["status"]["processes"]
        return {each["id"]: each["members"][0] for each in found}

    eventually(lambda: used()["busy"]["cpu"] > 0.2)
    found = used()
    assert found["calm"]["cpu"] < 0.2
    assert found["busy"]["memory"] > found["calm"]["memory"]


def test_status_exits_with_3_while_something_that_should_run_does_not(running: Make) -> None:
    app = running(sleeper("good"), sleeper("bad", cmd=CRASH, restartDelayMs=60000)).begin()
    eventually(lambda: app.are(good="running", bad="backoff"))
    done = app.run("status")
    assert done.returncode == 3
    assert "bad  backoff" in done.stdout
    app.ask("stop", words=["bad"])
    assert app.run("status").returncode == 0


def test_status_exits_with_3_when_one_was_given_up(running: Make) -> None:
    app = running(sleeper("bad", cmd=CRASH, restart="never")).begin()
    eventually(lambda: app.are(bad="errored"))
    assert app.run("status").returncode == 3


@pytest.mark.parametrize(
    "words", ["status", "describe a", "start", "stop a", "restart", "scale app 3", "reload",
              "shutdown", "logs", "top"])  # fmt: skip
def test_a_command_for_a_file_that_nobody_runs_exits_with_4(running: Make, words: str) -> None:
    app = running(sleeper("job"))
    command, *more = words.split()
    done = run(command, str(app.config), *more)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == "pupgevent: no pupgevent runs for %s\n" % app.config


# start, stop, restart


def test_instances_and_processes_are_stopped_and_started_by_name(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(4)
    app = running(server("my-app", ports[:3], ports[3]), sleeper("job")).start()
    done = app.run("stop", "my-app-2")
    assert (done.returncode, done.stdout) == (0, "stopped: my-app-2\n")
    assert done.stderr.splitlines()[0] == "my-app-2: stopping"
    assert app.states() == {"my-app-1": "running", "my-app-2": "stopped", "my-app-3": "running",
                            "job": "running"}  # fmt: skip
    assert {instance_of(get(ports[3])) for _ in range(6)} == {"0", "2"}
    assert app.run("stop", "my-app", "job").stdout == "stopped: 4 instances\n"
    assert set(app.states().values()) == {"stopped"}
    assert app.run("start", "my-app-2").stdout == "running: my-app-2\n"
    assert app.run("start").returncode == 0
    assert set(app.states().values()) == {"running"}


def test_a_start_that_fails_says_why_and_exits_with_1(running: Make) -> None:
    app = running(sleeper("bad", autostart=False, cmd=["/nowhere/program"])).start()
    done = app.run("start", "bad")
    assert (done.returncode, done.stdout) == (1, "")
    error = done.stderr.splitlines()[-1]
    assert error.startswith("pupgevent: bad did not come up: cannot start")
    assert "No such file" in error
    assert done.stderr.count("pupgevent: ") == 1


def test_progress_says_what_comes_of_one_that_has_ended_and_not_only_its_state(
    running: Make
) -> None:
    app = running(sleeper("bad", autostart=False, cmd=CRASH, minUptimeMs=600000, restart="error",
                          restartDelayMs=60000)).start()
    progress: List[Any] = []
    with pytest.raises(PupgeventError):
        control_client.call(
            str(app.config), {"command": "start", "words": ["bad"]}, progress.append)
    assert [each["progress"][:30] for each in progress] == [
        "bad: starting", "bad: exit code 3, restart in 6"]


def test_restart_rolls_those_that_should_run(running: Make, free_ports: Ports) -> None:
    ports = free_ports(4)
    app = running(server("my-app", ports[:3], ports[3]), sleeper("job")).start()
    app.ask("stop", words=["my-app-2"])
    before = app.pids()
    done = app.run("restart", "my-app")
    assert (done.returncode, done.stdout) == (0, "restarted: my-app-1, my-app-3\n")
    after = app.pids()
    assert after["job"] == before["job"] and after["my-app-2"] is None
    assert after["my-app-1"] != before["my-app-1"] and after["my-app-3"] != before["my-app-3"]
    assert app.run("restart", "my-app-2").returncode == 0
    assert app.pids()["my-app-2"]


def test_a_restart_stops_at_the_first_that_does_not_come_up(
    running: Make, free_ports: Ports, folder: Path
) -> None:
    ports = free_ports(4)
    flag = folder / "broken"
    cmd = "test ! -e %s && exec %s %s" % (flag, PUPGEVENT[0], server("x", [1], 2)["cmd"][1])
    app = running(server("my-app", ports[:3], ports[3], cmd=cmd)).start()
    before = app.pids()
    flag.write_text("")
    done = app.run("restart")
    assert done.returncode == 1
    assert "my-app-1 did not come up: exit code 1, restart in 0." in done.stderr
    after = app.pids()
    assert [after["my-app-2"], after["my-app-3"]] == [before["my-app-2"], before["my-app-3"]]
    assert {instance_of(get(ports[3])) for _ in range(4)} == {"1", "2"}


def test_an_unknown_name_gets_the_nearest_known(running: Make) -> None:
    app = running(sleeper("my-app")).start()
    for command in ("describe", "start", "stop", "restart", "logs"):
        done = app.run(command, "my-ap")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            'pupgevent: there is no process or instance "my-ap": did you mean "my-app"?\n')
    assert app.run("start", "elephant").stderr == (
        'pupgevent: there is no process or instance "elephant": there is my-app, all\n')


def test_two_changes_of_one_process_are_not_interleaved(running: Make, free_ports: Ports) -> None:
    """The first takes its time: the application does not leave before it is killed."""
    ports = free_ports(3)
    app = running(STUBBORN, server("my-app", ports[:2], ports[2])).start()
    eventually(lambda: "deaf" in app.said())
    stubborn = app.pids()["slow"]
    first = subprocess.Popen([*PUPGEVENT, "restart", str(app.config), "slow"])
    eventually(lambda: app.states()["slow"] == "stopping")
    app.write(dict(STUBBORN, env={"A": "1"}), server("my-app", ports[:2], ports[2]))
    for words in (["reload"], ["start", "slow"], ["restart", "slow"]):
        done = app.run(*words)
        assert done.returncode == 1
        assert "a restart of slow is under way: try again when it is done" in done.stderr
    assert app.run("restart", "my-app").returncode == 0
    os.kill(stubborn, signal.SIGKILL)
    assert first.wait(30) == 0


def test_a_stop_wins_over_a_restart_under_way(running: Make) -> None:
    app = running(STUBBORN, sleeper("job")).start()
    eventually(lambda: "deaf" in app.said())
    stubborn = app.pids()["slow"]
    with subprocess.Popen([*PUPGEVENT, "restart", str(app.config), "slow", "job"],
                          stderr=subprocess.PIPE) as first:
        eventually(lambda: app.states()["slow"] == "stopping")
        pid = app.pids()["job"]
        with subprocess.Popen([*PUPGEVENT, "stop", str(app.config), "slow"],
                              stdout=subprocess.PIPE, universal_newlines=True) as second:
            eventually(lambda: "control] stop slow, asked for by" in app.said())
            os.kill(stubborn, signal.SIGKILL)
            assert second.communicate(timeout=30)[0] == "stopped: slow\n"
            assert second.returncode == 0
        assert first.wait(30) == 1
        assert first.stderr
        assert first.stderr.read().endswith(b"\npupgevent: slow was stopped meanwhile\n")
    assert app.states() == {"slow": "stopped", "job": "running"}
    # The other process is still restarted.
    assert app.pids()["job"] != pid
    assert app.run("start", "slow").returncode == 0


def test_a_stop_of_one_instance_stops_no_other_of_a_restart_under_way(running: Make) -> None:
    """The roll-out ends there; the instance that it was at runs again."""
    stubborn = dict(STUBBORN, id="web", cluster={"instances": 3})
    app = running(stubborn).start()
    eventually(lambda: app.said().count("deaf") == 3)
    before = app.pids()
    with subprocess.Popen([*PUPGEVENT, "restart", str(app.config), "web"],
                          stderr=subprocess.PIPE) as first:
        eventually(lambda: app.states()["web-1"] == "stopping")
        with subprocess.Popen([*PUPGEVENT, "stop", str(app.config), "web-3"],
                              stdout=subprocess.PIPE) as second:
            eventually(lambda: app.states()["web-3"] == "stopping")
            for name in ("web-1", "web-3"):
                os.kill(before[name], signal.SIGKILL)
            assert second.communicate(timeout=30)[0] == b"stopped: web-3\n"
        assert first.wait(30) == 1
        assert first.stderr
        assert first.stderr.read().endswith(b"\npupgevent: web-3 was stopped meanwhile\n")
    assert app.states() == {"web-1": "running", "web-2": "running", "web-3": "stopped"}
    assert app.pids()["web-2"] == before["web-2"] and app.pids()["web-1"] != before["web-1"]


def test_a_stop_wins_over_a_start_under_way(running: Make, free_ports: Ports) -> None:
    """It waits for a port that nobody opens."""
    app = running(server("mute", free_ports(2), None, cmd=["sleep", "600"], autostart=False))
    app.start()
    with subprocess.Popen([*PUPGEVENT, "start", str(app.config)], stderr=subprocess.PIPE) as first:
        eventually(lambda: app.are(**{"mute-1": "starting", "mute-2": "starting"}))
        assert app.run("stop", "mute").returncode == 0
        assert first.wait(10) == 1
        assert first.stderr
        assert first.stderr.read().endswith(b"\npupgevent: mute-1, mute-2 were stopped meanwhile\n")
    assert app.states() == {"mute-1": "stopped", "mute-2": "stopped"}


# scale


def test_scale_adds_and_drains_at_the_top_only(running: Make, free_ports: Ports) -> None:
    ports = free_ports(6)
    app = running(server("my-app", ports[:2], ports[5])).start()
    before = app.pids()
    done = app.run("scale", "my-app", "5")
    assert (done.returncode, done.stdout) == (0, "my-app has 5 instances, 5 running\n")
    assert {instance_of(get(ports[5])) for _ in range(10)} == set("01234")
    assert app.run("scale", "my-app", "1").returncode == 0
    assert app.pids() == {"my-app-1": before["my-app-1"]}
    assert app.members()["my-app-1"]["port"] == ports[0]
    assert all(map(is_free, ports[1:5]))


def test_a_scale_that_cannot_be_is_refused_and_changes_nothing(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(4)
    app = running(server("my-app", ports[:2], ports[2]), sleeper("job")).start()
    for words, error in (
        (["my-app", "3"], "port %d lies within ports %d to %d" % (ports[2], ports[0], ports[2])),
        (["my-app", "2000"], "more than 1000 instances are not taken"),
        (["job", "2"], "job has no cluster: there is nothing to scale"),
        (["my-ap", "2"], 'there is no process "my-ap": did you mean "my-app"?'),
    ):
        done = app.run("scale", *words)
        assert done.returncode == 1
        assert error in done.stderr
    assert len(app.members()) == 3


def test_what_is_not_running_is_scaled_without_being_started(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(4)
    app = running(server("my-app", ports[:2], ports[3], autostart=False)).start()
    assert app.run("scale", "my-app", "3").stdout == "my-app has 3 instances, 0 running\n"
    assert set(app.states().values()) == {"created"}


# shutdown


def test_shutdown_returns_when_the_process_is_gone(running: Make, free_ports: Ports) -> None:
    ports = free_ports(3)
    app = running(server("my-app", ports[:2], ports[2])).start()
    pids = app.pids()
    done = app.run("shutdown")
    assert (done.returncode, done.stdout) == (0, "stopped\n")
    assert app.wait(0.5) == 0
    assert not any(map(lives, pids.values()))


# logs


def test_logs_prints_the_last_lines_of_whom_is_named(running: Make) -> None:
    app = running(
        sleeper("loud", cmd="printf 'one\\ntw\\377o\\n'; echo bad >&2; exec sleep 600"),
        sleeper("other", cmd="echo other; exec sleep 600")).start()  # fmt: skip
    eventually(lambda: "bad" in app.said() and "[other][stdout] other" in app.said())
    logs = [*PUPGEVENT, "logs", str(app.config)]
    done = subprocess.run([*logs, "loud"], stdout=subprocess.PIPE, check=True)
    lines = [line.split(b"]", 1)[1] for line in done.stdout.splitlines()]
    assert b"[loud][stdout] one" in lines and b"[loud][stdout] tw\xffo" in lines
    assert b"[loud][stderr] bad" in lines
    assert not any(b"other" in line for line in lines)
    everything = subprocess.run(logs, stdout=subprocess.PIPE, check=True)
    assert b"[core] pupgevent " in everything.stdout and b"[other]" in everything.stdout


def test_logs_follow_goes_on_until_interrupted(running: Make) -> None:
    app = running(sleeper("ticking", cmd="while :; do echo tick; sleep 0.1; done")).start()
    with following(app, "ticking") as child:
        assert child.stdout
        for _ in range(20):
            assert b"[ticking]" in child.stdout.readline()
        child.send_signal(signal.SIGINT)
        child.stdout.read()
        assert child.wait(10) == 130


@contextlib.contextmanager
def following(app: Running, *names: str) -> "Iterator[subprocess.Popen[bytes]]":
    with subprocess.Popen(
        [*PUPGEVENT, "logs", "--follow", str(app.config), *names], stdout=subprocess.PIPE
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def test_logs_follow_ends_with_pupgevent(running: Make) -> None:
    app = running(sleeper("job")).start()
    with following(app) as child:
        assert child.stdout and child.stdout.readline()
        app.end()
        child.stdout.read()
        assert child.wait(10) == 0


def test_a_follower_that_does_not_read_holds_nobody_up_and_is_told_what_it_missed(
    running: Make
) -> None:
    flood = "i=0; while [ $i -lt 100000 ]; do echo line $i; i=$((i+1)); done; echo the end; "
    app = running(sleeper("loud", cmd="echo first; sleep 1; " + flood + "exec sleep 600")).start()
    with following(app, "loud") as child:
        assert child.stdout
        child.stdout.readline()
        child.send_signal(signal.SIGSTOP)
        eventually(lambda: "[stdout] the end" in app.said(), 30)
        assert app.status()["healthy"]
        child.send_signal(signal.SIGCONT)
        missed = False
        while not missed:
            missed = b"lines left out: reading was too slow" in (
                child.stdout.readline())


# At a terminal


class Terminal:
    """A command with a terminal of its own."""

    def __init__(self, *words: str, stdin: bool = True) -> None:
        self.pid, self.fd = pty.fork()
        if not self.pid:
            if not stdin:
                os.close(0)
            os.execvpe(PUPGEVENT[0], [*PUPGEVENT, *words], dict(os.environ, TERM="xterm"))
        self.shown = b""

    def read(self, timeout: float = 0.1) -> bool:
        """False at its end."""
        if select.select([self.fd], [], [], timeout)[0]:
            try:
                self.shown += os.read(self.fd, 65536)
            except OSError:
                return False
        return True

    def shows(self, text: bytes) -> bool:
        self.read()
        return text in self.shown

    def end(self) -> int:
        """Its exit code, once it has ended."""
        deadline = time.monotonic() + 15
        while self.read():
            assert time.monotonic() < deadline, self.shown
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        assert b"Traceback" not in self.shown
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)


def test_progress_shows_at_a_terminal_only(running: Make, free_ports: Ports) -> None:
    ports = free_ports(3)
    app = running(server("my-app", ports[:2], ports[2])).start()
    terminal = Terminal("restart", str(app.config))
    assert terminal.end() == 0
    news = [line.split(" (")[0] for line in terminal.shown.decode().split("\r\n")]
    assert news == [
        "my-app-%d: %s" % (number, state)
        for number in (1, 2) for state in ("stopping", "stopped", "starting", "running")
    ] + ["restarted: my-app-1, my-app-2", ""]  # fmt: skip


def test_ctrl_c_ends_the_command_and_the_operation_goes_on(running: Make) -> None:
    slow = sleeper("slow", cmd="trap '' TERM; while :; do sleep 1 & wait; done",
                   terminateTimeout=1)
    app = running(slow).start()
    before = app.pids()["slow"]
    terminal = Terminal("restart", str(app.config))
    eventually(lambda: terminal.shows(b"slow: stopping"))
    os.write(terminal.fd, b"\x03")
    assert terminal.end() == 130
    assert b"no longer waiting; the restart goes on" in terminal.shown
    eventually(lambda: app.pids()["slow"] not in (None, before))


def test_top_needs_no_keyboard(running: Make) -> None:
    app = running(sleeper("job")).start()
    terminal = Terminal("top", str(app.config), stdin=False)
    eventually(lambda: terminal.shows(b"running"))
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.end() == 0
    assert b"Traceback" not in terminal.shown


def test_top_ends_with_4_when_pupgevent_does_and_there_is_no_terminal(running: Make) -> None:
    app = running(sleeper("job")).start()
    with subprocess.Popen([*PUPGEVENT, "top", str(app.config)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as child:
        assert child.stdout and child.stderr
        child.stdout.readline()
        app.end()
        child.stdout.read()
        assert child.wait(10) == 4
        assert b"no pupgevent runs" in child.stderr.read()


def test_top_repeats_plain_tables_where_there_is_no_terminal(running: Make) -> None:
    app = running(sleeper("job")).start()
    with subprocess.Popen([*PUPGEVENT, "top", str(app.config)], stdout=subprocess.PIPE) as child:
        assert child.stdout
        text = [child.stdout.readline() for _ in range(8)]
        assert sum(line.startswith(b"job running") for line in text) == 2
        assert b"\x1b" not in b"".join(text)
        child.send_signal(signal.SIGINT)
        child.stdout.read()
        assert child.wait(10) == 0
