"""What all instances share, and are handed when they are made."""

from typing import Callable, NamedTuple, Tuple

from child import Spawner
from concurrency import ForkGate, Threads, TokenBucket
from logs import LineWriter, Log
from model import InstanceSpec, Process
from pid_files import FileQueue
from port_ownership import OwnershipWatch

#: Where the two streams of a child go: (stdout, stderr).
WritersFor = Callable[[Process, InstanceSpec], Tuple[LineWriter, LineWriter]]


class Context(NamedTuple):
    """The collaborators of every instance, each of which there is one of."""

    log: Log
    spawner: Spawner
    writers_for: WritersFor
    #: For what may block: the user database, /proc.
    threads: Threads
    #: For what children print.
    bucket: TokenBucket
    watch: OwnershipWatch
    #: For forks.
    fork_gate: ForkGate
    #: Monotonic seconds.
    clock: Callable[[], float]
    files: FileQueue
