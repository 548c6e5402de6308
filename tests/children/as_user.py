"""`as_user.py UID WORDS...`: pupgevent as another user. Root starts it: what it is made of is read
first, for it may lie where that user cannot read."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import gevent.signal
import gevent.subprocess
import gevent.threadpool  # noqa: F401

for name in sorted(path.stem for path in ROOT.glob("*.py")):
    __import__(name)

import pupgevent

uid = int(sys.argv[1])
sys.argv[0:2] = [str(ROOT / "pupgevent.py")]
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
os.environ["HOME"] = "/nonexistent"
os.environ.pop("XDG_RUNTIME_DIR", None)
sys.exit(pupgevent.main())
