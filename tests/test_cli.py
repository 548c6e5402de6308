"""What may be typed, and the one line that names what may not."""

import itertools
import re
import subprocess
import sys
from typing import Dict, List

import pytest
from hypothesis import given, strategies as st

import cli
import completion
import synonyms
import usage
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
        ("describe conf.toml a", Arguments("describe", "conf.toml", names=("a",))),
        ("describe my-app-2", Arguments("describe", names=("my-app-2",))),
        ("list", Arguments("list")),
        ("export prometheus conf.toml", Arguments("export", "conf.toml", format="prometheus")),
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
        # CONFIG left out.
        ("", Arguments("run")),
        ("-v", Arguments("run", verbose=True)),
        ("check", Arguments("check")),
        ("status", Arguments("status")),
        ("status my-app b-1", Arguments("status", names=("my-app", "b-1"))),
        ("restart my-app", Arguments("restart", names=("my-app",))),
        ("scale my-app 3", Arguments("scale", id="my-app", instances=3)),
        ("scale 3 4", Arguments("scale", id="3", instances=4)),
        ("export systemd", Arguments("export", format="systemd")),
        ("export haproxy --host=a.example --host ::1 --http x.toml", Arguments(
            "export", "x.toml", format="haproxy", hosts=("a.example", "::1"), http=True)),
        ("export --host=10.0.0.1,10.0.0.2 nginx", Arguments(
            "export", format="nginx", hosts=("10.0.0.1", "10.0.0.2"))),
        ("logs all", Arguments("logs", names=("all",))),
        ("signal hup", Arguments("signal", signal="SIGHUP")),
        # A word that looks like one is CONFIG.
        ("restart b.toml", Arguments("restart", "b.toml")),
        # Short options, values, bundles.
        ("-v conf.toml", Arguments("run", "conf.toml", verbose=True)),
        ("logs -f conf.toml", Arguments("logs", "conf.toml", follow=True)),
        ("logs -n 20", Arguments("logs", lines=20)),
        ("logs -n20 conf.toml", Arguments("logs", "conf.toml", lines=20)),
        ("logs -n=20", Arguments("logs", lines=20)),
        ("logs --lines 20 my-app", Arguments("logs", names=("my-app",), lines=20)),
        ("logs --lines=20", Arguments("logs", lines=20)),
        ("logs -n 0", Arguments("logs", lines=0)),
        ("logs --since=@5 my-app", Arguments("logs", names=("my-app",), since=5.0)),
        ("logs --since @1795442645 -fn5", Arguments(
            "logs", follow=True, lines=5, since=1795442645.0)),
        ("logs -n 1 -n 2", Arguments("logs", lines=2)),
        ("logs -fn 5 a", Arguments("logs", names=("a",), follow=True, lines=5)),
        ("logs -fn5 a", Arguments("logs", names=("a",), follow=True, lines=5)),
        ("-n 5 logs a", Arguments("logs", names=("a",), lines=5)),
        ("logs -- -n 5", Arguments("logs", names=("-n", "5"))),
        # Signals.
        ("signal conf.toml SIGHUP my-app b-1",
         Arguments("signal", "conf.toml", signal="SIGHUP", names=("my-app", "b-1"))),
        ("signal HUP", Arguments("signal", signal="SIGHUP")),
        ("signal 1", Arguments("signal", signal="SIGHUP")),
        ("signal sigkill", Arguments("signal", signal="SIGKILL")),
        ("signal 40 a", Arguments("signal", signal="40", names=("a",))),
        ("signal KILL HUP", Arguments("signal", signal="SIGKILL", names=("HUP",))),
        ("completion bash", Arguments("completion", shell="bash")),
        ("completion fish", Arguments("completion", shell="fish")),
        # What the scripts of completion ask.
        ("completion PROCESS", Arguments("completion", shell="PROCESS")),
        ("completion ID -- conf.toml", Arguments("completion", "conf.toml", shell="ID")),
        ("--help", Arguments("help")),
        ("-h", Arguments("help")),
        ("scale --help", Arguments("help")),
        ("frobnicate -h", Arguments("help")),
        ("--version", Arguments("version")),
        ("-V", Arguments("version")),
        ("-vV", Arguments("version")),
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
        ("statsu conf.toml", 'unknown command "statsu": did you mean "status"?'),
        ("frobnicate conf.toml", 'unknown command "frobnicate"'),
        ("frobnicate", 'unknown command "frobnicate"; a file of that name is written ./frobnicate'),
        # The command behind the file.
        ("conf.toml status", 'the command comes first: "pupgevent status conf.toml"'),
        ("conf.toml statsu", 'the command comes first: "pupgevent status conf.toml"'),
        ("conf.toml ps", 'the command comes first: "pupgevent status conf.toml"'),
        ("my-app restart", 'the command comes first: "pupgevent restart my-app"'),
        ("conf.toml stop my-app", 'the command comes first: "pupgevent stop conf.toml my-app"'),
        ("conf.toml my-app", '"my-app" is one word too many'),
        # Two files.
        ("a.toml b.toml", '"b.toml" is one word too many: one pupgevent runs one CONFIG'),
        ("a.toml status.toml", '"status.toml" is one word too many: one pupgevent runs one CONFIG'),
        ("check a.toml ./b", 'check: "./b" is one word too many: one pupgevent runs one CONFIG'),
        # No file.
        ("check conf", 'check: "conf" is no CONFIG (.toml, .json, .jsonc, or a path with /): a file'
         " of that name is written ./conf"),
        ("reload my-app", 'reload: "my-app" is no CONFIG (.toml, .json, .jsonc, or a path with /),'
         ' and reload takes no PROCESS: did you mean "pupgevent restart my-app"?'),
        ("reload conf.toml my-app", 'reload: "my-app" is one word too many, and reload takes no'
         ' PROCESS: did you mean "pupgevent restart conf.toml my-app"?'),
        ("shutdown my-app", 'did you mean "pupgevent stop my-app"?'),
        ("shutdown all", 'did you mean "pupgevent shutdown"?'),
        ("top my-app", 'did you mean "pupgevent status my-app"?'),
        ("describe", "describe: PROCESS is missing"),
        ("describe conf.toml", "describe: PROCESS is missing"),
        ("describe my-app job",
         'describe: "job" is one word too many: one PROCESS is described at a time'),
        ("describe my-app conf.toml",
         'describe: CONFIG comes first: did you mean "pupgevent describe conf.toml my-app"?'),
        ("describe --json my-app", "--json goes with status only"),
        ("list conf.toml", 'list: "conf.toml" is one word too many, since it lists them all: did'
         ' you mean "pupgevent status conf.toml"?'),
        ("list my-app", 'did you mean "pupgevent status my-app"?'),
        ("list all", 'did you mean "pupgevent list"?'),
        ("conf.toml list", 'the command comes first: "pupgevent list"'),
        ("restart my-app conf.toml",
         'restart: CONFIG comes first: did you mean "pupgevent restart conf.toml my-app"?'),
        ("scale my-app conf.toml 3",
         'scale: CONFIG comes first: did you mean "pupgevent scale conf.toml my-app 3"?'),
        ("signal HUP conf.toml",
         'signal: CONFIG comes first: did you mean "pupgevent signal conf.toml HUP"?'),
        # The words of others.
        ("help", 'there is no command "help": did you mean "pupgevent --help"?'),
        ("help status", 'there is no command "help": did you mean "pupgevent --help"?'),
        ("version", 'did you mean "pupgevent --version"?'),
        ("ls", 'there is no command "ls": did you mean "pupgevent list"?'),
        ("show my-app", 'there is no command "show": did you mean "pupgevent describe my-app"?'),
        ("info", 'did you mean "pupgevent describe PROCESS"?'),
        ("ps conf.toml my-app", 'did you mean "pupgevent status conf.toml my-app"?'),
        ("monit conf.toml", 'did you mean "pupgevent top conf.toml"?'),
        # Of Pup, whose `monitor` shows new lines.
        ("monitor conf.toml", 'did you mean "pupgevent logs --follow conf.toml"?'),
        ("enable-service", 'did you mean "pupgevent export systemd"?'),
        ("enable-service conf.toml", 'did you mean "pupgevent export systemd conf.toml"?'),
        ("terminate conf.toml", 'did you mean "pupgevent shutdown conf.toml"?'),
        ("validate conf.toml", 'did you mean "pupgevent check conf.toml"?'),
        ("run conf.toml", 'there is no command "run": did you mean "pupgevent conf.toml"?'),
        ("run", 'there is no command "run": did you mean "pupgevent"?'),
        ("up -d", 'there is no command "up": did you mean "pupgevent"?'),
        ("kill conf.toml my-app", 'did you mean "pupgevent stop conf.toml my-app"?'),
        ("kill -9 my-app", 'did you mean "pupgevent signal 9 my-app"?'),
        ("kill -s HUP my-app", 'did you mean "pupgevent signal HUP my-app"?'),
        ("kill HUP conf.toml", 'did you mean "pupgevent signal conf.toml HUP"?'),
        ("sendSignal SIGUSR2 my-app", 'did you mean "pupgevent signal SIGUSR2 my-app"?'),
        ("sendSignal", 'did you mean "pupgevent signal SIGNAL"?'),
        ("pause conf.toml my-app", 'did you mean "pupgevent signal conf.toml STOP my-app"?'),
        ("tail my-app", 'did you mean "pupgevent logs my-app"?'),
        ("tail -f -n 20 my-app", 'did you mean "pupgevent logs --follow --lines=20 my-app"?'),
        ("jlist", 'did you mean "pupgevent status --json"?'),
        ("ps --json my-app", 'did you mean "pupgevent status --json my-app"?'),
        ("ps -f", 'did you mean "pupgevent status"?'),
        ("numprocesses my-app 3", 'did you mean "pupgevent scale my-app 3"?'),
        # The words of scale and export.
        ("scale conf.toml 3",
         'scale: ID is missing: did you mean "pupgevent scale conf.toml ID 3"?'),
        ("scale conf.toml 3 app",
         'scale: ID comes before INSTANCES: did you mean "pupgevent scale conf.toml app 3"?'),
        ("scale 3", 'scale: ID is missing: did you mean "pupgevent scale ID 3"?'),
        ("scale 3 app", 'did you mean "pupgevent scale app 3"?'),
        ("scale app=3",
         'scale: ID and INSTANCES are two words: did you mean "pupgevent scale app 3"?'),
        ("scale", "scale: ID is missing"),
        ("scale app", "scale: INSTANCES is missing"),
        ("signal", "signal: SIGNAL is missing"),
        ("signal conf.toml", "signal: SIGNAL is missing"),
        ("signal my-app HUP",
         'signal: SIGNAL comes before PROCESS: did you mean "pupgevent signal HUP my-app"?'),
        ("signal conf.toml my-app 9",
         'did you mean "pupgevent signal conf.toml 9 my-app"?'),
        ("signal -HUP my-app",
         'signal: SIGNAL is written without -: did you mean "pupgevent signal HUP my-app"?'),
        ("signal -9 conf.toml", 'did you mean "pupgevent signal conf.toml 9"?'),
        ("signal HPU my-app", 'signal: SIGNAL "HPU" is not known: did you mean "HUP"?'),
        ("signal SIGTREM", 'signal: SIGNAL "SIGTREM" is not known: did you mean "TERM"?'),
        ("signal frobnicate", "a name such as SIGHUP or HUP, or a number from 1 to 64"),
        ("signal 0", 'SIGNAL "0" is not known'),
        ("signal 32", 'SIGNAL "32" is not known'),
        ("signal 65", 'SIGNAL "65" is not known'),
        ("completion", "completion: SHELL is missing"),
        ("completion bsh",
         'completion: SHELL "bsh" is not bash, zsh or fish: did you mean "bash"?'),
        ("completion bash conf.toml", 'completion: "conf.toml" is one word too many'),
        ("export", "export: FORMAT is missing"),
        ("export conf.toml",
         'export: FORMAT is missing: did you mean "pupgevent export systemd conf.toml"?'),
        ("export conf.toml systemd",
         'export: FORMAT comes first: did you mean "pupgevent export systemd conf.toml"?'),
        ("export apache conf.toml",
         'export: FORMAT "apache" is not systemd, prometheus, nginx or haproxy'),
        ("export systemd --http conf.toml", "--http goes with export nginx and haproxy only"),
        ("export --host=a prometheus", "--host goes with export nginx and haproxy only"),
        ("check --host=a", "--host goes with export only"),
        ("export nginx --host", "--host: HOST is missing"),
        ("export nginx --host=", 'export: HOST "" is no name and no address of a machine'),
        ("export nginx --host=10.0.0.1:80", 'HOST "10.0.0.1:80" is no name'),
        ("export nginx --host=fe80::1%eth0", 'HOST "fe80::1%eth0" is no name'),
        ("export nginx --host=a;b", 'HOST "a;b" is no name'),
        ("export nginx --host=a --host=b --host=a", 'HOST "a" is given twice'),
        ("export prometeus", 'did you mean "prometheus"?'),
        ("status --since=1h", "--since goes with logs only"),
        ("logs --since", "--since: TIME is missing"),
        ("check conf.toml more", 'check: "more" is one word too many'),
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
        ("init a.toml Procfile", 'init: did you mean "pupgevent init a.toml --from=Procfile"?'),
        ("init a.toml b.toml", 'init: "b.toml" is one word too many'),
        ("init --from", "--from: FILE is missing"),
        ("init --from=", "init: --from: FILE is missing"),
        ("init --fron=a", 'unknown option "--fron=a": did you mean "--from"?'),
        ("check --from=a conf.toml", "--from goes with init only"),
        ("--json conf.toml", "--json goes with status only"),
        ("start --json conf.toml", "--json goes with status only"),
        ("start --follow conf.toml", "--follow goes with logs only"),
        ("check --verbose conf.toml", "--verbose goes with a run only"),
        ("scale conf.toml app -3", 'unknown option "-3"'),
        ("-j", 'unknown option "-j"'),
        ("-fx", 'unknown option "-fx": there is no "-x"'),
        ("-json status", 'unknown option "-json": did you mean "--json"?'),
        ("-verbose", 'unknown option "-verbose": did you mean "--verbose"?'),
        ("--lin 5 logs", 'unknown option "--lin": did you mean "--lines"?'),
        ("logs --tail=20", 'unknown option "--tail=20": did you mean "--lines=20"?'),
        ("logs -20", 'unknown option "-20": a number of lines is written "-n 20"'),
        ("-c conf.toml", 'unknown option "-c": CONFIG is a word of its own, without an option'),
        ("status --json=yes", '--json takes no value: "--json=yes"'),
        ("logs -n", "-n: LINES is missing"),
        ("logs --lines", "--lines: LINES is missing"),
        ("logs --since", "--since: TIME is missing"),
        ("logs --since=soon", 'logs: TIME "soon" is none of: 30s, 10m'),
        ("logs -S 10m", 'unknown option "-S": did you mean "--since"?'),
        ("logs --since-time=10m", 'did you mean "--since=10m"?'),
        ("status --since=10m", "--since goes with logs only"),
        ("logs -n many", 'logs: LINES "many" is not a whole number from 0'),
        ("logs -n -1", 'logs: LINES "-1" is not a whole number from 0'),
        ("logs -n -f", 'logs: LINES "-f" is not a whole number from 0'),
        ("logs -nf", 'logs: LINES "f" is not a whole number from 0'),
        ("logs --lines=", 'logs: LINES "" is not a whole number from 0'),
        ("logs -n 99999999999", "LINES"),
        ("status -f", "--follow goes with logs only"),
        ("-n 3", "--lines goes with logs only"),
    ],
)
def test_what_is_wrong_is_named(words: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        cli.parse(words.split())
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


#: One of each kind: those of one kind are told apart by nothing but their records.
WORDS = ["status", "describe", "signal", "scale", "reload", "logs", "list", "export", "completion",
         "kill", "pause", "run", "--json", "-n", "-fn", "--lines=5", "-9", "-x", "a.toml", "./c",
         "my-app", "my-app=3", "3", "HUP", "systemd", "PROCESS", "--", "\n"]
ALL_WORDS = [*WORDS, *usage.COMMANDS, *usage.OPTIONS, *usage.SHELLS, *synonyms.COMMANDS,
             *synonyms.OPTIONS, "b.json", "0", "-1", "-", "-HUP", "-V", "-vV", "all", "CONFIG"]


def make_sense_or_are_told_in_one_line(words: "List[str]") -> None:
    try:
        args = cli.parse(words)
    except UsageError as error:
        # The answer for what nobody has thought of.
        assert "make no command" not in str(error)
        assert "\n" not in str(error)
    else:
        assert not args.config or args.config in words


def test_all_words_up_to_three_make_sense_or_are_told_in_one_line() -> None:
    for count, some in enumerate(([], ALL_WORDS, ALL_WORDS, WORDS)):
        for words in itertools.product(some, repeat=count):
            make_sense_or_are_told_in_one_line(list(words))


@given(words=st.lists(st.sampled_from(ALL_WORDS), min_size=3, max_size=7))
def test_any_more_words_make_sense_or_are_told_in_one_line(words: "List[str]") -> None:
    make_sense_or_are_told_in_one_line(words)


@pytest.mark.parametrize(
    "words", [["chekc", "conf.toml"], ["check", "a"], ["--he"], ["scale", "a"], ["signal", "x"]])
def test_a_mistake_is_one_line_that_tells_where_the_usage_is(words: List[str]) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("pupgevent: ")
    assert done.stderr.endswith(" (pupgevent --help shows the usage)\n")


def test_words_of_others_lead_to_what_there_is() -> None:
    named = {"SIGNAL": "HUP", "SHELL": "zsh", "INSTANCES": "3"}
    for word in synonyms.COMMANDS:
        assert word not in usage.COMMANDS and word == word.lower()
        for behind in ([], ["a.toml"], ["HUP", "my-app"], ["-f", "my-app"], ["my-app", "3"]):
            with pytest.raises(UsageError, match="did you mean") as caught:
                cli.parse([word, *behind])
            # What is suggested is a command line that makes sense.
            meant = str(caught.value).split('"')[3].split()
            if meant[1:2] not in (["signal"], ["scale"], ["completion"]) or behind == []:
                cli.parse([named.get(each, each) for each in meant[1:]])


def test_options_of_others_lead_to_what_there_is() -> None:
    for word, ours in synonyms.OPTIONS.items():
        assert word not in usage.OPTIONS
        assert ours in usage.OPTIONS or not ours


def test_the_usage_shows_each_command_with_its_words_and_options() -> None:
    lines = usage.USAGE.partition("Usage:\n")[2].partition("\n\n")[0].splitlines()
    assert lines.pop().split() == ["pupgevent", "--help", "|", "--version"]
    shown: Dict[str, usage.Command] = {}
    for line in lines:
        words = re.sub("[()|]", "", line).split()[1:]
        options = tuple(
            word.strip("[]").partition("=")[0] for word in words if word.startswith("[--"))
        behind = tuple(word.strip("[].") for word in words if word.isupper())
        names = [word for word in words if word.isalpha() and word.islower()] or [""]
        makes = "init" in names
        shown.update(
            (name, usage.Command(behind, "..." in line.split()[-1], options, makes))
            for name in names)
    assert shown == dict(usage.COMMANDS, **{"": usage.RUN})


def test_the_usage_shows_each_option_with_its_short_name_and_its_value() -> None:
    section = usage.USAGE.partition("Options:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^  (-\w)? ?(--[a-z]+)=?([A-Z]*) ", section, re.MULTILINE)
    shown = {name: usage.Option(short, value, name == "--host") for short, name, value in found}
    assert shown == usage.OPTIONS
    assert "[--host=HOST]..." in usage.USAGE


def test_the_command_line_takes_each_shell_that_has_a_script() -> None:
    assert tuple(completion.SHELLS) == usage.SHELLS


def test_help_and_version_end_with_0() -> None:
    done = run("--help")
    assert (done.returncode, done.stdout, done.stderr) == (0, usage.USAGE, "")
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
