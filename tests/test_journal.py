"""The console of a service: systemd's journal, which is told priorities, and knows the time."""

import os
import re
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
from hypothesis import given, strategies as st

from conftest import eventually
from journal import MARKS, is_console
from logs import LONGEST_LINE, Head
from running import PUPGEVENT, Running, run, sleeper
from sinks import NO_INSTANCE, Lines

pytest_plugins = ["runs"]

STAMP = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]"


class Service(Running):
    """Its output stands for the journal: JOURNAL_STREAM names it."""

    def begin(self, *options: str) -> "Service":
        with open(str(self.output), "ab") as output:
            stream = os.fstat(output.fileno())
            self.child = subprocess.Popen(
                [*PUPGEVENT, *options, str(self.config)], stdout=output, stderr=output,
                stdin=subprocess.DEVNULL, env=dict(
                    os.environ, JOURNAL_STREAM="%d:%d" % (stream.st_dev, stream.st_ino)))
        return self

    def start(self) -> "Service":
        super().start()
        return self

    def lines(self, start: str = "") -> List[str]:
        return [each for each in self.said().splitlines() if each.startswith(start)]


@pytest.fixture
def service(folder: Path) -> Any:
    """`service(process, ...)`: a pupgevent of these processes, not started yet."""
    made: List[Service] = []

    def make(*processes: Any, **top: Any) -> Service:
        made.append(Service(folder, *processes, **top))
        return made[-1]

    yield make
    for each in made:
        each.end()


Make = Callable[..., Service]


def shell(process_id: str, text: str, **more: Any) -> Any:
    """A process that runs this, and stays."""
    return sleeper(process_id, cmd="printf '%s'; exec sleep 600" % text, **more)


def test_lines_have_priorities_and_no_time(service: Make) -> None:
    app = service(
        shell("job", r"one\ntwo\n"), shell("other", r"err\n' >&2; printf '"),
        {"id": "bad", "cmd": "exit 7", "autostart": True, "restart": "never", "minUptimeMs": 0},
        logger={"stdout": "nowhere/file"})
    app.begin("--verbose")
    lines = [
        "<6>[job][stdout] one", "<6>[job][stdout] two", "<4>[other][stderr] err",
        "<3>[bad][core] error: exit code 7, and it is not to be restarted",
    ]
    eventually(lambda: set(lines) <= set(app.lines()))
    eventually(lambda: app.lines("<4>[core] warning: log file "))
    eventually(lambda: app.lines("<7>"), message="a line that only --verbose has")
    assert app.lines("<6>[core] pupgevent ")
    app.run("shutdown")
    assert app.wait() == 0
    assert all(re.match(r"<[3467]>\[[a-z.]+\]", each) for each in app.lines()), app.said()


def test_a_priority_of_a_childs_own_counts_and_is_not_shown(service: Make) -> None:
    app = service(shell("job", r"<3>bad\n<7>\n <3>no\n<8>nor this\n<12>nor\n<6><2>text\n"))
    app.start()
    lines = [
        "<3>[job][stdout] bad", "<7>[job][stdout] ", "<6>[job][stdout]  <3>no",
        "<6>[job][stdout] <8>nor this", "<6>[job][stdout] <12>nor", "<6>[job][stdout] <2>text",
    ]
    eventually(lambda: [each for each in app.lines() if "[stdout]" in each] == lines)


def test_the_history_and_files_have_the_usual_look(service: Make) -> None:
    app = service(shell("job", r"<3>bad\nnext\n"), logger={"stdout": "all.log"}).start()
    path = app.config.parent / "all.log"
    usual = re.compile(STAMP + r"\[job\]\[stdout\] <3>bad\n" + STAMP + r"\[job\]\[stdout\] next\n")
    eventually(lambda: usual.search(path.read_text()))
    assert usual.search(app.run("logs").stdout)


def test_what_is_not_decorated_comes_as_it_is(service: Make) -> None:
    app = service(shell("job", r"one\n<3>two\n\033[1mthree\n"), logger={"decorate": False})
    app.start()
    eventually(lambda: "one\n<3>two\n\x1b[1mthree\n" in app.said())
    assert all("[core]" not in each for each in app.lines())


def test_colours_are_only_there_where_the_file_has_them(service: Make) -> None:
    app = service(shell("job", r"<3>one\ntwo\n"), logger={"colors": True}).start()
    line = "<%d>\x1b[36m[job][stdout]\x1b[0m %s"
    eventually(lambda: {line % (3, "one"), line % (6, "two")} <= set(app.lines()))
    assert "\x1b[90m" not in app.said()


def test_it_holds_after_a_reload(service: Make) -> None:
    text = r"%s\n"
    app = service(shell("a", text % "first"), logger={"decorate": False}).start()
    eventually(lambda: "first" in app.lines())
    app.write(shell("b", text % "second"), logger={"colors": True})
    assert app.run("reload").returncode == 0
    eventually(lambda: "<6>\x1b[36m[b][stdout]\x1b[0m second" in app.lines())
    app.write(shell("c", text % "third"), logger={"console": False})
    assert app.run("reload").returncode == 0
    eventually(lambda: "third" in app.run("logs", "c").stdout)
    app.write(shell("d", text % "fourth"))
    assert app.run("reload").returncode == 0
    eventually(lambda: "<6>[d][stdout] fourth" in app.lines())
    assert "third" not in app.said()


def test_each_piece_of_a_long_line_has_its_own(service: Make) -> None:
    size = 3 * LONGEST_LINE
    said = "head -c %d /dev/zero | tr '\\0' x; touch said; exec sleep 600"
    app = service(sleeper("job", cmd=said % size))
    app.start()
    eventually((app.config.parent / "said").exists)
    head = "<6>[job][stdout] "

    def text() -> str:
        return "".join(each[len(head):] for each in app.lines(head))

    app.run("stop", "job")  # at its end the rest comes out, too
    eventually(lambda: text() == "x" * size)
    assert len(app.lines(head)) >= 3


def test_it_may_be_a_socket_as_systemds_is(running: Callable[..., Running]) -> None:
    app = running(shell("job", r"hello\n"))
    ours, theirs = socket.socketpair()
    said: List[bytes] = []

    def read() -> None:
        with ours:
            said.extend(iter(lambda: ours.recv(65536), b""))

    reader = threading.Thread(target=read)
    with theirs:
        found = os.fstat(theirs.fileno())
        app.child = subprocess.Popen(
            [*PUPGEVENT, str(app.config)], stdin=subprocess.DEVNULL, stdout=theirs.fileno(),
            stderr=subprocess.DEVNULL,
            env=dict(os.environ, JOURNAL_STREAM="%d:%d" % (found.st_dev, found.st_ino)))
    reader.start()
    eventually(lambda: b"<6>[job][stdout] hello\n" in b"".join(said))
    app.child.terminate()
    assert app.child.wait(60) == 0
    reader.join(60)
    assert b"".join(said).endswith(b"<6>[core] stopped\n")


@pytest.mark.parametrize("told", ["", "0:0", "8:12345678", "nonsense", "9" * 50 + ":1", ":", "-1"])
def test_a_variable_that_names_another_stream_changes_nothing(
    running: Callable[..., Running], monkeypatch: "pytest.MonkeyPatch", told: str
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", told)
    app = running(shell("job", r"hello\n")).start()
    eventually(lambda: re.search("^" + STAMP + r"\[job\]\[stdout\] hello$", app.said(), re.M))
    assert "<6>" not in app.said()


def environment_of(app: Running, name: str) -> Dict[str, str]:
    words = Path("/proc/%d/environ" % app.pids()[name]).read_bytes().decode().split("\0")
    return dict(word.split("=", 1) for word in words if word)


def test_the_children_do_not_take_it_for_theirs(service: Make) -> None:
    app = service(sleeper("job"), sleeper("told", env={"JOURNAL_STREAM": "1:2"})).start()
    assert "JOURNAL_STREAM" not in environment_of(app, "job")
    assert environment_of(app, "told")["JOURNAL_STREAM"] == "1:2"


def test_no_command_prints_priorities(
    running: Callable[..., Running], monkeypatch: "pytest.MonkeyPatch"
) -> None:
    """They print for people, and for scripts."""
    app = running(shell("job", r"hello\n")).start()
    eventually(lambda: "hello" in app.said())
    reader, writer = os.pipe()
    try:
        found = os.fstat(writer)
        monkeypatch.setenv("JOURNAL_STREAM", "%d:%d" % (found.st_dev, found.st_ino))
        subprocess.check_call([*PUPGEVENT, "logs", str(app.config)], stdout=writer)
        assert os.read(reader, 65536).startswith(b"[")
    finally:
        os.close(reader)
        os.close(writer)


def test_a_closed_descriptor_is_no_journal() -> None:
    environ = {"JOURNAL_STREAM": "1:2", "OTHER": ""}
    assert not is_console(environ, 10**6)
    assert environ == {"OTHER": ""}


def journaled(line: bytes, mark: bytes) -> bytes:
    """What one line of a child becomes."""
    if line[:3] in MARKS:
        mark, line = line[:3], line[3:]
    return mark + b"[app-1][stdout] " + line + b"\n"


TEXTS = st.lists(st.sampled_from(
    [b"<", b">", b"<0>", b"<3>", b"<4>", b"<6>", b"<7>", b"<8>", b"\n", b"\n<6>", b"x", b" "]))


@given(TEXTS, st.sampled_from([4, 6]))
def test_a_block_is_the_same_as_its_lines(parts: List[bytes], priority: int) -> None:
    text = b"".join(parts)
    head = Head("app-1", "stdout", b"", lambda: None).now  # type: ignore[arg-type, return-value]
    block = Lines(text, head, NO_INSTANCE, writer=object(), priority=priority)
    assert block.for_journal(False) == b"".join(
        journaled(line, MARKS[priority]) for line in text.split(b"\n"))
    ours = Lines(text, head, NO_INSTANCE, priority=priority)
    assert ours.for_journal(False) == b"".join(
        MARKS[priority] + b"[app-1][stdout] " + line + b"\n" for line in text.split(b"\n"))


def test_the_exported_unit_leaves_the_prefix_to_systemd(running: Callable[..., Running]) -> None:
    """`SyslogLevelPrefix=` is on by default, and stdout is the journal's."""
    app = running(sleeper("job"))
    unit = run("export", "systemd", str(app.config)).stdout
    assert unit and "SyslogLevelPrefix" not in unit and "StandardOutput" not in unit
