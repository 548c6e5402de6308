"""What a reply may do to a command, and to a terminal."""

import json
from typing import Any, Dict

import pytest
from hypothesis import given, strategies as st

import status_commands
from control_protocol import BadReply, checked
from errors import PupgeventError

#: Clear the screen, set the title, ring, an end of line that hides the rest, C1 of the same.
ORDERS = "\x1b[2J\x1b]0;owned\x07\r\x08\x9b2J\x7f\u2028"

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda each: st.lists(
        each, max_size=3) | st.dictionaries(st.text(), each, max_size=3), max_leaves=10)


def is_harmless(text: str) -> bool:
    return not any(ord(each) < 32 or 127 <= ord(each) < 160 for each in text)


@pytest.mark.parametrize("field", ["progress", "error", "text"])
def test_no_text_of_a_reply_gives_orders_to_a_terminal(field: str) -> None:
    reply = checked({field: "all is well" + ORDERS}, True)
    assert is_harmless(reply[field])
    assert reply[field].startswith("all is well\\x1b[2J")


@given(PLAIN)
def test_nothing_in_a_reply_gives_orders_to_a_terminal(value: Any) -> None:
    found = checked({"value": value}, False)
    assert is_harmless(json.dumps(found, ensure_ascii=False))


def test_lines_keep_what_our_own_applications_print_and_only_colours_of_others() -> None:
    line = "[\x1b[32mapp\x1b[0m]\tdone\n"
    assert checked({"lines": line + ORDERS}, True)["lines"] == line + ORDERS
    found = checked({"lines": line + ORDERS}, False)["lines"]
    assert found.startswith(line)
    assert is_harmless(found[len(line):])
    assert checked({"lines": "\x1b[31\x1b[1m\n"}, False)["lines"] == "?[31\x1b[1m\n"


@pytest.mark.parametrize("value", [
    None, [], "ok", {"ok": 1}, {"ok": True, "text": []}, {"progress": {}}, {"lines": None},
    {"ok": False, "status": "4"}, {"pid": "1"},
])
def test_a_reply_of_another_form_is_odd(value: Any) -> None:
    with pytest.raises(BadReply, match="the answer is not one of this version of pupgevent"):
        checked(value, True)


def test_a_field_that_is_missing_is_odd_however_deep() -> None:
    reply = checked({"ok": True, "status": {"processes": [{"id": "a", "members": []}]}}, True)
    with pytest.raises(BadReply):
        reply["text"]
    with pytest.raises(BadReply):
        status_commands.status_in(reply)


@given(PLAIN)
def test_a_status_of_another_form_is_odd(value: Any) -> None:
    with pytest.raises(BadReply):
        status_commands.status_in(checked({"ok": True, "status": {"processes": value}}, True))


def test_a_reply_that_is_too_deep_is_odd() -> None:
    deep: Dict[str, Any] = {}
    for _ in range(100000):
        deep = {"": deep}
    with pytest.raises(BadReply):
        checked(deep, True)
    assert issubclass(BadReply, PupgeventError)
    while deep:  # else its end is as deep
        deep = deep[""]
