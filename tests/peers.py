"""Both sides of a balancer: clients, instances, and the balancer itself in a process of its own.

A test reads as a dialogue:

    client, server = stage.meet()
    client.says(b"question").finishes()
    server.hears(b"question").hears_the_end()
"""

import itertools
import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    Iterator,
    List,
    Optional,
    Set,
    Tuple,
    Type,
    TypeVar,
)

import pytest

from balancer import BalancerOwner
from model import Cluster
from pool import PoolOwner
from proxy_protocol import Announced, read_header

CHILD = Path(__file__).resolve().parent / "children" / "balancing.py"

#: What children/balancing.py answers to no order in particular: that it has gorged itself.
GORGED = -1

#: Seconds for anything that is to happen.
PATIENCE = 30.0
#: Seconds after which a wait in the balancer would end by itself: no test lives to see it.
FOREVER = 1e6
#: Seconds for which what must not happen is waited for. A busy machine needs longer for what does
#: happen, so that nothing is concluded from them alone.
STALL = 0.2
#: Turns of the balancer after which it has taken all that it can.
TURNS = 3

#: How much the heavy tests do, against what they do on a developer's machine.
SCALE = float(os.environ.get("PUPGEVENT_TEST_SCALE", "1"))

#: struct linger: close with a reset.
_ABRUPTLY = struct.pack("ii", 1, 0)

Address = Tuple[Any, ...]

#: What a cluster has that says nothing of all this.
SETTINGS = {
    "strategy": "round-robin",
    "connect_timeout": 2.0,
    "queue_timeout": 2 * PATIENCE,
    "queue_limit": 1024,
    "max_connections": 0,
    "slow_start": 0.0,
    "idle_timeout": 3600.0,
    "half_close_timeout": 60.0,
    "head_timeout": 10 * PATIENCE,
}


def cluster_with(**settings: Any) -> Cluster:
    """What a balancer is made from."""
    return Cluster(**dict(dict.fromkeys(Cluster._fields), **dict(SETTINGS, **settings)))


class Notes(BalancerOwner):
    """Keeps what a balancer has to say to people."""

    def __init__(self, lines: "Optional[List[str]]" = None) -> None:
        self.lines: List[str] = [] if lines is None else lines

    def warn(self, text: str) -> None:
        self.lines.append(text)


class Unconcerned(PoolOwner):
    """Does not mind what a pool tells."""

    def warn(self, text: str) -> None:
        pass

    def on_available(self) -> None:
        pass

    def on_reach_changed(self) -> None:
        pass

    def intruder(self, name: str) -> str:
        return ""


def eventually(condition: "Callable[[], Any]", what: str, timeout: float = PATIENCE) -> Any:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, "not within %g s: %s" % (timeout, what)
        time.sleep(0.005)


class Peer:
    """One side of a conversation. What it does returns itself, so that its lines can be chained."""

    def __init__(self, sock: socket.socket, turn: "Callable[[], Any]" = lambda: None) -> None:
        """`turn()` returns when the balancer has looked at its sockets once more."""
        sock.settimeout(PATIENCE)
        self.socket = sock
        self._turn = turn

    @property
    def address(self) -> Address:
        return self.socket.getsockname()  # type: ignore[no-any-return]

    def says(self, data: bytes) -> "Peer":
        self.socket.sendall(data)
        return self

    def has_its_say(self, data: bytes) -> "Peer":
        """All of it, and the end of the stream."""
        return self.says(data).finishes()

    def says_urgently(self, data: bytes) -> "Peer":
        self.socket.send(data, socket.MSG_OOB)
        return self

    def takes(self, count: int) -> bytes:
        """The next `count` bytes, or fewer if the end comes before."""
        pieces, missing = [], count
        while missing:
            piece = self.socket.recv(min(missing, 1 << 20))
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def hears(self, expected: bytes) -> "Peer":
        heard = self.takes(len(expected))
        # No assert on the whole: its report would take minutes on megabytes.
        assert len(heard) == len(expected) and heard[:100] == expected[:100]
        assert heard == expected or not "other bytes than were said"
        return self

    def hears_the_end(self) -> "Peer":
        assert self.socket.recv(1000) == b""
        return self

    def hears_a_reset(self) -> "Peer":
        with pytest.raises(ConnectionResetError):
            self.socket.recv(1000)
        return self

    def hears_nothing(self, seconds: float = STALL) -> "Peer":
        """Neither a byte nor an end, for a while: what must not happen can only be waited for."""
        assert not select.select([self.socket], [], [], seconds)[0]
        return self

    def hears_anything(self, seconds: float) -> bool:
        """Wait for a byte or an end, so long at most."""
        return bool(select.select([self.socket], [], [], seconds)[0])

    def is_sent_away(self) -> "Peer":
        """The end, or a reset: nobody took what it may have said."""
        try:
            assert self.socket.recv(1000) == b""
        except ConnectionResetError:
            pass
        return self

    def finishes(self) -> "Peer":
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def leaves(self) -> None:
        self.socket.close()

    def resets(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABRUPTLY)
        self.socket.close()

    def pushes_until_it_stalls(self) -> int:
        """Send and send, until the balancer takes no more of it; how many bytes were taken?"""
        block = memoryview(bytes(1 << 20))
        pushed = 0
        self.socket.setblocking(False)
        while self.can_send():
            try:
                pushed += self.socket.send(block)
            except BlockingIOError:
                pass
        self.socket.settimeout(PATIENCE)
        return pushed

    def can_send(self) -> bool:
        """Also once the balancer has had its turns; a busy machine may have kept it from them."""
        if select.select([], [self.socket], [], STALL)[1]:
            return True
        for _ in range(TURNS):
            self._turn()
        return bool(select.select([], [self.socket], [], STALL)[1])


def announced_to(server: Peer) -> Announced:
    """What the PROXY header says that an instance gets first."""
    data = b""
    while True:
        header = read_header(data)
        if header is not None:
            assert header.announced is not None, data
            return header.announced
        piece = server.takes(1)
        assert piece, "the end, after %r" % data
        data += piece


class Aside:
    """Something that one side does while the test goes on; `is_done` tells how it went."""

    def __init__(self, what: "Callable[..., Any]", *words: Any) -> None:
        self._what = what
        self._words = words
        self._failure = None  # type: Optional[BaseException]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._what(*self._words)
        except BaseException as failure:
            self._failure = failure

    def is_done(self) -> None:
        self._thread.join(2 * PATIENCE)
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure


class Proxy:
    """The balancer's process (tests/children/balancing.py), and the talk with it."""

    child = CHILD

    def __init__(self, *options: str) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(self.child)] + list(options),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0,
        )  # fmt: skip
        self.pid = self.process.pid
        self._ids = itertools.count()
        self._answers = {}  # type: Dict[int, Any]
        self._received = b""
        self._forgiven = ""

    def call(self, do: str, *words: Any) -> Any:
        """Give an order and wait for its answer."""
        return self.answer(self.start(do, *words))

    def start(self, do: str, *words: Any) -> int:
        """Give an order that takes its time; `answer` of what this returns waits for it."""
        ticket = next(self._ids)
        line = json.dumps({"id": ticket, "do": do, "with": words}) + "\n"
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode())
        return ticket

    def has_answered(self, ticket: int) -> bool:
        self._read(0)
        return ticket in self._answers

    def answer(self, ticket: int) -> Any:
        deadline = time.monotonic() + 2 * PATIENCE
        while ticket not in self._answers:
            self._read(max(0.0, deadline - time.monotonic()))
            assert time.monotonic() < deadline, "the balancer does not answer"
        answer = self._answers.pop(ticket)
        assert "error" not in answer, answer["error"]
        return answer["is"]

    def _read(self, timeout: float) -> None:
        assert self.process.stdout is not None
        if select.select([self.process.stdout], [], [], timeout)[0]:
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, "the balancer has died: %s" % self.complaints()
            *lines, self._received = (self._received + data).split(b"\n")
            for line in lines:
                answer = json.loads(line.decode())
                self._answers[answer["id"]] = answer

    def complaints(self) -> str:
        """What it wrote to its standard error: nothing, if all is well."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def forgives(self, error: str) -> None:
        """That and nothing else may stand there in the end: what the loop tells of a callback that
        raised. Before Python 3.9 it comes there when the process ends."""
        self._forgiven = error

    def _is_forgiven(self, complaints: str) -> bool:
        error = self._forgiven
        lines = [line for line in complaints.splitlines() if line[:1] not in (" ", "")]
        others = [line for line in lines if not line.startswith(("Traceback", "Exception", error))]
        return error != "" and all("failed with " + error in line for line in others)

    def cpu_seconds(self) -> float:
        with open("/proc/%d/stat" % self.pid) as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))

    def starves(self, left: int) -> None:
        """From now on there is memory for so many bytes more, and for no byte beyond. Who is so
        poor may hear no order any more: it is done from outside."""
        with open("/proc/%d/statm" % self.pid) as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        self._may_have(size + left)

    def gorges(self) -> None:
        """It has no memory at all any more."""
        self.call("gorge")
        self.starves(0)
        self.answer(GORGED)

    def feeds(self) -> None:
        """The end of that."""
        self._may_have(resource.RLIM_INFINITY)

    def _may_have(self, size: int) -> None:
        resource.prlimit(self.pid, resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))

    def stands_still(self) -> bool:
        with open("/proc/%d/stat" % self.pid) as file:
            return file.read().rpartition(")")[2].split()[0] == "T"

    @contextmanager
    def frozen(self) -> "Iterator[None]":
        """What happens meanwhile, it will meet all at once."""
        os.kill(self.pid, signal.SIGSTOP)
        eventually(self.stands_still, "the balancer stands still")
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(3 * PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            complaints = self.complaints()
            self._errors.close()
        assert complaints == "" or self._is_forgiven(complaints), complaints


class Instance:
    """A listening socket that the balancer is told of as an instance."""

    def __init__(self, stage: "BalancerStage", name: str, sock: socket.socket) -> None:
        self.stage = stage
        self.name = name
        self.socket = sock
        self.address = sock.getsockname()  # type: Address
        #: The addresses of those who clog it.
        self.fillers: Set[Address] = set()

    def comes_up(self) -> "Instance":
        self.stage.proxy.call("up", self.name, *self.address[:2])
        return self

    def goes_down(self) -> None:
        self.stage.proxy.call("down", self.name)

    def accepts(self) -> Peer:
        self.socket.settimeout(PATIENCE)
        return self.stage.peer(self.socket.accept()[0])

    def accepts_nobody(self, seconds: float = STALL) -> None:
        assert not select.select([self.socket], [], [], seconds)[0]

    def stops_listening(self) -> None:
        self.socket.close()

    def listens_again(self) -> None:
        self.socket = self.stage.listening(self.address)

    def clogs(self) -> None:
        """From now on a connect to it stays under way: it accepts nobody, and its line is full."""
        self.socket.listen(0)
        while True:
            filler = self.stage.keep(socket.socket(self.socket.family))
            filler.setblocking(False)
            filler.connect_ex(self.address)
            self.fillers.add(filler.getsockname())
            if not select.select([], [filler], [], STALL)[1]:
                return

    def unclogs(self) -> None:
        """Accept and drop the fillers, as long as there are any."""
        self.socket.listen(1024)
        while select.select([self.socket], [], [], STALL)[0]:
            self.accepts().leaves()

    def clears_its_line(self) -> None:
        """Accept and drop whoever has got through to it by now."""
        while select.select([self.socket], [], [], 0)[0]:
            self.socket.accept()[0].close()

    def status(self) -> "Dict[str, Any]":
        return next(
            each for each in self.stage.status()["backends"] if each["name"] == self.name
        )

    def state(self) -> str:
        return self.status()["state"]  # type: ignore[no-any-return]


class BalancerStage:
    """A balancer with its clients and instances; closes what a test leaves open."""

    def __init__(self, proxy: Proxy, **settings: Any) -> None:
        self.proxy = proxy
        self._closing = ExitStack()
        self._names = itertools.count(1)
        self.settings = dict(SETTINGS, **settings)
        proxy.call("begin", self.settings)
        self.before = proxy.call("figures")
        #: Where it listens, once it does.
        self.common = ("", 0)  # type: Address
        self.met = 0

    # The balancer

    def listens(self, host: str = "127.0.0.1", port: int = 0) -> Address:
        self.common = tuple(self.proxy.call("listen", host, port))
        return self.common

    def begins_to_drain(self) -> int:
        """Its only instance, for as long as anybody waits; `proxy.answer` of what this returns
        waits for the end of it."""
        draining = self.proxy.start("drain", self.only.name, FOREVER)
        eventually(lambda: self.only.state() == "draining", "it is out of rotation")
        return draining

    def is_set(self, **settings: Any) -> None:
        """Other settings, as a reload brings them."""
        self.settings.update(settings)
        self.proxy.call("apply", self.settings)

    def time_passes(self, seconds: float) -> None:
        """For a balancer `--by-hand`. What has been heard by a peer it has done with."""
        self.proxy.call("pass_time", seconds)

    def status(self) -> "Dict[str, Any]":
        return self.proxy.call("status")  # type: ignore[no-any-return]

    def figures(self) -> "Dict[str, int]":
        return self.proxy.call("figures")  # type: ignore[no-any-return]

    def log(self) -> "List[str]":
        return self.proxy.call("log")  # type: ignore[no-any-return]

    def counts(self, **expected: int) -> None:
        """Numbers of its status (or of the sum over its backends) come to be these."""

        def now() -> "Dict[str, int]":
            status = self.status()
            sums = {
                key: sum(each[key] for each in status["backends"])
                for key in ("total", "bytes_in", "bytes_out", "connect_errors", "retries")
            }
            return {key: sums[key] if key in sums else status[key] for key in expected}

        try:
            eventually(lambda: now() == expected, "the counts")
        except AssertionError:
            assert now() == expected

    # Its instances

    def instance(self, host: str = "127.0.0.1") -> Instance:
        """One that listens; the balancer does not know it yet."""
        return Instance(self, "web-%d" % next(self._names), self.listening((host, 0)))

    def instances(self, count: int) -> "List[Instance]":
        """So many, up."""
        return [self.instance().comes_up() for _ in range(count)]

    def listening(self, address: Address) -> socket.socket:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        sock = self.keep(socket.socket(family))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(1024)
        return sock

    # Its clients

    def client(self, host: "Optional[str]" = None, source: "Optional[Address]" = None) -> Peer:
        """One that is connected to the common port."""
        address = (host or self.common[0], self.common[1])
        sock = self.keep(socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET))
        sock.settimeout(PATIENCE)
        if source is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(source)
        sock.connect(address)
        return Peer(sock, self.status)

    def meet(self) -> "Tuple[Peer, Peer]":
        """A client and the instance's side of its connection."""
        if not self.common[1]:
            self.listens()
            self.only = self.instance().comes_up()
        client, server = self.client(), self.only.accepts()
        # The instance is quicker to accept than the balancer is to notice.
        eventually(lambda: self.figures()["connections"] > self.met, "the connection")
        self.met += 1
        return client, server

    # The end

    def peer(self, sock: socket.socket) -> Peer:
        return Peer(self.keep(sock), self.status)

    def keep(self, sock: socket.socket) -> socket.socket:
        self._closing.callback(sock.close)
        return sock

    def abandon(self) -> None:
        """End it, whatever is left."""
        self._closing.close()
        self.proxy.call("end")

    def ends(self) -> None:
        """Whatever a test did: nothing of it stays in the balancer, and it met no bug."""
        self._closing.close()
        left = self.proxy.call("end")
        assert not any("bug" in line for line in left["log"]), left["log"]
        expected = dict(self.before, descriptors=left["left"]["descriptors"])
        assert left["left"] == expected, (left["left"], expected)
        # Spare pipes stay open.
        assert left["left"]["descriptors"] - self.before["descriptors"] <= 2 * 16


P = TypeVar("P", bound=Proxy)
S = TypeVar("S", bound=BalancerStage)


def started(*options: str) -> "ContextManager[Proxy]":
    return started_as(Proxy, *options)


@contextmanager
def started_as(kind: "Type[P]", *options: str) -> "Iterator[P]":
    proxy = kind(*options)
    try:
        yield proxy
    except BaseException:
        proxy.process.kill()
        proxy.process.wait()
        raise
    finally:
        proxy.end()


def setting(proxy: Proxy, **settings: Any) -> "ContextManager[BalancerStage]":
    return setting_of(BalancerStage, proxy, **settings)


@contextmanager
def setting_of(kind: "Type[S]", proxy: Proxy, **settings: Any) -> "Iterator[S]":
    """A stage for as long as the block lasts. What went wrong in it is told before what is left."""
    stage = kind(proxy, **settings)
    try:
        yield stage
    except BaseException:
        stage.abandon()
        raise
    stage.ends()
