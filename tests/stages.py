"""The fixtures of the balancer's tests; a test module asks for them with `pytest_plugins`."""

from contextlib import ExitStack
from typing import Callable, Iterator

import pytest

from peers import BalancerStage, Proxy, setting, started


@pytest.fixture(scope="session")
def proxy(marked_environment: str) -> "Iterator[Proxy]":
    """The process that most tests share: each has a balancer of its own in it."""
    with started() as proxy:
        yield proxy


@pytest.fixture
def stage(proxy: Proxy) -> "Iterator[BalancerStage]":
    with setting(proxy) as stage:
        yield stage


@pytest.fixture
def stage_with(proxy: Proxy) -> "Iterator[Callable[..., BalancerStage]]":
    """`stage_with(queue_limit=1)`: other settings from the beginning."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(setting(proxy, **settings))
