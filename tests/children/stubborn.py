"""Ignores SIGTERM, SIGINT and SIGHUP."""

import signal
import time

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
print("ignoring", flush=True)
while True:
    time.sleep(60)
