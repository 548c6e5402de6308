"""How words are written in a unit of systemd: its name, quotes (systemd.syntax(7))."""

import os
import re

#: Where systemd finds programs for a service that sets no PATH.
SERVICE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"


def unit_name(name: str) -> str:
    """The name with only the characters that the name of a unit may have."""
    return re.sub("[^A-Za-z0-9_.@]+", "-", name).strip("-") or "pupgevent"


def quoted(word: str, variables: bool = True) -> str:
    """A word of a command line as systemd reads it (systemd.service(5), "Command lines").

    `variables`: systemd replaces variables in it, so a dollar is doubled.
    """
    word = word.replace("%", "%%")
    if variables:
        word = word.replace("$", "$$")
    text = "".join(_escaped(c) for c in word)
    return text if text == word and not set(word) & set(" ;'") and word else '"%s"' % text


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    # Python has a byte that is not UTF-8 as a lone surrogate (PEP 383).
    if ord(character) < 32 or 0xDC80 <= ord(character) <= 0xDCFF or character == "\x7f":
        return "".join("\\x%02x" % byte for byte in os.fsencode(character))
    return character
