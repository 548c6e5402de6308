"""Which byte of all that a log file has taken is in which file, and where: for who reads it again.

All that a log file takes is one stream, whose bytes are counted from the start of pupgevent on. It
is cut into files by rotations, and by other tools; somebody else may write in between, or empty a
file. So each write is noted with the place where it has come to lie. Memory begins at some byte of
a stream: what stands before the place of that byte, there and in the files of before, is older.

A file has the number of its turn among those that the stream was written to, its generation: after
a rotation its name is another, and once it is removed its inode may be somebody else's.
"""

import bisect
import math
import os
from typing import Dict, List, NamedTuple, Optional, Tuple

#: Pieces of a stream that lie in one go, at most. Two have a gap between them only where something
#: was lost, where files were changed, or where others write to the same file.
MOST_PIECES = 4096

#: Files that are remembered, at most: more than there are backups.
MOST_FILES = 4096


class Spot(NamedTuple):
    """A place in the files of a stream."""

    generation: int
    #: In that file.
    offset: int


#: Before everything.
NOWHERE = Spot(0, 0)


class _Piece(NamedTuple):
    """Where so many bytes lie; `position` is that of the first in the stream."""

    position: int
    generation: int
    offset: int
    size: int


class LogTrack:
    """`note` is called by one thread at a time; the others may be called beside it."""

    def __init__(self) -> None:
        self._pieces: List[_Piece] = []
        #: Some were forgotten.
        self._is_cut = False
        #: By device and inode; the last one that had these.
        self._generations: Dict[Tuple[int, int], int] = {}
        self._writing_to = (0, 0)
        #: Of the file that was written to last; 0: none was.
        self._latest = 0

    def note(self, position: int, file: os.stat_result, end: int, size: int) -> None:
        """So many bytes from `position` on lie in that file, before the offset `end`."""
        offset = end - size
        last = self._pieces[-1] if self._pieces else None
        identity = (file.st_dev, file.st_ino)
        if last is None or identity != self._writing_to or offset < last.offset + last.size:
            # Another file, or one that was emptied.
            self._latest += 1
            self._writing_to = identity
            # The newest last.
            self._generations.pop(identity, None)
            self._generations[identity] = self._latest
            if len(self._generations) > MOST_FILES:
                del self._generations[next(iter(self._generations))]
        elif last == (position - last.size, self._latest, offset - last.size, last.size):
            self._pieces[-1] = last._replace(size=last.size + size)
            return
        self._pieces.append(_Piece(position, self._latest, offset, size))
        if len(self._pieces) > MOST_PIECES:
            del self._pieces[: MOST_PIECES // 4]
            self._is_cut = True

    def where(self, position: int) -> "Optional[Spot]":
        """Behind all that came before that position. None: nothing was written yet; NOWHERE: it is
        not known any more."""
        pieces = list(self._pieces)
        if not pieces:
            return None
        # Of several that begin there, which are pieces that were lost, the last one.
        at = bisect.bisect_right(pieces, (position, math.inf)) - 1
        if at < 0:
            first = pieces[0]
            return NOWHERE if self._is_cut else Spot(first.generation, first.offset)
        found = pieces[at]
        return Spot(found.generation, found.offset + min(position - found.position, found.size))

    def end(self) -> Spot:
        """Behind all that was written; NOWHERE: nothing was."""
        pieces = list(self._pieces)
        if not pieces:
            return NOWHERE
        return Spot(pieces[-1].generation, pieces[-1].offset + pieces[-1].size)

    def generation_of(self, file: os.stat_result) -> "Optional[int]":
        """None: it was not written to, as far as is known."""
        return self._generations.get((file.st_dev, file.st_ino))
