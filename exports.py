"""`pupgevent export FORMAT CONFIG`: a configuration in the format of another program.

FORMATS names them: `systemd`, a unit that runs the configuration, and `prometheus`, alert rules.
FRONTS names those of programs that stand in front of machines.
"""

import math
import os
import shutil
import sys
import zipfile
from typing import Callable, Dict, List, Sequence

from fronts import LONGEST
from haproxy_export import haproxy
from model import Configuration
from nginx_export import nginx
from prometheus_export import prometheus
from start_order import longest_chain
from time_limits import time_to_start, time_to_stop
from unit_hardening import hardening
from unit_syntax import SERVICE_PATH, quoted, unit_name

#: Seconds added to the time-outs of the processes: for SIGKILL, the last lines, a slow machine.
_STOP_MARGIN, _START_MARGIN = 15, 60
#: systemd's own default for a start, in seconds: the unit's is never less.
_START_TIMEOUT = 90
#: The hard limit of descriptors that systemd 240 and newer gives a service by default.
_DESCRIPTORS = 524288

UNIT = """\
# Made by `pupgevent export systemd`. Put it into /etc/systemd/system/{name}.service, then:
#   systemctl daemon-reload && systemctl enable --now {name}
# Make it anew when the configuration changes in its time-outs, ports, users or folders.
[Unit]
Description=pupgevent {description}
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload={reload}
{environment}\
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

{hardening}

[Install]
WantedBy=multi-user.target
"""


def systemd(configuration: Configuration) -> str:
    """A unit that runs this configuration with the pupgevent that is running now."""
    # Not the real path: a link may be switched to a new release, and relative paths start at the
    # folder that the file is named by.
    command, config = own_command(), configuration.absolute_path
    own = [*filter(os.path.isabs, command), sys.executable, sys.prefix]
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
        hardening="\n".join(hardening(configuration, own)),
    )


def _command_line(words: "List[str]") -> str:
    """systemd replaces variables in the arguments, but not in the program's own path."""
    return " ".join([quoted(words[0], variables=False), *map(quoted, words[1:])])


def own_command() -> "List[str]":
    """How to run this pupgevent: its command, or Python and a script that is not executable."""
    script = os.path.abspath(sys.argv[0])
    if os.access(script, os.X_OK):
        return [script]
    # The single file starts itself with these options, too.
    options = ["-Es"] if zipfile.is_zipfile(script) else []
    return [os.path.abspath(sys.executable), *options, script]


def single_file_environment(script: str) -> "List[str]":
    """Lines of the unit that tell the single file where to unpack, and which Python to use."""
    if not zipfile.is_zipfile(script):
        return []
    lines = ["CacheDirectory=pupgevent-%N"]
    found = shutil.which("python3", path=SERVICE_PATH)
    if found is None or not os.path.samefile(found, sys.executable):
        lines.append("Environment=" + quoted("PUPGEVENT_PYTHON=" + sys.executable, variables=False))
    return lines


def start_timeout(configuration: Configuration) -> int:
    """Seconds. The instances start side by side, but for those that start after others; each is
    awaited until it is up or has failed."""
    started = [each for each in configuration.processes if each.autostart]
    longest = longest_chain(started, time_to_start)
    return max(_START_TIMEOUT, math.ceil(longest) + _START_MARGIN)


def stop_timeout(configuration: Configuration) -> int:
    """Seconds. The instances stop side by side, but for those that start after others; before that
    the agent tells the proxies in front."""
    told = LONGEST if configuration.agent is not None else 0.0
    return math.ceil(told + longest_chain(configuration.processes, time_to_stop)) + _STOP_MARGIN


FORMATS: Dict[str, Callable[[Configuration], str]] = {
    "systemd": systemd, "prometheus": prometheus,
}

#: These also get the machines, none for this one, and whether all of it is HTTP.
FRONTS: Dict[str, Callable[[Configuration, Sequence[str], bool], str]] = {
    "nginx": nginx, "haproxy": haproxy,
}
