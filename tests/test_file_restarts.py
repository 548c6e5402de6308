"""A process whose files change is restarted: which one, when, and what the log says of it."""

import json
import os
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

import gevent
import pytest

from conftest import eventually
from inside import RuntimeStage, inside, listening, sleeper
from running import Running, cluster, get, server
from supervision import wait_until

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Run = Callable[..., Running]

#: Quick, as nobody types here.
QUICK = {"interval": 20}

#: Lives, and when it is asked to stop, until somebody writes to the FIFO "go".
LINGERING = "trap 'cat go; exit' TERM; echo here; while :; do sleep 0.05; done"


def watching(process_id: str = "job", **more: Any) -> Any:
    """A process that does nothing and has the folder `src` watched."""
    return sleeper(process_id, **dict({"watch": ["src"], "minUptimeMs": 0}, **more))


def begins(stage: RuntimeStage, count: int = 1) -> None:
    """Wait until what is there is known, for so many values of `watch` by now."""
    wait_until(lambda: sum("[watcher]" in line and " in " in line for line in stage.console.lines)
               >= count, explain=lambda: str(stage.console.lines))


def save(stage: RuntimeStage, name: str = "a.js", text: str = "x") -> None:
    path = stage.config.parent / "src" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def said(stage: RuntimeStage, text: str) -> int:
    return sum(text in line for line in stage.console.lines)


def says(stage: RuntimeStage, text: str, count: int = 1) -> None:
    wait_until(lambda: said(stage, text) >= count, explain=lambda: "%d times %r: %s" % (
        said(stage, text), text, stage.console.lines))


def let_go(stage: RuntimeStage) -> None:
    """The child that was asked to stop; waits until it is there to hear it."""
    path = stage.config.parent / "go"
    gevent.get_hub().threadpool.apply(path.write_text, ("go",))


def let_go_until(stage: RuntimeStage, text: str) -> None:
    """Whoever is asked to stop until then, be it none: one that has not come to its trap by that
    time ends of the signal."""
    def is_said() -> bool:
        try:
            writer = os.open(str(stage.config.parent / "go"), os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return said(stage, text) > 0  # nobody reads
        try:
            os.write(writer, b"go")
        except BrokenPipeError:
            pass
        os.close(writer)
        return said(stage, text) > 0

    wait_until(is_said, explain=lambda: str(stage.console.lines))


def notices(stage: RuntimeStage, name: str) -> None:
    """Wait until a change is to be seen to, and is not yet."""
    restarts: Any = stage.runtime._owner
    wait_until(lambda: any(
        path.endswith(name) for path in restarts.file_restarts._due.get("job", ())))


@pytest.fixture
def fifo(tmp_path: Path) -> None:
    os.mkfifo(str(tmp_path / "go"))


def another_pid(stage: RuntimeStage, before: Dict[str, Any], name: str = "job") -> None:
    wait_until(lambda: stage.instance(name).state == "running"
               and stage.instance(name).pid != before[name],
               explain=lambda: str(stage.console.lines))


def test_a_changed_file_restarts_its_process_and_no_other(tmp_path: Path) -> None:
    with inside(tmp_path, [watching(), sleeper("other")], watcher=QUICK) as stage:
        begins(stage)
        before = stage.pids()
        save(stage)
        another_pid(stage, before)
        assert "[job][watcher] src/a.js changed: restarting" in stage.console.lines
        assert stage.pids()["other"] == before["other"]
        assert stage.instance("job").last_exit == "SIGTERM"


def test_many_files_are_one_restart_and_one_line(tmp_path: Path) -> None:
    with inside(tmp_path, [watching()], watcher={"interval": 500}) as stage:
        begins(stage)
        for number in range(20):
            save(stage, "%02d.js" % number)
        says(stage, "17 more files changed: restarting")
        stage.reaches("running", "job")
        assert said(stage, "changed:") == 1


@pytest.mark.parametrize("ending, more, state", [
    ("exit 3", {"restart": "never"}, "errored"),
    ("exit 3", {"restart": "error", "restartLimit": 1, "restartDelayMs": 1}, "exhausted"),
    ("exit 3", {"restart": "error", "restartDelayMs": 10**7}, "backoff"),
    ("exit 0", {"restart": "never"}, "finished"),
])
def test_whoever_has_ended_is_started_again(
    tmp_path: Path, ending: str, more: Dict[str, Any], state: str
) -> None:
    """The file that was saved may be the one that was mended."""
    job = watching(
        cmd="test -e src/a.js && exec sleep 600; " + ending, autostart=False, **more)
    with inside(tmp_path, [job], watcher=QUICK) as stage:
        begins(stage)
        stage.runtime.supervisor.start(["job"])
        stage.reaches(state, "job")
        save(stage)
        stage.reaches("running", "job")
        what = "restarting" if state == "backoff" else "starting"
        assert "[job][watcher] src/a.js changed: %s" % what in stage.console.lines
        assert not stage.instance("job").recovering


def test_without_autostart_the_first_change_starts_it(tmp_path: Path) -> None:
    with inside(tmp_path, [watching(autostart=False)], watcher=QUICK) as stage:
        begins(stage)
        assert stage.states() == {"job": "created"}
        save(stage)
        stage.reaches("running", "job")
        assert "[job][watcher] src/a.js changed: starting" in stage.console.lines


def test_who_was_stopped_stays_so_until_it_is_started(tmp_path: Path) -> None:
    with inside(tmp_path, [watching()], watcher=QUICK) as stage:
        begins(stage)
        stage.operations.stop(["job"], stage.told.append)
        save(stage)
        says(stage, "src/a.js changed: it was stopped, and stays so")
        assert stage.states() == {"job": "stopped"}
        stage.operations.start(["job"], stage.told.append)
        before = stage.pids()
        save(stage, text="more")
        another_pid(stage, before)


def test_the_instances_of_a_cluster_are_restarted_one_after_the_other(
    tmp_path: Path, free_ports: Ports
) -> None:
    web = listening("web", free_ports(4)[0], instances=4, more={"watch": ["src"]})
    with inside(tmp_path, [web], watcher=QUICK) as stage:
        begins(stage)
        before = stage.pids()
        most_down = []
        stage.runtime.watchers.add(lambda instance: most_down.append(
            sum(state != "running" for state in stage.states().values())))
        save(stage)
        for name in before:
            another_pid(stage, before, name)
        assert max(most_down) == 1
        stopped = [line for line in stage.console.lines if "stopped, SIGTERM" in line]
        assert [line.split("]")[0] for line in stopped] == [
            "[web-%d" % number for number in range(1, 5)]


def test_a_cluster_that_never_ran_is_started_at_once_and_who_was_stopped_is_left_out(
    tmp_path: Path
) -> None:
    job = watching(autostart=False, cluster={"instances": 3}, restart="never")
    with inside(tmp_path, [job], watcher=QUICK) as stage:
        begins(stage)
        save(stage)
        for number in range(1, 4):
            stage.reaches("running", "job-%d" % number)
        before = stage.pids()
        stage.operations.stop(["job-2"], stage.told.append)
        save(stage, text="more")
        another_pid(stage, before, "job-3")
        assert stage.states()["job-2"] == "stopped"


def test_a_release_that_does_not_come_up_takes_one_instance_and_is_mended_by_the_next(
    tmp_path: Path
) -> None:
    command = "test ! -e src/broken.js && exec sleep 600; exit 3"
    job = watching(cmd=command, cluster={"instances": 3}, minUptimeMs=200, restartDelayMs=10**7)
    with inside(tmp_path, [job], watcher=QUICK) as stage:
        begins(stage)
        before = stage.pids()
        save(stage, "broken.js")
        says(stage, "[job][watcher] error: job-1 did not come up: exit code 3")
        assert {name: pid for name, pid in stage.pids().items() if name != "job-1"} == {
            name: pid for name, pid in before.items() if name != "job-1"}
        (tmp_path / "src" / "broken.js").unlink()
        for name in before:
            another_pid(stage, before, name)


def test_changes_during_a_restart_are_one_more_after_it(tmp_path: Path, fifo: None) -> None:
    with inside(tmp_path, [watching(cmd=LINGERING)], watcher=QUICK) as stage:
        begins(stage)
        says(stage, "[stdout] here")
        save(stage)
        stage.reaches("stopping", "job")
        for name in ("b.js", "c.js", "d.js", "e.js", "f.js"):
            save(stage, name)
            notices(stage, name)
        let_go_until(stage, "src/b.js")
        save(stage, "g.js")
        let_go_until(stage, "src/g.js")
        assert [line for line in stage.console.lines if "changed" in line] == [
            "[job][watcher] src/%s changed: restarting" % files
            for files in ("a.js", "b.js, src/c.js, src/d.js, 2 more files", "g.js")]


def test_while_something_else_is_done_with_the_process_the_restart_waits(
    tmp_path: Path, fifo: None
) -> None:
    with inside(tmp_path, [watching(cmd=LINGERING)], watcher=QUICK) as stage:
        begins(stage)
        says(stage, "[stdout] here")
        restart = gevent.spawn(stage.operations.restart, ["job"], stage.told.append)
        stage.reaches("stopping", "job")
        save(stage)
        says(stage, "src/a.js changed: the restart waits, a restart of job is under way")
        let_go(stage)
        says(stage, "[stdout] here", 2)
        assert restart.get(timeout=30) == "restarted: job"
        says(stage, "src/a.js changed: restarting")


def test_a_stop_wins_over_the_restart(tmp_path: Path, fifo: None) -> None:
    with inside(tmp_path, [watching(cmd=LINGERING)], watcher=QUICK) as stage:
        begins(stage)
        says(stage, "[stdout] here")
        save(stage)
        stage.reaches("stopping", "job")
        stop = gevent.spawn(stage.operations.stop, ["job"], stage.told.append)
        wait_until(lambda: stage.operations._locks._held["job"].what == "a stop")
        let_go(stage)
        assert stop.get(timeout=30) == "stopped: job"
        save(stage, text="more")
        says(stage, "src/a.js changed: it was stopped, and stays so")
        assert said(stage, "error") == 0


def test_what_pupgevent_writes_itself_is_no_change(tmp_path: Path) -> None:
    """Every start writes the pid file: without end, if that were a reason to restart. Log files are
    made when they are first needed, and moved away."""
    (tmp_path / "src").mkdir()
    cluster = {"instances": 2, "protocol": "http", "accessLog": "src/access.log"}
    job = watching(pidFile="src/job.pid", cluster=cluster,
                   logger={"stdout": "src/{id}-{instance}.log"})
    with inside(tmp_path, [job], watcher=dict(QUICK, exts=[], match=[])) as stage:
        begins(stage)
        wait_until((tmp_path / "src" / "job-2.pid").exists)
        before = stage.pids()
        save(stage)
        another_pid(stage, before, "job-2")
        wait_until(lambda: (tmp_path / "src/job-2.pid").read_text() == "%d\n" % (
            stage.instance("job-2").pid or 0))
        (tmp_path / "src" / "job-2.log").rename(tmp_path / "src" / "job-2.log.1")
        save(stage, "access.log")
        save(stage, "b.js")
        says(stage, "changed: restarting", 2)
        assert said(stage, ".pid") == said(stage, ".log") == 0
        assert said(stage, "src/b.js changed: restarting") == 1


def test_a_reload_applies_other_paths_at_once_and_touches_no_child(tmp_path: Path) -> None:
    with inside(tmp_path, [watching()], watcher=QUICK) as stage:
        begins(stage)
        before = stage.pids()
        assert stage.reload([watching(watch=["lib"])], watcher=QUICK) == "reloaded: changed job"
        begins(stage, 2)
        save(stage)
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "a.js").write_text("x")
        another_pid(stage, before)
        assert said(stage, "src/a.js") == 0
        before = stage.pids()
        assert stage.reload([sleeper("job", minUptimeMs=0)], watcher=QUICK) == (
            "reloaded: changed job")
        assert stage.pids() == before


def test_who_is_removed_is_watched_no_longer(tmp_path: Path) -> None:
    with inside(tmp_path, [watching(), watching("other")], watcher=QUICK) as stage:
        begins(stage)
        stage.reload([watching("other")], watcher=QUICK)
        before = stage.pids()
        save(stage)
        another_pid(stage, before, "other")
        assert said(stage, "[job][watcher]") == 0


def test_many_who_watch_the_same_cost_one_watch(tmp_path: Path) -> None:
    processes = [watching("job%d" % number, autostart=False) for number in range(300)]
    with inside(tmp_path, processes, watcher=dict(QUICK, interval=0)) as stage:
        begins(stage)
        assert said(stage, "[watcher]") == 1
        stage.operations.start(["job7"], stage.told.append)
        before = stage.pids()
        stage.operations.stop(["job%d" % number for number in range(300) if number != 7],
                              stage.told.append)
        save(stage)
        another_pid(stage, before, "job7")
        says(stage, "it was stopped, and stays so", 299)


def test_nothing_is_restarted_any_more_once_pupgevent_stops(tmp_path: Path, fifo: None) -> None:
    with inside(tmp_path, [watching(cmd=LINGERING)], watcher=QUICK) as stage:
        begins(stage)
        says(stage, "[stdout] here")
        stopping = gevent.spawn(stage.runtime.shutdown)
        stage.reaches("stopping", "job")
        save(stage)
        says(stage, "[job][watcher] src/a.js changed: pupgevent is stopping")
        let_go(stage)
        stopping.get(timeout=30)
        assert stage.states() == {"job": "stopped"}


# The whole command

#: Pup's own docs/src/examples/watcher/pup.jsonc, but for the program.
PUPS_EXAMPLE = """{
  "processes": [
    {
      "id": "demo-watch",
      "cmd": %s,
      "autostart": true, // When watching, it starts by itself
      "restart": "always", // so that it goes on after a change
      "restartDelayMs": 1000, // instead of ten seconds
      "watch": ["./"], // everything in this folder
    }
  ]
}
"""


def test_pups_example_of_a_watcher_is_restarted_by_a_change_of_its_script(
    running: Run, folder: Path
) -> None:
    app = running(suffix=".jsonc")
    command = json.dumps("%s script.js" % sys.executable)
    app.config.write_text(PUPS_EXAMPLE % command)
    text = "import time\nprint('the %s script', flush=True)\ntime.sleep(3600)\n"
    place = app.config.parent / "script.js"
    place.write_text(text % "first")
    app.start()
    eventually(lambda: "watching" in app.said() and "the first script" in app.said())
    draft = app.config.parent / "draft"
    draft.write_text(text % "second")
    draft.replace(place)
    eventually(lambda: "the second script" in app.said())
    assert app.said().count("[demo-watch][watcher] script.js changed: restarting") == 1
    assert app.run("check").stdout.splitlines()[-1] == "demo-watch"


def test_a_balanced_cluster_loses_no_client_while_its_files_change(
    running: Run, free_ports: Ports
) -> None:
    ports = free_ports(5)
    web = server("web", ports[:4], ports[4], watch=["src"],
                 cluster=cluster(ports[:4], ports[4]))
    app = running(web, watcher=QUICK).start()
    eventually(lambda: "[watcher]" in app.said())
    before = app.pids()
    source = app.config.parent / "src"
    source.mkdir()
    (source / "a.js").write_text("x")

    def all_others() -> bool:
        get(ports[4])
        return not set(app.pids().values()) & set(before.values()) and app.are(
            **dict.fromkeys(before, "running"))

    eventually(all_others)


def test_check_says_how_a_process_starts(running: Run) -> None:
    app = running(watching(autostart=False), watching("other"))
    lines = app.run("check").stdout.splitlines()
    assert "job, started when its files change" in lines and "other" in lines


