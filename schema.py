"""The types of the records in `keys`: a key, a table of keys, a default; and their reference.

The README's reference of all keys is made here from the records, in Markdown.
"""

import json
import keyword
import re
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import toml

from validators import Validator, duration

#: The values of a table's fields, as the validators have converted them. They are Any, since they
#: become the arguments of the named tuples in `model`, which have the types.
Fields = Dict[str, Any]


class Required(NamedTuple):
    """In place of a default: the file has to have the key."""

    text: str = "required"


class Derived(NamedTuple):
    """A default that follows from other keys: how the reference words it, and how it is computed.

    `compute(own, top)` gets the fields of the key's own table that are read before it (in the order
    of the records), and those of the top level.
    """

    text: str
    compute: Callable[[Fields, Fields], object]


#: A default as the file would spell it, or what stands in its place.
Default = Union[bool, int, str, List[str], Dict[str, str], Required, Derived]

REQUIRED = Required()


def no_default(text: str = "none") -> Derived:
    """The default of a key that may simply be absent."""
    return Derived(text, lambda own, top: None)


class Key(NamedTuple):
    """One key of the file."""

    #: As the file spells it.
    name: str
    type: Union[Validator, "Table"]
    default: Default
    meaning: str
    #: Of the value in the file.
    unit: str = ""
    #: The value is never part of a message.
    secret: bool = False

    @property
    def field(self) -> str:
        """Its name in the named tuple: `restartDelayMs` is `restart_delay`, in seconds; a word that
        Python has for itself gets a `_`."""
        name = re.sub("(Ms|Hours)$", "", self.name)
        name += "_" * keyword.iskeyword(name)
        return re.sub("[A-Z]", lambda found: "_" + found.group().lower(), name)

    @property
    def default_text(self) -> str:
        """The default in words, with its unit."""
        if isinstance(self.default, (Required, Derived)):
            return self.default.text
        if self.default in ({}, []):
            return "empty"
        # A list in JSON is one in TOML, too, and without a comma at its end.
        literal = (json.dumps(self.default) if isinstance(self.default, list)
                   else toml.TomlEncoder().dump_value(self.default))
        return ("`%s` %s" % (literal, self.unit)).rstrip()


class Table(NamedTuple):
    """The keys of one table of the file."""

    #: Its header without brackets; empty for the top level.
    title: str
    keys: Tuple[Key, ...]
    #: Whether it is an array of such tables.
    many: bool = False
    #: What follows from several of its fields together: gets them and returns them with more, once
    #: each has been looked at by itself. Raises InvalidValue, whose `inside` begins with a key.
    complete: Optional[Callable[[Fields], Fields]] = None

    @property
    def names(self) -> List[str]:
        return [key.name for key in self.keys]

    @property
    def allowed(self) -> str:
        return "an array of tables" if self.many else "a table"

    @property
    def header(self) -> str:
        """What messages and the reference call it."""
        brackets = "[[%s]]" if self.many else "[%s]"
        return brackets % self.title if self.title else "the top level"


def key(
    name: str, type: Union[Validator, Table], default: Default, meaning: str, secret: bool = False
) -> Key:
    """A key that pupgevent acts on."""
    return Key(name, type, default, meaning, secret=secret)


def ms(name: str, default: Default, meaning: str, above_zero: bool = False) -> Key:
    """A time in milliseconds."""
    return Key(name, duration("ms", above_zero), default, meaning, "ms")


def hours(name: str, default: Default, meaning: str) -> Key:
    """A time in hours."""
    return Key(name, duration("h"), default, meaning, "h")


def seconds(name: str, default: Default, meaning: str, above_zero: bool = False) -> Key:
    """A time in seconds."""
    return Key(name, duration("s", above_zero), default, meaning, "s")


def reference(tables: Sequence[Table]) -> str:
    """All keys in Markdown, a section for each table of the file."""
    return "\n".join(_section(table) for table in tables)


def _section(table: Table) -> str:
    title = "`%s`" % table.header if table.title else "Top level"
    rows = ["| %s |" % " | ".join(_cells(key)) for key in table.keys]
    head = ["### " + title, "", "| key | takes | default | meaning |", "|---|---|---|---|"]
    return "\n".join(head + rows) + "\n"


def _cells(key: Key) -> Tuple[str, str, str, str]:
    return "`%s`" % key.name, key.type.allowed, key.default_text, key.meaning
