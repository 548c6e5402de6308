"""`pupgevent top`: the status table, again and again, in place where there is a terminal."""

import contextlib
import os
import select
import sys
import termios
import time
import tty
from typing import Any, Dict, Iterator, List

import commands
import tables
from arguments import Arguments

#: Seconds between two tables.
EVERY = 1.0

_ENTER = "\x1b[?1049h\x1b[?25l"  # the other screen, without a cursor (xterm's control sequences)
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"

_HINT = "q ends this"


def top(told: Arguments) -> int:
    """Until `q` or Ctrl-C; raises PupgeventError when there is nobody to ask any more."""
    try:
        if sys.stdout.isatty():
            with _screen() as keys:
                _refresh(told.config, keys)
        else:
            _repeat(told.config)
    except KeyboardInterrupt:
        pass
    return 0


def _repeat(config: str) -> None:
    while True:
        found = _ask(config)
        print("\n".join([tables.title(found), *tables.table(found), ""]), flush=True)
        time.sleep(EVERY)


def _refresh(config: str, keys: "_Keys") -> None:
    while True:
        size = os.get_terminal_size(sys.stdout.fileno())
        _show(frame(_ask(config), size.columns or 80, size.lines or 24))
        if keys.pressed(EVERY) in ("q", "Q"):
            return


def frame(found: "Dict[str, Any]", columns: int, lines: int) -> "List[str]":
    """What is on the screen, which it fits."""
    rows = tables.table(found, columns)
    room = max(1, lines - 3)
    if len(rows) > room:
        rows = [*rows[: room - 1], "(%d lines more)" % (len(rows) - room + 1)]
    text = [tables.title(found), "", *rows]
    if len(text) < lines:
        text.append(_HINT)
    return [line[:columns] for line in text[:lines]]


def _show(text: "List[str]") -> None:
    body = (_REST_OF_LINE + "\r\n").join(text)
    sys.stdout.write(_HOME + body + _REST_OF_LINE + _REST_OF_SCREEN)
    sys.stdout.flush()


def _ask(config: str) -> "Dict[str, Any]":
    found = commands.call(config, {"command": "status"}, lambda answer: None)
    return dict(found["status"])


class _Keys:
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
def _screen() -> "Iterator[_Keys]":
    """The other screen, and keys as they are pressed; puts back what was."""
    listening = sys.stdin.isatty()
    before = termios.tcgetattr(sys.stdin.fileno()) if listening else []
    try:
        if listening:
            tty.setcbreak(sys.stdin.fileno())
        sys.stdout.write(_ENTER)
        yield _Keys(listening)
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        if listening:
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)
