"""A real Prometheus with the exported file scrapes a real pupgevent, and has what alerts and the
Grafana dashboard ask for."""

import contextlib
import json
import ssl
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Set

import pytest

import certificates
from conftest import eventually
from running import Running, run, server
from test_grafana import EXPRESSIONS, expanded
from test_prometheus_export import KINDS, scrape_configuration
from tools import tool

TOKEN = "s3cret"


class Prometheus:
    """One that runs, asked through its API."""

    def __init__(self, port: int) -> None:
        self._url = "http://127.0.0.1:%d/api/v1/" % port

    def ask(self, path: str, **fields: str) -> Any:
        query = urllib.parse.urlencode(fields)
        with urllib.request.urlopen(self._url + path + "?" + query, timeout=30) as answer:
            found = json.loads(answer.read().decode())
        assert found["status"] == "success"
        return found["data"]

    def value(self, expression: str) -> List[Any]:
        return list(self.ask("query", query=expression)["result"])

    def targets(self) -> List[Any]:
        """Health and the last error of each."""
        return [(each["health"], each["lastError"])
                for each in self.ask("targets")["activeTargets"]]

    def rules(self) -> List[Dict[str, Any]]:
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def firing(self) -> Set[str]:
        return {each["labels"]["alertname"] for each in self.ask("alerts")["alerts"]
                if each["state"] == "firing"}


@contextlib.contextmanager
def prometheus(folder: Path, config: str, port: int) -> Iterator[Prometheus]:
    (folder / "prometheus.yml").write_text(config)
    command = [
        tool("prometheus"), "--config.file=%s" % (folder / "prometheus.yml"),
        "--storage.tsdb.path=%s" % (folder / "data"), "--web.listen-address=127.0.0.1:%d" % port]
    with open(str(folder / "prometheus.log"), "wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield Prometheus(port)
    finally:
        child.terminate()
        child.wait(60)


def quickly(text: str, folder: Path, rules: Path) -> str:
    """The exported lines for prometheus.yml, with files of this test and no long waits."""
    found = scrape_configuration(text).replace("scrape_interval: 15s", "scrape_interval: 1s")
    for suffix, path in (("token", folder / "token"), ("rules.yml", rules)):
        found = found.replace("/etc/prometheus/pupgevent-app.%s" % suffix, str(path))
    return "global:\n  evaluation_interval: 1s\n" + found


@pytest.fixture
def app(tmp_path: Path, free_ports: "Callable[[int], List[int]]") -> "Iterator[Running]":
    first, second, common, dashboard, third, other, fourth = free_ports(7)
    site = server("site", [third], other)
    made = certificates.make(tmp_path)
    site["cluster"].update(protocol="http", tls={"cert": made.cert, "key": made.key})
    # It accepts, and fails each health check.
    sick = server("sick", [fourth], None)
    sick["cmd"] = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(fourth)]
    sick["cluster"]["health"] = {"path": "/missing"}
    running = Running(
        tmp_path, server("web", [first, second], common), site, sick,
        {"id": "broken", "cmd": "exit 3", "restartLimit": 1, "autostart": True},
        {"id": "flapping", "cmd": "sleep 0.1; exit 3", "restartMaxDelayMs": 500, "autostart": True},
        dashboard={"port": dashboard, "token": TOKEN})
    running.begin()
    try:
        eventually(lambda: running.are(**{"web-1": "running", "web-2": "running",
                                          "site-1": "running", "broken": "exhausted"}))
        yield running
    finally:
        running.end()


def visit(running: Running) -> None:
    """A client of each cluster, whose answer has come."""
    for process in ("web", "site"):
        balancer = running.process(process)["balancer"]
        tls = balancer["tls"]
        url = "%s://127.0.0.1:%d/" % ("https" if tls else "http", balancer["port"])
        context = ssl.create_default_context(cafile=tls and tls["certificates"][0]["cert"])
        with urllib.request.urlopen(url, timeout=30, context=context) as answer:
            assert answer.status == 200
            answer.read()


def test_prometheus_has_all_that_the_dashboard_and_the_alerts_ask_for(
    tmp_path: Path, app: Running, free_port: "Callable[[], int]"
) -> None:
    text = run("export", "prometheus", str(app.config)).stdout
    rules = tmp_path / "app.rules.yml"
    rules.write_text(text)
    (tmp_path / "token").write_text(TOKEN + "\n")
    with prometheus(tmp_path, quickly(text, tmp_path, rules), free_port()) as monitor:
        eventually(lambda: monitor.targets() == [("up", "")], message="it is scraped")
        visit(app)
        missing = list(map(expanded, EXPRESSIONS))

        def all_there() -> bool:
            visit(app)
            missing[:] = [each for each in missing if not monitor.value(each)]
            return not missing

        eventually(all_there, message="each expression of the dashboard has a value")
        eventually(lambda: monitor.firing() >= {"PupgeventGivenUp", "PupgeventRestarts"})
        found = monitor.rules()
        assert {each["name"] for each in found} <= KINDS and len(found) > 10
        eventually(lambda: {each["health"] for each in monitor.rules()} == {"ok"})


def test_a_wrong_token_is_an_alert_not_silence(
    tmp_path: Path, app: Running, free_port: "Callable[[], int]"
) -> None:
    text = run("export", "prometheus", str(app.config)).stdout
    (tmp_path / "token").write_text("another\n")
    rules = tmp_path / "app.rules.yml"
    rules.write_text(text.replace("for: 2m", "for: 1s").replace("for: 3m", "for: 1s"))
    with prometheus(tmp_path, quickly(text, tmp_path, rules), free_port()) as monitor:
        eventually(lambda: monitor.targets() == [
            ("down", "server returned HTTP status 401 Unauthorized")])
        eventually(lambda: "PupgeventNotScraped" in monitor.firing())
