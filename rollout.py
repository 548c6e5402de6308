"""Changes to instances while they serve: one after the other, and nobody notices.

What is to be done is told as turns: this instance, from these values. An instance gets its new
values when its turn comes and not before, so that a roll-out that ends at the first one that does
not come up leaves the rest as they were, also for the restarts of their own.

Two changes of the same process at the same time would undo each other's work: `Claims` refuses
the second, unless that is a stop. A stop does not wait for a start or a restart, and takes the
process from it: what the other one has begun with is brought to its end, and nothing else.
"""

import contextlib
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

from gevent.event import Event

from concurrency import in_slices
from errors import PupgeventError
from instance import Instance
from lifecycle import BACKOFF, ERRORED, EXHAUSTED
from model import InstanceSpec, Process
from supervisor import Supervisor

#: It should run, and does not.
FAILED = frozenset([BACKOFF, ERRORED, EXHAUSTED])


class Turn(NamedTuple):
    """What an instance is to be started from."""

    process: Process
    spec: InstanceSpec


class Busy(PupgeventError):
    """Somebody else is changing the process."""

    def __init__(self, process_id: str, other: "Claim") -> None:
        self.reason = "%s of %s is under way" % (other.what, process_id)
        super().__init__(self.reason + ": try again when it is done")
        self._other = other

    def wait(self) -> None:
        """Until that change is over."""
        self._other.over.wait()


class Claim:
    """What one change holds."""

    def __init__(self, what: str, yields: bool) -> None:
        self.what = what
        #: A stop may take processes from it.
        self.yields = yields
        #: The ids of the processes that it holds, or has held.
        self.ids: Set[str] = set()
        #: Set when it holds nothing any more.
        self.over = Event()
        #: The ids of these, and the names of the instances that were stopped.
        self.lost: Set[str] = set()
        self.stopped: Set[str] = set()

    def keeps(self, process_id: str) -> bool:
        return process_id not in self.lost

    def check(self) -> None:
        """Raises PupgeventError where a stop has come between."""
        if self.lost:
            names = sorted(self.stopped)
            verb = "was" if len(names) == 1 else "were"
            raise PupgeventError("%s %s stopped meanwhile" % (", ".join(names), verb))


class Claims:
    """Who changes which process at the moment."""

    def __init__(self) -> None:
        self._held: Dict[str, Claim] = {}

    @contextlib.contextmanager
    def hold(
        self, ids: Iterable[str], what: str, *, yields: bool = False, stops: Iterable[str] = ()
    ) -> Iterator[Claim]:
        """Change these processes alone. Raises Busy where somebody else does.

        One that `stops` instances, by name, gets their processes from those that `yields` all the
        same: they have lost them.
        """
        claim = Claim(what, yields)
        self.add(claim, ids, stops)
        try:
            yield claim
        finally:
            for process_id in claim.ids:
                if self._held.get(process_id) is claim:
                    del self._held[process_id]
            claim.over.set()

    def add(self, claim: Claim, ids: Iterable[str], stops: Iterable[str] = ()) -> None:
        """Hold these as well; raises Busy."""
        wanted = sorted(set(ids))
        others = [(each, self._held[each]) for each in wanted
                  if self._held.get(each, claim) is not claim]
        for process_id, other in others:
            if not (stops and other.yields):
                raise Busy(process_id, other)
        for process_id, other in others:
            other.lost.add(process_id)
            other.stopped.update(stops)
        self._held.update(dict.fromkeys(wanted, claim))
        claim.ids.update(wanted)


def as_it_is(instance: Instance) -> Turn:
    """A turn that changes nothing: a restart."""
    return Turn(instance.process, instance.spec)


def should_run(instance: Instance) -> bool:
    """Also one that was given up: nobody has asked it to stop."""
    return instance.wanted or instance.state in FAILED


def roll(supervisor: Supervisor, turns: Iterable[Turn], claim: Claim) -> List[str]:
    """Take each turn when the one before runs; blocks until that is done.

    Of a process one of whose instances does not come up the turns that are left are not taken,
    nor are those of one that the claim no longer keeps. Returns a line for each that did not come
    up.
    """
    pending = list(turns)
    failed = []
    made_room: Dict[str, Turn] = {}
    while pending:
        turn = _next(supervisor, pending, made_room)
        pending.remove(turn)
        made_room.pop(turn.spec.name, None)
        failure = _take(supervisor, turn, claim)
        if failure is not None:
            failed.append(failure)
            pending = [each for each in pending if each.process.id != turn.process.id]
    return failed + _bring_back(supervisor, made_room.values())


def _bring_back(supervisor: Supervisor, turns: Iterable[Turn]) -> List[str]:
    """Start those that had made room for a roll-out which then did not get to them: as they were,
    or from their new values where somebody is in their place by now."""
    names = []
    holders = _holders(supervisor)
    for turn in turns:
        instance = supervisor.instances[turn.spec.name]
        if _holder(holders, as_it_is(instance)) is not None:
            instance.replace(turn.process, turn.spec)
        names.append(instance.name)
    return list(map(str, supervisor.start(names)))


def start_fresh(supervisor: Supervisor, turns: Iterable[Turn]) -> "Tuple[List[Turn], List[str]]":
    """Start side by side those of the turns that take nobody's place; blocks until each runs or
    has failed. Returns the turns that are left, of those processes none of whose has failed, and
    a line for each that did not come up.
    """
    left: List[Turn] = []
    fresh: List[Turn] = []
    holders = _holders(supervisor)
    for turn in turns:
        instance = supervisor.instances.get(turn.spec.name)
        replaces = instance is not None and should_run(instance)
        (left if replaces or _holder(holders, turn) else fresh).append(turn)
    for turn in in_slices(fresh):
        instance = supervisor.instances.get(turn.spec.name)
        if instance is None:
            supervisor.add(turn.process, turn.spec)
        else:
            instance.replace(turn.process, turn.spec)
    failures = supervisor.start([turn.spec.name for turn in fresh])
    failed = {supervisor.instances[each.name].process_id for each in failures}
    return [turn for turn in left if turn.process.id not in failed], list(map(str, failures))


def _next(supervisor: Supervisor, pending: List[Turn], made_room: Dict[str, Turn]) -> Turn:
    """One whose port is free, so that of two instances no one waits for the other's."""
    holders = _holders(supervisor)
    for turn in pending:
        if _holder(holders, turn) is None:
            return turn
    # They wait for each other in a circle, or for somebody who stays. Where it is a circle, one
    # that makes room beforehand breaks it.
    turn = pending[0]
    holder = _holder(holders, turn)
    by_name = {each.spec.name: each for each in pending}
    if holder is not None and holder.name in by_name:
        made_room[holder.name] = by_name[holder.name]
        supervisor.stop([holder.name])
    return turn


def _holders(supervisor: Supervisor) -> Dict[int, List[Instance]]:
    """Who lives on which port, or will again; who was stopped, or given up, is on none."""
    found: Dict[int, List[Instance]] = {}
    for instance in supervisor.instances.values():
        if instance.port is not None and instance.wanted:
            found.setdefault(instance.port, []).append(instance)
    return found


def _holder(holders: Dict[int, List[Instance]], turn: Turn) -> Optional[Instance]:
    """Another instance that lives on the port of this turn."""
    there = holders.get(turn.spec.port, ()) if turn.spec.port is not None else ()
    return next((each for each in there if each.name != turn.spec.name), None)


def _take(supervisor: Supervisor, turn: Turn, claim: Claim) -> Optional[str]:
    instance = supervisor.instances.get(turn.spec.name)
    if instance is None:
        supervisor.add(turn.process, turn.spec)
    else:
        if not claim.keeps(turn.process.id):
            return "%s is left as it is" % instance.name
        instance.returning = True
        try:
            supervisor.stop([instance.name])
        finally:
            instance.returning = False
        if instance.name in claim.stopped:
            return "%s was stopped" % instance.name
        # Also when another instance of its process was stopped: nobody has stopped this one.
        instance.replace(turn.process, turn.spec)
    failures = supervisor.start([turn.spec.name])
    return str(failures[0]) if failures else None
