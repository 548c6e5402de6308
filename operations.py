"""What an operator can ask of a running pupgevent, besides looking at it.

Each operation blocks the calling greenlet until the thing is done, returns a sentence about what
was done, and raises PupgeventError where it was not. While it lasts it tells each change of state
of the instances that it is about.

Who is asked what:

    start     everyone named
    stop      everyone named, side by side; it wins over a start or a restart under way
    restart   everyone named, one after the other; of a process, and of `all`, those that should
              run, since somebody has stopped the others on purpose. A process of which nothing
              should run is started when it is named itself.
    scale     the number of instances of a cluster, until the file is read again
    reload    see reload.py
    signal    everyone named whose child lives, whatever change is under way; what follows from the
              signal is up to the child, and from its exit up to the restart policy

Nobody asks for `restart_changed`: the watch over the files does (file_restarts.py).
"""

import contextlib
from typing import (
    Callable,
    ContextManager,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Sequence,
    Set,
)

import reload
from cluster_keys import MAX_INSTANCES
from concurrency import in_slices
from errors import PupgeventError, counted, nearest
from instance import Instance
from lifecycle import ENDED, RUNNING, SETTLED, STOPPED
from model import Process, instance_specs, with_instances
from rollout import Change, restart_step, roll, should_run
from rotation import CONNECTION
from runtime import Runtime
from signal_names import signal_name

Say = Callable[[str], None]

ALL = "all"

#: What a reload holds besides processes: it is no id, and there is one reload at a time.
THE_FILE = "the file"

#: Names of instances that a message lists; the others are counted.
_MOST_LISTED = 10

#: Names that an unknown one is compared with, those of processes first. It takes some 50 µs each,
#: in which no client is served.
_MOST_COMPARED = 100

#: Once a drain of connections has been told of so often, it takes a while.
_WAITS_BEFORE_A_HINT = 2

_HINT = (
    "(a connection does not tell where an answer ends; for a web application,"
    ' protocol = "http" waits for answers in flight and for nothing else)')


class Chosen(NamedTuple):
    """What the words of a command mean."""

    instances: List[Instance]
    #: The ids of the processes that these belong to.
    processes: Set[str]


class Operations:
    """On one runtime; two at the same time on one process are refused, but for a stop. A reload is
    on those processes for which the file has something else than what runs."""

    def __init__(
        self, runtime: Runtime, around_reload: Callable[[], ContextManager[object]]
    ) -> None:
        """`around_reload()` is a context that each reload is done in."""
        self._runtime = runtime
        self._around_reload = around_reload
        self._locks = runtime.locks

    def start(self, words: Sequence[str], say: Say) -> str:
        chosen = choose(self._runtime, words)
        with self._alone(chosen.processes, "a start", say, yields=True) as change:
            failures = self._runtime.supervisor.start(_names(chosen.instances))
            change.check()
            _raise_for(map(str, failures))
        return _about("running", chosen.instances)

    def stop(self, words: Sequence[str], say: Say) -> str:
        chosen = choose(self._runtime, words)
        names, lost = _names(chosen.instances), self._runtime.lost_requests()
        with self._alone(chosen.processes, "a stop", say, stops=names):
            self._runtime.supervisor.stop(names)
        again = self._runtime.scheduler.about_starts(sorted(chosen.processes))
        return _about("stopped", chosen.instances) + again + self._lost_since(lost)

    def restart(self, words: Sequence[str], say: Say) -> str:
        chosen, lost = self._due(words), self._runtime.lost_requests()
        ids = {each.process_id for each in chosen}
        with self._alone(ids, "a restart", say, yields=True) as change:
            failures = roll(self._runtime.supervisor, list(map(restart_step, chosen)), change)
            change.check()
            _raise_for(failures)
        return _about("restarted", chosen) + self._lost_since(lost)

    def restart_changed(self, process_id: str, begin: Callable[[str], None]) -> None:
        """Restart the process since its files have changed, and start what does not run; what was
        stopped stays so. `begin(what)` is told what follows, once nothing else is done with it."""
        with self._alone([process_id], "a restart", _nobody, yields=True) as change:
            supervisor = self._runtime.supervisor
            chosen = list(filter(_follows_changes, supervisor.instances_of(process_id)))
            if not chosen:
                begin("it was stopped, and stays so")
                return
            if any(each.wanted for each in chosen):
                begin("restarting")
                failures = roll(supervisor, list(map(restart_step, chosen)), change)
            else:
                begin("starting")
                failures = list(map(str, supervisor.start(_names(chosen))))
            if not change.lost:
                _raise_for(failures)

    def scale(self, process_id: str, instances: int, say: Say) -> str:
        process = self._find_cluster(process_id)
        with self._alone({process_id}, "a scaling", say):
            scaled, lost = with_instances(process, instances), self._runtime.lost_requests()
            self._accept(scaled, instances)
            return self._scale(scaled, instances) + self._lost_since(lost)

    def reload(self, say: Say) -> str:
        with self._alone([THE_FILE], "a reload", say) as change:
            found = reload.read(self._runtime)
            # Much may have happened while the file was read.
            self._runtime.refuse_when_closing()
            if isinstance(found, PupgeventError):
                with self._around_reload():
                    raise found
            work = reload.Reload(self._runtime, found, say)
            work.hold(lambda ids: self._locks.add(change, ids))
            lost = self._runtime.lost_requests()
            with self._around_reload():
                return work.apply(change) + self._lost_since(lost)

    def signal(self, number: int, words: Sequence[str]) -> str:
        sent: List[str] = []
        idle: List[str] = []
        refused: List[str] = []
        for each in in_slices(choose(self._runtime, words).instances):
            try:
                (sent if each.signal(number) else idle).append(each.name)
            except PermissionError:
                refused.append(each.name)
        name = signal_name(number)
        told = ["%s: %s" % (what, _listed(names)) for what, names in (
            ("not running", idle), ("changed to another user", refused)) if names]
        if not sent:
            raise PupgeventError("%s was sent to nobody; %s" % (name, "; ".join(told)))
        return "; ".join(["%s sent to %s" % (name, _listed(sent)), *told])

    # How

    @contextlib.contextmanager
    def _alone(
        self, ids: Iterable[str], what: str, say: Say, *, yields: bool = False,
        stops: Iterable[str] = (),
    ) -> Iterator[Change]:
        """Hold the processes for one change, and tell what happens to their instances."""

        waits = 0

        def tell(instance: Instance) -> None:
            nonlocal waits
            if instance.process_id in change.ids:
                say(news(instance))
                waits += instance.draining is not None and instance.draining.unit == CONNECTION
                if waits == _WAITS_BEFORE_A_HINT:
                    waits += 1
                    say(_HINT)

        self._runtime.refuse_when_closing()
        with self._locks.hold(ids, what, yields=yields, stops=stops) as change:
            self._runtime.watchers.add(tell)
            try:
                yield change
            finally:
                self._runtime.watchers.discard(tell)

    def _lost_since(self, before: int) -> str:
        """What clients have lost meanwhile, of requests that instances had begun."""
        lost = self._runtime.lost_requests() - before
        return "; %s lost an answer" % counted(lost, "request") if lost > 0 else ""

    def _due(self, words: "Sequence[str]") -> "List[Instance]":
        """The instances that a restart is about."""
        due: Dict[str, Instance] = {}
        for word in words or [ALL]:
            found = choose(self._runtime, [word]).instances
            if word not in self._runtime.supervisor.instances or len(found) > 1:
                named = word != ALL and not any(map(should_run, found))
                found = [each for each in found if named or should_run(each)]
            due.update((each.name, each) for each in found)
        return list(due.values())

    def _find_cluster(self, process_id: str) -> Process:
        processes = self._runtime.supervisor.processes
        if process_id not in processes:
            raise unknown("process", process_id, list(processes))
        if processes[process_id].cluster is None:
            raise PupgeventError(
                "%s has no cluster: there is nothing to scale" % process_id)  # fmt: skip
        return processes[process_id]

    def _accept(self, scaled: Process, count: int) -> None:
        """Change the configuration; raises PupgeventError, and changes nothing, at a clash."""
        if count > MAX_INSTANCES:
            raise PupgeventError(
                "%s: more than %d instances are not taken" % (scaled.id, MAX_INSTANCES))
        new, conflict = self._runtime.changed_configuration(lambda present: present._replace(
            processes=tuple(
                scaled if each.id == scaled.id else each for each in present.processes)))
        self._runtime.refuse_when_closing()
        if conflict is not None:
            raise PupgeventError("%s of %s: %s" % (
                counted(count, "instance"), scaled.id, conflict.reason))
        self._runtime.adopt(new)
        self._runtime.supervisor.processes[scaled.id] = scaled

    def _scale(self, scaled: Process, count: int) -> str:
        """Drain the instances that are too many, or add those that are missing; the others keep
        their values."""
        supervisor = self._runtime.supervisor
        wanted = {spec.name: spec for spec in instance_specs(scaled)}
        present = supervisor.instances_of(scaled.id)
        runs = any(map(should_run, present))
        supervisor.remove([each for each in present if each.name not in wanted])
        added = [spec for name, spec in wanted.items() if name not in supervisor.instances]
        for each in in_slices(supervisor.instances_of(scaled.id)):
            each.replace(with_instances(each.process, count), each.spec)
        for spec in in_slices(added):
            supervisor.add(scaled, spec)
        if runs:
            _raise_for(map(str, supervisor.start(
                [spec.name for spec in added], in_order=False)))
        running = sum(each.state == RUNNING for each in supervisor.instances_of(scaled.id))
        return "%s has %s, %d running" % (scaled.id, counted(len(wanted), "instance"), running)


def choose(runtime: Runtime, words: "Sequence[str]") -> Chosen:
    """The instances that the words mean, each once; raises PupgeventError for an unknown one."""
    supervisor = runtime.supervisor
    found: Dict[str, Instance] = {}
    for word in dict.fromkeys(words or [ALL]):
        if word == ALL:
            some = list(supervisor.instances.values())
        elif word in supervisor.processes:
            some = supervisor.instances_of(word)
        elif word in supervisor.instances:
            some = [supervisor.instances[word]]
        else:
            known = list(dict.fromkeys([*supervisor.processes, *supervisor.instances, ALL]))
            raise unknown("process or instance", word, known)
        found.update((each.name, each) for each in some)
    instances = list(found.values())
    return Chosen(instances, {each.process_id for each in instances})


def _follows_changes(instance: Instance) -> bool:
    """Has nobody stopped it?"""
    return instance.wanted or instance.state in SETTLED - {STOPPED}


def _nobody(text: str) -> None:
    """No command waits for progress."""


def unknown(kind: str, word: str, known: "List[str]") -> PupgeventError:
    meant = nearest(word, known[:_MOST_COMPARED])
    hint = 'did you mean "%s"?' % meant if meant else "there is %s" % ", ".join(known[:10])
    return PupgeventError('there is no %s "%s": %s' % (kind, word[:64], hint))


def _names(instances: "List[Instance]") -> "List[str]":
    return [each.name for each in instances]


def news(instance: Instance) -> str:
    """What has become of an instance, as progress."""
    if instance.draining is not None:
        return "%s: %s" % (instance.name, instance.draining)
    if instance.blockers:
        return "%s: %s" % (instance.name, instance.outcome)
    if instance.state in ENDED:
        return "%s: %s" % (instance.name, instance.failure)
    # Only then it is the exit of the run that this is about.
    reason = instance.last_exit if instance.state == STOPPED else None
    return "%s: %s%s" % (instance.name, instance.state, " (%s)" % reason if reason else "")


def _about(state: str, instances: "List[Instance]") -> str:
    if len(instances) > 3:
        return "%s: %s" % (state, counted(len(instances), "instance"))
    return "%s: %s" % (state, ", ".join(_names(instances)) or "nothing")


def _listed(names: "List[str]") -> str:
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (" and %d more" % more if more > 0 else "")


def _raise_for(failures: Iterable[str]) -> None:
    text = "; ".join(failures)
    if text:
        raise PupgeventError(text)
