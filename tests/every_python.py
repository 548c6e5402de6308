"""Run the tests on every installed Python that pupgevent supports, and count them for each.

Started by `make test-all`, with tox in the same environment. Interpreters are found on PATH and
among pyenv's versions, which need not be on PATH. What is not installed is named and left out;
that none is installed, or that one passes without a test, is a failure.
"""

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Tuple

MINORS = range(6, 14)
ROOT = Path(__file__).resolve().parent.parent
PYENV = Path(os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv")))


def find_interpreter(minor: int) -> Optional[str]:
    """The path of a working CPython 3.`minor`: what PATH says, else pyenv's newest."""
    name = "python3.%d" % minor
    newest_first = sorted(PYENV.glob("versions/3.%d.*/bin/%s" % (minor, name)),
                          key=patch_release, reverse=True)
    on_path = shutil.which(name)
    candidates = ([on_path] if on_path else []) + [str(path) for path in newest_first]
    return next((path for path in candidates if is_cpython(path, minor)), None)


def patch_release(path: Path) -> Tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", path.parent.parent.name))


def is_cpython(path: str, minor: int) -> bool:
    """False also for a pyenv shim whose version is not chosen."""
    question = "import sys; print(sys.implementation.name, *sys.version_info[:2])"
    asked = subprocess.run([path, "-c", question], stdout=subprocess.PIPE, check=False,
                           stderr=subprocess.DEVNULL, universal_newlines=True)
    return asked.stdout.split() == ["cpython", "3", str(minor)]


def run_tox(interpreters: Dict[str, str], pytest_words: List[str]) -> int:
    """Two environments at a time; tox shows the output of those that fail.

    PATH tells tox where to look: its option --discover is forgotten by parallel runs.
    """
    folders = [os.path.dirname(path) for path in interpreters.values()]
    search = os.pathsep.join(folders + [os.environ.get("PATH", os.defpath)])
    command = [sys.executable, "-m", "tox", "-p", "2", "-e", ",".join(interpreters), "--"]
    environment = dict(os.environ, PATH=search, TOX_PARALLEL_NO_SPINNER="1")
    return subprocess.call(command + pytest_words, cwd=str(ROOT), env=environment)


def read_counts(report: Path) -> "Counter[str]":
    """What pytest counted, from its JUnit report; nothing where it did not get that far."""
    if not report.exists():
        return Counter()
    suite = ElementTree.parse(str(report)).getroot()[0]
    counts = Counter({word: int(suite.get(name, 0)) for word, name in (
        ("failed", "failures"), ("errors", "errors"), ("skipped", "skipped"))})
    counts["passed"] = int(suite.get("tests", 0)) - sum(counts.values())
    return counts


def total(counts: "Iterable[Counter[str]]") -> "Counter[str]":
    return sum(counts, Counter())


def describe(counts: "Counter[str]") -> str:
    words = [word for word in ("passed", "failed", "errors", "skipped") if counts[word]]
    return ", ".join("%d %s" % (counts[word], word) for word in words) or "no tests ran"


def main(pytest_words: List[str]) -> int:
    found = {minor: find_interpreter(minor) for minor in MINORS}
    interpreters = {"py3%d" % minor: path for minor, path in found.items() if path}
    if not interpreters:
        print("no Python from 3.%d to 3.%d is installed" % (MINORS[0], MINORS[-1]))
        return 1
    reports = {name: ROOT / ".tox" / (name + ".xml") for name in interpreters}
    for report in reports.values():
        if report.exists():
            report.unlink()
    status = run_tox(interpreters, pytest_words)
    counts = {name: read_counts(report) for name, report in reports.items()}
    for minor in MINORS:
        name = "py3%d" % minor
        print("Python 3.%-3d %s" % (minor, describe(counts[name]) if found[minor]
                                    else "not installed"))
    every_one_passed = all(count.get("passed") for count in counts.values())
    print("=== %s on %d interpreters ===" % (describe(total(counts.values())), len(counts)))
    return status or (0 if every_one_passed else 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
