"""What systemd is told of a running pupgevent, by the protocol of sd_notify(3).

A datagram on a Unix socket that the environment names: lines of NAME=value. It costs nothing
where no systemd listens, and whatever is wrong with the socket, it never blocks and never raises:
no service shall fail because its state cannot be told.
"""

import contextlib
import os
import socket
import time
from collections import deque
from typing import Any, Callable, Deque, Iterable, Iterator, MutableMapping, Optional, Set

import gevent

import lifecycle

#: Seconds until a full socket is tried again.
_RETRY_DELAY = 0.05
#: Messages that wait for a full socket; when there are more, the oldest states are history.
_BACKLOG = 64

#: What an instance has before it is known whether its first start succeeds.
_UNDECIDED = (lifecycle.CREATED, lifecycle.STARTING)


class Notifier:
    """The socket. Takes its variables out of the environment: the children have no part in it."""

    def __init__(self, environ: "MutableMapping[str, str]") -> None:
        self._address = address_of(environ.pop("NOTIFY_SOCKET", ""))
        #: Seconds in which a WATCHDOG is expected; None: nobody waits for one.
        self.watchdog = watchdog_of(
            environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", ""))
        self._socket: Optional[socket.socket] = None
        self._waiting: Deque[bytes] = deque(maxlen=_BACKLOG)
        self._retrier: Any = None
        if self._address:
            with contextlib.suppress(OSError):
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.setblocking(False)

    def send(self, *assignments: str) -> None:
        """One message of such lines, after those that still wait."""
        if self._socket is None:
            return
        self._waiting.append("\n".join(assignments).encode("utf-8", "replace"))
        if self._retrier is None and not self._flush():
            self._retrier = gevent.spawn(self._retry)

    def close(self) -> None:
        """What waits gets a last chance. Idempotent."""
        if self._socket is not None:
            self._flush()
            self._socket.close()
            self._socket = None
        if self._retrier is not None:
            self._retrier.kill(block=False)

    def _flush(self) -> bool:
        """Send what waits; False: the socket is full."""
        while self._waiting and self._socket is not None:
            try:
                self._socket.sendto(self._waiting[0], self._address)
            except BlockingIOError:
                return False
            except OSError:
                pass  # nobody is there; what was to be said is of no use later
            self._waiting.popleft()
        return True

    def _retry(self) -> None:
        while not self._flush():
            gevent.sleep(_RETRY_DELAY)
        self._retrier = None


def address_of(text: str) -> str:
    """For `sendto`: a path, or a name in the abstract space, which is written with an @; or ""."""
    if text.startswith("@") and len(text) > 1:
        return "\0" + text[1:]
    return text if text.startswith("/") else ""


def watchdog_of(microseconds: str, pid: str) -> "Optional[float]":
    """Seconds; None where there is none, or where it is meant for another process."""
    if not microseconds.isdigit() or int(microseconds) == 0:
        return None
    if pid and pid != str(os.getpid()):
        return None
    return int(microseconds) / 1e6


class Herald:
    """Turns what happens to the instances into messages.

    READY comes once each instance that starts by itself has come up, or has failed for the first
    time: the supervisor does its work then, and one broken application shall not keep the others
    from being a started service. `instances()` gives all there are.
    """

    def __init__(self, notifier: Notifier, instances: "Callable[[], Iterable[Any]]") -> None:
        self._notifier = notifier
        self._instances = instances
        self._pending: Set[str] = set()
        self._begun = self._ready = self._stopping = self._looking = False
        self._reloads = 0
        self._status = ""
        self._watchdog: Any = None

    def begin(self) -> None:
        """What starts by itself has been ordered to start."""
        self._begun = True
        self._pending = {each.name for each in self._instances() if each.process.autostart}
        if self._notifier.watchdog is not None:
            # From the loop itself, twice as often as is asked for: a hub that hangs says nothing.
            interval = self._notifier.watchdog / 2
            self._watchdog = gevent.get_hub().loop.timer(0, interval)
            self._watchdog.start(self._notifier.send, "WATCHDOG=1")
        self._look()

    def changed(self, instance: Any) -> None:
        """The state of an instance is another; does not block. A thousand that change at once
        are looked at once."""
        if not self._looking:
            self._looking = True
            gevent.spawn(self._look)

    @contextlib.contextmanager
    def reload(self) -> "Iterator[None]":
        """Around a reload, be it a good one or not."""
        self._reloads += 1
        if not self._stopping:
            self._notifier.send(
                "RELOADING=1", "MONOTONIC_USEC=%d" % (time.monotonic() * 1e6))
        try:
            yield
        finally:
            self._reloads -= 1
            if not self._stopping and self._ready and not self._reloads:
                self._notifier.send("READY=1")

    def stopping(self) -> None:
        """Everything is to stop. Idempotent."""
        if not self._stopping:
            self._stopping = True
            self._notifier.send("STOPPING=1", "STATUS=stopping")

    def close(self) -> None:
        """Idempotent."""
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog.close()
            self._watchdog = None
        self._notifier.close()

    def _look(self) -> None:
        self._looking = False
        if not self._begun or self._stopping:
            return
        instances = list(self._instances())
        self._pending &= {each.name for each in instances if each.state in _UNDECIDED}
        status = status_of(instances)
        if not self._ready and not self._pending:
            self._ready = True
            self._notifier.send("READY=1", status)
        elif status != self._status:
            self._notifier.send(status)
        self._status = status


def status_of(instances: "Iterable[Any]") -> str:
    """The line that `systemctl status` shows: of the instances that should run, how many do."""
    wanted = [each for each in instances if each.wanted]
    running = [each for each in wanted if each.state == lifecycle.RUNNING]
    return "STATUS=%d of %d instances running" % (len(running), len(wanted))
