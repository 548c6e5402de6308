"""What may be typed, and the one line that names what may not."""

import itertools
import re
import subprocess
import sys
from typing import Dict, List

import pytest
from hypothesis import given, strategies as st

import cli
from cli import Arguments
from errors import UsageError
from running import PUPGEVENT, run


@pytest.mark.parametrize(
    "words, args",
    [
        ("conf.toml", Arguments("run", "conf.toml")),
        ("--verbose conf.toml", Arguments("run", "conf.toml", verbose=True)),
        ("conf.toml --verbose", Arguments("run", "conf.toml", verbose=True)),
        ("--verbose conf.toml --verbose", Arguments("run", "conf.toml", verbose=True)),
        ("init", Arguments("init")),
        ("init new.toml", Arguments("init", "new.toml")),
        ("init --from=Procfile", Arguments("init", source="Procfile")),
        ("init --from Procfile", Arguments("init", source="Procfile")),
        ("--from Procfile init new.toml", Arguments("init", "new.toml", source="Procfile")),
        ("init new.toml --from=a=b", Arguments("init", "new.toml", source="a=b")),
        ("init --from -x", Arguments("init", source="-x")),
        ("init -- -new.toml", Arguments("init", "-new.toml")),
        ("check conf.toml", Arguments("check", "conf.toml")),
        ("check ./check", Arguments("check", "./check")),
        ("APP.TOML", Arguments("run", "APP.TOML")),
        ("check conf/pup.jsonc", Arguments("check", "conf/pup.jsonc")),
        ("restart conf.toml b.toml", Arguments("restart", "conf.toml", names=("b.toml",))),
        ("scale conf.toml 3 4", Arguments("scale", "conf.toml", id="3", instances=4)),
        ("./check", Arguments("run", "./check")),
        ("status conf.toml", Arguments("status", "conf.toml")),
        ("status --json conf.toml", Arguments("status", "conf.toml", json=True)),
        ("status conf.toml --json", Arguments("status", "conf.toml", json=True)),
        ("start conf.toml", Arguments("start", "conf.toml")),
        ("stop conf.toml a b-1", Arguments("stop", "conf.toml", names=("a", "b-1"))),
        ("restart conf.toml all", Arguments("restart", "conf.toml", names=("all",))),
        ("restart conf.toml restart", Arguments("restart", "conf.toml", names=("restart",))),
        ("scale conf.toml app 3", Arguments("scale", "conf.toml", id="app", instances=3)),
        ("reload conf.toml", Arguments("reload", "conf.toml")),
        ("shutdown conf.toml", Arguments("shutdown", "conf.toml")),
        ("logs conf.toml", Arguments("logs", "conf.toml")),
        ("logs --follow conf.toml a", Arguments("logs", "conf.toml", follow=True, names=("a",))),
        ("top conf.toml", Arguments("top", "conf.toml")),
        ("--help", Arguments("help")),
        ("-h", Arguments("help")),
        ("scale --help", Arguments("help")),
        ("--version", Arguments("version")),
        ("-- --strange.toml", Arguments("run", "--strange.toml")),
        ("stop -- -conf.toml -id", Arguments("stop", "-conf.toml", names=("-id",))),
    ],
)
def test_a_command_line_that_makes_sense(words: str, args: Arguments) -> None:
    assert cli.parse(words.split()) == args


@pytest.mark.parametrize("argv", [[""], ["check", ""], ["stop", "conf.toml", ""]])
def test_an_empty_word_is_told(argv: "List[str]") -> None:
    with pytest.raises(UsageError, match="one of the words is empty"):
        cli.parse(argv)


@pytest.mark.parametrize(
    "words, message",
    [
        ("", "CONFIG is missing"),
        ("check", "check: CONFIG is missing (a file of that name is written ./check)"),
        ("status", "status: CONFIG is missing (a file of that name is written ./status)"),
        ("statsu conf.toml", 'unknown command "statsu": did you mean "status"?'),
        ("frobnicate conf.toml", 'unknown command "frobnicate"'),
        ("frobnicate", 'unknown command "frobnicate"; a file of that name is written ./frobnicate'),
        # The command behind the file.
        ("conf.toml status", 'the command comes first: "pupgevent status conf.toml"'),
        ("conf.toml statsu", 'the command comes first: "pupgevent status conf.toml"'),
        ("conf.toml ps", 'the command comes first: "pupgevent status conf.toml"'),
        ("conf.toml stop my-app", 'the command comes first: "pupgevent stop conf.toml my-app"'),
        ("conf.toml my-app", '"my-app" is one word too many'),
        # Two files.
        ("a.toml b.toml", '"b.toml" is one word too many: one pupgevent runs one CONFIG'),
        ("a.toml status.toml", '"status.toml" is one word too many: one pupgevent runs one CONFIG'),
        ("check a.toml ./b", 'check: "./b" is one word too many: one pupgevent runs one CONFIG'),
        # No file.
        ("restart my-app", 'restart: CONFIG is missing: "my-app" is no file (.toml, .json, .jsonc,'
         ' or a path with /): did you mean "pupgevent restart CONFIG my-app"?'),
        ("logs all", 'did you mean "pupgevent logs CONFIG all"?'),
        ("scale my-app 3", 'did you mean "pupgevent scale CONFIG my-app 3"?'),
        ("check conf", 'check: CONFIG is missing: "conf" is no file (.toml, .json, .jsonc, or a'
         " path with /): a file of that name is written ./conf"),
        ("restart my-app conf.toml",
         'restart: CONFIG comes first: did you mean "pupgevent restart conf.toml my-app"?'),
        # The words of others.
        ("help", 'there is no command "help": did you mean "pupgevent --help"?'),
        ("help status", 'there is no command "help": did you mean "pupgevent --help"?'),
        ("version", 'did you mean "pupgevent --version"?'),
        ("list", 'there is no command "list": did you mean "pupgevent status CONFIG"?'),
        ("ps conf.toml my-app", 'did you mean "pupgevent status conf.toml"?'),
        ("monitor conf.toml", 'did you mean "pupgevent top conf.toml"?'),
        ("terminate conf.toml", 'did you mean "pupgevent shutdown conf.toml"?'),
        ("validate conf.toml", 'did you mean "pupgevent check conf.toml"?'),
        ("run conf.toml", 'there is no command "run": did you mean "pupgevent conf.toml"?'),
        ("run", 'there is no command "run": did you mean "pupgevent CONFIG"?'),
        ("kill conf.toml my-app", 'did you mean "pupgevent stop conf.toml my-app"?'),
        ("tail my-app", 'did you mean "pupgevent logs CONFIG my-app"?'),
        # The words of scale and export.
        ("scale conf.toml 3",
         'scale: ID is missing: did you mean "pupgevent scale conf.toml ID 3"?'),
        ("scale conf.toml 3 app",
         'scale: ID comes before INSTANCES: did you mean "pupgevent scale conf.toml app 3"?'),
        ("export", "export: FORMAT is missing"),
        ("export systemd", "export: CONFIG is missing"),
        ("export conf.toml",
         'export: FORMAT is missing: did you mean "pupgevent export systemd conf.toml"?'),
        ("export conf.toml systemd",
         'export: FORMAT comes first: did you mean "pupgevent export systemd conf.toml"?'),
        ("export nginx conf.toml", 'export: FORMAT "nginx" is not systemd'),
        ("check conf.toml more", 'check: "more" is one word too many'),
        ("status conf.toml my-app", 'status: "my-app" is one word too many'),
        ("scale conf.toml", "scale: ID is missing"),
        ("scale conf.toml app", "scale: INSTANCES is missing"),
        ("scale conf.toml app 3 4", 'scale: "4" is one word too many'),
        ("scale conf.toml app many", 'scale: INSTANCES "many" is not a whole number from 1'),
        ("scale conf.toml app 0", 'scale: INSTANCES "0" is not a whole number from 1'),
        ("scale conf.toml app 1.5", 'scale: INSTANCES "1.5" is not a whole number from 1'),
        ("scale conf.toml app 99999999999", "INSTANCES"),
        ("--he", 'unknown option "--he": did you mean "--help"?'),
        ("--verb conf.toml", 'unknown option "--verb": did you mean "--verbose"?'),
        ("--json=yes status conf.toml", "--json=yes"),
        ("-x conf.toml", 'unknown option "-x"'),
        ("init Procfile", 'init: did you mean "pupgevent init --from=Procfile"?'),
        ("init a.toml b.toml", 'init: "b.toml" is one word too many'),
        ("init --from", "--from: FILE is missing"),
        ("init --from=", "--from: FILE is missing"),
        ("init --from a --from=b", "--from is given twice"),
        ("init --fron=a", 'unknown option "--fron=a": did you mean "--from"?'),
        ("check --from=a conf.toml", "--from goes with init only"),
        ("--json conf.toml", "--json goes with status only"),
        ("start --json conf.toml", "--json goes with status only"),
        ("start --follow conf.toml", "--follow goes with logs only"),
        ("check --verbose conf.toml", "--verbose goes with a run only"),
        ("scale conf.toml app -3", 'unknown option "-3"'),
    ],
)
def test_what_is_wrong_is_named(words: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        cli.parse(words.split())
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


WORDS = [*cli.COMMANDS, *cli.OTHERS, *cli.OPTIONS, "a.toml", "b.json", "./c",
         "my-app", "3", "0", "-1", "--", "-", "systemd", "all", "CONFIG", "\n", "--from=x"]


def make_sense_or_are_told_in_one_line(words: "List[str]") -> None:
    try:
        args = cli.parse(words)
    except UsageError as error:
        # The answer for what nobody has thought of.
        assert "make no command" not in str(error)
        assert "\n" not in str(error)
    else:
        left_out = args.command == "init" and not args.config
        assert args.command in ("help", "version") or left_out or args.config in words


def test_all_words_up_to_three_make_sense_or_are_told_in_one_line() -> None:
    for count in range(4):
        for words in itertools.product(WORDS, repeat=count):
            make_sense_or_are_told_in_one_line(list(words))


@given(words=st.lists(st.sampled_from(WORDS), min_size=4, max_size=7))
def test_any_more_words_make_sense_or_are_told_in_one_line(words: "List[str]") -> None:
    make_sense_or_are_told_in_one_line(words)


@pytest.mark.parametrize("words", [[], ["chekc", "conf.toml"], ["check"], ["--he"], ["scale", "a"]])
def test_a_mistake_is_one_line_that_tells_where_the_usage_is(words: List[str]) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("pupgevent: ")
    assert done.stderr.endswith(" (pupgevent --help shows the usage)\n")


def test_words_of_others_lead_to_what_there_is() -> None:
    for word, ours in cli.OTHERS.items():
        assert word not in cli.COMMANDS
        assert not ours or ours in cli.COMMANDS or ours in cli.OPTIONS
        with pytest.raises(UsageError, match="did you mean") as caught:
            cli.parse([word])
        # What is suggested is a command line that makes sense.
        meant = str(caught.value).split('"')[3].split()
        cli.parse([each.replace("CONFIG", "conf.toml") for each in meant[1:]])


def test_the_usage_shows_each_command_with_its_words_and_options() -> None:
    lines = cli.USAGE.partition("Usage:\n")[2].partition("\n\n")[0].splitlines()
    assert lines.pop().split() == ["pupgevent", "--help", "|", "--version"]
    shown: Dict[str, cli.Command] = {}
    for line in lines:
        words = re.sub("[()|]", "", line).split()[1:]
        options = tuple(word.strip("[]").partition("=")[0]
                        for word in words if word.startswith("[--"))
        behind = tuple(word.strip("[].") for word in words if word.isupper())
        names = [word for word in words if word.isalpha() and word.islower()] or [""]
        command = cli.Command(behind, "..." in line, options, "[CONFIG]" in line)
        shown.update((name, command) for name in names)
    assert shown == dict(cli.COMMANDS, **{"": cli.RUN})


def test_help_and_version_end_with_0() -> None:
    done = run("--help")
    assert (done.returncode, done.stdout, done.stderr) == (0, cli.USAGE, "")
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
