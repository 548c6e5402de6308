"""Moving bulk from socket to socket inside the kernel: splice(2) through a pipe.

No byte passes through Python, or through user space at all, which is what makes large answers
cheaper here than in a proxy that copies. Where the C library or the kernel has no splice,
no pipe is lent and the relay goes on with its buffer.
"""

import array
import ctypes
import errno
import fcntl
import os
from typing import Callable, List, Optional

from sockets import client_ceiling

#: linux/fcntl.h; `fcntl` names them only from Python 3.10.
_F_SETPIPE_SZ = 1031
_F_GETPIPE_SZ = 1032

#: asm-generic/sockios.h.
_SIOCATMARK = 0x8905

#: fcntl.h: move pages rather than copy them, and never wait for the pipe.
_MOVE_NONBLOCK = 1 | 2

#: What a pipe is asked to hold: the most a user without privileges may (pipe-max-size, pipe(7)).
#: One of 256 KB costs half as much CPU again per byte, one of 64 KB twice as much.
PIPE_BYTES = 1024 * 1024

#: A smaller one is not worth the detour: the kernel gives no more to a user who has his 64 MB of
#: pipes (pipe-user-pages-soft).
_LEAST_BYTES = 256 * 1024

#: Moved by one call at the most: a big transfer must not keep the others waiting.
CHUNK = 1024 * 1024

#: Pipes kept open for the next transfer; more are closed when they come back.
SPARE_PIPES = 16

#: Pipes in use at once. Each is two descriptors and up to PIPE_BYTES of kernel memory; together
#: they leave a user a quarter of his 64 MB, for the output of his children. Who finds none left
#: goes on through the buffer.
MOST_PIPES = 48

#: Seconds until more pipes are asked for when the system had no more.
_SHORTAGE = 60.0


def _from_os() -> "Optional[Callable[[int, int, int], int]]":
    if not hasattr(os, "splice"):
        return None
    splice = os.splice

    def move(source: int, sink: int, count: int) -> int:
        return splice(source, sink, count, None, None, _MOVE_NONBLOCK)

    return move


def _from_libc() -> "Optional[Callable[[int, int, int], int]]":
    """For Python before 3.10, which has no `os.splice`."""
    try:
        call = ctypes.CDLL(None, use_errno=True).splice
    except (OSError, AttributeError):
        return None
    call.restype = ctypes.c_ssize_t
    call.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p,
        ctypes.c_size_t, ctypes.c_uint,
    ]  # fmt: skip

    def move(source: int, sink: int, count: int) -> int:
        moved = call(source, None, sink, None, count, _MOVE_NONBLOCK)
        if moved < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return int(moved)

    return move


def _nowhere(source: int, sink: int, count: int) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


#: `splice(source, sink, count) -> bytes moved`; raises BlockingIOError where it would have to wait
#: and OSError otherwise.
splice = _from_os() or _from_libc() or _nowhere


def at_urgent_byte(fileno: int) -> bool:
    """Whether an urgent byte is the next in this socket's stream: splice does not step over it and
    says EAGAIN, while recv leaves it out and goes on (tcp(7), SIOCATMARK)."""
    answer = array.array("i", [0])
    fcntl.ioctl(fileno, _SIOCATMARK, answer)
    return bool(answer[0])


class Pipe:
    """A kernel buffer between two sockets, with `held` bytes in it. One transfer owns it."""

    __slots__ = ("held", "reader", "writer")

    def __init__(self) -> None:
        """Raises OSError when there is no room for one: descriptors, or the kernel's memory."""
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.held = 0
        try:
            fcntl.fcntl(self.writer, _F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            # Over this user's budget; what the pipe has without it may still do.
            pass
        size = fcntl.fcntl(self.writer, _F_GETPIPE_SZ)
        if size < _LEAST_BYTES or self.writer >= client_ceiling():
            self.close()
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


class Pipes:
    """The pipes of the process, lent and given back."""

    def __init__(self, clock: "Callable[[], float]") -> None:
        self._clock = clock
        self._spare: List[Pipe] = []
        self._lent = 0
        self._most = MOST_PIPES
        self._short_until = 0.0
        self._refused = False

    def borrow(self) -> "Optional[Pipe]":
        """An empty pipe, or None when splicing is not possible (any more) or too much is lent."""
        if self._refused or (self._lent >= self._most and not self._shortage_is_over()):
            return None
        try:
            pipe = self._spare.pop() if self._spare else Pipe()
        except OSError:
            # No more than there are: asking anew for every buffer of bulk would cost too much.
            self._most = self._lent
            self._short_until = self._clock() + _SHORTAGE
            return None
        self._lent += 1
        return pipe

    def _shortage_is_over(self) -> bool:
        if self._most == MOST_PIPES or self._clock() < self._short_until:
            return False
        self._most = MOST_PIPES
        return self._lent < self._most

    def give_back(self, pipe: Pipe) -> None:
        """Take a pipe back; one that still holds bytes of a broken transfer is thrown away."""
        self._lent -= 1
        if pipe.held or len(self._spare) >= SPARE_PIPES:
            pipe.close()
            return
        try:
            self._spare.append(pipe)
        except MemoryError:
            pipe.close()

    def refuse(self) -> None:
        """The kernel cannot splice these sockets (EINVAL, ENOSYS): do not ask again."""
        self._refused = True

    def close(self) -> None:
        """Close the spare ones; idempotent."""
        while self._spare:
            self._spare.pop().close()
