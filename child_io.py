"""What a child has besides its process: two pipes that are read, and a file with its pid.

A pipe is read by a watcher of the loop, so it costs no greenlet.
"""

import fcntl
import functools
import os
import sys
import time
from typing import Any, Callable, List, Optional

import gevent
from gevent.event import Event

import pid_files
from child import Child
from concurrency import TokenBucket
from context import Context
from logs import InstanceLog, LineWriter
from model import InstanceSpec, Process, pid_file_of
from pid_files import FileJob

#: One read, and what a pipe of the kernel holds. Bytes.
CHUNK = 65536

#: Seconds until the next read when memory is short.
_SHORTAGE_PAUSE = 0.1

_READABLE = 1

#: fcntl(2) of Linux; Python has a name for it from 3.10 on.
_F_GETPIPE_SZ = 1032


class PipeReader:
    """Reads one pipe of one child into a LineWriter, and closes its descriptor at the end.

    It reads while the sink of the lines has room. While the sink has none, the pipe fills, and then
    the child waits.
    """

    def __init__(self, fd: int, lines: LineWriter, bucket: TokenBucket) -> None:
        self._fd = fd
        self._lines = lines
        self._bucket = bucket
        self._closed = Event()
        #: What was read and could not be written as lines for lack of memory.
        self._unfed = b""
        #: Bytes that are still to be read once the child is gone; None while it lives.
        self._left: Optional[int] = None
        self._loop = gevent.get_hub().loop
        self._timer: Any = None
        os.set_blocking(fd, False)
        self._watcher: Any = self._loop.io(fd, _READABLE)
        self._watcher.start(self._on_readable)

    def finish(self, timeout: float) -> bool:
        """The child is gone: read what it left in the pipe, then close it.

        Another process may hold the other end, and even write to it. So an empty pipe counts as the
        end, and so does having read as much as the pipe can have held. Blocks the calling greenlet
        while the sink is full; False if that took longer than `timeout` seconds and bytes are lost.
        """
        if not self._closed.is_set():
            self._left = fcntl.fcntl(self._fd, _F_GETPIPE_SZ)
            self._on_readable()
        finished = bool(self._closed.wait(timeout))
        self.close()
        return finished

    def close(self) -> None:
        """Stop reading, whatever is left. Idempotent."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._watcher.stop()
        self._watcher.close()
        self._drop_timer()
        os.close(self._fd)
        self._lines.close()

    def _on_readable(self) -> None:
        # An exception out of a callback would stop the watcher and nobody would know.
        try:
            while self._read_once() and self._left is not None:
                pass
        except MemoryError:
            self._pause_without_memory()
        except Exception:
            gevent.get_hub().handle_error(self, *sys.exc_info())
            self.close()

    def _read_once(self) -> bool:
        """One read, if there is room for it; True: there may be more at once."""
        if self._lines.sink.full:
            self._wait_for_room()
            return False
        began = time.monotonic()
        data = self._unfed or self._receive()
        if data:
            self._unfed = data
            self._lines.feed(data)
            self._unfed = b""
            self._account(len(data), began)
        elif data is not None or self._left is not None:
            self.close()
        return bool(data) and not self._closed.is_set()

    def _account(self, size: int, began: float) -> None:
        if self._left is not None:
            self._left -= size
            if self._left <= 0:
                self.close()
            return
        delay = self._bucket.delay_after(began, time.monotonic())
        if delay:
            self._pause(delay)

    def _receive(self) -> Optional[bytes]:
        """Bytes, nothing at the end of the pipe, None while it is only empty."""
        try:
            return os.read(self._fd, CHUNK)
        except BlockingIOError:
            return None

    def _wait_for_room(self) -> None:
        self._watcher.stop()
        self._lines.sink.when_room(self._resume)

    def _pause(self, seconds: float) -> None:
        self._watcher.stop()
        self._drop_timer()
        self._timer = self._loop.timer(seconds)
        self._timer.start(self._resume)

    def _pause_without_memory(self) -> None:
        """Read again later: somebody else may free some memory meanwhile. Where there is not even
        memory for a timer, at once."""
        if self._closed.is_set():
            return
        try:
            self._pause(_SHORTAGE_PAUSE)
        except MemoryError:
            self._watcher.start(self._on_readable)

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def _resume(self) -> None:
        if self._closed.is_set():
            return
        if self._left is None:
            self._watcher.start(self._on_readable)
        if self._left is not None or self._unfed:
            self._on_readable()


# Both pipes of a child, and its pid file


#: Seconds that the last output of a child may wait for a log that takes nothing.
_LAST_WORDS = 2.0

#: Seconds that a disk may take for a pid file before the instance goes on without.
_DISK_TIMEOUT = 2.0


class ChildIO:
    """The pipes and the pid file of one child; `clear` them away when it is dead."""

    def __init__(
        self, process: Process, spec: InstanceSpec, child: Child, context: Context,
        log: InstanceLog,
    ) -> None:
        self._context = context
        self._log = log
        self._pid = child.pid
        self._pid_file: Optional[str] = pid_file_of(process, spec.number)
        self._readers: List[PipeReader] = []
        streams = (child.stdout, child.stderr)
        try:
            self._writers = context.writers_for(process, spec)
            for fd, lines in zip(streams, self._writers):
                self._readers.append(PipeReader(fd, lines, context.bucket))
        except BaseException:
            for reader in self._readers:
                reader.close()
            for fd in streams[len(self._readers):]:
                os.close(fd)
            raise

    @property
    def last_line(self) -> str:
        """What the child has said last, on stderr or else on stdout; empty if nothing."""
        stdout, stderr = self._writers
        try:
            return stderr.last_line or stdout.last_line
        except MemoryError:
            return ""  # its exit is to be told all the same

    def write_pid_file(self) -> None:
        """Blocks the calling greenlet, for seconds at most; where it fails, that is one line."""
        self._on_disk(lambda path, job: pid_files.write(
            path, self._pid, lambda: job.outdated))

    def clear(self) -> None:
        """Read the last output, close the pipes, remove the file; blocks for seconds at most."""
        for reader in self._readers:
            if not reader.finish(_LAST_WORDS):
                self._log.warning("its last output is lost, the log takes nothing")
        self._on_disk(lambda path, job: pid_files.remove(path, self._pid))

    def _on_disk(self, action: Callable[[str, FileJob], None]) -> None:
        path = self._pid_file
        if path is None:
            return
        job = FileJob(functools.partial(action, path), self._warn_of_file)
        if not self._context.pid_files.add(path, job).wait(_DISK_TIMEOUT):
            self._warn_of_file("the disk does not answer, or no thread can be started")

    def _warn_of_file(self, text: str) -> None:
        self._log.warning("pidFile %s: %s" % (self._pid_file, text))
