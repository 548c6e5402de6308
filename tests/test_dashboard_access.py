"""Who may read a dashboard: this machine by its own name, or whoever has the token."""

import base64
import http.client
from pathlib import Path
from typing import Callable, List, Optional, Tuple

import pytest

import dashboard
from asking import ask, codes, say
from conftest import eventually
from running import Running, sleeper

pytest_plugins = ["runs"]

Make = Callable[..., Running]

TOKEN = "S3cret:{}/~\"'%s"

EVERYTHING = ["/", "/page.js", "/healthz", "/healthz/job", "/status.json", "/history.json",
              "/metrics", "/logs/job", "/nowhere"]


@pytest.fixture
def app(running: Make, free_port: Callable[[], int]) -> int:
    """The port of one without a token."""
    port = free_port()
    running(sleeper("job"), dashboard={"port": port}).start()
    return port


@pytest.fixture
def locked(running: Make, free_port: Callable[[], int]) -> Tuple[Running, int]:
    """One with a token, and its port."""
    port = free_port()
    return running(sleeper("job"), dashboard={"port": port, "token": TOKEN}).start(), port


# By name


OWN = [
    "localhost", "LOCALHOST", "localhost:9999", "127.0.0.1", "127.0.0.1:9999", "127.0.0.1:",
    "127.8.9.1", "[::1]", "[::1]:1", "[0:0:0:0:0:0:0:1]:80", None,
]  # fmt: skip


def test_this_machine_is_served_by_the_names_that_are_its_own(app: int) -> None:
    for host in OWN:
        assert ask(app, "/status.json", host=host).code == 200, host


STRANGE = [
    "evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example",
    "evil.example#localhost", "localhost@evil.example", "evil.example:127.0.0.1", "10.0.0.1",
    "0.0.0.0", "[::]", "[::ffff:10.0.0.1]", "[evil.example]", "[::1", "::1]", "localhost:80:80",
    "localhost:x", "localhost evil.example", "localhost/", "localhost,evil.example", "\xe9.example",
    "127.1", "0x7f.0.0.1", "localhost\tx", "%6cocalhost",
]  # fmt: skip


def test_a_name_that_a_stranger_has_pointed_at_this_machine_is_refused(app: int) -> None:
    """Else his page could read all of this in the browser of whoever opens it: DNS rebinding."""
    for host in STRANGE:
        for path in EVERYTHING:
            reply = ask(app, path, host=host)
            assert reply.code == 403, (host, path)
            assert "dashboard.token" in reply.text and host not in reply.text
        assert ask(app, "/", "POST", host=host).code == 403


def test_one_of_two_names_that_is_a_strangers_is_refused(app: int) -> None:
    for names in ("Host: localhost\r\nHost: evil.example", "Host: evil.example\r\nHost: localhost",
                  "Host: evil.example\r\nhost: localhost"):
        head = "GET / HTTP/1.1\r\n%s\r\nConnection: close\r\n\r\n" % names
        assert codes(say(app, head.encode())) == [403]


def test_an_empty_name_is_none(app: int) -> None:
    """A browser sends one always."""
    for name in ("Host:", "Host: ", "Ho_st: evil.example", "X-Forwarded-Host: evil.example"):
        head = "GET / HTTP/1.1\r\n%s\r\nConnection: close\r\n\r\n" % name
        assert codes(say(app, head.encode())) == [200]


def test_a_whole_address_in_the_first_line_is_not_found(app: int) -> None:
    for name, code in (("localhost", 404), ("evil.example", 403)):
        head = "GET http://localhost/status.json HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n"
        assert codes(say(app, (head % name).encode())) == [code]


def test_its_configured_address_is_a_name_too(
    running: Make, free_port: Callable[[], int]
) -> None:
    port = free_port()
    running(sleeper("job"), dashboard={"port": port, "host": "127.0.0.3"}).start()
    for host in ("127.0.0.3", "127.0.0.3:%d" % port, "localhost"):
        assert ask(port, host=host, to="127.0.0.3").code == 200
    assert ask(port, host="evil.example", to="127.0.0.3").code == 403
    with pytest.raises(ConnectionRefusedError):
        ask(port)


def test_only_this_machine_can_connect(app: int) -> None:
    with open("/proc/net/tcp") as file:
        listening = [line.split()[1] for line in file if line.split()[3] == "0A"]
    assert [each for each in listening if each.endswith(":%04X" % app)] == ["0100007F:%04X" % app]


# By token


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(("%s:%s" % (user, password)).encode("utf-8")).decode()


RIGHT = [
    "Bearer " + TOKEN, "bearer  %s " % TOKEN, "BEARER " + TOKEN, basic("", TOKEN),
    basic("anybody", TOKEN), basic("jos\xe9", TOKEN), basic("x" * 5000, TOKEN),
    basic("", TOKEN).replace("Basic", "basic"),
]  # fmt: skip


def test_who_has_the_token_is_served_by_any_name(locked: Tuple[Running, int]) -> None:
    for value in RIGHT:
        def code(path: str, method: str = "GET", host: Optional[str] = "localhost") -> int:
            header = ("Authorization", value)  # noqa: B023
            return ask(locked[1], path, method, host, [header]).code

        for host in ("localhost", "status.example.com:443", None):
            assert [code(path, host=host) for path in EVERYTHING] == [200] * 8 + [404], value
        assert code("/", "POST") == 405


WRONG: List[Optional[str]] = [
    None, "", "Bearer", "Bearer ", "Bearer x", "Bearer " + TOKEN[:-1], "Bearer %sx" % TOKEN,
    "Bearer " + TOKEN.lower(), "Bearer \xe9\xff", "Bearer " + "x" * 10000, TOKEN,
    "Digest " + TOKEN, "Bearer" + TOKEN, "Bearer , " + TOKEN,
    basic(TOKEN, ""), basic("", TOKEN + "x"), basic("x", ""), "Basic", "Basic " + TOKEN,
    "Basic \xe9\xff", "Basic ====", "Basic " + base64.b64encode(TOKEN.encode()).decode(),
    basic("", "\xe9" * 10), "Basic " + "A" * 10001,
]  # fmt: skip


def test_without_the_token_there_is_nothing(locked: Tuple[Running, int]) -> None:
    for value in WRONG:
        headers = [] if value is None else [("Authorization", value)]
        for method, path in [*(("GET", path) for path in EVERYTHING), ("HEAD", "/"), ("POST", "/")]:
            reply = ask(locked[1], path, method, headers=headers)
            assert reply.code == 401, (value, path)
            assert reply.headers["www-authenticate"] == 'Basic realm="pupgevent", charset="UTF-8"'
            assert reply.text == ("" if method == "HEAD" else (
                "a token is needed: send it as a password, or as a bearer token\n"))


def test_a_script_without_the_token_is_told_so_and_no_password_is_asked_for(
    locked: Tuple[Running, int]
) -> None:
    reply = ask(locked[1], "/status.json", headers=[("Sec-Fetch-Dest", "empty")])
    assert reply.code == 401
    assert "www-authenticate" not in reply.headers


def test_the_token_is_no_part_of_an_address(locked: Tuple[Running, int]) -> None:
    """Addresses are kept by browsers and proxies."""
    for path in ("/?token=", "/status.json?token=", "/?access_token=", "/"):
        assert ask(locked[1], path + TOKEN.replace("%", "%25")).code == 401
    cookie = ("Cookie", "token=" + TOKEN)
    assert ask(locked[1], "/", headers=[cookie]).code == 401


def test_two_authorizations_are_none(locked: Tuple[Running, int]) -> None:
    value = ("Authorization", "Bearer " + TOKEN)
    assert ask(locked[1], headers=[value, ("Authorization", "Bearer x")]).code == 401


def test_the_token_is_told_nowhere(locked: Tuple[Running, int]) -> None:
    app, port = locked
    header = [("Authorization", "Bearer " + TOKEN)]
    found = [ask(port, path, headers=header).text for path in EVERYTHING]
    found += [say(port, data % TOKEN.encode()).decode() for data in (
        b"GET /%s HTTP/1.0\r\n\r\n", b"%s\r\n\r\n", b"GET / HTTP/1.0\r\n%s\r\n\r\n",
        b"GET / HTTP/1.1\r\nAuthorization: Bearer %s\r\nContent-Length: x\r\n\r\n")]
    found.append(app.run("status", "--json").stdout + app.run("status").stdout)
    found.append(app.run("logs").stdout + app.run("check").stdout)
    # A reload tells what has changed.
    app.write(sleeper("job"), dashboard={"port": port, "token": TOKEN + "2"})
    found.append(app.run("reload").stdout)
    assert "changed the dashboard" in found[-1]
    # A file with a mistake is shown with its line.
    app.write(sleeper("job"), dashboard={"port": "x", "token": TOKEN})
    found.append(app.run("reload").stderr + app.run("check").stderr)
    assert app.child is not None
    found += [Path("/proc/%d/%s" % (app.child.pid, name)).read_text()
              for name in ("cmdline", "environ")]
    found.append(app.said())
    assert not [each for each in found if TOKEN in each]


def test_the_time_of_a_comparison_does_not_tell_how_much_was_right() -> None:
    """Seen at the one call that does compare."""
    source = Path(dashboard.__file__).read_text()
    assert source.count("compare_digest(given, token") == 1
    assert "== settings.token" not in source and "== token" not in source


def test_another_token_counts_at_once_also_for_who_is_connected(
    locked: Tuple[Running, int]
) -> None:
    app, port = locked
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def code(token: str) -> int:
        kept.request("GET", "/healthz", headers={"Authorization": "Bearer " + token})
        with kept.getresponse() as answer:
            answer.read()
            return answer.status

    assert (code(TOKEN), code("other")) == (200, 401)
    first = kept.sock
    app.write(sleeper("job"), dashboard={"port": port, "token": "other"})
    assert app.run("reload").returncode == 0
    assert (code(TOKEN), code("other")) == (401, 200)
    assert kept.sock is first
    kept.close()
    # And without one, the name of the machine counts.
    app.write(sleeper("job"), dashboard={"port": port})
    app.run("reload")
    eventually(lambda: ask(port).code == 200 and ask(port, host="evil.example").code == 403)
