"""Back-off, its growth and its end, without a process."""

from typing import List, Optional

import pytest
from hypothesis import given, strategies as st

from restarts import JITTER, LONG_ENOUGH, Streak
from supervision import process

ALWAYS = process(restart="always", restart_delay=0.5, restart_max_delay=30.0)


def delays_of(count: int, streak: Optional[Streak] = None) -> List[float]:
    streak = streak or Streak()
    found = []
    for _ in range(count):
        assert streak.verdict(ALWAYS, 1, 0.0) == "retry"
        found.append(streak.delay(ALWAYS))
    return found


def test_delay_doubles_with_each_failure_in_a_row_up_to_its_most() -> None:
    for delay, expected in zip(delays_of(9), [0.5, 1, 2, 4, 8, 16, 30, 30, 30]):
        assert expected <= delay <= expected * (1 + JITTER)


def test_delays_differ_by_chance() -> None:
    assert len({delays_of(1)[0] for _ in range(20)}) > 1


def test_a_run_of_ten_seconds_makes_failures_forgotten() -> None:
    streak = Streak()
    delays_of(5, streak)
    streak.verdict(ALWAYS, 1, LONG_ENOUGH)
    assert streak.delay(ALWAYS) <= 0.5 * (1 + JITTER)


def test_a_run_of_almost_ten_seconds_is_one_more_failure() -> None:
    streak = Streak()
    delays_of(3, streak)
    streak.verdict(ALWAYS, 1, LONG_ENOUGH - 0.1)
    assert streak.delay(ALWAYS) >= 4.0


@given(st.integers(0, 5000), st.floats(0, 3600), st.floats(0, 86400))
def test_no_number_of_failures_and_no_setting_exceeds_the_longest_delay(
    failures: int, delay: float, most: float
) -> None:
    streak = Streak()
    streak.failures = failures
    assert 0 <= streak.delay(process(restart_delay=delay, restart_max_delay=most)) <= most * 1.1


@pytest.mark.parametrize("restart, returncode, verdict", [
    ("always", 0, "retry"), ("always", 1, "retry"), ("always", -9, "retry"),
    ("always", None, "retry"),
    ("error", 0, "finish"), ("error", 1, "retry"), ("error", -9, "retry"), ("error", None, "retry"),
    ("never", 0, "finish"), ("never", 1, "fail"), ("never", -9, "fail"), ("never", None, "fail"),
])
def test_restart_decides_by_how_a_run_ended(
    restart: str, returncode: Optional[int], verdict: str
) -> None:
    assert Streak().verdict(process(restart=restart), returncode, 0.0) == verdict


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_the_failure_that_reaches_the_limit_exhausts(limit: int) -> None:
    streak = Streak()
    limited = process(restart="always", restart_limit=limit)
    verdicts = [streak.verdict(limited, 1, 0.0) for _ in range(limit)]
    assert verdicts == ["retry"] * (limit - 1) + ["exhaust"]


def test_failures_that_are_not_in_a_row_never_exhaust() -> None:
    streak = Streak()
    limited = process(restart="always", restart_limit=2)
    verdicts = {streak.verdict(limited, 1, lasted) for lasted in (0.0, 20.0) * 10}
    assert verdicts == {"retry"}


def test_a_quick_exit_with_code_0_counts_as_a_failure() -> None:
    streak = Streak()
    limited = process(restart="always", restart_limit=2)
    assert [streak.verdict(limited, 0, 0.1) for _ in range(2)] == ["retry", "exhaust"]
