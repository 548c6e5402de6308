"""Which instance a request goes to: by cookie, by requests in flight, and one at a time."""

import re
import socket
import statistics
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from conftest import eventually
from http_clients import (
    Answer,
    Asking,
    Crowd,
    Gate,
    Kind,
    ask,
    ask_once,
    connect,
    in_flight,
    mixed,
    web,
)
from peers import Peer
from running import Running, now

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]

COOKIE = re.compile(r"(pupgevent-[a-z]+)=([^;\s]+); Path=/; HttpOnly; SameSite=Lax")


class Browser:
    """Keeps cookies as one does for a host, of whichever port they are."""

    def __init__(self) -> None:
        self.cookies: Dict[str, str] = {"theme": "dark"}
        #: How often one was set.
        self.times_set = 0

    def ask(self, port: int, path: str = "/", **more: Any) -> Answer:
        text = "; ".join("%s=%s" % each for each in self.cookies.items())
        answer = ask_once(port, path, fields={"Cookie": text}, **more)
        for line in answer.fields.get_all("Set-Cookie", []):
            found = COOKIE.fullmatch(line)
            assert found, line
            self.cookies[found.group(1)] = found.group(2)
            self.times_set += 1
        return answer


@pytest.fixture
def ports(free_ports: Ports) -> List[int]:
    """Three instances of a cluster, two of another; then both common ports."""
    return free_ports(9)


@pytest.fixture
def app(running: Make, ports: List[int]) -> Running:
    return running(web("app", ports[:3], ports[6], strategy="cookie"),
                   web("other", ports[3:5], ports[7], strategy="cookie")).start()


# By cookie


def test_a_client_comes_back_to_its_instance_though_all_have_one_address(
    app: Running, ports: List[int]
) -> None:
    browsers = [Browser() for _ in range(6)]
    first = [each.ask(ports[6]).instance for each in browsers]
    assert sorted(first) == ["0", "0", "1", "1", "2", "2"]
    for _ in range(4):
        assert [each.ask(ports[6]).instance for each in browsers] == first
        assert [each.ask(ports[6], method="POST", body=b"x").instance
                for each in browsers] == first
    assert {each.times_set for each in browsers} == {1}


def test_a_kept_connection_of_two_clients_is_told_apart_by_their_cookies(
    app: Running, ports: List[int]
) -> None:
    """A proxy in front sends the requests of many on one."""
    browsers = [Browser() for _ in range(3)]
    home = {each.ask(ports[6]).instance: each.cookies["pupgevent-app"] for each in browsers}
    client = connect(ports[6])
    for _ in range(3):
        for instance, value in home.items():
            assert ask(client, fields={"Cookie": "pupgevent-app=" + value}).instance == instance
    client.close()


def test_a_client_goes_on_to_another_instance_and_stays_there_when_its_own_is_gone(
    app: Running, ports: List[int]
) -> None:
    browser = Browser()
    home = browser.ask(ports[6]).instance
    name = "app-%d" % (int(home) + 1)
    app.ask("stop", words=[name])
    other = browser.ask(ports[6]).instance
    assert (other != home, browser.times_set) == (True, 2)
    app.ask("start", words=[name])
    assert {browser.ask(ports[6]).instance for _ in range(6)} == {other}
    assert browser.times_set == 2


def test_a_client_comes_back_to_its_instance_after_a_restart_of_pupgevent(
    app: Running, ports: List[int]
) -> None:
    browser = Browser()
    home = browser.ask(ports[6]).instance
    app.end()
    app.start()
    assert {browser.ask(ports[6]).instance for _ in range(6)} == {home}
    assert browser.times_set == 1


#: What is no token of an instance, and what is no cookie at all.
GARBAGE = [
    "pupgevent-app", "pupgevent-app=", "pupgevent-app==;", "pupgevent-app=app-1",
    'pupgevent-app="%s"' % ("x" * 2000), "pupgevent-app=\xff\xfe\x80", ";;;=;= ;",
    "pupgevent-app=%00%0d%0aSet-Cookie:x", "x" * 8000, "pupgevent-other=1; pupgevent-app=2",
    "pupgevent-apps=1", " pupgevent-app = \t",
]  # fmt: skip


def test_a_cookie_that_is_none_of_ours_is_as_good_as_none(
    app: Running, ports: List[int]
) -> None:
    client = connect(ports[6])
    for value in GARBAGE:
        answer = ask(client, fields={"Cookie": value})
        found = COOKIE.fullmatch(answer.fields["Set-Cookie"])
        assert found and found.group(1) == "pupgevent-app", value
        assert (answer.status, len(found.group(2))) == (200, 16)
    client.close()


def test_two_clusters_of_a_host_do_not_disturb_each_other(
    app: Running, ports: List[int]
) -> None:
    browsers = [Browser() for _ in range(6)]
    homes = [[each.ask(port).instance for port in ports[6:8]] for each in browsers]
    for _ in range(3):
        assert [[each.ask(port).instance for port in ports[6:8]] for each in browsers] == homes
    assert {each.times_set for each in browsers} == {2}
    assert len({tuple(each) for each in homes}) > 3


def test_clients_with_cookies_lose_no_request_in_a_restart(
    app: Running, ports: List[int]
) -> None:
    browsers = [Browser() for _ in range(6)]
    for each in browsers:
        each.ask(ports[6])
    asked = [Asking(ports[6], "/slow/0.3", fields={
        "Cookie": "pupgevent-app=" + each.cookies["pupgevent-app"]}) for each in browsers]
    with Crowd(ports[6], *mixed("/slow/0.05", 4, 2, 2)) as crowd:
        crowd.wait_for_answers()
        app.ask("restart", words=["app"])
        crowd.wait_for_answers()
    assert [each.status for each in asked] == [200] * 6
    assert crowd.lost == []


# One at a time


def one_at_a_time(ports: List[int], common: int, **more: Any) -> Any:
    return web("app", ports, common, maxConnections=1, **more)


def test_64_clients_that_keep_their_connection_are_served_in_turn(
    running: Make, ports: List[int]
) -> None:
    """Each instance has one request at a time, and each client gets its share."""
    app = running(one_at_a_time(ports[:3], ports[6], queueTimeoutMs=60000)).start()
    with Crowd(ports[6], *[Kind("GET", "/slow/0.02")] * 64) as crowd:
        # Those that were started first had the instances for themselves for a while.
        crowd.wait_for_answers(1)
        before = list(crowd.answered)
        crowd.wait_for_answers(5)
        assert app.process("app")["balancer"]["open"] <= 3
        since = [now - then for now, then in zip(crowd.answered, before)]
    assert crowd.lost == []
    # The machine may stop a client for a while; nobody has the others' share, though.
    assert max(since) <= 3 * statistics.median(since)
    most = {ask_once(ports[6]).body.split(b", ")[1] for _ in range(3)}
    assert most == {b"1 at most\n"}


def test_beyond_queue_limit_a_client_is_told_when_to_come_again_and_keeps_its_connection(
    running: Make, ports: List[int], tmp_path: Path
) -> None:
    app = running(one_at_a_time(ports[:1], ports[6], queueLimit=2)).start()
    client, gate = connect(ports[6]), Gate(tmp_path)
    slow = [Asking(ports[6], "/slow/%s" % gate) for _ in range(3)]
    eventually(lambda: app.process("app")["balancer"]["queue"] == 2)
    answer = ask(client)
    assert (answer.status, int(answer.fields["Retry-After"]) > 0) == (503, True)
    gate.opens()
    assert [each.status for each in slow] == [200] * 3
    assert ask(client).status == 200
    client.close()
    assert app.process("app")["balancer"]["turnedAway"] == 1


def test_after_queue_timeout_a_client_is_told_when_to_come_again(
    running: Make, ports: List[int], tmp_path: Path
) -> None:
    app = running(one_at_a_time(ports[:1], ports[6], queueTimeoutMs=300)).start()
    gate = Gate(tmp_path)
    slow = Asking(ports[6], "/slow/%s" % gate)
    eventually(lambda: in_flight(app) == 1)
    began = now()
    waiting = [Asking(ports[6], "/", method=method) for method in ("GET", "POST", "HEAD")]
    assert [each.status for each in waiting] == [503] * 3
    assert all(int(each.answer.fields["Retry-After"]) > 0 for each in waiting)
    assert now() - began >= 0.3
    gate.opens()
    assert slow.status == 200


def test_who_resets_its_connection_in_the_queue_is_not_served(
    running: Make, ports: List[int], tmp_path: Path
) -> None:
    """Who ends it may still read: a half-close looks the same."""
    app, gate = running(one_at_a_time(ports[:1], ports[6])).start(), Gate(tmp_path)
    slow = Asking(ports[6], "/slow/%s" % gate)
    eventually(lambda: in_flight(app) == 1)
    client = Peer(socket.create_connection(("127.0.0.1", ports[6])))
    client.says(b"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n")
    eventually(lambda: app.process("app")["balancer"]["queue"] == 1)
    client.resets()
    eventually(lambda: app.process("app")["balancer"]["queue"] == 0)
    gate.opens()
    assert slow.status == ask_once(ports[6]).status == 200
    assert "[stdout] DELETE" not in app.said()


# By requests in flight


def test_a_slow_instance_gets_fewer_requests_by_least_connections(
    running: Make, ports: List[int]
) -> None:
    """Clients keep their connections, so it is requests that are counted."""
    app = running(web("app", ports[:2], ports[6], "--pace", "0.4,0.02",
                      strategy="least-connections")).start()
    with Crowd(ports[6], *[Kind()] * 4) as crowd:
        crowd.wait_for_answers(10)
    slow, quick = (each["backend"]["total"] for each in app.members().values())
    assert slow * 3 < quick


def test_an_idle_connection_counts_for_no_instance(running: Make, ports: List[int]) -> None:
    app = running(web("app", ports[:2], ports[6], strategy="least-connections")).start()
    clients = [connect(ports[6]) for _ in range(10)]
    found = [ask(client).instance for client in clients]
    assert (found.count("0"), found.count("1")) == (5, 5)
    status = app.process("app")["balancer"]
    assert (status["open"], status["http"]["connections"], status["total"]) == (0, 10, 10)
    for client in clients:
        client.close()
