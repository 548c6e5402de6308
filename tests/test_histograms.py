"""Times are counted in the buckets in which Prometheus looks for them."""

from typing import List

from hypothesis import given, strategies as st

from histograms import BOUNDS, Histogram, merged

TIMES = st.lists(st.floats(0, 100), max_size=50)


def histogram_of(times: List[float]) -> Histogram:
    found = Histogram()
    for each in times:
        found.add(each)
    return found


def test_bounds_grow() -> None:
    assert sorted(set(BOUNDS)) == list(BOUNDS)


def test_a_time_is_at_most_the_bound_of_its_bucket() -> None:
    """A bound belongs to the bucket below it: `le` is less or equal."""
    for number, bound in enumerate(BOUNDS):
        assert histogram_of([bound]).counts[number] == 1
        assert histogram_of([bound * 1.0001]).counts[number + 1] == 1
    assert histogram_of([0.0]).counts[0] == 1
    assert histogram_of([1e9]).counts[-1] == 1


@given(TIMES)
def test_each_time_is_counted_once_and_those_below_a_bound_below_it(times: List[float]) -> None:
    found = histogram_of(times)
    for number, bound in enumerate(BOUNDS):
        assert sum(found.counts[: number + 1]) == sum(each <= bound for each in times)
    assert sum(found.counts) == len(times)
    assert abs(found.sum - sum(times)) < 1e-9


@given(st.lists(TIMES, max_size=5))
def test_several_together_have_counted_what_one_would_have(parts: List[List[float]]) -> None:
    together = merged(map(histogram_of, parts))
    alone = histogram_of([each for part in parts for each in part])
    assert together.counts == alone.counts
    assert abs(together.sum - alone.sum) < 1e-9


def test_of_none_there_is_an_empty_one() -> None:
    empty = merged([])
    empty.add(0.2)
    assert sum(empty.counts) == 1
