"""Past weeks added up, so that long reports read a few wide spans instead of every day."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta

import msgspec
from sqlalchemy import Connection, Engine

from pulse.rollup.reading import Q as FOLD
from pulse.storage.sketch import merge_bytes
from pulse.storage.sql import load_queries

Q = load_queries("weeks")

# Events are accepted up to seven days old; a zone's day can end a day after UTC's. Later ones only cost a week anew.
SETTLED_AFTER = timedelta(days=9)
CHUNK = 50


def add_up_weeks(engine: Engine, now: datetime) -> int:
    """Add up the settled weeks that are missing, at most CHUNK of them; return how many.

    One transaction each, in which folds wait: 0.2 s for a week of 24,000 day rows.
    """
    with engine.connect() as connection:
        binds = {"settled_on": (now - SETTLED_AFTER).date(), "limit": CHUNK}
        missing = [(row.project_id, row.week) for row in connection.execute(Q.find_weeks, binds)]
    for project_id, week in missing:
        with engine.begin() as connection:
            connection.execute(FOLD.begin_fold)
            _add_up(connection, project_id, week)
    return len(missing)


def forget_weeks(connection: Connection, days: Iterable[tuple[int, date]], now: datetime) -> None:
    """Delete the added-up weeks of days that are about to change; nearly always there are none that old."""
    settled_on = (now - SETTLED_AFTER).date()
    old = {(project_id, day - timedelta(days=day.weekday())) for project_id, day in days}
    old = {(project_id, week) for project_id, week in old if week + timedelta(days=7) <= settled_on + timedelta(days=1)}
    if old:
        project_ids, weeks = zip(*sorted(old), strict=True)
        connection.execute(Q.forget_weeks, {"project_ids": list(project_ids), "weeks": list(weeks)})


def _add_up(connection: Connection, project_id: int, week: date) -> None:
    rows = []
    for row in connection.execute(Q.read_week, {"project_id": project_id, "week": week}):
        joined, sketches, at = bytes(row.sketches), [], 0
        for length in row.lengths:
            sketches.append(joined[at : at + length])
            at += length
        counts = {name: getattr(row, name) for name in ("pageviews", "events", "sessions", "bounces", "duration_ms")}
        visitors = merge_bytes(sketches).hex()
        rows.append({"dimension": row.dimension, "value": row.value, **counts, "visitors": visitors})
    binds = {"project_id": project_id, "week": week, "rows": msgspec.json.encode(rows).decode()}
    connection.execute(Q.write_week, binds)
