"""The terminal of a command: colours, the other screen, and keys as they are pressed."""

import contextlib
import os
import select
import sys
import termios
import tty
from typing import Iterator, List, Optional

_ENTER = "\x1b[?1049h\x1b[?25l"  # the other screen, without a cursor (xterm's control sequences)
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


def wants_colors(fd: int, setting: "Optional[bool]" = None) -> bool:
    """Colours on that descriptor? `setting` is the configuration's, None where it has none.

    Without one: on a terminal, unless NO_COLOR is set and not empty (no-color.org, which also
    says that a program's own configuration goes before it).
    """
    if setting is not None:
        return setting
    return not os.environ.get("NO_COLOR") and os.isatty(fd)


def width(fd: int) -> "Optional[int]":
    """The columns of that descriptor's terminal; None where it is none, or does not know."""
    return (os.get_terminal_size(fd).columns or None) if os.isatty(fd) else None


def show(lines: "List[str]", height: int) -> None:
    """The lines, from the top of a screen of that height on."""
    # Each is cleared before it is written. Behind one that is as wide as the screen, the cursor
    # still stands on its last character, which would be cleared.
    body = "\r\n".join(_REST_OF_LINE + line for line in lines)
    rest = "\r\n" + _REST_OF_SCREEN if len(lines) < height else ""
    sys.stdout.write(_HOME + body + rest)
    sys.stdout.flush()


class Keys:
    """Single keys of a terminal; none where stdin is something else."""

    def __init__(self, listening: bool) -> None:
        self._listening = listening

    def pressed(self, timeout: float) -> str:
        """A key, or nothing within so many seconds."""
        watched = [sys.stdin] if self._listening else []
        if not select.select(watched, [], [], timeout)[0]:
            return ""
        key = os.read(sys.stdin.fileno(), 1).decode("latin-1")
        self._listening = bool(key)
        return key


@contextlib.contextmanager
def screen() -> "Iterator[Keys]":
    """The other screen, and keys as they are pressed; puts back what was."""
    listening = sys.stdin.isatty()
    before = termios.tcgetattr(sys.stdin.fileno()) if listening else []
    try:
        if listening:
            tty.setcbreak(sys.stdin.fileno())
        sys.stdout.write(_ENTER)
        yield Keys(listening)
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        if listening:
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)
