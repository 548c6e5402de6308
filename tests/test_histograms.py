"""Times are counted in the buckets in which Prometheus looks for them."""

import math
from bisect import bisect_left
from typing import List, Optional

import pytest
from hypothesis import given, strategies as st

from histograms import BOUNDS, Histogram, merged, quantile

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


@given(st.lists(st.one_of(st.floats(0, 100), st.sampled_from(BOUNDS))))
def test_many_at_once_are_counted_as_one_by_one(times: List[float]) -> None:
    one_by_one, found = histogram_of(times), histogram_of([0.2])
    found.add_all(sorted(times))
    one_by_one.add(0.2)
    assert found.counts == one_by_one.counts and found.sum == pytest.approx(one_by_one.sum)


@pytest.mark.parametrize("times, share, seconds", [
    ([], 0.5, None), ([0.2], 0.0, None), ([0.0004], 0.99, 0.0005 * 0.99),
    # Even within a bucket: three quarters of the way from 0.1 to 0.25.
    ([0.11, 0.12, 0.13, 0.14], 0.75, 0.2125), ([0.001] * 99 + [2.0], 0.99, 0.001),
    ([0.001] * 98 + [2.0] * 2, 0.99, 1.75),
    # What is beyond the last bound is only known to be so.
    ([0.001] + [60.0] * 9, 0.5, 10.0), ([60.0], 0.5, 10.0),
])
def test_quantiles_are_those_that_prometheus_computes(
    times: List[float], share: float, seconds: Optional[float]
) -> None:
    found = quantile(histogram_of(times).counts, share)
    assert found == (None if seconds is None else pytest.approx(seconds))


@given(st.lists(st.floats(0, 100), min_size=1), st.sampled_from([0.125, 0.5, 0.75, 1.0]))
def test_a_quantile_is_in_the_bucket_of_the_time_that_it_is_of(
    times: List[float], share: float
) -> None:
    found = quantile(histogram_of(times).counts, share)
    time = sorted(times)[math.ceil(share * len(times)) - 1]
    number = bisect_left(BOUNDS, time)
    lowest = BOUNDS[number - 1] if number else 0.0
    highest = BOUNDS[min(number, len(BOUNDS) - 1)]
    assert found is not None and lowest - 1e-9 <= found <= highest + 1e-9
