"""The files below the watched paths as the last look has found them, and what has changed since.

Nothing here trusts the order, or the content, of events: they only say in which folder it is worth
looking. What has changed is what differs from the look before. So a folder that is there before
anybody watches it, a rename, a queue that ran over and a file system without events all come to the
same: one more look.

A look blocks, and is for a thread; one at a time.
"""

import errno
import os
import stat
import time
from typing import Dict, FrozenSet, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

from file_filter import FileFilter

#: Most folders of one tree: beyond it there are links that multiply, or it is the whole disk.
MOST_FOLDERS = 100000

#: After so many entries the thread lets the others run, where no system call does.
_BREATH = 64

#: File systems that others change, of which inotify(7) tells nothing.
_REMOTE = frozenset(
    "nfs nfs4 cifs smb3 smbfs 9p ceph afs vboxsf prl_fs virtiofs lustre gfs2 ocfs2".split())

#: Of a folder: its device and number. Of a file: made of what a change of it changes.
Mark = Tuple[int, int]


class FolderWatches:
    """What a tree tells of the folders that it enters and leaves. This one watches nothing."""

    def add(self, folder: str) -> int:
        """Returns the number of the watch. OSError."""
        return -1

    def remove(self, folder: str, watch: int) -> None:
        """The folder is gone, or is looked into no longer."""


class Folder(NamedTuple):
    """What was found in a folder."""

    mark: Mark
    #: Begins the path of whatever is below the watched path that this is part of.
    prefix: str
    files: Dict[str, Mark]
    folders: FrozenSet[str]
    #: The links among both, and the broken ones.
    links: Dict[str, Optional[Mark]]
    watch: int


class _Visit(NamedTuple):
    """A folder to look into."""

    path: str
    mark: Mark
    prefix: str


class _Listing:
    """What is in a folder now."""

    def __init__(self) -> None:
        self.files: Dict[str, Mark] = {}
        self.folders: Dict[str, Mark] = {}
        self.links: Dict[str, Optional[Mark]] = {}


class FileTree:
    """All that is below some paths, each of which may be a folder, a file, or not there yet."""

    def __init__(
        self, paths: Iterable[str], file_filter: FileFilter,
        watches: Optional[FolderWatches] = None,
    ) -> None:
        self._roots: Dict[str, Optional[Mark]] = dict.fromkeys(paths)
        self._filter = file_filter
        self._watches = watches or FolderWatches()
        self._folders: Dict[str, Folder] = {}
        self._with_links: Set[str] = set()
        #: Why somebody has to look everywhere, now and again, as no events come; else empty.
        self.polls = "" if watches else "there is no inotify"
        #: The files that have changed, been added or removed, until somebody has taken them.
        self.changes: List[str] = []
        #: What was met on the way: "/srv/x cannot be read: permission denied".
        self.troubles: List[str] = []

    # For the hub: these do not block

    def passes(self, folder: str, name: str) -> bool:
        """Whether a change of that file would be one."""
        found = self._folders.get(folder)
        path = _join(folder, name)
        if found is None:
            # A look is just about to know it.
            return True
        return self._filter.passes(path[len(found.prefix):]) and not self._filter.is_own(path)

    # For a thread

    def look(self, folders: Optional[Iterable[str]] = None) -> None:
        """Look into these, or everywhere, and into folders that were not there before; what differs
        is in `changes`."""
        everywhere = folders is None
        # In this order, since what is found in a folder may end another that is below it.
        for path in sorted(self._roots if folders is None else folders):
            known = self._folders.get(path)
            if path in self._roots:
                visits = list(self._visit_root(path))
            else:
                visits = [_Visit(path, known.mark, known.prefix)] if known is not None else []
            while visits:
                visits.extend(self._visit(visits.pop(), everywhere))

    def moved(self) -> Set[str]:
        """Where to look because a link leads elsewhere, a watched path is another folder, or a file
        is behind a link or a path of its own: nobody tells of these."""
        found = {path for path, mark in self._roots.items() if _mark_of(path) != mark}
        for path in list(self._with_links):
            links = self._folders[path].links
            if any(_mark_of(_join(path, name)) != mark for name, mark in links.items()):
                found.add(path)
        return found

    def counts(self) -> Tuple[int, int]:
        """How many files are watched, and in how many folders."""
        files = sum(len(each.files) for each in self._folders.values())
        named = sum(mark is not None and path not in self._folders
                    for path, mark in self._roots.items())
        return files + named, len(self._folders)

    def poll_where_blind(self) -> None:
        """Expect no events of file systems that have none."""
        for path in self._roots:
            kind = _file_system(path)
            if kind in _REMOTE or kind.startswith("fuse."):
                self._poll("%s is on %s" % (path, kind))
                return

    def close(self) -> None:
        """Give the watches back."""
        for path in list(self._folders):
            self._leave(path)

    # How

    def _visit_root(self, path: str) -> Iterator[_Visit]:
        before, now = self._roots[path], _mark_of(path)
        is_folder = now is not None and os.path.isdir(path)
        if path in self._folders and not is_folder:
            self._leave(path)
        elif now != before and not is_folder and path not in self._folders:
            self.changes.append(path)
        self._roots[path] = now
        if is_folder and now is not None:
            yield _Visit(path, now, _join(path, ""))

    def _visit(self, visit: _Visit, everywhere: bool) -> Iterator[_Visit]:
        """Look into one; yields those below it that are to be visited."""
        path, mark, prefix = visit
        known = self._folders.get(path)
        if known is not None and known.mark != mark:
            self._leave(path)
            known = None
        if known is None and len(self._folders) >= MOST_FOLDERS:
            self._complain("more than %d folders: %s and others are not watched; name what is not"
                           " to be watched in `skip`" % (MOST_FOLDERS, path))
            return
        # Before the look: what changes after it is told.
        watch = self._watch(path) if everywhere or known is None else known.watch
        now = self._list(visit)
        self._compare(path, known.files if known is not None else {}, now.files)
        for name in known.folders.difference(now.folders) if known is not None else ():
            self._leave(_join(path, name))
        self._folders[path] = Folder(
            mark, prefix, now.files, frozenset(now.folders), now.links, watch)
        (self._with_links.add if now.links else self._with_links.discard)(path)
        for name, found in now.folders.items():
            child = _join(path, name)
            before = self._folders.get(child)
            if everywhere or before is None or before.mark != found:
                yield _Visit(child, found, prefix)

    def _compare(self, path: str, before: Dict[str, Mark], now: Dict[str, Mark]) -> None:
        for name in {*before, *now}:
            if before.get(name) != now.get(name):
                self.changes.append(_join(path, name))

    def _leave(self, path: str) -> None:
        """It is gone, with all that was below it."""
        paths = [path]
        while paths:
            path = paths.pop()
            found = self._folders.pop(path, None)
            if found is not None:
                self._with_links.discard(path)
                self._watches.remove(path, found.watch)
                self._compare(path, found.files, {})
                paths.extend(_join(path, name) for name in found.folders)

    def _list(self, visit: _Visit) -> _Listing:
        found = _Listing()
        try:
            with os.scandir(visit.path) as entries:
                for number, entry in enumerate(entries):
                    if number % _BREATH == _BREATH - 1:
                        time.sleep(0)
                    self._sort(visit, entry, found)
        except (FileNotFoundError, NotADirectoryError):
            pass  # it has gone meanwhile, and whoever has it in its list sees that
        except OSError as error:
            self._complain("%s cannot be read: %s" % (visit.path, _reason(error)))
        return found

    def _sort(self, visit: _Visit, entry: "os.DirEntry[str]", found: _Listing) -> None:
        """Put an entry of a folder where it belongs, if it matters."""
        path = _join(visit.path, entry.name)
        relative = path[len(visit.prefix):]
        is_link = entry.is_symlink()
        is_folder = _is_folder(entry)
        if is_folder:
            # A watched path within another one is looked into by itself.
            matters = path not in self._roots and not self._filter.skips_all_in(relative)
        else:
            # A broken link may lead to a folder one day.
            matters = (self._filter.passes(relative) and not self._filter.is_own(path)) or (
                is_link and not os.path.exists(path))
        mark = _mark_of(path) if matters else None
        if is_link and matters:
            found.links[entry.name] = mark
        if mark is None or (is_link and is_folder and self._is_within(visit, mark)):
            return
        (found.folders if is_folder else found.files)[entry.name] = mark

    def _is_within(self, visit: _Visit, mark: Mark) -> bool:
        """Whether a link leads back to a folder that it is in."""
        path, found = visit.path, visit.mark
        while found != mark:
            if path in self._roots:
                return False
            path = os.path.dirname(path)
            found = self._folders[path].mark
        return True

    def _watch(self, path: str) -> int:
        if self.polls:
            return -1
        try:
            return self._watches.add(path)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self._poll("there are no more watches (fs.inotify.max_user_watches)")
            elif error.errno == errno.ENOMEM:
                self._poll("there is no memory for more watches")
            return -1

    def _poll(self, reason: str) -> None:
        """From now on; what has been watched is given back."""
        self.polls = reason
        for path, found in list(self._folders.items()):
            self._watches.remove(path, found.watch)

    def _complain(self, text: str) -> None:
        """Once for each tree, lest it be a thousand lines."""
        if not self.troubles:
            self.troubles.append(text)


def _join(folder: str, name: str) -> str:
    return folder + name if folder.endswith("/") else "%s/%s" % (folder, name)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _mark_of(path: str) -> Optional[Mark]:
    """Of a folder or a regular file, links followed; None: there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if stat.S_ISDIR(found.st_mode):
        return found.st_dev, found.st_ino
    if not stat.S_ISREG(found.st_mode):
        return None
    # Whatever is done to a file or to its mode changes the time of its last change (inode(7)), also
    # where somebody puts the other times back.
    return found.st_ino, hash((found.st_size, found.st_mtime_ns, found.st_ctime_ns))


def _file_system(path: str) -> str:
    """Its kind, or nothing: "ext4", "nfs4", "fuse.sshfs" (proc(5), /proc/pid/mountinfo)."""
    try:
        device = os.stat(path).st_dev
        with open("/proc/self/mountinfo", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    number = "%d:%d" % (os.major(device), os.minor(device))
    for words in map(str.split, lines):
        if words[2] == number:
            return words[words.index("-") + 1]
    return ""


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
