"""Campaign reports against recounts from the raw events."""

import re
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import event, text

from pulse.errors import Invalid
from pulse.reports.campaign_comparison import compare_campaigns, read_names
from pulse.reports.campaigns import (
    CampaignRow,
    Q,
    campaigns,
    top_campaigns,
)
from pulse.reports.goals import EventGoal, PageGoal, create_goal
from pulse.reports.period import Period, resolve
from pulse.rollup import writing
from pulse.rollup.goals import count_all
from tests.db.reports.conftest import Site, make_visits
from tests.db.reports.test_analytics import sessions_of

FIRST = datetime(2026, 3, 27, 12, tzinfo=UTC)
MARCH = Period(date(2026, 3, 28), date(2026, 3, 31), "Europe/Berlin", "day")
Visit = list[dict[str, Any]]


@pytest.fixture
def history(site: Site) -> Site:
    """Five days of visits over the change to summer time, folded."""
    site.write(*make_visits(3, FIRST, 120, 400))
    site.fold()
    return site


def visits_of(site: Site, period: Period) -> list[Visit]:
    """The visits of a period that a campaign brought; a visit of engagement alone is none."""
    zone = ZoneInfo(site.timezone)
    return [
        visit
        for visit in sessions_of(site.history)
        if visit[0].get("utm_campaign")
        and any(row["event_type"] != "engagement" for row in visit)
        and period.start <= visit[0]["occurred_at"].astimezone(zone).date() <= period.end
    ]


def figures(visits: list[Visit]) -> tuple[int, int, int, float, float]:
    real = [[row for row in visit if row["event_type"] != "engagement"] for visit in visits]
    pageviews = sum(row["event_type"] == "pageview" for visit in real for row in visit)
    bounces = sum(len(visit) == 1 and visit[0]["event_type"] == "pageview" for visit in real)
    seconds = sum((visit[-1]["occurred_at"] - visit[0]["occurred_at"]).total_seconds() for visit in visits)
    count = len(visits)
    visitors = len({visit[0]["visitor"] for visit in visits})
    return count, pageviews, visitors, round(100 * bounces / count, 2), round(seconds / count, 2)


def group(visits: list[Visit], *columns: str) -> dict[tuple[Any, ...], list[Visit]]:
    found = defaultdict(list)
    for visit in visits:
        found[tuple(visit[0].get(column) for column in columns)].append(visit)
    return found


@pytest.mark.parametrize("site", ["Europe/Berlin"], indirect=True)
def test_list_equals_a_recount(history: Site) -> None:
    with history.engine.connect() as connection:
        report = campaigns(connection, history.project_id, MARCH, 100)
    wanted = group(visits_of(history, MARCH), "utm_campaign", "utm_source", "utm_medium")
    assert len(wanted) > 10
    found = {(row.campaign, row.source, row.medium): row for row in report.campaigns}
    assert {key: figures_of(row) for key, row in found.items()} == {key: figures(rows) for key, rows in wanted.items()}
    assert [row.sessions for row in report.campaigns] == sorted((len(rows) for rows in wanted.values()), reverse=True)
    assert {row.conversions for row in report.campaigns} == {None}


def figures_of(row: CampaignRow | Any) -> tuple[int, int, int, float, float]:
    return row.sessions, row.pageviews, row.unique_visitors, row.bounce_rate, row.avg_session_duration_seconds


@pytest.mark.parametrize("site", ["Europe/Berlin"], indirect=True)
def test_top_counts_visitors_of_all_sources_once(history: Site) -> None:
    with history.engine.connect() as connection:
        report = top_campaigns(connection, history.project_id, MARCH, "visitors", 1)
        everything = top_campaigns(connection, history.project_id, MARCH, "visitors", 10)
    wanted = group(visits_of(history, MARCH), "utm_campaign")
    found = {(row.campaign,): figures_of(row) for row in everything.campaigns}
    assert found == {key: figures(rows) for key, rows in wanted.items()}
    assert report.campaigns == everything.campaigns[:1]
    assert report.campaigns[0].unique_visitors == max(figures(rows)[2] for rows in wanted.values())


@pytest.mark.parametrize("site", ["Europe/Berlin"], indirect=True)
@pytest.mark.parametrize("granularity", ["hour", "day", "week"])
def test_comparison_equals_two_reports(history: Site, granularity: Any) -> None:
    period = Period(date(2026, 3, 29), date(2026, 3, 30), "Europe/Berlin", granularity)
    with history.engine.connect() as connection:
        names = ["utm_campaign 2", "nobody", "utm_campaign 1"]
        found = compare_campaigns(connection, history.project_id, period, names)
    assert [row.campaign for row in found.campaigns] == names
    assert (found.previous_date_range.start, found.previous_date_range.end) == (date(2026, 3, 27), date(2026, 3, 28))
    for row in found.campaigns[::2]:
        now = group(visits_of(history, period), "utm_campaign")[row.campaign,]
        before = group(visits_of(history, period.previous()), "utm_campaign")[row.campaign,]
        assert figures_of(row.current) == figures(now)
        assert figures_of(row.previous) == figures(before)
        assert row.change.sessions == round(100 * (len(now) - len(before)) / len(before), 2)
        assert len(row.time_series) == {"hour": 47, "day": 2, "week": 2}[granularity]  # the night loses an hour
        assert sum(point.sessions for point in row.time_series) == len(now)
        wanted = group_by_bucket(now, granularity)
        points = [point for point in row.time_series if point.sessions]
        assert {point.period: (point.sessions, point.unique_visitors) for point in points} == wanted
    nobody = found.campaigns[1]
    assert figures_of(nobody.current) == (0, 0, 0, 0.0, 0.0)
    assert nobody.change.sessions is None


def group_by_bucket(visits: list[Visit], granularity: str) -> dict[str, tuple[int, int]]:
    found = defaultdict(list)
    for visit in visits:
        local = visit[0]["occurred_at"].astimezone(ZoneInfo("Europe/Berlin"))
        if granularity == "hour":
            label = local.replace(minute=0, second=0, microsecond=0).isoformat()
        else:
            label = str(local.date() - timedelta(days=local.weekday() if granularity == "week" else 0))
        found[label].append(visit[0]["visitor"])
    return {label: (len(visitors), len(set(visitors))) for label, visitors in found.items()}


def test_without_names_the_best_are_compared(history: Site) -> None:
    period = resolve("2026-03-28", "2026-03-31", None, "UTC", FIRST)
    with history.engine.connect() as connection:
        found = compare_campaigns(connection, history.project_id, period, None)
    sessions = [row.current.sessions for row in found.campaigns]
    assert len(sessions) == 2 and sessions == sorted(sessions, reverse=True)


def test_conversions_belong_to_the_campaign_of_their_session(site: Site) -> None:
    with site.engine.begin() as connection:
        create_goal(connection, site.project_id, EventGoal(name="Sign-up", event_name="signup"))
    at = datetime(2026, 5, 5, 10, tzinfo=UTC)
    ad = {"utm_campaign": "spring", "utm_source": "news"}
    signup = {"event_type": "custom", "event_name": "signup"}
    site.write(
        {"visitor": 1, "occurred_at": at, **ad},
        # Later events of a visit carry no campaign of their own.
        {"visitor": 1, "occurred_at": at + timedelta(minutes=5), **signup},
        {"visitor": 1, "occurred_at": at + timedelta(minutes=6), **signup},
        {"visitor": 1, "occurred_at": at + timedelta(hours=5), **signup},
        {"visitor": 2, "occurred_at": at, "utm_campaign": "autumn"},
        {"visitor": 3, "occurred_at": at, **signup},
    )
    site.fold()
    count_all(site.engine)
    period = resolve("2026-05-05", "2026-05-05", None, "UTC", at)
    with site.engine.connect() as connection:
        listed = campaigns(connection, site.project_id, period)
        best = top_campaigns(connection, site.project_id, period, "conversions")
        compared = compare_campaigns(connection, site.project_id, period, ["autumn", "spring"])
    assert {(row.campaign, row.source): row.conversions for row in listed.campaigns} == {
        ("spring", "news"): 2, ("autumn", None): 0,
    }  # fmt: skip
    assert [row.campaign for row in best.campaigns] == ["spring", "autumn"]
    assert [row.current.conversions for row in compared.campaigns] == [0, 2]


def test_labels_longer_than_an_index_entry(site: Site) -> None:
    at = datetime(2026, 5, 5, 10, tzinfo=UTC)
    # Random, or the index would compress them.
    long = "".join(chr(0x4E00 + n * 7919 % 20_000) for n in range(255))
    site.write({"occurred_at": at, "utm_campaign": long, "utm_source": long[::-1], "utm_medium": long[5:]})
    site.write({"occurred_at": at, "visitor": 2, "utm_campaign": "short"})
    site.fold()
    with site.engine.connect() as connection:
        found = campaigns(connection, site.project_id, resolve("2026-05-05", "2026-05-05", None, "UTC", at))
    assert [row.campaign for row in found.campaigns] == ["short", long]


def test_sessions_a_late_event_gives_to_another_campaign(site: Site) -> None:
    at = datetime(2026, 5, 5, 10, tzinfo=UTC)
    site.write({"occurred_at": at, "utm_campaign": "second"}, {"occurred_at": at, "visitor": 2, "utm_campaign": "b"})
    site.fold()
    site.write({"occurred_at": at - timedelta(minutes=5), "utm_campaign": "first"})
    site.fold()
    with site.engine.connect() as connection:
        found = campaigns(connection, site.project_id, resolve("2026-05-05", "2026-05-05", None, "UTC", at))
    assert [(row.campaign, row.sessions, row.pageviews, row.unique_visitors) for row in found.campaigns] == [
        ("b", 1, 1, 1), ("first", 1, 2, 1),
    ]  # fmt: skip


def test_most_visitors_are_found_behind_campaigns_of_more_sessions(site: Site) -> None:
    at = datetime(2026, 5, 5, tzinfo=UTC)
    # 30 campaigns of one visitor who comes three times, and behind them one of two visitors who come once.
    for number in range(30):
        loyal = {"visitor": number, "utm_campaign": f"loyal {number:02}"}
        site.write(*({**loyal, "occurred_at": at + timedelta(hours=hour)} for hour in (1, 3, 5)))
    site.write(*({"visitor": visitor, "utm_campaign": "wide", "occurred_at": at} for visitor in (100, 101)))
    site.fold()
    period = resolve("2026-05-05", "2026-05-05", None, "UTC", at)
    with site.engine.connect() as connection:
        best = top_campaigns(connection, site.project_id, period, "visitors", 2).campaigns
        most = top_campaigns(connection, site.project_id, period, "sessions", 2).campaigns
    assert [(row.campaign, row.unique_visitors) for row in best] == [("wide", 2), ("loyal 00", 1)]
    assert [row.campaign for row in most] == ["loyal 00", "loyal 01"]


def test_campaigns_beyond_the_values_of_a_day_are_counted_together(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MAX_VALUES", 2)
    with site.engine.begin() as connection:
        create_goal(connection, site.project_id, PageGoal(name="Any page", path="/*"))
    at = datetime(2026, 5, 5, 10, tzinfo=UTC)
    for visitor in range(5):
        named = {"visitor": visitor, "utm_campaign": f"c{visitor}", "occurred_at": at}
        site.write(*({**named, "id": uuid4()} for _ in range(5 - visitor)))
    site.fold()
    count_all(site.engine)
    with site.engine.connect() as connection:
        found = campaigns(connection, site.project_id, resolve("2026-05-05", "2026-05-05", None, "UTC", at))
    assert [(row.campaign, row.sessions, row.pageviews, row.conversions) for row in found.campaigns] == [
        ("(other)", 3, 6, 6), ("c0", 1, 5, 5), ("c1", 1, 4, 4),
    ]  # fmt: skip


def test_reports_read_no_sessions(history: Site) -> None:
    """But for hours, which summaries don't hold: however many events there are, the cost is that of days and values."""
    seen: list[str] = []
    event.listen(history.engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    with history.engine.connect() as connection:
        campaigns(connection, history.project_id, MARCH)
        top_campaigns(connection, history.project_id, MARCH, "visitors")
        compare_campaigns(connection, history.project_id, MARCH, None)
    assert len(seen) == 7
    assert not [statement for statement in seen if re.search(r"FROM (sessions|events)\b", statement)]


def test_hours_are_read_through_an_index(history: Site) -> None:
    with history.engine.connect() as connection:
        connection.exec_driver_sql("SET enable_seqscan = off")
        span = {"starts_at": FIRST, "ends_at": FIRST + timedelta(days=2), "hours": [FIRST]}
        binds = {"project_id": history.project_id, "campaigns": ["a"], **span}
        plan = "\n".join(connection.execute(text("EXPLAIN " + Q.compare_hours.text), binds).scalars())
    assert "sessions_2026_03_project_id_started_at_idx" in plan


@pytest.mark.parametrize(
    ("given", "names"),
    [("a,b", ["a", "b"]), (" a , a,", ["a"]), (r"a\,b,c", ["a,b", "c"]), (None, None)],
)
def test_names_are_split_at_commas(given: str | None, names: list[str] | None) -> None:
    assert read_names(given) == names


@pytest.mark.parametrize("given", [",", ",".join("abcdefghijk")])
def test_too_few_or_many_names(given: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_names(given)
    assert caught.value.details[0].field == "campaigns"
