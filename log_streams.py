"""The wanted lines of a log file and its backups, as one stream: how far back, and then forwards.

`step_back` and `more` read one piece each, and are for threads. First it is found how far back the
lines are wanted, without keeping any; then they are read from there on.
"""

import bisect
import math
from typing import List, NamedTuple, Optional, Tuple

from log_history import end_of_lines
from log_reading import AnyPicker, BackwardCount, Entry, OpenLog, Reader, first_since

#: So many of the last lines of a raw file have a time each; those before have it in bulk.
_TIMED = 1000

#: Seconds by which the time of a file may be behind that of its last line.
_TICK = 1.0


class Part(NamedTuple):
    """A file, up to where its lines are wanted."""

    log: OpenLog
    end: int
    picker: AnyPicker


class LogStream:
    """`parts` are the newest first. `last_line`: Unix time of the last line of a raw file, where
    nothing tells the time of each: every line counts as a second older than the next, so that the
    lines of several such files take turns. `since`: no line is wanted from before that time.
    """

    def __init__(
        self, path: str, parts: "List[Part]", last_line: "Optional[float]", since: float
    ) -> None:
        self.path = path
        self._older = list(parts)
        self._last_line = last_line
        self._since = since
        #: Newest first, with their beginnings.
        self._chosen: List[Tuple[Part, int]] = []
        self._counting: Optional[BackwardCount] = None
        self._counted = 0
        #: No line that is not counted yet is newer; -inf: there is none.
        self.frontier = -math.inf
        if parts:
            newest = parts[0].log.file.st_mtime + _TICK
            self.frontier = newest if last_line is None else last_line
        #: How many lines were counted when the frontier was there, which is kept negated.
        self._frontiers: List[float] = []
        self._counts: List[int] = []
        self._reader: Optional[Reader] = None
        #: Whose entries `more` has brought.
        self.log: Optional[OpenLog] = None
        self._left = 0

    # Back

    @property
    def count(self) -> int:
        """The wanted lines from there on."""
        return self._counted + (0 if self._counting is None else self._counting.count)

    @property
    def is_halfway(self) -> bool:
        """The count is not yet that of whole pieces."""
        return self._counting is not None and self._counting.is_halfway

    def step_back(self) -> bool:
        """Count the lines of one more piece; False: there is no more. OSError."""
        counting = self._counting or self._open_older()
        if counting is None:
            self.end_search()
            return False
        goes_on = counting.step()
        self._chosen[-1] = (self._chosen[-1][0], counting.start)
        if counting.is_halfway:
            return True
        if counting.oldest is not None:
            self.frontier = min(self.frontier, counting.oldest)
        elif self._last_line is not None:
            self.frontier = self._last_line - self.count
        self._frontiers.append(-self.frontier)
        self._counts.append(self.count)
        if self.frontier < self._since:
            self.end_search()
        elif not goes_on:
            self._counted, self._counting = self.count, None
        return True

    def end_search(self) -> None:
        """What is older is not wanted, or cannot be had."""
        self._older.clear()
        self._counted, self._counting = self.count, None
        self.frontier = -math.inf

    def count_until(self, time: float) -> int:
        """How many lines were counted while nothing older than that was looked at."""
        at = bisect.bisect_right(self._frontiers, -time)
        return self._counts[at - 1] if at else 0

    def _open_older(self) -> "Optional[BackwardCount]":
        if not self._older or _is_before(self._older[0], self._since):
            return None
        part = self._older.pop(0)
        self._counting = BackwardCount(part.log, part.picker, part.end)
        self._chosen.append((part, part.end))
        return self._counting

    def seek(self) -> None:
        """Go back to `since` at once, without counting. OSError."""
        for part in self._older:
            if _is_before(part, self._since):
                break
            self._chosen.append((part, 0))
        self._older.clear()
        if self._chosen:
            part = self._chosen[-1][0]
            if not part.log.packed and self._last_line is None:
                start = first_since(part.log, self._since, part.end)
                self._chosen[-1] = (part, start)

    # Forwards

    def begin(self) -> None:
        """From there on the lines will be read; what is older is closed."""
        self.end_search()
        self._left = self._counted

    def more(self) -> "Optional[List[Entry]]":
        """The lines of the next piece, which may be none; None: there are no more. OSError."""
        while True:
            if self._reader is None:
                if not self._chosen:
                    return None
                part, start = self._chosen.pop()
                self.log = part.log
                self._reader = Reader(part.log, part.picker.fresh(), start, part.end)
            entries = self._reader.more()
            if entries is not None:
                return entries if self._last_line is None else self._timed(entries)
            self._reader = None

    def _timed(self, entries: "List[Entry]") -> "List[Entry]":
        """Of a raw file, each line with its time."""
        found: List[Entry] = []
        if not self._left:
            return entries
        for entry in entries:
            at = 0
            if self._left > _TIMED:
                lines = min(entry.lines, self._left - _TIMED)
                at = end_of_lines(entry.data, lines) or len(entry.data)
                found.append(self._take(entry, entry.data[:at]))
            while at < len(entry.data):
                end = entry.data.find(b"\n", at) + 1 or len(entry.data)
                found.append(self._take(entry, entry.data[at:end]))
                at = end
        return found

    def _take(self, entry: Entry, data: bytes) -> Entry:
        lines = data.count(b"\n")
        time = (self._last_line or 0.0) - self._left
        self._left = max(0, self._left - lines)
        return Entry(time, data, lines, entry.offset)


def _is_before(part: Part, since: float) -> bool:
    """All of its lines are from before that time."""
    return part.log.file.st_mtime + _TICK < since
