"""`health.passive`: whose answers fail in a row leaves the rotation for a while."""

import time
from pathlib import Path
from typing import Any, Callable, List

import pytest

import model
from health_stage import Folder, ask, backend, is_backend, web, who_answers
from inside import inside
from passive_health import PassiveHealth
from pool import Pool, PoolOwner
from supervision import wait_until

Ports = Callable[[int], List[int]]

#: The active checks are of a path that always answers, and leave the log alone.
LONG = {"path": "/health", "passive": {"count": 3, "seconds": 3600}}
SHORT = {"path": "/health", "passive": {"count": 3, "seconds": 0.5}}


def asked_until_down(stage: Any, port: int, name: str) -> None:
    def is_down() -> bool:
        ask(port)
        return bool(backend(stage, name).state == "down")

    wait_until(is_down)


@pytest.mark.parametrize("word, last", [
    ("500", "an answer of 500"), ("503", "an answer of 503"),
    ("reset", "a connection that ended without an answer"),
    ("half", "a connection that ended without an answer"),
    ("twice", "an answer that broke the rules of HTTP"),
    ("hang", "no answer in time"),
])
def test_failures_in_a_row_take_an_instance_out(
    tmp_path: Path, free_ports: Ports, word: str, last: str
) -> None:
    ports, folder = free_ports(3), Folder(tmp_path)
    folder.answer(word, "0")
    with inside(tmp_path, [web(tmp_path, ports, health=LONG, responseTimeoutMs=300)]) as stage:
        asked_until_down(stage, ports[2], "web-1")
        assert backend(stage, "web-1").reason == "3 failures in a row, the last one " + last
        assert who_answers(ports[2], 4) == ["1"] * 4
        assert any("web-1 is out of rotation for 3600 s: 3 failures in a row" in line
                   for line in stage.console.lines)


def test_it_comes_back_by_itself_with_its_counter_at_zero(
    tmp_path: Path, free_ports: Ports
) -> None:
    ports, folder = free_ports(3), Folder(tmp_path)
    folder.answer("500", "0")
    with inside(tmp_path, [web(tmp_path, ports, health=SHORT)]) as stage:
        asked_until_down(stage, ports[2], "web-1")
        folder.answer("200", "0")
        assert is_backend(stage, "web-1", "up").since < 0.5
        assert stage.runtime.balancers["web"]._pool.get("web-1").failures == 0  # type: ignore
        assert set(who_answers(ports[2], 4)) == {"0", "1"}
        assert any("web-1 is up again" in line for line in stage.console.lines)


def test_the_balancers_own_probe_does_not_bring_it_back_before_its_time(
    tmp_path: Path, free_ports: Ports
) -> None:
    ports, folder = free_ports(3), Folder(tmp_path)
    folder.answer("500", "0")
    with inside(tmp_path, [web(tmp_path, ports, health=LONG)]) as stage:
        asked_until_down(stage, ports[2], "web-1")
        wait_until(lambda: backend(stage, "web-1").since > 1.2)
        assert backend(stage, "web-1").state == "down"
        # Without it, everybody is back.
        assert stage.reload([web(tmp_path, ports)]) == "reloaded: changed web"
        is_backend(stage, "web-1", "up")


def test_half_of_them_stay_whatever_they_answer(tmp_path: Path, free_ports: Ports) -> None:
    ports, folder = free_ports(4), Folder(tmp_path)
    folder.answer("500")
    with inside(tmp_path, [web(tmp_path, ports, health=LONG)]) as stage:
        for _ in range(40):
            assert ask(ports[3]).status == 500
        states = [backend(stage, "web-%d" % number).state for number in (1, 2, 3)]
        assert sorted(states) == ["down", "up", "up"]


def test_the_only_one_stays(tmp_path: Path, free_ports: Ports) -> None:
    ports, folder = free_ports(2), Folder(tmp_path)
    folder.answer("500")
    with inside(tmp_path, [web(tmp_path, ports, health=LONG)]) as stage:
        for _ in range(10):
            assert ask(ports[1]).status == 500
        assert backend(stage, "web-1").state == "up"


class Noting(PoolOwner):
    def __init__(self) -> None:
        self.lines: List[str] = []

    def warn(self, text: str) -> None:
        self.lines.append(text)

    def on_available(self) -> None:
        pass

    def on_reach_changed(self) -> None:
        pass

    def intruder(self, name: str) -> str:
        return ""


@pytest.mark.parametrize("statuses, is_out", [
    ([500, 502, 599], True),
    ([500, 500, 200, 500, 500], False),
    ([500, 500, 404, 500], False),
    ([501, 505, 501, 505, 501], False),
    ([500, 501, 500, 500], False),
    ([499, 499, 499], False),
])
def test_what_counts_is_a_row_of_failures(statuses: List[int], is_out: bool) -> None:
    """Half of two, then."""
    pool = Pool(0, time.monotonic, Noting())
    for name in ("a", "b"):
        pool.up(name, "127.0.0.1", 1)
    passive = PassiveHealth(pool)
    passive.apply(model.Passive(3, 60.0))
    first = pool.available[0]
    for status in statuses:
        passive.answered(first, status)
    assert (first.state == "down") is is_out
    pool.close()
