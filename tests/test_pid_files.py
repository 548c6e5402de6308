"""Files on a disk that answers late: what was ordered last is what stays."""

import functools
import os
from pathlib import Path
from typing import Any, Callable, List

import gevent
import pytest
from gevent.event import Event

import pid_files
from concurrency import Threads
from errors import ShortageError
from pid_files import FileJob, FileQueue
from supervision import wait_until


class Disk(Threads):
    """Threads whose calls wait until the disk answers, one by one."""

    def __init__(self) -> None:
        super().__init__(1)
        self.waiting: List[Event] = []
        self.fails: List[Exception] = []

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self.fails:
            raise self.fails.pop()
        answer = Event()
        self.waiting.append(answer)
        answer.wait()
        return function(*arguments)

    def answers(self) -> None:
        """To the last that came: threads are in no order."""
        wait_until(lambda: self.waiting)
        self.waiting.pop().set()


class PidFileStage:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "app.pid"
        self.disk = Disk()
        self.queue = FileQueue(self.disk)
        self.told: List[str] = []

    def add(self, do: Callable[[FileJob], None]) -> FileJob:
        return self.queue.add(str(self.path), FileJob(do, self.told.append))

    def write(self, pid: int) -> FileJob:
        return self.add(lambda job: pid_files.write(str(self.path), pid, lambda: job.outdated))

    def remove(self, pid: int) -> FileJob:
        return self.add(lambda job: pid_files.remove(str(self.path), pid))

    def finishes(self, *jobs: FileJob) -> None:
        wait = [gevent.spawn(job.wait, 30.0) for job in jobs]
        while not all(each.ready() for each in wait):
            if self.disk.waiting:
                self.disk.answers()
            gevent.sleep(0)
        assert all(each.value for each in wait)

    def content(self) -> List[str]:
        """All that is in the folder."""
        return sorted(each.read_text() for each in self.path.parent.iterdir())


@pytest.fixture
def stage(tmp_path: Path) -> PidFileStage:
    return PidFileStage(tmp_path)


def test_a_file_written_late_does_not_follow_its_removal(stage: PidFileStage) -> None:
    written = stage.write(4711)
    assert not written.wait(0.01)
    removed = stage.remove(4711)
    assert not removed.wait(0.01)
    stage.disk.answers()
    # Not even for a moment.
    assert written.wait(30.0) and stage.content() == []
    stage.finishes(removed)
    assert stage.content() == [] and stage.told == []


def test_a_file_written_late_does_not_replace_a_later_one(stage: PidFileStage) -> None:
    jobs = [stage.write(1), stage.remove(1), stage.write(2)]
    stage.finishes(*jobs)
    assert stage.content() == ["2\n"]
    jobs = [stage.remove(2), stage.write(3)]
    stage.finishes(*jobs)
    assert stage.content() == ["3\n"]
    stage.finishes(stage.remove(2))
    assert stage.content() == ["3\n"]


def test_a_file_whose_draft_is_there_already_leaves_nothing_when_it_is_out_of_date(
    tmp_path: Path
) -> None:
    """The disk has answered to the opening, and hung at the writing."""
    answers = iter([True])
    pid_files.write(str(tmp_path / "app.pid"), 4711, lambda: next(answers))
    assert os.listdir(str(tmp_path)) == []
    pid_files.write(str(tmp_path / "app.pid"), 4711)
    assert os.listdir(str(tmp_path)) == ["app.pid"]


@pytest.mark.parametrize("lack", [MemoryError(), ShortageError("no thread")])
def test_what_there_is_no_thread_or_no_memory_for_is_done_later(
    stage: PidFileStage, lack: Exception
) -> None:
    stage.disk.fails = [lack, lack]
    stage.finishes(stage.write(4711))
    assert stage.content() == ["4711\n"]


def test_a_failure_is_told_and_ends_nothing(stage: PidFileStage) -> None:
    stage.path.mkdir()
    stage.finishes(stage.write(4711))
    assert stage.told == [os.strerror(21)]
    stage.path.rmdir()
    stage.finishes(stage.add(functools.partial(divmod, 1)))
    assert len(stage.told) == 2
    stage.finishes(stage.write(4711))
    assert stage.content() == ["4711\n"]
    assert stage.queue._jobs == {}
