"""Whatever another tool's file holds: `check` takes what `init` makes of it, or a line says why."""

import configparser
import json
import shlex
from pathlib import Path
from typing import Any, Dict, List

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

import configuration
import ini_text
import init
import toml_text
from errors import ConfigurationError
from scanners import parse_toml

#: Characters that mean something to somebody, and some that mean nothing to anybody.
LETTERS = "aZ09 _-.:=,;#%()[]{}\"'\\$`&|<>/\t\r\n\x01\x7f\x85é\u2028😀"
TEXTS = st.text(LETTERS, max_size=20)
ROUGH = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    return Path(str(tmp_path_factory.mktemp("init")))


def accepted_or_told(folder: Path, name: str, text: str) -> bool:
    """Whether it was accepted; fails where neither is the case."""
    source, target = folder / name, folder / "made.toml"
    source.write_bytes(text.encode())
    try:
        written = init.make(str(target), str(source))
    except ConfigurationError as error:
        assert str(error).startswith(str(source))
        assert all("\n" not in line for line in error.lines)
        # Only a pup.json can be wrong in itself; the importers make nothing that is refused.
        assert name in ("pup.json", "a.json") or "check would refuse" not in str(error), error
        return False
    target.write_bytes(written.text.encode())
    loaded = configuration.load(str(target))
    assert len(loaded.processes) == written.processes
    return True


def lines_of(*parts: Any) -> Any:
    """A text of lines, most of which look right."""
    return st.lists(st.one_of(*parts), max_size=12).map("\n".join)


NAMES = ["web", "worker", "all", "web-1", "release", "a" * 70, "a" * 69 + "b", "x_y"]
PROCFILES = lines_of(
    st.tuples(st.sampled_from(NAMES), st.sampled_from([": ", ":", " : "]), TEXTS).map("".join),
    st.just("web: serve $PORT"), st.just("# comment"), TEXTS)
GOOD_PROCFILES = st.lists(
    st.tuples(st.sampled_from(NAMES), TEXTS), min_size=1, max_size=8,
    unique_by=lambda line: line[0]).map(lambda lines: "\n".join(
        "%s: x $PORT %s" % (name, text.replace("\n", " ")) for name, text in lines))


@ROUGH
@given(text=PROCFILES)
def test_any_procfile_is_carried_over_or_refused_in_a_line(folder: Path, text: str) -> None:
    accepted_or_told(folder, "Procfile", text)


@ROUGH
@given(text=GOOD_PROCFILES)
def test_a_procfile_with_commands_is_carried_over(folder: Path, text: str) -> None:
    assert accepted_or_told(folder, "Procfile", text)


OPTIONS = """command process_name numprocs numprocs_start priority autostart startsecs startretries
    autorestart exitcodes stopsignal stopwaitsecs stopasgroup killasgroup user redirect_stderr
    stdout_logfile stdout_logfile_maxbytes stdout_logfile_backups stderr_logfile directory umask
    stderr_logfile_maxbytes environment serverurl identifier files programs unknown""".split()
VALUES = """true false unexpected 0 1 2 -1 300 99999999999999999999 TERM 15 99 SIGKILL 022 NONE AUTO
    /dev/stdout /tmp 1MB cat nobody A="1",B=2 A=%(ENV_HOME)s A="%(process_num)d" %(program_name)s
    %(here)s --port=80%(process_num)02d %(process_num)5s %(nope)s %% %( % %(a)99s 'a "b c" ;x
    """.split(" ")
SECTIONS = """supervisord program:web program:web-1 program:all program: group:g include
    eventlistener:e fcgi-program:f inet_http_server DEFAULT other""".split()

OPTION = st.tuples(
    st.sampled_from(OPTIONS), st.sampled_from(["=", ": ", " = "]),
    st.lists(st.sampled_from(VALUES), max_size=2).map(" ".join)).map("".join)
GOOD_PROGRAMS = st.lists(OPTION, max_size=12).map("\n".join)
SUPERVISORD = lines_of(
    st.sampled_from(SECTIONS).map("[{}]".format),
    st.just("[program:web]\ncommand=python3 -m x --port=80%(process_num)02d\nnumprocs=3"),
    st.tuples(st.sampled_from(OPTIONS), st.sampled_from(["=", ": ", " = "]), st.lists(
        st.one_of(st.sampled_from(VALUES), TEXTS), max_size=3).map(" ".join)).map("".join),
    OPTION.map("  {}".format), TEXTS, TEXTS.map("    {}".format))


@ROUGH
@given(text=SUPERVISORD)
def test_any_supervisord_conf_is_carried_over_or_refused_in_a_line(
    folder: Path, text: str
) -> None:
    accepted_or_told(folder, "supervisord.conf", text)
    accepted_or_told(folder, "supervisord.conf", "[program:first]\ncommand=cat\n" + text)


#: Of a few, so that they get into each other's place.
LOG_OPTIONS = {
    "numprocs": ["1", "2"], "process_name": ["%(process_num)d"],
    "stdout_logfile": ["a", "./a", "a-%(process_num)d", "made.toml", "NONE", "/dev/null"],
    "stderr_logfile": ["a", "a-1", "{id}", "a-{instance}", "NONE", "%(here)s/a"],
    "stdout_logfile_maxbytes": ["1", "2"], "stderr_logfile_maxbytes": ["1", "2"],
    "stdout_logfile_backups": ["10", "5000"], "redirect_stderr": ["true", "false"],
}  # fmt: skip


@ROUGH
@given(programs=st.lists(st.fixed_dictionaries(
    {name: st.sampled_from([None, *values]) for name, values in LOG_OPTIONS.items()}),
    min_size=1, max_size=3))
def test_log_files_of_supervisord_are_carried_over_whoever_has_the_same(
    folder: Path, programs: List[Dict[str, Any]]
) -> None:
    assert accepted_or_told(folder, "supervisord.conf", "\n".join(
        "[program:%s]\ncommand=cat\n" % name + "".join(
            "%s=%s\n" % option for option in options.items() if option[1] is not None)
        for name, options in zip("abc", programs)))


@ROUGH
@given(options=st.lists(GOOD_PROGRAMS, min_size=1, max_size=4))
def test_options_of_supervisord_with_odd_values_are_carried_over_or_refused_in_a_line(
    folder: Path, options: List[str]
) -> None:
    accepted_or_told(folder, "supervisord.conf", "\n".join(
        ("[supervisord]\n" if place == 3 else "[program:%s]\ncommand=cat\n" % NAMES[place]) + text
        for place, text in enumerate(options)))


NUMBERS = st.sampled_from([0, 1, -1, 2, 80, 3000, 70000, 10**30, 1.5, -0.0, 1e300])
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.sampled_from(
    "max,3,10s,260M,cluster,PORT,none,node,/dev/null,~/a,0 3 * * *".split(",")))
ANY = st.recursive(PLAIN, lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)), max_leaves=5)
PM2_KEYS = """name exec cmd args interpreter node_args cwd instances exec_mode env
    env_production env_file watch ignore_watch max_memory_restart cron_restart autorestart
    max_restarts min_uptime restart_delay exp_backoff_restart_delay kill_timeout wait_ready
    listen_timeout out_file error_file log_file merge_logs log_date_format uid gid pid_file port
    increment_var stop_exit_codes autostart disable_logs treekill instance_var vizion x""".split()


def pm2_app(values: Dict[str, Any]) -> Dict[str, Any]:
    return dict(values, script="app.js")


APPS = st.one_of(
    st.dictionaries(st.sampled_from(PM2_KEYS), ANY, max_size=12).map(pm2_app),
    st.fixed_dictionaries({
        "script": st.just("a.js"), "instances": st.sampled_from(["max", -1, 2, "3"]),
        "env": st.fixed_dictionaries({"PORT": st.sampled_from([3000, "3001", 65535, 8000])}),
        "exec_mode": st.sampled_from(["cluster", "fork"]), "increment_var": st.just("PORT"),
        "pid_file": st.sampled_from(["a.pid", "made.toml"]),
        "out_file": st.sampled_from(["a.pid", "made.toml", "a-1.pid", "a.log", "/dev/null"]),
        "error_file": st.sampled_from(["a.log", "a.pid", "/dev/null"]),
        "merge_logs": st.booleans()}))  # fmt: skip


@ROUGH
@given(apps=st.lists(APPS, max_size=4))
def test_any_ecosystem_file_is_carried_over_or_refused_in_a_line(
    folder: Path, apps: List[Any]
) -> None:
    for values in (apps, {"apps": apps, "deploy": {}}, apps[0] if apps else {}):
        accepted = accepted_or_told(folder, "ecosystem.config.json", json.dumps(values))
        assert accepted or not apps


@ROUGH
@given(values=ANY)
def test_any_json_is_carried_over_or_refused_in_a_line(folder: Path, values: Any) -> None:
    for each in (values, [values], {"apps": values}, {"processes": values}):
        accepted_or_told(folder, "a.json", json.dumps(each))


@ROUGH
@given(processes=st.lists(st.dictionaries(st.sampled_from(
    "id cmd worker env cwd path pidFile autostart cluster restart logger watch cron x".split()),
    ANY, max_size=8).map(lambda values: dict({"cmd": "true"}, **values)), max_size=4), top=ANY)
def test_any_pup_json_is_carried_over_or_refused_in_a_line(
    folder: Path, processes: List[Any], top: Any
) -> None:
    values = dict(top if isinstance(top, dict) else {"logger": top}, processes=processes)
    accepted_or_told(folder, "pup.json", json.dumps(values))


@ROUGH
@given(text=st.one_of(SUPERVISORD, PROCFILES, st.text(max_size=50)),
       name=st.sampled_from(["Procfile", "a.conf", "a.json", "a", "a.js", "a.toml", "a.yml"]))
def test_any_text_by_any_name_is_carried_over_or_refused_in_a_line(
    folder: Path, text: str, name: str
) -> None:
    accepted_or_told(folder, name, text)


@ROUGH
@given(name=st.text(), value=st.recursive(
    st.one_of(st.text(), st.text("'\n\"\\a"), st.booleans(), st.integers(-2**60, 2**60),
              st.floats(allow_nan=False)),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)), max_leaves=8))
@example(name="", value="in two\n'lines'")
@example(name="a.b", value="it's \"quoted\"")
def test_a_value_is_the_same_after_it_was_written(name: str, value: Any) -> None:
    line = toml_text.assignment(name, value)
    comment = "\n".join([toml_text.quoted_line(name), *toml_text.comment(name)])
    assert parse_toml("%s\n%s\n%s\n" % (comment, line, comment)) == {name: value}


@ROUGH
@given(text=SUPERVISORD)
@example(text="  [a]\n  b=c\n  d=e\n    f\n\n    g ; h\n  # i\n    j\n")
@example(text="[DEFAULT]\na=b\n[c]\nA: d;e #f\n=g\n")
def test_an_ini_file_has_the_values_that_configparser_reads(text: str) -> None:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    # Only these end a line of a file; configparser is given lines, as from a file.
    lines = text.replace("\r\n", "\n").split("\n")
    try:
        parser.read_file(line + "\n" for line in lines)
        expected = {name: dict(parser.items(name)) for name in parser.sections()}
    except configparser.Error:
        with pytest.raises(ConfigurationError):
            ini_text.read("a.conf", text)
        return
    found = ini_text.read("a.conf", text)
    assert {section.name: {name: option.value for name, option in section.options.items()}
            for section in found} == expected
    for section in found:
        for name, option in section.options.items():
            assert name in lines[option.line - 1].lower()


@ROUGH
@given(words=st.lists(TEXTS.filter(bool), min_size=1, max_size=4))
def test_a_command_of_supervisord_keeps_its_words(folder: Path, words: List[str]) -> None:
    line = " ".join(map(shlex.quote, words)).replace("%", "%%").replace("\n", " ")
    source = folder / "words.conf"
    source.write_bytes(("[program:a]\ncommand=%s\n" % line).encode())
    (section,) = ini_text.read(str(source), source.read_bytes().decode())
    try:
        expected = shlex.split(section.options["command"].value.replace("%%", "%"))
    except ValueError:
        return  # a comment has cut a quote off
    target = folder / "words.toml"
    try:
        target.write_bytes(init.make(str(target), str(source)).text.encode())
    except ConfigurationError:
        assert not expected or not expected[0].strip()
        return
    assert list(configuration.load(str(target)).processes[0].cmd) == expected
