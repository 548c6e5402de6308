"""Which commands are web servers: programs that are known to speak HTTP.

What is not known here may speak it as well: node, java, an application's own binary. So this is
good for a hint, and for a first configuration, and for nothing that has to be right.
"""

import os
import re
import shlex
from typing import Dict, FrozenSet, Iterator, List, Optional, Sequence, Tuple, Union


def _words(text: str) -> "FrozenSet[str]":
    return frozenset(text.split())


#: Programs, and Python's modules by the same names, that are nothing else.
_ALWAYS = _words("""
    apache2 caddy daphne granian gunicorn http-server http.server httpd hypercorn json-server
    lighttpd nginx puma rackup remix-serve thin unicorn uvicorn waitress waitress-serve
""")

#: Programs that are one with any of these words behind them.
_WITH: "Dict[str, FrozenSet[str]]" = {
    "artisan": _words("serve"), "astro": _words("dev preview"), "deno": _words("serve"),
    "django": _words("runserver"), "django-admin": _words("runserver"),
    "fastapi": _words("dev run"), "flask": _words("run"), "hugo": _words("server serve"),
    "manage.py": _words("runserver"), "mix": _words("phx.server"), "next": _words("dev start"),
    "ng": _words("serve"), "nuxt": _words("dev preview start"), "php": _words("-S"),
    "rails": _words("server s"), "streamlit": _words("run"),
    "symfony": _words("serve server:start"),
    "uwsgi": _words("--http --http-socket --http11-socket"), "vite": _words("dev preview"),
}  # fmt: skip

#: What runs the program that is named behind it: one word, or two.
_RUNNERS = _words("bunx env exec ionice nice nohup npx setsid stdbuf time")
_RUNNERS_OF_TWO = {
    "bun": _words("x run"), "bundle": _words("exec"), "npm": _words("exec x"),
    "pdm": _words("run"), "pipenv": _words("run"), "pnpm": _words("exec dlx"),
    "poetry": _words("run"), "uv": _words("run"), "yarn": _words("exec run"),
}  # fmt: skip

_INTERPRETER = re.compile(r"(?:python|pypy|ruby|php|perl|node)[0-9.]*\Z")
_SHELL = re.compile(r"(?:\S*/)?(?:ba|da|z)?sh\0-c\Z")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
#: A server that ends TLS itself has to get the bytes as they are.
_TLS = re.compile(r"\b(?:ssl|tls|cert|https)", re.IGNORECASE)
_BETWEEN = re.compile(r"[;&|()]+\Z")


def web_server(cmd: "Union[str, Sequence[str]]") -> Optional[str]:
    """The web server that a command runs, in words: "gunicorn", "php -S"; None: it may be anything.

    Of several commands it is the last: those before it (`cd srv && gunicorn app`) prepare it. One
    that ends TLS is none, since it speaks no HTTP to whoever looks at its bytes.
    """
    if not isinstance(cmd, str) and len(cmd) == 3 and _SHELL.match("\0".join(cmd[:2])):
        cmd = cmd[2]
    words = _last_command(cmd) if isinstance(cmd, str) else list(cmd)
    if _TLS.search(" ".join(words)):
        return None
    return next(filter(None, (_server(*each) for each in _programs(words))), None)


def _server(program: str, arguments: "List[str]") -> Optional[str]:
    if program in _ALWAYS:
        return program
    word = next(filter(_WITH.get(program, frozenset()).__contains__, arguments), None)
    return word and "%s %s" % (program, word)


def _last_command(line: str) -> "List[str]":
    """Its words; of a pipeline those of the first command, since the others get what it prints."""
    scanner = shlex.shlex(
        line.replace("\\\n", " ").replace("\n", ";"), posix=True, punctuation_chars=True)
    scanner.commenters = ""
    scanner.wordchars += ":$@%+,!^#[]{}"
    commands: List[List[str]] = [[]]
    is_reader = False
    try:
        for word in scanner:
            if _BETWEEN.match(word):
                is_reader = word in ("|", "|&")
                commands.append([])
            elif not is_reader:
                commands[-1].append(word)
    except ValueError:
        return []  # the shell will say what is wrong with it
    return next(filter(None, reversed(commands)), [])


def _programs(words: "List[str]") -> "Iterator[Tuple[str, List[str]]]":
    """What may be the program, and what is behind it: after each word that only runs another."""
    place = 0
    while place < len(words):
        word, rest = words[place], words[place + 1:]
        name = os.path.basename(word)
        place += 1
        if name in _RUNNERS or word[:1] == "-" or word.isdigit() or _ASSIGNMENT.match(word):
            continue
        if rest and rest[0] in _RUNNERS_OF_TWO.get(name, ()):
            place += 1
            continue
        yield name, rest
        if not _INTERPRETER.match(name):
            return
