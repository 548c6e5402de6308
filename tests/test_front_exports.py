"""NGINX and HAProxy take what is exported for them, and do what the configuration says."""

import contextlib
import functools
import gzip
import http.client
import http.server
import itertools
import os
import re
import socket
import ssl
import subprocess
import threading
from base64 import b64encode
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

import pytest

import certificates
from configuration import load
from conftest import eventually
from exports import FRONTS
from machines import shortened
from model import Agent, Cluster, Configuration, Health, Tls, TlsFile, TlsPair
from proxy_protocol import Announced, read_header, tls_fields, with_tls
from running import run
from tools import tool

PATIENCE = 60.0

HOSTS = {"here": (), "elsewhere": ("10.0.0.1", "app.example", "2001:db8::1")}

FILE = """\
[[processes]]
id = "web"
cmd = ["sleep", "1000"]

[processes.cluster]
instances = 2
startPort = 8000
commonPort = 3000
protocol = "http"
"""


@pytest.fixture
def base(tmp_path: Path) -> Configuration:
    (tmp_path / "app.toml").write_text(FILE)
    return load(str(tmp_path / "app.toml"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: Any) -> Path:
    found: Path = tmp_path_factory.mktemp("tls") / "with space"
    found.mkdir()
    return found


def pair(folder: Path, *names: str) -> TlsPair:
    made = certificates.make(folder, names[0], ["DNS:" + each for each in names])
    return TlsPair(made.cert, made.key, "", names, 0.0)


@pytest.fixture(scope="session")
def certificate(folder: Path) -> Tls:
    return Tls((pair(folder, "localhost"),), "TLSv1.2", None, None)


@pytest.fixture(scope="session")
def several(folder: Path) -> Tls:
    """As many as SNI chooses from; some of them never."""
    long = ".".join(["a" * 60] * 4)
    one = certificates.in_one_file(certificates.make(folder, "both"), folder / "one file.pem")
    return Tls((
        pair(folder, "shop.example"), pair(folder, "*.example", "shop.example", "default"),
        pair(folder, "shop.example", "*.example"), pair(folder, "other.example")._replace(
            names=("other.example", "10.0.0.1", "::1", "A CA of ours", "w*.example", long)),
        TlsPair(one.cert, one.key, "", ("both",), 0.0), pair(folder, "nobody")._replace(names=()),
    ), "TLSv1.2", None, None)


@pytest.fixture(scope="session")
def strict(folder: Path, several: Tls) -> Tls:
    """Clients show certificates of this CA."""
    ca = certificates.make_ca(folder)
    return several._replace(min_version="TLSv1.3", ciphers="ECDHE+AESGCM:!aNULL",
                            client_ca=TlsFile(ca.cert, ""))


def with_clusters(base: Configuration, *clusters: Cluster) -> Configuration:
    """A process for each, with ports of its own."""
    process, processes = base.processes[0], []
    for number, cluster in enumerate(clusters):
        changes: Dict[str, Any] = {"start_port": 20000 + 10 * number}
        if cluster.common_port is not None:
            changes["common_port"] = 12000 + number
        processes.append(process._replace(
            id="app@%d" % number, cluster=cluster._replace(**changes)))
    return base._replace(processes=tuple(processes))


def own(base: Configuration, **changes: Any) -> Configuration:
    """With one cluster, which differs in this."""
    cluster = base.processes[0].cluster
    assert cluster is not None
    return base._replace(processes=(
        base.processes[0]._replace(cluster=cluster._replace(**changes)),))


def ours(text: str, folder: Path, *replaced: str) -> str:
    """With folders of the test's own, and with what only root may do left out."""
    text = shortened(text).replace("/var/cache/", str(folder) + "/")
    if os.getuid() != 0:
        text = re.sub("(?m)^    (user|group) haproxy$", "", text)
        text = text.replace("listen 80;", "listen 18080;")
    # How HAProxy gets its certificates.
    lines = re.findall("#   (umask 077; cat .* > .*)", text)
    subprocess.run(["sh", "-e"], input="\n".join(lines).encode(), check=True)
    return text


def accepts(program: str, text: str, folder: Path) -> str:
    """What it says of a file that it takes."""
    path = folder / (program + ".conf")
    path.write_text(text)
    words = {
        "haproxy": [tool("haproxy"), "-c", "-f", str(path)],
        "nginx": [tool("nginx"), "-t", "-c", str(path), "-e", str(folder / "error.log"), "-g",
                  "pid %s/pid; error_log stderr;" % folder],
    }[program]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout
    return done.stdout


EVERY = {
    "strategy": ("round-robin", "least-connections", "ip-hash", "least-time", "cookie"),
    "protocol": ("tcp", "http"),
    "common_port": (None, 1),
    "health": (None, Health("/health?a=1&b='2'", 2.0, 0.5, 2, 3, False, None)),
    "tls": (None, "certificate", "several", "strict"),
}  # fmt: skip

OTHERS: List[Dict[str, Any]] = [
    {"proxy_protocol": "v1"}, {"proxy_protocol": "v2", "max_connections": 7, "slow_start": 1.5},
    {"accept_proxy_from": (ip_network("10.0.0.0/8"),), "common_host": "::"},
    {"idle_timeout": 0.0, "half_close_timeout": 0.0, "queue_timeout": 0.0},
    {"keep_upstream": 0, "response_timeout": 1.5, "connect_timeout": 0.25},
    {"health": Health(None, 0.5, 0.1, 5, 5, False, None), "instance_host": "0.0.0.0"},
    {"health": Health("/", 20.0, 5.0, 1, 1, True, None), "instance_host": "::"},
]


@pytest.mark.parametrize("hosts", list(HOSTS))
@pytest.mark.parametrize("http", [False, True])
@pytest.mark.parametrize("program", list(FRONTS))
def test_the_program_accepts_whatever_the_configuration_says(
    base: Configuration, tmp_path: Path, program: str, http: bool, hosts: str, request: Any
) -> None:
    cluster = base.processes[0].cluster
    assert cluster is not None
    clusters = []
    for number, values in enumerate(itertools.product(*EVERY.values())):
        changes: Dict[str, Any] = dict(zip(EVERY, values))
        tls = changes["tls"]
        changes["tls"] = request.getfixturevalue(tls) if tls else None
        clusters.append(cluster._replace(**dict(changes, **OTHERS[number % len(OTHERS)])))
    found = with_clusters(base, *clusters)._replace(agent=Agent(9001, "0.0.0.0"))
    text = ours(FRONTS[program](found, HOSTS[hosts], http), tmp_path)
    # Names are for the DNS of whoever uses them.
    said = accepts(program, text.replace("app.example", "10.0.0.2"), tmp_path)
    assert not re.search("(?i)warn|deprecated", said), said
    found_ports = re.findall(r"(?:listen|bind) (?:\*:|:::)?([0-9]+)", text)
    # NGINX has a server for each certificate.
    ports = [port for port, _ in itertools.groupby(found_ports)]
    assert len(ports) == len(set(ports)) == len(clusters)


@pytest.mark.parametrize("program", list(FRONTS))
def test_names_of_clusters_that_are_alike_stay_apart(
    base: Configuration, tmp_path: Path, program: str
) -> None:
    cluster = base.processes[0].cluster
    assert cluster is not None
    found = with_clusters(base, cluster, cluster, cluster)
    named = [each._replace(id=name) for each, name in zip(found.processes, ("A@b", "a-b", "a_b"))]
    text = FRONTS[program](found._replace(processes=tuple(named)), (), True)
    accepts(program, ours(text, tmp_path), tmp_path)


def lines_of(program: str, *args: Any) -> List[str]:
    """Without indents and comments."""
    text = FRONTS[program](*args)
    return [line.strip() for line in text.splitlines() if not line.strip().startswith("#")]


def remarks_of(program: str, *args: Any) -> str:
    lines = FRONTS[program](*args).splitlines()
    return " ".join(line.strip()[2:] for line in lines if line.strip().startswith("#"))


MACHINES = ("10.0.0.1", "10.0.0.2")


def test_without_a_common_port_the_front_goes_to_each_instance_of_each_machine(
    base: Configuration
) -> None:
    external = own(base, common_port=None)._replace(agent=Agent(9001, "0.0.0.0"))
    found = [line for line in lines_of("haproxy", external, MACHINES, False)
             if line.startswith("server ")]
    assert found == [
        'server 10.0.0.1-web-1 10.0.0.1:8000 agent-send "web-1\\n"',
        'server 10.0.0.1-web-2 10.0.0.1:8001 agent-send "web-2\\n"',
        'server 10.0.0.2-web-1 10.0.0.2:8000 agent-send "web-1\\n"',
        'server 10.0.0.2-web-2 10.0.0.2:8001 agent-send "web-2\\n"',
    ]
    nginx = [line.split()[1] for line in lines_of("nginx", external, MACHINES, False)
             if line.startswith("server 1")]
    assert nginx == ["10.0.0.1:8000", "10.0.0.1:8001", "10.0.0.2:8000", "10.0.0.2:8001"]
    assert "set instanceHost" in remarks_of("nginx", external, MACHINES, False)
    reached = own(external, common_port=None, instance_host="0.0.0.0")
    assert "set instanceHost" not in remarks_of("nginx", reached, MACHINES, False)


def test_with_a_common_port_the_front_goes_there_on_each_machine(base: Configuration) -> None:
    found = base._replace(agent=Agent(9001, "0.0.0.0"))
    lines = lines_of("haproxy", found, MACHINES, False)
    assert "bind *:3000" in lines
    assert 'server 10.0.0.2-web 10.0.0.2:3000 agent-send "web\\n"' in lines
    assert any("agent-check agent-port 9001 agent-inter 1s" in line for line in lines)
    assert "listen 3000;" in lines_of("nginx", found, MACHINES, False)


def test_on_the_machine_of_pupgevent_itself_the_front_listens_elsewhere(
    base: Configuration
) -> None:
    assert "bind *:80" in lines_of("haproxy", base, (), False)
    assert "bind *:80" in lines_of("haproxy", base, ("localhost",), False)
    assert "bind *:13000" in lines_of("haproxy", own(base, protocol="tcp"), (), False)
    remark = "Port 3000 of this machine is pupgevent's own: this listens on 80."
    assert remark in remarks_of("nginx", base, (), False)


def test_what_has_to_be_set_on_the_machines_is_said(base: Configuration) -> None:
    assert "acceptProxyFrom" in remarks_of("haproxy", base, MACHINES, False)
    believed = own(base, accept_proxy_from=(ip_network("10.0.0.0/8"),))
    assert "acceptProxyFrom" not in remarks_of("haproxy", believed, MACHINES, False)
    hidden = base._replace(agent=Agent(9001, "127.0.0.1"))
    assert "set host in [agent]" in remarks_of("haproxy", hidden, MACHINES, False)
    assert "set host in [agent]" not in remarks_of("haproxy", hidden, (), False)
    assert "Without [agent]" in remarks_of("haproxy", base, MACHINES, False)
    unreachable = own(base, common_host="127.0.0.1")
    assert "set commonHost" in remarks_of("nginx", unreachable, MACHINES, False)


def test_the_front_announces_clients_where_that_is_wanted(base: Configuration) -> None:
    tcp = own(base, protocol="tcp", accept_proxy_from=(ip_network("10.0.0.0/8"),))
    for found, words in (
        (own(base, protocol="tcp"), ""), (tcp, "send-proxy-v2 check-send-proxy"),
        (own(base, common_port=None, proxy_protocol="v1"), "send-proxy check-send-proxy"),
        (own(base, common_port=None, proxy_protocol="v2"), "send-proxy-v2 check-send-proxy"),
        # There it is pupgevent that does.
        (own(base, proxy_protocol="v2"), ""),
    ):
        text = "\n".join(lines_of("haproxy", found, MACHINES, False))
        assert words in text and ("send-proxy" in text) is bool(words)
    assert "proxy_protocol on;" in lines_of("nginx", tcp, MACHINES, False)
    assert "version 1" in remarks_of("nginx", tcp, MACHINES, False)
    assert "use export haproxy" in remarks_of("nginx", tcp, MACHINES, True)


def test_tls_ends_at_the_front_unless_it_goes_through(
    base: Configuration, certificate: Tls
) -> None:
    through = own(base, protocol="tcp", tls=certificate)
    assert not any(" ssl" in line for line in lines_of("haproxy", through, MACHINES, False))
    assert "goes through" in remarks_of("nginx", through, MACHINES, False)
    web = own(base, tls=certificate)
    assert any("ssl verify none" in line for line in lines_of("haproxy", web, MACHINES, False))
    assert "proxy_pass https://web;" in lines_of("nginx", web, MACHINES, False)
    external = own(base, common_port=None, tls=certificate)
    assert "proxy_pass http://web;" in lines_of("nginx", external, MACHINES, False)
    assert "listen 443 ssl http2;" in lines_of("nginx", external, MACHINES, False)
    assert not any("ssl verify" in line for line in lines_of("haproxy", external, MACHINES, False))


def test_checks_of_the_front_are_those_of_the_instances(base: Configuration) -> None:
    health = Health("/up", 5.0, 1.0, 3, 4, False, None)
    lines = lines_of("haproxy", own(base, common_port=None, health=health), MACHINES, False)
    assert "http-check send meth GET uri /up hdr Host web" in lines
    assert "timeout check 1s" in lines
    assert any("inter 5s fastinter 500ms downinter 1s rise 3 fall 4" in line for line in lines)
    # Behind a common port, whose instance it would be is left to chance.
    assert not any("/up" in line for line in lines_of(
        "haproxy", own(base, health=health), MACHINES, False))


def test_a_slow_start_is_the_front_s_where_it_chooses_the_instance(base: Configuration) -> None:
    external = lines_of(
        "haproxy", own(base, common_port=None, slow_start=1.5), MACHINES, False)
    assert any("slowstart 1500ms" in line for line in external)
    behind = lines_of("haproxy", own(base, slow_start=1.5), MACHINES, False)
    assert not any("slowstart" in line for line in behind)


@pytest.mark.parametrize("program", list(FRONTS))
def test_without_a_port_there_is_nothing_to_be_in_front_of(tmp_path: Path, program: str) -> None:
    path = tmp_path / "app.toml"
    path.write_text('[[processes]]\nid = "job"\ncmd = "true"\n')
    done = run("export", program, str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "export %s: no process has a cluster with ports" % program in done.stderr


def test_the_command_prints_it(tmp_path: Path) -> None:
    path = tmp_path / "app.toml"
    path.write_text(FILE)
    done = run("export", "haproxy", "--http", "--host=10.0.0.1", "--host", "b.example", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == FRONTS["haproxy"](load(str(path)), ("10.0.0.1", "b.example"), True)


# What they do


class Instance(http.server.BaseHTTPRequestHandler):
    """Answers with something long that may be kept."""

    protocol_version = "HTTP/1.1"
    count = itertools.count(1)

    def do_GET(self) -> None:
        body = (("%d " % next(self.count)) * 2000).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        if self.path == "/kept":
            self.send_header("Cache-Control", "public, max-age=300")
        self.send_header("X-Seen", "%s %s %s" % tuple(
            self.headers.get(name) for name in (
                "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host")))
        self.send_header("X-Client-Cert", self.headers.get("Client-Cert") or "")
        self.send_header("X-Port", str(self.connection.getsockname()[1]))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def instances(
    ports: Sequence[int], context: Optional[ssl.SSLContext] = None
) -> "Iterator[None]":
    """With a context they speak TLS, as common ports do."""
    servers = [http.server.HTTPServer(("127.0.0.1", port), Instance) for port in ports]
    for each in servers:
        if context is not None:
            each.socket = context.wrap_socket(each.socket, server_side=True)
        # A connection that is kept would keep it from the others.
        each.process_request = threading_of(each)  # type: ignore[method-assign]
        threading.Thread(target=functools.partial(each.serve_forever, 0.01)).start()
    try:
        yield
    finally:
        for each in servers:
            each.shutdown()
            each.server_close()


def threading_of(server: Any) -> "Callable[..., None]":
    def process(request: Any, address: Any) -> None:
        def serve() -> None:
            try:
                server.finish_request(request, address)
            except OSError:
                pass  # it has gone
            server.shutdown_request(request)

        threading.Thread(target=serve, daemon=True).start()

    return process


@contextmanager
def front(program: str, text: str, folder: Path, port: int) -> "Iterator[None]":
    text = ours(text, folder)
    text = re.sub(r"(bind \*:|listen )(80|443)\b", r"\g<1>%d" % port, text)
    if program == "nginx" and os.getuid() == 0:
        # Its workers write into folders of this test.
        text = "user root;\n" + text
    path = folder / (program + ".conf")
    path.write_text(text)
    words = {
        "haproxy": [tool("haproxy"), "-db", "-f", str(path)],
        "nginx": [tool("nginx"), "-c", str(path), "-e", str(folder / "error.log"), "-g",
                  "daemon off; pid %s/pid; error_log %s/error.log;" % (folder, folder)],
    }[program]
    with (folder / "output").open("wb") as output:
        child = subprocess.Popen(words, stdout=output, stderr=output)
    try:
        with eventually(lambda: socket.create_connection(("127.0.0.1", port))):
            pass
        yield
    finally:
        child.terminate()
        child.wait(PATIENCE)


def trusting() -> ssl.SSLContext:
    """For a client that verifies nothing."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def ask(
    port: int, path: str, *fields: str, tls: bool = False,
    context: Optional[ssl.SSLContext] = None,
) -> Any:
    """The answer, with its body."""
    if tls:
        client: Any = http.client.HTTPSConnection(
            "127.0.0.1", port, context=context or trusting())
    else:
        client = http.client.HTTPConnection("127.0.0.1", port)
    client.timeout = PATIENCE
    headers = dict(each.split(": ") for each in fields)
    with contextlib.closing(client):
        client.request(
            "GET", path, headers=dict(headers, Host="shop.example", Connection="close"))
        answer: Any = client.getresponse()
        answer.body = answer.read()
    return answer


@pytest.mark.parametrize("program", list(FRONTS))
def test_http_is_compressed_and_cached_and_tells_who_the_client_is(
    base: Configuration, certificate: Tls, tmp_path: Path, free_ports: Any, program: str
) -> None:
    ports = free_ports(3)
    found = own(base, common_port=None, start_port=ports[0], tls=certificate)
    text = FRONTS[program](found, (), True)
    with instances(ports[:2]), front(program, text, tmp_path, ports[2]):
        said = ("X-Forwarded-For: 6.6.6.6", "Accept-Encoding: gzip")
        answer = ask(ports[2], "/", *said, tls=True)
        assert answer.status == 200
        assert answer.headers["X-Seen"] == "127.0.0.1 https shop.example"
        assert answer.headers["Content-Encoding"] == "gzip"
        first = gzip.decompress(answer.body)
        assert len(answer.body) < len(first)
        plain = ask(ports[2], "/", tls=True)
        assert plain.headers["Content-Encoding"] is None and plain.body != first
        kept = {ask(ports[2], "/kept", tls=True).body for _ in range(4)}
        assert len(kept) == 1
        secret = ask(ports[2], "/kept", "Authorization: Basic eDp5", tls=True)
        assert secret.body not in kept


@pytest.mark.parametrize("program", list(FRONTS))
def test_a_cookie_brings_a_client_back_to_its_server(
    base: Configuration, tmp_path: Path, free_ports: Any, program: str
) -> None:
    ports = free_ports(3)
    found = own(base, common_port=None, start_port=ports[0], strategy="cookie")
    with instances(ports[:2]), front(program, FRONTS[program](found, (), False), tmp_path,
                                     ports[2]):
        for _ in range(5):
            first = ask(ports[2], "/")
            cookie = first.headers["Set-Cookie"]
            assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
            said = "Cookie: " + cookie.partition(";")[0]
            again = [ask(ports[2], "/", said) for _ in range(4)]
            # NGINX chooses by the cookie from the second request on.
            same = {each.headers["X-Port"] for each in again}
            assert len(same) == 1 and {each.headers["Set-Cookie"] for each in again} == {None}
            if program == "haproxy":
                assert same == {first.headers["X-Port"]}


def hear_hello(listener: socket.socket, heard: List[bytes]) -> None:
    """What each connection has said, up to the one that says hello."""
    while not any(b"hello" in each for each in heard):
        client, _ = listener.accept()
        client.settimeout(PATIENCE)
        # Checks end with a reset.
        with client, contextlib.suppress(ConnectionError):
            data = b""
            while b"hello" not in data:
                more = client.recv(1000)
                if not more:
                    break
                data += more
            heard.append(data)


@pytest.mark.parametrize("program, start", [("haproxy", b"\r\n\r\n\0\r\nQUIT\n"),
                                            ("nginx", b"PROXY TCP4 127.0.0.1 127.0.0.1 ")])
def test_a_common_port_that_believes_it_is_told_the_client_in_a_proxy_header(
    base: Configuration, tmp_path: Path, free_ports: Any, program: str, start: bytes
) -> None:
    common, start_port, listening = free_ports(3)
    aside = common + 10000 if common < 55536 else common - 10000
    found = own(base, protocol="tcp", common_port=common, start_port=start_port,
                accept_proxy_from=(ip_network("127.0.0.1"),))
    text = re.sub(r"(bind \*:|listen )%d\b" % aside, r"\g<1>%d" % listening,
                  FRONTS[program](found, (), False))
    heard: List[bytes] = []
    with socket.socket() as machine:
        machine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        machine.bind(("127.0.0.1", common))
        machine.listen(16)

        thread = threading.Thread(target=hear_hello, args=(machine, heard))
        thread.start()
        with front(program, text, tmp_path, listening), \
                socket.create_connection(("127.0.0.1", listening), PATIENCE) as client:
            client.sendall(b"hello")
            thread.join(PATIENCE)
        assert heard[-1].startswith(start) and heard[-1].endswith(b"hello")


# TLS


def shown_to(port: int, name: Optional[str]) -> bytes:
    """The certificate for a client that names this host by SNI, or none."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain, \
            trusting().wrap_socket(plain, server_hostname=name) as client:
        shown = client.getpeercert(True)
    assert shown is not None
    return shown


def der(cert: str) -> bytes:
    """What is in a file of one certificate."""
    return ssl.PEM_cert_to_DER_cert(Path(cert).read_text())


def listening_at(text: str, port: int) -> str:
    """The one section of it there."""
    return re.sub(r"(bind \*:|listen )[0-9]+", r"\g<1>%d" % port, text)


@pytest.mark.parametrize("protocol", ["tcp", "http"])
@pytest.mark.parametrize("program", list(FRONTS))
def test_each_host_has_its_certificate(
    base: Configuration, folder: Path, tmp_path: Path, free_ports: Any, program: str,
    protocol: str,
) -> None:
    ports = free_ports(3)
    one, other, many = (pair(folder, name) for name in ("one.test", "other.test", "*.many.test"))
    found = own(base, common_port=None, start_port=ports[0], protocol=protocol,
                tls=Tls((one, other, many), "TLSv1.2", None, None))
    text = listening_at(FRONTS[program](found, (), False), ports[2])
    with instances(ports[:2]), front(program, text, tmp_path, ports[2]):
        for name, expected in (
            ("one.test", one), ("other.test", other), ("a.many.test", many),
            ("nobody.test", one), (None, one),
        ):
            assert shown_to(ports[2], name) == der(expected.cert), name
        assert ask(ports[2], "/", tls=True).status == 200


@pytest.mark.parametrize("protocol", ["tcp", "http"])
@pytest.mark.parametrize("program", list(FRONTS))
def test_the_front_asks_for_certificates_of_clients(
    base: Configuration, folder: Path, tmp_path: Path, free_ports: Any, program: str,
    protocol: str,
) -> None:
    ports = free_ports(3)
    ca = certificates.make_ca(folder)
    own_one = certificates.make(folder, "a client", (), ca=ca)
    found = own(base, common_port=None, start_port=ports[0], protocol=protocol, tls=Tls(
        (pair(folder, "one.test"),), "TLSv1.2", None, TlsFile(ca.cert, "")))
    text = listening_at(FRONTS[program](found, (), False), ports[2])
    with instances(ports[:2]), front(program, text, tmp_path, ports[2]):
        context = trusting()
        context.load_cert_chain(own_one.cert, own_one.key)
        said = () if protocol == "tcp" else ("Client-Cert: :evil:",)
        answer = ask(ports[2], "/", *said, tls=True, context=context)
        assert answer.status == 200
        shown = b64encode(der(own_one.cert)).decode()
        # NGINX has no means to write it so.
        tells = program == "haproxy" and protocol == "http"
        assert answer.headers["X-Client-Cert"] == (":%s:" % shown if tells else "")
        try:
            status = ask(ports[2], "/", tls=True).status
        except OSError:
            return
        assert (status, program, protocol) == (400, "nginx", "http")


def only_1_3(context: ssl.SSLContext) -> None:
    if hasattr(context, "minimum_version"):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    else:
        context.options |= ssl.OP_NO_TLSv1_2 | ssl.OP_NO_TLSv1_1 | ssl.OP_NO_TLSv1


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("program", list(FRONTS))
def test_a_common_port_with_tls_is_spoken_to_with_tls(
    base: Configuration, folder: Path, tmp_path: Path, free_ports: Any, program: str, version: str
) -> None:
    common, start_port, listening = free_ports(3)
    tls = Tls((pair(folder, "one.test"), pair(folder, "other.test")), version, None, None)
    found = own(base, common_port=common, start_port=start_port, tls=tls)
    named: List[Any] = []
    machine = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if version == "TLSv1.3":
        only_1_3(machine)
    machine.load_cert_chain(tls.pairs[0].cert, tls.pairs[0].key)
    machine.set_servername_callback(lambda client, name, context: named.append(name))
    text = listening_at(FRONTS[program](found, (), False), listening)
    # As its comments say.
    verified = text.replace("verify none", "verify required ca-file '%s'" % tls.pairs[0].cert)
    verified = verified.replace("#proxy_ssl_verify", "proxy_ssl_verify").replace(
        "#proxy_ssl_trusted_certificate FILE", 'proxy_ssl_trusted_certificate "%s"' % (
            tls.pairs[0].cert))
    assert verified != text
    for each in (text, verified):
        with instances([common], machine), front(program, each, tmp_path, listening):
            for _ in range(4):
                answer = ask(listening, "/", tls=True)
                assert answer.status == 200 and answer.headers["X-Port"] == str(common)
                assert answer.headers["X-Seen"] == "127.0.0.1 https shop.example"
    # Checks of HAProxy among them.
    assert set(named) == {"one.test"}


def test_haproxy_tells_of_tls_in_headers_as_pupgevent_does(
    base: Configuration, folder: Path, tmp_path: Path, free_ports: Any
) -> None:
    start_port, listening = free_ports(2)
    ca = certificates.make_ca(folder)
    own_one = certificates.make(folder, "a client", (), ca=ca)
    found = own(base, common_port=None, instances=1, start_port=start_port, protocol="tcp",
                proxy_protocol="v2", tls=Tls(
                    (pair(folder, "one.test"),), "TLSv1.3", None, TlsFile(ca.cert, "")))
    text = listening_at(FRONTS["haproxy"](found, (), False), listening)
    heard: List[bytes] = []
    with socket.socket() as instance:
        instance.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        instance.bind(("127.0.0.1", start_port))
        instance.listen(16)
        thread = threading.Thread(target=hear_hello, args=(instance, heard))
        thread.start()
        context = trusting()
        context.load_cert_chain(own_one.cert, own_one.key)
        with front("haproxy", text, tmp_path, listening), \
                socket.create_connection(("127.0.0.1", listening), PATIENCE) as plain, \
                context.wrap_socket(plain, server_hostname="one.test") as client:
            client.sendall(b"hello")
            cipher = client.cipher()
            here, there = client.getsockname(), client.getpeername()
            thread.join(PATIENCE)
    header = read_header(heard[-1])
    assert header is not None and header.announced is not None and cipher is not None
    ends = Announced(here[0], here[1], there[0], there[1])
    expected = with_tls(ends, tls_fields("TLSv1.3", cipher[0], "one.test", "", "a client"))
    # The order of fields, and of those within, is anybody's.
    assert header.announced._replace(extras=b"") == expected._replace(extras=b"")
    assert sorted(header.announced.extras) == sorted(expected.extras)
