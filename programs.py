"""The command of a process: how a shell runs it, which program it is, and why that cannot be run.

`with_exec`: a shell that only waits for one program has a pid that is not the program's, and that
pid would be shown, written to a pid file and signalled. So the shell is asked to `exec` the program
(sh(1)), where that changes nothing else. Whatever is not surely one simple command is left to the
shell as it is: lists, pipes, compound commands, substitutions, assignments in front, builtins.

The other functions look at files: which program a child would find, and what is wrong with it.
"""

import os
import re
from typing import Mapping, Optional, Tuple, Union

from errors import decoded

#: Builtins of dash, bash, ksh and busybox: without `exec` the shell's own version runs.
BUILTINS = frozenset("""
    . : [ alias bg bind break builtin caller cd chdir command compgen complete compopt continue
    declare dirs disown echo enable eval exec exit export false fc fg getopts hash help history
    jobs kill let local logout mapfile newgrp popd print printf pushd pwd read readarray readonly
    return set shift shopt source suspend test times trap true type typeset ulimit umask unalias
    unset wait whence
""".split())

#: Reserved words of the same shells.
RESERVED = frozenset("""
    ! [[ ]] { } case coproc do done elif else esac fi for function if in namespace select then time
    until while
""".split())

#: Expansions that run nothing: $NAME, ${NAME}, ${NAME:-plain}.
_VARIABLE = r"\$(?:[A-Za-z_]\w*|\{[A-Za-z_]\w*(?::?[-+][\w./:@%,-]*)?\})"
_SINGLE = r"'[^']*'"
_DOUBLE = r'"(?:[^"\\`$]|\\.|%s)*"' % _VARIABLE

#: The first word, without any expansion, since the result of one may be a builtin.
_FIRST = r"""(?:[\w./@%+,:~-]|'[^']*'|"[^"\\`$]*")+"""

#: The other words: plain characters; white space, but no comment behind it; quotes, variables;
#: redirections, but no here-document, and none to a number that belongs to the next redirection. No
#: two of these begin alike, so matching takes linear time.
_REST = r"""(?:[^\s\\'"`$;&|(){}<>\x00-\x1f\x7f]|[ \t](?!\#)|%s|%s|%s|\\[^\n\r]|%s)*""" % (
    _SINGLE, _DOUBLE, _VARIABLE, r"(?:>>?&?|<[&>]?)[ \t]*(?=[\w'\"$./~-])(?!\d+[<>])")

_SIMPLE_COMMAND = re.compile(r"(%s)(?=[ \t<>]|\Z)%s\Z" % (_FIRST, _REST), re.ASCII | re.DOTALL)

#: The first word of a line for the shell, if it is a plain word.
_PLAIN_FIRST_WORD = re.compile(r"\s*(?:exec\s+)?([\w./+@%:,-]+)(?=[\s|&;<>]|\Z)")

#: Builtins of some shells that the usual /bin/sh (dash or bash) has not: there they are programs.
_PROGRAMS_IN_SH = frozenset("compopt namespace newgrp print whence".split())

#: Words that /bin/sh runs itself.
_RUN_BY_SH = (BUILTINS | RESERVED) - _PROGRAMS_IN_SH

#: How much of a first line the kernel reads, in bytes (BINPRM_BUF_SIZE of Linux 5.1 and newer).
_SHEBANG_BYTES = 256


def with_exec(line: str, env: Mapping[bytes, bytes]) -> str:
    """The line for `/bin/sh -c` that runs the same; by `exec` if it is one simple command.

    `env` is that of the shell: an exported function of bash goes before a program of its name.
    """
    stripped = line.strip(" \t\n")
    found = _SIMPLE_COMMAND.match(stripped)
    if found is None:
        return line
    first = found.group(1)
    name = first.replace("'", "").replace('"', "")
    if not _is_program(name) or b"BASH_FUNC_%s%%%%" % name.encode() in env:
        return line
    if first.isdigit() and stripped[len(first):len(first) + 1] in ("<", ">"):
        return line
    # A missing program is reported by the shell as usual, not as the failure of an `exec` that
    # nobody wrote.
    is_there = "[ -f {0} ] && [ -x {0} ]" if "/" in name else "command -v {0} >/dev/null 2>&1"
    return "if %s; then exec %s; else %s; fi" % (is_there.format(first), stripped, stripped)


def _is_program(name: str) -> bool:
    if not name or name[0] in "-+%" or ("~" in name and "/" not in name):
        return False
    return name not in BUILTINS and name not in RESERVED


def program_of(cmd: Union[str, Tuple[str, ...]]) -> Optional[str]:
    """The program of a command; None where only the shell can tell."""
    if not isinstance(cmd, str):
        return cmd[0]
    found = _PLAIN_FIRST_WORD.match(cmd)
    if found is None or found.group(1) in _RUN_BY_SH or found.group(1).isdigit():
        return None
    return found.group(1)


def program_problem(name: bytes, path: bytes, folder: bytes) -> Optional[str]:
    """Why a child in `folder` with that PATH cannot run a program, as the end of a sentence that
    begins with its name; None where no reason can be seen."""
    file = find_program(name, path, folder)
    if b"/" not in name:
        return "is not on the PATH" if file is None else shebang_problem(file, path)
    file = os.path.join(folder, name)
    if not os.path.exists(file):
        return "is not there"
    if os.path.isdir(file):
        return "is a folder"
    return shebang_problem(file, path) if os.access(file, os.X_OK) else "is not executable"


def find_program(name: bytes, path: bytes, folder: bytes) -> Optional[bytes]:
    """The file that execvp(3) would run; None where there is none."""
    places = [b""] if b"/" in name else path.split(b":")
    for place in places:
        file = os.path.join(folder, place, name)
        if os.path.isfile(file) and os.access(file, os.X_OK):
            return file
    return None


def shebang_problem(file: bytes, path: bytes = b"") -> Optional[str]:
    """What is wrong with the #! line of a file; the kernel only says ENOENT for it.

    With a `path`, also whether the program that `env` looks for is on it.
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
        return "names an interpreter that is not there: %s" % decoded(words[0])
    by_env = len(words) == 2 and os.path.basename(words[0]) == b"env"
    if by_env and path and find_program(words[1], path, b"/") is None:
        return "names an interpreter that is not on the PATH: %s" % decoded(words[1])
    return None


def interpreter_of(file: bytes) -> Optional[bytes]:
    """The program that the #! line of a file names; None where there is no such line."""
    words = _first_line(file)[2:].split() if _first_line(file).startswith(b"#!") else []
    return words[0] if words else None


def _first_line(file: bytes) -> bytes:
    try:
        if not os.path.isfile(file):
            return b""
        with open(file, "rb") as opened:
            return opened.read(_SHEBANG_BYTES).partition(b"\n")[0]
    except OSError:
        return b""
