"""Text in columns: cut, folded and painted without a column too many."""

import re
from typing import List

import pytest
from hypothesis import given, strategies as st

import styled_text
from screens import Screen
from styled_text import Span, columns, cut, folded, rendered

#: Wide ones, ones that take no column, and plain ones.
TEXT = st.text(st.sampled_from("ab \u00e9\u4f60\u597d\u0301\U0001f600~"), max_size=60)


@pytest.mark.parametrize("text, expected", [
    ("", 0), ("abc", 3), ("\u00e9", 1), ("e\u0301", 1), ("\u4f60\u597d", 4), ("a\u200bb", 2),
    ("\uff21", 2), ("\U0001f600", 2),
])
def test_the_columns_that_a_text_takes(text: str, expected: int) -> None:
    assert columns(text) == expected


@given(TEXT, st.integers(0, 70))
def test_what_is_cut_has_room_and_what_has_room_is_not_cut(text: str, width: int) -> None:
    found = cut(text, width)
    assert columns(found) <= width
    assert found == text if columns(text) <= width else text.startswith(found[:-1])
    if columns(text) > width > 0:
        assert found.endswith("~")


@given(TEXT, st.integers(6, 70), st.integers(0, 4))
def test_what_is_folded_is_all_there_in_lines_that_have_room(
    text: str, width: int, indent: int
) -> None:
    lines = folded(text, width, indent)
    assert max(map(columns, lines)) <= width
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(line.startswith(" " * indent) for line in lines[1:])


def test_words_are_kept_whole_where_they_have_room() -> None:
    assert folded("one two three four", 9, 2) == ["one two", "  three", "  four"]
    assert folded("a" * 12, 8, 2) == ["a" * 8, "  aaaa"]
    assert folded("one two three four", None, 2) == ["one two three four"]


@given(st.lists(st.tuples(TEXT, st.sampled_from(["", "1", "31"])), max_size=5),
       st.one_of(st.none(), st.integers(0, 70)))
def test_colours_change_nothing_but_the_colours(parts: "List[tuple[str, str]]", width: int) -> None:
    line = [Span(*each) for each in parts]
    plain, painted = rendered(line, width), rendered(line, width, colors=True)
    assert re.sub("\x1b\\[[0-9]+m", "", painted) == plain
    # None is left on for what comes behind.
    assert len(re.findall("\x1b\\[[1-9]", painted)) == painted.count("\x1b[0m")


def test_each_part_has_its_own_colour() -> None:
    line = [Span("id ", ""), Span("running", styled_text.GREEN), Span("  ", "1"), Span("4", "")]
    assert rendered(line, None, True) == "id \x1b[32mrunning\x1b[0m  4"
    assert rendered(line, 6, True) == "id \x1b[32mru~\x1b[0m"


def test_a_line_as_wide_as_the_screen_is_not_clipped_by_the_one_behind_it() -> None:
    """What the tests of screens rely on: the model keeps the cursor on the last column."""
    screen = Screen(5, 2)
    screen.feed(b"\x1b[H12345")
    assert screen.text == "12345" and screen.wraps == 0
    screen.feed(b"\x1b[K")
    assert screen.text == "1234"
    screen.feed(b"\x1b[H\x1b[K12345\r\n\x1b[K67890")
    assert screen.text == "12345\n67890" and screen.scrolls == 0
    screen.feed(b"!")
    assert screen.wraps == 1 and screen.scrolls == 1
