"""One instance: what is asked of it, its runs one after the other, and what follows from each.

An instance is an intention (it should run, or not) and, for some of its time, a run
(process_run.py). `start`, `stop`, `kill` and `replace` only note what is wanted and return; the
main loop in the instance's own greenlet acts on it. lifecycle.py is the table of its states.
"""

import traceback
from typing import List, Optional

import lifecycle
from child import describe_exit
from concurrency import Broadcast, Condition, Task
from context import Context
from health_record import HealthRecord
from instance_history import HEALTH, SHORTAGE, InstanceHistory
from lifecycle import Lifecycle
from logs import InstanceLog
from model import InstanceSpec, Process, same_child
from owners import InstanceOwner, RunOwner
from process_run import ProcessRun
from restart_policy import SHORTAGE_DELAY, RestartPolicy
from rotation import Draining, Rotation
from sinks import Source
from start_order import Blocker

#: Why it does not run, in states whose name does not say it to a user.
_WHY_IT_STANDS = {lifecycle.CREATED: "it was never started", lifecycle.STOPPED: "it was stopped"}


class Instance(RunOwner):
    """One instance; from its first start on its main loop runs in a greenlet of its own."""

    def __init__(
        self, process: Process, spec: InstanceSpec, context: Context, rotation: Rotation,
        owner: InstanceOwner,
    ) -> None:
        self._process = process
        self._spec = spec
        self._next = (process, spec)
        self._context = context
        self._log = InstanceLog(context.log, Source(process.id, spec.name))
        self._rotation = rotation
        self._owner = owner
        self._lifecycle = Lifecycle()
        self._condition = Condition(context.clock)
        self._changed = Broadcast()
        self._run: Optional[ProcessRun] = None
        self._task: Optional[Task] = None
        self._wanted = self._start_now = self._in_order = self._killed = False
        self._restart_policy = RestartPolicy()
        #: True: its last run failed, and it has neither come up nor been started by hand since.
        self.recovering = False
        #: True while a roll-out has stopped it and is about to start it again.
        self.returning = False
        #: True from the order to replace its child until the next one is ready.
        self.recycling = False
        #: What it waits for before it is started.
        self.blockers: List[Blocker] = []
        #: When it came into its state, or began to wait for others, by the supervisor's clock.
        self.since = context.clock()
        #: When it will be started again, by that clock; None outside of `backoff`.
        self.due_at: Optional[float] = None
        #: How often it was started.
        self.attempts = 0
        self.history = InstanceHistory()
        self.health = HealthRecord()
        #: What its last run came to: "exit code 3", "SIGKILL", "port 8000 is taken by ...".
        self.last_exit: Optional[str] = None
        #: What the child of that run has said last.
        self.last_line = ""
        #: What the last run came to, and what follows from it: "exit code 3, restart in 0.5 s".
        self._outcome = ""

    # What it is

    @property
    def spec(self) -> InstanceSpec:
        return self._spec

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def process(self) -> Process:
        return self._process

    @property
    def process_id(self) -> str:
        return str(self._process.id)

    @property
    def index(self) -> int:
        """From 0."""
        return self._spec.number

    @property
    def port(self) -> Optional[int]:
        return self._spec.port

    @property
    def state(self) -> str:
        return self._lifecycle.state

    @property
    def wanted(self) -> bool:
        """Should it run, be it now or after a delay?"""
        return self._wanted

    @property
    def pid(self) -> Optional[int]:
        return None if self._run is None else self._run.pid

    @property
    def draining(self) -> Optional[Draining]:
        """What its stop waits for; None while it does not wait for connections."""
        return None if self._run is None else self._run.draining

    @property
    def started_at(self) -> Optional[float]:
        """When its child was started, by the supervisor's clock; None while there is none."""
        return None if self._run is None else self._run.started_at

    @property
    def uptime(self) -> Optional[float]:
        """Seconds since then."""
        return None if self.started_at is None else self._context.clock() - self.started_at

    @property
    def restarts(self) -> int:
        """How often it was started after a run that had ended by itself."""
        return sum(self.history.restarts.values())

    @property
    def outcome(self) -> str:
        """Why it does not run, and what comes next, as a message says it: "exit code 3, given up
        after 4 failures in a row"."""
        if self.blockers:
            return "it waits for %s" % " and ".join(map(str, self.blockers))
        if self.state in lifecycle.ENDED:
            return self._outcome
        if self.state == lifecycle.STARTING and self.last_exit is not None:
            return "%s, it is started again" % self.last_exit
        return _WHY_IT_STANDS.get(self.state, "it is %s" % self.state)

    @property
    def failure(self) -> str:
        """The outcome, with the last line of its child, which often says why: "exit code 1, restart
        in 0.5 s (last line: "KeyError: 'DATABASE_URL'")"."""
        if self.last_line and self.state in lifecycle.FAILED | {lifecycle.STARTING}:
            return '%s (last line: "%s")' % (self.outcome, self.last_line)
        return self.outcome

    def intruder(self) -> str:
        """Who else accepts on its port, where that is known; else empty. Blocks the calling
        greenlet for a look into /proc."""
        return "" if self._run is None else self._run.intruder()

    # What is asked of it; these return at once

    @property
    def stuck(self) -> bool:
        """Does it wait for somebody who is not about to come up?"""
        return any(not each.hopeful for each in self.blockers)

    def start(self, in_order: bool = True) -> int:
        """Order it to run; `in_order`: once those are up that its `startAfter` names. Returns the
        number of the attempt that this leads to, for `came_up`."""
        if self._wanted and self.state in (lifecycle.STARTING, lifecycle.RUNNING):
            return self.attempts
        if self._killed:
            return self.attempts + 1
        self._wanted = self._start_now = True
        self._in_order = in_order
        self.recovering = self.recycling = False
        self._restart_policy.forget()
        if self._task is None:
            self._task = Task(self._main_loop)
        self._wake()
        return self.attempts + 1

    def stop(self) -> None:
        """Order it to stop; whatever its child does meanwhile, it ends in `stopped`."""
        self._wanted = self.recycling = False
        if self._run is not None:
            self._run.end()
        elif self.state in lifecycle.SETTLED and self.state != lifecycle.STOPPED:
            self._move(lifecycle.OVER)
        self._wake()

    def kill(self) -> None:
        """Order it to stop, by SIGKILL and for good: no order to start is followed any more."""
        self._killed = True
        self.stop()
        if self._run is not None:
            self._run.kill()

    def recycle(self, reason: str, cause: str) -> None:
        """Order its child to be replaced by another one: it is drained, stopped and started at
        once, whatever `restart` says. Only where it runs."""
        if self._run is not None and self.state == lifecycle.RUNNING and not self.recycling:
            self.recycling = True
            self._run.recycle(reason, cause)

    def replace(self, process: Process, spec: InstanceSpec) -> None:
        """Give it other values. They apply now where they start the same child, else from its next
        start on."""
        self._next = (process, spec)
        if self._run is None:
            self._process, self._spec = process, spec
        elif spec == self._spec and same_child(process, self._process):
            self._process = self._run.process = process
            self._condition.notify()

    def follows(self, process: Process, spec: InstanceSpec) -> bool:
        """Has it these values already, for now and for its next start?"""
        return (self._process, self._spec) == self._next == (process, spec)

    def signal(self, number: int) -> bool:
        """Signal the process group of its child, which is all: what follows is up to the child.
        False: no child lives. Raises PermissionError where all of it has changed its user."""
        return self._run is not None and self._run.signal(number)

    def close(self) -> None:
        """End its main loop: it has settled, and is not needed any more."""
        if self._task is not None:
            self._task.kill(block=False)

    # Waiting for it; these block the calling greenlet

    def wait_settled(self) -> None:
        """Until it has settled, or until somebody else wants it to run again."""
        self._changed.wait_for(lambda: self.state in lifecycle.SETTLED or self._wanted)

    def came_up(self, attempt: int) -> bool:
        """Wait for the result of that attempt. True: it runs, or has finished its work."""
        self._changed.wait_for(lambda: self._is_decided(attempt))
        return not self.blockers and self.state in (lifecycle.RUNNING, lifecycle.FINISHED)

    def _is_decided(self, attempt: int) -> bool:
        if self.attempts < attempt:
            return self.stuck or (not self._wanted and self.state in lifecycle.SETTLED)
        return self.attempts > attempt or self.state not in (lifecycle.STARTING, lifecycle.STOPPING)

    # The main loop, in its own greenlet

    def _main_loop(self) -> None:
        while True:
            try:
                if self.state == lifecycle.BACKOFF and not self._wanted:
                    self._move(lifecycle.OVER)
                self._condition.wait_for(lambda: self._wanted)
                self._condition.wait_for(self._is_its_turn)
                while self._wanted:
                    run = self._new_run()
                    self._run_once(run)
                    self._handle_exit(run)
            except MemoryError:
                self._recover_from_shortage()
            except Exception:
                self._break_down()
                return

    def look_again(self) -> None:
        """Somebody that it waits for may be up by now."""
        self._condition.notify()

    def _is_its_turn(self) -> bool:
        """Is it to start now, or no longer at all?"""
        waits = self._wanted and self._in_order
        found = self._owner.blockers_of(self._next[0]) if waits else []
        if found != self.blockers:
            if not self.blockers:
                self.since = self._context.clock()
            self.blockers = found
            if found:
                self._log.info("waits for %s" % " and ".join(map(str, found)))
            self._changed.notify()
            self._notify_owner()
        return not found

    def _new_run(self) -> ProcessRun:
        self._process, self._spec = self._next
        self._start_now = False
        self.attempts += 1
        run = ProcessRun(
            self._process, self._spec, self._context, self._rotation, self._condition, owner=self,
            health=self.health)
        self._run = run
        self._move(lifecycle.START)
        return run

    def _run_once(self, run: ProcessRun) -> None:
        try:
            run.run()
        finally:
            self._run = None
        self.last_exit = run.failure or describe_exit(run.returncode or 0)
        self.last_line = run.last_line

    def _handle_exit(self, run: ProcessRun) -> None:
        if run.ending:
            if self.state != lifecycle.STOPPING:
                self._move(lifecycle.STOP)
            self._log.info("stopped, %s" % self.last_exit)
            self._move(lifecycle.OVER)
            return
        if run.shortage:
            # It has not failed itself, so it is started again until that succeeds, whatever
            # `restart` says.
            self._back_off(self._restart_policy.delay_of_shortage(), SHORTAGE)
            return
        self._restart_policy.shortages = 0
        if run.cause == HEALTH:
            delay = self._restart_policy.delay_of_unhealthy(self._process, run.lasted)
            self._back_off(delay, HEALTH)
            return
        if run.recycled is not None:
            self._start_again(run)
            return
        verdict = self._restart_policy.verdict(
            self._process, run.returncode, run.lasted, run.failure is not None)
        if verdict == lifecycle.RETRY:
            self._back_off(self._restart_policy.delay(self._process), run.cause)
        else:
            self._settle(verdict)

    def _start_again(self, run: ProcessRun) -> None:
        """After a run that was ended to be replaced, which is no failure."""
        self._outcome = "%s, it is started again" % run.recycled
        self._move(lifecycle.RETRY)
        self.history.restarts[run.cause] += self._wanted

    def _settle(self, verdict: str) -> None:
        reason = self._restart_policy.reason(self._process, verdict)
        self._outcome = "%s, %s" % (self.last_exit, reason)
        if verdict == lifecycle.FINISH:
            self._log.info(reason)
        else:
            self._log.error(self._outcome)
        self._wanted = False
        self._move(verdict)

    def _recover_from_shortage(self) -> None:
        """Memory ran out in the main loop: its child is gone, and is started again."""
        self._run = self.due_at = None
        if self.state in lifecycle.ALIVE:
            self._lifecycle.move(lifecycle.RETRY)
        try:
            self.last_exit, self.last_line = "out of memory", ""
            self._log.warning("out of memory, %s" % self.state)
            self._state_changed()
            due = self._context.clock() + SHORTAGE_DELAY
            self._condition.wait_for(lambda: not self._wanted, due)
            self.history.restarts[SHORTAGE] += self._wanted
        except MemoryError:
            pass  # the main loop goes on from the state that it has now

    def _back_off(self, delay: float, cause: str) -> None:
        self.due_at = self._context.clock() + delay
        when = "at once" if delay < 0.05 else "in %.1f s" % delay
        self._outcome = "%s, restart %s" % (self.last_exit, when)
        self._log.warning(self._outcome)
        self.recovering = True
        self._move(lifecycle.RETRY)
        self._condition.wait_for(lambda: self._start_now or not self._wanted, self.due_at)
        self.due_at = None
        if self._wanted:
            self.history.restarts[cause] += 1
        else:
            self._move(lifecycle.OVER)

    def _break_down(self) -> None:
        """A bug of pupgevent has ended the main loop: log it in full, and give the instance up."""
        for line in traceback.format_exc().splitlines():
            self._log.error(line)
        self._outcome, self.last_line = "a bug of pupgevent has ended it", ""
        self._wanted = False
        self._task = None
        self._lifecycle.break_down()
        self._state_changed()

    def _move(self, event: str) -> None:
        self._lifecycle.move(event)
        if event == lifecycle.READY:
            self.recovering = self.recycling = False
        self._state_changed()

    def _state_changed(self) -> None:
        self.since = self._context.clock()
        self.history.add(self.state, self._what_happened())
        self._wake()
        self._notify_owner()

    def _what_happened(self) -> str:
        """Of a state that it has just come into."""
        if self.state in lifecycle.ENDED:
            return self._outcome
        if self.state == lifecycle.RUNNING:
            return "pid %s" % self.pid
        return (self.last_exit or "") if self.state == lifecycle.STOPPED else ""

    def _notify_owner(self) -> None:
        self._log.debug(self.state)
        self._owner.on_change(self)

    def _wake(self) -> None:
        """Wake whoever waits for it, and its main loop."""
        self._changed.notify()
        self._condition.notify()

    # What its run tells, as its owner

    def on_move(self, event: str) -> None:
        """Its run has become ready, or is to end."""
        self._move(event)

    def on_news(self) -> None:
        self._notify_owner()

    def on_unhealthy(self, reason: str) -> None:
        if self._owner.may_replace(self):
            self.recycle("unhealthy: %s" % reason, HEALTH)
