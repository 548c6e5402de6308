"""Which instances serve, and which fail: one answer for `status`, systemd and whatever shows it."""

from typing import Iterable, NamedTuple, Optional, Sequence

import backends
from instance import Instance
from lifecycle import FINISHED, RUNNING, STARTING, STOPPED, STOPPING
from rollout import FAILED, should_run
from world import Process

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
