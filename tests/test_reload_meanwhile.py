"""What a reload does not touch goes its own way meanwhile; what it does is the reload's alone."""

import contextlib
import os
import random
import shlex
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any, Callable, Iterator, List

import gevent
import pytest

import reload
from conftest import eventually
from errors import ConfigurationError, PupgeventError
from inside import inside, listening
from rollout import ProcessLocks
from running import PUPGEVENT, SCALE, Running, get, instance_of, is_free, run, server, sleeper

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]

#: Does not leave before a test kills it, from when it says so.
DEAF = sleeper("a", cmd="trap '' TERM; echo deaf; while :; do sleep 1 & wait; done",
               terminateTimeout=600)


@contextlib.contextmanager
def rolling(app: Running) -> "Iterator[subprocess.Popen[bytes]]":
    """A reload that is at `a` until the block ends; `a` is deaf, and the file is written."""
    eventually(lambda: "deaf" in app.said())
    pid = app.pids()["a"]
    with subprocess.Popen([*PUPGEVENT, "reload", str(app.config)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as command:
        try:
            eventually(lambda: app.states()["a"] == "stopping")
            yield command
        finally:
            os.kill(pid, signal.SIGKILL)
            command.communicate(timeout=45)


def test_what_a_reload_does_not_touch_can_be_changed_while_it_rolls(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(5)
    web = server("web", ports[:2], ports[4])
    app = running(DEAF, web, sleeper("b"), sleeper("c")).start()
    before = app.pids()
    app.write(dict(DEAF, env={"A": "1"}), web, sleeper("b"), sleeper("c"))
    with rolling(app) as command:
        for words, text in (
            (["restart", "b"], "restarted: b\n"),
            (["scale", "web", "3"], "web has 3 instances, 3 running\n"),
            (["restart", "web"], "restarted: web-1, web-2, web-3\n"),
            (["stop", "c"], "stopped: c\n"),
            (["start", "c"], "running: c\n"),
            (["stop", "c"], "stopped: c\n"),
        ):
            done = app.run(*words)
            assert (done.stdout, done.returncode) == (text, 0), done.stderr
        for refused in (["restart", "a"], ["stop", "a"], ["start", "a"]):
            done = app.run(*refused)
            assert done.returncode == 1
            assert "a reload of a is under way: try again when it is done" in done.stderr
        assert "a reload of the file is under way" in app.run("reload").stderr
    assert command.returncode == 0
    after = app.pids()
    assert after["b"] != before["b"] and after["a"] != before["a"]
    # Nothing of that is lost by the end of the reload.
    assert app.states() == {"a": "running", "web-1": "running", "web-2": "running",
                            "web-3": "running", "b": "running", "c": "stopped"}  # fmt: skip
    assert {instance_of(get(ports[4])) for _ in range(9)} == {"0", "1", "2"}
    assert app.run("scale", "web", "4").returncode == 0
    assert app.ask("reload")["text"].startswith("reloaded: changed web; removed web-3, web-4")


def test_a_reload_that_touches_what_is_being_changed_changes_nothing(running: Make) -> None:
    """Also of what nobody else is changing."""
    app = running(DEAF, sleeper("b")).start()
    eventually(lambda: "deaf" in app.said())
    before = app.pids()
    with subprocess.Popen([*PUPGEVENT, "restart", str(app.config), "a"]) as command:
        eventually(lambda: app.states()["a"] == "stopping")
        app.write(dict(DEAF, stopSignal="SIGINT"), sleeper("b", env={"A": "1"}), sleeper("new"))
        done = app.run("reload")
        assert done.returncode == 1
        assert "a restart of a is under way: try again when it is done" in done.stderr
        assert (app.pids()["b"], "new" in app.states()) == (before["b"], False)
        # What was held before that was found is free again.
        assert app.run("restart", "b").returncode == 0
        os.kill(before["a"], signal.SIGKILL)
        assert command.wait(45) == 0
    assert app.ask("reload")["text"] == "reloaded: changed a, b; restarted b; started new"


def test_a_removed_process_is_the_reloads_alone(running: Make) -> None:
    app = running(DEAF, sleeper("b")).start()
    app.write(sleeper("b"))
    with rolling(app) as command:
        assert "a reload of a is under way" in app.run("restart", "a").stderr
        assert app.run("restart", "b").returncode == 0
    assert command.returncode == 0
    assert app.states() == {"b": "running"}


def test_a_new_common_port_counts_for_a_scaling_as_soon_as_it_is_open(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(5)
    web = server("web", ports[:2], ports[4])
    app = running(DEAF, web).start()
    app.write(dict(DEAF, env={"A": "1"}), web, server("new", ports[3:4], ports[2]))
    with rolling(app) as command:
        done = app.run("scale", "web", "3")
        assert done.returncode == 1
        assert "port %d" % ports[2] in done.stderr
    assert command.returncode == 0
    assert len(app.members()) == 4


def test_progress_is_of_what_the_reload_touches(running: Make) -> None:
    app = running(DEAF, sleeper("b")).start()
    app.write(dict(DEAF, env={"A": "1"}), sleeper("b"))
    told: List[str] = []
    eventually(lambda: "deaf" in app.said())
    pid = app.pids()["a"]
    thread = threading.Thread(target=lambda: told.extend(progress(app, {"command": "reload"})))
    thread.start()
    eventually(lambda: app.states()["a"] == "stopping")
    assert app.run("restart", "b").returncode == 0
    os.kill(pid, signal.SIGKILL)
    thread.join(45)
    assert [line.split(" (")[0] for line in told] == [
        "a: stopping", "a: stopped", "a: starting", "a: running"]


def progress(app: Running, request: Any) -> List[str]:
    import control_client

    lines: List[str] = []
    control_client.call(str(app.config), request, lambda line: lines.append(line["progress"]), 50)
    return lines


def test_reloads_and_other_changes_at_random_end_with_what_the_file_says(
    running: Make, free_ports: Ports
) -> None:
    """What is not touched is never refused, whatever comes together."""
    ports = free_ports(6)
    chance = random.Random(8)
    versions = [
        [sleeper("a", env={"A": number}), sleeper("b"), sleeper("c"), *new,
         server("web", ports[:2], ports[5])]
        for number, new in ((0, []), (1, [sleeper("new")]), (2, []))
    ]
    app = running(*versions[0]).start()
    errors: List[str] = []
    over = threading.Event()

    def repeat(command: str, may_be_refused: bool, choices: "List[Any]") -> None:
        while not over.is_set():
            fields = chance.choice(choices)
            try:
                app.ask(command, **fields)
            except PupgeventError as error:
                if not (may_be_refused and "is under way" in str(error)):
                    errors.append("%s %s: %s" % (command, fields, error))

    threads = [
        threading.Thread(target=repeat, args=args) for args in (
            ("restart", False, [{"words": ["b"]}]),
            ("restart", False, [{"words": ["c"]}]),
            ("scale", True, [{"id": "web", "instances": number} for number in (1, 2, 3)]),
        )
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for number in range(int(12 * SCALE) or 1):
        app.write(*versions[number % 3])
        try:
            app.ask("reload")
        except PupgeventError as error:
            if "a scaling of web is under way" not in str(error):
                errors.append(str(error))
    over.set()
    for thread in threads:
        thread.join(60)
    assert errors == []
    app.write(*versions[1])
    app.ask("reload")
    assert app.states() == dict.fromkeys(["a", "b", "c", "new", "web-1", "web-2"], "running")
    assert app.ask("reload")["text"] == "reloaded: nothing differs"


# Between two steps of a reload, where nobody can get from the outside on purpose


def begun(stage: Any) -> reload.Reload:
    """A reload that has compared and holds what differs, and has changed nothing yet."""
    found = reload.read(stage.runtime)
    assert not isinstance(found, ConfigurationError), found
    work = reload.Reload(stage.runtime, found, stage.told.append)
    work.hold(lambda ids: None)
    return work


def change() -> Any:
    with ProcessLocks().hold([], "a reload") as found:
        return found


def test_a_cluster_that_is_scaled_after_it_was_compared_stays_so(
    tmp_path: Path, free_ports: Ports
) -> None:
    ports = free_ports(3)
    with inside(tmp_path, [sleeper("a"), listening("web", ports[0])]) as stage:
        stage.write([sleeper("a", env={"A": "1"}), listening("web", ports[0])])
        work = begun(stage)
        stage.operations.scale("web", 3, stage.told.append)
        assert work.apply(change()) == "reloaded: changed a; restarted a"
        assert stage.states() == dict.fromkeys(["a", "web-1", "web-2", "web-3"], "running")
        _, web = stage.runtime.configuration.processes
        assert web.cluster is not None and web.cluster.instances == 3
        assert stage.runtime.supervisor.processes["web"] == web
        assert stage.reload() == "reloaded: changed web; removed web-2, web-3"


def test_none_of_two_scalings_at_once_is_lost(tmp_path: Path, free_ports: Ports) -> None:
    ports = free_ports(6)
    with inside(tmp_path, [listening("a", ports[0]), listening("b", ports[3])]) as stage:
        both = [gevent.spawn(stage.operations.scale, *words, stage.told.append)
                for words in (("a", 2), ("b", 3))]
        assert [each.get() for each in both] == [
            "a has 2 instances, 2 running", "b has 3 instances, 3 running"]
        a, b = stage.runtime.configuration.processes
        assert (a.cluster and a.cluster.instances, b.cluster and b.cluster.instances) == (2, 3)


def test_a_file_that_does_not_go_with_a_scaling_meanwhile_changes_nothing(
    tmp_path: Path, free_ports: Ports
) -> None:
    """The third instance has the port that the file gives to a new process."""
    ports = free_ports(5)
    old = [sleeper("a"), listening("web", ports[0], instances=2)]
    new = [sleeper("a", env={"A": "1"}), old[1], listening("new", ports[2], ports[4])]
    with inside(tmp_path, old) as stage:
        stage.write(new)
        work = begun(stage)
        stage.operations.scale("web", 3, stage.told.append)
        before, configuration = stage.pids(), stage.runtime.configuration
        with pytest.raises(ConfigurationError, match=r"processes\[2\].cluster.startPort: port"):
            work.apply(change())
        assert stage.pids() == before
        assert stage.runtime.configuration is configuration
        assert "new" not in stage.runtime.supervisor.processes
        assert is_free(ports[4])
        # Read again, the file wins.
        assert stage.reload() == (
            "reloaded: changed a, web; restarted a; started new-1; removed web-3")


def test_a_port_that_cannot_be_had_changes_no_setting_no_logger_and_no_instance(
    tmp_path: Path, free_ports: Ports
) -> None:
    ports = free_ports(4)
    old = [sleeper("a"), listening("web", ports[0], ports[2])]
    new = [
        sleeper("a", restart="never", logger={"console": False, "colors": True}),
        listening("web", ports[0], ports[3], instances=2, strategy="ip-hash", idleTimeoutMs=5),
        sleeper("new"),
    ]  # fmt: skip
    with inside(tmp_path, old) as stage, socket.socket() as stranger:
        stranger.bind(("127.0.0.1", ports[3]))
        stranger.listen(1)

        def everything() -> Any:
            runtime = stage.runtime
            return (
                runtime.configuration, dict(runtime.supervisor.processes), stage.pids(),
                {each.name: each.process for each in runtime.instances()},
                {name: (each._cluster, each.address) for name, each in runtime.balancers.items()},
                {name: [(each.colors, each._console) for pair in pairs.values() for each in pair]
                 for name, pairs in runtime._outlets._pairs.items()},
                runtime._outlets._logger, dict(runtime.rotations),
            )  # fmt: skip

        before = everything()
        with pytest.raises(PupgeventError, match="address already in use"):
            stage.reload(new, name="other", logger={"console": False, "colors": True})
        assert everything() == before


def test_who_has_got_through_to_a_port_that_closes_is_served(
    tmp_path: Path, free_ports: Ports
) -> None:
    ports = free_ports(2)
    with inside(tmp_path, [listening("web", ports[0], ports[1])]) as stage:
        (web,) = stage.runtime.configuration.processes
        assert web.cluster is not None
        closed = web._replace(cluster=web.cluster._replace(common_port=None))
        # The loop has no turn before the port moves: nobody has accepted this one.
        with socket.create_connection(("127.0.0.1", ports[1]), 30) as client:
            stage.runtime.move_ports([closed], {})
            assert is_free(ports[1])
            answer = gevent.get_hub().threadpool.apply(client.recv, (64,))
        assert int(answer) == stage.pids()["web-1"]


def test_a_reload_that_fails_holds_nothing_any_more(tmp_path: Path) -> None:
    with inside(tmp_path, [sleeper("a"), sleeper("b")]) as stage:
        with pytest.raises(PupgeventError, match="a did not come up"):
            stage.reload([sleeper("a", cmd=["/nowhere"]), sleeper("b")])
        stage.reload([sleeper("a"), sleeper("b")])
        stage.config.write_text("{")
        with pytest.raises(ConfigurationError):
            stage.reload()
        stage.operations.restart([], stage.told.append)


# Who holds a port


def test_one_that_was_given_up_in_anothers_place_does_not_hold_it(
    running: Make, free_ports: Ports
) -> None:
    """two-2 has made room for one, which is given up there; two-2 comes back as it was."""
    ports = free_ports(3)
    crash = ["sh", "-c", "exit 3"]
    app = running(server("one", ports[:1], None), server("two", ports[1:3], None)).start()
    with pytest.raises(PupgeventError, match=r"one-1 did not come up.*two-1 did not come up"):
        app.write(server("one", ports[2:3], None, cmd=crash, restart="never"),
                  server("two", ports[:2], None, cmd=crash))
        app.ask("reload")
    member = app.members()["two-2"]
    assert (member["state"], member["port"]) == ("running", ports[2])
    get(ports[2])


@pytest.mark.parametrize("resting", ["one", "two"])
def test_two_processes_one_of_which_is_stopped_exchange_their_ports(
    running: Make, free_ports: Ports, resting: str
) -> None:
    first, second = free_ports(2)
    app = running(server("one", [first], None), server("two", [second], None)).start()
    app.ask("stop", words=[resting])
    app.write(server("one", [second], None), server("two", [first], None))
    app.ask("reload")
    awake = "one" if resting == "two" else "two"
    assert app.states() == {awake + "-1": "running", resting + "-1": "stopped"}
    app.ask("start", words=[resting])
    assert [app.members()[name]["port"] for name in ("one-1", "two-1")] == [second, first]


# Those that were given up


def test_what_was_given_up_is_told_with_the_command_that_starts_it(
    running: Make, folder: Path
) -> None:
    flag = folder / "mended"
    cmd = "test -e %s && exec sleep 600; exit 3" % flag
    app = running(
        sleeper("job", cmd=cmd, restart="never"),
        dict(sleeper("web", cmd=cmd, restart="never"), cluster={"instances": 2}),
        sleeper("good")).begin()  # fmt: skip
    eventually(lambda: app.are(**{"job": "errored", "web-1": "errored", "web-2": "errored"}))
    app.ask("stop", words=["web-2"])
    done = app.run("reload")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "reloaded: nothing differs; job, web-1 were given up (exit code 3): "
        "`pupgevent start %s job web-1` starts them\n" % app.config)
    flag.write_text("")
    assert run(*shlex.split(done.stdout.split("`")[1])[1:]).stdout == "running: job, web-1\n"
    assert app.states()["web-2"] == "stopped"
    assert app.run("reload").stdout == "reloaded: nothing differs\n"


def test_what_a_reload_starts_by_itself_is_not_told_as_given_up(running: Make) -> None:
    app = running(sleeper("job", cmd=["sh", "-c", "exit 3"], restart="never")).begin()
    eventually(lambda: app.are(job="errored"))
    assert app.run("reload").stdout.endswith(
        "job was given up (exit code 3): `pupgevent start %s job` starts it\n" % app.config)
    app.write(sleeper("job"))
    assert app.run("reload").stdout == "reloaded: changed job; restarted job\n"
