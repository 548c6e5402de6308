"""Which files a watch is about: those that pass the patterns of `[watcher]`, and are not our own.

As Pup's `isWatched`: the path ends in one of `exts`, matches none of `skip` and one of `match`; an
empty list asks nothing. A pattern is matched with the path below the watched folder. What is named
in `watch` itself is a file that somebody wants to have watched, so it passes whatever it is called.
"""

import re
from typing import Iterable, NamedTuple, Tuple

import globs
from model import Watcher


class OwnFiles(NamedTuple):
    """What pupgevent itself writes: a change of it is no reason to restart anything."""

    #: Regular expressions of absolute paths, in an order that follows from them.
    patterns: Tuple[str, ...] = ()


class FileFilter:
    """The patterns, ready to be asked."""

    def __init__(self, watcher: Watcher, own: OwnFiles) -> None:
        self._endings = watcher.exts
        self._match = [globs.compiled(each) for each in watcher.match]
        self._skip = [globs.compiled(each) for each in watcher.skip]
        self._own = re.compile("|".join("(?:%s)" % each for each in own.patterns) or "(?!)")

    def passes(self, folder: str, relative: str) -> bool:
        """Whether a change of the file matters; `relative` is its path below the watched folder."""
        if self._endings and not relative.endswith(self._endings):
            return False
        if any(each.matches(relative) for each in self._skip):
            return False
        if self._match and not any(each.matches(relative) for each in self._match):
            return False
        return not self.is_own(folder, relative)

    def is_own(self, folder: str, relative: str) -> bool:
        return self._own.fullmatch("%s/%s" % (folder, relative)) is not None

    def skips_all_in(self, relative: str) -> bool:
        """Whether `skip` leaves out whatever may be in that folder: then nobody looks there."""
        return any(each.covers(relative) for each in self._skip)


def pattern_of(path: str, numbered: bool = False) -> str:
    """A regular expression of a file of our own, of what it is rotated to, and of the draft that
    takes its place: `app.log.1.gz`, `app.pid.4711`. `{id}` and `{instance}` stand for any name.

    `numbered`: each instance has its own, with its number before the suffix.
    """
    stem, dot, suffix = path.rpartition(".")
    if not dot or "/" in suffix:
        stem, dot, suffix = path, "", ""
    number = "(?:-[0-9]+)?" if numbered else ""
    text = re.escape(stem) + number + re.escape(dot + suffix)
    for name in ("{id}", "{instance}"):
        text = text.replace(re.escape(name), "[^/]+")
    return text + r"(?:\.[0-9][^/]*)?"


def own_files(patterns: Iterable[str]) -> OwnFiles:
    return OwnFiles(tuple(sorted(set(patterns))))
