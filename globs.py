"""Globs as Pup reads them, as regular expressions of Python.

Pup hands its patterns to `globToRegExp` of Deno's standard library (@std/path, posix), so this is
its dialect, with the same answers:

    *  ?  [a-z]  [!a]  [[:digit:]]     within a segment; `?` and a set also match a slash
    **                                 a segment of its own: any number of segments, also none
    {a,b}  @(a|b)  ?(a)  *(a)  +(a)    one of these, at most one, any number, at least one
    !(a)                               nothing that begins like this
    \\                                  the next character as it is

A segment whose group, set or escape has no end is taken literally. Slashes may be doubled, and
follow at the end. What JavaScript reads differently from Python is written out: its `.`, its `\\s`,
its sets that are empty or have a `-` between two others. One thing differs: a character beyond the
Basic Multilingual Plane is one here, and two there.
"""

import re
from typing import Dict, List, NamedTuple, Optional, Pattern, Tuple

_GLOBSTAR = r"(?:[^/]*(?:/|\Z)+)*"
_WILDCARD = "[^/]*"
#: JavaScript's `.`: no end of a line.
_ANY = "[^\n\r\u2028\u2029]"
_NOTHING = "(?!)"

_DIGITS = "0-9"
#: JavaScript's `\s`, which is not Python's.
_SPACE = "\t\n\x0b\f\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_\u2018{|}~"

#: In the place of a `-` that makes a range of its two neighbours.
_RANGE = ""

#: The members of the named sets. One of several characters is a set that makes no range.
_NAMED_SETS: Dict[str, Tuple[str, ...]] = {
    "alnum": (_DIGITS, "A", _RANGE, "Z", "a", _RANGE, "z"),
    "alpha": ("A", _RANGE, "Z", "a", _RANGE, "z"),
    "ascii": ("\0", _RANGE, "\x7f"),
    "blank": ("\t", " "),
    "cntrl": ("\0", _RANGE, "\x1f", "\x7f"),
    "digit": (_DIGITS,),
    "graph": ("!", _RANGE, "~"),
    "lower": ("a", _RANGE, "z"),
    "print": (" ", _RANGE, "~"),
    "punct": tuple(_PUNCTUATION),
    "space": (_SPACE,),
    "upper": ("A", _RANGE, "Z"),
    "word": ("0-9A-Za-z_",),
    "xdigit": (_DIGITS, "A", _RANGE, "F", "a", _RANGE, "f"),
}
_NAMED_SET = re.compile(r"\[:([^:]*):\]")

#: The groups that repeat what is in them.
_REPEATING = "*+"


class BadGlob(ValueError):
    """No regular expression can be made of it; the text ends the line about it."""


class Glob(NamedTuple):
    """One pattern, ready to be asked."""

    expression: Pattern[str]
    #: Its last segment is `**`: what it matches with a slash behind, it matches with all below.
    covers_all_below: bool

    def matches(self, path: str) -> bool:
        return self.expression.fullmatch(path) is not None

    def covers(self, folder: str) -> bool:
        """Whether it matches everything that may ever be in that folder."""
        return self.covers_all_below and self.matches(folder + "/")


def compiled(glob: str) -> Glob:
    """Raises BadGlob."""
    if not glob:
        return Glob(re.compile(_NOTHING), False)
    glob = glob.rstrip("/") or "/"
    text, last, at = "", "", 0
    while at < len(glob):
        segment = _Segment(glob, at)
        last, at = segment.read(), segment.at
        text += last
        if not segment.has_globstar:
            text += "/+" if at < len(glob) else "/*"
        while glob[at:at + 1] == "/":
            at += 1
    return Glob(re.compile(text), last == _GLOBSTAR)


class _Segment:
    """What stands from `at` on up to the next slash outside of a group, where `at` is then."""

    def __init__(self, glob: str, at: int) -> None:
        self.at = at
        self.has_globstar = False
        self._glob = glob
        self._begin = at
        self._parts: List[str] = []
        #: The groups that are open: the character in front of the bracket, or the brace.
        self._groups: List[str] = []
        self._problem: Optional[BadGlob] = None

    def read(self) -> str:
        """Its regular expression; raises BadGlob."""
        is_whole = True
        while is_whole and not self._is_over():
            is_whole = self._take()
        if not is_whole or self._groups:
            self.has_globstar = False
            return re.escape(self._glob[self._begin:self.at])
        if self._problem is not None:
            raise self._problem
        return "".join(self._parts)

    def _is_over(self) -> bool:
        return self.at >= len(self._glob) or (self._here == "/" and not self._groups)

    @property
    def _here(self) -> str:
        return self._glob[self.at]

    @property
    def _next(self) -> str:
        return self._glob[self.at + 1:self.at + 2]

    @property
    def _group(self) -> str:
        """The innermost that is open."""
        return self._groups[-1] if self._groups else ""

    def _take(self) -> bool:
        """One thing; False: it has no end in this segment."""
        here = self._here
        if here == "\\":
            return self._take_escape()
        if here == "[":
            return self._take_set()
        if here in "?*+@!" and self._next == "(":
            self._open(here)
            self.at += 2
        elif here == "*":
            self._take_stars()
        else:
            self._take_character(here)
            self.at += 1
        return True

    def _take_character(self, here: str) -> None:
        if here == "{":
            self._open(here)
        elif here == "?":
            self._parts.append(_ANY)
        elif (here == ")" and self._group not in ("", "{")) or (here == "}" and self._group == "{"):
            self._close()
        elif (here == "|" and self._group not in ("", "{")) or (here == "," and self._group == "{"):
            self._parts.append("|")
        else:
            self._parts.append(re.escape(here))

    def _take_escape(self) -> bool:
        self.at += 1
        if self._is_over():
            return False
        self._parts.append(re.escape(self._here))
        self.at += 1
        return True

    def _take_stars(self) -> None:
        before = self._glob[self.at - 1:self.at] if self.at else ""
        begin = self.at
        while self.at < len(self._glob) and self._here == "*":
            self.at += 1
        after = self._glob[self.at:self.at + 1]
        is_globstar = self.at - begin == 2 and before in ("", "/") and after in ("", "/")
        self._refuse_in_repetition("*")
        self._parts.append(_GLOBSTAR if is_globstar else _WILDCARD)
        self.has_globstar = self.has_globstar or is_globstar

    def _open(self, kind: str) -> None:
        if kind in "*+!":
            self._refuse_in_repetition(kind + "(")
        self._groups.append(kind)
        self._parts.append("(?!" if kind == "!" else "(?:")

    def _close(self) -> None:
        kind = self._groups.pop()
        ends = {"!": ")" + _WILDCARD, "@": ")", "{": ")"}
        self._parts.append(ends.get(kind, ")" + kind))

    def _refuse_in_repetition(self, what: str) -> None:
        """There are more ways to match `*(*a)` than there is time to try, and no thread but one
        runs meanwhile."""
        outer = next((kind for kind in self._groups if kind in _REPEATING), None)
        if outer is not None:
            self._problem = self._problem or BadGlob(
                "%s is inside of a group that repeats, %s(...)" % (what, outer))

    def _take_set(self) -> bool:
        self.at += 1
        is_negated = self.at < len(self._glob) and self._here == "!"
        self.at += is_negated
        members: List[str] = []
        while not self._is_over():
            if self._here == "]":
                self.at += 1
                self._parts.append(self._as_set(members, is_negated))
                return True
            if not self._take_members(members):
                break
        return False

    def _take_members(self, members: List[str]) -> bool:
        """What one thing between the brackets adds; False: it has no end."""
        named = _NAMED_SET.match(self._glob, self.at)
        if named is not None:
            members.extend(_NAMED_SETS.get(named.group(1), ()))
            self.at = named.end()
            return True
        is_escaped = self._here == "\\"
        self.at += is_escaped
        if self._is_over():
            return False
        members.append(_RANGE if self._here == "-" and not is_escaped else self._here)
        self.at += 1
        return True

    def _as_set(self, members: List[str], is_negated: bool) -> str:
        inside, at = "", 0
        while at < len(members):
            if at + 2 < len(members) and members[at + 1] == _RANGE:
                inside += self._as_range(members[at] or "-", members[at + 2] or "-")
                at += 3
            else:
                inside += _as_member(members[at] or "-")
                at += 1
        if not inside:
            return "(?s:.)" if is_negated else _NOTHING
        return "[%s%s]" % ("^" if is_negated else "", inside)

    def _as_range(self, first: str, last: str) -> str:
        if len(first) > 1 or len(last) > 1:
            return _as_member(first) + _as_member("-") + _as_member(last)
        if first > last:
            self._problem = self._problem or BadGlob(
                "the range %s-%s runs backwards" % (first, last))
            return ""
        return "%s-%s" % (re.escape(first), re.escape(last))


def _as_member(member: str) -> str:
    return member if len(member) > 1 else re.escape(member)
