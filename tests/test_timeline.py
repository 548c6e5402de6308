"""What has happened to all instances, in one order with numbers; and to each of them."""

import gc
import itertools
from typing import Any, Callable, List

import pytest

import timeline
from instance_history import MOST_MOMENTS, InstanceHistory
from timeline import MOST_EVENTS, Timeline


class Member:
    """What a timeline sees of an instance."""

    process_id = "web"

    def __init__(self, name: str, clock: "Callable[[], float]") -> None:
        self.name = name
        self.history = InstanceHistory(clock)


def members(*names: str) -> List[Any]:
    """With one clock for all, which shows another second each time."""
    clock: Callable[[], float] = itertools.count(1.0).__next__
    return [Member(name, clock) for name in names]


def test_what_was_before_comes_first_in_the_order_in_which_it_happened() -> None:
    first, second = members("web-1", "web-2")
    for each in (first, second, first):
        each.history.add("starting", "")
    events = Timeline([first, second]).after(0)
    assert [(each.number, each.at, each.id, each.process) for each in events] == [
        (1, 1.0, "web-1", "web"), (2, 2.0, "web-2", "web"), (3, 3.0, "web-1", "web")]


def test_each_change_is_told_once_with_a_number_one_higher() -> None:
    first, second = members("web-1", "web-2")
    first.history.add("created", "")
    found = Timeline([first, second])
    # Told of another change than one of its state, or twice.
    found.note(first)
    assert found.number == 1
    second.history.add("starting", "")
    found.note(second)
    found.note(second)
    first.history.add("errored", "exit code 3")
    found.note(first)
    assert [(each.number, each.id, each.state, each.text) for each in found.after(1)] == [
        (2, "web-2", "starting", ""), (3, "web-1", "errored", "exit code 3")]
    assert found.after(3) == []


def test_only_the_last_are_kept_and_their_numbers_go_on() -> None:
    member, = members("web-1")
    found = Timeline([member])
    for _ in range(MOST_EVENTS + 7):
        member.history.add("running", "")
        found.note(member)
    kept = [each.number for each in found.after(0)]
    assert kept == list(range(8, MOST_EVENTS + 8))
    assert found.number == MOST_EVENTS + 7


def test_an_instance_of_the_same_name_as_one_before_begins_anew() -> None:
    old, new = members("web-1", "web-1")
    found = Timeline([old])
    for each in (old, new):
        each.history.add("running", "")
        found.note(each)
    assert [each.number for each in found.after(0)] == [1, 2]


def test_nothing_is_kept_of_instances_that_are_gone_but_their_last_events() -> None:
    found = Timeline([])
    for _ in range(50):
        member, = members("web-1")
        member.history.add("running", "")
        found.note(member)
    del member
    gc.collect()
    assert len(found._seen) == 0
    assert found.number == 50


def test_a_change_for_which_there_is_no_memory_does_not_harm_the_instance(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told in the middle of a step of the instance, whose run an error would end."""
    member, = members("web-1")
    found = Timeline([member])

    def exhausted(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(timeline, "Event", exhausted)
        member.history.add("running", "")
        found.note(member)
    member.history.add("stopping", "")
    found.note(member)
    assert [each.state for each in found.after(0)] == ["stopping"]


def test_an_instance_keeps_its_last_states_and_counts_them_all() -> None:
    member, = members("web-1")
    for number in range(MOST_MOMENTS + 5):
        member.history.add("state %d" % number, "why")
    kept = member.history.moments
    assert [each.state for each in kept] == ["state %d" % n for n in range(5, MOST_MOMENTS + 5)]
    assert kept[-1] == (MOST_MOMENTS + 5.0, "state %d" % (MOST_MOMENTS + 4), "why")
    assert member.history.total == MOST_MOMENTS + 5
