"""The port of an instance: does it accept, is it free, and if not, whose is it?

All but `accepts` and `is_taken` read /proc and block: they are for a thread.
"""

import errno
import os
import pwd
import socket
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

import procfs
import sockets
from listening_sockets import ListeningSocket, accepting_at, address_of, listeners, overlap

#: Seconds for one look at a port. On the machine itself the answer is there at once.
_LOOK_TIMEOUT = 1.0

#: Characters of an intruder's command line that a message shows.
_COMMAND_LENGTH = 80

#: The state of a socket in /proc/net/tcp (enum in the kernel's net/tcp_states.h).
_LISTEN = "0A"

#: How many looks are made while what listens there changes during each.
_LOOKS = 3

#: Programs that have another process run the application. The listener is not among their own
#: descendants (it belongs to Docker's daemon, its docker-proxy, or a container on the host's
#: network), so nobody can tell whose it is.
_DELEGATING = frozenset([
    "docker", "docker-compose", "podman", "nerdctl", "lxc", "incus", "systemd-run"])


class Socket(NamedTuple):
    """A line of /proc/net/tcp."""

    state: str
    uid: int
    #: 0: its process has closed it, or is gone.
    inode: int
    #: Where it is bound.
    host: str


class _Unreadable(Exception):
    """A process of the instance may not be looked at."""


def accepts(host: str, port: int) -> bool:
    """Does somebody accept there? Blocks the calling greenlet for a second at most."""
    try:
        return sockets.tcp_check(host, port, _LOOK_TIMEOUT)
    except OSError:
        return False


def is_taken(host: str, port: int) -> bool:
    """Would a server there fail? `owner` tells whether that is because of somebody.

    Where binding is impossible for another reason (an address of another machine, a port that
    only root may have), nothing is known, and that is no.
    """
    family = sockets.family_of(host)
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def owner(host: str, port: int) -> Optional[str]:
    """'pid 4711 (nginx: master process)', or as much as can be known of who has a taken port.

    None where it is nobody: connections (TIME_WAIT and the like) whose process has closed them.
    A server with SO_REUSEPORT can have the port beside those of one that had it so.
    """
    there = [each for each in sockets_at(port) if overlap(each.host, host)]
    held = [each for each in there if each.inode]
    if there and not held:
        return None
    listening = [each for each in held if each.state == _LISTEN]
    for pid, _ in _holders({each.inode for each in listening or held}):
        return _describe(pid)
    return _of_user(listening[0].uid) if listening else "somebody unknown"


def sockets_at(port: int) -> List[Socket]:
    """All TCP sockets whose own port it is."""
    suffix = ":%04X" % port
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as lines:
                for line in lines:
                    fields = line.split()
                    if fields[1].endswith(suffix):
                        host = address_of(fields[1])[0]
                        found.append(Socket(fields[3], int(fields[7]), int(fields[9]), host))
        except OSError:
            pass  # no IPv6, or no /proc
    return found


# Is it the instance that listens?


def intruder(host: str, port: int, leader: int, env_marks: Set[bytes]) -> str:
    """Who accepts connections there besides an instance; empty: nobody, or it cannot be known.

    An instance is the session of its first process, the `leader`, all that descend from it, and
    all that have the `env_marks` (NAME=value) in their environment: a daemon that has left the
    session has them still.
    """
    if not _proc_shows_us():
        return ""
    for _ in range(_LOOKS):
        there = accepting_at(listeners(port), host, port)
        try:
            found = _find_intruder({each.inode: each for each in there}, leader, env_marks)
        except _Unreadable:
            return ""
        # What listens may have changed during the look: then it proves nothing.
        if not found or there == accepting_at(listeners(port), host, port):
            return found
    return ""


def listening_addresses(leader: int) -> List[str]:
    """Where an instance listens, on whatever port: "[::1]:8000"."""
    mine: Set[int] = set()
    for pid in _session(leader):
        try:
            mine.update(_sockets_of(pid))
        except OSError:
            continue  # gone, or not for us to see
    return sorted(each.address for each in listeners() if each.inode in mine) if mine else []


def _find_intruder(
    missing: Dict[int, ListeningSocket], leader: int, env_marks: Set[bytes]
) -> str:
    """Who holds one of these sockets (by inode) and is not of the instance.

    The sockets that processes of the instance hold are taken out of `missing`, the cheap way first,
    by the session; whoever holds one that is left is the intruder.
    """
    for pid in _session(leader):
        if not missing:
            return ""
        _discard(missing, _sockets_of_member(pid, set(missing)))
    if not missing:
        return ""
    for pid in procfs.family(leader):
        if procfs.name_of(pid) in _DELEGATING:
            return ""
        _discard(missing, _sockets_of_member(pid, set(missing)))
    strangers = []
    for pid, held in _holders(set(missing)):
        if _has_env_marks(pid, env_marks):
            _discard(missing, held)
        else:
            strangers.append((pid, held))
    for pid, held in strangers:
        if not held.isdisjoint(missing):
            return _describe(pid)
    return _describe_unseen(list(missing.values()))


def _describe_unseen(left: List[ListeningSocket]) -> str:
    """The holder of sockets that no process was seen to hold: without root, those of other users
    may not be looked at."""
    # Where /proc hides others (hidepid), a process of the instance may be among them.
    if not left or not os.path.exists("/proc/1/stat"):
        return ""
    return _of_user(left[0].uid)


def _discard(missing: Dict[int, ListeningSocket], inodes: Iterable[int]) -> None:
    for inode in inodes:
        missing.pop(inode, None)


def _session(leader: int) -> Iterator[int]:
    """Its processes, the leader first: mostly nobody else is needed. getsid(2) takes a tenth of a
    read of /proc."""
    yield leader
    for pid in map(int, procfs.pids()):
        try:
            if pid != leader and os.getsid(pid) == leader:
                yield pid
        except OSError:
            continue  # gone


def _sockets_of_member(pid: int, wanted: Set[int]) -> Set[int]:
    """Those of the wanted sockets that a process of the instance has. Raises _Unreadable."""
    try:
        return _sockets_of(pid, wanted)
    except PermissionError:
        # To others than root that is said of a zombie, too, and a zombie has nothing open.
        if procfs.is_zombie(pid):
            return set()
        raise _Unreadable from None
    except OSError:
        return set()


def _holders(wanted: Set[int]) -> Iterator[Tuple[int, Set[int]]]:
    """The processes that have such sockets, and which; without root, of our own processes only."""
    for pid in map(int, procfs.pids()):
        try:
            held = _sockets_of(pid, wanted)
        except OSError:
            continue  # not ours, or gone
        if held:
            yield pid, held


def _sockets_of(pid: int, wanted: Optional[Set[int]] = None) -> Set[int]:
    """The inodes of all sockets that a process has, or of the wanted ones. OSError."""
    found: Set[int] = set()
    # One after the other, and not all at once: what listens was opened early.
    for name in procfs.descriptors(pid):
        if name.startswith("socket:["):
            inode = int(name[8:-1])
            if wanted is None or inode in wanted:
                found.add(inode)
                if wanted is not None and len(found) == len(wanted):
                    break
    return found


def _has_env_marks(pid: int, env_marks: Set[bytes]) -> bool:
    try:
        with open("/proc/%d/environ" % pid, "rb") as file:
            return bool(env_marks) and env_marks <= set(file.read().split(b"\0"))
    except OSError:
        return False


def _proc_shows_us() -> bool:
    """Is /proc there, and that of our own namespace?"""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def _describe(pid: int) -> str:
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            words = file.read(4096).replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        words = ""
    printable = "".join(each if each.isprintable() else " " for each in words)
    return "pid %d (%s)" % (pid, " ".join(printable.split())[:_COMMAND_LENGTH] or "?")


def _of_user(uid: int) -> str:
    try:
        return "a process of user %s" % pwd.getpwuid(uid).pw_name
    except KeyError:
        return "a process of user %d" % uid
