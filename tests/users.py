"""Other users, for tests that root runs: who runs a pupgevent, and who only makes trouble.

They are real ones, made for each test: root becomes them, by their number.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, List, Sequence

import folders
from conftest import eventually
from running import ROOT, Running

AS_USER = [sys.executable, str(ROOT / "tests" / "children" / "as_user.py")]


class User:
    """One who has no home, no session and no name."""

    def __init__(self, uid: int, place: Path) -> None:
        self.uid = uid
        self.place = place

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [*AS_USER, str(self.uid), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL, universal_newlines=True, timeout=60, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """What is done with files and sockets meanwhile is done by this user."""
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(0)

    def folders(self) -> List[Path]:
        """All that has, or pretends to have, a lock of this user in it."""
        return [Path(base, name) for base in folders._BASES for name in os.listdir(base)
                if name.startswith("pupgevent-%d" % self.uid)]

    def own(self) -> List[Path]:
        return [each for each in self.folders() if os.lstat(str(each)).st_uid == self.uid
                and each.is_dir() and not each.is_symlink()]

    def sweep(self) -> None:
        for each in self.folders():
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(str(each))
            else:
                each.unlink()


class AsUser(Running):
    """Run by a user; the `status` of `Running` asks as root."""

    user: User

    def start(self) -> "AsUser":
        super().start()
        return self

    def begin(self, *options: str) -> "AsUser":
        with open(str(self.output), "ab") as output:
            self.child = subprocess.Popen(
                [*AS_USER, str(self.user.uid), *options, str(self.config)], stdout=output,
                stderr=output, stdin=subprocess.DEVNULL)
        return self

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return self.user.run(words[0], str(self.config), *words[1:])


#: What somebody answers who wants a command to believe that all is well, or its terminal to obey.
FORGED = [
    {"progress": "\x1b[2J"},
    {"ok": True, "text": "stopped \x1b]0;owned\x07", "pid": 1, "status": {"healthy": True}},
]


@contextlib.contextmanager
def forger(path: Path, mallory: User, lines: Sequence[Any] = FORGED) -> Iterator[int]:
    """Answers everything at a socket of its own there."""
    child = os.fork()
    if not child:
        try:
            os.setuid(mallory.uid)
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path) + ".new")
                os.chmod(str(path) + ".new", 0o777)
                listener.listen(5)
                os.rename(str(path) + ".new", str(path))
                while True:
                    client, _ = listener.accept()
                    with client, contextlib.suppress(OSError):
                        for line in lines:
                            client.sendall(json.dumps(line).encode() + b"\n")
        finally:
            os._exit(0)
    try:
        eventually(path.exists)
        yield child
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
