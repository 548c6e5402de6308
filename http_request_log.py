"""What the access log gets to know of each request."""

from typing import Any, Callable, Optional

from access_log import AccessLog, basic_user
from http_forwarding import about_client, first_line, value_in


class RequestLog:
    """Tells `log` of requests that are over. `clock` is monotonic seconds."""

    def __init__(self, log: AccessLog, clock: "Callable[[], float]") -> None:
        self._log = log
        self._clock = clock

    def answered(self, client: Any, upstream: Any, now: float) -> None:
        """By an instance; the bytes are those of the body."""
        sent = client.sent + upstream.passed - upstream.head_size
        self._add(client, upstream.status, sent, upstream.backend.name, now,
                  (client.first_byte_at or now) - client.began)

    def own(self, client: Any, status: int, size: int, instance: str) -> None:
        """By us, with so many bytes of body; an instance may have had the request, and lost it."""
        self._add(client, status, size, instance, self._clock(), None)

    def _add(
        self, client: Any, status: int, size: int, instance: str, now: float,
        first_byte: "Optional[float]",
    ) -> None:
        head = client.head
        self._log.add(
            about_client(client.origin), first_line(head), status, max(0, size),
            value_in(head, b"referer"), value_in(head, b"user-agent"),
            basic_user(value_in(head, b"authorization")), instance, now - client.began, first_byte)
