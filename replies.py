"""A reply of a running pupgevent, as a command may use it: checked, and harmless on a terminal.

A text in it can come from anywhere: an id from a file, a reason from an application, all of it from
another user, when root asks. On a terminal some characters are orders (ECMA-48), so none of them is
left but where an application's own lines are printed to the user whose application it is.
"""

import re
from typing import Any, Dict

from errors import PupgeventError, one_line

#: What a field is, where it is there.
_FIELDS: Dict[str, Any] = {
    "ok": bool, "busy": bool, "error": str, "status": (int, dict), "text": str, "pid": int,
    "progress": str, "lines": str, "errors": list,
}

#: Control characters, but for the tabulator, the line's end, and the colours that Pup's lines have.
_ORDERS = re.compile("(?!\\x1b\\[[0-9;]{0,16}m)[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]")


class Odd(PupgeventError):
    """A reply that cannot be understood."""

    def __init__(self) -> None:
        super().__init__("the answer is not one of this version of pupgevent")


class Reply(Dict[str, Any]):
    """A table of which each key that is asked for has to be there; raises Odd."""

    def __missing__(self, name: str) -> Any:
        raise Odd()


def checked(value: Any, ours: bool) -> Reply:
    """The reply in a line of JSON; `ours`: its lines are our own applications'. Raises Odd."""
    if not isinstance(value, dict):
        raise Odd()
    for name, kind in _FIELDS.items():
        if name in value and not isinstance(value[name], kind):
            raise Odd()
    lines = value.pop("lines", None)
    try:
        reply = Reply((one_line(name), _harmless(each)) for name, each in value.items())
    except RecursionError:
        raise Odd() from None
    if lines is not None:
        reply["lines"] = lines if ours else _ORDERS.sub("?", lines)
    return reply


def _harmless(value: Any) -> Any:
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, dict):
        return Reply((one_line(name), _harmless(each)) for name, each in value.items())
    return list(map(_harmless, value)) if isinstance(value, list) else value
