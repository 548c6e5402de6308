"""What docs/migrating.md says of keys and commands is what the code has."""

import json
import re
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

import pytest

import configuration
import keys
import usage
from errors import ConfigurationError
from schema import Key, Table

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")

#: Every key of the schema of Pup 1.0.4.
PUPS = """
    $schema name terminateTimeout terminateGracePeriod processes
    api.hostname api.port api.revoked plugins.url plugins.options
    logger.console logger.stdout logger.stderr logger.colors logger.decorate logger.decorateFiles
    logger.internalLogHours watcher.interval watcher.exts watcher.match watcher.skip
    processes.id processes.cmd processes.worker processes.cwd processes.env processes.path
    processes.pidFile processes.autostart processes.cron processes.terminate processes.overrun
    processes.timeout processes.watch processes.restart processes.restartDelayMs
    processes.restartLimit processes.terminateTimeout processes.terminateGracePeriod
    processes.cluster.instances processes.cluster.startPort processes.cluster.commonPort
    processes.cluster.strategy processes.logger.console processes.logger.stdout
    processes.logger.stderr processes.logger.decorate processes.logger.decorateFiles
""".split()


class Row(NamedTuple):
    """One row of a table."""

    theirs: str
    ours: str
    differs: str

    @property
    def words(self) -> List[str]:
        """What the middle column names of ours."""
        return re.findall("`([^`]+)`", self.ours)

    @property
    def keys(self) -> List[str]:
        return [word.partition(" = ")[0] for word in self.words if not is_command(word)]


def rows(text: str) -> List[Row]:
    found = [[cell.strip() for cell in line[1:-1].split(" | ")]
             for line in text.splitlines() if line.startswith("| ")]
    assert {len(cells) for cells in found} == {3}
    return [Row(*cells) for cells in found if cells[1] != "here"]


def is_command(word: str) -> bool:
    return word.startswith("pupgevent ")


ROWS = rows(TEXT)
#: Those of Pup's keys: the first table of the part on it.
PUP_ROWS = rows(TEXT.partition("\n\n| Pup | here")[2].partition("\n\n")[0])


def find(path: str, table: Table) -> Optional[Key]:
    """The record of a key that is named with dots from a table on."""
    name, _, rest = path.partition(".")
    for key in table.keys:
        if key.name == name:
            return find(rest, key.type) if rest and isinstance(key.type, Table) else (
                None if rest else key)
    return None


def found_key(path: str) -> Optional[Key]:
    """Of the top level, or of a process; None where there is no such key."""
    return find(path, keys.PROCESS) or find(path, keys.TOP)


def test_every_key_of_ours_that_a_table_names_exists() -> None:
    named = {name for row in ROWS for name in row.keys}
    assert len(named) > 40
    missing = {name for name in named if found_key(name) is None and name not in keys.IGNORED}
    assert missing == set()


def test_every_value_that_a_table_gives_a_key_is_one_that_it_takes() -> None:
    values = [word.split(" = ") for row in ROWS for word in row.words if " = " in word]
    assert len(values) > 5
    for name, value in values:
        key = found_key(name)
        assert key is not None and not isinstance(key.type, Table)
        key.type.convert(json.loads(value), "/")


def test_every_command_of_ours_that_a_table_names_exists() -> None:
    lines = [word for row in ROWS for word in row.words if is_command(word)]
    assert len(lines) > 30
    for line in lines:
        command, *options = line.split()[1:]
        if "." in command:
            continue
        assert command in usage.COMMANDS or command in usage.OPTIONS, line
        for option in options:
            taken = not option.startswith("-") or command in usage.goes_with(option.split("=")[0])
            assert taken, line


def test_no_row_says_not_yet_of_a_key_that_is_there() -> None:
    """Where a row names no key, what is to come may be announced, too."""
    assert [row for row in ROWS if "not yet" in row.differs and any(map(found_key, row.keys))] == []


def test_every_key_of_pup_has_its_row() -> None:
    assert sorted(row.theirs.strip("`") for row in PUP_ROWS) == sorted(PUPS)


def test_every_key_that_both_have_is_named_for_pups() -> None:
    named = {row.theirs.strip("`"): row.keys for row in PUP_ROWS}
    both = [name for name in PUPS if found_here(name)]
    assert len(both) > 25
    for name in both:
        assert named[name] == [name.replace("processes.", "")]


def found_here(pups: str) -> Optional[Key]:
    """The key of ours with the same name in the same table."""
    outer, _, inner = pups.partition("processes.")
    return find(inner, keys.PROCESS) if inner else find(outer, keys.TOP)


REFUSED = [row.theirs.strip("`") for row in PUP_ROWS if row.ours == "refused"]


def test_what_is_not_refused_is_there() -> None:
    assert {name.split(".")[0] for name in REFUSED} == {"api", "plugins", "processes"}
    for row in PUP_ROWS:
        name = row.theirs.strip("`")
        assert name in REFUSED or name in keys.IGNORED or found_here(name)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused(name: str, tmp_path: Path) -> None:
    process: Dict[str, object] = {"id": "app", "cmd": "true"}
    top: Dict[str, object] = {"processes": [process]}
    outer, _, inner = name.partition(".")
    if outer == "processes":
        process[inner] = ["worker.ts"]
    else:
        top[outer] = {inner: "x"}
    path = tmp_path / "pup.json"
    path.write_text(json.dumps(top))
    refused = inner if outer == "processes" else outer
    with pytest.raises(ConfigurationError, match=refused):
        configuration.load(str(path))


def test_every_link_of_the_documents_leads_somewhere() -> None:
    for name in ("machines.md", "migrating.md", "recipes.md", "servers.md"):
        path = ROOT / "docs" / name
        for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
            file, _, anchor = target.partition("#")
            if "://" in target:
                continue
            there = path.parent / file if file else path
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), target


def anchors(path: Path) -> List[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.*)$", path.read_text(encoding="utf-8"))
    return [re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings]
