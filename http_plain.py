"""Heads that need no second look, and what goes on of them: the fast path of the http mode. Pure.

A message is plain if a pattern of http_heads.py takes its head. Heads are alike, more often than
not: of a client that polls, of the answers within one second. So what was found in the last of them
is remembered, as long as they are short.
"""

from functools import lru_cache
from typing import Any, Optional, Tuple

from http_forwarding import CLOSE
from http_heads import (
    CONNECTION,
    FAST_ANSWER,
    FAST_REQUEST,
    MOST_FIELDS,
    SURELY_FEW_FIELDS,
    RequestHead,
)

#: How many heads of either kind are remembered, and how long they are at most: 1 MB of each kind.
_REMEMBERED, SHORT = 512, 2048

#: Methods of requests that may be made twice (RFC 9110, 9.2.2).
IDEMPOTENT = frozenset((
    b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE", b"PROPFIND", b"REPORT", b"SEARCH",
))  # fmt: skip

#: Methods of requests that have no body as a rule (RFC 9110, 9.3).
_BODILESS = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"DELETE"))


class Request:
    """What has to be known of a request until it is answered. Those that are alike share one, so it
    never changes."""

    __slots__ = ("head", "host", "is_odd", "is_plain", "keep_alive", "method", "minor",
                 "repeatable", "upgrade")

    def __init__(
        self, method: bytes, host: bytes = b"", head: bytes = b"", minor: int = 1,
        keep_alive: bool = True, repeatable: bool = False, upgrade: bytes = b"",
        is_odd: bool = False,
    ) -> None:  # fmt: skip
        self.method = method
        self.host = host
        #: As it goes on, without the empty line: fields may be added. Of a plain one only.
        self.head = head
        self.minor = minor
        #: The client goes on with this connection after the answer.
        self.keep_alive = keep_alive
        #: It may be made twice.
        self.repeatable = repeatable
        #: The protocol to go on with, or the method of one that asks for a tunnel.
        self.upgrade = upgrade
        #: It has a body where few expect one: an instance may take that for the next request.
        self.is_odd = is_odd
        #: An answer that is plain goes on as it is.
        self.is_plain = bool(head) and method != b"HEAD"


class PlainAnswer:
    """The head of an answer; shared as well."""

    __slots__ = ("leaving", "length", "status", "staying")

    def __init__(self, status: int, length: int, head: bytes) -> None:
        self.status = status
        #: Bytes of the body.
        self.length = length
        #: The head as it goes on to a client that stays, and to one that does not.
        self.staying = head
        self.leaving = head[:-2] + CLOSE + b"\r\n"


def plain_request(data: bytes) -> Optional[Request]:
    """Of a whole request; None where it is not plain, or not whole, or has a body."""
    if data[-4:] != b"\r\n\r\n":
        return None  # which the pattern finds out, too, and takes longer
    found, head = _matched(FAST_REQUEST, data)
    if not head:
        return None
    says = (found.group(2) or b"") + (found.group(4) or b"")
    method = found.group(1)
    return Request(method, found.group(3), head[:-2], keep_alive=b"lose" not in says,
                   repeatable=method in IDEMPOTENT)


def parsed_request(head: RequestHead) -> Request:
    """Of any other."""
    upgrade = head.method if head.is_tunnel else head.upgrade
    return Request(
        head.method, head.host, minor=head.minor, keep_alive=head.keep_alive,
        repeatable=not head.framing and head.method in IDEMPOTENT and not upgrade,
        upgrade=upgrade, is_odd=bool(head.framing) and head.method in _BODILESS)


def plain_answer(data: bytes) -> Optional[PlainAnswer]:
    """Of the head of an answer, with its empty line; None where it is not plain."""
    found, head = _matched(FAST_ANSWER, data)
    if not head:
        return None
    return PlainAnswer(int(found.group(1)), int(found.group(3)), head)


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
