"""`pupgevent check CONFIG`: what would run, and what should be known of it before it does."""

import os
import stat
import time
from typing import Iterator, Optional, Set, Tuple

import cron_pattern
import model
import programs
import pup_differences
import tls_expiry
from documents import Document
from errors import KeyPath, encoded, format_path, local_time
from known_servers import web_server
from model import Cluster, Configuration, Process, log_file_of, loggers_of

#: Characters of a token. One of 16 letters and digits is not found by trying.
_LONG_ENOUGH = 16

_HTTP_HINT = (
    "{} speaks HTTP: with {} each request is balanced, and a restart loses none ({}: no hint)")


def plan(configuration: Configuration) -> Iterator[str]:
    """A line for the dashboard and the agent, and for each balancer and instance."""
    for name, table in (("dashboard", configuration.dashboard), ("agent", configuration.agent)):
        if table is not None:
            yield "%s on %s port %d" % (name, table.host, table.port)
    for process in configuration.processes:
        cluster = process.cluster
        if cluster is not None and cluster.common_port is not None:
            yield "%s: %s%s on %s port %d" % (
                process.id, _protocol(cluster), cluster.strategy, cluster.common_host,
                cluster.common_port)
        start = _start(process)
        for spec in model.instance_specs(process):
            place = "" if spec.port is None else ", port %d" % spec.port
            yield "%s%s%s" % (spec.name, place, start)


def _protocol(cluster: Cluster) -> str:
    """What clients speak, in the words of the status; nothing where pupgevent does not know it."""
    if cluster.protocol == "tcp":
        return "" if cluster.tls is None else "tls, "
    return "http, " if cluster.tls is None else "https, "


def remarks(configuration: Configuration, document: Document) -> Iterator[str]:
    """A line for each thing that may be meant, and may be a mistake."""
    for where, text in _warnings(configuration):
        yield "%s:%d: warning: %s: %s" % (
            configuration.path, document.line(*where), format_path(where), text)
    for where, text in _hints(configuration, document):
        yield "%s:%d: hint: %s: %s" % (
            configuration.path, document.line(*where), format_path(where), text)
    if document.is_json:
        for hint in pup_differences.hints(document.values):
            yield "%s: hint: %s" % (configuration.path, hint)


def _start(process: Process) -> str:
    """When it starts, where that is not at once; and when cron starts and stops it next."""
    start = "" if process.autostart or process.cron else ", not started by itself"
    if process.watch and not process.autostart and not process.cron:
        start = ", started when its files change"
    now = time.time()
    for verb, text in (("starts", process.cron), ("stops", process.terminate)):
        moment = text and cron_pattern.next_time(text, now, time.localtime)
        if moment:
            start += ", %s at %s" % (verb, local_time(moment, now, time.localtime))
    return start


# What is not there here and now; it may be there at the start


def _warnings(configuration: Configuration) -> Iterator[Tuple[KeyPath, str]]:
    for index, process in enumerate(configuration.processes):
        problem = _program_problem(process)
        if problem:
            yield ("processes", index, "cmd"), problem
    seen: Set[str] = set()
    for where, path in _log_files(configuration):
        folder = os.path.dirname(path)
        if folder not in seen and not os.path.isdir(folder):
            yield where, "there is no folder %s" % folder
        seen.add(folder)
    if configuration.dashboard is not None and configuration.dashboard.token is not None:
        for text in _token_problems(configuration.dashboard.token, configuration.real_path):
            yield ("dashboard", "token"), text
    yield from tls_expiry.warnings_of(configuration, time.time())


def _log_files(configuration: Configuration) -> Iterator[Tuple[KeyPath, str]]:
    for where, process_id, _, logger in loggers_of(configuration):
        for key, template in (("stdout", logger.stdout), ("stderr", logger.stderr)):
            if template is not None:
                yield where + (key,), log_file_of(template, process_id, 0)
    for index, process in enumerate(configuration.processes):
        if process.cluster is not None and process.cluster.access_log is not None:
            yield ("processes", index, "cluster", "accessLog"), process.cluster.access_log


def _hints(configuration: Configuration, document: Document) -> Iterator[Tuple[KeyPath, str]]:
    """Clusters that probably want the other protocol, unless the file itself says which."""
    for index, process in enumerate(configuration.processes):
        where: KeyPath = ("processes", index, "cluster")
        if process.cluster is None or process.cluster.common_port is None:
            continue
        server = web_server(process.cmd)
        if server is not None and where + ("protocol",) not in document.lines:
            yield where, _HTTP_HINT.format(server, *(
                ('"protocol": "http"', '"protocol": "tcp"') if document.is_json
                else ('protocol = "http"', 'protocol = "tcp"')))


def _token_problems(token: str, path: str) -> Iterator[str]:
    if len(token) < _LONG_ENOUGH:
        yield "it is shorter than %d characters, and may be guessed" % _LONG_ENOUGH
    if _everybody_reads(path):
        yield "every user of this machine can read it in this file (chmod o-r)"


def _everybody_reads(path: str) -> bool:
    """Somebody who is neither its owner nor of its group; the folders above count, too."""
    try:
        found = os.stat(path).st_mode & stat.S_IROTH
        while found and path != "/":
            path = os.path.dirname(path)
            found = os.stat(path).st_mode & stat.S_IXOTH
    except OSError:
        return False
    return bool(found)


def _program_problem(process: Process) -> Optional[str]:
    """What is wrong with the program of its command."""
    word = programs.program_of(process.cmd)
    if word is None:
        return None
    variables = model.variables_of(process, model.instance_specs(process)[0])
    path = variables.get("PATH", os.environ.get("PATH", os.defpath))
    path = ":".join(filter(None, (path, process.path)))
    reason = programs.program_problem(*(
        encoded(each) for each in (word, path, process.cwd)))
    return reason and "%s %s" % (word, reason)
