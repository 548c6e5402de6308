"""Little applications that answer HTTP, each for another web server, and how each is started.

All answer the same: a greeting, `/slow` after 0.3 s, `/stream` for 10 s. None of them does anything
about SIGTERM, so that it is the web server that finishes what it has begun, or dies. Their sources
are what tests run, too: tests/children/http_*.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable, NamedTuple, Optional

from bench.tools import PATIENCE

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "children"
#: Debian's own programs, also where another Python or Node comes first on PATH.
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
#: Where .ci/run has npm install Deno.
NPM_FOLDER = Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")), "pupgevent-deno")
#: Deno asks nobody for a newer version; Python leaves nothing in the folder of the tests.
ENVIRONMENT = {"DENO_NO_UPDATE_CHECK": "1", "PYTHONDONTWRITEBYTECODE": "1"}

#: What takes one request at a time should get one at a time: the others wait in pupgevent's queue,
#: which all instances serve, and for longer than usual where 64 clients ask for answers of 300 ms.
ONE_AT_A_TIME = "maxConnections = 1\nqueueTimeoutMs = 60000\n"


class Application(NamedTuple):
    """`name` for the command line, `title` for the table."""

    name: str
    title: str
    #: What runs it, a path or a word with an option; None where it is not installed.
    find: Callable[[], Optional[str]]
    arguments: str
    #: More lines of [processes.cluster].
    cluster: str = ""

    def command(self) -> Optional[str]:
        """For the shell, in FOLDER; None where it cannot run here."""
        program = self.find()
        return None if program is None else "%s %s" % (program, self.arguments)


def program(name: str) -> Callable[[], Optional[str]]:
    def find() -> Optional[str]:
        path = SYSTEM_PATH + os.pathsep + os.environ.get("PATH", os.defpath)
        return quoted(shutil.which(name, path=path))
    return find


def module(name: str) -> Callable[[], Optional[str]]:
    """Run by the system's Python, or by this one."""
    def find() -> Optional[str]:
        for python in (shutil.which("python3", path=SYSTEM_PATH), sys.executable):
            if python and has_module(python, name):
                return "%s -m %s" % (shlex.quote(python), name)
        return None
    return find


def has_module(python: str, name: str) -> bool:
    done = subprocess.run([python, "-c", "import " + name], check=False, timeout=PATIENCE, cwd="/",
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return done.returncode == 0


def find_deno() -> Optional[str]:
    """On PATH, or where .ci/run has put it. Without a network nobody has it."""
    packages = NPM_FOLDER / "node_modules" / "@deno"
    return shutil.which("deno") or next(map(str, packages.glob("linux-*/deno")), None)


def quoted_deno() -> Optional[str]:
    return quoted(find_deno())


def find_python() -> Optional[str]:
    return quoted(sys.executable)


def quoted(path: Optional[str]) -> Optional[str]:
    return path and shlex.quote(path)


#: In the order of the table.
APPLICATIONS = {application.name: application for application in (
    Application("node", "node", program("node"), "http_app.js"),
    Application("deno", "deno", quoted_deno,
                "run --quiet --allow-net --allow-env http_app_deno.ts"),
    Application("gunicorn", "gunicorn, sync", program("gunicorn"),
                "--bind 127.0.0.1:$PUP_CLUSTER_PORT http_wsgi:app", ONE_AT_A_TIME),
    Application("gunicorn-threads", "gunicorn, 32 threads", program("gunicorn"),
                "--bind 127.0.0.1:$PUP_CLUSTER_PORT --threads 32 http_wsgi:app"),
    Application("uvicorn", "uvicorn", module("uvicorn"),
                "--port $PUP_CLUSTER_PORT --lifespan off --no-access-log http_asgi:app"),
    Application("php", "php -S", program("php"),
                "-S 127.0.0.1:$PUP_CLUSTER_PORT http_app.php", ONE_AT_A_TIME),
    Application("exits", "Python, os._exit at SIGTERM", find_python, "http_exits.py"),
)}
