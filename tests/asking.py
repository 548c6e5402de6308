"""Somebody who asks the dashboard."""

import http.client
import json
import re
import socket
from typing import Any, Dict, Iterable, NamedTuple, Optional, Tuple

from prometheus_client import parser

#: Seconds for an answer.
PATIENCE = 60.0


class Reply(NamedTuple):
    code: int
    #: By their names in lower case.
    headers: Dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def ask(
    port: int, path: str = "/", method: str = "GET", host: Optional[str] = "localhost",
    headers: Iterable[Tuple[str, str]] = (), to: str = "127.0.0.1",
) -> Reply:
    """One request with a connection of its own; without a Host where that is None."""
    connection = http.client.HTTPConnection(to, port, timeout=PATIENCE)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in [*([] if host is None else [("Host", host)]), *headers]:
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, names, answer.read())
    finally:
        connection.close()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def say(port: int, data: bytes) -> bytes:
    """All that is answered until the end, or a reset."""
    with connect(port) as client:
        try:
            client.sendall(data)
        except OSError:
            pass  # it has closed already; what it said before is there
        return hear(client)


def hear(client: socket.socket) -> bytes:
    pieces = []
    try:
        while True:
            pieces.append(client.recv(1 << 16))
            if not pieces[-1]:
                break
    except ConnectionResetError:
        pass
    return b"".join(pieces)


def codes(answers: bytes) -> "list[int]":
    """Of all answers in a row."""
    return [int(each) for each in re.findall(rb"HTTP/1\.1 ([0-9]+) ", answers)]


#: Name and labels of a metric.
Key = Tuple[str, Tuple[Tuple[str, str], ...]]


class Scrape:
    """What Prometheus would have of a text."""

    def __init__(self, text: str) -> None:
        self.types: Dict[str, str] = {}
        self.values: Dict[Key, float] = {}
        for family in parser.text_string_to_metric_families(text):
            # The parser takes the end off the name of a counter.
            name = family.name + ("_total" if family.type == "counter" else "")
            assert name not in self.types
            self.types[name] = family.type
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                assert key not in self.values
                self.values[key] = sample.value

    def value(self, name: str, **labels: str) -> float:
        return self.values[name, tuple(sorted(labels.items()))]

    def of(self, name: str) -> "Dict[Tuple[Tuple[str, str], ...], float]":
        """By the labels."""
        return {labels: value for (each, labels), value in self.values.items() if each == name}


def scrape(port: int) -> Scrape:
    reply = ask(port, "/metrics")
    assert reply.code == 200
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Scrape(reply.text)
