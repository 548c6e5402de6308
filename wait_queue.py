"""A client's way to an instance, where it is not a straight one: connecting, or waiting in line.

Most clients never come here: on a local network the connect has succeeded before its call is
through (see admission.py). These are the others. Both time-outs are the same for all who wait,
so those who came first expire first, and one look at the heads of two lines is all the timing
there is. Each knows since when it waits and not until when: other time-outs (a reload brings them)
hold for those who wait already.
"""

import _socket
import itertools
from collections import OrderedDict
from typing import Any, Iterator, Optional

from backends import Backend
from relay import End


class Visitor:
    """A client that is not relayed yet. As the handler of its socket it notices when it leaves."""

    __slots__ = ("attempt", "client", "home", "key", "since")

    #: For the poller.
    tells_room = False

    def __init__(self, client: End, key: str, home: Any, since: float) -> None:
        """`home` has `left(visitor)`; `since` is when it came, in monotonic seconds."""
        self.client = client
        self.key = key
        self.home = home
        self.since = since
        self.attempt: Optional[Attempt] = None

    def on_event(self, mask: int) -> None:
        if self.has_left():
            self.home.left(self)

    def fail(self) -> None:
        """A handler raised: it has to go."""
        self.home.left(self)

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


class Attempt:
    """One connect that did not end at once. As the handler of its socket it notices how it ends."""

    __slots__ = ("backend", "since", "upstream", "visitor")

    #: For the poller.
    tells_room = True

    def __init__(self, visitor: Visitor, upstream: End, backend: Backend, since: float) -> None:
        self.visitor = visitor
        self.upstream = upstream
        self.backend = backend
        self.since = since

    def on_event(self, mask: int) -> None:
        self.visitor.home.progressed(self)

    def fail(self) -> None:
        """A handler raised: its client has to go."""
        self.visitor.fail()


class Line(OrderedDict):  # type: ignore[type-arg]
    """Those who wait, in the order in which they came. Anyone may leave at any time.

    Every client asks whether someone waits, so it is the dictionary itself and no object around it.
    """

    def __init__(self) -> None:
        super().__init__()
        #: The longest it has been.
        self.most = 0

    def add(self, waiting: Any) -> None:
        self[waiting] = None
        self.most = max(self.most, len(self))

    def put_back(self, waiting: Any) -> None:
        """To its place: behind those who came before it, before those who came after it."""
        later = list(itertools.takewhile(lambda each: each.since > waiting.since, reversed(self)))
        self.add(waiting)
        for each in reversed(later):
            self.move_to_end(each)

    def remove(self, waiting: Any) -> None:
        """Idempotent."""
        self.pop(waiting, None)

    def first(self) -> Any:
        """Who is next, or None."""
        return next(iter(self), None)

    def last(self) -> Any:
        """Who came last, or None."""
        return next(reversed(self), None)

    def since(self, moment: float) -> Iterator[Any]:
        """Those who wait since then or longer; the caller removes each before asking for the
        next."""
        first = self.first()
        while first is not None and first.since <= moment:
            yield first
            first = self.first()
