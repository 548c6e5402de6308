"""The errors that a user can meet: one root, one line each, an exit status each.

Whatever else reaches `main` is a bug of pupgevent and is shown as one.
"""

import re

#: Ends a line, or tells a terminal to do something.
_CONTROLS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]")


def one_line(text: str) -> str:
    """With what is no letter to a terminal spelled out."""
    return _CONTROLS.sub(lambda found: repr(found.group())[1:-1], text)


class PupgeventError(Exception):
    """Root of all; its text is one line, made for the person at the terminal."""

    #: What the command exits with when this ends it.
    exit_status = 1

    def __str__(self) -> str:
        """One line, whatever the name of a file in it is."""
        return one_line(super().__str__())


class UsageError(PupgeventError):
    """The command line is wrong."""

    exit_status = 2


class ConfigurationError(PupgeventError):
    """The configuration file is wrong: nothing is started from it.

    `path` is the file as the user named it, `line` counts from 1 or is None
    where the whole file is meant (it cannot be read, it is empty).
    """

    exit_status = 2

    def __init__(self, path: str, line: "int | None", message: str) -> None:
        place = path if line is None else "%s:%d" % (path, line)
        super().__init__("%s: %s" % (place, message))
        self.path = path
        self.line = line
        self.message = message


class ShortageError(PupgeventError):
    """pupgevent itself has no thread, process, descriptor or memory left for it just now: whoever
    wanted it tries again, and is served when that is over."""


class NotRunningError(PupgeventError):
    """A command was given for a file for which no pupgevent runs."""

    exit_status = 4
