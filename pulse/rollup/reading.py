"""What a fold reads: batches that wait, their events, and their projects' calendars."""

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime
from struct import Struct
from typing import NamedTuple
from zoneinfo import ZoneInfoNotFoundError

import msgspec
from sqlalchemy import Connection

from pulse.rollup.copying import EPOCH_US, array, pack_bytes, read_rows, stream_rows
from pulse.storage.localtime import LocalClock, clock
from pulse.storage.sql import load_queries

log = logging.getLogger("pulse.rollup")
Q = load_queries("fold")

# What sessions and events have in common, in the order of columns of both. Each of the three groups has few distinct
# combinations of values, where nearly every event has one of its own of all sixteen: so groups are what is counted.
ORIGIN = (
    "hostname", "referrer", "source", "channel", "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content",
)  # fmt: skip
PLACE = ("country", "region", "city", "language")
AGENT = ("device", "browser", "os")
ATTRIBUTES = (*ORIGIN, *PLACE, *AGENT)

# Never more at once, so that one fold of tiny batches stays short.
MAX_BATCHES = 5000
PAGEVIEW, ENGAGEMENT, OTHER_EVENT = b"p", b"g", b"e"
# The field of bytes that a row has before each group. No text holds such bytes, nor do lengths next to each other. Ids
# may, as clients choose them: a row is split only behind its ids.
MARK = pack_bytes(b"\xfe\xfe\xfe\xfe")

# What an event's row begins with, up to its kind: where a field has a fixed length, that is passed over.
_HEAD = Struct(">2x4xq4xq4x16s4xq4xi4x?4xc")
_unpack_head, _HEAD_SIZE = _HEAD.unpack_from, _HEAD.size
_SCREEN = Struct(">iiii")


class Event(msgspec.Struct, gc=False):
    """One event. Times are microseconds since 1970, an id its 16 bytes; what is text stays in COPY's binary fields."""

    session_key: int
    at_us: int
    id: bytes
    visitor: int
    project_id: int
    client_session: bool
    kind: bytes
    path: bytes
    origin: bytes
    place: bytes
    agent: bytes
    # Width and height of the screen, and what a count of events by name calls this one.
    details: bytes


class Claim(NamedTuple):
    """The batches a fold has claimed; `events` are theirs in all, `lag_s` is the age of the oldest."""

    batches: list[int]
    events: int
    lag_s: float


def claim_batches(connection: Connection, max_events: int) -> Claim:
    """Claim the oldest unfolded batches: as many as hold `max_events`, at least one."""
    rows = connection.execute(Q.claim_batches, {"max_events": max_events, "max_batches": MAX_BATCHES}).fetchall()
    lag_s = max((row.age_s for row in rows), default=0.0)
    return Claim([row.id for row in rows], sum(row.events for row in rows), lag_s)


def to_event(row: bytes) -> Event:
    """Return an event from a row of block `read_events`; 0.8 µs."""
    session_key, at_us, event_id, visitor, project_id, client_session, kind = _unpack_head(row)
    path, origin, place, agent, details = row[_HEAD_SIZE:].split(MARK)
    return Event(
        session_key, at_us + EPOCH_US, event_id, visitor, project_id, client_session, kind, path,
        origin, place, agent, details,
    )  # fmt: skip


def pack_screen(width: int, height: int) -> bytes:
    """Return the size of a screen as it begins an event's details."""
    return _SCREEN.pack(4, width, 4, height)


def read_screen(width: bytes | None, height: bytes | None) -> str | None:
    """Return what a screen's size is called, None unless both are known."""
    if width is None or height is None:
        return None
    return "x".join(str(int.from_bytes(side, signed=True)) for side in (width, height))


def read_events(connection: Connection, batches: list[int]) -> list[bytes]:
    """Return the rows of the batches' events, in no order."""
    return read_rows(connection, Q.read_events, {"batches": array(batches)})


def read_events_between(connection: Connection, project_id: int, start: datetime, end: datetime) -> Iterator[Event]:
    """Give out the folded events of a project in [start, end), engagement left out."""
    span = {"project_id": project_id, "start_at": start, "end_at": end}
    return map(to_event, stream_rows(connection, Q.read_events_between, span))


def read_clocks(connection: Connection, project_ids: Iterable[int]) -> dict[int, LocalClock]:
    """Return each project's calendar; deleted projects are missing, and can't be deleted until the commit."""
    rows = connection.execute(Q.read_projects, {"ids": sorted(set(project_ids))})
    return {row.id: _clock(row.id, row.timezone) for row in rows}


def _clock(project_id: int, zone_name: str) -> LocalClock:
    try:
        return clock(zone_name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # One zone that this machine doesn't know must not hold up the folding of everybody's events.
        log.error("project %d has the unknown time zone %r: its days are counted in UTC", project_id, zone_name)
        return clock("UTC")
