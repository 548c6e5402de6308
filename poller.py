"""An edge-triggered epoll set of our own, served through one watcher of gevent's loop.

Why not a loop watcher per socket: libev re-arms lazily and spends an `epoll_ctl` on each change of
mind, and a level-triggered end of stream wakes it again and again. Registered once, for both
directions, edge-triggered, a relayed socket costs one `epoll_ctl` in its whole life (closing it
takes it out of the set). See epoll(7), "Level-triggered and edge-triggered".

The price is a rule for every handler: an edge is told once. Who stops reading before EAGAIN must
remember to go on by itself, or ask for another turn with `call_soon`.

What has to hold when memory runs out, wherever that is: gevent stops a watcher for good whose
callback raises, so nothing leaves `_turn`; edges that were taken from the kernel and then lost are
asked for anew; a handler that raised has lost bytes, perhaps, so it is ended and gets no further
event, even if ending it takes a second attempt. `_maintain` sees to what could not be done at once.
"""

import select
import sys
import time
from collections import OrderedDict
from typing import Callable, List, Optional

from gevent import get_hub

#: Something arrived, or the other side's end of stream, or an error: time to read.
#: EPOLLPRI is there because a read stops short at an urgent byte without being at the end.
READABLE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR | select.EPOLLPRI

#: Nothing else was told than that data arrived.
DATA = select.EPOLLIN

#: There is room again, or the socket is dead and the next send will say so.
WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR

#: The socket died.
ERROR = select.EPOLLERR

#: A short read is not the last one when one of these was told with it.
MORE_THAN_DATA = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR | select.EPOLLPRI

#: All that is told besides data is that the other side has finished sending.
ENDING = select.EPOLLRDHUP

#: What a socket is registered for; HUP and ERR are always told.
_ARRIVALS = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLPRI | select.EPOLLET

#: The same for one that had no room once. Most never do, and are spared the event that says they
#: have: it would come with each registration.
_BOTH_WAYS = _ARRIVALS | select.EPOLLOUT

#: Events taken from the kernel in one turn; what is left comes in the next, after gevent's own
#: watchers had theirs.
EVENTS_A_TURN = 512

#: Seconds after which a turn ends with the events that it has taken, or with the handler that had
#: asked for it, whatever else there is.
TURN_SECONDS = 0.005

#: With so many at once there are likely more by now, and to ask for them here costs less than to
#: come back by way of gevent's loop. With fewer it would be a system call for nothing.
BUSY_EVENTS = 4

#: Seconds between two looks whether everything still goes on.
MAINTAIN_EVERY = 0.5

_READ = 1


class Handler:
    """Whom the poller tells of one socket's events, in the hub: it must not block."""

    __slots__ = ()

    #: It is told of room to send, too.
    wants_writable: bool

    @property
    def has_more(self) -> bool:
        """It has read something that it has not passed on, and of which no event tells any more."""
        return False

    def on_event(self, mask: int) -> None:
        """Something has happened to the socket; `mask` is of epoll(7)."""
        raise NotImplementedError

    def on_turn(self) -> None:
        """Its turn, for which it has asked with `call_soon`."""
        raise NotImplementedError

    def on_posted(self) -> None:
        """It is among `Poller.posted`, and the others have been served."""
        raise NotImplementedError

    def fail(self) -> None:
        """It raised, or found no memory: end it."""
        raise NotImplementedError


class Poller:
    """The set.

    Events may be stale: one handler of a turn can close a socket that a later event of the same
    turn was meant for, and its number may be in use again. So a handler believes what its own
    system calls say and takes the mask as a hint.
    """

    def __init__(
        self, on_error: "Callable[[Handler], None]",
        clock: "Callable[[], float]" = time.monotonic,
    ) -> None:
        """`on_error(handler)` is told, inside the `except`, of a handler that raised, and ends it:
        it gets no further event."""
        self._on_error = on_error
        self._clock = clock
        #: By descriptor: the kernel gives out the lowest free number, so the list stays short.
        self._handlers: List[Optional[Handler]] = [None] * 64
        #: Each once: who is told of an event while it waits for its turn does not get two.
        self._soon: OrderedDict[Handler, None] = OrderedDict()
        #: How often events were taken from the kernel. Who writes to a socket and is told by the
        #: same poll that something has arrived there is told of what was there before.
        self.polls = 0
        #: Whom `on_posted` is called of when all events of this poll, or turns, have been served:
        #: whoever is written to for several of them is then woken once, and not for each.
        self.posted: List[Handler] = []
        self._epoll = select.epoll()
        self._loop = get_hub().loop
        self._watcher = self._loop.io(self._epoll.fileno(), _READ)
        self._watcher.start(self._turn)
        # No callback of the loop, of which gevent calls up to fifty before it asks for events.
        self._soon_timer = self._loop.timer(0)
        #: Events taken in one turn: fewer after a shortage.
        self._most = EVENTS_A_TURN
        #: From this descriptor on edges may have been lost; None is nowhere.
        self._lost_from: Optional[int] = None
        # A timer goes on whatever its callback raises.
        self._maintenance_timer = self._loop.timer(MAINTAIN_EVERY, MAINTAIN_EVERY)
        self._maintenance_timer.start(self._maintain)

    def __len__(self) -> int:
        """How many sockets are watched."""
        return sum(handler is not None for handler in self._handlers)

    def watch(self, fileno: int, handler: Handler) -> None:
        """Tell `handler` of what arrives at this socket, beginning with what has already; nobody
        else is told any more.

        Raises OSError when the kernel has no room for one more (ENOSPC, epoll_ctl(2)).
        """
        handlers = self._handlers
        if fileno >= len(handlers):
            self._make_room(fileno)
        if handlers[fileno] is None:
            self._epoll.register(fileno, _ARRIVALS)
        else:
            self._epoll.modify(fileno, _ARRIVALS)
        handlers[fileno] = handler

    def watch_both_ways(self, fileno: int, handler: Handler) -> None:
        """As `watch`, and of room to send; a connect under way ends with that."""
        self._epoll.register(fileno, _BOTH_WAYS)
        self._make_room(fileno)
        self._handlers[fileno] = handler

    def want_writable(self, fileno: int) -> None:
        """Tell of room from now on, beginning with any that is there already."""
        self._epoll.modify(fileno, _BOTH_WAYS)

    def replace_handler(self, fileno: int, handler: Handler) -> None:
        """Give a watched socket a new handler. Edges told to the old one do not come again."""
        self._handlers[fileno] = handler

    def is_watched(self, handler: Handler, fileno: int) -> bool:
        """Of what arrives there; not any more after it has raised."""
        return 0 <= fileno < len(self._handlers) and self._handlers[fileno] is handler

    def forget(self, fileno: int) -> None:
        """Call before closing: the kernel drops a closed socket from the set by itself."""
        if 0 <= fileno < len(self._handlers):
            self._handlers[fileno] = None

    def call_soon(self, handler: Handler) -> None:
        """Call `handler.on_turn()` once more, after everyone else had a turn."""
        if not self._soon:
            self._soon_timer.start(self._run_soon)
        self._soon[handler] = None

    def close(self) -> None:
        """Stop serving; idempotent. The sockets stay as they are."""
        for watcher in (self._maintenance_timer, self._soon_timer, self._watcher):
            watcher.stop()
            watcher.close()
        self._epoll.close()
        self._handlers.clear()

    def _make_room(self, fileno: int) -> None:
        handlers = self._handlers
        while fileno >= len(handlers):
            handlers.extend([None] * len(handlers))

    def _turn(self) -> None:
        try:
            handlers, poll = self._handlers, self._epoll.poll
            left, end = self._most, self._clock() + TURN_SECONDS
            while left > 0:
                self.polls += 1
                events = poll(0, left)
                for fileno, mask in events:
                    handler = handlers[fileno]
                    if handler is not None:
                        try:
                            handler.on_event(mask)
                        except Exception:
                            if handlers[fileno] is handler:
                                handlers[fileno] = None
                            self.failed(handler)
                if self.posted:
                    self.deliver()
                if len(events) < BUSY_EVENTS or self._clock() > end:
                    return
                left -= len(events)
        except Exception:
            # Above all a poll that has taken events from the kernel and had no memory for them. One
            # at a time there may be some, and the first to be served may be who gives more back.
            self._lost_from = 0
            self._most = 1

    def _run_soon(self) -> None:
        try:
            soon, end = self._soon, self._clock() + TURN_SECONDS
            for _ in range(len(soon)):
                handler = soon.popitem(last=False)[0]
                try:
                    handler.on_turn()
                except Exception:
                    self.failed(handler)
                if self._clock() > end:
                    break
            self.deliver()
            if soon:
                self._soon_timer.start(self._run_soon)
        except Exception:
            self._lost_from = 0

    def deliver(self) -> None:
        """See `posted`; to be called by who adds to that anywhere but in an event or a turn. Who is
        told may add to it."""
        for handler in self.posted:
            try:
                handler.on_posted()
            except Exception:
                self.failed(handler)
        self.posted.clear()

    def failed(self, handler: Handler) -> None:
        """To be called inside an `except`: that handler has a bug, or found no memory."""
        try:
            self._on_error(handler)
        except Exception:
            # Nobody is left to tell but gevent, whose hub prints it.
            try:
                self._loop.handle_error(handler, *sys.exc_info())
            except Exception:
                pass

    def _maintain(self) -> None:
        """Make up for what was lost when memory had run out."""
        try:
            if not self._watcher.active:
                self._watcher.start(self._turn)
            if self._soon or self.posted:
                self._run_soon()
            if self._lost_from is None:
                self._most = min(EVENTS_A_TURN, 2 * self._most)
                return
            while self._lost_from < len(self._handlers):
                self._rearm(self._lost_from)
                self._lost_from += 1
            self._lost_from = None
        except MemoryError:
            pass  # the rest of it the next time

    def _rearm(self, fileno: int) -> None:
        """Of what is there already the kernel tells again when a socket is registered anew."""
        handler = self._handlers[fileno]
        if handler is not None:
            if handler.has_more:
                self.call_soon(handler)
            try:
                self._epoll.modify(fileno, _BOTH_WAYS if handler.wants_writable else _ARRIVALS)
            except OSError:
                pass  # its handler has closed it, and will say so
