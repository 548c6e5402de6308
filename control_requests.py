"""The requests that a running pupgevent takes at its control socket."""

import os
from typing import Callable, Dict, Iterable, List, Optional, Sequence

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

import status_report
from concurrency import in_slices
from control import FOLLOWER_TIMEOUT, LOOK_EVERY, ControlConnection, Request
from control_protocol import JsonObject, Refused
from errors import PupgeventError, decoded
from instance import Instance
from log_history import Wanted, pieces, uncolored
from operations import ALL, Operations, Say, choose, news
from runtime import Runtime
from signal_names import signal_number
from snapshots import Snapshots

#: Lines that a follower gets of what was before, where he does not say how many.
_LINES_BEFORE = 10

#: In the field `lines`: how many is not said.
_NOT_SAID = -1

#: Seconds between two pieces of lines, whoever gets them. With a time to sleep, the loop looks at
#: its sockets before the next piece; with none it would go on with up to 50 of them.
_REST = 0.001


class ControlRequests:
    """`on_shutdown()` orders what SIGTERM orders."""

    def __init__(
        self, runtime: Runtime, operations: Operations, on_shutdown: "Callable[[], object]",
        snapshots: Snapshots,
    ) -> None:  # fmt: skip
        self._runtime = runtime
        self._operations = operations
        self._on_shutdown = on_shutdown
        self._snapshots = snapshots
        #: Held by whoever sends the next piece of lines.
        self._turn = BoundedSemaphore()
        #: Set when all has stopped.
        self.stopped = Event()

    def requests(self) -> "Dict[str, Request]":
        return {
            "status": Request({"usage": True, "words": []}, self._status),
            "start": _on_words(self._operations.start),
            "stop": _on_words(self._operations.stop),
            "restart": _on_words(self._operations.restart),
            "signal": Request({"signal": str, "words": []}, self._signal, changes=True),
            "scale": Request({"id": str, "instances": int}, self._scale, changes=True),
            "reload": Request({}, self._reload, changes=True),
            "shutdown": Request({}, self._shutdown, changes=True),
            "logs": Request(
                {"words": [], "follow": False, "colors": False, "lines": _NOT_SAID}, self._logs),
        }

    def _status(self, fields: JsonObject, connection: ControlConnection) -> JsonObject:
        chosen = choose(self._runtime, fields["words"])
        names = None if _means_all(fields["words"]) else {each.name for each in chosen.instances}
        found = self._snapshots.take(names, fields["usage"])
        return {"status": status_report.to_json(found, slices=in_slices)}

    def _signal(self, fields: JsonObject, connection: ControlConnection) -> JsonObject:
        number = signal_number(fields["signal"])
        return {"text": self._operations.signal(number, fields["words"])}

    def _scale(self, fields: JsonObject, connection: ControlConnection) -> JsonObject:
        if fields["instances"] < 1:
            raise PupgeventError("%s: at least one instance is needed" % fields["id"][:64])
        text = self._operations.scale(fields["id"], fields["instances"], connection.report)
        return {"text": text}

    def _reload(self, fields: JsonObject, connection: ControlConnection) -> JsonObject:
        return {"text": self._operations.reload(connection.report)}

    def _shutdown(self, fields: JsonObject, connection: ControlConnection) -> JsonObject:
        def tell(instance: Instance) -> None:
            connection.report(news(instance))

        self._runtime.watchers.add(tell)
        self._on_shutdown()
        self.stopped.wait()
        return {"text": "stopped", "pid": os.getpid()}

    def _logs(self, fields: JsonObject, connection: ControlConnection) -> JsonObject:
        most: Optional[int] = fields["lines"]
        if fields["lines"] < _NOT_SAID:
            raise Refused('"lines" is not a whole number from 0')
        if fields["lines"] == _NOT_SAID:
            most = _LINES_BEFORE if fields["follow"] else None
        wanted = self._wanted(fields["words"])
        history, colors = self._runtime.history, fields["colors"]
        if not fields["follow"]:
            self._send_lines(connection, history.last(wanted, most), colors)
            return {}
        follower = history.follow(wanted)
        try:
            connection.send_timeout = FOLLOWER_TIMEOUT
            self._send_lines(connection, history.last(wanted, most), colors)
            while not self.stopped.is_set():
                self._send_lines(connection, pieces(follower.take(LOOK_EVERY)), colors)
                connection.check_open()
        finally:
            follower.close()
        return {}

    def _send_lines(
        self, connection: ControlConnection, found: "Iterable[bytes]", colors: bool
    ) -> None:
        """Each piece in a turn of the loop that nobody else's piece is made in."""
        waiting = iter(found)
        while True:
            with self._turn:
                gevent.sleep(_REST)
            piece = next(waiting, None)
            if piece is None:
                return
            if piece:
                text = piece if colors else uncolored(piece)
                connection.send({"lines": decoded(text)})

    def _wanted(self, words: "List[str]") -> "Optional[Wanted]":
        """None is everything, also what is about no process."""
        if _means_all(words):
            return None
        choose(self._runtime, words)
        processes = set(words) & set(self._runtime.supervisor.processes)
        return Wanted(processes, set(words) - processes)


def _means_all(words: "List[str]") -> bool:
    return not words or ALL in words


def _on_words(operation: "Callable[[Sequence[str], Say], str]") -> Request:
    """A change to the processes and instances that the words mean."""

    def act(fields: JsonObject, connection: ControlConnection) -> JsonObject:
        return {"text": operation(fields["words"], connection.report)}

    return Request({"words": []}, act, changes=True)
