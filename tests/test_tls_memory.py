"""Memory of a client whose TLS ends here, and that does nothing.

`pytest -s tests/test_tls_memory.py` prints the figures.
"""

from typing import Callable, Iterator

import pytest

from certificates import Made
from http_stage import http_started
from secure_peers import VERSIONS, SecureHttpStage, setting_secure_http
from test_http_memory import memory_of_each, tell

pytest_plugins = ["secure_stages"]

#: Bytes of ours and of OpenSSL's. Buffers of its own would be as much again.
IDLE_BYTES = 24 * 1024

CLIENTS = 300


@pytest.fixture
def stage(marked_environment: str, made: Made) -> "Iterator[SecureHttpStage]":
    """In a process of its own, whose memory is of nobody else."""
    with http_started() as proxy, setting_secure_http(proxy, made) as stage:
        yield stage.has_application({})  # type: ignore[misc]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_of_tls_that_does_nothing_takes_little(
    stage: SecureHttpStage, version: str, record_property: "Callable[[str, object], None]"
) -> None:
    stage.version = version
    each = memory_of_each(
        stage, CLIENTS, lambda: stage.client().is_served(),
        lambda: stage.figures()["clients"] == CLIENTS + 3)
    tell(record_property, "idle, " + version, each)
    assert each <= IDLE_BYTES
