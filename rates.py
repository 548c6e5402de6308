"""What goes through the balancers in a second: the difference between two statuses.

Counters may fall: another pupgevent has been started, an instance has been removed and has come
back. There is no rate then, until the next status.
"""

from typing import Dict, NamedTuple, Optional, Sequence, Tuple, Union

from status_report import Answers, BackendStatus, BalancerStatus, Status


class Rates(NamedTuple):
    """In a second."""

    #: With http, requests.
    connections: float
    #: Bytes from and to clients.
    bytes_in: float
    bytes_out: float
    #: Answers of 5xx, of a cluster also those that pupgevent gave itself; 0 with tcp.
    server_errors: float = 0.0


#: Whose: the id of a cluster and "", or of its process and an instance.
Key = Tuple[str, str]

#: As they are in `Rates`.
_Counters = Tuple[int, int, int, int]


class RateMeter:
    """Remembers the last status."""

    def __init__(self) -> None:
        self._run = (0, 0.0)
        self._counters: Dict[Key, _Counters] = {}

    def measure(self, status: Status) -> "Dict[Key, Rates]":
        """Those since the last status, of whom there are two counts."""
        pid, uptime = self._run
        elapsed = status.uptime - uptime
        before = self._counters if pid == status.pid and elapsed > 0 else {}
        self._run, self._counters = (status.pid, status.uptime), _counters_of(status)
        found = {key: _rates(before[key], now, elapsed)
                 for key, now in self._counters.items() if key in before}
        return {key: rates for key, rates in found.items() if rates is not None}


def _rates(
    before: Sequence[int], now: Sequence[int], elapsed: float
) -> Optional[Rates]:
    if any(new < old for old, new in zip(before, now)):
        return None
    return Rates(*((new - old) / elapsed for old, new in zip(before, now)))


def _counters_of(status: Status) -> "Dict[Key, _Counters]":
    found: Dict[Key, _Counters] = {}
    for process in status.processes:
        balancer = process.balancer
        if balancer is not None:
            found[(process.id, "")] = _counters(
                balancer, balancer.http and balancer.http.all_answers)
        for member in process.members:
            backend = member.backend
            if backend is not None:
                found[(process.id, member.id)] = _counters(
                    backend, backend.http and backend.http.answers)
    return found


def _counters(
    of: "Union[BalancerStatus, BackendStatus]", answers: Optional[Answers]
) -> _Counters:
    return of.total, of.bytes_in, of.bytes_out, answers.server_error if answers else 0
