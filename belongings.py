"""What a child has besides its life: two streams that are read, and a file with its pid."""

import functools
import os
from typing import Any, Callable, List, Optional

import pidfile
from filequeue import FileOrder
from pumps import Pump
from spawning import Child
from world import Process, Seat, World

#: Seconds that the last output of a child may wait for a log that takes nothing.
_LAST_WORDS = 2.0

#: Seconds that a disk may take for a pid file before the instance goes on without.
_DISK_TIMEOUT = 2.0


class Belongings:
    """Of one living child; `clear` them away when it is dead."""

    def __init__(self, process: Process, seat: Seat, child: Child, world: World) -> None:
        self._world = world
        self._name = seat.name
        self._pid = child.pid
        self._pid_file: Optional[str] = pidfile.path_for(process, seat.number)
        self._pumps: List[Pump] = []
        streams = (child.stdout, child.stderr)
        try:
            for fd, lines in zip(streams, world.outputs(process, seat)):
                self._pumps.append(Pump(fd, lines, world.pace))
        except BaseException:
            for pump in self._pumps:
                pump.close()
            for fd in streams[len(self._pumps):]:
                os.close(fd)
            raise

    def write_pid_file(self) -> None:
        """Blocks the calling greenlet, for seconds at most; where it fails, that is one line."""
        self._on_disk(lambda path, order: pidfile.write(
            path, self._pid, lambda: order.outdated))

    def clear(self) -> None:
        """Carry the last output, close the pipes, remove the file; blocks for seconds at most."""
        for pump in self._pumps:
            if not pump.finish(_LAST_WORDS):
                self._warn("its last output is lost, the log takes nothing")
        self._on_disk(lambda path, order: pidfile.remove(path, self._pid))

    def _on_disk(self, action: Callable[[str, FileOrder], Any]) -> None:
        path = self._pid_file
        if path is None:
            return
        order = FileOrder(functools.partial(action, path), self._warn_of_file)
        if not self._world.files.add(path, order).wait(_DISK_TIMEOUT):
            self._warn_of_file("the disk does not answer, or no thread can be started")

    def _warn_of_file(self, text: str) -> None:
        self._warn("pidFile %s: %s" % (self._pid_file, text))

    def _warn(self, text: str) -> None:
        self._world.log.warning("core", text, who=self._name)
