"""Headline figures of a period and their series over time."""

from collections import defaultdict
from datetime import date, datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Row

from pulse.reports.period import Period
from pulse.storage.sketch import estimate
from pulse.storage.sql import load_queries
from pulse.storage.turns import read_in_steps, yield_to_requests

Q = load_queries("overview")

_SUMS = ("pageviews", "events", "sessions", "bounces", "duration_ms")


class Overview(Struct, rename="camel", frozen=True):
    """Figures of the whole period; rates are 0 where there is no session."""

    pageviews: int
    events: int
    unique_visitors: int
    sessions: int
    bounce_rate: float  # percent, two decimals
    avg_session_duration_seconds: float  # two decimals
    pages_per_session: float  # two decimals


class SeriesPoint(Struct, rename="camel", frozen=True):
    """Figures of one bucket.

    `period` is the local day the bucket is named after, or for an hour its start as local time with offset.
    """

    period: str
    pageviews: int
    events: int
    unique_visitors: int
    sessions: int


class Figures:
    """Sums of summary rows, and the sketches whose union counts their visitors."""

    def __init__(self) -> None:
        self.pageviews = self.events = self.sessions = self.bounces = self.duration_ms = 0
        self.sketches: list[bytes] = []

    def add(self, row: Row[Any]) -> None:
        """Add one summary row."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(row, name))
        self.sketches.append(bytes(row.visitors))

    def count_visitors(self) -> int:
        """Return the distinct visitors: an estimate, but never more than there are events."""
        yield_to_requests()
        return min(estimate(self.sketches), self.events)

    def to_overview(self) -> Overview:
        """Return the headline figures."""
        return Overview(
            pageviews=self.pageviews,
            events=self.events,
            unique_visitors=self.count_visitors(),
            sessions=self.sessions,
            bounce_rate=percentage(self.bounces, self.sessions),
            avg_session_duration_seconds=round(self.duration_ms / 1000 / self.sessions, 2) if self.sessions else 0.0,
            pages_per_session=round(self.pageviews / self.sessions, 2) if self.sessions else 0.0,
        )

    def to_point(self, period: str) -> SeriesPoint:
        """Return the figures of one bucket."""
        return SeriesPoint(period, self.pageviews, self.events, self.count_visitors(), self.sessions)


def percentage(part: int, whole: int) -> float:
    """Return `part` of `whole` as 0 to 100 with two decimals; 0 of nothing."""
    return round(100 * part / whole, 2) if whole else 0.0


def change(now: float | None, before: float | None) -> float | None:
    """Return the change in percent, two decimals; None where there was nothing to compare with."""
    if now is None or not before:
        return None
    return round(100 * (now - before) / before, 2)


def read_overview(connection: Connection, project_id: int, period: Period) -> tuple[Overview, list[SeriesPoint]]:
    """Return headline figures and series of a period in one statement.

    The series is dense and in order: a bucket without a row is zero. Headline figures are always of day rows, so that
    they don't change with the granularity.
    """
    hours = period.hour_buckets() if period.granularity == "hour" else []
    rows = connection.execute(
        Q.totals,
        {
            "project_id": project_id,
            "start": period.start,
            "days": period.days,
            "hourly": bool(hours),
            "starts_at": hours[0] if hours else period.starts_at,
            "ends_at": period.ends_at,
        },
    )
    whole = Figures()
    buckets: defaultdict[date | datetime, Figures] = defaultdict(Figures)
    for row in read_in_steps(rows, 64):
        if row.day is None:
            buckets[row.starts_at].add(row)
            continue
        whole.add(row)
        if not hours:
            buckets[period.bucket_of(row.day)].add(row)
    if hours:
        return whole.to_overview(), [buckets[at].to_point(period.label_hour(at)) for at in hours]
    return whole.to_overview(), [buckets[day].to_point(day.isoformat()) for day in period.day_buckets()]
