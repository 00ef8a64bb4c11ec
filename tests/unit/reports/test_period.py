"""Periods: defaults, limits, and the buckets of series where days are not 24 hours long."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.errors import Invalid
from pulse.reports.period import GRANULARITIES, Comparison, Granularity, Period, resolve

NOW = datetime(2026, 3, 31, 20, 0, tzinfo=UTC)
ZONES = [
    "UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia",
    "America/Sao_Paulo", "Africa/Cairo",
]  # fmt: skip


def test_the_default_is_thirty_days_with_today() -> None:
    assert resolve(None, None, None, "UTC", NOW) == Period(date(2026, 3, 2), date(2026, 3, 31), "UTC", "day")


def test_today_is_the_day_of_the_zone() -> None:
    assert resolve(None, None, None, "Asia/Kolkata", NOW).end == date(2026, 4, 1)


def test_one_bound_gives_the_other() -> None:
    assert resolve(None, "2026-01-30", None, "UTC", NOW).start == date(2026, 1, 1)
    assert resolve("2026-03-31", None, None, "UTC", NOW).days == 1


@pytest.mark.parametrize(
    ("days", "granularity"),
    [(1, "hour"), (2, "hour"), (3, "day"), (92, "day"), (93, "week"), (366, "week"), (367, "month"), (1830, "month")],
)
def test_the_default_granularity_follows_the_length(days: int, granularity: str) -> None:
    start = date(2026, 3, 31) - timedelta(days=days - 1)
    assert resolve(str(start), "2026-03-31", None, "UTC", NOW).granularity == granularity


@pytest.mark.parametrize(
    ("start", "end", "granularity", "field", "limit"),
    [
        ("yesterday", None, None, "startDate", "2026-03-31"),
        ("", None, None, "startDate", "2026-03-31"),
        ("20260301", None, None, "startDate", "2026-03-31"),
        ("2026-W01-1", None, None, "startDate", "2026-03-31"),
        ("٢٠٢٦-٠١-٠١", None, None, "startDate", "2026-03-31"),
        ("2026-02-29", None, None, "startDate", "2026-03-31"),
        ("1999-12-31", None, None, "startDate", "2000-01-01"),
        (None, "9999-12-31", None, "endDate", "2099-12-31"),
        (None, "2026-03-31T00:00:00Z", None, "endDate", "2026-03-31"),
        ("2026-03-02", "2026-03-01", None, "endDate", "before it starts"),
        ("2026-04-01", None, None, "startDate", "2026-03-31"),
        ("2021-03-27", "2026-03-31", None, "startDate", "1830 days"),
        ("2026-02-28", "2026-03-31", "hour", "granularity", "31 days"),
        (None, None, "year", "granularity", "hour, day, week, month"),
    ],
)
def test_a_bad_period_is_refused_with_field_and_limit(
    start: str | None, end: str | None, granularity: str | None, field: str, limit: str
) -> None:
    with pytest.raises(Invalid) as caught:
        resolve(start, end, granularity, "UTC", NOW)
    (problem,) = caught.value.details
    assert problem.field == field
    assert limit in problem.message


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        resolve("x", "y", "z", "UTC", NOW)
    assert {problem.field for problem in caught.value.details} == {"startDate", "endDate", "granularity"}


@pytest.mark.parametrize(("start", "end"), [("2000-01-01", "2000-01-01"), ("2099-12-31", "2099-12-31")])
def test_the_outermost_days_work(start: str, end: str) -> None:
    for zone in ZONES:
        period = resolve(start, end, "hour", zone, NOW)
        assert len(period.hour_buckets()) == 24
        assert period.previous().ends_at == period.starts_at


def test_the_previous_period_is_as_long_and_ends_the_day_before() -> None:
    previous = Period(date(2026, 3, 1), date(2026, 3, 31), "UTC", "day").previous()
    assert previous == Period(date(2026, 1, 29), date(2026, 2, 28), "UTC", "day")


@pytest.mark.parametrize(
    ("zone", "day", "hours", "around"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23, ["01:00:00+01:00", "03:00:00+02:00"]),
        ("Europe/Berlin", date(2026, 10, 25), 25, ["02:00:00+02:00", "02:00:00+01:00"]),
        ("America/New_York", date(2026, 3, 8), 23, ["01:00:00-05:00", "03:00:00-04:00"]),
        ("America/New_York", date(2026, 11, 1), 25, ["01:00:00-04:00", "01:00:00-05:00"]),
        ("Asia/Kathmandu", date(2026, 3, 1), 24, ["00:00:00+05:45", "01:00:00+05:45"]),
        ("Africa/Cairo", date(2026, 4, 24), 23, ["01:00:00+03:00", "02:00:00+03:00"]),  # midnight itself is missing
    ],
)
def test_hours_of_a_day_the_clocks_change(zone: str, day: date, hours: int, around: list[str]) -> None:
    period = Period(day, day, zone, "hour")
    labels = [period.label_hour(at) for at in period.hour_buckets()]
    assert len(labels) == hours
    at = labels.index(f"{day}T{around[0]}")
    assert labels[at : at + 2] == [f"{day}T{wanted}" for wanted in around]


@given(
    st.sampled_from(ZONES),
    st.dates(date(2015, 1, 1), date(2035, 1, 1)),
    st.integers(1, 31),
)
def test_hours_are_dense_and_cover_the_period(zone: str, start: date, days: int) -> None:
    period = Period(start, start + timedelta(days=days - 1), zone, "hour")
    hours = period.hour_buckets()
    assert hours[0] == period.starts_at
    assert hours == sorted(set(hours))
    steps = [after - before for before, after in zip(hours, [*hours[1:], period.ends_at], strict=True)]
    assert all(timedelta(0) < step <= timedelta(minutes=90) for step in steps)
    assert {at.astimezone(ZoneInfo(zone)).date() for at in hours} == {start + timedelta(days=n) for n in range(days)}


@given(st.sampled_from(GRANULARITIES[1:]), st.dates(date(2015, 1, 1), date(2035, 1, 1)), st.integers(1, 800))
def test_every_day_has_its_bucket(granularity: str, start: date, days: int) -> None:
    period = Period(start, start + timedelta(days=days - 1), "UTC", granularity)  # type: ignore[arg-type]
    buckets = period.day_buckets()
    assert buckets == sorted(set(buckets))
    assert {period.bucket_of(start + timedelta(days=n)) for n in range(days)} == set(buckets)
    if granularity == "week":
        assert all(day.weekday() == 0 for day in buckets)
        assert all(after - before == timedelta(days=7) for before, after in zip(buckets, buckets[1:], strict=False))
    if granularity == "month":
        assert all(day.day == 1 for day in buckets)


@pytest.mark.parametrize(
    ("days", "step", "wanted"),
    [
        ("2026-03-10 2026-03-12", "previous", "2026-03-07 2026-03-09"),
        ("2026-03-10 2026-03-12", "year", "2025-03-10 2025-03-12"),
        ("2026-03-01 2026-03-31", "previous", "2026-02-01 2026-02-28"),
        ("2024-03-01 2024-03-31", "previous", "2024-02-01 2024-02-29"),
        ("2026-01-01 2026-03-31", "previous", "2025-10-01 2025-12-31"),
        ("2025-02-01 2025-02-28", "year", "2024-02-01 2024-02-29"),
        ("2024-02-29 2024-02-29", "year", "2023-02-28 2023-02-28"),
        ("2024-01-01 2024-12-31", "previous", "2023-01-01 2023-12-31"),
        ("2024-02-01 2024-02-28", "previous", "2024-01-04 2024-01-31"),
    ],
)
def test_what_a_period_is_compared_with(days: str, step: Comparison, wanted: str) -> None:
    start, end = map(date.fromisoformat, days.split())
    other = Period(start, end, "UTC", "day").before(step)
    assert f"{other.start} {other.end}" == wanted


@pytest.mark.parametrize("granularity", ["hour", "day", "week", "month"])
def test_buckets_begin_with_the_period_and_in_order(granularity: Granularity) -> None:
    period = Period(date(2026, 10, 21), date(2026, 11, 3), "Europe/Berlin", granularity)
    labels, starts = period.buckets()
    assert starts[0] == period.starts_at
    assert starts == sorted(set(starts))
    assert len(labels) == len(starts) == {"hour": 14 * 24 + 1, "day": 14, "week": 3, "month": 2}[granularity]
