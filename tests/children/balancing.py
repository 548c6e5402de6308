"""A balancer alone in a process, told what to do in lines of JSON.

    balancing.py [--descriptors N] [--splice os|libc|none|broken|forgetful] [--buffer BYTES]
                 [--sockets BYTES] [--by-hand]

Each line of standard input is {"id", "do", "with"}; it is answered on standard output by a line
{"id", "is"} or {"id", "error"}. Lines need not be answered in the order in which they came: `drain`
waits. The process ends with its standard input. With --by-hand the clock stands still, and nothing
sweeps, but for what is ordered (`pass_time`, `put_forward`).
"""

import argparse
import array
import fcntl
import gc
import json
import os
import resource
import signal
import sys
import termios
import time
import traceback
from ipaddress import ip_network
from pathlib import Path
from socket import (
    IPPROTO_TCP,
    SO_KEEPALIVE,
    SO_RCVBUF,
    SO_SNDBUF,
    SOL_SOCKET,
    TCP_NODELAY,
)
from typing import Any, Callable, Dict, List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import gevent
from gevent.event import Event

import balancer
import relay
import sockets
import splicing
import sweeping
import tls_files
import tls_session
from balancer import Balancer, BalancerOwner
from engine import Engine
from listener import Listener
from model import Cluster, Process, Tls
from tls_sockets import SecureRelaySocket

#: So often, 5 ms apart: five times as long as the kernel delays one.
_LOOKS_FOR_ACKNOWLEDGEMENT = 40


#: Made before: there is no memory for an answer.
GORGED = b'{"id": -1, "is": true}\n'


class CountingPipes(splicing.Pipes):
    """Knows how often a pipe was lent: whether a test has been on the splice path at all."""

    def __init__(self, clock: "Callable[[], float]") -> None:
        super().__init__(clock)
        self.loans = 0

    def borrow(self) -> "Optional[splicing.Pipe]":
        pipe = super().borrow()
        self.loans += pipe is not None
        return pipe


class BalancerHost(BalancerOwner):
    """One engine, and one balancer after the other on it."""

    def __init__(self, by_hand: bool) -> None:
        self.lines = []  # type: List[str]
        # A whole number: sums with it are exact.
        self.began = float(round(time.monotonic()))
        #: Time goes on only as `pass_time` and `put_forward` have it.
        self.by_hand = by_hand
        #: Seconds by which the clock of the balancers has been put forward.
        self.ahead = 0.0
        self.engine = Engine(self.lines.append, self.clock)
        self.pipes = self.engine.pipes = CountingPipes(self.clock)
        self.balancer = None  # type: Optional[Balancer]
        self.hoard = []  # type: List[int]
        self.gorged = []  # type: List[Any]

    def clock(self) -> float:
        return (self.began if self.by_hand else time.monotonic()) + self.ahead

    def pass_time(self, seconds: float) -> None:
        """Put the clock forward, with a sweep for each second as the loop would have it."""
        assert self.balancer is not None
        # In those seconds whoever takes bytes would have acknowledged them.
        for _ in range(_LOOKS_FOR_ACKNOWLEDGEMENT):
            if not self.unsent():
                break
            gevent.sleep(0.005)
        end = self.ahead + seconds
        while self.ahead < end:
            self.ahead = min(end, self.ahead + sweeping.SWEEP_SECONDS)
            self.balancer.sweep()
            # In slices, unless the clock stands still.
            while self.balancer.is_sweeping:
                gevent.sleep(0.001)
            # The loop has its turn, as it would have had.
            gevent.sleep(0.001)

    def put_forward(self, seconds: float) -> None:
        """The clock alone."""
        self.ahead += seconds

    def begin(self, settings: "Dict[str, Any]") -> None:
        """A new balancer."""
        self.lines.clear()
        cluster = self.cluster_of(settings)
        self.balancer = Balancer("web", cluster, self.engine, self)

    def cluster_of(self, settings: "Dict[str, Any]") -> Cluster:
        """With its certificates ready."""
        cluster = cluster_of(settings)
        fields = dict(dict.fromkeys(Process._fields), id="web", cluster=cluster)
        self.engine.certificates.load([Process(**fields)])
        return cluster

    def end(self) -> "Dict[str, Any]":
        """Close it; what is left then, and what was logged?"""
        assert self.balancer is not None
        self.balancer.close()
        left = self.figures()
        self.balancer = None
        return {"left": left, "log": self.lines}

    def listen(self, host: str, port: int) -> Any:
        assert self.balancer is not None
        self.balancer.take_over(Listener(host, port, self.warn, self.clock))
        return self.balancer.address

    def warn(self, text: str) -> None:
        self.lines.append(text)

    def status(self) -> "Dict[str, Any]":
        """Of the balancer, and of its backends."""
        balancer = self.balancer
        assert balancer is not None
        return dict(
            balancer.status()._asdict(),
            address=balancer.address,
            backends=[
                dict(each.status()._asdict(), name=each.name, host=each.address[0],
                     port=each.address[1])
                for each in balancer._pool
            ],
        )

    def apply(self, settings: "Dict[str, Any]") -> None:
        assert self.balancer is not None
        self.balancer.apply(self.cluster_of(settings))

    def stopped(self, do: str, words: "List[Any]") -> Any:
        """Stand still; once it goes on, do that before anything else."""
        os.kill(os.getpid(), signal.SIGSTOP)
        return self.order(do)(*words)

    def log(self) -> "List[str]":
        return self.lines

    def figures(self) -> "Dict[str, Any]":
        """Everything that a connection takes and has to give back."""
        balancer = self.balancer
        assert balancer is not None
        gc.collect()
        kinds = [type(thing) for thing in gc.get_objects()]
        return {
            "descriptors": len(os.listdir("/proc/self/fd")) - 1,
            "watched": len(self.engine.poller),
            "pipes_lent": self.pipes._lent,
            "connections": len(balancer._connections),
            "attempts": len(balancer._admission._attempts),
            "queue": len(balancer._admission.queue),
            "assigned": sum(backend.open for backend in balancer._pool),
            "ends": kinds.count(relay.RelaySocket),
            "secure_ends": kinds.count(SecureRelaySocket),
            "sessions": kinds.count(tls_session.TlsSession),
            "newcomers": len(balancer.tls_intake.waiting),
            "ciphertext": tls_session.INCOMING.pending + tls_session.OUTGOING.pending,
        }

    def handshakes(self) -> "List[int]":
        """Those that are over, of these with a ticket, and those that have failed."""
        assert self.balancer is not None
        intake = self.balancer.tls_intake
        return [intake.handshakes, intake.resumed, intake.failed]

    def forgotten(self) -> int:
        """Connections of backends that were removed."""
        assert self.balancer is not None
        known = list(self.balancer._pool)
        return sum(each.backend not in known for each in self.balancer._connections)

    def loans(self) -> int:
        return self.pipes.loans

    def spare_pipes(self) -> int:
        return len(self.pipes._spare)

    def memory(self) -> int:
        """Resident bytes."""
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    def held(self) -> int:
        """Bytes of all connections that lie in this process, or in a pipe of it."""
        return sum(
            len(sock.pending or b"") + (sock.pipe.held if sock.pipe is not None else 0)
            for sock in self._sockets()
        )

    def options(self) -> "List[List[int]]":
        """TCP_NODELAY and keep-alive of every socket that is relayed."""
        return [
            [sock.getsockopt(IPPROTO_TCP, TCP_NODELAY), sock.getsockopt(SOL_SOCKET, SO_KEEPALIVE)]
            for sock in self._sockets()
        ]

    def unread(self) -> int:
        """Bytes that lie in the receive queues of the relayed sockets."""
        answer = array.array("i", [0])
        total = 0
        for sock in self._sockets():
            fcntl.ioctl(sock.fileno(), termios.FIONREAD, answer)
            total += answer[0]
        return total

    def unsent(self) -> int:
        """Bytes that the kernel still has for those who are relayed."""
        return sum(sockets.unsent(sock.fileno()) for sock in self._sockets())

    def dying(self) -> int:
        """Connections of which one side has died, with bytes of it still to be delivered."""
        assert self.balancer is not None
        return sum(each.dying is not None for each in self.balancer._connections)

    def is_closed(self) -> bool:
        assert self.balancer is not None
        return self.balancer.closed

    def gorge(self) -> None:
        """Take all memory that there is, once `Proxy.starves` has set a limit: to the last object
        of 64 bytes. The line GORGED tells that it is done."""
        self.timer = gevent.get_hub().loop.timer(0.1, 0.1)
        self.timer.start(self._gorge)

    def _gorge(self) -> None:
        if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
            return
        self.timer.stop()
        take = self.gorged.append
        for size in (1 << 20, 1 << 16, 1 << 12, 1 << 9, 64, 16):
            try:
                while True:
                    take(bytearray(size))
            except MemoryError:
                pass
        os.write(1, GORGED)

    def _sockets(self) -> "List[relay.RelaySocket]":
        assert self.balancer is not None
        pairs = [(each.client, each.upstream) for each in self.balancer._connections]
        return [sock for pair in pairs for sock in pair]

    def hoard_descriptors(self) -> int:
        """Take all that are left."""
        try:
            while True:
                self.hoard.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            return len(self.hoard)

    def free_one_descriptor(self) -> None:
        os.close(self.hoard.pop())

    def free_descriptors(self) -> None:
        while self.hoard:
            os.close(self.hoard.pop())

    def spare_descriptors(self) -> int:
        """How many could still be opened."""
        count = self.hoard_descriptors()
        self.free_descriptors()
        return count

    def order(self, do: str) -> Any:
        """What carries out an order: a method of this, or else of the balancer."""
        return getattr(self, do, None) or getattr(self.balancer, do)


def cluster_of(settings: "Dict[str, Any]") -> Cluster:
    """With nothing in what a balancer does not look at. Networks are given as text, and the pairs
    of TLS as paths."""
    believed = settings.get("accept_proxy_from")
    if believed is not None:
        settings = dict(settings, accept_proxy_from=tuple(map(ip_network, believed)))
    if settings.get("tls") is not None:
        settings = dict(settings, tls=tls_of(**settings["tls"]))
    return Cluster(**dict(dict.fromkeys(Cluster._fields), **settings))


def tls_of(
    pairs: "List[List[str]]", min_version: str = "TLSv1.2", ciphers: "Optional[str]" = None,
    client_ca: "Optional[str]" = None,
) -> Tls:
    read = [tls_files.pair(tls_files.read_certificate(cert), tls_files.read_key(key))
            for cert, key in pairs]
    authorities = None if client_ca is None else tls_files.read_authorities(client_ca)
    return Tls(tuple(read), min_version, ciphers, authorities)


class Orders:
    """Standard input and output."""

    def __init__(self, stage: BalancerHost) -> None:
        self.stage = stage
        self.ended = Event()
        self.received = b""
        os.set_blocking(0, False)
        self.watcher = gevent.get_hub().loop.io(0, 1)
        self.watcher.start(self.read)

    def read(self) -> None:
        data = os.read(0, 65536)
        if not data:
            self.watcher.stop()
            self.ended.set()
        *lines, self.received = (self.received + data).split(b"\n")
        for line in lines:
            gevent.spawn(self.obey, json.loads(line.decode()))

    def obey(self, order: "Dict[str, Any]") -> None:
        try:
            answer = {"id": order["id"], "is": self.stage.order(order["do"])(*order["with"])}
        except Exception:
            answer = {"id": order["id"], "error": traceback.format_exc()}
        os.write(1, json.dumps(answer).encode() + b"\n")


def shrink_buffer(size: int) -> None:
    """A small buffer brings a test to its rims, and into bulk, with few bytes."""
    assert len(relay.BUFFER) == relay.BUFFER_BYTES and relay.BULK_BYTES < relay.BUFFER_BYTES
    relay.BUFFER_BYTES = size
    relay.BUFFER = bytearray(size)
    relay.VIEW = memoryview(relay.BUFFER)
    relay.BULK_BYTES = size // 4
    relay.SMALL_BYTES = min(relay.SMALL_BYTES, size // 4)
    splicing.PIPE_BYTES = splicing._LEAST_BYTES = size


def shrink_sockets(size: int) -> None:
    """Small buffers in the kernel are full soon."""
    attach = relay.RelaySocket.attach

    def attach_narrowly(sock: relay.RelaySocket, *words: Any) -> None:
        sock.setsockopt(SOL_SOCKET, SO_SNDBUF, size)
        sock.setsockopt(SOL_SOCKET, SO_RCVBUF, size)
        attach(sock, *words)

    relay.RelaySocket.attach = attach_narrowly  # type: ignore[method-assign]


def forgetful(splice: "Callable[[int, int, int], int]") -> "Callable[[int, int, int], int]":
    """The first time that it has moved something there is no memory for the answer."""
    failures = [MemoryError()]

    def move(source: int, sink: int, count: int) -> int:
        moved = splice(source, sink, count)
        if moved and failures:
            raise failures.pop()
        return moved

    return move


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--descriptors", type=int)
    parser.add_argument("--splice", choices=("os", "libc", "none", "broken", "forgetful"))
    parser.add_argument("--buffer", type=int)
    parser.add_argument("--sockets", type=int)
    parser.add_argument("--by-hand", action="store_true")
    options = parser.parse_args()
    if options.descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (options.descriptors,) * 2)
    if options.buffer:
        shrink_buffer(options.buffer)
    if options.by_hand:
        assert balancer.SWEEP_SECONDS == sweeping.SWEEP_SECONDS
        balancer.SWEEP_SECONDS = 1e9
    if options.sockets:
        shrink_sockets(options.sockets)
    if options.splice in ("libc", "broken"):
        move = splicing._from_libc() if options.splice == "libc" else splicing._nowhere
        assert move is not None
        relay.splice = splicing.splice = move
    if options.splice == "forgetful":
        relay.splice = forgetful(splicing.splice)
    stage = BalancerHost(options.by_hand)
    if options.splice == "none":
        stage.pipes.refuse()
    orders = Orders(stage)
    orders.ended.wait()


if __name__ == "__main__":
    main()
