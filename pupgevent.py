"""pupgevent: run the instances of an application, keep them alive, balance TCP over them.

This is the command. It reads the command line, wires the parts together, and is the only place
that knows signals and exit codes; nobody imports it.
"""

import codecs
import errno
import io
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

# Our modules have common names: they are looked for beside this file first, whatever else is
# installed, and whatever PYTHONPATH and the working directory have.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import cli
import default_config
import usage
from cli import Arguments
from errors import ConfigurationError, PupgeventError, UsageError, encoded
from signal_names import signal_name

if TYPE_CHECKING:
    from daemon import Daemon

__version__ = "0.1.0"

#: What a run in the foreground acts on, or tells that it does not: else these would end it at once,
#: without a word. What a program does wrong, a debugger and job control stay as they are.
_SIGNALS = tuple(
    getattr(signal, name) for name in (
        "SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM",
        "SIGPROF", "SIGIO", "SIGPWR", "SIGSTKFLT")
    if hasattr(signal, name)
) + tuple(range(signal.SIGRTMIN, signal.SIGRTMAX + 1))

#: Seconds between two looks whether the terminal is still there, and for which a SIGHUP is due to
#: its closing; and those that a terminal has to close behind the SIGHUP of a shell that ends.
_TERMINAL_LOOK, _HANGING_UP, _CLOSING = 1.0, 2.0, 0.5

#: errno values of an output that takes nothing: a full disk, a terminal that has gone.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def main(argv: "Optional[Sequence[str]]" = None) -> int:
    """Run the command line `argv` (default: the process's own); returns the exit code."""
    # Whoever started us may have blocked them, and then nothing could stop us.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    prepare()
    try:
        args = _with_config(cli.parse(sys.argv[1:] if argv is None else argv))
        exit_code = _COMMANDS[args.command](args)
        sys.stdout.flush()
        return exit_code
    except UsageError as error:
        _complain("pupgevent: %s (pupgevent --help shows the usage)\n" % error)
        return error.exit_status
    except ConfigurationError as error:
        _complain("".join("%s\n" % line for line in error.lines))
        return error.exit_status
    except PupgeventError as error:
        _complain("".join("pupgevent: %s\n" % line for line in error.lines))
        return error.exit_status
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of our output has left, as `head` does; that is no failure worth a word.
        _write_no_more()
        return 1
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        _write_no_more()
        _complain("pupgevent: cannot write: %s\n" % os.strerror(error.errno or 0).lower())
        return 1


def _with_config(args: Arguments) -> Arguments:
    """A CONFIG that is left out is the one of this folder, which is told. Raises UsageError."""
    if not args.needs_config:
        return args
    config = default_config.find()
    _complain("pupgevent: using %s\n" % config)
    return args._replace(config=config)


def _complain(text: str) -> None:
    """On stderr; where that takes nothing, the exit code has to say it."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _write_no_more() -> None:
    """What is left of the output goes nowhere, lest the interpreter tries again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(args: Arguments) -> int:
    """`pupgevent CONFIG`: run in the foreground until a signal ends it."""
    import configuration
    import sockets

    config = configuration.load(args.config)
    limits = sockets.raise_limit()
    _choose_loop()
    from daemon import Daemon

    daemon = Daemon(config, sys.stdout.fileno(), args.verbose, __version__, limits)
    signals = _SignalQueue(daemon)
    try:
        daemon.start()
        return daemon.serve()
    finally:
        daemon.close()
        signals.close()


def _choose_loop() -> None:
    """gevent's own: what the environment says of that is for the applications, which inherit it."""
    import gevent

    gevent.config.loop = ["libev-cext", "libev-cffi", "libuv-cffi"]


class _SignalQueue:
    """Signal handlers only record; the main greenlet acts on it."""

    def __init__(self, daemon: "Daemon") -> None:
        import gevent

        self._daemon = daemon
        self._terminal = _Terminal(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)
        self._watchers: List[Any] = []
        loop = gevent.get_hub().loop
        for number in _SIGNALS:
            watcher = loop.signal(number)
            watcher.start(self._on_signal, number)
            self._watchers.append(watcher)
        self._closing = loop.timer(_CLOSING)
        self._look = loop.timer(_TERMINAL_LOOK, _TERMINAL_LOOK)
        self._watchers += [self._closing, self._look]
        if self._terminal.is_there:
            self._look.start(self._terminal.look)

    def _on_signal(self, number: int) -> None:
        try:
            if number != signal.SIGHUP:
                self._daemon.on_signal(signal_name(number))
            elif self._terminal.look():
                self._closing.start(self._hang_up)
            else:
                self._hang_up()
        except MemoryError:
            pass  # an exception would stop its watcher; who sent it may do so again

    def _hang_up(self) -> None:
        self._terminal.look()
        if not self._terminal.has_just_closed():
            self._daemon.on_signal("SIGHUP")
        elif not self._terminal.may_close:
            self._daemon.on_hangup()

    def close(self) -> None:
        """Ignore all signals from now on: everything is done, and the exit code is decided."""
        for watcher in self._watchers:
            watcher.stop()
            watcher.close()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


class _Terminal:
    """The one that controls us, if there is one: when it closes, a SIGHUP is no order to reload.

    `may_close` is what nohup is for. A job that its shell has disowned gets no SIGHUP at that time:
    so the terminal's end is looked for, and a SIGHUP of later is somebody's order again.
    """

    def __init__(
        self, may_close: bool, path: str = "/dev/tty",
        clock: "Callable[[], float]" = time.monotonic,
    ) -> None:
        self.may_close = may_close
        self._path = path
        self._clock = clock
        self.is_there = True
        self.is_there = self.look()
        self._closed_at = float("-inf")

    def look(self) -> bool:
        """Is it there? tty(4): whoever has none cannot open this name, nor whose has hung up."""
        if self.is_there:
            try:
                os.close(os.open(self._path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
            except OSError as error:
                if error.errno in (errno.ENXIO, errno.ENOENT, errno.EIO):
                    self.is_there = False
                    self._closed_at = self._clock()
        return self.is_there

    def has_just_closed(self) -> bool:
        return self._clock() - self._closed_at < _HANGING_UP


def check(args: Arguments) -> int:
    """`pupgevent check CONFIG`: say what would run."""
    import configuration
    import preview

    config, document = configuration.read(args.config)
    for text in preview.plan(config):
        print(text)
    sys.stdout.flush()  # before what is said of it, or the reason why it cannot be written
    for text in preview.remarks(config, document):
        _complain("%s\n" % PupgeventError(text))
    return 0


def initialize(args: Arguments) -> int:
    """`pupgevent init [--from=FILE] [CONFIG]`: write a first configuration."""
    import init

    for line in init.write(args.config or init.DEFAULT, args.source):
        print(line)
    return 0


def export(args: Arguments) -> int:
    """`pupgevent export FORMAT CONFIG`: print what another program makes of the file."""
    import configuration
    import exports

    found = configuration.load(args.config)
    if args.format in usage.FRONTS:
        text = exports.FRONTS[args.format](found, args.hosts, args.http)
    else:
        text = exports.FORMATS[args.format](found)
    # For a program, whatever the terminal's encoding is.
    sys.stdout.flush()
    sys.stdout.buffer.write(encoded(text))
    return 0


def complete(args: Arguments) -> int:
    """`pupgevent completion SHELL`: print a script; or, for that script, what can stand there."""
    if args.shell in cli.ASKED:
        import config_names

        lines = config_names.names(args.shell, args.config)
        sys.stdout.write("".join(line + "\n" for line in lines))
    else:
        import completion

        sys.stdout.write(completion.SHELLS[args.shell]())
    return 0


def show_help(args: Arguments) -> int:
    sys.stdout.write(usage.USAGE)
    return 0


def show_version(args: Arguments) -> int:
    import platform

    import gevent
    import greenlet

    print(
        "pupgevent %s (Python %s, gevent %s, greenlet %s)"
        % (__version__, platform.python_version(), gevent.__version__, greenlet.__version__)
    )
    return 0


def talk(args: Arguments) -> int:
    """A command for the pupgevent that runs the file."""
    import client

    return client.COMMANDS[args.command](args)


def watch(args: Arguments) -> int:
    """`pupgevent top CONFIG`."""
    import top_screen

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    # The terminal has to be put back, however this is ended.
    signal.signal(signal.SIGTERM, leave)
    return top_screen.top(args)


_COMMANDS: Dict[str, Callable[[Arguments], int]] = dict.fromkeys(usage.COMMANDS, talk)
_COMMANDS.update(
    run=run, init=initialize, check=check, top=watch, export=export, completion=complete,
    help=show_help, version=show_version)


# The standard streams: no text that is written to them may be an error.


#: The name of the error handler below.
_ERRORS = "pupgevent"


def prepare() -> None:
    """Have descriptors 0 to 2, and text streams at the last two that take any text. Idempotent.

    A descriptor that is closed would be given to the next file or socket that is opened.
    """
    codecs.register_error(_ERRORS, _spell)
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # It gets the lowest free number, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = _taking_all(sys.stdout, 1)
    sys.stderr = _taking_all(sys.stderr, 2)


def _taking_all(stream: Any, descriptor: int) -> Any:
    if stream is None:
        return open(descriptor, "w", errors=_ERRORS, closefd=False)
    if getattr(stream, "errors", _ERRORS) == _ERRORS:
        return stream
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors=_ERRORS)
        return stream
    # Python 3.6
    lines = stream.line_buffering
    return io.TextIOWrapper(stream.detach(), stream.encoding, _ERRORS, line_buffering=lines)


def _spell(error: UnicodeError) -> "Tuple[Union[str, bytes], int]":
    """A byte of a path that is no UTF-8 as it was; what the encoding lacks as an escape."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


if __name__ == "__main__":
    sys.exit(main())
