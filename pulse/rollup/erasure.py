"""Visitors deleted: their events, their part in sessions, and, through rebuilds, in the summaries and goals.

A site that passes its own visitor ids can have one forgotten. Whatever was acknowledged before it asked is deleted,
what waits in the spool included; what comes later is a new beginning. Sketches can't forget, so the days are counted
anew from the events that are left.

Only this node's spool can be asked. What another one spooled while it was cut off from PostgreSQL comes after the
deletion, and has it done again (`reopen`): for that an erasure tells whose it is for KEPT longer.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import chain, groupby, islice
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Engine

from pulse.errors import NotFound
from pulse.rollup.copying import array, read_rows, stream_rows
from pulse.rollup.goals import Q as GOALS
from pulse.rollup.pruning import BATCHES_KEEP
from pulse.rollup.reading import Event, read_clocks, share_none, to_events
from pulse.rollup.reading import Q as FOLD
from pulse.rollup.requests import request_rebuilds
from pulse.rollup.sessions import Session, connect, group_events
from pulse.rollup.writing import Replaced, put_sessions, take_sessions
from pulse.storage import segments
from pulse.storage.localtime import LocalClock, from_epoch_us
from pulse.storage.sql import load_queries

log = logging.getLogger("pulse.rollup")
Q = load_queries("erasure")

# Events of one transaction, in which folds wait (0.05 s without sessions).
CHUNK = 5_000
SHOWN = 100
# How long after the deletion an erasure tells whose it is: as long as batches are known to be stored.
KEPT = BATCHES_KEEP


class Erasure(Struct, rename="camel", frozen=True):
    """One visitor's deletion: `waiting`, `deleting`, `recounting`, `done`; `failed` when days could not be recounted.

    `events` and `sessions` count what was deleted so far; `start_date` to `end_date` are the days touched by it.
    An erasure that is reopened is `deleting` again.
    """

    id: int
    project_id: int
    status: str
    requested_at: datetime
    started_at: datetime | None
    deleted_at: datetime | None
    finished_at: datetime | None
    events: int
    sessions: int
    start_date: date | None
    end_date: date | None
    failure: str | None


def request_erasure(connection: Connection, project_id: int, visitor: int, before_batch: int) -> Erasure:
    """Write down that a visitor's events of batches up to `before_batch`, or stored by now, are to be deleted."""
    binds = {"project_id": project_id, "visitor": visitor, "before_batch": before_batch}
    return get_erasure(connection, project_id, connection.execute(Q.request, binds).scalar_one())


def get_erasure(connection: Connection, project_id: int, erasure_id: int) -> Erasure:
    """Return one erasure. Raises NotFound."""
    found = None
    if 0 < erasure_id < 2**31:
        found = connection.execute(Q.list, {"project_id": project_id, "id": erasure_id, "limit": 1}).first()
    if found is None:
        raise NotFound(f"There is no erasure {erasure_id} of project {project_id}.")
    return _to_erasure(found)


def list_erasures(connection: Connection, project_id: int) -> list[Erasure]:
    """Return a project's newest erasures, newest first; they do not tell whose they are."""
    binds = {"project_id": project_id, "id": None, "limit": SHOWN}
    return [_to_erasure(row) for row in connection.execute(Q.list, binds)]


def explain(found: Erasure, kept_since: date | None) -> list[str]:
    """Say in words what an erasure does, and what it can't do."""
    before = f"{found.requested_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    plan = [
        f"Events of this visitor that were accepted before {before} are deleted, and their sessions; also those that"
        " still wait in the spool. What is sent later is kept.",
        "The days they lie in and the project's goals are then counted anew from the events that are left.",
        f"The visitor's pseudonym is kept for {KEPT.days} days more, so that events waiting on a node that is cut off"
        " from PostgreSQL are deleted when they come. Those of a node that comes back later are not.",
        "The real-time figures of the last two hours fade by themselves.",
    ]
    if kept_since is not None:
        plan.append(
            f"Raw events from before {kept_since} are no longer kept, so the summaries of those days stay as they are."
            " They hold no id, but a sketch for distinct counts can hold a short hash of each visitor: who has both"
            " this database and the visitor's id could tell that the visitor may have been there."
        )
    return plan


def run_erasures(engine: Engine, is_spooled: Callable[[int], bool]) -> int:
    """Go on with the erasures asked for, oldest first; return how many visitors' events are all gone now.

    `is_spooled` tells whether batches up to an id still wait in the spool: such an erasure is left for the next time.
    A kill between any two steps costs nothing: each piece is one transaction, and the next run deletes what is left.
    """
    with engine.begin() as connection:
        unfinished = connection.execute(Q.unfinished).all()
    done = 0
    for erasure in unfinished:
        if erasure.deleted_at is None and not is_spooled(erasure.before_batch):
            done += _delete(engine, erasure)
        with engine.begin() as connection:
            connection.execute(Q.finish, {"id": erasure.id})
    return done


def reopen(engine: Engine, batch_id: int) -> None:
    """Have deletions done again that a batch was to be part of; to be called between storing it and removing its file.

    A kill before this leaves the file, and both are repeated. Costs a statement that finds nothing, nearly always.
    """
    with engine.begin() as connection:
        connection.execute(Q.reopen, {"batch_id": batch_id})


def forget_visitors(engine: Engine) -> int:
    """Take from the erasures that were done KEPT ago whose they were; return how many."""
    with engine.begin() as connection:
        return connection.execute(Q.forget, {"keep": KEPT}).rowcount


def _delete(engine: Engine, erasure: Any) -> bool:
    """Delete what is stored by now; tell whether that was all, so far."""
    with engine.begin() as connection:
        connection.execute(Q.begin, {"id": erasure.id})
    visitor = {name: getattr(erasure, name) for name in ("project_id", "visitor", "before_batch")}
    with engine.begin() as reading:
        reading.execute(FOLD.begin_rebuild)  # reads months of events: no time limits
        events = to_events(stream_rows(reading, Q.read_events, visitor), share_none)
        while piece := list(islice(events, CHUNK)):
            _delete_piece(engine, erasure, piece)
    with engine.begin() as connection:
        return connection.execute(Q.end_deleting, {"id": erasure.id}).rowcount > 0


def _delete_piece(engine: Engine, erasure: Any, events: list[Event]) -> None:
    """Delete some events, mend their sessions and ask for their days to be counted anew, in one transaction."""
    with engine.begin() as connection:
        connection.execute(FOLD.begin_fold)
        clocks = read_clocks(connection, [erasure.project_id])
        if not clocks:
            return  # the project is gone: its removal takes everything
        keys = [{"occurred_at": from_epoch_us(event.at_us), "id": UUID(bytes=event.id)} for event in events]
        span = {"first_at": keys[0]["occurred_at"], "last_at": keys[-1]["occurred_at"]}
        binds = {"project_id": erasure.project_id, "keys": msgspec.json.encode(keys).decode(), **span}
        deleted = connection.execute(Q.delete_events, binds).rowcount
        gone, made = _mend_sessions(connection, events)
        changed = [event.at_us for event in events] + [session.started_us for session in made]
        places = ((session.session_key, session.started_us) for session in chain(gone, made))
        segments.forget(connection, erasure.project_id, places)
        spans = list(_day_spans(clocks[erasure.project_id], changed))
        for first_day, last_day in spans:
            rebuilds = request_rebuilds(connection, [erasure.project_id], first_day, last_day)
        connection.execute(GOALS.recount_goals, {"project_id": erasure.project_id})
        progress = {"events": deleted, "sessions": len(gone), "first_day": spans[0][0], "last_day": spans[-1][1]}
        connection.execute(Q.note, {"id": erasure.id, "last_rebuild": max(r.id for r in rebuilds), **progress})


def _mend_sessions(connection: Connection, events: list[Event]) -> tuple[list[Session], list[Session]]:
    """Replace the sessions that deleted events were part of; return those that were, and those there are now.

    A session that a client named may hold events of others (before a login, say): it is made anew from these.
    """
    taken = take_sessions(connection, events, group_events(events), share_none)
    gone = list(chain.from_iterable(taken.values()))
    made = [session for left in _read_left(connection, gone) for session in connect(left)]
    replaced = Replaced(gone, len(made))
    replaced.add(made)
    put_sessions(connection, replaced)
    return gone, made


def _read_left(connection: Connection, sessions: list[Session]) -> Iterable[list[Event]]:
    """Return the folded events that are left of sessions, each session's as a list."""
    if not sessions:
        return []
    lows, highs = [s.started_us for s in sessions], [s.ended_us for s in sessions]
    wanted = {
        "project_id": sessions[0].project_id,
        "session_keys": array(session.session_key for session in sessions),
        "lows": array(lows),
        "highs": array(highs),
        "first_at": from_epoch_us(min(lows)),
        "last_at": from_epoch_us(max(highs)),
    }
    by_key: dict[int, list[Event]] = defaultdict(list)
    for event in to_events(read_rows(connection, Q.read_session_events, wanted), share_none):
        by_key[event.session_key].append(event)
    left: list[list[Event]] = []
    for session in sessions:
        inside = (e for e in by_key[session.session_key] if session.started_us <= e.at_us <= session.ended_us)
        left += group_events(inside).values()
    return left


def _day_spans(clock: LocalClock, instants_us: Iterable[int]) -> Iterator[tuple[date, date]]:
    """Give out the local days of some instants as runs of days, first and last, in order."""
    days = sorted({clock.place(at_us).day for at_us in instants_us})
    for _, run in groupby(enumerate(days), lambda item: item[1] - timedelta(days=item[0])):
        found = [day for _, day in run]
        yield found[0], found[-1]


def _to_erasure(row: Any) -> Erasure:
    status = "waiting" if row.started_at is None else "deleting"
    if row.finished_at is not None:
        status = "failed" if row.failure else "done"
    elif row.deleted_at is not None:
        status = "recounting"
    return Erasure(
        row.id, row.project_id, status, row.requested_at, row.started_at, row.deleted_at, row.finished_at,
        row.events, row.sessions, row.first_day, row.last_day, row.failure,
    )  # fmt: skip
