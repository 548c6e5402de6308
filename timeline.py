"""The last changes of the states of all instances, in one order: what has happened, and when."""

import collections
import time
import weakref
from typing import Deque, List, NamedTuple

from instance import Instance
from instance_history import InstanceHistory, Moment

#: Of all instances together.
MOST_EVENTS = 500


class Event(NamedTuple):
    """An instance came into a state."""

    #: Each has one more than the one before.
    number: int
    #: Unix time.
    at: float
    process: str
    id: str
    state: str
    text: str


class Timeline:
    """`note` is to be called at each change of an instance."""

    def __init__(self, instances: "List[Instance]") -> None:
        """With what these have in their own histories already."""
        #: Another one than before: the numbers begin anew.
        self.began = time.time()
        self.number = 0
        self._events: Deque[Event] = collections.deque(maxlen=MOST_EVENTS)
        #: How many changes of each have been seen, for as long as there is the instance.
        self._seen: weakref.WeakKeyDictionary[InstanceHistory, int] = weakref.WeakKeyDictionary()
        past = [(moment, each) for each in instances for moment in each.history.moments]
        for moment, each in sorted(past, key=lambda pair: pair[0].at)[-MOST_EVENTS:]:
            self._add(each, moment)
        for each in instances:
            self._seen[each.history] = each.history.total

    def note(self, instance: Instance) -> None:
        """It has changed, in its state or in something else. Where there is no memory for it, it is
        left out: what failed here would end the run of the instance."""
        history = instance.history
        try:
            if self._seen.get(history, 0) != history.total:
                self._seen[history] = history.total
                self._add(instance, history.moments[-1])
        except MemoryError:
            pass

    def after(self, number: int) -> List[Event]:
        """The events with a higher number, the oldest first."""
        return [each for each in self._events if each.number > number]

    def _add(self, instance: Instance, moment: Moment) -> None:
        self.number += 1
        self._events.append(Event(
            self.number, moment.at, instance.process_id, instance.name, moment.state, moment.text))
