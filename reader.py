"""Walks a document along the records of `keys`: plain values in, checked fields out."""

import os
import re
from typing import Any, Dict, NoReturn, Optional

import checks
import keys
import paths
from documents import Document
from errors import ConfigurationError
from records import Derived, Fields, Key, Required, Table
from wording import Path, nearest, show, spelled

#: Two words this much alike are one word with a slip in it.
_SLIP = 0.8


def read(document: Document, path: str, everything: bool) -> Fields:
    """The fields of the top level, those of its tables inside; raises ConfigurationError.

    `everything` lets the keys through that are checked but not yet supported.
    """
    return _Reader(document, path, everything).read()


class _Reader:
    def __init__(self, document: Document, path: str, everything: bool) -> None:
        self._document = document
        self._path = path
        self._everything = everything
        self._folder = os.path.dirname(paths.absolute(path))
        stem = os.path.splitext(os.path.basename(path))[0]
        name = re.sub("[^%s]" % keys.NAME_LETTERS, "-", stem)[: keys.LONGEST_NAME]
        self._top: Fields = {"folder": self._folder, "stem": name}

    def read(self) -> Fields:
        self._table(keys.TOP, self._document.values, (), self._top)
        return self._top

    def _table(self, table: Table, values: Any, where: Path, own: Fields) -> Fields:
        if not isinstance(values, dict):
            self._refuse(where, "it is not a table")
        self._only_known(table, values, where)
        for key in table.keys:
            own[key.field] = self._field(key, values, where, own)
        return own

    def _only_known(self, table: Table, values: Dict[str, Any], where: Path) -> None:
        for name in values:
            if name not in table.names and not (table is keys.TOP and name in keys.IGNORED):
                self._refuse(where, unknown(table, name), (name,))

    def _field(self, key: Key, values: Dict[str, Any], where: Path, own: Fields) -> Any:
        if key.name not in values:
            return self._default(key, where, own)
        result = self._value(key, values[key.name], where + (key.name,))
        if not key.supported and not self._everything:
            self._refuse(where + (key.name,), "not yet supported")
        return result

    def _default(self, key: Key, where: Path, own: Fields) -> Any:
        if isinstance(key.default, Required):
            self._refuse(where, "%s is missing: it is required" % show(key.name))
        if isinstance(key.default, Derived):
            return key.default.find(own, self._top)
        return self._value(key, key.default, where + (key.name,))

    def _value(self, key: Key, value: Any, where: Path) -> Any:
        if isinstance(key.check, checks.Check):
            return self._converted(key, key.check, value, where)
        if not key.check.many:
            return self._table(key.check, value, where, {})
        if not isinstance(value, list) or not value:
            self._refuse(where, "it is not an array of tables, %s in TOML" % key.check.header)
        return [self._table(key.check, v, where + (i,), {}) for i, v in enumerate(value)]

    def _converted(self, key: Key, check: checks.Check, value: Any, where: Path) -> Any:
        try:
            return check.convert(value, self._folder)
        except checks.Wrong as wrong:
            shown = "the value" if key.secret else show(value)
            reason = wrong.reason or "%s is not %s" % (shown, check.allowed)
            named = where if key.secret else where + wrong.inside
            self._refuse(named, reason, () if named != where else wrong.inside)

    def _refuse(self, named: Path, reason: str, inside: Path = ()) -> NoReturn:
        """End with the line about a value; `inside` leads on to what the message hides."""
        line = self._document.line(*named, *inside)
        prefix = spelled(named) + ": " if named else ""
        raise ConfigurationError(self._path, line, prefix + reason)


def unknown(table: Table, name: str) -> str:
    """What to say of a key that the table does not have."""
    if name in keys.PUPS:
        return "%s is a key of Pup that pupgevent does not have" % show(name)
    start = "unknown key %s: " % show(name)
    if nearest(name, table.names, _SLIP):
        return start + "did you mean %s?" % show(nearest(name, table.names, _SLIP))
    inner, outer = _inner(table, name), _outer(table, name)
    if inner:
        return start + "did you mean %s?" % show(inner)
    if outer:
        return start + "it belongs to %s, above this" % outer.header
    if nearest(name, table.names):
        return start + "did you mean %s?" % show(nearest(name, table.names))
    return start + "known here are %s" % ", ".join(table.names)


def _inner(table: Table, name: str) -> Optional[str]:
    """A key like it in a table inside this one: it lacks its table's name."""
    for key in table.keys:
        meant = nearest(name, key.check.names, _SLIP) if isinstance(key.check, Table) else None
        if meant:
            return "%s.%s" % (key.name, meant)
    return None


def _outer(table: Table, name: str) -> Optional[Table]:
    """A table around this one with a key like it: in TOML it slips under the header above it."""
    around = [outer for outer in keys.TABLES if table.title.startswith(outer.title)]
    having = [outer for outer in around if outer is not table and nearest(name, outer.names, _SLIP)]
    return max(having, key=lambda outer: len(outer.title), default=None)
