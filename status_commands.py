"""The commands that show what runs: `status` and `top`, from the side of the terminal."""

import json
import os
import sys
import time
from typing import List

import status_table
import terminal
from cli import Arguments
from control_client import call, ignore, tell_whose
from control_protocol import BadReply, JsonObject
from status_report import Status, from_json

#: Exit code of `status` when something that should run does not.
UNHEALTHY = 3


def status(args: Arguments) -> int:
    request: JsonObject = {"command": "status"}
    if args.names:
        request["words"] = list(args.names)
    final = call(args.config, request, ignore)
    found = status_in(final)
    tell_whose(final)
    if args.json:
        # As it came: a newer pupgevent may tell more than the records have.
        print(json.dumps(final["status"], indent=2))
    else:
        width = os.get_terminal_size(1).columns if sys.stdout.isatty() else None
        print("\n".join(status_table.table(found, width or None)))
    return 0 if found.healthy else UNHEALTHY


def status_in(reply: JsonObject) -> Status:
    """The status that a reply tells; raises BadReply."""
    try:
        return from_json(Status, reply["status"])
    except ValueError:
        raise BadReply() from None


# `pupgevent top`: the status table, refreshed in place where there is a terminal


#: Seconds between two tables.
EVERY = 1.0

_HINT = "q ends this"


def top(args: Arguments) -> int:
    """Until `q` or Ctrl-C; raises PupgeventError when there is nobody to ask any more."""
    try:
        if sys.stdout.isatty():
            with terminal.screen() as keys:
                _refresh(args.config, keys)
        else:
            _repeat(args.config)
    except KeyboardInterrupt:
        pass
    return 0


def _repeat(config: str) -> None:
    while True:
        found = _ask_status(config)
        print("\n".join([status_table.title(found), *status_table.table(found), ""]), flush=True)
        time.sleep(EVERY)


def _refresh(config: str, keys: terminal.Keys) -> None:
    while True:
        size = os.get_terminal_size(sys.stdout.fileno())
        terminal.show(frame(_ask_status(config), size.columns or 80, size.lines or 24))
        if keys.pressed(EVERY) in ("q", "Q"):
            return


def frame(found: Status, columns: int, lines: int) -> "List[str]":
    """What is on the screen, which it fits."""
    rows = status_table.table(found, columns)
    room = max(1, lines - 3)
    if len(rows) > room:
        rows = [*rows[: room - 1], "(%d lines more)" % (len(rows) - room + 1)]
    text = [status_table.title(found), "", *rows]
    if len(text) < lines:
        text.append(_HINT)
    return [line[:columns] for line in text[:lines]]


def _ask_status(config: str) -> Status:
    return status_in(call(config, {"command": "status"}, ignore))
