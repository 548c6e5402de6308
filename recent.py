"""The last lines of everyone, kept in memory for `pupgevent logs`.

Each process has a ring of its own: one that floods forgets its own lines and nobody else's. A
follower has a queue of its own, from which lines are dropped when it does not keep up; nobody
waits for it.
"""

import collections
import re
from typing import Any, Callable, Deque, Dict, Iterator, List, NamedTuple, Optional, Set

from gevent.event import Event

from sinks import Sink

#: Of each process. Lines, and bytes.
MOST_LINES, MOST_BYTES = 1000, 256 * 1024

#: What a follower may be behind. Bytes.
FOLLOWER_BYTES = 256 * 1024

#: A line's head, coloured or not: time, then who said it where that is told, then a category.
_HEAD = re.compile(
    rb"^(?:\x1b\[90m)?(\[[^]\n]*\])(?:\x1b\[[0-9]+m)?(\[([^]\n]*)\](\[[^]\n]*\])?)(?:\x1b\[0m)? ",
    re.MULTILINE,
)

#: The ring of what is about no process in particular.
_OURS = ""


class Block(NamedTuple):
    """Some whole lines that were written at once, all of one instance."""

    number: int
    name: str
    data: bytes
    lines: int


class Wanted(NamedTuple):
    """Which lines: those of these processes, and of these instances."""

    processes: "Set[str]"
    names: "Set[str]"

    def wants(self, process: str, name: str) -> bool:
        return process in self.processes or name in self.names


class _Ring:
    def __init__(self) -> None:
        self._blocks: Deque[Block] = collections.deque()
        self._lines = 0
        self._bytes = 0

    def __iter__(self) -> "Iterator[Block]":
        return iter(self._blocks)

    def add(self, block: Block) -> None:
        self._blocks.append(block)
        self._lines += block.lines
        self._bytes += len(block.data)
        while self._lines > MOST_LINES or self._bytes > MOST_BYTES:
            oldest = self._blocks.popleft()
            self._lines -= oldest.lines
            self._bytes -= len(oldest.data)


class Recent:
    """Takes what passes its sinks. `process_of` tells the process of an instance, or None."""

    def __init__(self, process_of: "Callable[[str], Optional[str]]") -> None:
        self._process_of = process_of
        self._rings: Dict[str, _Ring] = {}
        self._number = 0
        self._followers: Set[Follower] = set()

    def sink(self, onward: Sink) -> "Tee":
        """A sink whose lines are remembered on their way to another."""
        return Tee(onward, self.add)

    def add(self, data: bytes) -> None:
        """Whole lines with their heads; they are all of the one whom the first head names."""
        data = _last_part(data)
        head = _HEAD.match(data)
        name = head.group(3).decode() if head and head.group(4) else _OURS
        process = (name and self._process_of(name)) or _OURS
        self._number += 1
        block = Block(self._number, name, data, data.count(b"\n"))
        self._rings.setdefault(process, _Ring()).add(block)
        for follower in self._followers:
            follower.offer(process, block)

    def forget(self, process: str) -> None:
        """The process is gone from the configuration."""
        self._rings.pop(process, None)

    def last(self, wanted: "Optional[Wanted]", most: "Optional[int]" = None) -> bytes:
        """The lines that are left, in the order they came; `most` lines of them at most."""
        blocks = [
            block
            for process, ring in self._rings.items()
            for block in ring
            if wanted is None or wanted.wants(process, block.name)
        ]
        blocks.sort(key=lambda block: block.number)
        data = b"".join(block.data for block in blocks)
        return data if most is None else _last_lines(data, most)

    def follow(self, wanted: "Optional[Wanted]") -> "Follower":
        """Everything from now on, until its `close`."""
        follower = Follower(wanted, self._followers.discard)
        self._followers.add(follower)
        return follower


class Follower:
    """A bounded queue of lines to come."""

    def __init__(self, wanted: "Optional[Wanted]", leave: "Callable[[Any], None]") -> None:
        self._wanted = wanted
        self._leave = leave
        self._waiting: List[bytes] = []
        self._bytes = 0
        self._dropped = 0
        self._news = Event()

    def offer(self, process: str, block: Block) -> None:
        if self._wanted is not None and not self._wanted.wants(process, block.name):
            return
        if self._bytes + len(block.data) > FOLLOWER_BYTES:
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
            data += b"(%d lines are left out: they came faster than they were read)\n" % (
                self._dropped
            )
        self._waiting, self._bytes, self._dropped = [], 0, 0
        return data

    def close(self) -> None:
        self._leave(self)


class Tee(Sink):
    """Shows lines to somebody on their way; it is as full as where they go."""

    def __init__(self, onward: Sink, show: "Callable[[bytes], None]") -> None:
        #: May be changed while in use.
        self.onward = onward
        self._show = show

    @property
    def full(self) -> bool:
        return self.onward.full

    def write(self, data: bytes) -> None:
        try:
            self._show(data)
        except MemoryError:
            pass  # not remembered
        self.onward.write(data)

    def when_room(self, callback: "Callable[[], None]") -> None:
        self.onward.when_room(callback)

    def flush(self, timeout: float) -> bool:
        return self.onward.flush(timeout)


def uncolored(data: bytes) -> bytes:
    """Lines without the colours of their heads; what an application has coloured stays."""
    return _HEAD.sub(rb"\1\2 ", data)


def _last_part(data: bytes) -> bytes:
    """What of a block has room in a ring."""
    if len(data) > MOST_BYTES:
        data = data[data.find(b"\n", len(data) - MOST_BYTES - 1) + 1 :]
    if data.count(b"\n") > MOST_LINES:
        data = _last_lines(data, MOST_LINES)
    return data


def _last_lines(data: bytes, most: int) -> bytes:
    pieces = data.rsplit(b"\n", most + 1)
    return b"\n".join(pieces[1:]) if len(pieces) > most + 1 else data


