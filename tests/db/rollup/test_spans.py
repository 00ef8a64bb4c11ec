"""Added-up weeks and months: a report reads the same with and without them, whatever comes late."""

import calendar
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from pulse.reports.analytics import AnalyticsReport, analytics
from pulse.reports.campaigns import campaigns
from pulse.reports.period import Period
from pulse.rollup.rebuild import rebuild
from pulse.rollup.spans import add_up
from tests.db.reports.conftest import Site, add_site, make_visits

FIRST = datetime(2026, 2, 24, tzinfo=UTC)  # a Tuesday
NOW = FIRST + timedelta(days=97)


@pytest.fixture
def site(engine: Engine) -> Site:
    site = add_site(engine, "Asia/Kolkata")
    site.write(*make_visits(3, FIRST, 75 * 24, 300))
    site.fold()
    return site


def report(site: Site, first: date, last: date) -> AnalyticsReport:
    with site.engine.connect() as connection:
        return analytics(connection, site.project_id, Period(first, last, site.timezone, "day"), 100)


def list_spans(site: Site) -> tuple[list[date], list[date]]:
    """The weeks and months that are added up."""
    with site.engine.connect() as connection:
        weeks, months = (
            connection.execute(text(f"SELECT {name} FROM {table} WHERE dimension = 'total' ORDER BY 1")).scalars().all()
            for name, table in (("week", "summary_weekly"), ("month", "summary_monthly"))
        )
    return list(weeks), list(months)


def cover(site: Site, first: date, last: date) -> list[tuple[str, date]]:
    with site.engine.connect() as connection:
        statement = text("SELECT length, starts_on FROM summary_cover(:id, :first, :last) ORDER BY starts_on")
        found = connection.execute(statement, {"id": site.project_id, "first": first, "last": last})
        return [(row.length, row.starts_on) for row in found]


PERIODS = [
    (date(2026, 2, 24), date(2026, 5, 9)),
    (date(2026, 3, 1), date(2026, 4, 30)),
    (date(2026, 3, 2), date(2026, 3, 15)),
    (date(2026, 3, 3), date(2026, 3, 9)),
    (date(2026, 2, 28), date(2026, 3, 31)),
    (date(2026, 3, 10), date(2026, 3, 10)),
]


def read_all(site: Site) -> list[object]:
    with site.engine.connect() as connection:
        listed = [campaigns(connection, site.project_id, Period(*days, site.timezone, "day"), 100) for days in PERIODS]
    return [*(report(site, *days) for days in PERIODS), *listed]


def test_reports_read_the_same_with_weeks_and_months(site: Site) -> None:
    before = read_all(site)
    assert add_up(site.engine, NOW) == 14
    weeks, months = list_spans(site)
    assert weeks == [date(2026, 2, 23) + timedelta(days=7 * n) for n in range(11)]
    assert months == [date(2026, 2, 1), date(2026, 3, 1), date(2026, 4, 1)]
    assert read_all(site) == before
    assert add_up(site.engine, NOW) == 0


@pytest.mark.parametrize("table", ["summary_weekly", "summary_monthly"])
def test_reports_use_them(site: Site, table: str) -> None:
    add_up(site.engine, NOW)
    with site.engine.begin() as connection:
        connection.execute(text(f"UPDATE {table} SET pageviews = pageviews + 1000"))
    inside = {"summary_weekly": PERIODS[2], "summary_monthly": PERIODS[1]}[table]
    assert report(site, *inside).top_pages[0].pageviews > 1000
    assert report(site, *PERIODS[3]).top_pages[0].pageviews < 1000


def test_a_period_is_covered_by_the_longest_spans_that_lie_in_it(site: Site) -> None:
    add_up(site.engine, NOW)
    assert cover(site, *PERIODS[1]) == [("month", date(2026, 3, 1)), ("month", date(2026, 4, 1))]
    days = [("day", date(2026, 4, day)) for day in range(1, 6)]
    found = cover(site, date(2026, 2, 28), date(2026, 4, 13))
    assert found == [
        ("day", date(2026, 2, 28)), ("month", date(2026, 3, 1)), *days, ("week", date(2026, 4, 6)),
        ("day", date(2026, 4, 13)),
    ]  # fmt: skip
    for first in range(40):
        for last in range(first, 75, 7):
            start, end = (date(2026, 2, 24) + timedelta(days=n) for n in (first, last))
            assert list_days(cover(site, start, end)) == [start + timedelta(days=n) for n in range(last - first + 1)]


def list_days(spans: list[tuple[str, date]]) -> list[date]:
    found = []
    for length, first in spans:
        after = {"day": 1, "week": 7, "month": calendar.monthrange(first.year, first.month)[1]}[length]
        found += [first + timedelta(days=n) for n in range(after)]
    return found


def test_spans_that_may_still_grow_are_left_alone(site: Site) -> None:
    sunday = date(2026, 3, 8)
    add_up(site.engine, datetime(2026, 3, 9, 23, tzinfo=UTC))
    assert list_spans(site) == ([sunday - timedelta(days=13)], [date(2026, 2, 1)])
    add_up(site.engine, datetime(2026, 3, 10, tzinfo=UTC))  # a day after Sunday has ended in UTC
    assert list_spans(site)[0][-1] == sunday - timedelta(days=6)
    add_up(site.engine, datetime(2026, 4, 1, 23, tzinfo=UTC))
    assert list_spans(site)[1] == [date(2026, 2, 1)]
    add_up(site.engine, datetime(2026, 4, 2, tzinfo=UTC))
    assert list_spans(site)[1] == [date(2026, 2, 1), date(2026, 3, 1)]


def test_an_event_that_comes_later_reaches_its_week_and_month(site: Site) -> None:
    add_up(site.engine, NOW)
    before = [report(site, *days) for days in (PERIODS[1], PERIODS[2])]
    late = datetime(2026, 3, 10, 12, tzinfo=UTC)
    site.write({"occurred_at": late, "visitor": 10**9, "path": "/late"}, {"occurred_at": late, "path": "/"})
    site.fold()
    assert [len(spans) for spans in list_spans(site)] == [11, 3]
    for was, days in zip(before, (PERIODS[1], PERIODS[2]), strict=True):
        now = report(site, *days)
        assert now.overview.pageviews == was.overview.pageviews + 2
        assert [(row.pageviews, row.unique_visitors) for row in now.top_pages if row.path == "/late"] == [(1, 1)]
        assert views(now, "/") == views(was, "/") + 1
    assert add_up(site.engine, NOW) == 0


def views(of: AnalyticsReport, path: str) -> int:
    return next(row.pageviews for row in of.top_pages if row.path == path)


def test_a_rebuild_forgets_them(site: Site) -> None:
    add_up(site.engine, NOW)
    rebuild(site.engine, site.project_id, date(2026, 3, 31), date(2026, 4, 1))
    weeks, months = list_spans(site)
    assert date(2026, 3, 30) not in weeks and len(weeks) == 10
    assert months == [date(2026, 2, 1)]
