"""The last lines of everyone: bounded, in order, and never at the cost of who writes."""

from typing import Optional

import pytest

import recent
from logs import Heads, LineWriter, Log
from recent import FOLLOWER_BYTES, MOST_BYTES, MOST_LINES, Recent, Wanted, uncolored
from sinks import Sink

STAMP = b"[2026-11-23 15:04:05]"


def line(name: str, text: str) -> bytes:
    return STAMP + ("[%s][stdout] %s\n" % (name, text)).encode()


def process_of(name: str) -> Optional[str]:
    return name.rpartition("-")[0] or None


def only(*names: str) -> Wanted:
    return Wanted(set(), set(names))


def test_lines_come_back_in_the_order_they_came() -> None:
    memory = Recent(process_of)
    for number in range(5):
        memory.add(line("a-1", str(number)))
        memory.add(line("b-1", str(number)))
    assert memory.last(None).count(b"\n") == 10
    assert memory.last(None).splitlines()[:2] == [
        line("a-1", "0").strip(), line("b-1", "0").strip()]  # fmt: skip
    assert memory.last(only("b-1")) == b"".join(line("b-1", str(n)) for n in range(5))
    assert memory.last(Wanted({"a"}, set()), 2) == line("a-1", "3") + line("a-1", "4")


def test_a_flood_forgets_its_own_lines_only() -> None:
    memory = Recent(process_of)
    memory.add(line("quiet-1", "kept"))
    for number in range(5 * MOST_LINES):
        memory.add(line("loud-1", str(number)))
    assert memory.last(only("quiet-1")) == line("quiet-1", "kept")
    assert memory.last(only("loud-1")).count(b"\n") == MOST_LINES


@pytest.mark.parametrize("size", [10, 1000, 60000])
def test_one_process_holds_no_more_than_it_may(size: int) -> None:
    memory = Recent(process_of)
    for _ in range(100):
        memory.add(line("loud-1", "x" * size) * 30)
    held = memory.last(None)
    assert len(held) <= MOST_BYTES and held.count(b"\n") <= MOST_LINES
    assert all(each.startswith(STAMP) for each in held.splitlines())


@pytest.mark.parametrize("colors", [True, False])
def test_heads_of_real_writers_are_understood_and_their_colours_taken_off(colors: bool) -> None:
    memory = Recent(process_of)
    sink = memory.sink(Sink())
    Log(sink, colors).info("core", "ours")
    Log(sink, colors).warning("core", "about it", who="app-1")
    writer = LineWriter(sink, Heads(colors), "app-1", "stderr")
    writer.feed(b"one\n\x1b[31mred\x1b[0m\n")
    assert memory.last(only("app-1")).count(b"\n") == 3
    assert uncolored(memory.last(only("app-1"))).endswith(
        b"[app-1][stderr] \x1b[31mred\x1b[0m\n")
    assert b"ours" in memory.last(None)
    assert (b"\x1b[90m" in memory.last(None)) is colors
    assert b"\x1b[90m" not in uncolored(memory.last(None))


def test_a_follower_gets_what_comes_and_is_told_what_it_missed() -> None:
    memory = Recent(process_of)
    memory.add(line("a-1", "before"))
    follower = memory.follow(only("a-1"))
    memory.add(line("b-1", "not asked for"))
    memory.add(line("a-1", "now"))
    assert follower.take(0) == line("a-1", "now")
    assert follower.take(0) == b""
    block = line("a-1", "x" * 1000) * 10
    for _ in range(FOLLOWER_BYTES // len(block) + 7):
        memory.add(block)
    taken = follower.take(0)
    assert len(taken) <= FOLLOWER_BYTES + 100
    assert b"(70 lines left out" in taken.splitlines()[-1]
    follower.close()
    memory.add(line("a-1", "later"))
    assert follower.take(0) == b""


def test_what_is_gone_is_forgotten() -> None:
    memory = Recent(process_of)
    memory.add(line("a-1", "text"))
    memory.forget("a")
    assert memory.last(None) == b""


def test_last_lines() -> None:
    assert recent._last_lines(b"a\nb\nc\n", 2) == b"b\nc\n"
    assert recent._last_lines(b"a\nb\n", 2) == b"a\nb\n"
