"""No process and no thread to be had, for a while: what waits, what is told, how it goes on."""

import json
import os
import pwd
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

import nobody
from conftest import eventually
from guardian import WORD
from running import PUPGEVENT, ROOT, Running, sleeper

pytest_plugins = ["runs"]

#: The kernel holds root to no limit of processes. This user can read what only root can, since
#: that may be where Python is.
USER = nobody.NUMBER if os.geteuid() == 0 else os.geteuid()
BECOME = [] if os.geteuid() != 0 else [
    "setpriv", "--reuid=%d" % USER, "--regid=%d" % USER, "--clear-groups",
    "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]

#: Sets the limit of processes and threads, which counts all of the user's, and becomes a program.
LIMITED = [sys.executable, "-c", (
    "import os, resource, sys\n"
    "hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]\n"
    "resource.setrlimit(resource.RLIMIT_NPROC, (int(sys.argv[1]), hard))\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n")]

#: No further process, and no further thread.
NOTHING = 1
PLENTY = resource.getrlimit(resource.RLIMIT_NPROC)[1]

#: A start of each of these needs a fork; the second also a thread, the third also a look-up.
PROCESSES = [
    sleeper("plain", cmd=["sh", "-c", "yes chatty | head -n 20000; echo all; exec sleep 600"],
            restart="never"),
    sleeper("file", pidFile="app.pid", restart="never"),
    sleeper("user", user=pwd.getpwuid(USER).pw_name, restart="error", restartLimit=2,
            restartDelayMs=10),
]


def is_held_to_a_limit() -> bool:
    fork = [sys.executable, "-c", "import os; os.fork()"]
    return subprocess.call(BECOME + LIMITED + [str(NOTHING), *fork], stderr=subprocess.DEVNULL) != 0


pytestmark = pytest.mark.skipif(
    not is_held_to_a_limit(), reason="this user cannot be held to a limit of processes")


class Poor(Running):
    """A pupgevent that may have so many processes and threads."""

    def begin(self, *options: str) -> "Running":
        for path in (self.config.parent.parent, self.config.parent, self.config):
            os.chown(str(path), USER, USER)
        limit = LIMITED + list(options) if options else []
        with open(str(self.output), "ab") as output:
            self.child = subprocess.Popen(
                [*BECOME, *limit, *PUPGEVENT, str(self.config)], stdout=output, stderr=output,
                stdin=subprocess.DEVNULL)
        return self

    def limit(self, count: int) -> None:
        """From now on."""
        words = [str(self.child.pid), str(count), str(PLENTY)]
        subprocess.check_call([*BECOME, sys.executable, "-c", (
            "import resource, sys\n"
            "pid, *limits = map(int, sys.argv[1:])\n"
            "resource.prlimit(pid, resource.RLIMIT_NPROC, limits)\n"), *words])

    def tell(self, *words: str) -> List[str]:
        """Exit code and lines of a command of the same user."""
        done = subprocess.run(
            [*BECOME, *PUPGEVENT, words[0], str(self.config), *words[1:]], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, universal_newlines=True, check=False)
        return [str(done.returncode), *done.stdout.splitlines()]

    def status(self) -> Dict[str, Any]:
        code, *lines = self.tell("status", "--json")
        return dict(json.loads("\n".join(lines))) if code in "03" else {"processes": []}


@pytest.fixture
def poor(folder: Path) -> Iterator[Poor]:
    app = Poor(folder / "0")
    app.config.parent.mkdir()
    app.write(*PROCESSES)
    yield app
    if app.child is not None and app.child.poll() is None:
        app.limit(PLENTY)
    app.end()


def guardian_of(pid: int) -> List[str]:
    """Has it one?"""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            status = Path("/proc", name, "status").read_text()
            if "PPid:\t%d\n" % pid in status:
                found.append(Path("/proc", name, "cmdline").read_text())
        except OSError:
            continue
    return [line for line in found if line.startswith(WORD)]


def all_are(app: Poor, state: str) -> bool:
    members = app.members()
    return len(members) == 3 and {each["state"] for each in members.values()} == {state}


def test_without_a_thread_or_a_process_at_the_start_all_goes_on_when_there_are_some(
    poor: Poor
) -> None:
    poor.begin(str(NOTHING))
    eventually(lambda: all_are(poor, "backoff"))
    eventually(lambda: all(each["restarts"] for each in poor.members().values()))
    assert poor.said() == ""
    poor.limit(PLENTY)
    eventually(lambda: all_are(poor, "running"), message=poor.said())
    # Nothing of the log is missing, and the chatty one has got all out.
    eventually(lambda: "[plain][stdout] all" in poor.said())
    assert poor.said().count("[plain][stdout] chatty\n") == 20000
    assert "Resource temporarily unavailable" in poor.said()
    eventually(lambda: guardian_of(poor.child.pid))
    assert (poor.config.parent / "app.pid").read_text() == "%d\n" % poor.pids()["file"]


def test_without_a_thread_or_a_process_at_a_restart_nobody_is_given_up(poor: Poor) -> None:
    poor.begin()
    eventually(lambda: all_are(poor, "running"), message=poor.said())
    poor.limit(NOTHING)
    before = poor.pids()
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    # `never` says that a program that was killed is not started again; that is no shortage.
    eventually(lambda: poor.are(plain="errored", file="errored", user="backoff"))
    # More often than it may fail.
    eventually(lambda: poor.members()["user"]["restarts"] > 2)
    code, *lines = poor.tell("status")
    assert int(code) == 3 and any("backoff" in line for line in lines)
    code, *lines = poor.tell("start")
    assert int(code) == 1 and "Resource temporarily unavailable" in " ".join(lines)
    eventually(lambda: all_are(poor, "backoff"))
    poor.limit(PLENTY)
    eventually(lambda: all_are(poor, "running"), message=poor.said())
    assert set(before.values()).isdisjoint(poor.pids().values())


def test_a_stop_is_obeyed_while_a_start_waits_for_a_process(poor: Poor) -> None:
    poor.begin(str(NOTHING))
    eventually(lambda: all_are(poor, "backoff"))
    assert poor.tell("stop")[0] == "0"
    assert all_are(poor, "stopped")
    poor.signal(signal.SIGTERM)
    assert poor.wait() == 0


def test_a_reload_by_signal_waits_for_a_thread(poor: Poor) -> None:
    poor.begin(str(NOTHING))
    eventually(lambda: all_are(poor, "backoff"))
    poor.write(*PROCESSES[:2])
    poor.signal(signal.SIGHUP)
    assert poor.tell("reload")[0] == "1"
    poor.limit(PLENTY)
    eventually(lambda: poor.are(plain="running", file="running"))
    eventually(lambda: "reloaded: removed user" in poor.said(), message=poor.said())
    assert "the reload waits: no thread can be started" in poor.said()


def test_a_call_for_which_there_is_no_thread_is_not_done_later_as_well() -> None:
    program = (
        "import resource, sys; sys.path.insert(0, %r)\n"
        "from errors import ShortageError\n"
        "from concurrency import Threads\n"
        "threads, done = Threads(2), []\n"
        "for number in range(5):\n"
        "    try:\n"
        "        threads.call(done.append, number)\n"
        "    except ShortageError as error:\n"
        "        print(error)\n"
        "hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))\n"
        "for number in range(5, 9):\n"
        "    threads.call(done.append, number)\n"
        "print(done)\n") % str(ROOT)
    told = subprocess.check_output(
        [*BECOME, *LIMITED, str(NOTHING), sys.executable, "-c", program]).decode().splitlines()
    text = "no thread can be started, the limit of processes is reached"
    assert told == [text] * 5 + ["[5, 6, 7, 8]"]
