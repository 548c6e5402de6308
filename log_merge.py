"""The lines of several log files and of memory in one order: that of their times.

Lines of one file stay in its order, those of memory in its own, and of equal times those of files
come first. Where a clock was put back, times go back as well: then a line counts as not older than
the one before it, and lines of a file that are older than what memory has of their process still
come before that.
"""

import collections
import heapq
import math
from typing import Callable, Deque, Iterator, List, Optional, Set, Tuple

from log_memory import Borders, Remembered
from log_reading import Entry
from log_streams import LogStream

#: The next lines of a stream; None: there are no more.
Read = Callable[[LogStream], Optional[List[Entry]]]


class _Source:
    """A stream, with the next of its lines at hand."""

    def __init__(self, stream: LogStream, borders: Borders, read: Read) -> None:
        self._stream = stream
        self._borders = borders
        self._read = read
        self._entries: Deque[Entry] = collections.deque()
        self._time = -math.inf
        self._is_over = False

    @property
    def time(self) -> "Optional[float]":
        """None: there are no more lines."""
        return max(self._time, self._entries[0].time) if self._entries else None

    def is_before(self, process: str) -> bool:
        """There may still be lines that are older than what memory has of that process."""
        log = self._stream.log
        if not self._entries or log is None:
            return False
        return self._entries[0].offset < self._borders.limit(log, process or None)

    def fill(self) -> "Iterator[None]":
        while not self._entries and not self._is_over:
            found = self._read(self._stream)
            yield None
            if found is None:
                self._is_over = True
            else:
                self._entries.extend(found)

    def take(self) -> "Iterator[Optional[Entry]]":
        """The next lines, the last of them with its end."""
        while True:
            entry = self._entries.popleft()
            self._time = max(self._time, entry.time)
            yield entry
            yield from self.fill()
            if entry.data.endswith(b"\n"):
                return
            if not self._entries:
                yield Entry(entry.time, b"\n", 1, entry.offset)
                return


def merged(
    streams: "List[Tuple[LogStream, Borders]]", memory: "Iterator[Remembered]", read: Read
) -> "Iterator[Optional[Entry]]":
    """A None among them ends a piece of work."""
    sources = [_Source(stream, borders, read) for stream, borders in streams]
    for source in sources:
        yield from source.fill()
    heap = _heap_of(sources)
    seen: Set[str] = set()
    remembered = next(memory, None)
    while heap or remembered is not None:
        if remembered is not None and (not heap or remembered.block.time < heap[0][0]):
            if remembered.process not in seen:
                seen.add(remembered.process)
                for source in sources:
                    while source.is_before(remembered.process):
                        yield from source.take()
                heap = _heap_of(sources)
            block = remembered.block
            yield Entry(block.time, block.data, block.lines, 0)
            remembered = next(memory, None)
            continue
        _, number, source = heap[0]
        yield from source.take()
        time = source.time
        if time is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (time, number, source))


def _heap_of(sources: "List[_Source]") -> "List[Tuple[float, int, _Source]]":
    found = [(source.time, number, source) for number, source in enumerate(sources)]
    heap = [(time, number, source) for time, number, source in found if time is not None]
    heapq.heapify(heap)
    return heap
