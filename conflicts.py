"""Conflicts between values that are each right by itself: names, ports, protocols, files.

`configuration.load` looks for them in a file. Whoever changes a configuration that runs (`scale`)
looks again.
"""

from itertools import chain
from typing import Dict, Generator, Iterator, List, NamedTuple, Optional, Tuple

import start_order
import validators
from cluster_keys import HTTP_KEYS, HTTP_STRATEGIES
from errors import KeyPath, format_path, format_value, nearest
from model import (
    Cluster,
    Configuration,
    Dashboard,
    Logger,
    Process,
    instance_specs,
    loggers_of,
    pid_file_of,
)
from schema import Derived, Key, Table


class Conflict(NamedTuple):
    """Keys that are each right by itself, and cannot be used together."""

    where: KeyPath
    reason: str
    #: The other keys that are part of it.
    others: Tuple[KeyPath, ...] = ()


def first(configuration: Configuration) -> Optional[Conflict]:
    """The first conflict in a configuration, or None."""
    return next(find_all(configuration), None)


def find_all(configuration: Configuration) -> Iterator[Conflict]:
    """All conflicts, at most one of each kind for each key.

    In a configuration with mistakes an id, or the port of a table, may be None.
    """
    return chain(
        _name_conflicts(configuration.processes),
        chain.from_iterable(_conflicts_within(i, p) for i, p in enumerate(configuration.processes)),
        _order_conflicts(configuration.processes),
        _unprotected_dashboard(configuration.dashboard),
        _port_conflicts(configuration),
        _file_conflicts(configuration),
    )


def _name_conflicts(processes: Tuple[Process, ...]) -> Iterator[Conflict]:
    taken: Dict[str, str] = {"all": '"all" means every process in the commands, and no single one'}
    for index, process in enumerate(processes):
        if process.id is None:
            continue
        where = ("processes", index, "id")
        instances = [each.name for each in instance_specs(process)] if process.cluster else ()
        name = next((name for name in (process.id, *instances) if name in taken), None)
        if name is not None:
            own = "" if name == process.id else "its instance %s: " % format_value(name)
            yield Conflict(where, own + taken[name])
        reason = "%s is the id of processes[%d] already" % (format_value(process.id), index)
        taken.setdefault(process.id, reason)
        for name in instances:
            reason = "%s is the name of an instance of %s"
            taken.setdefault(name, reason % (format_value(name), format_value(process.id)))


def _conflicts_within(index: int, process: Process) -> Iterator[Conflict]:
    """The conflicts between keys of one process."""
    where: KeyPath = ("processes", index)
    if process.restart_max_delay < process.restart_delay:
        delays = (process.restart_max_delay * 1000, process.restart_delay * 1000)
        reason = "%.12g is less than restartDelayMs, which is %.12g" % delays
        others = (where + ("restartDelayMs",),)
        yield Conflict(where + ("restartMaxDelayMs",), reason, others)
    cluster = process.cluster
    if cluster is None:
        return
    where += ("cluster",)
    if cluster.common_port and not cluster.start_port:
        reason = "it needs startPort as well, for the instances"
        yield Conflict(where + ("commonPort",), reason, (where + ("startPort",),))
    if cluster.health and not cluster.start_port:
        reason = "it needs startPort: an instance without a port cannot be asked"
        yield Conflict(where + ("health",), reason, (where + ("startPort",),))
    last = (cluster.start_port or 1) + cluster.instances - 1
    if last > 65535:
        reason = "the last of %d instances would get port %d: the highest is 65535"
        yield Conflict(where + ("startPort",), reason % (cluster.instances, last))
    if cluster.tls and cluster.tls.ciphers and cluster.tls.min_version != "TLSv1.2":
        reason = "it is for TLS 1.2, and minVersion is %s" % format_value(cluster.tls.min_version)
        others = (where + ("tls", "minVersion"),)
        yield Conflict(where + ("tls", "ciphers"), reason, others)
    if cluster.protocol != "http":
        yield from _http_without_http(where, cluster)


def _http_without_http(where: KeyPath, cluster: Cluster) -> Iterator[Conflict]:
    """What is about requests, in a cluster whose balancer sees none."""
    needs = 'needs the protocol "http" (here it is %s)' % format_value(cluster.protocol)
    others = (where + ("protocol",),)
    if cluster.strategy in HTTP_STRATEGIES:
        reason = "%s %s" % (format_value(cluster.strategy), needs)
        yield Conflict(where + ("strategy",), reason, others)
    for key in HTTP_KEYS:
        is_of_tcp = key.field == "head_timeout" and (cluster.accept_proxy_from or cluster.tls)
        if not is_of_tcp and getattr(cluster, key.field) != _default_of(key):
            yield Conflict(where + (key.name,), "it " + needs, others)
    if cluster.health and cluster.health.passive:
        yield Conflict(where + ("health", "passive"), "it " + needs, others)


def _default_of(key: Key) -> object:
    if isinstance(key.default, Derived) or isinstance(key.type, Table):
        return None
    return key.type.convert(key.default, "/")


def _order_conflicts(processes: Tuple[Process, ...]) -> Iterator[Conflict]:
    """What `startAfter` names is there, is another process, and leads into no circle."""
    known = [each.id for each in processes if each.id is not None]
    for index, process in enumerate(processes):
        for place, wanted in enumerate(process.start_after):
            where = ("processes", index, "startAfter", place)
            if wanted == process.id:
                yield Conflict(where, "%s cannot start after itself" % format_value(wanted))
            elif wanted not in known:
                meant = nearest(wanted, known)
                hint = ": did you mean %s?" % format_value(meant) if meant else ""
                yield Conflict(where, "there is no process %s%s" % (format_value(wanted), hint))
    found = start_order.circle(each for each in processes if each.id not in each.start_after)
    if found:
        first = known.index(found[0])
        reason = "%s start after each other" % " and ".join(map(format_value, sorted(found)))
        others = tuple(("processes", known.index(each), "startAfter") for each in found[1:])
        yield Conflict(("processes", first, "startAfter"), reason, others)


def _unprotected_dashboard(dashboard: Optional[Dashboard]) -> Iterator[Conflict]:
    if dashboard and not dashboard.token and not validators.is_loopback(dashboard.host):
        reason = "%s is not a loopback address: token is required with it"
        others = (("dashboard", "token"),)
        yield Conflict(("dashboard", "host"), reason % format_value(dashboard.host), others)


class _PortClaim(NamedTuple):
    """The ports that one key asks for."""

    where: KeyPath
    first: int
    last: int
    #: The address that pupgevent itself listens on; None for the ports of an application.
    host: Optional[str]
    owner: str
    #: The key of the address.
    host_key: KeyPath = ()

    @property
    def ports(self) -> str:
        if self.first == self.last:
            return "port %d" % self.first
        return "ports %d to %d" % (self.first, self.last)

    def relation_to(self, other: "_PortClaim") -> str:
        if self.first < self.last:
            return "overlap"
        return "lies within" if other.first < other.last else "is already"

    def conflicts_with(self, other: "_PortClaim") -> bool:
        """Whether the two cannot share a port. An application may listen on any address."""
        return self.host is None or other.host is None or _addresses_overlap(self.host, other.host)


def _addresses_overlap(host: str, other: str) -> bool:
    """Whether a port cannot be bound at both addresses: `::` includes IPv4."""
    wide = {"::"} | ({"0.0.0.0"} if ":" not in host + other else set())
    return host == other or host in wide or other in wide


def _port_claims(configuration: Configuration) -> Iterator[_PortClaim]:
    for index, process in enumerate(configuration.processes):
        cluster = process.cluster
        if cluster is None:
            continue
        where, owner = ("processes", index, "cluster"), format_value(process.id)
        if cluster.start_port is not None:
            last = cluster.start_port + cluster.instances - 1
            whose = "the instances of " + owner
            yield _PortClaim(where + ("startPort",), cluster.start_port, last, None, whose)
        if cluster.common_port is not None:
            port, host = cluster.common_port, cluster.common_host
            whose, host_key = "the balancer of " + owner, where + ("commonHost",)
            yield _PortClaim(where + ("commonPort",), port, port, host, whose, host_key)
    dashboard = configuration.dashboard
    if dashboard is not None and dashboard.port is not None:
        port, keys_of = dashboard.port, [("dashboard", "port"), ("dashboard", "host")]
        yield _PortClaim(keys_of[0], port, port, dashboard.host, "the dashboard", keys_of[1])
    agent = configuration.agent
    if agent is not None and agent.port is not None:
        port, keys_of = agent.port, [("agent", "port"), ("agent", "host")]
        yield _PortClaim(keys_of[0], port, port, agent.host, "the agent", keys_of[1])


def _port_conflicts(configuration: Configuration) -> Iterator[Conflict]:
    taken: Dict[int, List[_PortClaim]] = {}
    for claim in _port_claims(configuration):
        ports = range(claim.first, claim.last + 1)
        beside = chain.from_iterable(taken.get(port, ()) for port in ports)
        other = next(filter(claim.conflicts_with, beside), None)
        if other is not None:
            words = (claim.ports, claim.relation_to(other), other.ports, other.owner)
            reason = "%s %s %s of %s" % words
            yield Conflict(claim.where, reason, (claim.host_key, other.host_key))
        for port in ports:
            taken.setdefault(port, []).append(claim)


def _file_conflicts(configuration: Configuration) -> Iterator[Conflict]:
    """Of the pid files, then of the log files with all that has a path by then."""
    own_paths = (configuration.absolute_path, configuration.real_path)
    #: The owner of each path, and the key that its name depends on.
    taken: Dict[str, Tuple[str, KeyPath]] = dict.fromkeys(own_paths, ("the configuration file", ()))
    if configuration.control.socket is not None:
        taken[configuration.control.socket] = ("the control socket", ())
    for index, process in enumerate(configuration.processes):
        where: KeyPath = ("processes", index)
        number = where + ("cluster", "instances")
        count = process.cluster.instances if process.cluster else 1
        paths = [path for path in (pid_file_of(process, n) for n in range(count)) if path]
        path = next((path for path in paths if path in taken), None)
        if path is not None:
            owner, other = taken[path]
            reason = "%s is %s already" % (format_value(path), owner)
            yield Conflict(where + ("pidFile",), reason, (number, other))
        for path in paths:
            taken.setdefault(path, ("the pidFile of processes[%d]" % index, number))
    logs = yield from _log_file_conflicts(configuration, taken)
    yield from _access_log_conflicts(configuration, taken, logs)


#: The keys of a logger that say what becomes of its files.
_FILE_KEYS = (("maxBytes", "max_bytes"), ("backups", "backups"), ("compress", "compress"))


def _log_file_conflicts(
    configuration: Configuration, others: Dict[str, Tuple[str, KeyPath]]
) -> Generator[Conflict, None, Dict[str, Tuple[Logger, KeyPath]]]:
    """A log file is nothing else besides, and all who write to it want the same of it.

    Returns who writes to each path.
    """
    taken: Dict[str, Tuple[Logger, KeyPath]] = {}
    for owned in loggers_of(configuration):
        where, logger = owned.where, owned.logger
        own_errors = None if logger.stderr == logger.stdout else logger.stderr
        for key, template in (("stdout", logger.stdout), ("stderr", own_errors)):
            paths = owned.files(template)
            path = next((path for path in paths if path in others), None)
            if path is not None:
                yield Conflict(where + (key,), "%s is %s already" % (
                    format_value(path), others[path][0]))
            yield from _limits_conflict(where, logger, paths, taken)
    return taken


def _access_log_conflicts(
    configuration: Configuration, others: Dict[str, Tuple[str, KeyPath]],
    logs: Dict[str, Tuple[Logger, KeyPath]],
) -> Iterator[Conflict]:
    """An access log is nothing else besides, so that programs can read it. Two clusters may share
    one, since each line names the instance; it is rotated as the loggers of both say."""
    taken: Dict[str, Tuple[Logger, KeyPath]] = {}
    for index, process in enumerate(configuration.processes):
        path = process.cluster.access_log if process.cluster else None
        if path is None:
            continue
        where: KeyPath = ("processes", index)
        owner = others[path][0] if path in others else ""
        if path in logs:
            owner = "a log file of %s" % format_path(logs[path][1])
        if owner:
            reason = "%s is %s already" % (format_value(path), owner)
            yield Conflict(where + ("cluster", "accessLog"), reason)
        yield from _limits_conflict(where + ("logger",), process.logger, [path], taken)


def _limits_conflict(
    where: KeyPath, logger: Logger, paths: List[str], taken: Dict[str, Tuple[Logger, KeyPath]]
) -> Iterator[Conflict]:
    for path in paths:
        if path.startswith("/dev/"):
            continue  # nothing is rotated there
        other, other_where = taken.setdefault(path, (logger, where))
        for key, field in _FILE_KEYS:
            value, there = getattr(logger, field), getattr(other, field)
            if value != there:
                reason = "%s is written with %s %s by %s as well" % (
                    format_value(path), key, format_value(there), format_path(other_where))
                yield Conflict(where + (key,), reason, (other_where + (key,),))
                return
