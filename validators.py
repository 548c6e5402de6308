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

from errors import nearest, show

#: Longest time that any key may name, in seconds: a year.
LONGEST = 366 * 24 * 3600
#: Longest path of a Unix socket in bytes (unix(7): 108 with the closing NUL).
SOCKET_PATH_LIMIT = 107

T = TypeVar("T")
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


class Wrong(Exception):
    """A value is not what its key takes; `reason` ends the line about it.

    Without a reason the line is "VALUE is not ALLOWED". `inside` leads from
    the key to the part of its value that is meant: an index, a name.
    """

    def __init__(self, reason: Optional[str] = None, *inside: Union[str, int]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.inside = inside
        #: Several parts of one value may be wrong: it and the others.
        self.all: Sequence[Wrong] = [self]


def each(convert: Callable[..., T], items: Iterable[Tuple[Any, ...]]) -> List[T]:
    """What `convert` makes of each of the items' arguments; raises Wrong for all that are wrong."""
    results: List[T] = []
    wrong: List[Wrong] = []
    for item in items:
        try:
            results.append(convert(*item))
        except Wrong as error:
            wrong.append(error)
    if wrong:
        wrong[0].all = wrong
        raise wrong[0]
    return results


class Check(NamedTuple):
    """`convert(value, folder)` gives the value to work with, or raises Wrong."""

    #: Ends the sentence "it is not …", and is the type in the reference.
    allowed: str
    convert: Callable[[Any, str], Any]


def string(value: Any) -> str:
    """A string that is not empty and that the system could be given."""
    if not isinstance(value, str) or not value:
        raise Wrong()
    reason = unusable(value)
    if reason:
        raise Wrong("it " + reason)
    return value


def unusable(value: str) -> Optional[str]:
    """Why a path cannot be that string; none of it is part of the answer."""
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        reason = "has characters in it that the locale's encoding lacks (%s)"
        return reason % sys.getfilesystemencoding()
    return unspeakable(value)


def unspeakable(value: str) -> Optional[str]:
    """Why nobody can be given the string, in whatever encoding."""
    return "has a NUL character in it" if "\0" in value else None


def boolean() -> Check:
    def convert(value: Any, folder: str) -> bool:
        if not isinstance(value, bool):
            raise Wrong()
        return value

    return Check("a boolean: true or false", convert)


def text(allowed: str, pattern: str = ".+") -> Check:
    """A string that the pattern matches as a whole."""
    matches = re.compile(pattern, re.DOTALL)

    def convert(value: Any, folder: str) -> str:
        if not matches.fullmatch(string(value)):
            raise Wrong()
        return str(value)

    return Check(allowed, convert)


def whole(least: int, most: int) -> Check:
    """A whole number between the two, both included."""

    def convert(value: Any, folder: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise Wrong()
        return value

    return Check("a whole number from %d to %d" % (least, most), convert)


def port() -> Check:
    return Check("a port from 1 to 65535", whole(1, 65535).convert)


def duration(unit: str, above_zero: bool = False) -> Check:
    """A time in "s" or "ms"; pupgevent works with float seconds."""
    parts = {"s": 1, "ms": 1000}[unit]

    def convert(value: Any, folder: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Wrong()
        # Also of a NaN, and of a whole number that no float could hold.
        if not 0 <= value <= LONGEST * parts:
            raise Wrong()
        if above_zero and value == 0:
            raise Wrong()
        return value / parts

    least = "above" if above_zero else "from"
    words = {"s": "seconds", "ms": "milliseconds"}[unit]
    return Check("a number of %s %s 0, at most a year" % (words, least), convert)


def choice(kind: str, names: Sequence[str]) -> Check:
    """One of a few words; a near miss gets the word that was meant."""
    listed = ", ".join(names)

    def convert(value: Any, folder: str) -> str:
        if isinstance(value, str) and value in names:
            return value
        meant = nearest(value, names) if isinstance(value, str) else None
        hint = ": did you mean %s?" % show(meant) if meant else ""
        raise Wrong("%s is not a %s%s (%s)" % (show(value), kind, hint, listed))

    return Check("a %s: %s" % (kind, listed), convert)


def instances(most: int) -> Check:
    """How many: a number, or "auto" for one per CPU that we may run on."""
    number = whole(1, most)

    def convert(value: Any, folder: str) -> int:
        if value == "auto":
            return min(len(os.sched_getaffinity(0)), most)
        return int(number.convert(value, folder))

    return Check('%s, or "auto"' % number.allowed, convert)


def absolute(value: Any, folder: str) -> str:
    """A path, from the folder on where it is relative."""
    return os.path.normpath(os.path.join(folder, string(value)))


def folder_path() -> Check:
    """A folder that is there."""

    def convert(value: Any, folder: str) -> str:
        path = absolute(value, folder)
        if not os.path.isdir(path):
            raise Wrong("%s is not an existing folder" % show(value))
        return path

    return Check("a path of an existing folder", convert)


def file_path(limit: int = 4096) -> Check:
    """A file, there already or not."""

    def convert(value: Any, folder: str) -> str:
        path = absolute(value, folder)
        if len(os.fsencode(path)) > limit:
            raise Wrong("%s is longer than %d bytes" % (show(path), limit))
        if value.endswith("/") or os.path.isdir(path):
            raise Wrong("%s is a folder, not a file" % show(value))
        return path

    return Check("a path of a file", convert)


def existing_file() -> Check:
    """A file that is there and can be read."""

    def convert(value: Any, folder: str) -> str:
        path = absolute(value, folder)
        if not os.path.isfile(path) or not os.access(path, os.R_OK):
            raise Wrong()
        return path

    return Check("a path of a readable file", convert)


def host() -> Check:
    """An address; no name, because a name would need a look-up."""

    def convert(value: Any, folder: str) -> str:
        if value == "localhost":
            return "127.0.0.1"
        address = _address(value) if isinstance(value, str) else None
        if address is None:
            raise Wrong()
        return address

    return Check('an IPv4 or IPv6 address, or "localhost"', convert)


def _address(value: str) -> Optional[str]:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return _plain(socket.inet_ntop(family, socket.inet_pton(family, value)))
        except (OSError, ValueError):
            continue
    return None


def _plain(address: str) -> str:
    """An IPv4 address that is written as one of IPv6 is the IPv4 address."""
    mapped = getattr(ipaddress.ip_address(address), "ipv4_mapped", None)
    return str(mapped or address)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach the address."""
    return ipaddress.ip_address(address).is_loopback


def networks() -> Check:
    """Addresses and networks ("10.0.0.0/8"), as objects of `ipaddress`."""

    def convert(value: Any, folder: str) -> Tuple[Network, ...]:
        if not isinstance(value, list) or not value:
            raise Wrong()
        return tuple(each(_network, ((item, index) for index, item in enumerate(value))))

    return Check("an array of addresses or networks", convert)


def _network(value: Any, index: int) -> Network:
    try:
        return ipaddress.ip_network(string(value))
    except (Wrong, ValueError):
        reason = '%s is not an address or network such as "10.0.0.0/8"'
        raise Wrong(reason % show(value), index) from None


# What a value may be that a child process gets: command, environment, account, signal.


def user() -> Check:
    """An account, as its name; None where it is the one we run as without being root."""

    def convert(value: Any, folder: str) -> Optional[str]:
        entry = _entry(value, pwd.getpwnam, pwd.getpwuid)
        return _permitted(entry.pw_name, entry.pw_uid, os.geteuid(), "user")

    return Check("a user that exists, by name or number", convert)


def group() -> Check:
    """A group, as its name; None where it is the one we run as without being root."""

    def convert(value: Any, folder: str) -> Optional[str]:
        entry = _entry(value, grp.getgrnam, grp.getgrgid)
        return _permitted(entry.gr_name, entry.gr_gid, os.getegid(), "group")

    return Check("a group that exists, by name or number", convert)


def _entry(value: Any, by_name: Callable[[str], Any], by_number: Callable[[int], Any]) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise Wrong()
    try:
        if isinstance(value, str):
            try:
                return by_name(string(value))
            except KeyError:
                return by_number(int(value))
        return by_number(value)
    except (KeyError, ValueError, OverflowError):
        raise Wrong() from None


def _permitted(name: str, number: int, own: int, kind: str) -> Optional[str]:
    if os.geteuid() == 0:
        return name
    if number != own:
        raise Wrong("only root can run a process as another %s" % kind)
    return None


def command() -> Check:
    """A line for the shell, or the words of a command as they are."""

    def convert(value: Any, folder: str) -> Union[str, Tuple[str, ...]]:
        if isinstance(value, list):
            return _words(value)
        if not isinstance(value, str) or not value:
            raise Wrong()
        reason = unspeakable(value)
        if reason or not value.strip():
            raise Wrong("it " + (reason or "is empty"))
        return value

    return Check("a command line, or an array of strings", convert)


def _words(value: List[Any]) -> Tuple[str, ...]:
    words = each(_word, enumerate(value))
    if not words or not words[0].strip():
        raise Wrong("it is empty")
    return tuple(words)


def _word(index: int, word: Any) -> str:
    if not isinstance(word, str):
        raise Wrong("%s is not a string" % show(word), index)
    reason = unspeakable(word)
    if reason:
        raise Wrong("it " + reason, index)
    return word


def environment() -> Check:
    """Variables: no value of one is ever part of a message."""

    def convert(value: Any, folder: str) -> Dict[str, str]:
        if not isinstance(value, dict):
            raise Wrong()
        return dict(each(_variable, value.items()))

    return Check("a table of strings, numbers and booleans", convert)


def _variable(name: str, item: Any) -> Tuple[str, str]:
    if not name or "=" in name:
        raise Wrong("the name of a variable is never empty and has no = in it", name)
    reason = unspeakable(name)
    if reason:
        raise Wrong("the name of a variable " + reason, name)
    return name, _variable_value(name, item)


def _variable_value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (str, int, float)):
        raise Wrong("the value of %s is not a string, a number or a boolean" % show(name), name)
    reason = unspeakable(str(value))
    if reason:
        raise Wrong("the value of %s %s" % (show(name), reason), name)
    return str(value)


def search_path() -> Check:
    """Folders between colons, as PATH has them."""

    def convert(value: Any, folder: str) -> str:
        parts = string(value).split(":")
        if not all(parts):
            raise Wrong("%s has an empty folder between its colons" % show(value))
        return ":".join(absolute(part, folder) for part in parts)

    return Check("a path, or paths with colons between", convert)


def _signals() -> Dict[str, int]:
    """The signals that can ask a process to stop."""
    names = "TERM INT QUIT HUP USR1 USR2 KILL ABRT ALRM WINCH".split()
    return {"SIG" + name: int(getattr(signal, "SIG" + name)) for name in names}


def stop_signal() -> Check:
    known = _signals()
    word = choice("stop signal", list(known))

    def convert(value: Any, folder: str) -> int:
        if isinstance(value, str) and "SIG" + value in known:
            return known["SIG" + value]
        return known[word.convert(value, folder)]

    return Check(word.allowed + "; also without SIG", convert)
