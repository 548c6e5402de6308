"""From an exchange of HTTP to a connection whose bytes are relayed: WebSockets, CONNECT."""

from typing import Optional

from connections import Connections
from http_client import HttpClient
from http_request_log import RequestLog
from http_upstream import HttpUpstream


def count_tunnel(
    client: HttpClient, upstream: HttpUpstream, status: int, log: "Optional[RequestLog]", now: float
) -> None:
    """The answer that begins it is one like others, and has no body."""
    backend = upstream.backend
    first_byte = client.first_byte_at - client.began
    backend.answers[status // 100 - 1] += 1
    backend.add_times(first_byte, first_byte)
    if log is not None:
        upstream.status = status
        log.answered(client, upstream, now)
    backend.bytes_in += client.passed


def begin_tunnel(
    client: HttpClient, upstream: HttpUpstream, connections: Connections, answer: bytes,
    rest: bytes,
) -> None:  # fmt: skip
    """Hand both sockets over: they are other objects from now on. `answer` is the head that the
    client has still to get, and `rest` what the instance has said behind it."""
    said = bytes(upstream.unsent or b"") + client.reader.rest()
    answer = bytes(client.unsent or b"") + answer
    poller, backend = client.poller, upstream.backend
    ends = [each.relay_socket() for each in (client, upstream)]
    client.peer = upstream.peer = None
    connection = connections.start(ends[0], ends[1], backend, upstream.wants_writable)
    ends[0].wants_writable = client.wants_writable
    for each in ends:
        poller.replace_handler(each.fileno(), each)
    connection.begin_with(said, answer + rest)
