"""The analytics report of filtered visits and events, counted from the facts themselves."""

import math
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, TextClause, text
from sqlalchemy.exc import OperationalError

from pulse.errors import Unavailable
from pulse.reports.breakdowns import DIMENSIONS, BreakdownRow, Breakdowns, EventRow, Lists, PageRow, ReferrerRow
from pulse.reports.conditions import event_conditions, visit_conditions
from pulse.reports.filters import EVENT_DIMENSIONS, VISIT_DIMENSIONS, Filters
from pulse.reports.overview import Overview, SeriesPoint, percentage
from pulse.reports.period import Period
from pulse.storage.sql import load_queries

Q = load_queries("filtered")

# A filtered report reads every visit and event of its period: about 1 s for three million events.
TIMEOUT_S = 10.0
# Distinct visitors are exact up to so many visits. Beyond, they are worked out for each value from every second
# (fourth, eighth …) visitor and what these did, which is closer the more alike visitors are: see docs/DECISIONS.md.
SAMPLE_VISITS = 16_384
_CANCELLED = "57014"

_COLUMNS = ("bucket", *VISIT_DIMENSIONS)


@dataclass(frozen=True, slots=True)
class _Part:
    """One statement's conditions and everything its parameters need."""

    conditions: dict[str, str]
    binds: dict[str, Any]


def read_filtered(
    connection: Connection,
    project_id: int,
    period: Period,
    filters: Filters,
    limit: int,
    *,
    now: datetime | None = None,
    timeout_s: float = TIMEOUT_S,
) -> tuple[Overview, list[SeriesPoint], Lists]:
    """Return headline figures, series and lists of the visits and events that pass.

    A visit counts, with all its events that pass, in the bucket it began; one with no event that passes does not count.
    With `limit` 0 no list is counted, which leaves out the dearest part.
    Raises Unavailable when all of it takes longer than `timeout_s`.
    """
    until = time.monotonic() + timeout_s
    labels, bounds = period.buckets()
    part = _prepare(project_id, period, filters, bounds, limit)
    by_event = any(one.dimension in EVENT_DIMENSIONS for one in filters)
    last_at = period.ends_at
    if by_event and last_at < (now or datetime.now(UTC)):
        (row,) = _run(connection, _statement("last_end", part), part.binds, until)
        last_at = row[0] or last_at
    sets = _number_sets(_COLUMNS if limit else _COLUMNS[:1])
    statement = _figures(part, "visits_of_events" if by_event else "whole_visits", sets)
    rows = _run(connection, statement, {**part.binds, "last_at": last_at}, until)
    names = {number: name for name, number in sets.items()}
    by_set: defaultdict[str, list[Row[Any]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.place):
        by_set[names[row.set]].append(row)
    (total,) = by_set["total"]
    lists: defaultdict[str, list[Row[Any]]] = defaultdict(list)
    if total.sessions and limit:
        binds = {**part.binds, "last_at": total.last_at, "mask": _mask(total.sessions)}
        rows = _run(connection, _statement("event_lists", part), binds, until)
        for row in sorted(rows, key=lambda row: row.place):
            lists[row.list].append(row)
    buckets = {int(row.value): row for row in by_set["bucket"]}
    series = [_to_point(label, buckets.get(number)) for number, label in enumerate(labels, start=1)]
    return _to_overview(total), series, _to_lists(by_set, lists)


def _mask(visits: int) -> int:
    """Return the low bits that are zero in the hash of the visitors who are looked at, as block `figures` does."""
    return 2 ** max(0, math.ceil(math.log2(visits / SAMPLE_VISITS))) - 1


def _prepare(project_id: int, period: Period, filters: Filters, bounds: list[datetime], limit: int) -> _Part:
    visit, visit_binds = visit_conditions(filters)
    event, event_binds = event_conditions(filters)
    span = {"project_id": project_id, "starts_at": period.starts_at, "ends_at": period.ends_at}
    shape = {"bounds": bounds, "limit": limit, "sample": SAMPLE_VISITS}
    return _Part(
        {"visit_conditions": visit, "event_conditions": event},
        {**span, **shape, **visit_binds, **event_binds},
    )


def _number_sets(columns: tuple[str, ...]) -> dict[str, int]:
    """Return GROUPING's number of each column grouped by itself, and of the `total`, grouped by none.

    It numbers its arguments from the highest bit down; a grouped column's bit is 0.
    """
    total = 2 ** len(columns) - 1
    return {"total": total} | {name: total ^ (1 << place) for place, name in enumerate(reversed(columns))}


def _statement(name: str, part: _Part) -> TextClause:
    """Put the conditions into a block."""
    block: TextClause = getattr(Q, name)
    return text(block.text.format(**part.conditions))


def _figures(part: _Part, visits: str, sets: dict[str, int]) -> TextClause:
    """Put block `figures` together: the block of its visits, and the columns to group by."""
    columns = [name for name in _COLUMNS if name in sets]
    by_sessions = [sets[name] for name in ("entry_page", "exit_page") if name in sets]
    return text(
        Q.figures.text.format(
            visits=_statement(visits, part).text.partition("*/")[2],
            columns=", ".join(columns),
            sets=", ".join(f"({name})" for name in columns),
            pairs=", ".join(f"({sets[name]}, {name})" for name in columns),
            total=sets["total"],
            bucket=sets["bucket"],
            by_sessions=", ".join(map(str, by_sessions)) or "-1",
        )
    )


def _run(connection: Connection, statement: TextClause, binds: dict[str, Any], until: float) -> list[Row[Any]]:
    left_ms = max(1, round((until - time.monotonic()) * 1000))
    try:
        connection.execute(Q.limit, {"timeout": f"{left_ms}ms"})
        wanted = {name: binds[name] for name in statement.compile().params}
        return list(connection.execute(statement, wanted))
    except OperationalError as error:
        if getattr(error.orig, "pgcode", None) == _CANCELLED:
            raise Unavailable(
                f"The filtered report was not done within {TIMEOUT_S:g} s and was stopped; take a shorter range of"
                " days, or filters that leave fewer visits.",
                retry_after_s=10,
            ) from error
        raise


def _visitors(row: Row[Any], rows: int) -> int:
    """Return the distinct visitors behind `rows` visits or events: exact where all of them were looked at."""
    if row.sampled_rows == rows:
        return int(row.sampled_visitors)
    if not row.sampled_rows:
        return rows  # none of its few visitors is among those looked at
    return max(int(row.sampled_visitors), round(rows * row.sampled_visitors / row.sampled_rows))


def _to_overview(row: Row[Any]) -> Overview:
    sessions = row.sessions
    return Overview(
        pageviews=row.pageviews,
        events=row.events,
        unique_visitors=_visitors(row, sessions),
        sessions=sessions,
        bounce_rate=percentage(row.bounces, sessions),
        avg_session_duration_seconds=round(row.duration_s / sessions, 2) if sessions else 0.0,
        pages_per_session=round(row.pageviews / sessions, 2) if sessions else 0.0,
    )


def _to_point(label: str, row: Row[Any] | None) -> SeriesPoint:
    if row is None:
        return SeriesPoint(label, 0, 0, 0, 0)
    return SeriesPoint(label, row.pageviews, row.events, _visitors(row, row.sessions), row.sessions)


def _to_lists(visits: dict[str, list[Row[Any]]], events: dict[str, list[Row[Any]]]) -> Lists:
    def rows_of(dimension: str) -> list[BreakdownRow]:
        if dimension in EVENT_DIMENSIONS:
            return [BreakdownRow(r.value, r.pageviews, _visitors(r, r.events), 0) for r in events[dimension]]
        return [BreakdownRow(r.value, r.pageviews, _visitors(r, r.sessions), r.sessions) for r in visits[dimension]]

    return Lists(
        top_pages=[
            PageRow(r.value, r.pageviews, _visitors(r, r.events), r.sessions, percentage(r.bounces, r.sessions))
            for r in events["page"]
        ],
        top_referrers=[
            ReferrerRow(r.value, r.pageviews, _visitors(r, r.sessions), r.sessions) for r in visits["referrer"]
        ],
        top_events=[EventRow(r.value, r.events, _visitors(r, r.events)) for r in events["event"]],
        breakdowns=Breakdowns(**{name: rows_of(dimension) for name, dimension in DIMENSIONS.items()}),
    )
