"""Which files a watch is about: those that pass the patterns of `[watcher]`, and are not our own.

As Pup's `isWatched`: the path ends in one of `exts`, matches none of `skip` and one of `match`; an
empty list asks nothing. A pattern is matched with the path below the watched folder.
"""

import os
import re
from typing import FrozenSet, Iterator

import globs
from model import Watcher

#: Begins what a file is rotated to, and the draft that takes its place: `app.log.1.gz`,
#: `app.pid.4711`.
_ADDED = re.compile(r"\.(?=[0-9])")
#: What an instance puts before the suffix of its own: `app-3.pid`.
_NUMBER = re.compile("-[0-9]+$")


class FileFilter:
    """The patterns, ready to be asked; `own` are the paths of what pupgevent writes."""

    def __init__(self, watcher: Watcher, own: FrozenSet[str]) -> None:
        self._endings = watcher.exts
        self._match = [globs.compiled(each) for each in watcher.match]
        self._skip = [globs.compiled(each) for each in watcher.skip]
        self._own = own

    def passes(self, relative: str) -> bool:
        """Whether the patterns let it through; `relative` is its path below the watched folder."""
        if self._endings and not relative.endswith(self._endings):
            return False
        if any(each.matches(relative) for each in self._skip):
            return False
        return not self._match or any(each.matches(relative) for each in self._match)

    def is_own(self, path: str) -> bool:
        """Whether pupgevent writes it: a change of it is no reason to restart anything."""
        return bool(self._own) and any(each in self._own for each in _names_before(path))

    def skips_all_in(self, relative: str) -> bool:
        """Whether `skip` leaves out whatever there may ever be in that folder."""
        return any(each.covers(relative) for each in self._skip)


def _names_before(path: str) -> Iterator[str]:
    """The path, and what it may have been called before something was added to its name."""
    begin = path.rfind("/") + 1
    ends = [found.start() for found in _ADDED.finditer(path, begin)]
    for end in [len(path), *ends]:
        name = path[:end]
        yield name
        stem, suffix = os.path.splitext(name)
        yield _NUMBER.sub("", stem) + suffix
