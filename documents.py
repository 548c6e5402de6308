"""The text of a configuration file as plain values, and the line of each of them.

A name that ends in .json or .jsonc is JSON with comments; anything else is TOML 1.0. Which
of the two it is follows from the name alone, and a file of the other kind is told so.

`tomllib` (Python 3.11), or its backport `tomli`, reads TOML: what it refuses is refused, its
values are the ones that count. The package `toml` does not take part. Version 0.10.2 misreads
valid files in silence (strings over several lines, keys in quotes), fails on others with odd
exceptions (arrays of mixed values, multi-line strings in arrays), accepts invalid ones, and
needs seconds for one comment of a megabyte. What it says could only be thrown away: where it
agrees it adds nothing, where it does not it is wrong. It writes TOML well enough: `schema`
has it spell the defaults of the reference.

A file is refused for its size only, and only where it would take a parser's time or stack beyond
reason: SIZE_LIMIT here, the limits of depth and digits in `scanners`.

No message repeats what stands in the file, keys aside: there may be secrets in it.
"""

import codecs
import errno
import os
import re
import stat
from typing import Any, Dict, NamedTuple, Union

import scanners
from errors import ConfigurationError, KeyPath
from scanners import ScanError

#: Largest file that is read, in bytes: far above any real one, and soon parsed.
SIZE_LIMIT = 1024 * 1024

#: What begins like this is JSON, and can never be TOML: blanks, comments and a brace.
_LIKE_JSON = re.compile(r"\s*(?:/[/*]|\{)")
#: What begins like this is TOML, and can never be JSON: a comment, a key, a header.
_LIKE_TOML = re.compile(r"\s*(?:#|\[+[ \t]*[A-Za-z_]|[\w.-]+[ \t]*=)")

#: How the referee's messages begin, and what is said instead: its own words may repeat
#: keys and characters of the file, and differ from one version to the next.
_PARSER_MESSAGES = (
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
    ("Cannot redefine", scanners.HAS_HEADER),
    ("Duplicate inline table key", "this key is there already"),
)


class Document(NamedTuple):
    """`values` are dicts, lists, strings, numbers, booleans; a date or None cannot be excluded."""

    values: Dict[str, Any]
    lines: Dict[KeyPath, int]
    #: Whether it is JSON: messages speak of objects, not of tables.
    is_json: bool = False

    def line(self, *path: Union[str, int]) -> int:
        """The line of a value, which counts from 1, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read(path: str) -> Document:
    """Read a file by the way its name ends; raises ConfigurationError."""
    text = _decode(path, _read_bytes(path))
    if path.lower().endswith((".json", ".jsonc")):
        return _read_json(path, text)
    return _read_toml(path, text)


def _read_bytes(path: str) -> bytes:
    """The bytes of a regular file; a FIFO or a device would never end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            content = _bytes_of_file(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise ConfigurationError(path, None, _reason_unreadable(error)) from None
    if len(content) > SIZE_LIMIT:
        raise ConfigurationError(path, None, "is larger than %d bytes" % SIZE_LIMIT)
    return content


def _bytes_of_file(descriptor: int) -> bytes:
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, "is a folder")
    if not stat.S_ISREG(kind):
        raise ValueError("not a regular file")
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(SIZE_LIMIT + 1)


def _reason_unreadable(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "is a folder, not a file"
    if isinstance(error, OSError) and error.errno:
        return "cannot be read: %s" % os.strerror(error.errno).lower()
    return "is not a file that can be read"


def _decode(path: str, content: bytes) -> str:
    # A byte order mark is how some editors say UTF-8, and no part of the text.
    content = content[len(codecs.BOM_UTF8) :] if content.startswith(codecs.BOM_UTF8) else content
    if _is_utf16(content):
        raise ConfigurationError(path, 1, "is UTF-16: save it as UTF-8")
    nul = content.find(b"\0")
    if nul >= 0:
        raise ConfigurationError(path, _line_of(content, nul), "holds a NUL byte: is it text?")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(path, _line_of(content, error.start), "is not UTF-8") from None


def _is_utf16(content: bytes) -> bool:
    """By its mark, or by the zero byte that each of its first two ASCII characters has."""
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    zeros = [byte == 0 for byte in content[:4]]
    return marked or zeros in ([False, True] * 2, [True, False] * 2)


def _line_of(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1


def _read_json(path: str, text: str) -> Document:
    try:
        scan = scanners.scan_json(text)
    except ScanError as error:
        hint = ""
        if _LIKE_TOML.match(text):
            hint = "; this looks like TOML: let its name end in .toml"
        raise ConfigurationError(path, error.line, error.reason + hint) from None
    return Document(scan.values, scan.lines, is_json=True)


def _read_toml(path: str, original: str) -> Document:
    found = _LIKE_JSON.match(original)
    if found:
        line = original.count("\n", 0, found.end()) + 1
        reason = "this looks like JSON: let its name end in .json"
        raise ConfigurationError(path, line, reason)
    # In TOML a CRLF is an LF.
    text = original.replace("\r\n", "\n")
    try:
        scanners.check_limits(text)
        return Document(_parse_toml(original), scanners.scan_toml(text))
    except ScanError as error:
        raise ConfigurationError(path, error.line, error.reason) from None


def _parse_toml(text: str) -> Dict[str, Any]:
    try:
        return scanners.parse_toml(text)
    except RecursionError:
        raise ScanError(1, "nested too deeply") from None
    except ValueError as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)$", str(error))
        reason = _plain_reason(str(error))
        if found is None:
            raise ScanError(len(text.rstrip().split("\n")), reason + " (end of file)") from None
        raise ScanError(int(found.group(1)), reason + " (column %s)" % found.group(2)) from None


def _plain_reason(message: str) -> str:
    plain = message.replace("Can not", "Cannot").replace('"', "'")
    for start, reason in _PARSER_MESSAGES:
        if plain.startswith(start):
            return reason
    return "this is not valid TOML"
