"""What somebody who comes from Pup is told: keys that are not here, and defaults that differ."""

import json
from pathlib import Path
from typing import Any, List

import pytest

import configuration
from errors import ConfigurationError
from pup_differences import INSTEAD, hints
from running import run

SERVER = {"id": "web", "cmd": "sleep 600", "autostart": True}
BALANCED = dict(SERVER, cluster={"instances": 2, "startPort": 8000, "commonPort": 3000})

JOB = {"id": "job", "cmd": "true"}
LOGGED = dict(JOB, logger={"stdout": "job.log"})


@pytest.mark.parametrize("processes, top, told", [
    ([SERVER], {}, ["restartDelayMs is not set (web): ", "restart is not set (web): "]),
    ([dict(SERVER, restart="always", restartDelayMs=10000)], {}, []),
    # What is not started by itself is restarted by neither.
    ([dict(SERVER, autostart=False)], {}, []),
    ([BALANCED], {}, [
        "restartDelayMs is not set (web): ", "restart is not set (web): ",
        "terminateGracePeriod is not set (web): "]),
    ([dict(BALANCED, restart="never", restartDelayMs=1, terminateGracePeriod=0)], {}, []),
    ([dict(BALANCED, restart="never", restartDelayMs=1)], {"terminateGracePeriod": 0}, []),
    ([dict(SERVER, id=name, restart="never") for name in "abcd"], {},
     ["restartDelayMs is not set (a, b, c, ...): "]),
    ([JOB], {"logger": {"console": False, "stdout": None}}, []),
    ([JOB], {"logger": {"stdout": "a.log"}}, ["maxBytes is not set in logger: "]),
    ([JOB], {"logger": {"stderr": "a.log", "maxBytes": 5}}, []),
    ([LOGGED], {}, ["maxBytes is not set in logger: "]),
    ([LOGGED, JOB, dict(LOGGED, id="x")], {"logger": {"stderr": "a.log", "maxBytes": 0}},
     ["logger has a file of its own (job, x): "]),
    ([LOGGED], {"logger": "wrong"}, ["maxBytes is not set in logger: "]),
])
def test_each_default_that_differs_is_told_once(
    processes: List[Any], top: Any, told: List[str]
) -> None:
    found = list(hints(dict(top, processes=processes)))
    assert [line.partition(": ")[0] + ": " for line in found] == told


def test_check_gives_hints_for_json_and_none_for_toml(tmp_path: Path) -> None:
    (tmp_path / "pup.json").write_text(json.dumps({"processes": [SERVER]}))
    (tmp_path / "app.toml").write_text(
        '[[processes]]\nid = "web"\ncmd = "sleep 600"\nautostart = true\n')
    done = run("check", str(tmp_path / "pup.json"))
    assert (done.returncode, done.stdout) == (0, "web\n")
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("%s: hint: " % (tmp_path / "pup.json")) for line in lines)
    done = run("check", str(tmp_path / "app.toml"))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", INSTEAD)
def test_a_key_that_is_refused_is_told_with_what_to_use(name: str, tmp_path: Path) -> None:
    path = tmp_path / "pup.json"
    path.write_text(json.dumps({"processes": [dict(SERVER, **{name: "x"})]}))
    with pytest.raises(ConfigurationError) as caught:
        configuration.load(str(path))
    assert caught.value.message == (
        'processes[0]: "%s" is a key of Pup that pupgevent does not have: %s' % (
            name, INSTEAD[name]))
