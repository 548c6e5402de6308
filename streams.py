"""The standard streams of a command, made so that nothing that is written to them is a bug."""

import codecs
import io
import os
import sys
from typing import Any, Tuple

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


def _spell(error: UnicodeError) -> "Tuple[Any, int]":
    """A byte of a path that is no UTF-8 as it was; what the encoding lacks as an escape."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)
