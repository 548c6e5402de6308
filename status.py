"""What runs, as plain data: the one source of `status`, `top` and whatever else shows it.

It is put together in slices, between which things go on: how a process and its instances are is of
one moment, their details may be of the next.

`snapshot` gives what `pupgevent status --json` prints. Keys are named as in the configuration
file; times are seconds, sizes are bytes, and what there is none of is null:

    name, config, version, pid, uptime       of pupgevent; config is the file's real path
    state         running; stopping once it is asked to
    healthy       false: something that should run does not serve
    processes     in the order of the file, each:
      id, autostart
      healthy     false: an instance fails, or none of a cluster that should run serves
      state       running; starting, while an instance is; degraded: some that should run fail,
                  others serve; down: some fail and none serves; stopping; stopped; finished
      up, wanted, instances     how many serve, how many should, how many there are
      balancer    null without a common port, else:
        host, port, strategy
        accepted, open, queue, queueMost, turnedAway     clients so far, now, waiting now, ...
      members     its instances in the order of their index, each:
        id, index, port, state, since (seconds in that state), wanted
        serves      it runs, and the balancer, where there is one, reaches it
        pid, uptime      of the living child
        restarts, lastExit, retryIn (seconds to the next start, in backoff)
        cpu (1.0 is one core), memory      with all that it has started
        backend   null without a balancer, else:
          state (up, down, draining, absent), reason, since
          open, total, bytesIn (from clients), bytesOut, connectErrors, retries
          connectTime, firstByteTime       smoothed
"""

import re
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence

import backends
from concurrency import in_slices
from instance import Instance
from lifecycle import FINISHED, RUNNING, STARTING, STOPPED, STOPPING
from model import Process
from procfs import Usage
from rollout import FAILED, should_run
from runtime import Runtime

#: Of a process, besides the states of instances.
DEGRADED, DOWN = "degraded", "down"


class Health(NamedTuple):
    """Of one instance."""

    state: str
    #: It should run, be it now or after a delay; also one that was given up, or is restarted.
    wanted: bool
    #: It runs, and its balancer, where it has one, reaches it.
    serves: bool
    #: It should run, and something is wrong with it. A first start is on its way and no failure;
    #: one after a failure is a failure until it has come up, however long it takes.
    fails: bool


def health_of(instance: Instance, backend: Optional[str]) -> Health:
    """`backend` is its state at the balancer; None where there is none."""
    state = instance.state
    return Health(
        state,
        wanted=should_run(instance) or instance.returning,
        serves=state == RUNNING and backend in (None, backends.UP),
        fails=state in FAILED
        or (state == STARTING and instance.recovering)
        or (state == RUNNING and backend == backends.DOWN),
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


Plain = Dict[str, Any]


def snapshot(runtime: Runtime, usages: "Mapping[int, Usage]", about: Plain) -> Plain:
    """See the module; `about` has the fields that only the command knows: version, pid. Blocks
    the calling greenlet now and then."""
    processes = [
        _process(runtime, process, usages)
        for process in in_slices(list(runtime.supervisor.processes.values()))
    ]
    return dict(
        about,
        name=runtime.configuration.name,
        config=runtime.configuration.real_path,
        uptime=_seconds(runtime.clock() - runtime.began_at),
        state="stopping" if runtime.closing else "running",
        healthy=all(process["healthy"] for process in processes),
        processes=processes,
    )


def pids(runtime: Runtime) -> "List[int]":
    return [each.pid for each in runtime.instances() if each.pid is not None]


def _process(runtime: Runtime, process: Any, usages: "Mapping[int, Usage]") -> Plain:
    balancer = runtime.balancers.get(process.id)
    counts: Optional[Plain] = None
    backends: Dict[str, Plain] = {}
    if balancer is not None:
        counts = dict(balancer.status()._asdict(), address=balancer.address)
        backends = {name: dict(each._asdict(), first_byte=each.first_byte_time)
                    for name, each in balancer.backend_statuses().items()}
    instances = runtime.supervisor.instances_of(process.id)
    found = [(each, backends.get(each.name)) for each in instances]
    # At one moment, lest a roll-out under way should look like a service that is down.
    healths = [health_of(each, backend["state"] if backend else None) for each, backend in found]
    members = [
        _member(each, backend, health, usages.get(each.pid or 0), runtime.clock())
        for (each, backend), health in in_slices(zip(found, healths))
    ]
    return {
        "id": process.id,
        "autostart": process.autostart,
        "healthy": is_healthy(process, healths),
        "state": state_of(healths),
        "up": sum(each.serves for each in healths),
        "wanted": sum(each.wanted for each in healths),
        "instances": len(found),
        "balancer": _balancer(counts) if counts and counts["address"] else None,
        "members": members,
    }


def _balancer(counts: Plain) -> Plain:
    host, port = counts["address"][:2]
    return dict(_chosen(counts, "strategy accepted open queue queue_most turned_away"),
                host=host, port=port)  # fmt: skip


def _member(
    instance: Instance, backend: "Optional[Plain]", health: Health, usage: "Optional[Usage]",
    now: float,
) -> Plain:  # fmt: skip
    due = instance.due_at
    return {
        "id": instance.name,
        "index": instance.index,
        "port": instance.port,
        "state": health.state,
        "since": _seconds(now - instance.since),
        "wanted": health.wanted,
        "serves": health.serves,
        "pid": instance.pid,
        "uptime": _seconds(instance.uptime if instance.pid is not None else None),
        "restarts": instance.restarts,
        "lastExit": instance.last_exit,
        "retryIn": None if due is None else _seconds(max(0.0, due - now)),
        "cpu": None if usage is None or usage.cpu is None else round(usage.cpu, 4),
        "memory": None if usage is None else usage.memory,
        "backend": None if backend is None else _backend(backend),
    }


def _backend(counts: Plain) -> Plain:
    chosen = _chosen(counts, "state reason open total bytes_in bytes_out connect_errors retries")
    return dict(
        chosen,
        since=_seconds(counts["since"]),
        connectTime=_seconds(counts["connect_time"]),
        firstByteTime=_seconds(counts["first_byte"]),
    )


def _chosen(counts: Plain, names: str) -> Plain:
    """Some of the counters, named as the configuration file would."""
    return {re.sub("_(.)", lambda m: m.group(1).upper(), name): counts[name]
            for name in names.split()}  # fmt: skip


def _seconds(value: "Optional[float]") -> "Optional[float]":
    return None if value is None else round(value, 6)
