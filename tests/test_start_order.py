"""`startAfter`: who waits for whom at a start, and at a stop."""

import os
import signal
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

import gevent
import pytest
from hypothesis import given, strategies as st

import concurrency
import configuration
import status
import status_table
from errors import ConfigurationError, PupgeventError
from inside import inside, sleeper
from start_order import Blocker, blocker, circle, longest_chain, stop_waves
from status import health_of
from supervision import PATIENCE, SupervisorStage, cluster, process, script, supervise, wait_until

# The pure part


@pytest.mark.parametrize("states, waits, stuck, expected", [
    (["running"], False, False, None),
    (["errored", "running", "starting"], False, False, None),
    (["finished", "finished"], False, False, None),
    (["starting", "errored"], False, False, ("starting", True)),
    (["errored"], False, False, ("errored", False)),
    (["backoff"], False, False, ("backoff", False)),
    (["stopping"], False, False, ("stopping", False)),
    (["created"], False, False, ("not started", False)),
    (["finished", "created"], False, False, ("finished", False)),
    ([], False, False, ("not started", False)),
    (["created"], True, False, ("waiting", True)),
    (["created"], True, True, ("waiting", False)),
])
def test_a_process_is_up_when_one_of_it_runs_or_all_have_finished(
    states: List[str], waits: bool, stuck: bool, expected: Any
) -> None:
    assert blocker("db", states, waits, stuck) == (expected and Blocker("db", *expected))


def many(after: Mapping[str, Sequence[str]]) -> List[Any]:
    return [process(id=each, start_after=tuple(names)) for each, names in after.items()]


def waves(after: Mapping[str, Sequence[str]]) -> List[List[str]]:
    return [[each.id for each in wave] for wave in stop_waves(many(after), lambda each: each)]


@pytest.mark.parametrize("after, expected", [
    ({}, []),
    ({"a": [], "b": []}, [["a", "b"]]),
    ({"web": ["db"], "db": []}, [["web"], ["db"]]),
    ({"db": [], "api": ["db"], "web": ["api", "db"], "log": []},
     [["web", "log"], ["api"], ["db"]]),
    # Whom it names is not among those that stop.
    ({"web": ["db"]}, [["web"]]),
])
def test_who_starts_last_stops_first(after: Any, expected: List[List[str]]) -> None:
    assert waves(after) == expected


GRAPHS = st.dictionaries(st.sampled_from("abcdefgh"), st.lists(st.sampled_from("abcdefghx")))


@given(GRAPHS)
def test_every_graph_stops_in_an_order_or_has_a_circle(after: Dict[str, List[str]]) -> None:
    found = circle(many(after))
    if found:
        assert all(following in after[each]
                   for each, following in zip(found, found[1:] + found[:1]))
    order = waves(after)
    assert sorted(each for wave in order for each in wave) == sorted(after)
    if not found:
        place = {each: number for number, wave in enumerate(order) for each in wave}
        for each, names in after.items():
            assert all(place[name] > place[each] for name in names if name in place)


def test_times_add_up_along_the_longest_chain() -> None:
    seconds = {"db": 10.0, "api": 5.0, "web": 1.0, "log": 14.0}
    after = {"web": ["api"], "api": ["db"], "db": [], "log": []}
    assert longest_chain(many(after), lambda each: seconds[each.id]) == 16.0
    assert longest_chain([], lambda each: 1.0) == 0.0


# In the file


def load(folder: Path, text: str) -> Any:
    path = folder / "app.toml"
    path.write_text(text)
    return configuration.load(str(path))


def two(first: str = "", second: str = "") -> str:
    return "".join('[[processes]]\nid = "%s"\ncmd = "true"\n%s\n' % each
                   for each in (("web", first), ("db", second)))


@pytest.mark.parametrize("first, second, line, told", [
    ('startAfter = ["dbs"]', "", 4,
     'processes[0].startAfter[0]: there is no process "dbs": did you mean "db"?'),
    ('startAfter = ["web"]', "", 4,
     'processes[0].startAfter[0]: "web" cannot start after itself'),
    ('startAfter = ["db"]', 'startAfter = ["web"]', 4,
     'processes[0].startAfter: "db" and "web" start after each other'),
    ('startAfter = "db"', "", 4,
     'processes[0].startAfter: "db" is not an array of ids of processes'),
    ('startAfter = ["db", 3]', "", 4, "processes[0].startAfter[1]: 3 is not a string"),
])
def test_what_cannot_be_followed_is_refused(
    first: str, second: str, line: int, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, two(first, second))
    assert (caught.value.line, caught.value.message) == (line, told)


def test_an_order_is_a_tuple_of_ids(tmp_path: Path) -> None:
    assert load(tmp_path, two('startAfter = ["db"]')).processes[0].start_after == ("db",)


# At a start


def first_running(stage: SupervisorStage) -> List[str]:
    """Who has come to run, in that order."""
    return [name for name, state in stage.changes if state == "running"]


def gate(folder: Path) -> str:
    """A command that comes up once there is a file named `open`, and then stays."""
    return "while [ ! -e %s/open ]; do sleep 0.02; done; exec sleep 600" % folder


def test_it_is_started_once_the_others_run(tmp_path: Path) -> None:
    with supervise(
        process(id="web", start_after=("db", "api")),
        process(id="api", start_after=("db",)),
        process(id="db", min_uptime=0.2),
    ) as stage:
        for name in ("web", "api", "db"):
            stage.reaches("running", name)
        assert first_running(stage) == ["db", "api", "web"]
        assert ("web", "starting") not in stage.changes[:stage.changes.index(("api", "running"))]
        assert "waits for db, which is starting" in " ".join(stage.page.texts("[api][core]"))


def test_a_job_is_done_when_it_has_finished() -> None:
    with supervise(process(id="web", start_after=("migrate",)),
                   process("exit 0", id="migrate", min_uptime=PATIENCE)) as stage:
        stage.reaches("running", "web")
        assert stage.instance("migrate").state == "finished"


def test_one_that_runs_of_a_cluster_is_enough() -> None:
    db = process('[ "$PUP_CLUSTER_INSTANCE" = 1 ] && exec sleep 600; exit 3', id="db",
                 cluster=cluster(None, 2))
    with supervise(process(id="web", start_after=("db",)), db) as stage:
        stage.reaches("running", "web")
        stage.reaches("errored", "db-1")


def test_it_waits_for_as_long_as_the_other_fails_and_is_unhealthy() -> None:
    db = process("exit 3", id="db", min_uptime=600.0)
    with supervise(process(id="web", start_after=("db",)), db) as stage:
        stage.reaches("errored", "db")
        web = stage.instance("web")
        wait_until(lambda: web.stuck)
        assert (web.state, web.wanted) == ("created", True)
        assert web.outcome == "it waits for db, which is errored"
        assert health_of(web, None).fails
        stage.instance("db").replace(
            db._replace(cmd="exec sleep 600", min_uptime=0.0), stage.instance("db").spec)
        assert stage.supervisor.start(["db"]) == []
        stage.reaches("running", "web")
        assert (web.blockers, health_of(web, None).fails) == ([], False)


def test_who_waits_for_somebody_that_waits_learns_that_it_is_in_vain() -> None:
    with supervise(
        process(id="web", start_after=("api",)), process(id="api", start_after=("db",)),
        process("exit 3", id="db", min_uptime=600.0),
    ) as stage:
        wait_until(lambda: stage.instance("web").stuck)
        assert stage.instance("web").outcome == "it waits for api, which is waiting"


def test_nobody_waits_for_what_is_not_started_where_all_are_about_to_be(
    monkeypatch: "pytest.MonkeyPatch"
) -> None:
    monkeypatch.setattr(concurrency, "SLICE", 0.0)  # each runs before the next is ordered to
    chain = [process(id="web", start_after=("api",)), process(id="api", start_after=("db",)),
             process(id="db")]
    with supervise(*chain) as stage:
        stage.reaches("running", "web")
        stage.supervisor.stop(["web", "api", "db"])
        with gevent.Timeout(PATIENCE):
            assert stage.supervisor.start(["web", "api", "db"]) == []
        assert [line for line in stage.page.lines if "not started" in line] == []


def test_a_start_that_waits_in_vain_fails_and_says_for_whom() -> None:
    with supervise(process(id="web", start_after=("db",), autostart=False),
                   process(id="db", autostart=False)) as stage:
        with gevent.Timeout(PATIENCE):
            failure, = stage.supervisor.start(["web"])
        assert str(failure) == "web did not come up: it waits for db, which is not started"
        # It is still wanted.
        assert stage.supervisor.start(["db"]) == []
        stage.reaches("running", "web")


def test_a_start_of_both_waits_until_both_run() -> None:
    with supervise(process(id="web", start_after=("db",), autostart=False),
                   process(id="db", autostart=False, min_uptime=0.2)) as stage:
        with gevent.Timeout(PATIENCE):
            assert stage.supervisor.start(["web", "db"]) == []
        assert first_running(stage) == ["db", "web"]


def test_a_stop_ends_the_waiting(tmp_path: Path) -> None:
    with supervise(process(id="web", start_after=("db",)),
                   process(gate(tmp_path), id="db", min_uptime=600.0)) as stage:
        wait_until(lambda: stage.instance("web").blockers)
        stage.supervisor.stop(["web"])
        web = stage.instance("web")
        assert (web.state, web.attempts) == ("stopped", 0)
        wait_until(lambda: not web.blockers)
        stage.instance("db").kill()
        stage.reaches("stopped", "db")
        assert web.attempts == 0


def test_a_restart_after_a_failure_waits_for_nobody() -> None:
    with supervise(process(id="web", start_after=("db",), restart="always"),
                   process(id="db")) as stage:
        pid = stage.pid("web")
        stage.supervisor.stop(["db"])
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: stage.instance("web").restarts == 1)
        assert stage.pid("web") != pid


def test_a_rolling_restart_waits_for_nobody(tmp_path: Path) -> None:
    """What serves goes on to serve, whatever it started after."""
    web = sleeper("web", startAfter=["db"], minUptimeMs=0, cluster={"instances": 2})
    with inside(tmp_path, [web, sleeper("db", minUptimeMs=0)]) as stage:
        before = stage.pids()
        stage.operations.stop(["db"], stage.told.append)
        with gevent.Timeout(PATIENCE):
            stage.operations.restart(["web"], stage.told.append)
        assert stage.states() == {"web-1": "running", "web-2": "running", "db": "stopped"}
        assert before["web-1"] != stage.pids()["web-1"]


def test_status_tells_who_waits_for_whom(tmp_path: Path) -> None:
    web = sleeper("web", startAfter=["db"], autostart=False)
    with inside(tmp_path, [web, sleeper("db", autostart=False)]) as stage:
        with pytest.raises(PupgeventError):
            stage.operations.start(["web"], stage.told.append)
        found = status.snapshot(stage.runtime, {}, "0.1.0")
        first, second = (process.members[0] for process in found.processes)
        assert (first.waits_for, second.waits_for) == ("db, which is not started", None)
        assert not found.healthy
        row, = (line for line in status_table.table(found, None) if line.split()[0] == "web")
        assert row.split()[1] == "waiting"


def test_a_command_tells_what_a_start_waits_for(tmp_path: Path) -> None:
    processes = [sleeper("web", startAfter=["db"], autostart=False),
                 sleeper("db", autostart=False)]
    with inside(tmp_path, processes) as stage:
        with pytest.raises(PupgeventError, match="it waits for db, which is not started"):
            stage.operations.start(["web"], stage.told.append)
        assert "web: it waits for db, which is not started" in stage.told


# At a stop


def test_everything_stops_in_the_other_order(tmp_path: Path) -> None:
    """The database is there until the last one that uses it has gone."""
    web = process(script("stubborn.py"), id="web", start_after=("db",), terminate_timeout=0.3,
                  cluster=cluster(None, 2))
    with supervise(web, process(id="db"), process(id="log")) as stage:
        for name in ("web-1", "web-2", "db", "log"):
            stage.reaches("running", name)
        stage.supervisor.shutdown()
        stopped = [name for name, state in stage.changes if state == "stopped"]
        stopping = [name for name, state in stage.changes if state == "stopping"]
    assert (stopped[-1], stopping[-1]) == ("db", "db")
    assert all(stage.changes.index(("db", "stopping")) > stage.changes.index((each, "stopped"))
               for each in ("web-1", "web-2"))
    # Nobody starts after it, so it waits for nobody.
    assert stage.changes.index(("log", "stopping")) < stage.changes.index(("web-1", "stopped"))


def test_a_kill_waits_for_no_order() -> None:
    with supervise(process(id="web", start_after=("db",)), process(id="db")) as stage:
        stage.reaches("running", "web")
        stage.supervisor.kill()
        for name in ("web", "db"):
            assert stage.instance(name).state in ("stopping", "stopped", "running")
            stage.reaches("stopped", name)
