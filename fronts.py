"""Proxies on other machines that ask the agent: who asks, and when each has been answered last.

Whoever sends clients from there has to be told before an instance stops, and before the next one of
a roll-out does. The agent answers each with what is true now. So all that a stop has to wait for is
that each front has asked once more.
"""

from typing import Callable, Dict, Iterable, List, Tuple

from concurrency import pause

# What `export haproxy` writes, and what the waits below follow from. Seconds.

#: From one question to the agent to the next.
AGENT_INTERVAL = 1.0
#: From one check of a server to the next: of one that is down, and of one that changes.
DOWN_INTERVAL, FAST_INTERVAL = 1.0, 0.5

#: Seconds in which a front that still asks has asked again.
RECENT = 5 * AGENT_INTERVAL

#: Longest wait for the fronts, in seconds: one that has not asked by then is not waited for.
LONGEST = 5.0

#: Seconds from an answer to what the front makes of it.
_MARGIN = 0.3

#: Seconds for what the front has sent before it knew: nobody here sees when that has been answered.
_IN_FLIGHT = 1.0

#: Seconds that are waited in any case: several fronts may come from one address (HAProxy while it
#: is reloaded), and each of them has asked by then.
_LEAST = AGENT_INTERVAL + _MARGIN

#: Addresses that are remembered of those who ask about one id.
_MOST = 16

#: Seconds between two looks.
_LOOK = 0.1


class Fronts:
    """`clock` is monotonic seconds."""

    def __init__(self, clock: "Callable[[], float]") -> None:
        self._clock = clock
        #: By id, then by address: when that front was answered; the oldest first.
        self._answered: Dict[str, Dict[str, float]] = {}
        self._hurry = False

    def note(self, asked: str, address: str) -> None:
        """One has been answered about this id."""
        answered = self._answered.setdefault(asked, {})
        answered.pop(address, None)
        while len(answered) >= _MOST:
            del answered[next(iter(answered))]
        answered[address] = self._clock()

    def forget(self, asked: str) -> None:
        """There is no such id any more."""
        self._answered.pop(asked, None)

    def wait_told(self, ids: "Iterable[str]", seconds: float = LONGEST) -> None:
        """Until each front that asks about one of these has been told that it leaves, and what was
        sent before had a second to be answered. Blocks the calling greenlet, for so many seconds at
        most, and not at all where there is no such front."""
        self._wait(ids, _IN_FLIGHT, _LEAST, seconds)

    def _wait(self, ids: "Iterable[str]", margin: float, least: float, seconds: float) -> None:
        """Until each front has been answered once more, and `margin` seconds longer; for so many
        at least, and at most."""
        began = self._clock()
        fronts = [(each, address) for each in ids for address in self._recent(each, began)]
        if not fronts:
            return
        #: Those that have been told, and when that was seen.
        told: Dict[Tuple[str, str], float] = {}
        while not self._hurry:
            now = self._clock()
            for front in fronts:
                if self._answered_at(*front) > began:
                    told.setdefault(front, now)
            know = len(told) == len(fronts) and now >= max(told.values()) + margin
            rest = began + (min(seconds, least) if know else seconds) - now
            if rest <= 0:
                return
            pause(min(_LOOK, rest))

    def wait_checked(self, name: str, checks: int) -> None:
        """Until each front knows that this instance is up, for which it looks so many times."""
        least = DOWN_INTERVAL + FAST_INTERVAL * (checks - 1) + _MARGIN
        self._wait([name], _MARGIN, least, max(LONGEST, least))

    def wait_told_of_all(self) -> None:
        """As `wait_told`, for whatever is asked about; after that nobody is waited for any more."""
        self.wait_told(list(self._answered))
        self._hurry = True

    def addresses(self) -> List[str]:
        """Of those who still ask."""
        now = self._clock()
        return sorted({each for asked in self._answered for each in self._recent(asked, now)})

    def hurry(self) -> None:
        """Wait for nobody any more."""
        self._hurry = True

    def _answered_at(self, asked: str, address: str) -> float:
        return self._answered.get(asked, {}).get(address, 0.0)

    def _recent(self, asked: str, now: float) -> "List[str]":
        return [address for address, when in self._answered.get(asked, {}).items()
                if now - when <= RECENT]
