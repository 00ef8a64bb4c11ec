"""Goals counted after the fold: completions of folded batches as they come, and of stored events for a new goal.

Both hold one lock. An event is counted with its batch if the goal is filled in by then; the filling in of a goal counts
the events of all batches that are counted, so that each completion is counted once, whichever comes first.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfoNotFoundError

import msgspec
from sqlalchemy import Connection, Engine, Row

from pulse.rollup.fold import CLOSING
from pulse.rollup.rebuild import first_kept_day
from pulse.storage import changes, sketch
from pulse.storage.localtime import QUARTER_US, LocalClock, clock
from pulse.storage.sql import load_queries

log = logging.getLogger("pulse.rollup")
Q = load_queries("goals")

MAX_BATCHES = 5000
MAX_EVENTS = 20_000


class Place(NamedTuple):
    """A goal's local day."""

    goal_id: int
    day: date


class Figures:
    """What is added to a goal's day."""

    __slots__ = ("campaigns", "completions", "value", "visitors")

    def __init__(self) -> None:
        self.completions = 0
        self.value = Decimal(0)
        self.visitors: set[int] = set()
        self.campaigns: Counter[tuple[str, str, str]] = Counter()

    def add(self, row: Row[Any]) -> None:
        """Count a visitor's completions in; the campaign is that of the session they happened in."""
        self.completions += row.completions
        self.value += row.value
        self.visitors.add(row.visitor)
        if row.utm_campaign is not None:
            self.campaigns[row.utm_campaign, row.utm_source or "", row.utm_medium or ""] += row.completions


def count_all(engine: Engine) -> int:
    """Fill in new goals, then count until no batch waits; return the number of batches."""
    while fill_once(engine) is not None:
        pass
    batches = 0
    while found := count_once(engine):
        batches += found
    return batches


def count_once(engine: Engine, max_events: int = MAX_EVENTS) -> int:
    """Count the goals of the oldest waiting batches, at least one, in one transaction; return how many batches.

    Batches are marked in that transaction: whatever dies, they are counted wholly or not at all.
    """
    with engine.begin() as connection:
        connection.execute(Q.begin_count)
        has_goals = connection.execute(Q.has_goals).scalar_one()
        waiting = connection.execute(Q.waiting_batches, {"max_batches": MAX_BATCHES}).all()
        batches: list[int] = []
        events = 0
        for batch in waiting:
            events += batch.events
            if has_goals and batches and events > max_events:
                break
            batches.append(batch.id)
        if not batches:
            return 0
        days = _count(connection, batches) if has_goals else set()
        connection.execute(Q.mark_counted, {"batches": batches})
        changes.note(connection, days)
    return len(batches)


def _count(connection: Connection, batches: list[int]) -> set[tuple[int, date, date]]:
    """Count the batches; return the past days (project, first, last) that change by it."""
    goals = {row.id: row for row in connection.execute(Q.ready_goals, {"batches": batches})}
    zones = {goal_id: row.timezone for goal_id, row in goals.items()}
    if not zones:
        return set()
    found: defaultdict[Place, Figures] = defaultdict(Figures)
    for row in connection.execute(Q.completions_of_batches, {"batches": batches, "goals": list(zones)}):
        day = _clock(zones[row.goal_id]).place(row.quarter * QUARTER_US).day
        found[Place(row.goal_id, day)].add(row)
    _add(connection, found)
    soon = datetime.now(UTC) + CLOSING
    past = ((goal_id, day) for goal_id, day in found if day < _clock(zones[goal_id]).day(soon))
    return {(goals[goal_id].project_id, day, day) for goal_id, day in past}


def fill_once(engine: Engine) -> int | None:
    """Count what is stored for one goal that is new, changed, or whose project has moved to another time zone.

    Returns the goal's id, None when there is no such goal. One transaction, in which counting of batches waits; folds
    and ingestion go on, and the goal is locked only at the end. A goal changed meanwhile is left for the next call.
    """
    with engine.begin() as connection:
        connection.execute(Q.begin_fill)
        connection.execute(Q.lock_counting)
        goal = connection.execute(Q.goal_to_fill).first()
        if goal is None:
            return None
        found: defaultdict[Place, Figures] = defaultdict(Figures)
        calendar = _clock(goal.timezone)
        first_day = first_kept_day(connection, calendar)
        if goal.first_at is not None:
            day = max(first_day, calendar.day(goal.first_at))
            while day <= calendar.day(goal.last_at):
                _fill_day(connection, goal, calendar, day, found[Place(goal.id, day)])
                day += timedelta(days=1)
        if connection.execute(Q.lock_filled, {"id": goal.id, "revision": goal.revision}).first() is not None:
            connection.execute(Q.delete_daily, {"id": goal.id, "first_day": first_day})
            connection.execute(Q.delete_campaigns, {"id": goal.id, "first_day": first_day})
            _add(connection, found)
            connection.execute(Q.mark_filled, {"id": goal.id, "timezone": goal.timezone})
            changes.note(connection, [(goal.project_id, *changes.EVER)])
    return int(goal.id)


def _fill_day(connection: Connection, goal: Row[Any], calendar: LocalClock, day: date, figures: Figures) -> None:
    span = {"start_at": calendar.day_start(day), "end_at": calendar.day_start(day + timedelta(days=1))}
    place = {"goal_id": goal.id, "project_id": goal.project_id}
    for row in connection.execute(Q.completions_between, {**place, **span}):
        figures.add(row)


def _add(connection: Connection, found: dict[Place, Figures]) -> None:
    """Add figures to what the tables hold."""
    rows = {place: figures for place, figures in found.items() if figures.completions}
    if not rows:
        return
    sketches = _read_sketches(connection, rows)
    daily, campaigns = [], []
    for place, figures in rows.items():
        visitors = sketch.add_visitors(sketches.get(place, sketch.EMPTY), figures.visitors, sketch.HEADLINE_LG_K)
        daily.append(
            {**place._asdict(), "completions": figures.completions, "value": figures.value, "visitors": visitors.hex()}
        )
        for (campaign, source, medium), completions in figures.campaigns.items():
            labels = {"utm_campaign": campaign, "utm_source": source, "utm_medium": medium}
            campaigns.append({**place._asdict(), **labels, "completions": completions})
    connection.execute(Q.add_daily, {"rows": msgspec.json.encode(daily).decode()})
    if campaigns:
        connection.execute(Q.add_campaigns, {"rows": msgspec.json.encode(campaigns).decode()})


def _read_sketches(connection: Connection, places: Iterable[Place]) -> dict[Place, bytes]:
    keys = msgspec.json.encode([place._asdict() for place in places]).decode()
    found = connection.execute(Q.read_sketches, {"keys": keys})
    return {Place(row.goal_id, row.day): bytes(row.visitors) for row in found}


def _clock(zone_name: str) -> LocalClock:
    try:
        return clock(zone_name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        log.error("the unknown time zone %r: its goals' days are counted in UTC", zone_name)
        return clock("UTC")
