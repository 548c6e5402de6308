"""Where lines go: sinks, which take them at once and write them when the other side does.

A terminal may be stopped, a pipe may have no reader, a disk may be full. `Sink.write` returns at
once all the same. A producer that is faster than the other side is asked to wait instead: it looks
at `full` before it reads from its child, and is called back when there is room again. So a child
that floods is slowed by its own full pipe, and nobody else is.
"""

import collections
import errno
import os
import select
import time
from typing import Callable, Deque, NamedTuple, Optional, Union

from gevent.event import Event

import journal
from concurrency import Task, Threads, pause
from errors import ShortageError

#: Waiting to be written: from the first on producers are asked to wait, below the second they are
#: called back. Bytes.
HIGH_WATER, LOW_WATER = 256 * 1024, 64 * 1024

#: Waiting to be written: from here on bytes are dropped and counted. Children never come near it,
#: since their readers wait; our own lines do, while the other side takes nothing. Bytes.
LIMIT = 4 * 1024 * 1024

#: One write. Bytes.
_PIECE = 256 * 1024

_NEWLINE = 10

#: Seconds for which everything is dropped after a failed write, until it is tried again: a disk
#: may have room again, a named pipe another reader.
_DROPPING = 1.0

#: Seconds until a piece is tried again for which there was no thread, or no memory.
_RETRY_DELAY = 0.1

#: In the place of a writer: nobody goes on with the line, a part of it was dropped.
_LOST = object()

#: Shortages of the machine: the piece is tried again, and nothing is dropped.
_SHORTAGES = (errno.ENOMEM, errno.ENOBUFS)


class Source(NamedTuple):
    """Whom lines are about: an instance, by its name, and the id of its process."""

    process: str
    instance: str


#: Lines of pupgevent that are about no instance.
NO_INSTANCE = Source("", "")


class Lines:
    """What is printed at once by one writer, about one source: as it came, and decorated.

    `text` is without the last newline; `head(colored)` is what stands before each line, and
    `head(colored, False)` the same without the time; `priority` is one of journal.py.
    """

    def __init__(
        self, text: bytes, head: Callable[..., bytes], source: Source, ended: bool = True,
        writer: object = None, priority: int = journal.INFO,
    ) -> None:
        self._text = text
        self._raw = b""
        self._head = head
        self.source = source
        #: False: the last line is too long to be kept until its end comes, and goes on later.
        self._ended = ended
        #: The child that has printed it, who goes on with a line that has not ended.
        self.writer = writer
        self._priority = priority

    def decorated(self, colored: bool) -> bytes:
        """Whole lines: one that goes on is given out in pieces, each a line of its own."""
        return self._below(self._head(colored))

    def for_journal(self, colored: bool) -> bytes:
        """The same with a priority and without a time. A child may begin a line with a priority
        of its own, which counts, and is not shown."""
        mark, head = journal.MARKS[self._priority], self._head(colored, False)
        lines = self._below(mark + head)
        # The look costs nothing, and most blocks have no such character.
        if self.writer is not None and b"<" in self._text:
            lines = journal.with_own_marks(lines, mark, head)
        return lines

    def _below(self, head: bytes) -> bytes:
        return head + self._text.replace(b"\n", b"\n" + head) + b"\n"

    def make_raw(self) -> None:
        """Make `raw` now, where memory may be short later."""
        self._raw = self._text + b"\n" if self._ended else self._text

    @property
    def raw(self) -> bytes:
        """As it came."""
        if not self._raw:
            self.make_raw()
        return self._raw


class Sink:
    """Takes lines. This one takes them nowhere, and is the interface of the others."""

    #: Called with a sentence when something was lost, once there is room for it.
    on_loss: Optional[Callable[[str], None]] = None

    #: Are lines coloured that nobody else has told how to look?
    colors = False

    @property
    def full(self) -> bool:
        """True: a producer that can wait should, and be called back by `when_room`."""
        return False

    def write_lines(self, lines: Lines) -> None:
        """Take lines in the look that belongs here; never blocks, never raises."""
        self.write(lines.decorated(self.colors), lines.source)

    def write(self, data: bytes, source: Source = NO_INSTANCE) -> None:
        """Take whole lines, all about one source; never blocks, never raises."""

    def write_raw(self, lines: Lines) -> None:
        """Take lines as they came. Nobody else's text gets into a line that is to go on."""
        self.write(lines.raw, lines.source)

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back once, when it is no longer full."""
        callback()

    def flush(self, timeout: float) -> bool:
        """Wait until everything is out; False if that takes longer than `timeout` seconds."""
        return True


class QueuedSink(Sink):
    """What is written waits in a queue, from which one call at a time in a thread takes a piece.

    Its task is started by the first write and runs as long as the program, or until a subclass ends
    it; a thread that hangs in a write does not keep the program from ending. When a write fails,
    what was to be written is lost. Where no thread can be started, or memory is short, everything
    waits and is tried again: producers see a full sink, and nothing ends for good.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._pieces: Deque[bytes] = collections.deque()
        #: What is being written, before `_pieces`.
        self._data = memoryview(b"")
        self._size = 0
        #: Bytes that were taken so far, and those that are written, or lost: `settled` is where the
        #: next write begins.
        self.accepted = self.settled = 0
        #: Whose line has not ended, where one goes on.
        self._open_line: object = None
        self._waiting: Deque[Callable[[], None]] = collections.deque()
        self._task: Optional[Task] = None
        self._work = Event()
        self._idle = Event()
        self._idle.set()
        self._lost = Losses()
        #: True: what was written last is a line without its end.
        self._in_line = False
        #: True: and its end is lost.
        self._torn = False
        self._closed_until = 0.0

    def _write_some(self, data: memoryview) -> int:
        """Write some of it, however long that takes; for a thread. Raises OSError."""
        raise NotImplementedError

    def _tend(self) -> None:
        """What else there is to do before the next write; blocks the task only."""

    def _on_failure(self, error: OSError) -> None:
        """What was to be written is lost."""

    def _on_written(self) -> None:
        """All that waited is written."""

    def _rest(self) -> None:
        """Nothing waits any more, be it written or lost; blocks the task only."""
        # More may have come meanwhile.
        if not self._work.is_set():
            self._idle.set()

    @property
    def full(self) -> bool:
        return self._size >= HIGH_WATER

    def write(self, data: bytes, source: Source = NO_INSTANCE) -> None:
        self._put(data, None)

    def write_raw(self, lines: Lines) -> None:
        self._put(lines.raw, lines.writer)

    def _put(self, data: bytes, writer: object) -> None:
        if self._size >= LIMIT or time.monotonic() < self._closed_until:
            self._drop(data)
            return
        try:
            if self._open_line is not None and self._open_line is not writer:
                data = b"\n" + data
            self._pieces.append(data)
        except MemoryError:
            self._drop(data, "out of memory")
            return
        self._open_line = None if data.endswith(b"\n") else writer
        self._size += len(data)
        self.accepted += len(data)
        self._start_work()

    def _drop(self, data: bytes, reason: str = "") -> None:
        self._lost.count(data, reason)
        if self._open_line is not None:
            # Whoever goes on with it has lost some of it.
            self._open_line = _LOST

    def when_room(self, callback: Callable[[], None]) -> None:
        if self.full:
            self._waiting.append(callback)
        else:
            callback()

    def flush(self, timeout: float) -> bool:
        return bool(self._idle.wait(timeout))

    def _start_work(self) -> None:
        self._idle.clear()
        try:
            if self._task is None:
                self._task = Task(self._main_loop)
            self._work.set()
        except MemoryError:
            pass  # the next line tries again

    def _main_loop(self) -> None:
        """Nothing may end it: each child that prints more than its pipe holds would stop, too."""
        while self._task is not None:
            try:
                self._work.wait()
                self._work.clear()
                self._tend()
                while self._pieces or self._data:
                    self._write_pending()
                self._resume_producers()
                self._rest()
            except (ShortageError, MemoryError):
                self._work.set()
                pause(_RETRY_DELAY)

    def _write_pending(self) -> None:
        """Write all that waits, in order, and report what was lost."""
        if not self._data:
            self._data = self._take()
        while self._data:
            try:
                if self._torn:
                    self._threads.call(self._write_some, memoryview(b"\n"))
                    self._torn = self._in_line = False
                written = self._threads.call(self._write_some, self._next_piece())
            except OSError as error:
                self._failed(error)
                return
            self._in_line = self._data[written - 1] != _NEWLINE
            self._data = self._data[written:]
            self._size -= written
            self.settled += written
            self._resume_producers()
        self._on_written()

    def _take(self) -> memoryview:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return memoryview(data)

    def _next_piece(self) -> memoryview:
        """Of whole lines where that can be."""
        piece = self._data[:_PIECE]
        if len(piece) < len(self._data):
            piece = piece[:bytes(piece).rfind(b"\n") + 1 or _PIECE]
        return piece

    def _failed(self, error: OSError) -> None:
        if error.errno in _SHORTAGES:
            raise MemoryError
        reason = error.strerror or str(error)
        self._lost.count(self._data, reason)
        for piece in self._pieces:
            self._lost.count(piece, reason)
        self._data = memoryview(b"")
        self._pieces.clear()
        self._size = 0
        self.settled = self.accepted
        self._torn = self._in_line
        self._open_line = None
        self._closed_until = time.monotonic() + _DROPPING
        self._on_failure(error)

    def _resume_producers(self) -> None:
        while self._waiting and self._size < LOW_WATER:
            self._waiting[0]()
            self._waiting.popleft()


class DescriptorSink(QueuedSink):
    """A descriptor whose writes may block: a terminal, a pipe. It has a thread of its own."""

    def __init__(self, fd: int) -> None:
        super().__init__(Threads(1))
        self._fd = fd
        self._gone = False

    def write(self, data: bytes, source: Source = NO_INSTANCE) -> None:
        if not self._gone:
            super().write(data, source)

    def write_raw(self, lines: Lines) -> None:
        if not self._gone:
            super().write_raw(lines)

    def _write_some(self, data: memoryview) -> int:
        return write_some(self._fd, data)

    def _on_failure(self, error: OSError) -> None:
        # The number may be given to another file.
        self._gone = error.errno == errno.EBADF

    def _on_written(self) -> None:
        """What was lost is a line of its own, as soon as lines are taken again."""
        if self._lost and self.on_loss is not None:
            self.on_loss("%d bytes of log were lost: %s" % (self._lost.bytes, self._lost.reason))
            self._lost = Losses()


class Losses:
    """How much was dropped, and why."""

    def __init__(self) -> None:
        self.bytes = 0
        self.lines = 0
        self.reason = "nobody took them"

    def __bool__(self) -> bool:
        return self.bytes > 0

    def count(self, data: Union[bytes, memoryview], reason: str = "") -> None:
        self.bytes += len(data)
        self.lines += bytes(data).count(b"\n")
        self.reason = reason or self.reason


def write_some(fd: int, data: memoryview) -> int:
    """Write as much as goes in one call, however long that takes; for a thread. OSError."""
    while True:
        try:
            return os.write(fd, data)
        except BlockingIOError:
            # Whoever shares this descriptor with us has made it non-blocking.
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
