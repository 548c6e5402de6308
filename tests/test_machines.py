"""Three machines, each with a pupgevent, behind NGINX and HAProxy as exported: no request is lost.

The machines are network namespaces; `machines.py` has them. All of it is real: the programs, the
files that are exported, the cables that are pulled. The fronts are `export haproxy` and `export
nginx` with a --host for each machine.
"""

import contextlib
import functools
import signal
from collections import Counter
from contextlib import ExitStack
from typing import Dict, Iterator, List

import pytest

from conftest import PARTING, eventually, marked_processes
from machines import API_FRONT, WEB, Front, Load, Site, inside
from running import get

#: How HAProxy calls them.
SERVERS = ["10.77.0.%d-%s" % (number, name) for name in ("web", "api-1") for number in (11, 12, 13)]


@pytest.fixture(autouse=True, scope="module")
def no_process_is_left(marked_environment: str) -> Iterator[None]:
    """In place of that of each test: the machines outlive these."""
    before = set(marked_processes(marked_environment))
    yield
    eventually(lambda: set(marked_processes(marked_environment)) <= before, PARTING)


@pytest.fixture(scope="module")
def whole_site(no_process_is_left: None) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch, Site() as site:
        patch.setenv("XDG_RUNTIME_DIR", str(site.folder))
        for machine in site.machines:
            machine.begin()
        for machine in site.machines:
            eventually(machine.is_settled, message=machine.said())
        for front in site.fronts.values():
            front.start()
        yield site


@pytest.fixture
def site(whole_site: Site) -> Site:
    """With all machines up, and known to be by both fronts."""
    whole_site.fronts["haproxy"].finds(*SERVERS)
    for front in whole_site.fronts.values():
        for port in (WEB, API_FRONT):
            eventually(functools.partial(all_serve, whole_site, front, port))
    return whole_site


def all_serve(site: Site, front: Front, port: int) -> bool:
    return len(by_machine(site, front.pids(port, 30))) == 3


def by_machine(site: Site, pids: "Counter[int]") -> Dict[str, int]:
    """How many requests each machine has answered."""
    found: Dict[str, int] = {}
    for machine in site.machines:
        for pid in machine.pids().values():
            if pid in pids:
                found[machine.address] = found.get(machine.address, 0) + pids[pid]
    return found


class Under:
    """Load at each front and cluster, of what they may repeat; `posts` are further loads."""

    def __init__(self, site: Site, *posts: Load) -> None:
        self._stack = ExitStack()
        haproxy, nginx = site.fronts["haproxy"], site.fronts["nginx"]
        self.loads: List[Load] = [haproxy.load(WEB), haproxy.load(API_FRONT), nginx.load(WEB)]
        # NGINX asks no agent: of instances without a balancer it finds out too late.
        self.loads += posts or [nginx.load(API_FRONT)]

    def __enter__(self) -> "Under":
        for each in self.loads:
            self._stack.enter_context(each)
        self.go_on()
        return self

    def go_on(self, count: int = 50) -> None:
        for each in self.loads:
            each.goes_on(count)

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def lost(self) -> Dict[str, object]:
        return {"%s:%d" % (each.namespace, each.port): each.failures[:3]
                for each in self.loads if each.failures}


def test_clients_are_spread_evenly_over_machines_and_their_instances(site: Site) -> None:
    for front in site.fronts.values():
        for port in (WEB, API_FRONT):
            pids = front.pids(port, 60)
            assert all(abs(count - 20) <= 1 for count in by_machine(site, pids).values())
            assert len(pids) == (6 if port == WEB else 3)
            assert all(abs(count - 60 // len(pids)) <= 1 for count in pids.values())


def test_pupgevent_learns_from_the_front_who_the_client_is(site: Site) -> None:
    """Whose own address is in acceptProxyFrom; what a client says of itself does not count."""
    for name, front in site.fronts.items():
        said = b"GET /?%s HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6\r\n" % name.encode()
        said += b"Connection: close\r\n\r\n"
        with contextlib.suppress(ValueError):
            inside(front.namespace, functools.partial(get, WEB, request=said))
        lines = eventually(functools.partial(logged, site, "/?" + name))
        assert [line.split()[0] for line in lines] == ["127.0.0.1"]


def logged(site: Site, path: str) -> List[str]:
    """What the access logs of the machines say of it."""
    return [line for machine in site.machines
            for line in (machine.config.parent / "access.log").read_text().splitlines()
            if " %s " % path in line]


def test_a_machine_that_is_silent_from_one_moment_on_loses_no_request(site: Site) -> None:
    gone = site.machines[2]
    with Under(site) as under:
        site.cable(gone, "down")
        try:
            site.fronts["haproxy"].finds(*(each for each in SERVERS if gone.address not in each))
            under.go_on()
        finally:
            site.cable(gone, "up")
    assert under.lost() == {}


def test_a_machine_that_is_killed_under_load_loses_no_request(site: Site) -> None:
    gone = site.machines[0]
    with Under(site) as under:
        gone.signal(signal.SIGKILL)
        gone.wait()
        site.fronts["haproxy"].finds(*(each for each in SERVERS if gone.address not in each))
        under.go_on()
        gone.begin()
        site.fronts["haproxy"].finds(*SERVERS)
        under.go_on()
    assert under.lost() == {}


def test_a_rolling_restart_of_all_machines_one_after_the_other_loses_no_request(
    site: Site
) -> None:
    """Behind common ports, and straight to the instances. Each machine has one of these, which ends
    at its SIGTERM in the middle of everything: only who is told before sends nothing there."""
    before = [each.pids() for each in site.machines]
    haproxy, nginx = site.fronts["haproxy"], site.fronts["nginx"]
    with Under(site, haproxy.posts(WEB), haproxy.posts(API_FRONT), nginx.posts(WEB)) as under:
        for machine in site.machines:
            done = machine.run("restart")
            assert (done.returncode, done.stderr.count("cut")) == (0, 0), done.stderr
        under.go_on()
    assert under.lost() == {}
    for machine, pids in zip(site.machines, before):
        assert not set(machine.pids().values()) & set(pids.values())


def test_a_machine_that_is_shut_down_and_started_again_loses_no_request(site: Site) -> None:
    """HAProxy knows of it before its ports are closed; NGINX finds them closed, and goes on."""
    machine, haproxy = site.machines[1], site.fronts["haproxy"]
    with Under(site, haproxy.posts(WEB), haproxy.posts(API_FRONT)) as under:
        done = machine.run("shutdown")
        assert done.returncode == 0 and machine.wait() == 0
        rest = {name: status for name, status in site.fronts["haproxy"].servers().items()
                if machine.address in name}
        assert not set(rest.values()) & {"UP"}
        machine.begin()
        site.fronts["haproxy"].finds(*SERVERS)
        under.go_on()
    assert under.lost() == {}
