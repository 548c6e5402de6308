"""A file that is there whole or not at all, and takes no other's place.

It is written under another name and then linked to its own: link(2) refuses a name that is there,
also one that is a symbolic link to nowhere, and whoever comes second of two. A file system without
links gets the file under its own name, which is removed again where it cannot be written whole.
"""

import errno
import os
from typing import Callable

from errors import ConfigurationError, PupgeventError

#: What link(2) says where the file system has no links.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EXDEV)


def check(path: str) -> None:
    """Raises ConfigurationError where something has the name already."""
    if os.path.lexists(path):
        raise _is_there(path)


def write(
    path: str, content: bytes, private: bool, link: Callable[[str, str], None] = os.link
) -> None:
    """Write a new file; `private`: for its user alone. Raises PupgeventError."""
    try:
        _write(path, content, 0o600 if private else 0o666, link)
    except FileExistsError:
        raise _is_there(path) from None
    except (OSError, ValueError) as error:
        reason = os.strerror(getattr(error, "errno", 0) or errno.EINVAL).lower()
        raise PupgeventError("%s cannot be written: %s" % (path, reason)) from None


def _is_there(path: str) -> ConfigurationError:
    return ConfigurationError(path, None, "is there already, and stays as it is")


def _write(path: str, content: bytes, mode: int, link: Callable[[str, str], None]) -> None:
    folder, name = os.path.split(path)
    other = os.path.join(folder, ".%s.%s" % (name[:100], os.urandom(6).hex()))
    _create(other, content, mode)
    try:
        link(other, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _create(path, content, mode)
    finally:
        os.unlink(other)


def _create(path: str, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        os.unlink(path)
        raise
