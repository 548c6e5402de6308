"""`maxMemory`: who holds too much is replaced, one of a process at a time."""

import os
import subprocess
from typing import List, Set, Tuple

import pytest

import procfs
from supervision import cluster, process, script, shell, supervise, wait_until

MB = 2**20

#: Seconds between two looks.
SOON = 0.05


def test_a_process_that_holds_too_much_is_replaced_at_once() -> None:
    greedy = process(script("holding.py", "80"), max_memory=50 * MB, restart_delay=60.0)
    with supervise(greedy, look_every=SOON) as stage:
        first = stage.pid()
        wait_until(lambda: stage.instance().restarts > 0 and stage.instance().state == "running")
        line = stage.prints("of memory", "[app][core]")
        assert stage.instance().last_exit == "SIGTERM" and stage.instance().pid != first
    assert line.endswith(" MB of memory, more than maxMemory (50 MB), stopping it")
    assert stage.states()[:5] == ["starting", "running", "stopping", "backoff", "starting"]
    assert not stage.delays


def test_what_its_children_hold_counts() -> None:
    with supervise(process(shell("holding.py", "80"), max_memory=50 * MB),
                   look_every=SOON) as stage:
        wait_until(lambda: stage.instance().restarts > 0)


def test_who_holds_less_is_left_alone() -> None:
    """For as long as another one, with a lower limit, is replaced twice."""
    modest = process(script("holding.py", "20"), max_memory=200 * MB)
    greedy = process(script("holding.py", "80"), max_memory=50 * MB, id="greedy")
    with supervise(modest, greedy, look_every=SOON) as stage:
        pid = stage.pid()
        wait_until(lambda: stage.instance("greedy").restarts > 1)
        assert (stage.instance().pid, stage.instance().restarts) == (pid, 0)


def test_a_limit_that_is_lowered_counts_for_the_child_that_runs() -> None:
    app = process(script("holding.py", "80"))
    with supervise(app, look_every=SOON) as stage:
        stage.prints("holding")
        stage.instance().replace(app._replace(max_memory=50 * MB), stage.instance().spec)
        wait_until(lambda: stage.instance().restarts > 0)


def out_of_rotation(changes: List[Tuple[str, str]]) -> int:
    """How many were not running at the worst moment, after all of them have run for once."""
    running: Set[str] = set()
    all_up, worst = False, 0
    for name, state in changes:
        (running.add if state == "running" else running.discard)(name)
        all_up = all_up or len(running) == 3
        if all_up:
            worst = max(worst, 3 - len(running))
    return worst


def test_of_a_cluster_one_is_replaced_at_a_time() -> None:
    """Though all of them reach their limit together."""
    greedy = process(script("holding.py", "60"), max_memory=40 * MB, cluster=cluster(None, 3))
    with supervise(greedy, look_every=SOON) as stage:
        instances = list(stage.supervisor.instances.values())
        wait_until(lambda: all(each.restarts > 1 for each in instances))
        changes = list(stage.changes)
    assert out_of_rotation(changes) == 1


def test_after_one_that_does_not_come_up_again_nobody_else_is_replaced() -> None:
    """A release that leaks and cannot start: what serves goes on to serve."""
    greedy = process("exec %s" % " ".join(script("holding.py", "60")), max_memory=40 * MB,
                     cluster=cluster(None, 2), min_uptime=0.2)
    with supervise(greedy, look_every=SOON) as stage:
        for name in ("app-1", "app-2"):
            stage.reaches("running", name)
        broken = greedy._replace(cmd="exit 3")
        for instance in stage.supervisor.instances.values():
            instance.replace(broken, instance.spec)
        wait_until(lambda: "errored" in [
            each.state for each in stage.supervisor.instances.values()])
        lost, = (each for each in stage.supervisor.instances.values() if each.state == "errored")
        other, = (each for each in stage.supervisor.instances.values() if each is not lost)
        watch = stage.supervisor._memory_watch
        for _ in range(6):
            watch._look()
        assert (other.state, other.recycling) == ("running", False)
        # Somebody has seen to it.
        stage.supervisor.stop([lost.name])
        wait_until(lambda: other.restarts > 0 or other.state == "errored")


def test_a_stop_wins_over_a_replacement() -> None:
    greedy = process(script("holding.py", "80"), max_memory=50 * MB, terminate_grace_period=60.0)
    with supervise(greedy, look_every=SOON) as stage:
        stage.ledger.connections = True
        stage.reaches("stopping")
        stage.instance().kill()
        stage.reaches("stopped")
        assert not stage.instance().recycling


def test_a_shortage_ends_the_watch_not() -> None:
    greedy = process(script("holding.py", "80"), max_memory=50 * MB)
    with supervise(greedy, start=False, look_every=SOON) as stage:
        watch = stage.supervisor._memory_watch
        failures: List[int] = []
        look = watch._look

        def failing() -> None:
            if len(failures) < 3:
                failures.append(1)
                raise [MemoryError(), OSError(), RuntimeError("bug")][len(failures) - 1]
            look()

        watch._look = failing  # type: ignore[method-assign]
        stage.supervisor.startup()
        wait_until(lambda: stage.instance().restarts > 0)
        assert any("met a bug: RuntimeError('bug'" in each for each in stage.page.lines)


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="Linux before 4.14")
def test_what_processes_share_counts_once() -> None:
    """As after a fork: five of them hold 60 MB together."""
    with subprocess.Popen(script("holding.py", "60", "4"), stdout=subprocess.PIPE,
                          start_new_session=True) as child:
        assert child.stdout is not None and child.stdout.readline().startswith(b"holding")
        try:
            assert procfs.memory_above({child.pid: 150 * MB}) == {}
            held = procfs.memory_above({child.pid: 50 * MB})[child.pid]
            assert 60 * MB < held < 150 * MB
        finally:
            os.killpg(child.pid, 9)
