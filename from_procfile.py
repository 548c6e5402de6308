"""`init --from=Procfile`: the processes of a Procfile, as Heroku, foreman and honcho read it.

A line is `name: command`; whatever else is passed over, as foreman does. There each type of process
has a port of its own in PORT: 5000 for the first, 5100 for the second. Here a process is a cluster
where it is called `web`, as only that one gets clients on Heroku, or where its command has $PORT.
"""

import os
import re
from typing import Dict, List, NamedTuple, Optional

import documents
from drafts import Draft, Section
from errors import ConfigurationError, format_value
from known_servers import web_server

_LINE = re.compile(r"([A-Za-z0-9_-]+):\s*(\S.*)")
_USES_PORT = re.compile(r"\$(?:PORT\b|\{PORT\b)", re.ASCII)

#: PORT in a file of variables, whatever its quotes are.
_PORT_VARIABLE = re.compile(r"^[ \t]*(?:export[ \t]+)?PORT[ \t]*=[ \t]*[\"']?(\d{1,5})\b", re.M)

#: foreman's port for the first type of process, and the distance to the next.
_FIRST_PORT, _STEP = 5000, 100

#: One-off processes: Heroku runs `release` once for each release, and `console` when asked to.
_ONCE = ("release", "console")


class _Line(NamedTuple):
    number: int
    name: str
    command: str


def fill(draft: Draft, path: str, text: str) -> None:
    """Carry a Procfile over; raises ConfigurationError."""
    lines = text.replace("\r\n", "\n").split("\n")
    processes = _processes(path, lines)
    variables = _variables(draft.origin)
    _about(draft.head, lines)
    port = _port_of(variables)
    for place, line in enumerate(processes):
        _add(draft, line, variables, (port or _FIRST_PORT) + _STEP * place)
    if port is not None:
        draft.head.say(
            "commonPort comes from PORT of .env, from which foreman counts up. An instance has its"
            " own port in PORT.")


def _processes(path: str, lines: List[str]) -> List[_Line]:
    """Raises ConfigurationError where there is none, or not what it takes to run one."""
    found: Dict[str, _Line] = {}
    for number, text in enumerate(lines, 1):
        match = _LINE.match(text)
        if match is None:
            continue
        line = _Line(number, match.group(1), match.group(2).rstrip())
        if line.name in found:
            raise ConfigurationError(path, number, "%s is the process of line %d already" % (
                format_value(line.name), found[line.name].number))
        found[line.name] = line
    if not found:
        raise ConfigurationError(path, None, "no process is in it (name: command)")
    return list(found.values())


def _variables(folder: str) -> str:
    """The text of the .env beside the Procfile, which foreman and honcho read; "" where none is."""
    try:
        return documents.read_text(os.path.join(folder, ".env"))
    except ConfigurationError:
        return ""


def _port_of(variables: str) -> Optional[int]:
    found = _PORT_VARIABLE.findall(variables)
    return int(found[-1]) if found else None


def _about(head: Section, lines: List[str]) -> None:
    head.say("foreman and honcho stop everything when one process ends: essential = true does that"
             " here. Else each is restarted by itself.")
    others = [text.strip() for text in lines if text.strip() and not _LINE.match(text)]
    comments = [text for text in others if text.startswith("#")]
    if comments:
        head.quote(text.lstrip("# ") for text in comments)
    for text in others:
        if not text.startswith("#"):
            head.lose(text, "It is no line of a Procfile (name: command).")


def _add(draft: Draft, line: _Line, variables: str, port: int) -> None:
    clustered = line.name == "web" or _USES_PORT.search(line.command) is not None
    process = draft.add_process(line.name, 1 if clustered else 0)
    process.set("cmd", line.command)
    if draft.moved:
        process.set("cwd", draft.place("."))
    if variables:
        process.set("envFile", draft.place(".env"), ".env beside the Procfile")
    if line.name in _ONCE:
        process.say("It runs when it is asked to: pupgevent start CONFIG %s" % process.id)
        process.set("autostart", False)
        return
    process.set("autostart", True)
    process.set("restart", "always")
    if clustered:
        # On Heroku `web` gets requests, and nothing else.
        is_http = line.name == "web" or web_server(line.command) is not None
        _add_cluster(draft, process, port, is_http)


def _add_cluster(draft: Draft, process: Section, port: int, is_http: bool) -> None:
    cluster = process.inside("cluster")
    cluster.say("Instance n, from 0, gets startPort + n in PORT, and listens there. Clients come to"
                ' commonPort. More instances are a matter of the number ("auto": one per CPU).')
    cluster.set("instances", 1)
    cluster.set("commonPort", draft.ports.find(1, port))
    cluster.set("startPort", draft.ports.find(1))
    cluster.set_protocol(is_http)
