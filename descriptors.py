"""File descriptors: how many there may be, and how many are left alone.

The kernel gives out the lowest free number, so a new descriptor's number tells how full the table
is. Clients stop at `ceiling()`, connections to instances at `last_ceiling()`; what lies above is
for restarting instances, logs and control.
"""

import errno
import resource
from typing import Tuple

#: Descriptors that no client may take, and of these those that no connection to an instance may
#: take either: a restart of an instance needs about ten.
_RESERVE, _LAST_RESERVE = 128, 64

#: errno values that mean "not now, and nobody's fault but ours".
SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


#: Soft and hard, as of getrlimit(2).
Limits = Tuple[int, int]


def raise_limit() -> Limits:
    """Lift the soft limit of descriptors to the hard one; returns the two from before, for the
    children: whoever calls select(2) below a high limit pays for it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            pass
    return soft, hard


def ceiling() -> int:
    """The first descriptor number that is kept from clients."""
    return _less(_RESERVE, 4)


def last_ceiling() -> int:
    """The first that is kept from connections to instances, too. Above the other one, so that who
    was let in gets through."""
    return _less(_LAST_RESERVE, 8)


def _less(reserve: int, part: int) -> int:
    """The limit without a reserve, which is at most such a part of it."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return 1 << 30
    return limit - min(reserve, limit // part)
