"""The port of an instance: does it accept, is it free, and if not, whose is it?"""

import errno
import os
import pwd
import socket
from typing import List, NamedTuple, Set

import procfs
import reaching

#: Seconds for one look at a port. On the machine itself the answer is there at once.
_LOOK_TIMEOUT = 1.0

#: Of a stranger's command line. Characters.
_COMMAND_LENGTH = 80

#: The state of a socket in /proc/net/tcp (enum in the kernel's net/tcp_states.h).
_LISTEN = "0A"


class Socket(NamedTuple):
    """A line of /proc/net/tcp."""

    state: str
    uid: int
    inode: str


def accepts(host: str, port: int) -> bool:
    """Does somebody accept there? Blocks the calling greenlet for a second at most."""
    try:
        return reaching.accepts(host, port, _LOOK_TIMEOUT)
    except OSError:
        return False


def is_taken(host: str, port: int) -> bool:
    """Would a server there fail, because somebody else has the port?

    Where binding is impossible for another reason (an address of another machine, a port that
    only root may have), nothing is known, and that is no.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def owner(port: int) -> str:
    """'pid 4711 (nginx: master process)', or as much as can be known; reads /proc and blocks."""
    there = sockets_at(port)
    listening = [each for each in there if each.state == _LISTEN]
    holder = _holder({"socket:[%s]" % each.inode for each in listening or there})
    if holder:
        return "pid %s (%s)" % (holder, _command(holder))
    if listening:
        return "a process of user %s" % _user(listening[0].uid)
    return "connections that have not ended" if there else "somebody unknown"


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
                        found.append(Socket(fields[3], int(fields[7]), fields[9]))
        except OSError:
            pass  # no IPv6, or no /proc
    return found


def _holder(inodes: Set[str]) -> str:
    """The first process that has such a socket; without root only our own can be looked at."""
    for pid in procfs.pids():
        folder = "/proc/%s/fd" % pid
        try:
            if any(os.readlink("%s/%s" % (folder, fd)) in inodes for fd in os.listdir(folder)):
                return pid
        except OSError:
            pass  # not ours, or gone
    return ""


def _command(pid: str) -> str:
    try:
        with open("/proc/%s/cmdline" % pid, "rb") as file:
            words = file.read(4096).replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        words = ""
    printable = "".join(each if each.isprintable() else " " for each in words)
    return " ".join(printable.split())[:_COMMAND_LENGTH] or "?"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
