"""One run of one instance, from the look at its port until its process group is empty.

A run takes place in the greenlet of its instance and reads from top to bottom: start, become
ready, serve, stop, reap. Whatever may cut a step short (the child's death, an order to end, an
order to kill) notifies one condition, and each wait of a run is a wait for that condition.
"""

import functools
import signal
from typing import Callable, Optional, TypeVar

import gevent

import ports
from accounts import OWN_ACCOUNT, find_account
from child import (
    Child,
    SpawnSpec,
    StartError,
    command,
    describe_exit,
    environment,
)
from child_io import ChildIO
from child_setup import Attributes
from concurrency import Condition, growing_pauses
from context import Context
from errors import PupgeventError, ShortageError
from health_record import HealthRecord
from health_watch import Checks, HealthWatch
from instance_history import EXIT, HEALTH, SHORTAGE, SIGNAL, START, TIMEOUT
from lifecycle import READY, STOP
from logs import InstanceLog
from model import InstanceSpec, Process, variables_of
from owners import RunOwner
from port_ownership import PortOwnership, expected_listener
from rotation import Draining, Registration, Rotation
from signal_names import signal_name
from sinks import Source

T = TypeVar("T")

#: Seconds between two looks at a port that does not accept yet, or at a group that still lives:
#: the first, and the longest.
_FIRST_LOOK, _LONGEST_LOOK = 0.01, 0.1

#: Seconds that a look-up in the user database or in /proc may take.
_LOOK_UP = 10.0

#: Seconds after which a child that outlives SIGKILL is worth a line.
_UNKILLABLE = 10.0


class ProcessRun:
    """One child, or the failure to start one. `run` it once; it then tells how it went."""

    def __init__(
        self, process: Process, spec: InstanceSpec, context: Context, rotation: Rotation,
        condition: Condition, owner: RunOwner, health: HealthRecord,
    ) -> None:
        #: May be exchanged while the child lives, for values that start the same child.
        self.process = process
        self._spec = spec
        self._context = context
        self._log = InstanceLog(context.log, Source(process.id, spec.name))
        self._condition = condition
        self._owner = owner
        self._registration = Registration(rotation, spec, condition)
        self._child_io: Optional[ChildIO] = None
        self._child: Optional[Child] = None
        self._ownership: Optional[PortOwnership] = None
        self._health_watch = HealthWatch(
            spec, health, self._registration, condition, self._log, owner, self._is_cut_short)
        self._killing = False
        self.started_at: Optional[float] = None
        self.ready_at: Optional[float] = None
        self.ended_at: Optional[float] = None
        #: True once it was ordered to end, whatever its child does.
        self.ending = False
        #: Why it failed, where the exit code does not say: "port 8000 does not accept after 30 s".
        self.failure: Optional[str] = None
        #: What it waits for while it drains.
        self.draining: Optional[Draining] = None
        #: Why its child is to be replaced by another one, where it is.
        self.recycled: Optional[str] = None
        #: What that is about, as instance_history.py names it.
        self._recycled_for = ""
        #: True: it failed to start for lack of processes, threads or memory.
        self.shortage = False
        self._timed_out = False

    @property
    def pid(self) -> Optional[int]:
        """Of the child while it lives."""
        return None if self._child is None or self._child.exited else self._child.pid

    @property
    def returncode(self) -> Optional[int]:
        """Of the child that has ended: exit code, or minus the signal's number."""
        return None if self._child is None else self._child.returncode

    @property
    def last_line(self) -> str:
        """What its child has said last; empty if nothing."""
        return "" if self._child_io is None else self._child_io.last_line

    @property
    def lasted(self) -> float:
        """Seconds between being ready and the end; 0 if it was never ready."""
        if self.ready_at is None or self.ended_at is None:
            return 0.0
        return self.ended_at - self.ready_at

    @property
    def cause(self) -> str:
        """Why it has ended, as instance_history.py names it."""
        if self.shortage:
            return SHORTAGE
        if self.recycled is not None:
            return self._recycled_for
        if self.failure is not None:
            return START
        if self._timed_out:
            return TIMEOUT
        return SIGNAL if (self.returncode or 0) < 0 else EXIT

    def end(self) -> None:
        """Order it to stop: out of rotation, drain, stop signal, SIGKILL."""
        self.ending = True
        self._condition.notify()

    def recycle(self, reason: str, cause: str) -> None:
        """Order it to stop, as `end` does, since its child is to be replaced."""
        self.recycled, self._recycled_for = reason, cause
        if cause == HEALTH:
            self.failure = reason
        self._condition.notify()

    def kill(self) -> None:
        """SIGKILL to its process group, now, whatever step the run is at."""
        self.ending = self._killing = True
        if self._child is not None:
            self._child.signal(signal.SIGKILL)
        self._condition.notify()

    def signal(self, number: int) -> bool:
        """Signal the process group of its child, now. False: no child lives. PermissionError."""
        return self._child is not None and not self._child.exited and self._child.deliver(number)

    def intruder(self) -> str:
        """Who else accepts on the port of its child, where that is known; blocks for a look."""
        return "" if self._ownership is None else self._ownership.intruder()

    def run(self) -> None:
        """Start the child, see it through to its end, and reap it. Blocks for all of that."""
        try:
            try:
                child = self._start()
            except PupgeventError as error:
                self.failure = str(error)
                self.shortage = isinstance(error, ShortageError)
                return
            self._serve(child)
            if self.ready_at is None and not self.ending:
                self._explain_exit(child)
        finally:
            if self._child is not None:
                self._reap(self._child)

    def _serve(self, child: Child) -> None:
        if self._becomes_ready(child):
            self.ready_at = self._now()
            self._registration.enter()
            self._owner.on_move(READY)
            if self._spec.port is not None:
                self._log.info("accepts on port %d" % self._spec.port)
            self._wait_for_end()
        if child.exited and not self.ending:
            return
        # It was ordered to end, is to be replaced, or has reached its time limit.
        if not self.ending:
            self._timed_out = self.recycled is None
            self._log.warning("%s, stopping it" % (
                self.recycled or "runs longer than %g s" % (self.process.timeout or 0)))
        self._owner.on_move(STOP)
        self._stop(child)

    def _wait_for_end(self) -> None:
        """Block until the run is cut short or its time limit is over; watch its port meanwhile."""
        if self._ownership is None:
            self._wait_until_cut_short()
            return
        self._context.ownership_watch.start(self._ownership, self._on_intruder)
        try:
            self._wait_until_cut_short()
        finally:
            self._context.ownership_watch.stop(self._ownership)
            self._health_watch.stop()

    def _wait_until_cut_short(self) -> None:
        """The time limit, and how its health is checked, may change meanwhile."""
        while not self._is_cut_short() and self.recycled is None:
            self._health_watch.follow(self._checks)
            is_due = functools.partial(self._is_cut_short_or_changed, self.process)
            if not self._condition.wait_for(is_due, self._deadline()):
                return

    def _is_cut_short_or_changed(self, process: Process) -> bool:
        return (
            self._is_cut_short() or self.recycled is not None or self.process is not process)

    # Start

    def _start(self) -> Child:
        process = self.process
        self._check_port()
        account = OWN_ACCOUNT
        if process.user is not None or process.group is not None:
            account = self._look_up(find_account, process.user, process.group)
        variables = environment(
            dict(account.variables, **variables_of(process, self._spec)), process.path)
        spawn_spec = SpawnSpec(
            command(process.cmd, variables), process.cwd, variables,
            Attributes(account.identity, process.umask, process.nice, process.limits))
        with self._context.fork_gate.turn():
            if self.ending:
                raise StartError("stopped before it was started")
            child = self._child = self._context.spawner.spawn(spawn_spec)
        self.started_at = self._now()
        child.on_exit(self._on_exit)
        self._child_io = ChildIO(process, self._spec, child, self._context, self._log)
        expected = expected_listener(process, self._spec, child.pid)
        if expected is not None:
            self._ownership = PortOwnership(expected, self._context.threads, self._log)
        self._log.info("started, pid %d" % child.pid)
        self._child_io.write_pid_file()
        return child

    def _check_port(self) -> None:
        spec = self._spec
        if spec.port is not None and ports.is_taken(spec.host, spec.port):
            owner = self._look_up(ports.owner, spec.host, spec.port)
            if owner is not None:
                raise StartError("port %d is taken by %s" % (spec.port, owner))

    def _look_up(self, find: Callable[..., T], *arguments: object) -> T:
        """Ask the user database or /proc in a thread, since they may be slow. StartError."""
        with gevent.Timeout(_LOOK_UP, StartError("the system does not answer a look-up")):
            return self._context.threads.call(find, *arguments)

    # Readiness

    def _becomes_ready(self, child: Child) -> bool:
        """False: it was cut short, or it was not ready in time and is dead."""
        ownership = self._ownership
        if ownership is None:
            return self._lives_long_enough(child)
        began, pauses = self._now(), growing_pauses(_FIRST_LOOK, _LONGEST_LOOK, 1.5)
        while not self._is_cut_short() and not self._is_overdue():
            left = began + self._ready_timeout - self._now()
            if (self._accepts(ownership) and self._health_watch.first_pass(self._checks, left)
                    and not child.is_dead()):
                return not self.ending
            waited = self._now() - began
            if waited >= self._ready_timeout:
                self._fail_to_start(ownership, child)
                return False
            ownership.search(waited)
            self._condition.wait_for(self._is_cut_short, self._now() + next(pauses))
        return False

    def _lives_long_enough(self, child: Child) -> bool:
        """Without a port, living for `minUptimeMs` is all that tells that it works. The value may
        change meanwhile."""
        while not self._is_cut_short():
            due, deadline = (self.started_at or 0.0) + self.process.min_uptime, self._deadline()
            if self._now() >= due and not child.is_dead():
                return True
            if child.is_dead():
                # Its exit is about to be told by the loop.
                self._condition.wait_for(self._is_cut_short)
            elif self._is_overdue():
                break
            is_due = functools.partial(self._is_cut_short_or_changed, self.process)
            self._condition.wait_for(is_due, due if deadline is None else min(due, deadline))
        return False

    @property
    def _ready_timeout(self) -> float:
        """Seconds; an instance without a cluster has no port that it could be late for."""
        cluster = self.process.cluster
        return 0.0 if cluster is None else cluster.ready_timeout

    @property
    def _checks(self) -> Optional[Checks]:
        """None: its health is not checked."""
        cluster = self.process.cluster
        if cluster is None or cluster.health is None:
            return None
        return Checks(cluster.health, cluster.proxy_protocol)

    def _accepts(self, ownership: PortOwnership) -> bool:
        """Whoever accepts while the child is dead is not the child: that is to be asked after
        this, since this look takes its time."""
        return ports.accepts(self._spec.host, ownership.port) and ownership.accepts_alone()

    def _fail_to_start(self, ownership: PortOwnership, child: Child) -> None:
        unhealthy = self._health_watch.last_failure
        self.failure = ("%s after %g s" % (unhealthy, self._ready_timeout) if unhealthy
                        else ownership.failure(self._ready_timeout))
        child.signal(signal.SIGKILL)
        self._await_exit(child)

    def _explain_exit(self, child: Child) -> None:
        """Why a child that was never ready has failed, where that is more than its exit code.

        A server whose port was taken by somebody else says so in its own words, if at all. And a
        server that has never accepted has not done its work, also where its exit code is 0.
        """
        if self.failure is not None or self._ownership is None:
            return
        if self._ownership.last_intruder:
            self.failure = "%s, port %d is taken by %s" % (
                describe_exit(child.returncode or 0), self._ownership.port,
                self._ownership.last_intruder)
        elif child.returncode == 0:
            self.failure = "exit code 0 before %s" % (
                "it passed a health check" if self._health_watch.last_failure
                else "port %d accepted" % self._ownership.port)

    def _on_intruder(self) -> None:
        if self._ownership is not None:
            self._registration.suspect("port %d is taken by %s" % (
                self._ownership.port, self._ownership.last_intruder))

    def _is_cut_short(self) -> bool:
        return self.ending or self._child is None or self._child.exited

    def _deadline(self) -> Optional[float]:
        if self.process.timeout is None or self.started_at is None:
            return None
        return self.started_at + float(self.process.timeout)

    def _is_overdue(self) -> bool:
        deadline = self._deadline()
        return deadline is not None and self._now() >= deadline

    def _on_exit(self) -> None:
        """Called in the hub, so that no client is sent to a dead instance, however busy the
        greenlets are."""
        try:
            self._registration.leave()
        finally:
            self._condition.notify()

    # Stop

    def _stop(self, child: Child) -> None:
        grace, checks = self.process.terminate_grace_period, self._checks
        if self._recycled_for == HEALTH and checks and self._health_watch.record.is_silent:
            # Who hangs answers nobody: a check has just shown for how long that is waited for.
            grace = min(grace, checks.health.timeout)
        self._registration.drain(
            grace, lambda: child.exited or self._killing, self._tell_drain)
        self.draining = None
        if not child.exited and not self._killing:
            self._ask_to_stop(child)
        if not child.exited:
            child.signal(signal.SIGKILL)
            self._await_exit(child)

    def _tell_drain(self, draining: Draining) -> None:
        if self.draining is None:
            self._log.info(str(draining))
        self.draining = draining
        self._owner.on_news()

    def _ask_to_stop(self, child: Child) -> None:
        number, timeout = self.process.stop_signal, self.process.terminate_timeout
        child.signal(number)
        # A suspended program could not act on it; systemd.kill(5) does the same.
        child.signal(signal.SIGCONT)
        if not self._group_ends_before(self._now() + timeout, child):
            self._log.warning("still there %g s after %s, killing it" % (
                timeout, signal_name(number)))

    def _group_ends_before(self, deadline: float, child: Child) -> bool:
        """Wait for the whole group: a shell dies of the signal at once, while the server that it
        has started may still finish its work."""
        if not self._condition.wait_for(lambda: child.exited or self._killing, deadline):
            return False
        pauses = growing_pauses(_FIRST_LOOK, _LONGEST_LOOK, 1.5)
        while not self._killing and child.group_lives():
            if self._now() >= deadline:
                return False
            look = min(deadline, self._now() + next(pauses))
            self._condition.wait_for(lambda: self._killing, look)
        return True

    def _await_exit(self, child: Child) -> None:
        """Block until a child that got SIGKILL is gone."""
        if not self._condition.wait_for(lambda: child.exited, self._now() + _UNKILLABLE):
            self._log.error("pid %d survives SIGKILL: the kernel holds it" % child.pid)
            self._condition.wait_for(lambda: child.exited)

    # End

    def _reap(self, child: Child) -> None:
        self.ended_at = self._now()
        try:
            self._registration.leave()
        finally:
            self._context.spawner.reap(child)
        if self._child_io is not None:
            self._child_io.clear()

    def _now(self) -> float:
        return self._context.clock()
