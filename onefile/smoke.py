"""Run the single file's main job with every Python that is installed here.

    python -m onefile.smoke FILE [PYTHON...]

For each: the file alone in an empty folder, a home of its own, four instances behind a port,
forty requests, ten to each; an instance is killed and nobody notices; stop, exit code 0. A line
for each, and exit code 1 when one fails, or when there is none.
"""

import argparse
import collections
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, cast

VERSIONS = ["3.%d" % minor for minor in range(6, 15)]
PATIENCE = 30.0
INSTANCES = 4
APPLICATION = """\
import http.server, json, os, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"instance": os.environ["PUP_CLUSTER_INSTANCE"], "pid": os.getpid(),
                           "python": sys.executable, "environment": dict(os.environ)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

address = ("127.0.0.1", int(os.environ["PUP_CLUSTER_PORT"]))
http.server.HTTPServer(address, Handler).serve_forever()
"""
CONFIGURATION = """\
[[processes]]
id = "app"
cmd = ["%s", "server.py"]
autostart = true

[processes.cluster]
instances = %d
commonPort = %d
commonHost = "127.0.0.1"
startPort = %d
"""


class Trial:
    """One Python and one folder."""

    def __init__(self, file: Path, python: str, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "pupgevent"
        shutil.copy2(str(file), str(self.file))
        self.environment = {
            name: value for name, value in os.environ.items()
            if not name.startswith(("PUPGEVENT", "PYTHON", "XDG", "PEX", "VIRTUAL_ENV"))}
        self.environment.update(HOME=str(folder), PUPGEVENT_PYTHON=python)
        self.port = free_ports(INSTANCES + 1)
        (folder / "server.py").write_text(APPLICATION)
        (folder / "app.toml").write_text(
            CONFIGURATION % (python, INSTANCES, self.port, self.port + 1))

    def version(self) -> "tuple[str, float]":
        """What --version says, and after how many seconds."""
        began = time.monotonic()
        told = subprocess.run([str(self.file), "--version"], check=False, env=self.environment,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=PATIENCE, universal_newlines=True)
        took = time.monotonic() - began
        expect(told.returncode == 0, "--version: " + told.stdout)
        return told.stdout.strip(), took

    def run(self) -> None:
        with open(str(self.folder / "log"), "wb") as log:
            process = subprocess.Popen([str(self.file), "app.toml"], cwd=str(self.folder),
                                       env=self.environment, stdout=log, stderr=log)
            try:
                self.balances(process)
                self.survives(process)
                process.send_signal(signal.SIGTERM)
                expect(process.wait(PATIENCE) == 0, "exit code %s" % process.returncode)
                for number in range(INSTANCES + 1):
                    expect(not listens(self.port + number), "a port is still open")
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()

    def balances(self, process: "subprocess.Popen[bytes]") -> None:
        wait_until(lambda: len({self.ask()["pid"] for _ in range(INSTANCES)}) == INSTANCES,
                   "all instances are up", process)
        answers = [self.ask() for _ in range(40)]
        shares = collections.Counter(answer["instance"] for answer in answers)
        expect(set(shares.values()) == {40 // INSTANCES}, "shares %s" % dict(shares))
        strange = [name for name in answers[0]["environment"]
                   if name.startswith(("PEX", "__PEX", "PYTHON", "VIRTUAL_ENV"))]
        expect(not strange, "children get %s" % strange)

    def survives(self, process: "subprocess.Popen[bytes]") -> None:
        before = {self.ask()["pid"] for _ in range(INSTANCES)}
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        # A connection that a dying process has taken dies with it; from then on none may.
        wait_until(lambda: not exists(killed), "the killed instance is reaped", process)
        for _ in range(40):
            self.ask()
        wait_until(lambda: len({self.ask()["pid"] for _ in range(INSTANCES)} - {killed})
                   == INSTANCES, "the killed instance is back", process)

    def ask(self) -> Dict[str, Any]:
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            received = b"".join(iter(lambda: client.recv(65536), b""))
        head, _, body = received.partition(b"\r\n\r\n")
        expect(head.split()[1:2] == [b"200"], "answer %r" % received[:80])
        return cast("Dict[str, Any]", json.loads(body.decode()))


class Failure(Exception):
    pass


def expect(condition: bool, message: str) -> None:
    if not condition:
        raise Failure(message)


def wait_until(condition: Callable[[], bool], what: str,
               process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        expect(process.poll() is None, "ended with exit code %s" % process.returncode)
        expect(time.monotonic() < deadline, "not in time: %s" % what)
        time.sleep(0.02)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def free_ports(count: int) -> int:
    """The first of so many neighbours, below those that the kernel gives to clients."""
    for first in range(20000 + os.getpid() % 9000, 32000, count):
        if not any(listens(first + number) for number in range(count)):
            return first
    raise Failure("no free ports")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def installed() -> Iterator[str]:
    """Each version once: from pyenv's folder, else from the PATH."""
    for version in VERSIONS:
        found = sorted(Path.home().glob(".pyenv/versions/%s.*/bin/python3" % version))
        on_path = shutil.which("python" + version)
        if found:
            yield str(found[-1])
        elif on_path and answers(on_path):
            yield on_path


def answers(python: str) -> bool:
    """pyenv leaves a stand-in on the PATH for versions that are not there."""
    return subprocess.run([python, "-c", ""], check=False, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode == 0


def trial(file: Path, python: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="pupgevent-smoke-") as name:
        folder = Path(name)
        try:
            one = Trial(file, python, folder)
            text, first = one.version()
            later = min(one.version()[1] for _ in range(3))
            one.run()
        except (Failure, OSError, subprocess.SubprocessError) as failure:
            print("%s: FAILED: %s" % (python, failure))
            log = folder / "log"
            sys.stdout.write(log.read_text(errors="replace") if log.exists() else "")
            return False
        versions = re.sub(r".*\((.*)\)", r"\1", text)
        print("%s: ok, first start %.2f s, later %.2f s" % (versions, first, later), flush=True)
        return True


def main(argv: List[str]) -> int:
    parser = argparse.ArgumentParser(description="Run the main job with every Python.")
    parser.add_argument("file", type=Path)
    parser.add_argument("python", nargs="*")
    told = parser.parse_args(argv)
    results = [trial(told.file, python) for python in told.python or installed()]
    print("%d passed, %d failed" % (results.count(True), results.count(False)))
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
