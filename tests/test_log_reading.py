"""Log files are read again whatever is in them, in bounded pieces, and no disk holds anybody up."""

import contextlib
import gzip
import math
import os
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any, Callable, List, Optional

import gevent
import pytest
from hypothesis import given, settings, strategies as st

import log_opening
from log_heads import Stamps, colored
from log_history import uncolored
from log_past import Asked
from log_reading import (
    ENDLESS,
    PIECE,
    BackwardCount,
    Entry,
    Picker,
    RawPicker,
    Reader,
    open_files,
)
from log_stage import Stage, numbers, only, texts
from logs import LineWriter, Log
from sinks import Source
from supervision import Page, wait_until

pytest_plugins = ["log_stages"]

HEAD = b"[2026-11-23 15:04:05]"


def entries_of(path: Path, picker: Any, start: int = 0, end: int = ENDLESS) -> List[Entry]:
    log, = open_files(str(path), False, None, threading.BoundedSemaphore(5))
    reader = Reader(log, picker, start, min(end, log.size))
    found: List[Entry] = []
    while True:
        entries = reader.more()
        if entries is None:
            return found
        assert all(len(each.data) <= 3 * PIECE for each in entries)
        found += entries


def read(path: Path, picker: Any, start: int = 0, end: int = ENDLESS) -> bytes:
    return b"".join(each.data for each in entries_of(path, picker, start, end))


def everything(name: Optional[str] = None) -> int:
    return ENDLESS


#: Lines, heads, and what looks like them.
_WORDS = [
    HEAD + b"[a][stdout] ", HEAD + b"[core] ", b"[2026-11-23 15:04:06][b-1][stderr] ", b"\n", b"\n",
    b"text", b"\r", b"\xff\x00", b"x" * 70000, HEAD, b"[a][stdout] ", b"[9999-99-99 99:99:99][a] ",
]
_CONTENT = st.lists(st.sampled_from(_WORDS), max_size=30).map(b"".join)


@settings(max_examples=150)
@given(_CONTENT, st.booleans(), st.sampled_from([None, "a", "b-1"]))
def test_the_count_backwards_is_that_of_what_is_read(
    content: bytes, raw: bool, name: Optional[str]
) -> None:
    """At each step, and the lines from there on are the last ones."""
    with contextlib.ExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory()), "file")
        path.write_bytes(content)

        def limit_of(found: Optional[str]) -> int:
            return ENDLESS if name in (None, found) else 0

        since = 0 if name else -math.inf
        picker: Any = RawPicker(ENDLESS, b"", 0) if raw else Picker(limit_of, since)
        whole = read(path, picker.fresh())
        assert whole.endswith(b"\n") or not whole
        if raw or name is None:
            assert whole == content + (b"" if content.endswith(b"\n") or not content else b"\n")
        log, = open_files(str(path), False, None, threading.BoundedSemaphore(5))
        counting = BackwardCount(log, picker, log.size)
        while counting.step():
            if not counting.is_halfway:
                rest = read(path, picker.fresh(), counting.start)
                assert rest.count(b"\n") == counting.count and whole.endswith(rest)
        assert counting.start == 0 and counting.count == whole.count(b"\n")


@settings(max_examples=60)
@given(_CONTENT, st.integers(0, 3))
def test_compressed_files_are_read_as_others(content: bytes, members: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plain, packed = Path(folder, "file"), Path(folder, "file.gz")
        plain.write_bytes(content * (members + 1))
        packed.write_bytes(gzip.compress(content) * (members + 1))
        picker = Picker(everything, -math.inf)
        assert read(packed, picker.fresh()) == read(plain, picker.fresh())


@pytest.mark.parametrize("harm", ["cut off", "no gzip", "empty", "rubbish behind", "changed"])
def test_compressed_file_that_is_none_ends_where_it_ends(tmp_path: Path, harm: str) -> None:
    content = b"".join(HEAD + b"[a][stdout] %d\n" % n for n in range(50000))
    packed = gzip.compress(content)
    path = tmp_path / "file.gz"
    path.write_bytes({
        "cut off": packed[: len(packed) // 2], "no gzip": content, "empty": b"",
        "rubbish behind": packed + b"rubbish", "changed": packed[:-2000] + b"x" * 2000,
    }[harm])
    found = read(path, Picker(everything, -math.inf))
    expected = {"no gzip": 0, "empty": 0, "rubbish behind": len(content)}
    assert len(found) == expected.get(harm, len(found))
    assert (content.startswith(found[:100000]) and found.endswith(b"\n")) or not found


def test_lines_without_a_head_belong_to_the_one_above(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"nobody's\n" + HEAD + b"[a][stdout] 1\nmore\n" + HEAD + b"[b][stdout] 2\n"
                     b"of b\n\n" + HEAD + b"[core] 3\n[a][stdout] still\n")

    def of(name: Optional[str]) -> bytes:
        return read(path, Picker(lambda found: ENDLESS if found == name else 0, 0))

    assert of("a") == HEAD + b"[a][stdout] 1\nmore\n"
    assert of("b") == HEAD + b"[b][stdout] 2\nof b\n\n"
    assert of(None) == HEAD + b"[core] 3\n[a][stdout] still\n"
    assert read(path, Picker(everything, -math.inf)) == path.read_bytes()


def test_heads_of_real_writers_are_read_and_coloured_as_they_were() -> None:
    """A child that prints what looks like ours gets the colour of its stream."""
    page, plain = Page(), Page()
    page.colors = True
    for sink in (page, plain):
        source = Source("app", "app-1")
        Log(sink, verbose=True).info("core", "ours")
        Log(sink).warning("core", "about it", source)
        Log(sink).error("balancer", "bad")
        LineWriter(sink, source, "stdout").feed(b"error: one\n[x][y] two\n\n")
        LineWriter(sink, source, "stderr").feed(b"warning: three\n")
    stamps = Stamps()
    assert abs(stamps.seconds(plain.written[1:20]) - time.time()) < 60
    stamp = plain.written[:21]
    same = plain.written.replace(plain.written[:21], stamp)
    assert colored(same) == page.written.replace(page.written[5:26], stamp)
    assert colored(colored(same)) == colored(same)
    assert uncolored(colored(same)) == same


# Files of all kinds


def test_what_is_no_log_file_is_passed_over(
    log_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    for path in ("pipe.log", "a.log.2"):
        os.mkfifo(str(tmp_path / path))
    (tmp_path / "a.log.3").mkdir()
    (tmp_path / "a.log.1").symlink_to("/dev/zero")
    (tmp_path / "a.log.4").write_bytes(HEAD + b"[a][stdout] before\n")
    (tmp_path / "folder.log").mkdir()
    here = log_stage()
    here.have("a")
    here.have("pipe")
    here.have("folder")
    here.have("null", stdout="/dev/null", stderr="/dev/null")
    here.have("none", path="missing/none.log")
    for name in ("a", "pipe", "folder", "null", "none"):
        here.say(name, "now")
    shown = here.shown(100)
    for name in ("a", "pipe", "folder", "null", "none"):
        assert "[%s][stdout] now" % name in shown
    assert "[a][stdout] before" in shown
    assert sum("stdout" in each for each in shown) == 6


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_that_may_not_be_read_is_passed_over(
    log_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    here = log_stage()
    here.have("a")
    for number in range(20):
        here.say("a", number)
    here.flush()
    (tmp_path / "a.log").chmod(0)
    assert texts(here.shown(100)) == numbers(13, 19)


def read_by_us() -> int:
    """Bytes that this process has read so far, of anything."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(lines[0].split()[1])


@pytest.mark.parametrize("raw", [False, True])
def test_the_last_lines_of_a_file_of_gigabytes_cost_a_piece(
    log_stage: Callable[..., Stage], tmp_path: Path, raw: bool
) -> None:
    with open(str(tmp_path / "a.log"), "wb") as file:
        file.truncate(5 << 30)
        file.seek(0, os.SEEK_END)
        file.write(b"\n")
        for number in range(10000):
            file.write(b"%d\n" % number if raw else HEAD + b"[a][stdout] %d\n" % number)
    here = log_stage(decorate_files=not raw)
    here.have("a")
    before = read_by_us()
    assert texts(here.shown(10)) == numbers(9990, 9999)
    assert read_by_us() - before < 5 * PIECE


def test_since_in_a_file_of_gigabytes_looks_at_little_of_it(
    log_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    began = time.time() - 30 * 86400
    with open(str(tmp_path / "a.log"), "wb") as file:
        for hour in range(30 * 24):
            stamp = time.strftime("[%Y-%m-%d %H:%M:%S]", time.localtime(began + 3600 * hour))
            file.write(("%s[a][stdout] %d %s\n" % (stamp, hour, "x" * 30000)).encode())
    here = log_stage()
    here.have("a")
    before = read_by_us()
    shown = here.shown(since=began + 3600 * 700 - 1)
    assert [each.split()[1] for each in shown] == numbers(700, 719)
    assert read_by_us() - before < 40 * PIECE


def test_lines_of_megabytes_and_rubbish_do_no_harm(
    log_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    rubbish = os.urandom(1000000).replace(b"\n", b"")
    long = HEAD + b"[a][stdout] " + b"y" * 3000000 + b"\n"
    content = rubbish + b"\n" + long + HEAD + b"[b][stdout] short\n" + b"\n" * 100000
    (tmp_path / "all.log").write_bytes(content)
    here = log_stage()
    here.have("a", path="all.log")
    here.have("b", path="all.log")
    assert here.bytes(10**6) == content
    assert here.bytes(10**6, wanted=only("a")) == long
    assert here.bytes(1, wanted=only("a")) == long
    assert here.bytes(100001, wanted=only("b")) == content[content.index(HEAD + b"[b]"):]


def test_memory_is_bounded_whatever_is_asked_for(
    log_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    with open(str(tmp_path / "a.log"), "wb") as file:
        for number in range(200000):
            file.write(HEAD + b"[a][stdout] %d %s\n" % (number, b"x" * 50))
    here = log_stage()
    here.have("a")
    tracemalloc.start()
    try:
        found = 0
        for piece in here.past.lines(Asked(None, 10**9, None), here.hints.append):
            found += piece.count(b"\n")
        assert found == 200000 and tracemalloc.get_traced_memory()[1] < 3000000
    finally:
        tracemalloc.stop()


def test_file_that_is_emptied_while_it_is_read_ends(
    log_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"".join(HEAD + b"[a][stdout] %d\n" % n for n in range(20000)))
    here = log_stage()
    here.have("a")
    found = b""
    for piece in here.past.lines(Asked(None, 10**9, None), here.hints.append):
        found += piece
        if found:
            os.truncate(str(path), 0)
    assert 0 < found.count(b"\n") < 20000 and found.endswith(b"\n")


def descriptors() -> List[str]:
    found = []
    for each in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink("/proc/self/fd/" + each))
    return found


def test_who_leaves_leaves_no_file_open(log_stage: Callable[..., Stage], tmp_path: Path) -> None:
    content = b"".join(HEAD + b"[a][stdout] %d\n" % n for n in range(20000))
    (tmp_path / "a.log").write_bytes(content)
    (tmp_path / "a.log.1").write_bytes(content)
    (tmp_path / "a.log.2.gz").write_bytes(gzip.compress(content))
    here = log_stage()
    here.have("a")
    lines = here.past.lines(Asked(None, 10**9, None), here.hints.append)
    while not next(lines):
        pass
    assert sum(str(tmp_path) in each for each in descriptors()) >= 2
    lines.close()  # type: ignore[attr-defined]
    wait_until(lambda: not any(str(tmp_path) in each for each in descriptors()))


# Disks that do not answer


def test_disk_that_does_not_answer_leaves_memory(
    log_stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All threads hang; and the next one who asks waits no longer."""
    here = log_stage()
    here.expects_hints = True
    here.have("a")
    here.have("b")
    for number in range(20):
        here.say("a", number)
    here.flush()
    gate = threading.Event()
    readers: Any = here.past._readers
    hanging = [gevent.spawn(readers._threads.call, gate.wait, 60) for _ in range(4)]
    try:
        wait_until(lambda: not readers._threads._idle)
        with monkeypatch.context() as patch:
            patch.setattr(log_opening, "_PATIENCE", 0.2)
            assert texts(here.shown(100)) == numbers(13, 19)
        assert "the disk does not answer; some lines are left out" in here.hints[0]
    finally:
        gate.set()
        gevent.joinall(hanging, timeout=30)
    assert texts(here.shown(100)) == numbers(0, 19)


def test_lines_that_cannot_be_written_in_time_leave_memory(
    log_stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(log_opening, "_QUEUE_PATIENCE", 0.2)
    here = log_stage(max_bytes=100)
    here.expects_hints = True
    here.have("a")
    for number in range(20):
        here.say("a", number)
    here.flush()
    file = here.outlets._files.find(str(tmp_path / "a.log"))
    assert file is not None
    with file._file._backups:
        # As long as a backup is compressed: at twice its size the file waits.
        for number in range(20, 40):
            here.say("a", number)
        here.flush()
        here.say("a", 40)
        assert texts(here.shown(100)) == numbers(34, 40)
        assert "lines still wait to be written" in here.hints[0]
    here.flush()
    assert texts(here.shown(5)) == numbers(36, 40)
    assert texts(here.shown(20)) == numbers(21, 40)
