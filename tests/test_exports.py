"""The exported unit says what the configuration does, and systemd takes it."""

import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict

import pytest

import usage
from exports import FORMATS, quoted, unit_name
from running import PUPGEVENT, Running, run, server, sleeper


def unit(folder: Path, *processes: Any) -> str:
    app = Running(folder, *processes)
    done = run("export", "systemd", str(app.config))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def settings(text: str) -> Dict[str, str]:
    lines = (line for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def test_the_command_line_takes_each_format_that_can_be_written() -> None:
    assert tuple(FORMATS) == usage.FORMATS


def test_the_command_is_absolute_and_so_is_the_file(tmp_path: Path) -> None:
    words = settings(unit(tmp_path, sleeper("job")))["ExecStart"].split()
    assert words[-1] == str((tmp_path / "app.json").resolve())
    assert words[:-1] == [PUPGEVENT[0], PUPGEVENT[1]]


def test_a_link_to_the_file_is_named_as_it_is(tmp_path: Path) -> None:
    """Relative paths start at the folder of the link, and a release may move it."""
    app = Running(tmp_path, sleeper("job"))
    link = tmp_path / "link.json"
    link.symlink_to(app.config)
    done = run("export", "systemd", str(link))
    assert settings(done.stdout)["ExecStart"].endswith(" " + str(link))


def test_time_to_stop_is_that_of_the_slowest_process(tmp_path: Path) -> None:
    slow = sleeper("slow", terminateGracePeriod=7.5, terminateTimeout=100)
    found = settings(unit(tmp_path, slow, sleeper("quick", terminateTimeout=1)))
    assert int(found["TimeoutStopSec"]) == 108 + 15


def test_time_to_start_is_that_of_the_slowest_port(tmp_path: Path) -> None:
    slow = server("slow", [18000], None)
    slow["cluster"]["readyTimeoutMs"] = 300000
    assert int(settings(unit(tmp_path, slow))["TimeoutStartSec"]) == 360


def test_the_time_to_start_covers_how_long_one_without_a_port_has_to_live(tmp_path: Path) -> None:
    for changes in ({}, {"cluster": {"instances": 2, "readyTimeoutMs": 5}}):
        slow = sleeper("slow", minUptimeMs=300000, **changes)
        assert int(settings(unit(tmp_path, slow))["TimeoutStartSec"]) == 360


def test_what_the_protocol_needs_is_there(tmp_path: Path) -> None:
    found = settings(unit(tmp_path, sleeper("job")))
    expected = {"Type": "notify", "NotifyAccess": "main", "KillMode": "mixed",
                "Restart": "on-failure"}
    assert {name: found[name] for name in expected} == expected
    assert "WatchdogSec" in found and "LimitNOFILE" in found and "User" not in found


def test_a_reload_is_the_command_that_waits_for_its_end(tmp_path: Path) -> None:
    found = settings(unit(tmp_path, sleeper("job")))
    command, _, config = found["ExecStart"].rpartition(" ")
    assert found["ExecReload"] == "%s reload %s" % (command, config)


def test_a_bad_file_is_told_as_ever_and_nothing_is_printed(tmp_path: Path) -> None:
    config = tmp_path / "app.toml"
    config.write_text("processes = 3\n")
    done = run("export", "systemd", str(config))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("%s:1: " % config)


def test_an_unknown_format_gets_the_nearest(tmp_path: Path) -> None:
    done = run("export", "systmd", "x.toml")
    assert done.returncode == 2
    assert 'FORMAT "systmd" is not systemd: did you mean "systemd"?' in done.stderr


@pytest.mark.parametrize("word, expected", [
    ("/srv/app.toml", "/srv/app.toml"),
    ("/srv/my app.toml", '"/srv/my app.toml"'),
    ("/srv/100%.toml", "/srv/100%%.toml"),
    ("/srv/$HOME.toml", "/srv/$$HOME.toml"),
    ('/srv/"a".toml', '"/srv/\\"a\\".toml"'),
    ("/srv/a\\b.toml", '"/srv/a\\\\b.toml"'),
    ("/srv/it's.toml", '"/srv/it\'s.toml"'),
    ("/srv/a;b.toml", '"/srv/a;b.toml"'),
    ("/srv/a\nb.toml", '"/srv/a\\x0ab.toml"'),
    ("/srv/\udcff.toml", '"/srv/\\xff.toml"'),
    ("/srv/größe.toml", "/srv/größe.toml"),
    ("", '""'),
])
def test_words_are_quoted_as_systemd_reads_them(word: str, expected: str) -> None:
    assert quoted(word) == expected


def test_no_dollar_is_doubled_where_nothing_is_replaced() -> None:
    assert quoted("/opt/a$b", variables=False) == "/opt/a$b"


def test_the_name_of_the_unit_is_one(tmp_path: Path) -> None:
    assert unit_name("my app/ü") == "my-app"
    assert unit_name("日本") == "pupgevent"
    assert unit_name("web.1@a_b") == "web.1@a_b"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd")
@pytest.mark.parametrize("name", ["app", "my app", "100% $HOME", "it's \"quoted\" \\ ;"])
def test_systemd_accepts_the_unit(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    path = tmp_path / "made.service"
    path.write_text(unit(folder, sleeper("job")))
    assert verdict(path) == ""


def verdict(path: Path) -> str:
    """What systemd has to say of a unit; of others it may say what it likes."""
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(path)], check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True)
    return "\n".join(line for line in done.stdout.splitlines() if path.name in line)
