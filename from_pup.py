"""`init --from=pup.json`: a configuration of Pup as TOML, which has the same keys.

pupgevent runs a pup.json as it is, as far as it has the keys. Here what it has not becomes a
comment, and so does what Pup does otherwise where a key is left out.
"""

import json
from typing import Dict, List

import keys
from documents import Document
from drafts import Draft, Section
from errors import ConfigurationError
from known_servers import web_server
from pup_differences import DEFAULTS, INSTEAD, ONE_FILE, ROTATION, has_log_file
from schema import Table

#: Keys whose values are paths, or arrays of them.
_PATHS = frozenset("accessLog cwd pidFile stdout stderr socket envFile watch".split())


def fill(draft: Draft, path: str, document: Document) -> None:
    """Carry a configuration over; raises ConfigurationError."""
    processes = document.values.get("processes")
    if not isinstance(processes, list) or not processes:
        raise ConfigurationError(path, document.line("processes"), "processes has none")
    if not any(isinstance(process, dict) and _has_cmd(process) for process in processes):
        raise ConfigurationError(path, document.line("processes"), "no process in it has a cmd")
    top = {name: value for name, value in document.values.items()
           if name != "processes" and name not in keys.IGNORED}
    _write_table(draft, draft.head, keys.TOP, top)
    _write_rotation(draft.head, top, processes)
    for index, process in enumerate(processes):
        if not isinstance(process, dict):
            line = document.line("processes", index)
            raise ConfigurationError(path, line, "processes[%d] is no object" % index)
        if _has_cmd(process):
            _write_process(draft, process, top)
        else:
            draft.secret = True
            draft.head.lose(_line("process %s" % process.get("id"), process),
                            "It has no cmd.", _sentence("worker"))


def _has_cmd(process: Dict[str, object]) -> bool:
    return isinstance(process.get("cmd"), (str, list))


def _write_process(draft: Draft, process: Dict[str, object], top: Dict[str, object]) -> None:
    cluster = process.get("cluster")
    count = draft.count_of(cluster.get("instances", 1)) if isinstance(cluster, dict) else 0
    section = draft.add_process(str(process.get("id", "app")), count)
    if draft.moved:
        process.setdefault("cwd", ".")
    _write_table(draft, section, keys.PROCESS, {
        name: value for name, value in process.items() if name != "id"})
    if process.get("autostart") is True:
        for name, value, text in DEFAULTS:
            if name not in process:
                section.say(text)
                section.disable(name, value)
    if isinstance(cluster, dict) and "commonPort" in cluster and "protocol" not in cluster:
        section.inside("cluster").set_protocol(_is_web_server(process["cmd"]))
    if has_log_file(process) and has_log_file(top):
        section.inside("logger").say(ONE_FILE)


def _is_web_server(cmd: object) -> bool:
    return web_server(list(map(str, cmd)) if isinstance(cmd, list) else str(cmd)) is not None


def _write_table(
    draft: Draft, section: Section, table: Table, values: Dict[str, object]
) -> None:
    inside = {key.name: key.type for key in table.keys if isinstance(key.type, Table)}
    # A logger has its limits before the files for which they count.
    for name, value in sorted(values.items(), key=lambda item: item[0] in ("stdout", "stderr")):
        if name == "env" and isinstance(value, dict):
            _write_variables(section, value)
        elif name in inside and isinstance(value, dict):
            _write_table(draft, section.inside(name), inside[name], value)
        elif name in INSTEAD:
            # A plug-in's options may be keys and passwords.
            draft.secret = True
            section.lose(_line(name, value), _sentence(name))
        else:
            section.set(name, _placed(draft, name, value), _line(name, value))


def _write_rotation(
    head: Section, top: Dict[str, object], processes: List[object]
) -> None:
    """What Pup does otherwise with log files, where there are any."""
    logger = top.get("logger")
    if isinstance(logger, dict) and ROTATION.key in logger:
        return
    if any(isinstance(each, dict) and has_log_file(each) for each in (top, *processes)):
        head.inside("logger").say(ROTATION.text)
        head.inside("logger").disable(ROTATION.key, ROTATION.value)


def _sentence(name: str) -> str:
    text = INSTEAD[name]
    return text[0].upper() + text[1:] + "."


def _write_variables(section: Section, variables: Dict[str, object]) -> None:
    for name, value in variables.items():
        section.variable(name, value)


def _placed(draft: Draft, name: str, value: object) -> object:
    if name == "path" and isinstance(value, str):
        return ":".join(map(draft.place, value.split(":")))
    if name not in _PATHS:
        return value
    if isinstance(value, list):
        return [draft.place(each) if isinstance(each, str) else each for each in value]
    return draft.place(value) if isinstance(value, str) else value


def _line(name: str, value: object) -> str:
    return "%s: %s" % (json.dumps(name), json.dumps(value, ensure_ascii=False))
