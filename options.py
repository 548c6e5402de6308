"""The options among the words of a command line: long or short, in bundles, with a value or not.

getopt(3) and what GNU has made of it: `-f`, `--follow`, `-n 20`, `-n20`, `--lines 20`,
`--lines=20`, `-fn 20`, anywhere on the line; behind `--` everything is a word. Long names are not
shortened: what `--li` is today may be two options tomorrow.
"""

from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence


class Option(NamedTuple):
    """What is known of an option besides its long name."""

    #: "-n"; "" where it has none.
    short: str = ""
    #: What its value is called: "LINES"; "" where it takes none.
    value: str = ""
    #: It may be given several times: its values are then one, with commas between them.
    repeats: bool = False


class Split(NamedTuple):
    """The words of a command line, and its options."""

    words: List[str]
    #: By their long names; the value of each, "" where it takes none. The last one counts, but
    #: for those that repeat.
    options: Dict[str, str]
    #: What is no option, as it was written.
    unknown: List[str]
    #: What is wrong with an option that is there: one line. The first of several.
    mistake: str


def split(argv: Sequence[str], known: "Mapping[str, Option]") -> Split:
    """Tell words and options apart; `known` has the options by their long names."""
    splitter = _Splitter(argv, known)
    while splitter.left:
        splitter.take()
    return Split(splitter.words, splitter.options, splitter.unknown, splitter.mistake)


class _Splitter:
    def __init__(self, argv: Sequence[str], known: "Mapping[str, Option]") -> None:
        self.left = list(argv)
        self.words: List[str] = []
        self.options: Dict[str, str] = {}
        self.unknown: List[str] = []
        self.mistake = ""
        self._known = known
        self._shorts = {option.short: name for name, option in known.items() if option.short}

    def take(self) -> None:
        word = self.left.pop(0)
        if word == "--":
            self.words += self.left
            self.left = []
        elif word.startswith("--"):
            self._take_long(word)
        elif word.startswith("-") and word != "-":
            self._take_bundle(word)
        else:
            self.words.append(word)

    def _take_long(self, word: str) -> None:
        name, has_value, value = word.partition("=")
        if name not in self._known:
            self.unknown.append(word)
        elif not has_value:
            self._note(name, name, None)
        elif self._known[name].value:
            self._note(name, name, value)
        else:
            self._complain('%s takes no value: "%s"' % (name, word))

    def _take_bundle(self, word: str) -> None:
        """Short options; the first that takes a value has what follows it."""
        names: List[str] = []
        for letter in word[1:]:
            name = self._shorts.get("-" + letter)
            if name is None:
                self.unknown.append(word)
                return
            names.append(name)
            if self._known[name].value:
                break
        for name in names[:-1]:
            self._note(name, name, None)
        behind, last = word[1 + len(names) :], names[-1]
        self._note(last, self._known[last].short, behind.lstrip("=") if behind else None)

    def _note(self, name: str, written: str, value: "Optional[str]") -> None:
        """An option that is known; None: its value, where it takes one, is the next word."""
        what = self._known[name].value
        if what and value is None:
            if not self.left:
                self._complain("%s: %s is missing" % (written, what))
                return
            value = self.left.pop(0)
        if self._known[name].repeats and name in self.options:
            value = "%s,%s" % (self.options[name], value)
        self.options[name] = value or ""

    def _complain(self, text: str) -> None:
        self.mistake = self.mistake or text
