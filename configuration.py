"""The configuration file, read and checked: a `Configuration`, or a line for each mistake.

`load` is pure: it reads the file and what the file names (folders, users), starts
nothing and may run in a worker thread. The tuples hold what pupgevent works with:
every path is absolute, every time is float seconds, every default is filled in, and
two of them are equal exactly when nothing differs, which is what a reload looks at.
"""

import os
import pickle
from itertools import chain
from typing import BinaryIO, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

import checks
import documents
import keys
import pidfile
import reader
from documents import Document
from errors import ConfigurationError, Mistake
from records import Fields
from wording import Path, show, spelled


class Logger(NamedTuple):
    console: bool
    stdout: Optional[str]
    stderr: Optional[str]
    #: None: if the console is a terminal.
    colors: Optional[bool]
    max_bytes: int
    backups: int


class Control(NamedTuple):
    #: None: a path that follows from the configuration file's.
    socket: Optional[str]


class Dashboard(NamedTuple):
    port: int
    host: str
    token: Optional[str]


class Health(NamedTuple):
    #: None: a TCP connect is enough.
    path: Optional[str]
    interval: float
    timeout: float
    rise: int
    fall: int
    restart: bool


class Tls(NamedTuple):
    cert: str
    key: str
    min_version: str


class Cluster(NamedTuple):
    """Several instances; with a common port also a balancer in front of them."""

    instances: int
    start_port: Optional[int]
    common_port: Optional[int]
    common_host: str
    instance_host: str
    strategy: str
    ready_timeout: float
    connect_timeout: float
    queue_timeout: float
    queue_limit: int
    #: 0: no limit.
    max_connections: int
    #: 0: never.
    idle_timeout: float
    #: 0: never.
    half_close_timeout: float
    health: Optional[Health]
    proxy_protocol: Optional[str]
    accept_proxy_from: Optional[Tuple[checks.Network, ...]]
    tls: Optional[Tls]


class Process(NamedTuple):
    """One application; `user` and `group` are names, None means pupgevent's own."""

    id: str
    cmd: Union[str, Tuple[str, ...]]
    autostart: bool
    cwd: str
    #: Where that led when the file was read: a release is often a link that is switched.
    real_cwd: str
    env: Mapping[str, str]
    #: Folders between colons, to be appended to PATH.
    path: Optional[str]
    pid_file: Optional[str]
    user: Optional[str]
    group: Optional[str]
    restart: str
    restart_delay: float
    restart_max_delay: float
    restart_limit: Optional[int]
    min_uptime: float
    timeout: Optional[float]
    terminate_grace_period: float
    terminate_timeout: float
    #: The number of a signal.
    stop_signal: int
    essential: bool
    logger: Logger
    cluster: Optional[Cluster]


class Configuration(NamedTuple):
    """Everything that one file says."""

    #: As the user named it.
    path: str
    real_path: str
    folder: str
    name: str
    processes: Tuple[Process, ...]
    logger: Logger
    control: Control
    dashboard: Optional[Dashboard]

    @property
    def absolute_path(self) -> str:
        """The same from any folder; links are kept, and may lead elsewhere by now."""
        return os.path.join(self.folder, os.path.basename(self.path))


#: The keys in Markdown, as the README has them.
reference = keys.reference


def load(path: str, everything: bool = False) -> Configuration:
    """The configuration in a file; raises ConfigurationError with all that is wrong with it.

    `everything` lets the keys through that are checked but not yet supported.
    """
    return read(path, everything)[0]


def read(path: str, everything: bool = False) -> Tuple[Configuration, Document]:
    """As `load`, and with it the document, which knows the lines."""
    document = documents.read(path)
    reading = reader.read(document, path, everything)
    configuration = _configuration(path, reading.fields)
    mistakes = list(reading.mistakes)
    for clash in conflicts(configuration):
        # What rests on a value that is wrong itself may be right once that is.
        if all(map(reading.knows, (clash.where, *clash.others))):
            message = "%s: %s" % (spelled(clash.where), clash.reason)
            mistakes.append(Mistake(document.line(*clash.where), message))
    if mistakes:
        first, *further = sorted(mistakes, key=lambda mistake: mistake.line or 0)
        raise ConfigurationError(path, first.line, first.message, further)
    return configuration, document


def send(path: str, file: BinaryIO) -> None:
    """For another process of the same `edition`: that, what `load` finds without its processes,
    and each of these, as pickles; or that, and what a ConfigurationError holds."""
    pickle.dump(edition(), file)
    try:
        found = load(path)
    except ConfigurationError as error:
        pickle.dump((error.args, vars(error)), file)
        return
    for each in (found._replace(processes=()),) + found.processes:
        pickle.dump(each, file)


def edition() -> str:
    """Differs wherever the same file could be read in another way."""
    kinds = (Logger, Control, Dashboard, Health, Tls, Cluster, Process, Configuration)
    return "%s\n%s" % (reference(), [kind._fields for kind in kinds])


def _configuration(path: str, top: Fields) -> Configuration:
    return Configuration(
        path=path,
        real_path=os.path.realpath(path),
        folder=top["folder"],
        name=top["name"],
        processes=tuple(_process(fields) for fields in top["processes"] or ()),
        logger=Logger(**top["logger"]),
        control=Control(**top["control"]),
        dashboard=Dashboard(**top["dashboard"]) if top["dashboard"] else None,
    )


def _process(fields: Fields) -> Process:
    cluster = _cluster(fields["cluster"]) if fields["cluster"] else None
    changed = {"logger": Logger(**fields["logger"]), "cluster": cluster,
               "real_cwd": os.path.realpath(fields["cwd"])}
    return Process(**dict(fields, **changed))


def _cluster(fields: Fields) -> Cluster:
    health = Health(**fields["health"]) if fields["health"] else None
    tls = Tls(**fields["tls"]) if fields["tls"] else None
    return Cluster(**dict(fields, health=health, tls=tls))


def instance_names(process: Process) -> Tuple[str, ...]:
    """What the instances of a process are called: ID-1 to ID-N, or just its id."""
    if process.cluster is None:
        return (process.id,)
    return tuple("%s-%d" % (process.id, n + 1) for n in range(process.cluster.instances))


def instance_port(process: Process, index: int) -> Optional[int]:
    """The port of an instance, which counts from 0; None where it has none."""
    if process.cluster is None or process.cluster.start_port is None:
        return None
    return process.cluster.start_port + index


class Conflict(NamedTuple):
    """Keys that are right each by itself and cannot all be had."""

    where: Path
    reason: str
    #: The other keys that this rests on.
    others: Tuple[Path, ...] = ()


def conflict(configuration: Configuration) -> Optional[Conflict]:
    """The first thing in which the parts of a configuration are at odds, or None.

    `load` has looked; whoever changes a configuration (a cluster scales) looks again.
    """
    return next(conflicts(configuration), None)


def conflicts(configuration: Configuration) -> Iterator[Conflict]:
    """All of them, one for each key; an id, or the dashboard's port, may be None."""
    return chain(
        _taken_names(configuration.processes),
        chain.from_iterable(_odd_process(i, p) for i, p in enumerate(configuration.processes)),
        _open_dashboard(configuration.dashboard),
        _taken_ports(configuration),
        _taken_pid_files(configuration),
    )


def _taken_names(processes: Tuple[Process, ...]) -> Iterator[Conflict]:
    taken: Dict[str, str] = {"all": '"all" means every process in the commands, and no single one'}
    for index, process in enumerate(processes):
        if process.id is None:
            continue
        where = ("processes", index, "id")
        instances = instance_names(process) if process.cluster else ()
        name = next((name for name in (process.id, *instances) if name in taken), None)
        if name is not None:
            own = "" if name == process.id else "its instance %s: " % show(name)
            yield Conflict(where, own + taken[name])
        reason = "%s is the id of processes[%d] already" % (show(process.id), index)
        taken.setdefault(process.id, reason)
        for name in instances:
            reason = "%s is the name of an instance of %s" % (show(name), show(process.id))
            taken.setdefault(name, reason)


def _odd_process(index: int, process: Process) -> Iterator[Conflict]:
    """What is at odds inside one process."""
    where: Path = ("processes", index)
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
    last = (cluster.start_port or 1) + cluster.instances - 1
    if last > 65535:
        reason = "the last of %d instances would get port %d: the highest is 65535"
        yield Conflict(where + ("startPort",), reason % (cluster.instances, last))


def _open_dashboard(dashboard: Optional[Dashboard]) -> Iterator[Conflict]:
    if dashboard and not dashboard.token and not checks.is_loopback(dashboard.host):
        reason = "%s is not a loopback address: token is required with it"
        others = (("dashboard", "token"),)
        yield Conflict(("dashboard", "host"), reason % show(dashboard.host), others)


class _Claim(NamedTuple):
    """Ports that one key asks for."""

    where: Path
    first: int
    last: int
    #: The address that pupgevent itself listens on; None for what an application does.
    host: Optional[str]
    owner: str
    #: The key that says the address.
    host_key: Path = ()

    @property
    def ports(self) -> str:
        if self.first == self.last:
            return "port %d" % self.first
        return "ports %d to %d" % (self.first, self.last)

    def relation(self, other: "_Claim") -> str:
        if self.first < self.last:
            return "overlap"
        return "lies within" if other.first < other.last else "is already"

    def clashes(self, other: "_Claim") -> bool:
        """Whether the two cannot share a port: what address an application takes is not known."""
        return self.host is None or other.host is None or _overlap(self.host, other.host)


def _overlap(host: str, other: str) -> bool:
    """Whether a port cannot be had at both addresses: `::` takes IPv4 too."""
    wide = {"::"} | ({"0.0.0.0"} if ":" not in host + other else set())
    return host == other or host in wide or other in wide


def _claims(configuration: Configuration) -> Iterator[_Claim]:
    for index, process in enumerate(configuration.processes):
        cluster = process.cluster
        if cluster is None:
            continue
        where, owner = ("processes", index, "cluster"), show(process.id)
        if cluster.start_port is not None:
            last = cluster.start_port + cluster.instances - 1
            whose = "the instances of " + owner
            yield _Claim(where + ("startPort",), cluster.start_port, last, None, whose)
        if cluster.common_port is not None:
            port, host = cluster.common_port, cluster.common_host
            whose, host_key = "the balancer of " + owner, where + ("commonHost",)
            yield _Claim(where + ("commonPort",), port, port, host, whose, host_key)
    dashboard = configuration.dashboard
    if dashboard is not None and dashboard.port is not None:
        port, keys_of = dashboard.port, [("dashboard", "port"), ("dashboard", "host")]
        yield _Claim(keys_of[0], port, port, dashboard.host, "the dashboard", keys_of[1])


def _taken_ports(configuration: Configuration) -> Iterator[Conflict]:
    taken: Dict[int, List[_Claim]] = {}
    for claim in _claims(configuration):
        ports = range(claim.first, claim.last + 1)
        beside = chain.from_iterable(taken.get(port, ()) for port in ports)
        other = next(filter(claim.clashes, beside), None)
        if other is not None:
            words = (claim.ports, claim.relation(other), other.ports, other.owner)
            reason = "%s %s %s of %s" % words
            yield Conflict(claim.where, reason, (claim.host_key, other.host_key))
        for port in ports:
            taken.setdefault(port, []).append(claim)


def _taken_pid_files(configuration: Configuration) -> Iterator[Conflict]:
    own_paths = (configuration.absolute_path, configuration.real_path)
    #: Whose each path is, and the key that its name rests on.
    taken: Dict[str, Tuple[str, Path]] = dict.fromkeys(own_paths, ("the configuration file", ()))
    if configuration.control.socket is not None:
        taken[configuration.control.socket] = ("the control socket", ())
    for index, process in enumerate(configuration.processes):
        where: Path = ("processes", index)
        number = where + ("cluster", "instances")
        count = process.cluster.instances if process.cluster else 1
        paths = [path for path in (pidfile.path_for(process, n) for n in range(count)) if path]
        path = next((path for path in paths if path in taken), None)
        if path is not None:
            owner, other = taken[path]
            reason = "%s is %s already" % (show(path), owner)
            yield Conflict(where + ("pidFile",), reason, (number, other))
        for path in paths:
            taken.setdefault(path, ("the pidFile of processes[%d]" % index, number))
