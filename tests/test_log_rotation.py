"""Backups of a log file: their numbers, their rights, and what is interrupted."""

import fcntl
import gzip
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, Set, Tuple

import pytest
from hypothesis import given, strategies as st

import log_rotation
from conftest import ROOT, eventually
from file_filter import FileFilter
from model import Watcher

NOON = 1_700_000_000_123_456_789


def content(path: Path) -> Dict[str, bytes]:
    """What is in the folder of a log file, unpacked, by what each name has besides the file's."""
    found = {}
    for each in path.parent.iterdir():
        data = each.read_bytes()
        found[each.name[len(path.name):]] = gzip.decompress(data) if each.suffix == ".gz" else data
    return found


def rotate(path: Path, backups: int) -> None:
    log_rotation.make_room(str(path), backups)
    log_rotation.put_away(str(path))


def backup(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def fill(path: Path, data: bytes) -> None:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_bytes(b"now\n")
    return path


NUMBERED = st.tuples(st.integers(1, 6), st.sampled_from(["", ".gz"]))


@given(st.sets(NUMBERED), st.integers(1, 6))
def test_each_backup_gets_the_next_number(there: Set[Tuple[int, str]], backups: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "app.log")
        path.write_bytes(b"now")
        for number, suffix in there:
            fill(backup(path, ".%d%s" % (number, suffix)), b"%d" % number)
        numbers = {number for number, _ in there}
        removed = set()
        for number in range(backups, 8):
            if number not in numbers:
                break
            removed.add(number)
        rotate(path, backups)
        expected = {".1": b"now"}
        for number, suffix in there:
            if number not in removed:
                # Beyond a gap nothing is known to be ours.
                new = number + 1 if number < backups else number
                expected[".%d%s" % (new, suffix)] = b"%d" % number
        assert content(path) == expected


def test_as_many_are_kept_as_are_wanted_and_the_oldest_goes(path: Path) -> None:
    for number in range(7):
        path.write_bytes(b"%d" % number)
        rotate(path, 3)
    assert content(path) == {".1": b"6", ".2": b"5", ".3": b"4"}


@pytest.mark.parametrize("backups", [0, 1, 2])
def test_fewer_backups_than_before_remove_the_others(path: Path, backups: int) -> None:
    for number in range(1, 6):
        backup(path, ".%d" % number).write_bytes(b"%d" % number)
    log_rotation.make_room(str(path), backups)
    # The file is to be one of them.
    kept = {"": b"now\n"}
    if backups == 2:
        kept[".2"] = b"1"
    assert content(path) == kept


def test_what_cannot_be_removed_leaves_all_as_it_is(path: Path) -> None:
    backup(path, ".2").mkdir()
    backup(path, ".1").write_bytes(b"1")
    with pytest.raises(OSError):
        log_rotation.make_room(str(path), 2)
    assert backup(path, ".1").read_bytes() == b"1" and path.read_bytes() == b"now\n"


def test_file_that_has_been_moved_just_now_is_told_apart(path: Path) -> None:
    path.unlink()
    with pytest.raises(FileNotFoundError):
        log_rotation.put_away(str(path))


def test_compressed_backups_keep_mode_time_and_what_is_in_them(path: Path) -> None:
    data = os.urandom(700000)
    for number, mode in ((1, 0o640), (3, 0o600)):
        each = backup(path, ".%d" % number)
        each.write_bytes(data + b"%d" % number)
        each.chmod(mode)
        os.utime(str(each), ns=(NOON, NOON + number))
    fill(backup(path, ".4.gz"), b"compressed before")
    before = backup(path, ".4.gz").stat().st_ino
    log_rotation.compress_backups(str(path), 5)
    assert content(path) == {
        "": b"now\n", ".1.gz": data + b"1", ".3.gz": data + b"3", ".4.gz": b"compressed before"}
    for number, mode in ((1, 0o640), (3, 0o600)):
        found = backup(path, ".%d.gz" % number).stat()
        assert stat.S_IMODE(found.st_mode) == mode and found.st_mtime_ns == NOON + number
    assert backup(path, ".4.gz").stat().st_ino == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_compressed_backup_belongs_to_whom_it_has_belonged_to(path: Path) -> None:
    backup(path, ".1").write_bytes(b"theirs")
    os.chown(str(backup(path, ".1")), 65534, 65533)
    log_rotation.compress_backups(str(path), 1)
    found = backup(path, ".1.gz").stat()
    assert (found.st_uid, found.st_gid) == (65534, 65533)


def test_only_as_many_are_compressed_as_are_kept(path: Path) -> None:
    for number in (1, 2, 3):
        backup(path, ".%d" % number).write_bytes(b"%d" % number)
    log_rotation.compress_backups(str(path), 2)
    assert set(content(path)) == {"", ".1.gz", ".2.gz", ".3"}


def test_what_is_no_file_is_not_compressed(path: Path) -> None:
    """Nor does a named pipe hold anything up, or a link lead to another file."""
    os.mkfifo(str(backup(path, ".1")))
    log_rotation.compress_backups(str(path), 1)
    assert stat.S_ISFIFO(backup(path, ".1").stat().st_mode)
    backup(path, ".1").unlink()
    backup(path, ".1").symlink_to("app.log")
    with pytest.raises(OSError):
        log_rotation.compress_backups(str(path), 1)
    assert set(content(path)) == {"", ".1"} and path.read_bytes() == b"now\n"


def test_what_an_interrupted_compression_has_left_is_begun_anew(path: Path) -> None:
    backup(path, ".0.gz.part").write_bytes(b"half of")
    backup(path, ".1").write_bytes(b"whole")
    log_rotation.compress_backups(str(path), 1)
    assert content(path) == {"": b"now\n", ".1.gz": b"whole"}


def test_next_rotation_removes_what_an_interrupted_compression_has_left(path: Path) -> None:
    """Also where nothing is to be compressed any more."""
    backup(path, ".0.gz.part").write_bytes(b"half of")
    rotate(path, 1)
    assert set(content(path)) == {".1"}


def test_draft_that_is_a_link_leads_to_no_other_file(path: Path) -> None:
    backup(path, ".0.gz.part").symlink_to("app.log")
    backup(path, ".1").write_bytes(b"whole")
    log_rotation.compress_backups(str(path), 1)
    assert content(path) == {"": b"now\n", ".1.gz": b"whole"}


def test_what_was_both_compressed_and_there_is_compressed_again(path: Path) -> None:
    """Interrupted after the draft had its name, before what it was made of was gone."""
    backup(path, ".1").write_bytes(b"whole")
    fill(backup(path, ".1.gz"), b"whole")
    rotate(path, 2)
    log_rotation.compress_backups(str(path), 2)
    assert content(path) == {".1.gz": b"now\n", ".2.gz": b"whole"}


@pytest.mark.parametrize("ending", [".1", ".10.gz", log_rotation._DRAFT])
def test_what_is_made_beside_the_file_is_our_own_for_a_watch(path: Path, ending: str) -> None:
    own = FileFilter(Watcher(0.0, (), (), ()), frozenset([str(path)]))
    assert own.is_own(str(backup(path, ending))) and not own.is_own(str(backup(path, ".old")))


@pytest.mark.parametrize("how", ["killed", "full"])
def test_interrupted_compression_loses_nothing(path: Path, how: str) -> None:
    data = os.urandom(8 << 20)
    backup(path, ".1").write_bytes(data)
    program = (
        "import resource, sys; sys.path.insert(0, %r)\n"
        "import log_rotation\n"
        "if %r == 'full':\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    log_rotation.compress_backups(%r, 1)\n"
        "except OSError as error:\n"
        "    sys.exit(error.errno)\n"
    ) % (str(ROOT), how, str(path))
    child = subprocess.Popen([sys.executable, "-c", program])
    if how == "killed":
        draft = backup(path, ".0.gz.part")
        eventually(lambda: draft.exists() or child.poll() is not None)
        child.kill()
        assert child.wait(60) in (0, -signal.SIGKILL)
    else:
        assert child.wait(60) != 0
        assert set(content(path)) == {"", ".1"}
    log_rotation.compress_backups(str(path), 1)
    assert content(path) == {"": b"now\n", ".1.gz": data}


def test_backup_that_is_written_to_meanwhile_is_not_lost(path: Path) -> None:
    """Another pupgevent has not seen yet that the file was moved."""
    backup(path, ".1").write_bytes(b"whole")
    found = backup(path, ".1").stat()
    assert log_rotation._is_unchanged(str(backup(path, ".1")), found)
    with backup(path, ".1").open("ab") as file:
        file.write(b"more")
    assert not log_rotation._is_unchanged(str(backup(path, ".1")), found)
    os.replace(str(path), str(backup(path, ".1")))
    assert not log_rotation._is_unchanged(str(backup(path, ".1")), found)


def test_only_one_pupgevent_rotates_a_file_at_a_time(path: Path) -> None:
    with path.open("ab") as mine, path.open("ab") as theirs:
        with log_rotation.locked(mine.fileno()), pytest.raises(BlockingIOError), \
                log_rotation.locked(theirs.fileno()):
            raise AssertionError
        with log_rotation.locked(theirs.fileno()):
            pass
        fcntl.flock(mine.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_rights_are_adopted_as_far_as_they_may_be(path: Path) -> None:
    os.chown(str(path), 65534, 65533)
    path.chmod(0o640)
    before = path.stat()
    other = backup(path, ".new")
    other.touch()
    with other.open("ab") as file:
        log_rotation.adopt_rights(file.fileno(), before)
    found = other.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (65534, 65533, 0o640)
