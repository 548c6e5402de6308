"""The exported unit in a real systemd: what is on in it breaks nothing."""

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from conftest import eventually
from little_systemd import LittleSystemd
from running import PUPGEVENT, SERVER, Running, cluster, run

#: Tells who it is and what it may do, in a file beside it, and whether it may write elsewhere.
TELL = r"""
{ id -un; touch /usr/it-may && echo usr; echo text >beside && echo beside
  grep CapBnd: /proc/self/status; grep Seccomp: /proc/self/status; } >told.new 2>/dev/null
mv told.new told
exec sleep 600
"""


#: A request to port 80 from beside the service.
ASK = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:80/').read().decode())"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not in a home, since that is what pytest's may be."""
    with tempfile.TemporaryDirectory(prefix="pupgevent-test-", dir="/var/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def systemd(folder: Path) -> Iterator[LittleSystemd]:
    units = folder / "units"
    units.mkdir()
    it = LittleSystemd(units)
    try:
        if not it.start():
            pytest.skip("no systemd can be run here")
        yield it
    finally:
        it.close()


class Service(Running):
    """A configuration as a service of that systemd."""

    def __init__(self, systemd: LittleSystemd, folder: Path, *processes: Any) -> None:
        self.place = folder / "app"
        self.place.mkdir()
        super().__init__(self.place, *processes)
        self._systemd = systemd
        self._unit = folder / "units" / "app.service"

    def write_unit(self, change: Callable[[str], str] = str) -> None:
        """The exported one, in a systemd that has nothing to wait for."""
        text = run("export", "systemd", str(self.config)).stdout
        text = re.sub("(Wants|After)=.*\n", "", text)
        text = text.replace("[Unit]\n", "[Unit]\nDefaultDependencies=no\n")
        output = "StandardOutput=file:%s\nStandardError=inherit\n" % self.output
        text = text.replace("[Service]\n", "[Service]\n" + output)
        self._unit.write_text(change(text))

    def ctl(self, word: str) -> None:
        done = self._systemd.ctl(word, "app")
        assert done.returncode == 0, done.stdout + self.said()

    def told(self, name: str = "told") -> str:
        """What the application has told, once it has."""
        path = self.place / name
        eventually(path.exists, message=self.said())
        return path.read_text()

    def run(self, *words: str) -> Any:
        """A command from beside the service, as root."""
        return self._systemd.enter(*PUPGEVENT, words[0], str(self.config), *words[1:])


def test_applications_of_another_user_run_and_pupgevent_as_root_ends_them(
    systemd: LittleSystemd, folder: Path
) -> None:
    web = {"id": "web", "cmd": TELL, "user": "daemon", "pidFile": "web.pid", "autostart": True}
    service = Service(systemd, folder, web)
    os.chown(str(service.place), 1, 1)
    service.write_unit()
    service.ctl("start")
    told = service.told()
    assert told.splitlines()[:2] == ["daemon", "beside"]
    # Without CAP_SYS_ADMIN (21), with CAP_SETUID (7); and with the filter of system calls.
    rights = int(told.split("CapBnd:")[1].split()[0], 16)
    assert not rights & 1 << 21 and rights & 1 << 7 and "Seccomp:\t2" in told
    pid = int((service.place / "web.pid").read_text())
    assert service.run("status").returncode == 0
    service.ctl("reload")
    assert service.run("restart").returncode == 0
    again = int((service.place / "web.pid").read_text())
    assert again != pid
    service.ctl("stop")
    assert systemd.enter("kill", "-0", str(again)).returncode != 0
    assert not (service.place / "web.pid").exists()
    assert "SIGKILL" not in service.said() and "warning" not in service.said(), service.said()


def test_applications_of_root_write_where_they_are_and_not_into_the_system(
    systemd: LittleSystemd, folder: Path
) -> None:
    service = Service(systemd, folder, {"id": "job", "cmd": TELL, "autostart": True})
    service.write_unit()
    service.ctl("start")
    assert service.told().splitlines()[:2] == ["root", "beside"]
    service.ctl("stop")


def test_a_user_of_the_unit_has_a_low_port_and_is_reached_by_the_commands(
    systemd: LittleSystemd, folder: Path
) -> None:
    web = {"id": "web", "cmd": [sys.executable, str(SERVER)], "autostart": True,
           "cluster": cluster([8000, 8001], 80)}
    service = Service(systemd, folder, web)
    service.write_unit(lambda text: text.replace("#User=\n", "User=daemon\n"))
    service.ctl("start")
    eventually(lambda: service.run("status").returncode == 0, message=service.said())
    assert systemd.enter(sys.executable, "-c", ASK).stdout.startswith("Hello from instance")
    done = service.run("status")
    assert "running, 2/2 up" in done.stdout and "user daemon" in done.stdout
    assert systemd.show("app", "User") == "daemon"
    service.ctl("reload")
    service.ctl("stop")
