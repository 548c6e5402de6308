"""The common port: what it says when it cannot be had, and what it does when descriptors or local
ports run out. Those processes are their own: a shortage is the whole process's."""

import socket
import time
from pathlib import Path
from typing import Iterator, List

import pytest

from elsewhere import FIRST, LAST, Far, far_from_here
from peers import BalancerStage, Peer, Proxy, eventually, setting, started

pytest_plugins = ["stages"]

#: Of a process that has few. Some twenty connections are as many as fit.
DESCRIPTORS = 64
#: Kept for others than clients, then (sockets.py).
RESERVE = DESCRIPTORS // 4
#: And that for others than connections.
LAST_RESERVE = DESCRIPTORS // 8


@pytest.fixture
def poor() -> "Iterator[BalancerStage]":
    """A balancer with few descriptors, and an instance."""
    with started("--descriptors", str(DESCRIPTORS)) as proxy, setting(proxy) as stage:
        stage.listens()
        stage.only = stage.instance().comes_up()
        yield stage


def crowd(stage: BalancerStage, count: int) -> "List[Peer]":
    return [stage.client().says(b"%3d" % number) for number in range(count)]


def serve(stage: BalancerStage, count: int) -> "List[Peer]":
    """Take so many clients in and answer them."""
    servers = []
    for _ in range(count):
        server = stage.only.accepts()
        server.says(server.takes(3))
        servers.append(server)
    return servers


def answered(clients: "List[Peer]") -> "List[Peer]":
    return [client for client in clients if client.hears_anything(0)]


# Shortages


def test_clients_beyond_the_descriptors_wait_for_them(poor: BalancerStage) -> None:
    clients = crowd(poor, 60)
    eventually(poor.log, "accepting pauses")
    eventually(lambda: poor.figures()["attempts"] == 0, "who was accepted is connected")
    first = poor.status()["open"]
    assert 10 < first < 30
    serve(poor, first)
    poor.only.accepts_nobody()
    for number, client in enumerate(clients[:first]):
        client.hears(b"%3d" % number).resets()
    serve(poor, 60 - first) if first >= 30 else serve(poor, first)
    assert len(poor.log()) == 1
    assert "accepting pauses: few file descriptors are left (limit %d)" % (
        DESCRIPTORS - RESERVE) in poor.log()


def test_everyone_is_served_in_the_end(poor: BalancerStage) -> None:
    clients = crowd(poor, 100)
    for number, client in enumerate(clients):
        server = poor.only.accepts()
        server.hears(b"%3d" % number).says(b"yes")
        client.hears(b"yes").resets()
    poor.counts(open=0, accepted=100, total=100, turned_away=0)
    assert len(poor.log()) == 1


def test_descriptors_are_left_for_other_things(poor: BalancerStage) -> None:
    """A restart of an instance takes about ten."""
    clients = crowd(poor, 60)
    eventually(poor.log, "accepting pauses")
    # The last client and its instance's side lie above the ceiling.
    assert poor.proxy.call("spare_descriptors") >= RESERVE - 4
    assert len(clients) == 60


def test_clients_that_have_waited_leave_descriptors_for_restarts(poor: BalancerStage) -> None:
    """Each of them takes a second one when its instance comes back, all at the same time."""
    poor.only.goes_down()
    clients = crowd(poor, 40)
    poor.counts(queue=40)
    poor.only.comes_up()
    eventually(lambda: poor.status()["open"] > 0, "the first of them get through")
    eventually(poor.log, "the others have to wait")
    assert poor.proxy.call("spare_descriptors") >= LAST_RESERVE
    for number, client in enumerate(clients):
        server = poor.only.accepts()
        server.says(server.takes(3)).leaves()
        client.hears(b"%3d" % number).leaves()


def test_a_pause_costs_no_cpu(poor: BalancerStage) -> None:
    crowd(poor, 60)
    eventually(poor.log, "accepting pauses")
    eventually(lambda: poor.figures()["attempts"] == 0, "who was accepted is connected")
    serve(poor, poor.status()["open"])
    before, began = poor.proxy.cpu_seconds(), time.monotonic()
    poor.only.accepts_nobody(1.0)
    share = (poor.proxy.cpu_seconds() - before) / (time.monotonic() - began)
    assert share < 0.1


def test_not_a_single_descriptor_pauses_accepting_too(poor: BalancerStage) -> None:
    poor.proxy.call("hoard_descriptors")
    clients = crowd(poor, 5)
    eventually(poor.log, "accepting pauses")
    before = poor.proxy.cpu_seconds()
    poor.only.accepts_nobody(1.0)
    assert poor.proxy.cpu_seconds() - before < 0.1
    poor.proxy.call("free_descriptors")
    serve(poor, 5)
    for number, client in enumerate(clients):
        client.hears(b"%3d" % number)
    assert len(poor.log()) == 1 and "too many open files" in poor.log()[0]


def test_a_client_that_finds_no_descriptor_for_its_instance_waits(poor: BalancerStage) -> None:
    """One is left when it comes: for itself."""
    poor.proxy.call("hoard_descriptors")
    poor.proxy.call("free_one_descriptor")
    (client,) = crowd(poor, 1)
    poor.counts(queue=1)
    assert poor.only.state() == "up"
    poor.proxy.call("free_descriptors")
    serve(poor, 1)
    client.hears(b"  0")
    assert len(poor.log()) <= 2


def test_a_probe_that_finds_no_descriptor_says_nothing_about_the_instance(
    poor: BalancerStage
) -> None:
    poor.only.stops_listening()
    (client,) = crowd(poor, 1)
    eventually(lambda: poor.only.state() == "down", "it is down")
    poor.proxy.call("hoard_descriptors")
    poor.only.listens_again()
    poor.only.accepts_nobody(0.8)
    poor.proxy.call("free_descriptors")
    poor.only.accepts().hears_the_end()
    serve(poor, 1)
    client.hears(b"  0")


def test_no_descriptor_for_a_port_is_one_line(poor: BalancerStage) -> None:
    poor.proxy.call("hoard_descriptors")
    with pytest.raises(AssertionError, match=r"PupgeventError: cannot listen .*: too many open"):
        poor.listens()
    poor.proxy.call("free_descriptors")


# Local ports: in a network of its own, which has only a few


class FarBalancerStage(Far, BalancerStage):
    pass


@pytest.fixture
def far() -> "Iterator[FarBalancerStage]":
    with far_from_here(Proxy, FarBalancerStage) as stage:
        yield stage


def test_clients_beyond_the_local_ports_wait_for_them(far: FarBalancerStage) -> None:
    instance = far.instance().comes_up()
    pairs = [(far.client(), instance.accepts()) for _ in range(FIRST, LAST + 1)]
    late = [far.client().says(b"x") for _ in range(2)]
    far.counts(queue=2, connect_errors=0, retries=0)
    instance.accepts_nobody()
    assert instance.state() == "up"
    for client, server in pairs[:2]:
        # With a reset no port is kept back for TIME_WAIT.
        server.resets()
        client.is_sent_away()
    for _ in late:
        instance.accepts().hears(b"x").says(b"y")
    for client in late:
        client.hears(b"y")
    assert far.log() == ["clients have to wait: cannot assign requested address"]


def test_local_ports_that_lack_towards_one_instance_keep_nobody_from_another(
    far: FarBalancerStage
) -> None:
    full, other = far.instance().comes_up(), far.instance().comes_up()
    taken = [
        far.elsewhere.do(lambda: far.keep(socket.create_connection(full.address)))
        for _ in range(FIRST, LAST + 1)
    ]
    clients = [far.client().says(b"x") for _ in taken]
    for client in clients:
        other.accepts().hears(b"x").says(b"y")
        client.hears(b"y")
    far.counts(queue=0, open=len(clients), connect_errors=0, turned_away=0)
    assert full.state() == "up"


def test_where_nobody_listens_it_does_not_take_itself_for_the_instance(
    far: FarBalancerStage
) -> None:
    """The ports of outgoing connections may hold the instance's: a connect can meet itself."""
    for number, port in enumerate(range(FIRST, LAST + 1)):
        far.proxy.call("up", "self-%d" % number, "127.0.0.1", port)
    client = far.client().says(b"hello")
    far.counts(queue=1, open=0, total=0)
    client.hears_nothing()
    # Who has met itself, in a connect or in a probe, keeps the port from nobody afterwards.
    kept = far.elsewhere.do(lambda: [
        line for line in Path("/proc/thread-self/net/tcp").read_text().splitlines()
        if line.split()[1] == line.split()[2]])
    assert kept == []
    far.instance().comes_up().accepts().hears(b"hello")


# Clients that go early, and ports that cannot be had


def test_clients_that_have_gone_before_they_are_accepted_are_passed_over(
    stage: BalancerStage
) -> None:
    stage.listens()
    instance = stage.instance().comes_up()
    with stage.proxy.frozen():
        gone = [stage.client() for _ in range(20)]
        for number, client in enumerate(gone):
            client.resets() if number % 2 else client.leaves()
        stage.client().says(b"still here")
    while not says(instance.accepts(), b"still here"):
        pass
    stage.counts(queue=0, turned_away=0)


def says(server: Peer, words: bytes) -> bool:
    try:
        return server.takes(len(words)) == words
    except ConnectionResetError:
        return False


@pytest.mark.parametrize(
    "host, port, reason",
    [
        ("192.0.2.1", 0, "cannot assign requested address"),
        ("2001:db8::1", 0, "cannot assign requested address"),
    ],
)
def test_an_address_that_is_not_ours_is_one_line(
    stage: BalancerStage, host: str, port: int, reason: str
) -> None:
    with pytest.raises(AssertionError) as failure:
        stage.listens(host, port)
    assert "PupgeventError: cannot listen on %s port %d: %s\n" % (host, port, reason) in str(
        failure.value)


def test_ten_thousand_may_wait_to_be_accepted_as_far_as_the_system_allows(
    stage: BalancerStage
) -> None:
    stage.listens()
    allowed = int(Path("/proc/sys/net/core/somaxconn").read_text())
    count = min(allowed, 600)
    stage.instance().comes_up()
    with stage.proxy.frozen():
        for _ in range(count):
            stage.client()
    stage.counts(accepted=count)
