"""What pupgevent says to people: the errors, and how a message words values, paths and numbers.

Each error that a user can meet is a PupgeventError: a line (or lines) that can be shown as it is,
and the exit status of a command that it ends. What a message repeats of a file is short, printable
and on one line.
"""

import difflib
import json
import re
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple, Union

#: Leads to a value of a file: names of keys, indexes of arrays.
KeyPath = Tuple[Union[str, int], ...]

#: Longest echo of a value in a message, in characters: enough to recognize it.
ECHO_LIMIT = 40

#: Most mistakes of one file that are listed; the rest is counted.
MISTAKES_LISTED = 20

#: Ends a line, or tells a terminal to do something.
_CONTROL_CHARACTERS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]")


class PupgeventError(Exception):
    """Root of all errors that a user can meet; its text is one line that can be shown as it is."""

    #: What the command exits with when this ends it.
    exit_status = 1

    def __str__(self) -> str:
        """One line, whatever the name of a file in it is."""
        return one_line(super().__str__())

    @property
    def lines(self) -> List[str]:
        """What the person at the terminal is shown: a line for each thing that is wrong."""
        return [str(self)]


class UsageError(PupgeventError):
    """The command line is wrong."""

    exit_status = 2


class Mistake(NamedTuple):
    """One thing that is wrong with a configuration file."""

    #: Counts from 1; None where the whole file is meant (it cannot be read, it is empty).
    line: Optional[int]
    message: str


class ConfigurationError(PupgeventError):
    """The configuration file is wrong: nothing is started from it.

    `path` is the file as the user named it, `mistakes` are in the order of its lines, and `line`
    and `message` are those of the first; the text is that of the first as well.
    """

    exit_status = 2

    def __init__(
        self, path: str, line: Optional[int], message: str, further: Sequence[Mistake] = ()
    ) -> None:
        self.path = path
        self.line = line
        self.message = message
        self.mistakes = (Mistake(line, message), *further)
        first = self._placed(self.mistakes[0])
        more = " (and %s)" % counted(len(further), "more mistake") if further else ""
        super().__init__(first + more)

    @property
    def lines(self) -> List[str]:
        listed = self.mistakes[:MISTAKES_LISTED]
        lines = [str(PupgeventError(self._placed(mistake))) for mistake in listed]
        if len(self.mistakes) > MISTAKES_LISTED:
            more = counted(len(self.mistakes) - MISTAKES_LISTED, "more mistake")
            rest = "%s: and %s" % (self.path, more)
            lines.append(str(PupgeventError(rest)))
        return lines

    def _placed(self, mistake: Mistake) -> str:
        place = self.path if mistake.line is None else "%s:%d" % (self.path, mistake.line)
        return "%s: %s" % (place, mistake.message)


class ShortageError(PupgeventError):
    """pupgevent itself lacks a thread, process, descriptor or memory for something just now.

    Whoever wanted it tries again, until there is one.
    """


class NotRunningError(PupgeventError):
    """A command was given for a file for which no pupgevent runs."""

    exit_status = 4


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, which is in the plural from two on, and with none at all; where no
    plural is given, that is with an s."""
    return "%d %s" % (number, noun if number == 1 else plural or noun + "s")


def local_time(moment: float, now: float, zone: Callable[[float], Sequence[int]]) -> str:
    """A Unix time as the clocks of the zone show it; the date only where it is not today."""
    year, month, day, hour, minute, second = zone(moment)[:6]
    time = "%02d:%02d:%02d" % (hour, minute, second)
    if tuple(zone(now)[:3]) == (year, month, day):
        return time
    return "%04d-%02d-%02d %s" % (year, month, day, time)


def listed(words: Sequence[str], last: str) -> str:
    """"a, b or c", where the word before the last is "or"."""
    return (" %s " % last).join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def format_value(value: object) -> str:
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


def format_path(path: KeyPath) -> str:
    """A path as the file spells it: `processes[0].cluster.strategy`."""
    text = ""
    for part in path:
        text += "[%d]" % part if isinstance(part, int) else "." + _format_key(part)
    return text[1:] if text.startswith(".") else text


def _format_key(name: str) -> str:
    return name if re.match(r"[A-Za-z0-9_$-]{1,40}\Z", name) else format_value(name)


def nearest(word: str, known: Sequence[str], cutoff: float = 0.6) -> Optional[str]:
    """The known word that was probably meant: case, spaces, - and _ aside."""
    plain = {_normalized(name): name for name in known}
    close = difflib.get_close_matches(_normalized(word), list(plain), n=1, cutoff=cutoff)
    return plain[close[0]] if close else None


def _normalized(word: str) -> str:
    return re.sub("[-_ .]", "", word[:ECHO_LIMIT]).lower()


def one_line(text: str) -> str:
    """The text with control characters and line ends written as escapes."""
    return _CONTROL_CHARACTERS.sub(lambda found: repr(found.group())[1:-1], text)


def encoded(text: str) -> bytes:
    """UTF-8, whatever the locale is; what was no UTF-8 before `decoded` is the same bytes again."""
    return text.encode("utf-8", "surrogateescape")


def decoded(data: bytes) -> str:
    """The text of bytes that are UTF-8, or should be."""
    return data.decode("utf-8", "surrogateescape")
