"""The exported alerts: promtool takes the file, and each fires when it should and not before."""

import re
import socket
import textwrap
from pathlib import Path
from typing import Any, Dict, List, Set

import pytest

import certificates
import metrics
import promql
from configuration import load
from exports import FORMATS
from prometheus_export import job_name
from promql import STEP, Series, assert_accepted
from running import Running, run

PORT = 9000
JOB = "pupgevent-app"
TARGET = 'job="%s",instance="127.0.0.1:9000"' % JOB


def exported(folder: Path, *processes: Any, **top: Any) -> str:
    certificates.make(folder, "web")
    app = Running(folder)
    app.write(*processes, **dict({"dashboard": {"port": PORT}}, **top))
    return FORMATS["prometheus"](load(str(app.config)))


def rules_file(folder: Path, *processes: Any, **top: Any) -> Path:
    path = folder / "app.rules.yml"
    path.write_text(exported(folder, *processes, **top))
    return path


class Alert:
    """A rule, as the text of the file has it."""

    def __init__(self, text: str) -> None:
        self.name = text.partition("\n")[0]
        expr = re.search(r"expr: \|-\n((?: {10}.*\n)+)", text)
        self.expr = textwrap.dedent(expr.group(1)) if expr else ""
        self.severity = "".join(re.findall(r"(?m)^          severity: (\w+)$", text))
        self.annotations = text.partition("annotations:\n")[2]


def alerts(text: str) -> List[Alert]:
    return [Alert(each) for each in text.split("- alert: ")[1:]]


def named(text: str, name: str) -> List[Alert]:
    return [each for each in alerts(text) if each.name == name]


def web(process_id: str = "web", instances: int = 4, **more: Any) -> Dict[str, Any]:
    """A cluster behind a common port; nobody starts it."""
    cluster = {"instances": instances, "startPort": 18000, "commonPort": 13000}
    for name in ("startPort", "commonPort", "queueLimit", "readyTimeoutMs", "protocol", "tls"):
        if name in more:
            cluster[name] = more.pop(name)
    return plain(process_id, cluster=cluster, **more)


def plain(process_id: str, **more: Any) -> Dict[str, Any]:
    return dict({"id": process_id, "cmd": "exec sleep 600", "autostart": True}, **more)


#: Its files are in the folder of the configuration.
TLS = {"cert": "web.pem", "key": "web.key"}

#: One of each kind, with different values.
MANY = [
    web(), web("api", 1, startPort=18100, commonPort=13001, queueLimit=1, maxMemory="512M"),
    web("unqueued", 2, startPort=18200, commonPort=13002, queueLimit=0, restartLimit=0),
    web("hidden", 2, startPort=18300, terminateGracePeriod=0, maxMemory="1G"),
    web("site", 2, startPort=18400, commonPort=13003, protocol="http"),
    web("secure", 2, startPort=18500, commonPort=13004, tls=TLS),
    plain("worker", restartLimit=3, startAfter=["web"]),
    plain("slow", restartMaxDelayMs=3600000, terminateTimeout=100000),
    plain("once", restart="never"), {"id": "job", "cmd": "exec true", "cron": "@daily"},
]
MANY[3]["cluster"].pop("commonPort")
KINDS = {
    "PupgeventNotScraped", "PupgeventTargetMissing", "PupgeventBusy", "PupgeventDescriptors",
    "PupgeventProcessDown", "PupgeventInstanceDown", "PupgeventGivenUp", "PupgeventRestarts",
    "PupgeventQueueGrowing", "PupgeventClientsWaiting", "PupgeventClientsTurnedAway",
    "PupgeventConnectErrors", "PupgeventServerErrors", "PupgeventCertificateExpires",
    "PupgeventHandshakesFail", "PupgeventMemoryNearLimit", "PupgeventMemoryRestarts",
}

ODD = ["a", "A.b-c_d@e", "1", "0.5", "-x", ".", "--", "@", "_", "true", "null", "1e3",
       "x" * 64, "web.1", "webx1", "10m", "by", "and"]


# The file


@pytest.mark.parametrize("processes", [
    [plain("worker")], [web()], MANY, [plain(each) for each in ODD],
    [plain("p%d" % number, terminateTimeout=number * 60) for number in range(200)],
    [plain("patient", terminateTimeout=3 * 10**7, restartMaxDelayMs=3 * 10**10)],
    [plain("instant", terminateTimeout=0, minUptimeMs=0, restartDelayMs=0, restartMaxDelayMs=0)],
])  # fmt: skip
def test_promtool_accepts_the_rules(tmp_path: Path, processes: List[Any]) -> None:
    path = rules_file(tmp_path, *processes)
    count = len(alerts(path.read_text()))
    assert "SUCCESS: %d rules found" % count in assert_accepted("check", "rules", str(path))


def test_the_command_prints_the_file_and_nothing_else(tmp_path: Path) -> None:
    text = exported(tmp_path, *MANY)
    done = run("export", "prometheus", str(tmp_path / "app.json"))
    assert (done.returncode, done.stdout, done.stderr) == (0, text, "")


def test_each_kind_of_alert_is_there(tmp_path: Path) -> None:
    assert {each.name for each in alerts(exported(tmp_path, *MANY))} == KINDS


def test_without_a_balancer_nothing_is_said_of_clients(tmp_path: Path) -> None:
    text = exported(tmp_path, plain("worker"))
    assert {each.name for each in alerts(text)} == {
        "PupgeventNotScraped", "PupgeventTargetMissing", "PupgeventBusy", "PupgeventDescriptors",
        "PupgeventProcessDown", "PupgeventGivenUp", "PupgeventRestarts"}


@pytest.mark.parametrize("processes", [[plain("worker")], [web()], MANY])
def test_the_rules_ask_for_metrics_that_are_served(tmp_path: Path, processes: List[Any]) -> None:
    found = alerts(exported(tmp_path, *processes))
    assert {each.expr: promql.problems(each.expr) for each in found} == {
        each.expr: [] for each in found}
    for each in found:
        assert each.expr.count('{job="%s"' % JOB) == len(promql.parse(each.expr).selectors)


def test_texts_name_labels_that_the_alert_has(tmp_path: Path) -> None:
    for each in alerts(exported(tmp_path, *MANY)):
        first = promql.parse(each.expr).selectors[0].name
        family = dict(metrics.described(), **promql.OWN_METRICS)[first]
        labels = {"job"} if "absent(" in each.expr else {"job", "instance", *family.labels}
        used = set(re.findall(r"\$labels\.(\w+)", each.annotations))
        assert used <= labels - {"cause"}, each.name
        assert each.severity in ("critical", "warning", "info")


@pytest.mark.parametrize("name, job", [
    ("app", "pupgevent-app"), ("pupgevent", "pupgevent"), ("my.shop@2", "pupgevent-my.shop@2"),
    ("-", "pupgevent"),
])
def test_the_job_has_the_name_of_the_configuration(tmp_path: Path, name: str, job: str) -> None:
    text = exported(tmp_path, plain("worker"), name=name)
    assert '#  - job_name: "%s"' % job in text and '  - name: "%s"' % job in text
    assert 'up{job="%s"}' % job in text
    assert job_name(load(str(tmp_path / "app.json"))) == job


def test_no_line_is_longer_than_a_screen_of_text_but_expressions(tmp_path: Path) -> None:
    text = exported(tmp_path, *MANY, dashboard={"port": PORT, "host": "::", "token": "secret"})
    assert [line for line in text.splitlines() if len(line) > 100 and "{job=" not in line] == []


# How it is scraped


def scrape_configuration(text: str) -> str:
    """The lines for prometheus.yml, without the # in front of each."""
    lines = text[text.index("#rule_files:"):text.index("\n\ngroups:")].splitlines()
    assert {line[0] for line in lines} == {"#"}
    return "".join(line[1:] + "\n" for line in lines)


@pytest.mark.parametrize("dashboard, target", [
    ({}, "127.0.0.1"), ({"host": "localhost"}, "127.0.0.1"), ({"host": "127.1.2.3"}, "127.1.2.3"),
    ({"host": "::1"}, "[::1]"), ({"token": "secret"}, "127.0.0.1"),
    ({"host": "192.0.2.7", "token": "secret"}, "192.0.2.7"),
    ({"host": "2001:db8::1", "token": "secret"}, "[2001:db8::1]"),
    ({"host": "0.0.0.0", "token": "secret"}, None), ({"host": "::", "token": "secret"}, None),
])  # fmt: skip
def test_promtool_accepts_the_scrape_configuration(
    tmp_path: Path, dashboard: Dict[str, Any], target: Any
) -> None:
    path = rules_file(tmp_path, web(), dashboard=dict({"port": PORT}, **dashboard))
    text = scrape_configuration(path.read_text())
    assert '- targets: ["%s:9000"]' % (target or socket.gethostname()) in text
    assert ("authorization:" in text) is ("token" in dashboard)
    (tmp_path / "token").write_text("secret")
    text = text.replace("/etc/prometheus/%s.token" % JOB, str(tmp_path / "token"))
    text = text.replace("/etc/prometheus/%s.rules.yml" % JOB, str(path))
    assert "/etc" not in text
    config = tmp_path / "prometheus.yml"
    config.write_text("global:\n  scrape_interval: 1m\n" + text)
    assert "1 rule files found" in assert_accepted("check", "config", str(config))


def test_whoever_scrapes_from_elsewhere_is_told_what_is_missing(tmp_path: Path) -> None:
    assert "One elsewhere needs `host` and `token`" in exported(tmp_path, plain("worker"))
    text = exported(tmp_path, plain("worker"), dashboard={
        "port": PORT, "host": "0.0.0.0", "token": "secret"})
    assert "at which Prometheus reaches this machine" in text


def test_the_token_is_not_printed(tmp_path: Path) -> None:
    text = exported(tmp_path, web(), dashboard={"port": PORT, "token": "9fZk!7q"})
    assert "9fZk!7q" not in text and "credentials_file" in text


@pytest.mark.parametrize("suffix", [".json", ".toml"])
def test_a_configuration_without_a_dashboard_is_refused(tmp_path: Path, suffix: str) -> None:
    config = tmp_path / ("app" + suffix)
    config.write_text({
        ".json": '{"processes": [{"id": "app", "cmd": "true"}]}',
        ".toml": '[[processes]]\nid = "app"\ncmd = "true"\n'}[suffix])
    done = run("export", "prometheus", str(config))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "%s: export prometheus: there is no [dashboard]: add it with a port\n" \
        % config


# When an alert fires


def assert_fires(
    folder: Path, rules: Path, series: Series, expected: Dict[str, Set[str]]
) -> None:
    """That exactly these alerts fire at any time, each for "PROCESS/INSTANCE", "PROCESS/" or "/".

    Prometheus reaches pupgevent, unless the series say otherwise.
    """
    steps = max(map(len, series.values()))
    if not any(name.startswith("up{") for name in series):
        series = dict(series, **up_series([1] * steps))
    joined = 'label_join(count_over_time(ALERTS{alertstate="firing"}[%ds]), "subject", "/",' \
        ' "proxy", "server")' % ((steps + 1) * STEP)
    promql.run_test(folder, rules, {
        "interval": "%ds" % STEP, "input_series": list(promql.as_input(series)),
        "promql_expr_test": [{
            "expr": "group by (alertname, subject) (%s)" % joined,
            "eval_time": "%ds" % (steps * STEP),
            "exp_samples": [
                {"labels": '{alertname="%s",subject="%s"}' % (alert, each), "value": 1}
                for alert, subjects in expected.items() for each in subjects],
        }]})


def up_series(samples: List[Any]) -> Series:
    return {"up{%s}" % TARGET: samples}


def minutes(count: float, value: Any) -> List[Any]:
    """The same sample for so long."""
    return [value] * round(count * 60 / STEP)


def process_series(process_id: str, wanted: List[Any], active: List[Any]) -> Series:
    labels = '%s,proxy="%s"' % (TARGET, process_id)
    return {"pupgevent_backend_wanted_servers{%s}" % labels: wanted,
            "pupgevent_backend_active_servers{%s}" % labels: active}


def instance_series(
    process_id: str, name: str, wanted: List[Any], up: List[Any], **states: List[Any]
) -> Series:
    labels = '%s,proxy="%s",server="%s"' % (TARGET, process_id, name)
    found = {"pupgevent_server_wanted{%s}" % labels: wanted,
             "pupgevent_server_up{%s}" % labels: up}
    for state, samples in states.items():
        found['pupgevent_server_status{%s,state="%s"}' % (labels, state)] = samples
    return found


def rollout(process_id: str, instances: int, turn: float) -> Series:
    """One instance after the other is out of rotation for that many minutes; all are wanted."""
    series: Series = {}
    ups = []
    for number in range(instances):
        up = [*minutes(2 + number * turn, 1), *minutes(turn, 0),
              *minutes((instances - 1 - number) * turn + 5, 1)]
        ups.append(up)
        stopped = [1 - each for each in up]
        series.update(instance_series(
            process_id, "%s-%d" % (process_id, number + 1), minutes(len(up) * STEP / 60, 1), up,
            running=up, stopping=stopped, errored=[0] * len(up), exhausted=[0] * len(up)))
    active = [sum(each) for each in zip(*ups)]
    series.update(process_series(process_id, [instances] * len(active), active))
    return series


def test_a_rolling_restart_of_the_slowest_kind_fires_nothing(tmp_path: Path) -> None:
    """10 s of grace, 30 s until SIGKILL, 30 s until it is ready: each instance takes all of it."""
    assert_fires(tmp_path, rules_file(tmp_path, web()), rollout("web", 4, 70 / 60), {})


def test_a_restart_of_a_single_instance_of_the_slowest_kind_fires_nothing(tmp_path: Path) -> None:
    assert_fires(tmp_path, rules_file(tmp_path, web("web", 1)), rollout("web", 1, 70 / 60), {})


@pytest.mark.parametrize("instances, process", [
    (2, {"terminateGracePeriod": 3600}), (1, {"terminateTimeout": 1800}),
    (1, {"readyTimeoutMs": 600000, "terminateTimeout": 600}),
    (2, {"terminateTimeout": 900, "terminateGracePeriod": 900}),
])
def test_a_restart_may_take_as_long_as_the_configuration_allows(
    tmp_path: Path, instances: int, process: Dict[str, Any]
) -> None:
    seconds = (process.get("terminateGracePeriod", 10) + process.get("terminateTimeout", 30)
               + process.get("readyTimeoutMs", 30000) / 1000)
    path = rules_file(tmp_path, web("web", instances, **process))
    assert_fires(tmp_path, path, rollout("web", instances, seconds / 60), {})
    # Whose restart takes longer than that is missed: of several one, of a single one the process.
    longer = rollout("web", instances, seconds / 60 + 3)
    assert_fires(tmp_path, path, longer, {
        1: {"PupgeventProcessDown": {"web/"}},
        2: {"PupgeventInstanceDown": {"web/web-1", "web/web-2"}}}[instances])


def test_an_instance_that_does_not_come_back_is_missed(tmp_path: Path) -> None:
    length = 10
    series = instance_series("web", "web-1", minutes(length, 1), minutes(length, 1))
    series.update(instance_series(
        "web", "web-2", minutes(length, 1), [*minutes(2, 1), *minutes(length - 2, 0)],
        starting=[*minutes(2, 0), *minutes(length - 2, 1)]))
    series.update(process_series(
        "web", minutes(length, 2), [*minutes(2, 2), *minutes(length - 2, 1)]))
    assert_fires(tmp_path, rules_file(tmp_path, web()), series,
                 {"PupgeventInstanceDown": {"web/web-2"}})


def test_an_instance_that_nobody_wants_is_not_missed(tmp_path: Path) -> None:
    """Stopped by hand, or a job between two runs."""
    series = instance_series("web", "web-1", minutes(9, 0), minutes(9, 0), stopped=minutes(9, 1))
    series.update(instance_series("web", "web-2", minutes(9, 1), minutes(9, 1)))
    series.update(process_series("web", minutes(9, 1), minutes(9, 1)))
    series.update(process_series("job", minutes(9, 0), minutes(9, 0)))
    path = rules_file(tmp_path, web(), {"id": "job", "cmd": "exec true", "cron": "@daily"})
    assert_fires(tmp_path, path, series, {})


def test_an_instance_that_is_given_up_is_told_once_and_at_once(tmp_path: Path) -> None:
    given_up = [*minutes(1, 0), *minutes(9, 1)]
    up = [1 - each for each in given_up]
    for state in ("errored", "exhausted"):
        series = instance_series("web", "web-1", minutes(10, 1), minutes(10, 1))
        series.update(instance_series("web", "web-2", minutes(10, 1), up, **{state: given_up}))
        series.update(process_series("web", minutes(10, 2), [1 + each for each in up]))
        expected = {"PupgeventGivenUp": {"web/web-2"}}
        assert_fires(tmp_path, rules_file(tmp_path, web()), series, expected)
        shorter = {name: samples[:4 + 2] for name, samples in series.items()}
        assert_fires(tmp_path, rules_file(tmp_path, web()), shorter, expected)


def test_a_process_of_which_none_serves_is_one_critical_alert(tmp_path: Path) -> None:
    up = [*minutes(2, 1), *minutes(5, 0)]
    series = process_series("web", minutes(7, 2), [2 * each for each in up])
    for name in ("web-1", "web-2"):
        series.update(instance_series(
            "web", name, minutes(7, 1), up, backoff=[1 - each for each in up]))
    path = rules_file(tmp_path, web())
    assert_fires(tmp_path, path, series, {"PupgeventProcessDown": {"web/"}})
    assert [each.severity for each in named(path.read_text(), "PupgeventProcessDown")] == [
        "critical"]


def test_a_single_run_that_has_failed_is_no_outage(tmp_path: Path) -> None:
    path = rules_file(tmp_path, plain("once", restart="never"), plain("worker"))
    series = process_series("once", minutes(9, 1), minutes(9, 0))
    series.update(instance_series(
        "once", "once", minutes(9, 1), minutes(9, 0), errored=minutes(9, 1)))
    assert_fires(tmp_path, path, series, {"PupgeventGivenUp": {"once/once"}})
    series = process_series("worker", minutes(9, 1), minutes(9, 0))
    assert_fires(tmp_path, path, series, {"PupgeventProcessDown": {"worker/"}})


def test_a_restart_of_pupgevent_fires_nothing(tmp_path: Path) -> None:
    """It stops for up to 40 s, and then the instances have up to 30 s to come up."""
    path = rules_file(tmp_path, web())
    gone = minutes(0.75, None)
    series = up_series([*minutes(2, 1), *minutes(0.75, 0), *minutes(5, 1)])
    series.update(process_series(
        "web", [*minutes(2, 4), *gone, *minutes(5, 4)],
        [*minutes(2, 4), *gone, *minutes(0.5, 0), *minutes(4.5, 4)]))
    for number in range(4):
        series.update(instance_series(
            "web", "web-%d" % (number + 1), [*minutes(2, 1), *gone, *minutes(5, 1)],
            [*minutes(2, 1), *gone, *minutes(0.5, 0), *minutes(4.5, 1)]))
    assert_fires(tmp_path, path, series, {})


def test_a_pupgevent_that_is_gone_is_missed(tmp_path: Path) -> None:
    path = rules_file(tmp_path, plain("worker"))
    series = up_series([*minutes(1, 1), *minutes(4, 0)])
    assert_fires(tmp_path, path, series, {"PupgeventNotScraped": {"/"}})
    series = up_series([*minutes(1, 1), *minutes(1.5, 0), *minutes(2, 1)])
    assert_fires(tmp_path, path, series, {})


def test_a_stop_of_pupgevent_may_take_as_long_as_it_is_allowed(tmp_path: Path) -> None:
    path = rules_file(tmp_path, plain("db", terminateTimeout=600),
                      plain("worker", startAfter=["db"], terminateTimeout=300))
    series = up_series([*minutes(1, 1), *minutes(15.5, 0), *minutes(2, 1)])
    assert_fires(tmp_path, path, series, {})


def test_a_job_without_targets_is_told(tmp_path: Path) -> None:
    path = rules_file(tmp_path, plain("worker"))
    series: Series = {'up{job="other",instance="x"}': minutes(6, 1)}
    assert_fires(tmp_path, path, series, {"PupgeventTargetMissing": {"/"}})


def test_whoever_waits_for_others_at_the_start_is_not_missed_before_them(tmp_path: Path) -> None:
    """Three minutes for the database, then one more for the application."""
    path = rules_file(
        tmp_path, plain("db", minUptimeMs=180000),
        web("web", 2, readyTimeoutMs=60000, startAfter=["db"], terminateTimeout=1))
    up = [*minutes(4, 0), *minutes(2, 1)]
    series = process_series("web", minutes(6, 2), [2 * each for each in up])
    assert_fires(tmp_path, path, series, {})
    series = process_series("web", minutes(6, 2), minutes(6, 0))
    assert_fires(tmp_path, path, series, {"PupgeventProcessDown": {"web/"}})


def restarts(process_id: str, samples: List[Any], cause: str = "exit") -> Series:
    """All causes are there from the start, with 0."""
    labels = '%s,proxy="%s",server="%s"' % (TARGET, process_id, process_id)
    found: Series = {'pupgevent_server_restarts_total{%s,cause="%s"}' % (labels, each): [
        0] * len(samples) for each in metrics.LABEL_VALUES["cause"]}
    found['pupgevent_server_restarts_total{%s,cause="%s"}' % (labels, cause)] = samples
    return found


def test_restarts_in_a_row_are_told_before_it_is_given_up(tmp_path: Path) -> None:
    crash_loop = [*minutes(2, 0), 3, 5, 5, 6, 6, 7, *minutes(2, 7)]
    worker = {"PupgeventRestarts": {"worker/worker"}}
    path = rules_file(tmp_path, plain("worker"))
    for cause in ("exit", "signal", "start", "shortage"):
        assert_fires(tmp_path, path, restarts("worker", crash_loop, cause), worker)
    few = [*minutes(2, 0), 1, 2, 3, *minutes(12, 3)]
    assert_fires(tmp_path, path, restarts("worker", few), {})
    limited = rules_file(tmp_path, plain("worker", restartLimit=3))
    assert_fires(tmp_path, limited, restarts("worker", few), worker)


def test_workers_that_end_by_themselves_now_and_then_are_no_failure(tmp_path: Path) -> None:
    now_and_then = [number // 12 for number in range(240)]  # one every three minutes
    path = rules_file(tmp_path, plain("worker"))
    assert_fires(tmp_path, path, restarts("worker", now_and_then), {})


def test_a_run_that_is_over_its_time_is_no_failure(tmp_path: Path) -> None:
    path = rules_file(tmp_path, plain("worker", timeout=10))
    assert_fires(tmp_path, path, restarts("worker", list(range(60)), "timeout"), {})


def test_long_delays_between_restarts_are_a_long_window(tmp_path: Path) -> None:
    text = exported(tmp_path, plain("worker", restartMaxDelayMs=3600000))
    assert "[397m]" in named(text, "PupgeventRestarts")[0].expr  # (5 + 1) x (1.1 h + 1 s)
    assert named(exported(tmp_path, plain("worker", restart="never")), "PupgeventRestarts") == []


def queue(samples: List[Any], process_id: str = "web") -> Series:
    return {'pupgevent_backend_current_queue{%s,proxy="%s"}' % (TARGET, process_id): samples}


def test_a_queue_that_fills_is_told_at_half_of_its_limit(tmp_path: Path) -> None:
    full = {"PupgeventQueueGrowing": {"web/"}}
    path = rules_file(tmp_path, web())
    assert_fires(tmp_path, path, queue([*minutes(1, 0), *minutes(2, 512)]), full)
    assert_fires(tmp_path, path, queue([*minutes(1, 0), *minutes(2, 511)]), {})
    # For a moment.
    assert_fires(tmp_path, path, queue([*minutes(1, 0), 1024, 1024, *minutes(4, 0)]), {})
    low = rules_file(tmp_path, web(queueLimit=7))
    assert_fires(tmp_path, low, queue([*minutes(1, 0), *minutes(2, 3)]), full)


def test_each_queue_has_its_own_limit(tmp_path: Path) -> None:
    small = web("small", 2, startPort=18100, commonPort=13001, queueLimit=10)
    none = web("none", 2, startPort=18200, commonPort=13002, queueLimit=0)
    path = rules_file(tmp_path, web(), small, none)
    for process_id, expected in (("small", {"small/"}), ("web", set())):
        series = queue([*minutes(1, 0), *minutes(3, 20)], process_id)
        assert_fires(tmp_path, path, series, {"PupgeventQueueGrowing": expected})


def test_a_queue_that_never_empties_is_told(tmp_path: Path) -> None:
    path = rules_file(tmp_path, web())
    waiting = {"PupgeventClientsWaiting": {"web/"}}
    assert_fires(tmp_path, path, queue([*minutes(1, 0), *minutes(12, 2)]), waiting)
    now_and_then = [0 if number % 16 == 0 else 5 for number in range(100)]
    assert_fires(tmp_path, path, queue(now_and_then), {})


def of_clients(**samples: List[Any]) -> Series:
    names = {"accepted": "frontend_connections", "turned_away": "backend_turned_away"}
    return {'pupgevent_%s_total{%s,proxy="web"}' % (names[name], TARGET): each
            for name, each in samples.items()}


@pytest.mark.parametrize("per_step, expected", [(0, set()), (1, set()), (10, {"web/"})])
def test_clients_that_are_turned_away_are_told_from_one_of_a_hundred_on(
    tmp_path: Path, per_step: int, expected: Set[str]
) -> None:
    accepted = [200 * number for number in range(40)]
    turned_away = [per_step * number for number in range(40)]
    assert_fires(
        tmp_path, rules_file(tmp_path, web()),
        of_clients(accepted=accepted, turned_away=turned_away),
        {"PupgeventClientsTurnedAway": expected})


@pytest.mark.parametrize("protocol, expected", [("tcp", {"web/"}), ("http", set())])
def test_with_http_a_hundred_are_requests_and_not_connections(
    tmp_path: Path, protocol: str, expected: Set[str]
) -> None:
    """Each connection has a hundred requests, and one of ten connections has one of them refused;
    another cluster has its own rule."""
    other = web("other", 2, startPort=18400, commonPort=13003, protocol="http")
    path = rules_file(tmp_path, web(protocol=protocol), other)
    connections = [20 * number for number in range(40)]
    series = of_clients(accepted=connections, turned_away=[each // 10 for each in connections])
    series['pupgevent_backend_http_requests_total{%s,proxy="web"}' % TARGET] = [
        100 * each for each in connections]
    assert_fires(tmp_path, path, series, {"PupgeventClientsTurnedAway": expected})


def answers(**per_step: int) -> Series:
    """So many of each class between two scrapes, for half an hour."""
    name = 'pupgevent_frontend_http_responses_total{%s,proxy="web",code="%s"}'
    return {name % (TARGET, code): [per_step.get("of_" + code, 0) * number for number in range(120)]
            for code in metrics.LABEL_VALUES["code"]}


@pytest.mark.parametrize("per_step, expected", [
    ({"of_2xx": 940, "of_5xx": 60}, {"web/"}), ({"of_2xx": 960, "of_5xx": 40}, set()),
    ({"of_2xx": 500, "of_4xx": 460, "of_5xx": 40}, set()), ({"of_5xx": 1}, {"web/"}), ({}, set()),
    # Interim answers are no answers of their own.
    ({"of_1xx": 940, "of_2xx": 940, "of_5xx": 60}, {"web/"}),
])
def test_more_than_one_answer_of_5xx_in_twenty_is_told(
    tmp_path: Path, per_step: Dict[str, int], expected: Set[str]
) -> None:
    path = rules_file(tmp_path, web(protocol="http"))
    assert_fires(tmp_path, path, answers(**per_step), {"PupgeventServerErrors": expected})


def test_a_short_burst_of_5xx_is_not_told(tmp_path: Path) -> None:
    series = answers(of_2xx=1000)
    # A few seconds without instances, and nothing more.
    series = {name: [0] * 40 + [5000] * 80 if '"5xx"' in name else samples
              for name, samples in series.items()}
    assert_fires(tmp_path, rules_file(tmp_path, web(protocol="http")), series, {})


def test_nothing_is_said_of_answers_without_http(tmp_path: Path) -> None:
    assert "http_" not in exported(tmp_path, web(), plain("worker"))


@pytest.mark.parametrize("sessions, errors, expected", [
    (100, 10, True), (100, 2, False), (0, 1, True), (0, 0, False)])
def test_an_instance_that_refuses_connections_is_told(
    tmp_path: Path, sessions: int, errors: int, expected: bool
) -> None:
    labels = '%s,proxy="web",server="web-1"' % TARGET
    series: Series = {
        "pupgevent_server_sessions_total{%s}" % labels: [sessions * n for n in range(60)],
        "pupgevent_server_connection_errors_total{%s}" % labels: [errors * n for n in range(60)]}
    told = {"PupgeventConnectErrors": {"web/web-1"}} if expected else {}
    assert_fires(tmp_path, rules_file(tmp_path, web()), series, told)


def of_certificate(expires: float, steps: int) -> Series:
    """The clock of a test begins at 0."""
    labels = '%s,proxy="web",cert="/tls/web.pem",name="a.org"' % TARGET
    return {"pupgevent_certificate_expiry_timestamp_seconds{%s}" % labels: [expires] * steps}


DAY = 86400


@pytest.mark.parametrize("expires, severities", [
    (21 * DAY + 400, set()), (21 * DAY, {"warning"}), (3 * DAY + 400, {"warning"}),
    (3 * DAY, {"critical"}), (DAY, {"critical"}), (0, {"critical"}), (-30 * DAY, {"critical"})])
def test_a_certificate_that_expires_soon_is_told(
    tmp_path: Path, expires: float, severities: Set[str]
) -> None:
    path = rules_file(tmp_path, web(tls=TLS))
    steps = 20
    series = dict(up_series([1] * steps), **of_certificate(expires, steps))
    promql.run_test(tmp_path, path, {
        "interval": "%ds" % STEP, "input_series": list(promql.as_input(series)),
        "promql_expr_test": [{
            "expr": 'group by (alertname, severity, proxy, name) (ALERTS{alertstate="firing"})',
            "eval_time": "%ds" % (steps * STEP - STEP),
            "exp_samples": [{
                "labels": '{alertname="PupgeventCertificateExpires",severity="%s",proxy="web",'
                          'name="a.org"}' % each, "value": 1} for each in severities]}]})


def test_the_texts_about_a_certificate_say_what_is_to_be_done(tmp_path: Path) -> None:
    path = rules_file(tmp_path, web(tls=TLS))
    told = []
    for expires, severity, threshold, summary, description in (
        (20 * DAY + 15, "warning", "21d", "expires in 20d 0h 0m 0s.",
         " get to see it. Has /tls/web.pem been renewed? Then `pupgevent reload` makes it the one"
         " in use."),
        (DAY, "critical", "3d", "expires within three days, or has expired.",
         " refuse it then. Renew /tls/web.pem, and `pupgevent reload` makes it the one in use."),
    ):
        labels = {"severity": severity, "threshold": threshold, "job": JOB, "proxy": "web",
                  "instance": "127.0.0.1:9000", "cert": "/tls/web.pem", "name": "a.org"}
        told.append(severity)
        promql.run_test(tmp_path, path, {
            "interval": "%ds" % STEP,
            "input_series": list(promql.as_input(of_certificate(expires, 2))),
            "alert_rule_test": [{
                "eval_time": "15s", "alertname": "PupgeventCertificateExpires", "exp_alerts": [{
                    "exp_labels": labels, "exp_annotations": {
                        "summary": "The certificate of a.org " + summary,
                        "description": "Clients of web at 127.0.0.1:9000" + description}}]}]})
    assert told == ["warning", "critical"]


@pytest.mark.parametrize("full, resumed, failed, expected", [
    (1, 1, 3, {"web/"}), (2, 1, 3, set()), (0, 0, 2, {"web/"}), (100, 100, 100, set()),
    (0, 0, 0, set())])
def test_handshakes_of_which_most_fail_are_told(
    tmp_path: Path, full: int, resumed: int, failed: int, expected: Set[str]
) -> None:
    name = 'pupgevent_frontend_tls_handshakes_total{%s,proxy="web",result="%s"}'
    per_step = {"full": full, "resumed": resumed, "failed": failed}
    series: Series = {name % (TARGET, result): [each * number for number in range(120)]
                      for result, each in per_step.items()}
    path = rules_file(tmp_path, web(tls=TLS))
    assert_fires(tmp_path, path, series, {"PupgeventHandshakesFail": expected})


def test_a_few_handshakes_that_fail_are_not_told(tmp_path: Path) -> None:
    """Scanners of the internet come now and then, here every minute, and nobody else does."""
    name = 'pupgevent_frontend_tls_handshakes_total{%s,proxy="web",result="%s"}'
    series: Series = {name % (TARGET, "failed"): [number // 4 for number in range(240)],
                      name % (TARGET, "full"): [0] * 240, name % (TARGET, "resumed"): [0] * 240}
    assert_fires(tmp_path, rules_file(tmp_path, web(tls=TLS)), series, {})


def test_nothing_is_said_of_tls_without_it(tmp_path: Path) -> None:
    hidden = web("hidden", 2, startPort=18300, tls=TLS)
    hidden["cluster"].pop("commonPort")
    text = exported(tmp_path, web(), hidden, plain("worker"))
    assert "tls_" not in text and "certificate" not in text


def test_memory_is_told_of_whoever_has_a_limit(tmp_path: Path) -> None:
    path = rules_file(tmp_path, plain("greedy", maxMemory="100M"), plain("free"),
                      plain("larger", maxMemory="200M"))
    held = [*minutes(1, 10 << 20), *minutes(20, 95 << 20)]
    series = {'pupgevent_server_resident_memory_bytes{%s,proxy="%s",server="%s"}' % (
        TARGET, each, each): held for each in ("greedy", "free", "larger")}
    assert_fires(tmp_path, path, series, {
        "PupgeventMemoryNearLimit": {"greedy/greedy"}})
    leaks = restarts("greedy", [number // 40 for number in range(240)], "memory")
    assert_fires(tmp_path, path, leaks, {"PupgeventMemoryRestarts": {"greedy/greedy"}})
    leaks = restarts("greedy", [number // 120 for number in range(240)], "memory")
    assert_fires(tmp_path, path, leaks, {})


def test_what_pupgevent_itself_runs_out_of_is_told(tmp_path: Path) -> None:
    path = rules_file(tmp_path, plain("worker"))
    for used, expected in ((79, set()), (81, {"/"})):
        series: Series = {"process_open_fds{%s}" % TARGET: minutes(7, used),
                          "process_max_fds{%s}" % TARGET: minutes(7, 100)}
        assert_fires(tmp_path, path, series, {"PupgeventDescriptors": expected})
    for per_step, busy in ((12, set()), (14, {"/"})):  # of 15 s
        series = {"process_cpu_seconds_total{%s}" % TARGET: [per_step * n for n in range(80)]}
        assert_fires(tmp_path, path, series, {"PupgeventBusy": busy})


def test_other_jobs_are_not_meant(tmp_path: Path) -> None:
    series = {name.replace(JOB, "other"): samples
              for name, samples in process_series("worker", minutes(9, 1), minutes(9, 0)).items()}
    series.update(up_series(minutes(9, 1)))
    assert_fires(tmp_path, rules_file(tmp_path, plain("worker")), series, {})


def test_ids_match_themselves_alone(tmp_path: Path) -> None:
    """Two groups of values, so that each rule names its processes."""
    processes = [plain(each, terminateTimeout=600 if each in ("a", "web.1", "by") else 1)
                 for each in ODD]
    path = rules_file(tmp_path, *processes)
    series: Series = {}
    for each in ODD:
        series.update(process_series(each, minutes(5, 1), minutes(5, 0)))
    quick = set(ODD) - {"a", "web.1", "by"}
    assert_fires(tmp_path, path, series, {"PupgeventProcessDown": {each + "/" for each in quick}})
    longer = {name: samples * 3 for name, samples in series.items()}
    assert_fires(tmp_path, path, longer, {
        "PupgeventProcessDown": {each + "/" for each in ODD}})


def test_the_texts_of_an_alert_say_whose_it_is(tmp_path: Path) -> None:
    path = rules_file(tmp_path, web())
    series = instance_series("web", "web-2", minutes(2, 1), minutes(2, 0), errored=minutes(2, 1))
    series.update(restarts("web", [0, 0, 0, 0, 0, 2, 5, 6]))
    at = 'At 127.0.0.1:9000 this instance of web '
    promql.run_test(tmp_path, path, {
        "interval": "%ds" % STEP, "input_series": list(promql.as_input(series)),
        "alert_rule_test": [{
            "eval_time": "105s", "alertname": "PupgeventGivenUp", "exp_alerts": [{
                "exp_labels": {
                    "severity": "warning", "job": JOB, "instance": "127.0.0.1:9000",
                    "proxy": "web", "server": "web-2", "state": "errored"},
                "exp_annotations": {
                    "summary": "web-2 was given up.",
                    "description": at + "is errored: pupgevent does not start it again, unless"
                    " `cron` does. `pupgevent status web-2` shows why, and `pupgevent start web-2`"
                    " starts it."}}],
        }, {
            "eval_time": "105s", "alertname": "PupgeventRestarts", "exp_alerts": [{
                "exp_labels": {
                    "severity": "warning", "threshold": "5 in 10m", "job": JOB,
                    "instance": "127.0.0.1:9000", "proxy": "web", "server": "web"},
                "exp_annotations": {
                    "summary": "web is restarted again and again.",
                    "description": at + "has ended, or failed to start, 6 times within 10 minutes."
                    " If it does so in a row, it is given up at its `restartLimit`, if it has one."
                    " `pupgevent logs web` shows its last lines."}}],
        }]})
