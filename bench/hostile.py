"""Hostile clients of the http mode: what do the others notice, and how much memory does each take?

`python -m bench.hostile`, from the project's folder. Somebody asks for a small answer each few
milliseconds, alone first, and then beside each kind of attack, which another process makes: through
pupgevent, NGINX and HAProxy in turn, each of which has just been started. Told are p50 and p99 of
what that somebody waited, and by how much the balancer's memory grew for each connection of the
attack. An attack that sends as fast as it can takes its share of the machine, too, and the servers
behind have to answer it: what is the balancer's own fault shows beside the others.
"""

import argparse
import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Sequence, Type

from bench.__main__ import number, say, some_of
from bench.attacks import ATTACKS, attack_for_ever
from bench.load import answer
from bench.processes import PATIENCE, Ports, interrupts, memory_bytes, raise_descriptor_limit
from bench.report import markdown
from bench.servers import (
    Balancer,
    HAProxyHTTP,
    NginxHTTP,
    PupgeventHTTP,
    Site,
    Stage,
    default_pupgevent,
    start,
)
from bench.tools import BenchError, find_tools

#: Seconds between two requests of who is not hostile.
EVERY = 0.005

#: Seconds from the beginning of an attack to the first look at what others notice.
SETTLING = 1.0

#: Of so many connections of an attack each one's memory can be told from what varies anyway.
MANY = 100

WAYS: Dict[str, Type[Balancer]] = {
    each.name: each for each in (PupgeventHTTP, NginxHTTP, HAProxyHTTP)}


class Figures(NamedTuple):
    """Milliseconds that somebody else waited for an answer, and bytes for each attacker."""

    p50: float
    p99: float
    memory: float


def waits(port: int, seconds: float) -> Iterator[float]:
    """Seconds for each of many answers, on one connection, and now and then on a new one."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            for _ in range(20):
                began = time.monotonic()
                if not answer(client):
                    raise BenchError("who is not hostile got no answer")
                yield time.monotonic() - began
                time.sleep(EVERY)


@contextlib.contextmanager
def attacked(port: int, name: str) -> Iterator[None]:
    """By all connections of that attack, the whole time."""
    with contextlib.ExitStack() as ending:
        with interrupts.postponed():
            process = ending.enter_context(subprocess.Popen(
                [sys.executable, "-m", "bench.hostile", "--make", name, "--port", str(port)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True))
            ending.callback(process.kill)
        assert process.stdout is not None
        if not process.stdout.readline():
            raise BenchError("the attack has ended: %s" % name)
        yield


def measure(way: Balancer, name: str, seconds: float) -> Figures:
    list(waits(way.port, EVERY))  # what a first request takes is none of the attack's
    before = memory_bytes(way.worker)
    with attacked(way.port, name):
        time.sleep(SETTLING)
        times = sorted(waits(way.port, seconds))
        grown = memory_bytes(way.worker) - before
    return Figures(times[len(times) // 2] * 1e3, times[len(times) * 99 // 100] * 1e3,
                   grown / max(1, ATTACKS[name].connections))


def cells(stage: Stage, name: str, kind: Type[Balancer], seconds: float) -> List[str]:
    """Of the table: what that attack does to who goes that way."""
    count = ATTACKS[name].connections
    if count > kind.most_connections:
        return ["", ""]
    say("%s: %s" % (name, kind.title))
    way = stage.fresh(kind)
    assert isinstance(way, Balancer)
    with contextlib.ExitStack() as ending:
        start(way, ending)
        try:
            each = measure(way, name, seconds)
        except (BenchError, OSError) as error:
            return [str(error), ""]
    memory = "%.1f" % (each.memory / 1024) if count >= MANY else ""
    return ["%.2f, %.1f" % (each.p50, each.p99), memory]


def report(stage: Stage, options: argparse.Namespace) -> str:
    kinds = [WAYS[name] for name in options.only]
    head = ["beside", "connections"]
    for kind in kinds:
        head += ["%s: p50, p99 ms" % kind.title, "KB each"]
    rows = [head]
    for name in options.attack or ATTACKS:
        count = ATTACKS[name].connections
        row = [name, format(count, ",") if count else ""]
        for kind in kinds:
            row += cells(stage, name, kind, options.seconds)
        rows.append(row)
    return markdown(rows)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description=__doc__)
    parser.add_argument("--seconds", type=number(float), default=5.0, metavar="S",
                        help="seconds of each attack (5)")
    parser.add_argument("--attack", action="append", choices=list(ATTACKS), metavar="ATTACK",
                        help="only this one; may be given again. One of: " + "; ".join(ATTACKS))
    parser.add_argument("--only", type=some_of(WAYS), default=list(WAYS), metavar="WAY,...",
                        help="of " + ", ".join(WAYS))
    #: What `attacked` starts.
    parser.add_argument("--make", choices=list(ATTACKS), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    options = parse(argv)
    if options.make:
        attack_for_ever(options.port, ATTACKS[options.make])
    interrupts.begin()
    try:
        raise_descriptor_limit()
        with tempfile.TemporaryDirectory(prefix="pupgevent-hostile-") as folder:
            site = Site(Path(folder), find_tools(default_pupgevent(), options.only), Ports())
            site.write_answers()
            with Stage(site, []) as stage:
                print(report(stage, options))
    except (BenchError, OSError) as error:
        print("bench: %s" % error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
