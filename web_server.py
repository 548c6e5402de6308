"""A web server for a few people and programs: gevent.pywsgi, within limits.

Whatever its clients do, the rest of pupgevent goes on as before. It is a limited server
(limited_server.py); besides, a request and its answer have their time and their size, and only
heads are read, no bodies.

The share of the hub's time is an account (`TokenBucket`). What can be measured is paid for as
measured, what cannot, as it was found to cost: see the numbers below. Who has overdrawn the account
waits before the next thing is done for him, or is not accepted yet.
"""

import collections
import io
import os
import sys
import time
import traceback as tracebacks
from typing import Any, Callable, Dict, Iterable, Iterator, List, Tuple, TypeVar

import gevent
from gevent.pywsgi import WSGIHandler, WSGIServer

from concurrency import SLICE, TokenBucket
from limited_server import LimitedConnection, LimitedServer, make_room
from sockets import WarningLimiter

T = TypeVar("T")

#: Connections at a time.
MOST_CONNECTIONS = 64

#: Large answers at a time, and what is large: a client that does not read keeps his in memory.
MOST_LARGE, LARGE = 8, 256 * 1024

#: Connections that wait to be accepted: so many are served within a second, also where all of the
#: share is used up.
_BACKLOG = 128

#: Bytes of a head behind its first line, and lines of it. A browser sends about one KB; one that
#: knows many cookies of this machine's other ports, more.
_MOST_HEAD, _MOST_LINES = 16 * 1024, 100

#: Seconds for one read or write; so long a connection is kept that is not used.
_STEP_TIMEOUT = 20.0

#: Seconds for a request, with the wait for it, and its answer.
_REQUEST_TIMEOUT = 60.0

# Seconds of the hub, about twice what they were measured to take with Python 3.6 to 3.13.

#: A connection; a request besides what it asks for; each read; each byte of an answer.
_CONNECTION_COST, _REQUEST_COST, _READ_COST, _BYTE_COST = 0.0005, 0.0005, 0.00005, 2e-9

#: The shortest sleep: with 0 the loop would not look at its sockets (see concurrency.py).
_SHORTEST = 1e-6

_BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n"
    b"Connection: close\r\n\r\nBad request\n"
)


class Share:
    """What one request may have of the hub's time: it works in slices, as with
    concurrency.in_slices, and waits between them for as long as they have cost.

    Loops within loops are one piece of work, and so are short ones after each other. Nothing else
    in them may block.
    """

    def __init__(self, bucket: TokenBucket) -> None:
        self._bucket = bucket
        self._depth = 0
        self._began = 0.0
        #: Seconds of loops that have ended since the last wait.
        self._carried = 0.0

    def __call__(self, items: "Iterable[T]") -> "Iterator[T]":
        if not self._depth:
            self._began = time.monotonic()
        self._depth += 1
        try:
            for item in items:
                yield item
                if self._carried + time.monotonic() - self._began >= SLICE:
                    gevent.sleep(max(_SHORTEST, self._pay()))
                    self._began, self._carried = time.monotonic(), 0.0
        finally:
            self._depth -= 1
            if not self._depth:
                self._carried += time.monotonic() - self._began
                self._pay()

    def _pay(self) -> float:
        """Seconds to wait."""
        return self._bucket.delay_after(self._began, time.monotonic())


Application = Callable[[Dict[str, Any], Callable[..., Any], Share], List[bytes]]


class _Incoming(io.RawIOBase):
    """What a client sends; each read is paid for, lest many short ones should be free."""

    def __init__(self, sock: Any, pay: "Callable[[float], None]") -> None:
        super().__init__()
        self._sock = sock
        self._pay = pay

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._pay(_READ_COST)
        return int(self._sock.recv_into(buffer))


class _Handler(WSGIHandler):
    """One connection. Nothing that a client does is worth a line, or a traceback."""

    content_length: Any

    def __init__(self, sock: Any, address: Any, server: "WebServer") -> None:
        super().__init__(sock, address, server)
        self.rfile = io.BufferedReader(_Incoming(sock, server.pay))

    def handle(self) -> None:
        self.socket.settimeout(_STEP_TIMEOUT)
        try:
            super().handle()
        except (OSError, MemoryError):
            pass  # it has gone, or does not read

    def handle_one_request(self) -> Any:
        with gevent.Timeout(_REQUEST_TIMEOUT, False):
            return super().handle_one_request()
        return None

    def MessageClass(self, *_: Any) -> Any:
        """The head behind the first line. pywsgi's own would take megabytes."""
        head: List[bytes] = []
        room = _MOST_HEAD
        while not head or head[-1] not in (b"\r\n", b"\n", b""):
            head.append(self.rfile.readline(room + 1))
            room -= len(head[-1])
            if room < 0 or len(head) > _MOST_LINES:
                raise ValueError("the head is too long")
        began = time.monotonic()
        try:
            return super().MessageClass(io.BytesIO(b"".join(head)), 0)
        finally:
            self.server.draw(began)

    def read_request(self, raw_requestline: str) -> Any:
        read = super().read_request(raw_requestline)
        if self.content_length or "transfer-encoding" in self.headers:
            # It is not read, so what follows it is no request.
            del self.headers["transfer-encoding"]
            self.content_length = 0
            self.close_connection = True
        return read

    def handle_error(self, kind: Any, error: Any, traceback: Any) -> None:
        """Also called by pywsgi with what ends the greenlet: then all that is left is to close."""
        self.close_connection = True
        if isinstance(error, Exception) and not isinstance(error, (OSError, MemoryError)):
            self.server.on_bug(traceback)
            self._send_error_response_if_possible(500)

    def _handle_client_error(self, error: Exception) -> "Tuple[str, bytes]":
        return "400", _BAD_REQUEST

    def log_request(self) -> None:
        """Nobody reads them, and an address may hold anything."""


class _Connection(LimitedConnection):
    def _run(self) -> None:
        server = self.server
        try:
            server.handler_class(self.socket, self.address, server).handle()
        except MemoryError:
            pass
        except Exception:
            server.on_bug(sys.exc_info()[2])


class WebServer(LimitedServer, WSGIServer):
    """Serves what waits at a listening socket. `warn(text)` takes a line for people."""

    handler_class = _Handler

    #: Accepted before others have their turn.
    max_accept = 4

    connection_class = _Connection
    most_connections = MOST_CONNECTIONS
    connection_cost = _CONNECTION_COST

    def __init__(
        self, listener: Any, application: Application, warn: "Callable[[str], object]"
    ) -> None:
        self._warnings = WarningLimiter(warn, time.monotonic)
        self._content = application
        #: The greenlets of those that send something large; the oldest first.
        self._large: Any = collections.OrderedDict()
        listener.listen(_BACKLOG)
        super().__init__(listener)
        self.application = self._respond
        self.log = self.error_log = io.StringIO()  # never written to
        # Else it would look its own name up, in a DNS that may not answer.
        self.set_environ({"SERVER_NAME": "pupgevent"})

    def on_bug(self, traceback: Any) -> None:
        """Tell where, and not what: it may have been about a token."""
        *_, last = tracebacks.extract_tb(traceback)
        self._warnings.warn("a request met a bug in %s, line %d" % (
            os.path.basename(last.filename), last.lineno or 0))

    # In the greenlet of a connection

    def pay(self, seconds: float, shortest: float = 0.0) -> None:
        """For something that takes so long; blocks while the share is used up, and for the
        `shortest` time at least."""
        now = time.monotonic()
        delay = max(shortest, self._bucket.delay_after(now - seconds, now))
        if delay:
            gevent.sleep(delay)

    def draw(self, began: float) -> None:
        """For what was done since then, without a wait."""
        self._bucket.delay_after(began, time.monotonic())

    def _respond(self, environ: "Dict[str, Any]", start_response: "Callable[..., Any]") -> Any:
        self.pay(_REQUEST_COST)
        return self._sent(self._content(environ, start_response, Share(self._bucket)))

    def _sent(self, body: List[bytes]) -> "Iterator[bytes]":
        """The answer, with a turn for everybody else in between."""
        me = gevent.getcurrent()
        if sum(map(len, body)) >= LARGE:
            make_room(self._large, MOST_LARGE)
            self._large[me] = None
        try:
            for number, part in enumerate(body, 1):
                yield part
                self.pay(len(part) * _BYTE_COST, _SHORTEST if number < len(body) else 0.0)
        finally:
            self._large.pop(me, None)

