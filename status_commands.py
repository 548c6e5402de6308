"""The commands that show what runs: `status` and `describe`, from the side of the terminal."""

import json
import sys
from typing import List, Optional, Tuple

import description_text
import status_table
import terminal
from cli import Arguments
from control_client import Failed, call, ignore, tell_whose
from control_protocol import UNKNOWN_COMMAND, BadReply, JsonObject
from description_report import Description
from errors import PupgeventError
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
        _print(status_table.table(found, *_look()))
    return 0 if found.healthy else UNHEALTHY


def describe(args: Arguments) -> int:
    try:
        final = call(args.config, {"command": "describe", "word": args.names[0]}, ignore)
    except Failed as error:
        if str(error).startswith(UNKNOWN_COMMAND):
            raise PupgeventError(
                "the running pupgevent is older than this one: it can be described once it has"
                " been restarted") from None
        raise
    found = description_in(final)
    tell_whose(final)
    _print(description_text.text(found, *_look()))
    return 0


def _look() -> "Tuple[Optional[int], bool]":
    """How lines look on stdout: at most how many columns, and whether in colours."""
    return terminal.width(sys.stdout.fileno()), terminal.wants_colors(sys.stdout.fileno())


def _print(lines: List[str]) -> None:
    print("\n".join(lines))


def status_in(reply: JsonObject) -> Status:
    """The status that a reply tells; raises BadReply."""
    try:
        return from_json(Status, reply["status"])
    except ValueError:
        raise BadReply() from None


def description_in(reply: JsonObject) -> Description:
    """The same for the answer to `describe`, which is about one process."""
    try:
        found = from_json(Description, reply["description"])
    except ValueError:
        raise BadReply() from None
    if len(found.status.processes) != 1:
        raise BadReply()
    return found
