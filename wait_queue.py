"""Clients that are not relayed yet: they wait for a connect to end, or for an instance.

Most clients never come here: on a local network the connect has succeeded before its call is
through (see admission.py). These are the others. Both time-outs are the same for all who wait,
so those who came first expire first, and one look at the heads of two queues is all the timing
there is. Each knows since when it waits and not until when: other time-outs (a reload brings them)
hold for those who wait already.
"""

import _socket
import itertools
from collections import OrderedDict
from typing import Any, Generic, Iterator, Optional, TypeVar

from backends import Backend
from poller import Handler


class PendingOwner:
    """What pending clients and connect attempts tell whoever keeps them."""

    def drop(self, pending: "PendingClient") -> None:
        """It has left, or has to go: leave nothing of it."""
        raise NotImplementedError

    def on_progress(self, attempt: "ConnectAttempt") -> None:
        """Something has happened to the socket of that attempt."""
        raise NotImplementedError


class PendingClient(Handler):
    """A client that is not relayed yet. As the handler of its socket it notices when it leaves."""

    __slots__ = ("attempt", "client", "key", "owner", "since")

    wants_writable = False

    def __init__(self, client: Any, key: str, owner: PendingOwner, since: float) -> None:
        """`client` is its socket, `key` its address; `since` is when it came, in monotonic
        seconds."""
        self.client = client
        self.key = key
        self.owner = owner
        self.since = since
        self.attempt: Optional[ConnectAttempt] = None

    def on_event(self, mask: int) -> None:
        if self.has_left():
            self.owner.drop(self)

    def fail(self) -> None:
        """A handler raised: it has to go."""
        self.owner.drop(self)

    def has_left(self) -> bool:
        """Reset, or ended without having said a word.

        One that has sent something and then ended its side still waits for the answer: a
        half-close cannot be told from a goodbye (RFC 9293, 3.6). A reset behind such words is
        no guess; peeking would find the words first.
        """
        try:
            if self.client.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR):
                return True
            return not self.client.recv(1, _socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True


class ConnectAttempt(Handler):
    """One connect that did not end at once. As the handler of its socket it notices how it ends."""

    __slots__ = ("backend", "pending", "since", "upstream")

    wants_writable = True

    def __init__(
        self, pending: PendingClient, upstream: Any, backend: Backend, since: float
    ) -> None:
        self.pending = pending
        self.upstream = upstream
        self.backend = backend
        self.since = since

    def on_event(self, mask: int) -> None:
        self.pending.owner.on_progress(self)

    def fail(self) -> None:
        """A handler raised: its client has to go."""
        self.pending.fail()


W = TypeVar("W", PendingClient, ConnectAttempt)


class WaitQueue(OrderedDict, Generic[W]):  # type: ignore[type-arg]
    """Those who wait, in the order in which they came. Anyone may leave at any time.

    Every client asks whether someone waits, so it is the dictionary itself and no object around it.
    """

    def __init__(self) -> None:
        super().__init__()
        #: The longest it has been.
        self.most = 0

    def add(self, waiting: W) -> None:
        self[waiting] = None
        self.most = max(self.most, len(self))

    def put_back(self, waiting: W) -> None:
        """To its place: behind those who came before it, before those who came after it."""
        later = list(itertools.takewhile(lambda each: each.since > waiting.since, reversed(self)))
        self.add(waiting)
        for each in reversed(later):
            self.move_to_end(each)

    def remove(self, waiting: W) -> None:
        """Idempotent."""
        self.pop(waiting, None)

    def first(self) -> "Optional[W]":
        """Who is next, or None."""
        return next(iter(self), None)

    def last(self) -> "Optional[W]":
        """Who came last, or None."""
        return next(reversed(self), None)

    def waiting_since(self, moment: float) -> "Iterator[W]":
        """Those who wait since then or longer; the caller removes each before asking for the
        next."""
        first = self.first()
        while first is not None and first.since <= moment:
            yield first
            first = self.first()
