"""Deleted projects: their events, sessions and summaries, removed in pieces."""

from sqlalchemy import Engine, TextClause

from pulse.rollup import spans
from pulse.storage import heads, segments
from pulse.storage.sql import load_queries

Q = load_queries("removal")
FOLD = load_queries("fold")

CHUNK = 20_000


def remove_deleted(engine: Engine) -> int:
    """Remove all that is left of deleted projects; return how many projects.

    Each piece is a transaction of its own, so that a stop loses nothing and nobody waits long. Deleting sessions takes
    the fold's lock: it finds sessions again by where they lie.
    """
    removed = 0
    while True:
        with engine.begin() as connection:
            project_id = connection.execute(Q.next_removal).scalar()
        if project_id is None:
            return removed
        for statement in (Q.remove_events, Q.remove_sessions, Q.remove_event_ids, Q.remove_daily):
            while _remove_piece(engine, statement, project_id) == CHUNK:
                pass
        with engine.begin() as connection:
            spans.remove(connection, project_id)
            heads.remove(connection, project_id)
            segments.forget_project(connection, project_id)
            for statement in (Q.remove_hourly, Q.remove_live, Q.remove_drops, Q.finish_removal):
                connection.execute(statement, {"project_id": project_id})
        removed += 1


def _remove_piece(engine: Engine, statement: TextClause, project_id: int) -> int:
    with engine.begin() as connection:
        connection.execute(FOLD.begin_fold)
        return connection.execute(statement, {"project_id": project_id, "rows": CHUNK}).rowcount
