"""Signals as people write them: SIGHUP, HUP, hup or 1; and what a number is called."""

import signal
from typing import Dict

from errors import UsageError, format_value, nearest

#: The number of each name. Some have two: SIGABRT is SIGIOT as well.
NUMBERS: Dict[str, int] = {
    name: int(number) for name, number in signal.Signals.__members__.items()
}

#: The largest number of a signal.
_MOST = signal.NSIG - 1

#: Those that the C library keeps for its threads; signal(7).
_LIBRARY = (32, 33)


def signal_number(word: str) -> int:
    """The number of a signal that is written as a name, with or without SIG, or as a number.

    Raises UsageError, with the nearest name.
    """
    name = word.upper()
    for spelled in (name, "SIG" + name):
        if spelled in NUMBERS:
            return NUMBERS[spelled]
    # Not what `isdigit` takes besides for a digit.
    if word in map(str, range(1, _MOST + 1)) and int(word) not in _LIBRARY:
        return int(word)
    plain = name[3:] if name.startswith("SIG") else name
    meant = nearest(plain, [each[3:] for each in NUMBERS])
    hint = 'did you mean "%s"?' % meant if meant else (
        "it is a name such as SIGHUP or HUP, or a number from 1 to %d" % _MOST)
    raise UsageError("SIGNAL %s is not known: %s" % (format_value(word), hint))


def is_signal(word: str) -> bool:
    try:
        signal_number(word)
    except UsageError:
        return False
    return True


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal %d" % number
