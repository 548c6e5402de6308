"""pupgevent: run the instances of an application, keep them alive, balance TCP over them.

This is the command. It reads the command line, wires the parts together, and is the only place
that knows signals and exit codes; nobody imports it.
"""

import errno
import os
import signal
import sys
from typing import Any, Callable, Dict, List, Optional, Sequence

import arguments
import streams
from arguments import Arguments
from errors import ConfigurationError, PupgeventError, UsageError

__version__ = "0.1.0"

#: What a run in the foreground acts on.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

#: errno values of an output that takes nothing: a full disk, a terminal that has gone.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def main(argv: "Optional[Sequence[str]]" = None) -> int:
    """Run the command line `argv` (default: the process's own); returns the exit code."""
    streams.prepare()
    try:
        told = arguments.parse(sys.argv[1:] if argv is None else argv)
        exit_code = _COMMANDS[told.command](told)
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


def run(told: Arguments) -> int:
    """`pupgevent CONFIG`: run in the foreground until a signal ends it."""
    import configuration
    import descriptors

    config = configuration.load(told.config)
    limits = descriptors.raise_limit()
    _choose_loop()
    from foreground import Foreground

    foreground = Foreground(config, sys.stdout.fileno(), told.verbose, __version__, limits)
    inbox = _Inbox(foreground.orders)
    try:
        foreground.begin()
        return foreground.serve()
    finally:
        foreground.close()
        inbox.close()


def _choose_loop() -> None:
    """gevent's own: what the environment says of that is for the applications, which inherit it."""
    import gevent

    gevent.config.loop = ["libev-cext", "libev-cffi", "libuv-cffi"]


class _Inbox:
    """Signal handlers only record; the main greenlet acts on it."""

    def __init__(self, orders: Any) -> None:
        import gevent

        self._watchers: List[Any] = []
        loop = gevent.get_hub().loop
        for number in _SIGNALS:
            watcher = loop.signal(number)
            watcher.start(orders.put, signal.Signals(number).name)
            self._watchers.append(watcher)

    def close(self) -> None:
        """All is done. A signal that comes now changes nothing any more, the exit code included."""
        for watcher in self._watchers:
            watcher.stop()
            watcher.close()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def check(told: Arguments) -> int:
    """`pupgevent check CONFIG`: say what would run."""
    import configuration

    config, document = configuration.read(told.config)
    for process in config.processes:
        for text in _plan(process):
            print(text)
    for index, process in enumerate(config.processes):
        warning = _warning(process)
        if warning:
            line = document.line("processes", index, "cmd")
            place = "%s:%d: warning: processes[%d].cmd: " % (config.path, line, index)
            _complain("%s\n" % PupgeventError(place + warning))
    return 0


def _warning(process: Any) -> "Optional[str]":
    """What is wrong with the program of a command, here and now; it may be there at the start."""
    import programs

    word = programs.first_word(process.cmd)
    if word is None:
        return None
    path = process.env.get("PATH", os.environ.get("PATH", os.defpath))
    path = ":".join(filter(None, (path, process.path)))
    reason = programs.trouble(*(
        each.encode("utf-8", "surrogateescape") for each in (word, path, process.cwd)))
    return reason and "%s %s" % (word, reason)


def _plan(process: Any) -> "List[str]":
    import configuration

    cluster = process.cluster
    start = "" if process.autostart else ", not started by itself"
    lines = []
    if cluster is not None and cluster.common_port is not None:
        place = "%s port %d" % (cluster.common_host, cluster.common_port)
        lines.append("%s: %s on %s" % (process.id, cluster.strategy, place))
    for index, name in enumerate(configuration.instance_names(process)):
        port = configuration.instance_port(process, index)
        place = "" if port is None else ", port %d" % port
        lines.append("%s%s%s" % (name, place, start))
    return lines


def export(told: Arguments) -> int:
    """`pupgevent export FORMAT CONFIG`: print what another program makes of the file."""
    import configuration
    import exports

    text = exports.FORMATS[told.format](configuration.load(told.config))
    # For a program, whatever the terminal's encoding is.
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    return 0


def show_help(told: Arguments) -> int:
    sys.stdout.write(arguments.USAGE)
    return 0


def show_version(told: Arguments) -> int:
    import platform

    import gevent
    import greenlet

    print(
        "pupgevent %s (Python %s, gevent %s, greenlet %s)"
        % (__version__, platform.python_version(), gevent.__version__, greenlet.__version__)
    )
    return 0


def talk(told: Arguments) -> int:
    """A command for the pupgevent that runs the file."""
    import commands

    command: Callable[[Arguments], int] = getattr(commands, told.command)
    return command(told)


def watch(told: Arguments) -> int:
    """`pupgevent top CONFIG`."""
    import top

    def leave(*_: Any) -> None:
        raise KeyboardInterrupt

    # The terminal has to be put back, however this is ended.
    signal.signal(signal.SIGTERM, leave)
    return top.top(told)


_COMMANDS: Dict[str, Callable[[Arguments], int]] = dict.fromkeys(arguments.COMMANDS, talk)
_COMMANDS.update(
    run=run, check=check, top=watch, export=export, help=show_help, version=show_version)


if __name__ == "__main__":
    sys.exit(main())
