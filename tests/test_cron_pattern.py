"""Cron patterns: what croner makes of them, what no croner is needed for, and what is refused."""

import json
import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import pytest
from hypothesis import given, strategies as st

from cron_pattern import CronError, CronPattern, days_of, next_after, parse, wall_of

TABLE = Path(__file__).resolve().parent / "croner" / "times.tsv"

BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"
NEW_YORK = "EST5EDT,M3.2.0,M11.1.0"
LORD_HOWE = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0"
#: Its clocks are put forward at midnight, so that a day begins at one.
CHILE = "<-04>4<-03>,M9.1.6/24,M4.1.6/24"
ZONES = ("UTC0", BERLIN, NEW_YORK, LORD_HOWE, CHILE)

NOW = (2026, 11, 29, 2, 45, 30)

In = Callable[[str], None]


@pytest.fixture(name="clocks_of")
def set_clocks() -> Iterator[In]:
    """`clocks_of(rule)`: time.localtime is of that zone until the test ends."""
    before = os.environ.get("TZ")

    def set_to(rule: str) -> None:
        os.environ["TZ"] = rule
        time.tzset()

    yield set_to
    del os.environ["TZ"]
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


def at(text: str) -> float:
    """A Unix time."""
    return (datetime.strptime(text, "%Y-%m-%d %H:%M:%S") - datetime(1970, 1, 1)).total_seconds()


def utc(moment: float) -> Tuple[int, ...]:
    return (datetime(1970, 1, 1) + timedelta(seconds=int(moment))).timetuple()[:6]


def times(pattern: str, start: str, count: int, zone: Any = time.localtime) -> List[str]:
    """The times after a start, in UTC, as they follow from each other."""
    moment: Optional[float] = at(start)
    found = []
    for _ in range(count):
        moment = next_after(parse(pattern, NOW), moment or 0, zone)
        found.append(str(datetime(*utc(moment or 0))))  # type: ignore[arg-type]
    return found


# What croner makes of them


class Row(NamedTuple):
    """A pattern, and its times in each zone after each start."""

    pattern: str
    #: (rule of the zone, start): seconds to the next time, and from there to the one after it.
    times: Dict[Tuple[str, int], str]


def rows() -> List[Row]:
    head, *lines = TABLE.read_text(encoding="utf-8").splitlines()
    places = [(cell.split()[0], int(cell.split()[1])) for cell in head.split("\t")[2:]]
    cells = [line.split("\t") for line in lines]
    return [Row(json.loads(each[1]), dict(zip(places, each[2:]))) for each in cells]


def ours(pattern: CronPattern, start: int, count: int) -> str:
    found, moment = [], start
    for _ in range(count):
        following = next_after(pattern, moment, time.localtime)
        assert following is not None
        found.append(str(following - moment))
        moment = following
    return "+".join(found)


@pytest.mark.parametrize("rule", ZONES[:4])
def test_the_next_times_are_those_of_croner(rule: str, clocks_of: In) -> None:
    clocks_of(rule)
    compared, wrong = 0, []
    for row in rows():
        pattern = parse(row.pattern, NOW)
        for (zone, start), expected in row.times.items():
            if zone == rule and expected:
                found = ours(pattern, start, expected.count("+") + 1)
                compared += 1
                if found != expected:
                    wrong.append((row.pattern, start, expected, found))
    assert compared > 3000
    assert wrong == []


# What follows from what clocks show


def shown(zone: Any, moment: int) -> Tuple[int, ...]:
    return wall_of(moment, zone)


def matches(pattern: CronPattern, wall: Tuple[int, ...]) -> bool:
    year, month, day, hour, minute, second = wall
    return (month in pattern.months and day in days_of(pattern, year, month)
            and hour in pattern.hours and minute in pattern.minutes and second in pattern.seconds)


def item(least: int, most: int) -> Any:
    value = st.integers(least, most)
    step = st.integers(1, most - least + 1)
    pair = st.tuples(value, value).map(sorted)
    return st.one_of(
        value.map(str), pair.map(lambda two: "%d-%d" % tuple(two)),
        st.tuples(pair, step).map(lambda two: "%d-%d/%d" % (*two[0], two[1])),
        step.map(lambda each: "*/%d" % each),
        st.tuples(value, step).map(lambda two: "%d/%d" % two))


def field(least: int, most: int) -> Any:
    items = st.lists(item(least, most), min_size=1, max_size=3)
    return st.one_of(st.just("*"), items.map(",".join))


def weekday() -> Any:
    nth = st.tuples(st.integers(0, 7), st.sampled_from("12345L")).map(lambda two: "%d#%s" % two)
    return st.one_of(field(0, 6), nth)


#: Times of a day that come often, so that a walk from second to second meets one.
frequent = st.tuples(field(0, 59), field(0, 59), st.just("*"), st.just("*"), st.just("*"),
                     st.just("*")).map(" ".join)
any_pattern = st.tuples(
    field(0, 59), field(0, 59), field(0, 23), st.one_of(st.just("L"), field(1, 28)), field(1, 12),
    weekday()).map(" ".join)

#: Within an hour and a half of each change of the clocks in these zones in 2024, and elsewhere.
CHANGES = [at(each) for each in (
    "2024-03-31 01:00:00", "2024-10-27 01:00:00", "2024-03-10 07:00:00", "2024-11-03 06:00:00",
    "2024-10-05 15:30:00", "2024-04-06 15:00:00", "2024-09-08 04:00:00", "2024-04-07 03:00:00")]
near_a_change = st.tuples(st.sampled_from(CHANGES), st.integers(-5400, 5400)).map(sum)
any_time = st.integers(int(at("2000-01-01 00:00:00")), int(at("2099-12-31 23:59:59")))


class Clocks:
    """The clocks of a zone, for many examples of one test."""

    def __init__(self, rule: str) -> None:
        self._rule = rule

    def __enter__(self) -> Any:
        self._before = os.environ.get("TZ")
        os.environ["TZ"] = self._rule
        time.tzset()
        return time.localtime

    def __exit__(self, *_: object) -> None:
        del os.environ["TZ"]
        if self._before is not None:
            os.environ["TZ"] = self._before
        time.tzset()


@given(any_pattern, st.sampled_from(ZONES), st.one_of(near_a_change, any_time))
def test_a_next_time_is_later_and_is_one_of_the_pattern_unless_the_clocks_leave_it_out(
    text: str, rule: str, start: float
) -> None:
    try:
        pattern = parse(text, NOW)
    except CronError as error:
        assert str(error) == "there is no such day in any year"
        return
    with Clocks(rule) as zone:
        found = next_after(pattern, start, zone)
        assert found is not None and found > start
        if not matches(pattern, shown(zone, found)):
            # The clocks have been put forward within the time by which it is late.
            hours = 3600 if rule != LORD_HOWE else 1800
            assert shown(zone, found - hours)[:4] != utc(found - hours + offset(zone, found))[:4]
        assert next_after(pattern, found - 1, zone) == found


def offset(zone: Any, moment: int) -> int:
    return int((datetime(*shown(zone, moment)) - datetime(*utc(moment))).total_seconds())  # type: ignore[arg-type]


@given(frequent, st.sampled_from(ZONES), near_a_change)
def test_no_time_of_the_pattern_lies_between(text: str, rule: str, start: float) -> None:
    """A walk from second to second: a time counts when the clocks show it first."""
    pattern = parse(text, NOW)
    with Clocks(rule) as zone:
        found = next_after(pattern, start, zone)
        assert found is not None
        walls = {shown(zone, int(start) - back) for back in range(7200)}
        for moment in range(int(start) + 1, found):
            wall = shown(zone, moment)
            assert wall in walls or not matches(pattern, wall), (moment, wall)
            walls.add(wall)


def test_a_time_that_the_clocks_leave_out_comes_as_much_later(clocks_of: In) -> None:
    clocks_of(BERLIN)
    assert times("30 2 * * *", "2024-03-30 12:00:00", 2) == [
        "2024-03-31 01:30:00", "2024-04-01 00:30:00"]
    clocks_of(LORD_HOWE)
    assert times("15 2 * * *", "2024-10-05 12:00:00", 1) == ["2024-10-05 15:45:00"]
    clocks_of(CHILE)
    assert times("@daily", "2024-09-08 00:00:00", 2) == [
        "2024-09-08 04:00:00", "2024-09-09 03:00:00"]


def test_a_time_that_the_clocks_show_twice_comes_once(clocks_of: In) -> None:
    clocks_of(BERLIN)
    assert times("30 2 * * *", "2024-10-26 22:00:00", 2) == [
        "2024-10-27 00:30:00", "2024-10-28 01:30:00"]
    assert times("*/30 * * * *", "2024-10-27 00:10:00", 2) == [
        "2024-10-27 00:30:00", "2024-10-27 02:00:00"]


@pytest.mark.parametrize("second", [0, 1, 1799, 1800, 3599])
def test_the_next_time_is_not_over_in_the_second_of_two_equal_hours(
    second: int, clocks_of: In
) -> None:
    """Where croner gives a time of the first."""
    clocks_of(BERLIN)
    start = at("2024-10-27 01:00:00") + second
    for pattern in ("* * * * * *", "*/5 * * * *", "0 0 3 * * *"):
        assert next_after(parse(pattern, NOW), start, time.localtime) == at("2024-10-27 02:00:00")
    assert next_after(parse("30 2 * * *", NOW), start, time.localtime) == at("2024-10-28 01:30:00")


def test_fractions_of_a_second_do_not_count() -> None:
    pattern = parse("*/5 * * * * *", NOW)
    assert [next_after(pattern, 100 + part, utc) for part in (0, 0.001, 4.999, 5)] == [
        105, 105, 105, 110]


def test_days_of_leap_years_and_of_centuries() -> None:
    assert times("0 0 29 2 *", "2096-03-01 00:00:00", 2, utc) == [
        "2104-02-29 00:00:00", "2108-02-29 00:00:00"]
    assert times("0 0 * FEB MON#5", "2072-03-01 00:00:00", 1, utc) == ["2112-02-29 00:00:00"]


@pytest.mark.parametrize("pattern, day", [
    ("0 0 15W * *", 14), ("0 0 1W * *", 3), ("0 0 30W * *", 29), ("0 0 LW * *", 29),
    ("0 0 8W * *", 7), ("0 0 2W * *", 3),
])  # fmt: skip
def test_working_days(pattern: str, day: int) -> None:
    """June 2024 begins on a Saturday and ends on a Sunday. LW is its last Friday."""
    expected = 28 if day == 29 else day
    assert times(pattern, "2024-06-01 00:00:00", 1, utc) == ["2024-06-%02d 00:00:00" % expected]


def test_a_question_mark_is_the_value_of_now() -> None:
    """It is a Sunday."""
    pattern = parse("? ? ? ? ? ?", NOW)
    assert (pattern.seconds, pattern.minutes, pattern.hours) == ((30,), (45,), (2,))
    assert pattern.days == {29} and pattern.months == {11} and pattern.weekdays == {(0, 0)}
    assert parse("?-50,?/10 * * * *", NOW).minutes == (45, 46, 47, 48, 49, 50, 55)


def test_five_fields_are_those_without_seconds() -> None:
    assert parse("1 2 3 4 5", NOW) == parse("0 1 2 3 4 5", NOW) == parse(" 1 2\t3  4 5 ", NOW)


def test_equal_patterns_are_equal() -> None:
    assert parse("*/30 * * * MON", NOW) == parse("0,30 * * * 1", NOW)


# What is refused


@pytest.mark.parametrize("pattern, reason", [
    ("", "it has 0 of the 5 fields"),
    ("* * * *", "it has 4 of the 5 fields minute, hour, day, month, day of the week, or 6"),
    ("* * * * * * *", "it has 7 of the 5 fields"),
    ("60 * * * *", 'the minute "60" is not from 0 to 59'),
    ("60 0 0 * * *", 'the second "60" is not from 0 to 59'),
    ("0 24 * * *", 'the hour "24" is not from 0 to 23'),
    ("0 0 0 * *", 'the day of the month "0" is not from 1 to 31'),
    ("0 0 32 * *", 'the day of the month "32" is not from 1 to 31'),
    ("0 0 32W * *", 'the day of the month "32W" is not from 1 to 31'),
    ("0 0 1 13 *", 'the month "13" is not from 1 to 12 or JAN to DEC'),
    ("0 0 * * 8", 'the day of the week "8" is not from 0 to 7 or SUN to SAT'),
    ("50-10 * * * *", 'the minute "50-10" begins after its end'),
    ("0 0 * * FRI-MON", 'the day of the week "FRI-MON" begins after its end'),
    ("*/0 * * * *", 'the minute "*/0" has a step that is not from 1 to 60'),
    ("0 0 * */13 *", 'the month "*/13" has a step that is not from 1 to 12'),
    ("0 0 30 2 *", "there is no such day in any year"),
    ("0 0 31 2,4,6,9,11 *", "there is no such day in any year"),
    ("@reboot", "autostart = true in place of @reboot"),
    ("@dayly", '"@dayly" is not known: did you mean @daily?'),
    ("@x", "there is @yearly, @annually, @monthly, @weekly, @daily, @hourly"),
    ("0 0 * * 5L", "the last one of a month is 5#L"),
    ("0 0 * * FRIL", "the last one of a month is FRI#L"),
    ("0 " * 128 + "0", "it is longer than 256 characters"),
])  # fmt: skip
def test_a_wrong_pattern_is_told_with_its_field_and_what_is_allowed(
    pattern: str, reason: str
) -> None:
    with pytest.raises(CronError) as caught:
        parse(pattern, NOW)
    assert reason in str(caught.value)


@pytest.mark.parametrize("minute", [
    "x", "1x", "-5", "5-", "1--5", "5/", "1/2/3", "*/*/5", "**/5", "*5", "1*", "*-5", "1,", ",1",
    "1,,2", "1#2", "L", "1.5", "+5", "JAN", "\uff11", "99999", "1-5-9", "*#1", "#1", "/", "-", ",",
])  # fmt: skip
def test_what_cannot_be_read_is_refused(minute: str) -> None:
    with pytest.raises(CronError, match=r'the minute ".*" cannot be read: allowed are 0 to 59'):
        parse("%s * * * *" % minute, NOW)


@pytest.mark.parametrize("weekday", [
    "1#6", "1#0", "#1", "1#", "1#1#2", "MON#1-3", "L", "MONDAY", "1W",
])  # fmt: skip
def test_what_is_no_weekday_is_refused(weekday: str) -> None:
    with pytest.raises(CronError, match=r"the day of the week .* FRI#2, FRI#L"):
        parse("0 0 * * %s" % weekday, NOW)


@pytest.mark.parametrize("day", ["LL", "1L", "L-3", "*L", "L/2", "W", "1-5W", "WL", "1W#2", "1#L"])
def test_what_is_no_day_is_refused(day: str) -> None:
    with pytest.raises(CronError, match=r"the day of the month .* L, 15W, LW"):
        parse("0 0 %s * *" % day, NOW)


def test_no_pattern_takes_long() -> None:
    """The longest there can be, and the days that come most seldom; two at a time, for a machine
    that does other things as well."""
    for text in (",".join(["0-59"] * 40) + " * * * *", "0 0 * FEB MON#5", "0 0 31 2,4,6,9,11 *"):
        began = time.process_time()
        try:
            next_after(parse(text, NOW), at("2072-03-01 00:00:00"), utc)
        except CronError:
            pass
        assert time.process_time() - began < 0.5
