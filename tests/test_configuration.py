"""From a file to the tuples that pupgevent works with."""

import json
import os
import signal
from pathlib import Path
from typing import Any, Callable, List

import pytest

import cluster_keys
import configuration
import conflicts
import keys
import model
from model import Cluster, Configuration, Logger, Process, instance_specs
from schema import Derived, Required, Table

Load = Callable[..., Configuration]

MINIMAL = '[[processes]]\nid = "web"\ncmd = "serve"\n'


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """`load(text)`: the configuration in a file app.toml of that text."""

    def load_text(text: str, name: str = "app.toml") -> Configuration:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return configuration.load(str(tmp_path / name))

    return load_text


def process(load: Load, keys: str) -> Process:
    return load(MINIMAL + keys).processes[0]


def cluster(load: Load, keys: str) -> Cluster:
    found = process(load, "[processes.cluster]\n" + keys).cluster
    assert found is not None
    return found


def test_minimal_file_gets_every_default(load: Load, tmp_path: Path) -> None:
    logger = Logger(True, True, None, None, None, True, 52428800, 10, False, 72 * 3600.0)
    assert load(MINIMAL) == Configuration(
        path=str(tmp_path / "app.toml"),
        real_path=os.path.realpath(str(tmp_path / "app.toml")),
        folder=str(tmp_path),
        name="app",
        processes=(
            Process(
                id="web",
                cmd="serve",
                autostart=False,
                cron=None,
                terminate=None,
                overrun=False,
                watch=(),
                cwd=str(tmp_path),
                real_cwd=os.path.realpath(str(tmp_path)),
                env={},
                env_file=None,
                path=None,
                pid_file=None,
                user=None,
                group=None,
                umask=None,
                nice=None,
                limits=None,
                start_after=(),
                restart="never",
                restart_delay=0.5,
                restart_max_delay=30.0,
                restart_limit=None,
                min_uptime=1.0,
                timeout=None,
                terminate_grace_period=0.0,
                terminate_timeout=30.0,
                stop_signal=signal.SIGTERM,
                max_memory=None,
                on_failure=None,
                essential=False,
                logger=logger,
                cluster=None,
            ),
        ),
        logger=logger,
        watcher=model.Watcher(
            0.35, (".ts", ".tsx", ".js", ".jsx", ".json"), ("**/*.*",),
            ("**/.git/**", "**/node_modules/**")),
        control=model.Control(None),
        dashboard=None,
        agent=None,
    )


def test_cluster_gets_every_default(load: Load) -> None:
    assert cluster(load, "") == Cluster(
        instances=1,
        start_port=None,
        common_port=None,
        common_host="0.0.0.0",
        instance_host="127.0.0.1",
        protocol="tcp",
        strategy="round-robin",
        ready_timeout=30.0,
        connect_timeout=2.0,
        queue_timeout=10.0,
        queue_limit=1024,
        max_connections=0,
        slow_start=0.0,
        idle_timeout=3600.0,
        half_close_timeout=60.0,
        head_timeout=10.0,
        response_timeout=0.0,
        keep_upstream=64,
        access_log=None,
        health=None,
        proxy_protocol=None,
        accept_proxy_from=None,
        tls=None,
    )


def test_the_example_of_the_specification_is_read(load: Load) -> None:
    loaded = load("""\
[[processes]]
id = "my-scalable-app"
cmd = "python3 server.py"
autostart = true

[processes.cluster]
instances = 4
commonPort = 3000
startPort = 8000
strategy = "round-robin"
""").processes[0]
    assert (loaded.id, loaded.cmd, loaded.autostart) == (
        "my-scalable-app",
        "python3 server.py",
        True,
    )
    assert loaded.restart == "always"
    assert loaded.terminate_grace_period == 10.0
    assert loaded.cluster is not None
    assert loaded.cluster[:3] == (4, 8000, 3000)


def test_json_and_toml_mean_the_same(load: Load) -> None:
    text = {
        "$schema": "https://example.org/schema.json",
        "processes": [
            {
                "id": "web",
                "cmd": ["a", "b"],
                "env": {"A": "x", "B": 1, "C": 1.5, "D": True},
                "restartDelayMs": 250,
                "cluster": {"instances": 2, "startPort": 8000},
            }
        ],
    }
    toml = """\
[[processes]]
id = "web"
cmd = ["a", "b"]
env = { A = "x", B = 1, C = 1.5, D = true }
restartDelayMs = 250
cluster = { instances = 2, startPort = 8000 }
"""
    assert load(json.dumps(text), "app.json").processes == load(toml).processes


def test_the_demonstration_is_the_same_in_both_formats() -> None:
    folder = Path(__file__).resolve().parent.parent / "conf"
    as_toml = configuration.load(str(folder / "app.toml"))
    assert as_toml.processes == configuration.load(str(folder / "app.json")).processes


def test_two_readings_of_a_file_are_equal_and_a_difference_shows(load: Load) -> None:
    text = MINIMAL + 'env = { A = "1" }\n[processes.cluster]\ninstances = 2\n'
    assert load(text) == load(text)
    for other in (
        text.replace('"1"', '"2"'),
        text.replace("s = 2", "s = 3"),
        text + "queueLimit=1",
    ):
        assert load(text) != load(other)


def test_environment_becomes_strings(load: Load) -> None:
    env = process(load, 'env = { A = "x", B = 1, C = 1.5, D = true, E = false, F = "" }').env
    assert env == {"A": "x", "B": "1", "C": "1.5", "D": "true", "E": "false", "F": ""}


def test_command_may_be_an_array(load: Load) -> None:
    loaded = load('[[processes]]\nid = "a"\ncmd = ["sh", "-c", "", "é"]\n')
    assert loaded.processes[0].cmd == ("sh", "-c", "", "é")


def test_durations_are_float_seconds(load: Load) -> None:
    loaded = process(
        load, "restartDelayMs = 1\nrestartMaxDelayMs = 2.5\ntimeout = 3\nterminateTimeout = 0\n"
    )
    assert (loaded.restart_delay, loaded.restart_max_delay) == (0.001, 0.0025)
    assert (loaded.timeout, loaded.terminate_timeout) == (3.0, 0.0)
    durations = [value for value in loaded if isinstance(value, float)]
    assert len(durations) == 6


def test_longest_delay_is_never_less_than_the_first(load: Load) -> None:
    assert process(load, "restartDelayMs = 60000\n").restart_max_delay == 60.0
    assert process(load, "restartDelayMs = 100\n").restart_max_delay == 30.0


@pytest.mark.parametrize(
    "text, restart",
    [("", "never"), ("[processes.cluster]\n", "never"), ("autostart = true\n", "error"),
     ("autostart = true\n[processes.cluster]\n", "always"),
     ('restart = "never"\nautostart = true\n[processes.cluster]\n', "never"),
     ('restart = "always"\n', "always")],
)
def test_restart_follows_autostart_and_whether_it_is_a_cluster(
    load: Load, text: str, restart: str
) -> None:
    assert process(load, text).restart == restart


PORTS = "[processes.cluster]\nstartPort = 8000\n"


@pytest.mark.parametrize(
    "top, own, ports, seconds",
    [
        ("", "", "", 0.0),
        ("", "", PORTS, 0.0),
        ("", "", PORTS + "commonPort = 3000\n", 10.0),
        ("", "", PORTS + 'commonPort = 3000\nprotocol = "http"\n', 30.0),
        ("", "", PORTS + 'protocol = "http"\n', 0.0),
        ("", "terminateGracePeriod = 2\n", PORTS + 'commonPort = 3000\nprotocol = "http"\n', 2.0),
        ("terminateGracePeriod = 5\n", "", "", 5.0),
        ("terminateGracePeriod = 0\n", "", PORTS + "commonPort = 3000\n", 0.0),
        ("terminateGracePeriod = 5\n", "terminateGracePeriod = 2\n", PORTS, 2.0),
    ],
)
def test_grace_period_is_the_process_own_or_the_top_levels_or_follows_from_the_balancer(
    load: Load, top: str, own: str, ports: str, seconds: float
) -> None:
    assert load(top + MINIMAL + own + ports).processes[0].terminate_grace_period == seconds


def test_terminate_timeout_is_the_top_levels(load: Load) -> None:
    text = "terminateTimeout = 7\n" + MINIMAL
    assert load(text).processes[0].terminate_timeout == 7.0
    assert load(text + "terminateTimeout = 1.5\n").processes[0].terminate_timeout == 1.5


def test_relative_paths_start_at_the_folder_of_the_file(load: Load, tmp_path: Path) -> None:
    (tmp_path / "srv").mkdir()
    behind = cluster(load, 'protocol = "http"\naccessLog = "logs/access.log"\n')
    assert behind.access_log == str(tmp_path / "logs" / "access.log")
    loaded = process(load, 'cwd = "srv"\npidFile = "run/a.pid"\npath = "bin:/opt/bin:../x"\n')
    assert loaded.cwd == str(tmp_path / "srv")
    assert loaded.pid_file == str(tmp_path / "run" / "a.pid")
    assert loaded.path == "%s/bin:/opt/bin:%s/x" % (tmp_path, tmp_path.parent)
    assert load('[control]\nsocket = "a.sock"\n' + MINIMAL).control.socket == str(
        tmp_path / "a.sock"
    )


def test_file_named_by_a_relative_path_gives_absolute_ones(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(MINIMAL)
    monkeypatch.chdir(str(tmp_path.parent))
    path = os.path.join(tmp_path.name, "app.toml")
    loaded = configuration.load(path)
    assert loaded.path == path
    assert (loaded.folder, loaded.processes[0].cwd) == (str(tmp_path), str(tmp_path))


def test_symlink_keeps_its_folder_and_tells_the_real_path(load: Load, tmp_path: Path) -> None:
    load(MINIMAL)
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "shop.conf"
    link.symlink_to(tmp_path / "app.toml")
    loaded = configuration.load(str(link))
    assert loaded.folder == str(link.parent)
    assert loaded.real_path == os.path.realpath(str(tmp_path / "app.toml"))
    assert loaded.name == "shop"


@pytest.mark.parametrize(
    "file, name",
    [
        ("shop.toml", "shop"),
        ("shop.eu.toml", "shop.eu"),
        ("my shop é.toml", "my-shop--"),
        ("shop", "shop"),
        (".toml", ".toml"),
        ("x" * 80 + ".toml", "x" * 64),
    ],
)
def test_name_is_the_files_without_its_suffix(load: Load, file: str, name: str) -> None:
    assert load(MINIMAL, file).name == name
    assert load('name = "given"\n' + MINIMAL, file).name == "given"


@pytest.mark.parametrize(
    "spelled, number",
    [("SIGINT", signal.SIGINT), ("USR1", signal.SIGUSR1), ("SIGKILL", signal.SIGKILL)],
)
def test_stop_signal_has_its_name_with_or_without_sig(
    load: Load, spelled: str, number: int
) -> None:
    assert process(load, 'stopSignal = "%s"\n' % spelled).stop_signal == number


@pytest.mark.parametrize(
    "spelled, address",
    [
        ("localhost", "127.0.0.1"),
        ("10.1.2.3", "10.1.2.3"),
        ("::", "::"),
        ("0:0::1", "::1"),
        ("FE80::A", "fe80::a"),
    ],
)
def test_hosts_are_addresses_in_their_shortest_form(load: Load, spelled: str, address: str) -> None:
    loaded = cluster(load, 'commonHost = "%s"\ninstanceHost = "%s"\n' % (spelled, spelled))
    assert (loaded.common_host, loaded.instance_host) == (address, address)


def test_auto_is_an_instance_for_each_cpu_that_may_be_used(load: Load) -> None:
    assert cluster(load, 'instances = "auto"\n').instances == len(os.sched_getaffinity(0))


def test_instances_are_named_from_one(load: Load) -> None:
    assert names_of(process(load, "")) == ["web"]
    clustered = process(load, "[processes.cluster]\ninstances = 3\n")
    assert names_of(clustered) == ["web-1", "web-2", "web-3"]
    assert names_of(process(load, "[processes.cluster]\n")) == ["web-1"]


def names_of(process: Process) -> List[str]:
    return [each.name for each in instance_specs(process)]


def test_instances_have_their_ports_from_the_first_on(load: Load) -> None:
    clustered = process(load, "[processes.cluster]\ninstances = 3\nstartPort = 8000\n")
    assert [each.port for each in instance_specs(clustered)] == [8000, 8001, 8002]
    assert instance_specs(process(load, "[processes.cluster]\n"))[0].port is None
    assert instance_specs(process(load, ""))[0].port is None


def test_process_inherits_the_logger_key_by_key(load: Load, tmp_path: Path) -> None:
    top = '[logger]\nconsole = false\ncolors = true\nstdout = "out"\nbackups = 3\n'
    text = top + MINIMAL + "[processes.logger]\nconsole = true\ninternalLogHours = 0.5\n"
    loaded = load(text)
    out = str(tmp_path / "out")
    assert loaded.logger == Logger(
        False, True, True, out, out, True, 52428800, 3, False, 72 * 3600.0)
    assert loaded.processes[0].logger == Logger(
        True, True, True, out, out, True, 52428800, 3, False, 1800.0)


def test_errors_go_where_the_process_own_output_goes(load: Load, tmp_path: Path) -> None:
    top = '[logger]\nstdout = "out"\nstderr = "err"\n' + MINIMAL
    inherited = load(top).processes[0].logger
    own = load(top + '[processes.logger]\nstdout = "own"\n').processes[0].logger
    assert inherited.stderr == str(tmp_path / "err")
    assert (own.stdout, own.stderr) == (str(tmp_path / "own"), str(tmp_path / "own"))


def test_files_of_a_process_are_not_decorated_and_those_for_all_are(load: Load) -> None:
    def decorated(top: str, own: str) -> bool:
        text = "[logger]\n%s\n%s[processes.logger]\n%s\n" % (top, MINIMAL, own)
        return load(text).processes[0].logger.decorate_files

    assert decorated('stdout = "all"', "")
    assert not decorated('stdout = "all"\ndecorate = false', "")
    assert not decorated('stdout = "all"', 'stdout = "own"')
    assert not decorated('stdout = "all"', 'stderr = "own"')
    assert decorated('stdout = "all"', 'stdout = "own"\ndecorateFiles = true')
    assert not decorated('stdout = "all"\ndecorateFiles = false', "decorate = true")


def test_tables_in_tables_are_read(load: Load) -> None:
    text = (
        '[dashboard]\nport = 9000\nhost = "::"\ntoken = "s3cret"\n'
        + MINIMAL
        + """\
[processes.cluster]
startPort = 8000
protocol = "http"
proxyProtocol = "v2"
acceptProxyFrom = ["10.0.0.0/8", "::1"]
health = { path = "/up", intervalMs = 500, restart = true, passive = { count = 3 } }
"""
    )
    loaded = load(text)
    assert loaded.dashboard == model.Dashboard(9000, "::", "s3cret")
    behind = loaded.processes[0].cluster
    assert behind is not None
    assert behind.health == model.Health(
        "/up", 0.5, 2.0, 2, 3, True, model.Passive(3, 10.0))
    assert behind.proxy_protocol == "v2"
    assert [str(network) for network in behind.accept_proxy_from or ()] == ["10.0.0.0/8", "::1/128"]


@pytest.mark.parametrize(
    "table, made",
    [
        (keys.PROCESS, Process),
        (cluster_keys.CLUSTER, Cluster),
        (keys.LOGGER, Logger),
        (keys.PROCESS_LOGGER, Logger),
        (keys.CONTROL, model.Control),
        (keys.DASHBOARD, model.Dashboard),
        (cluster_keys.HEALTH, model.Health),
    ],
    ids=lambda value: getattr(value, "title", ""),
)
def test_each_record_has_its_field(table: Table, made: Any) -> None:
    derived = {"real_cwd"}
    assert {key.field for key in table.keys} == set(made._fields) - derived


def test_each_default_passes_its_own_check(tmp_path: Path) -> None:
    plain = 0
    for table in keys.TABLES:
        for key in table.keys:
            if isinstance(key.default, (Required, Derived)) or isinstance(key.type, Table):
                continue
            key.type.convert(key.default, str(tmp_path))
            plain += 1
    assert plain > 20


def test_port_may_be_shared_by_different_addresses(load: Load) -> None:
    text = MINIMAL + '[processes.cluster]\nstartPort = 8000\ncommonPort = 80\ncommonHost = "%s"\n'
    other = text.replace("web", "api").replace("8000", "9000")
    loaded = load(text % "127.0.0.1" + other % "127.0.0.2")
    assert len(loaded.processes) == 2
    assert load(text % "0.0.0.0" + other % "::1")


def test_conflict_is_told_of_a_configuration_that_was_changed(load: Load) -> None:
    text = (
        MINIMAL + '[processes.cluster]\nstartPort = 8000\n[[processes]]\nid = "web-3"\ncmd = "x"\n'
    )
    loaded = load(text)
    web, other = loaded.processes
    assert conflicts.first(loaded) is None
    assert web.cluster is not None
    scaled = web._replace(cluster=web.cluster._replace(instances=3))
    clash = conflicts.first(loaded._replace(processes=(scaled, other)))
    assert clash is not None
    assert clash.where == ("processes", 1, "id")


def test_watched_paths_start_at_the_files_folder_and_endings_have_a_dot(
    load: Load, tmp_path: Path
) -> None:
    found = load(MINIMAL + 'watch = ["./", "src/", "/etc/x", "src"]\n'
                 '[watcher]\nexts = ["py", ".toml", "tar.gz"]\nmatch = []\n')
    assert found.processes[0].watch == (str(tmp_path), str(tmp_path / "src"), "/etc/x")
    assert found.watcher.exts == (".py", ".toml", ".tar.gz")
    assert found.watcher.match == ()
    assert load(MINIMAL + "watch = []\n").processes[0].watch == ()
