"""Text as man(7) has it: what roff would read as its own is escaped, Markdown becomes macros.

Of Markdown only what the README uses: paragraphs, lists, tables, code in backticks, bold, links.
"""

import re
import textwrap
from typing import Iterable, Iterator, List, NamedTuple

#: Characters that stand for others in roff, or that a terminal would get as others.
_ESCAPES = {
    "\\": "\\e", "^": "\\(ha", "~": "\\(ti", "`": "\\(ga", "'": "\\(aq",
}  # fmt: skip

_MARKUP = re.compile(
    r"`(?P<code>[^`]+)`|\*\*(?P<bold>[^*]+)\*\*|\[(?P<link>[^\]]+)\]\((?P<target>[^)]+)\)")
#: In a usage: options and words that are typed as they are; then those that stand for others.
_USAGE = re.compile(r"(?P<typed>--?[a-z][\w-]*|\b[a-z][\w-]*)|(?P<stands>\b[A-Z][A-Z_-]*\b)")
#: The beginning of a list's item.
_ITEM = re.compile(r"^(?:[*-]|\d+\.) ", re.MULTILINE)
_WIDTH = 78


class Block(NamedTuple):
    """A part of a Markdown text that stands by itself: a paragraph, a list, a table."""

    #: "text", "list" or "table".
    kind: str
    #: Of a list its items, of a table its rows, of a text the text alone.
    parts: List[str]


def escaped(text: str) -> str:
    """Plain text, in which a hyphen is a hyphen; ASCII only, as roff reads it everywhere."""
    return "".join(
        _ESCAPES.get(char) or (char if ord(char) < 127 else "\\[u%04X]" % ord(char))
        for char in text)


def literal(text: str) -> str:
    """What is typed, so that it can be copied: a hyphen is the minus of the keyboard."""
    return escaped(text).replace("-", "\\-")


def bold(text: str) -> str:
    return "\\fB%s\\fR" % _unbroken(text)


def italic(text: str) -> str:
    return "\\fI%s\\fR" % _unbroken(text)


def _unbroken(text: str) -> str:
    """No word of it gets a hyphen at the end of a line; `filled` sees to the first."""
    return literal(text).replace(" ", " \\%")


def usage(pattern: str) -> str:
    """A command line: what is typed is bold, what stands for something else is italic."""
    pieces, end = [], 0
    for found in _USAGE.finditer(pattern):
        typed, stands = found.group("typed"), found.group("stands")
        pieces.append(literal(pattern[end:found.start()]))
        pieces.append(bold(typed) if typed else italic(stands))
        end = found.end()
    return "".join(pieces) + literal(pattern[end:])


def inline(markdown: str) -> str:
    """A text of Markdown within its paragraph."""
    pieces, end = [], 0
    for found in _MARKUP.finditer(markdown):
        code, strong, link = found.group("code"), found.group("bold"), found.group("link")
        pieces.append(escaped(markdown[end:found.start()]))
        pieces.append(linked(link, found.group("target")) if link else bold(code or strong))
        end = found.end()
    return "".join(pieces) + escaped(markdown[end:])


def linked(words: str, target: str) -> str:
    """A section of the same page, in its capitals, or the words with the file they lead to."""
    if target.startswith("#"):
        return inline(words.upper())
    path = target.partition("#")[0]
    return inline(words if words.strip("`") == path else "%s in `%s`" % (words, path))


def filled(text: str) -> str:
    """Lines of a paragraph that is roff already; none of them begins like a request.

    `\\%` in front of a word keeps it whole, but within a word it is a place to break.
    """
    words = ("\\%" + word if re.search(r"\\f[BI]", word) else word for word in text.split())
    lines = textwrap.wrap(" ".join(words), _WIDTH, break_long_words=False, break_on_hyphens=False)
    return "".join("%s%s\n" % ("\\&" if line[0] in ".'" else "", line) for line in lines)


def section(title: str, text: str) -> str:
    """Its first paragraph follows the heading at once."""
    return ".SH %s\n%s" % (title, text[len(".PP\n"):] if text.startswith(".PP\n") else text)


def subsection(title: str) -> str:
    return '.SS "%s"\n' % literal(title)


def paragraph(markdown: str) -> str:
    return ".PP\n" + filled(inline(markdown))


def item(tag: str, *texts: str) -> str:
    """A tag, which is roff already, and what is said of it, in Markdown."""
    said = [filled(inline(text)) for text in texts]
    return ".TP\n%s\n%s" % (tag, ".br\n".join(said))


def bullet(markdown: str) -> str:
    return ".IP \\(bu 2\n" + filled(inline(markdown))


def example(lines: Iterable[str]) -> str:
    """Lines as they are, in the middle of a paragraph."""
    shown = "".join("%s%s\n" % ("\\&" if line[:1] in (".", "'") else "", literal(line))
                    for line in lines)
    return ".PP\n.RS 4\n.EX\n%s.EE\n.RE\n" % shown


def blocks(markdown: str) -> Iterator[Block]:
    """The parts of a text, without pictures and other code between fences, and without comments."""
    plain = re.sub(r"(?ms)^```.*?^```$|<!-- (\w+) -->.*<!-- /\1 -->", "", markdown)
    for part in re.split(r"\n\s*\n", plain.strip("\n")):
        if part.startswith("|"):
            yield Block("table", part.splitlines())
        elif _ITEM.match(part):
            yield Block("list", _ITEM.split(part)[1:])
        elif part.strip():
            yield Block("text", [part])


def block(found: Block) -> str:
    """It in roff."""
    if found.kind == "text":
        return paragraph(found.parts[0])
    if found.kind == "list":
        return "".join(map(bullet, found.parts))
    return paragraph(": ".join(cells(found.parts[0]))) + rows(found)


def rows(table: Block) -> str:
    """The rows of a table below its headings: the first column is what the others tell of."""
    return "".join(item(inline(first), *more) for first, *more in map(cells, table.parts[2:]))


def cells(row: str) -> List[str]:
    return [cell.strip() for cell in row.strip().strip("|").split(" | ")]
