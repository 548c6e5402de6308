"""When the poller tells whom: events, turns, and what is left for the end of either. What has to
hold when memory runs out: test_memory.py."""

import socket
from typing import Any, Callable, Dict, Iterator, List

import pytest
from gevent import get_hub

from poller import TURN_SECONDS, Handler, Poller
from supervision import wait_until

pytest_plugins = ["pollers"]


class Recorder(Handler):
    """The handler of one end of a pair of sockets; `does` is what it does when it is told."""

    wants_writable = False

    def __init__(self, poller: Poller, name: str, told: "List[str]") -> None:
        self.name = name
        self.told = told
        self.does: Dict[str, List[Callable[[], Any]]] = {}
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        poller.watch(self.near.fileno(), self)

    def _is_told(self, what: str) -> None:
        self.told.append("%s %s" % (self.name, what))
        for action in self.does.get(what, ()):
            action()

    def on_event(self, mask: int) -> None:
        self.near.recv(100)
        self._is_told("event")

    def on_turn(self) -> None:
        self._is_told("turn")

    def on_posted(self) -> None:
        self._is_told("posted")

    def fail(self) -> None:
        pass


@pytest.fixture
def told() -> "List[str]":
    return []


@pytest.fixture
def recorders(poller: Poller, told: "List[str]") -> "Iterator[List[Recorder]]":
    recorders = [Recorder(poller, name, told) for name in "abcd"]
    yield recorders
    for each in recorders:
        poller.forget(each.near.fileno())
        each.near.close()
        each.far.close()


def told_by_then(told: "List[str]", begin: "Callable[[], Any]") -> "List[str]":
    """What has been told before gevent's loop comes round again, from the first word on."""
    begin()
    wait_until(lambda: "loop" in told)
    return told[:told.index("loop")]


def at_the_next_loop(told: "List[str]") -> "Callable[[], Any]":
    return lambda: get_hub().loop.run_callback(told.append, "loop")


def posts(poller: Poller, *handlers: Handler) -> "Callable[[], Any]":
    return lambda: poller.posted.extend(handlers)


def test_who_is_posted_comes_behind_all_events_of_a_poll(
    poller: Poller, recorders: "List[Recorder]", told: "List[str]"
) -> None:
    a, b, c, _ = recorders
    for each in (a, b):
        each.does["event"] = [posts(poller, c), at_the_next_loop(told)]
        each.far.send(b"x")
    wait_until(lambda: told.count("loop") == 2)
    assert sorted(told[:2]) == ["a event", "b event"] and told[2:4] == ["c posted"] * 2


@pytest.mark.parametrize("by", ["event", "turn"])
def test_who_is_posted_by_one_that_is_posted_does_not_wait(
    poller: Poller, recorders: "List[Recorder]", told: "List[str]", by: str
) -> None:
    a, b, c, _ = recorders
    a.does[by] = [at_the_next_loop(told), posts(poller, b)]
    b.does["posted"] = [posts(poller, c)]
    found = told_by_then(
        told, lambda: a.far.send(b"x") if by == "event" else poller.call_soon(a))
    assert found == ["a " + by, "b posted", "c posted"]


def test_one_that_fails_when_it_is_posted_holds_up_nobody(
    poller: Poller, recorders: "List[Recorder]", told: "List[str]", failed: "List[Handler]"
) -> None:
    a, b, c, d = recorders
    a.does["event"] = [at_the_next_loop(told), posts(poller, b, c, d)]
    c.does["posted"] = [lambda: 1 // 0]
    found = told_by_then(told, lambda: a.far.send(b"x"))
    assert found == ["a event", "b posted", "c posted", "d posted"] and failed == [c]


def test_a_turn_is_one_however_often_it_was_asked_for(
    poller: Poller, recorders: "List[Recorder]", told: "List[str]"
) -> None:
    a, b, _, _ = recorders
    b.does["turn"] = [at_the_next_loop(told)]

    def ask() -> None:
        for each in (a, a, b, a):
            poller.call_soon(each)

    assert told_by_then(told, ask) == ["a turn", "b turn"]


def test_who_asks_for_turn_after_turn_keeps_nobody_waiting(
    poller: Poller, recorders: "List[Recorder]", told: "List[str]"
) -> None:
    """Neither who is told of an event, nor what else waits for the loop; so one that sends all the
    time costs the others no more than a turn of its own."""
    a, b, _, _ = recorders

    def ask_again() -> None:
        if told.count("a turn") == 5:
            b.far.send(b"x")
            timer.start(lambda: told.append("timer"))
        if not {"b event", "timer"} <= set(told):
            poller.call_soon(a)

    a.does["turn"] = [ask_again]
    timer = get_hub().loop.timer(0)
    poller.call_soon(a)
    wait_until(lambda: {"b event", "timer"} <= set(told))
    timer.close()
    assert told.count("a turn") <= 7


def test_turns_stop_after_a_while_and_go_on_where_they_stopped(
    failed: "List[Handler]", told: "List[str]"
) -> None:
    """Else many that have much to do would keep the others waiting in one turn."""
    now = [0.0]
    poller = Poller(failed.append, lambda: now[0])
    recorders = [Recorder(poller, name, told) for name in "abcde"]

    def take_long() -> None:
        now[0] += TURN_SECONDS * 0.6

    for each in recorders:
        each.does["turn"] = [take_long]
        poller.call_soon(each)
    first = recorders[0]

    def ask_again() -> None:
        if told.count("a turn") < 2:
            poller.call_soon(first)

    first.does["turn"] += [at_the_next_loop(told), ask_again]
    wait_until(lambda: told.count("a turn") == 2)
    for each in recorders:
        poller.forget(each.near.fileno())
        each.near.close()
        each.far.close()
    poller.close()
    turns = [each for each in told if each != "loop"]
    assert turns == ["a turn", "b turn", "c turn", "d turn", "e turn", "a turn"]
    assert told[2] == "loop" and not failed
