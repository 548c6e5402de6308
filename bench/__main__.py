"""The command line of the bench: `python -m bench --help`, from the project's folder."""

import argparse
import datetime
import json
import os
import platform
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Set

from bench import picture, report
from bench.cases import BY_PROTOCOL, CASES, Case, Effort
from bench.processes import Ports, interrupts, raise_descriptor_limit
from bench.servers import TITLES, Earlier, Site, Stage, default_pupgevent, protocol_of
from bench.tools import BenchError, Tools, find_tools, versions


def main(argv: Sequence[str]) -> int:
    options = parse(argv)
    interrupts.begin()
    try:
        if options.picture:
            picture.require()
        result = bench(options)
        print(report.as_text(result))
        write_json(result, options.json)
        if options.picture:
            picture.draw(result, options.picture)
    except (BenchError, OSError) as error:
        print("bench: %s" % error, file=sys.stderr)
        return 1
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure pupgevent beside NGINX, HAProxy and a "
        "direct connection, in TCP and in HTTP, with TLS and without, one worker each, over the "
        "same web servers.")
    parser.add_argument("--rounds", type=number(int), default=5, metavar="N",
                        help="rounds of each case, each with all in turn (5)")
    usual = Effort()
    parser.add_argument("--seconds", type=number(float), default=usual.seconds, metavar="S",
                        help="seconds of load per case, round and way (%(default)g)")
    parser.add_argument("--held", type=number(int), default=usual.held, metavar="N",
                        help="idle connections over which memory is measured (%(default)d)")
    parser.add_argument("--cases", type=some_of(CASES, BY_PROTOCOL), default=list(CASES),
                        metavar="CASE,...", help="of %s; or all of a protocol: %s" % (
                            ", ".join(CASES), ", ".join(BY_PROTOCOL)))
    parser.add_argument("--only", type=some_of(TITLES), default=list(TITLES), metavar="WAY,...",
                        help="of " + ", ".join(TITLES))
    parser.add_argument("--against", type=shlex.split, default=[], metavar="COMMAND",
                        help="another pupgevent to measure beside it: the way `earlier`")
    parser.add_argument("--json", type=Path, default=Path("bench/results/bench.json"),
                        metavar="FILE", help="where to write all figures (%(default)s)")
    parser.add_argument("--picture", type=Path, metavar="FILE",
                        help="draw them: an .svg or .png; needs matplotlib")
    parser.add_argument("--pupgevent", type=shlex.split, default=default_pupgevent(),
                        metavar="COMMAND", help="the command to measure (the one beside python)")
    options = parser.parse_args(argv)
    if not options.against:
        options.only = [name for name in options.only if name != Earlier.name]
    return options


def number(kind: Callable[[str], float]) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = kind(text)
        if not 0 < value <= 3600:
            raise argparse.ArgumentTypeError("%s is not between 0 and 3600" % text)
        return value
    read.__name__ = "number"  # what argparse calls it in its message
    return read


def some_of(known: Iterable[str], groups: Optional[Dict[str, List[str]]] = None,
            ) -> Callable[[str], List[str]]:
    """A list with commas of known names, or of groups of them."""
    groups = groups or {}

    def read(text: str) -> List[str]:
        names: Set[str] = set()
        for name in text.split(","):
            if name not in known and name not in groups:
                raise argparse.ArgumentTypeError(
                    "%r is not one of %s" % (name, ", ".join([*known, *groups])))
            names.update(groups.get(name, [name]))
        return [name for name in known if name in names]
    return read


def bench(options: argparse.Namespace) -> Dict[str, Any]:
    cases = [CASES[name] for name in options.cases]
    kinds = list(dict.fromkeys(kind for case in cases for kind in case.kinds(options.only)))
    if not kinds:
        raise BenchError("nothing is left of --cases with --only")
    tools = find_tools(options.pupgevent, options.only, options.against)
    raise_descriptor_limit()
    with tempfile.TemporaryDirectory(prefix="pupgevent-bench-") as folder:
        site = Site(Path(folder), tools, Ports())
        site.write_answers()
        with Stage(site, kinds) as stage:
            for kind, refusal in stage.refusals.items():
                say("%s is left out of the %s cases: %s" % (
                    kind.title, protocol_of(kind).upper(), refusal))
            context = described(tools, stage, options)
            measured = measure(stage, cases, options)
    return dict(context, cases=report.summary(measured))


def described(tools: Tools, stage: Stage, options: argparse.Namespace) -> Dict[str, Any]:
    return {
        "at": datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        "versions": dict(stage.pupgevent.describe(), **versions(tools)),
        "cpus": len(os.sched_getaffinity(0)), "kernel": "Linux " + platform.release(),
        "machine": platform.machine(), "tls": stage.agreed(),
        "rounds": options.rounds, "seconds": options.seconds, "held": options.held,
        "units": {"rate": "requests/s", "cpu": "s per request", "p50": "s", "p99": "s",
                  "memory": "bytes per connection", "start": "s"},
    }


def measure(stage: Stage, cases: Sequence[Case], options: argparse.Namespace) -> report.Measured:
    """Round by round, each beginning with another way, so that none is always the first."""
    measured: report.Measured = {}
    effort = Effort(options.seconds, options.held)
    for case in cases:
        kinds = [kind for kind in case.kinds(options.only) if kind in stage.ways]
        if kinds:
            measured[case.name] = {kind.name: [] for kind in kinds}
        for turn in range(options.rounds if kinds else 0):
            say("%s: round %d of %d" % (case.full_title, turn + 1, options.rounds))
            first = turn % len(kinds)
            for kind in kinds[first:] + kinds[:first]:
                sample = case.measure(stage, kind, effort)
                measured[case.name][kind.name].append(sample)
    return measured


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def write_json(result: Dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
