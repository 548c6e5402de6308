"""What a value may be that a child process gets: command, environment, account, signal.

Command and environment reach it in UTF-8, as the file has them, whatever the locale is.
"""

import grp
import os
import pwd
import signal
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from checks import Check, Wrong, absolute, choice, each, string, unspeakable
from wording import show


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
