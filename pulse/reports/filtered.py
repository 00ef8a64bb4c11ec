"""The analytics report of filtered visits and events, counted from the facts themselves."""

from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import Connection

from pulse.reports.breakdowns import DIMENSIONS, BreakdownRow, Breakdowns, EventRow, Lists, PageRow, ReferrerRow
from pulse.reports.facts import TIMEOUT_S, Reading, Sum
from pulse.reports.filtered_columns import count_columns
from pulse.reports.filtered_rows import count_rows
from pulse.reports.filters import EVENT_DIMENSIONS, Filters
from pulse.reports.overview import Overview, SeriesPoint, percentage
from pulse.reports.period import Period


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
    reading = Reading(connection, timeout_s)
    counted = count_columns(reading, project_id, period, filters, limit)
    if counted is None:
        counted = count_rows(reading, project_id, period, filters, limit, now or datetime.now(UTC))
    labels, _ = period.buckets()
    series = [_to_point(label, counted.buckets.get(number)) for number, label in enumerate(labels, start=1)]
    return _to_overview(counted.total), series, _to_lists(counted.lists)


def _visitors(row: Sum, rows: int) -> int:
    """Return the distinct visitors behind `rows` visits or events: exact where all of them were looked at."""
    if row.sampled_rows == rows:
        return int(row.sampled_visitors)
    if not row.sampled_rows:
        return rows  # none of its few visitors is among those looked at
    return max(int(row.sampled_visitors), round(rows * row.sampled_visitors / row.sampled_rows))


def _to_overview(row: Sum) -> Overview:
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


def _to_point(label: str, row: Sum | None) -> SeriesPoint:
    if row is None:
        return SeriesPoint(label, 0, 0, 0, 0)
    return SeriesPoint(label, row.pageviews, row.events, _visitors(row, row.sessions), row.sessions)


def _to_lists(found: Mapping[str, list[Sum]]) -> Lists:
    def rows_of(dimension: str) -> list[BreakdownRow]:
        rows = found.get(dimension, [])
        if dimension in EVENT_DIMENSIONS:
            return [BreakdownRow(r.value, r.pageviews, _visitors(r, r.events), 0) for r in rows]
        return [BreakdownRow(r.value, r.pageviews, _visitors(r, r.sessions), r.sessions) for r in rows]

    return Lists(
        top_pages=[
            PageRow(r.value, r.pageviews, _visitors(r, r.events), r.sessions, percentage(r.bounces, r.sessions))
            for r in found.get("page", [])
        ],
        top_referrers=[
            ReferrerRow(r.value, r.pageviews, _visitors(r, r.sessions), r.sessions) for r in found.get("referrer", [])
        ],
        top_events=[EventRow(r.value, r.events, _visitors(r, r.events)) for r in found.get("event", [])],
        breakdowns=Breakdowns(**{name: rows_of(dimension) for name, dimension in DIMENSIONS.items()}),
    )
