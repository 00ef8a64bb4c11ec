"""Added-up weeks: a report reads the same with and without them, whatever comes late."""

from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from pulse.reports.analytics import AnalyticsReport, analytics
from pulse.reports.period import Period
from pulse.rollup.rebuild import rebuild
from pulse.rollup.weeks import add_up_weeks
from tests.db.reports.conftest import Site, add_site, make_visits

FIRST = datetime(2026, 2, 24, tzinfo=UTC)  # a Tuesday
NOW = FIRST + timedelta(days=60)


@pytest.fixture
def site(engine: Engine) -> Site:
    site = add_site(engine, "Asia/Kolkata")
    site.write(*make_visits(3, FIRST, 30 * 24, 300))
    site.fold()
    return site


def report(site: Site, first: date, last: date) -> AnalyticsReport:
    with site.engine.connect() as connection:
        return analytics(connection, site.project_id, Period(first, last, site.timezone, "day"), 100)


def count_weeks(site: Site) -> int:
    with site.engine.connect() as connection:
        found = connection.execute(text("SELECT count(DISTINCT week) FROM summary_weekly WHERE dimension = 'total'"))
        return int(found.scalar_one())


PERIODS = [
    (date(2026, 2, 24), date(2026, 3, 25)),
    (date(2026, 3, 2), date(2026, 3, 15)),
    (date(2026, 3, 3), date(2026, 3, 9)),
    (date(2026, 3, 4), date(2026, 3, 23)),
    (date(2026, 3, 10), date(2026, 3, 10)),
]


def test_reports_read_the_same_with_weeks(site: Site) -> None:
    before = [report(site, *period) for period in PERIODS]
    assert add_up_weeks(site.engine, NOW) == count_weeks(site) == 5
    assert [report(site, *period) for period in PERIODS] == before
    assert add_up_weeks(site.engine, NOW) == 0


def test_reports_use_the_weeks(site: Site) -> None:
    add_up_weeks(site.engine, NOW)
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE summary_weekly SET pageviews = pageviews + 1000"))
    assert report(site, date(2026, 3, 3), date(2026, 3, 9)).top_pages[0].pageviews < 1000
    assert report(site, date(2026, 3, 1), date(2026, 3, 9)).top_pages[0].pageviews > 1000


def test_weeks_that_may_still_grow_are_left_alone(site: Site) -> None:
    sunday = date(2026, 3, 8)
    late = datetime(2026, 3, 8, 18, 30, tzinfo=UTC) + timedelta(days=7)  # seven days after the zone's Sunday ends
    add_up_weeks(site.engine, late)
    with site.engine.connect() as connection:
        weeks = connection.execute(text("SELECT max(week) FROM summary_weekly")).scalar_one()
    assert weeks == sunday - timedelta(days=13)


def test_an_event_that_comes_later_still_reaches_its_week(site: Site) -> None:
    add_up_weeks(site.engine, NOW)
    before = report(site, *PERIODS[1])
    site.write({"occurred_at": datetime(2026, 3, 10, 12, tzinfo=UTC), "visitor": 10**9, "path": "/late"})
    site.fold()
    assert count_weeks(site) == 4
    after = report(site, *PERIODS[1])
    assert after.overview.pageviews == before.overview.pageviews + 1
    assert [row.pageviews for row in after.top_pages if row.path == "/late"] == [1]
    assert add_up_weeks(site.engine, NOW) == 1
    assert report(site, *PERIODS[1]) == after


def test_a_rebuild_forgets_its_weeks(site: Site) -> None:
    add_up_weeks(site.engine, NOW)
    rebuild(site.engine, site.project_id, date(2026, 3, 10), date(2026, 3, 10))
    assert count_weeks(site) == 4
