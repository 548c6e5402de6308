"""JSON in pieces: a status of a thousand instances is half a megabyte, written in a few turns."""

import json
from typing import Any, Iterator


def json_pieces(what: Any) -> "Iterator[str]":
    """The text of a value in pieces: each object of a list, of which there may be thousands, is a
    piece of its own."""
    if not _has_objects(what):
        yield json.dumps(what)
        return
    named = isinstance(what, dict)
    before = "{" if named else "["
    for each in what:
        yield "%s%s: " % (before, json.dumps(each)) if named else before
        yield from json_pieces(what[each] if named else each)
        before = ", "
    yield "}" if named else "]"


def _has_objects(what: object) -> bool:
    """Is there a list of objects anywhere in it?"""
    if isinstance(what, list):
        return bool(what) and isinstance(what[0], dict)
    return isinstance(what, dict) and any(map(_has_objects, what.values()))
