"""The TIME of `logs --since=TIME`: what journalctl, docker and date(1) know, as Unix time.

A time without a zone is local time. Where the clock is put back, an hour comes twice: the first is
meant, from which on more is shown. Where it is put forward, an hour is left out: what stands in it
is so many minutes behind its beginning.
"""

import datetime
import re
import time
from typing import List, Optional, Tuple

#: What may stand there, for a message.
ALLOWED = (
    '30s, 10m, 2h, 3d or 1h30m ago; 15:04, 15:04:05; 2026-11-23, "2026-11-23 15:04:05", with T, Z'
    " or +01:00 as well; today, yesterday, now; @1732374245")

#: Seconds of each unit, by all that it is called.
_UNITS = {
    name: seconds
    for names, seconds in [
        ("s sec secs second seconds", 1), ("m min mins minute minutes", 60),
        ("h hr hrs hour hours", 3600), ("d day days", 86400), ("w week weeks", 604800),
    ]
    for name in names.split()
}

_AGO = re.compile(r"-?((?:[0-9]+(?:\.[0-9]+)?\s*[a-z]+\s*)+?)(?:\s*ago)?\Z")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)")
_UNIX = re.compile(r"@([0-9]{1,11}(?:\.[0-9]+)?)\Z|([0-9]{9,11}(?:\.[0-9]+)?)\Z")
_CLOCK = r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
_TIME_OF_DAY = re.compile(_CLOCK + r"\Z")
_DATE = re.compile(
    r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})(?:[ tT]" + _CLOCK
    + r"\s*(?:([zZ]|utc)|([+-])([0-9]{2}):?([0-9]{2}))?)?\Z")

Day = Tuple[int, int, int]
Clock = Tuple[int, int, int]


def unix_time(word: str, now: float) -> float:
    """Raises ValueError for a word that is no time."""
    word = word.strip().lower()
    try:
        found = _named(word, now)
        for read in (_ago, _unix, _time_of_day, _date):
            if found is None:
                found = read(word, now)
    except (OverflowError, OSError):
        # A year that no clock shows.
        found = None
    if found is None:
        raise ValueError(word)
    return found


def _named(word: str, now: float) -> "Optional[float]":
    if word == "now":
        return now
    if word in ("today", "yesterday"):
        return _local(_day_of(now, days=-(word == "yesterday")), (0, 0, 0))
    return None


def _ago(word: str, now: float) -> "Optional[float]":
    match = _AGO.match(word)
    if match is None:
        return None
    seconds = 0.0
    for number, unit in _PART.findall(match.group(1)):
        if unit not in _UNITS:
            return None
        seconds += float(number) * _UNITS[unit]
    return max(0.0, now - seconds)


def _unix(word: str, now: float) -> "Optional[float]":
    match = _UNIX.match(word)
    return None if match is None else float(match.group(1) or match.group(2))


def _time_of_day(word: str, now: float) -> "Optional[float]":
    """The last time that the clock has shown it: of yesterday where today it is yet to come."""
    match = _TIME_OF_DAY.match(word)
    if match is None:
        return None
    clock, fraction = _clock(match.groups())
    found = _local(_day_of(now), clock) + fraction
    return found if found <= now else _local(_day_of(now, days=-1), clock) + fraction


def _date(word: str, now: float) -> "Optional[float]":
    match = _DATE.match(word)
    if match is None:
        return None
    year, month, day = map(int, match.groups()[:3])
    datetime.date(year, month, day)
    clock, fraction = _clock(match.groups()[3:7])
    utc, sign, hours, minutes = match.groups()[7:]
    if utc is None and sign is None:
        return _local((year, month, day), clock) + fraction
    offset = 0 if utc else (int(hours) * 3600 + int(minutes) * 60) * (-1 if sign == "-" else 1)
    moment = datetime.datetime(year, month, day, *clock) - datetime.datetime(1970, 1, 1)
    return moment.total_seconds() - offset + fraction


def _clock(groups: "Tuple[Optional[str], ...]") -> "Tuple[Clock, float]":
    """The time of day and a fraction of a second; midnight where there is none. ValueError."""
    hour, minute, second = (int(each or 0) for each in groups[:3])
    datetime.time(hour, minute, second)
    return (hour, minute, second), float("0." + (groups[3] or "0"))


def _day_of(now: float, days: int = 0) -> Day:
    """The day of that moment by local time, or one so many days later."""
    day = datetime.date(*time.localtime(now)[:3]) + datetime.timedelta(days=days)
    return day.year, day.month, day.day


def _local(day: Day, clock: Clock) -> float:
    fields = day + clock
    #: With and without daylight saving time.
    found: List[float] = [time.mktime((*fields, 0, 0, dst)) for dst in (0, 1)]
    shown = [each for each in found if time.localtime(each)[:6] == fields]
    return min(shown) if shown else time.mktime((*fields, 0, 0, -1))
