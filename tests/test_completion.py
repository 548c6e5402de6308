"""The scripts of `pupgevent completion`, in real shells, which complete real words with them."""

import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

import pytest

import completion
import config_names
import usage
from running import PUPGEVENT, run

#: Words to the cursor, and what can stand there. `here` has the files and folders below.
COMMANDS = set(usage.COMMANDS)
FILES = {"conf/", "empty/", "shop.json", "two words.jsonc"}
SHOP = {"web", "web-1", "web-2", "job", "all"}
CONF = {"app@1", "all"}

CASES: Dict[str, Set[str]] = {
    "": COMMANDS | FILES,
    "re": {"restart", "reload"},
    "sta": {"start", "status"},
    "-v ": COMMANDS | FILES,
    "frobnicate ": set(),
    # CONFIG left out is conf/app.toml.
    "status ": CONF | FILES,
    "status app": {"app@1"},
    "status app@": {"app@1"},
    "stop app@1 ": CONF,
    "status --json ": CONF | FILES,
    "scale ": FILES,
    "status shop.json ": SHOP,
    "restart shop.json web": {"web", "web-1", "web-2"},
    "restart shop.json web-1 j": {"job"},
    "describe ": CONF | FILES,
    "describe shop.json ": SHOP,
    "describe shop.json web": {"web", "web-1", "web-2"},
    "describe shop.json web ": set(),
    "list ": set(),
    "restart -- shop.json web-1 j": {"job"},
    "scale shop.json ": {"web"},
    "scale shop.json web ": set(),
    "logs -n ": set(),
    "logs --lines ": set(),
    "logs --since ": set(),
    "logs --since 1h shop.json j": {"job"},
    "logs --since=1h -n5 shop.json j": {"job"},
    "logs -fn ": set(),
    "logs -n 5 shop.json j": {"job"},
    "logs -n5 shop.json j": {"job"},
    "logs --lines=5 shop.json j": {"job"},
    "-n 5 logs shop.json j": {"job"},
    "signal shop.json HU": {"HUP"},
    "signal US": {"USR1", "USR2"},
    "signal HUP shop.json": set(),
    "signal shop.json HUP w": {"web", "web-1", "web-2"},
    "signal HUP app": {"app@1"},
    "check ": FILES,
    "check conf/": {"conf/app.toml"},
    "check sho": {"shop.json"},
    "check shop.json ": set(),
    "reload conf/app.toml ": set(),
    "conf/app.toml ": set(),
    "export ": set(usage.FORMATS),
    "export systemd ": FILES,
    "export systemd s": {"shop.json"},
    "export p": {"prometheus"},
    "export prometheus s": {"shop.json"},
    "completion ": set(usage.SHELLS),
    "completion bash ": set(),
    "status missing/file.toml ": set(),
}

OPTIONS = {
    "-": {"--verbose", "--help", "--version"},
    "--ver": {"--verbose", "--version"},
    "status --": {"--json", "--help", "--version"},
    "logs shop.json --": {"--follow", "--lines", "--since", "--help", "--version"},
    "describe --": {"--help", "--version"},
    "list --": {"--help", "--version"},
    "check --": {"--help", "--version"},
    "check -- -": set(),
}  # fmt: skip


@pytest.fixture(scope="module")
def here(tmp_path_factory: Any) -> Iterator[Path]:
    """A folder with files that can be CONFIG, and others; it is the current one."""
    folder = Path(str(tmp_path_factory.mktemp("here")))
    (folder / "conf").mkdir()
    (folder / "empty").mkdir()
    (folder / "conf" / "app.toml").write_text('[[processes]]\nid = "app@1"\ncmd = "x"\n')
    (folder / "conf" / "notes.txt").write_text("")
    (folder / "two words.jsonc").write_text("{}")
    (folder / "server.py").write_text("")
    (folder / "shop.json").write_text(json.dumps({"processes": [
        {"id": "web", "cmd": "x", "cluster": {"instances": 2}}, {"id": "job", "cmd": "x"},
        {"id": "$(touch pwned)", "cmd": "x"}, {"id": 3}, "no table",
    ]}))  # fmt: skip
    before = os.getcwd()
    os.chdir(str(folder))
    yield folder
    os.chdir(before)
    assert not (folder / "pwned").exists()


def script_of(shell: str, folder: Path) -> Path:
    done = run("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    path = folder / ("pupgevent." + shell)
    path.write_text(done.stdout)
    return path


def needs(shell: str) -> "pytest.MarkDecorator":
    return pytest.mark.skipif(not shutil.which(shell), reason="there is no " + shell)


# bash: what readline would call, is called

#: Reads lines, and answers each with the words that bash would offer, and a dot.
BASH = r"""
source "$1" || exit
while IFS= read -r COMP_LINE; do
    # As readline does: an = is a word of its own, an @ begins one.
    spaced=${COMP_LINE//=/ = } spaced=${spaced//@/ @}
    read -ra COMP_WORDS <<<"$spaced"
    [[ $spaced == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_POINT=${#COMP_LINE}
    _pupgevent pupgevent "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    for word in "${COMPREPLY[@]}"; do
        [[ -d $word ]] && word+=/
        printf '%s\n' "$word"
    done
    echo .
done
"""


@needs("bash")
def test_bash_completes(here: Path, tmp_path: Path) -> None:
    cases = {**CASES, **OPTIONS}
    script = str(script_of("bash", tmp_path))
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", script], stdout=subprocess.PIPE,
        input="".join("pupgevent %s\n" % line for line in cases), stderr=subprocess.PIPE,
        universal_newlines=True, timeout=100, check=False)
    assert done.stderr == ""
    blocks = [set(filter(None, block.split("\n"))) for block in done.stdout.split(".\n")]
    # Readline has what is before the @ already.
    expected = {line: {word[3:] if line.endswith("app@") else word for word in words}
                for line, words in cases.items()}
    assert dict(zip(cases, blocks)) == expected


@needs("bash")
def test_bash_completes_as_one_types(here: Path, tmp_path: Path) -> None:
    script = script_of("bash", tmp_path)
    with Terminal(["bash", "--norc", "--noprofile", "-i"], tmp_path) as terminal:
        terminal.type("bind 'set enable-bracketed-paste off'; source %s\n" % script)
        # The command is another one, lest something is run: its words are what counts.
        terminal.type("pupgevent() { printf '<%s>' \"$@\" >>$OUT; echo >>$OUT; }\n")
        for line in ("resta\tshop.json we\t-2\n", "check two\t\n", "status conf/\t app@\t\n"):
            terminal.type("pupgevent " + line)
        assert terminal.output(3) == [
            "<restart><shop.json><web-2>", "<check><two words.jsonc>",
            "<status><conf/app.toml><app@1>"]


class Terminal:
    """An interactive shell, which writes to the file $OUT what it has been told to."""

    def __init__(self, command: List[str], folder: Path) -> None:
        self._out = folder / "out"
        self._out.write_text("")
        self._pid, self._end = pty.fork()
        if self._pid == 0:
            os.environ.update(
                TERM="dumb", OUT=str(self._out), HISTFILE="", HOME=str(folder), COLUMNS="200",
                INPUTRC="/dev/null")
            os.execvp(command[0], command)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._end)
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def output(self, lines: int) -> List[str]:
        """All that it has written, as soon as that is so many lines."""
        deadline = time.monotonic() + 60
        said = b""
        while True:
            # Whoever does not read what it says makes it wait.
            if select.select([self._end], [], [], 0.02)[0]:
                said += os.read(self._end, 65536)
            text = self._out.read_text()
            if text.count("\n") >= lines:
                return text.splitlines()
            assert time.monotonic() < deadline, (text, said)


# zsh: all that it would list is put on the line, which is then written to a file

ZSH = """
unsetopt beep; PS1=
autoload -Uz compinit; compinit -u -D
source %s
zle -C all complete-word _generic; bindkey '^Xa' all
zstyle ':completion:all:*' completer _all_matches _complete
zstyle ':completion:all:*' insert true
report() { print -r -- "$BUFFER" >>$OUT; BUFFER=; }
zle -N report; bindkey '^Xr' report
print ready >>$OUT
"""


@needs("zsh")
@pytest.mark.parametrize("autoloaded", [False, True])
def test_zsh_completes(here: Path, tmp_path: Path, autoloaded: bool) -> None:
    cases = {**CASES, **OPTIONS}
    script = script_of("zsh", tmp_path)
    setting = tmp_path / "setting"
    setting.write_text(ZSH % script)
    if autoloaded:
        # As a file of a folder in which functions are looked for.
        script.rename(tmp_path / "_pupgevent")
        setting.write_text("fpath=(%s $fpath)\n%s" % (tmp_path, ZSH % "/dev/null"))
    found: Dict[str, Set[str]] = {}
    with Terminal(["zsh", "-f", "-i"], tmp_path) as terminal:
        terminal.type("source %s\n" % setting)
        terminal.output(1)
        for count, line in enumerate(cases, 2):
            typed = "pupgevent " + line
            terminal.type(typed + "\x18a\x18r")
            now = terminal.output(count)[-1]
            kept = typed[: typed.rindex(" ") + 1]
            assert now.startswith(kept)
            words = [] if now == typed else shlex.split(now[len(kept) :])
            found[line] = {word + "/" if os.path.isdir(word) else word for word in words
                           if not re.match("-[^-]", word)}
    assert found == cases


# fish: has a builtin that tells what it would list


@needs("fish")
def test_fish_completes(here: Path, tmp_path: Path) -> None:
    cases = {**CASES, **OPTIONS}
    script = script_of("fish", tmp_path)
    asked = "; ".join("complete -C %s; echo ." % shlex.quote("pupgevent " + line)
                      for line in cases)
    done = subprocess.run(
        ["fish", "--no-config", "-c", "source %s; %s" % (script, asked)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        env=dict(os.environ, HOME=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path),
                 XDG_DATA_HOME=str(tmp_path)),
        universal_newlines=True, timeout=100, check=False)
    assert done.stderr == ""
    found = {}
    for line, block in zip(cases, done.stdout.split(".\n")):
        words = {text.partition("\t")[0] for text in block.split("\n")} - {""}
        found[line] = {word for word in words if not re.match("-[^-]", word)}
    assert found == cases


# What the scripts are made of, and what they ask


def test_each_command_and_option_has_its_words_in_the_scripts() -> None:
    assert set(completion._described("Commands")) == set(usage.COMMANDS)
    assert set(completion._described("Options")) == set(usage.OPTIONS)
    for shell in usage.SHELLS:
        text = completion.SHELLS[shell]()
        assert not re.search("@[a-z]+@", text)
        for word in (*usage.COMMANDS, *usage.OPTIONS, *usage.FORMATS):
            assert word.lstrip("-") in text, (shell, word)


@pytest.mark.parametrize("text", [
    "", "{", "[]", '{"processes": 3}', '{"processes": [3, {"id": 4}, {"id": "a b"}, {}]}',
    '{"processes": [{"id": "\\n"}]}', "{" * 100000,
])  # fmt: skip
@pytest.mark.parametrize("place", ["PROCESS", "ID"])
def test_a_file_that_cannot_be_read_offers_nothing_and_says_nothing(
    tmp_path: Path, text: str, place: str
) -> None:
    path = tmp_path / "app.json"
    path.write_text(text)
    assert set(config_names.names(place, str(path))) <= {"all"}
    done = run("completion", place, "--", str(path))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("cluster, count", [
    ({}, 1), ({"instances": 3}, 3), ({"instances": "auto"}, len(os.sched_getaffinity(0))),
    ({"instances": 10**9}, 1000), ({"instances": -1}, 0), ({"instances": "x"}, 0),
])  # fmt: skip
def test_instances_are_offered_as_the_file_has_them(
    tmp_path: Path, cluster: Any, count: int
) -> None:
    path = tmp_path / "app.json"
    path.write_text(json.dumps({"processes": [{"id": "web", "cluster": cluster}]}))
    assert config_names.names("PROCESS", str(path)) == [
        "web", *("web-%d" % (number + 1) for number in range(count)), "all"]
    assert config_names.names("ID", str(path)) == ["web"]


def test_the_folder_s_own_file_is_asked_where_none_is_named(here: Path) -> None:
    done = run("completion", "PROCESS")
    assert (done.returncode, done.stdout, done.stderr) == (0, "app@1\nall\n", "")
    shutil.copy("shop.json", "pup.json")
    try:
        done = run("completion", "PROCESS")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    finally:
        os.remove("pup.json")


def test_asking_takes_no_longer_than_one_waits_for_a_key(here: Path) -> None:
    """It imports neither gevent nor what runs the processes."""
    done = subprocess.run(
        [PUPGEVENT[0], "-v", PUPGEVENT[1], "completion", "PROCESS", "shop.json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, check=False)
    names = set(re.findall(r"^import '([\w.]+)'", done.stderr, re.MULTILINE))
    assert "config_names" in names
    assert not names & {"gevent", "greenlet", "client", "exports", "configuration", "asyncio"}
