"""Who listens, as the kernel and as /proc tell it, and whom a connection gets to."""

import contextlib
import os
import socket
from typing import Any, Callable, Iterator, List, Optional

import pytest

import listening_sockets
from listening_sockets import ListeningSocket, accepting_at, listeners, overlap

FreePort = Callable[[], int]

#: sock_diag(7), and where it may not be asked.
SOURCES = ["kernel", "files"]


@pytest.fixture(params=SOURCES)
def source(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "files":
        # A family of netlink that there is not: the kernel refuses it.
        monkeypatch.setattr(listening_sockets, "_NETLINK_SOCK_DIAG", 31)
    return str(request.param)


@contextlib.contextmanager
def bound(port: int, *hosts: str, shared: bool = False, v6only: bool = False,
          silent: bool = False) -> Iterator[List[int]]:
    """Sockets that listen there; their inodes."""
    with contextlib.ExitStack() as stack:
        inodes = []
        for host in hosts:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            server = stack.enter_context(socket.socket(family))
            if shared:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6only))
            server.bind((host, port))
            if not silent:
                server.listen(5)
            inodes.append(os.fstat(server.fileno()).st_ino)
        yield inodes


def inodes_of(found: List[ListeningSocket]) -> List[int]:
    return [each.inode for each in found]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::"])
def test_socket_that_listens_is_told_with_its_place_and_its_user(
    source: str, host: str, free_port: FreePort
) -> None:
    port = free_port()
    with bound(port, host) as inodes:
        (found,) = listeners(port)
        # Of one address of IPv6 the kernel says that it takes no IPv4, which goes without saying.
        assert found._replace(v6only=False) == ListeningSocket(
            host, port, inodes[0], os.geteuid(), False)
        assert found in listeners()
        assert found.address == ("[%s]:%d" if ":" in host else "%s:%d") % (host, port)
    assert listeners(port) == []


def test_ipv4_address_of_an_ipv6_socket_is_told_as_such(source: str, free_port: FreePort) -> None:
    port = free_port()
    with bound(port, "::ffff:127.0.0.1"):
        assert [each.host for each in listeners(port)] == ["127.0.0.1"]


def test_many_are_told_and_who_does_not_listen_is_not(source: str, free_port: FreePort) -> None:
    """More than one answer of the kernel has room for."""
    with contextlib.ExitStack() as stack:
        inodes = set()
        for _ in range(500):
            server = stack.enter_context(socket.socket())
            server.bind(("127.0.0.1", 0))
            server.listen(1)
            inodes.add(os.fstat(server.fileno()).st_ino)
        quiet = stack.enter_context(bound(free_port(), "127.0.0.1", silent=True))
        client = stack.enter_context(socket.create_connection(server.getsockname()))
        found = set(inodes_of(listeners()))
        assert inodes <= found and not found & {quiet[0], os.fstat(client.fileno()).st_ino}


def test_all_that_share_a_port_take_its_connections(source: str, free_port: FreePort) -> None:
    port = free_port()
    with bound(port, "127.0.0.1", "127.0.0.1", "127.0.0.1", shared=True) as inodes:
        assert sorted(inodes_of(accepting_at(listeners(), "127.0.0.1", port))) == sorted(inodes)


@pytest.mark.parametrize("hosts, asked, taker", [
    (("127.0.0.1",), "127.0.0.1", 0),
    (("127.0.0.1",), "127.0.0.2", None),
    (("127.0.0.1",), "::1", None),
    (("0.0.0.0",), "127.0.0.1", 0),
    (("0.0.0.0", "127.0.0.1"), "127.0.0.1", 1),
    (("0.0.0.0", "127.0.0.1"), "127.0.0.2", 0),
    (("127.0.0.1",), "0.0.0.0", 0),
    (("::",), "127.0.0.1", 0),
    (("::",), "::1", 0),
    (("::", "::1"), "0:0:0:0:0:0:0:1", 1),
    (("::", "127.0.0.1"), "127.0.0.1", 1),
    (("::1",), "127.0.0.1", None),
    (("0.0.0.0",), "192.0.2.1", None),
    (("::",), "2001:db8::1", None),
])
def test_connection_gets_to_the_closest_address(
    source: str, hosts: Any, asked: str, taker: Optional[int], free_port: FreePort
) -> None:
    port = free_port()
    with bound(port, *hosts, shared=True) as inodes:
        expected = [] if taker is None else [inodes[taker]]
        assert inodes_of(accepting_at(listeners(port), asked, port)) == expected


def test_socket_for_ipv6_alone_takes_no_ipv4(free_port: FreePort) -> None:
    port = free_port()
    with bound(port, "::", v6only=True) as inodes:
        assert inodes_of(accepting_at(listeners(port), "127.0.0.1", port)) == []
        assert inodes_of(accepting_at(listeners(port), "::1", port)) == inodes


@pytest.mark.parametrize("held", ["127.0.0.1", "0.0.0.0", "::1", "::"])
@pytest.mark.parametrize("asked", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::"])
def test_addresses_overlap_where_the_second_cannot_be_bound(
    held: str, asked: str, free_port: FreePort
) -> None:
    port = free_port()
    with bound(port, held):
        try:
            with bound(port, asked):
                can_be_bound = True
        except OSError:
            can_be_bound = False
    assert overlap(held, asked) is not can_be_bound
