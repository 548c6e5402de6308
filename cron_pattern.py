"""Cron patterns: how one is read, and when its next time is; pure, in the dialect of croner.

croner is the library of Pup, which uses version 9.0. A pattern has five fields, or six with the
seconds first:

    second 0-59, minute 0-59, hour 0-23, day of the month 1-31, month 1-12, day of the week 0-7

    *                each value
    ?                the value of the moment at which the pattern is read
    1,5  1-5         lists and ranges; months and weekdays also by name: JAN, MON-FRI, SAT-SUN
    */5  0/5  1-9/2  steps, from the least or the first value on
    L                of days: the last of the month
    FRI#2  FRI#L     the second Friday of the month, and the last
    15W  LW          the working day nearest to the 15th, and the month's last; croner has these two
                     from version 10 on
    @hourly @daily @weekly @monthly @yearly @annually

Sunday is 0 and 7. Where both day and weekday are something else than `*`, either is enough. What
croner takes and reads as something else is refused: `5L` would be every Friday, `1*` would be 1.

Times are local ones. One that the clocks leave out in spring comes later, by what they leave out.
One that they show twice in autumn comes once, the first time. croner means the same; but where it
is asked in the second of the two hours, the time that it gives is one of the first, and is over.
Here it is the next one of the future.
"""

import bisect
import calendar
import math
import re
from typing import (
    Callable,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from errors import format_value, nearest

#: Year, month, day, hour, minute, second, as clocks on the wall show them.
Wall = Tuple[int, ...]

#: The rule of a time zone: what the clocks there show at a Unix time; time.localtime is one.
Zone = Callable[[float], Sequence[int]]

#: Longest pattern; Pup's own limit.
MAX_LENGTH = 256

#: In the place of a number of a weekday in its month: each, or the last.
_EACH, _LAST = 0, -1

_SUNDAY, _SATURDAY = 0, 6

#: What clocks show and UTC differ by less than that, and the clocks are not changed twice within
#: two of it. Seconds.
_DAY = 86400

#: All fourteen kinds of year are among them: they begin on each weekday, and are leap years or not.
_ALL_YEARS = range(2000, 2028)

#: After so many years the calendar repeats itself.
_CALENDAR = 400

_LAST_YEAR = 9999


class CronError(ValueError):
    """A pattern is wrong; the text ends a sentence that begins with the key."""


class _Field(NamedTuple):
    name: str
    least: int
    most: int
    #: Names from the least value on.
    names: str = ""

    @property
    def last(self) -> int:
        """The highest value that is not another one's second name, as Sunday's 7."""
        return 6 if self.most == 7 else self.most

    @property
    def allowed(self) -> str:
        """Its values."""
        names = self.names.split()
        words = " or %s to %s" % (names[0], names[-1]) if names else ""
        return "%d to %d%s" % (self.least, self.most, words)


_SECOND = _Field("second", 0, 59)
_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY_OF_MONTH = _Field("day of the month", 1, 31)
_MONTH = _Field("month", 1, 12, "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC")
_WEEKDAY = _Field("day of the week", 0, 7, "SUN MON TUE WED THU FRI SAT")
_FIELDS = (_SECOND, _MINUTE, _HOUR, _DAY_OF_MONTH, _MONTH, _WEEKDAY)

_NICKNAMES = {
    "@YEARLY": "0 0 1 1 *", "@ANNUALLY": "0 0 1 1 *", "@MONTHLY": "0 0 1 * *",
    "@WEEKLY": "0 0 * * 0", "@DAILY": "0 0 * * *", "@HOURLY": "0 * * * *",
}  # fmt: skip

_VALUE = r"[0-9]{1,4}|[A-Z]{3}|\?"
_ITEM = re.compile(
    r"(?P<first>\*|%s)?(?:-(?P<last>%s))?(?:/(?P<step>[0-9]{1,4}))?(?:#(?P<nth>[1-5L]))?"
    % (_VALUE, _VALUE), re.ASCII)


class CronPattern(NamedTuple):
    """A pattern that has been read; it has a time in some year."""

    seconds: Tuple[int, ...]
    minutes: Tuple[int, ...]
    hours: Tuple[int, ...]
    months: FrozenSet[int]
    #: Of the month.
    days: FrozenSet[int]
    #: Days to which the nearest working day is meant.
    near_days: FrozenSet[int]
    last_day: bool
    last_working_day: bool
    #: From 0, Sunday, and which of them in the month.
    weekdays: FrozenSet[Tuple[int, int]]
    #: False: its field is `*`, and leaves it to the other of the two.
    says_days: bool
    says_weekdays: bool


# Reading one


def parse(text: str, now: Wall) -> CronPattern:
    """Read a pattern; `now` is what a `?` in it stands for. Raises CronError."""
    if len(text) > MAX_LENGTH:
        raise CronError("it is longer than %d characters" % MAX_LENGTH)
    fields = _split(text)
    second, minute, hour, day, month, weekday = fields
    weekday_now = (calendar.weekday(*now[:3]) + 1) % 7
    present = dict(zip(_FIELDS, (now[5], now[4], now[3], now[2], now[1], weekday_now)))

    def numbers(field: _Field, words: Iterable[str]) -> FrozenSet[int]:
        items = [_read_item(field, word, present[field]) for word in words]
        return frozenset(number for each, _ in items for number in each)

    days = day.split(",")
    near = [word[:-1] for word in days if word.endswith("W") and word != "LW"]
    plain = [word for word in days if word not in ("L", "LW") and not word.endswith("W")]
    weekdays = [_read_item(_WEEKDAY, word, present[_WEEKDAY]) for word in weekday.split(",")]
    pattern = CronPattern(
        seconds=tuple(sorted(numbers(_SECOND, second.split(",")))),
        minutes=tuple(sorted(numbers(_MINUTE, minute.split(",")))),
        hours=tuple(sorted(numbers(_HOUR, hour.split(",")))),
        months=numbers(_MONTH, month.split(",")),
        days=numbers(_DAY_OF_MONTH, plain),
        near_days=frozenset(_read_day(word) for word in near),
        last_day="L" in days,
        last_working_day="LW" in days,
        weekdays=frozenset((number % 7, nth) for each, nth in weekdays for number in each),
        says_days=day != "*",
        says_weekdays=weekday != "*",
    )
    if not any(days_of(pattern, year, each) for year in _ALL_YEARS for each in pattern.months):
        raise CronError("there is no such day in any year")
    return pattern


def _split(text: str) -> List[str]:
    """The six fields, in capitals."""
    text = text.strip().upper()
    if text.startswith("@"):
        if text not in _NICKNAMES:
            raise CronError(_about_nickname(text))
        text = _NICKNAMES[text]
    fields = text.split()
    if len(fields) not in (5, 6):
        raise CronError(
            "it has %d of the 5 fields minute, hour, day, month, day of the week, or 6 with the"
            " seconds before them" % len(fields))
    return fields if len(fields) == 6 else ["0", *fields]


def _about_nickname(text: str) -> str:
    if text == "@REBOOT":
        return "what is to start with pupgevent has autostart = true in place of @reboot"
    known = [name.lower() for name in _NICKNAMES]
    meant = nearest(text.lower(), known)
    hint = "did you mean %s?" % meant if meant else "there is %s" % ", ".join(known)
    return "%s is not known: %s" % (format_value(text.lower()), hint)


def _read_item(field: _Field, word: str, present: int) -> Tuple[Iterable[int], int]:
    """The values that one part of a list means, and which weekday of a month."""
    found = _ITEM.fullmatch(word)
    if not found or not (found.group("first") or found.group("step")):
        raise _wrong(field, word)
    first, last, step, nth = found.group("first", "last", "step", "nth")
    if (last and first in (None, "*")) or (nth and field is not _WEEKDAY):
        raise _wrong(field, word)
    low = field.least if first in (None, "*") else _read_value(field, first, word, present)
    if last is not None:
        # As the last of a range Sunday is the seventh day.
        high = 7 if last == "SUN" else _read_value(field, last, word, present)
    else:
        high = low if first not in (None, "*") and step is None else field.last
    if low > high:
        raise CronError("the %s %s begins after its end" % (field.name, format_value(word)))
    stride = 1 if step is None else _read_step(field, step, word)
    return range(low, high + 1, stride), _LAST if nth == "L" else int(nth or _EACH)


def _read_value(field: _Field, value: str, word: str, present: int) -> int:
    if value == "?":
        return present
    names = field.names.split()
    if value in names:
        return field.least + names.index(value)
    if not value.isdigit():
        raise _wrong(field, word)
    if not field.least <= int(value) <= field.most:
        raise CronError("the %s %s is not from %s" % (
            field.name, format_value(word), field.allowed))
    return int(value)


def _read_step(field: _Field, step: str, word: str) -> int:
    most = field.last - field.least + 1
    if not 1 <= int(step) <= most:
        raise CronError("the %s %s has a step that is not from 1 to %d" % (
            field.name, format_value(word), most))
    return int(step)


def _read_day(word: str) -> int:
    """The day before a W."""
    if not re.fullmatch("[0-9]{1,4}", word):
        raise _wrong(_DAY_OF_MONTH, word + "W")
    return _read_value(_DAY_OF_MONTH, word, word + "W", 0)


def _wrong(field: _Field, word: str) -> CronError:
    """The error about a part that cannot be read."""
    if field is _WEEKDAY and re.fullmatch("([0-7]|[A-Z]{3})L", word):
        hint = "the last one of a month is %s#L" % word[:-1]
    else:
        hint = "allowed are %s, *, ranges (1-5), steps (*/5, 1-9/2) and lists (1,5)" % field.allowed
        if field is _DAY_OF_MONTH:
            hint += ", L, 15W, LW"
        if field is _WEEKDAY:
            hint += ", FRI#2, FRI#L"
    return CronError("the %s %s cannot be read: %s" % (field.name, format_value(word), hint))


# Its next time


def next_time(text: str, moment: float, zone: Zone) -> Optional[int]:
    """As `next_after`, of a pattern that is read at that moment. Raises CronError."""
    return next_after(parse(text, wall_of(moment, zone)), moment, zone)


def next_after(pattern: CronPattern, moment: float, zone: Zone) -> Optional[int]:
    """The first time after a moment, both in Unix time; None after the year 9999."""
    now = math.floor(moment)
    wall = wall_of(now, zone)
    for _ in range(2):
        following = _next_wall(pattern, wall)
        if following is None:
            return None
        found = _moment(following, zone)
        if found > now:
            return found
        # The clocks were set back between the two, and show the same times again: go on behind
        # what they showed last before that.
        last = _change_between(found, now, zone) - 1
        wall = wall_of(last, zone)
    return None


def _next_wall(pattern: CronPattern, wall: Wall) -> Optional[Wall]:
    """The first time after one, by clocks that are never put forward or back."""
    year, month, day = wall[:3]
    time = _time_after(pattern, *wall[3:])
    if time is not None and month in pattern.months and day in days_of(pattern, year, month):
        return (year, month, day, *time)
    for year, month in _months_from(*wall[:2]):
        days = days_of(pattern, year, month) if month in pattern.months else []
        later = [day for day in days if (year, month, day) > wall[:3]]
        if later:
            return (year, month, later[0], *_first_time(pattern))
    return None


def _time_after(
    pattern: CronPattern, hour: int, minute: int, second: int
) -> Optional[Tuple[int, int, int]]:
    """The first time of the same day after one."""
    if hour in pattern.hours:
        if minute in pattern.minutes:
            later = _above(pattern.seconds, second)
            if later is not None:
                return hour, minute, later
        later = _above(pattern.minutes, minute)
        if later is not None:
            return hour, later, pattern.seconds[0]
    later = _above(pattern.hours, hour)
    return None if later is None else (later, pattern.minutes[0], pattern.seconds[0])


def _first_time(pattern: CronPattern) -> Tuple[int, int, int]:
    """Of a day."""
    return pattern.hours[0], pattern.minutes[0], pattern.seconds[0]


def _above(values: Sequence[int], value: int) -> Optional[int]:
    place = bisect.bisect_right(values, value)
    return values[place] if place < len(values) else None


def _months_from(year: int, month: int) -> Iterator[Tuple[int, int]]:
    """Years and months, until the calendar repeats itself or ends."""
    for each in range(year, min(year + _CALENDAR, _LAST_YEAR) + 1):
        for number in range(month if each == year else 1, 13):
            yield each, number


def days_of(pattern: CronPattern, year: int, month: int) -> List[int]:
    """The days of a month that the pattern means, whatever it says of the month."""
    first, length = calendar.monthrange(year, month)
    # In the calendar Monday is 0; in a pattern it is 1.
    first = (first + 1) % 7
    named = {_working_day(day, first, length) for day in pattern.near_days if day <= length}
    named.update(pattern.days)
    if pattern.last_day:
        named.add(length)
    if pattern.last_working_day:
        named.add(_working_day(length, first, length))
    if not pattern.says_weekdays:
        return sorted(day for day in named if day <= length)
    weekdays = {day for day in range(1, length + 1) if _is_weekday(pattern, day, first, length)}
    return sorted(day for day in (named | weekdays if pattern.says_days else weekdays)
                  if day <= length)


def _is_weekday(pattern: CronPattern, day: int, first: int, length: int) -> bool:
    weekday = (first + day - 1) % 7
    which = {_EACH, (day - 1) // 7 + 1} | ({_LAST} if day + 7 > length else set())
    return any((weekday, nth) in pattern.weekdays for nth in which)


def _working_day(day: int, first: int, length: int) -> int:
    """The nearest day of the same month from Monday to Friday."""
    weekday = (first + day - 1) % 7
    if weekday == _SATURDAY:
        return day - 1 if day > 1 else day + 2
    if weekday == _SUNDAY:
        return day + 1 if day < length else day - 2
    return day


# Between what the clocks show and Unix time


def wall_of(moment: float, zone: Zone) -> Wall:
    """What the clocks show."""
    year, month, day, hour, minute, second = zone(moment)[:6]
    # A few zones count leap seconds.
    return year, month, day, hour, minute, min(second, 59)


def _moment(wall: Wall, zone: Zone) -> int:
    """When the clocks show that, or would; the first time where they do it twice."""
    utc = calendar.timegm(wall)
    before, after = _offset(utc - _DAY, zone), _offset(utc + _DAY, zone)
    earlier, later = utc - before, utc - after
    if before == after or _offset(earlier, zone) == before or _offset(later, zone) != after:
        # Before a change of the clocks, or left out by it.
        return earlier
    return later


def _offset(moment: int, zone: Zone) -> int:
    """By how much the clocks are ahead of UTC then, in seconds."""
    return calendar.timegm(wall_of(moment, zone)) - moment


def _change_between(early: int, late: int, zone: Zone) -> int:
    """When the clocks are changed between the two."""
    before = _offset(early, zone)
    while late - early > 1:
        middle = (early + late) // 2
        if _offset(middle, zone) == before:
            early = middle
        else:
            late = middle
    return late

