"""What systemd is told of a running pupgevent, by the protocol of sd_notify(3).

A datagram on a Unix socket that the environment names: lines of NAME=value. It costs nothing
where no systemd listens, and whatever is wrong with the socket, it never blocks and never raises:
no service shall fail because its state cannot be told.
"""

import contextlib
import errno
import os
import socket
import time
from collections import deque
from typing import Any, Callable, Deque, Iterable, Iterator, MutableMapping, Optional, Set

import gevent

import lifecycle
from concurrency import Task
from errors import counted
from instance import Instance
from status import Health, health_of

#: Seconds until a full socket is tried again.
_RETRY_DELAY = 0.05
#: Messages that wait for a full socket; when there are more, the oldest states are history.
_BACKLOG = 64

#: errno values of a message that may get through later.
_SHORTAGES = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)

#: Seconds until the instances are looked at again, when memory was short.
_LOOK_DELAY = 1.0

#: What an instance has before it is known whether its first start succeeds.
_UNDECIDED = (lifecycle.CREATED, lifecycle.STARTING)


class NotifySocket:
    """The socket. Takes its variables out of the environment: the children have no part in it."""

    def __init__(self, environ: "MutableMapping[str, str]") -> None:
        self._address = address_of(environ.pop("NOTIFY_SOCKET", ""))
        #: Seconds in which a WATCHDOG is expected; None: nobody waits for one.
        self.watchdog = watchdog_of(
            environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", ""))
        self._socket: Optional[socket.socket] = None
        self._waiting: Deque[bytes] = deque(maxlen=_BACKLOG)
        self._timer: Any = None
        if self._address:
            with contextlib.suppress(OSError):
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
                self._timer = gevent.get_hub().loop.timer(_RETRY_DELAY, _RETRY_DELAY)

    def send(self, *assignments: str) -> None:
        """One message of such lines, after those that still wait."""
        if self._socket is None:
            return
        try:
            self._waiting.append("\n".join(assignments).encode("utf-8", "replace"))
            if not self._flush() and not self._timer.active:
                self._timer.start(self._retry)
        except MemoryError:
            pass  # what waits goes with the next

    def close(self) -> None:
        """What waits gets a last chance. Idempotent."""
        if self._socket is not None:
            self._flush()
            self._socket.close()
            self._socket = None
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def _flush(self) -> bool:
        """Send what waits; False: the socket is full, or memory is short."""
        while self._waiting and self._socket is not None:
            try:
                self._socket.sendto(self._waiting[0], self._address)
            except OSError as error:
                if error.errno in _SHORTAGES:
                    return False
                # nobody is there; what was to be said is of no use later
            self._waiting.popleft()
        return True

    def _retry(self) -> None:
        """An exception would end the timer."""
        try:
            if self._flush() and self._timer is not None:
                self._timer.stop()
        except MemoryError:
            pass


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


class ServiceNotifier:
    """Turns what happens to the instances into messages.

    READY comes once each instance that starts by itself has come up, or has failed for the first
    time: the supervisor does its work then, and one broken application shall not keep the others
    from being a started service. `instances()` gives all there are, `backend_of(instance)` what its
    balancer makes of it.
    """

    def __init__(
        self, notify_socket: NotifySocket, instances: "Callable[[], Iterable[Instance]]",
        backend_of: "Callable[[Instance], Optional[str]]",
    ) -> None:  # fmt: skip
        self._notify_socket = notify_socket
        self._instances = instances
        self._backend_of = backend_of
        self._pending: Set[str] = set()
        self._started = self._ready = self._stopping = self._looking = False
        self._reloads = 0
        self._status = ""
        self._watchdog: Any = None
        self._again: Any = gevent.get_hub().loop.timer(_LOOK_DELAY)

    def start(self) -> None:
        """What starts by itself has been ordered to start."""
        self._started = True
        self._pending = {each.name for each in self._instances() if each.process.autostart}
        if self._notify_socket.watchdog is not None:
            # From the loop itself, twice as often as is asked for: a hub that hangs says nothing.
            interval = self._notify_socket.watchdog / 2
            self._watchdog = gevent.get_hub().loop.timer(0, interval)
            self._watchdog.start(self._notify_socket.send, "WATCHDOG=1")
        self.look()

    def changed(self, instance: object) -> None:
        """The state of an instance is another; does not block. A thousand that change at once
        are looked at once."""
        if not self._looking:
            self._looking = True
            try:
                Task(self.look)
            except MemoryError:
                self._look_later()

    def look(self) -> None:
        """Tell systemd what is different from what it was told; does not block."""
        self._looking = False
        try:
            self._look()
        except MemoryError:
            self._look_later()

    def _look_later(self) -> None:
        """Nobody may come again to tell of the last change."""
        if self._again is not None:
            self._again.start(self.look)

    @contextlib.contextmanager
    def reload(self) -> "Iterator[None]":
        """Around a reload, be it a good one or not."""
        self._reloads += 1
        if not self._stopping:
            self._notify_socket.send(
                "RELOADING=1", "MONOTONIC_USEC=%d" % (time.monotonic() * 1e6))
        try:
            yield
        finally:
            self._reloads -= 1
            if not self._stopping and self._ready and not self._reloads:
                self._notify_socket.send("READY=1")

    def stopping(self) -> None:
        """Everything is to stop. Idempotent."""
        if not self._stopping:
            self._stopping = True
            self._notify_socket.send("STOPPING=1", "STATUS=stopping")

    def close(self) -> None:
        """Idempotent."""
        if self._again is not None:
            self._again.stop()
            self._again.close()
            self._again = None
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog.close()
            self._watchdog = None
        self._notify_socket.close()

    def _look(self) -> None:
        self._looking = False
        if not self._started or self._stopping:
            return
        instances = list(self._instances())
        self._pending &= {
            each.name for each in instances if each.state in _UNDECIDED and not each.stuck}
        status = status_of(health_of(each, self._backend_of(each)) for each in instances)
        if not self._ready and not self._pending:
            self._ready = True
            self._notify_socket.send("READY=1", status)
        elif status != self._status:
            self._notify_socket.send(status)
        self._status = status


def status_of(instances: "Iterable[Health]") -> str:
    """The line that `systemctl status` shows: of the instances that should run, how many serve."""
    wanted = [each for each in instances if each.wanted]
    serving = [each for each in wanted if each.serves]
    return "STATUS=%d of %s running" % (len(serving), counted(len(wanted), "instance"))
