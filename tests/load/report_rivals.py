"""The analytics report by other means, from the same events: plain SQL on PostgreSQL; DuckDB, exact and approximate.

What is counted: headline figures, the series by day, the ten first values of each list with their distinct visitors.
Left out, in the others' favour: entry and exit pages, and that one session key may come back as another session.
"""

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import psycopg2
from psycopg2.errors import QueryCanceled

LISTS = (
    "path", "referrer", "device", "browser", "os", "country", "region", "city", "language", "channel", "source",
    "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "hostname", "screen", "event",
)  # fmt: skip
_COLUMNS = {
    "project_id": "e.project_id", "happened_at": "e.occurred_at AT TIME ZONE 'UTC'",
    "day": "CAST(e.occurred_at AT TIME ZONE p.timezone AS date)", "visitor": "e.visitor",
    "session_key": "e.session_key", "event_type": "e.event_type",
    **{name: f"e.{name}" for name in LISTS if name not in ("screen", "event")},
    "screen": "e.screen_width || 'x' || e.screen_height",
    "event": "CASE WHEN e.event_type <> 'pageview' THEN coalesce(e.event_name, e.event_type) END",
}  # fmt: skip
_TYPES = {
    "project_id": "INTEGER", "happened_at": "TIMESTAMP", "day": "DATE", "visitor": "BIGINT", "session_key": "BIGINT",
}  # fmt: skip


class Span(NamedTuple):
    """Whose events, and of when."""

    project_id: int
    timezone: str
    starts_at: datetime
    ends_at: datetime


def statements(where: str, distinct: str, day: str, seconds: str, columns: dict[str, str]) -> Iterator[str]:
    """Give out the statements of the report in one dialect."""
    views = "count(*) FILTER (WHERE event_type = 'pageview')"
    counted = f"{where} AND event_type <> 'engagement'"
    yield f"SELECT {views}, count(*), {distinct} FROM events WHERE {counted}"
    yield (
        "SELECT count(*), avg(CASE WHEN views = 1 AND events = 1 THEN 1 ELSE 0 END), avg(seconds) FROM ("
        f"SELECT session_key, {views} AS views, count(*) FILTER (WHERE event_type <> 'engagement') AS events,"
        f" {seconds} AS seconds FROM events WHERE {where} GROUP BY session_key) AS sessions"
    )
    yield f"SELECT {day}, {views}, count(*), {distinct} FROM events WHERE {counted} GROUP BY 1 ORDER BY 1"
    for name in LISTS:
        value = columns.get(name, name)
        yield (
            f"SELECT {value}, {views}, count(*), {distinct} FROM events WHERE {counted} AND {value} IS NOT NULL"
            " GROUP BY 1 ORDER BY 2 DESC, 3 DESC LIMIT 10"
        )


def measure_sql(dsn: dict[str, str], span: Span, limit_s: float) -> tuple[float, bool]:
    """Return the milliseconds that PostgreSQL takes for all statements, and whether it was stopped at the limit."""
    where = (
        f"project_id = {span.project_id} AND occurred_at >= '{span.starts_at.isoformat()}'"
        f" AND occurred_at < '{span.ends_at.isoformat()}'"
    )
    columns = {name: _COLUMNS[name].replace("e.", "") for name in ("screen", "event")}
    chosen = statements(
        where, "count(DISTINCT visitor)", f"CAST(occurred_at AT TIME ZONE '{span.timezone}' AS date)",
        "extract(epoch FROM max(occurred_at) - min(occurred_at))", columns,
    )  # fmt: skip
    with contextlib.closing(psycopg2.connect(**dsn, options="-c jit=off -c timezone=UTC")) as session:
        session.autocommit = True
        started = time.perf_counter()
        for statement in chosen:
            left_ms = limit_s * 1000 - (time.perf_counter() - started) * 1000
            if left_ms < 1:
                return limit_s * 1000, True
            with session.cursor() as cursor:
                cursor.execute(f"SET statement_timeout = {int(left_ms)}")
                try:
                    cursor.execute(statement)
                    cursor.fetchall()
                except QueryCanceled:
                    return limit_s * 1000, True
        return (time.perf_counter() - started) * 1000, False


class Duck:
    """The events in a DuckDB file beside the service's data, made at the first use."""

    def __init__(self, path: Path, dsn: dict[str, str], threads: int, report: Callable[[str], None]) -> None:
        """Open the file, or make it; `report` is told of each part that is copied."""
        unfinished = path.with_suffix(".unfinished")
        if not path.exists():
            unfinished.unlink(missing_ok=True)
            with contextlib.closing(duckdb.connect(str(unfinished))) as session:
                _copy(session, dsn, report)
            unfinished.rename(path)
        self._session = duckdb.connect(str(path), read_only=True)
        self._session.execute(f"SET threads = {threads}")

    def measure(self, span: Span, limit_s: float, *, exact: bool) -> tuple[float, bool]:
        """Return the milliseconds of all statements, and whether they were stopped at the limit."""
        where = f"project_id = {span.project_id} AND {_within(span)}"
        distinct = "count(DISTINCT visitor)" if exact else "approx_count_distinct(visitor)"
        started = time.perf_counter()
        alarm = threading.Timer(limit_s, self._session.interrupt)
        alarm.start()
        try:
            for statement in statements(where, distinct, "day", "epoch(max(happened_at) - min(happened_at))", {}):
                self._session.execute(statement).fetchall()
                if time.perf_counter() - started >= limit_s:  # the alarm may have rung between two statements
                    return limit_s * 1000, True
        except duckdb.InterruptException:
            return limit_s * 1000, True
        finally:
            alarm.cancel()
        return (time.perf_counter() - started) * 1000, False

    def close(self) -> None:
        """Let go of the file."""
        self._session.close()


def _within(span: Span) -> str:
    starts_at, ends_at = (at.replace(tzinfo=None).isoformat() for at in (span.starts_at, span.ends_at))
    return f"happened_at >= '{starts_at}' AND happened_at < '{ends_at}'"


def _copy(duck: Any, dsn: dict[str, str], report: Callable[[str], None]) -> None:
    """Copy the events, a month at a time through a file, in the order of time."""
    types = ", ".join(f"{name} {_TYPES.get(name, 'VARCHAR')}" for name in _COLUMNS)
    duck.execute(f"CREATE TABLE events ({types})")
    chosen = ", ".join(_COLUMNS.values())
    with contextlib.closing(psycopg2.connect(**dsn)) as session, session.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'events'::regclass ORDER BY 1"
        )
        for (partition,) in cursor.fetchall():
            report(f"copying {partition} to DuckDB")
            with tempfile.NamedTemporaryFile(suffix=".csv") as file:
                query = f"SELECT {chosen} FROM {partition} e JOIN projects p ON p.id = e.project_id"
                cursor.copy_expert(f"COPY ({query} ORDER BY e.occurred_at) TO STDOUT (FORMAT csv)", file, 1 << 20)
                file.flush()
                if file.tell():
                    duck.execute(f"COPY events FROM '{file.name}' (FORMAT csv, HEADER false, DELIM ',', QUOTE '\"')")
