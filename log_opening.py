"""Log files that may have wanted lines, opened, and as streams, for who goes back behind memory.

A decorated file has its lines' times and names. Of a raw one, where nothing tells whose a line is,
all lines have to be wanted, and those of one process. Nothing tells their times either, so with
`--since` only such files serve that were begun later, as the backup before them tells.

Files are read in threads. A disk that does not answer in time is passed over.
"""

import errno
import math
import os
import resource
import threading
import time
from typing import Any, Callable, Iterator, List, Optional, Set, Tuple, TypeVar

import gevent

from concurrency import Threads
from errors import ShortageError, listed
from log_files import LogFile
from log_history import LogHistory, Wanted, wants
from log_memory import Borders, LogMemory, set_generations
from log_reading import Entry, OpenLog, Picker, RawPicker, open_files
from log_streams import LogStream, Part
from outlets import FileUse
from sinks import NO_INSTANCE

T = TypeVar("T")

#: Threads for reading, of all who ask.
_READERS = 4

#: Seconds for one piece of a file, and for what is queued for the files to be written.
_PATIENCE, _QUEUE_PATIENCE = 5.0, 2.0

#: Seconds between two looks whether it is.
_LOOK_AGAIN = 0.01

#: Log files that may be open, and the part of the descriptors that these may be.
_MOST_OPEN, _SHARE = 4000, 4

#: Files that a hint names.
_MOST_NAMED = 3

Hint = Callable[[str], None]


class NoAnswer(OSError):
    """A disk takes too long."""

    def __init__(self) -> None:
        super().__init__(errno.ETIMEDOUT, "the disk does not answer")


class Readers:
    """The threads in which files are read, and the number of files that may be open."""

    def __init__(self) -> None:
        self._threads = Threads(_READERS)
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        #: A place for each. Threads give some back.
        self.slots: Any = threading.BoundedSemaphore(
            max(1, min(_MOST_OPEN, descriptors // _SHARE)))

    def call(self, function: "Callable[..., T]", *arguments: object) -> T:
        """OSError: it failed, or the disk does not answer in time."""
        try:
            with gevent.Timeout(_PATIENCE, NoAnswer()):
                return self._threads.call(function, *arguments)
        except ShortageError as error:
            raise OSError(errno.EAGAIN, str(error)) from None
        except MemoryError:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from None


def may_have(use: FileUse, wanted: "Optional[Wanted]") -> bool:
    """Can any of the wanted lines be told in it?"""
    if use.decorated:
        return NO_INSTANCE in use.writers or any(
            wants(wanted, each.process, each.instance) for each in use.writers)
    processes = {each.process for each in use.writers}
    return (use.decorated is not None and len(processes) == 1 and NO_INSTANCE not in use.writers
            and all(wants(wanted, each.process, each.instance) for each in use.writers))


class LogOpener:
    """Opens what one who asks wants. `since` is -inf where he does not say; `goes_back` is false
    where files only stand for what memory does not keep. `hint` is told what cannot be read."""

    def __init__(
        self, history: LogHistory, wanted: "Optional[Wanted]", since: float, goes_back: bool,
        uses: "List[FileUse]", readers: Readers, hint: Hint,
    ) -> None:
        self._history = history
        self._wanted = wanted
        self._since = since
        self._goes_back = goes_back
        self._uses = uses
        self._readers = readers
        self._hint = hint
        marks = {use.file.number: use.file.accepted for use in uses if use.file is not None}
        self._marks = marks
        self.memory = LogMemory(wanted, since, history.processes, marks)
        self._deadline = 0.0
        self.streams: List[Tuple[LogStream, Borders]] = []
        #: Raw files of which lines are left out since nothing tells their time.
        self._undated: List[str] = []
        #: Folders on disks that do not answer.
        self._hanging: Set[str] = set()

    def open_all(self) -> "Iterator[bytes]":
        """Fills `streams`; `memory` is to be complete. What is yielded ends a piece of work."""
        self._deadline = time.monotonic() + _QUEUE_PATIENCE
        for use in self._uses:
            try:
                yield from self._open(use)
            except OSError as error:
                self._fail(use.path, error)
        if self._undated:
            named = self._undated[:_MOST_NAMED]
            more = len(self._undated) - len(named)
            self._hint(
                "lines without a time (decorateFiles = false) that are older than memory are left"
                " out by --since: %s; -n shows them" % listed(
                    [*named, *(["%d more" % more] if more else [])], "and"))

    def close(self) -> None:
        """Files are closed as soon as no thread reads in them."""
        # The streams know the opener, which tells them what is wanted.
        self.streams.clear()

    def step(self, stream: LogStream, function: "Callable[[], object]") -> None:
        """Search the stream further back."""
        try:
            self._call(stream.path, function)
        except OSError as error:
            stream.end_search()
            self._fail(stream.path, error)

    def read(self, stream: LogStream) -> "Optional[List[Entry]]":
        """The next lines; None: there are no more."""
        try:
            return self._call(stream.path, stream.more)
        except OSError as error:
            self._fail(stream.path, error)
            return None

    def _open(self, use: FileUse) -> "Iterator[bytes]":
        """OSError: it cannot be read."""
        file = use.file
        if file is None:
            logs = self._open_files(use, None)
            borders = Borders(self.memory, 0, None)
        else:
            while True:
                is_written = file.settled >= self._marks[file.number]
                before = file.track.end()
                logs = self._open_files(use, file.names)
                yield b""
                # No one waits for a pipe.
                if is_written or (logs and not any(log.is_open for log in logs)):
                    break
                yield from self._wait_for(file)
            set_generations(logs, file.track, before)
            borders = Borders(self.memory, file.number, file.track)
        make = self._decorated if use.decorated else self._raw
        self.streams.append((make(use, logs, borders), borders))

    def _open_files(
        self, use: FileUse, names: "Optional[threading.Lock]"
    ) -> "List[OpenLog]":
        return self._call(
            use.path, open_files, use.path, use.has_backups, names, self._readers.slots)

    def _wait_for(self, file: LogFile) -> "Iterator[bytes]":
        """Until it has all that it had taken when it was asked. OSError: that takes too long."""
        while file.settled < self._marks[file.number]:
            if time.monotonic() > self._deadline:
                raise OSError(errno.EAGAIN, "lines still wait to be written")
            gevent.sleep(_LOOK_AGAIN)
            yield b""

    def _decorated(self, use: FileUse, logs: "List[OpenLog]", borders: Borders) -> LogStream:
        concerned = self.memory.concerned
        parts = []
        for log in logs:
            end = borders.end(log) if concerned is None else max(
                borders.limit(log, process) for process in concerned)
            if end > 0:
                picker = Picker(self._limits(log, borders), self._since)
                parts.append(Part(log, end, picker))
        return LogStream(use.path, parts, None, self._since)

    def _limits(self, log: OpenLog, borders: Borders) -> "Callable[[Optional[str]], int]":
        def limit_of(name: "Optional[str]") -> int:
            owner = self.memory.owner_of(name)
            is_wanted = wants(self._wanted, owner, name or "") and (
                self._goes_back or not self._history.keeps(owner))
            return borders.limit(log, name or None) if is_wanted else 0

        return limit_of

    def _raw(self, use: FileUse, logs: "List[OpenLog]", borders: Borders) -> LogStream:
        writer = min(use.writers)
        first = self.memory.first(writer.process, use.file.number) if use.file else None
        latest = math.inf if first is None else first.time
        name = writer.instance if len(use.writers) == 1 else writer.process
        label = ("[%s][%s] " % (name, use.stream) if use.stream else "[%s] " % name).encode()
        parts = []
        for number, log in enumerate(logs):
            end = borders.limit(log, writer.process)
            last = min(log.file.st_mtime, latest)
            if end <= 0 or last < self._since:
                continue
            older = logs[number + 1 : number + 2]
            if self._since > -math.inf and not (
                    older and older[0].file.st_mtime >= self._since):
                self._undated.append(use.path)
                break
            parts.append(Part(log, end, RawPicker(end, label, last)))
        last_line = min(parts[0].log.file.st_mtime, latest) if parts else 0.0
        return LogStream(use.path, parts, last_line, -math.inf)

    def _call(self, path: str, function: "Callable[..., T]", *arguments: object) -> T:
        """In a thread. OSError."""
        folder = os.path.dirname(path)
        if folder in self._hanging:
            raise NoAnswer
        try:
            return self._readers.call(function, *arguments)
        except NoAnswer:
            self._hanging.add(folder)
            raise

    def _fail(self, path: str, error: OSError) -> None:
        reason = (error.strerror or str(error)).lower()
        self._hint("log file %s: %s; some lines are left out" % (path, reason))
