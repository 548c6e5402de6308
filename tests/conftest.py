"""What all tests share: ports of their own, patience with a deadline, no child left behind."""

import fcntl
import os
import random
import signal
import socket
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, TypeVar

import hypothesis
import pytest

import progress
from every_python import MINORS

ROOT = Path(__file__).resolve().parent.parent
#: Every process that a test starts inherits it, down to grandchildren of other groups and sessions.
MARKER = "PUPGEVENT_TEST"
#: Seconds for what a test has just killed or closed to be gone.
PARTING = 30.0

# CI has half an hour for all Pythons. With PUPGEVENT_TEST_QUICK, each runs what may differ on it;
# `make test` runs everything, on one. A module of no set is for the oldest and for the newest.

#: What depends little on the Python, and takes long, or is about documents, about ourselves, or
#: about programs of others.
ONCE = {
    "test_agent", "test_architecture", "test_balancer_times", "test_chosen", "test_cli",
    "test_completion", "test_control_place", "test_cron", "test_dashboard", "test_dashboard_access",
    "test_dashboard_hostile", "test_dashboard_reload", "test_dashboard_thousands",
    "test_default_config", "test_drain", "test_examples", "test_exports", "test_file_watch",
    "test_front_exports", "test_grafana", "test_health_checks", "test_health_serving",
    "test_http_access_log", "test_http_hostile", "test_http_memory", "test_http_no_memory",
    "test_http_peers", "test_http_reload", "test_http_restarts", "test_http_sessions",
    "test_http_timeouts", "test_http_upgrade", "test_init", "test_init_random", "test_journal",
    "test_last_line", "test_links", "test_listing", "test_logs_files", "test_machines",
    "test_manpage", "test_migrating", "test_min_uptime", "test_other_users", "test_page",
    "test_passive_health", "test_plurals", "test_prometheus", "test_prometheus_export",
    "test_proxy_peers", "test_pup_examples", "test_readme", "test_reload_keys",
    "test_reload_meanwhile", "test_shellexec", "test_signal_command", "test_slow_start",
    "test_steps", "test_terminal_screens", "test_tiers", "test_tls_memory", "test_tls_no_memory",
    "test_tls_peers", "test_tls_reload", "test_tls_status", "test_trying_again",
    "test_unit_in_systemd",
}  # fmt: skip

#: What takes long and depends little on the Python: only the oldest runs it.
THOROUGH = {
    "test_access_log", "test_background_loader", "test_commands", "test_control_hostile",
    "test_cron_pattern", "test_demonstration_server", "test_documents_mutated",
    "test_file_restarts", "test_guardian", "test_http_answers", "test_http_random",
    "test_http_requests", "test_log_files", "test_log_past", "test_logging", "test_metrics",
    "test_port_ownership", "test_proxy_protocol", "test_relay_random", "test_reload",
    "test_shortage", "test_strategies", "test_tls_configuration", "test_tls_handshakes",
    "test_tls_relay", "test_tls_running", "test_web_server",
}  # fmt: skip

#: What the Pythons between the oldest and the newest run: processes, signals, threads, sockets, the
#: calls of the C library, the installation, and the main job of a real one.
EVERYWHERE = {
    "test_balancer_changes", "test_child", "test_gevent_internals", "test_greenlets",
    "test_installation", "test_locks", "test_main", "test_names", "test_ports", "test_programs",
    "test_relay", "test_signals", "test_splicing", "test_supervisor_changes",
    "test_supervisor_exits", "test_supervisor_starting", "test_supervisor_stopping",
    "test_threads", "test_tls_http",
}  # fmt: skip


def is_left_out(module: str, minor: int) -> bool:
    """By PUPGEVENT_TEST_QUICK, on Python 3.`minor`."""
    if MINORS[0] < minor < MINORS[-1]:
        return module not in EVERYWHERE
    return module in ONCE or (module in THOROUGH and minor > MINORS[0])


# They are not even imported: that alone would take a tenth of the time.
if os.environ.get("PUPGEVENT_TEST_QUICK"):
    collect_ignore = [path.name for path in ROOT.glob("tests/test_*.py")
                      if is_left_out(path.stem, sys.version_info[1])]

T = TypeVar("T")

# A shared machine pauses a test now and then: the time-out of each test is deadline enough.
# What is tried is the same in each run, lest a run should fail for what it alone has met; whoever
# looks for more sets PUPGEVENT_TEST_EXPLORE.
hypothesis.settings.register_profile(
    "pupgevent", deadline=None, derandomize=not os.environ.get("PUPGEVENT_TEST_EXPLORE"))
hypothesis.settings.load_profile("pupgevent")

# Whoever starts the tests in the background of a shell, or with nohup, hands them a SIGINT or a
# SIGHUP that is ignored, and so would every child of theirs that is to be told something by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Nobody else's Python writes each line at once, and what is written when is tested.
os.environ.pop("PYTHONUNBUFFERED", None)


def eventually(condition: Callable[[], T], timeout: float = 60.0, message: str = "") -> T:
    """Ask until the answer is true and return it; after `timeout` seconds the test has failed.

    An OSError or a failed assertion counts as "not yet" (a port that refuses, a file to come).
    """
    deadline = time.monotonic() + timeout
    while True:
        reason: Optional[Exception] = None
        try:
            answer = condition()
            if answer:
                return answer
        except (OSError, AssertionError) as error:
            reason = error
        if time.monotonic() > deadline:
            what = message or getattr(condition, "__doc__", None) or "the condition"
            raise AssertionError("not within %g s: %s" % (timeout, what)) from reason
        time.sleep(0.01)


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., Any]:
    return eventually


def pytest_configure(config: Any) -> None:
    progress.register(config)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """In a second try of what has failed before, name each test that passes now."""
    if not os.environ.get("PUPGEVENT_TEST_AGAIN"):
        return
    ids = {outcome: {report.nodeid for report in terminalreporter.getreports(outcome)}
           for outcome in ("passed", "failed", "error")}
    for nodeid in sorted(ids["passed"] - ids["failed"] - ids["error"]):
        terminalreporter.write_line("FLAKY %s" % nodeid, yellow=True)


class PortLocks:
    """Ports of this machine that parallel test runs have divided among themselves.

    They lie outside the range from which the kernel gives ports to clients, so that no connection
    takes one in passing. A byte of one file is locked for each; the kernel unlocks what a killed
    run has held.
    """

    def __init__(self) -> None:
        name = "pupgevent-test-ports-%d" % os.getuid()
        self.file = open(os.path.join(tempfile.gettempdir(), name), "ab")  # noqa: SIM115
        self.held: Set[int] = set()
        # The state of `random` belongs to Hypothesis, and is the same in each worker.
        self.random = random.SystemRandom()
        self.low, self.high = self.range_outside_ephemeral()

    @staticmethod
    def range_outside_ephemeral() -> "tuple[int, int]":
        with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
            first, last = map(int, file.read().split())
        below, above = (10000, first - 1), (last + 1, 65535)
        return max(below, above, key=lambda ends: ends[1] - ends[0])

    def take(self, count: int) -> List[int]:
        for _ in range(1000):
            first = self.random.randint(self.low, self.high - count + 1)
            ports = range(first, first + count)
            if self.held.isdisjoint(ports) and self.lock(first, count):
                if all(map(is_unused, ports)):
                    self.held.update(ports)
                    return list(ports)
                self.unlock(first, count)
        raise AssertionError("no %d free ports in a row" % count)

    def lock(self, first: int, count: int) -> bool:
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB, count, first)
        except OSError:
            return False
        return True

    def unlock(self, first: int, count: int) -> None:
        fcntl.lockf(self.file, fcntl.LOCK_UN, count, first)

    def release(self, ports: List[int]) -> None:
        self.unlock(ports[0], len(ports))
        self.held.difference_update(ports)


def is_unused(port: int) -> bool:
    """Nobody listens there, and no earlier connection lingers (hence no SO_REUSEADDR)."""
    with socket.socket() as probe:
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


@pytest.fixture(scope="session")
def port_locks() -> Iterator[PortLocks]:
    locks = PortLocks()
    yield locks
    locks.file.close()


@pytest.fixture
def free_ports(port_locks: PortLocks) -> Iterator[Callable[[int], List[int]]]:
    """`free_ports(n)`: n consecutive ports that are this test's alone."""
    taken: List[List[int]] = []

    def take(count: int) -> List[int]:
        taken.append(port_locks.take(count))
        return taken[-1]

    yield take
    for ports in taken:
        port_locks.release(ports)


@pytest.fixture
def free_port(free_ports: Callable[[int], List[int]]) -> Callable[[], int]:
    """`free_port()`: a port that is this test's alone."""
    return lambda: free_ports(1)[0]


@pytest.fixture(scope="session", autouse=True)
def marked_environment() -> Iterator[str]:
    os.environ[MARKER] = mark = uuid.uuid4().hex
    yield mark
    del os.environ[MARKER]


def environment_of(pid: str) -> bytes:
    """Of a process; in the middle of its exec it has none for a moment, and no command line either.
    OSError."""
    folder = Path("/proc", pid)
    deadline = time.monotonic() + PARTING
    while True:
        found = (folder / "environ").read_bytes()
        if found or time.monotonic() > deadline:
            return found
        if (folder / "cmdline").read_bytes():
            # It has none at all, or its exec has ended between the two.
            return (folder / "environ").read_bytes()
        # A thread of the kernel has neither ever, nor has a zombie, and no program: OSError.
        os.readlink(str(folder / "exe"))


def marked_processes(mark: str) -> Dict[int, str]:
    """Pid and command line of each living process that descends from this run."""
    wanted = ("%s=%s" % (MARKER, mark)).encode()
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if wanted in environment_of(name).split(b"\0"):
                words = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
                found[int(name)] = b" ".join(words).decode(errors="replace").strip()
        except OSError:
            continue  # it has just ended, or belongs to someone else
    found.pop(os.getpid(), None)
    return found


@pytest.fixture(autouse=True)
def no_process_is_left(marked_environment: str) -> Iterator[None]:
    """Fail the test that leaves a process behind, and end that process."""
    before = set(marked_processes(marked_environment))
    yield
    deadline = time.monotonic() + PARTING
    while True:
        left = {pid: line for pid, line in marked_processes(marked_environment).items()
                if pid not in before}
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    if left:
        pytest.fail("left behind: %s" % left)
