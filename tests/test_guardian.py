"""When pupgevent is killed with SIGKILL, nothing that it started lives on."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import Any, Callable, Iterator, List

import pytest
from gevent.subprocess import Popen

from conftest import eventually
from guardian import SCRIPT, WORD, Guardian
from logs import Log
from supervision import (
    CHILDREN,
    Page,
    accepts,
    gevent_waits_for_children,
    pid_of,
    process,
    runs,
    script,
    shell,
    supervise,
    wait_until,
)

#: The repository.
ROOT = CHILDREN.parent.parent

SHELLS = [path for path in map(shutil.which, ("dash", "bash", "busybox", "mksh"))
          if path]

#: Has a guardian kill the group that it is told of.
WITHOUT_PROC = """
import sys
from guardian import Guardian
from logs import Log
from sinks import Sink
it = Guardian(Log(Sink()))
it.start()
it.watch(int(sys.argv[1]))
it.close()
"""

#: A shell and a grandchild, each of which ignores what can be ignored.
FAMILY = "trap '' TERM; sh -c 'trap \"\" TERM HUP; echo grandchild $$; sleep 60; sleep 60'; true"


class Small:
    """supervising.py, and what it prints."""

    def __init__(self, *commands: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(CHILDREN / "supervising.py"), *commands],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.output = b""
        os.set_blocking(self.process.stdout.fileno(), False)  # type: ignore
        self.guardian = self.number("guardian", 1)[0]

    def text(self) -> str:
        self.output += self.process.stdout.read() or b""  # type: ignore
        return self.output.decode()

    def number(self, word: str, count: int) -> List[int]:
        """The numbers behind a word, once there are so many."""
        def found() -> List[int]:
            words = self.text().split()
            return [int(words[at + 1]) for at, each in enumerate(words[:-1]) if each == word]
        wait_until(lambda: len(found()) >= count, explain=self.text)
        return found()

    def tell(self, line: str) -> None:
        self.process.stdin.write(line.encode() + b"\n")  # type: ignore

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()  # type: ignore
        self.process.stdout.close()  # type: ignore


@pytest.fixture
def small() -> Iterator[Callable[..., Small]]:
    made: List[Small] = []

    def make(*commands: str) -> Small:
        made.append(Small(*commands))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def loop_with_children() -> Iterator[None]:
    with gevent_waits_for_children():
        yield


@pytest.fixture
def guardian(loop_with_children: None) -> Iterator[Callable[..., Guardian]]:
    made: List[Guardian] = []

    def make(shell: str = "/bin/sh") -> Guardian:
        made.append(Guardian(Log(Page()), shell))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def group(loop_with_children: None) -> Iterator[Callable[[], int]]:
    """`group()`: the leader of a group of two that sleep; its number is the group's."""
    made: List[Any] = []

    def make() -> int:
        made.append(Popen(["sh", "-c", "sleep 60; true"], start_new_session=True))
        return int(made[-1].pid)

    yield make
    for each in made:
        try:
            os.killpg(each.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        each.wait()


def group_is_empty(number: int) -> bool:
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return True
    # Only init can reap what is left: a zombie does no harm.
    return not any(runs(pid) for pid in members(number))


def three(guardian: int) -> List[int]:
    """The process that was started, and the two readers in their order."""
    wait_until(lambda: len(members(guardian)) == 3)
    # The forks of one shell are numbered by their time, but for a turn-over of the numbers.
    return [guardian, *sorted(set(members(guardian)) - {guardian})]


def members(number: int) -> List[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.getpgid(int(name)) == number:
                found.append(int(name))
        except ProcessLookupError:
            continue
    return found


def test_sigkill_of_the_supervisor_kills_shells_and_grandchildren(
    small: Callable[..., Small]
) -> None:
    family = small(FAMILY, FAMILY, FAMILY)
    grandchildren = family.number("grandchild", 3)
    assert all(map(runs, grandchildren)) and runs(family.guardian)
    family.process.kill()
    wait_until(lambda: not any(map(runs, [family.guardian, *grandchildren])), 3.0)


@pytest.mark.parametrize("killed", [[0], [1], [2], [0, 1], [0, 2]])
def test_a_guardian_that_is_killed_together_with_the_supervisor_kills_all_the_same(
    small: Callable[..., Small], killed: List[int]
) -> None:
    family = small(FAMILY, FAMILY)
    grandchildren = family.number("grandchild", 2)
    readers = three(family.guardian)
    for pid in [readers[each] for each in killed] + [family.process.pid]:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(runs, [*readers, *grandchildren])), 10.0)


@pytest.mark.parametrize("killed", [[0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]])
def test_a_guardian_that_is_killed_alone_kills_nobody(
    small: Callable[..., Small], killed: List[int]
) -> None:
    family = small(FAMILY)
    grandchild, = family.number("grandchild", 1)
    readers = three(family.guardian)
    for each in killed:
        os.kill(readers[each], signal.SIGKILL)
    if 0 in killed or len(killed) == 2:
        wait_until(lambda: set(guardians_of(family.process.pid)) - set(readers))
        wait_until(lambda: not any(map(runs, readers)))
    family.tell("")
    wait_until(lambda: "stopped" in family.text())
    assert runs(grandchild)
    # What is left, or has been started since, does its work.
    family.process.kill()
    wait_until(lambda: not runs(grandchild), 10.0)


def guardians_of(supervisor: int) -> List[int]:
    """Those that it has started, and that live."""
    return [int(line.split(":")[0]) for line in processes_with(WORD)
            if parent_of(int(line.split(":")[0])) == supervisor]


def parent_of(pid: int) -> int:
    try:
        with open("/proc/%d/stat" % pid) as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def test_sigkill_of_the_supervisor_frees_the_ports(
    small: Callable[..., Small], free_port: Callable[[], int]
) -> None:
    port = free_port()
    listening = small("export PUP_CLUSTER_PORT=%d; %s" % (port, shell("forking.py", "stay")))
    wait_until(lambda: accepts(port))
    listening.process.kill()
    wait_until(lambda: not accepts(port), 3.0)
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))


def test_sigkill_at_any_moment_of_a_start_leaves_nothing(small: Callable[..., Small]) -> None:
    marker = "sleep 61.%d" % os.getpid()
    for delay in (0.0, 0.003, 0.01, 0.03):
        starting = small(*["%s; true" % marker] * 5)
        time.sleep(delay)
        starting.process.kill()
        wait_until(lambda: not processes_with(marker), 3.0, lambda: str(processes_with(marker)))


def processes_with(text: str) -> List[str]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % name, "rb") as file:
                words = file.read().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if text in words and "supervising.py" not in words and int(name) != os.getpid():
            found.append(name + ": " + words)
    return found


def test_guardian_goes_when_its_supervisor_ends_normally(small: Callable[..., Small]) -> None:
    normal = small("sleep 60")
    normal.process.stdin.close()  # type: ignore
    assert normal.process.wait(timeout=10) == 0
    assert not runs(normal.guardian)


def test_guardian_survives_the_signals_of_a_terminal(small: Callable[..., Small]) -> None:
    family = small(FAMILY)
    grandchildren = family.number("grandchild", 1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        os.kill(family.guardian, number)
    family.tell("")
    family.number("guardian", 1)
    assert runs(family.guardian) and runs(grandchildren[0])
    family.process.kill()
    wait_until(lambda: not runs(grandchildren[0]), 3.0)


@pytest.mark.parametrize("path", SHELLS)
def test_every_shell_can_be_the_guardian(
    path: str, guardian: Callable[..., Guardian], group: Callable[[], int], tmp_path: Any
) -> None:
    watched, forgotten, again = group(), group(), group()
    it = guardian(as_sh(path, tmp_path))
    for number in (watched, forgotten, again):
        it.watch(number)
        it.watch(number)
    it.forget(forgotten)
    it.forget(again)
    it.watch(again)
    it.close()
    wait_until(lambda: group_is_empty(watched) and group_is_empty(again), 3.0)
    assert runs(forgotten)


def as_sh(path: str, folder: Any) -> str:
    """A shell under the name that busybox goes by, and that the others have as /bin/sh."""
    os.symlink(path, str(folder / "sh"))
    return str(folder / "sh")


@pytest.mark.parametrize("path", SHELLS)
def test_all_of_the_guardian_is_one_word_in_the_list_of_processes(
    path: str, guardian: Callable[..., Guardian], tmp_path: Any
) -> None:
    readers = three(pid_of(guardian(as_sh(path, tmp_path))))
    for pid in readers:
        with open("/proc/%d/cmdline" % pid) as file:
            assert re.match(r"group-guardian(/sh)?\0\Z", file.read())


@pytest.mark.parametrize("path", SHELLS)
def test_the_guardian_is_named_for_who_sees_names_of_programs_only(
    path: str, guardian: Callable[..., Guardian], tmp_path: Any
) -> None:
    """`top`, and `ps` without options."""
    if path.endswith("mksh"):
        pytest.skip("it has no printf")
    readers = three(pid_of(guardian(as_sh(path, tmp_path))))
    wait_until(lambda: {comm_of(pid) for pid in readers} == {WORD})


def comm_of(pid: int) -> str:
    with open("/proc/%d/comm" % pid) as file:
        return file.read()[:-1]


@pytest.mark.skipif(not shutil.which("ps"), reason="there is no ps")
def test_ps_shows_the_word_and_nothing_else(guardian: Callable[..., Guardian]) -> None:
    pids = ",".join(map(str, three(pid_of(guardian()))))
    done = subprocess.run(["ps", "-o", "args=", "-p", pids], stdout=subprocess.PIPE, check=True)
    assert {line.strip() for line in done.stdout.decode().splitlines()} <= {WORD, WORD + "/sh"}


def test_the_script_fits_into_the_smallest_pipe_and_the_word_into_the_name_of_a_process() -> None:
    assert len(SCRIPT.encode()) < 4096 and len(WORD) < 16


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="only root can mount")
def test_a_guardian_without_proc_kills_all_the_same(group: Callable[[], int]) -> None:
    """As on a server where /proc is not mounted: the script comes through a pipe."""
    number = group()
    script = "mount -t tmpfs none /proc && exec %s -c '%s' %d" % (
        sys.executable, WITHOUT_PROC, number)
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], check=False, timeout=30,
                          cwd=str(ROOT), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if b"mount:" in done.stderr:
        pytest.skip("it may not mount here")
    assert (done.returncode, done.stderr) == (0, b"")
    wait_until(lambda: group_is_empty(number), 3.0)


def test_a_start_of_the_guardian_that_fails_leaves_no_descriptor_open(
    loop_with_children: None
) -> None:
    before = os.listdir("/proc/self/fd")
    it = Guardian(Log(Page()), "/nowhere/sh")
    it.start()
    it.close()
    assert pid_of(it) == 0 and os.listdir("/proc/self/fd") == before


def test_group_that_was_forgotten_is_not_killed(
    guardian: Callable[..., Guardian], group: Callable[[], int]
) -> None:
    number = group()
    it = guardian()
    it.watch(number)
    it.forget(number)
    it.close()
    assert pid_of(it) == 0 and runs(number)


def test_killed_guardian_is_followed_by_one_that_knows_all_groups(
    guardian: Callable[..., Guardian], group: Callable[[], int]
) -> None:
    it, number = guardian(), group()
    it.watch(number)
    first = pid_of(it)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: pid_of(it) not in (0, first))
    it.close()
    wait_until(lambda: group_is_empty(number), 3.0)


def test_suspended_guardian_is_replaced_before_its_pipe_is_full_for_good(
    guardian: Callable[..., Guardian], group: Callable[[], int]
) -> None:
    it, number = guardian(), group()
    first = pid_of(it)
    os.killpg(first, signal.SIGSTOP)
    it.watch(number)
    for _ in range(12000):
        it.watch(4194304)
        it.forget(4194304)
    wait_until(lambda: pid_of(it) not in (0, first))
    it.close()
    wait_until(lambda: group_is_empty(number), 3.0)


def test_guardian_holds_no_descriptor_but_its_pipe() -> None:
    with supervise(process()) as stage:
        readers = three(pid_of(stage.supervisor.guardian))

        def has_its_own() -> bool:
            """Its own, and the one between the two readers, once all three have begun."""
            kinds = sorted(target.partition(":")[0] for target in {
                os.readlink("/proc/%d/fd/%s" % (pid, name))
                for pid in readers for name in os.listdir("/proc/%d/fd" % pid)})
            return kinds == ["/dev/null", "pipe", "pipe"]

        eventually(has_its_own)


def test_guardian_is_not_found_by_the_name_of_what_it_guards(
    guardian: Callable[..., Guardian]
) -> None:
    """`pkill -9 -f pupgevent` must not take away who cleans up after that."""
    with open("/proc/%s/cmdline" % pid_of(guardian())) as file:
        assert "pup" not in file.read()


def test_guardian_knows_no_group_that_has_ended() -> None:
    with supervise(process("exit 1", restart="always", restart_delay=0.001,
                           restart_limit=5)) as stage:
        stage.reaches("exhausted")
        assert stage.supervisor.guardian._groups == set()


def test_instance_that_started_without_a_guardian_is_known_to_the_next() -> None:
    with supervise(process(script("stubborn.py"), autostart=False)) as stage:
        first = pid_of(stage.supervisor.guardian)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: pid_of(stage.supervisor.guardian) == 0)
        stage.supervisor.start(["app"])
        wait_until(lambda: pid_of(stage.supervisor.guardian) not in (0, first))
        assert stage.supervisor.guardian._groups == {stage.instance().pid}


@pytest.mark.parametrize("lack", [MemoryError(), OSError(11, "no process")])
def test_guardian_that_cannot_be_started_is_started_later(
    loop_with_children: None, group: Callable[[], int], lack: Exception
) -> None:
    lacks = [lack, lack]

    class Poor(Guardian):
        def _launch(self) -> None:
            if lacks:
                raise lacks.pop()
            super()._launch()

    page = Page()
    it, number = Poor(Log(page)), group()
    it.start()
    it.watch(number)
    assert pid_of(it) == 0 and "cannot start the guardian process" in page.lines[0]
    wait_until(lambda: pid_of(it) != 0)
    it.close()
    wait_until(lambda: group_is_empty(number))
