"""The metrics of a running pupgevent in Prometheus's text format, named as HAProxy's exporter does.

A record for each family of metrics says what it is and where its value comes from. `proxy` is the
id of a process, `server` the name of an instance. exposition.py writes the text.
"""

from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
    Union,
)

import exposition
import lifecycle
import status
from backends import Times
from exposition import COUNTER, GAUGE, HISTOGRAM, Family, Number, Value
from health_record import CHECKS
from instance_history import CAUSES
from procfs import OwnUsage
from status_report import (
    ANSWER_CLASSES,
    Answers,
    BackendHttp,
    BackendStatus,
    BalancerHttp,
    BalancerStatus,
    BalancerTls,
    CertificateStatus,
    HealthStatus,
    InstanceStatus,
    ProcessStatus,
    Status,
)


class Server(NamedTuple):
    """What families of instances are about."""

    status: InstanceStatus
    #: None without a common port.
    times: Optional[Times]


class Proxy(NamedTuple):
    """What families of processes are about."""

    status: ProcessStatus
    times: Optional[Times]


class Sources(NamedTuple):
    """All that the metrics come from."""

    status: Status
    #: None where it could not be had.
    own: Optional[OwnUsage]
    #: Of each process with a common port: of all its instances, and by their names.
    times: Mapping[str, Tuple[Times, Mapping[str, Times]]]
    #: By the names of the labels of `build_info`.
    versions: Mapping[str, str]


def _if_there(
    part: Callable[[Any], Any], read: Callable[[Any], Value]
) -> Callable[[Any], Value]:
    """What is read of a part, where the subject has it."""

    def value(subject: object) -> Value:
        found = part(subject)
        return None if found is None else read(found)

    return value


def _one_of(words: Iterable[str], present: str) -> Dict[str, Number]:
    return {word: word == present for word in words}


def _with_http(found: "Union[BalancerStatus, BackendStatus, None]") -> Any:
    """That record, where it is of http."""
    return None if found is None or found.http is None else found


def _by_class(answers: Answers) -> Dict[str, Number]:
    return dict(zip(ANSWER_CLASSES, answers))


# pupgevent itself: of a `Sources`. The names with `process_` are those of all of Prometheus's own
# client libraries.


def _own(read: Callable[[OwnUsage], Number]) -> Callable[["Sources"], Value]:
    return _if_there(lambda all: all.own, read)


_OWN = (
    Family("pupgevent_healthy", GAUGE, "1: everything that should run serves.",
           lambda all: all.status.healthy),
    Family("process_cpu_seconds_total", COUNTER, "CPU time of pupgevent itself.",
           _own(lambda own: own.cpu_time)),
    Family("process_resident_memory_bytes", GAUGE, "Resident memory of pupgevent itself.",
           _own(lambda own: own.memory)),
    Family("process_virtual_memory_bytes", GAUGE, "Virtual memory of pupgevent itself.",
           _own(lambda own: own.virtual_memory)),
    Family("process_start_time_seconds", GAUGE, "When pupgevent was started, in Unix time.",
           _own(lambda own: own.started_at)),
    Family("process_open_fds", GAUGE, "Descriptors that pupgevent has open.",
           _own(lambda own: own.descriptors)),
    Family("process_max_fds", GAUGE, "Descriptors that it may have open.",
           _own(lambda own: own.most_descriptors)),
)  # fmt: skip

# Each process: of a `Proxy`, with the label `proxy`


def _balancer(read: Callable[[BalancerStatus], Number]) -> Callable[[Proxy], Value]:
    return _if_there(lambda proxy: proxy.status.balancer, read)


def _balancer_http(read: Callable[[BalancerHttp], Value]) -> Callable[[Proxy], Value]:
    """Nothing with tcp."""
    return _if_there(lambda proxy: proxy.status.balancer and proxy.status.balancer.http, read)


def _balancer_tls(read: Callable[[BalancerTls], Value]) -> Callable[[Proxy], Value]:
    """Nothing without TLS."""
    return _if_there(lambda proxy: proxy.status.balancer and proxy.status.balancer.tls, read)


def _by_result(tls: BalancerTls) -> Dict[str, Number]:
    return dict(zip(HANDSHAKE_RESULTS, (
        tls.handshakes - tls.resumed, tls.resumed, tls.failed)))


#: What handshakes come to: without a session of before, with one, or to nothing.
HANDSHAKE_RESULTS = ("full", "resumed", "failed")

_PROXIES = (
    Family("pupgevent_backend_status", GAUGE, "1 for the state that the process is in.",
           lambda proxy: _one_of(status.PROCESS_STATES, proxy.status.state), "state"),
    Family("pupgevent_backend_healthy", GAUGE,
           "0: an instance fails, or none of a cluster that should run serves.",
           lambda proxy: proxy.status.healthy),
    Family("pupgevent_backend_servers", GAUGE, "Instances.",
           lambda proxy: proxy.status.instances),
    Family("pupgevent_backend_wanted_servers", GAUGE, "Instances that should run.",
           lambda proxy: proxy.status.wanted),
    Family("pupgevent_backend_active_servers", GAUGE, "Instances that serve.",
           lambda proxy: proxy.status.up),
    Family("pupgevent_frontend_connections_total", COUNTER,
           "Connections accepted at the common port.",
           _balancer(lambda balancer: balancer.accepted)),
    Family("pupgevent_frontend_current_sessions", GAUGE,
           "With http: open connections of clients, those without a request in flight included.",
           _balancer_http(lambda http: http.connections)),
    Family("pupgevent_frontend_http_responses_total", COUNTER,
           "Answers to clients by class: those of instances, and those that pupgevent gave itself.",
           _balancer_http(lambda http: _by_class(http.all_answers)), "code"),
    Family("pupgevent_frontend_tls_handshakes_total", COUNTER,
           "TLS handshakes that are over: full, resumed with a session of before, failed.",
           _balancer_tls(_by_result), "result"),
    Family("pupgevent_frontend_tls_handshakes_current", GAUGE, "TLS handshakes under way.",
           _balancer_tls(lambda tls: tls.under_way)),
    Family("pupgevent_backend_current_sessions", GAUGE,
           "Open connections; with http, requests in flight.",
           _balancer(lambda balancer: balancer.open)),
    Family("pupgevent_backend_sessions_total", COUNTER,
           "Connections brought to an instance; with http, requests.",
           _balancer(lambda balancer: balancer.total)),
    Family("pupgevent_backend_http_requests_total", COUNTER, "Requests brought to an instance.",
           _if_there(lambda proxy: _with_http(proxy.status.balancer),
                     lambda balancer: balancer.total)),
    Family("pupgevent_backend_http_responses_total", COUNTER, "Answers of instances by class.",
           _balancer_http(lambda http: _by_class(http.answers)), "code"),
    Family("pupgevent_backend_bytes_in_total", COUNTER, "Bytes from clients.",
           _balancer(lambda balancer: balancer.bytes_in)),
    Family("pupgevent_backend_bytes_out_total", COUNTER, "Bytes to clients.",
           _balancer(lambda balancer: balancer.bytes_out)),
    Family("pupgevent_backend_connection_errors_total", COUNTER,
           "Connects to instances that failed.",
           _balancer(lambda balancer: balancer.connect_errors)),
    Family("pupgevent_backend_retry_warnings_total", COUNTER,
           "Clients for whom another instance was looked for because of it.",
           _balancer(lambda balancer: balancer.retries)),
    Family("pupgevent_backend_current_queue", GAUGE, "Clients that wait for an instance.",
           _balancer(lambda balancer: balancer.queue)),
    Family("pupgevent_backend_max_queue", GAUGE, "The most that have waited at a time.",
           _balancer(lambda balancer: balancer.queue_most)),
    Family("pupgevent_backend_turned_away_total", COUNTER,
           "Clients turned away: the queue was full, or their time in it over.",
           _balancer(lambda balancer: balancer.turned_away)),
    Family("pupgevent_backend_connect_time_seconds", HISTOGRAM, "Times to connect to an instance.",
           lambda proxy: proxy.times and proxy.times.connect),
    Family("pupgevent_backend_first_byte_time_seconds", HISTOGRAM,
           "Times from a client's first byte to the first of the answer.",
           lambda proxy: proxy.times and proxy.times.first_byte),
    Family("pupgevent_backend_request_time_seconds", HISTOGRAM,
           "Times from a request's first byte until its answer has ended.",
           lambda proxy: proxy.times.request
           if proxy.times and _with_http(proxy.status.balancer) else None),
)  # fmt: skip

# Each instance: of a `Server`, with the labels `proxy` and `server`


def _backend(read: Callable[[Any], Value]) -> Callable[[Server], Value]:
    return _if_there(lambda server: server.status.backend, read)


def _backend_http(read: Callable[[BackendHttp], Value]) -> Callable[[Server], Value]:
    """Nothing with tcp."""
    return _if_there(lambda server: server.status.backend and server.status.backend.http, read)


def _health(read: Callable[[HealthStatus], Value]) -> Callable[[Server], Value]:
    """Nothing where its health is not checked."""
    return _if_there(lambda server: server.status.health, read)


_SERVERS = (
    Family("pupgevent_server_status", GAUGE, "1 for the state that the instance is in.",
           lambda server: _one_of(lifecycle.STATES, server.status.state), "state"),
    Family("pupgevent_server_wanted", GAUGE, "1: it should run.",
           lambda server: server.status.wanted),
    Family("pupgevent_server_up", GAUGE,
           "1: it runs, its balancer, where it has one, reaches it, and its health checks pass.",
           lambda server: server.status.serves),
    Family("pupgevent_server_uptime_seconds", GAUGE, "Since its child was started.",
           lambda server: server.status.uptime),
    Family("pupgevent_server_state_seconds", GAUGE, "Since it has come into its state.",
           lambda server: server.status.since),
    Family("pupgevent_server_restarts_total", COUNTER,
           "How often it was started again by itself, by what had ended the run before.",
           lambda server: server.status.restarts_by._asdict(), "cause"),
    Family("pupgevent_server_cpu_seconds_total", COUNTER,
           "CPU time of its child, with all that it has started.",
           lambda server: server.status.cpu_time),
    Family("pupgevent_server_resident_memory_bytes", GAUGE,
           "Resident memory of its child, with all that it has started.",
           lambda server: server.status.memory),
    Family("pupgevent_server_current_sessions", GAUGE,
           "Open connections; with http, requests in flight.",
           _backend(lambda backend: backend.open)),
    Family("pupgevent_server_sessions_total", COUNTER,
           "Connections brought to it; with http, requests.",
           _backend(lambda backend: backend.total)),
    Family("pupgevent_server_http_responses_total", COUNTER, "Its answers by class.",
           _backend_http(lambda http: _by_class(http.answers)), "code"),
    Family("pupgevent_server_idle_connections_current", GAUGE,
           "Connections to it that are kept for the next requests.",
           _backend_http(lambda http: http.idle)),
    Family("pupgevent_server_bytes_in_total", COUNTER, "Bytes from clients.",
           _backend(lambda backend: backend.bytes_in)),
    Family("pupgevent_server_bytes_out_total", COUNTER, "Bytes to clients.",
           _backend(lambda backend: backend.bytes_out)),
    Family("pupgevent_server_connection_errors_total", COUNTER, "Connects to it that failed.",
           _backend(lambda backend: backend.connect_errors)),
    Family("pupgevent_server_retry_warnings_total", COUNTER,
           "Clients for whom another one was looked for because of it.",
           _backend(lambda backend: backend.retries)),
    Family("pupgevent_server_check_up_down_total", COUNTER,
           "How often it went down though its child lived.",
           _backend(lambda backend: backend.downs)),
    Family("pupgevent_server_check_status", GAUGE,
           "1 for what its last health check came to: L4 is its connection, L7 its answer.",
           _health(lambda health: _one_of(CHECKS, health.check)), "state"),
    Family("pupgevent_server_check_duration_seconds", GAUGE, "What its last health check took.",
           _health(lambda health: health.duration)),
    Family("pupgevent_server_check_failures_total", COUNTER, "Its health checks that failed.",
           _health(lambda health: health.failures)),
    Family("pupgevent_server_connect_time_average_seconds", GAUGE,
           "Time to connect to it, smoothed.",
           _backend(lambda backend: backend.connect_time)),
    Family("pupgevent_server_response_time_average_seconds", GAUGE,
           "Time from a client's first byte to the first of the answer, smoothed.",
           _backend(lambda backend: backend.first_byte_time)),
    Family("pupgevent_server_connect_time_seconds", HISTOGRAM, "Times to connect to it.",
           lambda server: server.times and server.times.connect),
    Family("pupgevent_server_first_byte_time_seconds", HISTOGRAM,
           "Times from a client's first byte to the first of the answer.",
           lambda server: server.times and server.times.first_byte),
    Family("pupgevent_server_request_time_seconds", HISTOGRAM,
           "Times from a request's first byte until its answer has ended.",
           lambda server: server.times.request
           if server.times and _with_http(server.status.backend) else None),
)  # fmt: skip

# Each certificate of a cluster: of a `CertificateStatus`, with the labels `proxy`, `cert`, which is
# its file, and `name`, the first of those that it is for

_CERTIFICATES = (
    Family("pupgevent_certificate_expiry_timestamp_seconds", GAUGE,
           "When the certificate expires, in Unix time.", lambda certificate: certificate.expires),
)

_BUILD_INFO = Family(
    "pupgevent_build_info", GAUGE, "What it is made of; always 1.", lambda all: True)

#: The values of the labels that are a family's own.
LABEL_VALUES: Dict[str, Tuple[str, ...]] = {
    "cause": CAUSES, "code": ANSWER_CLASSES, "result": HANDSHAKE_RESULTS}


class Described(NamedTuple):
    """A family, for who writes queries."""

    type: str
    #: Without `le` of histograms.
    labels: Tuple[str, ...]


def described() -> Dict[str, Described]:
    """All families, by their names."""
    found = {_BUILD_INFO.name: Described(GAUGE, ("version", "python", "gevent"))}
    for families, labels in (
            (_OWN, ()), (_PROXIES, ("proxy",)), (_CERTIFICATES, ("proxy", "cert", "name")),
            (_SERVERS, ("proxy", "server"))):
        for family in families:
            own = (family.label,) if family.label else ()
            found[family.name] = Described(family.type, (*labels, *own))
    return found


def render(sources: Sources, slices: status.Slices) -> Iterator[str]:
    """The text, in many small parts; blocks the calling greenlet now and then, as `slices`
    does."""
    yield exposition.head_of(_BUILD_INFO) + "%s{%s} 1\n" % (
        _BUILD_INFO.name, exposition.labels_of(sources.versions.items()))
    for family in _OWN:
        yield from exposition.lines(family, [("", sources)], slices)
    proxies, servers = _subjects(sources, slices)
    for family in _PROXIES:
        yield from exposition.lines(family, proxies, slices)
    certificates = list(_certificates(sources.status))
    for family in _CERTIFICATES:
        yield from exposition.lines(family, certificates, slices)
    for family in _SERVERS:
        yield from exposition.lines(family, servers, slices)


def _subjects(
    sources: Sources, slices: status.Slices
) -> "Tuple[List[Tuple[str, Proxy]], List[Tuple[str, Server]]]":
    """What the families are about, each with its labels."""
    proxies: List[Tuple[str, Proxy]] = []
    servers: List[Tuple[str, Server]] = []
    for process in slices(sources.status.processes):
        of_all, by_name = sources.times.get(process.id, (None, {}))
        labels = exposition.labels_of([("proxy", process.id)])
        listens = process.balancer is not None
        proxies.append((labels, Proxy(process, of_all if listens else None)))
        for each in slices(process.members):
            times = by_name.get(each.id) if each.backend is not None else None
            own = exposition.labels_of([("proxy", process.id), ("server", each.id)])
            servers.append((own, Server(each, times)))
    return proxies, servers


def _certificates(found: Status) -> "Iterator[Tuple[str, CertificateStatus]]":
    """Those that clients get to see, each with its labels. A file counts once in a cluster."""
    for process in found.processes:
        tls = process.balancer and process.balancer.tls
        for cert, each in {each.cert: each for each in tls.certificates}.items() if tls else ():
            pairs = [("proxy", process.id), ("cert", cert), ("name", (*each.names, "")[0])]
            yield exposition.labels_of(pairs), each
