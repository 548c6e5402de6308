"""Whom a child runs as: looked up by name before the fork.

Between fork and exec a child may only make system calls, and the user database may be slow.
"""

import grp
import os
import pwd
from typing import Dict, List, NamedTuple, Optional

from errors import PupgeventError


class IdentityError(PupgeventError):
    """There is no such user, or no such group, or no right to become it."""


class Identity(NamedTuple):
    """What the kernel knows of a user."""

    uid: int
    gid: int
    #: All of its groups.
    groups: List[int]


class Account(NamedTuple):
    """The user that a child runs as, and the variables that tell it so."""

    #: None: pupgevent's own.
    identity: Optional[Identity]
    variables: Dict[str, str]


#: The account of a child that runs as pupgevent's own user.
OWN_ACCOUNT = Account(None, {})


def find_account(user: Optional[str], group: Optional[str]) -> Account:
    """Look them up by name. The user database may block. IdentityError."""
    entry = None if user is None else _entry(user)
    gid = None if group is None else _gid(group)
    if entry is None and gid is None:
        return OWN_ACCOUNT
    return Account(_checked(entry, gid), {} if entry is None else _variables(entry))


def _variables(entry: pwd.struct_passwd) -> Dict[str, str]:
    """As login(1) and systemd's User= set them."""
    return {
        "HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name,
        "SHELL": entry.pw_shell or "/bin/sh",
    }  # fmt: skip


def _entry(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise IdentityError('cannot start: there is no user "%s"' % user) from None


def _gid(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise IdentityError('cannot start: there is no group "%s"' % group) from None


def _checked(entry: Optional[pwd.struct_passwd], gid: Optional[int]) -> Optional[Identity]:
    uid = os.geteuid() if entry is None else entry.pw_uid
    if gid is None:
        gid = os.getegid() if entry is None else entry.pw_gid
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return None
    if os.geteuid() != 0:
        raise IdentityError("cannot start: only root can run it as another user or group")
    return Identity(uid, gid, [gid] if entry is None else os.getgrouplist(entry.pw_name, gid))
