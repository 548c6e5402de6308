"""Who is at the other end of a Unix socket: the kernel tells (SO_PEERCRED), nobody can pretend."""

import os
import pwd
import socket
import struct
import time
from typing import NamedTuple, Optional

from errors import PupgeventError
from locks import Unusable

#: `struct ucred` of unix(7): a pid, and two numbers without a sign. Users beyond 2^31 are common
#: where accounts are mapped, from a directory service or into a container.
_CREDENTIALS = struct.Struct("iII")

#: Seconds from one attempt to connect to the next while the holder's queue is full.
_PAUSE = 0.05


class Peer(NamedTuple):
    """A process, and the user that it was when it connected or began to listen."""

    pid: int
    uid: int


class Stranger(PupgeventError):
    """Somebody answers who is not to be believed."""

    def __init__(self, path: str, peer: Peer) -> None:
        super().__init__("the control socket %s is answered by user %s, pid %d: not believed" % (
            path, user_name(peer.uid), peer.pid))


class NoAnswer(PupgeventError):
    """Somebody listens, and does not accept."""


def connect(path: str, timeout: float) -> "Optional[socket.socket]":
    """A socket that is connected to whoever listens at a path, also a stranger; None: nobody does.

    Raises Unusable where that cannot be told, and NoAnswer.
    """
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.setblocking(False)
    deadline = time.monotonic() + timeout
    while True:
        try:
            client.connect(path)
            client.setblocking(True)
            return client
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            client.close()
            return None
        except BlockingIOError:
            # Its queue is full, which passes.
            if time.monotonic() < deadline:
                time.sleep(_PAUSE)
                continue
            client.close()
            raise NoAnswer("the control socket %s does not answer" % path) from None
        except OSError as error:
            client.close()
            reason = os.strerror(error.errno).lower() if error.errno else str(error)
            raise Unusable("the control socket %s: %s" % (path, reason)) from None
        except UnicodeError:
            client.close()
            raise Unusable("the control socket %s: not in this locale" % path) from None


def peer_of(connection: socket.socket) -> Peer:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    return Peer(pid, uid)


def is_trusted(uid: int) -> bool:
    """Ourselves, and root, who can do as he likes anyway."""
    return uid in (0, os.geteuid())


def user_name(uid: int) -> str:
    """The number where it has no name. May block on the user database."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def owner(path: str) -> "Optional[int]":
    """The user whose a path is, of a link the link itself; None where that cannot be seen."""
    try:
        return os.lstat(path).st_uid
    except OSError:
        return None
