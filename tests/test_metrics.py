"""What Prometheus gets of real clusters and jobs, and what its own tools say of it."""

import contextlib
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest
from hypothesis import given, settings, strategies as st

import certificates
import lifecycle
import metrics
import status
from asking import Scrape, ask, codes, hear, scrape
from backends import Times
from conftest import eventually
from health_record import CHECKS
from histograms import BOUNDS, Histogram
from instance_history import CAUSES, SHORTAGE
from peers import Peer
from procfs import OwnUsage
from running import QUICK, Running, get, server, sleeper
from status_report import InstanceStatus, ProcessStatus, RestartCauses, Status
from supervision import script as script_of
from tools import tool

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]

#: With the common port of "web", that of the dashboard, and the common port of "site".
App = Tuple[Running, int, int, int]

#: Letters, digits and all else that an id may have.
ODD = "0.a@b_c-d.1"


@pytest.fixture
def app(running: Make, free_ports: Ports, tmp_path: Path) -> App:
    """One with all kinds of processes that has served clients."""
    ports = free_ports(11)
    found = running(
        server("web", ports[:2], ports[2]),
        with_http(server("site", ports[6:8], ports[8], health={"path": "/"})),
        with_tls(server("secure", ports[9:10], ports[10]), tmp_path),
        # Without a common port, and without a cluster; started, stopped, finished.
        server("inner", ports[3:5], None),
        sleeper(ODD),
        sleeper("idle", autostart=False),
        {"id": "once", "cmd": "exit 0", "restart": "error", "autostart": True},
        dashboard={"port": ports[5]}).start()
    for _ in range(10):
        get(ports[2])
        get(ports[8])
    with socket.create_connection(("127.0.0.1", ports[8]), 60) as client:
        client.sendall(THREE)
        assert codes(hear(client)) == [404, 404, 400]
    return found, ports[2], ports[5], ports[8]


#: Two that an instance answers with 404, over one connection, and one that never gets there.
THREE = 2 * b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET / HTTP/1.1\r\n\r\n"


def with_tls(process: Any, folder: Path) -> Any:
    """The second certificate has expired."""
    made = [certificates.make(folder), certificates.make(
        folder, "old", ["DNS:old.example.com", "DNS:*.old.example.com"], days=-2)]
    process["cluster"]["tls"] = {
        "cert": [each.cert for each in made], "key": [each.key for each in made]}
    return process


def with_http(process: Any) -> Any:
    process["cluster"].update(protocol="http", health=process.pop("health"))
    return process


def test_promtool_has_nothing_to_say(app: App) -> None:
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=ask(app[2], "/metrics").body,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False)
    assert (done.returncode, done.stdout.decode()) == (0, "")


def test_all_families_are_served_as_they_are_described_and_no_others(
    app: App
) -> None:
    found, described = scrape(app[2]), metrics.described()
    assert found.types == {name: each.type for name, each in described.items()}
    for sample, labels in found.values:
        family = sample
        if family not in described:
            family, _, part = sample.rpartition("_")
            assert part in ("bucket", "sum", "count")
            assert described[family].type == "histogram"
        names = {name for name, _ in labels} - {"le"}
        assert names == set(described[family].labels), sample


def test_the_values_are_those_of_the_status(app: App) -> None:
    def both() -> Tuple[Scrape, Any]:
        """Of the same moment: for a second, whoever asks gets the same."""
        before = ask(app[2], "/status.json").json
        found = scrape(app[2])
        assert ask(app[2], "/status.json").json == before
        return found, before

    found, told = eventually(both)
    assert found.value("pupgevent_healthy") == told["healthy"]
    # All there is, by the process and its instance.
    expected: Dict[str, Dict[Tuple[str, ...], Any]] = {}
    for process in told["processes"]:
        proxy = (process["id"],)
        for name, value in values_of_process(process).items():
            expected.setdefault(name, {})[proxy] = value
        for member in process["members"]:
            for name, value in values_of_member(member).items():
                expected.setdefault(name, {})[proxy + (member["id"],)] = value
    for name, values in expected.items():
        served = {tuple(value for _, value in labels): value
                  for labels, value in found.of(name).items()}
        assert served == {key: value for key, value in values.items() if value is not None}, name
    for process in told["processes"]:
        assert states(found, "backend", proxy=process["id"]) == [process["state"]]
        for member in process["members"]:
            labels = {"proxy": process["id"], "server": member["id"]}
            assert states(found, "server", **labels) == [member["state"]]
            if member["health"]:
                assert states(found, "server_check", **labels) == ["L7OK"]
            for cause, count in member["restartsBy"].items():
                assert found.value("pupgevent_server_restarts_total", cause=cause, **labels) == (
                    count)
    for name, values in tls_of(told).items():
        assert {tuple(value for _, value in labels): value
                for labels, value in found.of(name).items()} == values
    for name, answers in answers_of(told).items():
        assert {tuple(value for _, value in labels): value
                for labels, value in found.of(name).items()} == answers


def tls_of(told: Any) -> Dict[str, Dict[Tuple[str, ...], Any]]:
    """Handshakes by their result and process, certificates by file, name and process."""
    tls = next(each for each in told["processes"] if each["id"] == "secure")["balancer"]["tls"]
    return {
        "pupgevent_frontend_tls_handshakes_total": {
            ("secure", "full"): tls["handshakes"] - tls["resumed"],
            ("secure", "resumed"): tls["resumed"], ("secure", "failed"): tls["failed"]},
        "pupgevent_frontend_tls_handshakes_current": {("secure",): tls["underWay"]},
        "pupgevent_certificate_expiry_timestamp_seconds": {
            (each["cert"], each["names"][0], "secure"): each["expires"]
            for each in tls["certificates"]},
    }


def answers_of(told: Any) -> Dict[str, Dict[Tuple[str, ...], int]]:
    """Those of a status, by the metric, and by code, process and instance."""
    found: Dict[str, Dict[Tuple[str, ...], int]] = {}
    name = "pupgevent_%s_http_responses_total"
    for process in told["processes"]:
        http = (process["balancer"] or {}).get("http") or {"answers": {}, "ownAnswers": {}}
        for code, number in http["answers"].items():
            of_all = (code, process["id"])
            found.setdefault(name % "backend", {})[of_all] = number
            found.setdefault(name % "frontend", {})[of_all] = number + http["ownAnswers"][code]
        for member in process["members"]:
            of_member = (member["backend"] or {}).get("http") or {"answers": {}}
            for code, number in of_member["answers"].items():
                key = (code, process["id"], member["id"])
                found.setdefault(name % "server", {})[key] = number
    return found


def states(found: Scrape, kind: str, **labels: str) -> List[str]:
    """Those that are 1, of all that there are."""
    name = "pupgevent_%s_status" % kind
    words = {"backend": status.PROCESS_STATES, "server": lifecycle.STATES,
             "server_check": CHECKS}[kind]
    values = {word: found.value(name, state=word, **labels) for word in words}
    assert set(values.values()) == {0, 1}
    return [word for word, value in values.items() if value]


def values_of_process(process: Any) -> Dict[str, Any]:
    found = {"pupgevent_backend_" + name: process[key] for name, key in (
        ("healthy", "healthy"), ("servers", "instances"), ("wanted_servers", "wanted"),
        ("active_servers", "up"))}
    balancer = process["balancer"] or {}
    found["pupgevent_frontend_connections_total"] = balancer.get("accepted")
    for name, key in (
        ("current_sessions", "open"), ("sessions_total", "total"), ("bytes_in_total", "bytesIn"),
        ("bytes_out_total", "bytesOut"), ("connection_errors_total", "connectErrors"),
        ("retry_warnings_total", "retries"), ("current_queue", "queue"),
        ("max_queue", "queueMost"), ("turned_away_total", "turnedAway"),
    ):  # fmt: skip
        found["pupgevent_backend_" + name] = balancer.get(key)
    http = balancer.get("http") or {}
    found["pupgevent_frontend_current_sessions"] = http.get("connections")
    found["pupgevent_backend_http_requests_total"] = balancer["total"] if http else None
    found["pupgevent_backend_request_time_seconds_sum"] = pytest.approx(
        http["requestTimes"]["sum"], abs=1e-6) if http else None
    return found


def values_of_member(member: Any) -> Dict[str, Any]:
    found = {"pupgevent_server_" + name: member[key] for name, key in (
        ("wanted", "wanted"), ("up", "serves"), ("uptime_seconds", "uptime"),
        ("state_seconds", "since"), ("cpu_seconds_total", "cpuTime"),
        ("resident_memory_bytes", "memory"))}
    health = member["health"] or {}
    for name, key in (
        ("check_duration_seconds", "duration"), ("check_failures_total", "failures"),
    ):  # fmt: skip
        found["pupgevent_server_" + name] = health.get(key)
    backend = member["backend"] or {}
    for name, key in (
        ("current_sessions", "open"), ("sessions_total", "total"), ("bytes_in_total", "bytesIn"),
        ("bytes_out_total", "bytesOut"), ("connection_errors_total", "connectErrors"),
        ("retry_warnings_total", "retries"), ("check_up_down_total", "downs"),
        ("connect_time_average_seconds", "connectTime"),
        ("response_time_average_seconds", "firstByteTime"),
    ):  # fmt: skip
        found["pupgevent_server_" + name] = backend.get(key)
    found["pupgevent_server_idle_connections_current"] = (backend.get("http") or {}).get("idle")
    return {name: pytest.approx(value, abs=1e-6) if isinstance(value, float) else value
            for name, value in found.items()}


def test_each_connection_and_each_answer_is_in_one_bucket(app: App) -> None:
    found = scrape(app[2])
    for time in ("connect_time", "first_byte_time"):
        name = "pupgevent_backend_%s_seconds" % time
        assert buckets(found, name, proxy="web")[-1] == 10
        of_each = [buckets(found, "pupgevent_server_%s_seconds" % time, proxy="web",
                           server="web-%d" % number) for number in (1, 2)]
        assert [each[-1] for each in of_each] == [5, 5]
        assert list(map(sum, zip(*of_each))) == buckets(found, name, proxy="web")
        sums = [found.value("pupgevent_server_%s_seconds_sum" % time, proxy="web",
                            server="web-%d" % number) for number in (1, 2)]
        assert found.value(name + "_sum", proxy="web") == pytest.approx(sum(sums))
        assert sum(sums) > 0


def test_each_request_and_each_answer_is_counted_with_http(app: App) -> None:
    found = scrape(app[2])
    assert found.value("pupgevent_frontend_connections_total", proxy="site") == 11
    assert found.value("pupgevent_backend_http_requests_total", proxy="site") == 12
    assert found.value("pupgevent_backend_sessions_total", proxy="site") == 12

    def by_code(family: str, **labels: str) -> List[float]:
        name = "pupgevent_%s_http_responses_total" % family
        return [found.value(name, code="%dxx" % code, **labels) for code in range(1, 6)]

    assert by_code("backend", proxy="site") == [0, 10, 0, 2, 0]
    # The one that pupgevent refused.
    assert by_code("frontend", proxy="site") == [0, 10, 0, 3, 0]
    of_each = [by_code("server", proxy="site", server="site-%d" % number) for number in (1, 2)]
    assert list(map(sum, zip(*of_each))) == [0, 10, 0, 2, 0]
    assert [sum(each) for each in of_each] == [6, 6]
    for time in ("request_time", "first_byte_time"):
        name = "pupgevent_backend_%s_seconds" % time
        assert buckets(found, name, proxy="site")[-1] == 12
        in_each = [buckets(found, "pupgevent_server_%s_seconds" % time, proxy="site",
                           server="site-%d" % number) for number in (1, 2)]
        assert list(map(sum, zip(*in_each))) == buckets(found, name, proxy="site")
    first, whole = (found.value("pupgevent_backend_%s_seconds_sum" % time, proxy="site")
                    for time in ("first_byte_time", "request_time"))
    assert 0 < first <= whole < 60


def test_with_http_sessions_are_requests_in_flight_and_kept_connections_are_idle(
    app: App
) -> None:
    def now(name: str) -> float:
        return scrape(app[2]).value("pupgevent_" + name, proxy="site")

    def of_each(name: str) -> List[float]:
        found = scrape(app[2])
        return [found.value("pupgevent_server_" + name, proxy="site", server=each)
                for each in ("site-1", "site-2")]

    def clients() -> float:
        return now("frontend_current_sessions")

    eventually(lambda: clients() == 0)
    assert 0 < sum(of_each("idle_connections_current")) <= 12
    with contextlib.ExitStack() as stack:
        some = [stack.enter_context(socket.create_connection(("127.0.0.1", app[3]), 60))
                for _ in range(6)]
        eventually(lambda: clients() == 6)
        assert now("backend_current_sessions") == 0
        for client in some[:4]:
            client.sendall(b"GET /slow/30 HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: now("backend_current_sessions") == 4)
        assert of_each("current_sessions") == [2, 2]
        for client in some:
            # An end alone would be waited behind for the answers.
            Peer(client).resets()
    eventually(lambda: clients() == 0 and now("backend_current_sessions") == 0)


def buckets(found: Scrape, name: str, **labels: str) -> List[float]:
    """Their values, each with those below it."""
    values = [found.value(name + "_bucket", le="%g" % bound, **labels) for bound in BOUNDS]
    values.append(found.value(name + "_bucket", le="+Inf", **labels))
    assert values == sorted(values)
    assert values[-1] == found.value(name + "_count", **labels)
    return values


#: Of all instances of a cluster, of those that are gone too; then those with http alone.
LASTING = [
    "pupgevent_frontend_connections_total", "pupgevent_backend_sessions_total",
    "pupgevent_backend_bytes_in_total", "pupgevent_backend_bytes_out_total",
    "pupgevent_backend_connect_time_seconds_count", "pupgevent_backend_connect_time_seconds_sum",
    "pupgevent_backend_first_byte_time_seconds_count",
]  # fmt: skip
LASTING_WITH_HTTP = [
    "pupgevent_backend_http_requests_total", "pupgevent_backend_request_time_seconds_count",
    "pupgevent_backend_request_time_seconds_sum",
]


@pytest.mark.parametrize("protocol", ["tcp", "http"])
def test_what_a_cluster_has_counted_stays_when_its_instances_go(
    running: Make, free_ports: Ports, protocol: str
) -> None:
    ports = free_ports(5)
    processes = [server("web", ports[:3], ports[3])]
    processes[0]["cluster"]["protocol"] = protocol
    names = LASTING + (LASTING_WITH_HTTP if protocol == "http" else [])
    top = {"dashboard": {"port": ports[4]}}
    found = running(*processes, **top).start()

    def counted() -> List[float]:
        now = scrape(ports[4])
        answers = now.of("pupgevent_backend_http_responses_total").values()
        return [*(now.value(name, proxy="web") for name in names), *answers]

    for _ in range(9):
        get(ports[3])
    eventually(lambda: counted()[:2] == [9, 9])
    before = counted()
    found.ask("scale", id="web", instances=1)
    assert counted() == before
    found.ask("restart", words=["web"])
    assert counted() == before
    processes[0]["cluster"]["instances"] = 2
    processes[0]["env"] = {"RELEASE": "2"}
    found.write(*processes, **top)
    found.ask("reload")
    assert counted() == before
    get(ports[3])
    eventually(lambda: counted()[:2] == [10, 10])


def test_restarts_are_counted_by_what_had_ended_the_run(
    running: Make, free_ports: Ports, tmp_path: Path
) -> None:
    ports = free_ports(3)
    (tmp_path / "health").write_text("once")
    often = dict(QUICK, autostart=True, restartDelayMs=10, restartMaxDelayMs=500, minUptimeMs=0)
    forever, script = ["sleep", "600"], ["-c", "import time; time.sleep(600)"]
    running(
        dict(often, id="exit", cmd="exit 3"),
        dict(often, id="signal", cmd="kill -KILL $$"),
        dict(often, id="start", cmd=forever, cluster={
            "instances": 1, "startPort": ports[0], "readyTimeoutMs": 50}),
        dict(often, id="timeout", cmd=forever, timeout=0.05),
        # It holds some 10 MB.
        dict(often, id="memory", cmd=[sys.executable, *script], maxMemory="1M"),
        dict(often, id="health", cmd=list(script_of("health_app.py", str(tmp_path))), cluster={
            "instances": 1, "startPort": ports[2],
            "health": {"path": "/health", "intervalMs": 20, "fall": 1, "restart": True}}),
        dict(sleeper("none")),
        dashboard={"port": ports[1]}).begin()

    def restarts(cause: str) -> List[str]:
        """Of which processes."""
        return [dict(labels)["proxy"] for labels, value in scrape(ports[1]).of(
            "pupgevent_server_restarts_total").items() if dict(labels)["cause"] == cause and value]

    for cause in set(CAUSES) - {SHORTAGE}:
        eventually(lambda: restarts(cause) == [cause], message=cause)  # noqa: B023
    assert restarts(SHORTAGE) == []


#: A child whose grandchild burns CPU until a file is there, and whom nobody waits for.
BURNING = """
import os, signal, sys, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if os.fork() == 0:
    while not os.path.exists(sys.argv[1]):
        pass
    os._exit(0)
time.sleep(600)
"""


def test_the_cpu_time_of_a_grandchild_counts_and_stays_when_it_has_ended(
    running: Make, free_port: Callable[[], int], folder: Path
) -> None:
    port, enough = free_port(), folder / "enough"
    found = running(
        sleeper("burner", cmd=[sys.executable, "-c", BURNING, str(enough)]),
        dashboard={"port": port}).start()

    def seconds() -> float:
        return scrape(port).of("pupgevent_server_cpu_seconds_total").get(
            (("proxy", "burner"), ("server", "burner")), 0.0)

    eventually(lambda: seconds() > 0.5)
    enough.touch()
    pid = found.pids()["burner"]
    eventually(lambda: not children_of(pid), message="the grandchild has ended")
    least = seconds()
    # A second later it is measured anew, without the grandchild.
    first = ask(port, "/status.json").body
    eventually(lambda: ask(port, "/status.json").body != first)
    assert seconds() >= least > 0.5


def children_of(pid: int) -> List[str]:
    with open("/proc/%d/task/%d/children" % (pid, pid)) as file:
        return file.read().split()


def test_what_there_is_none_of_has_no_value(app: App) -> None:
    found = scrape(app[2])
    labels = {"proxy": "idle", "server": "idle"}
    assert found.value("pupgevent_server_wanted", **labels) == 0
    assert found.value("pupgevent_backend_wanted_servers", proxy="idle") == 0
    without_child = {name for name, each in found.values if ("server", "idle") in each}
    assert "pupgevent_server_restarts_total" in without_child
    for name in ("uptime_seconds", "cpu_seconds_total", "resident_memory_bytes", "sessions_total"):
        assert "pupgevent_server_" + name not in without_child
    with_balancer = {dict(labels)["proxy"] for name in (
        "pupgevent_frontend_connections_total", "pupgevent_backend_connect_time_seconds_count",
        "pupgevent_server_sessions_total", "pupgevent_server_connect_time_seconds_count",
    ) for labels in found.of(name)}  # fmt: skip
    assert with_balancer == {"web", "site", "secure"}
    with_tls = {dict(labels)["proxy"] for name in (
        "pupgevent_frontend_tls_handshakes_total", "pupgevent_frontend_tls_handshakes_current",
        "pupgevent_certificate_expiry_timestamp_seconds",
    ) for labels in found.of(name)}  # fmt: skip
    assert with_tls == {"secure"}
    with_http = {dict(labels)["proxy"] for name in HTTP_ALONE for labels in found.of(name)}
    assert with_http == {"site"}


HTTP_ALONE = [
    "pupgevent_frontend_current_sessions", "pupgevent_frontend_http_responses_total",
    "pupgevent_backend_http_requests_total", "pupgevent_backend_http_responses_total",
    "pupgevent_backend_request_time_seconds_count", "pupgevent_server_http_responses_total",
    "pupgevent_server_idle_connections_current", "pupgevent_server_request_time_seconds_count",
]


def test_connections_are_counted_while_they_are_open(app: App) -> None:
    def now_open() -> List[float]:
        found = scrape(app[2])
        return [found.value("pupgevent_backend_current_sessions", proxy="web"),
                *(value for labels, value in found.of("pupgevent_server_current_sessions").items()
                  if ("proxy", "web") in labels)]

    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(socket.create_connection(("127.0.0.1", app[1])))
        eventually(lambda: now_open() == [4, 2, 2])
    eventually(lambda: now_open() == [0, 0, 0])


def test_pupgevent_tells_of_itself(app: App) -> None:
    found = scrape(app[2])
    assert app[0].child is not None
    folder = Path("/proc/%d" % app[0].child.pid)
    assert found.value("process_resident_memory_bytes") > 2**20
    assert found.value("process_virtual_memory_bytes") > found.value(
        "process_resident_memory_bytes")
    limits = (folder / "limits").read_text()
    assert " %d " % found.value("process_max_fds") in limits
    assert abs(found.value("process_open_fds") - len(list((folder / "fd").iterdir()))) < 10
    assert abs(found.value("process_start_time_seconds") - app[0].config.stat().st_mtime) < 60
    assert 0 < found.value("process_cpu_seconds_total") < 60
    (labels,) = found.of("pupgevent_build_info")
    assert dict(labels)["python"] == "%d.%d.%d" % sys.version_info[:3]


# The text itself

NOTHING = InstanceStatus(
    id="", number=0, port=None, state="running", since=1e-7, wanted=True, serves=True, pid=1,
    uptime=2.0**60, restarts=0, restarts_by=RestartCauses(0, 0, 0, 0, 0, 2, 0), last_exit=None,
    reason=None, failing_for=None, last_line=None, retry_in=None, waits_for=None, cpu=None,
    cpu_time=0.1 + 0.2, memory=2**62, health=None, backend=None)  # fmt: skip


def rendered(name: str, times: Optional[Times] = None) -> Scrape:
    """Of one process of one instance, both of that name."""
    process = ProcessStatus(
        id=name, autostart=True, healthy=True, state="running", up=1, wanted=1, instances=1,
        next_run=None, next_stop=None, balancer=None, members=(NOTHING._replace(id=name),))
    found = Status("1", 1, "app", "app.toml", 1.0, "running", True, (process,))
    own = OwnUsage(0.5, 1, 2, 1.5e9, 3, 4)
    sources = metrics.Sources(
        found, own, {} if times is None else {name: (times, {})}, {"version": name})
    return Scrape("".join(metrics.render(sources, iter)))


@given(st.text(st.characters(blacklist_categories=["Cs"])))
@settings(max_examples=100)
def test_any_name_is_read_as_it_was_written(name: str) -> None:
    found = rendered(name)
    assert found.value("pupgevent_server_up", proxy=name, server=name) == 1
    assert found.value("pupgevent_build_info", version=name) == 1


def test_numbers_are_read_as_they_were_written() -> None:
    found, labels = rendered("x"), {"proxy": "x", "server": "x"}
    assert found.value("pupgevent_server_state_seconds", **labels) == 1e-7
    assert found.value("pupgevent_server_uptime_seconds", **labels) == 2.0**60
    assert found.value("pupgevent_server_cpu_seconds_total", **labels) == 0.1 + 0.2
    assert found.value("pupgevent_server_resident_memory_bytes", **labels) == 2**62
    assert found.value("pupgevent_server_restarts_total", cause=SHORTAGE, **labels) == 2


def test_a_process_whose_balancer_does_not_listen_has_no_times() -> None:
    """It stops, or has never had a common port."""
    times = Times(Histogram(), Histogram(), Histogram())
    assert rendered("x", times).of("pupgevent_backend_connect_time_seconds_count") == {}


def test_what_cannot_be_had_of_pupgevent_itself_is_left_out() -> None:
    sources = metrics.Sources(
        Status("1", 1, "app", "app.toml", 1.0, "running", True, ()), None, {}, {"version": "1"})
    assert set(Scrape("".join(metrics.render(sources, iter))).types) == {
        "pupgevent_build_info", "pupgevent_healthy"}


def test_the_labels_of_a_family_are_described_with_their_values() -> None:
    assert json.loads(json.dumps(metrics.LABEL_VALUES)) == {
        "cause": list(CAUSES), "code": ["1xx", "2xx", "3xx", "4xx", "5xx"],
        "result": ["full", "resumed", "failed"]}
    assert RestartCauses._fields == CAUSES
