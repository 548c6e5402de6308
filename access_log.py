"""The access log: a line for each request, in the combined format of Apache and NGINX.

Behind the fields of that format stand the instance, the seconds that the request took from its
first byte until its answer had ended, and those until the first byte of the answer:

    192.0.2.7 - ann [29/Nov/2026:14:43:15 +0100] "GET / HTTP/1.1" 200 612 "-" "curl/8.5.0" app-2
    0.003127 0.002914

The time is that at which the line was made. What has no value is `-`; so is the instance where none
had the request, and the last field where no answer of an instance came. Bytes are those of the
body, without the head.

No field can end early, or begin a line of its own: a quote, a backslash and whatever is not
printable ASCII are written as `\\xHH`, as NGINX does; in the user's name a space, too.

Whoever serves requests calls `add`, which does not wait and does not fail. Lines are collected for
a moment and handed on together, since a log file costs a call in a thread for each write. Where the
file takes nothing, or too little, lines are dropped and counted there (sinks.py, log_files.py).
"""

import binascii
import time
from typing import Any, Callable, List, Optional

import gevent

#: Seconds for which a line is kept at most, and the bytes at which all are handed on at once.
DELAY, ENOUGH = 0.1, 64 * 1024

#: English whatever the locale is, as time.strftime is not.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

#: What may stand in a field as it is.
_PLAIN = bytes(each for each in range(0x20, 0x7f) if each not in b'"\\')

#: What is left of a line without these: the quotes that we have put around three fields. One look
#: at the line costs less than one at each field.
_REST = b'""""""\n'

_LINE = b'%b - %b [%b] "%b" %d %d "%b" "%b" %b %.6f %b\n'

#: What is written for each byte.
_ESCAPED = tuple(
    bytes([each]) if each in _PLAIN else b"\\x%02X" % each for each in range(256))

Write = Callable[[bytes], None]


class AccessLog:
    """Makes a line of each request. `write` gets some of them at once, and must not block; `clock`
    is Unix time."""

    def __init__(self, write: Write, clock: Callable[[], float] = time.time) -> None:
        self._write = write
        self._clock = clock
        self._lines: List[bytes] = []
        self._size = 0
        self._enough = ENOUGH
        self._stamp = b""
        #: For which it was made: many lines are of the same second.
        self._second = -1
        # Made now: when it is needed, there may be no memory for it.
        self._timer: Any = gevent.get_hub().loop.timer(DELAY)

    def add(
        self, client: str, request_line: bytes, status: int, bytes_sent: int, referer: bytes,
        user_agent: bytes, user: bytes, instance: str, request_time: float,
        upstream_time: Optional[float],
    ) -> None:
        """A request is over; never blocks, never raises. See the module for what is meant."""
        try:
            second = int(self._clock())
            if second != self._second:
                self._stamp = time_stamp(second)
                self._second = second
            line = format_line(
                self._stamp, client, request_line, status, bytes_sent, referer, user_agent, user,
                instance, request_time, upstream_time)
            self._lines.append(line)
            self._size += len(line)
            if self._size >= self._enough:
                self.flush()
            elif not self._timer.active:
                self._timer.start(self.flush)
        except MemoryError:
            pass  # it has no line; nobody is served worse for it

    def direct(self, write: Write) -> None:
        """What comes from now on goes there."""
        self.flush()
        self._write = write

    def flush(self) -> None:
        """Hand on what there is."""
        lines = self._lines
        self._size = 0
        if self._enough:
            self._timer.stop()
        try:
            self._lines = []
            data = b"".join(lines)
        except MemoryError:
            # As few bytes at once as can be.
            for each in lines:
                self._write(each)
            lines.clear()
            return
        if data:
            self._write(data)

    def close(self) -> None:
        """Nothing is kept any more: a request that is still under way has its line handed on at
        once. Idempotent."""
        if self._enough:
            self.flush()
            self._enough = 0
            self._timer.close()


def format_line(
    stamp: bytes, client: str, request_line: bytes, status: int, bytes_sent: int, referer: bytes,
    user_agent: bytes, user: bytes, instance: str, request_time: float,
    upstream_time: Optional[float],
) -> bytes:
    """With its newline; `stamp` is one of `time_stamp`."""
    if user:
        user = escaped(user).replace(b" ", b"\\x20")
    address = client.encode("utf-8", "backslashreplace") or b"-"
    upstream = b"-" if upstream_time is None else b"%.6f" % upstream_time
    line = _LINE % (
        address, user or b"-", stamp, request_line or b"-", status, bytes_sent, referer or b"-",
        user_agent or b"-", instance.encode() or b"-", request_time, upstream)
    if line.translate(None, _PLAIN) == _REST:
        return line
    return _LINE % (
        escaped(address), user or b"-", stamp, escaped(request_line) or b"-", status, bytes_sent,
        escaped(referer) or b"-", escaped(user_agent) or b"-", instance.encode() or b"-",
        request_time, upstream)


def escaped(field: bytes) -> bytes:
    """With `\\xHH` for whatever is not plain."""
    if not field.translate(None, _PLAIN):
        return field
    return b"".join([_ESCAPED[each] for each in field])


def time_stamp(second: int) -> bytes:
    """A second of Unix time as the formats of Apache and NGINX have it, in local time."""
    at = time.localtime(second)
    minutes = at.tm_gmtoff // 60
    return b"%02d/%b/%04d:%02d:%02d:%02d %c%02d%02d" % (
        at.tm_mday, _MONTHS[at.tm_mon - 1].encode(), at.tm_year, at.tm_hour, at.tm_min, at.tm_sec,
        b"-" if minutes < 0 else b"+", abs(minutes) // 60, abs(minutes) % 60)


def basic_user(authorization: bytes) -> bytes:
    """The user's name in the value of an Authorization field (RFC 7617); empty for another scheme,
    and for what is no such value. Nobody has looked whether the password is right."""
    scheme, _, word = authorization.strip(b" \t").partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        user, colon, _ = binascii.a2b_base64(word.strip(b" ")).partition(b":")
    except binascii.Error:
        return b""
    # Without a colon it may as well be a password.
    return user if colon else b""
