"""The TIME of `logs --since`, in the words that others have for it, and across changes of the
clock."""

import time
from typing import Iterator

import pytest
from hypothesis import given, strategies as st

import since

#: Monday 2026-11-23 15:04:05 in Berlin.
NOW = 1795442645.0


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "word, ago",
    [
        ("30s", 30), ("10m", 600), ("2h", 7200), ("3d", 3 * 86400), ("1w", 7 * 86400),
        ("1h30m", 5400), ("1h 30min", 5400), ("1.5h", 5400), ("90 seconds", 90), ("-10m", 600),
        ("10 min ago", 600), ("2 hours ago", 7200), ("1d2h3m4s", 93784), (" 5M ", 300),
        ("now", 0), ("0s", 0), ("@1795442600", 45), ("1795442600", 45), ("@1795442600.5", 44.5),
        ("15:04:05", 0), ("15:04", 5), ("3:04", 12 * 3600 + 5), ("15:04:04.5", 0.5),
        # Not yet today, so yesterday.
        ("15:05", 86400 - 55), ("23:04:05", 16 * 3600),
        ("today", 15 * 3600 + 245), ("yesterday", 39 * 3600 + 245),
        ("2026-11-23", 15 * 3600 + 245), ("2026-11-23 15:04", 5), ("2026-11-23T15:04:00", 5),
        ("2026-11-23 15:04:00.25", 4.75), ("2026-11-23T14:04:00Z", 5),
        ("2026-11-23 14:04:00 UTC", 5), ("2026-11-23T15:04:00+01:00", 5),
        ("2026-11-23T09:34:00-0430", 5), ("2026-1-2 3:04", 325 * 86400 + 12 * 3600 + 5),
    ],
)  # fmt: skip
def test_words_of_others_are_understood(word: str, ago: float) -> None:
    assert NOW - since.unix_time(word, NOW) == pytest.approx(ago, abs=1e-3)


@pytest.mark.parametrize(
    "word",
    ["", " ", "10", "m", "10x", "1h2", "ten minutes", "24:00", "15:60", "15", "2026-02-30",
     "2026-13-01", "2026-11", "26-11-23", "2026-11-23 15", "2026-11-23 25:00", "@", "@x",
     "2026-11-23T15:04Zulu", "ago", "tomorrow", "99999-01-01", "1h ago ago", "\ud800"],
)  # fmt: skip
def test_other_words_are_none(word: str) -> None:
    with pytest.raises(ValueError):
        since.unix_time(word, NOW)


@given(st.one_of(st.text(max_size=30), st.from_regex(r"[0-9:T. @+Zdhms-]{0,25}", fullmatch=True)))
def test_no_word_does_harm(word: str) -> None:
    try:
        found = since.unix_time(word, NOW)
    except ValueError:
        return
    assert isinstance(found, float)


@pytest.mark.parametrize(
    "word, clock",
    [
        # Twice; the first is meant.
        ("2026-10-25 02:30", "2026-10-25 02:30:00 CEST"),
        ("2026-10-25 03:00", "2026-10-25 03:00:00 CET"),
        # Never.
        ("2026-03-29 02:30", "2026-03-29 03:30:00 CEST"),
        ("2026-03-29 01:59:59", "2026-03-29 01:59:59 CET"),
        ("2026-07-01", "2026-07-01 00:00:00 CEST"),
    ],
)
def test_changes_of_the_clock(word: str, clock: str) -> None:
    found = since.unix_time(word, NOW)
    assert time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(found)) == clock


def test_days_begin_at_midnight_also_when_they_are_not_24_hours_long() -> None:
    noon = since.unix_time("2026-10-25 12:00", NOW)
    assert noon - since.unix_time("today", noon) == 13 * 3600
    assert noon - since.unix_time("yesterday", noon) == 37 * 3600
    assert noon - since.unix_time("12:30", noon) == 24.5 * 3600


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/Santiago"])
def test_zones(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    for word in ("2026-07-01 12:30:15", "2026-11-23 15:04:05"):
        found = time.localtime(since.unix_time(word, NOW))
        assert time.strftime("%Y-%m-%d %H:%M:%S", found) == word


def test_what_is_allowed_is_understood() -> None:
    """Each word of the message."""
    text = since.ALLOWED.replace(" ago", "").replace(", with T, Z or +01:00 as well", "")
    words = text.replace(";", ",").replace(" or ", ", ").split(", ")
    assert len(words) == 13
    for word in words:
        since.unix_time(word.strip('"'), NOW)
