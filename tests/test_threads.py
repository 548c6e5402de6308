"""Calls in threads: their turn, their result, and those whose caller has given up."""

import threading
from typing import List

import gevent
import pytest

from concurrency import Threads, _Call
from supervision import wait_until


def test_a_call_brings_what_the_function_returns_or_raises() -> None:
    threads = Threads(1)
    assert threads.call(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        threads.call(divmod, 7, 0)
    assert threads.call(divmod, 9, 2) == (4, 1)


def test_so_many_calls_are_done_at_a_time_and_the_others_wait() -> None:
    threads, gate = Threads(2), threading.Event()
    begun: List[int] = []

    def wait(number: int) -> int:
        begun.append(number)
        gate.wait(60)
        return number

    callers = [gevent.spawn(threads.call, wait, number) for number in range(5)]
    wait_until(lambda: len(begun) == 2)
    gate.set()
    gevent.joinall(callers, timeout=30)
    assert [caller.value for caller in callers] == [0, 1, 2, 3, 4]
    # Only so many threads were ever there.
    assert len(set(begun)) == 5


def test_a_thread_that_hangs_for_a_caller_who_has_gone_delays_nobody_else() -> None:
    threads, gate = Threads(2), threading.Event()
    try:
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
            threads.call(gate.wait, 60)
        for number in range(20):
            assert threads.call(abs, -number) == number
        second = gevent.spawn(threads.call, gate.wait, 60)
        late = gevent.spawn(threads.call, abs, -1)
        gevent.sleep(0)
        assert not second.ready() and not late.ready()
    finally:
        gate.set()
    assert late.get(timeout=30) == 1
    assert second.get(timeout=30)


def test_what_a_thread_lacks_memory_for_is_the_callers_to_know() -> None:
    def starve() -> None:
        raise MemoryError

    threads = Threads(1)
    with pytest.raises(MemoryError):
        threads.call(starve)
    assert threads.call(abs, -1) == 1


def test_calls_one_after_the_other_need_one_thread() -> None:
    threads = Threads(4)
    assert len({threads.call(threading.get_ident) for _ in range(20)}) == 1


def test_a_call_that_could_not_be_handed_over_is_not_done_later() -> None:
    """It may stand in the queue of its pool all the same."""
    done: List[int] = []
    idle: List[object] = []
    call = _Call(done.append, (1,), idle)
    call.drop()
    assert (call(), done, len(idle)) == ((None, None), [], 1)
