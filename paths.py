"""Absolute paths that keep symbolic links, since a link may lead elsewhere tomorrow."""

import os

#: Longest path of a Unix socket in bytes (unix(7): 108 with the closing NUL).
SOCKET_PATH_LIMIT = 107


def absolute(path: str) -> str:
    """The path made absolute; raises OSError when the working directory has been removed.

    os.path.abspath loses links: it starts from getcwd(2), whose result has none. And it takes
    `link/..` for the folder that holds the link, where the kernel goes to the parent of the folder
    that the link leads to.
    """
    if not os.path.isabs(path):
        path = os.path.join(_working_folder(), path)
    parts = []  # type: list[str]
    for part in path.split("/"):
        if part == ".." and _is_plain(parts):
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _is_plain(parts: "list[str]") -> bool:
    """Whether the part before a `..` is a real folder, so that the two can be dropped."""
    return not parts or (parts[-1] != ".." and not os.path.islink("/" + "/".join(parts)))


def _working_folder() -> str:
    """As the shell tells it, with the links by which it was entered (PWD, POSIX XCU 2.5.3)."""
    pwd = os.environ.get("PWD", "")
    try:
        plain = os.path.isabs(pwd) and os.path.normpath(pwd) == pwd
        if plain and os.path.samestat(os.stat(pwd), os.stat(".")):
            return pwd
    except OSError:
        pass
    return os.getcwd()
