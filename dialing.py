"""A connect to an instance, which never blocks: its socket, how it stands, whose fault it is."""

import errno
from typing import Optional

from backends import Backend
from descriptors import SHORTAGES
from reaching import met_itself
from relay import STREAM, End

#: errno values of a connect that is done. One that is reset already was connected: the instance
#: took it. The relay finds out.
CONNECTED = (0, errno.EISCONN, errno.ECONNRESET)

#: Those of one that is not decided yet.
UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY)

#: Ours, not the backend's: the client waits in line and is tried again. EADDRNOTAVAIL is a lack
#: of local ports, which run out for each address by itself (connect(2), ip(7)).
OUR_SHORTAGES = (*SHORTAGES, errno.EADDRNOTAVAIL, errno.EAGAIN)


def new_end(backend: Backend, ceiling: int) -> "Optional[End]":
    """A socket to connect with; None when its descriptor is one that is left alone. OSError."""
    end = End(backend.family, STREAM, 0)
    end.connection = None
    if end.fileno() < ceiling:
        return end
    end.close()
    return None


def begin(end: End, backend: Backend) -> int:
    """Begin to connect; an errno value, of CONNECTED where it is done already."""
    code = end.connect_ex(backend.address)
    return ask(end, backend) if code == errno.EINPROGRESS else code


def ask(end: End, backend: Backend) -> int:
    """How it stands: to call connect again tells (connect(2), EALREADY, EISCONN)."""
    code = end.connect_ex(backend.address)
    if backend.meets_itself and code in CONNECTED and met_itself(end):
        return errno.ECONNREFUSED
    return code
