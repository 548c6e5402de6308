"""What of the wanted lines is in memory, and where in the log files it begins.

Each ring of memory drops its oldest lines first, and its lines went to their files in order. So
what a file has about a process, up to the place of the first block that memory has of both, is
older than all that memory has of it; and what is behind that place is in memory.
"""

import heapq
from typing import Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from log_history import Block, Gone, RingContent, Wanted, wants
from log_reading import OpenLog
from log_tracks import LogTrack, Spot


class Remembered(NamedTuple):
    """A block; two never have the same number."""

    number: int
    process: str
    block: Block


class LogMemory:
    """What is wanted of the rings that are added one after the other. `known` are the ids of all
    processes; `marks` is how much each log file has taken, by its number, when it was asked."""

    def __init__(
        self, wanted: "Optional[Wanted]", since: float, known: "Set[str]", marks: "Dict[int, int]"
    ) -> None:
        self._wanted = wanted
        self._since = since
        self._known = known
        self.marks = marks
        #: The processes of those lines; None: all, and our own.
        self.concerned = None if wanted is None else wanted.processes.union(
            self.owner_of(name) for name in wanted.names)
        self._rings: List[List[Remembered]] = []
        #: By process, and by name where that is about no process, and by the number of the file.
        self._firsts: Dict[Tuple[str, int], Block] = {}
        self._late: Dict[Tuple[str, int], Block] = {}
        self.lines = 0
        #: The newest of what memory has had, and has no more.
        self.gone = Gone(0, 0.0)

    def owner_of(self, name: "Optional[str]") -> str:
        """The process of an instance; "" where there is none, as for our own lines."""
        if name is None or name in self._known:
            return name or ""
        stem, dash, number = name.rpartition("-")
        return stem if dash and number.isdigit() and stem in self._known else ""

    def add(self, ring: RingContent) -> None:
        process = ring.process
        firsts = self._firsts
        for block in ring.blocks:
            if block.file:
                firsts.setdefault((process, block.file), block)
                if not process and block.name:
                    self._late.setdefault((block.name, block.file), block)
        if self.concerned is None or process in self.concerned:
            self.gone = max(self.gone, ring.gone)
        chosen = [
            Remembered(block.number, process, block) for block in ring.blocks
            if block.time >= self._since and wants(self._wanted, process, block.name)]
        if chosen:
            self._rings.append(chosen)
            self.lines += sum(each.block.lines for each in chosen)

    def oldest_first(self) -> "Iterator[Remembered]":
        return heapq.merge(*self._rings)

    def newest_first(self) -> "Iterator[Remembered]":
        return heapq.merge(*(ring[::-1] for ring in self._rings), reverse=True)

    def first(self, name: "Optional[str]", file: int) -> "Optional[Block]":
        """The first block about an instance, its process or, with None, about none, that went to a
        file; None: none that went there is in memory."""
        owner = self.owner_of(name)
        if name and not owner:
            return self._late.get((name, file))
        return self._firsts.get((owner, file))

    def border(self, name: "Optional[str]", file: int) -> int:
        """How much a file had taken before that block."""
        first = self.first(name, file)
        return self.marks.get(file, 0) if first is None else first.position


class Borders:
    """Where in a log file and its backups memory begins. `track` is None where nothing was
    written."""

    def __init__(self, memory: LogMemory, file: int, track: "Optional[LogTrack]") -> None:
        self._memory = memory
        self._file = file
        self._track = track
        self._spots: Dict[int, Optional[Spot]] = {}

    def limit(self, log: OpenLog, name: "Optional[str]") -> int:
        """The offset in that file before which the lines of an instance, of a process or, with
        None, our own are older than memory."""
        return self._limit(log, self._memory.border(name, self._file))

    def end(self, log: OpenLog) -> int:
        """The same of everybody's."""
        return self._limit(log, self._memory.marks.get(self._file, 0))

    def _limit(self, log: OpenLog, position: int) -> int:
        if position not in self._spots:
            self._spots[position] = None if self._track is None else self._track.where(position)
        spot = self._spots[position]
        if spot is None or log.generation is None or log.generation < spot.generation:
            return log.size
        return min(spot.offset, log.size) if log.generation == spot.generation else 0


def set_generations(logs: "List[OpenLog]", track: LogTrack, before: Spot) -> None:
    """Tell which turn each file has had; they are the newest first. `before` is where the track
    ended before they were opened.

    One that was compressed, or copied by another tool, is another file by now: it is known by its
    place behind the next one.
    """
    expected = before.generation
    if logs and before.generation and not logs[0].packed and not track.generation_of(logs[0].file):
        # It was begun just now, by us or by another tool.
        expected += 1
    for log in logs:
        known = None if log.packed else track.generation_of(log.file)
        if known == before.generation and log.size < before.offset:
            # It was emptied, and what was in it may be in a copy.
            known += 1
        log.generation = known or (expected if expected > 0 else None)
        expected = 0 if log.generation is None else log.generation - 1
