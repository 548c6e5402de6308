"""The file is read again, and only what differs is touched."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, List, Optional

import pytest

from conftest import eventually
from errors import PupgeventError
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

#: A release that does not come up.
CRASH = ["sh", "-c", "exit 3"]

#: Does not leave before a test kills it, from when it says so.
DEAF = sleeper("deaf", cmd="trap '' TERM; echo deaf; while :; do sleep 1 & wait; done",
               terminateTimeout=600)


def reload(app: Running, *processes: Any, **top: Any) -> str:
    """Write the file, and have it read again; the sentence at the end."""
    if processes:
        app.write(*processes, **top)
    return str(app.ask("reload")["text"])


def test_nothing_is_touched_where_nothing_differs(running: Make, free_ports: Ports) -> None:
    ports = free_ports(3)
    app = running(server("my-app", ports[:2], ports[2]), sleeper("job")).start()
    before = app.pids()
    assert reload(app) == "reloaded: nothing differs"
    assert app.pids() == before


def test_a_bad_file_changes_nothing_and_is_told_in_one_line(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(3)
    app = running(server("my-app", ports[:2], ports[2])).start()
    before = app.pids()
    app.write(dict(server("my-app", ports[:2], ports[2]), autostrat=True))
    done = app.run("reload")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert 'unknown key "autostrat": did you mean "autostart"?' in done.stderr
    app.config.write_text("{")
    assert app.run("reload").returncode == 2
    app.signal(signal.SIGHUP)
    eventually(lambda: "error: reload: " in app.said())
    assert app.pids() == before
    get(ports[2])


def test_sighup_reloads(running: Make) -> None:
    app = running(sleeper("job")).start()
    app.write(sleeper("job"), sleeper("other"))
    app.signal(signal.SIGHUP)
    eventually(lambda: app.states().get("other") == "running")
    eventually(lambda: "[core] reloaded: started other" in app.said())


def test_a_sighup_during_a_restart_is_remembered(running: Make) -> None:
    slow = dict(DEAF, id="slow")
    app = running(slow).start()
    eventually(lambda: "deaf" in app.said())
    pid = app.pids()["slow"]
    with subprocess.Popen([*PUPGEVENT, "restart", str(app.config)]) as first:
        eventually(lambda: app.states()["slow"] == "stopping")
        app.write(dict(slow, stopSignal="SIGINT"), sleeper("other"))
        app.signal(signal.SIGHUP)
        eventually(lambda: "the reload waits: a restart of slow is under way" in app.said())
        assert "other" not in app.states()
        os.kill(pid, signal.SIGKILL)
        assert first.wait(45) == 0
    eventually(lambda: app.states().get("other") == "running")


def test_a_sigterm_while_the_file_is_read_is_no_bug(running: Make, free_ports: Ports) -> None:
    ports = free_ports(2)
    app = running(server("one", ports[:1], ports[1]), DEAF).start()
    eventually(lambda: "deaf" in app.said())
    pid = app.pids()["deaf"]
    more = (sleeper("job%d" % number, autostart=False) for number in range(2000))
    app.write(server("one", ports[:1], ports[1]), DEAF, *more)
    app.signal(signal.SIGHUP)
    # Which of two signals that wait is taken first is up to the threads of the process.
    eventually(lambda: not app.has_pending(signal.SIGHUP))
    app.signal(signal.SIGTERM)
    eventually(lambda: "error: reload: pupgevent is stopping" in app.said())
    os.kill(pid, signal.SIGKILL)
    assert app.wait() == 0


def test_a_new_process_is_the_reloads_alone_until_it_is_over(
    running: Make, free_ports: Ports
) -> None:
    app = running(sleeper("job")).start()
    mute = server("new", free_ports(1), None, cmd=["sleep", "600"])
    mute["cluster"]["readyTimeoutMs"] = 600000
    app.write(sleeper("job"), mute)
    app.signal(signal.SIGHUP)
    eventually(lambda: app.states().get("new-1") == "starting")
    with pytest.raises(PupgeventError, match="a reload of new is under way"):
        app.ask("restart", words=["new"])


def test_what_is_new_starts_side_by_side(running: Make, free_ports: Ports, folder: Path) -> None:
    """Each waits for the other before it opens its port."""
    app = running(sleeper("job")).start()
    meet = "touch %s/{0}; until [ -e %s/{1} ]; do sleep 0.02; done; exec %s %s" % (
        folder, folder, sys.executable, SERVER)
    app.write(sleeper("job"),
              server("one", free_ports(1), None, cmd=meet.format("one", "two")),
              server("two", free_ports(1), None, cmd=meet.format("two", "one")))
    app.ask("reload")
    assert app.states() == {"job": "running", "one-1": "running", "two-1": "running"}


def test_many_sighups_end_with_what_the_file_says_last(running: Make) -> None:
    app = running(sleeper("job")).start()
    for number in range(20):
        app.write(sleeper("job", env={"N": number}))
        app.signal(signal.SIGHUP)
    eventually(lambda: environment_of(app.pids()["job"]).get("N") == "19")


def environment_of(pid: Optional[int]) -> Any:
    if pid is None:
        return {}
    with open("/proc/%d/environ" % pid) as file:
        return dict(pair.split("=", 1) for pair in file.read().split("\0") if "=" in pair)


def test_instances_are_added_and_removed_at_the_top(running: Make, free_ports: Ports) -> None:
    ports = free_ports(5)
    app = running(server("my-app", ports[:2], ports[4])).start()
    before = app.pids()
    assert reload(app, server("my-app", ports[:4], ports[4])) == (
        "reloaded: changed my-app; started my-app-3, my-app-4")
    more = app.pids()
    assert {name: more[name] for name in before} == before
    assert {instance_of(get(ports[4])) for _ in range(8)} == set("0123")
    reload(app, server("my-app", ports[:1], ports[4]))
    assert app.pids() == {"my-app-1": before["my-app-1"]}
    assert is_free(ports[1])


def test_settings_of_a_balancer_change_in_place(running: Make, free_ports: Ports) -> None:
    ports = free_ports(3)
    old, new = (server("my-app", ports[:2], ports[2]) for _ in range(2))
    new["cluster"].update(strategy="ip-hash", maxConnections=5, idleTimeoutMs=7200000)
    app = running(old).start()
    before = app.pids()
    reload(app, new)
    assert app.pids() == before
    assert app.process("my-app")["balancer"]["strategy"] == "ip-hash"
    assert len({instance_of(get(ports[2])) for _ in range(8)}) == 1


def test_values_that_do_not_make_the_child_restart_nothing(running: Make) -> None:
    app = running(sleeper("job")).start()
    before = app.pids()
    reload(app, sleeper("job", restart="never", terminateTimeout=7, stopSignal="SIGUSR1",
                        restartDelayMs=10, restartLimit=7, minUptimeMs=600000))
    assert app.pids() == before
    os.kill(before["job"], signal.SIGKILL)
    eventually(lambda: app.states() == {"job": "errored"}, message="the new policy holds")


def test_the_new_stop_signal_is_for_the_child_that_runs(running: Make) -> None:
    app = running(sleeper("job")).start()
    reload(app, sleeper("job", stopSignal="SIGUSR1"))
    app.ask("stop", words=["job"])
    assert app.members()["job"]["lastExit"] == "SIGUSR1"


@pytest.mark.parametrize("change", ["cmd", "env", "cwd", "path"])
def test_what_makes_the_child_rolls(running: Make, free_ports: Ports, change: str) -> None:
    ports = free_ports(3)
    old = server("my-app", ports[:2], ports[2])
    value = {"cmd": old["cmd"] + ["again"], "env": {"A": "1"}, "cwd": "/", "path": "/opt"}[change]
    app = running(old, sleeper("job")).start()
    before = app.pids()
    assert reload(app, dict(old, **{change: value}), sleeper("job")) == (
        "reloaded: changed my-app; restarted my-app-1, my-app-2")
    after = app.pids()
    assert after["job"] == before["job"]
    assert not set(after.values()) - {before["job"]} & set(before.values())
    assert app.states() == dict.fromkeys(after, "running")


@pytest.mark.parametrize("step", [1, -1, 2])
def test_moved_ports_are_taken_in_an_order_in_which_each_is_free(
    running: Make, free_ports: Ports, step: int
) -> None:
    ports = free_ports(8)
    first = ports[2:5]
    second = [port + step for port in first]
    app = running(server("my-app", first, ports[7])).start()
    reload(app, server("my-app", second, ports[7]))
    members = app.members()
    assert [members["my-app-%d" % n]["port"] for n in (1, 2, 3)] == second
    assert set(app.states().values()) == {"running"}
    assert {instance_of(get(ports[7])) for _ in range(6)} == set("012")


def test_two_processes_exchange_all_their_ports(running: Make, free_ports: Ports) -> None:
    ports = free_ports(6)
    one, two = ports[:2], ports[2:4]
    app = running(server("one", one, ports[4]), server("two", two, ports[5])).start()
    reload(app, server("one", two, ports[5]), server("two", one, ports[4]))
    members = app.members()
    assert [members[name]["port"] for name in ("one-1", "one-2", "two-1", "two-2")] == two + one
    assert app.process("one")["balancer"]["port"] == ports[5]
    for port, own in ((ports[4], one), (ports[5], two)):
        assert "port %d" % own[0] in get(port) + get(port)


def test_a_renamed_process_keeps_its_port_open(running: Make, free_ports: Ports) -> None:
    ports = free_ports(3)
    app = running(server("old", ports[:2], ports[2])).start()
    reload(app, server("new", ports[:2], ports[2]))
    assert app.states() == {"new-1": "running", "new-2": "running"}
    get(ports[2])


def test_the_new_common_port_is_open_before_the_old_is_closed_and_connections_survive(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(4)
    app = running(server("my-app", ports[:2], ports[2])).start()
    with socket.create_connection(("127.0.0.1", ports[2]), 30) as client:
        ask(client)
        reload(app, server("my-app", ports[:2], ports[3]))
        get(ports[3])
        assert is_free(ports[2])
        ask(client)


def ask(client: socket.socket) -> None:
    """A request on a connection that stays."""
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" in client.recv(65536)


def test_a_common_port_that_cannot_be_had_changes_nothing(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(6)
    app = running(server("one", ports[:1], ports[1]), server("two", ports[2:3], ports[3])).start()
    before = app.pids()
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", ports[5]))
        stranger.listen(1)
        app.write(server("one", ports[:1], ports[4]), server("two", ports[2:3], ports[5]))
        with pytest.raises(PupgeventError, match="address already in use by pid %d " % os.getpid()):
            app.ask("reload")
    assert app.pids() == before
    assert is_free(ports[4])
    get(ports[1])
    get(ports[3])
    assert "restarted" not in reload(app)
    get(ports[4])
    get(ports[5])


def test_another_address_of_the_same_port(running: Make, free_ports: Ports) -> None:
    ports = free_ports(2)
    wide, narrow = (server("my-app", ports[:1], ports[1]) for _ in range(2))
    wide["cluster"]["commonHost"] = "127.0.0.1"
    narrow["cluster"]["commonHost"] = "127.0.0.2"
    app = running(wide).start()
    reload(app, narrow)
    assert is_free(ports[1])
    with socket.create_connection(("127.0.0.2", ports[1]), 30) as client:
        ask(client)


def test_a_balancer_comes_and_goes_while_the_instances_run(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(3)
    without = server("my-app", ports[:2], None)
    with_it = server("my-app", ports[:2], ports[2])
    app = running(without).start()
    before = app.pids()
    reload(app, with_it)
    assert {instance_of(get(ports[2])) for _ in range(4)} == {"0", "1"}
    with socket.create_connection(("127.0.0.1", ports[2]), 30) as client:
        ask(client)
        reload(app, without)
        assert is_free(ports[2])
        ask(client)
    assert app.process("my-app")["balancer"] is None
    reload(app, with_it)
    get(ports[2])
    assert app.pids() == before


def test_processes_come_and_go_and_the_order_is_the_files(running: Make) -> None:
    app = running(sleeper("one"), sleeper("two")).start()
    before = app.pids()
    text = reload(app, sleeper("three"), sleeper("idle", autostart=False), sleeper("one"))
    assert text == "reloaded: started three; removed two"
    assert list(app.states().items()) == [
        ("three", "running"), ("idle", "created"), ("one", "running")]  # fmt: skip
    assert app.pids()["one"] == before["one"]


def test_a_process_becomes_a_cluster(running: Make, free_ports: Ports) -> None:
    ports = free_ports(3)
    app = running(sleeper("my-app")).start()
    reload(app, server("my-app", ports[:2], ports[2]))
    assert app.states() == {"my-app-1": "running", "my-app-2": "running"}
    get(ports[2])
    reload(app, sleeper("my-app"))
    assert app.states() == {"my-app": "running"}
    assert all(map(is_free, ports))


def test_a_cluster_becomes_processes_with_the_names_of_its_instances_and_one_again(
    running: Make, free_ports: Ports
) -> None:
    """Same names, other instances: nothing of the old ones stays."""
    ports = free_ports(3)
    clustered = server("web", ports[:2], ports[2])
    single = [sleeper("web-1"), sleeper("web-2")]
    app = running(clustered).start()
    for processes in (single, [clustered], single):
        before = app.pids()
        reload(app, *processes)
        assert app.states() == {"web-1": "running", "web-2": "running"}
        assert not any(map(lives, before.values()))


def test_one_that_made_room_for_a_roll_out_that_failed_is_back(
    running: Make, free_ports: Ports
) -> None:
    """Each waits for the other's port, so one is stopped beforehand; then the other fails."""
    ports = free_ports(4)
    app = running(
        server("one", ports[:1], None), server("two", ports[1:3], ports[3])).start()
    with pytest.raises(PupgeventError, match="two-1 did not come up"):
        reload(app, server("one", ports[2:3], None),
               server("two", ports[:2], ports[3], cmd=CRASH))
    eventually(lambda: app.members()["two-2"]["wanted"])
    reload(app, server("one", ports[2:3], None), server("two", ports[:2], ports[3]))
    assert set(app.states().values()) == {"running"}
    assert {instance_of(get(ports[3])) for _ in range(4)} == {"0", "1"}


def test_a_common_port_that_an_instance_has_is_told_with_its_name(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(3)
    app = running(server("web", ports[:1], None)).start()
    before = app.pids()
    with pytest.raises(PupgeventError, match="in use: web-1 has it; stop that first"):
        reload(app, server("web", ports[1:3], ports[0]))
    assert app.pids() == before
    app.ask("stop", words=["web"])
    reload(app)
    app.ask("start", words=["web"])
    assert {instance_of(get(ports[0])) for _ in range(4)} == {"0", "1"}


def test_autostart_that_is_turned_on_starts_and_what_was_stopped_stays_so(running: Make) -> None:
    app = running(sleeper("late", autostart=False), sleeper("resting")).start()
    app.ask("stop", words=["resting"])
    reload(app, sleeper("late"), sleeper("resting", env={"A": "1"}))
    assert app.states() == {"late": "running", "resting": "stopped"}
    reload(app, sleeper("late", autostart=False), sleeper("resting", autostart=False))
    assert app.states() == {"late": "running", "resting": "stopped"}
    app.ask("start", words=["resting"])
    assert environment_of(app.pids()["resting"]).get("A") is None


def test_a_release_that_crashes_costs_one_instance_and_the_fixed_file_rolls_what_differs(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(4)
    good = server("my-app", ports[:3], ports[3])
    app = running(good).start()
    before = app.pids()
    app.write(dict(good, cmd=CRASH))
    done = app.run("reload")
    assert done.returncode == 1
    assert "my-app-1 did not come up: exit code 3, restart in 0." in done.stderr
    kept = app.pids()
    assert [kept["my-app-2"], kept["my-app-3"]] == [before["my-app-2"], before["my-app-3"]]
    # Their own restarts are still of the release that works.
    os.kill(kept["my-app-2"], signal.SIGKILL)
    eventually(lambda: app.pids()["my-app-2"] not in (None, before["my-app-2"]))
    eventually(lambda: app.process("my-app")["up"] == 2)
    kept = app.pids()
    assert {instance_of(get(ports[3])) for _ in range(6)} == {"1", "2"}
    assert reload(app, good) == "reloaded: changed my-app; restarted my-app-1"
    after = app.pids()
    assert [after["my-app-2"], after["my-app-3"]] == [kept["my-app-2"], kept["my-app-3"]]
    assert app.status()["healthy"] is True


def test_a_release_that_crashes_is_tried_where_it_takes_nobodys_place(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(4)
    app = running(server("my-app", ports[:2], ports[3])).start()
    before = app.pids()
    app.write(server("my-app", ports[:3], ports[3], cmd=CRASH))
    with pytest.raises(PupgeventError, match="my-app-3 did not come up"):
        app.ask("reload")
    after = app.pids()
    assert [after["my-app-1"], after["my-app-2"]] == list(before.values())


def test_one_process_that_fails_does_not_keep_the_others_from_their_change(
    running: Make
) -> None:
    app = running(sleeper("one"), sleeper("two")).start()
    app.write(sleeper("one", cmd=CRASH), sleeper("two", env={"A": "1"}))
    # A process without a port runs as soon as it is there: it is the next look that tells.
    try:
        app.ask("reload")
    except PupgeventError:
        pass
    assert environment_of(app.pids()["two"])["A"] == "1"


def test_the_number_of_the_file_wins_over_that_of_scale(running: Make, free_ports: Ports) -> None:
    ports = free_ports(4)
    app = running(server("my-app", ports[:2], ports[3])).start()
    app.ask("scale", id="my-app", instances=3)
    assert len(app.members()) == 3
    reload(app)
    assert len(app.members()) == 2


def test_what_cannot_change_is_told(running: Make) -> None:
    app = running(sleeper("job")).start()
    app.write(sleeper("job"), control={"socket": "other.sock"})
    app.signal(signal.SIGHUP)
    eventually(lambda: "control: a change of it needs a restart of pupgevent" in app.said())
    app.write(sleeper("job"))
    assert reload(app) == "reloaded: nothing differs"


def test_a_console_that_is_off_gets_nothing_until_it_is_on_again(running: Make) -> None:
    """What the children print, and what pupgevent says; `logs` has it."""
    loud = sleeper("loud", cmd="echo printed; exec sleep 600")
    off, on = {"console": False}, {"console": True, "colors": True}
    app = running(loud, logger=off).start()
    eventually(lambda: "[loud][stdout] printed" in app.run("logs").stdout)
    assert "[loud][core] started, pid" in app.run("logs").stdout
    assert app.said() == ""
    assert reload(app, loud, logger=on) == "reloaded: changed the logger, loud"
    app.ask("restart", words=["loud"])
    eventually(lambda: "[loud][stdout]\x1b[0m printed" in app.said())
    assert "[loud][core]\x1b[0m started, pid" in app.said()
    reload(app, loud, logger=off)
    before = app.said()
    app.ask("restart", words=["loud"])
    app.end()
    assert app.said() == before
