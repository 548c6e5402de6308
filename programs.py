"""The program of a command: where a child finds it, and what is wrong with it. Looks at files.

Names and paths are bytes, as the kernel has them.
"""

import os
import re
from typing import Optional, Tuple, Union

from shellexec import BUILTINS, RESERVED

#: As much of a first line as the kernel looks at (BINPRM_BUF_SIZE of Linux 5.1 and newer).
_HEAD = 256

#: The first word of a line for the shell, where that is a word and nothing else.
_FIRST_WORD = re.compile(r"\s*(?:exec\s+)?([\w./+@%:,-]+)(?=[\s|&;<>]|\Z)")

#: Builtins of other shells than the usual /bin/sh (dash, or bash): a program there, if anything.
_ELSEWHERE = frozenset("compopt namespace newgrp print whence".split())

#: What a shell does itself.
_OWN_WORDS = (BUILTINS | RESERVED) - _ELSEWHERE


def first_word(cmd: Union[str, Tuple[str, ...]]) -> Optional[str]:
    """The program of a command; None where only the shell can tell which that is."""
    if not isinstance(cmd, str):
        return cmd[0]
    found = _FIRST_WORD.match(cmd)
    if found is None or found.group(1) in _OWN_WORDS or found.group(1).isdigit():
        return None
    return found.group(1)


def trouble(name: bytes, path: bytes, folder: bytes) -> Optional[str]:
    """Why a child in `folder` with that PATH cannot run a program: the end of a sentence that
    begins with its name. None where nothing is wrong that can be seen."""
    file = find(name, path, folder)
    if b"/" not in name:
        return "is not on the PATH" if file is None else flaw(file, path)
    file = os.path.join(folder, name)
    if not os.path.exists(file):
        return "is not there"
    if os.path.isdir(file):
        return "is a folder"
    return flaw(file, path) if os.access(file, os.X_OK) else "is not executable"


def find(name: bytes, path: bytes, folder: bytes) -> Optional[bytes]:
    """The file that is run, as execvp(3) looks for it; None where there is none."""
    places = [b""] if b"/" in name else path.split(b":")
    for place in places:
        file = os.path.join(folder, place, name)
        if os.path.isfile(file) and os.access(file, os.X_OK):
            return file
    return None


def flaw(file: bytes, path: bytes = b"") -> Optional[str]:
    """What is wrong with the #! line of a file; the kernel says only that something is missing.

    With a `path`, also whether what `env` is to find is on it.
    """
    line = _first_line(file)
    if not line.startswith(b"#!"):
        return None
    if line.endswith(b"\r"):
        return "has a #! line that ends in CRLF: save it with the line ends of Unix"
    words = line[2:].split()
    if not words:
        return "has a #! line without an interpreter"
    if not os.path.exists(words[0]):
        return "names an interpreter that is not there: %s" % _text(words[0])
    by_env = len(words) == 2 and os.path.basename(words[0]) == b"env"
    if by_env and path and find(words[1], path, b"/") is None:
        return "names an interpreter that is not on the PATH: %s" % _text(words[1])
    return None


def _first_line(file: bytes) -> bytes:
    try:
        if not os.path.isfile(file):
            return b""
        with open(file, "rb") as opened:
            return opened.read(_HEAD).partition(b"\n")[0]
    except OSError:
        return b""


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
