"""From the order to start to `running`: what a child finds, and when it counts as ready."""

import os
import re
import socket
from pathlib import Path
from typing import Callable

import gevent
import pytest

import ports
from supervision import (
    PATIENCE,
    accepts,
    cluster,
    process,
    runs,
    script,
    shell,
    supervise,
    wait_until,
)


def test_process_without_a_port_runs_once_it_is_spawned() -> None:
    with supervise(process()) as stage:
        instance = stage.reaches("running")
        assert stage.states() == ["starting", "running"]
        assert instance.pid is not None and runs(instance.pid)
        assert stage.ledger.told == []


def test_process_without_autostart_stays_created() -> None:
    with supervise(process(autostart=False), process(id="other")) as stage:
        stage.reaches("running", "other")
        assert stage.instance("app").state == "created"
        assert stage.instance("app").pid is None


def test_instances_are_named_and_numbered_and_know_their_ports() -> None:
    with supervise(process(cluster=cluster(8000, 3)), process(id="plain"), start=False) as stage:
        assert list(stage.supervisor.instances) == ["app-1", "app-2", "app-3", "plain"]
        places = [(each.process_id, each.index, each.port)
                 for each in stage.supervisor.instances.values()]
        assert places == [("app", 0, 8000), ("app", 1, 8001), ("app", 2, 8002), ("plain", 0, None)]


def test_child_is_told_which_instance_it_is_and_where_to_listen() -> None:
    cmd = "echo $PUP_PROCESS_ID/$PUP_CLUSTER_INSTANCE/$PUP_CLUSTER_PORT/$COLOR"
    clustered = process(cmd, cluster=cluster(4321, 2), env={"COLOR": "blue"})
    with supervise(clustered, process(cmd, id="plain")) as stage:
        assert stage.prints("/", "[app-1][stdout]") == "app/0/4321/blue"
        assert stage.prints("/", "[app-2][stdout]") == "app/1/4322/blue"
        assert stage.prints("/", "[plain][stdout]") == "plain///"


def test_array_is_run_as_it_is_and_string_by_the_shell() -> None:
    array, string = process(("printf", "%s", "$HOME; *")), process("echo $((40 + 2))", id="sh")
    with supervise(array, string) as stage:
        assert stage.prints("HOME") == "$HOME; *"
        assert stage.prints("4", "[sh][stdout]") == "42"


def test_child_runs_in_its_folder_with_its_path_behind_the_others(tmp_path: Path) -> None:
    tool = tmp_path / "own-tool"
    tool.write_text("#!/bin/sh\npwd\n")
    tool.chmod(0o755)
    with supervise(process(("own-tool",), cwd=str(tmp_path), path=str(tmp_path))) as stage:
        assert stage.prints("/") == str(tmp_path)


def test_instance_with_a_port_runs_when_its_port_accepts(
    free_port: Callable[[], int], tmp_path: Path
) -> None:
    port, gate = free_port(), tmp_path / "gate"
    late = process("echo here; while ! test -e %s; do sleep 0.01; done; exec %s" % (
        gate, shell("listener.py").rpartition(";")[0]), cluster=cluster(port))
    with supervise(late) as stage:
        stage.prints("here", "[app-1][stdout]")
        assert stage.instance("app-1").state == "starting"
        assert not accepts(port) and stage.ledger.told == []
        gate.touch()
        stage.reaches("running", "app-1")
        assert stage.ledger.told == [("up", "app-1", port)]
        assert accepts(port)


def test_instance_is_looked_at_often_while_it_gets_ready(free_port: Callable[[], int]) -> None:
    """The pauses of this test and those between two looks are timers of the same loop."""
    with supervise(process(script("listener.py"), cluster=cluster(free_port()))) as stage:
        stage.prints("listening", "[app-1][stdout]")
        for _ in range(20):
            gevent.sleep(0.05)
        assert stage.instance("app-1").state == "running"


def test_instance_on_ipv6_is_found_ready(free_port: Callable[[], int]) -> None:
    port = free_port()
    server = (
        "import socket, os, time; s = socket.socket(socket.AF_INET6);"
        "s.bind(('::1', int(os.environ['PUP_CLUSTER_PORT']))); s.listen(5); time.sleep(60)"
    )
    six = process(("python3", "-c", server), cluster=cluster(port, instance_host="::1"))
    with supervise(six) as stage:
        stage.reaches("running", "app-1")


def test_instance_that_never_listens_is_killed_and_a_failed_start(
    free_port: Callable[[], int]
) -> None:
    port = free_port()
    deaf = process(script("stubborn.py"), restart="always", restart_limit=1,
                   cluster=cluster(port, ready_timeout=0.3))
    with supervise(deaf) as stage:
        instance = stage.reaches("exhausted", "app-1")
        assert stage.states("app-1") == ["starting", "backoff", "starting", "exhausted"]
        assert instance.last_exit == "port %d does not accept after 0.3 s" % port
        assert stage.ledger.told == []


def test_taken_port_is_a_failed_start_that_names_its_owner(free_port: Callable[[], int]) -> None:
    port = free_port()
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("0.0.0.0", port))
        stranger.listen(5)
        stranger.setblocking(False)
        with supervise(process(script("listener.py"), cluster=cluster(port))) as stage:
            instance = stage.reaches("errored", "app-1")
            owner = "port %d is taken by pid %d (" % (port, os.getpid())
            assert (instance.last_exit or "").startswith(owner)
            assert len([line for line in stage.page.lines if owner in line]) == 1
            assert stage.ledger.told == []
        with pytest.raises(BlockingIOError):
            stranger.accept()


def test_instance_starts_by_itself_when_a_taken_port_is_given_back(
    free_port: Callable[[], int]
) -> None:
    port = free_port()
    waiting = process(script("listener.py"), restart="always", cluster=cluster(port))
    with supervise(waiting, start=False) as stage:
        with socket.socket() as stranger:
            stranger.bind(("127.0.0.1", port))
            stranger.listen(5)
            stage.supervisor.startup()
            stage.reaches("backoff", "app-1")
        stage.reaches("running", "app-1")


def test_port_in_time_wait_is_not_taken(free_port: Callable[[], int]) -> None:
    port = free_port()
    with supervise(process(script("listener.py"), cluster=cluster(port))) as stage:
        stage.reaches("running", "app-1")
        with socket.create_connection(("127.0.0.1", port)) as client:
            # The server closes first: its side of the connection is what lingers.
            while client.recv(100):
                pass
        stage.supervisor.stop(["app-1"])
        assert stage.supervisor.start(["app-1"]) == []


def test_connections_of_a_server_that_shares_its_port_keep_it_from_no_start(
    free_port: Callable[[], int]
) -> None:
    """With SO_REUSEPORT and without SO_REUSEADDR, whatever is left of connections is in the way of
    everybody else: TIME_WAIT for a minute, and FIN_WAIT2 as long as a client does not close."""
    port = free_port()
    with supervise(process(script("tenant.py", "open"), cluster=cluster(port))) as stage:
        stage.reaches("running", "app-1")
        with socket.create_connection(("127.0.0.1", port)) as client:
            while client.recv(100):
                pass
        with socket.create_connection(("127.0.0.1", port)) as slow:
            while slow.recv(100):
                pass
            wait_until(lambda: {each.state for each in ports.sockets_at(port)} >= {"05", "06"})
            assert ports.is_taken("127.0.0.1", port)
            stage.supervisor.stop(["app-1"])
            assert ports.is_taken("127.0.0.1", port)
            assert stage.supervisor.start(["app-1"]) == []


def test_address_of_another_machine_is_not_checked_before_the_start(
    free_port: Callable[[], int]
) -> None:
    elsewhere = cluster(free_port(), instance_host="192.0.2.1", ready_timeout=0.3)
    with supervise(process(cluster=elsewhere)) as stage:
        instance = stage.reaches("errored", "app-1")
        assert "does not accept" in str(instance.last_exit)
        assert stage.page.texts("[app-1][core]")[0].startswith("started, pid ")


def test_child_that_dies_before_it_is_ready_never_gets_into_rotation(
    free_port: Callable[[], int]
) -> None:
    with supervise(process("exit 7", cluster=cluster(free_port()))) as stage:
        instance = stage.reaches("errored", "app-1")
        assert instance.last_exit == "exit code 7"
        assert "running" not in stage.states("app-1") and stage.ledger.told == []


@pytest.mark.parametrize("changes, reason", [
    ({"cmd": ("no-such-program", "x")}, "cannot start no-such-program: No such file or directory"),
    ({"cmd": ("/etc/passwd",)}, "cannot start /etc/passwd: Permission denied"),
    ({"cmd": ("/etc",)}, "cannot start /etc: Permission denied"),
    ({"cwd": "/no/such/folder"},
     "cannot start in the folder /no/such/folder: No such file or directory"),
    ({"cmd": ("true", "a\0b")}, "cannot start true: embedded null byte"),
    ({"user": "no-such-user"}, 'cannot start: there is no user "no-such-user"'),
    ({"group": "no-such-group"}, 'cannot start: there is no group "no-such-group"'),
])
def test_what_cannot_be_started_is_one_clear_line(
    changes: "dict[str, object]", reason: str
) -> None:
    with supervise(process(**changes)) as stage:
        instance = stage.reaches("errored")
        assert instance.last_exit == reason
        assert stage.page.lines == ["[app][core] error: %s, and it is not to be restarted" % reason]


def test_script_without_an_interpreter_line_is_one_clear_line(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("neither this nor that")
    program.chmod(0o755)
    with supervise(process((str(program),))) as stage:
        assert stage.reaches("errored").last_exit == "cannot start %s: Exec format error" % program


@pytest.mark.parametrize("first_line, flaw", [
    ("#!/bin/sh\r\n", "has a #! line that ends in CRLF: save it with the line ends of Unix"),
    ("#!/usr/bin/pyhton3 -u\n", "names an interpreter that is not there: /usr/bin/pyhton3"),
])
def test_script_whose_interpreter_is_not_there_is_told_so(
    tmp_path: Path, first_line: str, flaw: str
) -> None:
    """The kernel says only that there is no such file, and there is the script."""
    program = tmp_path / "program"
    program.write_bytes((first_line + "exit 0\n").encode())
    program.chmod(0o755)
    found = [process((str(program),)), process(("./program",), cwd=str(tmp_path)),
             process(("program",), path=str(tmp_path))]
    for each in found:
        with supervise(each) as stage:
            assert stage.reaches("errored").last_exit == (
                "cannot start %s: No such file or directory (the file %s)" % (each.cmd[0], flaw))


def test_program_that_appears_later_is_started_then(tmp_path: Path) -> None:
    program = tmp_path / "program"
    with supervise(process((str(program),), restart="always")) as stage:
        stage.reaches("backoff")
        draft = tmp_path / "draft"
        draft.write_text("#!/bin/sh\nexec sleep 60\n")
        draft.chmod(0o755)
        draft.rename(program)
        stage.reaches("running")


def test_start_tells_who_did_not_come_up_and_why(free_port: Callable[[], int]) -> None:
    good = process(id="good", autostart=False)
    bad = process(("no-such-program",), id="bad", autostart=False, restart="always",
                  restart_delay=30.0)
    with supervise(good, bad) as stage:
        failures = stage.supervisor.start(["good", "bad"])
        assert [failure.name for failure in failures] == ["bad"]
        assert re.match("bad did not come up: cannot start no-such-program: .*, restart in 3[0-3]",
                        str(failures[0]))
        assert stage.instance("good").state == "running"


def test_start_of_what_runs_changes_nothing() -> None:
    with supervise(process()) as stage:
        pid = stage.pid()
        assert stage.supervisor.start(["app"]) == []
        assert stage.instance().pid == pid


def test_pid_file_is_there_while_the_child_is(tmp_path: Path) -> None:
    path = tmp_path / "app.pid"
    with supervise(process(pid_file=str(path))) as stage:
        pid = stage.pid()
        assert path.read_text() == "%d\n" % pid
        stage.supervisor.stop(["app"])
        assert list(tmp_path.iterdir()) == []


def test_each_of_several_instances_has_its_own_pid_file(tmp_path: Path) -> None:
    path = str(tmp_path / "app.pid")
    with supervise(process(pid_file=path, cluster=cluster(None, 2))) as stage:
        pids = [stage.pid(name) for name in ("app-1", "app-2")]
        texts = [(tmp_path / name).read_text() for name in ("app-1.pid", "app-2.pid")]
        assert texts == ["%d\n" % pid for pid in pids]


def test_pid_file_that_cannot_be_written_is_one_warning(tmp_path: Path) -> None:
    with supervise(process(pid_file=str(tmp_path / "no" / "folder.pid"))) as stage:
        stage.reaches("running")
        warnings = [line for line in stage.page.lines if "pidFile" in line]
        assert len(warnings) == 1 and warnings[0].endswith(": No such file or directory")


def test_pid_file_that_somebody_has_made_something_else_costs_no_instance(tmp_path: Path) -> None:
    path = tmp_path / "app.pid"
    restarted = process("exit 3", pid_file=str(path), restart="always", restart_delay=0.2)
    with supervise(restarted) as stage:
        for number in range(1, 4):
            wait_until(lambda: stage.instance().state == "backoff")
            path.write_bytes(b"\xff\xfe%d" % number)
            wait_until(lambda: stage.instance().attempts > number)  # noqa: B023
        assert not any("Traceback" in line for line in stage.page.lines)


def test_pid_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "app.pid"
    with supervise(process(pid_file=str(path))) as stage:
        stage.reaches("running")
        path.write_text("1\n")
        stage.supervisor.stop(["app"])
        assert path.read_text() == "1\n"


def test_uptime_counts_from_the_start_of_the_child() -> None:
    with supervise(process()) as stage:
        instance = stage.reaches("running")
        stage.clock.ahead += 100
        assert 100 <= (instance.uptime or 0) < 100 + PATIENCE
        assert stage.clock() - instance.since >= 100
        stage.supervisor.stop(["app"])
        assert instance.uptime is None and instance.pid is None


def test_shell_with_a_server_is_ready_when_the_server_is(free_port: Callable[[], int]) -> None:
    port = free_port()
    with supervise(process(shell("listener.py"), cluster=cluster(port))) as stage:
        stage.reaches("running", "app-1")
        stage.supervisor.stop(["app-1"])
        wait_until(lambda: not accepts(port), PATIENCE)
