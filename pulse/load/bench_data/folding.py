"""A drawn day's sessions and summaries written, as a fold of its events would."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import repeat

import numpy as np
from sqlalchemy import Connection

from pulse.load.bench_data.catalogue import AGENT_COLUMNS, ORIGIN_COLUMNS, PLACE_COLUMNS
from pulse.load.bench_data.counting import Counter, Visits, find_visits, list_origins
from pulse.load.bench_data.packs import pack_day
from pulse.load.bench_data.plan import Task
from pulse.load.bench_data.rows import Rows, join, pick
from pulse.rollup import spans
from pulse.rollup.copying import copy_lines
from pulse.rollup.fold import LIVE_KEEP, fold_events
from pulse.rollup.reading import ATTRIBUTES, read_clocks
from pulse.rollup.summaries import Summaries
from pulse.rollup.tally import Tally
from pulse.rollup.writing import write_summaries
from pulse.storage import changes, segments
from pulse.storage.localtime import LocalClock, epoch_us
from pulse.storage.sql import load_queries

Q = load_queries("bench_data")

_OF_AGENT = tuple(name for name in AGENT_COLUMNS if name in ATTRIBUTES)
_OF_PLACE = tuple(name for name in PLACE_COLUMNS if name in ATTRIBUTES)
_SESSION_COLUMNS = (
    "started_at", "first_event_id", "entry_at", "entry_id", "entry_path", "ended_at", "exit_at", "exit_id", "exit_path",
    "pageviews", "events", "project_id", "session_key", "visitor", "client_session", "hostname", *ORIGIN_COLUMNS,
    *_OF_AGENT, *_OF_PLACE,
)  # fmt: skip


def fold_day(connection: Connection, task: Task, rows: Rows, *, is_alone: bool) -> None:
    """Write what comes of a day's events, in the transaction of `filling.fill_day`.

    No session can join one that is there: the keys are this set's own. A day that has nothing else in it is packed.
    """
    calendar = read_clocks(connection, [task.project_id]).get(task.project_id)
    if calendar is None or not _is_day_of(calendar, task):
        # The project is gone, or its time zone has changed since the run began.
        fold_events(connection, rows.events(0))
        return
    _wait_for_spans(connection, task)
    visits = find_visits(rows.day)
    copy_lines(connection, "sessions", _SESSION_COLUMNS, _session_lines(rows, visits))
    since_us = int((time.time() - LIVE_KEEP.total_seconds()) * 1_000_000)
    tally = Tally({task.project_id: calendar}, since_us)
    tally.add_events(rows.events(since_us))
    counter = Counter(rows.day, visits, rows.catalogue)
    hours = calendar.hours(task.day, task.day)
    begins_ms = np.array([epoch_us(at) // 1000 for at in hours])
    days = {(task.project_id, task.day): counter.dimensions()}
    by_hour = {(task.project_id, at): row for at, row in zip(hours, counter.hours(begins_ms), strict=True)}
    write_summaries(connection, Summaries(days, by_hour, tally.summaries().live))
    ends = [(int(rows.day.sessions.key[0]), at_ms * 1000) for at_ms in (task.starts_ms, task.ends_ms - 1)]
    segments.forget(connection, task.project_id, ends)
    if is_alone:
        pack_day(connection, task, rows, visits)
    changes.note(connection, [(task.project_id, task.day, task.day)])


def _wait_for_spans(connection: Connection, task: Task) -> None:
    """Let other days of the project end that add to the same week or month: sketches are read, merged and written.

    Weeks and months are added up only where days of them were filled earlier; none is while a day is filled.
    """
    place, now = [(task.project_id, task.day)], datetime.now(UTC)
    if any(spans.find_of_days(connection, length, place, now) for length in spans.TABLES):
        connection.execute(Q.lock_spans, {"project_id": task.project_id})


def _is_day_of(calendar: LocalClock, task: Task) -> bool:
    bounds = (calendar.day_start(day) for day in (task.day, task.day + timedelta(days=1)))
    return [epoch_us(at) for at in bounds] == [task.starts_ms * 1000, task.ends_ms * 1000]


def _session_lines(rows: Rows, visits: Visits) -> Iterator[str]:
    """Give out the lines to copy, in the order of _SESSION_COLUMNS and of time."""
    day, sessions, catalogue = rows.day, rows.day.sessions, rows.catalogue
    events = list(map("\t".join, zip(rows.at, day.ids, strict=True)))
    views = list(map("\t".join, zip(rows.at, day.ids, rows.paths, strict=True)))
    origins, agents = join(list_origins(catalogue), ORIGIN_COLUMNS), join(catalogue.agents, _OF_AGENT)
    places = [f"{text}\n" for text in join(catalogue.places, _OF_PLACE)]
    columns = (
        pick(events, visits.first), pick(views, visits.first), pick(rows.at, visits.last), pick(views, visits.exit),
        map(str, visits.pageviews.tolist()), map(str, visits.events.tolist()), repeat(str(rows.project_id)),
        map(str, sessions.key.tolist()), map(str, sessions.visitor.tolist()), repeat("t"), repeat(catalogue.hostname),
        pick(origins, sessions.arrival * 2 + 1), pick(agents, sessions.agent), pick(places, sessions.place),
    )  # fmt: skip
    return map("\t".join, zip(*columns, strict=False))
