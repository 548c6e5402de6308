"""Where the control socket lies, who may use it, and that there is one pupgevent per file."""

import json
import os
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any, Callable, List

import pytest

import control_socket
import finding
import paths
from conftest import eventually
from running import PUPGEVENT, Running, sleeper

pytest_plugins = ["runs"]

Make = Callable[..., Running]


def place_of(app: Running) -> Path:
    return Path(control_socket.socket_paths(str(app.config))[0])


def lock_of(config: Any) -> str:
    """The first: the one beside the socket."""
    return control_socket.socket_paths(str(config))[0][: -len(".sock")] + ".lock"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(os.lstat(str(path)).st_mode)


def test_only_its_user_can_reach_the_socket(running: Make) -> None:
    app = running(sleeper("job")).start()
    place = place_of(app)
    assert place.is_socket()
    assert (mode_of(place), mode_of(place.parent)) == (0o600, 0o700)


def test_nothing_is_left_of_it_at_the_end(running: Make) -> None:
    app = running(sleeper("job")).start()
    place = place_of(app)
    assert belongings(place)
    app.end()
    assert belongings(place) == []


def belongings(place: Path) -> List[str]:
    """Names of the files beside a socket that are of the same configuration file."""
    return [each.name for each in place.parent.iterdir() if each.stem == place.stem]


def test_it_is_named_after_the_path_as_given_and_found_by_the_real_one(folder: Path) -> None:
    real, link, other = folder / "app.json", folder / "link.json", folder / "other.json"
    link.symlink_to(real)
    place = control_socket.take(str(link))
    by_link, by_real = (control_socket.socket_paths(str(each))[0] for each in (link, real))
    assert place.path == by_link != by_real
    assert place.path in control_socket.addresses(str(real))
    assert place.path not in control_socket.addresses(str(other))
    place.release()


def test_a_long_name_is_cut_and_an_odd_one_made_plain(folder: Path) -> None:
    path = str(folder / ("a b\n\u00e9" + "x" * 200 + ".toml"))
    name = os.path.basename(control_socket.socket_paths(path)[0])
    assert name.startswith("a-b--xxx")
    assert len(name) == 32 + 1 + 12 + len(".sock")


def test_a_second_one_on_the_same_file_is_refused_with_the_pid_of_the_first(
    running: Make,
) -> None:
    app = running(sleeper("job")).start()
    assert app.child
    done = subprocess.run([*PUPGEVENT, str(app.config)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "pupgevent: %s is run by another pupgevent already, pid %d\n" % (
        app.config, app.child.pid)
    assert app.states() == {"job": "running"}


def test_it_is_found_from_another_environment(
    running: Make, folder: Path, monkeypatch: "pytest.MonkeyPatch"
) -> None:
    """Started where XDG_RUNTIME_DIR is not set, asked where it is."""
    with monkeypatch.context() as without:
        without.delenv("XDG_RUNTIME_DIR")
        app = running(sleeper("job")).start()
        assert app.child
    assert app.states() == {"job": "running"}
    done = app.run("status")
    assert done.returncode == 0
    again = subprocess.run(
        [*PUPGEVENT, str(app.config)], stderr=subprocess.PIPE, timeout=60, check=False)
    assert again.returncode == 1
    assert b"pid %d" % app.child.pid in again.stderr


def test_of_many_that_start_at_once_one_wins(running: Make) -> None:
    app = running(sleeper("job"))
    children = [subprocess.Popen([*PUPGEVENT, str(app.config)], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE) for _ in range(5)]
    eventually(app.is_settled)
    eventually(lambda: sum(child.poll() is None for child in children) == 1)
    winner = next(child for child in children if child.poll() is None)
    refused = [child for child in children if child is not winner]
    assert [child.returncode for child in refused] == [1] * 4
    for child in refused:
        assert child.stderr
        assert b"pid %d" % winner.pid in child.stderr.read()
        child.stderr.close()
    assert app.status()["pid"] == winner.pid
    winner.terminate()
    assert winner.wait(60) == 0
    assert winner.stderr
    winner.stderr.close()


def test_what_a_killed_one_has_left_is_replaced(running: Make) -> None:
    app = running(sleeper("job")).start()
    place = place_of(app)
    assert app.child
    app.child.kill()
    app.child.wait()
    assert place.is_socket()
    assert app.run("status").returncode == 4
    app.start()
    assert app.states() == {"job": "running"}


def second_start(app: Running) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*PUPGEVENT, str(app.config)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=60, check=False)


@pytest.mark.parametrize("first, then", [(None, "own.sock"), ("own.sock", None),
                                         ("own.sock", "other.sock")])
def test_a_second_one_is_refused_whatever_socket_the_file_names_by_then(
    running: Make, first: Any, then: Any
) -> None:
    app = running(sleeper("job"), **({"control": {"socket": first}} if first else {})).start()
    assert app.child
    app.write(sleeper("job"), **({"control": {"socket": then}} if then else {}))
    done = second_start(app)
    assert done.returncode == 1
    assert "app.json is run by another pupgevent already, pid %d\n" % app.child.pid in done.stderr
    assert app.states() == {"job": "running"}


def test_a_second_one_is_refused_in_an_environment_that_knows_nothing_of_the_first(
    running: Make, monkeypatch: "pytest.MonkeyPatch"
) -> None:
    """A login has XDG_RUNTIME_DIR, a cron job has not."""
    app = running(sleeper("job")).start()
    assert app.child
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    done = second_start(app)
    assert done.returncode == 1
    assert "is run by another pupgevent already, pid %d\n" % app.child.pid in done.stderr
    assert app.run("status").returncode == 0


def test_where_the_lock_was_removed_the_socket_still_tells_of_its_owner(running: Make) -> None:
    """What a cleaner of /tmp does."""
    app = running(sleeper("job")).start()
    assert app.child
    os.unlink(lock_of(app.config))
    done = second_start(app)
    assert done.returncode == 1
    assert "is run by another pupgevent already, pid %d\n" % app.child.pid in done.stderr
    assert app.states() == {"job": "running"}


def test_at_its_end_only_what_is_still_its_own_is_removed(folder: Path) -> None:
    config = str(folder / "app.toml")
    first = control_socket.take(config)
    os.unlink(lock_of(config))
    assert first.path
    os.unlink(first.path)
    second = control_socket.take(config)
    first.release()
    found = finding.reach(config, None, 1)
    assert found is not None
    found.connection.close()
    with pytest.raises(control_socket.Taken):
        control_socket.take(config)
    second.release()
    assert second.path == first.path
    assert not os.path.lexists(second.path)
    assert not os.path.lexists(lock_of(config))


def test_who_has_no_place_for_a_socket_is_still_the_only_one(
    folder: Path, monkeypatch: "pytest.MonkeyPatch"
) -> None:
    monkeypatch.setattr(paths, "SOCKET_PATH_LIMIT", 1)
    config = str(folder / "app.toml")
    first = control_socket.take(config)
    assert (first.sockets, first.path) == ([], None)
    assert "is longer than 1 bytes" in first.trouble
    with pytest.raises(control_socket.Taken, match="pid %d" % os.getpid()):
        control_socket.take(config)
    first.release()
    control_socket.take(config).release()


def test_two_files_that_name_one_socket_are_told_apart(running: Make, folder: Path) -> None:
    named = {"socket": str(folder / "shared.sock")}
    app, other = running(sleeper("job"), control=named), running(sleeper("else"), control=named)
    app.start()
    assert app.child
    done = second_start(other)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "pupgevent: the control socket %s is used by another pupgevent already" \
        ", pid %d\n" % (named["socket"], app.child.pid)
    for command in ("status", "shutdown"):
        done = other.run(command)
        assert (done.returncode, done.stdout) == (4, "")
        assert done.stderr == "pupgevent: no pupgevent runs for that file: at its socket is the " \
            "one of %s\n" % app.config
    assert app.states() == {"job": "running"}


def test_a_link_that_leads_elsewhere_by_now_still_means_the_one_that_was_started_by_it(
    running: Make, folder: Path
) -> None:
    """As after a release, with a socket that the file names."""
    app = running(sleeper("job"), control={"socket": str(folder / "own.sock")})
    old = app.config
    new = old.parent / "new.json"
    new.write_text(old.read_text())
    app.config = folder / "link.json"
    app.config.symlink_to(old)
    app.start()
    app.config.unlink()
    app.config.symlink_to(new)
    assert app.run("status").returncode == 0
    assert app.run("shutdown").returncode == 0


def test_the_socket_can_be_named_in_the_file(running: Make, folder: Path) -> None:
    app = running(sleeper("job"), control={"socket": "run/own.sock"}).start()
    place = app.config.parent / "run" / "own.sock"
    assert place.is_socket() and mode_of(place) == 0o600
    assert place_of(app).is_socket()
    # Also while somebody works on the file.
    values = json.loads(app.config.read_text())
    app.config.write_text(json.dumps(dict(values, unknown=1)))
    assert app.states() == {"job": "running"}
    app.config.write_text(json.dumps(values))
    app.end()
    assert list(place.parent.iterdir()) == []


def test_a_file_in_the_place_of_the_socket_is_left_alone(running: Make) -> None:
    app = running(sleeper("job"), control={"socket": "precious"})
    precious = app.config.parent / "precious"
    precious.write_text("keep this")
    app.start()
    eventually(lambda: "precious is there already, and is no socket" in app.said())
    assert app.run("status").returncode == 0
    app.end()
    assert precious.read_text() == "keep this"


def test_a_named_socket_whose_real_path_is_too_long_is_had_by_the_one_that_was_given(
    running: Make, folder: Path
) -> None:
    deep = folder / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    (folder / "short").symlink_to(deep)
    app = running(sleeper("job"), control={"socket": str(folder / "short" / "own.sock")}).start()
    assert (deep / "own.sock").is_socket()
    app.end()
    assert list(deep.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_is_turned_away(running: Make, folder: Path) -> None:
    """Even where the folder would let them in."""
    app = running(sleeper("job"), control={"socket": str(folder / "open.sock")}).start()
    os.chmod(str(folder), 0o755)
    os.chmod(str(folder / "open.sock"), 0o666)
    answer: List[Any] = []
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(folder / "open.sock"))
                client.sendall(b'{"command": "status"}\n')
                os.write(writer, client.makefile("rb").readline())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        answer.append(json.loads(file.readline().decode()))
    os.waitpid(child, 0)
    assert answer == [{"ok": False, "error": "this is another user's pupgevent", "status": 2}]
    assert app.states() == {"job": "running"}
