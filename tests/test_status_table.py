"""Numbers as people read them, and a table that fits."""

import json
import re
from typing import Any, Dict, List, Optional

import pytest

import description_text
import not_running
import quantities
import status_table
import styled_text
import top_screen
from concurrency import Threads
from description_report import Description
from procfs import Meter, Usage, _ProcStat, _Sample, usage
from rates import RateMeter, Rates
from status_report import (
    Answers,
    BackendHttp,
    BackendStatus,
    BalancerHttp,
    BalancerStatus,
    HealthStatus,
    InstanceStatus,
    ProcessStatus,
    RequestTimes,
    RestartCauses,
    Status,
    from_json,
    to_json,
)
from styled_text import rendered


@pytest.mark.parametrize(
    "value, text",
    [(0, "0"), (9999, "9999"), (10000, "10k"), (12345, "12k"), (999499, "999k"),
     (999500, "1.0M"), (10**9, "1.0G"), (10**15, "1000T")],
)  # fmt: skip
def test_counts(value: int, text: str) -> None:
    assert quantities.count(value) == text


@pytest.mark.parametrize(
    "value, text",
    [(0, "0"), (1023, "1023"), (1024, "1.0K"), (10188, "9.9K"), (10240, "10K"), (2**20, "1.0M"),
     (2**20 - 1, "1.0M"), (5 * 2**30, "5.0G")],
)  # fmt: skip
def test_sizes(value: int, text: str) -> None:
    assert quantities.size(value) == text


@pytest.mark.parametrize(
    "seconds, text",
    [(0.4, "0s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (3661, "1h01m"),
     (90000, "1d01h"), (86400 * 400, "400d00h")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert quantities.duration(seconds) == text


@pytest.mark.parametrize(
    "value, text",
    [(0, "0"), (0.004, "<0.1"), (0.14, "0.1"), (3.25, "3.2"), (9.94, "9.9"), (9.96, "10"),
     (412.6, "413"), (12345.0, "12k")],
)  # fmt: skip
def test_rates(value: float, text: str) -> None:
    assert quantities.rate(value) == text


@pytest.mark.parametrize(
    "seconds, text",
    [(0.00004, "0.04ms"), (0.0001, "0.1ms"), (0.00042, "0.4ms"), (0.0099, "9.9ms"),
     (0.0123, "12ms"), (0.9994, "999ms"), (0.9996, "1.0s"), (12.3, "12s")],
)  # fmt: skip
def test_short_times(seconds: float, text: str) -> None:
    assert quantities.short_time(seconds) == text


BACKEND = BackendStatus("up", "", 12, 123456, 10**6, 10**9, 0, 0, 0, 60.0, None, None)
UNWELL = HealthStatus(False, "L7STS", "GET /up: 503", 0.01, 9, 3, 1)
NO_RESTARTS = RestartCauses(0, 0, 0, 0, 0, 0, 0)


def member(name: str, **more: Any) -> InstanceStatus:
    found = InstanceStatus(
        id=name, number=0, port=8000, state="running", since=60.0, wanted=True, serves=True,
        pid=4711, uptime=12345.6, restarts=3, restarts_by=NO_RESTARTS._replace(exit=3),
        last_exit=None, reason=None, failing_for=None, last_line=None, retry_in=None,
        waits_for=None, cpu=0.123, cpu_time=1.5, memory=18 * 2**20, health=None,
        backend=BACKEND)  # fmt: skip
    return found._replace(**more)


def status(members: List[InstanceStatus], process_id: str = "my-app") -> Status:
    balancer = BalancerStatus(
        "least-connections", 100, 48, 99, 10**6, 10**9, 0, 0, 2, 5, 0, "::", 3000)
    process = ProcessStatus(
        process_id, True, True, "running", 4, 4, len(members), None, None, balancer,
        tuple(members))
    return Status("0.1.0", 1, "shop", "/app.toml", 60.0, "running", True, (process,))


#: Of 100 requests 98 take 5 ms at most, and two up to 2.5 s.
COUNTS = (0, 0, 0, 98, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0)


def serving(name: str, errors: int = 0, **more: Any) -> InstanceStatus:
    """One that answers requests."""
    http = BackendHttp(Answers(0, 123456 - errors, 0, 0, errors), RequestTimes(370.5, COUNTS), 3)
    return member(name, backend=BACKEND._replace(http=http), **more)


def with_http(found: Status, own_errors: int = 0) -> Status:
    process, = found.processes
    assert process.balancer
    http = BalancerHttp(
        70, Answers(0, 99, 0, 0, 0), Answers(0, 0, 0, 0, own_errors), RequestTimes(370.5, COUNTS))
    balancer = process.balancer._replace(protocol="http", http=http)
    return found._replace(processes=(process._replace(balancer=balancer),))


def test_a_status_survives_json() -> None:
    found = status([member("my-app-1"), member("my-app-2", backend=None, pid=None, port=None)])
    assert from_json(Status, json.loads(json.dumps(to_json(found)))) == found
    found = with_http(status([serving("my-app-1", 5)]), 3)
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
        " turnedAway host port protocol http tls")
    assert " ".join(one) == (
        "id index port state since wanted serves pid uptime restarts restartsBy lastExit reason"
        " failingFor lastLine retryIn waitsFor cpu cpuTime memory health backend")
    assert " ".join(one["backend"]) == (
        "state reason open total bytesIn bytesOut connectErrors retries downs since connectTime"
        " firstByteTime http")
    assert one["since"] == 1.234568
    assert process["balancer"]["http"] is one["backend"]["http"] is None
    assert process["balancer"]["tls"] is None
    # What only http has.
    (process,) = to_json(with_http(status([serving("my-app-1", 7)])))["processes"]
    assert process["balancer"]["protocol"] == "http"
    assert " ".join(process["balancer"]["http"]) == "connections answers ownAnswers requestTimes"
    assert process["members"][0]["backend"]["http"] == {
        "answers": {"1xx": 0, "2xx": 123449, "3xx": 0, "4xx": 0, "5xx": 7},
        "requestTimes": {"sum": 370.5, "counts": list(COUNTS)}, "idle": 3}


def test_busy_instances_fit_80_columns() -> None:
    found = status([member("my-app-%d" % number) for number in range(1, 5)])
    lines = status_table.table(found)
    assert max(map(len, lines)) <= 80
    assert lines[1] == "my-app   running, 4/4 up, 48 open, 2 queued; :3000 least-connections"
    assert lines[2] == "my-app-1 running 4711 8000  3h25m   3   12  123k 977K 954M 12% 18M"


def test_with_http_there_are_requests_and_answers_of_5xx() -> None:
    lines = status_table.table(with_http(status([serving("my-app-1"), serving("my-app-2", 17)])))
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == (
        "ID STATE PID PORT UPTIME RST OPEN TOTAL 5XX IN OUT CPU MEM".split())
    assert lines[1] == (
        "my-app   running, 4/2 up, 48 in flight, 2 queued; :3000 http least-connections")
    assert lines[2].split()[-7:] == ["12", "123k", "0", "977K", "954M", "12%", "18M"]
    assert lines[3].split()[-7:] == ["12", "123k", "17", "977K", "954M", "12%", "18M"]


def test_beside_http_a_cluster_of_tcp_has_no_answers() -> None:
    http, tcp = with_http(status([serving("site-1", 3), serving("site-2")], "site")), status(
        [member("db-1"), member("db-2")], "db")
    both = http._replace(processes=(*http.processes, *tcp.processes))
    lines = [line.split() for line in status_table.table(both)]
    place = lines[0].index("5XX")
    assert [line[place] for line in lines if line[0][-2:] in ("-1", "-2")] == ["3", "0", "-", "-"]
    assert lines[4][:2] + lines[4][4:6] == ["db", "running,", "48", "open,"]


@pytest.mark.parametrize("counts, text", [
    (COUNTS, "1.8s"), ((0,) * 15, "-"), ((0,) * 14 + (1,), ">10s"), ((0, 10) + (0,) * 13, "1.0ms"),
])
def test_on_a_wide_screen_there_is_the_time_of_requests(counts: Any, text: str) -> None:
    backend = BACKEND._replace(connect_time=0.0004, first_byte_time=0.012, http=BackendHttp(
        Answers(0, 1, 0, 0, 0), RequestTimes(1.0, counts), 0))
    other = serving("my-app-2").backend
    assert other
    found = with_http(status([
        member("my-app-1", backend=backend),
        member("my-app-2", backend=backend._replace(http=other.http))]))
    lines = status_table.table(found, 140)
    assert lines[0].split()[-4:] == ["ERR", "CONN", "1ST", "P99"]
    assert lines[2].split()[-1] == text
    assert lines[3].split()[-1] == "1.8s"


LONG = "a-very-long-name-of-an-application-that-does-not-fit"


def test_without_a_width_ids_are_whole_and_columns_are_those_that_scripts_know() -> None:
    lines = status_table.table(status([member(LONG + "-1"), member(LONG + "-2")], LONG))
    assert lines[2].startswith(LONG + "-1 ")
    assert lines[0].split() == "ID STATE PID PORT UPTIME RST OPEN TOTAL IN OUT CPU MEM".split()


@pytest.mark.parametrize("width", [60, 80])
def test_long_ids_are_shortened_in_the_middle_where_there_is_a_width(width: int) -> None:
    found = status([member("%s-%d" % (LONG, number)) for number in (1, 2)], LONG)
    lines = status_table.table(found, width)
    assert max(map(len, lines)) <= width
    assert "~" in lines[2] and lines[2].split()[0].endswith("-1")
    assert lines[3].split()[0].endswith("-2")
    # Columns go before a name cannot be read any more.
    assert len(lines[2].split()[0]) >= 20


@pytest.mark.parametrize("width, heads", [
    (18, "ID STATE"),
    (32, "ID STATE UPTIME"),
    (60, "ID STATE PID PORT UPTIME RST OPEN CPU MEM"),
    (80, "ID STATE PID PORT UPTIME RST OPEN TOTAL IN OUT CPU MEM"),
    (120, "ID STATE PID PORT UPTIME RST OPEN TOTAL IN OUT CPU MEM ERR CONN 1ST"),
])
def test_columns_go_and_come_with_the_room_that_there_is(width: int, heads: str) -> None:
    backend = BACKEND._replace(connect_time=0.0004, first_byte_time=0.012)
    name = "my-scalable-app"
    found = status([member("%s-%d" % (name, number), backend=backend) for number in (1, 2)], name)
    lines = status_table.table(found, width)
    assert lines[0].split() == heads.split()
    assert max(map(len, lines)) <= width
    assert len({len(line) for line in lines[2:]}) == 1


def test_what_nobody_has_goes_before_what_matters_less() -> None:
    jobs = [member("a-job-without-a-port-%d" % number, port=None, backend=None)
            for number in (1, 2)]
    heads = status_table.table(status(jobs), 60)[0].split()
    assert heads == "ID STATE PID UPTIME RST CPU MEM".split()


def test_what_is_known_of_a_cluster_is_cut_between_words() -> None:
    found = status([member("my-app-1"), member("my-app-2")])
    assert status_table.table(found, 60)[1].endswith(" open, 2 queued; :3000")
    assert status_table.table(found, 40)[1] == "my-app   running, 4/2 up"


def test_colours_are_of_the_states_and_change_no_width() -> None:
    members = [
        member("a-1"), member("a-2", state="backoff"), member("a-3", state="starting"),
        member("a-4", state="stopped"), member("a-5", state="created", waits_for="db")]
    plain = status_table.table(status(members), 80)
    painted = status_table.table(status(members), 80, colors=True)
    assert [re.sub("\x1b\\[[0-9]*m", "", line) for line in painted] == plain
    # The padding of a word is as wide in colours.
    styles = [re.findall("\x1b\\[([0-9]+)m([a-z]+) *\x1b", line) for line in painted[1:7]]
    assert styles == [
        [("32", "running")], [("32", "running")], [("31", "backoff")], [("33", "starting")],
        [("2", "stopped")], [("33", "waiting")]]
    assert painted[0].startswith("\x1b[1mID")


# Below the table


def below(*members: InstanceStatus) -> List[str]:
    return [styled_text.plain(line) for line in not_running.lines(status(list(members)))]


FAILING = {
    "serves": False, "pid": None, "uptime": None, "failing_for": 130.0, "last_exit": "exit code 3",
    "last_line": "KeyError: 'DATABASE_URL'",
}


@pytest.mark.parametrize("more, line", [
    ({"state": "backoff", "retry_in": 3.2, "reason": "exit code 3, restart in 4.0 s"},
     "exit code 3, next try in 4 s, failing for 2m10s: \"KeyError: 'DATABASE_URL'\""),
    ({"state": "backoff", "retry_in": 90.0, "last_line": None},
     "exit code 3, next try in 1m30s, failing for 2m10s"),
    ({"state": "backoff", "retry_in": 0.0, "failing_for": 0.7, "last_line": None},
     "exit code 3, next try now, failing for 0 s"),
    ({"state": "starting", "since": 1.0, "last_line": None},
     "exit code 3, starting again, failing for 2m10s"),
    ({"state": "exhausted", "since": 3700.0, "last_line": None,
      "reason": "exit code 3, given up after 4 failures in a row"},
     "exit code 3, given up after 4 failures in a row, 1h01m ago"),
    ({"state": "created", "waits_for": "db, which is errored", "since": 12.0, "last_line": None},
     "waiting for 12 s: db, which is errored"),
    ({"state": "created", "waits_for": "db, which is starting", "since": 12.0, "last_line": None,
      "failing_for": None},
     "waiting for 12 s: db, which is starting"),
    ({"state": "running", "failing_for": 5.0, "last_line": None,
      "backend": BACKEND._replace(state="down", reason="connection refused")},
     "not reached for 5 s: connection refused"),
    ({"state": "running", "failing_for": 5.0, "last_line": None, "health": UNWELL},
     "unhealthy for 5 s: GET /up: 503"),
    ({"state": "starting", "since": 3.0, "last_line": None, "failing_for": None,
      "health": UNWELL._replace(healthy=True)}, "starting for 3 s, GET /up: 503"),
    ({"state": "starting", "since": 3.0, "last_line": None, "failing_for": None, "last_exit": None},
     "starting for 3 s, port 8000 does not accept yet"),
    ({"state": "starting", "since": 3.0, "last_line": None, "failing_for": None, "port": None},
     "starting for 3 s"),
    ({"state": "stopping", "since": 3.0, "last_line": None, "failing_for": None},
     "stopping for 3 s, to be started again"),
])
def test_whatever_does_not_serve_has_a_line_with_reason_and_times(
    more: Dict[str, Any], line: str
) -> None:
    assert below(member("my-app-2", **dict(FAILING, **more))) == ["my-app-2: " + line]


@pytest.mark.parametrize("state", ["created", "stopped", "finished", "stopping", "running"])
def test_what_serves_or_need_not_has_none(state: str) -> None:
    serves = state == "running"
    assert below(member("a", state=state, wanted=serves, serves=serves)) == []


def test_those_that_fail_alike_share_a_line_with_the_next_time_and_the_longest() -> None:
    """What is only each one's own does not part them: its port, and numbers in what it says."""
    failing = [
        member("my-app-%d" % number, state="backoff", retry_in=60.0 - number, port=8000 + number,
               **dict(FAILING, failing_for=100.0 + number,
                      last_exit="port %d is taken by nginx" % (8000 + number),
                      last_line="cannot listen on %d" % (8000 + number)))
        for number in range(1000)]
    assert below(*failing[:3]) == [
        'my-app-0, my-app-1, my-app-2: port 8000 is taken by nginx, next try in 58 s, failing for'
        ' 1m42s: "cannot listen on 8000"']
    line, = below(*failing[900:])
    assert line.startswith("my-app-900, my-app-901 and 98 more: port 8900 is taken by nginx, ")


def test_other_exit_codes_are_other_failures() -> None:
    alike = [member("a-%d" % number, state="backoff", retry_in=1.0,
                    **dict(FAILING, last_exit="exit code %d" % number)) for number in (1, 2)]
    assert len(below(*alike)) == 2


def test_of_many_failures_the_rest_is_counted_and_those_on_their_way_come_last() -> None:
    starting = member("starting", state="starting", serves=False)
    failing = [member("a-%d" % number, state="backoff", retry_in=1.0,
                      **dict(FAILING, last_exit="exit code %d" % number)) for number in range(20)]
    lines = below(starting, *failing)
    assert len(lines) == not_running.MOST_LINES
    assert lines[0].startswith("a-0: ")
    assert lines[-1] == "(12 more that do not serve)"


def test_a_line_is_cut_on_a_terminal_by_columns_and_whole_in_a_pipe() -> None:
    said = "\u4f60\u597d" * 40
    found = status([member("my-app-1", state="backoff", retry_in=4.0,
                           **dict(FAILING, last_line=said))])
    whole = status_table.table(found)[-1]
    assert whole.endswith(': "%s"' % said)
    for width in (60, 61, 62, 63):
        line = status_table.table(found, width)[-1]
        assert line.endswith("~") and whole.startswith(line[:-1])
        assert width - 1 <= styled_text.columns(line) <= width


def test_one_that_lives_and_is_not_reached_is_down() -> None:
    backend = BACKEND._replace(state="down")
    found = status([member("my-app-1", serves=False, backend=backend)])
    assert "down" in status_table.table(found)[2].split()


def test_what_there_is_none_of_is_a_dash() -> None:
    empty = member("job", state="stopped", pid=None, port=None, uptime=None, cpu=None,
                   memory=None, backend=None)
    assert status_table.table(status([empty], "job"))[1].split() == [
        "job", "stopped", "-", "-", "-", "3", "-", "-", "-", "-", "-", "-"]  # fmt: skip


# top


@pytest.mark.parametrize("width", [1, 5, 20, 60, 200])
@pytest.mark.parametrize("height", [1, 2, 3, 5, 6, 10, 24])
def test_a_frame_fits_its_screen(width: int, height: int) -> None:
    found = status([member("my-app-%d" % number) for number in range(50)])
    frame = [rendered(line, width) for line in top_screen.frame(found, {}, width, height)]
    assert len(frame) <= height and max(map(styled_text.columns, frame)) <= width
    if width > 20 and height > 1:
        assert re.search(r"^\([0-9]+ more\)$", "\n".join(frame), re.MULTILINE)


@pytest.mark.parametrize("height", [3, 5, 8, 20])
def test_what_fails_is_on_the_screen_before_what_serves(height: int) -> None:
    members = [member("my-app-%d" % number) for number in range(49)]
    members.append(member("my-app-49", state="backoff", retry_in=4.0, **FAILING))
    frame = top_screen.frame(status(members), {}, 80, height)
    assert any(rendered(line).startswith("my-app-49 ") for line in frame)


def test_how_many_of_those_that_have_no_room_fail_is_told() -> None:
    members = [member("my-app-%d" % number, state="backoff", retry_in=4.0, **FAILING)
               for number in range(50)]
    frame = [rendered(line) for line in top_screen.frame(status(members), {}, 80, 12)]
    assert "(45 more, 44 of which do not serve)" in frame


def heads_of_top(*some: Status) -> List[str]:
    found = some[0]._replace(processes=tuple(each for one in some for each in one.processes))
    frame = [rendered(line) for line in top_screen.frame(found, {}, 200, 24)]
    return next(line for line in frame if line.startswith("ID ")).split()


def test_top_has_the_rates_of_the_protocols_that_there_are() -> None:
    tcp, http = status([member("db-1")], "db"), with_http(status([serving("site-1")], "site"))
    assert heads_of_top(tcp)[7:] == "QUEUE CONN/S IN/S OUT/S CPU MEM".split()
    assert heads_of_top(http)[7:] == "QUEUE REQ/S 5XX/S IN/S OUT/S CPU MEM".split()
    assert heads_of_top(tcp, http)[7:] == "QUEUE CONN/S REQ/S 5XX/S IN/S OUT/S CPU MEM".split()


def test_top_shows_requests_and_errors_in_a_second() -> None:
    found = with_http(status([serving("site-1"), serving("site-2")], "site"))
    rates = {("site", "site-1"): Rates(210.0, 1.0, 1.0, 0.0),
             ("site", "site-2"): Rates(190.0, 1.0, 1.0, 2.5), ("site", ""): Rates(400.0, 1, 1, 3.0)}
    lines = [rendered(line).split() for line in top_screen.frame(found, rates, 200, 24)]
    heads = next(line for line in lines if line[:1] == ["ID"])
    first = heads.index("REQ/S")
    # The state of a cluster is of two words.
    assert {line[0]: line[first + ("up" in line):][:2] for line in lines
            if line and line[0].startswith("site")} == {
        "site": ["400", "3.0"], "site-1": ["210", "0"], "site-2": ["190", "2.5"]}


# describe


def described(found: Status, width: Optional[int] = None) -> List[str]:
    return description_text.text(Description(found, (), (), 0, ()), width)


def test_describe_tells_of_answers_and_of_the_time_that_they_took() -> None:
    found = with_http(status([serving("site-1", 4), serving("site-2")], "site"), 6)
    lines = described(found)
    place = lines.index("Balancing")
    assert lines[place + 2:place + 4] == [
        "70 clients connected; answers: 99 2xx; of pupgevent itself: 6 5xx",
        "requests: 50 % within 3.8ms, 90 % within 4.8ms, 99 % within 1.8s"]
    assert {"OPEN", "TOTAL", "5XX", "ERR", "P99"} <= set(lines[place + 4].split())
    heads = lines[place + 4].split()
    assert dict(zip(heads, lines[place + 5].split()))["5XX"] == "4"
    assert dict(zip(heads, lines[place + 5].split()))["P99"] == "1.8s"
    assert max(map(len, described(found, 60))) <= 60


def test_describe_of_tcp_tells_nothing_of_answers() -> None:
    lines = described(status([member("db-1"), member("db-2")], "db"))
    assert lines[lines.index("Balancing") + 2].split() == (
        "ID STATE OPEN TOTAL IN OUT ERR RETRIES DOWNS CONN 1ST".split())


def test_before_the_first_request_there_is_no_time_of_requests() -> None:
    nothing = BalancerHttp(
        1, Answers(0, 0, 0, 0, 0), Answers(0, 0, 0, 0, 0), RequestTimes(0.0, (0,) * 15))
    process, = with_http(status([serving("site-1"), serving("site-2")], "site")).processes
    assert process.balancer
    process = process._replace(balancer=process.balancer._replace(http=nothing))
    lines = described(status([], "site")._replace(processes=(process,)))
    assert lines[lines.index("Balancing") + 2] == "1 client connected; answers: none yet"
    assert not [line for line in lines if line.startswith("requests:")]


# Rates


def test_errors_of_pupgevent_itself_are_among_those_of_the_cluster() -> None:
    def counted(errors: int, own: int, uptime: float) -> Status:
        found = with_http(status([serving("my-app-1", errors)]), own)
        process, = found.processes
        assert process.balancer and process.balancer.http
        http = process.balancer.http._replace(answers=Answers(0, 0, 0, 0, errors))
        return found._replace(uptime=uptime, processes=(process._replace(
            balancer=process.balancer._replace(http=http)),))

    meter = RateMeter()
    meter.measure(counted(10, 0, 10.0))
    found = meter.measure(counted(14, 6, 12.0))
    assert found[("my-app", "my-app-1")].server_errors == 2.0
    assert found[("my-app", "")].server_errors == 5.0


def counted(total: int, uptime: float, pid: int = 1, of_cluster: int = 0) -> Status:
    """A status in which an instance and its cluster have moved so much."""
    backend = BACKEND._replace(total=total, bytes_in=10 * total, bytes_out=100 * total)
    found = status([member("my-app-1", backend=backend)])
    process, = found.processes
    assert process.balancer
    balancer = process.balancer._replace(
        total=of_cluster or total, bytes_in=10 * total, bytes_out=100 * total)
    return found._replace(
        pid=pid, uptime=uptime, processes=(process._replace(balancer=balancer),))


def test_rates_are_what_is_between_two_looks_by_the_clock_of_who_counts() -> None:
    meter = RateMeter()
    assert meter.measure(counted(100, 10.0)) == {}
    rates = Rates(20.0, 200.0, 2000.0)
    assert meter.measure(counted(110, 10.5)) == {
        ("my-app", ""): rates, ("my-app", "my-app-1"): rates}
    assert meter.measure(counted(110, 11.5))[("my-app", "")] == Rates(0.0, 0.0, 0.0)


def test_counters_that_fall_give_no_rate_once() -> None:
    meter = RateMeter()
    meter.measure(counted(100, 10.0))
    # An instance was removed and has come back; its cluster has counted on.
    found = meter.measure(counted(5, 11.0, of_cluster=120))
    assert list(found) == []
    found = meter.measure(counted(7, 12.0, of_cluster=130))
    assert found[("my-app", "my-app-1")].connections == 2.0
    assert found[("my-app", "")].connections == 10.0


@pytest.mark.parametrize("uptime, pid", [(12.0, 2), (1.0, 1), (10.0, 1)])
def test_another_run_begins_anew_even_where_its_counters_are_higher(
    uptime: float, pid: int
) -> None:
    meter = RateMeter()
    meter.measure(counted(100, 10.0))
    assert meter.measure(counted(500, uptime, pid)) == {}
    assert meter.measure(counted(600, uptime + 1, pid))[("my-app", "")].connections == 100.0


# CPU and memory


def process(parent: int, session: int, cpu: float, started: bytes = b"1") -> _ProcStat:
    return _ProcStat(parent, session, cpu, 0.25, 1000, started)


def test_what_an_instance_has_started_counts_for_it() -> None:
    """By its session, or by descent where a child has a session of its own."""
    before = _Sample(10.0, {5: process(1, 5, 1.0), 6: process(5, 5, 2.0)})
    now = _Sample(12.0, {
        5: process(1, 5, 1.5), 6: process(5, 5, 2.5), 7: process(1, 5, 1.0),
        8: process(6, 8, 0.5), 9: process(1, 9, 50.0),
    })  # fmt: skip
    assert usage(before, now, {5}) == {5: (1.25, 6.5, 4000)}


def test_a_pid_that_is_given_out_again_is_another_process() -> None:
    before = _Sample(10.0, {5: process(1, 5, 100.0, b"1")})
    now = _Sample(11.0, {5: process(1, 5, 0.5, b"2")})
    assert usage(before, now, {5, 6}) == {5: (0.5, 0.75, 1000)}


def test_cpu_time_does_not_fall_when_a_child_ends_that_nobody_waits_for() -> None:
    meter = Meter(Threads(1))

    def told(cpu_time: float, started: bytes) -> float:
        now = _Sample(11.0, {5: process(1, 5, 0.0, started)})
        return meter._never_less(now, {5: Usage(None, cpu_time, 0)})[5].cpu_time

    assert [told(seconds, b"1") for seconds in (7.0, 0.5, 8.0)] == [7.0, 7.0, 8.0]
    # That of another process is another one.
    assert told(0.25, b"2") == 0.25
    assert list(meter._told.values()) == [0.25]
