"""Lines of text in styles: painted for a terminal, plain for a pipe, cut to so many columns.

Whoever makes a line says what is red in it, and does not count escape sequences: a line is cut
while it is text, and painted after that.
"""

import unicodedata
from typing import List, NamedTuple, Optional, Sequence

# Styles, as the parameters of SGR (ECMA-48). Of the colours only those that can be read on white
# and on black; grey is the faint text, since some palettes make the bright black invisible.

BOLD, FAINT, RED, GREEN, YELLOW = "1", "2", "31", "32", "33"

#: In the place of what is cut off.
_CUT = "~"


class Span(NamedTuple):
    """A part of a line that looks the same all through."""

    text: str
    style: str = ""


Line = Sequence[Span]


def rendered(line: Line, width: "Optional[int]" = None, colors: bool = False) -> str:
    """The line as it is printed: at most `width` columns of it."""
    kept = plain(line).rstrip()
    if width is not None:
        kept = cut(kept, width)
    if not colors:
        return kept
    parts: List[str] = []
    left = len(kept)
    for text, style in line:
        part = kept[len(kept) - left :][: len(text)]
        left -= len(part)
        parts.append("\x1b[%sm%s\x1b[0m" % (style, part) if style and part.strip() else part)
    return "".join(parts)


def plain(line: Line) -> str:
    return "".join(span.text for span in line)


def cut(text: str, width: int) -> str:
    """At most so many columns of the text."""
    if columns(text) <= width:
        return text
    return _beginning(text, max(0, width - len(_CUT))) + _CUT[:width]


def folded(text: str, width: "Optional[int]", indent: int = 0) -> List[str]:
    """The text in lines of so many columns, the further ones indented; where it can be, each ends
    with a word."""
    lines: List[str] = []
    while width is not None and columns(text) > width:
        line = _beginning(text, max(indent + 2, width))
        words = line.rpartition(" ")[0].rstrip()
        # Not where the line would be left half empty.
        if not text[len(line)].isspace() and len(words) > max(indent, len(line) // 2):
            line = words
        lines.append(line)
        text = " " * indent + text[len(line) :].lstrip()
    return [*lines, text]


def columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if max(text, default="") < "\u0300":
        return len(text)
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    """Wide ones take two, and so may those that this Python does not know yet."""
    category = unicodedata.category(character)
    if category in ("Mn", "Me", "Cf"):
        return 0
    return 2 if category == "Cn" or unicodedata.east_asian_width(character) in "WF" else 1


def _beginning(text: str, width: int) -> str:
    """As many characters as fit."""
    left = width
    for index, character in enumerate(text):
        left -= _columns(character)
        if left < 0:
            return text[:index]
    return text
