"""A network of its own for a balancer, which has only a few local ports."""

import ctypes
import errno
import fcntl
import os
import socket
import struct
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple, Type, TypeVar

import pytest

from peers import BalancerStage, Proxy

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 1

FIRST, LAST = 40000, 40003


class Elsewhere:
    """A thread in a network namespace of its own, with a loopback interface and few ports.

    Sockets belong to the network in which they were made, whoever uses them.
    """

    def __init__(self) -> None:
        self.orders: List[Callable[[], Any]] = []
        self.answers: List[Any] = []
        self.told = threading.Condition()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while True:
            with self.told:
                self.told.wait_for(lambda: bool(self.orders))
                order = self.orders.pop()
            try:
                answer = order()
            except BaseException as error:
                answer = error
            with self.told:
                self.answers.append(answer)
                self.told.notify_all()
            if isinstance(answer, StopIteration):
                return

    def do(self, order: "Callable[[], Any]") -> Any:
        with self.told:
            self.orders.append(order)
            self.told.notify_all()
            assert self.told.wait_for(lambda: bool(self.answers), 30)
            answer = self.answers.pop()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def end(self) -> None:
        def leave() -> None:
            raise StopIteration

        with pytest.raises(StopIteration):
            self.do(leave)
        self.thread.join()

    def move(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        with socket.socket() as sock:
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("%d %d" % (FIRST, LAST))


class Far(BalancerStage):
    """Its sockets are made elsewhere; its clients take none of the few ports."""

    def __init__(self, proxy: Proxy, elsewhere: Elsewhere, **settings: Any) -> None:
        self.elsewhere = elsewhere
        self.ports = iter(range(20000, 30000))
        super().__init__(proxy, **settings)

    def listening(self, address: "Tuple[Any, ...]") -> socket.socket:
        address = (address[0], address[1] or next(self.ports))
        make = super().listening
        return self.elsewhere.do(lambda: make(address))  # type: ignore[no-any-return]

    def client(self, *words: Any) -> Any:
        source = ("127.0.0.1", next(self.ports))
        make = super().client
        return self.elsewhere.do(lambda: make(None, source))


S = TypeVar("S", bound=Far)


@contextmanager
def far_from_here(
    proxy_kind: "Type[Proxy]", stage_kind: "Type[S]", **settings: Any
) -> "Iterator[S]":
    """A stage of that kind there, which listens. Skips where this user may have no network."""
    elsewhere = Elsewhere()
    try:
        try:
            elsewhere.do(elsewhere.move)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOENT):
                raise
            pytest.skip("no network of its own for this user: %s" % error)
        proxy = elsewhere.do(proxy_kind)
        try:
            stage = stage_kind(proxy, elsewhere, **settings)
            stage.listens("127.0.0.1", next(stage.ports))
            yield stage
            stage.ends()
        finally:
            proxy.end()
    finally:
        elsewhere.end()
