"""A line for each request, in a file that others read; and what is counted of them."""

import json
import os
import re
import signal
import socket
from pathlib import Path
from typing import Callable, Dict, List

import pytest

from conftest import eventually
from http_clients import Asking, Crowd, Gate, ask, ask_once, connect, in_flight, mixed, web
from peers import Peer
from running import Running

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]

#: The combined format, then instance, request time and upstream time.
LINE = re.compile(
    r'(?P<client>\S+) - (?P<user>\S+) '
    r'\[(?P<time>\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] '
    r'"(?P<request>[^"]*)" (?P<status>\d{3}) (?P<size>\d+) "(?P<referer>[^"]*)" '
    r'"(?P<agent>[^"]*)" (?P<instance>\S+) (?P<took>\d+\.\d{6}) (?P<upstream>\d+\.\d{6}|-)')


def lines(path: Path) -> List[Dict[str, str]]:
    """All that have come, whole."""
    found = []
    for text in path.read_text().splitlines():
        match = LINE.fullmatch(text)
        assert match, text
        found.append(match.groupdict())
    return found


def line_of(path: Path, request: str) -> Dict[str, str]:
    """The only one of that request."""
    found: List[Dict[str, str]] = eventually(
        lambda: [each for each in lines(path) if each["request"] == request])
    assert len(found) == 1, found
    return found[0]


@pytest.fixture
def ports(free_ports: Ports) -> List[int]:
    return free_ports(4)


@pytest.fixture
def log(folder: Path) -> Path:
    return folder / "access.log"


@pytest.fixture
def app(running: Make, ports: List[int], log: Path) -> Running:
    return running(web("app", ports[:2], ports[2], accessLog=str(log), queueLimit=1)).start()


def test_each_request_has_its_line(app: Running, ports: List[int], log: Path) -> None:
    client = connect(ports[2])
    named = {"Referer": "http://a.example/", "User-Agent": "a \"quoted\" one",
             "Authorization": "Basic YW5uOnNlY3JldA=="}
    greeting = ask(client, "/?1", fields=named)
    missing = ask(client, "/status/404")
    assert (greeting.status, missing.status) == (200, 404)
    assert ask(client, "/slow/0.3", "HEAD").status == 200
    assert ask(client, "/?post", "POST", b"body").status == 200
    assert ask(client, "/nothing?a").status == 502
    assert ask(client, "/garbage?b").status == 502
    client.close()
    assert ask_once(ports[2], "/chunks/3").body == b"chunk\n" * 3
    bad = Peer(socket.create_connection(("127.0.0.1", ports[2])))
    bad.says(b"GET /bad HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").hears(b"HTTP/1.1 400 ").leaves()

    first = line_of(log, "GET /?1 HTTP/1.1")
    assert (first["client"], first["user"], first["status"]) == ("127.0.0.1", "ann", "200")
    assert (first["referer"], first["agent"]) == ("http://a.example/", r"a \x22quoted\x22 one")
    assert first["size"] == str(len(greeting.body))
    assert first["instance"] == "app-%d" % (int(greeting.instance) + 1)
    assert "secret" not in log.read_text()
    assert line_of(log, "GET /status/404 HTTP/1.1")["status"] == "404"
    head = line_of(log, "HEAD /slow/0.3 HTTP/1.1")
    assert (head["status"], head["size"], head["agent"]) == ("200", "0", "-")
    assert float(head["took"]) >= float(head["upstream"]) >= 0.3
    assert line_of(log, "POST /?post HTTP/1.1")["status"] == "200"
    for request in ("GET /nothing?a HTTP/1.1", "GET /garbage?b HTTP/1.1"):
        broken = line_of(log, request)
        assert (broken["status"], broken["upstream"]) == ("502", "-")
        assert broken["instance"] in ("app-1", "app-2")
    chunks = line_of(log, "GET /chunks/3 HTTP/1.1")
    assert (chunks["status"], int(chunks["size"]) >= 18) == ("200", True)
    assert float(chunks["took"]) >= 0.2
    refused = line_of(log, "GET /bad HTTP/1.1")
    assert (refused["status"], refused["instance"], refused["upstream"]) == ("400", "-", "-")
    assert len(lines(log)) == 8


def test_a_busy_server_writes_a_line_for_each_answer_and_none_is_torn(
    app: Running, ports: List[int], log: Path
) -> None:
    with Crowd(ports[2], *mixed("/", 4, 2, 2)) as crowd:
        crowd.wait_for_answers(30)
        os.rename(str(log), str(log) + ".1")
        app.signal(signal.SIGUSR1)
        eventually(log.exists)
        crowd.wait_for_answers(30)
    assert crowd.lost == []
    app.end()
    old, new = lines(Path(str(log) + ".1")), lines(log)
    assert old and new and len(old) + len(new) == sum(crowd.answered)
    assert {each["status"] for each in old + new} == {"200"}


def test_what_a_kill_costs_is_in_it_with_the_instance_that_had_it(
    app: Running, ports: List[int], log: Path, tmp_path: Path
) -> None:
    posts, gate = [], Gate(tmp_path)
    for number in (1, 2):
        posts.append(Asking(ports[2], "/slow/%s" % gate, method="POST", body=b"x"))
        eventually(lambda: in_flight(app) == number)  # noqa: B023
    os.kill(app.pids()["app-1"], signal.SIGKILL)
    gate.opens()
    assert sorted(each.status for each in posts) == [200, 502]
    eventually(lambda: len(lines(log)) == 2)
    found = {each["instance"]: each["status"] for each in lines(log)}
    assert found == {"app-1": "502", "app-2": "200"}


def test_a_full_disk_harms_nobody(running: Make, ports: List[int], folder: Path) -> None:
    path = folder / "full.log"
    path.symlink_to("/dev/full")
    app = running(web("app", ports[:2], ports[2], accessLog=str(path))).start()
    with Crowd(ports[2], *mixed("/", 4, 2, 2)) as crowd:
        crowd.wait_for_answers(20)
        app.ask("restart", words=["app"])
        crowd.wait_for_answers(20)
    assert crowd.lost == []
    eventually(lambda: "No space left" in app.said() or "no space left" in app.said())
    assert app.said().lower().count("no space left") < 5


# What is counted


def test_requests_and_answers_are_counted(app: Running, ports: List[int]) -> None:
    client = connect(ports[2])
    for path in ["/"] * 4 + ["/status/404", "/status/302", "/status/500", "/nothing"]:
        ask(client, path)
    slow = Asking(ports[2], "/slow/1")
    eventually(lambda: in_flight(app) == 1)
    found = app.process("app")["balancer"]
    assert (found["protocol"], found["open"], found["http"]["connections"]) == ("http", 1, 2)
    assert slow.status == 200
    client.close()
    found = app.process("app")["balancer"]
    assert found["open"] == 0
    assert found["http"]["answers"] == {"1xx": 0, "2xx": 5, "3xx": 1, "4xx": 1, "5xx": 1}
    assert found["http"]["ownAnswers"] == {"1xx": 0, "2xx": 0, "3xx": 0, "4xx": 0, "5xx": 1}
    assert sum(found["http"]["requestTimes"]["counts"]) == 8
    assert found["http"]["requestTimes"]["sum"] >= 1
    members = [each["backend"] for each in app.members().values()]
    assert sum(each["http"]["answers"]["2xx"] for each in members) == 5
    # The one that was repeated went to both.
    assert sum(each["total"] for each in members) == found["total"] == 10
    status = json.loads(app.run("status", "--json").stdout)
    assert status["processes"][0]["balancer"]["http"]["answers"] == found["http"]["answers"]
    assert " OPEN TOTAL 5XX " in app.run("status").stdout


def test_metrics_tell_of_requests(running: Make, ports: List[int]) -> None:
    app = running(web("app", ports[:2], ports[2]), dashboard={"port": ports[3]}).start()
    for path in ("/", "/", "/status/404"):
        ask_once(ports[2], path)
    text = ask_once(ports[3], "/metrics").body.decode()
    assert 'pupgevent_backend_http_requests_total{proxy="app"} 3\n' in text
    assert 'pupgevent_backend_http_responses_total{proxy="app",code="2xx"} 2\n' in text
    assert 'pupgevent_backend_http_responses_total{proxy="app",code="4xx"} 1\n' in text
    assert 'pupgevent_backend_request_time_seconds_count{proxy="app"} 3\n' in text
    assert app.process("app")["balancer"]["http"]["answers"]["2xx"] == 2
