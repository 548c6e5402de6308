"""Log lines in the format of Pup: what pupgevent tells, and what its children print."""

import re
import time
from typing import Callable, Optional

import journal
from errors import encoded
from sinks import NO_INSTANCE, Lines, Sink, Source

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


class Head:
    """What stands before the text of a line: the time, the instance, the category or stream."""

    def __init__(self, instance: str, category: str, color: bytes, clock: Clock) -> None:
        names = "[%s][%s]" % (instance, category) if instance else "[%s]" % category
        self._names = names.encode()
        self._color = color
        self._clock = clock

    def now(self, colored: bool, timed: bool = True) -> bytes:
        stamp = b""
        if timed:
            stamp = time.strftime("[%Y-%m-%d %H:%M:%S]", self._clock()).encode()
        if not colored:
            return stamp + self._names + b" "
        return (_GRAY + stamp if timed else b"") + self._color + self._names + _RESET + b" "


class Log:
    """What pupgevent itself has to say: a line each, never blocking.

    Errors go to a sink of their own where there is one, as what children print to stderr does.
    """

    def __init__(
        self, sink: Sink, verbose: bool = False, clock: Clock = time.localtime,
        errors: Optional[Sink] = None,
    ) -> None:
        self.sink = sink
        self._errors = errors or sink
        self._verbose = verbose
        self._clock = clock
        sink.on_loss = lambda text: self.warning("core", text)

    def debug(self, category: str, text: str, source: Source = NO_INSTANCE) -> None:
        """Only with --verbose."""
        if self._verbose:
            self._write(self.sink, source, category, text, _GRAY, journal.DEBUG)

    def info(self, category: str, text: str, source: Source = NO_INSTANCE) -> None:
        self._write(self.sink, source, category, text, _CYAN, journal.INFO)

    def warning(self, category: str, text: str, source: Source = NO_INSTANCE) -> None:
        self._write(self.sink, source, category, "warning: " + text, _YELLOW, journal.WARNING)

    def error(self, category: str, text: str, source: Source = NO_INSTANCE) -> None:
        self._write(self._errors, source, category, "error: " + text, _RED, journal.ERROR)

    def _write(
        self, sink: Sink, source: Source, category: str, text: str, color: bytes, priority: int
    ) -> None:
        try:
            head = Head(source.instance, category, color, self._clock)
            line = _any_text(" ".join(text.splitlines()))
            sink.write_lines(Lines(line, head.now, source, priority=priority))
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

    def __init__(
        self, sink: Sink, source: Source, stream: str, clock: Clock = time.localtime
    ) -> None:
        self.sink = sink
        self._source = source
        is_stderr = stream == "stderr"
        self._head = Head(source.instance, stream, _RED if is_stderr else _CYAN, clock)
        self._priority = journal.WARNING if is_stderr else journal.INFO
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
            self._write(rest[:cut], ended=False)
            rest = rest[cut:]
        # Last, so that the same bytes can be fed again where memory has run out before.
        self._rest = rest

    def close(self) -> None:
        """Write what came after the last newline."""
        if self._rest:
            self._write(self._rest, ended=False)
            self._rest = b""

    def _write(self, text: bytes, ended: bool = True) -> None:
        self.sink.write_lines(
            Lines(text, self._head.now, self._source, ended, self, self._priority))


def last_line_of(text: bytes) -> str:
    """The last line that says something, without orders to a terminal; empty: there is none.

    Of a stack trace that is the one with the error: what is indented under it is passed over.
    """
    lines = [_ESCAPES.sub("", each) for each in text.decode("utf-8", "replace").splitlines()]
    said = [line for line in lines if line.strip() and not _NODE_VERSION.match(line.strip())]
    outdented = [line for line in said if not line[0].isspace()]
    line = (outdented or said or [""])[-1]
    line = " ".join(printable(line).split())
    if len(line) > _LONGEST_REPEATED:
        return line[: _LONGEST_REPEATED - 3] + "..."
    return line


def printable(line: str) -> str:
    """Without orders to a terminal: what cannot be shown is a space."""
    return "".join(c if c.isprintable() else " " for c in _ESCAPES.sub("", line))


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
