"""The configuration file, read and checked: a `Configuration`, or a line for each mistake.

`load` is pure: it reads the file and what the file names (folders, users), starts nothing and
may run in a worker thread. It goes through four steps, each with a module of its own:

    text      documents.read            plain values, and the line of each
    values    read_fields, here         a walk along the records of `keys`: names are known,
                                        `validators` convert each value, defaults are filled in
    tuples    _build_configuration      the named tuples of `model`
    whole     conflicts.find_all        what is right by itself and cannot all be had

All mistakes are collected, so that one run names all of them. A wrong value is replaced by its
default meanwhile, and a mistake that only follows from another is left out.

The values of a file are `object` until a validator has converted them. The fields of a table are
a dict, since they become the arguments of a named tuple.
"""

import os
import pickle
import re
from typing import BinaryIO, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

import conflicts
import documents
import keys
import paths
import validators
from documents import Document
from errors import ConfigurationError, KeyPath, Mistake, format_path, format_value, nearest
from model import (
    Agent,
    Cluster,
    Configuration,
    Control,
    Dashboard,
    Health,
    Logger,
    Passive,
    Process,
    ResourceLimits,
    Tls,
    TlsFile,
    TlsPair,
    Watcher,
)
from pup_differences import INSTEAD
from schema import Derived, Fields, Key, Required, Table

#: Two names this much alike are one name with a typing error in it (`difflib`, 0 to 1).
_TYPO_CUTOFF = 0.8

#: In the place of a value that is wrong, until its default takes it.
_UNREAD = object()

_QUOTED_OR_TABLE = re.compile(r'"(?:[^"\\]|\\.)*"|\ba table\b')


def load(path: str) -> Configuration:
    """The configuration in a file; raises ConfigurationError with all that is wrong with it."""
    return read(path)[0]


def read(path: str) -> Tuple[Configuration, Document]:
    """As `load`, and with it the document, which knows the lines."""
    document = documents.read(path)
    return check(path, document), document


def check(path: str, document: Document) -> Configuration:
    """What the file at `path` says with that content, whether it has it already or not.

    Raises ConfigurationError with all that is wrong with it.
    """
    found = read_fields(document, path)
    configuration = _build_configuration(path, found.fields)
    mistakes = list(found.mistakes)
    for conflict in conflicts.find_all(configuration):
        # A conflict with a value that is wrong itself may be gone once that value is right.
        if all(map(found.is_valid, (conflict.where, *conflict.others))):
            message = "%s: %s" % (format_path(conflict.where), conflict.reason)
            mistakes.append(Mistake(document.line(*conflict.where), message))
    if mistakes:
        first, *further = sorted(mistakes, key=lambda mistake: mistake.line or 0)
        raise ConfigurationError(path, first.line, first.message, further)
    return configuration


def write_pickled(path: str, file: BinaryIO) -> None:
    """Load a file for another process that has the same `format_version`.

    Pickles that version, then the configuration without its processes, then each process; or the
    version, then the arguments and attributes of a ConfigurationError.
    """
    pickle.dump(format_version(), file)
    try:
        found = load(path)
    except ConfigurationError as error:
        pickle.dump((error.args, vars(error)), file)
        return
    for part in (found._replace(processes=()),) + found.processes:
        pickle.dump(part, file)


def format_version() -> str:
    """Differs between two versions of pupgevent that could read the same file in two ways."""
    kinds = (Logger, Watcher, Control, Dashboard, Agent, Passive, Health, TlsPair, TlsFile, Tls,
             Cluster, ResourceLimits, Process, Configuration)
    return "%s\n%s" % (keys.reference(), [kind._fields for kind in kinds])


def _build_configuration(path: str, top: Fields) -> Configuration:
    return Configuration(
        path=path,
        real_path=os.path.realpath(path),
        folder=top["folder"],
        name=top["name"],
        processes=tuple(_build_process(fields) for fields in top["processes"] or ()),
        logger=Logger(**top["logger"]),
        watcher=Watcher(**top["watcher"]),
        control=Control(**top["control"]),
        dashboard=Dashboard(**top["dashboard"]) if top["dashboard"] else None,
        agent=Agent(**top["agent"]) if top["agent"] else None,
    )


def _build_process(fields: Fields) -> Process:
    cluster = _build_cluster(fields["cluster"]) if fields["cluster"] else None
    limits = ResourceLimits(**fields["limits"]) if fields["limits"] else None
    changed = {"logger": Logger(**fields["logger"]), "cluster": cluster, "limits": limits,
               "real_cwd": os.path.realpath(fields["cwd"])}
    return Process(**dict(fields, **changed))


def _build_health(fields: Fields) -> Health:
    passive = Passive(**fields["passive"]) if fields["passive"] else None
    return Health(**dict(fields, passive=passive))


def _build_cluster(fields: Fields) -> Cluster:
    health = _build_health(fields["health"]) if fields["health"] else None
    tls = _build_tls(fields["tls"]) if fields["tls"] else None
    return Cluster(**dict(fields, health=health, tls=tls))


def _build_tls(fields: Fields) -> Tls:
    """With no pairs where they are wrong."""
    own: Fields = {name: fields.get(name, ()) for name in Tls._fields}
    return Tls(**own)


class FieldsRead(NamedTuple):
    """A document as fields; where something is wrong with a key, its default takes its place."""

    fields: Fields
    #: In no order.
    mistakes: List[Mistake]
    #: Keys whose value is wrong, or was given under an unknown name that is probably theirs.
    invalid: Set[KeyPath]

    def is_valid(self, path: KeyPath) -> bool:
        """Whether the value there, and all around it, is what the file says."""
        return not any(path[:length] in self.invalid for length in range(len(path) + 1))


def read_fields(document: Document, path: str) -> FieldsRead:
    """The fields of the top level, those of its tables inside, and all that is wrong with them."""
    return _FieldsReader(document, path).read()


class _FieldsReader:
    """Walks a document along the records of `keys`."""

    def __init__(self, document: Document, path: str) -> None:
        self._document = document
        self._folder = os.path.dirname(paths.absolute(path))
        stem = os.path.splitext(os.path.basename(path))[0]
        name = re.sub("[^%s]" % keys.NAME_LETTERS, "-", stem)[: keys.MAX_NAME_LENGTH]
        self._top: Fields = {"folder": self._folder, "stem": name}
        self._mistakes: List[Mistake] = []
        self._invalid: Set[KeyPath] = set()
        #: Required keys that the file does not have, with their tables.
        self._missing: List[KeyPath] = []

    def read(self) -> FieldsRead:
        self._table(keys.TOP, self._document.values, (), self._top)
        for path in self._missing:
            if path not in self._invalid:
                reason = "%s is missing: it is required" % format_value(path[-1])
                self._add_mistake(path[:-1], reason)
        return FieldsRead(self._top, self._mistakes, self._invalid)

    def _table(self, table: Table, values: object, where: KeyPath, own: Fields) -> Fields:
        given: Dict[str, object]
        if isinstance(values, dict):
            given = values
            self._check_names(table, given, where)
        else:
            self._reject(where, "it is not a table")
            given = dict.fromkeys(table.names, _UNREAD)
        for key in table.keys:
            own[key.field] = self._field(key, given, where, own)
        return own if table.complete is None else self._completed(table.complete, own, where)

    def _completed(
        self, complete: Callable[[Fields], Fields], own: Fields, where: KeyPath
    ) -> Fields:
        try:
            return complete(own)
        except validators.InvalidValue as error:
            for part in error.all:
                self._reject(where + part.inside, str(part.reason))
            return own

    def _check_names(self, table: Table, values: Dict[str, object], where: KeyPath) -> None:
        for name in values:
            if name in table.names or (table is keys.TOP and name in keys.IGNORED):
                continue
            self._add_mistake(where, self._unknown_key_in_file(table, name), (name,))
            meant, outer = _meant_key(table, name), _outer_table_with(table, name)
            if meant:
                self._invalid.add(where + tuple(meant.split(".")))
            elif outer:
                meant = str(nearest(name, outer.names, _TYPO_CUTOFF))
                self._invalid.add(_outer_path(where, outer) + (meant,))

    def _field(self, key: Key, values: Dict[str, object], where: KeyPath, own: Fields) -> object:
        path = where + (key.name,)
        if key.name not in values:
            if isinstance(key.default, Required):
                self._missing.append(path)
            return self._default(key, path, own)
        result = values[key.name]
        if result is not _UNREAD:
            result = self._value(key, result, path)
        return self._default(key, path, own) if result is _UNREAD else result

    def _default(self, key: Key, path: KeyPath, own: Fields) -> object:
        if isinstance(key.default, Required):
            return None
        if isinstance(key.default, Derived):
            return key.default.compute(own, self._top)
        return self._value(key, key.default, path)

    def _value(self, key: Key, value: object, where: KeyPath) -> object:
        """The converted value, or _UNREAD."""
        if isinstance(key.type, validators.Validator):
            return self._converted(key, key.type, value, where)
        if not key.type.many:
            if not isinstance(value, dict):
                return self._reject(where, "it is not a table")
            return self._table(key.type, value, where, {})
        if not isinstance(value, list):
            header = "tables, %s in TOML" % key.type.header
            of = "objects" if self._document.is_json else header
            return self._reject(where, "it is not an array of " + of)
        if not value:
            return self._reject(where, "it is empty: at least one is needed")
        return [self._table(key.type, v, where + (i,), {}) for i, v in enumerate(value)]

    def _converted(
        self, key: Key, validator: validators.Validator, value: object, where: KeyPath
    ) -> object:
        try:
            return validator.convert(value, self._folder)
        except validators.InvalidValue as error:
            for part in error.all:
                shown = "the value" if key.secret else format_value(value)
                reason = part.reason or "%s is not %s" % (shown, validator.allowed)
                named = where if key.secret else where + part.inside
                self._add_mistake(named, reason, part.inside if named == where else ())
            self._invalid.add(where)
            return _UNREAD

    def _reject(self, where: KeyPath, reason: str) -> object:
        """Note that a value is wrong; returns _UNREAD."""
        self._add_mistake(where, reason)
        self._invalid.add(where)
        return _UNREAD

    def _add_mistake(self, named: KeyPath, reason: str, inside: KeyPath = ()) -> None:
        """`named` is the key in the message; `inside` leads on from it to the line that is meant,
        where the message must not name the part itself."""
        if self._document.is_json:
            reason = _in_json(reason)
        prefix = format_path(named) + ": " if named else ""
        self._mistakes.append(Mistake(self._document.line(*named, *inside), prefix + reason))

    def _unknown_key_in_file(self, table: Table, name: str) -> str:
        """The message about a key that the table does not have, in the words of TOML or JSON."""
        outer = _outer_table_with(table, name)
        if outer is None:
            return _unknown_key(table, name, "")
        if not self._document.is_json:
            return _unknown_key(table, name, "%s, above this" % outer.header)
        place = "an object of %s" % format_value(outer.title) if outer.title else "the top level"
        return _unknown_key(table, name, "%s, around this" % place)


def _in_json(reason: str) -> str:
    """A message in the words of JSON; what it echoes of the file, in quotes, stays as it is."""
    return _QUOTED_OR_TABLE.sub(
        lambda found: "an object" if found.group() == "a table" else found.group(), reason)


def _unknown_key(table: Table, name: str, outer: str) -> str:
    """The message about a key that the table does not have; `outer` is one around it that does."""
    if name in INSTEAD:
        return "%s is a key of Pup that pupgevent does not have: %s" % (
            format_value(name), INSTEAD[name])
    start = "unknown key %s: " % format_value(name)
    meant = _meant_key(table, name)
    if meant is None and outer:
        return start + "it belongs to %s" % outer
    meant = meant or nearest(name, table.names)
    if meant:
        return start + "did you mean %s?" % format_value(meant)
    return start + "known here are %s" % ", ".join(table.names)


def _meant_key(table: Table, name: str) -> Optional[str]:
    """The key that was probably meant, of this table or of one inside; none where a table around
    it has just that one."""
    outer = _outer_table_with(table, name)
    if outer is not None and name in outer.names:
        return None
    return (_inner_key(table, name, 1.0) or nearest(name, table.names, _TYPO_CUTOFF)
            or _inner_key(table, name, _TYPO_CUTOFF))


def _inner_key(table: Table, name: str, cutoff: float) -> Optional[str]:
    """A key like it in a table inside this one: the table's name is missing before it."""
    for key in table.keys:
        if isinstance(key.type, Table):
            meant = nearest(name, key.type.names, cutoff)
            if meant:
                return "%s.%s" % (key.name, meant)
    return None


def _outer_table_with(table: Table, name: str) -> Optional[Table]:
    """The nearest table around this one that has a key like it.

    A key of the outer table that is written below the header of an inner one belongs, in TOML, to
    the inner one.
    """
    around = [outer for outer in keys.TABLES if table.title.startswith(outer.title)]
    having = [outer for outer in around
              if outer.title != table.title and nearest(name, outer.names, _TYPO_CUTOFF)]
    return max(having, key=lambda outer: len(outer.title), default=None)


def _outer_path(where: KeyPath, outer: Table) -> KeyPath:
    """The path of the table around the one at `where` that has the keys of `outer`."""
    names = outer.title.split(".") if outer.title else []
    while [part for part in where if isinstance(part, str)] != names:
        where = where[:-1]
    return where
