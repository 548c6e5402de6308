"""The requests that a running pupgevent takes at its control socket."""

import os
from typing import Callable, Dict, List, Sequence

from gevent.event import Event

import description
import status_report
from concurrency import in_slices
from control import ControlConnection, Request
from control_protocol import JsonObject
from errors import PupgeventError
from instance import Instance
from log_requests import LogRequests
from operations import ALL, Operations, Say, choose, news
from runtime import Runtime
from signal_names import signal_number
from snapshots import Snapshots


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
        #: Set when all has stopped.
        self.stopped = Event()
        self._log_requests = LogRequests(runtime, self.stopped)

    def requests(self) -> "Dict[str, Request]":
        return {
            "status": Request({"usage": True, "words": []}, self._status),
            "describe": Request({"word": str}, self._describe),
            "start": _on_words(self._operations.start),
            "stop": _on_words(self._operations.stop),
            "restart": _on_words(self._operations.restart),
            "signal": Request({"signal": str, "words": []}, self._signal, changes=True),
            "scale": Request({"id": str, "instances": int}, self._scale, changes=True),
            "reload": Request({}, self._reload, changes=True),
            "shutdown": Request({}, self._shutdown, changes=True),
            "logs": self._log_requests.request(),
        }

    def _status(self, fields: JsonObject, connection: ControlConnection) -> JsonObject:
        chosen = choose(self._runtime, fields["words"])
        names = None if _means_all(fields["words"]) else {each.name for each in chosen.instances}
        found = self._snapshots.take(names, fields["usage"])
        return {"status": status_report.to_json(found, slices=in_slices)}

    def _describe(self, fields: JsonObject, connection: ControlConnection) -> JsonObject:
        word = fields["word"]
        instances = description.find(self._runtime, word)
        found = self._snapshots.take({each.name for each in instances})
        told = description.describe(self._runtime, word, instances, found)
        return {"description": status_report.to_json(told, slices=in_slices)}

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


def _means_all(words: "List[str]") -> bool:
    return not words or ALL in words


def _on_words(operation: "Callable[[Sequence[str], Say], str]") -> Request:
    """A change to the processes and instances that the words mean."""

    def act(fields: JsonObject, connection: ControlConnection) -> JsonObject:
        return {"text": operation(fields["words"], connection.report)}

    return Request({"words": []}, act, changes=True)
