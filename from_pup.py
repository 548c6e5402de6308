"""`init --from=pup.json`: a configuration of Pup as TOML, which has the same keys.

pupgevent runs a pup.json as it is, as far as it has the keys. Here what it has not becomes a
comment, and so does what Pup does otherwise where a key is left out.
"""

import json
from typing import Dict

import keys
from documents import Document
from drafts import Draft, Section
from errors import ConfigurationError
from pup_differences import DEFAULTS, INSTEAD
from schema import Table

#: Keys whose values are paths, or arrays of them.
_PATHS = frozenset("cwd pidFile stdout stderr socket envFile watch".split())


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
    for index, process in enumerate(processes):
        if not isinstance(process, dict):
            line = document.line("processes", index)
            raise ConfigurationError(path, line, "processes[%d] is no object" % index)
        if _has_cmd(process):
            _write_process(draft, process)
        else:
            draft.secret = True
            draft.head.lose(_line("process %s" % process.get("id"), process),
                            "It has no cmd.", _sentence("worker"))


def _has_cmd(process: Dict[str, object]) -> bool:
    return isinstance(process.get("cmd"), (str, list))


def _write_process(draft: Draft, process: Dict[str, object]) -> None:
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


def _write_table(
    draft: Draft, section: Section, table: Table, values: Dict[str, object]
) -> None:
    inside = {key.name: key.type for key in table.keys
              if isinstance(key.type, Table) and key.supported}
    for name, value in values.items():
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
