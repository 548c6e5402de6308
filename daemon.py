"""`pupgevent CONFIG`: everything that one running pupgevent has, and what it does with orders.

Orders come from signals, from the control socket and from essential processes that are given up;
they wait in line for the main greenlet, which acts on one after the other and is never busy for
long. What they start goes on beside it.
"""

import contextlib
import gc
import os
from typing import Any, Dict, Iterator

from gevent.queue import Queue

import control_socket
import logs
from concurrency import Task, pause
from control import Control
from control_requests import Service
from errors import PupgeventError, ShortageError
from log_history import LogHistory
from logs import DescriptorSink, Sink
from model import Configuration
from operations import Operations
from rollout import Busy
from runtime import Runtime
from sockets import Limits
from systemd import Herald, Notifier

#: Seconds for the last lines to get out, to a console that may not take them.
_LAST_LINES = 2.0

#: Seconds until something is tried again for which there was no thread, or no memory.
_SHORTAGE_DELAY = 1.0

#: The order to stop that comes from the control socket.
SHUTDOWN = "shutdown"

#: The order to stop because the terminal was closed.
HANGUP = "hangup"

#: What stops everything, and what is said of it.
_STOPS = {
    "SIGTERM": "SIGTERM", "SIGINT": "SIGINT", "SIGQUIT": "SIGQUIT", SHUTDOWN: SHUTDOWN,
    HANGUP: "the terminal was closed",
}  # fmt: skip


class Foreground:
    """`fd` is the console, `limits` are those of the children's descriptors. Takes the place of its
    configuration file at once, or raises that it is taken; opens and starts nothing before `begin`.
    """

    def __init__(
        self, configuration: Configuration, fd: int, verbose: bool, version: str, limits: Limits
    ) -> None:
        self._configuration = configuration
        self._version = version
        #: Names of signals, SHUTDOWN, HANGUP, "essential NAME", "stopped", "reloaded".
        self.orders: Any = Queue()
        self._sink = DescriptorSink(fd)
        history = LogHistory()
        colors = logs.wants_colors(fd, configuration.logger.colors)
        console = self._sink if configuration.logger.console else Sink()
        self.log = logs.Log(history.sink(console), colors, verbose)
        self._sink.on_loss = self.log.sink.on_loss
        self._place = self._take_place()
        self.runtime = Runtime(
            configuration, self.log, history, self._sink, self._on_essential, fd, limits=limits)
        self._herald = Herald(
            Notifier(os.environ), self.runtime.instances, self.runtime.backend_state)
        self.runtime.watchers.add(self._herald.changed)
        self.runtime.on_reach = self._herald.look
        self._operations = Operations(self.runtime, self._around_reload)
        about: Dict[str, Any] = {"version": version, "pid": os.getpid()}
        self._service = Service(
            self.runtime, self._operations, lambda: self.orders.put(SHUTDOWN), about)
        self._control = Control(self._place, self._service.requests(), self.log)
        self._exit_code = 0
        self._stopping: Any = None
        self._reloading: Any = None
        self._reload_again = False

    def _take_place(self) -> control_socket.Endpoint:
        place = control_socket.take(self._configuration.path, self._configuration.control.socket)
        if place.path is None:
            self.log.warning("control", "no control socket, so no commands: " + place.trouble)
        elif place.trouble:
            self.log.warning("control", "the control socket is %s (%s)" % (
                place.path, place.trouble))
        return place

    @contextlib.contextmanager
    def _around_reload(self) -> "Iterator[None]":
        """The file's path may be a link that leads elsewhere by now: raises Taken."""
        with self._herald.reload():
            taken = self.runtime.threads.call(self._place.follow)
            if taken is not None:
                raise taken
            try:
                yield
            finally:
                self._place.settle_on(self.runtime.configuration.real_path)

    def _on_essential(self, name: str) -> None:
        self.orders.put("essential " + name)

    def begin(self) -> None:
        """Open the ports and start what starts by itself; raises PupgeventError."""
        self.runtime.listen()
        self.log.info("core", "pupgevent %s runs %s, pid %d" % (
            self._version, self._configuration.path, os.getpid()))
        self.runtime.start()
        self._herald.begin()
        self._control.begin()
        if hasattr(gc, "freeze"):
            # What is there by now stays. To look through it again and again would hold the hub up
            # for 12 ms each time, and 28 with a thousand instances (Python 3.6 has to).
            gc.freeze()

    def serve(self) -> int:
        """Act on orders until everything has stopped; returns the exit code."""
        order = ""
        while True:
            try:
                order = order or self.orders.get()
                if order == "stopped":
                    self.log.info("core", "stopped")
                    self._service.stopped.set()
                    return self._exit_code
                self._act(order)
                order = ""
            except MemoryError:
                # The same once more.
                self.log.warning("core", "%s waits: out of memory" % order)
                pause(_SHORTAGE_DELAY)

    def _act(self, order: str) -> None:
        essential = order.startswith("essential ")
        if order in ("SIGHUP", "reloaded"):
            self._reload(order)
            return
        if not essential and order not in _STOPS:
            self._tell_of(order)
            return
        if essential:
            self._exit_code = 1
            self.log.error("core", "%s is essential and was given up" % order.split(" ", 1)[1])
        if self._stopping is None:
            self.log.info("core", "stopping (%s)" % _STOPS.get(order, order.split(" ", 1)[0]))
            self._herald.stopping()
            self._stopping = Task(self._stop)
        elif not essential and order not in (SHUTDOWN, HANGUP):
            self.log.warning("core", "%s again: killing what is left" % order)
            self.runtime.kill()

    def _tell_of(self, order: str) -> None:
        """A signal that has nothing to do here."""
        if order == "SIGUSR1":
            self.log.info("core", "SIGUSR1: there are no log files to reopen")
        else:
            self.log.info("core", "%s changes nothing: SIGTERM stops, SIGHUP reloads" % order)

    def _stop(self) -> None:
        """Whatever comes between, the applications get the time that they have for their end."""
        while True:
            try:
                self.runtime.shutdown()
                self.orders.put("stopped")
                return
            except MemoryError:
                pause(_SHORTAGE_DELAY)
            except Exception as error:
                self.log.error("core", "the stop met a bug: %r" % error)
                self._exit_code = 1
                self.runtime.kill()
                pause(_SHORTAGE_DELAY)

    def _reload(self, order: str) -> None:
        """One at a time; what was asked for meanwhile is done once more at the end."""
        if order == "SIGHUP" and self._reloading is not None:
            self._reload_again = True
            return
        self._reloading = None
        if self._stopping is not None:
            return
        if order == "SIGHUP" or self._reload_again:
            self._reload_again = False
            self._reloading = Task(self._reload_now)

    def _reload_now(self) -> None:
        try:
            self.log.info("core", self._reload_when_free())
        except PupgeventError as error:
            for text in error.lines:
                self.log.error("core", "reload: %s" % text)
        except Exception as error:
            self.log.error("core", "reload: this met a bug: %r" % error)
        finally:
            self.orders.put("reloaded")

    def _reload_when_free(self) -> str:
        """Nobody is there to ask again: a signal is remembered while something is under way."""
        waits = False
        while True:
            try:
                return self._operations.reload(lambda text: None)
            except Busy as error:
                self.log.info("core", "the reload waits: %s" % error.reason)
                error.wait()
            except ShortageError as error:
                if not waits:
                    self.log.warning("core", "the reload waits: %s" % error)
                waits = True
                pause(_SHORTAGE_DELAY)

    def close(self) -> None:
        """Close what is open; idempotent."""
        self._control.close()
        self._place.release()
        self.runtime.close()
        self._herald.close()
        self._sink.flush(_LAST_LINES)
