"""The text of a configuration file as plain values, and the line of each of them.

A file whose name ends in .json or .jsonc is JSON with comments; any other is TOML 1.0. Only the
name decides; the message about a file of the other kind says so.

`tomllib` (Python 3.11), or its backport `tomli`, parses TOML: a file that it refuses is refused,
and the values are those that it returns. The package `toml` does not parse. Version 0.10.2 misreads
valid files in silence (strings over several lines, keys in quotes), fails on others with odd
exceptions (arrays of mixed values, multi-line strings in arrays), accepts invalid ones, and
needs seconds for one comment of a megabyte. It writes TOML well enough: `schema` uses it for the
defaults of the reference.

A valid file is refused only if a parser would need too much time or stack for it: SIZE_LIMIT here,
the limits of depth and digits in `scanners`.

No message repeats values of the file, only keys: there may be secrets in it.
"""

import codecs
import errno
import os
import re
import stat
from typing import Dict, NamedTuple, Union

import scanners
from errors import ConfigurationError, KeyPath
from scanners import ScanError

#: Largest file that is read, in bytes: far more than any real one has, and parsed in a moment.
SIZE_LIMIT = 1024 * 1024

#: A text that begins like this is JSON, and can never be TOML: blanks, comments and a brace.
_LIKE_JSON = re.compile(r"\s*(?:/[/*]|\{)")
#: A text that begins like this is TOML, and can never be JSON: a comment, a key, a header.
_LIKE_TOML = re.compile(r"\s*(?:#|\[+[ \t]*[A-Za-z_]|[\w.-]+[ \t]*=)")

#: How the messages of `tomllib` begin, and what is said instead: its own may repeat keys and
#: characters of the file, and differ from one version to the next.
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
    """`values` are dicts, lists, strings, numbers and booleans; in TOML also dates and times, in
    JSON also None. They are `object` until a validator has looked at them."""

    values: Dict[str, object]
    lines: Dict[KeyPath, int]
    #: Messages about JSON speak of objects, not of tables.
    is_json: bool = False

    def line(self, *path: Union[str, int]) -> int:
        """The line of a value, which counts from 1, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read(path: str) -> Document:
    """Read a file as the kind that its name says; raises ConfigurationError."""
    return parse(path, read_text(path))


def read_text(path: str) -> str:
    """The text of any file of UTF-8; raises ConfigurationError."""
    return _decode(path, _read_bytes(path))


def parse(path: str, text: str) -> Document:
    """The text that a file has, or is to have; raises ConfigurationError."""
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
    # Some editors write a byte order mark, which is no part of the text.
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
    """Tell it by its byte order mark, or by the zero byte in each of its first two characters."""
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
    # In TOML a CRLF is the same as an LF.
    text = original.replace("\r\n", "\n")
    try:
        scanners.check_limits(text)
        return Document(_parse_toml(original), scanners.scan_toml(text))
    except ScanError as error:
        raise ConfigurationError(path, error.line, error.reason) from None


def _parse_toml(text: str) -> Dict[str, object]:
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
