"""What is said of words that make no command: one line, with the command line that was meant.

Where that is known, it is spelled with the words that somebody has given, each in its place.
"""

import re
import shlex
from typing import Iterable, List, Mapping, Optional, Sequence

import synonyms
from errors import nearest
from options import Split
from signal_names import is_signal
from usage import COMMANDS, FORMATS, OPTIONS, RUN, is_config

_FILE = ".toml, .json, .jsonc, or a path with /"

_ONE_CONFIG = ": one pupgevent runs one CONFIG"

#: Commands for all of CONFIG, and those that are meant where a process is named.
_FOR_ONE = {"reload": "restart", "shutdown": "stop", "top": "status"}


def is_of_others(command: str) -> bool:
    return command.lower() in synonyms.COMMANDS


def unknown_command(command: str, rest: Sequence[str], found: Split) -> str:
    """Of a first word that is neither a command nor a file."""
    ours = synonyms.COMMANDS.get(command.lower())
    if ours is not None:
        signals = _signals_in(found.unknown) or list(filter(is_signal, rest[:1]))
        if command == "kill" and signals:
            rest = [word for word in rest if word not in signals]
            ours = "signal " + signals[0]
        return 'there is no command "%s": did you mean "%s"?' % (
            command, spelled(ours, rest, found.options))
    hint = nearest_hint(command, COMMANDS)
    if not hint and rest and rest[0] in COMMANDS:
        hint = ': the command comes first: "%s"' % spelled(rest[0], [command, *rest[1:]])
    return 'unknown command "%s"%s' % (
        command, hint or "; a file of that name is written ./" + command)


def behind_config(config: str, rest: Sequence[str]) -> str:
    """Of words behind the file of a run."""
    word, more = rest[0], rest[1:]
    command = synonyms.COMMANDS.get(word.lower()) or nearest(word, list(COMMANDS))
    if command and not is_config(word):
        return 'the command comes first: "%s"' % spelled(command, [config, *more])
    return '"%s" is one word too many%s' % (word, _ONE_CONFIG if is_config(word) else "")


def misplaced(command: str, config: str, others: Sequence[str], early: bool) -> str:
    """Of a CONFIG that is not in its place, but before or behind it."""
    first = COMMANDS[command].words[0] if early else "CONFIG"
    what = first + (" comes first" if others else " is missing")
    words = [config, *(others or FORMATS[:1])]
    return '%s: did you mean "%s"?' % (what, spelled(command, words))


def too_many(command: str, config: str, word: str) -> str:
    """Of a word for which there is no place."""
    if command == "list":
        ours = spelled("list" if word == "all" else "status", [word])
        return '"%s" is one word too many, since it lists them all: did you mean "%s"?' % (
            word, ours)
    if is_config(word):
        return '"%s" is one word too many%s' % (word, _ONE_CONFIG)
    if command == "init":
        words = [*filter(None, [config]), "--from=" + word]
        return 'did you mean "pupgevent init %s"?' % " ".join(map(shlex.quote, words))
    no_config = '"%s" is no CONFIG (%s)' % (word, _FILE)
    if command in _FOR_ONE:
        what = '"%s" is one word too many' % word if config else no_config
        ours = command if word == "all" and command != "reload" else _FOR_ONE[command]
        return '%s, and %s takes no PROCESS: did you mean "%s"?' % (
            what, command, spelled(ours, [*filter(None, [config]), word]))
    if command == "describe":
        return '"%s" is one word too many: one PROCESS is described at a time' % word
    if config or COMMANDS[command].others:
        return '"%s" is one word too many' % word
    return "%s: a file of that name is written ./%s" % (no_config, word)


def mistaken(command: str, config: str, words: Sequence[str]) -> "Optional[str]":
    """Of words that are easily taken for each other, or for one."""
    reason, meant = "", list(words)
    if command == "scale" and len(words) == 1 and words[0].isdigit():
        reason, meant = "ID is missing", ["ID", words[0]]
    elif command == "scale" and len(words) == 1 and "=" in words[0]:
        reason, meant = "ID and INSTANCES are two words", words[0].split("=", 1)
    elif command == "scale" and len(words) == 2 and words[0].isdigit() and not words[1].isdigit():
        reason, meant = "ID comes before INSTANCES", [words[1], words[0]]
    elif command == "signal" and len(words) > 1 and _is_behind(words):
        reason, meant = "SIGNAL comes before PROCESS", [words[1], words[0], *words[2:]]
    if not reason:
        return None
    return '%s: did you mean "%s"?' % (
        reason, spelled(command, [*filter(None, [config]), *meant]))


def _is_behind(words: Sequence[str]) -> bool:
    """Is the signal the second word, and not the first?"""
    return is_signal(words[1]) and not is_signal(words[0])


def unknown_option(command: str, found: Split) -> str:
    """Of the first word that looks like an option and is none."""
    signals = _signals_in(found.unknown)
    if command == "signal" and signals:
        return 'signal: SIGNAL is written without -: did you mean "%s"?' % (
            spelled("signal " + signals[0], found.words[1:]))
    option = found.unknown[0]
    name, has_value, value = option.partition("=")
    ours = synonyms.OPTIONS.get(name)
    if ours == "":
        hint = ": CONFIG is a word of its own, without an option"
    elif ours is not None:
        with_value = has_value and OPTIONS[ours].value
        hint = ': did you mean "%s"?' % (ours + "=" + value if with_value else ours)
    elif re.match("-[0-9]+$", option):
        hint = ': a number of lines is written "-n %s"' % option[1:]
    else:
        hint = nearest_hint(name, OPTIONS) or _unknown_letter(option)
    return 'unknown option "%s"%s' % (option, hint)


def _unknown_letter(option: str) -> str:
    """Which option of a bundle is the unknown one."""
    known = [each.short[1:] for each in OPTIONS.values() if each.short]
    bundle = not option.startswith("--") and option[1] in known
    letters = [letter for letter in option[1:] if letter not in known] if bundle else []
    return ': there is no "-%s"' % letters[0] if letters else ""


def _signals_in(words: Sequence[str]) -> "List[str]":
    """The signals among options, as kill(1) has them: -9, -HUP."""
    return [word[1:] for word in words if not word.startswith("--") and is_signal(word[1:])]


def spelled(ours: str, words: Sequence[str], given: "Optional[Mapping[str, str]]" = None) -> str:
    """A whole command line: a command with what always goes with it, and the words and options that
    somebody has given, as far as it takes these; what is missing is named."""
    command, *fixed = ours.split() or [""]
    if command.startswith("-"):
        return "pupgevent " + command
    spec = COMMANDS.get(command, RUN)
    flags = [word for word in fixed if word.startswith("--")]
    flags += [name + ("=" + value if value else "") for name, value in (given or {}).items()
              if name in spec.options and name not in flags]
    config = [word for word in words if is_config(word)][:1]
    others = [word for word in fixed if word not in flags]
    others += [word for word in words if word not in config]
    if not spec.repeats:
        others = others[: len(spec.others)]
    others += spec.others[len(others) : len(spec.others) - spec.repeats]
    if spec.place is not None:
        others[spec.place : spec.place] = config
    words = ["pupgevent", *filter(None, [command]), *flags, *others]
    return " ".join(map(shlex.quote, words))


def nearest_hint(word: str, known: "Iterable[str]") -> str:
    match = nearest(word, list(known))
    return ': did you mean "%s"?' % match if match else ""
