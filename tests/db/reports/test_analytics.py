"""The analytics report against recounts from the raw events."""

from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from sqlalchemy import Engine, TextClause, event, text

from pulse.reports.analytics import AnalyticsReport, analytics
from pulse.reports.breakdowns import Q as BREAKDOWNS
from pulse.reports.overview import Q as OVERVIEW
from pulse.reports.period import Granularity, Period
from tests.db.reports.conftest import Site, add_site, make_visits

GAP = timedelta(minutes=30)
COLUMNS = {
    "devices": "device", "browsers": "browser", "operating_systems": "os", "countries": "country", "regions": "region",
    "cities": "city", "languages": "language", "channels": "channel", "sources": "source", "hostnames": "hostname",
    "utm_sources": "utm_source", "utm_mediums": "utm_medium", "utm_campaigns": "utm_campaign", "utm_terms": "utm_term",
    "utm_contents": "utm_content",
}  # fmt: skip
Rows = defaultdict[str | None, list[dict[str, Any]]]
Counts = defaultdict[str | None, int]


def report(site: Site, period: Period, limit: int = 100) -> AnalyticsReport:
    with site.engine.connect() as connection:
        return analytics(connection, site.project_id, period, limit)


def sessions_of(history: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Cut each visitor's events where nothing happens for half an hour."""
    found: list[list[dict[str, Any]]] = []
    for row in sorted(history, key=lambda row: (row["visitor"], row["occurred_at"], row["id"])):
        last = found[-1][-1] if found else None
        if last and last["visitor"] == row["visitor"] and row["occurred_at"] - last["occurred_at"] <= GAP:
            found[-1].append(row)
        else:
            found.append([row])
    return found


class Recount:
    """What a period should show, counted plainly."""

    def __init__(self, site: Site, period: Period) -> None:
        self.zone = ZoneInfo(site.timezone)
        self.events = [row for row in site.history if row["event_type"] != "engagement" and self.is_in(row, period)]
        # A visit of engagement alone is none.
        visits = [rows for rows in sessions_of(site.history) if any(row["event_type"] != "engagement" for row in rows)]
        self.visits = [rows for rows in visits if self.is_in(rows[0], period)]

    def is_in(self, row: dict[str, Any], period: Period) -> bool:
        return period.start <= row["occurred_at"].astimezone(self.zone).date() <= period.end

    def bucket(self, row: dict[str, Any], granularity: Granularity) -> str:
        local = row["occurred_at"].astimezone(self.zone)
        if granularity == "hour":
            return local.replace(minute=0, second=0, microsecond=0).isoformat()
        day = local.date()
        starts = {"day": day, "week": day - timedelta(days=day.weekday()), "month": day.replace(day=1)}
        return str(starts[granularity])

    def series(self, granularity: Granularity) -> dict[str | None, tuple[int, int, int, int]]:
        """Pageviews, events, visitors and sessions of the buckets in which something happened."""
        rows: Rows = defaultdict(list)
        visits: Counts = defaultdict(int)
        for row in self.events:
            rows[self.bucket(row, granularity)].append(row)
        for visit in self.visits:
            visits[self.bucket(visit[0], granularity)] += 1
        return {name: (*count(rows[name]), visits[name]) for name in {*rows, *visits}}

    def values(self, column: str, missing: str | None) -> dict[str, tuple[int, int, int]]:
        """Pageviews, visitors and sessions by value of a column."""
        rows: Rows = defaultdict(list)
        visits: Counts = defaultdict(int)
        for row in self.events:
            rows[row.get(column) or missing].append(row)
        for visit in self.visits:
            visits[visit[0].get(column) or missing] += 1
        names = {name for name in {*rows, *visits} if name is not None}
        return {name: (count(rows[name])[0], count(rows[name])[2], visits[name]) for name in names}


def count(rows: list[dict[str, Any]]) -> tuple[int, int, int]:
    views = sum(row["event_type"] == "pageview" for row in rows)
    return views, len(rows), len({row["visitor"] for row in rows})


def pageviews_of(visit: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in visit if row["event_type"] == "pageview"]


def is_bounce(visit: list[dict[str, Any]]) -> bool:
    return [row["event_type"] for row in visit if row["event_type"] != "engagement"] == ["pageview"]


HISTORIES = [
    ("UTC", datetime(2026, 3, 9, tzinfo=UTC)),
    ("Asia/Kolkata", datetime(2026, 3, 9, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 6, tzinfo=UTC)),  # clocks forward on the 8th
    ("Europe/Berlin", datetime(2026, 10, 23, tzinfo=UTC)),  # clocks back on the 25th
    ("Asia/Kathmandu", datetime(2026, 2, 26, tzinfo=UTC)),  # over the end of a month
]


@pytest.fixture(params=HISTORIES, ids=lambda param: param[0])
def busy(engine: Engine, request: pytest.FixtureRequest) -> tuple[Site, date]:
    """A project with five days of visits, folded, and the day they begin."""
    timezone, first = request.param
    site = add_site(engine, timezone)
    history = make_visits(7, first, 5 * 24, 150)
    site.write(*history[::2])
    site.fold()
    site.write(*history[1::2])
    site.fold()
    return site, first.date()


@pytest.mark.parametrize("granularity", ["hour", "day", "week", "month"])
def test_figures_and_series_match_a_recount(busy: tuple[Site, date], granularity: Granularity) -> None:
    site, first = busy
    period = Period(first + timedelta(days=1), first + timedelta(days=3), site.timezone, granularity)
    found, wanted = report(site, period), Recount(site, period)

    views, events, visitors = count(wanted.events)
    spent = sum((visit[-1]["occurred_at"] - visit[0]["occurred_at"]).total_seconds() for visit in wanted.visits)
    overview = found.overview
    assert (overview.pageviews, overview.events, overview.unique_visitors) == (views, events, visitors)
    assert overview.sessions == len(wanted.visits) > 50
    assert overview.bounce_rate == round(100 * sum(map(is_bounce, wanted.visits)) / len(wanted.visits), 2) > 0
    assert overview.avg_session_duration_seconds == pytest.approx(spent / len(wanted.visits), abs=0.01)
    assert overview.pages_per_session == round(views / len(wanted.visits), 2)

    points = {p.period: (p.pageviews, p.events, p.unique_visitors, p.sessions) for p in found.time_series}
    assert {name: figures for name, figures in points.items() if any(figures)} == wanted.series(granularity)
    assert sum(figures[0] for figures in points.values()) == views


def test_lists_match_a_recount(busy: tuple[Site, date]) -> None:
    site, first = busy
    period = Period(first + timedelta(days=1), first + timedelta(days=3), site.timezone, "day")
    found, wanted = report(site, period), Recount(site, period)

    missing = {"country": "(unknown)", "browser": "(unknown)", "os": "(unknown)", "source": "(direct)"}
    for name, column in COLUMNS.items():
        rows = getattr(found.breakdowns, name)
        shown = {row.name: (row.pageviews, row.unique_visitors, row.sessions) for row in rows}
        assert shown == wanted.values(column, missing.get(column)), name
        assert rows == sorted(rows, key=lambda row: (-row.pageviews, row.name))
    screens = [(row.name, row.pageviews, row.unique_visitors) for row in found.breakdowns.screens]
    assert screens == [("1920x1080", found.overview.pageviews, found.overview.unique_visitors)]
    for place, rows in ((0, found.breakdowns.entry_pages), (-1, found.breakdowns.exit_pages)):
        pages = Counter(pageviews_of(visit)[place]["path"] for visit in wanted.visits if pageviews_of(visit))
        assert [(row.name, row.sessions) for row in rows] == sorted(pages.items(), key=lambda item: (-item[1], item[0]))

    referrers = {row.referrer: (row.pageviews, row.unique_visitors, row.sessions) for row in found.top_referrers}
    assert referrers == wanted.values("referrer", None)
    for row in found.top_pages:
        here = [event for event in wanted.events if event["path"] == row.path]
        entered = [visit for visit in wanted.visits if [*pageviews_of(visit), {"path": None}][0]["path"] == row.path]
        assert (row.pageviews, row.unique_visitors, row.sessions) == (count(here)[0], count(here)[2], len(entered))
        assert row.bounce_rate == round(100 * sum(map(is_bounce, entered)) / len(entered), 2)
    customs = [event for event in wanted.events if event["event_type"] == "custom"]
    assert {row.name: row.events for row in found.top_events} == {
        "signup": sum(event["event_name"] == "signup" for event in customs),
        "custom": sum(event["event_name"] is None for event in customs),
    }


def test_a_project_without_events_is_all_zeros_but_dense(site: Site) -> None:
    found = report(site, Period(date(2026, 3, 1), date(2026, 3, 31), "UTC", "day"))
    assert msgspec.to_builtins(found.overview) == {
        "pageviews": 0, "events": 0, "uniqueVisitors": 0, "sessions": 0,
        "bounceRate": 0.0, "avgSessionDurationSeconds": 0.0, "pagesPerSession": 0.0,
    }  # fmt: skip
    assert [point.period for point in found.time_series] == [f"2026-03-{day:02}" for day in range(1, 32)]
    assert {point.pageviews for point in found.time_series} == {0}
    assert not any((found.top_pages, found.top_referrers, found.top_events, *msgspec.structs.astuple(found.breakdowns)))


def test_both_two_o_clocks_of_autumn_are_counted_apart(engine: Engine) -> None:
    site = add_site(engine, "Europe/Berlin")
    site.write({"occurred_at": datetime(2026, 10, 25, 0, 30, tzinfo=UTC)})
    site.write(*({"occurred_at": datetime(2026, 10, 25, 1, 30, n, tzinfo=UTC)} for n in range(2)))
    site.fold()
    found = report(site, Period(date(2026, 10, 25), date(2026, 10, 25), "Europe/Berlin", "hour"))
    assert len(found.time_series) == 25
    assert [(p.period, p.pageviews) for p in found.time_series if p.pageviews] == [
        ("2026-10-25T02:00:00+02:00", 1),
        ("2026-10-25T02:00:00+01:00", 2),
    ]


def test_headline_figures_do_not_depend_on_the_granularity(busy: tuple[Site, date]) -> None:
    site, first = busy
    overviews = [
        report(site, Period(first, first + timedelta(days=5), site.timezone, granularity)).overview
        for granularity in ("hour", "day", "week", "month")
    ]
    assert overviews == [overviews[0]] * 4


def test_lists_are_limited_after_ordering_by_count_then_name(site: Site) -> None:
    at = datetime(2026, 3, 10, 12, tzinfo=UTC)
    views = {"/z": 3, "/b": 2, "/a": 2, "/B": 2, "/y": 1}
    for path, times in views.items():
        site.write(*({"occurred_at": at + timedelta(seconds=n), "path": path} for n in range(times)))
    site.fold()
    found = report(site, Period(at.date(), at.date(), "UTC", "day"), limit=3)
    assert [(row.path, row.pageviews) for row in found.top_pages] == [("/z", 3), ("/B", 2), ("/a", 2)]


def test_a_value_that_a_late_event_emptied_is_not_listed(site: Site) -> None:
    at = datetime(2026, 3, 10, 12, tzinfo=UTC)
    site.write({"occurred_at": at, "path": "/second"})
    site.fold()
    site.write({"occurred_at": at - timedelta(minutes=5), "path": "/first"})
    site.fold()
    found = report(site, Period(at.date(), at.date(), "UTC", "day"))
    assert [(row.name, row.sessions) for row in found.breakdowns.entry_pages] == [("/first", 1)]
    assert [(row.name, row.sessions) for row in found.breakdowns.exit_pages] == [("/second", 1)]


def test_visitors_are_counted_once_over_days_and_projects_apart(site: Site) -> None:
    days = [datetime(2026, 3, day, 12, tzinfo=UTC) for day in (10, 11, 12)]
    site.write(*({"occurred_at": at, "visitor": visitor} for at in days for visitor in (1, 2)))
    other = add_site(site.engine, "UTC")
    other.write({"occurred_at": days[0], "visitor": 3})
    site.fold()
    found = report(site, Period(date(2026, 3, 9), date(2026, 3, 31), "UTC", "week"))
    assert found.overview.unique_visitors == 2
    assert [(p.period, p.unique_visitors, p.sessions) for p in found.time_series][:2] == [
        ("2026-03-09", 2, 6), ("2026-03-16", 0, 0),
    ]  # fmt: skip
    assert [(row.path, row.unique_visitors) for row in found.top_pages] == [("/", 2)]


def test_many_visitors_stay_within_the_sketch_error(site: Site) -> None:
    at = datetime(2026, 3, 10, tzinfo=UTC)
    rows = [
        {"occurred_at": at + timedelta(days=n % 2, seconds=n), "visitor": n * 11400714819323198485 % 2**62}
        for n in range(6000)
    ]
    site.write(*rows)
    site.fold()
    found = report(site, Period(at.date(), at.date() + timedelta(days=1), "UTC", "day"))
    assert found.overview.unique_visitors == pytest.approx(6000, rel=0.06)
    assert found.top_pages[0].unique_visitors == pytest.approx(6000, rel=0.09)
    assert found.overview.unique_visitors <= found.overview.events


def test_a_report_takes_two_statements(busy: tuple[Site, date]) -> None:
    site, first = busy
    seen: list[str] = []
    event.listen(site.engine, "before_cursor_execute", lambda *args: seen.append(args[2].split("*/")[0]))
    report(site, Period(first, first + timedelta(days=4), site.timezone, "hour"))
    assert seen == ["/* overview.totals ", "/* breakdowns.top_values "]


def test_the_answer_is_camel_case_as_published(busy: tuple[Site, date]) -> None:
    site, first = busy
    shown = msgspec.json.decode(msgspec.json.encode(report(site, Period(first, first, site.timezone, "day"), 1)))
    assert shown["dateRange"] == {
        "start": str(first), "end": str(first), "timezone": site.timezone, "granularity": "day",
    }  # fmt: skip
    assert set(shown) == {
        "dateRange", "overview", "timeSeries", "topPages", "topReferrers", "breakdowns", "topEvents",
    }  # fmt: skip
    assert set(shown["breakdowns"]) == {
        "devices", "browsers", "operatingSystems", "countries", "regions", "cities", "languages", "screens", "channels",
        "sources", "utmSources", "utmMediums", "utmCampaigns", "utmTerms", "utmContents", "entryPages", "exitPages",
        "hostnames",
    }  # fmt: skip
    assert set(shown["topPages"][0]) == {"path", "pageviews", "uniqueVisitors", "sessions", "bounceRate"}
    assert set(shown["breakdowns"]["devices"][0]) == {"name", "pageviews", "uniqueVisitors", "sessions"}


@pytest.mark.parametrize(
    "statement", [OVERVIEW.totals, BREAKDOWNS.top_values, BREAKDOWNS.values], ids=["totals", "top_values", "values"]
)
def test_only_days_of_the_period_are_read(site: Site, statement: TextClause) -> None:
    """However long the history is: each way into the summaries is bound by the day, totals touch totals alone."""
    with site.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO summary_daily"
                " SELECT 1, 1, 0, 0, 0, :project_id, date '2025-06-01' + day, 'page', 'v' || n, ''"
                " FROM generate_series(0, 299) day, generate_series(1, 40) n"
            ),
            {"project_id": site.project_id},
        )
        connection.exec_driver_sql("ANALYZE summary_daily")
        plan = connection.execute(
            text("EXPLAIN (ANALYZE, FORMAT JSON) " + statement.text),
            {
                "project_id": site.project_id, "start": date(2026, 1, 1), "end": date(2026, 1, 30), "days": 30,
                "hourly": False, "starts_at": datetime(2026, 1, 1, tzinfo=UTC),
                "ends_at": datetime(2026, 1, 31, tzinfo=UTC), "limit": 10,
                "dimensions": ["page"] * 10, "values": [f"v{n}" for n in range(1, 11)],
            },
        ).scalar_one()  # fmt: skip
    scans = [node for node in walk_plan(plan[0]["Plan"]) if "summary_daily" in str(node.get("Index Name"))]
    assert scans
    assert all("day" in node["Index Cond"] for node in scans)
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in scans) <= 30 * 40 + 30 * 10
    if statement is OVERVIEW.totals:
        assert [node.get("Rows Removed by Filter", 0) for node in scans] == [0]


def walk_plan(node: dict[str, Any]) -> list[dict[str, Any]]:
    """List a plan's nodes."""
    return [node, *(found for child in node.get("Plans", []) for found in walk_plan(child))]
