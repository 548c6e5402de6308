"""What the head of an HTTP/1 message says: read strictly, or refused (RFC 9110, RFC 9112).

Two programs that read the same bytes and find different messages in them let a client put a request
into another client's connection (request smuggling). So whatever could be read in two ways is not
read here at all: pupgevent refuses it, and the instance never sees it. That is the rule behind each
refusal below; where RFC 9112 lets a server be lenient, this one is not.

A head is read in one of two ways:

* `FAST_REQUEST` and `FAST_ANSWER` are patterns for the heads that nearly all messages have. What
  they match is well formed, and has no field that anything here depends on, besides those that the
  pattern gives back. That takes 1 to 2 µs.
* `parse_request` and `parse_answer` read every head, field by field. They are what counts: tests
  hold that both ways say the same wherever a pattern matches.

Nothing here has a socket or a clock. `Refused` is what is raised, with the status to answer.
"""

import re
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Pattern, Tuple

#: Bytes of a head, and its fields. NGINX has 4 pages of 8 KB, HAProxy 101 fields.
HEAD_BYTES, MOST_FIELDS = 32 * 1024, 100

#: Bytes of a host with its port, of which a name in DNS has 253, of all that `Connection` says, and
#: of an encoding that is looked at: what is longer is refused for it, and neither kept for a client
#: nor taken apart for long.
_HOST_BYTES, _CONNECTION_BYTES, _CODING_BYTES = 300, 1024, 256

#: A length has 15 digits at most: 1 PB less one byte, far from what any reader overflows at.
_LENGTH_DIGITS = 15

#: How a body ends that has no length: a framing is one of these, or a number of bytes.
CHUNKED, UNTIL_CLOSE = -1, -2

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
#: No control characters: not NUL, DEL, CR or LF. Bytes above 127 are opaque (obs-text).
_VALUE = rb"[\t -~\x80-\xff]*"
#: A name or an IPv4 address, or an IPv6 address in brackets, and a port. NGINX takes no empty name
#: and no empty label. A comma could be taken for the end of a first of two.
_HOST = rb"(?:%s+(?:\.%s+)*\.?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?" % (
    (rb"[A-Za-z0-9\-_~!$&'()*+;=%]",) * 2)
#: What nearly all hosts are.
_USUAL_HOST = rb"[A-Za-z0-9\-_]+(?:\.[A-Za-z0-9\-_]+)*(?::[0-9]{1,5})?"
#: In front of either: it is not too long.
_SHORT_HOST = rb"(?![^ \r]{%d})" % (_HOST_BYTES + 1)
#: NGINX's methods: capitals, hyphens and underscores.
_METHOD = rb"[A-Z_\-]+"
#: Visible ASCII without `#`, which belongs to no request.
_TARGET = rb"[!\"$-~]+"

#: A field: its name, and its value with the spaces around it. Where none begins, all that is left
#: matches, without a name: so `findall` reads each byte once, and tells what is no field.
_FIELD = re.compile(rb"(%s):(%s)\r\n|(?s:.+)" % (_TOKEN, _VALUE))
_REQUEST_LINE = re.compile(rb"(%s) (%s) HTTP/1\.([01])" % (_METHOD, _TARGET))
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: %s)?" % _VALUE)
_OTHER_VERSION = re.compile(rb"[!-~]+ [!-~]+ HTTP/[0-9](?:\.[0-9])?")
_HOST_VALUE = re.compile(_SHORT_HOST + _HOST)
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/]*)(.*)")
#: Of a request: a reader who takes a leading zero for the sign of octal finds another length.
_REQUEST_LENGTH = re.compile(rb"0|[1-9][0-9]{0,%d}" % (_LENGTH_DIGITS - 1))
_ANSWER_LENGTH = re.compile(rb"[0-9]{1,%d}" % _LENGTH_DIGITS)
_ENCODINGS = re.compile(rb"(?:%s[ \t]*,[ \t]*)*chunked" % _TOKEN, re.IGNORECASE)
_TOKENS = re.compile(rb"[ \t]*(?:%s[ \t]*)?(?:,[ \t]*(?:%s[ \t]*)?)*" % (_TOKEN, _TOKEN))
_PORT_AT_END = re.compile(rb":[0-9]{1,5}\Z")

#: Fields that are meant for the next hop alone (RFC 9110, 7.6.1).
HOP_BY_HOP: FrozenSet[bytes] = frozenset((
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"http2-settings",
))  # fmt: skip

#: What a `Connection` field may not take away, whatever it names: what the next reader needs to
#: find the end and the place of the request, and what it believes about the client.
_KEPT: FrozenSet[bytes] = frozenset((
    b"host", b"content-length", b"transfer-encoding", b"authorization", b"cookie",
    b"set-cookie", b"trailer",
))  # fmt: skip

#: What says where a body ends.
_FRAMING: FrozenSet[bytes] = frozenset((b"content-length", b"transfer-encoding"))

#: Who is believed about what: X-Forwarded-For and the like, and certificates (RFC 9440).
FORWARDED: FrozenSet[bytes] = frozenset((
    b"forwarded", b"x-real-ip", b"client-cert", b"client-cert-chain"))
_FORWARDED_PREFIX = b"x-forwarded-"

#: A server of HTTP/1.0 may not look for a body behind these, and take it for the next request.
#: HAProxy refuses it, too.
_BODILESS_IN_1_0: FrozenSet[bytes] = frozenset((b"GET", b"HEAD", b"DELETE"))

#: What the reading of a head looks at.
_READ: FrozenSet[bytes] = _FRAMING | {b"host", b"connection", b"upgrade"}

# Names of fields are compared without their case. Applications that get them in their environment
# (CGI, WSGI, PHP) cannot tell `X_Real_Ip` from `X-Real-Ip`, and behind lighttpd not `X.Real.Ip`
# either. So a name that differs from a special one by such a character only is a lookalike: nobody
# sends it honestly. Of a length it is refused, else it goes nowhere, whoever sends it.
_ODD = b"!#$%&'*+.^_`|~"
_KEYS = bytes(range(256)).lower().translate(bytes.maketrans(_ODD, b"_" * len(_ODD)))


def _any_of(names: bytes) -> bytes:
    """A pattern for any of these names, in capitals and small letters, and for their lookalikes."""
    cased = re.sub(rb"[a-z]", lambda found: b"[%s%s]" % (found.group().upper(), found.group()),
                   names)
    # Most other names are told from all of these by a look at their first letter.
    firsts = b"".join(name[:1] + name[:1].upper() for name in names.split())
    return b"(?=[%s])(?:%s)" % (
        firsts, cased.replace(b"-", b"[^0-9A-Za-z:]").replace(b" ", b"|"))


_SPECIAL_NAMES = (
    b"connection: content-length: transfer-encoding: te: upgrade: keep-alive: proxy-connection: "
    b"http2-settings:")
_SPECIAL_TO_ANSWERS = _any_of(_SPECIAL_NAMES)
_SPECIAL_TO_REQUESTS = _any_of(
    _SPECIAL_NAMES + b" host: expect: forwarded: x-forwarded- x-real-ip: client-cert proxy:")

#: What clients say of their connection, alone or in any number: see CONNECTION.
_USUAL_CONNECTION = rb"Connection: (?:[Kk]eep-[Aa]live|[Cc]lose)\r\n"

#: A whole request without a body: what most are. Groups: method, host, and a line that says whether
#: the connection stays, before the host (2) or behind it (4). It is cut out by its place when the
#: request goes on: the same bytes may be in a value, where they would take the line end with them.
FAST_REQUEST = re.compile(
    rb"((?!CONNECT |PRI )%(method)s) /[!\"$-~]* HTTP/1\.1\r\n"
    rb"(?:(?!%(special)s)%(token)s:%(value)s\r\n|(%(connection)s))*"
    rb"[Hh]ost: *(%(host)s) *\r\n"
    rb"(?:(?!%(special)s)%(token)s:%(value)s\r\n|(%(connection)s))*"
    rb"\r\n" % {b"method": _METHOD, b"special": _SPECIAL_TO_REQUESTS, b"token": _TOKEN,
                b"value": _VALUE, b"host": _SHORT_HOST + _USUAL_HOST,
                b"connection": _USUAL_CONNECTION})

#: Node.js sends the second with the first.
_KEEP_ALIVE = rb"Connection: [Kk]eep-[Aa]live\r\n(?:Keep-Alive: timeout=[0-9]+\r\n)?"

#: The head of an answer with a length, to anything but HEAD and CONNECT. Groups: status, length,
#: and lines that say that the connection stays, before the length (2) or behind it (4).
FAST_ANSWER = re.compile(
    rb"HTTP/1\.1 ((?!204|304)[2-5][0-9][0-9])(?: %(value)s)?\r\n"
    rb"(?:(?!%(special)s)%(token)s:%(value)s\r\n|(%(keep_alive)s))*"
    rb"[Cc]ontent-[Ll]ength: *([0-9]{1,%(digits)d}) *\r\n"
    rb"(?:(?!%(special)s)%(token)s:%(value)s\r\n|(%(keep_alive)s))*"
    rb"\r\n" % {b"special": _SPECIAL_TO_ANSWERS, b"token": _TOKEN, b"value": _VALUE,
                b"digits": _LENGTH_DIGITS, b"keep_alive": _KEEP_ALIVE})

#: A shorter head cannot have too many fields: each is `a:` and a line end at least.
SURELY_FEW_FIELDS = 4 * MOST_FIELDS

#: What is left in a head from which such a line was cut, where there were two. Then it is to be
#: read in full, as it is where only a value looks like one.
CONNECTION = b"onnection:"


#: A field: what it is compared by (in small letters, and an underscore for whatever is neither a
#: letter nor a digit nor a hyphen), its name as it came, its value without the spaces around it.
#: Tabs there are left: to NGINX they are a part of a length or of a host, and so of none.
Field = Tuple[bytes, bytes, bytes]


class Refused(Exception):
    """A message that is not to be passed on: the status that says so, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class RequestHead(NamedTuple):
    method: bytes
    #: In origin form wherever it has one: a path, `*`, or an authority after CONNECT.
    target: bytes
    #: 0 or 1: the minor version.
    minor: int
    host: bytes
    fields: Tuple[Field, ...]
    #: Bytes of the body, or CHUNKED.
    framing: int
    #: The client goes on with this connection after the answer.
    keep_alive: bool
    #: The protocol to go on with, where the client wants to change it; else empty.
    upgrade: bytes
    #: What its `Connection` names besides.
    connection: FrozenSet[bytes]

    @property
    def is_tunnel(self) -> bool:
        return self.method == b"CONNECT"


class AnswerHead(NamedTuple):
    status: int
    #: As it came, the version before it left out.
    reason: bytes
    minor: int
    fields: Tuple[Field, ...]
    #: Bytes of the body, or CHUNKED, or UNTIL_CLOSE.
    framing: int
    #: The instance goes on with this connection.
    keep_alive: bool
    upgrade: bytes
    connection: FrozenSet[bytes]


def is_forwarded(key: bytes) -> bool:
    """A field that says something about the client on behalf of somebody else."""
    return key.startswith(_FORWARDED_PREFIX) or key in FORWARDED


def goes_on(field: Field, connection: "FrozenSet[bytes]") -> bool:
    """It is meant for the next hop, too: `connection` is what the message's own `Connection`
    names."""
    key = field[0]
    if key in HOP_BY_HOP:
        return False
    return key not in connection or key in _KEPT or is_forwarded(key)


# Reading


def parse_request(head: bytes) -> RequestHead:
    """The head of a request, its empty line included. Raises `Refused`."""
    line, block = _parted(head)
    matched = _REQUEST_LINE.fullmatch(line)
    if matched is None:
        raise _bad_request_line(line)
    method, target, version = matched.groups()
    if method == b"PRI":
        raise Refused(400, "PRI is of HTTP/2")
    minor = int(version)
    fields = parse_fields(block)
    if [key for key, _, _ in fields if b"_" in key]:
        fields = tuple(each for each in fields if not _is_lookalike(each[0]))
    read = [each for each in fields if each[0] in _READ]
    hosts = [each[2] for each in read if each[0] == b"host"]
    if len(hosts) > 1 or (minor and not hosts):
        raise Refused(400, "a request has one Host field")
    host = hosts[0] if hosts else b""
    if hosts and not _HOST_VALUE.fullmatch(host):
        raise Refused(400, "no valid Host")
    if method == b"CONNECT" or not target.startswith(b"/"):
        target, host = _origin_form(method, target, host)
    framing = _framing(read, minor, _REQUEST_LENGTH)
    if framing is not None and method == b"CONNECT":
        raise Refused(400, "CONNECT has no body")
    if framing and not minor and method in _BODILESS_IN_1_0:
        raise Refused(400, "%s of HTTP/1.0 has no body" % method.decode("ascii"))
    connection = _connection(read)
    return RequestHead(
        method, target, minor, host, fields, framing or 0, _keeps_alive(minor, connection),
        _upgrade(read, connection) if minor and not framing else b"", connection)


def parse_answer(head: bytes, method: bytes) -> AnswerHead:
    """The head of an answer to a request of that method. Raises `Refused`, with 502."""
    try:
        return _parse_answer(head, method)
    except Refused as error:
        raise Refused(502, error.reason) from None


def _parse_answer(head: bytes, method: bytes) -> AnswerHead:
    line, block = _parted(head)
    matched = _STATUS_LINE.fullmatch(line)
    if matched is None:
        raise Refused(502, "no valid status line")
    minor, status = int(matched.group(1)), int(matched.group(2))
    fields = parse_fields(block)
    read = [each for each in fields if each[0] in _READ]
    framing = _framing(read, minor, _ANSWER_LENGTH)
    if method == b"CONNECT" and 200 <= status < 300:
        # What follows is of another protocol, whatever is said of its length (RFC 9110, 9.3.6).
        fields, framing = _without_framing(fields), 0
    elif status >= 200 and (method == b"HEAD" or status == 304):
        framing = 0
    elif status < 200 or status == 204:
        if framing:
            raise Refused(502, "a %d answer has no body" % status)
        fields, framing = _without_framing(fields), 0
    connection = _connection(read)
    keep_alive = framing is not None and _keeps_alive(minor, connection)
    return AnswerHead(
        status, line[9:], minor, fields, UNTIL_CLOSE if framing is None else framing, keep_alive,
        _upgrade(read, connection), connection)


def _without_framing(fields: "Tuple[Field, ...]") -> "Tuple[Field, ...]":
    return tuple(each for each in fields if each[0] not in _FRAMING)


def _bad_request_line(line: bytes) -> Refused:
    if _OTHER_VERSION.fullmatch(line) and not line.endswith((b"HTTP/1.0", b"HTTP/1.1")):
        return Refused(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    return Refused(400, "no valid request line")


def _parted(head: bytes) -> "Tuple[bytes, bytes]":
    """The first line without its end, and all lines of fields, without the empty one."""
    end = head.find(b"\r\n")
    return head[:end], head[end + 2:-2]


def parse_fields(block: bytes) -> "Tuple[Field, ...]":
    """Lines of fields, each with its end. Raises `Refused`."""
    if block.count(b"\n") > MOST_FIELDS:
        raise Refused(431, "more than %d fields" % MOST_FIELDS)
    found = _FIELD.findall(block)
    if found and not found[-1][0]:
        raise Refused(400, "no valid field")
    return tuple([
        (name.translate(_KEYS), name, value.strip(b" ")) for name, value in found])


def _is_lookalike(key: bytes) -> bool:
    """Does it differ from a special name by a character only? Raises `Refused` if that name says
    where a body ends."""
    special = key.replace(b"_", b"-")
    if special in _FRAMING and special != key:
        raise Refused(400, "%s is no field" % key.decode("ascii"))
    return special != key and (special in HOP_BY_HOP or is_forwarded(special))


def field_key(name: bytes) -> bytes:
    """What a field of that name is compared by."""
    return name.translate(_KEYS)


def values_of(fields: "Tuple[Field, ...]", key: bytes) -> "List[bytes]":
    """Of all fields that are called so."""
    return [each[2] for each in fields if each[0] == key]


def _framing(read: "List[Field]", minor: int, length: "Pattern[bytes]") -> "Optional[int]":
    """None where nothing is said of a body."""
    found = [each for each in read if each[0] in _FRAMING]
    if not found:
        return None
    if len(found) > 1:
        raise Refused(400, "more than one Content-Length or Transfer-Encoding")
    key, _, value = found[0]
    if key == b"content-length":
        if not length.fullmatch(value):
            raise Refused(400, "no valid Content-Length")
        return int(value)
    if not minor:
        raise Refused(400, "HTTP/1.0 has no Transfer-Encoding")
    coding = value.lower()
    if coding != b"chunked":
        known = (len(coding) <= _CODING_BYTES and _ENCODINGS.fullmatch(coding)
                 and coding.count(b"chunked") == 1)
        raise Refused(501 if known else 400, "no Transfer-Encoding but chunked is known")
    return CHUNKED


def _origin_form(method: bytes, target: bytes, host: bytes) -> "Tuple[bytes, bytes]":
    """A target that is no path as an origin server gets it, and the host (RFC 9112, 3.2)."""
    if method == b"CONNECT":
        # Host and target name the same, so only one of them can be right where they differ.
        if not _HOST_VALUE.fullmatch(target) or not _PORT_AT_END.search(target):
            raise Refused(400, "CONNECT needs a host and a port")
        if host and not _same_host(host, target):
            raise Refused(400, "Host is not the target's")
        return target, host
    if target == b"*" and method == b"OPTIONS":
        return target, host
    matched = _ABSOLUTE.fullmatch(target)
    if matched is None or not _HOST_VALUE.fullmatch(matched.group(1)):
        raise Refused(400, "no valid target")
    authority, rest = matched.groups()
    if host and authority.lower() != host.lower():
        raise Refused(400, "Host is not the target's")
    return rest or (b"*" if method == b"OPTIONS" else b"/"), authority


def _same_host(host: bytes, target: bytes) -> bool:
    return host.lower() in (target.lower(), target.lower().rpartition(b":")[0])


def _connection(read: "List[Field]") -> "FrozenSet[bytes]":
    """What its `Connection` fields name, in small letters."""
    values = [each[2] for each in read if each[0] == b"connection"]
    if not values:
        return _NOTHING
    joined = b",".join(values)
    known = _USUAL_CONNECTIONS.get(joined)
    if known is not None:
        return known
    if len(joined) > _CONNECTION_BYTES or not _TOKENS.fullmatch(joined):
        raise Refused(400, "no valid Connection")
    return frozenset(field_key(each.strip(b" \t")) for each in joined.split(b",")) - {b""}


_NOTHING: "FrozenSet[bytes]" = frozenset()
_USUAL_CONNECTIONS: "Dict[bytes, FrozenSet[bytes]]" = {
    name: frozenset((name.lower(),))
    for name in (b"keep-alive", b"Keep-Alive", b"close", b"Close", b"upgrade", b"Upgrade")
}


def _keeps_alive(minor: int, connection: "FrozenSet[bytes]") -> bool:
    if b"close" in connection:
        return False
    return bool(minor) or b"keep-alive" in connection


def _upgrade(read: "List[Field]", connection: "FrozenSet[bytes]") -> bytes:
    """Another protocol to go on with. HTTP/2 is none: nobody would read its requests here."""
    if b"upgrade" not in connection:
        return b""
    wanted = b", ".join(each[2] for each in read if each[0] == b"upgrade")
    return b"" if b"h2" in wanted.lower() else wanted
