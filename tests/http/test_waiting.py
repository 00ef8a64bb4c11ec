"""A worker that starts before its database."""

from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.test import Client

from pulse.app import create_app
from pulse.config import Config
from pulse.errors import ConfigError, Unavailable
from pulse.ingest.local_copy import Keeper, LocalCopy, changes_board
from pulse.monitor import nodes
from pulse.storage.projects import create_key, ensure_development_project
from pulse.web import waiting
from pulse.web.tracking import TrackingFirst
from pulse.web.waiting import Waiting, serve_when_ready
from tests.running import wait_until

REPORT = "/api/v1/projects/1/analytics"
KEY = {"X-API-Key": "test_api_key"}
EVENT = {"json": {"type": "pageview", "url": "https://example.com/"}, "headers": KEY}


def test_it_asks_to_come_again_until_the_database_is_there(config: Config, engine: Engine, tmp_path: Path) -> None:
    with engine.begin() as connection:
        ensure_development_project(connection)
    absent = replace(config, database_url=f"postgresql+psycopg2://pulse@/x?host={tmp_path}")
    settings = [absent]
    app = serve_when_ready(lambda: create_app(settings[0]))
    assert isinstance(app, Waiting) and app.wsgi_app is None
    client = Client(app)
    answer = client.post("/api/v1/track/event", **EVENT)
    assert answer.status_code == 503 and answer.headers["Retry-After"]
    assert answer.json is not None and answer.json["error"] == "UNAVAILABLE"
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 503

    settings[0] = config
    wait_until(lambda: client.get("/health/ready").status_code == 200)
    assert client.post("/api/v1/track/event", **EVENT).status_code == 200
    assert isinstance(app.wsgi_app, TrackingFirst)
    app.extensions["pulse"].writer.close()
    app.extensions["pulse"].database.dispose()


@pytest.fixture
def away(config: Config, engine: Engine, valkey_url: str) -> Config:
    """Settings of a service that is let in no more, after a report was read and everything copied."""
    with engine.begin() as connection:
        ensure_development_project(connection)
    there = replace(config, redis_url=valkey_url)
    app = create_app(there)
    for state in ("MISS", "HIT"):
        assert app.test_client().get(REPORT, headers=KEY).headers["X-Cache"] == state
    Keeper(engine, LocalCopy(config.data_dir, engine.url), changes_board(config.data_dir)).keep()
    close(app)
    stranger = engine.url.set(username="nobody")
    return replace(there, database_url=stranger.render_as_string(hide_password=False))


def test_with_a_copy_it_takes_events_and_answers_from_the_cache(away: Config) -> None:
    app = serve_when_ready(lambda: create_app(away))
    assert isinstance(app, Flask)
    client = app.test_client()
    assert client.post("/api/v1/track/event", **EVENT).status_code == 200
    assert len(list((away.data_dir / "spool").glob("*.batch"))) == 1
    report = client.get(REPORT, headers=KEY)
    assert (report.status_code, report.headers["X-Cache"]) == (200, "STALE")
    assert client.get(f"{REPORT}?startDate=2026-01-01&endDate=2026-01-31", headers=KEY).status_code == 503
    assert client.get(REPORT, headers={"X-API-Key": "unknown"}).status_code == 503
    assert client.get("/api/v1/projects/2/analytics", headers=KEY).status_code == 403
    assert client.get("/health/ready").status_code == 503
    close(app)


def read_only(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM visitor_salts"))  # a new day's are to be made
        name = connection.execute(text("SELECT current_database()")).scalar()
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))


def test_with_a_copy_it_begins_where_nothing_can_be_written(away: Config, config: Config, engine: Engine) -> None:
    read_only(engine)
    app = create_app(config)
    assert app.test_client().post("/api/v1/track/event", **EVENT).status_code == 200
    assert len(list((away.data_dir / "spool").glob("*.batch"))) == 1
    close(app)


def test_with_a_copy_it_does_not_wait_for_an_answer_that_takes_long(
    away: Config, config: Config, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pulse.app.ASK_FOR_S", 0.1)
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE service_secrets, events IN ACCESS EXCLUSIVE MODE"))
        app = create_app(config)
        assert app.test_client().post("/api/v1/track/event", **EVENT).status_code == 200
        assert len(list((away.data_dir / "spool").glob("*.batch"))) == 1
    close(app)


def test_without_a_copy_it_waits_until_it_can_write(config: Config, engine: Engine) -> None:
    with engine.begin() as connection:
        ensure_development_project(connection)
    read_only(engine)
    app = serve_when_ready(lambda: create_app(config))
    assert isinstance(app, Waiting)
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        name = connection.execute(text("SELECT current_database()")).scalar()
        connection.execute(text("SET default_transaction_read_only = off"))
        connection.execute(text(f"ALTER DATABASE {name} RESET default_transaction_read_only"))
    wait_until(lambda: app.wsgi_app is not None)
    assert Client(app).post("/api/v1/track/event", **EVENT).status_code == 200
    app.extensions["pulse"].writer.close()


def test_no_fault_makes_it_wait_for_ever(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "RETRY_AFTER_FAULT_S", 0.0)
    faults: list[Exception] = [Unavailable("away"), Unavailable("away"), RuntimeError("a fault")]

    def build() -> Flask:
        if faults:
            raise faults.pop(0)
        return app

    found = serve_when_ready(build)
    assert isinstance(found, Waiting)
    wait_until(lambda: found.wsgi_app is app.wsgi_app)


def test_a_copy_does_not_stand_in_for_an_administrator(away: Config) -> None:
    with pytest.raises(ConfigError, match="administrator"):
        create_app(replace(away, env="production"))


def test_in_production_a_copy_does_not_hold_the_key_that_everybody_knows(
    away: Config, config: Config, engine: Engine
) -> None:
    with engine.begin() as connection:
        create_key(connection, None, "test", ["admin"])
    Keeper(engine, LocalCopy(config.data_dir, engine.url), changes_board(config.data_dir)).keep()
    app = create_app(replace(away, env="production"))
    assert app.test_client().post("/api/v1/track/event", **EVENT).status_code == 401
    close(app)


def close(app: Flask) -> None:
    nodes.stop()
    parts = app.extensions["pulse"]
    parts.stopping.set()
    parts.writer.close()
    parts.database.dispose()


def test_it_is_the_application_itself_when_the_database_is_there(app: Flask) -> None:
    assert serve_when_ready(lambda: app) is app
