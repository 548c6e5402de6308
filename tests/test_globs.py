"""Globs match what they match in Deno, whose standard library Pup hands its patterns to."""

import json
from pathlib import Path
from typing import Any, List, Optional

import pytest

import globs

#: Made with @std/path and Deno 2.9: of each glob the numbers of the paths that it matches; null: no
#: regular expression can be made of it.
TABLE: Any = json.loads(
    Path(__file__).with_name("globs.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("glob, numbers", TABLE["globs"])
def test_a_glob_matches_what_it_matches_in_deno(
    glob: str, numbers: Optional[List[int]]
) -> None:
    if numbers is None:
        with pytest.raises(globs.BadGlob, match="runs backwards"):
            globs.compiled(glob)
        return
    found = globs.compiled(glob)
    matched = [path for path in TABLE["paths"] if found.matches(path)]
    assert matched == [TABLE["paths"][number] for number in numbers]


def test_the_table_has_globs_of_every_kind() -> None:
    counts = [len(numbers) for _, numbers in TABLE["globs"] if numbers is not None]
    assert len(counts) > 100 and 0 in counts and max(counts) == len(TABLE["paths"])


@pytest.mark.parametrize("glob, part", [
    ("*(*.js)", "* is inside of a group that repeats, *(...)"),
    ("+(+(a)).js", "+( is inside of a group that repeats, +(...)"),
    ("*(a|@(b|!(c)))", "!( is inside of a group that repeats, *(...)"),
])
def test_a_glob_that_would_take_for_ever_is_refused(glob: str, part: str) -> None:
    with pytest.raises(globs.BadGlob) as caught:
        globs.compiled(glob)
    assert str(caught.value) == part


def test_a_glob_without_an_end_is_no_such_glob_but_literal() -> None:
    assert globs.compiled("*(*.js").matches("*(*.js")
    assert not globs.compiled("*(*.js").matches("a.js")


@pytest.mark.parametrize("glob, covered, others", [
    ("**/.git/**", [".git", "a/.git", ".git/hooks"], ["a", "git", "a/.gitx", ""]),
    ("**/node_modules/**/", ["node_modules", "a/b/node_modules"], ["src"]),
    ("**", ["a", "a/b"], []),
    ("build/**", ["build", "build/a"], ["a/build", "builds"]),
    ("**/.git/*", [], [".git", "a/.git"]),
    ("**/.git", [], [".git", "a/.git"]),
    ("build/***", [], ["build", "build/a"]),
    ("{build/**", [], ["build", "build/a"]),
    ("{build/**,x}", [], ["build"]),
])
def test_a_glob_covers_a_folder_when_nothing_in_it_can_escape(
    glob: str, covered: List[str], others: List[str]
) -> None:
    found = globs.compiled(glob)
    assert [path for path in covered + others if found.covers(path)] == covered
    for folder in covered:
        for name in ("x", ".x", "x/y.js", "x\n", "x//y"):
            assert found.matches("%s/%s" % (folder, name))


def test_a_character_is_one_wherever_it_is_in_unicode() -> None:
    assert globs.compiled("?.md").matches("\U0001f600.md")
