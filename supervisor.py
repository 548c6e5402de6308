"""The set of all instances: found by name, started and stopped side by side."""

import time
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

from child import Spawner, adopt_orphans, close_on_exec
from concurrency import ForkGate, Threads, TokenBucket, in_slices
from context import Context
from errors import PupgeventError
from guardian import Guardian
from instance import Instance
from lifecycle import GIVEN_UP
from logs import LineWriter, Log
from model import InstanceSpec, Process, instance_specs
from pid_files import FileQueue
from port_ownership import OwnershipWatch
from rotation import Rotation
from sockets import Limits


class Failure(NamedTuple):
    """An instance that did not come up."""

    name: str
    state: str
    #: And what follows: "exit code 1, restart in 0.5 s".
    reason: str

    def __str__(self) -> str:
        return "%s did not come up: %s" % (self.name, self.reason)


class SupervisorOwner:
    """Whom a supervisor asks what its instances need, and tells what happens to them.

    The last two are called in the greenlet of the instance, and must not block.
    """

    def rotation_for(self, process: Process) -> Rotation:
        """What leads to the balancer of a process; asked once, before it has instances."""
        return Rotation()

    def writers_for(self, process: Process, spec: InstanceSpec) -> Tuple[LineWriter, LineWriter]:
        """Where a child of that instance prints to: (stdout, stderr)."""
        raise NotImplementedError

    def on_change(self, instance: Instance) -> None:
        """Its state is another, or what its stop waits for."""

    def on_essential(self, instance: Instance) -> None:
        """It is of an essential process, and is given up for good."""


class Supervisor:
    """Holds the instances of all processes, in the order of the configuration.

    `limits` are those of the children's descriptors, None: pupgevent's own.
    """

    def __init__(
        self, processes: Iterable[Process], log: Log, owner: SupervisorOwner, *,
        clock: Callable[[], float] = time.monotonic, limits: Optional[Limits] = None,
    ) -> None:
        self.guardian = Guardian(log)
        self._owner = owner
        threads = Threads(4)
        self._context = Context(
            log, Spawner(self.guardian, limits), owner.writers_for, threads,
            TokenBucket(),
            OwnershipWatch(threads, log), ForkGate(), clock,
            FileQueue(threads),
        )
        self._closing = False
        self._rotations: Dict[str, Rotation] = {}
        #: By id.
        self.processes: Dict[str, Process] = {}
        #: By name.
        self.instances: Dict[str, Instance] = {}
        #: The same by process: to look through all for each process would take too long.
        self._members: Dict[str, Dict[str, Instance]] = {}
        for process in processes:
            self.add_process(process)

    # All of them

    def startup(self) -> None:
        """Start the guardian, then all that has `autostart`; does not wait for these."""
        close_on_exec()
        adopt_orphans()
        self.guardian.start()
        for instance in in_slices(list(self.instances.values())):
            if instance.process.autostart and not self._closing:
                instance.start()

    def shutdown(self) -> None:
        """Stop all side by side, and the guardian; blocks until nothing lives."""
        self._closing = True
        self.stop(list(self.instances))
        self.guardian.close()

    def kill(self) -> None:
        """SIGKILL to all groups at once, and no start any more; `shutdown` waits for the rest."""
        self._closing = True
        for instance in self.instances.values():
            instance.kill()

    # Some of them, by the names of instances; PupgeventError where there is none

    def start(self, names: Iterable[str]) -> List[Failure]:
        """Side by side; blocks until each runs or has failed, and returns those that have."""
        attempts = []
        for instance in in_slices(self._find(names)):
            self._refuse_when_closing()
            attempts.append((instance, instance.start()))
        return [_failure(instance) for instance, attempt in attempts
                if not instance.came_up(attempt)]

    def stop(self, names: Iterable[str]) -> None:
        """Side by side; blocks until all have stopped."""
        chosen = self._find(names)
        for instance in in_slices(chosen):
            instance.stop()
        for instance in chosen:
            instance.wait_settled()

    def instances_of(self, process_id: str) -> List[Instance]:
        """In the order of their index."""
        return list(self._members.get(process_id, {}).values())

    def _find(self, names: Iterable[str]) -> List[Instance]:
        try:
            return [self.instances[name] for name in names]
        except KeyError as error:
            raise PupgeventError('there is no instance "%s"' % error.args[0]) from None

    # The set itself; see rollout.py for changing it while it serves

    def add_process(self, process: Process) -> List[Instance]:
        """Make its instances, and start none."""
        self.know(process)
        return [self.add(process, spec) for spec in instance_specs(process)]

    def know(self, process: Process) -> None:
        """A process that has no instances yet."""
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
        instance = Instance(process, spec, self._context, rotation, self._changed)
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

    def _changed(self, instance: Instance) -> None:
        try:
            self._owner.on_change(instance)
        except MemoryError:
            pass  # the next change is told again
        if instance.state in GIVEN_UP and instance.process.essential:
            self._owner.on_essential(instance)

    def _refuse_when_closing(self) -> None:
        if self._closing:
            raise PupgeventError("pupgevent is stopping")


def _failure(instance: Instance) -> Failure:
    return Failure(instance.name, instance.state, instance.outcome)
