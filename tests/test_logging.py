"""Log files of a running pupgevent: who writes where, rotation, other tools, what goes wrong."""

import gzip
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, Callable, List

import pytest

from conftest import eventually
from running import Running, sleeper
from supervision import script

pytest_plugins = ["runs"]

Make = Callable[..., Running]

STAMP = rb"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]"


def shell(process_id: str, text: str, **more: Any) -> Any:
    """A process that runs this once."""
    return dict({"id": process_id, "cmd": text, "autostart": True, "minUptimeMs": 0,
                 "restart": "never"}, **more)


def counting(process_id: str, **more: Any) -> Any:
    """A process that prints numbers, as long as it runs."""
    text = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"
    return shell(process_id, text, restart="always", **more)


def lines_of(path: Path) -> List[bytes]:
    return path.read_bytes().splitlines() if path.exists() else []


def whole(path: Path) -> bytes:
    """A log file behind its backups."""
    found = b""
    for number in range(1000, 0, -1):
        plain = path.with_name("%s.%d" % (path.name, number))
        packed = path.with_name("%s.%d.gz" % (path.name, number))
        if plain.exists():
            found += plain.read_bytes()
        elif packed.exists():
            found += gzip.decompress(packed.read_bytes())
    return found + path.read_bytes()


def start_with(app: Running, *folders: str) -> Path:
    for each in folders:
        (app.config.parent / each).mkdir()
    app.start()
    return app.config.parent


def test_lines_are_where_the_loggers_say(running: Make) -> None:
    say = "printf '\\033[1;31mout\\033[m\\n'; echo err >&2; exec sleep 600"
    out = "\033[1;31mout\033[m"
    app = running(
        shell("plain", say),
        shell("own", say, logger={"stdout": "log/own.log"}),
        shell("apart", say, logger={"stdout": "log/{id}.log", "stderr": "log/{id}.err"}),
        shell("some", say, cluster={"instances": 2},
              logger={"stdout": "log/{id}-{instance}.log", "decorateFiles": True}),
        shell("bad", "exit 7"),
        logger={"stdout": "log/{id}.txt", "stderr": "log/errors.txt"},
    )
    folder = app.config.parent / "log"
    folder.mkdir()
    app.begin()
    expected = {
        "plain.txt": ["[plain][stdout] out"],
        "own.log": [out, "err"],
        "apart.log": [out], "apart.err": ["err"],
        "some-1.log": ["[some-1][stdout] out", "[some-1][stderr] err"],
        "some-2.log": ["[some-2][stdout] out", "[some-2][stderr] err"],
    }
    for name, lines in expected.items():
        eventually(lambda name=name, lines=lines: sorted(  # type: ignore[misc]
            re.sub(STAMP, b"", each).decode() for each in lines_of(folder / name)
        ) == sorted(lines), message=name)
    eventually(lambda: any(b"[bad][core] error: exit code 7" in each
                           for each in lines_of(folder / "errors.txt")))
    assert any(b"[plain][stderr] err" in each for each in lines_of(folder / "errors.txt"))
    assert re.match(STAMP + rb"\[core\] pupgevent [0-9.]+ runs ",
                    lines_of(folder / "pupgevent.txt")[0])
    app.signal(signal.SIGTERM)
    assert app.wait() == 0
    assert lines_of(folder / "pupgevent.txt")[-1].endswith(b"[core] stopped")


def test_console_and_file_get_the_bytes_as_they_came(running: Make) -> None:
    text = "printf 'a\\033[31mb\\n\\377\\n'; printf 'no end'; exec >&- 2>&-; exec sleep 600"
    app = running(shell("job", text, minUptimeMs=0), logger={
        "decorate": False, "stdout": "job.log"})
    app.start()
    came = b"a\x1b[31mb\n\xff\nno end"
    path = app.config.parent / "job.log"
    eventually(lambda: came in path.read_bytes() and came in app.output.read_bytes())


def test_a_flood_is_rotated_and_no_line_is_lost_or_torn(running: Make) -> None:
    app = running(shell(
        "job", "seq -f 'line %.0f of a flood that goes on' 400000; echo done; exec sleep 600",
        logger={"stdout": "job.log", "maxBytes": "512K", "backups": 100, "compress": True,
                "console": False}))
    app.begin()
    path = app.config.parent / "job.log"
    eventually(lambda: path.exists() and path.read_bytes().endswith(b"done\n"))
    app.signal(signal.SIGTERM)
    assert app.wait() == 0
    assert whole(path) == b"".join(
        b"line %d of a flood that goes on\n" % n for n in range(1, 400001)) + b"done\n"
    assert path.with_name("job.log.2.gz").exists()
    # While a backup is compressed, the file may grow to twice its size, and by a piece.
    assert path.stat().st_size < 3 * 512 * 1024


def test_sigusr1_opens_a_file_anew_that_was_moved_away(running: Make) -> None:
    app = running(sleeper("job"), logger={"stdout": "all.log"}).start()
    path = app.config.parent / "all.log"
    eventually(lambda: b"running" in path.read_bytes() or lines_of(path))
    moved = path.with_name("moved.log")
    path.rename(moved)
    app.signal(signal.SIGUSR1)
    eventually(lambda: b"SIGUSR1: 1 log file opened anew" in path.read_bytes())
    app.run("stop", "job")
    eventually(lambda: b"[job][core] stopped" in path.read_bytes())
    assert b"stopped" not in moved.read_bytes()


LOGROTATE = shutil.which("logrotate", path=os.environ["PATH"] + ":/usr/sbin")


@pytest.mark.skipif(LOGROTATE is None, reason="logrotate is not installed")
@pytest.mark.parametrize("how", ["copytruncate", "postrotate", "nothing"])
def test_logrotate_rotates_what_is_written(running: Make, how: str) -> None:
    app = running(counting("job", logger={"stdout": "log/job.log", "maxBytes": 0}))
    folder = start_with(app, "log")
    (folder / "log").chmod(0o755)
    path = folder / "log" / "job.log"
    eventually(lambda: len(lines_of(path)) > 20)
    told = {
        "copytruncate": "copytruncate",
        "postrotate": "postrotate\n kill -USR1 %d\nendscript" % app.child.pid,
        "nothing": "",
    }[how]
    rules = folder / "rules"
    rules.write_text("%s {\n rotate 5\n nocompress\n %s\n}\n" % (path, told))
    rules.chmod(0o644)
    subprocess.run(
        [str(LOGROTATE), "-f", "-s", str(folder / "state"), str(rules)], check=True, timeout=60)
    first = path.with_name("job.log.1")
    last = int(lines_of(first)[-1])
    eventually(lambda: len(lines_of(path)) > 20 and int(lines_of(path)[-1]) > last + 20)
    app.signal(signal.SIGTERM)
    assert app.wait() == 0
    numbers = [int(each) for each in lines_of(first) + lines_of(path)]
    if how != "copytruncate":  # which loses what is written between the two
        assert numbers == list(range(1, len(numbers) + 1))
    assert path.read_bytes()[:1] != b"\0"


def test_a_folder_that_comes_later_is_one_warning_and_what_was_lost(running: Make) -> None:
    app = running(counting("job", logger={"stdout": "later/job.log"})).start()
    eventually(lambda: "lines are lost until it can be written" in app.said())
    first = app.said().count("[job][stdout]")
    eventually(lambda: app.said().count("[job][stdout]") > first + 100)
    (app.config.parent / "later").mkdir()
    eventually(lambda: "is written again" in app.said())
    warnings = [each for each in app.said().splitlines() if "log file" in each]
    path = app.config.parent / "later" / "job.log"
    assert len(warnings) == 2
    assert warnings[0].endswith(
        "[core] warning: log file %s: no such file or directory; lines are lost until it can be"
        " written" % path)
    lost = re.search(r"is written again, (\d+) lines lost$", warnings[1])
    assert lost and int(lines_of(path)[0]) == int(lost.group(1)) + 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_is_one_warning_and_the_service_goes_on(running: Make) -> None:
    app = running(counting("job", logger={"stdout": "/dev/full"})).start()
    eventually(lambda: "log file /dev/full: no space left on device" in app.said())
    first = app.said().count("[job][stdout]")
    eventually(lambda: app.said().count("[job][stdout]") > first + 100)
    assert app.said().count("no space left") == 1


def test_a_reload_sends_lines_elsewhere_and_closes_what_nobody_writes_to(running: Make) -> None:
    def job(name: str) -> Any:
        return counting("job", logger={"stdout": name})

    app = running(job("a.log")).start()
    folder = app.config.parent
    eventually(lambda: lines_of(folder / "a.log"))
    app.write(job("b.log"))
    app.run("reload")
    eventually(lambda: lines_of(folder / "b.log"))
    descriptors = Path("/proc/%d/fd" % app.child.pid)

    def opened() -> List[str]:
        return sorted(os.path.basename(os.readlink(str(each))) for each in descriptors.iterdir()
                      if os.readlink(str(each)).endswith(".log"))

    eventually(lambda: opened() == ["b.log"])
    app.signal(signal.SIGTERM)
    assert app.wait() == 0
    numbers = [int(each) for each in lines_of(folder / "a.log") + lines_of(folder / "b.log")]
    assert numbers == list(range(1, len(numbers) + 1))


def test_what_a_child_says_last_is_in_its_file(running: Make) -> None:
    app = running(shell("job", "trap 'echo bye; exit 0' TERM; echo hi; while :; do sleep 0.1; done",
                        logger={"stdout": "job.log"})).start()
    path = app.config.parent / "job.log"
    eventually(lambda: lines_of(path) == [b"hi"])
    app.signal(signal.SIGTERM)
    assert app.wait() == 0
    assert lines_of(path)[0] == b"hi" and b"bye" in lines_of(path)


def test_a_log_file_that_takes_nothing_slows_its_own_process_only(running: Make) -> None:
    """A named pipe stands for a disk that does not answer."""
    def loud(name: str) -> Any:
        return {"id": "loud", "cmd": list(script("flooding.py", "100000")), "autostart": True,
                "minUptimeMs": 0, "restart": "never",
                "logger": {"stdout": name, "console": False, "maxBytes": 0}}

    calm = counting("calm", logger={"stdout": "calm.log"})
    app = running(loud("pipe/loud"), calm)
    folder = app.config.parent
    (folder / "pipe").mkdir()
    os.mkfifo(str(folder / "pipe" / "loud"))
    reader = os.open(str(folder / "pipe" / "loud"), os.O_RDONLY | os.O_NONBLOCK)
    try:
        app.start()
        before = len(lines_of(folder / "calm.log"))
        eventually(lambda: len(lines_of(folder / "calm.log")) > before + 100)
        assert app.run("status").returncode == 0
        app.write(loud("loud.log"), calm)
        app.run("reload")
        eventually(lambda: lines_of(folder / "loud.log")[-1:] == [b"line 99999"])
    finally:
        os.close(reader)
