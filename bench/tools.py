"""The programs that the bench needs: where they lie, which versions they are."""

import os
import re
import shutil
import subprocess
from typing import Dict, List, NamedTuple, Optional, Sequence

DEBIAN_PACKAGES = "nginx libnginx-mod-stream haproxy wrk openssl"
#: NGINX and HAProxy lie where only root's PATH may lead.
SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin")
MODULE_FOLDERS = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules",
                  "/usr/share/nginx/modules", "/usr/local/nginx/modules")
#: Seconds for a program to tell its version.
PATIENCE = 20.0


class BenchError(Exception):
    """The bench cannot go on; its text is one line, made for the person at the terminal."""


class Tools(NamedTuple):
    """Command lines of what the bench starts."""

    nginx: str
    #: Path of the dynamic module, or None where NGINX has it built in.
    stream_module: Optional[str]
    haproxy: str
    wrk: str
    openssl: str
    pupgevent: List[str]
    #: Another pupgevent, beside which it is measured; empty where there is none.
    earlier: List[str]


def find_tools(
    pupgevent: Sequence[str], balancers: Sequence[str], earlier: Sequence[str] = ()
) -> Tools:
    """Raises BenchError, with what to install, for one that is missing and needed."""
    nginx, wrk = find("nginx"), find("wrk")
    return Tools(
        nginx=nginx,
        stream_module=find_stream_module(nginx) if "nginx" in balancers else None,
        haproxy=find("haproxy") if "haproxy" in balancers else "",
        wrk=wrk,
        openssl=find("openssl"),
        pupgevent=list(pupgevent),
        earlier=list(earlier))


def find(name: str) -> str:
    folders = (os.environ.get("PATH", os.defpath),) + SYSTEM_FOLDERS
    path = shutil.which(name, path=os.pathsep.join(folders))
    if path is None:
        raise missing(name)
    return path


def find_stream_module(nginx: str) -> Optional[str]:
    arguments = said(nginx, "-V").split()
    if "--with-stream" in arguments:
        return None
    folders = [word[len("--modules-path="):] for word in arguments
               if word.startswith("--modules-path=")]
    for folder in folders + list(MODULE_FOLDERS):
        path = os.path.join(folder, "ngx_stream_module.so")
        if os.path.exists(path):
            return path
    raise missing("NGINX's stream module")


def missing(what: str) -> BenchError:
    return BenchError("%s is not installed; on Debian: apt-get install %s"
                      % (what, DEBIAN_PACKAGES))


def said(*words: str) -> str:
    """What a command prints; NGINX tells its version on stderr, wrk with exit code 1."""
    try:
        done = subprocess.run(words, check=False, timeout=PATIENCE, universal_newlines=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError("%s: %s" % (words[0], error)) from error
    return done.stdout


def versions(tools: Tools) -> Dict[str, str]:
    """`{"nginx": "1.22.1", ...}` of those that were found."""
    found = {"nginx": said(tools.nginx, "-v"), "wrk": said(tools.wrk, "-v")}
    if tools.haproxy:
        found["haproxy"] = said(tools.haproxy, "-v")
    return {name: number_in(text) for name, text in found.items()}


def number_in(text: str) -> str:
    number = re.search(r"\d+(\.\d+)+", text)
    return number.group() if number else "unknown"
