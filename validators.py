"""Validators: what a value of the configuration may be, and what pupgevent makes of it.

A Validator converts the value that a file holds into the one pupgevent works with, or raises
InvalidValue with one line about what is wrong. It knows nothing of keys, files and lines: `keys`
says which key has which validator, `configuration` calls them.

These are for values of any kind: booleans, strings, numbers, durations, sizes, choices, paths,
addresses. child_validators.py has those for what a child process gets.
"""

import ipaddress
import os
import re
import socket
import sys
from typing import Callable, Iterable, List, NamedTuple, Optional, Tuple, TypeVar, Union

from errors import KeyPath, format_value, nearest
from model import Network

#: Longest time that any key may name, in seconds: a year.
MAX_DURATION = 366 * 24 * 3600

T = TypeVar("T")


class InvalidValue(Exception):
    """A value is not what its key takes; `reason` ends the line about it.

    Without a reason the line is "VALUE is not ALLOWED". `inside` leads from the key to the part of
    its value that is meant: an index, a name.
    """

    def __init__(self, reason: Optional[str] = None, *inside: Union[str, int]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.inside: KeyPath = inside
        #: This error, and those about other parts of the same value.
        self.all: List[InvalidValue] = [self]


def convert_all(convert: Callable[..., T], items: Iterable[Tuple[object, ...]]) -> List[T]:
    """What `convert` makes of the arguments in each item; raises InvalidValue for all that fail."""
    results: List[T] = []
    errors: List[InvalidValue] = []
    for item in items:
        try:
            results.append(convert(*item))
        except InvalidValue as error:
            errors.append(error)
    if errors:
        errors[0].all = errors
        raise errors[0]
    return results


class Validator(NamedTuple):
    """What a key takes, in words and as a function."""

    #: Ends the sentence "it is not …", and is the type in the reference.
    allowed: str
    #: `convert(value, folder)` returns the value to work with, or raises InvalidValue. Relative
    #: paths start at the folder, which is that of the file.
    convert: Callable[[object, str], object]


def non_empty_string(value: object) -> str:
    """The value as a string that is not empty and that a path can be."""
    if not isinstance(value, str) or not value:
        raise InvalidValue()
    problem = encoding_problem(value)
    if problem:
        raise InvalidValue("it " + problem)
    return value


def encoding_problem(value: str) -> Optional[str]:
    """Why a path cannot be that string, without a part of it; None: it can."""
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        problem = "has characters in it that the locale's encoding lacks (%s)"
        return problem % sys.getfilesystemencoding()
    return nul_problem(value)


def nul_problem(value: str) -> Optional[str]:
    """Why no program can be given the string, in whatever encoding; None: it can."""
    return "has a NUL character in it" if "\0" in value else None


def boolean() -> Validator:
    def convert(value: object, folder: str) -> bool:
        if not isinstance(value, bool):
            raise InvalidValue()
        return value

    return Validator("a boolean: true or false", convert)


def string_matching(allowed: str, pattern: str = ".+") -> Validator:
    """A string that the pattern matches as a whole."""
    matches = re.compile(pattern, re.DOTALL)

    def convert(value: object, folder: str) -> str:
        if not matches.fullmatch(non_empty_string(value)):
            raise InvalidValue()
        return str(value)

    return Validator(allowed, convert)


def strings(what: str) -> Validator:
    """An array of strings, none of them empty, as a tuple; `what` they are, in the plural."""

    def convert(value: object, folder: str) -> Tuple[str, ...]:
        if not isinstance(value, list):
            raise InvalidValue()
        return tuple(convert_all(_string, enumerate(value)))

    return Validator("an array of " + what, convert)


def _string(index: int, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidValue("%s is not a string" % format_value(value), index)
    return value


def text_accepted_by(allowed: str, check: Callable[[str], object]) -> Validator:
    """A string that `check` takes; the text of its ValueError ends the line about the others."""
    def convert(value: object, folder: str) -> str:
        try:
            check(non_empty_string(value))
            return str(value)
        except ValueError as error:
            raise InvalidValue("%s is not %s: %s" % (format_value(value), allowed, error)) from None

    return Validator(allowed, convert)


def integer(least: int, most: int) -> Validator:
    """A whole number between the two, both included."""

    def convert(value: object, folder: str) -> int:
        return as_integer(value, least, most)

    return Validator("a whole number from %d to %d" % (least, most), convert)


def as_integer(value: object, least: int, most: int) -> int:
    """The value, where it is a whole number between the two."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidValue()
    return value


def port() -> Validator:
    return Validator("a port from 1 to 65535", integer(1, 65535).convert)


def duration(unit: str, above_zero: bool = False) -> Validator:
    """A time in "s", "ms" or "h"; pupgevent works with float seconds."""
    seconds, units = {"s": (1, 1), "ms": (1, 1000), "h": (3600, 1)}[unit]

    def convert(value: object, folder: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InvalidValue()
        # This way round it also refuses a NaN, and a whole number that no float could hold.
        if not 0 <= value <= MAX_DURATION * units / seconds:
            raise InvalidValue()
        if above_zero and value == 0:
            raise InvalidValue()
        return value * seconds / units

    least = "above" if above_zero else "from"
    words = {"s": "seconds", "ms": "milliseconds", "h": "hours"}[unit]
    return Validator("a number of %s %s 0, at most a year" % (words, least), convert)


def choice(kind: str, names: Tuple[str, ...]) -> Validator:
    """One of a few words; the message about a near miss has the word that was probably meant."""

    def convert(value: object, folder: str) -> str:
        return chosen(value, kind, names)

    return Validator("a %s: %s" % (kind, ", ".join(names)), convert)


def chosen(value: object, kind: str, names: Tuple[str, ...]) -> str:
    """The value, where it is one of the names."""
    if isinstance(value, str) and value in names:
        return value
    meant = nearest(value, names) if isinstance(value, str) else None
    hint = ": did you mean %s?" % format_value(meant) if meant else ""
    listed = ", ".join(names)
    raise InvalidValue("%s is not a %s%s (%s)" % (format_value(value), kind, hint, listed))


#: What a size may end with, and the bytes that it stands for.
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

#: The largest size in bytes: no machine has so much memory or disk.
_LARGEST_SIZE = 2**60


def size(least: int = 0) -> Validator:
    """A number of bytes, or a string such as "512M"."""

    def convert(value: object, folder: str) -> int:
        return as_size(value, least)

    return Validator('a number of bytes, or a string such as "512M" (K, M, G, T)', convert)


def as_size(value: object, least: int = 0) -> int:
    """The bytes that a size stands for."""
    if isinstance(value, str):
        found = re.match("([0-9]{1,18}) ?([KMGT]?)(i?B)?$", value, re.IGNORECASE)
        if not found:
            raise InvalidValue()
        value = int(found.group(1)) * _UNITS[found.group(2).upper()]
    return as_integer(value, least, _LARGEST_SIZE)


def instance_count(most: int) -> Validator:
    """A number, or "auto" for one per CPU that we may run on."""

    def convert(value: object, folder: str) -> int:
        if value == "auto":
            return min(len(os.sched_getaffinity(0)), most)
        return as_integer(value, 1, most)

    return Validator('%s, or "auto"' % integer(1, most).allowed, convert)


def absolute_path(value: object, folder: str) -> str:
    """A path, from the folder on where it is relative."""
    return os.path.normpath(os.path.join(folder, non_empty_string(value)))


def existing_folder() -> Validator:
    """A folder that is there."""

    def convert(value: object, folder: str) -> str:
        path = absolute_path(value, folder)
        if not os.path.isdir(path):
            raise InvalidValue("%s is not an existing folder" % format_value(value))
        return path

    return Validator("a path of an existing folder", convert)


def file_path(limit: int = 4096) -> Validator:
    """A file, there already or not."""

    def convert(value: object, folder: str) -> str:
        path = absolute_path(value, folder)
        if len(os.fsencode(path)) > limit:
            raise InvalidValue("%s is longer than %d bytes" % (format_value(path), limit))
        if str(value).endswith("/") or os.path.isdir(path):
            raise InvalidValue("%s is a folder, not a file" % format_value(value))
        return path

    return Validator("a path of a file", convert)


#: What may stand for something else in the path of a log file.
_PLACEHOLDERS = ("id", "instance")


def log_path() -> Validator:
    """A file, or a template of files: `{id}` and `{instance}` are filled in later."""

    plain = file_path()

    def convert(value: object, folder: str) -> object:
        for name in re.findall("{([^{}]*)}", str(value)):
            if name not in _PLACEHOLDERS:
                raise InvalidValue("%s in it stands for nothing: there are {id} and {instance}" % (
                    format_value("{%s}" % name)))
        return plain.convert(value, folder)

    return Validator("a path of a file", convert)


def existing_file() -> Validator:
    """A file that is there and can be read."""

    def convert(value: object, folder: str) -> str:
        path = absolute_path(value, folder)
        if not os.path.isfile(path) or not os.access(path, os.R_OK):
            raise InvalidValue()
        return path

    return Validator("a path of a readable file", convert)


def host() -> Validator:
    """An address; no name, because a name would need a look-up."""

    def convert(value: object, folder: str) -> str:
        if value == "localhost":
            return "127.0.0.1"
        address = _address(value) if isinstance(value, str) else None
        if address is None:
            raise InvalidValue()
        return address

    return Validator('an IPv4 or IPv6 address, or "localhost"', convert)


def _address(value: str) -> Optional[str]:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return _unmapped(socket.inet_ntop(family, socket.inet_pton(family, value)))
        except (OSError, ValueError):
            continue
    return None


def _unmapped(address: str) -> str:
    """An IPv4 address that is written as one of IPv6 (`::ffff:10.0.0.1`) as the IPv4 address."""
    mapped = getattr(ipaddress.ip_address(address), "ipv4_mapped", None)
    return str(mapped or address)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach the address."""
    return ipaddress.ip_address(address).is_loopback


def networks() -> Validator:
    """Addresses and networks ("10.0.0.0/8"), as objects of `ipaddress`."""

    def convert(value: object, folder: str) -> Tuple[Network, ...]:
        if not isinstance(value, list) or not value:
            raise InvalidValue()
        return tuple(convert_all(_network, ((item, index) for index, item in enumerate(value))))

    return Validator("an array of addresses or networks", convert)


def _network(value: object, index: int) -> Network:
    try:
        return ipaddress.ip_network(non_empty_string(value))
    except (InvalidValue, ValueError):
        reason = '%s is not an address or network such as "10.0.0.0/8"'
        raise InvalidValue(reason % format_value(value), index) from None
