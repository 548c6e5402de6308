"""Who is measured: four web servers, and the ways to them.

The web servers are instances of pupgevent, as its users have them; NGINX, HAProxy and the direct
connection go to the same four. Each way is there once for each protocol of a cluster: bytes
are relayed (NGINX stream, HAProxy TCP), or HTTP is read (NGINX proxy_pass, HAProxy HTTP); and each
of these again with TLS from the clients. The web servers answer the same to all; each pupgevent
after the first has four more of them.
"""

import contextlib
import functools
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Type

from bench import configurations, tls
from bench.load import answers
from bench.processes import PATIENCE, Ports, Process, children, interrupts, until
from bench.tools import BenchError, Tools

INSTANCES = 4
#: Bytes of the answers that are files.
FILES = {"100k": 100 * 1024, "10m": 10 * 1024 * 1024}


class Site(NamedTuple):
    """Where all files of the bench lie, and what it may start."""

    folder: Path
    tools: Tools
    ports: Ports

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return name

    def write_answers(self) -> None:
        (self.folder / "files").mkdir()
        for name, size in FILES.items():
            (self.folder / "files" / name).write_bytes(b"x" * size)
        tls.write_certificate(self.tools.openssl, self.folder)

    def web_server(self, ports: Sequence[int]) -> str:
        """The command of a web server that listens on PUP_CLUSTER_PORT, one of these ports."""
        for port in ports:
            self.write("web-%d.conf" % port,
                       configurations.nginx(configurations.WEB_SERVER, "web", port))
        return "exec %s -p . -c web-$PUP_CLUSTER_PORT.conf" % shlex.quote(self.tools.nginx)


class Way:
    """A way from the clients to the web servers: the ports they go to, the process between."""

    name = ""
    title = ""
    #: Clients speak TLS with it.
    encrypted = False

    def __init__(self, site: Site, backends: Sequence[int]) -> None:
        self.site = site
        self.backends = list(backends)
        self.process: Optional[Process] = None

    @property
    def ports(self) -> List[int]:
        raise NotImplementedError

    def refusal(self) -> str:
        """Why it cannot be measured; empty where it can."""
        return ""

    @property
    def worker(self) -> int:
        """Pid of the process that the bytes go through."""
        raise NotImplementedError

    def start(self) -> None:
        """Returns at once."""

    def ready(self) -> None:
        """Wait until it answers; raises BenchError if it ends instead."""
        for port in self.ports:
            until(functools.partial(self.answers_on, port),
                  "an answer from %s on port %d" % (self.title, port))

    def answers_on(self, port: int) -> bool:
        if self.process is not None:
            self.process.check()
        return answers(port, self.encrypted)

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()


class Direct(Way):
    name = "direct"
    title = "direct"

    @property
    def ports(self) -> List[int]:
        return self.backends


class Balancer(Way):
    """What they have in common: a port of their own, a command, one worker."""

    #: Clients that it takes at a time, and another one besides.
    most_connections = 10000

    def __init__(self, site: Site, backends: Sequence[int]) -> None:
        super().__init__(site, backends)
        self.port, = site.ports.take(1)
        self.words = self.command()

    def command(self) -> List[str]:
        """Write the configuration, return the words to start with."""
        raise NotImplementedError

    @property
    def ports(self) -> List[int]:
        return [self.port]

    def start(self) -> None:
        with interrupts.postponed():
            self.process = Process(
                self.words, self.site.folder, "%s-%d.log" % (self.name, self.port))

    @property
    def worker(self) -> int:
        return self.started().pid

    def started(self) -> Process:
        if self.process is None:
            raise RuntimeError("%s has not been started" % self.title)
        return self.process


class Pupgevent(Balancer):
    """The command as it is installed, all defaults on; brings web servers of its own."""

    name = "pupgevent"
    title = "pupgevent"
    configuration = configurations.PUPGEVENT

    def __init__(self, site: Site, backends: Sequence[int] = ()) -> None:
        super().__init__(site, site.ports.take(INSTANCES))

    def command(self) -> List[str]:
        text = self.configuration % {
            "cmd": json.dumps(self.site.web_server(self.backends)), "instances": INSTANCES,
            "port": self.port, "start": self.backends[0]}
        more = configurations.PUPGEVENT_TLS if self.encrypted else ""
        return self.program + [self.site.write("pupgevent-%d.toml" % self.port, text + more)]

    @property
    def program(self) -> List[str]:
        return self.site.tools.pupgevent

    def refusal(self) -> str:
        """A version without HTTP or without TLS refuses the key; the rest all of them know."""
        if self.configuration is configurations.PUPGEVENT and not self.encrypted:
            return ""
        done = subprocess.run([*self.program, "check", self.words[-1]], check=False,
                              cwd=str(self.site.folder), timeout=PATIENCE,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, universal_newlines=True)
        return done.stdout.strip() if done.returncode else ""

    def ready(self) -> None:
        """Each of the web servers answers as well."""
        super().ready()
        Direct(self.site, self.backends).ready()

    def describe(self) -> Dict[str, str]:
        """Versions of Python and gevent that it runs on, asked from its own interpreter."""
        words = Path("/proc/%d/cmdline" % self.worker).read_bytes().split(b"\0")
        code = "import gevent, platform; print(platform.python_version(), gevent.__version__)"
        output = subprocess.run([words[0].decode(), "-c", code], check=False, timeout=PATIENCE,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                universal_newlines=True).stdout
        return dict(zip(("python", "gevent"), output.split()))


class PupgeventHTTP(Pupgevent):
    """The same with `protocol = "http"`."""

    configuration = configurations.PUPGEVENT_HTTP


class PupgeventTLS(Pupgevent):
    encrypted = True


class PupgeventHTTPS(PupgeventHTTP):
    encrypted = True


class Another:
    """Another version of it, with web servers of its own: what has a change brought, or cost?"""

    site: Site
    name = "earlier"
    title = "pupgevent before"

    @property
    def program(self) -> List[str]:
        return self.site.tools.earlier


class Earlier(Another, Pupgevent):
    pass


class EarlierHTTP(Another, PupgeventHTTP):
    pass


class EarlierTLS(Another, PupgeventTLS):
    pass


class EarlierHTTPS(Another, PupgeventHTTPS):
    pass


class Nginx(Balancer):
    """NGINX's stream module."""

    name = "nginx"
    title = "NGINX"

    def command(self) -> List[str]:
        return self.command_with(
            configurations.NGINX_STREAM, self.site.tools.stream_module or "")

    def command_with(self, text: str, module: str = "") -> List[str]:
        name = self.site.write("nginx-%d.conf" % self.port, configurations.nginx(
            text, self.name, self.port, module, self.backends, self.encrypted))
        return [self.site.tools.nginx, "-p", ".", "-c", name]

    @property
    def worker(self) -> int:
        """The child of the master."""
        master = self.started().pid
        return until(lambda: children(master), "NGINX has a worker")[0]


class NginxHTTP(Nginx):
    """NGINX's http module with proxy_pass."""

    def command(self) -> List[str]:
        return self.command_with(configurations.NGINX_HTTP)


class NginxTLS(Nginx):
    encrypted = True


class NginxHTTPS(NginxHTTP):
    encrypted = True


class HAProxy(Balancer):
    """HAProxy's TCP mode."""

    name = "haproxy"
    title = "HAProxy"
    mode = "tcp"
    most_connections = configurations.HAPROXY_CLIENTS - 1

    def command(self) -> List[str]:
        name = self.site.write("haproxy-%d.cfg" % self.port, configurations.haproxy(
            self.mode, self.port, self.backends, self.encrypted))
        return [self.site.tools.haproxy, "-db", "-f", name]


class HAProxyHTTP(HAProxy):
    """HAProxy's HTTP mode."""

    mode = "http"


class HAProxyTLS(HAProxy):
    encrypted = True


class HAProxyHTTPS(HAProxyHTTP):
    encrypted = True


def registry(*ways: Type[Way]) -> Dict[str, Type[Way]]:
    return {way.name: way for way in ways}


#: Everything that can be measured, by protocol and name, in the order of the tables.
WAYS: Dict[str, Dict[str, Type[Way]]] = {
    "tcp": registry(Direct, Pupgevent, Earlier, Nginx, HAProxy),
    "http": registry(Direct, PupgeventHTTP, EarlierHTTP, NginxHTTP, HAProxyHTTP),
    "tls": registry(PupgeventTLS, EarlierTLS, NginxTLS, HAProxyTLS),
    "https": registry(PupgeventHTTPS, EarlierHTTPS, NginxHTTPS, HAProxyHTTPS),
}
#: What they are called, in every protocol.
TITLES = {name: way.title for name, way in WAYS["tcp"].items()}


def protocol_of(kind: Type[Way]) -> str:
    """The first that it is measured with."""
    return next(protocol for protocol, ways in WAYS.items() if kind in ways.values())


class Stage:
    """All that runs from the first case to the last; a context that ends it again.

    pupgevent always runs, as it is what keeps the web servers.
    """

    def __init__(self, site: Site, kinds: Sequence[Type[Way]]) -> None:
        self.site = site
        self.pupgevent = Pupgevent(site)
        self.running = contextlib.ExitStack()
        self.ways: Dict[Type[Way], Way] = {}
        for kind in kinds:
            self.ways[kind] = self.pupgevent if kind is Pupgevent else self.fresh(kind)
        #: What those say that cannot be measured.
        self.refusals: Dict[Type[Way], str] = {}

    def fresh(self, kind: Type[Way]) -> Way:
        """One more of them, not started; over the same web servers, pupgevent over new ones."""
        return kind(self.site, self.pupgevent.backends)

    def __enter__(self) -> "Stage":
        with contextlib.ExitStack() as starting:
            start(self.pupgevent, starting)
            for kind, way in list(self.ways.items()):
                refusal = way.refusal()
                if refusal:
                    self.refusals[kind] = refusal
                    del self.ways[kind]
                elif way is not self.pupgevent:
                    start(way, starting)
            self.running = starting.pop_all()
        return self

    def agreed(self) -> str:
        """What a handshake comes to, which has to be the same with all; empty without TLS."""
        found = {way: tls.agreed(self.site.tools.openssl, way.ports[0])
                 for way in self.ways.values() if way.encrypted}
        if len(set(found.values())) > 1:
            raise BenchError("handshakes differ: " + "; ".join(
                "%s %s" % (way.title, text) for way, text in found.items()))
        return next(iter(found.values()), "")

    def __exit__(self, *_: Any) -> None:
        self.running.close()


def start(way: Way, ending: contextlib.ExitStack) -> None:
    """It answers; the end of the context stops it."""
    ending.callback(way.stop)
    way.start()
    way.ready()


def default_pupgevent() -> List[str]:
    """The command that is installed beside this Python, or the one in this folder."""
    installed = Path(sys.executable).with_name("pupgevent")
    source = Path(__file__).resolve().parent.parent / "pupgevent.py"
    return [str(installed)] if installed.exists() else [sys.executable, str(source)]
