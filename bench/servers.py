"""Who is measured: four web servers, and the ways to them.

The web servers are instances of pupgevent, as its users have them; NGINX, HAProxy and the direct
connection go to the same four. Each is one worker with the settings that its manual recommends,
listens on 127.0.0.1 only and writes into the work folder.
"""

import contextlib
import functools
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Type

from bench.load import answers
from bench.processes import PATIENCE, Ports, Process, children, interrupts, until
from bench.tools import Tools

INSTANCES = 4
#: Bytes of the answers that are files.
FILES = {"100k": 100 * 1024, "10m": 10 * 1024 * 1024}
#: NGINX runs its workers as www-data otherwise, who may not enter the work folder.
USER = "user root;" if os.geteuid() == 0 else ""

WEB_SERVER = """\
%(user)s
worker_processes 1;
daemon off;
pid web-%(port)d.pid;
error_log web-%(port)d.err;
events { worker_connections 8192; multi_accept on; }
http {
    access_log off;
    sendfile on;
    open_file_cache max=100;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_max_body_size 0;
    client_body_temp_path web-%(port)d-body;
    proxy_temp_path web-%(port)d-proxy;
    fastcgi_temp_path web-%(port)d-fastcgi;
    uwsgi_temp_path web-%(port)d-uwsgi;
    scgi_temp_path web-%(port)d-scgi;

    # An upload is read into memory to its end and then dropped: of all the ways to have NGINX
    # read a body this one is the cheapest. A `return` alone would answer before the body is there.
    upstream uploaded { server unix:web-%(port)d.sock; keepalive 64; }
    server { listen unix:web-%(port)d.sock; return 200 "ok\\n"; }
    server {
        listen 127.0.0.1:%(port)d backlog=4096;
        root files;
        location = / { return 200 "hello\\n"; }
        location = /upload {
            client_body_buffer_size 12m;
            proxy_pass http://uploaded;
            proxy_pass_request_body off;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Content-Length "";
        }
    }
}
"""

PUPGEVENT = """\
[[processes]]
id = "web"
cmd = %(cmd)s
autostart = true

[processes.cluster]
instances = %(instances)d
commonHost = "127.0.0.1"
commonPort = %(port)d
startPort = %(start)d
"""

NGINX = """\
%(user)s
%(load_module)s
worker_processes 1;
daemon off;
pid nginx-%(port)d.pid;
error_log nginx-%(port)d.err;
events { worker_connections 8192; }
stream {
    upstream web { %(servers)s }
    server { listen 127.0.0.1:%(port)d backlog=4096; proxy_pass web; }
}
"""

HAPROXY = """\
global
    nbthread 1
    maxconn 5000
defaults
    mode tcp
    option splice-auto
    option tcp-smart-accept
    option tcp-smart-connect
    timeout connect 2s
    timeout client 1h
    timeout server 1h
listen bench
    bind 127.0.0.1:%(port)d backlog 4096
    balance roundrobin
%(servers)s
"""


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

    def web_server(self, ports: Sequence[int]) -> str:
        """The command of a web server that listens on PUP_CLUSTER_PORT, one of these ports."""
        for port in ports:
            self.write("web-%d.conf" % port, WEB_SERVER % {"user": USER, "port": port})
        return "exec %s -p . -c web-$PUP_CLUSTER_PORT.conf" % shlex.quote(self.tools.nginx)


class Way:
    """A way from the clients to the web servers: the ports they go to, the process between."""

    name = ""
    title = ""

    def __init__(self, site: Site, backends: Sequence[int]) -> None:
        self.site = site
        self.backends = list(backends)
        self.process: Optional[Process] = None

    @property
    def ports(self) -> List[int]:
        raise NotImplementedError

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
        return answers(port)

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

    def __init__(self, site: Site, backends: Sequence[int] = ()) -> None:
        super().__init__(site, site.ports.take(INSTANCES))

    def command(self) -> List[str]:
        name = self.site.write("pupgevent-%d.toml" % self.port, PUPGEVENT % {
            "cmd": json.dumps(self.site.web_server(self.backends)), "instances": INSTANCES,
            "port": self.port, "start": self.backends[0]})
        return self.program + [name]

    @property
    def program(self) -> List[str]:
        return self.site.tools.pupgevent

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


class Earlier(Pupgevent):
    """Another version of it, with web servers of its own: what has a change brought, or cost?"""

    name = "earlier"
    title = "pupgevent before"

    @property
    def program(self) -> List[str]:
        return self.site.tools.earlier


class Nginx(Balancer):
    name = "nginx"
    title = "NGINX"

    def command(self) -> List[str]:
        module = self.site.tools.stream_module
        name = self.site.write("nginx-%d.conf" % self.port, NGINX % {
            "user": USER, "port": self.port,
            "load_module": "load_module %s;" % module if module else "",
            "servers": " ".join("server 127.0.0.1:%d;" % port for port in self.backends)})
        return [self.site.tools.nginx, "-p", ".", "-c", name]

    @property
    def worker(self) -> int:
        """The child of the master."""
        master = self.started().pid
        return until(lambda: children(master), "NGINX has a worker")[0]


class HAProxy(Balancer):
    name = "haproxy"
    title = "HAProxy"

    def command(self) -> List[str]:
        name = self.site.write("haproxy-%d.cfg" % self.port, HAPROXY % {
            "port": self.port,
            "servers": "\n".join("    server web-%d 127.0.0.1:%d" % (port, port)
                                 for port in self.backends)})
        return [self.site.tools.haproxy, "-db", "-f", name]


#: The registry: everything that can be measured, in the order of the table.
WAYS: Dict[str, Type[Way]] = {way.name: way for way in (
    Direct, Pupgevent, Earlier, Nginx, HAProxy)}


class Stage:
    """All that runs from the first case to the last; a context that ends it again.

    pupgevent always runs, as it is what keeps the web servers.
    """

    def __init__(self, site: Site, names: Sequence[str]) -> None:
        self.site = site
        self.pupgevent = Pupgevent(site)
        self.running = contextlib.ExitStack()
        self.ways: Dict[str, Way] = {}
        for name in names:
            self.ways[name] = self.pupgevent if name == Pupgevent.name else self.fresh(name)

    def fresh(self, name: str) -> Way:
        """One more of them, not started; over the same web servers, pupgevent over new ones."""
        return WAYS[name](self.site, self.pupgevent.backends)

    def __enter__(self) -> "Stage":
        with contextlib.ExitStack() as starting:
            for way in [self.pupgevent, *self.ways.values()]:
                if way.process is None:
                    starting.callback(way.stop)
                    way.start()
                    way.ready()
            self.running = starting.pop_all()
        return self

    def __exit__(self, *_: Any) -> None:
        self.running.close()


def default_pupgevent() -> List[str]:
    """The command that is installed beside this Python, or the one in this folder."""
    installed = Path(sys.executable).with_name("pupgevent")
    source = Path(__file__).resolve().parent.parent / "pupgevent.py"
    return [str(installed)] if installed.exists() else [sys.executable, str(source)]
