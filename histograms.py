"""Histograms of times, as Prometheus has them: how many were at most so long, and their sum."""

from bisect import bisect_left, bisect_right
from typing import Iterable, List, Optional, Sequence, Tuple

#: Seconds; the upper bounds of the buckets, besides the last, which has none. From what one machine
#: takes for itself to what a client no longer waits for.
BOUNDS: Tuple[float, ...] = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)


class Histogram:
    """Counts of times by the bucket that they fall into."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        #: By bucket, each without those below it.
        self.counts: List[int] = [0] * (len(BOUNDS) + 1)
        #: Seconds.
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    def add_all(self, times: "Sequence[float]") -> None:
        """Many at once, in ascending order."""
        below = 0
        for bucket, bound in enumerate(BOUNDS):
            up_to = bisect_right(times, bound)
            self.counts[bucket] += up_to - below
            below = up_to
        self.counts[-1] += len(times) - below
        self.sum += sum(times)


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """What all of them have counted."""
    every = list(histograms)
    found = Histogram()
    found.counts = list(map(sum, zip(found.counts, *(each.counts for each in every))))
    found.sum = sum(each.sum for each in every)
    return found


def quantile(counts: Sequence[int], share: float) -> Optional[float]:
    """The seconds within which that share of the times lay; None where there are none. As
    Prometheus's `histogram_quantile` has it: even within a bucket, and never beyond the last bound.
    """
    rank = share * sum(counts)
    if not rank:
        return None
    below = 0.0
    for count, bound in zip(counts, BOUNDS):
        if count >= rank:
            return below + (bound - below) * rank / count
        rank -= count
        below = bound
    return below
