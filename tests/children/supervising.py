"""A small pupgevent: supervises shell commands until its input ends, or until it is killed.

    supervising.py COMMAND...

Prints the pid of its guardian, and what its children print. Each line of its input is the id of a
process (p0, p1, ...) to stop.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gevent.os

from logs import Log
from rotation import Rotation
from sinks import DescriptorSink
from supervision import Owner, pid_of, process
from supervisor import Supervisor

sink = DescriptorSink(1)
log = Log(sink)
supervisor = Supervisor(
    [process(cmd, id="p%d" % number) for number, cmd in enumerate(sys.argv[1:])], log,
    Owner(log, Rotation(), time.monotonic))
supervisor.startup()
sink.write(b"guardian %d\n" % pid_of(supervisor.guardian))
while True:
    line = gevent.os.tp_read(0, 100)
    if not line:
        break
    supervisor.stop(line.decode().split())
    sink.write(b"stopped\n")
supervisor.shutdown()
sink.flush(5.0)
