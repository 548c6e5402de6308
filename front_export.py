"""What stands behind a proxy in front of several machines: what both of its exports are made from.

Each machine runs the same configuration. The clusters of it that have ports are behind the front:
by the common port of each machine, or where a cluster has none (the external mode), by each of its
instances.
"""

import re
import textwrap
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Set

import validators
from errors import ConfigurationError
from fronts import AGENT_INTERVAL, DOWN_INTERVAL, FAST_INTERVAL
from listening_sockets import host_and_port
from model import (
    Agent,
    Cluster,
    Configuration,
    Health,
    Process,
    Tls,
    TlsPair,
    instance_specs,
)

#: Added to a port that pupgevent itself has on the machine of the front.
_ASIDE = 10000

#: What a browser asks for, without and with TLS.
_WEB, _WEB_TLS = 80, 443

#: Seconds for a client's connection between two requests: what browsers keep, at most.
KEEP_ALIVE = 60.0

#: Seconds after which a time-out that is never is over: no timer of theirs is longer.
NEVER = 24 * 24 * 3600.0

#: A machine that says nothing any more, without closing its connections, is given up: keep-alive
#: asks after so many seconds, then each of these, and so often.
SILENCE, SILENCE_EVERY, SILENCE_COUNT = 3, 1, 3

#: What is not worth compressing is not text.
COMPRESSED = (
    "text/plain", "text/css", "text/javascript", "text/xml", "application/javascript",
    "application/json", "application/xml", "application/manifest+json", "image/svg+xml",
)

#: What a client may name by SNI, maybe a wildcard. A certificate may also be for something else: an
#: address, or a name of no host.
_HOST_NAME = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_ADDRESS = re.compile(r"[0-9.]+")

#: Width of a comment.
_WIDTH = 98


class Server(NamedTuple):
    """What the front connects to."""

    name: str
    host: str
    port: int
    #: What the agent of its machine is asked for.
    asked: str

    @property
    def address(self) -> str:
        return host_and_port(self.host, self.port)


class Section(NamedTuple):
    """A cluster as the front has it."""

    process: Process
    cluster: Cluster
    #: With the letters that names may have in both.
    name: str
    http: bool
    #: False: the front goes to the common port of each machine.
    external: bool
    #: Where the front listens.
    port: int
    servers: List[Server]
    #: What there is to know, a paragraph each.
    remarks: List[str]

    @property
    def tls_at_front(self) -> bool:
        """Does TLS end there? It has to where the front sees requests, or where instances, which
        speak none, are behind it."""
        return self.cluster.tls is not None and (self.http or self.external)

    @property
    def tls_behind(self) -> bool:
        """Does the front speak TLS to a common port that wants it?"""
        return self.cluster.tls is not None and self.http and not self.external

    @property
    def machine_name(self) -> str:
        """The host that the front names by SNI to a common port with TLS; empty where the first
        certificate is for none."""
        tls = self.cluster.tls
        names = host_names(tls.pairs[0]) if tls is not None and self.tls_behind else []
        return next((each for each in names if "*" not in each), "")

    @property
    def announces(self) -> Optional[str]:
        """The version of the PROXY protocol that is spoken to the servers."""
        if self.external:
            return self.cluster.proxy_protocol
        believed = self.cluster.accept_proxy_from and self.cluster.protocol == "tcp"
        return "v2" if believed else None

    @property
    def most(self) -> int:
        """Connections to one server; 0: no limit. A common port has a queue of its own."""
        return self.cluster.max_connections if self.external else 0

    @property
    def health(self) -> Health:
        """How each server is looked at. A common port accepts as long as pupgevent is there; what
        its instances are good for, it finds out itself."""
        if self.external and self.cluster.health is not None:
            return self.cluster.health
        timeout = max(1.0, self.cluster.connect_timeout)
        return Health(None, AGENT_INTERVAL, timeout, 1, 2, False, None)

    @property
    def answer_timeout(self) -> float:
        """Seconds for an answer to begin, and between two parts of it. A balancer behind the front
        answers by itself when its own time is over."""
        cluster = self.cluster
        if self.external and self.http and cluster.response_timeout:
            return cluster.response_timeout
        return cluster.idle_timeout or NEVER


class Front(NamedTuple):
    """All of it."""

    configuration: Configuration
    sections: List[Section]
    agent: Optional[Agent]
    #: Its machines are not this one.
    remote: bool


def host_names(pair: TlsPair) -> List[str]:
    """What clients name by SNI to get this certificate."""
    return [each for each in pair.names
            if _HOST_NAME.fullmatch(each) and not _ADDRESS.fullmatch(each)]


def variable(name: str) -> str:
    """The name with the letters of variables and cookies."""
    return re.sub("[^a-z0-9]", "_", name.lower())


def milliseconds(seconds: float) -> str:
    return "%dms" % max(1, round(seconds * 1000)) if seconds % 1 else "%ds" % seconds


def down_interval(health: Health) -> float:
    """Seconds between two checks of a server that is down: what a roll-out counts on."""
    return min(health.interval, DOWN_INTERVAL)


def fast_interval(health: Health) -> float:
    """The same of one that is about to change."""
    return min(health.interval, FAST_INTERVAL)


def comment(text: str, indent: str = "") -> List[str]:
    """A paragraph as lines of a comment, which both programs begin alike."""
    width = _WIDTH - len(indent)
    return [indent + "# " + line for line in textwrap.wrap(text, width, break_long_words=False)]


def front(
    configuration: Configuration, hosts: Sequence[str], http: bool, program: str
) -> Front:
    """What is behind the front; raises ConfigurationError where nothing can be."""
    behind = [(each, each.cluster) for each in configuration.processes
              if each.cluster is not None and each.cluster.start_port is not None]
    if not behind:
        reason = "export %s: no process has a cluster with ports: add startPort, or commonPort"
        raise ConfigurationError(configuration.path, None, reason % program)
    remote = not any(_is_here(each) for each in hosts) if hosts else False
    maker = _Maker(configuration, hosts, http, remote)
    return Front(
        configuration, [maker.section(*each) for each in behind], configuration.agent, remote)


def _is_here(host: str) -> bool:
    """Names but one are somewhere else."""
    try:
        return host == "localhost" or validators.is_loopback(host)
    except ValueError:
        return False


class _Maker:
    def __init__(
        self, configuration: Configuration, hosts: Sequence[str], http: bool, remote: bool
    ) -> None:
        self._configuration = configuration
        self._hosts = hosts
        self._http = http
        self._remote = remote
        #: Ports that pupgevent has, where it runs on the machine of the front, and those that the
        #: front has by now.
        self._taken: Set[int] = set() if remote else _own_ports(configuration)
        self._names: Set[str] = set()
        self._has_web = False

    def section(self, process: Process, cluster: Cluster) -> Section:
        external = cluster.common_port is None
        http = self._http or cluster.protocol == "http"
        section = Section(
            process, cluster, self._name(process.id), http, external, 0,
            self._servers(process, cluster), [])
        section = section._replace(port=self._port(section))
        self._remark(section)
        return section

    def _name(self, wanted: str) -> str:
        """Another one for each, also as a part of variables of NGINX."""
        name = base = re.sub("[^A-Za-z0-9_.-]", "-", wanted)
        number = 1
        while variable(name) in self._names:
            number += 1
            name = "%s-%d" % (base, number)
        self._names.add(variable(name))
        return name

    def _servers(self, process: Process, cluster: Cluster) -> List[Server]:
        """By common port or instances, of each machine."""
        own = cluster.instance_host if cluster.common_port is None else cluster.common_host
        hosts = self._hosts or [{"0.0.0.0": "127.0.0.1", "::": "::1"}.get(own, own)]
        servers = []
        for host in hosts:
            places: Dict[str, int] = {process.id: cluster.common_port or 0}
            if cluster.common_port is None:
                places = {each.name: each.port or 0 for each in instance_specs(process)}
            for name, port in places.items():
                shown = name if len(hosts) == 1 else "%s-%s" % (host, name)
                shown = re.sub("[^A-Za-z0-9_.-]", "-", shown)
                servers.append(Server(shown, host, port, name))
        return servers

    def _port(self, section: Section) -> int:
        """The common port, where it is free on the machine of the front; else what a browser asks
        for; else the next best."""
        cluster = section.cluster
        wanted = [] if cluster.common_port is None else [cluster.common_port]
        if section.http and not self._has_web:
            wanted.append(_WEB_TLS if section.tls_at_front else _WEB)
        base = cluster.common_port or cluster.start_port or 0
        wanted += [base, base + _ASIDE if base + _ASIDE < 65536 else base - _ASIDE]
        wanted += range(wanted[-1], 65536)
        port = next(each for each in wanted if each not in self._taken)
        self._has_web = self._has_web or port in (_WEB, _WEB_TLS)
        self._taken.add(port)
        return port

    def _remark(self, section: Section) -> None:
        cluster, add = section.cluster, section.remarks.append
        if section.external:
            add("There is no commonPort, so this goes to each instance. Where port %d is not the"
                " right one to listen on, choose another one." % section.port)
            if self._remote and validators.is_loopback(cluster.instance_host):
                add("Its instances listen on %s, which only their own machine reaches: set"
                    " instanceHost, and have the application listen there." % cluster.instance_host)
        elif section.port != cluster.common_port:
            add("Port %d of this machine is pupgevent's own: this listens on %d. With --host it"
                " is for a machine in front of others." % (cluster.common_port or 0, section.port))
        elif self._remote and validators.is_loopback(cluster.common_host):
            add("The common port listens on %s, which only its own machine reaches: set"
                " commonHost." % cluster.common_host)
        by_requests = cluster.protocol == "http" and not section.external
        if by_requests and not cluster.accept_proxy_from:
            add("pupgevent believes what this says of clients (X-Forwarded-For) when"
                " acceptProxyFrom has the address of this machine.")
        if cluster.strategy == "least-time":
            add("There is no least-time here: the server with the fewest connections comes"
                " next.")
        if cluster.strategy == "cookie" and not section.http:
            add("The strategy cookie needs HTTP: clients are told apart by their addresses.")
        if cluster.tls is not None:
            self._remark_on_tls(section, cluster.tls, add)

    def _remark_on_tls(
        self, section: Section, tls: Tls, add: Callable[[str], None]
    ) -> None:
        if not section.tls_at_front:
            add("TLS goes through: it ends at the common port of each machine.")
            return
        if self._remote:
            add("Certificates and keys have to be on this machine as well.")
        if section.tls_behind:
            add("TLS ends here, and is spoken to the machines as well; their certificates are not"
                " verified, unless you have that done (see below).")
        if tls.client_ca is not None and section.tls_behind:
            add("Clients have to show a certificate (clientCa) here. This cannot show it to the"
                " machines, and they want one as well: give this one of its own, from one of the"
                " same CAs (see below).")


def _own_ports(configuration: Configuration) -> Set[int]:
    taken: Set[int] = set()
    for process in configuration.processes:
        taken.update(each.port for each in instance_specs(process) if each.port is not None)
        if process.cluster is not None and process.cluster.common_port is not None:
            taken.add(process.cluster.common_port)
    for table in (configuration.dashboard, configuration.agent):
        if table is not None:
            taken.add(table.port)
    return taken
