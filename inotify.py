"""inotify(7), for which Python has no module: the kernel tells what happens in a folder.

A watch is of one folder, and not of what is below it. The same folder gives the same number, by
whichever path. The queue of events has an end: what is lost then is told as one event without a
folder (OVERFLOW).
"""

import ctypes
import os
import struct
from typing import Any, Iterator, NamedTuple

# What has happened, from <sys/inotify.h>.
MODIFY = 0x2
ATTRIB = 0x4
CLOSE_WRITE = 0x8
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
DELETE_SELF = 0x400
MOVE_SELF = 0x800
UNMOUNT = 0x2000
OVERFLOW = 0x4000
#: The watch is gone, because its folder is, or because it was removed.
IGNORED = 0x8000
#: It has happened to a folder inside of the watched one.
IS_FOLDER = 0x40000000

#: All that can be a change of a file, or of where it is.
CHANGES = (
    MODIFY | ATTRIB | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF
    | MOVE_SELF)
_ONLY_FOLDERS = 0x1000000

#: In bytes: some five hundred events at once.
_CHUNK = 16384

#: `struct inotify_event` without the name, which follows, padded with NULs.
_HEAD = struct.Struct("iIII")


class Event(NamedTuple):
    """Something has happened in a watched folder, or to it: then there is no name."""

    #: The number of the watch; -1 with OVERFLOW.
    watch: int
    mask: int
    name: str


class Inotify:
    """One queue of events. `add` and `remove` may block, and are for a thread."""

    def __init__(self) -> None:
        """Raises OSError: EMFILE is the limit of this user (fs.inotify.max_user_instances), or of
        this process."""
        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        self._fd = _checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def fileno(self) -> int:
        return self._fd

    def add(self, folder: str) -> int:
        """Watch a folder; returns the number of the watch. Raises OSError: ENOSPC is the limit of
        this user (fs.inotify.max_user_watches)."""
        path = os.fsencode(folder)
        return _checked(self._libc.inotify_add_watch(self._fd, path, CHANGES | _ONLY_FOLDERS))

    def remove(self, watch: int) -> None:
        """No matter whether it is still there."""
        self._libc.inotify_rm_watch(self._fd, watch)

    def read(self) -> Iterator[Event]:
        """Some of the events that have come; does not block."""
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            watch, mask, _, length = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            yield Event(watch, mask, os.fsdecode(data[at:at + length].rstrip(b"\0")))
            at += length

    def close(self) -> None:
        os.close(self._fd)


def _checked(result: int) -> int:
    """The result of a system call; raises OSError where it failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
