"""CONFIG left out: the one file of the current folder that can be meant, named; no guess."""

import json
import subprocess
from pathlib import Path
from typing import Any, Callable, List

import pytest

import default_config
from conftest import eventually
from errors import UsageError
from running import PUPGEVENT, Running, run, sleeper

pytest_plugins = ["runs"]

Make = Callable[..., Running]

USAGE = " (pupgevent --help shows the usage)\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: Any) -> Path:
    """The current folder, empty."""
    monkeypatch.chdir(str(tmp_path))
    return tmp_path


def write(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".toml":
        path.write_text('[[processes]]\nid = "job"\ncmd = "sleep 600"\n')
    else:
        path.write_text(json.dumps({"processes": [{"id": "job", "cmd": "sleep 600"}]}))


@pytest.mark.parametrize("name", default_config.NAMES)
def test_the_only_file_of_the_folder_is_taken_and_named(here: Path, name: str) -> None:
    write(here / name)
    done = run("check")
    assert (done.returncode, done.stdout) == (0, "job, not started by itself\n")
    assert done.stderr == "pupgevent: using %s\n" % name


def test_other_files_are_not_taken(here: Path) -> None:
    for name in ("app.toml", "package.json", "conf/full.toml", "conf/pup.json"):
        write(here / name)
    (here / "pup.json").mkdir()
    done = run("status")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "pupgevent: CONFIG is missing, and this folder has no pupgevent.toml, pup.json, pup.jsonc"
        " or conf/app.toml" + USAGE)


@pytest.mark.parametrize("names, told", [
    (["pup.json", "conf/app.toml"], "pup.json and conf/app.toml"),
    (["pupgevent.toml", "pup.json", "pup.jsonc"], "pupgevent.toml, pup.json and pup.jsonc"),
])  # fmt: skip
@pytest.mark.parametrize("words", ["", "check", "restart job", "export systemd", "signal HUP"])
def test_more_than_one_is_a_question(
    here: Path, names: List[str], told: str, words: str
) -> None:
    for name in names:
        write(here / name)
    done = run(*words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "pupgevent: CONFIG is missing, and this folder has %s: which one is meant?%s" % (
            told, USAGE))


def test_a_file_that_is_named_is_not_doubted(here: Path) -> None:
    for name in default_config.NAMES:
        write(here / name)
    done = run("check", "pup.json")
    assert (done.returncode, done.stderr) == (0, "")


def test_what_needs_no_file_looks_for_none(here: Path) -> None:
    for words in (["--help"], ["--version"], ["completion", "bash"]):
        done = run(*words)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_link_that_leads_nowhere_counts(here: Path) -> None:
    """What it led to may still run."""
    (here / "pup.json").symlink_to("gone.json")
    assert default_config.find() == "pup.json"
    done = run("check")
    assert done.returncode == 2
    assert done.stderr == "pupgevent: using pup.json\npup.json: there is no such file\n"


def test_a_folder_that_is_gone_has_none(here: Path) -> None:
    here.rmdir()
    with pytest.raises(UsageError, match="this folder has no"):
        default_config.find()


def named_pup_json(app: Running) -> Running:
    name = app.config.with_name("pup.json")
    app.config.rename(name)
    app.config = name
    return app


def test_every_command_works_without_config(running: Make, monkeypatch: Any) -> None:
    """Also for one that was started by its whole path."""
    app = named_pup_json(running(sleeper("job"), sleeper("my-app", cluster={"instances": 2})))
    app.start()
    monkeypatch.chdir(str(app.config.parent))
    using = "pupgevent: using pup.json\n"
    for words in ("status", "status job", "restart job", "reload", "scale my-app 3", "logs",
                  "signal CONT", "stop my-app-1", "start my-app-1", "check"):
        done = run(*words.split())
        assert (words, done.returncode, done.stderr[: len(using)]) == (words, 0, using)
    assert len(app.members()) == 4
    assert json.loads(run("status", "--json").stdout)["healthy"]
    done = run("shutdown")
    assert (done.returncode, done.stdout) == (0, "stopped\n")
    assert app.wait() == 0


def test_a_run_without_config_is_known_by_its_path(running: Make, monkeypatch: Any) -> None:
    app = named_pup_json(running(sleeper("job")))
    monkeypatch.chdir(str(app.config.parent))
    with open(str(app.output), "ab") as output:
        app.child = subprocess.Popen(
            PUPGEVENT, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    eventually(lambda: app.are(job="running"))
    assert app.said().splitlines()[0] == "pupgevent: using pup.json"
