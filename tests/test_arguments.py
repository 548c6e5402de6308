"""What may be typed, and the one line that names what may not."""

import subprocess
import sys
from typing import List

import pytest

import arguments
from arguments import Arguments
from errors import UsageError
from running import PUPGEVENT, run


@pytest.mark.parametrize(
    "words, told",
    [
        ("conf", Arguments("run", "conf")),
        ("--verbose conf", Arguments("run", "conf", verbose=True)),
        ("conf --verbose", Arguments("run", "conf", verbose=True)),
        ("check conf", Arguments("check", "conf")),
        ("check check", Arguments("check", "check")),
        ("./check", Arguments("run", "./check")),
        ("status conf", Arguments("status", "conf")),
        ("status --json conf", Arguments("status", "conf", json=True)),
        ("status conf --json", Arguments("status", "conf", json=True)),
        ("start conf", Arguments("start", "conf")),
        ("stop conf a b-1", Arguments("stop", "conf", names=("a", "b-1"))),
        ("restart conf all", Arguments("restart", "conf", names=("all",))),
        ("restart conf restart", Arguments("restart", "conf", names=("restart",))),
        ("scale conf app 3", Arguments("scale", "conf", id="app", instances=3)),
        ("reload conf", Arguments("reload", "conf")),
        ("shutdown conf", Arguments("shutdown", "conf")),
        ("logs conf", Arguments("logs", "conf")),
        ("logs --follow conf a", Arguments("logs", "conf", follow=True, names=("a",))),
        ("top conf", Arguments("top", "conf")),
        ("--help", Arguments("help")),
        ("-h", Arguments("help")),
        ("scale --help", Arguments("help")),
        ("--version", Arguments("version")),
        ("-- --strange", Arguments("run", "--strange")),
        ("stop -- -conf -id", Arguments("stop", "-conf", names=("-id",))),
    ],
)
def test_a_command_line_that_makes_sense(words: str, told: Arguments) -> None:
    assert arguments.parse(words.split()) == told


@pytest.mark.parametrize("argv", [[""], ["check", ""], ["stop", "conf", ""]])
def test_an_empty_word_is_told(argv: "List[str]") -> None:
    with pytest.raises(UsageError, match="one of the words is empty"):
        arguments.parse(argv)


@pytest.mark.parametrize(
    "words, message",
    [
        ("", "CONFIG is missing"),
        ("check", "check: CONFIG is missing (a file of that name is written ./check)"),
        ("status", "status: CONFIG is missing (a file of that name is written ./status)"),
        ("statsu conf", 'unknown command "statsu": did you mean "status"?'),
        ("frobnicate conf", 'unknown command "frobnicate"'),
        ("conf status", "the command comes first: status conf"),
        ("check conf more", 'check: "more" is one word too many'),
        ("status conf my-app", 'status: "my-app" is one word too many'),
        ("scale conf", "scale: ID is missing"),
        ("scale conf app", "scale: INSTANCES is missing"),
        ("scale conf app 3 4", 'scale: "4" is one word too many'),
        ("scale conf app many", 'scale: INSTANCES "many" is not a whole number from 1'),
        ("scale conf app 0", 'scale: INSTANCES "0" is not a whole number from 1'),
        ("scale conf app 1.5", 'scale: INSTANCES "1.5" is not a whole number from 1'),
        ("scale conf app 99999999999", "INSTANCES"),
        ("--he", 'unknown option "--he": did you mean "--help"?'),
        ("--verb conf", 'unknown option "--verb": did you mean "--verbose"?'),
        ("--json=yes status conf", "--json=yes"),
        ("-x conf", 'unknown option "-x"'),
        ("--json conf", "--json goes with status only"),
        ("start --json conf", "--json goes with status only"),
        ("start --follow conf", "--follow goes with logs only"),
        ("check --verbose conf", "--verbose goes with a run only"),
        ("scale conf app -3", 'unknown option "-3"'),
    ],
)
def test_what_is_wrong_is_named(words: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        arguments.parse(words.split())
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("words", [[], ["chekc", "conf"], ["check"], ["--he"], ["scale", "a"]])
def test_a_mistake_is_one_line_the_usage_and_exit_code_2(words: List[str]) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    first, rest = done.stderr.split("\n", 1)
    assert first.startswith("pupgevent: ")
    assert rest == arguments.usage()


def test_everything_that_the_usage_shows_is_a_command() -> None:
    shown = {word for line in arguments.usage().splitlines() for word in line.split()
             if word.strip("()").isalpha() and word.islower()}
    assert {word.strip("()") for word in shown} - {"pupgevent"} == set(arguments.COMMANDS)


def test_help_and_version_end_with_0() -> None:
    done = run("--help")
    assert (done.returncode, done.stdout, done.stderr) == (0, arguments.USAGE, "")
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("pupgevent ") and "gevent" in done.stdout


def test_no_warning_shows_even_where_all_are_on() -> None:
    """docopt has escapes that Python 3.12 warns of, once, when it is compiled."""
    done = subprocess.run(
        [sys.executable, "-B", "-W", "always", *PUPGEVENT[1:], "--he"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, check=False)
    assert "Warning" not in done.stderr
    assert done.returncode == 2
