"""Validators of `watch` and `[watcher]`: arrays of paths, of endings of names, of globs."""

from typing import Callable, List, Tuple, TypeVar

import globs
from errors import format_value
from validators import InvalidValue, Validator, absolute_path, convert_all, non_empty_string

T = TypeVar("T")


def file_paths() -> Validator:
    """Files and folders, there already or not; an empty array is none."""

    def convert(value: object, folder: str) -> Tuple[str, ...]:
        return tuple(dict.fromkeys(
            _each(value, lambda item: absolute_path(item, folder), "a path")))

    return Validator("an array of paths of files and folders", convert)


def endings() -> Validator:
    """What names of files end in, as that, with its dot."""

    def convert(value: object, folder: str) -> Tuple[str, ...]:
        found = _each(value, non_empty_string, "an ending of a file's name")
        return tuple(each if each.startswith(".") else "." + each for each in found)

    return Validator("an array of strings", convert)


def patterns() -> Validator:
    """Globs, as they are."""

    def convert(value: object, folder: str) -> Tuple[str, ...]:
        return tuple(_each(value, _glob, "a glob"))

    return Validator("an array of globs", convert)


def _glob(item: object) -> str:
    text = non_empty_string(item)
    try:
        globs.compiled(text)
    except globs.BadGlob as error:
        raise InvalidValue("%s cannot be matched: %s" % (format_value(text), error)) from None
    return text


def _each(value: object, convert: Callable[[object], T], what: str) -> List[T]:
    """What `convert` makes of each in an array; `what` each of them has to be."""
    if not isinstance(value, list):
        raise InvalidValue()

    def one(index: int, item: object) -> T:
        try:
            return convert(item)
        except InvalidValue as error:
            reason = error.reason or "%s is not %s" % (format_value(item), what)
            raise InvalidValue(reason, index) from None

    return convert_all(one, enumerate(value))
