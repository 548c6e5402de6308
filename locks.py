"""Files of which one process at a time is the holder, and the folders that they may lie in.

A lock is a file that is locked (flock(2)) for as long as its holder lives: the kernel unlocks it
however that one ends, so what an ended one has left behind is told from what is in use without
asking anybody, and of two that start at the same time one wins. It says who holds it, and where
that one can be asked.
"""

import errno
import fcntl
import os
import stat
import time
from typing import Optional, Tuple

from errors import PupgeventError

#: Seconds for another who has just got the lock to write its pid.
PID_TIMEOUT = 1.0

#: Seconds from one look at a lock to the next.
_PAUSE = 0.05

#: errno values of a lock that another one has (flock(2)).
_HELD = (errno.EWOULDBLOCK, errno.EACCES)

#: Most bytes that a lock's file holds.
_MOST = 8192


class Unusable(PupgeventError):
    """Nothing can be put there."""


class Held(Exception):
    """Another process has the lock; its pid, where it has told it."""

    def __init__(self, pid: "Optional[int]") -> None:
        super().__init__(pid)
        self.pid = pid


class Lock:
    """Held from the start on; raises Held or OSError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = _open(path)
        self.tell("")

    def tell(self, address: str) -> None:
        """Where the holder can be asked."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n%s\n" % (os.getpid(), os.fsencode(address)), 0)

    def release(self) -> None:
        """Leave nothing behind; idempotent."""
        if self._descriptor == -1:
            return
        # While it is still locked: who waits for it sees that the file is not the one it opened.
        if _is_still(self.path, self._descriptor):
            os.unlink(self.path)
        os.close(self._descriptor)
        self._descriptor = -1


class FileLock:
    """A file that is there for something else, locked as it is: it tells nothing of its holder.
    Raises Held or OSError."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            if error.errno in _HELD:
                raise Held(None) from None
            raise

    def tell(self, address: str) -> None:
        """There is nowhere to write it."""

    def release(self) -> None:
        """Idempotent."""
        if self._descriptor != -1:
            os.close(self._descriptor)
            self._descriptor = -1


def read(path: str) -> "Tuple[Optional[int], Optional[str]]":
    """Pid and address that a lock's holder has told, be it alive or not."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None, None
    try:
        return _read(descriptor)
    except OSError:
        return None, None
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> "Tuple[Optional[int], Optional[str]]":
    pid, _, rest = os.pread(descriptor, _MOST, 0).partition(b"\n")
    address, ended, _ = rest.partition(b"\n")
    told = os.fsdecode(address) if ended and address else None
    return int(pid) if pid.isdigit() else None, told


def _open(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    deadline = time.monotonic() + PID_TIMEOUT
    while True:
        lock = os.open(path, flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, lock):
                return lock
        except OSError as error:
            pid, _ = _read(lock)
            if error.errno not in _HELD:
                os.close(lock)
                raise
            if pid is not None or time.monotonic() > deadline:
                os.close(lock)
                raise Held(pid) from None
            time.sleep(_PAUSE)
        os.close(lock)


def _is_still(name: str, descriptor: int) -> bool:
    """Does the name still mean the file that was opened? Its last holder removes it."""
    try:
        return os.path.samestat(os.lstat(name), os.fstat(descriptor))
    except OSError:
        return False


def distrust(folder: str) -> "Optional[str]":
    """Why a folder is not one that only its user, us, can enter; None where it is."""
    try:
        found = os.lstat(folder)
    except OSError as error:
        return os.strerror(error.errno or 0).lower()
    if not stat.S_ISDIR(found.st_mode):
        return "it is no folder"
    if found.st_uid != os.geteuid():
        return "it belongs to another user"
    if found.st_mode & 0o077:
        return "others can enter it (mode %o)" % stat.S_IMODE(found.st_mode)
    return None


def make_folder(folder: str, private: bool) -> None:
    """Have it there; raises Unusable or OSError.

    `private` is for our own folder. Who names a path chooses, and knows, its folder.
    """
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    reason = distrust(folder) if private else None
    if reason is not None:
        raise Unusable("%s: %s" % (folder, reason))
