"""The dashboard: a page for people, metrics for Prometheus, health checks, all of it read-only.

    /                    the page: its files lie in page/
    /status.json         the status, as `pupgevent status --json` prints it
    /history.json        the last changes of states; `?after=N`: those after the one of that number
    /logs/ID             the last lines of a process or an instance; `?lines=N`: the last so many
    /metrics             see metrics.py
    /healthz             200, or 503 where `pupgevent status` would exit with 3, or once it stops
    /healthz/ID          the same of one process or instance

With a token each request has to bring it, as `Authorization: Bearer` or as the password of `Basic`,
which browsers ask for. Without one, only this machine can reach it, and a name that a stranger has
pointed at this machine (DNS rebinding) is refused.
"""

import base64
import binascii
import hmac
import ipaddress
import os
import platform
import re
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

import gevent
from gevent.lock import BoundedSemaphore

import exposition
import metrics
import procfs
import status
import status_report
from errors import PupgeventError, encoded
from json_pieces import json_pieces
from log_history import Wanted, uncolored
from model import Dashboard as Settings
from movable_server import MovableServer
from runtime import Runtime
from snapshots import Snapshots
from status_report import Status
from timeline import Timeline
from web_server import Share, WebServer

#: What the page is made of, by the path that it is asked for.
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}

_PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page")

_TEXT, _JSON = "text/plain; charset=utf-8", "application/json"

#: The page gets nothing from elsewhere, is shown in no frame, and no script is in its text.
_HEADERS = [
    ("Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
     " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
]

#: Characters that are sent at once.
_BLOCK = 64 * 1024

#: Lines of a process: how many where it is not said, and at most.
_LINES, _MOST_LINES = 200, 1000

#: Processes that are named as failing.
_MOST_NAMED = 20

#: Seconds for a look at our own process.
_LOOK_UP = 5.0


class Answer(NamedTuple):
    """What a request gets."""

    code: str
    type: str
    body: List[bytes]
    headers: Tuple[Tuple[str, str], ...] = ()


def _text(code: str, text: str, *headers: "Tuple[str, str]") -> Answer:
    return Answer(code, _TEXT, [encoded(text + "\n")], headers)


_NOT_FOUND = _text("404 Not Found", "not found")
_NOT_ALLOWED = _text("405 Method Not Allowed", "this is read-only", ("Allow", "GET, HEAD"))
_WRONG_HOST = _text(
    "403 Forbidden",
    "without a token this is served as localhost or 127.0.0.1 only: set dashboard.token to use it"
    " by another name")
_NO_TOKEN = _text(
    "401 Unauthorized", "a token is needed: send it as a password, or as a bearer token",
    ("WWW-Authenticate", 'Basic realm="pupgevent", charset="UTF-8"'))


class Dashboard:
    """Of one runtime; off until `apply` turns it on. `version` is pupgevent's."""

    def __init__(self, runtime: Runtime, snapshots: Snapshots, version: str) -> None:
        self._runtime = runtime
        self._snapshots = snapshots
        self._versions = {
            "version": version, "python": platform.python_version(), "gevent": gevent.__version__}
        self._settings: Optional[Settings] = None
        self._server = MovableServer(
            "dashboard", lambda listener: WebServer(listener, self._respond, self._warn))
        self._timeline: Optional[Timeline] = None
        # Now: a reload that turns this on may come after pupgevent's own files were exchanged.
        self._files = _load_files()
        self._json: Tuple[Optional[Status], List[bytes]] = (None, [])
        #: One at a time: each takes memory while it is made.
        self._turn = BoundedSemaphore()

    def prepare(self, settings: Optional[Settings]) -> None:
        """Open the port of these settings, if it is another one; nobody is served there before
        `apply`. Does not block. Raises PupgeventError, and then nothing has changed."""
        if settings is not None and not self._files:
            raise PupgeventError("dashboard: the files of its page are not there: %s" % _PAGE)
        self._server.prepare(settings)

    def apply(self, settings: Optional[Settings]) -> None:
        """Serve with these from now on, for which `prepare` has been called; None: no longer."""
        self._settings = settings
        if settings is None:
            self._server.apply(None)
            self._forget_timeline()
            return
        if self._timeline is None:
            self._timeline = Timeline(self._runtime.instances())
            self._runtime.watchers.add(self._timeline.note)
        if self._server.apply(settings):
            self._runtime.log.info("dashboard", "http://%s:%d/" % (
                "[%s]" % settings.host if ":" in settings.host else settings.host, settings.port))

    def close(self) -> None:
        """Idempotent."""
        self._settings = None
        self._server.close()
        self._forget_timeline()

    def _forget_timeline(self) -> None:
        if self._timeline is not None:
            self._runtime.watchers.discard(self._timeline.note)
            self._timeline = None

    def _warn(self, text: str) -> None:
        self._runtime.log.warning("dashboard", text)

    # A request

    def _respond(
        self, environ: "Dict[str, Any]", start_response: "Callable[..., Any]", share: Share
    ) -> List[bytes]:
        answer = self._answer(environ, share)
        length = str(sum(map(len, answer.body)))
        start_response(answer.code, [
            ("Content-Type", answer.type), ("Content-Length", length), *_HEADERS, *answer.headers])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else answer.body

    def _answer(self, environ: "Dict[str, Any]", share: Share) -> Answer:
        refusal = self._refusal(environ)
        if refusal is not None:
            return refusal
        path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
        if path in _FILES:
            return Answer("200 OK", _FILES[path][1], [self._files[path]])
        first, _, rest = path[1:].partition("/")
        if first == "healthz":
            return self._health(rest, share)
        if first == "logs" and rest:
            return self._logs(rest, _whole(query, "lines", _LINES), share)
        if path in ("/status.json", "/metrics", "/history.json"):
            with self._turn:
                if first == "status.json":
                    return Answer("200 OK", _JSON, self._status(share))
                if first == "metrics":
                    return Answer("200 OK", exposition.CONTENT_TYPE, self._metrics(share))
                return Answer("200 OK", _JSON, self._history(_whole(query, "after", 0), share))
        return _NOT_FOUND

    def _refusal(self, environ: "Dict[str, Any]") -> Optional[Answer]:
        settings = self._settings
        if settings is None:
            return _NOT_FOUND  # it has just been turned off
        if settings.token is not None:
            if not _has_token(environ.get("HTTP_AUTHORIZATION", ""), settings.token):
                # The page itself says that the token is another one: a browser that asks for a
                # password at each of its requests would be in the way.
                by_script = environ.get("HTTP_SEC_FETCH_DEST") == "empty"
                return _NO_TOKEN._replace(headers=()) if by_script else _NO_TOKEN
        elif not _is_ours(environ.get("HTTP_HOST", ""), settings.host):
            return _WRONG_HOST
        return None if environ["REQUEST_METHOD"] in ("GET", "HEAD") else _NOT_ALLOWED

    # What there is

    def _status(self, share: Share) -> List[bytes]:
        found = self._snapshots.recent(share)
        if self._json[0] is not found:
            as_json = status_report.to_json(found, slices=share)
            self._json = (found, _in_blocks(share(json_pieces(as_json))))
        return self._json[1]

    def _history(self, after: int, share: Share) -> List[bytes]:
        timeline = self._timeline
        if timeline is None:
            return []
        moments = [each._asdict() for each in timeline.after(after)]
        found = {"began": timeline.began, "number": timeline.number, "moments": moments}
        return _in_blocks(share(json_pieces(found)))

    def _metrics(self, share: Share) -> List[bytes]:
        found = self._snapshots.recent(share)
        own = self._runtime.threads.ask(_LOOK_UP, procfs.own_usage)
        balancers = list(self._runtime.balancers.items())
        times = {name: balancer.times() for name, balancer in share(balancers)}
        sources = metrics.Sources(found, own, times, self._versions)
        return _in_blocks(metrics.render(sources, share))

    def _logs(self, word: str, lines: int, share: Share) -> Answer:
        supervisor = self._runtime.supervisor
        if word in supervisor.processes:
            wanted = Wanted({word}, set())
        elif word in supervisor.instances:
            wanted = Wanted(set(), {word})
        else:
            return _NOT_FOUND
        found = self._runtime.history.last(wanted, min(lines, _MOST_LINES))
        return Answer("200 OK", _TEXT, [uncolored(each) for each in share(found) if each])

    def _health(self, word: str, share: Share) -> Answer:
        if self._runtime.closing:
            return _text("503 Service Unavailable", "stopping")
        if not word:
            failing = list(status.failing(self._runtime, share))
        else:
            healthy = status.is_well(self._runtime, word)
            if healthy is None:
                return _NOT_FOUND
            failing = [] if healthy else [word]
        if not failing:
            return _text("200 OK", "ok")
        more = len(failing) - _MOST_NAMED
        return _text("503 Service Unavailable", "failing: %s%s" % (
            ", ".join(failing[:_MOST_NAMED]), " and %d more" % more if more > 0 else ""))


def _load_files() -> Dict[str, bytes]:
    """The files of the page by the path that they are asked for; empty where one is missing. They
    are wherever our modules are loaded from: in a folder, or in an archive."""
    loader: Any = globals()["__loader__"]
    try:
        return {path: bytes(loader.get_data(os.path.join(_PAGE, name)))
                for path, (name, _) in _FILES.items()}
    except OSError:
        return {}


def _in_blocks(texts: "Iterable[str]") -> List[bytes]:
    """All of it, in some pieces of which each is sent at once."""
    blocks: List[bytes] = []
    parts: List[str] = []
    size = 0
    for text in texts:
        parts.append(text)
        size += len(text)
        if size >= _BLOCK:
            blocks.append("".join(parts).encode())
            parts, size = [], 0
    return [*blocks, "".join(parts).encode()]


def _whole(query: str, name: str, default: int) -> int:
    """A whole number of the query, else the default."""
    found = re.search("(?:^|&)%s=([0-9]{1,15})(?:&|$)" % name, query)
    return int(found.group(1)) if found else default


def _has_token(authorization: str, token: str) -> bool:
    """Compared in constant time."""
    scheme, _, value = authorization.strip().partition(" ")
    given = value.strip().encode("latin-1", "replace")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given, token.encode())


def _is_ours(host: str, own: str) -> bool:
    """Is it a name of this machine's that nobody else can give out? A request without a name comes
    from no browser."""
    if not host:
        return True
    found = re.match(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:[0-9]*)?$", host)
    if found is None:
        return False
    name = found.group(1).strip("[]").lower()
    if name == "localhost" or name == own:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


