"""`slowStartMs`: an instance that has come up gets few clients at first."""

import collections
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

import pytest

from backends import LEAST_WEIGHT
from health_stage import ask, backend, web, who_answers
from inside import inside
from pool import Pool
from strategies import STRATEGIES, Candidate, Strategy, token
from test_passive_health import Noting

Ports = Callable[[int], List[int]]


class Backend(Candidate):
    def __init__(self, name: str, weight: float = 1.0, ttfb: Optional[float] = None) -> None:
        self.name = name
        self.open = 0
        self.ttfb = ttfb
        self.weight = weight


def ramped(name: str) -> Strategy:
    return STRATEGIES[name]().ramped()


def shares(strategy: Strategy, backends: Sequence[Backend], times: int,
           client: str = "") -> Dict[str, int]:
    """One after the other, with nothing open."""
    return collections.Counter(strategy.choose(backends, client).name for _ in range(times))


FRESH = (Backend("old-1"), Backend("old-2"), Backend("old-3"), Backend("new", 0.1))


@pytest.mark.parametrize("name", ["round-robin", "least-connections", "cookie"])
def test_turns_go_by_weight(name: str) -> None:
    """3.1 shares, of which the fresh one has a tenth of one."""
    found = shares(ramped(name), FRESH, 3100)
    assert abs(found["new"] - 100) <= 2
    assert all(abs(found[each] - 1000) <= 2 for each in ("old-1", "old-2", "old-3"))


@pytest.mark.parametrize("name", ["round-robin", "least-connections", "least-time", "cookie"])
def test_those_of_the_same_weight_get_the_same(name: str) -> None:
    """Nobody is there to take the rest."""
    backends = [Backend("web-%d" % number, LEAST_WEIGHT) for number in range(4)]
    assert set(shares(ramped(name), backends, 400).values()) == {100}


@pytest.mark.parametrize("name", ["least-connections", "least-time"])
def test_a_burst_goes_to_the_others(name: str) -> None:
    """All of them stay open: without weights the fresh one would get the first twenty."""
    old = [Backend("old-%d" % number) for number in range(3)]
    for each in old:
        each.open = 20
    new = Backend("new", LEAST_WEIGHT)
    strategy = ramped(name)
    for _ in range(30):
        strategy.choose([*old, new], "").open += 1
    # Open connections are as the weights: 30 each, and one.
    assert new.open == 1
    assert sorted(each.open for each in old) == [29, 30, 30]
    new.weight = 0.5
    for _ in range(30):
        strategy.choose([*old, new], "").open += 1
    assert 15 <= new.open <= 18


@pytest.mark.parametrize("name", ["least-connections", "least-time"])
def test_an_idle_one_gets_no_more_than_its_share_for_being_quick(name: str) -> None:
    """The others always have something open, it never has."""
    old = [Backend("old-%d" % number, 1.0, 0.01) for number in range(3)]
    for each in old:
        each.open = 2
    found = shares(ramped(name), [*old, Backend("new", 0.1, 0.01)], 3100)
    assert 90 <= found["new"] <= 110


def test_it_waits_for_a_share_as_it_is_now() -> None:
    """Not as it was when it had its last turn: that would be long over."""
    old, new = Backend("old"), Backend("new", 0.001)
    strategy = ramped("round-robin")
    assert shares(strategy, (old, new), 10)["new"] <= 1
    new.weight = 1.0
    assert shares(strategy, (old, new), 10)["new"] >= 4


def test_a_newcomer_does_not_catch_up() -> None:
    strategy = ramped("round-robin")
    old = [Backend("old-%d" % number) for number in range(3)]
    shares(strategy, old, 3000)
    found = shares(strategy, [*old, Backend("new", 0.5)], 350)
    assert 48 <= found["new"] <= 52


def test_whom_a_client_belongs_to_stays_so() -> None:
    assert ramped("ip-hash").choose(FRESH, "10.0.0.9") is STRATEGIES["ip-hash"]().choose(
        FRESH, "10.0.0.9")
    assert shares(ramped("cookie"), FRESH, 10, token("new")) == {"new": 10}


# The pool


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Ramping(Noting):
    def __init__(self) -> None:
        super().__init__()
        self.ramps: List[bool] = []

    def on_ramping(self, ramps: bool) -> None:
        self.ramps.append(ramps)


def test_the_weight_grows_with_the_time_since_it_came_up() -> None:
    clock, owner = Clock(), Ramping()
    pool = Pool(0, clock, owner, 10.0)
    pool.up("a", "127.0.0.1", 1)
    assert owner.ramps == [True]
    found, = pool.available
    weights = []
    for seconds in (0.0, 0.25, 1.0, 5.0, 3.0, 2.0):
        clock.now += seconds
        weights.append(round(found.weight, 3))
        pool.maintain()
    assert weights == [LEAST_WEIGHT, LEAST_WEIGHT, 0.125, 0.625, 0.925, 1.0]
    # Nothing is weighed any more, until somebody comes up again.
    assert owner.ramps == [True, False]
    pool.down("a")
    pool.up("a", "127.0.0.1", 1)
    assert owner.ramps == [True, False, True] and found.weight == LEAST_WEIGHT
    pool.close()


def test_without_it_nothing_is_weighed() -> None:
    clock, owner = Clock(), Ramping()
    pool = Pool(0, clock, owner)
    pool.up("a", "127.0.0.1", 1)
    pool.maintain()
    assert owner.ramps == [] and pool.available[0].weight == 1.0
    pool.close()


# A whole one


def count(found: List[str]) -> Dict[str, int]:
    return collections.Counter(found)


@pytest.mark.parametrize("protocol, strategy", [
    # With tcp, a connection ends a moment after its client has.
    ("tcp", "round-robin"), ("http", "round-robin"), ("http", "least-connections"),
    ("http", "cookie"),
])
def test_one_that_was_restarted_begins_with_few(
    tmp_path: Path, free_ports: Ports, protocol: str, strategy: str
) -> None:
    ports = free_ports(4)
    settings: Dict[str, Any] = {"strategy": strategy, "protocol": protocol}
    with inside(tmp_path, [web(tmp_path, ports, **settings)]) as stage:
        assert set(count(who_answers(ports[3], 30)).values()) == {10}
        slow = web(tmp_path, ports, slowStartMs=3600000, **settings)
        assert stage.reload([slow]) == "reloaded: changed web"
        # Those that have their full share keep it.
        assert set(count(who_answers(ports[3], 30)).values()) == {10}
        stage.operations.restart(["web-2"], stage.told.append)
        assert backend(stage, "web-2").state == "up"
        found = count(who_answers(ports[3], 80))
        # 2 of 41 or so.
        assert 1 <= found["1"] <= 6
        assert abs(found["0"] - found["2"]) <= 2
        stage.reload([web(tmp_path, ports, **settings)])
        assert set(count(who_answers(ports[3], 30)).values()) == {10}


def test_a_start_of_all_is_a_start_as_ever(tmp_path: Path, free_ports: Ports) -> None:
    ports = free_ports(4)
    with inside(tmp_path, [web(tmp_path, ports, slowStartMs=3600000)]) as stage:
        found = count(who_answers(ports[3], 90))
        assert all(abs(each - 30) <= 2 for each in found.values()), found
        assert ask(ports[3]).status == 200
        assert stage.states() == dict.fromkeys(["web-1", "web-2", "web-3"], "running")
