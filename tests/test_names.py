"""The names of a command: found, and compared with others, at no cost for the clients."""

from types import SimpleNamespace
from typing import Any, List

import pytest

from errors import PupgeventError
from operations import choose, unknown


class Names:
    """What is asked for names; counts how often all instances are looked through."""

    def __init__(self, processes: int, instances: int) -> None:
        self.processes = {"web%d" % number: None for number in range(processes)}
        self.instances = {
            "%s-%d" % (process, index): SimpleNamespace(
                name="%s-%d" % (process, index), process_id=process)
            for process in self.processes for index in range(instances)
        }  # fmt: skip
        self.looks = 0

    def instances_of(self, process_id: str) -> "List[Any]":
        self.looks += 1
        return [each for each in self.instances.values() if each.process_id == process_id]


def runtime(names: Names) -> Any:
    return SimpleNamespace(supervisor=names)


def test_a_word_that_is_said_often_is_looked_for_once() -> None:
    names = Names(3, 2)
    chosen = choose(runtime(names), ["web1", "web2-0"] * 10000 + ["web1-1"])
    assert [each.name for each in chosen.instances] == ["web1-0", "web1-1", "web2-0"]
    assert names.looks == 1


def test_an_unknown_word_is_compared_with_a_bounded_number_of_names() -> None:
    many = ["other%d" % number for number in range(5000)]
    assert 'did you mean "my-app"?' in str(unknown("process", "my-ap", ["my-app", *many]))
    assert str(unknown("process", "my-ap", [*many, "my-app"])).startswith(
        'there is no process "my-ap": there is other0, other1, ')


def test_processes_are_compared_first() -> None:
    with pytest.raises(PupgeventError, match=r'did you mean "web49"\?'):
        choose(runtime(Names(50, 100)), ["wbe49"])
