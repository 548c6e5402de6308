"""The requests that a running pupgevent takes at its control socket."""

from typing import Any, Callable, Dict, Iterable, List, Optional

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

import status
from control import FOLLOWER_TIMEOUT, LOOK_EVERY, Answer, Request
from errors import PupgeventError, decoded
from log_history import Wanted, pieces, uncolored
from operations import ALL, Operations, choose, news
from procfs import Meter
from runtime import Runtime

Plain = Dict[str, Any]

#: Lines that a follower gets of what was before.
_LINES_BEFORE = 10

#: Seconds between two pieces of lines, whoever gets them. With a time to sleep, the loop looks at
#: its sockets before the next piece; with none it would go on with up to 50 of them.
_REST = 0.001


class Service:
    """`on_shutdown()` orders what SIGTERM orders; `about` is version and pid."""

    def __init__(
        self, runtime: Runtime, operations: Operations, on_shutdown: "Callable[[], Any]",
        about: Plain,
    ) -> None:  # fmt: skip
        self._runtime = runtime
        self._operations = operations
        self._on_shutdown = on_shutdown
        self._about = about
        self._meter = Meter(runtime.threads)
        #: Held by whoever sends the next piece of lines.
        self._turn = BoundedSemaphore()
        #: Set when all has stopped.
        self.stopped = Event()

    def requests(self) -> "Dict[str, Request]":
        return {
            "status": Request({"usage": True}, self._status),
            "start": Request({"words": []}, self._start, changes=True),
            "stop": Request({"words": []}, self._stop, changes=True),
            "restart": Request({"words": []}, self._restart, changes=True),
            "scale": Request({"id": str, "instances": int}, self._scale, changes=True),
            "reload": Request({}, self._reload, changes=True),
            "shutdown": Request({}, self._shutdown, changes=True),
            "logs": Request({"words": [], "follow": False, "colors": False}, self._logs),
        }

    def _status(self, fields: Plain, answer: Answer) -> Plain:
        pids = status.pids(self._runtime)
        usages = self._meter.measure(pids) if fields["usage"] else {}
        return {"status": status.snapshot(self._runtime, usages, self._about)}

    def _start(self, fields: Plain, answer: Answer) -> Plain:
        return {"text": self._operations.start(fields["words"], answer.say)}

    def _stop(self, fields: Plain, answer: Answer) -> Plain:
        return {"text": self._operations.stop(fields["words"], answer.say)}

    def _restart(self, fields: Plain, answer: Answer) -> Plain:
        return {"text": self._operations.restart(fields["words"], answer.say)}

    def _scale(self, fields: Plain, answer: Answer) -> Plain:
        if fields["instances"] < 1:
            raise PupgeventError("%s: at least one instance is needed" % fields["id"][:64])
        return {"text": self._operations.scale(fields["id"], fields["instances"], answer.say)}

    def _reload(self, fields: Plain, answer: Answer) -> Plain:
        return {"text": self._operations.reload(answer.say)}

    def _shutdown(self, fields: Plain, answer: Answer) -> Plain:
        def tell(instance: Any) -> None:
            answer.say(news(instance))

        self._runtime.watchers.add(tell)
        self._on_shutdown()
        self.stopped.wait()
        return {"text": "stopped", "pid": self._about["pid"]}

    def _logs(self, fields: Plain, answer: Answer) -> Plain:
        wanted = self._wanted(fields["words"])
        history, colors = self._runtime.history, fields["colors"]
        if not fields["follow"]:
            self._send_lines(answer, history.last(wanted), colors)
            return {}
        follower = history.follow(wanted)
        try:
            answer.patience = FOLLOWER_TIMEOUT
            self._send_lines(answer, history.last(wanted, _LINES_BEFORE), colors)
            while not self.stopped.is_set():
                self._send_lines(answer, pieces(follower.take(LOOK_EVERY)), colors)
                answer.look()
        finally:
            follower.close()
        return {}

    def _send_lines(self, answer: Answer, found: "Iterable[bytes]", colors: bool) -> None:
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
                answer.send({"lines": decoded(text)})

    def _wanted(self, words: "List[str]") -> "Optional[Wanted]":
        """None is everything, also what is about no process."""
        if not words or ALL in words:
            return None
        choose(self._runtime, words)
        processes = set(words) & set(self._runtime.supervisor.processes)
        return Wanted(processes, set(words) - processes)

