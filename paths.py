"""Paths as they were given, made absolute: a link stays a link, and may lead elsewhere tomorrow."""

import os


def absolute(path: str) -> str:
    """The path from the root on; raises OSError when the working directory has been removed.

    os.path.abspath loses links: it starts from getcwd(2), which has none in it, and takes `link/..`
    for the folder that the link lies in, where the kernel goes to the parent of what it leads to.
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
    """Is what comes before a `..` its name's own folder, and no link?"""
    return not parts or (parts[-1] != ".." and not os.path.islink("/" + "/".join(parts)))


def _working_folder() -> str:
    """As the shell tells it, with the links by which it was entered (PWD, POSIX XCU 2.5.3)."""
    told = os.environ.get("PWD", "")
    try:
        plain = os.path.isabs(told) and os.path.normpath(told) == told
        if plain and os.path.samestat(os.stat(told), os.stat(".")):
            return told
    except OSError:
        pass
    return os.getcwd()
