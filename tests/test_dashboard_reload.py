"""A dashboard comes, goes and moves with its file; a port that cannot be had harms nothing."""

import contextlib
import os
import signal
import socket
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from asking import ask, connect
from conftest import eventually
from running import Running, get, is_free, server, sleeper

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]

JOB = sleeper("job")


@contextlib.contextmanager
def taken(port: int, host: str = "127.0.0.1") -> Iterator[None]:
    """By somebody else."""
    with socket.socket() as sock:
        sock.bind((host, port))
        sock.listen(1)
        yield


def reload(app: Running, *processes: Any, **top: Any) -> str:
    """What it says of it, good or bad."""
    app.write(*processes, **top)
    done = app.run("reload")
    return done.stdout + done.stderr


def serves(port: int, to: str = "127.0.0.1") -> bool:
    try:
        return ask(port, "/healthz", to=to).code == 200
    except ConnectionRefusedError:
        return False


def test_it_is_off_until_it_is_turned_on_and_again_when_it_is_turned_off(
    running: Make, free_port: Callable[[], int]
) -> None:
    port = free_port()
    app = running(JOB).start()
    pids = app.pids()
    assert not serves(port)
    assert "changed the dashboard" in reload(app, JOB, dashboard={"port": port})
    assert serves(port)
    eventually(lambda: "[dashboard] http://127.0.0.1:%d/" % port in app.said())
    began = ask(port, "/history.json").json
    assert [each["state"] for each in began["moments"]] == ["starting", "running"]
    with connect(port) as idle:
        assert "changed the dashboard" in reload(app, JOB)
        assert not serves(port)
        # Who is connected is disconnected.
        assert idle.recv(1) == b""
    reload(app, JOB, dashboard={"port": port})
    assert serves(port) and ask(port, "/history.json").json["began"] != began["began"]
    assert app.pids() == pids


def test_it_moves_to_another_port(running: Make, free_ports: Ports) -> None:
    old, new = free_ports(2)
    app = running(JOB, dashboard={"port": old}).start()
    began = ask(old, "/history.json").json["began"]
    assert "changed the dashboard" in reload(app, JOB, dashboard={"port": new})
    assert serves(new) and not serves(old) and is_free(old)
    eventually(lambda: "[dashboard] http://127.0.0.1:%d/" % new in app.said())
    # What has happened is not forgotten.
    assert ask(new, "/history.json").json["began"] == began


def test_its_new_port_is_open_before_the_old_one_is_closed(
    running: Make, free_ports: Ports
) -> None:
    """Whoever asks at both is answered by one of them at any time."""
    ports = free_ports(2)
    app = running(JOB, dashboard={"port": ports[0]}).start()
    for there in (ports[1], ports[0]) * 3:
        app.write(JOB, dashboard={"port": there})
        app.signal(signal.SIGHUP)
        before = ports[there == ports[0]]
        # First the old one: once that is closed, the new one takes connections.
        while True:
            try:
                connect(before).close()
            except (ConnectionRefusedError, ConnectionResetError):
                connect(there).close()
                break
        eventually(lambda: serves(there))  # noqa: B023


def test_it_moves_to_another_address_at_the_same_port(
    running: Make, free_port: Callable[[], int]
) -> None:
    """Also to one that overlaps with the old one."""
    port = free_port()
    app = running(JOB, dashboard={"port": port}).start()
    for host, there, elsewhere in (
        ("0.0.0.0", ["127.0.0.1", "127.0.0.2"], []), ("127.0.0.2", ["127.0.0.2"], ["127.0.0.1"]),
        ("127.0.0.1", ["127.0.0.1"], ["127.0.0.2"]),
    ):
        # Everybody's: with a token.
        top = {"port": port, "host": host, "token": "secret"}
        assert "changed the dashboard" in reload(app, JOB, dashboard=top)
        for each in there:
            assert ask(port, to=each).code == 401
        for each in elsewhere:
            assert not serves(port, each)


def test_a_reload_of_something_else_leaves_it_alone(
    running: Make, free_port: Callable[[], int]
) -> None:
    port = free_port()
    app = running(JOB, dashboard={"port": port}).start()
    with connect(port) as kept:
        for change in (lambda: reload(app, JOB, sleeper("other"), dashboard={"port": port}),
                       lambda: app.ask("restart", words=["job"])):
            change()
            kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"\r\n\r\nok\n"):
                piece = kept.recv(1000)
                assert piece
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200")
    eventually(lambda: app.said().count("[dashboard] http://") == 1)


def test_a_port_that_is_taken_fails_the_reload_and_nothing_has_changed(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(5)
    web = server("web", ports[:2], ports[2])
    app = running(web, dashboard={"port": ports[3]}).start()
    pids = app.pids()
    changed = dict(web, env={"RELEASE": "2"})
    with taken(ports[4]):
        said = reload(app, changed, sleeper("new"), dashboard={"port": ports[4]})
        assert said.strip().endswith(
            "dashboard: cannot listen on 127.0.0.1 port %d: address already in use" % ports[4])
        assert said.count("\n") == 1
        # Whatever is done meanwhile goes on from what was before.
        assert app.pids() == pids and serves(ports[3])
        get(ports[2])
        assert "nothing differs" in reload(app, web, dashboard={"port": ports[3]})
        assert reload(app, changed, dashboard={"port": ports[4]}).count("in use") == 1
    # Nobody has it any more: the same file is read once more.
    assert app.run("reload").returncode == 0
    assert serves(ports[4]) and not serves(ports[3])
    assert set(app.pids()) == set(pids) and set(app.pids().values()).isdisjoint(pids.values())


def test_a_reload_that_fails_for_another_reason_leaves_no_port_open(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(6)
    web = server("web", ports[:2], ports[2])
    app = running(web, dashboard={"port": ports[3]}).start()
    with taken(ports[4]):
        moved = server("web", ports[:2], ports[4])
        assert "port %d" % ports[4] in reload(app, moved, dashboard={"port": ports[5]})
    assert not serves(ports[5]) and is_free(ports[5]) and serves(ports[3])
    app.write(web, dashboard={"port": ports[3], "host": "0.0.0.0"})
    assert "token is required" in app.run("reload").stderr
    assert serves(ports[3])
    app.ask("scale", id="web", instances=1)
    assert serves(ports[3])


def test_the_port_of_a_cluster_can_become_the_dashboards_in_two_steps(
    running: Make, free_ports: Ports
) -> None:
    ports = free_ports(4)
    app = running(server("web", ports[:2], ports[2])).start()
    plain = server("web", ports[:2], None)
    # It is still held when it would have to be opened.
    assert "address already in use" in reload(app, plain, dashboard={"port": ports[2]})
    reload(app, plain)
    assert "changed the dashboard" in reload(app, plain, dashboard={"port": ports[2]})
    assert serves(ports[2])


# The start


def test_a_port_that_is_taken_ends_the_start_before_anything_runs(
    running: Make, free_ports: Ports, folder: Path
) -> None:
    ports = free_ports(3)
    web = server("web", ports[:1], ports[1])
    app = running(web, sleeper("job", cmd="touch %s/ran" % folder), dashboard={"port": ports[2]})
    with taken(ports[2]):
        assert app.begin().wait() == 1
    assert app.said().splitlines()[-1].endswith(
        "dashboard: cannot listen on 127.0.0.1 port %d: address already in use" % ports[2])
    assert app.said().count("\n") == 1, app.said()
    assert not (folder / "ran").exists() and is_free(ports[1])


def test_two_do_not_share_a_port(running: Make, free_port: Callable[[], int]) -> None:
    """Nor does another one get it that was the first's."""
    port = free_port()
    first, second = (running(JOB, dashboard={"port": port}) for _ in range(2))
    first.start()
    reload(first, JOB, dashboard={"port": port, "host": "127.0.0.2"})
    reload(first, JOB, dashboard={"port": port})
    assert second.begin().wait() == 1
    assert "address already in use" in second.said()
    assert serves(port)


def test_an_address_that_this_machine_has_not_is_told(
    running: Make, free_port: Callable[[], int]
) -> None:
    port = free_port()
    app = running(JOB, dashboard={"port": port, "host": "192.0.2.1", "token": "secret"})
    assert app.begin().wait() == 1
    assert "dashboard: cannot listen on 192.0.2.1 port %d: cannot assign" % port in app.said()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_low_port_is_for_root(run_by: Any, new_user: Any) -> None:
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
        if int(file.read()) < 2:
            pytest.skip("a machine where everybody may have them")
    app = run_by(new_user(), JOB, dashboard={"port": 1})
    assert app.begin().wait() == 1
    assert "dashboard: cannot listen on 127.0.0.1 port 1: permission denied" in app.said()


def test_a_port_with_connections_that_have_just_ended_is_free(
    running: Make, free_port: Callable[[], int]
) -> None:
    """They are in TIME_WAIT, on its side."""
    port = free_port()
    for _ in range(2):
        app = running(JOB, dashboard={"port": port}).start()
        assert ask(port, "/healthz", headers=[("Connection", "close")]).code == 200
        app.end()


def test_an_address_of_ipv6_is_served_by_its_name(
    running: Make, free_port: Callable[[], int]
) -> None:
    addresses = Path("/proc/net/if_inet6")
    if not addresses.exists() or " lo\n" not in addresses.read_text():
        pytest.skip("a machine without ::1")
    port = free_port()
    app = running(JOB, dashboard={"port": port, "host": "::1"}).start()
    for host in ("[::1]:%d" % port, "[0::1]", "localhost", "127.0.0.1"):
        assert ask(port, "/healthz", host=host, to="::1").code == 200
    for host in ("[::2]", "::1.evil.example", "evil.example"):
        assert ask(port, "/healthz", host=host, to="::1").code == 403
    eventually(lambda: "[dashboard] http://[::1]:%d/" % port in app.said())
    # `::` is for IPv4, too.
    reload(app, JOB, dashboard={"port": port, "host": "::", "token": "secret"})
    for to in ("::1", "127.0.0.1"):
        reply = ask(port, "/healthz", to=to, headers=[("Authorization", "Bearer secret")])
        assert reply.code == 200
