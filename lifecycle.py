"""The life of one instance as a table: every state, every move, nothing besides.

An instance is an intention of the user (it should run, or it should not) and, for some
of its time, a child process. The two change independently: a child dies while it is
asked to stop, a stop is asked for while nothing lives, a start is asked for while the
last run is still being stopped. What keeps this sane is one rule: the state says what is
true now, and only what has *happened* moves it. Wishes never do.

                 start                 ready
    created ------------> starting ------------> running
       |                  ^  |   \\                /   |
       | over      start  |  |    \\ stop     stop/    |
       v                  |  |     v            v     |
    stopped --------------+  |      `-> stopping <-'  |
       ^                  |  |             |          |
       | over             |  +-------------+----------+
       |                  |                | the child is gone, and the verdict on its run is
       |                  |                |
       |                  +--- backoff <---+ retry     it is due again, after a delay
       |                  +-- finished <---+ finish    code 0, and it is not due again
       |                  +--- errored <---+ fail      anything else, and it is not due again
       |                  +- exhausted <---+ exhaust   it failed as often in a row as it may
       +----- from any of these four       + over      the user wanted it to stop

Four things follow from the table rather than from care taken elsewhere:

- Whoever was asked to stop ends in `stopped`, whatever its child did meanwhile: from
  `stopping` the verdict is `over`, and a settled instance goes there directly.
- A run past its time limit goes through `stopping` as well, but the wish is unchanged, so
  the verdict on its exit may be any of the others.
- Only `starting` leads to `running`: each run proves anew that it is ready.
- `starting` and `stopping` cannot last for ever: the first is bounded by the time allowed
  for readiness, the second by the one before SIGKILL.
"""

from typing import Dict, FrozenSet, Tuple

CREATED = "created"
STARTING = "starting"
RUNNING = "running"
STOPPING = "stopping"
STOPPED = "stopped"
BACKOFF = "backoff"
FINISHED = "finished"
ERRORED = "errored"
EXHAUSTED = "exhausted"

# What happens to an instance. The last five are verdicts on a run that is over.
START = "start"
READY = "ready"
STOP = "stop"
OVER = "over"
RETRY = "retry"
FINISH = "finish"
FAIL = "fail"
EXHAUST = "exhaust"

_VERDICTS = {RETRY: BACKOFF, FINISH: FINISHED, FAIL: ERRORED, EXHAUST: EXHAUSTED}

#: From each state, what may happen and where it leads.
MOVES: Dict[str, Dict[str, str]] = {
    CREATED: {START: STARTING, OVER: STOPPED},
    STARTING: dict(_VERDICTS, **{READY: RUNNING, STOP: STOPPING}),
    RUNNING: dict(_VERDICTS, **{STOP: STOPPING}),
    STOPPING: dict(_VERDICTS, **{OVER: STOPPED}),
    STOPPED: {START: STARTING},
    BACKOFF: {START: STARTING, OVER: STOPPED},
    FINISHED: {START: STARTING, OVER: STOPPED},
    ERRORED: {START: STARTING, OVER: STOPPED},
    EXHAUSTED: {START: STARTING, OVER: STOPPED},
}

STATES: Tuple[str, ...] = tuple(MOVES)

#: There is a child, or there is about to be one.
ALIVE: FrozenSet[str] = frozenset([STARTING, RUNNING, STOPPING])
#: Nothing lives, and nothing will until somebody asks for it.
SETTLED: FrozenSet[str] = frozenset([CREATED, STOPPED, FINISHED, ERRORED, EXHAUSTED])
#: A run of it has ended, and the user has not asked it to stop.
ENDED: FrozenSet[str] = frozenset(_VERDICTS.values())
#: Given up for good: what `essential` is about.
GIVEN_UP: FrozenSet[str] = frozenset([ERRORED, EXHAUSTED])
#: It should run, and does not.
FAILED: FrozenSet[str] = GIVEN_UP | {BACKOFF}


class IllegalMove(Exception):
    """Something happened that cannot happen in that state: a bug of pupgevent."""


def after(state: str, event: str) -> str:
    """The state that follows; raises IllegalMove where the table has none."""
    try:
        return MOVES[state][event]
    except KeyError:
        allowed = ", ".join(MOVES.get(state, ())) or "nothing"
        raise IllegalMove("%r in state %r, which allows %s" % (event, state, allowed)) from None


class Lifecycle:
    """One instance's way through the table; an illegal event raises and changes nothing."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = CREATED

    def move(self, event: str) -> str:
        self.state = after(self.state, event)
        return self.state

    def break_down(self) -> None:
        """Not a move: a bug has ended whoever made the moves."""
        self.state = ERRORED
