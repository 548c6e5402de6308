"""A path that leads elsewhere tomorrow: releases behind a link, a ConfigMap of Kubernetes."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any, Callable, List, Optional

import pytest

import control_socket
import paths
from conftest import eventually
from errors import PupgeventError
from running import PUPGEVENT, Running, run, sleeper

pytest_plugins = ["runs"]

Make = Callable[..., Running]


class Releases:
    """`current/app.json` is the file of the release to which `current` has been switched last."""

    def __init__(self, app: Running, **top: Any) -> None:
        self.app = app
        self.top = top
        self.folder = app.config.parent
        app.config = self.folder / "current" / "app.json"
        self.release("1")

    def real(self, name: str) -> Path:
        return self.folder / name / "app.json"

    def release(self, name: str, *processes: Any) -> None:
        """As Capistrano does: a folder of its own, then the link, in one step."""
        self.real(name).parent.mkdir()
        whole = dict(self.top, processes=list(processes) or [sleeper("job", env={"R": name})])
        self.real(name).write_text(json.dumps(whole))
        self.switch(name)

    def switch(self, name: str) -> None:
        link = self.folder / "link"
        link.symlink_to(name)
        os.rename(str(link), str(self.folder / "current"))

    def release_of(self, instance: str) -> str:
        return release_of(self.app.pids()[instance])


class ConfigMap(Releases):
    """`app.json` leads to `..data/app.json`, and `..data` to the folder of a version."""

    def __init__(self, app: Running, **top: Any) -> None:
        self.app = app
        self.top = top
        self.folder = app.config.parent
        app.config.symlink_to("..data/app.json")
        self.release("1")

    def switch(self, name: str) -> None:
        link = self.folder / "..data_tmp"
        link.symlink_to(name)
        os.rename(str(link), str(self.folder / "..data"))


def release_of(pid: Optional[int]) -> str:
    """By what is in the environment of a process, be there one or not."""
    if pid is None:
        return ""
    words = Path("/proc/%d/environ" % pid).read_bytes().split(b"\0")
    return next((word[2:].decode() for word in words if word.startswith(b"R=")), "")


def second_start(path: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*PUPGEVENT, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True, timeout=60, check=False)


@pytest.mark.parametrize("make_releases", [Releases, ConfigMap])
@pytest.mark.parametrize("named", [{}, {"control": {"socket": "own.sock"}}])
def test_a_switch_loses_nothing(running: Make, make_releases: Any, named: Any) -> None:
    """Every command, a second start (cron), SIGHUP: also when the old release has been removed."""
    app = running()
    releases = make_releases(app, **named)
    app.start()
    releases.release("2")
    subprocess.check_call(["rm", "-r", str(releases.real("1").parent)])

    assert app.run("status").returncode == 0
    assert releases.release_of("job") == "1"
    done = second_start(app.config)
    assert (done.returncode, done.stderr) == (
        1, "pupgevent: %s is run by another pupgevent already, pid %d\n" % (
            app.config, app.child.pid))
    assert app.run("reload").stdout == "reloaded: changed job; restarted job\n"
    assert releases.release_of("job") == "2"
    assert app.status()["config"] == os.path.realpath(str(releases.real("2")))

    releases.release("3")
    app.signal(signal.SIGHUP)
    eventually(lambda: app.are(job="running") and releases.release_of("job") == "3")
    assert app.run("logs").returncode == 0
    assert app.run("restart", "job").returncode == 0
    assert app.run("shutdown").returncode == 0
    assert app.wait() == 0


def test_a_reload_after_a_switch_rolls_what_starts_in_a_folder_of_the_release(
    running: Make, tmp_path: Path
) -> None:
    """The file says the same: another release lies there."""
    app = running()
    elsewhere = sleeper("elsewhere", cwd=str(tmp_path))
    releases = Releases(app)
    releases.release("same", sleeper("job"), elsewhere)
    app.start()
    before = app.pids()
    assert app.run("reload").stdout == "reloaded: nothing differs\n"
    releases.release("again", sleeper("job"), elsewhere)
    assert app.run("reload").stdout == "reloaded: changed job; restarted job\n"
    after = app.pids()
    assert after["elsewhere"] == before["elsewhere"]
    assert os.readlink("/proc/%d/cwd" % after["job"]) == os.path.realpath(
        str(releases.real("again").parent))
    assert app.run("reload").stdout == "reloaded: nothing differs\n"


def test_one_file_is_not_run_twice_by_way_of_two_paths(running: Make) -> None:
    app = running()
    releases = Releases(app)
    app.start()
    other = releases.folder / "other.json"
    other.symlink_to(releases.real("1"))
    for path in (other, releases.real("1")):
        done = second_start(path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            "pupgevent: %s is run by another pupgevent already, as %s, pid %d\n" % (
                path, app.config, app.child.pid))
        assert run("status", str(path)).returncode == 0
    # What it has been started from is its own until it has read the next.
    releases.release("2")
    assert second_start(releases.real("1")).returncode == 1
    assert run("status", str(releases.real("1"))).returncode == 0
    assert run("status", str(releases.real("2"))).returncode == 4
    app.ask("reload")
    assert second_start(releases.real("2")).returncode == 1
    assert run("status", str(releases.real("2"))).returncode == 0
    assert run("status", str(releases.real("1"))).returncode == 4


def test_a_reload_does_not_take_a_file_that_another_runs(running: Make) -> None:
    app, other = running(), running(sleeper("other"))
    releases = Releases(app)
    app.start()
    other.config = releases.folder / "2" / "app.json"
    releases.release("2", sleeper("other"))
    releases.switch("1")
    other.start()
    releases.switch("2")
    done = app.run("reload")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "pupgevent: %s is run by another pupgevent already, as %s, pid %d\n" % (
        app.config, other.config, other.child.pid)
    assert releases.release_of("job") == "1"
    other.end()
    app.write(sleeper("job", env={"R": "2"}))
    assert app.run("reload").returncode == 0
    assert releases.release_of("job") == "2"


def test_a_reload_that_is_refused_changes_nothing_about_whose_the_files_are(
    running: Make
) -> None:
    app = running()
    releases = Releases(app)
    app.start()
    releases.release("2")
    releases.real("2").write_text("nonsense")
    assert app.run("reload").returncode == 2
    assert second_start(releases.real("1")).returncode == 1
    assert control_socket.addresses(str(releases.real("2"))) == control_socket.socket_paths(
        str(releases.real("2")))


def test_the_folder_in_which_it_was_started_may_have_been_a_link(
    running: Make, monkeypatch: "pytest.MonkeyPatch"
) -> None:
    """`cd current; pupgevent app.json`: the kernel knows the working directory without links."""
    app = running()
    releases = Releases(app)
    current = str(app.config.parent)
    monkeypatch.setenv("PWD", current)
    monkeypatch.chdir(current)
    app.config = Path("app.json")
    app.output = releases.folder / "output"
    app.start()
    releases.release("2")
    monkeypatch.chdir(current)
    assert app.run("reload").returncode == 0
    assert releases.release_of("job") == "2"
    assert app.run("status").returncode == 0
    unit = run("export", "systemd", "app.json").stdout
    assert " %s/app.json\n" % current in unit


def test_a_path_is_made_absolute_as_the_kernel_would(
    tmp_path: Path, monkeypatch: "pytest.MonkeyPatch"
) -> None:
    real = tmp_path / "real"
    (real / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/deep")
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.delenv("PWD", raising=False)
    folder = os.getcwd()
    cases: List[Any] = [
        ("app.toml", folder + "/app.toml"),
        ("./a//b/./app.toml", folder + "/a/b/app.toml"),
        ("link/app.toml", folder + "/link/app.toml"),
        ("real/../app.toml", folder + "/app.toml"),
        ("real/deep/../../app.toml", folder + "/app.toml"),
        ("link/../app.toml", folder + "/link/../app.toml"),
        ("link/../../app.toml", folder + "/link/../../app.toml"),
        ("/../app.toml", "/app.toml"),
    ]
    for given, absolute in cases:
        assert paths.absolute(given) == absolute
        assert os.path.realpath(given) == os.path.realpath(absolute)


@pytest.mark.parametrize("told", ["", "relative", "/", "/no/such/folder", "{}/./link", "{}/real"])
def test_the_working_folder_is_what_the_shell_tells_only_where_that_is_so(
    tmp_path: Path, monkeypatch: "pytest.MonkeyPatch", told: str
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to("here")
    monkeypatch.chdir(str(tmp_path / "here"))
    monkeypatch.setenv("PWD", told.format(tmp_path))
    assert paths.absolute("app.toml") == os.path.join(os.getcwd(), "app.toml")
    monkeypatch.setenv("PWD", str(tmp_path / "link"))
    assert paths.absolute("app.toml") == str(tmp_path / "link" / "app.toml")


def test_a_working_folder_that_has_been_removed_is_told(
    tmp_path: Path, monkeypatch: "pytest.MonkeyPatch"
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(str(gone))
    gone.rmdir()
    with pytest.raises(PupgeventError, match=r"app\.toml: no such file or directory"):
        control_socket.take("app.toml")
