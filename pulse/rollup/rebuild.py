"""Summaries counted anew from raw events and sessions, as after a change of a project's time zone."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice

from sqlalchemy import Connection, Engine

from pulse.rollup import spans
from pulse.rollup.copying import stream_rows
from pulse.rollup.reading import Q, read_clocks, read_events_between, share_none
from pulse.rollup.sessions import Session
from pulse.rollup.tally import Tally
from pulse.rollup.writing import write_summaries
from pulse.storage import changes, heads
from pulse.storage.localtime import LocalClock
from pulse.storage.schema import first_kept_on

# Events counted in memory at a time: about 60 MB.
CHUNK = 50_000


def rebuild(engine: Engine, project_id: int, first_day: date, last_day: date) -> int:
    """Count the days and hours of a project from `first_day` to `last_day` anew; return the number of events counted.

    One transaction, in which folds wait and ingestion goes on. Days whose raw events are no longer kept stay as they
    are. Events that wait for the fold are left to it. Nothing happens for a project that is gone.
    """
    with engine.begin() as connection:
        connection.execute(Q.begin_rebuild)
        connection.execute(Q.begin_fold)
        clocks = read_clocks(connection, [project_id])
        if not clocks:
            return 0
        first_day = max(first_day, first_kept_day(connection, clocks[project_id]))
        if first_day > last_day:
            return 0
        start, end = clocks[project_id].day_start(first_day), clocks[project_id].day_start(last_day + timedelta(days=1))
        span = {"project_id": project_id, "start_at": start, "end_at": end}
        connection.execute(Q.delete_daily, {"project_id": project_id, "first_day": first_day, "last_day": last_day})
        connection.execute(Q.delete_hourly, span)
        spans.forget_between(connection, project_id, first_day, last_day)
        heads.forget_between(connection, project_id, first_day, last_day)
        counted = 0
        events = read_events_between(connection, project_id, start, end)
        while chunk := list(islice(events, CHUNK)):
            tally = Tally(clocks)
            tally.add_events(chunk)
            _write(connection, tally)
            counted += len(chunk)
        sessions = _read_sessions(connection, project_id, start, end)
        while found := list(islice(sessions, CHUNK)):
            tally = Tally(clocks)
            for session in found:
                tally.add_session(session)
            _write(connection, tally)
        changes.note(connection, [(project_id, first_day, last_day)])
    return counted


def _write(connection: Connection, tally: Tally) -> None:
    write_summaries(connection, tally.summaries())
    connection.execute(Q.clear_stage)


def first_kept_day(connection: Connection, clock: LocalClock) -> date:
    """Return the first local day of which all raw events are still kept."""
    kept_since = first_kept_on(connection)
    if kept_since is None:
        return date.max
    oldest = datetime.combine(kept_since, datetime.min.time(), UTC)
    day = clock.day(oldest)
    return day if clock.day_start(day) >= oldest else day + timedelta(days=1)


def _read_sessions(connection: Connection, project_id: int, start: datetime, end: datetime) -> Iterator[Session]:
    span = {"project_id": project_id, "start_at": start, "end_at": end}
    for row in stream_rows(connection, Q.read_sessions_between, span):
        session = Session.read(row, share_none)
        if session.events:
            yield session
