"""Where the control socket of a configuration file lies, and who may hold it.

A running pupgevent and the commands find each other by the file's real path alone. The socket
lies in a folder that only its user can enter. That one pupgevent runs a file is another matter,
and held by a lock (see locks.py) in a place that follows from the user alone: neither the
environment nor `control.socket` moves it. The lock tells where the socket is. Since a cleaner of
/tmp may take the lock away, whoever has it still asks at each socket before it is replaced.
"""

import errno
import hashlib
import os
import re
import socket
import stat
import struct
import time
from typing import List, Optional, Union

import locks
from errors import PupgeventError
from locks import PID_TIMEOUT, FileLock, Lock, Unusable, distrust, make_folder

#: Most bytes of a Unix socket's path: unix(7) has 108 with the zero at the end.
LONGEST_PATH = 107

#: Most letters of the configuration file's name that the socket's name repeats.
_READABLE = 32

#: Seconds from one attempt to connect to the next while the holder's queue is full.
_PAUSE = 0.05

#: How many may wait to be accepted.
_BACKLOG = 128

#: pid, uid and gid: `struct ucred` of unix(7).
_CREDENTIALS = struct.Struct("3i")


class Taken(PupgeventError):
    """Another pupgevent runs the same file, or has the socket that the file names."""

    def __init__(self, what: str, pid: "Optional[int]") -> None:
        whose = "" if pid is None else ", pid %d" % pid
        super().__init__("%s by another pupgevent already%s" % (what, whose))


def places(config: str, override: "Optional[str]" = None) -> "List[str]":
    """The paths where the socket of a configuration file can be; a new one takes the first that
    can be used.

    The others are those of a start with another environment: XDG_RUNTIME_DIR is set in a login
    and not in a cron job, and one has to find the other.
    """
    found = [] if override is None else [override]
    return found + [os.path.join(folder, _name(config) + ".sock") for folder in _folders()]


def _folders() -> "List[str]":
    uid = os.geteuid()
    found = [*_fixed_folders(uid), _within("/run/user/%d" % uid)]
    found.insert(0, _within(os.environ.get("XDG_RUNTIME_DIR", "")))
    unique: List[str] = []
    for folder in found:
        if folder and folder not in unique:
            unique.append(folder)
    return unique


def _fixed_folders(uid: int) -> "List[str]":
    """These depend on nothing but the user."""
    return ["/run/pupgevent"] * (uid == 0) + ["/tmp/pupgevent-%d" % uid]


def _within(runtime: str) -> str:
    """Our folder in a user's runtime folder; empty where it is not one.

    It must be the user's own (XDG Base Directory Specification); after `su` it is not.
    """
    try:
        own = os.path.isabs(runtime) and os.stat(runtime).st_uid == os.geteuid()
    except OSError:
        return ""
    return os.path.join(runtime, "pupgevent") if own and os.path.isdir(runtime) else ""


def _lock_paths(config: str) -> "List[str]":
    """Where the lock of a file can be: a new one takes the first that can be used."""
    folders = _fixed_folders(os.geteuid())
    folders += [each for each in _folders() if each not in folders]
    return [os.path.join(folder, _name(config) + ".lock") for folder in folders]


def _name(config: str) -> str:
    real_path = os.fsencode(_real(config))
    stem = os.path.splitext(os.path.basename(real_path))[0]
    readable = re.sub("[^a-zA-Z0-9@._-]", "-", _text(stem))[:_READABLE]
    return "%s-%s" % (readable, hashlib.sha256(real_path).hexdigest()[:12])


def names_of(config: str) -> "List[str]":
    """The paths that a file is known by: the real one, and the one that was given, which may be a
    link that leads elsewhere by now."""
    return [_text(os.fsencode(path)) for path in (_real(config), os.path.abspath(config))]


def _text(path: bytes) -> str:
    """The same in every locale: a running pupgevent and a command may each live in another."""
    return path.decode("utf-8", "surrogateescape")


def _real(config: str) -> str:
    try:
        return os.path.realpath(config)
    except OSError as error:
        # Of a relative path, when the working directory has been removed.
        raise PupgeventError("%s: %s" % (config, os.strerror(error.errno or 0).lower())) from None


# The side of the commands


def reach(
    config: str, override: "Optional[str]", timeout: float
) -> "Optional[socket.socket]":
    """Connect to whoever runs a configuration file; None: nobody. Raises PupgeventError."""
    # The file may have got, or lost, its `control.socket` after the one that runs was started.
    named = [*_told(config), *([] if override is None else [override])]
    trouble = None
    for path in named + places(config):
        if path not in named and distrust(os.path.dirname(path)) is not None:
            continue
        try:
            client = _connect(path, time.monotonic() + timeout)
        except Unusable as error:
            trouble = trouble or error
            continue
        if client is not None:
            return client
    if trouble is not None:
        raise trouble
    return None


def _told(config: str) -> "List[str]":
    """Where the holder of the file's lock has said that its socket is."""
    trusted = [each for each in _lock_paths(config) if distrust(os.path.dirname(each)) is None]
    return [address for address in (locks.read(path)[1] for path in trusted) if address]


def _connect(path: str, deadline: float) -> "Optional[socket.socket]":
    """None: nobody listens there. Raises Unusable where that cannot be told."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.setblocking(False)
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
            raise PupgeventError("the control socket %s does not answer" % path) from None
        except OSError as error:
            client.close()
            reason = os.strerror(error.errno).lower() if error.errno else str(error)
            raise Unusable("the control socket %s: %s" % (path, reason)) from None
        except UnicodeError:
            client.close()
            raise Unusable("the control socket %s: not in this locale" % path) from None


def peer(connection: socket.socket) -> "tuple[int, int]":
    """Pid and uid of the process at the other end (SO_PEERCRED, unix(7))."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    return pid, uid


# The side of the one that runs


class Endpoint:
    """The place of one running pupgevent.

    Nobody else runs the file while it is held. `socket` listens from the start on; it is None
    where there is no place for one, and `trouble` says why the first, or each, was not to be had.
    """

    def __init__(self, config: str, override: "Optional[str]") -> None:
        """Raises Taken."""
        self.socket: Optional[socket.socket] = None
        self.path: Optional[str] = None
        self.trouble = ""
        self._made: Optional[os.stat_result] = None
        self._locks: List[Union[Lock, FileLock]] = []
        try:
            self._guard(config)
            _refuse_second(config, override)
            self._settle(config, override)
        except BaseException:
            self.release()
            raise

    def _guard(self, config: str) -> None:
        for path in _lock_paths(config):
            try:
                make_folder(os.path.dirname(path), private=True)
                self._locks.append(Lock(path))
                return
            except locks.Held as other:
                raise Taken("%s is run" % config, other.pid) from None
            except (Unusable, OSError):
                continue
        # Nowhere to put one. Whoever can read the configuration file can lock that.
        try:
            self._locks.append(FileLock(config))
        except locks.Held:
            raise Taken("%s is run" % config, None) from None
        except OSError:
            pass  # some network file systems want to be written for that

    def _settle(self, config: str, override: "Optional[str]") -> None:
        reasons = []
        for path in places(config, override):
            try:
                self._listen(path, named=path == override)
                break
            except Unusable as error:
                reasons.append(str(error))
            except OSError as error:
                reason = os.strerror(error.errno or 0).lower()
                reasons.append("%s: %s" % (error.filename or path, reason))
        self.trouble = "; ".join(reasons)
        if self.path is not None and self._locks:
            self._locks[0].tell(self.path)

    def _listen(self, path: str, named: bool) -> None:
        if len(os.fsencode(path)) > LONGEST_PATH:
            raise Unusable("%s is longer than %d bytes" % (path, LONGEST_PATH))
        make_folder(os.path.dirname(path), private=not named)
        if named:
            # Two files may name the same one.
            self._locks.append(_lock_named(path))
        self.socket = _listen(path)
        self.path, self._made = path, os.lstat(path)

    def release(self) -> None:
        """Leave nothing behind, and nothing that is another's harmed; idempotent."""
        if self.socket is not None:
            self.socket.close()
        if self.path is not None and self._made is not None:
            _unlink(self.path, self._made)
        while self._locks:
            self._locks.pop().release()
        self._made = None


def take(config: str, override: "Optional[str]" = None) -> Endpoint:
    """Take the place of a configuration file; raises Taken."""
    return Endpoint(config, override)


def _refuse_second(config: str, override: "Optional[str]") -> None:
    """Where the lock has been removed, the socket of the one that runs still tells of it."""
    for path in places(config, override):
        named = path == override
        if not named and distrust(os.path.dirname(path)) is not None:
            continue
        try:
            other = _connect(path, time.monotonic() + PID_TIMEOUT)
        except Unusable:
            continue
        if other is not None:
            with other:
                what = "the control socket %s is used" % path if named else "%s is run" % config
                raise Taken(what, peer(other)[0])


def _lock_named(path: str) -> Lock:
    try:
        return Lock(path + ".lock")
    except locks.Held as other:
        raise Taken("the control socket %s is used" % path, other.pid) from None


def _listen(path: str) -> socket.socket:
    """What lies there is a dead one's. Raises OSError or Unusable."""
    if os.path.lexists(path):
        found = os.lstat(path)
        if not stat.S_ISSOCK(found.st_mode):
            raise Unusable("%s is there already, and is no socket" % path)
        other = _connect(path, time.monotonic() + PID_TIMEOUT)
        if other is not None:
            other.close()
            raise Unusable("%s is in use" % path)
        _unlink(path, found)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(path)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def _unlink(path: str, made: os.stat_result) -> None:
    """Only what was seen there before."""
    try:
        if os.path.samestat(os.lstat(path), made):
            os.unlink(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise


def own_uid() -> int:
    """Whose pupgevent this is."""
    return os.geteuid()
