"""The configuration file of a running pupgevent, read while its hub goes on."""

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

#: A file up to this size is read in a thread, a larger one in a process of its own: a thread holds
#: the interpreter for 5 ms at a time, but for as long as it takes while the collector looks at all
#: that has been read, or when that is freed: 100 ms at the size at which a file is refused. Bytes.
THREAD_LIMIT = 64 * 1024

#: What runs in that process. Its path is ours: wherever our modules are, it finds them there.
_READER = (
    "import sys; sys.path[:] = sys.argv[2:]; import configuration; "
    "configuration.write_pickled(sys.argv[1], sys.stdout.buffer)"
)

Found = Union[Configuration, ConfigurationError]


def load(path: str, threads: Threads) -> Found:
    """As `configuration.load`; blocks the calling greenlet, and returns an error as it is.

    Raises ShortageError where there is no thread to be had."""
    if threads.call(_size, path) > THREAD_LIMIT:
        found = load_in_process(path)
        if found is not None:
            return found
    try:
        loaded: Configuration = threads.call(configuration.load, path)
    except ConfigurationError as error:
        return error
    return loaded


def load_in_process(path: str) -> Optional[Found]:
    """None: it could not be done so, for whatever reason; the file is none."""
    try:
        with Popen([sys.executable, "-S", "-B", "-c", _READER, path, *sys.path], stdin=DEVNULL,
                   stdout=PIPE, stderr=DEVNULL, close_fds=False, start_new_session=True) as child:
            data = child.communicate()[0]
        if child.returncode != 0:
            return None
        version, found, *processes = in_slices(_objects(data))
    except Exception:
        # No process to be had, no Python there any more, not what we understand.
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
    stream = io.BytesIO(data)
    while stream.tell() < len(data):
        yield pickle.load(stream)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0
