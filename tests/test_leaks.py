"""Ten thousand connections, ended in every phase of their life: nothing of them is left.

`pytest -s tests/test_leaks.py` prints the figures.
"""

import json
import socket
import sys
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest

from peers import FOREVER, SCALE, BalancerStage, Instance, Peer, eventually, setting, started

pytest_plugins = ["stages"]

#: Older interpreters take part with fewer.
CONNECTIONS = int((10000 if sys.version_info >= (3, 11) else 1000) * SCALE)
#: Open at a time.
BATCH = 100
#: What the process may grow by in a round: the allocator's own.
GROWTH = 1500 * 1024
#: A round that has grown by more is repeated: what leaks does so each time, and the allocator's
#: holes are filled sooner or later.
ROUNDS = 3

#: Small buffers, the balancer's and the kernel's, so that little blocks a transfer. A batch takes
#: more pipes than there are, so half of it is blocked in a pipe and half in memory.
SMALL = ("--buffer", "4096", "--sockets", "16384", "--by-hand")
BLOCKING = bytes(300000)

Pair = Tuple[Peer, Peer]


class Round:
    """All phases, a number of connections in each."""

    def __init__(self, stage: BalancerStage) -> None:
        self.stage = stage
        self.instance = stage.instance().comes_up()
        self.instance.socket.settimeout(10)
        self.opened = 0
        self.most_lent = 0

    # Ways to begin

    def clients(self, count: int) -> "List[Peer]":
        self.opened += count
        clients = []
        for _ in range(count):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            sock.settimeout(10)
            sock.connect(self.stage.common)
            clients.append(Peer(sock))
        return clients

    def pairs(self, count: int) -> "Iterator[Pair]":
        clients = self.clients(count)
        servers = [Peer(self.instance.socket.accept()[0]) for _ in clients]
        eventually(lambda: self.stage.status()["open"] == count, "the connections")
        return zip(clients, servers)

    def talking(self, count: int) -> "List[Pair]":
        """In the middle of a request."""
        pairs = list(self.pairs(count))
        for client, _ in pairs:
            client.says(b"question")
        # The one that was first to come is not always the first to get through.
        for _, server in pairs:
            server.hears(b"question")
        return pairs

    def blocked(self, count: int) -> "List[Pair]":
        """In the middle of an answer that is not read, in a pipe or in memory."""
        pairs = list(self.pairs(count))
        for _, server in pairs:
            server.socket.setblocking(False)
            try:
                while True:
                    server.socket.send(BLOCKING)
            except BlockingIOError:
                pass
        eventually(lambda: self.stage.proxy.call("held") > 0, "the answers are blocked")
        self.most_lent = max(self.most_lent, self.stage.figures()["pipes_lent"])
        return pairs

    # The way to end

    def all_have_gone(self) -> None:
        """Nobody is in the balancer, on the way into it, or in the line of the instance."""

        def gone() -> bool:
            everyone = self.stage.status()["accepted"] == self.opened
            figures = self.stage.figures()
            # Last, for it is the balancer that makes the line longer.
            self.instance.clears_its_line()
            return everyone and not any(
                figures[each] for each in ("connections", "attempts", "queue"))

        eventually(gone, "all have gone")

    # Phases

    def right_after_connect(self, count: int) -> None:
        for number, client in enumerate(self.clients(count)):
            client.resets() if number % 2 else client.leaves()

    def in_the_queue(self, count: int) -> None:
        self.instance.goes_down()
        clients = self.clients(count)
        for number, client in enumerate(clients):
            if number % 2:
                client.says(b"never mind")
        self.stage.counts(queue=count)
        for number, client in enumerate(clients):
            client.leaves() if number % 4 == 0 else client.resets()
        self.all_have_gone()
        self.instance.comes_up()

    def in_the_queue_for_too_long(self, count: int) -> None:
        self.instance.goes_down()
        self.stage.is_set(queue_timeout=0.1, queue_limit=count // 2)
        clients = self.clients(count)
        self.stage.counts(queue=count // 2)
        self.stage.proxy.call("put_forward", 1)
        for client in clients:
            client.is_sent_away()
            client.leaves()
        self.all_have_gone()
        self.stage.is_set(queue_timeout=10.0, queue_limit=1024)
        self.instance.comes_up()

    def connecting(self, count: int) -> None:
        clogged = self.only_a_clogged_one()
        clients = self.clients(count)
        for number, client in enumerate(clients):
            if number % 2:
                client.says(b"never mind")
        eventually(lambda: self.stage.figures()["attempts"] == count, "they are connecting")
        for client in clients:
            client.resets()
        self.all_have_gone()
        self.the_usual_one_again(clogged)

    def connecting_for_too_long(self, count: int) -> None:
        clogged = self.only_a_clogged_one()
        self.stage.is_set(connect_timeout=0.1)
        clients = self.clients(count)
        eventually(lambda: self.stage.figures()["attempts"] == count, "they are connecting")
        self.stage.proxy.call("put_forward", 1)
        self.stage.counts(queue=count)
        for client in clients:
            client.resets()
        self.all_have_gone()
        self.stage.is_set(connect_timeout=2.0)
        self.the_usual_one_again(clogged)

    def only_a_clogged_one(self) -> Instance:
        self.instance.goes_down()
        clogged = self.stage.instance().comes_up()
        clogged.clogs()
        return clogged

    def the_usual_one_again(self, clogged: Instance) -> None:
        self.stage.proxy.call("remove", clogged.name)
        clogged.stops_listening()
        self.instance.comes_up()

    def in_a_request(self, count: int) -> None:
        for number, (client, server) in enumerate(self.talking(count)):
            client.resets() if number % 2 else server.resets()
            (server if number % 2 else client).leaves()

    def in_an_answer(self, count: int) -> None:
        for number, (client, server) in enumerate(self.blocked(count)):
            client.resets() if number % 2 else server.resets()
            (server if number % 2 else client).leaves()

    def in_an_upload(self, count: int) -> None:
        for client, server in self.blocked(count):
            # Closed with bytes unread: the kernel resets.
            client.leaves()
            server.leaves()

    def half_closed(self, count: int) -> None:
        for number, (client, server) in enumerate(self.talking(count)):
            one, other = (client, server) if number % 2 else (server, client)
            one.finishes()
            other.hears_the_end()
            one.resets() if number % 4 < 2 else other.resets()
            (other if number % 4 < 2 else one).leaves()

    def finished(self, count: int) -> None:
        for client, server in self.talking(count):
            server.says(b"answer").finishes()
            client.hears(b"answer").hears_the_end().leaves()
            server.hears_the_end().leaves()

    def timed_out(self, count: int) -> None:
        """Some idle, some half-closed."""
        self.stage.is_set(idle_timeout=0.5, half_close_timeout=0.5)
        pairs = self.talking(count)
        for client, server in pairs[::2]:
            client.finishes()
            server.hears_the_end()
        self.stage.time_passes(3)
        for client, server in pairs:
            client.is_sent_away()
            client.leaves()
            server.leaves()
        self.stage.is_set(idle_timeout=3600.0, half_close_timeout=60.0)

    def at_a_drained_instance(self, count: int) -> None:
        pairs = self.talking(count)
        drained = self.stage.proxy.start("drain", self.instance.name, FOREVER)
        for _, server in pairs:
            server.has_its_say(b"answer")
        for client, server in pairs:
            client.hears(b"answer").hears_the_end().leaves()
            server.leaves()
        self.stage.proxy.answer(drained)
        self.instance.comes_up()

    def at_an_instance_that_dies(self, count: int) -> None:
        """Unused connections: their clients are taken on, into the queue here."""
        pairs = list(self.pairs(count))
        with self.stage.proxy.frozen():
            for _, server in pairs:
                server.resets()
            down = self.stage.proxy.start("down", self.instance.name)
        self.stage.proxy.answer(down)
        self.stage.counts(queue=count)
        for client, _ in pairs:
            client.resets()
        self.all_have_gone()
        self.instance.comes_up()


#: With their shares: of those for which time is waited, there are few batches.
PHASES: Dict[Any, int] = {
    Round.right_after_connect: 18,
    Round.in_the_queue: 12,
    Round.in_the_queue_for_too_long: 4,
    Round.connecting: 6,
    Round.connecting_for_too_long: 4,
    Round.in_a_request: 16,
    Round.in_an_answer: 6,
    Round.in_an_upload: 4,
    Round.half_closed: 12,
    Round.finished: 12,
    Round.timed_out: 1,
    Round.at_a_drained_instance: 1,
    Round.at_an_instance_that_dies: 4,
}


def play(all_phases: Round, connections: int) -> None:
    """All phases in batches, their order as above."""
    for phase, share in PHASES.items():
        left = max(4, connections * share // sum(PHASES.values()))
        while left > 0:
            phase(all_phases, min(left, BATCH))
            left -= BATCH
            all_phases.all_have_gone()


@pytest.mark.timeout(300)
def test_nothing_is_left_of_ten_thousand_connections(
    record_property: "Callable[[str, object], None]"
) -> None:
    with started(*SMALL) as proxy, setting(proxy) as stage:
        stage.listens()
        all_phases = Round(stage)
        play(all_phases, CONNECTIONS // 10)
        before = settled(stage)
        after, grown = before, GROWTH
        for _ in range(ROUNDS):
            memory = proxy.call("memory")
            play(all_phases, CONNECTIONS)
            after, grown = settled(stage), proxy.call("memory") - memory
            if grown < GROWTH:
                break
        figures = {
            "connections": all_phases.opened,
            "accepted": stage.status()["accepted"],
            "pipes lent at most": all_phases.most_lent,
            "before": before,
            "after": after,
            "resident bytes": memory,
            "grown by": grown,
            "cpu seconds": round(proxy.cpu_seconds(), 1),
        }
        print(json.dumps(figures))
        record_property("leaks", json.dumps(figures))
        assert all_phases.opened > CONNECTIONS and all_phases.most_lent > 0
        assert after == before
        assert grown < GROWTH


def settled(stage: BalancerStage) -> "Dict[str, int]":
    """The figures once nothing moves. Spare pipes stay open, so those are left out."""
    figures = stage.figures()

    def same() -> bool:
        nonlocal figures
        before, figures = figures, stage.figures()
        return before == figures and not figures["connections"]

    eventually(same, "the figures settle")
    figures["descriptors"] -= 2 * stage.proxy.call("spare_pipes")
    return figures

