"""The main job: four instances behind one port, and how it all ends."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Callable, List

import pytest

from conftest import eventually
from running import (
    PUPGEVENT,
    SERVER,
    Running,
    get,
    instance_of,
    is_free,
    lives,
    server,
    sleeper,
)

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]

TOML = """
[[processes]]
id = "my-scalable-app"
cmd = "{python} {server}"
autostart = true
restartDelayMs = 50

[processes.cluster]
instances = 4
commonPort = {common}
commonHost = "127.0.0.1"
startPort = {start}
strategy = "round-robin"
"""

#: Does not mind SIGTERM, from when it says so.
STUBBORN = "trap '' TERM; echo deaf; while :; do sleep 1 & wait; done"


def four(running: Make, free_ports: Ports) -> Any:
    """A running pupgevent with four instances, and their ports, the common one last."""
    ports = free_ports(5)
    return running(server("my-scalable-app", ports[:4], ports[4])).start(), ports


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_forty_requests_are_spread_ten_each(
    running: Make, free_ports: Ports, suffix: str
) -> None:
    ports = free_ports(5)
    app = running(server("my-scalable-app", ports[:4], ports[4]), suffix=suffix)
    if suffix == ".toml":
        app.config.write_text(TOML.format(
            python=sys.executable, server=SERVER, common=ports[4], start=ports[0]))
    app.start()
    assert Counter(instance_of(get(ports[4])) for _ in range(40)) == dict.fromkeys("0123", 10)


def test_after_kill_9_the_next_hundred_requests_are_answered(
    running: Make, free_ports: Ports
) -> None:
    app, ports = four(running, free_ports)
    victim = app.pids()["my-scalable-app-2"]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: not lives(victim))
    for _ in range(100):
        get(ports[4])
    eventually(lambda: app.pids()["my-scalable-app-2"] not in (None, victim))
    assert app.members()["my-scalable-app-2"]["restarts"] == 1
    assert app.members()["my-scalable-app-2"]["lastExit"] == "SIGKILL"


def test_sigkill_of_pupgevent_leaves_nothing_on_its_ports(
    running: Make, free_ports: Ports
) -> None:
    """Neither an instance nor what it has started: here the server is a shell's child."""
    ports = free_ports(3)
    shell = "%s %s & wait" % (sys.executable, SERVER)
    app = running(server("my-app", ports[:2], ports[2], cmd=shell)).start()
    assert not any(map(is_free, ports))
    app.signal(signal.SIGKILL)
    eventually(lambda: all(map(is_free, ports)))
    assert app.wait() == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_everything_and_the_exit_code_is_0(
    running: Make, free_ports: Ports, number: int
) -> None:
    app, ports = four(running, free_ports)
    pids = app.pids().values()
    app.signal(number)
    assert app.wait() == 0
    assert all(map(is_free, ports))
    assert not any(map(lives, pids))


def test_a_second_sigterm_kills_at_once(running: Make) -> None:
    app = running(sleeper("stubborn", cmd=STUBBORN, terminateTimeout=6000)).start()
    eventually(lambda: "deaf" in app.said())
    app.signal(signal.SIGTERM)
    eventually(lambda: "stopping (SIGTERM)" in app.said())
    app.signal(signal.SIGTERM)
    assert app.wait() == 0


def test_what_ignores_its_stop_signal_is_killed_in_time(running: Make) -> None:
    app = running(sleeper("stubborn", cmd=STUBBORN, terminateTimeout=0.3)).start()
    eventually(lambda: "deaf" in app.said())
    app.signal(signal.SIGTERM)
    assert app.wait() == 0
    assert "still there 0.3 s after SIGTERM" in app.said()


def test_an_essential_process_that_is_given_up_ends_all_with_exit_code_1(running: Make) -> None:
    app = running(
        sleeper("other"),
        sleeper("vital", cmd="exit 3", essential=True, restartLimit=2, restartDelayMs=10),
    ).begin()
    assert app.wait() == 1
    assert "vital is essential and was given up" in app.said()


def test_children_get_the_limit_of_descriptors_from_before_it_was_raised(
    running: Make
) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = 300 if hard == resource.RLIM_INFINITY else min(300, hard - 1)
    app = running(sleeper("limit", cmd="ulimit -Sn; ulimit -Hn; exec sleep 600"))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        app.begin()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    eventually(lambda: app.said().count("[limit][stdout]") == 2)
    told = [line.split()[-1] for line in app.said().splitlines() if "[limit][stdout]" in line]
    assert told[0] == str(soft)
    own = Path("/proc/%d/limits" % app.child.pid).read_text().split("Max open files")[1].split()
    assert told[1] == own[0] == own[1]


def test_a_common_port_that_is_taken_is_one_line_and_exit_code_1(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(3)
    app = running(server("my-app", ports[:2], ports[2]))
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", ports[2]))
        stranger.listen(1)
        assert app.begin().wait() == 1
    said = app.said()
    assert said.startswith(
        "pupgevent: cannot listen on 127.0.0.1 port %d: address already in use by pid %d (" % (
            ports[2], os.getpid()))
    assert said.count("\n") == 1


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None,
                    reason="only root can make a system without /proc")
def test_it_runs_where_there_is_no_proc(running: Make) -> None:
    app = running(sleeper("job"))
    hide = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    if subprocess.call([*hide, "true"], stderr=subprocess.DEVNULL):
        pytest.skip("no mounts of its own for this user")
    with subprocess.Popen([*hide, *PUPGEVENT, str(app.config)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as child:
        try:
            eventually(app.is_settled)
            assert app.run("status").returncode == 0
        finally:
            child.terminate()
            said = child.communicate(timeout=60)[0]
    assert (child.returncode, b"Traceback" in said) == (0, False), said


def test_an_instance_whose_port_a_stranger_has_is_told_and_the_others_serve(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(4)
    app = running(server("my-app", ports[:3], ports[3]))
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", ports[1]))
        stranger.listen(1)
        app.begin()
        text = "port %d is taken by pid %d" % (ports[1], os.getpid())
        eventually(lambda: text in app.said())
        eventually(lambda: app.process("my-app")["up"] == 2)
        assert {instance_of(get(ports[3])) for _ in range(10)} == {"0", "2"}
    eventually(lambda: app.process("my-app")["up"] == 3)
