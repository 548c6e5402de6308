"""The file that tells other programs the pid of a child, and the queue of what is done with it.

A disk may not answer for a long time. So files are written and removed in threads.
"""

import os
from collections import deque
from typing import Callable, Deque, Dict

from gevent.event import Event

from concurrency import Task, Threads, pause
from errors import ShortageError


def write(path: str, pid: int, is_outdated: Callable[[], bool] = lambda: False) -> None:
    """Replace the file as a whole: a reader sees the old content or the new one. For a thread.
    OSError.

    The file stays as it is if `is_outdated` holds by the time the disk has answered.
    """
    draft = "%s.%d" % (path, pid)
    try:
        # Not through a link that somebody has put there.
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with open(fd, "w") as file:
            file.write("%d\n" % pid)
        if is_outdated():
            os.unlink(draft)
        else:
            os.replace(draft, path)
    except OSError:
        _forget(draft)
        raise


def remove(path: str, pid: int) -> None:
    """Remove it, if it still tells that pid. For a thread. OSError."""
    try:
        # It may be a named pipe by now: O_NONBLOCK keeps the read from waiting for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            content = file.read(32)
    except FileNotFoundError:
        return
    if content.strip() == b"%d" % pid:
        os.unlink(path)


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


# The queue: of each file, one job after the other, in the order in which they were asked for


#: Seconds until something is tried again for which there was no thread, or no memory.
_RETRY_DELAY = 1.0


class FileJob:
    """One thing to do with one file, by `do(job)` in a thread; `on_error(text)` is told where that
    fails."""

    def __init__(self, do: "Callable[[FileJob], None]", on_error: Callable[[str], None]) -> None:
        self.do = do
        self.on_error = on_error
        #: True once a later job is there for the same file.
        self.outdated = False
        self._over = Event()

    def wait(self, timeout: float) -> bool:
        """True once it is over, done or failed; False after so many seconds. Blocks the calling
        greenlet."""
        return bool(self._over.wait(timeout))

    def finish(self) -> None:
        self._over.set()


class FileQueue:
    """The jobs of each file, one after the other."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._jobs: Dict[str, Deque[FileJob]] = {}

    def add(self, path: str, job: FileJob) -> FileJob:
        """Returns at once."""
        jobs = self._jobs.get(path)
        if jobs is None:
            self._jobs[path] = deque([job])
            Task(self._do_jobs, path)
            return job
        for earlier in jobs:
            earlier.outdated = True
        jobs.append(job)
        return job

    def _do_jobs(self, path: str) -> None:
        jobs = self._jobs[path]
        while jobs:
            job = jobs[0]
            try:
                self._threads.call(job.do, job)
            except (ShortageError, MemoryError):
                pause(_RETRY_DELAY)
                continue
            except Exception as error:
                job.on_error(getattr(error, "strerror", None) or str(error))
            jobs.popleft()
            job.finish()
        del self._jobs[path]
