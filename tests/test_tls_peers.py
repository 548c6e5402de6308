"""TLS that ends at a common port, as it looks to programs of others: curl, openssl, NGINX and
HAProxy, and to who asks what a scanner such as testssl.sh does."""

import csv
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

import pytest

from certificates import Made, make, make_ca
from conftest import PortLocks, eventually
from front_servers import haproxy, nginx_http, nginx_stream
from running import Running, get, server
from tls_clients import (
    ALERT,
    HANDSHAKE,
    HANDSHAKE_FAILURE,
    INAPPROPRIATE_FALLBACK,
    PROTOCOL_VERSION,
    STRONG,
    offer,
)
from tools import tool

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

PROTOCOLS = ("http", "tcp")


class Site(NamedTuple):
    """One pupgevent for all these tests; nothing of it is changed."""

    app: Running
    ca: Made
    #: Common ports: by protocol, with "newest" where TLS 1.3 is the least, and with "behind" where
    #: proxies in front are believed.
    ports: Dict[str, int]


@pytest.fixture(scope="module")
def site(port_locks: PortLocks) -> "Iterator[Site]":
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="pg-"))
        stack.callback(shutil.rmtree, str(folder))
        kinds = [protocol + rest for protocol in PROTOCOLS for rest in ("", " newest", " behind")]
        locked = port_locks.take(2 * len(kinds))
        stack.callback(port_locks.release, locked)
        ports = dict(zip(kinds, locked[len(kinds):]))
        ca = make_ca(folder)
        ec = make(folder, "ec", ca=ca)
        rsa = make(folder, "rsa", ca=ca, rsa=True)
        wild = make(folder, "wild", ["DNS:*.example.com"], ca=ca)
        processes = []
        for port, (kind, common) in zip(locked, ports.items()):
            protocol, rest = kind.split()[0], kind.partition(" ")[2]
            pairs = [rsa, wild] if protocol == "http" else [ec]
            tls: Dict[str, Any] = {
                "cert": [each.cert for each in pairs], "key": [each.key for each in pairs]}
            if rest == "newest":
                tls["minVersion"] = "TLSv1.3"
            process = server("%s-%s" % (protocol, rest or "usual"), [port], common)
            process["cluster"].update(protocol=protocol, tls=tls)
            if rest == "behind":
                process["cluster"]["acceptProxyFrom"] = ["127.0.0.1"]
            processes.append(process)
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("XDG_RUNTIME_DIR", str(folder))
        app = Running(folder, *processes)
        stack.callback(app.end)
        app.start()
        yield Site(app, ca, ports)


def output_of(*words: str, stdin: bytes = b"") -> str:
    done = subprocess.run(words, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=60, check=False)
    return done.stdout.decode(errors="replace")


# curl


def curl_words() -> "List[str]":
    """Whatever the machine has set up for it."""
    return [tool("curl"), "-q", "-sS", "--noproxy", "*"]


def curl(site: Site, kind: str, *options: str) -> str:
    """Its version of TLS, that of HTTP, and the answer."""
    return output_of(
        *curl_words(), "--max-time", "50", "--cacert", site.ca.cert, *options, "-w",
        "%{http_version} %{ssl_verify_result}", "https://localhost:%d/" % site.ports[kind],
        "--resolve", "localhost:%d:127.0.0.1" % site.ports[kind])


@pytest.mark.parametrize("options", [
    [], ["--tls-max", "1.2"], ["--tlsv1.3"], ["--http2"], ["--http1.0"]], ids=" ".join)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_curl(site: Site, protocol: str, options: "List[str]") -> None:
    """One that would like HTTP/2 finds by ALPN that there is none."""
    found = curl(site, protocol, *options)
    assert found.startswith("Hello from instance 0 "), found
    # The application alone has not heard of 1.0 in its answer.
    assert found.endswith("\n1.1 0"), found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_curl_loads_much(site: Site, protocol: str) -> None:
    url = "https://localhost:%d/bytes/20000000" % site.ports[protocol]
    found = output_of(*curl_words(), "--cacert", site.ca.cert, "-o", os.devnull, url, url,
                      "-o", os.devnull, "-w", "%{http_code} %{size_download}\n")
    assert found.split() == ["200", "20000000"] * 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_answer_behind_a_long_one_is_encrypted(site: Site, protocol: str) -> None:
    """With http the next answer over the same connection to the instance is read another way."""
    here = "https://localhost:%d" % site.ports[protocol]
    for size in (3000000, 100, 200000, 100):
        path = "%s/bytes/%d" % (here, size)
        found = output_of(*curl_words(), "--cacert", site.ca.cert, path)
        assert found == "x" * size, found[:200]


def test_curl_that_may_not_speak_what_is_wanted_is_refused(site: Site) -> None:
    found = curl(site, "http newest", "--tls-max", "1.2")
    assert "alert protocol version" in found
    assert curl(site, "http newest").endswith("\n1.1 0")


# openssl s_client


def s_client(site: Site, kind: str, *options: str) -> str:
    """What it says of a connection on which it has asked once."""
    return output_of(*words_of(site, kind), "-ign_eof", *options, stdin=REQUEST)


def words_of(site: Site, kind: str) -> "List[str]":
    return [tool("openssl"), "s_client", "-connect", "127.0.0.1:%d" % site.ports[kind], "-CAfile",
            site.ca.cert]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_openssl_agrees_on_tls_1_2(site: Site, protocol: str) -> None:
    found = s_client(site, protocol, "-tls1_2", "-servername", "localhost", "-status",
                     "-alpn", "h2,http/1.1")
    kind = "RSA" if protocol == "http" else "ECDSA"
    assert re.search(r"New, TLSv1.2, Cipher is ECDHE-%s-(AES|CHACHA)" % kind, found), found
    assert "Secure Renegotiation IS supported" in found
    assert "Compression: NONE" in found
    assert "OCSP response: no response sent" in found
    assert "Verify return code: 0 (ok)" in found
    assert "Server Temp Key: X25519" in found
    alpn = "ALPN protocol: http/1.1" if protocol == "http" else "No ALPN negotiated"
    assert alpn in found
    assert "Hello from instance 0 " in found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_openssl_agrees_on_tls_1_3(site: Site, protocol: str) -> None:
    found = s_client(site, protocol, "-alpn", "http/1.1")
    assert "New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384" in found
    assert "Compression: NONE" in found
    assert "Max Early Data: 0" in found or "Early data was not sent" in found
    assert "Hello from instance 0 " in found


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_openssl_comes_back_with_a_ticket(
    site: Site, tmp_path: Path, protocol: str, version: str
) -> None:
    ticket = str(tmp_path / "ticket")
    assert "\nNew, " in s_client(site, protocol, version, "-sess_out", ticket)
    found = s_client(site, protocol, version, "-sess_in", ticket)
    assert "\nReused, " in found
    assert "Hello from instance 0 " in found


@pytest.mark.skipif(not hasattr(ssl.SSLContext, "num_tickets"), reason="OpenSSL gives two there")
def test_openssl_is_given_one_ticket_with_each_connection(site: Site, tmp_path: Path) -> None:
    ticket = str(tmp_path / "ticket")
    for option in ("-sess_out", "-sess_in"):
        found = s_client(site, "http", "-tls1_3", option, ticket)
        assert found.count("New Session Ticket arrived") == 1


def test_openssl_is_given_the_certificate_of_the_host_that_it_names(site: Site) -> None:
    def subject(*options: str) -> str:
        found = s_client(site, "http", *options)
        return found.split("subject=")[1].splitlines()[0].replace(" ", "")

    assert subject("-servername", "a.example.com") == "CN=wild"
    assert subject("-servername", "A.Example.COM") == "CN=wild"
    for other in ("localhost", "example.com", "a.b.example.com", "unknown.example.org"):
        assert subject("-servername", other) == "CN=rsa", other
    assert subject("-noservername") == "CN=rsa"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nobody_negotiates_once_more(site: Site, protocol: str) -> None:
    """OpenSSL's client asks for it where a line begins with R."""
    found = output_of(*words_of(site, protocol), "-tls1_2", stdin=b"R\n")
    assert "RENEGOTIATING" in found
    assert "no renegotiation" in found
    assert "Hello from" in s_client(site, protocol)


# What a scanner asks

#: By their number: RFC 5246 and others.
WEAK = {
    "RSA_WITH_NULL_SHA256": 0x003b,
    "RSA_EXPORT_WITH_RC4_40_MD5": 0x0003,
    "RSA_WITH_RC4_128_SHA": 0x0005,
    "ECDHE_RSA_WITH_RC4_128_SHA": 0xc011,
    "RSA_WITH_DES_CBC_SHA": 0x0009,
    "RSA_WITH_3DES_EDE_CBC_SHA": 0x000a,
    "ECDHE_RSA_WITH_3DES_EDE_CBC_SHA": 0xc012,
    "RSA_WITH_AES_128_CBC_SHA": 0x002f,
    "RSA_WITH_AES_128_GCM_SHA256": 0x009c,
    "ECDHE_RSA_WITH_AES_128_CBC_SHA": 0xc013,
    "ECDHE_RSA_WITH_AES_256_CBC_SHA384": 0xc028,
    "ECDHE_ECDSA_WITH_AES_128_CBC_SHA": 0xc009,
    "DHE_RSA_WITH_AES_128_GCM_SHA256": 0x009e,
    "DH_anon_WITH_AES_128_GCM_SHA256": 0x00a6,
    "ECDH_anon_WITH_AES_128_CBC_SHA": 0xc018,
    "ECDHE_RSA_WITH_NULL_SHA": 0xc010,
}

FALLBACK = 0x5600


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_weak_ciphers_are_refused(site: Site, protocol: str) -> None:
    port = site.ports[protocol]
    agreed = [name for name, number in WEAK.items() if offer(port, [number]).kind != ALERT]
    assert agreed == []
    refusal = offer(port, list(WEAK.values()))
    assert (refusal.kind, refusal.alert) == (ALERT, HANDSHAKE_FAILURE)
    assert offer(port, [*WEAK.values(), *STRONG]).cipher in STRONG


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_older_than_tls_1_2_is_refused(site: Site, protocol: str) -> None:
    for version in (0x0300, 0x0301, 0x0302):
        refusal = offer(site.ports[protocol], STRONG, version)
        assert refusal.kind == ALERT, hex(version)
        assert refusal.alert in (PROTOCOL_VERSION, HANDSHAKE_FAILURE)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_learns_that_it_was_made_to_speak_an_older_version(
    site: Site, protocol: str
) -> None:
    port = site.ports[protocol]
    hello = offer(port, STRONG)
    assert (hello.kind, hello.version) == (HANDSHAKE, 0x0303)
    assert hello.sentinel == b"DOWNGRD\x01"
    refusal = offer(port, [*STRONG, FALLBACK])
    assert (refusal.kind, refusal.alert) == (ALERT, INAPPROPRIATE_FALLBACK)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_is_compressed_and_renegotiation_is_secure(site: Site, protocol: str) -> None:
    hello = offer(site.ports[protocol], STRONG)
    assert hello.compression == 0
    assert 0xff01 in hello.extensions
    assert 23 in hello.extensions  # the extended master secret (RFC 7627)
    assert 15 not in hello.extensions  # no heartbeat


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_with_tls_1_3_alone_tls_1_2_is_refused(site: Site, protocol: str) -> None:
    refusal = offer(site.ports[protocol + " newest"], STRONG)
    assert (refusal.kind, refusal.alert) == (ALERT, PROTOCOL_VERSION)
    assert "New, TLSv1.3" in s_client(site, protocol + " newest")


# Proxies that speak TLS with us

NGINX_HTTP = """
server {
    listen 127.0.0.1:%d;
    location / {
        proxy_pass https://127.0.0.1:%d;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_ssl_verify on; proxy_ssl_trusted_certificate %s;
        proxy_ssl_name %s; proxy_ssl_server_name on;
        proxy_ssl_protocols %s;
    }
}
"""


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nginx_asks_by_https(
    site: Site, tmp_path: Path, free_port: "Callable[[], int]", protocol: str, version: str
) -> None:
    """It comes back with its session, and so for each of these."""
    port = free_port()
    block = NGINX_HTTP % (port, site.ports[protocol], site.ca.cert, "localhost", version)
    with nginx_http(tmp_path, ("127.0.0.1", port), block):
        for _ in range(5):
            assert get(port).startswith("Hello from instance 0 ")
    assert "error" not in (tmp_path / "error.log").read_text()


def test_nginx_refuses_a_certificate_of_another_host(
    site: Site, tmp_path: Path, free_port: "Callable[[], int]"
) -> None:
    """So it has verified the others, and by the name that it has asked for."""
    port = free_port()
    for name, answer in (("b.example.com", b"200"), ("example.org", b"502")):
        block = NGINX_HTTP % (port, site.ports["http"], site.ca.cert, name, "TLSv1.2 TLSv1.3")
        with nginx_http(tmp_path, ("127.0.0.1", port), block), socket.create_connection(
                ("127.0.0.1", port), 60) as client:
            client.sendall(REQUEST)
            assert client.recv(1000).split()[1] == answer


NGINX_STREAM = """
server {
    listen 127.0.0.1:%d;
    proxy_pass 127.0.0.1:%d;
    proxy_ssl on; proxy_ssl_verify on; proxy_ssl_trusted_certificate %s; proxy_ssl_name localhost;
    %s
}
"""


@pytest.mark.parametrize("kind", ["", " behind"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nginx_passes_a_stream_on(
    site: Site, tmp_path: Path, free_port: "Callable[[], int]", protocol: str, kind: str
) -> None:
    """Its header of the PROXY protocol comes before its handshake."""
    port = free_port()
    block = NGINX_STREAM % (
        port, site.ports[protocol + kind], site.ca.cert, "proxy_protocol on;" if kind else "")
    with nginx_stream(tmp_path, ("127.0.0.1", port), block):
        for _ in range(3):
            assert get(port).startswith("Hello from instance 0 ")


HAPROXY = """
global
    stats socket %s/stats level user
listen front
    mode %s
    bind 127.0.0.1:%d
    option httpchk GET /
    default-server check inter 100 fall 1 rise 1
    server one 127.0.0.1:%d ssl verify required ca-file %s verifyhost localhost %s
"""


@pytest.mark.parametrize("options", [
    "check-ssl sni str(localhost)", "force-tlsv12", "force-tlsv13", "no-ssl-reuse",
    "send-proxy", "send-proxy-v2", "alpn h2,http/1.1 check-alpn http/1.1"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_haproxy_as_a_client(
    site: Site, tmp_path: Path, free_port: "Callable[[], int]", protocol: str, options: str
) -> None:
    """Its checks speak TLS as well, and have a header in front where requests have one."""
    port = free_port()
    kind = " behind" if "send-proxy" in options else ""
    block = HAPROXY % (tmp_path, "http" if protocol == "http" else "tcp", port,
                       site.ports[protocol + kind], site.ca.cert, options)
    with haproxy(tmp_path, ("127.0.0.1", port), block):
        eventually(lambda: check_of(tmp_path / "stats") == "L7OK")
        for _ in range(3):
            assert get(port).startswith("Hello from instance 0 ")


def check_of(path: Path) -> str:
    """What the last check of the one server has found."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(path))
        client.sendall(b"show stat\n")
        text = b"".join(iter(lambda: client.recv(65536), b"")).decode()
    rows: List[Dict[str, Any]] = list(csv.DictReader(text.lstrip("# ").splitlines()))
    return next(str(each["check_status"]) for each in rows if each["svname"] == "one")
