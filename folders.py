"""The folders in which locks and control sockets lie: each can be entered by one user alone.

They follow from the user and from nothing else, since a login, a cron job and a service of one user
have different environments and must find each other:

    /run/pupgevent                              of root
    BASE/pupgevent-UID, BASE/pupgevent-UID-*    in /tmp, /var/tmp and /dev/shm

In a folder where everybody may write, anybody can be the first to take a name, and keep it. So no
name is relied on: where `pupgevent-UID` belongs to somebody else, is a link, or is open to others,
a folder is made whose name cannot be foreseen, and it is found again by looking through the base
for what is ours. That cannot be forged: the kernel gives a folder to the user who makes it, and in
a sticky folder nobody else can rename or remove it.

Whoever takes a lock takes it in each of these folders that is there, and makes one only where there
is none. So two that have seen different ones meet in one of them: each makes its folder before it
looks which there are, and who looks last sees both.

Where nothing can be written there, the folder of a login session has to do. It comes last, because
it is removed when its user logs out, and what was started in the background goes on.
"""

import binascii
import os
import re
import stat
from typing import Iterator, List, Optional, Tuple

#: Of root, below a folder in which only root can write.
_ROOTS = "/run/pupgevent"

#: Where everybody may make a folder (hier(7)). A read-only container has the last one.
_BASES = ("/tmp", "/var/tmp", "/dev/shm")

#: One folder for each user who is logged in (pam_systemd(8)).
_SESSIONS = "/run/user"

_NAME = "pupgevent-%d"
_ANY_NAME = re.compile("pupgevent-([0-9]{1,10})(?:-.*)?$", re.DOTALL)


def own() -> "List[str]":
    """Those of ours that are there, in an order that is the same for all."""
    uid = os.geteuid()
    found = [_ROOTS] * (uid == 0)
    for base in filter(_is_safe, _BASES):
        names = (name for name in _listed(base) if _user_of(name) == uid)
        found.extend(os.path.join(base, name) for name in sorted(names))
    return list(filter(_is_trusted, found))


def make() -> "Iterator[str]":
    """Makes one, and another when that was of no use, and so on."""
    uid = os.geteuid()
    if uid == 0 and _is_made(_ROOTS):
        yield _ROOTS
    for base in filter(_is_safe, _BASES):
        folder = os.path.join(base, _NAME % uid)
        unforeseen = "%s-%s" % (folder, binascii.hexlify(os.urandom(6)).decode())
        if _is_made(folder) or _is_made(unforeseen):
            yield folder


def of_sessions(made: bool = False) -> "List[str]":
    """Ours in the folders of login sessions; `made`: they are made where there are none."""
    runtimes = [os.environ.get("XDG_RUNTIME_DIR", ""), os.path.join(_SESSIONS, str(os.geteuid()))]
    found = [os.path.join(each, "pupgevent") for each in runtimes if _is_ours(each)]
    trusted = _is_made if made else _is_trusted
    return [folder for folder in dict.fromkeys(found) if trusted(folder)]


def of_others() -> "Iterator[Tuple[str, int]]":
    """Those of all other users with the user's number; only root can look into them."""
    uid = os.geteuid()
    found = [(os.path.join(base, name), _user_of(name))
             for base in filter(_is_safe, _BASES) for name in _listed(base)]
    found += [(os.path.join(_SESSIONS, name, "pupgevent"), int(name))
              for name in _listed(_SESSIONS) if name.isdigit()]
    for folder, other in found:
        if other not in (None, uid) and unsafe_reason(folder, other) is None:
            yield folder, other or 0


def unsafe_reason(folder: str, uid: "Optional[int]" = None) -> "Optional[str]":
    """Why a folder is not one that only its user, us, can enter; None where it is."""
    try:
        found = os.lstat(folder)
    except OSError as error:
        return os.strerror(error.errno or 0).lower()
    if not stat.S_ISDIR(found.st_mode):
        return "it is no folder"
    if found.st_uid != (os.geteuid() if uid is None else uid):
        return "it belongs to another user"
    if found.st_mode & 0o077:
        return "others can enter it (mode %o)" % stat.S_IMODE(found.st_mode)
    return None


def _is_safe(base: str) -> bool:
    """Nobody else can rename or remove what is ours there, but for the owner of the base."""
    try:
        mode = os.stat(base).st_mode
    except OSError:
        return False
    return bool(mode & stat.S_ISVTX) or not mode & 0o022


def _listed(folder: str) -> "List[str]":
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _user_of(name: str) -> "Optional[int]":
    found = _ANY_NAME.match(name)
    return int(found.group(1)) if found else None


def _is_ours(folder: str) -> bool:
    """After `su` the session's folder is still the other user's."""
    try:
        return os.path.isabs(folder) and os.stat(folder).st_uid == os.geteuid()
    except OSError:
        return False


def _is_made(folder: str) -> bool:
    """It is there by now, and can be trusted."""
    try:
        os.mkdir(folder, 0o700)
    except OSError:
        pass  # if it is there already, it may be ours
    return _is_trusted(folder)


def _is_trusted(folder: str) -> bool:
    return unsafe_reason(folder) is None
