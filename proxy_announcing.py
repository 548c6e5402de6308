"""An instance is told who a connection comes from: the PROXY header that goes before everything."""

import _socket
from typing import Any, Optional

from proxy_protocol import Announced, header_bytes, tls_fields, with_tls


def announce(client: Any, upstream: Any, version: str) -> bytes:
    """Send the header to an instance that is connected; what it has not taken yet. `client` is the
    client's socket, with what a proxy in front has said of it (`announced`), and the TLS that has
    ended here (`tls`; None: it speaks none)."""
    header = header_bytes(version, _announced(client, version))
    try:
        # Else the first words of the client would wait until the header is acknowledged.
        upstream.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        sent: int = upstream.send(header)
    except BlockingIOError:
        sent = 0
    except OSError:
        sent = len(header)  # it has died, and is about to be told of it
    return header[sent:]


def _announced(client: Any, version: str) -> "Optional[Announced]":
    ends: Optional[Announced] = client.announced or _ends_of(client)
    tls = client.tls
    if tls is None or ends is None or version == "v1":
        return ends  # version 1 has no words for TLS
    if ends.is_tls:
        return ends  # the client's own has ended at the proxy in front, whose is the one here
    return with_tls(ends, tls_fields(
        tls.version, tls.cipher, tls.server_name, tls.alpn, tls.client_name, tls.is_resumed))


def _ends_of(client: Any) -> "Optional[Announced]":
    """None where it has gone already."""
    try:
        source, destination = client.getpeername(), client.getsockname()
    except OSError:
        return None
    return Announced(source[0], source[1], destination[0], destination[1])
