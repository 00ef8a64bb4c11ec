"""Who is on the site now: the last half hour from slots of ten seconds."""

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Row

from pulse.reports.visitors import count_joined
from pulse.storage.sketch import estimate
from pulse.storage.sql import load_queries

Q = load_queries("realtime")

SLOT = timedelta(seconds=10)
ACTIVE_FOR = timedelta(minutes=5)
MINUTES = 30
MAX_PAGES = 10
# Pages are shown by visitors, which only sketches know: the most viewed are candidates, and few enough to count.
_CANDIDATES = 40


class CurrentPage(Struct, rename="camel", frozen=True):
    """A page being read."""

    url: str  # path
    visitors: int
    last_activity: datetime


class RealtimeReport(Struct, rename="camel", frozen=True):
    """The last minutes of a project; the current slot of ten seconds is still being counted."""

    active_visitors: int  # of the last 5 minutes
    recent_pageviews: int  # of the last 30 minutes
    current_pages: list[CurrentPage]  # of the last 5 minutes, most visitors first
    pageviews_per_minute: list[int]  # 30 numbers, oldest first; the last is the minute that ends now
    last_updated: datetime


def realtime(connection: Connection, project_id: int, now: datetime) -> RealtimeReport:
    """Return what happens at `now` in two statements; events dated ahead of `now` wait until it comes."""
    now = now.astimezone(UTC)
    current = now - timedelta(seconds=now.second % SLOT.seconds, microseconds=now.microsecond)
    since = current + SLOT - timedelta(minutes=MINUTES)
    window = {
        "project_id": project_id,
        "until_at": current,
        "active_since_at": current + SLOT - ACTIVE_FOR,
    }
    slots = connection.execute(Q.live_totals, {**window, "since_at": since}).all()
    pages = connection.execute(Q.live_pages, {**window, "candidates": _CANDIDATES})
    minutes = [0] * MINUTES
    for slot in slots:
        minutes[(slot.slot_at - since) // timedelta(minutes=1)] += slot.pageviews
    return RealtimeReport(
        active_visitors=estimate([bytes(slot.visitors) for slot in slots if slot.visitors is not None]),
        recent_pageviews=sum(minutes),
        current_pages=_most_visited([_to_page(row) for row in pages]),
        pageviews_per_minute=minutes,
        last_updated=now,
    )


def _to_page(row: Row[Any]) -> CurrentPage:
    return CurrentPage(row.path, count_joined(row.sketches, row.lengths), row.last_at)


def _most_visited(pages: list[CurrentPage]) -> list[CurrentPage]:
    pages.sort(key=lambda page: (-page.visitors, -page.last_activity.timestamp(), page.url))
    return pages[:MAX_PAGES]
