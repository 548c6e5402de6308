"""What the balancer asks of a socket, or sets on one, for which Python has no method of its own."""

import _socket
import array
import fcntl
import struct
import termios
from typing import Any

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


def reset_on_close(socket: Any) -> None:
    """End with a reset: neither side keeps its port in TIME_WAIT (socket(7), SO_LINGER)."""
    socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _NO_LINGER)


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
