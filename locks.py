"""Files of which one process at a time is the holder.

A lock is a file that is locked (flock(2)) for as long as its holder lives: the kernel unlocks it
however that one ends, so what an ended one has left behind is told from what is in use without
asking anybody, and of two that start at the same time one wins. It says who holds it, where that
one can be asked, and which configuration file it runs.
"""

import errno
import fcntl
import os
import time
from typing import NamedTuple, Optional

import folders
from errors import PupgeventError

#: Seconds for another who has just got the lock to write its pid.
PID_TIMEOUT = 1.0

#: Seconds from one look at a lock to the next.
_PAUSE = 0.05

#: errno values of a lock that another one has (flock(2)).
_HELD = (errno.EWOULDBLOCK, errno.EACCES)

#: Most bytes that a lock's file holds.
_MOST = 8192


#: Most digits of a pid (proc(5), pid_max).
_DIGITS = 7


class Unusable(PupgeventError):
    """Nothing can be put there."""


class Holder(NamedTuple):
    """What a lock tells of whoever holds it, or has held it last; None: nothing of that."""

    pid: Optional[int] = None
    #: Path of a socket.
    address: Optional[str] = None
    #: Path of a configuration file, as it was given.
    config: Optional[str] = None


class Held(Exception):
    """Another process has the lock."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(holder)
        self.holder = holder


class Lock:
    """Held from the start on; raises Held, Unusable or OSError. `config` is what it is held for."""

    def __init__(self, path: str, config: str = "") -> None:
        self.path = path
        self._config = config
        self._descriptor = _open(path)
        self._folder = _keep(os.path.dirname(path))
        self.tell("")

    def tell(self, address: str) -> None:
        """Where the holder can be asked. On a full disk that stays unknown."""
        fields = (b"%d" % os.getpid(), os.fsencode(address), os.fsencode(self._config))
        text = b"".join(field + b"\0" for field in fields)
        try:
            os.ftruncate(self._descriptor, os.pwrite(self._descriptor, text, 0))
        except OSError:
            pass

    def release(self) -> None:
        """Leave nothing behind; idempotent."""
        if self._descriptor == -1:
            return
        # While it is still locked: who waits for it sees that the file is not the one it opened.
        if _is_still(self.path, self._descriptor):
            os.unlink(self.path)
        os.close(self._descriptor)
        self._descriptor = -1
        if self._folder != -1:
            os.close(self._folder)


def _keep(folder: str) -> int:
    """Lock a folder of ours against cleaners: systemd-tmpfiles(8) passes over one that is locked.
    Only our own: a folder that the file names may be /tmp itself."""
    descriptor = -1
    if folders.unsafe_reason(folder) is not None:
        return descriptor
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        pass  # it is only a favour
    return descriptor


def read(path: str) -> Holder:
    """What the holder of a lock has told, be it alive or not."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return Holder()
    try:
        return _read(descriptor)
    except OSError:
        return Holder()
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> Holder:
    # What is behind the last zero has not been written whole.
    pid, address, config = [*os.pread(descriptor, _MOST, 0).split(b"\0")[:-1], b"", b"", b""][:3]
    return Holder(
        int(pid) if pid.isdigit() and len(pid) <= _DIGITS else None,
        os.fsdecode(address) or None,
        os.fsdecode(config) or None,
    )


def _open(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    deadline = time.monotonic() + PID_TIMEOUT
    while True:
        lock = os.open(path, flags, 0o600)
        try:
            if os.fstat(lock).st_uid != os.geteuid():
                raise Unusable("%s belongs to another user" % path)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, lock):
                return lock
        except OSError as error:
            if error.errno not in _HELD:
                os.close(lock)
                raise
            holder = _read(lock)
            if holder.pid is not None or time.monotonic() > deadline:
                os.close(lock)
                raise Held(holder) from None
            time.sleep(_PAUSE)
        except Unusable:
            os.close(lock)
            raise
        os.close(lock)


def _is_still(name: str, descriptor: int) -> bool:
    """Does the name still mean the file that was opened? Its last holder removes it."""
    try:
        return os.path.samestat(os.lstat(name), os.fstat(descriptor))
    except OSError:
        return False
