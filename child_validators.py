"""Validators for what a child process gets: its user, program, environment, limits, signals."""

import grp
import os
import pwd
import re
import resource
import signal
from typing import Callable, Dict, List, Optional, Tuple, TypeVar, Union

import env_files
from errors import decoded, format_value
from validators import (
    InvalidValue,
    Validator,
    absolute_path,
    as_integer,
    as_size,
    choice,
    chosen,
    convert_all,
    non_empty_string,
    nul_problem,
)

T = TypeVar("T")

#: Least and most of a nice value, see setpriority(2).
_NICE = (-20, 19)


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
        return numbers[chosen(value, kind, names)]

    return Validator(choice(kind, names).allowed + "; also without SIG", convert)


def environment_file() -> Validator:
    """A file of variables, as its variables; they are secret, and no part of a message."""

    def convert(value: object, folder: str) -> Dict[str, str]:
        path, shown = absolute_path(value, folder), format_value(value)
        # Opening a pipe would wait for somebody to write to it.
        if not os.path.isfile(path):
            raise InvalidValue("%s is not a path of a readable file" % shown)
        try:
            with open(path, "rb") as file:
                data = file.read(env_files.LARGEST + 1)
        except OSError as error:
            raise InvalidValue("%s cannot be read: %s" % (shown, error.strerror)) from None
        if len(data) > env_files.LARGEST:
            raise InvalidValue("%s is larger than %d bytes" % (shown, env_files.LARGEST))
        try:
            return env_files.parse(decoded(data).lstrip("\ufeff"), _own_environment())
        except env_files.BadLine as error:
            raise InvalidValue("%s, line %d: %s" % (shown, error.line, error.reason)) from None

    return Validator("a path of a readable file", convert)


def _own_environment() -> Dict[str, str]:
    return {decoded(name): decoded(value) for name, value in os.environb.items()}


def file_mode_mask() -> Validator:
    """Octal digits; a number would leave open whether it was meant as octal."""

    def convert(value: object, folder: str) -> int:
        if not isinstance(value, str) or not re.match("0?[0-7]{1,3}$", value):
            raise InvalidValue()
        return int(value, 8)

    return Validator('a string of octal digits such as "022"', convert)


def nice() -> Validator:
    """A nice value that we may set."""

    def convert(value: object, folder: str) -> int:
        number = as_integer(value, *_NICE)
        # 20 less the limit is the least that somebody other than root may have: getrlimit(2).
        least = min(os.getpriority(os.PRIO_PROCESS, 0), 20 - _soft_limit(resource.RLIMIT_NICE))
        if os.geteuid() != 0 and number < least:
            raise InvalidValue("only root can run a process with less than %d" % least)
        return number

    return Validator("a whole number from %d to %d" % _NICE, convert)


def _soft_limit(number: int) -> int:
    limit = resource.getrlimit(number)[0]
    return 40 if limit == resource.RLIM_INFINITY else limit


def resource_limit(in_bytes: bool) -> Validator:
    """A limit of setrlimit(2), as its soft and hard value."""

    def convert(value: object, folder: str) -> Tuple[int, int]:
        soft, colon, hard = value.partition(":") if isinstance(value, str) else (value, "", "")
        pair = _limit(soft, in_bytes), _limit(hard if colon else soft, in_bytes)
        if _as_number(pair[0]) > _as_number(pair[1]):
            raise InvalidValue("the soft limit is above the hard one")
        return pair

    number = 'bytes or a size such as "512M"' if in_bytes else "a whole number"
    return Validator('%s, or "unlimited"; also "SOFT:HARD"' % number, convert)


def _limit(value: object, in_bytes: bool) -> int:
    if value == "unlimited":
        return resource.RLIM_INFINITY
    if in_bytes:
        return as_size(value)
    digits = isinstance(value, str) and re.match("[0-9]{1,18}$", value)
    return as_integer(int(str(value)) if digits else value, 0, 2**60)


def _as_number(limit: int) -> float:
    return float("inf") if limit == resource.RLIM_INFINITY else limit
