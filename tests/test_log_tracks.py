"""Where each byte of a log file's stream has come to lie, whatever is done to the files."""

import os
import tempfile
from pathlib import Path
from typing import List, Optional, Tuple

from hypothesis import given, strategies as st

import log_tracks
from log_tracks import NOWHERE, LogTrack, Spot


class Writer:
    """Writes a stream to files, as a log file does, and knows itself where each byte is."""

    def __init__(self, folder: Path) -> None:
        self.track = LogTrack()
        self.stream = b""
        #: Of each byte: the number of its file, and its offset there; None: it is lost.
        self.places: List[Optional[Tuple[int, int]]] = []
        self._folder = folder
        self._number = 0
        self._fd = -1
        self.rotate()

    def rotate(self) -> None:
        self.close()
        self._number += 1
        path = self._folder / str(self._number)
        self._fd = os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def write(self, data: bytes) -> None:
        os.write(self._fd, data)
        end = os.lseek(self._fd, 0, os.SEEK_CUR)
        self.track.note(len(self.stream), os.fstat(self._fd), end, len(data))
        self.stream += data
        self.places += [(self._number, end - len(data) + at) for at in range(len(data))]

    def lose(self, data: bytes) -> None:
        self.stream += data
        self.places += [None] * len(data)

    def other(self, data: bytes) -> None:
        """Somebody else writes to the same file."""
        fd = os.open(str(self._folder / str(self._number)), os.O_WRONLY | os.O_APPEND)
        os.write(fd, data)
        os.close(fd)


@given(st.lists(st.tuples(
    st.sampled_from(["write", "write", "write", "rotate", "lose", "other"]), st.integers(1, 9))))
def test_every_position_is_found(steps: List[Tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        writer = Writer(Path(folder))
        for what, size in steps:
            if what == "rotate":
                writer.rotate()
            else:
                getattr(writer, what)(b"x" * size)
        writer.close()
        files = sorted({place[0] for place in writer.places if place})
        for position in range(len(writer.places) + 1):
            spot = writer.track.where(position)
            if not files:
                assert spot is None
                continue
            assert spot is not None
            # Whatever lies before it came before, and whatever does not came after.
            for at, place in enumerate(writer.places):
                if place is not None:
                    is_before = Spot(files.index(place[0]) + 1, place[1]) < spot
                    assert is_before is (at < position)


def test_file_that_was_emptied_is_another_one(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write(b"x" * 10)
    os.truncate(str(tmp_path / "1"), 0)
    writer.write(b"y" * 5)
    writer.close()
    file = (tmp_path / "1").stat()
    assert writer.track.generation_of(file) == 2
    assert writer.track.where(4) == Spot(1, 4)
    assert writer.track.where(12) == writer.track.end()._replace(offset=2) == Spot(2, 2)


def test_what_is_remembered_is_bounded(tmp_path: Path) -> None:
    """Two take turns in one file, for long."""
    writer = Writer(tmp_path)
    for _ in range(2 * log_tracks.MOST_PIECES):
        writer.write(b"x")
        writer.other(b"y")
    writer.close()
    assert len(writer.track._pieces) <= log_tracks.MOST_PIECES
    assert writer.track.where(0) == NOWHERE
    last = len(writer.stream) - 1
    assert writer.track.where(last) == Spot(1, 2 * last)
