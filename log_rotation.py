"""Backups of a log file: `app.log.1` is the latest, `app.log.2.gz` the one before, compressed.

All of this may block, and is for threads. Nothing is written through a link, and nothing takes the
place of another file that is not a backup itself.
"""

import contextlib
import fcntl
import gzip
import os
import shutil
import stat
from typing import BinaryIO, Iterator

#: What a backup is called after the file while it is compressed; one at a time is. With a number,
#: so that a watch takes it for ours (file_filter.py).
_DRAFT = ".0.gz.part"

_SUFFIXES = ("", ".gz")

#: Compressed at a time. Bytes.
_CHUNK = 256 * 1024


@contextlib.contextmanager
def locked(fd: int) -> "Iterator[None]":
    """Around a rotation of the file that is open there: no other pupgevent does it meanwhile.
    BlockingIOError: one does."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass  # a disk without locks
    try:
        yield
    finally:
        try:
            fcntl.flock(fd, fcntl.LOCK_UN)
        except OSError:
            pass


def make_room(path: str, backups: int) -> None:
    """Rename each backup to the next number, and remove what is more than `backups`, of which the
    file itself will be one. OSError: the latest ones have kept their names."""
    # Left by who was interrupted.
    _unlink(path + _DRAFT)
    for number in _too_many(path, backups):
        _remove(path, number)
    for number in range(backups - 1, 0, -1):
        for suffix in _SUFFIXES:
            _rename("%s.%d%s" % (path, number, suffix), "%s.%d%s" % (path, number + 1, suffix))


def put_away(path: str) -> None:
    """The file becomes the latest backup. OSError; FileNotFoundError: it was moved just now."""
    os.rename(path, path + ".1")


def compress_backups(path: str, backups: int) -> None:
    """Compress those that are not. OSError: what could not be compressed is as it was."""
    for number in range(1, backups + 1):
        try:
            _compress("%s.%d" % (path, number), path + _DRAFT)
        except FileNotFoundError:
            pass


def adopt_rights(fd: int, before: os.stat_result) -> None:
    """Who could read the file before can read the one of that descriptor, where that may be."""
    try:
        found = os.fstat(fd)
        if (found.st_uid, found.st_gid) != (before.st_uid, before.st_gid):
            os.fchown(fd, before.st_uid, before.st_gid)
    except OSError:
        pass  # it is somebody else's then
    try:
        os.fchmod(fd, stat.S_IMODE(before.st_mode))
    except OSError:
        pass


def _compress(path: str, draft: str) -> None:
    source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(source, "rb") as plain:
        found = os.fstat(source)
        if not stat.S_ISREG(found.st_mode):
            return
        try:
            _write_compressed(plain, draft, found)
            if _is_unchanged(path, found):
                os.rename(draft, path + ".gz")
                os.unlink(path)
        finally:
            _unlink(draft)


def _is_unchanged(path: str, found: os.stat_result) -> bool:
    """False: another pupgevent has given it another name meanwhile, or written to it."""
    now = os.stat(path, follow_symlinks=False)
    return os.path.samestat(now, found) and now.st_size == found.st_size


def _write_compressed(plain: BinaryIO, draft: str, found: os.stat_result) -> None:
    _unlink(draft)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(draft, flags, 0o600), "wb") as target:
        with gzip.GzipFile("", "wb", 6, target, found.st_mtime) as packed:
            shutil.copyfileobj(plain, packed, _CHUNK)
        target.flush()
        adopt_rights(target.fileno(), found)
        os.utime(target.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))
        # What it was made of is removed next.
        os.fsync(target.fileno())


def _too_many(path: str, backups: int) -> "Iterator[int]":
    """From the first number on that is not kept, as far as there is no gap."""
    number = max(backups, 1)
    while any(os.path.lexists("%s.%d%s" % (path, number, suffix)) for suffix in _SUFFIXES):
        yield number
        number += 1


def _remove(path: str, number: int) -> None:
    for suffix in _SUFFIXES:
        _unlink("%s.%d%s" % (path, number, suffix))


def _rename(old: str, new: str) -> None:
    try:
        os.rename(old, new)
    except FileNotFoundError:
        pass


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
