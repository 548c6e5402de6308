"""What a socket whose TLS ends here sends, as long as its client takes little at a time."""

import select
import socket
import ssl
from typing import Any, Callable, Iterator, Tuple

import pytest

from certificates import Made
from peers import Aside
from relay import STREAM
from secure_peers import VERSIONS, Channel, SecurePeer, client_context
from tls_session import TlsSession
from tls_sockets import SecureRelaySocket

pytest_plugins = ["secure_stages"]

#: What the kernel is asked to take at once.
ROOM = 4096

Pair = Tuple[SecureRelaySocket, SecurePeer]


@pytest.fixture(params=VERSIONS)
def pair(request: Any, made: Made) -> "Iterator[Pair]":
    """A socket of ours, after the handshake, and its client."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)
    tls, client = TlsSession(context), Channel(theirs, client_context(request.param))
    shaking = Aside(client.handshake)
    is_over = False
    while not is_over:
        is_over, output = tls.handshake(ours.recv(65536))
        ours.sendall(output)
    shaking.is_done()
    sock = SecureRelaySocket(ours.family, STREAM, 0, ours.detach())
    sock.setblocking(False)
    sock.tls = tls
    yield sock, SecurePeer(client)  # type: ignore[arg-type]
    sock.close()
    client.close()


def sends(sock: SecureRelaySocket, data: bytes) -> int:
    return sock.send(data)


def sends_in_two(sock: SecureRelaySocket, data: bytes) -> int:
    return sock.sendmsg((data[:100], memoryview(data)[100:]))


@pytest.mark.parametrize("size, count", [(101, 500), (5000, 20), (20000, 5), (300000, 2)])
@pytest.mark.parametrize("begin", [sends, sends_in_two])
def test_all_is_sent_once_however_little_is_taken(
    pair: Pair, begin: "Callable[[SecureRelaySocket, bytes], int]", size: int, count: int
) -> None:
    sock, client = pair
    data = b"".join(b"%6d" % number for number in range(size * count // 6 + 1))[:size * count]
    hearing = None
    for start in range(0, len(data), size):
        message, send = data[start:start + size], begin
        while message:
            try:
                message = message[send(sock, message):]
            except BlockingIOError:
                hearing = hearing or Aside(client.hears, data)
                select.select([], [sock], [])
            send = sends
    assert hearing is not None and sock.tls.owed is None
    hearing.is_done()
    sock.close()
    client.hears_the_end()
