"""What a program finds when it is started, and what is told when it cannot be."""

import json
import os
import pwd
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from child import describe_exit, environment
from guardian import registration
from logs import Log
from model import ResourceLimits
from supervision import (
    CHILDREN,
    Ledger,
    Owner,
    Page,
    gevent_waits_for_children,
    process,
    script,
    supervise,
    wait_until,
)
from supervisor import Supervisor

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")


def inspect(**changes: Any) -> Dict[str, Any]:
    with supervise(process(script("inspecting.py"), **changes)) as stage:
        found: Dict[str, Any] = json.loads(stage.prints("descriptors"))
        return found


def test_child_leads_a_group_and_a_session_of_its_own() -> None:
    found = inspect()
    assert found["group"] == found["session"] == found["pid"]


def test_child_has_no_descriptors_but_its_three() -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        assert inspect()["descriptors"] == [0, 1, 2]
    finally:
        os.close(reader)
        os.close(writer)


def test_child_reads_from_nowhere() -> None:
    assert inspect()["stdin"] == "/dev/null"


def test_child_has_no_signal_blocked_or_ignored() -> None:
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        found = inspect()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
    # The child is a Python, which ignores SIGPIPE and SIGXFSZ; 32 and 33 are the C library's.
    own = sum(1 << (number - 1) for number in (signal.SIGPIPE, signal.SIGXFSZ, 32, 33))
    assert (found["ignored"] & ~own, found["blocked"]) == (0, 0)


def test_sigpipe_ends_a_program_as_it_does_in_a_shell() -> None:
    with supervise(process("yes | head -n 1; kill -PIPE $$; echo survived")) as stage:
        assert stage.reaches("errored").last_exit == "SIGPIPE"


@pytest.mark.parametrize("cmd, is_its_own", [
    ("{app}", True), ("{app} > /dev/stderr", True), ("A=b {app}", False),
    ("{app}; exit 3", False), ("{app} && true", False)])
def test_the_pid_of_a_simple_command_is_the_applications(cmd: str, is_its_own: bool) -> None:
    app = "%s -c 'import os, sys; print(\"pid\", os.getpid(), file=sys.stderr)'" % sys.executable
    with supervise(process(cmd.format(app=app))) as stage:
        pid = int(stage.prints("started, pid", "[app][core]").split()[-1])
        assert (stage.prints("pid", "[app][stderr]") == "pid %d" % pid) == is_its_own


def test_the_signal_that_ends_a_simple_command_is_told_as_such() -> None:
    with supervise(process("sh -c 'kill -USR1 $$'")) as stage:
        assert stage.reaches("errored").last_exit == "SIGUSR1"


def test_a_command_that_is_not_there_is_told_by_the_shell() -> None:
    with supervise(process("no-such-program --flag")) as stage:
        assert stage.reaches("errored").last_exit == "exit code 127"
        assert "exec" not in stage.prints("no-such-program", "[app][stderr]")


def test_child_dies_with_its_parent() -> None:
    assert inspect()["death_signal"] == signal.SIGKILL


def test_child_has_the_descriptor_limit_that_it_is_to_have() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    page = Page()
    with gevent_waits_for_children():
        log = Log(page)
        supervisor = Supervisor(
            [process(script("inspecting.py"))], log, Owner(log, Ledger(), time.monotonic),
            limits=(soft - 1, hard))
        try:
            supervisor.startup()
            wait_until(lambda: page.texts("[app][stdout]"))
            assert json.loads(page.texts("[app][stdout]")[0])["limit"] == soft - 1
        finally:
            supervisor.shutdown()


@pytest.fixture
def supplementary_groups() -> Iterator[List[int]]:
    """Some of the test's own, which no child of another user is to have."""
    before = os.getgroups()
    groups = [4711, 4712]
    os.setgroups(groups)
    yield groups
    os.setgroups(before)


@ROOT_ONLY
def test_child_runs_as_its_user_with_the_groups_of_that(supplementary_groups: List[int]) -> None:
    nobody = pwd.getpwnam("nobody")
    groups = os.getgrouplist("nobody", nobody.pw_gid)
    assert set(groups).isdisjoint(supplementary_groups)
    program = "id -u; id -g; id -G; grep -E '^(Uid|Gid):' /proc/self/status"
    with supervise(process(program, user="nobody")) as stage:
        stage.reaches("finished")
        uid, gid, all_groups, uids, gids = stage.page.texts("[app][stdout]")
        assert (int(uid), int(gid)) == (nobody.pw_uid, nobody.pw_gid)
        assert sorted(map(int, all_groups.split())) == sorted(set(groups))
        # Real, effective, saved and of the file system: there is no way back.
        assert uids.split()[1:] == [uid] * 4 and gids.split()[1:] == [gid] * 4


@ROOT_ONLY
def test_child_of_another_user_dies_with_its_parent_too() -> None:
    program = (
        "import ctypes; n = ctypes.c_int();"
        "ctypes.CDLL(None).prctl(2, ctypes.byref(n), 0, 0, 0); print('signal', n.value)"
    )
    system = {"PATH": "/usr/bin:/bin"}
    with supervise(process(("python3", "-c", program), user="nobody", env=system)) as stage:
        assert stage.prints("signal") == "signal %d" % signal.SIGKILL


@ROOT_ONLY
def test_child_of_pupgevents_own_user_keeps_its_groups(supplementary_groups: List[int]) -> None:
    assert inspect()["groups"] == inspect(user="root")["groups"] == supplementary_groups


def login(**changes: Any) -> Dict[str, str]:
    """What a child's environment says of its user."""
    names = ("HOME", "USER", "LOGNAME", "SHELL", "PUP_PROCESS_ID")
    program = "; ".join('echo "%s=$%s"' % (name, name) for name in names)
    with supervise(process(program, **changes)) as stage:
        stage.reaches("finished")
        return dict(line.split("=", 1) for line in stage.page.texts("[app][stdout]"))


@ROOT_ONLY
@pytest.mark.parametrize("user", ["nobody", "root"])
def test_child_with_a_user_finds_the_environment_of_that(
    user: str, monkeypatch: "pytest.MonkeyPatch"
) -> None:
    for name in ("HOME", "USER", "LOGNAME", "SHELL"):
        monkeypatch.setenv(name, "/of/somebody/else")
    entry = pwd.getpwnam(user)
    assert login(user=user) == {
        "HOME": entry.pw_dir, "USER": user, "LOGNAME": user, "SHELL": entry.pw_shell,
        "PUP_PROCESS_ID": "app"}
    # What the file says comes first.
    assert login(user=user, env={"HOME": "/srv", "SHELL": ""})["HOME"] == "/srv"
    assert login(user=user, env={"HOME": "/srv", "SHELL": ""})["SHELL"] == ""


@ROOT_ONLY
def test_child_without_a_user_keeps_the_environment_of_pupgevent(
    monkeypatch: "pytest.MonkeyPatch"
) -> None:
    monkeypatch.setenv("HOME", "/of/somebody/else")
    assert login()["HOME"] == login(group="nogroup")["HOME"] == "/of/somebody/else"


@ROOT_ONLY
def test_group_alone_changes_the_group_alone(supplementary_groups: List[int]) -> None:
    nogroup = pwd.getpwnam("nobody").pw_gid
    with supervise(process("id -u; id -g; id -G", group="nogroup")) as stage:
        stage.reaches("finished")
        assert stage.page.texts("[app][stdout]") == ["0", str(nogroup), str(nogroup)]


@ROOT_ONLY
def test_child_of_another_user_can_be_stopped() -> None:
    with supervise(process(user="nobody")) as stage:
        stage.reaches("running")
        stage.supervisor.stop(["app"])
        assert stage.instance().last_exit == "SIGTERM"


def test_bytes_that_are_not_utf_8_reach_the_child_as_they_are() -> None:
    os.environ["PUP_TEST_LATIN"] = b"caf\xe9".decode("utf-8", "surrogateescape")
    try:
        with supervise(process("printf '%s|%s\\n' \"$PUP_TEST_LATIN\" \"$TOWN\"",
                               env={"TOWN": "Z\u00fcrich"})) as stage:
            stage.reaches("finished")
            assert b"[stdout] caf\xe9|Z\xc3\xbcrich\n" in stage.page.written
    finally:
        del os.environ["PUP_TEST_LATIN"]


def test_letters_beyond_ascii_work_without_a_locale(tmp_path: Path) -> None:
    """Python 3.6 takes ASCII for the encoding of the system then."""
    folder = tmp_path / "Z\u00fcrich"
    folder.mkdir()
    program = (
        "import sys; sys.path[:0] = [%r, %r]\n"
        "from supervision import process, supervise\n"
        "town = 'Z\\u00fcrich'\n"
        "with supervise(process(('printf', '%%s/%%s\\\\n', town, '1'), cwd=%a)) as stage:\n"
        "    stage.reaches('finished')\n"
        "    sys.stdout.buffer.write(stage.page.written)\n"
    ) % (str(CHILDREN.parent), str(CHILDREN.parent.parent), str(folder))
    env = dict(os.environ, LC_ALL="C", LANG="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    done = subprocess.run([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=30, check=False)
    assert b"[app][stdout] Z\xc3\xbcrich/1\n" in done.stdout, done.stdout


def test_no_descriptors_left_is_a_failed_start_and_passes() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with supervise(process(restart="always", autostart=False)) as stage:
        # The next two: a pipe can be made, and the second cannot.
        taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
        highest = max(taken)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        try:
            os.close(taken.pop())
            os.close(taken.pop())
            failures = stage.supervisor.start(["app"])
            told = "cannot start /bin/sh: Too many open files, restart in "
            assert len(failures) == 1 and failures[0].reason.startswith(told)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in taken:
                os.close(descriptor)
        stage.reaches("running")


@pytest.mark.parametrize("command, told", [(("no-such-program",), "no-such-program"),
                                           ("exit 1", "exit code 1")])
def test_many_runs_leave_no_descriptor_open(command: Any, told: str) -> None:
    failing = process(command, autostart=False, restart="never", min_uptime=60.0)
    with supervise(failing) as stage:

        def runs(count: int) -> int:
            """The descriptors that are open after so many, none of which comes up."""
            for _ in range(count):
                assert stage.supervisor.start(["app"])
            return len(os.listdir("/proc/self/fd"))

        before = runs(5)
        assert runs(40) <= before + 6
        assert stage.instance().attempts == 45
        stage.prints(told, "[app][core]")


def test_extra_variables_go_before_inherited_ones_and_path_behind() -> None:
    env = environment({"HOME": "/elsewhere", "NAME": "\u00e9"}, "/opt/own/bin")
    assert env[b"HOME"] == b"/elsewhere"
    assert env[b"NAME"] == b"\xc3\xa9"
    assert env[b"PATH"] == os.environb[b"PATH"] + b":/opt/own/bin"


def test_inherited_variables_are_handed_on_byte_for_byte(
    monkeypatch: "pytest.MonkeyPatch"
) -> None:
    monkeypatch.setitem(os.environb, b"ODD", b"\xe9 and \xc3\xa9")
    assert environment({}, None)[b"ODD"] == b"\xe9 and \xc3\xa9"


@pytest.mark.parametrize("returncode, text", [
    (0, "exit code 0"), (127, "exit code 127"), (-15, "SIGTERM"), (-50, "signal 50")])
def test_an_exit_is_described(returncode: int, text: str) -> None:
    assert describe_exit(returncode) == text


def test_a_registration_is_a_short_line() -> None:
    assert registration("+", 4711) == b"+4711\n"


# What else a child is


def limits(**changes: Any) -> ResourceLimits:
    return ResourceLimits(**dict(dict.fromkeys(ResourceLimits._fields), **changes))


def test_child_gets_its_umask_its_nice_value_and_its_limits() -> None:
    found = inspect(umask=0o27, nice=5, limits=limits(
        nofile=(200, 300), core=(0, 0), nproc=(4000, 5000), memlock=(4096, 8192),
        stack=(2**20, 2**21), as_=(2**31, 2**32)))
    assert (found["umask"], found["nice"]) == ("0027", 5)
    assert found["limits"] == {
        "nofile": [200, 300], "core": [0, 0], "nproc": [4000, 5000], "memlock": [4096, 8192],
        "stack": [2**20, 2**21], "as": [2**31, 2**32]}  # fmt: skip


def test_child_has_what_pupgevent_has_where_nothing_is_said() -> None:
    before = os.umask(0o35)
    try:
        found = inspect(limits=limits(core=(0, 0)))
    finally:
        os.umask(before)
    own = {name: list(resource.getrlimit(getattr(resource, "RLIMIT_" + name.upper())))
           for name in found["limits"]}
    assert (found["umask"], found["nice"]) == ("0035", os.getpriority(os.PRIO_PROCESS, 0))
    assert found["limits"] == dict(own, core=[0, 0])


@ROOT_ONLY
def test_limits_are_raised_before_the_user_changes() -> None:
    """Who may not do it afterwards."""
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    program = "ulimit -Hs; ulimit -Hc; id -un"
    changes = limits(core=(resource.RLIM_INFINITY,) * 2, stack=(2**20, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with supervise(process(program, user="nobody", nice=-5, limits=changes)) as stage:
        stage.reaches("finished")
        assert stage.page.texts("[app][stdout]")[1:] == ["unlimited", "nobody"]


def test_a_limit_that_cannot_be_had_is_told_by_its_key() -> None:
    """The kernel takes no limit of descriptors above /proc/sys/fs/nr_open, from nobody."""
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    with supervise(process("true", limits=limits(nofile=(most + 1, most + 1)))) as stage:
        outcome = stage.reaches("errored").outcome
    assert "limits.nofile: only root can raise it above" in outcome
