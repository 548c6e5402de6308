"""Pup's examples run unchanged, with real Deno.

Those in tests/pup_examples have the keys and the shape of Pup's own, with scripts of ours. With
PUP_EXAMPLES set to the folder docs/src/examples of a checkout of Pup, Pup's own are run too.
"""

import os
import re
import shutil
import signal
import socket
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Set, Tuple

import pytest

import documents
import keys
from bench.applications import find_deno
from conftest import eventually
from examples import is_supported, with_other_ports
from running import Running, run
from schema import Table

pytest_plugins = ["runs"]

Ports = Callable[[int], List[int]]

OURS = Path(__file__).resolve().parent / "pup_examples"
PLACES = {"ours": OURS}
if os.environ.get("PUP_EXAMPLES"):
    PLACES["pup's"] = Path(os.environ["PUP_EXAMPLES"])

#: Seconds for one answer.
PATIENCE = 60.0

#: What each example needs: tables, and keys in them.
CRON: List[Tuple[Table, str]] = [(keys.PROCESS, "cron")]
NEEDS: Dict[str, List[Tuple[Table, str]]] = {
    "minimal": [],
    "max-restarts": [],
    "cluster": CRON,
    "docker": CRON,
    "watcher": [(keys.PROCESS, "watch")],
    "basic": CRON + [(table, name) for table in (keys.LOGGER, keys.PROCESS_LOGGER)
                     for name in ("decorate", "decorateFiles", "stdout", "stderr")
                     if (table, name) != (keys.PROCESS_LOGGER, "decorate")],
}

#: What is not in pupgevent, and never will be: the key, and a file with it.
REFUSED: Dict[str, Any] = {
    "worker": '{"processes": [{"id": "a", "autostart": true, "worker": ["./server.js"]}]}',
    "plugins": '{"processes": [{"id": "a", "cmd": "true"}],'
               ' "plugins": [{"url": "jsr:@example/plugin", "options": {"port": 5000}}]}',
    "api": '{"processes": [{"id": "a", "cmd": "true"}], "api": {"port": 4000}}',
    "telemetry": '{"processes": [{"id": "a", "cmd": "true", "telemetry": true}]}',
}

Make = Callable[[str], Running]


def lacking(name: str) -> List[str]:
    """The keys of an example that are not supported yet."""
    return sorted({key for table, key in NEEDS[name] if not is_supported(table, key)})


def runs(name: str) -> "pytest.MarkDecorator":
    return pytest.mark.skipif(
        bool(lacking(name)), reason="not supported yet: %s" % ", ".join(lacking(name)))


@pytest.fixture(scope="session")
def deno_environment(tmp_path_factory: "pytest.TempPathFactory") -> Dict[str, str]:
    """With Deno on PATH. It keeps what it has compiled, and asks nobody for a newer version."""
    deno = find_deno()
    if deno is None:
        pytest.skip("deno is not installed")
    return {"PATH": os.path.dirname(deno) + ":" + os.environ["PATH"],
            "DENO_DIR": str(tmp_path_factory.mktemp("deno")), "DENO_NO_UPDATE_CHECK": "1"}


@pytest.fixture(params=list(PLACES))
def place(request: Any) -> Path:
    return PLACES[request.param]


@pytest.fixture
def example(
    place: Path, folder: Path, free_ports: Ports, deno_environment: Dict[str, str],
    monkeypatch: "pytest.MonkeyPatch"
) -> Iterator[Make]:
    """`example(name)`: one of them, not started yet. Their scripts lie beside each other."""
    for name, value in deno_environment.items():
        monkeypatch.setenv(name, value)
    shutil.copytree(str(place), str(folder / "examples"))
    app = Running(folder)

    def make(name: str) -> Running:
        (app.config,) = (folder / "examples" / name).glob("pup.json*")
        with_other_ports(app.config, free_ports)
        return app

    yield make
    app.end()


@pytest.mark.parametrize("name", list(NEEDS))
def test_the_file_is_accepted_as_far_as_its_keys_are_supported(example: Make, name: str) -> None:
    done = run("check", str(example(name).config))
    for key in lacking(name):
        assert re.search(r'[".]%s\b' % key, done.stderr), done.stderr
    assert (done.returncode == 2) is bool(lacking(name)), done.stderr
    # Where a default differs from Pup's, a hint says so.
    assert lacking(name) or all(": hint: " in line for line in done.stderr.splitlines())


@pytest.mark.parametrize("key", list(REFUSED))
def test_what_pupgevent_does_not_have_is_named(folder: Path, key: str) -> None:
    path = folder / "pup.json"
    path.write_text(REFUSED[key])
    done = run("check", str(path))
    assert done.returncode == 2
    assert re.search(r'"%s"' % key, done.stderr), done.stderr


def test_minimal_runs_again_and_again(example: Make) -> None:
    app = begun(example("minimal"))
    eventually(lambda: starts(app) >= 3)
    process_id = only_id(app)
    assert re.search(r"\[%s\]\[stdout\] .*%s" % (process_id, process_id), app.said())


def test_max_restarts_is_given_up_after_its_fourth_run(example: Make) -> None:
    app = begun(example("max-restarts"))
    eventually(lambda: "exhausted" in app.states().values())
    assert starts(app) == 4


@runs("cluster")
def test_cluster_serves_from_all_instances_at_the_common_port(example: Make) -> None:
    app = begun(example("cluster"))
    cluster, job = app.status()["processes"]
    eventually(lambda: all(state == "running" for name, state in app.states().items()
                           if name.startswith(cluster["id"] + "-")))
    port = cluster["balancer"]["port"]
    answers = {instance_of(get_from(port, "127.0.0.%d" % client)) for client in range(1, 50)}
    assert answers == {"0", "1", "2"}
    # By its address a client stays with its instance.
    assert len({get_from(port, "127.0.0.1") for _ in range(5)}) == 1
    eventually(lambda: "[%s][core] started" % job["id"] in app.said())


@runs("docker")
def test_docker_runs_by_the_clock(example: Make) -> None:
    app = begun(example("docker"))
    eventually(lambda: app.said().count("[%s][stdout]" % only_id(app)) >= 2)


@runs("watcher")
def test_watcher_restarts_after_a_change(example: Make) -> None:
    app = example("watcher").start()
    before = app.pids()
    with open(str(app.config.parent / "script.js"), "a") as file:
        file.write("// changed\n")
    eventually(lambda: set(app.states().values()) == {"running"} and app.pids() != before)


@runs("basic")
def test_basic_writes_its_log_files(example: Make, place: Path) -> None:
    app = begun(example("basic"))
    top: Any = documents.read(str(app.config)).values
    server, task = top["processes"]

    def logged(table: Any, stream: str) -> str:
        return Path(str(app.config.parent), table["logger"][stream]).read_text()

    eventually(lambda: "Europe/Berlin" in logged(top, "stdout") and logged(task, "stdout"))
    if place == OURS:
        # The server fails, and Deno says so.
        eventually(lambda: "Uncaught" in logged(top, "stderr"))
    app.signal(signal.SIGTERM)
    assert app.wait() == 0
    said, errors = (decorated(logged(top, stream)) for stream in ("stdout", "stderr"))
    assert {"[core]", "[%s][core]" % server["id"], "[%s][core]" % task["id"]} <= said
    assert printed(said) == {"[%s][stdout]" % server["id"]}
    assert printed(errors) <= {"[%s][stderr]" % server["id"]}
    # Its own files take what it prints; in Pup the others get that, too.
    assert decorated(logged(task, "stdout")) == {"[%s][stdout]" % task["id"]}
    assert decorated(logged(task, "stderr")) <= {"[%s][stderr]" % task["id"]}


def printed(heads: Set[str]) -> Set[str]:
    """Those of lines that a child has printed."""
    return {head for head in heads if head.endswith(("[stdout]", "[stderr]"))}


def decorated(text: str) -> Set[str]:
    """What stands in front of the lines of a file, behind the time: each of them has it."""
    heads = [re.match(r"\[\d{4}(?:-\d\d){2} \d\d(?::\d\d){2}\]((?:\[[\w-]+\]){1,2}) ", line)
             for line in text.splitlines()]
    assert None not in heads, text
    return {head.group(1) for head in heads if head}


@pytest.mark.parametrize("permission, state", [
    ("--allow-env", "running"), ("--allow-env=PUP_CLUSTER_PORT,PUP_CLUSTER_INSTANCE", "running"),
    ("", "exhausted")])
@pytest.mark.parametrize("place", ["ours"], indirect=True)
def test_a_deno_application_may_read_its_port_only_with_allow_env(
    example: Make, permission: str, state: str
) -> None:
    app = example("manual")
    text = app.config.read_text()
    app.config.write_text(text.replace("--allow-env", permission))
    begun(app)
    eventually(lambda: set(app.states().values()) == {state})
    assert ("--allow-env" in app.said()) is (state != "running")
    if state == "running":
        (process,) = app.status()["processes"]
        answers = {get_from(process["balancer"]["port"], "127.0.0.1") for _ in range(4)}
        assert {instance_of(answer) for answer in answers} == {"0", "1"}


def begun(app: Running) -> Running:
    """Started, and can be asked."""
    app.begin()
    eventually(app.are)
    return app


def only_id(app: Running) -> str:
    (process,) = app.status()["processes"]
    return str(process["id"])


def starts(app: Running) -> int:
    return app.said().count("[core] started, pid")


def get_from(port: int, source: str) -> str:
    """The answer to a client of another address of this machine."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    return answer.decode()


def instance_of(answer: str) -> str:
    found = re.search(r"pup instance (\d)\.", answer)
    assert found, answer
    return found.group(1)
