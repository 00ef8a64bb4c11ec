"""The last half hour: who is here, what was viewed, and when each event leaves the windows."""

from datetime import UTC, datetime, timedelta

import pytest

from pulse.reports.realtime import RealtimeReport, realtime
from tests.db.reports.conftest import Site, add_site

# Live slots hold the last two hours of the clock on the wall.
NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=45)
NOW = NOW.replace(second=37)


def report(site: Site, now: datetime = NOW) -> RealtimeReport:
    site.fold()
    with site.engine.connect() as connection:
        return realtime(connection, site.project_id, now)


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def test_nothing_is_thirty_zeros(site: Site) -> None:
    found = report(site)
    assert (found.active_visitors, found.recent_pageviews, found.current_pages) == (0, 0, [])
    assert found.pageviews_per_minute == [0] * 30
    assert found.last_updated == NOW


@pytest.mark.parametrize(
    ("age", "minute"),
    [
        (timedelta(0), 29),
        (timedelta(seconds=57), 29),
        (timedelta(seconds=58), 28),
        (timedelta(minutes=10, seconds=5), 19),
        (timedelta(minutes=29, seconds=40), 0),
        (timedelta(minutes=30), None),
    ],
)
def test_a_pageview_counts_in_its_minute(site: Site, age: timedelta, minute: int | None) -> None:
    site.write({"occurred_at": NOW - age})
    found = report(site)
    assert found.pageviews_per_minute == [int(n == minute) for n in range(30)]
    assert found.recent_pageviews == (minute is not None)


def test_visitors_are_active_for_five_minutes(site: Site) -> None:
    site.write(
        {"occurred_at": ago(seconds=1), "visitor": 1},
        {"occurred_at": ago(minutes=4, seconds=45), "visitor": 2},
        {"occurred_at": ago(minutes=2), "visitor": 2, "path": "/a"},
        {"occurred_at": ago(minutes=5, seconds=10), "visitor": 3},
    )
    found = report(site)
    assert found.active_visitors == 2
    assert [(page.url, page.visitors, page.last_activity) for page in found.current_pages] == [
        ("/", 2, ago(seconds=1)),
        ("/a", 1, ago(minutes=2)),
    ]
    assert report(site, NOW + timedelta(minutes=5)).active_visitors == 0


def test_custom_events_make_visitors_active_but_are_no_pageviews(site: Site) -> None:
    site.write({"occurred_at": ago(seconds=5), "event_type": "click"})
    found = report(site)
    assert (found.active_visitors, found.recent_pageviews) == (1, 0)


def test_an_event_dated_ahead_waits_until_it_is_time(site: Site) -> None:
    site.write({"occurred_at": NOW + timedelta(seconds=30)})
    assert report(site).recent_pageviews == 0
    assert report(site, NOW + timedelta(seconds=30)).recent_pageviews == 1


def test_ten_pages_with_most_visitors_are_shown(site: Site) -> None:
    site.write(
        *(
            {"occurred_at": ago(seconds=30 + n), "visitor": visitor, "path": f"/{n}"}
            for n in range(12)
            for visitor in range(1, n + 2)
        ),
        # Seen more often than any other, by one visitor.
        *({"occurred_at": ago(seconds=20 + n), "path": "/reload"} for n in range(15)),
    )
    found = report(site)
    assert [(page.url, page.visitors) for page in found.current_pages] == [(f"/{n}", n + 1) for n in range(11, 1, -1)]


def test_other_projects_stay_out(site: Site) -> None:
    add_site(site.engine, "UTC").write({"occurred_at": ago(seconds=5)})
    found = report(site)
    assert (found.active_visitors, found.recent_pageviews, found.current_pages) == (0, 0, [])
