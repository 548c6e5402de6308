"""A terminal as programs see it: a pseudo-terminal of a size, and what is on its screen.

The screen is that of a VT100 as far as pupgevent uses one: what it does not know fails the test.
"""

import codecs
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
import unicodedata
from typing import Any, Dict, List, NamedTuple, Optional

from conftest import eventually
from running import PUPGEVENT

_SEQUENCE = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])")


class Cell(NamedTuple):
    """A place on the screen. The right half of a wide character is an empty text."""

    text: str = " "
    style: str = ""


class Screen:
    """Takes what a program writes. `wraps` and `scrolls` count since the last time that the cursor
    was sent home."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._rest = ""
        self._other: Optional[List[List[Cell]]] = None
        self._style = ""
        self.cursor_shown = True
        self.wraps = self.scrolls = self.frames = 0
        self._clear()

    def _clear(self) -> None:
        self._cells = [[Cell()] * self.width for _ in range(self.height)]
        self._row = self._column = 0
        #: The last column has been written to: the next character wraps.
        self._is_full = False

    @property
    def is_other(self) -> bool:
        """Is it the other screen, which leaves no trace?"""
        return self._other is not None

    @property
    def lines(self) -> List[str]:
        """What stands on it, up to the last line with something."""
        found = ["".join(cell.text for cell in row).rstrip() for row in self._cells]
        while found and not found[-1]:
            found.pop()
        return found

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def style_of(self, text: str, line: str) -> str:
        """How a text looks, in the first line that has the other text; all of it has one style."""
        row = next(row for row, found in enumerate(self.lines) if line in found)
        cells = [cell for cell in self._cells[row] if cell.text]
        first = "".join(cell.text for cell in cells).index(text)
        style, = {cell.style for cell in cells[first : first + len(text)]}
        return style

    def resize(self, width: int, height: int) -> None:
        """Nobody knows what a terminal makes of what it shows: nothing here."""
        self.width, self.height = width, height
        self.frames = 0
        self._clear()

    def feed(self, data: bytes) -> None:
        text = self._rest + self._decoder.decode(data)
        self._rest = ""
        while text:
            if text[0] != "\x1b":
                self._put(text[0])
                text = text[1:]
                continue
            found = _SEQUENCE.match(text)
            if found is None:
                assert len(text) < 3 or (text[1] == "[" and len(text) < 12), repr(text[:20])
                self._rest = text
                return
            self._obey(*found.groups())
            text = text[found.end() :]

    def _put(self, character: str) -> None:
        if character == "\r":
            self._column, self._is_full = 0, False
        elif character == "\n":
            self._next_row()
        else:
            assert ord(character) >= 32, repr(character)
            self._write(character)

    def _write(self, character: str) -> None:
        if unicodedata.combining(character):
            return
        wide = unicodedata.east_asian_width(character) in "WF"
        if self._is_full or self._column + wide >= self.width:
            self.wraps += 1
            self._column, self._is_full = 0, False
            self._next_row()
        self._cells[self._row][self._column] = Cell(character, self._style)
        if wide:
            self._cells[self._row][self._column + 1] = Cell("", self._style)
        self._column += 1 + wide
        if self._column == self.width:
            self._column, self._is_full = self.width - 1, True

    def _next_row(self) -> None:
        self._row += 1
        if self._row == self.height:
            self._row -= 1
            self.scrolls += 1
            self._cells = [*self._cells[1:], [Cell()] * self.width]

    def _obey(self, private: str, parameters: str, order: str) -> None:
        if private:
            assert order in "hl", order
            self._set_mode(parameters, order == "h")
        elif order == "m":
            assert parameters in ("0", "1", "2", "31", "32", "33"), parameters
            self._style = "" if parameters == "0" else parameters
        elif order == "H":
            assert parameters == ""
            self._row = self._column = 0
            self._is_full = False
            self.wraps = self.scrolls = 0
            self.frames += 1
        else:
            assert (order, parameters) in (("K", ""), ("J", "")), (order, parameters)
            blank = [Cell()] * self.width
            self._cells[self._row][self._column :] = blank[self._column :]
            if order == "J":
                for row in range(self._row + 1, self.height):
                    self._cells[row] = list(blank)

    def _set_mode(self, mode: str, on: bool) -> None:
        if mode == "25":
            self.cursor_shown = on
            return
        assert mode == "1049" and on is not self.is_other
        if on:
            self._other = self._cells
            self._clear()
        else:
            self._cells = self._other or []
            self._other = None


class Terminal:
    """`pupgevent WORDS` with a terminal of its own."""

    def __init__(self, *words: str, width: int, height: int, **environment: str) -> None:
        self.screen = Screen(width, height)
        #: All that it has written.
        self.written = b""
        self._fd, self._slave = os.openpty()
        self._set_size()
        self.settings = termios.tcgetattr(self._slave)
        variables: Dict[str, Any] = dict(os.environ, TERM="xterm", **environment)
        if "NO_COLOR" not in environment:
            variables.pop("NO_COLOR", None)
        self.child = subprocess.Popen(
            [*PUPGEVENT, *words], stdin=self._slave, stdout=self._slave, stderr=self._slave,
            env=variables, preexec_fn=_take_terminal)  # noqa: PLW1509 (a test has no threads)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self._slave)
        os.close(self._fd)

    def _set_size(self) -> None:
        size = struct.pack("HHHH", self.screen.height, self.screen.width, 0, 0)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, size)

    def resize(self, width: int, height: int) -> None:
        """As a window is: whoever runs in it gets a SIGWINCH."""
        self.read(0)
        self.screen.resize(width, height)
        self._set_size()

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def read(self, timeout: float = 0.05) -> bool:
        """What it has written goes to the screen. False: nothing came in that time."""
        if not select.select([self._fd], [], [], timeout)[0]:
            return False
        data = os.read(self._fd, 65536)
        self.written += data
        self.screen.feed(data)
        return True

    def shows(self, *texts: str) -> bool:
        """Is all of it on the screen, and is the picture whole?"""
        while self.read(0):
            pass
        return all(text in self.screen.text for text in texts)

    def wait_for(self, *texts: str) -> None:
        try:
            eventually(lambda: self.shows(*texts))
        except AssertionError:
            raise AssertionError("%r are not all in:\n%s" % (texts, self.screen.text)) from None

    def end(self) -> int:
        """Its exit code, once it has ended by itself, and all that it has written is on the
        screen."""
        deadline = time.monotonic() + 60
        while self.child.poll() is None:
            self.read()
            assert time.monotonic() < deadline, self.screen.text
        while self.read(0):
            pass
        return int(self.child.returncode)

    def has_its_settings_back(self) -> bool:
        return termios.tcgetattr(self._slave) == self.settings


def _take_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
