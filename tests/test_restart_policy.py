"""Back-off, its growth and its end, without a process."""

from typing import List, Optional

import pytest
from hypothesis import given, strategies as st

import keys
from restart_policy import JITTER, LONG_ENOUGH, SHORTEST_DELAY, UNSLOWED_RESTARTS, RestartPolicy
from supervision import process

ALWAYS = process(restart="always", restart_delay=0.5, restart_max_delay=30.0)


def delays_of(count: int, policy: Optional[RestartPolicy] = None) -> List[float]:
    policy = policy or RestartPolicy()
    found = []
    for _ in range(count):
        assert policy.verdict(ALWAYS, 1, 0.0) == "retry"
        found.append(policy.delay(ALWAYS))
    return found


def test_delay_doubles_with_each_failure_in_a_row_up_to_its_most() -> None:
    for delay, expected in zip(delays_of(9), [0.5, 1, 2, 4, 8, 16, 30, 30, 30]):
        assert expected <= delay <= expected * (1 + JITTER)


def test_delays_differ_by_chance() -> None:
    assert len({delays_of(1)[0] for _ in range(20)}) > 1


def test_a_run_of_ten_seconds_makes_failures_forgotten() -> None:
    policy = RestartPolicy()
    delays_of(5, policy)
    policy.verdict(ALWAYS, 1, LONG_ENOUGH)
    assert policy.delay(ALWAYS) <= 0.5 * (1 + JITTER)


def test_one_that_is_unhealthy_again_and_again_waits_longer_each_time() -> None:
    policy, app = RestartPolicy(), process(restart="never", restart_delay=1.0)
    assert policy.delay_of_unhealthy(app, LONG_ENOUGH) == 0.0
    delays = [policy.delay_of_unhealthy(app, LONG_ENOUGH - 0.01) for _ in range(3)]
    assert [1 <= delays[0] <= 1.1, 2 <= delays[1] <= 2.2, 4 <= delays[2] <= 4.4] == 3 * [True]
    assert policy.delay_of_unhealthy(app, LONG_ENOUGH) == 0.0


def test_a_run_of_almost_ten_seconds_is_one_more_failure() -> None:
    policy = RestartPolicy()
    delays_of(3, policy)
    policy.verdict(ALWAYS, 1, LONG_ENOUGH - 0.1)
    assert policy.delay(ALWAYS) >= 4.0


@given(st.integers(0, 5000), st.floats(0, 3600), st.floats(0, 86400))
def test_no_number_of_failures_and_no_setting_exceeds_the_longest_delay(
    failures: int, delay: float, most: float
) -> None:
    policy = RestartPolicy()
    policy.failures = failures
    found = policy.delay(process(restart_delay=delay, restart_max_delay=most))
    assert 0 <= found <= max(most, SHORTEST_DELAY) * 1.1


@pytest.mark.parametrize("restart, returncode, verdict", [
    ("always", 0, "retry"), ("always", 1, "retry"), ("always", -9, "retry"),
    ("always", None, "retry"),
    ("error", 0, "finish"), ("error", 1, "retry"), ("error", -9, "retry"), ("error", None, "retry"),
    ("never", 0, "finish"), ("never", 1, "fail"), ("never", -9, "fail"), ("never", None, "fail"),
])
def test_restart_decides_by_how_a_run_ended(
    restart: str, returncode: Optional[int], verdict: str
) -> None:
    assert RestartPolicy().verdict(process(restart=restart), returncode, 0.0) == verdict


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.1, 0.5])
@pytest.mark.parametrize("most", [0.0, 0.2, 30.0])
def test_the_first_restarts_come_as_configured_and_no_flapping_beats_the_shortest_delay(
    delay: float, most: float
) -> None:
    policy, flapping = RestartPolicy(), process(restart="always", restart_delay=delay,
                                         restart_max_delay=max(delay, most))
    for failure in range(1, 50):
        assert policy.verdict(flapping, 0, 0.0) == "retry"
        found, asked = policy.delay(flapping), min(delay * 2.0 ** (failure - 1), max(delay, most))
        if failure > UNSLOWED_RESTARTS:
            asked = max(asked, SHORTEST_DELAY)
        assert asked <= found <= asked * (1 + JITTER)
    # Ten seconds of running are ten seconds without a start: no floor is needed after them.
    policy.verdict(flapping, 1, LONG_ENOUGH)
    assert policy.delay(flapping) <= delay * (1 + JITTER)


def test_the_reference_tells_the_shortest_delay() -> None:
    words = {6: "sixth"}[UNSLOWED_RESTARTS + 1], SHORTEST_DELAY * 1000
    (meaning,) = [key.meaning for key in keys.PROCESS.keys if key.name == "restartDelayMs"]
    assert "from the %s restart in a row on it is at least %d ms" % words in meaning


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_a_limit_counts_restarts_as_pup_does_so_one_more_run_may_fail(limit: int) -> None:
    policy = RestartPolicy()
    limited = process(restart="always", restart_limit=limit)
    verdicts = [policy.verdict(limited, 1, 0.0) for _ in range(limit + 1)]
    assert verdicts == ["retry"] * limit + ["exhaust"]


@pytest.mark.parametrize("lasted", [0.0, 20.0])
@pytest.mark.parametrize("restart, returncode, verdict, reason", [
    ("always", 1, "exhaust", "given up: restartLimit is 0"),
    ("error", 1, "exhaust", "given up: restartLimit is 0"),
    ("always", None, "exhaust", "given up: restartLimit is 0"),
    ("always", 0, "finish", "finished, and restartLimit is 0"),
    ("error", 0, "finish", "finished"),
])
def test_a_limit_of_0_is_no_restart_and_an_end_with_0_is_no_error(
    restart: str, returncode: Optional[int], verdict: str, reason: str, lasted: float
) -> None:
    policy, limited = RestartPolicy(), process(restart=restart, restart_limit=0)
    assert policy.verdict(limited, returncode, lasted) == verdict
    assert policy.reason(limited, verdict) == reason


@pytest.mark.parametrize("restart, verdict", [
    ("always", "retry"), ("error", "retry"), ("never", "fail")])
def test_a_start_that_failed_is_a_failure_whatever_its_exit_code(
    restart: str, verdict: str
) -> None:
    assert RestartPolicy().verdict(process(restart=restart), 0, 0.0, failed_start=True) == verdict


def test_failures_that_are_not_in_a_row_never_exhaust() -> None:
    policy = RestartPolicy()
    limited = process(restart="always", restart_limit=2)
    verdicts = {policy.verdict(limited, 1, lasted) for lasted in (0.0, 20.0) * 10}
    assert verdicts == {"retry"}


def test_a_quick_exit_with_code_0_counts_as_a_failure() -> None:
    policy = RestartPolicy()
    limited = process(restart="always", restart_limit=1)
    assert [policy.verdict(limited, 0, 0.1) for _ in range(2)] == ["retry", "exhaust"]
