"""NGINX and HAProxy as Debian has them, from a file of a test's own; where they run for long
enough, and are ended by their pid."""

import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List, Tuple

from conftest import eventually
from tools import tool

#: Seconds in which one that is told to has ended.
PATIENCE = 60.0

Address = Tuple[str, int]

_NGINX = """\
daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
%s
events { worker_connections 512; }
"""

_STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"

_HTTP = """\
http {
    access_log off;
    client_body_temp_path client; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
%s
}
"""

_HAPROXY = """\
defaults
    timeout connect 60s
    timeout server 60s
    timeout client 60s
%s
"""


@contextmanager
def running(words: "List[str]", folder: Path, address: Address) -> "Iterator[Address]":
    """A server as a child in that folder, as soon as it accepts."""
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(words, cwd=str(folder), stdout=output, stderr=output)
    try:
        with eventually(lambda: socket.create_connection(address)):
            pass
        yield address
    finally:
        process.terminate()
        process.wait(PATIENCE)


def nginx_command(folder: Path) -> "List[str]":
    """With the nginx.conf of that folder."""
    return [tool("nginx"), "-e", "error.log", "-p", str(folder), "-c", "nginx.conf"]


@contextmanager
def nginx_http(folder: Path, address: Address, server: str) -> "Iterator[Address]":
    """`server` is what stands in its http block."""
    (folder / "nginx.conf").write_text(_NGINX % "" + _HTTP % server)
    with running(nginx_command(folder), folder, address):
        yield address


@contextmanager
def nginx_stream(folder: Path, address: Address, server: str) -> "Iterator[Address]":
    """`server` is what stands in its stream block."""
    module = "load_module %s;" % _STREAM_MODULE if Path(_STREAM_MODULE).exists() else ""
    (folder / "nginx.conf").write_text(_NGINX % module + "stream {\n%s\n}\n" % server)
    with running(nginx_command(folder), folder, address):
        yield address


@contextmanager
def haproxy(folder: Path, address: Address, sections: str) -> "Iterator[Address]":
    """`sections` come behind its time-outs."""
    (folder / "haproxy.cfg").write_text(_HAPROXY % sections)
    with running([tool("haproxy"), "-f", "haproxy.cfg"], folder, address):
        yield address
