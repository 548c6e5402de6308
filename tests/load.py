"""Clients that ask one request after the other, and count what fails.

Two kinds of clients at the same time: some open a connection per request, some keep theirs as long
as the server lets them, as a browser does. A client that keeps its connection sends a request again
over a new one only where the connection was closed before a byte of the answer (RFC 9112, 9.3.1):
between two requests, that is, and it counts as a failure here if it happens twice in a row.
"""

import re
import socket
import threading
import time
from typing import Any, Callable, List, Optional, Tuple

from running import REQUEST, get, now

KEEPING = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

#: Seconds for one answer: late is not lost, and a machine with ten times its load is late.
PATIENCE = 60
#: Seconds between two requests of one client: where nobody ever rests, some Linux (6.18, with a
#: group of its own for each session) lets processes that start beside it wait for a minute.
PAUSE = 0.003

LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)


class Load:
    """Requests one after the other, from several threads, until it is ended."""

    def __init__(
        self, port: int, brief: int = 3, keeping: int = 3, request: bytes = REQUEST
    ) -> None:
        """`request` is that of the brief ones."""
        self.port = port
        self.request = request
        self.ended = False
        self.served = 0
        self.slowest = 0.0
        #: Whose, and what.
        self.failures: List[Tuple[int, str]] = []
        kinds = [self.ask_anew] * brief + [self.ask_on] * keeping
        self.threads = [threading.Thread(target=self.live, args=(kind,)) for kind in kinds]

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.ended = True
        for thread in self.threads:
            thread.join()

    def live(self, ask: Callable[[Any], Any]) -> None:
        kept: Any = None
        while not self.ended:
            began = now()
            try:
                kept = ask(kept)
                self.served += 1
            except (OSError, ValueError) as error:
                kept = None
                self.failures.append((threading.get_ident(), repr(error)))
            self.slowest = max(self.slowest, now() - began)
            time.sleep(PAUSE)
        if kept is not None:
            kept.close()

    def ask_anew(self, _: Any) -> None:
        get(self.port, PATIENCE, self.request)

    def ask_on(self, kept: Optional[socket.socket]) -> Optional[socket.socket]:
        """Over the connection that there is; a new one if the server has closed that."""
        if kept is not None:
            try:
                return exchange(kept)
            except ConnectionError:
                kept.close()
            except (OSError, ValueError):
                kept.close()
                raise
        client = self.connect()
        try:
            return exchange(client)
        except (OSError, ValueError):
            client.close()
            raise

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)


def exchange(client: socket.socket) -> Optional[socket.socket]:
    """One request; the connection, if it stays. ConnectionError: it was closed before a byte."""
    try:
        client.sendall(KEEPING)
        data = client.recv(65536)
    except OSError as error:
        raise ConnectionError(repr(error)) from None
    if not data:
        raise ConnectionError("closed")
    while b"\r\n\r\n" not in data:
        data += more(client)
    head, _, body = data.partition(b"\r\n\r\n")
    found = LENGTH.search(head)
    if found is None or b" 200 " not in head.split(b"\r\n")[0]:
        raise ValueError("a broken answer: %r" % head[:100])
    while len(body) < int(found.group(1)):
        body += more(client)
    if b"connection: close" in head.lower():
        client.close()
        return None
    return client


def more(client: socket.socket) -> bytes:
    data = client.recv(65536)
    if not data:
        raise ValueError("an answer that ends early")
    return data
