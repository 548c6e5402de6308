"""Files of environment variables: a `NAME=value` a line, as `docker run --env-file` reads them.

    # a comment; it stands on a line of its own
    NAME=value          everything behind the = is the value, but for spaces at its ends
    NAME='va lue'       what stands between single quotes, as it is
    NAME="va\\nlue"      the same between double quotes, where a backslash is read as in C
    export NAME=value   so that a shell can read the file, too
    NAME                the value that pupgevent's own environment has; without one it is left out

Quotes are what docker does not have and others do; within them a value may go on over several
lines, and a comment may stand behind them. Nothing is replaced within a value. No message repeats a
value, since it may be a secret.
"""

import re
from typing import Dict, Mapping, Tuple

#: Largest file, in bytes: the kernel takes no environment that comes near it (execve(2)).
LARGEST = 2**20

#: The rest of a line that says nothing more.
_END = re.compile(r"[ \t]*(?:#[^\n]*)?\n")

#: A name and the = behind it, if there is one.
_NAME = re.compile(r"[ \t]*(?:export[ \t]+)?([^\s=#'\"]+)[ \t]*(=?)[ \t]*")

_SINGLE_QUOTED = re.compile(r"'([^']*)'")
_DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r"([^\n]*)")

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
#: What a backslash makes of the character behind it; of all others, themselves.
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\n": ""}


class BadLine(Exception):
    """A line that cannot be read; lines count from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


def parse(text: str, environment: Mapping[str, str]) -> Dict[str, str]:
    """The variables of a text, of those with the same name the last; raises BadLine."""
    text = text.replace("\r\n", "\n") + "\n"
    variables: Dict[str, str] = {}
    place = 0
    while place < len(text):
        blank = _END.match(text, place)
        place = blank.end() if blank else _read_variable(text, place, variables, environment)
    return variables


def _read_variable(
    text: str, place: int, variables: Dict[str, str], environment: Mapping[str, str]
) -> int:
    """Add the variable that begins there; returns the beginning of the next line."""
    found = _NAME.match(text, place)
    if found is None:
        raise _bad(text, place, "it is not NAME=value")
    name, equals = found.groups()
    place = found.end()
    if equals:
        value, place = _read_value(text, place)
        if "\0" in name + value:
            raise _bad(text, place, "it has a NUL character in it")
        variables[name] = value
    elif name in environment:
        variables[name] = environment[name]
    end = _END.match(text, place)
    if end is None:
        reason = "there is text behind the closing quote" if equals else "it is not NAME=value"
        raise _bad(text, place, reason)
    return end.end()


def _read_value(text: str, place: int) -> Tuple[str, int]:
    """The value that begins there, and the place behind it."""
    pattern = {"'": _SINGLE_QUOTED, '"': _DOUBLE_QUOTED}.get(text[place], _BARE)
    found = pattern.match(text, place)
    if found is None:
        raise _bad(text, place, "its quote is never closed")
    value = found.group(1)
    if pattern is _BARE:
        value = value.rstrip(" \t")
    elif pattern is _DOUBLE_QUOTED:
        value = _ESCAPED.sub(lambda each: _ESCAPES.get(each.group(1), each.group(1)), value)
    return value, found.end()


def _bad(text: str, place: int, reason: str) -> BadLine:
    return BadLine(text.count("\n", 0, place) + 1, reason)
