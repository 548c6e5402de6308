"""The fixtures of the tests of the whole command; a test module asks with `pytest_plugins`."""

import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from running import Running
from users import AsUser, User


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


@pytest.fixture
def new_user(folder: Path) -> Iterator[Callable[[], User]]:
    """`new_user()`: a user that nobody has been before, with a number beyond 2^31."""
    os.chmod(str(folder), 0o755)
    made: List[User] = []

    def make() -> User:
        made.append(User(random.SystemRandom().randrange(2**31, 2**32 - 2), folder))
        try:
            with made[-1].acting():
                return made[-1]
        except OSError:
            pytest.skip("a container that has no such numbers")

    yield make
    for user in made:
        user.sweep()


@pytest.fixture
def run_by(folder: Path, new_user: Any) -> Iterator[Callable[..., AsUser]]:
    """`run_by(user, process, ...)`: that user's pupgevent, not started yet."""
    made: List[AsUser] = []

    def make(user: User, *processes: Any, **top: Any) -> AsUser:
        place = folder / ("of-%d" % len(made))
        place.mkdir()
        made.append(AsUser(place, *processes, **top))
        made[-1].user = user
        return made[-1]

    yield make
    for each in made:
        each.end()
