"""The request of `pupgevent logs`: the lines of before, then those that come."""

import contextlib
import time
from typing import Iterable, Iterator, List, Optional

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from control import FOLLOWER_TIMEOUT, LOOK_EVERY, ControlConnection, Request
from control_protocol import JsonObject, Refused
from errors import decoded
from log_heads import colored
from log_history import FOLLOWER_BYTES, Wanted, pieces, uncolored
from log_past import Asked, LogPast
from operations import ALL, choose
from runtime import Runtime

#: Lines that a follower gets of what was before, where he does not say how many.
_LINES_BEFORE = 10

#: In the field `lines`: how many is not said.
_NOT_SAID = -1

#: Unix times lie between these.
_MOST_SECONDS = 1e12

#: Seconds between two pieces of lines, whoever gets them. With a time to sleep, the loop looks at
#: its sockets before the next piece; with none it would go on with up to 50 of them.
_REST = 0.001

#: New lines that wait while those of before are read: for a follower that keeps up, none is lost
#: by how long that takes. Bytes.
_MEANWHILE = 8 * 1024 * 1024

#: Seconds without a line after which the client is told that the search goes on.
_STILL_HERE = 2.0


class LogRequests:
    """`stopped` is set when all has stopped."""

    def __init__(self, runtime: Runtime, stopped: Event) -> None:
        self._runtime = runtime
        self._stopped = stopped
        self._past = LogPast(runtime.history, runtime.log_files)
        #: Held by whoever sends the next piece of lines.
        self._turn = BoundedSemaphore()

    def request(self) -> Request:
        fields = {"words": [], "follow": False, "colors": False, "lines": _NOT_SAID, "since": None}
        return Request(fields, self._logs)

    def _logs(self, fields: JsonObject, connection: ControlConnection) -> JsonObject:
        asked = self._asked(fields)
        colors = fields["colors"]
        if not fields["follow"]:
            self._send_past(connection, asked, colors)
            return {}
        # First: what comes while the lines of before are looked for waits there.
        follower = self._runtime.history.follow(asked.wanted, _MEANWHILE)
        try:
            connection.send_timeout = FOLLOWER_TIMEOUT
            self._send_past(connection, asked, colors)
            while not self._stopped.is_set():
                data = follower.take(LOOK_EVERY)
                if len(data) < FOLLOWER_BYTES:
                    # All that has come meanwhile was taken.
                    follower.most = FOLLOWER_BYTES
                self._send(connection, pieces(data), colors)
                connection.check_open()
        finally:
            follower.close()
        return {}

    def _asked(self, fields: JsonObject) -> Asked:
        most: Optional[int] = fields["lines"]
        since: Optional[float] = fields["since"]
        if fields["lines"] < _NOT_SAID:
            raise Refused('"lines" is not a whole number from 0')
        if since is not None and not abs(since) < _MOST_SECONDS:
            raise Refused('"since" is not a Unix time')
        if fields["lines"] == _NOT_SAID:
            most = _LINES_BEFORE if fields["follow"] and since is None else None
        return Asked(self._wanted(fields["words"]), most, since)

    def _wanted(self, words: "List[str]") -> "Optional[Wanted]":
        """None is everything, also what is about no process."""
        if not words or ALL in words:
            return None
        choose(self._runtime, words)
        processes = set(words) & set(self._runtime.supervisor.processes)
        return Wanted(processes, set(words) - processes)

    def _send_past(self, connection: ControlConnection, asked: Asked, colors: bool) -> None:
        def hint(text: str) -> None:
            # Beside lines, which every client knows.
            connection.send({"lines": "", "hint": text})

        found = self._past.lines(asked, hint)
        with contextlib.ExitStack() as stack:
            # It has files open: they are closed also if the client leaves.
            stack.callback(getattr(found, "close", list))
            self._send(connection, found, colors)

    def _send(
        self, connection: ControlConnection, found: "Iterable[bytes]", colors: bool
    ) -> None:
        """Each piece in a turn of the loop that nobody else's piece is made in."""
        waiting: Iterator[bytes] = iter(found)
        told_at = looked_at = time.monotonic()
        while True:
            with self._turn:
                gevent.sleep(_REST)
            piece = next(waiting, None)
            if piece is None:
                return
            now = time.monotonic()
            if piece or now - told_at > _STILL_HERE:
                text = colored(piece) if colors else uncolored(piece)
                connection.send({"lines": decoded(text)})
                told_at = looked_at = now
            elif now - looked_at > LOOK_EVERY:
                connection.check_open()
                looked_at = now
