"""The rotation: the instances that get clients, and how an instance enters and leaves it.

The supervising half tells a `Rotation`, by the names of instances; a balancer may stand behind it
(runtime.py).
"""

import math
from typing import Callable, NamedTuple, Optional

from concurrency import Condition, Task
from errors import counted
from model import InstanceSpec

#: What tcp counts: nobody knows what is asked and answered on one.
CONNECTION = "connection"

#: Seconds between two looks at how many connections a drain waits for.
_DRAIN_LOOK = 1.0

#: While that number stays as it is, it is told again after this part of the time that is left:
#: each second of the last ten, and not six hundred times within ten minutes.
_PART_OF_THE_REST = 0.1


class Draining(NamedTuple):
    """What a stop waits for: so many connections, or with http requests, so many seconds at
    most."""

    connections: int
    seconds: float
    unit: str = CONNECTION

    def __str__(self) -> str:
        return "draining, %s, up to %.0f s" % (
            counted(self.connections, self.unit), math.ceil(self.seconds))


class Rotation:
    """What an instance tells to whoever sends it clients. This one has no balancer behind it."""

    def up(self, name: str, host: str, port: int) -> None:
        """The instance accepts: send it clients."""

    def down(self, name: str) -> None:
        """The instance is gone, or about to go: no further client."""

    def suspect(self, name: str, reason: str) -> None:
        """Somebody else accepts on its port: no client, until a probe finds the instance there."""

    def unhealthy(self, name: str, reason: Optional[str]) -> None:
        """Its health checks fail, and why: no client, until they pass (None)."""

    def drain(self, name: str, seconds: float) -> None:
        """No further client; block until its last connection has ended, or so many seconds."""

    def wait_known(self, name: str, checks: int) -> None:
        """The instance is up, and the next one of its process is to stop: block until whoever sends
        clients knows that. On other machines it may take so many checks."""

    def connections_of(self, name: str) -> int:
        """How many connections the instance has."""
        return 0

    def unit(self) -> str:
        """What it has of them: connections, or requests."""
        return CONNECTION

    def remove(self, name: str) -> None:
        """The instance will never come back."""


class Registration:
    """One instance's place in the rotation; tells the rotation each thing once."""

    def __init__(self, rotation: Rotation, spec: InstanceSpec, condition: Condition) -> None:
        self._rotation = rotation
        self._spec = spec
        self._condition = condition
        self._is_in = False
        self._unhealthy: Optional[str] = None

    def enter(self) -> None:
        """The instance accepts; one without a port is in no rotation."""
        if self._spec.port is not None:
            self._is_in, self._unhealthy = True, None
            self._rotation.up(self._spec.name, self._spec.host, self._spec.port)

    def leave(self) -> None:
        """No further client. Idempotent, and does not block."""
        if self._is_in:
            self._is_in = False
            self._rotation.down(self._spec.name)

    def suspect(self, reason: str) -> None:
        """No client, until the rotation finds that the instance itself accepts."""
        if self._is_in:
            self._rotation.suspect(self._spec.name, reason)

    def unhealthy(self, reason: Optional[str]) -> None:
        """No client while there is a reason for that. Idempotent."""
        if self._is_in and reason != self._unhealthy:
            self._unhealthy = reason
            self._rotation.unhealthy(self._spec.name, reason)

    def drain(
        self, seconds: float, is_pointless: Callable[[], bool], tell: Callable[[Draining], None]
    ) -> None:
        """Leave, and give the connections so many seconds to end; blocks until they have, or until
        waiting `is_pointless`.

        `tell` is told what the drain waits for: at first, when the number of connections has
        changed, and now and then as the time passes; once a second at most.
        """
        if self._is_in and seconds > 0:
            drain = Task(self._rotation.drain, self._spec.name, seconds)
            drain.rawlink(lambda _: self._condition.notify())
            self._watch(drain, seconds, is_pointless, tell)
            drain.kill()
        self.leave()

    def _watch(
        self, drain: Task, seconds: float, is_pointless: Callable[[], bool],
        tell: Callable[[Draining], None],
    ) -> None:
        clock, before, due = self._condition.clock, 0, 0.0
        end = clock() + seconds
        while True:
            connections, now = self._rotation.connections_of(self._spec.name), clock()
            if connections != before or (connections and now >= due):
                before = connections
                left = max(0.0, end - now)
                tell(Draining(connections, left, self._rotation.unit()))
                due = now + left * _PART_OF_THE_REST
            look = now + _DRAIN_LOOK
            if self._condition.wait_for(lambda: drain.ready() or is_pointless(), look):
                return
