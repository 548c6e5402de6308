"""Where the program of a command is found, and what is wrong with it."""

import os
import shutil
from pathlib import Path
from typing import Any, Optional

import pytest

import programs


@pytest.mark.parametrize("cmd, word", [
    (("a b", "c"), "a b"),
    ("python3 server.py", "python3"),
    ("  exec  /opt/app/run --port 1", "/opt/app/run"),
    ("./run|cat", "./run"),
    ("./run;cat", "./run"),
    ("run&", "run"),
    ("run>x", "run"),
    ("g++-9 x", "g++-9"),
    # Only the shell can tell.
    ("cd x && run", None),
    (". ./env; run", None),
    ("exec", None),
    ("A=1 run", None),
    ("$RUN x", None),
    ('"my app" x', None),
    ("run$X", None),
    ("~/run", None),
    ("`which run`", None),
    ("(run)", None),
    ("{ run; }", None),
    ("run() { x; }", None),
    ("# run", None),
    ("3>x run", None),
    ("if true; then run; fi", None),
    ("r\\un", None),
    ("*/run", None),
], ids=str)
def test_first_word_of_a_command_is_its_program(cmd: Any, word: Optional[str]) -> None:
    assert programs.program_of(cmd) == word


def make(folder: Path, name: str, text: bytes = b"", mode: int = 0o755) -> bytes:
    path = folder / name
    path.write_bytes(text)
    path.chmod(mode)
    return os.fsencode(str(path))


def test_program_is_looked_for_as_the_kernel_does(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    (one / "folder").mkdir()
    make(one, "plain", mode=0o644)
    plain, folder_too = make(two, "plain"), make(two, "folder")
    here = os.fsencode(str(tmp_path))
    path = os.fsencode("%s:%s" % (one, two))
    assert programs.find_program(b"plain", path, here) == plain
    assert programs.find_program(b"folder", path, here) == folder_too
    assert programs.find_program(b"nothing", path, here) is None
    # What has a slash, and what is relative on the PATH, starts at the folder.
    assert programs.find_program(b"two/plain", b"/bin", here) == plain
    assert programs.find_program(b"plain", b"/no:two", here) == plain
    assert programs.find_program(b"plain", b"", os.path.dirname(plain)) == plain
    assert programs.find_program(b"./plain", path, here) is None


CRLF = "has a #! line that ends in CRLF: save it with the line ends of Unix"


@pytest.mark.parametrize("text, flaw", [
    (b"", None),
    (b"\x7fELF", None),
    (b"echo\r\n", None),
    (b"#!/bin/sh\n", None),
    (b"#! /bin/sh -e\nx\r\n", None),
    (b"#!/usr/bin/env sh\n", None),
    (b"#!/usr/bin/env -S no-such-program\n", None),
    (b"#!/bin/sh\r\n", CRLF),
    (b"#!/usr/bin/env sh\r\n", CRLF),
    (b"#!\n", "has a #! line without an interpreter"),
    (b"#!/no/sh\n", "names an interpreter that is not there: /no/sh"),
    (b"#!/no/sh -e", "names an interpreter that is not there: /no/sh"),
    (b"#!/usr/bin/env no-such-program\n",
     "names an interpreter that is not on the PATH: no-such-program"),
], ids=repr)
def test_flaw_of_a_script_is_told(tmp_path: Path, text: bytes, flaw: Optional[str]) -> None:
    if b"env" in text and not os.path.exists("/usr/bin/env"):
        pytest.skip("there is no /usr/bin/env")
    path = os.fsencode(os.path.dirname(shutil.which("sh") or "/bin/sh"))
    assert programs.shebang_problem(make(tmp_path, "script", text), path) == flaw


def test_what_env_is_to_find_is_not_looked_for_without_a_path(tmp_path: Path) -> None:
    script = make(tmp_path, "script", b"#!/usr/bin/env no-such-program\n")
    assert programs.shebang_problem(script) is None


def test_what_is_no_file_has_no_flaw_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(str(tmp_path / "fifo"))
    for each in ("fifo", "nothing", "."):
        assert programs.shebang_problem(os.fsencode(str(tmp_path / each))) is None
