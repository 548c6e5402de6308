"""A large file is read beside the hub, and what is done with it is done in slices."""

import contextlib
import gc
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, Iterator, List

import gevent
import gevent.socket
import pytest

import background_loader
import concurrency
import configuration
from concurrency import SLICE, ForkGate, Threads, in_slices
from control import ControlConnection
from control_requests import ControlRequests
from errors import ConfigurationError
from inside import inside, listening, sleeper
from model import Configuration
from running import SCALE
from snapshots import Snapshots
from supervision import cpu_seconds, gevent_waits_for_children

pytest_plugins = ["runs"]

#: Of all that is done, what may be done between two turns of the hub: it is some 3 ms at most,
#: whatever there is to do, and was nearly all. A share depends on no machine.
SHARE = 1 / 2


@contextlib.contextmanager
def turns(every: float = 0.0005) -> Iterator[List[float]]:
    """Seconds of CPU of this thread between each two turns of the hub, of which one is seen in
    `every` seconds: what others take from the machine does not count."""
    found: List[float] = []
    last = [0.0]

    def turn() -> None:
        now = cpu_seconds()
        found.append(now - last[0])
        last[0] = now

    timer = gevent.get_hub().loop.timer(0, every)
    # What the tests before have left is not to be looked through in between.
    gc.collect()
    gc.disable()
    last[0] = cpu_seconds()
    timer.start(turn)
    try:
        yield found
        gevent.sleep(0.01)
    finally:
        timer.stop()
        timer.close()
        gc.enable()


@pytest.fixture(autouse=True)
def children_are_waited_for() -> Iterator[None]:
    with gevent_waits_for_children():
        yield


def many(count: int, **more: Any) -> Any:
    return [sleeper("job%d" % number, autostart=False, **more) for number in range(count)]


def written(tmp_path: Path, text: str, name: str = "app.json") -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


NETWORKS = """{"name": "shop", "processes": [{"id": "a", "cmd": "x", "env": {"A": "é"}, "cluster":
    {"instances": 2, "startPort": 8000, "commonPort": 9000}}, {"id": "b", "cmd": ["y", "z"]}]}"""


@pytest.mark.parametrize("text", [
    NETWORKS, "{", '{"processes": [{"id": "a"}]}', json.dumps({"processes": many(2000)}),
    "[]", "", "\0",
], ids=["good", "open", "bad", "large", "array", "empty", "nul"])  # fmt: skip
def test_another_process_finds_in_a_file_what_this_one_does(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    found: Any = background_loader.load_in_process(path)
    try:
        assert found == configuration.load(path)
    except ConfigurationError as error:
        assert type(found) is ConfigurationError
        assert (str(found), vars(found), found.exit_status) == (
            str(error), vars(error), error.exit_status)


def test_a_file_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    error = background_loader.load(str(tmp_path / "app.toml"), Threads(1))
    assert isinstance(error, ConfigurationError)
    assert "there is no such file" in str(error)


def test_a_large_file_is_read_all_the_same_where_no_process_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, json.dumps({"processes": many(2000)}))
    monkeypatch.setattr(sys, "executable", "/nowhere/python3")
    assert background_loader.load_in_process(path) is None
    assert background_loader.load(path, Threads(1)) == configuration.load(path)


@pytest.mark.parametrize("other", [
    "raise ImportError()",
    "def send(path, file): pass",
    "def send(path, file): file.write(b'no pickle')",
    "import pickle\ndef send(path, file):\n"
    "    pickle.dump('edition', file); pickle.dump(((), {}), file)",
], ids=["broken", "silent", "garbled", "another edition"])  # fmt: skip
def test_what_an_exchanged_pupgevent_reads_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """It was installed over the one that runs."""
    path = written(tmp_path, json.dumps({"processes": many(2000)}))
    (tmp_path / "configuration.py").write_text(other)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert background_loader.load_in_process(path) is None
    assert isinstance(background_loader.load(path, Threads(1)), Configuration)


def test_a_large_file_costs_another_process_its_time_and_not_the_hub(tmp_path: Path) -> None:
    # However little the tests are to do, it is one of the large ones.
    count = max(4000, int(8000 * SCALE))
    tables = "".join('[[processes]]\nid="a%d"\ncmd=":"\n' % n for n in range(count))
    path = written(tmp_path, tables, "app.toml")
    before = os.times()
    assert isinstance(background_loader.load(path, Threads(1)), Configuration)
    after = os.times()
    own = after.user + after.system - before.user - before.system
    others = (after.children_user + after.children_system
              - before.children_user - before.children_system)
    assert own < others


def test_the_hub_has_its_turn_while_a_reload_adds_changes_and_removes_thousands(
    tmp_path: Path
) -> None:
    # A share says something of much work only.
    count = max(4000, int(4000 * SCALE))
    with inside(tmp_path, [sleeper("job")]) as stage:
        for more in ({}, {"restartDelayMs": 7}, {"cwd": "/"}, None):
            processes = [] if more is None else many(count, **more)
            with turns() as found:
                stage.reload([sleeper("job"), *processes])
            assert max(found) < SHARE * sum(found), sorted(found)[-5:]
            assert len(stage.runtime.instances()) == len(processes) + 1


@pytest.mark.parametrize("processes, instances", [(1, 1000), (1000, 1)])
def test_the_hub_has_its_turn_while_thousands_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int, instances: int
) -> None:
    """After each that is looked at, and after each that is written, where slices are so short."""
    shops = [
        listening("shop%d" % n, 10000 + n, instances=instances, more={"autostart": False})
        for n in range(processes)
    ]
    with inside(tmp_path, shops) as stage, contextlib.ExitStack() as stack:
        requests = ControlRequests(
            stage.runtime, stage.operations, list, Snapshots(stage.runtime, ""))
        ours, theirs = map(stack.enter_context, gevent.socket.socketpair())
        heard = gevent.spawn(stack.enter_context(theirs.makefile()).readline)
        monkeypatch.setattr(concurrency, "SLICE", 0)
        with turns(every=1e-6) as found:
            told = requests._status({"usage": False, "words": []}, ControlConnection(ours))
            looked_at = len(found)
            ControlConnection(ours).send(told)
            written = len(found) - looked_at
        assert json.loads(heard.get()) == told
        # A tenth of the turns may go by unseen.
        assert looked_at > 0.9 * processes * (instances + 1)
        assert written > 0.9 * processes * instances


def test_the_hub_has_its_turn_between_the_starts_of_many_instances(tmp_path: Path) -> None:
    """It has one for each fork; they are done by and by, and not fifty before the next look at
    sockets."""
    count = int(60 * SCALE)
    sleepers = dict(sleeper("job", autostart=False), cluster={"instances": count})
    with inside(tmp_path, [sleepers]) as stage:
        with turns() as found:
            stage.operations.start([], stage.told.append)
        pids = stage.pids()
        assert len(set(pids.values())) == count
        assert len(found) > count
        with turns() as found:
            stage.operations.stop([], stage.told.append)
        assert set(stage.states().values()) == {"stopped"}


def test_a_start_that_waits_for_its_fork_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleepers = dict(sleeper("job", autostart=False), cluster={"instances": 30})
    with inside(tmp_path, [sleepers]) as stage:
        monkeypatch.setattr(concurrency, "_LONGEST_STEP", 600)
        with stage.runtime.supervisor._context.fork_gate.turn():
            start = gevent.spawn(stage.runtime.supervisor.start, ["job-%d" % n for n in (1, 30)])
            stage.reaches("starting", "job-30")
            stop = gevent.spawn(stage.runtime.supervisor.stop, ["job-30"])
            gevent.sleep(0)
        gevent.joinall([start, stop], timeout=30, raise_error=True)
        assert stage.instance("job-1").state == "running"
        assert stage.instance("job-30").last_exit == "stopped before it was started"


@pytest.mark.skipif(not hasattr(gc, "freeze"), reason="Python has it from 3.7")
def test_the_collector_does_not_look_through_what_was_there_at_the_start(folder: Path) -> None:
    from daemon import Daemon

    path = written(folder, json.dumps({"processes": many(1)}))
    with open(os.devnull, "w") as console:
        daemon = Daemon(configuration.load(path), console.fileno(), False, "",
                                resource.getrlimit(resource.RLIMIT_NOFILE))
        try:
            daemon.start()
            assert gc.get_freeze_count() > 10000
        finally:
            gc.unfreeze()
            daemon.runtime.shutdown()
            daemon.close()


# The slices themselves


def test_slices_let_the_loop_look_at_timers_and_sockets() -> None:
    """Which the callbacks of other greenlets alone do not."""
    ticks = [0]

    def tick() -> None:
        ticks[0] += 1

    timer = gevent.get_hub().loop.timer(0, 0.0001)
    timer.start(tick)
    seen = 0
    for _ in in_slices(range(20)):
        until = time.monotonic() + SLICE
        while time.monotonic() < until:
            pass
        assert ticks[0] >= seen
        seen = ticks[0] + 1
    timer.stop()
    timer.close()
    assert ticks[0] >= 19


def test_short_work_is_not_interrupted() -> None:
    ran: List[int] = []
    other = gevent.spawn(ran.append, 1)
    assert list(in_slices([])) == []
    assert ran == []
    other.join()


def test_a_fork_gate_lets_one_through_after_the_other() -> None:
    fork_gate, inside_now, most = ForkGate(), [0], [0]

    def step() -> None:
        with fork_gate.turn():
            inside_now[0] += 1
            most[0] = max(most[0], inside_now[0])
            gevent.sleep(0)
            inside_now[0] -= 1

    gevent.joinall([gevent.spawn(step) for _ in range(20)], timeout=30, raise_error=True)
    assert most == [1]


def test_everybody_else_has_a_turn_between_two_that_pass_a_fork_gate() -> None:
    fork_gate = ForkGate()
    seen: List[int] = []
    ticks = [0]

    def tick() -> None:
        ticks[0] += 1

    def step() -> None:
        with fork_gate.turn():
            until = time.monotonic() + SLICE
            while time.monotonic() < until:
                pass
            seen.append(ticks[0])

    timer = gevent.get_hub().loop.timer(0, 0.0001)
    timer.start(tick)
    gevent.joinall([gevent.spawn(step) for _ in range(20)], timeout=30, raise_error=True)
    timer.stop()
    timer.close()
    assert len(set(seen)) == 20


def test_a_step_that_hangs_holds_up_nobody_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program on a disk that does not answer; and who comes late has no turn to give back."""
    monkeypatch.setattr(concurrency, "_LONGEST_STEP", 0.01)
    fork_gate = ForkGate()
    through: List[int] = []

    def step() -> None:
        with fork_gate.turn():
            through.append(1)

    with fork_gate.turn():
        gevent.joinall([gevent.spawn(step) for _ in range(3)], timeout=30, raise_error=True)
        assert len(through) == 3
    gevent.joinall([gevent.spawn(step) for _ in range(3)], timeout=30, raise_error=True)
    assert len(through) == 6
    assert fork_gate._lock.counter <= 1
