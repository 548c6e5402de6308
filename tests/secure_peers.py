"""Clients of a common port where TLS ends, beside peers.py: they speak as the plain ones do.

    client, server = secure.meet()
    client.says(b"question").finishes()
    server.hears(b"question").hears_the_end()

TLS is done in memory, as the balancer does it: so a client can say its end (close_notify) and go on
reading, can send half a record, or an end of the stream of which TLS does not know.
"""

import select
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import Any, Callable, ContextManager, Dict, Iterator, Optional, Tuple

import pytest

import certificates
from http_stage import Client, HttpStage as HttpStage
from peers import PATIENCE, STALL, Address, BalancerStage, Peer, Proxy, setting_of

#: Encrypted at once, as far as there is so much: four records.
_AT_ONCE = 4 * 16384

#: Seconds without a byte, after which a test may want to do something about it.
_WHILE = 0.1

VERSIONS = ["TLSv1.2", "TLSv1.3"]


def client_context(version: str = "TLSv1.3") -> ssl.SSLContext:
    """Of a client that believes any certificate, and speaks that version."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if hasattr(ssl, "TLSVersion"):
        wanted = getattr(ssl.TLSVersion, version.replace(".", "_"))
        context.minimum_version = context.maximum_version = wanted
    else:  # Python 3.6
        for other in {"TLSv1", "TLSv1.1", *VERSIONS} - {version}:
            context.options |= getattr(ssl, "OP_NO_" + other.replace(".", "_"))
    return context


class Channel:
    """A socket with TLS in it, as far as peers need one. One thread may read while one sends."""

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, name: "Optional[str]" = None,
        session: Any = None,
    ) -> None:
        self.raw = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        words: Dict[str, Any] = {} if session is None else {"session": session}
        self.tls = context.wrap_bio(
            self.incoming, self.outgoing, server_hostname=name, **words)
        #: Bytes sent at once; all, unless a test says otherwise.
        self.piece = 0
        #: Called where nothing has come for a while, before it is waited for once more.
        self.on_wait: Callable[[], Any] = lambda: None
        self._plain = b""
        self._owed = b""
        self._tls_lock, self._send_lock = threading.Lock(), threading.Lock()

    # The handshake

    def step(self) -> bool:
        """Of the handshake; true when it is over. What is to be sent then lies in `outgoing`."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def handshake(self) -> "Channel":
        while not self.step():
            self._send_outgoing()
            self.feed()
        self._send_outgoing()
        return self

    def feed(self) -> None:
        """Take what has come, or comes."""
        if not select.select([self.raw], [], [], _WHILE)[0]:
            self.on_wait()
        data = self.raw.recv(65536)
        with self._tls_lock:
            if data:
                self.incoming.write(data)
            else:
                self.incoming.write_eof()

    def _send_outgoing(self) -> None:
        with self._send_lock:
            self._send_raw(self.outgoing.read())

    def _send_raw(self, data: bytes) -> None:
        piece = self.piece or len(data) or 1
        for start in range(0, len(data), piece):
            self.raw.sendall(data[start:start + piece])

    # As a socket's

    def encrypted(self, data: bytes) -> bytes:
        with self._tls_lock:
            if data:
                self.tls.write(data)
            return self.outgoing.read()

    def sendall(self, data: bytes) -> None:
        with self._send_lock:
            self._send_raw(self._owed)
            self._owed = b""
            view = memoryview(data)
            for start in range(0, len(data), _AT_ONCE):
                self._send_raw(self.encrypted(bytes(view[start:start + _AT_ONCE])))

    def send(self, data: "Any", flags: int = 0) -> int:
        """Of a socket that does not block: a record at a time. What is begun is kept."""
        if not self._owed:
            data = bytes(data[:16384])
            self._owed = self.encrypted(data)
            self._owed = self._owed[self.raw.send(self._owed):]
            return len(data)
        self._owed = self._owed[self.raw.send(self._owed):]
        return 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Empty at the end that TLS knows of. ssl.SSLEOFError: at one that it does not know of."""
        while not self._plain:
            with self._tls_lock:
                try:
                    self._plain = self._plain or self.tls.read(65536)
                    is_over = not self._plain
                except ssl.SSLWantReadError:
                    is_over = False
                except ssl.SSLZeroReturnError:
                    is_over = True
            self._answer()
            if is_over:
                return b""
            if not self._plain:
                self.feed()
        with self._tls_lock:
            data = self._plain[:size]
            if not flags & socket.MSG_PEEK:
                self._plain = self._plain[size:]
        return data

    def _answer(self) -> None:
        """What TLS says of itself, unless somebody else is about to send it."""
        if self.outgoing.pending and self._send_lock.acquire(False):
            try:
                self._send_raw(self.encrypted(b""))
            finally:
                self._send_lock.release()

    def says_end(self) -> None:
        """close_notify, and no end of the socket's stream."""
        self.sendall(b"")
        with self._send_lock, self._tls_lock:
            try:
                # OpenSSL looks for the other's end at once, and takes no data for it.
                for piece in iter(lambda: self.tls.read(65536), b""):
                    self._plain += piece
            except ssl.SSLError:
                pass
            try:
                self.tls.unwrap()
            except ssl.SSLWantReadError:
                pass
        self._send_outgoing()

    def shutdown(self, how: int) -> None:
        self.says_end()
        self.raw.shutdown(how)

    def is_readable(self, seconds: float) -> bool:
        """Is there a byte for its reader, or an end, within that time? Tickets are none."""
        deadline = time.monotonic() + seconds
        while not self._plain:
            left = max(0.0, deadline - time.monotonic())
            with self._tls_lock:
                try:
                    self._plain = self.tls.read(65536)
                    return True
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError:
                    return True
            if not select.select([self.raw], [], [], left)[0]:
                return False
            try:
                self.feed()
            except OSError:
                return True
        return True

    def close(self) -> None:
        self.raw.close()

    def fileno(self) -> int:
        return self.raw.fileno()

    def getsockname(self) -> Any:
        return self.raw.getsockname()

    def getsockopt(self, *words: Any) -> Any:
        return self.raw.getsockopt(*words)

    def setsockopt(self, *words: Any) -> None:
        self.raw.setsockopt(*words)

    def settimeout(self, seconds: float) -> None:
        self.raw.settimeout(seconds)

    def setblocking(self, flag: bool) -> None:
        self.raw.setblocking(flag)


class SecurePeer(Peer):
    """A client whose handshake is over."""

    socket: Any

    def hears_nothing(self, seconds: float = STALL) -> "Peer":
        assert not self.socket.is_readable(seconds)
        return self

    def hears_anything(self, seconds: float) -> bool:
        return self.socket.is_readable(seconds)  # type: ignore[no-any-return]

    def hears_a_reset(self) -> "Peer":
        """And no end before it, neither of TLS nor of TCP."""
        with pytest.raises(ConnectionResetError):
            assert self.socket.recv(1000) == b"nothing at all"
        return self

    def hears_the_end_of_the_stream(self) -> "Peer":
        """Behind close_notify."""
        assert self.socket.raw.recv(1000) == b""
        return self

    def says_its_end(self) -> "Peer":
        """close_notify alone."""
        self.socket.says_end()
        return self

    def is_cut(self) -> "Peer":
        """The stream ends, and TLS knows nothing of it."""
        self.socket.raw.shutdown(socket.SHUT_WR)
        return self

    def goes_on(self) -> "Peer":
        """Sends what it has begun to."""
        self.socket.sendall(b"")
        return self


class SecureClient(SecurePeer, Client):
    """Reads answers."""


class SecureStage(BalancerStage):
    """Of a balancer where TLS ends."""

    version = "TLSv1.3"
    kind = SecurePeer

    def plain_client(self) -> Peer:
        """One that is connected, and has said nothing of TLS."""
        return super().client()

    def channel(
        self, context: "Optional[ssl.SSLContext]" = None, name: "Optional[str]" = None,
        session: Any = None,
    ) -> Channel:
        """One whose handshake is to come."""
        sock = self.plain_client().socket
        return Channel(sock, context or client_context(self.version), name, session)

    def client(self, host: "Optional[str]" = None, source: "Optional[Address]" = None) -> Any:
        return self.secured(super().client(host, source).socket)

    def secured(self, sock: socket.socket) -> Any:
        """A client on that socket, when its handshake is over."""
        channel = Channel(sock, client_context(self.version)).handshake()
        return self.kind(channel, self.status)  # type: ignore[arg-type]

    def meet(self) -> "Tuple[SecurePeer, Peer]":
        return super().meet()  # type: ignore[return-value]

    def handshakes(self) -> "Tuple[int, int, int]":
        """Those that are over, of these with a ticket, and those that have failed."""
        return tuple(self.proxy.call("handshakes"))


class SecureHttpStage(SecureStage, HttpStage):
    """The same with http."""

    kind = SecureClient

    def narrow_client(self, size: int = 2048) -> Client:
        return self.secured(super().narrow_client(size).socket)  # type: ignore[no-any-return]


def setting_secure(
    proxy: Proxy, made: "certificates.Made", **settings: Any
) -> "ContextManager[SecureStage]":
    return setting_of(SecureStage, proxy, **with_tls(made, **settings))


def setting_secure_http(
    proxy: Proxy, made: "certificates.Made", **settings: Any
) -> "ContextManager[SecureHttpStage]":
    return setting_of(SecureHttpStage, proxy, **with_tls(made, **settings))


def with_tls(*pairs: "certificates.Made", **settings: Any) -> "Dict[str, Any]":
    tls = dict({"pairs": [list(pair) for pair in pairs]}, **settings.pop("tls", {}))
    return dict({"head_timeout": 10 * PATIENCE}, tls=tls, **settings)


class Tool:
    """`openssl s_client`, which can ask for what Python cannot."""

    def __init__(self, address: Address, *options: str) -> None:
        self.process = subprocess.Popen(
            ["openssl", "s_client", "-connect", "%s:%d" % address[:2], *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
        )  # fmt: skip
        self.heard = b""

    def types(self, line: bytes) -> "Tool":
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        return self

    def shows(self, expected: bytes) -> "Tool":
        """Among what it has printed since the last time."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + PATIENCE
        while expected not in self.heard:
            left = deadline - time.monotonic()
            assert select.select([self.process.stdout], [], [], max(0.0, left))[0], self.heard
            data = self.process.stdout.read(65536)
            assert data, self.heard
            self.heard += data
        self.heard = self.heard.partition(expected)[2]
        return self

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()


@contextmanager
def tool(address: Address, *options: str) -> "Iterator[Tool]":
    found = Tool(address, *options)
    try:
        yield found
    finally:
        found.close()


