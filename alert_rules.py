"""What Prometheus sends alerts for, as `export prometheus` writes it: rules with PromQL.

An alert is about what somebody has to look at. A restart, a roll-out and a start of pupgevent are
orderly: a rule waits for as long as the configuration lets these take. "critical" is what clients
notice now, and wakes somebody up; "warning" can wait for the morning; "info" is good to know.

Where a threshold follows from the values of a process, there is a rule for each value, with the
processes that have it. These rules have the same name, so a label `threshold` tells them apart:
promtool finds fault with rules that have both in common.

Ids are of letters, digits and @ . _ -, so PromQL needs no escapes, but for the dot in a regular
expression.
"""

import math
from typing import (
    Callable,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    TypeVar,
)

from model import Configuration, Process
from start_order import longest_chain
from time_limits import time_to_start, time_to_stop
from tls_expiry import EXPIRES_SOON_DAYS

V = TypeVar("V")

CRITICAL, WARNING, INFO = "critical", "warning", "info"

#: Seconds that are added to what an orderly change takes: for two scrapes, and a slow machine.
_MARGIN = 30
#: pupgevent itself is missed after that time, or later if its stop may take longer.
_UNHEARD = 120
#: The longest time that a rule waits or looks back. Prometheus keeps 15 days by default.
_LONGEST = 86400
#: So many restarts of one instance in the window are too many, and its shortest length in seconds.
#: With the default delays five restarts in a row take less than a minute. A worker that ends by
#: itself now and then has fewer in ten.
_MOST_RESTARTS, _WINDOW = 5, 600
#: The same of restarts because of `maxMemory`.
_MOST_MEMORY_RESTARTS, _MEMORY_WINDOW = 3, 3600
#: Restarts whose cause is a failure; `timeout` and `memory` are limits of the configuration.
_FAILURES = 'cause=~"exit|signal|start|shortage|health"'
#: By the protocol: the metric that counts those who could be turned away.
_CLIENTS = {"tcp": "pupgevent_frontend_connections_total",
            "http": "pupgevent_backend_http_requests_total"}
#: Days before a certificate expires: whoever renews it has not, by then; and it is urgent.
_EXPIRES_SOON, _EXPIRES = EXPIRES_SOON_DAYS, 3
#: Scanners of the internet speak no TLS, or an old one: the handshakes that fail are told where
#: they are so many in that many seconds, and more than those that do not.
_MOST_FAILED, _FAILED_WINDOW = 30, 900
_GIVEN_UP = 'state=~"errored|exhausted"'


class Rule(NamedTuple):
    """An alert."""

    name: str
    severity: str
    expr: str
    #: Seconds for which that has to be true.
    lasting: float
    #: With Prometheus's templates.
    summary: str
    description: str
    #: Tells rules of one name apart; empty: there is but one.
    threshold: str = ""


def rules(configuration: Configuration, job: str) -> "Iterator[Rule]":
    """All of them, for the metrics that Prometheus scrapes as that job."""
    writer = _Writer(configuration.processes, job)
    yield from writer.of_pupgevent()
    yield from writer.of_processes()
    yield from writer.of_restarts()
    if any(map(_has_balancer, configuration.processes)):
        yield from writer.of_queues()
        yield from writer.of_connections()
    if any(map(_has_http, configuration.processes)):
        yield from writer.of_answers()
    if any(map(_has_tls, configuration.processes)):
        yield from writer.of_tls()
    yield from writer.of_memory()


class _Writer:
    """Writes the rules for these processes."""

    def __init__(self, processes: "Sequence[Process]", job: str) -> None:
        self._processes = processes
        self._by_id = {each.id: each for each in processes}
        self._job = job

    # What they are made of

    def _series(self, name: str, *matchers: str) -> str:
        return "%s{%s}" % (name, ",".join(['job="%s"' % self._job, *matchers]))

    def _groups(
        self, value_of: "Callable[[Process], Optional[V]]"
    ) -> "Iterator[Tuple[V, List[str]]]":
        """Each value with the matchers for its processes: none where it is that of all. Processes
        without a value are in no group."""
        groups: Dict[V, List[str]] = {}
        for process in self._processes:
            value = value_of(process)
            if value is not None:
                groups.setdefault(value, []).append(process.id)
        for value, ids in groups.items():
            yield value, [] if len(ids) == len(self._processes) else [_matcher(ids)]

    def _time_to_come_up(self, process: Process) -> float:
        """Seconds, with those for which it waits because of `startAfter`."""
        ids: Set[str] = set()
        ahead = [process.id]
        while ahead:
            present = ahead.pop()
            ids.add(present)
            ahead += [each for each in self._by_id[present].start_after if each not in ids]
        return longest_chain([self._by_id[each] for each in ids], time_to_start)

    def _orderly_gap(self, process: Process) -> float:
        """Seconds for which a restart, or a start of pupgevent, leaves a process without an
        instance that serves."""
        if process.cluster is None or process.cluster.instances == 1:
            return self._orderly_absence(process)
        return _whole_minutes(self._time_to_come_up(process) + _MARGIN)

    def _orderly_absence(self, process: Process) -> float:
        """Seconds for which these leave one of its instances out of rotation."""
        turn = time_to_stop(process) + time_to_start(process)
        return _whole_minutes(max(self._time_to_come_up(process), turn) + _MARGIN)

    # What they say

    def of_pupgevent(self) -> "Iterator[Rule]":
        stop = longest_chain(self._processes, time_to_stop)
        yield Rule(
            "PupgeventNotScraped", CRITICAL,
            self._series("up") + " == 0", max(_UNHEARD, stop + 2 * _MARGIN),
            "pupgevent at {{ $labels.instance }} cannot be scraped.",
            "It has ended or hangs, the network is down, or the token is another one. `pupgevent"
            " status` on that machine shows whether it runs.")
        yield Rule(
            "PupgeventTargetMissing", CRITICAL,
            "absent(%s)" % self._series("up"), 2 * _UNHEARD,
            "Prometheus does not scrape {{ $labels.job }}.",
            "prometheus.yml has no job of this name, or the job has no targets. None of the other"
            " alerts can fire.")
        yield Rule(
            "PupgeventBusy", WARNING,
            "rate(%s[5m]) > 0.9" % self._series("process_cpu_seconds_total"), 600,
            "pupgevent at {{ $labels.instance }} uses {{ $value | humanizePercentage }} of a CPU"
            " core.",
            "It balances on one core. When that is fully used, connections become slower.")
        yield Rule(
            "PupgeventDescriptors", WARNING,
            "%s\n  / %s > 0.8" % tuple(map(self._series, ("process_open_fds", "process_max_fds"))),
            300,
            "pupgevent at {{ $labels.instance }} has used {{ $value | humanizePercentage }} of its"
            " descriptors.",
            "Each connection takes at least two. When there are none left, clients wait. Raise"
            " LimitNOFILE= of its unit, or `ulimit -n`.")

    def of_processes(self) -> "Iterator[Rule]":
        for lasting, proxy in self._groups(
                lambda each: self._orderly_gap(each) if _is_service(each) else None):
            yield Rule(
                "PupgeventProcessDown", CRITICAL,
                "%s > 0\n  and %s == 0" % (
                    self._series("pupgevent_backend_wanted_servers", *proxy),
                    self._series("pupgevent_backend_active_servers", *proxy)), lasting,
                "{{ $labels.proxy }} is down.",
                "At {{ $labels.instance }} none of its instances serves; {{ $value }} should."
                " `pupgevent status {{ $labels.proxy }}` shows why.", duration(lasting))
        for lasting, proxy in self._groups(
                lambda each: self._orderly_absence(each) if each.cluster else None):
            yield Rule(
                "PupgeventInstanceDown", WARNING,
                "%s == 1\n  unless %s == 1\n"
                "  unless on (job, instance, proxy, server)\n    %s == 1\n"
                "  and on (job, instance, proxy)\n    %s > 0" % (
                    self._series("pupgevent_server_wanted", *proxy),
                    self._series("pupgevent_server_up", *proxy),
                    self._series("pupgevent_server_status", *proxy, _GIVEN_UP),
                    self._series("pupgevent_backend_active_servers", *proxy)), lasting,
                "{{ $labels.server }} should run and does not serve.",
                "Other instances of {{ $labels.proxy }} at {{ $labels.instance }} do. `pupgevent"
                " status {{ $labels.server }}` shows why.", duration(lasting))
        yield Rule(
            "PupgeventGivenUp", WARNING,
            "%s == 1" % self._series("pupgevent_server_status", _GIVEN_UP), 0,
            "{{ $labels.server }} was given up.",
            "At {{ $labels.instance }} this instance of {{ $labels.proxy }} is"
            " {{ $labels.state }}: pupgevent does not start it again, unless `cron` does."
            " `pupgevent status {{ $labels.server }}` shows why, and `pupgevent start"
            " {{ $labels.server }}` starts it.")

    def of_restarts(self) -> "Iterator[Rule]":
        for (most, window), proxy in self._groups(_restarts):
            yield Rule(
                "PupgeventRestarts", WARNING,
                "sum without (cause) (\n  increase(%s[%s])\n) >= %d" % (
                    self._series("pupgevent_server_restarts_total", *proxy, _FAILURES),
                    duration(window), most), 0,
                "{{ $labels.server }} is restarted again and again.",
                'At {{ $labels.instance }} this instance of {{ $labels.proxy }} has ended, or'
                ' failed to start, {{ $value | printf "%%.0f" }} times within %d minutes. If it'
                ' does so in a row, it is given up at its `restartLimit`, if it has one. `pupgevent'
                ' logs {{ $labels.server }}` shows its last lines.' % (window // 60),
                "%d in %s" % (most, duration(window)))

    def of_queues(self) -> "Iterator[Rule]":
        def queue(*proxy: str) -> str:
            return self._series("pupgevent_backend_current_queue", *proxy)

        for (half, lasting), proxy in self._groups(
                lambda each: (max(1, _queue_limit(each) // 2), self._orderly_gap(each))
                if _queue_limit(each) else None):
            yield Rule(
                "PupgeventQueueGrowing", WARNING,
                "%s >= %d" % (queue(*proxy), half), lasting,
                "{{ $value }} clients of {{ $labels.proxy }} wait for an instance.",
                "At {{ $labels.instance }} its queue is at least half full. Once it is full,"
                " further clients are turned away.", "%d for %s" % (half, duration(lasting)))
        for lasting, proxy in self._groups(
                lambda each: max(300, self._orderly_gap(each)) if _queue_limit(each) else None):
            yield Rule(
                "PupgeventClientsWaiting", WARNING,
                "min_over_time(%s[5m]) > 0" % queue(*proxy), lasting,
                "There are always clients of {{ $labels.proxy }} that wait.",
                "At {{ $labels.instance }} its queue is never empty: the instances cannot take as"
                " many clients as come. More instances may help, or a higher `maxConnections`.",
                duration(lasting))

    def of_connections(self) -> "Iterator[Rule]":
        # A client with a kept connection is turned away with one of its requests.
        clients: List[Tuple[str, List[str]]] = [("tcp", [])]
        if any(map(_has_http, self._processes)):
            clients = list(self._groups(_protocol))
        for protocol, proxy in clients:
            yield Rule(
                "PupgeventClientsTurnedAway", WARNING,
                "rate(%s[5m])\n  > 0.01 * rate(%s[5m])" % (
                    self._series("pupgevent_backend_turned_away_total", *proxy),
                    self._series(_CLIENTS[protocol], *proxy)), 0,
                "Clients of {{ $labels.proxy }} are turned away.",
                "At {{ $labels.instance }} it is more than one of a hundred: no instance could take"
                " them within `queueTimeoutMs`, or the queue was full.",
                "1 %% with %s" % protocol if len(clients) > 1 else "")
        yield Rule(
            "PupgeventConnectErrors", WARNING,
            "rate(%s[5m])\n  > 0.05 * rate(%s[5m])" % (
                self._series("pupgevent_server_connection_errors_total"),
                self._series("pupgevent_server_sessions_total")), 300,
            "{{ $labels.server }} does not accept connections.",
            "At {{ $labels.instance }} more than one of twenty attempts to connect to this instance"
            " of {{ $labels.proxy }} fails. Its clients are taken to other instances, if there are"
            " any.")

    def of_answers(self) -> "Iterator[Rule]":
        def answers(code: str) -> str:
            found = self._series("pupgevent_frontend_http_responses_total", code)
            return "sum without (code) (rate(%s[5m]))" % found

        yield Rule(
            "PupgeventServerErrors", WARNING,
            "%s\n  / %s > 0.05" % (answers('code="5xx"'), answers('code!="1xx"')), 300,
            "{{ $labels.proxy }} answers {{ $value | humanizePercentage }} of all requests with"
            " 5xx.",
            "At {{ $labels.instance }} more than one of twenty requests fails. `pupgevent describe"
            " {{ $labels.proxy }}` shows which instances give such answers, and how many pupgevent"
            " gave itself: because none could take a request, or one had ended before its answer.")

    def of_tls(self) -> "Iterator[Rule]":
        left = "%s - time()" % self._series("pupgevent_certificate_expiry_timestamp_seconds")
        yield Rule(
            "PupgeventCertificateExpires", WARNING,
            "%s < %d * 86400\n  and %s >= %d * 86400" % (left, _EXPIRES_SOON, left, _EXPIRES), 0,
            "The certificate of {{ $labels.name }} expires in {{ $value | humanizeDuration }}.",
            "Clients of {{ $labels.proxy }} at {{ $labels.instance }} get to see it. Has"
            " {{ $labels.cert }} been renewed? Then `pupgevent reload` makes it the one in use.",
            "%dd" % _EXPIRES_SOON)
        yield Rule(
            "PupgeventCertificateExpires", CRITICAL, "%s < %d * 86400" % (left, _EXPIRES), 0,
            "The certificate of {{ $labels.name }} expires within three days, or has expired.",
            "Clients of {{ $labels.proxy }} at {{ $labels.instance }} refuse it then. Renew"
            " {{ $labels.cert }}, and `pupgevent reload` makes it the one in use.",
            "%dd" % _EXPIRES)
        failed, others = (
            "sum without (result) (increase(%s[%s]))" % (
                self._series("pupgevent_frontend_tls_handshakes_total", matcher),
                duration(_FAILED_WINDOW))
            for matcher in ('result="failed"', 'result!="failed"'))
        yield Rule(
            "PupgeventHandshakesFail", WARNING,
            "%s >= %d\n  and %s > %s" % (failed, _MOST_FAILED, failed, others), 300,
            "Most TLS handshakes of {{ $labels.proxy }} fail.",
            'At {{ $labels.instance }} {{ $value | printf "%.0f" }} have failed within a quarter of'
            ' an hour: clients do not trust the certificate, have none of their own where'
            ' `clientCa` wants one, or speak no TLS, or an older one.')

    def of_memory(self) -> "Iterator[Rule]":
        for most, proxy in self._groups(lambda each: each.max_memory and each.max_memory * 9 // 10):
            yield Rule(
                "PupgeventMemoryNearLimit", INFO,
                "%s > %d" % (
                    self._series("pupgevent_server_resident_memory_bytes", *proxy), most), 900,
                "{{ $labels.server }} holds {{ $value | humanize1024 }}B of memory.",
                "At {{ $labels.instance }} this instance of {{ $labels.proxy }} is above nine"
                " tenths of its `maxMemory`. When it holds more than all of it, it is restarted.",
                str(most))
        for _, proxy in self._groups(lambda each: True if each.max_memory else None):
            yield Rule(
                "PupgeventMemoryRestarts", WARNING,
                "increase(%s[%s]) >= %d" % (
                    self._series("pupgevent_server_restarts_total", *proxy, 'cause="memory"'),
                    duration(_MEMORY_WINDOW), _MOST_MEMORY_RESTARTS), 0,
                "{{ $labels.server }} reaches its limit of memory again and again.",
                'At {{ $labels.instance }} this instance of {{ $labels.proxy }} was restarted'
                ' {{ $value | printf "%.0f" }} times within an hour: it leaks, or its `maxMemory`'
                ' is too low.')


def _matcher(ids: "Sequence[str]") -> str:
    if len(ids) == 1:
        return 'proxy="%s"' % ids[0]
    return 'proxy=~"%s"' % "|".join(each.replace(".", "[.]") for each in ids)


def _has_balancer(process: Process) -> bool:
    return _protocol(process) is not None


def _has_http(process: Process) -> bool:
    return _protocol(process) == "http"


def _has_tls(process: Process) -> bool:
    return process.cluster is not None and process.cluster.tls is not None and _has_balancer(
        process)


def _protocol(process: Process) -> Optional[str]:
    """Of its balancer; None: it has none."""
    cluster = process.cluster
    return None if cluster is None or cluster.common_port is None else cluster.protocol


def _queue_limit(process: Process) -> int:
    """0: nobody can wait."""
    if process.cluster is None or process.cluster.common_port is None:
        return 0
    return process.cluster.queue_limit


def _is_service(process: Process) -> bool:
    """It should always be there, once it is started. A single run that has failed is no outage."""
    return process.cluster is not None or process.restart != "never"


def _restarts(process: Process) -> "Optional[Tuple[int, float]]":
    """How many are too many, within how many seconds; None: there are none."""
    limit = process.restart_limit
    if process.restart == "never" or limit == 0:
        return None
    most = _MOST_RESTARTS if limit is None else max(2, min(_MOST_RESTARTS, limit))
    # A delay has up to 10 % of jitter.
    slowest = 1.1 * process.restart_max_delay + time_to_start(process)
    return most, _whole_minutes(max(_WINDOW, (most + 1) * slowest))


# Times


def _whole_minutes(seconds: float) -> float:
    """Rounded up, and no longer than it makes sense."""
    return min(60.0 * math.ceil(seconds / 60), _LONGEST)


def duration(seconds: float) -> str:
    """As Prometheus writes it, in minutes."""
    return "%dm" % (_whole_minutes(seconds) // 60)
