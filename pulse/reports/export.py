"""Exports: rows one after the other as CSV or JSON, in constant memory however many there are."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct
from sqlalchemy import Connection, Row, TextClause

from pulse.reports import campaigns
from pulse.reports.events import EventFilters, apply_filters, to_event
from pulse.reports.overview import percentage
from pulse.reports.period import EndDate, Period, StartDate
from pulse.storage.sketch import estimate
from pulse.storage.sql import load_queries

Q = load_queries("export")

# Rows fetched, and sent, at a time: about 200 kB of events.
CHUNK_ROWS = 500

Format = Literal["csv", "json"]
Chunks = Iterator[list[Struct]]

# What spreadsheets take for the beginning of a formula
# (https://owasp.org/www-community/attacks/CSV_Injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class AnalyticsExportQuery(Struct, rename="camel", frozen=True):
    """Query parameters of an export of days or campaigns."""

    start_date: StartDate | None = None
    end_date: EndDate | None = None
    format: Annotated[Format, Meta(description="csv, or json as {success, data: [row, …]}")] = "csv"


class CampaignsExportQuery(AnalyticsExportQuery, rename="camel", frozen=True):
    """Query parameters of an export of campaigns."""


class EventsExportQuery(EventFilters, rename="camel", frozen=True):
    """Query parameters of an export of events."""

    start_date: StartDate | None = None
    end_date: EndDate | None = None
    format: Annotated[Format, Meta(description="csv, or json as {success, data: [row, …]}")] = "csv"


class DayRow(Struct, rename="camel", frozen=True):
    """The headline figures of a day in the project's time zone."""

    date: date
    pageviews: int
    events: int
    unique_visitors: int
    sessions: int
    bounce_rate: float  # percent, two decimals
    avg_session_duration_seconds: float
    pages_per_session: float


def read_days(connection: Connection, project_id: int, period: Period) -> Chunks:
    """Give out every day of a period, in order."""
    binds = {"project_id": project_id, "start": period.start, "days": period.days}
    return stream(connection, Q.days, binds, _to_day)


def read_events(connection: Connection, project_id: int, period: Period, filters: EventFilters) -> Chunks:
    """Give out the events of a period that pass the filters, oldest first, equal times by id."""
    statement, binds = apply_filters(Q.events, filters)
    binds.update(project_id=project_id, starts_at=period.starts_at, ends_at=period.ends_at)
    return stream(connection, statement, binds, to_event)


def read_campaigns(connection: Connection, project_id: int, period: Period) -> Chunks:
    """Give out all campaigns of a period by source and medium, most sessions first."""
    has_goals = campaigns.has_goals(connection, project_id)
    binds = campaigns.bind(project_id, period, split=True, metric="sessions", limit=None)
    return stream(connection, campaigns.Q.campaigns, binds, lambda row: campaigns.to_row(row, has_goals))


def stream(connection: Connection, statement: TextClause, binds: dict[str, Any], convert: Any) -> Chunks:
    """Give out the rows of a statement, each converted, a chunk at a time."""
    # A cursor in the server: the statement's time limit is then one of each fetch, not of the whole export.
    options = {"stream_results": True, "max_row_buffer": CHUNK_ROWS}
    result = connection.execute(statement, binds, execution_options=options)
    for rows in result.partitions(CHUNK_ROWS):
        yield [convert(row) for row in rows]


def _to_day(row: Row[Any]) -> DayRow:
    visitors = min(estimate([bytes(row.visitors)]), row.events)
    sessions = row.sessions
    return DayRow(
        date=row.day,
        pageviews=row.pageviews,
        events=row.events,
        unique_visitors=visitors,
        sessions=sessions,
        bounce_rate=percentage(row.bounces, sessions),
        avg_session_duration_seconds=round(row.duration_ms / 1000 / sessions, 2) if sessions else 0.0,
        pages_per_session=round(row.pageviews / sessions, 2) if sessions else 0.0,
    )


def encode_csv(kind: type[Struct], chunks: Iterable[list[Struct]]) -> Iterator[bytes]:
    """Write rows of one type as CSV (RFC 4180, UTF-8), first a line of field names, a chunk at a time.

    Text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    fields = msgspec.structs.fields(kind)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow([field.encode_name for field in fields])
    names = [field.name for field in fields]
    yield _take(buffer)
    for rows in chunks:
        writer.writerows([_to_cell(getattr(row, name)) for name in names] for row in rows)
        yield _take(buffer)


def _take(buffer: io.StringIO) -> bytes:
    data = buffer.getvalue().encode()
    buffer.seek(0)
    buffer.truncate()
    return data


def _to_cell(value: Any) -> Any:
    if isinstance(value, Raw):
        value = bytes(value).decode()
    if isinstance(value, str):
        return "'" + value if value.startswith(_FORMULA) else value
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def encode_json(chunks: Iterable[list[Struct]]) -> Iterator[bytes]:
    """Write rows as one JSON answer, a chunk at a time; only after the last row is the answer closed."""
    yield b'{"success":true,"data":'
    yield from _encode_list(chunks)
    yield b"}"


def join_json(parts: Mapping[str, Iterable[list[Struct]]]) -> Iterator[bytes]:
    """Write several lists of rows as one JSON answer, each under its name, as `encode_json` writes one."""
    lead = '{"success":true,"data":{'
    for name, chunks in parts.items():
        yield f'{lead}"{name}":'.encode()
        yield from _encode_list(chunks)
        lead = ","
    yield b"}}"


def _encode_list(chunks: Iterable[list[Struct]]) -> Iterator[bytes]:
    encoder = msgspec.json.Encoder()
    lead = b"["
    for rows in chunks:
        if rows:
            yield lead + b",".join([encoder.encode(row) for row in rows])
            lead = b","
    yield b"]" if lead == b"," else b"[]"
