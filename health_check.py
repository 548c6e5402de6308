"""One health check: a TCP connect, or an HTTP GET of which the status counts, within its time.

What is read of an answer is bounded, in bytes and by the time-out of the whole check, however it
comes. A shortage of ours (no descriptors, no memory, no local ports) is no fault of the instance.
"""

import errno
import re
import time
from typing import Optional

import gevent
import gevent.socket

from health_record import (
    BAD_STATUS,
    CONNECTED,
    NO_ANSWER,
    NO_HTTP,
    NOT_CONNECTED,
    PASSED,
    REFUSED,
    CheckResult,
)
from logs import printable
from proxy_protocol import Announced, own_header
from sockets import SHORTAGES, family_of, is_self_connected

#: Bytes of an answer that are looked at for its status, interim answers before it included.
_MOST_HEAD = 16 * 1024

#: Bytes, and seconds, in which the rest of an answer is read: a server whose client goes before it
#: has written everything may log that, or print a traceback (Python's http.server).
_MOST_REST, _REST_SECONDS = 64 * 1024, 0.5

#: Characters of the reason in a status line that are told.
_MOST_REASON = 60

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: ([^\r\n]*))?\r?\n")

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *([0-9]{1,9})(?:\r|$)")


def check(
    host: str, port: int, path: Optional[str], timeout: float, proxy_protocol: Optional[str] = None
) -> Optional[CheckResult]:
    """Blocks the calling greenlet for `timeout` seconds, and half a one more for what is read of
    the rest of an answer. None: it was us who could not ask. A GET comes behind a header of the
    PROXY protocol in that version, where there is one."""
    began = time.monotonic()
    family = family_of(host)
    try:
        with gevent.socket.socket(family, gevent.socket.SOCK_STREAM) as sock:
            found = _Check(sock, host, port, path, timeout, proxy_protocol)
            code, text = found.run()
            seconds = time.monotonic() - began
            if path is not None and code in (PASSED, BAD_STATUS):
                _read_rest(sock, found.data)
    except (OSError, MemoryError):
        return None
    return CheckResult(code, text, seconds)


def _read_rest(sock: "gevent.socket.socket", data: bytes) -> None:
    with gevent.Timeout(_REST_SECONDS, False):
        try:
            while len(data) < _MOST_REST and not _is_whole(data):
                more = sock.recv(_MOST_REST)
                if not more:
                    return
                data += more
        except OSError:
            pass  # it has said what counts


def _is_whole(data: bytes) -> bool:
    """An answer with a length, which a server may give that does not close its connection."""
    head, end, body = data.partition(b"\r\n\r\n")
    found = _LENGTH.search(head)
    return bool(end and found and len(body) >= int(found.group(1)))


class _Check:
    """On one socket, from the connect on."""

    def __init__(
        self, sock: "gevent.socket.socket", host: str, port: int, path: Optional[str],
        timeout: float, proxy_protocol: Optional[str],
    ) -> None:
        self._sock = sock
        self._proxy_protocol = proxy_protocol
        self._host = host
        self._port = port
        self._path = path
        self._timeout = timeout
        self._is_connected = False
        #: What has been read of the answer.
        self.data = b""

    def run(self) -> "tuple[str, str]":
        """What it comes to, and as a message says it. OSError where it was us."""
        over = gevent.Timeout(self._timeout)
        over.start()
        try:
            self._connect()
            return self._get() if self._path is not None else (CONNECTED, self._said("accepts"))
        except gevent.Timeout as error:
            if error is not over:
                raise
            if self._is_connected:
                return NO_ANSWER, self._said("no answer within %g s" % round(self._timeout, 2))
            return NOT_CONNECTED, self._said("no connection within %g s" % round(self._timeout, 2))
        except OSError as error:
            if error.errno in (*SHORTAGES, errno.EADDRNOTAVAIL):
                raise
            reason = (error.strerror or "no connection").lower()
            return NO_HTTP if self._is_connected else REFUSED, self._said(reason)
        finally:
            over.close()

    def _said(self, text: str) -> str:
        if self._path is None:
            return "port %d: %s" % (self._port, text)
        return "GET %s: %s" % (self._path, text)

    def _connect(self) -> None:
        self._sock.connect((self._host, self._port))
        if is_self_connected(self._sock):
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")
        self._is_connected = True

    def _get(self) -> "tuple[str, str]":
        host = "[%s]" % self._host if ":" in self._host else self._host
        self._sock.sendall(self._header() + (
            "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUser-Agent: pupgevent (health check)\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n" % (self._path, host, self._port)
        ).encode("ascii"))
        left, data = _MOST_HEAD, b""
        while left > 0:
            self.data = data
            found = _STATUS_LINE.match(data)
            if found and not found.group(1).startswith(b"1"):
                return self._judged(int(found.group(1)), found.group(2) or b"")
            if found and b"\r\n\r\n" in data:
                data = data.partition(b"\r\n\r\n")[2]  # an interim answer: its own is to follow
                continue
            if not found and (b"\n" in data or len(data) > 1024):
                break
            more = self._sock.recv(min(left, 4096))
            if not more:
                if not data:
                    return NO_HTTP, self._said("closed without an answer")
                break
            left -= len(more)
            data += more
        return NO_HTTP, self._said("no answer of HTTP/1")

    def _header(self) -> bytes:
        if self._proxy_protocol is None:
            return b""
        here, there = self._sock.getsockname(), self._sock.getpeername()
        return own_header(self._proxy_protocol, Announced(*here[:2], *there[:2]))

    def _judged(self, status: int, reason: bytes) -> "tuple[str, str]":
        words = printable(reason.decode("latin-1"))[:_MOST_REASON].strip()
        text = self._said(("%d %s" % (status, words)).strip())
        return (PASSED if 200 <= status < 400 else BAD_STATUS), text
