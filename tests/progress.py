"""How far a run of the tests is, for who runs several at once and sees the output of none.

PUPGEVENT_TEST_PROGRESS names a file that lines are appended to: one when the tests begin, and one
for each tenth of them. tests/every_python.py shows them.
"""

import os
from typing import Any

#: Lines for one run.
_PARTS = 10


class Progress:
    """A plugin of pytest. With xdist the process that hands out the tests counts them."""

    def __init__(self, path: str, name: str) -> None:
        self._path = path
        self._name = name
        self._session: Any = None
        self._done = 0
        self._told = -1

    def pytest_sessionstart(self, session: Any) -> None:
        self._session = session

    def pytest_runtest_logstart(self) -> None:
        self._tell()

    def pytest_runtest_logfinish(self) -> None:
        self._done += 1
        self._tell()

    def _tell(self) -> None:
        total = max(1, self._session.testscollected)
        part = self._done * _PARTS // total
        if part > self._told:
            self._told = part
            with open(self._path, "a") as file:
                file.write("%s: %d of %d tests\n" % (self._name, self._done, total))


def register(config: Any) -> None:
    """Have it told where somebody wants to know."""
    path = os.environ.get("PUPGEVENT_TEST_PROGRESS")
    if path and not os.environ.get("PYTEST_XDIST_WORKER"):
        config.pluginmanager.register(Progress(path, os.environ.get("TOX_ENV_NAME", "tests")))
