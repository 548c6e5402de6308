"""Calls that may block, in threads, so that the hub goes on."""

from typing import Any, Callable, Optional, Tuple

from gevent.threadpool import ThreadPool


class Threads:
    """So many at a time; a call waits for its turn, and only its greenlet does."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPool(count)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns or raises."""
        result, error = self._pool.apply(_attempt, (function, arguments))
        if error is not None:
            raise error
        return result


def _attempt(
    function: Callable[..., Any], arguments: Tuple[Any, ...]
) -> Tuple[Any, Optional[Exception]]:
    """gevent prints what a thread raises, also when somebody waits for it and handles it."""
    try:
        return function(*arguments), None
    except Exception as error:
        return None, error
