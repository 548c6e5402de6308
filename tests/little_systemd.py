"""A systemd of its own, for tests of units: process 1 of its own namespaces.

Its units are those in a folder; the file system and the programs are the machine's, and each port
is free: it has a loopback device of its own. The settings of the kernel are not to be changed, as a
systemd would at its start (fs.file-max).
"""

import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, List, Optional

from running import ROOT

SYSTEMD = "/lib/systemd/systemd"

#: Seconds until it is no systemd that could run here.
_PATIENCE = 20.0

#: What it starts: nothing.
_TARGET = "[Unit]\nDescription=nothing\nDefaultDependencies=no\n"

_NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--cgroup", "--net")

#: What a service needs of /root, where it is, whoever its user is.
_NEEDED = sorted({sys.base_prefix, sys.prefix, str(ROOT)}, key=len)

#: In its namespaces, before it is started. The folder of units is $1, _NEEDED is behind it.
_PREPARE = """
set -e
mount --make-rprivate /
mount -t tmpfs none /run
units=$1; shift; number=0
for each in "$@"; do
    number=$((number + 1)); mkdir /run/$number; mount --rbind "$each" /run/$number
done
mount -t tmpfs -o mode=755 none /root; number=0
for each in "$@"; do
    number=$((number + 1))
    case $each in /root/*) mkdir -p "$each"; mount --rbind /run/$number "$each";; esac
done
mount --bind /etc /etc
mount -o remount,bind,ro /etc
mount --bind "$units" /etc/systemd/system
mount -t tmpfs none /usr/lib/systemd/system-generators
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t proc none /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin %s --system --unit=little.target \\
    --log-target=console --log-level=notice --show-status=no
""" % SYSTEMD


class LittleSystemd:
    """`start` it; `ctl` speaks to it; `close` kills all that it has started."""

    def __init__(self, units: Path) -> None:
        self._units = units
        self._cgroup: Optional[Path] = None
        self._process: Any = None
        self.pid = 0

    def start(self) -> bool:
        """False: none can run here."""
        mounted = re.search(r"^\S+ (\S+) cgroup2 ", Path("/proc/mounts").read_text(), re.MULTILINE)
        if os.geteuid() != 0 or mounted is None or not os.path.exists(SYSTEMD):
            return False
        if not all(map(shutil.which, ("unshare", "nsenter", "systemctl"))):
            return False
        (self._units / "little.target").write_text(_TARGET)
        try:
            self._cgroup = Path(mounted.group(1), "little-systemd-%d" % os.getpid())
            self._cgroup.mkdir()
            self._launch(self._cgroup)
        except OSError:
            return False
        return self._is_up()

    def _launch(self, cgroup: Path) -> None:
        script = 'echo $$ >"$1/cgroup.procs"; shift; exec unshare "$@"'
        words = ["sh", "-c", script, "sh", str(cgroup), *_NAMESPACES, "--fork",
                 "sh", "-c", _PREPARE, "sh", str(self._units), *_NEEDED]
        with open(str(self._units / "log"), "wb") as log:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _is_up(self) -> bool:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            pid = self._process.pid
            found = Path("/proc/%d/task/%d/children" % (pid, pid)).read_text()
            if found:
                self.pid = int(found.split()[0])
                if self.ctl("list-units").returncode == 0:
                    return True
            time.sleep(0.05)
        return False

    def enter(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a command beside its services, but with none of their restrictions."""
        command = ["nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-C", "-n", *words]
        return subprocess.run(command, check=False, stdin=subprocess.DEVNULL, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              universal_newlines=True)

    def ctl(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return self.enter("systemctl", *words)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.ctl("show", "--value", "-p", name, unit).stdout.strip()

    def close(self) -> None:
        """Idempotent."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)  # the kernel kills the rest of a namespace of pids
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.pid, self._process = 0, None
        if self._cgroup is not None:
            _remove(self._cgroup)

    def said(self) -> str:
        return (self._units / "log").read_text(errors="replace")


def _remove(cgroup: Path) -> None:
    """A control group and those below it, once the kernel has cleared them."""
    deadline = time.monotonic() + _PATIENCE
    while cgroup.exists() and time.monotonic() < deadline:
        folders: List[str] = glob.glob("%s/**/" % cgroup, recursive=True)
        for folder in sorted(folders, reverse=True):
            try:
                os.rmdir(folder)
            except OSError:
                time.sleep(0.01)
