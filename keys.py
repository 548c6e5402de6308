"""Every key of the configuration file: one record each, with its name, type, default and meaning.

The validation, the README's reference and the test of conf/full.toml come from these records. A key
made with `_unsupported` is checked, and then refused as not yet supported, because nothing acts on
it yet: when something does, make it with `_key`.
"""

from typing import Tuple, Union

import paths
import schema
import validators
import watch_values
from schema import REQUIRED, Default, Derived, Fields, Key, Table, no_default
from strategies import STRATEGIES

RESTART_POLICIES = ("always", "error", "never")
PROXY_PROTOCOLS = ("v1", "v2")
TLS_VERSIONS = ("TLSv1.2", "TLSv1.3")

#: Keys of Pup that pupgevent does not have, in whatever table of Pup's.
PUP_ONLY = frozenset(
    "api balancerType bootstrap cron decorate decorateFiles internalLogHours overrun plugins"
    " restartBackoffMs telemetry terminate worker".split()
)
#: Accepted at the top level without a meaning: editors look for it in JSON.
IGNORED = frozenset(["$schema"])
#: The characters of ids and names, as in the brackets of a regular expression.
NAME_LETTERS = "a-zA-Z0-9@._-"
MAX_NAME_LENGTH = 64
#: Most instances of one process: more is a typing error rather than a machine of that size.
MAX_INSTANCES = 1000
#: The limit of numbers of connections, clients in a queue and restarts: no kernel holds more.
MAX_COUNT = 10**6

Type = Union[validators.Validator, Table]

_NAME = validators.string_matching(
    "made of 1 to %d of a-z A-Z 0-9 @ . _ -" % MAX_NAME_LENGTH,
    "[%s]{1,%d}" % (NAME_LETTERS, MAX_NAME_LENGTH),
)


def _key(name: str, type: Type, default: Default, meaning: str, secret: bool = False) -> Key:
    return Key(name, type, default, meaning, secret=secret)


def _unsupported(name: str, type: Type, default: Default, meaning: str) -> Key:
    return Key(name, type, default, meaning, supported=False)


def _ms(name: str, default: Default, meaning: str, above_zero: bool = False) -> Key:
    return Key(name, validators.duration("ms", above_zero), default, meaning, "ms")


def _seconds(name: str, default: Default, meaning: str, above_zero: bool = False) -> Key:
    return Key(name, validators.duration("s", above_zero), default, meaning, "s")


_LOG_FILE = "file for what the processes write to their %s; it is rotated by size"

LOGGER = Table(
    "logger",
    (
        _key(
            "console", validators.boolean(), True,
            "print log lines on stdout, pupgevent's own among them; `pupgevent logs` shows them"
            " in any case",
        ),
        _unsupported("stdout", validators.file_path(), no_default(), _LOG_FILE % "stdout"),
        _unsupported(
            "stderr",
            validators.file_path(),
            Derived("the same file as `stdout`", lambda own, top: own["stdout"]),
            _LOG_FILE % "stderr",
        ),
        _key("colors", validators.boolean(), no_default("on a terminal"), "print in colours"),
        _unsupported(
            "maxBytes",
            validators.integer(0, 2**40),
            50 * 1024 * 1024,
            "size at which a log file is rotated; 0 is never",
        )._replace(unit="bytes"),
        _unsupported("backups", validators.integer(0, 1000), 10, "rotated log files to keep"),
    ),
)


def _inherited(key: Key) -> Key:
    def compute(own: Fields, top: Fields) -> object:
        if key.name == "stderr" and own["stdout"] != top["logger"]["stdout"]:
            return own["stdout"]
        return top["logger"][key.field]

    return key._replace(default=Derived("the top level's", compute))


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

HEALTH = Table(
    "processes.cluster.health",
    (
        _key(
            "path",
            validators.string_matching("a path that starts with /", "/[!-~]*"),
            no_default(),
            "path of an HTTP GET, which passes with 2xx or 3xx; without it a TCP connect passes",
        ),
        _ms("intervalMs", 2000, "time from one check to the next", above_zero=True),
        _ms("timeoutMs", 2000, "a check that takes longer has failed", above_zero=True),
        _key("rise", validators.integer(1, 1000), 2, "passes in a row that bring an instance up"),
        _key("fall", validators.integer(1, 1000), 3, "failures in a row that take it down"),
        _key(
            "restart",
            validators.boolean(),
            False,
            "restart an instance that is down, instead of only taking it out of rotation",
        ),
    ),
)

TLS = Table(
    "processes.cluster.tls",
    (
        _key("cert", validators.existing_file(), REQUIRED, "certificate and its chain, PEM"),
        _key("key", validators.existing_file(), REQUIRED, "private key, PEM", secret=True),
        _key(
            "minVersion",
            validators.choice("TLS version", TLS_VERSIONS),
            "TLSv1.2",
            "oldest version that is accepted",
        ),
    ),
)

CLUSTER = Table(
    "processes.cluster",
    (
        _key(
            "instances", validators.instance_count(MAX_INSTANCES), 1,
            'how many; "auto": one per CPU',
        ),
        _key(
            "startPort",
            validators.port(),
            no_default(),
            "instance n, from 0, gets `startPort` + n; required with `commonPort`",
        ),
        _key(
            "commonPort", validators.port(), no_default("none: no balancer"),
            "where clients connect",
        ),
        _key(
            "commonHost",
            validators.host(),
            "0.0.0.0",
            "address to listen on; `::` takes IPv4 too",
        ),
        _key("instanceHost", validators.host(), "127.0.0.1", "address where the instances listen"),
        _key(
            "strategy",
            validators.choice("strategy", tuple(STRATEGIES)),
            "round-robin",
            "which instance gets the next client",
        ),
        _ms(
            "readyTimeoutMs",
            30000,
            "an instance whose port does not accept in that time is killed: its start has failed",
            above_zero=True,
        ),
        _ms(
            "connectTimeoutMs", 2000,
            "time-out of one attempt to connect to an instance", above_zero=True,
        ),
        _ms(
            "queueTimeoutMs",
            10000,
            "how long a client waits when no instance can take it; then its connection is closed",
        ),
        _key("queueLimit", validators.integer(0, MAX_COUNT), 1024, "how many clients may wait"),
        _key(
            "maxConnections",
            validators.integer(0, MAX_COUNT),
            0,
            "most connections of one instance; further clients wait; 0 is no limit",
        ),
        _ms(
            "idleTimeoutMs",
            3600000,
            "a connection without a byte in either direction for that time is closed; 0 is never",
        ),
        _ms(
            "halfCloseTimeoutMs", 60000,
            "the same after one side has closed its direction; 0 is never",
        ),
        _unsupported("health", HEALTH, no_default(), "active checks, below"),
        _unsupported(
            "proxyProtocol",
            validators.choice("PROXY protocol", PROXY_PROTOCOLS),
            no_default(),
            "send the client's address to the instances in a PROXY header",
        ),
        _unsupported(
            "acceptProxyFrom",
            validators.networks(),
            no_default(),
            "from whom a PROXY header is accepted; `ip-hash` then uses the real client's address",
        ),
        _unsupported("tls", TLS, no_default(), "TLS ends at the common port, below"),
    ),
)


def _restart(own: Fields, top: Fields) -> str:
    if not own["autostart"]:
        return "never"
    # A server is never done; a job that ends with 0 is.
    return "always" if own["cluster"] else "error"


def _max_delay(own: Fields, top: Fields) -> float:
    return max(30.0, float(own["restart_delay"]))


def _grace_period(own: Fields, top: Fields) -> float:
    if top["terminate_grace_period"] is not None:
        return float(top["terminate_grace_period"])
    return 10.0 if own["cluster"] and own["cluster"]["common_port"] else 0.0


PROCESS = Table(
    "processes",
    (
        _key("id", _NAME, REQUIRED, "unique, also against the ids of instances; never `all`"),
        _key(
            "cmd",
            validators.command(),
            REQUIRED,
            "a string for `/bin/sh -c`, or an array of strings, which runs as it is; a string that"
            " is one simple command replaces its shell (`exec`)",
        ),
        _key(
            "autostart",
            validators.boolean(),
            False,
            "start it with pupgevent; otherwise `pupgevent start` or a change of what it has in"
            " `watch` does",
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
            "env", validators.environment(), {}, "additional environment variables", secret=True),
        _key(
            "path", validators.search_path(), no_default(),
            "folders that are appended to its `PATH`",
        ),
        _key(
            "pidFile",
            validators.file_path(),
            no_default(),
            "written at start, removed at exit; each of several instances has its own, with its"
            " number before the suffix: `app.pid` becomes `app-1.pid`",
        ),
        _key("user", validators.user(), no_default(), "run as this user (root only), with its"
             " `HOME`, `USER`, `LOGNAME` and `SHELL`, unless `env` sets them"),
        _key("group", validators.group(), no_default(), "run as this group (root only)"),
        _key("cluster", CLUSTER, no_default(), "several instances, below"),
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
            Derived("the top level's, else 0, or 10 with `commonPort`", _grace_period),
            "longest time from taking an instance out of rotation to its stop signal, which is sent"
            " earlier when its last connection has ended",
        ),
        _seconds(
            "terminateTimeout",
            Derived("the top level's", lambda own, top: top["terminate_timeout"]),
            "time from the stop signal to SIGKILL",
        ),
        _key("stopSignal", validators.stop_signal(), "SIGTERM", "the signal that asks it to stop"),
        _key(
            "essential",
            validators.boolean(),
            False,
            "if it is not restarted any more, pupgevent stops everything and exits with 1",
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
            no_default("0, or 10 with `commonPort`"),
            "the default of every process",
        ),
        _seconds("terminateTimeout", 30, "the default of every process"),
        _key("control", CONTROL, {}, "how the other commands reach this one, below"),
        _unsupported(
            "dashboard", DASHBOARD, no_default("off"), "metrics and a web page, below"),
        _key("processes", PROCESS, REQUIRED, "the applications, at least one; below"),
    ),
)

#: In the order of the reference; `[processes.logger]` has the keys of `[logger]`.
TABLES: Tuple[Table, ...] = (
    TOP, PROCESS, CLUSTER, HEALTH, TLS, LOGGER, WATCHER, CONTROL, DASHBOARD)


def reference() -> str:
    """The reference of all keys, in Markdown, as the README has it."""
    return schema.reference(TABLES)
