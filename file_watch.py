"""Files are watched: whoever has asked is told, once they are quiet, which of them have changed.

inotify(7) tells in which folder something has happened. Once nothing more has happened there for a
while, a thread looks what differs (file_tree.py). Where there is no inotify, or no more of it, or
where a file system tells nothing of what others do, a thread looks everywhere now and again.

    FileWatch       all that is watched; the one queue of events of this process
    PathsWatch      one value of `watch`: its tree, when something happened there, and a task
"""

import contextlib
import threading
import time
from typing import Any, Callable, Dict, FrozenSet, Iterable, List, NamedTuple, Optional, Set, Tuple

import gevent

import inotify
from concurrency import Condition, Task, Threads, in_slices, pause
from errors import ShortageError, counted
from file_filter import FileFilter
from file_tree import FileTree, FolderWatches
from inotify import Inotify
from model import Watcher

#: Seconds after which changes are told although they go on; or so many intervals, if that is more.
_LONGEST_WAIT, _LONGEST_INTERVALS = 10.0, 10

#: Seconds between two looks at what nobody tells of: links, and paths that are not there yet. With
#: many trees it is so long for each of them.
_LINKS_EVERY, _LINKS_EVERY_FOR_EACH = 1.0, 0.01

#: Seconds between two polls at least; and at least so many times as long as the last one took.
_POLL_LEAST, _POLL_SHARE = 0.1, 10

#: Seconds without a look at events after some have been read: they are merged meanwhile, and a
#: child that writes and writes costs little.
_REST = 0.02

#: Seconds until it is tried again what there was no thread or memory for, or what met a bug.
_RETRY_DELAY, _BUG_DELAY = 1.0, 10.0

_READABLE = 1


class Watched(NamedTuple):
    """What is to be watched, and which files there matter."""

    paths: Tuple[str, ...]
    watcher: Watcher
    #: The paths of what pupgevent itself writes.
    own: FrozenSet[str]


class WatchOwner:
    """Who has files watched, and is told; called in greenlets, which it may block."""

    def on_files_changed(self, paths: Tuple[str, ...], files: List[str]) -> None:
        """Files below these paths have changed, been added or removed, and are quiet now."""

    def info(self, text: str) -> None:
        """Something worth a line."""

    def warn(self, text: str) -> None:
        """Something is not watched, or not as it should be."""


class FileWatch:
    """All that is watched. `threads` do what may block; `use_inotify` False: a thread looks."""

    def __init__(
        self, owner: WatchOwner, threads: Threads, *, use_inotify: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._owner = owner
        self.threads = threads
        self.clock = clock
        self._queue: Optional[EventQueue] = None
        self._use_inotify = use_inotify
        self._watches: Dict[Watched, PathsWatch] = {}
        self._warned_of: Set[str] = set()
        #: How often events were lost.
        self.losses = 0

    def follow(self, wanted: Iterable[Watched]) -> None:
        """From now on watch these, and nothing else. What was watched already goes on. Blocks the
        calling greenlet now and then."""
        after = dict.fromkeys(wanted)
        for gone in [each for each in self._watches if each not in after]:
            self._watches.pop(gone).close()
        if after and self._use_inotify:
            self._open_queue()
        for new in in_slices(after):
            if new not in self._watches:
                self._watches[new] = PathsWatch(new, self, self._owner)

    def _open_queue(self) -> None:
        """Once, also where it fails."""
        self._use_inotify = False
        try:
            self._queue = EventQueue(self._on_loss)
        except OSError as error:
            self._owner.warn("no inotify (%s): all files are looked at again and again" % (
                error.strerror or error))

    def _on_loss(self) -> None:
        self.losses += 1
        for each in self._watches.values():
            each.look_again()

    def watches_for(self, watch: "PathsWatch") -> Optional[FolderWatches]:
        return None if self._queue is None else _WatchesOfOne(self._queue, watch)

    @property
    def has_queue(self) -> bool:
        return self._queue is not None

    def warn_once(self, text: str) -> None:
        """Not for each of a thousand trees."""
        if text not in self._warned_of:
            self._warned_of.add(text)
            self._owner.warn(text)

    @property
    def links_every(self) -> float:
        return max(_LINKS_EVERY, len(self._watches) * _LINKS_EVERY_FOR_EACH)

    def revive(self) -> None:
        """The loop may have dropped the queue where there was no memory for a callback."""
        if self._queue is not None:
            self._queue.resume()

    def close(self) -> None:
        """Watch nothing, at once. Idempotent."""
        self.follow([])
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.close()


class EventQueue:
    """The events of inotify, brought to those who watch the folder. `on_loss()` is called where
    some were lost."""

    def __init__(self, on_loss: Callable[[], None]) -> None:
        """Raises OSError where there is no inotify."""
        self._inotify = Inotify()
        self._on_loss = on_loss
        #: By the number of a watch: who is told, and by which path each of them knows the folder.
        #: Replaced by threads, which hold the lock; the hub only looks, and never waits for it.
        self._places: Dict[int, Tuple[Tuple[PathsWatch, str], ...]] = {}
        self._lock = threading.Lock()
        self._closed = False
        loop = gevent.get_hub().loop
        self._watcher: Any = loop.io(self._inotify.fileno(), _READABLE)
        # A timer that repeats goes on whatever its callback raises.
        self._timer: Any = loop.timer(_REST, _REST)
        self._watcher.start(self._read)

    # For a thread

    def add(self, watch: "PathsWatch", folder: str) -> int:
        """Raises OSError."""
        with self._lock:
            if self._closed:
                return -1
            number = self._inotify.add(folder)
            place = (watch, folder)
            present = self._places.get(number, ())
            if place not in present:
                self._places[number] = (*present, place)
            return number

    def remove(self, watch: "PathsWatch", folder: str, number: int) -> None:
        with self._lock:
            present = self._places.get(number, ())
            left = tuple(each for each in present if each != (watch, folder))
            if left:
                self._places[number] = left
            elif present and not self._closed:
                self._places.pop(number, None)
                self._inotify.remove(number)

    # In the hub

    def resume(self) -> None:
        if not (self._closed or self._watcher.active or self._timer.active):
            self._watcher.start(self._read)

    def _read(self) -> None:
        # An exception out of a callback would stop the watcher and nobody would know.
        try:
            for event in self._inotify.read():
                self._hand_on(event)
            self._watcher.stop()
            self._timer.start(self._end_rest)
        except Exception:
            self._on_loss()

    def _end_rest(self) -> None:
        self._timer.stop()
        self.resume()

    def _hand_on(self, event: inotify.Event) -> None:
        if event.mask & inotify.OVERFLOW:
            self._on_loss()
        for watch, folder in self._places.get(event.watch, ()):
            watch.on_event(folder, event)
        if event.mask & inotify.IGNORED:
            self._places.pop(event.watch, None)

    def close(self) -> None:
        """Idempotent."""
        if self._closed:
            return
        self._closed = True
        for each in (self._watcher, self._timer):
            each.stop()
            each.close()
        self._inotify.close()


class _WatchesOfOne(FolderWatches):
    """The folders of one tree in the queue of all."""

    def __init__(self, queue: EventQueue, watch: "PathsWatch") -> None:
        self._queue = queue
        self._watch = watch

    def add(self, folder: str) -> int:
        return self._queue.add(self._watch, folder)

    def remove(self, folder: str, watch: int) -> None:
        self._queue.remove(self._watch, folder, watch)


class PathsWatch:
    """One value of `watch`, from its first look until it is closed."""

    def __init__(self, watched: Watched, shared: FileWatch, owner: WatchOwner) -> None:
        self._watched = watched
        self._shared = shared
        self._owner = owner
        self._clock = shared.clock
        self._interval = watched.watcher.interval
        self._longest = max(_LONGEST_WAIT, _LONGEST_INTERVALS * self._interval)
        file_filter = FileFilter(watched.watcher, watched.own)
        self._tree = FileTree(watched.paths, file_filter, shared.watches_for(self))
        #: Folders to look into; or everywhere, as a look was not finished.
        self._dirty: Set[str] = set()
        self._everywhere = False
        #: When the first and the last thing happened since the last look.
        self._first = self._last = 0.0
        self._has_begun = self._closed = False
        self._losses = shared.losses
        self._poll_took = 0.0
        self._condition = Condition(self._clock)
        Task(self._main)

    def close(self) -> None:
        self._closed = True
        self._condition.notify()

    # What happens, told in the hub

    def on_event(self, folder: str, event: inotify.Event) -> None:
        name, mask = event.name, event.mask
        if not name or mask & inotify.IS_FOLDER or self._tree.passes(folder, name):
            self._note(folder)
        elif mask & (inotify.CREATE | inotify.MOVED_TO):
            # It may be a link to a folder. If not, it is no reason to wait.
            self._note(folder, is_change=False)

    def look_again(self) -> None:
        """Events were lost."""
        self._condition.notify()

    def _note(self, folder: str, is_change: bool = True) -> None:
        if is_change or not self._has_news():
            self._last = self._clock()
        if not self._has_news():
            self._first = self._last
        self._dirty.add(folder)
        self._condition.notify()

    def _has_news(self) -> bool:
        return bool(self._dirty or self._everywhere or self._closed
                    or self._losses != self._shared.losses)

    # The task

    def _main(self) -> None:
        while not self._closed:
            try:
                self._step()
            except (MemoryError, ShortageError):
                self._everywhere = True
                pause(_RETRY_DELAY)
            except Exception as error:
                self._everywhere = True
                self._owner.warn("the watch of %s met a bug: %r" % (self._words, error))
                pause(_BUG_DELAY)
        # Where that fails, the watches stay until pupgevent ends, and tell nobody.
        with contextlib.suppress(MemoryError, ShortageError):
            self._shared.threads.call(self._tree.close)

    def _step(self) -> None:
        if not self._has_begun:
            self._begin()
        elif self._tree.polls:
            self._poll()
        else:
            self._listen()

    def _begin(self) -> None:
        """What is there at first is no change."""
        call, tree = self._shared.threads.call, self._tree
        losses = self._shared.losses
        call(tree.poll_where_blind)
        call(tree.look)
        tree.changes = []
        self._everywhere, self._losses = False, losses
        self._has_begun = True
        files, folders = call(tree.counts)
        text = "%s: %s in %s" % (self._words, counted(files, "file"), counted(folders, "folder"))
        if files:
            self._owner.info("watching " + text)
        else:
            self._owner.warn("%s pass `exts`, `match` and `skip` of `watcher`: no change is seen"
                             " there" % text)
        self._tell_troubles()

    def _listen(self) -> None:
        """Wait for an event, then until it is quiet, and look."""
        due = self._clock() + self._shared.links_every
        if not self._condition.wait_for(self._has_news, due):
            self._shared.revive()
            for folder in self._shared.threads.call(self._tree.moved):
                self._note(folder)
            return
        self._wait_until_quiet()
        dirty, self._dirty = self._dirty, set()
        losses = self._shared.losses
        self._look(None if self._everywhere or losses != self._losses else dirty)
        self._everywhere, self._losses = False, losses
        self._tell()

    def _wait_until_quiet(self) -> None:
        while not self._closed:
            due = min(self._last + self._interval, self._first + self._longest)
            if self._clock() >= due:
                return
            self._condition.wait_for(lambda: self._closed, due)

    def _poll(self) -> None:
        """Look; what differs is told when the next look finds no more."""
        delay = max(self._interval, _POLL_LEAST, _POLL_SHARE * self._poll_took)
        self._condition.wait_for(lambda: self._closed, self._clock() + delay)
        began = self._clock()
        before = len(self._tree.changes)
        self._look(None)
        self._poll_took = self._clock() - began
        is_quiet = len(self._tree.changes) == before
        if before == 0:
            self._first = began
        if is_quiet or self._clock() - self._first > self._longest:
            self._tell()

    def _look(self, folders: Optional[Set[str]]) -> None:
        if not self._closed:
            self._shared.threads.call(self._tree.look, folders)
            self._tell_troubles()

    def _tell(self) -> None:
        """Where that fails, it is told again."""
        files = list(dict.fromkeys(self._tree.changes))
        if files and not self._closed:
            self._owner.on_files_changed(self._watched.paths, files)
        self._tree.changes = []

    def _tell_troubles(self) -> None:
        if self._tree.polls and self._shared.has_queue:
            self._shared.warn_once(
                "%s: all files there are looked at again and again" % self._tree.polls)
        for text in self._tree.troubles:
            self._shared.warn_once(text)

    @property
    def _words(self) -> str:
        return ", ".join(self._watched.paths)
