"""Processes and their log files inside the test, for what `logs` shows of before."""

import os
from pathlib import Path
from typing import Any, Dict, List, Optional

import gevent

from log_history import Wanted
from log_past import Asked, LogPast
from logs import LineWriter
from model import InstanceSpec, Logger, Process
from outlets import Outlets
from sinks import Sink
from supervision import PATIENCE, cluster, process, wait_until

SILENT = Logger(False, True, False, None, None, True, 0, 10, False, 3600.0)


class Stage:
    """Processes that write to the log files of a folder, and what is shown of it."""

    def __init__(self, folder: Path, own: str = "", **logger: Any) -> None:
        self.folder = folder
        self.logger = SILENT._replace(**logger)
        with open(os.devnull, "wb") as file:
            own_logger = self.logger._replace(stdout=str(folder / own) if own else None)
            self.outlets = Outlets(own_logger._replace(decorate_files=True), Sink(), file.fileno())
        self.past = LogPast(self.outlets.history, self.outlets.log_files)
        self.hints: List[str] = []
        self.expects_hints = False
        self._processes: Dict[str, Process] = {}
        self._writers: Dict[str, LineWriter] = {}

    def have(
        self, process_id: str, instances: int = 0, path: str = "{id}.log", **logger: Any
    ) -> None:
        """A process whose lines go to that file."""
        values = dict({"stdout": str(self.folder / path)}, **logger)
        values.setdefault("stderr", values["stdout"])
        self._processes[process_id] = process(
            id=process_id, logger=self.logger._replace(**values),
            cluster=cluster(None, instances) if instances else None)
        self.outlets.set(self._processes[process_id])

    def writer(self, name: str) -> LineWriter:
        """Of the stdout of an instance."""
        if name not in self._writers:
            process_id, _, number = name.partition("-")
            spec = InstanceSpec(name, int(number or 1) - 1, "", None)
            self._writers[name], _ = self.outlets.writers(self._processes[process_id], spec)
        return self._writers[name]

    def say(self, name: str, text: object) -> None:
        self.writer(name).feed(b"%s\n" % str(text).encode())

    def shown(
        self, most: Optional[int] = None, since: Optional[float] = None,
        wanted: Optional[Wanted] = None,
    ) -> List[str]:
        """Without times."""
        return without_times(self.bytes(most, since, wanted))

    def bytes(
        self, most: Optional[int] = None, since: Optional[float] = None,
        wanted: Optional[Wanted] = None,
    ) -> bytes:
        """And nothing is left out, unless that was expected: `hints`."""
        del self.hints[:]
        with gevent.Timeout(2 * PATIENCE):
            found = b"".join(self.past.lines(Asked(wanted, most, since), self.hints.append))
        assert self.expects_hints or not self.hints
        return found

    def flush(self) -> None:
        self.outlets.flush(PATIENCE)

    def close(self) -> None:
        """Files are closed, and what is in memory is lost."""
        files = list(self.outlets._files._files.values())
        for process_id in self._processes:
            self.outlets.forget(process_id)
        self.outlets.set_own(SILENT)
        for file in files:
            assert file.flush(PATIENCE)
        if self.logger.compress:
            wait_until(lambda: not any(
                each.suffix != ".gz" for each in self.folder.glob("*.log.*")))


def without_times(data: bytes) -> List[str]:
    assert not data or data.endswith(b"\n")
    return [
        line.partition("]")[2] if line.startswith("[2") else line
        for line in data.decode("utf-8", "backslashreplace").split("\n")[:-1]]


def texts(lines: List[str]) -> List[str]:
    return [line.partition("] ")[2] for line in lines]


def only(*names: str) -> Wanted:
    return Wanted(set(), set(names))


def numbers(first: int, last: int) -> List[str]:
    return list(map(str, range(first, last + 1)))
