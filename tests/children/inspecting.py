"""Prints, as one line of JSON, what a program finds when it is started."""

import ctypes
import json
import os
import resource
import sys

PR_GET_PDEATHSIG = 2


def status(field: str) -> str:
    with open("/proc/self/status") as lines:
        for line in lines:
            if line.startswith(field + ":"):
                return line.split(":", 1)[1].strip()
    return ""


def death_signal() -> int:
    number = ctypes.c_int()
    ctypes.CDLL(None).prctl(PR_GET_PDEATHSIG, ctypes.byref(number), 0, 0, 0)
    return number.value


# The listing itself needs a descriptor, which is gone when it is through.
descriptors = [int(name) for name in os.listdir("/proc/self/fd")]
print(json.dumps({
    "argv": sys.argv[1:],
    "cwd": os.getcwd(),
    "env": dict(os.environ),
    "descriptors": sorted(fd for fd in descriptors if os.path.exists("/proc/self/fd/%d" % fd)),
    "stdin": os.readlink("/proc/self/fd/0"),
    "pid": os.getpid(),
    "group": os.getpgid(0),
    "session": os.getsid(0),
    "ignored": int(status("SigIgn"), 16),
    "blocked": int(status("SigBlk"), 16),
    "uid": os.getresuid(),
    "gid": os.getresgid(),
    "groups": sorted(os.getgroups()),
    "limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    "limits": {
        name: resource.getrlimit(getattr(resource, "RLIMIT_" + name.upper()))
        for name in ("nofile", "core", "nproc", "memlock", "stack", "as")
    },
    "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "umask": status("Umask"),
    "death_signal": death_signal(),
}), flush=True)
