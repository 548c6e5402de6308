"""What goes on of a message: heads as the instance and the client get them. Pure.

The fields of one hop stay on it (RFC 9110, 7.6.1), and each hop says its own version. The instance
is told whose request it is by `X-Forwarded-For` and the like; nobody else is believed about that.
"""

import base64
import ipaddress
from functools import lru_cache
from typing import Callable, Iterable, List, Optional, Tuple, Union

from http_heads import AnswerHead, Field, RequestHead, goes_on, is_forwarded, values_of
from model import Network

#: Lines of a head that are written here.
CLOSE = b"Connection: close\r\n"
KEEP_ALIVE = b"Connection: keep-alive\r\n"

_FOR, _PROTO, _HOST, _PORT = (
    b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Forwarded-Port")


@lru_cache(maxsize=4096)
def about_client(address: str) -> str:
    """An address of accept(2) as X-Forwarded-For has it: IPv4 is never written as IPv6."""
    address = address.partition("%")[0]
    if address.startswith("::ffff:") and "." in address:
        address = address[len("::ffff:"):]
    return address


@lru_cache(maxsize=4096)
def forwarded_fields(address: str, scheme: bytes, host: bytes, port: int) -> bytes:
    """Their lines, of a client that nobody else says anything about. Most clients come again, and
    to the same host."""
    lines = b"%s: %s\r\n%s: %s\r\n%s: %d\r\n" % (
        _FOR, about_client(address).encode("ascii", "replace"), _PROTO, scheme, _PORT, port)
    return lines + b"%s: %s\r\n" % (_HOST, host) if host else lines


def certificate_line(der: bytes) -> bytes:
    """The certificate that a client has shown, and that was verified (RFC 9440)."""
    return b"Client-Cert: :%s:\r\n" % base64.b64encode(der)


def is_among(address: str, networks: "Tuple[Network, ...]") -> bool:
    """The address is of one of these networks; an IPv4 address also where it is written as IPv6."""
    found = _parsed(about_client(address))
    return found is not None and any(found in each for each in networks)


#: Proxies between a client and here; nobody is known to have more than a handful.
_MOST_PROXIES = 32


def origin(head: RequestHead, peer: str, is_believed: "Callable[[str], bool]") -> str:
    """The address of the client that a request came from, through proxies: of those that
    X-Forwarded-For names, the last that is not believed itself. Whoever is before it could have
    been made up."""
    named = b",".join(values_of(head.fields, b"x-forwarded-for")).decode("latin-1")
    last = named.rsplit(",", _MOST_PROXIES)[-_MOST_PROXIES:]
    for each in reversed([text.strip() for text in last]):
        if _parsed(each) is None:
            return peer
        peer = each
        if not is_believed(each):
            return each
    return peer


def _parsed(text: str) -> "Optional[Union[ipaddress.IPv4Address, ipaddress.IPv6Address]]":
    """An address; None where it is none."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def passed_on(head: RequestHead, address: str, scheme: bytes, port: int) -> bytes:
    """The same behind a proxy that is believed: its own address comes behind those that it names,
    and what it says of scheme, host and port counts."""
    own_address = about_client(address).encode("ascii", "replace")
    addresses = [*filter(None, values_of(head.fields, b"x-forwarded-for")), own_address]
    lines = [b"%s: %s\r\n" % (_FOR, b", ".join(addresses))]
    for name, own in ((_PROTO, scheme), (_PORT, b"%d" % port), (_HOST, head.host)):
        value = (values_of(head.fields, name.lower()) or [own])[0]
        if value:
            lines.append(b"%s: %s\r\n" % (name, value))
    for key, name, value in head.fields:
        if is_forwarded(key) and key not in _WRITTEN:
            lines.append(b"%s: %s\r\n" % (name, value))
    return b"".join(lines)


#: Under CGI it would become HTTP_PROXY, by which programs find their own proxy (httpoxy.org).
_HTTPOXY = b"proxy"

_WRITTEN = frozenset(name.lower() for name in (_FOR, _PROTO, _HOST, _PORT))


def request_bytes(head: RequestHead, forwarded: bytes) -> bytes:
    """The head as it goes to the instance; `forwarded` are the lines about its client."""
    lines = [b"%s %s HTTP/1.%d\r\n" % (head.method, head.target, head.minor)]
    lines += _lines(each for each in head.fields if goes_on(each, head.connection)
                    and not is_forwarded(each[0]) and each[0] != _HTTPOXY)
    if head.host and not head.minor and not values_of(head.fields, b"host"):
        lines.append(b"Host: %s\r\n" % head.host)
    if head.upgrade:
        lines.append(_upgrade(head.upgrade))
    lines += forwarded, b"\r\n"
    return b"".join(lines)


def answer_bytes(head: AnswerHead, added: bytes) -> bytes:
    """The head as it goes to the client, with some lines of ours."""
    lines = [b"HTTP/1.1 ", head.reason, b"\r\n"]
    lines += _lines(each for each in head.fields if goes_on(each, head.connection))
    if head.status == 101:
        lines.append(_upgrade(head.upgrade))
    lines += added, b"\r\n"
    return b"".join(lines)


def _lines(fields: "Iterable[Field]") -> "List[bytes]":
    return [b"%s: %s\r\n" % (name, value) for _, name, value in fields]


def _upgrade(protocol: bytes) -> bytes:
    return b"Connection: Upgrade\r\nUpgrade: %s\r\n" % protocol


# What a raw head says, without reading all of it


def first_line(head: bytes) -> bytes:
    return head.partition(b"\r\n")[0]


def value_in(head: bytes, key: bytes) -> bytes:
    """Of the first field of that name, which is given in small letters; empty where there is
    none."""
    start = head.lower().find(b"\r\n%s:" % key)
    if start < 0:
        return b""
    start += len(key) + 3
    return head[start:head.index(b"\r", start)].strip(b" \t")


# Cookies: which instance a client belongs to


def cookie_name(process_id: str) -> bytes:
    """A browser has one set of cookies for all ports of a host, so each process has a name of its
    own."""
    return b"pupgevent-" + process_id.replace("@", "!").encode("ascii")


def cookie_in(head: bytes, name: bytes) -> str:
    """The value of that cookie in the head of a request; empty where there is none."""
    cookies, wanted = value_in(head, b"cookie"), name + b"="
    start = cookies.find(wanted)
    while start >= 0:
        before = start
        while before and cookies[before - 1] in b" \t":
            before -= 1
        if not before or cookies[before - 1] in b";":
            value = cookies[start + len(wanted):].partition(b";")[0]
            return value.rstrip(b" \t").decode("latin-1")
        start = cookies.find(wanted, start + 1)
    return ""


def cookie_line(name: bytes, value: str, secure: bool) -> bytes:
    """A line that sets it, until the browser is closed (RFC 6265bis)."""
    return b"Set-Cookie: %s=%s; Path=/; HttpOnly; SameSite=Lax%s\r\n" % (
        name, value.encode("ascii"), b"; Secure" if secure else b"")
