"""Clients and instances come and go at random: whoever can be served is, and the books balance."""

import socket
from typing import Any, Dict, Iterator, List

import pytest
from hypothesis import Phase, given, settings, strategies as st

from peers import SCALE, Instance, Peer, Proxy, eventually, setting, started

pytest_plugins = ["stages"]

INSTANCES = 3

#: What may happen, and to which one.
EVENTS = [
    "a client comes", "a client comes", "two clients come", "a client leaves", "a client finishes",
    "an instance comes up", "an instance comes up", "an instance exits", "an instance drains",
    "an instance is forgotten", "an instance stops listening", "an instance listens again",
    "an instance accepts", "an instance resets someone", "an instance answers everyone",
    "one connection each", "two connections each", "no limit", "another strategy",
]  # fmt: skip


class Town:
    """Some clients, some instances, and a balancer between them."""

    def __init__(self, proxy: Proxy, stage: Any) -> None:
        self.proxy = proxy
        self.stage = stage
        stage.listens()
        self.instances: List[Instance] = [stage.instance() for _ in range(INSTANCES)]
        self.listening = dict.fromkeys(range(INSTANCES), True)
        self.clients: List[Peer] = []
        self.servers: List[Peer] = []

    def happens(self, event: str, which: int) -> None:
        getattr(self, event.replace(" ", "_"))(which)

    def a_client_comes(self, which: int) -> None:
        client = self.stage.client()
        if which % 3:
            client.says(b"hello")
        self.clients.append(client)

    def two_clients_come(self, which: int) -> None:
        with self.proxy.frozen():
            self.a_client_comes(which)
            self.a_client_comes(which + 1)

    def a_client_leaves(self, which: int) -> None:
        if self.clients:
            client = self.clients.pop(which % len(self.clients))
            client.resets() if which % 2 else client.leaves()

    def a_client_finishes(self, which: int) -> None:
        if self.clients:
            try:
                self.clients[which % len(self.clients)].finishes()
            except OSError:
                pass

    def an_instance_comes_up(self, which: int) -> None:
        self.one(which).comes_up()

    def an_instance_exits(self, which: int) -> None:
        self.one(which).goes_down()

    def an_instance_drains(self, which: int) -> None:
        self.proxy.call("drain", self.one(which).name, 0)

    def an_instance_is_forgotten(self, which: int) -> None:
        self.proxy.call("remove", self.one(which).name)

    def an_instance_stops_listening(self, which: int) -> None:
        if self.listening[which % INSTANCES]:
            self.one(which).stops_listening()
            self.listening[which % INSTANCES] = False

    def an_instance_listens_again(self, which: int) -> None:
        if not self.listening[which % INSTANCES]:
            self.one(which).listens_again()
            self.listening[which % INSTANCES] = True

    def an_instance_accepts(self, which: int) -> None:
        if self.listening[which % INSTANCES]:
            instance = self.one(which)
            instance.socket.settimeout(0)
            try:
                while True:
                    self.servers.append(self.stage.peer(instance.socket.accept()[0]))
            except BlockingIOError:
                pass

    def an_instance_resets_someone(self, which: int) -> None:
        self.an_instance_accepts(which)
        if self.servers:
            self.servers.pop(which % len(self.servers)).resets()

    def an_instance_answers_everyone(self, which: int) -> None:
        self.an_instance_accepts(which)
        for server in self.servers:
            try:
                server.says(b"welcome")
            except OSError:
                pass

    def one_connection_each(self, which: int) -> None:
        self.stage.is_set(max_connections=1)

    def two_connections_each(self, which: int) -> None:
        self.stage.is_set(max_connections=2)

    def no_limit(self, which: int) -> None:
        self.stage.is_set(max_connections=0)

    def another_strategy(self, which: int) -> None:
        names = ["round-robin", "least-connections", "ip-hash", "least-time"]
        self.stage.is_set(strategy=names[which % len(names)])

    def one(self, which: int) -> Instance:
        return self.instances[which % INSTANCES]

    # What holds

    def is_in_order(self) -> bool:
        """Nobody waits while someone could take him, and everyone is counted once."""
        figures: Dict[str, int] = self.proxy.call("figures")
        if figures["assigned"] != figures["connections"] + figures["attempts"] - self.forgotten():
            return False
        limit = self.stage.settings["max_connections"]
        free = [
            backend for backend in self.stage.status()["backends"]
            if backend["state"] == "up" and (not limit or backend["open"] < limit)
        ]  # fmt: skip
        return not (figures["queue"] and free)

    def forgotten(self) -> int:
        """Connections of instances that are no more: nobody counts them."""
        return self.proxy.call("forgotten")  # type: ignore[no-any-return]

    def everyone_is_served(self) -> None:
        """Once there is a healthy instance."""
        self.no_limit(0)
        self.an_instance_listens_again(0)
        self.instances[0].comes_up()
        self.stage.counts(queue=0)
        eventually(
            lambda: self.stage.status()["open"] >= sum(map(is_open, self.clients)),
            "whoever is still there is connected",
        )

    def everyone_leaves(self) -> None:
        for peer in self.clients + self.servers:
            peer.resets()
        for number in range(INSTANCES):
            self.an_instance_stops_listening(number)
        expected = dict(self.stage.before, descriptors=0)
        eventually(
            lambda: dict(self.proxy.call("figures"), descriptors=0) == expected, "all is left")


def is_open(client: Peer) -> bool:
    """Neither reset nor ended, whatever it has not read yet: TCP_INFO begins with the state."""
    established, fin_wait_1, fin_wait_2 = 1, 4, 5
    state = client.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state in (established, fin_wait_1, fin_wait_2)


@pytest.fixture(scope="module")
def proxy(marked_environment: str) -> "Iterator[Proxy]":
    with started() as proxy:
        yield proxy


@pytest.mark.timeout(180)
def test_whoever_can_be_served_is(proxy: Proxy) -> None:
    events = st.tuples(st.sampled_from(EVENTS), st.integers(0, 11))

    # A failure is a matter of time too: it may not fail again while it shrinks.
    @settings(
        max_examples=max(1, int(40 * SCALE)),
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
    )
    @given(st.lists(events, min_size=5, max_size=40))
    def live(events: "List[Any]") -> None:
        with setting(proxy) as stage:
            town = Town(proxy, stage)
            for event, which in events:
                town.happens(event, which)
                eventually(town.is_in_order, "order, after %s" % event)
            town.everyone_is_served()
            town.everyone_leaves()

    live()
