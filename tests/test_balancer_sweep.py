"""What the sweep finds in the kernel that the relay has not been told of yet.

In this process, so that a test can call the sweep at a moment of its own choice.
"""

import select
import socket
from typing import Any, Iterator, List, Tuple

import gevent
import pytest

from balancer import Balancer, Engine
from listener import Listener
from peers import PATIENCE, Notes, cluster_with

Pair = Tuple[socket.socket, socket.socket]


class Hands:
    """A clock that stands still until it is put forward."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
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
