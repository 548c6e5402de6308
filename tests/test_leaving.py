"""What becomes of the connections of an instance that dies, or is about to stop."""

from peers import FOREVER, BalancerStage, eventually

pytest_plugins = ["stages"]


def test_a_client_that_waits_for_its_answer_is_let_finish(stage: BalancerStage) -> None:
    client, server = stage.meet()
    client.says(b"question")
    server.hears(b"question")
    draining = stage.begins_to_drain()
    other = stage.client()
    stage.counts(queue=1)
    server.says(b"answer")
    client.hears(b"answer")
    assert not stage.proxy.has_answered(draining)
    server.finishes()
    client.hears_the_end().finishes()
    server.hears_the_end().leaves()
    stage.proxy.answer(draining)
    other.leaves()


def test_an_unused_connection_of_a_drained_instance_is_taken_to_another(
    stage: BalancerStage
) -> None:
    client, server = stage.meet()
    other = stage.instance().comes_up()
    draining = stage.proxy.start("drain", stage.only.name, FOREVER)
    server.hears_the_end()
    successor = other.accepts()
    client.says(b"question")
    successor.hears(b"question").says(b"answer")
    client.hears(b"answer")
    stage.proxy.answer(draining)


def test_an_unused_connection_of_a_dead_instance_is_taken_to_another(
    stage: BalancerStage
) -> None:
    client, server = stage.meet()
    other = stage.instance().comes_up()
    with stage.proxy.frozen():
        # Its end and the word of its death come together, as they do when a process dies.
        server.leaves()
        stage.only.stops_listening()
        client.says(b"question")
        told = stage.proxy.start("down", stage.only.name)
    stage.proxy.answer(told)
    other.accepts().hears(b"question").says(b"answer")
    client.hears(b"answer")


def test_an_unused_connection_waits_in_line_until_its_instance_is_back(
    stage: BalancerStage
) -> None:
    client, server = stage.meet()
    stage.only.goes_down()
    server.resets()
    eventually(lambda: stage.figures()["queue"] == 1, "the client waits")
    stage.only.comes_up()
    successor = stage.only.accepts()
    client.says(b"question")
    successor.hears(b"question")


def test_an_instance_that_lives_may_end_an_unused_connection(stage: BalancerStage) -> None:
    client, server = stage.meet()
    server.leaves()
    client.hears_the_end()
    client, server = stage.meet()
    server.resets()
    client.hears_a_reset()


def test_an_instance_that_ends_its_side_first_may_go_on_listening(stage: BalancerStage) -> None:
    client, server = stage.meet()
    server.finishes()
    client.says(b"into the void").finishes()
    server.hears(b"into the void").hears_the_end()
    client.hears_the_end()
