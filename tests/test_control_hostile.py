"""Garbled, oversized, slow, many, deaf: who talks nonsense to the control socket harms nobody."""

import contextlib
import json
import os
import random
import socket
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import control
import finding
from conftest import eventually
from control_protocol import Refused, check_fields, read_request
from running import SCALE, Running, get, server

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]


@pytest.fixture
def app(running: Make, free_ports: Ports) -> Iterator[Tuple[Running, int]]:
    """One with a balancer, and its port."""
    ports = free_ports(3)
    yield running(server("my-app", ports[:2], ports[2])).start(), ports[2]


def connect(app: Running) -> socket.socket:
    found = finding.reach(str(app.config), None, 10)
    assert found is not None
    found.connection.settimeout(60)
    return found.connection


def answers(client: socket.socket) -> List[Dict[str, Any]]:
    """All lines until it is closed."""
    with contextlib.closing(client), client.makefile("rb") as file:
        try:
            return [json.loads(line.decode()) for line in file]
        except ConnectionResetError:
            return []


def say(app: Running, data: bytes, ends: bool = True) -> List[Dict[str, Any]]:
    client = connect(app)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        client.sendall(data)
        if ends:
            client.shutdown(socket.SHUT_WR)
    return answers(client)


def test_each_request_has_exactly_one_last_line(app: Tuple[Running, int]) -> None:
    for data in (b'{"command": "status"}\n', b'{"command": "restart", "words": ["my-app"]}\n',
                 b'{"command": "reload"}\n', b'{"command": "nonsense"}\n', b"nonsense\n"):
        lines = say(app[0], data, ends=False)
        assert ["ok" in line for line in lines] == [False] * (len(lines) - 1) + [True]


WRONG = [
    (b"\n", "the request is not JSON"),
    (b"GET / HTTP/1.1\r\n\r\n", "the request is not JSON"),
    (b"\xff\xfe\x00\n", "the request is not JSON"),
    (b"[" * 60000 + b"\n", "the request is not JSON"),
    (b"[]\n", "the request is not an object"),
    (b'{"command": "status"', "the request is not a whole line"),
    (b"{}\n", '"command" is none of status, describe, start'),
    (b'{"command": []}\n', '"command" is none of'),
    (b'{"command": "status", "x": 1}\n', 'unknown field "x"'),
    (b'{"command": "scale", "id": "my-app"}\n', '"instances" is not a whole number'),
    (b'{"command": "scale", "id": "my-app", "instances": true}\n', '"instances" is not a who'),
    (b'{"command": "scale", "id": "my-app", "instances": 1e3}\n', '"instances" is not a who'),
    (b'{"command": "scale", "id": "my-app", "instances": 0}\n', "at least one instance"),
    (b'{"command": "scale", "id": "my-app", "instances": 9999}\n', "more than 1000 instances"),
    (b'{"command": "start", "words": "my-app"}\n', '"words" is not an array of strings'),
    (b'{"command": "start", "words": [1]}\n', '"words" is not an array of strings'),
    (b'{"command": "start", "words": ["my-ap"]}\n', 'did you mean "my-app"?'),
    (b"x" * 5000000, "the request is longer than 65536 bytes"),
]


def test_what_is_wrong_with_a_request_is_told(app: Tuple[Running, int]) -> None:
    for data, error in WRONG:
        lines = say(app[0], data)
        # Who sends megabytes may find the door closed before the answer is read.
        if lines or len(data) < 100000:
            (line,) = lines
            assert line["ok"] is False and error in line["error"], data[:80]
        assert app[0].status()["healthy"]


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    try:
        fields = read_request(data)
        check_fields(fields, {"words": [], "follow": False, "id": str})
    except Refused as error:
        assert "\n" not in str(error)


@given(st.dictionaries(
    st.sampled_from(["words", "follow", "id", "other"]),
    st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text() | st.none()),
))
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
def test_any_fields_are_right_or_refused(fields: Dict[str, Any]) -> None:
    try:
        checked = check_fields(fields, {"words": [], "follow": False, "id": str})
    except Refused:
        return
    assert sorted(checked) == ["follow", "id", "words"]
    assert isinstance(checked["id"], str) and isinstance(checked["follow"], bool)


def test_a_request_that_does_not_come_is_not_waited_for(
    app: Tuple[Running, int]
) -> None:
    client = connect(app[0])
    client.sendall(b'{"comm')
    (line,) = answers(client)
    assert line["error"] == "the request did not come in time"


def test_a_thousand_silent_connections_do_not_keep_a_command_waiting(
    app: Tuple[Running, int]
) -> None:
    before = descriptors(app[0])
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(contextlib.closing(connect(app[0]))) for _ in range(1000)]
        for client in silent[::2]:
            with contextlib.suppress(OSError):
                client.send(b"{")
        # A command that had to wait for their time-outs, a place after the other, would not get
        # through: it gives up before.
        for _ in range(20):
            assert app[0].status()["healthy"]
            get(app[1])
        assert descriptors(app[0]) <= before + control.MOST_CONNECTIONS + 5
    eventually(lambda: descriptors(app[0]) <= before)


def descriptors(app: Running) -> int:
    assert app.child
    return len(os.listdir("/proc/%d/fd" % app.child.pid))


def resident(app: Running) -> int:
    """Bytes."""
    assert app.child
    pages = Path("/proc/%d/statm" % app.child.pid).read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_clients_that_never_read_do_not_keep_a_command_waiting(
    app: Tuple[Running, int]
) -> None:
    deaf = []
    for _ in range(2 * control.MOST_CONNECTIONS):
        client = connect(app[0])
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        with contextlib.suppress(OSError):
            client.sendall(b'{"command": "logs", "follow": true}\n')
        deaf.append(client)
    # Each of them may take FOLLOWER_TIMEOUT, which is longer than any command has patience.
    assert app[0].status()["healthy"]
    for client in deaf:
        client.close()


def test_an_operation_goes_on_without_the_one_who_asked(app: Tuple[Running, int]) -> None:
    before = app[0].pids()
    client = connect(app[0])
    client.sendall(b'{"command": "restart"}\n')
    client.close()
    eventually(lambda: not set(before.values()) & set(app[0].pids().values()))
    eventually(lambda: "[control] restart: done" in app[0].said())


def nonsense(rng: random.Random) -> bytes:
    """What a broken, or a curious, client might send."""
    whole = b'{"command": "%s", "words": ["my-app"]}\n' % rng.choice([b"status", b"logs", b"x"])
    kinds: List[Callable[[], bytes]] = [
        lambda: bytes(rng.getrandbits(8) for _ in range(rng.randint(1, 2000))),
        lambda: whole[:rng.randint(1, len(whole))],
        lambda: b"x" * rng.choice([65535, 65536, 65537, 1000000]),
        lambda: whole * rng.randint(1, 50),
        lambda: whole.replace(b'"', b"'"),
        lambda: b"\n" * rng.randint(1, 1000),
        lambda: b'{"command": ' * 1000,
    ]
    return rng.choice(kinds)()


def test_after_a_storm_of_nonsense_everything_is_as_before(app: Tuple[Running, int]) -> None:
    rng = random.Random(4)
    pupgevent, port = app
    for _ in range(50):  # what is allocated once is there
        say(pupgevent, nonsense(rng))
    before = descriptors(pupgevent), resident(pupgevent)
    pending: List[socket.socket] = []
    served, wanted = 0, 5 + int(25 * SCALE)
    while served < wanted:
        client = connect(pupgevent)
        client.setblocking(False)
        with contextlib.suppress(OSError):
            client.send(nonsense(rng))
        pending.append(client)
        if len(pending) > 100:
            pending.pop(rng.randrange(len(pending))).close()
        if rng.random() < 0.05:
            assert pupgevent.status()["healthy"]
            get(port)
            served += 1
    for client in pending:
        client.close()
    eventually(lambda: descriptors(pupgevent) <= before[0])
    assert resident(pupgevent) < before[1] + 8 * 2**20
    assert "bug" not in pupgevent.said()
