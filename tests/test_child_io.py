"""What children print, carried to lines: all of it, and never at the cost of anybody else."""

import contextlib
import fcntl
import os
import time
from types import SimpleNamespace
from typing import Any, Callable, Iterator, List, Tuple

import gevent
import pytest

import child_io
from child_io import CHUNK, PipeReader
from concurrency import SHARE, TokenBucket
from logs import LONGEST_LINE, InstanceLog, LineWriter, Log
from sinks import NO_INSTANCE, DescriptorSink, Sink, Source
from supervision import Page, process, runs, script, supervise, wait_until

#: fcntl(2); Python has a name for it from 3.10 on.
F_GETPIPE_SZ = 1032

APP = Source("app", "app")

MakeReader = Callable[[Sink], PipeReader]


class Valve(Page):
    """Full when it is told so."""

    def __init__(self) -> None:
        super().__init__()
        self.shut = False
        self.waiting: List[Callable[[], None]] = []

    @property
    def full(self) -> bool:
        return self.shut

    def when_room(self, callback: Callable[[], None]) -> None:
        self.waiting.append(callback)

    def open(self) -> None:
        self.shut = False
        waiting, self.waiting = self.waiting, []
        for callback in waiting:
            callback()


@pytest.fixture
def pipe() -> Iterator[Tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            pass


@pytest.fixture
def read(pipe: Tuple[int, int]) -> Iterator[Callable[[Sink], PipeReader]]:
    """`read(sink)` reads what is written to the pipe."""
    made: List[PipeReader] = []

    def make(sink: Sink) -> PipeReader:
        lines = LineWriter(sink, APP, "stdout")
        made.append(PipeReader(pipe[0], lines, TokenBucket()))
        return made[-1]

    yield make
    for each in made:
        each.close()


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_lines_come_out_as_they_are_written(
    pipe: Tuple[int, int], read: MakeReader
) -> None:
    page = Page()
    read(page)
    os.write(pipe[1], b"one\ntw")
    wait_until(lambda: page.texts("[app][stdout]") == ["one"])
    os.write(pipe[1], b"o\n")
    wait_until(lambda: page.texts("[app][stdout]") == ["one", "two"])


def test_end_of_the_pipe_closes_its_descriptor(
    pipe: Tuple[int, int], read: MakeReader
) -> None:
    page = Page()
    read(page)
    os.write(pipe[1], b"last")
    os.close(pipe[1])
    wait_until(lambda: not is_open(pipe[0]))
    assert page.texts("[app][stdout]") == ["last"]


def test_full_sink_stops_the_reading_until_there_is_room(
    pipe: Tuple[int, int], read: MakeReader
) -> None:
    valve = Valve()
    valve.shut = True
    read(valve)
    os.write(pipe[1], b"waits\n")
    wait_until(lambda: valve.waiting)
    assert valve.lines == []
    valve.open()
    wait_until(lambda: valve.texts("[app][stdout]") == ["waits"])


def test_finish_carries_what_is_left_though_somebody_holds_the_other_end(
    pipe: Tuple[int, int], read: MakeReader
) -> None:
    page = Page()
    it = read(page)
    os.write(pipe[1], b"one\ntwo\nthree")
    assert it.finish(1.0)
    assert page.texts("[app][stdout]") == ["one", "two", "three"]
    assert not is_open(pipe[0]) and is_open(pipe[1])


def test_finish_waits_for_room_as_long_as_it_was_told(
    pipe: Tuple[int, int], read: MakeReader
) -> None:
    valve = Valve()
    it = read(valve)
    valve.shut = True
    os.write(pipe[1], b"late\n")
    gevent.spawn_later(0.1, valve.open)
    assert it.finish(5.0)
    assert valve.texts("[app][stdout]") == ["late"]


def test_finish_gives_up_on_a_sink_that_takes_nothing(
    pipe: Tuple[int, int], read: MakeReader
) -> None:
    valve = Valve()
    valve.shut = True
    it = read(valve)
    os.write(pipe[1], b"lost\n")
    began = time.monotonic()
    assert not it.finish(0.2)
    assert time.monotonic() - began < 1.0
    assert not is_open(pipe[0])
    valve.open()


def test_closing_twice_closes_once(
    pipe: Tuple[int, int], read: MakeReader
) -> None:
    it = read(Page())
    it.close()
    taken = os.open(os.devnull, os.O_RDONLY)
    assert taken == pipe[0]
    it.close()
    assert it.finish(0.0) and is_open(taken)


def test_pace_lets_a_little_pass_and_leaves_most_of_the_time_to_others() -> None:
    bucket, now, busy = TokenBucket(), 1000.0, 0.0
    assert bucket.delay_after(now, now + 0.001) == 0.0
    while now < 1010.0:
        rest = bucket.delay_after(now, now + 0.001)
        busy += 0.001
        now += 0.001 + rest
    assert busy == pytest.approx(10 * SHARE, rel=0.1)


def test_pace_is_common_to_all_that_flood() -> None:
    bucket, busy = TokenBucket(), 0.0
    due = [1000.0, 1000.0, 1000.0]
    now = 1000.0
    while now < 1010.0:
        now = max(now, min(due))
        due[due.index(min(due))] = now + 0.001 + bucket.delay_after(now, now + 0.001)
        now += 0.001
        busy += 0.001
    assert busy == pytest.approx(10 * SHARE, rel=0.1)


def test_everything_a_child_has_written_before_its_exit_comes_out() -> None:
    with supervise(process(script("flooding.py", "20000"))) as stage:
        stage.reaches("finished")
        assert stage.page.texts("[app][stdout]") == ["line %d" % each for each in range(20000)]


def test_flood_slows_itself_down_and_leaves_the_hub_to_others() -> None:
    null = DescriptorSink(os.open(os.devnull, os.O_WRONLY))
    two = process("exec yes"), process(script("flooding.py"), id="b")
    with supervise(*two, log=Log(null)) as stage:
        stage.reaches("running")
        stage.reaches("running", "b")
        gevent.sleep(0.2)
        used, began, late = time.process_time(), time.monotonic(), []
        while time.monotonic() - began < 1.0:
            before = time.monotonic()
            gevent.sleep(0.005)
            late.append(time.monotonic() - before - 0.005)
        # The thread that writes them out costs as much again.
        assert time.process_time() - used < 0.6 * (time.monotonic() - began)
        assert sorted(late)[len(late) // 2] < 0.01


def test_flood_into_a_console_that_takes_nothing_stops_neither_the_hub_nor_the_stop() -> None:
    reader, writer = os.pipe()
    try:
        sink = DescriptorSink(writer)
        with supervise(process("exec yes"), log=Log(sink)) as stage:
            stage.reaches("running")
            wait_until(lambda: sink.full)
            cpu = time.process_time()
            gevent.sleep(0.5)
            assert time.process_time() - cpu < 0.1
            began = time.monotonic()
            stage.supervisor.stop(["app"])
            assert stage.instance().state == "stopped" and time.monotonic() - began < 6.0
    finally:
        os.close(reader)
        os.close(writer)


def test_grandchild_that_keeps_the_pipe_open_does_not_hold_the_instance_up() -> None:
    """It has left the group, so it outlives its parent and keeps both pipes."""
    escaping = "echo before; setsid sleep 30 & echo sleeper $!; sleep 0.3; exit 0"
    with supervise(process(escaping)) as stage:
        stage.reaches("finished", timeout=5.0)
        sleeper = int(stage.prints("sleeper").split()[1])
        assert runs(sleeper)
        os.kill(sleeper, 9)
        assert "before" in stage.page.texts("[app][stdout]")


def test_what_comes_faster_than_it_may_be_read_comes_out_whole_all_the_same(
    pipe: Tuple[int, int], read: MakeReader
) -> None:
    page = Page()
    read(page)
    os.set_blocking(pipe[1], False)
    line = b"y" * 127 + b"\n"
    rest = memoryview(line * (40 * CHUNK // len(line)))
    while rest:
        try:
            rest = rest[os.write(pipe[1], rest):]
        except BlockingIOError:
            gevent.sleep(0.001)
    wait_until(lambda: len(page.lines) == 40 * CHUNK // len(line))


def test_writer_that_outlives_the_child_is_not_read_for_ever(
    pipe: Tuple[int, int], read: MakeReader
) -> None:
    """It writes whenever something is read: there is always more."""
    capacity = fcntl.fcntl(pipe[0], F_GETPIPE_SZ)
    os.set_blocking(pipe[1], False)
    taken: List[int] = []

    def write_more() -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(pipe[1], b"more\n" * 1000)

    class Endless(Sink):
        def write(self, data: bytes, source: Source = NO_INSTANCE) -> None:
            taken.append(data.count(b"more"))
            # A reader without an end shall fail this test, and not hang it.
            if sum(taken) * 5 < 20 * capacity:
                write_more()

    write_more()
    it = read(Endless())
    assert it.finish(30.0)
    assert capacity <= sum(taken) * 5 + 5 * len(taken) and sum(taken) * 5 <= capacity + CHUNK
    assert not is_open(pipe[0])


def test_lack_of_memory_loses_no_line_and_ends_no_reader(
    pipe: Tuple[int, int], read: MakeReader
) -> None:
    class Poor(Page):
        failures = 3

        def write(self, data: bytes, source: Source = NO_INSTANCE) -> None:
            if self.failures:
                self.failures -= 1
                raise MemoryError
            super().write(data)

    page = Poor()
    it = read(page)
    os.write(pipe[1], b"one\ntwo\nthr")
    wait_until(lambda: page.texts("[app][stdout]") == ["one", "two"])
    os.write(pipe[1], b"ee\n")
    wait_until(lambda: page.texts("[app][stdout]") == ["one", "two", "three"])
    # Also of what is left at the end.
    page.failures = 2
    os.write(pipe[1], b"y" * (LONGEST_LINE - 10) + b"\nlast\n")
    assert it.finish(30.0)
    assert page.texts("[app][stdout]")[-1] == "last" and len(page.lines) == 5


@pytest.mark.parametrize("good", [None, 0, 1])
def test_no_stream_stays_open_where_one_of_the_two_cannot_be_read(
    good: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For lack of memory: before the first, at the first, at the second."""
    made: List[PipeReader] = []

    def make(*words: Any) -> PipeReader:
        if len(made) == good:
            raise MemoryError
        made.append(PipeReader(*words))
        return made[-1]

    def writers_for(*_: Any) -> Any:
        if good is None:
            raise MemoryError
        return tuple(LineWriter(Page(), APP, name) for name in ("stdout", "stderr"))

    monkeypatch.setattr(child_io, "PipeReader", make)
    pipes = [os.pipe(), os.pipe()]
    child: Any = SimpleNamespace(pid=1, stdout=pipes[0][0], stderr=pipes[1][0])
    context: Any = SimpleNamespace(writers_for=writers_for, bucket=TokenBucket())
    spec: Any = SimpleNamespace(number=0, name="app")
    with pytest.raises(MemoryError):
        child_io.ChildIO(process(), spec, child, context, InstanceLog(Log(Page()), APP))
    for _, writer in pipes:
        with pytest.raises(BrokenPipeError):
            os.write(writer, b"x")
        os.close(writer)
