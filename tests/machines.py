"""Machines: network namespaces on one bridge, and what runs in them.

    with Site() as site:
        site.machine(0).start()
        site.front("haproxy")

A socket belongs to the namespace of the thread that has made it. So a thread enters one, and there
127.0.0.1 is that machine's.
"""

import ctypes
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import uuid
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, List, TypeVar

import pytest

import load
from conftest import eventually
from running import PUPGEVENT, QUICK, REQUEST, SERVER, Running, get
from tools import tool

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000

#: The network of all, in namespaces that nobody else is in.
ADDRESS = "10.77.0.%d"

POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"

WEB, START, API, AGENT = 3000, 8000, 8100, 9001
#: Where the front listens for the cluster without a common port.
API_FRONT = 80


def needs_namespaces() -> None:
    """Skip where there can be none."""
    if os.getuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root, and ip(8)")
    done = subprocess.run(["ip", "netns", "add", "pg-probe-%d" % os.getpid()], check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        pytest.skip("no network namespaces: %r" % done.stdout)
    ip("netns", "del", "pg-probe-%d" % os.getpid())


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def inside(namespace: str, function: "Callable[[], T]") -> T:
    """What it returns or raises, done by a thread in that namespace."""
    results: List[Any] = []

    def run() -> None:
        try:
            enter(namespace)
            results.append((function(), None))
        except Exception as error:
            results.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    found, error = results[0]
    if error is not None:
        raise error
    return found  # type: ignore[no-any-return]


def enter(namespace: str) -> None:
    """Of the calling thread: setns(2)."""
    with open("/run/netns/" + namespace) as file:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


class Load(load.Load):
    """From within a namespace."""

    def __init__(
        self, namespace: str, port: int, brief: int, keeping: int, request: bytes = REQUEST
    ) -> None:
        super().__init__(port, brief, keeping, request)
        self.namespace = namespace

    def live(self, ask: "Callable[[Any], Any]") -> None:
        enter(self.namespace)
        super().live(ask)

    def goes_on(self, count: int = 100) -> None:
        """So many more are served."""
        before = self.served
        eventually(lambda: self.served >= before + count, message="%d are served, of %r" % (
            count, self.failures[:3]))


class Machine(Running):
    """A pupgevent in a namespace."""

    def __init__(self, folder: Path, namespace: str, address: str) -> None:
        super().__init__(folder)
        self.namespace = namespace
        self.address = address

    def begin(self, *options: str) -> "Machine":
        with open(str(self.output), "ab") as output:
            self.child = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *PUPGEVENT, *options, str(self.config)],
                stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        return self

    def agent_says(self, line: str) -> str:
        return inside(self.namespace, lambda: said_by_agent(AGENT, line))


def said_by_agent(port: int, line: str) -> str:
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(line.encode() + b"\n")
        return client.makefile().read()


class Front:
    """NGINX or HAProxy as exported, in a namespace."""

    def __init__(self, folder: Path, namespace: str, program: str, text: str) -> None:
        self.folder = folder
        self.namespace = namespace
        self.program = program
        self._config = folder / (program + ".conf")
        self._config.write_text(text)
        self._child: Any = None

    def start(self) -> "Front":
        with (self.folder / (self.program + ".output")).open("wb") as output:
            self._child = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *self._words()], cwd=str(self.folder),
                stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        for port in (WEB, API_FRONT):
            eventually(functools.partial(inside, self.namespace, functools.partial(get, port)))
        return self

    def _words(self) -> List[str]:
        if self.program == "nginx":
            return [tool("nginx"), "-c", str(self._config), "-g",
                    "daemon off; pid %s/pid; error_log %s/error.log;" % (self.folder, self.folder)]
        extra = self.folder / "stats.cfg"
        extra.write_text("global\n    stats socket %s/stats mode 600\n" % self.folder)
        return [tool("haproxy"), "-db", "-f", str(self._config), "-f", str(extra)]

    def end(self) -> None:
        if self._child is not None:
            self._child.send_signal(signal.SIGTERM)
            self._child.wait(60)

    def pids(self, port: int, count: int) -> "Counter[int]":
        """Who has answered so many requests, one after the other."""
        answers = inside(self.namespace, lambda: [get(port) for _ in range(count)])
        return Counter(int(each.split("pid ")[1].split(")")[0]) for each in answers)

    def load(self, port: int) -> Load:
        """What may be asked twice."""
        return Load(self.namespace, port, 1, 1)

    def posts(self, port: int) -> Load:
        """What may not."""
        return Load(self.namespace, port, 2, 0, request=POST)

    def servers(self) -> Dict[str, str]:
        """What HAProxy thinks of each."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(str(self.folder / "stats"))
            client.sendall(b"show stat\n")
            rows = [line.split(",") for line in client.makefile().read().splitlines() if line]
        at = rows[0].index("status")
        return {row[1]: row[at].partition(" ")[0] for row in rows[1:]
                if row[1] not in ("FRONTEND", "BACKEND")}

    def finds(self, *up: str) -> None:
        """HAProxy sends clients to these servers, and to no others."""
        def only_these() -> bool:
            found = {name for name, status in self.servers().items() if status == "UP"}
            assert found == set(up), self.servers()
            return True

        eventually(only_these)


class Site:
    """Three machines, and a front of each kind, as one configuration has them."""

    def __init__(self) -> None:
        needs_namespaces()
        self._mark = "pg-" + uuid.uuid4().hex[:6]
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._made: List[str] = []
        self.machines: List[Machine] = []
        self.fronts: Dict[str, Front] = {}

    def __enter__(self) -> "Site":
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        begun = [each for each in self.machines if each.child is not None]
        for machine in begun:
            machine.signal(signal.SIGTERM)
        for machine in begun:
            machine.wait()
        for front in self.fronts.values():
            front.end()
        for namespace in self._made:
            ip("netns", "del", namespace)
        shutil.rmtree(str(self.folder))

    def _build(self) -> None:
        bridge = self._add("bridge")
        ip("-n", bridge, "link", "add", "br0", "type", "bridge")
        ip("-n", bridge, "link", "set", "br0", "up")
        self._lend_server()
        for number in range(3):
            folder = self.folder / str(number)
            folder.mkdir()
            machine = Machine(folder, self._plug("m%d" % number, 11 + number), ADDRESS % (
                11 + number))
            machine.write(*self.processes(), agent={"port": AGENT, "host": "0.0.0.0"})
            self.machines.append(machine)
        for number, program in enumerate(("haproxy", "nginx")):
            namespace = self._plug(program, 1 + number)
            # NGINX has those of its system.
            for name in ("keepalive_time", "keepalive_intvl", "keepalive_probes", "retries2"):
                inside(namespace, functools.partial(
                    Path("/proc/sys/net/ipv4/tcp_" + name).write_text, "1\n"))
            self.fronts[program] = Front(
                self.folder, namespace, program, self.exported(program))

    def _add(self, name: str) -> str:
        namespace = "%s-%s" % (self._mark, name)
        ip("netns", "add", namespace)
        self._made.append(namespace)
        ip("-n", namespace, "link", "set", "lo", "up")
        return namespace

    def _plug(self, name: str, number: int) -> str:
        """One more, with a cable to the bridge."""
        namespace, port = self._add(name), "p%d" % number
        bridge = self._made[0]
        ip("-n", namespace, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns",
           bridge)
        ip("-n", bridge, "link", "set", port, "master", "br0", "up")
        ip("-n", namespace, "address", "add", ADDRESS % number + "/24", "dev", "eth0")
        ip("-n", namespace, "link", "set", "eth0", "up")
        return namespace

    def cable(self, machine: Machine, state: str) -> None:
        """Up or down, on the side of the bridge: the machine itself sees nothing but silence."""
        port = "p" + machine.address.rpartition(".")[2]
        ip("-n", self._made[0], "link", "set", port, state)

    def _lend_server(self) -> None:
        """The demonstration application; and the same for clients elsewhere, which ends at once at
        its SIGTERM, in the middle of everything, and takes its time for a POST."""
        text = SERVER.read_text().replace("IDLE_TIMEOUT = 1.0", "IDLE_TIMEOUT = 0.1")
        (self.folder / "web.py").write_text(text)
        for old, new in (("signal.SIGTERM, signal.SIGINT", "signal.SIGINT"),
                         ('"127.0.0.1"', '"0.0.0.0"'),
                         ('if method == "POST":', 'if method == "POST" and not time.sleep(0.05):')):
            assert text.count(old) == 1
            text = text.replace(old, new)
        (self.folder / "api.py").write_text(text)

    def processes(self) -> List[Dict[str, Any]]:
        """Behind a common port, and without one."""
        web = {"instances": 2, "startPort": START, "commonPort": WEB, "protocol": "http",
               "acceptProxyFrom": ["10.77.0.0/24"], "accessLog": "access.log"}
        api = {"instances": 1, "startPort": API, "protocol": "http", "instanceHost": "0.0.0.0"}
        more = {key: value for key, value in QUICK.items() if key != "terminateGracePeriod"}
        return [
            dict({"id": name, "cmd": [PUPGEVENT[0], str(self.folder / (name + ".py"))],
                  "autostart": True, "cluster": cluster}, **more)
            for name, cluster in (("web", web), ("api", api))
        ]

    def exported(self, program: str) -> str:
        """The file, but for the log of this system and for times that a test does not have."""
        hosts = ["--host=" + each.address for each in self.machines]
        done = subprocess.run(
            [*PUPGEVENT, "export", program, *hosts, str(self.machines[0].config)],
            stdout=subprocess.PIPE, universal_newlines=True, check=True)
        return shortened(done.stdout)


def shortened(text: str) -> str:
    for old, new in (("access_log /var/log/nginx/access.log;", "access_log off;"),
                     ("log /dev/log", "log 127.0.0.1:9"), ("srvtcpka-idle 3s", "srvtcpka-idle 1s"),
                     ("srvtcpka-cnt 3", "srvtcpka-cnt 1"), ("tcp-ut 6s", "tcp-ut 2s")):
        text = text.replace(old, new)
    return text
