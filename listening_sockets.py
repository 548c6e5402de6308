"""Which TCP sockets of this machine listen, and where: asked of sock_diag(7), else /proc/net/tcp.

Both block, and are for a thread. sock_diag walks the sockets that listen and no others, whatever
number of connections is open: 0.1 ms for one port, 1 ms for a thousand. Where it may not be asked
(a kernel without it, a unit with RestrictAddressFamilies), /proc/net/tcp tells those that listen
first, and the rest of it is not read.
"""

import functools
import socket
import struct
from typing import Iterable, Iterator, List, NamedTuple, Tuple

#: linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h, net/tcp_states.h.
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_NLM_F_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_INET_DIAG_SKV6ONLY = 11
_LISTEN = 10

#: struct nlmsghdr; struct inet_diag_req_v2 up to the ports; the length of struct inet_diag_msg.
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI")
_MESSAGE_BYTES = 72

#: More than the kernel puts into one answer. Bytes.
_ANSWER_BYTES = 1 << 17

#: Seconds; the kernel answers at once.
_TIMEOUT = 2.0

#: In /proc/net/tcp: listening, and (up to Linux 4.3 among these) a connection that is being made.
_FIRST_STATES = ("0A", "03")

_V4_IN_V6 = "::ffff:"


class ListeningSocket(NamedTuple):
    """A socket that listens."""

    host: str
    port: int
    inode: int
    uid: int
    #: Bound to `::`, it takes no IPv4. False also where only /proc was there to be asked.
    v6only: bool

    @property
    def address(self) -> str:
        return host_and_port(self.host, self.port)


def host_and_port(host: str, port: int) -> str:
    """As in an address of the web: "127.0.0.1:8000", "[::1]:8000"."""
    return ("[%s]:%d" if ":" in host else "%s:%d") % (host, port)


def listeners(port: int = 0) -> List[ListeningSocket]:
    """All that listen, or those on one port; none where nothing can be known."""
    try:
        found = [each for family in (socket.AF_INET, socket.AF_INET6)
                 for each in _from_kernel(family, port)]
    except (OSError, struct.error):
        found = list(_from_files())
    return [each for each in found if port in (0, each.port)]


def accepting_at(found: Iterable[ListeningSocket], host: str, port: int) -> List[ListeningSocket]:
    """The sockets among them that get the connections to that address.

    Several share it by SO_REUSEPORT. Empty: none is known; so it is for an address of another
    machine, too, whoever listens on all addresses of this one.
    """
    address = _reached(host)
    there = [each for each in found if each.port == port]
    exact = [each for each in there if each.host == address]
    if exact or not is_local(address):
        return exact
    six = [each for each in there if each.host == "::"]
    if ":" in address:
        return six
    four = [each for each in there if each.host == "0.0.0.0"]
    return four or [each for each in six if not each.v6only]


def overlap(bound: str, host: str) -> bool:
    """Does a socket bound to the first address keep others from binding the second, on one port?"""
    if "::" in (bound, host) or bound == host:
        return True
    return ":" not in bound + host and "0.0.0.0" in (bound, host)


def is_local(host: str) -> bool:
    """Is it an address of this machine?"""
    if host.startswith("127.") or host == "::1":
        return True
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


@functools.lru_cache(maxsize=1024)
def _reached(host: str) -> str:
    """Where a connect to that address gets, in the form in which the kernel tells it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        plain = _plain(family, socket.inet_pton(family, host))
    except OSError:
        return host
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(plain, plain)


def _plain(family: int, data: bytes) -> str:
    text = socket.inet_ntop(family, data)
    return text[len(_V4_IN_V6):] if text.startswith(_V4_IN_V6) and "." in text else text


def _from_kernel(family: int, port: int) -> Iterator[ListeningSocket]:
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << _LISTEN)
    request += struct.pack("!H", port) + bytes(46)
    length = _HEADER.size + len(request)
    header = _HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_TIMEOUT)
        kernel.send(header + request)
        while True:
            for kind, body in _messages(kernel.recv(_ANSWER_BYTES)):
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    raise OSError(-struct.unpack_from("=i", body)[0], "sock_diag")
                yield _listening(body)


def _messages(data: bytes) -> Iterator[Tuple[int, bytes]]:
    at = 0
    while at < len(data):
        length, kind = _HEADER.unpack_from(data, at)[:2]
        if length < _HEADER.size:
            raise OSError("a garbled answer")
        yield kind, data[at + _HEADER.size:at + length]
        at += _padded(length)


def _listening(body: bytes) -> ListeningSocket:
    family = body[0]
    port, = struct.unpack_from("!H", body, 4)
    uid, inode = struct.unpack_from("=II", body, 64)
    host = _plain(family, body[8:12] if family == socket.AF_INET else body[8:24])
    return ListeningSocket(host, port, inode, uid, _is_v6only(body))


def _is_v6only(body: bytes) -> bool:
    at = _MESSAGE_BYTES
    while at + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, at)
        if kind == _INET_DIAG_SKV6ONLY:
            return bool(body[at + 4])
        at += max(4, _padded(length))
    return False


def _padded(length: int) -> int:
    return (length + 3) & ~3


def _from_files() -> Iterator[ListeningSocket]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as lines:
                next(lines, None)
                for line in lines:
                    fields = line.split()
                    if fields[3] not in _FIRST_STATES:
                        break
                    if fields[3] == _FIRST_STATES[0]:
                        host, port = address_of(fields[1])
                        yield ListeningSocket(host, port, int(fields[9]), int(fields[7]), False)
        except OSError:
            continue  # no IPv6, or no /proc


def address_of(text: str) -> Tuple[str, int]:
    """Of a socket, as /proc/net/tcp has it: each four bytes a number of this machine's order."""
    address, port = text.split(":")
    words = [int(address[at:at + 8], 16) for at in range(0, len(address), 8)]
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return _plain(family, struct.pack("=%dI" % len(words), *words)), int(port, 16)
