"""TOML 1.0 as text: keys, values and comments one by one, each where it belongs.

The package `toml` writes whole documents, without comments.
"""

import re
import textwrap
from typing import List

#: Longest line of a comment in words, in characters.
WIDTH = 98

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_SHORT_ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def key(name: str) -> str:
    """A key, in quotes where it needs them."""
    return name if _BARE_KEY.match(name) else _basic(name)


def assignment(name: str, item: object) -> str:
    """`key = value`; raises ValueError as `value` does."""
    return "%s = %s" % (key(name), value(item))


def value(item: object) -> str:
    """A value on one line, but for strings of several; raises ValueError for what TOML has not."""
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, (int, float)):
        return repr(item)
    if isinstance(item, str):
        return string(item)
    if isinstance(item, (list, tuple)):
        return "[%s]" % ", ".join(map(value, item))
    if isinstance(item, dict):
        inside = ", ".join(assignment(str(name), each) for name, each in item.items())
        return "{ %s }" % inside if inside else "{}"
    raise ValueError("It is no value that a key can have")


def string(text: str) -> str:
    """A string in the quotes that need the fewest escapes."""
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("Half of a surrogate pair stands in it")
    plain = all(c.isprintable() or c in "\t\n" for c in text)
    if plain and "\n" in text and "'''" not in text and not text.endswith("'"):
        return "'''\n%s'''" % text
    if plain and "\n" not in text and "'" not in text and ('"' in text or "\\" in text):
        return "'%s'" % text
    return _basic(text)


def _basic(text: str) -> str:
    return '"%s"' % "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    code = ord(character)
    return _SHORT_ESCAPES.get(character) or ("\\u%04X" if code < 0x10000 else "\\U%08X") % code


def comment(text: str) -> List[str]:
    """The lines of a comment in words."""
    lines = textwrap.wrap(
        _printable(text), WIDTH - 2, break_long_words=False, break_on_hyphens=False)
    return ["# " + line for line in lines]


def quoted_line(text: str) -> str:
    """A comment that repeats text of somebody else's as it is, on one line."""
    return "# " + _printable(text)


def disabled(line: str) -> List[str]:
    """An assignment behind a #, on as many lines as it has."""
    return ["#" + _printable(part) for part in line.split("\n")]


def _printable(text: str) -> str:
    """Without what a comment may not hold: control characters, halves of surrogate pairs."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)
