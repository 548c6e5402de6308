"""Log files, read again: their lines from the end backwards, or from a place on, in bounded pieces.

All of this may block, and is for threads: each call reads one piece, and works on it for no longer
than the hub can wait. What is held is a piece and the line under way, whatever a file holds: bytes
of any kind, a line of gigabytes, a backup that is not gzip. A file may be renamed and removed
meanwhile, since it stays open; one that is emptied ends.

Which lines are wanted is what a picker says. That of a decorated file reads the time and the
instance before each; a line that has none belongs to the one above it. In a raw file nothing tells
a line from another, so all are wanted or none, and they get a label in front.
"""

import errno
import math
import os
import stat
import threading
import zlib
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

import log_files
from log_heads import LINES, Stamps, instance_of

#: Read at a time. Bytes.
PIECE = 64 * 1024

#: No offset is so high.
ENDLESS = 1 << 62

#: Seconds for backups to get their names, before it is looked what they are called.
_PATIENCE = 1.0

#: Names in brackets whose limits are remembered, at most: garbage has any number of them.
_MOST_NAMES = 10000

#: Seconds by which times of a file may go back, as where the clock is put back.
_DISORDER = 7200.0


class Entry(NamedTuple):
    """Lines of a file that follow one another, all of one second."""

    #: Unix time.
    time: float
    #: Without an end: the last line goes on in the next entry, which then does not count it again.
    data: bytes
    lines: int
    #: Where it begins.
    offset: int


class OpenLog:
    """An open file, or what could not be opened: that has no size. It is closed when nobody uses it
    any more, a thread that hangs included."""

    def __init__(self, fd: int, file: os.stat_result, packed: bool, slots: Any) -> None:
        self._fd = fd
        self._slots = slots
        self.file = file
        self.packed = packed
        #: Of those that pupgevent has written to; None: it is of before.
        self.generation: Optional[int] = None

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._slots.release()

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    @property
    def size(self) -> int:
        """ENDLESS for one that is compressed: how long it is would have to be read."""
        if self._fd < 0:
            return 0
        return ENDLESS if self.packed else self.file.st_size

    def read(self, size: int, offset: int) -> bytes:
        # Never by the position: another thread may still read that was given up.
        return os.pread(self._fd, size, offset)


def open_files(
    path: str, backups: bool, names: "Optional[threading.Lock]", slots: Any
) -> "List[OpenLog]":
    """The log file and its backups, the newest first. OSError: too many are open.

    `names` is held while backups get other names; `slots` is a semaphore with a place for each file
    that may be open.
    """
    held = names is not None and names.acquire(timeout=_PATIENCE)
    try:
        logs = [_open(path, slots)]
        while backups and (logs[-1] is not None or len(logs) == 1):
            name = "%s.%d" % (path, len(logs))
            # In this order: the second takes the place of the first.
            logs.append(_open(name, slots) or _open(name + ".gz", slots))
        found: Dict[Tuple[int, int], OpenLog] = {}
        for log in logs:
            if log is not None:
                # Another pupgevent may have renamed it meanwhile.
                found.setdefault((log.file.st_dev, log.file.st_ino), log)
        return list(found.values())
    finally:
        if held and names is not None:
            names.release()


def _open(path: str, slots: Any) -> "Optional[OpenLog]":
    """None: there is none."""
    try:
        file = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError:
        file = os.lstat(path)
    packed = path.endswith(".gz")
    # Of a pipe this would be a reader, and a device may do something when it is opened.
    if stat.S_ISREG(file.st_mode):
        if not slots.acquire(False):
            raise OSError(errno.EMFILE, "too many log files are open")
        try:
            fd = _descriptor(path)
            return OpenLog(fd, os.fstat(fd), packed, slots)
        except OSError:
            slots.release()
    return OpenLog(-1, file, packed, slots)


def _descriptor(path: str) -> int:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno != errno.ELOOP or not log_files.may_follow_links(os.path.dirname(path)):
            raise
    return os.open(path, flags)


# Which lines of a file


class Picker:
    """Picks lines of a decorated file.

    `limit_of(name)` is the offset before which lines of an instance are wanted; of our own with
    None, and of those before the first head with "". `since`: from that time on.
    """

    def __init__(self, limit_of: "Callable[[Optional[str]], int]", since: float) -> None:
        self._limit_of = limit_of
        self._since = since
        self._limits: Dict[bytes, int] = {}
        self._stamps = Stamps()
        #: Of the line above.
        self._time = -math.inf
        self._limit = limit_of("")
        #: Of the first line that has one.
        self.first_time: Optional[float] = None

    def fresh(self) -> "Picker":
        return Picker(self._limit_of, self._since)

    def first_line(self, data: bytes) -> int:
        """Where the first line begins that can be told from what stands before it; -1: nowhere."""
        found = LINES.search(data)
        return -1 if found is None else found.start() + 1

    def pick(self, data: bytes, offset: int, in_line: bool = False) -> "List[Entry]":
        """Those among whole lines, or in a part of one; `in_line`: it begins with such a part."""
        found: List[Entry] = []
        start = 0
        for lines in LINES.finditer(data if in_line else b"\n" + data):
            time, limit = self._read(*lines.groups())
            if time != self._time or limit != self._limit:
                at = lines.start() + in_line
                self._end(found, data, start, at, offset)
                start, self._time, self._limit = at, time, limit
        self._end(found, data, start, len(data), offset)
        return found

    def _read(self, stamp: bytes, names: bytes) -> "Tuple[float, int]":
        time = self._stamps.seconds(stamp)
        if self.first_time is None:
            self.first_time = time
        limit = self._limits.get(names)
        if limit is None:
            if len(self._limits) > _MOST_NAMES:
                self._limits.clear()
            limit = self._limits[names] = self._limit_of(instance_of(names))
        return time, limit

    def _end(self, found: "List[Entry]", data: bytes, start: int, end: int, offset: int) -> None:
        if self._time < self._since:
            return
        limit = self._limit - offset
        chosen = data[start : min(end, limit)]
        if limit > start and chosen:
            if limit < end and not chosen.endswith(b"\n"):
                # Where memory begins, a line may have had no end yet.
                chosen += b"\n"
            found.append(Entry(self._time, chosen, chosen.count(b"\n"), offset + start))


class RawPicker:
    """Picks the lines of a raw file before an offset, all as of one time, and puts a label before
    each."""

    first_time: Optional[float] = None

    def __init__(self, limit: int, label: bytes, time: float) -> None:
        self._limit = limit
        self._label = label
        self._time = time

    def fresh(self) -> "RawPicker":
        return self

    def first_line(self, data: bytes) -> int:
        """Where a line begins that ends later; -1: nowhere."""
        return data.find(b"\n", 0, -1) + 1 or -1

    def pick(self, data: bytes, offset: int, in_line: bool = False) -> "List[Entry]":
        if self._limit - offset < len(data):
            data = data[: max(0, self._limit - offset)]
            data += b"" if data.endswith(b"\n") or not data else b"\n"
        if not data:
            return []
        inner, last = data[:-1], data[-1:]
        text = inner.replace(b"\n", b"\n" + self._label) + last
        return [Entry(
            self._time, text if in_line else self._label + text, data.count(b"\n"), offset)]


AnyPicker = Union[Picker, RawPicker]


# The bytes of a file, forwards and backwards


class Reader:
    """The entries of a file from a place on, up to another."""

    def __init__(self, log: OpenLog, picker: AnyPicker, start: int, end: int) -> None:
        self._log = log
        self._picker = picker
        self._at = start
        self._end = end
        #: The line under way, and whether its beginning was given out.
        self._rest = b""
        self._in_line = False
        self._unpacker = Unpacker(log) if log.packed else None
        self._over = False

    def more(self) -> "Optional[List[Entry]]":
        """The entries of the next piece; None: there is no more. OSError."""
        if self._over:
            return None
        data = self._next()
        if data is None:
            self._over = True
            rest, self._rest = self._rest, b""
            if not rest and not self._in_line:
                return None
            # A line that has no end gets one here.
            return self._pick(rest + b"\n")
        data = self._rest + data
        cut = data.rfind(b"\n") + 1
        if not cut and len(data) > PIECE:
            cut = len(data)
        self._rest = data[cut:]
        return self._pick(data[:cut])

    def _pick(self, data: bytes) -> "List[Entry]":
        if not data:
            return []
        entries = self._picker.pick(data, self._at, self._in_line)
        self._at += len(data)
        self._in_line = not data.endswith(b"\n")
        return entries

    def _next(self) -> "Optional[bytes]":
        at = self._at + len(self._rest)
        size = min(PIECE, self._end - at)
        if size <= 0:
            return None
        if self._unpacker is None:
            return self._log.read(size, at) or None
        data = self._unpacker.more()
        return None if data is None else data[:size]


class Unpacker:
    """What a compressed file holds, from its beginning."""

    def __init__(self, log: OpenLog) -> None:
        self._log = log
        self._at = 0
        self._packed = b""
        self._stream: Any = _gunzip()

    def more(self) -> "Optional[bytes]":
        """The next piece, which may be empty; None: there is no more, or the rest is no gzip.
        OSError."""
        if not self._packed:
            self._packed = self._log.read(PIECE, self._at)
            self._at += len(self._packed)
            if not self._packed:
                return None
        try:
            data: bytes = self._stream.decompress(self._packed, PIECE)
        except zlib.error:
            return None
        self._packed = self._stream.unconsumed_tail
        if self._stream.eof:
            # Another member may follow.
            self._packed, self._stream = self._stream.unused_data, _gunzip()
        return data


def _gunzip() -> Any:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


class BackwardCount:
    """Counts the wanted lines of a file, from its end backwards; one that is compressed is counted
    as a whole."""

    def __init__(self, log: OpenLog, picker: AnyPicker, end: int) -> None:
        self._log = log
        self._picker = picker
        #: From here on all is counted.
        self.start = end
        self.count = 0
        #: No line before `start` is newer; None: nothing is known.
        self.oldest: Optional[float] = None
        self._low = end
        self._reader: Optional[Reader] = None
        if log.packed:
            self._count_from(0)

    @property
    def is_halfway(self) -> bool:
        """Some from `start` on are not counted yet."""
        return self._reader is not None

    def step(self) -> bool:
        """Look at one more piece; False: all of it is counted. OSError."""
        if self._reader is not None:
            entries = self._reader.more()
            if entries is None:
                self._end_region()
            else:
                self._add(entries)
            return True
        if self.start <= 0:
            return False
        low = max(0, self._low - PIECE)
        data = self._log.read(self._low - low, low)
        if len(data) < self._low - low:
            # It was emptied.
            self.start = self._low = 0
            return False
        begin = self._picker.first_line(data) if low else 0
        if begin < 0:
            self._low = low
        elif self._low < self.start:
            # A line, or lines without a head, that began before the last piece.
            self._count_from(low + begin)
        else:
            self.start = self._low = low + begin
            self._region = self._picker.fresh()
            data = data[begin:]
            self._add(self._region.pick(data if data.endswith(b"\n") else data + b"\n", self.start))
            self._end_region()
        return True

    def _count_from(self, start: int) -> None:
        self._region = self._picker.fresh()
        self._reader = Reader(self._log, self._region, start, self.start)
        self.start = self._low = start

    def _add(self, entries: "List[Entry]") -> None:
        self.count += sum(each.lines for each in entries)

    def _end_region(self) -> None:
        self._reader = None
        if self._region.first_time is not None:
            self.oldest = self._region.first_time


def first_since(log: OpenLog, since: float, end: int) -> int:
    """A place in a decorated file before which all is older than `since`; not the last such place:
    what follows has to be looked at. OSError."""
    low, high = 0, end
    stamps = Stamps()
    while high - low > PIECE:
        middle = (low + high) // 2
        found = LINES.search(log.read(min(PIECE, high - middle), middle))
        if found is not None and stamps.seconds(found.group(1)) < since - _DISORDER:
            low = middle + found.start() + 1
        else:
            high = middle
    return low
