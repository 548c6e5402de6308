"""The plain data that all of pupgevent works with: a configuration, and its instances.

Every path is absolute, every time is float seconds, every default is filled in. Two of these tuples
are equal exactly when nothing differs: a reload compares them. How the name, port, pid file and
environment of each instance follow from its process is said here and nowhere else.
"""

import ipaddress
import os
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


#: What `{id}` stands for in the path of pupgevent's own log file.
OWN_ID = "pupgevent"


class Logger(NamedTuple):
    """Where lines go. `log_file_of` makes paths of files of `stdout` and `stderr`."""

    console: bool
    #: False: the console gets the bytes as they came.
    decorate: bool
    #: None: colours if the console is a terminal.
    colors: Optional[bool]
    stdout: Optional[str]
    stderr: Optional[str]
    #: False: the files get the bytes as they came.
    decorate_files: bool
    #: 0: files are not rotated.
    max_bytes: int
    backups: int
    compress: bool
    #: For so long lines are kept in memory.
    internal_log: float


class Watcher(NamedTuple):
    """Which files below the folders of `watch` matter, and for how long they have to be quiet."""

    interval: float
    #: With the dot; empty: any.
    exts: Tuple[str, ...]
    #: Globs, for `globs`.
    match: Tuple[str, ...]
    skip: Tuple[str, ...]


class Control(NamedTuple):
    #: One more path beside the one that follows from the configuration file's.
    socket: Optional[str]


class Dashboard(NamedTuple):
    port: int
    host: str
    token: Optional[str]


class Agent(NamedTuple):
    port: int
    host: str


class Passive(NamedTuple):
    """So many failed answers in a row put an instance out of rotation for so long."""

    count: int  # type: ignore[assignment]
    seconds: float


class Health(NamedTuple):
    #: None: a TCP connect is enough.
    path: Optional[str]
    interval: float
    timeout: float
    rise: int
    fall: int
    restart: bool
    #: For `http`.
    passive: Optional[Passive]


class TlsPair(NamedTuple):
    """A certificate with its chain and its private key, as both files were when they were read."""

    cert: str
    key: str
    #: Of the contents of both (SHA-256, hex): a reload sees that they are others.
    digest: str
    #: Whom the certificate is for, in lower case: names, maybe with `*`, and IP addresses.
    names: Tuple[str, ...]
    #: When it expires, in seconds since the epoch.
    not_after: float


class TlsFile(NamedTuple):
    """A file, as it was when it was read."""

    path: str
    digest: str


class Tls(NamedTuple):
    """How TLS ends at the common port."""

    #: At least one. The first is for clients that name no host, or one that no pair is for.
    pairs: Tuple[TlsPair, ...]
    #: "TLSv1.2" or "TLSv1.3".
    min_version: str
    #: For TLS 1.2, as OpenSSL writes lists; None: those that are as good as TLS 1.3.
    ciphers: Optional[str]
    #: Clients have to show a certificate that one of these has signed.
    client_ca: Optional[TlsFile]


class Cluster(NamedTuple):
    """Several instances; with a common port also a balancer in front of them."""

    instances: int
    start_port: Optional[int]
    common_port: Optional[int]
    common_host: str
    instance_host: str
    #: "tcp" or "http".
    protocol: str
    strategy: str
    ready_timeout: float
    connect_timeout: float
    queue_timeout: float
    queue_limit: int
    #: 0: no limit.
    max_connections: int
    #: Until an instance gets its full share; 0: at once.
    slow_start: float
    #: 0: never.
    idle_timeout: float
    #: 0: never.
    half_close_timeout: float
    #: This and the next three are for `http`, and have their defaults with `tcp`.
    head_timeout: float
    #: 0: never.
    response_timeout: float
    #: Idle connections to each instance.
    keep_upstream: int
    access_log: Optional[str]
    health: Optional[Health]
    proxy_protocol: Optional[str]
    accept_proxy_from: Optional[Tuple[Network, ...]]
    tls: Optional[Tls]


#: A soft and a hard limit of the kernel.
LimitPair = Tuple[int, int]


class ResourceLimits(NamedTuple):
    """Limits of setrlimit(2), in the order in which they are set; None: pupgevent's own.

    The address space is the last, since Python itself may get no more memory after it.
    """

    nofile: Optional[LimitPair]
    core: Optional[LimitPair]
    nproc: Optional[LimitPair]
    memlock: Optional[LimitPair]
    stack: Optional[LimitPair]
    as_: Optional[LimitPair]


class Process(NamedTuple):
    """One application; `user` and `group` are names, None means pupgevent's own."""

    id: str
    cmd: Union[str, Tuple[str, ...]]
    autostart: bool
    #: Patterns as cron_pattern.py reads them, in local time.
    cron: Optional[str]
    terminate: Optional[str]
    overrun: bool
    #: Files, and folders with all that is below; there or not.
    watch: Tuple[str, ...]
    cwd: str
    #: The real path of `cwd` when the file was read: often a link is switched to a new release.
    real_cwd: str
    env: Mapping[str, str]
    #: The variables of `envFile`; those of `env` go before them.
    env_file: Optional[Mapping[str, str]]
    #: Folders separated by colons, appended to PATH.
    path: Optional[str]
    pid_file: Optional[str]
    user: Optional[str]
    group: Optional[str]
    umask: Optional[int]
    nice: Optional[int]
    limits: Optional[ResourceLimits]
    #: Ids of other processes.
    start_after: Tuple[str, ...]
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
    #: Bytes.
    max_memory: Optional[int]
    on_failure: Optional[Union[str, Tuple[str, ...]]]
    essential: bool
    logger: Logger
    cluster: Optional[Cluster]

    @property
    def is_job(self) -> bool:
        """Only its schedule starts it: between two runs it is not expected to be there."""
        return self.cron is not None and not self.autostart

    @property
    def starts_again(self) -> bool:
        """Is it started again after a stop by `terminate`?"""
        always_there = self.autostart and self.cron is None and self.restart != "never"
        return always_there or self.restart == "always"


class Configuration(NamedTuple):
    """Everything that one file says."""

    #: As the user named it.
    path: str
    real_path: str
    folder: str
    name: str
    processes: Tuple[Process, ...]
    logger: Logger
    watcher: Watcher
    control: Control
    dashboard: Optional[Dashboard]
    agent: Optional[Agent]

    @property
    def absolute_path(self) -> str:
        """The path without its working folder; links are kept, and may lead elsewhere by now."""
        return os.path.join(self.folder, os.path.basename(self.path))


class InstanceSpec(NamedTuple):
    """One instance of a process: its name, its number from 0, and where it listens."""

    name: str
    number: int
    host: str
    #: None: it has no port.
    port: Optional[int]


def instance_specs(process: Process) -> List[InstanceSpec]:
    """ID-1 to ID-N, with the ports from `startPort` on; without a cluster only the id, no port."""
    cluster = process.cluster
    if cluster is None:
        return [InstanceSpec(process.id, 0, "", None)]
    return [
        InstanceSpec(
            "%s-%d" % (process.id, number + 1), number, cluster.instance_host,
            None if cluster.start_port is None else cluster.start_port + number,
        )
        for number in range(cluster.instances)
    ]


def with_instances(process: Process, count: int) -> Process:
    """The process with another number of instances; unchanged if it has no cluster."""
    cluster = process.cluster
    return process if cluster is None else process._replace(
        cluster=cluster._replace(instances=count))


def pid_file_of(process: Process, number: int) -> Optional[str]:
    """The pid file of an instance: with several, `run/app.pid` is `run/app-1.pid` for the first."""
    path = process.pid_file
    if path is None or process.cluster is None or process.cluster.instances == 1:
        return path
    stem, suffix = os.path.splitext(path)
    return "%s-%d%s" % (stem, number + 1, suffix)


class OwnedLogger(NamedTuple):
    """A logger, and whose lines it is for."""

    #: Its keys in the file.
    where: Tuple[Union[str, int], ...]
    #: What `{id}` stands for.
    id: str
    instances: int
    logger: Logger

    def files(self, template: Optional[str]) -> List[str]:
        """The log files of all instances, each once."""
        if template is None:
            return []
        return list(dict.fromkeys(
            log_file_of(template, self.id, number) for number in range(self.instances)))


def loggers_of(configuration: Configuration) -> Iterator[OwnedLogger]:
    """All of them, pupgevent's own first."""
    yield OwnedLogger(("logger",), OWN_ID, 1, configuration.logger)
    for index, process in enumerate(configuration.processes):
        count = process.cluster.instances if process.cluster else 1
        yield OwnedLogger(("processes", index, "logger"), str(process.id), count, process.logger)


def log_file_of(template: str, process_id: str, number: int) -> str:
    """The log file of an instance: `{instance}` is 1 for the first, as in its name."""
    return template.replace("{id}", process_id).replace("{instance}", str(number + 1))


def variables_of(process: Process, spec: InstanceSpec) -> Dict[str, str]:
    """The variables of a child's environment that are added to pupgevent's own.

    `PORT` of `envFile` is the same for all instances, so it is wrong for all but one; `env` may set
    another one on purpose.
    """
    variables = dict(process.env_file or {})
    if spec.port is not None:
        variables["PORT"] = str(spec.port)
    variables.update(process.env, PUP_PROCESS_ID=process.id)
    if process.cluster is not None:
        variables["PUP_CLUSTER_INSTANCE"] = str(spec.number)
    if spec.port is not None:
        variables["PUP_CLUSTER_PORT"] = str(spec.port)
    return variables


def same_child(process: Process, other: Process) -> bool:
    """Whether an instance of either would start the same child.

    All other values of a process apply to a child that runs already.
    """
    return keeping_child(process, other) == process


def keeping_child(process: Process, own: Process) -> Process:
    """The process with the values of `own` that a child is made of."""
    return process._replace(
        cmd=own.cmd, cwd=own.cwd, real_cwd=own.real_cwd, env=own.env, env_file=own.env_file,
        path=own.path, pid_file=own.pid_file, user=own.user, group=own.group, umask=own.umask,
        nice=own.nice, limits=own.limits)
