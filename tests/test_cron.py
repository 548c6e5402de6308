"""Jobs by the clock, in a real pupgevent: its file, its commands, its real clock."""

import datetime
import json
import time
from pathlib import Path
from typing import Callable, List, Tuple

import pytest

from conftest import eventually
from running import Running, sleeper

pytest_plugins = ["runs"]

Make = Callable[..., Running]

#: Pup's example of a job in a container.
DOCKER = """{
  "processes": [
    {
      "id": "periodic-task-demo",
      "cmd": "deno run task.ts",
      "cron": "0/5 * * * * *",
      "restartLimit": 1
    }
  ]
}
"""


def toml(running: Make, text: str) -> Running:
    app = running(suffix=".toml")
    app.config.write_text(text)
    return app


def in_half_a_year() -> Tuple[str, str]:
    """A day as a pattern has it, and as a message does."""
    today = datetime.date.today()
    year, month = divmod(today.year * 12 + today.month + 5, 12)
    return "15 %d *" % (month + 1), "%d-%02d-15" % (year, month + 1)


def test_a_job_runs_each_second(running: Make, folder: Path) -> None:
    written = folder / "times"
    app = toml(running, """
[[processes]]
id = "job"
cmd = "date +%%s >> %s"
cron = "* * * * * *"
""" % written)
    began = time.time()
    app.begin()

    def lines() -> List[str]:
        return written.read_text().splitlines()

    eventually(lambda: len(lines()) >= 4)
    assert len(lines()) <= time.time() - began + 1
    process = app.process("job")
    assert process["healthy"] and process["nextRun"] <= time.time() + 1
    (member,) = process["members"]
    assert (member["restarts"], member["lastExit"]) in ((0, "exit code 0"), (0, None))
    status = app.run("status")
    assert (status.returncode, status.stdout.splitlines()[-1][:14]) == (0, "job: starts at")


def test_a_job_that_takes_longer_is_left_alone_and_reported_once(running: Make) -> None:
    app = running(sleeper("job", autostart=False, cron="* * * * * *")).begin()
    eventually(lambda: "still running: a start by cron is left out" in app.said())
    pid = app.pids()["job"]
    time_of = time.time()
    eventually(lambda: app.process("job")["nextRun"] > time_of + 2)
    assert app.pids()["job"] == pid
    assert app.said().count("left out") == 1


def test_a_reload_takes_the_pattern_away_at_once(running: Make) -> None:
    job = sleeper("job", autostart=False, cron="* * * * * *", cmd=["true"])
    app = running(job).begin()
    eventually(lambda: app.said().count("job][core] started") >= 2)
    app.write(sleeper("job", autostart=False, cmd=["true"]))
    assert app.ask("reload")["text"] == "reloaded: changed job"
    assert app.process("job")["nextRun"] is None
    eventually(lambda: app.are(job="finished") and app.members()["job"]["since"] > 2.1)


def test_a_stop_names_the_time_at_which_cron_starts_it_again(running: Make) -> None:
    day, date = in_half_a_year()
    app = running(sleeper("job", cron="0 0 " + day)).start()
    done = app.run("stop", "job")
    assert done.stdout == "stopped: job; cron starts job again at %s 00:00:00\n" % date


def test_pups_example_of_a_container_is_accepted(running: Make) -> None:
    app = running()
    app.config.write_text(DOCKER)
    done = app.run("check")
    assert done.returncode == 0
    assert done.stdout.startswith("periodic-task-demo, starts at ")


def test_check_tells_the_next_times(running: Make) -> None:
    day, date = in_half_a_year()
    app = running(
        sleeper("job", autostart=False, cron="0 0 " + day, terminate="30 12 " + day),
        sleeper("web", terminate="0 0 " + day))
    assert app.run("check").stdout.splitlines() == [
        "job, starts at %s 00:00:00, stops at %s 12:30:00" % (date, date),
        "web, stops at %s 00:00:00" % date,
    ]


def test_a_wrong_pattern_is_a_line_with_its_place(running: Make) -> None:
    app = toml(running, """
[[processes]]
id = "job"
cmd = "true"
cron = "0 25 * * *"
terminate = "0 0 30 2 *"
overrun = 1

[[processes]]
id = "other"
cmd = "true"
cron = 5
""")
    done = app.run("check")
    assert done.returncode == 2
    assert done.stderr.replace(str(app.config), "app.toml").splitlines() == [
        'app.toml:5: processes[0].cron: "0 25 * * *" is not a cron pattern: the hour "25" is not'
        " from 0 to 23",
        'app.toml:6: processes[0].terminate: "0 0 30 2 *" is not a cron pattern: there is no such'
        " day in any year",
        "app.toml:7: processes[0].overrun: 1 is not a boolean: true or false",
        "app.toml:12: processes[1].cron: 5 is not a cron pattern",
    ]


def test_the_zone_is_that_of_the_environment(
    running: Make, monkeypatch: "pytest.MonkeyPatch"
) -> None:
    app = running(sleeper("job", cron="0 12 1 1 *")).start()
    here = app.process("job")["nextRun"]
    monkeypatch.setenv("TZ", "<-12>12")
    other = running(sleeper("job", cron="0 12 1 1 *")).start()
    there = json.loads(other.run("status", "--json").stdout)["processes"][0]["nextRun"]
    assert there != here and time.gmtime(there)[3:6] == (0, 0, 0)
