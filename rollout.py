"""Rolling changes: instances get new values while they serve, one after the other.

What is to be done is a list of steps: this instance, from these values. An instance gets its new
values when its step is taken and not before. So a roll-out that ends at the first instance that
does not come up leaves the others as they were, also for the restarts of their own.

Two changes of the same process at the same time would undo each other's work: `ProcessLocks`
refuses the second, unless that is a stop. A stop does not wait for a start or a restart, and takes
the process from it: the step that the other one is at is brought to its end, and no further one is
taken.
"""

import contextlib
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

from gevent.event import Event

from concurrency import in_slices
from errors import PupgeventError
from instance import Instance
from lifecycle import FAILED
from model import InstanceSpec, Process
from supervisor import Supervisor


class RolloutStep(NamedTuple):
    """What an instance is to be started from."""

    process: Process
    spec: InstanceSpec


class Busy(PupgeventError):
    """Somebody else is changing the process."""

    def __init__(self, process_id: str, other: "Change") -> None:
        self.reason = "%s of %s is under way" % (other.what, process_id)
        super().__init__(self.reason + ": try again when it is done")
        self._other = other

    def wait(self) -> None:
        """Until that change is over."""
        self._other.over.wait()


class Change:
    """One change under way, and the processes that it holds: "a restart"."""

    def __init__(self, what: str, yields: bool) -> None:
        self.what = what
        #: A stop may take processes from it.
        self.yields = yields
        #: The ids of the processes that it holds, or has held.
        self.ids: Set[str] = set()
        #: Set when it holds nothing any more.
        self.over = Event()
        #: The ids of the processes that a stop has taken from it.
        self.lost: Set[str] = set()
        #: The names of the instances that this stop was about.
        self.stopped: Set[str] = set()

    def keeps(self, process_id: str) -> bool:
        return process_id not in self.lost

    def check(self) -> None:
        """Raises PupgeventError where a stop has come between."""
        if self.lost:
            names = sorted(self.stopped)
            verb = "was" if len(names) == 1 else "were"
            raise PupgeventError("%s %s stopped meanwhile" % (", ".join(names), verb))


class ProcessLocks:
    """Which change holds which process at the moment."""

    def __init__(self) -> None:
        self._held: Dict[str, Change] = {}

    @contextlib.contextmanager
    def hold(
        self, ids: Iterable[str], what: str, *, yields: bool = False, stops: Iterable[str] = ()
    ) -> Iterator[Change]:
        """Hold these processes for one change. Raises Busy where another change holds one.

        A change that `stops` instances, by name, takes their processes from a change that `yields`
        instead of being refused.
        """
        change = Change(what, yields)
        self.add(change, ids, stops)
        try:
            yield change
        finally:
            for process_id in change.ids:
                if self._held.get(process_id) is change:
                    del self._held[process_id]
            change.over.set()

    def holder(self, process_id: str) -> Optional[Change]:
        """The change that holds it."""
        return self._held.get(process_id)

    def add(self, change: Change, ids: Iterable[str], stops: Iterable[str] = ()) -> None:
        """Hold these processes as well; raises Busy."""
        wanted = sorted(set(ids))
        others = [(each, self._held[each]) for each in wanted
                  if self._held.get(each, change) is not change]
        for process_id, other in others:
            if not (stops and other.yields):
                raise Busy(process_id, other)
        for process_id, other in others:
            other.lost.add(process_id)
            other.stopped.update(stops)
        self._held.update(dict.fromkeys(wanted, change))
        change.ids.update(wanted)


def restart_step(instance: Instance) -> RolloutStep:
    """A step that changes nothing: a restart."""
    return RolloutStep(instance.process, instance.spec)


def should_run(instance: Instance) -> bool:
    """Is it to run, or was it given up? In both cases nobody has asked it to stop. What cron starts
    is not given up: it is to run at its next time, and not before."""
    given_up = instance.state in FAILED and not instance.process.cron
    return instance.wanted or given_up


def roll(supervisor: Supervisor, steps: Iterable[RolloutStep], change: Change) -> List[str]:
    """Take each step when the one before runs; blocks until that is done.

    Once an instance does not come up, the steps that are left of its process are not taken; nor are
    those of a process that the change has lost. Returns a line for each step that failed.
    """
    pending = list(steps)
    failed = []
    made_room: Dict[str, RolloutStep] = {}
    while pending:
        step = _next_step(supervisor, pending, made_room)
        pending.remove(step)
        made_room.pop(step.spec.name, None)
        failure = _take_step(supervisor, step, change)
        if failure is not None:
            failed.append(failure)
            pending = [each for each in pending if each.process.id != step.process.id]
    return failed + _bring_back(supervisor, made_room.values())


def _bring_back(supervisor: Supervisor, steps: Iterable[RolloutStep]) -> List[str]:
    """Start instances that were stopped to free a port, and whose step was not taken after that:
    as they were, or from their new values where another instance has their port by now."""
    names = []
    holders = _holders(supervisor)
    for step in steps:
        instance = supervisor.instances[step.spec.name]
        if _holder(holders, restart_step(instance)) is not None:
            instance.replace(step.process, step.spec)
        names.append(instance.name)
    return list(map(str, supervisor.start(names, in_order=False)))


def start_fresh(
    supervisor: Supervisor, steps: Iterable[RolloutStep]
) -> Tuple[List[RolloutStep], List[str]]:
    """Take side by side the steps of instances that do not run and whose port nobody has; blocks
    until each runs or has failed.

    Returns the steps that are left, without those of processes of which an instance has failed,
    and a line for each instance that did not come up.
    """
    left: List[RolloutStep] = []
    fresh: List[RolloutStep] = []
    holders = _holders(supervisor)
    for step in steps:
        instance = supervisor.instances.get(step.spec.name)
        replaces = instance is not None and should_run(instance)
        (left if replaces or _holder(holders, step) else fresh).append(step)
    for step in in_slices(fresh):
        instance = supervisor.instances.get(step.spec.name)
        if instance is None:
            supervisor.add(step.process, step.spec)
        else:
            instance.replace(step.process, step.spec)
    failures = supervisor.start([step.spec.name for step in fresh])
    failed = {supervisor.instances[each.name].process_id for each in failures}
    return [step for step in left if step.process.id not in failed], list(map(str, failures))


def _next_step(
    supervisor: Supervisor, pending: List[RolloutStep], made_room: Dict[str, RolloutStep]
) -> RolloutStep:
    """A step whose port is free, so that no two instances wait for each other's."""
    holders = _holders(supervisor)
    for step in pending:
        if _holder(holders, step) is None:
            return step
    # The steps wait for each other in a circle, or for an instance that stays. A circle is broken
    # by stopping one instance before its own step.
    step = pending[0]
    holder = _holder(holders, step)
    by_name = {each.spec.name: each for each in pending}
    if holder is not None and holder.name in by_name:
        made_room[holder.name] = by_name[holder.name]
        supervisor.stop([holder.name])
    return step


def _holders(supervisor: Supervisor) -> Dict[int, List[Instance]]:
    """The instances on each port that live, or will again; not those stopped or given up."""
    found: Dict[int, List[Instance]] = {}
    for instance in supervisor.instances.values():
        if instance.port is not None and instance.wanted:
            found.setdefault(instance.port, []).append(instance)
    return found


def _holder(holders: Dict[int, List[Instance]], step: RolloutStep) -> Optional[Instance]:
    """Another instance that has the port of this step."""
    there = holders.get(step.spec.port, ()) if step.spec.port is not None else ()
    return next((each for each in there if each.name != step.spec.name), None)


def _take_step(supervisor: Supervisor, step: RolloutStep, change: Change) -> Optional[str]:
    instance = supervisor.instances.get(step.spec.name)
    if instance is None:
        supervisor.add(step.process, step.spec)
    else:
        if not change.keeps(step.process.id):
            return "%s is left as it is" % instance.name
        instance.returning = True
        try:
            supervisor.stop([instance.name])
        finally:
            instance.returning = False
        if instance.name in change.stopped:
            return "%s was stopped" % instance.name
        # Also when another instance of its process was stopped: nobody has stopped this one.
        instance.replace(step.process, step.spec)
    failures = supervisor.start([step.spec.name], in_order=False)
    if not failures:
        supervisor.wait_known(step.spec.name)
    return str(failures[0]) if failures else None
