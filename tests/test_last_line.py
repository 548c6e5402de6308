"""What a child has said last is told where it fails: in progress, and in the error at the end."""

import time
from typing import Any, Callable, List

import pytest

import control_client
from errors import PupgeventError
from logs import LineWriter, last_line_of
from running import Running, cluster, run, server, sleeper
from sinks import Sink, Source

pytest_plugins = ["runs"]

Make = Callable[..., Running]
Ports = Callable[[int], List[int]]

#: An error on stderr, and something on stdout.
ERROR = "echo starting up; printf '  in line 2\\nKeyError: DATABASE_URL\\n' >&2; exit 1"

NODE = b"""/srv/app.js:1
throw new Error("no database")
^

Error: no database
    at Object.<anonymous> (/srv/app.js:1:7)
    at node:internal/main/run_main_module:28:49

Node.js v18.19.0
"""

JAVA = b"""Exception in thread "main" java.lang.IllegalStateException: no database
\tat Main.main(Main.java:5)
"""


def said(*words: str) -> List[str]:
    """The lines of stderr of a command."""
    return run(*words).stderr.splitlines()


@pytest.mark.parametrize("text, expected", [
    (b"", ""),
    (b"\n  \n\n", ""),
    (b"one\ntwo\n", "two"),
    (b"one\ntwo", "two"),
    (b"why\n\n   \n", "why"),
    (b"why\r\n", "why"),
    (b"  indented\n", "indented"),
    (NODE, "Error: no database"),
    (JAVA, 'Exception in thread "main" java.lang.IllegalStateException: no database'),
    (b"\x1b[1;31merror\x1b[0m: \x1b]0;title\x07no \x9bdisk\x1b[2J\n", "error: no \ufffddisk"),
    (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n", "link"),
    (b"a\tb\x00c\x08\x7f\n", "a b c"),
    ("größer \u202egnp\n".encode(), "größer gnp"),
    (b"\xff\xfe\n", "\ufffd\ufffd"),
    (b"x" * 199 + b"\n", "x" * 199),
    (b"x" * 300 + b"\n", "x" * 197 + "..."),
])
def test_the_last_line_is_the_one_that_says_something_and_gives_no_orders(
    text: bytes, expected: str
) -> None:
    assert last_line_of(text) == expected


def test_of_a_child_that_says_much_only_the_end_is_kept() -> None:
    writer = LineWriter(Sink(), Source("app", "app"), "stderr")
    for _ in range(100):
        writer.feed(b"line after line\n" * 100)
    writer.feed(b"the ")
    writer.feed(b"end\n")
    assert writer.last_line == "the end"
    assert len(writer._tail) <= 2048


@pytest.fixture
def failing(running: Make) -> Running:
    return running(sleeper("bad", autostart=False, cmd=ERROR, minUptimeMs=600000,
                           restart="error", restartDelayMs=60000)).start()


def test_a_start_that_fails_tells_the_last_line_of_stderr(failing: Running) -> None:
    lines = said("start", str(failing.config), "bad")
    ending = ' s (last line: "KeyError: DATABASE_URL")'
    assert lines[0] == "bad: starting"
    assert lines[1].startswith("bad: exit code 1, restart in 6") and lines[1].endswith(ending)
    assert lines[2].startswith("pupgevent: bad did not come up: exit code 1, restart in 6")
    assert lines[2].endswith(ending)


def test_it_is_told_as_soon_as_it_has_died_and_not_when_its_time_is_over(
    failing: Running
) -> None:
    progress: List[Any] = []
    began = time.monotonic()
    with pytest.raises(PupgeventError, match="DATABASE_URL"):
        control_client.call(str(failing.config), {"command": "start", "words": ["bad"]},
                    progress.append, 600)
    assert time.monotonic() - began < 60
    assert "DATABASE_URL" in progress[-1]["progress"]


@pytest.mark.parametrize("cmd, expected", [
    ("echo out; echo err >&2; echo out again; exit 3", "err"),
    ("echo out; exit 3", "out"),
    ("printf 'no end'; exit 3", "no end"),
    ("printf '\\033[31mred\\033[0m\\n' >&2; exit 3", "red"),
    ("exit 3", None),
])
def test_stdout_is_told_of_where_stderr_has_nothing(
    running: Make, cmd: str, expected: str
) -> None:
    app = running(sleeper("bad", autostart=False, cmd=cmd, minUptimeMs=600000)).start()
    ending = "" if expected is None else ' (last line: "%s")' % expected
    assert said("start", str(app.config), "bad")[-1] == (
        "pupgevent: bad did not come up: exit code 3, and it is not to be restarted" + ending)


def test_a_server_that_is_too_late_is_told_of_with_its_last_line(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(1)
    late = {"id": "late", "cmd": "echo waiting for the database >&2; exec sleep 600",
            "cluster": cluster(ports, None, readyTimeoutMs=2000), "restart": "error",
            "restartDelayMs": 60000}
    app = running(sleeper("one"), late).start()
    lines = said("start", str(app.config), "late")
    assert "does not accept after 2 s" in lines[-1]
    assert lines[-1].endswith('(last line: "waiting for the database")')


@pytest.mark.parametrize("command", ["restart", "reload", "scale"])
def test_every_command_that_starts_something_tells_it(
    running: Make, free_ports: Ports, command: str
) -> None:
    ports = free_ports(3)
    good = server("web", ports[:2], None)
    app = running(good).start()
    broken = app.config.parent / "broken"
    cmd = "if test -e %s; then echo it is broken >&2; exit 7; fi; exec %s" % (
        broken, " ".join(good["cmd"]))
    app.write(dict(good, cmd=cmd))
    app.ask("reload")
    broken.write_text("")
    words = {"restart": ["web-1"], "reload": [], "scale": ["web", "3"]}[command]
    if command == "reload":
        app.write(dict(good, cmd=cmd, env={"RELEASE": "2"}))
    lines = said(command, str(app.config), *words)
    assert "did not come up: exit code 7, restart in 0." in lines[-1]
    assert lines[-1].endswith('(last line: "it is broken")')


def test_a_success_and_a_stop_tell_no_last_line(running: Make) -> None:
    chatty = sleeper("chatty", autostart=False, cmd="echo hello; exec sleep 600")
    done = sleeper("done", autostart=False, cmd="echo all done", restart="error")
    app = running(sleeper("one"), chatty, done).start()
    lines = [*said("start", str(app.config)), *said("stop", str(app.config))]
    assert len(lines) >= 6 and not [line for line in lines if "last line" in line]


def test_the_last_line_of_an_earlier_run_is_not_told_of_a_later_one(running: Make) -> None:
    app = running(sleeper("one")).start()
    flag = app.config.parent / "second"
    cmd = "if test -e %s; then exit 4; fi; touch %s; echo the first; exit 3" % (flag, flag)
    app.write(sleeper("one"), sleeper("bad", autostart=False, cmd=cmd, minUptimeMs=600000))
    app.ask("reload")
    assert said("start", str(app.config), "bad")[-1].endswith('(last line: "the first")')
    assert said("start", str(app.config), "bad")[-1].endswith(
        "exit code 4, and it is not to be restarted")


def test_the_status_shows_it_behind_the_reason(failing: Running) -> None:
    with pytest.raises(PupgeventError):
        failing.ask("start", words=["bad"])
    assert failing.members()["bad"]["lastExit"] == "exit code 1"
    done = failing.run("status")
    assert done.stdout.splitlines()[-1].startswith("bad: exit code 1, ")
    assert done.stdout.endswith(': "KeyError: DATABASE_URL"\n')


def test_the_log_has_the_line_itself_and_does_not_repeat_it(failing: Running) -> None:
    with pytest.raises(PupgeventError):
        failing.ask("start", words=["bad"])
    failing.end()  # so that all of the log is written
    lines = [line for line in failing.said().splitlines() if "[bad]" in line]
    assert sum("DATABASE_URL" in line for line in lines) == 1
