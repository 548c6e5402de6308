"""What CI does with a test that has failed: one more try, and its name if it passes then."""

import os
import subprocess
import sys
from pathlib import Path
from typing import List

TESTS = Path(__file__).resolve().parent

#: Fails in its first run, and passes from the second on; its neighbours do always the same.
MODULE = """
import os

def test_by_chance():
    there = os.path.exists("seen")
    open("seen", "w").close()
    assert there

def test_good():
    pass

def test_bad():
    assert False
"""


def run_pytest(folder: Path, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = dict(os.environ, PYTHONPATH=str(TESTS), **variables)
    command: List[str] = [
        sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:xdist",
        "-c", os.devnull, "--rootdir", str(folder), "-o", "cache_dir=%s" % (folder / "cache"),
        "test_module.py", *words]
    return subprocess.run(
        command, cwd=str(folder), env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, universal_newlines=True, timeout=100, check=False)


def test_who_passes_in_the_second_try_only_is_named(tmp_path: Path) -> None:
    (tmp_path / "test_module.py").write_text(MODULE)
    first = run_pytest(tmp_path)
    assert first.returncode == 1
    assert "FLAKY" not in first.stdout
    again = run_pytest(tmp_path, "--last-failed", "--last-failed-no-failures=none",
                       PUPGEVENT_TEST_AGAIN="1")
    assert again.returncode == 1
    named = [line for line in again.stdout.splitlines() if line.startswith("FLAKY")]
    assert named == ["FLAKY test_module.py::test_by_chance"], again.stdout
    assert "1 failed, 1 passed" in again.stdout


def test_a_second_try_of_nothing_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "test_module.py").write_text("def test_good():\n    pass\n")
    assert run_pytest(tmp_path).returncode == 0
    again = run_pytest(tmp_path, "--last-failed", "--last-failed-no-failures=none")
    assert again.returncode == 5, again.stdout
