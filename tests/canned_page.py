"""A server of the page's own files, with answers that a test has made: of a thousand instances."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, Dict, List, Tuple

import dashboard

PAGE = Path(dashboard.__file__).resolve().parent / "page"
KINDS = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript",
         ".svg": "image/svg+xml"}

CAUSES = dict.fromkeys(["exit", "signal", "start", "timeout", "memory", "shortage"], 0)


def member(number: int, **changes: Any) -> Dict[str, Any]:
    """An instance that serves, as /status.json has it."""
    backend = {
        "state": "up", "reason": "started", "open": 2, "total": 100, "bytesIn": 1000,
        "bytesOut": 9000, "connectErrors": 0, "retries": 0, "downs": 0, "since": 60.0,
        "connectTime": 0.0004, "firstByteTime": 0.02, "http": None}  # fmt: skip
    return dict({
        "id": "web-%d" % (number + 1), "index": number, "port": 8000 + number, "state": "running",
        "since": 3600.0, "wanted": True, "serves": True, "pid": 1000 + number, "uptime": 3600.0,
        "restarts": 0, "restartsBy": CAUSES, "lastExit": None, "reason": None, "failingFor": None,
        "lastLine": None, "retryIn": None, "waitsFor": None, "cpu": 0.25, "cpuTime": 3.0,
        "memory": 2**24, "health": None, "backend": backend,
    }, **changes)  # fmt: skip


def answers(errors: int, others: int = 0) -> Dict[str, int]:
    return {"1xx": 0, "2xx": others, "3xx": 0, "4xx": 0, "5xx": errors}


def with_http(each: Dict[str, Any], total: int, errors: int, open: int = 0) -> Dict[str, Any]:
    """The same instance, which has answered so many requests, some of them with 5xx."""
    http = {"answers": answers(errors, total - errors), "idle": 2,
            "requestTimes": {"sum": 1.5, "counts": [total, *[0] * 14]}}
    return dict(each, backend=dict(each["backend"], total=total, open=open, http=http))


def failing(number: int) -> Dict[str, Any]:
    return member(number, state="backoff", serves=False, pid=None, uptime=None, cpu=None,
                  memory=None, restarts=1, restartsBy=dict(CAUSES, exit=1), since=4.0,
                  lastExit="exit code 3", reason="exit code 3, restart in 9.0 s",
                  failingFor=4.0, lastLine="KeyError: 'DATABASE_URL'", retryIn=5.0)


def status(members: List[Dict[str, Any]], uptime: float) -> Dict[str, Any]:
    """Of one cluster of these."""
    up = sum(each["serves"] for each in members)
    total = sum(each["backend"]["total"] for each in members)
    balancer = {
        "strategy": "round-robin", "accepted": total, "open": 2 * up, "total": total,
        "bytesIn": 10 * total, "bytesOut": 90 * total, "connectErrors": 0, "retries": 0,
        "queue": 0, "queueMost": 0, "turnedAway": 0, "host": "0.0.0.0", "port": 3000,
        "protocol": "tcp", "http": None, "tls": None}  # fmt: skip
    healthy = up == len(members)
    process = {
        "id": "web", "autostart": True, "healthy": healthy,
        "state": "running" if healthy else "degraded", "up": up, "wanted": len(members),
        "instances": len(members), "nextRun": None, "nextStop": None, "balancer": balancer,
        "members": members}  # fmt: skip
    return {"version": "1.2.3", "pid": 4242, "name": "shop", "config": "/srv/shop.toml",
            "uptime": uptime, "state": "running", "healthy": healthy, "processes": [process]}


def http_status(
    members: List[Dict[str, Any]], uptime: float, own_errors: int = 0
) -> Dict[str, Any]:
    """Of one cluster of these, which all have http; 70 clients are connected."""
    found = status(members, uptime)
    process, = found["processes"]
    backends = [each["backend"] for each in members]
    errors = sum(each["http"]["answers"]["5xx"] for each in backends)
    process["balancer"].update(
        protocol="http", accepted=70, open=sum(each["open"] for each in backends), http={
            "connections": 70, "answers": answers(errors), "ownAnswers": answers(own_errors),
            "requestTimes": {"sum": 1.5, "counts": [0] * 15}})
    return found


def with_tls(
    found: Dict[str, Any], certificates: "List[Tuple[List[str], float]]"
) -> Dict[str, Any]:
    """The same status, of a cluster with these: the names of each, and in how many days it
    expires."""
    process, = found["processes"]
    process["balancer"]["tls"] = {
        "minVersion": "TLSv1.2", "handshakes": 12, "resumed": 5, "failed": 3, "underWay": 1,
        "certificates": [
            {"cert": "/etc/tls/%d.pem" % number, "names": names,
             "expires": time.time() + days * 86400}
            for number, (names, days) in enumerate(certificates)]}
    return found


class CannedPage(ThreadingMixIn, HTTPServer):
    """`status` is what /status.json answers; `asked`: the paths, in their order."""

    daemon_threads = True

    def __init__(self, first: Dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = first
        #: Of all answers but the page's own files.
        self.code = 200
        self.asked: List[str] = []
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return "http://127.0.0.1:%d/" % self.server_address[1]

    def __enter__(self) -> "CannedPage":
        self.thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()

    def answer(self, path: str) -> Tuple[bytes, str]:
        """Its body and type."""
        self.asked.append(path)
        if path == "/status.json":
            return json.dumps(self.status).encode(), "application/json"
        if path == "/history.json":
            found = {"began": 1.0, "number": 0, "moments": []}
            return json.dumps(found).encode(), "application/json"
        file = PAGE / (path[1:] or "index.html")
        return (file.read_bytes(), KINDS[file.suffix]) if file.exists() else (b"", "text/plain")


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: CannedPage
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body, kind = self.server.answer(self.path.partition("?")[0])
        self.send_response(self.server.code if kind == "application/json" else 200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in dashboard._HEADERS:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """It is of no interest."""
