"""What is measured: a table of cases, and how each gets one sample of one way in one round."""

import contextlib
import functools
import time
from typing import Callable, Dict, List, NamedTuple, Sequence, Type

from bench import handshakes
from bench.load import Load, drive, first_answer, held
from bench.processes import Process, cpu_seconds, interrupts, memory_bytes
from bench.servers import FILES, TITLES, WAYS, Direct, Pupgevent, Site, Stage, Way
from bench.tools import BenchError

#: Seconds without one answer after which none is expected.
PATIENCE = 10.0

#: Figures by name, in requests per second, seconds and bytes:
#: rate, cpu (the balancer's own per request), p50, p99, errors; memory (per connection); start.
Sample = Dict[str, float]


class Effort(NamedTuple):
    """What one sample takes."""

    #: Of load.
    seconds: float = 3.0
    #: Idle connections, as many as the bar of `memory` is told for.
    held: int = 3000


def measure_load(load: Load, stage: Stage, kind: Type[Way], effort: Effort) -> Sample:
    """What wrk sees, and what the balancer's worker spends on it."""
    way, seconds = stage.ways[kind], effort.seconds
    before = own_cpu(way)
    figures = drive(stage.site.tools.wrk, load, way.ports, seconds, way.encrypted)
    if not figures["requests"] and seconds < PATIENCE:
        # A busy machine: 1500 connections may take this long.
        return measure_load(load, stage, kind, effort._replace(seconds=seconds * 5))
    if not figures["requests"]:
        raise BenchError("no answer from %s within %g s" % (way.title, seconds))
    return sample_of(figures, own_cpu(way) - before)


def measure_handshakes(handshake: str, stage: Stage, kind: Type[Way], effort: Effort) -> Sample:
    """A connection per request, full or resumed."""
    way = stage.ways[kind]
    before = own_cpu(way)
    try:
        figures = handshakes.drive(way.ports[0], handshake, effort.seconds)
    except BenchError as error:
        raise BenchError("%s, %s handshakes: %s" % (way.title, handshake, error)) from error
    return sample_of(figures, own_cpu(way) - before)


def sample_of(figures: Dict[str, float], spent: float) -> Sample:
    """`figures` as wrk gives them; `spent` is CPU time of the balancer, 0 without one."""
    requests = figures["requests"]
    sample = {"rate": requests / figures["duration"] * 1e6, "errors": figures["errors"],
              "p50": figures["p50"] / 1e6, "p99": figures["p99"] / 1e6}
    if spent:
        sample["cpu"] = spent / requests
    return sample


def own_cpu(way: Way) -> float:
    return 0.0 if isinstance(way, Direct) else cpu_seconds(way.worker)


def measure_memory(stage: Stage, kind: Type[Way], effort: Effort) -> Sample:
    """What a fresh process grows by for each of its first connections."""
    way = stage.fresh(kind)
    try:
        way.start()
        way.ready()
        before = memory_bytes(way.worker)
        with held(way.ports[0], effort.held, way.encrypted):
            return {"memory": (memory_bytes(way.worker) - before) / effort.held}
    finally:
        way.stop()


def measure_start(stage: Stage, kind: Type[Way], effort: Effort) -> Sample:
    """From the command to the first answer through the common port, in seconds.

    NGINX and HAProxy find the web servers running; of pupgevent's time that of a web server alone
    is taken off.
    """
    brings_its_own = issubclass(kind, Pupgevent)
    own = start_of_application(stage.site) if brings_its_own else 0.0
    way = stage.fresh(kind)
    try:
        begin = time.monotonic()
        way.start()
        taken = first_answer(way.ports[0]) - begin
    finally:
        way.stop()
    return {"start": taken - own}


def start_of_application(site: Site) -> float:
    ports = site.ports.take(1)
    words = ["/bin/sh", "-c", site.web_server(ports)]
    begin = time.monotonic()
    with contextlib.ExitStack() as ending:
        with interrupts.postponed():
            process = Process(words, site.folder, "web-%d.log" % ports[0],
                              {"PUP_CLUSTER_PORT": str(ports[0])})
            ending.callback(process.stop)
        return first_answer(ports[0]) - begin


class Case(NamedTuple):
    """`name` for the command line, `title` for the table of its protocol."""

    name: str
    title: str
    measure: Callable[[Stage, Type[Way], Effort], Sample]
    #: Who can be measured.
    ways: Sequence[str]
    protocol: str = "tcp"

    @property
    def full_title(self) -> str:
        """Where no heading says which protocol it is."""
        return self.title if self.protocol == "tcp" else "%s, %s" % (
            self.protocol.upper(), self.title)

    def kinds(self, names: Sequence[str]) -> List[Type[Way]]:
        """Those of these ways that can be measured."""
        return [WAYS[self.protocol][name] for name in self.ways if name in names]


def under_load(name: str, title: str, load: Load) -> Case:
    return Case(name, title, functools.partial(measure_load, load), list(TITLES))


def connecting(name: str, title: str, handshake: str) -> Case:
    return Case(name, title, functools.partial(measure_handshakes, handshake), BALANCERS)


def over(protocol: str, cases: Sequence[Case]) -> List[Case]:
    """The same with the ways of another protocol."""
    return [case._replace(name="%s-%s" % (protocol, case.name), protocol=protocol,
                          ways=[name for name in case.ways if name in WAYS[protocol]])
            for case in cases]


BALANCERS = [name for name in TITLES if name != Direct.name]
#: In both protocols.
BOTH = (
    under_load("keep-alive-1", "keep-alive, 1 connection", Load(1)),
    under_load("keep-alive-64", "keep-alive, 64 connections", Load(64)),
    under_load("keep-alive-1500", "keep-alive, 1500 connections", Load(1500)),
    under_load("close", "a connection per request", Load(64, keep_alive=False)),
    under_load("100k", "100 KB answers", Load(64, "/100k")),
    under_load("10m", "10 MB answers", Load(8, "/10m")),
    under_load("upload", "10 MB uploads", Load(8, "/upload", upload=FILES["10m"])),
    Case("memory", "memory per idle connection", measure_memory, BALANCERS),
)
#: With TLS from the clients, in both protocols: what it changes.
ENCRYPTED = (
    *(case for case in BOTH if case.name in ("keep-alive-64", "100k", "10m")),
    connecting("handshake", "a connection per request, full handshake", handshakes.FULL),
    connecting("resumed", "a connection per request, resumed", handshakes.RESUMED),
    connecting("resumed-1.2", "a connection per request, resumed, TLS 1.2", handshakes.RESUMED_12),
    *(case for case in BOTH if case.name == "memory"),
)
START = Case("start", "start-up beyond the application's own", measure_start, BALANCERS)
#: In the order of the tables.
CASES = {case.name: case for case in (
    *BOTH, START, *over("http", BOTH), *over("tls", ENCRYPTED), *over("https", ENCRYPTED))}
#: The names of the cases of each protocol.
BY_PROTOCOL = {protocol: [case.name for case in CASES.values() if case.protocol == protocol]
               for protocol in WAYS}
