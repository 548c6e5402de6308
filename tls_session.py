"""One TLS connection, as OpenSSL has it: what it decrypts, and what it has encrypted.

OpenSSL reads and writes no socket here. It is given what has arrived, and asked for what is to go,
through two buffers in memory (`ssl.MemoryBIO`). These two serve all connections, as the buffer of
the relay does: OpenSSL takes all that it is given at once, and keeps the part of a record that is
not whole yet by itself. So a connection that is idle has no buffers.

    socket --ciphertext--> INCOMING --> read  --> plain
    socket <--ciphertext-- OUTGOING <-- write <-- data

Whatever happens in between, both are empty when the turn of a connection is over: what one would
leave there, the next one would take for its own. `clear` sees to that, also where memory runs out.

The private half of Python's `ssl` is used directly (`_wrap_bio`, and the object that it makes):
SSLObject would add a call in Python for each read and write.
"""

import errno
import re
import ssl
from typing import Any, Optional, Tuple

INCOMING = ssl.MemoryBIO()
OUTGOING = ssl.MemoryBIO()

#: The most that a record holds (RFC 8446, 5.1). OpenSSL is always asked for so much, so it keeps
#: nothing that is decrypted.
RECORD_BYTES = 16 * 1024

#: Bytes dropped at once: that little there is even when memory has run out.
_DROPPED_BYTES = 64

#: How often that is tried again.
_DROP_ATTEMPTS = 100

#: What OpenSSL's text has before and behind its reason.
_AROUND_REASON = re.compile(r"^\[[^\]]*\] *| *\(_ssl\.c:\d+\)$")


class TlsFailed(ConnectionResetError):
    """The connection cannot go on: what has come is no TLS, or the other side has said so."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.ECONNRESET, reason)


class TlsSession:
    """See the module. `context` is a server's SSLContext."""

    __slots__ = (
        "_openssl", "client_certificate", "failure", "is_closing", "is_over", "owed", "plain",
        "promised", "read", "said_end", "server_name", "write",
    )  # fmt: skip

    def __init__(self, context: Any) -> None:
        self._openssl: Any = context._wrap_bio(INCOMING, OUTGOING, True)
        #: Decrypt a record; encrypt bytes.
        self.read = self._openssl.read
        self.write = self._openssl.write
        #: What was decrypted and nobody has taken yet; most often None. Empty: nothing more comes.
        self.plain: Optional[bytes] = None
        #: Nothing comes behind `plain`.
        self.is_over = False
        #: Why nothing more comes; None where the other side has ended as it should.
        self.failure: Optional[str] = None
        #: Ciphertext that the kernel has not taken yet.
        self.owed: Optional[memoryview] = None
        #: Bytes of data in there that nobody has been told to be sent.
        self.promised = 0
        #: Nothing more is encrypted: close_notify was.
        self.said_end = False
        #: The end of the socket's stream is to follow what is owed.
        self.is_closing = False
        #: The host that the client has asked for; empty where it has asked for none.
        self.server_name = ""
        #: The certificate, as DER, that it has shown, and that was verified; None: none.
        self.client_certificate: Optional[bytes] = None

    def handshake(self, data: bytes) -> "Tuple[bool, bytes]":
        """Go on with what has come. Is it over, and what is to be sent in any case? `failure` says
        why it will never be over, and an alert among the rest tells the other side."""
        is_over = False
        try:
            INCOMING.write(data)
            try:
                self._openssl.do_handshake()
                is_over = True
            except ssl.SSLWantReadError:
                pass
            except OSError as error:
                self.failure = reason_of(error)
            if is_over and INCOMING.pending:
                self.take_rest(None)
            return is_over, OUTGOING.read()
        finally:
            clear()

    def take_client_certificate(self) -> None:
        """Have what the client has shown; once the handshake is over."""
        self.client_certificate = _peer_certificate(self._openssl, True)

    # Reading

    def take_rest(self, first: "Optional[bytes]") -> None:
        """Decrypt all that is whole in INCOMING, and have it as `plain`, behind a first record that
        was decrypted already, if there was one; empty, it was the last."""
        pieces = [first] if first else []
        is_over = first is not None and not first
        try:
            while INCOMING.pending and not is_over:
                piece = self.read(RECORD_BYTES)
                if piece:
                    pieces.append(piece)
                else:
                    is_over = True
        except OSError as error:
            is_over = self.is_ended_by(error)
        self._has(b"".join(pieces), is_over)

    def is_ended_by(self, error: OSError) -> bool:
        """A record could not be decrypted: does nothing come any more?"""
        if isinstance(error, ssl.SSLWantReadError):
            return False
        if not isinstance(error, ssl.SSLZeroReturnError):  # both sides have ended
            self.failure = reason_of(error)
        return True

    def stopped_by(self, error: OSError) -> None:
        """The first record could not be decrypted."""
        self._has(b"", self.is_ended_by(error))

    def cut(self, is_fine: bool) -> None:
        """The socket's stream has ended, and nothing of TLS has said so."""
        if not is_fine:
            self.failure = "an end without close_notify"
        self._has(b"", True)

    def _has(self, plain: bytes, is_over: bool) -> None:
        if plain or is_over:
            self.plain = plain
        self.is_over = is_over

    def take(self, size: int) -> bytes:
        """What was decrypted, so much at most; there has to be some."""
        plain = self.plain or b""
        rest = plain[size:]
        self.plain = rest if rest or self.is_over else None
        return plain[:size]

    @property
    def has_more(self) -> bool:
        """Something is to be taken, or to be told, of which no event tells."""
        return self.plain is not None

    # Sending

    def owe(self, cipher: bytes, sent: int, size: int) -> int:
        """The kernel has taken only so much of the ciphertext of `size` bytes. Returns how many of
        these that are."""
        done = size * sent // len(cipher)
        self.owed = memoryview(cipher)[sent:]
        self.promised = size - done
        return done

    def owe_besides(self, output: bytes) -> None:
        """Owe what belongs to no data."""
        self.owed = memoryview(bytes(self.owed or b"") + output)

    def paid(self, sent: int) -> int:
        """The kernel has taken so much of what is owed. Returns how many bytes of data these are.
        """
        owed = self.owed or memoryview(b"")
        if sent < len(owed):
            done = self.promised * sent // len(owed)
            self.owed = owed[sent:]
        else:
            done = self.promised
            self.owed = None
        self.promised -= done
        return done

    def close_notify(self) -> bytes:
        """What tells the other side that nothing more is sent."""
        self.said_end = True
        try:
            self._openssl.shutdown()
        except (OSError, ValueError):
            pass  # the other side has not ended yet
        try:
            output: bytes = OUTGOING.read()
            return output
        finally:
            clear()

    # What was agreed on

    @property
    def version(self) -> str:
        """As OpenSSL calls it: TLSv1.3."""
        return self._openssl.version() or ""

    @property
    def cipher(self) -> str:
        found = self._openssl.cipher()
        return found[0] if found else ""

    @property
    def alpn(self) -> str:
        """The protocol that was chosen by ALPN; empty where none was."""
        return self._openssl.selected_alpn_protocol() or ""

    @property
    def is_resumed(self) -> bool:
        """It began with a ticket."""
        return bool(self._openssl.session_reused)

    @property
    def client_name(self) -> Optional[str]:
        """The common name of the client's certificate; None where it has shown none."""
        certificate = _peer_certificate(self._openssl, False)
        if certificate is None:
            return None
        subject = [pair for part in certificate.get("subject", ()) for pair in part]
        return str(dict(subject).get("commonName", ""))


def _peer_certificate(openssl: Any, as_der: bool) -> Any:
    """Before Python 3.7 by another name."""
    ask = getattr(openssl, "getpeercert", None) or openssl.peer_certificate
    return ask(as_der)


def reason_of(error: OSError) -> str:
    """Why, as people read it."""
    text = error.strerror or str(error)
    return _AROUND_REASON.sub("", text) or "no reason is known"


def clear() -> None:
    """Drop what is left in the two buffers."""
    for buffer in (INCOMING, OUTGOING):
        attempts = _DROP_ATTEMPTS
        while buffer.pending and attempts:
            try:
                buffer.read(max(_DROPPED_BYTES, buffer.pending))
            except MemoryError:
                attempts -= 1
                try:
                    buffer.read(_DROPPED_BYTES)
                except MemoryError:
                    pass
