"""What is said at the control socket: requests and replies, each looked at by who gets it.

Both sides speak JSON, one object a line, UTF-8, `\n` at the end. A connection carries one request:

    client   {"command": "restart", "words": ["my-app"]}
    server   {"progress": "my-app-1: stopping"}              none, one, or many
    server   {"progress": "my-app-1: stopped"}
    server   {"ok": true, "text": "restarted: my-app-1"}     exactly one, the last line

A request may say whom it means, since two files may name one socket: "config" has the paths of a
configuration file, of which one has to be this pupgevent's. An answer that is not `ok` has
`error`, one line for people, and `status`, the exit code of the command; where several things are
wrong (a reload of a bad file), `errors` has a line for each.

The requests, and what they answer with besides `text`:

    status                        "words": ids, names of instances, "all"; none is all;
                                  "usage": with CPU and memory, true where it is left out;
                                  answers with "status": see status_report.py
    describe                      "word": the id of a process, or the name of an instance;
                                  answers with "description": see description_report.py
    start, stop, restart          "words"
    signal                        "signal": its name or number, "words"
    scale                         "id", "instances"
    reload
    shutdown                      "pid"; the answer comes when all is stopped
    logs                          "words", "follow": true or false, "colors": the same, "lines":
                                  the last so many; left out, or -1: all that are in memory, or ten
                                  where "follow" is true; "since": none from before, in Unix time;
                                  left out, or null: however old; with "since" alone all;
                                  before the answer: {"lines": "..."}, bytes that are no UTF-8
                                  as lone surrogates (PEP 383), which may be none and may be a part
                                  of a line; beside them, sometimes, "hint": what cannot be shown

A text in a reply can come from anywhere: an id from a file, a reason from an application, all of
it from another user, when root asks. On a terminal some characters are orders (ECMA-48), so none
of them is left but where an application's own lines are printed to the user whose application it
is.
"""


import json
import re
from typing import Any, Dict, List, Mapping

from errors import PupgeventError, one_line

JsonObject = Dict[str, Any]

#: How the error begins where a command is asked for that the other side does not know.
UNKNOWN_COMMAND = '"command" is none of'

#: Letters of a request that are logged.
_MOST_ECHO = 200

#: What a field is, where it is there.
_FIELDS: Dict[str, Any] = {
    "ok": bool, "busy": bool, "error": str, "status": (int, dict), "text": str, "pid": int,
    "progress": str, "lines": str, "hint": str, "errors": list,
}

#: Control characters, but for the tabulator, the line's end, and the colours that Pup's lines have.
_ORDERS = re.compile("(?!\\x1b\\[[0-9;]{0,16}m)[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]")


class BadReply(PupgeventError):
    """A reply that cannot be understood."""

    def __init__(self) -> None:
        super().__init__("the answer is not one of this version of pupgevent")


class Reply(Dict[str, Any]):
    """A table of which each key that is asked for has to be there; raises BadReply."""

    def __missing__(self, name: str) -> Any:
        raise BadReply()


def checked(value: object, ours: bool) -> Reply:
    """The reply in a line of JSON; `ours`: its lines are our own applications'. Raises BadReply."""
    if not isinstance(value, dict):
        raise BadReply()
    for name, kind in _FIELDS.items():
        if name in value and not isinstance(value[name], kind):
            raise BadReply()
    lines = value.pop("lines", None)
    try:
        reply = Reply((one_line(name), _harmless(each)) for name, each in value.items())
    except RecursionError:
        raise BadReply() from None
    if lines is not None:
        reply["lines"] = lines if ours else _ORDERS.sub("?", lines)
    return reply


def _harmless(value: Any) -> Any:
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, dict):
        return Reply((one_line(name), _harmless(each)) for name, each in value.items())
    return list(map(_harmless, value)) if isinstance(value, list) else value


# Requests


class Refused(PupgeventError):
    """The request is not one that can be understood."""

    exit_status = 2


def read_request(line: bytes) -> JsonObject:
    """The object in a line; raises Refused."""
    try:
        fields = json.loads(line.decode())
    except (ValueError, RecursionError):
        raise Refused("the request is not JSON") from None
    if not isinstance(fields, dict):
        raise Refused("the request is not an object")
    return fields


def check_fields(fields: JsonObject, known: "Mapping[str, Any]") -> JsonObject:
    """With what is left out filled in; raises Refused. A field that is a type is required, and one
    that may be null is a number."""
    for name in fields:
        if name not in known:
            raise Refused('unknown field "%s"' % name[:64])
    checked: JsonObject = {}
    for name, default in known.items():
        kind: Any = default if isinstance(default, type) else type(default)
        value: Any = fields.get(name, default)
        fits = type(value) is kind or (default is None and type(value) in (int, float))
        if not fits or (kind is list and not all(type(w) is str for w in value)):
            raise Refused('"%s" is not %s' % (name, _KINDS[kind]))
        checked[name] = value
    return checked


_KINDS: Dict[Any, str] = {
    type(None): "a number or null",
    list: "an array of strings", bool: "true or false", str: "a string", int: "a whole number",
}


def spelled(fields: JsonObject) -> str:
    """A request as one would type it."""
    words: List[object] = []
    for value in fields.values():
        words.extend(value if isinstance(value, list) else [value])
    return " ".join(map(str, words))[:_MOST_ECHO]
