"""What other tools call it, and what it is here: Pup, supervisorctl, PM2, systemctl, compose.

Somebody who has typed `supervisorctl tail -f web` for years types `pupgevent tail -f web`, and is
told `pupgevent logs --follow web`.
"""

from typing import Dict

#: A command of others, and ours: its name and what always goes with it. "" is the run in the
#: foreground; an option stands for itself. What is here may not be a command of ours.
COMMANDS: Dict[str, str] = {
    # About pupgevent itself.
    "help": "--help", "version": "--version", "man": "--help", "usage": "--help",
    "completions": "completion", "autocomplete": "completion",
    # Running it, and ending it.
    "run": "", "up": "", "serve": "", "launch": "", "foreground": "",
    "terminate": "shutdown", "down": "shutdown", "quit": "shutdown", "exit": "shutdown",
    "halt": "shutdown", "poweroff": "shutdown",
    "enable": "export systemd", "enable-service": "export systemd", "startup": "export systemd",
    "install": "export systemd",
    # Looking at it.
    "ls": "list", "l": "list", "instances": "list", "ps": "status", "summary": "status",
    "show": "describe", "desc": "describe", "info": "describe", "inspect": "describe",
    "is-active": "status", "is-failed": "status", "is-running": "status", "pid": "status",
    "port": "status", "ping": "status", "health": "status", "list-units": "status",
    "jlist": "status --json", "prettylist": "status --json",
    "monit": "top", "dash": "top", "dashboard": "top", "stats": "top", "htop": "top",
    # Its lines.
    "log": "logs", "tail": "logs", "maintail": "logs", "journal": "logs", "journalctl": "logs",
    "monitor": "logs --follow", "fg": "logs --follow", "attach": "logs --follow",
    "events": "logs --follow", "stream": "logs --follow", "follow": "logs --follow",
    # Its processes.
    "kill": "stop", "delete": "stop", "del": "stop", "rm": "stop", "block": "stop",
    "unmonitor": "stop", "begin": "start", "unblock": "start",
    "reboot": "restart", "bounce": "restart", "try-restart": "restart",
    "condrestart": "restart", "reload-or-restart": "restart", "graceful": "restart",
    "gracefulreload": "restart", "rolling-restart": "restart", "rr": "restart",
    "sendsignal": "signal", "send-signal": "signal", "pause": "signal STOP",
    "unpause": "signal CONT", "suspend": "signal STOP", "resume": "signal CONT",
    "hup": "signal HUP", "usr1": "signal USR1", "usr2": "signal USR2", "term": "signal TERM",
    "numprocesses": "scale", "resize": "scale",
    # Its file.
    "validate": "check", "test": "check", "configtest": "check", "verify": "check",
    "lint": "check", "config": "check", "avail": "check", "cat": "check",
    "update": "reload", "reread": "reload", "daemon-reload": "reload", "refresh": "reload",
    "apply": "reload", "add": "reload", "append": "reload", "remove": "reload",
    "reloadconfig": "reload", "force-reload": "reload",
}  # fmt: skip

#: An option of others, and ours; "" where CONFIG is meant, which stands without one.
OPTIONS: Dict[str, str] = {
    "--config": "", "-c": "", "--configuration": "", "--file": "", "-C": "",
    "-S": "--since", "--since-time": "--since", "--after": "--since",
    "--tail": "--lines", "--num": "--lines", "--debug": "--verbose",
    "-F": "--follow", "-?": "--help", "--usage": "--help",
}  # fmt: skip
