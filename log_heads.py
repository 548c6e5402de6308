"""What stands before the text of a line, read again: its time and its instance; and its colours.

Pure but for the time zone: `[2026-11-23 15:04:05][my-app-1][stdout] text`, by local time.
"""

import re
import time
from typing import Match, Optional

#: Lines that follow one another and begin alike, with the end of the line before: their time, and
#: their names in brackets. One match for many lines, since each costs a few microseconds.
LINES = re.compile(
    rb"\n\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\]((?:\[[^][\n]{1,80}\]){1,2}) [^\n]*"
    rb"(?:\n\[\1\]\2 [^\n]*)*")

#: The same, with the beginning of the text of our own lines.
_PLAIN = re.compile(
    rb"^(\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\])((?:\[[^][\n]{1,80}\])?\[([^][\n]{1,80})\])"
    rb" (?=(warning: |error: )?)",
    re.MULTILINE)

#: As in logs.py.
_COLORS = {b"stderr": b"31", b"error: ": b"31", b"warning: ": b"33"}
_USUAL = b"36"


def instance_of(names: bytes) -> "Optional[str]":
    """The name of the instance among `[my-app-1][stdout]`; None: they are about none."""
    first, among, _ = names[1:-1].partition(b"][")
    return first.decode("ascii", "replace") if among else None


class Stamps:
    """Reads stamps, which mostly are of the same minute as the one before."""

    def __init__(self) -> None:
        self._minute = b""
        self._began_at = 0.0

    def seconds(self, stamp: bytes) -> float:
        """The Unix time; of two that it may be, where the clock was put back, the later."""
        if stamp[:16] != self._minute:
            self._minute = stamp[:16]
            self._began_at = _minute_of(stamp)
        return self._began_at + int(stamp[17:19])


def _minute_of(stamp: bytes) -> float:
    fields = (int(stamp[:4]), int(stamp[5:7]), int(stamp[8:10]), int(stamp[11:13]),
              int(stamp[14:16]), 0)
    try:
        found = [time.mktime((*fields, 0, 0, dst)) for dst in (0, 1)]
        shown = [each for each in found if time.localtime(each)[:6] == fields]
        return max(shown) if shown else time.mktime((*fields, 0, 0, -1))
    except (OverflowError, OSError):
        return 0.0


def colored(data: bytes) -> bytes:
    """Lines with the colours that those of memory have on a terminal; who has them keeps them."""
    return _PLAIN.sub(_color, data)


def _color(head: "Match[bytes]") -> bytes:
    stamp, names, category, said = head.groups()
    # What a child prints may begin with these words, too.
    own = category not in (b"stdout", b"stderr")
    color = _COLORS.get(said if own else category, _USUAL)
    return b"\x1b[90m%s\x1b[%sm%s\x1b[0m " % (stamp, color, names)
