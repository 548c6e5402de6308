"""What people see of TLS: certificates that expire, and handshakes, wherever the status is told."""

import gc
import json
import resource
import socket
import ssl
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import gevent
import pytest

import certificate_watch
import certificates
import configuration
import description_text
import metrics
import status_table
import tls_expiry
from asking import Scrape
from certificate_watch import CertificateWatch, warnings
from conftest import eventually
from daemon import Daemon
from description_report import Description
from histograms import BOUNDS
from logs import Log
from model import Configuration, Tls, TlsPair
from running import REQUEST, Running, server
from status_report import (
    Answers,
    BalancerHttp,
    BalancerStatus,
    BalancerTls,
    CertificateStatus,
    ProcessStatus,
    RequestTimes,
    Status,
    from_json,
    to_json,
)
from styled_text import RED, YELLOW
from supervision import Page, cluster, process, wait_until

pytest_plugins = ["runs"]

DAY = 86400.0


def expiring(days: float, *names: str, cert: str = "/tls/web.pem") -> CertificateStatus:
    return CertificateStatus(cert, names or ("example.com",), time.time() + days * DAY)


def cluster_of(
    name: str, *found: CertificateStatus, http: bool = False, tls: bool = True
) -> ProcessStatus:
    """Without instances."""
    requests = BalancerHttp(
        0, Answers(0, 0, 0, 0, 0), Answers(0, 0, 0, 0, 0), RequestTimes(0.0, (0,) * len(BOUNDS)))
    balancer = BalancerStatus(
        "round-robin", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, "::", 443, "http" if http else "tcp",
        requests if http else None,
        BalancerTls("TLSv1.2", found, 120, 80, 4, 2) if tls else None)
    return ProcessStatus(name, True, True, "running", 0, 0, 0, None, None, balancer, ())


def status_of(*processes: ProcessStatus) -> Status:
    return Status("1.0", 1, "shop", "/app.toml", 60.0, "running", True, processes)


def below(*processes: ProcessStatus) -> List[str]:
    """The lines below the table."""
    return status_table.table(status_of(*processes))[1 + len(processes):]


def on(certificate: CertificateStatus) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(certificate.expires))


# The table


def test_it_survives_json() -> None:
    found = status_of(cluster_of("web", expiring(30, "a", "b"), expiring(-1, cert="/tls/2.pem")))
    assert found.processes[0].balancer
    again = from_json(Status, json.loads(json.dumps(to_json(found))))
    tls = to_json(again)["processes"][0]["balancer"]["tls"]
    assert tls == to_json(found.processes[0].balancer.tls)
    assert " ".join(tls) == "minVersion certificates handshakes resumed failed underWay"
    assert " ".join(tls["certificates"][0]) == "cert names expires"


@pytest.mark.parametrize("http, tls, told", [
    (True, True, ":443 https round-robin"), (True, False, ":443 http round-robin"),
    (False, True, ":443 tls round-robin"), (False, False, ":443 round-robin"),
])
def test_the_line_of_a_cluster_says_what_its_clients_speak(
    http: bool, tls: bool, told: str
) -> None:
    line = status_table.table(status_of(cluster_of("web", expiring(90), http=http, tls=tls)))[1]
    assert line.endswith("queued; " + told)


@pytest.mark.parametrize("days, told, style", [
    (21.5, None, ""), (20.5, "expires in 20 days, on", YELLOW),
    (3.5, "expires in 3 days, on", YELLOW), (2.5, "expires in 2 days, on", RED),
    (1.5, "expires in 1 day, on", RED), (0.5, "expires in less than a day, on", RED),
    (-0.5, "has expired on", RED),
])
def test_a_certificate_that_expires_soon_has_a_line(
    days: float, told: Optional[str], style: str
) -> None:
    certificate = expiring(days, "example.com", "www.example.com")
    assert below(cluster_of("web", certificate)) == ([] if told is None else [
        "web: certificate of example.com, www.example.com %s %s (/tls/web.pem)" % (
            told, on(certificate))])
    assert status_table.certificate(certificate, time.time()).style == style


def test_one_line_tells_of_all_whose_clients_see_it_and_the_first_to_expire_is_first() -> None:
    both, other = expiring(10.5), expiring(5.5, *"abcde", cert="/tls/other.pem")
    lines = below(cluster_of("web", both, expiring(90)), cluster_of("api", both, other, other))
    assert [line.partition(" on ")[0] for line in lines] == [
        "api: certificate of a, b and 3 more expires in 5 days,",
        "web, api: certificate of example.com expires in 10 days,"]


def test_of_many_certificates_the_last_to_expire_are_counted() -> None:
    found = [expiring(1 + number / 10, cert="/tls/%d.pem" % number) for number in range(13)]
    lines = below(cluster_of("web", *reversed(found)))
    assert [line.rpartition(" ")[2] for line in lines[:-1]] == [
        "(/tls/%d.pem)" % number for number in range(10)]
    assert lines[-1] == "(3 more that expire soon)"


# describe


def described(found: ProcessStatus, width: Optional[int] = None) -> List[str]:
    return description_text.text(Description(status_of(found), (), (), 0, ()), width)


def test_describe_tells_of_handshakes_and_of_all_certificates() -> None:
    found = [expiring(90.5), expiring(-1, "old.example.com", cert="/tls/old.pem")]
    lines = described(cluster_of("web", *found))
    place = lines.index("Balancing")
    assert lines[place + 1].startswith("0 clients so far at [::]:443 with TLS, by round-robin;")
    assert lines[place + 2:place + 5] == [
        "TLS 1.2 or newer: 120 handshakes done, 80 resumed; 4 failed, 2 under way",
        "certificate of example.com expires in 90 days, on %s (/tls/web.pem)" % on(found[0]),
        "certificate of old.example.com has expired on %s (/tls/old.pem)" % on(found[1])]
    assert max(map(len, described(cluster_of("web", *found), 40))) <= 40


def test_describe_says_nothing_of_it_without_tls() -> None:
    assert "TLS" not in "\n".join(described(cluster_of("web", tls=False)))


# Metrics


def scraped(*processes: ProcessStatus) -> Scrape:
    sources = metrics.Sources(status_of(*processes), None, {}, {})
    return Scrape("".join(metrics.render(sources, iter)))


def test_handshakes_are_counted_by_what_they_came_to() -> None:
    found = scraped(cluster_of("web", expiring(1)), cluster_of("plain", tls=False))
    name = "pupgevent_frontend_tls_handshakes_total"
    assert [found.value(name, proxy="web", result=each) for each in ("full", "resumed", "failed")
            ] == [40, 80, 4]
    assert len(found.of(name)) == 3
    assert found.value("pupgevent_frontend_tls_handshakes_current", proxy="web") == 2


def test_each_file_of_a_cluster_has_one_time_at_which_it_expires() -> None:
    name, first = "pupgevent_certificate_expiry_timestamp_seconds", expiring(7.25, "*.b.org", "a")
    odd = expiring(90, cert='/tls/"odd"\\\n.pem')._replace(names=())
    found = scraped(cluster_of("web", first, odd, first), cluster_of("api", first))
    assert {tuple(value for _, value in sorted(labels)): value
            for labels, value in found.of(name).items()} == {
        ("/tls/web.pem", "*.b.org", "web"): first.expires,
        ("/tls/web.pem", "*.b.org", "api"): first.expires,
        (odd.cert, "", "web"): odd.expires}


# The daily look

NOW = 1_700_000_000.0


def configured(**clusters: List[Tuple[str, float]]) -> Configuration:
    """Each with these certificates: the name of each, and in how many days after NOW it expires."""
    processes = []
    for name, found in clusters.items():
        pairs = tuple(TlsPair("/tls/%s.pem" % host, "/tls/%s.key" % host, "", (host,),
                              NOW + days * DAY) for host, days in found)
        tls = Tls(pairs, "TLSv1.2", None, None) if pairs else None
        processes.append(process(("true",), id=name, cluster=cluster(None, tls=tls)))
    values: Dict[str, Any] = dict.fromkeys(Configuration._fields)
    return Configuration(**dict(values, processes=tuple(processes)))


def test_who_looks_warns_of_each_certificate_that_expires_soon_and_of_no_other() -> None:
    found = configured(
        web=[("a.org", 20.5), ("b.org", 21.5)], api=[("a.org", 20.5), ("c.org", -3.0)], plain=[])
    assert [line.partition(", on")[0].partition(" on ")[0] for line in warnings(found, NOW)] == [
        "web, api: certificate of a.org expires in 20 days",
        "api: certificate of c.org has expired"]
    # A day later it is soon for another one.
    assert len(list(warnings(found, NOW + DAY))) == 3
    assert list(warnings(configured(web=[("b.org", 90.0)]), NOW)) == []


def test_it_is_looked_again_and_again_at_the_configuration_that_runs_then() -> None:
    page = Page()
    runs = {"web": [("a.org", 21.5)]}
    days = [0.0]
    looks: List[float] = []

    def wall() -> float:
        looks.append(days[0])
        return NOW + days[0] * DAY

    watch = CertificateWatch(lambda: configured(**runs), Log(page), 0.001, wall)
    try:
        watch.start()
        wait_until(lambda: len(looks) >= 3)
        assert page.lines == []
        days[0] = 1.0
        wait_until(lambda: len(page.lines) >= 2)
        # A reload has brought a new one: nothing is said from then on.
        runs["web"] = [("a.org", 90.0)]
        said, looked = list(page.lines), len(looks)
        wait_until(lambda: len(looks) >= looked + 3)
        assert page.lines == said
        # Each look is a line.
        assert said == said[:1] * (looked - looks.count(0.0))
        assert said[0] == (
            "[core] warning: web: certificate of a.org expires in 20 days, on %s (/tls/a.org.pem)"
            % day_of(NOW + 21.5 * DAY))
    finally:
        watch.close()
        watch.close()


def test_a_watch_that_is_closed_looks_no_more() -> None:
    looks: List[float] = []

    def wall() -> float:
        looks.append(NOW)
        return NOW

    watch = CertificateWatch(configured, Log(Page()), 0.001, wall)
    watch.start()
    wait_until(lambda: len(looks) >= 1)
    watch.close()
    looked = len(looks)
    gevent.sleep(0.01)
    assert len(looks) == looked


def day_of(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(moment))


def test_a_running_pupgevent_looks_once_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_ports: Callable[[int], List[int]]
) -> None:
    """Here the days are short. At the start something else warns, in other words."""
    monkeypatch.setattr(certificate_watch, "LOOK_EVERY", 0.05)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    made, ports = certificates.make(tmp_path, days=5.5), free_ports(2)
    web = server("web", ports[:1], ports[1], autostart=False)
    web["cluster"]["tls"] = {"cert": made.cert, "key": made.key}
    config, output = tmp_path / "app.json", tmp_path / "output"
    config.write_text(json.dumps({"processes": [web]}))
    line = "[core] warning: web: certificate of localhost, 127.0.0.1 expires in 5 days, on "
    with open(str(output), "ab") as console:
        daemon = Daemon(configuration.load(str(config)), console.fileno(), False, "",
                        resource.getrlimit(resource.RLIMIT_NOFILE))
        try:
            daemon.start()
            wait_until(lambda: output.read_text().count(line) >= 2)
        finally:
            getattr(gc, "unfreeze", lambda: None)()
            daemon.runtime.shutdown()
            daemon.close()


# A running pupgevent

Secure = Tuple[Running, certificates.Made]


@pytest.fixture
def secure(
    running: Callable[..., Running], free_ports: Callable[[int], List[int]], tmp_path: Path
) -> Secure:
    """One whose certificate expires soon, and the certificate."""
    made = certificates.make(tmp_path, names=["DNS:shop.example.com", "IP:127.0.0.1"], days=5.5)
    ports = free_ports(2)
    web = server("web", ports[:1], ports[1])
    web["cluster"].update(protocol="http", tls={"cert": made.cert, "key": made.key})
    return running(web).start(), made


def speaks_tls(port: int, made: certificates.Made, times: int) -> List[bool]:
    """Connections one after the other, each with a request, and with the session of the one before:
    whether that was taken."""
    context = ssl.create_default_context(cafile=made.cert)
    session: Any = None
    resumed: List[bool] = []
    for _ in range(times):
        with socket.create_connection(("127.0.0.1", port), 60) as plain, context.wrap_socket(
                plain, server_hostname="shop.example.com", session=session) as client:
            client.sendall(REQUEST)
            while client.recv(65536):
                pass
            # With TLS 1.3 it comes behind the handshake.
            session = client.session
            resumed.append(bool(client.session_reused))
    return resumed


def test_handshakes_are_counted_as_they_are_done_resumed_under_way_or_failed(
    secure: Secure
) -> None:
    app, made = secure
    port = app.process("web")["balancer"]["port"]

    def counters() -> Dict[str, int]:
        tls = app.process("web")["balancer"]["tls"]
        return {name: tls[name] for name in ("handshakes", "resumed", "failed", "underWay")}

    assert speaks_tls(port, made, 3) == [False, True, True]
    assert counters() == {"handshakes": 3, "resumed": 2, "failed": 0, "underWay": 0}
    # Who does not believe the certificate says so, and leaves.
    stranger = ssl.create_default_context()
    with socket.create_connection(("127.0.0.1", port), 60) as plain, pytest.raises(ssl.SSLError):
        stranger.wrap_socket(plain, server_hostname="shop.example.com")
    eventually(lambda: counters() == {
        "handshakes": 3, "resumed": 2, "failed": 1, "underWay": 0})
    with socket.create_connection(("127.0.0.1", port), 60) as plain:
        plain.sendall(b"\x16\x03\x01")
        eventually(lambda: counters()["underWay"] == 1)
    eventually(lambda: counters()["underWay"] == 0)
    assert "TLS 1.2 or newer: 3 handshakes done, 2 resumed; " in app.run("describe", "web").stdout


def test_status_and_describe_tell_of_a_certificate_that_expires_soon(
    secure: Secure
) -> None:
    app, made = secure
    tls = app.process("web")["balancer"]["tls"]
    assert (tls["minVersion"], tls["handshakes"], tls["failed"]) == ("TLSv1.2", 0, 0)
    certificate, = tls["certificates"]
    assert certificate["cert"] == made.cert
    assert certificate["names"] == ["shop.example.com", "127.0.0.1"]
    assert abs(certificate["expires"] - time.time() - 5.5 * DAY) < 300
    line = "certificate of shop.example.com, 127.0.0.1 expires in 5 days, on %s (%s)" % (
        day_of(certificate["expires"]), made.cert)
    told = app.run("status")
    # It is no failure: whoever serves, serves.
    assert told.returncode == 0
    assert told.stdout.splitlines()[-1] == "web: " + line
    assert " https round-robin" in told.stdout
    assert "web: https, round-robin on 127.0.0.1 port " in app.run("check").stdout
    assert line in app.run("describe", "web").stdout.splitlines()


def test_a_reload_tells_the_new_certificate_in_the_old_one_s_place(
    secure: Secure, tmp_path: Path
) -> None:
    app, _ = secure
    certificates.make(tmp_path, names=["DNS:shop.example.com"], days=90.5)
    assert app.run("reload").returncode == 0
    eventually(lambda: "certificate" not in app.run("status").stdout)
    certificate, = app.process("web")["balancer"]["tls"]["certificates"]
    assert certificate["names"] == ["shop.example.com"]
    assert tls_expiry.days_left(certificate["expires"], time.time()) == 90
