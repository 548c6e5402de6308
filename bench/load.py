"""The clients: wrk for a load, plain sockets for connections that are only held open."""

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Sequence

from bench import tls
from bench.processes import PATIENCE, catches, interrupts, until
from bench.tools import BenchError

SCRIPT = Path(__file__).resolve().with_name("wrk.lua")
REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"


class Load(NamedTuple):
    """What wrk asks for, over how many connections at a time."""

    connections: int
    path: str = "/"
    #: False: the server closes after each answer.
    keep_alive: bool = True
    #: Bytes of the body of each request.
    upload: int = 0

    @property
    def threads(self) -> int:
        return min(2, self.connections)


def drive(wrk: str, load: Load, ports: Sequence[int], seconds: float,
          encrypted: bool = False) -> Dict[str, float]:
    """Run wrk and return requests, duration and percentiles (both in µs), errors.

    wrk counts its `--duration` in whole seconds; interrupted, it reports what it has.
    """
    words = [wrk, "--threads", str(load.threads), "--connections", str(load.connections),
             "--duration", "%ds" % (math.ceil(seconds) + PATIENCE), "--script", str(SCRIPT)]
    if not load.keep_alive:
        words += ["--header", "Connection: close"]
    words.append("%s:%d%s" % ("https://" + tls.HOST if encrypted else "http://127.0.0.1",
                              ports[0], load.path))
    env = dict(os.environ, BENCH_PORTS=" ".join(map(str, ports)), BENCH_BODY=str(load.upload))
    with contextlib.ExitStack() as ending:
        with interrupts.postponed():
            process = ending.enter_context(subprocess.Popen(
                words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, universal_newlines=True, start_new_session=True))
            ending.callback(process.kill)
        return figures_in(interrupted_after(process, seconds))


def interrupted_after(process: "subprocess.Popen[str]", seconds: float) -> str:
    """Its output; the seconds begin when wrk has started all its threads."""
    until(lambda: process.poll() is not None or catches(process.pid, signal.SIGINT), "wrk runs")
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=PATIENCE)[0]
    except subprocess.TimeoutExpired:
        raise BenchError("wrk does not end") from None


def figures_in(output: str) -> Dict[str, float]:
    lines = output.strip().splitlines() or ["it said nothing"]
    try:
        figures: Dict[str, float] = json.loads(lines[-1])
    except ValueError:
        raise BenchError("wrk: %s" % lines[-1]) from None
    return figures


@contextlib.contextmanager
def held(port: int, count: int, encrypted: bool = False) -> Iterator[None]:
    """Keep connections open that have had one answer each and are idle since."""
    clients: List[socket.socket] = []
    try:
        for _ in range(count):
            clients.append(connect(port, encrypted))
            answer(clients[-1])
        yield
    except OSError as error:
        raise BenchError("connection %d of %d through port %d: %s"
                         % (len(clients), count, port, error)) from error
    finally:
        for client in clients:
            client.close()


def connect(port: int, encrypted: bool) -> socket.socket:
    """Raises OSError."""
    if encrypted:
        return tls.connect(port)
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def answer(client: socket.socket) -> bytes:
    """The beginning of what the server answers to one small request; empty if it closes."""
    client.sendall(REQUEST)
    return client.recv(65536)


def answers(port: int, encrypted: bool = False) -> bool:
    """Whether a request to that port gets an answer now."""
    try:
        with connect(port, encrypted) as client:
            return bool(answer(client))
    except OSError:
        return False


def first_answer(port: int) -> float:
    """Ask until there is an answer, and return when that was, by the monotonic clock."""
    until(lambda: answers(port), "an answer on port %d" % port, interval=0.001)
    return time.monotonic()
