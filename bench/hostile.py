"""Hostile clients of the http mode: what do the others notice, and how much memory does each take?

`python -m bench.hostile`, from the project's folder. Somebody asks for a small answer each few
milliseconds, alone first, and then beside each kind of attack, which another process makes. Told
are p50, p99 and the longest of what that somebody waited, and by how much pupgevent's memory grew
for each connection of the attack. An attack that sends as fast as it can takes its share of the
machine, too: beside it stands what the others wait when a program computes as much.
"""

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, Iterator, NamedTuple, Sequence

from bench.load import REQUEST, answer
from bench.processes import (
    PATIENCE,
    Ports,
    interrupts,
    memory_bytes,
    raise_descriptor_limit,
    until,
)
from bench.servers import PupgeventHTTP, Site, default_pupgevent
from bench.tools import BenchError, find_tools

#: Seconds between two requests of who is not hostile.
EVERY = 0.005

#: Seconds from the beginning of an attack to the first look at what others notice.
SETTLING = 1.0

UPLOAD = b"POST /upload HTTP/1.1\r\nHost: bench\r\n%s\r\n\r\n"
CHUNKED = UPLOAD % b"Transfer-Encoding: chunked"


class Attack(NamedTuple):
    """`said` once, by each of so many; then `more` each few milliseconds, or as fast as it goes."""

    connections: int
    said: bytes = b""
    more: bytes = b""
    #: Seconds between two of `more`; 0 is as fast as it goes.
    pause: float = 0.02
    #: What the kernel takes for who does not read; 0: it reads.
    window: int = 0
    #: It resets its connection after that, and comes again.
    resets: bool = False


#: By their names in the table.
ATTACKS: Dict[str, Attack] = {
    "nothing": Attack(0),
    "idle": Attack(5000, pause=10.0),
    "heads byte by byte": Attack(500, b"GET / HTTP/1.1\r\nX: ", b"x", 0.1),
    "bodies byte by byte": Attack(500, UPLOAD % b"Content-Length: 100000", b"x", 0.1),
    "answers that nobody reads": Attack(200, REQUEST.replace(b"/ ", b"/10m "), window=2048),
    "1,000 pipelined, nobody reads": Attack(
        100, REQUEST.replace(b"/ ", b"/100k ") * 1000, window=2048),
    "1,000 pipelined": Attack(2, b"", REQUEST * 1000, 0.0),
    "heads of 64 KB": Attack(4, b"", REQUEST[:-2] + b"X: " + b"x" * 65536, 0.0),
    "garbage": Attack(4, b"", b"\x16\x03\x01" * 1000, 0.0),
    "empty lines": Attack(4, b"", b"\r\n" * 1000, 0.0),
    "resets in a head": Attack(4, b"", REQUEST[:-2], 0.0, resets=True),
    "resets in an answer": Attack(4, b"", REQUEST.replace(b"/ ", b"/10m "), 0.0, resets=True),
    "chunks of a byte": Attack(4, CHUNKED, b"1\r\nx\r\n" * 5000, 0.0),
    "chunks with leading zeros": Attack(4, CHUNKED, b"00000000001\r\nx\r\n" * 5000, 0.0),
    "chunks with extensions": Attack(4, CHUNKED, b"1;a\r\nx\r\n" * 5000, 0.0),
    "chunks of 64 bytes": Attack(4, CHUNKED, (b"40\r\n%s\r\n" % bytes(64)) * 500, 0.0),
    "trailers": Attack(4, CHUNKED, b"0\r\n" + b"X: y\r\n" * 5000, 0.0),
}


class Attacker:
    """One connection of an attack, made anew whenever it is closed."""

    def __init__(self, port: int, attack: Attack) -> None:
        self.port = port
        self.attack = attack
        self.left = b""
        self.connect()

    def connect(self) -> None:
        self.socket = socket.socket()
        if self.attack.window:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.attack.window)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", self.port))
        self.socket.setblocking(False)
        self.left = self.attack.said

    def goes_on(self) -> None:
        """Send what can be sent now, and drop what has come."""
        attack = self.attack
        if not self.left:
            self.left = attack.more
        try:
            if self.left:
                self.left = self.left[self.socket.send(self.left):]
        except BlockingIOError:
            pass
        except OSError:
            self.comes_again()
            return
        if attack.resets:
            self.comes_again()
        elif not attack.window:
            try:
                if not self.socket.recv(1 << 20):
                    self.comes_again()
            except BlockingIOError:
                pass
            except OSError:
                self.comes_again()

    def comes_again(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()
        self.connect()


def attack_for_ever(port: int, attack: Attack) -> None:
    """Until the process is killed; it says a line when all have come."""
    attackers = []
    for _ in range(attack.connections):
        attackers.append(Attacker(port, attack))
        attackers[-1].goes_on()
    print("all have come", flush=True)
    while True:
        for each in attackers:
            each.goes_on()
        time.sleep(attack.pause)


# Those who notice


class Figures(NamedTuple):
    """Milliseconds that somebody else waited for an answer, and bytes for each attacker."""

    p50: float
    p99: float
    longest: float
    memory: float


def waits(port: int, seconds: float) -> Iterator[float]:
    """Seconds for each of many answers, on one connection, and now and then on a new one."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            for _ in range(20):
                began = time.monotonic()
                if not answer(client):
                    raise BenchError("pupgevent has closed the connection of who is not hostile")
                yield time.monotonic() - began
                time.sleep(EVERY)


def measure(way: PupgeventHTTP, name: str, seconds: float) -> Figures:
    before = memory_bytes(way.worker)
    with interrupts.postponed():
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.hostile", "--attack", name, "--port", str(way.port)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise BenchError("the attack has ended: %s" % name)
        time.sleep(SETTLING)
        times = sorted(waits(way.port, seconds))
        grown = memory_bytes(way.worker) - before
    finally:
        process.kill()
        process.communicate()
    until(lambda: in_flight(way) == 0, "nothing is left of the attack: %s" % name)
    count = ATTACKS[name].connections
    return Figures(times[len(times) // 2] * 1e3, times[len(times) * 99 // 100] * 1e3,
                   times[-1] * 1e3, grown / count if count else 0.0)


def in_flight(way: PupgeventHTTP) -> int:
    """Requests under way."""
    output = subprocess.run(
        [*way.program, "status", "--json", str(way.site.folder / way.words[-1])], check=True,
        stdout=subprocess.PIPE, timeout=PATIENCE).stdout
    (process,) = json.loads(output.decode())["processes"]
    return int(process["balancer"]["open"])


#: Of the table, in Markdown.
HEAD = """\
| beside | connections | p50 ms | p99 ms | longest ms | KB each |
|---|---|---|---|---|---|"""


def line_of(name: str, each: Figures) -> str:
    count = ATTACKS[name].connections
    memory = "%.1f" % (each.memory / 1024) if count >= 100 else ""
    return "| %s | %s | %.2f | %.2f | %.1f | %s |" % (
        name, count or "", each.p50, each.p99, each.longest, memory)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--only", action="append", choices=sorted(ATTACKS))
    parser.add_argument("--attack", choices=sorted(ATTACKS), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    raise_descriptor_limit()
    if options.attack:
        attack_for_ever(options.port, ATTACKS[options.attack])
    interrupts.begin()
    with tempfile.TemporaryDirectory(prefix="pupgevent-hostile-") as folder:
        site = Site(Path(folder), find_tools(default_pupgevent(), []), Ports())
        site.write_answers()
        way = PupgeventHTTP(site)
        try:
            way.start()
            way.ready()
            print(HEAD, flush=True)
            for name in options.only or ATTACKS:
                print(line_of(name, measure(way, name, options.seconds)), flush=True)
        except BenchError as error:
            print("bench: %s" % error, file=sys.stderr)
            return 1
        finally:
            way.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
