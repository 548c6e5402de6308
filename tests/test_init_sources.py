"""What the values of other tools' files become: what the manuals of these tools say they mean."""

import signal
from pathlib import Path
from typing import Any, Dict

import pytest

import configuration
import init
from drafts import LOST

ROOT = Path(__file__).resolve().parent.parent


class Made:
    """What a source has become."""

    def __init__(self, folder: Path, name: str, text: str) -> None:
        source, target = folder / name, folder / "made.toml"
        source.write_text(text, encoding="utf-8")
        self.text = init.make(str(target), str(source)).text
        target.write_text(self.text, encoding="utf-8")
        self.processes: Dict[str, Any] = {
            process.id: process for process in configuration.load(str(target)).processes}

    @property
    def only(self) -> Any:
        (process,) = self.processes.values()
        return process

    @property
    def lost(self) -> str:
        """What is behind `Not carried over`, a line each."""
        start = "# %s: " % LOST
        return "\n".join(line[len(start):] for line in self.text.splitlines()
                         if line.startswith(start))

    def behind_hash(self, line: str) -> bool:
        return "\n#%s\n" % line in self.text


# Procfile


def test_each_process_of_a_procfile_that_has_a_port_gets_foremans(tmp_path: Path) -> None:
    made = Made(tmp_path, "Procfile", "a: sleep 1\nweb: serve\nb: other -p ${PORT}\nc: x $PORTS\n")
    found = {name: process.cluster and process.cluster.common_port
             for name, process in made.processes.items()}
    assert found == {"a": None, "web": 5100, "b": 5200, "c": None}
    starts = [process.cluster.start_port for process in made.processes.values() if process.cluster]
    assert starts == [8000, 8100]


def test_port_of_the_env_file_is_where_clients_come_to(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=b\nexport PORT='8000'\n")
    made = Made(tmp_path, "Procfile", "web: serve\nworker: work\n")
    cluster = made.processes["web"].cluster
    assert (cluster.common_port, cluster.start_port) == (8000, 8100)


def test_what_heroku_runs_once_is_not_started(tmp_path: Path) -> None:
    made = Made(tmp_path, "Procfile.dev", "# the shop\nrelease: migrate\r\nworker: work; more\r\n")
    assert not made.processes["release"].autostart
    worker = made.processes["worker"]
    assert (worker.autostart, worker.restart, worker.cmd) == (True, "always", "work; more")
    assert "\n# the shop\n" in made.text


# PM2


def pm2(folder: Path, app: str) -> Made:
    return Made(folder, "ecosystem.json", '{"apps": [{"script": "a.js", %s}]}' % app)


@pytest.mark.parametrize(
    "app, cmd",
    [
        ('"args": "-a \'b c\' --d=\\"e f\\""', ["node", "a.js", "-a", "b c", '--d="e f"']),
        ('"args": ["a b", 7, true]', ["node", "a.js", "a b", "7", "true"]),
        ('"node_args": "--inspect --x"', ["node", "--inspect", "--x", "a.js"]),
        ('"interpreterArgs": ["-u"], "exec_interpreter": "python3"', ["python3", "-u", "a.js"]),
        ('"interpreter": "none"', ["a.js"]),
        ('"cmd": "b.py"', ["node", "a.js"]),
    ],
)
def test_words_of_a_command_of_pm2(tmp_path: Path, app: str, cmd: Any) -> None:
    assert list(pm2(tmp_path, app).only.cmd) == cmd


@pytest.mark.parametrize(
    "script, cmd",
    [
        ("a.py", ["python3", "a.py"]), ("a.sh", ["bash", "a.sh"]), ("npm", ["npm"]),
        ("./program", ["./program"]), ("program", ["./program"]), ("text", ["node", "text"]),
        ("serve --port 3", ["bash", "-c", "serve --port 3"]),
    ],
)  # fmt: skip
def test_what_pm2_runs_a_script_with(tmp_path: Path, script: str, cmd: Any) -> None:
    (tmp_path / "program").write_text("#!/bin/sh\n")
    (tmp_path / "program").chmod(0o755)
    (tmp_path / "text").write_text("console.log(1)")
    made = Made(tmp_path, "ecosystem.json", '[{"exec": "%s", "name": "a"}]' % script)
    assert list(made.only.cmd) == cmd


def test_instances_of_pm2_that_share_a_port(tmp_path: Path) -> None:
    made = pm2(tmp_path, '"instances": 3, "env": {"PORT": 3000, "A": 1, "B": true, "C": 2.0}')
    cluster = made.only.cluster
    assert (cluster.instances, cluster.common_port, cluster.start_port) == (3, 3000, 8000)
    assert made.only.env == {"A": "1", "B": "true", "C": "2"}
    assert made.lost == ""


def test_instances_of_pm2_whose_port_is_in_the_code_get_one_that_is_told_as_a_guess(
    tmp_path: Path
) -> None:
    made = pm2(tmp_path, '"instances": "max", "exec_mode": "cluster"')
    assert (made.only.cluster.common_port, made.lost) == (3000, "the port")
    made = pm2(tmp_path, '"instances": -1')
    assert made.lost == "the port\ninstances: -1" or made.lost == "instances: -1\nthe port"


def test_instances_of_pm2_with_ports_of_their_own(tmp_path: Path) -> None:
    made = pm2(tmp_path, '"instances": 2, "exec_mode": "fork", "increment_var": "PORT",'
               ' "env": {"PORT": 3000}')
    cluster = made.only.cluster
    assert (cluster.instances, cluster.common_port, cluster.start_port) == (2, None, 3000)
    assert made.only.env == {}


def test_one_application_of_pm2_keeps_the_port_that_it_opens(tmp_path: Path) -> None:
    made = pm2(tmp_path, '"port": 3000, "instances": 1, "env": {"PORT": 1}')
    assert (made.only.cluster, made.only.env) == (None, {"PORT": "3000"})


def test_two_applications_of_pm2_with_one_port_do_not_get_it_both(tmp_path: Path) -> None:
    made = Made(tmp_path, "a.json", """{"apps": [
        {"name": "a", "script": "a.js", "instances": 2, "port": 3000},
        {"name": "b", "script": "a.js", "instances": 2, "port": 3000}]}""")
    ports = [process.cluster.common_port for process in made.processes.values()]
    assert ports[0] == 3000 != ports[1]
    assert made.lost == "PORT: 3000"


def test_restarts_and_times_of_pm2(tmp_path: Path) -> None:
    made = pm2(tmp_path, '"max_restarts": 4, "min_uptime": "2m", "restart_delay": 100,'
               ' "kill_timeout": 1600')
    process = made.only
    assert (process.restart, process.restart_limit, process.min_uptime) == ("always", 4, 120)
    assert (process.restart_delay, process.restart_max_delay) == (0.1, 0.1)
    assert (process.terminate_timeout, process.stop_signal) == (1.6, signal.SIGINT)
    assert pm2(tmp_path, '"autorestart": false').only.restart == "never"
    assert pm2(tmp_path, '"stop_exit_codes": [0]').only.restart == "error"
    backoff = pm2(tmp_path, '"exp_backoff_restart_delay": 100, "restart_delay": 5').only
    assert (backoff.restart_delay, backoff.restart_max_delay) == (0.1, 15)


def test_what_pm2_has_and_is_not_here_is_told_with_what_there_is(tmp_path: Path) -> None:
    made = pm2(tmp_path, '"wait_ready": true, "env_production": {"TOKEN": "x y"}, "vizion": false,'
               ' "instance_var": "N", "frobnicate": [1], "treekill": false, "pid_file": "a.pid"')
    assert made.lost.splitlines() == [
        "wait_ready: true", "env_production (pm2 start --env production)", 'instance_var: "N"',
        "frobnicate: [1]", "treekill: false"]
    assert made.behind_hash('TOKEN = "x y"')
    assert "PUP_CLUSTER_INSTANCE" in made.text
    assert made.only.pid_file == str(tmp_path / "a.pid")


def test_a_pid_file_that_two_applications_name_is_the_first_ones(tmp_path: Path) -> None:
    made = Made(tmp_path, "a.json", """{"apps": [
        {"name": "a", "script": "a.js", "pid_file": "x.pid"},
        {"name": "b", "script": "a.js", "pid": "x.pid"}]}""")
    assert [bool(process.pid_file) for process in made.processes.values()] == [True, False]
    assert made.behind_hash('pidFile = "x.pid"')


# supervisord


def program(folder: Path, *lines: str) -> Made:
    return Made(folder, "a.conf", "[program:a]\n%s\n" % "\n".join(lines))


@pytest.mark.parametrize(
    "command, cmd",
    [
        ("cat", ("cat",)),
        ("cat -n  'a  b' \"c $d\" ; comment", ("cat", "-n", "a  b", "c $d")),
        ("%(program_name)s %(group_name)s %(numprocs)02d 100%%", ("a", "a", "01", "100%")),
        ("x %(process_num)03d", ("x", "000")),
        ("x %(ENV_HOME)s", "x ${HOME}"),
        ('x "%(ENV_HOME)s/$y" \'$z\'', "x \"${HOME}/\\$y\" '$z'"),
        ("x a%(ENV_B)s'c d'", "x a${B}'c d'"),
    ],
)
def test_a_command_of_supervisord(tmp_path: Path, command: str, cmd: Any) -> None:
    made = program(tmp_path, "command=" + command)
    assert made.only.cmd == cmd
    assert (made.only.autostart, made.only.restart) == (True, "error")


@pytest.mark.parametrize(
    "word, first, port, written",
    [
        ("--port=80%(process_num)02d", 0, 8000, "--port=${PUP_CLUSTER_PORT}"),
        ("127.0.0.1:900%(process_num)d", 1, 9001, "127.0.0.1:${PUP_CLUSTER_PORT}"),
        ("-p%(process_num)s", 7000, 7000, "-p${PUP_CLUSTER_PORT}"),
        # It goes on with 8010, not 80010.
        ("800%(process_num)d", 9, None, "800$((PUP_CLUSTER_INSTANCE + 9))"),
        ("w%(process_num)02d", 0, None, "w$(printf %02d $PUP_CLUSTER_INSTANCE)"),
        ("w%(process_num)d", 3, None, "w$((PUP_CLUSTER_INSTANCE + 3))"),
        ("%(process_num)d", 0, None, "${PUP_CLUSTER_INSTANCE}"),
    ],
)
def test_the_number_of_an_instance_of_supervisord(
    tmp_path: Path, word: str, first: int, port: Any, written: str
) -> None:
    made = program(tmp_path, "command=serve " + word, "numprocs=3", "numprocs_start=%d" % first,
                   "process_name=%(process_num)d")
    assert made.only.cmd.replace('"', "") == "serve " + written
    assert (made.only.cluster.instances, made.only.cluster.start_port) == (3, port)


def test_restarts_times_and_signals_of_supervisord(tmp_path: Path) -> None:
    made = program(tmp_path, "command=a", "startsecs=0", "startretries=7", "stopwaitsecs=5",
                   "stopsignal=QUIT", "autostart=no", "autorestart=TRUE", "stopasgroup=true")
    process = made.only
    assert (process.min_uptime, process.restart_limit, process.terminate_timeout) == (0, 7, 5)
    assert (process.stop_signal, process.autostart, process.restart) == (
        signal.SIGQUIT, False, "always")
    assert made.lost == ""
    assert program(tmp_path, "command=a", "autorestart=false").only.restart == "never"
    assert program(tmp_path, "command=a", "stopsignal=10").only.stop_signal == signal.SIGUSR1


def test_the_environment_of_supervisord(tmp_path: Path) -> None:
    made = Made(tmp_path, "supervisord.conf", """[supervisord]
environment=A=1,B="of all",LOST='x'
identifier=shop
[program:a]
command=run it
environment=B="of it, with %%",
    C=%(ENV_HOME)s/c,LOST=""
""")
    assert made.only.env == {"A": "1", "B": "of it, with %", "LOST": ""}
    assert made.only.cmd == 'env "C=${HOME}/c" run it'
    assert 'name = "shop"' in made.text


def test_what_supervisord_has_and_is_not_here_is_told(tmp_path: Path) -> None:
    made = program(tmp_path, "command=a", "priority=5", "exitcodes=0,2", "killasgroup=false",
                   "serverurl=AUTO", "stdout_logfile=NONE", "stderr_logfile=/dev/stderr",
                   "stdout_capture_maxbytes=1MB", "numprocs=-3", "x=y", "startsecs=soon",
                   "stopsignal=99", "directory=/not/there")
    assert made.lost.splitlines() == [
        "directory=/not/there", "priority=5", "killasgroup=false", "serverurl=AUTO",
        "stdout_capture_maxbytes=1MB", "numprocs=-3", "x=y", "startsecs=soon", "stopsignal=99",
        "exitcodes=0,2"]
    assert made.behind_hash('cwd = "/not/there"')


# Pup


def test_the_keys_of_pup_stay_as_they_are(tmp_path: Path) -> None:
    text = (ROOT / "conf" / "app.json").read_text()
    (tmp_path / "server.py").write_text("")
    (tmp_path / "app.json").write_text(text)
    ours, theirs = Made(tmp_path, "pup.json", text).only, configuration.load(
        str(tmp_path / "app.json")).processes[0]
    assert ours == theirs


def test_what_pup_does_otherwise_is_told_where_the_key_is_left_out(tmp_path: Path) -> None:
    made = Made(tmp_path, "pup.json", """{"telemetry": true, "processes": [
        {"id": "a", "cmd": "a", "autostart": true},
        {"id": "b", "cmd": "b", "autostart": true, "restart": "error", "restartDelayMs": 1},
        {"id": "c", "worker": ["c.ts"]},
        {"id": "d e", "cmd": "d", "cluster": {"instances": 0}}]}""")
    assert list(made.processes) == ["a", "b", "d-e"]
    assert made.text.count('#restart = "never"') == 1
    assert made.text.count("#restartDelayMs = 10000") == 1
    assert made.lost.splitlines() == [
        '"telemetry": true', '"process c": {"id": "c", "worker": ["c.ts"]}', '"instances": 0']
