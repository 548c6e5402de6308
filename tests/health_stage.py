"""What the tests of health share: an application that answers as it is told, and its clients."""

import re
from pathlib import Path
from typing import Any, List, NamedTuple, Optional

import gevent
import gevent.socket

from inside import RuntimeStage
from supervision import PATIENCE, script, wait_until

#: An answer of the application ends with its number, and of pupgevent with its connection.
LENGTH, DIGITS = re.compile(rb"Content-Length: 1\r\n\r\n."), tuple(b"%d" % n for n in range(10))


class Folder:
    """How children/health_app.py answers."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def health(self, word: str, number: str = "") -> None:
        """Of all instances, or of one, from 0."""
        self._write("health", word, number)

    def answer(self, word: str, number: str = "") -> None:
        """The same for everything else."""
        self._write("answer", word, number)

    def _write(self, kind: str, word: str, number: str) -> None:
        new = self.path / "new"
        new.write_text(word)
        new.rename(self.path / (kind + ("-" + number if number else "")))


class Answer(NamedTuple):
    status: int
    #: The number of the instance; empty for an answer of pupgevent itself.
    instance: str


def ask(port: int, fields: str = "") -> Answer:
    """A request with a connection of its own, while the hub runs."""
    with gevent.socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: a\r\n%sConnection: close\r\n\r\n" % fields.encode())
        data = b""
        while not LENGTH.search(data) or not data.endswith(DIGITS):
            more = client.recv(65536)
            if not more:
                break
            data += more
    head, _, body = data.partition(b"\r\n\r\n")
    return Answer(int(head.split()[1]), body.decode() if body.isdigit() else "")


def who_answers(port: int, times: int) -> List[str]:
    """The instances, one request after the other."""
    return [ask(port).instance for _ in range(times)]


def web(folder: Path, ports: List[int], *, health: Optional[Any] = None, **cluster: Any) -> Any:
    """A cluster of the application; the last of the ports is the common one."""
    cluster = dict({"protocol": "http", "commonHost": "127.0.0.1", "commonPort": ports[-1],
                    "instances": len(ports) - 1, "startPort": ports[0]}, **cluster)
    if health is not None:
        cluster["health"] = health
    return {"id": "web", "cmd": list(script("health_app.py", str(folder))), "autostart": True,
            "terminateGracePeriod": 0, "cluster": cluster}


def backend(stage: RuntimeStage, name: str) -> Any:
    """An instance as its balancer sees it."""
    return stage.runtime.balancers["web"].backend_status(name)


def is_backend(stage: RuntimeStage, name: str, state: str) -> Any:
    wait_until(lambda: backend(stage, name).state == state, PATIENCE,
               lambda: "%s; %s" % (backend(stage, name), stage.console.lines))
    return backend(stage, name)
