"""Lines: how they look, and that they come out whole however they came in."""

import os
import re
import time
from typing import Any, List

import pytest
from hypothesis import given, strategies as st

from logs import LONGEST_LINE, LineWriter, Log
from sinks import Source
from supervision import Page, process, script, supervise
from terminal import wants_colors

NOON = time.struct_time((2026, 11, 23, 15, 4, 5, 0, 327, 0))
SOURCE = Source("app", "app-1")
HEAD = b"[2026-11-23 15:04:05][app-1][stdout] "


def writer(page: Page) -> LineWriter:
    return LineWriter(page, SOURCE, "stdout", lambda: NOON)


def written(chunks: List[bytes]) -> bytes:
    page = Page()
    lines = writer(page)
    for chunk in chunks:
        lines.feed(chunk)
    lines.close()
    return page.written


def test_line_looks_as_pup_prints_it() -> None:
    assert written([b"hello\n"]) == b"[2026-11-23 15:04:05][app-1][stdout] hello\n"


def test_own_line_names_its_category_and_whom_it_is_about() -> None:
    page = Page()
    log = Log(page, clock=lambda: NOON)
    log.info("balancer", "listening")
    log.warning("core", "odd", SOURCE)
    log.error("core", "bad")
    assert page.written.decode().splitlines() == [
        "[2026-11-23 15:04:05][balancer] listening",
        "[2026-11-23 15:04:05][app-1][core] warning: odd",
        "[2026-11-23 15:04:05][core] error: bad",
    ]


def test_own_text_is_one_line_whatever_is_in_it() -> None:
    page = Page()
    Log(page).info("core", "a\nb\r\nc \udce9 \ud800")
    assert page.written.endswith(b"[core] a b c \\udce9 \\ud800\n")
    page.written = b""
    Log(page).info("core", "caf\udce9 \u20ac")
    assert page.written.endswith(b"[core] caf\xe9 \xe2\x82\xac\n")


@pytest.mark.parametrize("verbose, lines", [(False, 0), (True, 1)])
def test_debug_lines_show_only_when_asked_for(verbose: bool, lines: int) -> None:
    page = Page()
    Log(page, verbose=verbose).debug("core", "detail")
    assert len(page.lines) == lines


@given(st.lists(st.binary(max_size=12), max_size=20))
def test_lines_are_the_same_however_they_are_cut(chunks: List[bytes]) -> None:
    data = b"".join(chunks)
    expected = [HEAD + line for line in data.split(b"\n")]
    if not data or data.endswith(b"\n"):
        expected.pop()
    assert written(chunks) == b"".join(line + b"\n" for line in expected)


def test_bytes_that_are_not_utf_8_come_out_as_they_went_in() -> None:
    assert written([b"caf\xe9 \xff\x00\xfe\n"]) == HEAD + b"caf\xe9 \xff\x00\xfe\n"


def test_last_line_without_an_end_comes_out() -> None:
    assert written([b"a\nb"]) == HEAD + b"a\n" + HEAD + b"b\n"


def test_nothing_written_is_no_line() -> None:
    assert written([]) == b""


@pytest.mark.parametrize("size", [LONGEST_LINE, LONGEST_LINE + 1, 5 * LONGEST_LINE + 7])
def test_very_long_line_comes_out_in_pieces_and_whole(size: int) -> None:
    data = bytes(33 + at % 90 for at in range(size))
    page = Page()
    lines = writer(page)
    for start in range(0, size, 50000):
        lines.feed(data[start:start + 50000])
        assert len(lines._rest) <= LONGEST_LINE
    lines.feed(b"\n")
    pieces = [line[len(HEAD):] for line in page.written.splitlines()]
    assert b"".join(pieces) == data
    assert all(len(piece) <= 2 * LONGEST_LINE for piece in pieces)


@given(st.integers(0, 3))
def test_very_long_line_is_not_cut_within_a_character(shift: int) -> None:
    text = "x" * shift + "\U0001f436" * (LONGEST_LINE // 2)
    data = text.encode()
    chunks = [data[start:start + 40000] for start in range(0, len(data), 40000)]
    pieces = [line[len(HEAD):] for line in written(chunks).splitlines()]
    assert "".join(piece.decode() for piece in pieces) == text


def test_colors_stand_around_the_head_and_never_in_the_text() -> None:
    page = Page()
    page.colors = True
    LineWriter(page, SOURCE, "stderr", lambda: NOON).feed(b"a\nb\n")
    plain = re.sub(rb"\x1b\[\d*m", b"", page.written)
    assert plain == b"".join(HEAD.replace(b"stdout", b"stderr") + each for each in (b"a\n", b"b\n"))
    assert all(line[:-1].endswith(b"\x1b[0m ") for line in page.written.splitlines())


def test_colors_are_for_terminals(monkeypatch: Any) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    reader, writer_fd = os.pipe()
    master, terminal = os.openpty()
    try:
        assert not wants_colors(writer_fd) and wants_colors(terminal)
        assert wants_colors(writer_fd, True) and not wants_colors(terminal, False)
        monkeypatch.setenv("NO_COLOR", "1")
        assert not wants_colors(terminal)
        monkeypatch.setenv("NO_COLOR", "")
        assert wants_colors(terminal)
    finally:
        for descriptor in (reader, writer_fd, master, terminal):
            os.close(descriptor)


def test_halves_of_lines_and_odd_bytes_of_a_child_come_out_whole() -> None:
    with supervise(process(script("muttering.py"))) as stage:
        stage.reaches("finished")
        lines = [line.partition(b"] ")[2] for line in stage.page.written.splitlines()
                 if b"[stdout]" in line]
        assert lines == [b"half and half", b"caf\xe9 \xff\xfe", b"\xe2\x82\xac", b"no end"]
        assert stage.page.texts("[app][stderr]") == ["trouble"]


def test_console_can_be_off_for_a_process() -> None:
    quiet = process("echo secret")
    quiet = quiet._replace(logger=quiet.logger._replace(console=False))
    with supervise(quiet, process("echo here", id="b")) as stage:
        stage.reaches("finished", "b")
        stage.reaches("finished")
        assert stage.page.texts("[b][stdout]") == ["here"]
        assert not any("secret" in line for line in stage.page.lines)
