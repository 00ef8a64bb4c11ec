"""The lists of a report: the first values of every dimension."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Row

from pulse.reports.leading import find_leaders
from pulse.reports.overview import percentage
from pulse.reports.period import Period
from pulse.reports.visitors import count_joined
from pulse.storage.heads import MOST, read_spans
from pulse.storage.sql import load_queries
from pulse.storage.turns import read_in_steps, yield_to_requests

Q = load_queries("breakdowns")


class PageRow(Struct, rename="camel", frozen=True):
    """A page; sessions and bounce rate are of the sessions that entered there."""

    path: str
    pageviews: int
    unique_visitors: int
    sessions: int
    bounce_rate: float  # percent, two decimals


class ReferrerRow(Struct, rename="camel", frozen=True):
    """A page on another site that led here, as host and path."""

    referrer: str
    pageviews: int
    unique_visitors: int
    sessions: int


class BreakdownRow(Struct, rename="camel", frozen=True):
    """A value of a dimension."""

    name: str
    pageviews: int
    unique_visitors: int
    sessions: int


class EventRow(Struct, rename="camel", frozen=True):
    """A kind of event that is not a pageview: its name, else its type."""

    name: str
    events: int
    unique_visitors: int


class Breakdowns(Struct, rename="camel", frozen=True):
    """The remaining dimensions: most pageviews first, entry and exit pages most sessions first, then by name."""

    devices: list[BreakdownRow]
    browsers: list[BreakdownRow]
    operating_systems: list[BreakdownRow]
    countries: list[BreakdownRow]
    regions: list[BreakdownRow]
    cities: list[BreakdownRow]
    languages: list[BreakdownRow]
    screens: list[BreakdownRow]
    channels: list[BreakdownRow]
    sources: list[BreakdownRow]
    utm_sources: list[BreakdownRow]
    utm_mediums: list[BreakdownRow]
    utm_campaigns: list[BreakdownRow]
    utm_terms: list[BreakdownRow]
    utm_contents: list[BreakdownRow]
    entry_pages: list[BreakdownRow]
    exit_pages: list[BreakdownRow]
    hostnames: list[BreakdownRow]


# Field of Breakdowns -> dimension of summary_daily.
DIMENSIONS = {
    "devices": "device",
    "browsers": "browser",
    "operating_systems": "os",
    "countries": "country",
    "regions": "region",
    "cities": "city",
    "languages": "language",
    "screens": "screen",
    "channels": "channel",
    "sources": "source",
    "utm_sources": "utm_source",
    "utm_mediums": "utm_medium",
    "utm_campaigns": "utm_campaign",
    "utm_terms": "utm_term",
    "utm_contents": "utm_content",
    "entry_pages": "entry_page",
    "exit_pages": "exit_page",
    "hostnames": "hostname",
}


class Lists(Struct, frozen=True):
    """Every list of a report."""

    top_pages: list[PageRow]
    top_referrers: list[ReferrerRow]
    top_events: list[EventRow]
    breakdowns: Breakdowns


# Every dimension that has a list.
LISTED = ["page", "referrer", "event", *DIMENSIONS.values()]
# What a list is ordered by, where it is not pageviews.
_WEIGHTS = {"event": attrgetter("events"), "entry_page": attrgetter("sessions"), "exit_page": attrgetter("sessions")}
_PAGEVIEWS = attrgetter("pageviews")
# Spans without heads are ranked for the report alone: today, and what the background worker has not come to yet.
MOST_UNRANKED = 3


class _Value(Struct):
    name: str
    pageviews: int
    events: int
    sessions: int
    bounces: int
    visitors: int


def read_lists(connection: Connection, project_id: int, period: Period, limit: int) -> Lists:
    """Return the first `limit` values of every dimension.

    Where the heads of the spans tell which values those can be, these alone are read; else all are added up in SQL. The
    figures come from the summaries either way.
    """
    values: defaultdict[str, list[_Value]] = defaultdict(list)
    for row in _read_rows(connection, project_id, period, limit):
        yield_to_requests()
        # An estimate, but never more than there are events; entry and exit pages have sessions alone.
        visitors = min(count_joined(row.sketches, row.lengths), row.events or row.sessions)
        values[row.dimension].append(
            _Value(row.value, row.pageviews, row.events, row.sessions, row.bounces, visitors)
        )
    return Lists(
        top_pages=[
            PageRow(v.name, v.pageviews, v.visitors, v.sessions, percentage(v.bounces, v.sessions))
            for v in values["page"]
        ],
        top_referrers=[ReferrerRow(v.name, v.pageviews, v.visitors, v.sessions) for v in values["referrer"]],
        top_events=[EventRow(v.name, v.events, v.visitors) for v in values["event"]],
        breakdowns=Breakdowns(
            **{
                name: [BreakdownRow(v.name, v.pageviews, v.visitors, v.sessions) for v in values[dimension]]
                for name, dimension in DIMENSIONS.items()
            }
        ),
    )


def _read_rows(connection: Connection, project_id: int, period: Period, limit: int) -> Iterator[Row[Any]]:
    """Give out the rows to be shown, those of a dimension in order."""
    binds = {"project_id": project_id, "start": period.start, "end": period.end}
    spans = read_spans(connection, project_id, period.start, period.end, MOST_UNRANKED) if limit <= MOST // 2 else None
    unknown = LISTED
    if spans is not None:
        candidates, unknown = find_leaders(spans, limit, LISTED)
        yield_to_requests()
        wanted = [(dimension, value) for dimension, values in candidates.items() for value in values]
        if wanted:
            dimensions, values = map(list, zip(*wanted, strict=True))
            rows = connection.execute(Q.values, {**binds, "dimensions": dimensions, "values": values})
            yield from _take_first(read_in_steps(rows, 16), limit)
    if unknown:
        rows = connection.execute(Q.top_values, {**binds, "dimensions": unknown, "limit": limit})
        yield from sorted(read_in_steps(rows, 16), key=attrgetter("place"))


def _take_first(rows: Iterable[Row[Any]], limit: int) -> Iterator[Row[Any]]:
    """Give out the first rows of each dimension, in the order that block `top_values` has."""
    found: defaultdict[str, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        found[row.dimension].append(row)
    for dimension, some in found.items():
        weight = _WEIGHTS.get(dimension, _PAGEVIEWS)
        yield from sorted(some, key=lambda row: (-weight(row), row.value))[:limit]
