"""What is said, by a start and by commands: of a bad file, to whom, and in which encoding."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, List, Optional

import pytest

from conftest import eventually
from running import PUPGEVENT, Running, run, server, sleeper

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]


def test_a_bad_file_is_exactly_one_line_and_exit_code_2(folder: Path) -> None:
    config = folder / "app.toml"
    config.write_text('[[processes]]\nid = "a"\ncmd = "true"\nautostrat = true\n')
    for words in ([], ["check"]):
        done = run(*words, str(config))
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr == (
            '%s:4: processes[0]: unknown key "autostrat": did you mean "autostart"?\n' % config)


def test_each_mistake_of_a_bad_file_is_a_line_of_its_own(running: Make, folder: Path) -> None:
    """Whoever reads the file: a start, `check`, a command without a pupgevent, a reload, SIGHUP."""
    app = running(sleeper("job"))
    good, bad = app.config.read_text(), '{"processes": [],\n"x": 1,\n"y": 2}'
    told = [
        "%s:1: processes: it is empty: at least one is needed" % app.config,
        '%s:2: unknown key "x": known here are' % app.config,
        '%s:3: unknown key "y": known here are' % app.config,
    ]

    def is_told(lines: "List[str]", prefix: str = "") -> bool:
        return len(lines) == 3 and all(
            line.startswith(prefix + start) for line, start in zip(lines, told))

    app.config.write_text(bad)
    for words in ([], ["check"], ["export", "systemd"], ["status"]):
        done = run(*words, str(app.config))
        assert (done.returncode, done.stdout) == (2, "")
        assert is_told(done.stderr.splitlines()), done.stderr
    app.config.write_text(good)
    app.start()
    app.config.write_text(bad)
    done = app.run("reload")
    assert (done.returncode, done.stdout) == (2, "")
    assert is_told(done.stderr.splitlines(), "pupgevent: "), done.stderr
    app.signal(signal.SIGHUP)
    eventually(lambda: is_told([line.partition("[core] error: ")[2] for line
                                in app.said().splitlines() if "[core] error: " in line],
                               "reload: "), message="SIGHUP's lines: " + app.said())
    assert app.states() == {"job": "running"}


def test_a_file_that_is_not_there_is_one_line_and_exit_code_2(folder: Path) -> None:
    for words in ([], ["check"], ["status"], ["reload"]):
        done = run(*words, str(folder / "nothing.toml"))
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_check_tells_what_would_run(running: Make) -> None:
    app = running(
        server("my-app", [8000, 8001], 3000), sleeper("job", autostart=False))
    done = app.run("check")
    assert (done.returncode, done.stdout.splitlines()) == (0, [
        "my-app: round-robin on 127.0.0.1 port 3000",
        "my-app-1, port 8000",
        "my-app-2, port 8001",
        "job, not started by itself",
    ])  # fmt: skip


def test_check_tells_where_the_dashboard_is_and_warns_of_a_token_that_others_may_have(
    running: Make, folder: Path
) -> None:
    def check(mode: int, **dashboard: Any) -> Any:
        app = running(sleeper("job"), dashboard=dict({"port": 9000}, **dashboard))
        app.config.chmod(mode)
        done = app.run("check")
        assert (done.returncode, done.stdout.splitlines()[1:]) == (0, ["job"])
        number = app.config.read_text().partition('"token": ')[0].count("\n") + 1
        where = "%s:%d: warning: dashboard.token: " % (app.config, number)
        return done.stdout.splitlines()[0], [
            line[len(where):] for line in done.stderr.splitlines() if line.startswith(where)]

    readable = "every user of this machine can read it in this file (chmod o-r)"
    short = "it is shorter than 16 characters, and may be guessed"
    if not all(each.stat().st_mode & 0o001 for each in folder.parents):
        pytest.skip("the folder for temporary files is not everybody's")
    folder.chmod(0o755)
    assert check(0o644) == ("dashboard on 127.0.0.1 port 9000", [])
    assert check(0o644, host="::", token="x" * 16) == ("dashboard on :: port 9000", [readable])
    assert check(0o640, token="x" * 15)[1] == [short]
    assert check(0o604, token="x")[1] == [short, readable]
    assert check(0o640, token="x" * 16)[1] == []
    folder.chmod(0o700)
    assert check(0o644, token="x" * 16)[1] == []


def test_check_warns_of_commands_that_cannot_run_as_it_is_now(
    running: Make, folder: Path
) -> None:
    """With their lines; it is no mistake, since the program may be there at the start."""
    here = folder / "here"
    here.mkdir()
    for name, text in (("good", "#!/bin/sh\n"), ("crlf", "#!/bin/sh\r\n"), ("plain", "")):
        (here / name).write_bytes(text.encode())
        (here / name).chmod(0o644 if name == "plain" else 0o755)
    cases: Any = [
        (["no-such-program", "x"], {}, "no-such-program is not on the PATH"),
        ("no-such-program x > y", {}, "no-such-program is not on the PATH"),
        (["./nothing"], {}, "./nothing is not there"),
        (["good"], {}, "good is not on the PATH"),
        (["./good"], {}, "./good is not there"),
        (["./plain"], {"cwd": str(here)}, "./plain is not executable"),
        (["./crlf"], {"cwd": str(here)},
         "./crlf has a #! line that ends in CRLF: save it with the line ends of Unix"),
        (["sh"], {"env": {"PATH": "/no/where"}}, "sh is not on the PATH"),
        (["./good"], {"cwd": str(here)}, ""),
        (["good"], {"path": str(here)}, ""),
        ("good | x", {"env": {"PATH": str(here)}}, ""),
        ("sleep 1; no-such-program", {}, ""),
        ("cd %s && ./nothing" % here, {}, ""),
    ]
    said = {"restart": "error", "restartDelayMs": 50}
    app = running(*(sleeper("job%d" % number, cmd=cmd, **dict(said, **more))
                    for number, (cmd, more, _) in enumerate(cases)))
    places = [number for number, line in enumerate(app.config.read_text().split("\n"), 1)
              if '"cmd": ' in line]
    done = app.run("check")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, len(cases))
    assert done.stderr.splitlines() == [
        "%s:%d: warning: processes[%d].cmd: %s" % (app.config, line, number, words)
        for number, (line, (_, _, words)) in enumerate(zip(places, cases)) if words]


def test_check_suggests_http_for_web_servers_whose_file_says_nothing_of_the_protocol(
    running: Make
) -> None:
    def web(name: str, cmd: Any, port: int, **more: Any) -> Any:
        ports = {"startPort": port, "commonPort": port + 50}
        return sleeper(name, cmd=cmd, cluster=dict(ports, **more))

    served = [sys.executable, "-m", "http.server"]
    apart = web("apart", served, 8300)
    del apart["cluster"]["commonPort"]
    app = running(web("asked", served, 8000), web("tcp", served, 8100, protocol="tcp"),
                  web("http", served, 8200, protocol="http"), apart,
                  web("unknown", ["sleep", "600"], 8400))
    done = app.run("check")
    assert done.returncode == 0
    assert "asked: round-robin on 0.0.0.0 port 8050\n" in done.stdout
    assert "http: http, round-robin on 0.0.0.0 port 8250\n" in done.stdout
    line, = (each for each in done.stderr.splitlines() if "speaks HTTP" in each)
    number = next(number for number, text in enumerate(app.config.read_text().split("\n"), 1)
                  if '"cluster": {' in text)
    assert line == (
        '%s:%d: hint: processes[0].cluster: http.server speaks HTTP: with "protocol": "http" each'
        ' request is balanced, and a restart loses none ("protocol": "tcp": no hint)' % (
            app.config, number))


def test_check_warns_once_of_each_folder_for_log_files_that_is_missing(
    running: Make
) -> None:
    app = running(
        sleeper("a", logger={"stdout": "there/a.log", "stderr": "none/a.err"}),
        sleeper("b", logger={"stdout": "none/b.log"}),
        sleeper("c", logger={"stdout": "{id}/c.log"}),
        sleeper("d", cluster={"protocol": "http", "accessLog": "d/access.log"}),
        logger={"stdout": "there/{id}.log"})
    (app.config.parent / "there").mkdir()
    done = app.run("check")
    assert (done.returncode, done.stdout) == (0, "a\nb\nc\nd-1\n")
    text = [each.strip(" ,") for each in app.config.read_text().split("\n")]
    assert [each for each in done.stderr.splitlines() if "hint" not in each] == [
        "%s:%d: warning: processes[%d].%s: there is no folder %s" % (
            app.config, text.index('"%s": "%s"' % (key.split(".")[1], said)) + 1, number, key,
            app.config.parent / name)
        for number, key, said, name in (
            (0, "logger.stderr", "none/a.err", "none"), (2, "logger.stdout", "{id}/c.log", "c"),
            (3, "cluster.accessLog", "d/access.log", "d"))]


def test_a_reader_who_leaves_is_no_failure_worth_a_word(running: Make) -> None:
    app = running(*(sleeper("job%d" % number) for number in range(2000)))
    with subprocess.Popen(
        [*PUPGEVENT, "check", str(app.config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout and child.stderr
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(60) == 1


@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_bug(running: Make, closed: str) -> None:
    app = running(sleeper("job"))

    def start(*words: str, last: str = closed) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            ["sh", "-c", 'exec "$@" ' + last, "sh", *PUPGEVENT, *words, str(app.config)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    for words in (["check"], ["export", "systemd"]):
        with start(*words) as done:
            said = done.communicate(timeout=60)[0]
            assert (done.returncode, b"Traceback" in said) == (0, False), said
    with start() as child:
        eventually(app.is_settled)
        child.terminate()
        said = child.communicate(timeout=60)[0]
        assert (child.returncode, b"Traceback" in said) == (0, False), said


def test_what_the_encoding_of_the_terminal_lacks_is_escaped(
    running: Make, folder: Path, monkeypatch: "pytest.MonkeyPatch"
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    app = running(sleeper("job"))
    odd = folder / "0" / "\u00e4pp.json"
    app.config.rename(odd)
    app.config = odd
    assert b"\xc3\xa4pp.json" in subprocess.run(
        [*PUPGEVENT, "export", "systemd", str(odd)], stdout=subprocess.PIPE, check=True).stdout
    app.start()
    found = json.loads(app.run("status", "--json").stdout)
    assert found["config"] == str(odd)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_behind_stdout_is_one_line(running: Make) -> None:
    app = running(sleeper("job"))
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PUPGEVENT, "check", str(app.config)], stdout=full, stderr=subprocess.PIPE,
            check=False)
    assert done.returncode == 1
    assert done.stderr == b"pupgevent: cannot write: no space left on device\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("words, code", [
    (["check", "nowhere.toml"], 2), (["chekc", "nowhere.toml"], 2), (["status", None], 4)])
def test_a_full_disk_behind_stderr_does_not_change_the_exit_code(
    running: Make, words: "List[Optional[str]]", code: int
) -> None:
    config = str(running(sleeper("job")).config)
    command = [*PUPGEVENT, *(word or config for word in words)]
    with open("/dev/full", "w") as full:
        assert subprocess.run(command, stderr=full, check=False).returncode == code


@pytest.mark.parametrize("command", ["status", "check", "reload"])
def test_a_working_directory_that_is_gone_is_one_line(folder: Path, command: str) -> None:
    gone = folder / "gone"
    gone.mkdir()
    shell = 'rmdir "$PWD" && exec "$@"'
    done = subprocess.run(["/bin/sh", "-c", shell, "sh", *PUPGEVENT, command, "app.toml"],
                          cwd=str(gone), stderr=subprocess.PIPE, check=False)
    assert done.returncode in (1, 2)
    assert (done.stderr.count(b"\n"), b"app.toml: " in done.stderr) == (1, True), done.stderr


def test_a_name_with_a_line_in_it_is_told_in_one_line() -> None:
    done = run("check", "no\nwhere\x1b[31m.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "no\\nwhere\\x1b[31m.toml: there is no such file\n"


def test_the_loop_that_applications_are_to_have_is_not_ours(
    running: Make, monkeypatch: "pytest.MonkeyPatch"
) -> None:
    """gevent would look for it, and might not find it."""
    monkeypatch.setenv("GEVENT_LOOP", "libuv-cffi")
    app = running(sleeper("job", cmd="echo loop=$GEVENT_LOOP; exec sleep 60")).start()
    eventually(lambda: "loop=libuv-cffi" in app.said())


#: No UTF-8 for a Python that is told not to help itself; 3.6 does not.
NO_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("there, here", [({"LC_ALL": "C.UTF-8"}, NO_LOCALE),
                                         (NO_LOCALE, {"LC_ALL": "C.UTF-8"})])
def test_a_command_finds_a_file_with_an_odd_name_from_another_locale(
    running: Make, folder: Path, monkeypatch: "pytest.MonkeyPatch", there: Any, here: Any
) -> None:
    app = running(sleeper("job"))
    os.rename(os.fsencode(str(app.config)), os.fsencode(str(folder)) + b"/\xc3\xa4pp.json")
    path = os.fsencode(str(folder)) + b"/\xc3\xa4pp.json"
    for each in ("LC_CTYPE", "LANG"):
        monkeypatch.delenv(each, raising=False)
    command = [os.fsencode(word) for word in PUPGEVENT]
    with subprocess.Popen([*command, path], env=dict(os.environ, **there),
                          stdout=subprocess.DEVNULL) as child:
        try:
            eventually(lambda: not subprocess.call(
                [*command, b"status", path], env=dict(os.environ, **here),
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        finally:
            child.terminate()


def test_a_socket_whose_name_the_locale_lacks_is_one_line(
    running: Make, monkeypatch: "pytest.MonkeyPatch"
) -> None:
    app = running(sleeper("job"), control={"socket": "\u00e4.sock"})
    for name, value in NO_LOCALE.items():
        monkeypatch.setenv(name, value)
    done = app.run("status")
    assert done.returncode in (1, 4)
    assert done.stderr.count("\n") == 1
