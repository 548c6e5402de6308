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


def show(text: "List[str]") -> None:
    """The lines, from the top of the screen on."""
    body = (_REST_OF_LINE + "\r\n").join(text)
    sys.stdout.write(_HOME + body + _REST_OF_LINE + _REST_OF_SCREEN)
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
