"""Reports on a real streaming replica: used while it is fit, left when it is not, and never written to."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text

from pulse.app import create_app
from pulse.config import Config
from pulse.errors import Unavailable
from pulse.rollup.fold import fold_once
from pulse.storage import embedded
from pulse.storage import replica as watching
from pulse.storage.embedded import EmbeddedServer
from pulse.storage.engine import Database, build_engine
from pulse.storage.projects import create_key, ensure_development_project
from tests.running import wait_until


@pytest.fixture(scope="module")
def standby(server: EmbeddedServer) -> Iterator[EmbeddedServer]:
    """A streaming standby of the run's PostgreSQL; a query in the way of its replay is cancelled at once."""
    with tempfile.TemporaryDirectory(prefix="pulse-standby-") as folder:
        Path(folder).chmod(0o711)
        found = embedded.locate(Path(folder) / "var")
        embedded._prepare_folders(found)
        source = ("-h", server.socket_dir, "-U", "pulse", "-c", "fast", "-X", "stream", "-R")
        embedded._run(found, "pg_basebackup", "-D", found.data_dir, *source)
        with (found.data_dir / "postgresql.auto.conf").open("a") as settings:
            settings.write("max_standby_streaming_delay = 0\nwal_retrieve_retry_interval = 50ms\n")
        embedded.ensure_running(found)
        try:
            yield found
        finally:
            embedded.stop(found)
            shutil.rmtree(found.data_dir)


@pytest.fixture
def replica_url(standby: EmbeddedServer, engine: Engine) -> str:
    """The URL of the test's database on the standby, once it has come over there."""
    url = standby.url_of(str(engine.url.database))
    await_replay(engine, standby)
    return url


@pytest.fixture
def database(engine: Engine, config: Config, replica_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """Primary and replica, checked at each report."""
    monkeypatch.setattr(watching, "CHECK_EVERY_S", 0.0)
    found = Database(engine, build_engine(config, replica_url, application_name="pulse-replica"))
    yield found
    assert found.replica is not None
    found.replica.dispose()


def tell(standby: EmbeddedServer, *statements: str) -> str:
    """Run statements on the standby, each by itself; return what they print."""
    ask = [word for statement in statements for word in ("-c", statement)]
    return embedded._run(standby, "psql", "-h", standby.socket_dir, "-U", "pulse", "-d", "postgres", "-At", *ask).stdout


def await_replay(engine: Engine, standby: EmbeddedServer) -> None:
    """Return when the standby has replayed all that the primary has written by now."""
    with engine.connect() as connection:
        written = connection.execute(text("SELECT pg_current_wal_lsn()")).scalar_one()
    wait_until(lambda: tell(standby, f"SELECT pg_last_wal_replay_lsn() >= '{written}'").strip() == "t")


def on_replica(connection: Connection) -> bool:
    return bool(connection.execute(text("SELECT pg_is_in_recovery()")).scalar_one())


def asks_replica(database: Database) -> bool:
    return database.run(on_replica)


def write_something(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO projects (name) VALUES ('x')"))


def test_reports_go_to_the_replica_and_writes_to_the_primary(database: Database) -> None:
    wait_until(lambda: asks_replica(database))
    with database.read() as connection:
        assert on_replica(connection)
    with database.begin() as connection:
        assert not on_replica(connection)
    write_something(database)


def test_an_idle_primary_is_no_lag(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_LAG_S", 0.0)
    write_something(database)
    # The last transaction grows old on both sides; nothing is missing.
    wait_until(lambda: asks_replica(database))
    assert [asks_replica(database) for _ in range(5)] == [True] * 5


def test_a_replica_that_stops_is_left_within_one_request_and_taken_again(
    database: Database, standby: EmbeddedServer
) -> None:
    wait_until(lambda: asks_replica(database))
    embedded.stop(standby)
    try:
        assert asks_replica(database) is False
    finally:
        embedded.ensure_running(standby)
    wait_until(lambda: asks_replica(database))


def test_a_replica_that_dies_under_a_query_is_left_within_that_request(
    database: Database, standby: EmbeddedServer
) -> None:
    def report(connection: Connection) -> bool:
        found = on_replica(connection)
        if found:
            embedded._run(standby, "pg_ctl", "-D", standby.data_dir, "-m", "immediate", "-w", "stop")
            connection.execute(text("SELECT 1"))
        return found

    wait_until(lambda: asks_replica(database))
    try:
        assert database.run(report) is False
    finally:
        embedded.ensure_running(standby)
    wait_until(lambda: asks_replica(database))


@pytest.mark.parametrize("how", ["paused", "cut off"])
def test_a_replica_that_lags_is_left_until_it_has_caught_up(
    database: Database, standby: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(watching, "MAX_LAG_S", 0.2)
    wait_until(lambda: asks_replica(database))
    conninfo = tell(standby, "SHOW primary_conninfo").strip().replace("'", "''")
    if how == "paused":
        tell(standby, "SELECT pg_wal_replay_pause()")
    else:
        # Whatever it had received it has replayed: only the primary can tell that something is missing.
        tell(standby, "ALTER SYSTEM SET primary_conninfo = 'host=/nowhere'", "SELECT pg_reload_conf()")
        wait_until(lambda: tell(standby, "SELECT count(*) FROM pg_stat_wal_receiver").strip() == "0")
    try:
        write_something(database)
        wait_until(lambda: not asks_replica(database))
        # A process that has just started knows no more of the past, and must not take it for fit.
        fresh = Database(database.primary, database.replica)
        assert not asks_replica(fresh)
    finally:
        tell(standby, "SELECT pg_wal_replay_resume()", f"ALTER SYSTEM SET primary_conninfo = '{conninfo}'")
        tell(standby, "SELECT pg_reload_conf()")
    wait_until(lambda: asks_replica(database))
    wait_until(lambda: asks_replica(fresh))


def test_a_query_in_the_way_of_the_replay_is_answered_by_the_primary(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE doomed ()"))
    seen = []

    def report(connection: Connection) -> bool:
        found = on_replica(connection)
        seen.append(found)
        if found:
            connection.execute(text("SELECT count(*) FROM doomed"))  # holds its lock until the end
            with database.begin() as writing:
                writing.execute(text("DROP TABLE doomed"))
            connection.execute(text("SELECT pg_sleep(60)"))
        return found

    def has_come_over() -> bool:
        return bool(database.run(lambda c: on_replica(c) and c.execute(text("SELECT to_regclass('doomed')")).scalar()))

    wait_until(has_come_over)
    assert database.run(report) is False
    assert seen == [True, False]
    wait_until(lambda: asks_replica(database))


def test_a_query_that_takes_too_long_is_not_begun_again(database: Database) -> None:
    wait_until(lambda: asks_replica(database))
    seen = []

    def report(connection: Connection) -> None:
        seen.append(on_replica(connection))
        connection.execute(text("SET statement_timeout = 20"))
        connection.execute(text("SELECT pg_sleep(60)"))

    with pytest.raises(Unavailable, match="too long"):
        database.run(report)
    assert seen == [True]


def test_reports_go_on_while_the_primary_is_away(database: Database, config: Config) -> None:
    nowhere = build_engine(config, "postgresql+psycopg2://nobody@127.0.0.1:1/none")
    assert asks_replica(Database(nowhere, database.replica))


def test_the_service(
    config: Config, engine: Engine, standby: EmbeddedServer, replica_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.begin() as connection:
        ensure_development_project(connection)
        admin = {"X-API-Key": create_key(connection, None, "test", ["admin"])[1]}
    app = create_app(replace(config, database_replica_url=replica_url))
    client = app.test_client()

    def pageviews(path: str) -> int:
        answer = client.get(f"/api/v1/projects/1/{path}", headers=admin)
        assert answer.status_code == 200, answer.text
        return len(answer.json["data"]["events"]) if path == "events" else answer.text.count("example.com")

    ask: Callable[[], int] = lambda: pageviews("events")  # noqa: E731
    try:
        await_replay(engine, standby)
        assert ask() == 0
        wait_until(lambda: asks_replica(app.extensions["pulse"].database))
        monkeypatch.setattr(watching, "MAX_LAG_S", 3600.0)
        tell(standby, "SELECT pg_wal_replay_pause()")
        event = {"type": "pageview", "url": "https://example.com/a"}
        assert client.post("/api/v1/track/event", json=event, headers={"X-API-Key": "test_api_key"}).status_code == 200
        fold_once(engine)
        assert ask() == 0, "the replica did not answer"
        goal = {"kind": "page", "name": "A", "path": "/a"}
        assert client.post("/api/v1/projects/1/goals", json=goal, headers=admin).status_code == 201
        export = client.get("/api/v1/projects/1/events/export?format=json", headers=admin)
        assert export.json == {"success": True, "data": []}
        monkeypatch.setattr(watching, "MAX_LAG_S", 0.0)
        monkeypatch.setattr(watching, "CHECK_EVERY_S", 0.0)
        wait_until(lambda: ask() == 1)
    finally:
        tell(standby, "SELECT pg_wal_replay_resume()")
        app.extensions["pulse"].writer.close()
        app.extensions["pulse"].database.dispose()
