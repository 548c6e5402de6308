"""What we use of gevent that its documentation does not promise, in one place.

A gevent that changes one of these fails here first, and by its name. Each test says who of ours
needs it.
"""

import os
import socket
import sys
from typing import Any, Iterator, List

import gevent
import gevent.event
import gevent.socket
import pytest
from gevent.lock import Semaphore
from gevent.server import StreamServer
from gevent.subprocess import Popen
from gevent.threadpool import ThreadPool

from supervision import gevent_waits_for_children, wait_until

#: Of an io watcher: readable, as in libev's EV_READ.
READABLE = 1


@pytest.fixture
def loop() -> Any:
    return gevent.get_hub().loop


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> List[Any]:
    """What the hub is told of errors, instead of printing it."""
    found: List[Any] = []
    monkeypatch.setattr(
        gevent.get_hub(), "handle_error", lambda context, *error: found.append(error[1]))
    return found


class Server(StreamServer):
    """Counts its clients in the hub."""

    def __init__(self) -> None:
        listener = gevent.socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(5)
        listener.setblocking(False)
        self.reads = 0
        super().__init__(listener, spawn=None)

    def handle(self, *_: Any) -> None:
        """It must have one."""

    def do_read(self) -> None:
        self.reads += 1
        fileno, _ = self.socket._accept()
        os.close(fileno)


@pytest.fixture
def server() -> Iterator[Server]:
    it = Server()
    it.start()
    yield it
    it.close()


def meet(server: Server) -> None:
    socket.create_connection(server.socket.getsockname(), 10).close()


# Sockets and servers: listener.py, control.py


def test_raw_accept_gives_a_descriptor_and_an_address(server: Server) -> None:
    """Of listener.py: no socket object per client."""
    server.stop_accepting()
    with socket.create_connection(server.socket.getsockname(), 10) as client:
        fileno, address = server.socket._accept()
        assert isinstance(fileno, int) and address == client.getsockname()
        os.close(fileno)
        with pytest.raises(BlockingIOError):
            server.socket._accept()


def test_server_calls_do_read_in_the_hub_for_who_waits(server: Server) -> None:
    """Of listener.py and control.py, which overrule it."""
    meet(server)
    wait_until(lambda: server.reads == 1)


def test_server_accepts_until_it_is_stopped_and_again_when_it_is_started(server: Server) -> None:
    """Of listener.py and control.py, which do both themselves; `started` is not about that."""
    assert server._watcher is not None and server._watcher.active
    server.stop_accepting()
    assert server.started and (server._watcher is None or not server._watcher.active)
    meet(server)
    gevent.sleep(0.05)
    assert server.reads == 0
    # Also where there is nothing to be stopped.
    server.stop_accepting()
    server.start_accepting()
    assert server._watcher.active
    wait_until(lambda: server.reads == 1)


def test_server_names_the_errors_that_end_it() -> None:
    """Of listener.py: EBADF, EINVAL and the like are not of a client."""
    assert all(isinstance(each, int) for each in StreamServer.fatal_errors)


def test_server_takes_as_many_at_once_as_it_is_told_to() -> None:
    """Of control.py, which overrules these."""
    assert isinstance(StreamServer.max_accept, int)
    assert callable(StreamServer.do_close)


# The loop: poller.py, admission.py, child_io.py, concurrency.py


@pytest.mark.parametrize("words, times", [((0.001,), 1), ((0.001, 0.001), 3)])
def test_timer_can_be_made_before_it_is_needed(loop: Any, words: Any, times: int) -> None:
    """Of all that goes on where memory is short: once, or again and again until it is stopped."""
    calls: List[int] = []
    timer = loop.timer(*words)
    assert not timer.active
    timer.start(calls.append, 1)
    assert timer.active
    wait_until(lambda: len(calls) >= times)
    timer.stop()
    assert not timer.active
    timer.close()


def test_timer_goes_on_whatever_its_callback_raises(loop: Any, told: List[Any]) -> None:
    """Of poller.py, whose timer makes up for what a lack of memory has ended."""
    calls: List[int] = []

    def fail() -> None:
        calls.append(1)
        raise MemoryError

    timer = loop.timer(0.001, 0.001)
    timer.start(fail)
    wait_until(lambda: len(calls) >= 2)
    timer.stop()
    timer.close()
    assert told and all(isinstance(each, MemoryError) for each in told)


def test_watcher_of_a_descriptor_calls_back_in_the_hub_while_it_is_readable(loop: Any) -> None:
    """Of child_io.py and poller.py."""
    reader, writer = os.pipe()
    watcher, read = loop.io(reader, READABLE), []
    watcher.start(lambda: read.append((os.read(reader, 1), gevent.getcurrent())))
    os.write(writer, b"ab")
    wait_until(lambda: len(read) == 2)
    assert watcher.active and read[0] == (b"a", gevent.get_hub())
    watcher.stop()
    watcher.close()
    os.close(reader)
    os.close(writer)


def test_watcher_of_a_descriptor_is_stopped_by_what_its_callback_raises(
    loop: Any, told: List[Any]
) -> None:
    """Of child_io.py and poller.py, which therefore let nothing out of theirs."""
    reader, writer = os.pipe()
    watcher = loop.io(reader, READABLE)
    watcher.start(lambda: 1 // 0)
    os.write(writer, b"a")
    wait_until(lambda: not watcher.active)
    assert len(told) == 1
    watcher.close()
    os.close(reader)
    os.close(writer)


def test_callback_runs_in_the_next_turn_of_the_loop(loop: Any) -> None:
    """Of poller.py and admission.py."""
    calls: List[Any] = []
    loop.run_callback(lambda: calls.append(gevent.getcurrent()))
    assert calls == []
    wait_until(lambda: calls == [gevent.get_hub()])


def test_hub_and_loop_tell_of_an_error(loop: Any, told: List[Any]) -> None:
    """Of child_io.py, control.py and poller.py: nobody else is left to tell."""
    for handle in (gevent.get_hub().handle_error, loop.handle_error):
        try:
            raise ValueError(str(handle))
        except ValueError:
            handle(None, *sys.exc_info())
    assert len(told) == 2


def test_loop_waits_for_children_from_when_it_is_told_to(loop: Any) -> None:
    """Of the tests, which share one process."""
    assert callable(loop.install_sigchld) and callable(loop.reset_sigchld)


def test_loops_can_be_named_before_there_is_a_hub() -> None:
    """Of pupgevent.py: in a process of its own, since here is a hub."""
    program = (
        "import gevent; gevent.config.loop = ['libev-cext', 'libev-cffi', 'libuv-cffi']; "
        "print(type(gevent.get_hub().loop).__module__)")
    with gevent_waits_for_children(), Popen(
        [sys.executable, "-c", program], stdout=-1, env=dict(os.environ, GEVENT_LOOP="no such")
    ) as child:
        assert b"gevent.lib" in child.communicate()[0]


def test_signal_watcher_calls_back_with_what_it_was_given(loop: Any) -> None:
    """Of pupgevent.py."""
    calls: List[int] = []
    watcher = loop.signal(12)
    watcher.start(calls.append, 12)
    os.kill(os.getpid(), 12)
    wait_until(lambda: calls == [12])
    watcher.stop()
    watcher.close()


# Children: child.py, guardian.py


@pytest.fixture
def children() -> Iterator[None]:
    with gevent_waits_for_children():
        yield


def test_child_is_made_in_two_steps_and_known_where_its_exec_has_failed(children: None) -> None:
    """Of child.py: the guardian knows the group of one that was forked and is to be forgotten."""
    popen = Popen.__new__(Popen)
    with pytest.raises(FileNotFoundError):
        popen.__init__(["/no/such/program"])
    assert popen.pid > 0 and popen.returncode is not None


def test_exit_of_a_child_is_told_in_the_hub_and_its_code_is_there(children: None) -> None:
    """Of child.py and guardian.py, without a greenlet that waits."""
    seen: List[Any] = []
    popen = Popen(["/bin/sh", "-c", "exit 3"])
    popen.rawlink(lambda each: seen.append((each.returncode, gevent.getcurrent())))
    assert popen.returncode is None
    wait_until(lambda: bool(seen))
    assert seen == [(3, gevent.get_hub())]
    assert popen.result.wait(1.0) == 3


# Greenlets and threads: concurrency.py


def test_greenlet_that_ended_before_its_first_step_is_dead() -> None:
    """Of Task, which starts it anew then."""
    greenlet = gevent.spawn(lambda: None)
    assert not greenlet.dead
    greenlet.kill(block=False)
    wait_until(lambda: greenlet.dead)


def test_pool_has_a_thread_before_it_gets_a_call() -> None:
    """Of Threads: its thread is started by the size, and that raises where there is none."""
    pool = ThreadPool(1)
    assert pool.size == 0
    pool.size = 1
    assert pool.size == 1
    assert pool.spawn(lambda: 4711).get() == 4711
    assert pool.size == 1
    pool.kill()


@pytest.mark.parametrize("lack", [RuntimeError("can't start new thread"), MemoryError()])
def test_pool_without_a_thread_says_so_when_it_gets_a_size(lack: Exception) -> None:
    """Of Threads: what it raises there is a shortage, and it can be tried again."""
    lacks = [lack]

    class Poor(ThreadPool):
        def _add_thread(self) -> None:
            if lacks:
                raise lacks.pop()
            super()._add_thread()

    pool = Poor(1)
    with pytest.raises(type(lack)):
        pool.size = 1
    assert pool.size == 0
    pool.size = 1
    assert pool.spawn(int).get() == 0
    pool.kill()


def test_semaphore_is_released_from_the_hub(loop: Any) -> None:
    """Of the gate for forks, whose timer does."""
    lock = Semaphore(1)
    assert lock.acquire(timeout=1.0)
    timer = loop.timer(0.001)
    timer.start(lock.release)
    assert lock.acquire(timeout=10.0) is True
    timer.stop()
    timer.close()


def test_waiting_for_an_event_tells_whether_it_was_set() -> None:
    """Of Condition and of all that waits for a time."""
    event = gevent.event.Event()
    assert not event.wait(0.001)
    gevent.spawn(event.set)
    assert event.wait(10.0)
