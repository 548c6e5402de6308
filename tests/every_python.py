"""Run the tests on every installed Python that pupgevent supports, and count them for each.

Started by `make test-all`, with tox in the same environment. Interpreters are found on PATH and
among pyenv's versions, which need not be on PATH. What is not installed is named and left out;
that none is installed, or that one passes without a test, is a failure. With PUPGEVENT_TEST_QUICK,
the Python that this one is itself is left to `make test`, which runs all on it.

What fails is tried once more, by itself: a machine that others use makes one test of thousands
late now and then. A test that passes then is listed under FLAKY, to be mended.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

MINORS = range(6, 14)
#: Seconds between two looks at how far the tests are.
LOOK_EVERY = 1.0
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


def run_tox(interpreters: Dict[str, str], pytest_words: List[str], at_once: int) -> int:
    """So many environments at once; of several, tox shows the output of those that fail, and we how
    far each is.

    PATH tells tox where to look: its option --discover is forgotten by parallel runs.
    """
    folders = [os.path.dirname(path) for path in interpreters.values()]
    search = os.pathsep.join(folders + [os.environ.get("PATH", os.defpath)])
    parallel = ["-p", str(at_once)] if at_once > 1 else []
    command = [sys.executable, "-m", "tox", *parallel, "-e", ",".join(interpreters), "--"]
    environment = dict(os.environ, PATH=search, TOX_PARALLEL_NO_SPINNER="1")
    if at_once == 1:
        return subprocess.call(command + pytest_words, cwd=str(ROOT), env=environment)
    with tempfile.NamedTemporaryFile("r", suffix=".progress") as progress:
        environment["PUPGEVENT_TEST_PROGRESS"] = progress.name
        tox = subprocess.Popen(command + pytest_words, cwd=str(ROOT), env=environment)
        while tox.poll() is None:
            time.sleep(LOOK_EVERY)
            show(progress)
        show(progress)
        return int(tox.returncode)


def show(progress: Iterable[str]) -> None:
    """Print the lines that have come since the last look: see tests/progress.py."""
    for line in progress:
        print(line.rstrip("\n"), flush=True)


class Report(NamedTuple):
    """What one run of pytest has counted, and the names of what went wrong."""

    counts: "Counter[str]"
    bad: Set[str]


def read_report(path: Path) -> Report:
    """From a JUnit file; nothing is in it where pytest did not get that far."""
    if not path.exists():
        return Report(Counter(), set())
    suite = ElementTree.parse(str(path)).getroot()[0]
    counts = Counter({word: int(suite.get(name, 0)) for word, name in (
        ("failed", "failures"), ("errors", "errors"), ("skipped", "skipped"))})
    counts["passed"] = int(suite.get("tests", 0)) - sum(counts.values())
    bad = {"%s::%s" % (case.get("classname"), case.get("name")) for case in suite.iter("testcase")
           if case.find("failure") is not None or case.find("error") is not None}
    return Report(counts, bad)


def try_again(name: str, path: str, first: Report, pytest_words: List[str]) -> "Counter[str]":
    """Run what has failed in one environment once more, or all of it where it did not get to the
    tests; what it counts in the end."""
    report = fresh_report(name + "-again")
    words = [*pytest_words, "--junitxml=%s" % report]
    if first.bad:
        words += ["--last-failed", "--last-failed-no-failures=none"]
    status = run_tox({name: path}, words, at_once=1)
    second = read_report(report)
    if status and is_good(second.counts):
        second.counts["errors"] += 1
    if not first.bad:
        return second.counts
    if not second.counts["passed"]:
        return first.counts
    for test in sorted(first.bad - second.bad):
        print("FLAKY %s %s" % (name, test))
    kept = Counter(passed=first.counts["passed"], skipped=first.counts["skipped"])
    return kept + second.counts


def fresh_report(name: str) -> Path:
    """Where pytest is to write; what an earlier run has written is gone."""
    path = ROOT / ".tox" / (name + ".xml")
    if path.exists():
        path.unlink()
    return path


def total(counts: "Iterable[Counter[str]]") -> "Counter[str]":
    return sum(counts, Counter())


def describe(counts: "Counter[str]") -> str:
    words = [word for word in ("passed", "failed", "errors", "skipped") if counts[word]]
    return ", ".join("%d %s" % (counts[word], word) for word in words) or "no tests ran"


def is_good(counts: "Counter[str]") -> bool:
    return bool(counts["passed"]) and not counts["failed"] and not counts["errors"]


def choose(found: Dict[int, Optional[str]], quick: bool, own: int) -> Dict[str, str]:
    """Name and interpreter of each environment to be tested; `quick` leaves out our own Python,
    3.`own`. The long ones come first, so that the last two end at about the same time."""
    chosen = {minor: path for minor, path in found.items() if path}
    if quick and len(chosen) > 1:
        chosen.pop(own, None)
    ends_first = sorted(chosen, key=lambda minor: (minor not in (MINORS[0], MINORS[-1]), minor))
    return {"py3%d" % minor: chosen[minor] for minor in ends_first}


def main(pytest_words: List[str]) -> int:
    found = {minor: find_interpreter(minor) for minor in MINORS}
    interpreters = choose(found, bool(os.environ.get("PUPGEVENT_TEST_QUICK")), sys.version_info[1])
    if not interpreters:
        print("no Python from 3.%d to 3.%d is installed" % (MINORS[0], MINORS[-1]))
        return 1
    absent = {minor: "is left to `make test`" if found[minor] else "is not installed"
              for minor in MINORS if "py3%d" % minor not in interpreters}
    for minor in MINORS:
        print("Python 3.%-3d %s" % (minor, absent.get(minor, found[minor])), flush=True)
    print("%d environments, two at a time: each is set up, then tested" % len(interpreters),
          flush=True)
    paths = {name: fresh_report(name) for name in interpreters}
    status = run_tox(interpreters, pytest_words, at_once=2)
    counts = {}
    for name, path in interpreters.items():
        report = read_report(paths[name])
        counts[name] = report.counts
        if not is_good(report.counts):
            status = 0
            print("%s: %s; once more" % (name, describe(report.counts)), flush=True)
            counts[name] = try_again(name, path, report, pytest_words)
    for minor in MINORS:
        print("Python 3.%-3d %s" % (
            minor, absent.get(minor) or describe(counts["py3%d" % minor])))
    print("=== %s on %d interpreters ===" % (describe(total(counts.values())), len(counts)))
    return status or (0 if all(map(is_good, counts.values())) else 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
