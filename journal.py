"""The console where it is the journal of systemd: how that is known, and what lines have there.

systemd connects stdout of a unit to its journal, and names the stream in JOURNAL_STREAM
(systemd.exec(5)). A line that comes there may begin with its priority, `<4>` (sd-daemon(3)). The
journal takes that away, and knows the time itself.
"""

import os
from typing import MutableMapping

#: Priorities of syslog(3).
DEBUG, INFO, WARNING, ERROR = 7, 6, 4, 3

#: How a line begins that has one: `MARKS[priority]`.
MARKS = tuple(b"<%d>" % priority for priority in range(8))


def is_console(environ: "MutableMapping[str, str]", fd: int) -> bool:
    """Is that descriptor the stream of the journal?

    Takes the variable out of the environment. What the children print to is a pipe of ours, and
    many programs ask only whether there is such a variable.
    """
    told = environ.pop("JOURNAL_STREAM", "")
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return told == "%d:%d" % (found.st_dev, found.st_ino)


def with_own_marks(lines: bytes, mark: bytes, head: bytes) -> bytes:
    """Lines that have a mark and a head in front; a text that begins with a mark has it taken for
    that of its line.

    Of a flood a block has hundreds of lines: they are not looked at one by one.
    """
    lines = b"\n" + lines
    marked = b"\n" + mark + head
    if marked + b"<" in lines:
        # The same mark comes last: what follows it in a text is text, also if it is another.
        for own in sorted(MARKS, key=mark.__eq__):
            lines = lines.replace(marked + own, b"\n" + own + head)
    return lines[1:]
