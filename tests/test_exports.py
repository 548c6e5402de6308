"""The exported unit says what the configuration does, and systemd takes it."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

import pytest

import certificates
import usage
from configuration import load
from exports import FORMATS, FRONTS
from model import TlsFile
from running import PUPGEVENT, Running, run, server, sleeper
from unit_hardening import hardening
from unit_syntax import quoted, unit_name


def unit(folder: Path, *processes: Any) -> str:
    app = Running(folder, *processes)
    done = run("export", "systemd", str(app.config))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def settings(text: str) -> Dict[str, str]:
    lines = (line for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def test_the_command_line_takes_each_format_that_can_be_written() -> None:
    assert (*FORMATS, *FRONTS) == usage.FORMATS
    assert tuple(FRONTS) == usage.FRONTS


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
    assert ('FORMAT "systmd" is not systemd, prometheus, nginx or haproxy:'
            ' did you mean "systemd"?') in done.stderr


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


# Hardening

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="there is no systemd")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs things as others")

#: Lines with a filter of system calls, which take the rights of setuid programs with User=.
KERNEL = ("ProtectKernelModules", "ProtectKernelTunables", "ProtectKernelLogs")

#: All that may be on, or be a comment, by what the configuration says.
DECIDED = ("ProtectSystem", "ProtectHome", *KERNEL, "ProtectControlGroups", "SystemCallFilter",
           "CapabilityBoundingSet", "AmbientCapabilities", "User")


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder that is neither in a home nor in a temporary one, as those of pytest may be."""
    with tempfile.TemporaryDirectory(prefix="pupgevent-test-", dir="/var/tmp") as name:
        yield Path(name)


def hardened(folder: Path, *processes: Any, **top: Any) -> List[str]:
    """The lines of hardening for a configuration, where pupgevent itself is in no home."""
    app = Running(folder, *processes, **top)
    return hardening(load(str(app.config)), ["/opt/pupgevent"])


def on(lines: List[str]) -> Dict[str, str]:
    found = settings("\n".join(lines))
    return {name: value for name, value in found.items() if name in DECIDED}


def plain(process_id: str, cmd: Any, **more: Any) -> Dict[str, Any]:
    return dict({"id": process_id, "cmd": cmd, "autostart": True}, **more)


def test_of_a_service_whose_user_is_open_all_is_on_that_breaks_nothing(outside: Path) -> None:
    lines = hardened(outside, plain("web", ["sleep", "600"]))
    found = on(lines)
    assert found.pop("CapabilityBoundingSet").startswith("~CAP_AUDIT_CONTROL ")
    assert found == dict(dict.fromkeys(KERNEL, "yes"), ProtectControlGroups="yes",
                         ProtectSystem="full", ProtectHome="read-only")
    # Its User= may be on a systemd that starts nothing with such a filter.
    assert "#SystemCallFilter=~@module @obsolete @raw-io @reboot @swap" in lines
    assert "#User=" in lines and "#NoNewPrivileges=yes" in lines


@needs_root
def test_with_a_user_in_the_configuration_pupgevent_keeps_what_it_needs_for_that(
    outside: Path
) -> None:
    lines = hardened(outside, plain("web", ["sleep", "600"], user="daemon"))
    found = on(lines)
    dropped = found["CapabilityBoundingSet"]
    for needed in ("SETUID", "SETGID", "KILL", "DAC_OVERRIDE", "SYS_PTRACE", "NET_BIND_SERVICE"):
        assert "CAP_" + needed not in dropped
    assert "CAP_SYS_ADMIN" in dropped and "CAP_NET_ADMIN" in dropped
    assert found["ProtectHome"] == "yes" and "SystemCallFilter" in found
    assert "User" not in found and "#User=" not in lines
    assert "# No User= here: `user` or `group` of web needs root." in lines


@needs_root
@pytest.mark.parametrize("other", [
    plain("own", ["sleep", "600"]),
    plain("own", ["sleep", "600"], user="root"),
    plain("own", "exec sudo -u nobody sleep 600", user="daemon"),
])
def test_where_one_application_is_or_becomes_root_it_keeps_the_rights_of_root(
    outside: Path, other: Dict[str, Any]
) -> None:
    lines = hardened(outside, plain("web", ["sleep", "600"], user="daemon"), other)
    assert "CAP_SYS_ADMIN" not in on(lines)["CapabilityBoundingSet"]


def test_a_low_port_can_be_had_by_a_user_that_is_not_root(outside: Path) -> None:
    web = plain("web", ["sleep", "600"], cluster={"startPort": 8000, "commonPort": 80})
    low = plain("low", ["sleep", "600"], cluster={"startPort": 1022, "instances": 3})
    lines = hardened(outside, web, low)
    assert on(lines)["AmbientCapabilities"] == "CAP_NET_BIND_SERVICE"
    assert "# For port 80 of web, port 1022 of low, port 1023 of low, also with a User= that is " \
        "not root." in lines
    assert "AmbientCapabilities" not in on(hardened(outside, plain("web", ["sleep", "600"])))


@pytest.mark.parametrize("changes", [
    {"cwd": "/usr/share"}, {"pidFile": "/etc/some app/a.pid"}, {"pidFile": "/usr/local/run/a.pid"},
    {"logger": {"stdout": "/usr/local/logs/a.log"}},
    {"cluster": {"protocol": "http", "accessLog": "/usr/local/logs/access.log"}},
])
def test_the_system_stays_writable_where_the_configuration_has_files_in_it(
    outside: Path, changes: Dict[str, Any]
) -> None:
    lines = hardened(outside, plain("web", ["sleep", "600"], **changes))
    assert "ProtectSystem" not in on(lines)
    file = changes.get("pidFile") or changes.get("logger", {}).get("stdout") or (
        changes.get("cluster", {}).get("accessLog", ""))
    path = changes.get("cwd") or os.path.dirname(file)
    assert "#ReadWritePaths=" + quoted("-" + path, variables=False) in lines


def test_the_system_stays_writable_for_a_link_that_leads_there(outside: Path) -> None:
    (outside / "current").symlink_to("/usr/share")
    lines = hardened(outside, plain("web", ["sleep", "600"], cwd="current"))
    assert "ProtectSystem" not in on(lines)


def test_the_stricter_line_names_each_folder_that_is_written_to(outside: Path) -> None:
    (outside / "work").mkdir()
    web = plain("web", ["sleep", "600"], cwd="work", pidFile="/var/run-of-web/web.pid")
    lines = hardened(outside, web, control={"socket": "/srv/sockets/web.sock"})
    assert strict_folders(lines) >= {
        "/run", "/tmp", "/var/tmp", "/srv/sockets", "%s/work" % outside, "/var/run-of-web"}


@pytest.mark.parametrize("stdout, written", [
    ("/srv/logs/web.log", "/srv/logs"),
    ("/srv/logs/{id}-{instance}.log", "/srv/logs"),
    # The folder of each instance, also of one that `scale` adds.
    ("/srv/logs/{id}/{instance}/out.log", "/srv/logs/web"),
    ("/srv/of-{id}/{id}.log", "/srv/of-web"),
    ("/srv/run-{instance}/out.log", "/srv"),
])
def test_the_stricter_line_names_the_folders_of_log_files(
    outside: Path, stdout: str, written: str
) -> None:
    lines = hardened(outside, plain("web", ["sleep", "600"], cluster={"instances": 2}, logger={
        "stdout": stdout, "stderr": "/dev/null"}))
    assert strict_folders(lines) == {"/run", "/tmp", "/var/tmp", str(outside), written}
    lines = hardened(outside, plain("web", ["sleep", "600"]), logger={"stderr": stdout})
    assert strict_folders(lines) >= {written, written.replace("web", "pupgevent")}


def strict_folders(lines: List[str]) -> Set[str]:
    strict = lines[lines.index("#ProtectSystem=strict") + 1]
    return {word.lstrip("-") for word in strict.partition("=")[2].split()}


@pytest.mark.parametrize("changes", [
    {"cmd": "/home/app/venv/bin/python app.py"}, {"cmd": "exec ~/bin/app"}, {"cmd": ["/root/app"]},
    {"cmd": 'exec "$HOME/app"'}, {"path": "/home/app/bin"}, {"env": {"DATA": "/home/app/data"}},
    {"pidFile": "/run/user/1000/app.pid"}, {"pidFile": "/home/app/app.pid"},
    {"logger": {"stderr": "/home/app/{id}.log"}},
])
def test_homes_stay_as_they_are_where_one_is_named(outside: Path, changes: Dict[str, Any]) -> None:
    lines = hardened(outside, dict(plain("web", ["sleep", "600"]), **changes))
    assert "ProtectHome" not in on(lines) and "#ProtectHome=read-only" in lines


@pytest.mark.parametrize("text", ["/srv/home/app", "/srv/homework", "a-home"])
def test_what_only_looks_like_a_home_is_none(outside: Path, text: str) -> None:
    lines = hardened(outside, plain("web", ["sleep", "600"], env={"DATA": text}))
    assert on(lines)["ProtectHome"] == "read-only"


def test_homes_stay_as_they_are_for_a_link_or_an_interpreter_that_is_there(outside: Path) -> None:
    (outside / "link").symlink_to("/home/app")
    (outside / "folder").symlink_to("/home")
    (outside / "script").write_text("#!/home/app/node\n")
    (outside / "script").chmod(0o755)
    for changes in ({"cwd": "folder"}, {"cmd": ["link/node"]}, {"cmd": "./script --port 1"}):
        lines = hardened(outside, dict(plain("web", "sleep 1"), **changes))
        assert "ProtectHome" not in on(lines), changes
    assert "ProtectHome" in on(hardened(outside, plain("web", "sleep 1")))


def test_homes_stay_as_they_are_where_pupgevent_itself_is_in_one(outside: Path) -> None:
    app = Running(outside, plain("web", ["sleep", "600"]))
    lines = hardening(load(str(app.config)), ["/home/app/pupgevent"])
    assert "ProtectHome" not in on(lines)


@pytest.mark.parametrize("field", ["cert", "key", "client_ca"])
def test_homes_stay_as_they_are_where_a_file_of_tls_is_in_one(outside: Path, field: str) -> None:
    made = certificates.make(outside)
    cluster = {"startPort": 8000, "commonPort": 3000, "tls": made._asdict()}
    found = load(str(Running(outside, plain("web", ["sleep", "600"], cluster=cluster)).config))
    assert "ProtectHome" in on(hardening(found, ["/opt/pupgevent"]))
    process, = found.processes
    assert process.cluster is not None and process.cluster.tls is not None
    tls = process.cluster.tls
    if field == "client_ca":
        tls = tls._replace(client_ca=TlsFile("/home/app/ca.pem", ""))
    else:
        changed: Dict[str, Any] = {field: "/home/app/file.pem"}
        tls = tls._replace(pairs=(tls.pairs[0]._replace(**changed),))
    moved = process._replace(cluster=process.cluster._replace(tls=tls))
    lines = hardening(found._replace(processes=(moved,)), ["/opt/pupgevent"])
    assert "ProtectHome" not in on(lines)


@pytest.mark.parametrize("cmd", [
    "exec sudo -u app node .", ["/usr/bin/ping", "10.0.0.1"], "cat report | sendmail -t"])
def test_for_a_setuid_program_no_line_is_on_that_takes_its_rights(outside: Path, cmd: Any) -> None:
    lines = hardened(outside, plain("job", cmd))
    assert not set(KERNEL) & set(on(lines)) and "#ProtectKernelModules=yes" in lines
    assert "ProtectSystem" in on(lines) and "CapabilityBoundingSet" in on(lines)


def test_what_is_run_on_a_failure_counts_as_a_command(outside: Path) -> None:
    lines = hardened(outside, plain("job", "exec app", onFailure="echo failed | mail root"))
    assert not set(KERNEL) & set(on(lines))


@pytest.mark.parametrize("cmd, word", [
    ("podman run --rm app", "podman"), (["/usr/sbin/chronyd", "-d"], "chronyd"),
    ("mount /dev/sdb1 /data && exec app", "mount")])
def test_for_a_program_that_changes_the_system_all_is_off(
    outside: Path, cmd: Any, word: str
) -> None:
    lines = hardened(outside, plain("job", cmd))
    assert on(lines) == {}
    assert "# All off: `%s` of job changes the system. Take the # away where it does not need " \
        "that." % word in lines
    assert any(line.startswith("#CapabilityBoundingSet=~CAP_") for line in lines)


def test_no_line_is_longer_than_a_screen_of_text_but_lists(outside: Path) -> None:
    lines = hardened(outside, plain("web", ["sleep", "600"]))
    assert [line for line in lines if len(line) > 100 and line.startswith("# ")] == []


@needs_systemd
@needs_root
@pytest.mark.parametrize("process, most", [
    (plain("web", ["sleep", "600"]), 8.1),
    (plain("web", ["sleep", "600"], user="daemon"), 6.8),
    (plain("web", ["sudo", "sleep", "600"]), 8.6),
    (plain("web", ["sleep", "600"], cluster={"startPort": 8000, "commonPort": 80}), 8.2),
    (plain("web", ["sleep", "600"], pidFile="/etc/my app/100%.pid"), 8.3),
    (plain("web", ["sleep", "600"], logger={"stdout": "/var/log/a b/{id}-{instance}.log"}), 8.1),
])
def test_systemd_takes_the_unit_and_finds_it_less_exposed_than_without(
    outside: Path, process: Dict[str, Any], most: float
) -> None:
    path = outside / "made.service"
    path.write_text(unit(outside, process))
    assert verdict(path) == ""
    # With each line that may be taken in, too.
    open_ends = "\n".join(line for line in path.read_text().splitlines() if not line.endswith("="))
    path.write_text(re.sub("(?m)^#(?=[A-Z][A-Za-z]*=)", "", open_ends))
    assert verdict(path) == ""
    path.write_text(unit(outside, process))
    assert exposure(path) <= most < exposure_without(path)


def exposure_without(path: Path) -> float:
    """Of the same unit as it was before there was any hardening."""
    before, _, after = path.read_text().partition("# Hardening")
    path.write_text(before + after[after.index("[Install]"):])
    return exposure(path)


def exposure(path: Path) -> float:
    """What systemd makes of it: from 0 to 10."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(path)], check=False,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    found = re.search(r"Overall exposure level.*: (?:\x1b\[[0-9;]*m)*([0-9.]+)", done.stdout)
    if found is None:
        pytest.skip("this systemd tells nothing of a unit that is not there")
    return float(found.group(1))


@needs_systemd
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
