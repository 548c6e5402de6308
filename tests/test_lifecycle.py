"""The table of an instance's life, held against what it promises."""

import itertools
from typing import Set

import pytest

import lifecycle
from lifecycle import MOVES, STATES, IllegalMove, Lifecycle, after

EVENTS = sorted({event for moves in MOVES.values() for event in moves})
ILLEGAL = [
    (state, event) for state, event in itertools.product(STATES, EVENTS)
    if event not in MOVES[state]
]


def reachable(state: str) -> Set[str]:
    """From there, by any events."""
    found, new = {state}, [state]
    while new:
        following = set(MOVES[new.pop()].values()) - found
        found |= following
        new += following
    return found


def test_every_instance_begins_as_created() -> None:
    assert Lifecycle().state == "created"


def test_every_state_can_come_to_pass() -> None:
    assert reachable("created") == set(STATES)


def test_no_move_leads_back_to_created() -> None:
    assert all("created" not in moves.values() for moves in MOVES.values())


@pytest.mark.parametrize("state", [state for state in STATES if state != "stopped"])
def test_a_stop_leads_to_stopped_from_everywhere(state: str) -> None:
    if state in ("starting", "running"):
        state = after(state, "stop")
    assert after(state, "over") == "stopped"


@pytest.mark.parametrize("state", [
    "created", "stopped", "backoff", "finished", "errored", "exhausted"])
def test_what_does_not_live_can_be_started(state: str) -> None:
    assert after(state, "start") == "starting"


@pytest.mark.parametrize("state", ["starting", "running", "stopping"])
def test_a_child_can_die_at_any_time(state: str) -> None:
    verdicts = [after(state, event) for event in ("retry", "finish", "fail", "exhaust")]
    assert verdicts == ["backoff", "finished", "errored", "exhausted"]


def test_only_what_starts_can_come_to_run() -> None:
    assert [state for state in STATES if "running" in MOVES[state].values()] == ["starting"]


@pytest.mark.parametrize("state, event", ILLEGAL)
def test_an_illegal_event_raises_and_changes_nothing(state: str, event: str) -> None:
    life = Lifecycle()
    life.state = state
    with pytest.raises(IllegalMove, match="'%s' in state '%s'" % (event, state)):
        life.move(event)
    assert life.state == state


def test_an_unknown_event_is_illegal_everywhere() -> None:
    for state in STATES:
        with pytest.raises(IllegalMove):
            after(state, "explode")


def test_alive_settled_and_backoff_are_all_there_is() -> None:
    assert lifecycle.ALIVE | lifecycle.SETTLED | {"backoff"} == set(STATES)
    assert not lifecycle.ALIVE & lifecycle.SETTLED
    assert lifecycle.GIVEN_UP < lifecycle.SETTLED


def test_what_has_settled_moves_only_by_an_order() -> None:
    for state in lifecycle.SETTLED:
        assert set(MOVES[state]) <= {"start", "over"}
