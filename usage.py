"""What may be said to `pupgevent`: the usage, and a record of each command and option."""

from typing import Dict, List, NamedTuple, Optional, Tuple

from options import Option as Option

USAGE = """Run the instances of each process in CONFIG and balance TCP over them.

Usage:
  pupgevent [--verbose] [CONFIG]
  pupgevent init [--from=FILE] [CONFIG]
  pupgevent check [CONFIG]
  pupgevent status [--json] [CONFIG] [PROCESS...]
  pupgevent describe [CONFIG] PROCESS
  pupgevent (start | stop | restart) [CONFIG] [PROCESS...]
  pupgevent signal [CONFIG] SIGNAL [PROCESS...]
  pupgevent scale [CONFIG] ID INSTANCES
  pupgevent reload [CONFIG]
  pupgevent shutdown [CONFIG]
  pupgevent logs [--follow] [--lines=LINES] [--since=TIME] [CONFIG] [PROCESS...]
  pupgevent top [CONFIG]
  pupgevent list
  pupgevent export FORMAT [--host=HOST]... [--http] [CONFIG]
  pupgevent completion SHELL
  pupgevent --help | --version

Commands:
  (none)      Run CONFIG in the foreground.
  init        Write a first CONFIG (else pupgevent.toml), or carry over the FILE of another tool: a
              Procfile, a PM2 ecosystem file as JSON, a supervisord.conf, a pup.json.
  check       Validate CONFIG and print what would run.
  status      Print what runs: instances, connections, traffic, CPU, memory.
  describe    Print all about one process: its settings, its last states and exits, its last lines.
  start       Start what does not run.
  stop        Stop what runs.
  restart     Restart one instance after the other.
  signal      Send SIGNAL (HUP, SIGHUP or 1) to what runs, with all that it has started.
  scale       Change how many instances the cluster ID has, until the next reload.
  reload      Read CONFIG again and apply what differs, without losing a client.
  shutdown    Stop everything and end pupgevent.
  logs        Print the last lines of pupgevent and its processes.
  top         The status, refreshed in place.
  list        Print every pupgevent of this user, or of all for root: its CONFIG, pid, health.
  export      Print what another needs of CONFIG: FORMAT is systemd, for a unit that runs it,
              prometheus, for alert rules, or nginx or haproxy, for one in front of machines that
              each run it.
  completion  Print what lets SHELL complete these words: bash, zsh or fish.

Options:
  -v --verbose      Tell more while running.
  --from=FILE       What init carries over.
  --json            The status as JSON.
  -f --follow       Go on with new lines until Ctrl-C.
  -n --lines=LINES  The last so many lines; else all that are remembered, or 10 before new ones.
  --since=TIME      Lines from then on: 10m, 2h, 3d ago; 15:04, "2026-11-23 15:04:05".
  --host=HOST       A machine behind what is exported, by its name or address; once for each.
  --http            Export NGINX or HAProxy for HTTP, with compression and a cache.
  -h --help         Show this.
  -V --version      Show the versions of pupgevent, Python, gevent and greenlet.

CONFIG is a TOML file, or Pup's own JSON (.json, .jsonc). Any other name is written with a slash.
CONFIG left out is pupgevent.toml, pup.json, pup.jsonc or conf/app.toml of the current folder, if
only one of them is there.
PROCESS is the id of a process, the name of an instance, or `all`, as when there is none.
Exit codes: 0 done, 1 it failed, 2 usage or configuration, 3 `status` when something that should
run does not serve, 4 no pupgevent runs for CONFIG.
"""


class Command(NamedTuple):
    """What may stand behind the name of a command."""

    #: CONFIG may be left out, wherever it is.
    words: Tuple[str, ...] = ("CONFIG",)
    #: The last word may be repeated, or left out.
    repeats: bool = False
    #: Those that go with it, besides `ALWAYS`.
    options: Tuple[str, ...] = ()
    #: It makes CONFIG: one that is left out is not looked for.
    makes_config: bool = False

    @property
    def others(self) -> List[str]:
        """The words without CONFIG."""
        return [word for word in self.words if word != "CONFIG"]

    @property
    def place(self) -> Optional[int]:
        """Before how many of those CONFIG stands; None: there is none."""
        return self.words.index("CONFIG") if "CONFIG" in self.words else None


#: The run in the foreground, which has no name.
RUN = Command(options=("--verbose",))

COMMANDS: Dict[str, Command] = {
    "init": Command(options=("--from",), makes_config=True),
    "check": Command(),
    "status": Command(("CONFIG", "PROCESS"), repeats=True, options=("--json",)),
    "describe": Command(("CONFIG", "PROCESS")),
    "start": Command(("CONFIG", "PROCESS"), repeats=True),
    "stop": Command(("CONFIG", "PROCESS"), repeats=True),
    "restart": Command(("CONFIG", "PROCESS"), repeats=True),
    "signal": Command(("CONFIG", "SIGNAL", "PROCESS"), repeats=True),
    "scale": Command(("CONFIG", "ID", "INSTANCES")),
    "reload": Command(),
    "shutdown": Command(),
    "logs": Command(
        ("CONFIG", "PROCESS"), repeats=True, options=("--follow", "--lines", "--since")),
    "top": Command(),
    "list": Command(()),
    "export": Command(("FORMAT", "CONFIG"), options=("--host", "--http")),
    "completion": Command(("SHELL",)),
}

#: By their long names.
OPTIONS: Dict[str, Option] = {
    "--verbose": Option("-v"),
    "--from": Option("", "FILE"),
    "--json": Option(),
    "--follow": Option("-f"),
    "--lines": Option("-n", "LINES"),
    "--since": Option("", "TIME"),
    "--host": Option("", "HOST", repeats=True),
    "--http": Option(),
    "--help": Option("-h"),
    "--version": Option("-V"),
}

#: Options that go with every command.
ALWAYS = ("--help", "--version")

#: How a word is known to be CONFIG, whether the file is there or not.
SUFFIXES = (".toml", ".json", ".jsonc")

#: What `export` can write, as exports.py has it, and the shells of completion.py.
FORMATS = ("systemd", "prometheus", "nginx", "haproxy")
#: Those of them that --host and --http go with: they stand in front of machines.
FRONTS = ("nginx", "haproxy")
SHELLS = ("bash", "zsh", "fish")


def is_config(word: str) -> bool:
    return "/" in word or word.lower().endswith(SUFFIXES)


def goes_with(option: str) -> List[str]:
    """The names of the commands that an option goes with; "" is the run in the foreground."""
    return [name for name, command in [("", RUN), *COMMANDS.items()]
            if option in command.options or option in ALWAYS]
