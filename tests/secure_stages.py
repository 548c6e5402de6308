"""The fixtures of the tests of TLS; a test module asks for them, and for `stages`, with
`pytest_plugins`."""

from typing import Any, Iterator

import pytest

import certificates
from certificates import Made
from peers import Proxy
from secure_peers import VERSIONS, SecureStage, setting_secure


@pytest.fixture(scope="session")
def made(tmp_path_factory: Any) -> Made:
    return certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=VERSIONS)
def secure(request: Any, proxy: Proxy, made: Made) -> "Iterator[SecureStage]":
    """A stage with TLS, of either version."""
    with setting_secure(proxy, made) as stage:
        stage.version = request.param
        yield stage
