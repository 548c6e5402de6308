"""Read the configuration file again, and make what runs follow it.

This does not compare two files. It compares the file with what runs, instance by instance, so that
after a reload that stopped halfway (a release that crashes) the next one does what is left, and no
more. Only the processes for which there is something to do are held for it: the others can be
changed meanwhile, and what is changed of them is not overwritten. In this order:

    1  Read and check it. Until the fourth step, a failure changes nothing.
    2  Compare, and hold each process that differs, from the moment at which that was seen.
    3  Open the common ports that are new, and check the whole once more if somebody has changed
       something meanwhile (a cluster that was scaled needs ports).
    4  From here on the file is what counts. Hand the common ports over: one that moves from one
       process to another keeps its listener, and there is no moment in which it is closed.
    5  Put balancers, loggers and schedules to their new settings. Open connections stay.
    6  Drain and stop what is too much: removed processes, instances beyond the number.
    7  Give each instance what it can take while it runs: its restart policy, its time-outs, ...
    8  Start what is new, side by side: an instance of a process that runs, a process with
       `autostart`, or one that had no `autostart` before. What has been stopped stays so.
    9  Roll those whose program, folder, environment, user or port differs.

Whatever is done for each process is done in slices: a file may have thousands.
"""

import shlex
import time
from typing import Callable, List, NamedTuple, Set, Union

import background_loader
import tls_expiry
from concurrency import in_slices
from errors import ConfigurationError, PupgeventError, format_path
from instance import Instance
from lifecycle import GIVEN_UP
from model import Configuration, Process, instance_specs, keeping_child, same_child
from rollout import Change, RolloutStep, roll, should_run, start_fresh
from runtime import Runtime

Say = Callable[[str], None]

#: Ids and names that a hint repeats.
_MOST_WORDS = 5


class Done(NamedTuple):
    """What a reload has changed, for the sentence at its end."""

    top: List[str]
    settings: List[str]
    rolled: List[str]
    started: List[str]
    removed: List[str]

    def __str__(self) -> str:
        changed = ["the " + name for name in self.top] + _few(self.settings, "processes")
        parts = [
            "%s %s" % (word, ", ".join(names))
            for word, names in (
                ("changed", changed),
                ("restarted", _few(self.rolled)),
                ("started", _few(self.started)),
                ("removed", _few(self.removed)),
            )
            if names
        ]
        return "; ".join(parts)


def read(runtime: Runtime) -> "Union[Configuration, ConfigurationError]":
    """The file as it is now, or what is wrong with it; blocks the calling greenlet."""
    return background_loader.load(runtime.configuration.absolute_path, runtime.threads)


class Reload:
    """One reload: `hold` first, then `apply`."""

    def __init__(self, runtime: Runtime, new: Configuration, say: Say) -> None:
        self._runtime = runtime
        self._supervisor = runtime.supervisor
        self._old = runtime.configuration
        self._new = new
        self._say = say
        self._after = {process.id: process for process in new.processes}
        #: For which there is something to do, and which the file has no more.
        self._touched: List[Process] = []
        self._gone: List[str] = []
        #: Of these, who runs, and who starts by itself and did not before.
        self._runs: Set[str] = set()
        self._newly_automatic: Set[str] = set()
        self._done = Done([], [], [], [], [])

    def hold(self, add: "Callable[[List[str]], None]") -> None:
        """Find what differs, and `add(ids)` it at once; raises what that raises."""
        for process in in_slices(self._new.processes):
            if self._differs(process):
                add([process.id])
                self._touch(process)
        for process_id in in_slices(list(self._supervisor.processes)):
            if process_id not in self._after:
                add([process_id])
                self._gone.append(process_id)

    def _differs(self, process: Process) -> bool:
        if self._supervisor.processes.get(process.id) != process:
            return True
        members = {each.name: each for each in self._supervisor.instances_of(process.id)}
        wanted = instance_specs(process)
        return len(members) != len(wanted) or not all(
            spec.name in members and members[spec.name].follows(process, spec) for spec in wanted)

    def _touch(self, process: Process) -> None:
        self._touched.append(process)
        old = self._supervisor.processes.get(process.id)
        if process.autostart and not (old is not None and old.autostart):
            self._newly_automatic.add(process.id)
        if any(map(should_run, self._supervisor.instances_of(process.id))):
            self._runs.add(process.id)

    def apply(self, change: Change) -> str:
        """Blocks until it is done; returns a sentence about it. Raises ConfigurationError or
        PupgeventError where it could not be begun, which changes nothing, and PupgeventError when
        something did not come up."""
        warnings = self._runtime.threads.call(tls_expiry.tls_warnings, self._new, time.time())
        stays = self._tell_what_stays()
        self._take_effect()
        self._tell(warnings)
        self._set()
        self._remove()
        steps, failures = start_fresh(self._supervisor, self._steps())
        failures += roll(self._supervisor, steps, change)
        if failures:
            raise PupgeventError("; ".join(failures))
        changes = list(filter(None, [str(self._done), *stays])) or ["nothing differs"]
        return "reloaded: " + "; ".join(changes + self._given_up())

    def _tell_what_stays(self) -> List[str]:
        """Warn of the tables whose change needs a restart of pupgevent."""
        old, new = self._old, self._new
        texts = []
        if old.control != new.control:
            texts.append("control: a change of it needs a restart of pupgevent")
        self._tell(texts)
        return texts

    def _tell(self, texts: List[str]) -> None:
        for text in texts:
            self._runtime.log.warning("core", text)
            self._say(text)

    def _take_effect(self) -> None:
        """The ports, and with them the file: all of it, or an error and nothing of it."""
        runtime = self._runtime
        runtime.threads.call(runtime.engine.certificates.load, self._new.processes)
        fresh = runtime.open_ports(self._new.processes)
        try:
            merged = self._merged()
            self._runtime.refuse_when_closing()
            self._runtime.adopt(merged)
        except BaseException:
            for listener in fresh.values():
                listener.close()
            raise
        self._runtime.move_ports(merged.processes, fresh)

    def _merged(self) -> Configuration:
        """What the file says; of a process that is not held, what has been made of it meanwhile.

        The configuration that runs does not change between the last look at it here and the
        return."""
        if self._runtime.configuration is self._old:
            return self._with_what_stays(self._old)
        merged, conflict = self._runtime.changed_configuration(self._merge)
        if conflict is not None:
            raise ConfigurationError(
                merged.path, None, "%s: %s" % (format_path(conflict.where), conflict.reason))
        return merged

    def _merge(self, present: Configuration) -> Configuration:
        held = {each.id for each in self._touched}
        others = {each.id: each for each in in_slices(present.processes)}
        return self._with_what_stays(present)._replace(processes=tuple(
            each if each.id in held else others[each.id]
            for each in in_slices(self._new.processes)))

    def _with_what_stays(self, present: Configuration) -> Configuration:
        return self._new._replace(control=present.control)

    def _set(self) -> None:
        """The record of each process, and what does not concern its instances."""
        runtime, processes = self._runtime, self._supervisor.processes
        self._set_top()
        for process in in_slices(self._touched):
            runtime.prepare(process)
            if process.id in runtime.balancers and process.cluster is not None:
                runtime.balancers[process.id].apply(process.cluster)
            old = processes.get(process.id)
            if old is None:
                self._supervisor.know(process)
            elif runtime.in_effect(old) != runtime.in_effect(process):
                self._done.settings.append(process.id)
            processes[process.id] = process
        # Once more in the order of the file, which is the order of `status`.
        self._supervisor.processes = {
            each: processes[each] for each in [*self._gone, *self._after]}
        runtime.scheduler.update(runtime.configuration.processes)

    def _set_top(self) -> None:
        if self._old.name != self._new.name:
            self._done.top.append("name")
        if self._runtime.set_logger(self._new.logger):
            self._done.top.append("logger")
        for name in ("watcher", "dashboard", "agent"):
            if getattr(self._old, name) != getattr(self._new, name):
                self._done.top.append(name)

    def _remove(self) -> None:
        surplus: List[Instance] = []
        for process in in_slices(self._touched):
            wanted = {spec.name for spec in instance_specs(process)}
            surplus.extend(each for each in self._supervisor.instances_of(process.id)
                           if each.name not in wanted)
        for process_id in self._gone:
            surplus.extend(self._supervisor.instances_of(process_id))
        self._done.removed.extend(each.name for each in surplus)
        self._supervisor.remove(surplus)
        for process_id in in_slices(self._gone):
            self._supervisor.remove_process(process_id)
            self._runtime.forget(process_id)

    def _steps(self) -> List[RolloutStep]:
        """The instances to start or to restart; those that are new first, as nobody has their
        place."""
        everyone = (RolloutStep(process, spec) for process in self._touched
                    for spec in instance_specs(process))
        steps = [step for step in in_slices(everyone) if self._needs_step(step)]
        started = set(self._done.started)
        steps.sort(key=lambda step: step.spec.name not in started)
        return steps

    def _needs_step(self, step: RolloutStep) -> bool:
        """Is the instance to be started? Where not, it has been given its values."""
        process, spec = step
        instance = self._supervisor.instances.get(spec.name)
        automatic = process.id in self._newly_automatic
        if instance is None:
            return self._adds(step, automatic)
        if not should_run(instance):
            instance.replace(process, spec)
            if automatic:
                self._done.started.append(spec.name)
            return automatic
        if spec == instance.spec and (same_child(process, instance.process) or process.is_job):
            # A job under way is not begun anew: a different command is for its next time.
            instance.replace(process, spec)
            return False
        instance.replace(keeping_child(process, instance.process), instance.spec)
        self._done.rolled.append(spec.name)
        return True

    def _adds(self, step: RolloutStep, automatic: bool) -> bool:
        if automatic or step.process.id in self._runs:
            self._done.started.append(step.spec.name)
            return True
        self._supervisor.add(step.process, step.spec)
        return False

    def _given_up(self) -> List[str]:
        """A reload does not start instances that were given up and have not changed: name the
        command that does."""
        lost: List[Instance] = []
        words: List[str] = []
        for process_id in in_slices(list(self._after)):
            members = self._supervisor.instances_of(process_id)
            own = [] if self._after[process_id].cron else [
                each for each in members if each.state in GIVEN_UP]
            # A start of the whole process would be one of those that were stopped, too.
            whole = all(each.wanted or each.state in GIVEN_UP for each in members)
            lost.extend(own)
            words.extend([process_id] if own and whole else [each.name for each in own])
        if not lost:
            return []
        reasons = {each.last_exit for each in lost}
        return ["%s %s given up%s: `pupgevent start %s %s` starts %s" % (
            ", ".join(_few([each.name for each in lost])),
            "was" if len(lost) == 1 else "were",
            " (%s)" % reasons.pop() if len(reasons) == 1 else "",
            shlex.quote(self._new.path),
            " ".join(words[:_MOST_WORDS] + ["..."] * (len(words) > _MOST_WORDS)),
            "it" if len(lost) == 1 else "them",
        )]  # fmt: skip


def _few(names: List[str], what: str = "instances") -> List[str]:
    return names if len(names) < 4 else ["%d %s" % (len(names), what)]
