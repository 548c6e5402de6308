"""What a user without rights sees: tests are often run by root, to whom all is allowed."""

import os
from typing import Callable

#: The user and the group "nobody".
NUMBER = 65534


def as_nobody(function: Callable[[], str]) -> str:
    """What the function answers in a process of nobody, or here where this is not root's."""
    if os.geteuid() != 0:
        return function()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NUMBER)
            os.setuid(NUMBER)
            os.write(writing, function().encode("utf-8"))
        except BaseException as error:
            os.write(writing, repr(error).encode("utf-8"))
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading, encoding="utf-8") as answer:
        return answer.read()
