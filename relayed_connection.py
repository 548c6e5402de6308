"""A connection as its two sockets see it: what they ask of it, and what they tell it."""

from typing import Any

from poller import Poller
from splicing import Pipes


class RelayedConnection:
    """What the two sockets need of their connection; `Connection` (connections.py) is one."""

    __slots__ = ("client", "dying", "reset_pending", "upstream")

    #: The two sockets, each a `RelaySocket`.
    client: Any
    upstream: Any
    #: The socket of one side died: the other gets a reset, after the bytes that are left.
    reset_pending: bool
    #: A side whose socket died while nothing was read from it; what is left of it comes first.
    dying: Any

    @property
    def poller(self) -> Poller:
        raise NotImplementedError

    @property
    def pipes(self) -> Pipes:
        raise NotImplementedError

    @property
    def unused(self) -> bool:
        """Not a byte was read from either side: another instance would do as well."""
        return not (self.client.bytes_read or self.upstream.bytes_read or self.client.eof)

    def on_first_read(self, sock: Any) -> None:
        raise NotImplementedError

    def suspect(self) -> None:
        raise NotImplementedError

    def reset(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def fail(self) -> None:
        raise NotImplementedError
