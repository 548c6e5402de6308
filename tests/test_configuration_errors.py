"""What is wrong with a file: lines that name the place, the value and what is allowed."""

import grp
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple

import pytest

import configuration
import keys
import validators
from errors import ConfigurationError, format_value
from nobody import NUMBER, as_nobody

Refuse = Callable[..., ConfigurationError]

MINIMAL = '[[processes]]\nid = "web"\ncmd = "serve"\n'  # three lines
CLUSTER = MINIMAL + "[processes.cluster]\n"
OTHER = '[[processes]]\nid = "api"\ncmd = "serve"\n'
OTHER_CLUSTER = OTHER + "[processes.cluster]\n"


@pytest.fixture
def refuse(tmp_path: Path) -> Refuse:
    """`refuse(text)`: the error that a file of that text ends in."""

    def refuse_text(text: str, name: str = "app.toml") -> Any:
        path = str(tmp_path / name)
        Path(path).write_text(text, encoding="utf-8")
        with pytest.raises(ConfigurationError) as caught:
            configuration.load(path)
        error = caught.value
        assert error.lines[0] == "%s:%d: %s" % (path, error.line or -1, error.message)
        assert str(error).startswith(error.lines[0])
        assert all(line.isprintable() for line in [str(error), *error.lines])
        assert [each.line for each in error.mistakes] == sorted(
            each.line or -1 for each in error.mistakes)
        assert error.exit_status == 2
        return error

    return refuse_text


Case = Tuple[str, int, str]


def prefixed(start: str, place: str, cases: List[Tuple[str, str]]) -> List[Case]:
    """Cases of one line below a beginning that is right."""
    line = start.count("\n") + 1
    return [(start + text, line, place + message) for text, message in cases]


TOP = [
    ("", 1, '"processes" is missing: it is required'),
    ("# nothing\n", 1, '"processes" is missing: it is required'),
    ('name = "x"\n', 1, '"processes" is missing: it is required'),
    ("processes = 1\n", 1, "processes: it is not an array of tables, [[processes]] in TOML"),
    ("\nprocesses = []\n", 2, "processes: it is empty: at least one is needed"),
    ("[processes]\n", 1, "processes: it is not an array of tables, [[processes]] in TOML"),
    ("processes = [\n1\n]\n", 2, "processes[0]: it is not a table"),
    ('logger = "hunter2"\n' + MINIMAL, 1, "logger: it is not a table"),
    ("control = []\n" + MINIMAL, 1, "control: it is not a table"),
    ('name = ""\n' + MINIMAL, 1, 'name: "" is not made of 1 to 64 of a-z A-Z 0-9 @ . _ -'),
    ('name = "a b"\n' + MINIMAL, 1, 'name: "a b" is not made of 1 to 64 of a-z'),
    ("terminateTimeout = -1\n" + MINIMAL, 1, "terminateTimeout: -1 is not a number of seconds"),
    (MINIMAL + "[control]\nsocket = 5\n", 5, "control.socket: 5 is not a path of a file"),
    (MINIMAL + '[control]\nsocket = "/"\n', 5, 'control.socket: "/" is a folder, not a file'),
    (
        MINIMAL + '[control]\nsocket = "/' + "x" * 107 + '"\n',
        5,
        'control.socket: "/' + "x" * 35 + '..." is longer than 107 bytes',
    ),
    (MINIMAL + "[logger]\ncolors = 0\n", 5, "logger.colors: 0 is not a boolean: true or false"),
]

IDS = [
    ('[[processes]]\ncmd = "x"\n', 1, 'processes[0]: "id" is missing: it is required'),
    (MINIMAL + '[[processes]]\nid = "x"\n', 4, 'processes[1]: "cmd" is missing: it is required'),
    ('[[processes]]\nid = ""\n', 2, 'processes[0].id: "" is not made of 1 to 64 of a-z A-Z'),
    ('[[processes]]\nid = "a/b"\n', 2, 'processes[0].id: "a/b" is not made of 1 to 64 of a-z'),
    ('[[processes]]\nid = "a\\nb"\n', 2, 'processes[0].id: "a\\nb" is not made of 1 to 64 of a-z'),
    ('[[processes]]\nid = "é"\n', 2, 'processes[0].id: "é" is not made of 1 to 64 of a-z'),
    ('[[processes]]\nid = "%s"\n' % ("x" * 65), 2, 'processes[0].id: "xxxxxxxxxxxxxxxxxxxx'),
    ("[[processes]]\nid = 7\n", 2, "processes[0].id: 7 is not made of 1 to 64 of a-z"),
    (
        '[[processes]]\nid = "all"\ncmd = "x"\n',
        2,
        'processes[0].id: "all" means every process in the commands, and no single one',
    ),
    (MINIMAL + MINIMAL, 5, 'processes[1].id: "web" is the id of processes[0] already'),
    (
        CLUSTER + 'instances = 3\n[[processes]]\nid = "web-2"\ncmd = "x"\n',
        7,
        'processes[1].id: "web-2" is the name of an instance of "web"',
    ),
    (
        '[[processes]]\nid = "web-2"\ncmd = "x"\n' + CLUSTER + "instances = 3\n",
        5,
        'processes[1].id: its instance "web-2": "web-2" is the id of processes[0] already',
    ),
    (
        CLUSTER + CLUSTER.replace('"web"', '"web-1"'),
        6,
        'processes[1].id: "web-1" is the name of an instance of "web"',
    ),
]

COMMANDS = prefixed(
    '[[processes]]\nid = "a"\n',
    "processes[0].cmd",
    [
        ('cmd = ""\n', ': "" is not a command line, or an array of strings'),
        ('cmd = " \\t"\n', ": it is empty"),
        ("cmd = []\n", ": it is empty"),
        ('cmd = ["", "x"]\n', ": it is empty"),
        ("cmd = 5\n", ": 5 is not a command line, or an array of strings"),
        ("cmd = true\n", ": true is not a command line, or an array of strings"),
        ("cmd = { a = 1 }\n", ": a table is not a command line, or an array of strings"),
        ("cmd = [1]\n", "[0]: 1 is not a string"),
        ('cmd = [["x"]]\n', "[0]: an array is not a string"),
        ('cmd = "a\\u0000b"\n', ": it has a NUL character in it"),
        ('cmd = ["x", "a\\u0000b"]\n', "[1]: it has a NUL character in it"),
    ],
) + [('[[processes]]\nid = "a"\ncmd = [1,\n2,\n3]\n', 3, "processes[0].cmd[0]: 1 is not a string")]

PROCESS = prefixed(
    MINIMAL,
    "processes[0].",
    [
        ('autostart = "true"\n', 'autostart: "true" is not a boolean: true or false'),
        ("autostart = 1\n", "autostart: 1 is not a boolean: true or false"),
        ("essential = 2026-01-01\n", "essential: a date or time is not a boolean: true or false"),
        ("essential = [1]\n", "essential: an array is not a boolean: true or false"),
        ('cwd = "nowhere"\n', 'cwd: "nowhere" is not an existing folder'),
        ('cwd = "app.toml"\n', 'cwd: "app.toml" is not an existing folder'),
        ('cwd = ""\n', 'cwd: "" is not a path of an existing folder'),
        ('cwd = "a\\u0000"\n', "cwd: it has a NUL character in it"),
        ("cwd = 5\n", "cwd: 5 is not a path of an existing folder"),
        ('path = ""\n', 'path: "" is not a path, or paths with colons between'),
        ('path = "a::b"\n', 'path: "a::b" has an empty folder between its colons'),
        ('pidFile = "x/"\n', 'pidFile: "x/" is a folder, not a file'),
        ('pidFile = ".."\n', 'pidFile: ".." is a folder, not a file'),
        ('pidFile = "%s"\n' % ("x" * 5000), "pidFile: "),
        ("pidFile = true\n", "pidFile: true is not a path of a file"),
        (
            'restart = "on-error"\n',
            'restart: "on-error" is not a restart policy: did you mean "error"?'
            " (always, error, never)",
        ),
        ("restart = true\n", "restart: true is not a restart policy (always, error, never)"),
        (
            "restartDelayMs = -1\n",
            "restartDelayMs: -1 is not a number of milliseconds from 0, at most a year",
        ),
        ("restartDelayMs = true\n", "restartDelayMs: true is not a number of milliseconds"),
        ('restartDelayMs = "5"\n', 'restartDelayMs: "5" is not a number of milliseconds'),
        ("restartDelayMs = nan\n", "restartDelayMs: nan is not a number of milliseconds"),
        ("restartDelayMs = inf\n", "restartDelayMs: inf is not a number of milliseconds"),
        (
            "restartMaxDelayMs = 100\n",
            "restartMaxDelayMs: 100 is less than restartDelayMs, which is 500",
        ),
        ("restartLimit = -1\n", "restartLimit: -1 is not a whole number from 0 to 1000000"),
        ("restartLimit = 1.0\n", "restartLimit: 1.0 is not a whole number from 0 to 1000000"),
        ("restartLimit = true\n", "restartLimit: true is not a whole number from 0 to 1000000"),
        ("timeout = 0\n", "timeout: 0 is not a number of seconds above 0, at most a year"),
        ("timeout = 31622401\n", "timeout: 31622401 is not a number of seconds above 0"),
        ("terminateGracePeriod = -0.1\n", "terminateGracePeriod: -0.1 is not a number of seconds"),
        ('terminateTimeout = "x"\n', 'terminateTimeout: "x" is not a number of seconds from 0'),
        (
            'stopSignal = "TREM"\n',
            'stopSignal: "TREM" is not a stop signal (SIGTERM, SIGINT, SIGQUIT, SIGHUP,',
        ),
        (
            'stopSignal = "sigterm"\n',
            'stopSignal: "sigterm" is not a stop signal: did you mean "SIGTERM"? (SIGTERM,',
        ),
        ('stopSignal = "SIGSEGV"\n', 'stopSignal: "SIGSEGV" is not a stop signal'),
        ("stopSignal = 15\n", "stopSignal: 15 is not a stop signal (SIGTERM, SIGINT,"),
        ("user = true\n", "user: true is not a user that exists, by name or number"),
        ('user = ""\n', 'user: "" is not a user that exists, by name or number'),
        ('user = "no such"\n', 'user: "no such" is not a user that exists, by name or number'),
        ("umask = 22\n", 'umask: 22 is not a string of octal digits such as "022"'),
        ('umask = "088"\n', 'umask: "088" is not a string of octal digits such as "022"'),
        ('umask = "1777"\n', 'umask: "1777" is not a string of octal digits such as "022"'),
        ("nice = 20\n", "nice: 20 is not a whole number from -20 to 19"),
        ('nice = "5"\n', 'nice: "5" is not a whole number from -20 to 19'),
        ("limits = 5\n", "limits: it is not a table"),
        ("limits.files = 5\n", 'limits: unknown key "files": did you mean "nofile"?'),
        ("limits.nofile = -1\n",
         'limits.nofile: -1 is not a whole number, or "unlimited"; also "SOFT:HARD"'),
        ('limits.nofile = "512M"\n',
         'limits.nofile: "512M" is not a whole number, or "unlimited"; also "SOFT:HARD"'),
        ('limits.nofile = "20:10"\n', "limits.nofile: the soft limit is above the hard one"),
        ('limits.nofile = "unlimited:10"\n',
         "limits.nofile: the soft limit is above the hard one"),
        ('limits.as = "5X"\n',
         'limits.as: "5X" is not bytes or a size such as "512M", or "unlimited"; also "SOFT:HARD"'),
        ("limits.as = true\n",
         'limits.as: true is not bytes or a size such as "512M", or "unlimited"; also "SOFT:HARD"'),
        ("user = -1\n", "user: -1 is not a user that exists, by name or number"),
        ("user = 99999999999999\n", "user: 99999999999999 is not a user that exists"),
        ('group = "no such"\n', 'group: "no such" is not a group that exists, by name or number'),
        ("group = 1.5\n", "group: 1.5 is not a group that exists, by name or number"),
        ("cluster = 4\n", "cluster: it is not a table"),
    ],
)

ENVIRONMENT = [
    (MINIMAL + "env = 5\n", 4, "processes[0].env: the value is not a table of strings, numbers"),
    *prefixed(
        MINIMAL + "[processes.env]\nA = 1\n",
        "processes[0].env: ",
        [
            ("B = [1]\n", 'the value of "B" is not a string, a number or a boolean'),
            ("B = 2026-01-01\n", 'the value of "B" is not a string, a number or a boolean'),
            ("[processes.env.B]\n", 'the value of "B" is not a string, a number or a boolean'),
            ('B = "\\u0000"\n', 'the value of "B" has a NUL character in it'),
            ('"B=hunter2" = 1\n', "the name of a variable is never empty and has no = in it"),
        ],
    ),
]

CLUSTERS = prefixed(
    CLUSTER,
    "processes[0].cluster.",
    [
        ("instances = 0\n", 'instances: 0 is not a whole number from 1 to 1000, or "auto"'),
        ("instances = 1001\n", "instances: 1001 is not a whole number from 1 to 1000"),
        ("instances = 4.0\n", "instances: 4.0 is not a whole number from 1 to 1000"),
        ("instances = true\n", "instances: true is not a whole number from 1 to 1000"),
        ('instances = "many"\n', 'instances: "many" is not a whole number from 1 to 1000'),
        ("startPort = 0\n", "startPort: 0 is not a port from 1 to 65535"),
        ("commonPort = 65536\n", "commonPort: 65536 is not a port from 1 to 65535"),
        ('commonPort = "80"\n', 'commonPort: "80" is not a port from 1 to 65535'),
        ("commonPort = 80\n", "commonPort: it needs startPort as well, for the instances"),
        (
            "startPort = 65530\ninstances = 10\n",
            "startPort: the last of 10 instances would get port 65539: the highest is 65535",
        ),
        (
            'commonHost = "example.org"\n',
            'commonHost: "example.org" is not an IPv4 or IPv6 address, or "localhost"',
        ),
        ('instanceHost = "127.0.0.01"\n', 'instanceHost: "127.0.0.01" is not an IPv4 or IPv6'),
        ('instanceHost = "::1%lo"\n', 'instanceHost: "::1%lo" is not an IPv4 or IPv6'),
        ('instanceHost = "a\\u0000"\n', 'instanceHost: "a\\u0000" is not an IPv4 or IPv6'),
        ("instanceHost = 1\n", "instanceHost: 1 is not an IPv4 or IPv6 address"),
        (
            'strategy = "round-robbin"\n',
            'strategy: "round-robbin" is not a strategy: did you mean "round-robin"?'
            " (round-robin, least-connections, ip-hash, least-time, cookie)",
        ),
        (
            'strategy = "LeastConnections"\n',
            'strategy: "LeastConnections" is not a strategy: did you mean "least-connections"?',
        ),
        (
            'strategy = "x"\n',
            'strategy: "x" is not a strategy (round-robin, least-connections, ip-hash, least-time,'
            " cookie)",
        ),
        (
            'strategy = "cookie"\n',
            'strategy: "cookie" needs the protocol "http" (here it is "tcp")',
        ),
        ('protocol = "https"\n',
         'protocol: "https" is not a protocol: did you mean "http"? (tcp, http)'),
        ("protocol = 80\n", "protocol: 80 is not a protocol (tcp, http)"),
        ("headTimeoutMs = 0\n", "headTimeoutMs: 0 is not a number of milliseconds above 0"),
        ("headTimeoutMs = 5\n", 'headTimeoutMs: it needs the protocol "http" (here it is "tcp")'),
        ("responseTimeoutMs = -1\n", "responseTimeoutMs: -1 is not a number of milliseconds from"),
        (
            "responseTimeoutMs = 5\n",
            'responseTimeoutMs: it needs the protocol "http" (here it is "tcp")',
        ),
        ("keepUpstream = -1\n", "keepUpstream: -1 is not a whole number from 0 to 1000000"),
        ("keepUpstream = 0\n", 'keepUpstream: it needs the protocol "http" (here it is "tcp")'),
        ("accessLog = true\n", "accessLog: true is not a path of a file"),
        ('accessLog = "x/"\n', 'accessLog: "x/" is a folder, not a file'),
        ('accessLog = "x"\n', 'accessLog: it needs the protocol "http" (here it is "tcp")'),
        ("readyTimeoutMs = 0\n", "readyTimeoutMs: 0 is not a number of milliseconds above 0"),
        ("connectTimeoutMs = 0\n", "connectTimeoutMs: 0 is not a number of milliseconds above 0"),
        ("queueTimeoutMs = -1\n", "queueTimeoutMs: -1 is not a number of milliseconds from 0"),
        ("queueLimit = -1\n", "queueLimit: -1 is not a whole number from 0 to 1000000"),
        ("maxConnections = 1.5\n", "maxConnections: 1.5 is not a whole number from 0"),
        ("idleTimeoutMs = nan\n", "idleTimeoutMs: nan is not a number of milliseconds"),
        ('halfCloseTimeoutMs = ""\n', 'halfCloseTimeoutMs: "" is not a number of milliseconds'),
        ('proxyProtocol = "v3"\n', 'proxyProtocol: "v3" is not a PROXY protocol (v1, v2)'),
        (
            'acceptProxyFrom = "10.0.0.1"\n',
            'acceptProxyFrom: "10.0.0.1" is not an array of addresses or networks',
        ),
        ("acceptProxyFrom = []\n", "acceptProxyFrom: an array is not an array of addresses"),
        (
            'acceptProxyFrom = ["::1", "10.0.0.1/8"]\n',
            'acceptProxyFrom[1]: "10.0.0.1/8" is not an address or network such as "10.0.0.0/8"',
        ),
        ("health = {}\n", "health: it needs startPort: an instance without a port cannot be asked"),
        (
            "health = { passive = {} }\nstartPort = 8000\n",
            'health.passive: it needs the protocol "http" (here it is "tcp")',
        ),
        (
            "health = { passive = { count = 0 } }\n",
            "health.passive.count: 0 is not a whole number from 1 to 1000",
        ),
        ("health = { rise = 0 }\n", "health.rise: 0 is not a whole number from 1 to 1000"),
        ('health = { path = "up" }\n', 'health.path: "up" is not a path that starts with /'),
        ("health = { intervalMs = 0 }\n", "health.intervalMs: 0 is not a number of milliseconds"),
        ("tls = {}\n", 'tls: "cert" is missing: it is required'),
        ("tls = 1\n", "tls: it is not a table"),
        ('tls = { cert = "no.pem" }\n', 'tls.cert: "no.pem" is not there'),
        (
            'tls = { cert = "app.toml", key = "-----BEGIN" }\n',
            "tls.key: it is the text of a PEM file: what is wanted is the path of one",
        ),
        (
            'tls = { cert = "app.toml", key = "app.toml", minVersion = "tls 1.2" }\n',
            'tls.minVersion: "tls 1.2" is not a TLS version: did you mean "TLSv1.2"?',
        ),
    ],
)

WATCHING = [
    *prefixed(MINIMAL, "processes[0].watch", [
        ('watch = "src"\n', ': "src" is not an array of paths of files and folders'),
        ('watch = ["src", ""]\n', '[1]: "" is not a path'),
        ("watch = [5]\n", "[0]: 5 is not a path"),
        ('watch = ["a\\u0000b"]\n', "[0]: it has a NUL character in it"),
    ]),
    *prefixed(MINIMAL + "[watcher]\n", "watcher.", [
        ("interval = -1\n", "interval: -1 is not a number of milliseconds"),
        ('exts = "js"\n', 'exts: "js" is not an array of strings'),
        ('exts = ["js", ""]\n', 'exts[1]: "" is not an ending of a file\'s name'),
        ("match = {}\n", "match: a table is not an array of globs"),
        ("match = [1]\n", "match[0]: 1 is not a glob"),
        (
            'match = ["*", "[z-a].js"]\n',
            'match[1]: "[z-a].js" cannot be matched: the range z-a runs backwards',
        ),
        (
            'skip = ["*(*.log)"]\n',
            'skip[0]: "*(*.log)" cannot be matched: * is inside of a group that repeats, *(...)',
        ),
    ]),
    ("watcher = 1\n" + MINIMAL, 1, "watcher: it is not a table"),
]  # fmt: skip

UNKNOWN = [
    (
        MINIMAL + "autostrat = true\n",
        4,
        'processes[0]: unknown key "autostrat": did you mean "auto',
    ),
    ("autostrat = true\n" + MINIMAL, 1, 'unknown key "autostrat": did you mean "processes.autosta'),
    (
        MINIMAL + "restart_delay_ms = 1\n",
        4,
        'processes[0]: unknown key "restart_delay_ms": did you',
    ),
    (MINIMAL + "instances = 4\n", 4, 'processes[0]: unknown key "instances": did you mean "cluste'),
    (
        CLUSTER + "autostart = true\n",
        5,
        'processes[0].cluster: unknown key "autostart": it belongs to [[processes]], above this',
    ),
    (
        MINIMAL + "dashboard = {}\n",
        4,
        'processes[0]: unknown key "dashboard": it belongs to the top level, above this',
    ),
    (
        CLUSTER + "xyz = 4\n",
        5,
        'processes[0].cluster: unknown key "xyz": known here are instances,',
    ),
    (MINIMAL + '[control]\n"so\\ncket" = 1\n', 5, 'control: unknown key "so\\ncket": did you mean'),
    (MINIMAL + '[logger]\n"%s" = 1\n' % ("x" * 99), 5, 'logger: unknown key "xxxxxxxxxxxxxxxxxx'),
    (MINIMAL + "watcher = {}\n", 4, 'processes[0]: unknown key "watcher": it belongs to the top'),
    ("watch = []\n" + MINIMAL, 1, 'unknown key "watch": did you mean "processes.watch"?'),
    (MINIMAL + "[watcher]\nintervalMs = 1\n", 5, 'watcher: unknown key "intervalMs": did you mean'),
    (MINIMAL + '"$schema" = ""\n', 4, 'processes[0]: unknown key "$schema": known here are id,'),
]

PUPS = [
    (text % name, line, '%s"%s" is a key of Pup that pupgevent does not have' % (place, name))
    for text, line, place, names in [
        ("%s = 1\n" + MINIMAL, 1, "", "plugins api telemetry"),
        (
            MINIMAL + "%s = 1\n",
            4,
            "processes[0]: ",
            "worker bootstrap",
        ),
    ]
    for name in names.split()
]

PORTS = [
    (
        CLUSTER + "instances = 4\nstartPort = 8000\n" + OTHER_CLUSTER + "startPort = 8003\n",
        11,
        "processes[1].cluster.startPort: port 8003 lies within ports 8000 to 8003"
        ' of the instances of "web"',
    ),
    (
        CLUSTER + "startPort = 8003\n" + OTHER_CLUSTER + "instances = 4\nstartPort = 8000\n",
        11,
        "processes[1].cluster.startPort: ports 8000 to 8003 overlap port 8003"
        ' of the instances of "web"',
    ),
    (
        CLUSTER + "startPort = 8000\ncommonPort = 8003\ninstances = 4\n",
        6,
        "processes[0].cluster.commonPort: port 8003 lies within ports 8000 to 8003"
        ' of the instances of "web"',
    ),
    (
        CLUSTER + "startPort = 80\ncommonPort = 80\n",
        6,
        'processes[0].cluster.commonPort: port 80 is already port 80 of the instances of "web"',
    ),
    (
        CLUSTER
        + "startPort = 8000\ncommonPort = 80\n"
        + OTHER_CLUSTER
        + 'startPort = 9000\ncommonPort = 80\ncommonHost = "10.0.0.1"\n',
        12,
        'processes[1].cluster.commonPort: port 80 is already port 80 of the balancer of "web"',
    ),
    (
        CLUSTER
        + 'startPort = 8000\ncommonPort = 80\ncommonHost = "::"\n'
        + OTHER_CLUSTER
        + 'startPort = 9000\ncommonPort = 80\ncommonHost = "10.0.0.1"\n',
        13,
        'processes[1].cluster.commonPort: port 80 is already port 80 of the balancer of "web"',
    ),
    (
        CLUSTER
        + 'startPort = 8000\ncommonPort = 81\ncommonHost = "::1"\n'
        + OTHER_CLUSTER
        + 'startPort = 80\ninstances = 3\ninstanceHost = "127.0.0.9"\n',
        12,
        'processes[1].cluster.startPort: ports 80 to 82 overlap port 81 of the balancer of "web"',
    ),
    (
        "[dashboard]\nport = 8001\n" + CLUSTER + "startPort = 8000\ninstances = 2\n",
        2,
        'dashboard.port: port 8001 lies within ports 8000 to 8001 of the instances of "web"',
    ),
]

TOGETHER = [
    (
        '[dashboard]\nport = 1\nhost = "0.0.0.0"\n' + MINIMAL,
        3,
        'dashboard.host: "0.0.0.0" is not a loopback address: token is required with it',
    ),
    (
        '[dashboard]\nport = 1\ntoken = "hunter 2"\n' + MINIMAL,
        3,
        "dashboard.token: the value is not a string of printable ASCII without spaces",
    ),
    ("[dashboard]\n" + MINIMAL, 1, 'dashboard: "port" is missing: it is required'),
    ("dashboard = 'hunter2'\n" + MINIMAL, 1, "dashboard: it is not a table"),
]

EVERY = (TOP + IDS + COMMANDS + PROCESS + ENVIRONMENT + CLUSTERS + WATCHING + UNKNOWN + PUPS + PORTS
         + TOGETHER)


@pytest.mark.parametrize("text, line, message", EVERY, ids=[case[2][:60] for case in EVERY])
def test_mistake_is_told_with_its_line(refuse: Refuse, text: str, line: int, message: str) -> None:
    error = refuse(text)
    told = [(each.line, each.message[: len(message)]) for each in error.mistakes]
    assert told.count((line, message)) == 1
    assert "hunter" not in "".join(error.lines)


#: Files with several mistakes, and the whole of what is told of each: a line for each mistake, and
#: none about what only follows from one.
SEVERAL = [
    (
        "autostrt = true\nterminateTimeout = -1\n" + MINIMAL + "restart = 1\n" + OTHER_CLUSTER
        + 'instances = 0\nstrategy = "x"\n',
        [
            (1, 'unknown key "autostrt"'),
            (2, "terminateTimeout: -1 is not a number"),
            (6, "processes[0].restart: 1 is not a restart policy"),
            (11, "processes[1].cluster.instances: 0 is not a whole number"),
            (12, 'processes[1].cluster.strategy: "x" is not a strategy'),
        ],
    ),
    # Several parts of one value.
    (
        MINIMAL.replace('"serve"', '["x",\n1, "y",\n2]') + 'env = { A = [], "B=" = 1 }\n',
        [
            (4, "processes[0].cmd[1]: 1 is not a string"),
            (5, "processes[0].cmd[3]: 2 is not a string"),
            (6, 'processes[0].env: the value of "A" is not'),
            (6, "processes[0].env: the name of a variable is never empty"),
        ],
    ),
    (
        CLUSTER + 'acceptProxyFrom = ["x", "::1",\n"y"]\n',
        [
            (5, 'processes[0].cluster.acceptProxyFrom[0]: "x" is not an address'),
            (6, 'processes[0].cluster.acceptProxyFrom[2]: "y" is not an address'),
        ],
    ),
    # A wrong value, or a slip in a key, is not a missing one.
    (
        CLUSTER + "commonPort = 3000\nstartPort = 0\n",
        [(6, "processes[0].cluster.startPort: 0 is not a port")],
    ),
    (
        CLUSTER + "commonPort = 3000\nstartPrt = 8000\n",
        [(6, 'processes[0].cluster: unknown key "startPrt": did you mean "startPort"?')],
    ),
    (
        MINIMAL + "startPort = 8000\n[processes.cluster]\ncommonPort = 3000\n",
        [(4, 'processes[0]: unknown key "startPort": did you mean "cluster.startPort"?')],
    ),
    (
        '[[processes]]\nidd = "a"\ncommand = "x"\n',
        [
            (1, 'processes[0]: "cmd" is missing'),
            (2, 'processes[0]: unknown key "idd": did you mean "id"?'),
            (3, 'processes[0]: unknown key "command": did you mean "cmd"?'),
        ],
    ),
    (
        '[[processes]]\nid = "a"\n[processes.cluster]\nstartPort = 8000\ncmd = "x"\n',
        [(5, 'processes[0].cluster: unknown key "cmd": it belongs to [[processes]], above this')],
    ),
    (
        '[dashboard]\nport = 1\nhost = "::"\ntoken = ""\n' + MINIMAL,
        [(4, "dashboard.token: the value is not a string")],
    ),
    (
        '[dashboard]\nport = "8000"\n' + CLUSTER + "startPort = 8000\n",
        [(2, 'dashboard.port: "8000" is not a port')],
    ),
    (
        MINIMAL + "restartDelayMs = -1\nrestartMaxDelayMs = 100\n",
        [(4, "processes[0].restartDelayMs: -1 is not a number")],
    ),
    (
        CLUSTER + 'startPort = 1\ncommonPort = 80\ncommonHost = "10.0.0"\n' + OTHER_CLUSTER
        + 'startPort = 2\ncommonPort = 80\ncommonHost = "10.0.0.2"\n',
        [(7, 'processes[0].cluster.commonHost: "10.0.0" is not an IPv4 or IPv6 address')],
    ),
    (
        CLUSTER + 'startPort = 1\ncommonPort = 80\n' + OTHER_CLUSTER
        + 'startPort = 2\ncommonPort = 80\ncommonHost = ""\n',
        [(13, 'processes[1].cluster.commonHost: "" is not an IPv4 or IPv6 address')],
    ),
    (
        MINIMAL + 'pidFile = "a.pid"\n' + OTHER + 'pidFile = "a.pid"\ncluster.instances = 0\n',
        [(9, "processes[1].cluster.instances: 0 is not a whole number")],
    ),
    (
        MINIMAL + 'pidFile = "a.pid"\ncluster = 4\n' + OTHER + 'pidFile = "a.pid"\n',
        [(5, "processes[0].cluster: it is not a table")],
    ),
    (
        MINIMAL + 'pidFile = "a.pid"\ncluster.instances = "2"\n' + OTHER + 'pidFile = "a.pid"\n',
        [(5, 'processes[0].cluster.instances: "2" is not a whole number')],
    ),
    (
        CLUSTER + 'protocol = "http2"\nstrategy = "cookie"\nkeepUpstream = 5\n',
        [(5, 'processes[0].cluster.protocol: "http2" is not a protocol: did you mean "http"?')],
    ),
    # What follows from what is right is told beside it.
    (
        '[[processes]]\nid = 1\ncmd = "x"\n' + MINIMAL + MINIMAL + MINIMAL,
        [
            (2, "processes[0].id: 1 is not made of"),
            (8, 'processes[2].id: "web" is the id of processes[1] already'),
            (11, 'processes[3].id: "web" is the id of processes[1] already'),
        ],
    ),
    # Once for each key, however many instances there are.
    (
        CLUSTER + "instances = 500\nstartPort = 8000\n" + MINIMAL
        + "cluster = { instances = 500, startPort = 8100 }\n",
        [
            (8, 'processes[1].id: "web" is the id of processes[0] already'),
            (10, "processes[1].cluster.startPort: ports 8100 to 8599 overlap ports 8000 to 8499"),
        ],
    ),
    (
        MINIMAL + 'pidFile = "a.pid"\ncluster.instances = 9\n' + OTHER
        + 'pidFile = "a.pid"\ncluster.instances = 5\n',
        [(9, "processes[1].pidFile: ")],
    ),
    ("processes = [1,\n{}]\n", [
        (1, "processes[0]: it is not a table"),
        (2, 'processes[1]: "id" is missing'),
        (2, 'processes[1]: "cmd" is missing'),
    ]),
    ('processes = 1\nlogger = 2\ndashboard = 3\n', [
        (1, "processes: it is not an array of tables, [[processes]] in TOML"),
        (2, "logger: it is not a table"),
        (3, "dashboard: it is not a table"),
    ]),
]  # fmt: skip


@pytest.mark.parametrize("text, told", SEVERAL, ids=[each[1][0][1][:50] for each in SEVERAL])
def test_every_mistake_is_told_and_nothing_that_only_follows_from_one(
    refuse: Refuse, text: str, told: List[Tuple[int, str]]
) -> None:
    mistakes = refuse(text).mistakes
    found = [(each.line, each.message[: len(start)]) for each, (_, start) in zip(mistakes, told)]
    assert (found, len(mistakes)) == (told, len(told)), mistakes


@pytest.mark.parametrize("count, told, last", [
    (1, 1, 'unknown key "x0"'),
    (20, 20, 'unknown key "x19"'),
    (21, 21, ": and 1 more mistake$"),
    (33, 21, ": and 13 more mistakes$"),
])
def test_twenty_mistakes_are_told_and_the_rest_counted(
    refuse: Refuse, count: int, told: int, last: str
) -> None:
    error = refuse("".join("x%d = 1\n" % number for number in range(count)) + MINIMAL)
    assert (len(error.mistakes), len(error.lines)) == (count, told)
    assert last in error.lines[-1] + "$"
    assert str(error).endswith(" (and %d more mistakes)" % (count - 1)) == (count > 2)


JSON_WORDS = [
    ('"processes": []', "processes: it is empty: at least one is needed"),
    ('"processes": {}', "processes: it is not an array of objects"),
    ('"processes": null', "processes: it is not an array of objects"),
    ('"processes": [5]', "processes[0]: it is not an object"),
    ('"processes": 1, "logger": 5', "logger: it is not an object"),
    ('"processes": [{"env": []}]', "processes[0].env: the value is not an object of strings,"),
    ('"processes": [{"cwd": {}}]', "processes[0].cwd: an object is not a path"),
    ('"processes": [{"cmd": [{}]}]', "processes[0].cmd[0]: an object is not a string"),
    ('"processes": [{"id": "a table"}]', 'processes[0].id: "a table" is not made of'),
    ('"processes": [{"id": "\\" a table"}]', 'processes[0].id: "\\" a table" is not made of'),
    (
        '"processes": [{"cluster": {"cmd": "x"}}]',
        'processes[0].cluster: unknown key "cmd": it belongs to an object of "processes", around',
    ),
]


@pytest.mark.parametrize("text, message", JSON_WORDS, ids=[each[0] for each in JSON_WORDS])
def test_json_is_told_in_its_own_words(refuse: Refuse, text: str, message: str) -> None:
    error = refuse("{%s}" % text, "app.json")
    assert [each.message[: len(message)] for each in error.mistakes].count(message) == 1
    assert not any(word in line for line in error.lines
                   for word in ("TOML", "[[", "not a table", "above"))


def test_same_pid_file_of_two_processes_is_told(refuse: Refuse, tmp_path: Path) -> None:
    error = refuse(MINIMAL + 'pidFile = "a.pid"\n' + OTHER + 'pidFile = "./x/../a.pid"\n')
    assert error.line == 8
    shown = format_value(str(tmp_path / "a.pid"))
    assert (
        error.message == "processes[1].pidFile: %s is the pidFile of processes[0] already" % shown
    )


def test_mistake_in_json_is_told_with_its_line(refuse: Refuse) -> None:
    text = """\
{
  // one of them
  "processes": [
    { "id": "web", "cmd": "x",
      "cluster": {
        "startPort": 8000,
        "strategy": "ip_hash"
      }
    },
  ]
}
"""
    error = refuse(text, "app.json")
    assert error.line == 7
    assert error.message.startswith(
        'processes[0].cluster.strategy: "ip_hash" is not a strategy: did you mean "ip-hash"?'
    )
    assert refuse(text.replace('"ip_hash"', "null"), "app.json").message.startswith(
        "processes[0].cluster.strategy: null is not a strategy (round-robin,"
    )
    error = refuse('{"processes": [],\n "cron": ""}', "pup.json")
    assert [each.line for each in error.mistakes] == [1, 2]


def test_line_is_that_of_the_value_far_down_in_an_array_of_lines(refuse: Refuse) -> None:
    error = refuse('[[processes]]\nid = "a"\ncmd = [\n"x", # [\n"y\\u0000",\n]\n')
    assert (error.line, error.message) == (5, "processes[0].cmd[1]: it has a NUL character in it")


def test_syntax_errors_come_through(refuse: Refuse, tmp_path: Path) -> None:
    assert refuse(MINIMAL + "autostart = yes\n").line == 4
    with pytest.raises(ConfigurationError) as caught:
        configuration.load(str(tmp_path / "none.toml"))
    assert str(caught.value) == "%s: there is no such file" % (tmp_path / "none.toml")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that nobody may enter, too."""
    folder = tempfile.mkdtemp()
    os.chmod(folder, 0o755)
    yield Path(folder)
    shutil.rmtree(folder)


def answer_for(path: Path, text: str) -> str:
    path.write_text(MINIMAL + text, encoding="utf-8")

    def load() -> str:
        try:
            process = configuration.load(str(path)).processes[0]
        except ConfigurationError as error:
            return "%s: %s" % (error.line, error.message)
        return "%s %s" % (process.user, process.group)

    return as_nobody(load)


def test_only_root_may_choose_a_user_or_a_group(open_folder: Path) -> None:
    path = open_folder / "app.toml"
    assert answer_for(path, "user = 0\n") == (
        "4: processes[0].user: only root can run a process as another user"
    )
    assert answer_for(path, 'group = "%s"\n' % grp.getgrgid(0).gr_name) == (
        "4: processes[0].group: only root can run a process as another group"
    )


def test_own_user_and_group_may_be_named_by_anyone(open_folder: Path) -> None:
    root = os.geteuid() == 0
    user, group = (NUMBER, NUMBER) if root else (os.geteuid(), os.getegid())
    path = open_folder / "app.toml"
    assert answer_for(path, "user = %d\ngroup = %d\n" % (user, group)) == "None None"
    names = (pwd.getpwuid(user).pw_name, grp.getgrgid(group).gr_name)
    assert answer_for(path, 'user = "%s"\ngroup = "%s"\n' % names) == "None None"
    assert answer_for(path, 'user = "%d"\n' % user) == "None None"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may choose")
def test_root_gets_the_names_of_user_and_group(tmp_path: Path) -> None:
    path = tmp_path / "app.toml"
    path.write_text(MINIMAL + 'user = %d\ngroup = "%d"\n' % (NUMBER, NUMBER))
    process = configuration.load(str(path)).processes[0]
    names = (pwd.getpwuid(NUMBER).pw_name, grp.getgrgid(NUMBER).gr_name)
    assert (process.user, process.group) == names


def test_name_of_a_variable_in_json_may_have_no_nul(refuse: Refuse) -> None:
    process = '{"id": "a", "cmd": "b",\n"env": {\n"A\\u0000": 1}}'
    error = refuse('{"processes": [%s]}' % process, "app.json")
    assert error.line == 3
    assert error.message == "processes[0].env: the name of a variable has a NUL character in it"


LOADS = """
import sys, configuration, errors
for path in sys.argv[1:]:
    try:
        configuration.load(path)
    except errors.ConfigurationError as error:
        print("%s: %s" % (error.line, error.message))
"""


def test_characters_that_the_locale_lacks_are_told(tmp_path: Path) -> None:
    """Of paths; a child gets its words as the file has them."""
    texts = [
        MINIMAL.replace("serve", "é"),
        MINIMAL + 'cwd = "é"\n',
        MINIMAL + 'env = { A = "é" }\n',
        MINIMAL.replace('"serve"', '["a", "é"]'),
        MINIMAL + 'pidFile = "é"\n',
    ]
    files = [tmp_path / ("%d.toml" % number) for number in range(len(texts))]
    for file, text in zip(files, texts):
        file.write_text(text, encoding="utf-8")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    output = subprocess.run(
        [sys.executable, "-c", LOADS, *map(str, files)],
        stdout=subprocess.PIPE,
        check=True,
        env=dict(os.environ, **ascii_only),
        cwd=str(Path(configuration.__file__).parent),
    ).stdout.decode("ascii")
    reason = "has characters in it that the locale's encoding lacks (ascii)"
    assert output.splitlines() == [
        "4: processes[0].cwd: it " + reason,
        "4: processes[0].pidFile: it " + reason,
    ]


@pytest.mark.parametrize("huge", ["9" * 390, "0x" + "f" * 300, "nan", "inf", "1e300"])
def test_no_number_is_too_large_to_be_told(refuse: Refuse, huge: str) -> None:
    error = refuse(MINIMAL + "timeout = %s\n" % huge)
    assert error.line == 4
    assert error.message.endswith("is not a number of seconds above 0, at most a year")


def test_pid_files_of_instances_are_compared_by_their_own_names(
    refuse: Refuse, tmp_path: Path
) -> None:
    several = MINIMAL + 'pidFile = "a.pid"\ncluster = { instances = 2 }\n'
    error = refuse(several + OTHER + 'pidFile = "a-2.pid"\n')
    shown = format_value(str(tmp_path / "a-2.pid"))
    assert error.message == (
        "processes[1].pidFile: %s is the pidFile of processes[0] already" % shown)


def test_who_had_a_name_or_a_file_first_is_told_of_all_later_ones(refuse: Refuse) -> None:
    third = OTHER.replace("api", "two") + 'pidFile = "a.pid"\n'
    error = refuse(MINIMAL + 'pidFile = "a.pid"\n' + OTHER + 'pidFile = "a.pid"\n' + third)
    assert [each.message.rpartition(" is ")[2] for each in error.mistakes] == [
        "the pidFile of processes[0] already"] * 2


LOGGED = '[processes.logger]\nstdout = "%s"\n'


@pytest.mark.parametrize("keys, key, name, what", [
    (LOGGED % "app.toml", "stdout", "app.toml", "the configuration file"),
    ('pidFile = "a"\n' + LOGGED % "a", "stdout", "a", "the pidFile of processes[0]"),
    ('pidFile = "a"\ncluster = { instances = 12 }\n' + LOGGED % "a-{instance}",
     "stdout", "a-1", "the pidFile of processes[0]"),
    ('[processes.logger]\nstderr = "app.toml"\n', "stderr", "app.toml",
     "the configuration file"),
])
def test_log_file_in_the_place_of_something_else_is_told(
    refuse: Refuse, tmp_path: Path, keys: str, key: str, name: str, what: str
) -> None:
    error, = refuse(MINIMAL + keys).mistakes
    assert error.message == "processes[0].logger.%s: %s is %s already" % (
        key, format_value(str(tmp_path / name)), what)


@pytest.mark.parametrize("first, second, told", [
    ('stdout = "a.log"\nmaxBytes = 7', 'stdout = "a.log"\nmaxBytes = 8', "maxBytes 7"),
    ('stdout = "a.log"', 'stderr = "./a.log"\nbackups = 8', "backups 10"),
    ('stdout = "{id}.log"', 'stdout = "web.log"\ncompress = true', "compress false"),
    ('stdout = "a-{instance}.log"\ncompress = true', 'stdout = "a-1.log"', "compress true"),
])
def test_all_who_write_to_a_log_file_want_the_same_of_it(
    tmp_path: Path, refuse: Refuse, first: str, second: str, told: str
) -> None:
    text = MINIMAL + "[processes.logger]\n%s\n" + OTHER + "[processes.logger]\n%s\n"
    error, = refuse(text % (first, second)).mistakes
    assert error.message.startswith("processes[1].logger.%s: " % told.split()[0])
    assert error.message.endswith(
        " is written with %s by processes[0].logger as well" % told)
    other = tmp_path / "other.toml"
    other.write_text(text % (first, second.replace(".log", ".err")))
    assert len(configuration.load(str(other)).processes) == 2


HTTP = '[processes.cluster]\nprotocol = "http"\naccessLog = "%s"\n'


@pytest.mark.parametrize("keys, name, what", [
    (HTTP % "./app.toml", "app.toml", "the configuration file"),
    ('pidFile = "a"\n' + HTTP % "a", "a", "the pidFile of processes[0]"),
    (LOGGED % "a.log" + HTTP % "a.log", "a.log", "a log file of processes[0].logger"),
    ('[processes.logger]\nstderr = "{id}-{instance}.err"\n' + HTTP % "web-1.err", "web-1.err",
     "a log file of processes[0].logger"),
])
def test_access_log_in_the_place_of_something_else_is_told(
    refuse: Refuse, tmp_path: Path, keys: str, name: str, what: str
) -> None:
    error, = refuse(MINIMAL + keys).mistakes
    assert error.message == "processes[0].cluster.accessLog: %s is %s already" % (
        format_value(str(tmp_path / name)), what)


def test_an_access_log_is_shared_by_clusters_that_want_the_same_of_it(
    tmp_path: Path, refuse: Refuse
) -> None:
    own = "[processes.logger]\nmaxBytes = %d\n"
    both = MINIMAL + own % 7 + HTTP % "access.log" + OTHER + own
    error, = refuse(both % 8 + HTTP % "access.log").mistakes
    assert error.message == (
        "processes[1].logger.maxBytes: %s is written with maxBytes 7 by processes[0].logger as well"
        % format_value(str(tmp_path / "access.log")))
    same = tmp_path / "same.toml"
    same.write_text(both % 7 + HTTP % "access.log")
    assert len(configuration.load(str(same)).processes) == 2
    device = "/dev/stdout"
    same.write_text(LOGGED.replace("processes.", "") % device + MINIMAL + HTTP % device)
    assert configuration.load(str(same))


def test_placeholders_of_log_files_are_told(refuse: Refuse) -> None:
    error = refuse(MINIMAL + LOGGED % "{id}-{n}.log")
    assert error.message == (
        'processes[0].logger.stdout: "{n}" in it stands for nothing: there are {id} and {instance}')


def test_pid_file_in_the_place_of_something_else_is_told(refuse: Refuse) -> None:
    assert refuse(MINIMAL + 'pidFile = "app.toml"\n').message.endswith(
        "is the configuration file already")
    assert refuse('control.socket = "a.sock"\n' + MINIMAL + 'pidFile = "a.sock"\n').message \
        .endswith("is the control socket already")


def test_mapped_addresses_are_those_of_ipv4(refuse: Refuse) -> None:
    clusters = [
        '[processes.cluster]\ncommonPort = 3000\nstartPort = %d\ncommonHost = "%s"\n' % each
        for each in ((8000, "::ffff:127.0.0.1"), (9000, "0.0.0.0"))
    ]
    error = refuse(MINIMAL + clusters[0] + OTHER + clusters[1])
    assert "port 3000 is already port 3000 of the balancer of" in error.message


DURATIONS = [(table, key) for table in keys.TABLES for key in table.keys
             if key.unit in ("s", "ms", "h")]


def test_every_duration_has_its_unit() -> None:
    spoken = [key for table in keys.TABLES for key in table.keys if "a year" in key.type.allowed]
    assert spoken == [key for _, key in DURATIONS] != []


@pytest.mark.parametrize("table, key", DURATIONS, ids=lambda each: getattr(each, "name", ""))
def test_a_duration_is_at_most_a_year_and_a_year_is_accepted(table: Any, key: Any) -> None:
    year = int(366 * 24 * 3600 * {"s": 1, "ms": 1000, "h": 1 / 3600}[key.unit])
    assert key.type.convert(year, "/") == 366 * 24 * 3600.0
    assert key.type.convert(float(year), "/") == 366 * 24 * 3600.0
    assert key.type.convert(year - 1, "/") < 366 * 24 * 3600.0
    for more in (year + 1, year + 0.001, year * 1000, -1, -0.001):
        with pytest.raises(validators.InvalidValue):
            key.type.convert(more, "/")


@pytest.mark.parametrize("table, key", DURATIONS, ids=lambda each: getattr(each, "name", ""))
def test_a_duration_of_nothing_is_accepted_where_it_says_so(table: Any, key: Any) -> None:
    if "from 0" in key.type.allowed:
        assert key.type.convert(0, "/") == 0.0
    else:
        assert "above 0" in key.type.allowed
        with pytest.raises(validators.InvalidValue):
            key.type.convert(0, "/")
    assert 0 < key.type.convert(0.001, "/") <= (3.6 if key.unit == "h" else 0.001)


#: Each check that has a lowest and a highest number: both are accepted, and none beyond.
RANGES = [(table, key, *map(int, re.findall(r"from (\d+) to (\d+)", key.type.allowed)[0]))
          for table in keys.TABLES for key in table.keys
          if re.search(r"from \d+ to \d+", key.type.allowed)]


@pytest.mark.parametrize(
    "table, key, least, most", RANGES, ids=lambda each: getattr(each, "name", ""))
def test_a_whole_number_may_be_its_least_and_its_most_and_no_other(
    table: Any, key: Any, least: int, most: int
) -> None:
    for value in (least, most):
        assert key.type.convert(value, "/") == value
    for value in (least - 1, most + 1):
        with pytest.raises(validators.InvalidValue):
            key.type.convert(value, "/")


@pytest.mark.parametrize("text", [
    CLUSTER + "startPort = 65526\ninstances = 10\n",
    CLUSTER + "startPort = 8000\ncommonPort = 8004\ninstances = 4\n",
    CLUSTER + "startPort = 8000\ncommonPort = 7999\ninstances = 4\n",
    MINIMAL + "restartDelayMs = 700\nrestartMaxDelayMs = 700\n",
    MINIMAL.replace('"web"', '"%s"' % ("x" * 64)),
    'name = "%s"\n' % ("x" * 64) + MINIMAL,
    'control.socket = "/%s"\n' % ("x" * 106) + MINIMAL,
    MINIMAL + 'pidFile = "/%s"\n' % ("x" * 4095),
], ids=lambda text: text[-40:])
def test_what_is_just_within_its_limit_is_accepted(tmp_path: Path, text: str) -> None:
    (tmp_path / "app.toml").write_text(text)
    assert configuration.load(str(tmp_path / "app.toml")).processes


def test_every_check_refuses_what_nothing_is(tmp_path: Path) -> None:
    """No value of any kind makes a check fail in another way than it should."""
    values: List[Any] = [
        None,
        True,
        -1,
        0,
        1.5,
        float("nan"),
        10**30,
        "",
        "x",
        "é\0",
        [],
        [[]],
        {},
        {"a": 1},
    ]
    for table in keys.TABLES:
        for key in table.keys:
            for value in values:
                if isinstance(key.type, validators.Validator):
                    try:
                        key.type.convert(value, str(tmp_path))
                    except validators.InvalidValue as wrong:
                        assert wrong.reason is None or wrong.reason.isprintable()
