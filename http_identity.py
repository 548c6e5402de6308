"""Who a client of the http mode is: what its instance is told, and how its strategy knows it."""

from typing import Any, Tuple

from http_forwarding import (
    certificate_line,
    cookie_in,
    cookie_line,
    cookie_name,
    forwarded_fields,
    is_among,
    origin,
    passed_on,
)
from http_heads import RequestHead
from model import Network
from strategies import token


class Identity:
    """As one cluster sees its clients, which each have `address`, `origin` and `key`."""

    def __init__(
        self, name: str, port: int, proxies: "Tuple[Network, ...]", by_cookie: bool, logs: bool
    ) -> None:
        """`name` is the process's, `port` the common one. With `logs` the access log gets the heads
        of requests."""
        self._port = port
        self._proxies = proxies
        self._by_cookie = by_cookie
        self._logs = logs
        self._cookie_name = cookie_name(name)
        #: More is to be known of each request than where it ends.
        self.looks = by_cookie or logs

    def believes(self, address: str) -> bool:
        """A peer there is a proxy that is believed about its clients."""
        return bool(self._proxies) and is_among(address, self._proxies)

    def lines(self, client: Any, host: bytes) -> bytes:
        """The lines that tell an instance whose request it is."""
        scheme, port = self._came_to(client)
        lines = forwarded_fields(client.address, scheme, host, port)
        if client.tls is None or (client.announced is not None and client.announced.is_tls):
            return lines  # of TLS that has ended in front, the certificate here is the proxy's
        certificate = client.tls.client_certificate
        return lines + certificate_line(certificate) if certificate else lines

    def _came_to(self, client: Any) -> "Tuple[bytes, int]":
        """Scheme and port at which it has its connection: here, or at a proxy in front."""
        announced, is_tls = client.announced, client.tls is not None
        port = self._port
        if announced is not None:
            is_tls, port = is_tls or announced.is_tls, announced.destination_port
        return b"https" if is_tls else b"http", port

    def lines_of(self, client: Any, head: RequestHead) -> bytes:
        """The same where the client may be a proxy that is believed."""
        if not client.is_believed:
            return self.lines(client, head.host)
        client.origin = origin(head, client.address, self.believes)
        if not self._by_cookie:
            client.key = client.origin
        return passed_on(head, client.address, *self._came_to(client))

    def look(self, client: Any, head: bytes) -> None:
        """What strategy and access log have to know; `head` is as it came."""
        if self._logs:
            client.head = head
        if self._by_cookie:
            client.is_usual = False
            client.key = cookie_in(head, self._cookie_name)

    def cookie_for(self, client: Any, instance: str) -> bytes:
        """The line that makes the client come back to that instance; empty where it does already.
        """
        if not self._by_cookie:
            return b""
        mark = token(instance)
        if mark == client.key:
            return b""
        # A proxy that is believed may speak TLS with us, and none with the browser, which would
        # not take a cookie that says so.
        is_secure = not client.is_believed and self._came_to(client)[0] == b"https"
        return cookie_line(self._cookie_name, mark, is_secure)
