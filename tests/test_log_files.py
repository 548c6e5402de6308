"""Log files: nothing is lost, doubled or torn, whatever is done to them meanwhile."""

import gzip
import os
import re
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import gevent
import pytest
from hypothesis import given, settings, strategies as st

from conftest import ROOT
from log_files import FileLimits, LogFile, LogFiles
from sinks import HIGH_WATER, NO_INSTANCE, Lines
from supervision import PATIENCE, wait_until

#: Never rotated.
ENDLESS = FileLimits(0, 10, False)
#: More backups than a test makes.
MANY = 99


def keeping(max_bytes: int, backups: int = MANY, compress: bool = False) -> FileLimits:
    return FileLimits(max_bytes, backups, compress)


class Desk:
    """Log files, and what is told of them."""

    def __init__(self) -> None:
        self.informed: List[str] = []
        self.warned: List[str] = []
        self.files = LogFiles(self.informed.append, self.warned.append)

    def open(self, path: Path, limits: FileLimits = ENDLESS) -> LogFile:
        return self.files.get(str(path), limits)

    def close(self) -> None:
        self.files.keep_only([])


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.close()


def raw(text: bytes, writer: object, ended: bool = True) -> Lines:
    return Lines(text, lambda colored: b"", NO_INSTANCE, ended, writer)


def flushed(file: LogFile) -> None:
    assert file.flush(PATIENCE), "it is not written"


def backups_of(path: Path) -> List[Path]:
    """The oldest one first."""
    found: Dict[int, Path] = {}
    for each in path.parent.iterdir():
        number = each.name[len(path.name) + 1:].partition(".")[0]
        if each.name.startswith(path.name + ".") and number.isdigit():
            assert int(number) not in found, "twice: %s" % each
            found[int(number)] = each
    assert sorted(found) == list(range(1, len(found) + 1))
    return [found[number] for number in sorted(found, reverse=True)]


def is_compressed(path: Path) -> bool:
    """Has each backup been compressed, and is no more than that there?"""
    plain = re.compile(re.escape(path.name) + r"\.\d+(\.gz\.part)?\Z")
    return not any(map(plain.match, os.listdir(str(path.parent))))


def contents(path: Path) -> List[bytes]:
    """Of all backups, the oldest one first, and the file."""
    return [
        gzip.decompress(each.read_bytes()) if each.suffix == ".gz" else each.read_bytes()
        for each in [*backups_of(path), path]]


def descriptors_of(path: Path) -> int:
    """How many descriptors of ours lead there."""
    return descriptor_targets().count(str(path))


def descriptor_targets() -> List[str]:
    """Where our descriptors lead. One of another thread may be closed between two looks."""
    found = []
    for each in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink("/proc/self/fd/" + each))
        except FileNotFoundError:
            pass
    return found


def write_until(file: LogFile, condition: Callable[[], Any]) -> int:
    """Write numbers, a line each, until it holds; how many there were."""
    count = [0]

    def goes_on() -> Any:
        count[0] += 1
        file.write(b"%d\n" % count[0])
        flushed(file)
        return condition()

    wait_until(goes_on)
    return count[0]


def numbers(first: int, last: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(first, last + 1))


# All that is written is there once, in order and in whole lines


#: (writer, bytes, is the line ended). Writer 0 writes whole lines, as decorated ones are.
STEP = st.tuples(st.integers(0, 3), st.binary(min_size=1, max_size=150), st.booleans())


def expected_of(steps: List[Tuple[int, bytes, bool]]) -> bytes:
    """Nobody else's text gets into a line that is to go on."""
    found, owner = b"", None
    for writer, text, ended in steps:
        data = text + b"\n" if ended or not writer else text
        if owner not in (None, writer):
            found += b"\n"
        found += data
        owner = None if data.endswith(b"\n") else writer
    return found


@pytest.fixture(scope="module")
def shared_desk() -> Iterator[Desk]:
    """One for all examples of a test, whose threads would add up."""
    desk = Desk()
    yield desk
    desk.close()


@pytest.mark.parametrize("compress", [False, True])
@settings(max_examples=60)
@given(st.lists(STEP, max_size=40), st.integers(200, 1500), st.sets(st.integers(0, 40)))
def test_backups_and_file_together_are_what_was_written(
    shared_desk: Desk, compress: bool, steps: List[Tuple[int, bytes, bool]], most: int,
    pauses: "set[int]",
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "app.log")
        file = shared_desk.open(path, keeping(most, compress=compress))
        for number, (writer, text, ended) in enumerate(steps):
            if writer:
                file.write_raw(raw(text, writer, ended))
            else:
                file.write(text + b"\n")
            if number in pauses:
                gevent.sleep(0)
            elif number % 7 == 3:
                flushed(file)
        flushed(file)
        shared_desk.close()
        flushed(file)
        if compress:
            wait_until(lambda: is_compressed(path))
        found = contents(path)
        assert b"".join(found) == expected_of(steps)
        for each in found[:-1]:
            assert each.endswith(b"\n")
        for each in found:
            # The last line may have gone on when the file was full already.
            assert each.rfind(b"\n", 0, -1) + 1 <= most
        assert not shared_desk.warned and not descriptors_of(path)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 400), max_size=60), st.integers(1, 700), st.integers(1, 20))
def test_each_file_is_within_its_size_or_has_one_line(
    shared_desk: Desk, sizes: List[int], most: int, at_once: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "app.log")
        file = shared_desk.open(path, keeping(most))
        lines = [b"%d " % number * size + b"\n" for number, size in enumerate(sizes)]
        for start in range(0, len(lines), at_once):
            file.write(b"".join(lines[start:start + at_once]))
            flushed(file)
        shared_desk.close()
        flushed(file)
        found = contents(path)
        assert b"".join(found) == b"".join(lines)
        for each in found:
            assert len(each) <= most or (each.count(b"\n") == 1 and each.endswith(b"\n"))
        for each, following in zip(found, found[1:]):
            # It was full.
            assert len(each) + following.index(b"\n") + 1 > most


def test_much_at_once_is_cut_between_lines(desk: Desk, tmp_path: Path) -> None:
    """More than one write takes."""
    path = tmp_path / "app.log"
    file = desk.open(path, keeping(100000))
    line = b"x" * 36 + b"\n"
    for _ in range(50):
        file.write(line * 400)
    flushed(file)
    found = contents(path)
    assert b"".join(found) == line * 20000
    assert all(len(each) <= 100000 and not len(each) % len(line) for each in found)


def test_line_that_goes_on_stays_in_its_file(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = desk.open(path, keeping(100))
    for text in (b"a" * 90, b"b" * 90, b"c" * 90):
        file.write_raw(raw(text, 1, ended=False))
        flushed(file)
    file.write_raw(raw(b"end\nnext", 1))
    flushed(file)
    assert contents(path) == [b"a" * 90 + b"b" * 90 + b"c" * 90 + b"end\n", b"next\n"]


def test_line_that_never_ends_is_not_cut(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = desk.open(path, keeping(1000))
    for _ in range(20):
        file.write_raw(raw(b"a" * 65536, 1, ended=False))
        wait_until(lambda: not file.full)
    flushed(file)
    assert contents(path) == [b"a" * 20 * 65536]


# Backups


def test_as_many_backups_are_kept_as_are_wanted(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = desk.open(path, keeping(10, 3))
    for number in range(7):
        file.write(b"line %d--\n" % number)
        flushed(file)
    assert contents(path) == [b"line %d--\n" % number for number in (3, 4, 5, 6)]


def test_without_backups_the_file_begins_anew(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    (tmp_path / "app.log.1").write_bytes(b"from before\n")
    file = desk.open(path, keeping(20, 0))
    flushed(file)
    path.chmod(0o640)
    for number in range(7):
        file.write(b"line %d--\n" % number)
        flushed(file)
        assert path.stat().st_size <= 20
    assert contents(path) == [b"line 6--\n"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640 and not desk.warned


def test_limits_may_change_while_the_file_is_in_use(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = desk.open(path)
    for number in range(5):
        file.write(b"line %d--\n" % number)
    flushed(file)
    assert backups_of(path) == []
    assert desk.open(path, keeping(10, 2)) is file
    for number in range(5, 9):
        file.write(b"line %d--\n" % number)
        flushed(file)
    assert contents(path) == [b"line %d--\n" % number for number in (6, 7, 8)]
    desk.open(path, keeping(1000, 2, compress=True))
    file.write(b"x" * 999 + b"\n")
    flushed(file)
    wait_until(lambda: is_compressed(path))
    assert contents(path) == [b"line 7--\n", b"line 8--\n", b"x" * 999 + b"\n"]
    desk.open(path, keeping(0, 2))
    file.write(b"goes on\n")
    flushed(file)
    assert contents(path)[-1] == b"x" * 999 + b"\ngoes on\n"


def test_new_file_has_the_mode_of_the_one_before(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    umask = os.umask(0o027)
    try:
        file = desk.open(path, keeping(10))
        flushed(file)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o606)
    if os.geteuid() == 0:
        os.chown(str(path), 65534, 65533)
    before = path.stat()
    file.write(b"the first\n")
    file.write(b"the second\n")
    flushed(file)
    found = path.stat()
    assert (found.st_mode, found.st_uid, found.st_gid) == (
        before.st_mode, before.st_uid, before.st_gid)
    assert found.st_ino != before.st_ino


def test_lines_go_on_while_backups_are_compressed(desk: Desk, tmp_path: Path) -> None:
    """Up to twice the size; then they wait, and the hub does not."""
    path = tmp_path / "app.log"
    file = desk.open(path, keeping(1000))
    line = b"x" * 99 + b"\n"
    flushed(file)
    with file._file._backups:
        for _ in range(20):
            file.write(line)
            flushed(file)
        assert path.stat().st_size == 2000 and backups_of(path) == []
        file.write(line)
        assert not file.flush(0.05)
        while not file.full:
            file.write(line)
            gevent.sleep(0)
        called: List[int] = []
        file.when_room(lambda: called.append(1))
        gevent.sleep(0.01)
        assert not called and path.stat().st_size == 2000
    wait_until(lambda: called)
    flushed(file)
    found = b"".join(contents(path)[-99:])
    assert not found.replace(line, b"")
    assert not desk.warned


def test_no_line_is_lost_beside_the_compression(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = desk.open(path, keeping(20000, compress=True))
    for number in range(20000):
        file.write(b"line %d\n" % number)
        if number % 100 == 0:
            wait_until(lambda: not file.full)
    flushed(file)
    wait_until(lambda: is_compressed(path))
    found = contents(path)
    assert b"".join(found) == b"".join(b"line %d\n" % number for number in range(20000))
    assert len(found) > 3 and not desk.warned


def test_backup_that_cannot_be_compressed_is_told_and_left(desk: Desk, tmp_path: Path) -> None:
    path, kept = tmp_path / "app.log", tmp_path / "kept"
    kept.write_bytes(b"no backup of ours\n")
    (tmp_path / "app.log.1").symlink_to(kept)
    file = desk.open(path, keeping(10, 5, compress=True))
    file.write(b"the first\nthe second\n")
    flushed(file)
    wait_until(lambda: desk.warned)
    warned, = desk.warned
    assert warned.startswith("log file %s: a backup cannot be compressed: " % path)
    assert (tmp_path / "app.log.2").is_symlink() and kept.read_bytes() == b"no backup of ours\n"
    assert gzip.decompress((tmp_path / "app.log.1.gz").read_bytes()) == b"the first\n"
    assert path.read_bytes() == b"the second\n"


def test_file_that_cannot_be_rotated_grows_and_is_told_of_once(
    desk: Desk, tmp_path: Path
) -> None:
    path = tmp_path / "app.log"
    (tmp_path / "app.log.1").mkdir()
    file = desk.open(path, keeping(10, 1))
    for number in range(1, 30):
        file.write(b"%d\n" % number)
        flushed(file)
    assert path.read_bytes() == numbers(1, 29)
    warned, = desk.warned
    assert warned.startswith("log file %s: it cannot be rotated, and grows: " % path)
    (tmp_path / "app.log.1").rmdir()
    file.reopen()
    file.write(b"again\n")
    flushed(file)
    assert contents(path) == [numbers(1, 29), b"again\n"] and len(desk.warned) == 1


def test_two_pupgevents_on_one_file_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    desks = [Desk(), Desk()]
    files = [desk.open(path, keeping(3000)) for desk in desks]
    for number in range(3000):
        for name, file in zip((b"a", b"b"), files):
            file.write(b"%s%d\n" % (name, number))
        if number % 10 == 0:
            gevent.sleep(0)
    for file in files:
        flushed(file)
    found = b"".join(contents(path)).splitlines()
    for name in (b"a", b"b"):
        ours = [line for line in found if line.startswith(name)]
        assert sorted(ours) == sorted(b"%s%d" % (name, number) for number in range(3000))
    assert len(found) == 6000
    for desk in desks:
        assert not desk.warned
        desk.close()


# What others do to the file


def test_moved_file_is_noticed_without_a_signal(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = desk.open(path)
    file.write(b"0\n")
    flushed(file)
    path.rename(tmp_path / "moved")
    last = write_until(file, path.exists)
    assert (tmp_path / "moved").read_bytes() + path.read_bytes() == numbers(0, last)
    assert not desk.warned and not descriptors_of(tmp_path / "moved")


def test_moved_file_is_another_one_at_once_after_reopen(desk: Desk, tmp_path: Path) -> None:
    path, other = tmp_path / "app.log", tmp_path / "other.log"
    file = desk.open(path)
    desk.open(other)
    for number in range(5):
        file.write(b"before %d\n" % number)
        flushed(file)
        path.rename(tmp_path / str(number))
        assert desk.files.reopen() == 2
        file.write(b"after %d\n" % number)
        flushed(file)
        assert (tmp_path / str(number)).read_bytes().endswith(b"before %d\n" % number)
        assert path.read_bytes() == b"after %d\n" % number
    assert not desk.warned and descriptors_of(path) == 1


def test_reopen_without_a_move_changes_nothing(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = desk.open(path)
    for _ in range(20):
        file.write_raw(raw(b"go", 1, ended=False))
        file.reopen()
        file.write_raw(raw(b"on", 1))
    flushed(file)
    assert path.read_bytes() == b"goon\n" * 20 and descriptors_of(path) == 1


def test_file_that_is_copied_and_truncated_goes_on_from_its_beginning(
    desk: Desk, tmp_path: Path
) -> None:
    path = tmp_path / "app.log"
    file = desk.open(path)
    copied = b""
    for number in range(20):
        file.write(b"%d\n" % number)
        flushed(file)
        if number % 4 == 2:
            copied += path.read_bytes()
            os.truncate(str(path), 0)
    assert copied + path.read_bytes() == numbers(0, 19)


def test_removed_file_is_made_anew(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = desk.open(path)
    flushed(file)
    path.unlink()
    last = write_until(file, path.exists)
    assert path.read_bytes() == b"%d\n" % last and not desk.warned


def test_file_that_is_moved_while_full_is_not_rotated(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = desk.open(path, keeping(10))
    file.write(b"the first\n")
    flushed(file)
    path.rename(tmp_path / "moved")
    file.write(b"the second\n")
    flushed(file)
    assert backups_of(path) == [] and path.read_bytes() == b"the second\n"


def test_folder_that_is_moved_takes_its_files_along(desk: Desk, tmp_path: Path) -> None:
    folder, moved = tmp_path / "log", tmp_path / "moved"
    folder.mkdir()
    path = folder / "app.log"
    file = desk.open(path)
    flushed(file)
    folder.rename(moved)
    count = write_until(file, lambda: desk.warned)
    warned, = desk.warned
    assert warned == (
        "log file %s: it was moved away, and cannot be opened anew: no such file or directory"
        % path)
    assert (moved / "app.log").read_bytes() == numbers(1, count)
    folder.mkdir()
    assert write_until(file, path.exists) > 0
    assert len(desk.warned) == 1 and not desk.informed


# Where nothing can be written


def is_told_once(desk: Desk, path: Path, reason: str) -> bool:
    return desk.warned == [
        "log file %s: %s; lines are lost until it can be written" % (path, reason)]


def lost_lines(desk: Desk, path: Path) -> int:
    """As they are told once it is over."""
    text, = desk.informed
    head, tail = "log file %s is written again, " % path, " lost"
    assert text.startswith(head) and text.endswith(tail)
    return int(text[len(head):-len(tail)].split()[0])


def comes_back(desk: Desk, file: LogFile, path: Path, written: int = 0) -> None:
    """`written` numbers were written before; what is lost and what is there make up all."""
    first, sent = written, [written]

    def is_written() -> Any:
        sent[0] += 1
        file.write(b"%d\n" % sent[0])
        flushed(file)
        return desk.informed

    wait_until(is_written)
    there = path.read_bytes().splitlines()
    assert there == [b"%d" % number for number in range(sent[0] - len(there) + 1, sent[0] + 1)]
    assert lost_lines(desk, path) == sent[0] - len(there) > first - 1
    assert len(desk.warned) == 1


def test_missing_folder_is_told_once_and_taken_when_it_is_there(
    desk: Desk, tmp_path: Path
) -> None:
    path = tmp_path / "log" / "app.log"
    file = desk.open(path)
    for number in range(1, 11):
        file.write(b"%d\n" % number)
        flushed(file)
    assert is_told_once(desk, path, "no such file or directory")
    assert not file.full and not path.parent.exists()
    path.parent.mkdir()
    comes_back(desk, file, path, 10)


def test_file_in_the_place_of_the_folder_is_told_once(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "log" / "app.log"
    path.parent.touch()
    file = desk.open(path)
    flushed(file)
    assert is_told_once(desk, path, "not a directory")
    path.parent.unlink()
    path.parent.mkdir()
    comes_back(desk, file, path)


def test_folder_in_the_place_of_the_file_is_told_once(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.mkdir()
    file = desk.open(path)
    flushed(file)
    assert is_told_once(desk, path, "is a directory")
    path.rmdir()
    comes_back(desk, file, path)


def test_folder_that_is_removed_is_told_once(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "log" / "app.log"
    path.parent.mkdir()
    file = desk.open(path)
    flushed(file)
    path.unlink()
    path.parent.rmdir()
    write_until(file, lambda: desk.warned)
    assert is_told_once(desk, path, "no such file or directory")
    path.parent.mkdir()
    write_until(file, lambda: desk.informed)
    assert path.exists() and lost_lines(desk, path) > 0 and len(desk.warned) == 1


def test_full_disk_is_told_once_and_what_is_lost_is_counted(desk: Desk, tmp_path: Path) -> None:
    """/dev/full has no room; then it is a file, as if somebody had tidied up."""
    path = tmp_path / "app.log"
    path.symlink_to("/dev/full")
    file = desk.open(path)
    for number in range(1, 11):
        file.write(b"%d\n" % number)
        flushed(file)
    assert is_told_once(desk, path, "no space left on device")
    path.unlink()
    comes_back(desk, file, path, 10)


def succeeds(program: str, path: Path, number: int) -> None:
    """A program of its own, since it has limits that would be those of the tests."""
    head = (
        "import gzip, os, resource, sys\n"
        "sys.path[:0] = [%r, %r]\n"
        "from log_files import FileLimits, LogFiles\n"
        "from supervision import wait_until\n"
    ) % (str(ROOT), str(ROOT / "tests"))
    child = subprocess.Popen(
        [sys.executable, "-c", head + program, str(path), str(number)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = child.communicate(timeout=100)[0]
    assert child.returncode == 0, output.decode()


#: A file may have 100 bytes; later, perhaps after further failures, it may have more.
LITTLE_ROOM = """
def allow(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

path, told, failures, sent = sys.argv[1], [], set(), [0]
allow(100)
file = LogFiles(told.append, told.append).get(path, FileLimits(0, 0, False))
for number in range(3):
    file.write(b"%d" % number * 39 + b"\\n")
assert file.flush(30)
assert len(told) == 1 and "file too large" in told[0], told

def is_written():
    failures.add(file._closed_until)
    if len(failures) > int(sys.argv[2]):
        allow(10000)
    sent[0] += 1
    file.write(b"next\\n")
    assert file.flush(30)
    return len(told) == 2

wait_until(is_written)
with open(path) as there:
    lines = there.read().splitlines()
assert lines[:3] == ["0" * 39, "1" * 39, "2" * 20], lines
assert set(lines[3:]) == {"next"}, lines
lost = 1 + sent[0] - len(lines[3:])
assert told[1] == "log file %s is written again, %d lines lost" % (path, lost), (lost, told)
"""


@pytest.mark.parametrize("again", [0, 2])
def test_line_that_a_full_disk_has_torn_is_ended(tmp_path: Path, again: int) -> None:
    """And it is one lost line, however often it is tried again."""
    succeeds(LITTLE_ROOM, tmp_path / "app.log", again)


#: For a while no file can be opened.
NO_DESCRIPTOR = """
path, told = sys.argv[1], []
limits = FileLimits(100, int(sys.argv[2]), True)
file = LogFiles(told.append, told.append).get(path, limits)

def write(*numbers):
    for number in numbers:
        file.write(b"%d" % number * 39 + b"\\n")
    assert file.flush(30)

def read(name):
    with open(name) as there:
        return [line[0] for line in there.read().splitlines()]

write(1, 2)
allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, allowed[1]))
write(3, 4, 5)
resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
if limits.backups:
    assert told == ["log file " + path + ": it was moved away, and cannot be opened anew: "
                    "too many open files"], told
    file._file.compress()
    assert not os.path.exists(path)
    assert read(path + ".1") == ["1", "2", "3", "4", "5"]
    write(6)
    assert read(path) == ["6"], read(path)
    wait_until(lambda: os.path.exists(path + ".1.gz") and not os.path.exists(path + ".1"))
    with gzip.open(path + ".1.gz") as packed:
        assert [line[:1] for line in packed] == [b"1", b"2", b"3", b"4", b"5"]
else:
    assert not told, told
    assert read(path) == ["5"], read(path)
"""


@pytest.mark.parametrize("backups", [0, 2])
def test_rotation_without_a_descriptor_for_the_new_file_loses_nothing(
    tmp_path: Path, backups: int
) -> None:
    """The backup is written on, and not compressed before that is over."""
    succeeds(NO_DESCRIPTOR, tmp_path / "app.log", backups)


def test_failing_file_holds_no_producer_up(desk: Desk, tmp_path: Path) -> None:
    file = desk.open(tmp_path / "log" / "app.log")
    called: List[int] = []
    for round_ in range(3):
        # Within one turn of the hub, so that nothing is written meanwhile.
        while not file.full and len(called) == round_:
            file.write(b"x" * 9999 + b"\n")
            if not file._size:
                gevent.sleep(0.05)
        file.when_room(lambda: called.append(1))
        wait_until(lambda count=round_ + 1: len(called) == count)  # type: ignore[misc]
    flushed(file)


# What is no regular file


def open_pipe(path: Path) -> int:
    return os.open(str(path), os.O_RDONLY | os.O_NONBLOCK)


#: What a pipe of `make_stuck_pipe` holds already.
FILLING = b"filling\n" * 128


def make_stuck_pipe(path: Path) -> int:
    """A named pipe that takes no byte until it is read from; returns the descriptor for that."""
    os.mkfifo(str(path))
    reader = os.open(str(path), os.O_RDWR | os.O_NONBLOCK)
    try:
        while True:
            os.write(reader, FILLING)
    except BlockingIOError:
        return reader


def read_all(reader: int) -> bytes:
    """What is there now."""
    found = b""
    while True:
        try:
            data = os.read(reader, 1 << 20)
        except BlockingIOError:
            return found
        if not data:
            return found
        found += data


def test_named_pipe_is_written_while_somebody_reads(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    os.mkfifo(str(path))
    file = desk.open(path, keeping(10))
    for number in range(1, 4):
        file.write(b"%d\n" % number)
        flushed(file)
    assert is_told_once(desk, path, "nobody reads from this named pipe, or socket")
    reader = open_pipe(path)
    try:
        sent, found = [3], [b""]

        def arrives() -> Any:
            sent[0] += 1
            file.write(b"%d\n" % sent[0])
            flushed(file)
            found[0] += read_all(reader)
            return found[0]

        wait_until(arrives)
        first = int(found[0].split()[0])
        assert found[0] == numbers(first, sent[0])
        assert lost_lines(desk, path) == first - 1
        for number in range(20):
            file.write(b"%d\n" % number)
        flushed(file)
        assert read_all(reader) == numbers(0, 19)
        assert backups_of(path) == [] and stat.S_ISFIFO(path.stat().st_mode)
    finally:
        os.close(reader)
    file.write(b"nobody\n")
    flushed(file)
    assert "broken pipe" in desk.warned[-1] and len(desk.warned) == 2


def test_pipe_that_nobody_empties_makes_its_file_full_and_no_other(
    desk: Desk, tmp_path: Path
) -> None:
    (tmp_path / "slow").mkdir()
    (tmp_path / "quick").mkdir()
    path = tmp_path / "slow" / "app.log"
    reader = make_stuck_pipe(path)
    try:
        slow, quick = desk.open(path), desk.open(tmp_path / "quick" / "app.log")
        line, count = b"x" * 99 + b"\n", 0
        while not slow.full:
            slow.write(line)
            count += 1
            gevent.sleep(0)
        called: List[int] = []
        slow.when_room(lambda: called.append(1))
        for number in range(100):
            quick.write(b"%d\n" % number)
            flushed(quick)
        assert (tmp_path / "quick" / "app.log").read_bytes() == numbers(0, 99)
        assert count * len(line) >= HIGH_WATER and slow.full and not called
        # Nor does it hold up the end of the program.
        desk.files.flush(0.01)
        found = [b""]

        def is_emptied() -> bool:
            found[0] += read_all(reader)
            return found[0].endswith(line * count)

        wait_until(is_emptied)
        flushed(slow)
        assert not found[0].replace(FILLING, b"").replace(line, b"") and called == [1]
        assert not slow.full and not desk.warned
    finally:
        os.close(reader)


def test_who_waits_for_a_file_that_is_given_up_waits_no_longer(
    desk: Desk, tmp_path: Path
) -> None:
    """The disk hangs, and the configuration names another file now."""
    path = tmp_path / "app.log"
    reader = make_stuck_pipe(path)
    try:
        file = desk.open(path)
        while not file.full:
            file.write(b"x" * 999 + b"\n")
            gevent.sleep(0)
        called: List[int] = []

        def short_of_memory() -> None:
            called.append(1)
            if len(called) == 1:
                raise MemoryError

        file.when_room(short_of_memory)
        file.when_room(lambda: called.append(2))
        desk.close()
        assert called == [1, 2]
        wait_until(lambda: read_all(reader) == b"" and file.flush(0.01))
        assert called == [1, 2, 1]
    finally:
        os.close(reader)


def test_device_is_written_and_not_rotated(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.symlink_to("/dev/null")
    file = desk.open(path, keeping(10))
    for number in range(20):
        file.write(b"%d\n" % number)
        flushed(file)
    assert os.listdir(str(tmp_path)) == ["app.log"] and path.is_symlink()
    assert not desk.warned


# Links


def test_link_is_followed_and_not_rotated(desk: Desk, tmp_path: Path) -> None:
    path, target = tmp_path / "app.log", tmp_path / "target"
    path.symlink_to(target)
    file = desk.open(path, keeping(10))
    for number in range(1, 20):
        file.write(b"%d\n" % number)
        flushed(file)
    assert target.read_bytes() == numbers(1, 19) and path.is_symlink()
    assert desk.warned == ["log file %s: it cannot be rotated, and grows: it is a link" % path]


@pytest.mark.skipif(os.geteuid() != 0, reason="others than root may follow links of anybody")
@pytest.mark.parametrize("whose", ["everybody's", "a group's", "somebody else's"])
def test_root_follows_no_link_that_others_may_have_made(
    desk: Desk, tmp_path: Path, whose: str
) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    if whose == "somebody else's":
        os.chown(str(folder), 65534, 65534)
    else:
        folder.chmod(0o1777 if whose == "everybody's" else 0o775)
    path, target = folder / "app.log", tmp_path / "passwd"
    target.write_bytes(b"root\n")
    path.symlink_to(target)
    file = desk.open(path)
    file.write(b"evil\n")
    flushed(file)
    assert is_told_once(
        desk, path, "it is a link, in a folder where others than root may write")
    assert target.read_bytes() == b"root\n"
    path.unlink()
    write_until(file, path.exists)
    assert not path.is_symlink() and target.read_bytes() == b"root\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="others than root may follow links of anybody")
def test_link_that_takes_the_place_of_a_file_is_not_followed_either(
    desk: Desk, tmp_path: Path
) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    folder.chmod(0o1777)
    path, target = folder / "app.log", tmp_path / "passwd"
    file = desk.open(path)
    flushed(file)
    path.rename(folder / "moved")
    path.symlink_to(target)
    count = write_until(file, lambda: desk.warned)
    warned, = desk.warned
    assert warned.endswith("it is a link, in a folder where others than root may write")
    assert (folder / "moved").read_bytes() == numbers(1, count) and not target.exists()


# Files that are used no more, and many of them


def test_file_that_is_used_no_more_is_closed_once_all_is_written(
    desk: Desk, tmp_path: Path
) -> None:
    path, other = tmp_path / "app.log", tmp_path / "other.log"
    file, kept = desk.open(path), desk.open(other)
    flushed(file)
    flushed(kept)
    assert descriptors_of(path) == descriptors_of(other) == 1
    for number in range(100):
        file.write(b"%d\n" % number)
    desk.files.keep_only([str(other)])
    flushed(file)
    assert path.read_bytes() == numbers(0, 99)
    assert descriptors_of(path) == 0 and descriptors_of(other) == 1
    # Nothing of it goes on. When it is used again, it still knows where its lines are.
    assert file._task is None
    assert desk.open(path) is file
    file.write(b"100\n")
    flushed(file)
    assert path.read_bytes() == numbers(0, 100) and descriptors_of(path) == 1


def test_what_comes_after_the_end_opens_the_file_for_a_moment(
    desk: Desk, tmp_path: Path
) -> None:
    path = tmp_path / "app.log"
    file = desk.open(path, keeping(10))
    flushed(file)
    desk.close()
    for number in range(5):
        file.write(b"line %d--\n" % number)
        flushed(file)
        assert descriptors_of(path) == 0
    assert contents(path) == [b"line %d--\n" % number for number in range(5)]


@pytest.mark.parametrize("when", ["before", "while"])
def test_file_that_fails_is_closed_as_well(desk: Desk, tmp_path: Path, when: str) -> None:
    before = descriptors_of(Path("/dev/full"))
    path = tmp_path / "app.log"
    path.symlink_to("/dev/full")
    file = desk.open(path)
    file.write(b"lost\n")
    if when == "before":
        flushed(file)
        assert descriptors_of(Path("/dev/full")) == before + 1
    desk.close()
    flushed(file)
    assert descriptors_of(Path("/dev/full")) == before and file._task is None


def test_reopening_at_the_end_leaves_no_descriptor(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = desk.open(path)
    flushed(file)
    for _ in range(20):
        path.rename(tmp_path / "moved")
        desk.files.reopen()
        desk.files.reopen()
        flushed(file)
    desk.files.reopen()
    desk.close()
    flushed(file)
    assert descriptors_of(path) == 0
    assert not any("(deleted)" in each and str(tmp_path) in each for each in descriptor_targets())


def test_flush_is_over_once_all_files_are_written(desk: Desk, tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(20)]
    for path in paths:
        desk.open(path).write(b"x" * 5000 + b"\n")
    desk.files.flush(PATIENCE)
    assert all(path.read_bytes() == b"x" * 5000 + b"\n" for path in paths)


def test_folders_beyond_the_threads_share_them(desk: Desk, tmp_path: Path) -> None:
    files = []
    for number in range(40):
        (tmp_path / str(number)).mkdir()
        files.append(desk.open(tmp_path / str(number) / "app.log"))
        files.append(desk.open(tmp_path / str(number) / "other.log"))
    for file in files:
        file.write(b"line\n")
    desk.files.flush(PATIENCE)
    assert all(Path(file.path).read_bytes() == b"line\n" for file in files)
    assert len({id(file._threads) for file in files}) == 16
    assert all(one._threads is two._threads for one, two in zip(files[::2], files[1::2]))
