"""Every key of the configuration file: one record each, with its name, type, default and meaning.

The validation, the README's reference and the test of conf/full.toml come from these records. Those
of a cluster are in cluster_keys.py.
"""

import time
from typing import Tuple

import child_validators
import cron_pattern
import fronts
import paths
import schema
import validators
import watch_values
from cluster_keys import CLUSTER, HEALTH, MAX_COUNT, PASSIVE, TLS
from schema import (
    REQUIRED,
    Derived,
    Fields,
    Key,
    Table,
    hours as _hours,
    key as _key,
    ms as _ms,
    no_default,
    seconds as _seconds,
)

RESTART_POLICIES = ("always", "error", "never")

#: Accepted at the top level without a meaning: editors look for it in JSON.
IGNORED = frozenset(["$schema"])
#: The characters of ids and names, as in the brackets of a regular expression.
NAME_LETTERS = "a-zA-Z0-9@._-"
MAX_NAME_LENGTH = 64

_NAME = validators.string_matching(
    "made of 1 to %d of a-z A-Z 0-9 @ . _ -" % MAX_NAME_LENGTH,
    "[%s]{1,%d}" % (NAME_LETTERS, MAX_NAME_LENGTH),
)


def _read_pattern(text: str) -> None:
    cron_pattern.next_time(text, time.time(), time.localtime)


_PATTERN = validators.text_accepted_by("a cron pattern", _read_pattern)

_LOG_FILE = (
    "file for what the processes write to their %s, and for %s of pupgevent's own; `{id}` in it is"
    " the process, `{instance}` the number of the instance, from 1 on; its folder has to be there"
)

LOGGER = Table(
    "logger",
    (
        _key(
            "console", validators.boolean(), True,
            "print log lines on stdout, pupgevent's own among them; `pupgevent logs` shows them"
            " in any case",
        ),
        _key(
            "decorate", validators.boolean(), True,
            "print the time, the instance and the stream before each line; false: the bytes as they"
            " came",
        ),
        _key("colors", validators.boolean(), no_default("on a terminal"), "print in colours"),
        _key("stdout", validators.log_path(), no_default(), _LOG_FILE % ("stdout", "lines")),
        _key(
            "stderr",
            validators.log_path(),
            Derived("the same file as `stdout`", lambda own, top: own["stdout"]),
            _LOG_FILE % ("stderr", "errors"),
        ),
        _key(
            "decorateFiles", validators.boolean(),
            Derived("`decorate`", lambda own, top: own["decorate"]),
            "the same as `decorate`, for the files",
        ),
        _key(
            "maxBytes", validators.size(), 50 * 1024 * 1024,
            "size at which a log file is rotated, to `FILE.1`; 0 is never",
        )._replace(unit="bytes"),
        _key(
            "backups", validators.integer(0, 1000), 10,
            "rotated log files to keep; with 0 the file begins anew",
        ),
        _key("compress", validators.boolean(), False, "compress those, to `FILE.1.gz`"),
        _hours(
            "internalLogHours", 72,
            "how far back `pupgevent logs` remembers, which is in any case the last 1,000 lines of"
            " each process, of 256 KB; 0 keeps no line in memory",
        ),
    ),
)


def _inherited(key: Key) -> Key:
    def compute(own: Fields, top: Fields) -> object:
        if key.name == "stderr" and own["stdout"] != top["logger"]["stdout"]:
            return own["stdout"]
        if key.name == "decorateFiles" and any(
                own[each] != top["logger"][each] for each in ("stdout", "stderr")):
            return False
        return top["logger"][key.field]

    text = "the top level's"
    if key.name == "decorateFiles":
        text += "; false where it has files of its own"
    return key._replace(default=Derived(text, compute))


PROCESS_LOGGER = Table("processes.logger", tuple(_inherited(key) for key in LOGGER.keys))

WATCHER = Table(
    "watcher",
    (
        _ms(
            "interval", 350,
            "a process is restarted when no file has changed for that time, or after ten of these"
            " times, at least 10 s",
        ),
        _key(
            "exts", watch_values.endings(), ["ts", "tsx", "js", "jsx", "json"],
            "what the names of the files end in that are watched; an empty array is any",
        ),
        _key(
            "match", watch_values.patterns(), ["**/*.*"],
            "a file has to match one of these, from the watched folder on; an empty array is any",
        ),
        _key(
            "skip", watch_values.patterns(), ["**/.git/**", "**/node_modules/**"],
            "a file that matches one of these is not watched",
        ),
    ),
)

CONTROL = Table(
    "control",
    (
        _key(
            "socket",
            validators.file_path(paths.SOCKET_PATH_LIMIT),
            no_default("only the one that is named after the file's path"),
            "path of an additional control socket, for users who cannot reach the usual one",
        ),
    ),
)

DASHBOARD = Table(
    "dashboard",
    (
        _key("port", validators.port(), REQUIRED, "port of the page and of the metrics"),
        _key("host", validators.host(), "127.0.0.1", "address to listen on"),
        _key(
            "token",
            validators.string_matching(
                "a string of printable ASCII without spaces", "[!-~]{1,512}"),
            no_default(),
            "what a client has to send; required if `host` is not a loopback address",
            secret=True,
        ),
    ),
)


AGENT = Table(
    "agent",
    (
        _key("port", validators.port(), REQUIRED, "port at which HAProxy asks for states"),
        _key("host", validators.host(), "127.0.0.1",
             "address to listen on; a HAProxy on another machine needs one that it reaches"),
    ),
)


def _resource_limit(name: str, meaning: str, in_bytes: bool = False) -> Key:
    return _key(name, child_validators.resource_limit(in_bytes), no_default("pupgevent's own"),
                meaning)


LIMITS = Table(
    "processes.limits",
    (
        _resource_limit("nofile", "open descriptors"),
        _resource_limit("core", "size of a core file; 0: none is written", in_bytes=True),
        _resource_limit("nproc", "processes and threads of its user"),
        _resource_limit("memlock", "memory that is never swapped out", in_bytes=True),
        _resource_limit("stack", "stack of a thread", in_bytes=True),
        _resource_limit("as", "address space of one process", in_bytes=True),
    ),
)


def _restart(own: Fields, top: Fields) -> str:
    if not own["autostart"]:
        return "never"
    # A server is never done; a job that ends with 0 is.
    return "always" if own["cluster"] else "error"


def _max_delay(own: Fields, top: Fields) -> float:
    return max(30.0, float(own["restart_delay"]))


_GRACE_PERIOD = "0, or 10 with `commonPort` (30 with `http`), or 5 with `[agent]` and `startPort`"


def _grace_period(own: Fields, top: Fields) -> float:
    if top["terminate_grace_period"] is not None:
        return float(top["terminate_grace_period"])
    cluster = own["cluster"]
    if not cluster or not cluster["common_port"]:
        # Proxies on other machines have to see that an instance is about to stop.
        return fronts.LONGEST if cluster and cluster["start_port"] and top["agent"] else 0.0
    # With http it is over with the slowest answer; with tcp nobody knows which of the connections
    # are only kept alive.
    return 30.0 if cluster["protocol"] == "http" else 10.0


PROCESS = Table(
    "processes",
    (
        _key("id", _NAME, REQUIRED, "unique, also against the ids of instances; never `all`"),
        _key(
            "cmd",
            child_validators.command(),
            REQUIRED,
            "a string for `/bin/sh -c`, or an array of strings, which runs as it is; a string that"
            " is one simple command replaces its shell (`exec`)",
        ),
        _key(
            "autostart",
            validators.boolean(),
            False,
            "start it with pupgevent; otherwise `pupgevent start`, `cron` or a change of what it"
            " has in `watch` does",
        ),
        _key(
            "cron", _PATTERN, no_default(),
            "when it is started, also after a stop: five fields, or six with the seconds first;"
            " see Schedules",
        ),
        _key(
            "terminate", _PATTERN, no_default(),
            "when it is stopped; it is started again if `restart` is `always`, or if it starts by"
            " itself (`autostart` without `cron`) and `restart` is not `never`",
        ),
        _key(
            "overrun", validators.boolean(), False,
            "what `cron` does while it still runs: nothing, or with true a restart",
        ),
        _key(
            "watch",
            watch_values.file_paths(),
            Derived("none", lambda own, top: ()),
            "files and folders: when one of these, or a file below them, changes, the process is"
            " restarted, and a cluster instance by instance; see `watcher`",
        ),
        _key(
            "cwd",
            validators.existing_folder(),
            Derived("the file's folder", lambda own, top: top["folder"]),
            "folder that it starts in",
        ),
        _key(
            "env", child_validators.environment(), {}, "additional environment variables",
            secret=True,
        ),
        _key(
            "envFile",
            child_validators.environment_file(),
            no_default(),
            "file of `NAME=value` lines, as `docker run --env-file` reads them, where values may be"
            " quoted; read with this file; `env` goes before it",
            secret=True,
        ),
        _key(
            "path", child_validators.search_path(), no_default(),
            "folders that are appended to its `PATH`",
        ),
        _key(
            "pidFile",
            validators.file_path(),
            no_default(),
            "written at start, removed at exit; each of several instances has its own, with its"
            " number before the suffix: `app.pid` becomes `app-1.pid`",
        ),
        _key("user", child_validators.user(), no_default(), "run as this user (root only), with its"
             " `HOME`, `USER`, `LOGNAME` and `SHELL`, unless `env` sets them"),
        _key("group", child_validators.group(), no_default(), "run as this group (root only)"),
        _key("umask", child_validators.file_mode_mask(), no_default("pupgevent's own"),
             "rights that the files it makes do not get"),
        _key("nice", child_validators.nice(), no_default("pupgevent's own"),
             "its share of the CPU: 19 is the least; below 0 root only"),
        _key("limits", LIMITS, no_default(), "limits of the kernel for it, below"),
        _key("cluster", CLUSTER, no_default(), "several instances, below"),
        _key(
            "startAfter",
            validators.strings("ids of processes"),
            [],
            "ids of processes that must be up before it is started: one of their instances runs,"
            " or has finished its work; at a stop it is the other way round",
        ),
        _key(
            "restart",
            validators.choice("restart policy", RESTART_POLICIES),
            Derived(
                "with autostart `always` for a cluster, else `error`; without it `never`",
                _restart,
            ),
            "after which exits it is started again; `error`: a code other than 0, or a signal",
        ),
        _ms(
            "restartDelayMs",
            500,
            "delay before the first restart; it doubles with each failure in a row, with up to 10 %"
            " jitter, and is reset after 10 s of running; from the sixth restart in a row on it is"
            " at least 500 ms, even if this or `restartMaxDelayMs` is less",
        ),
        _ms(
            "restartMaxDelayMs",
            Derived("30000, or `restartDelayMs` where that is more", _max_delay),
            "the longest delay",
        ),
        _key(
            "restartLimit",
            validators.integer(0, MAX_COUNT),
            no_default(),
            "most restarts in a row: with 3, the fourth run that fails is the last, and the state"
            " is `exhausted`; with 0 it is never restarted",
        ),
        _ms(
            "minUptimeMs",
            1000,
            "a process without a port is `running` after that time; one that fails earlier has not"
            " come up",
        ),
        _seconds(
            "timeout", no_default(),
            "longest run: after that time it is stopped", above_zero=True,
        ),
        _seconds(
            "terminateGracePeriod",
            Derived("the top level's, else " + _GRACE_PERIOD, _grace_period),
            "longest time from taking an instance out of rotation to its stop signal, which is sent"
            " earlier when its last connection has ended, or with `http` its last answer",
        ),
        _seconds(
            "terminateTimeout",
            Derived("the top level's", lambda own, top: top["terminate_timeout"]),
            "time from the stop signal to SIGKILL",
        ),
        _key(
            "stopSignal", child_validators.stop_signal(), "SIGTERM",
            "the signal that asks it to stop",
        ),
        _key(
            "maxMemory",
            validators.size(2**20),
            no_default(),
            "an instance that holds more, with its children, in three looks in a row (15 s) is"
            " restarted: of a cluster one at a time, and drained first",
        ),
        _key(
            "onFailure",
            child_validators.command(),
            no_default(),
            "command that is run, for a minute at most, when an instance is given up; it finds"
            " `PUP_PROCESS_ID`, `PUP_INSTANCE`, `PUP_STATE` and `PUP_REASON` in its environment",
        ),
        _key(
            "essential",
            validators.boolean(),
            False,
            "if it is not restarted any more, pupgevent stops everything and exits with 1; never"
            " with `cron`, which starts it again",
        ),
        _key("logger", PROCESS_LOGGER, {}, "the keys of `[logger]`, for this process"),
    ),
    many=True,
)

TOP = Table(
    "",
    (
        _key(
            "name",
            _NAME,
            Derived("the file's name without its suffix", lambda own, top: own["stem"]),
            "the name of this supervisor in status, logs and metrics",
        ),
        _key("logger", LOGGER, {}, "where log lines go, below"),
        _key("watcher", WATCHER, {}, "which files `watch` of the processes is about, below"),
        _seconds(
            "terminateGracePeriod",
            no_default(_GRACE_PERIOD),
            "the default of every process",
        ),
        _seconds("terminateTimeout", 30, "the default of every process"),
        _key("control", CONTROL, {}, "how the other commands reach this one, below"),
        _key("dashboard", DASHBOARD, no_default("off"), "a page and metrics, below"),
        _key("agent", AGENT, no_default("off"), "HAProxy's agent-check, below"),
        _key("processes", PROCESS, REQUIRED, "the applications, at least one; below"),
    ),
)

#: In the order of the reference; `[processes.logger]` has the keys of `[logger]`.
TABLES: Tuple[Table, ...] = (
    TOP, PROCESS, LIMITS, CLUSTER, HEALTH, PASSIVE, TLS, LOGGER, WATCHER, CONTROL, DASHBOARD, AGENT)


def reference() -> str:
    """The reference of all keys, in Markdown, as the README has it."""
    return schema.reference(TABLES)
