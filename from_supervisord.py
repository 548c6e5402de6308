"""`init --from=supervisord.conf`: the programs of a configuration of supervisord.

The options are those of its manual for 4.x, "Configuration File". Values may have expansions in
them, as `%(process_num)02d`; see supervisord_values.py. supervisord runs a command without a shell,
and so do we, unless something in it is known only when it runs.
"""

import re
import signal
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

import ini_text
from drafts import MOST_INSTANCES, Draft, Section
from errors import ConfigurationError, format_value
from ini_text import IniSection, Option
from supervisord_values import Expander, NotExpandable, command_of, is_true, pairs, size

#: Sections that are no programs, and what there is instead.
_OTHER_SECTIONS = {
    "unix_http_server": "The commands find a pupgevent by its file; [control] adds a socket.",
    "inet_http_server": "The commands use a Unix socket that only its user can reach.",
    "supervisorctl": "pupgevent status, restart, logs and the like take the file's name.",
    "rpcinterface": "There are no plug-ins.",
    "include": "Give each of these files to pupgevent init --from, and put the results together.",
    "eventlistener": "supervisord's events are not there.",
    "fcgi-program": "FastCGI programs share a socket that supervisord opens. Let the program listen"
    " on $PUP_CLUSTER_PORT instead, as a process with a [processes.cluster].",
}  # fmt: skip

#: Options of [supervisord] that are pupgevent's own affair, and what there is instead.
_DAEMON = {
    "logfile": "pupgevent's own lines go to its stdout. With stdout in [logger] they go to that"
    " file, too, and so do those of programs without one.",
    "nodaemon": "pupgevent always stays in the foreground: pupgevent export systemd makes a unit.",
    "pidfile": "pupgevent is found by its file: pupgevent status CONFIG.",
    "user": "Start pupgevent as that user, or give user to each process.",
    "minfds": "pupgevent raises its limit to the hard one; limits.nofile is that of a process.",
    "minprocs": "It is the limit of whoever starts pupgevent.",
}  # fmt: skip

#: Options of a program that have no like here.
_INSTEAD = {
    "priority": "startAfter names the processes that have to run first.",
    "stdout_syslog": "Under systemd all lines go to the journal.",
    "stderr_syslog": "Under systemd all lines go to the journal.",
    "stdout_events_enabled": "supervisord's events are not there.",
    "stderr_events_enabled": "supervisord's events are not there.",
    "stdout_capture_maxbytes": "supervisord's events are not there.",
    "stderr_capture_maxbytes": "supervisord's events are not there.",
    "serverurl": "The commands find a pupgevent by its file.",
}  # fmt: skip

#: What is written where others are.
_TOGETHER = frozenset("""
    command environment directory numprocs_start autorestart exitcodes redirect_stderr
    stdout_logfile stderr_logfile stdout_logfile_maxbytes stderr_logfile_maxbytes
    stdout_logfile_backups stderr_logfile_backups
""".split())

#: Each for stdout and stderr. A logger has its limits before the files for which they count.
_LOG_OPTIONS = ("logfile_maxbytes", "logfile_backups", "logfile")

#: Values that mean what is done here in any case.
_AS_HERE = {
    ("stopasgroup", True), ("killasgroup", True), ("stdout_events_enabled", False),
    ("stderr_events_enabled", False), ("stdout_syslog", False), ("stderr_syslog", False),
}  # fmt: skip

#: Keys whose values are paths.
_PATHS = ("cwd", "stdout", "stderr")


class _Limit(NamedTuple):
    """An option about the rotation of log files."""

    key: str
    read: Callable[[str], int]
    default: str


_ROTATION = {"logfile_maxbytes": _Limit("maxBytes", size, "50MB"),
             "logfile_backups": _Limit("backups", int, "10")}

#: Where `stdout_logfile` is the output of supervisord itself.
_CONSOLE = re.compile(r"/dev/(?:stdout|stderr|fd/[12])\Z|/proc/self/fd/[12]\Z")


def fill(draft: Draft, path: str, text: str) -> None:
    """Carry a configuration over; raises ConfigurationError."""
    sections = ini_text.read(path, text)
    programs = [section for section in sections if section.name.startswith("program:")]
    if not programs:
        raise ConfigurationError(path, None, "no [program:...] is in it" + _hint(sections))
    draft.head.say(
        "supervisord gives a program up after three failed starts in a row (startretries); here it"
        " is tried again for ever, unless restartLimit says how often.")
    common = _Common(draft, path)
    for section in sections:
        if section not in programs:
            common.take(section)
    for section in programs:
        _Program(draft, path, section, common).write()


def _hint(sections: List[IniSection]) -> str:
    names = [section.name.partition(":")[0] for section in sections]
    if "include" in names:
        return ": give the files that [include] names to --from, one after the other"
    if "Service" in names:
        return ": this is a unit of systemd, which is not read"
    return ""


def _line(name: str, option: Option) -> str:
    return "%s=%s" % (name, option.value.replace("\n", " "))


class _Common:
    """What is said for all programs, by [supervisord]."""

    def __init__(self, draft: Draft, path: str) -> None:
        self._draft = draft
        self.path = path
        self.environment: List[Tuple[str, str]] = []
        self.directory: Optional[Option] = None
        self.umask: Optional[Option] = None

    def take(self, section: IniSection) -> None:
        """A section that is no program."""
        kind = section.name.partition(":")[0]
        if kind == "supervisord":
            self._take_own(section.options)
        elif kind == "group":
            programs = section.options.get("programs", Option("", 0)).value
            self._draft.head.lose(
                "[%s] programs=%s" % (section.name, programs.replace("\n", " ")),
                "Name the processes: pupgevent restart CONFIG ID ID.")
        else:
            options = section.options if kind == "include" else {}
            lines = [_line(name, option) for name, option in options.items()]
            self._draft.head.lose(" ".join(["[%s]" % section.name, *lines]),
                                  _OTHER_SECTIONS.get(kind, "There is no such thing here."))

    def _take_own(self, options: Mapping[str, Option]) -> None:
        self.directory, self.umask = options.get("directory"), options.get("umask")
        for name, option in options.items():
            if name == "identifier":
                self._draft.head.set("name", option.value, _line(name, option))
            elif name == "environment":
                self.environment = _pairs(self.path, option)
            elif name in _DAEMON and not (name == "nodaemon" and is_true(option.value)):
                self._draft.head.lose(_line(name, option), _DAEMON[name])


def _pairs(path: str, option: Option) -> List[Tuple[str, str]]:
    try:
        return pairs(option.value)
    except ValueError as error:
        raise ConfigurationError(path, option.line, "environment: %s" % error) from None


class _Program:
    """One [program:x] on its way to a process."""

    def __init__(self, draft: Draft, path: str, section: IniSection, common: _Common) -> None:
        self._draft = draft
        self._path = path
        self._options = section.options
        self._common = common
        self._name = section.name.partition(":")[2].strip()
        if "command" not in self._options:
            raise ConfigurationError(path, section.line, "[%s] has no command" % section.name)
        self._count = max(1, min(self._integer("numprocs", 1), MOST_INSTANCES))
        first = self._integer("numprocs_start", 0)
        self._expand = Expander(self._name, draft.origin, self._count, first)
        many = self._count > 1
        self._process = draft.add_process(self._name, self._count if many else 0)
        self._cluster = self._process.inside("cluster") if many else None
        self._logger = self._process.inside("logger")

    def _integer(self, name: str, default: int) -> int:
        option = self._options.get(name)
        if option is None:
            return default
        try:
            return int(option.value)
        except ValueError:
            raise ConfigurationError(self._path, option.line, "%s: %s is not a whole number" % (
                name, format_value(option.value))) from None

    def write(self) -> None:
        self._write_command(dict([*self._common.environment, *self._own_variables()]))
        self._write_directory()
        for name, option in self._options.items():
            if name not in _TOGETHER:
                self._write(name, option)
        self._write_logs()
        if "autostart" not in self._options:
            self._process.set("autostart", True)
        self._process.set("restart", self._restart())
        if "umask" not in self._options and self._common.umask is not None:
            self._process.set("umask", self._common.umask.value, "umask of [supervisord]")
        if self._cluster is not None:
            self._write_cluster(self._cluster)

    def _own_variables(self) -> List[Tuple[str, str]]:
        option = self._options.get("environment")
        return [] if option is None else _pairs(self._path, option)

    def _write_command(self, variables: Mapping[str, str]) -> None:
        option = self._options["command"]
        prefix = []
        for name, value in variables.items():
            try:
                self._process.variable(name, self._expand.fixed(value))
            except NotExpandable:
                # Known only when it runs: env(1) sets it.
                prefix.append((name, value))
        try:
            command = command_of(option.value, prefix, self._expand)
        except ValueError as error:
            raise ConfigurationError(self._path, option.line, "command: %s" % error) from None
        if prefix:
            self._draft.secret = True
            self._process.say("env sets what is known only when the process starts.")
        self._process.set("cmd", command)

    def _write_directory(self) -> None:
        option = self._options.get("directory", self._common.directory)
        if option is not None:
            self._write_expanded(self._process, "cwd", "directory", option)
        elif self._draft.moved:
            self._process.set("cwd", self._draft.place("."))

    def _write_expanded(
        self, section: Section, key: str, name: str, option: Option, text: Optional[str] = None
    ) -> None:
        """`text`: instead of the option's value."""
        try:
            value = self._expand.fixed(option.value if text is None else text)
        except (NotExpandable, ValueError) as error:
            section.lose(_line(name, option), str(error))
            return
        value = self._draft.place(value) if key in _PATHS else value
        section.set(key, value, _line(name, option))

    def _write(self, name: str, option: Option) -> None:
        if (name, _boolean(option.value)) in _AS_HERE:
            return
        writer = _WRITERS.get(name)
        if writer is None:
            instead = _INSTEAD.get(name, "There is no such key here.")
            self._process.lose(_line(name, option), instead)
            return
        try:
            writer(self, name, option)
        except ValueError:
            self._process.lose(_line(name, option), "Its value cannot be read.")

    def _write_process_name(self, name: str, option: Option) -> None:
        if option.value == "%(program_name)s":
            return
        instead = "It is known as %s." % self._process.id
        if self._cluster is not None:
            instead = "The instances are known as %s-1 to %s-%d." % (
                self._process.id, self._process.id, self._count)
        self._process.lose(_line(name, option), instead)

    def _write_numprocs(self, name: str, option: Option) -> None:
        if self._integer(name, 1) != self._count:
            self._process.lose(_line(name, option), "A process has no more than %d instances."
                               % MOST_INSTANCES)

    def _write_autostart(self, name: str, option: Option) -> None:
        self._process.set("autostart", _checked_boolean(option.value))

    def _restart(self) -> str:
        """As `autorestart` and `exitcodes` say."""
        option = self._options.get("autorestart", Option("unexpected", 0))
        wanted = _boolean(option.value)
        if wanted is None and option.value.lower() != "unexpected":
            self._process.lose(_line("autorestart", option), "Its value cannot be read.")
        codes = self._options.get("exitcodes")
        if codes is not None and wanted is None and codes.value.replace(" ", "") != "0":
            self._process.lose(
                _line("exitcodes", codes), 'restart = "error" restarts after every code but 0.')
        return "error" if wanted is None else "always" if wanted else "never"

    def _write_startsecs(self, name: str, option: Option) -> None:
        self._process.set("minUptimeMs", int(option.value) * 1000, _line(name, option))

    def _write_number(self, name: str, option: Option) -> None:
        key = {"startretries": "restartLimit", "stopwaitsecs": "terminateTimeout"}[name]
        self._process.set(key, int(option.value), _line(name, option))

    def _write_signal(self, name: str, option: Option) -> None:
        word = option.value.strip().upper()
        if word.isdigit():
            word = signal.Signals(int(word)).name
        full = word if word.startswith("SIG") else "SIG" + word
        self._process.set("stopSignal", full, _line(name, option))

    def _write_group_flag(self, name: str, option: Option) -> None:
        self._process.lose(_line(name, option), "Signals always go to the whole process group.")

    def _write_plain(self, name: str, option: Option) -> None:
        self._write_expanded(self._process, name, name, option)

    def _write_logs(self) -> None:
        """Without a file of its own stderr goes where stdout goes."""
        redirect = self._options.get("redirect_stderr")
        if redirect is not None:
            self._write("redirect_stderr", redirect)
        for end in _LOG_OPTIONS:
            for stream in ("stdout", "stderr"):
                name = "%s_%s" % (stream, end)
                if name in self._options:
                    self._write(name, self._options[name])

    def _write_redirect(self, name: str, option: Option) -> None:
        _checked_boolean(option.value)

    def _write_logfile(self, name: str, option: Option) -> None:
        stream = name.partition("_")[0]
        if option.value.lower() == "syslog":
            self._logger.lose(_line(name, option), _INSTEAD["stdout_syslog"])
        if self._has_file(stream):
            path = self._expand.with_instance(option.value)
            if path != option.value:
                self._logger.say("{instance} is 1 for the first one.")
            self._write_expanded(self._logger, stream, name, option, path)
        elif stream == "stderr" and self._has_file("stdout") and not self._is_auto(stream):
            self._logger.say("stderr is in no file, as %s has it; without this key it would go to"
                             " that of stdout." % _line(name, option))
            self._logger.set("stderr", "/dev/null", _line(name, option))

    def _has_file(self, stream: str) -> bool:
        """Else its lines are on the console, and in `pupgevent logs`."""
        value = self._logfile(stream)
        return value.lower() not in ("auto", "none", "off", "syslog") and not _CONSOLE.match(value)

    def _is_auto(self, stream: str) -> bool:
        """Whether the lines are in a file that supervisord finds a name for."""
        return self._logfile(stream).lower() == "auto"

    def _logfile(self, stream: str) -> str:
        redirect = self._options.get("redirect_stderr", Option("", 0)).value
        if stream == "stderr" and is_true(redirect):
            return "auto"
        return self._options.get(stream + "_logfile", Option("auto", 0)).value

    def _write_rotation(self, name: str, option: Option) -> None:
        stream, _, what = name.partition("_")
        if not self._has_file(stream):
            return
        value = _ROTATION[what].read(option.value)
        if stream == "stderr" and self._has_file("stdout"):
            of_stdout = self._options.get("stdout_" + what, Option(_ROTATION[what].default, 0))
            if value != _ROTATION[what].read(of_stdout.value):
                self._logger.lose(_line(name, option), "stdout and stderr have the same limits.")
            return
        self._logger.set(_ROTATION[what].key, value, _line(name, option))

    def _write_cluster(self, cluster: Section) -> None:
        cluster.set("instances", self._count, "numprocs=%d" % self._count)
        port = self._expand.port
        if port is None:
            return
        if self._draft.ports.take(port, self._count):
            cluster.say("What is in front of these ports can stay, or pupgevent balances them on a"
                        ' commonPort, a web server with protocol = "http".')
            cluster.set("startPort", port)
        else:
            cluster.lose("ports from %d on" % port, "Others in this file have some of them.")
            cluster.set("startPort", self._draft.ports.find(self._count))


def _boolean(text: str) -> Optional[bool]:
    if is_true(text):
        return True
    return False if text.strip().lower() in ("no", "false", "off", "0") else None


def _checked_boolean(text: str) -> bool:
    found = _boolean(text)
    if found is None:
        raise ValueError(text)
    return found


_WRITERS: Dict[str, Callable[[_Program, str, Option], None]] = {
    "process_name": _Program._write_process_name, "numprocs": _Program._write_numprocs,
    "autostart": _Program._write_autostart,
    "startsecs": _Program._write_startsecs, "startretries": _Program._write_number,
    "stopwaitsecs": _Program._write_number, "stopsignal": _Program._write_signal,
    "stopasgroup": _Program._write_group_flag, "killasgroup": _Program._write_group_flag,
    "user": _Program._write_plain, "umask": _Program._write_plain,
    "redirect_stderr": _Program._write_redirect, "stdout_logfile": _Program._write_logfile,
    "stderr_logfile": _Program._write_logfile, "stdout_logfile_maxbytes": _Program._write_rotation,
    "stderr_logfile_maxbytes": _Program._write_rotation,
    "stdout_logfile_backups": _Program._write_rotation,
    "stderr_logfile_backups": _Program._write_rotation,
}  # fmt: skip
