"""The file's contents in the language of others: `pupgevent export systemd CONFIG`."""

import math
import os
import re
import shutil
import sys
import zipfile
from typing import Callable, Dict, List

from model import Configuration, Process

#: Seconds beyond what the processes are given: for SIGKILL, the last lines, a slow machine.
_STOP_MARGIN, _START_MARGIN = 15, 60
#: systemd's own default for a start, in seconds; never less.
_START_TIMEOUT = 90
#: The highest that a service gets without being asked for more (systemd 240 and newer).
_DESCRIPTORS = 524288
#: Where systemd finds programs for a service that sets no PATH.
_SERVICE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"

UNIT = """\
# Made by `pupgevent export systemd`. Put it into /etc/systemd/system/{name}.service, then:
#   systemctl daemon-reload && systemctl enable --now {name}
# Make it anew when the time-outs of the configuration change.
[Unit]
Description=pupgevent {description}
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload={reload}
{environment}# The user to run as; without it root, which the configuration's own `user` needs.
#User=
#Group=
# SIGTERM goes to pupgevent, which drains and stops its instances; what is left then is killed.
KillMode=mixed
TimeoutStartSec={start_timeout}
TimeoutStopSec={stop_timeout}
Restart=on-failure
RestartSec=2
# A wrong configuration does not get right by another try.
RestartPreventExitStatus=2
WatchdogSec=30
LimitNOFILE={descriptors}

[Install]
WantedBy=multi-user.target
"""


def systemd(configuration: Configuration) -> str:
    """A unit that runs this configuration with the pupgevent that is running now."""
    # Not the real path: relative paths start where the file is named, and so does a new release
    # that a link is moved to.
    command, config = own_command(), configuration.absolute_path
    return UNIT.format(
        name=unit_name(configuration.name),
        description=configuration.name.replace("%", "%%"),
        command=_command_line([*command, config]),
        # It waits for the end, and its exit code tells what came of it; SIGHUP does neither.
        reload=_command_line([*command, "reload", config]),
        environment="".join(line + "\n" for line in single_file_environment(command[-1])),
        start_timeout=start_timeout(configuration),
        stop_timeout=stop_timeout(configuration),
        descriptors=_DESCRIPTORS,
    )


def _command_line(words: "List[str]") -> str:
    """In the program's own place systemd replaces no variables."""
    return " ".join([quoted(words[0], variables=False), *map(quoted, words[1:])])


def own_command() -> "List[str]":
    """How to run what runs now: the command, or Python with a file that is none."""
    script = os.path.abspath(sys.argv[0])
    if os.access(script, os.X_OK):
        return [script]
    # The one file for all Pythons starts itself so, too.
    options = ["-Es"] if zipfile.is_zipfile(script) else []
    return [os.path.abspath(sys.executable), *options, script]


def single_file_environment(script: str) -> "List[str]":
    """What the one file for all Pythons likes to know: where to unpack, and which Python."""
    if not zipfile.is_zipfile(script):
        return []
    lines = ["CacheDirectory=pupgevent-%N"]
    found = shutil.which("python3", path=_SERVICE_PATH)
    if found is None or not os.path.samefile(found, sys.executable):
        lines.append("Environment=" + quoted("PUPGEVENT_PYTHON=" + sys.executable, variables=False))
    return lines


def start_timeout(configuration: Configuration) -> int:
    """Seconds; the instances start side by side, and the first verdict on each is awaited."""
    started = [each for each in configuration.processes if each.autostart]
    longest = max(map(_time_to_start, started), default=0)
    return max(_START_TIMEOUT, math.ceil(longest) + _START_MARGIN)


def _time_to_start(process: Process) -> float:
    if process.cluster is None or process.cluster.start_port is None:
        return process.min_uptime
    return process.cluster.ready_timeout


def stop_timeout(configuration: Configuration) -> int:
    """Seconds; the instances stop side by side."""
    return math.ceil(max(map(_time_to_stop, configuration.processes))) + _STOP_MARGIN


def _time_to_stop(process: Process) -> float:
    return process.terminate_grace_period + process.terminate_timeout


def unit_name(name: str) -> str:
    """The name with what a unit's file may be called."""
    return re.sub("[^A-Za-z0-9_.@]+", "-", name).strip("-") or "pupgevent"


def quoted(word: str, variables: bool = True) -> str:
    """A word of a command line as systemd reads it (systemd.service(5), "Command lines").

    `variables`: a dollar has a meaning there, and is doubled to have none.
    """
    word = word.replace("%", "%%")
    if variables:
        word = word.replace("$", "$$")
    text = "".join(_escaped(c) for c in word)
    return text if text == word and not set(word) & set(" ;'") and word else '"%s"' % text


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    # A byte that is not UTF-8 comes from the system as a lone surrogate.
    if ord(character) < 32 or 0xDC80 <= ord(character) <= 0xDCFF or character == "\x7f":
        return "".join("\\x%02x" % byte for byte in os.fsencode(character))
    return character


FORMATS: Dict[str, Callable[[Configuration], str]] = {"systemd": systemd}
