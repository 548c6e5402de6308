"""Numbers as people read them, and a table that fits."""

import json
from typing import Any, List, Optional

import pytest

import status_commands
import status_table
from procfs import _ProcStat, _Sample, usage
from status_report import (
    BackendStatus,
    BalancerStatus,
    InstanceStatus,
    ProcessStatus,
    RestartCauses,
    Status,
    from_json,
    to_json,
)


@pytest.mark.parametrize(
    "value, text",
    [(0, "0"), (9999, "9999"), (10000, "10k"), (12345, "12k"), (999499, "999k"),
     (999500, "1.0M"), (10**9, "1.0G"), (10**15, "1000T")],
)  # fmt: skip
def test_counts(value: int, text: str) -> None:
    assert status_table.count(value) == text


@pytest.mark.parametrize(
    "value, text",
    [(0, "0"), (1023, "1023"), (1024, "1.0K"), (10188, "9.9K"), (10240, "10K"), (2**20, "1.0M"),
     (2**20 - 1, "1.0M"), (5 * 2**30, "5.0G")],
)  # fmt: skip
def test_sizes(value: int, text: str) -> None:
    assert status_table.size(value) == text


@pytest.mark.parametrize(
    "seconds, text",
    [(0.4, "0s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (3661, "1h01m"),
     (90000, "1d01h"), (86400 * 400, "400d00h")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert status_table.duration(seconds) == text


BACKEND = BackendStatus("up", "", 12, 123456, 10**6, 10**9, 0, 0, 0, 60.0, None, None)
NO_RESTARTS = RestartCauses(0, 0, 0, 0, 0, 0)


def member(name: str, **more: Any) -> InstanceStatus:
    found = InstanceStatus(
        id=name, number=0, port=8000, state="running", since=60.0, wanted=True, serves=True,
        pid=4711, uptime=12345.6, restarts=3, restarts_by=NO_RESTARTS._replace(exit=3),
        last_exit=None, reason=None, last_line=None, retry_in=None, waits_for=None,
        cpu=0.123, cpu_time=1.5,
        memory=18 * 2**20, backend=BACKEND)  # fmt: skip
    return found._replace(**more)


def status(members: List[InstanceStatus], process_id: str = "my-app") -> Status:
    balancer = BalancerStatus(
        "least-connections", 100, 48, 99, 10**6, 10**9, 0, 0, 2, 5, 0, "::", 3000)
    process = ProcessStatus(
        process_id, True, True, "running", 4, 4, len(members), None, None, balancer,
        tuple(members))
    return Status("0.1.0", 1, "shop", "/app.toml", 60.0, "running", True, (process,))


def test_a_status_survives_json() -> None:
    found = status([member("my-app-1"), member("my-app-2", backend=None, pid=None, port=None)])
    assert from_json(Status, json.loads(json.dumps(to_json(found)))) == found


def test_json_has_the_keys_of_the_reference_in_their_order() -> None:
    found = to_json(status([member("my-app-1", since=1.23456789)]))
    (process,) = found["processes"]
    (one,) = process["members"]
    assert " ".join(found) == "version pid name config uptime state healthy processes"
    assert " ".join(process) == (
        "id autostart healthy state up wanted instances nextRun nextStop balancer members")
    assert " ".join(process["balancer"]) == (
        "strategy accepted open total bytesIn bytesOut connectErrors retries queue queueMost"
        " turnedAway host port")
    assert " ".join(one) == (
        "id index port state since wanted serves pid uptime restarts restartsBy lastExit reason"
        " lastLine retryIn waitsFor cpu cpuTime memory backend")
    assert " ".join(one["backend"]) == (
        "state reason open total bytesIn bytesOut connectErrors retries downs since connectTime"
        " firstByteTime")
    assert one["since"] == 1.234568


def test_busy_instances_fit_80_columns() -> None:
    found = status([member("my-app-%d" % number) for number in range(1, 5)])
    lines = status_table.table(found)
    assert max(map(len, lines)) <= 80
    assert lines[1] == "my-app   running, 4/4 up, 48 open, 2 queued; :3000 least-connections"
    assert lines[2] == "my-app-1 running 4711 8000  3h25m   3   12  123k 977K 954M 12% 18M"


@pytest.mark.parametrize("width", [80, 100, None])
def test_long_ids_are_shortened_in_the_middle_where_there_is_a_width(width: Optional[int]) -> None:
    name = "a-very-long-name-of-an-application-that-does-not-fit"
    found = status([member("%s-%d" % (name, number)) for number in (1, 2)], name)
    lines = status_table.table(found, width)
    if width is None:
        assert name + "-1" in lines[2]
    else:
        assert max(map(len, lines)) <= width
        assert "~" in lines[2] and lines[2].split()[0].endswith("-1")
        assert lines[3].split()[0].endswith("-2")


def test_one_that_lives_and_is_not_reached_is_down() -> None:
    backend = BACKEND._replace(state="down")
    found = status([member("my-app-1", serves=False, backend=backend)])
    assert "down" in status_table.table(found)[2].split()


def test_what_there_is_none_of_is_a_dash() -> None:
    empty = member("job", state="stopped", pid=None, port=None, uptime=None, cpu=None,
                   memory=None, backend=None)
    assert status_table.table(status([empty], "job"))[1].split() == [
        "job", "stopped", "-", "-", "-", "3", "-", "-", "-", "-", "-", "-"]  # fmt: skip


@pytest.mark.parametrize("lines", [3, 5, 10, 24])
def test_a_frame_fits_its_screen(lines: int) -> None:
    found = status([member("my-app-%d" % number) for number in range(50)])
    frame = status_commands.frame(found, 60, lines)
    assert len(frame) <= lines and max(map(len, frame)) <= 60
    assert any("lines more)" in line for line in frame)


def process(parent: int, session: int, cpu: float, started: bytes = b"1") -> _ProcStat:
    return _ProcStat(parent, session, cpu, 0.25, 1000, started)


def test_what_an_instance_has_started_counts_for_it() -> None:
    """By its session, or by descent where a child has a session of its own."""
    before = _Sample(10.0, {5: process(1, 5, 1.0), 6: process(5, 5, 2.0)})
    now = _Sample(12.0, {
        5: process(1, 5, 1.5), 6: process(5, 5, 2.5), 7: process(1, 5, 1.0),
        8: process(6, 8, 0.5), 9: process(1, 9, 50.0),
    })  # fmt: skip
    assert usage(before, now, {5}, {}) == {5: (1.25, 5.5, 4000)}


def test_a_pid_that_is_given_out_again_is_another_process() -> None:
    before = _Sample(10.0, {5: process(1, 5, 100.0, b"1")})
    now = _Sample(11.0, {5: process(1, 5, 0.5, b"2")})
    assert usage(before, now, {5, 6}, {}) == {5: (0.5, 0.75, 1000)}


def test_cpu_time_does_not_fall_when_a_child_ends_that_nobody_waits_for() -> None:
    now = _Sample(11.0, {5: process(1, 5, 0.5)})
    assert usage(now, now, {5}, {5: 7.0})[5].cpu_time == 7.0
