"""Find the pupgevent that runs a configuration file, and see whether who answers is to be believed.

Our own is believed, and root's. Root finds those of all users; there is no telling which users have
a right to run a file, so it is said whose it is that has answered, and where there are several, the
one of the file's owner is meant, or nobody. Who is not root learns whose it is, and no more.
"""

import collections
import itertools
import os
import socket
from typing import Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

import control_socket
import folders
import locks
from credentials import NoAnswer, Peer, Stranger, connect, owner, peer_of, user_name
from errors import PupgeventError

#: Seconds for a pupgevent of another user to accept, for whose stopped ones root does not wait.
_OTHERS_TIMEOUT = 1.0

#: A socket that listens, in the flags of /proc/net/unix (__SO_ACCEPTCON of <linux/net.h>).
_LISTENS = 0x10000


#: Files of a user that are looked at: somebody may have put any number there.
_MOST_FILES = 10000


class Found(NamedTuple):
    connection: socket.socket
    peer: Peer
    #: The name of the user whose it is, where that is another than who asks.
    whose: Optional[str]


def reach(config: str, override: "Optional[str]", timeout: float) -> "Optional[Found]":
    """Connect to whoever runs a configuration file; None: nobody. Raises PupgeventError.

    `override` is the socket that the file names now. What runs may not have it, or another.
    """
    trouble: Optional[PupgeventError] = None
    found: Optional[Found] = None
    named = [] if override is None else [override]
    for path in [*control_socket.addresses(config), *named]:
        try:
            found = ask(path, _believed(config, path == override), timeout)
        except PupgeventError as error:
            if isinstance(error, NoAnswer) and path != override:
                raise
            trouble = trouble or error
            continue
        if found is not None:
            return found
    elsewhere = _of_others(config) if os.geteuid() == 0 else None
    if elsewhere is None:
        _tell_whose(config)
        if trouble is not None:
            raise trouble
    return elsewhere


class Place(NamedTuple):
    """A socket at which a pupgevent may listen, as a folder tells."""

    address: str
    #: Whose the folder is: nobody else is to be believed there.
    uid: int
    #: What the lock tells, where there is one: the configuration file as it was given, and a pid.
    config: Optional[str] = None
    pid: Optional[int] = None


def places() -> "List[Place]":
    """Where to ask for all pupgevents of ours, and root for those of all users."""
    uid = os.geteuid()
    found: Dict[Tuple[str, int], Place] = {}
    owned: List[Tuple[str, int]] = [
        (folder, uid) for folder in [*folders.own(), *folders.of_sessions()]]
    left: Dict[int, int] = collections.defaultdict(lambda: _MOST_FILES)
    for folder, user in [*owned, *(folders.of_others() if uid == 0 else ())]:
        names = _listed(folder, left[user])
        left[user] -= len(names)
        for place in _places_in(folder, names, user):
            known = found.get((place.address, user))
            if known is None or known.config is None:
                found[place.address, user] = place
    return list(found.values())


def _places_in(folder: str, names: "List[str]", uid: int) -> "Iterator[Place]":
    for name in names:
        path = os.path.join(folder, name)
        if name.endswith(".sock"):
            yield Place(path, uid)
        elif name.endswith(".lock"):
            told = locks.read(path)
            if told.address is not None and os.path.isabs(told.address):
                yield Place(told.address, uid, told.config, told.pid)


def _listed(folder: str, most: int) -> "List[str]":
    try:
        with os.scandir(folder) as entries:
            return sorted(each.name for each in itertools.islice(entries, most))
    except OSError:
        return []


def _believed(config: str, named: bool) -> "Set[int]":
    """Who may answer. Root also believes the file's owner, where that has named the socket."""
    users = {0, os.geteuid()}
    if named and os.geteuid() == 0:
        users.update(filter(None, [_owner_of(config)]))
    return users


def ask(path: str, users: "Set[int]", timeout: float) -> "Optional[Found]":
    """Connect to one of these users; None: nobody is there. Raises what `connect` raises, and
    Stranger."""
    connection = connect(path, timeout)
    if connection is None:
        return None
    peer = peer_of(connection)
    if peer.uid not in users:
        connection.close()
        raise Stranger(path, peer)
    return Found(connection, peer, None if peer.uid == os.geteuid() else user_name(peer.uid))


def _of_others(config: str) -> "Optional[Found]":
    """For root: of all other users. Raises PupgeventError where it is not clear which is meant."""
    found: List[Found] = []
    for folder, uid in folders.of_others():
        for path in control_socket.addresses(config, [folder]):
            # Of nobody else, root included: else its user could send us to any service of root's.
            try:
                answer = ask(path, {uid}, _OTHERS_TIMEOUT)
            except PupgeventError:
                continue
            if answer is not None:
                found.append(answer)
                break
    meant = [each for each in found if each.peer.uid == _owner_of(config)] or found
    for each in found:
        if each is not meant[0] or len(meant) > 1:
            each.connection.close()
    if len(meant) > 1:
        whose = " and ".join("%s, pid %d" % (each.whose, each.peer.pid) for each in meant)
        raise PupgeventError("%s is run by %s: say whose you mean with sudo -u" % (config, whose))
    return meant[0] if meant else None


def _owner_of(config: str) -> "Optional[int]":
    try:
        return os.stat(config).st_uid
    except OSError:
        return None


def _tell_whose(config: str) -> None:
    """Raises PupgeventError where another user seems to run the file, to whom we may not talk."""
    names = {control_socket.name_of(path) + ".sock" for path in control_socket.paths_of(config)}
    for path in _listening():
        folder, name = os.path.split(path)
        if name not in names:
            continue
        uid = owner(folder)
        if uid is None:
            # Of a login session, for instance, which others cannot look into.
            uid = owner(os.path.dirname(folder))
        if uid not in (None, os.geteuid()):
            user = user_name(uid or 0)
            # sudo(8): a number is written so.
            word = "'#%s'" % user if user.isdigit() else user
            raise PupgeventError("%s is run by user %s: try again with sudo%s" % (
                config, user, " -u " + word if uid else ""))


def _listening() -> "Iterator[str]":
    """The paths of all sockets that listen; everybody sees these (proc(5))."""
    try:
        with open("/proc/net/unix", "rb") as file:
            lines = file.read().split(b"\n")[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split(None, 7)
        try:
            if len(fields) == 8 and int(fields[3], 16) & _LISTENS:
                yield os.fsdecode(fields[7])
        except ValueError:
            continue  # a path may have a line break in it
