"""Which command lines of a shell are one simple command, whose place the shell need not keep.

A shell that only waits for one program has a pid that is not the program's: that is what would
be shown, written to a pid file and signalled. So it is asked to `exec` the program (sh(1)), where
that changes nothing else. Whatever is not surely one simple command is left to the shell as it is:
lists, pipes, compound commands, substitutions, assignments in front, builtins.
"""

import re
from typing import Mapping

#: Of dash, bash, ksh and busybox: the shell's own version is what runs without `exec`.
BUILTINS = frozenset("""
    . : [ alias bg bind break builtin caller cd chdir command compgen complete compopt continue
    declare dirs disown echo enable eval exec exit export false fc fg getopts hash help history
    jobs kill let local logout mapfile newgrp popd print printf pushd pwd read readarray readonly
    return set shift shopt source suspend test times trap true type typeset ulimit umask unalias
    unset wait whence
""".split())

#: Of the same shells.
RESERVED = frozenset("""
    ! [[ ]] { } case coproc do done elif else esac fi for function if in namespace select then time
    until while
""".split())

#: Expansions that run nothing: $NAME, ${NAME}, ${NAME:-plain}.
_VARIABLE = r"\$(?:[A-Za-z_]\w*|\{[A-Za-z_]\w*(?::?[-+][\w./:@%,-]*)?\})"
_SINGLE = r"'[^']*'"
_DOUBLE = r'"(?:[^"\\`$]|\\.|%s)*"' % _VARIABLE

#: The first word without any expansion, since what comes out of one may be a builtin.
_FIRST = r"""(?:[\w./@%+,:~-]|'[^']*'|"[^"\\`$]*")+"""

#: Plain characters; white space, but no comment behind it; quotes, variables; redirections, but no
#: here-document, and none to a number that belongs to the next redirection. No two of these begin
#: alike: it takes linear time.
_REST = r"""(?:[^\s\\'"`$;&|(){}<>\x00-\x1f\x7f]|[ \t](?!\#)|%s|%s|%s|\\[^\n\r]|%s)*""" % (
    _SINGLE, _DOUBLE, _VARIABLE, r"(?:>>?&?|<[&>]?)[ \t]*(?=[\w'\"$./~-])(?!\d+[<>])")

_SIMPLE = re.compile(r"(%s)(?=[ \t<>]|\Z)%s\Z" % (_FIRST, _REST), re.ASCII | re.DOTALL)


def with_exec(line: str, env: Mapping[bytes, bytes]) -> str:
    """The line for `/bin/sh -c`, which runs the same; by `exec` if it is one simple command.

    `env` is that of the shell: an exported function of bash goes before a program of its name.
    """
    stripped = line.strip(" \t\n")
    found = _SIMPLE.match(stripped)
    if found is None:
        return line
    first = found.group(1)
    name = first.replace("'", "").replace('"', "")
    if not _is_program(name) or b"BASH_FUNC_%s%%%%" % name.encode() in env:
        return line
    if first.isdigit() and stripped[len(first):len(first) + 1] in ("<", ">"):
        return line
    # What is not there is told by the shell as ever, not as a failure of an exec nobody wrote.
    is_there = "[ -f {0} ] && [ -x {0} ]" if "/" in name else "command -v {0} >/dev/null 2>&1"
    return "if %s; then exec %s; else %s; fi" % (is_there.format(first), stripped, stripped)


def _is_program(name: str) -> bool:
    if not name or name[0] in "-+%" or ("~" in name and "/" not in name):
        return False
    return name not in BUILTINS and name not in RESERVED
