"""The line of each value in a text of TOML or JSON, which the parsers at hand do not give.

For TOML, `check_limits` goes before the parser and keeps from it what would take it too long or too
deep. `scan_toml` goes after the parser has accepted the text, so it checks nothing again, except
for what tomli 1.2 (Python 3.6) accepts and TOML does not: HAS_HEADER.
JSON (RFC 8259, strictly, but with comments and trailing commas) is parsed here, values and lines at
once. No message repeats values of the text, only keys.
"""

import bisect
import json
import re
import sys
from typing import Dict, List, NamedTuple, NoReturn, Pattern, Set

from errors import KeyPath

if sys.version_info >= (3, 11):
    import tomllib as _toml
else:
    import tomli as _toml

#: Levels of tables and arrays in each other. Real files have six; parsers need several frames of
#: the stack for each level, and too much time for a long dotted key.
DEPTH_LIMIT = 50
#: Longest number, in characters: from a few thousand digits on `int` refuses, or takes minutes.
NUMBER_LIMIT = 400

HAS_HEADER = "a table that has a header cannot be added to by a dotted key"
_TOO_DEEP = "nested deeper than %d levels" % DEPTH_LIMIT
_TOO_LONG = "this number is longer than %d characters" % NUMBER_LIMIT


class ScanError(Exception):
    """The text cannot be used, from this line on."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


class JsonScan(NamedTuple):
    values: Dict[str, object]
    lines: Dict[KeyPath, int]


def parse_toml(text: str) -> Dict[str, object]:
    """The values of a TOML text, by tomllib or tomli; raises ValueError, or RecursionError."""
    values: Dict[str, object] = _toml.loads(text)
    return values


def scan_toml(text: str) -> Dict[KeyPath, int]:
    """The lines of all values in a valid text; raises ScanError where it nests too deeply."""
    return _TomlScanner(text).scan()


def scan_json(text: str) -> JsonScan:
    """The object in a text, and the line of everything in it; raises ScanError."""
    return _JsonScanner(text).scan()


class _Scanner:
    """A position in a text, and the lines of the values before it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._line_ends = [found.start() for found in re.finditer("\n", text)]
        self._lines: Dict[KeyPath, int] = {}

    def _line(self) -> int:
        return bisect.bisect_left(self._line_ends, self._position) + 1

    def _fail(self, reason: str) -> NoReturn:
        raise ScanError(self._line(), reason)

    def _peek(self) -> str:
        """The next character; "" at the end."""
        return self._text[self._position : self._position + 1]

    def _take(self, pattern: Pattern[str], missing: str) -> str:
        found = pattern.match(self._text, self._position)
        if found is None:
            self._fail(missing)
        self._position = found.end()
        return found.group()

    def _record(self, path: KeyPath, line: int) -> None:
        if len(path) > DEPTH_LIMIT:
            raise ScanError(line, _TOO_DEEP)
        self._lines.setdefault(path, line)


_QUOTED = (
    r'"""(?:[^"\\]|\\.|"(?!""))*(?:"{3,5}|\Z)'
    r"|'''(?:[^']|'(?!''))*(?:'{3,5}|\Z)"
    r'|"(?:[^"\\\n]|\\.)*"?'
    r"|'[^'\n]*'?"
)
_TOML_STRING = re.compile(_QUOTED, re.DOTALL)
#: What `check_limits` looks at: brackets, dots, numbers and what separates them. Strings, comments
#: and words are in it so that they are skipped.
_TOML_SHAPE = re.compile(
    r"%s|#[^\n]*|[][{}.,=\n]|(?P<number>[+-]?[0-9]\w*)|[\w-]+" % _QUOTED, re.DOTALL
)
_TOML_BLANK = re.compile(r"(?:[ \t\n]+|#[^\n]*)*")
_TOML_KEY = re.compile(r"[^\s.=\]]+")
_TOML_VALUE = re.compile(r"[^],}#\n]+")
_REST_OF_LINE = re.compile(r"[^\n]*")
_TOML_MARKS = frozenset("[]{}.,=\n")
_ACCEPTED = "this is TOML of a newer kind than pupgevent knows"


def check_limits(text: str) -> None:
    """Raise ScanError for nesting, dotted keys and numbers that would harm a TOML parser."""
    depth = dots = 0
    for found in _TOML_SHAPE.finditer(text):
        token = found.group()
        reason = ""
        if token in _TOML_MARKS:
            depth += (token in "[{") - (token in "]}")
            dots = dots + 1 if token == "." else 0
            reason = _TOO_DEEP if max(depth, dots) > DEPTH_LIMIT else ""
        elif found.lastgroup == "number" and len(token) > NUMBER_LIMIT:
            reason = _TOO_LONG
        if reason:
            raise ScanError(text.count("\n", 0, found.start()) + 1, reason)


class _TomlScanner(_Scanner):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        #: The path of the table that the last header opened.
        self._table: KeyPath = ()
        #: How many elements each array of tables has so far.
        self._counts: Dict[KeyPath, int] = {}
        #: The tables that have a header of their own.
        self._headed: Set[KeyPath] = set()

    def scan(self) -> Dict[KeyPath, int]:
        self._blank()
        while self._peek():
            if self._peek() == "[":
                self._header()
            else:
                self._pair(self._table)
            self._take(_REST_OF_LINE, _ACCEPTED)
            self._blank()
        return self._lines

    def _blank(self) -> None:
        self._take(_TOML_BLANK, _ACCEPTED)

    def _header(self) -> None:
        line = self._line()
        of_array = self._text.startswith("[[", self._position)
        self._position += 2 if of_array else 1
        *outer, last = self._key()
        path: KeyPath = ()
        for part in outer:
            path += (part,)
            self._record(path, line)
            path += self._last_element(path)
        path += (last,)
        self._record(path, line)
        if of_array:
            self._counts[path] = self._counts.get(path, 0) + 1
            path += self._last_element(path)
        self._record(path, line)
        # `[a.b]` may have noted a line for `a` already: that of the header `[a]` is better.
        self._lines[path] = line
        self._headed.add(path)
        self._table = path

    def _last_element(self, path: KeyPath) -> KeyPath:
        return (self._counts[path] - 1,) if path in self._counts else ()

    def _pair(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for part in self._key():
            if path != table and (path in self._headed or path in self._counts):
                raise ScanError(line, HAS_HEADER)
            path += (part,)
            self._record(path, line)
        self._position += 1
        self._value(path)

    def _key(self) -> List[str]:
        """The parts of a key, up to the = or ] that follows it."""
        parts = [self._key_part()]
        while self._peek() == ".":
            self._position += 1
            parts.append(self._key_part())
        return parts

    def _key_part(self) -> str:
        self._blank()
        quoted = self._peek() in ('"', "'")
        word = self._take(_TOML_STRING if quoted else _TOML_KEY, _ACCEPTED)
        self._blank()
        if not quoted:
            return word
        return str(parse_toml("k = " + word)["k"]) if "\\" in word else word[1:-1]

    def _value(self, path: KeyPath) -> None:
        self._blank()
        first = self._peek()
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            self._take(_TOML_STRING if first in ('"', "'") else _TOML_VALUE, _ACCEPTED)

    def _array(self, path: KeyPath) -> None:
        self._past_bracket_or_comma()
        index = 0
        while self._peek() != "]":
            element = path + (index,)
            self._record(element, self._line())
            self._value(element)
            self._past_bracket_or_comma(",")
            index += 1
        self._position += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._past_bracket_or_comma()
        while self._peek() != "}":
            self._pair(path)
            self._past_bracket_or_comma(",")
        self._position += 1

    def _past_bracket_or_comma(self, kind: str = "[{") -> None:
        self._blank()
        if self._peek() in kind:
            self._position += 1
            self._blank()


_JSON_BLANK = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_JSON_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_JSON_LITERAL = re.compile(
    r"(?:true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?![\w.+-])",
    re.ASCII,
)


class _JsonScanner(_Scanner):
    def scan(self) -> JsonScan:
        if self._next() != "{":
            self._fail("the file does not hold an object: { is missing")
        values = self._object(())
        if self._next():
            self._fail("something follows the end of the object")
        return JsonScan(values, self._lines)

    def _next(self) -> str:
        """Skip blanks and comments; the next character then, "" at the end."""
        self._take(_JSON_BLANK, "")
        if self._text.startswith("/*", self._position):
            self._fail("this comment does not end")
        return self._peek()

    def _value(self, path: KeyPath) -> object:
        first = self._next()
        self._record(path, self._line())
        if first == "{":
            return self._object(path)
        if first == "[":
            return self._array(path)
        return self._string("") if first == '"' else self._literal()

    def _object(self, path: KeyPath) -> Dict[str, object]:
        values: Dict[str, object] = {}
        self._position += 1
        while self._next() != "}":
            line = self._line()
            name = self._string("a key in double quotes is missing")
            if name in values:
                raise ScanError(line, "the same key stands twice in this object")
            if self._next() != ":":
                self._fail("a : is missing after the key")
            self._position += 1
            self._record(path + (name,), line)
            values[name] = self._value(path + (name,))
            self._comma("}")
        self._position += 1
        return values

    def _array(self, path: KeyPath) -> List[object]:
        values: List[object] = []
        self._position += 1
        while self._next() != "]":
            values.append(self._value(path + (len(values),)))
            self._comma("]")
        self._position += 1
        return values

    def _comma(self, closing: str) -> None:
        following = self._next()
        if following == ",":
            self._position += 1
        elif following != closing:
            self._fail("a comma or %s is missing" % closing)

    def _string(self, missing: str) -> str:
        if self._peek() != '"':
            self._fail(missing)
        line = self._line()
        unended = "this string does not end on its line, or has a wrong escape in it"
        value = str(json.loads(self._take(_JSON_STRING, unended)))
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise ScanError(line, "half of a surrogate pair stands in this string")
        return value

    def _literal(self) -> object:
        line = self._line()
        word = self._take(_JSON_LITERAL, "a value is missing, or is not valid JSON")
        if len(word) > NUMBER_LIMIT:
            raise ScanError(line, _TOO_LONG)
        value: object = json.loads(word)
        return value
