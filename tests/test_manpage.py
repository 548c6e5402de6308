"""The manual page is up to date, is what `man` and its relatives like, and tells everything."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

import cli
import keys
import usage

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))

import manpage  # noqa: E402
import roff  # noqa: E402

PAGE = ROOT / "docs" / "pupgevent.1"
SECTIONS = [
    "NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "OPTIONS", "CONFIGURATION", "INSTANCES",
    "BALANCING", "ENVIRONMENT", "FILES", "SIGNALS", "EXIT STATUS", "EXAMPLES", "SEE ALSO",
]  # fmt: skip


def tool(name: str) -> "pytest.MarkDecorator":
    return pytest.mark.skipif(shutil.which(name) is None, reason="no %s here" % name)


def said_by(*words: str, **environment: str) -> str:
    """All that a program prints, its complaints included; it has to end with 0."""
    done = subprocess.run(
        words, env=dict(os.environ, LC_ALL="C.UTF-8", **environment), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False)
    output = done.stdout.decode("utf-8")
    assert done.returncode == 0, output
    return output


def shown() -> Dict[str, str]:
    """The page on a screen of 80 columns, by its sections."""
    # In a pipe some versions print bold by striking twice.
    text = re.sub(".\b", "", said_by("man", "-l", str(PAGE), MANWIDTH="80"))
    parts = re.split(r"(?m)^([A-Z][A-Z ]+)$", text)
    return dict(zip(parts[1::2], parts[2::2]))


def test_the_page_is_what_its_sources_give() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    current = PAGE.read_text(encoding="ascii")
    assert manpage.page(readme) == current, "make readme brings it up to date"


@tool("man")
def test_man_shows_every_section_in_eighty_columns() -> None:
    sections = shown()
    assert list(sections) == SECTIONS
    lines = [line for text in sections.values() for line in text.splitlines()]
    assert [line for line in lines if len(line) > 80] == []


@tool("man")
def test_man_shows_every_command_option_and_exit_code() -> None:
    sections = shown()
    # The longest line is broken between two words.
    synopsis = "%s " % " ".join(sections["SYNOPSIS"].split())
    for line in manpage.read_usage(usage.USAGE).lines:
        assert " pupgevent %s " % line in " " + synopsis
    for command in usage.COMMANDS:
        assert re.search(r"(?m)^       .*\b%s\b" % command, sections["COMMANDS"]), command
    for option in usage.OPTIONS:
        assert option in sections["OPTIONS"]
    assert re.findall(r"(?m)^       (\d)  ", sections["EXIT STATUS"]) == list("01234")


@tool("man")
def test_man_shows_every_key_with_its_value_default_and_meaning() -> None:
    text = shown()["CONFIGURATION"]
    parts = re.split(r"(?m)^   (\S.*)$", text)[1:]
    tables = dict(zip(parts[::2], parts[1::2]))
    assert list(tables) == ["The top level"] + ["[" + each.header[1:] for each in keys.TABLES[1:]]
    for table, said in zip(keys.TABLES, tables.values()):
        items = re.split(r"(?m)^       (?=\S)", said)[1:]
        assert len(items) == len(table.keys)
        for key, item in zip(table.keys, items):
            words = " ".join(unhyphenated(item).split())
            assert words.startswith(key.name)
            assert "Default: %s." % plain(key.default_text) in words
            assert "Value: %s." % plain(key.type.allowed) in words
            assert plain(key.meaning)[1:] in words


def unhyphenated(text: str) -> str:
    return re.sub("\u2010\n *", "", text)


def plain(markdown: str) -> str:
    return " ".join(markdown.replace("`", "").split())


@tool("man")
def test_man_complains_of_nothing() -> None:
    """As lintian asks it, for its tag groff-message."""
    command = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(PAGE)]
    done = subprocess.run(
        command, env=dict(os.environ, MANROFFSEQ="", MANWIDTH="80", LC_ALL="C.UTF-8"),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@tool("groff")
def test_groff_warns_of_nothing() -> None:
    assert said_by("groff", "-man", "-ww", "-z", "-Tutf8", str(PAGE)) == ""


@tool("mandoc")
def test_mandoc_warns_of_nothing() -> None:
    assert said_by("mandoc", "-T", "lint", "-W", "warning", str(PAGE)) == ""


@tool("lexgrog")
def test_whatis_and_apropos_find_its_name() -> None:
    """What lintian asks for its tag bad-whatis-entry."""
    told = said_by("lexgrog", str(PAGE))
    assert re.match(r'%s: "pupgevent - .*"\n$' % re.escape(str(PAGE)), told)


def test_every_example_is_a_command_line_that_makes_sense() -> None:
    for line in manpage.EXAMPLES:
        name, *words = shlex.split(re.split(r" (?:>|\|\|) ", line)[0])
        assert name == "pupgevent"
        cli.parse(words)


@pytest.mark.parametrize(
    "markdown, expected",
    [
        ("plain-text", "plain-text"),
        ("`--json` of *that*", "\\fB\\-\\-json\\fR of *that*"),
        ("**bold** C:\\dir", "\\fBbold\\fR C:\\edir"),
        ("~/.cache ^ 'x'", "\\(ti/.cache \\(ha \\(aqx\\(aq"),
        ("a \u2192 b", "a \\[u2192] b"),
        ("see [Balancing](#balancing)", "see BALANCING"),
        ("[`a.py`](a.py), [more](docs/x.md#y)", "\\fBa.py\\fR, more in \\fBdocs/x.md\\fR"),
        ("`a b`", "\\fBa \\%b\\fR"),
    ],
)
def test_markdown_becomes_roff(markdown: str, expected: str) -> None:
    assert roff.inline(markdown) == expected


def test_no_line_of_a_paragraph_is_taken_for_a_request() -> None:
    lines = roff.paragraph(" ".join(["word"] * 15 + [".TH"] * 20 + ["'quoted"] * 20)).splitlines()
    assert lines[0] == ".PP"
    assert len(lines) > 3
    assert not [line for line in lines[1:] if line[0] in ".'"]


def test_a_markdown_text_is_taken_apart() -> None:
    text = (
        "One\nparagraph.\n\n* a\n  b\n* c\n\n```\ncode\n```\n\n| k | v |\n|---|---|\n| x | y |\n\n"
        "<!-- keys -->\nleft out\n<!-- /keys -->\n")
    assert list(roff.blocks(text)) == [
        ("text", ["One\nparagraph."]), ("list", ["a\n  b\n", "c"]),
        ("table", ["| k | v |", "|---|---|", "| x | y |"])]


def broken_usages() -> List[str]:
    return [
        usage.USAGE.replace("Options:", "Choices:"), usage.USAGE.replace("Exit codes:", "Codes:"),
        usage.USAGE.replace("Commands:\n", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("text", broken_usages(), ids=["options", "codes", "commands"])
def test_a_usage_of_another_make_is_told_and_not_left_out(text: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        manpage.read_usage(text)


def test_a_command_without_words_of_its_own_is_told(monkeypatch: Any) -> None:
    monkeypatch.setitem(usage.COMMANDS, "juggle", usage.Command())
    with pytest.raises(ValueError, match="juggle"):
        manpage.page((ROOT / "README.md").read_text(encoding="utf-8"))
