"""What a dashboard answers: the page, health checks, the status as JSON, last changes and lines."""

import json
import signal
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest

from asking import Reply, ask, codes, say
from conftest import eventually
from running import QUICK, Running, get, server, sleeper

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]
Make = Callable[..., Running]

PAGE = {
    "/": "text/html; charset=utf-8", "/page.css": "text/css; charset=utf-8",
    "/page.js": "text/javascript; charset=utf-8", "/icon.svg": "image/svg+xml",
}
PLACES = {
    **PAGE, "/status.json": "application/json", "/history.json": "application/json",
    "/metrics": "text/plain; version=0.0.4; charset=utf-8",
    "/healthz": "text/plain; charset=utf-8", "/healthz/job": "text/plain; charset=utf-8",
    "/logs/job": "text/plain; charset=utf-8",
}


@pytest.fixture
def app(running: Make, free_port: Callable[[], int]) -> Tuple[Running, int]:
    """Of one process that speaks, and the port of its dashboard."""
    port = free_port()
    job = sleeper("job", cmd="for i in $(seq 300); do echo line $i; done; exec sleep 600")
    found = running(job, dashboard={"port": port}).start()
    eventually(lambda: b"line 300" in ask(port, "/logs/job").body)
    return found, port


def test_each_place_is_served_with_its_kind(app: Tuple[Running, int]) -> None:
    for path, kind in PLACES.items():
        reply = ask(app[1], path)
        assert (reply.code, reply.headers["content-type"]) == (200, kind), path
        assert int(reply.headers["content-length"]) == len(reply.body) > 0


def test_the_files_of_the_page_are_those_beside_the_modules(app: Tuple[Running, int]) -> None:
    folder = Path(__file__).resolve().parent.parent / "page"
    for path in PAGE:
        name = path[1:] or "index.html"
        assert ask(app[1], path).body == (folder / name).read_bytes()
    assert {each.name for each in folder.iterdir()} == {path[1:] or "index.html" for path in PAGE}


def test_a_head_has_no_body_and_says_how_long_it_would_be(app: Tuple[Running, int]) -> None:
    for path in (*PAGE, "/healthz", "/logs/job", "/nowhere"):
        whole, head = ask(app[1], path), ask(app[1], path, "HEAD")
        assert (head.code, head.body) == (whole.code, b"")
        for each in (whole, head):
            each.headers.pop("date")
        assert head.headers == whole.headers
    # What would follow the head is no part of the next answer.
    said = say(app[1], b"HEAD / HTTP/1.1\r\n\r\nHEAD / HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert codes(said) == [200, 200] and b"<html" not in said


def test_nothing_is_taken_from_elsewhere_framed_or_kept(app: Tuple[Running, int]) -> None:
    for path in (*PLACES, "/nowhere"):
        headers = ask(app[1], path).headers
        policy = headers["content-security-policy"].split("; ")
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert not any("unsafe" in each or "http" in each or "*" in each for each in policy)
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


NOWHERE = [
    "/nowhere", "//", "/page.js/", "/page", "/../keys.py", "/page/../../keys.py", "/%2e%2e/keys.py",
    "/logs", "/logs/", "/logs/nobody", "/logs/job/", "/healthz/nobody", "/healthz/job/",
    "/healthz/all", "/metrics/", "/status.json/x", "/STATUS.JSON", "/%00", "/%ff", "*",
    "http://localhost/",
]  # fmt: skip


def test_what_is_not_there_is_not_found(app: Tuple[Running, int]) -> None:
    for path in NOWHERE:
        assert ask(app[1], path).code == 404, path


def test_a_path_may_be_written_with_escapes(running: Make, free_port: Callable[[], int]) -> None:
    port = free_port()
    running(sleeper("a@b.c_d-1"), dashboard={"port": port}).start()
    for path in ("/healthz/a@b.c_d-1", "/healthz/a%40b%2Ec_d-1", "/%68ealthz"):
        assert ask(port, path).code == 200


def test_nothing_can_be_changed(app: Tuple[Running, int]) -> None:
    before = app[0].pids()
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "X"):
        for path in ("/", "/status.json", "/healthz/job", "/nowhere", "*"):
            reply = ask(app[1], path, method, headers=[("Origin", "http://evil.example")])
            assert (reply.code, reply.headers["allow"]) == (405, "GET, HEAD")
    assert ask(app[1], "/", "POST", headers=[("Content-Length", "0")]).code == 405
    assert app[0].pids() == before


# Health


def as_told(app: Running, port: int) -> Dict[str, bool]:
    """Who is well, where the commands and the health checks agree on everybody."""
    found = {}
    for word in ("", "web", "web-1", "web-2", "job", "idle"):
        code = app.run("status", *filter(None, [word])).returncode
        reply = ask(port, "/healthz/" + word)
        assert (code, reply.code) in ((0, 200), (3, 503)), (word, code, reply)
        assert (reply.text == "ok\n") == (reply.code == 200)
        found[word] = code == 0
    return found


def test_health_checks_fail_where_the_status_does(running: Make, free_ports: Ports) -> None:
    ports = free_ports(4)
    web = server("web", ports[:2], ports[2], restartDelayMs=60000, restartMaxDelayMs=60000)
    job = sleeper("job", restartLimit=0, cmd="sleep 600 & wait $!")
    found = running(
        web, job, sleeper("idle", autostart=False), dashboard={"port": ports[3]}).start()
    everybody = dict.fromkeys(["", "web", "web-1", "web-2", "job", "idle"], True)
    assert as_told(found, ports[3]) == everybody

    # One of two that waits for its restart.
    signal_to(found, "web-1", "backoff")
    assert as_told(found, ports[3]) == {**everybody, "": False, "web": False, "web-1": False}
    assert ask(ports[3], "/healthz").text == "failing: web\n"
    assert ask(ports[3], "/healthz/web-1").text == "failing: web-1\n"

    # One that is given up; and stopped ones are well.
    signal_to(found, "job", "exhausted")
    found.ask("stop", words=["web"])
    assert as_told(found, ports[3]) == {**everybody, "": False, "job": False}
    assert ask(ports[3], "/healthz", "HEAD").code == 503
    found.ask("start", words=["job", "web"])
    assert as_told(found, ports[3]) == everybody


def signal_to(app: Running, name: str, then: str) -> None:
    app.ask("signal", signal="SIGKILL", words=[name])
    eventually(lambda: app.are(**{name: then}), message=then)


def test_only_the_first_of_many_that_fail_are_named(
    running: Make, free_port: Callable[[], int]
) -> None:
    port = free_port()
    failing = [{"id": "bad-%02d" % n, "cmd": "exit 3", "restart": "never", "autostart": True}
               for n in range(25)]
    running(*failing, dashboard={"port": port}).begin()
    names = ", ".join("bad-%02d" % n for n in range(20))
    eventually(lambda: ask(port, "/healthz").text == "failing: %s and 5 more\n" % names)


def test_while_it_stops_it_says_so_to_the_end(
    running: Make, free_port: Callable[[], int], folder: Path
) -> None:
    """A balancer before it takes it out, while what is under way goes on."""
    port, enough = free_port(), folder / "enough"
    wait = "trap : TERM; echo ready; while [ ! -e %s ]; do sleep 0.05; done" % enough
    found = running(
        sleeper("slow", cmd=wait), sleeper("job"), dashboard={"port": port},
        terminateTimeout=600).start()
    eventually(lambda: b"ready" in ask(port, "/logs/slow").body)
    found.signal(signal.SIGTERM)
    eventually(lambda: ask(port, "/healthz").code == 503)
    for path in ("/healthz", "/healthz/job", "/healthz/slow"):
        assert (ask(port, path).code, ask(port, path).text) == (503, "stopping\n")
    eventually(lambda: found.are(slow="stopping", job="stopped"))
    eventually(lambda: ask(port, "/status.json").json["state"] == "stopping")
    assert ask(port, "/metrics").code == ask(port, "/").code == 200
    enough.touch()
    assert found.wait() == 0
    with pytest.raises(ConnectionRefusedError):
        ask(port, "/healthz")


# The status and the last changes


def test_the_status_is_that_of_the_command(running: Make, free_ports: Ports) -> None:
    ports = free_ports(4)
    found = running(server("web", ports[:2], ports[2]), sleeper("job"), sleeper(
        "idle", autostart=False), dashboard={"port": ports[3]}).start()
    get(ports[2])

    def both() -> Tuple[Any, Any]:
        return json.loads(found.run("status", "--json").stdout), ask(ports[3], "/status.json").json

    # What passes differs, of course.
    passing = {"uptime", "since", "cpu", "cpuTime", "memory"}
    assert len({json.dumps(without(passing, each)) for each in both()}) == 1
    found.ask("stop", words=["web-1", "job"])
    # It is a second old at most.
    eventually(lambda: len({json.dumps(without(passing, each)) for each in both()}) == 1)


def without(names: "set[str]", value: Any) -> Any:
    if isinstance(value, list):
        return [without(names, each) for each in value]
    if isinstance(value, dict):
        return {name: None if name in names else without(names, each)
                for name, each in value.items()}
    return value


def history(port: int, after: str = "") -> Any:
    return ask(port, "/history.json" + after).json


def test_the_last_changes_have_numbers_that_go_on(running: Make, free_port: Any) -> None:
    port = free_port()
    processes = [sleeper("job", cluster={"instances": 2}, **QUICK)]
    top = {"dashboard": {"port": port}}
    found = running(*processes, **top).start()
    first = history(port)
    moments = first["moments"]
    assert [each["number"] for each in moments] == list(range(1, first["number"] + 1))
    assert {(each["process"], each["id"], each["state"]) for each in moments} == {
        ("job", "job-%d" % number, state) for number in (1, 2)
        for state in ("starting", "running")}
    assert [each["at"] for each in moments] == sorted(each["at"] for each in moments)
    assert "pid %d" % found.pids()["job-2"] in [each["text"] for each in moments]

    def news(before: Any) -> Any:
        after = history(port, "?after=%d" % before["number"])
        assert after["began"] == first["began"]
        assert [each["number"] for each in after["moments"]] == list(
            range(before["number"] + 1, after["number"] + 1))
        return after

    assert news(first)["moments"] == []
    last = first
    for order in ({"command": "restart", "words": ["job-1"]},
                  {"command": "scale", "id": "job", "instances": 3},
                  {"command": "scale", "id": "job", "instances": 1},
                  {"command": "scale", "id": "job", "instances": 2}):
        found.ask(**order)
        last = news(last)
        names = {each["id"] for each in last["moments"]}
        assert names and names <= {"job-%d" % number for number in (1, 2, 3)}, order
    found.write(dict(processes[0], env={"RELEASE": "2"}), **top)
    found.ask("reload")
    states = [(each["id"], each["state"]) for each in news(last)["moments"]]
    for name in ("job-1", "job-2"):
        assert [state for each, state in states if each == name][-1] == "running"
    # Somebody who had another one before; and no number at all.
    for after in ("?after=999999999", "?after=000000000099999"):
        assert history(port, after)["moments"] == []
    everything = history(port)["moments"]
    for after in ("?after=", "?after=x", "?after=-1", "?after=1e3", "?before=3", "?after=0",
                  "?after=" + "9" * 16, "?%61fter=3", "?xafter=3", "?&&;=&"):
        assert history(port, after)["moments"] == everything


# Lines


def lines(reply: Reply) -> List[str]:
    return [each.partition("] ")[2] for each in reply.text.splitlines() if "line" in each]


def test_the_last_lines_of_a_process_or_instance_are_told(
    running: Make, free_port: Callable[[], int]
) -> None:
    port = free_port()
    speaking = "for i in $(seq 3); do echo line $PUP_CLUSTER_INSTANCE $i; done; exec sleep 600"
    found = running(
        sleeper("job", cmd=speaking, cluster={"instances": 2}), dashboard={"port": port}).start()
    eventually(lambda: len(lines(ask(port, "/logs/job"))) == 6)
    assert found.pids()
    for number in (0, 1):
        assert lines(ask(port, "/logs/job-%d" % (number + 1))) == [
            "line %d %d" % (number, each) for each in (1, 2, 3)]


def test_so_many_lines_are_told_and_no_more(app: Tuple[Running, int]) -> None:
    def numbers(query: str) -> List[str]:
        reply = ask(app[1], "/logs/job" + query)
        assert reply.code == 200
        return [each.partition(" ")[2] for each in lines(reply)]

    for query, count in (("?lines=1", 1), ("?lines=250", 250), ("?x=1&lines=7&y=2", 7)):
        assert numbers(query) == list(map(str, range(301 - count, 301)))
    assert numbers("?lines=0") == []
    for query in ("", "?lines=", "?lines=x", "?lines=-5", "?lines=1e3"):
        assert len(numbers(query)) in (199, 200)
    for query in ("?lines=1000", "?lines=100000", "?lines=999999999999999"):
        assert len(numbers(query)) == 300


def test_colours_of_pupgevents_own_are_taken_off_and_bytes_of_applications_stay(
    running: Make, free_port: Callable[[], int]
) -> None:
    port = free_port()
    running(sleeper("job", cmd=r"printf '\033[31m<b>\377</b>\n'; exec sleep 600"),
            dashboard={"port": port}).start()
    eventually(lambda: b"\x1b[31m<b>\xff</b>\n" in ask(port, "/logs/job").body)
    reply = ask(port, "/logs/job")
    assert reply.body.startswith(b"[")
    assert (reply.headers["content-type"], reply.headers["x-content-type-options"]) == (
        "text/plain; charset=utf-8", "nosniff")
