"""The command line: what may be said, and one clear line about what may not.

docopt takes the words apart. It also takes `--he` for `--help`, and `check` alone for a file of
that name, and answers a mistake with the usage and no word about it. So the words are looked at
before it sees them. What is CONFIG is told by the look of a word, not by its place: then a CONFIG
left out, or in the wrong place, is known as that.
"""

import re
import warnings
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from errors import UsageError, nearest

with warnings.catch_warnings():
    # docopt 0.6.2 has escapes that Python 3.12 and newer warn of when they compile it.
    warnings.simplefilter("ignore")
    from docopt import DocoptExit, docopt

USAGE = """Run the instances of each process in CONFIG and balance TCP over them.

Usage:
  pupgevent [--verbose] CONFIG
  pupgevent init [--from=FILE] [CONFIG]
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
  init       Write a first CONFIG (else pupgevent.toml), or carry over the FILE of another tool: a
             Procfile, a PM2 ecosystem file as JSON, a supervisord.conf, a pup.json.
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
  --from=FILE  What init carries over.
  --json     The status as JSON.
  --follow   Go on with new lines until Ctrl-C.
  -h --help  Show this.
  --version  Show the versions of pupgevent, Python, gevent and greenlet.

CONFIG is a TOML file, or Pup's own JSON (.json, .jsonc). Any other name is written with a slash.
PROCESS is the id of a process, the name of an instance, or `all`, as when there is none.
Exit codes: 0 done, 1 it failed, 2 usage or configuration, 3 `status` when something that should
run does not serve, 4 no pupgevent runs for CONFIG.
"""


class Command(NamedTuple):
    """What may stand behind the name of a command."""

    words: Tuple[str, ...] = ("CONFIG",)
    #: The last word may be repeated, or left out.
    repeats: bool = False
    #: Those that go with it, besides `ALWAYS`.
    options: Tuple[str, ...] = ()
    #: The words may be left out altogether.
    optional: bool = False


#: The run in the foreground, which has no name.
RUN = Command(options=("--verbose",))

COMMANDS: Dict[str, Command] = {
    "init": Command(options=("--from",), optional=True),
    "check": Command(),
    "status": Command(options=("--json",)),
    "start": Command(("CONFIG", "PROCESS"), repeats=True),
    "stop": Command(("CONFIG", "PROCESS"), repeats=True),
    "restart": Command(("CONFIG", "PROCESS"), repeats=True),
    "scale": Command(("CONFIG", "ID", "INSTANCES")),
    "reload": Command(),
    "shutdown": Command(),
    "logs": Command(("CONFIG", "PROCESS"), repeats=True, options=("--follow",)),
    "top": Command(),
    "export": Command(("FORMAT", "CONFIG")),
}

#: Options with a value, which is behind a = or the next word.
VALUED = ("--from",)

#: Options that go with every command.
ALWAYS = ("--help", "-h", "--version")

#: Each option: the names of the commands that it goes with; "" is the run in the foreground.
OPTIONS: Dict[str, List[str]] = {}
for _name, _command in [("", RUN), *COMMANDS.items()]:
    for _option in (*_command.options, *ALWAYS):
        OPTIONS.setdefault(_option, []).append(_name)

#: What others call it, and what it is here: a command, "" for a run, or an option.
OTHERS: Dict[str, str] = {
    "help": "--help", "version": "--version", "run": "", "up": "", "list": "status",
    "ls": "status", "ps": "status", "monitor": "top", "monit": "top", "terminate": "shutdown",
    "quit": "shutdown", "exit": "shutdown", "down": "shutdown", "kill": "stop",
    "delete": "stop", "validate": "check", "test": "check", "tail": "logs", "log": "logs",
    "update": "reload", "reread": "reload",
}  # fmt: skip

#: How a word is known to be CONFIG, whether the file is there or not.
_SUFFIXES = (".toml", ".json", ".jsonc")
_FILE = ".toml, .json, .jsonc, or a path with /"

_ONE_CONFIG = ": one pupgevent runs one CONFIG"

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
    #: What `init` carries over.
    source: str = ""


def parse(argv: Sequence[str]) -> Arguments:
    """Take the words after the program's name apart; raises UsageError."""
    words, options = _split(argv)
    for option in options:
        _check_option(option)
    names = [option.partition("=")[0] for option in options]
    for name in VALUED:
        if names.count(name) > 1:
            raise UsageError("%s is given twice" % name)
    if "--help" in options or "-h" in options:
        return Arguments("help")
    if "--version" in options:
        return Arguments("version")
    command = _check_words(words)
    _check_options_of(command, names)
    try:
        # To say an option twice is to say it; docopt would not have it.
        once = dict.fromkeys(options)
        found = docopt(USAGE, argv=[*once, *map(_shielded, words)], help=False)
    except DocoptExit:
        raise UsageError("these words make no command: %s" % " ".join(argv)) from None
    if words == [command]:
        # Whose CONFIG may be left out: docopt takes the command itself for it.
        found["CONFIG"] = ""
    return _arguments(command, found)


def _arguments(command: str, found: "Dict[str, Any]") -> Arguments:
    return Arguments(
        command or "run",
        _bare(found["CONFIG"] or ""),
        found["--verbose"],
        found["--json"],
        found["--follow"],
        tuple(map(_bare, found["PROCESS"])),
        _bare(found["ID"] or ""),
        _instances(found["INSTANCES"]),
        _format(found["FORMAT"]),
        found["--from"] or "",
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
        raise UsageError('export: FORMAT "%s" is not %s%s' % (word, known, _hint(word, FORMATS)))
    return word or ""


def _split(argv: Sequence[str]) -> "Tuple[List[str], List[str]]":
    """Words and options; behind `--` everything is a word."""
    words: List[str] = []
    options: List[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return words + rest, options
        if word in VALUED and rest:
            word += "=" + rest.pop(0)
        (options if word.startswith("-") and word != "-" else words).append(word)
    return words, options


def _check_option(option: str) -> None:
    name, _, value = option.partition("=")
    if name in VALUED and not value:
        raise UsageError("%s: FILE is missing" % name)
    if option not in OPTIONS and name not in VALUED:
        raise UsageError('unknown option "%s"%s' % (option, _hint(name, OPTIONS)))


def _check_words(words: Sequence[str]) -> str:
    """The command, "" for a run; raises UsageError when the words after it do not fit."""
    if not words:
        raise UsageError("CONFIG is missing")
    if "" in words:
        raise UsageError("one of the words is empty")
    command, rest = words[0], words[1:]
    if command in COMMANDS:
        _check_rest(command, rest)
    elif not _is_config(command):
        raise UsageError(_unknown(command, rest))
    elif rest:
        raise UsageError(_behind_config(command, rest))
    return command if command in COMMANDS else ""


def _is_config(word: str) -> bool:
    return "/" in word or word.lower().endswith(_SUFFIXES)


def _unknown(command: str, rest: Sequence[str]) -> str:
    """What to say of a first word that is neither a command nor a file."""
    if command in OTHERS:
        return 'there is no command "%s": did you mean "%s"?' % (
            command, _spelled(OTHERS[command], rest))
    hint = _hint(command, COMMANDS) or "; a file of that name is written ./" + command
    return 'unknown command "%s"%s' % (command, hint)


def _behind_config(config: str, rest: Sequence[str]) -> str:
    """What to say of words behind the file of a run."""
    word, more = rest[0], rest[1:]
    command = OTHERS.get(word) or nearest(word, list(COMMANDS)) or ""
    if command and not _is_config(word):
        return 'the command comes first: "%s"' % _spelled(command, [config, *more])
    return '"%s" is one word too many%s' % (word, _ONE_CONFIG if _is_config(word) else "")


def _check_rest(command: str, rest: Sequence[str]) -> None:
    """Raises UsageError when the words behind a command are not those that it takes."""
    names, repeats = COMMANDS[command][:2]
    place = names.index("CONFIG")
    needed = len(names) - repeats
    files = [word for word in rest if _is_config(word)]
    if not rest and COMMANDS[command].optional:
        return
    if not rest:
        hint = " (a file of that name is written ./%s)" % command if place == 0 else ""
        raise UsageError("%s: %s is missing%s" % (command, names[0], hint))
    before, at_place = rest[:place], rest[place : place + 1]
    if any(map(_is_config, before)) or not all(map(_is_config, at_place)):
        raise UsageError("%s: %s" % (command, _misplaced(command, names, rest, files)))
    if command == "scale":
        _check_scale(rest)
    if len(rest) < needed:
        raise UsageError("%s: %s is missing" % (command, names[len(rest)]))
    if len(rest) > len(names) and not repeats:
        word = rest[len(names)]
        hint = _ONE_CONFIG if _is_config(word) else ""
        raise UsageError('%s: "%s" is one word too many%s' % (command, word, hint))


def _misplaced(
    command: str, names: Sequence[str], rest: Sequence[str], files: Sequence[str]
) -> str:
    """What to say where CONFIG is not in its place."""
    others = [word for word in rest if word not in files[:1]]
    if names[0] != "CONFIG":
        words = [*(others or FORMATS)[:1], *files[:1]]
        what = "%s comes first" if others else "%s is missing"
        return '%s: did you mean "%s"?' % (what % names[0], _spelled(command, words))
    if files:
        return 'CONFIG comes first: did you mean "%s"?' % _spelled(command, [files[0], *others])
    if command == "init":
        return 'did you mean "pupgevent init --from=%s"?' % rest[0]
    reason = 'CONFIG is missing: "%s" is no file (%s): ' % (rest[0], _FILE)
    if len(names) == 1:
        return reason + "a file of that name is written ./" + rest[0]
    return reason + 'did you mean "%s"?' % _spelled(command, rest)


def _check_scale(rest: Sequence[str]) -> None:
    """Its last two words are easily taken for each other."""
    config, *words = rest
    if len(words) == 1 and words[0].isdigit():
        raise UsageError('scale: ID is missing: did you mean "%s"?' % _spelled(
            "scale", [config, "ID", words[0]]))
    if len(words) == 2 and words[0].isdigit() and not words[1].isdigit():
        raise UsageError('scale: ID comes before INSTANCES: did you mean "%s"?' % _spelled(
            "scale", [config, *reversed(words)]))


def _spelled(command: str, words: Sequence[str]) -> str:
    """A whole command line, with CONFIG where no file is among the words."""
    if command.startswith("-"):
        return "pupgevent " + command
    if not any(map(_is_config, words)):
        words = ["CONFIG", *words]
    if COMMANDS.get(command, RUN).words == ("CONFIG",):
        words = [word for word in words if word == "CONFIG" or _is_config(word)][:1]
    return " ".join(filter(None, ["pupgevent", command, *words]))


def _check_options_of(command: str, options: Sequence[str]) -> None:
    for option in options:
        if command not in OPTIONS[option]:
            where = " and ".join(each or "a run" for each in OPTIONS[option])
            raise UsageError("%s goes with %s only" % (option, where))


def _hint(word: str, known: "Iterable[str]") -> str:
    match = nearest(word, list(known))
    return ': did you mean "%s"?' % match if match else ""
