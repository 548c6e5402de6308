"""`pupgevent list`: what runs, whose it is, how it fares; and what is not to be believed."""

import contextlib
import json
import os
import re
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest

import control_socket
import folders
import listing
import styled_text
from conftest import eventually
from listing import Entry
from running import Running, run, sleeper
from users import AsUser, User, forger

pytest_plugins = ["runs"]

Make = Callable[..., Running]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


class Rows(Dict[str, Dict[str, str]]):
    """What a `list` has printed, by the files."""

    def __init__(self, text: str) -> None:
        head, *lines = text.splitlines() or [""]
        # No path of these tests has a space in it; the cells are apart by what is below a head.
        heads = head.split()
        for line in lines:
            config, _, rest = line.partition(" ")
            health = re.search("healthy|failing|stopping|does not answer", rest)
            assert health, line
            cells = [config, *rest[:health.start()].split(), health.group(),
                     *rest[health.end():].split()]
            assert config not in self, text
            self[config] = dict(zip(heads, cells))


def rows() -> Rows:
    """By the command itself. Others of this machine may be in it."""
    done = run("list")
    assert done.returncode == 0
    return Rows(done.stdout)


def row_of(app: Running) -> Dict[str, str]:
    return rows()[str(app.config)]


# What runs


def test_each_is_listed_with_its_pid_and_its_health(running: Make) -> None:
    app = running(sleeper("a"), sleeper("b", autostart=False), sleeper("c")).start()
    other = running(sleeper("job"), {"id": "bad", "cmd": "exit 7", "autostart": True,
                                     "restart": "never", "minUptimeMs": 0}).begin()
    eventually(lambda: other.are(job="running", bad="errored"))
    found = rows()
    well, ill = (found[str(each.config)] for each in (app, other))
    assert (well["PID"], well["HEALTH"], well["UP"]) == (str(app.child.pid), "healthy", "2/2")
    assert re.match(r"(\d+m)?\d+s$", well["UPTIME"])
    assert (ill["PID"], ill["HEALTH"], ill["UP"]) == (str(other.child.pid), "failing", "1/2")
    assert list(found) == sorted(found)
    assert ("USER" in well) is (os.geteuid() == 0)


def test_a_file_is_named_as_it_was_given_and_absolute(
    running: Make, monkeypatch: "pytest.MonkeyPatch"
) -> None:
    app = running(sleeper("job"))
    link = app.config.parent / "link.json"
    link.symlink_to(app.config)
    monkeypatch.chdir(str(link.parent))
    monkeypatch.setenv("PWD", str(link.parent))
    app.config = Path("link.json")
    app.output = link.parent / "output"
    app.start()
    assert rows()[str(link)]["PID"] == str(app.child.pid)


def test_one_that_was_killed_is_listed_no_more(running: Make) -> None:
    app = running(sleeper("job")).start()
    app.child.kill()
    app.child.wait()
    assert Path(control_socket.socket_paths(str(app.config))[0]).is_socket()
    assert str(app.config) not in rows()


def test_one_that_does_not_answer_keeps_nobody_out(running: Make) -> None:
    apps = [running(sleeper("job")).start() for _ in range(3)]
    try:
        for each in apps[:2]:
            each.signal(signal.SIGSTOP)
        found = rows()
    finally:
        for each in apps[:2]:
            each.signal(signal.SIGCONT)
    assert [found[str(each.config)]["HEALTH"] for each in apps] == [
        "does not answer", "does not answer", "healthy"]
    assert [found[str(each.config)]["PID"] for each in apps] == [
        str(each.child.pid) for each in apps]
    assert found[str(apps[0].config)]["UP"] == "-"


def test_one_that_is_to_stop_says_so(running: Make) -> None:
    app = running(sleeper("job", cmd="trap '' TERM; while :; do sleep 600; done",
                          terminateTimeout=600)).start()
    app.signal(signal.SIGTERM)
    eventually(lambda: row_of(app)["HEALTH"] == "stopping")
    app.signal(signal.SIGTERM)
    assert app.wait() == 0


def test_without_its_lock_it_is_known_by_the_real_path(running: Make) -> None:
    """A cleaner of /tmp may have taken that."""
    app = running(sleeper("job"))
    link = app.config.parent / "link.json"
    link.symlink_to(app.config)
    real, app.config = app.config, link
    app.start()
    for path in (link, real):
        for place in control_socket.socket_paths(str(path)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(place[:-len(".sock")] + ".lock")
    assert rows()[os.path.realpath(str(real))]["PID"] == str(app.child.pid)


def test_one_that_listens_where_its_file_says_is_found_by_its_lock(
    running: Make, folder: Path, monkeypatch: "pytest.MonkeyPatch"
) -> None:
    """Its usual socket was taken away, and a new one could not be made: the lock tells of that."""
    app = running(sleeper("job"), control={"socket": str(folder / "own.sock")}).start()
    usual = control_socket.socket_paths(str(app.config))[0]
    os.unlink(usual)
    for lock in told_by(usual):
        lock.write_bytes(lock.read_bytes().replace(
            os.fsencode(usual), os.fsencode(str(folder / "own.sock"))))
    assert row_of(app)["PID"] == str(app.child.pid)


def told_by(socket_path: str) -> List[Path]:
    return [path for path in Path(socket_path).parent.glob("*.lock")
            if os.fsencode(socket_path) in path.read_bytes()]


# What else is in the folders


class Place:
    """The one folder of ours, and what listens in it; nobody else's is seen."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.folder = base / ("pupgevent-%d" % os.geteuid())
        self.folder.mkdir(mode=0o700)
        self._stack = contextlib.ExitStack()

    def socket_at(self, name: str, backlog: int = 5) -> socket.socket:
        made = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        made.bind(str(self.folder / name))
        made.listen(backlog)
        return made

    def answering(self, name: str, *answers: bytes) -> None:
        """One connection after the other gets one of these, and is closed."""
        listener = self.socket_at(name)

        def serve() -> None:
            for answer in answers:
                client, _ = listener.accept()
                with client, contextlib.suppress(OSError):
                    client.makefile("rb").readline()
                    client.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        self._stack.callback(thread.join, 60)
        # Ends a wait for somebody who has not come.
        self._stack.callback(listener.shutdown, socket.SHUT_RDWR)

    def lock(self, name: str, *told: Any) -> None:
        fields = [each if isinstance(each, bytes) else os.fsencode(str(each)) for each in told]
        (self.folder / name).write_bytes(b"".join(field + b"\0" for field in fields))

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def place(folder: Path, monkeypatch: "pytest.MonkeyPatch") -> Iterator[Place]:
    monkeypatch.setattr(folders, "_BASES", (str(folder),))
    monkeypatch.setattr(folders, "_ROOTS", str(folder / "none"))
    monkeypatch.setattr(folders, "_SESSIONS", str(folder / "none"))
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    made = Place(folder)
    yield made
    made.close()


def answer(config: str = "/srv/app.toml", uptime: float = 5, **more: Any) -> bytes:
    found = {"config": config, "uptime": uptime, "state": "running", "healthy": True,
             "processes": [{"up": 1, "wanted": 1}]}
    return json.dumps({"ok": True, "status": dict(found, **more)}).encode() + b"\n"


def listed() -> List[Entry]:
    entries, cut_off = listing.find()
    assert not cut_off
    return entries


def test_where_no_folder_is_there_nobody_is(place: Place, monkeypatch: Any) -> None:
    assert listed() == []
    place.folder.rmdir()
    assert listed() == []
    monkeypatch.setattr(folders, "_BASES", ("/nowhere/at/all",))
    assert listed() == []


def test_what_is_no_pupgevent_is_passed_over(place: Place) -> None:
    at = place.folder
    for name in ("plain.sock", "plain.lock", "other"):
        (at / name).write_bytes(b"1\0/etc/passwd\0\xff\x1b[2J\0")
    for name in ("folder.sock", "folder.lock"):
        (at / name).mkdir()
    for name in ("pipe.sock", "pipe.lock"):
        os.mkfifo(str(at / name))
    for name in ("link.sock", "link.lock"):
        (at / name).symlink_to("/dev/zero")
    for name in ("loop.sock", "loop.lock"):
        (at / name).symlink_to(name)
    for number, told in enumerate([
        (), ("",), ("", "", ""), ("x", "relative.sock", "y"), ("9" * 5000, at, "y"),
        ("1", b"/" + b"a" * 9000, "y"), ("1", b"/\xff\xfe", b"\xff"), ("1", at / "none", ""),
    ]):
        place.lock("%d.lock" % number, *told)
    assert listed() == []


def test_a_thousand_that_have_ended_hide_nobody(place: Place) -> None:
    for number in range(1000):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(place.folder / ("dead-%d.sock" % number)))
    place.answering("z.sock", answer())
    place.lock("z.lock", os.getpid(), place.folder / "z.sock", "/srv/link.toml")
    assert listed() == [Entry("/srv/link.toml", os.getpid(), os.geteuid(), "healthy", 5, "1/1")]


@pytest.mark.parametrize("said", [
    b"\n", b"nonsense\n", b"[]\n", b"{}\n", b"\xff\n", b"[" * 100000 + b"\n",
    b'{"ok": false, "error": "no", "status": 2}\n', b'{"ok": true, "status": {}}\n',
    answer(uptime=-1), answer(uptime=1e300), answer(healthy="yes"), answer(processes=[{"up": 1}]),
    answer().replace(b'"uptime": 5', b'"uptime": NaN'),
    answer().replace(b'"uptime": 5', b'"uptime": ' + b"1" * 5000000),
    b"x" * (listing._MOST_ANSWER + 10),
])
def test_an_answer_that_is_none_is_none(place: Place, said: bytes) -> None:
    place.answering("a.sock", said)
    place.lock("a.lock", 1, place.folder / "a.sock", "/srv/app.toml")
    assert listed() == [
        Entry("/srv/app.toml", os.getpid(), os.geteuid(), "does not answer", None, "-")]


def test_one_that_is_busy_or_hangs_up_is_asked_again(place: Place) -> None:
    busy = b'{"ok": false, "error": "too many", "status": 1, "busy": true}\n'
    place.answering("a.sock", busy, b"", b'{"ok', answer())
    assert [each.health for each in listed()] == ["healthy"]


def test_silent_ones_are_waited_for_side_by_side(
    place: Place, monkeypatch: "pytest.MonkeyPatch"
) -> None:
    """Those that accept and say nothing, and those whose queue is full."""
    monkeypatch.setattr(listing, "ANSWER_TIMEOUT", 0.5)
    with contextlib.ExitStack() as stack:
        for number in range(60):
            made = place.socket_at("%d.sock" % number, backlog=0)
            if number % 2:
                fill(made, stack)
        # A lock may tell of any pid.
        place.lock("1.lock", 1 if os.geteuid() else os.getpid(), place.folder / "1.sock", "/x")
        place.lock("3.lock", 2**22 + 1, place.folder / "3.sock", "/y")
        before = time.monotonic()
        entries = listed()
        assert time.monotonic() - before < 15
    # Those that accept are one: they tell the same pid.
    assert [each.health for each in entries] == ["does not answer"] * 31
    pids = {each.config: each.pid for each in entries}
    assert pids["/y"] is None
    assert pids["/x"] == (None if os.geteuid() else os.getpid())


def fill(listener: socket.socket, stack: contextlib.ExitStack) -> None:
    """Until nobody else can connect."""
    while True:
        client = stack.enter_context(socket.socket(socket.AF_UNIX))
        client.setblocking(False)
        try:
            client.connect(listener.getsockname())
        except BlockingIOError:
            return


def test_one_with_two_sockets_is_listed_once(place: Place) -> None:
    place.answering("a.sock", answer())
    place.answering("b.sock", answer())
    assert len(listed()) == 1


def test_who_has_too_many_is_cut_off_and_told(
    place: Place, monkeypatch: "pytest.MonkeyPatch", capsys: Any
) -> None:
    monkeypatch.setattr(listing, "ANSWER_TIMEOUT", 0.1)
    monkeypatch.setattr(listing, "_AT_ONCE", 3)
    with contextlib.ExitStack() as stack:
        for number in range(5):
            fill(place.socket_at("%d.sock" % number, backlog=0), stack)
        entries, cut_off = listing.find()
    assert (len(entries), cut_off) == (3, {os.geteuid()})


# How it looks


ENTRIES = [
    Entry("/srv/" + "long/" * 20 + "app.toml", 4711, 0, "healthy", 11520.0, "4/4"),
    Entry("/srv/b.toml", None, 12345, "does not answer", None, "-"),
]


def lines(with_users: bool, width: Optional[int] = None, colors: bool = False) -> List[str]:
    return [styled_text.rendered(line, width, colors)
            for line in listing.table(ENTRIES, with_users, width)]


def test_a_pipe_gets_whole_paths_and_a_terminal_what_it_has_room_for() -> None:
    whole = lines(True)
    assert whole[1].split() == [ENTRIES[0].config, "4711", "root", "healthy", "3h12m", "4/4"]
    for width in (80, 70, 66):
        fitted = lines(True, width)
        assert max(map(len, fitted)) == width
        config = fitted[1].split()[0]
        assert config.startswith("/srv/long/") and config.endswith("app.toml") and "~" in config
        assert fitted[1].split()[1:] == whole[1].split()[1:]
    assert lines(False, 80)[0].split() == ["CONFIG", "PID", "HEALTH", "UPTIME", "UP"]
    assert all(len(line) <= 10 for line in lines(True, 10))


def test_colours_are_about_the_health_and_change_nothing_else() -> None:
    painted = lines(True, None, True)
    assert "\x1b[32mhealthy" in painted[1] and "\x1b[31mdoes not answer" in painted[2]
    assert [re.sub("\x1b\\[\\d+m", "", line).rstrip() for line in painted] == lines(True)


def test_no_path_tells_a_terminal_what_to_do(place: Place) -> None:
    shown = {
        b"/\x1b[2J\x07": "/\\x1b[2J\\x07", b"/a\nb": "/a\\nb", b"/\x9b2J": "/\\x9b2J",
        b"/\xc2\x9b2J": "/\\x9b2J", b"/caf\xe9": "/caf\udce9", b"/\xe2\x82\xac": "/\u20ac",
        b"/\xe2\x80\xa8": "/\\u2028",
    }
    for path, expected in shown.items():
        place.answering("a.sock", answer())
        place.lock("a.lock", os.getpid(), place.folder / "a.sock", path)
        assert [each.config for each in listed()] == [expected]
        (place.folder / "a.sock").unlink()


@pytest.mark.parametrize("config, shown", [
    ("/\x1b[2J\u009b", "/\\x1b[2J\\x9b"), ("/\ud800 \udc9b", "/\ud800 \\x9b"), ("", ""),
])
def test_nor_does_one_that_is_told_in_an_answer(place: Place, config: str, shown: str) -> None:
    place.answering("a.sock", answer(config=config))
    assert [each.config for each in listed()] == [shown]


# Whose it is


@as_root
def test_root_sees_everybodys_and_a_user_only_his_own(
    new_user: Callable[[], User], run_by: Callable[..., AsUser], running: Make
) -> None:
    users = [new_user(), new_user()]
    apps: List[Any] = [run_by(user, sleeper("job")).start() for user in users]
    apps.append(running(sleeper("job")).start())
    found = rows()
    assert [found[str(each.config)]["USER"] for each in apps] == [
        *(str(user.uid) for user in users), "root"]
    assert [found[str(each.config)]["PID"] for each in apps] == [
        str(each.child.pid) for each in apps]
    for app in apps[:2]:
        done = app.user.run("list")
        assert (done.returncode, done.stderr) == (0, "")
        own = Rows(done.stdout)
        assert list(own) == [str(app.config)]
        assert own[str(app.config)]["HEALTH"] == "healthy"
        assert "USER" not in own[str(app.config)]


@as_root
def test_where_none_runs_that_is_one_line_and_no_failure(new_user: Callable[[], User]) -> None:
    user = new_user()
    done = user.run("list")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "pupgevent: no pupgevent of user %d runs\n" % user.uid


def folder_of(user: User) -> Path:
    with user.acting():
        made = Path("/tmp/pupgevent-%d" % user.uid)
        made.mkdir(mode=0o700, exist_ok=True)
    return made


@as_root
def test_what_somebody_makes_in_anothers_name_is_not_believed(
    new_user: Callable[[], User], run_by: Callable[..., AsUser]
) -> None:
    """Folders under the victim's name; links; and, in a folder of his own, locks and links that
    lead to what others run."""
    victim, mallory = new_user(), new_user()
    app = run_by(victim, sleeper("job")).start()
    (real,) = victim.own()
    place = next(iter(real.glob("*.sock")))
    own = folder_of(mallory)
    false = Path("/var/tmp/pupgevent-%d" % victim.uid)
    link = Path("/dev/shm/pupgevent-%d" % victim.uid)
    with mallory.acting():
        false.mkdir(mode=0o755)
        link.symlink_to(false)
        (own / "link.sock").symlink_to(place)
        for name, address in (("a", place), ("b", "/run/systemd/private"), ("c", false / "x.sock")):
            (own / (name + ".lock")).write_bytes(b"".join(
                os.fsencode(str(each)) + b"\0" for each in (1, address, "/forged-" + name)))
    try:
        said = {"ok": True, "status": {"config": "\x1b[2J"}}
        with forger(own / "x.sock", mallory, [said]) as pid:
            os.rename(str(own / "x.sock"), str(false / "x.sock"))
            found = rows()
            assert found["/forged-c"] == {
                "CONFIG": "/forged-c", "PID": str(pid), "USER": str(mallory.uid),
                "HEALTH": "does not answer", "UPTIME": "-", "UP": "-"}
            assert not {"/forged-a", "/forged-b"} & set(found)
            assert [each["USER"] for each in found.values()
                    if each["PID"] == str(app.child.pid)] == [str(victim.uid)]
            done = victim.run("list")
            assert list(Rows(done.stdout)) == [str(app.config)]
    finally:
        link.unlink()
        with contextlib.suppress(FileNotFoundError):
            (false / "x.sock").unlink()
        false.rmdir()
