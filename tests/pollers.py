"""A poller of a test's own, and whom it has told of a failure. A pytest plug-in."""

from typing import Any, Iterator, List

import pytest

from poller import Poller


@pytest.fixture
def failed() -> "List[Any]":
    return []


@pytest.fixture
def poller(failed: "List[Any]") -> "Iterator[Poller]":
    poller = Poller(failed.append)
    yield poller
    poller.close()
