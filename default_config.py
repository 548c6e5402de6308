"""The CONFIG that is meant where a command names none: the one that lies in the current folder."""

import os
from typing import List

from errors import UsageError, listed

#: What is looked for. `pup.json` and `pup.jsonc` are Pup's own.
NAMES = ("pupgevent.toml", "pup.json", "pup.jsonc", "conf/app.toml")


def find() -> str:
    """Its path, as one would type it; raises UsageError where there is none, or more than one."""
    found = present()
    if not found:
        raise UsageError("CONFIG is missing, and this folder has no %s" % listed(NAMES, "or"))
    if len(found) > 1:
        raise UsageError("CONFIG is missing, and this folder has %s: which one is meant?" % (
            listed(found, "and")))
    return found[0]


def present() -> "List[str]":
    """Those that are there. A link that leads nowhere counts: what it led to may still run."""
    return [name for name in NAMES if os.path.lexists(name) and not os.path.isdir(name)]
