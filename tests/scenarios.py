"""Two sides that each follow a script on one connection, and what may have come of it.

A script is a list of steps, `Step("write", 4096)` for instance:

    write N       hand N bytes to the kernel, however long that takes
    pause MS      do nothing (but listen) for so many milliseconds
    listen HOW    0: not at all (until nothing moves any more), 1: a little at a time, 2: gladly
    catch_up      wait until all has arrived that the other one has written so far
    quiet         wait until nothing moves any more: everything is full, or all has arrived
    finish        end of stream, and listen on
    close, reset  the end of the script

Who comes to the end of a script finishes, and listens until the other's end.
"""

import random
import select
import socket
import struct
import time
from typing import Dict, List, NamedTuple, Optional

#: Seconds without a byte or a step after which all is quiet, and after which the two are stuck.
QUIET = 0.015
STUCK = 30.0

DEAF, SLOW, GLAD = range(3)

_ABRUPTLY = struct.pack("ii", 1, 0)

#: What the sides write, one each, again and again: a byte out of place cannot pass for another.
_LENGTH = 4 * 1024 * 1024 + 1
STREAMS = [
    memoryview(random.Random(seed).getrandbits(8 * _LENGTH).to_bytes(_LENGTH, "big"))
    for seed in (1, 2)
]


class Step(NamedTuple):
    do: str
    how: int = 0


Script = List[Step]


class Side:
    """One of the two. `end` is how the other's stream ended here: "eof", "reset", or "torn" when
    that was first noticed by writing."""

    def __init__(self, sock: socket.socket, script: Script, number: int, sip: int) -> None:
        """`sip`: how much it takes at a time when it listens but a little; bytes."""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self.steps = list(script)
        self.writes = STREAMS[number]
        self.reads = STREAMS[1 - number]
        self.other = self
        self.sip = sip
        self.listening = GLAD
        self.written = 0
        self.received = 0
        self.to_write = 0
        self.finished = self.broken = self.is_reset = self.is_closed = False
        self.end: Optional[str] = None
        self.corrupt = False
        self.until: Optional[float] = None
        self.sipped = 0.0

    # What it waits for

    @property
    def is_over(self) -> bool:
        return self.is_reset or self.is_closed

    def wants_to_read(self, now: float) -> bool:
        if self.is_over or self.end is not None or self.listening == DEAF:
            return False
        return self.listening == GLAD or now - self.sipped > 0.001

    def is_served(self) -> bool:
        """Has all that the other has said so far, the end included; or does not ask for it."""
        if self.is_over:
            return True
        if self.other.is_reset and self.listening != DEAF:
            # Behind an end of stream a reset may wait until somebody writes.
            return self.end is not None
        if self.end is not None or self.listening == DEAF:
            return True
        return self.received == self.other.written and not (
            self.other.finished or self.other.is_over)

    def wants_to_write(self) -> bool:
        return not self.is_over and self.to_write > 0

    # What it does

    def read(self, now: float) -> bool:
        self.sipped = now
        start = self.received % _LENGTH
        most = self.sip if self.listening == SLOW else 1 << 18
        try:
            data = self.socket.recv(min(most, _LENGTH - start))
        except BlockingIOError:
            return False
        except OSError:
            self.end = "reset"
            return True
        if not data:
            self.end = "torn" if self.broken else "eof"
        elif data != self.reads[start:start + len(data)]:
            self.corrupt = True
        self.received += len(data)
        return True

    def write(self) -> bool:
        start = self.written % _LENGTH
        try:
            sent = self.socket.send(self.writes[start:start + self.to_write])
        except BlockingIOError:
            return False
        except OSError:
            self.broken = True
            self.to_write = 0
            return True
        self.written += sent
        self.to_write -= sent
        return True

    def follow(self, now: float, is_quiet: bool) -> bool:
        """The next step, if it is time for it."""
        if self.is_over or self.to_write:
            return False
        if not self.steps:
            return self.conclude()
        step = self.steps[0]
        if not getattr(self, "do_" + step.do)(step.how, now, is_quiet):
            return False
        self.steps.pop(0)
        self.until = None
        return True

    def conclude(self) -> bool:
        self.listening = GLAD
        if not self.finished:
            return self.do_finish()
        if self.end is not None:
            self.socket.close()
            self.is_closed = True
        return self.is_over

    def do_write(self, count: int, now: float, is_quiet: bool) -> bool:
        if not self.finished and not self.broken:
            self.to_write = count
        return True

    def do_pause(self, milliseconds: int, now: float, is_quiet: bool) -> bool:
        if self.until is None:
            self.until = now + milliseconds / 1000
        return now >= self.until

    def do_listen(self, how: int, now: float, is_quiet: bool) -> bool:
        self.listening = how
        return True

    def do_catch_up(self, _: int, now: float, is_quiet: bool) -> bool:
        self.listening = GLAD
        if self.until is None:
            self.until = self.other.written
        return self.received >= self.until or self.end is not None or self.other.is_over

    def do_quiet(self, _: int, now: float, is_quiet: bool) -> bool:
        return is_quiet

    def do_finish(self, *_: object) -> bool:
        if self.finished:
            return True
        self.finished = True
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.broken = True
        return True

    def do_close(self, *_: object) -> bool:
        self.steps = self.steps[:1]
        self.is_closed = True
        self.impolite = True
        self.socket.close()
        return True

    def do_reset(self, *_: object) -> bool:
        self.steps = self.steps[:1]
        self.is_reset = True
        self.impolite = True
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABRUPTLY)
        self.socket.close()
        return True

    #: Left before the other's end.
    impolite = False

    def __repr__(self) -> str:
        state = {key: value for key, value in vars(self).items()
                 if key not in ("socket", "writes", "reads", "other", "until", "sipped")}
        return "Side(%s)" % state


class Stuck(AssertionError):
    """Nothing moves, and somebody still waits for something."""


def play(client: Side, server: Side) -> None:
    """Until both are over."""
    client.other, server.other = server, client
    sides = (client, server)
    moved_at = time.monotonic()
    while not (client.is_over and server.is_over):
        now = time.monotonic()
        is_quiet = now - moved_at > QUIET and client.is_served() and server.is_served()
        followed = [side.follow(now, is_quiet) for side in sides]
        if exchange(sides, now) or any(followed):
            moved_at = now
        elif now - moved_at > STUCK:
            raise Stuck("stuck: %r" % (sides,))
        elif is_quiet:
            for side in sides:
                # Both deaf and both writing: somebody has to give in.
                side.listening = max(side.listening, SLOW)


def is_dead(sock: socket.socket) -> bool:
    """The kernel has been told of a reset: TCP_INFO begins with the state, 7 is closed."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\7"


def exchange(sides: "tuple[Side, ...]", now: float) -> bool:
    """Move what can be moved; true if there was something."""
    poll = select.poll()
    by_fileno: Dict[int, Side] = {}
    waits = False
    for side in sides:
        mask = select.POLLIN * side.wants_to_read(now) | select.POLLOUT * side.wants_to_write()
        if mask:
            poll.register(side.socket, mask)
            by_fileno[side.socket.fileno()] = side
        waits = waits or bool(side.steps)
    moved = False
    for fileno, _ in poll.poll(1 if waits or by_fileno else 0):
        side = by_fileno[fileno]
        if side.wants_to_read(now):
            moved |= side.read(now)
        if side.wants_to_write():
            moved |= side.write()
    return moved


def judge(one: Side, other: Side) -> None:
    """What `one` has got of `other`: is that what TCP promises?"""
    assert not one.corrupt, "other bytes than were written"
    assert one.received <= other.written, "more bytes than were written"
    complete = one.received == other.written
    if one.impolite:
        return
    if other.is_reset:
        # Behind an end of stream a reset may or may not be noticed.
        assert one.end in ("reset", "torn") or (other.finished and complete), "the reset is lost"
        assert complete or other.written > FITS, "bytes are lost that were there before the reset"
    elif other.impolite and one.written > other.received:
        # Closed with bytes unread, or sent later: then the kernel resets.
        assert one.end in ("reset", "torn") or complete, "bytes are lost"
        assert complete or other.written > FITS, "bytes are lost that were there before the reset"
    else:
        assert one.end == "eof", "no clean end of stream"
        assert complete, "bytes are lost"


#: What every buffer on the way takes, so that a reset cannot overtake it. Bytes.
FITS = 2000
