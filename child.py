"""One child process: its fork and exec, its process group, its end."""

import ctypes
import errno
import os
import signal
import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

import gevent
from gevent.subprocess import Popen, SubprocessError

import programs
import sockets
from child_setup import Attributes, SetUp
from concurrency import Task, growing_pauses
from errors import PupgeventError, ShortageError, encoded
from guardian import Guardian
from programs import with_exec
from signal_names import signal_name

#: prctl(2): who is orphaned below this process becomes its child, not init's.
_PR_SET_CHILD_SUBREAPER = 36

#: errno values of a fork, a setuid or an exec that pass: EAGAIN is the limit of processes.
_SHORTAGES = (errno.EAGAIN,) + sockets.SHORTAGES

#: So many descriptors are taken for open where nothing tells which are.
_MOST_GUESSED = 4096

#: Seconds that an instance waits for its killed group to be empty before it goes on without.
_REAP_TIMEOUT = 2.0

#: Seconds between two looks at a group: the first, and the longest.
_FIRST_LOOK, _LONGEST_LOOK = 0.001, 0.5


class StartError(PupgeventError):
    """A child could not be started."""


class SpawnSpec(NamedTuple):
    """What to start, where, and as what."""

    argv: List[str]
    cwd: str
    #: All of its environment.
    env: Mapping[bytes, bytes]
    attributes: Attributes = Attributes()


class Child:
    """A child that was started: the leader of a process group of its own."""

    def __init__(self, popen: Any, stdout: int, stderr: int) -> None:
        self._popen = popen
        self.pid: int = popen.pid
        #: The descriptors of what it prints; whoever reads them closes them.
        self.stdout = stdout
        self.stderr = stderr
        self._group_gone = False

    @property
    def returncode(self) -> Optional[int]:
        """Exit code, or minus the signal's number, or None while it lives."""
        code: Optional[int] = self._popen.returncode
        return code

    @property
    def exited(self) -> bool:
        return self.returncode is not None

    def is_dead(self) -> bool:
        """Has it ended? Also true in the moment before it is reaped; waitid(2)."""
        try:
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return self.exited or os.waitid(os.P_PID, self.pid, options) is not None
        except ChildProcessError:
            return True

    def on_exit(self, callback: Callable[[], None]) -> None:
        """Call back once, in the hub, when it has been reaped."""
        self._popen.rawlink(lambda _: callback())

    def signal(self, number: int) -> bool:
        """Signal its process group. False if the group is empty, now and from now on."""
        try:
            return self.deliver(number)
        except PermissionError:
            # A process is left in it, and that has changed its user.
            return True

    def deliver(self, number: int) -> bool:
        """The same; raises PermissionError where each process of the group has changed its user."""
        if self._group_gone:
            return False
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            # From now on the kernel may give the number to another process.
            self._group_gone = True
            return False
        return True

    def group_lives(self) -> bool:
        """Is there a process in its group, be it a zombie?"""
        return self.signal(0)


class Spawner:
    """Starts children, and reaps what is left of their groups; the guardian knows each group from
    before its program runs until it is empty.

    `limits` are those of a child's descriptors; None: pupgevent's own.
    """

    def __init__(self, guardian: Guardian, limits: Optional[sockets.Limits] = None) -> None:
        self._guardian = guardian
        self._limits = limits
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)

    def spawn(self, spec: SpawnSpec) -> Child:
        """Fork and exec; blocks the calling greenlet until the program runs. StartError."""
        # Made in two steps: when the exec fails, an object that exists already still tells the pid.
        popen = Popen.__new__(Popen)
        try:
            stdout, stderr = self._fork(popen, spec)
        except (OSError, ValueError, SubprocessError, MemoryError) as error:
            if getattr(popen, "pid", None):
                self._abandon(popen)
            if _is_shortage(error):
                raise ShortageError(_reason(error, spec)) from None
            raise StartError(_reason(error, spec)) from None
        # The child has registered itself; this is for a guardian that was started meanwhile.
        self._guardian.watch(popen.pid)
        return Child(popen, stdout, stderr)

    def reap(self, child: Child) -> None:
        """Kill what is left of its process group; blocks until the group is empty, or for two
        seconds."""
        deadline = time.monotonic() + _REAP_TIMEOUT
        pauses = growing_pauses(_FIRST_LOOK, _LONGEST_LOOK, 2)
        while child.signal(signal.SIGKILL):
            if time.monotonic() >= deadline:
                Task(self._reap_later, child)
                return
            gevent.sleep(next(pauses))
        self._guardian.forget(child.pid)

    def _fork(self, popen: Any, spec: SpawnSpec) -> Tuple[int, int]:
        """Fork and exec; returns the ends to read from of the child's stdout and stderr."""
        ours: List[int] = []
        theirs: List[int] = []
        try:
            for _ in range(2):
                reader, writer = os.pipe()
                ours.append(reader)
                theirs.append(writer)
            popen.__init__(
                [encoded(word) for word in spec.argv],
                stdin=self._null, stdout=theirs[0], stderr=theirs[1],
                cwd=_encode_path(spec.cwd), env=dict(spec.env),
                # All that pupgevent opens is closed by the exec: see close_on_exec.
                close_fds=False,
                preexec_fn=SetUp(self._guardian.pipe, spec.attributes, self._limits),
            )
        except BaseException:
            _close(ours)
            raise
        finally:
            _close(theirs)
        return ours[0], ours[1]

    def _abandon(self, popen: Any) -> None:
        """Kill a child whose start has failed after the fork, should it still live: it does where
        pupgevent itself had no memory to go on."""
        if popen.returncode is None:
            for kill in (os.kill, os.killpg):
                try:
                    kill(popen.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self._guardian.forget(popen.pid)

    def _reap_later(self, child: Child) -> None:
        """Forget the group once it is empty. Until then the kernel holds a process of it, and the
        guardian must know it."""
        while child.signal(signal.SIGKILL):
            gevent.sleep(_LONGEST_LOOK)
        self._guardian.forget(child.pid)


def close_on_exec() -> None:
    """Mark each descriptor that pupgevent has inherited as close-on-exec; once, at the start.

    Python marks what it opens itself (PEP 446). So a child need not look for descriptors to close:
    that costs more the more connections are open, and as another user the child could not look.
    """
    for number in _descriptors():
        if number > 2:
            try:
                os.set_inheritable(number, False)
            except OSError:
                pass  # the descriptor of the listing itself


def _descriptors() -> List[int]:
    """The descriptors that are open; where /proc is not mounted, those that may be."""
    try:
        return list(map(int, os.listdir("/proc/self/fd")))
    except OSError:
        return list(range(_MOST_GUESSED))


def adopt_orphans() -> None:
    """Become the parent of grandchildren whose parent dies, as init would; prctl(2).

    So they are reaped here, and a group is known to be empty even in a container whose
    first process reaps nobody.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def command(cmd: Union[str, Tuple[str, ...]], env: Mapping[bytes, bytes]) -> List[str]:
    """The words to run: a string goes to the shell, which stays only where it must; an array is run
    as it is."""
    return ["/bin/sh", "-c", with_exec(cmd, env)] if isinstance(cmd, str) else list(cmd)


def environment(extra: Mapping[str, str], path: Optional[str]) -> Dict[bytes, bytes]:
    """pupgevent's own environment, byte for byte, then `extra`, then `path` behind PATH."""
    env = dict(os.environb)
    env.update((encoded(name), encoded(value)) for name, value in extra.items())
    if path:
        before = env.get(b"PATH", os.defpath.encode())
        env[b"PATH"] = b":".join(filter(None, (before, encoded(path))))
    return env


def describe_exit(returncode: int) -> str:
    """'exit code 3', 'SIGKILL'."""
    return "exit code %d" % returncode if returncode >= 0 else signal_name(-returncode)


def _is_shortage(error: Exception) -> bool:
    """Does this machine, this user or pupgevent lack something for now? The program is not at
    fault then."""
    return isinstance(error, MemoryError) or getattr(error, "errno", None) in _SHORTAGES


def _reason(error: Exception, spec: SpawnSpec) -> str:
    if isinstance(error, MemoryError):
        return "cannot start %s: out of memory" % spec.argv[0]
    if not isinstance(error, OSError):
        return "cannot start %s: %s" % (spec.argv[0], error)
    reason = error.strerror or str(error)
    if error.filename is not None and os.fsencode(error.filename) == _encode_path(spec.cwd):
        return "cannot start in the folder %s: %s" % (spec.cwd, reason)
    if isinstance(error, FileNotFoundError):
        # The kernel says this of the file also where it is the interpreter that is missing.
        path = spec.env.get(b"PATH", os.defpath.encode())
        file = programs.find_program(encoded(spec.argv[0]), path, _encode_path(spec.cwd))
        flaw = file and programs.shebang_problem(file)
        reason += " (the file %s)" % flaw if flaw else ""
    return "cannot start %s: %s" % (spec.argv[0], reason)


def _encode_path(path: str) -> bytes:
    """A path as the checks of the file have found it: in the locale's encoding if that has the
    letters (with Python 3.6 and LANG=C it has not)."""
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:
        return encoded(path)


def _close(descriptors: List[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
