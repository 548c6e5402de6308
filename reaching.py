"""Does a port accept? Asked by whoever waits for an instance, never on the way of a client."""

import errno
from typing import Tuple

import gevent.socket

from sockets import reset_on_close

#: Where the kernel takes the ports of outgoing connections from.
_EPHEMERAL = "/proc/sys/net/ipv4/ip_local_port_range"


def accepts(host: str, port: int, timeout: float) -> bool:
    """True when something takes a connection there within `timeout` seconds.

    Blocks the calling greenlet only. Raises OSError when it was us who could not ask (no
    descriptors, no local ports): that says nothing about the other side. It leaves as a client
    does, not with a reset: Python's http.server prints a traceback for one, and a server of
    Node's `net` that handles no errors ends.
    """
    family = gevent.socket.AF_INET6 if ":" in host else gevent.socket.AF_INET
    with gevent.socket.socket(family, gevent.socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout)
        try:
            probe.connect((host, port))
            return not met_itself(probe)
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM):
                raise
            return False


def met_itself(socket: "gevent.socket.socket") -> bool:
    """A connect to a port of one's own ephemeral range, where nobody listens, can draw that very
    port for its own end: TCP's simultaneous open then connects the socket with itself.

    Such a socket is to be closed, and is made to end with a reset then: the instance would find
    its port in TIME_WAIT otherwise.
    """
    try:
        met = bool(socket.getsockname() == socket.getpeername())
        if met:
            reset_on_close(socket)
        return met
    except OSError:
        # Connected, and reset in the meantime: that was somebody else.
        return False


def can_meet_itself(port: int) -> bool:
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
