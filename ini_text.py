"""An INI file as supervisord reads it, with the line of each option.

supervisord uses Python's configparser with `;` and `#` behind a blank as comments, also in a line
and in quotes. configparser tells no lines, so the same rules are applied here; a test compares the
two. What is indented more than its option continues it.
"""

import re
from typing import Dict, List, NamedTuple, Optional, Tuple

from errors import ConfigurationError

_HEADER = re.compile(r"\[([^]]+)\]")
_OPTION = re.compile(r"(.*?)\s*(?:[=:]\s*(.*))\Z")
_COMMENT = re.compile(r"(?:^|(?<=\s))[;#]")
#: The section whose options all others have as well.
_COMMON = "DEFAULT"


class Option(NamedTuple):
    value: str
    line: int


class IniSection(NamedTuple):
    name: str
    line: int
    #: By name, in small letters.
    options: Dict[str, Option]


def read(path: str, text: str) -> List[IniSection]:
    """The sections of a file, in its order; raises ConfigurationError."""
    return _Reader(path).read(text.replace("\r\n", "\n").split("\n"))


class _Reader:
    def __init__(self, path: str) -> None:
        self._path = path
        self._sections: Dict[str, IniSection] = {}
        self._lines: Dict[Tuple[str, str], List[str]] = {}
        self._section: Optional[IniSection] = None
        #: Of the option that an indented line continues; None: there is none.
        self._open: Optional[List[str]] = None
        self._indent = 0

    def read(self, lines: List[str]) -> List[IniSection]:
        for number, line in enumerate(lines, 1):
            self._take(number, line)
        for (section, name), parts in self._lines.items():
            options = self._sections[section].options
            options[name] = options[name]._replace(value="\n".join(parts).rstrip())
        common = self._sections.pop(_COMMON, IniSection(_COMMON, 0, {})).options
        return [each._replace(options=dict(common, **each.options))
                for each in self._sections.values()]

    def _take(self, number: int, line: str) -> None:
        text = line.strip()
        comment = None if text[:1] in (";", "#") else _COMMENT.search(line)
        text = "" if text[:1] in (";", "#") else line[:comment.start() if comment else None].strip()
        if not text:
            # An empty line belongs to a value, one with a comment does not.
            if self._open is not None and not line.strip():
                self._open.append("")
            return
        indent = len(line) - len(line.lstrip())
        if self._open is not None and indent > self._indent:
            self._open.append(text)
            return
        self._indent = indent
        header = _HEADER.match(text)
        if header:
            self._begin(header.group(1), number)
        else:
            self._add(text, number)

    def _begin(self, name: str, number: int) -> None:
        self._section = self._sections.setdefault(name, IniSection(name, number, {}))
        self._open = None

    def _add(self, text: str, number: int) -> None:
        if self._section is None:
            raise ConfigurationError(self._path, number, "this is in no [section]")
        found = _OPTION.match(text)
        if found is None or not found.group(1):
            raise ConfigurationError(self._path, number, "this is no [section], option or comment")
        name = found.group(1).lower()
        self._section.options[name] = Option("", number)
        self._open = self._lines[self._section.name, name] = [found.group(2).strip()]
