"""`onFailure`: the command that is run when an instance is given up."""

import signal
from typing import Dict, Set

import gevent
from gevent.event import Event

from accounts import OWN_ACCOUNT, find_account
from child import Child, SpawnSpec, command, describe_exit, environment
from child_io import ChildIO
from child_setup import Attributes
from concurrency import Task
from context import Context
from errors import PupgeventError
from instance import Instance
from logs import InstanceLog
from model import InstanceSpec, Process, variables_of
from sinks import Source

#: Seconds that such a command may take, and those that it still has when everything stops.
LONGEST, LAST_CHANCE = 60.0, 10.0

#: Seconds that the user database may take.
_LOOK_UP = 10.0


class FailureHooks:
    """Runs these commands, each in a task of its own. What one prints are lines of its instance."""

    def __init__(self, context: Context, longest: float = LONGEST) -> None:
        self._context = context
        self._longest = longest
        self._running: Set[Task] = set()

    def run(self, instance: Instance) -> None:
        """Run the command of an instance that was given up, if it has one; does not wait for it."""
        if instance.process.on_failure is None:
            return
        variables = {
            "PUP_INSTANCE": instance.name, "PUP_STATE": instance.state,
            "PUP_REASON": instance.last_exit or "",
        }  # fmt: skip
        task = Task(self._run, instance.process, instance.spec, variables)
        self._running.add(task)
        task.rawlink(self._running.discard)

    def close(self) -> None:
        """Wait for those that run, then end those that are left; blocks for seconds at most."""
        deadline = self._context.clock() + LAST_CHANCE
        for task in list(self._running):
            task.wait(max(0.0, deadline - self._context.clock()))
        self.kill()
        for task in list(self._running):
            task.wait(_LOOK_UP)

    def kill(self) -> None:
        """End those that run. Idempotent."""
        for task in list(self._running):
            task.kill()

    def _run(self, process: Process, spec: InstanceSpec, variables: Dict[str, str]) -> None:
        log = InstanceLog(self._context.log, Source(process.id, spec.name))
        try:
            code = self._run_child(process, spec, variables, log)
        except PupgeventError as error:
            log.error("onFailure: %s" % error)
        except MemoryError:
            log.error("onFailure: out of memory")
        else:
            if code:
                log.error("onFailure: %s" % describe_exit(code))

    def _run_child(
        self, process: Process, spec: InstanceSpec, variables: Dict[str, str], log: InstanceLog
    ) -> int:
        """Its exit code, or minus a signal's number; raises PupgeventError."""
        child = self._start(process, spec, variables)
        ended = Event()
        # No pid file: that is the one of the instance.
        child_io = ChildIO(process._replace(pid_file=None), spec, child, self._context, log)
        try:
            child.on_exit(ended.set)
            if not ended.wait(self._longest):
                log.error("onFailure: still there after %g s, killing it" % self._longest)
                child.signal(signal.SIGKILL)
                ended.wait(_LOOK_UP)
        finally:
            self._context.spawner.reap(child)
            child_io.clear()
        return child.returncode or 0

    def _start(self, process: Process, spec: InstanceSpec, variables: Dict[str, str]) -> Child:
        account = OWN_ACCOUNT
        if process.user is not None or process.group is not None:
            with gevent.Timeout(_LOOK_UP, PupgeventError("the system does not answer a look-up")):
                account = self._context.threads.call(find_account, process.user, process.group)
        env = environment(
            dict(account.variables, **dict(variables_of(process, spec), **variables)),
            process.path)
        with self._context.fork_gate.turn():
            return self._context.spawner.spawn(SpawnSpec(
                command(process.on_failure or "", env), process.cwd, env,
                Attributes(account.identity, process.umask, process.nice, process.limits)))
