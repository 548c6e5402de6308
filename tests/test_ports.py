"""Whose port it is, and what can be known of that."""

import errno
import os
import socket
import subprocess
import sys
import time
from typing import Any, Callable, Iterator

import pytest

import backends
import ports
import sockets
from backends import Backend
from relay import STREAM, RelaySocket


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(5)
        yield server


def port_of(server: socket.socket) -> int:
    return int(server.getsockname()[1])


def owner(port: int) -> str:
    return ports.owner("127.0.0.1", port) or "nobody"


def test_port_that_somebody_listens_on_is_taken(listener: socket.socket) -> None:
    assert ports.is_taken("127.0.0.1", port_of(listener))
    assert ports.is_taken("0.0.0.0", port_of(listener))


def test_free_port_is_not_taken(free_port: Callable[[], int]) -> None:
    assert not ports.is_taken("127.0.0.1", free_port())


def test_looking_at_a_port_does_not_take_it(free_port: Callable[[], int]) -> None:
    port = free_port()
    assert not ports.is_taken("127.0.0.1", port)
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))


def test_stranger_on_all_addresses_takes_the_port_of_one(free_port: Callable[[], int]) -> None:
    with socket.socket(socket.AF_INET6) as server:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind(("::", free_port()))
        server.listen(5)
        assert ports.is_taken("127.0.0.1", port_of(server))
        assert ports.is_taken("::1", port_of(server))


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_address_that_is_not_of_this_machine_is_not_taken(host: str) -> None:
    assert not ports.is_taken(host, 8000)


def test_port_that_shares_itself_is_taken(free_port: Callable[[], int]) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", free_port()))
        server.listen(5)
        assert ports.is_taken("127.0.0.1", port_of(server))


def test_owner_is_told_by_its_pid_and_its_command(listener: socket.socket) -> None:
    assert owner(port_of(listener)).startswith("pid %d (" % os.getpid())
    with open("/proc/self/cmdline") as file:
        assert file.read().split("\0")[0] in owner(port_of(listener))


def test_command_of_an_owner_is_one_short_printable_line(free_port: Callable[[], int]) -> None:
    program = (
        "import socket, sys; s = socket.socket(); s.bind(('127.0.0.1', int(sys.argv[1])));"
        "s.listen(5); print('listening', flush=True); sys.stdin.read()"
    )
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-c", program, str(port), "a\nb\x1b[31m" + "c" * 500],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()  # type: ignore
        whose = owner(port)
        assert whose.startswith("pid %d (" % other.pid)
        assert whose.isprintable() and len(whose) < 110
        other.stdin.close()  # type: ignore


def test_listener_is_told_rather_than_the_connections_to_it(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        with accepted:
            assert len(ports.sockets_at(port_of(listener))) == 2
            assert owner(port_of(listener)).startswith("pid %d (" % os.getpid())
        assert client


def test_connections_that_linger_are_nobodys(free_port: Callable[[], int]) -> None:
    port = free_port()
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen(5)
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()
    with client:
        assert owner(port) == "nobody"


def test_owner_of_a_free_port_is_unknown(free_port: Callable[[], int]) -> None:
    assert owner(free_port()) == "somebody unknown"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_owner_that_may_not_be_looked_at_is_told_by_its_user(listener: socket.socket) -> None:
    program = (
        "import os, sys; sys.path.insert(0, %r); import ports; os.setgroups([]);"
        "os.setgid(65534); os.setuid(65534); print(ports.owner('127.0.0.1', %d))"
    ) % (os.path.dirname(os.path.abspath(ports.__file__)), port_of(listener))
    told = subprocess.check_output([sys.executable, "-c", program], universal_newlines=True)
    assert told.strip() == "a process of user root"


def test_nobody_accepts_on_a_free_port(free_port: Callable[[], int]) -> None:
    assert not ports.accepts("127.0.0.1", free_port())


def test_somebody_accepts_where_somebody_listens(listener: socket.socket) -> None:
    assert ports.accepts("127.0.0.1", port_of(listener))


def has_time_wait(port: int) -> bool:
    return any(each.state == "06" for each in ports.sockets_at(port))


def leave_time_wait(port: int) -> None:
    """As a server with SO_REUSEPORT alone does that ends its connections first."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", port))
        server.listen(5)
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()
            assert client.recv(1) == b""


def test_time_wait_is_nobodys(free_port: Callable[[], int]) -> None:
    port = free_port()
    leave_time_wait(port)
    assert has_time_wait(port) and ports.is_taken("127.0.0.1", port)
    assert owner(port) == "nobody"


def test_listener_amid_time_wait_has_the_port(free_port: Callable[[], int]) -> None:
    port = free_port()
    leave_time_wait(port)
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", port))
        server.listen(5)
        assert owner(port).startswith("pid %d (" % os.getpid())


def test_socket_that_is_bound_and_does_not_listen_is_somebodys(
    free_port: Callable[[], int]
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))
        assert ports.is_taken("127.0.0.1", port_of(server))
        assert owner(port_of(server)) == "somebody unknown"


def test_owner_at_another_address_is_not_the_owner(free_port: Callable[[], int]) -> None:
    port = free_port()
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.2", port))
        one.listen(5)
        assert owner(port) == "somebody unknown"
        other.bind(("127.0.0.1", port))
        other.listen(5)
        assert owner(port).startswith("pid %d (" % os.getpid())


def meet_itself(port: int, sock: Any) -> None:
    sock.bind(("127.0.0.1", port))
    sock.connect(("127.0.0.1", port))


def test_probe_that_met_itself_leaves_the_port_free(free_port: Callable[[], int]) -> None:
    port = free_port()
    with socket.socket() as probe:
        meet_itself(port, probe)
        assert sockets.is_self_connected(probe)
    assert ports.sockets_at(port) == []


def test_connect_that_met_itself_leaves_the_port_free(free_port: Callable[[], int]) -> None:
    port = free_port()
    backend = Backend("web-1", time.monotonic)
    backend.move_to("127.0.0.1", port)
    backend.may_self_connect = True
    end = RelaySocket(backend.family, STREAM, 0)
    end.setblocking(True)
    meet_itself(port, end)
    assert backends.connect_state(end, backend) == errno.ECONNREFUSED
    end.close()
    assert ports.sockets_at(port) == []


def test_probe_is_no_reset_to_whoever_accepts(listener: socket.socket) -> None:
    """Python's http.server prints a traceback for one, a server of Node may end."""
    assert ports.accepts("127.0.0.1", port_of(listener))
    accepted, _ = listener.accept()
    with accepted:
        assert accepted.recv(1) == b""
