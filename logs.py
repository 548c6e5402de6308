"""Pup's lines: what pupgevent tells, and what its children print.

    [2026-11-23 15:04:05][my-app-1][stdout] text of the child
    [2026-11-23 15:04:05][my-app-1][core] started, pid 4711
    [2026-11-23 15:04:05][balancer] text about no instance in particular

A child's bytes stay bytes all the way. They are never decoded, so whatever is not UTF-8 comes
out as it went in, and heading each line of a 64 KB read is one `replace` that runs in C.
"""

import os
import time
from typing import Callable, Optional

from sinks import Sink

#: A line longer than this is given out in pieces, each a line of its own, so that a child which
#: never ends its line costs no more memory than this. Bytes.
LONGEST_LINE = 65536

_RESET = b"\x1b[0m"
_GRAY = b"\x1b[90m"
_RED = b"\x1b[31m"
_YELLOW = b"\x1b[33m"
_CYAN = b"\x1b[36m"

Clock = Callable[[], time.struct_time]


def wants_colors(fd: int, setting: Optional[bool] = None) -> bool:
    """Colours on that descriptor? `setting` is the configuration's, None where it has none.

    Without one: on a terminal, unless NO_COLOR is set and not empty (no-color.org, which also
    says that a program's own configuration goes before it).
    """
    if setting is not None:
        return setting
    return not os.environ.get("NO_COLOR") and os.isatty(fd)


class Heads:
    """Makes what stands before the text of a line."""

    def __init__(self, colors: bool = False, clock: Clock = time.localtime) -> None:
        #: May be changed while in use.
        self.colors = colors
        self._clock = clock

    def head(self, who: str, category: str, color: bytes = _CYAN) -> bytes:
        names = ("[%s][%s]" % (who, category) if who else "[%s]" % category).encode()
        stamp = time.strftime("[%Y-%m-%d %H:%M:%S]", self._clock()).encode()
        if not self.colors:
            return stamp + names + b" "
        return _GRAY + stamp + color + names + _RESET + b" "


class Log:
    """What pupgevent itself has to say: a line each, into one sink, never blocking.

    `who` is the instance that a line is about, where it is about one.
    """

    def __init__(
        self, sink: Sink, colors: bool = False, verbose: bool = False,
        clock: Clock = time.localtime,
    ) -> None:
        #: Both may be changed while in use.
        self.sink = sink
        self.heads = Heads(colors, clock)
        self._verbose = verbose
        sink.on_loss = lambda text: self.warning("core", text)

    def debug(self, category: str, text: str, who: str = "") -> None:
        """Only with --verbose."""
        if self._verbose:
            self._write(who, category, text, _GRAY)

    def info(self, category: str, text: str, who: str = "") -> None:
        self._write(who, category, text, _CYAN)

    def warning(self, category: str, text: str, who: str = "") -> None:
        self._write(who, category, "warning: " + text, _YELLOW)

    def error(self, category: str, text: str, who: str = "") -> None:
        self._write(who, category, "error: " + text, _RED)

    def _write(self, who: str, category: str, text: str, color: bytes) -> None:
        try:
            head = self.heads.head(who, category, color)
            self.sink.write(head + encode(" ".join(text.splitlines())) + b"\n")
        except MemoryError:
            pass  # what it tells of shall not fail because it cannot be told


class LineWriter:
    """Makes whole lines of what one stream of one child brings, and writes them to a sink."""

    def __init__(self, sink: Sink, heads: Heads, who: str, stream: str) -> None:
        self.sink = sink
        self._heads = heads
        self._who = who
        self._stream = stream
        self._color = _RED if stream == "stderr" else _CYAN
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Write the lines that are complete, and keep the beginning of the next."""
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
        head = self._heads.head(self._who, self._stream, self._color)
        self.sink.write(head + lines.replace(b"\n", b"\n" + head) + b"\n")


def whole_characters(data: bytes, size: int) -> int:
    """How many bytes, at most `size` and at least three fewer, end with a whole UTF-8 character."""
    for cut in range(size, size - 4, -1):
        if data[cut] & 0xC0 != 0x80:
            return cut
    return size


def encode(text: str) -> bytes:
    """UTF-8; what was no UTF-8 before it became text is the same bytes again."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")
