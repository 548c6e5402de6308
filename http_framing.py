"""Where an HTTP/1 message ends: bytes go in; heads, lengths of bodies and refusals come out.

A `Reader` reads one side of a connection, message by message. What it says of bytes does not depend
on how they were cut into reads.

    state       what comes next                                      moves to
    HEAD        a head, up to its empty line                         HEAD_READ
    HEAD_READ   nothing, until it is told what body the head has     BODY, CHUNK_SIZE, UNTIL_CLOSE,
                                                                     DONE
    BODY        `left` bytes of a body with a length                 DONE
    CHUNK_SIZE  the line that says how long the next chunk is        CHUNK, TRAILER
    CHUNK       `left` bytes of a chunk                              CHUNK_END
    CHUNK_END   the end of the line behind a chunk                   CHUNK_SIZE
    TRAILER     a field behind the last chunk, or an empty line      TRAILER, DONE
    UNTIL_CLOSE bytes, until the end of the stream                   DONE
    DONE        nothing, until the next message is asked for         HEAD

A body is not taken apart: chunks are walked by their sizes and go on as they came, so each of their
lines is checked as strictly as a head is. Small chunks that lie behind each other are walked by one
pattern, since one by one they would cost more than they carry.

Pure: no socket, no clock. What is refused raises `Refused` (http_heads.py).
"""

import re
from typing import Dict, FrozenSet, Union

from http_heads import (
    CHUNKED,
    HEAD_BYTES,
    HOP_BY_HOP,
    MOST_FIELDS,
    UNTIL_CLOSE,
    Refused,
    is_forwarded,
    parse_fields,
)

# States, see above.
HEAD, HEAD_READ, BODY, DONE = "HEAD", "HEAD_READ", "BODY", "DONE"
CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER = "CHUNK_SIZE", "CHUNK", "CHUNK_END", "TRAILER"
TO_THE_END = "UNTIL_CLOSE"

MOVES: Dict[str, FrozenSet[str]] = {
    HEAD: frozenset((HEAD_READ,)),
    HEAD_READ: frozenset((BODY, CHUNK_SIZE, TO_THE_END, DONE)),
    BODY: frozenset((DONE,)),
    CHUNK_SIZE: frozenset((CHUNK, TRAILER)),
    CHUNK: frozenset((CHUNK_END,)),
    CHUNK_END: frozenset((CHUNK_SIZE,)),
    TRAILER: frozenset((DONE,)),
    TO_THE_END: frozenset((DONE,)),
    DONE: frozenset((HEAD,)),
}

#: States in which bytes go on without a look at them, and all in which `take` reads on.
OPAQUE = frozenset((BODY, CHUNK, TO_THE_END))
_IN_BODY = OPAQUE | {CHUNK_SIZE, CHUNK_END, TRAILER, DONE}

#: Bytes of a line with the size of a chunk, and of all extensions of a message: nobody is known to
#: need more than none, and they can be sent without end.
_SIZE_LINE_BYTES, _EXTENSION_BYTES = 256, 1024

#: Bytes of all fields behind the last chunk.
_TRAILER_BYTES = 8 * 1024

#: Hexadecimal digits of a size: 16 TB less one byte at most, leading zeros included.
_SIZE = rb"[0-9A-Fa-f]{1,11}"

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_SIZE_LINE = re.compile(
    rb"(%s)((?:;%s(?:=(?:%s|%s))?)*)\r\n" % (_SIZE, _TOKEN, _TOKEN, _QUOTED))

#: Whole chunks of a few bytes without extensions, one behind the other; so many at once at most,
#: since the matcher remembers each.
_SMALL_BYTES = 63
_SMALL_CHUNKS = re.compile(b"(?:0{0,9}(?:%s)){0,512}" % b"|".join(
    b"%s\\r\\n[\\x00-\\xff]{%d}\\r\\n" % (
        re.sub(b"[a-f]", lambda found: b"[%s%s]" % (found.group(), found.group().upper()),
               b"%x" % size), size) for size in range(1, _SMALL_BYTES + 1)))

#: Trailers that would be read as if they had been in the head.
_NOT_IN_TRAILERS = HOP_BY_HOP | frozenset((
    b"content-length", b"transfer-encoding", b"host", b"trailer", b"authorization", b"cookie",
    b"set-cookie", b"content-encoding", b"content-type", b"content-range", b"expect",
))  # fmt: skip

#: Empty lines before a request that are passed over: some old clients send one behind a body
#: (RFC 9112, 2.2).
_MOST_EMPTY_LINES = 4

Data = Union[bytes, bytearray]


def _is_broken(data: bytes, start: int) -> bool:
    """There is a NUL in it, or a line that does not end in CRLF: whatever comes behind it, it does
    not get better. Looked at is what begins at `start`; a CR at the end may be half of one."""
    if data[start:start + 1] == b"\n":
        start = max(0, start - 1)
    ends = data.count(b"\n", start)
    return (b"\0" in data or data.count(b"\r", start, len(data) - data.endswith(b"\r")) != ends
            or (ends > 0 and data.count(b"\r\n", start) != ends))


class Reader:
    """The messages of one side of a connection. `requests`: they are requests, not answers."""

    __slots__ = ("_empty_lines", "_extensions", "_held", "_is_request", "_looked_at",
                 "_trailer_bytes", "_trailers", "left", "state")

    def __init__(self, requests: bool) -> None:
        self.state = HEAD
        #: Bytes of the body, or of the chunk, that are to come; without an end: at least one.
        self.left = 0
        #: What there is of a head, of a line between chunks, or of the next message.
        self._held = b""
        #: So many bytes of it hold no end of a head.
        self._looked_at = 0
        self._is_request = requests
        self._extensions = 0
        self._trailers = 0
        self._trailer_bytes = 0
        self._empty_lines = 0

    @property
    def held(self) -> int:
        """Bytes that are kept here."""
        return len(self._held)

    @property
    def is_opaque(self) -> bool:
        """The next `left` bytes go on without a look at them."""
        return self.state in OPAQUE

    @property
    def is_between(self) -> bool:
        """Not a byte of the next message has come."""
        return self.state == HEAD and not self._held

    def _move(self, state: str) -> None:
        if state not in MOVES[self.state]:
            raise self._no_move(state)
        self.state = state

    def _no_move(self, state: str) -> RuntimeError:
        return RuntimeError("no move from %s to %s" % (self.state, state))

    # Heads

    def read_head(self, data: bytes) -> bytes:
        """The next head, its empty line included, as soon as it is whole; empty until then.

        What is behind it is to be had by `rest`. Raises `Refused`.
        """
        if self.state != HEAD:
            raise self._no_move(HEAD_READ)
        before = self._looked_at
        data = self._held + data if self._held else data
        if data[:2] == b"\r\n" and self._is_request:
            data, before = self._without_empty_lines(data), 0
        end = data.find(b"\r\n\r\n", max(0, before - 3))
        if end < 0:
            self._look_at(data, max(0, before - 1))
            self._held, self._looked_at = data, len(data)
            return b""
        end += 4
        if end > HEAD_BYTES:
            raise self._too_long()
        self._held, self._looked_at = data[end:], 0
        self._empty_lines = 0
        self.state = HEAD_READ
        return data[:end]

    def _without_empty_lines(self, data: bytes) -> bytes:
        while data[:2] == b"\r\n":
            data = data[2:]
            self._empty_lines += 1
            if self._empty_lines > _MOST_EMPTY_LINES:
                raise Refused(400, "empty lines before a request")
        return data

    def _look_at(self, data: bytes, start: int) -> None:
        """What is there of a head that is not whole: can it still become one?"""
        if len(data) > HEAD_BYTES:
            raise self._too_long()
        if _is_broken(data, start):
            raise Refused(400 if self._is_request else 502, "a bare CR or LF, or a NUL")
        first = data[:1]
        if first and not first.isalpha() and first not in b"\r_-":
            raise Refused(400 if self._is_request else 502, "this is not HTTP")

    def _too_long(self) -> Refused:
        return Refused(431 if self._is_request else 502, "a head over %d bytes" % HEAD_BYTES)

    def rest(self) -> bytes:
        """What was read behind the head, taken out."""
        rest, self._held, self._looked_at = self._held, b"", 0
        return rest

    def hold(self, data: bytes) -> None:
        """Keep what belongs to the next message."""
        self._held += data

    # Bodies

    def expect(self, framing: int) -> None:
        """Say what body the message has whose head was read: a length, CHUNKED, or UNTIL_CLOSE."""
        if self.state != HEAD_READ:
            raise self._no_move(BODY)
        if framing == CHUNKED:
            self._extensions = self._trailers = self._trailer_bytes = 0
            self._move(CHUNK_SIZE)
        elif framing == UNTIL_CLOSE:
            self.left = 1
            self._move(TO_THE_END)
        elif framing > 0:
            self.left = framing
            self._move(BODY)
        elif framing == 0:
            self._move(DONE)
        else:
            raise RuntimeError("no framing: %d" % framing)

    def take(self, data: Data, start: int, end: int) -> int:
        """Read on in data[start:end]; returns where the message ends, which is `end` as long as it
        does not. Raises `Refused`."""
        if self.state not in _IN_BODY:
            raise self._no_move(DONE)
        while start < end and self.state != DONE:
            if self.state in OPAQUE:
                start += self.skip(end - start)
            elif self.state == CHUNK_END:
                start = self._take_chunk_end(data, start)
            else:
                if self.state == CHUNK_SIZE and not self._held:
                    behind = self._take_chunks(data, start, end)
                    if behind > start:
                        start = behind
                        continue
                start = self._take_line(data, start, end)
        return start

    def _take_chunks(self, data: Data, start: int, end: int) -> int:
        """Whole chunks, many at once where they are small and say no more than their sizes; returns
        where they end."""
        behind = _SMALL_CHUNKS.match(data, start, end).end()  # type: ignore[union-attr]
        if behind > start:
            return behind
        extensions = self._extensions
        while True:
            matched = _SIZE_LINE.match(data, start, min(end, start + _SIZE_LINE_BYTES))
            if matched is None:
                return start
            digits, extension = matched.groups()
            size = int(digits, 16)
            behind = matched.end() + size + 2
            extensions += len(extension)
            if (not size or behind > end or extensions > _EXTENSION_BYTES
                    or data[behind - 2:behind] != b"\r\n"):
                return start
            self._extensions = extensions
            start = behind
            if size <= _SMALL_BYTES and len(digits) < 3 and not extension:
                return start  # more of its kind are told faster

    def skip(self, count: int) -> int:
        """So many opaque bytes go by, `left` at most; returns how many."""
        if self.state not in OPAQUE:
            raise self._no_move(DONE)
        if self.state == TO_THE_END:
            return count
        count = min(count, self.left)
        self.left -= count
        if not self.left:
            self._move(DONE if self.state == BODY else CHUNK_END)
        return count

    def _take_chunk_end(self, data: Data, start: int) -> int:
        """One byte of the two."""
        if data[start] != b"\r\n"[len(self._held)]:
            raise self._bad("a chunk is longer than its size")
        if self._held:
            self._held = b""
            self._move(CHUNK_SIZE)
        else:
            self._held = b"\r"
        return start + 1

    def _take_line(self, data: Data, start: int, end: int) -> int:
        limit = _SIZE_LINE_BYTES if self.state == CHUNK_SIZE else _TRAILER_BYTES
        stop = data.find(b"\n", start, end) + 1
        before = len(self._held)
        if before + (stop or end) - start > limit:
            raise self._bad("a line between chunks is over %d bytes" % limit)
        line = self._held + bytes(data[start:stop or end])
        if not stop:
            if _is_broken(line, max(0, before - 1)):
                raise self._bad("a bare CR or LF, or a NUL, between chunks")
            self._held = line
            return end
        self._held = b""
        if self.state == CHUNK_SIZE:
            self._read_size(line)
        else:
            self._read_trailer(line)
        return stop

    def _read_size(self, line: bytes) -> None:
        matched = _SIZE_LINE.fullmatch(line)
        if matched is None:
            raise self._bad("no valid size of a chunk")
        self._extensions += len(matched.group(2))
        if self._extensions > _EXTENSION_BYTES:
            raise self._bad("chunk extensions over %d bytes" % _EXTENSION_BYTES)
        self.left = int(matched.group(1), 16)
        self._move(CHUNK if self.left else TRAILER)

    def _read_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self._move(DONE)
            return
        self._trailers += 1
        self._trailer_bytes += len(line)
        if self._trailers > MOST_FIELDS or self._trailer_bytes > _TRAILER_BYTES:
            raise self._bad("more than %d trailers, or %d bytes" % (MOST_FIELDS, _TRAILER_BYTES))
        try:
            key, name, _ = parse_fields(line)[0]
        except Refused as error:
            raise self._bad(error.reason) from None
        key = key.replace(b"_", b"-")
        if key in _NOT_IN_TRAILERS or (self._is_request and is_forwarded(key)):
            raise self._bad("%s may not be a trailer" % name.decode("ascii"))

    def _bad(self, reason: str) -> Refused:
        return Refused(400 if self._is_request else 502, reason)

    # The end

    def end_of_stream(self) -> bool:
        """Nothing more comes: was the message whole?"""
        if self.state == TO_THE_END:
            self.left = 0
            self._move(DONE)
        return self.state == DONE

    def next_message(self) -> None:
        """Behind a message that is done. Kept bytes are of the next one."""
        self._move(HEAD)
