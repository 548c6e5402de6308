"""Processes are started and stopped at the times of their patterns, whatever the clock does."""

import contextlib
import os
import signal
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

import gevent
import pytest

import status
from concurrency import Task
from cron_pattern import next_after, parse
from inside import RuntimeStage, inside, listening, sleeper
from model import Process
from rollout import ProcessLocks
from scheduler import START, STOP, Scheduler, Timer
from supervision import PATIENCE, SupervisorStage, cluster, process, supervise, wait_until
from test_cron_pattern import at, utc

#: A Monday.
NOON = at("2026-11-30 12:00:00")
HOUR, MINUTE = 3600.0, 60.0


class Wall:
    """The clock on the wall, as the test sets it."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class Stage(NamedTuple):
    """A supervisor and its scheduler, which looks at the clock all the time."""

    supervised: SupervisorStage
    scheduler: Scheduler
    locks: ProcessLocks
    wall: Wall

    def pass_time(self, seconds: float) -> None:
        """And let the scheduler look."""
        self.wall.now += seconds
        self.look()

    def look(self) -> None:
        looks = self.scheduler.looks
        wait_until(lambda: self.scheduler.looks > looks + 1)

    def starts(self, name: str = "app") -> int:
        return self.supervised.instance(name).attempts

    def starts_after(self, before: int) -> int:
        wait_until(lambda: self.starts() > before)
        return self.starts()

    def reaches(self, state: str, name: str = "app") -> None:
        self.supervised.reaches(state, name)


@contextlib.contextmanager
def scheduled(*processes: Process) -> Iterator[Stage]:
    with supervise(*processes) as supervised:
        wall, locks = Wall(), ProcessLocks()
        supervisor = supervised.supervisor
        scheduler = Scheduler(
            supervisor, locks, supervisor._context.log, wall=wall, zone=utc, every=0.005)
        scheduler.update(processes)
        try:
            yield Stage(supervised, scheduler, locks, wall)
        finally:
            scheduler.close()


def job(cmd: str = "true", cron: str = "0 * * * *", **changes: Any) -> Process:
    return process(cmd, autostart=False, cron=cron, **changes)


# Starts


def test_a_job_is_started_at_each_time_and_finishes() -> None:
    with scheduled(job()) as stage:
        stage.pass_time(HOUR - 1)
        assert (stage.starts(), stage.supervised.instance().state) == (0, "created")
        for seconds in (1, HOUR, HOUR):
            before = stage.starts()
            stage.pass_time(seconds)
            assert stage.starts_after(before) == before + 1
            stage.reaches("finished")


def test_all_instances_of_a_cluster_are_started() -> None:
    with scheduled(job("sleep 60", cluster=cluster(None, 3))) as stage:
        stage.pass_time(HOUR)
        for name in ("app-1", "app-2", "app-3"):
            stage.reaches("running", name)


def test_what_starts_by_itself_is_started_by_cron_when_it_has_ended() -> None:
    with scheduled(process("true", cron="0 * * * *")) as stage:
        stage.reaches("finished")
        stage.pass_time(HOUR)
        wait_until(lambda: stage.starts() == 2)


def test_what_waits_for_its_restart_is_started_at_once() -> None:
    with scheduled(job("exit 1", restart="error", restart_delay=1000.0,
                       restart_max_delay=1000.0)) as stage:
        stage.pass_time(HOUR)
        stage.reaches("backoff")
        stage.pass_time(HOUR)
        wait_until(lambda: stage.starts() == 2)


def test_what_still_runs_is_not_started_again_and_that_is_told_once_for_each_run() -> None:
    with scheduled(job("sleep 60")) as stage:
        stage.pass_time(HOUR)
        pid = stage.supervised.pid()
        for _ in range(3):
            stage.pass_time(HOUR)
        assert (stage.starts(), stage.supervised.instance().pid) == (1, pid)
        told = [line for line in stage.supervised.page.lines if "left out" in line]
        assert told == ["[app][core] still running: a start by cron is left out"]


def test_with_overrun_it_is_restarted() -> None:
    with scheduled(job("sleep 60", overrun=True)) as stage:
        stage.pass_time(HOUR)
        pid = stage.supervised.pid()
        stage.pass_time(HOUR)
        wait_until(lambda: stage.starts() == 2)
        assert stage.supervised.pid() != pid
        assert stage.supervised.states() == [
            "starting", "running", "stopping", "stopped", "starting", "running"]


def test_overruns_do_not_pile_up_behind_one_that_takes_long() -> None:
    with scheduled(job("trap '' TERM; echo up; sleep 60", overrun=True)) as stage:
        stage.pass_time(HOUR)
        stage.supervised.prints("up")
        for _ in range(3):
            stage.pass_time(HOUR)
        stage.reaches("stopping")
        assert stage.starts() == 1
        os.killpg(stage.supervised.instance().pid or 0, signal.SIGKILL)
        wait_until(lambda: stage.locks.holder("app") is None)
        stage.look()
        wait_until(lambda: stage.locks.holder("app") is None)
        assert stage.starts() == 2


def test_overrun_restarts_a_cluster_one_instance_after_the_other() -> None:
    with scheduled(job("sleep 60", overrun=True, cluster=cluster(None, 2))) as stage:
        stage.pass_time(HOUR)
        stage.reaches("running", "app-1")
        stage.reaches("running", "app-2")
        del stage.supervised.changes[:]
        stage.pass_time(HOUR)
        wait_until(lambda: len(stage.supervised.changes) == 8)
        names = [name for name, _ in stage.supervised.changes]
        assert names == ["app-1"] * 4 + ["app-2"] * 4


def test_what_an_operator_has_stopped_is_started_at_its_next_time() -> None:
    with scheduled(job("sleep 60")) as stage:
        stage.pass_time(HOUR)
        stage.reaches("running")
        stage.supervised.supervisor.stop(["app"])
        stage.look()
        assert stage.supervised.instance().state == "stopped"
        stage.pass_time(HOUR)
        wait_until(lambda: stage.starts() == 2)


def test_a_start_waits_for_a_change_of_the_process_that_is_under_way() -> None:
    with scheduled(job()) as stage:
        with stage.locks.hold(["app"], "a reload"):
            stage.pass_time(HOUR)
            stage.pass_time(HOUR)
            assert stage.starts() == 0
        wait_until(lambda: stage.starts() == 1)
        stage.reaches("finished")
        stage.look()
        assert stage.starts() == 1


def test_an_essential_job_that_fails_ends_nothing() -> None:
    with scheduled(job("exit 3", essential=True)) as stage:
        stage.pass_time(HOUR)
        stage.reaches("errored")
        assert stage.supervised.essential == []
        assert stage.supervised.instance().outcome == (
            "exit code 3, and it is not to be restarted before cron does")


def test_one_that_is_given_up_until_its_next_time_says_so() -> None:
    with scheduled(job("exit 3", restart="error", restart_limit=1)) as stage:
        stage.pass_time(HOUR)
        stage.reaches("exhausted")
        assert stage.supervised.instance().outcome == (
            "exit code 3, given up after 2 failures in a row until cron starts it")
        stage.pass_time(HOUR)
        wait_until(lambda: stage.starts() == 4)


# Stops


def test_at_its_time_it_is_stopped_and_stays_so() -> None:
    with scheduled(job("sleep 60", "0 9 * * *", terminate="0 13 * * *")) as stage:
        stage.pass_time(21 * HOUR)
        stage.reaches("running")
        stage.pass_time(4 * HOUR)
        stage.reaches("stopped")
        stage.pass_time(20 * HOUR)
        wait_until(lambda: stage.starts() == 2)


@pytest.mark.parametrize("changes, again", [
    ({"autostart": True, "restart": "error"}, True),
    ({"autostart": True, "restart": "always"}, True),
    ({"autostart": True, "restart": "never"}, False),
    ({"autostart": True, "restart": "error", "cron": "0 0 1 1 *"}, False),
    ({"autostart": True, "restart": "always", "cron": "0 0 1 1 *"}, True),
])  # fmt: skip
def test_who_is_started_again_after_its_stop(changes: Dict[str, Any], again: bool) -> None:
    """Also where it ends with 0, as good servers do."""
    cmd = "trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done"
    with scheduled(process(cmd, terminate="0 * * * *", **changes)) as stage:
        stage.supervised.prints("up")
        stage.reaches("running")
        stage.pass_time(HOUR)
        if again:
            wait_until(lambda: stage.starts() == 2)
            stage.reaches("running")
        else:
            stage.reaches("stopped")
            stage.look()
            assert stage.starts() == 1


def test_a_stop_ends_the_wait_for_a_restart() -> None:
    with scheduled(job("exit 1", "30 12 * * *", terminate="0 13 * * *", restart="error",
                       restart_delay=1000.0, restart_max_delay=1000.0)) as stage:
        stage.pass_time(HOUR / 2)
        stage.reaches("backoff")
        stage.pass_time(HOUR / 2)
        stage.reaches("stopped")


def test_a_stop_wins_over_a_restart_under_way() -> None:
    with scheduled(job("trap '' TERM; echo up; sleep 60", overrun=True,
                       terminate="30 14 * * *")) as stage:
        stage.pass_time(HOUR)
        stage.supervised.prints("up")
        stage.pass_time(HOUR)
        stage.reaches("stopping")
        stage.pass_time(HOUR / 2)
        os.killpg(stage.supervised.instance().pid or 0, signal.SIGKILL)
        stage.reaches("stopped")
        stage.look()
        assert (stage.starts(), stage.supervised.instance().state) == (1, "stopped")


def test_a_stop_waits_for_a_reload_and_is_not_lost() -> None:
    with scheduled(process(terminate="0 * * * *")) as stage:
        stage.reaches("running")
        with stage.locks.hold(["app"], "a reload"):
            stage.pass_time(HOUR)
            assert stage.supervised.instance().state == "running"
        stage.reaches("stopped")


def test_both_at_once_are_a_restart() -> None:
    with scheduled(job("sleep 60", terminate="0 * * * *")) as stage:
        stage.pass_time(HOUR)
        stage.reaches("running")
        stage.pass_time(HOUR)
        wait_until(lambda: stage.starts() == 2)
        stage.reaches("running")


# The clock


def test_times_that_were_missed_while_the_machine_slept_are_one_start() -> None:
    with scheduled(job(cron="*/5 * * * *")) as stage:
        stage.pass_time(10 * HOUR + MINUTE)
        wait_until(lambda: stage.starts() == 1)
        stage.reaches("finished")
        stage.look()
        assert stage.starts() == 1
        assert any("the start of 12:05:00 is late" in line
                   for line in stage.supervised.page.lines)
        stage.pass_time(4 * MINUTE)
        wait_until(lambda: stage.starts() == 2)


def test_of_a_start_and_a_stop_that_were_missed_the_later_one_counts() -> None:
    hours = job("sleep 60", "0 9 * * *", terminate="0 17 * * *")
    with scheduled(hours) as stage:
        stage.pass_time(3 * 24 * HOUR + 8 * HOUR)
        stage.look()
        assert stage.starts() == 0
        stage.pass_time(2 * 24 * HOUR + 14 * HOUR)
        wait_until(lambda: stage.starts() == 1)


@pytest.mark.parametrize("back, expected", [(1.0, 1), (590.0, 1), (700.0, 2), (2 * HOUR, 2)])
def test_a_clock_that_is_put_back_repeats_what_is_more_than_ten_minutes_ago(
    back: float, expected: int
) -> None:
    """A correction repeats nothing; a clock that was wrong by more is set, and what follows is
    reckoned from there."""
    with scheduled(job()) as stage:
        stage.pass_time(HOUR)
        wait_until(lambda: stage.starts() == 1)
        stage.reaches("finished")
        stage.pass_time(-back)
        stage.pass_time(back)
        stage.look()
        wait_until(lambda: stage.starts() == expected)
        stage.reaches("finished")


def test_a_clock_that_was_years_ahead_and_is_put_right_does_not_end_the_schedule() -> None:
    with scheduled(job()) as stage:
        stage.pass_time(10 * 365 * 24 * HOUR)
        wait_until(lambda: stage.starts() == 1)
        stage.reaches("finished")
        stage.pass_time(-10 * 365 * 24 * HOUR)
        assert stage.scheduler.next_time("app", START) == NOON + HOUR
        stage.pass_time(HOUR)
        wait_until(lambda: stage.starts() == 2)


def test_the_clock_is_looked_at_when_the_next_time_is_due() -> None:
    """The real one, and not only every so many seconds."""
    every_second = job(cron="* * * * * *")
    with supervise(every_second) as supervised:
        supervisor = supervised.supervisor
        scheduler = Scheduler(
            supervisor, ProcessLocks(), supervisor._context.log, every=100 * PATIENCE)
        scheduler.update([every_second])
        wait_until(lambda: supervised.instance().attempts >= 3)
        scheduler.close()


def test_the_clock_is_looked_at_without_a_time_that_is_due() -> None:
    with scheduled(job(cron="0 0 1 1 *")) as stage:
        stage.look()
    assert Scheduler.__init__.__kwdefaults__["every"] <= 30  # type: ignore[index]


def test_the_last_time_missed_is_found_without_a_long_search() -> None:
    timer = Timer("* * * * * *", NOON, utc)
    assert timer.last_missed(NOON + 10.5) == NOON + 10
    assert timer.last_missed(NOON + 10**8) == NOON + 10**8
    assert next_after(parse("0 0 1 1 *", utc(NOON)), NOON, utc) == at("2027-01-01 00:00:00")


# Changes


def test_a_pattern_that_stays_keeps_its_times_and_one_that_goes_has_none() -> None:
    with scheduled(job(), job("true", "30 * * * *", id="other")) as stage:
        stage.pass_time(HOUR / 4)
        stage.scheduler.update([job(cron="15 * * * *")])
        assert stage.scheduler.next_time("app", START) == NOON + HOUR * 1.25
        assert stage.scheduler.next_time("other", START) is None
        stage.pass_time(HOUR)
        wait_until(lambda: stage.starts() == 1)
        assert stage.starts("other") == 0


def test_a_question_mark_without_a_day_is_told_and_nothing_is_started() -> None:
    with scheduled(job(cron="0 0 ? 2 *")) as stage:
        assert any("app: no start by cron: there is no such day" in line
                   for line in stage.supervised.page.lines)
        assert stage.scheduler.next_time("app", START) is None


def test_after_the_close_nothing_is_started() -> None:
    with scheduled(job()) as stage:
        stage.look()
        stage.scheduler.close()
        stage.wall.now += HOUR
        gevent.sleep(0.05)
        assert (stage.starts(), stage.scheduler.next_time("app", START)) == (0, None)


def test_without_patterns_there_is_no_task() -> None:
    with scheduled(process()) as stage:
        assert stage.scheduler._task is None
        stage.scheduler.update([job()])
        stage.look()


def test_without_memory_a_start_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler._SHORTAGE_DELAY", 0.01)
    with scheduled(job()) as stage:
        failures = [MemoryError()] * 3
        instance = stage.supervised.instance()
        start: Callable[[], int] = instance.start

        def fail() -> int:
            if failures:
                raise failures.pop()
            return start()

        monkeypatch.setattr(instance, "start", fail)
        stage.wall.now += HOUR
        wait_until(lambda: stage.starts() == 1)
        stage.reaches("finished")
        assert failures == []


# In a whole runtime


def test_a_stop_tells_when_cron_starts_it_again(tmp_path: Path) -> None:
    jobs = [sleeper("job", cron="0 0 1 1 *"), sleeper("other", cron="0 0 1 1 *"), sleeper("third")]
    with inside(tmp_path, jobs) as stage:
        said = stage.operations.stop(["job"], stage.told.append)
        assert said.startswith("stopped: job; cron starts job again at 20")
        assert said.endswith("-01-01 00:00:00")
        assert stage.operations.stop(["third"], stage.told.append) == "stopped: third"
        said = stage.operations.stop([], stage.told.append)
        assert said == "stopped: job, other, third; cron starts 2 of them again"


def health(stage: RuntimeStage) -> Any:
    (found,) = status.snapshot(stage.runtime, {}, "").processes
    return found


def test_a_job_that_waits_is_healthy_unless_its_last_run_has_failed(tmp_path: Path) -> None:
    marker = tmp_path / "fails"
    jobs = [sleeper("job", cmd="test ! -e %s" % marker, cron="0 0 1 1 *", autostart=False)]
    with inside(tmp_path, jobs) as stage:
        assert health(stage).healthy
        assert health(stage).next_run == stage.runtime.scheduler.next_time("job", START)
        for state, healthy in (("finished", True), ("errored", False), ("finished", True)):
            marker.touch() if state == "errored" else None
            stage.runtime.scheduler._start("job", False)
            stage.reaches(state, "job")
            assert (health(stage).healthy, health(stage).wanted) == (healthy, 0)
            if marker.exists():
                marker.unlink()


def test_a_reload_does_not_begin_a_job_anew(tmp_path: Path) -> None:
    """Neither one that runs nor one that has failed: the file counts from its next time on."""
    running = sleeper("job", cron="0 0 1 1 *", autostart=False)
    failed = sleeper("failed", cmd="exit 1", cron="0 0 1 1 *", autostart=False)
    with inside(tmp_path, [running, failed]) as stage:
        for name, state in (("job", "running"), ("failed", "errored")):
            stage.runtime.scheduler._start(name, False)
            stage.reaches(state, name)
        pid = stage.pids()["job"]
        changed = [dict(running, cmd=["sleep", "500"]), dict(failed, cmd="exit 0")]
        assert stage.reload(changed) == "reloaded: changed job, failed"
        assert stage.states() == {"job": "running", "failed": "errored"}
        assert stage.pids()["job"] == pid
        stage.operations.stop(["job"], stage.told.append)
        stage.runtime.scheduler._start("job", False)
        stage.reaches("running", "job")
        words = Path("/proc/%d/cmdline" % (stage.pids()["job"] or 0)).read_bytes()
        assert words == b"sleep\x00500\x00"


def test_a_terminated_cluster_goes_on_to_serve(
    tmp_path: Path, free_ports: Callable[[int], List[int]]
) -> None:
    """Its instances are restarted one after the other."""
    ports = free_ports(3)
    web = listening("web", ports[0], ports[2], instances=2, more={"terminate": "0 0 1 1 *"})
    with inside(tmp_path, [web]) as stage:
        before = stage.pids()
        states: List[str] = []
        stage.runtime.watchers.add(
            lambda instance: states.append("%s %s" % (instance.name, instance.state)))
        stage.runtime.scheduler._stop(stage.instance("web-1").process)
        wait_until(lambda: states[-1:] == ["web-2 running"])
        assert states.index("web-1 running") < states.index("web-2 stopping")
        assert set(before.values()).isdisjoint(stage.pids().values())


def test_a_removed_process_is_not_started_while_it_goes(tmp_path: Path) -> None:
    stubborn = sleeper("job", cmd="trap '' TERM; echo up; sleep 600", cron="0 0 1 1 *")
    with inside(tmp_path, [stubborn, sleeper("other")]) as stage:
        wait_until(lambda: any("up" in line for line in stage.console.lines))
        reload = Task(lambda: stage.told.append(stage.reload([sleeper("other")])))
        stage.reaches("stopping", "job")
        assert stage.runtime.scheduler.next_time("job", START) is None
        stage.runtime.scheduler._start("job", False)
        os.killpg(stage.pids()["job"] or 0, signal.SIGKILL)
        assert reload.wait(PATIENCE)
        assert stage.told[-1] == "reloaded: removed job"
        assert stage.states() == {"other": "running"}


def test_the_stop_of_everything_is_the_end_of_the_schedule(tmp_path: Path) -> None:
    jobs = [sleeper("job", cron="0 0 1 1 *", terminate="0 0 1 1 *")]
    with inside(tmp_path, jobs) as stage:
        stage.runtime.shutdown()
        assert stage.runtime.scheduler.next_time("job", STOP) is None
        assert stage.runtime.scheduler._task.wait(PATIENCE)  # type: ignore[union-attr]
        assert stage.states() == {"job": "stopped"}
