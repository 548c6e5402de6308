"""Where the control socket of a configuration file lies, and who may hold it.

A running pupgevent is known by the path of its file as it was given, links kept: when a link is
switched to another release, what was started by it is still what it means. The socket lies in a
folder that only its user can enter (see folders.py), beside a lock that tells of it. The file's
`control.socket` is one more, for whoever cannot get there, and moves neither.

By the real path there is a second lock, so that one file is not run twice by way of two paths, and
is found by any of them. Where the path leads elsewhere by now, the next reload takes the lock of
that, and gives the old one up. Since a cleaner of /tmp may take the locks away, whoever has them
still asks at each socket before it is replaced.
"""

import contextlib
import errno
import hashlib
import os
import re
import socket
import stat
from typing import Dict, List, Optional, Tuple

import folders
import locks
import paths
from credentials import NoAnswer, Stranger, connect, is_trusted, owner, peer_of
from errors import PupgeventError, decoded
from locks import PID_TIMEOUT, Holder, Lock, Unusable

#: Most letters of the configuration file's name that the socket's name repeats.
_READABLE = 32

#: How many may wait to be accepted.
_BACKLOG = 128


class Taken(PupgeventError):
    """Another pupgevent runs the same file, or has the socket that the file names."""

    def __init__(self, what: str, holder: Holder, config: str) -> None:
        by = "" if holder.config in (None, config) else ", as %s" % holder.config
        whose = "" if holder.pid is None else ", pid %d" % holder.pid
        super().__init__("%s by another pupgevent already%s%s" % (what, by, whose))


def name_of(config: str) -> str:
    """How the lock and the socket of a path are called, which is absolute."""
    stem = os.path.splitext(os.path.basename(config))[0]
    path = os.fsencode(config)
    # Of the name that the file has everywhere, whatever the locale is.
    readable = re.sub("[^a-zA-Z0-9@._-]", "-", decoded(os.fsencode(stem)))[:_READABLE]
    return "%s-%s" % (readable, hashlib.sha256(path).hexdigest()[:12])


def known_paths(config: str) -> "List[str]":
    """The paths that a file is known by, in the same text in every locale: a running pupgevent and
    a command may each live in another."""
    return [decoded(os.fsencode(path)) for path in paths_of(config)]


def socket_paths(config: str) -> "List[str]":
    """Where the sockets of a file are, or would be; those of the path that was given come first."""
    return [stem + ".sock" for stem in _stems(config, folders.own() + folders.of_sessions())]


def addresses(config: str, where: "Optional[List[str]]" = None) -> "List[str]":
    """The sockets at which whoever runs a file may be asked: those that its locks tell, and those
    of `socket_paths`.

    `where` are the folders to look into, our own where they are left out.
    """
    stems = _stems(config, folders.own() + folders.of_sessions() if where is None else where)
    told = [locks.read(stem + ".lock").address for stem in stems]
    return [each for each in dict.fromkeys([*told, *(stem + ".sock" for stem in stems)]) if each]


def _stems(config: str, where: "List[str]") -> "List[str]":
    names = map(name_of, dict.fromkeys(paths_of(config)))
    return [os.path.join(folder, name) for name in names for folder in where]


def paths_of(config: str) -> "Tuple[str, str]":
    """The paths that a file is known by: the one that was given, made absolute, and the real one.

    Raises PupgeventError.
    """
    try:
        path = paths.absolute(config)
    except OSError as error:
        # Of a relative path, when the working directory has been removed.
        raise PupgeventError("%s: %s" % (config, os.strerror(error.errno or 0).lower())) from None
    return path, os.path.realpath(path)


class ControlEndpoint:
    """The locks and the listening sockets of one running pupgevent.

    While the locks are held, nobody else of its user runs the file. `sockets` listen from the
    start on; `path` is that of the first, None where no socket could be made. `trouble` says why
    one of them, or all, could not be made. `override` is the socket that the file names.
    """

    def __init__(self, config: str, override: "Optional[str]") -> None:
        """Raises Taken."""
        self.config = config
        self.path: Optional[str] = None
        self.trouble = ""
        self.sockets: List[socket.socket] = []
        self._made: Dict[str, os.stat_result] = {}
        #: Of each path of the file that is held.
        self._locks: Dict[str, List[Lock]] = {}
        self._override_locks: List[Lock] = []
        try:
            self._path, real_path = paths_of(config)
            for path in dict.fromkeys([self._path, real_path]):
                self._lock_path(path)
            self._refuse_second(override)
            self._open_sockets(override)
        except BaseException:
            self.release()
            raise

    @property
    def held_paths(self) -> "List[str]":
        """The paths of the file that are held, in the same text in every locale."""
        return [decoded(os.fsencode(path)) for path in list(self._locks)]

    # When the path leads elsewhere

    def follow(self) -> "Optional[Taken]":
        """Also lock the file that the path leads to now; returns why that cannot be, or None.

        It may block for a second: for a thread, where what is raised is printed by gevent.
        """
        real_path = os.path.realpath(self._path)
        try:
            if real_path not in self._locks:
                self._lock_path(real_path)
                self._write_address(real_path)
        except Taken as taken:
            return taken
        return None

    def keep_only(self, real_path: str) -> None:
        """Give up the locks of files that the path has led to before. Idempotent."""
        for path in [each for each in self._locks if each not in (self._path, real_path)]:
            _release(self._locks.pop(path))

    # Locking and listening

    def _lock_path(self, path: str) -> None:
        """Lock a path of the file in every folder of ours that there is; see folders.py."""
        held = self._locks[path] = []
        try:
            self._lock_in(folders.own(), path, held)
            for _ in () if held else folders.make():
                self._lock_in(folders.own(), path, held)
                if held:
                    break
            if not held:
                self._lock_in(folders.of_sessions(made=True), path, held)
        except locks.Held as other:
            _release(self._locks.pop(path))
            raise Taken("%s is run" % self.config, other.holder, self._path) from None

    def _lock_in(self, where: "List[str]", path: str, held: "List[Lock]") -> None:
        for folder in where:
            with contextlib.suppress(Unusable, OSError):
                held.append(Lock(os.path.join(folder, name_of(path) + ".lock"), self._path))

    def _write_address(self, path: str) -> None:
        for lock in self._locks[path]:
            lock.tell(self.path or "")

    def _refuse_second(self, override: "Optional[str]") -> None:
        """Raises Taken where a pupgevent listens at one of the sockets: a cleaner of /tmp may have
        removed its lock."""
        for path in socket_paths(self.config):
            pid = _listening_pid(path)
            if pid is not None:
                raise Taken("%s is run" % self.config, Holder(pid or None), self._path)
        if override is not None:
            # Two files may name the same one.
            pid = _listening_pid(override)
            if pid is not None:
                what = "the control socket %s is used" % override
                raise Taken(what, Holder(pid or None), self._path)

    def _open_sockets(self, override: "Optional[str]") -> None:
        reasons: List[str] = []
        name = name_of(self._path) + ".sock"
        beside = [os.path.join(os.path.dirname(lock.path), name)
                  for lock in self._locks[self._path]]
        if not any(self._listen_at(path, reasons) for path in beside):
            others = [os.path.join(folder, name) for folder in folders.of_sessions(made=True)]
            any(self._listen_at(path, reasons) for path in others if path not in beside)
        if override is not None:
            self._listen_at_override(override, reasons)
        self.trouble = "; ".join(reasons)
        for path in self._locks:
            self._write_address(path)

    def _listen_at_override(self, override: str, reasons: "List[str]") -> None:
        """Listen at the socket that the file names, too."""
        with contextlib.suppress(OSError):
            os.mkdir(os.path.dirname(override), 0o700)
        # A link on the way may lead elsewhere when the socket is to be removed.
        folder, name = os.path.split(override)
        real = os.path.join(os.path.realpath(folder), name)
        path = override if len(os.fsencode(real)) > paths.SOCKET_PATH_LIMIT else real
        try:
            self._override_locks.append(Lock(path + ".lock", self._path))
        except locks.Held as other:
            what = "the control socket %s is used" % override
            raise Taken(what, other.holder, self._path) from None
        except (Unusable, OSError) as error:
            reasons.append(_reason(error, path))
            return
        self._listen_at(path, reasons)

    def _listen_at(self, path: str, reasons: "List[str]") -> bool:
        try:
            self.sockets.append(_listen(path))
            self._made[path] = os.lstat(path)
        except (Unusable, NoAnswer, Stranger, OSError) as error:
            reasons.append(_reason(error, path))
            return False
        self.path = self.path or path
        return True

    def release(self) -> None:
        """Close and remove the sockets and the locks, but none that another has put in their
        place; idempotent."""
        while self.sockets:
            self.sockets.pop().close()
        while self._made:
            _unlink(*self._made.popitem())
        while self._locks:
            _release(self._locks.popitem()[1])
        _release(self._override_locks)


def take(config: str, override: "Optional[str]" = None) -> ControlEndpoint:
    """Be the one that runs a configuration file; raises Taken."""
    return ControlEndpoint(config, override)


def _release(held: "List[Lock]") -> None:
    while held:
        held.pop().release()


def _listening_pid(path: str) -> "Optional[int]":
    """The pid of the pupgevent of ours, or root's, that listens at a path; 0 where somebody listens
    whose pid cannot be told, None where nobody does whom we trust."""
    try:
        other = connect(path, PID_TIMEOUT)
    except NoAnswer:
        uid = owner(path)
        return 0 if uid is not None and is_trusted(uid) else None
    except Unusable:
        return None
    if other is None:
        return None
    with other:
        peer = peer_of(other)
    return peer.pid if is_trusted(peer.uid) else None


def _listen(path: str) -> socket.socket:
    """A socket that listens at a path. One that is there already, and at which nobody listens, was
    left behind by one that has ended, and is replaced.

    Raises Unusable, Stranger, NoAnswer or OSError.
    """
    if len(os.fsencode(path)) > paths.SOCKET_PATH_LIMIT:
        raise Unusable("%s is longer than %d bytes" % (path, paths.SOCKET_PATH_LIMIT))
    if os.path.lexists(path):
        found = os.lstat(path)
        if not stat.S_ISSOCK(found.st_mode):
            raise Unusable("%s is there already, and is no socket" % path)
        other = connect(path, PID_TIMEOUT)
        if other is not None:
            with other:
                raise Stranger(path, peer_of(other))
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
    """Remove a path if it is still the file `made`."""
    try:
        if os.path.samestat(os.lstat(path), made):
            os.unlink(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise


def _reason(error: Exception, path: str) -> str:
    if not isinstance(error, OSError):
        return str(error)
    return "%s: %s" % (error.filename or path, os.strerror(error.errno or 0).lower())
