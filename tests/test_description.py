"""What `describe` knows of a process: its settings, its history; and an older pupgevent."""

import json
from pathlib import Path
from typing import Any, Dict, List

import gevent
import pytest

import configuration
import control_socket
import keys
from certificates import make
from control import Control, Request
from control_protocol import BadReply, checked
from description import MOST_STATES, describe
from description_report import Setting
from inside import inside, sleeper
from instance_history import InstanceHistory
from logs import Log
from model import Configuration
from running import run
from settings import settings_of
from sinks import Sink
from snapshots import Snapshots
from status_commands import description_in
from status_report import to_json
from supervision import wait_until

pytest_plugins = ["runs"]


# Settings


def loaded(folder: Path, process: Dict[str, Any], **top: Any) -> Configuration:
    path = folder / "app.json"
    path.write_text(json.dumps(dict(top, processes=[process])))
    return configuration.load(str(path))


def settings(folder: Path, process: Dict[str, Any], **top: Any) -> List[Setting]:
    found = loaded(folder, process, **top)
    return settings_of(found.processes[0], found)


def chosen(found: "List[Setting]") -> Dict[str, str]:
    return {each.name: each.value for each in found if not each.is_default}


PLAIN = {"id": "app", "cmd": "x"}

#: Of each kind, as the file spells it.
EVERYTHING: Dict[str, Any] = {
    "id": "app", "cmd": ["python3", "a b.py", "\u00e9\"'\\"], "autostart": True,
    "cron": "*/5 * * * *", "terminate": "0 3 * * *", "overrun": True, "watch": ["/srv"],
    "cwd": "/", "path": "/opt/bin", "pidFile": "/run/app.pid", "umask": "027", "nice": 5,
    "limits": {"nofile": "1024:unlimited", "core": 0, "memlock": "64M", "stack": "8M:16M",
               "nproc": 2048, "as": "unlimited"},
    "cluster": {
        "instances": 3, "startPort": 8000, "commonPort": 3000, "commonHost": "::1",
        "instanceHost": "127.0.0.2", "protocol": "http", "strategy": "ip-hash",
        "readyTimeoutMs": 1234, "connectTimeoutMs": 0.5, "queueTimeoutMs": 1, "queueLimit": 5,
        "maxConnections": 7, "slowStartMs": 250,
        "health": {"path": "/healthz", "intervalMs": 500, "timeoutMs": 250, "rise": 1, "fall": 2,
                   "restart": True, "passive": {"count": 7, "seconds": 1.5}},
        "idleTimeoutMs": 1000.25, "halfCloseTimeoutMs": 0, "headTimeoutMs": 2000,
        "responseTimeoutMs": 3000, "keepUpstream": 0, "accessLog": "/tmp/access.log",
    },
    "restart": "error", "restartDelayMs": 0, "restartMaxDelayMs": 100, "restartLimit": 3,
    "minUptimeMs": 10, "timeout": 0.25, "terminateGracePeriod": 1.5, "terminateTimeout": 0,
    "essential": False, "stopSignal": "SIGINT", "maxMemory": "1536M", "onFailure": "mail root",
    "logger": {"console": False, "decorate": False, "colors": True, "stdout": "/tmp/{id}.log",
               "stderr": "/tmp/{id}.err", "decorateFiles": True, "maxBytes": "10M", "backups": 0,
               "compress": True, "internalLogHours": 0.5},
}  # fmt: skip


def test_what_is_told_is_what_a_file_could_have(tmp_path: Path) -> None:
    """A file that is made of it says the same."""
    before = loaded(tmp_path, EVERYTHING)
    told = settings_of(before.processes[0], before)
    assert [each.name for each in told if each.is_default] == ["essential"]
    values: Dict[str, Any] = {}
    for each in told:
        table = values
        *outer, name = each.name.split(".")
        for part in outer:
            table = table.setdefault(part, {})
        table[name] = json.loads(each.value)
    assert values == EVERYTHING
    assert loaded(tmp_path, values).processes == before.processes


def test_every_key_that_does_something_is_among_them() -> None:
    """But for those that need root or other keys away, which have tests of their own."""
    told = {*EVERYTHING, "env", "envFile", "user", "group", "startAfter"}
    assert told == set(keys.PROCESS.names)


def test_what_is_not_set_is_a_default_or_is_not_there(tmp_path: Path) -> None:
    found = settings(tmp_path, PLAIN)
    assert chosen(found) == {"id": '"app"', "cmd": '"x"'}
    defaults = {each.name: each.value for each in found if each.is_default}
    assert defaults["restart"] == '"never"' and defaults["cwd"] == json.dumps(str(tmp_path))
    assert defaults["logger.maxBytes"] == '"50M"' and defaults["stopSignal"] == '"SIGTERM"'
    # Neither has a value, and nothing is in effect.
    assert not {"cron", "env", "watch", "cluster.instances", "logger.stdout"} & set(defaults)


def test_what_is_about_requests_is_told_with_http_alone(tmp_path: Path) -> None:
    cluster: Dict[str, Any] = {"startPort": 8000, "commonPort": 3000}
    names = {"cluster.headTimeoutMs", "cluster.responseTimeoutMs", "cluster.keepUpstream"}
    assert not names & {each.name for each in settings(tmp_path, dict(PLAIN, cluster=cluster))}
    cluster["protocol"] = "http"
    found = settings(tmp_path, dict(PLAIN, cluster=cluster))
    defaults = {each.name: each.value for each in found if each.is_default}
    assert names <= set(defaults) and defaults["terminateGracePeriod"] == "30"


def test_how_long_a_handshake_may_take_is_told_with_tcp_too(tmp_path: Path) -> None:
    pair = make(tmp_path)
    cluster = {"startPort": 8000, "commonPort": 3000, "headTimeoutMs": 2000,
               "tls": {"cert": pair.cert, "key": pair.key}}
    found = settings(tmp_path, dict(PLAIN, cluster=cluster))
    names = {each.name for each in found}
    assert chosen(found)["cluster.headTimeoutMs"] == "2000"
    assert not {"cluster.responseTimeoutMs", "cluster.keepUpstream"} & names


def test_a_default_that_follows_from_other_keys_is_one(tmp_path: Path) -> None:
    cluster = {"startPort": 8000, "commonPort": 3000}
    found = settings(tmp_path, dict(PLAIN, autostart=True, cluster=cluster, restartDelayMs=60000,
                                    logger={"stdout": "/tmp/out"}))
    assert set(chosen(found)) == {
        "id", "cmd", "autostart", "cluster.startPort", "cluster.commonPort", "restartDelayMs",
        "logger.stdout"}
    defaults = {each.name: each.value for each in found if each.is_default}
    assert defaults["terminateGracePeriod"] == "10" and defaults["restart"] == '"always"'
    assert defaults["restartMaxDelayMs"] == "60000"
    assert defaults["logger.stderr"] == '"/tmp/out"'
    assert defaults["logger.decorateFiles"] == "false"


@pytest.mark.parametrize("top, grace", [({}, "0"), ({"agent": {"port": 9001}}, "5")])
def test_with_an_agent_an_instance_without_a_common_port_has_time_until_the_front_knows(
    tmp_path: Path, top: Dict[str, Any], grace: str
) -> None:
    found = settings(tmp_path, dict(PLAIN, cluster={"startPort": 8000}), **top)
    assert Setting("terminateGracePeriod", grace, True) in found


def test_what_the_top_level_sets_for_all_is_set(tmp_path: Path) -> None:
    found = settings(tmp_path, PLAIN, terminateTimeout=5, terminateGracePeriod=7,
                     logger={"stdout": "/tmp/out", "internalLogHours": 1})
    assert chosen(found) == {
        "id": '"app"', "cmd": '"x"', "terminateTimeout": "5", "terminateGracePeriod": "7",
        "logger.stdout": '"/tmp/out"', "logger.internalLogHours": "1",
        "logger.decorateFiles": "true"}


def test_of_the_environment_only_the_names_are_told(tmp_path: Path) -> None:
    (tmp_path / "variables").write_text("PASSWORD=hunter2\nOTHER=hunter3\n")
    found = settings(tmp_path, dict(PLAIN, env={"TOKEN": "hunter4"}, envFile="variables"))
    assert chosen(found)["env"] == "{ TOKEN } (values not shown)"
    assert chosen(found)["envFile"] == "{ PASSWORD, OTHER } (values not shown)"
    assert "hunter" not in str(found)


# History


class Hands:
    """A clock that is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def came(history: InstanceHistory, clock: Hands, *states: Any) -> float:
    """Since when it fails, after these states, each so many seconds after the one before."""
    for state, seconds in states:
        clock.now += seconds
        history.add(state, "")
    return history.failing_for


def test_one_fails_since_its_first_failure_in_a_row() -> None:
    clock = Hands()
    history = InstanceHistory(clock)
    assert came(history, clock, ("starting", 1), ("running", 1), ("backoff", 3)) == 0
    assert came(history, clock, ("starting", 5), ("backoff", 1)) == 6
    # Nine seconds are no success.
    assert came(history, clock, ("starting", 1), ("running", 1), ("exhausted", 9)) == 17
    assert came(history, clock, ("starting", 1), ("running", 1), ("backoff", 10)) == 0
    assert came(history, clock, ("starting", 1), ("errored", 2)) == 3


@pytest.mark.parametrize("state", ["stopped", "finished"])
def test_what_was_stopped_or_has_done_its_work_fails_no_more(state: str) -> None:
    clock = Hands()
    history = InstanceHistory(clock)
    came(history, clock, ("starting", 1), ("backoff", 1))
    assert came(history, clock, (state, 100), ("starting", 1)) == 0
    assert came(history, clock, ("errored", 5)) == 0


def test_the_history_of_all_instances_is_one_and_what_is_left_out_is_counted(
    tmp_path: Path
) -> None:
    busy = sleeper("busy", cluster={"instances": 3}, cmd=["sh", "-c", "exit 3"], restart="always",
                   restartDelayMs=0)
    with inside(tmp_path, [dict(busy, autostart=False)]) as stage:
        stage.runtime.supervisor.start(["busy-1", "busy-2", "busy-3"])
        instances = stage.runtime.instances()
        wait_until(lambda: sum(each.history.total for each in instances) > 2 * MOST_STATES)
        status = Snapshots(stage.runtime, "0").take(usage=False)
        found = describe(stage.runtime, "busy", list(instances), status)
        total = sum(each.history.total for each in instances)
    assert len(found.history) == MOST_STATES
    assert MOST_STATES < found.forgotten <= total - MOST_STATES
    times = [past.at for past in found.history]
    assert times == sorted(times)
    assert {past.instance for past in found.history} <= {"busy-1", "busy-2", "busy-3"}
    assert any(past.text.startswith("exit code 3, restart ") for past in found.history)
    # It survives the way to the command.
    sent = json.dumps({"ok": True, "description": to_json(found)})
    assert to_json(description_in(checked(json.loads(sent), True))) == to_json(found)


@pytest.mark.parametrize("value", [None, {}, {"status": {}}, []])
def test_a_description_of_another_form_is_odd(value: Any) -> None:
    with pytest.raises(BadReply):
        description_in(checked({"ok": True, "description": value}, True))


def test_an_older_pupgevent_that_cannot_be_described_is_told_as_that(folder: Path) -> None:
    config = folder / "app.json"
    config.write_text(json.dumps({"processes": [PLAIN]}))
    control = Control(
        control_socket.take(str(config), None),
        {"status": Request({}, lambda fields, connection: {})}, Log(Sink()))
    control.start()
    try:
        done = gevent.get_hub().threadpool.apply(run, ("describe", str(config), "app"))
    finally:
        control.close()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "pupgevent: the running pupgevent is older than this one: it can be described once it has"
        " been restarted\n")
