"""All instances: found by name, started and stopped side by side.

Below it, in the order of a walk from a start to an exit: `Instance.start` wakes the main loop of an
instance, which makes a `ProcessRun`, which has a `Spawner` fork the child and waits for its exit.
Back up go `RunOwner` (the run tells its instance), `Instance`'s `on_change` (the instance tells the
supervisor) and `SupervisorOwner` (the supervisor tells the runtime).
"""

import time
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from child import Spawner, adopt_orphans, close_on_exec
from concurrency import ForkGate, Threads, TokenBucket, in_slices
from context import Context
from errors import PupgeventError
from failure_hooks import FailureHooks
from guardian import Guardian
from instance import Instance
from lifecycle import GIVEN_UP, RUNNING, SETTLED, STARTING, STOPPING
from logs import LineWriter, Log
from memory_watch import LOOK_EVERY, MemoryWatch
from model import InstanceSpec, Process, instance_specs
from owners import InstanceOwner
from pid_files import FileQueue
from port_ownership import OwnershipWatch
from rotation import Rotation
from sockets import Limits
from start_order import Blocker, blocker, in_starting_order, stop_waves


class Failure(NamedTuple):
    """An instance that did not come up."""

    name: str
    state: str
    #: What follows, and what it has said last: see `Instance.failure`.
    reason: str

    def __str__(self) -> str:
        return "%s did not come up: %s" % (self.name, self.reason)


class SupervisorOwner:
    """Whom a supervisor asks what its instances need, and tells what happens to them.

    `on_change` and `on_essential` are called in the greenlet of the instance, and must not block.
    """

    def rotation_for(self, process: Process) -> Rotation:
        """What the instances of a process tell when they are up; asked before it has instances."""
        return Rotation()

    def writers_for(self, process: Process, spec: InstanceSpec) -> Tuple[LineWriter, LineWriter]:
        """Where a child of that instance prints: (stdout, stderr)."""
        raise NotImplementedError

    def on_change(self, instance: Instance) -> None:
        """Its state has changed, or what its stop waits for."""

    def on_essential(self, instance: Instance) -> None:
        """An instance of an essential process is given up for good."""


class Supervisor(InstanceOwner):
    """Holds the instances of all processes, in the order of the configuration.

    `limits` are those of the children's descriptors, None: pupgevent's own; `look_every` is seconds
    between two looks at the memory of the instances.
    """

    def __init__(
        self, processes: Iterable[Process], log: Log, owner: SupervisorOwner, *,
        clock: Callable[[], float] = time.monotonic, limits: Optional[Limits] = None,
        look_every: float = LOOK_EVERY,
    ) -> None:
        self.guardian = Guardian(log)
        self._owner = owner
        threads = Threads(4)
        self._context = Context(
            log=log,
            spawner=Spawner(self.guardian, limits),
            writers_for=owner.writers_for,
            threads=threads,
            bucket=TokenBucket(),
            ownership_watch=OwnershipWatch(threads, log),
            fork_gate=ForkGate(),
            clock=clock,
            pid_files=FileQueue(threads),
        )
        self._hooks = FailureHooks(self._context)
        self._closing = False
        #: Those that wait for others before they are started.
        self._waiting: Set[Instance] = set()
        self._rotations: Dict[str, Rotation] = {}
        #: By id.
        self.processes: Dict[str, Process] = {}
        #: By name.
        self.instances: Dict[str, Instance] = {}
        #: By id of the process, then by name: looking through all instances would take too long.
        self._members: Dict[str, Dict[str, Instance]] = {}
        self._memory_watch = MemoryWatch(
            self.instances.values, self.may_replace, threads, log, look_every)
        for process in processes:
            self.add_process(process)

    # All instances

    def startup(self) -> None:
        """Start the guardian, then each instance with `autostart`, without waiting for these."""
        close_on_exec()
        adopt_orphans()
        self.guardian.start()
        self._memory_watch.start()
        for instance in in_slices(in_starting_order(self.instances.values(), _process_of)):
            if instance.process.autostart and not self._closing:
                instance.start()

    def shutdown(self) -> None:
        """Stop all instances side by side, then the guardian; blocks until nothing lives."""
        self._closing = True
        self._memory_watch.stop()
        self.stop(list(self.instances))
        self._hooks.close()
        self.guardian.close()

    def kill(self) -> None:
        """SIGKILL to all process groups, and no start any more. `shutdown` waits for their end."""
        self._closing = True
        self._hooks.kill()
        for instance in self.instances.values():
            instance.kill()

    # Some instances, by name; PupgeventError for a name that no instance has

    def start(self, names: Iterable[str], in_order: bool = True) -> List[Failure]:
        """Start them side by side, or `in_order` after those that their `startAfter` names; blocks
        until each runs or has failed. Returns the failures."""
        instances, attempts = self._find(names), {}
        for instance in in_slices(in_starting_order(instances, _process_of)):
            self._refuse_when_closing()
            attempts[instance.name] = instance.start(in_order)
        return [_failure(instance) for instance in instances
                if not instance.came_up(attempts[instance.name])]

    def stop(self, names: Iterable[str]) -> None:
        """Stop them side by side, but for those that others of them start after: these stop when
        the others have. Blocks until all have stopped."""
        for wave in stop_waves(self._find(names), _process_of):
            for instance in in_slices(wave):
                instance.stop()
            for instance in wave:
                instance.wait_settled()

    def wait_known(self, name: str) -> None:
        """Until whoever sends clients to an instance that is up knows that it is. Blocks."""
        instance = self._find([name])[0]
        cluster = instance.process.cluster
        if instance.state == RUNNING and cluster is not None:
            checks = 1 if cluster.health is None else cluster.health.rise
            self._rotations[instance.process_id].wait_known(name, checks)

    def instances_of(self, process_id: str) -> List[Instance]:
        """In the order of their numbers."""
        return list(self._members.get(process_id, {}).values())

    def _find(self, names: Iterable[str]) -> List[Instance]:
        try:
            return [self.instances[name] for name in names]
        except KeyError as error:
            raise PupgeventError('there is no instance "%s"' % error.args[0]) from None

    # Adding and removing instances; rollout.py does it while they serve

    def add_process(self, process: Process) -> List[Instance]:
        """Make the instances of a process; starts none."""
        self.know(process)
        return [self.add(process, spec) for spec in instance_specs(process)]

    def know(self, process: Process) -> None:
        """Add a process without instances."""
        self.processes[process.id] = process
        self._rotations[process.id] = self._owner.rotation_for(process)

    def remove_process(self, process_id: str) -> None:
        """Stop its instances side by side, and forget them; blocks until that is done."""
        self._remove(self.instances_of(process_id))
        self._members.pop(process_id, None)
        del self.processes[process_id], self._rotations[process_id]

    def add(self, process: Process, spec: InstanceSpec) -> Instance:
        """One more instance of a process that is there; it is not started."""
        if spec.name in self.instances:
            raise ValueError("%s is there already" % spec.name)
        rotation = self._rotations[process.id]
        instance = Instance(process, spec, self._context, rotation, owner=self)
        self.instances[spec.name] = instance
        self._members.setdefault(process.id, {})[spec.name] = instance
        return instance

    def remove(self, instances: Iterable[Instance]) -> None:
        """Stop these side by side, and forget them; blocks until that is done."""
        self._remove(list(instances))

    def _remove(self, instances: List[Instance]) -> None:
        self.stop([each.name for each in instances])
        for instance in in_slices(instances):
            instance.close()
            self._rotations[instance.process_id].remove(instance.name)
            del self.instances[instance.name]
            del self._members[instance.process_id][instance.name]

    # What the instances tell and ask, as InstanceOwner

    def on_change(self, instance: Instance) -> None:
        (self._waiting.add if instance.blockers else self._waiting.discard)(instance)
        for each in list(self._waiting):
            if instance.process_id in each.process.start_after:
                each.look_again()
        try:
            self._owner.on_change(instance)
        except MemoryError:
            pass  # the next change is told again
        # An instance that was given up and waits for its next start has told it before.
        if instance.state in GIVEN_UP and not instance.wanted:
            self._give_up(instance)

    def _give_up(self, instance: Instance) -> None:
        try:
            self._hooks.run(instance)
        finally:
            if instance.process.essential and not instance.process.cron:
                self._owner.on_essential(instance)

    def blockers_of(self, process: Process) -> List[Blocker]:
        found = []
        for process_id in process.start_after:
            members = self.instances_of(process_id)
            found.append(blocker(
                process_id, list(map(_next_state, members)),
                waits=any(each.blockers for each in members),
                stuck=any(each.stuck for each in members)))
        return [each for each in found if each is not None]

    def may_replace(self, instance: Instance) -> bool:
        others = (each for each in self.instances_of(instance.process_id) if each is not instance)
        return not any(each.recycling or each.state in (STARTING, STOPPING) for each in others)

    def _refuse_when_closing(self) -> None:
        if self._closing:
            raise PupgeventError("pupgevent is stopping")


def _next_state(instance: Instance) -> str:
    """Of one that has been ordered to start, and whose main loop has not seen it yet: starting."""
    return STARTING if instance.wanted and instance.state in SETTLED else instance.state


def _process_of(instance: Instance) -> Process:
    return instance.process


def _failure(instance: Instance) -> Failure:
    return Failure(instance.name, instance.state, instance.failure)
