"""PostgreSQL's view of itself, and the advice drawn from it."""

import threading
from dataclasses import replace

from sqlalchemy import Engine, text

from pulse.config import Config
from pulse.monitor.advice import advise
from pulse.monitor.database import Q, SequentialScans, TableFigures, UnusedIndex, read_server
from pulse.monitor.service import ServiceStats


def test_every_view_answers(engine: Engine) -> None:
    with engine.begin() as connection:
        found = read_server(connection)
    assert int(found.version.split(".")[0]) >= 15
    assert found.size_bytes > 0
    assert "pulse-test" in {row.application for row in found.connections}
    tables = {row.table_name: row for row in found.tables}
    assert tables["schema_migrations"].partition_of is None
    assert any(row.partition_of == "events" for row in found.tables)
    assert found.wal is not None
    assert found.replication == []


def test_who_waits_for_whom_is_shown_without_values(engine: Engine) -> None:
    with engine.connect() as holder, engine.connect() as waiter, engine.connect() as observer:
        holder.execute(text("LOCK TABLE projects"))
        holder_pid = holder.execute(text("SELECT pg_backend_pid()")).scalar()
        waiter_pid = waiter.execute(text("SELECT pg_backend_pid()")).scalar()
        statement = text("SELECT 'hidden-value' FROM projects")
        thread = threading.Thread(target=lambda: waiter.execute(statement).all())
        thread.start()
        try:
            while True:
                with observer.begin():
                    found = read_server(observer)
                if found.blocked:
                    break
        finally:
            holder.rollback()
            thread.join(10)
    (blocked,) = found.blocked
    assert (blocked.pid, blocked.blocked_by, blocked.query) == (waiter_pid, [holder_pid], "SELECT ? FROM projects")
    assert "hidden-value" not in repr(found)
    assert found.relations_locked
    assert sum(lock.waiting for lock in found.locks) >= 1


def test_pg_stat_statements_is_shown_where_it_is_installed(engine: Engine) -> None:
    with engine.begin() as connection:
        loaded = connection.execute(text("SHOW shared_preload_libraries")).scalar()
        assert read_server(connection).statements is None
        connection.execute(text('CREATE SCHEMA "Odd Name"'))
        connection.execute(text('CREATE EXTENSION pg_stat_statements SCHEMA "Odd Name"'))
    with engine.begin() as connection:
        connection.execute(Q.wal)
        found = read_server(connection).statements
    assert "pg_stat_statements" in str(loaded)
    assert found


def test_an_unused_index_is_found_and_advised_on(engine: Engine, config: Config) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE big AS SELECT n, repeat('x', 20) AS t FROM generate_series(1, 60000) n"))
        connection.execute(text("CREATE INDEX big_never ON big (n)"))
        connection.execute(text("CREATE UNIQUE INDEX big_guard ON big (n)"))
    with engine.begin() as connection:
        found = read_server(connection)
    assert [row.index_name for row in found.unused_indexes] == ["big_never"]
    (advice,) = [row for row in advise(_quiet(), found, config) if row.id == "index.unused.big_never"]
    assert advice.action == 'DROP INDEX CONCURRENTLY "big_never"'


def _quiet() -> ServiceStats:
    return ServiceStats(at=1000.0, since=0.0)


def test_a_quiet_small_service_gets_no_urgent_advice(engine: Engine, config: Config) -> None:
    with engine.begin() as connection:
        found = read_server(connection)
    assert {row.severity for row in advise(_quiet(), found, config)} <= {"low"}


def test_advice_names_figure_and_action(engine: Engine, config: Config) -> None:
    with engine.begin() as connection:
        found = read_server(connection)
    found.unused_indexes = [UnusedIndex("events", "events_by_x", 50 * 2**20)]
    found.sequential_scans = [SequentialScans("events", 500, 50_000_000, 0, 2**30)]
    found.tables = [TableFigures("sessions", None, 10_000, 90_000, 1, 1, None, None, 600_000_000)]
    found.max_connections = 1
    advice = {row.id: row for row in advise(_quiet(), found, replace(config))}
    assert advice["server.connections"].severity == "high"
    assert advice["table.scanned.events"].figure == "500 times, 100,000 rows each"
    assert advice["table.bloat.sessions"].action == 'VACUUM (ANALYZE) "sessions"'
    assert advice["table.age.sessions"].severity == "high"
    order = [row.severity for row in advise(_quiet(), found, config)]
    assert order == sorted(order, key=["high", "medium", "low"].index)


def test_without_the_server_that_is_the_advice(config: Config) -> None:
    (found,) = advise(_quiet(), None, config, "every connection is in use")
    assert (found.id, found.figure) == ("database.away", "every connection is in use")
