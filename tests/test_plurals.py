"""Whatever is counted in a message is so by one helper, which knows a singular."""

import ast
import re
import sys
from pathlib import Path
from typing import Iterator

import pytest

from errors import counted

ROOT = Path(__file__).resolve().parent.parent

#: A number before a noun in the plural, unless the text around it says that there are several, or
#: that the number is a name.
_PLURAL = re.compile(r"(?<!than )(?<!last of )(?<!port )(?<!pid )%d [a-z]+s\b")

#: Where the syntax tree has the text of a literal.
_TEXT = "value" if sys.version_info >= (3, 8) else "s"


@pytest.mark.parametrize("number, text", [
    (0, "0 instances"), (1, "1 instance"), (2, "2 instances"), (1000, "1000 instances")])
def test_one_is_singular_and_all_else_plural(number: int, text: str) -> None:
    assert counted(number, "instance") == text


def literals() -> Iterator[str]:
    for path in ROOT.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            value = getattr(node, _TEXT, None)
            if isinstance(value, (str, bytes)):
                text = value if isinstance(value, str) else value.decode("latin-1")
                yield "%s: %s" % (path.name, text)


#: These are never of one.
ALWAYS_SEVERAL = {
    "http_framing.py: a head over %d bytes",
    "http_framing.py: a line between chunks is over %d bytes",
    "http_framing.py: chunk extensions over %d bytes",
    "http_framing.py: more than %d trailers, or %d bytes",
    "client.py: (%d lines more)", "sinks.py: %d bytes of log were lost: %s",
    "alert_rules.py: At {{ $labels.instance }} this instance of {{ $labels.proxy }} has ended, or"
    ' failed to start, {{ $value | printf "%%.0f" }} times within %d minutes. If it does so in a'
    " row, it is given up at its `restartLimit`, if it has one. `pupgevent logs"
    " {{ $labels.server }}` shows its last lines.",
}


def test_no_message_has_a_plural_of_its_own() -> None:
    found = {text for text in literals() if _PLURAL.search(text)}
    assert found <= ALWAYS_SEVERAL
