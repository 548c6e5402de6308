"""What the values of other tools' files become: what the manuals of these tools say they mean."""

import os
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


def test_what_heroku_or_its_name_tells_to_be_a_web_server_gets_http(tmp_path: Path) -> None:
    made = Made(tmp_path, "Procfile",
                "web: serve\nadmin: gunicorn -b :$PORT admin\nqueue: broker $PORT\n")
    assert {name: process.cluster.protocol for name, process in made.processes.items()} == {
        "web": "http", "admin": "http", "queue": "tcp"}
    assert made.text.count('#protocol = "http"') == 1


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


@pytest.mark.parametrize("script, protocol", [
    ("server.js", "tcp"), ("node_modules/.bin/next\", \"args\": \"start", "http"),
])
def test_what_pm2_balances_gets_http_where_it_is_sure_to_speak_it(
    tmp_path: Path, script: str, protocol: str
) -> None:
    made = Made(tmp_path, "ecosystem.json",
                '[{"script": "%s", "exec_mode": "cluster", "port": 3000}]' % script)
    assert made.only.cluster.protocol == protocol
    assert made.behind_hash('protocol = "http"') is (protocol == "tcp")


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


def log_files(made: Made, folder: Path) -> Any:
    """Of stdout and stderr, without the folder that they are in."""
    logger = made.only.logger
    return tuple(path and path.replace("%s/" % folder, "")
                 for path in (logger.stdout, logger.stderr))


@pytest.mark.parametrize("app, files", [
    ('"out_file": "o.log", "error_file": "e.log"', ("o.log", "e.log", False)),
    ('"output": "o.log"', ("o.log", "o.log", False)),
    ('"err_log": "e.log"', (None, "e.log", False)),
    ('"log": "a.log"', ("a.log", "a.log", False)),
    ('"out_file": "o.log", "time": true', ("o.log", "o.log", True)),
    ('"out_file": "o.log", "time": false', ("o.log", "o.log", False)),
    ('"log_date_format": "HH:mm", "error": "e.log"', (None, "e.log", True)),
    ('"out_file": "o.log", "error_file": "/dev/null"', ("o.log", "/dev/null", False)),
    ('"out_file": "NULL", "error_file": "e.log"', (None, "e.log", False)),
    ('"out_file": "/dev/null", "error_file": "NULL"', (None, None, True)),
    ('"instances": 2, "port": 80, "out_file": "o.log"',
     ("o-{instance}.log", "o-{instance}.log", False)),
    ('"instances": 2, "port": 80, "out_file": "o.log", "combine_logs": true',
     ("o.log", "o.log", False)),
    ('"out_file": "o.log", "disable_logs": true', (None, None, True)),
])
def test_log_files_of_pm2(tmp_path: Path, app: str, files: Any) -> None:
    made = pm2(tmp_path, app)
    assert (*log_files(made, tmp_path), made.only.logger.decorate_files) == files
    assert made.lost == ""
    assert made.only.logger.console is ("disable_logs" not in app)


def test_a_file_of_pm2_for_both_streams_beside_others_is_told(tmp_path: Path) -> None:
    made = pm2(tmp_path, '"out_file": "o.log", "log_file": "a.log", "error_file": "e.log"')
    assert log_files(made, tmp_path) == ("o.log", "e.log")
    assert made.lost == 'log_file: "a.log"'


def test_a_log_file_in_the_place_of_something_else_is_told(tmp_path: Path) -> None:
    made = Made(tmp_path, "a.json", """{"apps": [
        {"name": "a", "script": "a.js", "pid_file": "x", "out_file": "made.toml"},
        {"name": "b", "script": "a.js", "out_file": "./x", "error_file": "{y}.log"},
        {"name": "c", "script": "a.js", "out_file": "z"},
        {"name": "d", "script": "a.js", "out_file": "z", "pid_file": "z"}]}""")
    assert made.lost.splitlines() == [
        'out_file: "made.toml"', 'out_file: "./x"', 'error_file: "{y}.log"', 'pid_file: "z"']
    assert [os.path.basename(str(each.logger.stdout)) for each in made.processes.values()] == [
        "None", "None", "z", "z"]


def test_a_folder_of_log_files_that_is_not_there_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    made = pm2(tmp_path, '"out_file": "there/o.log", "error_file": "not/there/e.log"')
    told = '\n# The folder "%s" is not there, and pupgevent does not make it.\n'
    assert made.text.count(told % "not/there") == made.text.count("# The folder ") == 1
    made = pm2(tmp_path, '"out_file": "logs/o.log", "error_file": "logs/e.log"')
    assert made.text.count(told % "logs") == 1


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


@pytest.mark.parametrize("options, files", [
    ("stdout_logfile=o.log stderr_logfile=e.log", ("o.log", "e.log")),
    ("stdout_logfile=%(here)s/%(program_name)s.log", ("a.log", "a.log")),
    ("stdout_logfile=o.log stderr_logfile=AUTO", ("o.log", "o.log")),
    ("stderr_logfile=e.log", (None, "e.log")),
    ("stdout_logfile=o.log redirect_stderr=true stderr_logfile=e.log", ("o.log", "o.log")),
    ("stdout_logfile=o.log redirect_stderr=true stderr_logfile=NONE", ("o.log", "o.log")),
    ("stdout_logfile=NONE stderr_logfile=off", (None, None)),
    ("stdout_logfile=/dev/stdout stderr_logfile=/dev/fd/2", (None, None)),
    ("stdout_logfile=o-%(process_num)02d.log numprocs=2 process_name=x%(process_num)d",
     ("o-{instance}.log", "o-{instance}.log")),
    ("stdout_logfile=o-%(process_num)d.log numprocs_start=4", ("o-4.log", "o-4.log")),
])
def test_log_files_of_supervisord(tmp_path: Path, options: str, files: Any) -> None:
    made = program(tmp_path, "command=a", *options.split())
    assert log_files(made, tmp_path) == files
    assert made.only.logger.decorate_files is (files == (None, None))
    assert made.lost == ("process_name=x%(process_num)d" if "process_name" in options else "")


@pytest.mark.parametrize("value", ["NONE", "/dev/stderr", "/proc/self/fd/2"])
def test_what_supervisord_has_in_no_file_does_not_get_into_that_of_stdout(
    tmp_path: Path, value: str
) -> None:
    made = program(tmp_path, "command=a", "stderr_logfile=" + value, "stdout_logfile=o.log")
    assert made.only.logger.stderr == "/dev/null"
    assert made.lost == ""


def test_a_log_of_supervisord_for_syslog_is_told(tmp_path: Path) -> None:
    made = program(tmp_path, "command=a", "stdout_logfile=syslog", "stderr_logfile=e.log")
    assert made.lost == "stdout_logfile=syslog"
    assert log_files(made, tmp_path) == (None, "e.log")


@pytest.mark.parametrize("options, limits, lost", [
    ("stdout_logfile=o", (50 * 2**20, 10), ""),
    ("stdout_logfile=o stdout_logfile_maxbytes=1MB stdout_logfile_backups=0", (2**20, 0), ""),
    ("stdout_logfile_maxbytes=0 stdout_logfile=o", (0, 10), ""),
    ("stderr_logfile=e stderr_logfile_maxbytes=1KB stderr_logfile_backups=2", (1024, 2), ""),
    ("stdout_logfile=o stderr_logfile=e stdout_logfile_backups=2 stderr_logfile_backups=2",
     (50 * 2**20, 2), ""),
    ("stdout_logfile=o stderr_logfile=e stderr_logfile_maxbytes=1KB stderr_logfile_backups=10",
     (50 * 2**20, 10), "stderr_logfile_maxbytes=1KB"),
    ("stdout_logfile=NONE stdout_logfile_maxbytes=1KB", (50 * 2**20, 10), ""),
    ("stdout_logfile=o stdout_logfile_maxbytes=much stdout_logfile_backups=5000",
     (50 * 2**20, 10), "stdout_logfile_maxbytes=much\nstdout_logfile_backups=5000"),
])
def test_rotation_of_supervisord(tmp_path: Path, options: str, limits: Any, lost: str) -> None:
    made = program(tmp_path, "command=a", *options.split())
    assert (made.only.logger.max_bytes, made.only.logger.backups) == limits
    assert made.lost == lost


def test_programs_of_supervisord_that_want_other_limits_of_one_file_do_not_get_it_both(
    tmp_path: Path
) -> None:
    made = Made(tmp_path, "a.conf", "".join(
        "[program:%s]\ncommand=a\nstdout_logfile=o\nstdout_logfile_maxbytes=%d\n" % each
        for each in (("a", 1), ("b", 2), ("c", 1))))
    assert [bool(each.logger.stdout) for each in made.processes.values()] == [True, False, True]
    assert made.lost == "stdout_logfile=o"
    assert made.behind_hash('stdout = "o"')


# Pup


def test_what_pup_does_otherwise_with_log_files_is_told(tmp_path: Path) -> None:
    text = """{"logger": {"stdout": "all", "internalLogHours": 1, "decorate": false%s},
        "processes": [
            {"id": "a", "cmd": "a", "logger": {"stdout": "own", "decorateFiles": true}},
            {"id": "b", "cmd": "b"}]}"""
    made = Made(tmp_path, "pup.json", text % "")
    assert made.lost == ""
    first, second = (each.logger for each in made.processes.values())
    assert [each and os.path.basename(each) for each in (first.stdout, second.stdout)] == [
        "own", "all"]
    assert (first.decorate_files, second.decorate_files, second.decorate) == (True, False, False)
    assert first.internal_log == 3600
    assert made.text.count("\n#maxBytes = 0\n") == 1
    assert made.text.count("in its own") == 1
    assert "#maxBytes" not in Made(tmp_path, "pup.json", text % ', "maxBytes": "1K"').text


def test_limits_that_the_top_level_has_count_for_its_processes(tmp_path: Path) -> None:
    made = Made(tmp_path, "pup.json", """{"logger": {"stdout": "all", "maxBytes": 1024},
        "processes": [{"id": "a", "cmd": "a", "logger": {"stderr": "all", "maxBytes": "1K"}},
                      {"id": "b", "cmd": "b", "logger": {"stderr": "all"}}]}""")
    assert made.lost == ""
    assert {each.logger.stderr for each in made.processes.values()} == {str(tmp_path / "all")}


def test_the_keys_of_pup_stay_as_they_are(tmp_path: Path) -> None:
    text = (ROOT / "conf" / "app.json").read_text()
    (tmp_path / "server.py").write_text("")
    (tmp_path / "app.json").write_text(text)
    ours, theirs = Made(tmp_path, "pup.json", text).only, configuration.load(
        str(tmp_path / "app.json")).processes[0]
    assert ours == theirs


@pytest.mark.parametrize("cmd, given, protocol, is_choice", [
    ('"deno run server.ts"', "", "tcp", True),
    ('["deno", "serve", "server.ts"]', "", "http", False),
    ('"deno serve server.ts"', ', "protocol": "tcp"', "tcp", False),
])
def test_what_pup_balances_gets_http_where_it_is_sure_to_speak_it(
    tmp_path: Path, cmd: str, given: str, protocol: str, is_choice: bool
) -> None:
    made = Made(tmp_path, "pup.json", """{"processes": [{"id": "a", "cmd": %s, "cluster": {
        "startPort": 8000, "commonPort": 3000%s}}]}""" % (cmd, given))
    assert made.only.cluster.protocol == protocol
    assert made.behind_hash('protocol = "http"') is is_choice


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
