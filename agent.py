"""The agent: HAProxy asks it what to do with a server (agent-check), before it finds out itself.

A client sends an id and gets one line:

    up ready 75%     it serves; of a process, three of four instances do
    drain            it is about to stop: no further client, what is open goes on
    down #starting   it does not serve
    unknown          there is no such id: HAProxy notes it, and leaves the server as it is

The id is that of a process or of an instance; none is all that has a port. `fronts` gets to know
who has been answered, since a stop waits for that.
"""

from typing import List, Optional

import lifecycle
from agent_server import AgentServer
from errors import format_value
from instance import Instance
from listening_sockets import host_and_port
from model import Agent as Settings, Process
from movable_server import MovableServer
from runtime import Runtime
from sockets import WarningLimiter
from status import health_of

UP, DRAIN, DOWN, UNKNOWN = "up ready %d%%", "drain", "down #%s", "unknown"

#: Characters that are repeated of an id that is unknown.
_MOST = 80


class Agent:
    """Of one runtime; off until `apply` turns it on."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._server = MovableServer(
            "agent", lambda listener: AgentServer(listener, self._respond))
        self._warnings = WarningLimiter(
            lambda text: runtime.log.warning("agent", text), runtime.clock)

    def prepare(self, settings: Optional[Settings]) -> None:
        """Open the port of these settings, if it is another one; nobody is served there before
        `apply`. Does not block. Raises PupgeventError, and then nothing has changed."""
        self._server.prepare(settings)

    def apply(self, settings: Optional[Settings]) -> None:
        """Serve with these from now on, for which `prepare` has been called; None: no longer."""
        if self._server.apply(settings) and settings is not None:
            self._runtime.log.info(
                "agent", "listening on %s" % host_and_port(settings.host, settings.port))

    def close(self) -> None:
        """Idempotent."""
        self._server.close()

    def _respond(self, asked: str, address: str) -> str:
        answer = answer_about(self._runtime, asked)
        if answer == UNKNOWN:
            self._warnings.warn("%s asks for %s, which is no process, and no instance" % (
                address, format_value(asked[:_MOST])))
        else:
            self._runtime.fronts.note(asked, address)
        return answer


def answer_about(runtime: Runtime, asked: str) -> str:
    """The line about an id, without its end. Does not block."""
    supervisor = runtime.supervisor
    process = supervisor.processes.get(asked)
    if process is not None:
        return _answer(runtime, [process], supervisor.instances_of(asked))
    instance = supervisor.instances.get(asked)
    if instance is not None:
        return _answer(runtime, [instance.process], [instance])
    if asked:
        return UNKNOWN
    members = [each for each in runtime.instances() if each.port is not None]
    return _answer(runtime, list(supervisor.processes.values()), members)


def _answer(runtime: Runtime, processes: "List[Process]", members: "List[Instance]") -> str:
    """About some instances, which are those of these processes."""
    if runtime.closing:
        return _leaving(processes)
    serving = sum(_serves(runtime, each) for each in members)
    if serving:
        # HAProxy takes a server of 0 % out.
        return UP % max(1, 100 * serving // len(members))
    if any(each.process_id in runtime.balancers and _returns(each) for each in members):
        # Clients wait in the queue of the balancer. Somebody else has room for nearly all of them,
        # but if there is nobody else, this is better than none.
        return UP % 1
    states = {each.state for each in members}
    if lifecycle.STOPPING in states:
        return _leaving(processes)
    return DOWN % next(iter(sorted(states)), "without instances")


def _leaving(processes: "List[Process]") -> str:
    """Where clients come back to their server by a cookie, HAProxy would go on to send them to one
    that drains."""
    if any(each.cluster is not None and each.cluster.strategy == "cookie" for each in processes):
        return DOWN % "draining"
    return DRAIN


def _serves(runtime: Runtime, instance: Instance) -> bool:
    return health_of(instance, runtime.backend_state(instance)).serves


def _returns(instance: Instance) -> bool:
    """It is restarted because somebody has asked for it, and not because it has failed."""
    if instance.returning or instance.recycling:
        return True
    again = instance.wanted and not instance.recovering
    in_between = instance.state == lifecycle.STOPPED
    return again and (in_between or (
        instance.state == lifecycle.STARTING and instance.attempts > 1))
