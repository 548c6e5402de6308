"""Heads that need no second look, and what goes on of them: the fast path of the http mode. Pure.

A message is plain if a pattern of http_heads.py takes its head. Heads are alike, more often than
not: of a client that polls, of the answers within one second. So what was found in the last of them
is remembered, as long as they are short.
"""

from functools import lru_cache
from typing import Any, NamedTuple, Optional, Tuple

from http_forwarding import CLOSE
from http_heads import CONNECTION, FAST_ANSWER, FAST_REQUEST, MOST_FIELDS, SURELY_FEW_FIELDS

#: How many heads of either kind are remembered, and how long they are at most: 1 MB of each kind.
_REMEMBERED, SHORT = 512, 2048

#: Methods of requests that may be made twice (RFC 9110, 9.2.2).
IDEMPOTENT = frozenset((
    b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE", b"PROPFIND", b"REPORT", b"SEARCH",
))  # fmt: skip


#: Methods of requests that have no body as a rule (RFC 9110, 9.3).
BODILESS = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"DELETE"))


class PlainRequest(NamedTuple):
    method: bytes
    host: bytes
    #: As it goes on, without the empty line: fields may be added.
    head: bytes
    keep_alive: bool
    #: It may be made twice.
    repeatable: bool


class PlainAnswer(NamedTuple):
    status: int
    #: Bytes of the body.
    length: int
    #: The head as it goes on to a client that stays, and to one that does not.
    staying: bytes
    leaving: bytes


def plain_request(data: bytes) -> Optional[PlainRequest]:
    """Of a whole request; None where it is not plain, or not whole, or has a body."""
    found, head = _matched(FAST_REQUEST, data)
    if not head:
        return None
    says = (found.group(2) or b"") + (found.group(4) or b"")
    method = found.group(1)
    return PlainRequest(
        method, found.group(3), head[:-2], b"lose" not in says, method in IDEMPOTENT)


def plain_answer(data: bytes) -> Optional[PlainAnswer]:
    """Of the head of an answer, with its empty line; None where it is not plain."""
    found, head = _matched(FAST_ANSWER, data)
    if not head:
        return None
    return PlainAnswer(
        int(found.group(1)), int(found.group(3)), head, head[:-2] + CLOSE + b"\r\n")


#: The same for heads of up to SHORT bytes.
remembered_request = lru_cache(maxsize=_REMEMBERED)(plain_request)
remembered_answer = lru_cache(maxsize=_REMEMBERED)(plain_answer)


def _matched(pattern: Any, data: bytes) -> Tuple[Any, bytes]:
    """What one of the two patterns has found, and the head without the `Connection` field that is
    in it; that is empty where the head is not plain, or has another one."""
    found = pattern.fullmatch(data)
    if found is None or (
            len(data) > SURELY_FEW_FIELDS and data.count(b"\n") > MOST_FIELDS + 2):
        return found, b""
    for group in (4, 2):
        start, end = found.span(group)
        if start >= 0:
            data = data[:start] + data[end:]
    return found, b"" if CONNECTION in data else data
