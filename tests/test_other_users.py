"""Several users on one machine: nobody stands in another's way, speaks for him, or is in the dark.

See users.py for who they are.
"""

import contextlib
import fcntl
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any, Callable, List

import pytest

import control_socket
import folders
from conftest import eventually
from onefile import launcher
from running import PUPGEVENT, Running, sleeper
from users import AsUser, User, forger

pytest_plugins = ["runs"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")

NewUser = Callable[[], User]
RunBy = Callable[..., AsUser]
Make = Callable[..., Running]


def others_folder(name: Path, victim: User, mallory: User) -> None:
    with mallory.acting():
        name.mkdir()


def open_folder(name: Path, victim: User, mallory: User) -> None:
    with victim.acting():
        name.mkdir()
        name.chmod(0o750)


def link_to_mallorys(name: Path, victim: User, mallory: User) -> None:
    with mallory.acting():
        (victim.place / "trap").mkdir(mode=0o700)
        name.symlink_to(victim.place / "trap")


def link_to_own(name: Path, victim: User, mallory: User) -> None:
    with victim.acting():
        (victim.place / "private").mkdir(mode=0o700)
    with mallory.acting():
        name.symlink_to(victim.place / "private")


def plain_file(name: Path, victim: User, mallory: User) -> None:
    with mallory.acting():
        name.write_text("")


@pytest.mark.parametrize(
    "spoil", [others_folder, open_folder, link_to_mallorys, link_to_own, plain_file])
def test_whatever_is_in_the_place_of_the_folder_nobody_is_kept_from_starting(
    new_user: NewUser, run_by: RunBy, spoil: Any
) -> None:
    victim, mallory = new_user(), new_user()
    os.chmod(str(victim.place), 0o777)
    squatted = [Path(base, "pupgevent-%d" % victim.uid) for base in folders._BASES]
    for name in squatted:
        if spoil in (others_folder, plain_file) or name == squatted[0]:
            spoil(name, victim, mallory)
    app = run_by(victim, sleeper("job")).start()
    assert app.run("status").returncode == 0
    refuses_a_second(app)
    for name in squatted:
        with contextlib.suppress(OSError):
            name.rmdir() if name.is_dir() and not name.is_symlink() else name.unlink()
    refuses_a_second(app)
    assert app.run("status").returncode == 0
    app.end()
    assert [list(each.iterdir()) for each in victim.own()] == [[]]


def refuses_a_second(app: AsUser) -> None:
    done = app.user.run(str(app.config))
    assert (done.returncode, done.stdout) == (1, "")
    assert "is run by another pupgevent already, pid %d\n" % app.child.pid in done.stderr


def test_of_two_that_do_not_see_the_same_folders_one_is_refused(
    new_user: NewUser, run_by: RunBy
) -> None:
    """The second finds another folder in front of that of the first, as if made at that time."""
    user = new_user()
    app = run_by(user, sleeper("job")).start()
    (held,) = user.own()
    moved = Path(str(held) + "-moved")
    held.rename(moved)
    with user.acting():
        held.mkdir(mode=0o700)
    refuses_a_second(app)
    assert app.run("status").returncode == 0


def test_a_lock_on_the_file_by_another_is_no_lock(new_user: NewUser, run_by: RunBy) -> None:
    """Who can read a file can lock it, flock(2)."""
    app = run_by(new_user(), sleeper("job"))
    with contextlib.ExitStack() as stack:
        with new_user().acting():
            file = stack.enter_context(open(str(app.config)))
            fcntl.flock(file, fcntl.LOCK_EX)
        app.start()
    assert app.run("status").returncode == 0


def test_root_finds_everybodys_and_is_told_whose_it_is(new_user: NewUser, run_by: RunBy) -> None:
    user = new_user()
    app = run_by(user, sleeper("job")).start()
    whose = "pupgevent: the answer is that of user %d, pid %d\n" % (user.uid, app.child.pid)
    for command in ("status", "reload", "logs"):
        done = Running.run(app, command)
        assert (done.returncode, done.stderr) == (0, whose), command
        assert done.stdout
    done = Running.run(app, "shutdown")
    assert (done.returncode, done.stdout) == (0, "stopped\n")
    assert done.stderr.endswith(whose)
    assert app.wait() == 0
    assert Running.run(app, "status").returncode == 4


def test_of_those_of_several_users_root_means_the_one_of_the_files_owner_or_none(
    new_user: NewUser, run_by: RunBy
) -> None:
    one, two = new_user(), new_user()
    app, other = run_by(one, sleeper("job")).start(), run_by(two)
    other.config = app.config
    other.begin()
    eventually(lambda: "[job][core] started" in other.said())
    eventually(lambda: other.run("status").returncode == 0)
    done = Running.run(app, "status")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("pupgevent: %s is run by " % app.config)
    assert done.stderr.endswith(": say whose you mean with sudo -u\n")
    for each in (app, other):
        assert "%d, pid %d" % (each.user.uid, each.child.pid) in done.stderr
        os.chown(str(app.config), each.user.uid, -1)
        assert "pid %d\n" % each.child.pid in Running.run(app, "status").stderr


def test_who_may_not_talk_to_it_is_told_whose_it_is(
    new_user: NewUser, run_by: RunBy, running: Make
) -> None:
    user, other = new_user(), new_user()
    app = run_by(user, sleeper("job")).start()
    done = other.run("status", str(app.config))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "pupgevent: %s is run by user %d: try again with sudo -u '#%d'\n" % (
        app.config, user.uid, user.uid)
    app.end()
    assert other.run("status", str(app.config)).returncode == 4
    roots = running(sleeper("job")).start()
    done = other.run("status", str(roots.config))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "pupgevent: %s is run by user root: try again with sudo\n" % roots.config


def shared_folder(user: User) -> Path:
    """One of his, sticky, where everybody may make something."""
    folder = user.place / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def test_nobody_is_believed_who_answers_at_a_socket_in_a_shared_folder(
    new_user: NewUser, run_by: RunBy
) -> None:
    victim, mallory = new_user(), new_user()
    shared = shared_folder(victim)
    app = run_by(victim, sleeper("job"), control={"socket": str(shared / "own.sock")})
    with forger(shared / "own.sock", mallory) as pid:
        for run in (app.run, lambda word: Running.run(app, word)):
            for command in ("status", "reload", "shutdown", "logs", "top"):
                done = run(command)
                assert (done.returncode, done.stdout) == (1, ""), command
                assert done.stderr == "pupgevent: the control socket %s/own.sock is answered by " \
                    "user %d, pid %d: not believed\n" % (shared, mallory.uid, pid)
        app.start()
        eventually(lambda: "own.sock is answered by user %d" % mallory.uid in app.said())
        assert app.run("status").returncode == 0
        assert Running.run(app, "shutdown").returncode == 0
        assert app.wait() == 0


def test_no_socket_and_no_lock_of_another_keeps_anybody_from_starting(
    new_user: NewUser, run_by: RunBy
) -> None:
    """One that listens and does not accept, and a lock that everybody can write."""
    victim, mallory = new_user(), new_user()
    shared = shared_folder(victim)
    app = run_by(victim, sleeper("job"), control={"socket": str(shared / "own.sock")})
    with contextlib.ExitStack() as stack:
        stack.enter_context(mallory.acting())
        deaf = stack.enter_context(socket.socket(socket.AF_UNIX))
        deaf.bind(str(shared / "own.sock"))
        os.chmod(str(shared / "own.sock"), 0o777)
        deaf.listen(0)
        for _ in range(2):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(str(shared / "own.sock"))
        lock = stack.enter_context(open(str(shared / "own.sock.lock"), "w"))
        os.chmod(str(shared / "own.sock.lock"), 0o666)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.seteuid(0)
        app.start()
        eventually(lambda: "own.sock.lock belongs to another user" in app.said())
        assert app.run("status").returncode == 0


def test_root_is_not_sent_to_services_of_roots_by_what_a_user_writes(
    new_user: NewUser, folder: Path
) -> None:
    """A lock may tell of any socket: what is root's does not get root's commands by that."""
    user = new_user()
    config = folder / "app.json"
    config.write_text(json.dumps({"processes": [sleeper("job")]}))
    heard: List[bytes] = []
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(folder / "service.sock"))
        service.listen(5)
        service.settimeout(60)
        with user.acting():
            place = Path("/tmp/pupgevent-%d" % user.uid)
            place.mkdir(mode=0o700)
            name = control_socket.name_of(str(config)) + ".lock"
            (place / name).write_bytes(b"1\0%s\0%s\0" % (
                os.fsencode(str(folder / "service.sock")), os.fsencode(str(config))))
        done = subprocess.run([*PUPGEVENT, "status", str(config)], stderr=subprocess.PIPE,
                              timeout=60, check=False)
        assert done.returncode == 4
        client, _ = service.accept()
        with client:
            heard.append(client.recv(100))
    assert heard == [b""]


@pytest.mark.parametrize("told", [
    b"", b"\0\0\0", b"9" * 5000 + b"\0x\0y\0", b"1\0\xff\xfe\0\n\0", b"1\0" + b"a" * 9000,
    b"1\0\x1b[2J\0\x1b[2J\0",
])
def test_whatever_a_user_writes_into_a_lock_root_is_answered_in_one_line(
    new_user: NewUser, folder: Path, told: bytes
) -> None:
    user = new_user()
    config = folder / "app.json"
    config.write_text(json.dumps({"processes": [sleeper("job")]}))
    with user.acting():
        place = Path("/tmp/pupgevent-%d" % user.uid)
        place.mkdir(mode=0o700)
        (place / (control_socket.name_of(str(config)) + ".lock")).write_bytes(told)
    done = subprocess.run([*PUPGEVENT, "status", str(config)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (4, b"")
    assert done.stderr == b"pupgevent: no pupgevent runs for %s\n" % os.fsencode(str(config))


@pytest.mark.parametrize("spoil", [others_folder, link_to_mallorys, link_to_own, plain_file])
def test_nobody_can_take_the_place_to_which_the_single_file_unpacks(
    new_user: NewUser, spoil: Any
) -> None:
    victim, mallory = new_user(), new_user()
    os.chmod(str(victim.place), 0o777)
    usual = Path("/var/tmp/pupgevent-cache-%d" % victim.uid)
    beside = str(usual) + "-"
    try:
        assert unpacks_to(victim) == str(usual)
        spoil(usual, victim, mallory)
        chosen = unpacks_to(victim)
        assert chosen.startswith(beside) and chosen != unpacks_to(victim)
        with mallory.acting():
            Path(beside + "0").mkdir()
        with victim.acting():
            Path(chosen).mkdir()
        assert unpacks_to(victim) == chosen
    finally:
        for each in Path("/var/tmp").glob(usual.name + "*"):
            each.rmdir() if each.is_dir() and not each.is_symlink() else each.unlink()


def unpacks_to(user: User) -> str:
    """The first of the places in which a user without a home unpacks it."""
    with user.acting():
        return launcher.for_all_in("/var/tmp", "pupgevent-cache-%d" % user.uid)
