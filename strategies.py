"""Which backend takes the next client: pure choices, and the registry that names them.

A strategy sees no socket and no clock. `choose(backends, client)` gets the backends that can take
a connection now (at least one, always in the same order) and the client's address, and returns one
of them. What it may read of a backend is what a `Candidate` has.

A new strategy is a class with `choose` and a line in STRATEGIES.
"""

import ipaddress
import itertools
from functools import lru_cache
from hashlib import blake2b
from operator import length_hint
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple, Type, TypeVar

#: Addresses whose hash is remembered: a hash costs about as much as the rest of the choice.
_REMEMBERED = 65536

_64_BITS = (1 << 64) - 1


class Candidate:
    """What a strategy may read of a backend."""

    __slots__ = ()

    #: Its identity: stays when the instance is restarted.
    name: str
    #: Connections that are assigned to it and have not ended.
    open: int
    #: Smoothed seconds from a request's first byte to its answer's (time to first byte).
    ttfb: Optional[float]
    #: The part of a full share that it gets, above 0 and at most 1: less while it is fresh.
    weight: float


C = TypeVar("C", bound=Candidate)


class Strategy:
    """What all of them are. One object serves one cluster and may remember its own turn."""

    #: Clients are known by the cookie that `token` gives them, and not by their address.
    by_cookie = False

    def choose(self, backends: Sequence[C], client: str) -> C:
        raise NotImplementedError

    def ramped(self) -> "Strategy":
        """The same by weight, for as long as a backend's is below 1: what looks at weights takes
        longer, and most of the time there is nothing to look at."""
        return self


class Turns:
    """Turns by weight: each gets as many of them as its part of all weights.

    Start-time fair queueing (Goyal, Vin and Cheng, 1996): who has been chosen waits for one share's
    length, the longer the lighter it is, and a newcomer begins with those that are due now.
    """

    def __init__(self) -> None:
        self._now = 0.0
        #: When each began its last turn.
        self._began: Dict[str, float] = {}

    def due(self, backend: Candidate) -> float:
        """When its next turn is to begin."""
        began = self._began.get(backend.name)
        return self._now if began is None else max(self._now, began + 1 / backend.weight)

    def take(self, backend: Candidate) -> None:
        """It is its turn."""
        self._now = self._began[backend.name] = self.due(backend)


class RampedRoundRobin(Strategy):
    """By turns, of which one that is fresh has fewer."""

    def __init__(self) -> None:
        self._turns = Turns()

    def choose(self, backends: Sequence[C], client: str) -> C:
        chosen = min(backends, key=self._turns.due)
        self._turns.take(chosen)
        return chosen


class RoundRobin(Strategy):
    """By turns, connection by connection: whoever was chosen longest ago.

    So the share of one that is down is spread over all the others and does not fall to its
    neighbour, and nobody is passed over because the set changes, however often it does (one that
    is full comes and goes with every connection). A counter over the set would do both.
    """

    def __init__(self) -> None:
        #: The set of the last choice, and its order of turns.
        self._backends: Sequence[Any] = ()
        self._order: Sequence[Any] = ()
        #: Turns in it: a first round, and then without end.
        self._first_round: Iterator[Any] = iter(())
        self._turns: Iterator[Any] = iter(())
        #: The number of each one's last choice, as far as it was in other sets.
        self._last: Dict[str, int] = {}
        self._past = 0

    def choose(self, backends: Sequence[C], client: str) -> C:
        if backends is not self._backends:
            self._rearrange(backends)
        chosen: C = next(self._turns)
        return chosen

    def ramped(self) -> Strategy:
        return RampedRoundRobin()

    def _rearrange(self, backends: Sequence[Any]) -> None:
        for backend in self._chosen():
            self._past += 1
            self._last[backend.name] = self._past
        self._backends = backends
        self._order = sorted(backends, key=lambda each: self._last.get(each.name, 0))
        self._first_round = iter(self._order)
        self._turns = itertools.chain(self._first_round, itertools.cycle(self._order))

    def _chosen(self) -> "Sequence[Any]":
        """Those of the last set whose turn it was, in the order of their last ones."""
        order = self._order
        left = length_hint(self._first_round)
        if left:
            return order[:len(order) - left]
        # Whose turn is next was chosen longest ago.
        return list(itertools.islice(self._turns, len(order)))


class _Least(Strategy):
    """The smallest `load`; among equals whoever was chosen longest ago, so that an idle cluster is
    used evenly, also where some of it is busy."""

    def __init__(self) -> None:
        self._turn = 0
        self._last: Dict[str, int] = {}

    def load(self, backend: Candidate, usual: float) -> float:
        raise NotImplementedError

    def usual(self, backends: Sequence[Candidate]) -> float:
        """What one choice has to know about all of them."""
        return 0.0

    def choose(self, backends: Sequence[C], client: str) -> C:
        usual, last = self.usual(backends), self._last
        chosen = min(
            backends, key=lambda each: (self.load(each, usual), last.get(each.name, 0))
        )
        self._turn = last[chosen.name] = self._turn + 1
        return chosen

    def ramped(self) -> Strategy:
        return RampedLeast(self)


class RampedLeast(Strategy):
    """The smallest load, divided by the weight; as HAProxy does it for `leastconn`.

    So one that is fresh gets one client at a time at first, and never a burst. The load of an idle
    one whose turn it is, by weight, is not divided: without that it would get nobody where little
    is open, and stay cold until the ramp is over.
    """

    def __init__(self, least: _Least) -> None:
        self._least = least
        self._turns = Turns()

    def choose(self, backends: Sequence[C], client: str) -> C:
        usual, load, due = self._least.usual(backends), self._least.load, self._turns.due
        first = min(backends, key=due)

        def key(each: Candidate) -> Tuple[float, float]:
            own = load(each, usual)
            is_its_turn = each is first and not each.open
            return own if is_its_turn else own / each.weight, due(each)

        chosen = min(backends, key=key)
        self._turns.take(chosen)
        return chosen


class LeastConnections(_Least):
    """The fewest open connections."""

    def load(self, backend: Candidate, usual: float) -> float:
        return backend.open

    def ramped(self) -> Strategy:
        return RampedLeast(_WithOneMore())


class _WithOneMore(_Least):
    """The connections that each would have. In halves and twentieths of a share, one counts."""

    def load(self, backend: Candidate, usual: float) -> float:
        return backend.open + 1


class LeastTime(_Least):
    """The shortest expected wait: smoothed time to first byte x (open connections + 1).

    One that has not answered yet counts as fast as the others are on average: it gets its share,
    and not everything at once.
    """

    def usual(self, backends: Sequence[Candidate]) -> float:
        known = [each.ttfb for each in backends if each.ttfb is not None]
        return sum(known) / len(known) if known else 1.0

    def load(self, backend: Candidate, usual: float) -> float:
        time = usual if backend.ttfb is None else backend.ttfb
        return time * (backend.open + 1)


class IpHash(Strategy):
    """The same client to the same backend: rendezvous hashing (Thaler and Ravishankar, 1998).

    Each backend draws a number with the client, and the highest takes it. So one that goes down
    moves only its own clients, one that is added takes only its share, and both are undone when it
    changes back. The name is hashed, not the address: a restart moves nobody.
    """

    def choose(self, backends: Sequence[C], client: str) -> C:
        mark = _client_hash(client)
        return max(backends, key=lambda backend: _mix(mark ^ _name_hash(backend.name)))


class _ByCookie(Strategy):
    by_cookie = True

    def choose(self, backends: Sequence[C], client: str) -> C:
        if client:
            for each in backends:
                if token(each.name) == client:
                    return each
        return super().choose(backends, client)


class RampedCookie(_ByCookie, RampedRoundRobin):
    """As `Cookie`, but whoever has no cookie yet goes to one that is fresh less often."""


class Cookie(_ByCookie, RoundRobin):
    """A client goes to the backend whose token its cookie has, as long as that is there. All others
    go by turns, and get the token of the one they came to. Only with http."""

    def ramped(self) -> Strategy:
        return RampedCookie()


@lru_cache(maxsize=1024)
def token(name: str) -> str:
    """What stands for a backend in a cookie. The same after a restart of all, and on each machine
    with the same cluster."""
    return blake2b(name.encode("utf-8"), digest_size=8, person=b"pupgevent").hexdigest()


def _hash(text: bytes) -> int:
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


@lru_cache(maxsize=_REMEMBERED)
def _client_hash(client: str) -> int:
    """Of the address itself: IPv4-mapped IPv6 is the IPv4 address, a zone does not count."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return _hash(client.encode("utf-8", "replace"))
    return _hash((getattr(address, "ipv4_mapped", None) or address).packed)


@lru_cache(maxsize=1024)
def _name_hash(name: str) -> int:
    return _hash(name.encode("utf-8"))


def _mix(number: int) -> int:
    """Spread every bit over all 64: the finishing step of the splitmix64 generator."""
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 & _64_BITS
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB & _64_BITS
    return number ^ (number >> 31)


#: What `strategy = "..."` may say.
STRATEGIES: Dict[str, Type[Strategy]] = {
    "round-robin": RoundRobin,
    "least-connections": LeastConnections,
    "ip-hash": IpHash,
    "least-time": LeastTime,
    "cookie": Cookie,
}
