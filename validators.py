"""What a value of the configuration may be.

A check turns the value that a file holds into the one pupgevent works with,
or says in one line what is wrong with it. Each knows nothing of keys, files
and lines: `keys` says which key takes which check, `reader` walks along them.
"""

import grp
import ipaddress
import os
import pwd
import re
import signal
import socket
import sys
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
    Union,
)

from errors import format_value, nearest

#: Longest time that any key may name, in seconds: a year.
MAX_DURATION = 366 * 24 * 3600
#: Longest path of a Unix socket in bytes (unix(7): 108 with the closing NUL).
SOCKET_PATH_LIMIT = 107

T = TypeVar("T")
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


class InvalidValue(Exception):
    """A value is not what its key takes; `reason` ends the line about it.

    Without a reason the line is "VALUE is not ALLOWED". `inside` leads from
    the key to the part of its value that is meant: an index, a name.
    """

    def __init__(self, reason: Optional[str] = None, *inside: Union[str, int]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.inside = inside
        #: Several parts of one value may be wrong: it and the others.
        self.all: Sequence[InvalidValue] = [self]


def convert_all(convert: Callable[..., T], items: Iterable[Tuple[Any, ...]]) -> List[T]:
    """What `convert` makes of the arguments in each item; raises InvalidValue for all that fail."""
    results: List[T] = []
    wrong: List[InvalidValue] = []
    for item in items:
        try:
            results.append(convert(*item))
        except InvalidValue as error:
            wrong.append(error)
    if wrong:
        wrong[0].all = wrong
        raise wrong[0]
    return results


class Validator(NamedTuple):
    """`convert(value, folder)` gives the value to work with, or raises InvalidValue."""

    #: Ends the sentence "it is not …", and is the type in the reference.
    allowed: str
    convert: Callable[[Any, str], Any]


def non_empty_string(value: Any) -> str:
    """A string that is not empty and that the system could be given."""
    if not isinstance(value, str) or not value:
        raise InvalidValue()
    reason = encoding_problem(value)
    if reason:
        raise InvalidValue("it " + reason)
    return value


def encoding_problem(value: str) -> Optional[str]:
    """Why a path cannot be that string; none of it is part of the answer."""
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        reason = "has characters in it that the locale's encoding lacks (%s)"
        return reason % sys.getfilesystemencoding()
    return nul_problem(value)


def nul_problem(value: str) -> Optional[str]:
    """Why nobody can be given the string, in whatever encoding."""
    return "has a NUL character in it" if "\0" in value else None


def boolean() -> Validator:
    def convert(value: Any, folder: str) -> bool:
        if not isinstance(value, bool):
            raise InvalidValue()
        return value

    return Validator("a boolean: true or false", convert)


def string_matching(allowed: str, pattern: str = ".+") -> Validator:
    """A string that the pattern matches as a whole."""
    matches = re.compile(pattern, re.DOTALL)

    def convert(value: Any, folder: str) -> str:
        if not matches.fullmatch(non_empty_string(value)):
            raise InvalidValue()
        return str(value)

    return Validator(allowed, convert)


def integer(least: int, most: int) -> Validator:
    """A whole number between the two, both included."""

    def convert(value: Any, folder: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise InvalidValue()
        return value

    return Validator("a whole number from %d to %d" % (least, most), convert)


def port() -> Validator:
    return Validator("a port from 1 to 65535", integer(1, 65535).convert)


def duration(unit: str, above_zero: bool = False) -> Validator:
    """A time in "s" or "ms"; pupgevent works with float seconds."""
    parts = {"s": 1, "ms": 1000}[unit]

    def convert(value: Any, folder: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InvalidValue()
        # Also of a NaN, and of a whole number that no float could hold.
        if not 0 <= value <= MAX_DURATION * parts:
            raise InvalidValue()
        if above_zero and value == 0:
            raise InvalidValue()
        return value / parts

    least = "above" if above_zero else "from"
    words = {"s": "seconds", "ms": "milliseconds"}[unit]
    return Validator("a number of %s %s 0, at most a year" % (words, least), convert)


def choice(kind: str, names: Sequence[str]) -> Validator:
    """One of a few words; a near miss gets the word that was meant."""
    listed = ", ".join(names)

    def convert(value: Any, folder: str) -> str:
        if isinstance(value, str) and value in names:
            return value
        meant = nearest(value, names) if isinstance(value, str) else None
        hint = ": did you mean %s?" % format_value(meant) if meant else ""
        raise InvalidValue("%s is not a %s%s (%s)" % (format_value(value), kind, hint, listed))

    return Validator("a %s: %s" % (kind, listed), convert)


def instance_count(most: int) -> Validator:
    """How many: a number, or "auto" for one per CPU that we may run on."""
    number = integer(1, most)

    def convert(value: Any, folder: str) -> int:
        if value == "auto":
            return min(len(os.sched_getaffinity(0)), most)
        return int(number.convert(value, folder))

    return Validator('%s, or "auto"' % number.allowed, convert)


def absolute_path(value: Any, folder: str) -> str:
    """A path, from the folder on where it is relative."""
    return os.path.normpath(os.path.join(folder, non_empty_string(value)))


def existing_folder() -> Validator:
    """A folder that is there."""

    def convert(value: Any, folder: str) -> str:
        path = absolute_path(value, folder)
        if not os.path.isdir(path):
            raise InvalidValue("%s is not an existing folder" % format_value(value))
        return path

    return Validator("a path of an existing folder", convert)


def file_path(limit: int = 4096) -> Validator:
    """A file, there already or not."""

    def convert(value: Any, folder: str) -> str:
        path = absolute_path(value, folder)
        if len(os.fsencode(path)) > limit:
            raise InvalidValue("%s is longer than %d bytes" % (format_value(path), limit))
        if value.endswith("/") or os.path.isdir(path):
            raise InvalidValue("%s is a folder, not a file" % format_value(value))
        return path

    return Validator("a path of a file", convert)


def existing_file() -> Validator:
    """A file that is there and can be read."""

    def convert(value: Any, folder: str) -> str:
        path = absolute_path(value, folder)
        if not os.path.isfile(path) or not os.access(path, os.R_OK):
            raise InvalidValue()
        return path

    return Validator("a path of a readable file", convert)


def host() -> Validator:
    """An address; no name, because a name would need a look-up."""

    def convert(value: Any, folder: str) -> str:
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
    """An IPv4 address that is written as one of IPv6 is the IPv4 address."""
    mapped = getattr(ipaddress.ip_address(address), "ipv4_mapped", None)
    return str(mapped or address)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach the address."""
    return ipaddress.ip_address(address).is_loopback


def networks() -> Validator:
    """Addresses and networks ("10.0.0.0/8"), as objects of `ipaddress`."""

    def convert(value: Any, folder: str) -> Tuple[Network, ...]:
        if not isinstance(value, list) or not value:
            raise InvalidValue()
        return tuple(convert_all(_network, ((item, index) for index, item in enumerate(value))))

    return Validator("an array of addresses or networks", convert)


def _network(value: Any, index: int) -> Network:
    try:
        return ipaddress.ip_network(non_empty_string(value))
    except (InvalidValue, ValueError):
        reason = '%s is not an address or network such as "10.0.0.0/8"'
        raise InvalidValue(reason % format_value(value), index) from None


# What a value may be that a child process gets: command, environment, account, signal.


def user() -> Validator:
    """An account, as its name; None where it is the one we run as without being root."""

    def convert(value: Any, folder: str) -> Optional[str]:
        entry = _account(value, pwd.getpwnam, pwd.getpwuid)
        return _if_permitted(entry.pw_name, entry.pw_uid, os.geteuid(), "user")

    return Validator("a user that exists, by name or number", convert)


def group() -> Validator:
    """A group, as its name; None where it is the one we run as without being root."""

    def convert(value: Any, folder: str) -> Optional[str]:
        entry = _account(value, grp.getgrnam, grp.getgrgid)
        return _if_permitted(entry.gr_name, entry.gr_gid, os.getegid(), "group")

    return Validator("a group that exists, by name or number", convert)


def _account(value: Any, by_name: Callable[[str], Any], by_number: Callable[[int], Any]) -> Any:
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

    def convert(value: Any, folder: str) -> Union[str, Tuple[str, ...]]:
        if isinstance(value, list):
            return _arguments(value)
        if not isinstance(value, str) or not value:
            raise InvalidValue()
        reason = nul_problem(value)
        if reason or not value.strip():
            raise InvalidValue("it " + (reason or "is empty"))
        return value

    return Validator("a command line, or an array of strings", convert)


def _arguments(value: List[Any]) -> Tuple[str, ...]:
    words = convert_all(_argument, enumerate(value))
    if not words or not words[0].strip():
        raise InvalidValue("it is empty")
    return tuple(words)


def _argument(index: int, word: Any) -> str:
    if not isinstance(word, str):
        raise InvalidValue("%s is not a string" % format_value(word), index)
    reason = nul_problem(word)
    if reason:
        raise InvalidValue("it " + reason, index)
    return word


def environment() -> Validator:
    """Variables: no value of one is ever part of a message."""

    def convert(value: Any, folder: str) -> Dict[str, str]:
        if not isinstance(value, dict):
            raise InvalidValue()
        return dict(convert_all(_variable, value.items()))

    return Validator("a table of strings, numbers and booleans", convert)


def _variable(name: str, item: Any) -> Tuple[str, str]:
    if not name or "=" in name:
        raise InvalidValue("the name of a variable is never empty and has no = in it", name)
    reason = nul_problem(name)
    if reason:
        raise InvalidValue("the name of a variable " + reason, name)
    return name, _variable_value(name, item)


def _variable_value(name: str, value: Any) -> str:
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

    def convert(value: Any, folder: str) -> str:
        parts = non_empty_string(value).split(":")
        if not all(parts):
            raise InvalidValue("%s has an empty folder between its colons" % format_value(value))
        return ":".join(absolute_path(part, folder) for part in parts)

    return Validator("a path, or paths with colons between", convert)


def _signals() -> Dict[str, int]:
    """The signals that can ask a process to stop."""
    names = "TERM INT QUIT HUP USR1 USR2 KILL ABRT ALRM WINCH".split()
    return {"SIG" + name: int(getattr(signal, "SIG" + name)) for name in names}


def stop_signal() -> Validator:
    known = _signals()
    word = choice("stop signal", list(known))

    def convert(value: Any, folder: str) -> int:
        if isinstance(value, str) and "SIG" + value in known:
            return known["SIG" + value]
        return known[word.convert(value, folder)]

    return Validator(word.allowed + "; also without SIG", convert)
