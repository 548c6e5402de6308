"""`pupgevent logs --follow` ends when nobody reads it any more, and is forgotten then."""

import os
import subprocess
from pathlib import Path
from typing import Any, Callable, List

import pytest

import control_socket
from conftest import eventually
from running import PUPGEVENT, Running, sleeper

pytest_plugins = ["runs"]

#: Says one thing, and then nothing for longer than any test lasts.
QUIET = sleeper("quiet", cmd="echo once; exec sleep 600")

_CONNECTED = "03"


def connections(app: Running) -> int:
    """How many are connected to its control socket, from the side of who listens."""
    paths = control_socket.socket_paths(str(app.config))
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return sum(line[5] == _CONNECTED and line[-1] in paths for line in lines)


def follow(app: Running, output: Any) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*PUPGEVENT, "logs", "--follow", str(app.config), "quiet"], stdout=output,
        stderr=subprocess.PIPE)


def pipe() -> "List[int]":
    return list(os.pipe())


def terminal() -> "List[int]":
    return list(os.openpty())


@pytest.mark.parametrize("other_end", [pipe, terminal])
def test_a_follower_ends_with_its_reader_though_no_line_comes(
    running: Callable[..., Running], other_end: "Callable[[], List[int]]"
) -> None:
    app = running(QUIET).start()
    eventually(lambda: "[quiet][stdout] once" in app.said())
    reader, writer = other_end()
    with follow(app, writer) as child:
        try:
            os.close(writer)
            assert os.read(reader, 1000)
            assert connections(app) >= 1
            os.close(reader)
            assert child.wait(60) == 1
            assert child.stderr and child.stderr.read() == b""
        finally:
            child.kill()
    eventually(lambda: connections(app) == 0, message="it is forgotten")
