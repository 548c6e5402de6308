"""Memory that has run out: who cannot be served then is told or waits, and all goes on afterwards.

First a real shortage, in a process of its own. Then, piece by piece, everything that the loop calls
in the balancer's half, made to raise in the worst moment.
"""

import gc
import itertools
import os
import select
import socket
import time
from typing import Any, Callable, Iterator, List, Tuple

import gevent
import pytest

from backends import DOWN
from balancer import Balancer, Engine, Settings
from control import Control
from peers import PATIENCE, SETTINGS, Peer, Stage, eventually, setting, started
from poller import KEEP_EVERY, Poller
from pool import Pool

#: Memory left to a process that is to run out of it, and clients whose answers would take more.
LEFT = 6 << 20
STALLED = 250


@pytest.mark.timeout(300)
def test_a_balancer_that_had_no_memory_serves_as_before_when_it_has_some() -> None:
    """None at all for some seconds, in which clients come, talk and leave."""
    with started() as proxy, setting(proxy) as stage:
        stage.listens()
        stage.only = stage.instance().comes_up()
        old = [(stage.client(), stage.only.accepts()) for _ in range(20)]
        stage.counts(open=len(old))
        proxy.call("exhaust", 3)
        end = time.monotonic() + 4
        clients = []
        while time.monotonic() < end:
            try:
                clients.append(stage.client())
            except OSError:
                pass  # turned away at once
            for peer in clients[-1:] + [each for pair in old for each in pair]:
                say(peer)
            time.sleep(0.02)
        for peer in clients + [each for pair in old for each in pair]:
            peer.leaves()
        serves_everyone(stage)


@pytest.mark.timeout(300)
def test_downloads_for_which_there_is_no_memory_harm_nobody_else() -> None:
    """Those that nobody takes need up to 256 KB each."""
    with started() as proxy, setting(proxy) as stage:
        stage.listens()
        stage.only = stage.instance().comes_up()
        pairs = [(stage.client(), stage.only.accepts()) for _ in range(STALLED)]
        stage.counts(open=STALLED)
        proxy.call("starve", LEFT)
        for _, server in pairs:
            server.socket.setblocking(False)
        while True:
            writable = select.select([], [server.socket for _, server in pairs], [], 0.5)[1]
            if not any([say(Peer(sock), BLOCK) for sock in writable]):
                break
        for client, server in pairs:
            client.leaves()
            server.leaves()
        serves_everyone(stage)
        # However many it meets, a shortage is a line a minute.
        assert [line for line in stage.log() if "memory" in line] == [
            "memory has run out: who cannot be served without is cut off"]


BLOCK = bytes(1 << 20)

#: Of the questions.
NUMBERS = itertools.count()


def say(peer: Peer, what: bytes = b"hello") -> bool:
    """Also where nobody may listen any more."""
    try:
        peer.socket.setblocking(False)
        return bool(peer.socket.send(what))
    except OSError:
        return False


def serves_everyone(stage: Stage) -> None:
    """As soon as memory is free again; and nothing is left of those who came before."""
    # Orders, and whoever comes too early, may be turned away meanwhile.
    eventually(lambda: is_served(stage), "a client is served", 2 * PATIENCE)
    stage.proxy.call("feed")
    for _ in range(50):
        eventually(lambda: is_served(stage), "a client is served")
    eventually(lambda: clear(stage), "nothing is left of the others")
    assert stage.only.state() == "up"


def clear(stage: Stage) -> bool:
    while stage.only.socket in select.select([stage.only.socket], [], [], 0)[0]:
        stage.only.socket.accept()[0].close()
    status = stage.status()
    return bool(status["open"] == status["queue"] == 0)


def is_served(stage: Stage) -> bool:
    """One question and its answer. What is left of those who came before is dropped meanwhile."""
    question = b"%08d" % next(NUMBERS)
    try:
        client = stage.client().says(question)
        while True:
            stage.only.socket.settimeout(5)
            server = Peer(stage.only.socket.accept()[0])
            if says(server, question):
                break
            server.leaves()
        client.socket.settimeout(5)
        server.says(b"answer")
        client.hears(b"answer")
        server.leaves()
        client.leaves()
    except (OSError, AssertionError):
        return False
    return True


def says(server: Peer, question: bytes) -> bool:
    server.socket.settimeout(5)
    try:
        return server.socket.recv(len(question)) == question
    except OSError:
        return False
