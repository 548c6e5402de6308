"""A sink whose other side takes nothing, little, or no more."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator, List, Tuple

import gevent
import pytest

import logs
from logs import Log
from sinks import HIGH_WATER, LIMIT, NO_INSTANCE, DescriptorSink, Lines, Sink, Source
from supervision import PATIENCE, wait_until

LINE = b"x" * 99 + b"\n"


@pytest.fixture
def pipe() -> Iterator[Tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            pass


def read_all(reader: int) -> bytes:
    """What is there now."""
    os.set_blocking(reader, False)
    found = b""
    while True:
        try:
            found += os.read(reader, 1 << 20)
        except BlockingIOError:
            return found


def fill(sink: DescriptorSink) -> int:
    """Write lines until it is full; the number of lines."""
    count = 0
    while not sink.full:
        sink.write(LINE)
        count += 1
        gevent.sleep(0)
    return count


def test_what_is_written_comes_out_in_order(pipe: Tuple[int, int]) -> None:
    sink = DescriptorSink(pipe[1])
    for number in range(100):
        sink.write(b"%d\n" % number)
    assert sink.flush(PATIENCE)
    assert read_all(pipe[0]) == b"".join(b"%d\n" % number for number in range(100))


def test_pipe_that_nobody_reads_makes_it_full_and_the_hub_goes_on(pipe: Tuple[int, int]) -> None:
    sink = DescriptorSink(pipe[1])
    written = fill(sink)
    assert HIGH_WATER <= written * len(LINE) < HIGH_WATER + 2 * 65536 + 100
    for _ in range(20):
        gevent.sleep(0.001)
    assert not sink.flush(0.05)
    found, deadline = b"", time.monotonic() + PATIENCE
    while len(found) < written * len(LINE) and time.monotonic() < deadline:
        found += read_all(pipe[0])
        gevent.sleep(0.001)
    assert found == LINE * written
    assert sink.flush(PATIENCE) and not sink.full


def test_who_waits_for_room_is_called_once_there_is_some(pipe: Tuple[int, int]) -> None:
    sink = DescriptorSink(pipe[1])
    called: List[int] = []
    sink.when_room(lambda: called.append(0))
    assert called == [0]
    fill(sink)
    sink.when_room(lambda: called.append(1))
    sink.when_room(lambda: called.append(2))
    gevent.sleep(0.05)
    assert called == [0]
    while not sink.flush(0.01):
        read_all(pipe[0])
    assert called == [0, 1, 2]


def test_own_lines_beyond_the_limit_are_counted_and_told_afterwards(
    pipe: Tuple[int, int]
) -> None:
    sink = DescriptorSink(pipe[1])
    Log(sink)
    big = LINE * 1000
    for _ in range(LIMIT // len(big) + 20):
        sink.write(big)
        gevent.sleep(0)
    found = b""
    while not sink.flush(0.01):
        found += read_all(pipe[0])
    found += read_all(pipe[0])
    last = found.splitlines()[-1]
    assert b"bytes of log were lost: nobody took them" in last
    lost = int(last.split(b"warning: ")[1].split()[0])
    assert lost > 0 and lost % len(LINE) == 0


def test_reader_that_leaves_ends_the_writing_and_nothing_else(pipe: Tuple[int, int]) -> None:
    sink = DescriptorSink(pipe[1])
    fill(sink)
    os.close(pipe[0])
    wait_until(lambda: not sink.full)
    sink.write(LINE)
    assert sink.flush(PATIENCE) and not sink.full


def test_full_disk_drops_counts_and_is_told_when_it_is_over(tmp_path: Path) -> None:
    """/dev/full has no room; then a file takes its place, as if somebody had tidied up."""
    target = os.open("/dev/full", os.O_WRONLY)
    try:
        sink = DescriptorSink(target)
        Log(sink)
        began = time.process_time()
        for _ in range(50):
            sink.write(LINE)
            gevent.sleep(0.005)
        assert not sink.full and time.process_time() - began < 0.5
        file = os.open(str(tmp_path / "log"), os.O_WRONLY | os.O_CREAT)
        os.dup2(file, target)
        os.close(file)

        def tells() -> bool:
            sink.write(b"again\n")
            return b"were lost" in (tmp_path / "log").read_bytes()

        wait_until(tells)
        lines = (tmp_path / "log").read_bytes().splitlines()
        assert b"again" in lines
        told = [line for line in lines if b"were lost" in line]
        assert len(told) == 1
        assert b"bytes of log were lost: " + os.strerror(errno.ENOSPC).encode() in told[0]
    finally:
        os.close(target)


def test_non_blocking_descriptor_is_waited_for(pipe: Tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    sink = DescriptorSink(pipe[1])
    written = fill(sink)
    found = b""
    while not sink.flush(0.01):
        found += read_all(pipe[0])
    assert found + read_all(pipe[0]) == LINE * written


def test_program_ends_though_a_write_hangs() -> None:
    program = (
        "import sys, os; sys.path.insert(0, %r)\n"
        "from sinks import DescriptorSink\n"
        "sink = DescriptorSink(1)\n"
        "sink.write(b'x' * 200000)\n"
        "sys.exit(0 if not sink.flush(0.2) else 1)\n"
    ) % os.path.dirname(os.path.abspath(logs.__file__))
    reader, writer = os.pipe()
    try:
        assert subprocess.call([sys.executable, "-c", program], stdout=writer, timeout=60) == 0
    finally:
        os.close(reader)
        os.close(writer)


def test_sink_to_nowhere_is_never_full() -> None:
    sink = Sink()
    called: List[int] = []
    sink.write(LINE)
    sink.when_room(lambda: called.append(1))
    assert not sink.full and sink.flush(0.0) and called == [1]


@pytest.mark.parametrize("device", ["/dev/full", "a pipe without a reader"])
def test_who_waits_for_room_is_called_also_when_the_write_fails(device: str) -> None:
    if device == "/dev/full":
        target = os.open(device, os.O_WRONLY)
    else:
        reader, target = os.pipe()
        os.close(reader)
    try:
        sink = DescriptorSink(target)
        called: List[int] = []
        for round_ in range(2):
            # Within one turn of the hub, so that nothing is written meanwhile.
            while not sink.full and round_ == len(called):
                sink.write(LINE)
                if not sink._size:
                    gevent.sleep(0.05)
            sink.when_room(lambda: called.append(1))
            wait_until(lambda count=round_ + 1: len(called) == count)  # type: ignore[misc]
            assert not sink.full
    finally:
        os.close(target)


def test_named_pipe_is_written_again_once_it_has_another_reader(tmp_path: Path) -> None:
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY)
    try:
        sink = DescriptorSink(writer)
        Log(sink)
        os.close(reader)
        sink.write(b"nobody\n")
        assert sink.flush(30.0)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        found = [b""]

        def has_come() -> bool:
            sink.write(b"somebody\n")
            gevent.sleep(0.01)
            found[0] += read_all(reader)
            return b"were lost: Broken pipe" in found[0]

        wait_until(has_come)
        assert b"somebody" in found[0] and b"nobody" not in found[0]
    finally:
        os.close(reader)
        os.close(writer)


def test_source_that_meets_a_lack_of_memory_is_called_again(pipe: Tuple[int, int]) -> None:
    sink = DescriptorSink(pipe[1])
    calls: List[int] = []

    def source() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise MemoryError

    fill(sink)
    sink.when_room(source)
    while not sink.flush(0.01):
        read_all(pipe[0])
    wait_until(lambda: len(calls) == 3)
    sink.write(b"goes on\n")
    assert sink.flush(30.0) and read_all(pipe[0]).endswith(b"goes on\n")


def raw(text: bytes, writer: object, ended: bool = True) -> Lines:
    return Lines(text, lambda colored: b"[head] ", NO_INSTANCE, ended, writer)


def test_text_of_others_does_not_get_into_a_line_that_goes_on(pipe: Tuple[int, int]) -> None:
    sink = DescriptorSink(pipe[1])
    sink.write_raw(raw(b"one, ", "a", ended=False))
    sink.write_raw(raw(b"two", "a"))
    sink.write_raw(raw(b"three", "a", ended=False))
    sink.write_raw(raw(b"four", "b", ended=False))
    sink.write(b"five\n")
    sink.write_raw(raw(b"six", "b"))
    assert sink.flush(PATIENCE)
    assert read_all(pipe[0]) == b"one, two\nthree\nfour\nfive\nsix\n"


def test_decorated_pieces_of_a_line_are_lines_each(pipe: Tuple[int, int]) -> None:
    sink = DescriptorSink(pipe[1])
    sink.write_lines(raw(b"one\ntwo, ", "a", ended=False))
    sink.write_lines(raw(b"three", "a"))
    assert sink.flush(PATIENCE)
    assert read_all(pipe[0]) == b"[head] one\n[head] two, \n[head] three\n"


def test_line_whose_end_was_dropped_is_ended(pipe: Tuple[int, int]) -> None:
    sink = DescriptorSink(pipe[1])
    for _ in range(LIMIT // 100000):
        sink.write(LINE * 1000)
    sink.write_raw(raw(LINE * 1000 + b"beginning", "a", ended=False))
    sink.write_raw(raw(b"end", "a"))
    found = b""
    while not sink.flush(0.01):
        found += read_all(pipe[0])
    sink.write_raw(raw(b"later", "a"))
    assert sink.flush(PATIENCE)
    assert (found + read_all(pipe[0])).endswith(b"beginning\nlater\n")


def test_own_line_for_which_there_is_no_memory_is_no_error() -> None:
    class Poor(Sink):
        def write(self, data: bytes, source: Source = NO_INSTANCE) -> None:
            raise MemoryError

    Log(Poor()).error("core", "nothing")
