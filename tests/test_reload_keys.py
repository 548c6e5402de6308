"""Every key of the file, changed and read again: it takes effect, or is told as needing more."""

import functools
import ipaddress
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

import pytest

import certificates
import keys
import status
from inside import RuntimeStage, inside, listening, sleeper
from schema import Table
from sinks import Source
from supervision import PATIENCE, script, wait_until

Ports = Callable[[int], List[int]]
ENV_FILE = Path(__file__).resolve().parent / "children" / "variables.env"

#: Title of its table, and name.
Place = Tuple[str, str]

#: The last words of a shell that lives on, and tells with each of its lines that it does.
TICKING = "while :; do echo tick; echo tock >&2; sleep 0.1; done"


class Case(NamedTuple):
    """A key with another value than before, and what shows that this one counts."""

    new: Any
    effect: Callable[[RuntimeStage, Any], Any]
    #: Its value before; None: the file does not say it.
    old: Any = None
    #: What else the table has, before and after.
    beside: Dict[str, Any] = {}  # noqa: RUF012
    #: Part of the sentence at the end.
    told: str = "changed job"


# What shows an effect: each gets the stage and what is found before the reload


def is_new(stage: RuntimeStage, before: Any) -> None:
    """Another child, and it runs."""
    for name in ("job", "web-1"):
        if stage.pids().get(name) != before.get(name):
            assert stage.instance(name).state == "running"
            return
    raise AssertionError("no other child")


def same(stage: RuntimeStage, before: Any) -> None:
    assert stage.pids() == before


def environment(stage: RuntimeStage, before: Any) -> bytes:
    is_new(stage, before)
    return Path("/proc/%d/environ" % (stage.instance("job").pid or 0)).read_bytes()


def proc_text(stage: RuntimeStage, before: Any, name: str) -> str:
    is_new(stage, before)
    return Path("/proc/%d/%s" % (stage.instance("job").pid or 0, name)).read_text()


def has_limit(kind: str, value: str) -> Callable[[RuntimeStage, Any], bool]:
    """Soft and hard."""
    def effect(stage: RuntimeStage, before: Any) -> bool:
        lines = proc_text(stage, before, "limits").splitlines()
        line, = (each for each in lines if each.startswith("Max " + kind))
        return line.split("  ", 1)[1].split()[:2] == [value, value]

    return effect


def killed(stage: RuntimeStage, state: str) -> Any:
    os.kill(stage.instance("job").pid or 0, signal.SIGKILL)
    return stage.reaches(state, "job")


def retries_after(seconds: float) -> Callable[[RuntimeStage, Any], None]:
    def effect(stage: RuntimeStage, before: Any) -> None:
        same(stage, before)
        instance = killed(stage, "backoff")
        due = (instance.due_at or 0) - instance.since
        assert seconds <= due <= seconds * 1.2, due

    return effect


def settles_in(state: str) -> Callable[[RuntimeStage, Any], None]:
    def effect(stage: RuntimeStage, before: Any) -> None:
        same(stage, before)
        killed(stage, state)

    return effect


def process_has(**values: Any) -> Callable[[RuntimeStage, Any], None]:
    """Of what an instance looks at when it stops; the tests of supervision show that it does."""
    def effect(stage: RuntimeStage, before: Any) -> None:
        same(stage, before)
        for name, value in values.items():
            assert getattr(stage.instance("job").process, name) == value

    return effect


def stops_by(signal_name: str) -> Callable[[RuntimeStage, Any], None]:
    def effect(stage: RuntimeStage, before: Any) -> None:
        same(stage, before)
        stage.operations.stop(["job"], stage.told.append)
        assert stage.instance("job").last_exit == signal_name

    return effect


def is_given_up_loudly(stage: RuntimeStage, before: Any) -> None:
    killed(stage, "errored")
    assert stage.essential == ["job"]


def has_time(kind: str, month: int) -> Callable[[RuntimeStage, Any], None]:
    def effect(stage: RuntimeStage, before: Any) -> None:
        same(stage, before)
        moment = stage.runtime.scheduler.next_time("job", kind)
        assert moment and time.localtime(moment)[1:3] == (month, 1)

    return effect


def is_restarted_by_cron(stage: RuntimeStage, before: Any) -> None:
    same(stage, before)
    stage.runtime.scheduler._start("job", stage.instance("job").process.overrun)
    wait_until(lambda: stage.pids()["job"] not in (None, before["job"]))


def is_stopped_in_time(stage: RuntimeStage, before: Any) -> None:
    wait_until(lambda: any("runs longer than" in each for each in stage.console.lines))


def balancer_has(**values: Any) -> Callable[[RuntimeStage, Any], None]:
    """The tests of the balancer show what it does with these."""
    def effect(stage: RuntimeStage, before: Any) -> None:
        same(stage, before)
        settings = stage.runtime.balancers["web"]._cluster
        assert {name: getattr(settings, name) for name in values} == values

    return effect


#: What `make_certificates` makes.
PAIR = {"cert": "a.pem", "key": "a.key"}


def make_certificates(folder: Path) -> None:
    certificates.in_one_file(certificates.make(folder, "a"), folder / "both.pem")


def ends_tls(**values: str) -> Callable[[RuntimeStage, Any], None]:
    """Files by their names; the tests of TLS show what is done with these."""
    def effect(stage: RuntimeStage, before: Any) -> None:
        same(stage, before)
        tls: Any = stage.runtime.balancers["web"]._cluster.tls
        found = dict(tls._asdict(), **{
            name: os.path.basename(getattr(tls.pairs[0], name)) for name in ("cert", "key")})
        found["client_ca"] = tls.client_ca and os.path.basename(tls.client_ca.path)
        assert {name: found[name] for name in values} == values

    return effect


def is_checked(**values: Any) -> Callable[[RuntimeStage, Any], None]:
    """The tests of health checks show what is done with these."""
    def effect(stage: RuntimeStage, before: Any) -> None:
        same(stage, before)
        run = stage.instance("web-1")._run
        assert run is not None
        wait_until(lambda: run._health_watch._settings is not None and {
            name: getattr(run._health_watch._settings.health, name) for name in values} == values)

    return effect


def attends_to_answers(**values: Any) -> Callable[[RuntimeStage, Any], None]:
    """The tests of passive health show what that comes to."""
    def effect(stage: RuntimeStage, before: Any) -> None:
        same(stage, before)
        front = stage.runtime.balancers["web"]._http
        assert front is not None and front.attends
        settings = front.passive.settings
        assert {name: getattr(settings, name) for name in values} == values

    return effect


def balancer_logs_to(name: str) -> Callable[[RuntimeStage, Any], None]:
    def effect(stage: RuntimeStage, before: Any) -> None:
        balancer_has(access_log=os.path.join(stage.runtime.configuration.folder, name))(
            stage, before)

    return effect


def listens_at_the_new_place(stage: RuntimeStage, before: Any) -> None:
    same(stage, before)
    cluster: Any = stage.runtime.configuration.processes[1].cluster
    with socket.socket() as client:
        client.settimeout(30)
        client.connect((cluster.common_host, cluster.common_port))
    balancer = stage.runtime.balancers["web"]
    assert balancer.address == (cluster.common_host, cluster.common_port)


def is_at_the_new_port(stage: RuntimeStage, before: Any) -> None:
    is_new(stage, before)
    process: Any = stage.runtime.configuration.processes[1]
    found = stage.instance("web-1")
    assert (found.spec.host, found.port) == (
        process.cluster.instance_host, process.cluster.start_port)


def colours_appear(*kinds: str) -> Callable[[RuntimeStage, Any], None]:
    """In lines of what runs already."""
    def effect(stage: RuntimeStage, before: Any) -> None:
        same(stage, before)
        stage.console.written = b""
        stage.runtime.log.info("core", "still here", Source("job", "job"))
        wait_until(lambda: all(b"[%s]\x1b" % kind.encode() in stage.console.written
                               for kind in kinds))

    return effect


def console_gets_no(kinds: Tuple[str, ...], others: Tuple[str, ...]) -> Any:
    """Lines of what runs already; they are remembered, though."""
    def effect(stage: RuntimeStage, before: Any) -> None:
        same(stage, before)
        stage.console.written = b""
        remembered = len(stage.remembered())
        stage.runtime.log.info("core", "still here", Source("job", "job"))
        for kind in kinds + others:
            wait_until(functools.partial(is_remembered, stage, remembered, "[%s]" % kind))
        for kind in kinds:
            assert b"[%s]" % kind.encode() not in stage.console.written
        for kind in others:
            assert b"[%s]" % kind.encode() in stage.console.written

    return effect


def is_remembered(stage: RuntimeStage, before: int, prefix: str) -> bool:
    return prefix in stage.remembered()[before:]


def file_gets(
    name: str, *texts: bytes, without: bytes = b"\0"
) -> Callable[[RuntimeStage, Any], None]:
    """Lines of what runs already, and of ours, in a log file."""
    def effect(stage: RuntimeStage, before: Any) -> None:
        same(stage, before)
        path = stage.config.parent / name
        if path.exists():
            # What came before the change may still wait to be written.
            stage.runtime._outlets.flush(PATIENCE)
            path.write_bytes(b"")
        stage.runtime.log.info("core", "still here")
        wait_until(lambda: path.exists() and all(each in path.read_bytes() for each in texts))
        assert without not in path.read_bytes()

    return effect


def console_gets_plain(text: bytes) -> Callable[[RuntimeStage, Any], None]:
    def effect(stage: RuntimeStage, before: Any) -> None:
        same(stage, before)
        stage.console.written = b""
        stage.runtime.log.info("core", "still here")
        wait_until(lambda: text in stage.console.written.splitlines())

    return effect


def there_are(*names: str, but: Tuple[str, ...] = ()) -> Callable[[RuntimeStage, Any], None]:
    """Backups of a log file, sooner or later."""
    def effect(stage: RuntimeStage, before: Any) -> None:
        same(stage, before)
        folder = stage.config.parent
        wait_until(lambda: all((folder / each).exists() for each in names)
                   and not any((folder / each).exists() for each in but))

    return effect


def memory_has_no(kind: str, others: Tuple[str, ...]) -> Callable[[RuntimeStage, Any], None]:
    """Of what comes from now on."""
    def effect(stage: RuntimeStage, before: Any) -> None:
        same(stage, before)
        stage.console.written = b""
        stage.runtime.log.info("core", "still here")
        for each in (kind, *others):
            wait_until(functools.partial(is_on_console, stage, each))
        assert kind not in stage.remembered()

    return effect


def is_on_console(stage: RuntimeStage, kind: str) -> bool:
    return kind.encode() in stage.console.written


def follows_changes_of(name: str, watches: int = 2) -> Callable[[RuntimeStage, Any], None]:
    """Once what it says now is known: there is a line for each value that was ever watched."""
    def effect(stage: RuntimeStage, before: Any) -> None:
        same(stage, before)
        wait_until(lambda: sum("[watcher]" in line for line in stage.console.lines) == watches)
        path = stage.config.parent / "src" / name
        path.parent.mkdir()
        path.write_text("new")
        wait_until(lambda: stage.instance("job").state == "running"
                   and stage.pids() != before)

    return effect


def dashboard_has(**values: Any) -> Callable[[RuntimeStage, Any], None]:
    """The tests of the dashboard show what it does with these."""
    def effect(stage: RuntimeStage, before: Any) -> None:
        same(stage, before)
        settings = stage.runtime.configuration.dashboard
        assert settings is not None
        assert {name: getattr(settings, name) for name in values} == values

    return effect


def agent_has(**values: Any) -> Callable[[RuntimeStage, Any], None]:
    """The tests of the agent show what it does with these."""
    def effect(stage: RuntimeStage, before: Any) -> None:
        same(stage, before)
        settings = stage.runtime.configuration.agent
        assert settings is not None
        assert {name: getattr(settings, name) for name in values} == values

    return effect


def nothing(stage: RuntimeStage, before: Any) -> None:
    same(stage, before)


ROLLED = "changed job; restarted job"

CASES: Dict[Place, Case] = {
    ("", "name"): Case(
        "shop", told="changed the name",
        effect=lambda stage, before: status.snapshot(stage.runtime, {}, "0.1.0").name == "shop"),
    ("", "terminateGracePeriod"): Case(3, process_has(terminate_grace_period=3.0)),
    ("", "terminateTimeout"): Case(3, process_has(terminate_timeout=3.0)),
    ("logger", "console"): Case(
        False, console_gets_no(("core", "stdout"), ()), told="changed the logger, job, web"),
    ("logger", "colors"): Case(
        True, colours_appear("core", "stdout"), told="changed the logger, job, web"),
    ("logger", "decorate"): Case(
        False, console_gets_plain(b"still here"), told="changed the logger, job, web"),
    ("logger", "stdout"): Case(
        "all.log", file_gets("all.log", b"[core] still here", b"[job][stdout] tick"),
        told="changed the logger, job, web"),
    ("logger", "stderr"): Case(
        "errors.log", file_gets("errors.log", b"[job][stderr] tock", without=b"tick"),
        told="changed the logger, job, web"),
    ("logger", "decorateFiles"): Case(
        False, file_gets("all.log", b"still here\n", b"tick\n", without=b"["),
        beside={"stdout": "all.log"}, told="changed the logger, job, web"),
    ("logger", "maxBytes"): Case(
        60, there_are("all.log.1"), beside={"stdout": "all.log"},
        told="changed the logger, job, web"),
    ("logger", "backups"): Case(
        1, there_are("all.log.1", but=("all.log.2",)),
        beside={"stdout": "all.log", "maxBytes": 60}, told="changed the logger, job, web"),
    ("logger", "compress"): Case(
        True, there_are("all.log.1.gz"), beside={"stdout": "all.log", "maxBytes": 60},
        told="changed the logger, job, web"),
    ("logger", "internalLogHours"): Case(
        0, memory_has_no("[core]", ("[stdout]",)), told="changed the logger, job, web"),
    ("watcher", "interval"): Case(
        20, follows_changes_of("a.js"), old=10**6, told="changed the watcher"),
    ("watcher", "exts"): Case(["py"], follows_changes_of("a.py"), told="changed the watcher"),
    ("watcher", "match"): Case(
        ["**"], follows_changes_of("a.js"), old=["x"], told="changed the watcher"),
    ("watcher", "skip"): Case(
        [], follows_changes_of("a.js"), old=["**"], told="changed the watcher"),
    ("control", "socket"): Case(
        "other.sock", nothing, told="control: a change of it needs a restart of pupgevent"),
    ("dashboard", "port"): Case(
        12345, dashboard_has(port=12345), old=12346, told="changed the dashboard"),
    ("dashboard", "host"): Case(
        "127.0.0.2", dashboard_has(host="127.0.0.2"), beside={"port": 12345},
        told="changed the dashboard"),
    ("dashboard", "token"): Case(
        "other", dashboard_has(token="other"), beside={"port": 12345},
        told="changed the dashboard"),
    ("agent", "port"): Case(
        12345, agent_has(port=12345), old=12346, told="changed the agent"),
    ("agent", "host"): Case(
        "127.0.0.2", agent_has(host="127.0.0.2"), beside={"port": 12345},
        told="changed the agent"),
    ("processes", "id"): Case(
        "work", told="started work; removed job", old="job",
        effect=lambda stage, before: stage.states() == {"work": "running", "web-1": "running"}),
    ("processes", "cmd"): Case(["sleep", "500"], is_new, told=ROLLED),
    ("processes", "autostart"): Case(
        True, lambda stage, before: stage.states()["job"] == "running", old=False,
        told="changed job; started job"),
    ("processes", "cron"): Case("0 0 1 1 *", has_time("start", month=1), old="0 0 1 2 *"),
    ("processes", "terminate"): Case("0 0 1 1 *", has_time("stop", month=1), old="0 0 1 2 *"),
    ("processes", "overrun"): Case(True, is_restarted_by_cron, old=False),
    ("processes", "watch"): Case(["src"], follows_changes_of("a.js", watches=1)),
    ("processes", "cwd"): Case(
        "/", lambda stage, before: os.readlink(
            "/proc/%d/cwd" % (stage.instance("job").pid or 0)) == "/", told=ROLLED),
    ("processes", "env"): Case(
        {"A": "1"}, lambda stage, before: b"\0A=1\0" in environment(stage, before),
        told=ROLLED),
    ("processes", "envFile"): Case(
        str(ENV_FILE), lambda stage, before: b"\0FROM_A_FILE=yes\0" in environment(stage, before),
        told=ROLLED),
    ("processes", "umask"): Case(
        "027", lambda stage, before: "Umask:\t0027" in proc_text(stage, before, "status"),
        told=ROLLED),
    ("processes", "nice"): Case(
        7, lambda stage, before: os.getpriority(
            os.PRIO_PROCESS, stage.instance("job").pid or 0) == 7, told=ROLLED),
    ("processes", "limits"): Case({"core": 0}, has_limit("core file size", "0"), told=ROLLED),
    ("processes.limits", "nofile"): Case(500, has_limit("open files", "500"), told=ROLLED),
    ("processes.limits", "core"): Case("1K", has_limit("core file size", "1024"), told=ROLLED),
    ("processes.limits", "nproc"): Case(5000, has_limit("processes", "5000"), told=ROLLED),
    ("processes.limits", "memlock"): Case("4K", has_limit("locked memory", "4096"), told=ROLLED),
    ("processes.limits", "stack"): Case("1M", has_limit("stack size", "1048576"), told=ROLLED),
    ("processes.limits", "as"): Case(
        "1G", has_limit("address space", "1073741824"), told=ROLLED),
    ("processes", "path"): Case(
        "/opt/x", lambda stage, before: b":/opt/x\0" in environment(stage, before),
        told=ROLLED),
    ("processes", "pidFile"): Case("job.pid", is_new, told=ROLLED),
    ("processes", "user"): Case("nobody", is_new, told=ROLLED),
    ("processes", "group"): Case("nogroup", is_new, told=ROLLED),
    ("processes", "startAfter"): Case(["web"], process_has(start_after=("web",))),
    ("processes", "maxMemory"): Case("1G", process_has(max_memory=2**30)),
    ("processes", "onFailure"): Case("true", process_has(on_failure="true")),
    ("processes", "restart"): Case("never", settles_in("errored")),
    ("processes", "restartDelayMs"): Case(20000, retries_after(20)),
    ("processes", "restartMaxDelayMs"): Case(
        15000, retries_after(15), old=20000, beside={"restartDelayMs": 15000}),
    ("processes", "restartLimit"): Case(0, settles_in("exhausted")),
    ("processes", "minUptimeMs"): Case(300, process_has(min_uptime=0.3)),
    ("processes", "timeout"): Case(0.01, is_stopped_in_time, old=600),
    ("processes", "cluster"): Case(
        {"instances": 2}, told="started job-1, job-2; removed job",
        effect=lambda stage, before: stage.states() == dict.fromkeys(
            ["job-1", "job-2", "web-1"], "running")),
    ("processes", "terminateGracePeriod"): Case(3, process_has(terminate_grace_period=3.0)),
    ("processes", "terminateTimeout"): Case(3, process_has(terminate_timeout=3.0)),
    ("processes", "stopSignal"): Case("SIGUSR1", stops_by("SIGUSR1")),
    ("processes", "essential"): Case(True, is_given_up_loudly, beside={"restart": "never"}),
    ("processes", "logger"): Case(
        {"console": False}, console_gets_no(("stdout",), ("core",))),
    ("processes.logger", "console"): Case(False, console_gets_no(("stdout",), ("core",))),
    ("processes.logger", "colors"): Case(True, colours_appear("stdout")),
    ("processes.logger", "decorate"): Case(False, console_gets_plain(b"tick")),
    ("processes.logger", "stdout"): Case("job.log", file_gets("job.log", b"tick\n", b"tock\n")),
    ("processes.logger", "stderr"): Case("e.log", file_gets("e.log", b"tock\n", without=b"tick")),
    ("processes.logger", "decorateFiles"): Case(
        True, file_gets("job.log", b"[job][stdout] tick\n"), beside={"stdout": "job.log"}),
    ("processes.logger", "maxBytes"): Case(
        60, there_are("job.log.1"), beside={"stdout": "job.log"}),
    ("processes.logger", "backups"): Case(
        1, there_are("job.log.1", but=("job.log.2",)),
        beside={"stdout": "job.log", "maxBytes": 60}),
    ("processes.logger", "compress"): Case(
        True, there_are("job.log.1.gz"), beside={"stdout": "job.log", "maxBytes": 60}),
    ("processes.logger", "internalLogHours"): Case(
        0, memory_has_no("[job][stdout]", ("[core]",))),
    ("processes.cluster", "instances"): Case(
        2, lambda stage, before: stage.states()["web-2"] == "running", old=1,
        told="changed web; started web-2"),
    ("processes.cluster", "startPort"): Case(
        "PORT", is_at_the_new_port, told="changed web; restarted web-1"),
    ("processes.cluster", "commonPort"): Case("PORT", listens_at_the_new_place),
    ("processes.cluster", "commonHost"): Case("127.0.0.2", listens_at_the_new_place),
    ("processes.cluster", "instanceHost"): Case(
        "127.0.0.2", is_at_the_new_port,
        told="changed web; restarted web-1"),
    ("processes.cluster", "protocol"): Case("http", balancer_has(protocol="http")),
    ("processes.cluster", "strategy"): Case("ip-hash", balancer_has(strategy="ip-hash")),
    ("processes.cluster", "readyTimeoutMs"): Case(
        5000, lambda stage, before: stage.instance(
            "web-1").process.cluster.ready_timeout == 5.0),  # type: ignore[union-attr]
    ("processes.cluster", "connectTimeoutMs"): Case(5, balancer_has(connect_timeout=0.005)),
    ("processes.cluster", "queueTimeoutMs"): Case(5, balancer_has(queue_timeout=0.005)),
    ("processes.cluster", "queueLimit"): Case(5, balancer_has(queue_limit=5)),
    ("processes.cluster", "maxConnections"): Case(5, balancer_has(max_connections=5)),
    ("processes.cluster", "slowStartMs"): Case(5, balancer_has(slow_start=0.005)),
    ("processes.cluster", "health"): Case({"path": "/"}, is_checked(path="/")),
    ("processes.cluster.health", "path"): Case("/", is_checked(path="/")),
    ("processes.cluster.health", "intervalMs"): Case(5, is_checked(interval=0.005)),
    ("processes.cluster.health", "timeoutMs"): Case(5, is_checked(timeout=0.005)),
    ("processes.cluster.health", "rise"): Case(5, is_checked(rise=5)),
    ("processes.cluster.health", "fall"): Case(5, is_checked(fall=5)),
    ("processes.cluster.health", "restart"): Case(True, is_checked(restart=True)),
    ("processes.cluster.health", "passive"): Case(
        {"count": 7}, attends_to_answers(count=7, seconds=10.0)),
    ("processes.cluster.health.passive", "count"): Case(7, attends_to_answers(count=7)),
    ("processes.cluster.health.passive", "seconds"): Case(7, attends_to_answers(seconds=7.0)),
    ("processes.cluster", "idleTimeoutMs"): Case(5, balancer_has(idle_timeout=0.005)),
    ("processes.cluster", "halfCloseTimeoutMs"): Case(5, balancer_has(half_close_timeout=0.005)),
    ("processes.cluster", "headTimeoutMs"): Case(
        5, balancer_has(head_timeout=0.005), beside={"protocol": "http"}),
    ("processes.cluster", "responseTimeoutMs"): Case(
        5, balancer_has(response_timeout=0.005), beside={"protocol": "http"}),
    ("processes.cluster", "keepUpstream"): Case(
        5, balancer_has(keep_upstream=5), beside={"protocol": "http"}),
    ("processes.cluster", "acceptProxyFrom"): Case(
        ["10.0.0.1"], balancer_has(accept_proxy_from=(ipaddress.ip_network("10.0.0.1"),))),
    ("processes.cluster", "proxyProtocol"): Case("v2", balancer_has(proxy_protocol="v2")),
    ("processes.cluster", "tls"): Case(PAIR, ends_tls(key="a.key")),
    ("processes.cluster.tls", "cert"): Case(
        "both.pem", ends_tls(cert="both.pem"), old="a.pem", beside={"key": "a.key"}),
    ("processes.cluster.tls", "key"): Case(
        "both.pem", ends_tls(key="both.pem"), old="a.key", beside={"cert": "a.pem"}),
    ("processes.cluster.tls", "minVersion"): Case(
        "TLSv1.3", ends_tls(min_version="TLSv1.3"), beside=PAIR),
    ("processes.cluster.tls", "ciphers"): Case(
        "ECDHE+AESGCM", ends_tls(ciphers="ECDHE+AESGCM"), beside=PAIR),
    ("processes.cluster.tls", "clientCa"): Case(
        "both.pem", ends_tls(client_ca="both.pem"), beside=PAIR),
    ("processes.cluster", "accessLog"): Case(
        "access.log", balancer_logs_to("access.log"), beside={"protocol": "http"}),
}  # fmt: skip

#: Tables of other tables: what is in them is what changes.
TABLES_OF_TABLES = {
    ("", name) for name in ("logger", "watcher", "control", "dashboard", "agent", "processes")}


def places(table: Table = keys.TOP) -> Iterator[Place]:
    """Every key of every table."""
    for key in table.keys:
        yield table.title, key.name
        if isinstance(key.type, Table):
            yield from places(key.type)


def test_it_is_decided_for_every_key_what_a_reload_makes_of_it() -> None:
    assert set(places()) - TABLES_OF_TABLES == set(CASES)


def written(place: Place, case: Case, value: Any, ports: List[int]) -> Dict[str, Any]:
    """A file in which the key has this value."""
    title, name = place
    job = sleeper("job", cmd=["sh", "-c", TICKING], restart="always", minUptimeMs=0)
    anywhere = list(script("listener.py", "0", "0.0.0.0"))
    web = listening("web", ports[0], ports[2], more={"cmd": anywhere})
    top: Dict[str, Any] = {"processes": [job, web]}
    health: Dict[str, Any] = {}
    passive: Dict[str, Any] = {}
    tls: Dict[str, Any] = {}
    table = {
        "": top, "processes": job, "processes.cluster": web["cluster"],
        "processes.logger": job.setdefault("logger", {}),
        "processes.limits": job.setdefault("limits", {}) if title == "processes.limits" else {},
        "logger": top.setdefault("logger", {}), "control": top.setdefault("control", {}),
        "watcher": top.setdefault("watcher", {}),
        "dashboard": top.setdefault("dashboard", {}) if title == "dashboard" else {},
        "processes.cluster.health": health, "processes.cluster.health.passive": passive,
        "processes.cluster.tls": tls,
        "agent": top.setdefault("agent", {}) if title == "agent" else {},
    }[title]  # fmt: skip
    if "health" in ".".join(place):
        # It answers each path with 200.
        web["cmd"] = list(script("health_app.py", "/nowhere"))
    if title.startswith("processes.cluster.health"):
        web["cluster"]["health"] = health
    if "passive" in place or title.endswith(".passive"):
        web["cluster"]["protocol"] = "http"
    if title.endswith(".passive"):
        health["passive"] = passive
    if title.endswith(".tls"):
        web["cluster"]["tls"] = tls
    if title == "watcher":
        job["watch"] = ["src"]
    table.update(case.beside)
    if value is not None:
        table[name] = ports[3] if value == "PORT" else value
    return top


every_key = pytest.mark.parametrize(
    "place", list(CASES), ids=lambda place: ".".join(place).lstrip("."))


@pytest.fixture(autouse=True)
def only_root_can(request: Any) -> None:
    place = getattr(request.node, "callspec", None) and request.node.callspec.params["place"]
    if place and place[1] in ("user", "group") and os.getuid() != 0:
        pytest.skip("only root can")


@every_key
def test_a_change_takes_effect_or_is_told_as_needing_a_restart(
    place: Place, tmp_path: Path, free_ports: Ports
) -> None:
    make_certificates(tmp_path)
    case, ports = CASES[place], free_ports(5)
    of_web = place[0].startswith("processes.cluster")
    told = case.told.replace("job", "web") if of_web else case.told
    before, after = (written(place, case, value, ports) for value in (case.old, case.new))
    with inside(tmp_path, **before) as stage:
        pids = stage.pids()
        assert told in stage.reload(**after)
        assert case.effect(stage, pids) is not False


@every_key
def test_the_same_file_read_again_changes_nothing(
    place: Place, tmp_path: Path, free_ports: Ports
) -> None:
    """Whatever it says."""
    make_certificates(tmp_path)
    case = CASES[place]
    value = case.old if place[1] == "timeout" else case.new
    with inside(tmp_path, **written(place, case, value, free_ports(5))) as stage:
        pids = stage.pids()
        assert stage.reload() == "reloaded: nothing differs"
        assert stage.pids() == pids
