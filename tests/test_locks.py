"""Locks, and the folders that they lie in, from inside; test_other_users.py has real strangers."""

import fcntl
import os
import stat
from pathlib import Path
from typing import Any, Callable, List

import pytest

import control_socket
import finding
import folders
import locks

pytest_plugins = ["runs"]


@pytest.fixture
def base(folder: Path, tmp_path: Path, monkeypatch: "pytest.MonkeyPatch") -> Path:
    """A folder of this test alone in the place of /tmp, and none of root, nor of a session."""
    base = folder / "base"
    base.mkdir()
    base.chmod(0o1777)
    monkeypatch.setattr(folders, "_BASES", (str(base),))
    monkeypatch.setattr(folders, "_ROOTS", str(tmp_path / "none" / "pupgevent"))
    monkeypatch.setattr(folders, "_SESSIONS", str(tmp_path / "none"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return base


def name_in(base: Path) -> Path:
    return base / ("pupgevent-%d" % os.geteuid())


@pytest.mark.parametrize("mode", [0o750, 0o710, 0o701, 0o705, 0o720, 0o777, 0o1777])
def test_a_folder_that_anybody_else_can_do_anything_with_is_not_trusted(
    tmp_path: Path, mode: int
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    assert folders.unsafe_reason(str(folder)) == "others can enter it (mode %o)" % mode
    folder.chmod(0o700)
    assert folders.unsafe_reason(str(folder)) is None


def test_what_is_no_folder_of_ours_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("folder")
    assert folders.unsafe_reason(str(tmp_path / "file")) == "it is no folder"
    assert folders.unsafe_reason(str(tmp_path / "link")) == "it is no folder"
    assert folders.unsafe_reason(str(tmp_path / "none")) == "no such file or directory"
    assert folders.unsafe_reason(str(tmp_path / "folder"), os.geteuid() + 1) == (
        "it belongs to another user")


def spoil_by_a_file(name: Path) -> None:
    name.write_text("")


def spoil_by_a_link(name: Path) -> None:
    (name.parent / "elsewhere").mkdir(mode=0o700)
    name.symlink_to("elsewhere")


def spoil_by_letting_others_in(name: Path) -> None:
    name.mkdir()
    name.chmod(0o750)


@pytest.mark.parametrize(
    "spoil", [spoil_by_a_file, spoil_by_a_link, spoil_by_letting_others_in])
def test_where_the_name_is_taken_another_is_made_and_found(base: Path, spoil: Any) -> None:
    spoil(name_in(base))
    config = str(base / "app.toml")
    first = control_socket.take(config)
    assert first.path and first.path.startswith(str(name_in(base)) + "-")
    assert not first.trouble
    with pytest.raises(control_socket.Taken, match="pid %d" % os.getpid()):
        control_socket.take(config)
    found = finding.reach(config, None, 1)
    assert found is not None
    found.connection.close()
    first.release()
    control_socket.take(config).release()
    assert len(folders.own()) == 1


def test_two_that_have_made_different_folders_meet_in_one(base: Path) -> None:
    """The other has looked before this one's was made."""
    config = str(base / "app.toml")
    name_in(base).write_text("")
    first = control_socket.take(config)
    name_in(base).unlink()
    name_in(base).mkdir(mode=0o700)
    assert len(folders.own()) == 2
    with pytest.raises(control_socket.Taken):
        control_socket.take(config)
    first.release()
    both = control_socket.take(config)
    held = sorted(each.name for folder in folders.own() for each in Path(folder).glob("*.lock"))
    assert len(held) == 2 and held[0] == held[1]
    both.release()


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
def test_a_base_where_others_may_rename_what_is_ours_is_not_used(base: Path, mode: int) -> None:
    base.chmod(mode)
    place = control_socket.take(str(base / "app.toml"))
    assert place.path is None
    place.release()
    assert list(base.iterdir()) == []


def test_the_folder_of_a_session_has_to_do_where_there_is_no_other(
    base: Path, folder: Path, tmp_path: Path, monkeypatch: "pytest.MonkeyPatch"
) -> None:
    session = folder / "session"
    session.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(session))
    config = str(base / "app.toml")
    usual = control_socket.take(config)
    assert usual.path and usual.path.startswith(str(base))
    assert list(session.iterdir()) == []
    usual.release()
    monkeypatch.setattr(folders, "_BASES", (str(tmp_path / "none"),))
    place = control_socket.take(config)
    assert place.path and place.path.startswith(str(session / "pupgevent"))
    with pytest.raises(control_socket.Taken):
        control_socket.take(config)
    place.release()


def test_a_folder_that_takes_nothing_any_more_is_no_obstacle(
    base: Path, folder: Path, monkeypatch: "pytest.MonkeyPatch"
) -> None:
    """As one of a file system that is full, or read-only by now: a folder in the lock's place."""
    config = str(base / "app.toml")
    other = folder / "other"
    other.mkdir()
    other.chmod(0o1777)
    monkeypatch.setattr(folders, "_BASES", (str(base), str(other)))
    name_in(base).mkdir(mode=0o700)
    (name_in(base) / (control_socket.name_of(config) + ".lock")).mkdir()
    place = control_socket.take(config)
    assert place.path and place.path.startswith(str(other))
    with pytest.raises(control_socket.Taken, match="pid %d" % os.getpid()):
        control_socket.take(config)
    place.release()


def test_a_lock_tells_who_holds_it_and_of_what(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    lock = locks.Lock(path, "/srv/a\nb.toml")
    assert locks.read(path) == (os.getpid(), None, "/srv/a\nb.toml")
    lock.tell("/run/a long name.sock")
    lock.tell("/run/x\ny.sock")
    assert locks.read(path) == (os.getpid(), "/run/x\ny.sock", "/srv/a\nb.toml")
    with pytest.raises(locks.Held) as held:
        locks.Lock(path)
    assert held.value.holder == locks.read(path)
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600
    lock.release()
    lock.release()
    assert locks.read(path) == (None, None, None)
    assert not os.path.lexists(path)


def test_a_cleaner_passes_over_the_folder_while_a_lock_in_it_is_held(tmp_path: Path) -> None:
    """As systemd-tmpfiles does, which tries to lock it."""
    held = [locks.Lock(str(tmp_path / name)) for name in ("one", "two")]
    folder = os.open(str(tmp_path), os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for lock in held:
            lock.release()
        tmp_path.chmod(0o755)
        held = [locks.Lock(str(tmp_path / "one"))]
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held[0].release()
    finally:
        os.close(folder)


def test_what_is_in_a_file_that_is_no_lock_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    for text in (b"", b"4711", b"\0", b"x\0\0", b"9" * 5000 + b"\0", b"-1\0"):
        path.write_bytes(text)
        assert locks.read(str(path)) == (None, None, None), text
    (tmp_path / "link").symlink_to("lock")
    path.write_bytes(b"1\0/a\0/b\0")
    assert locks.read(str(tmp_path / "link")) == (None, None, None)
    os.mkfifo(str(tmp_path / "fifo"))
    assert locks.read(str(tmp_path / "fifo")) == (None, None, None)


def test_a_lock_that_its_holder_removes_meanwhile_is_not_had_by_two(tmp_path: Path) -> None:
    """Between opening a file and locking it, another may have held, removed and made it anew."""
    path, inside = str(tmp_path / "lock"), str(tmp_path / "inside")
    children = [in_a_child(lambda: take_turns(path, inside, 300)) for _ in range(4)]
    codes = [os.waitpid(child, 0)[1] for child in children]
    assert codes == [0] * 4


def take_turns(path: str, inside: str, times: int) -> None:
    """Hold the lock so many times; FileExistsError where another holds it too."""
    while times:
        try:
            lock = locks.Lock(path)
        except locks.Held:
            continue
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
        os.unlink(inside)
        lock.release()
        times -= 1


def in_a_child(act: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        act()
        code = 0
    finally:
        os._exit(code)


def test_of_two_paths_to_one_file_both_are_held_until_it_is_settled(
    base: Path, tmp_path: Path
) -> None:
    files: List[Path] = [tmp_path / name for name in ("one.toml", "two.toml")]
    link = tmp_path / "link.toml"
    link.symlink_to("one.toml")
    place = control_socket.take(str(link))
    assert place.held_paths == [str(link), str(files[0])]
    link.unlink()
    link.symlink_to("two.toml")
    assert place.follow() is None
    assert place.held_paths == [str(link), str(files[0]), str(files[1])]
    for path in files:
        with pytest.raises(control_socket.Taken, match=r", as .*link\.toml, pid"):
            control_socket.take(str(path))
    place.keep_only(str(files[1]))
    assert place.held_paths == [str(link), str(files[1])]
    other = control_socket.take(str(files[0]))
    link.unlink()
    link.symlink_to("one.toml")
    assert isinstance(place.follow(), control_socket.Taken)
    assert place.held_paths == [str(link), str(files[1])]
    other.release()
    place.release()
    assert [list(Path(folder).iterdir()) for folder in folders.own()] == [[]]
