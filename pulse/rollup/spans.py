"""Past weeks and months added up, so that long reports read a few wide spans instead of every day."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Row, TextClause, text

from pulse.rollup.reading import Q as FOLD
from pulse.storage.sketch import merge_bytes
from pulse.storage.sql import load_queries

Q = load_queries("spans")

# Length, as date_trunc and the tables' columns have it, and the table; weeks first: theirs are wanted sooner.
TABLES = {"week": "summary_weekly", "month": "summary_monthly"}
# A zone's day can end half a day after UTC's; what comes later still is added to the spans as well as to its day.
SETTLED_AFTER = timedelta(days=1)
CHUNK = 50
# Rows fetched at a time: a month's sketches of a busy site are some 20 MB, twice that on the wire.
ROWS = 200


def _statement(name: str, length: str) -> TextClause:
    return text(getattr(Q, name).text.format(length=length, table=TABLES[length]))


_STATEMENTS = {
    (name, length): _statement(name, length)
    for name in ("find", "read", "write", "find_of_days", "read_sketches", "add", "forget_between", "remove")
    for length in TABLES
}


def add_up(engine: Engine, now: datetime) -> int:
    """Add up the settled weeks and months that are missing, at most CHUNK of each; return how many.

    One transaction each, in which folds wait: 0.2 s for a week of 24,000 day rows.
    """
    binds = {"settled_on": (now - SETTLED_AFTER).date(), "limit": CHUNK}
    done = 0
    for length in TABLES:
        with engine.connect() as connection:
            missing = connection.execute(_STATEMENTS["find", length], binds).all()
        for project_id, starts_on in missing:
            with engine.begin() as connection:
                connection.execute(FOLD.begin_fold)
                _add_up(connection, length, project_id, starts_on)
        done += len(missing)
    return done


def find_of_days(
    connection: Connection, length: str, days: Iterable[tuple[int, date]], now: datetime
) -> dict[tuple[int, date], date]:
    """Return the first days of the spans that some days lie in and that are added up; young days are not asked for."""
    settled_on = (now - SETTLED_AFTER).date() + timedelta(days=1)  # two clocks need not agree
    old = sorted((project_id, day) for project_id, day in days if _after(length, day) <= settled_on)
    if not old:
        return {}
    project_ids, on = zip(*old, strict=True)
    binds = {"project_ids": list(project_ids), "days": list(on)}
    return {(row[0], row[1]): row[2] for row in connection.execute(_STATEMENTS["find_of_days", length], binds)}


def _after(length: str, day: date) -> date:
    """Return the first day after the span that a day lies in."""
    if length == "week":
        return day + timedelta(days=7 - day.weekday())
    return (day.replace(day=1) + timedelta(days=31)).replace(day=1)


def read_sketches(connection: Connection, length: str, keys: list[dict[str, Any]]) -> Iterable[Row[Any]]:
    """Return the rows (project_id, day, dimension, value, visitors) that exist; a span goes by its first day."""
    return connection.execute(_STATEMENTS["read_sketches", length], {"keys": msgspec.json.encode(keys).decode()})


def add(connection: Connection, length: str) -> None:
    """Add what is staged for the spans of a length."""
    connection.execute(_STATEMENTS["add", length])


def forget_between(connection: Connection, project_id: int, first_day: date, last_day: date) -> None:
    """Delete the added-up spans of all days from the first to the last."""
    binds = {"project_id": project_id, "first_day": first_day, "last_day": last_day}
    for length in TABLES:
        connection.execute(_STATEMENTS["forget_between", length], binds)


def remove(connection: Connection, project_id: int) -> None:
    """Delete all added-up spans of a project."""
    for length in TABLES:
        connection.execute(_STATEMENTS["remove", length], {"project_id": project_id})


def _add_up(connection: Connection, length: str, project_id: int, starts_on: date) -> None:
    place = {"project_id": project_id, "starts_on": starts_on}
    rows = []
    options = {"stream_results": True, "max_row_buffer": ROWS}
    for row in connection.execute(_STATEMENTS["read", length], place, execution_options=options):
        joined, sketches, at = bytes(row.sketches), [], 0
        for size in row.lengths:
            sketches.append(joined[at : at + size])
            at += size
        counts = {name: getattr(row, name) for name in ("pageviews", "events", "sessions", "bounces", "duration_ms")}
        visitors = merge_bytes(sketches).hex()
        rows.append({"dimension": row.dimension, "value": row.value, **counts, "visitors": visitors})
    connection.execute(_STATEMENTS["write", length], {**place, "rows": msgspec.json.encode(rows).decode()})
