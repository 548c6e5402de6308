"""What slow and hostile clients do, and the process that does it: see hostile.py."""

import socket
import time
from typing import Dict, NamedTuple

from bench.load import REQUEST
from bench.processes import PATIENCE

UPLOAD = b"POST /upload HTTP/1.1\r\nHost: bench\r\n%s\r\n\r\n"
CHUNKED = UPLOAD % b"Transfer-Encoding: chunked"
LARGE, LONG = REQUEST.replace(b"/ ", b"/100k "), REQUEST.replace(b"/ ", b"/10m ")


class Attack(NamedTuple):
    """`said` once, by each of so many; then `more` each few milliseconds, or as fast as it goes."""

    connections: int
    said: bytes = b""
    more: bytes = b""
    #: Seconds between two of `more`; 0 is as fast as it goes.
    pause: float = 0.02
    #: Bytes that it reads each time.
    reads: int = 1 << 20
    #: Its receive buffer, of which the kernel makes at least 2,304 bytes (socket(7)); 0 is any.
    window: int = 0
    #: It resets its connection after that, and comes again.
    resets: bool = False


#: By their names in the table.
ATTACKS: Dict[str, Attack] = {
    "nothing": Attack(0),
    "idle": Attack(10000, pause=10.0),
    "heads byte by byte": Attack(500, b"GET / HTTP/1.1\r\nX: ", b"x", 0.1),
    "bodies byte by byte": Attack(500, UPLOAD % b"Content-Length: 100000", b"x", 0.1),
    "answers read byte by byte": Attack(200, LONG, reads=1, window=1),
    "answers that nobody reads": Attack(200, LONG, reads=0, window=1),
    "1,000 pipelined, nobody reads": Attack(100, LARGE * 1000, reads=0, window=1),
    "1,000 pipelined": Attack(2, b"", REQUEST * 1000, 0.0),
    "heads of 30 KB": Attack(4, b"", REQUEST[:-2] + b"Cookie: " + b"a=b; " * 6000 + b"\r\n\r\n",
                             0.0),
    "lists of 30 KB": Attack(4, b"", REQUEST[:-2] + b"Connection: " + b"a," * 15000 + b"\r\n\r\n",
                             0.0),
    "heads of 64 KB": Attack(4, b"", REQUEST[:-2] + b"X: " + b"x" * 65536, 0.0),
    "garbage": Attack(4, b"", b"\x16\x03\x01" * 1000, 0.0),
    "empty lines": Attack(4, b"", b"\r\n" * 1000, 0.0),
    "resets in a head": Attack(4, b"", REQUEST[:-2], 0.0, resets=True),
    "resets in an answer": Attack(4, b"", LONG, 0.0, resets=True),
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
        elif attack.reads:
            try:
                if not self.socket.recv(attack.reads):
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
