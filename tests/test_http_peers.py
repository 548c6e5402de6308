"""What NGINX and HAProxy make of the corpus: pupgevent takes nothing that they refuse.

Each case is sent to each server, with a request behind it that ends the connection. The server
stands before a backend that tells, in a field of its answer, what has come to it: so a client sees
in the answers how many requests there were for the server, where each ended, and whether the server
refused. What pupgevent should do is what its pure reader says; its balancer is one of the servers.

`PYTHONPATH=. python tests/test_http_peers.py` writes the table of all cases.
"""

import re
import socket
import socketserver
import sys
import tempfile
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, Iterator, List, NamedTuple, Tuple

import pytest

from conftest import ROOT, PortLocks
from front_servers import Address, nginx_command, running
from http_corpus import REQUESTS, Case, requests_of
from tools import tool

#: Seconds in which a server must have answered and closed. It waits for 2 for what does not come.
PATIENCE = 60.0

#: Bytes of a body: more is only announced.
MOST = 1 << 20

#: Stands behind each case, and is the last of its connection.
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class Verdict(NamedTuple):
    """What a server has made of a stream."""

    #: Method, target, length and checksum of each request that it took.
    requests: Tuple[bytes, ...]
    #: Of its refusal, or 0.
    status: int


# The backend


class Backend(socketserver.ThreadingTCPServer):
    """Takes one request of each connection, and answers with what it was."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A server has left in the middle."""


class Recorder(socketserver.StreamRequestHandler):
    timeout = PATIENCE

    def handle(self) -> None:
        """Lenient: what comes is what a server has let through."""
        method, target, _ = self.rfile.readline().split(b" ", 2)
        fields = {}
        for line in iter(self.rfile.readline, b"\r\n"):
            name, colon, value = line.partition(b":")
            if not colon:
                return
            fields[name.strip().lower()] = value.strip()
        if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
            body = b"".join(self.chunks())
        else:
            body = self.exactly(int(fields.get(b"content-length", b"0")))
        self.wfile.write(
            b"HTTP/1.1 200 OK\r\nX-Seen: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            % description(method, target, body))

    def exactly(self, size: int) -> bytes:
        found = self.rfile.read(min(size, MOST))
        if len(found) < size:
            raise EOFError
        return found

    def chunks(self) -> "Iterator[bytes]":
        while True:
            size = int(re.split(rb"[ \t;\r]", self.rfile.readline())[0], 16)
            if not size:
                break
            yield self.exactly(size)
            self.rfile.readline()
        while self.rfile.readline() != b"\r\n":
            pass


def description(method: bytes, target: bytes, body: bytes) -> bytes:
    """HAProxy passes an absolute target on as it came, and NGINX its path."""
    path = re.sub(rb"(?i)\Ahttps?://[^/]*", b"", target) or b"/"
    return b"%s %s %d %08x" % (method, path[:100], len(body), zlib.crc32(body))


# The servers


class Site(NamedTuple):
    """What a server is told."""

    folder: Path
    port: int
    backend: int


def address_of(site: Site) -> Address:
    return "127.0.0.1", site.port


NGINX = """
daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path client; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    client_header_timeout 2s; client_body_timeout 2s; keepalive_timeout 2s;
    lingering_time 2s; lingering_timeout 2s; client_max_body_size 0;
    client_header_buffer_size 64k; large_client_header_buffers 4 64k;
    server {
        listen 127.0.0.1:%(port)d;
        location / { proxy_pass http://127.0.0.1:%(backend)d; proxy_http_version 1.1; }
    }
}
"""

HAPROXY = """
global
    tune.bufsize 131072
    tune.http.maxhdr 256
defaults
    mode http
    timeout connect 60s
    timeout server 10s
    timeout client 2s
    timeout http-request 2s
    timeout http-keep-alive 2s
    timeout tunnel 2s
listen all
    bind 127.0.0.1:%(port)d
    server one 127.0.0.1:%(backend)d
"""


@contextmanager
def nginx(site: Site) -> "Iterator[Address]":
    (site.folder / "nginx.conf").write_text(NGINX % site._asdict())
    with running(nginx_command(site.folder), site.folder, address_of(site)) as address:
        yield address


@contextmanager
def haproxy(site: Site) -> "Iterator[Address]":
    (site.folder / "haproxy.cfg").write_text(HAPROXY % site._asdict())
    words = [tool("haproxy"), "-f", "haproxy.cfg"]
    with running(words, site.folder, address_of(site)) as address:
        yield address


PUPGEVENT = """\
[[processes]]
id = "web"
cmd = ["sleep", "1000"]

[processes.cluster]
commonHost = "127.0.0.1"
commonPort = %(port)d
startPort = %(backend)d
protocol = "http"
headTimeoutMs = 2000
idleTimeoutMs = 2000
halfCloseTimeoutMs = 2000
"""

#: The balancer of that configuration alone: its only instance is the backend of this test.
BALANCER = """\
import sys
sys.path.insert(0, %(root)r)
import gevent
import configuration
from balancer import Balancer, BalancerOwner
from engine import Engine
from listener import Listener

class Owner(BalancerOwner):
    def warn(self, text):
        print(text, flush=True)

    def on_reach_changed(self):
        pass

process, = configuration.load(%(config)r).processes
engine = Engine(print)
balancer = Balancer(process.id, process.cluster, engine, Owner())
balancer.up("web-1", "127.0.0.1", process.cluster.start_port)
balancer.take_over(Listener("127.0.0.1", process.cluster.common_port, print, engine.clock))
gevent.sleep(%(patience)g)
"""


@contextmanager
def pupgevent(site: Site) -> "Iterator[Address]":
    config = site.folder / "app.toml"
    config.write_text(PUPGEVENT % {"port": site.port, "backend": site.backend})
    code = BALANCER % {"root": str(ROOT), "config": str(config), "patience": 20 * PATIENCE}
    with running([sys.executable, "-c", code], site.folder, address_of(site)) as address:
        yield address


#: Each starts a server before the backend, and gives its address.
SERVERS: "Dict[str, Callable[[Site], ContextManager[Address]]]" = {
    "NGINX": nginx,
    "HAProxy": haproxy,
    "pupgevent": pupgevent,
}

#: Those that it is compared with.
PEERS = ("NGINX", "HAProxy")


@contextmanager
def all_servers(folder: Path, locks: PortLocks) -> "Iterator[Dict[str, Address]]":
    ports = locks.take(len(SERVERS))
    with ExitStack() as stack:
        stack.callback(locks.release, ports)
        backend = Backend(("127.0.0.1", 0), Recorder)
        stack.callback(backend.server_close)
        threading.Thread(target=backend.serve_forever, args=(0.01,), daemon=True).start()
        stack.callback(backend.shutdown)
        addresses = {}
        for (name, start), port in zip(SERVERS.items(), ports):
            (folder / name).mkdir()
            site = Site(folder / name, port, backend.server_address[1])
            addresses[name] = stack.enter_context(start(site))
        yield addresses


# What they say


def ask(address: Address, case: Case) -> Verdict:
    """Send a case and read all that comes back."""
    heard: List[bytes] = []
    with socket.create_connection(address, PATIENCE) as sock:
        try:
            sock.sendall(case.data + LAST)
            heard.extend(iter(lambda: sock.recv(65536), b""))
        except ConnectionError:
            pass  # it has closed before it had read all
    answers = b"".join(heard)
    seen = re.findall(rb"(?im)^X-Seen: ([^\r]*)\r$", answers)
    refusals = re.findall(rb"^HTTP/1\.[01] ([45][0-9][0-9])", answers, re.MULTILINE)
    return Verdict(tuple(seen), int(refusals[0]) if refusals else 0)


def ask_all(address: Address) -> "Dict[str, Verdict]":
    with ThreadPoolExecutor(16) as pool:
        verdicts = pool.map(lambda case: ask(address, case), REQUESTS)
        return dict(zip((case.name for case in REQUESTS), verdicts))


def own_verdict(case: Case) -> Verdict:
    """Of the pure reader."""
    reading = requests_of([case.data + LAST])
    return Verdict(tuple(description(each.first[0], each.first[1], each.body)
                         for each in reading.messages), reading.status)


#: What a server refuses, or sends elsewhere, for other reasons than where a message ends.
EXCEPTIONS = {
    "NGINX": {
        "OPTIONS *": "it has no file of that name",
        "a NUL in percents": "it looks for a file of that name",
        "no hexadecimal percents": "it looks for a file of that name",
        "a path that leads out": "it looks for a file of that name",
        "TRACE": "it answers 405",
        "CONNECT": "it has no tunnels",
        "OPTIONS of a whole host": "its target becomes /, in RFC 9112 it is *",
    },
    "HAProxy": {
        "OPTIONS of a whole host": "its target becomes /, in RFC 9112 it is *",
    },
}


@pytest.fixture(scope="module")
def verdicts(
    port_locks: PortLocks, tmp_path_factory: pytest.TempPathFactory, marked_environment: str
) -> "Dict[str, Dict[str, Verdict]]":
    with all_servers(tmp_path_factory.mktemp("servers"), port_locks) as addresses:
        return {name: ask_all(address) for name, address in addresses.items()}


@pytest.mark.parametrize("server", PEERS)
def test_pupgevent_takes_no_request_that_a_peer_refuses_or_ends_elsewhere(
    server: str, verdicts: "Dict[str, Dict[str, Verdict]]"
) -> None:
    differing = {}
    for case in REQUESTS:
        own, peer = own_verdict(case).requests, verdicts[server][case.name].requests
        if peer[:len(own)] != own and case.name not in EXCEPTIONS[server]:
            differing[case.name] = (own, verdicts[server][case.name])
    assert differing == {}


@pytest.mark.parametrize("server", SERVERS)
def test_what_is_plain_is_the_same_to_all(
    server: str, verdicts: "Dict[str, Dict[str, Verdict]]"
) -> None:
    """Whoever sees nothing at all would agree with everybody."""
    plain = {"a body with a length", "a body in chunks", "a request behind a body", "trailers",
             "a GET with a body", "an absolute target", "HTTP/1.0 that stays"}
    assert plain <= {case.name for case in REQUESTS}
    for case in REQUESTS:
        if case.name in plain:
            assert verdicts[server][case.name] == own_verdict(case)
            assert len(own_verdict(case).requests) > 1


def test_pupgevent_takes_and_refuses_what_its_reader_does(
    verdicts: "Dict[str, Dict[str, Verdict]]"
) -> None:
    own = {case.name: own_verdict(case) for case in REQUESTS}
    found = {name: (verdict, waiting(verdicts["pupgevent"][name]))
             for name, verdict in own.items()}
    assert {name: both for name, both in found.items() if both[0] != both[1]} == {}


def waiting(verdict: Verdict) -> Verdict:
    """408 is said to who does not send what he has announced: no refusal."""
    return verdict._replace(status=0) if verdict.status == 408 else verdict


# The table


def table(verdicts: "Dict[str, Dict[str, Verdict]]") -> "Iterator[str]":
    """In Markdown: a line for each case."""
    yield "| case | %s |" % " | ".join(verdicts)
    yield "|---|%s" % ("---|" * len(verdicts))
    for case in REQUESTS:
        cells = [cell(verdicts[name][case.name]) for name in verdicts]
        yield "| %s | %s |" % (case.name, " | ".join(cells))


def cell(verdict: Verdict) -> str:
    """Of the requests, the last is ours."""
    count = len(verdict.requests)
    if verdict.status in (408, 504) or not (count or verdict.status):
        return "waits"
    if verdict.status:
        return ("%d, then " % count if count else "") + str(verdict.status)
    return "taken" if count < 3 else "taken: %d" % (count - 1)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, all_servers(
            Path(folder), PortLocks()) as addresses:
        verdicts = {name: ask_all(address) for name, address in addresses.items()}
    for line in table(verdicts):
        print(line)


if __name__ == "__main__":
    main()
