"""A running pupgevent: the supervisor and the balancers of one configuration, wired together.

The two do not know each other. What joins them is here: each process has a `RotationAdapter`,
to which its instances report, and behind it stands the balancer, where the process has one.
"""

import time
from typing import Callable, Dict, Iterable, List, Optional, Set, Tuple

import conflicts
import ports
from balancer import Balancer, BalancerOwner
from concurrency import Threads, in_slices
from conflicts import Conflict
from engine import Engine
from errors import PupgeventError, counted
from fronts import LONGEST, Fronts
from instance import Instance
from listener import Listener, PortTaken
from logs import LineWriter
from model import Configuration, InstanceSpec, Logger, Process
from outlets import Outlets
from rollout import ProcessLocks
from rotation import Rotation
from scheduler import Scheduler
from sockets import Limits
from start_order import longest_chain
from supervisor import Supervisor, SupervisorOwner

#: Address and port.
Place = Tuple[str, int]

#: Seconds for a look at who has a port.
_LOOK_UP = 10.0


class RotationAdapter(Rotation):
    """What instances of one process report to, whether there is a balancer or not, or not yet."""

    def __init__(self, fronts: Fronts) -> None:
        self._fronts = fronts
        self._balancer: Optional[Balancer] = None
        self._up: Dict[str, Place] = {}
        self._unhealthy: Dict[str, Optional[str]] = {}

    def put_before(self, balancer: Balancer) -> None:
        """Tell the balancer of those who are up, and from now on of everything."""
        self._balancer = balancer
        for name, (host, port) in self._up.items():
            balancer.up(name, host, port)
            balancer.unhealthy(name, self._unhealthy.get(name))

    def up(self, name: str, host: str, port: int) -> None:
        self._up[name] = (host, port)
        self._unhealthy.pop(name, None)
        if self._balancer is not None:
            self._balancer.up(name, host, port)

    def down(self, name: str) -> None:
        self._up.pop(name, None)
        if self._balancer is not None:
            self._balancer.down(name)

    def suspect(self, name: str, reason: str) -> None:
        if self._balancer is not None:
            self._balancer.suspect(name, reason)

    def unhealthy(self, name: str, reason: Optional[str]) -> None:
        self._unhealthy[name] = reason
        if self._balancer is not None:
            self._balancer.unhealthy(name, reason)

    def drain(self, name: str, seconds: float) -> None:
        if self._balancer is not None:
            self._balancer.drain(name, seconds)
        else:
            self._fronts.wait_told([name], min(seconds, LONGEST))

    def wait_known(self, name: str, checks: int) -> None:
        if self._balancer is None:
            self._fronts.wait_checked(name, checks)

    def connections_of(self, name: str) -> int:
        return 0 if self._balancer is None else self._balancer.connections_of(name)

    def unit(self) -> str:
        return super().unit() if self._balancer is None else self._balancer.unit

    def remove(self, name: str) -> None:
        """The instance will not come back."""
        self._up.pop(name, None)
        self._unhealthy.pop(name, None)
        self._fronts.forget(name)
        if self._balancer is not None:
            self._balancer.remove(name)


class RuntimeOwner:
    """Whoever has a `Runtime`, and is told by it; must not block."""

    def on_essential(self, name: str) -> None:
        """An essential instance is given up."""

    def on_reach_changed(self) -> None:
        """A balancer no longer reaches an instance that runs, or does so again."""

    def prepare(self, configuration: Configuration) -> None:
        """This one is about to run: get what it needs besides processes and their ports. Raises
        PupgeventError, and then it does not run."""

    def on_configured(self) -> None:
        """The configuration that runs is another."""


class Runtime(SupervisorOwner, BalancerOwner):
    """The supervisor, the balancers, and what joins them.

    `clock` is monotonic seconds: the one clock of both halves; `limits` are those of the children's
    descriptors.
    """

    def __init__(
        self,
        configuration: Configuration,
        outlets: Outlets,
        owner: RuntimeOwner,
        clock: "Callable[[], float]" = time.monotonic,
        limits: "Optional[Limits]" = None,
    ) -> None:
        self.configuration = configuration
        self._owner = owner
        self.clock = clock
        self.began_at = clock()
        self.closing = False
        #: For the file and for /proc: these of our own disks answer whatever children wait for.
        self.threads = Threads(2)
        self.log = outlets.log
        self.history = outlets.history
        self.log_files = outlets.log_files
        #: Called with each instance whose state has changed.
        self.watchers: Set[Callable[[Instance], None]] = set()
        self.engine = Engine(self.warn, clock)
        self.fronts = Fronts(clock)
        self.balancers: Dict[str, Balancer] = {}
        #: Of processes that are gone, with connections that are not.
        self._retired: List[Balancer] = []
        self._parting = False
        self.rotations: Dict[str, RotationAdapter] = {}
        #: Where each balancer listens.
        self._places: Dict[str, Place] = {}
        self._outlets = outlets
        self.engine.certificates.load(configuration.processes)
        for process in configuration.processes:
            self.prepare(process)
        self.supervisor = Supervisor(
            configuration.processes, self.log, owner=self, clock=clock, limits=limits)
        #: Which change holds which process.
        self.locks = ProcessLocks()
        self.scheduler = Scheduler(self.supervisor, self.locks, self.log)

    def listen(self) -> None:
        """Open every common port, before anything is started; raises PupgeventError."""
        processes = self.configuration.processes
        self.move_ports(processes, self.open_ports(processes))

    def start(self) -> None:
        """Start what has `autostart`; does not wait for it."""
        self.supervisor.startup()
        self.scheduler.update(self.configuration.processes)

    def shutdown(self) -> None:
        """Stop accepting once proxies elsewhere know of it, stop all instances side by side; blocks
        until nothing lives."""
        self.closing = True
        self.scheduler.close()
        addresses = self.fronts.addresses()
        if addresses:
            text = "goes on until each front knows that it stops, %g s at most: %s"
            self.log.info("agent", text % (LONGEST, ", ".join(addresses)))
        self.fronts.wait_told_of_all()
        for balancer in self.balancers.values():
            balancer.stop_listening()
        end = self.clock() + self._longest_stop()
        self.supervisor.shutdown()
        self._parting = True
        for balancer in [*self.balancers.values(), *self._retired]:
            balancer.wait_delivered(end - self.clock())
        self.close()

    def _longest_stop(self) -> float:
        """Seconds that a stop may take by what is configured."""
        return longest_chain(
            self.configuration.processes,
            lambda each: each.terminate_grace_period + each.terminate_timeout)

    def refuse_when_closing(self) -> None:
        """Raises PupgeventError once everything is to stop."""
        if self.closing:
            raise PupgeventError("pupgevent is stopping")

    def kill(self) -> None:
        """Do not wait for anyone; a `shutdown` under way then ends at once."""
        self.closing = True
        self.scheduler.close()
        self.fronts.hurry()
        self.supervisor.kill()
        if self._parting:
            self.close()

    def close(self) -> None:
        """Close what is open; idempotent."""
        for balancer in [*self.balancers.values(), *self._retired]:
            balancer.close()
        self.engine.close()

    # One process; `operations` and `reload` call these while things run

    def prepare(self, process: Process) -> None:
        """Have what its instances need before there are any. Idempotent."""
        self.rotations.setdefault(process.id, RotationAdapter(self.fronts))
        self._outlets.set(process)
        if process.cluster is None or process.cluster.common_port is None:
            return
        balancer = self.balancers.get(process.id)
        if balancer is None:
            balancer = Balancer(process.id, process.cluster, self.engine, self)
            self.balancers[process.id] = balancer
            self.rotations[process.id].put_before(balancer)
        balancer.access_log = self._outlets.access_log(process.id)

    def open_ports(self, processes: "Iterable[Process]") -> "Dict[Place, Listener]":
        """Those common ports of these processes that nobody of us holds, for `move_ports`.

        Nothing is accepted there yet. Raises PupgeventError where one cannot be had; then none of
        them stays open.
        """
        held = set(self._places.values())
        fresh: Dict[Place, Listener] = {}
        try:
            for place in in_slices(places_of(processes).values()):
                if place not in held:
                    fresh[place] = self._open_one(place)
        except BaseException:
            for listener in fresh.values():
                listener.close()
            raise
        return fresh

    def move_ports(
        self, processes: "Iterable[Process]", fresh: "Dict[Place, Listener]"
    ) -> None:
        """Listen at the common ports of these processes, and at no others; `fresh` are those that
        were opened for it. Who has got through to a port that closes is still served.
        """
        after = {process.id: process for process in processes}
        wanted = places_of(after.values())
        moved = {each: after[each] for each in wanted if wanted[each] != self._places.get(each)}
        free = {
            self._places.pop(each): self.balancers[each].hand_over()
            for each in list(self._places)
            if each in moved or each not in wanted
        }
        free.update(fresh)
        try:
            for each, process in in_slices(moved.items()):
                self.refuse_when_closing()
                self.prepare(process)
                self._places[each] = wanted[each]
                self.balancers[each].take_over(free.pop(wanted[each]))
                self._tell_place(process)
        finally:
            for listener in in_slices(free.values()):
                listener.close() if self.closing else listener.drain()

    def _open_one(self, place: Place) -> Listener:
        host, port = place
        beside = [each for each, (_, other) in self._places.items() if other == port]
        try:
            return Listener(
                host, port, self.warn, self.clock,
                self.balancers[beside[0]].listener if beside else None,
            )  # fmt: skip
        except PupgeventError as error:
            for instance in self.supervisor.instances.values():
                if instance.port == port and instance.pid is not None:
                    raise PupgeventError(
                        "%s: %s has it; stop that first, or restart pupgevent" % (
                            error, instance.name)) from None
            if isinstance(error, PortTaken):
                raise PupgeventError("%s by %s" % (error, self._port_owner(host, port))) from None
            raise

    def intruder(self, name: str) -> str:
        """Who else accepts in the place of an instance; blocks the greenlet for a look."""
        instance = self.supervisor.instances.get(name)
        return "" if instance is None else instance.intruder()

    def _port_owner(self, host: str, port: int) -> str:
        """Who has it; blocks the calling greenlet only."""
        return self.threads.ask(_LOOK_UP, _owner_or_rest, host, port) or "somebody unknown"

    def _tell_place(self, process: Process) -> None:
        cluster = process.cluster
        if cluster is not None:
            text = "%s: listening on %s port %d, %s over %s"
            self.log.info("balancer", text % (
                process.id, cluster.common_host, cluster.common_port or 0, cluster.strategy,
                counted(cluster.instances, "instance")))  # fmt: skip

    def set_logger(self, logger: Logger) -> bool:
        """How our own lines look, and whether the console gets them; False: as before."""
        return self._outlets.set_own(logger)

    def in_effect(self, process: Process) -> Process:
        """With what its settings come to here: two that differ in this differ for somebody."""
        return process._replace(logger=self._outlets.in_effect(process.logger))

    def forget(self, process_id: str) -> None:
        """The process is gone for good; what it said last still gets to its clients."""
        self._places.pop(process_id, None)
        balancer = self.balancers.pop(process_id, None)
        if balancer is not None:
            balancer.retire()
            self._retired = [each for each in self._retired if not each.closed] + [balancer]
        del self.rotations[process_id]
        self.fronts.forget(process_id)
        self._outlets.forget(process_id)

    def instances(self) -> "List[Instance]":
        return list(self.supervisor.instances.values())

    def changed_configuration(
        self, change: "Callable[[Configuration], Configuration]"
    ) -> "Tuple[Configuration, Optional[Conflict]]":
        """What `change` makes of the configuration that runs, and what in it cannot be had.

        Looked at in a thread, for there may be thousands; blocks the calling greenlet, and does it
        again where somebody else has changed the configuration meanwhile.
        """
        while True:
            present = self.configuration
            changed = change(present)
            conflict = self.threads.call(conflicts.first, changed)
            if present is self.configuration:
                return changed, conflict

    def adopt(self, configuration: Configuration) -> None:
        """From now on this is what counts. Raises PupgeventError, and then it does not."""
        self._owner.prepare(configuration)
        self.configuration = configuration
        self._owner.on_configured()

    def lost_requests(self) -> int:
        """That instances have left without an answer, as far as balancers know of requests."""
        return sum(each.lost() for each in [*self.balancers.values(), *self._retired])

    def backend_state(self, instance: Instance) -> "Optional[str]":
        """What its balancer makes of it; None where it has none."""
        balancer = self.balancers.get(instance.process_id)
        return None if balancer is None else balancer.state_of(instance.name)

    # What the supervisor asks and tells, as SupervisorOwner

    def rotation_for(self, process: Process) -> Rotation:
        return self.rotations[process.id]

    def writers_for(self, process: Process, spec: InstanceSpec) -> Tuple[LineWriter, LineWriter]:
        return self._outlets.writers(process, spec)

    def on_change(self, instance: Instance) -> None:
        for watcher in list(self.watchers):
            watcher(instance)

    def on_essential(self, instance: Instance) -> None:
        self._owner.on_essential(instance.name)

    # What the balancers tell

    def on_reach_changed(self) -> None:
        self._owner.on_reach_changed()

    def warn(self, text: str) -> None:
        self.log.warning("balancer", text)


def places_of(processes: "Iterable[Process]") -> "Dict[str, Place]":
    """Where the balancer of each listens, of those that have one."""
    return {
        each.id: (each.cluster.common_host, each.cluster.common_port)
        for each in processes
        if each.cluster is not None and each.cluster.common_port is not None
    }


def _owner_or_rest(host: str, port: int) -> str:
    """For a thread."""
    return ports.owner(host, port) or "connections that have not ended"


