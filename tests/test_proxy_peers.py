"""The PROXY protocol with the real HAProxy and NGINX: what they send is understood, and what they
get from here they understand."""

import ssl
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, Iterator

import pytest

from front_servers import Address, haproxy, nginx_http, nginx_stream
from health_check import check
from http_peers import GET, answer, answer_of, request_of, setting_http
from peers import BalancerStage, Peer, Proxy, announced_to, setting
from tools import tool

pytest_plugins = ["stages", "http_stages"]

#: HAProxy's words for a server, and what NGINX has.
SENDERS = {
    "send-proxy": "send-proxy",
    "send-proxy-v2": "send-proxy-v2",
    "send-proxy-v2 with a checksum": "send-proxy-v2 proxy-v2-options crc32c,unique-id",
}

HAPROXY_FRONT = """
listen front
    mode tcp
    unique-id-format %%{+X}o\\ %%ci:%%cp
    bind %s:%d
    server pupgevent %s:%d %s
"""

NGINX_FRONT = """
server {
    listen %s:%d;
    proxy_pass %s:%d;
    proxy_protocol on;
}
"""


def sending(sender: str, folder: Path, here: Address, there: Address) -> "ContextManager[Address]":
    if sender == "NGINX":
        return nginx_stream(folder, here, NGINX_FRONT % (*here, *there))
    return haproxy(folder, here, HAPROXY_FRONT % (*here, *there, SENDERS[sender]))


@contextmanager
def in_front(
    stage: BalancerStage, sender: str, folder: Path, port: int
) -> "Iterator[Address]":
    """Clients come to that front, at that port, and the only instance gets them."""
    there = stage.listens()
    stage.only = stage.instance().comes_up()
    here = ("127.0.0.1", port)
    with sending(sender, folder, here, (there[0], there[1])):
        stage.common = here
        yield here


@pytest.mark.parametrize("sender", [*SENDERS, "NGINX"])
def test_the_header_of_a_front_is_believed(
    proxy: Proxy, tmp_path: Path, free_port: "Callable[[], int]", sender: str
) -> None:
    """With tcp it goes on to the instance, as another version where that is wanted."""
    with setting(proxy, accept_proxy_from=["127.0.0.1"], proxy_protocol="v2") as stage, in_front(
            stage, sender, tmp_path, free_port()) as here:
        client = stage.client(source=("127.0.0.9", 0)).says(b"question")
        server = accepts_of(stage, client, here)
        server.hears(b"question").says(b"answer")
        client.hears(b"answer")


def accepts_of(stage: BalancerStage, client: Peer, front: Address) -> Peer:
    """The connection of that client; who has looked whether the front accepts came before it."""
    while True:
        server = stage.only.accepts()
        announced = announced_to(server)
        if announced[:4] == (*client.address, *front):
            return server
        server.is_sent_away()


@pytest.mark.parametrize("sender", [*SENDERS, "NGINX"])
def test_with_http_a_front_need_not_say_it_in_a_field(
    proxy: Proxy, tmp_path: Path, free_port: "Callable[[], int]", sender: str
) -> None:
    with setting_http(proxy, accept_proxy_from=["127.0.0.1"]) as stage, in_front(
            stage, sender, tmp_path, free_port()) as here:
        client = stage.client(source=("127.0.0.9", 0)).says(GET)
        server = stage.only.accepts()
        request = request_of(server)
        assert request.value(b"x-forwarded-for") == b"127.0.0.9"
        assert request.value(b"x-forwarded-port") == b"%d" % here[1]
        server.says(answer(b"hello"))
        assert answer_of(client).body == b"hello"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: Any) -> Path:
    """Of localhost, with its key, as HAProxy wants them: in one file."""
    folder: Path = tmp_path_factory.mktemp("certificate")
    both = folder / "both.pem"
    subprocess.run(
        [tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-subj", "/CN=localhost", "-days", "2", "-keyout", str(folder / "key.pem"),
         "-out", str(folder / "cert.pem")],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
    both.write_bytes((folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes())
    return both


TLS_FRONT = """
listen front
    mode tcp
    bind %s:%d ssl crt %s
    server pupgevent %s:%d send-proxy-v2-ssl-cn
"""


def test_tls_that_ends_at_a_front_is_known_from_its_header(
    proxy: Proxy, tmp_path: Path, free_port: "Callable[[], int]", certificate: Path
) -> None:
    with setting_http(proxy, accept_proxy_from=["127.0.0.1"], proxy_protocol="v2") as stage:
        there = stage.listens()
        stage.only = stage.instance().comes_up()
        here = ("127.0.0.1", free_port())
        with haproxy(tmp_path, here, TLS_FRONT % (*here, certificate, there[0], there[1])):
            stage.common = here
            context = ssl.create_default_context(cafile=str(certificate))
            client = stage.client()
            with context.wrap_socket(client.socket, server_hostname="localhost") as secure:
                secure.sendall(GET)
                server = stage.only.accepts()
                announced = announced_to(server)
                assert announced.is_tls and b"TLSv1." in announced.extras
                assert request_of(server).value(b"x-forwarded-proto") == b"https"
                server.says(answer(b"hello"))
                assert answer_of(Peer(secure)).body == b"hello"


# Instances that get it


HAPROXY_INSTANCE = """
frontend instance
    mode http
    bind %s:%d accept-proxy
    http-request return status 200 content-type text/plain lf-string "%s"
"""
HAPROXY_WORDS = "%[src] %[src_port] %[dst] %[dst_port]"

NGINX_INSTANCE = """
server {
    listen %s:%d proxy_protocol;
    return 200 "%s";
}
"""
NGINX_WORDS = " ".join("$proxy_protocol_" + word for word in (
    "addr", "port", "server_addr", "server_port"))

INSTANCES: "Dict[str, Callable[[Path, Address], ContextManager[Address]]]" = {
    "HAProxy": lambda folder, address: haproxy(
        folder, address, HAPROXY_INSTANCE % (*address, HAPROXY_WORDS)),
    "NGINX": lambda folder, address: nginx_http(
        folder, address, NGINX_INSTANCE % (*address, NGINX_WORDS)),
}


@pytest.fixture(params=list(INSTANCES))
def instance(
    request: Any, tmp_path: Path, free_port: "Callable[[], int]"
) -> "Iterator[Address]":
    with INSTANCES[request.param](tmp_path, ("127.0.0.1", free_port())) as address:
        yield address


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("protocol", ["tcp", "http"])
def test_instances_learn_who_their_clients_are(
    proxy: Proxy, instance: Address, protocol: str, version: str, host: str
) -> None:
    with ExitStack() as stack:
        stage: BalancerStage = stack.enter_context(
            setting_http(proxy, proxy_protocol=version) if protocol == "http"
            else setting(proxy, proxy_protocol=version))
        stage.listens("::")
        stage.proxy.call("up", "web-1", *instance)
        for _ in range(2):
            client = stage.client(host).says(GET)
            told = answer_of(client).body.decode().split()
            assert told == [*map(str, client.socket.getsockname()[:2]),
                            *map(str, client.socket.getpeername()[:2])]
            client.leaves()
        stage.counts(turned_away=0, open=0)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_health_checks_of_instances_that_expect_a_header_have_one(
    instance: Address, version: str
) -> None:
    without, with_header = (check(*instance, "/", 20.0, each) for each in (None, version))
    assert without is not None and not without.passed
    assert with_header is not None and with_header.passed, with_header


def test_a_client_that_announces_another_is_announced_as_that(
    proxy: Proxy, instance: Address
) -> None:
    """A header that came is passed on, and not believed about requests behind it."""
    with setting(proxy, accept_proxy_from=["127.0.0.1"], proxy_protocol="v1") as stage:
        stage.listens()
        stage.proxy.call("up", "web-1", *instance)
        client = stage.client().says(b"PROXY TCP6 2001:db8::1 2001:db8::2 7 443\r\n" + GET)
        assert answer_of(client).body == b"2001:db8::1 7 2001:db8::2 443"
