"""A task whose greenlet cannot take its first step is started again."""

import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, List

import gevent
import pytest

import concurrency
from concurrency import Task, pause

PATIENCE = 30.0


class Stillborn:
    """gevent.spawn where there is no memory: it raises, or what it makes dies at once."""

    def __init__(self, failures: List[str]) -> None:
        self.failures = failures
        self.spawn = gevent.spawn

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        failure = self.failures.pop(0) if self.failures else ""
        if failure == "raises":
            raise MemoryError
        return self.spawn((lambda *_: None) if failure == "dies" else function, *arguments)


@pytest.mark.parametrize("failures", [
    [], ["raises"], ["dies"], ["dies", "raises", "dies"], ["raises", "dies", "dies"]])
def test_a_task_starts_whatever_comes_between_and_once(
    failures: List[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gevent, "spawn", Stillborn(list(failures)))
    monkeypatch.setattr(concurrency, "_RETRY", 0.001)
    seen: List[Any] = []
    task = Task(lambda *words: seen.append(words), "a", 1)
    task.rawlink(seen.append)
    assert task.wait(PATIENCE) and task.ready()
    assert seen == [("a", 1), task]
    gevent.sleep(0.01)
    assert seen == [("a", 1), task]


def test_a_task_that_is_killed_before_it_has_started_never_starts(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gevent, "spawn", Stillborn(["raises"]))
    monkeypatch.setattr(concurrency, "_RETRY", 0.001)
    seen: List[Any] = []
    task = Task(seen.append, "function")
    task.rawlink(lambda _: seen.append("over"))
    task.kill()
    assert task.ready()
    gevent.sleep(0.01)
    assert seen == ["over"]


def test_a_task_that_is_killed_in_the_middle_is_over() -> None:
    waiting = gevent.event.Event()
    task = Task(waiting.wait)
    gevent.sleep(0)
    assert not task.ready()
    task.kill()
    assert task.wait(PATIENCE)


def test_a_task_that_fails_is_over(capsys: Any) -> None:
    def fail() -> None:
        raise ValueError("as it happens")

    assert Task(fail).wait(PATIENCE)
    assert "as it happens" in capsys.readouterr().err


def test_a_pause_does_not_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(seconds: float) -> None:
        raise MemoryError

    monkeypatch.setattr(gevent, "sleep", sleep)
    pause(1.0)


#: Makes some while there is not a byte to be had, and then there is plenty again. To make one may
#: fail, as a spawn may; one that was made lives.
STARVING = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import gevent
from concurrency import Task

gevent.sleep(0)
ran, made = [], [None] * 50
plenty = resource.getrlimit(resource.RLIMIT_AS)
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
nothing = (size, plenty[1])
resource.setrlimit(resource.RLIMIT_AS, nothing)
for number in range(50):
    try:
        made[number] = Task(ran.append, number)
        gevent.sleep(0)
    except MemoryError:
        pass
resource.setrlimit(resource.RLIMIT_AS, plenty)
numbers = [number for number in range(50) if made[number] is not None]
print(all(made[number].wait(30) for number in numbers),
      set(numbers) <= set(ran), len(ran) == len(set(ran)))
"""


@pytest.mark.skipif(sys.version_info >= (3, 12), reason=(
    "the interpreter itself may crash without memory for the first frame of a greenlet"))
def test_in_a_process_without_memory_each_begins_when_there_is_some() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARVING, str(Path(concurrency.__file__).parent)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=100, check=False)
    assert done.stdout == b"True True True\n", done.stderr
