"""Clients of `protocol = "http"`, which take nothing for an answer but a whole one.

A request counts as lost also where a browser would have sent it again: with http the balancer never
closes a connection that it keeps, except when it ends.
"""

import http.client
import itertools
import sys
import threading
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple
from urllib.parse import quote

from conftest import eventually
from running import QUICK, Running, cluster

SCRIPTED = str(Path(__file__).resolve().parent / "children" / "http_scripted.py")

#: Seconds for one answer: late is not lost.
PATIENCE = 60.0

#: Seconds that an instance has at most for what it has in hand: nothing here takes as long.
GRACE = 30


#: Keys of a cluster, for `web`.
CLUSTER = frozenset((
    "protocol", "headTimeoutMs", "responseTimeoutMs", "keepUpstream", "accessLog", "strategy",
    "maxConnections", "queueLimit", "queueTimeoutMs"))


def web(process_id: str, ports: List[int], common: int, *options: str, **more: Any) -> Any:
    """A process of scripted instances behind http, with more keys of its own or of its cluster."""
    keys = {key: more.pop(key) for key in CLUSTER.intersection(more)}
    found = dict(QUICK, id=process_id, cmd=[sys.executable, SCRIPTED, *options], autostart=True,
                 terminateGracePeriod=GRACE,
                 cluster=cluster(ports, common, **dict({"protocol": "http"}, **keys)))
    return dict(found, **more)


class Answer(NamedTuple):
    status: int
    fields: http.client.HTTPMessage
    body: bytes

    @property
    def instance(self) -> str:
        """Which one has answered."""
        assert self.body.startswith(b"hello from "), self
        return self.body.split()[2].strip(b",").decode()


def connect(port: int) -> http.client.HTTPConnection:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    client.connect()
    return client


def ask(client: http.client.HTTPConnection, path: str = "/", method: str = "GET",
        body: Optional[bytes] = None, fields: Optional[Dict[str, str]] = None) -> Answer:
    """Raises OSError or HTTPException where the answer is not whole."""
    client.request(method, path, body, fields or {})
    response = client.getresponse()
    return Answer(response.status, response.msg, response.read())


def ask_once(port: int, path: str = "/", **more: Any) -> Answer:
    """On a connection of its own."""
    client = connect(port)
    try:
        return ask(client, path, **more)
    finally:
        client.close()


class Asking:
    """Something that is asked aside; `answer` or `error` is there when it is over."""

    def __init__(self, port: int, path: str, **more: Any) -> None:
        self._answer: Optional[Answer] = None
        self.error: Optional[Exception] = None
        self._words = (port, path)
        self._more = more
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answer = ask_once(*self._words, **self._more)
        except (OSError, http.client.HTTPException) as error:
            self.error = error

    def wait(self) -> "Asking":
        self._thread.join()
        return self

    @property
    def answer(self) -> Answer:
        self.wait()
        if self.error is not None:
            raise self.error
        assert self._answer is not None
        return self._answer

    @property
    def status(self) -> int:
        """0 where the connection was reset."""
        self.wait()
        if isinstance(self.error, (ConnectionResetError, BrokenPipeError)):
            return 0
        return self.answer.status


class Gate:
    """What http_scripted.py waits for in place of seconds: until it is opened."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "gate"

    def __str__(self) -> str:
        return quote(str(self._file), safe="")

    def opens(self) -> None:
        self._file.touch()


class Kind(NamedTuple):
    """How a client asks; with `keeps` on one connection as long as it lasts."""

    method: str = "GET"
    path: str = "/"
    keeps: bool = True
    #: Seconds between two requests.
    pauses: Tuple[float, ...] = (0.0,)


class Crowd:
    """Clients that ask until the end of the context."""

    def __init__(self, port: int, *kinds: Kind) -> None:
        self.port = port
        self.kinds = kinds
        #: Whole answers with status 200, by client.
        self.answered = [0] * len(kinds)
        #: What there was in place of one, and how it was asked for.
        self.lost: List[Tuple[str, str]] = []
        self.instances: List[List[str]] = [[] for _ in kinds]
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.live, args=each)
                        for each in enumerate(kinds)]

    def __enter__(self) -> "Crowd":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def live(self, place: int, kind: Kind) -> None:
        client: Any = None
        body = b"x" * 1000 if kind.method == "POST" else None
        pauses = itertools.cycle(kind.pauses)
        while not self.ended.is_set():
            try:
                client = client or connect(self.port)
                found = ask(client, kind.path, kind.method, body)
                if found.status != 200 or not found.body.startswith(b"hello from "):
                    raise http.client.HTTPException("%d %r" % (found.status, found.body))
                self.answered[place] += 1
                if not kind.keeps:
                    client.close()
                    client = None
            except (OSError, http.client.HTTPException) as error:
                if client is not None:
                    client.close()
                client = None
                self.lost.append((kind.method, repr(error)))
                self.ended.wait(0.01)
            pause = next(pauses)
            if pause:
                self.ended.wait(pause)
        if client is not None:
            client.close()

    def wait_for_answers(self, count: int = 2) -> None:
        """So many more for each of them."""
        least = [each + count for each in self.answered]
        eventually(lambda: all(now >= each for now, each in zip(self.answered, least)),
                   message="answers for all")


def mixed(path: str, keeping: int, brief: int, posting: int) -> List[Kind]:
    """Clients that keep their connection, that have one for each request, and that send bodies."""
    return ([Kind("GET", path)] * keeping + [Kind("GET", path, keeps=False)] * brief
            + [Kind("POST", path)] * posting)


def in_flight(app: Running, process_id: str = "app") -> int:
    """Requests that instances have."""
    return int(app.process(process_id)["balancer"]["open"])


class Waves:
    """Clients that all ask at the same time, again and again, each on its own connection."""

    def __init__(self, port: int, getting: int, posting: int) -> None:
        self.lost: List[str] = []
        self.methods = ["GET"] * getting + ["POST"] * posting
        self.clients = [connect(port) for _ in self.methods]

    def roll(self) -> None:
        """A request of each, and then an answer of each."""
        for client, method in zip(self.clients, self.methods):
            client.request(method, "/", b"body" if method == "POST" else None)
        for client, method in zip(self.clients, self.methods):
            response = client.getresponse()
            body = response.read()
            if response.status != 200 or not body.startswith(b"hello from "):
                self.lost.append("%s: %d %r" % (method, response.status, body))

    def close(self) -> None:
        for client in self.clients:
            client.close()
