"""Files of environment variables: each form of a line, and what is no line."""

import os
import subprocess
from pathlib import Path
from typing import Callable, Dict

import pytest
from hypothesis import given, settings, strategies as st

import child
import configuration
import env_files
from env_files import BadLine, parse
from errors import ConfigurationError
from model import instance_specs, variables_of


@pytest.mark.parametrize("text, expected", [
    ("", {}),
    ("\n  \n\t\n", {}),
    ("A=1", {"A": "1"}),
    ("A=1\nB=2\n", {"A": "1", "B": "2"}),
    ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
    ("A=1\nA=2\n", {"A": "2"}),
    ("# A=1\n  # B=2\nC=3\n", {"C": "3"}),
    ("A=b # c", {"A": "b # c"}),
    ("A=", {"A": ""}),
    ("A= b c \t", {"A": "b c"}),
    ("  A = b", {"A": "b"}),
    ("a.b-c=1", {"a.b-c": "1"}),
    ("A=b=c", {"A": "b=c"}),
    ("A=it's", {"A": "it's"}),
    ("A={\"b\": 1}", {"A": '{"b": 1}'}),
    ("A=$B ${C} `d` \\n", {"A": "$B ${C} `d` \\n"}),
    ("export A=1", {"A": "1"}),
    ("export=1", {"export": "1"}),
    ("A='b c'", {"A": "b c"}),
    ("A='b' # c", {"A": "b"}),
    ("A='b\\n\"$c'", {"A": 'b\\n"$c'}),
    ("A='b\nc'\nD=1", {"A": "b\nc", "D": "1"}),
    ('A="b\\nc\\t\\r\\"\\\\\\$\\x"', {"A": 'b\nc\t\r"\\$x'}),
    ('A="b\nc"\nD=1', {"A": "b\nc", "D": "1"}),
    ('A="b\\\nc"', {"A": "bc"}),
    ("A=''", {"A": ""}),
    ("GIVEN\nABSENT\nB=1", {"GIVEN": "by us", "B": "1"}),
    ("A=\u00e4\u20ac", {"A": "\u00e4\u20ac"}),
])
def test_a_file_is_read_as_docker_reads_it_and_with_quotes(
    text: str, expected: Dict[str, str]
) -> None:
    assert parse(text, {"GIVEN": "by us", "OTHER": "x"}) == expected


@pytest.mark.parametrize("text, line, reason", [
    ("A=1\n=2\n", 2, "it is not NAME=value"),
    ("A=1\n\n'B'=2\n", 3, "it is not NAME=value"),
    ("A B\n", 1, "it is not NAME=value"),
    ("A B=1\n", 1, "it is not NAME=value"),
    ("A='b\nc\n", 1, "its quote is never closed"),
    ('A=1\nB="c\\"\n', 2, "its quote is never closed"),
    ("A='b'c\n", 1, "there is text behind the closing quote"),
    ("A='x\ny' z\n", 2, "there is text behind the closing quote"),
    ("A=1\nB=\0\n", 2, "it has a NUL character in it"),
])
def test_a_bad_line_is_named_with_its_reason(text: str, line: int, reason: str) -> None:
    with pytest.raises(BadLine) as caught:
        parse(text, {})
    assert (caught.value.line, caught.value.reason) == (line, reason)


NAMES = st.from_regex("[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True)
VALUES = st.text().filter(lambda value: not set(value) & set("\0\r"))


@given(st.dictionaries(NAMES, VALUES))
def test_what_is_quoted_comes_back_whatever_it_is(variables: Dict[str, str]) -> None:
    text = ""
    for name, value in variables.items():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
        text += '%s="%s"\n' % (name, escaped)
    assert parse(text, {}) == variables


@given(st.text())
def test_any_text_is_read_or_refused_with_a_line_of_it(text: str) -> None:
    try:
        found = parse(text, {})
    except BadLine as error:
        assert 1 <= error.line <= text.count("\n") + 2
    else:
        assert all(name and "=" not in name for name in found)


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(NAMES, st.text("ab $\"\\`#=\n\t", max_size=12), min_size=1, max_size=3))
def test_a_shell_reads_the_same_from_single_quotes(variables: Dict[str, str]) -> None:
    variables = {"T_" + name: value for name, value in variables.items()}
    text = "".join("export %s='%s'\n" % each for each in variables.items())
    output = subprocess.check_output(["sh", "-c", text + "exec env -0"])
    seen = dict(each.split("=", 1) for each in output.decode().split("\0") if each)
    found = parse(text, {})
    assert found == variables == {name: seen.get(name) for name in variables}


# As the value of a key


def written(folder: Path, data: bytes, more: str = "") -> str:
    (folder / "app.env").write_bytes(data)
    path = folder / "app.toml"
    path.write_text('[[processes]]\nid = "job"\ncmd = "true"\nenvFile = "app.env"\n' + more)
    return str(path)


def test_its_variables_are_those_of_the_process_and_env_goes_before_them(tmp_path: Path) -> None:
    path = written(tmp_path, b"\xef\xbb\xbfA=file\nB=file\n", '[processes.env]\nB = "env"\n')
    process = configuration.load(path).processes[0]
    variables = variables_of(process, instance_specs(process)[0])
    assert variables == {"A": "file", "B": "env", "PUP_PROCESS_ID": "job"}


def test_bytes_that_are_no_text_reach_the_child_as_they_are(tmp_path: Path) -> None:
    process = configuration.load(written(tmp_path, b"A=\xff\xfe\n")).processes[0]
    assert child.environment(process.env_file or {}, None)[b"A"] == b"\xff\xfe"


@pytest.mark.parametrize("more, port", [
    ("", "8000"),
    ('[processes.env]\nPORT = 9000\n', "9000"),
])
def test_port_is_that_of_the_instance_unless_env_says_otherwise(
    more: str, port: str, tmp_path: Path
) -> None:
    """A file has one PORT for all instances."""
    text = "[processes.cluster]\nstartPort = 8000\n"
    process = configuration.load(written(tmp_path, b"PORT=3000\n", more + text)).processes[0]
    variables = variables_of(process, instance_specs(process)[0])
    assert (variables["PORT"], variables["PUP_CLUSTER_PORT"]) == (port, "8000")


def test_without_ports_the_file_may_say_port(tmp_path: Path) -> None:
    process = configuration.load(written(tmp_path, b"PORT=3000\n")).processes[0]
    assert variables_of(process, instance_specs(process)[0])["PORT"] == "3000"


def test_a_mistake_in_it_is_told_with_its_line_and_without_its_value(tmp_path: Path) -> None:
    path = written(tmp_path, b"A=1\nTOKEN='hunter2\n")
    with pytest.raises(ConfigurationError) as caught:
        configuration.load(path)
    assert str(caught.value) == (
        '%s:4: processes[0].envFile: "app.env", line 2: its quote is never closed' % path)


@pytest.mark.parametrize("make", [
    lambda path: None, lambda path: path.mkdir(), lambda path: os.mkfifo(str(path)),
])
def test_what_is_no_readable_file_is_refused_at_once(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    path = written(tmp_path, b"")
    (tmp_path / "app.env").unlink()
    make(tmp_path / "app.env")
    with pytest.raises(ConfigurationError, match="is not a path of a readable"):
        configuration.load(path)


def test_a_file_larger_than_any_environment_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, b"A=" + b"x" * env_files.LARGEST)
    with pytest.raises(ConfigurationError, match="is larger than 1048576 bytes"):
        configuration.load(path)
