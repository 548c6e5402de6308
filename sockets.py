"""What is asked of sockets and descriptors, or set on them, for which Python has no method.

The kernel gives out the lowest free descriptor number, so a new descriptor's number tells how full
the table is. Clients stop at `client_ceiling()`, connections to instances at `upstream_ceiling()`;
what lies above is for restarting instances, logs and control.
"""

import _socket
import array
import errno
import fcntl
import resource
import struct
import termios
from typing import Any, Callable, Dict, Optional, Tuple

import gevent.socket

#: After how many quiet seconds the other side is asked whether it is still there, how many seconds
#: apart, and how often in vain until the connection is given up: two minutes in all, where the
#: system's own would be more than two hours (tcp(7)).
_KEEP_ALIVE = (
    (_socket.TCP_KEEPIDLE, 60),
    (_socket.TCP_KEEPINTVL, 15),
    (_socket.TCP_KEEPCNT, 4),
)


#: struct linger: on, no seconds.
_NO_LINGER = struct.pack("ii", 1, 0)

#: Descriptors that no client may take, and of these those that no connection to an instance may
#: take either: a restart of an instance needs about ten.
_RESERVE, _LAST_RESERVE = 128, 64

#: errno values that mean "not now, and nobody's fault but ours".
SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


#: Soft and hard, as of getrlimit(2).
Limits = Tuple[int, int]

#: The longest queue of connections not yet accepted, where the system does not say its own.
_BACKLOG = 4096

#: Where the kernel takes the ports of outgoing connections from.
_EPHEMERAL = "/proc/sys/net/ipv4/ip_local_port_range"

#: Seconds between two warnings of the same kind.
_WARN_EVERY = 60.0


def family_of(address: str) -> int:
    """Of that IP address: AF_INET6, or AF_INET."""
    return _socket.AF_INET6 if ":" in address else _socket.AF_INET


def reset_on_close(socket: Any) -> None:
    """End with a reset: neither side keeps its port in TIME_WAIT (socket(7), SO_LINGER)."""
    socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _NO_LINGER)


def resets_on_close(socket: Any) -> bool:
    """It was told so."""
    option = socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, len(_NO_LINGER))
    return bool(option == _NO_LINGER)


def keep_alive(socket: Any) -> None:
    """Find out when the other side is gone without a word."""
    socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE:
        socket.setsockopt(_socket.IPPROTO_TCP, option, value)


def unsent(fileno: int) -> int:
    """Bytes in the socket's send queue, not yet acknowledged (SIOCOUTQ, tcp(7))."""
    return _ask(fileno, termios.TIOCOUTQ)


def unread(fileno: int) -> int:
    """Bytes that have arrived at the socket and wait to be read."""
    return _ask(fileno, termios.FIONREAD)


def _ask(fileno: int, request: int) -> int:
    answer = array.array("i", [0])
    try:
        fcntl.ioctl(fileno, request, answer)
    except OSError:
        return 0
    return answer[0]


class WarningLimiter:
    """Tells a warning at most once a minute, however often its reason comes."""

    def __init__(self, warn: "Callable[[str], Any]", clock: "Callable[[], float]") -> None:
        self._warn = warn
        self._clock = clock
        # Has room for the first: memory may be what is warned of.
        self._warned_at: Dict[int, float] = {0: float("-inf")}

    def warn(self, text: str, kind: int = 0) -> None:
        """`kind` is what it is about, where one object warns of several things: an errno value."""
        now = self._clock()
        if now - self._warned_at.get(kind, float("-inf")) >= _WARN_EVERY:
            self._warned_at[kind] = now
            self._warn(text)


# File descriptors


def raise_limit() -> Limits:
    """Lift the soft limit of descriptors to the hard one; returns the two from before, for the
    children: whoever calls select(2) below a high limit pays for it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            pass
    return soft, hard


def client_ceiling() -> int:
    """The first descriptor number that is kept from clients."""
    return _less(_RESERVE, 4)


def upstream_ceiling() -> int:
    """The first that is kept from connections to instances, too. Above the other one, so that who
    was let in gets through."""
    return _less(_LAST_RESERVE, 8)


def few(most: int, part: int) -> int:
    """So many descriptors, or such a part of the limit where that is less."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return most if limit == resource.RLIM_INFINITY else max(1, min(most, limit // part))


def _less(reserve: int, part: int) -> int:
    """The limit without a reserve, which is at most such a part of it."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return 1 << 30
    return limit - min(reserve, limit // part)


# Does a port accept?


def listen(
    host: str, port: int, beside: "Optional[gevent.socket.socket]" = None
) -> "gevent.socket.socket":
    """A socket that listens there, for who accepts without blocking. OSError.

    `beside` is one of ours on the same port, at another address that overlaps with this one.
    """
    family = family_of(host)
    socket = gevent.socket.socket(family, gevent.socket.SOCK_STREAM)
    try:
        socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if beside is not None:
            for each in (beside, socket):
                each.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEPORT, 1)
        if family == gevent.socket.AF_INET6:
            # `::` takes IPv4 too, whatever net.ipv6.bindv6only says.
            socket.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 0)
        _inherited_options(socket)
        socket.bind((host, port))
        socket.listen(longest_backlog())
        socket.setblocking(False)
    except OSError:
        socket.close()
        raise
    return socket


def _inherited_options(socket: Any) -> None:
    """Set on the listener, these are inherited by what it accepts: no system call per client."""
    socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    keep_alive(socket)


def longest_backlog() -> int:
    """How many connections may wait to be accepted."""
    try:
        with open("/proc/sys/net/core/somaxconn") as file:
            return int(file.read())
    except (OSError, ValueError):
        return _BACKLOG


def tcp_check(host: str, port: int, timeout: float) -> bool:
    """True when something takes a connection there within `timeout` seconds.

    Blocks the calling greenlet only. Raises OSError when it was us who could not ask (no
    descriptors, no local ports): that says nothing about the other side. It leaves as a client
    does, not with a reset: Python's http.server prints a traceback for one, and a server of
    Node's `net` that handles no errors ends.
    """
    with gevent.socket.socket(family_of(host), gevent.socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout)
        try:
            probe.connect((host, port))
            return not is_self_connected(probe)
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM):
                raise
            return False


def is_self_connected(socket: "gevent.socket.socket") -> bool:
    """A connect to a port of one's own ephemeral range, where nobody listens, can draw that very
    port for its own end: TCP's simultaneous open then connects the socket with itself.

    Such a socket is to be closed, and is made to end with a reset then: the instance would find
    its port in TIME_WAIT otherwise.
    """
    try:
        is_it = bool(socket.getsockname() == socket.getpeername())
        if is_it:
            reset_on_close(socket)
        return is_it
    except OSError:
        # Connected, and reset in the meantime: that was somebody else.
        return False


def may_self_connect(port: int) -> bool:
    low, high = ephemeral_range()
    return low <= port <= high


def ephemeral_range() -> "Tuple[int, int]":
    """The first and the last ephemeral port of this machine."""
    try:
        with open(_EPHEMERAL) as file:
            low, high = file.read().split()
            return int(low), int(high)
    except (OSError, ValueError):
        return 32768, 60999
