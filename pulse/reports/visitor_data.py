"""All that is stored of one visitor, in constant memory however much it is."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Row

from pulse.reports.events import Event, to_event, to_hex
from pulse.reports.export import Chunks, join_json, stream
from pulse.storage import schema
from pulse.storage.sql import load_queries

Q = load_queries("visitor_data")


class VisitorSession(Struct, rename="camel", frozen=True):
    """One session, with the attributes of its first event."""

    session_id: str  # pseudonym, as in events
    started_at: datetime
    ended_at: datetime
    client_session: bool
    pageviews: int
    events: int
    entry_path: str | None
    exit_path: str | None
    hostname: str | None
    referrer: str | None
    source: str | None
    channel: str
    utm_source: str | None
    utm_medium: str | None
    utm_campaign: str | None
    utm_term: str | None
    utm_content: str | None
    country: str | None
    region: str | None
    city: str | None
    device: str
    browser: str | None
    os: str | None
    language: str | None


class VisitorData(Struct, rename="camel", frozen=True):
    """What an export of a visitor holds."""

    events: list[Event]
    sessions: list[VisitorSession]


def export_visitor(connection: Connection, project_id: int, visitor: int) -> Iterator[bytes]:
    """Write all events and sessions of a visitor, oldest first, as one JSON answer, a piece at a time."""
    connection.execute(Q.limit_time)
    parts = {
        "events": _read_events(connection, project_id, visitor),
        "sessions": _read_sessions(connection, project_id, visitor),
    }
    return join_json(parts)


def _read_events(connection: Connection, project_id: int, visitor: int) -> Chunks:
    # Day by day: a visitor's few events in a year of a busy project would else be one statement of minutes.
    stored = connection.execute(Q.first_and_last, {"project_id": project_id}).one()
    if stored.first_at is None:
        return
    day, last = stored.first_at.astimezone(UTC).date(), stored.last_at.astimezone(UTC).date()
    while day <= last:
        after = day + timedelta(days=1)
        yield from stream(connection, Q.events, _bind(project_id, visitor, day, after), to_event)
        day = after


def _read_sessions(connection: Connection, project_id: int, visitor: int) -> Chunks:
    for month in [p for p in schema.list_partitions(connection) if p.parent == "sessions"]:
        binds = _bind(project_id, visitor, month.starts_on, month.ends_on)
        yield from stream(connection, Q.sessions, binds, _to_session)


def _bind(project_id: int, visitor: int, first_day: date, after: date) -> dict[str, Any]:
    midnights = (datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (first_day, after))
    return {"project_id": project_id, "visitor": visitor, **dict(zip(("starts_at", "ends_at"), midnights, strict=True))}


def _to_session(row: Row[Any]) -> VisitorSession:
    columns = row._asdict()
    return VisitorSession(session_id=to_hex(columns.pop("session_key")), **columns)
