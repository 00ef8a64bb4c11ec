"""Goals against recounts from the raw events, however events and goals come in turn."""

import random
import threading
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from pulse.reports.goals import (
    EventGoal,
    GoalDefinition,
    GoalFigures,
    PageGoal,
    ValueGoal,
    change_goal,
    create_goal,
    delete_goal,
    get_goal,
    goal_report,
    goals_report,
    list_goals,
    recount_goals,
)
from pulse.reports.period import Period
from pulse.rollup.fold import fold_once
from pulse.rollup.goals import count_all, count_once, fill_once
from tests.db.reports.conftest import Site, add_site, make_visits
from tests.db.reports.test_analytics import sessions_of

FIRST = datetime(2026, 3, 27, 12, tzinfo=UTC)
WIDE = Period(date(2026, 3, 1), date(2026, 4, 30), "UTC", "day")
SIGNUP = EventGoal(name="Sign-up", event_name="signup")
DEFINITIONS: list[GoalDefinition] = [
    SIGNUP,
    EventGoal(name="Custom", event_type="custom"),
    EventGoal(name="Both", event_type="custom", event_name="signup"),
    EventGoal(name="Pageviews", event_type="pageview"),
    PageGoal(name="Page a", path="/a"),
    PageGoal(name="Every page", path="/*"),
    ValueGoal(name="Price", value_key="price"),
    ValueGoal(name="Price of sign-ups", value_key="price", event_name="signup"),
]


def matches(goal: GoalDefinition, row: dict[str, Any]) -> bool:
    if row["event_type"] == "engagement":
        return False
    if isinstance(goal, PageGoal):
        return row["event_type"] == "pageview" and (goal.path == "/*" or row["path"] == goal.path)
    if isinstance(goal, ValueGoal) and not isinstance((row.get("custom_data") or {}).get(goal.value_key), int | float):
        return False
    return goal.event_name in (None, row.get("event_name")) and goal.event_type in (None, row["event_type"])


def recount(site: Site, goal: GoalDefinition, period: Period) -> tuple[int, int, float]:
    zone = ZoneInfo(site.timezone)
    found = [
        row for row in site.history
        if matches(goal, row) and period.start <= row["occurred_at"].astimezone(zone).date() <= period.end
    ]  # fmt: skip
    value = sum(row["custom_data"][goal.value_key] for row in found) if isinstance(goal, ValueGoal) else 0
    return len(found), len({row["visitor"] for row in found}), value


def read(site: Site, period: Period = WIDE) -> list[GoalFigures]:
    with site.engine.connect() as connection:
        goals = list_goals(connection, site.project_id)
        return goals_report(connection, site.project_id, period, goals).goals


def make(site: Site, definition: GoalDefinition) -> int:
    with site.engine.begin() as connection:
        return create_goal(connection, site.project_id, definition).id


def shown(goal: GoalFigures) -> tuple[int, int, float]:
    return goal.completions, goal.unique_visitors, goal.value


@pytest.mark.parametrize("site", ["Europe/Berlin", "Asia/Kolkata"], indirect=True)
@pytest.mark.parametrize("seed", range(4))
def test_every_completion_counts_once(site: Site, seed: int) -> None:
    """Batches, folds, counts and new goals in random order end in what a recount says."""
    chance = random.Random(seed)
    events = make_visits(seed, FIRST, 96, 150)
    for row in events:
        if chance.random() < 0.4:
            row["custom_data"] = {"price": chance.choice([1, 2.5, -3, "12", None, [1]])}
    chance.shuffle(events)
    waiting = list(DEFINITIONS)
    chance.shuffle(waiting)
    made = []
    while events or waiting:
        step = chance.randrange(5)
        if step == 0 and waiting:
            made.append(waiting.pop())
            make(site, made[-1])
        elif step == 1:
            fold_once(site.engine, max_events=40)
        elif step == 2:
            count_once(site.engine, max_events=30)
        elif step == 3:
            fill_once(site.engine)
        elif events:
            size = chance.randrange(1, 60)
            site.write(*events[:size])
            del events[:size]
    site.fold()
    count_all(site.engine)
    for period in (WIDE, Period(date(2026, 3, 29), date(2026, 3, 29), site.timezone, "day")):
        assert [shown(goal) for goal in read(site, period)] == [recount(site, goal, period) for goal in made]
    assert {goal.status for goal in read(site)} == {"ready"}


def test_campaign_completions_equal_a_recount(site: Site) -> None:
    make(site, SIGNUP)
    site.write(*make_visits(5, FIRST, 96, 200))
    site.fold()
    count_all(site.engine)
    wanted: Counter[tuple[str, str, str]] = Counter()
    for visit in sessions_of(site.history):
        key = tuple(visit[0].get(column) or "" for column in ("utm_campaign", "utm_source", "utm_medium"))
        wanted[key] += sum(matches(SIGNUP, row) for row in visit) if key[0] else 0  # type: ignore[index]
    with site.engine.connect() as connection:
        found = connection.execute(text(
            "SELECT utm_campaign, utm_source, utm_medium, sum(completions) FROM goal_campaigns GROUP BY 1, 2, 3"
        )).all()  # fmt: skip
    assert {tuple(row[:3]): row[3] for row in found} == +wanted


def test_rate_is_of_all_visitors(site: Site) -> None:
    make(site, PageGoal(name="Paid", path="/paid/*"))
    at = FIRST
    site.write(*({"visitor": n, "occurred_at": at, "path": "/paid/1" if n < 3 else "/"} for n in range(8)))
    site.fold()
    count_all(site.engine)
    [goal] = read(site)
    assert (goal.completions, goal.unique_visitors, goal.conversion_rate) == (3, 3, 37.5)


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("/a", "/a", True), ("/a", "/A", False), ("/a", "/a/b", False), ("/a*", "/a/b/c", True),
        ("*/c", "/a/b/c", True), ("/*/c", "/a/b/c", True), ("/*/d", "/a/b/c", False),
        ("/a_c", "/abc", False), ("/a%", "/abc", False), ("/a%*", "/a%b", True),
        ("/a\\*", "/a\\b", True), ("/a\\*", "/ab", False),
    ],
)  # fmt: skip
def test_patterns(site: Site, pattern: str, path: str, fits: bool) -> None:
    make(site, PageGoal(name="Page", path=pattern))
    site.write({"occurred_at": FIRST, "path": path})
    site.fold()
    count_all(site.engine)
    assert read(site)[0].completions == int(fits)


def test_strange_numbers_stop_nothing(site: Site) -> None:
    make(site, ValueGoal(name="Price", value_key="price"))
    count_all(site.engine)
    numbers = [1.5, 10**30, 1e300, -0.1234567]
    site.write(*({"visitor": n, "occurred_at": FIRST, "custom_data": {"price": v}} for n, v in enumerate(numbers)))
    site.fold()
    count_all(site.engine)
    assert shown(read(site)[0]) == (4, 4, 1.376543)


def test_a_changed_goal_is_counted_anew_and_a_renamed_one_stays(site: Site) -> None:
    goal_id = make(site, PageGoal(name="Page", path="/a"))
    site.write({"occurred_at": FIRST, "path": "/a"}, {"occurred_at": FIRST, "path": "/b", "visitor": 2})
    site.fold()
    count_all(site.engine)
    with site.engine.begin() as connection:
        assert change_goal(connection, site.project_id, goal_id, PageGoal(name="New name", path="/a")).status == "ready"
    assert shown(read(site)[0]) == (1, 1, 0)
    with site.engine.begin() as connection:
        assert change_goal(connection, site.project_id, goal_id, PageGoal(name="Page", path="/*")).status == "counting"
    assert shown(read(site)[0]) == (0, 0, 0)
    count_all(site.engine)
    assert shown(read(site)[0]) == (2, 2, 0)


def test_days_follow_the_project_to_another_time_zone(site: Site) -> None:
    make(site, PageGoal(name="Page", path="/"))
    site.write({"occurred_at": datetime(2026, 3, 10, 23, tzinfo=UTC)})
    site.fold()
    count_all(site.engine)
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE projects SET timezone = 'Asia/Tokyo'"))
    assert read(site)[0].status == "counting"
    count_all(site.engine)
    with site.engine.connect() as connection:
        goal = get_goal(connection, site.project_id, read(site)[0].id)
        points = goal_report(connection, site.project_id, WIDE, goal).time_series
    assert [(point.period, point.completions) for point in points] == [(date(2026, 3, 11), 1)]


def test_a_recount_changes_nothing(site: Site) -> None:
    make(site, SIGNUP)
    site.write(*make_visits(1, FIRST, 48, 60))
    site.fold()
    count_all(site.engine)
    before = read(site)
    with site.engine.begin() as connection:
        recount_goals(connection, site.project_id)
    count_all(site.engine)
    assert before[0].completions > 0 and read(site) == before


def test_deletion_takes_the_figures_along(site: Site) -> None:
    goal_id = make(site, PageGoal(name="Page", path="/"))
    site.write({"occurred_at": FIRST, "utm_campaign": "spring"})
    site.fold()
    count_all(site.engine)
    with site.engine.begin() as connection:
        delete_goal(connection, site.project_id, goal_id)
        left = text("SELECT goal_id FROM goal_daily UNION ALL SELECT goal_id FROM goal_campaigns")
        rows = connection.execute(left).all()
    assert rows == []


def test_goals_count_their_own_project_alone(site: Site) -> None:
    other = add_site(site.engine, "UTC")
    make(site, PageGoal(name="Page", path="/"))
    other.write({"occurred_at": FIRST})
    other.fold()
    count_all(site.engine)
    assert read(site)[0].completions == 0


def test_a_goal_changed_while_it_is_filled_in_is_filled_in_again(site: Site) -> None:
    goal_id = make(site, PageGoal(name="Page", path="/a"))
    site.write({"occurred_at": FIRST, "path": "/a"}, {"occurred_at": FIRST, "path": "/b", "visitor": 2})
    site.fold()
    while count_once(site.engine):
        pass
    with site.engine.begin() as blocker:
        change_goal(blocker, site.project_id, goal_id, PageGoal(name="Page", path="/*"))
        filling = threading.Thread(target=fill_once, args=(site.engine,))  # has seen the old goal, and waits for it
        filling.start()
        with site.engine.connect() as watcher:
            waits = text("SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
                         " WHERE NOT granted AND query LIKE '%lock_filled%'")  # fmt: skip
            while not watcher.execute(waits).scalar():
                watcher.rollback()
    filling.join()
    count_all(site.engine)
    assert shown(read(site)[0]) == (2, 2, 0)


def test_folding_goes_on_while_a_goal_is_filled_in(site: Site) -> None:
    make(site, PageGoal(name="Page", path="/"))
    with site.engine.begin() as filling:
        filling.execute(text("SELECT pg_advisory_xact_lock(7204461150981874)"))
        site.write({"occurred_at": FIRST, "visitor": 4}, {"occurred_at": FIRST + timedelta(days=1), "visitor": 5})
        assert fold_once(site.engine).events == 2
    count_all(site.engine)
    assert read(site)[0].completions == 2
