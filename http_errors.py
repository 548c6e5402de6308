"""Answers of pupgevent itself, where there is none of an instance. Pure."""

from email.utils import formatdate
from typing import Dict

from http_forwarding import CLOSE, KEEP_ALIVE

#: Of RFC 9110; a text for whoever sees it in a browser.
_REASONS: Dict[int, str] = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}

_TEXTS: Dict[int, str] = {
    502: "The application ended before it had answered, or its answer broke the rules of HTTP.",
    503: "No instance of the application could take the request in time. Please try again.",
    504: "The application did not answer in time.",
}

#: Seconds after which a client of a busy application may come again.
RETRY_AFTER = 5


def error_answer(
    status: int, reason: str, with_body: bool, close: bool, minor: int = 1
) -> bytes:
    """A whole answer. `reason` says more than the status, of a request that is refused; `minor` is
    of the client's version."""
    title = "%d %s" % (status, _REASONS[status])
    body = "%s\n%s\n" % (title, reason or _TEXTS.get(status, ""))
    lines = [
        "HTTP/1.1 " + title, "Date: " + formatdate(usegmt=True),
        "Content-Type: text/plain; charset=utf-8", "Content-Length: %d" % len(body.encode()),
        "Cache-Control: no-store",
    ]  # fmt: skip
    if status == 503:
        lines.append("Retry-After: %d" % RETRY_AFTER)
    head = "\r\n".join([*lines, ""]).encode()
    if close:
        head += CLOSE
    elif not minor:
        head += KEEP_ALIVE
    return head + b"\r\n" + (body.encode() if with_body else b"")
