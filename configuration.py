"""The configuration file, read and checked: a `Configuration`, or a line for each mistake.

`load` is pure: it reads the file and what the file names (folders, users), starts
nothing and may run in a worker thread. The tuples hold what pupgevent works with:
every path is absolute, every time is float seconds, every default is filled in, and
two of them are equal exactly when nothing differs, which is what a reload looks at.
"""

import os
import pickle
import re
from typing import (
    Any,
    BinaryIO,
    Dict,
    List,
    NamedTuple,
    Optional,
    Set,
    Tuple,
)

import conflicts
import documents
import keys
import paths
import validators
from documents import Document
from errors import ConfigurationError, KeyPath, Mistake, format_path, format_value, nearest
from model import Cluster, Configuration, Control, Dashboard, Health, Logger, Process, Tls
from schema import Derived, Fields, Key, Required, Table

#: The keys in Markdown, as the README has them.
reference = keys.reference


def load(path: str, everything: bool = False) -> Configuration:
    """The configuration in a file; raises ConfigurationError with all that is wrong with it.

    `everything` lets the keys through that are checked but not yet supported.
    """
    return read(path, everything)[0]


def read(path: str, everything: bool = False) -> Tuple[Configuration, Document]:
    """As `load`, and with it the document, which is_valid the lines."""
    document = documents.read(path)
    reading = read_fields(document, path, everything)
    configuration = _build_configuration(path, reading.fields)
    mistakes = list(reading.mistakes)
    for conflict in conflicts.find_all(configuration):
        # What rests on a value that is wrong itself may be right once that is.
        if all(map(reading.is_valid, (conflict.where, *conflict.others))):
            message = "%s: %s" % (format_path(conflict.where), conflict.reason)
            mistakes.append(Mistake(document.line(*conflict.where), message))
    if mistakes:
        first, *further = sorted(mistakes, key=lambda mistake: mistake.line or 0)
        raise ConfigurationError(path, first.line, first.message, further)
    return configuration, document


def write_pickled(path: str, file: BinaryIO) -> None:
    """For another process of the same `format_version`: that, what `load` finds without its
    processes, and each of these, as pickles; or that, and what a ConfigurationError holds."""
    pickle.dump(format_version(), file)
    try:
        found = load(path)
    except ConfigurationError as error:
        pickle.dump((error.args, vars(error)), file)
        return
    for each in (found._replace(processes=()),) + found.processes:
        pickle.dump(each, file)


def format_version() -> str:
    """Differs wherever the same file could be read in another way."""
    kinds = (Logger, Control, Dashboard, Health, Tls, Cluster, Process, Configuration)
    return "%s\n%s" % (reference(), [kind._fields for kind in kinds])


def _build_configuration(path: str, top: Fields) -> Configuration:
    return Configuration(
        path=path,
        real_path=os.path.realpath(path),
        folder=top["folder"],
        name=top["name"],
        processes=tuple(_build_process(fields) for fields in top["processes"] or ()),
        logger=Logger(**top["logger"]),
        control=Control(**top["control"]),
        dashboard=Dashboard(**top["dashboard"]) if top["dashboard"] else None,
    )


def _build_process(fields: Fields) -> Process:
    cluster = _build_cluster(fields["cluster"]) if fields["cluster"] else None
    changed = {"logger": Logger(**fields["logger"]), "cluster": cluster,
               "real_cwd": os.path.realpath(fields["cwd"])}
    return Process(**dict(fields, **changed))


def _build_cluster(fields: Fields) -> Cluster:
    health = Health(**fields["health"]) if fields["health"] else None
    tls = Tls(**fields["tls"]) if fields["tls"] else None
    return Cluster(**dict(fields, health=health, tls=tls))


# Walks a document along the records of `keys`: plain values in, checked fields out.


#: Two words this much alike are one word with a slip in it.
_TYPO_CUTOFF = 0.8

#: In the place of a value that is wrong, until its default takes it.
_UNREAD = object()

_QUOTED_OR_TABLE = re.compile(r'"(?:[^"\\]|\\.)*"|\ba table\b')


class FieldsRead(NamedTuple):
    """A document as fields; where something is wrong with a key, its default takes its place."""

    fields: Fields
    #: In no order.
    mistakes: List[Mistake]
    #: Keys of which the file's value is not known: wrong, or meant by an unknown key.
    invalid: Set[KeyPath]

    def is_valid(self, path: KeyPath) -> bool:
        return not any(path[:length] in self.invalid for length in range(len(path) + 1))


def read_fields(document: Document, path: str, everything: bool) -> FieldsRead:
    """The fields of the top level, those of its tables inside, and all that is wrong with them.

    `everything` lets the keys through that are checked but not yet supported.
    """
    return _Reader(document, path, everything).read()


class _Reader:
    def __init__(self, document: Document, path: str, everything: bool) -> None:
        self._document = document
        self._everything = everything
        self._folder = os.path.dirname(paths.absolute(path))
        stem = os.path.splitext(os.path.basename(path))[0]
        name = re.sub("[^%s]" % keys.NAME_LETTERS, "-", stem)[: keys.MAX_NAME_LENGTH]
        self._top: Fields = {"folder": self._folder, "stem": name}
        self._mistakes: List[Mistake] = []
        self._invalid: Set[KeyPath] = set()
        #: Keys that have to be there and are not, with their tables.
        self._missing: List[KeyPath] = []

    def read(self) -> FieldsRead:
        self._table(keys.TOP, self._document.values, (), self._top)
        for path in self._missing:
            if path not in self._invalid:
                reason = "%s is missing: it is required" % format_value(path[-1])
                self._add_mistake(path[:-1], reason)
        return FieldsRead(self._top, self._mistakes, self._invalid)

    def _table(self, table: Table, values: Any, where: KeyPath, own: Fields) -> Fields:
        if isinstance(values, dict):
            self._check_names(table, values, where)
        else:
            self._reject(where, "it is not a table")
            values = dict.fromkeys(table.names, _UNREAD)
        for key in table.keys:
            own[key.field] = self._field(key, values, where, own)
        return own

    def _check_names(self, table: Table, values: Dict[str, Any], where: KeyPath) -> None:
        for name in values:
            if name in table.names or (table is keys.TOP and name in keys.IGNORED):
                continue
            self._add_mistake(where, self._unknown(table, name), (name,))
            meant = nearest(name, table.names, _TYPO_CUTOFF) or _inner_key(table, name)
            outer = _outer_table_with(table, name)
            if meant:
                self._invalid.add(where + tuple(meant.split(".")))
            elif outer:
                meant = str(nearest(name, outer.names, _TYPO_CUTOFF))
                self._invalid.add(_outer_path(where, outer) + (meant,))

    def _field(self, key: Key, values: Dict[str, Any], where: KeyPath, own: Fields) -> Any:
        path = where + (key.name,)
        if key.name not in values:
            if isinstance(key.default, Required):
                self._missing.append(path)
            return self._default(key, path, own)
        before = len(self._mistakes)
        result = values[key.name]
        if result is not _UNREAD:
            result = self._value(key, result, path)
            if not key.supported and not self._everything and len(self._mistakes) == before:
                self._add_mistake(path, "not yet supported")
        return self._default(key, path, own) if result is _UNREAD else result

    def _default(self, key: Key, path: KeyPath, own: Fields) -> Any:
        if isinstance(key.default, Required):
            return None
        if isinstance(key.default, Derived):
            return key.default.compute(own, self._top)
        return self._value(key, key.default, path)

    def _value(self, key: Key, value: Any, where: KeyPath) -> Any:
        """What the value is for pupgevent, or _UNREAD."""
        if isinstance(key.type, validators.Validator):
            return self._converted(key, key.type, value, where)
        if not key.type.many:
            if not isinstance(value, dict):
                return self._reject(where, "it is not a table")
            return self._table(key.type, value, where, {})
        if not isinstance(value, list):
            of = "objects" if self._document.is_json else "tables, %s in TOML" % key.type.header
            return self._reject(where, "it is not an array of " + of)
        if not value:
            return self._reject(where, "it is empty: at least one is needed")
        return [self._table(key.type, v, where + (i,), {}) for i, v in enumerate(value)]

    def _converted(self, key: Key, check: validators.Validator, value: Any, where: KeyPath) -> Any:
        try:
            return check.convert(value, self._folder)
        except validators.InvalidValue as error:
            for wrong in error.all:
                shown = "the value" if key.secret else format_value(value)
                reason = wrong.reason or "%s is not %s" % (shown, check.allowed)
                named = where if key.secret else where + wrong.inside
                self._add_mistake(named, reason, wrong.inside if named == where else ())
            self._invalid.add(where)
            return _UNREAD

    def _reject(self, where: KeyPath, reason: str) -> Any:
        """Note that a value is wrong; returns _UNREAD."""
        self._add_mistake(where, reason)
        self._invalid.add(where)
        return _UNREAD

    def _add_mistake(self, named: KeyPath, reason: str, inside: KeyPath = ()) -> None:
        """Note a mistake; `inside` leads on to what the message hides."""
        if self._document.is_json:
            reason = _in_json(reason)
        prefix = format_path(named) + ": " if named else ""
        self._mistakes.append(Mistake(self._document.line(*named, *inside), prefix + reason))

    def _unknown(self, table: Table, name: str) -> str:
        """What to say of a key that the table does not have."""
        outer = _outer_table_with(table, name)
        if outer is None:
            return _unknown_key(table, name, "")
        if not self._document.is_json:
            return _unknown_key(table, name, "%s, above this" % outer.header)
        place = "an object of %s" % format_value(outer.title) if outer.title else "the top level"
        return _unknown_key(table, name, "%s, around this" % place)


def _in_json(reason: str) -> str:
    """In the words of JSON, but for what is an echo of the file, in quotes."""
    return _QUOTED_OR_TABLE.sub(
        lambda found: "an object" if found.group() == "a table" else found.group(), reason)


def _outer_path(where: KeyPath, outer: Table) -> KeyPath:
    """The path of the table around the one at `where` that has the keys of `outer`."""
    names = outer.title.split(".") if outer.title else []
    while [part for part in where if isinstance(part, str)] != names:
        where = where[:-1]
    return where


def _unknown_key(table: Table, name: str, outer: str) -> str:
    """What to say of a key that the table does not have; `outer` says which one around it has."""
    if name in keys.PUP_ONLY:
        return "%s is a key of Pup that pupgevent does not have" % format_value(name)
    start = "unknown key %s: " % format_value(name)
    if nearest(name, table.names, _TYPO_CUTOFF):
        return start + "did you mean %s?" % format_value(nearest(name, table.names, _TYPO_CUTOFF))
    inner = _inner_key(table, name)
    if inner:
        return start + "did you mean %s?" % format_value(inner)
    if outer:
        return start + "it belongs to %s" % outer
    if nearest(name, table.names):
        return start + "did you mean %s?" % format_value(nearest(name, table.names))
    return start + "known here are %s" % ", ".join(table.names)


def _inner_key(table: Table, name: str) -> Optional[str]:
    """A key like it in a table inside this one: it lacks its table's name."""
    for key in table.keys:
        meant = nearest(name, key.type.names, _TYPO_CUTOFF) if isinstance(key.type, Table) else None
        if meant:
            return "%s.%s" % (key.name, meant)
    return None


def _outer_table_with(table: Table, name: str) -> Optional[Table]:
    """A table around this one with a key like it: in TOML it slips under the header above it."""
    around = [outer for outer in keys.TABLES if table.title.startswith(outer.title)]
    having = [outer for outer in around
              if outer is not table and nearest(name, outer.names, _TYPO_CUTOFF)]
    return max(having, key=lambda outer: len(outer.title), default=None)
