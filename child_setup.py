"""What a child does between its fork and its exec: group, signals, limits, user.

These are system calls only, and none that waits: a child of a threaded process has a copy of each
lock that another thread held at the fork, and no thread that would release it.

The order matters. The group comes first, so that the guardian can kill it. Limits, `nice` and
`umask` come before the change of the user, who may have no right to them. The limit of the address
space is the last of the limits, since Python itself may get no more memory after it.
"""

import ctypes
import errno
import os
import resource
import signal
from typing import NamedTuple, Optional, Tuple

from accounts import Identity
from guardian import registration
from model import ResourceLimits
from sockets import Limits

#: prctl(2): the signal that a process gets when its parent dies.
_PR_SET_PDEATHSIG = 1

#: Loaded long before any fork: the child of a threaded process must not load libraries.
_libc = ctypes.CDLL(None, use_errno=True)

#: What is reset in a child. Python ignores SIGPIPE and SIGXFSZ; nohup and the background jobs of
#: a shell ignore SIGHUP, SIGINT and SIGQUIT. 32 and 33 belong to the C library.
_SIGNALS = tuple(
    number for number in range(1, signal.NSIG)
    if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33)
)

#: The number of each limit, by its field.
_RESOURCES: Tuple[Tuple[str, int], ...] = tuple(
    (field, getattr(resource, "RLIMIT_" + field.rstrip("_").upper()))
    for field in ResourceLimits._fields
)


class Attributes(NamedTuple):
    """What a child is besides its program; None: what pupgevent itself is."""

    identity: Optional[Identity] = None
    umask: Optional[int] = None
    nice: Optional[int] = None
    limits: Optional[ResourceLimits] = None


class SetUp:
    """The `preexec_fn` of one child.

    `descriptors` are the limits of its descriptors where `attributes` have none; None:
    pupgevent's own. An OSError of a step reaches whoever starts the child, and its text names the
    key.
    """

    def __init__(
        self, guardian_pipe: int, attributes: Attributes, descriptors: Optional[Limits]
    ) -> None:
        self._parent = os.getpid()
        self._guardian_pipe = guardian_pipe
        self._attributes = attributes
        self._descriptors = descriptors

    def __call__(self) -> None:
        os.setsid()
        self._register()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._set_attributes()
        # Another user is another start for the kernel: it forgets this at setuid(2).
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != self._parent:
            os._exit(1)

    def _register(self) -> None:
        """Tell the guardian: after setsid, so that the group can be killed, and before the program
        runs."""
        if self._guardian_pipe != -1:
            try:
                os.write(self._guardian_pipe, registration("+", os.getpid()))
            except OSError:
                pass  # no guardian just now: the parent tells the next one

    def _set_attributes(self) -> None:
        identity, umask, nice, limits = self._attributes
        if umask is not None:
            os.umask(umask)
        if nice is not None:
            _set_nice(nice)
        if self._descriptors is not None:
            self._restore_descriptors(self._descriptors)
        if limits is not None:
            _set_limits(limits)
        if identity is not None:
            os.setgroups(identity.groups)
            os.setgid(identity.gid)
            os.setuid(identity.uid)

    def _restore_descriptors(self, limits: Limits) -> None:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        except (OSError, ValueError):
            pass  # somebody has lowered the hard limit since


def _set_nice(value: int) -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, 0, value)
    except OSError as error:
        raise OSError(error.errno, "nice %d: %s" % (value, error.strerror)) from None


def _set_limits(limits: ResourceLimits) -> None:
    for field, number in _RESOURCES:
        pair = getattr(limits, field)
        if pair is None:
            continue
        try:
            resource.setrlimit(number, pair)
        except (OSError, ValueError):
            # Python tells EPERM as a ValueError.
            hard = resource.getrlimit(number)[1]
            raise OSError(errno.EPERM, "limits.%s: only root can raise it above %d" % (
                field.rstrip("_"), hard)) from None
