"""Headers of the PROXY protocol, read and written: proxy-protocol.txt, rule by rule."""

import struct
from typing import List, Optional, Tuple

import pytest
from hypothesis import given, strategies as st

from proxy_protocol import (
    MOST_BYTES,
    Announced,
    Header,
    Malformed,
    NoHeader,
    header_bytes,
    own_header,
    read_header,
    tls_fields,
    with_tls,
)

SIGNATURE = bytes.fromhex("0D0A0D0A000D0A515549540A")
V4 = Announced("192.0.2.1", 56324, "198.51.100.7", 443)
V6 = Announced("2001:db8::1", 1, "2001:db8::2", 65535)
V4_BLOCK = bytes([192, 0, 2, 1, 198, 51, 100, 7]) + struct.pack("!HH", 56324, 443)


def binary(command: int, kind: int, block: bytes) -> bytes:
    return SIGNATURE + bytes([command, kind]) + struct.pack("!H", len(block)) + block


def field(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + struct.pack("!H", len(value)) + value


#: An SSL field of a client that speaks TLS 1.3: the flag, "verified", and its version.
SSL = field(0x20, b"\x01" + bytes(4) + field(0x21, b"TLSv1.3"))

GOOD: "List[Tuple[bytes, Optional[Announced]]]" = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", V4),
    (b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
     Announced("0.0.0.0", 0, "255.255.255.255", 65535)),
    (b"PROXY TCP6 2001:db8::1 2001:DB8:0:0:0:0:0:2 1 65535\r\n", V6),
    (b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
     b" ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
     Announced("ffff" + 7 * ":ffff", 65535, "ffff" + 7 * ":ffff", 65535)),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", Announced("::ffff:192.0.2.1", 1, "::1", 2)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN whatever it is, 1 2\r\n", None),
    (b"PROXY UNKNOWN " + 91 * b"x" + b"\r\n", None),
    (binary(0x21, 0x11, V4_BLOCK), V4),
    (binary(0x21, 0x21, bytes.fromhex("20010db8" + 11 * "00" + "01" + "20010db8" + 11 * "00" + "02")
            + struct.pack("!HH", 1, 65535)), V6),
    (binary(0x21, 0x11, V4_BLOCK + field(0x04, b"padding")), V4),
    (binary(0x21, 0x11, V4_BLOCK + SSL), V4._replace(extras=SSL, is_tls=True)),
    (binary(0x21, 0x11, V4_BLOCK + field(0x20, b"\0" + bytes(4))),
     V4._replace(extras=field(0x20, b"\0" + bytes(4)))),
    (binary(0x21, 0x11,
            V4_BLOCK + field(0x02, b"example.org") + field(0x04, b"") + field(0xE0, b"")),
     V4._replace(extras=field(0x02, b"example.org") + field(0xE0, b""))),
    (binary(0x20, 0x00, b""), None),
    (binary(0x20, 0x11, V4_BLOCK), None),
    (binary(0x20, 0x00, b"\xff\xff anything"), None),
    (binary(0x21, 0x00, b""), None),
    (binary(0x21, 0x00, b"something"), None),
    (binary(0x21, 0x12, V4_BLOCK), None),
    (binary(0x21, 0x31, bytes(216)), None),
    (binary(0x20, 0x00, bytes(MOST_BYTES - 16)), None),
]

BAD = [
    b"PROXY \r\n", b"PROXY TCP4\r\n", b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
    b"PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
    b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", b"PROXY TCP4\t1.2.3.4 1.2.3.4 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 123456\r\n",
    b"PROXY TCP4 256.2.3.4 1.2.3.4 1 2\r\n", b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
    b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", b"PROXY TCP4 1.2.3.4.5 1.2.3.4 1 2\r\n",
    b"PROXY TCP4 ::1 ::1 1 2\r\n", b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
    b"PROXY TCP6 ::1::2 ::1 1 2\r\n", b"PROXY TCP6 ::g ::1 1 2\r\n",
    b"PROXY TCP6 fe80::1%1 ::1 1 2\r\n",
    b"PROXY TCP4 \xc2\xb2.2.3.4 1.2.3.4 1 2\r\n", b"PROXY TCP4 a b 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\r\n",
    b"PROXY UNKNOWNX\r\n", b"PROXY UNKNOWN a\rb\r\n", b"PROXY UNKNOWN a\nb\r\n",
    b"PROXY UNKNOWN " + 92 * b"x" + b"\r\n", b"PROXY " + 200 * b"x",
    binary(0x11, 0x11, V4_BLOCK), binary(0x31, 0x11, V4_BLOCK), binary(0x01, 0x11, V4_BLOCK),
    binary(0x22, 0x11, V4_BLOCK), binary(0x2F, 0x11, V4_BLOCK), binary(0x21, 0x41, V4_BLOCK),
    binary(0x21, 0x13, V4_BLOCK), binary(0x21, 0xFF, V4_BLOCK), binary(0x20, 0x40, b""),
    binary(0x21, 0x11, V4_BLOCK[:-1]), binary(0x21, 0x11, b""), binary(0x21, 0x21, V4_BLOCK),
    binary(0x21, 0x11, V4_BLOCK + b"\x02"), binary(0x21, 0x11, V4_BLOCK + b"\x02\0"),
    binary(0x21, 0x11, V4_BLOCK + b"\x02\0\x05abcd"),
    binary(0x21, 0x11, V4_BLOCK + field(0x03, bytes(4))),
    binary(0x21, 0x11, V4_BLOCK + field(0x03, bytes(3))),
    SIGNATURE + b"\x21\x11\xff\xff", SIGNATURE + b"\x20\x00" + struct.pack("!H", MOST_BYTES - 15),
]  # fmt: skip

#: What other protocols begin with.
OTHERS = [b"GET / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
          b"PROXY\r\n", b"PROXYTCP4", b"P\r\n", b"\0", b"proxy TCP4",
          b"\r\n\r\nGET", b"\x16\x03\x01", b"\xff" * 20, b"\r\n\r\n\0\r\nQUIT\r"]


@pytest.mark.parametrize(("data", "announced"), GOOD)
def test_a_valid_header_is_read_up_to_its_end(
    data: bytes, announced: Optional[Announced]
) -> None:
    assert read_header(data) == Header(len(data), announced)
    assert read_header(data + b"PROXY \r\n\0") == Header(len(data), announced)


@pytest.mark.parametrize(("data", "announced"), GOOD)
def test_a_part_of_a_header_is_waited_on(data: bytes, announced: Optional[Announced]) -> None:
    assert [read_header(data[:size]) for size in range(len(data))] == [None] * len(data)


@pytest.mark.parametrize("data", BAD)
def test_what_breaks_the_rules_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        read_header(data)
    assert not isinstance(caught.value, NoHeader)
    assert str(caught.value)


@pytest.mark.parametrize("data", OTHERS)
def test_what_begins_otherwise_is_no_header(data: bytes) -> None:
    with pytest.raises(NoHeader):
        read_header(data)


def test_a_checksum_is_verified() -> None:
    """As HAProxy adds it with `proxy-v2-options crc32c`, which test_proxy_peers.py has, too."""
    sent = bytes.fromhex(
        "0d0a0d0a000d0a515549540a21110013" "7f0000017f000001" "c3500050" "030004") + bytes(4)
    assert checksum(b"123456789") == 0xE3069283  # as catalogues of CRCs have it
    data = sent[:-4] + struct.pack("!I", checksum(sent))
    assert read_header(data) == Header(
        len(data), Announced("127.0.0.1", 50000, "127.0.0.1", 80))
    for place in {*range(16, len(data))} - {28}:  # there is the type: it would be another field
        broken = bytearray(data)
        broken[place] ^= 1
        with pytest.raises(Malformed):
            read_header(bytes(broken))


def checksum(data: bytes) -> int:
    """Bit by bit, from the polynomial as it is written: 0x1EDC6F41, reflected."""
    value = 0xFFFFFFFF
    for byte in data:
        for bit in range(8):
            feedback = (value ^ byte >> bit) & 1
            value >>= 1
            if feedback:
                value ^= int(f"{0x1EDC6F41:032b}"[::-1], 2)
    return value ^ 0xFFFFFFFF


@pytest.mark.parametrize(("ends", "line"), [
    (V4, b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"),
    (V6, b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n"),
    (Announced("::ffff:192.0.2.1", 1, "::ffff:10.0.0.1", 2),
     b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n"),
    (Announced("192.0.2.1", 1, "::1", 2), b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n"),
    (Announced("fe80::1%eth0", 1, "fe80::2%3", 2), b"PROXY TCP6 fe80::1 fe80::2 1 2\r\n"),
    (Announced("", 0, "", 0), b"PROXY UNKNOWN\r\n"),
    (None, b"PROXY UNKNOWN\r\n"),
])  # fmt: skip
def test_version_1_says_both_ends_in_one_family(ends: Optional[Announced], line: bytes) -> None:
    assert header_bytes("v1", ends) == line
    assert len(line) <= 107


def test_version_2_has_both_ends_and_what_came_besides() -> None:
    assert header_bytes("v2", V4._replace(extras=SSL)) == binary(0x21, 0x11, V4_BLOCK + SSL)
    assert header_bytes("v2", None) == binary(0x21, 0x00, b"")


def test_a_connection_of_our_own_is_announced_as_nobodys() -> None:
    assert own_header("v1", V4) == header_bytes("v1", V4)
    assert own_header("v2", V4) == binary(0x20, 0x00, b"")


# What TLS that has ended here adds


VERSION, CIPHER = field(0x21, b"TLSv1.3"), field(0x23, b"TLS_AES_256_GCM_SHA384")
WORDS = ("TLSv1.3", "TLS_AES_256_GCM_SHA384")


@pytest.mark.parametrize(("fields", "expected"), [
    # The client speaks TLS; it has shown no certificate, so none was verified.
    (tls_fields(*WORDS), field(0x20, b"\x01" + b"\0\0\0\x01" + VERSION + CIPHER)),
    (tls_fields(*WORDS, server_name="example.org", alpn="h2"),
     field(0x01, b"h2") + field(0x02, b"example.org")
     + field(0x20, b"\x01" + b"\0\0\0\x01" + VERSION + CIPHER)),
    # One was shown here, or when its session began, and is verified.
    (tls_fields(*WORDS, client_name="J\u00f6rg"),
     field(0x20, b"\x07" + bytes(4) + VERSION + field(0x22, b"J\xc3\xb6rg") + CIPHER)),
    (tls_fields(*WORDS, client_name="me", is_resumed=True),
     field(0x20, b"\x05" + bytes(4) + VERSION + field(0x22, b"me") + CIPHER)),
    # It has no name, or one of which a part could be another's.
    (tls_fields(*WORDS, client_name=""), field(0x20, b"\x07" + bytes(4) + VERSION + CIPHER)),
    (tls_fields(*WORDS, client_name="x" * 256),
     field(0x20, b"\x07" + bytes(4) + VERSION + CIPHER)),
])  # fmt: skip
def test_tls_that_has_ended_here_is_told_in_version_2(fields: bytes, expected: bytes) -> None:
    assert fields == expected
    data = header_bytes("v2", with_tls(V4, fields))
    assert data == binary(0x21, 0x11, V4_BLOCK + expected)
    assert read_header(data) == Header(len(data), V4._replace(extras=expected, is_tls=True))


def test_version_1_has_no_words_for_tls() -> None:
    assert header_bytes("v1", with_tls(V4, tls_fields(*WORDS))) == header_bytes("v1", V4)


def test_what_a_proxy_has_said_of_another_handshake_is_replaced() -> None:
    """And nothing else of what it has said."""
    unique, own = field(0x05, b"1234"), field(0xE0, b"")
    said = field(0x01, b"h2") + unique + field(0x02, b"other.example") + SSL + own
    fields = tls_fields(*WORDS)
    assert with_tls(V4._replace(extras=said, is_tls=True), fields) == V4._replace(
        extras=unique + own + fields, is_tls=True)


def test_a_header_is_never_longer_than_readers_take() -> None:
    fields = tls_fields(*WORDS, server_name="a" * 255, alpn="b" * 255, client_name="c" * 255)
    room = MOST_BYTES - 16 - 36 - len(fields) - 3
    for size, kept in ((room, True), (room + 1, False)):
        said = field(0xE0, bytes(size))
        data = header_bytes("v2", with_tls(V6._replace(extras=said), fields))
        assert len(data) <= MOST_BYTES and (said in data) is kept and fields in data
        assert read_header(data) is not None


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
numbers = st.integers(0, 65535)


@given(st.sampled_from(["v1", "v2"]), addresses, numbers, addresses, numbers)
def test_what_is_written_can_be_read(
    version: str, source: str, source_port: int, destination: str, destination_port: int
) -> None:
    data = header_bytes(version, Announced(source, source_port, destination, destination_port))
    header = read_header(data)
    assert header is not None and header.announced is not None
    assert header.size == len(data)
    assert header_bytes(version, header.announced) == data
    assert (header.announced.source_port, header.announced.destination_port) == (
        source_port, destination_port)


@given(st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=60).map(lambda rest: b"PROXY " + rest),
    st.binary(max_size=300).map(lambda rest: SIGNATURE + rest),
    st.binary(max_size=300).map(lambda rest: binary(0x21, 0x11, V4_BLOCK + rest))))
def test_garbage_is_refused_or_waited_on(data: bytes) -> None:
    try:
        header = read_header(data)
    except Malformed:
        return
    assert header is None or 15 <= header.size <= len(data)
