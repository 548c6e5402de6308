"""The calls that move bytes inside the kernel, and the pipes that are lent for it."""

import errno
import os
import resource
import select
import socket
import time
from contextlib import ExitStack, contextmanager
from typing import Callable, Iterator, List, Tuple

import pytest

import splicing
from peers import PATIENCE, Aside, setting, started
from splicing import CHUNK, MOST_PIPES, PIPE_BYTES, SPARE_PIPES, Pipe, Pipes, at_urgent_byte

pytest_plugins = ["stages"]

Move = Callable[[int, int, int], int]
MOVES = {
    name: move
    for name, move in (("os", splicing._from_os()), ("libc", splicing._from_libc()))
    if move is not None
}


@pytest.fixture(params=list(MOVES))
def move(request: "pytest.FixtureRequest") -> Move:
    return MOVES[request.param]


@pytest.fixture
def pipe() -> "Iterator[Pipe]":
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def pair() -> "Iterator[Tuple[socket.socket, socket.socket]]":
    """Two ends of one TCP connection, that do not block."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        with socket.create_connection(listener.getsockname()) as one, listener.accept()[0] as two:
            one.setblocking(False)
            two.setblocking(False)
            yield one, two


Pair = Tuple[socket.socket, socket.socket]


def wait(sock: socket.socket) -> None:
    assert select.select([sock], [], [], PATIENCE)[0]


def test_there_is_a_way_to_splice_on_this_machine() -> None:
    assert "libc" in MOVES and ("os" in MOVES) == hasattr(os, "splice")
    assert splicing.splice is not splicing._nowhere


def test_bytes_move_from_socket_to_socket(move: Move, pair: Pair, pipe: Pipe) -> None:
    source, sink = pair
    sink.sendall(b"around")
    wait(source)
    assert move(source.fileno(), pipe.writer, CHUNK) == 6
    assert move(pipe.reader, source.fileno(), 6) == 6
    wait(sink)
    assert sink.recv(100) == b"around"


def test_nothing_there_is_an_error_and_not_a_wait(move: Move, pair: Pair, pipe: Pipe) -> None:
    with pytest.raises(BlockingIOError):
        move(pair[0].fileno(), pipe.writer, CHUNK)
    with pytest.raises(BlockingIOError):
        move(pipe.reader, pair[0].fileno(), CHUNK)


def test_no_room_is_an_error_and_not_a_wait(move: Move, pair: Pair, pipe: Pipe) -> None:
    source, sink = pair
    with pytest.raises(BlockingIOError):
        while True:
            sink.send(bytes(100000))
    moved = []
    with pytest.raises(BlockingIOError):
        while True:
            moved.append(move(source.fileno(), pipe.writer, CHUNK))
    assert max(moved) <= CHUNK


def test_the_end_of_a_stream_is_nothing_moved(move: Move, pair: Pair, pipe: Pipe) -> None:
    pair[0].close()
    wait(pair[1])
    assert move(pair[1].fileno(), pipe.writer, CHUNK) == 0


def test_a_dead_reader_is_an_error(move: Move, pair: Pair, pipe: Pipe) -> None:
    os.write(pipe.writer, b"to whom it may concern")
    pair[1].shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenPipeError):
        move(pipe.reader, pair[1].fileno(), 10)


def test_what_cannot_be_spliced_is_told_as_such(move: Move, pair: Pair) -> None:
    with pytest.raises(OSError) as failure:
        move(pair[0].fileno(), pair[1].fileno(), 10)
    assert failure.value.errno == errno.EINVAL
    with pytest.raises(OSError) as failure:
        splicing._nowhere(0, 1, 10)
    assert failure.value.errno == errno.ENOSYS


def test_an_urgent_byte_is_seen_where_splice_stops(move: Move, pair: Pair, pipe: Pipe) -> None:
    source, sink = pair
    sink.send(b"before")
    sink.send(b"!", socket.MSG_OOB)
    sink.send(b"after")
    wait(source)
    assert select.select([], [], [source], PATIENCE)[2]
    assert not at_urgent_byte(source.fileno())
    assert move(source.fileno(), pipe.writer, CHUNK) == 6
    with pytest.raises(BlockingIOError):
        move(source.fileno(), pipe.writer, CHUNK)
    assert at_urgent_byte(source.fileno())
    wait(source)
    assert source.recv(100) == b"after"


# Pipes


@pytest.fixture
def pipes() -> "Iterator[Pipes]":
    pipes = Pipes(time.monotonic)
    yield pipes
    pipes.close()
    pipes.close()


def borrow(pipes: Pipes, count: int) -> "List[Pipe]":
    borrowed = [pipes.borrow() for _ in range(count)]
    assert None not in borrowed
    return borrowed  # type: ignore[return-value]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_pipe_that_comes_back_empty_is_lent_again(pipes: Pipes) -> None:
    (pipe,) = borrow(pipes, 1)
    assert pipes._lent == 1
    pipes.give_back(pipe)
    assert pipes._lent == 0 and pipes.borrow() is pipe
    pipe.close()


def test_a_pipe_that_still_holds_bytes_is_thrown_away(pipes: Pipes) -> None:
    before = descriptors()
    (pipe,) = borrow(pipes, 1)
    os.write(pipe.writer, b"remains")
    pipe.held = 7
    pipes.give_back(pipe)
    assert descriptors() == before
    (fresh,) = borrow(pipes, 1)
    with pytest.raises(BlockingIOError):
        os.read(fresh.reader, 10)
    fresh.close()


def test_no_more_are_lent_than_there_may_be_and_few_are_kept(pipes: Pipes) -> None:
    before = descriptors()
    borrowed = borrow(pipes, MOST_PIPES)
    assert pipes.borrow() is None and pipes._lent == MOST_PIPES
    for pipe in borrowed:
        pipes.give_back(pipe)
    assert pipes._lent == 0 and descriptors() == before + 2 * SPARE_PIPES
    pipes.close()
    assert descriptors() == before


def test_a_pipe_is_as_large_as_it_is_asked_to_be(pipe: Pipe) -> None:
    import fcntl

    assert fcntl.fcntl(pipe.writer, 1032) == PIPE_BYTES


def test_a_pipe_that_is_too_small_is_closed(
    pipes: Pipes, monkeypatch: "pytest.MonkeyPatch"
) -> None:
    """The kernel gives no more to a user who has many: the buffer does as well as a small pipe."""
    before = descriptors()
    monkeypatch.setattr(splicing, "_LEAST_BYTES", 2 * PIPE_BYTES)
    for _ in range(3):
        with pytest.raises(OSError):
            Pipe()
    assert pipes.borrow() is None and pipes._lent == 0
    assert descriptors() == before


def test_after_a_refusal_none_is_lent(pipes: Pipes) -> None:
    pipes.refuse()
    assert pipes.borrow() is None and pipes._lent == 0


def test_without_descriptors_none_is_lent_and_none_is_lost(pipes: Pipes) -> None:
    with limit_of_descriptors(descriptors() + 20), ExitStack() as hoard:
        while True:
            try:
                hoard.callback(os.close, os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        before = descriptors_without_listing()
        assert pipes.borrow() is None and pipes._lent == 0
        assert descriptors_without_listing() == before


def test_after_a_shortage_more_are_asked_for_in_time() -> None:
    now = [1000.0]
    pipes = Pipes(lambda: now[0])
    (pipe,) = borrow(pipes, 1)
    with limit_of_descriptors(descriptors()):
        assert pipes.borrow() is None
    now[0] += 30
    assert pipes.borrow() is None
    now[0] += 31
    borrowed = borrow(pipes, MOST_PIPES - 1)
    assert pipes.borrow() is None
    for each in [pipe, *borrowed]:
        pipes.give_back(each)
    pipes.close()


@contextmanager
def limit_of_descriptors(count: int) -> "Iterator[None]":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def descriptors_without_listing() -> int:
    """Where there is none left to list a folder with."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sum(is_open(number) for number in range(limit))


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


# In the relay


def test_where_the_kernel_cannot_splice_the_buffer_takes_over() -> None:
    """In the middle of a transfer, without a byte lost."""
    much = os.urandom(1 << 20) * 8
    with started("--splice", "broken") as proxy, setting(proxy) as stage:
        for _ in range(2):
            client, server = stage.meet()
            sending = Aside(client.has_its_say, much)
            server.hears(much).hears_the_end()
            sending.is_done()
        assert proxy.call("loans") == 1
        assert stage.figures()["pipes_lent"] == 0


def test_a_pipe_whose_bytes_could_not_be_counted_is_not_lent_again() -> None:
    """They have been moved, and then there was no memory for the number: the next client would
    get what was meant for another."""
    one, other = os.urandom(1 << 20) * 8, os.urandom(1 << 20) * 8
    with started("--splice", "forgetful", "--buffer", "16384") as proxy:
        with setting(proxy) as stage:
            client, server = stage.meet()
            sending = Aside(say_what_is_taken, client.socket, one)
            heard = what_comes(server.socket)
            sending.is_done()
            assert heard != one and one.startswith(heard)
        with setting(proxy) as stage:
            client, server = stage.meet()
            sending = Aside(client.has_its_say, other)
            server.hears(other).hears_the_end()
            sending.is_done()
            assert proxy.call("loans") >= 2


def say_what_is_taken(sock: socket.socket, what: bytes) -> None:
    try:
        sock.sendall(what)
    except OSError:
        pass  # it was ended


def what_comes(sock: socket.socket) -> bytes:
    """Until it ends, in whatever way."""
    heard = bytearray()
    try:
        while True:
            data = sock.recv(1 << 16)
            if not data:
                break
            heard += data
    except OSError:
        pass
    return bytes(heard)
