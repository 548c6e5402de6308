"""What instances are told of clients whose TLS has ended here, in PROXY headers and in requests."""

import base64
import socket
from contextlib import ExitStack
from ipaddress import ip_network
from typing import Any, Iterator, NamedTuple, Optional, Tuple

import pytest

from http_heads import parse_request
from http_identity import Identity
from proxy_announcing import announce
from proxy_protocol import Announced, read_header, tls_fields
from relay import STREAM, RelaySocket

ENDS = Announced("192.0.2.1", 1111, "198.51.100.7", 8443)


class TlsFacts(NamedTuple):
    """As a client's socket tells of its TLS."""

    version: str = "TLSv1.3"
    cipher: str = "TLS_AES_256_GCM_SHA384"
    server_name: str = "shop.example"
    alpn: str = "http/1.1"
    client_name: Optional[str] = None
    client_certificate: Optional[bytes] = None
    is_resumed: bool = False


class TlsSocket(RelaySocket):
    """A client's socket, as it is with TLS."""

    __slots__ = ("tls",)


# PROXY headers


@pytest.fixture
def ends() -> "Iterator[Tuple[TlsSocket, socket.socket, socket.socket]]":
    """The socket of a client at its server, and both sides of a connection to an instance."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(2)
        client = stack.enter_context(socket.create_connection(listener.getsockname()))
        accepted = listener.accept()[0]
        server = TlsSocket(socket.AF_INET, STREAM, 0, accepted.detach())
        stack.callback(server.close)
        server.announced, server.tls = None, TlsFacts()
        upstream = stack.enter_context(socket.create_connection(listener.getsockname()))
        instance = stack.enter_context(listener.accept()[0])
        instance.settimeout(60)
        assert client.getsockname() == server.getpeername()
        yield server, upstream, instance


def ends_of(client: TlsSocket) -> Announced:
    there, here = client.getpeername(), client.getsockname()
    return Announced(there[0], there[1], here[0], here[1])


def heard(instance: socket.socket) -> Announced:
    data = b""
    while True:
        header = read_header(data)
        if header is not None:
            assert header.announced is not None and header.size == len(data)
            return header.announced
        data += instance.recv(65536)


def test_the_header_of_a_client_with_tls_tells_of_it(ends: Any) -> None:
    client, upstream, instance = ends
    assert announce(client, upstream, "v2") == b""
    expected = tls_fields("TLSv1.3", "TLS_AES_256_GCM_SHA384", "shop.example", "http/1.1")
    assert heard(instance) == ends_of(client)._replace(extras=expected, is_tls=True)


def test_the_certificate_of_a_client_is_named_in_the_header(ends: Any) -> None:
    client, upstream, instance = ends
    client.tls = TlsFacts(client_name="me", is_resumed=True)
    announce(client, upstream, "v2")
    assert heard(instance).extras == tls_fields(
        "TLSv1.3", "TLS_AES_256_GCM_SHA384", "shop.example", "http/1.1", "me", True)


def test_with_tls_an_announced_client_stays_the_one_that_was_announced(ends: Any) -> None:
    client, upstream, instance = ends
    client.announced = ENDS._replace(extras=b"\x05\0\x01x")
    announce(client, upstream, "v2")
    found = heard(instance)
    assert found._replace(extras=b"") == ENDS._replace(is_tls=True)
    assert found.extras.startswith(b"\x05\0\x01x") and b"shop.example" in found.extras


def test_the_tls_of_a_client_goes_before_that_of_its_proxy(ends: Any) -> None:
    """It has ended in front, and the proxy has shown a certificate of its own here."""
    client, upstream, instance = ends
    told = tls_fields("TLSv1.2", "X", client_name="client")
    client.announced = ENDS._replace(extras=told, is_tls=True)
    client.tls = TlsFacts(client_name="proxy")
    announce(client, upstream, "v2")
    assert heard(instance).extras == told


def test_version_1_names_the_ends_alone(ends: Any) -> None:
    client, upstream, instance = ends
    announce(client, upstream, "v1")
    assert heard(instance) == ends_of(client)


def test_without_tls_nothing_is_said_of_it(ends: Any) -> None:
    client, upstream, instance = ends
    client.tls = None
    announce(client, upstream, "v2")
    assert heard(instance) == ends_of(client)


# Requests


class Client:
    """What is known of a client of the http mode."""

    def __init__(
        self, tls: Optional[TlsFacts], announced: Optional[Announced] = None, key: str = "",
        is_believed: bool = False,
    ) -> None:
        self.address = announced.source if announced else "192.0.2.1"
        self.announced = announced
        self.tls = tls
        self.key = self.origin = key
        self.is_believed = is_believed


def identity() -> Identity:
    return Identity("web", 8443, (ip_network("10.0.0.0/8"),), True, False)


def test_a_client_with_tls_is_told_of_as_https() -> None:
    for tls, scheme in ((TlsFacts(), b"https"), (None, b"http")):
        assert identity().lines(Client(tls), b"shop.example") == (
            b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: %s\r\n"
            b"X-Forwarded-Port: 8443\r\nX-Forwarded-Host: shop.example\r\n" % scheme)


def test_behind_a_proxy_that_passes_tls_through_it_is_https_at_the_port_of_the_proxy() -> None:
    lines = identity().lines(Client(TlsFacts(), ENDS._replace(destination_port=443)), b"")
    assert b"X-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\n" in lines


def test_a_cookie_is_secure_where_the_browser_speaks_tls() -> None:
    for client, is_secure in (
        (Client(TlsFacts()), True), (Client(None), False),
        (Client(TlsFacts(), ENDS), True), (Client(None, ENDS), False),
        (Client(None, ENDS._replace(is_tls=True)), True),
        # A proxy that is believed speaks TLS with us, but maybe not with its browser.
        (Client(TlsFacts(), is_believed=True), False),
    ):  # fmt: skip
        line = identity().cookie_for(client, "web-1")
        assert line.startswith(b"Set-Cookie: ") and (b"; Secure" in line) is is_secure


def test_the_certificate_of_a_client_goes_to_the_instance() -> None:
    """RFC 9440: DER as a byte sequence of structured fields."""
    shown = TlsFacts(client_name="me", client_certificate=b"\x30\x82 of DER")
    line = b"Client-Cert: :%s:\r\n" % base64.b64encode(b"\x30\x82 of DER")
    assert identity().lines(Client(shown), b"a").endswith(line)
    assert identity().lines(Client(shown, ENDS), b"a").endswith(line)
    assert b"Client-Cert" not in identity().lines(Client(TlsFacts()), b"a")
    # TLS of the client has ended in front: it is the proxy's.
    assert b"Client-Cert" not in identity().lines(Client(shown, ENDS._replace(is_tls=True)), b"a")


def test_a_proxy_that_is_believed_tells_the_certificate_of_its_client() -> None:
    """Its own is not that of any client."""
    proxy = Client(TlsFacts(client_certificate=b"its own"), is_believed=True)
    head = parse_request(
        b"GET / HTTP/1.1\r\nHost: a\r\nClient-Cert: :QQ==:\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n")
    lines = identity().lines_of(proxy, head)
    assert lines.count(b"Client-Cert") == 1 and b"Client-Cert: :QQ==:\r\n" in lines
