"""`pupgevent init` without another tool's file: a first configuration, for what lies in the folder.

What is looked for is cheap to see and sure: package.json with a start script, Django's manage.py,
a module that makes a Flask or FastAPI application. Where nothing is found, the configuration has an
example in it that runs at once.
"""

import os
import re
import shutil
import socket
import sys
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import documents
from drafts import Draft, Section
from errors import ConfigurationError

#: Where clients come to, and the first instance listens, if these are free.
_COMMON_PORT, _START_PORT = 3000, 8000
_INSTANCES = 2

#: Files of other tools that `--from` takes.
_SOURCES = (
    "Procfile", "ecosystem.config.js", "ecosystem.config.cjs", "ecosystem.config.json",
    "ecosystem.json", "process.json", "supervisord.conf", "pup.json", "pup.jsonc")

#: Where an application is usually made, and what makes one.
_MODULES = ("app", "main", "wsgi", "asgi", "server", "application")
_MADE = re.compile(r"^(\w+)\s*(?::[^=\n]+)?=\s*(?:flask\.|fastapi\.)?(Flask|FastAPI)\(", re.M)
_SETTINGS = re.compile(r"DJANGO_SETTINGS_MODULE['\"],\s*['\"]([\w.]+)\.settings\w*['\"]")

_EXAMPLE = """\
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"Hello from instance %s\\n" % os.environb[b"PUP_CLUSTER_INSTANCE"]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("127.0.0.1", int(os.environ["PUP_CLUSTER_PORT"])), Hello).serve_forever()
"""


class _Application(NamedTuple):
    """What was found, and how it is run."""

    name: str
    #: Above its command.
    said: str
    command: object
    #: Appended to its PATH.
    path: str = ""


def fill(draft: Draft) -> None:
    """Write a first configuration for the draft's folder."""
    application = find(draft.folder)
    for name in sources(draft.folder):
        draft.head.say("%s lies here: pupgevent init --from=%s carries it over, into a file that is"
                       " not there yet." % (name, name))
    process = draft.add_process(application.name, _INSTANCES)
    process.say(application.said)
    process.set("cmd", application.command)
    if application.path:
        process.set("path", application.path)
    process.say("Start it with pupgevent. What ends is started again.")
    process.set("autostart", True)
    process.say("Choices:")
    process.disable("restartLimit", 10)
    process.disable("terminateTimeout", 60)
    process.disable("env", {"APP_MODE": "production"})
    _fill_cluster(draft, process.inside("cluster"))


def _fill_cluster(draft: Draft, cluster: Section) -> None:
    common = _free(_COMMON_PORT, 1, draft)
    cluster.say('How many, or "auto": one per CPU.')
    cluster.set("instances", _INSTANCES)
    cluster.say("Where clients connect: http://127.0.0.1:%d/. For all of the network, take the line"
                " with commonHost out." % common)
    cluster.set("commonPort", common)
    cluster.set("commonHost", "127.0.0.1")
    cluster.say("Instance n, from 0, listens on 127.0.0.1, port startPort + n, which it finds in"
                " the environment variables PUP_CLUSTER_PORT and PORT.")
    cluster.set("startPort", _free(_START_PORT, _INSTANCES, draft))
    cluster.say("Each request is balanced, and a restart loses none. For what does not speak HTTP/1"
                ' (databases, queues, TLS) it is "tcp".')
    cluster.set("protocol", "http")
    cluster.say("Which instance gets the next request: also least-connections, ip-hash, least-time,"
                " cookie.")
    cluster.set("strategy", "round-robin")


def _free(first: int, count: int, draft: Draft) -> int:
    """The first of so many ports in a row on which nobody listens just now."""
    for port in range(first, first + 100):
        if all(map(_is_free, range(port, port + count))) and draft.ports.take(port, count):
            return port
    return draft.ports.find(count, first)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def sources(folder: str) -> List[str]:
    """Files of other tools in the folder."""
    return [name for name in _SOURCES if os.path.isfile(os.path.join(folder, name))]


def find(folder: str) -> _Application:
    """The application in the folder, or the example."""
    finders: Tuple[Callable[[str], Optional[_Application]], ...] = (_node, _django, _python)
    return next(filter(None, (look(folder) for look in finders)), None) or _example()


def _node(folder: str) -> Optional[_Application]:
    package = _package(os.path.join(folder, "package.json"))
    scripts = package.get("scripts")
    start = scripts.get("start") if isinstance(scripts, dict) else None
    if not isinstance(start, str) or not start.strip():
        return None
    name = package.get("name")
    path = "node_modules/.bin" if os.path.isdir(os.path.join(folder, "node_modules/.bin")) else ""
    if isinstance(scripts, dict) and {"prestart", "poststart"} & set(scripts):
        start = "npm start"
    return _Application(
        name if isinstance(name, str) else "app",
        "The start script of package.json. The application has to listen on process.env.PORT.",
        start, path)


def _package(path: str) -> Dict[str, object]:
    try:
        return documents.read(path).values
    except ConfigurationError:
        return {}


def _django(folder: str) -> Optional[_Application]:
    found = _SETTINGS.search(_text(folder, "manage.py"))
    if found is None:
        return None
    package = found.group(1)
    if not os.path.isfile(os.path.join(folder, package.replace(".", "/"), "wsgi.py")):
        return None
    command = "%s --bind 127.0.0.1:$PUP_CLUSTER_PORT %s.wsgi"
    return _Application(package, "The Django project of manage.py.",
                        command % (_program(folder, "gunicorn"), package))


def _python(folder: str) -> Optional[_Application]:
    for module in _MODULES:
        found = _MADE.search(_text(folder, module + ".py"))
        if found:
            variable, kind = found.groups()
            command = "%s --bind 127.0.0.1:$PUP_CLUSTER_PORT %s:%s"
            program = "gunicorn"
            if kind == "FastAPI":
                command, program = "%s --host 127.0.0.1 --port $PUP_CLUSTER_PORT %s:%s", "uvicorn"
            return _Application(
                module, "The %s application of %s.py." % (kind, module),
                command % (_program(folder, program), module, variable))
    return None


def _program(folder: str, name: str) -> str:
    """The one of the application's own virtual environment, if it has one here."""
    for place in (".venv", "venv"):
        path = "%s/bin/%s" % (place, name)
        if os.access(os.path.join(folder, path), os.X_OK):
            return path
    return name


def _text(folder: str, name: str) -> str:
    try:
        return documents.read_text(os.path.join(folder, name))
    except ConfigurationError:
        return ""


def _example() -> _Application:
    python = "python3" if shutil.which("python3") else sys.executable
    return _Application(
        "my-app", "An example that runs at once. Put your own command here: a line for /bin/sh, as"
        ' "node server.js", or an array of words. The application has to listen on 127.0.0.1, on'
        " the port in the environment variable PORT.",
        [python, "-c", _EXAMPLE])
