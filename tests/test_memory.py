"""Memory that has run out: who cannot be served then is told or waits, and all goes on afterwards.

First a real shortage, in a process of its own. Then, piece by piece, everything that the loop calls
in the balancer's half, made to raise in the worst moment.
"""

import errno
import itertools
import os
import select
import socket
import sys
import time
from typing import Any, Callable, Iterator, List

import gevent
import gevent.event
import gevent.socket
import pytest

from backends import DOWN
from balancer import Balancer
from control import ControlServer
from engine import Engine
from listener import Listener
from peers import (
    PATIENCE,
    BalancerStage,
    Notes,
    Peer,
    Unconcerned,
    cluster_with,
    eventually,
    setting,
    started,
)
from poller import EVENTS_A_TURN, Handler, Poller
from pool import Pool

pytest_plugins = ["pollers"]

#: Memory left to a process that is to run out of it, and clients whose answers would take more.
LEFT = 6 << 20
STALLED = 250


@pytest.mark.skipif(sys.version_info < (3, 11), reason=(
    "not to be relied on there: the process may not have the memory to tell that it has none"))
@pytest.mark.timeout(300)
def test_a_balancer_that_had_no_memory_serves_as_before_when_it_has_some() -> None:
    """None at all for some seconds, in which clients come, talk and leave."""
    with started() as proxy, setting(proxy) as stage:
        stage.listens()
        stage.only = stage.instance().comes_up()
        old = [(stage.client(), stage.only.accepts()) for _ in range(20)]
        stage.counts(open=len(old))
        proxy.gorges()
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
        proxy.feeds()
        for peer in clients + [each for pair in old for each in pair]:
            peer.leaves()
        serves_everyone(stage)
        # Where there is not even memory to call a callback of ours, the loop tells of it.
        proxy.forgives("MemoryError")


@pytest.mark.timeout(300)
def test_downloads_for_which_there_is_no_memory_harm_nobody_else() -> None:
    """Those that nobody takes need up to 256 KB each."""
    with started() as proxy, setting(proxy) as stage:
        stage.listens()
        stage.only = stage.instance().comes_up()
        pairs = [(stage.client(), stage.only.accepts()) for _ in range(STALLED)]
        stage.counts(open=STALLED)
        proxy.starves(LEFT)
        for _, server in pairs:
            server.socket.setblocking(False)
        while True:
            writable = select.select([], [server.socket for _, server in pairs], [], 0.5)[1]
            taken = [say(Peer(sock), BLOCK) for sock in writable]
            if not any(taken):
                break
        for client, server in pairs:
            client.leaves()
            server.leaves()
        serves_everyone(stage)
        proxy.forgives("MemoryError")
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


def serves_everyone(stage: BalancerStage) -> None:
    """As soon as memory is free again; and nothing is left of those who came before."""
    # Orders, and whoever comes too early, may be turned away meanwhile.
    eventually(lambda: is_served(stage), "a client is served", 2 * PATIENCE)
    stage.proxy.feeds()
    for _ in range(50):
        eventually(lambda: is_served(stage), "a client is served")
    eventually(lambda: clear(stage), "nothing is left of the others")
    assert stage.only.state() == "up"


def clear(stage: BalancerStage) -> bool:
    stage.only.clears_its_line()
    status = stage.status()
    return bool(status["open"] == status["queue"] == 0)


def is_served(stage: BalancerStage) -> bool:
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


# Piece by piece, in this process

#: Times that a socket is ready again at once: far more than before a timer of 1 ms is due.
ENOUGH = 20000


def wait_until(condition: "Callable[[], Any]") -> None:
    """Let the loop run until the condition holds."""
    with gevent.Timeout(PATIENCE):
        while not condition():
            gevent.sleep(0.005)


class Lossy:
    """An epoll set that finds no memory for what it has taken from the kernel, so many times."""

    def __init__(self, epoll: Any, times: int, room: int = 0) -> None:
        """`room`: for so many at a time there always is some."""
        self.epoll = epoll
        self.times = times
        self.room = room

    def poll(self, timeout: float, most: int) -> Any:
        events = self.epoll.poll(timeout, most)
        if self.times and len(events) > self.room:
            self.times -= 1
            raise MemoryError
        return events

    def __getattr__(self, name: str) -> Any:
        return getattr(self.epoll, name)


class Reader(Handler):
    """A handler that keeps what it reads. `raises` has what to raise instead, once each."""

    wants_writable = False

    def __init__(self, poller: Poller) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.heard = b""
        self.turns = 0
        self.raises: List[BaseException] = []
        poller.watch(self.near.fileno(), self)

    def on_event(self, mask: int) -> None:
        if self.raises:
            raise self.raises.pop()
        self.heard += self.near.recv(100)

    def on_turn(self) -> None:
        if self.raises:
            raise self.raises.pop()
        self.turns += 1

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture
def readers(poller: Poller) -> "Iterator[List[Reader]]":
    readers = [Reader(poller) for _ in range(10)]
    yield readers
    for reader in readers:
        reader.close()


@pytest.mark.parametrize("times", [1, 3])
def test_events_that_were_lost_are_told_again(
    poller: Poller, readers: "List[Reader]", times: int
) -> None:
    """Edges come once: what the kernel has told, it does not tell again by itself."""
    poller._epoll = Lossy(poller._epoll, times)  # type: ignore[assignment]
    for reader in readers:
        reader.far.send(b"x")
    wait_until(lambda: all(reader.heard == b"x" for reader in readers))
    readers[0].far.send(b"y")
    wait_until(lambda: readers[0].heard == b"xy")


def test_where_memory_is_short_for_long_events_are_served_one_by_one(
    poller: Poller, readers: "List[Reader]"
) -> None:
    """Otherwise nobody is served who gives memory back, and so there is never more."""
    poller._epoll = Lossy(poller._epoll, 10 ** 9, 1)  # type: ignore[assignment]
    for reader in readers:
        reader.far.send(b"x")
    wait_until(lambda: all(reader.heard == b"x" for reader in readers))


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, "no"), ValueError("bug")])
def test_a_handler_that_raises_is_ended_and_the_others_go_on(
    poller: Poller, readers: "List[Reader]", failed: "List[Any]", error: Exception
) -> None:
    readers[3].raises = [error]
    for reader in readers:
        reader.far.send(b"x")
    others = readers[:3] + readers[4:]
    wait_until(lambda: all(reader.heard == b"x" for reader in others))
    assert failed == [readers[3]]
    # It may have lost bytes, so it gets no more.
    readers[3].far.send(b"y")
    readers[4].far.send(b"y")
    wait_until(lambda: readers[4].heard == b"xy")
    assert readers[3].heard == b""


def test_one_that_fails_while_it_tells_of_a_failure_ends_nobody_else(
    capsys: "pytest.CaptureFixture[str]"
) -> None:
    def fails_too(handler: Any) -> None:
        raise MemoryError

    poller = Poller(fails_too)
    readers = [Reader(poller) for _ in range(5)]
    readers[1].raises = [MemoryError(), MemoryError()]
    poller.call_soon(readers[1])
    for reader in readers:
        poller.call_soon(reader)
        reader.far.send(b"x")
    others = readers[:1] + readers[2:]
    wait_until(lambda: all(reader.heard == b"x" and reader.turns for reader in others))
    for reader in readers:
        reader.close()
    poller.close()
    assert "MemoryError" in capsys.readouterr().err


def test_what_has_been_stopped_or_lost_by_the_loop_goes_on(
    poller: Poller, readers: "List[Reader]"
) -> None:
    """The call of a callback needs memory as well: then gevent stops the watcher, or forgets the
    call, and none of ours has run."""
    poller._watcher.stop()
    poller._soon[readers[0]] = None
    readers[1].far.send(b"x")
    wait_until(lambda: readers[1].heard == b"x" and readers[0].turns == 1)


def test_who_asks_for_a_turn_twice_has_it_once(
    poller: Poller, readers: "List[Reader]"
) -> None:
    """Otherwise who is told of events faster than it has its turns would have ever more of them,
    and everybody else would wait for that."""
    for reader in (readers[0], readers[0], readers[1]):
        poller.call_soon(reader)
    wait_until(lambda: readers[1].turns == 1)
    assert readers[0].turns == 1


def test_a_turn_has_an_end_though_sockets_are_always_ready(
    poller: Poller
) -> None:
    """What else waits for the loop has its turn, too: a timer here."""
    class Eager(Reader):
        def on_event(self, mask: int) -> None:
            if not any(reader.turns for reader in readers):
                for timer in timers:
                    timer.start(lambda: at.append(sum(reader.turns for reader in readers)))
            self.turns += 1
            self.near.recv(100)
            if self.turns < ENOUGH:
                self.far.send(b"x")

    readers: List[Reader] = [Eager(poller) for _ in range(8)]
    at: List[int] = []
    # Due in the middle of the first turn.
    timers = [gevent.get_hub().loop.timer(0.0) for _ in range(3)]
    for reader in readers:
        reader.far.send(b"x")
    wait_until(lambda: len(at) == 3)
    for timer in timers:
        timer.close()
    for reader in readers:
        poller.forget(reader.near.fileno())
        reader.close()
    # Not when all that is to come has come.
    assert at[0] < len(readers) * ENOUGH and EVENTS_A_TURN < ENOUGH


# The balancer


@pytest.fixture
def lines() -> "List[str]":
    return []


@pytest.fixture
def balancer(lines: "List[str]") -> "Iterator[Balancer]":
    engine = Engine(lines.append)
    balancer = Balancer("web", cluster_with(), engine, Notes(lines))
    balancer.take_over(Listener("127.0.0.1", 0, lines.append, time.monotonic))
    yield balancer
    balancer.close()
    engine.close()


@pytest.fixture
def instance() -> "Iterator[socket.socket]":
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        listener.setblocking(False)
        yield listener


def knock(balancer: Balancer) -> socket.socket:
    assert balancer.address is not None
    client = socket.create_connection(balancer.address)
    client.setblocking(False)
    return client


def raise_once(thing: Any, name: str, error: BaseException) -> None:
    """Its next call raises that, and those after it do what they always did."""
    usual = getattr(thing, name)

    def fails(*words: Any) -> Any:
        setattr(thing, name, usual)
        raise error

    setattr(thing, name, fails)


@pytest.mark.parametrize("error", [MemoryError(), ValueError("bug")])
@pytest.mark.parametrize("part", ["admit", "sweep", "watcher"])
def test_the_balancer_goes_on(
    balancer: Balancer, instance: socket.socket, part: str, error: Exception
) -> None:
    balancer.up("web-1", *instance.getsockname())
    listener: Any = balancer.listener
    if part == "admit":
        raise_once(listener._admitter, "admit", error)
    elif part == "sweep":
        raise_once(balancer._connections, "sweep_slice", error)
        balancer.sweep()
    else:
        listener._watcher.stop()
    first = knock(balancer)
    second = knock(balancer)
    wait_until(lambda: is_readable(instance))
    first.close()
    second.close()


def is_readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


def test_a_backend_is_given_back_when_its_socket_cannot_be_watched(
    balancer: Balancer, instance: socket.socket, lines: "List[str]"
) -> None:
    """epoll_ctl(2), ENOSPC: the limit of watches of a user. For each of the calls there may be."""
    balancer.up("web-1", *instance.getsockname())
    poller: Any = balancer._connections.poller
    usual = poller.watch
    for good in range(3):
        left = [good]

        def watch(fileno: int, handler: Any, left: "List[int]" = left) -> None:
            if not left[0]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            left[0] -= 1
            usual(fileno, handler)

        poller.watch = watch
        client = knock(balancer)
        accepted = good + 1
        wait_until(lambda: balancer.status().accepted == accepted)  # noqa: B023
        (backend,) = [each.status() for each in balancer._pool]
        assert backend.open == balancer.status().open == (1 if good == 2 else 0)
        client.close()
    poller.watch = usual
    assert any("no space left" in line for line in lines)


def test_a_drain_waits_for_nobody_who_could_not_be_counted_out(
    balancer: Balancer, instance: socket.socket
) -> None:
    """Between the end of a connection and its counting memory may run out."""
    balancer.up("web-1", *instance.getsockname())
    (backend,) = balancer._pool
    client = knock(balancer)
    wait_until(lambda: balancer.status().open == 1)
    backend.open += 2
    drain = gevent.spawn(balancer.drain, "web-1", PATIENCE)
    wait_until(lambda: backend.state == "draining")
    balancer.sweep()
    assert backend.open == 1 and not drain.ready()
    client.close()
    instance.accept()[0].close()
    wait_until(lambda: not backend.open)
    drain.join(PATIENCE / 2)
    assert drain.ready()


def test_who_waits_for_the_last_connection_is_told_though_memory_was_short_then(
    balancer: Balancer, instance: socket.socket
) -> None:
    balancer.up("web-1", *instance.getsockname())
    (backend,) = balancer._pool
    client = knock(balancer)
    wait_until(lambda: balancer.status().open == 1)
    drain = gevent.spawn(balancer.drain, "web-1", 2 * PATIENCE)
    wait_until(lambda: backend.state == "draining")
    backend.emptied, told = gevent.event.Event(), backend.emptied
    client.close()
    instance.accept()[0].close()
    wait_until(lambda: not backend.open)
    backend.emptied = told
    assert not drain.ready()
    balancer.sweep()
    drain.join(PATIENCE)
    assert drain.ready()


def test_a_backend_is_given_back_when_its_connect_cannot_be_watched(
    balancer: Balancer, instance: socket.socket
) -> None:
    """The same while the connect is under way."""
    instance.listen(0)
    fillers = []
    while True:
        fillers.append(socket.socket())
        fillers[-1].setblocking(False)
        fillers[-1].connect_ex(instance.getsockname())
        if not select.select([], fillers[-1:], [], 0.2)[1]:
            break
    balancer.up("web-1", *instance.getsockname())
    poller: Any = balancer._connections.poller

    def watch_both_ways(fileno: int, handler: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    poller.watch_both_ways = watch_both_ways
    client = knock(balancer)
    wait_until(lambda: is_readable(client))
    assert client.recv(1) == b""
    (backend,) = [each.status() for each in balancer._pool]
    assert (backend.open, balancer.status().queue) == (0, 0)
    for each in [*fillers, client]:
        each.close()


# Probes


@pytest.fixture
def pool() -> "Iterator[Pool]":
    pool = Pool(0, time.monotonic, Unconcerned())
    yield pool
    pool.close()


def goes_down(pool: Pool, address: Any) -> Any:
    pool.up("web-1", *address)
    (backend,) = pool
    pool.failed(backend, "connection refused", time.monotonic())
    assert backend.state == DOWN
    return backend


def test_a_probe_that_has_died_is_begun_again(pool: Pool, instance: socket.socket) -> None:
    backend = goes_down(pool, instance.getsockname())
    backend.probe.kill()
    pool.maintain()
    wait_until(lambda: backend.state == "up")


def test_a_probe_that_runs_is_the_only_one(pool: Pool, instance: socket.socket) -> None:
    backend = goes_down(pool, instance.getsockname())
    probe = backend.probe
    pool.maintain()
    gevent.sleep(0)
    pool.maintain()
    assert backend.probe is probe
    wait_until(lambda: backend.state == "up")


def test_a_probe_brings_nobody_up_who_has_stopped_meanwhile(
    pool: Pool, instance: socket.socket
) -> None:
    """The answer comes while the instance is stopped, or has been started anew and failed."""
    asked, answer = gevent.event.Event(), gevent.event.Event()

    def answers(*_: Any) -> bool:
        asked.set()
        answer.wait()
        return True

    pool._answers = answers  # type: ignore[method-assign, assignment]
    backend = goes_down(pool, instance.getsockname())
    with gevent.Timeout(PATIENCE):
        asked.wait()
        pool.down("web-1")
        answer.set()
        backend.probe.join()
    assert backend.state == "absent" and pool.available == ()


# The control socket


def test_commands_are_accepted_again_whatever_has_ended_it(
    instance: socket.socket, capsys: "pytest.CaptureFixture[str]"
) -> None:
    met: List[Any] = []
    listener = gevent.socket.socket(fileno=os.dup(instance.fileno()))
    server = ControlServer(listener, lambda *w: met.append(w))
    server.start()
    try:
        for number in range(3):
            if number == 1:
                server._watcher.stop()
            if number == 2:
                server.stop_accepting()
            client = socket.create_connection(instance.getsockname())
            wait_until(lambda: len(met) == number + 1)  # noqa: B023
            client.close()
    finally:
        server.close()
        server.close()
    for connection, _ in met:
        connection.close()
