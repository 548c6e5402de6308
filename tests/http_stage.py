"""Both sides of a balancer with `protocol = "http"`, as peers.py has them of one with tcp.

The application answers by the path of a request, in threads of the test's own process:

    with http_setting(proxy) as stage:
        stage.has_application({"/slow": lambda server: server.says(HELLO)})
        stage.client().says(get("/slow")).hears_status(200)
"""

import re
import socket
import threading
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, List, Optional

from peers import (
    PATIENCE,
    Address,
    BalancerStage,
    Instance,
    Peer,
    Proxy,
    eventually,
    setting_of,
    started_as,
)

CHILD = Path(__file__).resolve().parent / "children" / "http_balancing.py"

#: Beside those of peers.py. Whoever tests a time-out sets it.
SETTINGS = {
    "protocol": "http",
    "response_timeout": 0.0,
    "keep_upstream": 64,
}

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

#: What an application does with a request; its connection is closed when this returns "close".
Behaviour = Callable[[Peer], Any]


def get(path: str = "/") -> bytes:
    return b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode()


def post(path: str, framing: bytes) -> bytes:
    """The head alone."""
    return b"POST %s HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % (path.encode(), framing)


def head_from(sock: socket.socket) -> bytes:
    """The next head, and not a byte of what is behind it; empty at the end."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = sock.recv(65536, socket.MSG_PEEK)
        if not data:
            return b""
        end = (head + data).find(b"\r\n\r\n")
        head += sock.recv(len(data) if end < 0 else end + 4 - len(head))
    return head


class HttpProxy(Proxy):
    """Its process is children/http_balancing.py."""

    child = CHILD

    def _is_forgiven(self, complaints: str) -> bool:
        """Without memory a socket may be closed by the collector alone: not tidy, and no leak."""
        lines = complaints.splitlines()
        return super()._is_forgiven("\n".join(
            line for line in lines if not line.startswith("ResourceWarning: unclosed <socket")))


class Client(Peer):
    """Reads answers."""

    def all_answers(self) -> bytes:
        """Everything until the end of the stream. ConnectionResetError."""
        return b"".join(iter(lambda: self.socket.recv(65536), b""))

    def takes_up_to(self, end: bytes) -> bytes:
        """Not a byte behind it; less where the stream ends before."""
        heard = b""
        while not heard.endswith(end):
            byte = self.socket.recv(1)
            if not byte:
                break
            heard += byte
        return heard

    def status(self) -> int:
        """Of the next answer, whose body has a length: it is read as well; 0 at the end."""
        head = self.takes_up_to(b"\r\n\r\n")
        if not head.endswith(b"\r\n\r\n"):
            return 0
        found = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)\r\n", head)
        self.takes(int(found.group(1)) if found else 0)
        return int(head[9:12])

    def hears_status(self, status: int) -> "Client":
        assert self.status() == status
        return self

    def is_served(self) -> "Client":
        self.says(get())
        return self.hears_status(200)


class Application:
    """An instance in threads: for each request the behaviour of its path, or else HELLO."""

    def __init__(self, stage: "HttpStage", instance: Instance,
                 behaviours: "Dict[str, Behaviour]") -> None:
        self.stage = stage
        self.instance = instance
        self.behaviours = behaviours
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        self.instance.socket.settimeout(None)
        while True:
            try:
                sock = self.instance.socket.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(Peer(sock),), daemon=True).start()

    def _serve(self, server: Peer) -> None:
        with server.socket:
            server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for head in iter(lambda: head_from(server.socket), b""):
                    behaviour = self.behaviours.get(head.split(b" ", 2)[1].decode())
                    if behaviour is None:
                        server.says(HELLO)
                    elif behaviour(server) == "close":
                        return
            except OSError:
                return

    def ends(self) -> None:
        """Nobody is accepted any more."""
        try:
            self.instance.socket.shutdown(socket.SHUT_RD)
        except OSError:
            pass
        self._thread.join(PATIENCE)


class HttpStage(BalancerStage):
    """Of a balancer with http."""

    def __init__(self, proxy: Proxy, **settings: Any) -> None:
        super().__init__(proxy, **dict(SETTINGS, **settings))
        self.applications: List[Application] = []

    def has_application(self, behaviours: "Optional[Dict[str, Behaviour]]" = None) -> "HttpStage":
        """The common port, and an instance behind it."""
        if not self.common[1]:
            self.listens()
        self.only = self.instance()
        self.applications.append(Application(self, self.only, behaviours or {}))
        self.only.comes_up()
        return self

    def client(self, host: "Optional[str]" = None, source: "Optional[Address]" = None) -> Client:
        return Client(super().client(host, source).socket, self.status)

    def narrow_client(self, size: int = 2048) -> Client:
        """The kernel takes little for it that it does not read."""
        sock = self.keep(socket.socket())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        sock.settimeout(PATIENCE)
        sock.connect(self.common)
        return Client(sock, self.status)

    def is_clear(self) -> None:
        """Nothing is left of anybody; connections to instances may be kept."""
        try:
            eventually(lambda: not self.left(), "nothing is left")
        except AssertionError:
            raise AssertionError("left: %s" % self.left()) from None

    def left(self) -> "Dict[str, int]":
        """What there is of anybody."""
        figures = self.figures()
        figures["lost_ends"] = figures["upstream_ends"] - figures["kept"]
        names = ("clients", "heads", "answers", "attempts", "queue", "assigned", "connections",
                 "client_ends", "pipes_lent", "lingering", "lost_ends", "sessions", "newcomers",
                 "ciphertext")
        return {name: figures[name] for name in names if figures[name]}

    def serves(self) -> None:
        """Somebody new is answered."""
        client = self.client()
        client.is_served().leaves()

    def phases(self) -> "Dict[str, int]":
        return self.proxy.call("phases")  # type: ignore[no-any-return]

    def is_in(self, phase: str, count: int = 1) -> None:
        eventually(lambda: self.phases().get(phase, 0) == count, "%d in %s" % (count, phase))

    def own_answers(self) -> "List[int]":
        return self.proxy.call("own_answers")  # type: ignore[no-any-return]

    def abandon(self) -> None:
        for each in self.applications:
            each.ends()
        super().abandon()

    def ends(self) -> None:
        for each in self.applications:
            each.ends()
        super().ends()


def http_started(*options: str) -> "ContextManager[HttpProxy]":
    return started_as(HttpProxy, *options)


def http_setting(proxy: Proxy, **settings: Any) -> "ContextManager[HttpStage]":
    return setting_of(HttpStage, proxy, **settings)
