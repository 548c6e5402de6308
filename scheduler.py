"""Schedules: processes are started and stopped at the times of their cron patterns.

One task looks at the clock on the wall when the next time is due, and every 20 seconds besides,
since that clock may be set and the machine may sleep:

- The clock is put forward, or the machine has slept: what has been missed meanwhile is done once,
  however many times that were. Of a start and a stop only the later one counts.
- The clock is put back: by up to ten minutes, and nothing is done twice; by more, and the times are
  those of the new clock.

Like an operator, the scheduler changes nothing of a process that a change holds (rollout.py): it
waits until that is over. An instance has one child, so `overrun` is a restart, where Pup lets a
second child run beside the first.
"""

import time
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

from gevent.event import Event

import cron_pattern
from concurrency import Task, in_slices, pause
from cron_pattern import CronError, CronPattern, Zone
from errors import PupgeventError, local_time
from instance import Instance
from lifecycle import ALIVE
from logs import InstanceLog, Log
from model import Process
from rollout import Busy, ProcessLocks, restart_step, roll
from sinks import Source
from supervisor import Supervisor

#: Seconds after which the clock is looked at in any case.
_LOOK_AGAIN = 20.0

#: Seconds by which a clock is corrected rather than set.
_CORRECTION = 600.0

#: Missed times that are looked through for the last of them.
_MOST_MISSED = 1000

#: A start or stop that is so late, in seconds, is worth a line.
_LATE = 60.0

#: Seconds until something is tried again for which there was no memory.
_SHORTAGE_DELAY = 1.0

START, STOP, RESTART = "start", "stop", "restart"


class Timer:
    """One pattern of one process: when its next time is."""

    def __init__(self, text: str, now: float, zone: Zone) -> None:
        """Raises CronError."""
        self.text = text
        self._zone = zone
        self._pattern: CronPattern = cron_pattern.parse(text, cron_pattern.wall_of(now, zone))
        #: Up to then all times are over.
        self._done_until = now
        self.due = self._next(now)

    def is_due(self, now: float) -> bool:
        """Also puts up with a clock that has been set back."""
        if now < self._done_until - _CORRECTION:
            self.advance(now)
        return self.due is not None and now >= self.due

    def advance(self, now: float) -> None:
        """All times up to now are over."""
        self.due = self._next(now)
        self._done_until = now

    def last_missed(self, now: float) -> float:
        """The last time that is over, where one is due; now, where these are many."""
        last = self.due or 0
        for _ in range(_MOST_MISSED):
            following = self._next(last)
            if following is None or following > now:
                return last
            last = following
        return now

    def _next(self, moment: float) -> Optional[int]:
        return cron_pattern.next_after(self._pattern, moment, self._zone)


class _Due(NamedTuple):
    """The timers of a process that are due."""

    start: Optional[Timer]
    stop: Optional[Timer]


class Scheduler:
    """Starts and stops by the clock, from the first `update` on.

    `wall` is Unix time, `zone` what the clocks show; it is looked at `every` so many seconds.
    """

    def __init__(
        self, supervisor: Supervisor, locks: ProcessLocks, log: Log, *,
        wall: Callable[[], float] = time.time, zone: Zone = time.localtime,
        every: float = _LOOK_AGAIN,
    ) -> None:
        self._supervisor = supervisor
        self._locks = locks
        self._log = log
        self._wall = wall
        self._zone = zone
        self._every = every
        self._timers: Dict[Tuple[str, str], Timer] = {}
        #: Of what waits for something, by process and kind.
        self._tasks: Dict[Tuple[str, str], Task] = {}
        #: The runs of which it was told that a start is left out for them.
        self._told: Dict[str, int] = {}
        self._changed = Event()
        self._task: Optional[Task] = None
        self._closed = False
        #: How often the clock was looked at.
        self.looks = 0

    def update(self, processes: Iterable[Process]) -> None:
        """The processes are these by now. A pattern that has not changed keeps its times. Blocks
        the calling greenlet now and then."""
        timers: Dict[Tuple[str, str], Timer] = {}
        for process in in_slices(processes):
            for kind, text in ((START, process.cron), (STOP, process.terminate)):
                if text is not None:
                    self._keep(timers, process.id, kind, text)
        self._timers = timers
        self._tasks = {key: task for key, task in self._tasks.items() if not task.ready()}
        self._told = {name: attempt for name, attempt in self._told.items()
                      if name in self._supervisor.instances}
        self._changed.set()
        if self._task is None and timers and not self._closed:
            self._task = Task(self._main_loop)

    def close(self) -> None:
        """Nothing is started or stopped any more. Idempotent."""
        self._closed = True
        self._changed.set()

    def next_time(self, process_id: str, kind: str) -> Optional[int]:
        """Of START or STOP, in Unix time."""
        timer = self._timers.get((process_id, kind))
        return None if timer is None or self._closed else timer.due

    def about_starts(self, ids: Iterable[str]) -> str:
        """What follows a sentence about the stop of these processes; mostly nothing."""
        due = [(time, each) for each in ids for time in [self.next_time(each, START)] if time]
        if not due:
            return ""
        if len(due) > 1:
            return "; cron starts %d of them again" % len(due)
        return "; cron starts %s again at %s" % (due[0][1], self._spell(due[0][0]))

    def _keep(self, timers: Dict[Tuple[str, str], Timer], name: str, kind: str, text: str) -> None:
        timer = self._timers.get((name, kind))
        if timer is None or timer.text != text:
            try:
                timer = Timer(text, self._wall(), self._zone)
            except CronError as error:
                # With a `?` it depends on the day.
                self._log.warning("scheduler", "%s: no %s by cron: %s" % (name, kind, error))
                return
            if timer.due is not None:
                self._log.info("scheduler", "%s: next %s at %s" % (
                    name, kind, self._spell(timer.due)))
        timers[name, kind] = timer

    def _spell(self, moment: float) -> str:
        return local_time(moment, self._wall(), self._zone)

    # The main loop, in its own greenlet

    def _main_loop(self) -> None:
        while not self._closed:
            try:
                self._changed.clear()
                self._look()
                self.looks += 1
                self._changed.wait(self._until_next())
            except MemoryError:
                pause(_SHORTAGE_DELAY)

    def _until_next(self) -> Optional[float]:
        """Seconds until it is to look again; None: not by itself."""
        due = [timer.due for timer in self._timers.values() if timer.due is not None]
        if not due:
            return None
        return max(0.001, min(self._every, min(due) - self._wall()))

    def _look(self) -> None:
        """Do what is due. Where memory is short, it is due again."""
        for process_id in in_slices(list(dict.fromkeys(name for name, _ in self._timers))):
            try:
                self._look_at(process_id, self._wall())
            except MemoryError:
                raise
            except Exception as error:
                self._log.error("scheduler", "%s: this met a bug: %r" % (process_id, error))
                pause(_SHORTAGE_DELAY)

    def _look_at(self, process_id: str, now: float) -> None:
        start, stop = (self._timers.get((process_id, kind)) for kind in (START, STOP))
        due = _Due(start if start is not None and start.is_due(now) else None,
                   stop if stop is not None and stop.is_due(now) else None)
        process = self._supervisor.processes.get(process_id)
        if process is not None and not self._closed:
            self._act(process, due, now)
        for timer in due:
            if timer is not None:
                timer.advance(now)

    def _act(self, process: Process, due: _Due, now: float) -> None:
        start, stop = due
        # Of what has been missed, each several times perhaps, the last counts. Where that is a
        # start, what runs is older than a stop.
        if start and stop and start.last_missed(now) < stop.last_missed(now):
            start = None
        if start is not None:
            self._tell_late(process, START, start, now)
            self._start(process.id, process.overrun or stop is not None)
        elif stop is not None:
            self._tell_late(process, STOP, stop, now)
            self._stop(process)

    def _tell_late(self, process: Process, kind: str, timer: Timer, now: float) -> None:
        if timer.due is not None and now - timer.due > _LATE:
            text = "%s: the %s of %s is late: the clock was set, or the machine has slept"
            self._log.info("scheduler", text % (process.id, kind, self._spell(timer.due)))

    # Starts

    def _start(self, process_id: str, anew: bool) -> None:
        if self._is_under_way(process_id, RESTART):
            self._log.debug("scheduler", "%s: a start is left out for a restart" % process_id)
        elif self._locks.holder(process_id) is None:
            self._start_now(process_id, anew)
        else:
            self._begin(process_id, START, self._start_later, anew)

    def _start_later(self, process_id: str, anew: bool) -> None:
        other = self._locks.holder(process_id)
        while other is not None:
            other.over.wait()
            other = self._locks.holder(process_id)
        if not self._closed:
            self._start_now(process_id, anew)

    def _start_now(self, process_id: str, anew: bool) -> None:
        """Nobody changes the process."""
        alive = []
        for instance in self._supervisor.instances_of(process_id):
            if instance.state in ALIVE:
                alive.append(instance)
            else:
                instance.start()
        if alive and anew:
            self._begin(process_id, RESTART, self._restart)
        elif alive:
            for instance in alive:
                self._leave_out(instance)

    def _leave_out(self, instance: Instance) -> None:
        log = InstanceLog(self._log, Source(instance.process_id, instance.name))
        text = "still %s: a start by cron is left out" % instance.state
        if self._told.get(instance.name) == instance.attempts:
            log.debug(text)
            return
        self._told[instance.name] = instance.attempts
        log.info(text)

    # Stops and restarts, which take their time

    def _stop(self, process: Process) -> None:
        if process.starts_again:
            self._begin(process.id, RESTART, self._restart)
        else:
            self._begin(process.id, STOP, self._stop_for_good)

    def _begin(
        self, process_id: str, kind: str, function: Callable[..., None], *more: object
    ) -> None:
        """Do it beside the main loop, unless the one of before is still under way."""
        if self._is_under_way(process_id, kind):
            self._log.debug("scheduler", "%s: the %s of before is under way" % (process_id, kind))
            return
        self._tasks[process_id, kind] = Task(self._until_done, function, process_id, *more)

    def _is_under_way(self, process_id: str, kind: str) -> bool:
        task = self._tasks.get((process_id, kind))
        return task is not None and not task.ready()

    def _until_done(self, function: Callable[..., None], process_id: str, *more: object) -> None:
        while not self._closed:
            try:
                function(process_id, *more)
                return
            except Busy as error:
                error.wait()
            except PupgeventError as error:
                self._log.error("scheduler", "%s: %s" % (process_id, error))
                return
            except MemoryError:
                pause(_SHORTAGE_DELAY)

    def _stop_for_good(self, process_id: str) -> None:
        """As an operator's stop, it wins over a start or restart under way."""
        names = [each.name for each in self._supervisor.instances_of(process_id)
                 if each.wanted or each.returning]
        if names:
            self._log.info("scheduler", "%s: its time is over" % process_id)
            with self._locks.hold([process_id], "a stop", stops=names):
                self._supervisor.stop(names)

    def _restart(self, process_id: str) -> None:
        """Those that run, one after the other."""
        with self._locks.hold([process_id], "a restart", yields=True) as change:
            chosen: List[Instance] = [
                each for each in self._supervisor.instances_of(process_id) if each.wanted]
            for failure in roll(self._supervisor, list(map(restart_step, chosen)), change):
                self._log.error("scheduler", failure)
