"""The command line: the words that somebody has typed, as `Arguments`, or one line that helps.

docopt takes the words apart. It also takes `--he` for `--help`, and `check` alone for a file of
that name, and answers a mistake with the usage and no word about it. So the words are looked at
before it sees them, and it gets each in its place. What is CONFIG is told by the look of a word,
not by its place: so it can be left out, and one in the wrong place is known as that.
"""

import ipaddress
import re
import time
import warnings
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import hints
import options
import since
from errors import UsageError, listed
from signal_names import is_signal, signal_name, signal_number
from usage import (
    ALWAYS,
    COMMANDS,
    FORMATS,
    FRONTS,
    OPTIONS,
    RUN,
    SHELLS,
    USAGE,
    goes_with,
    is_config,
)

with warnings.catch_warnings():
    # docopt 0.6.2 has escapes that Python 3.12 and newer warn of when they compile it.
    warnings.simplefilter("ignore")
    from docopt import DocoptExit, docopt

#: The places of the usage that the scripts of completion.py ask the command itself for, as
#: `pupgevent completion PROCESS [CONFIG]`: what can stand there is in CONFIG.
ASKED = ("PROCESS", "ID")


class Arguments(NamedTuple):
    """A command line that makes sense."""

    #: One of COMMANDS, `run`, `help` or `version`.
    command: str
    #: "" where it is left out.
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
    #: The name of a signal, or the number of one that has no name.
    signal: str = ""
    #: How many lines; None where it is not said.
    lines: Optional[int] = None
    #: From when on lines are wanted, in Unix time; None where it is not said.
    since: Optional[float] = None
    #: Whose completion; or one of ASKED.
    shell: str = ""
    #: What `init` carries over.
    source: str = ""
    #: The machines behind what is exported; none: this one.
    hosts: Tuple[str, ...] = ()
    #: Is it exported for HTTP?
    http: bool = False

    @property
    def needs_config(self) -> bool:
        """Is one to be found where it is left out?"""
        command = RUN if self.command == "run" else COMMANDS.get(self.command)
        return (not self.config and command is not None and command.place is not None
                and not command.makes_config)


def parse(argv: Sequence[str]) -> Arguments:
    """Take the words after the program's name apart; raises UsageError."""
    found = options.split(argv, OPTIONS)
    words = found.words
    if not (found.mistake or found.unknown):
        for option in ALWAYS:
            if option in found.options:
                return Arguments(option[2:])
        if words[:1] == ["completion"] and words[1:2] and words[1] in ASKED:
            return Arguments("completion", "".join(words[2:3]), shell=words[1])
    command = _command_of(found)
    _check_options(command, found)
    config, others = _check_rest(command, words[1:]) if command else (_config_of_run(words), [])
    try:
        taken = docopt(USAGE, argv=_in_their_places(command, config, others, found), help=False)
    except DocoptExit:
        raise UsageError("these words make no command: %s" % " ".join(argv)) from None
    return _arguments(command, taken)


def _in_their_places(
    command: str, config: str, others: Sequence[str], found: options.Split
) -> "List[str]":
    """For docopt: all options first, and CONFIG where the usage has it, also if it is empty."""
    words = list(map(_shielded, others))
    place = COMMANDS.get(command, RUN).place
    if place is not None:
        words.insert(place, _shielded(config))
    given = [name + "=" + value if OPTIONS[name].value else name
             for name, value in found.options.items()]
    return [*given, *filter(None, [command]), *words]


def _arguments(command: str, taken: "Dict[str, Any]") -> Arguments:
    return Arguments(
        command or "run",
        # docopt takes `list`, which has none, for the CONFIG of a run.
        "" if COMMANDS.get(command, RUN).place is None else _bare(taken["CONFIG"] or ""),
        taken["--verbose"],
        taken["--json"],
        taken["--follow"],
        tuple(map(_bare, taken["PROCESS"])),
        _bare(taken["ID"] or ""),
        _instances(taken["INSTANCES"]),
        _one_of("export: FORMAT", taken["FORMAT"], FORMATS),
        _signal(taken["SIGNAL"]),
        _lines(taken["--lines"]),
        _since(taken["--since"]),
        _one_of("completion: SHELL", taken["SHELL"], SHELLS),
        _source(taken["--from"]),
        _hosts(taken["FORMAT"], taken["--host"]),
        _for_fronts(taken["FORMAT"], "--http", taken["--http"]),
    )


def _shielded(word: str) -> str:
    """docopt takes what begins with - for an option wherever it stands, also behind `--`."""
    return " " + word if word.startswith("-") else word


def _bare(word: str) -> str:
    return word[1:] if word.startswith(" -") else word


# Which words belong where


def _command_of(found: options.Split) -> str:
    """The command, "" for a run; raises UsageError where there is no such command."""
    words = found.words
    if "" in words:
        raise UsageError("one of the words is empty")
    if not words or is_config(words[0]):
        return ""
    if words[0] not in COMMANDS:
        # What is behind an option that is none may be its value, and no command.
        if not hints.is_of_others(words[0]):
            _check_options("", found)
        raise UsageError(hints.unknown_command(words[0], words[1:], found))
    return words[0]


def _config_of_run(words: Sequence[str]) -> str:
    """"" where it is left out; raises UsageError for words behind it."""
    if len(words) > 1:
        raise UsageError(hints.behind_config(words[0], words[1:]))
    return "".join(words)


def _check_rest(command: str, rest: Sequence[str]) -> "Tuple[str, List[str]]":
    """CONFIG, "" where it is left out, and the other words behind a command; raises UsageError when
    these are not those that it takes."""
    spec = COMMANDS[command]
    config, others = _without_config(command, rest)
    kinds = spec.others
    mistaken = hints.mistaken(command, config, others)
    if mistaken:
        raise UsageError("%s: %s" % (command, mistaken))
    if len(others) < len(kinds) - spec.repeats:
        raise UsageError("%s: %s is missing" % (command, kinds[len(others)]))
    if len(others) > len(kinds) and not spec.repeats:
        raise UsageError("%s: %s" % (command, hints.too_many(command, config, others[len(kinds)])))
    return config, others


def _without_config(command: str, rest: Sequence[str]) -> "Tuple[str, List[str]]":
    """CONFIG and the other words; raises UsageError where it is not in its place."""
    place = COMMANDS[command].place
    files = [each for each, word in enumerate(rest) if is_config(word)]
    if place is None or not files:
        return "", list(rest)
    config, others = rest[files[0]], [*rest[: files[0]], *rest[files[0] + 1 :]]
    if files[0] != place:
        early = files[0] < place
        raise UsageError("%s: %s" % (command, hints.misplaced(command, config, others, early)))
    return config, others


def _check_options(command: str, found: options.Split) -> None:
    if found.unknown:
        raise UsageError(hints.unknown_option(command, found))
    if found.mistake:
        raise UsageError(found.mistake)
    for option in found.options:
        where = goes_with(option)
        if command not in where:
            names = [each or "a run" for each in where]
            raise UsageError("%s goes with %s only" % (option, listed(names, "and")))


# What words say; they say nothing where the command has none. These raise UsageError.


def _instances(word: "Optional[str]") -> int:
    if word is None:
        return 0
    if not re.match("[0-9]{1,9}$", word) or int(word) == 0:
        raise UsageError('scale: INSTANCES "%s" is not a whole number from 1' % word)
    return int(word)


def _lines(word: "Optional[str]") -> Optional[int]:
    if word is not None and not re.match("[0-9]{1,9}$", word):
        raise UsageError('logs: LINES "%s" is not a whole number from 0' % word)
    return None if word is None else int(word)


def _since(word: "Optional[str]") -> Optional[float]:
    if word is None:
        return None
    try:
        return since.unix_time(word, time.time())
    except ValueError:
        raise UsageError('logs: TIME "%s" is none of: %s' % (word, since.ALLOWED)) from None


def _source(word: "Optional[str]") -> str:
    if word == "":
        raise UsageError("init: --from: FILE is missing")
    return word or ""


def _hosts(format: "Optional[str]", values: "Sequence[str]") -> "Tuple[str, ...]":
    hosts = tuple(",".join(values).split(",")) if _for_fronts(format, "--host", values) else ()
    for each in hosts:
        if not _is_host(each):
            raise UsageError('export: HOST "%s" is no name and no address of a machine' % each)
        if hosts.count(each) > 1:
            raise UsageError('export: HOST "%s" is given twice' % each)
    return hosts


def _is_host(word: str) -> bool:
    """Names are left to the DNS, but nothing gets into a file that is not one."""
    if ":" in word:
        try:
            return ipaddress.ip_address(word).version == 6 and "%" not in word
        except ValueError:
            return False
    return re.match(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?\Z", word) is not None


def _for_fronts(format: "Optional[str]", option: str, given: object) -> bool:
    if given and format not in FRONTS:
        raise UsageError("%s goes with export %s only" % (option, listed(FRONTS, "and")))
    return bool(given)


def _one_of(what: str, word: "Optional[str]", known: Sequence[str]) -> str:
    if word is not None and word not in known:
        raise UsageError('%s "%s" is not %s%s' % (
            what, word, listed(known, "or"), hints.nearest_hint(word, known)))
    return word or ""


def _signal(word: "Optional[str]") -> str:
    if word is None:
        return ""
    try:
        number = signal_number(_bare(word))
    except UsageError as error:
        raise UsageError("signal: %s" % error) from None
    name = signal_name(number)
    return name if is_signal(name) else str(number)
