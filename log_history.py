"""The last lines of each process, kept in memory for `pupgevent logs`.

Each process has a ring of its own: one that floods loses its own lines and nobody else's. A
follower has a queue of its own, from which lines are dropped when it does not keep up; nobody
waits for it.

Each block of lines also knows where it begins in its log file: what is older than memory is before
that (log_past.py).

The history may hold 256 KB for each of many processes. So it is given out in pieces, each of about
half a millisecond of work, and whoever sends them lets the loop turn between two.
"""

import collections
import heapq
import math
import re
import time
from typing import (
    Callable,
    Deque,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Set,
    Tuple,
)

from gevent.event import Event

from errors import counted
from sinks import NO_INSTANCE, Source

#: Of each process. Lines, and bytes.
MOST_LINES, MOST_BYTES = 1000, 256 * 1024

#: Lines that wait for a follower, at most. Bytes.
FOLLOWER_BYTES = 256 * 1024

#: The size of a piece: bytes, unless its only line is longer; and blocks that are looked at for it,
#: until the ring is through in which that number is reached.
PIECE_BYTES, PIECE_BLOCKS = 32 * 1024, 1000

#: What stands before the text of a line, coloured: time, the instance where it is about one, and
#: a category.
_COLORED_PREFIX = re.compile(
    rb"^\x1b\[90m(\[[^]\n]*\])\x1b\[[0-9]+m(\[[^]\n]*\](?:\[[^]\n]*\])?)\x1b\[0m ",
    re.MULTILINE,
)

#: A `Block` as it is kept. The garbage collector walks through each named tuple at every full
#: collection, 60,000 take 14 ms on Python 3.6; plain ones of numbers and bytes it leaves alone.
_Kept = Tuple[int, str, bytes, int, float, float, int, int]


class Block(NamedTuple):
    """Some whole lines that were written at once, all of one instance."""

    number: int
    name: str
    data: bytes
    lines: int
    #: When it was written, by the clock of the history.
    at: float
    #: The same as Unix time.
    time: float
    #: The number of its log file, and where it begins in all that this has taken; 0: it has none.
    file: int = 0
    position: int = 0


class Place(NamedTuple):
    """Where lines begin in all that their log file has taken, and how they look there."""

    file: int
    position: int
    #: Empty: they were not taken.
    data: bytes


#: Of lines that are in no file.
NO_FILE = Place(0, 0, b"")


class Gone(NamedTuple):
    """What a ring has dropped last: its number, and its Unix time."""

    number: int
    time: float


class Wanted(NamedTuple):
    """Which lines: those of these processes, and of these instances."""

    processes: "Set[str]"
    names: "Set[str]"

    def wants(self, process: str, name: str) -> bool:
        return process in self.processes or name in self.names


def wants(wanted: "Optional[Wanted]", process: str, name: str) -> bool:
    """None wants everything."""
    return wanted is None or wanted.wants(process, name)


class _Ring:
    """`keep` is the seconds for which lines are kept; it may be changed while in use."""

    def __init__(self, keep: float) -> None:
        self.keep = keep
        self.gone = Gone(0, 0.0)
        self._blocks: Deque[_Kept] = collections.deque()
        self._lines = 0
        self._bytes = 0

    def __iter__(self) -> "Iterator[_Kept]":
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    def add(self, block: Block) -> None:
        self._blocks.append(tuple(block))  # type: ignore[arg-type]
        self._lines += block.lines
        self._bytes += len(block.data)
        while self._lines > MOST_LINES or self._bytes > MOST_BYTES:
            self._drop_oldest()
        self.drop_old(block.at)

    def drop_old(self, now: float) -> None:
        """Drop what was kept for so long."""
        while self._blocks and now - self._blocks[0][4] >= self.keep:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        oldest = Block._make(self._blocks.popleft())
        self._lines -= oldest.lines
        self._bytes -= len(oldest.data)
        self.gone = Gone(oldest.number, oldest.time)


class LogHistory:
    """A ring of lines for each process that it knows, and one for lines that are about none.

    `clock` is monotonic seconds, `unix_time` tells the time of day.
    """

    def __init__(
        self, clock: "Callable[[], float]" = time.monotonic,
        unix_time: "Callable[[], float]" = time.time,
    ) -> None:
        self._clock = clock
        self._unix_time = unix_time
        #: Lines of before are in no memory.
        self.began_at = unix_time()
        self._no_process = _Ring(math.inf)
        #: By the id of the process.
        self._rings: Dict[str, _Ring] = {NO_INSTANCE.process: self._no_process}
        self._number = 0
        self._followers: Set[Follower] = set()

    def add(self, data: bytes, source: Source, place: Place = NO_FILE) -> None:
        """Whole lines, all about one source."""
        last = _last_part(data)
        position = place.position
        if len(last) < len(data):
            position += end_of_lines(place.data, data.count(b"\n") - last.count(b"\n"))
        self._number += 1
        block = Block(
            self._number, source.instance, last, last.count(b"\n"), self._clock(),
            self._unix_time(), place.file, position)
        self._rings.get(source.process, self._no_process).add(block)
        for follower in self._followers:
            follower.offer(source.process, block)

    def know(self, process: str, keep: float = math.inf) -> None:
        """Its lines get a ring of their own from now on, where they are kept for so many seconds
        and no longer. Idempotent."""
        self._rings.setdefault(process, _Ring(keep)).keep = keep

    def keep_own(self, keep: float) -> None:
        """The same for lines that are about no process."""
        self._no_process.keep = keep

    def forget(self, process: str) -> None:
        """The process is gone from the configuration. A late line about it is about none."""
        self._rings.pop(process, None)

    def last(self, wanted: "Optional[Wanted]", most: "Optional[int]" = None) -> "Iterator[bytes]":
        """The lines that are kept now, oldest first; the last `most` of them.

        In pieces of whole lines. Some pieces are empty: the search for lines has taken as long.
        """
        merge = _MergedRings(list(self._rings.items()), wanted, self._number, self._clock())
        return _joined(merge.oldest_first()) if most is None else _ending(merge, most)

    def rings(self) -> "Iterator[RingContent]":
        """All that is kept now, whoever it is about: one ring after the other, each as it is when
        its turn comes, but without what is newer than this call."""
        return _contents(list(self._rings.items()), self._number, self._clock())

    @property
    def processes(self) -> "Set[str]":
        """The ids of those that it knows."""
        return set(self._rings) - {NO_INSTANCE.process}

    def keeps(self, process: str) -> bool:
        """Are its lines kept in memory at all?"""
        return self._rings.get(process, self._no_process).keep > 0

    def follow(self, wanted: "Optional[Wanted]", most: int = FOLLOWER_BYTES) -> "Follower":
        """Every line from now on, until the follower is closed; so many bytes may wait."""
        follower = Follower(wanted, self._followers.discard, most)
        self._followers.add(follower)
        return follower


class Follower:
    """A bounded queue of the lines that come; of `most` bytes, which may be changed."""

    def __init__(
        self, wanted: "Optional[Wanted]", leave: "Callable[[Follower], None]", most: int
    ) -> None:
        self._wanted = wanted
        self._leave = leave
        self.most = most
        self._waiting: List[bytes] = []
        self._bytes = 0
        self._dropped = 0
        self._news = Event()

    def offer(self, process: str, block: Block) -> None:
        if not wants(self._wanted, process, block.name):
            return
        if self._bytes + len(block.data) > self.most:
            self._dropped += block.lines
        else:
            self._waiting.append(block.data)
            self._bytes += len(block.data)
        self._news.set()

    def take(self, timeout: float) -> bytes:
        """Lines, or nothing after so many seconds; blocks the calling greenlet."""
        self._news.wait(timeout)
        self._news.clear()
        data = b"".join(self._waiting)
        if self._dropped:
            data += b"(%s left out: reading was too slow)\n" % (
                counted(self._dropped, "line").encode()
            )
        self._waiting, self._bytes, self._dropped = [], 0, 0
        return data

    def close(self) -> None:
        self._leave(self)


class _MergedRings:
    """The wanted blocks of all rings up to a number, in one order.

    A None among them ends a piece of work: it is time to let the loop turn.
    """

    def __init__(
        self, rings: "List[Tuple[str, _Ring]]", wanted: "Optional[Wanted]", newest: int,
        now: float,
    ) -> None:
        self._rings = rings
        self._wanted = wanted
        self._newest = newest
        self._now = now

    def oldest_first(self) -> "Iterator[Optional[Block]]":
        return self._merge(1)

    def newest_first(self) -> "Iterator[Optional[Block]]":
        return self._merge(-1)

    def _merge(self, step: int) -> "Iterator[Optional[Block]]":
        """Each ring is in order, and is copied in one go: it may change while this goes on."""
        # With the number first, which two blocks never share, nothing else is compared.
        heap: List[Tuple[int, int, List[_Kept]]] = []
        looked_at = 0
        for process, ring in self._rings:
            blocks = self._choose(process, ring)[::step]
            if blocks:
                heapq.heappush(heap, (step * blocks[0][0], 0, blocks))
            looked_at += 1 + len(ring)
            if looked_at >= PIECE_BLOCKS:
                looked_at = 0
                yield None
        while heap:
            _, at, blocks = heap[0]
            yield Block._make(blocks[at])
            if at + 1 < len(blocks):
                heapq.heapreplace(heap, (step * blocks[at + 1][0], at + 1, blocks))
            else:
                heapq.heappop(heap)

    def _choose(self, process: str, ring: _Ring) -> "List[_Kept]":
        wanted = self._wanted
        ring.drop_old(self._now)
        return [
            kept
            for kept in ring
            if kept[0] <= self._newest and (wanted is None or wanted.wants(process, kept[1]))
        ]


class RingContent(NamedTuple):
    """What a ring holds."""

    #: "": of lines about none.
    process: str
    gone: Gone
    blocks: List[Block]


def _contents(
    rings: "List[Tuple[str, _Ring]]", newest: int, now: float
) -> "Iterator[RingContent]":
    for process, ring in rings:
        ring.drop_old(now)
        blocks = [Block._make(kept) for kept in ring if kept[0] <= newest]
        yield RingContent(process, ring.gone, blocks)


def _joined(blocks: "Iterable[Optional[Block]]") -> "Iterator[bytes]":
    return joined(None if block is None else block.data for block in blocks)


def joined(texts: "Iterable[Optional[bytes]]") -> "Iterator[bytes]":
    """Whole lines in pieces of what is sent at a time; at None, as much as there is: it may be
    nothing."""
    parts: List[bytes] = []
    size = 0
    for text in texts:
        if text is None:
            yield b"".join(parts)
            parts, size = [], 0
            continue
        for part in pieces(text):
            if size + len(part) > PIECE_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
            parts.append(part)
            size += len(part)
    yield b"".join(parts)


def _ending(merge: _MergedRings, most: int) -> "Iterator[bytes]":
    found: List[Block] = []
    lines = 0
    for block in merge.newest_first():
        if block is None:
            yield b""
            continue
        found.append(block)
        lines += block.lines
        if lines >= most:
            needed = block.lines - (lines - most)
            found[-1] = block._replace(data=_last_lines(block.data, needed))
            break
        if len(found) % PIECE_BLOCKS == 0:
            yield b""
    yield from _joined(reversed(found))


def pieces(data: bytes) -> "Iterator[bytes]":
    """Whole lines, cut behind lines into what is sent at a time."""
    start = 0
    while start < len(data):
        end = (
            data.rfind(b"\n", start, start + PIECE_BYTES) + 1
            or data.find(b"\n", start) + 1
            or len(data)
        )
        yield data[start:end]
        start = end


def uncolored(data: bytes) -> bytes:
    """Lines without the colours of their prefixes; what an application has coloured stays."""
    return _COLORED_PREFIX.sub(rb"\1\2 ", data)


def _last_part(data: bytes) -> bytes:
    """The last lines of a block that have room in a ring."""
    if len(data) > MOST_BYTES:
        data = data[data.find(b"\n", len(data) - MOST_BYTES - 1) + 1 :]
    if data.count(b"\n") > MOST_LINES:
        data = _last_lines(data, MOST_LINES)
    return data


def end_of_lines(data: bytes, lines: int) -> int:
    """Where the first so many end; that of all, where there are fewer."""
    end = 0
    for _ in range(lines):
        end = data.find(b"\n", end) + 1
        if not end:
            return len(data)
    return end


def _last_lines(data: bytes, most: int) -> bytes:
    pieces = data.rsplit(b"\n", most + 1)
    return b"\n".join(pieces[1:]) if len(pieces) > most + 1 else data


