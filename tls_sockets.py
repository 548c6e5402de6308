"""The sockets of clients whose TLS ends here: they read and send as others do.

What is above, relay.py and the http mode, sees plain bytes, and its rules hold: a short read
empties the socket, and the caller sends again what `send` does not count. So these differ:

* Ciphertext that the kernel does not take is kept (`owed`), and not encrypted once more: a record
  that was begun has to be finished. `send` counts of the data what the kernel has of its
  ciphertext, and the caller begins the next time with the rest, as it does anyhow.
* Where more was decrypted than the caller has asked for, it is kept (`plain`), and the socket asks
  for another turn: no event tells of it.
* The end of a stream is said in TLS (close_notify) before it is in TCP. One that comes without it
  may be the work of somebody in between, and what was said before may be half of it. The relay
  takes it for a reset; HTTP knows by itself where a message ends.

A byte that is encrypted is not spliced.
"""

import _socket
from typing import Any, Optional, Type, TypeVar

from http_client import HttpClient
from http_requests import ENDING
from poller import WRITABLE
from relay import STREAM, RelaySocket
from sockets import family_of, resets_on_close
from tls_session import INCOMING, OUTGOING, RECORD_BYTES, TlsFailed, TlsSession, clear

#: Ciphertext read at once. More than a record takes, so that one that fills it has a next one.
CIPHER_BYTES = 32 * 1024

#: Bytes encrypted at once: a larger piece of memory would be taken from the system each time, and
#: given back.
PIECE_BYTES = 112 * 1024

_recv = _socket.socket.recv
_send = _socket.socket.send
_shutdown = _socket.socket.shutdown
_close = _socket.socket.close


class SecureSocket(_socket.socket):
    """What both kinds have, before what they have of their plain kind."""

    __slots__ = ()

    can_splice = False
    #: An end of the stream that TLS does not know of is one like any other.
    may_be_cut = False
    tls: TlsSession

    # Reading

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Most often a record comes whole, and by itself."""
        tls = self.tls
        if tls.plain is None:
            data = _recv(self, CIPHER_BYTES)
            if not data:
                tls.cut(self.may_be_cut)
                return self._take(size, flags)
            try:
                INCOMING.write(data)
                plain = tls.read(RECORD_BYTES)
                if plain and size >= RECORD_BYTES and not INCOMING.pending and not OUTGOING.pending:
                    return plain  # type: ignore[no-any-return]
                tls.take_rest(plain)
            except OSError as error:
                tls.stopped_by(error)
            except Exception:
                clear()
                raise
            self._has_read(data)
            if tls.plain is None and len(data) < CIPHER_BYTES:
                self._look_for_end()
        return self._take(size, flags)

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        data = self.recv(size or len(buffer), flags)
        buffer[:len(data)] = data
        return len(data)

    def _has_read(self, data: bytes) -> None:
        """After all that was not the usual: what OpenSSL has to say, and what is still to come."""
        tls = self.tls
        try:
            output = OUTGOING.read()
        finally:
            clear()
        if output:
            self._send_besides(output)
        if len(data) == CIPHER_BYTES and not tls.is_over:
            self.ask_for_turn()

    def _look_for_end(self) -> None:
        """A part of a record was all that there was. The end of the stream may be right behind it:
        of that no event tells again, as it does of bytes. OSError."""
        if not _recv(self, 1, _socket.MSG_PEEK):
            self.tls.cut(self.may_be_cut)

    def _take(self, size: int, flags: int) -> bytes:
        tls = self.tls
        plain = tls.plain
        if plain is None:
            raise BlockingIOError
        if not plain:
            if tls.failure is not None:
                raise TlsFailed(tls.failure)
            return b""
        if flags & _socket.MSG_PEEK:
            return plain[:size]
        plain = tls.take(size)
        if tls.has_more:
            self.ask_for_turn()
        return plain

    @property
    def has_more(self) -> bool:
        """Something was read of which no event tells any more."""
        return self.tls.has_more

    # Sending

    def send(self, data: Any, flags: int = 0) -> int:
        """As send(2). What it does not count has to come again."""
        tls = self.tls
        if tls.owed is not None:
            return self._send_owed(data, flags)
        size = len(data)
        if size > PIECE_BYTES:
            return self._send_pieces(memoryview(data), flags)
        try:
            tls.write(data)
            cipher = OUTGOING.read()
        except Exception as error:
            raise _cleared(error) from None
        try:
            sent = _send(self, cipher, flags)
        except BlockingIOError:
            sent = 0
        if sent == len(cipher):
            return size
        done = tls.owe(cipher, sent, size)
        if not done:
            raise BlockingIOError
        return done

    def _send_pieces(self, data: memoryview, flags: int) -> int:
        at = 0
        try:
            while at < len(data):
                piece = data[at:at + PIECE_BYTES]
                done = self.send(piece, flags)
                at += done
                if done < len(piece):
                    break
        except BlockingIOError:
            if not at:
                raise
        return at

    def _send_owed(self, data: Any, flags: int) -> int:
        """The ciphertext of before comes first; that of the first of these bytes is among it."""
        tls = self.tls
        owed = tls.owed
        sent = _send(self, owed or b"")  # BlockingIOError: nothing of it
        done = tls.paid(sent)
        if tls.owed is None and done < len(data):
            try:
                done += self.send(memoryview(data)[done:], flags)
            except BlockingIOError:
                pass
        if not done:
            raise BlockingIOError
        return done

    def sendmsg(self, pieces: Any) -> int:  # type: ignore[override]
        """`send` of these two together. The first is short, and the second is not copied."""
        head, data = pieces
        if self.tls.owed is not None or not data:
            return self.send(b"".join(pieces))
        try:
            self.tls.write(head)
        except Exception as error:
            raise _cleared(error) from None
        try:
            return len(head) + self.send(data)
        except BlockingIOError:
            return len(head)  # with the rest of both it is owed

    def _send_besides(self, output: bytes, flags: int = 0) -> None:
        """What OpenSSL says by itself; behind what is owed."""
        tls = self.tls
        try:
            sent = 0 if tls.owed is not None else _send(self, output, flags)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # it is dead, and about to be told so
        if sent < len(output):
            tls.owe_besides(output[sent:])
            self.ask_for_room()

    def send_besides_again(self) -> None:
        """There is room again. Where data is owed as well, its caller sends both. OSError."""
        tls = self.tls
        owed = tls.owed
        if owed is None or tls.promised:
            return
        try:
            tls.paid(_send(self, owed))
        except BlockingIOError:
            return
        if tls.owed is None and tls.is_closing:
            _shutdown(self, _socket.SHUT_WR)

    # The end

    def shutdown(self, how: int) -> None:
        """Of the side that sends, as everywhere here."""
        self.say_end()
        if self.tls.owed is None:
            _shutdown(self, how)
        else:
            self.tls.is_closing = True

    def say_end(self) -> None:
        """Nothing more is sent, and the end of the socket's stream is next: both travel together.
        Idempotent."""
        tls = self.tls
        if not tls.said_end and not tls.promised:
            self._send_besides(tls.close_notify(), _socket.MSG_MORE)

    def close(self) -> None:
        """Idempotent. A clean end is said, unless the socket is to be reset."""
        try:
            if not self.tls.said_end and self.fileno() >= 0 and not resets_on_close(self):
                self.say_end()
        except Exception:
            pass  # without memory there is no clean end
        _close(self)

    def _goes_around_tls(self, *args: Any) -> Any:
        raise NotImplementedError("not with TLS")

    sendall: Any = _goes_around_tls
    sendto: Any = _goes_around_tls
    recvfrom: Any = _goes_around_tls
    recvfrom_into: Any = _goes_around_tls
    recvmsg: Any = _goes_around_tls
    recvmsg_into: Any = _goes_around_tls

    # What each kind makes of it

    def ask_for_turn(self) -> None:
        """No event tells of what there is."""
        raise NotImplementedError

    def ask_for_room(self) -> None:
        """From now on be told of room to send."""
        raise NotImplementedError


def _cleared(error: Exception) -> Exception:
    """Nothing of what was to be encrypted is left, and this is to be raised."""
    clear()
    return TlsFailed(str(error)) if isinstance(error, OSError) else error


class SecureRelaySocket(SecureSocket, RelaySocket):
    """A client of the tcp mode, or of a tunnel."""

    __slots__ = ("tls",)

    def ask_for_turn(self) -> None:
        connection = getattr(self, "connection", None)
        if connection is not None:  # else it is asked for once it is relayed
            connection.poller.call_soon(self)

    def ask_for_room(self) -> None:
        if hasattr(self, "connection"):  # else nothing was sent that it would wait for
            self.want_writable()

    def on_room(self) -> None:
        try:
            self.send_besides_again()
        except OSError:
            return  # it is dead, and about to be told so
        if self.tls.said_end and self.eof and self.peer.eof and not self.blocked:
            if self.tls.owed is None:
                self.connection.close()
        else:
            super().on_room()

    def has_said_end(self) -> bool:
        self.say_end()
        return self.tls.owed is None


class SecureHttpClient(SecureSocket, HttpClient):
    """A client of the http mode."""

    __slots__ = ("tls",)

    may_be_cut = True

    def ask_for_turn(self) -> None:
        self.poller.call_soon(self)

    def ask_for_room(self) -> None:
        if self.is_open:
            self.want_writable()

    def on_other_event(self, mask: int) -> None:
        if mask & WRITABLE:
            try:
                self.send_besides_again()
            except OSError:
                self.on_lost()
                return
            if self.tls.said_end and self.phase == ENDING:
                self._ended()
                return
        super().on_other_event(mask)

    def _ended(self) -> None:
        """Not before it has got the end of TLS, too."""
        self.say_end()
        if self.tls.owed is None:
            super()._ended()

    def on_turn(self) -> None:
        """Who is not ready to read has to come back to it."""
        self.arrived = True
        self.is_usual = False
        super().on_turn()

    def relay_socket(self) -> RelaySocket:
        tls = self.tls
        sock = SecureRelaySocket(self.family, STREAM, 0, self.detach())
        sock.tls = tls
        return sock


def relay_client(fileno: int, address: str, tls: "Optional[TlsSession]") -> RelaySocket:
    """A client of the tcp mode, with that address, with TLS or without."""
    return _client(RelaySocket, SecureRelaySocket, fileno, address, tls)


def http_client(fileno: int, address: str, tls: "Optional[TlsSession]") -> HttpClient:
    """The same of the http mode."""
    return _client(HttpClient, SecureHttpClient, fileno, address, tls)


C = TypeVar("C", RelaySocket, HttpClient)


def _client(
    plain: "Type[C]", secure: "Type[C]", fileno: int, address: str, tls: "Optional[TlsSession]"
) -> C:
    if tls is None:
        return plain(family_of(address), STREAM, 0, fileno)
    client = secure(family_of(address), STREAM, 0, fileno)
    client.tls = tls
    return client
