"""Which tests run on which Python, where there is no time for all of them on each."""

from typing import Dict, Optional, Set

import pytest

import every_python
from conftest import EVERYWHERE, ONCE, ROOT, THOROUGH, is_left_out
from every_python import MINORS

MODULES = {path.stem for path in ROOT.glob("tests/test_*.py")}

#: 3.6, one between, and 3.13.
INSTALLED: Dict[int, Optional[str]] = {**dict.fromkeys(MINORS), 6: "/6", 8: "/8", 13: "/13"}


def test_every_module_that_is_named_is_there_and_is_in_one_set() -> None:
    named = [*ONCE, *THOROUGH, *EVERYWHERE]
    assert set(named) - MODULES == set()
    assert len(named) == len(set(named))


@pytest.mark.parametrize("minor, left_out", [
    (MINORS[0], ONCE), (9, MODULES - EVERYWHERE), (MINORS[-1], ONCE | THOROUGH),
    (MINORS[-1] + 1, ONCE | THOROUGH),
], ids=["oldest", "between", "newest", "newer"])  # fmt: skip
def test_each_python_runs_its_sets(minor: int, left_out: Set[str]) -> None:
    assert {module for module in MODULES if is_left_out(module, minor)} == left_out


@pytest.mark.parametrize("quick", [False, True])
def test_the_ends_come_first_and_what_is_not_installed_not_at_all(quick: bool) -> None:
    chosen = every_python.choose(INSTALLED, quick, own=11)
    assert list(chosen.items()) == [("py36", "/6"), ("py313", "/13"), ("py38", "/8")]


def test_the_python_that_has_run_all_is_left_out_of_a_quick_run_only() -> None:
    assert list(every_python.choose(INSTALLED, True, own=8)) == ["py36", "py313"]
    assert list(every_python.choose(INSTALLED, False, own=8)) == ["py36", "py313", "py38"]


def test_where_there_is_no_other_it_is_run_again() -> None:
    """Better than no test of an installed wheel."""
    alone = {**dict.fromkeys(MINORS), 8: "/8"}
    assert every_python.choose(alone, True, own=8) == {"py38": "/8"}
    assert every_python.choose(dict.fromkeys(MINORS), True, own=8) == {}
