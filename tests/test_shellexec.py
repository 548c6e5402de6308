"""A simple command takes the place of its shell, and everything else stays as the shell has it."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from programs import BUILTINS, RESERVED, with_exec

#: Shells, as a /bin/sh.
SHELLS = [path for path in map(shutil.which, ("dash", "bash", "busybox")) if path]

SIMPLE = [
    "app", "./app", "/usr/bin/app", "../bin/app", "~/bin/app", "python3 server.py", "  app  ",
    "app\n", "\n  app --port 80\n", "app --port $PORT", 'app --port "$PORT"', "app ${PORT}",
    "app ${PORT:-8000} ${A+b} ${A-}", "app > log", "app >> log", "app >log 2>&1", "app < /dev/null",
    "app 2>/dev/null", "app >&2", "app <&-", "app *.txt [ab]? x", "app 'a; b & c | d $(e) `f` #g'",
    'app "a; b & c | d #e"', "app a#b", r"app a\ b \; \" \$x", 'app "a\nb"', "python3 -c 'a\nb'",
    'app "\\$(x)"', '"/opt/my app/run" x', "'app' x", "env A=b app", "nice -n 5 app", "app A=b",
    "app -x --y=z,1:2@3%4+5", "gunicorn -w 4 -b 127.0.0.1:$PUP_CLUSTER_PORT app:app", "app ~/x",
    "app caf\u00e9", "npm start", "app if then", "app !", "app [ ]", "python3.11 x", "g++ x",
]

NOT_SIMPLE = [
    "", " ", "a; b", "a;", "a & b", "a &", "a && b", "a || b", "a | b", "(a)", "{ a; }", "a\nb",
    "a $(b)", "a `b`", 'a "$(b)"', 'a "`b`"', "a $((1+2))", "a ${b:-$(c)}", "a ${b:-`c`}",
    "A=b a", "A= a", "A+=b a", "A=b", "if a; then b; fi", "while :; do a; done", "! a", "{ a",
    "for", "time a", "case", "until", "exec a", "cd /", "export A", "exit 3", ". ./a", ": a",
    "set -e", "ulimit -n 3", "trap x", "wait", "read x", "eval a", "test a", "[ a ]", "[[ a ]]",
    "echo a", "printf a", "true", "false", "kill 1", "umask 0", "command a", "type a",
    "source a", "'echo' a", 'e"ch"o a', "a # b", "# a", "a >x #b", "a >#b", "$A b", "${A} b",
    '"$A" b', "a$B c", "*a b", "a[b] c", "~ a", "~a b", "a <<x\nb\nx", "a <<<b", "a >| b",
    "a &> b", "a <(b)", "a >(b)", "a $$", "a $!", "a $?", "a $#", "a $1", "a $@", "a $", "a $'b'",
    'a $"b"', "a {b,c}", "a ${b##c}", "a ${#b}", "a ${b:?c d}", "a 'b", 'a "b', "a \\", "a\\",
    "a \\\nb", "\\a b", ">x a", "2>x a", "<x", "a\rb", "a\x00b", "-a b", "+a", "%1", "a()",
    "a" + 9000 * " " + ";", "a" + 9001 * "'", "a" + 9000 * " >b" + ";", 9000 * "a" + ";",
    "a >", "a > >b", "a <", "a\vb", "a >x; b", "a && exec b", "a > 2>&1", "a >2>b", "a <1<b",
    "a >&2>b",
]  # fmt: skip


@pytest.mark.parametrize("line", SIMPLE)
def test_a_simple_command_is_run_by_exec(line: str) -> None:
    assert "then exec %s; else %s; fi" % ((line.strip(),) * 2) in with_exec(line, {})


@pytest.mark.parametrize(
    "line", NOT_SIMPLE + ["%s x" % word for word in sorted(BUILTINS | RESERVED)])
def test_everything_else_is_left_as_it_is(line: str) -> None:
    assert with_exec(line, {}) == line


def test_an_exported_function_of_bash_goes_before_a_program() -> None:
    env = {b"BASH_FUNC_app%%": b"() { :; }"}
    assert with_exec("app x", env) == "app x"
    assert with_exec("other x", env) != "other x"


#: Programs that show how they were called, and one that cannot be run.
SHOW = (
    "#!/bin/sh\nprintf '<%s>' \"${0##*/}\" \"$@\"; echo; echo told >&2; cat; echo $A; "
    "exit ${CODE:-7}\n")
PROGRAMS: Dict[str, Tuple[str, int]] = {
    "show": (SHOW, 0o755), "caf\u00e9": (SHOW, 0o755), "my show": (SHOW, 0o755),
    "plain": ("echo plain \"$@\"\n", 0o755), "closed": (SHOW, 0o644),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: "pytest.TempPathFactory") -> Iterator[Path]:
    path = tmp_path_factory.mktemp("shellexec")
    for shell in SHELLS:
        (path / Path(shell).name).mkdir()
        (path / Path(shell).name / "sh").symlink_to(shell)
    yield path


def outcome(shell: str, folder: Path, line: str) -> Any:
    """Exit code, both outputs, and what it has left in a file."""
    log = folder / "log"
    if log.exists():
        log.unlink()
    # A line may have written to one of them.
    for name, (text, mode) in PROGRAMS.items():
        (folder / name).write_text(text)
        (folder / name).chmod(mode)
    env = {"PATH": "%s:/usr/bin:/bin" % folder, "A": "one  two *", "HOME": str(folder),
           "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [str(folder / Path(shell).name / "sh"), "-c", line], cwd=str(folder), env=env,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
        check=False)
    # A newline within quotes is counted twice.
    stderr = re.sub(rb"(: |line )[0-9]+:", rb"\1N:", done.stderr)
    # busybox names its `exec` where that cannot run a file.
    stderr = stderr.replace(b"exec: line N: ", b"")
    return done.returncode, done.stdout, stderr, log.exists() and log.read_bytes()


def is_the_same(shell: str, folder: Path, line: str) -> None:
    changed = with_exec(line, {})
    if changed != line:
        assert outcome(shell, folder, changed) == outcome(shell, folder, line), line


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("line", [
    "show a  b", "./show", "~/show ~", "show $A \"$A\" '$A' ${A} ${B:-c}", "show *",
    "show >log 2>&1",
    "show < show", "show >>log", "show 2>&1 >/dev/null", "show >/nowhere/x", "show </nowhere",
    "nosuch", "./nosuch a", "/nowhere/a", "./closed", "closed", "/tmp", "plain a",
    "'my show' \"x y\"",
    "show A=b", "env CODE=3 show", "show 'a\nb'", "caf\u00e9 x", "show caf\u00e9", "show <&-",
    "show > $A", "show ${A:+x}", "sh -c 'exit 5'", "show '' \"\"",
])  # fmt: skip
def test_it_is_the_same_with_and_without(shell: str, folder: Path, line: str) -> None:
    is_the_same(shell, folder, line)


PIECES = ["show", "nosuch", "./show", "plain", "echo", "cd", " ", "  ", " a", " 'b c'", ' "d e"',
          "$A", ' "$A"', "${A}", " ${B:-f}", " *", " >log", " 2>&1", " <show", ">", "<", "&", ";",
          "|", "\\", "\\ ", "'", '"', "#", " #", "$", "(", ")", "{", "}", "!", "=", "A=b", "\n",
          "`", "~", "/", "2", "if", " then", "[", "]", "x", "\u00e9", "-", "%", ":"]  # fmt: skip


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=8))
def test_whatever_is_run_by_exec_is_the_same(shell: str, folder: Path, pieces: List[str]) -> None:
    for line in ("show" + "".join(pieces), "".join(pieces)):
        # What writes into the program that it runs (ETXTBSY) is told by bash in one way or another.
        if not re.search(">[^;\n]*(show|plain)", line):
            is_the_same(shell, folder, line)


def test_there_is_a_shell_to_try() -> None:
    assert SHELLS or not os.path.exists("/bin/bash")
