"""What a child has besides its life: two streams that are read, and a file with its pid."""

from typing import Callable, Optional

import gevent

import pidfile
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
        out, err = world.outputs(process, seat)
        self._pumps = [
            Pump(child.stdout, out, world.pace), Pump(child.stderr, err, world.pace),
        ]

    def write_pid_file(self) -> None:
        """Blocks the calling greenlet; where it fails, that is one line."""
        self._on_disk(pidfile.write)

    def clear(self) -> None:
        """Carry the last output, close the pipes, remove the file; blocks for seconds at most."""
        for pump in self._pumps:
            if not pump.finish(_LAST_WORDS):
                self._warn("its last output is lost, the log takes nothing")
        self._on_disk(pidfile.remove)

    def _on_disk(self, action: Callable[[str, int], None]) -> None:
        if self._pid_file is None:
            return
        try:
            with gevent.Timeout(_DISK_TIMEOUT):
                self._world.threads.call(action, self._pid_file, self._pid)
        except gevent.Timeout:
            self._warn("pidFile %s: the disk does not answer" % self._pid_file)
        except OSError as error:
            self._warn("pidFile %s: %s" % (self._pid_file, error.strerror))

    def _warn(self, text: str) -> None:
        self._world.log.warning("core", text, who=self._name)
