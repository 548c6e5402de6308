"""`pupgevent logs` of a real one, where memory is not enough: after a restart, across rotations."""

import contextlib
import json
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

import client
import control_client
from cli import Arguments
from conftest import eventually
from control_client import Failed
from running import PUPGEVENT, Running, sleeper

pytest_plugins = ["runs"]

Make = Callable[..., Running]


def says(process_id: str, text: str, **more: Any) -> Any:
    """A process that runs this, and then nothing for longer than any test lasts."""
    return sleeper(process_id, cmd=text + "; exec sleep 600", **more)


def counting(last: int) -> str:
    return "seq -f 'line %%.0f' %d" % last


def shown(app: Running, *words: str) -> List[str]:
    """What `logs` prints, without times."""
    done = app.run("logs", *words)
    assert done.returncode == 0, done.stderr
    return [re.sub(r"^\[2.*?\]", "", line) for line in done.stdout.splitlines()]


def lines(first: int, last: int, head: str = "[job][stdout] ") -> List[str]:
    return ["%sline %d" % (head, number) for number in range(first, last + 1)]


def restart(app: Running) -> None:
    app.signal(signal.SIGTERM)
    assert app.wait() == 0
    app.start()


def test_lines_of_before_a_restart_come_from_the_files(running: Make) -> None:
    app = running(says("job", counting(3000)), logger={"stdout": "all.log"}).start()
    eventually(lambda: "line 3000" in app.said())
    assert shown(app, "-n", "2500", "job")[-2000:] == lines(1001, 3000)
    app.write(sleeper("job"), logger={"stdout": "all.log"})
    restart(app)
    assert not any("stdout" in each for each in shown(app))
    found = [each for each in shown(app, "-n", "100", "job") if "stdout" in each]
    assert len(found) > 80 and found == lines(3001 - len(found), 3000)
    # pupgevent's own lines too, and whose end is the beginning of the next.
    everything = [each for each in shown(app, "-n", "5000") if "[core] " in each]
    assert everything.count("[core] stopped") == 1
    assert sum(each.startswith("[core] pupgevent ") for each in everything) == 2


def test_raw_files_of_instances_are_shown_after_a_restart(running: Make) -> None:
    more: Dict[str, Any] = {
        "cluster": {"instances": 2}, "logger": {"stdout": "{id}-{instance}.log", "maxBytes": 20000}}
    app = running(says("job", counting(5000), **more)).start()
    eventually(lambda: app.said().count("line 5000") == 2)
    app.write(sleeper("job", **more))
    restart(app)
    assert shown(app, "-n", "7", "job-2")[:6] == lines(4995, 5000, "[job-2] ")
    found = shown(app, "-n", "2000", "job")
    for name in ("job-1", "job-2"):
        of_one = [each for each in found if each.startswith("[%s] " % name)]
        assert of_one == lines(5001 - len(of_one), 5000, "[%s] " % name) and len(of_one) > 900
    # When the last of the backups was begun nothing tells.
    done = app.run("logs", "--since=1h", "job-1")
    assert "line 5000\n" in done.stdout and "line 1\n" not in done.stdout
    assert re.match(r"pupgevent: lines without a time .*job-1\.log; -n shows them\n\Z", done.stderr)


def test_rotated_and_compressed_files_of_several_are_read(running: Make) -> None:
    logger = {"stdout": "all.log", "maxBytes": 50000, "backups": 50, "compress": True,
              "console": False}
    app = running(says("job", counting(20000)), says("other", counting(7000)),
                  says("quiet", "echo once"), logger=logger).start()
    log = app.config.parent / "all.log"

    def is_written() -> bool:
        return shown(app, "-n", "1", "job") == lines(20000, 20000) and shown(
            app, "-n", "1", "other") == lines(7000, 7000, "[other][stdout] ")

    eventually(is_written)
    assert list(log.parent.glob("all.log.*.gz"))
    for most in (5, 1500, 15000):
        assert shown(app, "-n", str(most), "job") == lines(20001 - most, 20000)
    assert shown(app, "--since=1h", "other")[-7000:] == lines(1, 7000, "[other][stdout] ")
    assert "[quiet][stdout] once" in shown(app, "-n", "1000", "quiet")
    restart(app)
    eventually(is_written)
    found = [each for each in shown(app, "--since=1h", "job") if "stdout" in each]
    assert found == lines(1, 20000) * 2


@contextlib.contextmanager
def following(app: Running, *words: str) -> "Iterator[subprocess.Popen[str]]":
    with subprocess.Popen(
        [*PUPGEVENT, "logs", "--follow", str(app.config), *words], stdout=subprocess.PIPE,
        universal_newlines=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def numbers_in(child: "subprocess.Popen[str]", last: int) -> List[int]:
    """Of its lines, up to that number."""
    found: List[int] = []
    assert child.stdout
    while not found or found[-1] < last:
        line = child.stdout.readline()
        assert line and "left out" not in line, line
        match = re.search(r"line (\d+)$", line)
        if match:
            found.append(int(match.group(1)))
    return found


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("words", [[], ["-n", "0"], ["-n", "3000"], ["--since=1h"]])
def test_what_is_followed_goes_on_from_the_past_across_rotations(
    running: Make, words: List[str], raw: bool
) -> None:
    """Nothing between the two is missing, and nothing comes twice."""
    text = "i=0; while :; do i=$((i+1)); echo line $i; [ $((i % 20)) != 0 ] || sleep 0.01; done"
    logger = {"stdout": "job.log", "maxBytes": 10000, "backups": 500, "decorateFiles": not raw,
              "console": False, "compress": True}
    app = running(sleeper("job", cmd=text, logger=logger)).start()
    path = app.config.parent / "job.log.3.gz"
    eventually(path.exists)
    with following(app, *words, "job") as child:
        first, = numbers_in(child, 1)[:1] or [0]
        rotated = Path(str(path).replace(".3.", ".9."))
        found = [first, *numbers_in(child, first + 4000)]
        eventually(rotated.exists)
    assert found == list(range(first, found[-1] + 1))
    if words == ["--since=1h"] and not raw:
        assert first == 1


def test_a_follower_begins_with_ten_lines_also_of_before(running: Make) -> None:
    app = running(says("job", counting(100)), logger={"stdout": "all.log"}).start()
    eventually(lambda: "line 100" in app.said())
    app.write(sleeper("job", autostart=False), logger={"stdout": "all.log"})
    restart(app)
    with following(app, "job") as child:
        assert child.stdout
        found = [child.stdout.readline().split("] ", 1)[1] for _ in range(10)]
    assert found[:6] == ["line %d\n" % number for number in range(95, 101)] or (
        "line 100\n" in found)


def test_a_reader_that_leaves_ends_the_search(running: Make) -> None:
    app = running(sleeper("job"), logger={"stdout": "all.log"})
    path = app.config.parent / "all.log"
    with open(str(path), "wb") as file:
        for number in range(500000):
            file.write(b"[2026-11-23 15:04:05][job][stdout] line %d\n" % number)
    app.start()
    command = [*PUPGEVENT, "logs", "-n", "1000000", str(app.config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stdout.readline().endswith(b"line 0\n")
        child.stdout.close()
        assert child.wait(60) == 1
    fds = Path("/proc/%d/fd" % app.child.pid)

    def opened() -> int:
        return sum(each.resolve() == path.resolve() for each in fds.iterdir())

    eventually(lambda: opened() == 1, message="only the one that is written to is open")


# Since


def test_forms_of_since(running: Make) -> None:
    app = running(sleeper("job"), logger={"stdout": "all.log"})
    now = time.time()
    with open(str(app.config.parent / "all.log"), "w") as file:
        for minutes in (3000, 100, 50, 20, 5):
            stamp = time.strftime("[%Y-%m-%d %H:%M:%S]", time.localtime(now - 60 * minutes))
            file.write("%s[job][stdout] %d\n" % (stamp, minutes))
    app.start()

    def since(word: str, *words: str) -> List[str]:
        return [line.split("] ")[1] for line in shown(app, "--since", word, "job", *words)
                if "stdout" in line]

    assert since("30m") == ["20", "5"]
    assert since("1h ago") == ["50", "20", "5"]
    assert since("@%d" % (now - 60 * 101)) == ["100", "50", "20", "5"]
    assert since("30d") == ["3000", "100", "50", "20", "5"]
    clock = time.localtime(now - 60 * 51)
    assert since(time.strftime("%Y-%m-%d %H:%M:%S", clock)) == ["50", "20", "5"]
    assert since(time.strftime("%Y-%m-%dT%H:%M:%S", clock)) == ["50", "20", "5"]
    assert since(time.strftime("%H:%M:%S", clock)) == ["50", "20", "5"]
    assert since("now") == []
    assert [line.split("] ")[1] for line in shown(app, "--since=30d", "-n", "2", "job")][:1] != []
    assert "5" in since("30d", "-n", "10")


@pytest.mark.parametrize("word", ["", "ten", "10", "2026-02-30"])
def test_bad_time_is_one_line(running: Make, word: str) -> None:
    done = running(sleeper("job")).run("logs", "--since=" + word)
    assert (done.returncode, done.stdout) == (2, "")
    line, = done.stderr.splitlines()
    assert line.startswith('pupgevent: logs: TIME "%s" is none of: 30s, 10m' % word)


@pytest.mark.parametrize(
    "since", ["10m", True, [], float("nan"), float("inf"), -1e300, 10**400])
def test_time_in_a_request_is_a_number(running: Make, since: Any) -> None:
    app = running(sleeper("job")).start()
    with pytest.raises(Failed) as caught:
        app.ask("logs", words=[], since=since)
    assert caught.value.exit_status == 2 and '"since" is not' in str(caught.value)
    assert app.ask("logs", words=[], since=None)["ok"]
    assert app.ask("logs", words=[], since=5)["ok"]


def test_what_is_not_asked_for_an_older_pupgevent_need_not_know(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: List[Dict[str, Any]] = []

    def call(config: str, request: Dict[str, Any], *_: Any) -> Dict[str, Any]:
        asked.append(request)
        return {"whose": None}

    monkeypatch.setattr(client, "call", call)
    for arguments in (Arguments("logs"), Arguments("logs", lines=5), Arguments("logs", since=1.5)):
        client.logs(arguments)
    assert [sorted(set(each) - {"command", "words", "follow", "colors"}) for each in asked] == [
        [], ["lines"], ["since"]]


def test_lines_of_files_are_coloured_on_a_terminal(running: Make) -> None:
    app = running(sleeper("job"), logger={"stdout": "all.log"})
    (app.config.parent / "all.log").write_bytes(
        b"[2026-11-23 15:04:05][job][stdout] out\n[2026-11-23 15:04:05][job][stderr] err\n")
    app.start()
    found: List[str] = []
    control_client.call(
        str(app.config),
        {"command": "logs", "words": ["job"], "lines": 100, "colors": True},
        lambda reply: found.append(reply["lines"]))
    assert "".join(found).startswith(
        "\x1b[90m[2026-11-23 15:04:05]\x1b[36m[job][stdout]\x1b[0m out\n"
        "\x1b[90m[2026-11-23 15:04:05]\x1b[31m[job][stderr]\x1b[0m err\n")
    assert json.dumps(found)
