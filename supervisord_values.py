"""Values in a configuration of supervisord: its expansions, pairs, sizes and commands.

An expansion is Python's %-format of a name: `%(program_name)s`, `%(ENV_HOME)s`.
What is the same whenever the program runs is put in here. What differs from one instance to the
next, and variables of the environment, are left to a shell:

    %(ENV_HOME)s                $HOME
    %(process_num)d             $PUP_CLUSTER_INSTANCE, from 0; plus numprocs_start
    80%(process_num)02d         $PUP_CLUSTER_PORT, where it counts up like a port
"""

import platform
import re
import shlex
from typing import Dict, List, Match, NamedTuple, Optional, Sequence, Tuple, Union

_FORM = re.compile(r"%(?:%|\((\w+)\)(0?[0-9]{0,2})([sdi])|(?s:.)?)")
#: In place of an expansion while a command is taken apart: no text has a NUL in it.
_MARK = re.compile("\0([0-9]+)\0")
#: What a shell does not touch.
_PLAIN = re.compile(r"[\w@%+=:,./-]+\Z", re.ASCII)
#: An instance's number with the digits in front of it, all of the word's digits there.
_NUMBERED = re.compile(r"(?<![0-9])([0-9]*)%\(process_num\)(?:(0?[0-9]{0,2})[di]|s)(?![0-9%])")

#: Text as far as it is outside of quotes, or its quotes end (shlex, POSIX mode).
_WITHOUT_QUOTES = re.compile(
    r"""(?s)\A(?:[^\\'"]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")*""")

_UNITS = {"KB": 1024, "MB": 1024**2, "GB": 1024**3}
_LEAST_PORT = 1024


class NotExpandable(Exception):
    """An expansion is known only when the program runs."""


class Expander:
    """The expansions of one program."""

    def __init__(self, program: str, here: str, count: int, first: int) -> None:
        self._count = count
        self._first = first
        self._names: Dict[str, Union[str, int]] = {
            "program_name": program, "group_name": program, "here": here,
            "host_node_name": platform.node(), "numprocs": count}
        if count == 1:
            self._names["process_num"] = first
        #: Of the first instance, where the command counts up from a port.
        self.port: Optional[int] = None

    def fixed(self, text: str) -> str:
        """The text with its expansions; raises NotExpandable, or ValueError for wrong ones."""
        return _FORM.sub(self._fixed, text)

    def _fixed(self, found: Match[str]) -> str:
        if found.group() == "%%":
            return "%"
        name, width, kind = found.groups()
        if name in self._names:
            return _formatted(self._names[name], width, kind)
        if name == "process_num":
            raise NotExpandable("It differs from one instance to the next.")
        if name and name.startswith("ENV_") and len(name) > 4:
            raise NotExpandable("It depends on the environment in which supervisord was started.")
        raise ValueError("%s cannot be expanded" % found.group())

    def with_instance(self, text: str) -> str:
        """The number of the instance as the paths of log files here have it."""
        if self._count == 1:
            return text
        return re.sub(r"%\(process_num\)0?[0-9]{0,2}[sdi]", "{instance}", text)

    def with_port(self, text: str) -> str:
        """The text with the numbers that count up from a port as $PUP_CLUSTER_PORT."""
        counting = self._count > 1 and self._first >= 0
        return _NUMBERED.sub(self._as_port, text) if counting else text

    def _as_port(self, found: Match[str]) -> str:
        width = found.group(2) or ""
        numbers = [int(found.group(1) + _formatted(n, width, "d").strip())
                   for n in range(self._first, self._first + self._count)]
        port = numbers[0]
        counts = numbers == list(range(port, port + self._count))
        if not counts or port < _LEAST_PORT or numbers[-1] > 65535:
            return found.group()
        if self.port not in (None, port):
            return found.group()
        self.port = port
        return "%(ENV_PUP_CLUSTER_PORT)s"

    def for_shell(self, found: Match[str]) -> str:
        """An expansion as a shell has it; raises ValueError for a wrong one."""
        name, width, _ = found.groups()
        if name == "process_num":
            number = "PUP_CLUSTER_INSTANCE"
            if self._first or width:
                number = "$((%s + %d))" % (number, self._first) if self._first else "$" + number
                return "$(printf %%%sd %s)" % (width, number) if width else number
            return "${%s}" % number
        if not name or not re.match(r"ENV_[A-Za-z_][A-Za-z0-9_]*\Z", name, re.ASCII):
            raise ValueError("%s cannot be expanded" % found.group())
        return "${%s}" % name[4:]


def _formatted(value: Union[str, int], width: str, kind: str) -> str:
    if kind != "s" and isinstance(value, str):
        raise ValueError("%%(...)%s is for numbers" % kind)
    return ("%" + width + kind) % value


class _Mark(NamedTuple):
    """An expansion that is left to the shell."""

    text: str
    #: In the source, so that what it becomes is one word.
    in_quotes: bool


def command_of(
    text: str, variables: Sequence[Tuple[str, str]], expand: Expander
) -> Union[str, List[str]]:
    """The words of a command, or a line for the shell where it has to expand something.

    `variables` are set by env(1) in front of it. Raises ValueError.
    """
    marks: List[_Mark] = []
    words = _split(_marked(expand.with_port(text), expand, marks))
    if not words:
        raise ValueError("it is empty")
    settings = [_marked("%s=%s" % (name, expand.with_port(value)), expand, marks, True)
                for name, value in variables]
    words = ["env", *settings, *words] if settings else words
    return " ".join(_quoted(word, marks) for word in words) if marks else words


def _marked(text: str, expand: Expander, marks: List[_Mark], in_quotes: bool = False) -> str:
    """The text with fixed expansions, and a mark in place of each of the others."""
    def replaced(found: Match[str]) -> str:
        try:
            return expand.fixed(found.group())
        except NotExpandable:
            quoted = in_quotes or _ends_in_quotes(text[:found.start()])
            marks.append(_Mark(expand.for_shell(found), quoted))
            return "\0%d\0" % (len(marks) - 1)

    return _FORM.sub(replaced, text)


def _ends_in_quotes(text: str) -> bool:
    return _WITHOUT_QUOTES.sub("", text) != ""


def _split(text: str) -> List[str]:
    try:
        return shlex.split(text)
    except ValueError:
        raise ValueError("its quotes do not end") from None


def _quoted(word: str, marks: Sequence[_Mark]) -> str:
    """A word for a shell; an expansion without quotes may become several, as in the source."""
    parts = _MARK.split(word)
    used = [marks[int(part)] for part in parts[1::2]]
    if not used:
        return _literal(word)
    if all(mark.in_quotes for mark in used):
        texts = [mark.text for mark in used]
        literals = [re.sub(r'([\\"$`])', r"\\\1", part) for part in parts[::2]]
        return '"%s"' % _joined(literals, texts)
    texts = ['"%s"' % mark.text if mark.in_quotes else mark.text for mark in used]
    return _joined([_literal(part) if part else "" for part in parts[::2]], texts)


def _joined(literals: Sequence[str], between: Sequence[str]) -> str:
    return "".join(literal + other for literal, other in zip(literals, [*between, ""]))


def _literal(text: str) -> str:
    return text if _PLAIN.match(text) else shlex.quote(text)


def pairs(text: str) -> List[Tuple[str, str]]:
    """`KEY=value,KEY="value"`, as supervisord takes it apart; raises ValueError."""
    # There expansions come first: what stands in for one is no end of a word.
    forms = [found.group() for found in _FORM.finditer(text)]
    marks = iter(range(len(forms)))
    lexer = shlex.shlex(_FORM.sub(lambda found: "\0%d\0" % next(marks), text), posix=True)
    lexer.wordchars += "/.+-():\0"
    try:
        tokens = list(lexer)
    except ValueError:
        raise ValueError("its quotes do not end") from None
    found: Dict[str, str] = {}
    for start in range(0, len(tokens), 4):
        three = tokens[start:start + 3]
        if len(three) != 3 or three[1] != "=":
            raise ValueError("it is not made of KEY=value pairs with commas between")
        name, value = (_MARK.sub(lambda mark: forms[int(mark.group(1))], word)
                       for word in (three[0], three[2]))
        found[name] = value
    return list(found.items())


def size(text: str) -> int:
    """Bytes, with KB, MB or GB behind; raises ValueError."""
    word = text.strip().upper()
    unit = _UNITS.get(word[-2:])
    return int(word[:-2]) * unit if unit else int(word)


def is_true(text: str) -> bool:
    return text.strip().lower() in ("yes", "true", "on", "1")
