"""Holds so many megabytes of memory; by itself, or in so many children that share them."""

import os
import signal
import sys

data = bytearray(b"x") * (int(sys.argv[1]) * 2**20)
for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 0):
    if os.fork() == 0:
        signal.pause()
print("holding", len(data), flush=True)
signal.pause()
