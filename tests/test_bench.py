"""The bench runs: every case, every way, for a moment each. Its figures are not judged here."""

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from bench import handshakes, restarts, tls
from bench.__main__ import parse
from bench.applications import APPLICATIONS, FOLDER
from bench.bars import BARS, Bar
from bench.cases import BY_PROTOCOL, CASES
from bench.picture import PANELS, draw_case, lengths_of
from bench.processes import Ports
from bench.report import as_text, ratios_of, summary
from bench.servers import TITLES, WAYS
from bench.tools import BenchError, find, find_tools

ROOT = Path(__file__).resolve().parent.parent
#: Balancers that all cases know.
BALANCERS = ["pupgevent", "nginx", "haproxy"]


def tools_are_missing() -> str:
    """Why the bench cannot run here; never on a build server, which has to have all of it."""
    try:
        find_tools([], list(TITLES))
    except BenchError as error:
        if os.environ.get("CI") != "true":
            return str(error)
    return ""


needs_tools = pytest.mark.skipif(bool(tools_are_missing()), reason=tools_are_missing())


def bench(*options: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "bench", *options], check=False, cwd=str(ROOT),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
        env=dict(os.environ, **env))


#: Checks no file with these keys.
WITHOUT_HTTP_AND_TLS = """\
#!/bin/sh
if [ "$1" = check ] && grep -q -e '^protocol = "http"' -e 'tls\\]$' "$2"
then echo "no such key"; exit 2; fi
exec %(python)s %(ours)s "$@"
"""


@needs_tools
@pytest.mark.timeout(600)
@pytest.mark.parametrize("protocol", list(BY_PROTOCOL))
def test_every_case_measures_every_way(tmp_path: Path, protocol: str) -> None:
    results = tmp_path / "results" / "bench.json"
    # With TLS each takes a handshake, and some KB: a few are seen. The bytes of a few without would
    # not be seen beside the pages that come and go.
    held = ["--held", "300"] if protocol in ("tls", "https") else []
    done = bench("--rounds", "1", "--seconds", "0.1", *held, "--cases", protocol,
                 "--json", str(results))
    assert done.returncode == 0, done.stderr
    result = json.loads(results.read_text(encoding="utf-8"))
    assert [case["name"] for case in result["cases"]] == BY_PROTOCOL[protocol]
    for case in result["cases"]:
        ways = [way for way in CASES[case["name"]].ways if way != "earlier"]
        assert list(case["medians"]) == ways
        assert all(map(plausible, case["medians"].values())), case
        assert set(BALANCERS) <= set(case["medians"])
        assert len(case["bars"]) == sum(bar.case == case["name"] for bar in BARS)
    assert as_text(result) in done.stdout


def test_all_that_can_be_measured_is_what_nobody_has_chosen_from() -> None:
    options = parse([])
    assert options.cases == list(CASES) == [name for names in BY_PROTOCOL.values()
                                            for name in names]
    assert options.only == [name for name in TITLES if name != "earlier"]


def plausible(figures: Dict[str, float]) -> bool:
    if "rate" in figures:
        return figures["rate"] > 0 and 0 < figures["p50"] <= figures["p99"]
    # A start-up is a difference of two: what a busy machine does to one of them may be more.
    return figures.get("memory", 0) > 0 or "start" in figures


@needs_tools
def test_only_what_is_asked_for_is_measured(tmp_path: Path) -> None:
    results = tmp_path / "bench.json"
    done = bench("--rounds", "2", "--seconds", "0.1", "--cases", "close,keep-alive-1",
                 "--only", "pupgevent,nginx", "--json", str(results))
    assert done.returncode == 0, done.stderr
    cases = json.loads(results.read_text(encoding="utf-8"))["cases"]
    assert [case["name"] for case in cases] == ["keep-alive-1", "close"]
    assert all(list(case["rounds"]) == ["pupgevent", "nginx"] for case in cases)
    assert all(len(rounds) == 2 for case in cases for rounds in case["rounds"].values())
    assert "| HAProxy" not in done.stdout


@needs_tools
def test_cases_of_a_protocol_can_be_asked_for_at_once(tmp_path: Path) -> None:
    results = tmp_path / "bench.json"
    done = bench("--rounds", "1", "--seconds", "0.1", "--cases", "http,close", "--only", "haproxy",
                 "--json", str(results))
    assert done.returncode == 0, done.stderr
    cases = json.loads(results.read_text(encoding="utf-8"))["cases"]
    assert [case["name"] for case in cases] == ["close", *BY_PROTOCOL["http"]]


@needs_tools
def test_version_without_http_and_tls_is_left_out_of_their_cases(tmp_path: Path) -> None:
    """It refuses the file; in TCP it is measured like any other."""
    results, earlier = tmp_path / "bench.json", tmp_path / "earlier"
    earlier.write_text(WITHOUT_HTTP_AND_TLS % {
        "python": sys.executable, "ours": ROOT / "pupgevent.py"})
    earlier.chmod(0o755)
    done = bench("--rounds", "1", "--seconds", "0.1", "--against", str(earlier),
                 "--cases", "close,http-close,tls-handshake", "--only", "earlier,nginx",
                 "--json", str(results))
    assert done.returncode == 0, done.stderr
    cases = json.loads(results.read_text(encoding="utf-8"))["cases"]
    assert [list(case["medians"]) for case in cases] == [["earlier", "nginx"], ["nginx"], ["nginx"]]
    for protocol in ("HTTP", "TLS"):
        assert "pupgevent before is left out of the %s cases: no such key" % protocol in done.stderr


@needs_tools
def test_tls_is_the_same_with_all(tmp_path: Path) -> None:
    results = tmp_path / "bench.json"
    done = bench("--rounds", "1", "--seconds", "0.2", "--cases", "tls-resumed,https-handshake",
                 "--only", "nginx,haproxy", "--json", str(results))
    assert done.returncode == 0, done.stderr
    result = json.loads(results.read_text(encoding="utf-8"))
    assert re.match(r"TLSv1\.3, TLS_\w+, X25519, 253 bits, ECDSA$", result["tls"])
    assert "TLS: %s." % result["tls"] in done.stdout
    assert [case["name"] for case in result["cases"]] == ["tls-resumed", "https-handshake"]
    assert all(figures["cpu"] > 0 for case in result["cases"]
               for figures in case["medians"].values())


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[Callable[[bool], int]]:
    """Starts a server of TLS, with tickets or without, and returns its port."""
    with contextlib.ExitStack() as ending:
        def start(tickets: bool) -> int:
            tls.write_certificate(find("openssl"), tmp_path)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(str(tmp_path / tls.CERTIFICATE), str(tmp_path / tls.KEY))
            context.num_tickets = 2 if tickets else 0
            listener = ending.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            listener.listen(10)
            thread = threading.Thread(target=greet, args=(listener, context))
            thread.start()
            ending.callback(thread.join, 30)
            ending.callback(listener.shutdown, socket.SHUT_RDWR)
            return int(listener.getsockname()[1])
        yield start


def greet(listener: socket.socket, context: ssl.SSLContext) -> None:
    """One client after the other, until nobody listens any more."""
    while True:
        try:
            client = listener.accept()[0]
        except OSError:
            return
        with contextlib.suppress(OSError), context.wrap_socket(client, server_side=True) as tunnel:
            tunnel.recv(1000)
            tunnel.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello\n")
            tunnel.unwrap().close()


@needs_tools
@pytest.mark.parametrize("handshake", ["full", "resumed", "resumed-1.2"])
def test_connections_have_the_handshake_that_is_asked_for(
        tls_server: Callable[[bool], int], handshake: str) -> None:
    figures = handshakes.drive(tls_server(True), handshake, 0.2)
    assert figures["requests"] >= handshakes.CLIENTS
    assert 0 < figures["p50"] <= figures["p99"]


@needs_tools
def test_session_that_is_not_resumed_ends_the_bench(tls_server: Callable[[bool], int]) -> None:
    port = tls_server(False)
    with pytest.raises(BenchError, match="port %d: a handshake was full that should have been res"
                       % port):
        handshakes.drive(port, "resumed", 0.2)


def test_port_that_nobody_listens_at_ends_the_bench() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(BenchError, match=r"a client on port .*refused"):
            handshakes.drive(taken.getsockname()[1], "full", 0.2)


@needs_tools
def test_another_pupgevent_is_measured_beside_it(tmp_path: Path) -> None:
    results = tmp_path / "bench.json"
    again = "%s %s" % (sys.executable, ROOT / "pupgevent.py")
    done = bench("--rounds", "1", "--seconds", "0.1", "--cases", "close", "--against", again,
                 "--only", "pupgevent,earlier", "--json", str(results))
    assert done.returncode == 0, done.stderr
    case, = json.loads(results.read_text(encoding="utf-8"))["cases"]
    assert case["ratios"]["earlier"]["rate"] > 0
    assert "pupgevent before" in done.stdout


@needs_tools
def test_interrupted_bench_ends_all_its_servers(tmp_path: Path) -> None:
    """That none is left is seen by the fixture that looks for processes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", "--seconds", "60", "--json", str(tmp_path / "b.json")],
        cwd=str(ROOT), stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    try:
        assert process.stderr is not None
        assert "round 1 of 5" in process.stderr.readline()
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGTERM
    assert not (tmp_path / "b.json").exists()


def test_missing_tool_is_one_line_that_says_what_to_install(tmp_path: Path) -> None:
    if any(Path(folder, "wrk").exists() for folder in ("/usr/sbin", "/usr/local/sbin")):
        pytest.skip("wrk lies where the bench looks in any case")
    done = bench("--json", str(tmp_path / "b.json"), PATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "is not installed; on Debian: apt-get install" in done.stderr


@needs_tools
def test_pupgevent_that_ends_at_once_is_told_in_one_line(tmp_path: Path) -> None:
    done = bench("--json", str(tmp_path / "b.json"), "--pupgevent", "/bin/sh -c 'echo oh; exit 3'")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "bench: /bin/sh has ended with 3: oh\n"


@pytest.mark.parametrize("options, message", [
    (["--cases", "clsoe"], "'clsoe' is not one of keep-alive-1"),
    (["--only", "traefik"], "'traefik' is not one of direct"),
    (["--rounds", "0"], "0 is not between"),
    (["--seconds", "soon"], "invalid number value: 'soon'"),
])
def test_wrong_option_names_what_is_allowed(options: List[str], message: str) -> None:
    done = bench(*options)
    assert done.returncode == 2
    assert message in done.stderr


def test_ratio_is_the_median_of_the_ratios_within_each_round() -> None:
    ours = [{"rate": 10.0}, {"rate": 30.0}, {"rate": 90.0}]
    theirs = [{"rate": 10.0}, {"rate": 60.0}, {"rate": 30.0}]
    assert ratios_of(ours, theirs) == {"rate": 1.0}


def test_figure_that_one_of_both_lacks_has_no_ratio() -> None:
    assert ratios_of([{"rate": 1.0, "cpu": 1.0}], [{"rate": 2.0}]) == {"rate": 0.5}


@pytest.mark.parametrize("bar, met, missed", [
    (Bar("10m", "rate", "nginx", at_least=1.7), 1.7, 1.69),
    (Bar("10m", "cpu", "nginx", at_most=0.4), 0.4, 0.41),
])
def test_bar_is_met_from_its_limit_on(bar: Bar, met: float, missed: float) -> None:
    assert bar.is_met(met)
    assert not bar.is_met(missed)


def test_every_case_with_tls_has_its_bar() -> None:
    barred = {bar.case for bar in BARS}
    for protocol in ("tls", "https"):
        assert set(BY_PROTOCOL[protocol]) - barred == {protocol + "-memory"}


def test_every_bar_belongs_to_a_case_and_a_way() -> None:
    for bar in BARS:
        assert bar.to is None or bar.to in CASES[bar.case].ways


def test_every_way_of_a_case_is_one_of_its_protocol() -> None:
    for case in CASES.values():
        kinds = case.kinds(list(TITLES))
        assert [kind.name for kind in kinds] == case.ways
        assert [kind.title for kind in kinds] == [TITLES[name] for name in case.ways]
        assert set(kinds) <= set(WAYS[case.protocol].values())


#: Three rounds in which the median of the ratios is far from the ratio of the medians.
UNEVEN = {
    "pupgevent": [10.0, 40.0, 90.0], "nginx": [10.0, 60.0, 30.0], "haproxy": [5.0, 15.0, 60.0],
}  # fmt: skip


@pytest.mark.parametrize("figure, case", [
    ("rate", "close"), ("cpu", "10m"), ("memory", "memory")])
def test_picture_and_table_show_the_same_ratios(figure: str, case: str) -> None:
    rounds = {way: [{figure: value} for value in values] for way, values in UNEVEN.items()}
    [found] = summary({case: rounds})
    lengths = lengths_of(found, figure)
    assert lengths["pupgevent"] == found["ratios"]["nginx"][figure] == 1.0
    assert lengths["nginx"] == 1.0
    assert lengths["haproxy"] == 0.5
    medians = found["medians"]
    assert lengths["pupgevent"] != medians["pupgevent"][figure] / medians["nginx"][figure]


def test_bars_are_as_long_as_the_ratios_and_say_the_medians() -> None:
    drawn: List[Any] = []

    class Axes:
        def barh(self, y: float, length: float, *_: Any, **__: Any) -> None:
            drawn.append(length)

        def annotate(self, text: str, *_: Any, **__: Any) -> None:
            drawn.append(text)

    rounds = {way: [{"rate": value} for value in values] for way, values in UNEVEN.items()}
    [case] = summary({"close": rounds})
    assert draw_case(Axes(), PANELS[0], case, 0) == 1.0
    assert drawn == [1.0, "40/s", 1.0, "30/s", 0.5, "15/s"]


def result_of(rate: float, *cases: str) -> Dict[str, Any]:
    """As the bench writes it, of cases in which pupgevent has this rate and NGINX 100."""
    sample = {"errors": 0, "p50": 0.001, "p99": 0.002, "cpu": 1e-5}
    samples = {"pupgevent": [dict(sample, rate=rate)], "nginx": [dict(sample, rate=100.0)]}
    return {"versions": {"python": "3.11.7", "nginx": "1.22.1"}, "cpus": 2, "kernel": "Linux 6.1",
            "rounds": 1, "seconds": 1.0,
            "cases": summary(dict.fromkeys(cases or ["keep-alive-64"], samples))}


def test_table_tells_which_bar_is_missed() -> None:
    text = as_text(result_of(90.0))
    assert "0.90 (≥ 1 missed)" in text
    assert "0 of 1 bars are met" in text
    assert "missed" not in as_text(result_of(110.0))


def test_each_protocol_has_a_table_of_its_own() -> None:
    text = as_text(result_of(90.0, "keep-alive-64", "http-keep-alive-64"))
    _, tcp, http = re.split("^(?:TCP|HTTP): .*$", text, flags=re.MULTILINE)
    assert tcp.count("| keep-alive, 64 connections |") == 1
    assert http.count("| keep-alive, 64 connections |") == 1
    assert "missed: keep-alive, 64 connections, rate to NGINX: 0.90" in http
    assert "missed: HTTP, keep-alive, 64 connections, rate to NGINX: 0.90" in http


@pytest.mark.parametrize("suffix, begin", [("svg", b"<?xml"), ("png", b"\x89PNG")])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_picture_is_drawn_from_a_result(tmp_path: Path, suffix: str, begin: bytes) -> None:
    pytest.importorskip("matplotlib")
    results, picture = tmp_path / "bench.json", tmp_path / ("bench." + suffix)
    result = result_of(110.0, "keep-alive-64", "close", "http-close")
    results.write_text(json.dumps(result), encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "bench.picture", str(results), str(picture)],
                          check=False, cwd=str(ROOT), stderr=subprocess.PIPE,
                          universal_newlines=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert picture.read_bytes().startswith(begin)


def test_ports_that_someone_has_are_not_taken() -> None:
    ports = Ports()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        ports.low = ports.high = taken.getsockname()[1]
        with pytest.raises(BenchError, match="no 1 free ports"):
            ports.take(1)


def test_no_port_is_given_twice() -> None:
    ports = Ports()
    ports.high = ports.low + 40
    given = [ports.take(1)[0] for _ in range(10)]
    assert len(set(given)) == 10


def test_restart_is_measured_by_application() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.restarts", "--applications", "exits", "--clients", "2"],
        check=False, cwd=str(ROOT), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        universal_newlines=True)
    assert (done.returncode, done.stderr) == (0, "Python, os._exit at SIGTERM: round 1 of 1\n")
    assert re.search(r"at SIGTERM +\| http +\| +[0-9.]+ s +\| +[0-9.]+ s.* \| +[0-9]+ \| +[0-9]+ ",
                     done.stdout)


#: What only tests run.
NO_APPLICATIONS = {"http_balancing", "http_scripted", "http_websockets"}


def test_every_application_is_among_the_children_of_the_tests() -> None:
    sources = {path.stem for path in FOLDER.glob("http_*")} - NO_APPLICATIONS
    used = [re.findall(r"http_\w+", application.arguments) for application in APPLICATIONS.values()]
    assert all(len(words) == 1 for words in used)
    assert {words[0] for words in used} == sources


def test_request_without_its_whole_answer_is_lost() -> None:
    answers = [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 13\r\n\r\nhello from 0\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nhello from",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", b""]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        with restarts.Clients(listener.getsockname()[1], 1) as asking:
            for answer in answers:
                client, _ = listener.accept()
                client.recv(65536)
                if not answer:
                    asking.ended.set()
                client.sendall(answer)
                client.close()
    assert asking.answered == [1]
    assert [reason.split("(")[0] for reason in asking.lost] == [
        "IncompleteRead", "HTTPException", "RemoteDisconnected"]


def test_table_of_restarts_tells_what_is_missed_and_why() -> None:
    rounds = [restarts.Round(1.0, 2.0, 100, []), restarts.Round(1.0, 5.0, 200, ["reset", "reset"]),
              restarts.Round(1.0, 6.0, 300, ["502"])]
    text = restarts.report({"node": rounds}, "http")
    assert "| 1.0 s | 5.0 s (≤ 4 missed) | 600 | 3 missed |" in re.sub(" +", " ", text)
    assert "node, lost: 2 times reset\nnode, lost: 1 times 502" in text
    assert "missed" not in restarts.report({"node": rounds[:1]}, "http")


def test_application_that_needs_the_time_itself_has_no_bar() -> None:
    text = restarts.report({"node": [restarts.Round(3.0, 5.0, 100, [])]}, "http")
    assert "5.0 s" in text
    assert "≤" not in text
