"""The fixtures of the tests of the http mode; a test module asks for them, and for `stages`, with
`pytest_plugins`."""

from contextlib import ExitStack
from typing import Callable, Iterator

import pytest

from http_peers import HttpStage, setting_http
from peers import Proxy


@pytest.fixture
def http(proxy: Proxy) -> "Iterator[HttpStage]":
    with setting_http(proxy) as stage:
        yield stage


@pytest.fixture
def http_with(proxy: Proxy) -> "Iterator[Callable[..., HttpStage]]":
    """`http_with(keep_upstream=1)`: other settings from the beginning."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(setting_http(proxy, **settings))
