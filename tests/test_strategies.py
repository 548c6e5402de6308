"""The strategies as pure choices: how fair they are, and what a change of the set moves."""

import collections
import time
from typing import Any, Counter, Dict, List, Optional, Sequence, Set, Tuple

import pytest
from hypothesis import assume, given, strategies as st

from peers import Unconcerned
from pool import Pool
from strategies import STRATEGIES, Candidate, Strategy

CLIENT = "192.0.2.1"


class Backend(Candidate):
    """What a strategy sees of one."""

    def __init__(
        self, name: str, connections: int = 0, ttfb: "Optional[float]" = None
    ) -> None:
        self.name = name
        self.open = connections
        self.ttfb = ttfb

    def __repr__(self) -> str:
        return "%s(open=%d, ttfb=%s)" % (self.name, self.open, self.ttfb)


def make(count: int) -> "Tuple[Backend, ...]":
    return tuple(Backend("web-%d" % (number + 1)) for number in range(count))


def choices(
    strategy: Strategy, backends: "Sequence[Any]", count: int, client: str = CLIENT
) -> "Counter[str]":
    """How often each is chosen."""
    return collections.Counter(strategy.choose(backends, client).name for _ in range(count))


counts = st.integers(1, 12)
addresses = st.one_of(
    st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str)
) if hasattr(st, "ip_addresses") else st.nothing()


def test_the_registry_is_what_a_configuration_may_say() -> None:
    assert list(STRATEGIES) == [
        "round-robin", "least-connections", "ip-hash", "least-time", "cookie"]


@pytest.mark.parametrize("name", STRATEGIES)
@given(count=counts, client=addresses)
def test_every_choice_is_one_of_the_set(name: str, count: int, client: str) -> None:
    backends = make(count)
    strategy = STRATEGIES[name]()
    assert all(strategy.choose(backends, client) in backends for _ in range(20))


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_only_one_up_takes_all(name: str) -> None:
    backends = make(4)
    strategy = STRATEGIES[name]()
    for only in backends:
        assert choices(strategy, (only,), 10) == {only.name: 10}
        assert choices(strategy, backends, 1)


@pytest.mark.parametrize("name", STRATEGIES)
def test_two_of_a_kind_remember_nothing_of_each_other(name: str) -> None:
    backends = make(3)
    one, other = STRATEGIES[name](), STRATEGIES[name]()
    first = one.choose(backends, CLIENT)
    choices(one, backends, 4)
    assert other.choose(backends, CLIENT) is first


# round-robin

#: Which of four are up, and for how many choices.
phases = st.lists(
    st.tuples(st.sets(st.integers(0, 3), min_size=1), st.integers(1, 9)), min_size=1, max_size=20)


@given(count=counts, turns=st.integers(0, 100))
def test_round_robin_gives_everyone_the_same(count: int, turns: int) -> None:
    strategy = STRATEGIES["round-robin"]()
    taken = choices(strategy, make(count), turns)
    expected = [turns // count] * (count - turns % count) + [turns // count + 1] * (turns % count)
    assert sorted(taken[backend.name] for backend in make(count)) == expected


@given(phases)
def test_round_robin_prefers_none_of_those_that_are_up_all_along(
    phases: "List[Tuple[Set[int], int]]"
) -> None:
    """However the set changes around them, for instance while one is full again and again."""
    backends = make(4)
    strategy = STRATEGIES["round-robin"]()
    taken: Counter[str] = collections.Counter()
    steady = set.intersection(*(up for up, _ in phases))
    assume(len(steady) > 1)
    for up, turns in phases:
        taken.update(choices(strategy, tuple(backends[index] for index in sorted(up)), turns))
    shares = [taken[backends[index].name] for index in steady]
    assert max(shares) - min(shares) <= 1


@given(count=st.integers(2, 12), dead=st.integers(0, 11), start=st.integers(0, 30))
def test_round_robin_spreads_the_share_of_a_dead_one(count: int, dead: int, start: int) -> None:
    backends = make(count)
    strategy = STRATEGIES["round-robin"]()
    choices(strategy, backends, start)
    left = tuple(backend for backend in backends if backend is not backends[dead % count])
    taken = choices(strategy, left, 10 * len(left))
    assert taken == {backend.name: 10 for backend in left}


def test_round_robin_gives_one_that_comes_back_its_turn_and_no_more() -> None:
    backends = make(4)
    strategy = STRATEGIES["round-robin"]()
    choices(strategy, backends[:3], 300)
    assert choices(strategy, backends, 8) == {backend.name: 2 for backend in backends}


# least-connections

loads = st.lists(st.integers(0, 5), min_size=1, max_size=8)


@given(loads)
def test_least_connections_takes_one_with_the_fewest(loads: "List[int]") -> None:
    backends = tuple(Backend("web-%d" % number, load) for number, load in enumerate(loads))
    strategy = STRATEGIES["least-connections"]()
    for _ in range(10):
        assert strategy.choose(backends, CLIENT).open == min(loads)


@given(loads, st.integers(1, 5))
def test_least_connections_gives_each_of_equals_the_same(loads: "List[int]", rounds: int) -> None:
    """Also where one that is busier stands between them: its neighbour is not its heir."""
    backends = tuple(Backend("web-%d" % number, load) for number, load in enumerate(loads))
    equals = [backend.name for backend in backends if backend.open == min(loads)]
    strategy = STRATEGIES["least-connections"]()
    taken = choices(strategy, backends, rounds * len(equals))
    assert taken == dict.fromkeys(equals, rounds)


@given(counts, st.integers(1, 60), st.data())
def test_least_connections_keeps_the_numbers_level(
    count: int, turns: int, data: "st.DataObject"
) -> None:
    backends = make(count)
    strategy = STRATEGIES["least-connections"]()
    for _ in range(turns):
        strategy.choose(backends, CLIENT).open += 1
    numbers = [backend.open for backend in backends]
    assert max(numbers) - min(numbers) <= 1


# least-time


def test_least_time_weighs_the_time_by_the_connections() -> None:
    quick, slow = Backend("quick", 4, 0.010), Backend("slow", 0, 0.100)
    strategy = STRATEGIES["least-time"]()
    assert strategy.choose((quick, slow), CLIENT) is quick
    quick.open = 10
    assert strategy.choose((quick, slow), CLIENT) is slow


times = st.one_of(st.none(), st.floats(0.0001, 10))


@given(st.lists(st.tuples(st.integers(0, 50), times), min_size=1, max_size=8))
def test_least_time_takes_the_least_product(states: "List[Tuple[int, Optional[float]]]") -> None:
    backends = tuple(
        Backend("web-%d" % number, load, time) for number, (load, time) in enumerate(states))
    known = [time for _, time in states if time is not None]
    usual = sum(known) / len(known) if known else 1.0

    def product(backend: Backend) -> float:
        time = usual if backend.ttfb is None else backend.ttfb
        return time * (backend.open + 1)

    chosen = STRATEGIES["least-time"]().choose(backends, CLIENT)
    assert product(chosen) == min(map(product, backends))


def test_least_time_gives_those_it_knows_nothing_of_the_same() -> None:
    backends = make(4)
    assert choices(STRATEGIES["least-time"](), backends, 8) == {each.name: 2 for each in backends}


def test_least_time_gives_a_new_one_its_share_and_not_everything() -> None:
    old = tuple(Backend("web-%d" % number, 0, 0.02) for number in range(3))
    strategy = STRATEGIES["least-time"]()
    backends = old + (Backend("new"),)
    for _ in range(40):
        strategy.choose(backends, CLIENT).open += 1
    assert [backend.open for backend in backends] == [10, 10, 10, 10]


def test_least_time_is_not_drawn_to_one_that_never_answers() -> None:
    """Nothing new is heard of it, and what is old fades: only to what is usual."""
    pool = Pool(0, time.monotonic, Unconcerned())
    strategy = STRATEGIES["least-time"]()
    for number in range(4):
        pool.up("web-%d" % number, "127.0.0.1", 8000 + number)
    healthy, hung = pool.available[:3], pool.available[3]
    for backend in pool.available:
        backend.add_ttfb(0.01)
    for _ in range(200):
        for _ in range(100):
            chosen = strategy.choose(pool.available, "")
            pool.take(chosen)
            if chosen is not hung:
                chosen.add_ttfb(0.01)
                pool.release(chosen)
        pool.decay()
    assert hung.open <= 2
    assert all(backend.ttfb == pytest.approx(0.01) for backend in healthy)


def test_least_time_gives_one_that_was_slow_another_chance_and_not_everything() -> None:
    pool = Pool(0, time.monotonic, Unconcerned())
    for name in ("slow", "quick"):
        pool.up(name, "127.0.0.1", 8000)
    slow, quick = pool.available
    slow.add_ttfb(2.0)
    quick.add_ttfb(0.01)
    for _ in range(100):
        quick.add_ttfb(0.01)
        pool.decay()
    assert slow.ttfb == pytest.approx(quick.ttfb)


# ip-hash


def homes(backends: "Sequence[Backend]", clients: "Sequence[str]") -> "Dict[str, str]":
    strategy = STRATEGIES["ip-hash"]()
    return {client: strategy.choose(backends, client).name for client in clients}


clients = st.lists(addresses, min_size=1, max_size=50)
#: Enough of them for a statement about shares.
CROWD = ["10.%d.%d.%d" % (n % 7, n % 251, n % 241) for n in range(20000)]


@given(count=counts, clients=clients)
def test_ip_hash_gives_a_client_the_same_every_time(count: int, clients: "List[str]") -> None:
    backends = make(count)
    assert homes(backends, clients) == homes(backends[::-1], clients)


@given(count=st.integers(2, 12), dead=st.integers(0, 11), clients=clients)
def test_ip_hash_moves_only_the_clients_of_the_one_that_is_down(
    count: int, dead: int, clients: "List[str]"
) -> None:
    backends = make(count)
    gone = backends[dead % count]
    before = homes(backends, clients)
    after = homes([backend for backend in backends if backend is not gone], clients)
    assert all(after[each] == before[each] for each in clients if before[each] != gone.name)
    assert homes(backends, clients) == before


@given(count=counts, clients=clients)
def test_ip_hash_moves_clients_only_to_the_one_that_is_added(
    count: int, clients: "List[str]"
) -> None:
    backends = make(count + 1)
    before, after = homes(backends[:-1], clients), homes(backends, clients)
    assert all(after[each] in (before[each], backends[-1].name) for each in clients)


@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_ip_hash_moves_about_one_in_n_when_one_is_added(count: int) -> None:
    backends = make(count + 1)
    before, after = homes(backends[:-1], CROWD), homes(backends, CROWD)
    moved = sum(before[each] != after[each] for each in set(CROWD))
    assert moved / len(set(CROWD)) == pytest.approx(1 / (count + 1), rel=0.1)


@pytest.mark.parametrize("count", [2, 4, 8])
def test_ip_hash_spreads_what_was_the_dead_ones_over_all_others(count: int) -> None:
    backends = make(count + 1)
    before, after = homes(backends, CROWD), homes(backends[1:], CROWD)
    heirs = collections.Counter(after[each] for each in CROWD if before[each] == "web-1")
    assert_even(heirs, [backend.name for backend in backends[1:]], sum(heirs.values()))


@pytest.mark.parametrize("count", [2, 3, 4, 8])
@pytest.mark.parametrize("network", ["192.0.2.%d", "10.0.0.%d", "172.16.255.%d", "2001:db8::%x"])
def test_ip_hash_spreads_neighbours(network: str, count: int) -> None:
    clients = [network % number for number in range(256)]
    taken = collections.Counter(homes(make(count), clients).values())
    assert_even(taken, [backend.name for backend in make(count)], len(clients))


def test_ip_hash_spreads_a_crowd() -> None:
    clients = sorted(set(CROWD))
    taken = collections.Counter(homes(make(6), clients).values())
    assert_even(taken, [backend.name for backend in make(6)], len(clients))


def assert_even(taken: "Counter[str]", names: "List[str]", total: int) -> None:
    """Pearson's chi-square with n - 1 degrees of freedom: what chance exceeds once in 100,000."""
    limits = {1: 19.5, 2: 23.0, 3: 25.9, 4: 28.5, 5: 30.9, 6: 33.1, 7: 35.3}
    expected = total / len(names)
    chi_square = sum((taken[name] - expected) ** 2 / expected for name in names)
    assert chi_square < limits[len(names) - 1], taken


@given(count=counts, client=st.integers(0, 2 ** 32 - 1))
def test_ip_hash_takes_a_mapped_address_for_the_one_it_maps(count: int, client: int) -> None:
    plain = ".".join(str(client >> shift & 255) for shift in (24, 16, 8, 0))
    backends = make(count)
    strategy = STRATEGIES["ip-hash"]()
    assert strategy.choose(backends, "::ffff:" + plain) is strategy.choose(backends, plain)


def test_ip_hash_does_not_mind_the_way_an_address_is_written() -> None:
    backends = make(50)
    strategy = STRATEGIES["ip-hash"]()
    forms = ["fe80::1%eth0", "fe80::1%2", "fe80:0:0:0:0:0:0:1", "FE80::1"]
    assert len({strategy.choose(backends, form) for form in forms}) == 1


def test_ip_hash_takes_what_is_no_address_all_the_same() -> None:
    backends = make(5)
    chosen = STRATEGIES["ip-hash"]().choose(backends, "\udcff not an address")
    assert STRATEGIES["ip-hash"]().choose(backends, "\udcff not an address") is chosen


def test_ip_hash_knows_an_instance_by_its_name_whatever_else_changes() -> None:
    clients = CROWD[:200]
    before = homes(make(4), clients)
    busier = tuple(Backend(backend.name, 7, 0.5) for backend in make(4))
    assert homes(busier, clients) == before
