"""The fixtures of the tests of the whole command; a test module asks with `pytest_plugins`."""

import shutil
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from running import Running


@pytest.fixture
def folder(monkeypatch: "pytest.MonkeyPatch") -> Iterator[Path]:
    """Of this test alone, and with a short name: it holds a Unix socket too."""
    path = Path(tempfile.mkdtemp(prefix="pg-"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    yield path
    shutil.rmtree(str(path))


@pytest.fixture
def running(folder: Path) -> Iterator[Callable[..., Running]]:
    """`running(process, ...)`: a pupgevent of these processes, not started yet."""
    made: List[Running] = []

    def make(*processes: Any, **more: Any) -> Running:
        place = folder / str(len(made))
        place.mkdir()
        made.append(Running(place, *processes, **more))
        return made[-1]

    yield make
    for each in made:
        each.end()
