"""Filtered reports against a plain recount of visits and their events, over random histories, zones and filters."""

import random
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from pulse.errors import Unavailable
from pulse.reports import facts, filtered
from pulse.reports.analytics import AnalyticsReport, analytics
from pulse.reports.breakdowns import DIMENSIONS
from pulse.reports.filtered import read_filtered
from pulse.reports.filters import EVENT_DIMENSIONS, MISSING, VISIT_DIMENSIONS, Filter, Filters, read_filters
from pulse.reports.period import Comparison, Granularity, Period
from pulse.rollup import packing
from tests.db.reports.conftest import Site, add_site, make_visits
from tests.db.rollup.conftest import pack_all
from tests.db.rollup.recount import recount_sessions

Rows = list[dict[str, Any]]
COLUMNS = {"entry_page": "entry_path", "exit_page": "exit_path"}
NEW_VALUES = {"==": ["x", "(none)"], "!=": ["x", "(none)"], "=@": ["1", "o", "_"], "=^": ["/", "c", "utm"]}


def report(site: Site, period: Period, text: str, compare: Comparison | None = None) -> AnalyticsReport:
    with site.engine.connect() as connection:
        return analytics(connection, site.project_id, period, 100, read_filters(text), compare)


def event_value(event: dict[str, Any], dimension: str) -> str | None:
    if dimension == "page":
        return event["path"]
    if dimension == "event":
        return None if event["event_type"] == "pageview" else event.get("event_name") or event["event_type"]
    if dimension == "screen":
        return f"{event['screen_width']}x{event['screen_height']}" if "screen_width" in event else None
    return event.get(dimension)


def passes(value: str | None, one: Filter) -> bool:
    named = MISSING.get(one.dimension, "(none)") if value is None else value
    if one.operator == "==":
        return named in one.values
    if one.operator == "!=":
        return named not in one.values
    if value is None:
        return False
    return any(part in value if one.operator == "=@" else value.startswith(part) for part in one.values)


class Recount:
    """The visits of a period that pass, each with its events that pass."""

    def __init__(self, site: Site, period: Period, filters: Filters) -> None:
        self.zone = ZoneInfo(site.timezone)
        by_key = defaultdict(list)
        for event in site.history:
            by_key[event["session_key"]].append(event)
        self.visits: list[tuple[dict[str, Any], Rows]] = []
        for visit in recount_sessions(site.history):
            day = visit["started_at"].astimezone(self.zone).date()
            if not visit["events"] or not period.start <= day <= period.end:
                continue
            if not all(self.visit_passes(visit, one) for one in filters):
                continue
            events = [
                event for event in by_key[visit["session_key"]]
                if visit["started_at"] <= event["occurred_at"] <= visit["ended_at"]
                and event["event_type"] != "engagement" and all(self.event_passes(event, one) for one in filters)
            ]  # fmt: skip
            if events:
                self.visits.append((visit, events))

    def visit_passes(self, visit: dict[str, Any], one: Filter) -> bool:
        if one.dimension not in VISIT_DIMENSIONS:
            return True
        return passes(visit[COLUMNS.get(one.dimension, one.dimension)], one)

    def event_passes(self, event: dict[str, Any], one: Filter) -> bool:
        return one.dimension not in EVENT_DIMENSIONS or passes(event_value(event, one.dimension), one)

    def overview(self) -> tuple[Any, ...]:
        views, events, visitors = count(self.visits)
        bounces = sum(is_bounce(visit) for visit, _ in self.visits)
        spent = sum((visit["ended_at"] - visit["started_at"]).total_seconds() for visit, _ in self.visits)
        visits = len(self.visits)
        if not visits:
            return (0,) * 7
        return views, events, visitors, visits, 100 * bounces / visits, spent / visits, views / visits

    def series(self, granularity: Granularity) -> dict[str, tuple[int, ...]]:
        buckets = defaultdict(list)
        for visit, events in self.visits:
            local = visit["started_at"].astimezone(self.zone)
            day = local.date()
            name = local.replace(minute=0, second=0, microsecond=0).isoformat()
            if granularity != "hour":
                starts = {"day": day, "week": day - timedelta(days=day.weekday()), "month": day.replace(day=1)}
                name = starts[granularity].isoformat()
            buckets[name].append((visit, events))
        return {name: (*count(found), len(found)) for name, found in buckets.items()}

    def visit_values(self, dimension: str) -> dict[str, tuple[int, ...]]:
        found = defaultdict(list)
        for visit, events in self.visits:
            value = visit[COLUMNS.get(dimension, dimension)] or MISSING.get(dimension)
            if value is not None:
                found[value].append((visit, events))
        return {value: (count(rows)[0], count(rows)[2], len(rows)) for value, rows in found.items()}

    def event_values(self, dimension: str) -> dict[str, tuple[int, int, int]]:
        views: Counter[str] = Counter()
        number: Counter[str] = Counter()
        visitors = defaultdict(set)
        for visit, events in self.visits:
            for event in events:
                value = event_value(event, dimension)
                if value is not None:
                    views[value] += event["event_type"] == "pageview"
                    number[value] += 1
                    visitors[value].add(visit["visitor"])
        return {value: (views[value], number[value], len(visitors[value])) for value in number}

    def entries(self) -> dict[str, tuple[int, float]]:
        found = defaultdict(list)
        for visit, events in self.visits:
            if any(event["id"] == visit["entry_id"] for event in events):
                found[visit["entry_path"]].append(is_bounce(visit))
        return {path: (len(rows), round(100 * sum(rows) / len(rows), 2)) for path, rows in found.items()}


def count(visits: list[tuple[dict[str, Any], Rows]]) -> tuple[int, int, int]:
    events = [event for _, found in visits for event in found]
    views = sum(event["event_type"] == "pageview" for event in events)
    return views, len(events), len({visit["visitor"] for visit, _ in visits})


def is_bounce(visit: dict[str, Any]) -> bool:
    return bool(visit["pageviews"] == 1 and visit["events"] == 1)


def make_filters(chance: random.Random, site: Site) -> Filters:
    """Make one to three filters of values that occur, and of some that do not."""
    found = set()
    for _ in range(chance.choice([1, 1, 2, 3])):
        dimension, operator = chance.choice([*VISIT_DIMENSIONS, *EVENT_DIMENSIONS * 2]), chance.choice(list(NEW_VALUES))
        values = {chance.choice(NEW_VALUES[operator])}
        for event in chance.sample(site.history, 3):
            column = {"entry_page": "path", "exit_page": "path"}.get(dimension, dimension)
            value = event_value(event, column) if column in EVENT_DIMENSIONS else event[column]
            values.add(value if value is not None else MISSING.get(dimension, "(none)"))
        found.add(Filter(dimension, operator, tuple(sorted(values))))
    return read_filters(";".join(map(str, found)))


def check(site: Site, period: Period, filters: Filters, found: AnalyticsReport) -> None:
    wanted, overview = Recount(site, period, filters), found.overview
    assert (
        overview.pageviews, overview.events, overview.unique_visitors, overview.sessions, overview.bounce_rate,
        overview.avg_session_duration_seconds, overview.pages_per_session,
    ) == pytest.approx(wanted.overview(), abs=0.0101)  # fmt: skip
    points = {p.period: (p.pageviews, p.events, p.unique_visitors, p.sessions) for p in found.time_series}
    assert {name: figures for name, figures in points.items() if any(figures)} == wanted.series(period.granularity)
    for name, dimension in DIMENSIONS.items():
        rows = {row.name: (row.pageviews, row.unique_visitors, row.sessions) for row in getattr(found.breakdowns, name)}
        if dimension in EVENT_DIMENSIONS:
            events = wanted.event_values(dimension).items()
            assert rows == {value: (views, visitors, 0) for value, (views, _, visitors) in events}, name
        else:
            assert rows == wanted.visit_values(dimension), name
    referrers = {row.referrer: (row.pageviews, row.unique_visitors, row.sessions) for row in found.top_referrers}
    assert referrers == wanted.visit_values("referrer")
    named = {row.name: (row.events, row.unique_visitors) for row in found.top_events}
    assert named == {value: figures[1:] for value, figures in wanted.event_values("event").items()}
    pages, entries = wanted.event_values("page"), wanted.entries()
    shown = {row.path: (row.pageviews, row.unique_visitors, row.sessions, row.bounce_rate) for row in found.top_pages}
    assert shown == {path: (p[0], p[2], *entries.get(path, (0, 0.0))) for path, p in pages.items()}


HISTORIES = [
    ("UTC", datetime(2026, 3, 30, tzinfo=UTC), "week"),  # over the end of a month
    ("Asia/Kolkata", datetime(2026, 3, 9, tzinfo=UTC), "hour"),
    ("America/New_York", datetime(2026, 3, 6, tzinfo=UTC), "day"),  # clocks forward on the 8th
    ("Europe/Berlin", datetime(2026, 10, 23, tzinfo=UTC), "hour"),  # clocks back on the 25th
]


def rows_alone(*_: object) -> None:
    """Stand in for `count_columns`, so that SQL counts."""


@pytest.mark.parametrize("way", ["rows", "columns", "packs", "packs and late events"])
@pytest.mark.parametrize(("timezone", "first", "granularity"), HISTORIES, ids=lambda value: str(value)[:12])
def test_every_figure_matches_a_recount(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, timezone: str, first: datetime, granularity: Granularity, way: str
) -> None:
    monkeypatch.setattr(packing, "LEAST_VISITS", 0)
    if way == "rows":
        monkeypatch.setattr(filtered, "count_columns", rows_alone)
    site = add_site(engine, timezone)
    history = make_visits(11, first, 5 * 24, 120)
    site.write(*history[::2])
    site.fold()
    if way == "packs and late events":
        assert pack_all(engine) > 4
    site.write(*history[1::2])
    site.fold()
    if way == "packs":
        assert pack_all(engine) > 4
    period = Period(first.date() + timedelta(days=1), first.date() + timedelta(days=3), timezone, granularity)
    chance = random.Random(timezone)
    for _ in range(8):
        filters = make_filters(chance, site)
        check(site, period, filters, report(site, period, ";".join(map(str, filters))))


def test_visits_that_go_on_after_the_period_count_whole(site: Site) -> None:
    late = datetime(2026, 3, 9, 23, 50, tzinfo=UTC)
    for minutes, path in ((0, "/"), (20, "/b")):
        site.write({"occurred_at": late + timedelta(minutes=minutes), "path": path, "country": "DE"})
    site.fold()
    day = Period(late.date(), late.date(), "UTC", "day")
    for text in ("country==DE", "page==/b"):
        check(site, day, read_filters(text), report(site, day, text))
    assert report(site, day, "page==/b").overview.pageviews == 1
    after = Period(late.date() + timedelta(days=1), late.date() + timedelta(days=1), "UTC", "day")
    assert report(site, after, "page==/b").overview.sessions == 0


def test_other_projects_are_not_counted(site: Site, engine: Engine) -> None:
    other = add_site(engine, "UTC")
    at = datetime(2026, 3, 9, 12, tzinfo=UTC)
    for one in (site, other):
        one.write({"occurred_at": at, "country": "DE"})
        one.fold()
    found = report(site, Period(at.date(), at.date(), "UTC", "day"), "country==DE;page==/")
    assert (found.overview.sessions, found.overview.pageviews, found.top_pages[0].pageviews) == (1, 1, 1)


def test_visitors_of_many_visits_are_estimated(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "SAMPLE_VISITS", 512)
    chance, at = random.Random(3), datetime(2026, 3, 9, tzinfo=UTC)
    people = [chance.getrandbits(63) for _ in range(2000)]
    site.write(*(
        {"occurred_at": at + timedelta(hours=2 * (n // 2000)), "visitor": people[n % 2000], "country": "DE",
         "browser": "Rare" if n % 2000 < 5 else None}
        for n in range(4000)
    ))  # fmt: skip
    site.fold()
    found = report(site, Period(at.date(), at.date(), "UTC", "day"), "country==DE")
    assert (found.overview.sessions, found.overview.pageviews) == (4000, 4000)
    assert found.overview.unique_visitors == pytest.approx(2000, rel=0.05)
    assert found.top_pages[0].unique_visitors == pytest.approx(2000, rel=0.05)
    rare = next(row for row in found.breakdowns.browsers if row.name == "Rare")
    assert 1 <= rare.unique_visitors <= rare.sessions == 10


def test_what_takes_too_long_is_stopped_with_advice(site: Site) -> None:
    site.write(*make_visits(1, datetime(2026, 3, 9, tzinfo=UTC), 24, 60))
    site.fold()
    period = Period(date(2026, 3, 9), date(2026, 3, 9), "UTC", "day")
    with site.engine.connect() as connection, pytest.raises(Unavailable, match="shorter range") as caught:
        read_filtered(connection, site.project_id, period, read_filters("country==DE"), 10, timeout_s=0.001)
    assert caught.value.retry_after_s


def test_comparison_with_the_period_before_and_the_year_before(site: Site) -> None:
    for day, country, views in (("2026-03-10", "DE", 3), ("2026-03-09", "DE", 2), ("2025-03-10", "AT", 4)):
        at = datetime.fromisoformat(f"{day}T12:00Z")
        site.write(*({"occurred_at": at + timedelta(minutes=n), "country": country} for n in range(views)))
    site.fold()
    today = Period(date(2026, 3, 10), date(2026, 3, 10), "UTC", "hour")
    for text in ("", "country==DE"):
        found = report(site, today, text, "previous").comparison
        assert found
        assert (found.date_range.start, found.overview.pageviews, len(found.time_series)) == (date(2026, 3, 9), 2, 24)
        assert (found.change.pageviews, found.change.sessions, found.change.bounce_rate) == (50.0, 0.0, None)
    year = report(site, today, "", "year").comparison
    assert year and (year.overview.pageviews, year.change.pageviews) == (4, -25.0)
    assert report(site, today, "country==DE", "year").comparison is None
    assert report(site, Period(date(2026, 3, 9), date(2026, 3, 9), "UTC", "hour"), "", "previous").comparison is None
