"""What an operator should know of certificates and keys that can be used: above all when they end.

All but the rights of key files follows from the configuration: no file is read for it.
"""

import math
import os
import stat
import time
from typing import Iterator, List, Optional, Sequence, Tuple

from errors import KeyPath, counted, format_path
from model import Configuration, Tls

#: A certificate that ends within so many days is warned of. Who renews by itself does it earlier:
#: certbot 30 days before.
EXPIRES_SOON_DAYS = 21

_DAY = 24 * 3600


def days_left(not_after: float, now: float) -> int:
    """Whole days until then; below 0 once it is over."""
    return math.floor((not_after - now) / _DAY)


def expires_soon(not_after: float, now: float) -> bool:
    """Or has expired."""
    return days_left(not_after, now) < EXPIRES_SOON_DAYS


def expiry_text(not_after: float, now: float) -> str:
    """"expires in 12 days, on 2026-12-12", the date as the clocks of this machine have it."""
    date = time.strftime("%Y-%m-%d", time.localtime(not_after))
    days = days_left(not_after, now)
    if days < 0:
        return "has expired on %s" % date
    return "expires in %s, on %s" % (counted(days, "day") if days else "less than a day", date)


#: Names that are told.
_MOST_NAMES = 3


def whose(names: Sequence[str]) -> str:
    """Whom a certificate is for; the last of many are counted."""
    if len(names) > _MOST_NAMES:
        return "%s and %d more" % (
            ", ".join(names[: _MOST_NAMES - 1]), len(names) - _MOST_NAMES + 1)
    return ", ".join(names) or "nobody"


def tls_warnings(configuration: Configuration, now: float) -> List[str]:
    """A line for each thing, with its key. Looks at key files: for a thread."""
    return ["%s: %s" % (format_path(where), text)
            for where, text in warnings_of(configuration, now)]


def warnings_of(configuration: Configuration, now: float) -> Iterator[Tuple[KeyPath, str]]:
    """The same, as the key and the text. Looks at key files."""
    for index, process in enumerate(configuration.processes):
        cluster = process.cluster
        if cluster is None or cluster.tls is None:
            continue
        where: KeyPath = ("processes", index, "cluster", "tls")
        if cluster.common_port is None:
            yield where, "there is no commonPort, at which TLS would end"
        for key, place, text in _warnings(cluster.tls, now):
            # Whether the file has one path or an array of one is not known here.
            yield where + ((key, place) if len(cluster.tls.pairs) > 1 else (key,)), text


def _warnings(tls: Tls, now: float) -> Iterator[Tuple[str, int, str]]:
    for place, pair in enumerate(tls.pairs):
        if expires_soon(pair.not_after, now):
            yield "cert", place, "%s: %s" % (expiry_text(pair.not_after, now), pair.cert)
        if not pair.names:
            yield "cert", place, "it is for no name and no address: %s" % pair.cert
        mode = _too_open(pair.key)
        if mode is not None:
            reason = "others than its owner can read it (its mode is %03o, and 600 is enough): %s"
            yield "key", place, reason % (mode, pair.key)


def _too_open(path: str) -> Optional[int]:
    """The mode of a private key that others than its owner can get at; the folders above count."""
    path = os.path.realpath(path)
    try:
        found = os.stat(path)
        # A group that root gives a key of its own to is there for that, as Debian's ssl-cert.
        allowed = 0o740 if found.st_uid == 0 else 0o700
        mode = stat.S_IMODE(found.st_mode)
        if not mode & ~allowed & 0o777:
            return None
        while path != "/":
            path = os.path.dirname(path)
            if not os.stat(path).st_mode & (stat.S_IXGRP | stat.S_IXOTH):
                return None
        return mode
    except OSError:
        return None
