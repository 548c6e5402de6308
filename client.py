"""The commands that talk to a running pupgevent, from the side of the terminal.

Plain blocking sockets, no loop: a command is there at once. Results go to stdout, progress and
errors to stderr. control.py tells what is said.
"""

import contextlib
import io
import json
import os
import select
import socket
import sys
import termios
import time
import tty
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

import configuration
import control_socket
import documents
import finding
import paths
import status_table
from cli import Arguments
from control_protocol import Odd, Reply, checked
from errors import ConfigurationError, NotRunningError, PupgeventError, encoded

#: Seconds to be heard: by a pupgevent that is busy with something, or by a stopped one.
PATIENCE = 10.0

#: Seconds until a request is made again that was turned away since too many were connected.
_BUSY_PAUSE = 0.1

#: Seconds for a process to be gone after it has said that it goes.
_EXIT_TIMEOUT = 10.0

#: Most bytes of a line of an answer: a status of a thousand instances has half a megabyte.
_LONGEST_LINE = 64 * 2**20

#: Exit code of `status` when something that should run does not.
UNHEALTHY = 3

Plain = Dict[str, Any]
Handler = Callable[[Plain], Any]


class Failed(PupgeventError):
    """The answer of the one that runs, with the exit code that it gave."""

    def __init__(self, text: str, exit_status: int, lines: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.exit_status = exit_status
        self._lines = lines

    @property
    def lines(self) -> List[str]:
        return [str(PupgeventError(line)) for line in self._lines] or [str(self)]


class Line:
    """A connection to the pupgevent that runs a configuration file."""

    def __init__(self, config: str) -> None:
        """Raises NotRunningError, or what is wrong with the file if that is why."""
        found = finding.reach(config, _named_socket(config), PATIENCE)
        if found is None:
            configuration.load(config)
            raise NotRunningError("no pupgevent runs for %s" % config)
        #: Whose pupgevent has answered, "user app, pid 4711"; None where it is our own.
        self.whose = found.whose and "user %s, pid %d" % (found.whose, found.peer.pid)
        self._socket = found.connection
        self._file = found.connection.makefile("rb")
        self._config = control_socket.names_of(config)

    def ask(self, request: Plain, patience: "Optional[float]") -> "Iterator[Plain]":
        """Everything that is answered, the last line included; raises PupgeventError.

        `patience` is seconds between two lines, None waits for as long as it takes. Who follows
        gets a BrokenPipeError as soon as nobody reads our stdout any more.
        """
        lines = io.BufferedReader(_Followed(self._socket)) if request.get("follow") else self._file
        self._socket.settimeout(patience)
        try:
            told = dict(request, config=self._config)
            self._socket.sendall(json.dumps(told).encode() + b"\n")
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
    config: str, request: Plain, handle: Handler, patience: "Optional[float]" = PATIENCE
) -> Plain:
    """The last line of the answer; `handle` gets those before. Raises PupgeventError."""
    deadline = time.monotonic() + PATIENCE
    while True:
        final = _call_once(config, request, handle, patience)
        if not final.get("busy") or time.monotonic() > deadline:
            break
        time.sleep(_BUSY_PAUSE)
    if not final["ok"]:
        raise Failed(final["error"], final["status"], final.get("errors", ()))
    return final


def _call_once(
    config: str, request: Plain, handle: Handler, patience: "Optional[float]"
) -> Plain:
    line = Line(config)
    try:
        for answer in line.ask(request, patience):
            if "ok" in answer:
                return Reply(answer, whose=line.whose)
            handle(answer)
    finally:
        line.close()
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


def status(told: Arguments) -> int:
    final = call(told.config, {"command": "status"}, _ignore)
    found = final["status"]
    _tell_whose(final)
    if told.json:
        print(json.dumps(found, indent=2))
    else:
        width = os.get_terminal_size(1).columns if sys.stdout.isatty() else None
        try:
            lines = status_table.table(found, width or None)
        except (TypeError, ValueError, AttributeError):
            raise Odd() from None
        print("\n".join(lines))
    return 0 if found["healthy"] else UNHEALTHY


def start(told: Arguments) -> int:
    return _change(told, {"words": list(told.names)})


def stop(told: Arguments) -> int:
    return _change(told, {"words": list(told.names)})


def restart(told: Arguments) -> int:
    return _change(told, {"words": list(told.names)})


def scale(told: Arguments) -> int:
    return _change(told, {"id": told.id, "instances": told.instances})


def reload(told: Arguments) -> int:
    return _change(told, {})


def shutdown(told: Arguments) -> int:
    final = _ask(told, {})
    deadline = time.monotonic() + _EXIT_TIMEOUT
    while _lives(final["pid"]):
        if time.monotonic() > deadline:
            raise PupgeventError("pid %d has stopped everything, and is still there" % final["pid"])
        time.sleep(0.01)
    print(final["text"])
    return 0


def logs(told: Arguments) -> int:
    request = {
        "command": "logs", "words": list(told.names), "follow": told.follow,
        "colors": _wants_colors(),
    }  # fmt: skip
    final = call(told.config, request, _print_lines, None if told.follow else PATIENCE)
    _tell_whose(final)
    return 0


def _change(told: Arguments, fields: Plain) -> int:
    print(_ask(told, fields)["text"])
    return 0


def _ask(told: Arguments, fields: Plain) -> Plain:
    try:
        final = call(told.config, dict({"command": told.command}, **fields), _print_progress, None)
        _tell_whose(final)
        return final
    except KeyboardInterrupt:
        sys.stderr.write("\npupgevent: no longer waiting; the %s goes on\n" % told.command)
        raise


def _tell_whose(final: Plain) -> None:
    """Root reaches everybody's, and anybody may run any file that he can read."""
    if final["whose"] is not None:
        sys.stderr.write("pupgevent: the answer is that of %s\n" % final["whose"])


def _print_progress(answer: Plain) -> None:
    try:
        sys.stderr.write("%s\n" % answer["progress"])
        sys.stderr.flush()
    except OSError:
        pass  # nobody reads it any more; what is asked for goes on


def _print_lines(answer: Plain) -> None:
    sys.stdout.buffer.write(encoded(answer["lines"]))
    sys.stdout.buffer.flush()


def _ignore(answer: Plain) -> None:
    pass


def _wants_colors() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _lives(pid: int) -> bool:
    """A zombie has ended: it waits for its parent, and holds nothing."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


# `pupgevent top`: the status table, again and again, in place where there is a terminal.


#: Seconds between two tables.
EVERY = 1.0

_ENTER = "\x1b[?1049h\x1b[?25l"  # the other screen, without a cursor (xterm's control sequences)
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"

_HINT = "q ends this"


def top(told: Arguments) -> int:
    """Until `q` or Ctrl-C; raises PupgeventError when there is nobody to ask any more."""
    try:
        if sys.stdout.isatty():
            with _screen() as keys:
                _refresh(told.config, keys)
        else:
            _repeat(told.config)
    except KeyboardInterrupt:
        pass
    return 0


def _repeat(config: str) -> None:
    while True:
        found = _ask_status(config)
        print("\n".join([status_table.title(found), *status_table.table(found), ""]), flush=True)
        time.sleep(EVERY)


def _refresh(config: str, keys: "_Keys") -> None:
    while True:
        size = os.get_terminal_size(sys.stdout.fileno())
        _show(frame(_ask_status(config), size.columns or 80, size.lines or 24))
        if keys.pressed(EVERY) in ("q", "Q"):
            return


def frame(found: "Dict[str, Any]", columns: int, lines: int) -> "List[str]":
    """What is on the screen, which it fits."""
    rows = status_table.table(found, columns)
    room = max(1, lines - 3)
    if len(rows) > room:
        rows = [*rows[: room - 1], "(%d lines more)" % (len(rows) - room + 1)]
    text = [status_table.title(found), "", *rows]
    if len(text) < lines:
        text.append(_HINT)
    return [line[:columns] for line in text[:lines]]


def _show(text: "List[str]") -> None:
    body = (_REST_OF_LINE + "\r\n").join(text)
    sys.stdout.write(_HOME + body + _REST_OF_LINE + _REST_OF_SCREEN)
    sys.stdout.flush()


def _ask_status(config: str) -> "Dict[str, Any]":
    found = call(config, {"command": "status"}, lambda answer: None)
    return dict(found["status"])


class _Keys:
    """Single keys of a terminal; none where stdin is something else."""

    def __init__(self, listening: bool) -> None:
        self._listening = listening

    def pressed(self, timeout: float) -> str:
        """A key, or nothing within so many seconds."""
        watched = [sys.stdin] if self._listening else []
        if not select.select(watched, [], [], timeout)[0]:
            return ""
        key = os.read(sys.stdin.fileno(), 1).decode("latin-1")
        self._listening = bool(key)
        return key


@contextlib.contextmanager
def _screen() -> "Iterator[_Keys]":
    """The other screen, and keys as they are pressed; puts back what was."""
    listening = sys.stdin.isatty()
    before = termios.tcgetattr(sys.stdin.fileno()) if listening else []
    try:
        if listening:
            tty.setcbreak(sys.stdin.fileno())
        sys.stdout.write(_ENTER)
        yield _Keys(listening)
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        if listening:
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)
