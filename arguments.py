"""The command line: what may be said, and one clear line about what may not.

docopt takes the words apart. It also takes `--he` for `--help`, and `check` alone for a file of
that name, and answers a mistake with the usage and no word about it. So the words are looked at
before it sees them.
"""

import difflib
import re
import warnings
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from errors import UsageError

with warnings.catch_warnings():
    # docopt 0.6.2 has escapes that Python 3.12 and newer warn of when they compile it.
    warnings.simplefilter("ignore")
    from docopt import DocoptExit, docopt

USAGE = """Run the instances of each process in CONFIG and balance TCP over them.

Usage:
  pupgevent [--verbose] CONFIG
  pupgevent check CONFIG
  pupgevent status [--json] CONFIG
  pupgevent (start | stop | restart) CONFIG [PROCESS...]
  pupgevent scale CONFIG ID INSTANCES
  pupgevent reload CONFIG
  pupgevent shutdown CONFIG
  pupgevent logs [--follow] CONFIG [PROCESS...]
  pupgevent top CONFIG
  pupgevent export FORMAT CONFIG
  pupgevent --help | --version

Commands:
  (none)     Run CONFIG in the foreground.
  check      Validate CONFIG and print what would run.
  status     Print what runs: instances, connections, traffic, CPU, memory.
  start, stop, restart
             Do that, one instance after the other where it is a restart.
  scale      Change how many instances the cluster ID has, until the next reload.
  reload     Read CONFIG again and apply what differs, without losing a client.
  shutdown   Stop everything and end pupgevent.
  logs       Print the last lines of pupgevent and its processes.
  top        The status, refreshed in place.
  export     Print CONFIG in another's FORMAT: systemd, a unit that runs it.

Options:
  --verbose  Tell more while running.
  --json     The status as JSON.
  --follow   Go on with new lines until Ctrl-C.
  -h --help  Show this.
  --version  Show the versions of pupgevent, Python, gevent and greenlet.

CONFIG is a TOML file, or Pup's own JSON (.json, .jsonc).
PROCESS is the id of a process, the name of an instance, or `all`, as when there is none.
Exit codes: 0 done, 1 it failed, 2 usage or configuration, 3 `status` when something that should
run does not serve, 4 no pupgevent runs for CONFIG.
"""

#: Each command: the words behind it, and whether the last may be repeated or left out.
COMMANDS: Dict[str, Tuple[Tuple[str, ...], bool]] = {
    "check": (("CONFIG",), False),
    "status": (("CONFIG",), False),
    "start": (("CONFIG", "PROCESS"), True),
    "stop": (("CONFIG", "PROCESS"), True),
    "restart": (("CONFIG", "PROCESS"), True),
    "scale": (("CONFIG", "ID", "INSTANCES"), False),
    "reload": (("CONFIG",), False),
    "shutdown": (("CONFIG",), False),
    "logs": (("CONFIG", "PROCESS"), True),
    "top": (("CONFIG",), False),
    "export": (("FORMAT", "CONFIG"), False),
}

#: Each option: the commands it goes with; "" is the run in the foreground, None means all.
OPTIONS: Dict[str, Optional[Tuple[str, ...]]] = {
    "--verbose": ("",),
    "--json": ("status",),
    "--follow": ("logs",),
    "--help": None,
    "-h": None,
    "--version": None,
}


#: What `export` can write, as exports.py has it.
FORMATS = ("systemd",)


class Arguments(NamedTuple):
    """A command line that makes sense."""

    #: One of COMMANDS, `run`, `help` or `version`.
    command: str
    config: str = ""
    verbose: bool = False
    json: bool = False
    follow: bool = False
    #: Ids and names of instances; none are all.
    names: Tuple[str, ...] = ()
    #: What is scaled, and to how many.
    id: str = ""
    instances: int = 0
    #: What to export to.
    format: str = ""


def parse(argv: Sequence[str]) -> Arguments:
    """Take the words after the program's name apart; raises UsageError."""
    words, options = _split(argv)
    for option in options:
        _check_option(option)
    if "--help" in options or "-h" in options:
        return Arguments("help")
    if "--version" in options:
        return Arguments("version")
    command = _check_words(words)
    _check_options_of(command, options)
    try:
        found = docopt(USAGE, argv=[*options, *map(_shielded, words)], help=False)
    except DocoptExit:
        raise UsageError("these words make no command: %s" % " ".join(argv)) from None
    return _arguments(command, found)


def usage() -> str:
    """Only the lines that show what can be written."""
    return USAGE[USAGE.index("Usage:") : USAGE.index("\n\nCommands:")] + "\n"


def _arguments(command: str, found: "Dict[str, Any]") -> Arguments:
    return Arguments(
        command or "run",
        _bare(found["CONFIG"]),
        found["--verbose"],
        found["--json"],
        found["--follow"],
        tuple(map(_bare, found["PROCESS"])),
        _bare(found["ID"] or ""),
        _instances(found["INSTANCES"]),
        _format(found["FORMAT"]),
    )


def _shielded(word: str) -> str:
    """docopt takes what begins with - for an option wherever it stands, also behind `--`."""
    return " " + word if word.startswith("-") else word


def _bare(word: str) -> str:
    return word[1:] if word.startswith(" -") else word


def _instances(word: "Optional[str]") -> int:
    """The number in a word; 0 where the command has none. Raises UsageError."""
    if word is None:
        return 0
    if not re.match("[0-9]{1,9}$", word) or int(word) == 0:
        raise UsageError('scale: INSTANCES "%s" is not a whole number from 1' % word)
    return int(word)


def _format(word: "Optional[str]") -> str:
    if word is not None and word not in FORMATS:
        known = " or ".join(FORMATS)
        raise UsageError('export: FORMAT "%s" is not %s%s' % (word, known, _nearest(word, FORMATS)))
    return word or ""


def _split(argv: Sequence[str]) -> "Tuple[List[str], List[str]]":
    """Words and options; behind `--` everything is a word."""
    words: List[str] = []
    options: List[str] = []
    for position, word in enumerate(argv):
        if word == "--":
            return words + list(argv[position + 1 :]), options
        (options if word.startswith("-") and word != "-" else words).append(word)
    return words, options


def _check_option(option: str) -> None:
    if option not in OPTIONS:
        raise UsageError('unknown option "%s"%s' % (option, _nearest(option, OPTIONS)))


def _check_words(words: Sequence[str]) -> str:
    """The command, "" for a run; raises UsageError when the words after it do not fit."""
    if not words:
        raise UsageError("CONFIG is missing")
    if "" in words:
        raise UsageError("one of the words is empty")
    command, rest = words[0], words[1:]
    if command not in COMMANDS:
        if rest and rest[0] in COMMANDS:
            raise UsageError("the command comes first: %s %s" % (rest[0], command))
        if rest:
            raise UsageError('unknown command "%s"%s' % (command, _nearest(command, COMMANDS)))
        return ""
    names, last_is_list = COMMANDS[command]
    needed = len(names) - last_is_list
    if len(rest) < needed:
        hint = "" if rest else " (a file of that name is written ./%s)" % command
        raise UsageError("%s: %s is missing%s" % (command, names[len(rest)], hint))
    if len(rest) > len(names) and not last_is_list:
        raise UsageError('%s: "%s" is one word too many' % (command, rest[len(names)]))
    return command


def _check_options_of(command: str, options: Sequence[str]) -> None:
    for option in options:
        commands = OPTIONS[option]
        if commands is not None and command not in commands:
            where = " and ".join(each or "a run" for each in commands)
            raise UsageError("%s goes with %s only" % (option, where))


def _nearest(word: str, known: "Iterable[str]") -> str:
    match = difflib.get_close_matches(word, list(known), 1)
    return ': did you mean "%s"?' % match[0] if match else ""
