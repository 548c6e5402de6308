"""How long an idle connection stays: time-outs, and the draining of an instance."""

import time
from typing import Callable, Iterator, Optional

import pytest

from peers import Aside, Peer, Proxy, Stage, eventually, setting, started

pytest_plugins = ["stages"]

StageWith = Callable[..., Stage]

#: The balancer's look at its connections comes here twice as often as it really does, and so a
#: second is half of one.
SECOND = 0.5
#: What a busy machine may add.
SLACK = 0.7


@pytest.fixture(scope="module")
def proxy(marked_environment: str) -> "Iterator[Proxy]":
    with started("--sweep", str(SECOND)) as proxy:
        yield proxy


def seconds_until_the_end(peer: Peer, since: "Optional[float]" = None) -> float:
    """Since that moment, or else since now."""
    began = time.monotonic() if since is None else since
    peer.hears_the_end()
    return time.monotonic() - began


# Idle


@pytest.mark.parametrize("wait", [0.0, 0.5 * SECOND, 0.9 * SECOND])
def test_a_connection_without_a_byte_is_closed_after_its_time_and_not_before(
    stage_with: StageWith, wait: float
) -> None:
    """Wherever between two looks it begins."""
    stage = stage_with(idle_timeout=SECOND)
    stage.listens()
    stage.only = stage.instance().comes_up()
    # What is being tested is when something happens, so here time itself is waited for.
    time.sleep(wait)
    began = time.monotonic()
    client, server = stage.meet()
    assert 0.9 * SECOND < seconds_until_the_end(client, began) <= 3 * SECOND + SLACK
    server.hears_the_end()
    assert time.monotonic() - began < 4
    stage.counts(open=0)


def test_a_connection_with_an_old_byte_is_closed_after_its_time(stage_with: StageWith) -> None:
    stage = stage_with(idle_timeout=SECOND)
    client, server = stage.meet()
    began = time.monotonic()
    client.says(b"question")
    server.hears(b"question")
    assert 0.9 * SECOND < seconds_until_the_end(client, began) < 3 * SECOND + SLACK


@pytest.mark.parametrize("speaker", ["client", "server"])
def test_a_byte_now_and_then_keeps_a_connection(stage_with: StageWith, speaker: str) -> None:
    stage = stage_with(idle_timeout=SECOND)
    one, other = stage.meet()[:: 1 if speaker == "client" else -1]
    until = time.monotonic() + 3.5 * SECOND
    while time.monotonic() < until:
        one.says(b"still here")
        other.hears(b"still here").hears_nothing(0.5 * SECOND)


def test_without_a_time_out_a_connection_stays(stage_with: StageWith) -> None:
    stage = stage_with(idle_timeout=0.0, half_close_timeout=0.0)
    client, server = stage.meet()
    client.finishes()
    server.hears_the_end()
    client.hears_nothing(2.5 * SECOND)
    server.says(b"late").finishes()
    client.hears(b"late").hears_the_end()


def test_a_slow_reader_is_not_idle(stage_with: StageWith) -> None:
    """Nothing is read from the sender for long, yet the kernel delivers what was."""
    stage = stage_with(idle_timeout=SECOND)
    client, server = stage.meet()
    pushed = server.pushes_until_it_stalls()
    taken, until = 0, time.monotonic() + 3.5 * SECOND
    while time.monotonic() < until:
        taken += len(client.takes(20000))
        client.hears_anything(0.2 * SECOND)
    assert len(client.takes(pushed - taken)) == pushed - taken


def test_a_reader_that_has_stopped_is_closed_after_its_time(stage_with: StageWith) -> None:
    stage = stage_with(idle_timeout=SECOND)
    _, server = stage.meet()
    server.pushes_until_it_stalls()
    eventually(lambda: stage.status()["open"] == 0, "it is closed", timeout=6)


def test_another_time_out_holds_for_open_connections(stage: Stage) -> None:
    client, server = stage.meet()
    stage.is_set(idle_timeout=SECOND)
    assert seconds_until_the_end(client) < 3 * SECOND + SLACK
    server.hears_the_end()


# Half-closed


def test_a_half_closed_connection_has_a_time_of_its_own(stage_with: StageWith) -> None:
    stage = stage_with(half_close_timeout=SECOND)
    client, server = stage.meet()
    other, _ = stage.meet()
    began = time.monotonic()
    client.says(b"question").finishes()
    server.hears(b"question").hears_the_end()
    assert 0.9 * SECOND < seconds_until_the_end(client, began) < 3 * SECOND + SLACK
    other.hears_nothing()


def test_the_time_of_a_half_closed_connection_begins_with_the_half_close(
    stage_with: StageWith
) -> None:
    """However long nothing was said before."""
    stage = stage_with(half_close_timeout=2 * SECOND)
    client, server = stage.meet()
    client.says(b"hello")
    server.hears(b"hello").hears_nothing(3.2 * SECOND)
    client.finishes()
    server.hears_the_end()
    client.hears_nothing(1.4 * SECOND)
    server.says(b"goodbye").finishes()
    client.hears(b"goodbye").hears_the_end()


@pytest.mark.parametrize("gone", ["client", "server"])
def test_a_reset_behind_bytes_that_nobody_takes_has_the_time_of_a_half_close(
    stage_with: StageWith, gone: str
) -> None:
    stage = stage_with(half_close_timeout=2 * SECOND)
    one, other = stage.meet()[:: 1 if gone == "client" else -1]
    one.pushes_until_it_stalls()
    began = time.monotonic()
    one.resets()
    stage.counts(open=0)
    assert SECOND < time.monotonic() - began < 5 * SECOND + SLACK
    with pytest.raises(ConnectionResetError):
        while other.takes(1 << 20):
            pass


def test_bytes_keep_a_half_closed_connection(stage_with: StageWith) -> None:
    stage = stage_with(half_close_timeout=SECOND)
    client, server = stage.meet()
    client.finishes()
    server.hears_the_end()
    for _ in range(6):
        server.says(b"and another thing")
        client.hears(b"and another thing").hears_nothing(0.5 * SECOND)


# Draining


def test_a_draining_instance_gets_no_new_client(stage: Stage) -> None:
    stage.listens()
    leaving, staying = stage.instances(2)
    assert stage.proxy.call("drain", leaving.name, 5) is None
    for _ in range(4):
        stage.client().says(b"hello")
        staying.accepts().hears(b"hello")
    assert leaving.state() == "draining"
    leaving.accepts_nobody(0.05)


def test_draining_returns_at_once_where_nobody_is(stage: Stage) -> None:
    stage.instance().comes_up()
    began = time.monotonic()
    stage.proxy.call("drain", "web-1", 10)
    assert time.monotonic() - began < 1


def test_draining_closes_an_idle_connection_after_about_a_second(stage: Stage) -> None:
    client, server = stage.meet()
    client.says(b"question")
    server.hears(b"question").says(b"answer")
    client.hears(b"answer")
    drained = stage.proxy.start("drain", "web-1", 20)
    assert seconds_until_the_end(client) < 2 * SECOND + SLACK
    server.hears_the_end()
    stage.proxy.answer(drained)
    assert stage.only.status()["open"] == 0


def test_draining_lets_a_busy_connection_finish_and_returns_as_it_does(stage: Stage) -> None:
    client, server = stage.meet()
    drained = stage.proxy.start("drain", "web-1", 20)
    for _ in range(5):
        server.says(b"more of the answer")
        client.hears(b"more of the answer").hears_nothing(0.5 * SECOND)
        assert not stage.proxy.has_answered(drained)
    server.says(b"end").finishes()
    client.hears(b"end").hears_the_end().finishes()
    server.hears_the_end()
    began = time.monotonic()
    stage.proxy.answer(drained)
    assert time.monotonic() - began < 0.5


def test_draining_lets_a_client_have_the_answer_that_it_waits_for(stage: Stage) -> None:
    """However long nothing moves: it has asked, so it is not idle."""
    client, server = stage.meet()
    client.says(b"question")
    server.hears(b"question")
    drained = stage.proxy.start("drain", "web-1", 20)
    client.hears_nothing(2.5 * SECOND)
    server.says(b"answer")
    client.hears(b"answer")
    assert seconds_until_the_end(client) < 3 * SECOND + SLACK
    server.hears_the_end()
    stage.proxy.answer(drained)


def test_draining_does_not_wait_for_a_client_that_is_dead(stage: Stage) -> None:
    client, _ = stage.meet()
    client.pushes_until_it_stalls()
    client.resets()
    ticket = stage.proxy.start("drain", stage.only.name, 30)
    began = time.monotonic()
    stage.proxy.answer(ticket)
    assert time.monotonic() - began < 5 * SECOND + SLACK


def test_draining_waits_no_longer_than_it_is_told(stage: Stage) -> None:
    client, server = stage.meet()
    stop = []  # type: list[bool]

    def chatter() -> None:
        while not stop:
            server.says(b"x")
            client.hears(b"x")

    aside = Aside(chatter)
    began = time.monotonic()
    stage.proxy.call("drain", "web-1", 1.5)
    assert 1.4 < time.monotonic() - began < 3
    stop.append(True)
    aside.is_done()
    assert stage.only.status()["open"] == 1


def test_draining_does_not_cut_a_slow_reader_short(stage: Stage) -> None:
    client, server = stage.meet()
    pushed = server.pushes_until_it_stalls()
    server.finishes()
    client.finishes()
    drained = stage.proxy.start("drain", "web-1", 20)
    taken, until = 0, time.monotonic() + 3 * SECOND
    while time.monotonic() < until:
        taken += len(client.takes(20000))
        client.hears_anything(0.2 * SECOND)
    assert len(client.takes(pushed - taken)) == pushed - taken
    client.hears_the_end()
    stage.proxy.answer(drained)


def test_an_unused_connection_of_a_draining_instance_is_taken_to_another(stage: Stage) -> None:
    client, server = stage.meet()
    other = stage.instance().comes_up()
    stage.proxy.start("drain", "web-1", 20)
    server.hears_the_end()
    client.says(b"question")
    other.accepts().hears(b"question").says(b"answer")
    client.hears(b"answer")


def test_an_instance_that_is_up_again_is_not_draining(stage: Stage) -> None:
    client, server = stage.meet()
    client.says(b"x")
    server.hears(b"x")
    stage.proxy.start("drain", "web-1", 20)
    stage.only.comes_up()
    assert stage.only.state() == "up"
    client.hears_nothing(2.2 * SECOND)


def test_two_may_wait_for_the_same_drain(proxy: Proxy) -> None:
    with setting(proxy) as stage:
        client, _ = stage.meet()
        tickets = [stage.proxy.start("drain", "web-1", 20) for _ in range(2)]
        client.resets()
        for ticket in tickets:
            stage.proxy.answer(ticket)
