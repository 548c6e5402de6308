"""What passes between a client and an instance, as dialogues. Random ones: test_relay_random.py."""

import random
import socket
from typing import Callable, Tuple

import pytest

from peers import PATIENCE, TURNS, Aside, BalancerStage, Peer, eventually, setting, started
from relay import BUFFER_BYTES
from scenarios import is_dead
from sockets import unread
from splicing import PIPE_BYTES

pytest_plugins = ["stages"]

#: More than the balancer's buffer, and more than all sockets of an unread connection hold.
MUCH = random.Random(1).getrandbits(8 * 4 * 1024 * 1024).to_bytes(4 * 1024 * 1024, "big")

Meeting = Callable[[], Tuple[Peer, Peer]]


@pytest.fixture(params=["client speaks", "server speaks"])
def meet(request: "pytest.FixtureRequest", stage: BalancerStage) -> Meeting:
    """Who of a connection's sides has the first part: what holds for one holds for the other."""
    if request.param == "client speaks":
        return stage.meet
    return lambda: stage.meet()[::-1]


def test_a_question_is_answered(meet: Meeting) -> None:
    one, other = meet()
    for number in range(3):
        one.says(b"question %d" % number)
        other.hears(b"question %d" % number).says(b"answer %d" % number)
        one.hears(b"answer %d" % number)


def test_nothing_is_said_and_both_leave(meet: Meeting) -> None:
    one, other = meet()
    one.finishes()
    other.hears_the_end().finishes()
    one.hears_the_end()


def test_a_server_may_speak_first(stage: BalancerStage) -> None:
    client, server = stage.meet()
    server.says(b"220 ready")
    client.hears(b"220 ready").says(b"HELO")
    server.hears(b"HELO")


def test_what_was_said_before_the_connect_arrives(stage: BalancerStage) -> None:
    stage.listens()
    with stage.proxy.frozen():
        client = stage.client().says(b"early").finishes()
    server = stage.instance().comes_up().accepts()
    server.hears(b"early").hears_the_end().says(b"answer")
    client.hears(b"answer")


def test_reply_after_half_close_is_delivered(meet: Meeting) -> None:
    one, other = meet()
    one.says(b"question").finishes()
    other.hears(b"question").hears_the_end()
    one.hears_nothing()
    other.says(b"a late answer").finishes()
    one.hears(b"a late answer").hears_the_end()


def test_one_goes_on_for_long_after_the_others_half_close(meet: Meeting) -> None:
    one, other = meet()
    one.finishes()
    other.hears_the_end()
    for _ in range(3):
        other.says(b"and another thing")
        one.hears(b"and another thing")
    other.finishes()
    one.hears_the_end()


def test_much_arrives_whole_and_the_end_after_it(meet: Meeting) -> None:
    one, other = meet()
    sending = Aside(one.has_its_say, MUCH)
    other.hears(MUCH).hears_the_end()
    sending.is_done()


def test_much_both_ways_at_once_arrives_whole(stage: BalancerStage) -> None:
    client, server = stage.meet()
    asides = [
        Aside(client.has_its_say, MUCH),
        Aside(server.has_its_say, MUCH[::-1]),
        Aside(lambda: client.hears(MUCH[::-1]).hears_the_end()),
    ]
    server.hears(MUCH).hears_the_end()
    for aside in asides:
        aside.is_done()


def test_an_end_behind_bytes_that_wait_comes_after_them(meet: Meeting) -> None:
    one, other = meet()
    pushed = one.pushes_until_it_stalls()
    one.finishes()
    assert other.takes(pushed) == bytes(pushed)
    other.hears_the_end().says(b"thanks")
    one.hears(b"thanks")


# Reset


def test_a_reset_is_passed_on(meet: Meeting) -> None:
    one, other = meet()
    one.resets()
    other.hears_a_reset()


def test_what_was_said_before_a_reset_arrives(meet: Meeting) -> None:
    one, other = meet()
    one.says(b"last words").resets()
    other.hears(b"last words").hears_a_reset()


def test_a_reset_after_half_close_is_passed_on(meet: Meeting) -> None:
    one, other = meet()
    one.finishes()
    other.hears_the_end()
    one.resets()
    eventually(lambda: is_dead(other.socket), "the reset has arrived")


def test_a_reset_reaches_one_who_has_half_closed(meet: Meeting) -> None:
    one, other = meet()
    one.finishes()
    other.hears_the_end().resets()
    one.hears_a_reset()


def test_a_reset_reaches_one_who_does_not_listen(meet: Meeting) -> None:
    one, other = meet()
    one.pushes_until_it_stalls()
    other.resets()
    eventually(lambda: is_dead(one.socket), "the reset has arrived")


def test_last_words_with_a_reset_reach_an_instance_that_has_ended_its_side_before(
    stage: BalancerStage
) -> None:
    client, server = stage.meet()
    with stage.proxy.frozen():
        server.finishes()
        client.says(b"last words").resets()
    server.hears(b"last words").hears_a_reset()


def test_what_is_held_back_when_a_reset_comes_arrives_though_the_other_has_finished(
    meet: Meeting, stage: BalancerStage
) -> None:
    """The balancer has read it already, and its reader has only not asked for it yet."""
    one, other = meet()
    said = one.pushes_until_it_stalls()
    with stage.proxy.frozen():
        one.resets()
        other.finishes()
    there = unread(other.socket.fileno())
    for _ in range(3):
        stage.status()
    heard = 0
    with pytest.raises(ConnectionResetError):
        while True:
            heard += len(other.takes(1 << 16))
    assert there + BUFFER_BYTES // 2 < heard <= said


def test_bytes_sent_to_one_who_has_closed_bring_a_reset(meet: Meeting) -> None:
    one, other = meet()
    one.leaves()
    other.hears_the_end().says(b"are you there?")
    eventually(lambda: is_dead(other.socket), "the reset has arrived")


def test_an_early_answer_with_a_reset_arrives(stage: BalancerStage) -> None:
    client, server = stage.meet()
    client.pushes_until_it_stalls()
    # Closed with the upload unread: the kernel resets.
    server.says(b"413 too large").leaves()
    client.hears(b"413 too large").hears_a_reset()


@pytest.mark.parametrize("first", ["end", "answer"])
def test_an_early_answer_with_a_reset_meets_the_end_of_the_upload(
    stage: BalancerStage, first: str
) -> None:
    client, server = stage.meet()
    client.says(b"upload, ")
    eventually(lambda: stage.status()["backends"][0]["open"], "the connection")
    assert server.socket.recv(1, socket.MSG_PEEK) == b"u"
    with stage.proxy.frozen():
        if first == "end":
            client.finishes()
        server.says(b"413 too large").leaves()
        if first == "answer":
            client.says(b"more").finishes()
    client.hears(b"413 too large").hears_a_reset()


# Back-pressure


def test_a_stalled_reader_stops_the_reading_from_its_peer(
    meet: Meeting, stage: BalancerStage
) -> None:
    one, other = meet()
    before = stage.proxy.call("memory")
    pushed = one.pushes_until_it_stalls()
    held = stage.proxy.call("held")
    grown = stage.proxy.call("memory") - before
    print("pushed %d bytes, held %d of them, grown by %d" % (pushed, held, grown))
    assert 0 < held <= max(BUFFER_BYTES, PIPE_BYTES)
    assert grown < 1024 * 1024
    assert other.takes(pushed) == bytes(pushed)
    assert eventually(lambda: stage.proxy.call("held") == 0, "nothing is held")
    assert stage.figures()["pipes_lent"] <= 1


def test_the_memory_of_many_stalled_connections_is_bounded(stage: BalancerStage) -> None:
    pairs = [stage.meet() for _ in range(12)]
    directions = 2 * len(pairs)
    before = stage.proxy.call("memory")
    pushed = 0

    def fill() -> bool:
        """A balancer that is slow to read may take more later."""
        nonlocal pushed
        taken = sum(push(client) + push(server) for client, server in pairs)
        pushed += taken
        # What has not come to an end within some turns of the balancer is not stalled yet.
        for _ in range(TURNS):
            stage.status()
        return not taken and bool(stage.proxy.call("unread"))

    eventually(fill, "the balancer reads no more")
    grown = stage.proxy.call("memory") - before
    held = stage.proxy.call("held")
    print("pushed %d bytes, held %d of them, grown by %d" % (pushed, held, grown))
    # Far more than it may grow by is under way, and each direction holds its part of it.
    assert pushed > directions * 600 * 1024
    assert held <= directions * max(BUFFER_BYTES, PIPE_BYTES)
    # A buffer each, and what the allocator makes of it; the rest is the kernel's.
    assert grown < directions * 2 * BUFFER_BYTES


def test_a_stalled_direction_does_not_hold_up_the_other(meet: Meeting) -> None:
    one, other = meet()
    one.pushes_until_it_stalls()
    for _ in range(3):
        other.says(b"still here")
        one.hears(b"still here")


def test_a_stalled_connection_does_not_hold_up_others(meet: Meeting) -> None:
    stalled, _ = meet()
    stalled.pushes_until_it_stalls()
    one, other = meet()
    one.says(b"question")
    other.hears(b"question")


# Urgent bytes


def test_an_urgent_byte_does_not_stall(meet: Meeting) -> None:
    one, other = meet()
    one.says(b"before").says_urgently(b"!").says(b"after")
    other.hears(b"beforeafter").says(b"answer")
    one.hears(b"answer").finishes()
    other.hears_the_end()


def test_an_urgent_byte_that_arrives_with_others_does_not_stall(
    meet: Meeting, stage: BalancerStage
) -> None:
    one, other = meet()
    with stage.proxy.frozen():
        one.says(b"before").says_urgently(b"!").says(b"after")
    other.hears(b"beforeafter")


@pytest.mark.parametrize("rest", [10, 100000])
def test_an_urgent_byte_in_bulk_does_not_stall(
    meet: Meeting, stage: BalancerStage, rest: int
) -> None:
    """splice(2) does not step over it, and says EAGAIN for ever."""
    one, other = meet()
    loans = stage.proxy.call("loans")
    pushed = one.pushes_until_it_stalls()
    assert other.takes(pushed) == bytes(pushed)
    with stage.proxy.frozen():
        pushed = push(one, 2 * 1024 * 1024)
        one.says_urgently(b"!").says(MUCH[:rest])
    assert other.takes(pushed) == bytes(pushed)
    other.hears(MUCH[:rest])
    assert stage.proxy.call("loans") > loans


# Small print


def test_small_writes_are_passed_on_at_once(stage: BalancerStage) -> None:
    client, server = stage.meet()
    for _ in range(3):
        client.says(b"x")
        server.hears(b"x").says(b"y")
        client.hears(b"y")
    assert [nodelay for nodelay, _ in stage.proxy.call("options")] == [1, 1]


def test_connections_at_rest_are_kept_alive(stage: BalancerStage) -> None:
    stage.meet()
    eventually(
        lambda: [keep for _, keep in stage.proxy.call("options")] == [1, 1], "keep-alive is on")


def test_every_byte_is_counted_once(stage: BalancerStage) -> None:
    client, server = stage.meet()
    sending = Aside(client.has_its_say, MUCH)
    server.hears(MUCH).hears_the_end().says(b"thanks").finishes()
    client.hears(b"thanks").hears_the_end()
    sending.is_done()
    stage.counts(bytes_in=len(MUCH), bytes_out=6, total=1, open=0)


def test_many_bytes_through_the_buffer_alone_arrive_whole() -> None:
    with started("--splice", "none") as proxy, setting(proxy) as stage:
        client, server = stage.meet()
        sending = Aside(client.has_its_say, MUCH)
        server.hears(MUCH).hears_the_end()
        sending.is_done()
        assert proxy.call("loans") == 0


def test_bulk_is_spliced_and_the_pipe_comes_back(stage: BalancerStage) -> None:
    client, server = stage.meet()
    loans = stage.proxy.call("loans")
    with stage.proxy.frozen():
        # So that there is more than a buffer full at once, on a busy machine too.
        pushed = push(client)
    pushed += client.pushes_until_it_stalls()
    assert stage.proxy.call("loans") > loans
    server.takes(pushed)
    client.says(b"slowly")
    server.hears(b"slowly")
    eventually(lambda: stage.figures()["pipes_lent"] == 0, "the pipe is back")


def push(peer: Peer, most: int = 1 << 30) -> int:
    """As much as goes at once."""
    zeros = memoryview(bytes(1 << 20))
    pushed = 0
    peer.socket.setblocking(False)
    try:
        while pushed < most:
            pushed += peer.socket.send(zeros[:most - pushed])
    except BlockingIOError:
        pass
    peer.socket.settimeout(PATIENCE)
    return pushed
