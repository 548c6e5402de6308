"""Where lines go: those of each process, and our own. Into the history, and to the console and the
files that their logger names, in the look that each is to have. The lines of an access log go to
its file alone.
"""

import re
import time
from typing import (
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Set,
    Tuple,
)

from access_log import AccessLog
from log_files import FileLimits, LogFile, LogFiles
from log_history import NO_FILE, LogHistory, Place
from logs import LineWriter, Log
from model import OWN_ID, InstanceSpec, Logger, Process, instance_specs, log_file_of
from sinks import NO_INSTANCE, Lines, Sink, Source
from terminal import wants_colors

#: What colours text on a terminal (ECMA-48, SGR): Pup's files have none either.
_COLORS = re.compile(rb"\x1b\[[0-9:;]*m")


class Outlet(Sink):
    """The sink of one stream, which may be directed elsewhere while lines come.

    `in_journal`: the console is systemd's journal.
    """

    def __init__(self, history: LogHistory, in_journal: bool = False) -> None:
        self._history = history
        self._in_journal = in_journal
        self._console = Sink()
        self._file: Optional[LogFile] = None
        self._decorate = self._decorate_files = True
        self._waiting: List[Callable[[], None]] = []

    def direct(self, logger: Logger, console: Sink, file: Optional[LogFile]) -> None:
        """From now on there. `logger` is in effect, with its colours. Whoever waits for room looks
        again: there may be some."""
        self.colors = bool(logger.colors)
        self._console = console if logger.console else Sink()
        self._decorate = logger.decorate
        self._decorate_files = logger.decorate_files
        self._file = file
        self._resume()

    @property
    def path(self) -> Optional[str]:
        """Of its file."""
        return None if self._file is None else self._file.path

    @property
    def full(self) -> bool:
        return self._console.full or (self._file is not None and self._file.full)

    def when_room(self, callback: Callable[[], None]) -> None:
        self._waiting.append(callback)
        full = self._file if self._file is not None and self._file.full else self._console
        full.when_room(self._resume)

    def _resume(self) -> None:
        waiting, self._waiting = self._waiting, []
        while waiting:
            try:
                waiting[0]()
            except MemoryError:
                # Whoever has called calls again.
                self._waiting = waiting + self._waiting
                raise
            waiting.pop(0)

    def write_lines(self, lines: Lines) -> None:
        """Raises MemoryError before anything is written."""
        shown = printed = lines.decorated(self.colors)
        if self._in_journal and self._decorate:
            printed = lines.for_journal(self.colors)
        filed = b""
        if self._file is not None and self._decorate_files:
            filed = _COLORS.sub(b"", lines.decorated(False) if self.colors else shown)
        if not self._decorate or not self._decorate_files:
            lines.make_raw()
        place = self._write_to_file(filed, lines)
        try:
            self._history.add(shown, lines.source, place)
        except MemoryError:
            pass  # not remembered
        if self._decorate:
            self._console.write(printed, lines.source)
        else:
            self._console.write_raw(lines)

    def _write_to_file(self, filed: bytes, lines: Lines) -> Place:
        if self._file is None:
            return NO_FILE
        before = self._file.accepted
        if self._decorate_files:
            self._file.write(filed, lines.source)
        else:
            self._file.write_raw(lines)
            filed = lines.raw
        return Place(self._file.number, before, filed if self._file.accepted > before else b"")


class OutletPair(NamedTuple):
    """Those of the two streams of one child."""

    stdout: Outlet
    stderr: Outlet


class AccessOutlet(NamedTuple):
    """Of the cluster of one process."""

    log: AccessLog
    path: str


class FileUse(NamedTuple):
    """A log file as the loggers name it, for who reads it again."""

    path: str
    #: None: no line has gone there yet.
    file: Optional[LogFile]
    #: Each line has its time and its instance in front; None: only some have.
    decorated: Optional[bool]
    has_backups: bool
    #: Whose lines go there. NO_INSTANCE: pupgevent's own, which may be about anybody.
    writers: FrozenSet[Source]
    #: "stdout" or "stderr", where it gets only one of the two.
    stream: str


class Outlets:
    """All outlets; `console` is the sink that stands for stdout, `fd` its descriptor. `in_journal`
    says that it is systemd's journal."""

    def __init__(
        self, logger: Logger, console: Sink, fd: int, verbose: bool = False,
        in_journal: bool = False,
    ) -> None:
        self._console = console
        self._fd = fd
        self._in_journal = in_journal
        self.history = LogHistory()
        self._files = LogFiles(self._inform, self._warn)
        self._own = self._new_pair()
        #: Of each process, by the number of the instance.
        self._pairs: Dict[str, Dict[int, OutletPair]] = {}
        self._processes: Dict[str, Process] = {}
        #: Of those processes that have one.
        self._access: Dict[str, AccessOutlet] = {}
        self.log = Log(self._own.stdout, verbose, errors=self._own.stderr)
        console.on_loss = self._own.stdout.on_loss
        self._logger = self.in_effect(logger)
        self._set_own()

    def set(self, process: Process) -> None:
        """Send the lines of a process where its logger says; also of instances that run. And those
        of its access log."""
        self.history.know(process.id, process.logger.internal_log)
        self._processes[process.id] = process
        pairs = self._pairs.setdefault(process.id, {})
        before = self._paths_of(process.id)
        for number, pair in pairs.items():
            self._direct(pair, process.logger, process.id, number)
        self._direct_access_log(process)
        if before - self._paths_of(process.id):
            self._close_unused()

    def set_own(self, logger: Logger) -> bool:
        """The same for our own lines; False: nothing has changed."""
        own = self.in_effect(logger)
        if own == self._logger:
            return False
        self._logger = own
        self._set_own()
        self._close_unused()
        return True

    def in_effect(self, logger: Logger) -> Logger:
        """The logger with the colours that the console gets."""
        return logger._replace(colors=wants_colors(self._fd, logger.colors))

    def forget(self, process_id: str) -> None:
        """The process is gone for good."""
        self.history.forget(process_id)
        self._processes.pop(process_id, None)
        before = self._paths_of(process_id)
        self._pairs.pop(process_id, None)
        self._close_access_log(process_id)
        if before:
            self._close_unused()

    def access_log(self, process_id: str) -> Optional[AccessLog]:
        """For the balancer of that process; None where it has no access log. It is the same one
        after a change of its path."""
        found = self._access.get(process_id)
        return None if found is None else found.log

    def writers(self, process: Process, spec: InstanceSpec) -> Tuple[LineWriter, LineWriter]:
        """For one child: (stdout, stderr)."""
        pairs = self._pairs[process.id]
        if spec.number not in pairs:
            pairs[spec.number] = self._new_pair()
            self._direct(pairs[spec.number], process.logger, process.id, spec.number)
        source, pair = Source(process.id, spec.name), pairs[spec.number]
        return (LineWriter(pair.stdout, source, "stdout"),
                LineWriter(pair.stderr, source, "stderr"))

    def log_files(self) -> List[FileUse]:
        """All that the loggers name, also for instances that have not run yet, or run no more."""
        found: Dict[str, FileUse] = {}
        self._add_uses(found, self._logger, OWN_ID, 0, NO_INSTANCE)
        for process in self._processes.values():
            names = {spec.number: spec.name for spec in instance_specs(process)}
            for number in self._pairs.get(process.id, ()):
                names.setdefault(number, "%s-%d" % (process.id, number + 1))
            for number, name in names.items():
                source = Source(process.id, name)
                self._add_uses(found, process.logger, process.id, number, source)
        return list(found.values())

    def _add_uses(
        self, found: Dict[str, FileUse], logger: Logger, process_id: str, number: int,
        source: Source,
    ) -> None:
        for stream, template in (("stdout", logger.stdout), ("stderr", logger.stderr)):
            if template is None:
                continue
            path = log_file_of(template, process_id, number)
            use = found.get(path)
            if use is None:
                found[path] = FileUse(
                    path, self._files.find(path), logger.decorate_files,
                    bool(logger.backups or not logger.max_bytes), frozenset([source]), stream)
            else:
                found[path] = use._replace(
                    decorated=use.decorated if use.decorated is logger.decorate_files else None,
                    writers=use.writers | {source}, stream=stream if use.stream == stream else "")

    def reopen_files(self) -> int:
        """Open all log files anew; returns how many there are."""
        return self._files.reopen()

    def flush(self, timeout: float) -> None:
        """Wait until all lines are out, for so many seconds at most."""
        end = time.monotonic() + timeout
        for each in self._access.values():
            each.log.flush()
        self._files.flush(timeout)
        self._console.flush(max(0.0, end - time.monotonic()))

    def _set_own(self) -> None:
        self.history.keep_own(self._logger.internal_log)
        self._direct(self._own, self._logger, OWN_ID, 0)

    def _new_pair(self) -> OutletPair:
        return OutletPair(
            Outlet(self.history, self._in_journal), Outlet(self.history, self._in_journal))

    def _direct(self, pair: OutletPair, logger: Logger, process_id: str, number: int) -> None:
        logger = self.in_effect(logger)
        limits = _limits_of(logger)
        for outlet, template in ((pair.stdout, logger.stdout), (pair.stderr, logger.stderr)):
            file = None
            if template is not None:
                file = self._files.get(log_file_of(template, process_id, number), limits)
            outlet.direct(logger, self._console, file)

    def _direct_access_log(self, process: Process) -> None:
        path = _access_log_of(process)
        if path is None:
            self._close_access_log(process.id)
            return
        file = self._files.get(path, _limits_of(process.logger))
        log = self.access_log(process.id)
        if log is None:
            log = AccessLog(file.write)
        else:
            log.direct(file.write)
        self._access[process.id] = AccessOutlet(log, path)

    def _close_access_log(self, process_id: str) -> None:
        found = self._access.pop(process_id, None)
        if found is not None:
            found.log.close()

    def _paths_of(self, process_id: str) -> Set[str]:
        """Of all files that the lines of the process go to now."""
        found = set(_paths(self._pairs.get(process_id, {}).values()))
        if process_id in self._access:
            found.add(self._access[process_id].path)
        return found

    def _close_unused(self) -> None:
        # In one go: a file that is opened meanwhile would be missing, and be closed.
        pairs = [pair for some in self._pairs.values() for pair in some.values()]
        access = [each.path for each in self._access.values()]
        self._files.keep_only([*_paths([self._own, *pairs]), *access])

    def _inform(self, text: str) -> None:
        self.log.info("core", text)

    def _warn(self, text: str) -> None:
        self.log.warning("core", text)


def _limits_of(logger: Logger) -> FileLimits:
    return FileLimits(logger.max_bytes, logger.backups, logger.compress)


def _access_log_of(process: Process) -> Optional[str]:
    """One file for all instances: each line names its own."""
    cluster = process.cluster
    if cluster is None or cluster.access_log is None:
        return None
    return cluster.access_log.replace("{id}", process.id)


def _paths(pairs: Iterable[OutletPair]) -> Iterator[str]:
    for pair in pairs:
        for outlet in pair:
            if outlet.path is not None:
                yield outlet.path
