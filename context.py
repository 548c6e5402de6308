"""What all instances share: one object of each kind, handed to every instance."""

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
    """The collaborators of every instance."""

    log: Log
    spawner: Spawner
    writers_for: WritersFor
    #: For what may block: the user database, /proc.
    threads: Threads
    #: The share of the hub's time for reading what children print.
    bucket: TokenBucket
    ownership_watch: OwnershipWatch
    fork_gate: ForkGate
    #: Monotonic seconds.
    clock: Callable[[], float]
    pid_files: FileQueue
