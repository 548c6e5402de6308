"""`watch`: processes are restarted when their files have changed.

A process that somebody has stopped stays so. Any other is started or restarted: one that was never
started, has finished, waits for its restart or was given up, too, since the file that was saved may
be the one that was mended. Where something else is done with the process just then, the restart
waits; what changes until it begins is one restart, however much it is.
"""

import os
from typing import Dict, Iterator, List, Set, Tuple

from gevent.event import Event

from concurrency import Task, Threads, in_slices, pause
from errors import PupgeventError, ShortageError, counted, one_line
from file_watch import FileWatch, Watched, WatchOwner
from model import Configuration, loggers_of
from operations import Operations
from rollout import Busy
from runtime import Runtime
from sinks import Source

#: Calls at once that wait for a disk.
_THREADS = 4

#: Seconds until something is tried again for which there was no thread, or no memory.
_RETRY_DELAY = 1.0

#: Files that a line names.
_MOST_NAMED = 3


class FileRestarts(WatchOwner):
    """The watch over the files of one runtime; `use_inotify` False: they are looked at instead."""

    def __init__(
        self, runtime: Runtime, operations: Operations, *, use_inotify: bool = True
    ) -> None:
        self._runtime = runtime
        self._operations = operations
        self._watch = FileWatch(
            self, Threads(_THREADS), use_inotify=use_inotify, clock=runtime.clock)
        #: Of each process that is to be restarted: its files that have changed.
        self._due: Dict[str, List[str]] = {}
        #: The processes for which a task sees to that.
        self._busy: Set[str] = set()
        self._configured = Event()
        self._closed = False

    def start(self) -> None:
        """Begin to watch; returns at once."""
        self.on_configured()
        Task(self._follow)

    def on_configured(self) -> None:
        """The configuration is another; returns at once."""
        self._configured.set()

    def close(self) -> None:
        """Watch nothing, and restart nothing any more; idempotent."""
        self._closed = True
        self._configured.set()

    def _follow(self) -> None:
        while not self._closed:
            try:
                self._configured.wait()
                self._configured.clear()
                self._watch.follow(watched(self._runtime.configuration))
            except MemoryError:
                self._configured.set()
                pause(_RETRY_DELAY)
            except Exception as error:
                self.warn("the watch met a bug: %r" % error)
        self._watch.close()

    # What the watch tells

    def info(self, text: str) -> None:
        self._runtime.log.info("watcher", text)

    def warn(self, text: str) -> None:
        self._runtime.log.warning("watcher", text)

    def on_files_changed(self, paths: Tuple[str, ...], files: List[str]) -> None:
        for process in in_slices(self._runtime.configuration.processes):
            if process.watch == paths:
                self._due[process.id] = list(dict.fromkeys(self._due.get(process.id, []) + files))
                if process.id not in self._busy:
                    Task(self._restart_while_due, process.id)
                    self._busy.add(process.id)

    def _restart_while_due(self, process_id: str) -> None:
        try:
            while process_id in self._due and not self._closed:
                try:
                    self._restart(process_id)
                except (MemoryError, ShortageError):
                    pause(_RETRY_DELAY)
        except Exception as error:
            self.warn("the restart of %s met a bug: %r" % (process_id, error))
        finally:
            self._busy.discard(process_id)

    def _restart(self, process_id: str) -> None:
        """One, for all that has changed by the time it begins."""
        begun: List[List[str]] = []

        def begin(what: str) -> None:
            begun.append(self._due.pop(process_id))
            self._say(process_id, begun[0], what)

        try:
            self._operations.restart_changed(process_id, begin)
        except Busy as error:
            self._say(process_id, self._due[process_id], "the restart waits, " + error.reason)
            error.wait()
            return
        except (MemoryError, ShortageError):
            for files in begun:
                self._due.setdefault(process_id, files)
            raise
        except PupgeventError as error:
            if not self._runtime.closing:
                self._runtime.log.error("watcher", str(error), Source(process_id, process_id))
            elif not begun:
                begin(str(error))
        if not begun:
            del self._due[process_id]

    def _say(self, process_id: str, files: List[str], what: str) -> None:
        folder = self._runtime.configuration.folder
        named = [_from(folder, each) for each in files[:_MOST_NAMED]]
        if len(files) > _MOST_NAMED:
            named.append(counted(len(files) - _MOST_NAMED, "more file"))
        text = "%s changed: %s" % (", ".join(named), what)
        self._runtime.log.info("watcher", one_line(text), Source(process_id, process_id))


def watched(configuration: Configuration) -> List[Watched]:
    """What the processes have in `watch`; one for all that have the same."""
    values = dict.fromkeys(each.watch for each in in_slices(configuration.processes) if each.watch)
    own: Dict[str, Set[str]] = {path: set() for paths in values for path in paths}
    for path in in_slices(_own_files(configuration)) if own else ():
        for folder in _folders_above(path):
            if folder in own:
                own[folder].add(path)
    return [Watched(paths, configuration.watcher, frozenset().union(*map(own.__getitem__, paths)))
            for paths in values]


def _own_files(configuration: Configuration) -> Iterator[str]:
    """What pupgevent itself writes: the paths without what they may have added (file_filter.py)."""
    if configuration.control.socket is not None:
        yield configuration.control.socket
        yield configuration.control.socket + ".lock"
    for process in configuration.processes:
        if process.pid_file is not None:
            yield process.pid_file
        if process.cluster is not None and process.cluster.access_log is not None:
            yield process.cluster.access_log
    for owned in loggers_of(configuration):
        yield from owned.files(owned.logger.stdout)
        yield from owned.files(owned.logger.stderr)


def _folders_above(path: str) -> Iterator[str]:
    while path != os.path.dirname(path):
        path = os.path.dirname(path)
        yield path


def _from(folder: str, path: str) -> str:
    """The path from the folder on, where it is below it."""
    return path[len(folder) + 1:] if path.startswith(folder + "/") else path
