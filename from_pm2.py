"""`init --from=ecosystem.json`: the applications of a PM2 ecosystem file, as JSON.

The keys are those of PM2 6 (its own table of them, and what it does with each). PM2 balances in the
node process that opens the application's port; here each instance has a port of its own. So a
cluster has to have its port in the file: `port`, or PORT in `env`.
"""

import os
import re
from typing import Any, Callable, Dict, Mapping, Optional

import pm2_command
import toml_text
from documents import Document
from drafts import MOST_INSTANCES, Draft, Section
from errors import ConfigurationError
from known_servers import web_server

#: PM2's names for one key; the first is the one used here.
_ALIASES = {
    "script": ("exec", "cmd", "command"), "interpreter": ("exec_interpreter",),
    "node_args": ("interpreter_args", "interpreterArgs"), "out_file": ("out", "output", "out_log"),
    "error_file": ("error", "err", "err_file", "err_log"), "log_file": ("log",),
    "pid_file": ("pid",), "cron_restart": ("cron",), "uid": ("user",),
    "merge_logs": ("combine_logs",),
}  # fmt: skip
_NAMES = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}

#: What there is instead of keys that have no like here.
_INSTEAD = {
    "wait_ready": "An instance of a cluster is ready when its port accepts; a process without a"
    " port when it has lived for minUptimeMs.",
    "shutdown_with_message": "A process is asked to stop by stopSignal.",
    "treekill": "Signals go to the process and all its children.",
    "log_type": "Lines are text.",
    "ignore_watch": "skip in [watcher] has patterns of files to pass over, for all processes.",
    "watch_options": "[watcher] has the settings of watch, for all processes.",
    "watch_delay": "[watcher] has the settings of watch, for all processes.",
    "namespace": "Name the processes: pupgevent restart CONFIG ID ID.",
    "filter_env": "A process gets all variables of pupgevent's own environment, then env.",
    "instance_var": "The number of an instance is in PUP_CLUSTER_INSTANCE.",
    "post_update": "There is no deployment here.",
    "install_url": "There is no deployment here.",
    "io": "There is no reporting to PM2's service.",
    "deploy": "There is no deployment here: pupgevent reload CONFIG takes up a new release.",
    "static": "There is no file server here: give its command to a process.",
}  # fmt: skip

#: What is PM2's own business, or what follows from other keys: nothing is missed without it.
_WITHOUT_LOSS = frozenset("""
    automation deep_monitoring disable_source_map_support disable_trace event_loop_inspector
    execute_command force pmx source_map_support trace treekill username v8 vizion windowsHide write
    append_env_to_name kill_retry_time
""".split())

#: What `script`, `instances` and `env` are written with.
_TOGETHER = frozenset("""
    name script args interpreter node_args cwd instances exec_mode env port increment_var
    listen_timeout max_restarts restart_delay exp_backoff_restart_delay autorestart stop_exit_codes
    merge_logs out_file error_file log_file log_date_format time disable_logs
""".split())

#: Lines that are written here are gone.
_NO_FILE = "/dev/null"

_BYTES = {"K": 1024, "M": 1024**2, "G": 1024**3}
_MILLISECONDS = {"s": 1000, "m": 60000, "h": 3600000}

App = Dict[str, Any]


def fill(draft: Draft, path: str, document: Document) -> None:
    """Carry an ecosystem file over; raises ConfigurationError."""
    top = document.values
    found = top.get("apps", top.get("pm2", top))
    apps = found if isinstance(found, list) else [found]
    if not apps:
        raise ConfigurationError(path, document.line("apps"), "apps is empty")
    checked = [_checked(path, document, app, index) for index, app in enumerate(apps)]
    draft.head.say(
        "PM2 gives an application up after 16 quick exits in a row; here it is tried again for"
        " ever, unless restartLimit says how often. PM2 asks it to stop by SIGINT, and so does this"
        " file.")
    if found is not top:
        for name in top:
            if name not in ("apps", "pm2"):
                draft.head.lose(_line(name, "..."), _INSTEAD.get(name, ""))
    # Ports of the file are given before any is looked for.
    for application in [_Application(draft, app) for app in checked]:
        application.write()


def _checked(path: str, document: Document, app: object, index: int) -> App:
    """An application by PM2's first names; raises ConfigurationError."""
    where = ("apps", index) if "apps" in document.values else ()
    if not isinstance(app, dict):
        raise ConfigurationError(path, document.line(*where), "an application is no object")
    known: App = {str(name): value for name, value in app.items() if name not in _NAMES}
    for name, value in app.items():
        known.setdefault(_NAMES.get(str(name), str(name)), value)
    script = known.get("script")
    if not isinstance(script, str) or not script.strip() or "\0" in script:
        raise ConfigurationError(
            path, document.line(*where), "an application has no script, or none that is a string")
    return known


def _port_of(app: Mapping[str, Any]) -> Optional[int]:
    """The port that the file tells."""
    variables = app.get("env")
    of_env = variables.get("PORT") if isinstance(variables, dict) else None
    return _number(app.get("port", of_env))


def _number(value: object) -> Optional[int]:
    """A whole number, also one that is written as a string."""
    if isinstance(value, str) and re.match("-?[0-9]{1,9}\\Z", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _line(name: str, value: object) -> str:
    shown = "..." if isinstance(value, (dict, list)) and len(str(value)) > 200 else value
    try:
        return "%s: %s" % (name, toml_text.value(shown).replace("\n", " "))
    except ValueError:
        return name


def _plain(number: float) -> float:
    """A whole number without its point."""
    return int(number) if number == int(number) else number


def _with_unit(value: object, units: Mapping[str, int]) -> Optional[float]:
    """A number with a unit behind it, or without one."""
    found = re.match("([0-9]{1,15})([a-zA-Z])\\Z", value) if isinstance(value, str) else None
    if found and found.group(2) in units:
        return int(found.group(1)) * units[found.group(2)]
    if isinstance(value, float):
        return value
    return _number(value)


class _Application:
    """One application on its way to a process."""

    def __init__(self, draft: Draft, app: App) -> None:
        self._draft = draft
        self._app = app
        self._port = _port_of(app)
        self._words = pm2_command.words(app, draft.origin)
        self._count = self._instances()
        self._clustered = self._is_cluster()
        #: Instances beside each other, each with a port or none.
        self._many = self._clustered or self._count != 1
        name = str(app.get("name") or os.path.splitext(os.path.basename(app["script"]))[0])
        self._process = draft.add_process(name, draft.count_of(self._count) if self._many else 0)
        self._has_its_port = self._port is not None and self._take(self._port)

    def _take(self, port: int) -> bool:
        """Have the ports that the file tells; False: another application has one of them."""
        if self._has_ports():
            return self._draft.ports.take(port, 1 if self._clustered else self._process.count)
        self._draft.ports.avoid([port])
        return True

    def _instances(self) -> Any:
        """As `instances` here has it."""
        value = self._app.get("instances", 1)
        number = 0 if value == "max" else _number(value)
        if number is None:
            return 1
        return min(number, MOST_INSTANCES) if number > 0 else "auto"

    def _is_cluster(self) -> bool:
        """Whether PM2 shares one port among the instances; it does for node, where not told."""
        mode = str(self._app.get("exec_mode", ""))
        if mode:
            return mode.startswith("cluster")
        return self._count != 1 and os.path.basename(self._words[0]) in ("node", "bun")

    def write(self) -> None:
        process = self._process
        process.set("cmd", self._words)
        cwd = self._app.get("cwd")
        if isinstance(cwd, str):
            process.set("cwd", self._draft.place(cwd), _line("cwd", cwd))
        elif self._draft.moved:
            process.set("cwd", self._draft.place("."))
        process.set("autostart", self._app.get("autostart") is not False)
        self._write_restarts()
        process.set("stopSignal", "SIGINT")
        for name, value in self._app.items():
            if name not in _TOGETHER and name != "autostart" and value is not None:
                self._write_other(name, value)
        self._write_logs()
        self._write_variables()
        self._write_cluster()

    def _write_restarts(self) -> None:
        app, process = self._app, self._process
        codes = app.get("stop_exit_codes", [])
        codes = codes if isinstance(codes, list) else [codes]
        if app.get("autorestart") is False:
            process.set("restart", "never")
        else:
            process.set("restart", "error" if codes == [0] else "always")
        if codes not in ([], [0]):
            process.lose(_line("stop_exit_codes", codes),
                         'restart = "error" restarts after every code but 0.')
        if "max_restarts" in app:
            process.set("restartLimit", _number(app["max_restarts"]),
                        _line("max_restarts", app["max_restarts"]))
        backoff = app.get("exp_backoff_restart_delay")
        delay = _number(backoff) or _number(app.get("restart_delay"))
        if delay and process.set("restartDelayMs", delay):
            process.set("restartMaxDelayMs", max(15000, delay) if _number(backoff) else delay)

    def _write_other(self, name: str, value: object) -> None:
        writer = _WRITERS.get(name)
        if writer is not None:
            writer(self, name, value)
        elif name.startswith("env_"):
            self._write_environment_of(name, value)
        elif name not in _WITHOUT_LOSS or (name == "treekill" and value is False):
            self._process.lose(_line(name, value), _INSTEAD.get(name, "There is no such key here."))

    def _write_environment_of(self, name: str, value: object) -> None:
        self._draft.secret = True
        lines = [_line(variable, each).replace(": ", " = ", 1)
                 for variable, each in (value if isinstance(value, dict) else {}).items()]
        self._process.lose(
            "%s (pm2 start --env %s)" % (name, name[4:]),
            "A file has one environment: put what you want of these into [processes.env].",
            lines=lines)

    def _set(self, key: str, name: str, value: object, otherwise: str = "") -> None:
        self._process.set(key, value, _line(name, self._app[name]), otherwise)

    def _write_path(self, name: str, value: object) -> None:
        keys = {"pid_file": "pidFile", "env_file": "envFile"}
        path = self._draft.place(os.path.expanduser(value)) if isinstance(value, str) else value
        self._set(keys[name], name, path)

    def _write_watch(self, name: str, value: object) -> None:
        folders = ["."] if value is True else [value] if isinstance(value, str) else value
        if folders:
            self._set("watch", name, folders)

    def _write_memory(self, name: str, value: object) -> None:
        plain = isinstance(value, str) and re.match("[0-9]{1,9}[KMG]\\Z", value)
        size = _with_unit(value, _BYTES)
        kilobytes = None if size is None else "%dK" % max(1, size // 1024)
        self._set("maxMemory", name, value if plain else kilobytes)

    def _write_min_uptime(self, name: str, value: object) -> None:
        self._set("minUptimeMs", name, _with_unit(value, _MILLISECONDS))

    def _write_kill_timeout(self, name: str, value: object) -> None:
        number = _with_unit(value, {})
        self._set("terminateTimeout", name, None if number is None else _plain(number / 1000))

    def _write_cron(self, name: str, value: object) -> None:
        self._set("terminate", name, value, "crontab(5) can do it: pupgevent restart CONFIG %s"
                  % self._process.id)

    def _write_account(self, name: str, value: object) -> None:
        self._set({"uid": "user", "gid": "group"}[name], name, value)

    def _write_logs(self) -> None:
        app, logger = self._app, self._process.inside("logger")
        if app.get("disable_logs") is True:
            logger.set("console", False, "disable_logs: true")
            return
        files = {name: self._log_path(app[name]) for name in ("out_file", "error_file", "log_file")
                 if isinstance(app.get(name), str) and app[name]}
        both = files.get("log_file")
        if both and len(files) > 1:
            logger.lose(_line("log_file", app["log_file"]),
                        "There is one file for stdout and one for stderr.")
        out = files.get("out_file", both)
        error = files.get("error_file", both if "out_file" not in files else None)
        if any("{instance}" in path for path in files.values()):
            logger.say("{instance} is 1 for the first one.")
        # Without a file of its own stderr goes where stdout goes.
        for key, path, default in (("stdout", out, _NO_FILE), ("stderr", error, out or _NO_FILE)):
            if path is not None and path != default:
                name = next(name for name in files if files[name] == path)
                logger.set(key, path, _line(name, app[name]))
        if {out, error} - {None, _NO_FILE}:
            self._write_time(logger)

    def _write_time(self, logger: Section) -> None:
        for name in ("log_date_format", "time"):
            if self._app.get(name):
                logger.say("%s: each line has the time in front, in one format, the instance and"
                           " the stream." % _line(name, self._app[name]))
                logger.set("decorateFiles", True)
                return

    def _log_path(self, path: str) -> str:
        """Each instance has its own, unless PM2 was to merge them."""
        if path in (_NO_FILE, "NULL"):
            return _NO_FILE
        if self._many and self._app.get("merge_logs") is not True:
            stem, suffix = os.path.splitext(path)
            path = stem + "-{instance}" + suffix
        return self._draft.place(os.path.expanduser(path))

    def _write_variables(self) -> None:
        variables = self._app.get("env")
        if variables is not None and not isinstance(variables, dict):
            self._process.lose("env", "It is no object.")
        for name, value in (variables if isinstance(variables, dict) else {}).items():
            if not (name == "PORT" and self._has_ports()):
                whole = isinstance(value, float) and value.is_integer()
                self._process.variable(name, int(value) if whole else value)
        if "port" in self._app and not self._has_ports():
            self._process.variable("PORT", self._app["port"])

    def _has_ports(self) -> bool:
        """Whether each instance gets its port from pupgevent."""
        return self._clustered or (self._many and self._app.get("increment_var") == "PORT")

    def _write_cluster(self) -> None:
        process = self._process
        if self._many:
            cluster = process.inside("cluster")
            if self._clustered:
                cluster.say("PM2's instances share the port that the application opens. Here each"
                            " listens on its own: startPort + n, which it finds in PORT.")
            self._write_instances(cluster)
            self._write_ports(cluster)
        elif "increment_var" in self._app:
            line = _line("increment_var", self._app["increment_var"])
            process.lose(line, "There is one instance.")
        timeout = self._app.get("listen_timeout")
        if timeout is None:
            return
        line = _line("listen_timeout", timeout)
        if self._has_ports():
            process.inside("cluster").set("readyTimeoutMs", timeout, line)
        else:
            process.lose(line, "No port is waited for.")

    def _write_instances(self, cluster: Section) -> None:
        value = self._app.get("instances", 1)
        cluster.set("instances", self._count, _line("instances", value))
        number = 0 if value == "max" else _number(value)
        if number is None or number < 0 or number > MOST_INSTANCES:
            cluster.lose(_line("instances", value),
                         'A whole number from 1 to 1000, or "auto", which is one per CPU.')

    def _write_ports(self, cluster: Section) -> None:
        increment = self._app.get("increment_var")
        if increment is not None and increment != "PORT":
            cluster.lose(_line("increment_var", increment),
                         "PUP_CLUSTER_INSTANCE is the number of the instance, from 0.")
        if not self._has_ports():
            return
        port = self._port if self._has_its_port else None
        if port is None:
            told = "the port" if self._port is None else _line("PORT", self._port)
            cluster.lose(told, "It is not in the file, or another application has it. What is here"
                         " is only a guess: put yours, and let the application listen on PORT.")
        if self._clustered:
            cluster.set("commonPort", port or self._draft.ports.find(1, 3000))
            port = None
        # Without a common port nothing is balanced here: whoever is in front goes to these ports.
        cluster.set("startPort", port or self._draft.ports.find(self._process.count))
        if self._clustered:
            cluster.set_protocol(web_server(self._words) is not None)


_WRITERS: Dict[str, Callable[[_Application, str, Any], None]] = {
    "pid_file": _Application._write_path, "env_file": _Application._write_path,
    "watch": _Application._write_watch, "max_memory_restart": _Application._write_memory,
    "min_uptime": _Application._write_min_uptime,
    "kill_timeout": _Application._write_kill_timeout, "cron_restart": _Application._write_cron,
    "uid": _Application._write_account, "gid": _Application._write_account,
}  # fmt: skip


def is_one(values: Mapping[str, object]) -> bool:
    """Whether an object of JSON is an ecosystem file."""
    names = ("apps", "pm2", "script", *_ALIASES["script"])
    return any(name in values for name in names)


