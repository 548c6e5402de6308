"""Clients of TLS: Python's own, and a ClientHello that no library of today would send."""

import socket
import ssl
import struct
from typing import Any, Dict, NamedTuple, Optional, Sequence

from certificates import Made
from load import Load

#: Seconds for an answer: late is not lost.
PATIENCE = 60.0

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
KEEPING = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

#: The bits of `options` by which older Pythons leave out the other versions.
_OTHERS = {"TLSv1.2": ("OP_NO_TLSv1_3",),
           "TLSv1.3": ("OP_NO_TLSv1", "OP_NO_TLSv1_1", "OP_NO_TLSv1_2")}


def client_context(ca: str, version: str = "", own: Optional[Made] = None) -> ssl.SSLContext:
    """Of a client that trusts `ca`, and speaks that version alone; `own` is its certificate."""
    # The default context of newer Pythons wants more of a CA than what those of tests have.
    context: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca)
    if version and hasattr(ssl, "TLSVersion"):
        only = ssl.TLSVersion.TLSv1_2 if version == "TLSv1.2" else ssl.TLSVersion.TLSv1_3
        context.minimum_version = context.maximum_version = only
    elif version:
        for other in _OTHERS[version]:
            context.options |= getattr(ssl, other)
    if own is not None:
        context.load_cert_chain(*own)
    return context  # type: ignore[no-any-return]


def connect(port: int, context: ssl.SSLContext, name: Optional[str] = "localhost",
            session: Any = None) -> ssl.SSLSocket:
    """With the handshake done; OSError. An end that TLS does not tell of is an SSLEOFError."""
    plain = socket.create_connection(("127.0.0.1", port), PATIENCE)
    try:
        return context.wrap_socket(
            plain, server_hostname=name, session=session, suppress_ragged_eofs=False)
    except BaseException:
        plain.close()
        raise


def ask(client: ssl.SSLSocket, request: bytes = KEEPING) -> bytes:
    """The body of a whole answer; OSError or ValueError."""
    client.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(client)
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ValueError("another answer: %r" % head)
    size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < size:
        body += _more(client)
    return body


def _more(client: ssl.SSLSocket) -> bytes:
    data = client.recv(65536)
    if not data:
        raise ConnectionResetError("an answer that ends early")
    return data


def ask_once(port: int, context: ssl.SSLContext, **more: Any) -> bytes:
    """The same on a connection of its own."""
    with connect(port, context, **more) as client:
        return ask(client, REQUEST)


def names_of(client: ssl.SSLSocket) -> "Sequence[str]":
    """For whom the server's certificate is."""
    certificate: Any = client.getpeercert()
    return [value for _, value in certificate["subjectAltName"]]


class SecureLoad(Load):
    """As load.py has it, by https."""

    def __init__(
        self, port: int, context: ssl.SSLContext, brief: int = 3, keeping: int = 3
    ) -> None:
        super().__init__(port, brief, keeping)
        self.context = context

    def connect(self) -> ssl.SSLSocket:
        return connect(self.port, self.context)

    def ask_anew(self, _: Any) -> None:
        with self.connect() as client:
            ask(client, REQUEST)


# A ClientHello of its own


#: What a ServerHello and an alert begin with.
HANDSHAKE, ALERT = 22, 21
#: The alerts that refuse (RFC 8446, 6).
HANDSHAKE_FAILURE, PROTOCOL_VERSION, INAPPROPRIATE_FALLBACK = 40, 70, 86

#: Ciphers: ECDHE with AES-128-GCM, for each kind of key.
STRONG = [0xc02f, 0xc02b]

_EXTENSIONS = {
    10: "0008001d001700180019",  # groups: X25519, P-256, P-384, P-521
    11: "0100",  # points are not compressed
    13: "0012040305030603080408050806040105010601",  # signatures
    23: "",  # extended master secret
    0xff01: "00",  # renegotiation is secure
}


class Reply(NamedTuple):
    """The first that a server says."""

    #: HANDSHAKE or ALERT.
    kind: int
    #: Which alert; of a ServerHello 0.
    alert: int
    #: Of the ServerHello.
    version: int
    cipher: int
    compression: int
    #: The last eight bytes of its random, by which one that could do more says so.
    sentinel: bytes
    extensions: "Dict[int, bytes]"


def offer(
    port: int, ciphers: Sequence[int], version: int = 0x0303, name: bytes = b""
) -> Reply:
    """What the server says to a client that offers these, and compression."""
    extensions = b"".join(_extension(*each) for each in _EXTENSIONS.items())
    if name:
        server_name = struct.pack("!HBH", len(name) + 3, 0, len(name)) + name
        extensions += _extension(0, server_name.hex())
    suites = b"".join(struct.pack("!H", each) for each in ciphers)
    body = struct.pack("!H", version) + b"r" * 32 + b"\0"
    body += struct.pack("!H", len(suites)) + suites + b"\x02\x01\x00"
    if version > 0x0300:
        body += struct.pack("!H", len(extensions)) + extensions
    message = b"\x01" + struct.pack("!I", len(body))[1:] + body
    record = struct.pack("!BHH", HANDSHAKE, min(version, 0x0301), len(message)) + message
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.sendall(record)
        kind, _, size = struct.unpack("!BHH", _exactly(client, 5))
        return _reply(kind, _exactly(client, size))


def _extension(number: int, value: str) -> bytes:
    data = bytes.fromhex(value)
    return struct.pack("!HH", number, len(data)) + data


def _exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = client.recv(size - len(data))
        assert piece, "the end, behind %r" % data
        data += piece
    return data


def _reply(kind: int, data: bytes) -> Reply:
    if kind == ALERT:
        return Reply(kind, data[1], 0, 0, 0, b"", {})
    assert kind == HANDSHAKE and data[0] == 2, data
    at = 39 + data[38]
    version, cipher = struct.unpack("!H", data[4:6])[0], struct.unpack("!H", data[at:at + 2])[0]
    end = 4 + struct.unpack("!I", b"\0" + data[1:4])[0]
    extensions, compression, at = {}, data[at + 2], at + 5
    while at < end:
        number, size = struct.unpack("!HH", data[at:at + 4])
        extensions[number] = data[at + 4:at + 4 + size]
        at += 4 + size
    return Reply(kind, 0, version, cipher, compression, data[30:38], extensions)
