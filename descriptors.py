"""File descriptors: how many there may be, and how many are left alone.

The kernel gives out the lowest free number, so a new descriptor's number tells how full the table
is. Clients stop at `ceiling()`; what lies above is for restarting instances, logs and control.
"""

import errno
import resource

#: Descriptors that no client may take: a restart of an instance needs about ten.
_RESERVE = 128

#: errno values that mean "not now, and nobody's fault but ours".
SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def raise_limit() -> int:
    """Lift the soft limit of descriptors to the hard one; returns what is in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            pass
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def ceiling() -> int:
    """The first descriptor number that is kept from clients."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return 1 << 30
    return limit - min(_RESERVE, limit // 4)
