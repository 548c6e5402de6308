"""Load a configuration file without holding up the hub: in a thread, or in another process."""

import io
import os
import pickle
import sys
from typing import Any, Iterator, Optional, Union

from gevent.subprocess import DEVNULL, PIPE, Popen

import configuration
from concurrency import Threads, in_slices
from errors import ConfigurationError
from model import Configuration

#: In bytes. A file up to this size is loaded in a thread, a larger one in a process of its own. A
#: thread holds the interpreter for 5 ms at a time, but without a limit while the garbage collector
#: looks at all that has been loaded, or when that is freed: 100 ms for the largest file.
THREAD_LIMIT = 64 * 1024

#: The program of that process. Its `sys.path` is ours, so it finds our modules where they are.
_LOADER = (
    "import sys; sys.path[:] = sys.argv[2:]; import configuration; "
    "configuration.write_pickled(sys.argv[1], sys.stdout.buffer)"
)

Result = Union[Configuration, ConfigurationError]


def load(path: str, threads: Threads) -> Result:
    """As `configuration.load`, but returns the error; blocks the calling greenlet only.

    Raises ShortageError when no thread can be had.
    """
    if threads.call(_size, path) > THREAD_LIMIT:
        found = load_in_process(path)
        if found is not None:
            return found
    try:
        return threads.call(configuration.load, path)
    except ConfigurationError as error:
        return error


def load_in_process(path: str) -> Optional[Result]:
    """The same in a process of its own; None when that fails for a reason other than the file."""
    try:
        with Popen([sys.executable, "-S", "-B", "-c", _LOADER, path, *sys.path], stdin=DEVNULL,
                   stdout=PIPE, stderr=DEVNULL, close_fds=False, start_new_session=True) as child:
            data = child.communicate()[0]
        if child.returncode != 0:
            return None
        version, found, *processes = in_slices(_objects(data))
    except Exception:
        # No process could be started, Python has gone, or the output is not what we expect.
        return None
    if version != configuration.format_version():
        # pupgevent was replaced by another version since it was started.
        return None
    if isinstance(found, Configuration):
        return found._replace(processes=tuple(processes))
    error = ConfigurationError.__new__(ConfigurationError)
    error.args, attributes = found
    vars(error).update(attributes)
    return error


def _objects(data: bytes) -> Iterator[Any]:
    """The unpickled objects; what each is follows from its place (`write_pickled`)."""
    stream = io.BytesIO(data)
    while stream.tell() < len(data):
        yield pickle.load(stream)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0
