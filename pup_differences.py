"""What Pup has and pupgevent has not, and what the same file means otherwise here: in words.

A pup.json runs as it is. Whoever comes with one is told of keys that are refused, with what to use
in their place, and of the defaults that differ on purpose.
"""

from typing import Dict, Iterator, List, Mapping, NamedTuple, Tuple

#: Keys of Pup that are not here, in whatever table of Pup's, and what there is instead.
INSTEAD: Dict[str, str] = {
    "plugins": "there are no plug-ins",
    "api": "the commands use a Unix socket, for which nothing is to be configured",
    "telemetry": "`status` tells the CPU and memory of each process, whatever it is written in",
    "worker": "give it a command of its own, such as cmd = \"deno run --allow-read worker.ts\"",
    "bootstrap": "there is nothing to prepare before a start",
    "balancerType": "`commonPort` is all that the balancer needs",
    "restartBackoffMs": "it is `restartDelayMs` with `restartMaxDelayMs`",
}


class Default(NamedTuple):
    """A key that Pup has another default for, where a process starts by itself."""

    key: str
    #: Pup's.
    value: object
    text: str


RESTART_DELAY = Default(
    "restartDelayMs", 10000,
    "Pup waits for 10 s before a restart; here it is half a second at first, twice that after each"
    " further failure, and 30 s at most.")
RESTART = Default(
    "restart", "never",
    "Pup restarts nothing without this key; here what has autostart is restarted: a cluster always,"
    " others after an error.")
GRACE = Default(
    "terminateGracePeriod", 0,
    "Pup stops an instance at once; here one behind a common port is first taken out of rotation,"
    " and its connections have up to 10 s to end, or with the protocol http its requests 30 s.")

ROTATION = Default(
    "maxBytes", 0,
    "Pup lets log files grow for ever; here each is rotated at 50 MB, and the last 10 are kept.")

#: Of a process with log files of its own, where the top level has some, too.
ONE_FILE = ("Pup writes its lines to the files of the top level, too; here they are in its own"
            " alone.")

#: Those of a process, in the order in which they are told.
DEFAULTS: Tuple[Default, ...] = (RESTART_DELAY, RESTART)


def hints(values: Mapping[str, object]) -> Iterator[str]:
    """A line for each default that differs, about the processes of a file that leave it to it."""
    processes = values.get("processes")
    tables = [each for each in processes if isinstance(each, dict)] if isinstance(
        processes, list) else []
    automatic = [each for each in tables if each.get("autostart") is True]
    for default in DEFAULTS:
        yield from _hint(default, automatic)
    if GRACE.key not in values:
        yield from _hint(GRACE, [each for each in tables if _has_common_port(each)])
    yield from _log_file_hints(values, tables)


def _hint(default: Default, tables: List[Dict[str, object]]) -> Iterator[str]:
    ids = [str(each.get("id")) for each in tables if default.key not in each]
    if ids:
        yield "%s is not set (%s): %s" % (default.key, _some(ids), default.text)


def _log_file_hints(
    values: Mapping[str, object], processes: List[Dict[str, object]]
) -> Iterator[str]:
    ids = [str(each.get("id")) for each in processes if has_log_file(each)]
    if (ids or has_log_file(values)) and ROTATION.key not in _logger(values):
        yield "%s is not set in logger: %s" % (ROTATION.key, ROTATION.text)
    if ids and has_log_file(values):
        yield "logger has a file of its own (%s): %s" % (_some(ids), ONE_FILE)


def has_log_file(table: Mapping[str, object]) -> bool:
    """Whether the top level, or a process, names a log file."""
    logger = _logger(table)
    return any(logger.get(name) is not None for name in ("stdout", "stderr"))


def _logger(table: Mapping[str, object]) -> Mapping[str, object]:
    logger = table.get("logger")
    return logger if isinstance(logger, dict) else {}


def _some(ids: List[str]) -> str:
    return ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")


def _has_common_port(process: Dict[str, object]) -> bool:
    cluster = process.get("cluster")
    return isinstance(cluster, dict) and cluster.get("commonPort") is not None
