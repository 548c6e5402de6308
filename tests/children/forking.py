"""Starts a grandchild that listens on PUP_CLUSTER_PORT, and tells its pid.

    forking.py stay     waits for it, as a shell does
    forking.py leave    exits with code 3 and leaves it behind
    forking.py escape   leaves it behind in a session of its own
"""

import os
import subprocess
import sys

mode = sys.argv[1]
listener = os.path.join(os.path.dirname(os.path.abspath(__file__)), "listener.py")
grandchild = subprocess.Popen(
    [sys.executable, listener], start_new_session=mode == "escape",
    stdout=None if mode == "stay" else subprocess.PIPE,
)  # fmt: skip
print("grandchild %d" % grandchild.pid, flush=True)
if grandchild.stdout is None:
    grandchild.wait()
else:
    # Once it listens, or has failed to.
    grandchild.stdout.readline()
    os._exit(3)
