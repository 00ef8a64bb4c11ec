"""Raw events, newest first, page by page."""

import base64
import binascii
import struct
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Raw, Struct
from sqlalchemy import Connection, Row, TextClause, text

from pulse.errors import Detail, Invalid
from pulse.reports.conditions import single_event_conditions
from pulse.reports.filters import FilterText, read_filters
from pulse.reports.period import EndDate, Period, StartDate
from pulse.storage.sql import load_queries

Q = load_queries("events")

DEFAULT_LIMIT = 50
MAX_LIMIT = 1000
# Events looked through for one page: half a second at most.
MAX_SCAN = 500_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR = struct.Struct(">q16s")  # microseconds since the epoch, event id
_AFTER_ALL_IDS = UUID(int=2**128 - 1)

PageLimit = Annotated[int, Meta(ge=1, le=MAX_LIMIT, description="Events of a page, from 1 to 1000")]
Cursor = Annotated[str, Meta(max_length=64, description="nextCursor of the page before")]
# PostgreSQL takes no NUL in text, so none is stored either.
Filter = Annotated[str, Meta(min_length=1, max_length=1024, pattern=r"^[^\x00]+$")]
# As PostgreSQL writes it: decoding it here would cost time and the last digits of numbers.
CustomData = Annotated[Raw, Meta(description="The event's own data", extra_json_schema={"type": "object"})]


class EventFilters(Struct, rename="camel", frozen=True):
    """Which events to list; None is any."""

    event_type: Annotated[Filter, Meta(description="Only this type, such as pageview")] | None = None
    event_name: Annotated[Filter, Meta(description="Only events of this name")] | None = None
    path: Annotated[Filter, Meta(description="Only events of this page")] | None = None
    country: Annotated[str, Meta(pattern="^[A-Za-z]{2}$", description="Only this country (ISO 3166)")] | None = None
    filters: FilterText | None = None


class EventsQuery(EventFilters, rename="camel", frozen=True):
    """Query parameters of the list."""

    start_date: StartDate | None = None
    end_date: EndDate | None = None
    limit: PageLimit = DEFAULT_LIMIT
    cursor: Cursor | None = None


class Event(Struct, rename="camel", frozen=True):
    """One event: derived facts only, as no address and no user agent is stored."""

    id: UUID
    event_type: str
    event_name: str | None
    occurred_at: datetime
    visitor_id: str  # pseudonym: 16 hexadecimal digits
    session_id: str
    hostname: str | None
    path: str | None
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
    browser_version: str | None
    os: str | None
    os_version: str | None
    language: str | None
    timezone: str | None
    screen_width: int | None
    screen_height: int | None
    viewport_width: int | None
    viewport_height: int | None
    engagement_ms: int | None
    custom_data: CustomData | None


class EventsPage(Struct, rename="camel", frozen=True):
    """One page; follow `next_cursor` until it is null.

    With a filter a page can hold fewer events than asked for, even none, and still not be the last.
    """

    events: list[Event]
    next_cursor: str | None


def events_page(
    connection: Connection,
    project_id: int,
    period: Period,
    filters: EventFilters,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> EventsPage:
    """Return the events of a period that pass the filters, newest first, equal times by descending id.

    Raises Invalid naming `cursor` for one that this service did not make, or `filters`.
    """
    ends_at = period.ends_at
    before_at, before_id = read_cursor(cursor) if cursor is not None else (ends_at, _AFTER_ALL_IDS)
    span = {
        "project_id": project_id,
        "starts_at": period.starts_at,
        # The index is entered at a bound of the time alone: without the cursor's, page n would read n pages.
        "ends_at": before_at + timedelta(microseconds=1) if before_at < ends_at else ends_at,
        "before_at": before_at,
        "before_id": str(before_id),
        "scan": MAX_SCAN,
    }
    statement, binds = apply_filters(Q.page, filters)
    # One more than asked for tells whether there is another page.
    rows = connection.execute(statement, {**span, **binds, "limit": limit + 1}).all()
    found = [to_event(row) for row in rows[:limit]]
    if len(rows) > limit:
        return EventsPage(found, make_cursor(found[-1].occurred_at, found[-1].id))
    # All that matched among the events looked at: go on behind the last of them, if they were not all.
    stopped = connection.execute(Q.last_looked_at, span).one_or_none()
    return EventsPage(found, make_cursor(stopped.occurred_at, stopped.id) if stopped is not None else None)


def apply_filters(statement: TextClause, filters: EventFilters) -> tuple[TextClause, dict[str, Any]]:
    """Put the filters into a statement over events; return it with its parameters. Raises Invalid naming `filters`."""
    conditions, binds = single_event_conditions(read_filters(filters.filters))
    return text(statement.text.format(conditions=conditions)), {
        **binds,
        "event_type": filters.event_type,
        "event_name": filters.event_name,
        "path": filters.path,
        "country": filters.country.upper() if filters.country is not None else None,
    }


def make_cursor(occurred_at: datetime, event_id: UUID) -> str:
    """Write the place after an event as 32 characters of base64url."""
    micros = (occurred_at - _EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(_CURSOR.pack(micros, event_id.bytes)).decode()


def read_cursor(cursor: str) -> tuple[datetime, UUID]:
    """Read what `make_cursor` wrote. Raises Invalid naming `cursor`."""
    try:
        micros, id_bytes = _CURSOR.unpack(base64.b64decode(cursor, altchars=b"-_", validate=True))
        place = _EPOCH + timedelta(microseconds=micros), UUID(bytes=id_bytes)
        if make_cursor(*place) == cursor:  # the decoder lets several spellings pass
            return place
    except (binascii.Error, struct.error, OverflowError, ValueError):
        pass
    problem = Detail("cursor", "must be the nextCursor of an earlier answer, unchanged")
    raise Invalid("The cursor can't be read.", details=[problem])


def to_event(row: Row[Any]) -> Event:
    """Return the event of a row of the columns of block `page`."""
    columns = row._asdict()
    columns["visitor_id"] = to_hex(columns.pop("visitor"))
    columns["session_id"] = to_hex(columns.pop("session_key"))
    if row.custom_data is not None:
        columns["custom_data"] = Raw(row.custom_data.encode())
    return Event(**columns)


def to_hex(key: int) -> str:
    """Return the pseudonym of a visitor or session key."""
    # The column is signed; the pseudonym is the same 64 bits without a sign.
    return f"{key & 0xFFFF_FFFF_FFFF_FFFF:016x}"
