"""Validators: what a value of the configuration may be, and what pupgevent makes of it.

A Validator converts the value that a file holds into the one pupgevent works with, or raises
InvalidValue with one line about what is wrong. It knows nothing of keys, files and lines: `keys`
says which key has which validator, `configuration` calls them.

First come values of any kind: booleans, strings, numbers, durations, choices, paths, addresses.
Then what a child process gets: account, command, environment, PATH, stop signal.
"""

import grp
import ipaddress
import os
import pwd
import re
import signal
import socket
import sys
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple, TypeVar, Union

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
        return _integer(value, least, most)

    return Validator("a whole number from %d to %d" % (least, most), convert)


def _integer(value: object, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidValue()
    return value


def port() -> Validator:
    return Validator("a port from 1 to 65535", integer(1, 65535).convert)


def duration(unit: str, above_zero: bool = False) -> Validator:
    """A time in "s" or "ms"; pupgevent works with float seconds."""
    per_second = {"s": 1, "ms": 1000}[unit]

    def convert(value: object, folder: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InvalidValue()
        # This way round it also refuses a NaN, and a whole number that no float could hold.
        if not 0 <= value <= MAX_DURATION * per_second:
            raise InvalidValue()
        if above_zero and value == 0:
            raise InvalidValue()
        return value / per_second

    least = "above" if above_zero else "from"
    words = {"s": "seconds", "ms": "milliseconds"}[unit]
    return Validator("a number of %s %s 0, at most a year" % (words, least), convert)


def choice(kind: str, names: Tuple[str, ...]) -> Validator:
    """One of a few words; the message about a near miss has the word that was probably meant."""

    def convert(value: object, folder: str) -> str:
        return _choice(value, kind, names)

    return Validator("a %s: %s" % (kind, ", ".join(names)), convert)


def _choice(value: object, kind: str, names: Tuple[str, ...]) -> str:
    if isinstance(value, str) and value in names:
        return value
    meant = nearest(value, names) if isinstance(value, str) else None
    hint = ": did you mean %s?" % format_value(meant) if meant else ""
    listed = ", ".join(names)
    raise InvalidValue("%s is not a %s%s (%s)" % (format_value(value), kind, hint, listed))


def instance_count(most: int) -> Validator:
    """A number, or "auto" for one per CPU that we may run on."""

    def convert(value: object, folder: str) -> int:
        if value == "auto":
            return min(len(os.sched_getaffinity(0)), most)
        return _integer(value, 1, most)

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


# What a child process gets: account, command, environment, PATH, stop signal.


def user() -> Validator:
    """An account, as its name; None where it is the one we run as without being root."""

    def convert(value: object, folder: str) -> Optional[str]:
        account = _account(value, pwd.getpwnam, pwd.getpwuid)
        return _if_permitted(account.pw_name, account.pw_uid, os.geteuid(), "user")

    return Validator("a user that exists, by name or number", convert)


def group() -> Validator:
    """A group, as its name; None where it is the one we run as without being root."""

    def convert(value: object, folder: str) -> Optional[str]:
        account = _account(value, grp.getgrnam, grp.getgrgid)
        return _if_permitted(account.gr_name, account.gr_gid, os.getegid(), "group")

    return Validator("a group that exists, by name or number", convert)


def _account(value: object, by_name: Callable[[str], T], by_number: Callable[[int], T]) -> T:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InvalidValue()
    try:
        if isinstance(value, str):
            try:
                return by_name(non_empty_string(value))
            except KeyError:
                return by_number(int(value))
        return by_number(value)
    except (KeyError, ValueError, OverflowError):
        raise InvalidValue() from None


def _if_permitted(name: str, number: int, own: int, kind: str) -> Optional[str]:
    if os.geteuid() == 0:
        return name
    if number != own:
        raise InvalidValue("only root can run a process as another %s" % kind)
    return None


def command() -> Validator:
    """A line for the shell, or the words of a command as they are."""

    def convert(value: object, folder: str) -> Union[str, Tuple[str, ...]]:
        if isinstance(value, list):
            return _arguments(value)
        if not isinstance(value, str) or not value:
            raise InvalidValue()
        problem = nul_problem(value)
        if problem or not value.strip():
            raise InvalidValue("it " + (problem or "is empty"))
        return value

    return Validator("a command line, or an array of strings", convert)


def _arguments(values: List[object]) -> Tuple[str, ...]:
    arguments = convert_all(_argument, enumerate(values))
    if not arguments or not arguments[0].strip():
        raise InvalidValue("it is empty")
    return tuple(arguments)


def _argument(index: int, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidValue("%s is not a string" % format_value(value), index)
    problem = nul_problem(value)
    if problem:
        raise InvalidValue("it " + problem, index)
    return value


def environment() -> Validator:
    """Variables; their values are secret, and no part of a message."""

    def convert(value: object, folder: str) -> Dict[str, str]:
        if not isinstance(value, dict):
            raise InvalidValue()
        return dict(convert_all(_variable, value.items()))

    return Validator("a table of strings, numbers and booleans", convert)


def _variable(name: str, item: object) -> Tuple[str, str]:
    if not name or "=" in name:
        raise InvalidValue("the name of a variable is never empty and has no = in it", name)
    problem = nul_problem(name)
    if problem:
        raise InvalidValue("the name of a variable " + problem, name)
    return name, _variable_value(name, item)


def _variable_value(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (str, int, float)):
        reason = "the value of %s is not a string, a number or a boolean"
        raise InvalidValue(reason % format_value(name), name)
    problem = nul_problem(str(value))
    if problem:
        raise InvalidValue("the value of %s %s" % (format_value(name), problem), name)
    return str(value)


def search_path() -> Validator:
    """Folders between colons, as PATH has them."""

    def convert(value: object, folder: str) -> str:
        parts = non_empty_string(value).split(":")
        if not all(parts):
            raise InvalidValue("%s has an empty folder between its colons" % format_value(value))
        return ":".join(absolute_path(part, folder) for part in parts)

    return Validator("a path, or paths with colons between", convert)


def _stop_signals() -> Dict[str, int]:
    """The signals that can ask a process to stop."""
    names = "TERM INT QUIT HUP USR1 USR2 KILL ABRT ALRM WINCH".split()
    return {"SIG" + name: int(getattr(signal, "SIG" + name)) for name in names}


def stop_signal() -> Validator:
    """A signal by its name, with or without SIG, as its number."""
    numbers = _stop_signals()
    kind, names = "stop signal", tuple(numbers)

    def convert(value: object, folder: str) -> int:
        if isinstance(value, str) and "SIG" + value in numbers:
            return numbers["SIG" + value]
        return numbers[_choice(value, kind, names)]

    return Validator(choice(kind, names).allowed + "; also without SIG", convert)
