"""How long a connection stays: idle limits, and the draining of an instance.

The balancer of these tests has a clock that stands still until a test moves it, so nothing here
depends on how fast the machine is.
"""

from typing import Callable, Iterator

import pytest

from peers import FOREVER, BalancerStage, Proxy, eventually, setting, started

pytest_plugins = ["stages"]

StageWith = Callable[..., BalancerStage]


@pytest.fixture(scope="module")
def proxy(marked_environment: str) -> "Iterator[Proxy]":
    with started("--by-hand") as proxy:
        yield proxy


# Idle


@pytest.mark.parametrize("wait", [0.0, 0.5, 0.75])
def test_a_connection_without_a_byte_is_closed_after_its_time_and_not_before(
    stage_with: StageWith, wait: float
) -> None:
    """Wherever between two looks it begins."""
    stage = stage_with(idle_timeout=10)
    stage.proxy.call("put_forward", wait)
    client, server = stage.meet()
    stage.time_passes(9)
    client.hears_nothing()
    stage.time_passes(1)
    client.hears_the_end()
    server.hears_the_end()
    stage.counts(open=0)


def test_a_connection_with_an_old_byte_is_closed_after_its_time(stage_with: StageWith) -> None:
    stage = stage_with(idle_timeout=10)
    client, server = stage.meet()
    stage.time_passes(5)
    client.says(b"question")
    server.hears(b"question")
    stage.time_passes(10)
    client.hears_nothing()
    stage.time_passes(1)
    client.hears_the_end()
    server.hears_the_end()


@pytest.mark.parametrize("speaker", ["client", "server"])
@pytest.mark.parametrize("gap", [0.5, 3, 9])
def test_a_byte_now_and_then_keeps_a_connection(
    stage_with: StageWith, speaker: str, gap: float
) -> None:
    """The gaps may be longer than from one look to the next, but not than the limit."""
    stage = stage_with(idle_timeout=10)
    one, other = stage.meet()[:: 1 if speaker == "client" else -1]
    for _ in range(int(40 / gap)):
        one.says(b"still here")
        other.hears(b"still here")
        stage.time_passes(gap)
    other.hears_nothing()
    one.hears_nothing()
    stage.time_passes(11)
    other.hears_the_end()


def test_without_a_time_out_a_connection_stays(stage_with: StageWith) -> None:
    stage = stage_with(idle_timeout=0.0, half_close_timeout=0.0)
    client, server = stage.meet()
    client.finishes()
    server.hears_the_end()
    stage.proxy.call("put_forward", 1e6)
    stage.time_passes(5)
    client.hears_nothing()
    server.says(b"late").finishes()
    client.hears(b"late").hears_the_end()


def test_a_slow_reader_is_not_idle(stage_with: StageWith) -> None:
    """Nothing is read from the sender for long, yet the kernel delivers what was."""
    stage = stage_with(idle_timeout=10)
    client, server = stage.meet()
    pushed = server.pushes_until_it_stalls()
    taken = 0
    for _ in range(6):
        before = stage.proxy.call("unsent")
        while taken < pushed and stage.proxy.call("unsent") == before:
            taken += len(client.takes(20000))
        stage.time_passes(9)
    assert len(client.takes(pushed - taken)) == pushed - taken


def test_a_reader_that_has_stopped_is_closed_after_its_time(stage_with: StageWith) -> None:
    stage = stage_with(idle_timeout=10)
    _, server = stage.meet()
    server.pushes_until_it_stalls()
    stage.time_passes(9)
    stage.counts(open=1)
    stage.time_passes(12)
    stage.counts(open=0)


def test_another_time_out_holds_for_open_connections(stage: BalancerStage) -> None:
    client, server = stage.meet()
    stage.time_passes(60)
    client.hears_nothing()
    stage.is_set(idle_timeout=10)
    stage.time_passes(1)
    client.hears_the_end()
    server.hears_the_end()


# Half-closed


def test_a_half_closed_connection_has_a_time_of_its_own(stage_with: StageWith) -> None:
    stage = stage_with(half_close_timeout=10)
    client, server = stage.meet()
    other, _ = stage.meet()
    client.says(b"question").finishes()
    server.hears(b"question").hears_the_end()
    stage.time_passes(10)
    client.hears_nothing()
    stage.time_passes(1)
    client.hears_the_end()
    other.hears_nothing()


def test_the_time_of_a_half_closed_connection_begins_with_the_half_close(
    stage_with: StageWith
) -> None:
    """However long nothing was said before."""
    stage = stage_with(half_close_timeout=10)
    client, server = stage.meet()
    client.says(b"hello")
    server.hears(b"hello")
    stage.time_passes(20)
    client.finishes()
    server.hears_the_end()
    stage.time_passes(9)
    client.hears_nothing()
    server.says(b"goodbye").finishes()
    client.hears(b"goodbye").hears_the_end()


@pytest.mark.parametrize("gone", ["client", "server"])
def test_a_reset_behind_bytes_that_nobody_takes_has_the_time_of_a_half_close(
    stage_with: StageWith, gone: str
) -> None:
    stage = stage_with(half_close_timeout=10)
    one, other = stage.meet()[:: 1 if gone == "client" else -1]
    one.pushes_until_it_stalls()
    stage.time_passes(2)
    one.resets()
    eventually(lambda: stage.proxy.call("dying") == 1, "the reset is noticed")
    stage.time_passes(8)
    stage.counts(open=1)
    stage.time_passes(12)
    stage.counts(open=0)
    with pytest.raises(ConnectionResetError):
        while other.takes(1 << 20):
            pass


def test_bytes_keep_a_half_closed_connection(stage_with: StageWith) -> None:
    stage = stage_with(half_close_timeout=10)
    client, server = stage.meet()
    client.finishes()
    server.hears_the_end()
    for _ in range(6):
        server.says(b"and another thing")
        client.hears(b"and another thing")
        stage.time_passes(9)
    client.hears_nothing()


# Draining


def test_a_draining_instance_gets_no_new_client(stage: BalancerStage) -> None:
    stage.listens()
    leaving, staying = stage.instances(2)
    assert stage.proxy.call("drain", leaving.name, 5) is None
    for _ in range(4):
        stage.client().says(b"hello")
        staying.accepts().hears(b"hello")
    assert leaving.state() == "draining"
    leaving.accepts_nobody(0.05)


def test_draining_returns_at_once_where_nobody_is(stage: BalancerStage) -> None:
    stage.instance().comes_up()
    stage.proxy.call("drain", "web-1", FOREVER)


@pytest.mark.parametrize("last", ["client", "server"])
def test_draining_closes_no_connection_however_quiet(stage: BalancerStage, last: str) -> None:
    """Whoever spoke last: what is silence after an answer, and what in the middle of one, only the
    application knows."""
    client, server = stage.meet()
    client.says(b"question")
    server.hears(b"question").says(b"half an ans")
    client.hears(b"half an ans")
    if last == "client":
        client.says(b"another question")
        server.hears(b"another question")
    drained = stage.proxy.start("drain", "web-1", FOREVER)
    stage.time_passes(600)
    client.hears_nothing()
    server.hears_nothing()
    assert not stage.proxy.has_answered(drained)
    server.says(b"wer").finishes()
    client.hears(b"wer").hears_the_end().finishes()
    server.hears_the_end()
    stage.proxy.answer(drained)
    assert stage.only.status()["open"] == 0


def test_the_connections_of_an_instance_that_stops_stay_until_it_ends_them(
    stage: BalancerStage
) -> None:
    """After the drain it gets its signal, and answers what it has in hand."""
    client, server = stage.meet()
    client.says(b"question")
    server.hears(b"question").says(b"half")
    client.hears(b"half")
    stage.only.goes_down()
    stage.time_passes(600)
    client.hears_nothing()
    server.says(b" and half").finishes()
    client.hears(b" and half").hears_the_end()


def test_idle_limits_hold_while_an_instance_drains(stage_with: StageWith) -> None:
    stage = stage_with(idle_timeout=100)
    client, server = stage.meet()
    client.says(b"x")
    server.hears(b"x")
    drained = stage.proxy.start("drain", "web-1", FOREVER)
    stage.time_passes(99)
    client.hears_nothing()
    stage.time_passes(2)
    client.hears_the_end()
    stage.proxy.answer(drained)


def test_draining_does_not_wait_for_a_client_that_is_dead(stage: BalancerStage) -> None:
    client, _ = stage.meet()
    client.pushes_until_it_stalls()
    client.resets()
    eventually(lambda: stage.proxy.call("dying") == 1, "the reset is noticed")
    drained = stage.proxy.start("drain", stage.only.name, FOREVER)
    stage.time_passes(5)
    stage.proxy.answer(drained)


def test_draining_waits_no_longer_than_it_is_told(stage: BalancerStage) -> None:
    client, server = stage.meet()
    client.says(b"x")
    server.hears(b"x")
    stage.proxy.call("drain", "web-1", 0.3)
    assert stage.only.status()["open"] == 1
    client.hears_nothing()


def test_draining_does_not_cut_a_slow_reader_short(stage: BalancerStage) -> None:
    client, server = stage.meet()
    pushed = server.pushes_until_it_stalls()
    server.finishes()
    client.finishes()
    drained = stage.proxy.start("drain", "web-1", FOREVER)
    stage.time_passes(30)
    taken = len(client.takes(20000))
    stage.time_passes(30)
    assert len(client.takes(pushed - taken)) == pushed - taken
    client.hears_the_end()
    stage.proxy.answer(drained)


def test_an_unused_connection_of_a_draining_instance_is_taken_to_another(
    stage: BalancerStage
) -> None:
    client, server = stage.meet()
    other = stage.instance().comes_up()
    stage.begins_to_drain()
    stage.time_passes(1)
    server.hears_the_end()
    client.says(b"question")
    other.accepts().hears(b"question").says(b"answer")
    client.hears(b"answer")


def test_an_unused_connection_stays_where_no_other_instance_can_take_it(
    stage_with: StageWith
) -> None:
    stage = stage_with(max_connections=1)
    client, server = stage.meet()
    other = stage.instance().comes_up()
    filler = stage.client().says(b"busy")
    full = other.accepts().hears(b"busy")
    drained = stage.begins_to_drain()
    stage.time_passes(10)
    server.hears_nothing()
    stage.counts(queue=0, open=2)
    filler.resets()
    full.hears_a_reset()
    stage.time_passes(1)
    server.hears_the_end()
    client.says(b"question")
    other.accepts().hears(b"question")
    stage.proxy.answer(drained)


def test_an_instance_that_is_up_again_is_not_draining(stage: BalancerStage) -> None:
    client, server = stage.meet()
    client.says(b"x")
    server.hears(b"x")
    stage.proxy.start("drain", "web-1", FOREVER)
    stage.only.comes_up()
    assert stage.only.state() == "up"
    stage.time_passes(600)
    client.hears_nothing().resets()


def test_two_may_wait_for_the_same_drain(proxy: Proxy) -> None:
    with setting(proxy) as stage:
        client, _ = stage.meet()
        tickets = [stage.proxy.start("drain", "web-1", FOREVER) for _ in range(2)]
        client.resets()
        for ticket in tickets:
            stage.proxy.answer(ticket)


# After the instances


def test_what_an_instance_said_last_is_waited_for(stage: BalancerStage) -> None:
    """As long as its client takes it."""
    client, server = stage.meet()
    pushed = server.pushes_until_it_stalls()
    server.leaves()
    stage.only.goes_down()
    seen_off = stage.proxy.start("wait_delivered", FOREVER)
    assert not stage.proxy.has_answered(seen_off)
    taken = len(client.takes(pushed))
    assert taken == pushed
    client.hears_the_end()
    stage.proxy.answer(seen_off)


def test_a_client_that_takes_nothing_is_not_waited_for(stage: BalancerStage) -> None:
    _, server = stage.meet()
    server.pushes_until_it_stalls()
    server.leaves()
    seen_off = stage.proxy.start("wait_delivered", FOREVER)
    for seconds in (4, 2):
        assert not stage.proxy.has_answered(seen_off)
        stage.proxy.call("put_forward", seconds)
    stage.proxy.answer(seen_off)


def test_nobody_is_waited_for_longer_than_allowed(stage: BalancerStage) -> None:
    stage.meet()
    seen_off = stage.proxy.start("wait_delivered", 0)
    stage.proxy.answer(seen_off)


def test_a_retired_balancer_closes_with_its_last_connection(stage: BalancerStage) -> None:
    client, server = stage.meet()
    client.says(b"question")
    server.hears(b"question")
    stage.only.goes_down()
    stage.proxy.call("retire")
    with pytest.raises(ConnectionRefusedError):
        stage.client()
    stage.time_passes(5)
    server.says(b"answer")
    client.hears(b"answer")
    assert not stage.proxy.call("is_closed")
    client.resets()
    stage.counts(open=0)
    stage.time_passes(1)
    assert stage.proxy.call("is_closed")


# One clock


def test_every_time_of_a_balancer_goes_by_one_clock(stage_with: StageWith) -> None:
    """Put forward by hours: whoever has waited has waited for hours, and by no other clock."""
    stage = stage_with(connect_timeout=3600, queue_timeout=7200, idle_timeout=10800)
    client, server = stage.meet()
    stage.proxy.call("put_forward", 3000)
    assert stage.only.status()["since"] == 3000
    client.says(b"question")
    server.hears(b"question")
    stage.proxy.call("put_forward", 50)
    server.says(b"answer")
    client.hears(b"answer")
    assert stage.only.status()["first_byte_time"] == 50
    assert stage.only.status()["connect_time"] == 0

    # A connect under way, then the queue.
    stage.only.goes_down()
    clogged = stage.instance().comes_up()
    clogged.clogs()
    newcomer = stage.client()
    eventually(lambda: stage.figures()["attempts"] == 1, "it is connecting")
    newcomer.hears_nothing()
    stage.proxy.call("put_forward", 3599)
    newcomer.hears_nothing()
    assert clogged.state() == "up"
    stage.proxy.call("put_forward", 1)
    eventually(lambda: clogged.state() == "down", "its time is over")
    assert clogged.status()["since"] == 0
    stage.counts(queue=1)
    stage.proxy.call("put_forward", 3599)
    newcomer.hears_nothing()
    stage.proxy.call("put_forward", 1)
    newcomer.hears_the_end()

    # The first one has been quiet for two hours by now, as far as a sweep can tell.
    stage.time_passes(1)
    client.hears_nothing()
    stage.proxy.call("put_forward", 10798)
    stage.time_passes(1)
    client.hears_nothing()
    stage.time_passes(1)
    client.hears_the_end()
    server.hears_the_end()


def test_who_waits_is_not_sent_away_while_an_instance_drains(stage_with: StageWith) -> None:
    """It comes back soon: a drain may last longer than others may wait."""
    stage = stage_with(queue_timeout=10)
    client, server = stage.meet()
    client.says(b"question")
    server.hears(b"question")
    draining = stage.begins_to_drain()
    other = stage.client()
    stage.counts(queue=1)
    stage.time_passes(60)
    other.hears_nothing()
    stage.only.comes_up()
    successor = stage.only.accepts()
    other.says(b"question")
    successor.hears(b"question")
    for one, its_server in ((client, server), (other, successor)):
        one.leaves()
        its_server.hears_the_end().leaves()
    stage.proxy.answer(draining)
    # When none drains any more, their time counts as before.
    stage.only.goes_down()
    late = stage.client()
    stage.counts(queue=1)
    stage.time_passes(100)
    late.hears_the_end()
