"""Read the configuration file again, and make what runs follow it.

This does not compare two files. It compares the file with what runs, instance by instance, so that
after a reload that stopped halfway (a release that crashes) the next one does what is left, and no
more. In this order:

    1  Read and check it. Until the third step is over, a failure changes nothing.
    2  Open the common ports that are new. A port that moves from one process to another is handed
       over with its listener: there is no moment in which it is closed.
    3  Put balancers and loggers to their new settings; close the common ports that are not needed
       any more. Open connections stay.
    4  Drain and stop what is too much: removed processes, instances beyond the number.
    5  Give each instance what it can take while it runs: its restart policy, its time-outs, ...
    6  Start what is new, side by side: an instance of a process that runs, a process with
       `autostart`, or one that had no `autostart` before. What has been stopped stays so.
    7  Roll those whose program, folder, environment, user or port differs.
"""

from typing import Any, Callable, Iterable, List, NamedTuple

import configuration
from configuration import Configuration
from errors import ConfigurationError, PupgeventError
from rollout import Claim, Turn, roll, seat_of, should_run, start_fresh
from runtime import Runtime, settings_of
from world import keeping_child, same_child, seats

Say = Callable[[str], Any]


class Done(NamedTuple):
    """What a reload has changed, for the sentence at its end."""

    settings: List[str]
    rolled: List[str]
    started: List[str]
    removed: List[str]

    def __str__(self) -> str:
        parts = [
            "%s %s" % (word, _few(names))
            for word, names in zip(("changed", "restarted", "started", "removed"), self)
            if names
        ]
        return "reloaded: " + ("; ".join(parts) or "nothing differs")


def reload(
    runtime: Runtime, say: Say, claim: Claim, hold: "Callable[[Claim, Iterable[str]], Any]"
) -> str:
    """Blocks until it is done; raises ConfigurationError when the file is bad, which changes
    nothing, and PupgeventError when something did not come up. `hold(claim, ids)` is called with
    the processes that it is about, once they are known."""
    path = runtime.configuration.path
    new = runtime.threads.call(configuration.load, path)
    if new.real_path != runtime.configuration.real_path:
        raise ConfigurationError(
            path, None, "is another file now (%s): restart pupgevent for it" % new.real_path)
    # Much may have happened while the file was read.
    runtime.refuse_when_closing()
    hold(claim, (process.id for process in new.processes))
    return _Reload(runtime, new, say).apply(claim)


class _Reload:
    def __init__(self, runtime: Runtime, new: Configuration, say: Say) -> None:
        self._runtime = runtime
        self._supervisor = runtime.supervisor
        self._new = new
        self._say = say
        self._after = {process.id: process for process in new.processes}
        self._gone = [each for each in runtime.supervisor.processes if each not in self._after]
        self._runs = {each.process_id for each in runtime.instances() if should_run(each)}
        self._newly_automatic = {
            each.id for each in new.processes
            if each.autostart and not self._was_automatic(each.id)
        }
        self._done = Done([], [], [], [])

    def apply(self, claim: Claim) -> str:
        self._tell_what_stays()
        self._runtime.move_ports(self._new.processes)
        self._set()
        self._remove()
        turns, failures = start_fresh(self._supervisor, self._turns())
        failures += roll(self._supervisor, turns, claim)
        if failures:
            raise PupgeventError("; ".join(failures))
        return str(self._done)

    def _tell_what_stays(self) -> None:
        old, new = self._runtime.configuration, self._new
        for key in ("control", "dashboard"):
            if getattr(old, key) != getattr(new, key):
                text = "%s: a change of it needs a restart of pupgevent" % key
                self._runtime.log.warning("core", text)
                self._say(text)

    def _set(self) -> None:
        """The record of each process, and what does not concern its instances."""
        runtime, processes = self._runtime, self._supervisor.processes
        runtime.configuration = self._new._replace(
            control=runtime.configuration.control, dashboard=runtime.configuration.dashboard)
        for process_id, process in self._after.items():
            runtime.prepare(process)
            if process_id in runtime.balancers and process.cluster is not None:
                runtime.balancers[process_id].apply(settings_of(process))
            if process_id not in processes:
                self._supervisor.know(process)
            elif processes[process_id] != process:
                self._done.settings.append(process_id)
            # Once more in the order of the file, which is the order of `status`.
            processes.pop(process_id, None)
            processes[process_id] = process

    def _remove(self) -> None:
        wanted = {(each.id, seat.name) for each in self._after.values() for seat in seats(each)}
        surplus = [each for each in self._runtime.instances()
                   if (each.process_id, each.name) not in wanted]
        self._done.removed.extend(each.name for each in surplus)
        self._supervisor.remove(surplus)
        for process_id in self._gone:
            self._supervisor.remove_process(process_id)
            self._runtime.forget(process_id)

    def _turns(self) -> List[Turn]:
        """Whom to start, be it anew. What is new comes first: it takes nobody's place."""
        turns = [
            turn
            for process in self._after.values()
            for turn in (Turn(process, seat) for seat in seats(process))
            if self._needs_turn(turn)
        ]
        turns.sort(key=lambda turn: turn.seat.name not in self._done.started)
        return turns

    def _needs_turn(self, turn: Turn) -> bool:
        """Where not, the instance has its values by now."""
        process, seat = turn
        instance = self._supervisor.instances.get(seat.name)
        automatic = process.id in self._newly_automatic
        if instance is None:
            return self._adds(turn, automatic)
        if not should_run(instance):
            instance.replace(process, seat)
            if automatic:
                self._done.started.append(seat.name)
            return automatic
        if same_child((instance.process, seat_of(instance)), turn):
            instance.replace(process, seat)
            return False
        instance.replace(keeping_child(process, instance.process), seat_of(instance))
        self._done.rolled.append(seat.name)
        return True

    def _adds(self, turn: Turn, automatic: bool) -> bool:
        if automatic or turn.process.id in self._runs:
            self._done.started.append(turn.seat.name)
            return True
        self._supervisor.add(turn.process, turn.seat)
        return False

    def _was_automatic(self, process_id: str) -> bool:
        old = self._supervisor.processes.get(process_id)
        return old is not None and bool(old.autostart)


def _few(names: List[str]) -> str:
    return ", ".join(names) if len(names) < 4 else "%d instances" % len(names)
