"""Write docs/pupgevent.1, the manual page: `make readme`.

What it tells comes from where the README has it: the usage in usage.py, the records of the keys,
and the README's own words on commands, instances, balancing and signals. tests/test_manpage.py
checks that the page is up to date and that `man` shows it.
"""

import os
import re
import sys
from typing import Dict, List, NamedTuple

import roff
from readme import README, TOP, sentence

PAGE = os.path.join(TOP, "docs", "pupgevent.1")
#: A page has a date, and not that of its making: the same sources give the same page.
DATE = "2026-11-29"

DESCRIPTION = """\
`pupgevent` runs the instances of each process that CONFIG describes, in the foreground. It starts
them, watches them, and starts again those that fail. If a process has a common port, it also
accepts the clients there and connects each of them to an instance. The process that notices the end
of an instance is the one that routes connections, so no client is sent to a dead instance.

An application finds its port in the environment variable `PUP_CLUSTER_PORT` and listens there on
127.0.0.1. The other commands talk to the pupgevent that runs CONFIG, and return when what they ask
for is done."""

#: What an application gets, where the code sets it.
GIVEN = {
    "PUP_PROCESS_ID": "the `id` of the process",
    "PUP_CLUSTER_INSTANCE": "the number of the instance, from 0; with `cluster`",
    "PUP_CLUSTER_PORT": "the port to listen on; with `startPort`",
    "PORT": "the same port, under the name that many frameworks read; `env` may set another",
}
READ = {
    "NO_COLOR": "if it is set, nothing is printed in colours",
    "NOTIFY_SOCKET": "the socket of sd_notify(3): systemd sets it for a unit with `Type=notify`",
    "WATCHDOG_USEC": "how often systemd expects a sign of life",
    "XDG_RUNTIME_DIR": "the last choice for sockets and locks, see FILES",
    "PUPGEVENT_CACHE": "where the single file unpacks what it needs; no other place is tried then",
    "PUPGEVENT_PYTHON": "the Python that runs the single file, as a name or a path",
}
FILES = {
    "/run/pupgevent": "sockets and locks of root's pupgevents",
    "/tmp/pupgevent-UID": "those of another user; if it cannot be used, a folder of that name with"
    " a random suffix, then the same in `/var/tmp` and `/dev/shm`",
    "~/.cache/pupgevent": "what the single file has unpacked; it may be deleted when no pupgevent"
    " runs",
}
#: The words of a shell, and what they do.
EXAMPLES = {
    "pupgevent check conf/app.toml": "See what is wrong with a file, or what would run.",
    "pupgevent conf/app.toml": "Run it until Ctrl-C.",
    "pupgevent restart conf/app.toml my-app": "Bring out a new release without losing a request.",
    "pupgevent scale conf/app.toml my-app 8": "Run eight instances until the next reload.",
    "pupgevent reload conf/app.toml": "Apply what has been changed in the file.",
    "pupgevent status conf/app.toml || echo trouble": "Ask in a script whether all that should run"
    " serves.",
    "pupgevent describe conf/app.toml my-app": "See why something does not run, with which"
    " settings, and what it has said last.",
    "pupgevent logs --follow conf/app.toml my-app-2": "See what one instance prints.",
    "pupgevent export systemd conf/app.toml > app.service":
        "Have systemd run it from now on, with this unit in `/etc/systemd/system`.",
}
SEE_ALSO = (
    ("crontab", 5), ("environ", 7), ("haproxy", 1), ("nginx", 8), ("sd_notify", 3), ("signal", 7),
    ("systemd.service", 5),
)  # fmt: skip


class Usage(NamedTuple):
    """The text of usage.USAGE, taken apart."""

    #: Each command line, without the name of the program.
    lines: List[str]
    commands: Dict[str, str]
    options: Dict[str, str]
    #: What CONFIG and the like stand for.
    notes: str
    codes: Dict[str, str]


def read_usage(text: str) -> Usage:
    """ValueError where the text is of another make."""
    parts = dict(re.findall(r"(?m)^(\w+):\n((?:  .*\n)+)", text))
    tail = " ".join(text.rpartition("\n\n")[2].split())
    notes, _, codes = tail.partition("Exit codes: ")
    found = Usage(
        re.findall(r"(?m)^  pupgevent (.*)$", parts["Usage"]),
        items(parts["Commands"]),
        items(parts["Options"]),
        notes.strip(),
        dict(re.findall(r"(\d+) (.*?)(?:, (?=\d)|\.$)", codes)),
    )
    if set(parts) != {"Usage", "Commands", "Options"} or not all(found):
        raise ValueError("the usage has other parts than this page has sections for")
    return found


def items(lines: str) -> Dict[str, str]:
    """Terms and what is said of them: in two columns, or below a term that stands alone."""
    found: Dict[str, str] = {}
    for part in re.split(r"(?m)^  (?=\S)", lines)[1:]:
        term, _, said = part.partition("\n" if "  " not in part.partition("\n")[0] else "  ")
        found[term] = " ".join(said.split())
    return found


def page(readme: str) -> str:
    """The whole page; `readme` is the text of README.md. ValueError where a source lacks a part."""
    sys.path.insert(0, TOP)
    from usage import COMMANDS, USAGE

    usage = read_usage(USAGE)
    unnamed = set(COMMANDS) - set(", ".join(usage.commands).split(", "))
    if unnamed:
        raise ValueError("the usage says nothing of %s" % sorted(unnamed))
    said = readme_sections(readme)
    signals = on_signals(said["Commands"])
    sections = [
        ("SYNOPSIS", synopsis(usage)),
        ("DESCRIPTION", "".join(map(roff.paragraph, DESCRIPTION.split("\n\n")))),
        ("COMMANDS", commands(usage, [part for part in said["Commands"] if part not in signals])),
        ("OPTIONS", terms(usage.options)),
        ("CONFIGURATION", "".join(map(roff.block, said["Configuration"])) + reference()),
        ("INSTANCES", "".join(map(roff.block, said["The life of an instance"]))),
        ("BALANCING", "".join(map(roff.block, said["Balancing"]))),
        ("ENVIRONMENT", environment()),
        ("FILES", terms(FILES)),
        ("SIGNALS", roff.rows(signals[0]) + "".join(map(roff.block, signals[1:]))),
        ("EXIT STATUS", terms(usage.codes)),
        ("EXAMPLES", examples()),
        ("SEE ALSO", see_also()),
    ]
    return head() + "".join(roff.section(title, text) for title, text in sections)


def head() -> str:
    import pupgevent

    name, _, does = sentence("pupgevent").rstrip(".").partition(": ")
    return (
        '.\\" Made by docs/manpage.py from usage.py, keys.py and README.md.\n'
        '.TH PUPGEVENT 1 %s "pupgevent %s" "User Commands"\n' % (DATE, pupgevent.__version__) +
        ".ad l\n"
        + roff.section("NAME", roff.filled("%s \\- %s" % (name, roff.escaped(does)))))


def readme_sections(readme: str) -> Dict[str, List[roff.Block]]:
    """The parts below each heading of the first level."""
    found = re.split(r"(?m)^# (.*)$", re.sub(r"(?ms)^```.*?^```$", "", readme))
    return {title: list(roff.blocks(text)) for title, text in zip(found[1::2], found[2::2])}


def on_signals(blocks: List[roff.Block]) -> List[roff.Block]:
    """The table of signals and the paragraph behind it; ValueError without a table."""
    for place, block in enumerate(blocks):
        if block.kind == "table" and roff.cells(block.parts[0])[0] == "signal":
            return blocks[place:place + 2]
    raise ValueError("the README has no table of signals")


def synopsis(usage: Usage) -> str:
    lines = [".SY pupgevent\n%s\n" % roff.usage(line) for line in usage.lines]
    return "".join(lines) + ".YS\n"


def commands(usage: Usage, more: List[roff.Block]) -> str:
    """Each with its command line, then what CONFIG and the like are, then the README's words."""
    found = []
    for names, said in usage.commands.items():
        first = names.split(", ")[0]
        lines = [line for line in usage.lines if first in command_words(line)]
        found.append(roff.item(" | ".join(map(roff.usage, lines or usage.lines[:1])), said))
    return "".join(found) + roff.paragraph(usage.notes) + "".join(map(roff.block, more))


def command_words(line: str) -> List[str]:
    """The words of a command line in front of what they work on."""
    return re.findall("[a-z]+", re.split(r"[A-Z\[-]", line)[0])


def terms(found: Dict[str, str]) -> str:
    return "".join(roff.item(roff.bold(term), said) for term, said in found.items())


def reference() -> str:
    """Every key: its meaning, what it takes, its default."""
    import keys

    found = []
    for table in keys.TABLES:
        found.append(roff.subsection(table.header[0].upper() + table.header[1:]))
        for key in table.keys:
            value = "Value: %s. Default: %s." % (key.type.allowed, key.default_text)
            meaning = key.meaning[0].upper() + key.meaning[1:] + "."
            found.append(roff.item(roff.bold(key.name), meaning, value))
    return "".join(found)


def environment() -> str:
    """What pupgevent reads, and what it gives to an instance: ValueError for what has no words."""
    import model
    from configuration import load

    process = load(os.path.join(TOP, "conf", "app.toml")).processes[0]
    given = set(model.variables_of(process, model.instance_specs(process)[0])) - set(process.env)
    if given - set(GIVEN):
        raise ValueError("the page says nothing of %s" % sorted(given - set(GIVEN)))
    return (
        terms(READ)
        + roff.paragraph("The children get all of pupgevent's environment, then `env`, and:")
        + terms({name: said for name, said in GIVEN.items() if name in given}))


def examples() -> str:
    return "".join(
        roff.paragraph(said) + roff.example([line]) for line, said in EXAMPLES.items())


def see_also() -> str:
    found = ", ".join("%s(%d)" % (roff.bold(name), number) for name, number in SEE_ALSO)
    return roff.filled(found) + roff.paragraph(
        "`conf/full.toml` in the source shows every key with its default; the folder `docs` tells"
        " of servers, of other process managers and balancers, and of web frameworks.")


def main() -> None:
    with open(README, encoding="utf-8") as file:
        text = page(file.read())
    with open(PAGE, "w", encoding="ascii") as file:
        file.write(text)


if __name__ == "__main__":
    main()
