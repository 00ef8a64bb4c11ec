"""What a fold reads: batches that wait, their events, and their projects' calendars."""

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfoNotFoundError

from msgspec import Struct
from sqlalchemy import Connection

from pulse.rollup.copying import array, copy_out
from pulse.storage.localtime import LocalClock, clock
from pulse.storage.sql import load_queries

log = logging.getLogger("pulse.rollup")
Q = load_queries("fold")

# What sessions and events have in common, in the order of columns of both.
ATTRIBUTES = (
    "hostname", "referrer", "source", "channel", "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content",
    "country", "region", "city", "device", "browser", "os", "language",
)  # fmt: skip

# Never more at once, so that one fold of tiny batches stays short.
MAX_BATCHES = 5000
PAGEVIEW, ENGAGEMENT, OTHER_EVENT = "p", "g", "e"


class Event(Struct, gc=False):
    """One event; text is COPY's (see copying.py), times come as text and as microseconds since 1970."""

    project_id: int
    session_key: str
    at_us: int
    at: str
    id: str
    visitor: int
    client_session: bool
    kind: str
    path: str
    attributes: tuple[str, ...]
    screen: str
    label: str


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


def to_event(fields: list[str]) -> Event:
    """Return an event from the columns of block `read_events`."""
    return Event(
        int(fields[0]), fields[1], int(fields[2]), fields[3], fields[4], int(fields[5]), fields[6] == "t", fields[7],
        fields[8], tuple(fields[9:25]), fields[25], fields[26],
    )  # fmt: skip


def read_events(connection: Connection, batches: list[int]) -> Iterator[Event]:
    """Give out the events of the batches, in no order."""
    return map(to_event, copy_out(connection, Q.read_events, {"batches": array(batches)}))


def read_events_between(connection: Connection, project_id: int, start: datetime, end: datetime) -> Iterator[Event]:
    """Give out the folded events of a project in [start, end), engagement left out."""
    span = {"project_id": project_id, "start_at": start, "end_at": end}
    return map(to_event, copy_out(connection, Q.read_events_between, span, large=True))


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
