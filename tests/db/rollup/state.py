"""What the tables hold, in the shape of the recount."""

from typing import Any

from sqlalchemy import Engine, text

from pulse.storage import sketch
from tests.db.rollup.recount import ATTRIBUTES, recount_sessions, recount_spans, recount_summaries

_SESSION = (
    "project_id", "session_key", "visitor", "started_at", "ended_at", "first_event_id", "client_session", "pageviews",
    "events", "entry_at", "entry_id", "entry_path", "exit_at", "exit_id", "exit_path", *ATTRIBUTES,
)  # fmt: skip
_FIGURES = "pageviews, events, sessions, bounces, duration_ms, visitors"


def _read(engine: Engine, query: str, projects: list[int]) -> list[Any]:
    with engine.begin() as connection:
        return list(connection.execute(text(query), {"projects": projects}))


def stored_sessions(engine: Engine, projects: list[int]) -> list[dict[str, Any]]:
    """Return the sessions, by key and start."""
    rows = _read(
        engine,
        f"SELECT {', '.join(_SESSION)} FROM sessions WHERE project_id = ANY (:projects)"
        " ORDER BY project_id, session_key, started_at",
        projects,
    )
    sessions = [dict(row._mapping) for row in rows]
    for session in sessions:
        for name in ("first_event_id", "entry_id", "exit_id"):
            session[name] = session[name] and str(session[name])
    return sessions


def _summary(engine: Engine, table: str, key: str, projects: list[int]) -> dict[Any, Any]:
    rows = _read(engine, f"SELECT {key}, {_FIGURES} FROM {table} WHERE project_id = ANY (:projects)", projects)
    found = {tuple(row[:-6]): (*row[-6:-1], sketch.estimate([row[-1]])) for row in rows}
    # A row whose sessions have all moved elsewhere stays, empty.
    return {key: figures for key, figures in found.items() if any(figures)}


def stored_daily(engine: Engine, projects: list[int]) -> dict[Any, Any]:
    """Return the rows of summary_daily by key."""
    return _summary(engine, "summary_daily", "project_id, day, dimension, value", projects)


def stored_spans(engine: Engine, projects: list[int], length: str) -> dict[Any, Any]:
    """Return the rows of summary_weekly or summary_monthly by key."""
    table = {"week": "summary_weekly", "month": "summary_monthly"}[length]
    return _summary(engine, table, f"project_id, {length}, dimension, value", projects)


def stored_hourly(engine: Engine, projects: list[int]) -> dict[Any, Any]:
    """Return the rows of summary_hourly by key."""
    return _summary(engine, "summary_hourly", "project_id, starts_at", projects)


def stored_live(engine: Engine, projects: list[int]) -> dict[Any, Any]:
    """Return the rows of summary_live by key."""
    query = (
        "SELECT project_id, slot_at, path, pageviews, events, last_at, visitors FROM summary_live"
        " WHERE project_id = ANY (:projects)"
    )
    rows = _read(engine, query, projects)
    return {tuple(row[:3]): (*row[3:6], sketch.estimate([row[6]])) for row in rows}


def check(engine: Engine, events: list[dict[str, Any]], zones: dict[int, str], *, anew: bool = False) -> None:
    """Compare sessions and summaries with the recount of all the events that were ever folded.

    Of a campaign that lost a session to a late event, a sketch may still hold its visitor, until counted `anew`.
    """
    projects = list(zones)
    assert stored_sessions(engine, projects) == recount_sessions(events)
    daily, hourly = recount_summaries(events, zones)
    stored = stored_daily(engine, projects)
    assert (stored if anew else forgive(stored, daily)) == daily
    assert stored_hourly(engine, projects) == hourly


def check_spans(engine: Engine, events: list[dict[str, Any]], zones: dict[int, str]) -> None:
    """Compare all weeks and months with the recount."""
    for length in ("week", "month"):
        wanted = recount_spans(events, zones, length)
        assert forgive(stored_spans(engine, list(zones), length), wanted) == wanted


def forgive(stored: dict[Any, Any], wanted: dict[Any, Any]) -> dict[Any, Any]:
    """Take away what campaigns may hold too much: visitors whose sessions went to another one."""
    rows = {}
    for key, row in stored.items():
        if key[2] == "campaign":
            if row[2] == 0:
                continue
            if key in wanted:
                row = (*row[:5], min(row[5], wanted[key][5]))
        rows[key] = row
    return rows
