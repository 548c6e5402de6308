"""Bytes in which two readers of HTTP/1 can find different messages, and what must become of them.

Each case has a name, what a client (or an instance) sends, and what is to be taken of it; behind
that it is refused, or goes on to wait. The names of the ways are those of the literature: CL.TE is
a front that goes by Content-Length before a back that goes by Transfer-Encoding, 0 is a side that
sees no body at all. The cases are after RFC 9112 (11.1, 11.2), PortSwigger's research from 2019 to
2025 (desync, obfuscation, CL.0, 0.CL and Expect), the list of faults of the HTTP Garden, and the
advisories of llhttp, h11, HAProxy, Go and Kestrel.

`requests_of` and `answers_of` read bytes piece by piece, as the engine does.
"""

import re
from typing import Iterable, List, NamedTuple, Tuple

from http_framing import DONE, HEAD, TO_THE_END, Reader
from http_heads import CHUNKED, Refused, parse_answer, parse_request

#: What an attacker wants to be taken for a request of somebody else.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


class Message(NamedTuple):
    """A message that was taken. `first` is the method and the target, or the status."""

    first: Tuple[bytes, ...]
    #: Without the framing of its chunks.
    body: bytes


class Reading(NamedTuple):
    """What was found in a stream."""

    messages: Tuple[Message, ...]
    #: Of the refusal behind them, or 0.
    status: int
    #: It ends between two messages, or with what is not HTTP any more.
    is_whole: bool


class Case(NamedTuple):
    name: str
    data: bytes
    expected: Reading
    #: Of an answer: the methods of the requests, one behind the other.
    methods: Tuple[bytes, ...] = ()


# Reading


def requests_of(pieces: "Iterable[bytes]") -> Reading:
    """The requests of one connection."""
    return _Side(Reader(requests=True), ()).read(pieces)


def answers_of(methods: "Iterable[bytes]", pieces: "Iterable[bytes]") -> Reading:
    """The answers to requests of these methods, up to the end of the stream."""
    return _Side(Reader(requests=False), methods).read(pieces)


class _Side:
    """One side of a connection, read as the engine does."""

    def __init__(self, reader: Reader, methods: "Iterable[bytes]") -> None:
        self.reader = reader
        self.methods = iter(methods)
        self.method = b""
        self.found: List[Message] = []
        # Of the message that is read:
        self.first: Tuple[bytes, ...] = ()
        self.body = b""
        self.framing = 0
        self.is_last = False

    def read(self, pieces: "Iterable[bytes]") -> Reading:
        status = 0
        try:
            for piece in pieces:
                self.feed(piece)
            self.end()
        except Refused as refused:
            status = refused.status
        is_whole = not status and (self.reader.is_between or self.reader.state == DONE)
        return Reading(tuple(self.found), status, is_whole)

    def feed(self, data: bytes) -> None:
        while data and self.reader.state != DONE:
            if self.reader.state == HEAD:
                head = self.reader.read_head(data)
                if not head:
                    return
                data = self.reader.rest()
                self.body = b""
                self.parse(head)
                self.reader.expect(self.framing)
            end = self.reader.take(data, 0, len(data))
            self.body += data[:end]
            data = data[end:]
            if self.reader.state == DONE:
                self.finish()

    def parse(self, head: bytes) -> None:
        if self.reader._is_request:
            request = parse_request(head)
            self.first, self.framing = (request.method, request.target), request.framing
            self.is_last = request.is_tunnel or not request.keep_alive
            return
        self.method = self.method or next(self.methods)
        answer = parse_answer(head, self.method)
        self.first, self.framing = (b"%d" % answer.status,), answer.framing
        self.is_last = answer.status == 101 or not answer.keep_alive
        if answer.status >= 200:
            self.method = b""

    def finish(self) -> None:
        body = unchunked(self.body) if self.framing == CHUNKED else self.body
        self.found.append(Message(self.first, body))
        if not self.is_last:
            self.reader.next_message()

    def end(self) -> None:
        if self.reader.state == TO_THE_END and self.reader.end_of_stream():
            self.finish()


def unchunked(body: bytes) -> bytes:
    """The content of a body whose chunks are well formed."""
    found: List[bytes] = []
    start = 0
    while True:
        end = body.index(b"\r\n", start)
        size = int(re.split(rb"[ \t;]", body[start:end])[0], 16)
        if not size:
            return b"".join(found)
        start = end + 2 + size + 2
        found.append(body[end + 2:end + 2 + size])


# Requests


def _head(fields: bytes, first: bytes = b"POST /a HTTP/1.1") -> bytes:
    """A head of these lines, which are without the end of the last, with a Host."""
    return b"%s\r\nHost: a\r\n%s\r\n\r\n" % (first, fields)


def _chunked(body: bytes) -> bytes:
    return _head(b"Transfer-Encoding: chunked") + body


def _refused(name: str, data: bytes, status: int = 400) -> Case:
    """Nothing is taken."""
    return Case(name, data, Reading((), status, False))


def _waits(name: str, data: bytes) -> Case:
    """Nothing is taken yet, and nothing is wrong yet."""
    return Case(name, data, Reading((), 0, False))


def _taken(name: str, data: bytes, body: bytes, first: bytes = b"POST /a") -> Case:
    """It is one request."""
    return Case(name, data, Reading((Message(tuple(first.split(b" ")), body),), 0, True))


def _then(case: Case, behind: bytes, status: int = 0, first: bytes = b"GET /smuggled") -> Case:
    """Behind its request is another, or with a status what is none."""
    more = () if status else (Message(tuple(first.split(b" ")), b""),)
    return case._replace(data=case.data + behind, expected=Reading(
        case.expected.messages + more, status, not status))


#: One of the two lengths decides, or both do.
LENGTHS: List[Case] = [
    _taken("a body with a length", _head(b"Content-Length: 5") + b"hello", b"hello"),
    _taken("a length of nothing", _head(b"Content-Length: 0"), b""),
    _taken("spaces around a length", _head(b"Content-Length:   5  ") + b"hello", b"hello"),
    _taken("no white space before a length", _head(b"Content-Length:5") + b"hello", b"hello"),
    _taken("a length in capitals", _head(b"CONTENT-LENGTH: 5") + b"hello", b"hello"),
    _taken("a POST without a length", _head(b"X: y"), b""),
    _taken("a GET with a body", _head(b"Content-Length: 5", b"GET /a HTTP/1.1") + b"hello",
           b"hello", b"GET /a"),
    _taken("CL.0, a request as a body", _head(b"Content-Length: 37") + SMUGGLED + b"xx",
           SMUGGLED + b"xx"),
    _taken("TE.0, a request as a chunk", _chunked(b"25\r\n" + SMUGGLED + b"xx\r\n0\r\n\r\n"),
           SMUGGLED + b"xx"),
    _then(_taken("a request behind a body", _head(b"Content-Length: 5") + b"hello", b"hello"),
          SMUGGLED),
    _then(_taken("a request behind a POST without a length", _head(b"X: y"), b""), SMUGGLED),
    _then(_taken("junk behind a body", _head(b"Content-Length: 5") + b"hello", b"hello"),
          b"?!\r\n\r\n", 400),
    _waits("a body that is too short", _head(b"Content-Length: 6") + b"hello"),
    _refused("CL.TE", _head(b"Content-Length: 6\r\nTransfer-Encoding: chunked") + b"0\r\n\r\nG"),
    _refused("TE.CL", _head(b"Transfer-Encoding: chunked\r\nContent-Length: 4")
             + b"25\r\n" + SMUGGLED + b"xx\r\n0\r\n\r\n"),
    _refused("CL.TE with a length of nothing",
             _head(b"Content-Length: 0\r\nTransfer-Encoding: chunked") + b"0\r\n\r\n"),
    _refused("0.CL, an encoding that names no chunks",
             _head(b"Transfer-Encoding: identity\r\nContent-Length: 37") + SMUGGLED + b"xx"),
    _refused("two lengths", _head(b"Content-Length: 5\r\nContent-Length: 6") + b"hello!"),
    _refused("the same length twice", _head(b"Content-Length: 5\r\nContent-Length: 5") + b"hello"),
    _refused("a length, and none", _head(b"Content-Length: 5\r\nContent-Length:") + b"hello"),
    _refused("no length, and one", _head(b"Content-Length:\r\nContent-Length: 5") + b"hello"),
    _refused("two lengths in one field", _head(b"Content-Length: 5, 6") + b"hello!"),
    _refused("the same length twice in one field", _head(b"Content-Length: 5, 5") + b"hello"),
    _refused("a comma behind a length", _head(b"Content-Length: 5,") + b"hello"),
    _refused("two lengths apart", _head(b"Content-Length: 5\r\nX: y\r\ncontent-length: 6")
             + b"hello!"),
    _refused("a length and a lookalike", _head(b"Content-Length: 0\r\nContent_Length: 37")
             + SMUGGLED + b"xx"),
    _refused("chunks and a lookalike of a length",
             _head(b"Transfer-Encoding: chunked\r\nContent_Length: 5") + b"0\r\n\r\n"),
    _refused("a length and a lookalike of chunks",
             _head(b"Content-Length: 5\r\nTransfer_Encoding: chunked") + b"0\r\n\r\n"),
] + [
    _refused("a length that is " + name, _head(b"Content-Length: " + value) + b"hello")
    for name, value in (
        ("empty", b""), ("a word", b"five"), ("signed", b"+5"), ("negative", b"-5"),
        ("minus nothing", b"-0"), ("hexadecimal", b"0x5"), ("octal", b"05"), ("zeros", b"00"),
        ("grouped", b"0_5"), ("grouped, for Python", b"1_0"), ("broken", b"5.0"),
        ("exponential", b"5e0"), ("followed by a word", b"5 bytes"), ("cut by a space", b"5 5"),
        ("cut by a semicolon", b"5;5"), ("quoted", b'"5"'), ("behind a form feed", b"\x0c5"),
        ("behind a vertical tab", b"\x0b5"), ("before a NUL", b"5\x00"),
        ("behind a space of Latin-1", b"\xa05"), ("in digits of Unicode", b"\xd9\xa5"),
        ("over 64 bits", b"18446744073709551621"), ("over 63 bits", b"9223372036854775808"),
        ("over 32 bits of nothing", b"4294967301" * 2), ("very long", b"1" * 400),
        ("infinite", b"inf"), ("in brackets", b"[5]"), ("behind a comma", b",5"),
        ("behind a tab", b"\t5"), ("before a tab", b"5\t"),
    )
]

#: Spellings of an encoding that one reader takes for `chunked` and another does not.
CODINGS: List[Case] = [
    _taken("a body in chunks", _chunked(b"5\r\nhello\r\n0\r\n\r\n"), b"hello"),
    _taken("chunks in capitals", _head(b"TRANSFER-ENCODING: CHUNKED") + b"1\r\nx\r\n0\r\n\r\n",
           b"x"),
    _taken("spaces around chunked", _head(b"Transfer-Encoding:   chunked  ")
           + b"1\r\nx\r\n0\r\n\r\n", b"x"),
    _taken("no white space before chunked", _head(b"Transfer-Encoding:chunked")
           + b"1\r\nx\r\n0\r\n\r\n", b"x"),
    _taken("the encoding of content", _head(b"Content-Encoding: chunked\r\nContent-Length: 5")
           + b"hello", b"hello"),
    _then(_taken("a request behind chunks", _chunked(b"0\r\n\r\n"), b""), SMUGGLED),
    _refused("gzip, then chunks", _head(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 501),
    _refused("chunks twice", _head(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")
             + b"0\r\n\r\n"),
    _refused("chunks, and another field", _head(
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x") + b"0\r\n\r\n"),
    _refused("another field, and chunks", _head(
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked") + b"0\r\n\r\n"),
    _refused("chunks, and an empty field", _head(
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding:") + b"0\r\n\r\n"),
    _refused("an encoding in an element of XML", _head(b"<Transfer-Encoding: chunked>")
             + b"0\r\n\r\n"),
    _refused("chunks of HTTP/1.0", _head(b"Transfer-Encoding: chunked", b"POST /a HTTP/1.0")
             + b"0\r\n\r\n"),
    _refused("chunks of HTTP/1.0 that stay", _head(
        b"Connection: keep-alive\r\nTransfer-Encoding: chunked", b"POST /a HTTP/1.0")
        + b"0\r\n\r\n"),
    _refused("chunks to CONNECT", _head(
        b"Transfer-Encoding: chunked", b"CONNECT a:80 HTTP/1.1") + b"0\r\n\r\n"),
] + [
    _refused("an encoding that is " + name, _head(b"Transfer-Encoding: " + value)
             + b"0\r\n\r\n")
    for name, value in (
        ("empty", b""), ("identity", b"identity"), ("a prefix", b"chunk"), ("longer", b"xchunked"),
        ("longer at the end", b"chunkedx"), ("quoted", b'"chunked"'), ("in apostrophes",
         b"'chunked'"), ("not the last", b"chunked, identity"), ("chunked twice",
         b"chunked, chunked"), ("behind a comma", b",chunked"), ("before a comma", b"chunked,"),
        ("between others", b"identity, chunked, identity"), ("with a parameter", b"chunked;q=1"),
        ("behind a semicolon", b";chunked"), ("very long",
         b"a," * 200 + b"chunked"), ("two words", b"chunked x"), ("behind a word", b"x chunked"),
        ("behind a vertical tab", b"\x0bchunked"), ("before a vertical tab",
         b"chunked\x0b"), ("behind a form feed", b"\x0cchunked"), ("before a NUL",
         b"chunked\x00"), ("behind a NUL", b"\x00chunked"), ("before a DEL", b"chunked\x7f"),
        ("behind a space of Latin-1", b"\xa0chunked"), ("before a space of Latin-1",
         b"chunked\xa0"), ("behind a next line of Latin-1", b"\x85chunked"), ("with an accent",
         b"ch\x96nked"), ("before a bare CR", b"chunked\r"), ("behind a bare CR", b"\rchunked"),
        ("behind a bare LF", b"\n chunked"), ("folded", b"\r\n chunked"), ("folded by a tab",
         b"\r\n\tchunked"), ("with a Kelvin sign", b"chun\xe2\x84\xaaed"), ("percent-encoded",
         b"chun%6bed"), ("behind a tab", b"\tchunked"), ("before a tab", b"chunked\t"),
    )
] + [
    _refused("a name of an encoding " + name, _head(line + b"\r\nContent-Length: 5")
             + b"0\r\n\r\n")
    for name, line in (
        ("before a space", b"Transfer-Encoding : chunked"), ("before a tab",
         b"Transfer-Encoding\t: chunked"), ("behind a space", b" Transfer-Encoding: chunked"),
        ("behind a tab", b"\tTransfer-Encoding: chunked"), ("with a space",
         b"Transfer Encoding: chunked"), ("with an underscore", b"Transfer_Encoding: chunked"),
        ("with a backslash", b"Transfer\\Encoding: chunked"), ("with a point",
         b"Transfer.Encoding: chunked"), ("with a CR", b"Tra\rnsfer-Encoding: chunked"),
        ("over two lines", b"Transfer-\r\nEncoding: chunked"), ("before a line end",
         b"Transfer-Encoding\r\n: chunked"), ("before a bare LF", b"Transfer-Encoding\n: chunked"),
        ("before a word", b"Transfer-Encoding x: chunked"), ("with an accent",
         b"Transf\x82r-Encoding: chunked"), ("behind a NUL", b"\x00Transfer-Encoding: chunked"),
        ("before a NUL", b"Transfer-Encoding\x00: chunked"), ("before a next line of Latin-1",
         b"Transfer-Encoding\x85: chunked"), ("without a colon", b"Transfer-Encoding chunked"),
        ("behind a bare CR", b"X: y\rTransfer-Encoding: chunked"), ("behind a bare LF",
         b"X: y\nTransfer-Encoding: chunked"), ("behind CR CR LF",
         b"X: y\r\r\nTransfer-Encoding: chunked"), ("behind CRLF CR",
         b"X: y\r\n\rTransfer-Encoding: chunked"), ("behind bare LFs",
         b"X: y\n\nTransfer-Encoding: chunked"), ("behind an empty name",
         b": y\r\nTransfer-Encoding: chunked"), ("in quotes", b'"Transfer-Encoding": chunked'),
        ("behind a fold", b"X: y\r\n z\r\nTransfer-Encoding: chunked"),
    )
]

#: Sizes, extensions and line ends of chunks.
CHUNKS: List[Case] = [
    _taken("chunks of several sizes", _chunked(
        b"1\r\na\r\n0A\r\n0123456789\r\n00c\r\n" + b"x" * 12 + b"\r\n000\r\n\r\n"),
        b"a0123456789" + b"x" * 12),
    _taken("a large chunk", _chunked(b"1F40\r\n" + b"x" * 8000 + b"\r\n0\r\n\r\n"), b"x" * 8000),
    _taken("chunks that hold CR, LF and NUL", _chunked(b"5\r\n\r\n\x00\n\r\r\n0\r\n\r\n"),
           b"\r\n\x00\n\r"),
    _taken("a chunk that looks like the last", _chunked(b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n"),
           b"\r\n0\r\n\r\n"),
    _taken("extensions of chunks", _chunked(
        b'1;a\r\nx\r\n1;a=b;c="d;e\\"f"\r\ny\r\n0;last\r\n\r\n'), b"xy"),
    _taken("trailers", _chunked(b"1\r\nx\r\n0\r\nDigest: abc\r\nX-Time:\t5\r\n\r\n"), b"x"),
    _taken("a trailer like a request", _chunked(b"0\r\nX:GET /smuggled HTTP/1.1\r\n\r\n"), b""),
    _then(_taken("a request behind trailers", _chunked(b"0\r\nDigest: abc\r\n\r\n"), b""),
          SMUGGLED),
    _taken("eleven digits of a size", _chunked(b"00000000001\r\nx\r\n0\r\n\r\n"), b"x"),
    _waits("a last chunk without its empty line", _chunked(b"1\r\nx\r\n0\r\n")),
    _waits("a size that may go on", _chunked(b"1")),
    _waits("a chunk of 16 TB", _chunked(b"FFFFFFFFFFF\r\nx")),
    _taken("chunks of every kind in turn", _chunked(
        (b"40\r\n%s\r\n" % (b"x" * 64) + b"1\r\ny\r\n" + b"1;a\r\nz\r\n" + b"0003e8;b=c\r\n%s\r\n"
         % (b"x" * 1000) + b"00000000001\r\n\r\r\n") * 3 + b"0\r\n\r\n"),
        (b"x" * 64 + b"yz" + b"x" * 1000 + b"\r") * 3),
    _refused("a large chunk behind another that is shorter than its size", _chunked(
        b"40\r\n%s\r\n40\r\n%s\r\n0\r\n\r\n" % (b"x" * 64, b"x" * 63))),
    _refused("extensions without end", _chunked(b"1;" + b"a" * 5000 + b"\r\nx\r\n0\r\n\r\n")),
    _refused("many extensions", _chunked(
        b"".join(b"1;%s\r\nx\r\n" % (b"a" * 200) for _ in range(40)) + b"0\r\n\r\n")),
    _refused("trailers over 32 KB", _chunked(b"0\r\nX: " + b"y" * 33000 + b"\r\n\r\n")),
    _refused("101 trailers", _chunked(b"0\r\n" + b"X: y\r\n" * 101 + b"\r\n")),
] + [
    _refused("a size " + name, _chunked(line + b"\r\nhello\r\n0\r\n\r\n"))
    for name, line in (
        ("that is empty", b""), ("with a plus", b"+5"), ("with a minus", b"-5"),
        ("that is minus nothing", b"-0"), ("with 0x", b"0x5"), ("with 0X", b"0X5"),
        ("with an underscore", b"0_5"), ("before a space", b"5 "), ("behind a space", b" 5"),
        ("behind a tab", b"\t5"), ("with a space", b"0 5"), ("before a word", b"5z"),
        ("in words", b"five"), ("with a point", b"5.0"), ("over 64 bits", b"10000000000000005"),
        ("over 32 bits", b"0" * 12 + b"5"),
        ("of twelve digits", b"0" * 11 + b"5"), ("over 63 bits", b"FFFFFFFFFFFFFFFF"),
        ("with h", b"5h"), ("with a comma", b"5,5"), ("in quotes", b'"5"'),
        ("with a NUL", b"5\x00"), ("behind a NUL", b"\x005"), ("with a vertical tab", b"5\x0b"),
        ("with a space of Latin-1", b"5\xa0"), ("with CR CR", b"5\r"), ("with CR in white space",
         b"5 \r ;a"), ("with CR before an extension", b"5\r\r;a"),
        ("with an extension in which is a CR", b"5;a\rb"),
        ("with an extension in which is a LF", b"5;a\nb"),
        ("with an extension in whose quotes is a LF", b'5;a="\n"'),
        ("with an extension in whose quotes is CRLF", b'5;a="\r\n"'),
        ("with an extension in whose quotes is a NUL", b'5;a="\x00"'),
        ("with an extension whose quotes stay open", b'5;a="b'),
        ("with an extension behind a space", b"5 ;a"), ("with an extension before a space",
         b"5; a"), ("with spaces in an extension", b"5;a = b"),
        ("with an extension without a name", b"5;"), ("with an extension without a value", b"5;a="),
        ("with an extension that is a value", b"5;=a"), ("with two semicolons", b"5;;a"),
        ("with an extension and white space", b"5;a "), ("with an extension of two words",
         b"5;a b"), ("that is folded", b"5\r\n ;a"), ("with digits of Unicode", b"\xd9\xa5"),
    )
] + [
    _refused(name, _chunked(body)) for name, body in (
        ("a bare LF behind a size", b"5\nhello\r\n0\r\n\r\n"),
        ("a bare CR behind a size", b"5\rhello\r\n0\r\n\r\n"),
        ("CR and another byte behind a size", b"5\rXhello\r\n0\r\n\r\n"),
        ("a bare LF behind a chunk", b"5\r\nhello\n0\r\n\r\n"),
        ("a bare CR behind a chunk", b"5\r\nhello\r0\r\n\r\n"),
        ("nothing behind a chunk", b"5\r\nhello0\r\n\r\n"),
        ("two other bytes behind a chunk", b"5\r\nhelloXX0\r\n\r\n"),
        ("a chunk that is longer than its size", b"4\r\nhello\r\n0\r\n\r\n"),
        ("a chunk that is shorter than its size", b"6\r\nhello\r\n0\r\n\r\n"),
        ("an empty line behind a chunk", b"5\r\nhello\r\n\r\n0\r\n\r\n"),
        ("a bare LF behind the last size", b"0\n\r\n"),
        ("a bare LF as the empty line", b"0\r\n\n"),
        ("bare LFs at the end", b"0\n\n"),
        ("a bare CR as the empty line", b"0\r\n\rGET /smuggled HTTP/1.1\r\n\r\n"),
        ("a bare LF behind the last extension", b"0;a\nGET /smuggled HTTP/1.1\r\n\r\n"),
        ("no empty line behind the last chunk", b"0\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
        ("a size of two nothings", b"0 0\r\n\r\n"),
    )
] + [
    _refused("trailers with " + name, _chunked(b"0\r\n" + line + b"\r\n\r\n"))
    for name, line in (
        ("a length", b"Content-Length: 5"), ("an encoding", b"Transfer-Encoding: chunked"),
        ("a lookalike of a length", b"Content_Length: 5"), ("a host", b"Host: b"),
        ("an address", b"X-Forwarded-For: 10.0.0.1"), ("a lookalike of an address",
         b"X_Forwarded_For: 10.0.0.1"), ("a password", b"Authorization: Basic eA=="),
        ("a cookie", b"Cookie: a=b"), ("a connection", b"Connection: close"),
        ("a proxy's connection", b"Proxy-Connection: close"), ("a type", b"Content-Type: a/b"),
        ("a fold", b"Digest: a\r\n b"), ("a bare LF", b"Digest: a\nX: y"), ("a bare CR",
         b"Digest: a\rX: y"), ("a NUL", b"Digest: \x00"), ("no colon", b"Digest"), ("a space "
         "before the colon", b"Digest : a"), ("an empty name", b": a"), ("an upgrade",
         b"Upgrade: websocket"),
    )
]

#: Lines of a head.
HEADS: List[Case] = [
    _taken("an empty value", _head(b"X:"), b""),
    _taken("bytes above 127 in a value", _head(b"X: \xc3\xa9\xff"), b""),
    _taken("a tab in a value", _head(b"X: a\tb"), b""),
    _taken("all characters of a name", _head(b"!#$%&'*+-.^_`|~09azAZ: x"), b""),
    _taken("a value with colons", _head(b"X: a:b::c"), b""),
    _taken("empty lines before a request", b"\r\n\r\n" + _head(b"X: y"), b""),
    _taken("a lookalike of an address", _head(b"X_Forwarded_For: 10.0.0.1"), b""),
    _taken("a field that names itself in Connection", _head(b"Connection: X\r\nX: y"), b""),
    _taken("Host named in Connection", _head(b"Connection: Host"), b""),
    _taken("a length named in Connection", _head(
        b"Connection: Content-Length\r\nContent-Length: 5") + b"hello", b"hello"),
    _taken("an encoding named in Connection", _head(
        b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n",
        b"x"),
    _taken("a WebSocket", _head(
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", b"GET /a HTTP/1.1"), b"", b"GET /a"),
    _taken("HTTP/2 wanted", _head(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                                  b"HTTP2-Settings: AAMAAABkAAQAAP__"), b""),
    _taken("an upgrade with a body", _head(
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5") + b"hello", b"hello"),
    _taken("100 fields", _head(b"\r\n".join([b"X: y"] * 99)), b""),
    _taken("a head of 32 KB", _head(b"X: " + b"y" * (32 * 1024 - len(_head(b"X: ")))), b""),
    _taken("a request behind the last", _head(b"Connection: close") + SMUGGLED, b""),
    _taken("a line that ends in a line of Connection", _head(
        b"Connection: keep-alive\r\nX: Connection: keep-alive"), b""),
    _taken("Expect", _head(b"Expect: 100-continue\r\nContent-Length: 5") + b"hello", b"hello"),
    _taken("Expect of something else", _head(b"Expect: y 100-continue\r\nContent-Length: 5")
           + b"hello", b"hello"),
    _taken("Expect without a body", _head(b"Expect: 100-continue"), b""),
    _waits("no end of a head", _head(b"X: y")[:-2]),
    _waits("half of the end of a head", _head(b"X: y")[:-1]),
    _waits("half of a line end", b"GET / HTTP/1.1\r"),
    Case("nothing", b"", Reading((), 0, True)),
    Case("an empty line only", b"\r\n", Reading((), 0, True)),
    _refused("five empty lines", b"\r\n" * 5 + _head(b"X: y")),
    _refused("bare LFs before a request", b"\n\n" + _head(b"X: y")),
    _refused("a space before a request", b" " + _head(b"X: y")),
    _refused("a NUL before a request", b"\x00" + _head(b"X: y")),
    _refused("a BOM before a request", b"\xef\xbb\xbf" + _head(b"X: y")),
    _refused("bare LFs everywhere", b"GET / HTTP/1.1\nHost: a\n\n"),
    _refused("a bare LF at the end of a head", b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    _refused("a bare CR at the end of a head", b"GET / HTTP/1.1\r\nHost: a\r\n\rGET / HTTP/1.1"),
    _refused("CR CR LF at the end of a head", b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n"),
    _refused("101 fields", _head(b"\r\n".join([b"X: y"] * 100)), 431),
    _refused("a head over 32 KB", _head(b"X: " + b"y" * (32 * 1024 - len(_head(b"X: ")) + 1)), 431),
    _refused("a head without end", b"GET / HTTP/1.1\r\nX: " + b"y" * 40000, 431),
    _refused("a request line without end", b"GET /" + b"y" * 40000, 431),
    _refused("Connection that is no list", _head(b"Connection: close; x")),
    _taken("a Connection of 1,024 bytes", _head(b"Connection: " + b"x," * 511 + b"xy"), b""),
    _refused("a Connection of 1,025 bytes", _head(b"Connection: " + b"x," * 512 + b"x")),
    _refused("Connections of 1,025 bytes", _head(b"Connection: " + b"x," * 256 + b"\r\nConnection: "
                                                 + b"y," * 256)),
    _refused("Connection in quotes", _head(b'Connection: "close"')),
    _refused("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    _refused("a PROXY header", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + _head(b"X: y")),
] + [
    _refused("a line that " + name, _head(b"X: y\r\n" + line + b"\r\nZ: y"))
    for name, line in (
        ("is folded", b" z"), ("is folded by a tab", b"\tz"), ("is white space", b" "),
        ("has no colon", b"Foo"), ("has no name", b": bar"), ("is a colon", b":"),
        ("has a space in its name", b"Foo bar: z"), ("has a space behind its name", b"Foo : z"),
        ("has a tab behind its name", b"Foo\t: z"), ("has a NUL", b"Foo: a\x00b"),
        ("has a NUL in its name", b"F\x00o: a"), ("has a bare CR", b"Foo: a\rb"),
        ("has a bare LF", b"Foo: a\nb"), ("has CR CR LF", b"Foo: a\r"), ("has LF CR LF",
         b"Foo: a\n"), ("has a DEL", b"Foo: a\x7f"), ("has a bell", b"Foo: a\x07"),
        ("has an escape", b"Foo: \x1b[2J"), ("has a vertical tab", b"Foo: a\x0bb"),
        ("has brackets in its name", b"Foo(bar): z"), ("has a slash in its name", b"Foo/bar: z"),
        ("has a byte above 127 in its name", b"F\xf6o: z"), ("has a quote in its name",
         b'"Foo": z'), ("is a request", b"GET /smuggled HTTP/1.1"), ("has an @ in its name",
         b"a@b: z"), ("has a comma in its name", b"a,b: z"),
    )
] + [
    _refused("a first line of a field that is folded", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    _refused("a last line that is folded", _head(b"X: y\r\n ")),
]

#: The target, and the host.
TARGETS: List[Case] = [
    _taken("an absolute target", b"GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n", b"", b"GET /b?c"),
    _taken("an absolute target without a path", b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", b"",
           b"GET /"),
    _taken("an absolute target with a port", b"GET HTTP://A:80/ HTTP/1.1\r\nHost: a:80\r\n\r\n",
           b"", b"GET /"),
    _taken("OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", b"", b"OPTIONS *"),
    _taken("OPTIONS of a whole host", b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", b"",
           b"OPTIONS *"),
    _taken("an absolute target under TLS", b"GET https://a/b HTTP/1.1\r\nHost: a\r\n\r\n", b"",
           b"GET /b"),
    _taken("an absolute target of HTTP/1.0", b"GET http://a/b HTTP/1.0\r\n\r\n", b"", b"GET /b"),
    _taken("a NUL in percents", b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", b"", b"GET /%00"),
    _taken("no hexadecimal percents", b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", b"", b"GET /%zz"),
    _taken("a path that leads out", b"GET /../b HTTP/1.1\r\nHost: a\r\n\r\n", b"", b"GET /../b"),
    _taken("all characters of a target", b"GET /\"<>\\^`{|}[]'()*+,;=:@!$&~ HTTP/1.1\r\nHost: a"
           b"\r\n\r\n", b"", b"GET /\"<>\\^`{|}[]'()*+,;=:@!$&~"),
    _taken("all characters of a host", b"GET / HTTP/1.1\r\nHost: a-b~!$&'()*+;=%.:99999\r\n\r\n",
           b"", b"GET /"),
    _taken("TRACE", b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", b"", b"TRACE /"),
    _taken("two slashes", b"GET //b/c HTTP/1.1\r\nHost: a\r\n\r\n", b"", b"GET //b/c"),
    _taken("CONNECT", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", b"", b"CONNECT a:443"),
    _taken("a host with a port", b"GET / HTTP/1.1\r\nHost: a.example:8080\r\n\r\n", b"", b"GET /"),
    _taken("a host of 300 bytes", b"GET / HTTP/1.1\r\nHost: " + b"a." * 150 + b"\r\n\r\n", b"",
           b"GET /"),
    _refused("a host of 301 bytes", b"GET / HTTP/1.1\r\nHost: " + b"a." * 150 + b"a\r\n\r\n"),
    _refused("a host of 301 bytes in the target", b"GET http://" + b"a." * 150
             + b"a/ HTTP/1.1\r\n\r\n"),
    _taken("a host of IPv6", b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", b"", b"GET /"),
    _taken("a host with an underscore", b"GET / HTTP/1.1\r\nHost: a_b\r\n\r\n", b"", b"GET /"),
    _taken("HTTP/1.0 without a host", b"GET / HTTP/1.0\r\n\r\n", b"", b"GET /"),
    _taken("HTTP/1.0 with a host", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", b"", b"GET /"),
    _refused("HTTP/1.0 with a body of GET", b"GET /a HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello"),
    _refused("HTTP/1.0 with a body of DELETE",
             b"DELETE /a HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello"),
    _taken("HTTP/1.0 with a body of nothing", b"GET /a HTTP/1.0\r\nContent-Length: 0\r\n\r\n", b"",
           b"GET /a"),
    _taken("HTTP/1.0 with a body", b"POST /a HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
           b"hello"),
    _then(_taken("HTTP/1.0 that stays", b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive"
                 b"\r\n\r\n", b"", b"GET /"), SMUGGLED),
    _taken("a method of extensions", b"M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n", b"", b"M-SEARCH /"),
] + [
    _refused(name, data) for name, data in (
        ("no host", b"GET / HTTP/1.1\r\n\r\n"), ("no host, but a field", b"GET / HTTP/1.1\r\n"
         b"X: y\r\n\r\n"), ("two hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        ("the same host twice", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        ("two hosts of HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
        ("a host before a space", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        ("a host in front of which is a space", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
        ("an absolute target of another host", b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("an absolute target of another port", b"GET http://a:1/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("an absolute target without a host", b"GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("an absolute target without a path, but a query", b"GET http://a?b HTTP/1.1\r\nHost: a"
         b"\r\n\r\n"), ("PRI of HTTP/1.1", b"PRI / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("an absolute target with a user", b"GET http://b@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("an absolute target with a backslash", b"GET http://a\\b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("an absolute target of another scheme", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("an authority without CONNECT", b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a target without a slash", b"GET b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("GET *", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a target that is a query", b"GET ?b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a fragment", b"GET /b#c HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("CONNECT with a path", b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("CONNECT without a port", b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("CONNECT without a port, in IPv6", b"CONNECT [::1] HTTP/1.1\r\nHost: [::1]\r\n\r\n"),
        ("CONNECT with an empty port", b"CONNECT a: HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("CONNECT to another host", b"CONNECT b:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("CONNECT with a length", b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
         b"hello"),
        ("a byte above 127 in a target", b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a NUL in a target", b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a tab in a target", b"GET /\tb HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a space in a target", b"GET /b c HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a bare CR in a target", b"GET /\rb HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a bare LF in a target", b"GET /\nb HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a bare LF for a space", b"GET /\nHTTP/1.1\r\nHost: a\r\n\r\n"),
        ("two spaces behind a method", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("two spaces before a version", b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a space behind a version", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
        ("a tab behind a method", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("no target", b"GET HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("an empty target", b"GET  HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("no method", b"/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a method in small letters", b"get / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a method in quotes", b'"GET" / HTTP/1.1\r\nHost: a\r\n\r\n'),
        ("a method with a colon", b"GET: / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a method with brackets", b"G[T / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("HTTP/0.9", b"GET /\r\n\r\n"), ("HTTP/0.9 with fields", b"GET /\r\nHost: a\r\n\r\n"),
        ("a version in small letters", b"GET / http/1.1\r\nHost: a\r\n\r\n"),
        ("a version with a letter", b"GET / HTTP/1.x\r\nHost: a\r\n\r\n"),
        ("a version of two digits", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
        ("a version with a zero", b"GET / HTTP/01.1\r\nHost: a\r\n\r\n"),
        ("a version with CR", b"GET / HTTP/\r1.1\r\nHost: a\r\n\r\n"),
        ("a version over 8 bits", b"GET / HTTP/257.257\r\nHost: a\r\n\r\n"),
        ("another protocol", b"GET / ICY/1.1\r\nHost: a\r\n\r\n"),
    )
] + [
    _refused("a host that " + name, b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n")
    for name, value in (
        ("is empty", b""), ("has a path", b"a/b"), ("has a user", b"b@a"), ("is two words",
         b"a b"), ("is two", b"a, b"), ("is two without a space", b"a,b"), ("has a query", b"a?b"),
        ("has a fragment", b"a#b"), ("has a backslash", b"a\\b"), ("has two ports", b"a:1:2"),
        ("has a word for a port", b"a:b"), ("has a NUL", b"a\x00b"), ("has two points", b"a..b"),
        ("is a port", b":80"), ("is a point", b"."), ("has an open bracket", b"[::1"),
        ("has something behind a bracket", b"[::1]a"), ("is an address", b"http://a"),
        ("has a byte above 127", b"\xe9"), ("is in quotes", b'"a"'), ("has six digits of a port",
         b"a:123456"), ("is markup", b"<a>"), ("is folded", b"a\r\n b"), ("is IPv6 without "
         "brackets", b"::1"), ("is behind a tab", b"\ta"), ("is before a tab", b"a\t"),
    )
] + [
    _refused("version " + version, ("GET / HTTP/%s\r\nHost: a\r\n\r\n" % version).encode(), 505)
    for version in ("0.9", "1.2", "2.0", "2", "3", "9.9")
] + [
    _refused("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
]

REQUESTS: List[Case] = LENGTHS + CODINGS + CHUNKS + HEADS + TARGETS

# Answers


def _answer(
    name: str, data: bytes, *messages: "Tuple[int, bytes]", status: int = 0,
    is_whole: bool = True, methods: "Tuple[bytes, ...]" = (b"GET",)
) -> Case:
    found = tuple(Message((b"%d" % code,), body) for code, body in messages)
    return Case(name, data, Reading(found, status, is_whole and not status), methods)


def _ok(fields: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"%s\r\n%s\r\n\r\n" % (first, fields)


_NO_CONTENT = b"HTTP/1.1 204 No Content\r\nDate: x\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

ANSWERS: List[Case] = [
    _answer("a length", _ok(b"Content-Length: 5") + b"hello", (200, b"hello")),
    _answer("chunks", _ok(b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
            (200, b"hello")),
    _answer("trailers of an answer", _ok(b"Transfer-Encoding: chunked") + b"0\r\nDigest: a\r\n\r\n",
            (200, b"")),
    _answer("the end of the stream", _ok(b"Date: x") + b"hello", (200, b"hello")),
    _answer("nothing up to the end of the stream", _ok(b"Date: x"), (200, b"")),
    _answer("HTTP/1.0", _ok(b"Date: x", b"HTTP/1.0 200 OK") + b"hello", (200, b"hello")),
    _answer("no reason", _ok(b"Content-Length: 1", b"HTTP/1.1 200") + b"x", (200, b"x")),
    _answer("an empty reason", _ok(b"Content-Length: 1", b"HTTP/1.1 200 ") + b"x", (200, b"x")),
    _answer("a length with zeros", _ok(b"Content-Length: 005") + b"hello", (200, b"hello")),
    _answer("the length of what HEAD leaves out", _ok(b"Content-Length: 5"), (200, b""),
            methods=(b"HEAD",)),
    _answer("the chunks that HEAD leaves out", _ok(b"Transfer-Encoding: chunked"), (200, b""),
            methods=(b"HEAD",)),
    _answer("an answer to HEAD without a length", _ok(b"Date: x"), (200, b""), methods=(b"HEAD",)),
    _answer("an answer behind that to HEAD", _ok(b"Content-Length: 5") + _ok(b"Content-Length: 1")
            + b"x", (200, b""), (200, b"x"), methods=(b"HEAD", b"GET")),
    _answer("304 with a length", _ok(b"Content-Length: 5", b"HTTP/1.1 304 Not Modified"),
            (304, b"")),
    _answer("204", _NO_CONTENT, (204, b"")),
    _answer("204 with a length of nothing", _ok(
        b"Content-Length: 0", b"HTTP/1.1 204 No Content"), (204, b"")),
    _answer("100, then an answer", _CONTINUE + _ok(b"Content-Length: 1") + b"x", (100, b""),
            (200, b"x")),
    _answer("a chain of 1xx", _CONTINUE + _HINTS + _HINTS + _NO_CONTENT, (100, b""), (103, b""),
            (103, b""), (204, b"")),
    _answer("1xx before an answer to HEAD", _HINTS + _ok(b"Content-Length: 5") + _NO_CONTENT,
            (103, b""), (200, b""), (204, b""), methods=(b"HEAD", b"GET")),
    _answer("101", _ok(b"Connection: Upgrade\r\nUpgrade: websocket",
                       b"HTTP/1.1 101 Switching Protocols") + b"\x81\x00", (101, b"")),
    _answer("2xx to CONNECT", _ok(b"Date: x"), (200, b""), methods=(b"CONNECT",)),
    _answer("2xx to CONNECT with a length", _ok(b"Content-Length: 5"), (200, b""),
            methods=(b"CONNECT",)),
    _answer("a refusal of CONNECT", _ok(b"Content-Length: 2", b"HTTP/1.1 403 No") + b"no",
            (403, b"no"), methods=(b"CONNECT",)),
    _answer("two answers", _NO_CONTENT + _ok(b"Content-Length: 1") + b"x", (204, b""),
            (200, b"x"), methods=(b"GET", b"GET")),
    _answer("a body that ends too soon", _ok(b"Content-Length: 6") + b"hello", is_whole=False),
    _answer("chunks that end too soon", _ok(b"Transfer-Encoding: chunked") + b"5\r\nhel",
            is_whole=False),
    _answer("chunks without the last", _ok(b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n",
            is_whole=False),
    _answer("a head that ends too soon", b"HTTP/1.1 200 OK\r\nContent-", is_whole=False),
] + [
    _answer(name, data, status=502) for name, data in (
        ("both lengths", _ok(b"Content-Length: 5\r\nTransfer-Encoding: chunked") + b"0\r\n\r\n"),
        ("two lengths of an answer", _ok(b"Content-Length: 5\r\nContent-Length: 6") + b"hello!"),
        ("listed lengths of an answer", _ok(b"Content-Length: 5, 6") + b"hello!"),
        ("a signed length of an answer", _ok(b"Content-Length: +5") + b"hello"),
        ("an empty length of an answer", _ok(b"Content-Length:")),
        ("chunks of an answer of HTTP/1.0", _ok(
            b"Transfer-Encoding: chunked", b"HTTP/1.0 200 OK") + b"0\r\n\r\n"),
        ("an unknown encoding of an answer", _ok(b"Transfer-Encoding: gzip") + b"x"),
        ("an answer in gzip and chunks", _ok(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n"),
        ("204 with a length", _ok(b"Content-Length: 5", b"HTTP/1.1 204 No Content") + b"hello"),
        ("204 with chunks", _ok(b"Transfer-Encoding: chunked", b"HTTP/1.1 204 No Content")
         + b"0\r\n\r\n"),
        ("100 with a length", _ok(b"Content-Length: 5", b"HTTP/1.1 100 Continue") + b"hello"),
        ("101 with chunks", _ok(b"Transfer-Encoding: chunked", b"HTTP/1.1 101 Switching")),
        ("a fold of an answer", _ok(b"X: y\r\n z\r\nContent-Length: 0")),
        ("a space before the colon of an answer", _ok(b"Content-Length : 5") + b"hello"),
        ("a bare LF of an answer", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
        ("a NUL of an answer", _ok(b"X: \x00\r\nContent-Length: 0")),
        ("a bare CR of an answer", _ok(b"X: a\rb\r\nContent-Length: 0")),
        ("no colon of an answer", _ok(b"PHP Warning\r\nContent-Length: 0")),
        ("a status of two digits", b"HTTP/1.1 20 OK\r\n\r\n"),
        ("a status of four digits", b"HTTP/1.1 2000 OK\r\n\r\n"),
        ("a status of 600", b"HTTP/1.1 600 OK\r\n\r\n"),
        ("a status of 099", b"HTTP/1.1 099 OK\r\n\r\n"),
        ("two spaces before a status", b"HTTP/1.1  200 OK\r\n\r\n"),
        ("an answer of HTTP/2", b"HTTP/2 200 OK\r\n\r\n"),
        ("an answer of another protocol", b"ICY 200 OK\r\n\r\n"),
        ("an answer without a head", b"<html></html>"),
        ("an empty line before an answer", b"\r\n" + _NO_CONTENT),
        ("a head of an answer over 32 KB", _ok(b"X: " + b"y" * 33000)),
        ("101 fields of an answer", _ok(b"\r\n".join([b"X: y"] * 101))),
        ("a bad size of an answer", _ok(b"Transfer-Encoding: chunked") + b"5 \r\nhello\r\n"),
        ("a length in trailers of an answer", _ok(b"Transfer-Encoding: chunked")
         + b"0\r\nContent-Length: 5\r\n\r\n"),
    )
]
