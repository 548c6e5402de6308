"""A process that kills the children when pupgevent itself is killed with SIGKILL.

Nothing runs in a process that got SIGKILL, so another process must notice. The kernel's own answer,
PR_SET_PDEATHSIG, reaches the direct child only: often that is a shell, and the server that holds
the port is the shell's child. So a tiny shell script sits at the other end of a pipe whose write
end pupgevent alone holds. It is told which process groups there are; when the pipe ends, it kills
those that are left, and goes. The shell reads the script from its stdin, so that `ps` shows one
word of its own and not the script; the pipe is its stdout until the script takes it from there.

A group is registered twice. The child does it when it has become the leader of its group and its
program has not started yet: the copy of the pipe that a child holds until then keeps the pipe from
ending, so a program never runs without being known. Its parent does it again, for a guardian that
was started in between. A group is forgotten once it is empty, lest the guardian should kill
somebody to whom the kernel has given the same number.
"""

import os
import signal
import time
from typing import Any, Set

from gevent.subprocess import DEVNULL, Popen

from concurrency import Task, pause
from logs import Log

#: What it is called in `ps`, `top` and `systemctl status`. It does not name whom it guards:
#: `pkill -9 -f` with that name would kill both. At most 15 bytes, for /proc/PID/comm (proc(5)).
WORD = "group-guardian"

#: Shells that do the same whatever they are called. Busybox takes its name for that of an applet,
#: so it is called WORD/sh, as is any other.
_NAMELESS = ("dash", "bash")

#: POSIX shell that needs nothing but builtins; in dash the three processes share all but 150 KB.
#: `read` takes byte by byte, so what stands behind a line is not lost with it. All is in functions,
#: since the shell may read no further once its stdin is another. It has to be shorter than the
#: smallest pipe, 4096 bytes (pipe(7)): it is written before anybody reads.
#: The first reader tells the second each line, and the second reads on where the first was killed:
#: the groups die also when the guardian is killed together with pupgevent, unless both readers are.
SCRIPT = r"""# Kills the process groups it was told of when whoever told it dies.
trap '' HUP INT QUIT TERM USR1 USR2 TSTP PIPE
groups=' '
note() {
  case $1 in q) exit 0;; esac
  group=${1#?}
  case $group in ''|*[!0-9]*|0|1) return;; esac
  case $groups in *" $group "*) groups="${groups%%" $group "*} ${groups#*" $group "}";; esac
  case $1 in +*) groups="$groups$group ";; esac
}
end() {
  for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
  exit 0
}
first() {
  while IFS= read -r line; do echo "$line"; note "$line"; done
  end
}
second() {
  while IFS= read -r line; do note "$line"; done
  while IFS= read -r line <&3; do note "$line"; done
  end
}
guard() {
  exec 3<&1 >/dev/null <&3
  printf %s "${0%/sh}" >/proc/self/comm
  first | second
  exit 0
}
guard
"""

#: The last line where somebody else takes over: nobody is to be killed.
_QUIT = b"q\n"

#: Seconds until another is started when one has ended sooner than that, or could not start.
_RETRY_DELAY = 1.0

#: Seconds that its going may take at the end.
_CLOSING_TIMEOUT = 1.0


def registration(sign: str, group: int) -> bytes:
    """A line of the pipe: + it is there, - it is empty. So short that it is written whole."""
    return ("%s%d\n" % (sign, group)).encode()


def word_for(shell: str) -> str:
    """What a shell is started as, its only word."""
    is_nameless = os.path.basename(os.path.realpath(shell)) in _NAMELESS
    return WORD if is_nameless else WORD + "/sh"


class Guardian:
    """Keeps one such process running, and tells it of all process groups."""

    def __init__(self, log: Log, shell: str = "/bin/sh") -> None:
        self._log = log
        self._shell = shell
        self._word = word_for(shell)
        self._groups: Set[int] = set()
        self._process: Any = None
        self._pipe = -1
        #: The session, and so the process group, of the readers.
        self._session = 0
        self._started_at = 0.0
        self._is_due = False
        self._closing = False

    @property
    def pipe(self) -> int:
        """Descriptor for the registration of a new child; -1 while there is no guardian."""
        return self._pipe

    def start(self) -> None:
        """Start the guardian process; blocks the calling greenlet until it runs."""
        self._started_at = time.monotonic()
        self._is_due = True
        try:
            self._launch()
            self._is_due = False
        except (OSError, MemoryError) as error:
            self._log.warning("core", "cannot start the guardian process: %s" % (
                getattr(error, "strerror", None) or error or "out of memory"))
            self._start_later()

    def watch(self, group: int) -> None:
        """Have this process group killed when pupgevent dies."""
        self._groups.add(group)
        self._tell("+", group)
        if self._process is None and not self._is_due:
            self._start_later()

    def forget(self, group: int) -> None:
        """The group is empty: the kernel may give its number to another process."""
        self._groups.discard(group)
        self._tell("-", group)

    def close(self) -> None:
        """End the guardian process, which kills each group that is not forgotten; blocks until it
        is gone, for a second at most. Idempotent."""
        self._closing = True
        process = self._process
        self._close_pipe()
        if process is not None:
            process.result.wait(_CLOSING_TIMEOUT)

    def _launch(self) -> None:
        reader, writer = os.pipe()
        try:
            os.set_blocking(writer, False)
            process = self._start_shell(reader)
        except BaseException:
            os.close(writer)
            raise
        finally:
            os.close(reader)
        self._retire()
        self._process, self._pipe, self._session = process, writer, process.pid
        for group in sorted(self._groups):
            self._tell("+", group)
        process.rawlink(self._on_exit)

    def _start_shell(self, reader: int) -> Any:
        script, script_writer = os.pipe()
        try:
            try:
                os.write(script_writer, SCRIPT.encode())
            finally:
                os.close(script_writer)
            return Popen(
                [self._word], executable=self._shell, env={}, cwd="/",
                stdin=script, stdout=reader, stderr=DEVNULL,
                start_new_session=True, close_fds=False,
            )
        finally:
            os.close(script)

    def _tell(self, sign: str, group: int) -> None:
        if self._pipe == -1:
            return
        try:
            os.write(self._pipe, registration(sign, group))
        except BrokenPipeError:
            pass  # it is dead, and its exit will be told
        except BlockingIOError:
            # Thousands of lines that it has not read: somebody has suspended it.
            os.killpg(self._session, signal.SIGKILL)

    def _retire(self) -> None:
        """Tell the readers that are left of the guardian before to go and kill nobody."""
        if self._pipe == -1:
            return
        try:
            os.write(self._pipe, _QUIT)
        except BrokenPipeError:
            pass  # the usual case: nobody is left
        except BlockingIOError:
            os.killpg(self._session, signal.SIGKILL)
        self._close_pipe()

    def _close_pipe(self) -> None:
        if self._pipe != -1:
            os.close(self._pipe)
            self._pipe = -1

    def _on_exit(self, _: object) -> None:
        """The shell that was started has ended. Its readers may still live, and are told of groups
        until the next guardian runs."""
        self._process = None
        if not self._closing:
            self._log.warning("core", "the guardian process has ended, starting another")
            self._start_later()

    def _start_later(self) -> None:
        """At once, unless the last one has not lived long either."""
        soon = time.monotonic() - self._started_at < _RETRY_DELAY
        self._is_due = True
        try:
            Task(self._start_again, _RETRY_DELAY if soon else 0.0)
        except MemoryError:
            self._is_due = False  # the next `watch` tries again

    def _start_again(self, delay: float) -> None:
        pause(delay)
        if not self._closing:
            self.start()
