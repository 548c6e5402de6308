"""The page of the dashboard in a real browser: what it shows is what `status --json` tells."""

import json
import os
import re
import signal
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest

from browser import PHONE, WIDE, Browser, address
from canned_page import CannedPage, failing, http_status, member, status, with_http, with_tls
from conftest import eventually
from running import Running, get, server, sleeper

pytest_plugins = ["runs"]

Make = Callable[..., Running]
Ports = Callable[[int], List[int]]
Open = Callable[..., Browser]

#: As dangerous as the output of a process can be, and coloured.
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>&lt;b>"
PRINTS_MARKUP = "printf '\\033[31m%s\\033[0m\\n'; exit 3" % MARKUP.replace("%", "%%")

#: What the page has where there is no value: an en dash.
NOTHING = "\u2013"

#: What a browser says of a server that has gone, or wants a password.
EXPECTED = ("net::ERR_CONNECTION_REFUSED", "net::ERR_CONNECTION_RESET", "net::ERR_EMPTY_RESPONSE",
            "net::ERR_SOCKET_NOT_CONNECTED", "status of 401", "status of 503")


@pytest.fixture(scope="module")
def the_browser() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.end()


@pytest.fixture
def opened(the_browser: Browser) -> Iterator[Open]:
    """`opened(url)`: the browser with that page, which is to complain of nothing, and to ask nobody
    else for anything."""
    urls: List[str] = []

    def open_page(url: str) -> Browser:
        urls.append(url)
        return the_browser.open(url)

    yield open_page
    assert [text for text in the_browser.problems()
            if not any(known in text for known in EXPECTED)] == []
    if urls:
        origin = re.sub("//.*@", "//", urls[-1]).rstrip("/")
        assert the_browser.origins() == [origin]


@pytest.fixture
def shown(running: Make, free_port: Callable[[], int], opened: Open) -> Callable[..., Any]:
    """`shown(process, ...)`: a pupgevent of these that has started, and its page in the browser."""

    def show(*processes: Any) -> Tuple[Running, Browser]:
        port = free_port()
        app = running(*processes, name="shop", dashboard={"port": port}).start()
        page = opened(address(port))
        eventually(lambda: page.text("h1") == "shop", message="the page has its first values")
        return app, page

    return show


def bytes_text(value: int) -> str:
    """A size, as the page has it."""
    if value < 1024:
        return "%d B" % value
    return "%.*f KB" % (value / 1024 < 9.95, value / 1024)


def told_by(found: Dict[str, Any]) -> Dict[str, Any]:
    """A status in the words of the page; of a moment without clients."""
    rows = {}
    clusters = [each for each in found["processes"] if each["members"][0]["id"] != each["id"]]
    for process in found["processes"]:
        for each in process["members"]:
            backend = each["backend"]
            cells = {"State": each["state"], "PID": str(each["pid"] or NOTHING),
                     "Restarts": str(each["restarts"])}
            if each["port"]:
                cells["Port"] = str(each["port"])
            if backend:
                cells.update(Open=str(backend["open"]), Total=str(backend["total"]),
                             In=bytes_text(backend["bytesIn"]), Out=bytes_text(backend["bytesOut"]))
            rows[each["id"]] = cells
    return {
        "health": "healthy" if found["healthy"] else "unhealthy",
        "states": {each["id"]: each["state"] for each in clusters},
        "up": {each["id"]: "%d of %d up" % (each["up"], each["instances"]) for each in clusters},
        "rows": rows,
    }


def seen_on(page: Browser, told: Dict[str, Any]) -> Dict[str, Any]:
    """The same, as the page has it: of the rows the cells that are told."""
    rows = page.rows()
    heads = {name: "[id='process-%s'] .head" % name for name in told["states"]}
    return {
        "health": page.text("#health .state"),
        "states": {name: page.text(head + " .state") for name, head in heads.items()},
        "up": {name: page.text(head + " .facts span") for name, head in heads.items()},
        "rows": {name: {head: cells.get(head) for head in told["rows"].get(name, ())}
                 for name, cells in rows.items()},
    }


def agree(app: Running, page: Browser) -> bool:
    """The page shows what pupgevent tells its commands."""
    told = told_by(app.status())
    assert seen_on(page, told) == told
    return True


def changes_on(page: Browser) -> List[str]:
    """The lines of the list of changes, the latest first."""
    return [" ".join(line.split()) for line in page.texts("#changes tr")]


# What it shows


def test_states_and_numbers_are_those_of_status_while_instances_are_killed_and_scaled(
    shown: Callable[..., Any], free_ports: Ports
) -> None:
    ports = free_ports(6)
    app, page = shown(
        server("my-app", ports[:3], ports[5], restartDelayMs=600000),
        server("api", free_ports(1), None))  # fmt: skip
    eventually(lambda: agree(app, page))
    assert page.text("#health") == "healthy"
    for _ in range(7):
        get(ports[5])
    eventually(lambda: agree(app, page))
    assert sum(int(cells.get("Total", 0)) for cells in page.rows().values()) == 7

    os.kill(app.pids()["my-app-2"], signal.SIGKILL)
    eventually(lambda: page.rows()["my-app-2"]["State"] == "backoff")
    eventually(lambda: agree(app, page))
    assert page.texts("#health a") == ["my-app"]
    why = page.rows()["my-app-2"]["why"]
    assert why.startswith(("SIGKILL, next try in 10 min", "SIGKILL, next try in 9 min"))
    eventually(lambda: re.search(
        r"\d\d:\d\d:\d\d my-app-2 backoff SIGKILL, restart in", changes_on(page)[0]))
    assert page.count("#strips .failure") == 1
    assert page.run("return document.title") == "shop: unhealthy"
    assert page.text("#announced") == "shop is unhealthy: my-app degraded"

    app.ask("start", words=["my-app-2"])
    eventually(lambda: page.rows()["my-app-2"]["State"] == "running")
    eventually(lambda: agree(app, page))
    eventually(lambda: re.search("my-app-2 running", changes_on(page)[0]))

    assert app.run("scale", "my-app", "5").returncode == 0
    eventually(lambda: page.count("[data-row^=my-app]") == 5)
    eventually(lambda: agree(app, page))
    assert app.run("scale", "my-app", "1").returncode == 0
    eventually(lambda: page.count("[data-row^=my-app]") == 1)
    eventually(lambda: agree(app, page))
    app.ask("stop", words=["api"])
    eventually(lambda: page.rows()["api-1"]["State"] == "stopped")
    eventually(lambda: agree(app, page))
    told = told_by(json.loads(app.run("status", "--json").stdout))
    assert seen_on(page, told) == told


#: Of the chart with this title in the section of a process: its text for who does not see it.
SUMMARY = "[id='process-%s'] [aria-label^='%s']"
SPOKEN = re.compile(r"(.+) over the last .+: now (.+); lowest (.+), highest (.+)$")


def chart(page: Browser, process: str, title: str) -> Tuple[str, ...]:
    """Its values now, its lowest and its highest, as they are told to who does not see it."""
    text = page.run("return document.querySelector(arguments[0]).getAttribute('aria-label')",
                    SUMMARY % (process, title))
    found = SPOKEN.match(text)
    assert found, text
    return found.groups()[1:]


def test_connections_are_counted_and_drawn(
    shown: Callable[..., Any], free_ports: Ports
) -> None:
    ports = free_ports(3)
    app, page = shown(server("my-app", ports[:2], ports[2]))
    eventually(lambda: chart(page, "my-app", "Connections/s") == ("0", "0", "0"))
    for _ in range(20):
        get(ports[2])
    eventually(lambda: float(chart(page, "my-app", "Connections/s")[2]) > 0)
    assert chart(page, "my-app", "Traffic")[2] != "0 B/s"
    # Who points at a place sees the time and the value there, in all charts.
    page.point_at("#process-my-app .chart .frame", 0.999)
    eventually(lambda: all(re.match(r"\d\d:\d\d:\d\d: ", text)
                           for text in page.texts("#process-my-app .range")))
    page.point_at("h1", 0.5)
    eventually(lambda: page.texts("#process-my-app .range")[0].startswith("min 0, max "))
    assert page.text("#totals dd").split() == ["2", "of", "2"]
    # The clients have gone: the line comes down to nothing, and never below.
    eventually(lambda: chart(page, "my-app", "Connections/s")[:2] == ("0", "0"))
    lines = page.run("return Array.from(document.querySelectorAll('#process-my-app .chart .line'),"
                     " (line) => line.getAttribute('d'))")
    heights = [[float(y) for y in re.findall(r"[ML][0-9.]+ ([0-9.]+)", line)] for line in lines]
    assert max(heights[0]) == 63.0 and 0 < min(heights[0]) < 60
    assert all(0 < y <= 63 for each in heights for y in each)
    eventually(lambda: agree(app, page))


def wait_for_about(page: Browser, text: str) -> None:
    """Until the page tells this of the pupgevent itself, at the top."""
    eventually(lambda: text in page.text("#about"), message=text)


def test_a_counter_that_falls_is_no_negative_rate(opened: Open) -> None:
    """The instance has been started again, and then pupgevent has."""
    members = [member(number) for number in range(2)]
    with CannedPage(status(members, 10.0)) as canned:
        page = opened(canned.url)
        for uptime, total, pid in ((10.0, 100, 4242), (11.0, 150, 4242), (12.0, 5, 4242),
                                   (0.5, 1, 4243), (1.5, 3, 4243)):
            for each in members:
                each["backend"] = dict(each["backend"], total=total)
            canned.status = dict(status(members, uptime), pid=pid)
            wait_for_about(page, "pid %d · up %d s" % (pid, uptime))
        assert chart(page, "web", "Connections/s") == ("4.0", "4.0", "100")
        assert [cells["Conn/s"] for cells in page.rows().values()] == ["2.0", "2.0"]


def test_with_http_there_are_requests_and_answers_of_5xx(opened: Open) -> None:
    def moment(uptime: float, total: int, errors: int, own: int) -> Dict[str, Any]:
        """The second instance has no errors."""
        return http_status([with_http(member(0), total, errors, 3),
                            with_http(member(1), total, 0, 1)], uptime, own)

    with CannedPage(moment(10.0, 100, 0, 0)) as canned:
        page = opened(canned.url)
        wait_for_about(page, "up 10 s")
        canned.status = moment(11.0, 150, 8, 2)
        wait_for_about(page, "up 11 s")
        assert chart(page, "web", "Requests/s") == ("100", "100", "100")
        # Those of the instances, and of pupgevent itself.
        assert chart(page, "web", "5xx/s") == ("10", "10", "10")
        assert chart(page, "web", "Requests in flight") == ("4", "4", "4")
        rows = page.rows()
        assert [(each["Req/s"], each["5xx"], each["In flight"], each["Total"])
                for each in rows.values()] == [("50", "8", "3", "150"), ("50", "0", "1", "150")]
        assert page.texts("[id='process-web'] .head .facts span")[1:5] == [
            ":3000", "http", "round-robin", "70 clients"]
        assert totals(page) == {"Instances up": "2 of 2", "Requests/s": "100", "5xx/s": "10",
                                "Open": "4", "In": "1000 B/s", "Out": "8.8 KB/s", "Restarts": "0"}
        assert page.count("[aria-label^='Connections/s'], [aria-label^='Open conn']") == 0
        page.run("document.querySelector('[data-instance=web-1]').click()")
        eventually(lambda: page.count("dialog [aria-label^='5xx/s']") == 1)
        facts = " ".join(" ".join(page.texts("#facts div")).split())
        assert "Requests 150 in all, 3 in flight" in facts and "Answers 142 2xx, 8 5xx" in facts
        # A reload has made it a cluster of tcp.
        canned.status = status([member(0), member(1)], 12.0)
        wait_for_about(page, "up 12 s")
        assert page.count("[aria-label^='Requests/s'], [aria-label^='5xx/s']") == 0
        assert page.count("dialog [aria-label^='Connections/s']") == 1
        assert "Connections/s" in totals(page) and "5xx/s" not in totals(page)


#: Seconds before its end, what is told of it, and in which colour.
EXPIRIES = [(100.5, "expires in 100 days", ""), (21.5, "expires in 21 days", ""),
            (20.5, "expires in 20 days", "warn"), (3.5, "expires in 3 days", "warn"),
            (1.5, "expires in 1 day", "bad"), (-0.5, "has expired", "bad")]


@pytest.mark.parametrize("days, text, tone", EXPIRIES)
def test_a_certificate_that_expires_soon_is_told_in_a_colour(
    days: float, text: str, tone: str, opened: Open
) -> None:
    found = with_tls(http_status([with_http(member(0), 5, 0)], 10.0), [
        (["example.com"], days)])
    with CannedPage(found) as canned:
        page = opened(canned.url)
        wait_for_about(page, "up 10 s")
        facts = "[id='process-web'] .head .facts span"
        assert page.texts(facts)[1:5] == [":3000", "https", "certificate " + text, "round-robin"]
        classes = page.run(
            "return Array.from(document.querySelectorAll(arguments[0]), (each) => each.className)",
            facts)
        assert classes[3] == tone


def test_of_several_certificates_the_first_to_expire_is_told(opened: Open) -> None:
    names = ["%s.example.com" % name for name in "abcdefg"]
    found = with_tls(status([member(0)], 10.0), [(["example.com"], 90.5), (names, 9.5)])
    with CannedPage(found) as canned:
        page = opened(canned.url)
        wait_for_about(page, "up 10 s")
        assert page.texts("[id='process-web'] .head .facts span")[2:4] == [
            "tls", "2 certificates, the first expires in 9 days"]
        page.run("document.querySelector('[data-instance=web-1]').click()")
        facts = " ".join(" ".join(page.texts("#facts div:not([hidden])")).split())
        assert "TLS TLS 1.2 or newer, 12 handshakes, 5 resumed, 3 failed" in facts
        assert "Certificates example.com: expires in 90 days; %s and 2 more: expires in 9 days" % (
            ", ".join(names[:5])) in facts
        # A reload has taken its TLS away.
        canned.status = status([member(0)], 11.0)
        wait_for_about(page, "up 11 s")
        assert page.texts("[id='process-web'] .head .facts span")[2] == "round-robin"
        facts = " ".join(page.texts("#facts div:not([hidden])"))
        assert "Certificates" not in facts and "TLS" not in facts


def totals(page: Browser) -> Dict[str, str]:
    """Those at the top that are seen."""
    texts = page.texts("#totals div:not([hidden])")
    return dict(re.split(r"\s*\n\s*", text, maxsplit=1) for text in texts)


def test_requests_of_a_real_cluster_are_counted_and_drawn(
    shown: Callable[..., Any], free_ports: Ports
) -> None:
    ports = free_ports(3)
    site = server("site", ports[:2], ports[2])
    site["cluster"]["protocol"] = "http"
    _, page = shown(site)
    eventually(lambda: chart(page, "site", "Requests/s") == ("0", "0", "0"))
    for _ in range(20):
        get(ports[2])
    eventually(lambda: float(chart(page, "site", "Requests/s")[2]) > 0)
    eventually(lambda: [cells["Total"] for cells in page.rows().values()] == ["10", "10"])
    assert {cells["5xx"] for cells in page.rows().values()} == {"0"}


def test_one_that_is_unhealthy_or_not_well_yet_says_what_its_checks_come_to(opened: Open) -> None:
    health = {"healthy": False, "check": "L7STS", "last": "GET /healthz: 503 <b>No</b>",
              "duration": 0.01, "checks": 9, "failures": 3, "downs": 1}
    members = [
        member(0, serves=False, failingFor=5.0, health=health), member(1),
        member(2, serves=False, state="starting", since=60.0, health=dict(health, healthy=True))]
    with CannedPage(status(members, 10.0)) as canned:
        page = opened(canned.url)
        eventually(lambda: "web-1" in page.rows())
        rows = page.rows()
        assert rows["web-1"]["why"] == "unhealthy: GET /healthz: 503 <b>No</b>"
        assert rows["web-3"]["why"] == "GET /healthz: 503 <b>No</b>"


def test_what_a_process_prints_is_shown_as_text(shown: Callable[..., Any]) -> None:
    app, page = shown_when_failing(shown)
    eventually(lambda: page.rows().get("evil", {"why": ""})["why"].endswith(MARKUP))
    assert page.rows()["evil"]["why"].startswith("exit code 3, next try in ")
    page.run("document.querySelector('[data-instance=evil]').click()")
    eventually(lambda: MARKUP in page.texts("#log .text"))
    assert page.count("#log img, #log script, #log b, #processes img, #processes script") == 0
    assert page.run("return window.alerts") == 0
    assert not app.said().count("Traceback")


def shown_when_failing(shown: Callable[..., Any]) -> Any:
    """The page with a process that has printed what is dangerous, and waits for its next start."""
    app, page = shown(sleeper("good"))
    page.run("window.alerts = 0; window.alert = () => { window.alerts += 1; }")
    app.write(sleeper("good"), sleeper("evil", cmd=PRINTS_MARKUP, restartDelayMs=600000),
              name="shop", dashboard=json.loads(app.config.read_text())["dashboard"])
    # Whether it has come up for a moment is of no interest.
    app.run("reload")
    eventually(lambda: app.are(evil="backoff"))
    return app, page


def test_the_policy_keeps_a_script_in_the_page_from_being_run(
    shown: Callable[..., Any]
) -> None:
    """And a violation is seen by all tests here."""
    _, page = shown(sleeper("job"))
    page.run("const s = document.createElement('script'); s.textContent = 'window.evil = 1';"
             "document.body.append(s)")
    eventually(lambda: "Content Security Policy" in "".join(page.problems()))
    assert page.run("return window.evil") is None


# A connection that is lost


def test_the_page_goes_on_by_itself_after_a_restart_of_pupgevent(
    shown: Callable[..., Any], free_ports: Ports
) -> None:
    ports = free_ports(3)
    app, page = shown(server("my-app", ports[:2], ports[2]), sleeper("job"))
    eventually(lambda: agree(app, page))
    page.run("window.isStill = 'the same page'")
    before = page.rows()
    app.signal(signal.SIGTERM)
    app.wait()
    eventually(lambda: re.match(
        r"No answer from pupgevent since \d\d:\d\d:\d\d\. What is shown is of that time\.",
        page.text("#lost")))
    # What was known stays, and everybody is told that it is old.
    assert page.rows().keys() == before.keys()
    assert page.text("#announced").startswith("No answer from pupgevent")
    assert page.count("html.stale") == 1
    app.start()
    eventually(lambda: page.text("#lost") == "")
    assert page.text("#announced") == "Connected again"
    eventually(lambda: "pid %d " % app.child.pid in page.text("#about"))
    eventually(lambda: agree(app, page))
    eventually(lambda: sum("pupgevent was started" in line for line in changes_on(page)) == 2)
    assert page.run("return window.isStill") == "the same page"
    assert page.count("html.stale") == 0


def test_with_the_token_that_the_browser_was_given_the_page_gets_its_values(
    running: Make, free_port: Callable[[], int], opened: Open
) -> None:
    """As the password in its address, which no script may use."""
    port = free_port()
    app = running(sleeper("job"), dashboard={"port": port, "token": "a-long-secret"}).start()
    page = opened(address(port, "a-long-secret"))
    eventually(lambda: agree(app, page))
    page.run("document.querySelector('[data-instance=job]').click()")
    eventually(lambda: any("started, pid" in text for text in page.texts("#log .text")))


def test_a_token_that_is_no_longer_right_is_told_and_not_asked_for_again(opened: Open) -> None:
    with CannedPage(status([member(0)], 1.0)) as canned:
        page = opened(canned.url)
        eventually(lambda: page.count("[data-row]") == 1)
        canned.code = 401
        eventually(lambda: page.text("#lost").startswith("pupgevent wants another token."))
        assert page.text("#lost a") == "Load the page again"
        asked = len(canned.asked)
        page.driver.execute_async_script("setTimeout(arguments[0], 2500)")
        assert len(canned.asked) == asked
        canned.code = 200
        page.run("document.querySelector('#lost a').click()")
        eventually(lambda: page.text("#lost") == "" and page.count("[data-row]") == 1)


# How it is used


def test_with_the_keyboard_alone_logs_are_opened_and_left(shown: Callable[..., Any]) -> None:
    _, page = shown(sleeper("first", cmd="echo 'the last words'; exec sleep 600"), sleeper("other"))
    eventually(lambda: set(page.rows()) == {"first", "other"})
    page.press("Tab")
    assert page.focused() == "a"
    page.press("Enter")
    assert page.focused() == "main"
    # The select of the time line, or its list, would be beyond the instances.
    for _ in range(6):
        page.press("Tab")
        if page.focused() == "other":
            break
    page.press("Enter")
    assert page.count("dialog[open]") == 1
    assert page.focused() == "details-title" and page.text("#details-title") == "other"
    page.press("Escape")
    assert page.count("dialog[open]") == 0
    assert page.focused() == "other"

    page.run("document.querySelector('[data-instance=first]').focus()")
    page.press("Enter")
    eventually(lambda: "the last words" in page.texts("#log .text"))
    # Focus stays within the dialog, all around.
    for _ in range(12):
        page.press("Tab")
        assert page.run("return document.activeElement === document.body"
                        " || document.activeElement.closest('dialog') !== null")
    page.run("document.getElementById('close').focus()")
    page.press("Enter")
    assert page.focused() == "first"


def test_new_lines_follow_the_end_and_move_nothing_further_up(shown: Callable[..., Any]) -> None:
    endless = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done"
    _, page = shown(sleeper("talker", cmd=endless))
    page.run("document.querySelector('[data-instance=talker]').click()")
    page.run("document.getElementById('wrap').click()")

    def last() -> int:
        texts = page.texts("#log .text")
        return int(texts[-1].split()[-1]) if texts else 0

    eventually(lambda: last() > 100)
    first = last()
    eventually(lambda: last() > first)
    at_end = "const l = document.getElementById('log');"
    assert page.run(at_end + "return l.scrollTop + l.clientHeight >= l.scrollHeight - 8")
    # Somebody reads in the middle and has selected a line: both stay.
    page.run(at_end + "l.scrollTop = 40; l.dispatchEvent(new Event('scroll'));"
             "getSelection().selectAllChildren(l.children[3])")
    selected = page.run("return getSelection().toString()")
    first = last()
    eventually(lambda: last() > first + 60)
    assert page.run("return document.getElementById('log').scrollTop") == 40
    assert page.run("return getSelection().toString()") == selected
    numbers = [int(text.split()[-1]) for text in page.texts("#log .text") if "line" in text]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.fixture
def thousand(opened: Open) -> Iterator[Tuple[CannedPage, Browser]]:
    """A cluster of a thousand, of which three fail."""
    members = [failing(number) if number in (7, 500, 999) else member(number)
               for number in range(1000)]
    with CannedPage(status(members, 10.0)) as canned:
        page = opened(canned.url)
        eventually(lambda: page.count(".grid button") == 1000)
        yield canned, page


#: Counts what changes in the page from then on.
WATCH = """
window.changed = 0;
window.watcher = new MutationObserver((found) => { window.changed += found.length; });
watcher.observe(document.body,
  {subtree: true, childList: true, attributes: true, characterData: true});
"""


def next_poll(canned: CannedPage, page: Browser, members: List[Any], uptime: float) -> None:
    """Let the page have these values."""
    canned.status = status(members, uptime)
    wait_for_about(page, "up %d s" % uptime)


def test_a_thousand_instances_are_a_grid_and_those_that_fail_a_table(
    thousand: Tuple[CannedPage, Browser]
) -> None:
    canned, page = thousand
    assert list(page.rows()) == ["web-8", "web-501", "web-1000"]
    assert page.rows()["web-8"]["why"] == (
        "exit code 3, next try in 5 s, failing for 4 sKeyError: 'DATABASE_URL'")
    assert page.text("#process-web .facts span") == "997 of 1,000 up"
    # One stop for Tab, and arrows from there.
    assert page.count(".grid [tabindex='0']") == 1
    page.run("document.querySelector('.grid button').focus()")
    page.press("ArrowRight", "ArrowRight")
    assert page.focused() == "web-3"
    page.press("End")
    assert page.focused() == "web-1000"
    assert page.run("return document.activeElement.getAttribute('aria-label')") == (
        "web-1000, backoff")
    members = canned.status["processes"][0]["members"]
    page.run(WATCH)
    members[3] = failing(3)
    next_poll(canned, page, members, 11.0)
    eventually(lambda: "web-4" in page.rows())
    assert page.focused() == "web-1000"
    # A change of one instance is a change of one cell, not of a thousand.
    assert page.run("return window.changed") < 400


def test_a_table_of_a_thousand_is_opened_in_parts_and_searched(
    thousand: Tuple[CannedPage, Browser]
) -> None:
    canned, page = thousand
    page.run("document.querySelector('button[aria-expanded]').click()")
    assert len(page.rows()) == 100
    page.run("document.querySelector('.lines > button').click()")
    assert len(page.rows()) == 200
    assert page.text(".lines > button") == "Show 100 of 800 more"
    page.run("document.querySelector('[data-row=web-150] button').focus()")
    page.run(WATCH)
    next_poll(canned, page, canned.status["processes"][0]["members"], 11.0)
    # Nothing of an instance has changed but its rate, which was not known before.
    assert page.run("return window.changed") < 200 * 3 + 100
    assert page.focused() == "web-150"
    page.run("const f = document.getElementById('filter'); f.value = 'web-77';"
             "f.dispatchEvent(new Event('input'))")
    assert list(page.rows()) == ["web-77", *("web-77%d" % digit for digit in range(10))]
    assert page.text("#found") == "11 of 1,000 instances"
    assert page.count(".grid button") == 11
    page.run("document.getElementById('failing').click()")
    assert list(page.rows()) == []
    page.run("const f = document.getElementById('filter'); f.value = '';"
             "f.dispatchEvent(new Event('input'))")
    assert list(page.rows()) == ["web-8", "web-501", "web-1000"]


def test_a_page_that_nobody_sees_asks_nothing(opened: Open) -> None:
    with CannedPage(status([member(0)], 1.0)) as canned:
        page = opened(canned.url)
        eventually(lambda: page.count("[data-row]") == 1)
        first = page.driver.current_window_handle
        page.driver.switch_to.new_window("tab")
        other = page.driver.current_window_handle
        try:
            page.driver.get("data:text/html,<title>another</title>")
            # One that is under way comes to its end.
            page.driver.execute_async_script("setTimeout(arguments[0], 1500)")
            asked = len(canned.asked)
            page.driver.execute_async_script("setTimeout(arguments[0], 3500)")
            assert len(canned.asked) == asked
        finally:
            page.driver.switch_to.window(other)
            page.driver.close()
            page.driver.switch_to.window(first)
        eventually(lambda: len(canned.asked) > asked)


# Who can use it


def luminance(color: str) -> float:
    """Of #rrggbb: WCAG 2.1, relative luminance."""
    parts = [int(color[place:place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
                        for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Of two colours: from 1 to 21."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


#: Colours of text, those of lines and shapes; and what they are on.
TEXTS = ["text", "muted", "accent", "ok", "busy", "warn", "bad"]
SHAPES = ["first", "second", "control", "ok", "busy", "bad"]
GROUNDS = ["page", "card", "sunken"]
PAIRS = [
    *((text, ground, 4.5) for text in TEXTS for ground in GROUNDS),
    *((shape, ground, 3.0) for shape in SHAPES for ground in GROUNDS),
    ("warn", "warn-tint", 4.5), ("bad", "bad-tint", 3.0), ("warn", "bad-tint", 3.0),
    ("card", "accent", 4.5),
]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_the_contrast_of_wcag_aa(scheme: str, opened: Open) -> None:
    with CannedPage(status([member(0), failing(1)], 1.0)) as canned:
        page = opened(canned.url)
        page.prefer(color_scheme=scheme)
        names = sorted({name for one, other, _ in PAIRS for name in (one, other)})
        colors = page.run(
            "const s = getComputedStyle(document.documentElement);"
            "return Object.fromEntries(arguments[0].map("
            "  (name) => [name, s.getPropertyValue('--' + name).trim()]))", names)
        poor = {(one, other): round(contrast(colors[one], colors[other]), 2)
                for one, other, least in PAIRS if contrast(colors[one], colors[other]) < least}
        assert poor == {}
        ground = page.run("return getComputedStyle(document.body).backgroundColor")
        assert (luminance(colors["page"]) < 0.1) == (scheme == "dark")
        assert tuple(map(int, re.findall("[0-9]+", ground))) == tuple(
            int(colors["page"][place:place + 2], 16) for place in (1, 3, 5))


def test_nothing_moves_for_who_does_not_want_it(opened: Open) -> None:
    script = "return getComputedStyle(document.documentElement).scrollBehavior"
    with CannedPage(status([member(0)], 1.0)) as canned:
        page = opened(canned.url)
        page.prefer(reduced_motion="no-preference")
        assert page.run(script) == "smooth"
        page.prefer(reduced_motion="reduce")
        assert page.run(script) == "auto"


#: A word that is as long as an id may be, and a last line without a space.
LONG = "an-id-of-64-letters-" + "x" * 42


@pytest.mark.parametrize("size", [PHONE, (720, 900), WIDE], ids="phone tablet desk".split())
def test_no_width_makes_the_page_scroll_sideways(size: Tuple[int, int], opened: Open) -> None:
    members = [member(0), dict(failing(1), id=LONG, lastLine="y" * 300)]
    many = status([member(number) for number in range(100)], 1.0)["processes"][0]
    found = status(members, 1.0)
    found["processes"] += [dict(many, id="many"), dict(many, id=LONG, balancer=None, members=[
        dict(member(0), id=LONG, backend=None)])]
    found["name"] = LONG
    with CannedPage(found) as canned:
        page = opened(canned.url)
        page.resize(size)
        eventually(lambda: page.count("[data-row]") == 3)
        wide = ("return [document.documentElement.scrollWidth, innerWidth,"
                " document.querySelector('dialog').scrollWidth]")
        assert page.run(wide)[0] <= size[0]
        page.run("document.querySelector('[data-row] .name').click()")
        shown_width, inner, dialog = page.run(wide)
        assert shown_width <= inner and dialog <= size[0]


#: What has to have a name, by its role in the tree of accessibility.
NAMED = {"button", "link", "image", "img", "searchbox", "textbox", "combobox", "checkbox", "table",
         "dialog", "region", "toolbar", "search", "heading", "columnheader", "rowheader"}


def test_everything_has_a_name_for_who_cannot_see_it(thousand: Tuple[CannedPage, Browser]) -> None:
    _, page = thousand
    assert page.run("return document.documentElement.lang") == "en"
    found = page.accessible()
    roles = {node["role"] for node in found}
    assert {"banner", "main", "contentinfo", "search", "searchbox", "combobox", "checkbox", "table",
            "columnheader", "rowheader", "toolbar", "status", "region"} <= roles
    assert [node for node in found if node["role"] in NAMED and not node["name"]] == []
    levels = [node["level"] for node in found if node["role"] == "heading"]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:]))
    pictures = [node["name"] for node in found if node["role"] in ("image", "img")]
    assert any(re.match("Connections/s(:| over)", name) for name in pictures)
    ids = page.run("return Array.from(document.querySelectorAll('[id]'), (e) => e.id)")
    assert len(ids) == len(set(ids))
    assert page.count("th:not([scope])") == 0
    assert page.count("table > caption:first-child") == page.count("table")

    page.run("document.querySelector('.grid button').click()")
    found = page.accessible()
    assert [node["name"] for node in found if node["role"] == "dialog"] == ["web-1"]
    assert [node for node in found if node["role"] in NAMED and not node["name"]] == []
    levels = [node["level"] for node in found if node["role"] == "heading"]
    assert levels == [2, 3]


def test_only_a_change_of_health_is_announced(opened: Open) -> None:
    members = [member(0), member(1)]
    with CannedPage(status(members, 1.0)) as canned:
        page = opened(canned.url)
        eventually(lambda: page.count("[data-row]") == 2)
        page.run("window.told = [];"
                 "const a = document.getElementById('announced');"
                 "new MutationObserver(() => told.push(a.textContent))"
                 ".observe(a, {subtree: true, childList: true, characterData: true})")
        for uptime, second in ((2.0, member(1)), (3.0, failing(1)), (4.0, failing(1)),
                               (5.0, member(1, restarts=1)), (6.0, member(1, restarts=1))):
            next_poll(canned, page, [member(0), second], uptime)
        assert page.run("return told") == ["shop is unhealthy: web degraded", "shop is healthy"]
