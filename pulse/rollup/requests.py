"""Rebuilds that people ask for: written down by a web process, done by the background worker.

A rebuild reads months of events with COPY, which a gevent process can't do, and takes longer than a request may.
"""

import logging
from datetime import date, datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from pulse.rollup.rebuild import rebuild
from pulse.storage.sql import load_queries

log = logging.getLogger("pulse.rollup")
Q = load_queries("upkeep")


class Rebuild(Struct, rename="camel", frozen=True):
    """Days of a project to be counted anew: `waiting`, `running`, `done` (with the events counted) or `failed`."""

    id: int
    project_id: int
    start_date: date
    end_date: date
    status: str
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    events: int | None
    failure: str | None


def request_rebuilds(connection: Connection, project_ids: list[int], first_day: date, last_day: date) -> list[Rebuild]:
    """Write down that days are to be counted anew; return what is now waiting or running for these days."""
    wish = {"project_ids": project_ids, "first_day": first_day, "last_day": last_day}
    connection.execute(Q.request_rebuild, wish)
    return [_to_rebuild(row) for row in connection.execute(Q.waiting_rebuilds, wish)]


def list_rebuilds(connection: Connection, limit: int) -> list[Rebuild]:
    """Return the newest rebuilds, newest first; they are kept for 30 days."""
    return [_to_rebuild(row) for row in connection.execute(Q.list_rebuilds, {"limit": limit})]


def run_requests(engine: Engine) -> int:
    """Do the waiting rebuilds, oldest first; return how many. One that fails says why and does not hold up the next."""
    done = 0
    while True:
        with engine.begin() as connection:
            wish = connection.execute(Q.begin_rebuild).first()
        if wish is None:
            break
        events, failure = None, None
        try:
            events = rebuild(engine, wish.project_id, wish.first_day, wish.last_day)
        except DBAPIError as error:
            if error.connection_invalidated:
                raise  # PostgreSQL went away: begun again when it is back
            log.exception("rebuild %d of project %d failed", wish.id, wish.project_id)
            failure = str(error.orig).strip()[:500]
        with engine.begin() as connection:
            connection.execute(Q.end_rebuild, {"id": wish.id, "events": events, "failure": failure})
            connection.execute(Q.prune_rebuilds)
        done += 1
    return done


def _to_rebuild(row: Any) -> Rebuild:
    if row.finished_at is not None:
        status = "failed" if row.failure else "done"
    else:
        status = "waiting" if row.started_at is None else "running"
    return Rebuild(
        row.id, row.project_id, row.first_day, row.last_day, status, row.requested_at, row.started_at,
        row.finished_at, row.events, row.failure,
    )  # fmt: skip
