"""The PROXY protocol: who a connection comes from, said before its first byte. Pure.

Both versions of HAProxy's proxy-protocol.txt: a line of text (1), and a binary header with room for
more, TLS among it (2). Whoever reads one here knows already that its sender is to be believed.
"""

import re
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Iterator, List, NamedTuple, Optional, Tuple, Union

_Address = Union[IPv4Address, IPv6Address]

#: What version 2 begins with, and version 1.
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_WORD = b"PROXY "

#: Bytes of a line at most, by the protocol; and of a binary header: NGINX takes as much.
_LONGEST_LINE = 107
MOST_BYTES = 4096

#: Of version 2: signature, version and command, family and transport, bytes that follow.
_START = struct.Struct("!12sBBH")
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
#: Source, destination, and their ports.
_ADDRESSES = {_TCP4: struct.Struct("!4s4sHH"), _TCP6: struct.Struct("!16s16sHH")}
#: Room behind the addresses.
_MOST_EXTRAS = MOST_BYTES - _START.size - _ADDRESSES[_TCP6].size
#: Valid families (unspecified, IPv4, IPv6, Unix) and transports (unspecified, stream, datagram).
_FAMILIES, _TRANSPORTS = range(4), range(3)

#: Types of what may follow the addresses.
_ALPN, _AUTHORITY, _CRC32C, _NOOP, _SSL = 0x01, 0x02, 0x03, 0x04, 0x20
#: Those that come from a TLS handshake.
_OF_TLS = frozenset((_ALPN, _AUTHORITY, _SSL))
#: Types within a value of _SSL.
_VERSION, _COMMON_NAME, _CIPHER = 0x21, 0x22, 0x23
#: Flags of it: the client speaks TLS (PP2_CLIENT_SSL), has shown a certificate on this connection
#: (PP2_CLIENT_CERT_CONN), and in its TLS session (PP2_CLIENT_CERT_SESS).
_SPEAKS_TLS, _SHOWN_NOW, _SHOWN = 0x01, 0x02, 0x04
#: Bytes of a name at most: a longer one would be left out. A part of it could be another's.
_LONGEST_NAME = 255

_OCTET = rb"(?:0|[1-9][0-9]{0,2})"
_V4 = _OCTET + rb"(?:\." + _OCTET + rb"){3}"
_V6 = rb"(?=[^ ]*:)[0-9A-Fa-f:.]{2,45}"
_PORT = rb"(0|[1-9][0-9]{0,4})"
_TCP4_LINE = re.compile(rb"PROXY TCP4 (%s) (%s) %s %s\r\n" % (_V4, _V4, _PORT, _PORT))
_TCP6_LINE = re.compile(rb"PROXY TCP6 (%s) (%s) %s %s\r\n" % (_V6, _V6, _PORT, _PORT))
_UNKNOWN_LINE = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")


class Malformed(Exception):
    """It begins like a header and is none."""


class NoHeader(Malformed):
    """It does not even begin like one."""


class Announced(NamedTuple):
    """The two ends of a connection, as they are where the client is."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    #: What version 2 had besides, to go on as it is (type, length, value).
    extras: bytes = b""
    #: The client speaks TLS, which has ended before here.
    is_tls: bool = False


class Header(NamedTuple):
    """One that was read: its length, and what it says; None: nothing of any client, since the proxy
    speaks for itself (a health check) or does not know."""

    size: int
    announced: Optional[Announced]


# Reading


def read_header(data: bytes) -> "Optional[Header]":
    """The header that `data` begins with; None: it has not come as a whole. Malformed."""
    if data[:len(_SIGNATURE)] == _SIGNATURE[:len(data)]:
        return _read_binary(data)
    if data[:len(_WORD)] == _WORD[:len(data)]:
        return _read_line(data)
    raise NoHeader("no header")


def _read_line(data: bytes) -> "Optional[Header]":
    end = data.find(b"\n", 0, _LONGEST_LINE)
    if end < 0:
        if len(data) >= _LONGEST_LINE:
            raise Malformed("a line without an end")
        return None
    line = data[:end + 1]
    if _UNKNOWN_LINE.fullmatch(line):
        return Header(len(line), None)
    found = _TCP4_LINE.fullmatch(line) or _TCP6_LINE.fullmatch(line)
    if not found:
        raise Malformed("a line that is none of the protocol's")
    source, destination, source_port, destination_port = (
        each.decode() for each in found.groups())
    if max(int(source_port), int(destination_port)) > 65535:
        raise Malformed("a port beyond 65535")
    try:
        return Header(len(line), Announced(
            _text(ip_address(source)), int(source_port),
            _text(ip_address(destination)), int(destination_port)))
    except ValueError:
        raise Malformed("an address that is none") from None


def _read_binary(data: bytes) -> "Optional[Header]":
    if len(data) < _START.size:
        return None
    _, command, kind, length = _START.unpack_from(data)
    if command not in (_LOCAL, _PROXY):
        raise Malformed("version and command 0x%02x" % command)
    if kind >> 4 not in _FAMILIES or kind & 15 not in _TRANSPORTS:
        raise Malformed("family and transport 0x%02x" % kind)
    size = _START.size + length
    if size > MOST_BYTES:
        raise Malformed("it is too long")
    if len(data) < size:
        return None
    if command == _LOCAL or kind not in _ADDRESSES:
        return Header(size, None)
    addresses = _ADDRESSES[kind]
    if length < addresses.size:
        raise Malformed("too short for its addresses")
    source, destination, *ports = addresses.unpack_from(data, _START.size)
    extras = _read_extras(data[:size], _START.size + addresses.size)
    return Header(size, Announced(
        _text(ip_address(source)), ports[0], _text(ip_address(destination)), ports[1], *extras))


def _read_extras(header: bytes, begin: int) -> "Tuple[bytes, bool]":
    """What goes on of what is behind the addresses, and whether the client speaks TLS. A checksum
    is of this header alone, and padding of nothing."""
    kept: List[bytes] = []
    is_tls = False
    for kind, at, end in _fields(header, begin):
        if kind == _CRC32C:
            if end - at != 4 or _checksum(header, at) != int.from_bytes(header[at:end], "big"):
                raise Malformed("a wrong checksum")
        elif kind != _NOOP:
            kept.append(header[at - 3:end])
            is_tls = is_tls or (kind == _SSL and end > at and bool(header[at] & _SPEAKS_TLS))
    return b"".join(kept), is_tls


def _fields(header: bytes, at: int) -> "Iterator[Tuple[int, int, int]]":
    """Type, begin and end of each value."""
    while at < len(header):
        end = at + 3 + int.from_bytes(header[at + 1:at + 3], "big")
        if at + 3 > len(header) or end > len(header):
            raise Malformed("a field that reaches beyond its end")
        yield header[at], at + 3, end
        at = end


def _text(address: "_Address") -> str:
    """As accept(2) has it, which writes IPv4 within IPv6 with its dots."""
    mapped = getattr(address, "ipv4_mapped", None)
    return "::ffff:%s" % mapped if mapped else str(address)


def _checksum(header: bytes, at: int) -> int:
    """CRC32c of a header whose four bytes `at` are zeros for that (RFC 4960, appendix B)."""
    value = 0xFFFFFFFF
    for byte in header[:at] + bytes(4) + header[at + 4:]:
        value = _CRC_TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


def _crc_entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


_CRC_TABLE = tuple(map(_crc_entry, range(256)))


# Writing


def tls_fields(
    version: str, cipher: str, server_name: str = "", alpn: str = "",
    client_name: Optional[str] = None, is_resumed: bool = False,
) -> bytes:
    """What version 2 tells of a client whose TLS has ended here.

    `version` is "TLSv1.2" or "TLSv1.3", `cipher` OpenSSL's name of it; what is empty is left out.
    `client_name` is the CN of the certificate that it has shown, and that was verified; None: it
    has shown none. In a session that is resumed it was shown before.
    """
    flags = _SPEAKS_TLS
    if client_name is not None:
        flags |= _SHOWN if is_resumed else _SHOWN | _SHOWN_NOW
    # Of a client without a certificate none was verified, which is not 0.
    value = struct.pack("!BI", flags, client_name is None)
    value += _field(_VERSION, version) + _field(_COMMON_NAME, client_name or "")
    value += _field(_CIPHER, cipher)
    ssl = bytes([_SSL]) + struct.pack("!H", len(value)) + value
    return _field(_ALPN, alpn) + _field(_AUTHORITY, server_name) + ssl


def _field(kind: int, text: str) -> bytes:
    value = text.encode("utf-8", "replace")
    if not 0 < len(value) <= _LONGEST_NAME:
        return b""
    return struct.pack("!BH", kind, len(value)) + value


def with_tls(ends: Announced, fields: bytes) -> Announced:
    """The same of a client whose TLS has ended here: `fields` (see `tls_fields`) are of the last
    handshake, so they replace what a proxy in front has said of another one."""
    kept = [ends.extras[at - 3:end] for kind, at, end in _fields(ends.extras, 0)
            if kind not in _OF_TLS]
    if len(fields) + sum(map(len, kept)) > _MOST_EXTRAS:
        kept = []
    return ends._replace(extras=b"".join(kept) + fields, is_tls=True)


def header_bytes(version: str, ends: "Optional[Announced]") -> bytes:
    """The header in that version, "v1" or "v2"; None: nobody knows the two ends."""
    pair = None if ends is None else _same_family(ends)
    if ends is None or pair is None:
        return _local(_PROXY) if version == "v2" else b"PROXY UNKNOWN\r\n"
    source, destination = pair
    if version == "v2":
        kind = _TCP4 if source.version == 4 else _TCP6
        block = _ADDRESSES[kind].pack(
            source.packed, destination.packed, ends.source_port, ends.destination_port)
        block += ends.extras
        return _START.pack(_SIGNATURE, _PROXY, kind, len(block)) + block
    return b"PROXY TCP%d %s %s %d %d\r\n" % (
        4 if source.version == 4 else 6, _text(source).encode(), _text(destination).encode(),
        ends.source_port, ends.destination_port)


def own_header(version: str, ends: Announced) -> bytes:
    """For a connection of our own, on behalf of nobody: a health check. Version 1 has no word for
    that, and some who read it refuse to be told of nobody."""
    return _local(_LOCAL) if version == "v2" else header_bytes(version, ends)


def _local(command: int) -> bytes:
    return _START.pack(_SIGNATURE, command, 0, 0)


def _same_family(ends: Announced) -> "Optional[Tuple[_Address, _Address]]":
    """Both as IPv4 where they are, also within IPv6; else both as IPv6."""
    try:
        pair = [_shortest(each) for each in (ends.source, ends.destination)]
    except ValueError:
        return None
    if {each.version for each in pair} == {4, 6}:
        pair = [each if isinstance(each, IPv6Address) else IPv6Address("::ffff:%s" % each)
                for each in pair]
    return pair[0], pair[1]


def _shortest(text: str) -> "_Address":
    address = ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
