"""Local days and hours, checked against a clock that is read minute by minute."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.storage.localtime import LocalClock, clock, epoch_us, from_epoch_us

ZONES = [
    "UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia",
    "America/Havana", "Africa/Cairo", "America/Sao_Paulo", "America/St_Johns", "Pacific/Chatham", "Africa/Monrovia",
]  # fmt: skip
TURNS = [
    ("America/New_York", date(2026, 3, 8), 23), ("America/New_York", date(2026, 11, 1), 25),
    ("Asia/Kolkata", date(2026, 3, 8), 24), ("Asia/Kathmandu", date(2026, 3, 8), 24),
    ("America/Havana", date(2026, 3, 8), 23), ("Africa/Cairo", date(2026, 4, 24), 23),
    # Half an hour put back at 02:00 and forward again: one hour is cut in two, another is half as long.
    ("Australia/Lord_Howe", date(2026, 4, 5), 25), ("Australia/Lord_Howe", date(2026, 10, 4), 24),
    ("Pacific/Apia", date(2011, 12, 29), 24), ("Pacific/Apia", date(2011, 12, 30), 0),
    ("Pacific/Apia", date(2011, 12, 31), 24),
]  # fmt: skip


@pytest.mark.parametrize(("zone", "day", "hours"), TURNS)
def test_hours_of_days_on_which_clocks_change(zone: str, day: date, hours: int) -> None:
    found = LocalClock(zone).hours(day, day)
    assert len(found) == hours
    assert found == sorted(set(found))


@given(
    st.sampled_from(ZONES),
    st.datetimes(datetime(1971, 1, 1), datetime(2037, 1, 1)).map(lambda at: at.replace(tzinfo=UTC)),
)
def test_days_and_hours_of_any_instant(zone: str, at: datetime) -> None:
    _check(LocalClock(zone), at)


@pytest.mark.parametrize(("zone", "day", "hours"), TURNS)
def test_days_and_hours_about_changes(zone: str, day: date, hours: int) -> None:
    one = LocalClock(zone)
    at = one.day_start(day) - timedelta(hours=2)
    for _ in range(28 * 4):
        _check(one, at)
        _check(one, at - timedelta(microseconds=1))
        at += timedelta(minutes=15)


def _check(one: LocalClock, at: datetime) -> None:
    zone = ZoneInfo(one.name)
    local = at.astimezone(zone)
    assert one.day(at) == local.date()
    hour = one.hour(at)
    assert hour.tzinfo is UTC
    assert timedelta(0) <= at - hour < timedelta(hours=1)
    assert _reading(hour, zone) == _reading(at, zone)
    assert _reading(hour - timedelta(microseconds=1), zone) != _reading(at, zone), "it began no earlier"
    assert one.hour(hour) == hour
    assert one.day(hour) == one.day(at)


def _reading(at: datetime, zone: ZoneInfo) -> tuple[object, ...]:
    local = at.astimezone(zone)
    return local.date(), local.hour, local.utcoffset()


@given(st.sampled_from(ZONES), st.dates(date(2012, 1, 1), date(2036, 1, 1)))
def test_a_day_begins_at_its_first_instant(zone: str, day: date) -> None:
    one = LocalClock(zone)
    start = one.day_start(day)
    assert one.day(start) == day
    assert one.day(start - timedelta(microseconds=1)) == day - timedelta(days=1)
    assert one.hours(day, day)[0] == start


def test_a_change_within_a_quarter_hour() -> None:
    # Until 2011 Newfoundland changed its clocks a minute after midnight.
    one = LocalClock("America/St_Johns")
    for seconds in (-30, 30, -45, 45, 3600):
        _check(one, datetime(2010, 3, 14, 3, 31, tzinfo=UTC) + timedelta(seconds=seconds))


def test_a_skipped_day_is_empty() -> None:
    apia = LocalClock("Pacific/Apia")
    assert apia.day_start(date(2011, 12, 30)) == apia.day_start(date(2011, 12, 31))


@given(st.datetimes(datetime(1900, 1, 1), datetime(9999, 1, 1)).map(lambda at: at.replace(tzinfo=UTC)))
def test_microseconds_lose_nothing(at: datetime) -> None:
    assert from_epoch_us(epoch_us(at)) == at


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd"])
def test_no_such_zone(name: str) -> None:
    with pytest.raises((ZoneInfoNotFoundError, ValueError)):
        clock(name)


def test_clocks_are_shared() -> None:
    assert clock("Asia/Kolkata") is clock("Asia/Kolkata")
