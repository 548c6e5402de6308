"""How a message speaks of what stands in a file: short, printable, in one line."""

import difflib
import json
import re
from typing import Any, Optional, Sequence, Tuple, Union

#: Leads to a value of a file: names of keys, indexes of arrays.
Path = Tuple[Union[str, int], ...]

#: Longest echo of a value in a message, in characters: enough to know it again.
ECHO_LIMIT = 40


def show(value: Any) -> str:
    """A value as a message may echo it."""
    if isinstance(value, list):
        return "an array"
    if isinstance(value, dict):
        return "a table"
    if value is None or isinstance(value, (bool, str)):
        return _shortened(json.dumps(value, ensure_ascii=False))
    if isinstance(value, (int, float)):
        return _shortened(repr(value))
    return "a date or time"


def _shortened(text: str) -> str:
    short = text
    if len(text) > ECHO_LIMIT:
        short = text[: ECHO_LIMIT - 3] + "..." + ('"' if text.startswith('"') else "")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in short)


def spelled(path: Path) -> str:
    """A path as the file spells it: `processes[0].cluster.strategy`."""
    text = ""
    for part in path:
        text += "[%d]" % part if isinstance(part, int) else "." + _spelled_key(part)
    return text[1:] if text.startswith(".") else text


def _spelled_key(name: str) -> str:
    return name if re.match(r"[A-Za-z0-9_$-]{1,40}\Z", name) else show(name)


def nearest(word: str, known: Sequence[str], cutoff: float = 0.6) -> Optional[str]:
    """The known word that was probably meant: case, spaces, - and _ aside."""
    plain = {_plain(name): name for name in known}
    close = difflib.get_close_matches(_plain(word), list(plain), n=1, cutoff=cutoff)
    return plain[close[0]] if close else None


def _plain(word: str) -> str:
    return re.sub("[-_ .]", "", word[:ECHO_LIMIT]).lower()
