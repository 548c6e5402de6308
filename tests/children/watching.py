"""Watches the folder twice, and prints what it is told: `watching.py FOLDER`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import gevent

from concurrency import Threads
from file_watch import FileWatch, Watched, WatchOwner
from model import Watcher


class Printer(WatchOwner):
    def on_files_changed(self, paths, files):
        for each in files:
            print("changed", each)

    def info(self, text):
        print(text)

    def warn(self, text):
        print("warning:", text)


FileWatch(Printer(), Threads(1)).follow(
    Watched((sys.argv[1],), Watcher(interval, (".js",), (), ()), frozenset())
    for interval in (0.05, 0.06))
gevent.sleep(100)
