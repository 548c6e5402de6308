"""What a reload changes while connections are open; and addresses of both families."""

import os
import signal
import socket
from typing import Callable

import pytest

from peers import PATIENCE, BalancerStage, Peer, eventually

pytest_plugins = ["stages"]

StageWith = Callable[..., BalancerStage]


def talk(client: Peer, server: Peer) -> None:
    client.says(b"question")
    server.hears(b"question").says(b"answer")
    client.hears(b"answer")


# The common port


def test_another_common_port_leaves_connections_alone(stage: BalancerStage) -> None:
    client, server = stage.meet()
    before = stage.common
    assert stage.listens() != before
    talk(client, server)
    newcomer = stage.client()
    talk(newcomer, stage.only.accepts())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(before)


def test_who_has_got_through_to_the_old_port_is_still_served(stage: BalancerStage) -> None:
    """More than are accepted in one turn."""
    stage.listens()
    stage.instance()
    with standing(stage, "listen", "127.0.0.1", 0):
        clients = [stage.client().says(b"early") for _ in range(200)]
    with pytest.raises(ConnectionRefusedError):
        stage.client()
    stage.counts(queue=200, accepted=200)
    clients[199].hears_nothing()


def test_who_has_got_through_is_served_after_the_port_is_closed(stage: BalancerStage) -> None:
    stage.listens()
    instance = stage.instance().comes_up()
    with standing(stage, "stop_listening"):
        clients = [stage.client().says(b"early") for _ in range(3)]
    for _ in clients:
        instance.accepts().hears(b"early").says(b"answer")
    for client in clients:
        client.hears(b"answer")
    with pytest.raises(ConnectionRefusedError):
        stage.client()
    assert stage.status()["address"] is None
    stage.proxy.call("stop_listening")


class standing:
    """What happens meanwhile is there when it does the next thing."""

    def __init__(self, stage: BalancerStage, do: str, *words: object) -> None:
        self.proxy = stage.proxy
        self.ticket = stage.proxy.start("stopped", do, list(words))

    def __enter__(self) -> None:
        eventually(self.proxy.stands_still, "it stands still")

    def __exit__(self, *error: object) -> None:
        os.kill(self.proxy.pid, signal.SIGCONT)
        self.proxy.answer(self.ticket)


def test_a_port_that_is_taken_changes_nothing(stage: BalancerStage) -> None:
    client, server = stage.meet()
    before = stage.common
    taken = stage.instance().address
    with pytest.raises(AssertionError, match="cannot listen on .* port %d: address" % taken[1]):
        stage.listens("127.0.0.1", taken[1])
    stage.common = before
    talk(client, server)
    talk(stage.client(), stage.only.accepts())


def test_the_same_port_can_be_opened_again_at_once(stage: BalancerStage) -> None:
    client, server = stage.meet()
    talk(client, server)
    stage.proxy.call("stop_listening")
    stage.listens("127.0.0.1", stage.common[1])
    talk(stage.client(), stage.only.accepts())
    talk(client, server)


# Settings


def test_another_strategy_counts_from_the_next_client(stage: BalancerStage) -> None:
    stage.listens()
    one, _ = stage.instances(2)
    first = stage.client()
    one.accepts()
    stage.is_set(strategy="ip-hash")
    clients = [stage.client() for _ in range(4)]
    stage.counts(open=5)
    assert sorted(each["open"] for each in stage.status()["backends"]) in ([0, 5], [1, 4])
    first.hears_nothing(0.01)
    stage.is_set(strategy="least-connections")
    stage.client()
    for client in clients:
        client.leaves()
    assert stage.status()["strategy"] == "least-connections"


def test_a_lower_limit_ends_no_connection(stage: BalancerStage) -> None:
    stage.listens()
    instance = stage.instance().comes_up()
    pairs = [(stage.client(), instance.accepts()) for _ in range(3)]
    stage.is_set(max_connections=1)
    for pair in pairs:
        talk(*pair)
    stage.client()
    stage.counts(queue=1, open=3)
    for client, _ in pairs[:2]:
        client.resets()
    stage.counts(queue=1, open=1)
    pairs[2][0].resets()
    stage.counts(queue=0, open=1)


def test_an_instance_that_is_removed_keeps_its_connections(stage: BalancerStage) -> None:
    client, server = stage.meet()
    stage.proxy.call("remove", "web-1")
    talk(client, server)
    assert stage.status()["backends"] == []
    client.resets()
    server.hears_a_reset()


def test_an_instance_may_come_back_elsewhere(stage: BalancerStage) -> None:
    client, server = stage.meet()
    elsewhere = stage.instance()
    stage.proxy.call("down", "web-1")
    stage.proxy.call("up", "web-1", *elsewhere.address)
    talk(stage.client(), elsewhere.accepts())
    talk(client, server)
    assert stage.only.status()["port"] == elsewhere.address[1]
    assert stage.only.status()["total"] == 2


# Addresses

try:
    with socket.socket(socket.AF_INET6) as _probe:
        _probe.bind(("::1", 0))
    HAS_IPV6 = True
except OSError:
    HAS_IPV6 = False

needs_ipv6 = pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")


@needs_ipv6
def test_the_common_port_of_both_families(stage: BalancerStage) -> None:
    stage.listens("::")
    instance = stage.instance().comes_up()
    for host in ("127.0.0.1", "::1"):
        talk(stage.client(host), instance.accepts())


@needs_ipv6
def test_an_instance_that_listens_on_ipv6(stage: BalancerStage) -> None:
    stage.listens()
    instance = stage.instance("::1").comes_up()
    talk(stage.client(), instance.accepts())
    assert instance.status()["host"] == "::1"


@needs_ipv6
def test_ip_hash_takes_a_client_to_the_same_instance_by_either_family(
    stage_with: StageWith
) -> None:
    stage = stage_with(strategy="ip-hash")
    instances = stage.instances(5)
    sources = ["127.0.0.%d" % number for number in range(1, 9)]
    homes = []
    for host in ("127.0.0.1", "::"):
        stage.listens(host)
        for source in sources:
            before = [each.status()["total"] for each in instances]
            stage.client("127.0.0.1", (source, 0)).says(b"x")
            stage.counts(total=sum(before) + 1)
            after = [each.status()["total"] for each in instances]
            homes.append([now - then for now, then in zip(after, before)].index(1))
    assert homes[:8] == homes[8:] and len(set(homes)) > 1


@needs_ipv6
def test_ip_hash_takes_ipv6_clients_to_their_own_instance(stage_with: StageWith) -> None:
    stage = stage_with(strategy="ip-hash")
    stage.instances(5)
    stage.listens("::1")
    for _ in range(6):
        stage.client()
    stage.counts(total=6)
    assert sorted(each["total"] for each in stage.status()["backends"]) == [0, 0, 0, 0, 6]


# Counters


def test_the_counters_add_up(stage_with: StageWith) -> None:
    stage = stage_with(max_connections=2, queue_limit=1)
    stage.listens()
    one, other = stage.instances(2)
    pairs = [(stage.client(), (one if number % 2 == 0 else other).accepts())
             for number in range(4)]
    waiting = stage.client()
    stage.counts(queue=1)
    stage.client().hears_the_end()
    for number, (client, server) in enumerate(pairs):
        client.says(b"q" * 10)
        server.hears(b"q" * 10).says(b"a" * (100 + number))
        client.hears(b"a" * (100 + number))
    stage.counts(accepted=6, open=4, queue=1, queue_most=1, turned_away=1, total=4,
                 bytes_in=40, bytes_out=406, connect_errors=0, retries=0)
    status = one.status()
    assert 0 < status["connect_time"] < PATIENCE and 0 < status["first_byte_time"] < PATIENCE
    assert status["open"] == 2 and status["bytes_in"] == 20
    assert status["state"] == "up" and status["reason"] == "started"
    assert status["since"] < 4 * PATIENCE
    pairs[0][0].resets()
    one.accepts()
    waiting.resets()
    for client, _ in pairs[1:]:
        client.resets()
    stage.counts(open=0, queue=0, total=5)
    assert [each["open"] for each in stage.status()["backends"]] == [0, 0]
