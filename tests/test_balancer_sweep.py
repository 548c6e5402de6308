"""What the sweep finds in the kernel that the relay has not been told of yet.

In this process, so that a test can call the sweep at a moment of its own choice.
"""

import select
import socket
from typing import Any, Iterator, List, Tuple

import gevent
import pytest

from balancer import Balancer
from engine import Engine
from listener import Listener
from peers import PATIENCE, Notes, cluster_with
from sweeping import SLICE_SECONDS

Pair = Tuple[socket.socket, socket.socket]


class Hands:
    """A clock that stands still until it is put forward."""

    def __init__(self) -> None:
        self.now = 1000.0
        #: Seconds that each look at it takes.
        self.step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def balancer(clock: Hands) -> "Iterator[Balancer]":
    engine = Engine(lambda line: None, clock)
    balancer = Balancer("web", cluster_with(idle_timeout=10.0), engine, Notes())
    balancer.take_over(Listener("127.0.0.1", 0, Notes().warn, clock))
    yield balancer
    balancer.close()
    engine.close()


@pytest.fixture
def instances() -> "Iterator[List[socket.socket]]":
    listeners = [socket.socket() for _ in range(2)]
    for listener in listeners:
        listener.bind(("127.0.0.1", 0))
        listener.listen(10)
    yield listeners
    for listener in listeners:
        listener.close()


@pytest.fixture
def pair(balancer: Balancer, instances: "List[socket.socket]") -> "Iterator[Pair]":
    """A client and its instance's side, through the first of two instances."""
    balancer.up("web-1", *instances[0].getsockname())
    assert balancer.address is not None
    with socket.create_connection(balancer.address) as client:
        with gevent.Timeout(PATIENCE):
            while not balancer.status().open:
                gevent.sleep(0.005)
        balancer.up("web-2", *instances[1].getsockname())
        with instances[0].accept()[0] as server:
            yield client, server


def arrives(sock: Any) -> None:
    """In the kernel; the loop has no turn meanwhile."""
    assert select.select([sock.fileno()], [], [], PATIENCE)[0]


def hears(sock: socket.socket, expected: bytes) -> None:
    sock.setblocking(False)
    with gevent.Timeout(PATIENCE):
        while not select.select([sock], [], [], 0)[0]:
            gevent.sleep(0.005)
    assert sock.recv(100) == expected


@pytest.mark.parametrize("speaker", ["client", "server"])
def test_what_has_arrived_while_the_process_stood_still_is_not_lost(
    balancer: Balancer, clock: Hands, pair: Pair, speaker: str
) -> None:
    """For hours (a laptop's lid, a debugger): the first thing that it does then may be to look at
    the connections."""
    one, other = pair if speaker == "client" else pair[::-1]
    (connection,) = balancer._connections
    balancer.sweep()
    one.send(b"hello")
    arrives(connection.client if speaker == "client" else connection.upstream)
    clock.now += 3600
    balancer.sweep()
    hears(other, b"hello")


def test_a_connection_on_which_the_instance_is_about_to_speak_is_not_unused(
    balancer: Balancer, pair: Pair
) -> None:
    """A greeting that lies in the kernel when the look comes: another's would be another."""
    client, server = pair
    (connection,) = balancer._connections
    drain = gevent.spawn(balancer.drain, "web-1", PATIENCE)
    gevent.sleep(0)
    server.send(b"220 welcome")
    arrives(connection.upstream)
    balancer.sweep()
    hears(client, b"220 welcome")
    drain.kill()


# In slices


#: Connections: of several slices, where each look at the clock ends one.
MANY = 100


@pytest.fixture
def crowd(balancer: Balancer, instances: "List[socket.socket]") -> "Iterator[List[socket.socket]]":
    """Clients of the first instance, all of them connected; nothing sweeps by itself."""
    balancer._sweep_timer.stop()
    instances[0].listen(MANY)
    balancer.up("web-1", *instances[0].getsockname())
    assert balancer.address is not None
    clients = []
    for number in range(MANY):
        clients.append(socket.create_connection(balancer.address))
        with gevent.Timeout(PATIENCE):
            while balancer.status().open <= number:
                gevent.sleep(0.001)
    yield clients
    for client in clients:
        client.close()


def until_it_is_over(balancer: Balancer) -> int:
    """How many turns another greenlet had until the sweep was over."""
    turns = 0
    with gevent.Timeout(PATIENCE):
        while balancer.is_sweeping:
            gevent.sleep(1e-6)
            turns += 1
    return turns


def test_others_have_their_turn_during_a_sweep(
    balancer: Balancer, clock: Hands, crowd: "List[socket.socket]"
) -> None:
    clock.now += 5
    clock.step = SLICE_SECONDS
    balancer.sweep()
    assert balancer.is_sweeping and not all(each.is_idle for each in balancer._connections)
    assert until_it_is_over(balancer) >= 5
    assert all(each.is_idle for each in balancer._connections)
    assert balancer.status().open == MANY
    clock.now += 10
    balancer.sweep()
    until_it_is_over(balancer)
    assert balancer.status().open == 0


def test_there_is_one_sweep_at_a_time(
    balancer: Balancer, clock: Hands, crowd: "List[socket.socket]"
) -> None:
    clock.step = SLICE_SECONDS
    balancer.sweep()
    left = len(balancer._connections._sweep._left)
    balancer.sweep()
    assert len(balancer._connections._sweep._left) == left > 0
    until_it_is_over(balancer)


def test_connections_may_end_and_begin_during_a_sweep(
    balancer: Balancer, clock: Hands, crowd: "List[socket.socket]"
) -> None:
    clock.now += 5
    clock.step = SLICE_SECONDS
    balancer.sweep()
    for client in crowd[::2]:
        client.close()
    assert balancer.address is not None
    with socket.create_connection(balancer.address):
        until_it_is_over(balancer)
        with gevent.Timeout(PATIENCE):
            while balancer.status().accepted == MANY:
                gevent.sleep(0.001)
        clock.now += 1
        balancer.sweep()
        until_it_is_over(balancer)
        backend = balancer.backend_status("web-1")
        assert backend is not None
        assert backend.open == balancer.status().open > MANY // 2


def test_a_sweep_that_found_no_memory_goes_on_later(
    balancer: Balancer, clock: Hands, crowd: "List[socket.socket]"
) -> None:
    clock.now += 20
    clock.step = SLICE_SECONDS
    balancer.sweep()
    usual = balancer._connections.sweep_slice
    failures = [MemoryError()]

    def fails_once() -> None:
        if failures:
            raise failures.pop()
        usual()

    balancer._connections.sweep_slice = fails_once  # type: ignore[method-assign]
    with gevent.Timeout(PATIENCE):
        while failures:
            gevent.sleep(0.001)
    assert balancer.is_sweeping
    balancer.sweep()
    until_it_is_over(balancer)
    assert balancer.status().open == 0


def test_a_balancer_may_close_during_a_sweep(
    balancer: Balancer, clock: Hands, crowd: "List[socket.socket]"
) -> None:
    clock.step = SLICE_SECONDS
    balancer.sweep()
    assert balancer.is_sweeping
    balancer.close()
    assert not balancer.is_sweeping
    balancer.sweep()
    gevent.sleep(0.01)
    assert balancer.status().open == 0
