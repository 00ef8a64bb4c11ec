"""What real statements on a real PostgreSQL leave in the figures."""

import logging
from dataclasses import replace

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DBAPIError

from pulse.config import Config
from pulse.monitor import recorder as module
from pulse.monitor.recorder import QUERY, install, route_scope
from pulse.monitor.service import ServiceStats, add_up
from pulse.monitor.snapshot import encode
from pulse.storage.sql import load_queries


@pytest.fixture
def watched(engine: Engine, config: Config) -> Engine:
    install(engine, config)
    with engine.connect():
        pass  # SQLAlchemy asks the server a few things at its first connection
    module.recorder.board.bump()
    return engine


def _stats() -> ServiceStats:
    snapshot = module.recorder.snapshot()
    return add_up([snapshot], snapshot.published_at)


def test_a_named_block_is_counted_with_its_rows(watched: Engine) -> None:
    queries = load_queries("schema")
    with watched.connect() as connection, route_scope("/api/v1/x", "GET"):
        rows = [connection.execute(queries.list_applied).all() for _ in range(3)][0]
    (found,) = _stats().statements
    assert (found.name, found.type, found.tables) == ("schema.list_applied", "SELECT", ("schema_migrations",))
    assert (found.times.count, found.rows) == (3, 3 * len(rows))
    assert found.routes["GET /api/v1/x"].calls == 3


def test_the_time_is_that_of_the_query(watched: Engine) -> None:
    with watched.connect() as connection:
        connection.execute(text("SELECT pg_sleep(0.05)"))
    times = _stats().histograms[QUERY]
    assert times.count == 1
    assert times.total >= 50


def test_parameters_and_literals_are_nowhere(watched: Engine, caplog: pytest.LogCaptureFixture) -> None:
    module.recorder.slow_ms = 0.0
    with caplog.at_level(logging.WARNING), watched.connect() as connection:
        connection.execute(text("/* a.b */ SELECT :who, :n"), {"who": "parameter-secret", "n": 424242})
        connection.execute(text("SELECT 'literal-secret', 434343"))
        connection.exec_driver_sql("SELECT 'driver-secret' WHERE %s = 'x'", ("driver-parameter-secret",))
    kept = encode(module.recorder.snapshot()).decode(errors="replace") + caplog.text
    assert caplog.text.count("🐌 Slow query detected (") == 3
    for value in ("secret", "424242", "434343"):
        assert value not in kept


def test_a_failing_statement_is_an_error(watched: Engine) -> None:
    with watched.connect() as connection, pytest.raises(DBAPIError):
        connection.execute(text("/* a.broken */ SELECT 1 / 0"))
    (found,) = _stats().statements
    assert (found.name, found.errors, found.times.count) == ("a.broken", 1, 1)


def test_a_list_of_any_length_is_one_statement(watched: Engine) -> None:
    from sqlalchemy import bindparam

    statement = text("/* a.many */ SELECT 1 WHERE 1 IN :ids").bindparams(bindparam("ids", expanding=True))
    with watched.connect() as connection:
        for size in (1, 2, 7):
            connection.execute(statement, {"ids": list(range(size))})
    assert [found.times.count for found in _stats().statements] == [3]


def test_installed_twice_it_counts_once(watched: Engine, config: Config) -> None:
    install(watched, config)
    with watched.connect() as connection:
        connection.execute(text("SELECT 1"))
    assert _stats().histograms[QUERY].count == 1


def test_each_connection_has_the_engines_listeners(watched: Engine) -> None:
    """The short way to them is taken by every connection, and a listener that comes later is heard as well."""
    heard: list[str] = []
    with watched.connect() as connection:
        event.listen(watched, "before_cursor_execute", lambda *args: heard.append(args[2]))
        connection.execute(text("SELECT 1"))
        with connection.begin_nested():
            connection.execute(text("SELECT 1"))
    assert heard.count("SELECT 1") == 2
    assert {found.text: found.times.count for found in _stats().statements}["SELECT ?"] == 2


def test_switched_off_it_records_nothing(engine: Engine, config: Config) -> None:
    install(engine, replace(config, enable_query_monitoring=False))
    module.recorder.board.bump()
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    assert _stats().statements == []


@pytest.fixture(autouse=True)
def _as_before() -> object:
    yield
    module.recorder.slow_ms = 100.0
    module.recorder.enabled = True
