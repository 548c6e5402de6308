"""The text of a configuration file as plain values, and the line of each of them.

A name that ends in .json or .jsonc is JSON with comments (`jsonc`); anything else
is TOML, read with the package `toml`. That package misreads some input in silence and
fails with odd exceptions on other, so a second parser referees: `tomllib`, or its
backport `tomli` below Python 3.11. What the referee refuses is refused; what only `toml`
refuses, or reads as something else, is refused as well, with a word on how to write it.

No message repeats what stands in the file, keys aside: there may be secrets in it.
"""

import codecs
import datetime
import errno
import os
import re
import stat
from typing import Any, Dict, List, NamedTuple, Optional, Union

import toml

import scanners
from errors import ConfigurationError
from scanners import ScanError, Statement
from wording import Path, spelled

#: Largest file that is read, in bytes: far above any real one, and soon parsed.
SIZE_LIMIT = 1024 * 1024

_UNREAD = "the package toml cannot read it"
_MISREAD = "the package toml misreads it"

#: How the referee's messages begin, and what is said instead: its own words may repeat
#: keys and characters of the file, and differ from one version to the next.
_REFUSALS = (
    ("Invalid statement", "this is no key, table header or comment"),
    ("Expected newline or end", "something follows where the line should end"),
    ("Expected '=' after", "an = is missing after the key"),
    ("Expected ']' at", "the table header does not end with ]"),
    ("Expected ']]' at", "the table header does not end with ]]"),
    ("Expected", "a string does not end"),
    ("Unterminated string", "a string does not end"),
    ("Unclosed array", "an array does not end, or a comma is missing in it"),
    ("Unclosed inline table", "an inline table does not end, or a comma is missing in it"),
    ("Found invalid character", "a control character is not allowed here"),
    ("Illegal character", "this character is not allowed in a string of one line"),
    ("Invalid initial character", "a key is missing, or needs quotes"),
    ("Unescaped", "this backslash is not an escape: write two, or use single quotes"),
    ("Invalid hex value", "this escape is not followed by its hexadecimal digits"),
    ("Escaped character is not", "this escape is not a Unicode character"),
    ("Invalid date", "this date or time does not exist"),
    ("Invalid value", "this value is not valid TOML (strings stand in quotes)"),
    ("Cannot declare", "this table is there already"),
    ("Cannot overwrite", "this key or table is there already"),
    ("Cannot mutate", "what is written in one piece cannot be added to"),
    ("Cannot redefine", "this table is there already, made by a dotted key"),
    ("Duplicate inline table key", "this key is there already"),
)

#: What a statement looks like that `toml` stumbles over, and how to write it instead.
_REWRITES = (
    (r"""[^#]*(\"{3}|'{3})""", "write the string on one line, in simple quotes"),
    (r"\[", "write the table header plainly, without spaces, quotes or escapes"),
    (r"(?![\w-]+[ \t]*=)", "write the key plainly, below the header of its table"),
    (r"[^=]*=[ \t]*\{", "write the inline table as a table of its own, with a header"),
    (
        r"[^=]*=[ \t]*\[",
        "write the array on one line, its values of one kind and its strings simple:"
        " no quotes, brackets, commas, # or escapes in them",
    ),
    (r"[^=]*=[ \t]*[+-]?[0-9.]", "write the number in plain decimal digits"),
    (r"", "write the value more simply, without quotes or escapes in it"),
)


class Document(NamedTuple):
    """`values` are dicts, lists, strings, numbers, booleans; a date or None cannot be excluded."""

    values: Dict[str, Any]
    lines: Dict[Path, int]

    def line(self, *path: Union[str, int]) -> int:
        """The line of a value, which counts from 1, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read(path: str) -> Document:
    """Read a file by the way its name ends; raises ConfigurationError."""
    text = _text(path, _content(path))
    if path.lower().endswith((".json", ".jsonc")):
        return _read_json(path, text)
    return _read_toml(path, text)


def _content(path: str) -> bytes:
    """The bytes of a regular file; a FIFO or a device would never end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            content = _bytes_of(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise ConfigurationError(path, None, _cannot_read(error)) from None
    if len(content) > SIZE_LIMIT:
        raise ConfigurationError(path, None, "is larger than %d bytes" % SIZE_LIMIT)
    return content


def _bytes_of(descriptor: int) -> bytes:
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, "is a folder")
    if not stat.S_ISREG(kind):
        raise ValueError("not a regular file")
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(SIZE_LIMIT + 1)


def _cannot_read(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "is a folder, not a file"
    if isinstance(error, OSError) and error.errno:
        return "cannot be read: %s" % os.strerror(error.errno).lower()
    return "is not a file that can be read"


def _text(path: str, content: bytes) -> str:
    if content.startswith(codecs.BOM_UTF8):
        reason = "starts with a byte order mark: save it as UTF-8 without one"
        raise ConfigurationError(path, 1, reason)
    nul = content.find(b"\0")
    if nul >= 0:
        raise ConfigurationError(path, _line_of(content, nul), "holds a NUL byte: is it text?")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(path, _line_of(content, error.start), "is not UTF-8") from None


def _line_of(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1


def _read_json(path: str, text: str) -> Document:
    try:
        return Document(*scanners.scan_json(text))
    except ScanError as error:
        raise ConfigurationError(path, error.line, error.reason) from None


def _read_toml(path: str, original: str) -> Document:
    # In TOML a CRLF is an LF; `toml` stumbles over it, so it never sees one.
    text = original.replace("\r\n", "\n")
    try:
        scanners.check_depth(text)
        values = _referees_reading(original)
        scan = scanners.scan_toml(text)
    except ScanError as error:
        raise ConfigurationError(path, error.line, error.reason) from None
    _agree(path, text, scan.statements)
    return Document(values, scan.lines)


def _agree(path: str, text: str, statements: List[Statement]) -> None:
    """Refuse what `toml` does not read as the referee does."""
    if not _trouble(text):
        return
    statement = _stumbling_block(text, statements)
    trouble = _trouble(text[: statement.end] + "\n") or _MISREAD
    source = text[statement.start : statement.end]
    advice = next(words for pattern, words in _REWRITES if re.match(pattern, source, re.DOTALL))
    reason = "%s: %s: %s" % (spelled(statement.path) or "this file", trouble, advice)
    raise ConfigurationError(path, statement.line, reason)


def _referees_reading(text: str) -> Dict[str, Any]:
    try:
        return scanners.referee(text)
    except RecursionError:
        raise ScanError(1, "nested too deeply") from None
    except ValueError as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)$", str(error))
        reason = _refusal(str(error))
        if found is None:
            raise ScanError(len(text.rstrip().split("\n")), reason + " (end of file)") from None
        raise ScanError(int(found.group(1)), reason + " (column %s)" % found.group(2)) from None


def _refusal(message: str) -> str:
    plain = message.replace("Can not", "Cannot").replace('"', "'")
    for start, reason in _REFUSALS:
        if plain.startswith(start):
            return reason
    return "this is not valid TOML"


def _trouble(text: str) -> Optional[str]:
    """What is wrong with the way `toml` reads a text that the referee accepts; None if nothing."""
    try:
        second = toml.loads(text)
    except Exception:  # IndexError, AttributeError, TypeError and more come out of it
        return _UNREAD
    return None if _same(scanners.referee(text), second) else _MISREAD


def _stumbling_block(text: str, statements: List[Statement]) -> Statement:
    """The statement with which the trouble begins: the text up to it is read well."""
    well, troubled = 0, len(statements)
    if not statements:
        return Statement(0, len(text), 1, ())
    while troubled - well > 1:
        middle = (well + troubled) // 2
        if _trouble(text[: statements[middle - 1].end] + "\n"):
            troubled = middle
        else:
            well = middle
    return statements[troubled - 1]


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same, types included; scanners.DEPTH_LIMIT bounds them."""
    if isinstance(one, dict):
        alike = isinstance(other, dict) and one.keys() == other.keys()
        return alike and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        alike = isinstance(other, list) and len(one) == len(other)
        return alike and all(map(_same, one, other))
    if isinstance(one, (datetime.date, datetime.time)):
        # No key takes one, so all that matters is that it stays one, to be refused as one.
        return isinstance(other, (datetime.date, datetime.time))
    return type(one) is type(other) and (one == other or (one != one and other != other))
