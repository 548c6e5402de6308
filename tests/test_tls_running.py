"""TLS that ends at the common port of a whole pupgevent: whose certificate is served, who is let
in, what instances are told, and how it ends."""

import base64
import socket
import ssl
import struct
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import pytest

from certificates import Made, in_one_file, make, make_ca
from conftest import eventually
from proxy_protocol import read_header
from running import QUICK, ROOT, Running, cluster, now, server
from tls_clients import (
    ALERT,
    HANDSHAKE,
    KEEPING,
    PATIENCE,
    STRONG,
    SecureLoad,
    ask,
    ask_once,
    client_context,
    connect,
    offer,
)
from tools import tool

pytest_plugins = ["runs"]

Make = Callable[..., Running]
Ports = Callable[[int], List[int]]

VERSIONS = ("TLSv1.2", "TLSv1.3")
PROTOCOLS = ("http", "tcp")

SAYING_BACK = str(ROOT / "tests" / "children" / "saying_back.py")


def tls_of(*pairs: Made, **more: Any) -> Dict[str, Any]:
    certs, keys = zip(*pairs)
    return dict({"cert": certs, "key": keys}, **more)


def secure(process: Any, protocol: str, tls: "Dict[str, Any]") -> Any:
    process["cluster"].update(protocol=protocol, tls=tls)
    return process


def both(ports: "List[int]", tls: "Dict[str, Any]") -> "List[Any]":
    """A process of each protocol; the last two of the ports are common ones."""
    return [secure(server(protocol, [own], common), protocol, tls)
            for protocol, own, common in zip(PROTOCOLS, ports, ports[2:])]


# Whose certificate


def test_the_certificate_is_that_of_the_host_that_is_asked_for(
    running: Make, folder: Path, free_ports: Ports
) -> None:
    ca, ports = make_ca(folder), free_ports(4)
    pairs = [
        make(folder, "first", ["DNS:first.example", "IP:127.0.0.1"], ca=ca, rsa=True),
        make(folder, "exact", ["DNS:shop.example.com", "DNS:www.example.com"], ca=ca),
        make(folder, "wild", ["DNS:*.example.com"], ca=ca, rsa=True),
        make(folder, "only-a-name.example", [], ca=ca),
        in_one_file(make(folder, "one-file", ["DNS:one.example"], ca=ca), folder / "one-file"),
        make(folder, "idn", ["DNS:xn--bcher-kva.example"], ca=ca),
    ]  # fmt: skip
    running(*both(ports, tls_of(*pairs))).start()
    context = client_context(ca.cert)
    anybody = client_context(ca.cert)
    anybody.check_hostname = False

    def served(name: Optional[str], common: int, context: ssl.SSLContext = context) -> str:
        with connect(common, context, name) as client:
            assert ask(client).startswith(b"Hello from ")
            certificate: Any = client.getpeercert()
        subject = dict(pair for part in certificate["subject"] for pair in part)
        return str(subject["commonName"])

    for common in ports[2:]:
        assert served("shop.example.com", common) == "exact"
        assert served("WWW.Example.COM", common) == "exact"
        assert served("other.example.com", common) == "wild"
        assert served("OTHER.example.com", common) == "wild"
        assert served("one.example", common) == "one-file"
        assert served("only-a-name.example", common, anybody) == "only-a-name.example"
        assert served("b\u00fccher.example", common, anybody) == "idn"
        assert served("shop.example.com.", common, anybody) == "exact"
        assert served("127.0.0.1", common) == "first"
        for name in (None, "example.com", "a.b.example.com", "unknown.example", "x" * 63):
            assert served(name, common, anybody) == "first", name


def test_a_name_that_is_none_is_refused_with_a_line(
    running: Make, folder: Path, free_ports: Ports
) -> None:
    """Python decodes it, and prints a traceback where it cannot: `Running.end` looks for one."""
    ports = free_ports(4)
    app = running(*both(ports, tls_of(make(folder)))).start()
    for common in ports[2:]:
        assert offer(common, STRONG, name=b"\xff\xfe.example").kind == ALERT
        assert offer(common, STRONG, name=b"unknown.example").kind == HANDSHAKE
    eventually(lambda: app.said().count("it asks for a host by what is no name") == 2)


# Who is let in


def test_clients_have_to_show_a_certificate_of_that_ca(
    running: Make, folder: Path, free_ports: Ports, tmp_path: Path
) -> None:
    """With TLS 1.3 one that has not is told behind its own handshake."""
    ca, others, ports = make_ca(folder), make_ca(tmp_path, "Others"), free_ports(4)
    site = make(folder, "site", ca=ca)
    app = running(*both(ports, tls_of(site, clientCa=ca.cert))).start()
    good = make(folder, "good", ca=ca)
    strangers = {
        None: "certificate.required|handshake.failure",
        make(tmp_path, "stranger", ca=others): "unknown.ca",
        make(tmp_path, "own"): "unknown.ca",
        make(folder, "expired", days=-3, ca=ca): "certificate.expired",
    }
    for common in ports[2:]:
        for version in VERSIONS:
            context = client_context(ca.cert, version, good)
            with connect(common, context) as client:
                assert ask(client).startswith(b"Hello from ")
                session = client.session
            with connect(common, context, session=session) as client:
                assert ask(client).startswith(b"Hello from ")
                assert client.session_reused
            for stranger, reason in strangers.items():
                with pytest.raises(OSError, match="(?i)" + reason.replace(".", "[ _]")):
                    ask_once(common, client_context(ca.cert, version, stranger))
    for protocol in PROTOCOLS:
        balancer = app.process(protocol)["balancer"]
        assert (balancer["turnedAway"], balancer["total"]) == (8, 4)
    assert "has not come through the handshake" in app.said()


# What instances are told


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_instances_are_told_of_tls(
    running: Make, folder: Path, free_ports: Ports, protocol: str
) -> None:
    """Each in the way that it has asked for: a header of the PROXY protocol, fields of HTTP."""
    ca, ports = make_ca(folder), free_ports(2)
    own = make(folder, "me", ca=ca)
    process = secure(dict(
        QUICK, id="app", cmd=[sys.executable, SAYING_BACK], autostart=True,
        cluster=cluster(ports[:1], ports[1], proxyProtocol="v2"),
    ), protocol, tls_of(make(folder, "site", ca=ca), clientCa=ca.cert))
    running(process).start()
    for version in VERSIONS:
        context = client_context(ca.cert, version, own)
        context.set_alpn_protocols(["http/1.1"])
        with connect(ports[1], context, "LocalHost") as client:
            told = base64.b64decode(ask(client))
            header = read_header(told)
            address = client.getsockname()
            cipher: Any = client.cipher()
            certificate = Path(own.cert).read_text()
        assert header is not None and header.announced is not None
        told, announced = told[header.size:], header.announced
        assert (announced.source, announced.source_port) == address
        assert announced.is_tls
        fields = fields_of(announced.extras)
        assert fields[0x02] == b"localhost"
        assert fields.get(0x01) == (b"http/1.1" if protocol == "http" else None)
        assert fields[0x20][:5] == b"\x07\0\0\0\0"
        inner = fields_of(fields[0x20][5:])
        assert inner == {0x21: version.encode(), 0x22: b"me", 0x23: cipher[0].encode()}
        if protocol == "http":
            lines = told.decode().split("\r\n")
            assert "X-Forwarded-Proto: https" in lines
            assert "X-Forwarded-Port: %d" % ports[1] in lines
            der = base64.b64encode(ssl.PEM_cert_to_DER_cert(certificate)).decode()
            assert "Client-Cert: :%s:" % der in lines
        else:
            assert told == KEEPING


def fields_of(data: bytes) -> "Dict[int, bytes]":
    found = {}
    while data:
        kind, size = struct.unpack("!BH", data[:3])
        found[kind], data = data[3:3 + size], data[3 + size:]
    return found


HAPROXY = """
defaults
    mode http
    timeout client 60s
frontend instance
    bind "127.0.0.1:${PUP_CLUSTER_PORT}" accept-proxy
    http-request return status 200 content-type text/plain lf-string "%s"
"""
HAPROXY_WORDS = "%[fc_pp_authority] %[src] %[src_port] %[dst_port] %[req.hdr(x-forwarded-proto)]"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_haproxy_as_an_instance_reads_whom_a_client_has_asked_for(
    running: Make, folder: Path, free_ports: Ports, protocol: str
) -> None:
    ca, ports = make_ca(folder), free_ports(2)
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY % HAPROXY_WORDS)
    process = secure(dict(
        QUICK, id="app", cmd=[tool("haproxy"), "-db", "-f", str(config)], autostart=True,
        cluster=cluster(ports[:1], ports[1], proxyProtocol="v2"),
    ), protocol, tls_of(make(folder, "site", ca=ca)))
    running(process).start()
    with connect(ports[1], client_context(ca.cert)) as client:
        told = ask(client).decode().split()
        host, port = client.getsockname()
    scheme = ["https"] if protocol == "http" else []
    assert told == ["localhost", host, str(port), str(ports[1]), *scheme]


# Under load, and the end


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_rolling_restart_loses_no_request(
    running: Make, folder: Path, free_ports: Ports, protocol: str
) -> None:
    ca, ports = make_ca(folder), free_ports(3)
    process = secure(server("app", ports[:2], ports[2]), protocol,
                     tls_of(make(folder, "site", ca=ca)))
    app = running(process).start()
    with SecureLoad(ports[2], client_context(ca.cert)) as load:
        eventually(lambda: load.served > 30)
        app.ask("restart", words=["app"])
        before = load.served
        eventually(lambda: load.served > before + 30)
    assert load.failures == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_shutdown_waits_for_no_handshake_and_ends_cleanly(
    running: Make, folder: Path, free_ports: Ports, protocol: str
) -> None:
    """Who is idle is told the end by TLS itself: nobody in between has made it up."""
    ca, ports = make_ca(folder), free_ports(2)
    process = secure(server("app", ports[:1], ports[1]), protocol,
                     tls_of(make(folder, "site", ca=ca)))
    app = running(process).start()
    silent = socket.create_connection(("127.0.0.1", ports[1]), PATIENCE)
    halfway = socket.create_connection(("127.0.0.1", ports[1]), PATIENCE)
    halfway.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    idle = [connect(ports[1], client_context(ca.cert, version)) for version in VERSIONS]
    for each in idle:
        assert ask(each).startswith(b"Hello from ")
    began = now()
    app.ask("shutdown")
    assert app.wait() == 0
    # The application itself takes two seconds for connections that are idle with tcp.
    assert now() - began < 30
    for client in idle:
        assert client.recv(1000) == b""
        client.close()
    for plain in (silent, halfway):
        assert plain.recv(1000) == b""
        plain.close()
