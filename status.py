"""What runs, as typed records: the one source of `status`, `top` and whatever else shows it.

The records are those of status_report.py. They are put together in slices, between which things go
on: how a process and its instances are is of one moment, their details may be of the next.
"""

import os
from typing import (
    Any,
    Callable,
    Container,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import backends
from balancer import Balancer
from concurrency import in_slices
from health_record import UNKNOWN
from instance import Instance
from lifecycle import FAILED, FINISHED, RUNNING, STARTING, STOPPED, STOPPING
from model import Process
from procfs import Usage
from rollout import should_run
from runtime import Runtime
from scheduler import START, STOP
from status_report import (
    BackendStatus,
    HealthStatus,
    InstanceStatus,
    ProcessStatus,
    RestartCauses,
    Status,
)

#: A long loop in slices: concurrency.in_slices, or one that leaves more time to others.
Slices = Callable[[Iterable[Any]], Iterable[Any]]

#: Of a process, besides the states of instances.
DEGRADED, DOWN = "degraded", "down"

PROCESS_STATES = (RUNNING, STARTING, DEGRADED, DOWN, STOPPING, STOPPED, FINISHED)


class Health(NamedTuple):
    """Of one instance."""

    state: str
    #: It should run, be it now or after a delay; also one that was given up, or is restarted.
    wanted: bool
    #: It runs, its balancer, where it has one, reaches it, and its health checks pass.
    serves: bool
    #: It should run, and something is wrong with it. A first start is on its way and no failure;
    #: one after a failure is a failure until it has come up, however long it takes.
    fails: bool


def health_of(instance: Instance, backend: Optional[str]) -> Health:
    """`backend` is its state at the balancer; None where there is none."""
    state, healthy = instance.state, instance.health.reason is None
    return Health(
        state,
        wanted=should_run(instance) or instance.returning,
        serves=state == RUNNING and backend in (None, backends.UP) and healthy,
        fails=(state in FAILED and not instance.blockers)
        or instance.stuck
        or (state == STARTING and instance.recovering)
        or (state == RUNNING and (backend == backends.DOWN or not healthy)),
    )


def is_healthy(process: Process, members: Sequence[Health]) -> bool:
    """None of its instances fails; of a cluster that should run, at least one serves."""
    if any(each.fails for each in members):
        return False
    idle = not any(each.wanted for each in members)
    return idle or process.cluster is None or any(each.serves for each in members)


def state_of(members: Iterable[Health]) -> str:
    """One word for all instances of a process."""
    members = list(members)
    if any(each.fails for each in members):
        return DEGRADED if any(each.serves for each in members) else DOWN
    states = {each.state for each in members}
    for state in (STARTING, STOPPING, RUNNING, FINISHED):
        if state in states:
            return state
    return STOPPED


def snapshot(
    runtime: Runtime, usages: "Mapping[int, Usage]", version: str,
    chosen: "Optional[Container[str]]" = None, slices: Slices = in_slices,
) -> Status:  # fmt: skip
    """All of it, or of the `chosen` instances only, by name; blocks the calling greenlet now and
    then. `usages` are by pid."""
    processes: List[ProcessStatus] = []
    healthy = True
    for process in slices(list(runtime.supervisor.processes.values())):
        found, is_well = _process(runtime, process, usages, chosen, slices)
        if found.members or chosen is None:
            processes.append(found)
            healthy = healthy and is_well
    return Status(
        version=version,
        pid=os.getpid(),
        name=runtime.configuration.name,
        config=runtime.configuration.real_path,
        uptime=runtime.clock() - runtime.began_at,
        state="stopping" if runtime.closing else "running",
        healthy=healthy,
        processes=tuple(processes),
    )


def failing(runtime: Runtime, slices: Slices) -> Iterator[str]:
    """The ids of the processes that are not healthy."""
    for process in slices(list(runtime.supervisor.processes.values())):
        if not is_healthy(process, _healths(runtime, process)):
            yield process.id


def is_well(runtime: Runtime, word: str) -> Optional[bool]:
    """Is a process healthy, or an instance? None: there is none of that name."""
    process = runtime.supervisor.processes.get(word)
    if process is not None:
        return is_healthy(process, _healths(runtime, process))
    instance = runtime.supervisor.instances.get(word)
    if instance is None:
        return None
    return is_healthy(instance.process, [health_of(instance, runtime.backend_state(instance))])


def _healths(runtime: Runtime, process: Process) -> List[Health]:
    """At one moment."""
    return [health_of(each, runtime.backend_state(each))
            for each in runtime.supervisor.instances_of(process.id)]


def _process(
    runtime: Runtime, process: Process, usages: "Mapping[int, Usage]",
    chosen: "Optional[Container[str]]", slices: Slices,
) -> "Tuple[ProcessStatus, bool]":  # fmt: skip
    """The process with its chosen instances, and whether these are healthy."""
    balancer = runtime.balancers.get(process.id)
    instances = runtime.supervisor.instances_of(process.id)
    # At one moment, lest a roll-out under way should look like a service that is down.
    healths = _healths(runtime, process)
    shown = [(each, health) for each, health in zip(instances, healths)
             if chosen is None or each.name in chosen]
    members = tuple(
        _member(each, _backend_of(balancer, each), health, usages.get(each.pid or 0),
                runtime.clock())
        for each, health in slices(shown)
    )
    status = ProcessStatus(
        id=process.id,
        autostart=process.autostart,
        healthy=is_healthy(process, healths),
        state=state_of(healths),
        up=sum(each.serves for each in healths),
        wanted=sum(each.wanted for each in healths),
        instances=len(instances),
        next_run=runtime.scheduler.next_time(process.id, START),
        next_stop=runtime.scheduler.next_time(process.id, STOP),
        balancer=balancer.status() if balancer is not None and balancer.address else None,
        members=members,
    )
    return status, is_healthy(process, [health for _, health in shown])


def _backend_of(balancer: "Optional[Balancer]", instance: Instance) -> "Optional[BackendStatus]":
    return None if balancer is None else balancer.backend_status(instance.name)


def _health_status(instance: Instance) -> "Optional[HealthStatus]":
    cluster, record = instance.process.cluster, instance.health
    if cluster is None or cluster.health is None:
        return None
    last = record.last
    return HealthStatus(
        healthy=record.reason is None,
        check=UNKNOWN if last is None else last.code,
        last=None if last is None else last.text,
        duration=None if last is None else last.seconds,
        checks=record.checks,
        failures=record.failures,
        downs=record.downs,
    )


def _failing_for(instance: Instance, backend: "Optional[BackendStatus]", now: float) -> float:
    """Of one with which something is wrong."""
    if instance.blockers:
        return now - instance.since
    if instance.state == RUNNING and instance.health.reason is not None:
        return now - instance.health.since
    if instance.state == RUNNING and backend is not None:
        return backend.since
    return instance.history.failing_for


def _member(
    instance: Instance, backend: "Optional[BackendStatus]", health: Health,
    usage: "Optional[Usage]", now: float,
) -> InstanceStatus:  # fmt: skip
    due = instance.due_at
    return InstanceStatus(
        id=instance.name,
        number=instance.index,
        port=instance.port,
        state=health.state,
        since=now - instance.since,
        wanted=health.wanted,
        serves=health.serves,
        pid=instance.pid,
        uptime=instance.uptime if instance.pid is not None else None,
        restarts=instance.restarts,
        restarts_by=RestartCauses(**instance.history.restarts),
        last_exit=instance.last_exit,
        reason=None if instance.state == RUNNING else instance.outcome,
        failing_for=_failing_for(instance, backend, now) if health.fails else None,
        last_line=(instance.last_line or None) if health.fails else None,
        waits_for=" and ".join(map(str, instance.blockers)) or None,
        retry_in=None if due is None else max(0.0, due - now),
        cpu=None if usage is None or usage.cpu is None else round(usage.cpu, 4),
        cpu_time=None if usage is None else round(usage.cpu_time, 2),
        memory=None if usage is None else usage.memory,
        health=_health_status(instance),
        backend=backend,
    )
