"""What `pupgevent status` tells: typed records, from the counters to the table and to JSON.

Times are seconds, sizes are bytes, and what there is none of is null. JSON has the fields in the
order in which the records have them, and spells them as the configuration file does:

    name, config, version, pid, uptime       of pupgevent; config is the file's real path
    state         running; stopping once it is asked to
    healthy       false: something that should run does not serve; with PROCESS: of these
    processes     in the order of the file, with PROCESS only these, each:
      id, autostart
      healthy     false: an instance fails, or none of a cluster that should run serves
      state       running; starting, while an instance is; degraded: some that should run fail,
                  others serve; down: some fail and none serves; stopping; stopped; finished
      up, wanted, instances     how many serve, how many should, how many there are
      nextRun, nextStop     when `cron` starts it next, and `terminate` stops it, in Unix time
      balancer    null without a common port, else:
        protocol, host, port, strategy
        accepted, open, queue, queueMost, turnedAway     clients so far, now, waiting now, ...
        total, bytesIn, bytesOut, connectErrors, retries     of all instances, as below, those that
                    are gone included
        http        null with tcp, else; open and total are requests then:
          connections     of clients, those without a request in flight included
          answers, requestTimes     of all instances, as below, those that are gone included
          ownAnswers      those that pupgevent has given itself, by class
        tls         null without TLS, else:
          minVersion
          certificates    in the order of the file, each: cert (its file), names, expires (in Unix
                          time)
          handshakes, resumed, failed, underWay     those that are done so far, those of them that
                          go on with a session of before, those that failed, those not done yet
      members     its instances in the order of their index, with PROCESS only those, each:
        id, index, port, state, since (seconds in that state), wanted
        serves      it runs, the balancer, where there is one, reaches it, and its health checks,
                    where there are any, pass
        pid, uptime      of the living child
        restarts, lastExit, retryIn (seconds to the next start, in backoff)
        restartsBy  by cause: exit (with a code), signal, start (it did not come up), timeout,
                    memory, shortage (of processes or memory), health (its checks failed)
        reason      why it does not run, in words; null where it runs
        failingFor  seconds since its first failure in a row, or since the balancer does not reach
                    it; null where nothing is wrong with it
        lastLine    what the child of its last run has said last, after a failure
        waitsFor    before its start, in words: "db, which is errored"
        cpu (1.0 is one core), cpuTime, memory     with all that it has started
        health    null where its health is not checked, else:
          healthy     false: its checks fail, so it gets no clients
          check       what the last one came to, in HAProxy's words: L4OK, L4CON (refused), L4TOUT,
                      L7OK, L7STS (another status than 2xx, 3xx), L7RSP (no answer of HTTP), L7TOUT;
                      UNK before the first
          last        the same for people; null before the first
          duration    what it took; null before the first
          checks, failures, downs     so far, in all of its runs
        backend   null without a balancer, else:
          state (up, down, draining, absent), reason, since
          open, total, bytesIn (from clients), bytesOut, connectErrors, retries
          downs       how often it went down though its process lived
          connectTime, firstByteTime       smoothed
          http        null with tcp, else; open is requests in flight then, and total requests:
            answers       by class: 1xx, 2xx, 3xx, 4xx, 5xx
            requestTimes  from a request's first byte until its answer has ended: their sum, and
                    counts of those of at most 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500 ms, 1, 2.5,
                    5, 10 s and of longer ones, each in the first of these
            idle          connections to it that are kept for the next requests
"""

import functools
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Tuple,
    Type,
    TypeVar,
    Union,
    get_type_hints,
)

R = TypeVar("R")


class Answers(NamedTuple):
    """How many of each class (RFC 9110, section 15)."""

    informational: int
    successful: int
    redirection: int
    client_error: int
    server_error: int


#: The classes as people write them.
ANSWER_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")


class RequestTimes(NamedTuple):
    """A histogram, by the bounds of histograms.py."""

    sum: float
    counts: Tuple[int, ...]


class BackendHttp(NamedTuple):
    """What only http has, of an instance."""

    answers: Answers
    request_times: RequestTimes
    idle: int


class BalancerHttp(NamedTuple):
    """The same of a cluster."""

    connections: int
    answers: Answers
    own_answers: Answers
    request_times: RequestTimes

    @property
    def all_answers(self) -> Answers:
        """What clients got: of instances, and of pupgevent itself."""
        return Answers(*map(sum, zip(self.answers, self.own_answers)))


class CertificateStatus(NamedTuple):
    """One that clients get to see."""

    cert: str
    names: Tuple[str, ...]
    #: Unix time.
    expires: float


class BalancerTls(NamedTuple):
    """How TLS ends at the common port of a cluster, and for how many it did."""

    min_version: str
    certificates: Tuple[CertificateStatus, ...]
    #: Done so far; `resumed` are those of them that go on with a session of before.
    handshakes: int
    resumed: int
    failed: int
    under_way: int


class BackendStatus(NamedTuple):
    """An instance as its balancer sees it."""

    state: str
    reason: str
    open: int
    total: int
    bytes_in: int
    bytes_out: int
    connect_errors: int
    retries: int
    downs: int
    since: float
    connect_time: Optional[float]
    first_byte_time: Optional[float]
    http: Optional[BackendHttp] = None


class BalancerStatus(NamedTuple):
    """One cluster's."""

    strategy: str
    accepted: int
    open: int
    total: int
    bytes_in: int
    bytes_out: int
    connect_errors: int
    retries: int
    queue: int
    queue_most: int
    turned_away: int
    host: str
    port: int
    protocol: str = "tcp"
    http: Optional[BalancerHttp] = None
    tls: Optional[BalancerTls] = None


class RestartCauses(NamedTuple):
    """How often an instance was started again, by cause: see instance_history.py."""

    exit: int
    signal: int
    start: int
    timeout: int
    memory: int
    shortage: int
    health: int


class HealthStatus(NamedTuple):
    """What the health checks of an instance have found."""

    healthy: bool
    check: str
    last: Optional[str]
    duration: Optional[float]
    checks: int
    failures: int
    downs: int


class InstanceStatus(NamedTuple):
    id: str
    number: int
    port: Optional[int]
    state: str
    since: float
    wanted: bool
    serves: bool
    pid: Optional[int]
    uptime: Optional[float]
    restarts: int
    restarts_by: RestartCauses
    last_exit: Optional[str]
    reason: Optional[str]
    failing_for: Optional[float]
    last_line: Optional[str]
    retry_in: Optional[float]
    waits_for: Optional[str]
    cpu: Optional[float]
    cpu_time: Optional[float]
    memory: Optional[int]
    health: Optional[HealthStatus]
    backend: Optional[BackendStatus]


class ProcessStatus(NamedTuple):
    id: str
    autostart: bool
    healthy: bool
    state: str
    up: int
    wanted: int
    instances: int
    next_run: Optional[float]
    next_stop: Optional[float]
    balancer: Optional[BalancerStatus]
    members: Tuple[InstanceStatus, ...]


class Status(NamedTuple):
    """The whole of one running pupgevent."""

    version: str
    pid: int
    name: str
    config: str
    uptime: float
    state: str
    healthy: bool
    processes: Tuple[ProcessStatus, ...]


#: How JSON spells a field, where that is another spelling.
JSON_NAMES = {
    "number": "index", "bytes_in": "bytesIn", "bytes_out": "bytesOut",
    "connect_errors": "connectErrors", "connect_time": "connectTime",
    "first_byte_time": "firstByteTime", "queue_most": "queueMost", "turned_away": "turnedAway",
    "last_exit": "lastExit", "last_line": "lastLine", "failing_for": "failingFor",
    "restarts_by": "restartsBy",
    "retry_in": "retryIn", "waits_for": "waitsFor",
    "next_run": "nextRun", "next_stop": "nextStop", "cpu_time": "cpuTime",
    "own_answers": "ownAnswers", "request_times": "requestTimes",
    "min_version": "minVersion", "under_way": "underWay",
    **dict(zip(Answers._fields, ANSWER_CLASSES)),
}  # fmt: skip


def to_json(value: Any, slices: "Callable[[Any], Iterable[Any]]" = iter) -> Any:
    """A record as what `json` writes.

    Times are rounded to microseconds. Arrays may be of thousands: `slices(array)` gives their
    elements one by one, and may let others have a turn in between.
    """
    if value is None or isinstance(value, (int, str)):
        return value
    if isinstance(value, float):
        return round(value, 6)
    if hasattr(value, "_fields"):
        return {JSON_NAMES.get(name, name): to_json(each, slices)
                for name, each in zip(value._fields, value)}
    if value and isinstance(value[0], int):
        return list(value)
    return [to_json(each, slices) for each in slices(value)]


def from_json(kind: "Type[R]", value: Any) -> R:
    """The record that `to_json` has spelt; ValueError where it is not one. More keys do no harm."""
    record: R = _read(kind, value)
    return record


def _read(kind: Any, value: Any) -> Any:
    if hasattr(kind, "_fields"):
        return _read_record(kind, value)
    parts: Any = getattr(kind, "__args__", None) or ()
    if getattr(kind, "__origin__", None) is Union:
        return None if value is None else _read(parts[0], value)
    if parts:
        if not isinstance(value, list):
            raise ValueError("not an array")
        return tuple(_read(parts[0], each) for each in value)
    # A whole number is a float as well, and true is no number.
    kinds = (int, float) if kind is float else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
        raise ValueError("not %s" % kind.__name__)
    return value


def _read_record(kind: Any, value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    fields: List[Any] = []
    for spelt, of in _kinds_of(kind).items():
        if spelt not in value:
            raise ValueError("%s is missing" % spelt)
        fields.append(_read(of, value[spelt]))
    return kind(*fields)


@functools.lru_cache(maxsize=None)
def _kinds_of(kind: Any) -> "Dict[str, Any]":
    """By a field's spelling in JSON."""
    hints = get_type_hints(kind)
    return {JSON_NAMES.get(name, name): hints[name] for name in kind._fields}
