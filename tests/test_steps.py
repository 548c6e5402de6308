"""What takes minutes says what it does, a line for each step, in a pipe as well."""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, List

import pytest

import every_python
from conftest import eventually
from running import ROOT

TESTS = """
import pytest

@pytest.mark.parametrize("number", range(%d))
def test_it(number):
    pass
"""


def pytest_in(folder: Path, count: int, *words: str, **variables: str) -> None:
    """Run so many tests, with the plug-in that tells how far they are."""
    (folder / "conftest.py").write_text(
        "import progress\n\ndef pytest_configure(config):\n    progress.register(config)\n")
    (folder / "test_it.py").write_text(TESTS % count)
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "tests"), **variables)
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, str(folder)],
        check=False, cwd=str(folder), env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize("words", [[], ["-n", "2"]])
def test_a_run_of_the_tests_tells_each_tenth_once(tmp_path: Path, words: List[str]) -> None:
    told = tmp_path / "told"
    pytest_in(tmp_path, 30, *words, PUPGEVENT_TEST_PROGRESS=str(told), TOX_ENV_NAME="py311")
    assert told.read_text().splitlines() == [
        "py311: %d of 30 tests" % done for done in range(0, 31, 3)]


def test_a_run_that_nobody_asks_tells_nothing(tmp_path: Path) -> None:
    pytest_in(tmp_path, 3, PUPGEVENT_TEST_PROGRESS="")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "conftest.py", "test_it.py"]


def test_what_is_told_is_shown_while_the_tests_run(capsys: Any) -> None:
    with tempfile.NamedTemporaryFile("r") as progress:
        every_python.show(progress)
        for line in ("py36: 1 of 2 tests\n", "py36: 2 of 2 tests\n"):
            with open(progress.name, "a") as file:
                file.write(line)
            every_python.show(progress)
            assert capsys.readouterr().out == line


def test_a_download_says_in_a_pipe_what_is_to_be_done_before_it_is(tmp_path: Path) -> None:
    """Here pip has no index to ask: that is an end, and not a wait for ever."""
    environment = dict(os.environ, PIP_NO_INDEX="1", PIP_FIND_LINKS="", PYTHONUNBUFFERED="")
    command = [sys.executable, "-m", "onefile.fetch", str(tmp_path)]
    with tempfile.TemporaryFile() as errors, subprocess.Popen(
        command, cwd=str(ROOT), env=environment, stdout=subprocess.PIPE, stderr=errors
    ) as fetch:
        assert fetch.stdout is not None
        began = time.monotonic()
        line = fetch.stdout.readline().decode()
        assert re.match(r"onefile: (\d+) of \1 wheels are to be downloaded\n\Z", line)
        eventually(lambda: fetch.poll() is not None, 100 - (time.monotonic() - began))
        errors.seek(0)
        assert fetch.returncode == 1 and b"pip ended with exit code" in errors.read()
