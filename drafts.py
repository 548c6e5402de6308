"""A configuration file in the making: keys, comments, and what could not be carried over.

Each value goes through the validator of its key, as `check` does it. What the validator refuses,
and a key that is not (yet) there, stands in the file as a comment with the reason. So an importer
may set whatever the other tool's file says. Ids, ports, pid files and log files are handed out
here, since they must not be in each other's place.
"""

import os
import re
from typing import Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

import keys
import paths
import toml_text
import validators
from errors import format_value
from model import OWN_ID, log_file_of
from schema import Key, Table

#: Begins the comment about whatever could not be carried over: it can be searched for.
LOST = "Not carried over"

#: Most instances of a process that an importer asks for; the key may allow fewer.
MOST_INSTANCES = 1000

#: The first port for instances, and the distance from one cluster's to the next: room to scale.
_FIRST_PORT, _STEP = 8000, 100

#: The keys that name log files: a logger has its limits before these.
_LOG_FILES = ("stdout", "stderr")

#: The keys on which all have to agree that write to one log file, and their values.
_LIMITS = ("maxBytes", "backups", "compress")
Limits = Tuple[object, ...]


class Written(NamedTuple):
    """What a draft has become."""

    text: str
    processes: int
    #: Things that could not be carried over.
    lost: int
    #: It holds what often are passwords: environment variables, options of plug-ins.
    secret: bool


class Ports:
    """Which ports nobody in the file has yet."""

    def __init__(self) -> None:
        self._taken: Set[int] = set()

    def avoid(self, ports: Iterable[int]) -> None:
        """Hand these to nobody: an application opens them by itself."""
        self._taken.update(ports)

    def take(self, first: int, count: int = 1) -> bool:
        """Have exactly these ports; False: somebody has one of them, or there are none such."""
        ports = range(first, first + count)
        if first < 1 or ports[-1] > 65535 or not self._taken.isdisjoint(ports):
            return False
        self._taken.update(ports)
        return True

    def find(self, count: int, first: int = _FIRST_PORT) -> int:
        """Have `count` free ports in a row, from `first` on where that can be; 0: there are none.
        """
        starts = [first, *range(_FIRST_PORT, 65536, _STEP), *range(1024, _FIRST_PORT, _STEP)]
        return next((start for start in starts if self.take(start, count)), 0)


class Draft:
    """The file, and what all of its parts share.

    `target` is the file that it will be, `source` the one of the other tool: relative paths in
    that start at its folder.
    """

    def __init__(self, target: str, source: str = "") -> None:
        self.target = paths.absolute(target)
        self.folder = os.path.dirname(self.target)
        self.origin = os.path.dirname(paths.absolute(source)) if source else self.folder
        self.ports = Ports()
        self.lost = 0
        self.secret = False
        self.head = Section(keys.TOP, self)
        self._processes: List[Section] = []
        #: Ids and names of instances; the commands mean all processes by "all".
        self._names: Set[str] = {"all"}
        #: What cannot be something else as well, with the limits of log files.
        self._files: Dict[str, Optional[Limits]] = dict.fromkeys(
            [self.target, os.path.realpath(self.target)])
        self._missing_folders: Set[str] = set()

    @property
    def moved(self) -> bool:
        """Whether the two files are in different folders."""
        return self.origin != self.folder

    def place(self, path: str) -> str:
        """A path of the source as the file has to spell it."""
        if path == self.origin:
            path = "."
        if not self.moved:
            return path
        full = os.path.normpath(os.path.join(self.origin, path))
        own = os.path.join(self.folder, "")
        return full[len(own):] or "." if (full + "/").startswith(own) else full

    def add_process(self, name: str, instances: int = 0) -> "Section":
        """A process with an id as near to a name as can be; `instances`: of its cluster."""
        wanted = re.sub("[^%s]+" % keys.NAME_LETTERS, "-", name).strip("-") or "app"
        process_id = self._free_id(wanted, instances)
        section = Section(keys.PROCESS, self, instances)
        section.id = process_id
        self._processes.append(section)
        if process_id != name:
            section.say("Its name was %s." % format_value(name))
        section.set("id", process_id)
        return section

    def _free_id(self, wanted: str, instances: int) -> str:
        number = 1
        while True:
            end = "" if number == 1 else "_%d" % number
            process_id = wanted[:keys.MAX_NAME_LENGTH - len(end)] + end
            names = {process_id, *("%s-%d" % (process_id, n + 1) for n in range(instances))}
            if self._names.isdisjoint(names):
                self._names.update(names)
                return process_id
            number += 1

    def count_of(self, instances: object) -> int:
        """The number that a value of `instances` comes to; 1 where it is refused."""
        try:
            cluster = _table_in(keys.PROCESS, "cluster")
            return int(str(_converted(cluster, "instances", instances, self.folder)))
        except validators.InvalidValue:
            return 1

    def take_pid_files(self, path: str, instances: int) -> bool:
        """Have a pid file for each instance; False: something else is in the place of one."""
        stem, suffix = os.path.splitext(os.path.normpath(os.path.join(self.folder, path)))
        numbers = ["-%d" % (n + 1) for n in range(instances)] if instances > 1 else [""]
        files = dict.fromkeys(stem + number + suffix for number in numbers)
        if not self._files.keys().isdisjoint(files):
            return False
        self._files.update(files)
        return True

    def take_log_files(self, paths: Iterable[str], limits: Limits) -> bool:
        """Write to these; False: one is no log file, or somebody wants other limits for it."""
        files = {path: limits for path in paths if not path.startswith("/dev/")}
        if any(self._files.get(path, limits) != limits for path in files):
            return False
        self._files.update(files)
        return True

    def lacks_folder(self, path: str) -> bool:
        """Whether the folder of a file is not there; asked once for each folder."""
        folder = os.path.dirname(path)
        if folder in self._missing_folders or os.path.isdir(folder):
            return False
        self._missing_folders.add(folder)
        return True

    def finish(self) -> Written:
        """The text of the file."""
        lines = [line for section in (self.head, *self._processes) for line in section.lines()]
        # One empty line at a time; a string of several lines is one of these.
        text = "\n".join(line for before, line in zip([""] + lines, lines) if line or before)
        return Written(
            text.rstrip("\n") + "\n", len(self._processes), self.lost, self.secret)


class Section:
    """One table of the file."""

    def __init__(self, table: Table, draft: Draft, instances: int = 0) -> None:
        self._table = table
        self._draft = draft
        #: Of the process and its cluster; 0: it has none.
        self.count = instances
        #: Of the process.
        self.id = ""
        self._own: List[str] = []
        #: As `check` reads them.
        self._values: Dict[str, object] = {}
        self._variables: Dict[str, str] = {}
        self._inside: Dict[str, Section] = {}

    def say(self, text: str) -> None:
        """A comment in words above what comes next."""
        self._add(toml_text.comment(text))

    def quote(self, lines: Iterable[str]) -> None:
        """A comment that repeats lines of the source."""
        self._add([toml_text.quoted_line(line) for line in lines])

    def disable(self, name: str, value: object) -> None:
        """A key behind a #: a choice that the reader has."""
        self._own += toml_text.disabled(toml_text.assignment(name, value))

    def set(self, name: str, value: object, said: str = "", otherwise: str = "") -> bool:
        """Write a key, or a comment where it cannot be had.

        `said`: how the source has it. `otherwise`: what can be done instead. False: it is a
        comment.
        """
        try:
            line = toml_text.assignment(name, value)
        except ValueError as error:
            self.lose(said or name, str(error) + ".", otherwise)
            return False
        reason = self._problem(name, value)
        if reason:
            self.lose(said or line, reason, otherwise, lines=[line])
            return False
        if name in _LOG_FILES:
            self._say_what_is_missing(value)
        self._own.append(line)
        self._values[name] = _converted(self._table, name, value, self._draft.folder)
        return True

    def _problem(self, name: str, value: object) -> str:
        key = _key_of(self._table, name)
        if key is None:
            return "This version of pupgevent does not have the key %s." % format_value(name)
        reason = _refusal(key, value, self._draft.folder)
        if reason:
            return "Refused here: %s." % reason
        if name == "pidFile" and not self._draft.take_pid_files(str(value), self.count):
            return "Something else in here has this file already."
        if name in _LOG_FILES and not self._draft.take_log_files(
                self._log_files(value), self._limits()):
            return "Something else in here has this file already, or other limits for it."
        return ""

    def _log_files(self, template: object) -> List[str]:
        path = str(_converted(self._table, "stdout", template, self._draft.folder))
        return [log_file_of(path, self.id or OWN_ID, n) for n in range(self.count or 1)]

    def _limits(self) -> Limits:
        values = dict({key.name: key.default for key in keys.LOGGER.keys},
                      **self._draft.head.inside("logger")._values)
        values.update(self._values)
        return tuple(values[name] for name in _LIMITS)

    def _say_what_is_missing(self, template: object) -> None:
        if self._draft.lacks_folder(self._log_files(template)[0]):
            folder = toml_text.string(os.path.dirname(str(template)) or ".")
            self.say("The folder %s is not there, and pupgevent does not make it." % folder)

    def lose(self, said: str, *instead: str, lines: Iterable[str] = ()) -> None:
        """A comment: what the source says, what can be done instead, and lines behind a # for it.
        """
        self._draft.lost += 1
        words = toml_text.comment(" ".join(filter(None, instead)))
        disabled = [part for line in lines for part in toml_text.disabled(line)]
        self._add([toml_text.quoted_line("%s: %s" % (LOST, said)), *words, *disabled, ""])

    def variable(self, name: str, value: object) -> bool:
        """An environment variable, in place of an earlier one of that name; its value is not echoed
        outside the file."""
        self._draft.secret = True
        try:
            line = toml_text.assignment(name, value)
            _converted(keys.PROCESS, "env", {name: value}, self._draft.folder)
        except (ValueError, validators.InvalidValue):
            self.lose("the environment variable %s" % name,
                      "Its value is nothing that a program can be given.")
            return False
        self._variables[name] = line
        return True

    def inside(self, name: str) -> "Section":
        """A table inside this one."""
        if name not in self._inside:
            table = _table_in(self._table, name)
            self._inside[name] = section = Section(table, self._draft, self.count)
            section.id = self.id
        return self._inside[name]

    def set_protocol(self, is_http: bool) -> None:
        """Of a cluster with a common port; where it is not sure to speak HTTP, as a choice."""
        if is_http:
            self.say("Each request is balanced, and a restart loses none.")
            self.set("protocol", "http")
        else:
            self.say("If it speaks HTTP: each request is balanced, and a restart loses none.")
            self.disable("protocol", "http")

    def lines(self) -> List[str]:
        """What the file has of this table and those inside."""
        lines = ["", *self._header(), *self._own]
        if self._variables:
            lines += ["", "[processes.env]", *self._variables.values()]
        for section in self._inside.values():
            lines += section.lines()
        return lines

    def _header(self) -> List[str]:
        if not self._table.title:
            return []
        if self._values:
            return [self._table.header]
        # A table of comments alone would still be a table.
        return ["#" + self._table.header] if self._own else []

    def _add(self, comment: List[str]) -> None:
        """A comment, apart from what stands above it."""
        self._own += ["", *comment] if self._own else comment


def _key_of(table: Table, name: str) -> Optional[Key]:
    return next((key for key in table.keys if key.name == name), None)


def _table_in(table: Table, name: str) -> Table:
    """The table inside another one; one without keys where it is not there."""
    key = _key_of(table, name)
    inside = key.type if key is not None else None
    return inside if isinstance(inside, Table) else Table("%s.%s" % (table.title, name), ())


def _converted(table: Table, name: str, value: object, folder: str) -> object:
    """What `check` makes of a value; raises InvalidValue."""
    key = _key_of(table, name)
    if key is None or not isinstance(key.type, validators.Validator):
        return value
    return key.type.convert(value, folder)


def _refusal(key: Key, value: object, folder: str) -> Optional[str]:
    """Why `check` would not take a value; None: it would."""
    if not isinstance(key.type, validators.Validator):
        return "it is not %s" % key.type.allowed
    try:
        key.type.convert(value, folder)
    except validators.InvalidValue as error:
        return error.reason or "%s is not %s" % (format_value(value), key.type.allowed)
    return None
