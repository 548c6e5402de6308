"""As balancing.py, of a cluster with `protocol = "http"`.

    http_balancing.py [the options of balancing.py]

Its figures are of clients and of connections to instances.
"""

import gc
import linecache
import os
import re
import sys
from typing import Any, Dict, List, Optional

import balancing  # it puts the project's folder on the path
from gevent.event import Event

from http_client import HttpClient
from http_front import HttpFront
from http_upstream import HttpUpstream
from tls_sockets import SecureHttpClient

#: Modules that serve clients in the loop: with http, and with tcp.
SERVING = re.compile(
    r"(http_(?!balancing)\w+|proxy_\w+|passive_health|poller|placement|pool|backends|strategies"
    r"|listener|intake|tls_(session|sockets|intake|contexts))\.py$")
RELAYING = re.compile(
    r"(relay|relayed_connection|connections|admission|poller|placement|pool|backends|strategies"
    r"|listener|intake|wait_queue|tls_(session|sockets|intake|contexts))\.py$")


class HttpHost(balancing.BalancerHost):
    @property
    def front(self) -> "Optional[HttpFront]":
        assert self.balancer is not None
        return self.balancer._http

    def figures(self) -> "Dict[str, Any]":
        """Everything that a client and its request take and have to give back."""
        balancer, front = self.balancer, self.front
        assert balancer is not None
        figures = super().figures()
        if front is None:
            return figures  # of tcp
        ends = [type(thing) for thing in gc.get_objects()]
        figures.update(
            clients=len(front),
            heads=len(front.heads),
            answers=len(front.answers),
            lingering=len(front.lingering),
            attempts=figures["attempts"] + len(front._attempts),
            queue=figures["queue"] + len(front.queue),
            kept=sum(len(backend.idle) for backend in balancer._pool),
            client_ends=ends.count(HttpClient) + ends.count(SecureHttpClient),
            upstream_ends=ends.count(HttpUpstream),
        )
        return figures

    def lingered(self) -> "List[float]":
        """Seconds from the beginning of each until its last byte, as far as those count."""
        assert self.front is not None
        return [each.since - each.began for each in self.front.lingering]

    def own_answers(self) -> "List[int]":
        """By class."""
        assert self.front is not None
        return self.front.own_answers

    def phases(self) -> "Dict[str, int]":
        """How many clients there are in each."""
        assert self.front is not None
        phases = [client.phase for client in self.front._clients]
        return {phase: phases.count(phase) for phase in phases}

    def held(self) -> int:
        """Bytes of all clients and their instances that lie in this process, or in a pipe of it.
        What a slice keeps alive counts, and not only what it shows."""
        assert self.front is not None
        sockets = [sock for client in self.front._clients for sock in (client, client.peer)
                   if sock is not None]
        return sum(
            whole(sock.unsent) + (sock.reader.held if sock.reader else 0)
            + (sock.pipe.held if sock.pipe else 0) for sock in sockets)

    # Shortages of memory, and of the kernel's

    def fail_at(self, line: int) -> None:
        """The so-manieth line that serves a client from now on raises MemoryError."""
        self.left, self.where = line, ""
        self.serving = RELAYING if self.front is None else SERVING
        self.engine.poller._loop.run_callback(sys.settrace, self._trace)

    def stop_failing(self) -> str:
        """Where it was; empty where it has not come to that."""
        done = Event()
        self.left = 0
        self.engine.poller._loop.run_callback(self._untrace, done)
        done.wait()
        return self.where

    def _untrace(self, done: Event) -> None:
        sys.settrace(None)
        done.set()

    def _cannot_fail(self, frame: Any) -> bool:
        """Nothing is made there, and some of it is outside of the `try` that it stands in."""
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        return line.partition("#")[0].strip() in ("try:", "pass", "return", "raise", "break")

    def _trace(self, frame: Any, event: str, argument: Any) -> Any:
        """Of sys.settrace: of each call, and of the lines of those that it answers itself for."""
        name = os.path.basename(frame.f_code.co_filename)
        if not self.serving.match(name):
            return None
        if event == "line" and not self._cannot_fail(frame):
            self.left -= 1
            if self.left == 0:
                self.where = "%s:%d" % (name, frame.f_lineno)
                raise MemoryError
        return self._trace

    def limit_watches(self, count: int) -> None:
        """So many sockets can still be watched; then epoll_ctl(2) fails with ENOSPC."""
        poller = self.engine.poller
        left = [count]

        def limited(watch: Any) -> Any:
            def call(*words: Any) -> None:
                if not left[0]:
                    raise OSError(28, "No space left on device")
                left[0] -= 1
                watch(*words)
            return call

        for name in ("watch", "watch_both_ways"):
            setattr(poller, name, limited(getattr(type(poller), name).__get__(poller)))

    def unlimit_watches(self) -> None:
        poller = self.engine.poller
        for name in ("watch", "watch_both_ways"):
            poller.__dict__.pop(name, None)


def whole(unsent: "Optional[memoryview]") -> int:
    return 0 if unsent is None else len(unsent.obj)  # type: ignore[arg-type]


def main() -> None:
    balancing.BalancerHost = HttpHost  # type: ignore[misc]
    balancing.main()


if __name__ == "__main__":
    main()
