"""The commands that talk to a running pupgevent, from the side of the terminal.

Plain blocking sockets, no loop: a command is there at once. Results go to stdout, progress and
errors to stderr. control.py tells what is said.
"""

import io
import json
import os
import select
import socket
import sys
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

import configuration
import control_socket
import documents
import finding
import paths
import status_table
import terminal
from cli import Arguments
from control_protocol import BadReply, JsonObject, Reply, checked
from errors import ConfigurationError, NotRunningError, PupgeventError, encoded
from status_report import Status, from_json

#: Seconds to be heard: by a pupgevent that is busy with something, or by a stopped one.
ANSWER_TIMEOUT = 10.0

#: Seconds until a request is made again that was turned away since too many were connected.
_BUSY_PAUSE = 0.1

#: Seconds for a process to be gone after it has said that it goes.
_EXIT_TIMEOUT = 10.0

#: Most bytes of a line of an answer: a status of a thousand instances has half a megabyte.
_LONGEST_LINE = 64 * 2**20

#: Exit code of `status` when something that should run does not.
UNHEALTHY = 3

Handler = Callable[[JsonObject], None]


class Failed(PupgeventError):
    """The answer of the one that runs, with the exit code that it gave."""

    def __init__(self, text: str, exit_status: int, lines: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.exit_status = exit_status
        self._lines = lines

    @property
    def lines(self) -> List[str]:
        return [str(PupgeventError(line)) for line in self._lines] or [str(self)]


class ControlClient:
    """A connection to the pupgevent that runs a configuration file."""

    def __init__(self, config: str) -> None:
        """Raises NotRunningError, or what is wrong with the file if that is why."""
        found = finding.reach(config, _named_socket(config), ANSWER_TIMEOUT)
        if found is None:
            configuration.load(config)
            raise NotRunningError("no pupgevent runs for %s" % config)
        #: Whose pupgevent has answered, "user app, pid 4711"; None where it is our own.
        self.whose = found.whose and "user %s, pid %d" % (found.whose, found.peer.pid)
        self._socket = found.connection
        self._file = found.connection.makefile("rb")
        self._config = control_socket.known_paths(config)

    def ask(self, request: JsonObject, timeout: "Optional[float]") -> "Iterator[JsonObject]":
        """Everything that is answered, the last line included; raises PupgeventError.

        `timeout` is seconds between two lines, None waits for as long as it takes. Who follows
        gets a BrokenPipeError as soon as nobody reads our stdout any more.
        """
        lines = io.BufferedReader(_Followed(self._socket)) if request.get("follow") else self._file
        self._socket.settimeout(timeout)
        try:
            full = dict(request, config=self._config)
            self._socket.sendall(json.dumps(full).encode() + b"\n")
        except OSError:
            pass  # it has closed already: why is in what it has sent
        try:
            for line in lines:
                yield checked(json.loads(line.decode()), self.whose is None)
        except socket.timeout:
            raise PupgeventError("pupgevent does not answer") from None
        except BrokenPipeError:
            raise  # of stdout: from the connection we only read
        except (OSError, ValueError, RecursionError):
            return

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class _Followed(io.RawIOBase):
    """What comes from a socket, for as long as somebody reads our stdout."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        # No event is asked for: what is told is only that the other end of a pipe, or of a
        # terminal, has gone.
        poll.register(sys.stdout, 0)
        if sys.stdout.fileno() in dict(poll.poll()):
            raise BrokenPipeError
        return self._socket.recv_into(buffer)


def call(
    config: str, request: JsonObject, handle: Handler, timeout: "Optional[float]" = ANSWER_TIMEOUT
) -> JsonObject:
    """The last line of the answer; `handle` gets those before. Raises PupgeventError."""
    deadline = time.monotonic() + ANSWER_TIMEOUT
    while True:
        final = _call_once(config, request, handle, timeout)
        if not final.get("busy") or time.monotonic() > deadline:
            break
        time.sleep(_BUSY_PAUSE)
    if not final["ok"]:
        raise Failed(final["error"], final["status"], final.get("errors", ()))
    return final


def _call_once(
    config: str, request: JsonObject, handle: Handler, timeout: "Optional[float]"
) -> JsonObject:
    client = ControlClient(config)
    try:
        for reply in client.ask(request, timeout):
            if "ok" in reply:
                return Reply(reply, whose=client.whose)
            handle(reply)
    finally:
        client.close()
    raise PupgeventError("pupgevent ended before it answered")


def _named_socket(config: str) -> "Optional[str]":
    """`control.socket` of the file, as far as the file can be read: a command has to reach what
    runs also while somebody works on the file."""
    try:
        values = documents.read(config).values
    except ConfigurationError:
        return None
    control = values.get("control") if isinstance(values, dict) else None
    path = control.get("socket") if isinstance(control, dict) else None
    if not isinstance(path, str) or not path:
        return None
    try:
        return os.path.join(os.path.dirname(paths.absolute(config)), path)
    except OSError:
        return None


# The commands; each returns the exit code


def status(args: Arguments) -> int:
    request: JsonObject = {"command": "status"}
    if args.names:
        request["words"] = list(args.names)
    final = call(args.config, request, _ignore)
    found = status_in(final)
    _tell_whose(final)
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
    final = call(args.config, request, _print_lines, None if args.follow else ANSWER_TIMEOUT)
    _tell_whose(final)
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
        _tell_whose(final)
        return final
    except KeyboardInterrupt:
        sys.stderr.write("\npupgevent: no longer waiting; the %s goes on\n" % args.command)
        raise


def _tell_whose(final: JsonObject) -> None:
    """Root reaches everybody's, and anybody may run any file that he can read."""
    if final["whose"] is not None:
        sys.stderr.write("pupgevent: the answer is that of %s\n" % final["whose"])


def _print_progress(reply: JsonObject) -> None:
    try:
        sys.stderr.write("%s\n" % reply["progress"])
        sys.stderr.flush()
    except OSError:
        pass  # nobody reads it any more; what is asked for goes on


def _print_lines(reply: JsonObject) -> None:
    sys.stdout.buffer.write(encoded(reply["lines"]))
    sys.stdout.buffer.flush()


def _ignore(reply: JsonObject) -> None:
    pass


def _lives(pid: int) -> bool:
    """A zombie has ended: it waits for its parent, and holds nothing."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


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
    return status_in(call(config, {"command": "status"}, _ignore))


COMMANDS: Dict[str, Callable[[Arguments], int]] = dict.fromkeys(_CHANGES, change)
COMMANDS.update(status=status, shutdown=shutdown, logs=logs, top=top)
