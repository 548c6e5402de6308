"""What a running pupgevent makes of each signal, and of the end of its terminal."""

import functools
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Callable, Iterator, List

import pytest

from conftest import eventually
from pupgevent import _Terminal
from running import PUPGEVENT, Running, lives, sleeper

pytest_plugins = ["runs"]

Make = Callable[..., Running]

#: Those that would end it without a word.
OTHERS = ["SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPWR", "SIGRTMIN", "SIGRTMAX"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_that_stops_it_stops_it_although_it_was_blocked_at_the_start(
    running: Make, number: "signal.Signals"
) -> None:
    app = running(sleeper("a", cmd=["grep", "^SigBlk", "/proc/self/status"]), sleeper("b"))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set(range(1, signal.NSIG)) - {32, 33})
    try:
        app.begin()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    eventually(app.is_settled)
    eventually(lambda: "SigBlk:\t0000000000000000" in app.said())
    app.signal(number)
    assert app.wait() == 0
    assert "stopping (%s)" % number.name in app.said()


def says(app: Running, text: str) -> bool:
    return text in app.said()


def test_signals_without_a_meaning_are_told_and_change_nothing(running: Make) -> None:
    app = running(sleeper("a")).start()
    before = app.pids()
    for name in OTHERS:
        app.signal(getattr(signal, name))
        text = "%s changes nothing" % name
        eventually(functools.partial(says, app, text), message=text)
    app.signal(signal.SIGRTMIN + 5)
    eventually(lambda: "signal %d changes nothing" % (signal.SIGRTMIN + 5) in app.said())
    app.signal(signal.SIGUSR1)
    eventually(lambda: "SIGUSR1: 0 log files opened anew" in app.said())
    assert app.pids() == before


def test_a_second_sigquit_kills_at_once(running: Make) -> None:
    stubborn = "trap '' TERM; echo deaf; while :; do sleep 1 & wait; done"
    app = running(sleeper("a", cmd=stubborn, terminateTimeout=600)).start()
    eventually(lambda: "deaf" in app.said())
    app.signal(signal.SIGQUIT)
    eventually(lambda: "stopping (SIGQUIT)" in app.said())
    # What ends nothing the first time hurries nobody the second time.
    app.signal(signal.SIGHUP)
    app.signal(signal.SIGUSR2)
    eventually(lambda: "SIGUSR2 changes nothing" in app.said())
    assert lives(app.child.pid)
    app.signal(signal.SIGQUIT)
    assert app.wait() == 0
    assert "reload:" not in app.said() and "reloaded" not in app.said()


#: Leads a session at the terminal that is its stdin, and becomes a program.
ATTACH = """
import fcntl, os, signal, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if sys.argv[1] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execvp(sys.argv[2], sys.argv[2:])
"""


class Terminal(Running):
    """One that is started at a terminal: as the session's leader, or as a job of a shell."""

    master = -1

    def begin(self, *options: str) -> "Running":
        """`options`: a line for a shell, with the command as its arguments; "nohup"."""
        self.master, slave = pty.openpty()
        line, way = options[0] if options else "", options[1] if options[1:] else "plain"
        words = [sys.executable, "-c", ATTACH, way]
        if line:
            # The shell's own stderr is the terminal: there it tells which job is in front.
            words += ["bash", "-c", line.replace('"$@"', '"$@" 2>&1'), "bash"]
        with open(str(self.output), "ab") as output:
            self.child = subprocess.Popen(
                [*words, *PUPGEVENT, str(self.config)], stdin=slave, stdout=output,
                stderr=slave if line else output)
        os.close(slave)
        return self

    def hang_up(self) -> None:
        if self.master != -1:
            os.close(self.master)
            self.master = -1

    def pid(self) -> int:
        return int(self.ask("status", usage=False)["status"]["pid"])


@pytest.fixture
def terminal(folder: Path) -> Iterator[Terminal]:
    app = Terminal(folder / "0")
    app.config.parent.mkdir()
    app.write(sleeper("a"))
    yield app
    app.hang_up()
    app.end()


#: As the leader; in the foreground, with and without job control; in the background of a shell that
#: passes the signal on to its jobs, as an interactive one does.
PLACES = [
    "", '"$@"; true', 'set -m; "$@"; true',
    'set -m; trap \'kill -HUP %1; exit\' HUP; "$@" & while :; do wait; done',
]


@pytest.mark.parametrize("place", PLACES)
def test_it_ends_when_its_terminal_is_closed(terminal: Terminal, place: str) -> None:
    terminal.begin(place)
    eventually(terminal.is_settled)
    pids = [terminal.pid(), *terminal.pids().values()]
    terminal.hang_up()
    eventually(lambda: not any(map(lives, pids)), message=terminal.said())
    assert "stopping (the terminal was closed)" in terminal.said()
    assert "reload" not in terminal.said() and "again" not in terminal.said()


def test_it_ends_when_its_shell_tells_it_before_the_terminal_is_closed(
    terminal: Terminal
) -> None:
    """As some do with their jobs when they exit; the terminal closes behind them."""
    terminal.begin('set -m; "$@" & read line; kill -HUP %1; exit')
    eventually(terminal.is_settled)
    pids = [terminal.pid(), *terminal.pids().values()]
    os.write(terminal.master, b"\n")
    eventually(lambda: not any(map(lives, pids)), message=terminal.said())
    assert "stopping (the terminal was closed)" in terminal.said()
    assert "reload" not in terminal.said()


def test_a_terminal_that_closes_twice_hurries_nobody(terminal: Terminal) -> None:
    stubborn = "trap '' TERM; echo deaf; while :; do sleep 1 & wait; done"
    terminal.write(sleeper("a", cmd=stubborn, terminateTimeout=600))
    terminal.begin()
    eventually(lambda: "deaf" in terminal.said())
    terminal.hang_up()
    eventually(lambda: "stopping (the terminal was closed)" in terminal.said())
    terminal.signal(signal.SIGHUP)
    terminal.signal(signal.SIGUSR2)
    eventually(lambda: "SIGUSR2 changes nothing" in terminal.said())
    assert terminal.child.poll() is None and "again" not in terminal.said()
    terminal.signal(signal.SIGTERM)
    assert terminal.wait() == 0


@pytest.mark.parametrize("place", PLACES[:3])
def test_with_nohup_it_survives_its_terminal_and_a_sighup_is_a_reload_later(
    terminal: Terminal, place: str
) -> None:
    terminal.begin(place, "nohup")
    eventually(terminal.is_settled)
    pid, before = terminal.pid(), terminal.pids()
    terminal.hang_up()

    def is_reloaded() -> bool:
        os.kill(pid, signal.SIGHUP)
        return "reloaded: nothing differs" in terminal.said()

    eventually(is_reloaded)
    assert "terminal" not in terminal.said() and terminal.pids() == before
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not lives(pid))


def test_a_sighup_at_an_open_terminal_is_a_reload(terminal: Terminal) -> None:
    terminal.begin()
    eventually(terminal.is_settled)
    terminal.write(sleeper("a"), sleeper("b"))
    terminal.signal(signal.SIGHUP)
    eventually(lambda: "reloaded: started b" in terminal.said())
    assert set(terminal.pids()) == {"a", "b"}


def test_a_terminal_that_closed_long_ago_has_no_part_in_a_sighup(tmp_path: Path) -> None:
    now: List[float] = [1000.0]
    path = tmp_path / "tty"
    path.touch()
    terminal = _Terminal(False, str(path), lambda: now[0])
    assert terminal.look() and not terminal.has_just_closed()
    path.unlink()
    assert not terminal.look() and terminal.has_just_closed()
    now[0] += 3
    assert not terminal.look() and not terminal.has_just_closed()


def test_who_never_had_a_terminal_has_not_just_lost_it(tmp_path: Path) -> None:
    terminal = _Terminal(False, str(tmp_path / "none"))
    assert not terminal.is_there and not terminal.has_just_closed()


