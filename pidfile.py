"""The file that tells other programs the pid of a child. Blocks on disks: for a thread."""

import os
from typing import Any, Callable, Optional


def path_for(process: Any, number: int) -> Optional[str]:
    """Of several instances each has its own: `run/app.pid` is `run/app-1.pid` for the first."""
    path: Optional[str] = process.pid_file
    if path is None or process.cluster is None or process.cluster.instances == 1:
        return path
    stem, suffix = os.path.splitext(path)
    return "%s-%d%s" % (stem, number + 1, suffix)


def write(path: str, pid: int, is_outdated: Callable[[], bool] = lambda: False) -> None:
    """Whoever reads it sees the old content or the new one, never a half. OSError.

    Nothing is written when that is out of date once the disk has answered.
    """
    draft = "%s.%d" % (path, pid)
    try:
        # Not through a link that somebody has put there.
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with open(fd, "w") as file:
            file.write("%d\n" % pid)
        if is_outdated():
            os.unlink(draft)
        else:
            os.replace(draft, path)
    except OSError:
        _forget(draft)
        raise


def remove(path: str, pid: int) -> None:
    """Remove it, if it is still about that pid. OSError."""
    try:
        # Whatever has taken its place: a read does not wait for it.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            content = file.read(32)
    except FileNotFoundError:
        return
    if content.strip() == b"%d" % pid:
        os.unlink(path)


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
