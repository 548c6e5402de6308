"""Clients that connect with TLS for each request, and either resume a session or do not.

wrk cannot be told which: it tries to resume, and whether it succeeds depends on the server. Each
client here is a process of its own, `python -m bench.handshakes PORT SECONDS HANDSHAKE`, with one
connection after the other. With TLS 1.3 the server sends its tickets behind the handshake, so a
session can be taken only when the answer has been read.

A resumed session of TLS 1.3 still has its key exchange, which is most of what a full handshake
takes. One of TLS 1.2 has none: there the most is left of what else a balancer does.
"""

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from bench import tls
from bench.processes import PATIENCE, interrupts
from bench.tools import BenchError

#: Processes at a time.
CLIENTS = 4
FULL, RESUMED, RESUMED_12 = "full", "resumed", "resumed-1.2"
REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
FOLDER = Path(__file__).resolve().parent.parent


def drive(port: int, handshake: str, seconds: float) -> Dict[str, float]:
    """Have all clients connect to a port for a while; the figures are those that wrk gives, of
    connections: times are those from the connect to the end of the answer, in µs.
    """
    words = [sys.executable, "-m", "bench.handshakes", str(port), str(seconds), handshake]
    clients: List[subprocess.Popen[str]] = []
    with contextlib.ExitStack() as ending:
        for _ in range(CLIENTS):
            with interrupts.postponed():
                client = ending.enter_context(subprocess.Popen(
                    words, cwd=str(FOLDER), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT, universal_newlines=True, start_new_session=True))
                ending.callback(client.kill)
            clients.append(client)
        reports = [report_of(client, seconds) for client in clients]
    times = sorted(each for report in reports for each in report["times"])
    return {"requests": len(times), "duration": 1e6 * max(each["duration"] for each in reports),
            "errors": 0, "p50": 1e6 * times[len(times) // 2],
            "p99": 1e6 * times[len(times) * 99 // 100]}


def report_of(client: "subprocess.Popen[str]", seconds: float) -> Dict[str, Any]:
    """What it has printed; raises BenchError with its own words where that is none."""
    try:
        output = client.communicate(timeout=seconds + PATIENCE)[0]
    except subprocess.TimeoutExpired:
        raise BenchError("a client does not end that should connect for %g s" % seconds) from None
    try:
        report: Dict[str, Any] = json.loads(output)
    except ValueError:
        raise BenchError((output.strip().splitlines() or ["a client said nothing"])[-1]) from None
    return report


def connections(port: int, seconds: float, handshake: str) -> Dict[str, Any]:
    """One after the other; raises BenchError for one that did not have the wanted handshake."""
    session: Optional[ssl.SSLSession] = None
    times: List[float] = []
    older = handshake == RESUMED_12
    if handshake != FULL:
        session = ask(port, None, older)
    begin = now = time.monotonic()
    while not times or now - begin < seconds:
        newest = ask(port, session, older)
        before, now = now, time.monotonic()
        times.append(now - before)
        session = None if handshake == FULL else newest
    return {"times": times, "duration": now - begin}


def ask(port: int, session: Optional[ssl.SSLSession], older: bool) -> Optional[ssl.SSLSession]:
    """One connection, one answer; returns the session to resume."""
    with tls.connect(port, session, older) as client:
        if client.session_reused != (session is not None):
            raise BenchError("a handshake was %s that should have been %s" % (
                (RESUMED, FULL) if client.session_reused else (FULL, RESUMED)))
        client.sendall(REQUEST)
        if not whole(client).endswith(b"hello\n"):
            raise BenchError("an answer was not whole")
        return client.session


def whole(client: socket.socket) -> bytes:
    """What it gets until the end."""
    return b"".join(iter(lambda: client.recv(65536), b""))


def main(argv: Sequence[str]) -> int:
    port, seconds, handshake = argv
    try:
        print(json.dumps(connections(int(port), float(seconds), handshake)))
    except (BenchError, OSError) as error:
        print("a client on port %s: %s" % (port, error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
