"""Signals as people write them: SIGHUP, HUP, hup or 1; and what a number is called."""

import re
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

#: All ways to write them, in capitals.
_SPELLED: Dict[str, int] = {
    **{str(number): number for number in range(1, _MOST + 1) if number not in _LIBRARY},
    **{name[3:]: number for name, number in NUMBERS.items()},
    **NUMBERS,
}


def signal_number(word: str) -> int:
    """The number of a signal that is written as a name, with or without SIG, or as a number.

    Raises UsageError, with the nearest name.
    """
    number = _SPELLED.get(word.upper())
    if number is not None:
        return number
    plain = re.sub("^SIG", "", word.upper())
    meant = nearest(plain, [each[3:] for each in NUMBERS])
    hint = 'did you mean "%s"?' % meant if meant else (
        "it is a name such as SIGHUP or HUP, or a number from 1 to %d" % _MOST)
    raise UsageError("SIGNAL %s is not known: %s" % (format_value(word), hint))


def is_signal(word: str) -> bool:
    return word.upper() in _SPELLED


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal %d" % number
