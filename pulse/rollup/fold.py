"""The fold: committed batches into sessions and summaries, each event exactly once."""

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from operator import attrgetter

from sqlalchemy import Connection, Engine

from pulse.rollup.copying import array
from pulse.rollup.pace import Pace, Pacer
from pulse.rollup.reading import (
    Event,
    Q,
    Share,
    claim_batches,
    read_clocks,
    read_events,
    share_none,
    to_events,
)
from pulse.rollup.sessions import Session, connect, group_events
from pulse.rollup.tally import Tally
from pulse.rollup.writing import Replaced, put_sessions, take_sessions, write_summaries
from pulse.storage import changes, segments
from pulse.storage.localtime import epoch_us

# Real-time reports look back half an hour; an event that comes later than this is in the past.
LIVE_KEEP = timedelta(hours=2)
# A day is past for the fold before it is for reports: one that ends while a fold runs must not be missed.
CLOSING = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class FoldResult:
    """What one fold did; `lag_s` is how long its oldest batch had waited, 0 when there was nothing to fold."""

    batches: int
    events: int
    lag_s: float


def fold_once(engine: Engine, max_events: int = 20_000, pacer: Pacer | None = None) -> FoldResult:
    """Fold the oldest waiting batches, up to `max_events` events (at least one batch), in one transaction.

    Batches are marked in the transaction that counts their events: whatever dies, they are counted wholly or not at
    all. Several folders take turns. Events of projects that are gone are passed over.
    """
    with _gc_paused(), engine.begin() as connection:
        connection.execute(Q.begin_fold)
        claim = claim_batches(connection, max_events)
        if not claim.batches:
            return FoldResult(0, 0, 0.0)
        pace = pacer.begin(claim.events, claim.lag_s) if pacer else Pace()
        events: list[Event] = []
        share: Share = dict[bytes, bytes]().setdefault
        for rows in pace.slices(read_events(connection, claim.batches)):
            events += to_events(rows, share)
        fold_events(connection, events, pace, share)
        connection.execute(Q.mark_folded, {"batches": array(claim.batches)})
    if pacer:
        pacer.end(pace, claim.events)
    return FoldResult(len(claim.batches), len(events), claim.lag_s)


def fold_events(
    connection: Connection, events: list[Event], pace: Pace | None = None, share: Share = share_none
) -> None:
    """Count events into sessions and summaries, in a transaction that has begun as a fold does, once.

    What the events `share`, sessions that are there will share with them.
    """
    pace = pace or Pace()
    projects = set(map(attrgetter("project_id"), events))
    clocks = read_clocks(connection, projects)
    if gone := projects - clocks.keys():
        connection.execute(Q.remove_again, {"project_ids": sorted(gone)})
        events = [event for event in events if event.project_id in clocks]
    if not events:
        return
    tally = Tally(clocks, (time.time() - LIVE_KEEP.total_seconds()) * 1_000_000)
    groups = group_events(())
    for piece in pace.slices(events):
        tally.add_events(piece)
        group_events(piece, groups)
    soon = datetime.now(UTC) + CLOSING
    todays = {project_id: epoch_us(each.day_start(each.day(soon))) for project_id, each in clocks.items()}
    taken = take_sessions(connection, events, groups, share)
    stored = list(chain.from_iterable(taken.values()))
    touched = _past_sessions(stored, todays)
    replaced = Replaced(stored, len(groups))
    for some in pace.slices(list(groups.items())):
        # All that is done with sessions is done while they are near to the processor.
        sessions = [session for key, new in some for session in connect(new, taken.get(key, ()))]
        tally.add_sessions(sessions)
        touched |= _past_sessions(sessions, todays)
        replaced.add(sessions)
    put_sessions(connection, replaced)
    summaries = tally.summaries()
    write_summaries(connection, summaries, pace)
    segments.loosen(connection, touched)
    past = {(project_id, day) for project_id, day in summaries.days if day < clocks[project_id].day(soon)}
    # A session of yesterday that goes on is counted on its first day by filtered reports, whatever the summaries do.
    past |= {(project_id, clocks[project_id].place(started_us).day) for project_id, (_, started_us) in touched}
    changes.note(connection, [(project_id, day, day) for project_id, day in past])


def _past_sessions(sessions: Sequence[Session], todays: dict[int, int]) -> set[tuple[int, segments.Place]]:
    """Return the project and place of those that began before today, which is given as microseconds since 1970."""
    latest = max(todays.values())
    if min(map(attrgetter("started_us"), sessions), default=latest) >= latest:
        return set()  # nearly always
    return {
        (session.project_id, (session.session_key, session.started_us))
        for session in sessions
        if session.started_us < todays[session.project_id]
    }


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Hold back the cycle collector: a fold makes 100,000 objects and no cycle, and each search for one takes 30 ms."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
