"""A client's way to an instance: refused, too slow, dead, full; and the client that leaves."""

import time
from select import select
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest

from peers import PATIENCE, Aside, BalancerStage, Instance, Peer, eventually

pytest_plugins = ["stages"]

StageWith = Callable[..., BalancerStage]


def serve(stage: BalancerStage, instances: "List[Instance]", count: int) -> "List[str]":
    """So many clients come, one by one; who gets each?"""
    names = []
    for _ in range(count):
        client = stage.client().says(b"hello")
        instance, server = whoever_accepts(instances)
        server.hears(b"hello").says(b"welcome")
        client.hears(b"welcome").resets()
        names.append(instance.name)
    return names


def whoever_accepts(instances: "List[Instance]") -> "Tuple[Instance, Peer]":
    ready = select([each.socket for each in instances], [], [], PATIENCE)[0]
    assert len(ready) == 1
    instance = next(each for each in instances if each.socket is ready[0])
    return instance, instance.accepts()


def are_connecting(stage: BalancerStage, count: int) -> None:
    eventually(lambda: stage.figures()["attempts"] == count, "%d connects under way" % count)


def test_clients_go_to_the_instances_by_turns(stage: BalancerStage) -> None:
    stage.listens()
    names = serve(stage, stage.instances(3), 9)
    assert names == names[:3] * 3 and sorted(names[:3]) == ["web-1", "web-2", "web-3"]


def test_a_client_of_one_that_refuses_is_taken_to_the_next(stage: BalancerStage) -> None:
    stage.listens()
    dead, *living = stage.instances(3)
    dead.stops_listening()
    names = serve(stage, living, 8)
    assert names.count("web-2") == names.count("web-3") == 4
    assert dead.state() == "down"
    stage.counts(connect_errors=1, retries=1, total=8, turned_away=0, open=0)
    assert [line for line in stage.log() if "web-1" in line] == [
        "web-1 is down: connection refused"]


def test_one_that_refused_is_up_again_once_it_answers(stage: BalancerStage) -> None:
    stage.listens()
    instance, other = stage.instances(2)
    instance.stops_listening()
    serve(stage, [other], 2)
    assert instance.state() == "down"
    instance.listens_again()
    eventually(lambda: instance.state() == "up", "it is up again")
    # The probe has knocked, and left.
    instance.accepts().hears_the_end()
    assert set(serve(stage, [instance, other], 4)) == {"web-1", "web-2"}
    assert "web-1 is up again" in stage.log()


def test_one_that_is_down_is_probed_until_it_answers(stage: BalancerStage) -> None:
    stage.listens()
    (instance,) = stage.instances(1)
    instance.stops_listening()
    client = stage.client().says(b"hello")
    eventually(lambda: instance.state() == "down", "it is down")
    assert instance.status()["reason"] == "connection refused"
    client.hears_nothing(1.2)
    assert instance.state() == "down"
    instance.listens_again()
    # The probe first, and then the client that has waited.
    instance.accepts().hears_the_end()
    instance.accepts().hears(b"hello").says(b"welcome")
    client.hears(b"welcome")
    assert stage.status()["queue_most"] == 1


def test_one_in_whose_place_somebody_else_accepts_gets_no_client_until_a_probe(
    stage: BalancerStage
) -> None:
    stage.listens()
    suspect, other = stage.instances(2)
    stage.proxy.call("suspect", "web-1", "port 8000 is taken by pid 4711 (nc)")
    assert suspect.state() == "down"
    assert suspect.status()["reason"] == "port 8000 is taken by pid 4711 (nc)"
    # Whoever suspects it has told it to people.
    assert stage.log() == []
    assert serve(stage, [other], 3) == ["web-2"] * 3
    suspect.accepts().hears_the_end()
    eventually(lambda: suspect.state() == "up", "a probe finds it")
    assert set(serve(stage, [suspect, other], 4)) == {"web-1", "web-2"}


def test_suspicion_of_one_that_is_down_says_why_it_stays_so(stage: BalancerStage) -> None:
    stage.listens()
    instance, other = stage.instances(2)
    instance.stops_listening()
    serve(stage, [other], 2)
    since = instance.status()["since"]
    stage.proxy.call("suspect", "web-1", "somebody else is there")
    status = instance.status()
    assert (status["state"], status["reason"]) == ("down", "somebody else is there")
    assert status["since"] >= since


def test_suspicion_of_one_that_gets_no_clients_changes_nothing(stage: BalancerStage) -> None:
    stage.listens()
    (gone,) = stage.instances(1)
    gone.goes_down()
    stage.proxy.call("suspect", "web-1", "somebody else is there")
    stage.proxy.call("suspect", "web-9", "somebody else is there")
    assert (gone.state(), gone.status()["reason"]) == ("absent", "exited")


def test_one_that_is_up_again_is_measured_anew(stage: BalancerStage) -> None:
    stage.listens()
    (instance,) = stage.instances(1)
    serve(stage, [instance], 1)
    assert instance.status()["first_byte_time"] is not None
    instance.comes_up()
    status = instance.status()
    assert status["first_byte_time"] is None and status["connect_time"] is None
    assert instance.status()["total"] == 1


def test_one_whose_process_has_ended_gets_no_client_and_no_probe(stage: BalancerStage) -> None:
    stage.listens()
    dead, living = stage.instances(2)
    dead.goes_down()
    assert serve(stage, [living], 4) == ["web-2"] * 4
    dead.accepts_nobody(0.8)
    assert dead.state() == "absent" and dead.status()["reason"] == "exited"


def test_one_that_does_not_answer_in_time_costs_its_client_no_more_than_that(
    stage_with: StageWith
) -> None:
    stage = stage_with(connect_timeout=0.5)
    stage.listens()
    clogged, living = stage.instances(2)
    clogged.clogs()
    began = time.monotonic()
    assert serve(stage, [living], 2) == ["web-2"] * 2
    assert time.monotonic() - began > 0.45
    assert clogged.state() == "down" and "timed out" in clogged.status()["reason"]
    stage.counts(connect_errors=1, retries=1, total=2)
    assert stage.figures()["attempts"] == stage.figures()["queue"] == 0


def test_a_probe_of_one_that_does_not_answer_does_not_bring_it_up(stage_with: StageWith) -> None:
    stage = stage_with(connect_timeout=0.5)
    stage.listens()
    clogged, living = stage.instances(2)
    clogged.clogs()
    serve(stage, [living], 2)
    assert clogged.state() == "down"
    clogged.unclogs()
    eventually(lambda: clogged.state() == "up", "it answers again")


def test_an_attempt_from_before_it_came_up_says_nothing_about_it_now(
    stage_with: StageWith
) -> None:
    stage = stage_with(connect_timeout=PATIENCE)
    stage.listens()
    (clogged,) = stage.instances(1)
    clogged.clogs()
    client = stage.client()
    are_connecting(stage, 1)
    clogged.goes_down()
    clogged.comes_up()
    # Now that all this has happened, its time is over.
    stage.is_set(connect_timeout=0.1)

    def failed_once() -> "Optional[Dict[str, Any]]":
        status = clogged.status()
        return status if status["connect_errors"] == 1 else None

    assert eventually(failed_once, "the old attempt fails")["state"] == "up"
    client.leaves()


def test_a_connect_that_takes_its_time_is_waited_for(stage_with: StageWith) -> None:
    stage = stage_with(connect_timeout=PATIENCE)
    stage.listens()
    (instance,) = stage.instances(1)
    instance.clogs()
    client = stage.client().says(b"hello")
    are_connecting(stage, 1)
    client.hears_nothing()
    instance.socket.listen(1024)
    server = first_who_speaks(instance)
    server.hears(b"hello").says(b"welcome").finishes()
    client.hears(b"welcome").hears_the_end()
    assert instance.state() == "up"
    # The kernel tries again after a second: it is counted as the time to connect.
    assert instance.status()["connect_time"] > 0.1


def first_who_speaks(instance: Instance) -> Peer:
    """Behind the fillers of its line."""
    while True:
        server = instance.accepts()
        if server.socket.getpeername() not in instance.fillers:
            return server


Leaving = Callable[[Peer], object]
LEAVINGS = {
    "by reset": lambda client: client.resets(),
    "by closing": lambda client: client.leaves(),
    "by reset, after some words": lambda client: client.says(b"never mind").resets(),
}  # type: dict[str, Leaving]


@pytest.mark.parametrize("leave", LEAVINGS.values(), ids=list(LEAVINGS))
def test_a_client_that_leaves_while_it_is_connected_leaves_nothing(
    stage_with: StageWith, leave: Leaving
) -> None:
    stage = stage_with(connect_timeout=2 * PATIENCE)
    stage.listens()
    (instance,) = stage.instances(1)
    instance.clogs()
    before = stage.figures()
    clients = [stage.client() for _ in range(5)]
    are_connecting(stage, 5)
    for client in clients:
        leave(client)
    eventually(lambda: stage.figures() == before, "nothing is left")
    assert instance.state() == "up"


def test_a_client_that_has_finished_its_question_is_connected_all_the_same(
    stage_with: StageWith
) -> None:
    stage = stage_with(connect_timeout=PATIENCE)
    stage.listens()
    (instance,) = stage.instances(1)
    instance.clogs()
    client = stage.client().says(b"question").finishes()
    are_connecting(stage, 1)
    instance.socket.listen(1024)
    first_who_speaks(instance).hears(b"question").hears_the_end().says(b"answer")
    client.hears(b"answer")


def test_clients_whose_connects_fail_together_keep_their_order(stage_with: StageWith) -> None:
    stage = stage_with(connect_timeout=PATIENCE)
    stage.listens()
    (clogged,) = stage.instances(1)
    clogged.clogs()
    for number in range(6):
        stage.client().says(b"%d" % number)
        are_connecting(stage, number + 1)
    stage.is_set(connect_timeout=0.1)
    eventually(lambda: stage.figures()["queue"] == 6, "all wait in line")
    stage.is_set(connect_timeout=PATIENCE)
    instance = stage.instance().comes_up()
    assert [instance.accepts().takes(1) for _ in range(6)] == [b"%d" % n for n in range(6)]


def test_those_whose_connects_fail_are_bound_to_the_limit_of_the_queue(
    stage_with: StageWith
) -> None:
    stage = stage_with(connect_timeout=PATIENCE, queue_limit=3)
    stage.listens()
    (clogged,) = stage.instances(1)
    clogged.clogs()
    clients = [stage.client() for _ in range(6)]
    are_connecting(stage, 6)
    stage.is_set(connect_timeout=0.1)
    are_connecting(stage, 0)
    stage.counts(queue=3, turned_away=3)
    for client in clients[3:]:
        client.is_sent_away()
    clients[0].hears_nothing()


def test_an_instance_that_dies_between_connect_and_question_loses_no_client(
    stage: BalancerStage
) -> None:
    client, server = stage.meet()
    with stage.proxy.frozen():
        # Its end and the word of its death come together, as they do when a process dies.
        server.resets()
        stage.only.stops_listening()
        told = stage.proxy.start("down", stage.only.name)
    stage.proxy.answer(told)
    client.says(b"question")
    stage.instance().comes_up().accepts().hears(b"question").says(b"answer")
    client.hears(b"answer")


def test_an_instance_that_ends_a_connection_at_once_has_meant_it(stage: BalancerStage) -> None:
    client, server = stage.meet()
    server.leaves()
    client.hears_the_end()
    assert stage.only.state() == "up"


def test_an_instance_that_resets_a_connection_as_soon_as_it_has_it_is_not_down(
    stage: BalancerStage
) -> None:
    """Quicker than the balancer can ask how its connect stands: it did take the connection."""
    stage.listens()
    (instance,) = stage.instances(1)

    def reset_all() -> None:
        for _ in range(100):
            instance.accepts().resets()

    aside = Aside(reset_all)
    clients = []
    for _ in range(100):
        clients.append(stage.client())
        # Python lets one thread run at a time: now the instance may.
        clients[-1].hears_anything(0.003)
    for client in clients:
        client.is_sent_away()
    aside.is_done()
    assert stage.log() == [] and instance.state() == "up"
    stage.counts(total=100, queue_most=0, connect_errors=0, open=0)


def test_a_crowd_meets_no_error_while_any_instance_can_take_it(stage: BalancerStage) -> None:
    """Instances come and go under it, one always being there."""
    stage.listens()
    instances = stage.instances(3)
    for number in range(30):
        victim = instances[number % 3]
        victim.stops_listening()
        living = [each for each in instances if each is not victim]
        serve(stage, living, 3)
        victim.listens_again()
        victim.comes_up()
    stage.counts(turned_away=0, total=90, queue=0, open=0)
