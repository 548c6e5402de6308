"""The last lines of everyone: bounded, in order, and never at the cost of who writes."""

import json
from types import SimpleNamespace
from typing import Any, Iterator, List, Optional

import gevent
import gevent.socket
import pytest
from gevent.event import Event

import log_history
from control import ControlConnection
from log_history import (
    FOLLOWER_BYTES,
    MOST_BYTES,
    MOST_LINES,
    PIECE_BLOCKS,
    PIECE_BYTES,
    LogHistory,
    Wanted,
    uncolored,
)
from log_requests import LogRequests
from logs import LONGEST_LINE, LineWriter, Log
from outlets import Outlet
from sinks import Source

STAMP = b"[2026-11-23 15:04:05]"


def line(name: str, text: str) -> bytes:
    return STAMP + ("[%s][stdout] %s\n" % (name, text)).encode()


def source(name: str) -> Source:
    return Source(name.rpartition("-")[0], name)


class History(LogHistory):
    """Knows each process as soon as a line is about it."""

    def put(self, name: str, text: str, times: int = 1) -> None:
        """The line so many times, as one block."""
        self.know(source(name).process)
        self.add(line(name, text) * times, source(name))


def only(*names: str) -> Wanted:
    return Wanted(set(), set(names))


def last(history: LogHistory, wanted: Optional[Wanted] = None, most: Optional[int] = None) -> bytes:
    return b"".join(history.last(wanted, most))


def test_lines_come_back_in_the_order_they_came() -> None:
    history = History()
    for number in range(5):
        history.put("a-1", str(number))
        history.put("b-1", str(number))
    assert last(history).count(b"\n") == 10
    assert last(history).splitlines()[:2] == [
        line("a-1", "0").strip(), line("b-1", "0").strip()]  # fmt: skip
    assert last(history, only("b-1")) == b"".join(line("b-1", str(n)) for n in range(5))
    assert last(history, Wanted({"a"}, set()), 2) == line("a-1", "3") + line("a-1", "4")


def test_a_flood_forgets_its_own_lines_only() -> None:
    history = History()
    history.put("quiet-1", "kept")
    for number in range(5 * MOST_LINES):
        history.put("loud-1", str(number))
    assert last(history, only("quiet-1")) == line("quiet-1", "kept")
    assert last(history, only("loud-1")).count(b"\n") == MOST_LINES


@pytest.mark.parametrize("size", [10, 1000, 60000])
def test_one_process_holds_no_more_than_it_may(size: int) -> None:
    history = History()
    for _ in range(100):
        history.put("loud-1", "x" * size, 30)
    held = last(history)
    assert len(held) <= MOST_BYTES and held.count(b"\n") <= MOST_LINES
    assert all(each.startswith(STAMP) for each in held.splitlines())


@pytest.mark.parametrize("colors", [True, False])
def test_heads_of_real_writers_are_understood_and_their_colours_taken_off(colors: bool) -> None:
    history = History()
    sink = Outlet(history)
    sink.colors = colors
    Log(sink).info("core", "ours")
    Log(sink).warning("core", "about it", source("app-1"))
    writer = LineWriter(sink, source("app-1"), "stderr")
    writer.feed(b"one\n\x1b[31mred\x1b[0m\n")
    assert last(history, only("app-1")).count(b"\n") == 3
    assert uncolored(last(history, only("app-1"))).endswith(
        b"[app-1][stderr] \x1b[31mred\x1b[0m\n")
    assert b"ours" in last(history)
    assert (b"\x1b[90m" in last(history)) is colors
    assert b"\x1b[90m" not in uncolored(last(history))


def test_a_follower_gets_what_comes_and_is_told_what_it_missed() -> None:
    history = History()
    history.put("a-1", "before")
    follower = history.follow(only("a-1"))
    history.put("b-1", "not asked for")
    history.put("a-1", "now")
    assert follower.take(0) == line("a-1", "now")
    assert follower.take(0) == b""
    block = line("a-1", "x" * 1000) * 10
    for _ in range(FOLLOWER_BYTES // len(block) + 7):
        history.put("a-1", "x" * 1000, 10)
    taken = follower.take(0)
    assert len(taken) <= FOLLOWER_BYTES + 100
    assert b"(70 lines left out" in taken.splitlines()[-1]
    follower.close()
    history.put("a-1", "later")
    assert follower.take(0) == b""


def test_what_is_gone_is_forgotten() -> None:
    history = History()
    history.put("a-1", "text")
    history.forget("a")
    assert last(history) == b""


def test_late_line_about_a_process_that_is_gone_is_among_those_about_none() -> None:
    """Of a look at a port that ends after its instance, say; no ring is kept for it."""
    history = History()
    history.know("a")
    history.forget("a")
    history.add(line("a-1", "late"), source("a-1"))
    assert last(history) == last(history, only("a-1")) == line("a-1", "late")
    assert list(history._rings) == [""]


def test_what_pupgevent_tells_of_an_instance_is_with_its_process() -> None:
    history = History()
    history.know("app")
    log = Log(Outlet(history))
    log.warning("core", "of the instance", source("app-1"))
    log.info("core", "of nobody")
    assert last(history, Wanted({"app"}, set())).count(b"\n") == 1
    assert last(history).count(b"\n") == 2


def test_last_lines() -> None:
    assert log_history._last_lines(b"a\nb\nc\n", 2) == b"b\nc\n"
    assert log_history._last_lines(b"a\nb\n", 2) == b"a\nb\n"


# However much is remembered, it is given out in pieces


def full(processes: int, width: int = 200) -> History:
    """All that may be remembered of so many, who have taken turns."""
    history = History()
    for number in range(MOST_LINES):
        for process in range(processes):
            history.put("p%d-1" % process, "%d %s" % (number, "x" * width))
    return history


class Everything:
    """Wants all, and counts how often it is asked."""

    asked = 0

    def wants(self, process: str, name: str) -> bool:
        self.asked += 1
        return True


@pytest.mark.parametrize("most", [None, 10])
def test_no_piece_is_more_work_than_a_turn_of_the_loop_has_time_for(most: Optional[int]) -> None:
    history, wanted = full(60), Everything()
    found: List[bytes] = []
    asked: List[int] = []
    for piece in history.last(wanted, most):  # type: ignore[arg-type]
        found.append(piece)
        asked.append(wanted.asked - sum(asked))
    assert max(map(len, found)) <= PIECE_BYTES
    assert max(asked) <= PIECE_BLOCKS + MOST_LINES and sum(asked) > 50000
    assert b"".join(found) == last(history, None, most)
    assert all(not piece or piece.endswith(b"\n") for piece in found)


@pytest.mark.parametrize("most", [None, 5000])
def test_the_lines_of_many_come_in_the_order_they_came(most: Optional[int]) -> None:
    history = History()
    came = []
    for number in range(3000):
        name = "p%d-1" % (number * number % 59)
        came.append(line(name, str(number)))
        history.put(name, str(number))
    assert last(history, None, most) == b"".join(came)


def test_what_is_written_while_lines_are_given_out_is_not_among_them() -> None:
    """And what is forgotten meanwhile does no harm."""
    history = full(60)
    found = history.last(None)
    assert next(found) == b""
    for _ in range(2 * MOST_LINES):
        for process in range(60):
            history.put("p%d-1" % process, "later")
    history.forget("p59")
    rest = b"".join(found).splitlines()
    assert rest and not any(each.endswith(b"later") for each in rest)
    numbers = [int(each.split()[2]) for each in rest]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("size", [LONGEST_LINE, 2 * LONGEST_LINE, 5 * PIECE_BYTES])
def test_a_line_that_is_longer_than_a_piece_is_a_piece_of_its_own(size: int) -> None:
    history = History()
    texts = ["short", "x" * size, "short again"]
    for text in texts:
        history.put("a-1", text)
    lines = [line("a-1", text) for text in texts]
    assert [piece for piece in history.last(None) if piece] == lines
    assert last(history, None, 2) == b"".join(lines[1:])


class Turns:
    """Counts the turns of the loop, in each of which it looks at all of its sockets."""

    def __init__(self) -> None:
        self.now = 0
        self._watcher: Any = gevent.get_hub().loop.prepare()

    def __enter__(self) -> "Turns":
        self._watcher.start(self._count)
        return self

    def __exit__(self, *_: Any) -> None:
        self._watcher.stop()
        self._watcher.close()

    def _count(self) -> None:
        self.now += 1


class Dated(ControlConnection):
    """Notes in which turn of the loop each line was sent."""

    def __init__(self, connection: Any, turns: Turns, dates: "List[int]") -> None:
        super().__init__(connection)
        self._turns = turns
        self._dates = dates

    def send(self, what: Any) -> None:
        self._dates.append(self._turns.now)
        super().send(what)


def told(connection: Any) -> "Iterator[bytes]":
    for each in connection.makefile("rb"):
        yield json.loads(each.decode())["lines"].encode()


@pytest.mark.parametrize("follow", [False, True])
def test_who_asks_for_all_lines_leaves_the_loop_a_turn_between_two_pieces(follow: bool) -> None:
    """However many ask at once, and though their sockets take everything at once."""
    history = full(60, width=0)
    runtime, stopped = SimpleNamespace(history=history, log_files=list), Event()
    request = LogRequests(runtime, stopped).request()  # type: ignore[arg-type]
    dates: List[int] = []
    ends = [gevent.socket.socketpair() for _ in range(4)]
    through: List[Any] = []

    def read(connection: Any) -> bytes:
        found = b""
        for lines in told(connection):
            found += lines
            if found.endswith(b" the end\n"):
                through.append(connection)
                if len(through) == len(ends):
                    stopped.set()
        return found

    def serve(connection: Any, turns: Turns) -> None:
        answer = Dated(connection, turns, dates)
        request.act(dict(request.fields, follow=follow), answer)
        answer.close()

    with Turns() as turns:
        serving = [gevent.spawn(serve, ours, turns) for ours, _ in ends]
        reading = [gevent.spawn(read, theirs) for _, theirs in ends]
        if follow:
            gevent.sleep(0)
            for number in range(5000):
                history.put("p1-1", str(number))
            history.put("p1-1", "the end")
        gevent.joinall([*serving, *reading], raise_error=True)
    for _, theirs in ends:
        theirs.close()
    assert len(dates) == len(set(dates)) and len(dates) >= 4 * 5
    if follow:
        assert all(b" 4999\n" in each.value for each in reading)
    else:
        assert all(each.value == last(history) for each in reading)
