"""A real `pupgevent CONFIG` as a child, from the outside: its file, its output, its commands."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import control_client
from conftest import eventually
from errors import PupgeventError

ROOT = Path(__file__).resolve().parent.parent
SERVER = ROOT / "conf" / "server.py"
PUPGEVENT = [sys.executable, str(ROOT / "pupgevent.py")]

#: How much the heavy tests do, against what they do on a developer's machine.
SCALE = float(os.environ.get("PUPGEVENT_TEST_SCALE", "1"))

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

#: No instance is waited for longer than a test needs it.
QUICK = {"restartDelayMs": 50, "terminateTimeout": 60, "terminateGracePeriod": 1}


def cluster(ports: Sequence[int], common: Optional[int], **more: Any) -> Dict[str, Any]:
    """A cluster whose instances have these ports, in Pup's own JSON."""
    found = {"instances": len(ports), "startPort": ports[0], "commonHost": "127.0.0.1",
             "readyTimeoutMs": 90000}
    if common is not None:
        found["commonPort"] = common
    return dict(found, **more)


def server(process_id: str, ports: Sequence[int], common: Optional[int], **more: Any) -> Any:
    """The demonstration application, once per port."""
    return dict({
        "id": process_id, "cmd": [sys.executable, str(SERVER)], "autostart": True,
        "cluster": cluster(ports, common),
    }, **dict(QUICK, **more))  # fmt: skip


def sleeper(process_id: str, **more: Any) -> Any:
    """A process without a port that does nothing, and runs as soon as it is there."""
    return dict({"id": process_id, "cmd": ["sleep", "600"], "autostart": True, "minUptimeMs": 0},
                **more)


class Running:
    """One pupgevent and its file."""

    def __init__(self, folder: Path, *processes: Any, suffix: str = ".json", **top: Any) -> None:
        self.config = folder / ("app" + suffix)
        self.output = folder / "output"
        self.child: Any = None
        if processes:
            self.write(*processes, **top)

    def write(self, *processes: Any, **top: Any) -> None:
        self.config.write_text(json.dumps(dict(top, processes=list(processes)), indent=1))

    def begin(self, *options: str) -> "Running":
        """Start it, and wait for nothing."""
        with open(str(self.output), "ab") as output:
            self.child = subprocess.Popen(
                [*PUPGEVENT, *options, str(self.config)], stdout=output, stderr=output,
                stdin=subprocess.DEVNULL)
        return self

    def start(self) -> "Running":
        """Start it, and wait until everything with `autostart` runs."""
        self.begin()
        try:
            eventually(self.is_settled, message="everything runs")
        except AssertionError as error:
            raise AssertionError("%s: %s" % (error, self.said())) from error.__cause__
        return self

    def is_settled(self) -> bool:
        try:
            found = self.status()
        except PupgeventError:
            return False
        return all(member["state"] in ("running", "finished") for process in found["processes"]
                   for member in process["members"] if process["autostart"])

    def ask(self, command: str, **fields: Any) -> Dict[str, Any]:
        """Speak to it as the commands do; raises what they raise."""
        request: Dict[str, Any] = dict({"command": command}, **fields)
        return dict(control_client.call(str(self.config), request, lambda line: None, 100))

    def status(self) -> Dict[str, Any]:
        found = self.ask("status", usage=False)["status"]
        return dict(found)

    def process(self, process_id: str) -> Dict[str, Any]:
        found: Dict[str, Dict[str, Any]] = {
            each["id"]: each for each in self.status()["processes"]}
        return found[process_id]

    def members(self) -> Dict[str, Dict[str, Any]]:
        """All instances by name."""
        return {member["id"]: member for process in self.status()["processes"]
                for member in process["members"]}

    def pids(self) -> Dict[str, int]:
        return {name: member["pid"] for name, member in self.members().items()}

    def states(self) -> Dict[str, str]:
        return {name: member["state"] for name, member in self.members().items()}

    def are(self, **states: str) -> bool:
        """The states of some instances; False also while there is nobody to ask."""
        try:
            found = self.states()
        except PupgeventError:
            return False
        return all(found.get(name) == state for name, state in states.items())

    def said(self) -> str:
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def signal(self, number: int) -> None:
        assert self.child is not None
        self.child.send_signal(number)

    def has_pending(self, number: int) -> bool:
        """A signal that it has been sent has not been delivered yet (proc(5), ShdPnd)."""
        assert self.child is not None
        status = Path("/proc/%d/status" % self.child.pid).read_text()
        mask = status.partition("\nShdPnd:")[2].split()[0]
        return bool(int(mask, 16) >> (number - 1) & 1)

    def wait(self, timeout: float = 60) -> int:
        assert self.child is not None
        return int(self.child.wait(timeout))

    def end(self) -> None:
        """Whatever the test has left; a traceback anywhere fails it."""
        if self.child is not None and self.child.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.wait(3)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGTERM)
                self.wait()
        assert "Traceback" not in self.said(), self.said()

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """A command in a process of its own, with the file behind its first word."""
        return run(words[0], str(self.config), *words[1:])


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    """`pupgevent WORDS` to its end; a traceback fails the test."""
    done = subprocess.run(
        [*PUPGEVENT, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL, universal_newlines=True, timeout=100, check=False)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done


def get(port: int, timeout: float = 40, request: bytes = REQUEST) -> str:
    """One request with a connection of its own; OSError or ValueError where it fails."""
    with socket.create_connection(("127.0.0.1", port), timeout) as client:
        client.sendall(request)
        pieces: List[bytes] = []
        while True:
            piece = client.recv(65536)
            if not piece:
                break
            pieces.append(piece)
    head, _, body = b"".join(pieces).partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200") or not body.endswith(b"\n"):
        raise ValueError("a broken answer: %r" % head[:100])
    return body.decode()


def instance_of(answer: str) -> str:
    """Its number, as the application tells it."""
    return answer.split("instance ")[1].split(" ")[0]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def lives(pid: int) -> bool:
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def now() -> float:
    return time.monotonic()
