"""A thousand instances: the page and the metrics of them hold up nobody else."""

import contextlib
import sys
from pathlib import Path
from typing import Callable, Iterator, List

import gevent
import pytest
from gevent import subprocess

from dashboard import Dashboard
from inside import RuntimeStage, inside, listening
from model import Dashboard as Settings
from snapshots import Snapshots
from supervision import PATIENCE, gevent_waits_for_children
from test_background_loader import turns

INSTANCES = 1000

#: Of all that is done, what may be done between two turns of the hub: it is some 5 ms at most,
#: whatever there is to do. A share depends on no machine.
SHARE = 1 / 6

#: For each line it asks so many times, with a connection for each, and tells of how many bytes the
#: smallest answer was.
CLIENT = """
import sys, urllib.request
for times in sys.stdin:
    sizes = []
    for _ in range(int(times)):
        with urllib.request.urlopen(sys.argv[1], timeout=60) as answer:
            sizes.append(len(answer.read()))
    print(min(sizes), flush=True)
"""


@contextlib.contextmanager
def served(
    folder: Path, ports: List[int], instances: int, protocol: str
) -> Iterator[RuntimeStage]:
    """So many instances behind each port but the last, which is the dashboard's. None of them runs;
    their balancers take all of them for up."""
    # Those of instances are only written down, and are below all that tests have.
    shops = [
        listening("shop%d" % n, 2000 + n * instances, port, instances=instances,
                  protocol=protocol, more={"autostart": False})
        for n, port in enumerate(ports[:-1])]
    with gevent_waits_for_children(), inside(folder, shops) as stage:
        for instance in stage.runtime.instances():
            stage.runtime.rotations[instance.process_id].up(
                instance.name, "127.0.0.1", instance.port or 0)
            for number in range(30):
                instance.history.add("state %d" % number, "why")
        dashboard = Dashboard(stage.runtime, Snapshots(stage.runtime, "1"), "1")
        settings = Settings(ports[-1], "127.0.0.1", None)
        dashboard.prepare(settings)
        dashboard.apply(settings)
        try:
            yield stage
        finally:
            dashboard.close()


@pytest.mark.parametrize("processes", [1, 1000])
@pytest.mark.parametrize("path, protocol, size, times", [
    ("/metrics", "tcp", 4500 * INSTANCES, 2), ("/metrics", "http", 6500 * INSTANCES, 2),
    ("/status.json", "tcp", 600 * INSTANCES, 4), ("/status.json", "http", 800 * INSTANCES, 4),
    ("/history.json", "tcp", 100 * 500, 10), ("/healthz", "tcp", 3, 50),
])
def test_others_have_their_turn_while_a_thousand_are_told_of(
    tmp_path: Path, free_ports: "Callable[[int], List[int]]", path: str, protocol: str, size: int,
    times: int, processes: int,
) -> None:
    ports = free_ports(processes + 1)
    with served(tmp_path, ports, INSTANCES // processes, protocol), subprocess.Popen(
        [sys.executable, "-c", CLIENT, "http://127.0.0.1:%d%s" % (ports[-1], path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as client, gevent.Timeout(2 * PATIENCE):
        def asks(times: int) -> int:
            client.stdin.write(b"%d\n" % times)
            client.stdin.flush()
            return int(client.stdout.readline())

        # What is done once does not count: a place for each instance in the histories.
        asks(1)
        with turns() as found:
            assert asks(times) >= size
        # What takes long does so in each answer; once alone, it was something of the machine's.
        found.sort()
        assert found[-2] < SHARE * sum(found), found[-5:]
        client.stdin.close()
