"""The shell's lines at the head of the single file: a file that is not whole is told so."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import List, Tuple

import pytest

from onefile import archives

ROOT = Path(__file__).resolve().parent.parent
LINES = (ROOT / "onefile" / "launcher.sh").read_bytes()

pytestmark = pytest.mark.skipif(sys.version_info < (3, 8), reason="the build needs Python 3.8")

#: In the place of pupgevent.
PROGRAM = b"import sys\nprint('here', *sys.argv[1:])\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A small file of the same make."""
    path = tmp_path / "single file"
    entries = [("__main__.py", PROGRAM, False), ("bulk", b"x\n\0" * 50000, False)]
    path.write_bytes(archives.behind(LINES, entries))
    path.chmod(0o755)
    return path


def start(file: Path, *words: str, path: str = "/usr/bin:/bin") -> Tuple[int, str, str]:
    done = subprocess.run(
        [str(file), *words], env={"PATH": path, "PUPGEVENT_PYTHON": sys.executable}, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_a_whole_file_runs(file: Path) -> None:
    assert start(file, "a b", "c") == (0, "here a b c\n", "")


def lengths(whole: int) -> List[int]:
    """Cut within the shell's lines, at their end, within the archive, and by one byte."""
    return [len(LINES) - 100, len(LINES) + 6, len(LINES) + 300, whole // 2, whole - 22, whole - 1]


def test_a_file_that_is_cut_off_is_told_in_one_line(file: Path) -> None:
    whole = file.read_bytes()
    for length in lengths(len(whole)):
        file.write_bytes(whole[:length])
        code, out, err = start(file)
        assert (code, out) == (1, "")
        assert err == "pupgevent: %s is not whole: it has %d bytes of %d; copy it once more\n" % (
            file, length, len(whole))


def test_a_file_that_has_grown_is_told_in_one_line(file: Path) -> None:
    """As a copy in text mode may do."""
    file.write_bytes(file.read_bytes() + b"\n")
    code, out, err = start(file)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "is not whole" in err


def test_without_wc_a_whole_file_runs(file: Path, tmp_path: Path) -> None:
    shell = shutil.which("sh")
    assert shell is not None
    (tmp_path / "bin").mkdir()
    assert start(file, path=str(tmp_path / "bin")) == (0, "here\n", "")


def test_the_same_entries_make_the_same_file() -> None:
    entries = [("b", b"2", True), ("a", b"1", False)]
    made = archives.behind(LINES, entries)
    assert made == archives.behind(LINES, entries)
    assert dict(archives.files_of(made)) == {"a": b"1", "b": b"2"}
    assert b"@SIZE@" not in made
