"""What does a rolling restart cost clients that never pause, by application?

`python -m bench.restarts`, from the project's folder. Four instances answer 64 clients, each of
which keeps its connection and asks for an answer of 0.3 s all the time, while `pupgevent restart`
runs. Told are how long it took, how many requests were answered, and how many were lost. Lost is
each one without its whole answer with status 200, also where a browser would have asked again.
What the restart takes without any client is the application's own: its end and its start.
With `--protocol tcp` the balancer reads no HTTP.
"""

import argparse
import collections
import contextlib
import http.client
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from bench.__main__ import number, say, some_of
from bench.applications import APPLICATIONS, ENVIRONMENT, FOLDER, Application
from bench.processes import PATIENCE, Ports, Process, interrupts, until
from bench.report import markdown
from bench.servers import INSTANCES, default_pupgevent
from bench.tools import BenchError

CLIENTS = 64
#: Answers that each client gets before the restart, and after it.
QUIET = 2
#: Seconds for a restart: with tcp an instance that dies late takes its grace and its time-out.
RESTART = 600.0

#: Seconds that an answer takes.
SLOW = 0.3

#: The bars: seconds for all instances, requests lost.
SECONDS, LOST = 4.0, 0

CONFIGURATION = """\
[[processes]]
id = "app"
cmd = %(cmd)s
cwd = %(cwd)s
autostart = true

[processes.cluster]
instances = %(instances)d
commonHost = "127.0.0.1"
commonPort = %(common)d
startPort = %(start)d
%(more)s
"""


class Clients:
    """They ask until the end of the context, and keep their connections as long as these last."""

    def __init__(self, port: int, count: int) -> None:
        self.port = port
        self.answered = [0] * count
        #: What happened in place of an answer.
        self.lost: List[str] = []
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.live, args=(place,)) for place in range(count)]

    def __enter__(self) -> "Clients":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def live(self, place: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        while not self.ended.is_set():
            try:
                ask(connection)
                self.answered[place] += 1
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self.lost.append(repr(error))
                self.ended.wait(0.1)
        connection.close()

    def all_have(self, more: Sequence[int]) -> bool:
        return all(now >= least for now, least in zip(self.answered, more))

    def wait_for_answers(self) -> None:
        least = [count + QUIET for count in self.answered]
        until(lambda: self.all_have(least), "answers for all clients", interval=0.02)


def ask(connection: http.client.HTTPConnection) -> None:
    """One request; raises where it has not got its whole answer.

    http.client opens a new connection where the last answer has announced that it was the last.
    """
    connection.request("GET", "/slow")
    response = connection.getresponse()
    body = response.read()
    if response.status != 200 or not body.startswith(b"hello from "):
        raise http.client.HTTPException("%d %s" % (response.status, response.reason))


class Round(NamedTuple):
    #: Seconds of `pupgevent restart` without clients, and with them.
    alone: float
    seconds: float
    answered: int
    lost: List[str]


class Restarted:
    """A pupgevent with four instances of an application."""

    def __init__(self, pupgevent: Sequence[str], application: Application, command: str,
                 protocol: str, folder: Path, ports: Ports) -> None:
        self.pupgevent, self.name = list(pupgevent), application.name
        self.folder = folder
        self.config = folder / ("%s.toml" % application.name)
        self.backends = ports.take(INSTANCES)
        self.common, = ports.take(1)
        # An earlier version, which --pupgevent may name, does not know the key.
        more = application.cluster + ('protocol = "http"\n' if protocol == "http" else "")
        self.config.write_text(CONFIGURATION % {
            "cmd": json.dumps(command), "cwd": json.dumps(str(FOLDER)), "instances": INSTANCES,
            "common": self.common, "start": self.backends[0], "more": more})

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with contextlib.ExitStack() as ending:
            with interrupts.postponed():
                process = Process([*self.pupgevent, str(self.config)], self.folder,
                                  "%s.log" % self.name, ENVIRONMENT)
                ending.callback(process.stop)

            def serves() -> bool:
                process.check()
                return self.command("status").returncode == 0

            until(serves, "all instances of %s are up" % self.name, interval=0.1)
            yield

    def restart(self) -> float:
        """Returns how many seconds it took."""
        begin = time.monotonic()
        done = self.command("restart")
        if done.returncode:
            raise BenchError("pupgevent restart has ended with %d: %s" % (
                done.returncode, (done.stderr.strip().splitlines() or [""])[-1]))
        return time.monotonic() - begin

    def command(self, word: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*self.pupgevent, word, str(self.config)], check=False,
                              timeout=RESTART, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True)

    def one_round(self, clients: int) -> Round:
        alone = self.restart()
        with Clients(self.common, clients) as asking:
            asking.wait_for_answers()
            seconds = self.restart()
            asking.wait_for_answers()
        return Round(alone, seconds, sum(asking.answered), asking.lost)


def measure(options: argparse.Namespace) -> Iterator[Tuple[str, Round]]:
    """The rounds of each application that can run here, by its name."""
    ports = Ports()
    with tempfile.TemporaryDirectory(prefix="pupgevent-restarts-") as folder:
        for application in map(APPLICATIONS.__getitem__, options.applications):
            command = application.command()
            if command is None:
                say("%s is left out: it is not installed" % application.title)
                continue
            place = Restarted(options.pupgevent, application, command, options.protocol,
                              Path(folder), ports)
            with place.running():
                for turn in range(options.rounds):
                    say("%s: round %d of %d" % (application.title, turn + 1, options.rounds))
                    yield application.name, place.one_round(options.clients)


def report(measured: Dict[str, List[Round]], protocol: str) -> str:
    rows = [["application", "protocol", "without clients", "restart", "answered", "lost"]]
    for name, rounds in measured.items():
        alone = statistics.median(each.alone for each in rounds)
        seconds = statistics.median(each.seconds for each in rounds)
        lost = sum(len(each.lost) for each in rounds)
        rows.append([
            APPLICATIONS[name].title, protocol, "%.1f s" % alone,
            "%.1f s%s" % (seconds, limit_text(alone, seconds)),
            format(sum(each.answered for each in rounds), ","),
            "%d%s" % (lost, " missed" if lost > LOST else "")])
    reasons = [reasons_of(name, rounds) for name, rounds in measured.items()]
    return "\n\n".join([markdown(rows), *filter(None, reasons)])


def limit_text(alone: float, seconds: float) -> str:
    """Empty where the application's own time leaves too little for an answer of each instance."""
    if alone + INSTANCES * SLOW > SECONDS:
        return ""
    return " (≤ %g%s)" % (SECONDS, " missed" if seconds > SECONDS else "")


def reasons_of(name: str, rounds: Sequence[Round]) -> str:
    """What happened in place of the answers that are missing; empty where none is."""
    counted = collections.Counter(reason for each in rounds for reason in each.lost)
    return "\n".join("%s, lost: %d times %s" % (APPLICATIONS[name].title, count, reason)
                     for reason, count in counted.most_common())


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.restarts", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=number(int), default=1, metavar="N",
                        help="restarts of each application (1)")
    parser.add_argument("--clients", type=number(int), default=CLIENTS, metavar="N",
                        help="clients that ask all the time (%d)" % CLIENTS)
    parser.add_argument("--applications", type=some_of(APPLICATIONS), default=list(APPLICATIONS),
                        metavar="NAME,...", help="of " + ", ".join(APPLICATIONS))
    parser.add_argument("--protocol", choices=["tcp", "http"], default="http",
                        help="what the balancer speaks (http)")
    parser.add_argument("--pupgevent", type=shlex.split, default=default_pupgevent(),
                        metavar="COMMAND", help="the command to measure (the one beside python)")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    options = parse(argv)
    interrupts.begin()
    measured: Dict[str, List[Round]] = {}
    code = 0
    try:
        for name, each in measure(options):
            measured.setdefault(name, []).append(each)
    except (BenchError, OSError, subprocess.TimeoutExpired) as error:
        print("bench: %s" % error, file=sys.stderr)
        code = 1
    if measured:
        print(report(measured, options.protocol))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
