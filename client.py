"""The commands that talk to a running pupgevent, from the side of the terminal.

Results go to stdout, progress and errors to stderr. Those that show what runs are in
status_commands.py.
"""

import sys
import time
from typing import Callable, Dict

import listing
import status_commands
import terminal
from cli import Arguments
from control_client import ANSWER_TIMEOUT, call, tell_whose
from control_protocol import JsonObject
from errors import PupgeventError, encoded

#: Seconds for a process to be gone after it has said that it goes.
_EXIT_TIMEOUT = 10.0


# The commands; each returns the exit code


def change(args: Arguments) -> int:
    """Do what is in `_CHANGES`."""
    print(_ask(args)["text"])
    return 0


def shutdown(args: Arguments) -> int:
    final = _ask(args)
    deadline = time.monotonic() + _EXIT_TIMEOUT
    while _lives(final["pid"]):
        if time.monotonic() > deadline:
            raise PupgeventError("pid %d has stopped everything, and is still there" % final["pid"])
        time.sleep(0.01)
    print(final["text"])
    return 0


def logs(args: Arguments) -> int:
    request: JsonObject = {
        "command": "logs", "words": list(args.names), "follow": args.follow,
        "colors": terminal.wants_colors(sys.stdout.fileno()),
    }  # fmt: skip
    # What is left out, a pupgevent of before does not have to know.
    if args.lines is not None:
        request["lines"] = args.lines
    if args.since is not None:
        request["since"] = args.since
    final = call(args.config, request, _print_lines, None if args.follow else ANSWER_TIMEOUT)
    tell_whose(final)
    return 0


def _words_of(args: Arguments) -> JsonObject:
    return {"words": list(args.names)}


def _scale_of(args: Arguments) -> JsonObject:
    return {"id": args.id, "instances": args.instances}


def _signal_of(args: Arguments) -> JsonObject:
    return {"signal": args.signal, "words": list(args.names)}


def _nothing_of(args: Arguments) -> JsonObject:
    return {}


#: What changes something: the fields of its request.
_CHANGES: Dict[str, Callable[[Arguments], JsonObject]] = {
    "start": _words_of, "stop": _words_of, "restart": _words_of, "scale": _scale_of,
    "signal": _signal_of, "reload": _nothing_of, "shutdown": _nothing_of,
}  # fmt: skip


def _ask(args: Arguments) -> JsonObject:
    """Have a change made, however long it takes."""
    # The command comes first: the request is logged as it would be typed.
    request: JsonObject = {"command": args.command}
    request.update(_CHANGES[args.command](args))
    try:
        final = call(args.config, request, _print_progress, None)
        tell_whose(final)
        return final
    except KeyboardInterrupt:
        sys.stderr.write("\npupgevent: no longer waiting; the %s goes on\n" % args.command)
        raise


def _print_progress(reply: JsonObject) -> None:
    _print_hint(reply["progress"])


def _print_hint(text: str) -> None:
    try:
        sys.stderr.write("%s\n" % text)
        sys.stderr.flush()
    except OSError:
        pass  # nobody reads it any more; what is asked for goes on


def _print_lines(reply: JsonObject) -> None:
    sys.stdout.buffer.write(encoded(reply["lines"]))
    sys.stdout.buffer.flush()
    if "hint" in reply:
        _print_hint("pupgevent: %s" % reply["hint"])


def _lives(pid: int) -> bool:
    """A zombie has ended: it waits for its parent, and holds nothing."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


COMMANDS: Dict[str, Callable[[Arguments], int]] = dict.fromkeys(_CHANGES, change)
COMMANDS.update(
    list=listing.show,
    status=status_commands.status, describe=status_commands.describe, shutdown=shutdown, logs=logs)
