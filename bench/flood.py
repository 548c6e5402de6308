"""A process floods its log file: what do the clients of another one notice?

`python -m bench.flood`, from the project's folder. Each round is quiet first, then with a flood,
which offers 100 MB of numbered lines a second, into a log file that is rotated. Told are the
clients' p99 in both, their ratio, the memory of pupgevent, and whether each line is in the files,
whole and once.
"""

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Sequence

from bench.load import Load, drive
from bench.processes import Ports, interrupts, memory_bytes, raise_descriptor_limit, until
from bench.servers import Pupgevent, Site, default_pupgevent
from bench.tools import BenchError, find_tools

#: Bytes a second that are offered, and of a line.
OFFERED, LINE = 100_000_000, 100

FLOOD = """\
import sys, time
seconds, told = float(sys.argv[1]), sys.argv[2]
began, number = time.monotonic(), 0
while time.monotonic() - began < seconds:
    last = number + %(block)d
    sys.stdout.write("".join("%%0%(digits)dd\\n" %% each for each in range(number, last)))
    number = last
    time.sleep(max(0.0, began + number / %(rate)d - time.monotonic()))
sys.stdout.flush()
with open(told, "w") as file:
    file.write(str(number))
""" % {"block": 1000, "digits": LINE - 1, "rate": OFFERED // LINE}

PROCESS = """
[[processes]]
id = "flood"
cmd = %(cmd)s
autostart = false
minUptimeMs = 0

[processes.logger]
console = false
stdout = "flood.log"
maxBytes = "50M"
backups = 1000
"""


class Flooded(Pupgevent):
    """pupgevent with a process more, that floods once it is started."""

    seconds = 10.0

    def command(self) -> List[str]:
        words = super().command()
        self.config = self.site.folder / words[-1]
        script = self.site.write("flood.py", FLOOD)
        cmd = [sys.executable, script, str(self.seconds), "flood.told"]
        self.config.write_text(self.config.read_text() + PROCESS % {"cmd": json.dumps(cmd)})
        return words

    def flood(self) -> None:
        subprocess.run([*self.program, "start", str(self.config), "flood"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def written(self) -> Iterator[bytes]:
        """The lines in the files, the oldest first."""
        backups = self.site.folder.glob("flood.log.*")
        for path in [*sorted(backups, key=number_of, reverse=True), self.site.folder / "flood.log"]:
            with path.open("rb") as file:
                yield from file
            path.unlink()


def number_of(backup: Path) -> int:
    return int(backup.suffix[1:])


class Round(NamedTuple):
    quiet: Dict[str, float]
    flooded: Dict[str, float]
    #: Bytes of pupgevent after the flood, and of lines that it has taken in.
    memory: int
    lines: int


def one_round(way: Flooded, load: Load, seconds: float) -> Round:
    wrk, told = way.site.tools.wrk, way.site.folder / "flood.told"
    quiet = drive(wrk, load, way.ports, seconds)
    way.flood()
    flooded = drive(wrk, load, way.ports, seconds)
    until(told.exists, "the end of the flood")
    count = int(until(told.read_text, "how many lines it had"))
    told.unlink()
    memory = memory_bytes(way.worker)
    until(lambda: size_of(way) == count * LINE, "all lines are in the files")
    for number, line in zip(itertools.count(), way.written()):
        if line != b"%0*d\n" % (LINE - 1, number):
            raise BenchError("line %d is %r" % (number, line[:120]))
    os.kill(way.worker, signal.SIGUSR1)  # the files are gone
    return Round(quiet, flooded, memory, count)


def size_of(way: Flooded) -> int:
    return sum(path.stat().st_size for path in way.site.folder.glob("flood.log*"))


def report(rounds: Sequence[Round]) -> str:
    def p99(some: Sequence[Dict[str, float]]) -> float:
        return statistics.median(each["p99"] for each in some) / 1e3

    quiet, flooded = p99([each.quiet for each in rounds]), p99([each.flooded for each in rounds])
    return "\n".join([
        "p99 of others: %.2f ms quiet, %.2f ms beside the flood: %.2f times" % (
            quiet, flooded, flooded / quiet),
        "requests: %.0f, and %.0f beside the flood" % tuple(
            statistics.median(each["requests"] for each in some)
            for some in ([each.quiet for each in rounds], [each.flooded for each in rounds])),
        "memory of pupgevent: %.0f MB at most" % (max(each.memory for each in rounds) / 1e6),
        "lines: %d, all of them in the files, whole and in order" % sum(
            each.lines for each in rounds),
    ])


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.flood", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args(argv)
    interrupts.begin()
    raise_descriptor_limit()
    Flooded.seconds = options.seconds
    rounds: List[Round] = []
    with tempfile.TemporaryDirectory(prefix="pupgevent-flood-") as folder:
        site = Site(Path(folder), find_tools(default_pupgevent(), []), Ports())
        site.write_answers()
        way = Flooded(site)
        try:
            way.start()
            way.ready()
            for _ in range(options.rounds):
                rounds.append(one_round(way, Load(options.connections), options.seconds))
                time.sleep(1.0)
        except BenchError as error:
            print("bench: %s" % error, file=sys.stderr)
            return 1
        finally:
            way.stop()
    print(report(rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
