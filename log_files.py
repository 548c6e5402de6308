"""Log files: each takes lines like any sink, is rotated by size, and outlives what happens to it.

Another tool may move a file away, empty it, or remove its folder; a disk may be full. Lines wait
while a disk is slow, and are lost, counted and told of while it takes nothing. Writing and opening
are done in threads, so the hub waits for no disk. A file that is asked for twice is there once.
"""

import errno
import itertools
import os
import stat
import threading
import time
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional

import log_rotation
from concurrency import Task, Threads, in_slices
from errors import ShortageError, counted
from log_tracks import LogTrack
from sinks import LOW_WATER, Losses, QueuedSink, write_some

#: Threads for writing, at most. Files of one folder share one: a disk that hangs holds up no other.
_MOST_WRITERS = 16

#: Seconds between two looks whether the file is still the one of that name.
_LOOK_EVERY = 1.0

#: Seconds until a rotation is tried again that has failed.
_ROTATE_AGAIN = 60.0

#: Of what is missing.
_MODE = 0o644

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

Tell = Callable[[str], None]


class FileLimits(NamedTuple):
    """When a file is rotated, and what becomes of it."""

    #: 0: never.
    max_bytes: int
    backups: int
    compress: bool


class LogFiles:
    """All log files that are in use, by their paths. What goes wrong with one is told by `warn`,
    and by `inform` when that is over."""

    def __init__(self, inform: Tell, warn: Tell) -> None:
        self._inform = inform
        self._warn = warn
        self._files: Dict[str, LogFile] = {}
        #: Those that are closed, or will be. They come back as they are: what is in memory of their
        #: lines can still be found in them.
        self._released: Dict[str, LogFile] = {}
        self._numbers = itertools.count(1)
        #: By folder.
        self._writers: Dict[str, Threads] = {}
        self._compressor = Threads(1)

    def get(self, path: str, limits: FileLimits) -> "LogFile":
        """The file of that path, which is opened, with these limits from now on."""
        found = self._files.get(path)
        if found is None:
            found = self._released.pop(path, None)
            if found is None:
                found = LogFile(
                    path, limits, self._writer_of(os.path.dirname(path)), self._compressor,
                    self._inform, self._warn, next(self._numbers))
            self._files[path] = found
            found.take_back()
        found.limits = limits
        return found

    def find(self, path: str) -> "Optional[LogFile]":
        """The file of that path, where it is in use."""
        return self._files.get(path)

    def keep_only(self, paths: Iterable[str]) -> None:
        """Close the others once they have what was written to them."""
        for path in set(self._files).difference(paths):
            file = self._released[path] = self._files.pop(path)
            file.release()

    def reopen(self) -> int:
        """Open all anew, be they moved or not; returns how many there are."""
        for each in in_slices(list(self._files.values())):
            each.reopen()
        return len(self._files)

    def flush(self, timeout: float) -> None:
        """Wait until all is written, for so many seconds at most."""
        end = time.monotonic() + timeout
        for each in list(self._files.values()):
            each.flush(max(0.0, end - time.monotonic()))

    def _writer_of(self, folder: str) -> Threads:
        if folder not in self._writers and len(self._writers) >= _MOST_WRITERS:
            others: List[Threads] = list(dict.fromkeys(self._writers.values()))
            self._writers[folder] = others[len(self._writers) % len(others)]
        return self._writers.setdefault(folder, Threads(1))


class LogFile(QueuedSink):
    """One log file, as the hub sees it."""

    def __init__(
        self, path: str, limits: FileLimits, writer: Threads, compressor: Threads, inform: Tell,
        warn: Tell, number: int,
    ) -> None:
        super().__init__(writer)
        self.path = path
        #: No other file has it, also not one of that path.
        self.number = number
        self._compressor = compressor
        self._inform = inform
        self._warn = warn
        self._file = _OpenFile(path, limits)
        #: How often it was to be opened, and when this was done last.
        self._asked = self._opened = 0
        self._released = False
        self._failing = False
        #: True: more has come than it takes, and lines are lost until it has caught up.
        self._behind = False
        self._trouble = ""

    @property
    def track(self) -> LogTrack:
        """Where in the files what it has taken is."""
        return self._file.track

    @property
    def names(self) -> "threading.Lock":
        """Held while backups get other names; for threads."""
        return self._file.names

    @property
    def limits(self) -> FileLimits:
        return self._file.limits

    @limits.setter
    def limits(self, limits: FileLimits) -> None:
        self._file.limits = limits

    def reopen(self) -> None:
        """Open it by its name; returns at once."""
        self._asked += 1
        self._start_work()

    def take_back(self) -> None:
        """Open it, for the first time or again after `release`."""
        self._released = False
        self.reopen()

    def release(self) -> None:
        """Close it once all is written; what comes later opens it for a moment.

        Whoever waits for room is called back at once: he writes elsewhere by now, and this disk may
        hang.
        """
        self._released = True
        self._start_work()
        for _ in range(len(self._waiting)):
            callback = self._waiting.popleft()
            try:
                callback()
            except MemoryError:
                self._waiting.append(callback)

    def _write_some(self, data: memoryview) -> int:
        return self._file.write(data, self._in_line, self.settled)

    def _tend(self) -> None:
        asked = self._asked
        if asked == self._opened:
            return
        try:
            self._threads.call(self._file.open)
        except OSError as error:
            self._failed(error)
        self._opened = asked
        self._tell_trouble()

    def _rest(self) -> None:
        if self._released:
            self._threads.call(self._file.close)
        super()._rest()
        if self._released and not self._work.is_set():
            # Ends the loop; what comes later starts another.
            self._task = None

    def _on_failure(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            self._warn("log file %s: %s; lines are lost until it can be written" % (
                self.path, _reason(error)))

    def _drop(self, data: bytes, reason: str = "") -> None:
        super()._drop(data, reason)
        if self._failing or self._behind or reason:
            return
        self._behind = True
        try:
            self._warn("log file %s: the disk is too slow; lines are lost until it has caught up"
                       % self.path)
        except MemoryError:
            self._behind = False

    def _on_written(self) -> None:
        self._tell_losses()
        self._tell_trouble()
        if self._file.rotated:
            self._file.rotated = False
            if self.limits.compress:
                Task(self._compress)

    def _tell_losses(self) -> None:
        """How many there were, once they are over: a disk that is slow for long does not get a line
        for each piece that it takes."""
        if self._failing:
            self._inform("log file %s is written again, %s" % (self.path, _lost(self._lost)))
        elif self._behind:
            if self._size >= LOW_WATER:
                return
            self._inform("log file %s has caught up, %s" % (self.path, _lost(self._lost)))
        elif self._lost:
            self._warn("log file %s: %s, %s" % (
                self.path, _lost(self._lost), self._lost.reason))
        self._failing = self._behind = False
        self._lost = Losses()

    def _tell_trouble(self) -> None:
        """Once for each that is another one."""
        trouble, self._trouble = self._trouble, self._file.trouble
        if self._trouble and self._trouble != trouble:
            self._warn("log file %s: %s" % (self.path, self._trouble))

    def _compress(self) -> None:
        try:
            self._compressor.call(self._file.compress)
        except OSError as error:
            self._warn("log file %s: a backup cannot be compressed: %s" % (
                self.path, _reason(error)))
        except (ShortageError, MemoryError):
            pass  # the next rotation tries again


def _lost(losses: Losses) -> str:
    return "%s lost" % counted(losses.lines, "line")


class _OpenFile:
    """The file itself, for threads: one call at a time, but for `compress`."""

    def __init__(self, path: str, limits: FileLimits) -> None:
        self._path = path
        #: May be changed while in use, as a whole.
        self.limits = limits
        #: There is another backup.
        self.rotated = False
        #: What does not go as it should, though lines are written; empty: nothing.
        self.trouble = ""
        self._fd = -1
        self._look_at = 0.0
        self._rotate_at = 0.0
        #: True: what is open is the latest backup, since the next file cannot be opened.
        self._is_backup = False
        #: Held by who gives backups other names, or compresses them.
        self._backups = threading.Lock()
        #: Held by who gives them other names.
        self.names = threading.Lock()
        self.track = LogTrack()

    def open(self) -> None:
        """Open it by its name; where that fails and the one before is still there, go on with
        that. OSError."""
        self._look_at = time.monotonic() + _LOOK_EVERY
        try:
            fd = _open(self._path)
        except OSError as error:
            if self._fd < 0 or os.fstat(self._fd).st_nlink == 0:
                self.close()
                raise
            self.trouble = "it was moved away, and cannot be opened anew: %s" % _reason(error)
            return
        if self._is_backup:
            self.rotated = True
            if stat.S_ISREG(os.fstat(fd).st_mode):
                log_rotation.adopt_rights(fd, os.fstat(self._fd))
        self.close()
        self._fd = fd
        self._rotate_at = 0.0
        self.trouble = ""

    def close(self) -> None:
        """Idempotent."""
        fd, self._fd = self._fd, -1
        self._is_backup = False
        try:
            if fd >= 0:
                os.close(fd)
        except OSError:
            pass  # closed all the same, and what a far disk has lost is lost

    def write(self, data: memoryview, in_line: bool, position: int) -> int:
        """Write some of it, into a new file where there is no room for a line; `in_line`: its
        beginning belongs to the line that was written last; `position`: how much there was before
        it. OSError."""
        if self._fd < 0 or (time.monotonic() >= self._look_at and self._is_moved()):
            self.open()
        size = self._room(data, in_line)
        if size == 0:
            self._rotate()
            size = self._room(data, in_line) or len(data)
        written = write_some(self._fd, data[:size])
        self._note(position, written)
        return written

    def _note(self, position: int, size: int) -> None:
        try:
            found = os.fstat(self._fd)
            if stat.S_ISREG(found.st_mode):
                # Behind what was just written, though others may have written since.
                end = os.lseek(self._fd, 0, os.SEEK_CUR)
                self.track.note(position, found, end, size)
        except OSError:
            pass  # it is not read again

    def compress(self) -> None:
        """Compress the backups. OSError."""
        with self._backups:
            if not self._is_backup:
                log_rotation.compress_backups(self._path, self.limits.backups)

    def _is_moved(self) -> bool:
        self._look_at = time.monotonic() + _LOOK_EVERY
        try:
            return not os.path.samestat(os.stat(self._path), os.fstat(self._fd))
        except OSError:
            return True

    def _room(self, data: memoryview, in_line: bool) -> int:
        """How much of it belongs into this file; 0: nothing, it is full."""
        found = os.fstat(self._fd)
        most = self.limits.max_bytes
        room = most - found.st_size
        if not most or len(data) <= room or not stat.S_ISREG(found.st_mode):
            return len(data)
        text = bytes(data)
        if in_line or not found.st_size:
            # One line at least, whatever its length.
            return max(text.rfind(b"\n", 0, max(room, 0)), text.find(b"\n")) + 1 or len(data)
        return text.rfind(b"\n", 0, max(room, 0)) + 1

    def _rotate(self) -> None:
        """Where it cannot be done, the file grows on. OSError: there is none to write to."""
        if time.monotonic() < self._rotate_at:
            return
        # While backups are being compressed, the file may grow to twice its size.
        if not self._backups.acquire(os.fstat(self._fd).st_size >= 2 * self.limits.max_bytes):
            return
        try:
            with log_rotation.locked(self._fd):
                if not self._is_moved():
                    self._put_away(self.limits.backups)
        except (BlockingIOError, FileNotFoundError):
            pass  # another pupgevent does it, or another tool has just done it
        except OSError as error:
            self.trouble = "it cannot be rotated, and grows: %s" % _reason(error)
            self._rotate_at = time.monotonic() + _ROTATE_AGAIN
        finally:
            self._backups.release()
        if self._is_moved():
            self.open()

    def _put_away(self, backups: int) -> None:
        # The backup would be the link, not the file. And the link may be /dev/stdout.
        if os.path.islink(self._path):
            raise OSError(errno.ELOOP, "it is a link")
        with self.names:
            log_rotation.make_room(self._path, backups)
            if backups:
                log_rotation.put_away(self._path)
                self._is_backup = True
            else:
                os.ftruncate(self._fd, 0)


def _open(path: str) -> int:
    try:
        return os.open(path, _FLAGS | os.O_NOFOLLOW, _MODE)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "nobody reads from this named pipe, or socket") from None
        if error.errno != errno.ELOOP:
            raise
    if not may_follow_links(os.path.dirname(path)):
        raise OSError(errno.ELOOP, "it is a link, in a folder where others than root may write")
    return os.open(path, _FLAGS, _MODE)


def may_follow_links(folder: str) -> bool:
    """Whether nobody can have put a link there to have a file written that he may not write."""
    if os.geteuid() != 0:
        return True
    found = os.stat(folder)
    return found.st_uid == 0 and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
