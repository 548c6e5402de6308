"""The fixtures of the tests with a `Stage` of log_stage.py; a test module asks with
`pytest_plugins`."""

import contextlib
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

import log_history
import log_opening
from log_stage import Stage
from supervision import PATIENCE


@pytest.fixture(scope="module")
def small_memory() -> Iterator[None]:
    """Seven lines of each process; and a disk may take its time."""
    with contextlib.ExitStack() as stack:
        for module, name, value in [
            (log_history, "MOST_LINES", 7), (log_opening, "_PATIENCE", PATIENCE),
            (log_opening, "_QUEUE_PATIENCE", PATIENCE),
        ]:
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
        yield


@pytest.fixture
def log_stage(tmp_path: Path, small_memory: None) -> Iterator[Callable[..., Stage]]:
    made: List[Stage] = []

    def make(**more: Any) -> Stage:
        made.append(Stage(tmp_path, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()
