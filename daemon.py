"""`pupgevent CONFIG`: everything that one running pupgevent has, and what it does with orders.

Orders come from signals, from the control socket and from essential processes that are given up;
they wait in line for the main greenlet, which acts on one after the other and is never busy for
long. What they start goes on beside it.
"""

import contextlib
import enum
import gc
import os
import time
from typing import Any, Iterator, NamedTuple, Optional, Union

from gevent.queue import Queue

import certificate_watch
import control_socket
import journal
import tls_expiry
from agent import Agent
from certificate_watch import CertificateWatch
from concurrency import Task, pause
from control import Control
from control_requests import ControlRequests
from dashboard import Dashboard
from errors import PupgeventError, ShortageError, counted
from file_restarts import FileRestarts
from model import Configuration
from operations import Operations
from outlets import Outlets
from rollout import Busy
from runtime import Runtime, RuntimeOwner
from sinks import DescriptorSink
from snapshots import Snapshots
from sockets import Limits
from systemd import NotifySocket, ServiceNotifier

#: Seconds for the last lines to get out, to a console that may not take them.
_LAST_LINES = 2.0

#: Seconds until something is tried again for which there was no thread, or no memory.
_SHORTAGE_DELAY = 1.0


class Signal(NamedTuple):
    """A signal has come."""

    name: str

    def __str__(self) -> str:
        return self.name


class GivenUp(NamedTuple):
    """An essential instance was given up."""

    instance: str

    def __str__(self) -> str:
        return "essential " + self.instance


class Event(enum.Enum):
    """What else there is to act on, and what is said of it."""

    #: Somebody has asked for it at the control socket.
    SHUTDOWN = "shutdown"
    HANGUP = "the terminal was closed"
    #: Ours have ended.
    STOPPED = "stopped"
    RELOADED = "reloaded"

    def __str__(self) -> str:
        return str(self.value)


Order = Union[Signal, GivenUp, Event]

_SIGHUP = Signal("SIGHUP")

#: Signals that stop everything; a second one kills what is left.
_STOP_SIGNALS = (Signal("SIGTERM"), Signal("SIGINT"), Signal("SIGQUIT"))


class Daemon(RuntimeOwner):
    """`fd` is the console, `limits` are those of the children's descriptors. Takes the place of its
    configuration file at once, or raises that it is taken; opens and starts nothing before `start`.
    """

    def __init__(
        self, configuration: Configuration, fd: int, verbose: bool, version: str, limits: Limits
    ) -> None:
        self._configuration = configuration
        self._version = version
        #: Of `Order`.
        self._orders: Any = Queue()
        self._outlets = Outlets(
            configuration.logger, DescriptorSink(fd), fd, verbose,
            journal.is_console(os.environ, fd))
        self.log = self._outlets.log
        self._endpoint = self._take_endpoint()
        self.runtime = Runtime(configuration, self._outlets, self, limits=limits)
        self._notifier = ServiceNotifier(
            NotifySocket(os.environ), self.runtime.instances, self.runtime.backend_state)
        self.runtime.watchers.add(self._notifier.changed)
        self._operations = Operations(self.runtime, self._around_reload)
        self._file_restarts = FileRestarts(self.runtime, self._operations)
        self._snapshots = Snapshots(self.runtime, version)
        self._requests = ControlRequests(
            self.runtime, self._operations, lambda: self._put(Event.SHUTDOWN), self._snapshots)
        self._dashboard = Dashboard(self.runtime, self._snapshots, version)
        self._agent = Agent(self.runtime)
        self._certificate_watch = CertificateWatch(
            lambda: self.runtime.configuration, self.log, certificate_watch.LOOK_EVERY)
        self._control = Control(self._endpoint, self._requests.requests(), self.log)
        self._exit_code = 0
        self._stopping: Optional[Task] = None
        self._reloading: Optional[Task] = None
        self._reload_again = False

    def _take_endpoint(self) -> control_socket.ControlEndpoint:
        endpoint = control_socket.take(self._configuration.path, self._configuration.control.socket)
        if endpoint.path is None:
            self.log.warning("control", "no control socket, so no commands: " + endpoint.trouble)
        elif endpoint.trouble:
            self.log.warning("control", "the control socket is %s (%s)" % (
                endpoint.path, endpoint.trouble))
        return endpoint

    @contextlib.contextmanager
    def _around_reload(self) -> "Iterator[None]":
        """The file's path may be a link that leads elsewhere by now: raises Taken."""
        with self._notifier.reload():
            taken = self.runtime.threads.call(self._endpoint.follow)
            if taken is not None:
                raise taken
            try:
                yield
            finally:
                self._endpoint.keep_only(self.runtime.configuration.real_path)

    # What is told becomes an order

    def on_signal(self, name: str) -> None:
        self._put(Signal(name))

    def on_hangup(self) -> None:
        """The terminal was closed, and not by somebody who has said that we shall go on."""
        self._put(Event.HANGUP)

    def on_essential(self, name: str) -> None:
        self._put(GivenUp(name))

    def on_reach_changed(self) -> None:
        self._notifier.look()

    def prepare(self, configuration: Configuration) -> None:
        self._dashboard.prepare(configuration.dashboard)
        try:
            self._agent.prepare(configuration.agent)
        except PupgeventError:
            # Let go of what was opened for it.
            self._dashboard.prepare(None)
            raise

    def on_configured(self) -> None:
        self._dashboard.apply(self.runtime.configuration.dashboard)
        self._agent.apply(self.runtime.configuration.agent)
        self._file_restarts.on_configured()

    def _put(self, order: Order) -> None:
        self._orders.put(order)

    # What is done

    def start(self) -> None:
        """Open the ports and start what starts by itself; raises PupgeventError."""
        self.prepare(self._configuration)
        self.runtime.listen()
        self.log.info("core", "pupgevent %s runs %s, pid %d" % (
            self._version, self._configuration.path, os.getpid()))
        for text in tls_expiry.tls_warnings(self._configuration, time.time()):
            self.log.warning("core", text)
        self._dashboard.apply(self._configuration.dashboard)
        self.runtime.start()
        self._agent.apply(self._configuration.agent)
        self._certificate_watch.start()
        self._file_restarts.start()
        self._notifier.start()
        self._control.start()
        if hasattr(gc, "freeze"):
            # What is there by now stays. To look through it again and again would hold the hub up
            # for 12 ms each time, and 28 with a thousand instances (Python 3.6 has to).
            gc.freeze()

    def serve(self) -> int:
        """Act on orders until everything has stopped; returns the exit code."""
        order: Optional[Order] = None
        while True:
            try:
                order = order or self._next_order()
                if order is Event.STOPPED:
                    self.log.info("core", "stopped")
                    self._requests.stopped.set()
                    return self._exit_code
                self._act(order)
                order = None
            except MemoryError:
                # The same once more.
                self.log.warning("core", "%s waits: out of memory" % order)
                pause(_SHORTAGE_DELAY)

    def _next_order(self) -> Order:
        order: Order = self._orders.get()
        return order

    def _act(self, order: Order) -> None:
        # First, since two named tuples of equal fields are equal: its instance may have any name.
        if isinstance(order, GivenUp):
            self._exit_code = 1
            self.log.error("core", "%s is essential and was given up" % order.instance)
            self._start_stopping("essential")
        elif order in (_SIGHUP, Event.RELOADED):
            self._reload(order)
        elif self._stopping is not None and order in _STOP_SIGNALS:
            self.log.warning("core", "%s again: killing what is left" % order)
            self.runtime.kill()
        elif order in _STOP_SIGNALS or isinstance(order, Event):
            self._start_stopping(str(order))
        elif order == Signal("SIGUSR1"):
            self.log.info("core", "SIGUSR1: %s" % (
                counted(self._outlets.reopen_files(), "log file") + " opened anew"))
        else:
            self.log.info("core", "%s changes nothing: SIGTERM stops, SIGHUP reloads" % order)

    def _start_stopping(self, reason: str) -> None:
        """Idempotent."""
        if self._stopping is None:
            self.log.info("core", "stopping (%s)" % reason)
            self._notifier.stopping()
            self._file_restarts.close()
            self._stopping = Task(self._stop)

    def _stop(self) -> None:
        """Whatever comes between, the applications get the time that they have for their end."""
        while True:
            try:
                self.runtime.shutdown()
                self._put(Event.STOPPED)
                return
            except MemoryError:
                pause(_SHORTAGE_DELAY)
            except Exception as error:
                self.log.error("core", "the stop met a bug: %r" % error)
                self._exit_code = 1
                self.runtime.kill()
                pause(_SHORTAGE_DELAY)

    def _reload(self, order: Order) -> None:
        """One at a time; what was asked for meanwhile is done once more at the end."""
        if order == _SIGHUP and self._reloading is not None:
            self._reload_again = True
            return
        self._reloading = None
        if self._stopping is not None:
            return
        if order == _SIGHUP or self._reload_again:
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
            self._put(Event.RELOADED)

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
        self._endpoint.release()
        self._file_restarts.close()
        self._dashboard.close()
        self._agent.close()
        self._certificate_watch.close()
        self.runtime.close()
        self._notifier.close()
        self._outlets.flush(_LAST_LINES)
