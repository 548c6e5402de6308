"""Who kills the children when pupgevent itself is killed with SIGKILL.

Nothing runs in a process that got SIGKILL, so somebody else must notice. The kernel's own answer,
PR_SET_PDEATHSIG, reaches the direct child only: often that is a shell, and the server that holds
the port is the shell's child. So a tiny shell script sits at the other end of a pipe whose write
end pupgevent alone holds. It is told which process groups there are; when the pipe ends, it kills
those that are left, and goes.

A group is registered twice. The child does it when it has become the leader of its group and its
program has not started yet: the copy of the pipe that a child holds until then keeps the pipe from
ending, so a program never runs without being known. Its parent does it again, for a guardian that
was started in between. A group is forgotten once it is empty, lest the guardian should kill
somebody to whom the kernel has given the same number.
"""

import os
import signal
import time
from typing import Any, Optional, Set

import gevent
from gevent.subprocess import DEVNULL, Popen

from logs import Log

#: POSIX shell that needs nothing but builtins; dash, bash and busybox run it in about a megabyte.
#: `read` takes byte by byte, so what stands behind a line is not lost with it.
#: It does not name whom it guards: `pkill -9 -f` with that name would kill both.
SCRIPT = r"""# Kills the process groups it was told of when whoever told it dies.
trap '' HUP INT QUIT TERM USR1 USR2 TSTP
groups=' '
while IFS= read -r line; do
  group=${line#?}
  case $group in ''|*[!0-9]*|0|1) continue;; esac
  case $groups in *" $group "*) groups="${groups%%" $group "*} ${groups#*" $group "}";; esac
  case $line in +*) groups="$groups$group ";; esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
exit 0
"""

#: Seconds until another is started when one has ended sooner than that, or could not start.
_RETRY_DELAY = 1.0

#: Seconds that its going may take at the end.
_CLOSING_TIMEOUT = 1.0


def registration(sign: str, group: int) -> bytes:
    """A line of the pipe: + it is there, - it is empty. So short that it is written whole."""
    return ("%s%d\n" % (sign, group)).encode()


class Guardian:
    """Keeps one such process alive, and told of all groups."""

    def __init__(self, log: Log, shell: str = "/bin/sh") -> None:
        self._log = log
        self._shell = shell
        self._groups: Set[int] = set()
        self._process: Any = None
        self._pipe = -1
        self._began = 0.0
        self._closing = False

    @property
    def pid(self) -> Optional[int]:
        return None if self._process is None else int(self._process.pid)

    @property
    def pipe(self) -> int:
        """Descriptor for the registration of a new child; -1 while there is no guardian."""
        return self._pipe

    def begin(self) -> None:
        """Start it; blocks the calling greenlet until it runs."""
        self._began = time.monotonic()
        try:
            self._launch()
        except OSError as error:
            self._log.warning("core", "cannot start the guardian process: %s" % error)
            self._begin_later()

    def watch(self, group: int) -> None:
        self._groups.add(group)
        self._tell("+", group)

    def forget(self, group: int) -> None:
        self._groups.discard(group)
        self._tell("-", group)

    def close(self) -> None:
        """It kills what has not been forgotten, and goes; blocks until it has. Idempotent."""
        self._closing = True
        process = self._process
        self._close_pipe()
        if process is not None:
            process.result.wait(_CLOSING_TIMEOUT)

    def _launch(self) -> None:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        try:
            process = Popen(
                [self._shell, "-c", SCRIPT, "guardian"], env={}, cwd="/",
                stdin=reader, stdout=DEVNULL, stderr=DEVNULL,
                start_new_session=True, close_fds=False,
            )
        except OSError:
            os.close(writer)
            raise
        finally:
            os.close(reader)
        self._process, self._pipe = process, writer
        for group in sorted(self._groups):
            self._tell("+", group)
        process.rawlink(self._on_exit)

    def _tell(self, sign: str, group: int) -> None:
        if self._pipe == -1:
            return
        try:
            os.write(self._pipe, registration(sign, group))
        except BrokenPipeError:
            pass  # it is dead, and its exit will be told
        except BlockingIOError:
            # Thousands of lines that it has not read: somebody has suspended it.
            os.kill(self._process.pid, signal.SIGKILL)

    def _close_pipe(self) -> None:
        if self._pipe != -1:
            os.close(self._pipe)
            self._pipe = -1

    def _on_exit(self, _: object) -> None:
        self._process = None
        self._close_pipe()
        if not self._closing:
            self._log.warning("core", "the guardian process has ended, starting another")
            self._begin_later()

    def _begin_later(self) -> None:
        """At once, unless the last one did not live long either."""
        soon = time.monotonic() - self._began < _RETRY_DELAY
        gevent.spawn_later(_RETRY_DELAY if soon else 0.0, self._begin_again)

    def _begin_again(self) -> None:
        if not self._closing:
            self.begin()
