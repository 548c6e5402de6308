"""The queue: who waits in it, for how long, and who comes next."""

import time
from typing import Callable

import pytest

from peers import BalancerStage, Peer, eventually

pytest_plugins = ["stages"]

StageWith = Callable[..., BalancerStage]


def wait(stage: BalancerStage, count: int) -> "list[Peer]":
    """So many clients, in line one after the other; each says its number."""
    clients = []
    for number in range(count):
        before = stage.status()["queue"]
        clients.append(stage.client().says(b"%d" % number))
        stage.counts(queue=before + 1)
    return clients


def test_a_client_is_held_until_an_instance_is_up(stage: BalancerStage) -> None:
    stage.listens()
    (client,) = wait(stage, 1)
    client.hears_nothing()
    server = stage.instance().comes_up().accepts()
    server.hears(b"0").says(b"at last")
    client.hears(b"at last")
    assert stage.status()["queue"] == 0


def test_a_held_client_goes_on_where_it_was(stage: BalancerStage) -> None:
    """It has said something and ended its side, long before anyone listened."""
    stage.listens()
    (client,) = wait(stage, 1)
    client.finishes()
    client.hears_nothing()
    server = stage.instance().comes_up().accepts()
    server.hears(b"0").hears_the_end().says(b"answer").finishes()
    client.hears(b"answer").hears_the_end()


def test_first_come_first_served(stage: BalancerStage) -> None:
    stage.listens()
    wait(stage, 8)
    instance = stage.instance().comes_up()
    assert [instance.accepts().takes(1) for _ in range(8)] == [b"%d" % n for n in range(8)]
    assert stage.status()["queue_most"] == 8


def test_one_who_was_called_in_vain_keeps_his_place(stage: BalancerStage) -> None:
    stage.listens()
    wait(stage, 4)
    dead = stage.instance()
    dead.stops_listening()
    dead.comes_up()
    eventually(lambda: dead.state() == "down", "it is down")
    instance = stage.instance().comes_up()
    assert [instance.accepts().takes(1) for _ in range(4)] == [b"%d" % n for n in range(4)]


def test_one_after_the_other_where_an_instance_takes_one_at_a_time(stage_with: StageWith) -> None:
    stage = stage_with(max_connections=1)
    stage.listens()
    instance = stage.instance().comes_up()
    stage.client().says(b"x")
    server = instance.accepts().hears(b"x")
    wait(stage, 4)
    for number in range(4):
        instance.accepts_nobody(0.05)
        server.resets()
        server = instance.accepts().hears(b"%d" % number)


def test_nobody_overtakes_those_who_wait(stage_with: StageWith) -> None:
    stage = stage_with(max_connections=1)
    stage.listens()
    instance = stage.instance().comes_up()
    stage.client().says(b"x")
    server = instance.accepts().hears(b"x")
    wait(stage, 1)
    with stage.proxy.frozen():
        # The place is free, and a newcomer is there, at the same moment.
        server.resets()
        stage.client().says(b"newcomer")
    instance.accepts().hears(b"0")


def test_the_limit_holds_for_each_instance(stage_with: StageWith) -> None:
    stage = stage_with(max_connections=2)
    stage.listens()
    one, other = stage.instances(2)
    for _ in range(4):
        stage.client()
    servers = [instance.accepts() for instance in (one, one, other, other)]
    wait(stage, 1)
    assert [each["open"] for each in stage.status()["backends"]] == [2, 2]
    servers[3].resets()
    other.accepts().hears(b"0")
    stage.counts(open=4, queue=0, total=5)


def test_a_client_that_has_waited_long_enough_is_closed(stage_with: StageWith) -> None:
    stage = stage_with(queue_timeout=0.4)
    stage.listens()
    began = time.monotonic()
    clients = [stage.client().says(b"%d" % number) for number in range(3)]
    for client in clients:
        client.is_sent_away()
    assert time.monotonic() - began > 0.3
    stage.counts(queue=0, turned_away=3)


def test_one_who_said_nothing_is_closed_without_a_reset(stage_with: StageWith) -> None:
    stage = stage_with(queue_timeout=0.2)
    stage.listens()
    stage.client().hears_the_end()


def test_when_the_line_is_full_the_next_one_is_turned_away(stage_with: StageWith) -> None:
    stage = stage_with(queue_limit=3)
    stage.listens()
    clients = wait(stage, 3)
    for _ in range(2):
        stage.client().hears_the_end()
    stage.counts(queue=3, queue_most=3, turned_away=2, accepted=5)
    clients[1].resets()
    stage.counts(queue=2)
    wait(stage, 1)


def test_no_line_at_all(stage_with: StageWith) -> None:
    stage = stage_with(queue_limit=0)
    stage.listens()
    stage.client().hears_the_end()
    stage.instance().comes_up()
    stage.client().hears_nothing()


LEAVINGS = {
    "by reset": lambda client: client.resets(),
    "by reset, after some words": lambda client: client.says(b"never mind").resets(),
    "by reset, after half-close": lambda client: client.says(b"bye").finishes().resets(),
    "by closing": lambda client: client.leaves(),
    "by half-close, without a word": lambda client: client.finishes(),
}  # type: dict[str, Callable[[Peer], object]]


@pytest.mark.parametrize("leave", LEAVINGS.values(), ids=list(LEAVINGS))
def test_a_client_that_leaves_is_taken_from_the_line(
    stage: BalancerStage, leave: "Callable[[Peer], object]"
) -> None:
    stage.listens()
    before = stage.figures()
    clients = [stage.client() for _ in range(3)]
    stage.counts(queue=3)
    leave(clients[1])
    stage.counts(queue=2)
    leave(clients[2])
    leave(clients[0])
    stage.counts(queue=0, turned_away=0)
    eventually(lambda: stage.figures() == before, "nothing is left")
    instance = stage.instance().comes_up()
    instance.accepts_nobody()


def test_a_client_that_has_its_say_and_leaves_is_served(stage: BalancerStage) -> None:
    """A close after words cannot be told from a half-close: perhaps it wants no answer."""
    stage.listens()
    (client,) = wait(stage, 1)
    client.leaves()
    stage.counts(queue=1)
    stage.instance().comes_up().accepts().hears(b"0").hears_the_end()


def test_a_held_client_may_say_as_much_as_it_likes(stage: BalancerStage) -> None:
    stage.listens()
    client = stage.client()
    before = stage.proxy.call("memory")
    pushed = client.pushes_until_it_stalls()
    assert stage.proxy.call("memory") - before < 500000
    server = stage.instance().comes_up().accepts()
    assert server.takes(pushed) == bytes(pushed)


def test_more_room_is_used_at_once(stage_with: StageWith) -> None:
    stage = stage_with(max_connections=1)
    stage.listens()
    instance = stage.instance().comes_up()
    stage.client()
    instance.accepts()
    wait(stage, 2)
    stage.is_set(max_connections=2)
    instance.accepts().hears(b"0")
    stage.counts(queue=1)
    stage.is_set(max_connections=0)
    instance.accepts().hears(b"1")


def test_less_patience_holds_for_those_who_wait_already(stage: BalancerStage) -> None:
    stage.listens()
    (client,) = wait(stage, 1)
    stage.is_set(queue_timeout=0.2)
    client.is_sent_away()
    stage.counts(queue=0, turned_away=1)


def test_less_patience_holds_for_those_who_come_later_too(stage: BalancerStage) -> None:
    stage.listens()
    wait(stage, 1)
    stage.is_set(queue_timeout=0.2)
    client = stage.client()
    client.hears_the_end()
