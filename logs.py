"""Log lines, what pupgevent tells and what children print, and the sinks that they go to.

A terminal may be stopped, a pipe may have no reader, a disk may be full. `Sink.write` returns at
once all the same. A producer that is faster than the other side is asked to wait instead: it looks
at `full` before it reads from its child, and is called back when there is room again. So a child
that floods is slowed by its own full pipe, and nobody else is.
"""

import collections
import errno
import os
import re
import select
import time
from typing import Callable, Deque, NamedTuple, Optional

from gevent.event import Event

from concurrency import Task, Threads, pause
from errors import ShortageError, encoded

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

#: Shortages of the machine: the piece is tried again, and nothing is dropped.
_SHORTAGES = (errno.ENOMEM, errno.ENOBUFS)


class Source(NamedTuple):
    """Whom lines are about: an instance, by its name, and the id of its process."""

    process: str
    instance: str


#: Lines of pupgevent that are about no instance.
NO_INSTANCE = Source("", "")


class Sink:
    """Takes lines. This one takes them nowhere, and is the interface of the others."""

    #: Called with a sentence when something was lost, once there is room for it.
    on_loss: Optional[Callable[[str], None]] = None

    @property
    def full(self) -> bool:
        """True: a producer that can wait should, and be called back by `when_room`."""
        return False

    def write(self, data: bytes, source: Source = NO_INSTANCE) -> None:
        """Take whole lines, all about one source; never blocks, never raises."""

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back once, when it is no longer full."""
        callback()

    def flush(self, timeout: float) -> bool:
        """Wait until everything is out; False if that takes longer than `timeout` seconds."""
        return True


class DescriptorSink(Sink):
    """A descriptor whose writes may block; a thread of its own does them.

    One task hands the thread a piece at a time. It is started by the first write and runs as long
    as the program; a thread that hangs in a write does not keep the program from ending. When a
    write fails, what was to be written is lost. Where no thread can be started, or memory is
    short, everything waits and is tried again: producers see a full sink, and nothing ends for
    good.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pieces: Deque[bytes] = collections.deque()
        #: What is being written, before `_pieces`.
        self._data = memoryview(b"")
        self._size = 0
        self._waiting: Deque[Callable[[], None]] = collections.deque()
        self._thread = Threads(1)
        self._task: Optional[Task] = None
        self._work = Event()
        self._idle = Event()
        self._idle.set()
        self._lost = Losses()
        self._gone = False
        #: True: what was written last is a line without its end.
        self._in_line = False
        self._closed_until = 0.0

    @property
    def full(self) -> bool:
        return self._size >= HIGH_WATER

    def write(self, data: bytes, source: Source = NO_INSTANCE) -> None:
        if self._gone:
            return
        if self._size >= LIMIT or time.monotonic() < self._closed_until:
            self._lost.count(len(data))
            return
        try:
            self._pieces.append(data)
        except MemoryError:
            self._lost.count(len(data), "out of memory")
            return
        self._size += len(data)
        self._start_work()

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
        while True:
            try:
                self._work.wait()
                self._work.clear()
                while self._pieces or self._data:
                    self._write_pending()
                self._resume_producers()
                self._idle.set()
            except (ShortageError, MemoryError):
                self._work.set()
                pause(_RETRY_DELAY)

    def _write_pending(self) -> None:
        """Write all that waits, in order, and report what was lost."""
        if not self._data:
            self._data = self._take()
        while self._data:
            try:
                written = self._thread.call(write_some, self._fd, self._data[:_PIECE])
            except OSError as error:
                self._failed(error)
                break
            self._in_line = self._data[written - 1] != _NEWLINE
            self._data = self._data[written:]
            self._size -= written
            self._resume_producers()
        self._report_loss()

    def _take(self) -> memoryview:
        if self._in_line:
            self._pieces.appendleft(b"\n")
            self._in_line = False
            self._size += 1
        data = b"".join(self._pieces)
        self._pieces.clear()
        return memoryview(data)

    def _failed(self, error: OSError) -> None:
        if error.errno in _SHORTAGES:
            raise MemoryError
        self._lost.count(self._size, error.strerror or str(error))
        self._data = memoryview(b"")
        self._pieces.clear()
        self._size = 0
        self._closed_until = time.monotonic() + _DROPPING
        # The number may be given to another file.
        self._gone = error.errno == errno.EBADF

    def _resume_producers(self) -> None:
        while self._waiting and self._size < LOW_WATER:
            self._waiting[0]()
            self._waiting.popleft()

    def _report_loss(self) -> None:
        """As a line of its own, as soon as lines are taken again."""
        if self._lost and self.on_loss is not None and time.monotonic() >= self._closed_until:
            self.on_loss(self._lost.take())


class Losses:
    """How much was dropped, and why, until somebody asks."""

    def __init__(self) -> None:
        self._bytes = 0
        self._reason = ""

    def __bool__(self) -> bool:
        return self._bytes > 0

    def count(self, size: int, reason: str = "") -> None:
        self._bytes += size
        self._reason = reason or self._reason

    def take(self) -> str:
        """A sentence about it; counts from nothing again."""
        text = "%d bytes of log were lost: %s" % (self._bytes, self._reason or "nobody took them")
        self._bytes, self._reason = 0, ""
        return text


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


# Lines, in the format of Pup: what pupgevent tells, and what its children print


#: A line longer than this is given out in pieces, each a line of its own, so that a child which
#: never ends its line costs no more memory than this. Bytes.
LONGEST_LINE = 65536

#: How much of what a child has written last is kept for `LineWriter.last_line`. Bytes.
_TAIL = 2048

#: The longest line that is repeated in a message. Characters.
_LONGEST_REPEATED = 200

#: What tells a terminal to do something, with all that belongs to it: colours, titles (ECMA-48).
_ESCAPES = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\].*?(?:\x07|\x1b\\\\|$)|[ -/]*[0-~])")

#: The end of a stack trace that does not say what has happened.
_NODE_VERSION = re.compile(r"Node\.js v[\d.]+\Z")

_RESET = b"\x1b[0m"
_GRAY = b"\x1b[90m"
_RED = b"\x1b[31m"
_YELLOW = b"\x1b[33m"
_CYAN = b"\x1b[36m"

Clock = Callable[[], time.struct_time]


class LinePrefix:
    """What stands before the text of a line: the time, the instance, the category or stream."""

    def __init__(self, colors: bool = False, clock: Clock = time.localtime) -> None:
        #: May be changed while in use.
        self.colors = colors
        self._clock = clock

    def of(self, instance: str, category: str, color: bytes = _CYAN) -> bytes:
        names = ("[%s][%s]" % (instance, category) if instance else "[%s]" % category).encode()
        stamp = time.strftime("[%Y-%m-%d %H:%M:%S]", self._clock()).encode()
        if not self.colors:
            return stamp + names + b" "
        return _GRAY + stamp + color + names + _RESET + b" "


class Log:
    """What pupgevent itself has to say: a line each, into one sink, never blocking."""

    def __init__(
        self, sink: Sink, colors: bool = False, verbose: bool = False,
        clock: Clock = time.localtime,
    ) -> None:
        #: Both may be changed while in use.
        self.sink = sink
        self.prefix = LinePrefix(colors, clock)
        self._verbose = verbose
        sink.on_loss = lambda text: self.warning("core", text)

    def debug(self, category: str, text: str, source: Source = NO_INSTANCE) -> None:
        """Only with --verbose."""
        if self._verbose:
            self._write(source, category, text, _GRAY)

    def info(self, category: str, text: str, source: Source = NO_INSTANCE) -> None:
        self._write(source, category, text, _CYAN)

    def warning(self, category: str, text: str, source: Source = NO_INSTANCE) -> None:
        self._write(source, category, "warning: " + text, _YELLOW)

    def error(self, category: str, text: str, source: Source = NO_INSTANCE) -> None:
        self._write(source, category, "error: " + text, _RED)

    def _write(self, source: Source, category: str, text: str, color: bytes) -> None:
        try:
            prefix = self.prefix.of(source.instance, category, color)
            self.sink.write(prefix + _any_text(" ".join(text.splitlines())) + b"\n", source)
        except MemoryError:
            pass  # what it tells of shall not fail because it cannot be told


class InstanceLog:
    """What pupgevent has to say about one instance."""

    def __init__(self, log: Log, source: Source) -> None:
        self._log = log
        self._source = source

    def debug(self, text: str) -> None:
        self._log.debug("core", text, self._source)

    def info(self, text: str) -> None:
        self._log.info("core", text, self._source)

    def warning(self, text: str) -> None:
        self._log.warning("core", text, self._source)

    def error(self, text: str) -> None:
        self._log.error("core", text, self._source)


class LineWriter:
    """Makes whole lines of what one stream of one child brings, and writes them to a sink."""

    def __init__(self, sink: Sink, prefix: LinePrefix, source: Source, stream: str) -> None:
        self.sink = sink
        self._prefix = prefix
        self._source = source
        self._stream = stream
        self._color = _RED if stream == "stderr" else _CYAN
        self._rest = b""
        self._tail = b""

    @property
    def last_line(self) -> str:
        """What the child has said last, printable and not long; empty if it has said nothing."""
        return last_line_of(self._tail)

    def feed(self, data: bytes) -> None:
        """Write the lines that are complete, and keep the beginning of the next."""
        self._tail = (self._tail + data[-_TAIL:])[-_TAIL:]
        complete, newline, rest = data.rpartition(b"\n")
        if newline:
            self._write(self._rest + complete)
        else:
            rest = self._rest + data
        while len(rest) > LONGEST_LINE:
            cut = whole_characters(rest, LONGEST_LINE)
            self._write(rest[:cut])
            rest = rest[cut:]
        # Last, so that the same bytes can be fed again where memory has run out before.
        self._rest = rest

    def close(self) -> None:
        """Write what came after the last newline."""
        if self._rest:
            self._write(self._rest)
            self._rest = b""

    def _write(self, lines: bytes) -> None:
        prefix = self._prefix.of(self._source.instance, self._stream, self._color)
        self.sink.write(prefix + lines.replace(b"\n", b"\n" + prefix) + b"\n", self._source)


def last_line_of(text: bytes) -> str:
    """The last line that says something, without orders to a terminal; empty: there is none.

    Of a stack trace that is the one with the error: what is indented under it is passed over.
    """
    lines = [_ESCAPES.sub("", each) for each in text.decode("utf-8", "replace").splitlines()]
    said = [line for line in lines if line.strip() and not _NODE_VERSION.match(line.strip())]
    outdented = [line for line in said if not line[0].isspace()]
    line = (outdented or said or [""])[-1]
    line = " ".join("".join(c if c.isprintable() else " " for c in line).split())
    if len(line) > _LONGEST_REPEATED:
        return line[: _LONGEST_REPEATED - 3] + "..."
    return line


def whole_characters(data: bytes, size: int) -> int:
    """How many bytes, at most `size` and at least three fewer, end with a whole UTF-8 character."""
    for cut in range(size, size - 4, -1):
        if data[cut] & 0xC0 != 0x80:
            return cut
    return size


def _any_text(text: str) -> bytes:
    """Also what cannot be UTF-8: "\\ud800"."""
    try:
        return encoded(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")
