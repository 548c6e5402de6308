"""The lines of before, for `pupgevent logs`: from memory, and what is older from log files.

Memory has the last lines of each process. Where `-n` or `--since` go further back, what is older
comes from the log files, in which memory knows its own beginning: no line is there twice, and none
is missing, whatever is written and rotated meanwhile. It is first found how far back the lines of
each file are wanted. Then those of all files and of memory are merged by their times.

Without either, memory is all that is shown; of a process whose lines are not kept there, the files
show as much as memory would.
"""

import bisect
import math
from typing import Callable, Generator, Iterable, Iterator, List, NamedTuple, Optional

import log_history
import log_merge
from log_history import (
    PIECE_BLOCKS,
    Block,
    LogHistory,
    Wanted,
    end_of_lines,
)
from log_opening import Hint, LogOpener, Readers, may_have
from log_reading import Entry
from outlets import FileUse


class Asked(NamedTuple):
    """Which lines somebody wants to see."""

    #: None: everything.
    wanted: Optional[Wanted]
    #: The last so many; None: it is not said.
    most: Optional[int]
    #: From that time on, in Unix time; None: it is not said.
    since: Optional[float]

    @property
    def goes_back(self) -> bool:
        """Further than memory, where that has less."""
        return self.most is not None or self.since is not None


class LogPast:
    """`uses` tells the log files that there are."""

    def __init__(self, history: LogHistory, uses: "Callable[[], List[FileUse]]") -> None:
        self._history = history
        self._uses = uses
        self._readers = Readers()

    def lines(self, asked: Asked, hint: Hint) -> "Iterator[bytes]":
        """The lines up to this call, oldest first, in pieces of which some are empty: the search
        has taken as long. Blocks the calling greenlet. `hint` is called with a sentence for people
        where not all can be shown."""
        if asked.most == 0:
            return iter(())
        uses = [use for use in self._uses() if may_have(use, asked.wanted)]
        if not asked.goes_back:
            uses = [use for use in uses if not self._is_kept(use)]
            if not uses:
                return self._history.last(asked.wanted)
        return _Search(self._history, asked, uses, self._readers, hint).lines()

    def _is_kept(self, use: FileUse) -> bool:
        """Are the lines of all who write there kept in memory?"""
        return all(self._history.keeps(each.process) for each in use.writers)


class _Search:
    """The answer to one who asks. `uses` are the log files that may have some of it."""

    def __init__(
        self, history: LogHistory, asked: Asked, uses: "List[FileUse]", readers: Readers, hint: Hint
    ) -> None:
        self._asked = asked
        self._began_at = history.began_at
        self._has_files = bool(uses)
        #: The times in files are those of whole seconds.
        self._since = -math.inf if asked.since is None else math.floor(asked.since)
        self._opener = LogOpener(
            history, asked.wanted, self._since, asked.goes_back, uses, readers, hint)
        self._memory = self._opener.memory
        # Now, as how much each file has taken: what comes later is not in it.
        self._rings = history.rings()

    def lines(self) -> "Iterator[bytes]":
        try:
            yield from self._lines()
        finally:
            # At once, also where somebody leaves: no file stays open.
            self._opener.close()

    def _lines(self) -> "Iterator[bytes]":
        looked_at = 0
        for ring in self._rings:
            self._memory.add(ring)
            looked_at += 1 + len(ring.blocks)
            if looked_at >= PIECE_BLOCKS:
                looked_at = 0
                yield b""
        found = yield from self._newest()
        if found is not None:
            entries = (Entry(each.time, each.data, each.lines, 0) for each in reversed(found))
            yield from self._printed(entries, sum(each.lines for each in found))
            return
        yield from self._opener.open_all()
        yield from self._go_back()
        total = self._memory.lines
        for stream, _ in self._opener.streams:
            stream.begin()
            total += stream.count
        merged = log_merge.merged(
            self._opener.streams, self._memory.oldest_first(), self._opener.read)
        yield from self._printed(merged, total)

    def _newest(self) -> "Generator[bytes, None, Optional[List[Block]]]":
        """The blocks that are the answer, the newest first; None: it goes further back than
        memory."""
        most, gone = self._asked.most, self._memory.gone
        is_enough = not self._has_files or max(gone.time, self._began_at) < self._since
        found: List[Block] = []
        lines = 0
        for each in self._memory.newest_first():
            found.append(each.block)
            lines += each.block.lines
            if most is not None and lines >= most:
                is_enough = is_enough or each.number > gone.number
                break
            if len(found) % PIECE_BLOCKS == 0:
                yield b""
        return found if is_enough else None

    def _go_back(self) -> "Iterator[bytes]":
        """Find how far back the lines of each file are wanted."""
        if self._asked.most is not None:
            yield from self._go_back_together(self._asked.most)
            return
        for stream, _ in self._opener.streams:
            if self._asked.since is not None:
                self._opener.step(stream, stream.seek)
                yield b""
                continue
            while stream.frontier > -math.inf and (
                    stream.is_halfway or stream.count < log_history.MOST_LINES):
                self._opener.step(stream, stream.step_back)
                yield b""

    def _go_back_together(self, most: int) -> "Iterator[bytes]":
        """Until there are so many that are newer than all that was not looked at."""
        times: List[float] = []
        counts: List[int] = []
        for each in self._memory.newest_first():
            times.append(max(-each.block.time, times[-1] if times else -math.inf))
            counts.append(each.block.lines + (counts[-1] if counts else 0))
            if len(times) % PIECE_BLOCKS == 0:
                yield b""
        streams = [stream for stream, _ in self._opener.streams]
        while streams:
            latest = max(streams, key=lambda stream: stream.frontier)
            if latest.frontier == -math.inf:
                return
            total = self._memory.lines + sum(stream.count for stream in streams)
            if total >= most and not any(stream.is_halfway for stream in streams):
                at = bisect.bisect_right(times, -latest.frontier)
                newer = (counts[at - 1] if at else 0) + sum(
                    stream.count_until(latest.frontier) for stream in streams)
                if newer >= most:
                    return
            self._opener.step(latest, latest.step_back)
            yield b""

    def _printed(self, entries: "Iterable[Optional[Entry]]", total: int) -> "Iterator[bytes]":
        """The last so many of those lines, of which there are `total`, in pieces."""
        skip = 0 if self._asked.most is None else max(0, total - self._asked.most)
        return log_history.joined(_without_first(entries, skip))


def _without_first(
    entries: "Iterable[Optional[Entry]]", skip: int
) -> "Iterator[Optional[bytes]]":
    """The lines behind so many; None after each piece of work."""
    for looked_at, entry in enumerate(entries, 1):
        if entry is None or looked_at % PIECE_BLOCKS == 0:
            yield None
        if entry is None:
            continue
        data = entry.data
        if skip:
            skipped = min(skip, entry.lines)
            data = data[end_of_lines(data, skipped) :] if entry.lines > skip else b""
            skip -= skipped
        yield data
