"""`status`, `describe` and `top` as they are seen: on terminals of several sizes, and in pipes."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

import status_table
import styled_text
from conftest import PortLocks, eventually
from running import Running, server, sleeper
from screens import Screen, Terminal

pytest_plugins = ["runs"]

Make = Callable[..., Running]
Ports = Callable[[int], List[int]]

WIDTHS = pytest.mark.parametrize("width", [60, 80, 120])

#: Nobody waits for it.
LATER = 600000

#: Says more than a line has room for; what it says gives orders to a terminal.
EVIL = "import sys; sys.exit('\\x1b[2J\\x1b]0;owned\\x07\\x9b5m' + '\\u4f60\\u597d ' * 60)"

CRASH = "import os; os.environ['DATABASE_URL']"

#: Asks for one answer after the other.
LOAD = """
import socket, sys
while True:
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60) as client:
        client.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
        while client.recv(65536):
            pass
"""


def python(code: str) -> List[str]:
    return [sys.executable, "-c", code]


def failing(process_id: str, cmd: Any, **more: Any) -> Any:
    return sleeper(process_id, cmd=cmd, **dict(
        {"restart": "error", "restartDelayMs": LATER, "restartMaxDelayMs": LATER}, **more))


def shop(ports: List[int]) -> List[Any]:
    """Something of all that there is to see."""
    return [
        server("my-scalable-app", ports[:3], ports[3], env={"TOKEN": "hunter2"}),
        # Its traceback is not ours.
        failing("crasher", python(CRASH), logger={"console": False}),
        # Without a least time it might count as running, and `web` not wait for it.
        failing("gone", ["sh", "-c", "exit 3"], restart="never", minUptimeMs=LATER),
        sleeper("web", startAfter=["gone"]),
        failing("many", ["sh", "-c", "echo no room; exit 2"], restart="always",
                cluster={"instances": 4}),
        failing("evil", python(EVIL), env={"PYTHONIOENCODING": "utf-8"}),
        sleeper("idle", autostart=False),
    ]


STATES = {
    "my-scalable-app-1": "running", "crasher": "backoff", "gone": "errored", "web": "waiting",
    "many-1": "backoff", "many-4": "backoff", "evil": "backoff", "idle": "created",
}  # fmt: skip


@pytest.fixture(scope="module")
def app(port_locks: PortLocks) -> Iterator[Running]:
    """A shop that nobody changes, with some load."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    ports = port_locks.take(4)
    found = Running(folder, *shop(ports), name="shop").begin()
    try:
        try:
            eventually(lambda: found.are(**{
                name: state.replace("waiting", "created") for name, state in STATES.items()}))
        except AssertionError as error:
            raise AssertionError("%s: %s" % (error, found.said())) from error
        with load(ports[3]):
            eventually(lambda: all(
                member["backend"] and member["backend"]["firstByteTime"]
                for member in found.process("my-scalable-app")["members"]))
            yield found
    finally:
        found.end()
        port_locks.release(ports)
        os.environ.pop("XDG_RUNTIME_DIR")
        if before is not None:
            os.environ["XDG_RUNTIME_DIR"] = before
        shutil.rmtree(str(folder))


@contextlib.contextmanager
def load(port: int) -> Iterator[None]:
    with subprocess.Popen([*python(LOAD), str(port)]) as child:
        try:
            yield
        finally:
            child.kill()


def printed(app: Running, *words: str, width: int, exit_code: int = 0, **environment: str) -> Any:
    """The terminal with all that a command has printed."""
    command, *more = words
    with Terminal(command, str(app.config), *more, width=width, height=250, **environment) as found:
        assert found.end() == exit_code, found.screen.text
        assert found.screen.wraps == found.screen.scrolls == 0, found.screen.text
        assert found.has_its_settings_back()
        return found


def row_of(screen: Screen, name: str) -> List[str]:
    """The cells of an instance, by the head of the first table."""
    return next(line.split() for line in screen.lines if line.startswith(name + " "))


# status


@WIDTHS
def test_status_fits_and_tells_each_state_in_its_colour(app: Running, width: int) -> None:
    screen = printed(app, "status", width=width, exit_code=3).screen
    for name, state in STATES.items():
        assert row_of(screen, name)[1] == state
    looks = {name: screen.style_of(STATES[name], name + " ") for name in STATES}
    assert looks == {
        "my-scalable-app-1": "32", "crasher": "31", "gone": "31", "web": "33", "many-1": "31",
        "many-4": "31", "evil": "31", "idle": "2"}
    assert screen.style_of("STATE", "STATE") == "1"
    assert screen.style_of("down", "many ") == "31"
    # What is what stands below it.
    ends = {len(line) for line in screen.lines
            if re.match("(my-scalable-app-|many-)[0-9] ", line)}
    assert len(ends) == 1
    heads = screen.lines[0].split()
    assert {"ID", "STATE", "PID", "UPTIME", "RST", "OPEN", "CPU", "MEM"} <= set(heads)
    assert ("TOTAL" in heads) is (width >= 80)
    assert ("1ST" in heads) is (width == 120)


@WIDTHS
def test_status_says_below_the_table_why_each_does_not_run(app: Running, width: int) -> None:
    screen = printed(app, "status", width=width, exit_code=3).screen
    below = {line.partition(":")[0]: line for line in screen.lines if ": " in line}
    assert list(below) == ["crasher", "gone", "web", "many-1, many-2 and 2 more", "evil"]
    assert re.match(r"crasher: exit code 1, next try in \d+m\d\ds, failing for", below["crasher"])
    assert re.match(r"gone: exit code 3, and it is not to be restarted, \d+", below["gone"])
    assert re.match(r"web: waiting for \S+( s)?: gone, which is errored", below["web"])
    assert below["evil"].endswith("~")
    if width == 120:
        assert below["crasher"].endswith(": \"KeyError: 'DATABASE_URL'\"")
        assert below["many-1, many-2 and 2 more"].endswith(': "no room"')
    assert screen.style_of("crasher", "crasher: ") == "1"


def test_status_in_a_pipe_is_whole_and_plain(app: Running) -> None:
    done = app.run("status")
    assert "\x1b" not in done.stdout and "~" not in done.stdout
    assert done.stdout.split("\n")[0].split() == (
        "ID STATE PID PORT UPTIME RST OPEN TOTAL IN OUT CPU MEM".split())
    evil = next(line for line in done.stdout.splitlines() if line.startswith("evil: "))
    assert evil.count("\u4f60\u597d") > 40


@pytest.mark.parametrize("command", ["status", "describe crasher", "top"])
def test_no_color_is_honoured(app: Running, command: str) -> None:
    word, *more = command.split()
    with Terminal(word, str(app.config), *more, width=80, height=100, NO_COLOR="1") as terminal:
        terminal.wait_for("backoff")
        if word == "top":
            terminal.type("q")
        terminal.end()
        assert not re.search(rb"\x1b\[[0-9;]*m", terminal.written)
        assert "crasher" in terminal.written.decode()


# describe


@WIDTHS
def test_describe_of_one_that_failed_tells_all_of_it(app: Running, width: int) -> None:
    screen = printed(app, "describe", "crasher", width=width).screen
    text = " ".join(screen.text.split())
    assert screen.lines[0] == "crasher: backoff"
    assert screen.style_of("backoff", "crasher: ") == "31"
    assert str(os.path.realpath(str(app.config))) in "".join(screen.text.split())
    for head in ("Settings", "Defaults", "History", "Last lines"):
        assert screen.style_of(head, head) == "1"
    assert "restartDelayMs = 600000" in text and "minUptimeMs = 0" in text
    assert "KeyError: 'DATABASE_URL'" in text
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d backoff exit code 1, restart in", text)
    # Nothing is cut off: it is here that one looks for all of it.
    assert "~" not in screen.text
    assert "File" in text.partition("Last lines")[2]


@WIDTHS
def test_describe_of_a_cluster_tells_where_it_listens_and_what_went_through(
    app: Running, width: int
) -> None:
    screen = printed(app, "describe", "my-scalable-app", width=width).screen
    text = " ".join(screen.text.split())
    process = app.process("my-scalable-app")
    assert screen.lines[0].startswith("my-scalable-app: running, 3/3 up, ")
    assert "clients so far at 127.0.0.1:%d, by round-robin" % process["balancer"]["port"] in text
    heads = [line.split() for line in screen.lines if line.startswith("ID ")]
    assert {"STATE", "ERR", "RETRIES", "DOWNS"} <= set(heads[1])
    assert ("TOTAL" in heads[1]) is (width >= 80)
    for number in (1, 2, 3):
        name = "my-scalable-app-%d" % number
        assert re.search("%s running +pid %d" % (name, app.pids()[name]), screen.text)
    assert 'cluster.strategy = "round-robin"' in text
    assert "env = { TOKEN } (values not shown)" in text
    assert "hunter2" not in screen.text


@WIDTHS
def test_what_an_application_prints_gives_no_orders_to_the_terminal(
    app: Running, width: int
) -> None:
    """The screen would fail at them."""
    screen = printed(app, "describe", "evil", width=width).screen
    last = screen.text.partition("\nLast lines\n")[2]
    assert last.count("\u4f60\u597d") >= 60
    assert "owned" not in last


def test_describe_of_an_instance_is_about_that_one(app: Running) -> None:
    done = app.run("describe", "my-scalable-app-2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == "my-scalable-app-2: running"
    assert "my-scalable-app-1" not in done.stdout
    history = lines[lines.index("History") + 1 :]
    assert [line.split()[2] for line in history[:2]] == ["starting", "running"]


@pytest.mark.parametrize("word, error", [
    ("crashr", 'there is no process or instance "crashr": did you mean "crasher"?'),
    ("all", "one process or instance is described at a time: there is my-scalable-app, crasher,"
     " gone, web, many, evil, idle"),
])
def test_describe_of_what_is_none_is_one_line(app: Running, word: str, error: str) -> None:
    done = app.run("describe", word)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "pupgevent: %s\n" % error)


# top


@contextlib.contextmanager
def top(app: Running, width: int, height: int, **environment: str) -> Iterator[Terminal]:
    with Terminal("top", str(app.config), width=width, height=height, **environment) as terminal:
        yield terminal


def is_whole(terminal: Terminal) -> bool:
    """Has a frame been drawn, and does it fit?"""
    terminal.shows("")
    screen = terminal.screen
    return screen.is_other and screen.frames > 0 and screen.wraps == screen.scrolls == 0


def test_of_a_cluster_with_http_requests_and_errors_are_shown(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(3)
    site = server("site", ports[:2], ports[2])
    site["cluster"]["protocol"] = "http"
    found = running(site).start()
    with load(ports[2]), top(found, 100, 24) as terminal:
        eventually(lambda: is_whole(terminal) and all(
            re.match("[1-9]", rates_in(terminal.screen, each)["REQ/S"])
            for each in ("site", "site-1", "site-2")))
        assert rates_in(terminal.screen, "site-1")["5XX/S"] == "0"
        assert "CONN/S" not in rates_in(terminal.screen, "site-1")
        lines = printed(found, "status", width=80).screen.lines
        assert lines[0].split()[7:10] == ["TOTAL", "5XX", "IN"]
        assert re.search("2/2 up, [0-9]+ in flight, 0 queued; :%d http round-robin" % ports[2],
                         lines[1])
        text = " ".join(printed(found, "describe", "site", width=80).screen.text.split())
        assert re.search("[01] clients? connected; answers: [0-9k]+ 2xx requests: 50 % within ",
                         text)


def rates_in(screen: Screen, name: str) -> Dict[str, str]:
    heads = next(line for line in screen.lines if line.startswith("ID ")).split()
    cells = next(line for line in screen.lines if line.startswith(name + " ")).split()
    # The state of a cluster is of two words.
    if cells[2] == "up":
        cells[1:3] = ["/".join(cells[1:3])]
    return dict(zip(heads, cells))


@WIDTHS
def test_top_shows_what_goes_through_in_a_second(app: Running, width: int) -> None:
    with top(app, width, 40) as terminal:
        terminal.wait_for("my-scalable-app-3", "crasher: exit code 1", "q ends this")
        for name in ("my-scalable-app", "my-scalable-app-1"):
            eventually(lambda: is_whole(terminal) and all(
                re.match("[1-9]", rates_in(terminal.screen, each)["OUT/S"])
                for each in ("my-scalable-app", "my-scalable-app-1")))
            found = rates_in(terminal.screen, name)
            assert re.match("[1-9<]", found["CONN/S"])
            assert re.match("[1-9]", found["IN/S"]) and re.match("[1-9]", found["OUT/S"])
            assert {"OPEN", "CPU", "MEM"} <= set(found)
        assert terminal.screen.style_of("running", "my-scalable-app-1") == "32"
        assert terminal.screen.style_of("3/3 up", "my-scalable-app ") == "32"
        assert not terminal.screen.cursor_shown
        assert not terminal.has_its_settings_back()
        terminal.type("q")
        assert terminal.end() == 0
        assert not terminal.screen.is_other and terminal.screen.text == ""
        assert terminal.screen.cursor_shown and terminal.has_its_settings_back()


@pytest.mark.parametrize("leave", ["q", "Q", "\x03", "SIGTERM"])
def test_top_puts_the_terminal_back_however_it_ends(app: Running, leave: str) -> None:
    with top(app, 80, 24) as terminal:
        terminal.wait_for("crasher", "q ends this")
        if leave == "SIGTERM":
            terminal.child.send_signal(signal.SIGTERM)
        else:
            terminal.type("x" + leave)
        assert terminal.end() == 0
        assert not terminal.screen.is_other and terminal.screen.cursor_shown
        assert terminal.has_its_settings_back()


@pytest.mark.parametrize("width, height", [(20, 3), (1, 1), (60, 8), (200, 3)])
def test_top_fits_a_tiny_terminal_and_says_what_has_no_room(
    app: Running, width: int, height: int
) -> None:
    with top(app, width, height) as terminal:
        eventually(lambda: is_whole(terminal) and terminal.screen.frames > 2)
        if width >= 60:
            assert re.search(r"\(\d+ more, \d+ of which do not serve\)", terminal.screen.text)
        terminal.type("q")
        assert terminal.end() == 0


def test_top_follows_the_size_of_its_window(app: Running) -> None:
    with top(app, 120, 40) as terminal:
        terminal.wait_for("my-scalable-app-3", "QUEUE")
        for width, height in ((60, 10), (30, 5), (120, 50)):
            terminal.resize(width, height)
            eventually(lambda: is_whole(terminal) and "shop: running" in terminal.screen.text)
            lines = terminal.screen.lines
            assert len(lines) <= height
            assert max(map(styled_text.columns, lines)) <= width
            if height < 30:
                assert "my-scalable-app-3" not in terminal.screen.text
            else:
                terminal.wait_for("my-scalable-app-3", "QUEUE", "q ends this")
        terminal.type("q")
        assert terminal.end() == 0


def test_top_waits_for_pupgevent_to_come_back(running: Make, free_ports: Ports) -> None:
    ports = free_ports(3)
    app = running(server("my-app", ports[:2], ports[2]), name="shop").start()
    with top(app, 60, 24) as terminal:
        terminal.wait_for("my-app-2")
        app.end()
        terminal.wait_for("no pupgevent runs for", "waiting for it", "q ends this")
        assert "my-app-2" not in terminal.screen.text
        app.start()
        terminal.wait_for("my-app-2", "shop: running, pid %d" % app.child.pid)
        # Its counters begin anew: nothing is less than nothing.
        assert not re.search(r"(?<![\w/])-[0-9]", terminal.screen.text.partition("ID ")[2])
        terminal.type("q")
        assert terminal.end() == 0
        assert terminal.has_its_settings_back()


def test_top_that_waits_ends_with_q_as_well(running: Make) -> None:
    app = running(sleeper("job")).start()
    with top(app, 60, 10) as terminal:
        terminal.wait_for("job")
        app.end()
        terminal.wait_for("no pupgevent runs for")
        terminal.type("q")
        assert terminal.end() == 0
        assert terminal.has_its_settings_back()


def test_top_of_what_nobody_runs_ends_at_once(running: Make) -> None:
    app = running(sleeper("job"))
    with top(app, 80, 10) as terminal:
        assert terminal.end() == 4
        assert terminal.screen.text == "pupgevent: no pupgevent runs for %s" % app.config
        assert b"\x1b" not in terminal.written


def test_top_after_a_scale_down_shows_no_negative_rate(running: Make, free_ports: Ports) -> None:
    ports = free_ports(4)
    app = running(server("my-app", ports[:3], ports[3]), name="shop").start()
    with load(ports[3]), top(app, 80, 24) as terminal:
        eventually(lambda: is_whole(terminal) and re.match(
            "[1-9]", rates_in(terminal.screen, "my-app")["CONN/S"]))
        for count in ("1", "3"):
            assert app.run("scale", "my-app", count).returncode == 0
            terminal.wait_for("%s/%s up" % (count, count))
            assert not re.search(r" -[0-9]", terminal.screen.text)
        terminal.type("q")
        assert terminal.end() == 0


def test_the_table_has_a_colour_for_each_state_that_matters() -> None:
    for state in ("running", "backoff", "errored", "exhausted", "starting", "stopping"):
        assert status_table.style_of(state) != styled_text.FAINT


