"""A web server for a few people and programs: gevent.pywsgi, within limits.

Whatever its clients do, the rest of pupgevent goes on as before. It serves so many connections and
no more, the oldest making room; a request and its answer have their time; only GET and HEAD are
taken, without a body; and all of it together has at most a share of the hub's time.
"""

import collections
import time
from typing import Any, Callable, Dict, Iterable, Iterator, Tuple, TypeVar

import gevent
from gevent.pywsgi import WSGIHandler, WSGIServer

from concurrency import SLICE, TokenBucket
from sockets import SHORTAGES

T = TypeVar("T")

#: Connections at a time.
MOST_CONNECTIONS = 64

#: Seconds for one read or write; so long a connection is kept that is not used.
_STEP_TIMEOUT = 20.0

#: Seconds for a request, with the wait for it, and its answer.
_REQUEST_TIMEOUT = 60.0

#: Seconds of the hub that a connection costs, and that a request costs besides what it asks for.
_CONNECTION_COST, _REQUEST_COST = 0.0002, 0.0005

#: Seconds that accepting rests when the share is used up, or when descriptors or memory are.
_PAUSE, _SHORTAGE_PAUSE = 0.02, 0.5

#: The shortest sleep: with 0 the loop would not look at its sockets (see concurrency.py).
_SHORTEST = 1e-6

_BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n"
    b"Connection: close\r\n\r\nBad request\n"
)

Application = Callable[[Dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Handler(WSGIHandler):
    """One connection. Nothing that a client does is worth a line, or a traceback."""

    content_length: Any

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

    def read_request(self, raw_requestline: str) -> Any:
        read = super().read_request(raw_requestline)
        if self.content_length or "transfer-encoding" in self.headers:
            # It is not read, so what follows it is no request.
            del self.headers["transfer-encoding"]
            self.content_length = 0
            self.close_connection = True
        return read

    def handle_error(self, kind: Any, error: Any, traceback: Any) -> None:
        self.close_connection = True
        if isinstance(error, Exception) and not isinstance(error, (OSError, MemoryError)):
            self.server.warn("a request met a bug: %r" % error)
            self._send_error_response_if_possible(500)

    def _handle_client_error(self, error: Exception) -> "Tuple[str, bytes]":
        return "400", _BAD_REQUEST

    def log_request(self) -> None:
        """Nobody reads them, and an address may hold anything."""


class WebServer(WSGIServer):
    """Serves what waits at a listening socket. `warn(text)` takes a line for people."""

    handler_class = _Handler

    #: Accepted before others have their turn.
    max_accept = 4

    def __init__(
        self, listener: Any, application: Application, warn: "Callable[[str], object]"
    ) -> None:
        self.warn = warn
        self._application = application
        self._bucket = TokenBucket()
        #: The greenlets of the open connections, the oldest first.
        self._open: Any = collections.OrderedDict()
        # Made now: when it is needed, memory may be what there is none of.
        loop = gevent.get_hub().loop
        self._pause_timer = loop.timer(_PAUSE, _PAUSE)
        self._shortage_timer = loop.timer(_SHORTAGE_PAUSE, _SHORTAGE_PAUSE)
        super().__init__(
            listener, self._respond, spawn=self._begin, log=None, error_log=None,
            # Else it would look its own name up, in a DNS that may not answer.
            environ={"SERVER_NAME": "pupgevent"})

    def share(self, items: "Iterable[T]") -> "Iterator[T]":
        """As concurrency.in_slices does, within this server's share of the hub's time."""
        began = time.monotonic()
        for item in items:
            yield item
            now = time.monotonic()
            if now - began >= SLICE:
                gevent.sleep(max(_SHORTEST, self._bucket.delay_after(began, now)))
                began = time.monotonic()

    def close(self) -> None:
        """Stop accepting, and disconnect everybody. Idempotent."""
        for timer in (self._pause_timer, self._shortage_timer):
            timer.stop()
            timer.close()
        super().close()
        gevent.killall(list(self._open), block=False)

    def retire(self) -> None:
        """Stop accepting; who is connected is still served what he has asked for."""
        super().close()

    # In the hub

    def do_read(self) -> Any:
        try:
            return super().do_read()
        except (OSError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno not in SHORTAGES:
                return None
            # Others need what is left more. Who comes now waits.
            self._rest(self._shortage_timer)
            return None

    def _begin(self, *work: Any) -> None:
        """Serve a connection: `work` is a function and its arguments, the last of them the socket
        and its address."""
        while len(self._open) >= MOST_CONNECTIONS:
            self._open.popitem(last=False)[0].kill(block=False)
        try:
            greenlet = gevent.Greenlet(*work)
            self._open[greenlet] = None
            greenlet.rawlink(self._end)
            greenlet.start()
        except MemoryError:
            self.do_close(*work[-1])
            return
        now = time.monotonic()
        if self._bucket.delay_after(now - _CONNECTION_COST, now):
            self._rest(self._pause_timer)

    def _end(self, greenlet: Any) -> None:
        self._open.pop(greenlet, None)

    def _rest(self, timer: Any) -> None:
        self.stop_accepting()
        timer.start(self._accept_again)

    def _accept_again(self) -> None:
        """Where this fails, the timer comes again."""
        if self.started:
            self.stop_accepting()
            self.start_accepting()
        self._pause_timer.stop()
        self._shortage_timer.stop()

    # In the greenlet of a connection

    def _respond(self, environ: "Dict[str, Any]", start_response: "Callable[..., Any]") -> Any:
        now = time.monotonic()
        delay = self._bucket.delay_after(now - _REQUEST_COST, now)
        if delay:
            gevent.sleep(delay)
        return self._application(environ, start_response)
