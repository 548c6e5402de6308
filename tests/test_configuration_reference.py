"""What is told of the keys elsewhere is what their records say."""

import json
import re
import shutil
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import pytest

import certificates
import cluster_keys
import configuration
import documents
import keys
from schema import Derived, Key, Required, Table

ROOT = Path(__file__).resolve().parent.parent
FULL = ROOT / "conf" / "full.toml"

#: All tables that conf/full.toml shows: of the records, and the logger of a process.
SHOWN = {table.title: table for table in (*keys.TABLES, keys.PROCESS_LOGGER)}
EVERY_KEY = [(title, key) for title, table in SHOWN.items() for key in table.keys]
EVERY_VALUE = [(title, key) for title, key in EVERY_KEY if not isinstance(key.type, Table)]


def ids(value: Any) -> str:
    return value.name if isinstance(value, Key) else str(value)


def test_readme_has_the_reference_of_all_keys() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search("<!-- keys -->\n(.*)<!-- /keys -->", text, re.DOTALL)
    assert found is not None
    assert found.group(1).strip() == keys.reference().strip()


@pytest.mark.parametrize("table", keys.TABLES, ids=lambda table: table.title or "top")
def test_reference_tells_each_key_once_with_its_default(table: Table) -> None:
    title = "### `%s`\n" % table.header if table.title else "### Top level\n"
    section = keys.reference().partition(title)[2].partition("\n###")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert len(rows) == len(table.keys)
    for row, key in zip(rows, table.keys):
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert len(cells) == 4 and all(cells)
        assert cells[0] == "`%s`" % key.name
        assert cells[2] == key.default_text


class Shown(NamedTuple):
    """A key as conf/full.toml shows it."""

    commented: bool
    literal: str
    #: The lines of comment above it.
    said: str


def shown_keys() -> Dict[str, Dict[str, Shown]]:
    """All keys of conf/full.toml, by table; a table stands as a key of the one around it."""
    tables: Dict[str, Dict[str, Shown]] = {"": {}}
    said: List[str] = []
    title = ""
    for line in FULL.read_text(encoding="utf-8").splitlines():
        header = re.match(r"(#?)\[\[?([\w.]+)\]\]?$", line)
        value = re.match(r"(#?)(\w+) = (.*)$", line)
        if header:
            title = header.group(2)
            outer, _, name = title.rpartition(".")
            tables[outer][name] = Shown(bool(header.group(1)), "", " ".join(said))
            tables[title] = {}
        elif value:
            commented = bool(value.group(1))
            tables[title][value.group(2)] = Shown(commented, value.group(3), " ".join(said))
        said = said + [line.lstrip("# ")] if line.startswith("# ") else []
    return tables


ALL_SHOWN = shown_keys()


def shown(title: str, key: Key) -> Optional[Shown]:
    return ALL_SHOWN[title].get(key.name)


@pytest.mark.parametrize("title, key", EVERY_KEY, ids=ids)
def test_full_configuration_shows_the_key(title: str, key: Key) -> None:
    found = shown(title, key)
    assert found is not None
    if isinstance(key.default, (Required, Derived)):
        assert ("default: " + key.default.text) in found.said


@pytest.mark.parametrize("title, key", EVERY_VALUE, ids=ids)
def test_full_configuration_shows_the_default(title: str, key: Key) -> None:
    found = shown(title, key)
    assert found is not None
    if title == "processes.env" or isinstance(key.default, Required):
        return
    if isinstance(key.default, Derived):
        assert found.commented
    elif key.default != {}:
        assert found.literal == json.dumps(key.default)
        assert found.commented is not table_is_on(title)


#: Tables that turn something on by being there.
OFF = ("dashboard", "agent", "health", "passive", "tls")


def table_is_on(title: str) -> bool:
    """There without being asked for."""
    outer, _, name = title.rpartition(".")
    if not title:
        return True
    return name not in OFF and table_is_on(outer)


def test_full_configuration_shows_no_other_key() -> None:
    for title, found in ALL_SHOWN.items():
        if title != "processes.env":
            assert set(found) == set(SHOWN[title].names)


def test_what_is_not_commented_out_there_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "full.toml").write_text(
        '[[processes]]\nid = "app"\ncmd = "python3 server.py"\n[processes.cluster]\n'
    )
    full = configuration.load(str(FULL))
    short = configuration.load(str(tmp_path / "full.toml"))
    at_home = short.processes[0]._replace(
        cwd=full.folder, real_cwd=full.processes[0].real_cwd)
    assert full == short._replace(
        path=full.path, real_path=full.real_path, folder=full.folder, processes=(at_home,)
    )


def test_what_is_commented_out_there_can_be_put_in(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^#(?=\S)", "", FULL.read_text(encoding="utf-8"))
    text = text.replace('protocol = "tcp"', 'protocol = "http"')
    text = re.sub(r'(?m)^(user|group) = ".*"$', r"\1 = 0", text)
    (tmp_path / ".env").write_text("")
    made = certificates.make(tmp_path)
    for each, name in zip((*made, made.cert), ("cert.pem", "key.pem", "clients.pem")):
        shutil.copy(each, str(tmp_path / name))
    path = tmp_path / "all.toml"
    path.write_text(text, encoding="utf-8")
    values: Any = documents.read(str(path)).values
    assert set(values) == set(keys.TOP.names)
    assert set(values["processes"][0]) == set(keys.PROCESS.names)
    assert set(values["processes"][0]["cluster"]) == set(cluster_keys.CLUSTER.names)
    path.write_text(re.sub("(?m)^(user|group) = 0$", "", text), encoding="utf-8")
    loaded = configuration.load(str(path))
    assert loaded.dashboard is not None
    assert loaded.processes[0].env == {
        "APP_MODE": "production",
        "APP_WORKERS": "2",
        "APP_DEBUG": "false",
    }
